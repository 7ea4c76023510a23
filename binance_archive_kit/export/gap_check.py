"""Check the coverage of streams before they are exported.

Data that are missing, invalid or doubtful block an export. A halt of the market, and times at
which no row is due, do not. Nothing is filled in either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.symbols import crossings
from binance_archive_kit.display import render
from binance_archive_kit.errors import CoverageError, field_error, warn_user
from binance_archive_kit.export.sidecar import SUFFIX, StreamCoverage
from binance_archive_kit.export.sources import Source, identify
from binance_archive_kit.export.verdicts import overlapping, verdict_of
from binance_archive_kit.planning.date_range import read_day
from binance_archive_kit.quality.expected import Expected
from binance_archive_kit.quality.stream_survey import survey_streams
from binance_archive_kit.quality.timeline import STREAM_FIELDS
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.open_store import Source as StoreSource
from binance_archive_kit.query.open_store import open_engine
from binance_archive_kit.reading.cadence import Cadence, cadence_of
from binance_archive_kit.reading.file_stats import lead_of
from binance_archive_kit.suggestions import check_word
from binance_archive_kit.timestamps import DAY, to_datetime, to_day_number, to_micros

OnGap = Literal["raise", "warn", "mark"]
_MODES: tuple[OnGap, ...] = ("raise", "warn", "mark")
_ONE_DAY = timedelta(days=1)
#: Streams that a message describes.
_DESCRIBED = 3
_ADVICE = (
    "collect(…) fetches what the archive has and the store does not, start= and end= choose other "
    'days, and on_gap="warn" exports what is there, with the gaps in '
)


def open_source(source: StoreSource, on_gap: str, options: Mapping[str, Any]) -> Engine:
    """Open a store to export from it.

    Unless gaps raise an error, files that are invalid and rows that conflict are left out; the
    coverage reports them.

    Parameters
    ----------
    source : str, Path or OpenStore
    on_gap : {"raise", "warn", "mark"}
    options : mapping
        As for `store`.

    Raises
    ------
    ConfigurationError
        If `on_gap` or an option is invalid.
    """
    check_word("on_gap", on_gap, _MODES)
    engine = open_engine(source, options)
    lenient = replace(engine.options, on_error="skip")
    return engine if on_gap == "raise" else Engine(engine.root, lenient)


def check_gaps(
    engine: Engine,
    streams: Iterable[Stream],
    start: str | date | None = None,
    end: str | date | None = None,
    on_gap: OnGap = "raise",
    beside: str = f"*{SUFFIX}",
    optional: Set[Stream] = frozenset(),
) -> dict[Stream, StreamCoverage]:
    """Check the coverage of streams on the days that are exported.

    Reads the files that were not examined before. Warns of gaps that do not block.

    Parameters
    ----------
    engine : Engine
    streams : iterable of Stream
        Streams that the store has or had files of.
    start, end : str or date, optional
        First and last UTC day, both inclusive, as for `coverage`; by default those of the files
        of each stream.
    on_gap : {"raise", "warn", "mark"}
        What to do about data that are missing, invalid or doubtful: raise an error, or warn.
    beside : str
        Where a user will find the coverage, for the messages.
    optional : set of Stream
        Streams that are left out, with a warning, if they have no row on these days.

    Returns
    -------
    dict of Stream to StreamCoverage
        In the order of `streams`; at least one.

    Raises
    ------
    ConfigurationError
        If a day is invalid.
    CoverageError
        If a stream that is not optional has no row on these days, or none has, whatever `on_gap`
        is; or if data of any stream are missing, invalid or doubtful, and `on_gap` is "raise". It
        describes some of the streams.
    """
    found = _Check(engine, streams, start, end).run()
    empty = [each for each in found.values() if not each.present]
    if len(empty) == len(found) or {each.stream for each in empty} - optional:
        raise CoverageError(f"nothing to export: no row of {_described(empty)}")
    blocked = [each for each in found.values() if each.blocks]
    if blocked and on_gap == "raise":
        count = render.counted(len(found), "stream")
        raise CoverageError(
            f"data are missing or doubtful in {len(blocked):,} of {count}, so nothing is exported: "
            f"{_described(blocked)}. {_ADVICE}{beside}"
        )
    if empty:
        found = {stream: each for stream, each in found.items() if each.present}
        blocked = [each for each in blocked if each.present]
        warn_user(f"left out, as they have no row of these days: {_described(empty)}")
    others = [each for each in found.values() if each.is_noteworthy and not each.blocks]
    if blocked or others:
        warn_user(f"exported with gaps or flaws, see {beside}: {_described([*blocked, *others])}")
    return found


def _described(streams: list[StreamCoverage]) -> str:
    """Describe the first streams, and count the others."""
    more = len(streams) - _DESCRIBED
    words = [each.describe() for each in streams[:_DESCRIBED]]
    return "; ".join([*words, f"and {render.counted(more, 'more stream')}"] if more > 0 else words)


class _Check:
    """The check of some streams.

    Parameters
    ----------
    engine : Engine
    streams : iterable of Stream
    start, end : str or date, optional
    """

    def __init__(
        self,
        engine: Engine,
        streams: Iterable[Stream],
        start: str | date | None,
        end: str | date | None,
    ) -> None:
        self._engine = engine
        self._stored = Expected.of_folder(engine, (None, None))
        first, last = read_day("start", start), read_day("end", end)
        if first and last and first > last:
            raise field_error("start", f"{start} is after end: {end}")
        #: The UTC days of each stream, both inclusive.
        self._days = {}
        for stream in streams:
            known = self._stored.streams[stream]
            begins = first or min(known.first, last or known.first)
            self._days[stream] = begins, last or max(known.last, begins)
        self._sources: dict[Stream, tuple[Source, ...]] = {}

    def run(self) -> dict[Stream, StreamCoverage]:
        """Check all streams."""
        report = survey_streams(self._engine, self._stored, self._days)
        self._sources = self._find_sources()
        days, gaps, findings = map(_by_stream, (report.days, report.gaps, report.findings))
        return {
            stream: self._judge(
                stream,
                days.get(stream, report.days.clear()),
                gaps.get(stream, report.gaps.clear()),
                findings.get(stream, report.findings.clear()),
            )
            for stream in self._days
        }

    def _judge(
        self, stream: Stream, days: pl.DataFrame, gaps: pl.DataFrame, findings: pl.DataFrame
    ) -> StreamCoverage:
        """Judge one stream on its days, from the frames of a report."""
        first, last = self._days[stream]
        start, end = (to_datetime(to_day_number(day) * DAY) for day in (first, last + _ONE_DAY))
        days = days.filter(pl.col("date").is_between(first, last))
        gaps = _clipped(_cadence(stream), gaps, start, end)
        findings = overlapping(findings, start, end)
        countable = not days["expected"].has_nulls() and not gaps["missing"].has_nulls()
        return StreamCoverage(
            stream,
            first,
            last,
            verdict_of(days, gaps, findings),
            int(days["expected"].sum()) if countable else None,
            int(days["present"].sum()),
            gaps,
            findings,
            tuple(map(str, crossings(stream.market, stream.symbol, first, last))),
            self._sources.get(stream, ()),
        )

    def _find_sources(self) -> dict[Stream, tuple[Source, ...]]:
        """Return the files of each stream that may have rows of its days."""
        found: dict[Stream, tuple[Source, ...]] = {}
        for feed, folders in self._stored.folders.items():
            own = [stored for stored in folders if stored.folder.stream in self._days]
            known = identify(self._engine, feed, own)
            for stored in own:
                stream = stored.folder.stream
                first, last = self._days[stream]
                needed = [
                    known[file.path]
                    for file in stored.files
                    if file.start - lead_of(stored.folder) <= last and file.end >= first
                ]
                found[stream] = *found.get(stream, ()), *needed
        return found


def _cadence(stream: Stream) -> Cadence:
    return cadence_of(stream.market, stream.data_type, stream.interval)


def _by_stream(frame: pl.DataFrame) -> dict[Stream, pl.DataFrame]:
    """Divide a frame of a report into those of its streams."""
    parts = frame.partition_by(STREAM_FIELDS, as_dict=True)
    return {
        Stream(Market(market), DataType(data_type), symbol, interval and Interval(interval)): part
        for (market, data_type, symbol, interval), part in parts.items()
    }


def _clipped(cadence: Cadence, gaps: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Cut gaps at the limits of a time, and count the rows that are missing within it."""
    rows = []
    for row in overlapping(gaps, start, end).iter_rows(named=True):
        begins, ends = max(row["start"], start), min(row["end"], end)
        if row["missing"] and (begins, ends) != (row["start"], row["end"]):
            opens, closes, *limits = map(to_micros, (row["start"], row["end"], begins, ends))
            step = (closes - opens) // row["missing"] if cadence.hours_column else cadence.step
            before, until = (cadence.count_due(opens, limit, step) for limit in limits)
            row["missing"] = until - before
        rows.append(row | {"start": begins, "end": ends})
    return pl.DataFrame(rows, gaps.schema, orient="row")
