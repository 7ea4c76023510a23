"""Load candles for research: one row each, resampled, or joined with funding.

Everything is loaded for one symbol or several, each on its own. A row that the store has
more than once is returned once if all its values are equal, and rejected if they differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import polars as pl

from binance_archive_kit.archive.enums import DataType, read_interval, read_names
from binance_archive_kit.errors import ConfigurationError, arguments, field_error, warn_user
from binance_archive_kit.query.bars import best_bars, find_candidates, phase_of, read_length
from binance_archive_kit.query.open_store import Source, open_engine
from binance_archive_kit.query.polars_scan import Moment, UniqueRows, first_few, parse_selection
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.storage.inventory import Symbols
from binance_archive_kit.suggestions import unknown

#: How late a funding may be before the one before it is no longer known to be valid.
_LATE = timedelta(minutes=1)
#: The parameters that `parse_selection` and `Engine` call differently.
_NAMES = {"symbols": "symbol", "intervals": "interval", "store": "source"}
#: Names of temporary columns.
_ROW, _STALE = "__row", "__stale"


@arguments(**_NAMES)
def load_klines(
    source: Source,
    symbol: str | Iterable[str],
    interval: str | Iterable[str],
    *,
    market: str = "spot",
    data_type: str = "klines",
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Load the candles of one symbol or several.

    Parameters
    ----------
    source : str, Path or OpenStore
    symbol, interval : str or iterable of str
        One name, or a collection of names. For several, a column with the name is added.
    market : str
    data_type : str
        One of the kline families: ``klines``, ``markPriceKlines``, ``indexPriceKlines``,
        ``premiumIndexKlines``.
    start, end : str, date or datetime, optional
        Limits of ``open_time``, UTC; as for `scan`.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        The columns of the feed, with ``symbol`` or ``interval`` first if several were
        requested; times are ``Datetime("us", "UTC")``, prices and amounts ``Float64``. One row
        for each candle in the store, sorted by symbol, interval and ``open_time``. Missing
        candles are not filled in. Exact duplicates are dropped with a warning.

    Raises
    ------
    ConfigurationError
        If the store has no such candles.
    FileError
        If two candles with one open time differ (reason ``conflicting_rows``); with
        ``on_error="skip"`` both are left out. Also if a file is invalid, or its rows do not fit
        its name.
    """
    rows = UniqueRows(open_engine(source, options))
    feed = rows.engine.feed(market, data_type)
    candles = _Candles(rows, feed, symbol, _intervals(interval), start, end).load()
    rows.warn()
    return candles.drop(_single(symbol, interval))


@arguments(**_NAMES)
def ohlcv(
    source: Source,
    symbol: str | Iterable[str],
    every: str,
    *,
    market: str = "spot",
    start: Moment | None = None,
    end: Moment | None = None,
    interval: str | Iterable[str] | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Build candles of any length from shorter ones.

    Each bar is built from the interval with the most complete candles for it. Among equal ones, the
    interval whose files cover more days is used, then the shorter one. `every` must be a whole
    multiple of the interval.

    Parameters
    ----------
    source : str, Path or OpenStore
    symbol : str or iterable of str
        One name, or a collection of names. For several, a column with the name is added.
    every : str
        Length of a bar: a number and ``s``, ``m``, ``h``, ``d``, ``w``, ``mo``, ``q`` or
        ``y``, such as ``"90m"``, ``"4h"``, ``"1d"``, ``"1w"`` or ``"1mo"`` (also ``"1M"``).
        Bars begin at multiples of it since 1970-01-01 00:00 UTC. Bars of whole weeks begin on
        Mondays, counted from 1970-01-05 (``7d`` is ``1w``). Bars of ``3d`` begin where the
        symbol's own 3d candles begin, if the store has any.
    market : str
    start, end : str, date or datetime, optional
        Limits of the candles' ``open_time``, UTC; as for `scan`. A bar cut by a limit has
        fewer candles than expected.
    interval : str or iterable of str, optional
        The interval of the candles to build bars from. Of several, each gives its own bars.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        ``symbol`` first if several were requested; ``open_time`` (``Datetime("us", "UTC")``),
        ``open``, ``high``, ``low``, ``close``, and the sums of volumes and counts; ``candles``
        (number used), ``expected_candles`` (number in a whole bar) and ``interval`` (of the
        candles used); ``vwap`` (quote volume / volume; not for COIN-M, whose volume is in
        contracts). There is no row for a bar without any candle.

    Raises
    ------
    ConfigurationError
        If `every` is not a length of time, or the store has no candles that fit into it.
    FileError
        If two candles with one open time differ (reason ``conflicting_rows``); with
        ``on_error="skip"`` both are left out.
    """
    length = read_length(every)
    engine = open_engine(source, options)
    feed = engine.feed(market, DataType.KLINES)
    rows = UniqueRows(engine)
    intervals = None if interval is None else _intervals(interval)
    candles = _Candles(rows, feed, symbol, intervals, start, end)
    bars: list[pl.DataFrame] = []
    empty = []
    for name in candles.symbols:
        streams = engine.folders(feed, name.__eq__)
        of_symbol = replace(candles.selection, symbols=frozenset([name]))
        candidates = find_candidates(streams, of_symbol, length)
        grid = replace(length, phase=phase_of(rows, feed, streams, length))
        groups = [candidates] if interval is None else [[each] for each in candidates]
        found = [best_bars(rows, feed, of_symbol, group, grid) for group in groups]
        if not any(frame is not None for frame in found):
            empty.append(name)
        bars += (frame for frame in found if frame is not None)
    if empty:
        candles.report_empty(empty, found=bool(bars))
    rows.warn()
    frame = pl.concat(bars)
    if "quote_volume" in frame.columns:
        # A candle without trades has no mean price.
        traded = pl.when(pl.col("volume") > 0).then(pl.col("volume"))
        frame = frame.with_columns((pl.col("quote_volume") / traded).alias("vwap"))
    return frame.drop("symbol") if isinstance(symbol, str) else frame


@arguments(**_NAMES)
def klines_with_funding(
    source: Source,
    symbol: str | Iterable[str],
    interval: str | Iterable[str],
    *,
    market: str = "futures_um",
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Load candles, each with the latest funding that was known when it opened.

    A funding rate is known from its ``calc_time`` on, some milliseconds after the hour, so it
    is not joined to the candle that opens at that hour. The candle's own columns are known
    only when it closes.

    Parameters
    ----------
    source, symbol, interval, market, start, end, **options
        As for `load_klines`.

    Returns
    -------
    polars.DataFrame
        As `load_klines`, with ``calc_time``, ``funding_interval_hours`` and
        ``last_funding_rate`` of the symbol's latest funding at or before ``open_time``. They
        are null if the store has no earlier funding, or if a later one was due after
        ``funding_interval_hours`` and is missing.

    Raises
    ------
    ConfigurationError
        If the store has no such candles, or no funding of a symbol.
    FileError
        If two candles with one open time differ, or two fundings with one time (reason
        ``conflicting_rows``); with ``on_error="skip"`` both are left out. Also if a file is
        invalid, or its rows do not fit its name.
    """
    engine = open_engine(source, options)
    rows = UniqueRows(engine)
    feed = engine.feed(market, DataType.KLINES)
    candles = _Candles(rows, feed, symbol, _intervals(interval), start, end).load()
    feed = engine.feed(market, DataType.FUNDING_RATE)
    fundings = rows.read(feed, parse_selection(engine, feed, read_names("symbol", symbol)))
    rows.warn()
    stale = pl.col("calc_time") + pl.duration(hours="funding_interval_hours") + _LATE
    joined = (
        candles.with_row_index(_ROW)
        .sort("open_time")
        .join_asof(
            fundings.with_columns(stale.alias(_STALE)).sort("calc_time"),
            left_on="open_time",
            right_on="calc_time",
            by="symbol",
            coalesce=False,
            check_sortedness=False,
        )
        .sort(_ROW)
    )
    fresh = pl.when(pl.col("open_time") < pl.col(_STALE))
    names = [name for name in fundings.columns if name != "symbol"]
    joined = joined.with_columns(fresh.then(pl.col(name)).alias(name) for name in names)
    return joined.drop(_ROW, _STALE, *_single(symbol, interval))


def _intervals(interval: str | Iterable[str]) -> list[str]:
    """Parse one interval or several; drop duplicates."""
    return list(dict.fromkeys(map(read_interval, read_names("interval", interval))))


def _single(symbol: object, interval: object) -> list[str]:
    """Return the columns that are constant because the caller gave one name."""
    given = {"symbol": symbol, "interval": interval}
    return [name for name, words in given.items() if isinstance(words, str)]


class _Candles:
    """The candles that a caller asks for.

    Parameters
    ----------
    rows : UniqueRows
    feed : FeedTable
    symbol : str or iterable of str
    intervals : list of str or None
        The store must have each of them of each symbol; None for all that it has.
    start, end : str, date or datetime, optional
    """

    def __init__(
        self,
        rows: UniqueRows,
        feed: FeedTable,
        symbol: str | Iterable[str],
        intervals: list[str] | None,
        start: Moment | None,
        end: Moment | None,
    ) -> None:
        if not feed.data_type.has_intervals:
            families = [each for each in DataType if each.has_intervals]
            raise ConfigurationError(unknown("data_type", feed.data_type, families))
        self._rows, self._engine, self._feed = rows, rows.engine, feed
        self.symbols = sorted(read_names("symbol", symbol))
        self._intervals = intervals or []
        self.selection = parse_selection(self._engine, feed, self.symbols, intervals, start, end)
        folders = self._engine.names(feed, Symbols(self.symbols))
        known = {(folder.symbol, folder.interval) for folder in folders}
        for name in self.symbols:
            if any((name, each) not in known for each in self._intervals):
                parse_selection(self._engine, feed, name, intervals, start, end)
        self._between = f"between {start or 'its beginning'} and {end or 'its end'}"

    def load(self) -> pl.DataFrame:
        """Load them by symbol, interval and time, with both names as columns."""
        candles = self._rows.read(self._feed, self.selection)
        found = set(candles.select("symbol", "interval").unique().rows())
        wanted = product(self.symbols, self._intervals)
        if empty := [" ".join(names) for names in wanted if names not in found]:
            self.report_empty(empty, found=bool(found))
        return candles

    def report_empty(self, empty: list[str], *, found: bool) -> None:
        """Raise if there are no candles at all; warn if some symbols have none.

        Parameters
        ----------
        empty : list of str
            Symbols, or symbols and intervals, that have files and no candle of that time.
        found : bool
            Whether others have candles.
        """
        files = [
            file
            for stored in self._engine.folders(self._feed, self.symbols.__contains__)
            if not self._intervals or stored.folder.interval in self._intervals
            for file in stored.files
        ]
        bad = [file.path for file in files if file.path in self._engine.problems]
        left_out = f"; files that cannot be read are left out: {first_few(bad)}" if bad else ""
        names = first_few(empty)
        if not found:
            raise field_error(
                "symbol",
                f"the store has files of {min(f.start for f in files)} to "
                f"{max(f.end for f in files)}, and no candle {self._between}{left_out}",
                label=names,
            )
        warn_user(f"no candle {self._between} of {names}{left_out}")
