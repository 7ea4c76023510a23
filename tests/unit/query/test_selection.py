"""Symbols, intervals and times are parsed as people write them."""

from __future__ import annotations

from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import (
    ConfigurationError,
)
from tests.support.candles import HOUR, at, day


def test_any_moment_may_be_asked_for(tmp_path: Path) -> None:
    day(tmp_path, "AUSDT", "2025-07-01", "1h")
    for start, end in (("0001-01-01", "9999-12-31"), (datetime.min, datetime.max)):
        assert bak.load_klines(tmp_path, "AUSDT", "1h", start=start, end=end).height == 24
        assert bak.ohlcv(tmp_path, "AUSDT", "1d", start=start, end=end)["candles"].to_list() == [24]
    east, west = timezone(HOUR), timezone(-HOUR)
    for moment in (
        datetime.min.replace(tzinfo=east),
        datetime.max.replace(tzinfo=west),
        "x" * 10**6,
    ):
        for name in ("start", "end"):
            with pytest.raises(ConfigurationError, match=name) as caught:
                bak.scan(tmp_path, "spot", "klines", **{name: moment})  # type: ignore[arg-type]
            assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2025-07-02", None, "2025-07-02 00:00", "2025-07-03 23:00"),
        (None, "2025-07-02", "2025-07-01 00:00", "2025-07-02 23:00"),
        ("2025-07-02", "2025-07-02", "2025-07-02 00:00", "2025-07-02 23:00"),
        ("2025-07-01 12:00", "2025-07-02 12:00", "2025-07-01 12:00", "2025-07-02 11:00"),
        (date(2025, 7, 3), date(2025, 7, 3), "2025-07-03 00:00", "2025-07-03 23:00"),
        (datetime(2025, 7, 3), datetime(2025, 7, 3, 1), "2025-07-03 00:00", "2025-07-03 00:00"),
        (at("2025-07-03T05:00"), None, "2025-07-03 05:00", "2025-07-03 23:00"),
        ("2025-07-03T09:00+09:00", "2025-07-03T02:00Z", "2025-07-03 00:00", "2025-07-03 01:00"),
        ("2020-01-01", "2030-01-01", "2025-07-01 00:00", "2025-07-03 23:00"),
    ],
)
def test_days_are_inclusive_and_moments_end_before(
    halted: Path, start: Any, end: Any, first: str, last: str
) -> None:
    times = bak.load_klines(halted, "BTCUSDT", "1h", start=start, end=end)["open_time"]
    assert (times[0], times[-1]) == (at(first), at(last))
    scanned = bak.scan(
        halted, "spot", "klines", symbols="BTCUSDT", intervals="1h", start=start, end=end
    )
    assert scanned.collect()["open_time"].to_list() == times.to_list()


def test_intervals_may_be_spelled_as_people_do(halted: Path) -> None:
    frame = bak.scan(halted, "spot", "klines", intervals=["1d"]).collect()
    assert frame["symbol"].unique().to_list() == ["ETHUSDT"]
