"""One stream, day by day: the files of its days, its gaps, and findings about its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import ObjectKey, Stream
from binance_archive_kit.reading.cadence import NO_RUNS, Cadence, Runs, cadence_of
from binance_archive_kit.reading.profile import FileProfile
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.records import ASKED
from binance_archive_kit.timestamps import DAY, to_day_number

#: Fields of a stream, which are columns of every frame.
STREAM_FIELDS = ("market", "data_type", "symbol", "interval")
#: Returns the values of these fields of a stream.
stream_values = attrgetter(*STREAM_FIELDS)
#: Evidence of a gap that is shown before the rest is counted.
_SHOWN = 3


class GapKind(StrEnum):
    """The reason for a stretch without rows.

    Attributes
    ----------
    meaning : str
        The kind in a few words.
    is_missing : bool
        True if rows were due; False if none were.

    Examples
    --------
    >>> GapKind.HALT.is_missing, GapKind.BEFORE_LISTING.is_missing
    (True, False)
    """

    HALT = "halt", "trading in the whole market was halted"
    SHORT_FILE = "short_file", "a file begins late or ends early"
    EMPTY_FILE = "empty_file", "a file without rows"
    HOLE = "hole", "rows are missing inside a file"
    CORRUPT = "corrupt", "the file is invalid"
    MISSING_IN_ARCHIVE = "missing_in_archive", "the archive has no such file"
    NOT_COLLECTED = "not_collected", "not in the store"
    NOT_PUBLISHED = "not_published", "not in the archive yet", False
    ENDED_FEED = "ended_feed", "the archive stopped publishing the feed", False
    BEFORE_LISTING = "before_listing", "before the first file of the symbol", False
    AFTER_DELISTING = "after_delisting", "after the last file of the symbol", False

    meaning: str
    is_missing: bool

    def __new__(cls, value: str, meaning: str = "", is_missing: bool = True) -> GapKind:
        """Build a member from its value and its attributes."""
        self = str.__new__(cls, value)
        self._value_, self.meaning, self.is_missing = value, meaning, is_missing
        return self


class FindingKind(StrEnum):
    """The kind of a finding about rows that are present.

    Attributes
    ----------
    meaning : str
        The kind in a few words.
    severity : {"doubt", "flaw", "note"}

    Examples
    --------
    >>> FindingKind.CONFLICT.is_doubt, FindingKind.DUPLICATE.is_doubt
    (True, False)
    """

    CONFLICT = "conflict", "rows with the same key differ", "doubt"
    NULL_VALUE = "null_value", "null values in a column that must have none", "doubt"
    IMPOSSIBLE_VALUE = "impossible_value", "values cannot be right", "doubt"
    CONSTANT = "constant", "a value is the same in very many rows, and should vary", "doubt"
    FROZEN = "frozen", "values do not change for hours while others do", "doubt"
    WRONG_VALUES = "wrong_values", "values are known to be wrong in the archive", "doubt"
    DUPLICATE = "duplicate", "rows are repeated", "flaw"
    UNSORTED = "unsorted", "rows are not sorted by time", "flaw"
    OFF_GRID = "off_grid", "rows are between the steps of their interval", "flaw"
    DISAGREEMENT = "disagreement", "the monthly and the daily file differ", "flaw"
    IRREGULAR = "irregular", "a file has an unusual form and is read all the same"
    UNVERIFIED = "unverified", "the archive publishes no checksum for this form of file"
    NO_VOLUME = "no_volume", "nothing was traded for hours"
    KNOWN_DEFECT = "known_defect", "the archive is known to have a defect"
    KNOWN_HALT = "known_halt", "trading in the market is known to have been halted"
    SEMANTIC_CHANGE = "semantic_change", "values mean something else from here on"

    meaning: str
    severity: str

    def __new__(cls, value: str, meaning: str = "", severity: str = "note") -> FindingKind:
        """Build a member from its value and its attributes."""
        self = str.__new__(cls, value)
        self._value_, self.meaning, self.severity = value, meaning, severity
        return self

    @property
    def is_doubt(self) -> bool:
        """Whether rows cannot be trusted: such data are neither complete nor ready."""
        return self.severity == "doubt"

    @property
    def is_flaw(self) -> bool:
        """Whether rows have a flaw or a doubt; otherwise the finding is a note."""
        return self.severity in ("doubt", "flaw")


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding about rows that are present.

    Attributes
    ----------
    stream : Stream
    start, end : int
        Microseconds since 1970 UTC, `end` exclusive.
    rows : int
        Number of affected rows.
    kind : FindingKind
    evidence : str
    explained : bool
        Whether the reason is known and harmless; the evidence names it.
    """

    stream: Stream
    start: int
    end: int
    rows: int
    kind: FindingKind
    evidence: str
    explained: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reason why days have no file."""

    has_rows: ClassVar[bool] = False
    kind: GapKind
    evidence: str


@dataclass(slots=True, eq=False)
class DaySource:
    """A file with the rows of days of a stream.

    Attributes
    ----------
    file : StoredFile
    profile : FileProfile or None
        None if the file is invalid.
    problem : str
        The reason why the file is invalid.
    proven : bool
        Whether its digest is the published one.
    without : frozenset of date
        Days of its period whose rows come from another file.
    start, end : int
        Its period, microseconds since 1970 UTC, `end` exclusive.
    """

    file: StoredFile
    profile: FileProfile | None
    problem: str = ""
    proven: bool = False
    without: frozenset[date] = frozenset()
    start: int = field(init=False)
    end: int = field(init=False)

    def __post_init__(self) -> None:
        """Convert the period of the file."""
        self.start = to_day_number(self.file.start) * DAY
        self.end = (to_day_number(self.file.end) + 1) * DAY

    @property
    def partition(self) -> Partition:
        """Partition of the file in the archive."""
        return ObjectKey.parse(self.file.key).folder.partition

    @property
    def has_rows(self) -> bool:
        """Whether the file has any row."""
        return self.profile is not None and len(self.profile.runs) > 0

    @property
    def name(self) -> str:
        """The base name of the file, and whether it is proven."""
        path = self.file.key if self.file.is_zip else self.file.path
        return f"{path.rpartition('/')[2]}{' (checksum right)' if self.proven else ''}"


class DaySpan(NamedTuple):
    """A range of time with one file, or without a file for one reason.

    Attributes
    ----------
    start, end : int
        Microseconds since 1970 UTC, `end` exclusive.
    source : DaySource or Explanation
    """

    start: int
    end: int
    source: DaySource | Explanation


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without rows.

    Attributes
    ----------
    start, end : int
        Microseconds since 1970 UTC, `end` exclusive.
    missing : int or None
        Number of missing rows; None if unknown.
    kind : GapKind
    evidence : tuple of str
    days : numpy.ndarray
        Missing rows on each day of the gap.
    """

    start: int
    end: int
    missing: int | None
    kind: GapKind
    evidence: tuple[str, ...]
    days: npt.NDArray[np.int64] = field(compare=False)

    def overlaps(self, start: int, end: int) -> bool:
        """Return whether the gap has more than an end in common with [start, end)."""
        return self.start < end and start < self.end


@dataclass(slots=True)
class Timeline:
    """One stream, day by day.

    Attributes
    ----------
    stream : Stream
    first_day : int
        The first day, counted from 1970.
    sources : list of DaySource or Explanation
        The file of each day, or the reason why it has none.
    files : list of DaySource
        The files of all days.
    expected_files, actual_files : int
    runs : numpy.ndarray
        Runs of the rows present.
    gaps : list of Gap
        Sorted by time.
    """

    stream: Stream
    first_day: int
    sources: list[DaySource | Explanation]
    files: list[DaySource]
    expected_files: int = 0
    actual_files: int = 0
    runs: Runs = field(default_factory=lambda: NO_RUNS)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def cadence(self) -> Cadence:
        """The expected cadence of the rows."""
        return cadence_of(self.stream.market, self.stream.data_type, self.stream.interval)

    @property
    def end_day(self) -> int:
        """The day after the last one, counted from 1970."""
        return self.first_day + len(self.sources)

    @property
    def start(self) -> int:
        """Start of the first day, microseconds since 1970 UTC."""
        return self.first_day * DAY

    @property
    def end(self) -> int:
        """End of the last day, exclusive."""
        return self.end_day * DAY

    @property
    def present(self) -> npt.NDArray[np.int64]:
        """Rows present, day by day."""
        counts = np.zeros(len(self.sources), np.int64)
        np.add.at(counts, self.runs[:, 0] // DAY - self.first_day, self.runs[:, 2])
        return counts

    @property
    def missing(self) -> npt.NDArray[np.int64]:
        """Rows missing, day by day."""
        counts = np.zeros(len(self.sources), np.int64)
        for gap in self.gaps:
            if gap.kind.is_missing:
                index = gap.start // DAY - self.first_day
                counts[index : index + len(gap.days)] += gap.days
        return counts

    def slice_of(self, day: int, end: int) -> slice:
        """Return the slice of `sources` for some days, `end` exclusive."""
        return slice(max(day - self.first_day, 0), max(end - self.first_day, 0))

    def source(self, day: int) -> DaySource | Explanation | None:
        """Return the file of a day, or why it has none; None outside of the timeline."""
        inside = self.first_day <= day < self.end_day
        return self.sources[day - self.first_day] if inside else None

    def spans(self, start: int, end: int) -> Iterator[DaySpan]:
        """Split a range of time where the source of its days changes."""
        day = start // DAY
        days = self.sources[self.slice_of(day, (end - 1) // DAY + 1)]
        for source, group in groupby(days):
            until = day + len(list(group))
            yield DaySpan(max(start, day * DAY), min(end, until * DAY), source)
            day = until


def merge(gaps: Iterable[Gap]) -> list[Gap]:
    """Merge neighbouring gaps of one kind."""
    merged: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: (gap.start, gap.end)):
        last = merged[-1] if merged else None
        if last is None or last.kind is not gap.kind or last.end < gap.start:
            merged.append(gap)
            continue
        unknown = last.missing is None or gap.missing is None
        merged[-1] = replace(
            last,
            end=max(last.end, gap.end),
            missing=None if unknown else (last.missing or 0) + (gap.missing or 0),
            evidence=tuple(dict.fromkeys((*last.evidence, *gap.evidence))),
            days=_added(last, gap),
        )
    return merged


def _added(first: Gap, second: Gap) -> npt.NDArray[np.int64]:
    """Add the missing rows of two neighbours, day by day."""
    index = second.start // DAY - first.start // DAY
    days = np.zeros(max(len(first.days), index + len(second.days)), np.int64)
    days[: len(first.days)] += first.days
    days[index : index + len(second.days)] += second.days
    return days


def join_evidence(evidence: Sequence[str]) -> str:
    """Join the evidence of a gap into one text; of equal answers of the archive, the latest."""
    latest: dict[str, str] = {}
    for text in evidence:
        said, asked, time = text.rpartition(ASKED)
        answer = f"{said}{asked}" or time
        latest[answer] = max(latest.get(answer, ""), text)
    texts = [*latest.values()]
    shown = "; ".join(texts[:_SHOWN])
    return shown if len(texts) <= _SHOWN else f"{shown}; and {len(texts) - _SHOWN:,} more"
