"""Runs stay as they are when they are packed, and damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.query.packed_runs import PACKED_RUN, pack_runs, unpack_runs
from binance_archive_kit.reading.cadence import NO_RUNS, Run, Runs
from binance_archive_kit.timestamps import DAY, MINUTE


def days(first: int, count: int, rows: int = 1440, step: int = MINUTE) -> Runs:
    """Return the runs of days in a row, each with the same rows."""
    starts = [day * DAY for day in range(first, first + count)]
    runs = [Run(start, start + DAY - step, rows, step, 0, 0) for start in starts]
    return np.array(runs, np.int64).reshape(-1, len(Run._fields))


def assert_same(found: list[Runs] | None, expected: list[Runs]) -> None:
    assert found is not None
    assert [runs.tolist() for runs in found] == [runs.tolist() for runs in expected]


def test_equal_days_of_a_file_take_the_place_of_one() -> None:
    files = [days(18_000, 31), days(18_031, 30), NO_RUNS, days(18_061, 1)]
    packed = pack_runs(files)
    assert [len(each) // PACKED_RUN for each in packed] == [1, 1, 0, 1]
    assert_same(unpack_runs(packed), files)


def test_nothing_is_packed_as_nothing() -> None:
    assert pack_runs([]) == []
    assert unpack_runs([]) == []
    assert_same(unpack_runs(pack_runs([NO_RUNS, NO_RUNS])), [NO_RUNS, NO_RUNS])


_FILES = st.lists(
    st.lists(
        st.builds(days, st.integers(-3, 3), st.integers(1, 4), st.integers(1, 2)), max_size=3
    ).map(lambda parts: np.concatenate([NO_RUNS, *parts])),
    max_size=5,
)


@given(_FILES, st.booleans())
def test_any_runs_stay_as_they_are(files: list[Runs], numbered: bool) -> None:
    if numbered:
        files = [runs + np.arange(len(runs))[:, None] * [0, 0, 0, 0, 7, 7] for runs in files]
    assert_same(unpack_runs(pack_runs(files)), files)


@pytest.mark.parametrize("field", range(3))
@pytest.mark.parametrize("value", [-(2**62), 2**62])
def test_impossible_times_and_days_are_noticed(field: int, value: int) -> None:
    [packed] = pack_runs([days(18_000, 2)])
    fields = np.frombuffer(packed, "<i8").copy()
    fields[[0, 1, -1][field]] = value
    assert unpack_runs([packed, fields.tobytes()]) is None
