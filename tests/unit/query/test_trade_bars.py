"""Bars of trades of a store: which trades count, in which order, and what is missing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import ArchiveKitWarning, ConfigurationError, FileError
from binance_archive_kit.query import trade_bars
from binance_archive_kit.query.polars_scan import read_batches
from tests.support.candles import EPOCH, at, file_of
from tests.support.stores import other

SECOND = timedelta(seconds=1)


def trade_line(
    data_type: str, market: str, number: int, time: datetime, price: str, quantity: str, maker: bool
) -> str:
    """Spell a trade, or an aggregate of two, as the archive does."""
    fine = market == "spot" and time >= at("2025-01-01")
    count = (time - EPOCH) // timedelta(microseconds=1 if fine else 1_000)
    side = str(maker) if market == "spot" else str(maker).lower()
    tail = [str(count), side, *(["True"] if market == "spot" else [])]
    if data_type == "aggTrades":
        ids = [str(2 * number), str(2 * number + 1)]
        return ",".join([str(number), price, quantity, *ids, *tail]) + "\n"
    value = (
        Decimal(quantity) / Decimal(price) if "cm" in market else Decimal(price) * Decimal(quantity)
    )
    return ",".join([str(number), price, quantity, f"{value:.8f}", *tail]) + "\n"


def day(
    root: Path,
    date: str,
    trades: list[tuple[int, int, str, str, bool]],
    *,
    data_type: str = "aggTrades",
    symbol: str = "BTCUSDT",
    market: str = "spot",
    edit: Callable[[list[str]], list[str]] = list,
) -> None:
    """Put a day of trades into a store: id, second of the day, price, quantity and side."""
    lines = [
        trade_line(data_type, market, number, at(date) + second * SECOND, *more)
        for number, second, *more in trades
    ]
    file_of(root, other(data_type, symbol, date, market), edit(lines))


def invented(first: int, count: int = 200, seed: int = 0) -> list[tuple[int, int, str, str, bool]]:
    """Invent trades, several of them of one second."""
    dice = random.Random(seed + first)
    second = 0
    found = []
    for number in range(first, first + count):
        second += dice.choice([0, 0, 1, 60, 400])
        price, quantity = dice.randrange(9_000, 11_000), dice.randrange(1, 5_000)
        found.append(
            (number, second, f"{price / 100:.2f}", f"{quantity / 1000:.3f}", dice.random() < 0.5)
        )
    return found


def slow(
    days: dict[str, list[tuple[int, int, str, str, bool]]], size: Decimal, *, by_value: bool
) -> list[tuple[Any, ...]]:
    """Build bars trade by trade: times, prices, amounts, and whether the last is complete."""
    trades = [
        (at(date) + second * SECOND, number, price, quantity, maker)
        for date, rows in days.items()
        for number, second, price, quantity, maker in rows
    ]
    bars, bar = [], []
    total = Decimal(0)
    for trade in sorted(trades):
        bar.append(trade)
        _, _, price, quantity, _ = trade
        total += Decimal(quantity) * (Decimal(price) if by_value else 1)
        if total >= size:
            bars.append((bar, True))
            bar, total = [], Decimal(0)
    if bar:
        bars.append((bar, False))
    found = []
    for rows, complete in bars:
        prices = [float(row[2]) for row in rows]
        volume = sum(Decimal(row[3]) for row in rows)
        value = sum(Decimal(row[3]) * Decimal(row[2]) for row in rows)
        bought = sum(Decimal(row[3]) for row in rows if not row[4])
        ends = rows[0][0], rows[-1][0], prices[0], max(prices), min(prices), prices[-1]
        found.append((*ends, float(volume), float(value), float(bought), complete))
    return found


NAMES = ["open_time", "close_time", "open", "high", "low", "close"]
NAMES += ["volume", "quote_volume", "taker_buy_volume", "complete"]


@pytest.mark.parametrize("market", ["spot", "futures/um"])
@pytest.mark.parametrize("data_type", ["aggTrades", "trades"])
def test_bars_are_those_of_a_loop_over_days(tmp_path: Path, market: str, data_type: str) -> None:
    days = {f"2025-07-0{n}": invented(200 * n) for n in (1, 2, 3)}
    for date, trades in days.items():
        day(tmp_path, date, trades, data_type=data_type, market=market)
    feed = {"market": market.replace("/", "_"), "data_type": data_type}
    for build, size, by_value in (
        (bak.volume_bars, 0.1, False),
        (bak.volume_bars, 40, False),
        (bak.volume_bars, Decimal("33.333"), False),
        (bak.dollar_bars, 12_345.678, True),
        (bak.dollar_bars, 10**9, True),
    ):
        found = build(tmp_path, "BTCUSDT", size, **feed)
        expected = slow(days, Decimal(str(size)), by_value=by_value)
        assert found.select(NAMES).rows() == expected
        count = 2 if data_type == "aggTrades" else 1
        assert found["trades"].sum() == 600 * count
        assert found["missing_days"].to_list() == [0] * found.height
        is_numbered = market == "spot" or data_type == "aggTrades"
        assert found["missing_ids"].to_list() == [0 if is_numbered else None] * found.height


def test_columns_and_their_types(tmp_path: Path) -> None:
    day(tmp_path, "2025-07-01", invented(1))
    found = bak.volume_bars(tmp_path, "BTCUSDT", 50)
    time, number, count = pl.Datetime("us", "UTC"), pl.Float64(), pl.Int64()
    assert dict(found.schema) == {
        **dict.fromkeys(("open_time", "close_time"), time),
        **dict.fromkeys(("open", "high", "low", "close", "volume", "quote_volume"), number),
        **{"trades": count, "taker_buy_volume": number},
        **{"missing_ids": count, "missing_days": count, "complete": pl.Boolean()},
    }
    exact = bak.volume_bars(tmp_path, "BTCUSDT", 50, decimals=True)
    assert exact.equals(found)


def test_several_symbols_have_bars_of_their_own(tmp_path: Path) -> None:
    for seed, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        day(tmp_path, "2025-07-01", invented(1, seed=seed), symbol=symbol)
    found = bak.dollar_bars(tmp_path, ["ETHUSDT", "BTCUSDT"], 5_000)
    assert found.columns[0] == "symbol"
    for symbol in ("BTCUSDT", "ETHUSDT"):
        alone = bak.dollar_bars(tmp_path, symbol, 5_000)
        assert found.filter(symbol=symbol).drop("symbol").equals(alone)
    day(tmp_path, "2025-07-02", invented(201), symbol="ETHUSDT")
    with pytest.warns(ArchiveKitWarning, match="no trade between 2025-07-02 and its end of BTCU"):
        late = bak.volume_bars(tmp_path, ["ETHUSDT", "BTCUSDT"], 50, start="2025-07-02")
    assert set(late["symbol"]) == {"ETHUSDT"}
    with pytest.raises(ConfigurationError, match="BTCUSDT: the store has no trade between 2025"):
        bak.volume_bars(tmp_path, "BTCUSDT", 50, start="2025-07-02")


def test_trades_are_in_the_order_of_time_and_id(tmp_path: Path) -> None:
    trades = invented(1)
    day(tmp_path / "sorted", "2025-07-01", trades)
    mixed = random.Random(1).sample(trades, len(trades))
    day(tmp_path / "mixed", "2025-07-01", mixed)
    found = bak.volume_bars(tmp_path / "sorted", "BTCUSDT", 20)
    assert bak.volume_bars(tmp_path / "mixed", "BTCUSDT", 20).equals(found)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_bars_do_not_depend_on_the_parts_in_which_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    def read_in_parts(*arguments: Any) -> Iterator[pl.DataFrame]:
        for frame in read_batches(*arguments):
            yield from frame.iter_slices(rows)

    # Of one time, the highest id comes first.
    trades = sorted(invented(1), key=lambda trade: (trade[1], -trade[0]))
    day(tmp_path, "2025-07-01", trades, edit=lambda lines: lines[:90] + lines[80:])
    monkeypatch.setattr(trade_bars, "read_batches", read_in_parts)
    with pytest.warns(ArchiveKitWarning, match="dropped 10 rows that repeat"):
        found = bak.volume_bars(tmp_path, "BTCUSDT", 20)
    assert found.select(NAMES).rows() == slow({"2025-07-01": trades}, Decimal(20), by_value=False)
    assert found["missing_ids"].sum() == 0


def test_a_start_and_an_end_limit_the_trades(tmp_path: Path) -> None:
    days = {f"2025-07-0{n}": invented(200 * n) for n in (1, 2)}
    for date, trades in days.items():
        day(tmp_path, date, trades)
    found = bak.volume_bars(tmp_path, "BTCUSDT", 20, start="2025-07-02", end="2025-07-02")
    assert found.select(NAMES).rows() == slow(
        {"2025-07-02": days["2025-07-02"]}, Decimal(20), by_value=False
    )
    assert found["missing_ids"].sum() == found["missing_days"].sum() == 0


@pytest.mark.parametrize(("data_type", "market"), [("aggTrades", "spot"), ("trades", "futures/um")])
def test_a_bar_across_missing_files_shows_it(tmp_path: Path, data_type: str, market: str) -> None:
    for number in (1, 4, 5):
        trades = invented(200 * number)
        day(tmp_path, f"2025-07-0{number}", trades, data_type=data_type, market=market)
    found = bak.volume_bars(
        tmp_path, "BTCUSDT", 40, market=market.replace("/", "_"), data_type=data_type
    )
    across = found.filter(pl.col("missing_days") > 0)
    assert across["missing_days"].to_list() == [2]
    assert across["open_time"][0] < at("2025-07-02") < at("2025-07-04") < across["close_time"][0]
    if data_type == "aggTrades":
        assert across["missing_ids"].to_list() == [400]
        assert found["missing_ids"].sum() == 400


def test_missing_trades_within_a_file_are_counted(tmp_path: Path) -> None:
    day(tmp_path, "2025-07-01", invented(1), edit=lambda lines: lines[:50] + lines[53:])
    found = bak.volume_bars(tmp_path, "BTCUSDT", 40)
    assert found["missing_ids"].sum() == found["missing_ids"].max() == 3
    assert found["missing_days"].sum() == 0


def test_files_that_are_left_out_are_missing_days(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        bad = number == 2
        day(
            tmp_path,
            f"2025-07-0{number}",
            invented(200 * number),
            edit=lambda lines, bad=bad: [*lines, *["1,2\n"] * bad],
        )
    with pytest.raises(FileError, match="2025-07-02"):
        bak.volume_bars(tmp_path, "BTCUSDT", 40)
    with pytest.warns(ArchiveKitWarning, match="2025-07-02"):
        found = bak.volume_bars(tmp_path, "BTCUSDT", 40, on_error="skip")
    assert found["missing_days"].sum() == 1
    assert found["missing_ids"].sum() == 200


def test_trades_that_stand_there_twice_count_once(tmp_path: Path) -> None:
    trades = invented(1)
    day(tmp_path / "once", "2025-07-01", trades)
    day(tmp_path / "twice", "2025-07-01", trades, edit=lambda lines: lines[:120] + lines[90:])
    found = bak.volume_bars(tmp_path / "once", "BTCUSDT", 20)
    with pytest.warns(ArchiveKitWarning, match="dropped 30 rows that repeat"):
        twice = bak.volume_bars(tmp_path / "twice", "BTCUSDT", 20)
    assert twice.equals(found)


def test_different_trades_of_one_id_are_refused(tmp_path: Path) -> None:
    trades = invented(1)
    number, second, price, _, maker = trades[70]
    both = [*trades[:71], (number, second, price, "99.999", maker), *trades[71:]]
    day(tmp_path, "2025-07-01", both)
    with pytest.raises(FileError, match=r"differ: quantity is .* and 99\.999"):
        bak.volume_bars(tmp_path, "BTCUSDT", 20)
    with pytest.warns(ArchiveKitWarning, match="left out"):
        found = bak.volume_bars(tmp_path, "BTCUSDT", 20, on_error="skip")
    assert found["missing_ids"].sum() == 1
    assert found["trades"].sum() == 2 * 199


@pytest.mark.parametrize("wrong", [("", "1"), ("1", ""), ("0", "1"), ("1", "-1"), ("nan", "1")])
def test_trades_without_a_price_or_a_quantity_are_refused(
    tmp_path: Path, wrong: tuple[str, str]
) -> None:
    trades = invented(1)
    number, second, _, _, maker = trades[70]
    trades[70] = number, second, *wrong, maker
    day(tmp_path, "2025-07-01", trades)
    with pytest.raises(FileError, match="2025-07-01"):
        bak.volume_bars(tmp_path, "BTCUSDT", 20)


def test_coin_margined_bars_are_of_contracts(tmp_path: Path) -> None:
    trades = [(1, 0, "50000", "3", True), (2, 5, "40000", "4", False), (3, 6, "40000", "1", False)]
    for data_type in ("trades", "aggTrades"):
        symbol = "BTCUSD_PERP"
        day(tmp_path, "2025-07-01", trades, data_type=data_type, symbol=symbol, market="futures/cm")
    found = bak.volume_bars(tmp_path, symbol, 7, market="cm", data_type="trades")
    assert "quote_volume" not in found.columns
    names = ["volume", "base_volume", "taker_buy_volume", "complete"]
    assert found.select(names).rows() == [
        (7, 3 / 50_000 + 4 / 40_000, 4, True),
        (1, 1 / 40_000, 1, False),
    ]
    found = bak.volume_bars(tmp_path, symbol, 7, market="futures_cm")
    assert not {"quote_volume", "base_volume"} & set(found.columns)
    assert found["volume"].to_list() == [7, 1]
    with pytest.raises(ConfigurationError, match="market: a contract of futures_cm is worth a fix"):
        bak.dollar_bars(tmp_path, symbol, 7, market="futures_cm")


def test_a_side_that_is_known_to_be_wrong_is_null(tmp_path: Path) -> None:
    maker = [(n, n, "10", "1", True) for n in range(1, 5)]
    sides = [(n, n, "10", "1", n % 2 == 0) for n in range(5, 9)]
    feed = {"market": "futures_um", "data_type": "trades"}
    day(tmp_path, "2026-07-02", maker, data_type="trades", market="futures/um")
    found = bak.volume_bars(tmp_path, "BTCUSDT", 2, **feed)
    assert found["taker_buy_volume"].to_list() == [0, 0]
    day(tmp_path, "2026-07-03", maker, data_type="trades", market="futures/um")
    # A file that was corrected later has both sides.
    day(tmp_path, "2026-07-04", sides, data_type="trades", market="futures/um")
    with pytest.warns(ArchiveKitWarning, match="known defect .* is_buyer_maker is true in every"):
        found = bak.volume_bars(tmp_path, "BTCUSDT", 2, **feed)
    assert found["taker_buy_volume"].to_list() == [0, 0, None, None, 1, 1]


def test_a_symbol_that_became_another_asset_is_told(tmp_path: Path) -> None:
    for date in ("2022-05-13", "2022-05-31"):
        day(tmp_path, date, invented(1), symbol="LUNAUSDT")
    with pytest.warns(ArchiveKitWarning, match="LUNAUSDT: bars may hold trades of two assets"):
        bak.volume_bars(tmp_path, "LUNAUSDT", 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volume": 0}, "volume: 0 is not an amount; give a number above zero"),
        ({"volume": -1.5}, "volume: -1.5 is not an amount"),
        ({"volume": float("nan")}, "volume: nan is not an amount"),
        ({"volume": float("inf")}, "volume: inf is not an amount"),
        ({"volume": Decimal("NaN")}, r"volume: Decimal\('NaN'\) is not an amount"),
        ({"volume": True}, "volume: True is not an amount"),
        ({"volume": "100"}, "volume: '100' is not an amount"),
        ({"volume": None}, "volume: None is not an amount"),
        ({"data_type": "klines"}, "data_type: 'klines' is not valid.*Valid: trades, aggTrades"),
        ({"data_type": "aggtrade"}, "data type of spot.*did you mean 'aggTrades'"),
        ({"symbol": "BTCUSD"}, "'BTCUSD' is not in the store; did you mean 'BTCUSDT'"),
        ({"symbol": []}, "symbol: it is empty"),
        ({"market": "sport"}, "market: 'sport'.*did you mean 'spot'"),
        ({"start": "2025-07-02", "end": "2025-07-01"}, "start: 2025-07-02 is not before end"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_makes_no_bars_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    day(tmp_path, "2025-07-01", invented(1))
    with pytest.raises(ConfigurationError, match=message):
        bak.volume_bars(tmp_path, **{"symbol": "BTCUSDT", "volume": 1} | change)
