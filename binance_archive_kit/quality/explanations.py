"""Explain why a stream has no file for some days, from all that is known without reading files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from binance_archive_kit.archive.annotations import load_annotations
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import (
    Folder,
    ObjectKey,
    Stream,
    delivery_of,
    period_end,
    periods,
)
from binance_archive_kit.archive.matrix import Matrix, PartitionAvailability
from binance_archive_kit.quality.expected import GAP_KINDS, Expected, ExpectedStream
from binance_archive_kit.quality.timeline import GapKind, stream_values
from binance_archive_kit.storage.inventory import StoredFolder
from binance_archive_kit.storage.store import Store

T = TypeVar("T")
#: Kind, evidence, and the UTC days without a file, both inclusive.
ExplainedDays = tuple[GapKind, str, date, date]

_ONE_DAY = timedelta(days=1)
#: How long ago a period may have ended that is not published yet.
_RECENT = timedelta(days=62)
_COLLECT = "the archive has the file and the store does not; collect(...) fetches it"
_ASK = "the store has no file, and the archive was not asked; coverage(config) asks it"
_REMOVED = "its file was collected and is no longer there; collect(...) fetches it again"


class Explainer:
    """Explains days without a file.

    Parameters
    ----------
    expected : Expected
    matrix : Matrix
    store : Store or None
    last_day : callable
        Given a stream, returns the last day of which the store has a file of its symbol.
    """

    def __init__(
        self,
        expected: Expected,
        matrix: Matrix,
        store: Store | None,
        last_day: Callable[[Stream], date],
    ) -> None:
        self._listed = expected.listed
        self._matrix = matrix
        self._store = store
        self._last_day = last_day
        self._now = datetime.now(UTC)

    def explain(
        self, stream: Stream, expected: ExpectedStream, folders: Sequence[StoredFolder]
    ) -> Iterator[ExplainedDays]:
        """Yield explanations of days; where they overlap, the later one holds."""
        evidence = _COLLECT if self._listed else _ASK
        yield GapKind.NOT_COLLECTED, evidence, expected.first, expected.last
        if not self._listed:
            yield from self._from_matrix(stream, expected)
            if self._store is not None:
                yield from self._from_earlier_runs(self._store, stream, folders)
        for key in expected.removed:
            yield GapKind.NOT_COLLECTED, _REMOVED, key.start, key.end
        for absence in expected.absences:
            yield GAP_KINDS[absence.reason], absence.detail, absence.start, absence.end
        for defect in load_annotations().defects:
            concerned = defect.concerns(*stream_values(stream))
            if defect.effect == "not_traded" and defect.end and concerned:
                last = (defect.end - _ONE_DAY).date()
                yield GapKind.AFTER_DELISTING, str(defect), defect.start.date(), last
        if self._store is not None:
            for key, reason in _recorded(stream, self._store.quarantined):
                yield GapKind.CORRUPT, f"in quarantine, {reason}", key.start, key.end

    def partitions(self, stream: Stream) -> Mapping[Partition, PartitionAvailability]:
        """Return the partitions in which the archive keeps a stream; none if unknown."""
        feed = self._matrix.feed(stream.market, stream.data_type)
        return {} if feed is None else feed.partitions_with(stream.interval) or feed.partitioned

    def _from_matrix(self, stream: Stream, expected: ExpectedStream) -> Iterator[ExplainedDays]:
        """Yield what the matrix knows of days without a file."""
        partitions = self.partitions(stream)
        if not partitions:
            return
        title = f"{stream.market.title} {stream.data_type}"
        firsts = [files.first for files in partitions.values() if files.first]
        if len(firsts) == len(partitions):
            begins = min(firsts)
            evidence = f"{title} begins on {begins}"
            yield GapKind.BEFORE_LISTING, evidence, date.min, begins - _ONE_DAY
        for files in partitions.values():
            for gap in files.gaps:
                yield GapKind.MISSING_IN_ARCHIVE, "a known gap of the archive", *gap
        lasts = [period_end(files.last, p) for p, files in partitions.items() if files.last]
        if len(lasts) == len(partitions):
            ends = max(lasts)
            yield GapKind.ENDED_FEED, f"{title} ended on {ends}", ends + _ONE_DAY, date.max
        if (delivery := delivery_of(stream.symbol)) is not None:
            evidence = f"the contract was delivered on {delivery}"
            yield GapKind.AFTER_DELISTING, evidence, delivery + _ONE_DAY, date.max
        partition = min(partitions)  # daily before monthly
        for begins in periods(self._now.date() - _RECENT, expected.last, partition):
            if self._matrix.published_at(begins, partition) > self._now:
                yield GapKind.NOT_PUBLISHED, "not published yet", begins, date.max
                break

    def _from_earlier_runs(
        self, store: Store, stream: Stream, folders: Sequence[StoredFolder]
    ) -> Iterator[ExplainedDays]:
        """Yield what earlier runs found missing in the archive."""
        last = max((file.end for folder in folders for file in folder.files), default=date.min)
        found = []
        for key, (reason, detail) in _recorded(stream, store.records.missing):
            kind = GAP_KINDS[reason]
            if kind is GapKind.AFTER_DELISTING and key.start <= max(last, self._last_day(stream)):
                # The store has a later file of the symbol, so this was not its end.
                kind = GapKind.MISSING_IN_ARCHIVE
            found.append((kind, detail, key.start, key.end))
        # Where a day's daily and monthly objects differ, a missing one must not be hidden.
        yield from sorted(found, key=lambda explained: explained[0].is_missing)


def _recorded(
    stream: Stream, lookup: Callable[[str], Mapping[str, T]]
) -> Iterator[tuple[ObjectKey, T]]:
    """Look up what is recorded of the objects of a stream, folder by folder."""
    for partition in Partition:
        for key, record in lookup(Folder(stream, partition).prefix).items():
            # A damaged record may name no object.
            with suppress(ValueError):
                yield ObjectKey.parse(key), record
