"""Gaps of single streams whose rows are known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.quality.timeline import (
    Explanation,
    GapKind,
)
from binance_archive_kit.reading.profile import FileProfile
from tests.support.planted import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    at,
    every,
    examined,
    timeline_of,
    told,
)
from tests.support.reports import (
    DAYS,
    UNLISTED,
    candle_files,
    hours,
    numbered,
    with_gaps,
)
from tests.support.stores import kline, other

FUNDING = ObjectKey.parse("data/futures/um/monthly/fundingRate/X/X-fundingRate-2025-07.zip")
MISSING = Explanation(GapKind.MISSING_IN_ARCHIVE, "the archive lacks it")
DELISTED = Explanation(GapKind.AFTER_DELISTING, "the archive's last file is earlier")


# Candles


def test_complete_days_have_no_gap() -> None:
    line = with_gaps(timeline_of(candle_files(*((day, hours(day)) for day in DAYS[:10]))))
    assert told(line) == []
    assert line.present.tolist() == [24] * 10
    assert line.missing.tolist() == [0] * 10


def test_each_gap_has_its_kind_and_bounds() -> None:
    line = with_gaps(
        timeline_of(
            candle_files(
                (DAYS[0], hours(DAYS[0], 0, 1)),
                (DAYS[1], hours(DAYS[1], 5, 6, 9)),
                (DAYS[2], hours(DAYS[2], 22, 23)),
                (DAYS[3], []),
                (DAYS[4], None),
                # No file of the sixth and the seventh.
                (DAYS[7], hours(DAYS[7])),
            ),
            words=[(DAYS[6], MISSING)],
        )
    )
    assert told(line) == [
        ("short_file", "07-01 00:00", "07-01 02:00", 2),
        ("hole", "07-02 05:00", "07-02 07:00", 2),
        ("hole", "07-02 09:00", "07-02 10:00", 1),
        ("short_file", "07-03 22:00", "07-04 00:00", 2),
        ("empty_file", "07-04 00:00", "07-05 00:00", 24),
        ("corrupt", "07-05 00:00", "07-06 00:00", 24),
        ("not_collected", "07-06 00:00", "07-07 00:00", 24),
        ("missing_in_archive", "07-07 00:00", "07-08 00:00", 24),
    ]
    assert line.missing.tolist() == [2, 3, 2, 24, 24, 24, 24, 0]
    assert (line.present + line.missing).tolist() == [24] * 8


def test_a_file_that_ends_early_beside_one_that_begins_late_is_one_gap() -> None:
    line = with_gaps(
        timeline_of(candle_files((DAYS[0], hours(DAYS[0], 22, 23)), (DAYS[1], hours(DAYS[1], 0))))
    )
    [gap] = line.gaps
    assert told(line) == [("short_file", "07-01 22:00", "07-02 01:00", 3)]
    assert len(gap.evidence) == 2
    assert gap.days.tolist() == [2, 1]


def test_neighbouring_days_of_one_kind_are_one_gap() -> None:
    line = with_gaps(
        timeline_of(candle_files((DAYS[0], hours(DAYS[0])), (DAYS[9], hours(DAYS[9]))))
    )
    assert told(line) == [("not_collected", "07-02 00:00", "07-10 00:00", 8 * 24)]


def test_a_day_before_the_first_file_was_not_due() -> None:
    day = DAYS[1]
    rows = candle_files((day, hours(day, *range(10))), (DAYS[2], hours(DAYS[2], *range(20, 24))))
    words = [(DAYS[0], UNLISTED), (DAYS[3], DELISTED)]
    line = with_gaps(timeline_of(rows, DAYS[0], DAYS[3], words))
    assert told(line) == [
        ("before_listing", "07-01 00:00", "07-02 10:00", 0),
        ("after_delisting", "07-03 20:00", "07-05 00:00", 0),
    ]
    assert line.missing.sum() == 0


def test_every_row_is_missing_without_files() -> None:
    line = with_gaps(timeline_of([], DAYS[0], DAYS[2], stream_of=kline("BTCUSDT", DAYS[0])))
    assert told(line) == [("not_collected", "07-01 00:00", "07-04 00:00", 72)]


@pytest.mark.parametrize(
    ("interval", "month", "rows", "lacking", "gap"),
    [
        ("1w", "2025-07", [7, 14, 21, 28], 14, ("hole", "07-14 00:00", "07-21 00:00", 1)),
        ("3d", "2025-07", range(2, 31, 3), 11, ("hole", "07-11 00:00", "07-14 00:00", 1)),
        ("1d", "2025-07", range(1, 32), 11, ("hole", "07-11 00:00", "07-12 00:00", 1)),
    ],
)
def test_long_candles_are_due_where_they_open(
    interval: str, month: str, rows: Sequence[int], lacking: int, gap: tuple[str, str, str, int]
) -> None:
    key = kline("BTCUSDT", month, interval)
    times = [at(f"{month}-{day:02}") for day in rows]
    assert told(with_gaps(timeline_of([(key, examined(key, times))]))) == []
    times.remove(at(f"{month}-{lacking:02}"))
    assert told(with_gaps(timeline_of([(key, examined(key, times))]))) == [gap]


def test_a_week_belongs_to_the_month_it_opens_in() -> None:
    keys = [kline("BTCUSDT", month, "1w") for month in ("2025-06", "2025-07")]
    mondays = [at("2025-06-02") + n * 7 * DAY for n in range(9)]
    june, july = mondays[:5], mondays[5:]
    both = [(keys[0], examined(keys[0], june)), (keys[1], examined(keys[1], july))]
    assert told(with_gaps(timeline_of(both))) == []
    # Some files begin with the week that opened before their month.
    again = [both[0], (keys[1], examined(keys[1], [june[-1], *july]))]
    line = with_gaps(timeline_of(again))
    assert told(line) == []
    assert line.present.sum() == 9
    line = with_gaps(timeline_of(both[1:], "2025-06-01"))
    assert told(line) == [("not_collected", "06-02 00:00", "07-01 00:00", 5)]


def test_months_are_counted_by_the_calendar() -> None:
    months = ["2025-01", "2025-02", "2025-05", "2025-06"]
    keys = [kline("BTCUSDT", month, "1mo") for month in months]
    line = with_gaps(timeline_of([(key, examined(key, [at(str(key.start))])) for key in keys]))
    assert told(line) == [("not_collected", "03-01 00:00", "05-01 00:00", 2)]
    assert line.missing.sum() == 2


def test_a_candle_that_ends_after_the_last_day_is_not_due() -> None:
    key = kline("BTCUSDT", "2025-07", "1w")
    # The week of the 28th is not over on the 31st.
    times = [at(f"2025-07-{day:02}") for day in (7, 14, 21)]
    assert told(with_gaps(timeline_of([(key, examined(key, times))]))) == []


def test_monthly_files_are_split_by_day() -> None:
    key = kline("BTCUSDT", "2025-07")
    times = [time for time in every(HOUR, "2025-07-01", "2025-07-08") if time % DAY != 4 * HOUR]
    line = with_gaps(timeline_of([(key, examined(key, times))]))
    assert told(line) == [
        *(("hole", f"07-{day:02} 04:00", f"07-{day:02} 05:00", 1) for day in range(1, 8)),
        ("short_file", "07-08 00:00", "08-01 00:00", 24 * 24),
    ]


# Funding and snapshots


def funding(changes: Sequence[tuple[int, int]], start: str = "2025-07-01") -> tuple:
    """Return times and intervals of the rows of a month."""
    times, own, time = [], [], at(start)
    for hour, count in changes:
        for _ in range(count):
            times.append(time)
            own.append(hour)
            time += hour * HOUR
    return times, own


@pytest.mark.parametrize("lag", [0, 1])
def test_funding_whose_hours_change_has_no_gap(lag: int) -> None:
    times, own = funding([(8, 30), (4, 36), (8, 45)])
    assert times[-1] + 8 * HOUR == at("2025-08-01")
    own = [own[0]] * lag + own[: len(own) - lag]
    line = with_gaps(timeline_of([(FUNDING, examined(FUNDING, times, hours=own))]))
    assert told(line) == []


@pytest.mark.parametrize("lacking", [3, 4, 31, 32, 67, 90])
def test_a_missing_rate_is_found_whatever_its_interval(lacking: int) -> None:
    times, own = funding([(8, 30), (4, 36), (8, 45)])
    gone = times.pop(lacking)
    step = own.pop(lacking) * HOUR
    line = with_gaps(timeline_of([(FUNDING, examined(FUNDING, times, hours=own))]))
    [gap] = line.gaps
    assert (gap.kind, gap.start, gap.end, gap.missing) == ("hole", gone, gone + step, 1)


@pytest.mark.parametrize("lacking", [7, 8, 9])
def test_a_rate_is_missing_also_on_a_day_on_which_the_hours_change(lacking: int) -> None:
    """The hours of rows after the hole are not those of the next one."""
    times, own = funding([(1, 12), (4, 1), (8, 91)])
    gone = times.pop(lacking)
    del own[lacking]
    line = with_gaps(timeline_of([(FUNDING, examined(FUNDING, times, hours=own))]))
    [gap] = line.gaps
    assert (gap.kind, gap.start, gap.end, gap.missing) == ("hole", gone, gone + HOUR, 1)


def test_snapshots_may_come_anywhere_within_their_step() -> None:
    keys = [other("bookDepth", "BTCUSDT", day) for day in DAYS[:2]]
    times = [[at(day) + offset * SECOND for offset in range(14, 86_400, 31)] for day in DAYS[:2]]
    owners = [(key, examined(key, its)) for key, its in zip(keys, times, strict=True)]
    line = with_gaps(timeline_of(owners))
    assert told(line) == []
    assert line.present.tolist() == [len(its) for its in times]


def test_missing_snapshots_are_counted() -> None:
    key = other("bookDepth", "BTCUSDT", DAYS[0])
    start = at(DAYS[0]) + 5 * SECOND
    places = [place for place in range(2_880) if not 100 <= place < 110 and place < 2_800]
    line = with_gaps(timeline_of([(key, examined(key, [start + p * 30 * SECOND for p in places]))]))
    assert [(gap.kind, gap.missing) for gap in line.gaps] == [("hole", 10), ("short_file", 80)]
    assert (line.gaps[0].start, line.gaps[0].end) == (
        start + 100 * 30 * SECOND,
        start + 110 * 30 * SECOND,
    )
    assert line.present.sum() + line.missing.sum() == 2_880


# Ids and events


def test_ids_that_continue_over_midnight_have_no_gap() -> None:
    line = with_gaps(timeline_of([numbered(DAYS[0], 0, 96), numbered(DAYS[1], 96, 96)]))
    assert told(line) == []


def test_ids_skipped_in_a_file_are_a_hole() -> None:
    line = with_gaps(timeline_of([numbered(DAYS[0], 0, 96, 40, 41, 42)]))
    assert told(line) == [("hole", "07-01 09:45", "07-01 10:45", 3)]


def test_ids_skipped_between_two_files_are_found() -> None:
    """Both files are full of rows, so either may be the one without them."""
    line = with_gaps(timeline_of([numbered(DAYS[0], 0, 96), numbered(DAYS[1], 100, 96)]))
    assert [(kind, missing) for kind, *_, missing in told(line)] == [("hole", 4)]


def test_the_ids_around_a_missing_day_count_its_rows() -> None:
    line = with_gaps(timeline_of([numbered(DAYS[0], 0, 96), numbered(DAYS[2], 200, 96)]))
    assert told(line) == [("not_collected", "07-02 00:00", "07-03 00:00", 104)]


def test_ids_do_not_count_the_rows_of_two_missing_stretches() -> None:
    line = with_gaps(
        timeline_of(
            [numbered(DAYS[0], 0, 96), numbered(DAYS[3], 400, 96)], words=[(DAYS[1], MISSING)]
        )
    )
    assert told(line) == [
        ("missing_in_archive", "07-02 00:00", "07-03 00:00", None),
        ("not_collected", "07-03 00:00", "07-04 00:00", None),
    ]


def cut_short(day: str, first: int) -> tuple[ObjectKey, FileProfile]:
    """Return a day of 960 trades of which only the first third is present."""
    key, _ = numbered(day, first, 960)
    times = [at(day) + n * (DAY // 960) for n in range(320)]
    return key, examined(key, times, ids=range(first, first + 320))


@pytest.mark.parametrize("then", ["another file", "nothing"])
def test_a_file_that_ends_early_is_short_whatever_ids_follow(then: str) -> None:
    files = [numbered(DAYS[0], 0, 960), cut_short(DAYS[1], 960)]
    if then == "another file":
        files.append(numbered(DAYS[2], 1920, 960))
    [gap] = with_gaps(timeline_of(files)).gaps
    assert gap.kind is GapKind.SHORT_FILE
    assert gap.start == at(DAYS[1]) + 319 * (DAY // 960)
    assert gap.missing == (640 if then == "another file" else None)


def test_a_file_of_ids_that_ends_early_is_short() -> None:
    key, _ = numbered(DAYS[0], 0, 960)
    step = DAY // 960
    ids = range(300)
    first = key, examined(key, [at(DAYS[0]) + n * step for n in ids], ids=ids)
    line = with_gaps(timeline_of([first, numbered(DAYS[1], 960, 960)]))
    assert told(line) == [("short_file", "07-01 07:28", "07-02 00:00", 660)]


def test_a_quiet_end_whose_ids_continue_is_not_short() -> None:
    key, _ = numbered(DAYS[0], 0, 960)
    step = DAY // 960
    ids = range(300)
    first = key, examined(key, [at(DAYS[0]) + n * step for n in ids], ids=ids)
    assert told(with_gaps(timeline_of([first, numbered(DAYS[1], 300, 960)]))) == []


@pytest.mark.parametrize(
    ("start", "end", "gap"),
    [
        ("07-01 01:00", "07-02 00:00", ("short_file", "07-01 00:00", "07-01 01:00", None)),
        ("07-01 00:00", "07-01 20:00", ("short_file", "07-01 19:59", "07-02 00:00", None)),
    ],
)
def test_events_are_short_when_they_are_silent_for_long(
    start: str, end: str, gap: tuple[str, str, str, None]
) -> None:
    key = other("trades", "BTCUSDT", DAYS[0])
    times = every(MINUTE, f"2025-{start}", f"2025-{end}")
    line = with_gaps(timeline_of([(key, examined(key, times, ids=times))]))
    assert told(line) == [gap]


def test_events_at_one_time_are_not_short() -> None:
    """Liquidations come in storms, with silence before and after."""
    key = other("liquidationSnapshot", "BTCUSDT", "2023-06-25")
    times = every(MINUTE, "2023-06-25 14:00", "2023-06-25 15:00")
    line = timeline_of([(key, examined(key, times))])
    assert told(with_gaps(line)) == []


def test_events_that_are_rare_all_day_are_not_short() -> None:
    key = other("trades", "BTCUSDT", DAYS[0])
    times = every(3 * HOUR, "2025-07-01 02:00", "2025-07-01 22:00")
    assert told(with_gaps(timeline_of([(key, examined(key, times, ids=times))]))) == []


def test_a_silent_hour_of_best_prices_is_short() -> None:
    key = other("bookTicker", "BTCUSDT", "2024-03-29")
    times = every(20 * MINUTE, "2024-03-29", "2024-03-29 22:30")
    line = with_gaps(timeline_of([(key, examined(key, times, ids=times))]))
    assert told(line) == [("short_file", "03-29 22:20", "03-30 00:00", None)]
