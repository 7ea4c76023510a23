"""Results come in order, and work can be ended on any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator

import pytest

from binance_archive_kit.reading.parallel import OrderedPool, Prefetcher


def _ordered(work: Callable[[], None]) -> Generator[int]:
    with OrderedPool[int](2) as ordered:
        for _ in ordered.submit(lambda: [work() or 2]):
            raise AssertionError("it was not waited for")
        yield 1
        yield from ordered.rest()


def _ahead(work: Callable[[], None]) -> Generator[int]:
    def items() -> Generator[int]:
        yield 1
        work()
        yield 2

    with Prefetcher(items()) as ahead:
        yield from ahead


@pytest.mark.parametrize("made", [_ordered, _ahead])
def test_work_may_be_ended_on_one_of_its_own_threads(
    made: Callable[[Callable[[], None]], Generator[int]],
) -> None:
    """Polars drops what waits for the rows on whatever thread next runs code of its own."""
    begun, ended = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def work() -> None:
        begun.wait()
        try:
            rows.close()
        except BaseException as error:
            raised.append(error)
        ended.set()

    rows = made(work)
    assert next(rows) == 1
    begun.set()
    assert ended.wait(30)
    assert not raised
    assert list(rows) == []


@pytest.mark.parametrize("made", [_ordered, _ahead])
def test_results_come_in_order(
    made: Callable[[Callable[[], None]], Generator[int]],
) -> None:
    assert list(made(lambda: time.sleep(0.05))) == [1, 2]
