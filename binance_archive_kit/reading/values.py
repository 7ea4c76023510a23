"""Find invalid values with the checks of the schema, on whole batches of rows.

If the extremes of a batch satisfy every check, a few passes over its columns are all that is
needed. Rows are marked one by one only if something is odd.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.archive.enums import DataType
from binance_archive_kit.archive.schemas import Column
from binance_archive_kit.reading.cadence import MONTH, Cadence, Times
from binance_archive_kit.reading.feed_table import MOMENT, FeedTable
from binance_archive_kit.timestamps import HOUR, format_time

#: Reasons that the text of a flaw names; it counts the others.
_SHOWN = 4
Values = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

#: A value is frozen if it is the same for this long, and in this many rows.
_STILL, _STILL_ROWS = 2 * HOUR, 20
#: The number of rows, in a feed without a step.
_STILL_EVENTS = 1_000
#: A neighbour moves if it changes in half of the rows and has this many different values, or
#: half as many as there are rows, if that is less.
_MOVES = 20
#: Candles without volume are reported if they last this long, and are this many.
_QUIET, _QUIET_ROWS = 6 * HOUR, 6
#: A bool that is the same in this many consecutive rows is constant.
CONSTANT_ROWS = 100_000


class FlawKind(StrEnum):
    """What is wrong with the values of some rows."""

    CONFLICT = "conflict"
    NULL_VALUE = "null_value"
    IMPOSSIBLE_VALUE = "impossible_value"
    FROZEN = "frozen"
    NO_VOLUME = "no_volume"


class Reason(NamedTuple):
    """Why rows are flawed, such as ``high is below low``, and how many rows are."""

    text: str
    rows: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """Rows of one file with invalid values.

    Attributes
    ----------
    kind : FlawKind
    rows : int
        Number of different rows.
    first, last : int
        Times of the first and the last row, microseconds since 1970 UTC.
    reasons : tuple of Reason
    """

    kind: FlawKind
    rows: int
    first: int
    last: int
    reasons: tuple[Reason, ...]

    def __add__(self, more: Flaw) -> Flaw:
        """Return the flaw of two chunks of a file, or of two groups of its rows."""
        counts: Counter[str] = Counter()
        for reason in (*self.reasons, *more.reasons):
            counts[reason.text] += reason.rows
        return Flaw(
            self.kind,
            self.rows + more.rows,
            min(self.first, more.first),
            max(self.last, more.last),
            tuple(Reason(*item) for item in counts.items()),
        )

    def __str__(self) -> str:
        """Return what is wrong, in how many rows, and since when."""
        parts = [
            f"{text} in {rows:,} row{'s' if rows != 1 else ''}"
            for text, rows in self.reasons[:_SHOWN]
        ]
        if len(self.reasons) > _SHOWN:
            parts.append(f"and {len(self.reasons) - _SHOWN:,} more")
        return f"{', '.join(parts)}, first at {format_time(self.first)}"


class Streak(NamedTuple):
    """Consecutive rows in which a bool has one value; times are microseconds since 1970 UTC."""

    value: bool
    rows: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Standing:
    """The streaks of a bool column.

    Attributes
    ----------
    column : str
    rows : int
    head, tail, longest : Streak
        The first, the last and the longest one.
    """

    column: str
    rows: int
    head: Streak
    tail: Streak
    longest: Streak

    def __add__(self, more: Standing) -> Standing:
        """Join with the streaks of the rows that follow."""
        head, tail, streaks = self.head, more.tail, [self.longest, more.longest]
        if self.tail.value == more.head.value:
            rows = self.tail.rows + more.head.rows
            across = Streak(self.tail.value, rows, self.tail.first, more.head.last)
            streaks.append(across)
            head = across if head.rows == self.rows else head
            tail = across if tail.rows == more.rows else tail
        longest = max(streaks, key=lambda streak: streak.rows)
        return Standing(self.column, self.rows + more.rows, head, tail, longest)


def merge_flaws(flaws: Iterable[Flaw]) -> tuple[Flaw, ...]:
    """Return one flaw of each kind."""
    merged: dict[FlawKind, Flaw] = {}
    for flaw in flaws:
        merged[flaw.kind] = merged[flaw.kind] + flaw if flaw.kind in merged else flaw
    return tuple(merged.values())


def join_standing(one: Sequence[Standing], other: Sequence[Standing]) -> tuple[Standing, ...]:
    """Join the streaks of bools in two parts, the second following the first."""
    if not one or not other:
        return tuple(one or other)
    return tuple(column + more for column, more in zip(one, other, strict=True))


def format_flaws(flaws: Sequence[Flaw], standing: Sequence[Standing]) -> str:
    """Format flaws as JSON; as an empty text if there are none."""
    if not flaws and not standing:
        return ""
    return json.dumps([[astuple(item) for item in items] for items in (flaws, standing)])


def parse_flaws(text: str) -> tuple[tuple[Flaw, ...], tuple[Standing, ...]]:
    """Parse what `format_flaws` returned.

    Raises
    ------
    ValueError, TypeError
        If the text is damaged, or from another version.
    """
    if not text:
        return (), ()
    flaws, standing = json.loads(text)
    return (
        tuple(
            Flaw(FlawKind(kind), rows, first, last, tuple(Reason(*each) for each in reasons))
            for kind, rows, first, last, reasons in flaws
        ),
        tuple(
            Standing(column, rows, *(Streak(*streak) for streak in streaks))
            for column, rows, *streaks in standing
        ),
    )


class Batch(NamedTuple):
    """Rows of one or more files that were read together."""

    frame: pl.DataFrame
    file: Times  #: for each row the number of its file, ascending
    times: Times  #: microseconds since 1970 UTC
    files: int


@dataclass(frozen=True, slots=True)
class _Series:
    """Columns that should move, with the rows of each file, or of each band of it, together."""

    columns: dict[str, Values]
    file: Times
    times: Times
    band: Values | None


class ValueChecks:
    """Checks the values of one feed's rows.

    Parameters
    ----------
    feed : FeedTable
    """

    def __init__(self, feed: FeedTable) -> None:
        columns = [column for column in feed.own_columns() if column.column in feed.columns]
        numbers = [column for column in columns if column.dtype not in ("bool", "text")]
        self._filled = [column.column for column in columns if not column.checks.may_be_null]
        limits = {column.column: list(_limits(column)) for column in numbers}
        self._limits = {name: limits for name, limits in limits.items() if limits}
        # High below low first: then open and close are outside of them, too.
        bounded = sorted(columns, key=lambda column: len(column.checks.bounding_columns))
        self._pairs = [pair for column in bounded for pair in _pairs(column)]
        moving = [column for column in columns if not column.checks.may_be_constant]
        self._moving = [column.column for column in moving if column.dtype == "float64"]
        self._bools = [column.column for column in moving if column.dtype == "bool"]
        floats = {column.column for column in columns if column.dtype == "float64"}
        self._band = next((name for name in feed.schema.key if name in floats), None)
        self._volume = "volume" if feed.data_type is DataType.KLINES else ""

    def flaws(self, batch: Batch, cadence: Cadence) -> dict[int, tuple[Flaw, ...]]:
        """Return the flaws of each file that has any, by its number."""
        if not len(batch.times):
            return {}
        found: dict[int, list[Flaw]] = {}
        for file, flaw in (
            *self._out_of_bounds(batch),
            *self._frozen(batch, cadence),
            *self._without_volume(batch, cadence),
        ):
            found.setdefault(file, []).append(flaw)
        return {file: merge_flaws(flaws) for file, flaws in found.items()}

    # Single values

    def _out_of_bounds(self, batch: Batch) -> Iterator[tuple[int, Flaw]]:
        frame = batch.frame
        empty = [name for name in self._filled if frame[name].null_count()]
        if empty:
            nulls = [(f"{name} is empty", frame[name].is_null().to_numpy()) for name in empty]
            yield from _flaws_of(batch, FlawKind.NULL_VALUE, nulls)
        if not all(
            _are_within(frame[name], limits) for name, limits in self._limits.items()
        ) or any(_exceeds(frame[low], frame[high]) for _, low, high in self._pairs):
            impossible = _first_only(self._impossible(frame))
            yield from _flaws_of(batch, FlawKind.IMPOSSIBLE_VALUE, impossible)

    def _impossible(self, frame: pl.DataFrame) -> Iterator[tuple[str, Marks]]:
        """Mark impossible values, those of single columns first."""
        for name, limits in self._limits.items():
            values = _as_floats(frame, name)
            filled = frame[name].is_not_null().to_numpy()
            for text, breaks in limits:
                yield text, breaks(values) & filled
        for text, low, high in self._pairs:
            yield text, _as_floats(frame, low) > _as_floats(frame, high)

    # Values of many rows

    def _frozen(self, batch: Batch, cadence: Cadence) -> Iterator[tuple[int, Flaw]]:
        """Find values that stay the same for hours while their neighbours move."""
        if len(self._moving) < (2 if self._band is None else 1) or cadence.step == MONTH:
            return
        rows = max(_STILL_ROWS, _STILL // cadence.step) if cadence.step else _STILL_EVENTS
        series = self._series(batch)
        groups = (series.file,) if series.band is None else (series.file, series.band)
        found: dict[int, list[tuple[str, int, int]]] = {}
        for name, values in series.columns.items():
            # A run of that many rows has two neighbours in this sample.
            sample = values[:: max(rows // 2, 1)]
            if not (sample[1:] == sample[:-1]).any():
                continue
            for start, end in _equal_runs(values, rows, *groups):
                if series.times[end - 1] - series.times[start] < _STILL or values[start] == 0:
                    continue
                if _neighbours_move(series, name, start, end):
                    of = "" if series.band is None else f" of band {series.band[start]:g}"
                    text = f"{name}{of} stands still while others move"
                    found.setdefault(int(series.file[start]), []).append((text, start, end))
        for file, runs in found.items():
            counts: Counter[str] = Counter()
            for text, start, end in runs:
                counts[text] += end - start
            # Several columns of a row may be frozen.
            flawed = np.unique(np.concatenate([np.arange(start, end) for _, start, end in runs]))
            yield file, _flaw(FlawKind.FROZEN, series.times[flawed], counts)

    def _series(self, batch: Batch) -> _Series:
        columns = {name: _as_floats(batch.frame, name) for name in self._moving}
        if self._band is None:
            return _Series(columns, batch.file, batch.times, None)
        band = _as_floats(batch.frame, self._band)
        order = np.lexsort((band, batch.file))
        columns = {name: values[order] for name, values in columns.items()}
        return _Series(columns, batch.file[order], batch.times[order], band[order])

    def _without_volume(self, batch: Batch, cadence: Cadence) -> Iterator[tuple[int, Flaw]]:
        """Find long periods without trades."""
        if not self._volume or cadence.step <= 0:
            return
        rows = max(_QUIET_ROWS, _QUIET // cadence.step)
        idle = _as_floats(batch.frame, self._volume) == 0
        if not idle[:: max(rows // 2, 1)].any():
            return
        for start, end in _equal_runs(idle, rows, batch.file):
            if idle[start]:
                flaw = _flaw(
                    FlawKind.NO_VOLUME, batch.times[start:end], {"nothing was traded": end - start}
                )
                yield int(batch.file[start]), flaw

    def standing(self, batch: Batch) -> dict[int, tuple[Standing, ...]]:
        """Return the streaks of the bools of each file with rows, by its number."""
        found: dict[int, tuple[Standing, ...]] = {}
        bounds = np.searchsorted(batch.file, np.arange(batch.files + 1)).tolist()
        for name in self._bools:
            values = batch.frame[name].fill_null(False).to_numpy()
            turns = np.flatnonzero(values[1:] != values[:-1]) + 1
            for file, (start, end) in enumerate(pairwise(bounds)):
                if start < end:
                    file_turns = turns[slice(*np.searchsorted(turns, [start + 1, end]))]
                    cuts = np.concatenate([[start], file_turns, [end]])
                    standing = _standing(name, values, batch.times, cuts)
                    found[file] = (*found.get(file, ()), standing)
        return found


def _standing(name: str, values: Marks, times: Times, cuts: Times) -> Standing:
    def streak(number: int) -> Streak:
        start, end = int(cuts[number]), int(cuts[number + 1])
        return Streak(bool(values[start]), end - start, int(times[start]), int(times[end - 1]))

    count = len(cuts) - 1
    longest = int(np.argmax(np.diff(cuts)))
    return Standing(name, int(cuts[-1] - cuts[0]), streak(0), streak(count - 1), streak(longest))


def _limits(column: Column) -> Iterator[tuple[str, Callable[[Values], Marks]]]:
    """Yield the limits of a column: the text about a breach, and a function that marks breaches.

    If the lowest and the highest value of a batch break no limit, no value in between may.
    """
    name, checks = column.column, column.checks
    low, high = checks.within or (None, None)
    if checks.finite:
        yield f"{name} is not a number", np.isnan
        yield f"{name} is infinite", np.isinf
    if checks.positive:
        yield f"{name} is not above 0", lambda values: values <= 0
    if isinstance(low, float | int):
        yield f"{name} is below {low:g}", lambda values: values < low
    if isinstance(high, float | int):
        yield f"{name} is above {high:g}", lambda values: values > high


def _pairs(column: Column) -> Iterator[tuple[str, str, str]]:
    """Yield the columns that bound a column: text about a breach, lower and higher column."""
    low, high = column.checks.within or (None, None)
    if isinstance(low, str):
        yield f"{column.column} is below {low}", low, column.column
    if isinstance(high, str):
        yield f"{column.column} is above {high}", column.column, high


def _are_within(series: pl.Series, limits: Iterable[tuple[str, Callable[[Values], Marks]]]) -> bool:
    """Return whether all values satisfy limits, from the lowest and the highest one."""
    values = _as_numbers(series.drop_nulls() if series.null_count() else series)
    if not len(values):
        return True
    extremes = np.array([values.min(), values.max()], np.float64)
    # Neither is a number if any value is not.
    return not np.isnan(extremes).any() and not any(breaks(extremes).any() for _, breaks in limits)


def _exceeds(one: pl.Series, other: pl.Series) -> bool:
    """Return whether a value of a column is above the value of another column in its row."""
    if one.null_count() or other.null_count():
        return bool((one > other).any())
    return bool((_as_numbers(one) > _as_numbers(other)).any())


def _as_numbers(series: pl.Series) -> npt.NDArray[np.float64]:
    """Return values as they are, without a copy where that is possible; times as numbers."""
    values = series.to_numpy()
    return values.view(np.int64) if series.dtype == MOMENT else values


def _as_floats(frame: pl.DataFrame, name: str) -> Values:
    """Return values as floats, null as NaN."""
    series = frame[name]
    if series.dtype == pl.Float64 and not series.null_count():
        return series.to_numpy()
    series = series.to_physical() if series.dtype == MOMENT else series
    return series.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _first_only(marked: Iterable[tuple[str, Marks]]) -> Iterator[tuple[str, Marks]]:
    """Keep only the first reason of each row."""
    before: Marks | None = None
    for text, marks in marked:
        yield text, marks if before is None else marks & ~before
        before = marks if before is None else before | marks


def _flaws_of(
    batch: Batch, kind: FlawKind, marked: Iterable[tuple[str, Marks]]
) -> Iterator[tuple[int, Flaw]]:
    """Yield a flaw for each file with marked rows."""
    reasons = [(text, marks) for text, marks in marked if marks.any()]
    if not reasons:
        return
    flawed = np.logical_or.reduce([marks for _, marks in reasons])
    for file in np.unique(batch.file[flawed]).tolist():
        rows = slice(*np.searchsorted(batch.file, [file, file + 1]))
        counts = {text: int(np.count_nonzero(marks[rows])) for text, marks in reasons}
        yield file, _flaw(kind, batch.times[rows][flawed[rows]], counts)


def _flaw(kind: FlawKind, times: Times, counts: Mapping[str, int]) -> Flaw:
    reasons = tuple(Reason(text, rows) for text, rows in counts.items() if rows)
    return Flaw(kind, len(times), int(times.min()), int(times.max()), reasons)


def _equal_runs(
    values: npt.NDArray[np.generic], rows: int, *groups: npt.NDArray[np.generic]
) -> list[tuple[int, int]]:
    """Return the runs of at least `rows` equal values within a group: start, end (exclusive)."""
    turns = values[1:] != values[:-1]
    for group in groups:
        turns = turns | (group[1:] != group[:-1])
    cuts = np.concatenate([[0], np.flatnonzero(turns) + 1, [len(values)]])
    return [
        (int(cuts[number]), int(cuts[number + 1]))
        for number in np.flatnonzero(np.diff(cuts) >= rows)
    ]


def _neighbours_move(series: _Series, name: str, start: int, end: int) -> bool:
    """Return whether other columns change in some rows, or the same column of other bands."""
    neighbours = [values[start:end] for other, values in series.columns.items() if other != name]
    if any(map(_moves, neighbours)):
        return True
    if series.band is None:
        return _move_together(neighbours)
    times, band = series.times, series.band
    near = (times >= times[start]) & (times <= times[end - 1]) & (series.file == series.file[start])
    others = np.unique(band[near & (band != band[start])])
    return any(_moves(series.columns[name][near & (band == other)]) for other in others)


def _moves(values: Values) -> bool:
    """Return whether values keep changing."""
    turns = int(np.count_nonzero(values[1:] != values[:-1]))
    return 2 * turns >= len(values) and len(np.unique(values)) >= min(_MOVES, len(values) // 2)


def _move_together(columns: list[Values]) -> bool:
    """Return whether rows keep changing, though each column has few values.

    High and low of a pair that stays within some ticks have few values each, and many together.
    """
    rows = np.column_stack(columns)
    turns = int(np.count_nonzero((rows[1:] != rows[:-1]).any(axis=1)))
    return 2 * turns >= len(rows) and len(np.unique(rows, axis=0)) >= _MOVES
