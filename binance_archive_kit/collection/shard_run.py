"""Run one shard in a worker, and return its outcome in a form that is cheap to send."""

from __future__ import annotations

import io
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import polars as pl

from binance_archive_kit.archive.absence import Absence
from binance_archive_kit.collection.one_machine import prepare
from binance_archive_kit.display.background import Worker
from binance_archive_kit.download.events import EventLog
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import (
    ArchiveKitError,
    ArchiveKitWarning,
    ObjectError,
    WorkflowError,
)
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.storage.layout import BaseStorage

#: Different warnings that a worker sends with one shard.
_MOST_WARNINGS = 20


def this_process() -> str:
    """Return a name of this process that no other one has, on any machine."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What a worker needs to run a shard. Its arguments differ from those of any other try.

    Attributes
    ----------
    config : str
        The shard as JSON.
    storage : BaseStorage or None
    run : str
        The id of the whole run.
    number, attempt : int
        The shard and the try, from 1.
    most : int
        Objects that it may have.
    driver : str
        `this_process` of the caller, which shows its own warnings.
    """

    config: str
    storage: BaseStorage | None
    run: str
    number: int
    attempt: int
    most: int
    driver: str


@dataclass(frozen=True, slots=True)
class ShardOutcome:
    """The outcome of a shard.

    Attributes
    ----------
    rows : bytes
        `CollectionResult.objects` as compressed Arrow; empty if the shard failed as a whole.
    failures : tuple of ObjectError
    absences : tuple of Absence
        Of all kinds.
    stale : tuple of str
        Keys.
    proven_bytes, downloaded_bytes : int
    seconds : float
    headline : str
        The result in a line.
    is_failed : bool
        Whether there were objects, and all of them failed.
    problem : ArchiveKitError or None
        Why the shard failed as a whole, so that the outcome of its objects is unknown.
    warnings : tuple of str
        Those that were issued in the worker's process meanwhile.
    """

    rows: bytes = b""
    failures: tuple[ObjectError, ...] = ()
    absences: tuple[Absence, ...] = ()
    stale: tuple[str, ...] = ()
    proven_bytes: int = 0
    downloaded_bytes: int = 0
    seconds: float = 0.0
    headline: str = ""
    is_failed: bool = False
    problem: ArchiveKitError | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: CollectionResult, warnings: tuple[str, ...] = ()) -> Self:
        """Return the outcome of a shard that ran."""
        rows = io.BytesIO()
        result.objects().write_ipc(rows, compression="zstd")
        stats = result.collection_stats
        return cls(
            rows.getvalue(),
            tuple(result.failures),
            (*result.unavailable, *result.missing, *result.not_published),
            tuple(result.ledger.stale),
            int(stats["total_size_bytes"]),
            int(stats["downloaded_bytes"]),
            stats["processing_time_seconds"],
            result.headline(),
            result.outcome == "failed",
            warnings=warnings,
        )

    def frame(self) -> pl.DataFrame:
        """Return the rows."""
        return pl.read_ipc(io.BytesIO(self.rows))


def run_shard(task: ShardTask) -> ShardOutcome:
    """Run a shard in this process, without a display.

    Errors of the package are part of the outcome; others are those of the worker.
    """
    try:
        return _run(task)
    except KeyboardInterrupt:
        if threading.current_thread() is threading.main_thread():
            raise
        # Polars raises it on any thread, and a worker of Dask would end.
        raise RuntimeError("its worker was interrupted") from None


def _run(task: ShardTask) -> ShardOutcome:
    # The driver's own process shows its warnings as usual.
    other = task.driver != this_process()
    with _collector.running() if other else nullcontext():
        try:
            config = CollectionConfig.from_json(task.config)
            work, _ = prepare(config, task.storage, EventLog(), {})
            result: Any = Worker(work).wait()
        except WorkflowError as error:
            result = error.result or error
        except ArchiveKitError as error:
            result = error
    caught = _collector.take() if other else ()
    if isinstance(result, ArchiveKitError):
        words = f"{type(result).__name__}: {result}"
        return ShardOutcome(headline=words, is_failed=True, problem=result, warnings=caught)
    return ShardOutcome.of(result, caught)


class _Collector:
    """Collects this package's warnings of a process instead of showing them in its log.

    Shards may run in several threads of a worker; each warning is sent with one of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._texts: dict[str, None] = {}
        self._show: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Collect while at least one shard runs."""
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._show, warnings.showwarning = warnings.showwarning, self._collect
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    warnings.showwarning = self._show

    def _collect(
        self, message: Warning | str, category: type[Warning], *where: Any, **more: Any
    ) -> None:
        if issubclass(category, ArchiveKitWarning):
            with self._lock:
                self._texts[str(message)] = None
        else:
            self._show(message, category, *where, **more)

    def take(self) -> tuple[str, ...]:
        """Return the texts that were collected, and forget them."""
        with self._lock:
            texts = tuple(self._texts)[:_MOST_WARNINGS]
            self._texts.clear()
        return texts


_collector = _Collector()
