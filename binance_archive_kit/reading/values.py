"""Find values that cannot be right: the schema's checks, made on whole batches of rows.

Where the extremes of a batch satisfy every check, a few passes over its columns are all.
Rows are marked one by one only where something is odd.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
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

Values = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

#: A value stands still when it is the same for this long, and in this many rows.
_STILL, _STILL_ROWS = 2 * HOUR, 20
#: Rows of a feed without a step in which a value stands still.
_STILL_EVENTS = 1_000
#: A neighbour moves when it changes in half of the rows, and has this many different values (or
#: half as many as rows, where that is less).
_MOVES = 20
#: Candles without volume are reported from this long on, and from this many candles on.
_QUIET, _QUIET_ROWS = 6 * HOUR, 6
#: A bool that is the same in this many consecutive rows is constant.
CONSTANT_ROWS = 100_000
#: Reasons that a flaw names before it only counts them.
_SHOWN = 4


class FlawKind(StrEnum):
    """What is wrong with the values of some rows."""

    CONFLICT = "conflict"
    NULL_VALUE = "null_value"
    IMPOSSIBLE_VALUE = "impossible_value"
    FROZEN = "frozen"
    NO_VOLUME = "no_volume"


class Reason(NamedTuple):
    """Why rows are flawed: ``high is below low``, and how many rows it concerns."""

    what: str
    rows: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """Rows of one file whose values cannot be right.

    Attributes
    ----------
    kind : FlawKind
    rows : int
        Different ones.
    first, last : int
        Times of the first and the last one, microseconds since 1970 UTC.
    reasons : tuple of Reason
    """

    kind: FlawKind
    rows: int
    first: int
    last: int
    reasons: tuple[Reason, ...]

    def and_then(self, more: Flaw) -> Flaw:
        """Return both as one, for two pieces of a file."""
        counts: dict[str, int] = {}
        for reason in (*self.reasons, *more.reasons):
            counts[reason.what] = counts.get(reason.what, 0) + reason.rows
        return Flaw(
            self.kind,
            self.rows + more.rows,
            min(self.first, more.first),
            max(self.last, more.last),
            tuple(Reason(*each) for each in counts.items()),
        )

    def __str__(self) -> str:
        """Return what is wrong, in how many rows, and since when."""
        said = [
            f"{reason.what} in {reason.rows:,} row{'s' if reason.rows != 1 else ''}"
            for reason in self.reasons[:_SHOWN]
        ]
        if len(self.reasons) > _SHOWN:
            said.append(f"and {len(self.reasons) - _SHOWN:,} more")
        return f"{', '.join(said)}, first at {format_time(self.first)}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How long a bool has the same value, at both ends of some rows and at its longest.

    Attributes
    ----------
    column : str
    rows : int
    head, tail : tuple of (bool, int)
        The first and the last value, and how many rows in a row have it.
    longest : tuple of (bool, int, int, int)
        Value, rows, and times of the first and the last of them.
    start, end : tuple of (int, int)
        Time of the first row, and of the last of `head`; of the first of `tail`, and the last.
    """

    column: str
    rows: int
    head: tuple[bool, int]
    tail: tuple[bool, int]
    longest: tuple[bool, int, int, int]
    start: tuple[int, int]
    end: tuple[int, int]

    def and_then(self, more: Standing) -> Standing:
        """Return the same for these rows and the ones after them."""
        one, other = self.head[1] == self.rows, more.head[1] == more.rows
        meets = self.tail[0] == more.head[0]
        across = self.tail[0], self.tail[1] + more.head[1], self.end[0], more.start[1]
        longest = max((self.longest, more.longest), key=lambda each: each[1])
        if meets and across[1] > longest[1]:
            longest = across
        return Standing(
            self.column,
            self.rows + more.rows,
            across[:2] if meets and one else self.head,
            across[:2] if meets and other else more.tail,
            longest,
            (self.start[0], across[3] if meets and one else self.start[1]),
            (across[2] if meets and other else more.end[0], more.end[1]),
        )


class Batch(NamedTuple):
    """Rows of one or more files that were read together."""

    frame: pl.DataFrame
    file: Times  #: for each row the number of its file, ascending
    times: Times  #: microseconds since 1970 UTC
    files: int


class ValueChecks:
    """Checks the values of one feed's rows.

    Parameters
    ----------
    feed : FeedTable
    """

    def __init__(self, feed: FeedTable) -> None:
        own = [column for column in feed.own_columns() if column.column in feed.columns]
        self._checked = [each for each in own if _is_checked(each)]
        moving = [each for each in own if not each.checks.may_be_constant]
        self._moving = [each.column for each in moving if each.dtype == "float64"]
        self._bools = [each.column for each in moving if each.dtype == "bool"]
        kinds = {each.column: each.dtype for each in own}
        self._bands = [name for name in feed.schema.key if kinds.get(name) == "float64"]
        self._volume = "volume" if feed.data_type is DataType.KLINES else ""

    def flaws(self, batch: Batch, cadence: Cadence) -> dict[int, tuple[Flaw, ...]]:
        """Return the flaws of each file that has any, by its number."""
        found: dict[int, dict[FlawKind, Flaw]] = {}
        if not len(batch.times):
            return {}
        for file, flaw in (
            *self._out_of_bounds(batch),
            *self._frozen(batch, cadence),
            *self._quiet(batch, cadence),
        ):
            its = found.setdefault(file, {})
            its[flaw.kind] = its[flaw.kind].and_then(flaw) if flaw.kind in its else flaw
        return {file: tuple(its.values()) for file, its in found.items()}

    # Single values

    def _out_of_bounds(self, batch: Batch) -> Iterator[tuple[int, Flaw]]:
        if all(_is_clean(column, batch.frame) for column in self._checked):
            return
        nulls = list(self._nulls(batch.frame))
        yield from _flaws_of(batch, FlawKind.NULL_VALUE, nulls)
        yield from _flaws_of(batch, FlawKind.IMPOSSIBLE_VALUE, _first_only(self._odd(batch.frame)))

    def _nulls(self, frame: pl.DataFrame) -> Iterator[tuple[str, Marks]]:
        for column in self._checked:
            name = column.column
            if not column.checks.may_be_null and frame[name].null_count():
                yield f"{name} is empty", frame[name].is_null().to_numpy()

    def _odd(self, frame: pl.DataFrame) -> Iterator[tuple[str, Marks]]:
        """Mark values that cannot be, those of a column by itself first."""
        for column in self._checked:
            name, checks = column.column, column.checks
            if column.dtype in ("bool", "text"):
                continue
            values = _as_floats(frame, name)
            if checks.finite:
                filled = frame[name].is_not_null().to_numpy()
                yield f"{name} is not a number", np.isnan(values) & filled
                yield f"{name} is infinite", np.isinf(values)
            if checks.positive:
                yield f"{name} is not above 0", values <= 0
            low, high = checks.within or (None, None)
            if isinstance(low, float | int):
                yield f"{name} is below {low:g}", values < low
            if isinstance(high, float | int):
                yield f"{name} is above {high:g}", values > high
        # High below low first: then open and close are outside of them, too.
        for column in sorted(self._checked, key=lambda each: len(each.checks.bounding_columns)):
            name = column.column
            low, high = column.checks.within or (None, None)
            if isinstance(low, str):
                yield f"{name} is below {low}", _as_floats(frame, name) < _as_floats(frame, low)
            if isinstance(high, str):
                yield f"{name} is above {high}", _as_floats(frame, name) > _as_floats(frame, high)

    # Values of many rows

    def _frozen(self, batch: Batch, cadence: Cadence) -> Iterator[tuple[int, Flaw]]:
        """Find values that stand still for hours while their neighbours move."""
        if len(self._moving) * (len(self._bands) + 1) < 2 or cadence.step == MONTH:
            return
        rows = max(_STILL_ROWS, _STILL // cadence.step) if cadence.step else _STILL_EVENTS
        frame, file, times, _ = batch
        band = _as_floats(frame, self._bands[0]) if self._bands else np.zeros(len(times))
        if self._bands:
            order = np.lexsort((band, file))
            file, times, band = file[order], times[order], band[order]
            columns = {name: _as_floats(frame, name)[order] for name in self._moving}
        else:
            columns = {name: _as_floats(frame, name) for name in self._moving}
        stride = max(rows // 2, 1)
        found: dict[int, list[tuple[str, int, int]]] = {}
        for name, values in columns.items():
            # A run of so many rows holds two neighbours of this sample.
            sample = values[::stride]
            if not (sample[1:] == sample[:-1]).any():
                continue
            for start, end in _equal_runs(values, rows, file, band):
                apart = int(times[end - 1] - times[start])
                if apart < _STILL or values[start] == 0:
                    continue
                if self._neighbours_move(columns, name, file, times, band, start, end):
                    what = f"{name} of band {band[start]:g}" if self._bands else name
                    said = f"{what} stands still while others move"
                    found.setdefault(int(file[start]), []).append((said, start, end))
        for at, runs in found.items():
            # Several columns of a row may stand still.
            rows_of = np.unique(np.concatenate([np.arange(start, end) for _, start, end in runs]))
            counts: dict[str, int] = {}
            for said, start, end in runs:
                counts[said] = counts.get(said, 0) + end - start
            reasons = tuple(Reason(*each) for each in counts.items())
            span = int(times[rows_of].min()), int(times[rows_of].max())
            yield at, Flaw(FlawKind.FROZEN, len(rows_of), *span, reasons)

    def _neighbours_move(
        self,
        columns: dict[str, Values],
        name: str,
        file: Times,
        times: Times,
        band: Values,
        start: int,
        end: int,
    ) -> bool:
        its = slice(start, end)
        neighbours = [values[its] for other, values in columns.items() if other != name]
        if any(map(_moves, neighbours)):
            return True
        if not self._bands:
            return _move_together(neighbours)
        near = (file == file[start]) & (times >= times[start]) & (times <= times[end - 1])
        others = np.unique(band[near & (band != band[start])])
        return any(_moves(columns[name][near & (band == other)]) for other in others)

    def _quiet(self, batch: Batch, cadence: Cadence) -> Iterator[tuple[int, Flaw]]:
        """Find long times in which nothing was traded."""
        if not self._volume or cadence.step <= 0:
            return
        rows = max(_QUIET_ROWS, _QUIET // cadence.step)
        idle = _as_floats(batch.frame, self._volume) == 0
        sample = idle[:: max(rows // 2, 1)]
        if not sample.any():
            return
        for start, end in _equal_runs(idle, rows, batch.file):
            if idle[start]:
                span = int(batch.times[start]), int(batch.times[end - 1])
                reason = Reason("nothing was traded", end - start)
                yield (
                    int(batch.file[start]),
                    Flaw(FlawKind.NO_VOLUME, end - start, *span, (reason,)),
                )

    def standing(self, batch: Batch) -> dict[int, tuple[Standing, ...]]:
        """Return how long the bools of each file with rows stand still, by its number."""
        found: dict[int, tuple[Standing, ...]] = {}
        for name in self._bools:
            values = batch.frame[name].fill_null(False).to_numpy()
            bounds = np.searchsorted(batch.file, np.arange(batch.files + 1)).tolist()
            turns = np.flatnonzero(values[1:] != values[:-1]) + 1
            for file, (start, end) in enumerate(pairwise(bounds)):
                if start < end:
                    its = turns[slice(*np.searchsorted(turns, [start + 1, end]))]
                    cuts = np.concatenate([[start], its, [end]])
                    each = _standing(name, values, batch.times, cuts)
                    found[file] = (*found.get(file, ()), each)
        return found


def _standing(name: str, values: Marks, times: Times, cuts: Times) -> Standing:
    lengths = np.diff(cuts)
    at = int(np.argmax(lengths))
    start, end = int(cuts[0]), int(cuts[-1])
    first, until = int(cuts[at]), int(cuts[at + 1])
    return Standing(
        name,
        end - start,
        (bool(values[start]), int(lengths[0])),
        (bool(values[end - 1]), int(lengths[-1])),
        (bool(values[first]), until - first, int(times[first]), int(times[until - 1])),
        (int(times[start]), int(times[int(cuts[1]) - 1])),
        (int(times[int(cuts[-2])]), int(times[end - 1])),
    )


def joined_flaws(one: Iterable[Flaw], other: Iterable[Flaw]) -> tuple[Flaw, ...]:
    """Return the flaws of two pieces of a file, one of each kind."""
    found: dict[FlawKind, Flaw] = {}
    for flaw in (*one, *other):
        found[flaw.kind] = found[flaw.kind].and_then(flaw) if flaw.kind in found else flaw
    return tuple(found.values())


def joined_standing(one: Sequence[Standing], other: Sequence[Standing]) -> tuple[Standing, ...]:
    """Return how long bools stand still in two pieces, the second following the first."""
    if not one or not other:
        return tuple(one or other)
    return tuple(each.and_then(more) for each, more in zip(one, other, strict=True))


def spelled(flaws: Sequence[Flaw], standing: Sequence[Standing]) -> str:
    """Format flaws as JSON; empty where there are none."""
    if not flaws and not standing:
        return ""
    return json.dumps([[astuple(each) for each in those] for those in (flaws, standing)])


def read_flaws(text: str) -> tuple[tuple[Flaw, ...], tuple[Standing, ...]]:
    """Parse what `spelled` has formatted."""
    if not text:
        return (), ()
    flaws, standing = json.loads(text)
    return (
        tuple(
            Flaw(FlawKind(kind), rows, first, last, tuple(Reason(*each) for each in reasons))
            for kind, rows, first, last, reasons in flaws
        ),
        tuple(
            Standing(column, rows, *(tuple(each) for each in spans))
            for column, rows, *spans in standing
        ),
    )


def _is_checked(column: Column) -> bool:
    checks = column.checks
    return checks.finite or checks.positive or checks.within is not None or not checks.may_be_null


def _is_clean(column: Column, frame: pl.DataFrame) -> bool:
    """Return whether a column satisfies its checks, from its extremes."""
    checks, series = column.checks, frame[column.column]
    if series.null_count():
        if not checks.may_be_null:
            return False
        if series.null_count() == len(series):
            return True
    if column.dtype in ("bool", "text"):
        return True
    low, high = checks.within or (None, None)
    values = _plain(series)
    least, most = values.min(), values.max()
    # Neither is a number if any value is not.
    if checks.finite and not (np.isfinite(least) and np.isfinite(most)):
        return False
    if checks.positive and not least > 0:
        return False
    if isinstance(low, float | int) and not least >= low:
        return False
    if isinstance(high, float | int) and not most <= high:
        return False
    if isinstance(low, str) and not _at_most(frame[low], series):
        return False
    return not isinstance(high, str) or _at_most(series, frame[high])


def _at_most(one: pl.Series, other: pl.Series) -> bool:
    """Return whether no value of a column is above the value of another column in its row."""
    if one.null_count() or other.null_count():
        return not bool((one > other).any())
    return not bool((_as_numbers(one) > _as_numbers(other)).any())


def _plain(series: pl.Series) -> npt.NDArray[np.float64]:
    return _as_numbers(series.drop_nulls() if series.null_count() else series)


def _as_numbers(series: pl.Series) -> npt.NDArray[np.float64]:
    """Return values as they are, without a copy where that is possible; times as numbers."""
    values = series.to_numpy()
    return values.view(np.int64) if series.dtype == MOMENT else values


def _as_floats(frame: pl.DataFrame, name: str) -> Values:
    """Return values as floats, empty ones as NaN."""
    series = frame[name]
    if series.dtype == pl.Float64 and not series.null_count():
        return series.to_numpy()
    series = series.to_physical() if series.dtype == MOMENT else series
    return series.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _first_only(marked: Iterable[tuple[str, Marks]]) -> Iterator[tuple[str, Marks]]:
    """Keep only the first reason of each row."""
    before: Marks | None = None
    for what, marks in marked:
        if not marks.any():
            continue
        yield what, marks if before is None else marks & ~before
        before = marks if before is None else before | marks


def _flaws_of(
    batch: Batch, kind: FlawKind, marked: Iterable[tuple[str, Marks]]
) -> Iterator[tuple[int, Flaw]]:
    """Gather what is marked, file by file."""
    reasons = [(what, marks) for what, marks in marked if marks.any()]
    if not reasons:
        return
    every = np.logical_or.reduce([marks for _, marks in reasons])
    for file in np.unique(batch.file[every]).tolist():
        its = slice(*np.searchsorted(batch.file, [file, file + 1]))
        counts = [(what, int(np.count_nonzero(marks[its]))) for what, marks in reasons]
        times = batch.times[its][every[its]]
        own = tuple(Reason(what, count) for what, count in counts if count)
        yield file, Flaw(kind, len(times), int(times.min()), int(times.max()), own)


def _equal_runs(
    values: npt.NDArray[np.generic], rows: int, *groups: npt.NDArray[np.generic]
) -> list[tuple[int, int]]:
    """Return the runs of at least `rows` equal values within a group: start, end (exclusive)."""
    turns = values[1:] != values[:-1]
    for group in groups:
        turns = turns | (group[1:] != group[:-1])
    cuts = np.concatenate([[0], np.flatnonzero(turns) + 1, [len(values)]])
    long = np.flatnonzero(np.diff(cuts) >= rows)
    return [(int(cuts[at]), int(cuts[at + 1])) for at in long]


def _move_together(columns: Sequence[Values]) -> bool:
    """Tell whether values keep changing, of which each takes few by itself.

    High and low of a pair that stays within some ticks make few pairs.
    """
    rows = np.column_stack(columns)
    turns = int(np.count_nonzero((rows[1:] != rows[:-1]).any(axis=1)))
    return 2 * turns >= len(rows) and len(np.unique(rows, axis=0)) >= _MOVES


def _moves(values: Values) -> bool:
    """Return whether values keep changing."""
    turns = int(np.count_nonzero(values[1:] != values[:-1]))
    return 2 * turns >= len(values) and len(np.unique(values)) >= min(_MOVES, len(values) // 2)
