"""A survey of some streams reads as few files of others as tell a halt from a hole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.quality.coverage import coverage
from binance_archive_kit.quality.expected import Expected
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.stream_survey import survey_streams
from binance_archive_kit.query.engine import Engine
from tests.support.candles import day

BTC = Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1)


def survey(root: Path, *days: date, of: Sequence[Stream] = (BTC,)) -> CoverageReport:
    engine = Engine(root)
    stored = Expected.of_folder(engine, (None, None))
    return survey_streams(engine, stored, dict.fromkeys(of, (days[0], days[-1])))


def fill(root: Path, *lacking: str, symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT")) -> None:
    """Put symbols into a store; one hour is missing in the files of some."""
    for symbol in symbols:
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


def test_a_hole_of_all_surveyed_symbols_is_no_halt_if_another_has_the_candle(
    tmp_path: Path,
) -> None:
    fill(tmp_path, "BTCUSDT", "ETHUSDT", symbols=["BTCUSDT", "ETHUSDT", "XRPUSDT"])
    days, both = (date(2025, 6, 1), date(2025, 6, 5)), [BTC, replace(BTC, symbol="ETHUSDT")]
    found = survey(tmp_path, *days, of=both).gaps.filter(pl.col("start").dt.day() == 3)
    assert found["kind"].to_list() == ["hole", "hole"]


@pytest.mark.parametrize(("whole", "read"), [("AAAUSDT", 4), ("ZZZUSDT", 9)])
def test_few_others_are_read_if_one_of_them_has_the_candle(
    tmp_path: Path, whole: str, read: int
) -> None:
    names = ["BTCUSDT", whole, *(f"Q{number}USDT" for number in range(7))]
    fill(tmp_path, *set(names) - {whole}, symbols=names)
    report = survey(tmp_path, date(2025, 6, 1), date(2025, 6, 5))
    inner = report.gaps.filter(pl.col("start").dt.day() == 3)
    assert set(inner["kind"]) == {"hole"}
    assert report.streams.height == read


def test_a_halt_is_one_of_all_others(tmp_path: Path) -> None:
    names = ["BTCUSDT", *(f"Q{number}USDT" for number in range(7))]
    fill(tmp_path, *names, symbols=names)
    report = survey(tmp_path, date(2025, 6, 1), date(2025, 6, 5))
    assert report.streams.height == len(names)
    [evidence] = report.gaps.filter(symbol="BTCUSDT", kind="halt")["evidence"]
    assert "none of the 8 symbols" in evidence
