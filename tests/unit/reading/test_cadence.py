"""What is due when: the grids of every interval, and of the feeds that have none."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.schemas import load_schemas
from binance_archive_kit.reading.cadence import (
    METRICS_LABEL_CHANGE,
    MONTH,
    Cadence,
    cadence_of,
    label_offset,
    length,
    month_start,
    snap_to_grid,
)
from tests.support.planted import DAY, HOUR, MINUTE, SECOND, at, moment

#: As the archive's documents have them, and counted by hand.
STEPS = {
    "1s": SECOND, "1m": MINUTE, "3m": 3 * MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE,
    "30m": 30 * MINUTE, "1h": HOUR, "2h": 2 * HOUR, "4h": 4 * HOUR, "6h": 6 * HOUR,
    "8h": 8 * HOUR, "12h": 12 * HOUR, "1d": DAY, "3d": 3 * DAY, "1w": 7 * DAY, "1mo": MONTH,
}  # fmt: skip


def candles(interval: str) -> Cadence:
    return cadence_of(Market.SPOT, DataType.KLINES, Interval(interval))


@cache
def grid(interval: str, start: datetime, end: datetime) -> list[int]:
    """Give the open times from one moment to another, exclusive, by the calendar."""
    if interval == "1mo":
        days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
        return [at(f"{day:%Y-%m-%d}") for day in days if day.day == 1 and start <= day < end]
    if interval == "1w":
        days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
        return [at(f"{d:%Y-%m-%d}") for d in days if d.weekday() == 0 and start <= d < end]
    first, last = at(f"{start:%Y-%m-%d %H:%M}"), at(f"{end:%Y-%m-%d %H:%M}")
    return [time for time in range(first, last, MINUTE) if time % STEPS[interval] == 0]


def test_every_interval_has_its_length() -> None:
    assert {str(each): length(each) for each in Interval} == STEPS


@pytest.mark.parametrize("interval", [each for each in STEPS if each not in ("1s", "3d")])
def test_candles_open_by_the_calendar(interval: str) -> None:
    start, end = datetime(2024, 1, 31), datetime(2024, 4, 2)
    cadence, due = candles(interval), grid(interval, start, end)
    assert cadence.phase is not None
    first = cadence.ceil_to_grid(at("2024-01-31"), cadence.phase)
    assert first == due[0]
    assert cadence.is_on_grid(np.array(due)).all()
    assert not cadence.is_on_grid(np.array(due) + SECOND).any()
    step = cadence.step
    assert cadence.count_due(first, at("2024-04-02"), step) == len(due)
    assert cadence.next_due(np.array(due[:-1]), np.full(len(due) - 1, step)).tolist() == due[1:]


@pytest.mark.parametrize("interval", [each for each in STEPS if each != "3d"])
@settings(max_examples=25)
@given(data=st.data())
def test_any_stretch_counts_its_candles(interval: str, data: st.DataObject) -> None:
    cadence = candles(interval)
    if interval == "1s":
        due = list(range(at("2024-01-01"), at("2024-01-01 00:05"), SECOND))
    elif interval in ("1w", "1mo"):
        due = grid(interval, datetime(2023, 1, 1), datetime(2025, 1, 1))
    else:
        due = grid(interval, datetime(2023, 12, 30), datetime(2024, 1, 3))
    one, two = sorted(data.draw(st.tuples(*[st.integers(0, len(due) - 1)] * 2)))
    late = data.draw(st.integers(0, SECOND))
    assert cadence.count_due(due[one], due[two], cadence.step) == two - one
    assert cadence.count_due(due[one], due[two] + 1 + late, cadence.step) == two - one + 1 + (
        interval == "1s" and late == SECOND
    )
    assert cadence.count_due(due[two], due[one], cadence.step) == 0


def test_where_candles_of_three_days_begin_their_rows_tell() -> None:
    cadence = candles("3d")
    assert (cadence.phase, cadence.step, cadence.is_long) == (None, 3 * DAY, True)
    assert cadence.is_on_grid(np.array([at("2025-07-01"), at("2025-07-02")])).all()
    assert moment(cadence.ceil_to_grid(at("2025-07-01"), at("2024-01-03"))).day == 2


def test_long_candles_are_longer_than_a_day() -> None:
    assert [str(each) for each in Interval if candles(each).is_long] == ["3d", "1w", "1mo"]


@given(st.integers(0, at("2100-01-01")))
def test_a_month_begins_with_its_first_day(time: int) -> None:
    begins = month_start(np.array([time]))[0]
    assert moment(int(begins)) == moment(time).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )


def test_every_feed_of_the_archive_has_a_rhythm() -> None:
    kinds = {
        f"{market} {data_type}": cadence_of(market, data_type, None).kind
        for market, data_type in load_schemas()
        if not data_type.has_intervals
    }
    assert kinds == {
        "spot trades": "sequence",
        "spot aggTrades": "sequence",
        "futures_um trades": "irregular",
        "futures_um aggTrades": "sequence",
        "futures_um fundingRate": "regular",
        "futures_um bookDepth": "approximate",
        "futures_um metrics": "regular",
        "futures_um bookTicker": "irregular",
        "futures_um liquidationSnapshot": "irregular",
        "futures_cm trades": "irregular",
        "futures_cm aggTrades": "sequence",
        "futures_cm fundingRate": "regular",
        "futures_cm bookDepth": "approximate",
        "futures_cm metrics": "regular",
        "futures_cm bookTicker": "irregular",
        "futures_cm liquidationSnapshot": "irregular",
        "options BVOLIndex": "approximate",
        "options EOHSummary": "regular",
    }


def test_a_day_has_as_many_rows_as_the_documents_say() -> None:
    day = at("2025-07-01"), at("2025-07-02")
    um, options = Market.FUTURES_UM, Market.OPTIONS
    for market, data_type, rows in (
        (um, DataType.METRICS, 288),
        (um, DataType.BOOK_DEPTH, 2_880),
        (options, DataType.BVOL_INDEX, 86_400),
        (options, DataType.EOH_SUMMARY, 24),
        (um, DataType.FUNDING_RATE, 3),
    ):
        cadence = cadence_of(market, data_type, None)
        assert cadence.count_due(*day, cadence.step) == rows
    assert candles("1s").count_due(*day, SECOND) == 86_400
    assert candles("1m").count_due(*day, MINUTE) == 1_440


def test_a_pace_counts_what_fits_best() -> None:
    depth = cadence_of(Market.FUTURES_UM, DataType.BOOK_DEPTH, None)
    start = at("2025-07-01")
    counts = [
        depth.count_due(start, start + each * SECOND, depth.step) for each in (14, 16, 44, 60)
    ]
    assert counts == [0, 1, 1, 2]


def test_funding_comes_some_milliseconds_late_and_counts_for_its_hour() -> None:
    hour = at("2025-07-01 08:00")
    times = np.array([hour, hour + 7_000, hour - 2_000, hour + 61 * SECOND])
    found = snap_to_grid(DataType.FUNDING_RATE, times).tolist()
    assert found == [hour, hour, hour, hour + 61 * SECOND]
    assert snap_to_grid(DataType.KLINES, times) is times


# Labels of metrics


def labels(first: str, rows: int = 288) -> np.ndarray:
    return at(first) + np.arange(rows) * 5 * MINUTE


@pytest.mark.parametrize(
    ("market", "day", "times", "shift"),
    [
        ("futures_um", "2026-06-24", labels("2026-06-24 00:05"), 5),
        ("futures_um", "2026-06-25", labels("2026-06-25"), 0),
        ("futures_um", "2026-09-12", labels("2026-09-12 00:05", 3), 0),
        ("futures_um", "2025-07-01", labels("2025-07-01 03:00", 3), 5),
        # What the labels show goes before the day of the change.
        ("futures_um", "2026-06-26", labels("2026-06-26 00:05"), 5),
        ("futures_um", "2026-06-20", labels("2026-06-20", 287), 0),
        # 00:00 of both days: that of the first one stands for the end of the day before.
        ("futures_um", "2026-06-24", labels("2026-06-24", 289), 5),
        ("futures_um", "2026-06-24", labels("2026-06-24", 0), 5),
        # A row of the next midnight that strayed into the file does not turn its labels.
        ("futures_um", "2026-09-12", labels("2026-09-12", 289), 0),
        ("futures_cm", "2025-07-01", labels("2025-07-01", 289), 0),
        ("futures_cm", "2025-07-01", labels("2025-07-01"), 0),
        ("futures_cm", "2025-07-01", labels("2025-07-01 00:05"), 5),
        ("futures_cm", "2025-07-01", labels("2025-07-01 03:00", 3), 0),
    ],
)
def test_labels_of_metrics_stand_for_an_end_or_a_start(
    market: str, day: str, times: np.ndarray, shift: int
) -> None:
    found = label_offset(Market(market), DataType.METRICS, date.fromisoformat(day), times)
    assert found == shift * MINUTE


def test_no_other_feed_has_shifted_labels() -> None:
    times = np.array([at("2025-07-02")])
    assert label_offset(Market.FUTURES_UM, DataType.BOOK_DEPTH, date(2025, 7, 1), times) == 0
    assert datetime(2026, 6, 25, tzinfo=UTC).date() == METRICS_LABEL_CHANGE


def test_weeks_are_a_week_apart() -> None:
    mondays = grid("1w", datetime(2024, 1, 1), datetime(2024, 3, 1))
    assert {two - one for one, two in pairwise(mondays)} == {7 * DAY}
