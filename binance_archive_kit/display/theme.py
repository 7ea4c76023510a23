"""The look of all figures: legible on light and dark pages, in fonts that have the characters.

Backgrounds are transparent, so that a figure has the background of the page. Matplotlib is
imported on use.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from binance_archive_kit.errors import field_error, shown

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

#: Grey of text and axes: as legible on white as on the dark page of JupyterLab (4.3 to 1).
INK = "#797979"
#: Colours that red-green colour-blind people can tell apart.
BLUE, ORANGE = "#3b82f6", "#f08c00"
#: Points of the text of titles, and of all other text.
TITLE_SIZE, TEXT_SIZE = 11, 9
#: Inches of the smallest chart that has room for its title and its legend.
_SMALLEST = 4, 3
#: Letters of the longest unit beside an axis.
_LONGEST_UNIT = 10
#: Letters for which there is room to the left of axes.
_MARGIN = 10
#: Inches of a letter of text, and of the coloured handle of an entry of a legend.
LETTER, _HANDLE = 0.6 * TEXT_SIZE / 72, 5 * TEXT_SIZE / 72

#: Fonts with Chinese characters, which the default font lacks.
_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC"),
    *("Hiragino Sans GB", "Heiti SC", "Arial Unicode MS"),
)


def check_size(size: object) -> None:
    """Raise unless a value is a width and a height in inches that have room for a chart."""
    pair = size if isinstance(size, Sequence) and len(size) == 2 else (0, 0)
    limits = zip(pair, _SMALLEST, strict=True)
    if not all(isinstance(n, int | float) and least <= n <= 100 for n, least in limits):
        raise field_error(
            "size", f"{shown(size)} is not a width and a height in inches; give (4, 3) or more, "
            "up to (100, 100)"
        )  # fmt: skip


def new_axes(size: tuple[float, float], description: str) -> Axes:
    """Return the axes of a new figure that pyplot knows, so that it is shown after the cell."""
    from matplotlib import pyplot

    from binance_archive_kit.display.inline_figure import InlineFigure

    figure = pyplot.figure(FigureClass=InlineFigure, figsize=size, description=description)
    axes: Axes = figure.subplots()
    return axes


def dress(axes: Axes, *, grid: bool = False) -> None:
    """Give axes a transparent background, and grey text and lines.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    grid : bool
        Also draw faint horizontal lines.
    """
    axes.set_facecolor("none")
    axes.tick_params(which="both", length=2, color=INK, labelcolor=INK, labelsize=TEXT_SIZE)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(side in ("left", "bottom"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=TEXT_SIZE)
        axis.get_offset_text().set(color=INK, fontsize=TEXT_SIZE)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)


def set_title(axes: Axes, *lines: str, pad: float = 6) -> None:
    """Set the title of axes, on the left, with as many lines as it needs.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    *lines : str
        Each begins a line.
    pad : float
        Points between the title and the axes.
    """
    families, lines_drawn = legible(lines)
    figure = axes.get_figure(root=True)
    inches = figure.get_figwidth() if figure else 6.4
    width = int(inches / (0.6 * TITLE_SIZE / 72)) - _MARGIN
    axes.set_title(
        "\n".join(textwrap.fill(line, width) for line in lines_drawn),
        pad=pad,
        fontsize=TITLE_SIZE,
        color=INK,
        loc="left",
        fontfamily=families,
        parse_math=False,
    )


def set_label(axis: Axis, label: str, unit: str = "") -> None:
    """Set the label of an axis, and a unit below, unless that is a long word."""
    families, [text, unit] = legible([label, unit])
    if 0 < len(unit) <= _LONGEST_UNIT:
        text = f"{text}\n{unit}"
    axis.set_label_text(text, fontsize=TEXT_SIZE, color=INK, fontfamily=families, parse_math=False)


def add_legend(place: Axes | Figure, **where: Any) -> Legend:
    """Add a legend without a frame, whose text may have any characters.

    Parameters
    ----------
    place : matplotlib.axes.Axes or matplotlib.figure.Figure
    **where
        Arguments of its `legend`.
    """
    legend = place.legend(frameon=False, fontsize=TEXT_SIZE, labelcolor=INK, **where)
    texts = legend.get_texts()
    families, names = legible(text.get_text() for text in texts)
    for text, name in zip(texts, names, strict=True):
        text.set(text=name, fontfamily=families, parse_math=False)
    return legend


def add_legend_below(figure: Figure, handles: Sequence[Artist]) -> Legend:
    """Add a legend below all axes of a figure, in as many columns as fit."""
    _, names = legible(str(handle.get_label()) for handle in handles)
    # Characters with escapes are long, and Chinese ones are wide.
    longest = max(len(name) + sum(not letter.isascii() for letter in name) for name in names)
    columns = int(figure.get_figwidth() / (longest * LETTER + _HANDLE))
    return add_legend(
        figure,
        handles=handles,
        loc="outside lower left",
        ncols=min(max(columns, 1), len(handles)),
    )


def legible(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    r"""Return the font families to use, and the texts without characters that they lack.

    Such a character is replaced by its escape, such as ``\u5e01``: an empty box has no meaning,
    and Matplotlib warns of it. Draw the texts with ``parse_math=False``, as symbols may contain
    dollar signs.
    """
    families, known = _fonts()

    def escaped(character: str) -> str:
        drawable = character in known and character.isprintable()
        return character if drawable else ascii(character)[1:-1]

    return list(families), ["".join(map(escaped, text)) for text in texts]


@cache
def _fonts() -> tuple[Sequence[str], frozenset[str]]:
    """Return the installed families, and the characters that they have."""
    from matplotlib import font_manager

    # Matplotlib logs a warning for each family that is not installed.
    installed = {*font_manager.get_font_names()}
    families = ("DejaVu Sans", *(font for font in _FONTS if font in installed))
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in families]
    return families, frozenset(chr(code) for font in fonts for code in font.get_charmap())
