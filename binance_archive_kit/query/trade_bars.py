"""`bak.volume_bars` and `bak.dollar_bars`: bars that trades close, not the clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

import polars as pl

from binance_archive_kit.archive.annotations import load_annotations
from binance_archive_kit.archive.enums import DataType, Market, read_names
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.symbols import crossings
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import (
    ConfigurationError,
    WrongValues,
    arguments,
    field_error,
    shown,
    warn_user,
)
from binance_archive_kit.query.bar_builder import BarBuilder, Measure
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.file_lookup import days_between
from binance_archive_kit.query.open_store import Source, open_engine
from binance_archive_kit.query.polars_scan import (
    Moment,
    UniqueRows,
    first_few,
    parse_selection,
    read_batches,
    scan_feed,
)
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.cadence import cadence_of
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.suggestions import unknown
from binance_archive_kit.timestamps import format_time

_NAMES = {"symbols": "symbol", "store": "source"}
#: Our names for columns that the feeds call differently.
_COLUMNS = {
    DataType.TRADES: {"id": "id", "time": "time", "quantity": "qty"},
    DataType.AGG_TRADES: {"id": "agg_trade_id", "time": "transact_time", "quantity": "quantity"},
}
#: Columns of the result; not all feeds have all of them.
_RESULT = (
    *("open_time", "close_time", "open", "high", "low", "close"),
    *("volume", "quote_volume", "base_volume", "trades", "taker_buy_volume"),
    *("missing_ids", "missing_days", "complete"),
)
_MICROSECOND = timedelta(microseconds=1)


@arguments(**_NAMES)
def volume_bars(
    source: Source,
    symbol: str | Iterable[str],
    volume: float | Decimal,
    *,
    market: str = "spot",
    data_type: str = "aggTrades",
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Build bars of equal volume from trades.

    A bar is closed by the trade with which its volume reaches `volume`. This trade belongs to
    the bar as a whole and is never split, so bars have at least that volume, and the next one
    begins with the next trade. With ``aggTrades`` the same holds for a whole aggregate. Trades
    are in the order of time, and those of one time in the order of their ids. Amounts are added
    up exactly: no bar depends on the rounding of floats.

    Parameters
    ----------
    source : str, Path or OpenStore
    symbol : str or iterable of str
        One name, or a collection of names. For several, a column with the name is added.
    volume : float or Decimal
        In the base asset; on COIN-M in contracts.
    market : str
    data_type : str
        ``"aggTrades"`` or ``"trades"``.
    start, end : str, date or datetime, optional
        Limits of the time of trades, UTC; as for `scan`. The first bar begins with the first
        trade, so another `start` gives other bars.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        A row for each bar, sorted by symbol and time. No value uses a trade after
        ``close_time``, at which all values of a complete bar are known:

        - ``open_time``, ``close_time``: times of the first and the last trade,
          ``Datetime("us", "UTC")``
        - ``open``, ``high``, ``low``, ``close``: prices (``Float64``)
        - ``volume``, ``taker_buy_volume`` (bought by takers): in the base asset, on COIN-M in
          contracts. The second is null where the files are known to be wrong about the side.
        - ``quote_volume``: sum of price times quantity, in the quote asset. For ``trades`` of
          COIN-M ``base_volume``, in the base asset; neither for ``aggTrades`` of COIN-M.
        - ``trades``: number of trades, also of those within aggregates
        - ``missing_ids``: ids that the store lacks, from the last trade of the bar before to
          the last one of this bar. Null where ids are not consecutive: for ``trades`` of
          futures, and where they begin again.
        - ``missing_days``: UTC days without a file, between the same trades
        - ``complete``: False for the last bar of a symbol, unless its volume was reached: it
          may still change, and is known only as far as the store's trades go

    Raises
    ------
    ConfigurationError
        If an argument is invalid, or the store has no such trades.
    FileError
        If a file is invalid, or two trades of one time and id differ (reason
        ``conflicting_rows``). With ``on_error="skip"`` such files and trades are left out.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bars = bak.volume_bars("data/research", "BTCUSDT", 100)  # doctest: +SKIP
    >>> bars.filter("complete", pl.col("missing_ids") == 0)  # doctest: +SKIP
    """
    size = _size("volume", volume)
    trades = _Trades(source, market, data_type, options)
    return trades.bars(symbol, "volume", size, start, end)


@arguments(**_NAMES)
def dollar_bars(
    source: Source,
    symbol: str | Iterable[str],
    amount: float | Decimal,
    *,
    market: str = "spot",
    data_type: str = "aggTrades",
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Build bars of equal value from trades.

    A bar is closed by the trade with which its sum of price times quantity reaches `amount`. All
    else is as for `volume_bars`.

    Parameters
    ----------
    source, symbol, market, data_type, start, end, **options
        As for `volume_bars`. Not for COIN-M: a contract is worth a fixed number of dollars
        there, so bars of equal value are bars of equal volume.
    amount : float or Decimal
        In the quote asset, such as USDT.

    Returns
    -------
    polars.DataFrame
        As `volume_bars`.

    Raises
    ------
    ConfigurationError, FileError
        As `volume_bars`.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bars = bak.dollar_bars("data/research", "BTCUSDT", 10_000_000)  # doctest: +SKIP
    """
    size = _size("amount", amount)
    trades = _Trades(source, market, data_type, options)
    if not trades.has_value:
        raise field_error(
            "market",
            "a contract of futures_cm is worth a fixed number of dollars; use "
            "volume_bars(…, amount / dollars of a contract)",
        )
    return trades.bars(symbol, "quote_volume", size, start, end)


def _size(field: str, value: float | Decimal) -> Decimal:
    """Return the amount that closes a bar; a float stands for the decimal that it is written as."""
    if isinstance(value, Real | Decimal) and not isinstance(value, bool):
        size = Decimal(str(value))
        if size.is_finite() and size > 0:
            return size
    raise field_error(field, f"{shown(value)} is not an amount; give a number above zero")


class _Trades:
    """The trades of a store in one feed.

    Attributes
    ----------
    has_value : bool
        Whether price times quantity is the value of a trade.
    """

    def __init__(
        self, source: Source, market: str, data_type: str, options: dict[str, Any]
    ) -> None:
        self._engine: Engine = open_engine(source, options)
        self._feed: FeedTable = self._engine.feed(market, data_type)
        if self._feed.data_type not in _COLUMNS:
            raise ConfigurationError(unknown("data_type", data_type, _COLUMNS))
        self._rows = UniqueRows(self._engine)
        self._names = _COLUMNS[self._feed.data_type]
        self.has_value = self._feed.market is not Market.FUTURES_CM

    def bars(
        self,
        symbol: str | Iterable[str],
        measure: Measure,
        size: Decimal,
        start: Moment | None,
        end: Moment | None,
    ) -> pl.DataFrame:
        """Build the bars of each symbol."""
        names = sorted(read_names("symbol", symbol))
        selection = parse_selection(self._engine, self._feed, names, None, start, end)
        found: dict[str, pl.DataFrame] = {}
        for name in names:
            builder = BarBuilder(measure, size, with_value=self.has_value)
            own = replace(selection, symbols=frozenset([name]))
            for trades in self._read(own):
                builder.add(trades)
            bars = builder.finish()
            if bars is not None:
                found[name] = self._checked(name, bars, self._days(own))
        self._rows.warn()
        if empty := [name for name in names if name not in found]:
            message = f"no trade between {start or 'its beginning'} and {end or 'its end'}"
            if not found:
                raise field_error("symbol", f"the store has {message}", first_few(empty))
            warn_user(f"{message} of {first_few(empty)}")
        if isinstance(symbol, str):
            return found[symbol]
        labelled = (
            bars.select(pl.lit(name).alias("symbol"), pl.all()) for name, bars in found.items()
        )
        return pl.concat(labelled)

    def _days(self, selection: Selection) -> set[date]:
        """Return the days of the files that may have trades, and are not left out."""
        found: set[date] = set()
        for stored in self._engine.folders(self._feed, (selection.symbols or ()).__contains__):
            for file in stored.files:
                if file.path not in self._engine.problems:
                    found |= days_between(file.start, file.end)
        start, end = selection.start or datetime.min, selection.end or datetime.max
        return {day for day in found if start.date() <= day <= end.date()}

    def _read(self, selection: Selection) -> Iterator[pl.DataFrame]:
        """Yield the trades in order, each once."""
        names, time = self._names, self._names["time"]
        own = [*dict.fromkeys([*names.values(), *self._own_columns()])]
        days = self._days(selection)
        progress = Progress()
        progress.begin("reading trades", len(days), unit="days")
        held: pl.DataFrame | None = None
        with Bar(progress) as bar:
            for batch in read_batches(
                self._engine, self._feed, selection, ["symbol", "file", *own]
            ):
                rows = batch if held is None else pl.concat([held, batch])
                if not rows.height:
                    continue
                # Trades of the last time may go on in the next batch.
                last: datetime = rows.select(pl.max(time)).item()
                held = rows.filter(pl.col(time) == last)
                yield self._prepared(selection, rows.filter(pl.col(time) < last))
                progress.done = sum(day < last.date() for day in days)
                bar.tick()
        if held is not None:
            yield self._prepared(selection, held)

    def _own_columns(self) -> list[str]:
        columns = ["price", "is_buyer_maker"]
        if self._feed.data_type is DataType.AGG_TRADES:
            return [*columns, "first_trade_id", "last_trade_id"]
        return columns if self.has_value else [*columns, "base_qty"]

    def _prepared(self, selection: Selection, rows: pl.DataFrame) -> pl.DataFrame:
        """Return trades sorted, each once, with the columns that a builder takes."""
        number, time = self._names["id"], self._names["time"]
        same = pl.col(time) == pl.col(time).shift()
        rises = (
            pl.when(same)
            .then(pl.col(number).diff() > 0)
            .otherwise(pl.col(time) > pl.col(time).shift())
        )
        if not rows.select(rises.all()).item():
            rows = rows.sort(time, number, maintain_order=True)
        if rows.select((same & (pl.col(number).diff() == 0)).any()).item():
            lazy = scan_feed(self._engine, self._feed, selection)
            rows = self._rows.unique(self._feed, lazy, rows, ["symbol", number, time])
        rows = self._valid(rows)
        count = pl.lit(1, pl.Int64)
        if self._feed.data_type is DataType.AGG_TRADES:
            count = pl.col("last_trade_id") - pl.col("first_trade_id") + 1
        extra = ["base_qty"] if "base_qty" in rows.columns else []
        return rows.select(
            *(pl.col(name).alias(ours) for ours, name in self._names.items()),
            "price",
            "is_buyer_maker",
            count.alias("trades"),
            *(pl.col(name).alias("base_quantity") for name in extra),
        )

    def _valid(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Reject trades without a price, a quantity or a side."""
        price, quantity = (
            pl.col(name).cast(pl.Float64) for name in ("price", self._names["quantity"])
        )
        # Aggregates of no trades have neither price nor quantity.
        priced = price.is_finite() & ((price > 0) | (quantity == 0))
        valid = quantity.is_finite() & (quantity >= 0) & priced
        valid &= pl.col("is_buyer_maker").is_not_null()
        wrong = rows.filter(~valid.fill_null(False))
        for row in wrong.unique("file", keep="first", maintain_order=True).iter_rows(named=True):
            which = f"{row[self._names['id']]} of {format_time(row[self._names['time']])}"
            detail = f"trade {which} has no valid price, quantity or side"
            self._engine.reject(WrongValues(row["file"], detail))
        return (
            rows
            if wrong.is_empty()
            else rows.join(wrong, on=self._names["id"], how="anti", maintain_order="left")
        )

    def _checked(self, symbol: str, bars: pl.DataFrame, days: set[date]) -> pl.DataFrame:
        """Mark bars across missing files, and warn of known defects."""
        market, data_type = self._feed.market, self._feed.data_type
        first, last = bars["open_time"][0], bars["close_time"][-1]
        if cadence_of(market, data_type, None).kind != "sequence":
            bars = bars.with_columns(pl.lit(None, pl.Int64).alias("missing_ids"))
        absent = sorted(days_between(first.date(), last.date()) - days)
        before = pl.Series(absent, dtype=pl.Date).search_sorted(bars["close_time"].dt.date())
        counts = pl.Series("missing_days", before).cast(pl.Int64).diff()
        bars = bars.with_columns(counts.fill_null(before[0]))
        stream = Stream(market, data_type, symbol, None)
        for defect in load_annotations().defects:
            if not defect.concerns(stream) or not defect.overlaps(first, last + _MICROSECOND):
                continue
            warn_user(f"{symbol}: known defect of these trades: {defect}")
            if "is_buyer_maker" in defect.columns:
                inside = pl.col("close_time") >= defect.start
                if defect.end is not None:
                    inside &= pl.col("open_time") < defect.end
                side = pl.when(~(inside & (pl.col("taker_buy_volume") == 0)))
                bars = bars.with_columns(side.then("taker_buy_volume"))
        for event in crossings(market, symbol, first.date(), last.date()):
            if event.kind != "renamed":
                warn_user(f"{symbol}: bars may hold trades of two assets or contracts: {event}")
        return bars.select(name for name in _RESULT if name in bars.columns)
