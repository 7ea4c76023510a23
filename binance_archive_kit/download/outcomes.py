"""Write the outcomes of objects to the ledger, the progress and the event log."""

from __future__ import annotations

from binance_archive_kit.archive.absence import Absence
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.events import EventLog
from binance_archive_kit.download.ledger import Ledger
from binance_archive_kit.errors import ObjectError
from binance_archive_kit.storage.proof import ProvenBy


class Outcomes:
    """The outcomes of a plan's objects; each is given with its row in the plan.

    Parameters
    ----------
    ledger : Ledger
    progress : Progress
    events : EventLog
    """

    def __init__(self, ledger: Ledger, progress: Progress, events: EventLog) -> None:
        self._ledger = ledger
        self._progress = progress
        self._events = events

    def keep(self, row: int, key: str, size: int) -> None:
        """Write that a proven file was in the store already."""
        self._ledger.keep(row, size)
        self._progress.proven += 1
        if self._events:
            path = str(self._ledger.path_of(key))
            self._events.emit("file_skipped", key=key, path=path, size_bytes=size)

    def prove(self, row: int, key: str, size: int, by: ProvenBy, *, kept: bool) -> None:
        """Write that a file was proven by this run; `kept`: it was in the store already."""
        self._progress.count(1, size)
        if by is ProvenBy.STALE:
            self._ledger.stale.append(key)
        if kept:
            self.keep(row, key, size)
            return
        self._ledger.download(row, size)
        self._progress.proven += 1
        if self._events:
            path = str(self._ledger.path_of(key))
            self._events.file_downloaded(key, path=path, size_bytes=size, proven_by=by.value)

    def fail(self, row: int, error: ObjectError) -> None:
        """Write that an object could not be downloaded or proven."""
        self._ledger.fail(row, error)
        self._events.file_failed(error)
        self._progress.done += 1
        self._progress.failed += 1

    def skip(self, row: int, absence: Absence) -> None:
        """Write that an object, planned without a listing, is not in the archive."""
        self._progress.total -= 1
        self._ledger.skip(row, absence)
