"""What a report says about rows that are present."""

from __future__ import annotations

from pathlib import Path

import polars as pl

import binance_archive_kit as bak
from tests.support.dialects import write, zip_of
from tests.support.planted import HOUR, MINUTE, csv_at, every, plant
from tests.support.reports import DAYS, assert_consistent, hours
from tests.support.stores import kline, other


def test_a_day_given_by_a_csv_is_present_and_unverified(two_days: Path) -> None:
    zipped = two_days / str(kline("BTCUSDT", DAYS[1]))
    csv = zipped.with_suffix(".csv")
    csv.write_bytes(csv_at(kline("BTCUSDT", DAYS[1]), hours(DAYS[1])))
    zipped.unlink()
    report = bak.coverage(two_days)
    assert_consistent(report, 48, 0)
    [found] = report.findings.rows(named=True)
    assert found["kind"] == "unverified"
    assert found["evidence"].startswith("BTCUSDT-1h-2025-07-02.csv: verify cannot prove it")
    assert bak.backtest_coverage(two_days).is_ready


def test_an_irregular_file_is_read_and_named(two_days: Path) -> None:
    key = kline("BTCUSDT", DAYS[1])
    write(two_days, key, zip_of(key, csv_at(key, hours(DAYS[1])).rstrip(b"\n")))
    report = bak.coverage(two_days)
    assert_consistent(report, 48, 0)
    [found] = report.findings.rows(named=True)
    assert found["kind"] == "irregular"
    assert "no end of line" in found["evidence"]
    assert bak.backtest_coverage(two_days).verdict.startswith("Ready: ")
    assert bak.coverage(two_days).findings.equals(report.findings)


def test_a_change_of_meaning_is_reported_for_rows_it_concerns(tmp_path: Path) -> None:
    def told(*days: str) -> list[str]:
        root = tmp_path / days[0]
        for day in days:
            late = 0 if day >= "2026-06-25" else 5 * MINUTE
            times = [time + late for time in every(5 * MINUTE, day, f"{day} 23:59")]
            plant(root, other("metrics", "BTCUSDT", day), times)
        changes = bak.coverage(root).findings.filter(pl.col("kind") == "semantic_change")
        return [f"{start:%Y-%m-%d}" for start in changes["start"]]

    assert told("2026-06-23") == []
    assert told("2026-08-01") == ["2026-08-01"]
    assert told("2026-06-24", "2026-06-25") == ["2026-06-25"]


def test_a_known_defect_is_reported_for_its_days(tmp_path: Path) -> None:
    day = "2020-12-21"
    month = kline("BTCUSDT", "2020-12")
    plant(tmp_path, month, every(HOUR, "2020-12-01", "2021-01-01"))
    report = bak.coverage(tmp_path)
    [found] = report.findings.filter(pl.col("kind") == "wrong_values").rows(named=True)
    assert f"{found['start']:%Y-%m-%d}" == day
    assert "the daily ones right" in found["evidence"]
    assert "doubtful: 1 known defect" in report.verdict
    assert not bak.backtest_coverage(tmp_path, start=day, end=day).is_ready
    assert bak.backtest_coverage(tmp_path, start="2020-12-01", end="2020-12-15").is_ready
    # The daily file of that day is right, and gives it.
    plant(tmp_path, kline("BTCUSDT", day), hours(day))
    kinds = set(bak.coverage(tmp_path).findings["kind"])
    assert "wrong_values" not in kinds


def test_a_halt_shorter_than_a_candle_is_reported(tmp_path: Path) -> None:
    day = "2020-02-19"
    plant(tmp_path, kline("BTCUSDT", day, "8h"), every(8 * HOUR, day, f"{day} 23:59"))
    report = bak.coverage(tmp_path)
    [found] = report.findings.rows(named=True)
    assert found["kind"] == "known_halt"
    assert "2020-02-19 11:35:33" in found["evidence"]
    assert report.is_complete
    lacking = hours(day, 12, 13, 14, 15)
    plant(tmp_path, kline("ETHUSDT", day), lacking)
    gaps = bak.coverage(tmp_path).gaps.filter(pl.col("symbol") == "ETHUSDT")
    assert gaps["kind"][0] == "halt"
    assert "a known halt, 2020-02-19 11:35:33" in gaps["evidence"][0]
