"""Count the rows that are due between the first and the last row of a stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from binance_archive_kit.archive.annotations import load_annotations
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.cadence import Cadence, Times
from binance_archive_kit.timestamps import DAY, next_month, to_day_number, to_micros

#: Columns of a universe that say how long rows of a symbol are due.
LIFETIME_SCHEMA = pl.Schema({"first": pl.Date, "last": pl.Date, "ended": pl.Boolean})


class Lifetime(NamedTuple):
    """A time for which the archive lists files of a symbol, in microseconds since 1970 UTC."""

    start: int
    end: int  #: exclusive


class RowCounts(NamedTuple):
    """The rows of a stream.

    Attributes
    ----------
    present, due : int
        Numbers of steps with a row, and of steps for which there should be one.
    """

    present: int
    due: int

    @property
    def coverage(self) -> float | None:
        """The share of the due rows that are present; None if none is due."""
        return self.present / self.due if self.due else None


def lifetimes_of(universe: pl.DataFrame | None) -> dict[str, Lifetime]:
    """Return how long rows of each symbol are certainly due, as far as a universe says it.

    Its days are those of files, which may be months: a symbol may begin within the first of
    them, and an ended one may end within the last.
    """
    if universe is None or not LIFETIME_SCHEMA.keys() <= universe.schema.keys():
        return {}
    lifetimes = {}
    for symbol, first, last, ended in (
        universe.select("symbol", *LIFETIME_SCHEMA).drop_nulls().iter_rows()
    ):
        start = next_month(first)
        end = last.replace(day=1) if ended else last + timedelta(days=1)
        if start < end:
            lifetimes[symbol] = Lifetime(to_day_number(start) * DAY, to_day_number(end) * DAY)
    return lifetimes


def count_due(
    stream: Stream,
    cadence: Cadence,
    times: Times,
    selection: Selection,
    lifetime: Lifetime | None = None,
) -> RowCounts:
    """Count the rows of a stream, and those that are due.

    Parameters
    ----------
    stream : Stream
    cadence : Cadence
        A regular one.
    times : numpy.ndarray
        Of its rows, sorted; at least one.
    selection : Selection
        Limits the lifetime.
    lifetime : Lifetime, optional
        Rows are due for all of it, too.
    """
    steps = cadence.floor_to_grid(times)
    steps = steps[np.concatenate([[True], np.diff(steps) > 0])]
    phase, start, end = int(steps[0]), int(steps[0]), int(steps[-1]) + 1
    if lifetime is not None:
        first, until = selection.start, selection.end
        alive = lifetime.start if first is None else max(lifetime.start, _micros(first))
        dead = lifetime.end if until is None else min(lifetime.end, _micros(until))
        if alive < dead:
            start, end = min(start, cadence.ceil_to_grid(alive, phase)), max(end, dead)
    due = cadence.count_due(start, end, cadence.step)
    present = len(steps)
    for defect in load_annotations().defects:
        if defect.effect == "not_traded" and defect.end and defect.concerns(stream):
            begin = max(cadence.ceil_to_grid(to_micros(defect.start), phase), start)
            stop = min(to_micros(defect.end), end)
            inside = int(np.searchsorted(steps, stop) - np.searchsorted(steps, begin))
            due -= max(cadence.count_due(begin, stop, cadence.step) - max(inside, 0), 0)
    return RowCounts(present, due)


def _micros(naive: datetime) -> int:
    return to_micros(naive.replace(tzinfo=UTC))
