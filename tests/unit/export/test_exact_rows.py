"""Rows come as exact decimals, each once, and show what is nowhere published."""

from __future__ import annotations

import warnings
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import ObjectKey, Stream
from binance_archive_kit.errors import ArchiveKitWarning, ConflictingRows, CoverageError
from binance_archive_kit.export.exact_rows import ExactRows, Observed, observe, places_of, raw_of
from binance_archive_kit.export.gap_check import check_gaps
from binance_archive_kit.query.engine import Engine, OnError, ReadOptions
from tests.support.candles import EPOCH, HOUR, at, day, file_of, line
from tests.support.stores import kline, other

DECIMAL = pl.Decimal(38, 18)
TRADES = Stream(Market.SPOT, DataType.TRADES, "QQAUSDT")
KLINES = Stream(Market.SPOT, DataType.KLINES, "QQAUSDT", Interval.H1)
COIN = Stream(Market.FUTURES_CM, DataType.KLINES, "BTCUSD_PERP", Interval.H1)


def exact(
    root: Path, stream: Stream, start: str | None = None, on_error: OnError = "raise"
) -> ExactRows:
    """Open the rows of a stream, whatever its coverage is."""
    engine = Engine(root, ReadOptions(decimals=True, on_error=on_error))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArchiveKitWarning)
        return ExactRows(engine, check_gaps(engine, [stream], start, on_gap="warn")[stream])


def trade(number: int, time: str, price: str = "1.50", size: str = "2", maker: str = "True") -> str:
    micros = (at(time) - EPOCH).total_seconds() * 1_000_000
    return f"{number},{price},{size},{Decimal(price) * Decimal(size)},{micros:.0f},{maker},True\n"


def put_trades(root: Path, name: str, lines: list[str]) -> None:
    file_of(root, other("trades", "QQAUSDT", name, "spot"), lines)


def coin_line(hour: int, contracts: int, size: int, price: int = 50_000) -> str:
    """Write a candle of COIN-M, whose volume is in contracts of a number of dollars."""
    begin = (at("2025-07-01") + hour * HOUR - EPOCH) // HOUR * 3_600_000
    base = Decimal(contracts * size) / price
    prices = f"{price},{price + 10},{price - 10},{price}"
    return f"{begin},{prices},{contracts},{begin + 3_599_999},{base:.8f},5,0,0,0\n"


def test_trades_of_one_time_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    lines = [trade(number, "2025-07-01 10:00") for number in (2, 1, 3)]
    put_trades(tmp_path, "2025-07-01", lines)
    [frame] = exact(tmp_path, TRADES)
    assert frame["id"].to_list() == [1, 2, 3]


def test_candles_come_month_by_month(tmp_path: Path) -> None:
    for name in ("2025-06-30", "2025-07-01"):
        day(tmp_path, "QQAUSDT", name, "1h")
    frames = list(exact(tmp_path, KLINES))
    assert [frame["open_time"][0] for frame in frames] == [at("2025-06-30"), at("2025-07-01")]
    assert frames[0].columns == ["open_time", "open", "high", "low", "close", "volume"]
    assert set(frames[0].dtypes[1:]) == {DECIMAL}
    assert frames[0].height == frames[1].height == 24


def test_only_the_checked_days_come(tmp_path: Path) -> None:
    for name in ("2025-07-01", "2025-07-02"):
        day(tmp_path, "QQAUSDT", name, "1h")
    [frame] = exact(tmp_path, KLINES, "2025-07-02")
    assert frame["open_time"].dt.date().unique().to_list() == [date(2025, 7, 2)]


def test_trades_come_day_by_day_by_time(tmp_path: Path) -> None:
    first = [
        trade(1, "2025-07-01 00:00:01", "1.10"),
        # The clock of this one is behind.
        trade(2, "2025-07-01 00:00:03"),
        trade(3, "2025-07-01 00:00:02", maker="False"),
    ]
    put_trades(tmp_path, "2025-07-01", first)
    put_trades(tmp_path, "2025-07-02", [trade(4, "2025-07-02 23:59:59", size="0.001")])
    one, two = exact(tmp_path, TRADES)
    assert one["id"].to_list() == [1, 3, 2]
    assert one["time"].is_sorted()
    assert one["price"].to_list() == [Decimal("1.1"), Decimal("1.5"), Decimal("1.5")]
    assert one["is_buyer_maker"].to_list() == [True, False, True]
    assert one.schema["time"] == pl.Datetime("us", "UTC")
    assert two["size"].to_list() == [Decimal("0.001")]


def put_month(root: Path, lines: list[str]) -> None:
    folder = "data/spot/monthly/trades/QQAUSDT"
    file_of(root, ObjectKey.parse(f"{folder}/QQAUSDT-trades-2025-07.zip"), lines)


def test_clocks_may_differ_at_midnight(tmp_path: Path) -> None:
    times = ["01 23:59:58", "02 00:00:00.001", "01 23:59:59.999", "02 00:00:01", "03 12:00:00"]
    put_month(tmp_path, [trade(n, f"2025-07-{time}") for n, time in enumerate(times)])
    frames = list(exact(tmp_path, TRADES))
    assert [frame["id"].to_list() for frame in frames] == [[0, 2], [1, 3], [4]]
    assert [frame["time"][0].day for frame in frames] == [1, 2, 3]


def test_days_out_of_order_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = ("01", "02", "03")
    put_month(tmp_path, [trade(n, f"2025-07-{day} 12:00:00") for n, day in enumerate(days)])
    in_order = ExactRows._pieces

    def out_of_order(rows: ExactRows, names: list[str]) -> Any:
        first, *later = in_order(rows, names)
        return [*later, first]

    # Rows that are read together come in order whatever their file is like.
    monkeypatch.setattr(ExactRows, "_pieces", out_of_order)
    with pytest.raises(CoverageError, match="trades of 2025-07-01 come after others"):
        list(exact(tmp_path, TRADES))


def test_a_trade_that_stands_twice_comes_once(tmp_path: Path) -> None:
    lines = [trade(1, "2025-07-01 00:00:01"), trade(2, "2025-07-01 00:00:02")]
    put_trades(tmp_path, "2025-07-01", [*lines, *lines])
    [frame] = exact(tmp_path, TRADES)
    assert frame["id"].to_list() == [1, 2]


def test_different_trades_of_one_number_are_rejected(tmp_path: Path) -> None:
    lines = [trade(1, "2025-07-01 00:00:01"), trade(2, "2025-07-01 00:00:02")]
    put_trades(tmp_path, "2025-07-01", [*lines, trade(2, "2025-07-01 00:00:03", "9")])
    with pytest.raises(ConflictingRows, match="two different rows have the number 2"):
        list(exact(tmp_path, TRADES))
    with pytest.warns(ArchiveKitWarning, match="two different rows have the number 2"):
        [frame] = exact(tmp_path, TRADES, on_error="skip")
    assert frame["id"].to_list() == [1]


def test_an_empty_value_is_an_error(tmp_path: Path) -> None:
    lines = [line(at("2025-07-01") + n * HOUR, HOUR, 100) for n in range(24)]
    fields = lines[3].split(",")
    lines[3] = ",".join([*fields[:5], "", *fields[6:]])
    file_of(tmp_path, kline("QQAUSDT", "2025-07-01", "1h"), lines)
    with pytest.raises(CoverageError, match="volume is empty at 2025-07-01 03:00 UTC"):
        list(exact(tmp_path, KLINES))


def test_places_and_extremes_are_observed(tmp_path: Path) -> None:
    lines = [line(at("2025-07-01") + n * HOUR, HOUR, 100 + n, 1_000) for n in range(24)]
    file_of(tmp_path, kline("QQAUSDT", "2025-07-01", "1h"), lines)
    trades = [
        trade(1, "2025-07-01 00:00:01", "1.2300", "0.50"),
        trade(2, "2025-07-01 00:00:02", "100000", "7"),
    ]
    put_trades(tmp_path, "2025-07-01", trades)
    calls: list[int] = []
    streams = [exact(tmp_path, KLINES), exact(tmp_path, TRADES)]
    found = observe(streams, lambda: calls.append(1))
    assert (found.price_places, found.size_places) == (2, 1)
    assert found.largest_price == (100_000.0, at("2025-07-01 00:00:02"), str(TRADES))
    assert found.largest_size == (1_000.0, at("2025-07-01"), str(KLINES))
    assert found.smallest_size == 0.5
    assert found.first == at("2025-07-01")
    assert len(calls) == 2


@pytest.mark.parametrize("size", [10, 100])
def test_the_size_of_a_contract_is_observed(tmp_path: Path, size: int) -> None:
    lines = [coin_line(hour, 3 * hour, size) for hour in range(24)]
    file_of(tmp_path, kline("BTCUSD_PERP", "2025-07-01", "1h", "futures/cm"), lines)
    observed = observe([exact(tmp_path, COIN)], lambda: None)
    assert observed.contract_size == size
    assert (observed.price_places, observed.size_places) == (0, 0)


def test_the_size_of_a_contract_is_not_guessed(tmp_path: Path) -> None:
    assert Observed().contract_size is None
    lines = [coin_line(hour, 3, 10 if hour % 2 else 100) for hour in range(24)]
    file_of(tmp_path, kline("BTCUSD_PERP", "2025-07-01", "1h", "futures/cm"), lines)
    assert observe([exact(tmp_path, COIN)], lambda: None).contract_size is None


@given(st.lists(st.decimals(-(10**12), 10**12, places=12), min_size=1), st.integers(0, 12))
def test_places_are_as_many_as_needed(values: list[Decimal], least: int) -> None:
    series = pl.Series(values, dtype=DECIMAL)
    places = places_of(series, least)
    needed = max(-min(0, int(value.normalize().as_tuple().exponent)) for value in values)
    assert places == max(least, needed)
    assert raw_of(series, 16) == [int(value.scaleb(16)) for value in values]
