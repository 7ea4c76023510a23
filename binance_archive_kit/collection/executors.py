"""What differs between executors: how many workers they have, and which cannot run shards."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from binance_archive_kit.errors import field_error, shown
from binance_archive_kit.storage.layout import BaseStorage

#: Shards that are submitted for each worker: the one it runs, and the next ones.
_AHEAD = 3
#: Workers of an executor that does not tell, and most of those that are believed.
_UNKNOWN, _MOST = 4, 4_096
#: Seconds after which the workers are counted again: clusters grow and shrink.
_FRESH = 10.0
#: How the workers of Dask's clusters on this machine are addressed.
_LOCAL = "tcp://127.0.0.1:"


def check_executor(executor: object, storage: BaseStorage | None) -> None:
    """Raise a ConfigurationError for an executor that cannot run shards.

    A process that is forked from one with threads, such as those of Polars, may wait for ever.
    """
    if not isinstance(executor, Executor):
        get = hasattr(executor, "get_executor")
        hint = "; give client.get_executor()" if get else ""
        raise field_error(
            "executor",
            f"{shown(executor)} is not an executor, such as ProcessPoolExecutor{hint}",
        )
    if not isinstance(executor, ProcessPoolExecutor):
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise field_error(
            "executor",
            "the script was started again by its own executor, whose processes import it; put "
            "what it does below the line if __name__ == '__main__':",
        )
    context: Any = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise field_error(
            "executor",
            "its processes are forked, and would hang: the threads of this process do not exist "
            "in them; give ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))",
        )
    try:
        pickle.dumps(storage)
    except Exception as error:  # the methods of a foreign object may raise anything
        raise field_error(
            "storage",
            f"{shown(storage)} cannot be sent to other processes: {error}; define its class in "
            "a module, and keep no open files, locks or lambdas in it",
        ) from None


class Window:
    """The number of shards that may be submitted to an executor at once."""

    def __init__(self, executor: Executor) -> None:
        self._executor: Any = executor
        self._size = 0
        self._counted = float("-inf")

    def size(self) -> int:
        """Return a few times the number of workers, as of the last seconds."""
        if time.monotonic() - self._counted > _FRESH:
            self._size = _AHEAD * min(max(self._workers(), 1), _MOST)
            self._counted = time.monotonic()
        return self._size

    def is_empty(self) -> bool:
        """Return whether it has no workers now."""
        self._counted = float("-inf")
        return self._workers() == 0

    def _workers(self) -> int:
        count = getattr(self._executor, "_max_workers", None)
        if isinstance(count, int):
            return count
        client = getattr(self._executor, "_client", None)
        # A cluster of Dask; the count of a lost connection is the one from before.
        with suppress(Exception):
            return sum(client.nthreads().values()) if client is not None else _UNKNOWN
        return self._size // _AHEAD or _UNKNOWN


@contextmanager
def outliving_interrupts(executor: Executor) -> Iterator[None]:
    """Let the workers of a Dask cluster on this machine outlive an interrupt of the caller.

    A notebook, or a terminal, interrupts all processes of a group. Workers of a local cluster
    would end, and Dask starts no others; what they run is cancelled by the caller. Processes of
    a pool outlive it anyway.
    """
    client: Any = getattr(executor, "_client", None)
    run, group = uuid.uuid4().hex, getattr(os, "getpgrp", int)()

    def tell(*, begin: bool) -> None:
        # Without it, a collection is only less convenient to interrupt.
        with suppress(Exception):
            local = [each for each in client.nthreads() if each.startswith(_LOCAL)]
            if local:
                client.run(_ignore_interrupts, run, group, begin, workers=local, on_error="ignore")

    if client is None:
        yield
        return
    tell(begin=True)
    try:
        yield
    finally:
        tell(begin=False)


def _ignore_interrupts(run: str, group: int, begin: bool) -> None:
    """Ignore interrupts in this process while a run is under way, if it is in the same group."""
    if threading.current_thread() is not threading.main_thread() or os.getpgrp() != group:
        return
    if begin and not _runs:
        # A function, and not `SIG_IGN`, which child processes would inherit.
        _handlers.append(signal.signal(signal.SIGINT, lambda *_: None))
    _runs.add(run) if begin else _runs.discard(run)
    if not _runs and _handlers:
        signal.signal(signal.SIGINT, _handlers.pop())


#: Of a worker: the runs under way, and its own handler of interrupts.
_runs: set[str] = set()
_handlers: list[Any] = []
