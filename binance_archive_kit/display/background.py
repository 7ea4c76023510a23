"""Run async work from any caller: a script, a notebook cell, a running event loop, a button.

The work runs on an event loop in a thread of its own. The caller waits for it, shows its
progress, and on an interrupt waits until the work has cleaned up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from binance_archive_kit.display.progress import INTERVAL, Bar, Progress
from binance_archive_kit.errors import ArchiveKitError
from binance_archive_kit.forks import check_process

T = TypeVar("T")


class Worker(Generic[T]):
    """Runs one coroutine on an event loop in a thread of its own.

    Parameters
    ----------
    work : callable
        Creates the coroutine; called on the new thread.

    Attributes
    ----------
    done : threading.Event
        Set when the work has ended and everything is cleaned up.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        check_process()
        self._work = work
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        self._result: T
        self._error: BaseException | None = None
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="binance-archive", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                self._result = runner.run(self._main())
        except BaseException as error:  # raised again by `result`
            self._error = error
        finally:
            self.done.set()

    async def _main(self) -> T:
        self._task = asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        return await self._work()

    def cancel(self) -> None:
        """Cancel the work; `done` is set when it has cleaned up."""
        self._cancelled = True
        with suppress(RuntimeError):  # the loop has ended already
            if self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)

    def result(self) -> T:
        """Wait for the work to end, then return its result or raise its error."""
        self._thread.join()
        if isinstance(self._error, ArchiveKitError):
            # The traceback inside the worker does not help the caller.
            raise self._error.with_traceback(None)
        if self._error is not None:
            raise self._error
        return self._result

    def wait(self, on_tick: Callable[[], None] = lambda: None) -> T:
        """Run the work and block until it ends; return its result or raise its error.

        An interrupt cancels the work and is raised after the clean-up. A second interrupt
        is raised at once; the work then cleans up on its own thread.

        Parameters
        ----------
        on_tick : callable
            Called about every `INTERVAL` seconds, and at the end.
        """
        self.start()
        try:
            while not self.done.wait(INTERVAL):
                on_tick()
            on_tick()
        except BaseException:
            self.cancel()
            while not self.done.wait(INTERVAL):
                pass
            raise
        return self.result()

    async def wait_async(self, on_tick: Callable[[], None] = lambda: None) -> T:
        """Async version of `wait`; does not block the event loop of the caller."""
        self.start()
        try:
            while not self.done.is_set():
                on_tick()
                await asyncio.sleep(INTERVAL / 4)
            on_tick()
        except BaseException:
            self.cancel()
            while not self.done.is_set():
                await asyncio.sleep(INTERVAL / 4)
            raise
        return self.result()


def run(work: Callable[[], Coroutine[Any, Any, T]], progress: Progress) -> T:
    """Run work to its end and show its progress; see `Worker.wait`."""
    with Bar(progress) as bar:
        return Worker(work).wait(bar.update)


async def run_async(work: Callable[[], Coroutine[Any, Any, T]], progress: Progress) -> T:
    """Async version of `run`; does not block the event loop of the caller."""
    with Bar(progress) as bar:
        return await Worker(work).wait_async(bar.update)


async def gather(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all concurrently; if one fails, cancel the others before raising."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
