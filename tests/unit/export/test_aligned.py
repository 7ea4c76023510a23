"""Series on common times: steps, other rows, and returns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.export.aligned import Break, CommonTimes, Series
from binance_archive_kit.reading.cadence import cadence_of
from binance_archive_kit.timestamps import DAY, HOUR

HOURS = cadence_of(Market.SPOT, DataType.KLINES, Interval.H1)
MONTHS = cadence_of(Market.SPOT, DataType.KLINES, Interval.MO1)


def series(steps: list[int], step: int = HOUR) -> Series:
    times = np.array(steps, np.int64) * step
    return Series(times, np.array(steps, np.float64) + 100)


steps = st.sets(st.integers(0, 40), min_size=1).map(sorted)


@given(st.lists(steps, min_size=1, max_size=4))
def test_values_are_placed_at_their_times(many: list[list[int]]) -> None:
    found = [series(each) for each in many]
    common = CommonTimes(found, HOURS)
    first, last = min(map(min, many)), max(map(max, many))
    assert (common.times // HOUR).tolist() == list(range(first, last + 1))
    for each, own in zip(found, many, strict=True):
        placed = common.place(each)
        assert (np.flatnonzero(~np.isnan(placed)) + first).tolist() == own


@given(steps)
def test_returns_are_those_of_neighbours(own: list[int]) -> None:
    common = CommonTimes([series(own)], HOURS)
    values = common.place(series(own))
    found = common.returns(values, "step")
    latest = common.returns(values, "latest")
    for index, step in enumerate(range(own[0], own[-1] + 1)):
        before = [each for each in own if each < step]
        has_both = step in own and step - 1 in own
        assert np.isnan(found[index]) == (not has_both)
        assert np.isnan(latest[index]) == (step not in own or not before)
        if step in own and before:
            assert latest[index] == pytest.approx((100 + step) / (100 + before[-1]) - 1)
        if has_both:
            assert found[index] == latest[index]


def test_no_return_reaches_across_a_break() -> None:
    own = list(range(10))
    common = CommonTimes([series(own)], HOURS)
    values = common.place(series(own))

    def nulls(*breaks: Break) -> list[int]:
        found = common.returns(values, "step", breaks)
        return np.flatnonzero(np.isnan(found)).tolist()

    assert nulls() == [0]
    assert nulls(Break(4 * HOUR, 4 * HOUR)) == [0, 4]
    assert nulls(Break(4 * HOUR + 1, 4 * HOUR + 1)) == [0, 5]
    assert nulls(Break(4 * HOUR, 6 * HOUR), Break(8 * HOUR, 8 * HOUR)) == [0, 4, 5, 6, 8]


def test_months_follow_the_calendar() -> None:
    times = np.array(["2024-01", "2024-02", "2024-05"], "datetime64[M]")
    micros = times.astype("datetime64[us]").astype(np.int64)
    own = Series(micros, np.array([1.0, 2.0, 3.0]))
    common = CommonTimes([own], MONTHS)
    months = common.times.astype("datetime64[us]").astype("datetime64[M]").astype(str).tolist()
    assert months == ["2024-01", "2024-02", "2024-03", "2024-04", "2024-05"]
    assert common.returns(common.place(own), "step")[1] == 1.0


def test_candles_of_three_days_have_the_phase_of_their_rows() -> None:
    cadence = cadence_of(Market.SPOT, DataType.KLINES, Interval.D3)
    first, second = (Series(np.array(days) * DAY, np.ones(2)) for days in ([1, 10], [2, 5]))
    common = CommonTimes([first, second], cadence)
    assert (common.times // DAY).tolist() == [1, 2, 4, 5, 7, 8, 10]
