"""Candles made by hand, and stores of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from binance_archive_kit.archive.keys import ObjectKey
from tests.support import naive
from tests.support.dialects import write, zip_of
from tests.support.stores import kline

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


STEPS = {
    "1m": MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "4h": 4 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": 7 * DAY,
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def line(
    time: datetime, step: timedelta, price: float, volume: float = 10.0, market: str = "spot"
) -> str:
    """Write a candle."""
    fine = market == "spot" and time >= at("2025-01-01")
    unit = timedelta(microseconds=1) if fine else timedelta(milliseconds=1)
    begin, end = (time - EPOCH) // unit, (time + step - EPOCH) // unit - 1
    prices = f"{price},{price + 2},{price - 2},{price + 1}"
    return f"{begin},{prices},{volume},{end},{volume * price},5,{volume / 2},{volume},0\n"


def file_of(root: Path, key: ObjectKey, lines: list[str]) -> ObjectKey:
    write(root, key, zip_of(key, "".join(lines).encode()))
    return key


def day(
    root: Path,
    symbol: str,
    date: str,
    interval: str,
    market: str = "spot",
    edit: Callable[[list[str]], list[str]] = list,
) -> ObjectKey:
    """Put a day of candles into a store; the price tells symbol, interval and time."""
    step, start = STEPS[interval], at(date)
    base = 1_000 * (1 + ord(symbol[0]) - ord("A")) + 100 * list(STEPS).index(interval)
    times = [start + n * step for n in range(DAY // step)]
    lines = [line(time, step, base + n % 50, market=market) for n, time in enumerate(times)]
    return file_of(root, kline(symbol, date, interval, market), edit(lines))


def collections(*names: str) -> list[Any]:
    """Give names in every collection a user has them in, repeats among them."""
    return [
        list(names),
        [*names, *names],
        tuple(names),
        set(names),
        dict.fromkeys(names),
        (name for name in names),
        pl.Series(names),
        pl.DataFrame({"symbol": names})["symbol"].to_numpy(),
    ]


SQL_COLUMNS = ["open_time", "open", "high", "low", "close", "volume"]


SQL_COLUMNS += ["candles", "expected_candles", "interval"]


def same(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    """Compare bars of the macro with those of the loader."""
    columns = ["symbol", *SQL_COLUMNS] if "symbol" in expected.columns else SQL_COLUMNS
    words = [name for name in ("symbol", "interval") if name in columns]
    frames = [
        frame.select(columns).with_columns(pl.col(words).cast(pl.String)).sort(columns)
        for frame in (found, expected)
    ]
    return frames[0].equals(frames[1])


def bar_end(start: datetime, every: str) -> datetime:
    if every.endswith("mo"):
        months = start.year * 12 + start.month - 1 + int(every[:-2])
        return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    units = {"m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
    return start + int(every[:-1]) * units[every[-1]]


DAYS = [kline("BTCUSDT", f"2025-07-0{day}") for day in (1, 2, 3)]


HOUR = timedelta(hours=1)


def without_lines(first: int, last: int) -> Any:
    """Leave rows out, as a halt of the exchange does."""
    return lambda csv: b"".join(
        line for n, line in enumerate(csv.splitlines(keepends=True)) if not first <= n < last
    )


def rows_by_hand(root: Path, *keys: ObjectKey) -> list[dict[str, Any]]:
    return [row for key in keys for row in naive.read(root / str(key), key)]
