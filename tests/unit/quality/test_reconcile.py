"""Monthly files compared with the daily files of the same days."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import sleep

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from tests.support.dialects import zip_of
from tests.support.planted import HOUR, MINUTE, SECOND, at, csv_at, every, moment, plant
from tests.support.reports import (
    DAYS,
    assert_consistent,
    hours,
    missing_rows,
    spoil,
)
from tests.support.stores import kline, other


def test_a_month_rewritten_in_place_is_compared_again(tmp_path: Path) -> None:
    month, day = kline("BTCUSDT", "2025-07", "8h"), kline("BTCUSDT", DAYS[0], "8h")
    times = [at(DAYS[0]) + n * 8 * HOUR for n in range(3)]
    path = plant(tmp_path, month, times)
    plant(tmp_path, day, times)
    store = bak.store(tmp_path)
    sleep(0.2)  # until its folder counts as settled
    assert bak.coverage(store).findings.is_empty()
    path.write_bytes(zip_of(month, csv_at(month, times, value=[1, 2, 1])))
    [finding] = bak.coverage(store).findings.iter_rows(named=True)
    assert (finding["kind"], finding["rows"]) == ("disagreement", 1)


@st.composite
def months(draw: st.DrawFn) -> tuple[set[int], dict[int, set[int]], set[int], str]:
    """Draw missing rows of a monthly file and of some daily files, and rows that differ."""
    month = draw(st.sets(st.integers(0, 31 * 3 - 1), max_size=5))
    days = draw(
        st.dictionaries(st.integers(0, 5), st.sets(st.integers(0, 2), max_size=3), min_size=1)
    )
    changed = draw(st.sets(st.integers(0, 6 * 3 - 1), max_size=4))
    return month, days, changed, draw(st.sampled_from(["daily", "monthly"]))


@settings(max_examples=25)
@given(months())
def test_overlapping_files_count_once_and_are_compared(
    drawn: tuple[set[int], dict[int, set[int]], set[int], str],
) -> None:
    gone, days, changed, prefer = drawn
    step = 8 * HOUR
    start = at(DAYS[0])
    of_month = [place for place in range(31 * 3) if place not in gone]
    of_days = {
        day: [day * 3 + at_ for at_ in range(3) if at_ not in lacking]
        for day, lacking in days.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plant(root, kline("BTCUSDT", "2025-07", "8h"), [start + n * step for n in of_month])
        for day, places in of_days.items():
            values = [2 if place in changed else 1 for place in places]
            times = [start + n * step for n in places]
            plant(root, kline("BTCUSDT", DAYS[day], "8h"), times, value=values)
        report = bak.coverage(root, prefer=prefer)  # type: ignore[arg-type]
    first, last = of_month[0] // 3, of_month[-1] // 3
    truth = {}
    for day in range(31):
        by_day = bool(of_days.get(day))
        by_month = first <= day <= last
        if prefer == "daily":
            file = of_days[day] if by_day else of_month
        else:
            file = of_month if by_month or not by_day else of_days[day]
        for place in set(range(day * 3, day * 3 + 3)) - set(file):
            inside = file[0] < place < file[-1]
            truth["BTCUSDT", start + place * step] = "hole" if inside else "short_file"
    assert missing_rows(report, step) == truth
    differing = {
        place
        for day, places in of_days.items()
        for place in range(day * 3, day * 3 + 3)
        if (place in places) != (place in of_month) or (place in places and place in changed)
    }
    changed_there = {place for its in of_days.values() for place in its} & changed & set(of_month)
    found = report.findings
    assert set(found["kind"]) <= {"disagreement"}
    assert found["rows"].sum() == len(differing)
    told = set()
    for row in found.iter_rows(named=True):
        began, end = (int(row[name].timestamp()) * SECOND for name in ("start", "end"))
        places = {(time - start) // step for time in range(began, end, step)}
        told |= places
        by_month = places & set(of_month)
        if "only the daily" in row["evidence"]:
            assert not by_month
        elif "only the monthly" in row["evidence"]:
            assert by_month == places <= differing - changed_there
        else:
            assert places <= changed_there
            assert "is 2.0 in the daily file and 1.0 in the monthly one" in row["evidence"]
    assert told == differing


@pytest.mark.parametrize("spoilt", [True, False])
def test_days_missing_in_a_daily_file_come_from_the_monthly_one(
    tmp_path: Path, spoilt: bool
) -> None:
    plant(tmp_path, kline("BTCUSDT", "2025-07"), every(HOUR, DAYS[0], "2025-08-01"))
    for day in DAYS[3:6]:
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    bad = kline("BTCUSDT", DAYS[4])
    if spoilt:
        spoil(tmp_path / str(bad))
    else:
        plant(tmp_path, bad, [])
    report = bak.coverage(tmp_path)
    assert_consistent(report, 31 * 24, 0)
    assert list(report.problems) == ([str(bad)] if spoilt else [])
    assert report.findings["rows"].to_list() == ([] if spoilt else [24])


def test_neighbouring_rows_that_differ_are_one_finding(tmp_path: Path) -> None:
    """A daily file of trades that ends early has no later row of the monthly one."""
    month = ObjectKey.parse("data/spot/monthly/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2025-07.zip")
    times = every(MINUTE, DAYS[0], "2025-07-01 12:00")
    plant(tmp_path, month, times, ids=range(len(times)))
    day = other("aggTrades", "BTCUSDT", DAYS[0], "spot")
    plant(tmp_path, day, times[:300], ids=range(300))
    report = bak.coverage(tmp_path)
    [found] = report.findings.rows(named=True)
    assert (found["rows"], found["evidence"]) == (420, "only the monthly file has it")
    assert (found["start"], found["end"]) == (moment(times[300]), moment(times[-1] + 1))


def test_a_rewritten_file_is_compared_again(two_days: Path) -> None:
    plant(two_days, kline("BTCUSDT", "2025-07"), every(HOUR, DAYS[0], "2025-08-01"))
    assert bak.coverage(two_days).findings.height == 0
    plant(two_days, kline("BTCUSDT", DAYS[1]), hours(DAYS[1]), value=[3] * 24)
    [found] = bak.coverage(two_days).findings.rows(named=True)
    assert (found["kind"], found["rows"]) == ("disagreement", 24)


@pytest.mark.parametrize(("day", "known"), [("2020-12-21", True), ("2020-12-22", False)])
def test_a_day_known_to_be_wrong_in_the_monthly_file_may_differ(
    tmp_path: Path, day: str, known: bool
) -> None:
    plant(tmp_path, kline("BTCUSDT", "2020-12"), every(HOUR, "2020-12-01", "2021-01-01"))
    plant(tmp_path, kline("BTCUSDT", day), hours(day), value=[3] * 24)
    report = bak.coverage(tmp_path)
    [found] = report.findings.filter(pl.col("kind") == "disagreement").rows(named=True)
    assert (found["rows"], found["explained"]) == (24, known)
    assert ("known: the monthly file is wrong" in found["evidence"]) == known
    assert ("Complete" in str(report)) == known
