"""`bak.lines`: a line for each column of a wide frame, broken where a value is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from binance_archive_kit.charts.line_names import LINE_HEIGHT, LineEnd, name_lines
from binance_archive_kit.charts.symbol_colours import LineStyle, line_styles
from binance_archive_kit.charts.time_axis import (
    Numbers,
    is_time,
    show_prices,
    show_times,
    to_numbers,
    to_utc,
)
from binance_archive_kit.display.inline_figure import InlineFigure
from binance_archive_kit.display.theme import (
    INK,
    check_size,
    dress,
    set_label,
    set_title,
)
from binance_archive_kit.errors import check_flag, field_error, shown, warn_user
from binance_archive_kit.query.polars_scan import first_few
from binance_archive_kit.timestamps import format_time

#: Most lines that are all named; of more, only some of the highest and of the lowest are.
_NAMED, _ENDS = 40, 10
#: Inches above and below the names.
_REST = 1.2
#: Symbols up to which the title names each.
_FEW = 6
#: A step that is longer than this many usual steps is a gap.
_LONG_STEP = 1.5


def lines(
    frame: pl.DataFrame,
    *,
    rebase: bool = False,
    log: bool = False,
    title: str | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Draw a line for each symbol of a wide frame.

    A line is broken where a value is null, and where rows are missing: it never crosses a gap. Each
    line is named at its right end. A symbol has the same colour in every figure.

    Parameters
    ----------
    frame : polars.DataFrame
        As `panel` returns it: a column of times (``open_time``, or the first column of dates or
        times), and a column of numbers for each symbol. Times without a time zone are UTC.
    rebase : bool
        Divide each line by its value at the first time at which all symbols have one, times 100.
    log : bool
        Logarithmic axis: equal relative changes have equal heights.
    title : str, optional
        By default the names, or their number, and the range of time.
    size : (float, float), optional
        Width and height in inches; by default 9, and as high as the names need.

    Returns
    -------
    matplotlib.figure.Figure
        A notebook displays it if it is the value of a cell. ``figure.savefig("lines.png")``
        saves it; the background is transparent.

    Raises
    ------
    ConfigurationError
        If the frame has no times, no numbers or no value, if there is no time at which all
        symbols have a value (with `rebase`), or a value is not above 0 (with `log` or `rebase`).

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> closes = bak.panel("data/research", "spot", "1h", "close")  # doctest: +SKIP
    >>> bak.lines(closes, rebase=True)  # doctest: +SKIP
    """
    for name, value in (("rebase", rebase), ("log", log)):
        check_flag(name, value)
    if title is not None and not isinstance(title, str):
        raise field_error("title", f"{shown(title)} is not text")
    table = _parse(frame)
    if log or rebase:
        table.check_positive()
    base = table.rebase() if rebase else None
    names = len(table.names) if len(table.names) <= _NAMED else 2 * _ENDS
    if size is None:
        size = 9.0, max(4.0, _REST + names * LINE_HEIGHT)
    check_size(size)
    return _draw(table, base, log, title, size)


@dataclass
class _Lines:
    """The values of lines.

    Attributes
    ----------
    time : str
        Name of the column of times.
    times : polars.Series
        Sorted, UTC.
    names : list of str
    values : numpy.ndarray
        A row per time, a column per name; NaN where a value is missing.
    """

    time: str
    times: pl.Series
    names: list[str]
    values: Numbers

    def check_positive(self) -> None:
        """Raise if a value is not above 0."""
        low = [name for name, at in zip(self.names, self.values.T, strict=True) if (at <= 0).any()]
        if low:
            raise field_error("frame", f"not all values are above 0: {first_few(low)}")

    def rebase(self) -> datetime:
        """Divide by the values at the first time at which all are known; return it."""
        whole = np.isfinite(self.values).all(axis=1)
        if not whole.any():
            raise field_error(
                "rebase", "there is no time at which all symbols have a value; choose symbols "
                "or times that overlap"
            )  # fmt: skip
        row = int(whole.argmax())
        self.values = 100 * self.values / self.values[row]
        base: datetime = self.times[row]
        return base

    def broken(self) -> tuple[Numbers, Numbers]:
        """Return the times as numbers, and the values, with a row of NaN where rows are missing."""
        numbers = to_numbers(self.times)
        steps = np.diff(numbers)
        if not len(steps):
            return numbers, self.values
        after = np.flatnonzero(steps > _LONG_STEP * np.median(steps)) + 1
        values = np.insert(self.values, after, np.nan, axis=0)
        return np.insert(numbers, after, numbers[after]), values


def _parse(frame: object) -> _Lines:
    """Check a wide frame; return its lines, without rows and columns that have no value."""
    if not isinstance(frame, pl.DataFrame):
        raise field_error("frame", f"{shown(frame)} is not a Polars DataFrame, such as panel(...)")
    dated = [name for name, dtype in frame.schema.items() if is_time(dtype)]
    if not dated:
        raise field_error("frame", "it has no column of times")
    time = "open_time" if "open_time" in dated else dated[0]
    names = [name for name, dtype in frame.schema.items() if dtype.is_numeric()]
    if "symbol" in frame.columns:
        raise field_error(
            "frame",
            f"it has a row for each time and symbol; use panel(...), or frame.pivot('symbol', "
            f"index={time!r}, values='close')",
        )
    if not names:
        raise field_error("frame", "it has no column of numbers")
    frame = frame.select(time, pl.col(names).cast(pl.Float64)).drop_nulls(time).sort(time)
    times = to_utc(frame[time])
    if times.n_unique() < len(times):
        raise field_error("frame", f"{time} has times more than once")
    values = frame.select(names).to_numpy().astype(float)
    values[~np.isfinite(values)] = np.nan
    known = np.isfinite(values)
    if not known.any():
        raise field_error("frame", "it has no value")
    has_value = known.any(axis=0)
    if empty := [name for name, has in zip(names, has_value, strict=True) if not has]:
        warn_user(f"no value of {first_few(empty)}, so no line")
    used = [name for name, has in zip(names, has_value, strict=True) if has]
    return _Lines(time, times, used, values[:, has_value])


class _Line(NamedTuple):
    """A line to draw."""

    name: str
    numbers: Numbers  #: of its times
    values: Numbers
    style: LineStyle | None  #: None for a line without a name

    @property
    def last(self) -> tuple[float, float]:
        """Number of the time, and value, of the last value."""
        at = np.flatnonzero(np.isfinite(self.values))[-1]
        return float(self.numbers[at]), float(self.values[at])


def _count_ends(table: _Lines, height: float) -> int:
    """Return how many of the highest and of the lowest lines are named; 0 for all lines."""
    # The height may have been computed from their number.
    room = round((height - _REST) / LINE_HEIGHT)
    return 0 if len(table.names) <= min(room, _NAMED) else max(min(room // 2, _ENDS), 1)


def _styled(table: _Lines, count: int) -> list[_Line]:
    """Return the lines with their styles; if `count` is not 0, the highest and lowest have one."""
    numbers, values = table.broken()
    plain = [_Line(*each, None) for each in zip(table.names, repeat(numbers), values.T)]
    named: Sequence[int] = range(len(plain))
    if count:
        ranks = np.argsort([line.last[1] for line in plain], kind="stable")
        named = sorted({*ranks[:count].tolist(), *ranks[-count:].tolist()})
    styles = dict(zip(named, line_styles(table.names[index] for index in named), strict=True))
    return [line._replace(style=styles.get(index)) for index, line in enumerate(plain)]


def _draw(
    table: _Lines,
    base: datetime | None,
    log: bool,
    title: str | None,
    size: tuple[float, float],
) -> Figure:
    """Draw the lines, their names and the title."""
    count = _count_ends(table, size[1])
    headings = _title(table, base, count) if title is None else [title]
    figure = InlineFigure(size, f"Lines: {', '.join(headings)}")
    axes = figure.subplots()
    dress(axes, grid=True)
    drawn = _styled(table, count)
    for line in sorted(drawn, key=lambda line: line.style is not None):
        _draw_line(axes, line)
    show_prices(axes, log=log)
    show_times(axes, *to_numbers(table.times)[[0, -1]])
    set_label(axes.xaxis, f"{table.time}, UTC")
    set_title(axes, *headings)
    ends = [LineEnd(*line.last, line.name, line.style.color) for line in drawn if line.style]
    name_lines(figure, axes, ends)
    return figure


def _draw_line(axes: Axes, line: _Line) -> None:
    """Draw a line, and a point for each value between two missing ones."""
    colour, width = line.style or (INK, 0.5)
    alpha = 1.0 if line.style else 0.4
    axes.plot(line.numbers, line.values, color=colour, alpha=alpha, linewidth=width)
    known = np.pad(np.isfinite(line.values), 1)
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    points = line.numbers[alone], line.values[alone]
    axes.plot(*points, ".", color=colour, alpha=alpha, markersize=2 * width)


def _title(table: _Lines, base: datetime | None, ends: int) -> list[str]:
    """Return the lines of the title: the names, or their number, the times, and the base."""
    count = len(table.names)
    what = ", ".join(table.names) if count <= _FEW else f"{count:,} symbols"
    if ends:
        what += f", of which the {ends} highest and the {ends} lowest at their end are named"
    times = f"{format_time(table.times[0])} to {format_time(table.times[-1])} UTC"
    return [what, times if base is None else f"{times}; {format_time(base)} is 100"]
