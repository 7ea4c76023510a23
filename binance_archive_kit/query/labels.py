"""`bak.forward_returns`: returns after each candle, as labels that never reach across a gap."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, read_market
from binance_archive_kit.archive.symbols import events_of
from binance_archive_kit.errors import (
    ConfigurationError,
    arguments,
    check_flag,
    field_error,
    shown,
)
from binance_archive_kit.query.bars import Length, read_length
from binance_archive_kit.query.known_rows import TIME, as_utc, check_column
from binance_archive_kit.query.loaders import load_klines
from binance_archive_kit.query.open_store import Source
from binance_archive_kit.query.polars_scan import Moment
from binance_archive_kit.reading import cadence
from binance_archive_kit.reading.feed_table import feed_table
from binance_archive_kit.reading.known_times import known_at_of
from binance_archive_kit.timestamps import format_time

#: Names of the labels, before the horizon.
RETURN, LABEL_KNOWN_AT = "forward_return", "label_known_at"
#: Names of temporary columns.
_ROW, _OPEN, _END, _PRICE, _WHOLE, _RUN = "__row", "__open", "__end", "__price", "__whole", "__run"
#: Largest number of candles of a horizon.
_MOST = 1_000_000
#: At most the length of a month, and about that of one.
_MONTH, _MEAN_MONTH = timedelta(days=28), timedelta(days=30.4375)

Horizon = str | int


@arguments(symbols="symbol", intervals="interval", store="source")
def forward_returns(
    source: Source | pl.DataFrame | pl.LazyFrame,
    horizons: Horizon | Iterable[Horizon],
    symbol: str | Iterable[str] | None = None,
    interval: str | None = None,
    *,
    market: str = "spot",
    column: str = "close",
    log: bool = False,
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Label each candle with the return after its close.

    The results are labels: they look into the future, and their names say so. A return is never
    computed across a gap: it is null unless every candle from this one to the end of the horizon
    is there, is whole, and begins where the one before it ends.

    Parameters
    ----------
    source : str, Path, OpenStore, polars.DataFrame or polars.LazyFrame
        Candles, as `load_klines`, `ohlcv`, `scan` or `panel` return them; or a store, from which
        those of `symbol` and `interval` are loaded.
    horizons : str, int or collection of these
        Lengths of time, such as ``"4h"``, or numbers of candles.
    symbol : str or iterable of str, optional
        The symbols to load; or the symbol of a frame without a column of symbols.
    interval : str, optional
        The interval to load; or the length of the candles of a frame. Without it, their own
        times show it.
    market : str
        The market to load from, or of the symbols of a frame.
    column : str
        A price at the close of the candle: ``close``, also of other feeds. Of a panel, the name
        of its values in the result.
    log : bool
        Logarithms of the ratio of prices, in place of simple returns.
    start, end : str, date or datetime, optional
        Limits of ``open_time``, UTC, as for `scan`; only for a store. The last candles before
        `end` have no label.
    **options
        As for `load_klines`; only for a store.

    Returns
    -------
    polars.DataFrame
        The candles in their order, with two columns for each horizon; a panel becomes a row per
        symbol and time.

        - ``forward_return_4h`` (``Float64``): from the price of this candle to that of the one
          that closes four hours later; for numbers, ``forward_return_3_candles``. Also null
          where a price is missing, and across a day on which the symbol is known to have become
          another asset or contract.
        - ``label_known_at_4h`` (``Datetime("us", "UTC")``): the close of that candle. A model
          trained at some time may use only labels that were known before. Null with the return.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, a horizon is no whole number of candles, a price is not above
        zero, or two candles of a symbol open at one time.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> days = [datetime(2025, 7, day, tzinfo=UTC) for day in (1, 2, 4, 5)]
    >>> candles = pl.DataFrame({"open_time": days, "close": [100.0, 110.0, 121.0, 133.1]})
    >>> labelled = forward_returns(candles, "1d", interval="1d")
    >>> [value and round(value, 9) for value in labelled["forward_return_1d"]]
    [0.1, None, 0.1, None]
    """
    check_flag("log", log)
    frame: pl.DataFrame
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        given = {"start": start, "end": end} | options
        if names := [name for name, value in given.items() if value is not None]:
            raise field_error(names[0], "not for a frame; leave it out", ", ".join(names))
        frame = source.lazy().collect()
        if symbol is not None and not isinstance(symbol, str):
            raise field_error("symbol", f"{shown(symbol)} is not the name of a frame's symbol")
    else:
        if symbol is None or interval is None:
            name = "symbol" if symbol is None else "interval"
            raise field_error(name, "name the candles to load from the store")
        frame = load_klines(
            source, symbol, interval, market=market, start=start, end=end, **options
        )
    step = None if interval is None else read_length(interval, "interval")
    candles = _Candles(frame, column, symbol if isinstance(symbol, str) else None, market)
    return candles.labelled(_names(horizons), step, log=log)


def _names(horizons: Horizon | Iterable[Horizon]) -> dict[str, Length | int]:
    """Return the horizons by the ends of their columns' names."""
    given = [horizons] if isinstance(horizons, str | int) else horizons
    if not isinstance(given, Iterable) or isinstance(given, bytes) or not (given := [*given]):
        raise field_error("horizons", f"{shown(horizons)} is no horizon; write '4h', or 4 candles")
    found: dict[str, Length | int] = {}
    for each in given:
        if isinstance(each, str):
            found[each] = read_length(each, "horizons")
        elif isinstance(each, int) and not isinstance(each, bool) and 0 < each <= _MOST:
            found[f"{each}_candle{'s' if each > 1 else ''}"] = each
        else:
            raise field_error(
                "horizons",
                f"{shown(each)} is no horizon; write a length such as '4h', or a number of "
                f"candles from 1 to {_MOST:,}",
            )
    return found


class _Candles:
    """Candles of one symbol or several, from any loader.

    Parameters
    ----------
    frame : polars.DataFrame
    column : str
        Of the prices.
    symbol : str or None
        Of a frame without a column of symbols.
    market : str
        Of a frame without a column of markets.
    """

    def __init__(self, frame: pl.DataFrame, column: str, symbol: str | None, market: str) -> None:
        check_column("source", "open_time", frame.columns, "the frame")
        if not isinstance(column, str):
            raise field_error("column", f"{shown(column)} is not the name of a column")
        if column == "open":
            raise field_error(
                "column", "open is known before the candle; choose a price at its end"
            )
        self._is_panel = column not in frame.columns
        if self._is_panel:
            frame = _unpivoted(frame, column)
        if not frame.schema[column].is_numeric():
            raise field_error("column", f"{column!r} has no numbers but {frame.schema[column]}")
        self.frame, self._column = frame, column
        self._keys = [name for name in ("market", "symbol") if name in frame.columns]
        self._symbol, self._market = symbol, read_market(market)
        #: Whether the frame states how many candles each of its bars is made of.
        self._are_bars = {"candles", "expected_candles", "interval"} <= set(frame.columns)

    def labelled(
        self, horizons: dict[str, Length | int], step: Length | None, *, log: bool
    ) -> pl.DataFrame:
        """Return the frame with the labels of each horizon."""
        names = [f"{label}_{each}" for each in horizons for label in (RETURN, LABEL_KNOWN_AT)]
        if taken := [name for name in names if name in self.frame.columns]:
            raise field_error("horizons", f"the frame has a column {taken[0]!r} already")
        rows = self._rows()
        if not rows.height:
            return self.frame.with_columns(
                pl.lit(None, pl.Float64 if name.startswith(RETURN) else TIME).alias(name)
                for name in names
            )
        has_intervals = "interval" in rows.columns and step is None
        _check_unique(rows, [*self._keys, *(["interval"] if has_intervals else [])])
        parts = rows.partition_by("interval") if has_intervals else [rows]
        found = []
        for part in parts:
            own = step
            if has_intervals:
                own = read_length(str(part["interval"][0]))
            own = own or _step_of(part, is_panel=self._is_panel)
            found.append(self._labels(part, own, horizons, log=log))
        labels = pl.concat(found).sort(_ROW)
        return self.frame.hstack(labels.select(names))

    def _rows(self) -> pl.DataFrame:
        """Return number, keys, times and price of each candle, and whether it is known whole."""
        frame = self.frame
        opens = as_utc(frame.schema, "open_time", "source", "source: open_time")
        price = pl.col(self._column).cast(pl.Float64).fill_nan(None)
        rows = frame.select(
            pl.int_range(pl.len(), dtype=pl.UInt32).alias(_ROW),
            *(pl.col(name).cast(pl.String) for name in self._keys),
            opens.alias(_OPEN),
            price.alias(_PRICE),
            *self._ends(),
        )
        if low := rows.filter(pl.col(_PRICE) <= 0).head(1).rows(named=True):
            raise field_error(
                "column",
                f"{self._column} is {low[0][_PRICE]} at {format_time(low[0][_OPEN])}; returns are "
                "computed of prices above zero",
            )
        return rows.sort(*self._keys, _OPEN)

    def _ends(self) -> list[pl.Expr]:
        """Return the end of each candle and whether it is whole; null where only a step says it."""
        frame, whole = self.frame, pl.lit(True).alias(_WHOLE)
        if self._are_bars:
            return [
                _bar_end().alias(_END),
                (pl.col("candles") == pl.col("expected_candles")).alias(_WHOLE),
            ]
        kept = [pl.col("interval").cast(pl.String)] if "interval" in frame.columns else []
        if "close_time" not in frame.columns:
            return [pl.lit(None, TIME).alias(_END), whole, *kept]
        as_utc(frame.schema, "close_time", "source", "source: close_time")
        end = known_at_of(feed_table(Market.SPOT, DataType.KLINES))
        return [end.cast(TIME).alias(_END), whole, *kept]

    def _labels(
        self, rows: pl.DataFrame, step: Length, horizons: dict[str, Length | int], *, log: bool
    ) -> pl.DataFrame:
        """Return the labels of candles of one length, with their numbers."""
        due = pl.col(_OPEN).dt.offset_by(step.every)
        rows = rows.with_columns(pl.col(_END).fill_null(due))
        whole = pl.col(_WHOLE) & (pl.col(_END) == due) & pl.col(_PRICE).is_not_null()
        rows = rows.with_columns(whole.alias(_WHOLE))
        same = pl.all_horizontal(
            pl.lit(True), *(pl.col(name) == pl.col(name).shift() for name in self._keys)
        )
        follows = same & (pl.col(_OPEN) == pl.col(_END).shift()) & pl.col(_WHOLE)
        follows &= pl.col(_WHOLE).shift() & ~self._becomes_another(rows)
        rows = rows.with_columns((~follows.fill_null(False)).cum_sum().alias(_RUN))
        labels = [pl.col(_ROW)]
        for name, horizon in horizons.items():
            count = horizon if isinstance(horizon, int) else _count(horizon, step)
            reached = pl.when(pl.col(_RUN) == pl.col(_RUN).shift(-count))
            ratio = pl.col(_PRICE).shift(-count) / pl.col(_PRICE)
            value = ratio.log() if log else ratio - 1
            labels.append(reached.then(value).alias(f"{RETURN}_{name}"))
            known = reached.then(pl.col(_END).shift(-count))
            labels.append(known.alias(f"{LABEL_KNOWN_AT}_{name}"))
        return rows.select(labels)

    def _becomes_another(self, rows: pl.DataFrame) -> pl.Expr:
        """Return between which candles a symbol may become another asset or contract."""
        names = rows.select(self._keys).unique().rows(named=True) if self._keys else [{}]
        breaks = [pl.lit(False)]
        for name in names:
            market = read_market(name["market"]) if "market" in name else self._market
            symbol = name.get("symbol", self._symbol)
            events = events_of(market, symbol) if symbol else []
            for first, last in (
                e.new_begins for e in events if e.kind != "renamed" and e.new_begins
            ):
                begin, until = (datetime.combine(day, time(), UTC) for day in (first, last))
                of_symbol = pl.all_horizontal(
                    pl.lit(True), *(pl.col(k) == v for k, v in name.items())
                )
                crosses = (pl.col(_OPEN) >= begin) & (pl.col(_OPEN).shift() < until)
                breaks.append(of_symbol & crosses)
        return pl.any_horizontal(breaks)


def _check_unique(rows: pl.DataFrame, keys: list[str]) -> None:
    """Raise a ConfigurationError if two candles open at one time."""
    twice = rows.filter(pl.struct(*keys, _OPEN).is_duplicated())
    if twice.height:
        row = twice.row(0, named=True)
        of = f" of {row['symbol']}" if "symbol" in row else ""
        raise field_error(
            "source", f"two candles{of} open at {format_time(row[_OPEN])}; keep one of them"
        )


def _unpivoted(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return a panel as a row per symbol and time; raise unless the frame is one."""
    values = [name for name in frame.columns if name != "open_time"]
    if not values or not all(frame.schema[name].is_numeric() for name in values):
        check_column("column", column, frame.columns, "the frame")
    long = frame.unpivot(index="open_time", variable_name="symbol", value_name=column)
    return long.select("symbol", "open_time", column)


def _bar_end() -> pl.Expr:
    """Return the end of each bar of `ohlcv`, from the candles that it should be made of."""
    lengths = {each.value: cadence.length(each) for each in Interval if each is not Interval.MO1}
    interval, count = pl.col("interval").cast(pl.String), pl.col("expected_candles")
    one = interval.replace_strict(lengths, default=None, return_dtype=pl.Int64)
    months = pl.col("open_time").dt.offset_by(pl.format("{}mo", count))
    fixed = pl.col("open_time") + pl.duration(microseconds=one * count)
    return pl.when(interval == Interval.MO1).then(months).otherwise(fixed)


def _step_of(rows: pl.DataFrame, *, is_panel: bool) -> Length:
    """Return the length of candles, as most of them show it."""
    ends = rows.select(_OPEN, _END)
    if is_panel:
        # A panel has a row for each step.
        times = rows[_OPEN].unique().sort()
        ends = pl.DataFrame({_OPEN: times, _END: times.shift(-1)})
    ends = ends.drop_nulls()
    found = ends.group_by((pl.col(_END) - pl.col(_OPEN)).alias("span")).len()
    best = found.filter(pl.col("span") > timedelta(0)).sort("len", "span", descending=[True, False])
    if not best.height:
        raise _unclear()
    span, matches = best.row(0)
    step = Length(str(span), span // timedelta(microseconds=1))
    months = round(span / _MEAN_MONTH)
    if span >= _MONTH:
        by_month = ends.filter(
            pl.col(_OPEN).dt.offset_by(f"{months}mo") == pl.col(_END), pl.col(_OPEN).dt.day() == 1
        )
        if by_month.height >= matches:
            step, matches = Length(f"{months}mo", months=months), by_month.height
    if 2 * matches < ends.height:
        raise _unclear()
    return step


def _unclear() -> ConfigurationError:
    return field_error(
        "interval", "the frame does not show how long its candles are; give it, as '1h'"
    )


def _count(horizon: Length, step: Length) -> int:
    """Return how many candles a horizon is."""
    for whole, one in ((horizon.micros, step.micros), (horizon.months, step.months)):
        if whole and one and whole % one == 0:
            return whole // one
    raise field_error(
        "horizons", f"{horizon.text!r} is no whole number of candles, which last {step.text} each"
    )
