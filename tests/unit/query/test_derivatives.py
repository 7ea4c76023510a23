"""Candles of futures are joined with what was known when they closed, and with nothing later."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import schema
from binance_archive_kit.errors import ConfigurationError
from tests.support.candles import EPOCH, HOUR, MINUTE, at, file_of, line
from tests.support.stores import other

STEP, MILLI = 5 * MINUTE, timedelta(milliseconds=1)
FAMILIES = {
    "klines": "close",
    "markPriceKlines": "mark",
    "indexPriceKlines": "index",
    "premiumIndexKlines": "premium",
}
#: What a live participant knew: when, and the values.
Known = list[tuple[datetime, tuple[float, ...]]]


def candle_key(family: str, symbol: str, date: str, market: str = "futures/um") -> ObjectKey:
    folder = f"data/{market}/daily/{family}/{symbol}/1h"
    return ObjectKey.parse(f"{folder}/{symbol}-1h-{date}.zip")


class Futures:
    """A store of two days of futures, with what was known of each feed, by hand."""

    def __init__(
        self, root: Path, symbol: str = "BTCUSDT", first: str = "2025-06-30", seed: int = 0
    ) -> None:
        self.root, self.symbol, self.dice = root, symbol, random.Random(f"{symbol} {seed}")
        self.market = "futures/cm" if "USD_" in symbol else "futures/um"
        self.start = at(first)
        self.known: dict[str, Known] = {}
        for family, name in FAMILIES.items():
            self.known[name] = self._candles(family)
        self.known["metrics"] = self._metrics()
        self.known["funding"] = self._funding()

    def _candles(self, family: str) -> Known:
        found: Known = []
        pair = self.symbol.partition("_")[0]
        symbol = pair if "cm" in self.market and family == "indexPriceKlines" else self.symbol
        for n in range(2):
            begin = self.start + n * 24 * HOUR
            times = [begin + hour * HOUR for hour in range(24)]
            if family != "klines":
                times = [time for time in times if self.dice.random() < 0.8]
            prices = [self.dice.randrange(100, 900) / 4 for _ in times]
            lines = [
                line(time, HOUR, price, market=self.market)
                for time, price in zip(times, prices, strict=True)
            ]
            file_of(self.root, candle_key(family, symbol, f"{begin:%Y-%m-%d}", self.market), lines)
            found += [
                (time + HOUR, (price + 1,)) for time, price in zip(times, prices, strict=True)
            ]
        return found

    def _metrics(self) -> Known:
        """Write metrics in any order, some of them twice.

        Labels are the ends of periods, on COIN-M and from 2026-06-25 on the starts.
        """
        found: Known = []
        head = schema(Market.FUTURES_UM, DataType.METRICS).header_line + "\n"
        for n in range(2):
            begin = self.start + n * 24 * HOUR
            by_start = "cm" in self.market or begin >= at("2026-06-25")
            lines = []
            for slot in range(288):
                label = begin + (slot if by_start else slot + 1) * STEP
                known = label + STEP if by_start else label
                if self.dice.random() < 0.1 and slot not in (0, 287):
                    continue
                values = self.dice.randrange(1, 10**6) / 8, self.dice.randrange(1, 10**6) / 8
                text = f"{label:%Y-%m-%d %H:%M:%S},{self.symbol},{values[0]},{values[1]},1,1,1,1\n"
                lines += [text] * self.dice.choice([1, 1, 2])
                found.append((known, values))
            self.dice.shuffle(lines)
            key = other("metrics", self.symbol, f"{begin:%Y-%m-%d}", self.market)
            file_of(self.root, key, [head, *lines])
        return found

    def _funding(self) -> Known:
        """Write fundings some milliseconds after each eighth hour, one of which is missing."""
        head = "calc_time,funding_interval_hours,last_funding_rate\n"
        found: Known = []
        lines: dict[str, list[str]] = {}
        times = [self.start + 8 * n * HOUR for n in range(6)]
        del times[3]
        for time in times:
            late = time + self.dice.randrange(1, 20) * MILLI
            rate = self.dice.randrange(-100, 100) / 2**20
            count = (late - EPOCH) // MILLI
            lines.setdefault(f"{late:%Y-%m}", []).append(f"{count},8,{rate}\n")
            found.append((late, (rate, 8)))
        for month, texts in lines.items():
            folder = f"data/{self.market}/monthly/fundingRate/{self.symbol}"
            key = ObjectKey.parse(f"{folder}/{self.symbol}-fundingRate-{month}.zip")
            file_of(self.root, key, [head, *texts])
        return found

    def seen(self, name: str, time: datetime, age: timedelta) -> tuple[Any, ...]:
        """Return what was known of a feed at a time: the values, since when, and the status."""
        rows = [row for row in self.known[name] if row[0] <= time]
        count = len(self.known[name][0][1])
        if not rows:
            return *[None] * count, None, "not_yet_known"
        known, values = max(rows, key=lambda row: row[0])
        if time - known > age:
            return *[None] * count, None, "too_old"
        return *values, known, "known"


AGES = {
    # The candle before is not the one that closed now.
    **dict.fromkeys(("mark", "index", "premium"), HOUR - MILLI),
    "metrics": STEP + MINUTE,
    "funding": 8 * HOUR + MINUTE,
}
VALUES = {
    **{name: [f"{name}_close"] for name in ("mark", "index", "premium")},
    "metrics": ["sum_open_interest", "sum_open_interest_value"],
    "funding": ["last_funding_rate", "funding_interval_hours"],
}


def check(store: Futures, found: pl.DataFrame, start: datetime | None = None) -> None:
    opens = [store.start + n * HOUR for n in range(48)]
    assert found["open_time"].to_list() == [
        time for time in opens if start is None or time >= start
    ]
    assert found["known_at"].to_list() == [time + HOUR for time in found["open_time"]]
    for name, columns in VALUES.items():
        names = [*columns, f"{name}_known_at", f"{name}_known_status"]
        expected = [store.seen(name, time, AGES[name]) for time in found["known_at"]]
        assert found.select(names).rows() == expected, name


@pytest.mark.parametrize("first", ["2025-06-30", "2026-06-24"])
def test_each_value_is_the_latest_known_at_the_close(tmp_path: Path, first: str) -> None:
    store = Futures(tmp_path, first=first)
    found = bak.klines_with_derivatives(tmp_path, "BTCUSDT", "1h")
    candles = bak.load_klines(tmp_path, "BTCUSDT", "1h", market="futures_um")
    assert found.columns[: candles.width] == candles.columns
    assert found.select(candles.columns).equals(candles)
    assert found.columns[candles.width :] == [
        "known_at",
        *(
            each
            for name, columns in VALUES.items()
            for each in (*columns, f"{name}_known_at", f"{name}_known_status")
        ),
    ]
    check(store, found)
    for name in VALUES:
        assert (found[f"{name}_known_at"] <= found["known_at"]).all()
    for name in ("mark", "index", "premium", "funding"):
        assert {"known", "too_old"} <= set(found[f"{name}_known_status"])
    late = at(first) + 30 * HOUR
    check(store, bak.klines_with_derivatives(tmp_path, "BTCUSDT", "1h", start=late), late)


def test_several_contracts_are_joined_each_with_its_own(tmp_path: Path) -> None:
    stores = [Futures(tmp_path, name) for name in ("ETHUSDT", "BTCUSDT")]
    found = bak.klines_with_derivatives(tmp_path, ["ETHUSDT", "BTCUSDT"], "1h")
    assert found.columns[0] == "symbol"
    for store in stores:
        check(store, found.filter(symbol=store.symbol))
        alone = bak.klines_with_derivatives(tmp_path, store.symbol, "1h")
        assert found.filter(symbol=store.symbol).drop("symbol").equals(alone)


def test_coin_margined_indexes_are_those_of_the_pair(tmp_path: Path) -> None:
    store = Futures(tmp_path, "BTCUSD_PERP")
    check(store, bak.klines_with_derivatives(tmp_path, "BTCUSD_PERP", "1h", market="futures_cm"))


def test_feeds_can_be_chosen(tmp_path: Path) -> None:
    store = Futures(tmp_path)
    whole = bak.klines_with_derivatives(tmp_path, "BTCUSDT", "1h")
    for chosen in ("metrics", ["funding_rate", "mark_price_klines"]):
        part = bak.klines_with_derivatives(store.root, "BTCUSDT", "1h", data_types=chosen)
        assert whole.select(part.columns).equals(part)
    assert "last_funding_rate" in part.columns
    assert not {"index_close", "sum_open_interest"} & set(part.columns)


def test_all_feeds_that_the_store_lacks_are_named_at_once(tmp_path: Path) -> None:
    Futures(tmp_path / "all")
    for family in ("klines", "markPriceKlines"):
        key = candle_key(family, "BTCUSDT", "2025-07-01")
        file_of(tmp_path, key, [line(at("2025-07-01"), HOUR, 100, market="futures/um")])
    with pytest.raises(ConfigurationError) as caught:
        bak.klines_with_derivatives(tmp_path, "BTCUSDT", "1h")
    said = str(caught.value)
    for data_type in ("indexPriceKlines", "premiumIndexKlines", "metrics", "fundingRate"):
        assert f'data_types=["{data_type}"]' in said
    assert "data_types: join what the store has, data_types=['markPriceKlines'], or" in said
    with pytest.raises(ConfigurationError, match="'4h' is not in the store"):
        bak.klines_with_derivatives(tmp_path / "all", "BTCUSDT", "4h")
    with pytest.raises(ConfigurationError, match="'ETHUSDT' is not in the store"):
        bak.klines_with_derivatives(tmp_path / "all", ["BTCUSDT", "ETHUSDT"], "1h")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"market": "spot"}, "market: 'spot' is not valid. Valid: futures_um, futures_cm"),
        ({"data_types": "trades"}, "data_types: 'trades' is not valid. *Valid: markPriceKlines"),
        ({"data_types": "metric"}, "did you mean 'metrics'"),
        ({"data_types": []}, "data_types: it is empty"),
        ({"interval": ["1h"]}, "interval"),
        ({"interval": "60m"}, "interval: '60m' is not valid; did you mean '1h'"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    for market in ("spot", "futures/um"):
        key = candle_key("klines", "BTCUSDT", "2025-07-01", market)
        file_of(tmp_path, key, [line(at("2025-07-01"), HOUR, 100, market=market)])
    with pytest.raises(ConfigurationError, match=message):
        bak.klines_with_derivatives(tmp_path, "BTCUSDT", **{"interval": "1h"} | more)
