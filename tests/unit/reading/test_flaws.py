"""Flaws are merged, formatted and parsed without a loss."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.reading.flaws import (
    Flaw,
    FlawKind,
    Reason,
    Standing,
    Streak,
    format_flaws,
    join_standing,
    merge_flaws,
    parse_flaws,
)


def test_flaws_of_one_kind_are_merged() -> None:
    null = Flaw(FlawKind.NULL_VALUE, 1, 5, 5, (Reason("close is empty", 1),))
    low = Flaw(FlawKind.IMPOSSIBLE_VALUE, 2, 3, 8, (Reason("high is below low", 2),))
    more = Flaw(FlawKind.IMPOSSIBLE_VALUE, 1, 1, 1, (Reason("high is below low", 1),))
    both = Flaw(FlawKind.IMPOSSIBLE_VALUE, 3, 1, 8, (Reason("high is below low", 3),))
    assert merge_flaws([low, null, more]) == (both, null)
    assert parse_flaws(format_flaws((both, null), ())) == ((both, null), ())
    assert str(both) == "high is below low in 3 rows, first at 1970-01-01 00:00:00.000"


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 29))
def test_standing_is_the_same_for_rows_in_two_parts(values: list[bool], cut: int) -> None:
    def of(part: list[bool], first: int) -> tuple[Standing, ...]:
        return tuple(_standing_of(part, first)) if part else ()

    whole = of(values, 0)
    cut = min(cut, len(values))
    parts = join_standing(of(values[:cut], 0), of(values[cut:], cut))
    assert [(s.rows, s.head, s.tail, s.longest.rows) for s in parts] == [
        (s.rows, s.head, s.tail, s.longest.rows) for s in whole
    ]
    assert parse_flaws(format_flaws((), whole)) == ((), whole)


def _standing_of(values: list[bool], first: int) -> list[Standing]:
    """Compute for how long a value stands, row by row."""
    runs: list[list[int]] = []
    for index, value in enumerate(values):
        if runs and runs[-1][0] == value:
            runs[-1][2] = first + index
        else:
            runs.append([value, first + index, first + index])
    streaks = [Streak(bool(value), end - start + 1, start, end) for value, start, end in runs]
    longest = max(streaks, key=lambda streak: streak.rows)
    return [Standing("side", len(values), streaks[0], streaks[-1], longest)]
