"""Bars are those of a loop over trades with exact decimals, however trades come in batches."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.query.bar_builder import BarBuilder
from tests.support.candles import at

START = at("2025-07-01")
Trade = tuple[int, int, str, str, bool]
NUMBERS = {"price": pl.Float64(), "quantity": pl.Float64()}


def frame_of(trades: list[Trade], *, decimals: bool = False) -> pl.DataFrame:
    """Return trades as a builder takes them: id, second, price, quantity, and the side."""
    number = Decimal if decimals else float
    kind = pl.Decimal(38, 18) if decimals else pl.Float64()
    return pl.DataFrame(
        {
            "id": [trade[0] for trade in trades],
            "time": [START + timedelta(seconds=trade[1]) for trade in trades],
            "price": [number(trade[2]) for trade in trades],
            "quantity": [number(trade[3]) for trade in trades],
            "is_buyer_maker": [trade[4] for trade in trades],
            "trades": [1] * len(trades),
        },
        schema_overrides={
            "price": kind,
            "quantity": kind,
            "time": pl.Datetime("us", "UTC"),
            "id": pl.Int64,
            "trades": pl.Int64,
            "is_buyer_maker": pl.Boolean,
        },
    )


def slow(trades: list[Trade], size: Decimal, *, by_value: bool) -> list[dict[str, Any]]:
    """Build bars trade by trade, with the decimals of the text."""
    bars: list[dict[str, Any]] = []
    bar: dict[str, Any] | None = None
    last_id: int | None = None
    for number, second, price, quantity, is_buyer_maker in trades:
        if last_id is None:
            last_id = number - 1
        if bar is None:
            bar = {"open_time": second, "open": float(price), "high": 0.0, "low": float("inf")}
            bar |= dict.fromkeys(("volume", "quote_volume", "taker_buy_volume"), Decimal(0))
            bar |= {"trades": 0, "missing_ids": 0}
        amount, value = Decimal(quantity), Decimal(price) * Decimal(quantity)
        bar["close_time"], bar["close"] = second, float(price)
        bar["high"], bar["low"] = max(bar["high"], float(price)), min(bar["low"], float(price))
        bar["volume"] += amount
        bar["quote_volume"] += value
        bar["taker_buy_volume"] += 0 if is_buyer_maker else amount
        bar["trades"] += 1
        bar["missing_ids"] += number - last_id - 1
        last_id = number
        bar["complete"] = (bar["quote_volume"] if by_value else bar["volume"]) >= size
        if bar["complete"]:
            bars.append(bar)
            bar = None
    if bar is not None:
        bars.append(bar)
    for each in bars:
        for name in ("volume", "quote_volume", "taker_buy_volume"):
            each[name] = float(each[name])
        for name in ("open_time", "close_time"):
            each[name] = START + timedelta(seconds=each[name])
    return bars


def built(
    batches: list[pl.DataFrame], measure: Literal["volume", "quote_volume"], size: str
) -> Any:
    builder = BarBuilder(measure, Decimal(size), with_value=True)
    for batch in batches:
        builder.add(batch)
    return builder.finish()


@st.composite
def decimal_texts(draw: st.DrawFn) -> str:
    """Draw a number above zero as the archive spells it: with up to eight places, or huge."""
    places = draw(st.integers(0, 8))
    digits = draw(st.integers(1, 10 ** draw(st.integers(1, 12))))
    return f"{Decimal(digits).scaleb(-places):f}"


@st.composite
def trades_of_a_day(draw: st.DrawFn) -> list[Trade]:
    """Draw trades in the order of time and id, with gaps of ids, and several of one time."""
    steps = st.tuples(st.sampled_from([1, 1, 1, 2, 5]), st.integers(0, 2))
    rows = st.tuples(steps, decimal_texts(), decimal_texts(), st.booleans())
    number = second = 0
    found: list[Trade] = []
    for (id_step, time_step), price, quantity, side in draw(
        st.lists(rows, min_size=1, max_size=40)
    ):
        number, second = number + id_step, second + time_step
        found.append((number, second, price, quantity, side))
    return found


@settings(max_examples=200, deadline=None)
@given(
    trades=trades_of_a_day(),
    size=decimal_texts(),
    cuts=st.lists(st.integers(0, 40), max_size=4).map(sorted),
    by_value=st.booleans(),
    decimals=st.booleans(),
)
# Ten times a tenth is less than one, if floats are added up.
@example([(n, n, "1", "0.1", True) for n in range(1, 21)], "1", [], False, False)
@example([(n, n, "0.1", "3", True) for n in range(1, 21)], "0.9", [7], True, False)
# Sums that need more than 64 bits.
@example(
    [(n, n, "99999.12345678", "123456789", False) for n in range(1, 9)], "3e13", [3], True, False
)
def test_bars_are_those_of_a_loop(
    trades: list[Trade], size: str, cuts: list[int], by_value: bool, decimals: bool
) -> None:
    bounds = [0, *(min(cut, len(trades)) for cut in cuts), len(trades)]
    batches = [frame_of(trades[first:last], decimals=decimals) for first, last in pairwise(bounds)]
    found = built(batches, "quote_volume" if by_value else "volume", size)
    expected = slow(trades, Decimal(size), by_value=by_value)
    assert found.height == len(expected)
    for row, bar in zip(found.iter_rows(named=True), expected, strict=True):
        assert row == bar


def test_the_trade_that_reaches_the_amount_is_not_split() -> None:
    trades = [(1, 0, "10", "3", True), (2, 1, "11", "50", False), (3, 2, "12", "1", False)]
    found = built([frame_of(trades)], "volume", "4")
    assert found["volume"].to_list() == [53, 1]
    assert found["complete"].to_list() == [True, False]
    assert found["taker_buy_volume"].to_list() == [50, 1]


def test_aggregates_without_trades_are_no_trades_and_not_missing() -> None:
    trades = [(1, 0, "10", "3", True), (2, 1, "0", "0", False), (3, 2, "12", "1", False)]
    found = built([frame_of(trades[:2]), frame_of(trades[2:])], "volume", "4")
    assert found["low"].to_list() == [10]
    assert found["trades"].to_list() == [2]
    assert found["missing_ids"].to_list() == [0]


def test_ids_that_begin_again_say_nothing_of_missing_ones() -> None:
    ids = [7, 8, 1, 2, 5, 6]
    trades = [(number, n, "10", "1", True) for n, number in enumerate(ids)]
    found = built([frame_of(trades)], "volume", "2")
    assert found["missing_ids"].to_list() == [0, None, 2]


def test_no_trades_are_no_bars() -> None:
    assert built([], "volume", "1") is None
    assert built([frame_of([]), frame_of([(1, 0, "0", "0", True)])], "volume", "1") is None


def test_sums_beyond_128_bits_are_refused() -> None:
    trades = [(1, 0, "0.123456789012345678", "1e30", True)]
    with pytest.raises(ConfigurationError, match="too many digits"):
        built([frame_of(trades)], "quote_volume", "1")
