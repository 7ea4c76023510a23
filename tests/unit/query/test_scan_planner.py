"""Each day is given by one file, whichever partitions a store has."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.query.engine import Engine, ReadOptions
from binance_archive_kit.query.file_lookup import ScanContext
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.query.scan_planner import ScanPlanner
from binance_archive_kit.query.tabled_files import TabledFiles
from binance_archive_kit.storage.store import Store
from tests.support.planted import DAY, HOUR, every, plant
from tests.support.stores import (
    Rows,
    assert_same,
    in_order,
    kline,
    naive_rows,
    of_partition,
    promised,
    put,
    scan_rows,
    schema_of,
    view_rows,
)

MONTH = kline("BTCUSDT", "2025-07")
DAYS = [kline("BTCUSDT", f"2025-07-{day:02}") for day in range(1, 32)]


# Monthly and daily files overlap


def served(root: Path, keys: list[ObjectKey], prefer: str) -> Rows:
    """Say which rows a view must give: of each day from one file, the preferred one first.

    A daily file serves its day if it has rows at all, a monthly one the days it has rows of.
    """
    rows: Rows = []
    taken: set[tuple[object, ...]] = set()
    for partition in sorted(Partition, key=lambda each: each != prefer):
        days: set[tuple[object, ...]] = set()
        for key in in_order(of_partition(keys, partition)):
            own = naive_rows(root, key)
            rows += [row for row in own if row[1:4] not in taken]
            days |= {(*row[1:3], day) for row in own for day in _covered(key, own)}
        taken |= days
    return promised(rows, schema_of(keys[0]))


def _covered(key: ObjectKey, rows: Rows) -> list[date]:
    if key.folder.partition is Partition.DAILY:
        return [key.start]
    return sorted({row[3] for row in rows if isinstance(row[3], date)})


def assert_serves(root: Path, keys: list[ObjectKey], **options: Any) -> Rows:
    """View and scan give each row once."""
    expected = served(root, keys, options.get("prefer", "daily"))
    assert_same(scan_rows(bak.scan(root, "spot", "klines", **options)), expected)
    with bak.connect(root, **options) as con:
        assert_same(promised(view_rows(con, "spot_klines"), schema_of(keys[0])), expected)
        assert con.sql("SELECT count(*) FROM spot_klines").fetchall() == [(len(expected),)]
    return expected


@pytest.mark.parametrize("prefer", ["daily", "monthly"])
def test_a_covered_day_comes_from_the_preferred_file(tmp_path: Path, prefer: str) -> None:
    keys = [MONTH, *DAYS[4:9], kline("BTCUSDT", "2025-06-30"), kline("ETHUSDT", "2025-07-05")]
    put(tmp_path, MONTH, 744)
    for key in keys[1:]:
        put(tmp_path, key)
    rows = assert_serves(tmp_path, keys, prefer=prefer, cache=False)
    assert len(rows) == 744 + 24 + 24
    assert sum(row[4] == "daily" for row in rows) == (7 * 24 if prefer == "daily" else 48)


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("prefer", ["daily", "monthly"])
def test_rows_of_both_partitions_come_in_the_order_of_time(
    tmp_path: Path, prefer: str, cache: bool
) -> None:
    put(tmp_path, MONTH, 744, edit=lambda csv: b"".join(csv.splitlines(keepends=True)[:600]))
    for key in DAYS[9:12] + DAYS[28:]:
        put(tmp_path, key)
    store = bak.store(tmp_path, prefer=prefer, cache=cache)
    store.warm()
    times = bak.scan(store, "spot", "klines").select("open_time").collect()["open_time"]
    assert times.n_unique() == len(times) > 600
    assert times.is_sorted()


@pytest.mark.parametrize("prefer", ["daily", "monthly"])
def test_an_empty_daily_file_covers_nothing(tmp_path: Path, prefer: str) -> None:
    put(tmp_path, MONTH, 744)
    put(tmp_path, DAYS[3], 0)
    put(tmp_path, DAYS[4])
    rows = assert_serves(tmp_path, [MONTH, DAYS[3], DAYS[4]], prefer=prefer, cache=False)
    assert len(rows) == 744


@pytest.mark.parametrize("prefer", ["daily", "monthly"])
def test_a_monthly_file_of_seven_days_leaves_the_others_to_daily_files(
    tmp_path: Path, prefer: str
) -> None:
    put(tmp_path, MONTH, 744, edit=lambda csv: b"".join(csv.splitlines(keepends=True)[: 7 * 24]))
    for key in DAYS[5:12]:
        put(tmp_path, key)
    rows = assert_serves(tmp_path, [MONTH, *DAYS[5:12]], prefer=prefer, cache=False)
    assert len(rows) == 12 * 24
    assert len({row[6] for row in rows}) == 12 * 24


def test_an_empty_monthly_file_covers_nothing(tmp_path: Path) -> None:
    put(tmp_path, MONTH, 0)
    put(tmp_path, DAYS[3])
    rows = assert_serves(tmp_path, [MONTH, DAYS[3]], prefer="monthly", cache=False)
    assert len(rows) == 24


@settings(max_examples=15)
@given(
    st.sets(st.sampled_from(DAYS[:6]), max_size=4),
    st.sampled_from(["daily", "monthly"]),
    st.data(),
)
def test_no_mixture_gives_a_row_twice(
    tmp_path_factory: pytest.TempPathFactory, days: set[ObjectKey], prefer: str, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("store")
    sizes = st.sampled_from([0, 1, 24])
    kept = data.draw(st.sets(st.integers(0, 143), max_size=20), "rows of the month")
    put(
        root,
        MONTH,
        744,
        edit=lambda csv: b"".join(
            line for at, line in enumerate(csv.splitlines(True)) if at in kept
        ),
    )
    for key in sorted(days):
        put(root, key, data.draw(sizes, "rows of a day"))
    keys = [MONTH, *sorted(days)]
    scanned = scan_rows(bak.scan(root, "spot", "klines", prefer=prefer, cache=False))
    assert_same(promised(scanned, schema_of(MONTH)), served(root, keys, prefer))


def times_of(root: Path | bak.OpenStore, interval: str = "1h") -> list[int]:
    """Give the times of a view's rows, in the order they come in, after counting them."""
    times = "SELECT epoch_us(open_time) FROM spot_klines WHERE interval = ?"
    with bak.connect(root) as con:
        [(counted,)] = con.execute(f"SELECT count(*) FROM ({times})", [interval]).fetchall()
        found = [time for (time,) in con.execute(times, [interval]).fetchall()]
    lazy = bak.scan(root, "spot", "klines", intervals=interval)
    assert lazy.select(pl.col("open_time").to_physical()).collect()["open_time"].to_list() == found
    assert counted == len(found)
    return found


HOURS = every(HOUR, "2025-07-01", "2025-08-01")


@pytest.mark.parametrize("prefer", ["daily", "monthly"])
def test_a_month_out_of_order_serves_the_days_of_its_rows(
    tmp_path: Path, prefer: Literal["daily", "monthly"]
) -> None:
    plant(tmp_path, MONTH, HOURS[96:480] + HOURS[:96] + HOURS[480:])
    for day in range(5):
        plant(tmp_path, DAYS[day], HOURS[24 * day : 24 * day + 24])
    store = bak.store(tmp_path, prefer=prefer, cache=False)
    for _ in range(2):
        with bak.connect(store) as con:
            count = "SELECT count(*), count(open), count(DISTINCT open_time) FROM spot_klines"
            assert con.sql(count).fetchall() == [(744, 744, 744)]
        assert times_of(store) == HOURS


@pytest.mark.parametrize("shift", [0, 1], ids=["on the grid", "off the grid"])
@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("prefer", ["daily", "monthly"])
def test_days_that_a_month_lacks_come_from_daily_files(
    tmp_path: Path, prefer: Literal["daily", "monthly"], cache: bool, shift: int
) -> None:
    """At its beginning and in its middle; all rows in the order of time."""
    own = HOURS[48:216] + HOURS[288:]
    plant(tmp_path, MONTH, [time + shift for time in own])
    for day in (0, 1, 2, 8, 9, 10, 11, 12):
        times = HOURS[24 * day : 24 * day + 24]
        plant(tmp_path, DAYS[day], [time + shift for time in times])
    store = bak.store(tmp_path, prefer=prefer, cache=cache)
    expected = [time + shift for time in HOURS]
    for _ in range(2):
        assert times_of(store) == expected
        store.warm()
    report = bak.coverage(tmp_path, prefer=prefer)
    assert shift or report.is_complete


def test_a_month_is_read_for_its_days_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, MONTH, HOURS[48:])
    for day in range(4):
        plant(tmp_path, DAYS[day], HOURS[24 * day : 24 * day + 24])
    assert times_of(bak.store(tmp_path, prefer="monthly")) == HOURS
    monkeypatch.setattr("binance_archive_kit.query.file_lookup.profile_files", None)
    assert times_of(bak.store(tmp_path, prefer="monthly")) == HOURS


@pytest.mark.parametrize("prefer", ["daily", "monthly"])
@pytest.mark.parametrize(
    ("month", "day", "is_wrong"),
    [
        ("2020-12", "2020-12-21", True),
        ("2021-09", "2021-09-29", True),
        ("2020-12", "2020-12-22", False),
    ],
)
def test_a_day_that_is_wrong_in_its_month_comes_from_its_daily_file(
    tmp_path: Path, prefer: Literal["daily", "monthly"], month: str, day: str, is_wrong: bool
) -> None:
    put(tmp_path, kline("BTCUSDT", month), rows=31 * 24, seed="month")
    put(tmp_path, kline("BTCUSDT", day), seed="day")
    opened = bak.store(tmp_path, prefer=prefer)
    for _ in range(2):
        rows = bak.scan(opened, "spot", "klines").collect()
        assert rows["open_time"].is_sorted()
        assert rows["open_time"].is_unique().all()
        daily = rows.filter(pl.col("partition") == "daily")
        served = {str(each) for each in daily["date"]}
        assert served == ({day} if is_wrong or prefer == "daily" else set())
        opened.warm()
    # Without the daily file the month gives what it has.
    (tmp_path / str(kline("BTCUSDT", day))).unlink()
    whole = bak.scan(bak.store(tmp_path, prefer=prefer), "spot", "klines").collect()
    assert set(whole["partition"]) == {"monthly"}
    assert len(whole) == len(rows)


def test_a_bad_daily_file_that_is_skipped_leaves_its_day_to_the_month(tmp_path: Path) -> None:
    """Even if it shows in its middle only that it is bad."""
    plant(tmp_path, MONTH, HOURS)
    good = HOURS[96:120]
    bad = [*good[:10], HOURS[202], *good[11:]]
    path = plant(tmp_path, DAYS[4], bad)
    store = bak.store(tmp_path, on_error="skip")
    with pytest.warns(bak.ArchiveKitWarning, match="left out"):
        assert times_of(store) == HOURS
    assert times_of(store) == HOURS
    assert list(store.problems) == [str(DAYS[4])]
    # A file rewritten where it lies is another one.
    path.write_bytes(plant(tmp_path / "other", DAYS[4], good[:12]).read_bytes())
    assert times_of(store) == sorted(set(HOURS) - set(good[12:]))
    path.write_bytes(plant(tmp_path / "other", DAYS[4], bad).read_bytes())
    assert times_of(store) == HOURS
    with pytest.raises(bak.FileError, match=str(DAYS[4])):
        bak.scan(tmp_path, "spot", "klines").collect()


# A candle that two months may have


JUNE_WEEKS, JULY_WEEKS = kline("BTCUSDT", "2025-06", "1w"), kline("BTCUSDT", "2025-07", "1w")
WEEKS = every(7 * DAY, "2025-06-02", "2025-08-01")


@pytest.mark.parametrize("cache", [False, True])
def test_a_candle_that_two_months_have_is_given_once(tmp_path: Path, cache: bool) -> None:
    """By the earlier one, whichever part of the rows is asked for."""
    plant(tmp_path, JUNE_WEEKS, WEEKS[:5])
    plant(tmp_path, JULY_WEEKS, WEEKS[4:])
    store = bak.store(tmp_path, cache=cache)
    for _ in range(2):
        assert times_of(store, "1w") == WEEKS
        shared = bak.scan(store, "spot", "klines").filter(date=date(2025, 6, 30)).collect()
        assert shared["file"].to_list() == [str(JUNE_WEEKS)]
        later = bak.load_klines(store, "BTCUSDT", "1w", start="2025-06-25")
        assert later["open_time"].to_physical().to_list() == WEEKS[4:]
        store.warm()
    assert bak.coverage(tmp_path).is_complete


def test_a_candle_is_the_later_months_as_long_as_the_earlier_lacks_it(tmp_path: Path) -> None:
    plant(tmp_path, JULY_WEEKS, WEEKS[4:])
    store = bak.store(tmp_path)
    assert times_of(store, "1w") == WEEKS[4:]
    path = plant(tmp_path, JUNE_WEEKS, WEEKS[:4])
    assert times_of(store, "1w") == WEEKS
    store.warm()
    # Rewritten where it lies.
    for last in (5, 4):
        path.write_bytes(plant(tmp_path / "other", JUNE_WEEKS, WEEKS[:last]).read_bytes())
        assert times_of(store, "1w") == WEEKS
        store.warm()
        assert times_of(store, "1w") == WEEKS


@pytest.mark.parametrize("prefer", ["daily", "monthly"])
def test_a_long_candle_that_daily_files_have_too_is_given_once(
    tmp_path: Path, prefer: Literal["daily", "monthly"]
) -> None:
    plant(tmp_path, JUNE_WEEKS, WEEKS[:5])
    plant(tmp_path, JULY_WEEKS, WEEKS[4:])
    for day, week in (("2025-07-02", WEEKS[4]), ("2025-07-07", WEEKS[5]), ("2025-07-16", WEEKS[6])):
        plant(tmp_path, kline("BTCUSDT", day, "1w"), [week])
    assert times_of(bak.store(tmp_path, prefer=prefer), "1w") == WEEKS


def test_a_bad_file_of_a_long_interval_is_told_or_skipped(tmp_path: Path) -> None:
    plant(tmp_path, JUNE_WEEKS, [*WEEKS[:2], WEEKS[6], *WEEKS[2:5]])
    plant(tmp_path, JULY_WEEKS, WEEKS[4:])
    with pytest.raises(bak.FileError, match=str(JUNE_WEEKS)):
        bak.scan(tmp_path, "spot", "klines").collect()
    with pytest.warns(bak.ArchiveKitWarning, match="left out"):
        assert times_of(bak.store(tmp_path, on_error="skip"), "1w") == WEEKS[4:]


@pytest.mark.parametrize("prefer", ["daily", "monthly"])
def test_a_filter_on_one_day_finds_the_file_that_serves_it(tmp_path: Path, prefer: str) -> None:
    put(tmp_path, MONTH, 744)
    put(tmp_path, DAYS[4])
    everything = served(tmp_path, [MONTH, DAYS[4]], prefer)
    store = bak.store(tmp_path, prefer=prefer, cache=False)
    with bak.connect(store) as con:
        for day in (date(2025, 7, 5), date(2025, 7, 6)):
            expected = [row for row in everything if row[3] == day]
            assert len(expected) == 24
            lazy = bak.scan(store, "spot", "klines")
            assert_same(scan_rows(lazy.filter(date=day)), expected)
            assert_same(view_rows(con, "spot_klines", f"date = '{day}'"), expected)
            by_partition = [row for row in expected if row[4] == "monthly"]
            assert_same(scan_rows(lazy.filter(date=day, partition="monthly")), by_partition)
            where = f"date = '{day}' AND partition = 'monthly'"
            assert_same(view_rows(con, "spot_klines", where), by_partition)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("prefer", ["daily", "monthly"])
def test_a_file_rewritten_where_it_lies_is_read_anew(
    tmp_path: Path, prefer: str, *, cache: bool
) -> None:
    """Its folder shows nothing of it, and what is known of the month speaks for the old one."""
    root, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    keys = [MONTH, *DAYS[3:5], kline("ETHUSDT", "2025-07-01"), kline("ETHUSDT", "2025-07-02")]
    for key in keys:
        put(root, key, 744 if key == MONTH else 24)
    store = bak.store(root, prefer=prefer, cache=cache)
    with bak.connect(store) as con:

        def assert_all_agree() -> None:
            expected = served(root, keys, prefer)
            for _ in range(2):
                found = con.sql("SELECT symbol, count(*) FROM spot_klines GROUP BY ALL")
                assert dict(found.fetchall()) == Counter(row[1] for row in expected)
                rows = view_rows(con, "spot_klines")
                assert_same(promised(rows, schema_of(MONTH)), expected)

        store.warm()
        assert_all_agree()
        # An empty daily file gives its day back to the monthly one.
        for key, rows in ((DAYS[3], 0), (MONTH, 700), (DAYS[3], 24), (keys[-1], 20)):
            path = root / str(key)
            before = path.parent.stat().st_mtime_ns
            path.write_bytes(put(elsewhere, key, rows, seed=1).read_bytes())
            assert path.parent.stat().st_mtime_ns == before
            assert_all_agree()


@pytest.mark.parametrize("prefer", ["daily", "monthly"])
@pytest.mark.parametrize("there", [MONTH, DAYS[3]], ids=["monthly", "daily"])
def test_a_file_of_the_other_partition_shares_a_known_month(
    tmp_path: Path, prefer: str, there: ObjectKey
) -> None:
    [arrives] = {MONTH, DAYS[3]} - {there}
    put(tmp_path, there, 744 if there == MONTH else 24)
    with bak.connect(tmp_path, prefer=prefer, cache=False) as con:
        for keys in ([there], [there, arrives], [there]):
            if arrives in keys:
                put(tmp_path, arrives, 744 if arrives == MONTH else 24, seed=1)
            else:
                (tmp_path / str(arrives)).unlink(missing_ok=True)
            expected = served(tmp_path, keys, prefer)
            for _ in range(2):
                rows = view_rows(con, "spot_klines")
                assert_same(promised(rows, schema_of(MONTH)), expected)


# Tables


def steps_of(root: Path, selection: Selection | None = None) -> list[tuple[int, list[str]]]:
    """Return for each step the number of files in tables, and the names of those to read."""
    engine = Engine(root, ReadOptions())
    feed = engine.feed("spot", "klines")
    context = ScanContext(Store(root), engine.known, Partition.DAILY, None)
    tabled = TabledFiles(engine.cache.tables.snapshot(feed).entries())
    planner = ScanPlanner(context, feed, selection or Selection())
    return [
        (step.tabled, [Path(task.file.path).stem for task in step.tasks])
        for step in planner.steps(engine.folders(feed), tabled)
    ]


def test_files_in_tables_are_one_step(tmp_path: Path) -> None:
    keys = [kline(symbol, f"2025-07-0{day}") for symbol in ("BUSDT", "AUSDT") for day in (1, 2, 3)]
    for key in keys:
        put(tmp_path, key)
    assert steps_of(tmp_path) == [
        (
            0,
            [f"{symbol}-1h-2025-07-0{day}" for symbol in ("AUSDT", "BUSDT") for day in (1, 2, 3)],
        )
    ]
    bak.store(tmp_path).build()
    assert steps_of(tmp_path) == [(6, [])]
    assert steps_of(tmp_path, Selection(frozenset(["BUSDT"]))) == [(3, [])]
    put(tmp_path, keys[4], seed=1)
    assert steps_of(tmp_path) == [(1, []), (0, ["AUSDT-1h-2025-07-02"]), (4, [])]
    (tmp_path / str(keys[3])).unlink()
    assert steps_of(tmp_path) == [(0, ["AUSDT-1h-2025-07-02"]), (4, [])]
    put(tmp_path, kline("0USDT", "2025-07-01"))
    assert steps_of(tmp_path) == [(0, ["0USDT-1h-2025-07-01", "AUSDT-1h-2025-07-02"]), (4, [])]


def test_months_that_daily_and_monthly_files_cover_are_chosen_file_by_file(tmp_path: Path) -> None:
    june = kline("BTCUSDT", "2025-06")
    put(tmp_path, june, 720)
    put(tmp_path, MONTH, 744)
    put(tmp_path, DAYS[4])
    bak.store(tmp_path).build()
    # The monthly file without the day of the daily one is not what tables have rows of.
    assert steps_of(tmp_path) == [
        (1, []),
        (0, ["BTCUSDT-1h-2025-07"]),
        (1, []),
        (0, ["BTCUSDT-1h-2025-07"]),
    ]
    (tmp_path / str(DAYS[4])).unlink()
    assert steps_of(tmp_path) == [(2, [])]


def test_candles_before_their_file_are_chosen_file_by_file(tmp_path: Path) -> None:
    for key, weeks in ((JUNE_WEEKS, WEEKS[:5]), (JULY_WEEKS, WEEKS[4:])):
        plant(tmp_path, key, weeks)
    expected = times_of(bak.store(tmp_path, cache=False), "1w")
    bak.store(tmp_path).build()
    store = bak.store(tmp_path)
    assert times_of(store, "1w") == expected
    assert expected == sorted(set(expected))
