"""The outcomes of a run's objects, and the bytes received over time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path

import polars as pl

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.errors import ObjectError


class State(IntEnum):
    """The state of an object of the plan; one byte each."""

    PENDING = 0
    DOWNLOADED = 1
    KEPT = 2
    FAILED = 3
    ABSENT = 4  #: planned without a listing, and not in the archive


@dataclass(frozen=True, slots=True)
class Clock:
    """The start of a run; by default now.

    Attributes
    ----------
    created_at : datetime
        UTC.
    started : float
        The same moment on the monotonic clock.
    """

    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started


@dataclass(slots=True)
class Arrivals:
    """Bytes received over time; at most 512 points, however long the run is.

    Attributes
    ----------
    points : list of (float, int)
        Seconds since the start of the run, and the bytes received by then.
    step : float
        Minimum seconds between two points.

    Examples
    --------
    >>> arrivals = Arrivals()
    >>> for second in range(5_000):
    ...     arrivals.note(second, 10 * second)
    >>> len(arrivals.points) <= 512, arrivals.points[-1][1] > 49_000
    (True, True)
    """

    points: list[tuple[float, int]] = field(default_factory=lambda: [(0.0, 0)])
    step: float = 0.05

    def note(self, seconds: float, count: int, *, final: bool = False) -> None:
        """Add a point if the last one is older than `step`; halve the points if they are many."""
        last_seconds, last_count = self.points[-1]
        if seconds - last_seconds >= self.step or final:
            # A retried download starts at zero, but the total never decreases.
            self.points.append((seconds, max(count, last_count)))
        if len(self.points) > 512:
            self.points = self.points[::2]
            self.step *= 2


@dataclass(slots=True)
class Ledger:
    """The outcomes of a plan's objects. Needs one byte for each.

    Attributes
    ----------
    states : bytearray
        A `State` for each row of the plan.
    clock : Clock
    path_of : callable
        Returns the path of the file for a key. Must be picklable.
    failures : list of ObjectError
    failed_shards : int
        Those of the failures that are shards without a result; their objects are unknown.
    missing, not_published : list of Absence
        Objects that were planned without a listing, and are not in the archive.
    stale : list of str
        Keys of files accepted although their published digest differs.
    proven_bytes, downloaded_bytes : int
        Bytes of the proven files in the store, and of those downloaded by this run.
    seconds : float
        Duration of the run, set by `close`.
    arrivals : Arrivals
    """

    states: bytearray
    clock: Clock = field(default_factory=Clock)
    path_of: Callable[[str], str | Path] = str
    failures: list[ObjectError] = field(default_factory=list)
    failed_shards: int = 0
    missing: list[Absence] = field(default_factory=list)
    not_published: list[Absence] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    proven_bytes: int = 0
    downloaded_bytes: int = 0
    seconds: float = 0.0
    arrivals: Arrivals = field(default_factory=Arrivals)

    def rows_in(self, *states: State) -> pl.Series:
        """Return for each row of the plan whether its state is one of `states`."""
        return pl.Series("state", self.states, dtype=pl.UInt8).is_in([*states])

    def pending(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Filter rows of the plan, which have their number as ``row``, by the state `PENDING`."""
        return rows.filter(self.rows_in(State.PENDING).gather(rows["row"]))

    def keep(self, row: int, size: int) -> None:
        """Record a proven file that was in the store already."""
        self.states[row] = State.KEPT
        self.proven_bytes += size

    def download(self, row: int, size: int) -> None:
        """Record a proven file that was downloaded."""
        self.states[row] = State.DOWNLOADED
        self.proven_bytes += size
        self.downloaded_bytes += size

    def fail(self, row: int, error: ObjectError) -> None:
        """Record an object that could not be downloaded or proven."""
        self.states[row] = State.FAILED
        self.failures.append(error)

    def skip(self, row: int, absence: Absence) -> None:
        """Record an object that is missing from the archive, or not published yet."""
        self.states[row] = State.ABSENT
        early = absence.reason is Reason.NOT_PUBLISHED
        (self.not_published if early else self.missing).append(absence)

    def note_arrivals(self, arriving: int) -> None:
        """Record the bytes received so far; `arriving` are those of unfinished files."""
        self.arrivals.note(self.clock.seconds(), self.downloaded_bytes + arriving)

    def close(self) -> None:
        """Record the end of the run."""
        self.seconds = self.clock.seconds()
        self.arrivals.note(self.seconds, self.downloaded_bytes, final=True)
