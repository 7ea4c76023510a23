"""What several streams support together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import CoverageError
from tests.support.planted import DAY, HOUR, MINUTE, at, every, moment, plant
from tests.support.reports import DAYS, hours, long_candles
from tests.support.stores import kline, other


def backtest_store(root: Path) -> None:
    """Plant prices of two symbols, trades of one from a day later, and funding."""
    for day in DAYS[:5]:
        plant(root, kline("BTCUSDT", day, market="futures/um"), hours(day))
        lacking = (3, 4) if day == DAYS[2] else ()
        plant(root, kline("ETHUSDT", day, market="futures/um"), hours(day, *lacking))
    first = 0
    for day in DAYS[1:5]:
        times = every(MINUTE, day, f"{date.fromisoformat(day) + timedelta(days=1)}")
        key = other("aggTrades", "BTCUSDT", day)
        plant(root, key, times, ids=range(first, first + len(times)))
        first += len(times)
    funding = ObjectKey.parse(
        "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"
    )
    plant(root, funding, every(8 * HOUR, "2025-07-01", "2025-08-01"))


def test_the_window_is_covered_by_every_stream(tmp_path: Path) -> None:
    backtest_store(tmp_path)
    ready = bak.backtest_coverage(tmp_path, start=DAYS[0], end=DAYS[4])
    assert ready.asked == (date(2025, 7, 1), date(2025, 7, 5))
    assert ready.window == (date(2025, 7, 2), date(2025, 7, 5))
    assert ready.weakest is not None
    assert ready.weakest["symbol"] == "ETHUSDT"
    assert ready.coverage == 94 / 96
    assert ready.skip.rows() == [
        (
            moment(at("2025-07-03 03:00")),
            moment(at("2025-07-03 05:00")),
            "futures_um klines ETHUSDT 1h",
            "hole",
        )
    ]
    assert ready.verdict == (
        "Not ready: 2025-07-02 to 2025-07-05 is all that every stream has of 2025-07-01 to "
        "2025-07-05, as futures_um aggTrades BTCUSDT begins on 2025-07-02; of these days the "
        "weakest stream, futures_um klines ETHUSDT 1h, has 97.91 % of its rows (wanted 99.9 %); "
        "skip 1 period"
    )
    with pytest.raises(CoverageError, match="Not ready: 2025-07-02 to 2025-07-05"):
        ready.raise_if_not_ready()
    # The first day lacks trades, so one file of sixteen is not there.
    assert (ready.actual_files, ready.expected_files) == (15, 16)
    assert ready.completeness == 100 * 15 / 16
    assert "15 of 16 files (93.75 %)" in repr(ready)


def test_the_verdict_names_the_streams_that_bound_the_window(tmp_path: Path) -> None:
    reach = {"BTCUSDT": DAYS[:5], "ETHUSDT": DAYS[2:5], "XRPUSDT": DAYS[:4], "ADAUSDT": DAYS[:4]}
    for symbol, days in reach.items():
        for day in days:
            plant(tmp_path, kline(symbol, day), hours(day))
    ready = bak.backtest_coverage(tmp_path)
    assert ready.verdict == (
        "Not ready: 2025-07-03 to 2025-07-04 is all that every stream has of 2025-07-01 to "
        "2025-07-05, as spot klines ETHUSDT 1h begins on 2025-07-03 and spot klines ADAUSDT 1h "
        "and 1 more end on 2025-07-04; of these days the weakest stream, spot klines ADAUSDT 1h, "
        "has 100 % of its rows (wanted 99.9 %)"
    )
    only_start = bak.backtest_coverage(tmp_path, end=DAYS[3]).verdict
    assert "as spot klines ETHUSDT 1h begins on 2025-07-03; of" in only_start


def test_a_monthly_funding_file_does_not_extend_the_window(tmp_path: Path) -> None:
    backtest_store(tmp_path)
    ready = bak.backtest_coverage(tmp_path, min_coverage=0.97)
    assert ready.asked == (date(2025, 7, 1), date(2025, 7, 5))
    assert ready.window == (date(2025, 7, 2), date(2025, 7, 5))
    shutil.rmtree(tmp_path / "data/futures/um/daily/aggTrades")
    assert bak.backtest_coverage(tmp_path, min_coverage=0.97).is_ready
    # Whoever asks for the month is told that most of it is not there.
    asked = bak.backtest_coverage(tmp_path, min_coverage=0.97, start=DAYS[0], end=DAYS[-1])
    assert asked.asked == (date(2025, 7, 1), date(2025, 7, 31))
    assert not asked.is_ready
    # Of funding alone it is all there is to go by.
    shutil.rmtree(tmp_path / "data/futures/um/daily")
    alone = bak.backtest_coverage(tmp_path)
    assert alone.asked == alone.window == (date(2025, 7, 1), date(2025, 7, 31))
    assert alone.is_ready


def test_a_monthly_file_of_weekly_candles_does_not_extend_the_window(tmp_path: Path) -> None:
    long_candles(tmp_path, "1w", "2025-07")
    for day in DAYS[:15]:
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    ready = bak.backtest_coverage(tmp_path)
    assert ready.asked == ready.window == (date(2025, 7, 1), date(2025, 7, 15))
    assert ready.is_ready


def test_enough_coverage_of_all_days_is_ready(tmp_path: Path) -> None:
    backtest_store(tmp_path)
    ready = bak.backtest_coverage(tmp_path, min_coverage=0.97, start=DAYS[1], end=DAYS[4])
    assert ready.is_ready
    assert ready.verdict.startswith("Ready: 2025-07-02 to 2025-07-05; the weakest stream, ")
    assert "(wanted 97 %); skip 1 period" in ready.verdict
    ready.raise_if_not_ready()
    # Every file is there, and yet rows are lacking: the honest figure stands beside.
    assert ready.completeness == 100.0
    assert "16 of 16" not in repr(ready)
    assert "rows missing inside a file count in the coverage" in repr(ready)


@pytest.mark.parametrize("interval", ["1w", "1mo"])
def test_long_candles_do_not_shorten_the_window(tmp_path: Path, interval: str) -> None:
    """On most days no weekly candle is due."""
    for month, end in (("2025-05", "2025-06-01"), ("2025-06", "2025-07-01")):
        plant(tmp_path, kline("BTCUSDT", month, "4h"), every(4 * HOUR, f"{month}-01", end))
        days = every(DAY, f"{month}-01", end)
        opens = [time for time in days if moment(time).weekday() == 0]
        key = kline("BTCUSDT", month, interval)
        plant(tmp_path, key, opens if interval == "1w" else days[:1])
    ready = bak.backtest_coverage(tmp_path)
    assert ready.window == ready.asked == (date(2025, 5, 1), date(2025, 6, 30))
    assert ready.is_ready
    assert (ready.coverage, ready.skip.height) == (1.0, 0)
    # The second month has none: then it ends with what was due of the first.
    plant(tmp_path, kline("BTCUSDT", "2025-06", interval), [])
    ready = bak.backtest_coverage(tmp_path)
    assert not ready.is_ready
    last = date(2025, 6, 1) if interval == "1w" else date(2025, 5, 31)
    assert ready.window == (date(2025, 5, 1), last)


def test_the_wanted_share_is_not_rounded_up(tmp_path: Path) -> None:
    backtest_store(tmp_path)
    verdict = bak.backtest_coverage(tmp_path, min_coverage=0.9999999).verdict
    assert "(wanted 99.99999 %)" in verdict


def test_a_stream_without_rows_leaves_no_window(two_days: Path) -> None:
    for day in DAYS[:2]:
        plant(two_days, kline("ETHUSDT", day), [])
    ready = bak.backtest_coverage(two_days)
    assert ready.window is None
    assert ready.verdict.startswith("Not ready: spot klines ETHUSDT 1h has no rows; ")


def test_streams_of_different_days_leave_no_window(two_days: Path) -> None:
    plant(two_days, kline("ETHUSDT", DAYS[6]), hours(DAYS[6]))
    ready = bak.backtest_coverage(two_days)
    assert ready.window is None
    assert "no day has rows of every stream" in ready.verdict


def test_overlapping_gaps_of_several_streams_are_skipped_together(tmp_path: Path) -> None:
    lacking: dict[str, Callable[[str], list[int]]] = {
        "BTCUSDT": lambda day: hours(day, 5, 6),
        "ETHUSDT": lambda day: hours(day, 6, 7),
        "XRPUSDT": lambda day: hours(day),
    }
    for symbol, of in lacking.items():
        plant(tmp_path, kline(symbol, DAYS[0]), of(DAYS[0]))
    ready = bak.backtest_coverage(tmp_path)
    [stretch] = ready.skip.rows(named=True)
    assert (stretch["start"].hour, stretch["end"].hour) == (5, 8)
    assert stretch["streams"] == "spot klines BTCUSDT 1h, spot klines ETHUSDT 1h"
    assert stretch["kinds"] == "hole"
