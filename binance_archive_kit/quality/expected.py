"""The expectations of a coverage report: streams, days, objects, and why days have no file.

They come from a plan, which has the listing of the archive, or from the folder of a store,
whose streams are expected from the first to the last file. The explanations of days without
a file read no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from typing import TypeVar

import polars as pl

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.annotations import load_annotations
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    ObjectKey,
    Span,
    Stream,
    delivery_of,
    period_end,
    periods,
)
from binance_archive_kit.archive.matrix import Matrix, PartitionAvailability
from binance_archive_kit.archive.symbols import SymbolEvent, crossings
from binance_archive_kit.garbage import paused_collection
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.quality.timeline import STREAM_FIELDS, GapKind
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder

#: Kinds of gaps for absences of days. For other absences the stream never existed.
GAP_KINDS = {
    Reason.ABSENT: GapKind.MISSING_IN_ARCHIVE,
    Reason.OTHER_NAME: GapKind.NOT_COLLECTED,
    Reason.AFTER_LAST: GapKind.AFTER_DELISTING,
    Reason.NOT_PUBLISHED: GapKind.NOT_PUBLISHED,
    Reason.NOT_BEGUN: GapKind.BEFORE_LISTING,
    Reason.BEFORE_FIRST: GapKind.BEFORE_LISTING,
    Reason.ENDED: GapKind.ENDED_FEED,
}
T = TypeVar("T")
#: Kind, evidence, and the UTC days without a file, both inclusive.
ExplainedDays = tuple[GapKind, str, date, date]

_ONE_DAY = timedelta(days=1)
#: The longest time between the end of a period and its publication.
_RECENT = timedelta(days=62)
_COLLECT = "the archive has the file and the store does not; collect(...) fetches it"
_SELECTED = "selected from the archive's listing, and not collected; collect(...) fetches it"
_ASK = "the store has no file, and the archive was not asked; coverage(config) asks it"
_REMOVED = "its file was collected and is missing now; collect(...) fetches it again"


@dataclass(slots=True)
class ExpectedStream:
    """The expected days and objects of one stream.

    Attributes
    ----------
    first, last : date
        UTC days, both inclusive.
    listed : list of str
        Keys that the archive lists.
    absences : list of Absence
        Days without a file in the archive.
    removed : list of ObjectKey
        Objects that were collected and whose files are missing now.
    selected : bool
        Whether a pattern has selected the stream from the archive's listing.
    """

    first: date
    last: date
    listed: list[str] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    removed: list[ObjectKey] = field(default_factory=list)
    selected: bool = False

    def touches(self, file: StoredFile) -> bool:
        """Return whether a file covers any of these days."""
        return file.start <= self.last and file.end >= self.first

    def count_touched(self, files: Sequence[StoredFile]) -> int:
        """Count the files that cover any of these days."""
        return sum(map(self.touches, files))

    def absent_objects(self, folders: Sequence[StoredFolder]) -> list[ObjectKey]:
        """Return the objects that are known to belong to the stream, and have no file."""
        present = {file.key for stored in folders for file in stored.files}
        requested = [ObjectKey.parse(key) for key in self.listed if key not in present]
        return [*dict.fromkeys([*requested, *self.removed])]


@dataclass(slots=True)
class Expected:
    """The expectations of a coverage report.

    Attributes
    ----------
    streams : dict of Stream to ExpectedStream
        In the order of the enums of their fields.
    unavailable : list of Absence
        Requested data that never existed.
    listed : bool
        Whether the archive was listed.
    nothing : str
        The reason why no stream is expected; else empty.
    folders : dict of FeedTable to list of StoredFolder
        The folders of a store, feed by feed, if they were looked at.
    """

    streams: dict[Stream, ExpectedStream]
    unavailable: list[Absence]
    listed: bool
    nothing: str = ""
    folders: dict[FeedTable, list[StoredFolder]] = field(default_factory=dict)

    def changes(self) -> list[str]:
        """Return the known renames and reuses of symbols that the expected days cross."""
        days: dict[tuple[Market, str], Span] = {}
        for stream, expected in self.streams.items():
            name = stream.market, stream.symbol
            first, last = days.get(name, (expected.first, expected.last))
            days[name] = min(first, expected.first), max(last, expected.last)
        symbols: dict[SymbolEvent, list[str]] = {}
        for (market, symbol), span in days.items():
            for event in crossings(market, symbol, *span):
                symbols.setdefault(event, []).append(symbol)
        return [f"{', '.join(names)}: {event}" for event, names in symbols.items()]

    def __post_init__(self) -> None:
        """Sort the streams."""
        self.streams = {stream: self.streams[stream] for stream in sorted(self.streams, key=_rank)}

    @classmethod
    def of_plan(cls, plan: Plan, days: tuple[date | None, date | None]) -> Expected:
        """Expect the requests of a plan, between two days if they are given."""
        requested, listing = plan.config.days(), plan.config.listing
        first = max(requested.start, days[0] or requested.start)
        last = min(requested.end, days[1] or requested.end)
        if first > last:
            nothing = (
                f"the configuration covers {requested.start} to {requested.end}, "
                "and none of these days"
            )
            return cls({}, [], listing, nothing)
        streams: dict[Stream, ExpectedStream] = {}
        inside = plan.frame.filter(pl.col("start") <= last, pl.col("end") >= first)
        for keys in inside.group_by(STREAM_FIELDS, maintain_order=True).agg("key")["key"].to_list():
            stream = ObjectKey.parse(keys[0]).folder.stream
            begins = max(first, plan.since.get(stream, first))
            streams[stream] = ExpectedStream(begins, last, keys)
        unavailable = []
        for absence in (*plan.missing, *plan.not_published, *plan.unavailable):
            absent = _stream_of(absence)
            if absent is None or absence.reason not in GAP_KINDS:
                unavailable.append(absence)
            elif absence.start <= last and absence.end >= first:
                begins = max(first, plan.since.get(absent, first))
                expected = streams.setdefault(absent, ExpectedStream(begins, last))
                expected.absences.append(absence)
        for stream, expected in [*streams.items()]:
            # The archive has no file of this stream, so no day is missing.
            never = all(absence.reason is Reason.BEFORE_FIRST for absence in expected.absences)
            if not expected.listed and never:
                unavailable += streams.pop(stream).absences
        return cls(streams, unavailable, listing)

    @classmethod
    @paused_collection()
    def of_folder(cls, engine: Engine, days: tuple[date | None, date | None]) -> Expected:
        """Expect all streams that are or were in a store, between two days if they are given."""
        streams: dict[Stream, ExpectedStream] = {}

        def expect(stream: Stream, first: date, last: date) -> ExpectedStream:
            expected = streams.setdefault(stream, ExpectedStream(first, last))
            expected.first, expected.last = min(expected.first, first), max(expected.last, last)
            return expected

        by_feed = {feed: engine.folders(feed) for feed in engine.feeds()}
        folders = [*chain.from_iterable(by_feed.values())]
        for stored in folders:
            last = max(file.end for file in stored.files)
            expect(stored.folder.stream, stored.files[0].start, last)
        for stream, span in engine.store.records.selected_streams().items():
            expect(stream, *span).selected = True
        for key in _removed(engine, folders):
            expect(key.folder.stream, key.start, key.end).removed.append(key)
        for stream, expected in [*streams.items()]:
            expected.first, expected.last = days[0] or expected.first, days[1] or expected.last
            if expected.first > expected.last:
                del streams[stream]
        return cls(streams, [], listed=False, folders=by_feed)


def _removed(engine: Engine, folders: Sequence[StoredFolder]) -> Iterator[ObjectKey]:
    """Yield the objects that were collected and whose files are missing now."""
    present = {file.key for stored in folders for file in stored.files}
    for key in sorted(engine.store.collected() - present):
        # A damaged record may name no object.
        with suppress(ValueError):
            yield ObjectKey.parse(key)


def _stream_of(absence: Absence) -> Stream | None:
    """Return the stream of an absence; None if it is about several."""
    if absence.symbol is None or absence.data_type.has_intervals != (absence.interval is not None):
        return None
    interval = None if absence.interval is None else Interval(absence.interval)
    return Stream(absence.market, absence.data_type, absence.symbol, interval)


_MARKETS, _DATA_TYPES, _INTERVALS = list(Market), list(DataType), list(Interval)


def _rank(stream: Stream) -> tuple[int, int, str, int]:
    interval = -1 if stream.interval is None else _INTERVALS.index(stream.interval)
    market, data_type = _MARKETS.index(stream.market), _DATA_TYPES.index(stream.data_type)
    return market, data_type, stream.symbol, interval


class DayExplainer:
    """Explains days without a file.

    Parameters
    ----------
    expected : Expected
    matrix : Matrix
    store : BaseStore or None
    last_day : callable
        Given a stream, returns the last day with a file of its symbol in the store.
    """

    def __init__(
        self,
        expected: Expected,
        matrix: Matrix,
        store: BaseStore | None,
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
        """Yield explanations, the first for all days; a later one replaces earlier ones."""
        evidence = _COLLECT if self._listed else _SELECTED if expected.selected else _ASK
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
            concerned = defect.concerns(stream)
            if defect.effect == "not_traded" and defect.end and concerned:
                last = (defect.end - _ONE_DAY).date()
                yield GapKind.AFTER_DELISTING, str(defect), defect.start.date(), last
        if self._store is not None:
            for key, reason in _recorded(stream, self._store.quarantined):
                yield GapKind.CORRUPT, f"in quarantine, {reason}", key.start, key.end

    def partitions(self, stream: Stream) -> Mapping[Partition, PartitionAvailability]:
        """Return the partitions in which the archive has a stream; empty if unknown."""
        feed = self._matrix.feed(stream.market, stream.data_type)
        return {} if feed is None else feed.partitions_with(stream.interval) or feed.partitioned

    def _from_matrix(self, stream: Stream, expected: ExpectedStream) -> Iterator[ExplainedDays]:
        """Yield the explanations of the matrix."""
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
        self, store: BaseStore, stream: Stream, folders: Sequence[StoredFolder]
    ) -> Iterator[ExplainedDays]:
        """Yield the objects that earlier runs found missing in the archive."""
        files = [file for folder in folders for file in folder.files]
        first = min((file.start for file in files), default=date.max)
        last = max((file.end for file in files), default=date.min)
        found = []
        for key, (reason, detail) in _recorded(stream, store.records.missing):
            kind = GAP_KINDS[reason]
            if kind is GapKind.AFTER_DELISTING and key.start <= max(last, self._last_day(stream)):
                # The store has a later file of the symbol, so the symbol had not ended.
                kind = GapKind.MISSING_IN_ARCHIVE
            start = key.start
            if reason is Reason.BEFORE_FIRST:
                if first <= key.end:
                    # The store has an earlier file, of another partition.
                    continue
                start = date.min
            found.append((kind, detail, start, key.end))
        # If a day has several explanations, a missing object replaces the others.
        yield from sorted(found, key=lambda explained: explained[0].is_missing)


def _recorded(
    stream: Stream, lookup: Callable[[str], Mapping[str, T]]
) -> Iterator[tuple[ObjectKey, T]]:
    """Yield the records about objects of a stream, folder by folder."""
    for partition in Partition:
        for key, record in lookup(Folder(stream, partition).prefix).items():
            # A damaged record may name no object.
            with suppress(ValueError):
                yield ObjectKey.parse(key), record
