"""Report the events of a collection to a metrics collector.

The events, in the order in which they occur. Details are numbers and words, ready for JSON::

    run_started       output_directory
    tasks_planned     total_tasks, to_download, to_keep, download_bytes, missing, unavailable
    file_skipped      key, path, size_bytes       in the store and proven
    batch_started     batch, objects, size_bytes  s5cmd received the objects
    file_downloaded   key, path, size_bytes, proven_by
    checksum_failed   key, reason, detail         the bytes do not match the published digest;
                                                  may be retried
    file_failed       key, reason, detail         final; recorded as an error too
    batch_finished    batch, downloaded, failed, seconds
    run_finished      outcome, and the entries of the result's ``collection_stats``

With an executor, the objects' events stay in the workers: a batch is a shard, ``objects`` is the
number of periods that it requests, and only ``run_started``, ``batch_started``, ``file_failed``,
``batch_finished`` and ``run_finished`` occur.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from binance_archive_kit.errors import (
    AbsentChecksum,
    BadChecksum,
    Corrupt,
    ObjectError,
    StaleChecksum,
)

if TYPE_CHECKING:
    from binance_archive_kit.download.result import CollectionResult
    from binance_archive_kit.planning.plan import Plan

_CHECKSUM_FAILURES = (AbsentChecksum, BadChecksum, Corrupt, StaleChecksum)


class MetricsCollector:
    """Records the events and errors of a collection. Subclass to forward them.

    The events are ``run_started``, ``tasks_planned``, ``file_skipped``, ``batch_started``,
    ``file_downloaded``, ``checksum_failed``, ``file_failed``, ``batch_finished`` and
    ``run_finished``. A subclass may override one method or both, and need not call
    ``super().__init__()``. Both run on the collection's thread, one call at a time.

    Attributes
    ----------
    events : list of dict
        Each with ``event``, ``timestamp`` (UTC, ISO 8601) and ``details``.
    errors : list of dict
        Each with ``error``, ``timestamp`` and ``details``.

    Examples
    --------
    >>> metrics = MetricsCollector()
    >>> metrics.record_event("run_started", output_directory="data")
    >>> metrics.events[0]["event"], metrics.events[0]["details"]
    ('run_started', {'output_directory': 'data'})
    """

    events: list[dict[str, Any]]
    errors: list[dict[str, Any]]

    def __init__(self) -> None:
        self.events = []
        self.errors = []

    def record_event(self, event_name: str, /, **details: Any) -> None:
        """Record an event.

        Parameters
        ----------
        event_name : str
            Such as ``file_downloaded``.
        **details
            Numbers, text and None: ready for JSON.
        """
        self._record("events", event=event_name, details=details)

    def record_error(self, error_message: str, /, **details: Any) -> None:
        """Record an error.

        Parameters
        ----------
        error_message : str
            The message, with the key if the error is about one object.
        **details
            ``key``, ``reason`` and ``detail`` of an object, or ``kind``: the exception's class.
        """
        self._record("errors", error=error_message, details=details)

    def _record(self, name: str, *, details: dict[str, Any], **message: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        # A subclass that does not call `super().__init__` has no lists yet.
        self.__dict__.setdefault(name, []).append({**message, "timestamp": now, "details": details})


@dataclass(slots=True)
class _Batch:
    """A batch of objects for s5cmd; `unfinished` of them have no outcome yet."""

    number: int
    unfinished: int
    downloaded: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)


class EventLog:
    """Passes events to a collector. Without a collector it is false and does nothing.

    If the collector raises, the collection continues; the first such error is in
    `collector_error`.

    Parameters
    ----------
    collector : MetricsCollector or None
        Any object with its two methods.
    """

    def __init__(self, collector: MetricsCollector | None = None) -> None:
        self._collector = collector
        self._batches = 0
        self._batch_of: dict[str, _Batch] = {}
        self.collector_error: Exception | None = None

    def __bool__(self) -> bool:
        return self._collector is not None

    def emit(self, event: str, **details: Any) -> None:
        """Pass an event to the collector."""
        self._record("record_event", event, details)

    def emit_error(self, message: str, **details: Any) -> None:
        """Pass an error to the collector."""
        self._record("record_error", message, details)

    def _record(self, method: str, text: str, details: dict[str, Any]) -> None:
        if self._collector is not None:
            try:
                getattr(self._collector, method)(text, **details)
            except Exception as error:
                self.collector_error = self.collector_error or error

    @contextmanager
    def emitting_errors(self) -> Iterator[None]:
        """Emit an error that leaves the block, and raise it again."""
        try:
            yield
        except BaseException as error:
            self.emit_error(str(error), kind=type(error).__name__)
            raise

    @contextmanager
    def run(self, output_directory: object) -> Iterator[None]:
        """Emit the start of a run and, if the block raises, its end; see `run_finished`."""
        self.emit("run_started", output_directory=str(output_directory))
        try:
            with self.emitting_errors():
                yield
        except BaseException as error:
            failed = getattr(error, "result", None)
            interrupted = isinstance(error, CancelledError | KeyboardInterrupt)
            self.emit(
                "run_finished",
                outcome="interrupted" if interrupted else "failed",
                **(failed.collection_stats if failed is not None else {}),
            )
            raise

    def run_finished(self, result: CollectionResult) -> None:
        """Emit the end of a run."""
        self.emit("run_finished", outcome=result.outcome, **result.collection_stats)

    def tasks_planned(self, plan: Plan) -> None:
        """Emit the counts of a plan."""
        keep = plan.count("keep")
        self.emit(
            "tasks_planned",
            total_tasks=len(plan),
            to_download=len(plan) - keep,
            to_keep=keep,
            download_bytes=plan.download_bytes,
            missing=len(plan.missing),
            unavailable=len(plan.unavailable),
        )

    # Objects and their batches

    def batch_started(self, keys: Sequence[str], size: int | None) -> None:
        """Emit the start of a batch; `size` is the sum of its objects in bytes, if known."""
        if self:
            self._batches += 1
            self._batch_of.update(dict.fromkeys(keys, _Batch(self._batches, len(keys))))
            self.emit("batch_started", batch=self._batches, objects=len(keys), size_bytes=size)

    def file_downloaded(self, key: str, **details: Any) -> None:
        """Emit the download of an object, which is proven."""
        self.emit("file_downloaded", key=key, **details)
        self._finish(key, failed=False)

    def checksum_failed(self, error: ObjectError) -> None:
        """Emit an error of a comparison of bytes and digest; ignore other errors."""
        if isinstance(error, _CHECKSUM_FAILURES):
            self.emit("checksum_failed", key=error.key, reason=error.reason, detail=error.detail)

    def file_failed(self, error: ObjectError) -> None:
        """Emit the final failure of an object."""
        details = {"key": error.key, "reason": error.reason, "detail": error.detail}
        self.emit("file_failed", **details)
        self.emit_error(str(error), **details)
        self._finish(error.key, failed=True)

    def _finish(self, key: str, *, failed: bool) -> None:
        """Count a finished object of a batch; after the last one, emit the end of the batch."""
        batch = self._batch_of.pop(key, None)
        if batch is None:
            return
        batch.unfinished -= 1
        batch.failed += failed
        batch.downloaded += not failed
        if not batch.unfinished:
            self.emit(
                "batch_finished",
                batch=batch.number,
                downloaded=batch.downloaded,
                failed=batch.failed,
                seconds=round(time.monotonic() - batch.started, 3),
            )
