"""How the rows of a feed follow each other, from which it is known that one is lacking.

Four rhythms are known:

``regular``
    A row for each step of a fixed length: candles, metrics, hourly summaries, funding
    (whose own rows say how many hours a step has).
``approximate``
    A row about every so often: snapshots of the book, values of the volatility index.
``sequence``
    A row for each number of a sequence that leaves none out: aggregated trades, spot trades.
``irregular``
    A row when something happens: that one is lacking cannot be told from the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.timestamps import DAY, HOUR, MINUTE, SECOND, to_day_number

Times = npt.NDArray[np.int64]

_WEEK = 7 * DAY

#: Candles longer than a day by far begin with the month; this stands for their step.
MONTH = -1
#: Weeks begin on Mondays; the first one after 1970 on the fifth of January.
_MONDAY = 4 * DAY
#: Times this close to the step they stand for are of that step.
_JITTER = MINUTE

#: USD-M metrics label a period by its end before this day, by its start from then on.
METRICS_LABEL_CHANGE = date(2026, 6, 25)

Kind = Literal["regular", "approximate", "sequence", "irregular"]


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
        Microseconds since 1970 of a moment that is on the grid; None where only the
        rows tell.
    id_column : str
        Column that numbers the rows, for ``sequence``.
    hours_column : str
        Column that says how many hours a step has, where rows say so.
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
        """Tell which times are on the grid."""
        on: npt.NDArray[np.bool_] = times == self.floor_to_grid(times)
        return on

    def floor_to_grid(self, times: Times) -> Times:
        """Return the start of the step that each time lies in; the time itself without a grid."""
        if self.kind != "regular" or self.phase is None:
            return times
        if self.step == MONTH:
            return month_start(times)
        # A remainder would take twice as long.
        return (times - self.phase) // self.step * self.step + self.phase

    def next_due(self, times: Times, steps: Times) -> Times:
        """Give when the row after each of these is due; `steps` are their own."""
        if self.step != MONTH:
            return times + steps
        return _month_at(_month_index(times) + 1)

    def ceil_to_grid(self, time: int, phase: int) -> int:
        """Give the first time at or after another one that is on the grid."""
        if self.step == MONTH:
            at = np.array([time])
            start = month_start(at)
            return int(time if start[0] == time else _month_at(_month_index(at) + 1)[0])
        return time + (phase - time) % self.step

    def count_due(self, start: int, end: int, step: int) -> int:
        """Count the rows that are due from a time on that one is due at, to another, exclusive.

        Of a feed that only keeps a pace they are as many as fit best.
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
    """Give the beginnings of the months that times lie in, as microseconds since 1970."""
    return _month_at(_month_index(times))


def _month_index(times: Times) -> Times:
    return times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _month_at(index: Times) -> Times:
    return index.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)


_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_EVENTS = Cadence("irregular")


def length(interval: Interval) -> int:
    """Give the length of a candle in microseconds; `MONTH` for the month.

    >>> length(Interval.H4) // HOUR, length(Interval.W1) // DAY, length(Interval.MO1) == MONTH
    (4, 7, True)
    """
    if interval is Interval.MO1:
        return MONTH
    if interval is Interval.W1:
        return _WEEK
    return int(interval[:-1]) * _UNITS[interval[-1]]


@cache
def cadence_of(market: Market, data_type: DataType, interval: Interval | None) -> Cadence:
    """Tell how the rows of a feed follow each other.

    >>> cadence_of(Market.SPOT, DataType.KLINES, Interval.M1).step // SECOND
    60
    >>> cadence_of(Market.FUTURES_UM, DataType.TRADES, None).kind
    'irregular'
    """
    if interval is not None:
        # Where candles of three days begin, nobody has said: their own rows tell.
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
        # Trades of futures leave numbers out.
        case DataType.TRADES if market is Market.SPOT:
            return Cadence("sequence", id_column="id")
        case _:
            return _EVENTS


def snap_to_grid(data_type: DataType, times: Times) -> Times:
    """Give the steps that times stand for: those of funding come some milliseconds late."""
    if data_type is not DataType.FUNDING_RATE:
        return times
    hours = (times + _JITTER) // HOUR * HOUR
    return np.where(np.abs(times - hours) <= _JITTER, hours, times)


def label_offset(market: Market, data_type: DataType, day: date, times: Times) -> int:
    """Return the offset between the label of a row and the start of its period, in microseconds.

    Metrics of USD-M were once labelled by the end of their five minutes. What the labels
    of a file show goes before what is known of its day: a label on the next midnight ends a
    period, one on its own midnight starts one. A file with both, or with neither, is as
    files of its day are.

    Parameters
    ----------
    market, data_type : Market, DataType
    day : date
        The file's, UTC.
    times : numpy.ndarray
        All labels of the file.
    """
    if data_type is not DataType.METRICS:
        return 0
    start = to_day_number(day) * DAY
    ends = bool(len(times)) and int(times.max()) >= start + DAY
    starts = bool(len(times)) and int(times.min()) == start
    by_end = ends if ends != starts else ends_period(market, day)
    return 5 * MINUTE if by_end else 0


def ends_period(market: Market, day: date) -> bool:
    """Return whether metrics of a day are labelled by the end of their period."""
    return market is Market.FUTURES_UM and day < METRICS_LABEL_CHANGE
