"""A picture of days: streams below each other, each day in the colour of what it lacks."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.display import render
from binance_archive_kit.errors import CoverageError
from binance_archive_kit.quality.gaps import GapKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What a day is called that lacks nothing.
COMPLETE = "complete"
#: What a day can be, the worst last.
_CODES: list[str] = [
    GapKind.AFTER_DELISTING,
    GapKind.BEFORE_LISTING,
    GapKind.ENDED_FEED,
    GapKind.NOT_PUBLISHED,
    COMPLETE,
    GapKind.HALT,
    GapKind.SHORT_FILE,
    GapKind.HOLE,
    GapKind.EMPTY_FILE,
    GapKind.NOT_COLLECTED,
    GapKind.MISSING_IN_ARCHIVE,
    GapKind.CORRUPT,
]


#: Colours that can be told apart by people who do not see red and green alike.
_COMPLETE_COLOUR = "#3b82f6"
_COLOURS = {
    GapKind.HALT: "#0d9488",
    GapKind.SHORT_FILE: "#fbbf24",
    GapKind.EMPTY_FILE: "#b45309",
    GapKind.HOLE: "#f97316",
    GapKind.CORRUPT: "#dc2626",
    GapKind.MISSING_IN_ARCHIVE: "#7c2d12",
    GapKind.NOT_COLLECTED: "#6b7280",
    GapKind.NOT_PUBLISHED: "#a78bfa",
    GapKind.ENDED_FEED: "#d4d4d8",
    GapKind.BEFORE_LISTING: "#d4d4d8",
    GapKind.AFTER_DELISTING: "#d4d4d8",
}
#: Text that can be read on a light and on a dark ground.
_INK = "#808080"


#: Streams before only the worst are drawn, and columns before days are put together.
_ROWS, _COLUMNS = 100, 400


def _colour(code: str) -> str:
    return _COMPLETE_COLOUR if code == COMPLETE else _COLOURS[GapKind(code)]


@dataclass(frozen=True)
class Heatmap:
    """A field of days.

    Attributes
    ----------
    names : list of str
        What stands beside each row.
    codes : numpy.ndarray
        For each row and column a place in `_CODES`, or -1 for nothing.
    starts : list of date
        The day each column begins with; for years drawn below each other, of a leap year.
    note : str
        What had to be put together or left out.
    yearly : bool
        Whether its rows are the years of one stream.
    """

    names: list[str]
    codes: npt.NDArray[np.int64]
    starts: list[date]
    note: str
    yearly: bool = False

    @property
    def inches(self) -> tuple[float, float]:
        """Size that keeps it legible."""
        return 10.0, 1.1 + 0.19 * len(self.names)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw it, on a figure of its own unless told where."""
        if axes is None:
            from matplotlib import pyplot

            _, axes = pyplot.subplots(figsize=self.inches, layout="constrained")
        self.draw(axes)
        return axes

    def png(self) -> bytes:
        """Draw it as a PNG with a transparent ground, without touching pyplot."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.inches, layout="constrained")
        FigureCanvasAgg(figure)
        self.draw(figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, transparent=True)
        return buffer.getvalue()

    def draw(self, axes: Axes) -> None:
        """Draw the field, its labels, and what its colours mean."""
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        shown = np.ma.masked_less(self.codes, 0)
        colours = ListedColormap([_colour(code) for code in _CODES])
        axes.pcolormesh(
            shown,
            cmap=colours,
            vmin=-0.5,
            vmax=len(_CODES) - 0.5,
            edgecolors="none",
            rasterized=True,
        )
        rows = np.arange(1, len(self.names))
        axes.hlines(rows, 0, len(self.starts), color=_INK, linewidth=0.3, alpha=0.6)
        axes.set_xlim(0, len(self.starts))
        axes.set_ylim(len(self.names), 0)
        families, [note, *names] = _legible([self.note, *self.names])
        places = np.arange(len(names)) + 0.5
        axes.set_yticks(
            places, names, fontsize=8, color=_INK, fontfamily=families, parse_math=False
        )
        ticks, labels = self._ticks()
        axes.set_xticks(ticks, labels, fontsize=8, color=_INK)
        axes.tick_params(length=2, color=_INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
        there = [code for at, code in enumerate(_CODES) if (self.codes == at).any()]
        # As far below the days whatever their number.
        axes.legend(
            handles=[Patch(color=_colour(code), label=render.plain(code)) for code in there],
            loc="upper left",
            bbox_to_anchor=(0, 0),
            borderaxespad=3.5,
            ncols=self._legend_columns(names),
            frameon=False,
            fontsize=8,
            labelcolor=_INK,
        )
        if note:
            axes.set_title(
                note, fontsize=9, color=_INK, loc="left", fontfamily=families, parse_math=False
            )

    def _legend_columns(self, names: Sequence[str]) -> int:
        """Choose how many words the legend has side by side: beside long names fewer."""
        room = self.inches[0] - _LETTER * max(map(len, names)) - _INDENT
        return min(max(int(room / _WORD), 2), 6)

    def _ticks(self) -> tuple[list[int], list[str]]:
        """Choose days to write below the field: of years, months, weeks, or each of them."""
        if self.yearly:
            firsts = [at for at, day in enumerate(self.starts) if day.day == 1]
            return firsts, [f"{self.starts[at]:%b}" for at in firsts]
        years = self._firsts(lambda day: day.year)
        months = self._firsts(lambda day: day.month)
        if len(years) >= _FEWEST_TICKS:
            return years, [f"{self.starts[at]:%Y}" for at in years]
        if len(months) >= _FEWEST_TICKS:
            step = next(each for each in _MONTHS if len(months) <= each * _MOST_TICKS)
            months = [at for at in months if (self.starts[at].month - 1) % step == 0]
            return months, self._dated(months, "%b")
        days = [*range(0, len(self.starts), -(-len(self.starts) // _MOST_TICKS))]
        return days, self._dated(days, "%m-%d")

    def _firsts(self, part: Callable[[date], int]) -> list[int]:
        """Find the columns that a year or a month begins with; not one that hardly begins it."""
        parts = [part(day) for day in self.starts]
        firsts = [at for at, each in enumerate(parts) if at == 0 or each != parts[at - 1]]
        crowded = len(firsts) > 1 and firsts[1] < len(self.starts) / _MOST_LABELS
        return firsts[1:] if crowded else firsts

    def _dated(self, places: Sequence[int], form: str) -> list[str]:
        """Spell days; the first one, and the first of each year, with the year below."""
        labels, year = [], 0
        for day in (self.starts[at] for at in places):
            labels.append(f"{day:{form}}" if day.year == year else f"{day:{form}}\n{day.year}")
            year = day.year
        return labels


_FEWEST_TICKS, _MOST_TICKS = 4, 14
#: Every how many months one is written, and as many labels as fit below a picture.
_MONTHS, _MOST_LABELS = (1, 2, 3, 6), 24
#: Inches that a letter of a name takes, the legend's indent, and its longest word.
_LETTER, _INDENT, _WORD = 0.07, 0.5, 1.35

#: Fonts that have the characters of symbols which most fonts lack.
_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS"),
)


def _legible(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Choose fonts for names; what no font here can draw is spelled in ASCII.

    Returns
    -------
    (list of str, list of str)
        Families of fonts, and the names.
    """
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    families = ["DejaVu Sans", *(font for font in _FONTS if font in there)]
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in families]
    spelled = [
        name
        if all(any(font.get_char_index(ord(each)) for font in fonts) for each in name)
        else name.encode("ascii", "backslashreplace").decode()
        for name in names
    ]
    return families, spelled


def picture_of(names: Sequence[str], rows: pl.Series, days: pl.Series, kinds: pl.Series) -> Heatmap:
    """Lay days out.

    Parameters
    ----------
    names : sequence of str
        Of the streams.
    rows, days, kinds : polars.Series
        Which stream, which day, and the kind of gap it has; null for none.
    """
    first, last = days.min(), days.max()
    if not isinstance(first, date) or not isinstance(last, date):
        raise CoverageError("there is nothing to draw: no stream has a day")
    places = {str(code): place for place, code in enumerate(_CODES)}
    values = kinds.cast(pl.String).fill_null(COMPLETE).replace_strict(places)
    codes = np.full((len(names), (last - first).days + 1), -1, np.int64)
    codes[rows.to_numpy(), (days - first).dt.total_days().to_numpy()] = values.to_numpy()
    dates = [first + timedelta(days=at) for at in range(codes.shape[1])]
    if len(names) == 1 and len(dates) > _COLUMNS:
        return _years(names[0], codes[0], dates)
    notes = []
    if len(names) > _ROWS:
        badness = (codes > _CODES.index(COMPLETE)).sum(axis=1)
        worst = np.sort(np.argsort(-badness, kind="stable")[:_ROWS])
        notes.append(f"the {_ROWS} worst of {len(names):,} streams")
        codes, names = codes[worst], [names[at] for at in worst]
    if len(dates) > _COLUMNS:
        months = len(dates) > 7 * _COLUMNS
        begins = [
            at
            for at, day in enumerate(dates)
            if at == 0 or (day.day == 1 if months else day.weekday() == 0)
        ]
        codes = np.maximum.reduceat(codes, begins, axis=1)
        dates = [dates[at] for at in begins]
        notes.append(f"each cell shows the worst day of a {'month' if months else 'week'}")
    return Heatmap(list(names), codes, dates, "; ".join(notes))


def _years(name: str, codes: npt.NDArray[np.int64], days: Sequence[date]) -> Heatmap:
    """Lay one stream out as years below each other."""
    years = list(range(days[0].year, days[-1].year + 1))
    field = np.full((len(years), 366), -1, np.int64)
    for code, day in zip(codes, days, strict=True):
        field[day.year - years[0], _in_leap_year(day).timetuple().tm_yday - 1] = code
    starts = [date(_LEAP_YEAR, 1, 1) + timedelta(days=at) for at in range(366)]
    return Heatmap([str(year) for year in years], field, starts, name, yearly=True)


#: Whose days stand for those of any year.
_LEAP_YEAR = 2024


def _in_leap_year(day: date) -> date:
    return day.replace(year=_LEAP_YEAR)
