"""Pack the runs of files into few bytes: equal days in a row, which most files have, once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from binance_archive_kit.reading.cadence import NO_RUNS, Run, Runs
from binance_archive_kit.timestamps import DAY

#: Fields of a packed run: those of the first day, and the number of days.
_FIELDS = len(Run._fields) + 1
#: Bytes of a packed run.
PACKED_RUN = 8 * _FIELDS
#: More days than any file has: a greater number is damage.
_MOST_DAYS = 1024
#: Microseconds since 1970 of the years 1 to 9999; a time outside of them is invalid.
EARLIEST, LATEST = -62_135_596_800_000_000, 253_402_300_799_999_999
#: The columns that move with the day.
_TIMES = [Run._fields.index(name) for name in ("first", "last")]


def pack_runs(runs: Sequence[Runs]) -> list[bytes]:
    """Return the runs of each file as bytes."""
    if not runs:
        return []
    rows = np.concatenate(runs)
    ends = np.cumsum([len(own) for own in runs])
    begins = np.zeros(len(rows), bool)
    begins[:1] = True
    for column in range(rows.shape[1]):
        begins[1:] |= np.diff(rows[:, column]) != (DAY if column in _TIMES else 0)
    begins[ends[ends < len(rows)]] = True
    firsts = np.flatnonzero(begins)
    days = np.diff(firsts, append=len(rows))
    packed = np.column_stack([rows[firsts], days]).astype("<i8")
    bounds = np.searchsorted(firsts, [0, *ends]).tolist()
    return [packed[start:end].tobytes() for start, end in pairwise(bounds)]


def unpack_runs(packed: Sequence[bytes]) -> list[Runs] | None:
    """Return the runs of each file; None if a time or a number of days is invalid."""
    sizes = np.array([len(own) // PACKED_RUN for own in packed], np.int64)
    fields = np.frombuffer(b"".join(packed), "<i8").astype(np.int64).reshape(-1, _FIELDS)
    rows, days = fields[:, :-1], fields[:, -1]
    if not len(rows):
        return [NO_RUNS] * len(packed)
    times = rows[:, _TIMES]
    if days.min() < 1 or days.max() > _MOST_DAYS or times.min() < EARLIEST or times.max() > LATEST:
        return None
    ends = np.cumsum(days)
    runs = np.repeat(rows, days, axis=0)
    later = (np.arange(ends[-1]) - np.repeat(ends - days, days)) * DAY
    for column in _TIMES:
        runs[:, column] += later
    bounds = np.concatenate([[0], ends])[[0, *np.cumsum(sizes)]].tolist()
    return [runs[start:end] for start, end in pairwise(bounds)]
