"""Another future leaves the past as it was, for each function that says what was known when.

Two stores have the same rows up to a time, and other rows after it: other values, other holes,
other files. What a function says of the time up to then must be the same.
"""

from __future__ import annotations

import random
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import schema
from tests.support.candles import EPOCH, HOUR, MINUTE, at, file_of, line
from tests.support.stores import other

START, DAYS = at("2025-07-01"), 2
MILLI = timedelta(milliseconds=1)
METRICS = schema(Market.FUTURES_UM, DataType.METRICS).header_line + "\n"
FUNDING = schema(Market.FUTURES_UM, DataType.FUNDING_RATE).header_line + "\n"


@dataclass(frozen=True)
class Row:
    """A line of a file, and when a live participant could have had it."""

    key: ObjectKey
    known: datetime
    text: str

    @property
    def identity(self) -> tuple[ObjectKey, str]:
        """The file and the first cell: a time, or a number."""
        return self.key, self.text.partition(",")[0]


def candle_key(market: str, family: str, symbol: str, time: datetime) -> ObjectKey:
    folder = f"data/{market}/daily/{family}/{symbol}/1h"
    return ObjectKey.parse(f"{folder}/{symbol}-1h-{time:%Y-%m-%d}.zip")


def candles(dice: random.Random, market: str, symbol: str, family: str = "klines") -> Iterator[Row]:
    """Yield candles with holes, some that stand there twice, and some cut short by a halt."""
    for hour in range(24 * DAYS):
        time = START + hour * HOUR
        kind = dice.choice(["usual"] * 8 + ["missing", "twice", "short"]) if hour else "usual"
        text = line(time, HOUR, dice.randrange(100, 10_000) / 16, dice.randrange(1, 99), market)
        known = time + HOUR
        if kind == "short":
            cells = text.split(",")
            unit = 1_000 if market == "spot" else 1
            cells[6] = str(int(cells[6]) - 13 * 60_000 * unit)
            text, known = ",".join(cells), known - 13 * MINUTE
        if kind != "missing":
            copies = 2 if kind == "twice" else 1
            yield from [Row(candle_key(market, family, symbol, time), known, text)] * copies


def metrics(dice: random.Random) -> Iterator[Row]:
    for slot in range(288 * DAYS):
        known = START + (slot + 1) * 5 * MINUTE
        key = other("metrics", "BTCUSDT", f"{START + slot * 5 * MINUTE:%Y-%m-%d}")
        interest = dice.randrange(1, 10**6) / 8
        text = f"{known:%Y-%m-%d %H:%M:%S},BTCUSDT,{interest},{interest * 2},1,1,1,1\n"
        if slot < 2 or dice.random() < 0.9:
            yield from [Row(key, known, text)] * dice.choice([1, 1, 1, 2])


def fundings(dice: random.Random) -> Iterator[Row]:
    """Yield fundings every four or eight hours, some of them missing."""
    hour = 0
    while hour < 24 * DAYS:
        hours = dice.choice([4, 8])
        known = START + hour * HOUR + dice.randrange(1, 20) * MILLI
        key = ObjectKey.parse(
            f"data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-{known:%Y-%m}.zip"
        )
        rate = dice.randrange(-99, 99) / 2**20
        if not hour or dice.random() < 0.8:
            yield Row(key, known, f"{(known - EPOCH) // MILLI},{hours},{rate}\n")
        hour += dice.choice([4, 8])


def trades(dice: random.Random, market: str, data_type: str) -> Iterator[Row]:
    """Yield trades, some of one time, with gaps of ids, and one hour without any."""
    silent = dice.randrange(2, 24 * DAYS)
    number, second = 0, 0
    while (known := START + timedelta(seconds=second)) < START + 24 * DAYS * HOUR:
        number += dice.choice([1, 1, 1, 1, 2, 7])
        count = (known - EPOCH) // timedelta(microseconds=1 if market == "spot" else 1_000)
        price, amount = dice.randrange(900, 1_100) / 8, dice.randrange(1, 5_000) / 1_000
        side = (
            dice.choice(["True", "False"]) if market == "spot" else dice.choice(["true", "false"])
        )
        cells = [number, price, amount]
        cells += [number * 2, number * 2 + 1] if data_type == "aggTrades" else [price * amount]
        text = ",".join(map(str, [*cells, count, side, *(["True"] * (market == "spot"))])) + "\n"
        if second // 3600 != silent:
            yield Row(other(data_type, "BTCUSDT", f"{known:%Y-%m-%d}", market), known, text)
        second += dice.choice([0, 1, 60, 600, 1800])


def world(seed: int) -> list[Row]:
    """Invent all rows of a store."""
    dice = random.Random(seed)
    um = "futures/um"
    return [
        *candles(dice, "spot", "BTCUSDT"),
        *candles(dice, "spot", "ETHUSDT"),
        *candles(dice, um, "BTCUSDT"),
        *(
            row
            for family in ("markPriceKlines", "indexPriceKlines", "premiumIndexKlines")
            for row in candles(dice, um, "BTCUSDT", family)
        ),
        *metrics(dice),
        *fundings(dice),
        *trades(dice, "spot", "aggTrades"),
        *trades(dice, um, "trades"),
    ]


def after(rows: list[Row], now: datetime, lived: list[Row]) -> list[Row]:
    """Return the rows that are known after a time, without another candle of a known time."""
    known = {row.identity for row in lived}
    return [row for row in rows if row.known > now and row.identity not in known]


def write(root: Path, rows: list[Row]) -> Path:
    """Write rows to their files."""
    files: dict[ObjectKey, list[Row]] = defaultdict(list)
    for row in rows:
        files[row.key].append(row)
    for key, own in files.items():
        head = {DataType.METRICS: [METRICS], DataType.FUNDING_RATE: [FUNDING]}
        texts = [row.text for row in sorted(own, key=lambda row: row.known)]
        file_of(root, key, [*head.get(key.folder.data_type, []), *texts])
    return root


# What each function says of the time up to `now`

Past = Callable[[Path, datetime], list[pl.DataFrame]]
PAST: dict[str, Past] = {}


def past(function: Past) -> Past:
    PAST[function.__name__] = function
    return function


def known(frame: pl.DataFrame, now: datetime, column: str = "known_at") -> pl.DataFrame:
    return frame.filter(pl.col(column) <= now)


@past
def volume_bars(root: Path, now: datetime) -> list[pl.DataFrame]:
    return [
        known(bak.volume_bars(root, "BTCUSDT", size).filter("complete"), now, "close_time")
        for size in (0.5, 10, 60)
    ]


@past
def dollar_bars(root: Path, now: datetime) -> list[pl.DataFrame]:
    found = bak.dollar_bars(root, "BTCUSDT", 2_000, market="um", data_type="trades")
    return [known(found.filter("complete"), now, "close_time")]


@past
def basis(root: Path, now: datetime) -> list[pl.DataFrame]:
    return [known(bak.basis(root, "BTCUSDT", "1h"), now)]


@past
def klines_with_derivatives(root: Path, now: datetime) -> list[pl.DataFrame]:
    return [known(bak.klines_with_derivatives(root, "BTCUSDT", "1h"), now)]


@past
def klines_with_funding(root: Path, now: datetime) -> list[pl.DataFrame]:
    """Fundings are known when a candle opens, its own columns when it closes."""
    frame = bak.known_at(bak.klines_with_funding(root, "BTCUSDT", "1h"), "um", "klines")
    fundings = ["calc_time", "funding_interval_hours", "last_funding_rate"]
    # A candle of the future may be missing, so that there is no row to show its funding.
    opened = frame.select("open_time", *fundings).filter(pl.col("open_time") <= now)
    return [known(frame, now), opened.filter(pl.col("open_time") <= now - HOUR)]


@past
def forward_returns(root: Path, now: datetime) -> list[pl.DataFrame]:
    """Labels are known at `label_known_at`, and only labels may look ahead."""
    frame = bak.forward_returns(root, ["2h", 5], "BTCUSDT", "1h")
    ends = ("2h", "5_candles")
    labels = [
        known(
            frame.select("open_time", f"forward_return_{end}", f"label_known_at_{end}"),
            now,
            f"label_known_at_{end}",
        )
        for end in ends
    ]
    own = [name for name in frame.columns if not name.startswith(("forward_return", "label_"))]
    return [known(bak.known_at(frame.select(own), "spot", "klines"), now), *labels]


@past
def join_known(root: Path, now: datetime) -> list[pl.DataFrame]:
    times = [START + n * 20 * MINUTE + n % 3 * MILLI for n in range(72 * DAYS)]
    decisions = pl.DataFrame({"time": [*times, now]})
    feeds: list[tuple[str, str, str | None, str | None]] = [
        ("um", "metrics", None, "due"),
        ("um", "fundingRate", None, "due"),
        ("um", "fundingRate", None, None),
        ("spot", "aggTrades", None, "30m"),
        ("um", "klines", "1h", "due"),
    ]
    joined = [
        bak.join_known(
            decisions,
            root,
            market,
            feed,
            on="time",
            symbol="BTCUSDT",
            interval=interval,
            tolerance=tolerance,
        )
        for market, feed, interval, tolerance in feeds
    ]
    return [known(frame, now, "time") for frame in joined]


@past
def ohlcv(root: Path, now: datetime) -> list[pl.DataFrame]:
    bars = bak.ohlcv(root, ["BTCUSDT", "ETHUSDT"], "4h")
    return [bars.filter(pl.col("open_time") + 4 * HOUR <= now)]


@past
def panel(root: Path, now: datetime) -> list[pl.DataFrame]:
    ways = ({}, {"returns": True}, {"returns": True, "across_gaps": True})
    frames = [bak.panel(root, "spot", "1h", "close", **way) for way in ways]
    # A row of missing candles ends where the last candle of any symbol does.
    return [
        frame.filter(
            pl.col("open_time") + HOUR <= now,
            pl.any_horizontal(pl.exclude("open_time").is_not_null()),
        )
        for frame in frames
    ]


@pytest.mark.parametrize("name", PAST)
@settings(max_examples=4, deadline=None)
@given(
    seeds=st.tuples(st.integers(0, 2**20), st.integers(2**21, 2**22)),
    minute=st.integers(120, 24 * 60 * DAYS),
    drops_file=st.booleans(),
)
def test_another_future_leaves_the_past_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    seeds: tuple[int, int],
    minute: int,
    drops_file: bool,
) -> None:
    now = START + minute * MINUTE
    one, two = map(world, seeds)
    lived = [row for row in one if row.known <= now]
    future = after(two, now, lived)
    if drops_file:
        # A file that is missing altogether.
        future = [row for row in future if row.key.start == START.date()]
    found = []
    with warnings.catch_warnings():
        # Rows that stand there twice are told of.
        warnings.simplefilter("ignore", bak.ArchiveKitWarning)
        for rows in (one, [*lived, *future]):
            root = write(tmp_path_factory.mktemp("store"), rows)
            found.append(PAST[name](root, now))
    for first, second in zip(*found, strict=True):
        assert first.columns == second.columns
        assert first.equals(second), (first, second)


def test_the_past_is_not_empty(tmp_path: Path) -> None:
    """Else the same nothing would be compared."""
    root = write(tmp_path, world(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bak.ArchiveKitWarning)
        for name, function in PAST.items():
            for frame in function(root, START + 40 * HOUR):
                assert frame.height >= 5, name


@pytest.mark.parametrize("leak", ["close at open", "funding after", "whole bars", "metrics label"])
def test_a_look_ahead_is_found(tmp_path: Path, leak: str) -> None:
    """What looks ahead does change with the future."""
    now = START + 20 * HOUR + 10 * MINUTE

    def leaky(root: Path) -> pl.DataFrame:
        candles = bak.load_klines(root, "BTCUSDT", "1h", market="um")
        if leak == "close at open":
            return candles.filter(pl.col("open_time") <= now)
        if leak == "funding after":
            fundings = bak.scan(root, "um", "fundingRate").collect().sort("calc_time")
            times = pl.DataFrame({"open_time": [START + n * HOUR for n in range(48)]})
            joined = times.set_sorted("open_time").join_asof(
                fundings.select("calc_time", "last_funding_rate"),
                left_on="open_time",
                right_on="calc_time",
                strategy="nearest",
            )
            return joined.filter(pl.col("open_time") <= now)
        if leak == "whole bars":
            return bak.ohlcv(root, "BTCUSDT", "4h", market="um").filter(pl.col("open_time") <= now)
        rows = bak.scan(root, "um", "metrics").sort("create_time").collect()
        return rows.filter(pl.col("create_time") - 5 * MINUTE <= now)[
            "sum_open_interest"
        ].to_frame()

    one, two = world(3), world(2**21)
    lived = [row for row in one if row.known <= now]
    future = after(two, now, lived)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bak.ArchiveKitWarning)
        first, second = (
            leaky(write(tmp_path / name, rows))
            for name, rows in (("one", one), ("two", [*lived, *future]))
        )
    assert not first.equals(second)
