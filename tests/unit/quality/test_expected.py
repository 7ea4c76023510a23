"""What a report of a folder expects."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import binance_archive_kit as bak
from tests.support.planted import DAY, every, plant
from tests.support.reports import DAYS, assert_consistent, gaps_of, long_candles
from tests.support.stores import kline


def test_a_folder_expects_its_own_days(two_days: Path) -> None:
    report = bak.coverage(two_days)
    assert report.verdict == (
        "Complete: 100 % of the rows due are there (48 of 48), in 2 of 2 files of 1 stream"
    )
    assert report.coverage == 1.0
    assert report.to_frame().equals(report.streams)


def test_days_beyond_the_files_are_not_collected(two_days: Path) -> None:
    report = bak.coverage(two_days, start="2025-06-30", end=date(2025, 7, 4))
    assert gaps_of(report) == [
        ("not_collected", "06-30 00:00", "07-01 00:00", 24),
        ("not_collected", "07-03 00:00", "07-05 00:00", 48),
    ]
    assert "coverage(config)" in report.gaps["evidence"][0]
    assert report.verdict.startswith("Incomplete: 40.00 % of the rows due are there (48 of 120)")
    assert "in 2 of 5 files" in report.verdict


def test_start_and_end_narrow_a_report(two_days: Path) -> None:
    report = bak.coverage(two_days, start=DAYS[1], end=DAYS[1])
    assert_consistent(report, 24, 0)
    assert report.days["date"].to_list() == [date(2025, 7, 2)]


def test_a_missing_month_counts_as_one_file(tmp_path: Path) -> None:
    for month in ("2025-05", "2025-07"):
        key = kline("BTCUSDT", month, "1d")
        plant(tmp_path, key, every(DAY, str(key.start), f"{key.end + timedelta(days=1)}"))
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("not_collected", "06-01 00:00", "07-01 00:00", 30)]
    assert "in 2 of 3 files" in report.verdict


def test_files_of_long_candles_are_counted_by_the_month(tmp_path: Path) -> None:
    long_candles(tmp_path, "1w", "2025-04", "2025-05")
    report = bak.coverage(tmp_path, start="2025-07-01", end="2025-08-31")
    assert report.verdict.startswith("Nothing there: 0 % of the rows due are there (0 of 8), in 0 ")
    assert "in 0 of 2 files" in report.verdict
