"""A heatmap of days: a row for each stream, with each day in the colour of its kind of gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.display import render, theme
from binance_archive_kit.errors import CoverageError
from binance_archive_kit.quality.frames import COMPLETE
from binance_archive_kit.quality.timeline import GapKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from binance_archive_kit.display.inline_figure import InlineFigure

#: States of a day, the worst last, in colours that also differ for red-green colour-blind
#: people. Where no row is due, they are faint on light and on dark pages.
_COLOURS: dict[str, str] = {
    GapKind.AFTER_DELISTING: "#9ca3af99",
    GapKind.BEFORE_LISTING: "#9ca3af33",
    GapKind.ENDED_FEED: "#9ca3af66",
    GapKind.NOT_PUBLISHED: "#a78bfa",
    COMPLETE: theme.BLUE,
    GapKind.HALT: "#f472b6",
    GapKind.SHORT_FILE: "#fbbf24",
    GapKind.HOLE: "#f97316",
    GapKind.EMPTY_FILE: "#92400e",
    GapKind.NOT_COLLECTED: "#6b7280",
    GapKind.MISSING_IN_ARCHIVE: "#a21caf",
    GapKind.CORRUPT: "#dc2626",
}
_CODES = [*_COLOURS]
#: Colour of each kind of gap, in all figures.
KIND_COLOURS = {kind: colour for kind, colour in _COLOURS.items() if kind != COMPLETE}

#: Streams before only the worst are drawn, and columns before days share a cell.
_ROWS, _COLUMNS = 100, 400
_FEWEST_TICKS, _MOST_TICKS = 4, 14
#: Steps between months, and the most labels that fit below a heatmap.
_MONTHS, _MOST_LABELS = (1, 2, 3, 6), 24
#: Inches of a letter of a name, of the legend's indent, and of its longest word.
_LETTER, _INDENT, _WORD = 0.07, 0.5, 1.35
#: A leap year, whose days stand for those of any year.
_LEAP_YEAR = 2024


@dataclass(frozen=True)
class Heatmap:
    """A grid of days.

    Attributes
    ----------
    names : list of str
        Label of each row.
    codes : numpy.ndarray
        For each cell an index into `_CODES`, or -1 for none.
    starts : list of date
        First day of each column; in a leap year where rows are years.
    note : str
        The title: omitted streams, and days that share a cell.
    yearly : bool
        Whether rows are the years of one stream.
    """

    names: list[str]
    codes: npt.NDArray[np.int64]
    starts: list[date]
    note: str
    yearly: bool = False

    @property
    def inches(self) -> tuple[float, float]:
        """Width and height at which the names are legible."""
        return 10.0, 1.1 + 0.19 * len(self.names)

    def plot(self, axes: Axes | None = None, description: str = "") -> Axes:
        """Draw the heatmap, by default on a new figure of pyplot."""
        axes = theme.new_axes(self.inches, description) if axes is None else axes
        self.draw(axes)
        return axes

    def figure(self, description: str) -> InlineFigure:
        """Return a figure of the heatmap, without pyplot."""
        from binance_archive_kit.display.inline_figure import InlineFigure

        figure = InlineFigure(self.inches, description)
        self.draw(figure.subplots())
        return figure

    def draw(self, axes: Axes) -> None:
        """Draw the grid, its labels, and the legend."""
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        shown = np.ma.masked_less(self.codes, 0)
        colours = ListedColormap([*_COLOURS.values()])
        axes.pcolormesh(
            shown,
            cmap=colours,
            vmin=-0.5,
            vmax=len(_CODES) - 0.5,
            edgecolors="none",
            rasterized=True,
        )
        rows = np.arange(1, len(self.names))
        axes.hlines(rows, 0, len(self.starts), color=theme.INK, linewidth=0.3, alpha=0.6)
        axes.set_xlim(0, len(self.starts))
        axes.set_ylim(len(self.names), 0)
        theme.dress(axes)
        families, names = theme.legible(self.names)
        axes.set_yticks(np.arange(len(names)) + 0.5, names, fontfamily=families, parse_math=False)
        axes.set_xticks(*self._ticks())
        for spine in axes.spines.values():
            spine.set_visible(False)
        present = [code for index, code in enumerate(_CODES) if (self.codes == index).any()]
        # The distance below the days does not depend on the number of rows.
        theme.add_legend(
            axes,
            handles=[Patch(color=_COLOURS[code], label=render.plain(code)) for code in present],
            loc="upper left",
            bbox_to_anchor=(0, 0),
            borderaxespad=3.5,
            ncols=self._legend_columns(names),
        )
        if self.note:
            theme.set_title(axes, self.note)

    def _legend_columns(self, names: Sequence[str]) -> int:
        """Choose the number of columns of the legend: fewer beside long names."""
        width = self.inches[0] - _LETTER * max(map(len, names)) - _INDENT
        return min(max(int(width / _WORD), 2), 6)

    def _ticks(self) -> tuple[list[int], list[str]]:
        """Choose the ticks below the grid, at years, months or days, and their labels."""
        if self.yearly:
            firsts = [index for index, day in enumerate(self.starts) if day.day == 1]
            return firsts, [f"{self.starts[index]:%b}" for index in firsts]
        years = self._firsts(lambda day: day.year)
        months = self._firsts(lambda day: day.month)
        if len(years) >= _FEWEST_TICKS:
            return years, [f"{self.starts[index]:%Y}" for index in years]
        if len(months) >= _FEWEST_TICKS:
            step = next(step for step in _MONTHS if len(months) <= step * _MOST_TICKS)
            months = [index for index in months if (self.starts[index].month - 1) % step == 0]
            return months, self._dated(months, "%b")
        days = [*range(0, len(self.starts), -(-len(self.starts) // _MOST_TICKS))]
        return days, self._dated(days, "%m-%d")

    def _firsts(self, part: Callable[[date], int]) -> list[int]:
        """Return the first column of each year or month, without a first one too short to label."""
        parts = [part(day) for day in self.starts]
        firsts = [0, *(index + 1 for index, (one, two) in enumerate(pairwise(parts)) if one != two)]
        crowded = len(firsts) > 1 and firsts[1] < len(self.starts) / _MOST_LABELS
        return firsts[1:] if crowded else firsts

    def _dated(self, columns: Sequence[int], form: str) -> list[str]:
        """Format days; the first of each year with the year below."""
        labels, year = [], 0
        for day in (self.starts[index] for index in columns):
            labels.append(f"{day:{form}}" if day.year == year else f"{day:{form}}\n{day.year}")
            year = day.year
        return labels


def heatmap_of(names: Sequence[str], rows: pl.Series, days: pl.Series, kinds: pl.Series) -> Heatmap:
    """Build a heatmap.

    Parameters
    ----------
    names : sequence of str
        Names of the streams.
    rows, days, kinds : polars.Series
        Index of the stream, day, and kind of gap; null for none.
    """
    first, last = days.min(), days.max()
    if not isinstance(first, date) or not isinstance(last, date):
        raise CoverageError("nothing to draw: no stream has a day")
    indices = {str(code): index for index, code in enumerate(_CODES)}
    values = kinds.cast(pl.String).fill_null(COMPLETE).replace_strict(indices)
    codes = np.full((len(names), (last - first).days + 1), -1, np.int64)
    codes[rows.to_numpy(), (days - first).dt.total_days().to_numpy()] = values.to_numpy()
    dates = [first + timedelta(days=index) for index in range(codes.shape[1])]
    if len(names) == 1 and len(dates) > _COLUMNS:
        return _years(names[0], codes[0], dates)
    notes = []
    if len(names) > _ROWS:
        badness = (codes > _CODES.index(COMPLETE)).sum(axis=1)
        worst = np.sort(np.argsort(-badness, kind="stable")[:_ROWS])
        notes.append(f"the {_ROWS} worst of {len(names):,} streams")
        codes, names = codes[worst], [names[row] for row in worst]
    if len(dates) > _COLUMNS:
        months = len(dates) > 7 * _COLUMNS
        begins = [
            index
            for index, day in enumerate(dates)
            if index == 0 or (day.day == 1 if months else day.weekday() == 0)
        ]
        codes = np.maximum.reduceat(codes, begins, axis=1)
        dates = [dates[index] for index in begins]
        notes.append(f"each cell shows the worst day of a {'month' if months else 'week'}")
    return Heatmap(list(names), codes, dates, "; ".join(notes))


def _years(name: str, codes: npt.NDArray[np.int64], days: Sequence[date]) -> Heatmap:
    """Build a heatmap of one stream, with a row for each year."""
    years = list(range(days[0].year, days[-1].year + 1))
    grid = np.full((len(years), 366), -1, np.int64)
    for code, day in zip(codes, days, strict=True):
        in_leap_year = day.replace(year=_LEAP_YEAR)
        grid[day.year - years[0], in_leap_year.timetuple().tm_yday - 1] = code
    starts = [date(_LEAP_YEAR, 1, 1) + timedelta(days=index) for index in range(366)]
    return Heatmap([str(year) for year in years], grid, starts, name, yearly=True)
