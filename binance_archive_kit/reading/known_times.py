"""Expressions for ``known_at``: when each row of a feed was known to a live participant.

The rules are part of the schemas (`schemas.Known`); this module writes them for Polars and SQL.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.reading.cadence import METRICS_LABEL_CHANGE
from binance_archive_kit.reading.feed_table import FeedTable

#: Name of the column with the time at which a row was known, UTC.
KNOWN_AT = "known_at"
_MILLI, _MICRO = timedelta(milliseconds=1), timedelta(microseconds=1)
#: The day in the path of a daily file.
_FILE_DAY = r"(\d{4}-\d{2}-\d{2})\.[a-z.]+$"


def columns_needed(feed: FeedTable) -> tuple[str, ...]:
    """Return the columns of a feed from which ``known_at`` is computed."""
    match feed.schema.known.rule:
        case "candle":
            return "open_time", "close_time"
        case "latest":
            return feed.time, *feed.schema.time.others
        case "metrics_label":
            return feed.time, "file"
        case _:
            return (feed.time,)


def known_at_of(feed: FeedTable) -> pl.Expr:
    """Return the expression for the time at which each row of a feed was known.

    For metrics, the frame must hold all rows of each file: their labels show whether a row is
    labelled by the start or the end of its period.
    """
    known, time = feed.schema.known, pl.col(feed.time)
    found: pl.Expr
    match known.rule:
        case "candle":
            # A close in whole milliseconds is from a file in milliseconds.
            close = pl.col("close_time")
            unit = pl.when(close.dt.microsecond() % 1000 == 0).then(_MILLI).otherwise(_MICRO)
            found = pl.when(close >= pl.col("open_time")).then(close + unit)
        case "latest":
            found = pl.max_horizontal(time, *feed.schema.time.others)
        case "after_period":
            found = time + known.period
        case "metrics_label":
            found = pl.when(_labels_end(feed)).then(time).otherwise(time + known.period)
        case _:
            found = time
    return found.alias(KNOWN_AT)


def _labels_end(feed: FeedTable) -> pl.Expr:
    """Return whether each row is labelled by the end of its period; as `label_offset` decides."""
    file = pl.col("file").cast(pl.String)
    time = pl.col(feed.time)
    day = file.str.extract(_FILE_DAY).str.to_date()
    start = day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    ends = time.max().over(file) >= start + timedelta(days=1)
    starts = time.min().over(file) == start
    usual = day < METRICS_LABEL_CHANGE if feed.market is Market.FUTURES_UM else pl.lit(False)
    return pl.when(ends != starts).then(ends).otherwise(usual)


def known_at_sql(feed: FeedTable) -> str:
    """Return the expression of `known_at_of` in DuckDB's SQL, whose times are naive and UTC."""
    known, time = feed.schema.known, f'"{feed.time}"'
    match known.rule:
        case "candle":
            whole = "microsecond(close_time) % 1000 = 0"
            unit = f"CASE WHEN {whole} THEN INTERVAL 1 MILLISECOND ELSE INTERVAL 1 MICROSECOND END"
            return f"CASE WHEN close_time >= open_time THEN close_time + {unit} END"
        case "latest":
            return f"greatest({time}, {', '.join(feed.schema.time.others)})"
        case "after_period" | "metrics_label":
            period = known.period or timedelta(0)
            later = f"{time} + INTERVAL {period // timedelta(seconds=1)} SECOND"
            if known.rule == "after_period":
                return later
            day = f"CAST(regexp_extract(file, '{_FILE_DAY}', 1) AS DATE)"
            ends = f"max({time}) OVER (PARTITION BY file) >= {day} + INTERVAL 1 DAY"
            starts = f"min({time}) OVER (PARTITION BY file) = {day}"
            usual = "false"
            if feed.market is Market.FUTURES_UM:
                usual = f"{day} < DATE '{METRICS_LABEL_CHANGE}'"
            by_end = f"CASE WHEN ({ends}) <> ({starts}) THEN {ends} ELSE {usual} END"
            return f"CASE WHEN {by_end} THEN {time} ELSE {later} END"
        case _:
            return time
