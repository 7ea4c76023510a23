"""Write the name of each line beside its end, without overlaps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from binance_archive_kit.charts.time_axis import Numbers
from binance_archive_kit.display.theme import TEXT_SIZE, legible

#: Inches between the names of lines.
LINE_HEIGHT = 1.35 * TEXT_SIZE / 72
#: Share of the width from which on a line ends near the right side, and where its name begins.
_NEAR, _BESIDE = 0.1, 1.03
#: Points between the end of a line and its name, and lines of text by which it may be moved.
_SPACE, _SHIFTS = 4, (0, 1, -1, 2, -2, 3, -3)


class LineEnd(NamedTuple):
    """The end of a line: number of its time, value, name and colour."""

    time: float
    value: float
    name: str
    colour: str


def name_lines(figure: Figure, axes: Axes, ends: Sequence[LineEnd]) -> None:
    """Name each line: in the margin if it ends near the right side, else beside its end."""
    left, right = axes.get_xlim()
    limit = right - _NEAR * (right - left)
    inside = [
        _name(axes, end, (_SPACE, 0), textcoords="offset points")
        for end in ends
        if end.time < limit
    ]
    beside = [
        _name(axes, end, (_BESIDE, 0.5), textcoords="axes fraction", arrowprops=_leader(end))
        for end in ends
        if end.time >= limit
    ]
    # The layout depends on the widths of the names, and their heights on the layout.
    figure.draw_without_rendering()
    _move_apart(figure, inside)
    box = axes.get_window_extent()
    heights = np.array([axes.transData.transform(label.xy)[1] for label in beside])
    gap = LINE_HEIGHT * figure.dpi / box.height
    for label, height in zip(beside, spread((heights - box.y0) / box.height, gap), strict=True):
        label.set_position((_BESIDE, height))


def _name(axes: Axes, end: LineEnd, place: tuple[float, float], **how: Any) -> Annotation:
    """Write the name of a line at a place."""
    families, [name] = legible([end.name])
    return axes.annotate(
        name,
        (end.time, end.value),
        place,
        va="center",
        color=end.colour,
        fontsize=TEXT_SIZE,
        fontfamily=families,
        parse_math=False,
        annotation_clip=False,
        **how,
    )


def _leader(end: LineEnd) -> dict[str, Any]:
    """Return the look of the line that leads to a name."""
    look = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.5}
    return look | {"shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}


def _move_apart(figure: Figure, labels: Iterable[Annotation]) -> None:
    """Move names up or down by whole lines until they do not overlap, if a few lines suffice."""
    taken: list[Bbox] = []
    for label in labels:
        box = Text.get_window_extent(label)
        for shift in _SHIFTS:
            moved = box.translated(0, shift * LINE_HEIGHT * figure.dpi)
            if not any(moved.overlaps(other) for other in taken):
                label.set_position((_SPACE, shift * LINE_HEIGHT * 72))
                break
        taken.append(moved)


def spread(heights: Numbers, gap: float) -> Numbers:
    """Return heights between 0 and 1 that are at least a gap apart, near the given ones.

    >>> spread(np.array([0.5, 0.5, 0.9]), 0.1).round(2).tolist()
    [0.45, 0.55, 0.9]
    """
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    blocks: list[tuple[float, int]] = []
    for height in (heights[order] - steps).tolist():
        block = height, 1
        while blocks and blocks[-1][0] > block[0]:
            (one, count), (two, more) = blocks.pop(), block
            block = (one * count + two * more) / (count + more), count + more
        blocks.append(block)
    flat = np.repeat([mean for mean, _ in blocks], [count for _, count in blocks])
    found = np.empty(len(heights))
    found[order] = flat.clip(0, max(1 - gap * (len(heights) - 1), 0)) + steps
    return found
