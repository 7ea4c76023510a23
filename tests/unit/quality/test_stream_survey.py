"""A survey of some streams reads as few files of others as tell a halt from a hole."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.quality.coverage import coverage
from binance_archive_kit.quality.expected import Expected
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.stream_survey import survey_streams
from binance_archive_kit.query.engine import Engine
from tests.support.candles import day

BTC = Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1)


def survey(root: Path, *days: date) -> CoverageReport:
    engine = Engine(root)
    stored = Expected.of_folder(engine, (None, None))
    return survey_streams(engine, stored, {BTC: (days[0], days[-1])})


def fill(root: Path, *lacking: str) -> None:
    """Put two symbols into a store; one hour is missing in the files of some."""
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for number in range(1, 6):
            cut = number == 3 and symbol in lacking
            day(root, symbol, f"2025-06-0{number}", "1h",
                edit=lambda lines, cut=cut: lines[:7] + lines[8:] if cut else lines)  # fmt: skip


def test_other_streams_are_not_read_if_nothing_is_missing(tmp_path: Path) -> None:
    fill(tmp_path)
    report = survey(tmp_path, date(2025, 6, 2), date(2025, 6, 4))
    assert report.streams["symbol"].to_list() == ["BTCUSDT"]
    assert report.gaps.is_empty()


def test_they_are_read_on_the_days_of_a_gap(tmp_path: Path) -> None:
    fill(tmp_path, "BTCUSDT", "ETHUSDT")
    report = survey(tmp_path, date(2025, 6, 1), date(2025, 6, 5))
    spans = report.streams.select("symbol", "first", "last").rows()
    assert spans == [
        ("BTCUSDT", date(2025, 5, 31), date(2025, 6, 6)),
        ("ETHUSDT", date(2025, 6, 3), date(2025, 6, 3)),
    ]
    assert report.gaps.filter(pl.col("kind").is_in(["halt", "hole"]))["kind"].to_list() == [
        *("halt", "halt"),
    ]


def test_a_hole_of_one_symbol_is_no_halt(tmp_path: Path) -> None:
    fill(tmp_path, "BTCUSDT")
    found = survey(tmp_path, date(2025, 6, 1), date(2025, 6, 5)).gaps
    inner = pl.col("kind") == "hole"
    assert found.filter(inner).equals(coverage(tmp_path).gaps.filter(inner))
    assert found.filter(inner).height == 1
