"""What happens in a collection, told to whoever wants to know as it happens.

Events, in the order in which they come; details are numbers and words, ready for JSON::

    run_started       output_directory
    tasks_planned     total_tasks, to_download, to_keep, download_bytes, missing, unavailable
    file_skipped      key, path, size_bytes       it is there and proven
    batch_started     batch, objects, size_bytes  objects were handed to s5cmd
    file_downloaded   key, path, size_bytes, proven_by
    checksum_failed   key, reason, detail         the bytes are not the published ones; may be
                                                  tried again
    file_failed       key, reason, detail         for good; also told as an error
    batch_finished    batch, downloaded, failed, seconds
    run_finished      outcome, and all of the result's ``collection_stats``
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
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
    """Is told what happens in a collection, and keeps it.

    Subclasses need not call ``super().__init__()``, nor override both methods. Both are
    called on the collection's own thread, one call at a time.

    Attributes
    ----------
    events, errors : list of dict
        Each with ``event`` or ``error``, ``timestamp`` (UTC, ISO 8601) and ``details``.

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
        """Note something that happened."""
        self._keep("events", event=event_name, details=details)

    def record_error(self, error_message: str, /, **details: Any) -> None:
        """Note something that went wrong."""
        self._keep("errors", error=error_message, details=details)

    def _keep(self, name: str, *, details: dict[str, Any], **said: str) -> None:
        # A subclass may have made no list.
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.__dict__.setdefault(name, []).append({**said, "timestamp": now, "details": details})


@dataclass(slots=True)
class _Batch:
    """Objects that were handed over together, and what became of them so far."""

    left: int
    downloaded: int = 0
    failed: int = 0
    began: float = field(default_factory=time.monotonic)


class EventLog:
    """Tells a collector what happens; does nothing where there is none, and is then false.

    A collector that raises does not end the collection: its first error is kept in `trouble`.

    Parameters
    ----------
    collector : MetricsCollector or None
        Anything with its two methods.
    """

    def __init__(self, collector: MetricsCollector | None = None) -> None:
        self._collector = collector
        self._batches: list[_Batch] = []
        self._batch_of: dict[str, int] = {}
        self.trouble: Exception | None = None

    def __bool__(self) -> bool:
        return self._collector is not None

    def tell(self, event: str, **details: Any) -> None:
        """Tell of an event."""
        if self._collector is not None:
            try:
                self._collector.record_event(event, **details)
            except Exception as error:
                self.trouble = self.trouble or error

    def complain(self, message: str, **details: Any) -> None:
        """Tell of an error."""
        if self._collector is not None:
            try:
                self._collector.record_error(message, **details)
            except Exception as error:
                self.trouble = self.trouble or error

    @contextmanager
    def complaining(self) -> Iterator[None]:
        """Tell of the error that ends what is done meanwhile."""
        try:
            yield
        except BaseException as error:
            self.complain(str(error), kind=type(error).__name__)
            raise

    def planned(self, plan: Plan) -> None:
        """Tell what is to be done."""
        if self:
            keep = plan.count("keep")
            self.tell(
                "tasks_planned",
                total_tasks=len(plan),
                to_download=len(plan) - keep,
                to_keep=keep,
                download_bytes=plan.download_bytes,
                missing=len(plan.missing),
                unavailable=len(plan.unavailable),
            )

    @contextmanager
    def run(self, output_directory: object) -> Iterator[Callable[[CollectionResult], None]]:
        """Tell that a run begins, and that it ends, with its result or by an error.

        Lends a function that is to be called with the result.
        """
        self.tell("run_started", output_directory=str(output_directory))
        try:
            with self.complaining():
                yield self._finished
        except BaseException as error:
            failed = getattr(error, "result", None)
            interrupted = isinstance(error, CancelledError | KeyboardInterrupt)
            self.tell(
                "run_finished",
                outcome="interrupted" if interrupted else "failed",
                **(failed.collection_stats if failed is not None else {}),
            )
            raise

    def _finished(self, result: CollectionResult) -> None:
        self.tell("run_finished", outcome=result.outcome, **result.collection_stats)

    # Objects and their batches

    def begun(self, keys: Sequence[str], size: int | None) -> None:
        """Tell that a batch of objects was handed over."""
        self._batches.append(_Batch(len(keys)))
        number = len(self._batches)
        self._batch_of.update(dict.fromkeys(keys, number))
        self.tell("batch_started", batch=number, objects=len(keys), size_bytes=size)

    def downloaded(self, key: str, **details: Any) -> None:
        """Tell that an object arrived, and is proven."""
        self.tell("file_downloaded", key=key, **details)
        self._ended(key, failed=False)

    def checksum_failed(self, error: ObjectError) -> None:
        """Tell of an error if it is one of bytes against their digest."""
        if isinstance(error, _CHECKSUM_FAILURES):
            self.tell("checksum_failed", key=error.key, reason=error.reason, detail=error.detail)

    def failed(self, error: ObjectError) -> None:
        """Tell that an object could not be had."""
        said = {"key": error.key, "reason": error.reason, "detail": error.detail}
        self.tell("file_failed", **said)
        self.complain(str(error), **said)
        self._ended(error.key, failed=True)

    def _ended(self, key: str, *, failed: bool) -> None:
        number = self._batch_of.pop(key, None)
        if number is None:
            return
        batch = self._batches[number - 1]
        batch.left -= 1
        batch.failed += failed
        batch.downloaded += not failed
        if not batch.left:
            self.tell(
                "batch_finished",
                batch=number,
                downloaded=batch.downloaded,
                failed=batch.failed,
                seconds=round(time.monotonic() - batch.began, 3),
            )
