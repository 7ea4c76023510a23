"""The basis compares candles of two markets that close at the same time, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.errors import ConfigurationError
from tests.support.candles import DAY, HOUR, MINUTE, at, file_of, line
from tests.support.stores import kline

START = at("2025-07-01")


def hours(
    root: Path,
    market: str,
    symbol: str,
    closes: dict[int, float],
    *,
    start: datetime = START,
    edit: Callable[[int, str], str] = lambda _, text: text,
) -> None:
    """Put candles of an hour into a store, each with a close, by the hour after the start."""
    by_day: dict[str, list[str]] = {}
    for hour, close in closes.items():
        time = start + hour * HOUR
        text = line(time, HOUR, close - 1, market=market)
        by_day.setdefault(f"{time:%Y-%m-%d}", []).append(edit(hour, text))
    for date, lines in by_day.items():
        file_of(root, kline(symbol, date, "1h", market), lines)


def rows(frame: pl.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    return frame.select(names).rows()


def test_the_basis_is_futures_less_spot(tmp_path: Path) -> None:
    hours(tmp_path, "spot", "BTCUSDT", {0: 100, 1: 200, 2: 400})
    hours(tmp_path, "futures/um", "BTCUSDT", {0: 101, 1: 198, 2: 400})
    found = bak.basis(tmp_path, "BTCUSDT", "1h")
    assert found.columns == [
        *("open_time", "known_at", "spot_symbol", "spot_close", "futures_close", "multiplier"),
        *("basis", "relative_basis"),
    ]
    times = [START + n * HOUR for n in range(3)]
    assert rows(found, "open_time", "known_at") == [(time, time + HOUR) for time in times]
    assert rows(found, "spot_close", "futures_close", "basis", "relative_basis") == [
        (100, 101, 1, 0.01),
        (200, 198, -2, -0.01),
        (400, 400, 0, 0),
    ]
    assert set(rows(found, "spot_symbol", "multiplier")) == {("BTCUSDT", 1.0)}
    several = bak.basis(tmp_path, ["BTCUSDT"], "1h")
    assert several.columns[0] == "symbol"
    assert several.drop("symbol").equals(found)


def test_candles_that_are_missing_are_not_filled(tmp_path: Path) -> None:
    hours(tmp_path, "spot", "BTCUSDT", {0: 100, 1: 100, 2: 100, 5: 100, 6: 100})
    hours(tmp_path, "futures/um", "BTCUSDT", {1: 101, 3: 103, 5: 105})
    found = bak.basis(tmp_path, "BTCUSDT", "1h")
    # Nothing before the first candle of the contract, and no row where neither has one.
    assert [(row[0] - START) // HOUR for row in rows(found, "open_time")] == [1, 2, 3, 5, 6]
    assert rows(found, "spot_close", "futures_close", "basis") == [
        (100, 101, 1),
        (100, None, None),
        (None, 103, None),
        (100, 105, 5),
        (100, None, None),
    ]
    assert found["relative_basis"].null_count() == 3
    assert found["known_at"].to_list() == [time + HOUR for time in found["open_time"]]


def test_a_candle_cut_short_by_a_halt_has_no_basis(tmp_path: Path) -> None:
    def cut(hour: int, text: str) -> str:
        fields = text.split(",")
        if hour == 1:
            fields[6] = str(int(fields[6]) - 20 * MINUTE // timedelta(microseconds=1))
        return ",".join(fields)

    hours(tmp_path, "spot", "BTCUSDT", {0: 100, 1: 100, 2: 100}, edit=cut)
    hours(tmp_path, "futures/um", "BTCUSDT", {0: 101, 1: 101, 2: 101})
    found = bak.basis(tmp_path, "BTCUSDT", "1h")
    assert found["basis"].to_list() == [1, None, 1]
    assert found["spot_close"].null_count() == found["futures_close"].null_count() == 0
    # The row is known when the later candle is.
    assert found["known_at"].to_list() == [START + n * HOUR for n in (1, 2, 3)]


def test_a_missing_candle_is_known_to_be_missing_when_it_would_have_closed(tmp_path: Path) -> None:
    def cut(hour: int, text: str) -> str:
        fields = text.split(",")
        fields[6] = str(int(fields[6]) - 20 * MINUTE // timedelta(milliseconds=1))
        return ",".join(fields)

    hours(tmp_path, "spot", "BTCUSDT", {0: 100})
    hours(tmp_path, "futures/um", "BTCUSDT", {0: 101, 1: 101}, edit=cut)
    found = bak.basis(tmp_path, "BTCUSDT", "1h")
    assert found["known_at"].to_list() == [START + n * HOUR for n in (1, 2)]


@pytest.mark.parametrize(
    ("contract", "stored", "multiplier"),
    [
        ("1000SHIBUSDT", ["SHIBUSDT"], 1000),
        ("1000SATSUSDT", ["1000SATSUSDT"], 1),
        ("1000SATSUSDT", ["1000SATSUSDT", "SATSUSDT"], 1),
        ("1MBABYDOGEUSDT", ["BABYDOGEUSDT"], 1_000_000),
        ("BTCUSDC", ["BTCUSDC", "BTCUSDT"], 1),
        ("BTCUSDT_250926", ["BTCUSDT"], 1),
    ],
)
def test_the_spot_symbol_and_its_multiplier_follow_from_the_name(
    tmp_path: Path, contract: str, stored: list[str], multiplier: float
) -> None:
    for symbol in stored:
        hours(tmp_path, "spot", symbol, {0: 4})
    hours(tmp_path, "futures/um", contract, {0: 5 * multiplier})
    found = bak.basis(tmp_path, contract, "1h")
    assert rows(found, "spot_symbol", "multiplier", "spot_close", "basis", "relative_basis") == [
        (stored[0], multiplier, 4, multiplier, 0.25)
    ]


def test_a_contract_of_a_smaller_unit_is_compared_in_its_own(tmp_path: Path) -> None:
    hours(tmp_path, "spot", "1000SATSUSDT", {0: 4000})
    hours(tmp_path, "futures/um", "SATSUSDT", {0: 5})
    found = bak.basis(tmp_path, "SATSUSDT", "1h", spot_symbol="1000SATSUSDT")
    assert rows(found, "multiplier", "basis", "relative_basis") == [(0.001, 1, 0.25)]


def test_coin_margined_contracts_need_a_spot_symbol(tmp_path: Path) -> None:
    hours(tmp_path, "spot", "BTCUSDT", {0: 100})
    hours(tmp_path, "futures/cm", "BTCUSD_PERP", {0: 101})
    with pytest.raises(ConfigurationError, match=r"spot_symbol: BTCUSD_PERP is priced in USD"):
        bak.basis(tmp_path, "BTCUSD_PERP", "1h", market="futures_cm")
    found = bak.basis(tmp_path, "BTCUSD_PERP", "1h", market="cm", spot_symbol="BTCUSDT")
    assert rows(found, "spot_symbol", "basis") == [("BTCUSDT", 1)]


def test_several_contracts_share_a_spot_symbol(tmp_path: Path) -> None:
    hours(tmp_path, "spot", "BTCUSDT", {0: 100, 1: 100})
    hours(tmp_path, "spot", "ETHUSDT", {0: 10, 1: 10})
    for symbol, price in (("BTCUSDT", 101), ("BTCUSDT_250926", 105), ("ETHUSDT", 11)):
        hours(tmp_path, "futures/um", symbol, {0: price, 1: price})
    names = ["ETHUSDT", "BTCUSDT_250926", "BTCUSDT"]
    found = bak.basis(tmp_path, names, "1h")
    assert rows(found, "symbol", "basis") == [
        *[("BTCUSDT", 1)] * 2,
        *[("BTCUSDT_250926", 5)] * 2,
        *[("ETHUSDT", 1)] * 2,
    ]
    chosen = {name: name[:7] for name in names}
    assert bak.basis(tmp_path, names, "1h", spot_symbol=chosen).equals(found)


def test_a_basis_is_annualized_until_the_delivery(tmp_path: Path) -> None:
    start = at("2025-09-25")
    hours(tmp_path, "spot", "BTCUSDT", dict.fromkeys(range(48), 100.0), start=start)
    contract = dict.fromkeys(range(34), 102.0)
    hours(tmp_path, "futures/um", "BTCUSDT_250926", contract, start=start)
    found = bak.basis(tmp_path, "BTCUSDT_250926", "1h", annualize=True)
    # It is delivered at 08:00; two candles after that are none of it.
    assert found["open_time"].to_list() == [start + n * HOUR for n in range(32)]
    assert found["basis"].to_list() == [2] * 32
    years = [(32 - 1 - n) * HOUR / (365 * DAY) for n in range(31)]
    expected = [0.02 / each for each in years]
    assert found["annualized_basis"].to_list() == pytest.approx([*expected, None])
    assert "annualized_basis" not in bak.basis(tmp_path, "BTCUSDT_250926", "1h").columns
    for date in ("2025-09-25", "2025-09-26"):
        file_of(tmp_path, kline("BTCUSDT", date, "1d"), [line(at(date), DAY, 99)])
        day = [line(at(date), DAY, 101, market="futures/um")]
        file_of(tmp_path, kline("BTCUSDT_250926", date, "1d", "futures/um"), day)
    # The candle of the last day closes after the delivery, and its price is older.
    days = bak.basis(tmp_path, "BTCUSDT_250926", "1d", annualize=True)
    assert days["basis"].to_list() == [2, None]
    assert days["annualized_basis"].to_list() == pytest.approx([0.02 * 365 * 3, None])


def test_perpetual_contracts_are_not_annualized(tmp_path: Path) -> None:
    hours(tmp_path, "spot", "BTCUSDT", {0: 100})
    hours(tmp_path, "futures/um", "BTCUSDT", {0: 100})
    with pytest.raises(ConfigurationError, match="annualize: BTCUSDT has no delivery day"):
        bak.basis(tmp_path, "BTCUSDT", "1h", annualize=True)


def test_exact_decimals_give_the_same_basis(tmp_path: Path) -> None:
    hours(tmp_path, "spot", "SHIBUSDT", {0: 10.25})
    hours(tmp_path, "futures/um", "1000SHIBUSDT", {0: 10250.5})
    exact = bak.basis(tmp_path, "1000SHIBUSDT", "1h", decimals=True)
    assert isinstance(exact.schema["spot_close"], pl.Decimal)
    names = ["basis", "relative_basis"]
    assert exact.select(names).equals(bak.basis(tmp_path, "1000SHIBUSDT", "1h").select(names))


@pytest.mark.parametrize(
    ("symbol", "more", "message"),
    [
        ("BTCUSDT", {"market": "spot"}, "market: 'spot' is not valid. *Valid: futures_um, fut"),
        ("BTCUSDT", {"annualize": 1}, "annualize: 1 is neither"),
        ("BTCUSDT", {"interval": "1hour"}, "interval: '1hour' is not valid; did you mean '1h'"),
        ("BTCUSDT", {"spot_symbol": 3}, "spot_symbol: 3 is neither a name nor a mapping"),
        ("BTCUSDT", {"spot_symbol": {}}, "spot_symbol: the mapping has no 'BTCUSDT'"),
        ("BTCUSDT", {"spot_symbol": {"BTCUSDT": 3}}, "spot_symbol: 3 is not a name"),
        (
            "BTCUSDT",
            {"spot_symbol": "ETHUSDT"},
            "ETHUSDT is a price of ETH, and BTCUSDT one of BTC",
        ),
        (
            "BTCUSDT",
            {"spot_symbol": "BTCUSDC"},
            "symbols of spot_klines: 'BTCUSDC' is not in the store",
        ),
        ("ETHUSDT", {}, "symbol.*'ETHUSDT' is not in the store"),
        ("XYZ", {}, "symbol: the base asset of 'XYZ' is not known"),
        ("BTCUSDT", {"spot_symbol": "XYZ"}, "spot_symbol: the base asset of 'XYZ' is not known"),
        ("BTCUSDT", {"start": "2025-07-02"}, "no candle between 2025-07-02 and its end"),
    ],
)
def test_what_has_no_basis_is_refused(
    tmp_path: Path, symbol: str, more: dict[str, Any], message: str
) -> None:
    hours(tmp_path, "spot", "BTCUSDT", {0: 100})
    hours(tmp_path, "futures/um", "BTCUSDT", {0: 100})
    with pytest.raises(ConfigurationError, match=message):
        bak.basis(tmp_path, symbol, **{"interval": "1h"} | more)


@settings(max_examples=25, deadline=None)
@given(
    spot=st.dictionaries(st.integers(0, 30), st.integers(2, 10**6), min_size=1),
    futures=st.dictionaries(st.integers(0, 30), st.integers(2, 10**6), min_size=1),
)
def test_values_are_those_of_a_look_up_of_each_hour(
    tmp_path_factory: pytest.TempPathFactory, spot: dict[int, int], futures: dict[int, int]
) -> None:
    root = tmp_path_factory.mktemp("store")
    hours(root, "spot", "SHIBUSDT", {hour: spot[hour] / 8 + 2 for hour in sorted(spot)})
    closes = {hour: futures[hour] / 8 + 2 for hour in sorted(futures)}
    hours(root, "futures/um", "1000SHIBUSDT", closes)
    expected = []
    for hour in range(min(futures), 31):
        one, two = spot.get(hour), futures.get(hour)
        one, two = one and one / 8 + 2, two and two / 8 + 2
        if one is None and two is None:
            continue
        basis = None if one is None or two is None else two - 1000 * one
        relative = None if basis is None or one is None else basis / (1000 * one)
        expected.append((START + hour * HOUR, one, two, basis, relative))
    found = bak.basis(root, "1000SHIBUSDT", "1h")
    names = ["open_time", "spot_close", "futures_close", "basis", "relative_basis"]
    assert rows(found, *names) == expected
