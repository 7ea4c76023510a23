"""Timelines of every kind of feed, filled from a store."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from tests.support.dialects import write, zip_of
from tests.support.planted import DAY, HOUR, MINUTE, SECOND, at, csv_at, every, plant
from tests.support.reports import (
    ALL_DAY,
    DAYS,
    assert_consistent,
    gaps_of,
    hours,
    missing_rows,
    spoil,
    trades,
)
from tests.support.stores import kline, other, view_of


@settings(max_examples=12)
@given(st.sets(st.integers(0, 4 * 288 - 1), max_size=30), st.booleans())
def test_metrics_are_complete_over_the_change_of_their_labels(lacking: set[int], cm: bool) -> None:
    """288 rows a day, whichever end labels a period; midnight in two files is one row."""
    days = [date(2026, 6, 23) + timedelta(days=n) for n in range(4)]
    market, symbol = ("futures/cm", "BTCUSD_PERP") if cm else ("futures/um", "BTCUSDT")
    start = at(str(days[0]))
    with tempfile.TemporaryDirectory() as folder:
        for number, day in enumerate(days):
            places = set(range(number * 288, number * 288 + 288)) - lacking
            late = 0 if cm or day >= date(2026, 6, 25) else 5 * MINUTE
            # Without its last label, or its first one, a file does not show whose end they are.
            times = [start + place * 5 * MINUTE + late for place in sorted(places)]
            plant(Path(folder), other("metrics", symbol, str(day), market), times)
        report = bak.coverage(folder)
    told = {(time - start) // (5 * MINUTE) for _, time in missing_rows(report, 5 * MINUTE)}
    assert told == lacking
    assert_consistent(report, 4 * 288 - len(lacking), len(lacking))


@settings(max_examples=15)
@given(
    st.lists(st.integers(20, 60), min_size=2, max_size=5),
    st.sets(st.integers(1, 100), max_size=6),
    st.sets(st.integers(0, 4), max_size=1),
)
def test_every_skipped_trade_id_is_counted(
    counts: list[int], lacking: set[int], gone: set[int]
) -> None:
    """Days of consecutively numbered trades; some are left out, perhaps a whole day."""
    gone = {day for day in gone if 0 < day < len(counts) - 1}
    first, held = 1_000, []
    with tempfile.TemporaryDirectory() as folder:
        for day, count in enumerate(counts):
            ids = [first + n for n in range(count)]
            # A day keeps its first and its last one, so that what lacks is inside.
            own = [i for i in ids if i - 1_000 not in lacking or i in (ids[0], ids[-1])]
            if day not in gone:
                times = [at(DAYS[day]) + (i - first) * (DAY // count) for i in own]
                plant(Path(folder), other("aggTrades", "X", DAYS[day], "spot"), times, ids=own)
                held += own
            first += count
        report = bak.coverage(folder)
    assert_consistent(report, len(held), sum(counts) - len(held))
    kinds = set(report.gaps["kind"])
    assert kinds == ({"not_collected"} if gone else set()) | (
        {"hole"} if len(held) + sum(counts[day] for day in gone) < sum(counts) else set()
    )


def test_funding_is_counted_by_its_changing_interval(tmp_path: Path) -> None:
    keys = [
        ObjectKey.parse(f"data/futures/um/monthly/fundingRate/X/X-fundingRate-2025-0{month}.zip")
        for month in (6, 7)
    ]
    june = every(8 * HOUR, "2025-06-01", "2025-06-16") + every(4 * HOUR, "2025-06-16", "2025-07-01")
    july = every(4 * HOUR, "2025-07-01", "2025-07-11") + every(8 * HOUR, "2025-07-11", "2025-08-01")
    lacking = at("2025-07-20 08:00")
    july.remove(lacking)
    for key, times in zip(keys, (june, july), strict=True):
        own = [4 if at("2025-06-16") <= time < at("2025-07-11") else 8 for time in times]
        plant(tmp_path, key, [time + 5_000 for time in times], hours=own)
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("hole", "07-20 08:00", "07-20 16:00", 1)]
    assert_consistent(report, len(june) + len(july), 1)


def test_the_volatility_index_is_counted_by_the_second(tmp_path: Path) -> None:
    key = other("BVOLIndex", "BTCBVOLUSDT", DAYS[0], "option")
    start = at(DAYS[0])
    places = [n for n in range(86_400) if not 3_600 <= n < 3_700 and n < 80_000]
    plant(tmp_path, key, [start + n * SECOND + n % 3 * 1_000 for n in places])
    report = bak.coverage(tmp_path)
    assert [(row[0], row[3]) for row in gaps_of(report)] == [("hole", 100), ("short_file", 6_400)]
    assert_consistent(report, len(places), 6_500)


STILL = (at(f"{DAYS[0]} 04:00"), at(f"{DAYS[0]} 06:00"))


BUT_STILL = [time for time in ALL_DAY if not STILL[0] <= time < STILL[1]]


@pytest.mark.parametrize(
    ("times", "ids", "kind", "evidence"),
    [
        (BUT_STILL, range(len(BUT_STILL)), "halt", "nothing was traded: {} are present"),
        (ALL_DAY, range(1_440), "hole", "trades of this time are present"),
        (BUT_STILL, [n for n in range(1_440) if not 240 <= n < 360], "hole", "before and after"),
    ],
    ids=["continuous and silent", "traded", "left out"],
)
@pytest.mark.parametrize("data_type", ["aggTrades", "trades"])
def test_trades_show_whether_the_market_stood_still(
    tmp_path: Path, times: list[int], ids: Sequence[int], kind: str, evidence: str, data_type: str
) -> None:
    plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0], 4, 5))
    trades(tmp_path, times, ids, data_type)
    report = bak.coverage(tmp_path)
    [row] = report.gaps.filter(pl.col("data_type") == "klines").rows(named=True)
    assert (row["kind"], row["missing"]) == (kind, 2)
    assert evidence.format(data_type) in row["evidence"]


def test_trades_of_another_time_are_no_evidence(tmp_path: Path) -> None:
    plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0], 4, 5))
    plant(tmp_path, other("aggTrades", "BTCUSDT", DAYS[3], "spot"), ALL_DAY[:0])
    plant(tmp_path, other("aggTrades", "ETHUSDT", DAYS[0], "spot"), BUT_STILL)
    report = bak.coverage(tmp_path)
    [row] = report.gaps.filter(pl.col("data_type") == "klines").rows(named=True)
    assert row["kind"] == "hole"
    assert "traded" not in row["evidence"]


def test_damaged_trades_are_no_evidence(tmp_path: Path) -> None:
    plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0], 4, 5))
    spoil(plant(tmp_path, other("aggTrades", "BTCUSDT", DAYS[0], "spot"), BUT_STILL))
    report = bak.coverage(tmp_path)
    assert dict(report.gaps.select("data_type", "kind").rows()) == {
        "klines": "hole",
        "aggTrades": "corrupt",
    }


@pytest.mark.parametrize(("data_type", "column"), [("aggTrades", "agg_trade_id"), ("trades", "id")])
def test_a_row_without_an_id_makes_its_file_corrupt(
    tmp_path: Path, data_type: str, column: str
) -> None:
    first, second = (other(data_type, "BTCUSDT", day, "spot") for day in DAYS[:2])
    plant(tmp_path, first, hours(DAYS[0]))
    rows = csv_at(second, hours(DAYS[1]), ids=range(24, 48)).replace(b"\n30,", b"\n,")
    write(tmp_path, second, zip_of(second, rows))
    # What a query has looked at of it are other columns.
    with bak.connect(tmp_path) as con:
        con.sql(f"SELECT sum(price) FROM {view_of(first)}").fetchall()
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("corrupt", "07-02 00:00", "07-03 00:00", None)]
    assert [(error.file, error.reason) for error in report.problems.values()] == [
        (str(second), "wrong_values")
    ]
    assert f"a row has no {column}" in report.gaps["evidence"].item()


def test_funding_without_its_interval_is_corrupt(tmp_path: Path) -> None:
    name = "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"
    funding = ObjectKey.parse(name)
    rows = csv_at(funding, every(8 * HOUR, "2025-07-01", "2025-08-01"))
    write(tmp_path, funding, zip_of(funding, rows.replace(b",8,", b",,", 1)))
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("corrupt", "07-01 00:00", "08-01 00:00", 93)]
    assert "a row has no funding_interval_hours" in report.gaps["evidence"].item()


def test_a_zip_without_a_digest_is_read(tmp_path: Path) -> None:
    """The folder of another tool has no digests."""
    path = plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0]))
    path.with_name(f"{path.name}.CHECKSUM").unlink()
    assert bak.coverage(tmp_path).is_complete
    key = kline("BTCUSDT", DAYS[1])
    write(tmp_path, key, zip_of(key, b"<html>"))
    report = bak.coverage(tmp_path)
    assert set(report.gaps["kind"]) == {"corrupt"}
