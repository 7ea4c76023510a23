"""Join a feed to a frame without look-ahead: `known_at` and `join_known`.

A row is joined to a decision only if a live participant could have had it by then. The
schemas say when that was (`schemas.Known`): a candle at its close, metrics at the end of
their five minutes whichever way they are labelled, an hourly summary at the end of its
hour, all others at their own time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any, Final

import polars as pl

from binance_archive_kit.archive.enums import read_names
from binance_archive_kit.archive.schemas import read_feed
from binance_archive_kit.errors import arguments, field_error, shown
from binance_archive_kit.query.known_rows import (
    SYMBOL,
    TIME,
    FeedRows,
    FrameRows,
    as_utc,
    check_column,
)
from binance_archive_kit.query.open_store import Source, open_engine
from binance_archive_kit.reading.feed_table import feed_table
from binance_archive_kit.reading.known_times import KNOWN_AT, columns_needed, known_at_of

#: Values of `known_status`: whether a value was known, and if not, why.
STATUSES: Final = ("known", "not_yet_known", "too_old", "no_rows", "no_time")
KNOWN_STATUS: Final = "known_status"
#: Names of temporary columns.
_ROW, _AT, _SLOT, _EXPIRES = "__row", "__at", "__slot", "__expires"
#: Longer than the age of the archive; None allows any age.
_LONGEST = timedelta(days=366_000)
_LENGTH = re.compile(r"([0-9]{1,7})(ms|s|m|h|d|w)")
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def known_at(frame: pl.DataFrame, market: str, data_type: str) -> pl.DataFrame:
    """Add the time at which each row was known to a live participant.

    This is the earliest time at which the row could be known live, not its publication in the
    archive a day later. ``scan(..., known_at=True)`` does the same lazily.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows of one feed with the columns that determine the result: the time column of the feed;
        for candles ``open_time`` and ``close_time``; for metrics also ``file``, with all rows of
        each file. They show whether labels are starts or ends.
    market, data_type : str
        Such as "futures_um" and "metrics".

    Returns
    -------
    polars.DataFrame
        `frame` with the column ``known_at``, ``Datetime("us", "UTC")``; null where the times of
        a row contradict each other.

    Raises
    ------
    ConfigurationError
        If the archive has no such feed, a column is missing, or times have no zone.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> hour = datetime(2023, 10, 20, 7, tzinfo=UTC)
    >>> frame = known_at(pl.DataFrame({"time": [hour]}), "options", "EOHSummary")
    >>> str(frame["known_at"][0])
    '2023-10-20 08:00:00+00:00'
    """
    feed = feed_table(*read_feed(market, data_type))
    frame = _collected("frame", frame)
    for name in columns_needed(feed):
        if name not in frame.columns:
            raise field_error(
                "frame",
                f"no column {name!r}, from which known_at of {feed.view} is computed; "
                f"it has {', '.join(frame.columns)}",
            )
    times = [name for name in columns_needed(feed) if name != "file"]
    aware = frame.with_columns(
        as_utc(frame.schema, name, "frame", f"frame: {name}") for name in times
    )
    return frame.with_columns(aware.select(known_at_of(feed).cast(TIME)).to_series())


@arguments(symbols="symbol", intervals="interval", store="source")
def join_known(
    left: pl.DataFrame | pl.LazyFrame,
    source: Source | pl.DataFrame | pl.LazyFrame,
    market: str | None = None,
    data_type: str | None = None,
    *,
    on: str | pl.Expr = "open_time",
    symbol: str | Mapping[str, str] | None = None,
    interval: str | None = None,
    where: pl.Expr | None = None,
    by: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    tolerance: timedelta | str | None = "due",
    suffix: str | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Join to each row the latest row of a feed that a live participant knew at that time.

    For each row of `left` this is the latest row of the feed whose ``known_at`` is at or
    before the time that `on` gives. Rows that were known later never change the result.

    Parameters
    ----------
    left : polars.DataFrame or polars.LazyFrame
        One row for each decision; in any order, which is kept.
    source : str, Path, OpenStore, polars.DataFrame or polars.LazyFrame
        The folder or URL of a store, or an open store; or a frame of any rows with a column
        ``known_at``, such as a filtered ``scan(..., known_at=True)``.
    market, data_type : str
        The feed to join, such as "futures_um" and "metrics"; None if `source` is a frame.
    on : str or polars.Expr
        Time of each decision, with a time zone: a column of `left` or an expression. A
        candle's own close is not known at its ``open_time``: decide at ``open_time`` with
        what was known then, or at ``pl.col("open_time") + timedelta(hours=1)``.
    symbol : str or mapping of str to str, optional
        One feed symbol for all rows, or a mapping from symbols of `left` to feed symbols, such
        as ``{"BTCUSDT": "BTCUSD_PERP"}``. By default the column ``symbol`` of `left`.
    interval : str, optional
        The interval of candles to join; needed only if the store has several.
    where : polars.Expr, optional
        Condition on the rows of the feed, such as ``pl.col("percentage") == -1``.
    by : str or sequence of str
        Columns besides the symbol that must be equal on both sides, such as
        ``option_symbol``.
    columns : str or sequence of str, optional
        Columns of the feed to join; None for all except the path columns.
    tolerance : timedelta, str or None
        The largest age of a row, as ``"90m"`` or a timedelta; None for any age. Older rows
        are not joined. ``"due"`` depends on the feed:

        - regular feeds, such as candles: one step plus a minute (funding: the hours that its
          row states, plus a minute)
        - ``bookDepth``, ``BVOLIndex``: 20 steps
        - others: one day
    suffix : str, optional
        Added to the names of joined columns that `left` has too; by default ``_`` and the
        data type.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        The rows of `left`, in the same number and order, with ``known_at``
        (``Datetime("us", "UTC")``), the columns of the feed, and ``known_status`` (an Enum):

        - ``known``: the values were known at ``known_at``; for all others they are null.
        - ``not_yet_known``: the store has no row that was known by then.
        - ``too_old``: the store has earlier rows, but none within `tolerance`.
        - ``no_rows``: the store has no files of this symbol.
        - ``no_time``: the time of the decision is null.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, times have no zone, or a symbol or interval is not in the
        store. Also if `where` and `by` leave several rows for one symbol and time, such as one
        per percentage.
    FileError
        If a file is invalid, its rows do not fit its name, or two rows of one symbol and time
        differ; ``on_error="skip"`` leaves such files and rows out.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> def with_open_interest(folder: str) -> pl.DataFrame:
    ...     candles = bak.load_klines(folder, "BTCUSDT", "1h", market="futures_um")
    ...     return bak.join_known(
    ...         candles, folder, "futures_um", "metrics", symbol="BTCUSDT",
    ...         columns=["sum_open_interest"],
    ...     )
    """
    frame = _collected("left", left)
    groups = _names("by", by)
    rows: FeedRows | FrameRows
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        given = {"market": market, "data_type": data_type, "interval": interval} | options
        if names := [name for name, value in given.items() if value is not None]:
            label = ", ".join(names)
            raise field_error(names[0], "not for a frame of rows; leave it out", label)
        rows = FrameRows(source.lazy(), where)
    else:
        rows = FeedRows(open_engine(source, options), market, data_type, where)
    columns = rows.columns if columns is None else _names("columns", columns)
    for name in groups:
        check_column("by", name, frame.columns, "left")
        check_column("by", name, rows.names, rows.title)
    for name in columns:
        check_column("columns", name, rows.names, rows.title)
    columns = [name for name in columns if name not in groups]
    decisions = frame.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias(_ROW),
        _times(frame, on),
        _symbols(frame, symbol, rows),
        *groups,
    )
    symbols = decisions[SYMBOL].drop_nulls().unique().to_list()
    rows.choose(symbols, interval, named=symbol is not None)
    is_due = tolerance == "due"
    age = rows.age if is_due else _parse_tolerance(tolerance)
    expires = rows.expires if is_due else None
    found = _joined(decisions, rows, [SYMBOL, *groups], columns, age, expires)
    new = found.select(KNOWN_AT, KNOWN_STATUS, *columns)
    return _appended(frame, new, rows.suffix if suffix is None else suffix)


def _appended(frame: pl.DataFrame, new: pl.DataFrame, suffix: str) -> pl.DataFrame:
    """Append columns, with a suffix where a name is taken."""
    names = {name: f"{name}{suffix}" if name in frame.columns else name for name in new.columns}
    if taken := [name for name in names.values() if name in frame.columns]:
        raise field_error("suffix", f"{suffix!r} makes {taken[0]!r}, which left has already")
    return frame.hstack(new.rename(names))


def _joined(
    decisions: pl.DataFrame,
    rows: FeedRows | FrameRows,
    keys: list[str],
    columns: list[str],
    age: timedelta | None,
    expires: pl.Expr | None,
) -> pl.DataFrame:
    """Return the row that each decision saw, in the order of the decisions, with its status."""
    ends = pl.lit(None, TIME) if expires is None else expires
    timed = decisions.drop_nulls(_AT).sort(_AT)
    times = timed[_AT].unique().sort()
    names = dict.fromkeys([*keys, KNOWN_AT, *columns, *rows.order, *ends.meta.root_names()])
    if isinstance(rows, FeedRows):
        names |= dict.fromkeys([*rows.feed.schema.series, "file"])
    # Of the rows known between two decisions only the last can be seen, so few are kept.
    kept: list[pl.DataFrame] = []
    for batch in chain([rows.nothing().select(*names)], rows.batches(times, age, [*names])):
        found = rows.unique(batch.drop_nulls(KNOWN_AT), keys)
        slot = times.search_sorted(found[KNOWN_AT], side="left")
        kept.append(
            found.with_columns(pl.Series(_SLOT, slot, dtype=pl.UInt32))
            .filter(pl.col(_SLOT) < len(times))
            .sort(KNOWN_AT, *rows.order, maintain_order=True)
            .unique([*keys, _SLOT], keep="last", maintain_order=True)
            .drop(_SLOT)
        )
    latest = pl.concat(kept).sort(KNOWN_AT, maintain_order=True)
    latest = latest.select(*keys, KNOWN_AT, *columns, ends.alias(_EXPIRES))
    seen = timed.join_asof(
        latest,
        left_on=_AT,
        right_on=KNOWN_AT,
        by=keys,
        tolerance=age,
        coalesce=False,
        check_sortedness=False,
    )
    fresh = seen.filter((pl.col(_AT) <= pl.col(_EXPIRES)).fill_null(True))
    found = decisions.join(fresh.select(_ROW, KNOWN_AT, *columns), on=_ROW, how="left").sort(_ROW)
    return found.with_columns(_status(found, rows))


def _status(found: pl.DataFrame, rows: FeedRows | FrameRows) -> pl.Series:
    """Return the status of each row: whether a value was known, and if not, why.

    It depends only on rows known by then, and on the symbols that the store has files of.
    """
    doubtful = found.filter(pl.col(KNOWN_AT).is_null() & pl.col(_AT).is_not_null())
    first = {
        symbol: rows.first_known(symbol) if symbol in rows.symbols else None
        for symbol in doubtful[SYMBOL].drop_nulls().unique()
    }
    since = pl.col(SYMBOL).replace_strict(first, default=None, return_dtype=TIME)
    return found.select(
        pl.when(pl.col(_AT).is_null())
        .then(pl.lit("no_time"))
        .when(pl.col(KNOWN_AT).is_not_null())
        .then(pl.lit("known"))
        .when(~pl.col(SYMBOL).is_in(rows.symbols).fill_null(False))
        .then(pl.lit("no_rows"))
        .when(since <= pl.col(_AT))
        .then(pl.lit("too_old"))
        .otherwise(pl.lit("not_yet_known"))
        .cast(pl.Enum(STATUSES))
        .alias(KNOWN_STATUS)
    ).to_series()


def _collected(field: str, frame: object) -> pl.DataFrame:
    """Return a frame of Polars, collected; a ConfigurationError for anything else."""
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, pl.DataFrame):
        raise field_error(
            field,
            f"a {type(frame).__name__} is not a frame of Polars; "
            "make one of it first with polars.DataFrame(...)",
        )
    return frame


def _names(field: str, names: str | Sequence[str]) -> list[str]:
    """List the names of columns, which may be none."""
    empty = isinstance(names, Sequence) and not isinstance(names, str) and not names
    return [] if empty else read_names(field, names)


def _times(frame: pl.DataFrame, on: str | pl.Expr) -> pl.Series:
    """Return the time of each decision, UTC."""
    if isinstance(on, str):
        check_column("on", on, frame.columns, "left")
        on = pl.col(on)
    if not isinstance(on, pl.Expr):
        raise field_error("on", f"{shown(on)} is neither a column nor an expression")
    try:
        found = frame.with_columns(on.alias(_AT)).select(_AT)
    except pl.exceptions.PolarsError as error:
        raise field_error("on", f"not possible with left: {error}") from None
    return found.select(as_utc(found.schema, _AT, "on")).to_series()


def _symbols(
    frame: pl.DataFrame, symbol: str | Mapping[str, str] | None, rows: FeedRows | FrameRows
) -> pl.Series:
    """Return the symbol of the feed for each row of the left frame."""
    if symbol is not None and not (
        isinstance(symbol, str)
        or (isinstance(symbol, Mapping) and all(isinstance(s, str) for s in symbol.values()))
    ):
        raise field_error(
            "symbol",
            f"{shown(symbol)} is neither a name nor a mapping of names to names; several symbols "
            "are joined by the column 'symbol' of left",
        )
    if isinstance(symbol, str):
        return pl.repeat(symbol, frame.height, eager=True, dtype=pl.String).alias(SYMBOL)
    if not rows.has_symbols:
        if symbol is None:
            return pl.repeat("", frame.height, eager=True, dtype=pl.String).alias(SYMBOL)
        raise field_error("symbol", f"{rows.title} has no column 'symbol'")
    if "symbol" not in frame.columns:
        raise field_error(
            "symbol", f"left has no column 'symbol'; name the one of {rows.title} to join"
        )
    symbols = frame["symbol"].cast(pl.String).alias(SYMBOL)
    if symbol is None:
        return symbols
    if absent := sorted(set(symbols.drop_nulls()) - set(symbol)):
        raise field_error("symbol", f"the mapping has no {absent[0]!r}, which left has")
    return symbols.replace_strict(dict(symbol), return_dtype=pl.String)


def _parse_tolerance(value: timedelta | str | None) -> timedelta | None:
    given = value
    if isinstance(value, str) and (found := _LENGTH.fullmatch(value)) is not None:
        value = int(found[1]) * _UNITS[found[2]]
    if value is not None and not (isinstance(value, timedelta) and value <= _LONGEST):
        raise field_error(
            "tolerance",
            f"{shown(given)} is not a length of time; write 'due', '90m', '8h' or '1d', or give a "
            "timedelta",
        )
    if value is not None and value < timedelta(0):
        raise field_error("tolerance", f"{value} is negative")
    return value
