"""Stores that several tests read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from tests.support.candles import DAY, DAYS, HOUR, at, bar_end, day, file_of, line, without_lines
from tests.support.stores import kline, put


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    for symbol in ("BUSDT", "AUSDT", "CUSDT"):
        for date in ("2025-07-01", "2025-07-02"):
            for interval in ("1h", "4h"):
                day(root, symbol, date, interval)
                day(root, symbol, date, interval, market="futures/um")
    day(root, "CUSDT", "2025-07-03", "1h")
    return root


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Two years and a half of days, forty days of hours with holes."""
    root = tmp_path_factory.mktemp("long")
    start = at("2023-01-01")
    for month in range(30):
        first = datetime(2023 + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        end = bar_end(first, "1mo")
        days = [first + n * DAY for n in range((end - first) // DAY)]
        lines = [line(time, DAY, 100 + (time - start) // DAY) for time in days if time.day != 9]
        file_of(root, kline("AUSDT", f"{first:%Y-%m}", "1d"), lines)
        if first >= at("2024-05-01") and first < at("2024-07-01"):
            hours = [first + n * HOUR for n in range((end - first) // HOUR)]
            kept = [line(t, HOUR, 100 + t.hour + t.day) for t in hours if t.hour != t.day % 24]
            file_of(root, kline("BUSDT", f"{first:%Y-%m}", "1h"), kept)
    store = bak.store(root)
    with bak.connect(store) as con:
        yield store, con


@pytest.fixture(scope="module")
def halted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of hours with a halt of five of them, two of which are a bar of two hours."""
    root = tmp_path_factory.mktemp("store")
    put(root, DAYS[0])
    put(root, DAYS[1], edit=without_lines(3, 8))
    put(root, DAYS[2])
    put(root, kline("BTCUSDT", "2025-07-01", "4h"), 6)
    put(root, kline("ETHUSDT", "2025-07-01", "1d"), 1)
    put(root, kline("BTCUSD_PERP", "2025-07-01", market="futures/cm"))
    return root
