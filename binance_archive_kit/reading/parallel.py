"""Work on threads, with results in the order of submission."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class _Pool:
    """Threads that may be ended on one of themselves.

    Polars may drop the generator that waits for results on any thread that runs its code, and
    that includes these.
    """

    def __init__(self, workers: int, name: str) -> None:
        self._own: set[int] = set()
        self._threads = ThreadPoolExecutor(
            workers, name, initializer=lambda: self._own.add(threading.get_ident())
        )
        self.submit = self._threads.submit

    def end(self) -> bool:
        """Drop work that has not started; return whether the rest could be waited for."""
        possible = threading.get_ident() not in self._own
        self._threads.shutdown(wait=possible, cancel_futures=True)
        return possible


class Prefetcher(Generic[T]):
    """Runs a generator on a thread of its own, a few items ahead.

    A context manager that returns an iterator over the items. An error is raised in place of
    its item. At the end of the block the generator is closed.

    Parameters
    ----------
    items : generator
        Must not yield None.
    """

    #: Items ahead.
    _AHEAD = 3

    def __init__(self, items: Generator[T]) -> None:
        self._items = items
        self._pool = _Pool(1, "unzipper")
        self._jobs: deque[Future[T | None]] = deque()

    def __enter__(self) -> Iterator[T]:
        for _ in range(self._AHEAD):
            self._submit_next()
        return self._results()

    def __exit__(self, *_: object) -> None:
        if self._pool.end():
            self._items.close()

    def _submit_next(self) -> None:
        self._jobs.append(self._pool.submit(next, self._items, None))

    def _results(self) -> Iterator[T]:
        while (item := self._jobs.popleft().result()) is not None:
            self._submit_next()
            yield item


class OrderedPool(Generic[T]):
    """Runs work on threads, and yields results in the order of submission.

    A context manager; at the end of the block, work that has not started is dropped. An error is
    raised in place of the results.

    Parameters
    ----------
    workers : int
        Threads. Twice as many jobs may be running, or done and not yet yielded.
    """

    def __init__(self, workers: int) -> None:
        self._pool = _Pool(workers, "reader")
        self._most = 2 * workers
        self._jobs: deque[Future[list[T]]] = deque()

    def __enter__(self) -> OrderedPool[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.end()

    def submit(self, work: Callable[[], list[T]]) -> Iterator[T]:
        """Submit work; yield the results that are ready, waiting if too many jobs are running."""
        self._jobs.append(self._pool.submit(work))
        while self._jobs and (len(self._jobs) > self._most or self._jobs[0].done()):
            yield from self._jobs.popleft().result()

    def rest(self) -> Iterator[T]:
        """Yield the results of all jobs that are still running."""
        while self._jobs:
            yield from self._jobs.popleft().result()
