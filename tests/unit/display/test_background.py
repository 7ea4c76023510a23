"""Work on a thread of its own: its result, its errors, its cancelling."""

from __future__ import annotations

import asyncio
import threading

import pytest

from binance_archive_kit.display.background import Worker, run, run_async
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.errors import ConfigurationError


async def _answer() -> int:
    await asyncio.sleep(0)
    return 42


async def _fail() -> int:
    raise ConfigurationError("symbols: none")


def test_result_reaches_the_caller_with_and_without_a_running_loop() -> None:
    async def cell() -> tuple[int, int]:
        return run(_answer, Progress()), await run_async(_answer, Progress())

    assert run(_answer, Progress()) == 42
    assert asyncio.run(cell()) == (42, 42)


def test_error_of_the_package_is_raised_without_the_workers_frames() -> None:
    with pytest.raises(ConfigurationError) as error:
        run(_fail, Progress())
    assert "_fail" not in [entry.name for entry in error.traceback]


def test_ticks_come_while_the_work_runs() -> None:
    ticks: list[None] = []

    async def work() -> int:
        while not ticks:
            await asyncio.sleep(0.01)
        return 42

    assert Worker(work).wait(lambda: ticks.append(None)) == 42


@pytest.mark.parametrize("waits_async", [False, True])
def test_interrupt_is_raised_after_the_clean_up(waits_async: bool) -> None:
    started, cleaned = threading.Event(), threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    def interrupt() -> None:
        if started.is_set():
            raise KeyboardInterrupt

    def wait() -> None:
        worker = Worker(work)
        if waits_async:
            asyncio.run(worker.wait_async(interrupt))
        else:
            worker.wait(interrupt)

    with pytest.raises(KeyboardInterrupt):
        wait()
    assert cleaned.is_set()


def test_worker_cancelled_before_it_starts_does_no_work() -> None:
    worker = Worker(_answer)
    worker.cancel()
    worker.start()
    with pytest.raises(asyncio.CancelledError):
        worker.result()
