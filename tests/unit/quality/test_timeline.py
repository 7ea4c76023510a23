"""Gaps merged, their evidence joined, and their kinds."""

from __future__ import annotations

import numpy as np

from binance_archive_kit.quality.timeline import (
    Gap,
    GapKind,
    join_evidence,
    merge,
)
from tests.support.planted import (
    DAY,
    HOUR,
)


def gap(start: int, end: int, kind: GapKind = GapKind.HOLE, missing: int | None = 1) -> Gap:
    days = np.zeros((end * HOUR - 1) // DAY - start * HOUR // DAY + 1, np.int64)
    days[0] = missing or 0
    return Gap(start * HOUR, end * HOUR, missing, kind, (f"{start}-{end}",), days)


def test_only_neighbours_of_one_kind_are_merged() -> None:
    merged = merge([gap(30, 40), gap(2, 4), gap(4, 6), gap(6, 9, GapKind.HALT), gap(10, 30)])
    assert [(each.start // HOUR, each.end // HOUR, each.missing) for each in merged] == [
        (2, 6, 2),
        (6, 9, 1),
        (10, 40, 2),
    ]
    assert merged[0].evidence == ("2-4", "4-6")
    assert [each.days.tolist() for each in merged] == [[2], [1], [1, 1]]


def test_the_sum_with_an_unknown_number_is_unknown() -> None:
    [merged] = merge([gap(0, 3), gap(3, 5, missing=None)])
    assert merged.missing is None


def test_long_evidence_is_counted() -> None:
    assert join_evidence(["a", "b", "c"]) == "a; b; c"
    assert join_evidence([*"abcdefg"]) == "a; b; c; and 4 more"
    asked = [f"it is absent, asked on 2025-07-01 22:3{at} UTC" for at in (7, 9, 8)]
    assert join_evidence(["a", *asked, "b"]) == f"a; {asked[1]}; b"
