"""Names beside the ends of lines do not overlap."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from binance_archive_kit.charts.line_names import LineEnd, name_lines, spread


def test_names_of_lines_that_end_together_do_not_overlap() -> None:
    for time in (5.0, 10.0):
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(0, 10), ylim=(0, 10))
        name_lines(figure, axes, [LineEnd(time, 5, f"NAME{n}", "red") for n in range(7)])
        figure.draw_without_rendering()
        boxes = [Text.get_window_extent(label) for label in axes.texts]
        assert len(boxes) == 7
        assert not any(one.overlaps(two) for one, two in combinations(boxes, 2))
        area = axes.get_window_extent()
        assert all((box.x0 > area.x1) == (time == 10) for box in boxes)
        assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_names_far_apart_stay_beside_their_ends() -> None:
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    name_lines(figure, axes, [LineEnd(x, y, "NAME", "red") for x, y in ((2, 2), (2, 8), (10, 4))])
    figure.draw_without_rendering()
    for label in axes.texts:
        box = Text.get_window_extent(label)
        height = axes.transData.transform(label.xy)[1]  # type: ignore[attr-defined]
        assert abs((box.y0 + box.y1) / 2 - height) < 2


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=20), st.floats(0.001, 0.1))
def test_spread_heights_keep_their_order_and_their_distance(
    heights: list[float], gap: float
) -> None:
    found = spread(np.array(heights), gap)
    order = np.argsort(heights, kind="stable")
    assert (np.diff(found[order]) >= gap - 1e-9).all()
    if gap * (len(heights) - 1) <= 1:
        assert found.min() >= -1e-9
        assert found.max() <= 1 + 1e-9
    apart = np.diff(np.sort(heights), prepend=-np.inf) >= gap
    if apart.all() and min(heights) >= 0 and max(heights) <= 1 - gap * (len(heights) - 1):
        assert found == pytest.approx(heights)
