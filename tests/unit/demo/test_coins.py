"""The prices of the market: one course per coin, weak momentum, and losses before an end."""

from __future__ import annotations

import statistics
from datetime import date, timedelta
from itertools import pairwise

import polars as pl
import pytest

from binance_archive_kit.demo.coins import (
    COINS,
    FIRST_MARKET_DAY,
    closes,
    day_walk,
    known_walk,
    minute_walk,
)
from binance_archive_kit.demo.prices import LAST_DAY

#: Days of a quarter and of a month.
QUARTER, MONTH = 90, 30


@pytest.mark.parametrize("name", COINS)
def test_a_price_for_each_day_and_the_one_before(name: str) -> None:
    prices = closes(name)
    assert len(prices) == (COINS[name].last - FIRST_MARKET_DAY).days + 2
    assert min(prices) > 50
    moves = [after / before - 1 for before, after in pairwise(prices)]
    assert 0.015 < statistics.stdev(moves) < 0.06
    assert max(map(abs, moves)) < 0.25


@pytest.mark.parametrize("name", ["BTC", "ETH"])
def test_bitcoin_and_ether_join_their_other_files(name: str) -> None:
    days = known_walk(name).group_by(pl.col("time").dt.date(), maintain_order=True)
    for (day,), candles in days:
        index = (day - FIRST_MARKET_DAY).days  # type: ignore[operator]
        assert closes(name)[index : index + 2] == [candles["open"][0], candles["close"][-1]]


def test_coins_that_end_have_lost_much() -> None:
    ended = [coin for coin in COINS.values() if coin.falls]
    assert len(ended) > 15
    for coin in ended:
        prices = closes(coin.name)
        assert prices[-1] < 0.6 * max(prices[-200:])


def test_momentum_is_weak() -> None:
    """Correlate the ranks of the last quarter with those of the next month."""
    ranks = []
    for index in range(QUARTER, (LAST_DAY - FIRST_MARKET_DAY).days - MONTH, MONTH):
        day = FIRST_MARKET_DAY + timedelta(days=index + MONTH)
        prices = [closes(coin.name) for coin in COINS.values() if coin.first <= day <= coin.last]
        frame = pl.DataFrame(
            {
                "past": [each[index] / each[index - QUARTER] for each in prices],
                "next": [each[index + MONTH] / each[index] for each in prices],
            }
        )
        ranks.append(frame.select(pl.corr("past", "next", method="spearman")).item())
    assert 0.03 < statistics.fmean(ranks) < 0.25


def test_minutes_begin_and_end_with_their_day() -> None:
    start, end = date(2023, 5, 1), date(2023, 5, 3)
    days = day_walk(closes("BNB"), 3).filter(pl.col("time").dt.date().is_between(start, end))
    minutes = minute_walk(days, 4)
    made = minutes.group_by_dynamic("time", every="1d").agg(
        pl.len(), pl.col("open").first(), pl.col("close").last()
    )
    assert set(made["len"]) == {1_440}
    assert made.select("open", "close").equals(days.select("open", "close"))
    top = minutes.select(pl.max_horizontal("open", "close")).to_series()
    assert (minutes["high"] >= top).all()
    assert (minutes["low"] > 0).all()
    assert (minutes["open"][1:] == minutes["close"][:-1]).sum() >= minutes.height - 3
