"""Build bars from trades, batch by batch, each closed by the trade that reaches an amount.

Amounts are whole numbers of the smallest decimal that occurs, so that no bar depends on the
rounding of floats, or on how the trades were divided into batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.errors import field_error

#: What a bar is measured by: the amount traded, or its value.
Measure = Literal["volume", "quote_volume"]
_BAR = "__bar"
#: Amounts of bars, and the columns of trades that they add up.
_AMOUNTS = {
    "volume": ("quantity",),
    "taker_buy_volume": ("quantity",),
    "quote_volume": ("price", "quantity"),
    "base_volume": ("base_quantity",),
}
#: Decimal places of the exact decimals of a store, and most places of floats.
_PLACES = 18
#: Below it, no two numbers with equally many decimal places are the same float.
_EXACT = 2**51
#: Sums below it fit into 64 bits, and all sums below the other into 128.
_SMALL, _LARGE = 2**62, 2**126


class BarBuilder:
    """Bars of the trades of one symbol.

    Parameters
    ----------
    measure : {"volume", "quote_volume"}
    size : Decimal
        The amount that closes a bar.
    with_value : bool
        Whether price times quantity is the value of a trade.
    """

    def __init__(self, measure: Measure, size: Decimal, *, with_value: bool) -> None:
        self._measure, self._size = measure, Fraction(size)
        self._with_value = with_value
        #: Decimal places of the whole numbers, by column of the trades.
        self._places: dict[str, int] = {}
        #: The bar that is not closed yet: one row, or none.
        self._open: pl.DataFrame | None = None
        self._closed: list[pl.DataFrame] = []
        self._seen = 0
        self._first_offset: int | None = None

    def add(self, trades: pl.DataFrame) -> None:
        """Add the next trades.

        Parameters
        ----------
        trades : polars.DataFrame
            In order, each once: ``time``, ``id``, ``price`` and ``quantity`` (floats or
            decimals), ``is_buyer_maker``, ``trades`` (number of trades in the row) and, if
            there is one, ``base_quantity``. Rows with the quantity zero are no trades.
        """
        # The id less the number of the row rises by the number of ids that are missing.
        numbers = pl.int_range(self._seen, self._seen + pl.len(), dtype=pl.Int64)
        self._seen += trades.height
        trades = trades.with_columns((pl.col("id") - numbers).alias("offset"))
        trades = trades.filter(pl.col("quantity") > 0)
        if not trades.height:
            return
        if self._first_offset is None:
            self._first_offset = trades["offset"][0]
        rows = self._rows(trades)
        closing = _closing_rows(rows[self._measure], self._whole_size())
        bars = _merged(rows, closing)
        self._close(bars.head(len(closing)), complete=True)
        self._open = bars.tail(bars.height - len(closing))

    def finish(self) -> pl.DataFrame | None:
        """Return all bars, the last one also if it is not complete; None without a trade."""
        if self._open is not None and self._open.height:
            self._close(self._open, complete=False)
            self._open = None
        if self._first_offset is None:
            return None
        before = pl.col("offset").shift(1, fill_value=self._first_offset)
        missing = pl.col("offset") - before
        return (
            pl.concat(self._closed)
            .with_columns(
                # Ids that begin again show nothing.
                pl.when(missing >= 0).then(missing).alias("missing_ids")
            )
            .drop("offset")
        )

    def _rows(self, trades: pl.DataFrame) -> pl.DataFrame:
        """Return the open bar and each trade as a row of a bar, with amounts as whole numbers."""
        known = dict(self._places)
        whole: dict[str, pl.Series] = {}
        for name in ("price", "quantity", "base_quantity"):
            if name in trades.columns:
                whole[name], self._places[name] = _exact(trades[name], known.get(name, 0))
        price, quantity = trades["price"].cast(pl.Float64), whole["quantity"]
        amounts = {
            "volume": quantity,
            "taker_buy_volume": quantity * (~trades["is_buyer_maker"]).cast(pl.Int128),
        }
        if self._with_value:
            amounts["quote_volume"] = quantity * whole["price"]
        if "base_quantity" in whole:
            amounts["base_volume"] = whole["base_quantity"]
        self._check_sums(trades, amounts)
        rows = pl.DataFrame(
            {"open_time": trades["time"], "close_time": trades["time"]}
            | dict.fromkeys(("open", "high", "low", "close"), price)
            | amounts
            | {"trades": trades["trades"], "offset": trades["offset"]}
        )
        if self._open is None or not self._open.height:
            return rows
        grown = {name: self._places[name] - places for name, places in known.items()}
        scaled = (
            pl.col(name) * pl.lit(10 ** sum(grown[part] for part in _AMOUNTS[name]), pl.Int128)
            for name in amounts
        )
        return pl.concat([self._open.with_columns(scaled), rows])

    def _check_sums(self, trades: pl.DataFrame, amounts: Iterable[str]) -> None:
        """Raise if sums could need more than 128 bits, which no real trades do."""
        for name in amounts:
            product = math.prod(pl.col(part).cast(pl.Float64) for part in _AMOUNTS[name])
            if float(trades.select(product).sum().item()) * 10.0 ** self._scale(name) > _LARGE:
                raise field_error("", "the trades have too many digits for exact sums")

    def _scale(self, name: str) -> int:
        """Return the decimal places of an amount."""
        return sum(self._places[part] for part in _AMOUNTS[name])

    def _whole_size(self) -> int:
        """Return the amount that closes a bar as a whole number; the next one if it is none."""
        return math.ceil(self._size * Fraction(10) ** self._scale(self._measure))

    def _close(self, bars: pl.DataFrame, *, complete: bool) -> None:
        """Keep bars, their amounts as the nearest floats."""
        floats = []
        for name in (name for name in _AMOUNTS if name in bars.columns):
            unit = 10 ** self._scale(name)
            floats.append(pl.Series(name, [whole / unit for whole in bars[name]], pl.Float64))
        self._closed.append(bars.with_columns(*floats, pl.lit(complete).alias("complete")))


def _closing_rows(amounts: pl.Series, size: int) -> list[int]:
    """Return the rows at which the amount since the last such row reaches the size."""
    sums = amounts.cum_sum()
    total = int(sums[-1])
    small = total < _SMALL
    values = sums.cast(pl.Int64).to_numpy() if small else np.array(sums.to_list(), dtype=object)
    found: list[int] = []
    done = 0
    while done + size <= total:
        found.append(int(np.searchsorted(values, done + size)))
        done = int(values[found[-1]])
    return found


def _merged(rows: pl.DataFrame, closing: list[int]) -> pl.DataFrame:
    """Merge rows into one for each bar."""
    bar: npt.NDArray[np.int64] = np.searchsorted(closing, np.arange(rows.height))
    return (
        rows.with_columns(pl.Series(_BAR, bar).set_sorted())
        .group_by(_BAR, maintain_order=True)
        .agg(
            pl.col("open_time").first(),
            pl.col("close_time").last(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            *(pl.col(name).sum() for name in (*_AMOUNTS, "trades") if name in rows.columns),
            pl.col("offset").last(),
        )
        .drop(_BAR)
    )


def _exact(values: pl.Series, places: int) -> tuple[pl.Series, int]:
    """Return values as whole numbers of 10^-places, and the places: the fewest from `places` on.

    A float stands for the shortest decimal that it is the nearest float of.

    >>> ints, places = _exact(pl.Series([0.1, 2.05]), 0)
    >>> ints.to_list(), places
    ([10, 205], 2)
    """
    if isinstance(values.dtype, pl.Decimal):
        whole = values.cast(pl.Decimal(38, _PLACES)).to_physical()
        while places < _PLACES:
            unit = pl.Series([10 ** (_PLACES - places)], dtype=pl.Int128)
            if (whole % unit == 0).all():
                return whole // unit, places
            places += 1
        return whole, places
    # The division of Polars is not exact: it multiplies by the reciprocal.
    floats = values.to_numpy()
    for more in range(places, _PLACES + 1):
        scaled = np.rint(floats * 10.0**more)
        if scaled.max() >= _EXACT:
            break
        if (scaled / 10.0**more == floats).all():
            return pl.Series(scaled.astype(np.int64)).cast(pl.Int128), more
    decimals = [Decimal(repr(value)) for value in values]
    places = max(places, *(-int(value.as_tuple().exponent) for value in decimals))
    return pl.Series([int(value * 10**places) for value in decimals], dtype=pl.Int128), places
