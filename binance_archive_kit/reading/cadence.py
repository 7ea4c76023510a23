"""The expected cadence of each feed, and the runs of rows that follow it: missing rows lie between.

``regular``
    A row for each step of a fixed length: candles, metrics, hourly summaries, funding
    (whose own rows say how many hours a step has).
``approximate``
    Rows at about a fixed distance: snapshots of the book, values of the volatility index.
``sequence``
    Rows with consecutive numbers: aggregated trades, spot trades.
``irregular``
    Rows when something happens: a missing row cannot be detected.

A run never crosses midnight UTC, so the runs of some days of a file are known without the
other days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.timestamps import DAY, HOUR, MINUTE, SECOND, parse_length, to_day_number

Times = npt.NDArray[np.int64]

#: The step of candles that last a calendar month.
MONTH = -1
#: Weeks begin on Mondays; the first one after 1970 on the fifth of January.
_MONDAY = 4 * DAY
#: Tolerance when times are snapped to the grid.
_JITTER = MINUTE

#: USD-M metrics label a period by its end before this day, by its start from then on.
METRICS_LABEL_CHANGE = date(2026, 6, 25)

Kind = Literal["regular", "approximate", "sequence", "irregular"]
#: One row for each run, with the columns of `Run`.
Runs = npt.NDArray[np.int64]
#: A flag for each row, or for each pair of neighbours.
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cadence:
    """How the rows of one feed and interval follow each other.

    Attributes
    ----------
    kind : {"regular", "approximate", "sequence", "irregular"}
    step : int
        Microseconds from one row to the next; `MONTH` for calendar months; 0 where there
        is no step.
    phase : int or None
        A time on the grid, microseconds since 1970 UTC; None if only the rows show it.
    id_column : str
        Column that numbers the rows, for ``sequence``.
    hours_column : str
        Column with the hours of each step, if the rows give them.
    """

    kind: Kind
    step: int = 0
    phase: int | None = 0
    id_column: str = ""
    hours_column: str = ""

    @property
    def is_long(self) -> bool:
        """Whether a step is longer than a day."""
        return self.step == MONTH or self.step > DAY

    def is_on_grid(self, times: Times) -> npt.NDArray[np.bool_]:
        """Return which times are on the grid."""
        on: npt.NDArray[np.bool_] = times == self.floor_to_grid(times)
        return on

    def floor_to_grid(self, times: Times) -> Times:
        """Round times down to the grid; without a grid, return them as they are."""
        if self.kind != "regular" or self.phase is None:
            return times
        if self.step == MONTH:
            return month_start(times)
        # The remainder operator takes twice as long.
        return (times - self.phase) // self.step * self.step + self.phase

    def next_due(self, times: Times, steps: Times) -> Times:
        """Return when the row after each row is due; `steps` are those of the rows."""
        if self.step != MONTH:
            return times + steps
        return _month_at(_month_index(times) + 1)

    def ceil_to_grid(self, time: int, phase: int) -> int:
        """Round a time up to the grid."""
        if self.step == MONTH:
            return int(_month_at(_month_index(np.array([time - 1])) + 1)[0])
        return time + (phase - time) % self.step

    def count_due(self, start: int, end: int, step: int) -> int:
        """Count the rows due in [start, end); `start` is on the grid.

        For an approximate cadence this is the nearest number.
        """
        if end <= start:
            return 0
        if self.step == MONTH:
            first, last = _month_index(np.array([start, end - 1]))
            return int(last - first) + 1
        if self.kind == "approximate":
            return round((end - start) / step)
        return -((start - end) // step)


def month_start(times: Times) -> Times:
    """Round times down to the month."""
    return _month_at(_month_index(times))


def _month_index(times: Times) -> Times:
    return times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _month_at(index: Times) -> Times:
    return index.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)


_EVENTS = Cadence("irregular")


def length(interval: Interval) -> int:
    """Return the length of a candle in microseconds; `MONTH` for the month.

    >>> length(Interval.H4) // HOUR, length(Interval.W1) // DAY, length(Interval.MO1) == MONTH
    (4, 7, True)
    """
    micros, _ = parse_length(interval) or (0, 0)
    return micros or MONTH


@cache
def cadence_of(market: Market, data_type: DataType, interval: Interval | None) -> Cadence:
    """Return the cadence of a feed.

    >>> cadence_of(Market.SPOT, DataType.KLINES, Interval.M1).step // SECOND
    60
    >>> cadence_of(Market.FUTURES_UM, DataType.TRADES, None).kind
    'irregular'
    """
    if interval is not None:
        # Where candles of three days begin is not documented; their rows show it.
        phase = {Interval.W1: _MONDAY, Interval.D3: None}.get(interval, 0)
        return Cadence("regular", length(interval), phase)
    match data_type:
        case DataType.METRICS:
            return Cadence("regular", 5 * MINUTE)
        case DataType.EOH_SUMMARY:
            return Cadence("regular", HOUR)
        case DataType.FUNDING_RATE:
            return Cadence("regular", 8 * HOUR, None, hours_column="funding_interval_hours")
        case DataType.BOOK_DEPTH:
            return Cadence("approximate", 30 * SECOND)
        case DataType.BVOL_INDEX:
            return Cadence("approximate", SECOND)
        case DataType.AGG_TRADES:
            return Cadence("sequence", id_column="agg_trade_id")
        # Trades of futures skip numbers.
        case DataType.TRADES if market is Market.SPOT:
            return Cadence("sequence", id_column="id")
        case _:
            return _EVENTS


def snap_to_grid(data_type: DataType, times: Times) -> Times:
    """Round times to the grid, if they are near: funding times are some milliseconds late."""
    if data_type is not DataType.FUNDING_RATE:
        return times
    hours = (times + _JITTER) // HOUR * HOUR
    return np.where(np.abs(times - hours) <= _JITTER, hours, times)


def label_offset(market: Market, data_type: DataType, day: date, times: Times) -> int:
    """Return the offset between the label of a row and the start of its period, in microseconds.

    Metrics of USD-M were once labelled by the end of their five minutes. The labels of a file
    take precedence over its day: a label on the next midnight ends a period, one on its own
    midnight starts one. A file with both, or with neither, is like other files of its day.

    Parameters
    ----------
    day : date
        UTC day of the file.
    times : numpy.ndarray
        All labels of the file.
    """
    if data_type is not DataType.METRICS:
        return 0
    start = to_day_number(day) * DAY
    ends = bool(len(times)) and int(times.max()) >= start + DAY
    starts = bool(len(times)) and int(times.min()) == start
    usual = market is Market.FUTURES_UM and day < METRICS_LABEL_CHANGE
    return 5 * MINUTE if (ends if ends != starts else usual) else 0


class Run(NamedTuple):
    """Columns of `Runs`; times are microseconds since 1970 UTC, both inclusive."""

    first: int
    last: int
    rows: int  #: without duplicates; where rows come by time, the number of different times
    step: int  #: microseconds from the last row to the one after it; 0 where there is no step
    first_id: int
    last_id: int


NO_RUNS: Runs = np.empty((0, len(Run._fields)), np.int64)


@dataclass(frozen=True)
class RowColumns:
    """The columns that show the runs of rows; the rows of each file are consecutive.

    Attributes
    ----------
    file : numpy.ndarray
        Number of each row's file, ascending.
    time : numpy.ndarray
        Microseconds since 1970 UTC.
    step : numpy.ndarray
        Microseconds to the next row; 0 where there is no step.
    id : numpy.ndarray or None
        The number of each row, where rows follow each other by number and not by time.
    """

    file: Times
    time: Times
    step: Times
    id: Times | None

    @property
    def position(self) -> Times:
        """The values by which rows follow each other; clocks may be some milliseconds apart."""
        return self.time if self.id is None else self.id

    @cached_property
    def other_file(self) -> Marks:
        """Whether each row and the one after it are of different files."""
        return changes(self.file)

    @cached_property
    def time_steps(self) -> Times:
        """Microseconds from each row to the one after it."""
        return np.diff(self.time)

    def take(self, selection: Times | Marks) -> RowColumns:
        """Return the rows with some indices, or those of a mask."""
        return RowColumns(
            self.file[selection],
            self.time[selection],
            self.step[selection],
            None if self.id is None else self.id[selection],
        )


def changes(values: Times) -> Marks:
    """Return between which neighbours a value changes."""
    changed: Marks = values[1:] != values[:-1]
    return changed


def falls(values: Times) -> Marks:
    """Return between which neighbours values fall."""
    fallen: Marks = values[1:] < values[:-1]
    return fallen


def is_first(other_file: Marks, values: Times) -> Marks:
    """Return which values, sorted within each file, differ from the one before."""
    first = np.ones(len(values), np.bool_)
    np.logical_or(changes(values), other_file, out=first[1:])
    return first


def is_regular(cadence: Cadence, rows: RowColumns) -> bool:
    """Return whether times rise within each file, and all are on the grid."""
    # A time one step after a time on the grid is on it, too.
    jumps = np.flatnonzero(rows.time_steps != cadence.step)
    rises = (rows.time_steps[jumps] > 0) | rows.other_file[jumps]
    heads = np.concatenate([rows.time[:1], rows.time[jumps + 1]])
    return bool(rises.all() and cadence.is_on_grid(heads).all())


def find_runs(cadence: Cadence, rows: RowColumns) -> tuple[Runs, Times]:
    """Cut sorted rows without duplicates into runs.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        The runs, and the number of each one's file.
    """
    if not len(rows.time):
        return NO_RUNS, rows.file
    match cadence.kind:
        case "irregular":
            breaks = np.zeros(len(rows.time_steps), np.bool_)
        case "sequence":
            breaks = np.diff(rows.position) != 1
        case "approximate":
            breaks = 2 * rows.time_steps >= 3 * cadence.step
        case _ if cadence.hours_column:
            # A row may give the hours since the one before it, or those to the next.
            breaks = (rows.time_steps != rows.step[1:]) & (rows.time_steps != rows.step[:-1])
            # The neighbours of a run are compared with its hours, which are those of each row.
            breaks |= changes(rows.step)
        case _:
            breaks = rows.time_steps != cadence.step
    breaks |= changes(rows.time // DAY) | rows.other_file
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:], [len(rows.time)]]) - 1
    no_ids = np.zeros(len(starts), np.int64)
    first_ids, last_ids = (no_ids, no_ids) if rows.id is None else (rows.id[starts], rows.id[ends])
    columns = rows.time[starts], rows.time[ends], ends - starts + 1, rows.step[ends]
    return np.column_stack([*columns, first_ids, last_ids]), rows.file[starts]


def longest_silences(rows: RowColumns, files: int) -> Times:
    """Return the longest time between two neighbouring rows of each file, in microseconds."""
    longest = np.zeros(files, np.int64)
    within = np.where(rows.other_file, 0, rows.time_steps)
    if len(within):
        starts = np.concatenate([[0], np.flatnonzero(rows.other_file) + 1])
        # The last row of all has none after it.
        starts = starts[starts < len(within)]
        longest[rows.file[starts]] = np.maximum.reduceat(within, starts)
    return longest


# Runs of the chunks of a file


def overlap(cadence: Cadence, runs: Runs, more: Runs) -> bool:
    """Return whether a chunk may have rows that an earlier chunk of its file has."""
    if not len(runs) or not len(more):
        return False
    last, first = runs[:, 1].max(), more[0, 0]
    if cadence.kind in ("irregular", "sequence"):
        # Clocks may differ, and rows of one time are no duplicates.
        return bool(first < last - MINUTE)
    return bool(first <= last)


def merge_runs(cadence: Cadence, runs: Runs, more: Runs) -> tuple[Runs, int]:
    """Merge the runs of two chunks of a file, the second following the first.

    Returns
    -------
    (numpy.ndarray, int)
        The runs, and how many rows are in both chunks. These are counted only where rows
        come by steps or by number.
    """
    both = np.concatenate([runs, more])
    if not len(runs) or not len(more):
        return both, 0
    seam = len(runs)
    column = Run._fields.index("first_id" if cadence.kind == "sequence" else "first")
    before, middle, after = both[: seam - 1], both[seam - 1 : seam + 1], both[seam + 1 :]
    if falls(both[seam - 1 : seam + 1, column]).any():
        order = np.argsort(both[:, column], kind="stable")
        before, middle, after = NO_RUNS, both[order], NO_RUNS
    rows = Run._fields.index("rows")
    joined = _join(cadence, middle)
    shared = int(middle[:, rows].sum() - joined[:, rows].sum())
    counts = cadence.kind in ("regular", "sequence")
    return np.concatenate([before, joined, after]), shared if counts else 0


def _join(cadence: Cadence, runs: Runs) -> Runs:
    """Join runs of one day that follow each other or overlap."""
    joined: list[Run] = []
    for run in (Run(*fields) for fields in runs.tolist()):
        last = joined[-1] if joined else None
        if (
            last is None
            or last.first // DAY != run.first // DAY
            or not _follows(cadence, last, run)
        ):
            joined.append(run)
            continue
        later = max(last, run, key=lambda run: (run.last_id, run.last))
        joined[-1] = Run(
            min(last.first, run.first),
            max(last.last, run.last),
            last.rows + run.rows - _shared_rows(cadence, last, run),
            later.step,
            last.first_id,
            later.last_id,
        )
    return np.array(joined, np.int64).reshape(-1, len(Run._fields))


def _follows(cadence: Cadence, before: Run, after: Run) -> bool:
    """Return whether a run continues one that begins no later."""
    match cadence.kind:
        case "irregular":
            return True
        case "sequence":
            return after.first_id - before.last_id <= 1
        case "approximate":
            return 2 * (after.first - before.last) < 3 * before.step
        case _:
            return after.first - before.last <= before.step


def _shared_rows(cadence: Cadence, before: Run, after: Run) -> int:
    """Count the rows that are in both runs; of approximate cadences only those at the ends."""
    match cadence.kind:
        case "irregular":
            return 0
        case "sequence":
            return max(min(before.last_id, after.last_id) - after.first_id + 1, 0)
        case "approximate":
            return int(after.first == before.last)
        case _:
            shared = min(before.last, after.last) - after.first
            return shared // max(before.step, 1) + 1 if shared >= 0 else 0
