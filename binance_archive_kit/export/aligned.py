"""Series of many symbols on common times, and the returns between their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from binance_archive_kit.reading.cadence import MONTH, Cadence, Times, month_start
from binance_archive_kit.timestamps import DAY

#: NaN where there is no value.
Values = npt.NDArray[np.float64]
#: Which earlier value a return refers to: the one of the step before, or the latest.
Since = Literal["step", "latest"]
#: At least as long as a month, shorter than two.
_ABOUT_A_MONTH = 32 * DAY


class Series(NamedTuple):
    """The values of one symbol.

    Attributes
    ----------
    times : numpy.ndarray of int64
        Microseconds since 1970 UTC, sorted, without duplicates; at least one.
    values : numpy.ndarray of float64
    """

    times: Times
    values: Values


class Break(NamedTuple):
    """The time of a change after which values cannot be compared with earlier ones.

    Attributes
    ----------
    first, last : int
        The change happened at one of these times or between them; they are equal if it is known
        when.
    """

    first: int
    last: int


class CommonTimes:
    """The steps from the first to the last row of some series, and the times of other rows.

    Parameters
    ----------
    series : iterable of Series
    cadence : Cadence
        A regular one.

    Attributes
    ----------
    times : numpy.ndarray of int64
        Sorted.
    """

    def __init__(self, series: Iterable[Series], cadence: Cadence) -> None:
        found = [each.times for each in series]
        first, last = min(times[0] for times in found), max(times[-1] for times in found)
        phases = {cadence.phase}
        if cadence.phase is None:
            # Only the rows show where candles of three days begin.
            phases = {int(times[0] % cadence.step) for times in found}
        grids = [_steps(cadence, int(first), int(last), phase or 0) for phase in phases]
        others = [times[~cadence.is_on_grid(times)] for times in found]
        if cadence.phase is None:
            others = found
        self.times: Times = np.unique(np.concatenate([*grids, *others]))
        self._cadence = cadence
        steps = np.diff(self.times)
        self._is_regular = cadence.step > 0 and bool((steps == cadence.step).all())
        self._before = self._find(self._previous())

    def place(self, series: Series) -> Values:
        """Return a value for each of the times; NaN where the series has none."""
        placed = np.full(len(self.times), np.nan)
        if self._is_regular:
            index = (series.times - self.times[0]) // self._cadence.step
        else:
            index = np.searchsorted(self.times, series.times)
        placed[index] = series.values
        return placed

    def returns(self, values: Values, since: Since, breaks: Sequence[Break] = ()) -> Values:
        """Return the simple returns of values at the times; NaN where there is none.

        Parameters
        ----------
        values : numpy.ndarray of float64
        since : {"step", "latest"}
        breaks : sequence of Break
            No return reaches across one.
        """
        index = self._before
        if since == "latest":
            has_value = np.where(np.isnan(values), -1, np.arange(len(values)))
            index = np.concatenate([[-1], np.maximum.accumulate(has_value)[:-1]])
        before = np.where(index >= 0, values[index], np.nan)
        for change in breaks:
            before[(self.times >= change.first) & (self.times[index] < change.last)] = np.nan
        before[before == 0] = np.nan
        return values / before - 1

    def _previous(self) -> Times:
        """Return the time one step before each time."""
        if self._cadence.step == MONTH:
            return month_start(self.times - 1)
        return self.times - self._cadence.step

    def _find(self, wanted: Times) -> Times:
        """Return the index of each time; -1 for those that are not among the times."""
        index = np.searchsorted(self.times, wanted)
        index[index == len(self.times)] = 0
        return np.where(self.times[index] == wanted, index, -1)


def _steps(cadence: Cadence, first: int, last: int, phase: int) -> Times:
    """Return the times on the grid from `first` to `last`, both inclusive."""
    if cadence.step != MONTH:
        return np.arange(cadence.ceil_to_grid(first, phase), last + 1, cadence.step)
    days = np.arange(first, last + _ABOUT_A_MONTH, 28 * DAY)
    months = np.unique(month_start(days))
    return months[(months >= first) & (months <= last)]
