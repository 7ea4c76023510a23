"""Work on threads, whose results come in the order in which it was asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class _Pool:
    """Threads that may be ended on one of them.

    Polars may drop the generator that waits for their results on any thread that runs code
    of Polars, and that is what they do.
    """

    def __init__(self, workers: int, name: str) -> None:
        self._own: set[int] = set()
        self._threads = ThreadPoolExecutor(
            workers, name, initializer=lambda: self._own.add(threading.get_ident())
        )
        self.submit = self._threads.submit

    def end(self) -> bool:
        """Drop work that has not begun; wait for the rest, and return whether that was possible."""
        possible = threading.get_ident() not in self._own
        self._threads.shutdown(wait=possible, cancel_futures=True)
        return possible


class Prefetcher(Generic[T]):
    """Gets items on a thread of its own, a few before they are asked for.

    Used by ``with``, which gives the items in their order. An error comes when it is the
    turn of the item that has it; at the end of the block the generator is closed.

    Parameters
    ----------
    items : generator
        Of anything but None.
    """

    #: Items that are got before they are asked for.
    _MOST = 3

    def __init__(self, items: Generator[T]) -> None:
        self._items = items
        self._pool = _Pool(1, "unpacker")
        self._jobs: deque[Future[T | None]] = deque()

    def __enter__(self) -> Iterator[T]:
        for _ in range(self._MOST):
            self._get_one()
        return self._in_turn()

    def __exit__(self, *_: object) -> None:
        if self._pool.end():
            self._items.close()

    def _get_one(self) -> None:
        self._jobs.append(self._pool.submit(next, self._items, None))

    def _in_turn(self) -> Iterator[T]:
        while (item := self._jobs.popleft().result()) is not None:
            self._get_one()
            yield item


class OrderedPool(Generic[T]):
    """Work on threads whose results come back in the order it was handed over.

    Used by ``with``, at the end of which work that has not begun is dropped. An error comes
    when it is the turn of the results that it stands for.

    Parameters
    ----------
    workers : int
        Threads; twice as many pieces of work are under way, or done and not asked for.
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
        """Hand work over; give what is done, waiting when too much is under way."""
        self._jobs.append(self._pool.submit(work))
        while self._jobs and (len(self._jobs) > self._most or self._jobs[0].done()):
            yield from self._jobs.popleft().result()

    def rest(self) -> Iterator[T]:
        """Give the results of all that is still under way."""
        while self._jobs:
            yield from self._jobs.popleft().result()
