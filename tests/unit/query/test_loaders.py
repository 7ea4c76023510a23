"""Candles are loaded for one name or several, and joined with funding."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
)
from tests.support import naive
from tests.support.candles import DAYS, at, collections, day, file_of, rows_by_hand
from tests.support.stores import assert_same, kline, naive_rows, put, scan_rows, schema_of


def test_several_symbols_are_loaded_each_by_itself(root: Path) -> None:
    each = {name: bak.load_klines(root, name, "1h") for name in ("AUSDT", "BUSDT")}
    assert "symbol" not in each["AUSDT"].columns
    for names in collections("BUSDT", "AUSDT"):
        found = bak.load_klines(root, names, "1h")
        assert found.columns == ["symbol", *each["AUSDT"].columns]
        for name, frame in each.items():
            assert found.filter(symbol=name).drop("symbol").equals(frame)
        assert found.height == sum(frame.height for frame in each.values())
    one = bak.load_klines(root, ["AUSDT"], "1h")
    assert one["symbol"].unique().to_list() == ["AUSDT"]


def test_several_intervals_are_loaded_each_by_itself(root: Path) -> None:
    each = {name: bak.load_klines(root, "AUSDT", name) for name in ("1h", "4h")}
    for names in collections("4h", "1h"):
        found = bak.load_klines(root, "AUSDT", names)
        assert found.columns == ["interval", *each["1h"].columns]
        for name, frame in each.items():
            assert found.filter(interval=name).drop("interval").equals(frame)
    both = bak.load_klines(root, ["AUSDT", "BUSDT"], ["1h", "4h"])
    assert both.columns[:2] == ["symbol", "interval"]
    assert both.height == 2 * sum(frame.height for frame in each.values())


def test_several_symbols_are_joined_with_their_own_funding(tmp_path: Path) -> None:
    for symbol, rate in (("AUSDT", 1), ("BUSDT", 2)):
        day(tmp_path, symbol, "2025-07-01", "1h", market="futures/um")
        day(tmp_path, symbol, "2025-07-01", "4h", market="futures/um")
        folder = f"data/futures/um/monthly/fundingRate/{symbol}"
        key = ObjectKey.parse(f"{folder}/{symbol}-fundingRate-2025-07.zip")
        begin = int(at("2025-07-01").timestamp() * 1_000)
        rows = [f"{begin + hours * 3_600_000 + 7},8,0.0{rate}{hours:02}\n" for hours in (0, 8, 16)]
        header = "calc_time,funding_interval_hours,last_funding_rate\n"
        # One funding stands twice, and counts once.
        file_of(tmp_path, key, [header, *rows, rows[-1]])
    with pytest.warns(ArchiveKitWarning, match="1 row that repeats"):
        single = bak.klines_with_funding(tmp_path, "AUSDT", "1h")
    with pytest.warns(ArchiveKitWarning, match="2 rows that repeat") as told:
        found = bak.klines_with_funding(tmp_path, ["AUSDT", "BUSDT"], ["1h", "4h"])
    assert len(told) == 1
    assert single.height == 24
    assert found.filter(symbol="AUSDT", interval="1h").drop("symbol", "interval").equals(single)
    for symbol, least in (("AUSDT", 0.01), ("BUSDT", 0.02)):
        rates = found.filter(symbol=symbol)["last_funding_rate"].drop_nulls()
        assert rates.is_between(least, least + 0.002).all()


@pytest.mark.parametrize("load", [bak.load_klines, bak.klines_with_funding, bak.ohlcv])
@pytest.mark.parametrize(
    ("names", "said"),
    [([], "symbols?: it is empty"), (3, "neither a name nor"), (["AUSDT", 3], "3 is not a name")],
)
def test_names_that_are_none_are_refused(root: Path, load: Any, names: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(root, names, "1h", market="futures_um")


@pytest.mark.parametrize("name", ["ausdt", "A/USDT", "A/USDT:USDT", "a-usdt"])
def test_another_spelling_of_a_symbol_is_not_to_be_collected(root: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 'AUSDT'\?") as caught:
        bak.load_klines(root, name, "1h")
    assert "To add it" not in str(caught.value)


def test_what_one_of_several_lacks_is_not_left_out_silently(root: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'DUSDT' is not in the store.*To add it: coll"):
        bak.load_klines(root, ["AUSDT", "DUSDT"], "1h")
    with pytest.warns(ArchiveKitWarning, match="no candle between 2025-07-03 .* of AUSDT 1h"):
        found = bak.load_klines(root, ["AUSDT", "CUSDT"], "1h", start="2025-07-03")
    assert found["symbol"].unique().to_list() == ["CUSDT"]
    with pytest.warns(ArchiveKitWarning, match="of AUSDT"):
        bars = bak.ohlcv(root, ["AUSDT", "CUSDT"], "1d", start="2025-07-03")
    assert bars["symbol"].to_list() == ["CUSDT"]
    day(root, "DUSDT", "2025-07-01", "4h")
    asks: list[Callable[[], pl.DataFrame]] = [
        lambda: bak.load_klines(root, ["AUSDT", "DUSDT"], ["1h", "4h"]),
        lambda: bak.ohlcv(root, ["AUSDT", "DUSDT"], "1d", interval=["1h", "4h"]),
    ]
    for load in asks:
        with pytest.raises(ConfigurationError, match=r"'1h' is not in the store.*DUSDT"):
            load()


@pytest.mark.parametrize("odd", [5, None, b"x", [None], [b"x"], ["x" * 10**6], "x" * 10**6, [], {}])
@pytest.mark.parametrize("name", ["symbol", "interval", "market", "data_type"])
def test_names_that_are_none_are_our_error(root: Path, name: str, odd: Any) -> None:
    given = {"symbol": "AUSDT", "interval": "1h"} | {name: odd}
    with pytest.raises(ConfigurationError, match=name.replace("_", ".")) as caught:
        bak.load_klines(root, **given)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("load", [bak.load_klines, bak.ohlcv])
def test_when_all_is_left_out_the_error_names_the_files(
    tmp_path: Path, load: Callable[..., pl.DataFrame]
) -> None:
    bad = day(tmp_path, "AUSDT", "2025-07-01", "1h", edit=lambda lines: [*lines, "1,2\n"])
    day(tmp_path, "BUSDT", "2025-07-01", "1h")
    with pytest.warns(ArchiveKitWarning), pytest.raises(ConfigurationError, match=str(bad)):
        load(tmp_path, "AUSDT", "1h", on_error="skip")
    with pytest.warns(ArchiveKitWarning) as told:
        found = load(tmp_path, ["AUSDT", "BUSDT"], "1h", on_error="skip")
    assert set(found["symbol"]) == {"BUSDT"}
    assert any("no candle" in str(each.message) and str(bad) in str(each.message) for each in told)


def test_candles_are_loaded_without_the_columns_of_the_path(halted: Path) -> None:
    frame = bak.load_klines(halted, "BTCUSDT", "1h")
    own = naive.columns(schema_of(DAYS[0]))[6:]
    assert frame.columns == own
    assert_same(scan_rows(frame), [row[6:] for row in naive_rows(halted, *DAYS)])


def test_other_families_and_markets_are_loaded_by_name(halted: Path) -> None:
    put(halted, kline("BTCUSDT", "2025-07-01", market="futures/um"), 5)
    mark = ObjectKey.parse(
        str(kline("BTCUSDT", "2025-07-01", market="futures/um")).replace(
            "/klines/", "/markPriceKlines/"
        )
    )
    put(halted, mark, 6)
    assert bak.load_klines(halted, "BTCUSDT", "1h", market="um").height == 5
    for spelled in ("markPriceKlines", "mark_price_klines"):
        frame = bak.load_klines(halted, "BTCUSDT", "1h", market="futures_um", data_type=spelled)
        assert frame.height == 6


@pytest.fixture
def funded(tmp_path: Path) -> tuple[Path, ObjectKey, ObjectKey]:
    """Two days of candles, and funding from 08:00 of the first day on, 7 ms late."""
    candles = kline("BTCUSDT", "2025-07-01", market="futures/um")
    funding = ObjectKey.parse(
        "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"
    )
    begin = int(at("2025-07-01").timestamp() * 1_000)
    lines = ["calc_time,funding_interval_hours,last_funding_rate"]
    lines += [f"{begin + hours * 3_600_000 + 7},8,0.000{hours:02}" for hours in (8, 16, 24)]
    put(tmp_path, candles)
    put(tmp_path, funding, edit=lambda _: "".join(f"{line}\n" for line in lines).encode())
    return tmp_path, candles, funding


def test_funding_is_the_latest_known_when_a_candle_opened(
    funded: tuple[Path, ObjectKey, ObjectKey],
) -> None:
    halted, candles, funding = funded
    found = bak.klines_with_funding(halted, "BTCUSDT", "1h")
    rates = rows_by_hand(halted, funding)
    assert found.height == 24
    for row, candle in zip(found.to_dicts(), rows_by_hand(halted, candles), strict=True):
        known = [rate for rate in rates if rate["calc_time"] <= candle["open_time"]]
        expected = known[-1]["last_funding_rate"] if known else None
        assert row["last_funding_rate"] == expected, candle["open_time"]
        assert row["close"] == candle["close"]
        calculated = known[-1]["calc_time"].replace(tzinfo=UTC) if known else None
        assert row["calc_time"] == calculated
    # It was calculated 7 ms after 08:00, so the candle of 08:00 knows nothing of it.
    assert found["last_funding_rate"].null_count() == 9
    assert found["last_funding_rate"].drop_nulls().unique().sort().to_list() == [0.00008, 0.00016]


def test_funding_is_not_carried_on_beyond_the_next_that_was_due(
    funded: tuple[Path, ObjectKey, ObjectKey],
) -> None:
    halted, *_ = funded
    put(halted, kline("BTCUSDT", "2025-07-02", market="futures/um"))
    found = bak.klines_with_funding(halted, "BTCUSDT", "1h", start="2025-07-02")
    # The last was calculated 7 ms after midnight, and holds until the one due at 08:00.
    assert found["last_funding_rate"].to_list() == [0.00016, *[0.00024] * 8, *[None] * 15]
    assert found["calc_time"].null_count() == found["funding_interval_hours"].null_count() == 15


def test_when_a_funding_is_too_old_does_not_depend_on_the_next(
    funded: tuple[Path, ObjectKey, ObjectKey],
) -> None:
    root, _, funding = funded
    begin = int(at("2025-07-01").timestamp() * 1_000)
    head = "calc_time,funding_interval_hours,last_funding_rate\n"
    rows = [f"{begin + 7},4,0.01\n", f"{begin + 8 * 3_600_000 + 7},8,0.02\n"]
    found = []
    for count in (1, 2):
        file_of(root, funding, [head, *rows[:count]])
        frame = bak.klines_with_funding(root, "BTCUSDT", "1h")
        found.append(frame["last_funding_rate"].to_list()[:9])
    # At 05:00 nothing shows that the next one comes after eight hours, not after four.
    assert found == [[None, *[0.01] * 4, *[None] * 4]] * 2


def test_funding_that_is_not_there_is_told(halted: Path) -> None:
    put(halted, kline("BTCUSDT", "2025-07-01", market="futures/um"), 5)
    with pytest.raises(ConfigurationError, match=r"has no USD.*fundingRate"):
        bak.klines_with_funding(halted, "BTCUSDT", "1h")
