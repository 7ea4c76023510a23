"""`bak.panel`: one column of many symbols as a wide frame, with a row per time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, overload

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, read_interval
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.symbols import SymbolEvent, crossings
from binance_archive_kit.display import render
from binance_archive_kit.errors import (
    ConfigurationError,
    arguments,
    check_flag,
    field_error,
    warn_user,
)
from binance_archive_kit.export.aligned import Break, CommonTimes, Series, Since
from binance_archive_kit.export.due_rows import Lifetime, count_due, lifetimes_of
from binance_archive_kit.export.symbol_choice import SymbolChoice, choose_symbols
from binance_archive_kit.quality.coverage import check_share
from binance_archive_kit.query.open_store import Source, open_engine
from binance_archive_kit.query.polars_scan import Moment, UniqueRows, first_few, parse_selection
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.cadence import cadence_of
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.suggestions import unknown
from binance_archive_kit.timestamps import DAY, from_day_number, to_datetime, to_day_number

_TIME = pl.Datetime("us", "UTC")
#: Rows up to which symbols are read together.
_ROWS = 2_000_000
#: Largest growth of the number of symbols from one group to the next.
_GROWTH = 4
#: No symbol has rows of an earlier time.
_BEGINNING = datetime(2017, 1, 1)
#: The states of a symbol in a report.
_USED, _LOW, _EMPTY, _MISSING = "used", "low_coverage", "no_rows", "not_in_store"
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "state": pl.Enum([_USED, _LOW, _EMPTY, _MISSING]),
    "first": _TIME,
    "last": _TIME,
    "rows": pl.Int64,
    "due": pl.Int64,
    "coverage": pl.Float64,
    "changes": pl.List(pl.String),
}
_REPORT = pl.Schema(_COLUMNS)


@overload
def panel(
    source: Source,
    market: str,
    interval: str,
    column: str,
    *,
    symbols: str | Iterable[str] | None = None,
    quote: str | Iterable[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    data_type: str = "klines",
    returns: bool = False,
    across_gaps: bool = False,
    min_coverage: float | None = None,
    universe: pl.DataFrame | None = None,
    report: Literal[False] = False,
    **options: Any,
) -> pl.DataFrame: ...
@overload
def panel(
    source: Source,
    market: str,
    interval: str,
    column: str,
    *,
    symbols: str | Iterable[str] | None = None,
    quote: str | Iterable[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    data_type: str = "klines",
    returns: bool = False,
    across_gaps: bool = False,
    min_coverage: float | None = None,
    universe: pl.DataFrame | None = None,
    report: Literal[True],
    **options: Any,
) -> tuple[pl.DataFrame, pl.DataFrame]: ...
@arguments(intervals="interval", store="source")
def panel(
    source: Source,
    market: str,
    interval: str,
    column: str,
    *,
    symbols: str | Iterable[str] | None = None,
    quote: str | Iterable[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    data_type: str = "klines",
    returns: bool = False,
    across_gaps: bool = False,
    min_coverage: float | None = None,
    universe: pl.DataFrame | None = None,
    report: bool = False,
    **options: Any,
) -> pl.DataFrame | tuple[pl.DataFrame, pl.DataFrame]:
    """Load one column of many symbols as a wide frame, with a row per time.

    Parameters
    ----------
    source : str, Path or OpenStore
    market, interval : str
        Such as "futures_um" and "1d".
    column : str
        A column of numbers, such as ``close``.
    symbols : str or iterable of str, optional
        Names, and patterns such as ``"*USDT"``; by default all in the store.
    quote : str or iterable of str, optional
        Only symbols with these quote assets. ``"USDT"`` finds ``BNXUSDTSETTLED`` too.
    start, end : str, date or datetime, optional
        Limits of ``open_time``, UTC; as for `scan`.
    data_type : str
        One of the kline families, as for `load_klines`.
    returns : bool
        Give the simple return since the candle one interval earlier, in place of the value. It
        is null where that candle is missing or zero, and never reaches across a day on which the
        symbol is known to have become another asset or contract.
    across_gaps : bool
        With `returns`, give the return since the latest candle, however long ago.
    min_coverage : float, optional
        Leave out symbols with a smaller share of their due rows, above 0 and at most 1. Rows are
        due at each step of the interval from the first to the last row of the symbol within
        `start` and `end`, both inclusive. As in `coverage`, halts and holes of the archive count
        as missing, and no row is due while a symbol is known not to have been traded.
    universe : polars.DataFrame, optional
        Symbols as `universe` returns them, in place of `symbols`: a frame with the column
        ``symbol``. Those that the store does not have are reported. If it has ``first``,
        ``last`` and ``ended``, rows are also due that the store lacks at either end: from the
        month after ``first``, until ``last`` (until its month begins, for an ended symbol).
    report : bool
        Return a second frame, which says what became of each symbol.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        ``open_time`` (``Datetime("us", "UTC")``), then a ``Float64`` column per symbol, sorted by
        name. A row per step of the interval, from the first to the last candle of any symbol; a
        missing candle is null. Values other than ``open`` are known when the candle closes: one
        interval after ``open_time``. To trade on them, shift them by a row.
    polars.DataFrame
        With ``report=True``, a row per requested symbol: ``symbol``; ``state`` (``used``, or
        left out because of ``low_coverage``, ``no_rows`` in the range, or ``not_in_store``);
        ``first`` and ``last`` (times of its rows); ``rows`` and ``due`` (numbers),
        ``coverage`` (0 to 1; null if nothing is due), and ``changes`` (known renames and reuses
        within the range, in words). Without it, a warning names the symbols that are left out,
        except those of the store that have no rows in the range.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, the store has no such candles, or no symbol is left.
    FileError
        If two candles with one open time differ (reason ``conflicting_rows``); with
        ``on_error="skip"`` both are left out. Also if a file is invalid.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> closes = bak.panel(
    ...     "data/research", "futures_um", "1d", "close", quote="USDT"
    ... )  # doctest: +SKIP
    """
    for name, value in (("returns", returns), ("across_gaps", across_gaps), ("report", report)):
        check_flag(name, value)
    if across_gaps and not returns:
        raise field_error("across_gaps", "it applies to returns; add returns=True")
    least = None if min_coverage is None else check_share(min_coverage)
    engine = open_engine(source, options)
    feed = engine.feed(market, data_type)
    known_interval = _check_names(feed, interval, column)
    choice = choose_symbols(engine, feed, known_interval, symbols, quote, universe)
    selection = parse_selection(engine, feed, choice.stored, known_interval, start, end)
    rows = UniqueRows(engine)
    series = dict(read_series(rows, feed, selection, column))
    rows.warn()
    table = _Table(feed, known_interval, selection, lifetimes_of(universe))
    found = table.report(series, choice, least)
    if not (used := _names(found, _USED)):
        between = f"between {start or 'its beginning'} and {end or 'its end'}"
        raise _nothing_left(found, least, between)
    since: Since | None = None
    if returns:
        since = "latest" if across_gaps else "step"
    frame = table.to_frame({name: series.pop(name) for name in used}, since)
    if report:
        return frame, found
    if symbols is None and universe is None:
        # Not all symbols of a store exist at any time.
        found = found.filter(pl.col("state") != _EMPTY)
    _warn(found, least, table.broken(used))
    return frame


def _check_names(feed: FeedTable, interval: str, column: str) -> Interval:
    """Return the interval; raise unless the feed has candles with such a column of numbers."""
    if not feed.data_type.has_intervals:
        families = [each for each in DataType if each.has_intervals]
        raise ConfigurationError(unknown("data_type", feed.data_type, families))
    numbers = [name for name, dtype in feed.columns.items() if dtype.is_numeric()]
    if column not in numbers:
        raise ConfigurationError(unknown("column", column, numbers))
    return read_interval(interval)


def read_series(
    rows: UniqueRows, feed: FeedTable, selection: Selection, column: str
) -> Iterator[tuple[str, Series]]:
    """Read the values of each symbol, in groups of symbols with `_ROWS` rows at most, if it can."""
    symbols = sorted(selection.symbols or ())
    size = max(_ROWS // _most_rows(feed, selection), 1)
    while symbols:
        group, symbols = symbols[:size], symbols[size:]
        found = replace(selection, symbols=frozenset(group))
        frame = rows.read(feed, found, columns=[column])
        times = frame[feed.time].to_physical().to_numpy()
        values = frame[column].cast(pl.Float64).to_numpy()
        start = longest = 0
        for count, symbol in frame["symbol"].rle().struct.unnest().rows():
            end = start + count
            yield symbol, Series(times[start:end], values[start:end])
            start, longest = end, max(longest, count)
        # Other symbols may have more rows than these.
        size = min(max(size, _ROWS // max(longest, 1)), _GROWTH * size)


def _most_rows(feed: FeedTable, selection: Selection) -> int:
    """Return how many rows a symbol may have, without a look at its files."""
    interval = Interval(next(iter(selection.intervals or ())))
    step = cadence_of(feed.market, feed.data_type, interval).step
    start = selection.start or _BEGINNING
    end = selection.end or datetime.now(UTC).replace(tzinfo=None)
    return max((end - start) // timedelta(microseconds=step if step > 0 else 30 * DAY), 1)


class _Table:
    """The report and the frame of a panel.

    Parameters
    ----------
    feed : FeedTable
    interval : Interval
    selection : Selection
    lifetimes : mapping of str to Lifetime
        Of symbols, as far as a universe says it.
    """

    def __init__(
        self,
        feed: FeedTable,
        interval: Interval,
        selection: Selection,
        lifetimes: Mapping[str, Lifetime],
    ) -> None:
        self._feed = feed
        self._interval = interval
        self._cadence = cadence_of(feed.market, feed.data_type, interval)
        self._selection = selection
        self._lifetimes = lifetimes
        #: Known changes that the rows of a symbol cross, by symbol.
        self._changes: dict[str, list[SymbolEvent]] = {}

    def report(
        self, series: Mapping[str, Series], choice: SymbolChoice, least: float | None
    ) -> pl.DataFrame:
        """Return a row for each symbol, with `_REPORT`."""
        rows: list[tuple[object, ...]] = []
        for symbol in choice.stored:
            if symbol not in series:
                rows.append((symbol, _EMPTY, None, None, 0, None, None, []))
                continue
            times = series[symbol].times
            stream = Stream(self._feed.market, self._feed.data_type, symbol, self._interval)
            counts = count_due(
                stream, self._cadence, times, self._selection, self._lifetimes.get(symbol)
            )
            share = counts.coverage
            is_low = least is not None and share is not None and share < least
            first, last = (from_day_number(int(time) // DAY) for time in times[[0, -1]])
            changes = self._changes[symbol] = crossings(self._feed.market, symbol, first, last)
            ends = to_datetime(int(times[0])), to_datetime(int(times[-1]))
            state = _LOW if is_low else _USED
            rows.append((symbol, state, *ends, len(times), counts.due, share, [*map(str, changes)]))
        rows += ((name, _MISSING, None, None, 0, None, None, []) for name in choice.missing)
        return pl.DataFrame(rows, schema=_REPORT, orient="row").sort("symbol")

    def to_frame(self, series: dict[str, Series], since: Since | None) -> pl.DataFrame:
        """Return the wide frame; `series` is used up."""
        common = CommonTimes(series.values(), self._cadence)
        columns = [pl.Series(self._feed.time, common.times).cast(_TIME)]
        for symbol in sorted(series):
            own = series.pop(symbol)
            values = common.place(own)
            if since is not None:
                values = common.returns(values, since, self._breaks(symbol))
            columns.append(pl.Series(symbol, values, nan_to_null=True))
        return pl.DataFrame(columns)

    def _breaks(self, symbol: str) -> list[Break]:
        spans = [event.new_begins for event in self._changes[symbol] if event.kind != "renamed"]
        return [Break(*(to_day_number(day) * DAY for day in span)) for span in spans if span]

    def broken(self, symbols: Iterable[str]) -> dict[str, SymbolEvent]:
        """Return the symbols that stand for something else within the range, with the change."""
        return {
            symbol: event
            for symbol in symbols
            for event in self._changes[symbol]
            if event.kind != "renamed"
        }


def _names(report: pl.DataFrame, state: str) -> list[str]:
    return report.filter(pl.col("state") == state)["symbol"].to_list()


def _nothing_left(report: pl.DataFrame, least: float | None, between: str) -> ConfigurationError:
    """Return the error for a panel without symbols."""
    best = report.drop_nulls("coverage").sort("coverage", descending=True)
    if not best.height or least is None:
        names = first_few(_names(report, _EMPTY))
        return field_error("start", f"the store has no candle {between} of {names}", label="")
    symbol, share = best.select("symbol", "coverage").row(0)
    message = f"no symbol has {least:.4%} of its rows; the best, {symbol}, has {share:.4%}"
    return field_error("min_coverage", message)


def _warn(report: pl.DataFrame, least: float | None, broken: Mapping[str, SymbolEvent]) -> None:
    """Name the symbols that are left out, and those that changed."""
    low = report.filter(pl.col("state") == _LOW).sort("coverage")
    words = {
        f"with less than {least} of their rows": [
            f"{symbol} ({share:.2%})" for symbol, share in low.select("symbol", "coverage").rows()
        ],
        "without a row in this range": _names(report, _EMPTY),
        "of the universe, not in the store": _names(report, _MISSING),
    }
    parts = [
        f"{render.counted(len(names), 'symbol')} {what}: {first_few(names)}"
        for what, names in words.items()
        if names
    ]
    if parts:
        warn_user(f"left out {'; '.join(parts)}; report=True returns all of them")
    if broken:
        what = "stands for something else" if len(broken) == 1 else "stand for something else"
        warn_user(
            f"{render.counted(len(broken), 'symbol')} {what} from some day of the range on, so "
            f"that values before and after cannot be compared: {first_few([*broken])}; such as "
            f"{next(iter(broken.values()))}"
        )
