"""Survey some streams of a store on some days, without reading the whole store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.quality.expected import Expected, ExpectedStream
from binance_archive_kit.quality.findings import known_halts
from binance_archive_kit.quality.halts import MAY_BE_HALTS
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.survey import Survey
from binance_archive_kit.quality.timeline import GapKind
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.reading.cadence import cadence_of
from binance_archive_kit.timestamps import SECOND, to_datetime

#: First and last UTC day of each stream, both inclusive.
Days = Mapping[Stream, tuple[date, date]]

_FEED = ("market", "data_type", "interval")
#: Other symbols of a feed that are read before all are.
_FEW = 3


def survey_streams(engine: Engine, stored: Expected, days: Days) -> CoverageReport:
    """Survey streams, and others of their feeds where these tell whether a gap is a halt.

    Parameters
    ----------
    engine : Engine
    stored : Expected
        All streams of the store.
    days : mapping of Stream to (date, date)
        First and last UTC day of each stream, both inclusive.

    Returns
    -------
    CoverageReport
        Also of the days beside these, and of other streams.
    """
    report = _survey(engine, stored, days, {})
    asked: Days = {}
    # One candle of another stream shows that a gap is no halt: a few streams mostly suffice.
    for most in (_FEW, None):
        others = _neighbours(stored, days, _undecided_days(report), most)
        if others.keys() <= asked.keys():
            break
        asked, report = others, _survey(engine, stored, days, others)
    return report


def _survey(engine: Engine, stored: Expected, days: Days, others: Days) -> CoverageReport:
    """Survey the streams and some others, with the days beside theirs.

    The day before the first one tells whether the symbol was listed on the first one.
    """
    expected: dict[Stream, ExpectedStream] = {}
    for stream, (first, last) in {**others, **days}.items():
        cadence = cadence_of(stream.market, stream.data_type, stream.interval)
        # Whether a candle of a week is due depends on the last day.
        has_steps = cadence.kind in ("regular", "approximate") and not cadence.is_long
        margin = timedelta(days=1 if has_steps and stream in days else 0)
        expected[stream] = replace(
            stored.streams[stream],
            first=max(first, date.min + margin) - margin,
            last=min(last, date.max - margin) + margin,
        )
    streams = {stream: each for stream, each in expected.items() if each.first <= each.last}
    surveyed = Expected(streams, [], listed=False, folders=stored.folders)
    return Survey(engine, load_matrix(), surveyed).report("")


def _undecided_days(report: CoverageReport) -> pl.DataFrame:
    """Return the days, by stream, on which a gap may be a halt as far as the report can tell.

    A known halt is one, and on a day on which another symbol has all candles there is none.
    """
    gaps = report.gaps.filter(
        pl.col("kind").is_in([*MAY_BE_HALTS, GapKind.HALT]),
        pl.col("data_type") == DataType.KLINES,
    )
    for market in gaps["market"].unique():
        for halt in known_halts(Market(market)):
            if halt.exact:
                start, end = to_datetime(halt.start), to_datetime(halt.end + SECOND)
                inside = (pl.col("start") >= start) & (pl.col("end") <= end)
                is_known = (pl.col("market") == market) & (pl.col("kind") == GapKind.HALT) & inside
                gaps = gaps.filter(~is_known)
    last = pl.col("end").dt.offset_by("-1us").dt.date()
    days = gaps.select(*_FEED, "symbol", date=pl.date_ranges(pl.col("start").dt.date(), last))
    whole = report.days.filter(pl.col("expected") > 0, pl.col("present") == pl.col("expected"))
    return days.explode("date").join(whole, on=[*_FEED, "date"], how="anti")


def _neighbours(stored: Expected, days: Days, undecided: pl.DataFrame, most: int | None) -> Days:
    """Return other streams in the store that tell whether gaps of candles are halts.

    They are those of other symbols, and other candles of the same symbols; those of a second
    would take long to read.

    Parameters
    ----------
    stored : Expected
    days : Days
    undecided : polars.DataFrame
        Days of streams.
    most : int or None
        Number of other symbols of a feed, those with the most days first; None for all.
    """
    by_feed = _limits(undecided, *_FEED)
    by_symbol = _limits(undecided, "market", "data_type", "symbol")
    found = {}
    for stream, known in stored.streams.items():
        span = by_feed.get(_feed_of(stream))
        if span is None and stream.interval is not Interval.S1:
            span = by_symbol.get((stream.market, stream.data_type, stream.symbol))
        if span and stream not in days:
            found[stream] = max(known.first, span[0]), min(known.last, span[1])
    counts: Counter[tuple[str | None, ...]] = Counter()
    chosen = {}
    for stream, (first, last) in sorted(found.items(), key=lambda each: each[1][0] - each[1][1]):
        feed = _feed_of(stream)
        counts[feed] += 1
        if first <= last and (most is None or feed not in by_feed or counts[feed] <= most):
            chosen[stream] = first, last
    return chosen


def _feed_of(stream: Stream) -> tuple[str | None, ...]:
    return stream.market, stream.data_type, stream.interval


def _limits(days: pl.DataFrame, *keys: str) -> dict[tuple[str | None, ...], tuple[date, date]]:
    """Return the first and the last day of each key."""
    limits = days.group_by(*keys).agg(first=pl.col("date").min(), last=pl.col("date").max())
    return {tuple(row[:-2]): (row[-2], row[-1]) for row in limits.iter_rows()}
