"""What a coverage report expects: the streams, their days, and the objects of each.

Expectations come from a plan, which knows what the archive lists, or from a store's folder,
of which every stream is expected from its first to its last file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import ObjectKey, Stream
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.quality.timeline import STREAM_FIELDS, GapKind
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.store import Store

#: Kinds of gaps for absences of days. Other absences are no gaps: the stream never existed.
GAP_KINDS = {
    Reason.ABSENT: GapKind.MISSING_IN_ARCHIVE,
    Reason.OTHER_NAME: GapKind.NOT_COLLECTED,
    Reason.AFTER_LAST: GapKind.AFTER_DELISTING,
    Reason.NOT_PUBLISHED: GapKind.NOT_PUBLISHED,
    Reason.NOT_BEGUN: GapKind.BEFORE_LISTING,
    Reason.BEFORE_FIRST: GapKind.BEFORE_LISTING,
    Reason.ENDED: GapKind.ENDED_FEED,
}


@dataclass(slots=True)
class ExpectedStream:
    """What is expected of one stream.

    Attributes
    ----------
    first, last : date
        UTC days, both inclusive.
    listed : list of str
        Keys that the archive lists.
    absences : list of Absence
        Days of which the archive has no file.
    removed : list of ObjectKey
        Objects that were collected and of which the store has no file.
    """

    first: date
    last: date
    listed: list[str] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    removed: list[ObjectKey] = field(default_factory=list)

    def touches(self, file: StoredFile) -> bool:
        """Return whether a file covers any of these days."""
        return file.start <= self.last and file.end >= self.first


@dataclass(slots=True)
class Expected:
    """What a coverage report is about.

    Attributes
    ----------
    streams : dict of Stream to ExpectedStream
        Sorted as the enums of their fields are.
    unavailable : list of Absence
        Requested, and never existed.
    listed : bool
        Whether the archive was listed.
    nothing : str
        Why nothing is expected, if nothing is.
    """

    streams: dict[Stream, ExpectedStream]
    unavailable: list[Absence]
    listed: bool
    nothing: str = ""

    def __post_init__(self) -> None:
        """Sort the streams."""
        self.streams = {stream: self.streams[stream] for stream in sorted(self.streams, key=_rank)}

    @classmethod
    def of_plan(cls, plan: Plan, days: tuple[date | None, date | None]) -> Expected:
        """Expect what a plan requests, between two days if they are given."""
        asked, listing = plan.config.days(), plan.config.listing
        first = max(asked.start, days[0] or asked.start)
        last = min(asked.end, days[1] or asked.end)
        if first > last:
            nothing = (
                f"the configuration covers {asked.start} to {asked.end}, and none of these days"
            )
            return cls({}, [], listing, nothing)
        streams: dict[Stream, ExpectedStream] = {}
        inside = plan.frame.filter(pl.col("start") <= last, pl.col("end") >= first)
        for keys in inside.group_by(STREAM_FIELDS, maintain_order=True).agg("key")["key"].to_list():
            streams[ObjectKey.parse(keys[0]).folder.stream] = ExpectedStream(first, last, keys)
        unavailable = []
        for absence in (*plan.missing, *plan.not_published, *plan.unavailable):
            stream = _stream_of(absence)
            if stream is None or absence.reason not in GAP_KINDS:
                unavailable.append(absence)
            elif absence.start <= last and absence.end >= first:
                expected = streams.setdefault(stream, ExpectedStream(first, last))
                expected.absences.append(absence)
        for stream, expected in [*streams.items()]:
            # The archive has nothing of this stream, so no day of it is missing.
            never = all(each.reason is Reason.BEFORE_FIRST for each in expected.absences)
            if not expected.listed and never:
                unavailable += streams.pop(stream).absences
        return cls(streams, unavailable, listing)

    @classmethod
    def of_folder(cls, engine: Engine, days: tuple[date | None, date | None]) -> Expected:
        """Expect every stream that is or was in a store, between two days if they are given."""
        streams: dict[Stream, ExpectedStream] = {}

        def expect(stream: Stream, first: date, last: date) -> ExpectedStream:
            expected = streams.setdefault(stream, ExpectedStream(first, last))
            expected.first, expected.last = min(expected.first, first), max(expected.last, last)
            return expected

        for feed in engine.feeds():
            for stored in engine.folders(feed):
                last = max(file.end for file in stored.files)
                expect(stored.folder.stream, stored.files[0].start, last)
        for key in _removed(engine):
            expect(key.folder.stream, key.start, key.end).removed.append(key)
        for stream, expected in [*streams.items()]:
            expected.first, expected.last = days[0] or expected.first, days[1] or expected.last
            if expected.first > expected.last:
                del streams[stream]
        return cls(streams, [], listed=False)


def _removed(engine: Engine) -> Iterator[ObjectKey]:
    """Yield the objects that were collected and of which the store has no file."""
    present = {
        file.key
        for feed in engine.feeds()
        for stored in engine.folders(feed)
        for file in stored.files
    }
    for key in sorted(Store(engine.root).collected() - present):
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
