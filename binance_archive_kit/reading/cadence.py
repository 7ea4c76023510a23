"""The expected cadence of each feed, used to detect missing rows.

``regular``
    A row for each step of a fixed length: candles, metrics, hourly summaries, funding
    (whose own rows say how many hours a step has).
``approximate``
    Rows at about a fixed distance: snapshots of the book, values of the volatility index.
``sequence``
    Rows with consecutive numbers: aggregated trades, spot trades.
``irregular``
    Rows when something happens: a missing row cannot be detected.
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

#: The step of candles that last a calendar month.
MONTH = -1
#: Weeks begin on Mondays; the first one after 1970 on the fifth of January.
_MONDAY = 4 * DAY
#: Tolerance when times are snapped to the grid.
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


_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_EVENTS = Cadence("irregular")


def length(interval: Interval) -> int:
    """Return the length of a candle in microseconds; `MONTH` for the month.

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
    """Return the steps that times stand for: funding times are some milliseconds late."""
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
