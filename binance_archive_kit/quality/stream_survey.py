"""Survey some streams of a store on some days, without reading the whole store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.quality.expected import Expected, ExpectedStream
from binance_archive_kit.quality.halts import MAY_BE_HALTS
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.survey import Survey
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.reading.cadence import cadence_of

#: First and last UTC day of each stream, both inclusive.
Days = Mapping[Stream, tuple[date, date]]

_FEED = ("market", "data_type", "interval")


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
    others = _neighbours(stored, days, report.gaps)
    return _survey(engine, stored, days, others) if others else report


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


def _neighbours(stored: Expected, days: Days, gaps: pl.DataFrame) -> Days:
    """Return other streams in the store that tell whether gaps of candles are halts.

    They are those of other symbols, and other candles of the same symbols; those of a second
    would take long to read.
    """
    spans = gaps.filter(
        pl.col("kind").is_in(MAY_BE_HALTS), pl.col("data_type") == DataType.KLINES
    ).with_columns(pl.col("start", "end").dt.date())
    by_feed = _limits(spans, *_FEED)
    by_symbol = _limits(spans, "market", "data_type", "symbol")
    found = {}
    for stream, known in stored.streams.items():
        span = by_feed.get((stream.market, stream.data_type, stream.interval))
        if span is None and stream.interval is not Interval.S1:
            span = by_symbol.get((stream.market, stream.data_type, stream.symbol))
        if span and stream not in days:
            found[stream] = max(known.first, span[0]), min(known.last, span[1])
    return {stream: days for stream, days in found.items() if days[0] <= days[1]}


def _limits(spans: pl.DataFrame, *keys: str) -> dict[tuple[str | None, ...], tuple[date, date]]:
    """Return the first and the last day of the gaps of each key."""
    limits = spans.group_by(*keys).agg(pl.col("start").min(), pl.col("end").max())
    return {tuple(row[:-2]): (row[-2], row[-1]) for row in limits.iter_rows()}
