"""What is in a file: runs of rows, the same however its rows came and were cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.reading.cadence import Run, cadence_of
from binance_archive_kit.reading.feed_table import feed_table
from binance_archive_kit.reading.file_stats import FileStats
from binance_archive_kit.reading.profile import FileProfile, Profiler, merge_profiles
from binance_archive_kit.storage.proof import Stamp
from tests.support.planted import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    at,
    every,
    examined,
    examined_together,
    moment,
    source_of,
)
from tests.support.stores import kline, other

DAY_OF = "2025-07-01"
HOURS = kline("BTCUSDT", DAY_OF)
MINUTES = kline("BTCUSDT", DAY_OF, "1m")
MONTH = kline("BTCUSDT", "2025-07")
AGGREGATES = other("aggTrades", "BTCUSDT", DAY_OF, "spot")
TRADES = other("trades", "BTCUSDT", DAY_OF)
DEPTH = other("bookDepth", "BTCUSDT", DAY_OF)
METRICS = other("metrics", "BTCUSDT", DAY_OF)
FUNDING = ObjectKey.parse("data/futures/um/monthly/fundingRate/X/X-fundingRate-2025-07.zip")
WHOLE_DAY = every(HOUR, DAY_OF, "2025-07-02")


def spans(profile: FileProfile) -> list[tuple[str, str, int]]:
    """Give the runs of a file: first and last time, and rows."""
    return [
        (f"{moment(run.first):%d %H:%M}", f"{moment(run.last):%d %H:%M}", run.rows)
        for run in (Run(*each) for each in profile.runs.tolist())
    ]


def facts(profile: FileProfile) -> tuple[int, int, int, bool]:
    stats = profile.stats
    return stats.rows, profile.duplicates, profile.off_grid, stats.sorted


# One file


def test_a_whole_day_is_one_run() -> None:
    profile = examined(HOURS, WHOLE_DAY)
    assert spans(profile) == [("01 00:00", "01 23:00", 24)]
    assert facts(profile) == (24, 0, 0, True)
    assert profile.longest_silence == HOUR


def test_rows_that_are_lacking_cut_a_run() -> None:
    profile = examined(HOURS, [time for time in WHOLE_DAY if time % DAY // HOUR not in (4, 5, 9)])
    assert spans(profile) == [
        ("01 00:00", "01 03:00", 4),
        ("01 06:00", "01 08:00", 3),
        ("01 10:00", "01 23:00", 14),
    ]
    assert profile.longest_silence == 3 * HOUR


def test_an_empty_file_has_no_run() -> None:
    profile = examined(HOURS, [])
    assert (profile.runs.shape, facts(profile)) == ((0, 6), (0, 0, 0, True))


def test_one_row_is_a_run() -> None:
    assert spans(examined(HOURS, [at("2025-07-01 23:00")])) == [("01 23:00", "01 23:00", 1)]


def test_doubled_rows_are_repeats_and_no_second_run() -> None:
    profile = examined(HOURS, [time for time in WHOLE_DAY for _ in (1, 2)])
    assert spans(profile) == [("01 00:00", "01 23:00", 24)]
    assert facts(profile) == (48, 24, 0, True)


def test_unsorted_rows_are_put_in_order() -> None:
    profile = examined(HOURS, [*WHOLE_DAY[12:], *WHOLE_DAY[:12], WHOLE_DAY[3]])
    assert spans(profile) == [("01 00:00", "01 23:00", 24)]
    assert facts(profile) == (25, 1, 0, False)


def test_rows_between_the_steps_are_strays() -> None:
    profile = examined(HOURS, sorted([*WHOLE_DAY, at("2025-07-01 04:30"), at("2025-07-01 05:01")]))
    assert spans(profile) == [("01 00:00", "01 23:00", 24)]
    assert facts(profile) == (26, 0, 2, True)


def test_rows_that_follow_each_other_beside_the_grid_are_strays() -> None:
    """Each of them counts for the step it lies in."""
    beside = [time + 1800 * SECOND for time in WHOLE_DAY]
    profile = examined(HOURS, beside)
    assert spans(profile) == [("01 00:00", "01 23:00", 24)]
    assert facts(profile) == (24, 0, 24, True)
    two = [kline("BTCUSDT", DAY_OF), kline("ETHUSDT", DAY_OF)]
    found = examined_together(list(zip(two, (WHOLE_DAY, beside), strict=True)))
    assert [facts(each) for each in found] == [(24, 0, 0, True), (24, 0, 24, True)]


def test_no_run_goes_over_midnight() -> None:
    profile = examined(MONTH, every(HOUR, DAY_OF, "2025-07-04"))
    assert [rows for *_, rows in spans(profile)] == [24, 24, 24]
    assert profile.longest_silence == HOUR


def test_files_that_were_read_together_are_told_apart() -> None:
    days = [kline("BTCUSDT", f"2025-07-0{day}") for day in range(1, 5)]
    rows = [[time + day * DAY for time in WHOLE_DAY] for day in range(4)]
    rows[1] = rows[1][::-1]
    rows[2] = []
    rows[3] = [*rows[3][:5], rows[3][4], *rows[3][7:]]
    found = examined_together(list(zip(days, rows, strict=True)))
    assert [facts(each) for each in found] == [
        (24, 0, 0, True),
        (24, 0, 0, False),
        (0, 0, 0, True),
        (23, 1, 0, True),
    ]
    assert [spans(each) for each in found] == [
        [("01 00:00", "01 23:00", 24)],
        [("02 00:00", "02 23:00", 24)],
        [],
        [("04 00:00", "04 04:00", 5), ("04 07:00", "04 23:00", 17)],
    ]
    for key, its, together in zip(days, rows, found, strict=True):
        assert_same(together, examined(key, its))


# Numbers, paces, events


def test_numbers_that_are_left_out_cut_a_run() -> None:
    times = every(MINUTE, DAY_OF, "2025-07-01 00:06")
    profile = examined(AGGREGATES, times, ids=[10, 11, 12, 15, 16, 20])
    numbers = [Run(*each)[4:] for each in profile.runs.tolist()]
    assert numbers == [(10, 12), (15, 16), (20, 20)]


def test_numbers_follow_each_other_where_clocks_do_not() -> None:
    """Trades come by their numbers, and the clock may step back a millisecond meanwhile."""
    start = at("2025-07-01 12:00")
    times = [start, start + 2_000, start + 1_000, start + 3_000]
    for ids in ([5, 6, 7, 8], [5, 7, 6, 8]):
        profile = examined(AGGREGATES, times, ids=ids)
        assert [Run(*each)[4:] for each in profile.runs.tolist()] == [(5, 8)]
        assert not profile.stats.sorted


def test_a_number_that_comes_again_is_a_repeat() -> None:
    times = every(MINUTE, DAY_OF, "2025-07-01 00:05")
    profile = examined(AGGREGATES, times, ids=[10, 11, 11, 12, 13])
    assert facts(profile)[:2] == (5, 1)
    assert spans(profile) == [("01 00:00", "01 00:04", 4)]


def test_snapshots_count_once_however_many_rows_they_have() -> None:
    starts = every(30 * SECOND, DAY_OF, "2025-07-01 01:00")
    times = [time + 4 * SECOND for time in starts for _ in range(10)]
    profile = examined(DEPTH, times, ids=list(range(10)) * len(starts))
    assert facts(profile) == (1_200, 0, 0, True)
    assert [run[2] for run in profile.runs.tolist()] == [120]


@pytest.mark.parametrize(("apart", "runs"), [(31, 1), (44, 1), (45, 2), (60, 2)])
def test_a_pace_bears_half_a_step(apart: int, runs: int) -> None:
    times = [at("2025-07-01 12:00") + n * 30 * SECOND for n in range(4)]
    times += [times[-1] + apart * SECOND + n * 30 * SECOND for n in range(3)]
    assert len(examined(DEPTH, times).runs) == runs


def test_of_events_all_that_are_different_count() -> None:
    """Several trades happen at one time."""
    start = at("2025-07-01 12:00")
    profile = examined(TRADES, [start] * 3 + [start + HOUR] * 2, ids=[3, 5, 9, 12, 12])
    assert facts(profile)[:2] == (5, 1)
    assert spans(profile) == [("01 12:00", "01 13:00", 4)]


def test_liquidations_are_told_apart_by_all_they_say() -> None:
    feed = feed_table(Market.FUTURES_UM, DataType.LIQUIDATION_SNAPSHOT)
    key = other("liquidationSnapshot", "BTCUSDT", "2023-06-25")
    times = pl.Series([1, 1, 1, 2]).cast(pl.Datetime("us"))
    frame = pl.DataFrame(
        {
            name: times if name == feed.time else pl.Series([7, 7, 8, 7]).cast(dtype, strict=False)
            for name, dtype in feed.columns.items()
        }
    )
    profiler = Profiler(feed)
    assert set(profiler.columns) == set(feed.columns)
    stats = FileStats(Stamp(1, 1), 4, 1, 2, True, 0, checked=True)
    [profile] = profiler.profile([(source_of(key), 4)], frame.select(profiler.columns), [stats])
    assert (profile.stats.rows, profile.duplicates) == (4, 1)
    assert profile.runs[:, 2].tolist() == [3]


# Labels and hours


def test_labels_of_an_end_are_shifted_to_their_start() -> None:
    profile = examined(METRICS, every(5 * MINUTE, "2025-07-01 00:05", "2025-07-02 00:05"))
    assert spans(profile) == [("01 00:00", "01 23:55", 288)]


def test_midnight_that_stands_in_both_files_counts_for_the_day_before() -> None:
    profile = examined(METRICS, every(5 * MINUTE, DAY_OF, "2025-07-02 00:05"))
    assert spans(profile) == [("30 23:55", "30 23:55", 1), ("01 00:00", "01 23:55", 288)]


def test_labels_of_files_read_together_are_shifted_each_by_itself() -> None:
    keys = [other("metrics", "BTCUSDT", day) for day in ("2026-06-24", "2026-06-25")]
    before = every(5 * MINUTE, "2026-06-24 00:05", "2026-06-25 00:05")
    after = every(5 * MINUTE, "2026-06-25", "2026-06-26")
    found = examined_together(list(zip(keys, (before, after), strict=True)))
    assert [spans(each) for each in found] == [
        [("24 00:00", "24 23:55", 288)],
        [("25 00:00", "25 23:55", 288)],
    ]


def test_funding_follows_at_the_hours_it_says() -> None:
    """Eight hours, then four, then eight again; a row may mean the time before or after it."""
    for first_of_four in (4, 8):
        hours = [8] * 4 + [first_of_four] + [4] * 6 + [8] * 4
        times = [at(DAY_OF)]
        for before, own in pairwise(hours):
            times.append(times[-1] + (own if first_of_four == 4 else before) * HOUR)
        late = [time + 3_000 for time in times]
        profile = examined(FUNDING, late, hours=hours)
        assert sum(rows for *_, rows in spans(profile)) == len(times)
        kinds = [(time // DAY, own) for time, own in zip(times, hours, strict=True)]
        breaks = sum(one != two for one, two in pairwise(kinds))
        assert len(profile.runs) == breaks + 1, "no break but at midnight and new hours"
        assert profile.off_grid == 0


# Pieces of a file


def assert_same(one: FileProfile, two: FileProfile, *, but: tuple[str, ...] = ()) -> None:
    assert (one.stats.rows, one.stats.sorted) == (two.stats.rows, two.stats.sorted)
    for name in ("duplicates", "off_grid", "longest_silence"):
        if name not in but:
            assert getattr(one, name) == getattr(two, name), name
    assert one.runs.tolist() == two.runs.tolist()


@st.composite
def rows_and_cuts(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Draw places of a small grid, in order or not, some twice, and where to cut them."""
    places = draw(st.lists(st.integers(0, 59), min_size=1, max_size=40))
    if draw(st.booleans()):
        places.sort()
    cuts = draw(st.lists(st.integers(0, len(places)), max_size=4).map(sorted))
    return places, [0, *cuts, len(places)]


@settings(max_examples=150)
@given(rows_and_cuts(), st.sampled_from(["1h", "1m"]))
def test_pieces_of_candles_are_the_file(drawn: tuple[list[int], list[int]], interval: str) -> None:
    places, cuts = drawn
    key = kline("BTCUSDT", "2025-07", interval)
    step = HOUR if interval == "1h" else MINUTE
    times = [at("2025-07-01 23:30") // HOUR * HOUR + place * step for place in places]
    cadence = cadence_of(key.folder.market, key.folder.data_type, key.folder.interval)
    whole, pieces = examined(key, times), None
    for start, end in pairwise(cuts):
        pieces = merge_profiles(cadence, pieces, examined(key, times[start:end]))
    assert pieces is not None
    # Rows that are not in order are not a time apart that means anything.
    assert_same(pieces, whole, but=() if whole.stats.sorted else ("longest_silence",))
    different = sorted(set(times))
    assert whole.runs[:, 2].sum() == len(different)
    assert whole.duplicates == len(times) - len(different)
    filled = [t for run in whole.runs.tolist() for t in range(run[0], run[1] + 1, step)]
    assert filled == different
    assert (whole.runs[:, 0] // DAY == whole.runs[:, 1] // DAY).all()


@settings(max_examples=100)
@given(rows_and_cuts())
def test_pieces_of_numbered_rows_are_the_file(drawn: tuple[list[int], list[int]]) -> None:
    places, cuts = drawn
    times = [at("2025-07-01 12:00") + place // 3 * SECOND for place in places]
    ids = [1_000 + place for place in places]
    cadence = cadence_of(Market.SPOT, DataType.AGG_TRADES, None)
    whole, pieces = examined(AGGREGATES, times, ids=ids), None
    for start, end in pairwise(cuts):
        piece = examined(AGGREGATES, times[start:end], ids=ids[start:end])
        pieces = merge_profiles(cadence, pieces, piece)
    assert pieces is not None
    assert_same(pieces, whole, but=() if whole.stats.sorted else ("longest_silence",))
    assert whole.runs[:, 2].sum() == len(set(ids))
    numbers = [n for run in whole.runs.tolist() for n in range(run[4], run[5] + 1)]
    assert numbers == sorted(set(ids))


@pytest.mark.parametrize("cut", [1, 7, 9, 10, 11, 599])
def test_a_snapshot_that_is_cut_counts_once(cut: int) -> None:
    starts = every(30 * SECOND, "2025-07-01 23:50", "2025-07-02 00:20")
    times = [time for time in starts for _ in range(10)]
    ids = list(range(10)) * len(starts)
    whole = examined(DEPTH, times, ids=ids)
    cadence = cadence_of(Market.FUTURES_UM, DataType.BOOK_DEPTH, None)
    first = examined(DEPTH, times[:cut], ids=ids[:cut])
    assert_same(merge_profiles(cadence, first, examined(DEPTH, times[cut:], ids=ids[cut:])), whole)


def test_events_of_pieces_that_overlap_are_one_day() -> None:
    start = at("2025-07-01 23:59")
    offsets = [0, 10, 30, 20, 70, 60, 80, 90]
    times = [start + offset * SECOND for offset in offsets]
    whole = examined(TRADES, times)
    cadence = cadence_of(Market.FUTURES_UM, DataType.TRADES, None)
    for cut in range(1, len(times)):
        first = examined(TRADES, times[:cut], ids=list(range(cut)))
        second = examined(TRADES, times[cut:], ids=list(range(cut, len(times))))
        pieces = merge_profiles(cadence, first, second)
        assert [run[:3] for run in pieces.runs.tolist()] == [run[:3] for run in whole.runs.tolist()]
        assert not pieces.stats.sorted
    assert np.array_equal(whole.runs[:, 2], [4, 4])
