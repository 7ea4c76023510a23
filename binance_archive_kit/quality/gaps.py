"""Where rows are lacking, and why: what is due held against what is there. Pure, no I/O.

A `Timeline` is what a report says of one symbol, feed and interval: its days, which file gives
each of them, and what is known of days that no file gives. `examine` finds its gaps;
`classify_halts` then looks at the lines of a market side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import delivery_of
from binance_archive_kit.reading.cadence import MONTH, Cadence, cadence_of, month_start
from binance_archive_kit.reading.profile import NO_RUNS, FileProfile, Run, Runs
from binance_archive_kit.timestamps import DAY, HOUR, MINUTE, SECOND, format_time, to_day_number

#: A file is silent for too long at its end when it never is for a tenth of that elsewhere.
_SILENCE = 10
_FEWEST_LIQUIDATIONS = 3
#: Pieces of evidence that a gap names before it only counts them.
_SHOWN = 3


class GapKind(StrEnum):
    """Why rows are not there, in one word."""

    HALT = "halt"
    SHORT_FILE = "short_file"
    EMPTY_FILE = "empty_file"
    HOLE = "hole"
    CORRUPT = "corrupt"
    MISSING_IN_ARCHIVE = "missing_in_archive"
    NOT_COLLECTED = "not_collected"
    NOT_PUBLISHED = "not_published"
    ENDED_FEED = "ended_feed"
    BEFORE_LISTING = "before_listing"
    AFTER_DELISTING = "after_delisting"

    @property
    def is_lack(self) -> bool:
        """Whether rows that were due are lacking; else none were due.

        >>> GapKind.HALT.is_lack, GapKind.BEFORE_LISTING.is_lack
        (True, False)
        """
        return self not in _NOT_DUE

    @property
    def meaning(self) -> str:
        """What the word means."""
        return _MEANINGS[self]


_NOT_DUE = {
    GapKind.NOT_PUBLISHED,
    GapKind.ENDED_FEED,
    GapKind.BEFORE_LISTING,
    GapKind.AFTER_DELISTING,
}
_MEANINGS = {
    GapKind.HALT: "the market stood still",
    GapKind.SHORT_FILE: "a file begins late or ends early",
    GapKind.EMPTY_FILE: "a file without rows",
    GapKind.HOLE: "rows are lacking inside a file",
    GapKind.CORRUPT: "the file cannot be believed",
    GapKind.MISSING_IN_ARCHIVE: "the archive has no such file",
    GapKind.NOT_COLLECTED: "not in the store",
    GapKind.NOT_PUBLISHED: "not in the archive yet",
    GapKind.ENDED_FEED: "the archive stopped to publish the feed",
    GapKind.BEFORE_LISTING: "before the first file of the symbol",
    GapKind.AFTER_DELISTING: "after the last file of the symbol",
}


class FindingKind(StrEnum):
    """What is worth knowing of rows that are there, in one word."""

    CONFLICT = "conflict"
    NULL_VALUE = "null_value"
    IMPOSSIBLE_VALUE = "impossible_value"
    CONSTANT = "constant"
    FROZEN = "frozen"
    WRONG_VALUES = "wrong_values"
    DUPLICATE = "duplicate"
    UNSORTED = "unsorted"
    OFF_GRID = "off_grid"
    DISAGREEMENT = "disagreement"
    IRREGULAR = "irregular"
    UNVERIFIED = "unverified"
    NO_VOLUME = "no_volume"
    KNOWN_DEFECT = "known_defect"
    KNOWN_HALT = "known_halt"
    SEMANTIC_CHANGE = "semantic_change"

    @property
    def meaning(self) -> str:
        """What the word means."""
        return _FINDINGS[self]

    @property
    def is_doubt(self) -> bool:
        """Whether rows cannot be trusted: such data are never complete, nor ready.

        >>> FindingKind.CONFLICT.is_doubt, FindingKind.DUPLICATE.is_doubt
        (True, False)
        """
        return self in _DOUBTS

    @property
    def is_flaw(self) -> bool:
        """Whether something is wrong with rows; else it is only worth knowing."""
        return self in _DOUBTS or self in _FLAWS


_DOUBTS = {
    FindingKind.CONFLICT,
    FindingKind.NULL_VALUE,
    FindingKind.IMPOSSIBLE_VALUE,
    FindingKind.CONSTANT,
    FindingKind.FROZEN,
    FindingKind.WRONG_VALUES,
}
_FLAWS = {
    FindingKind.DUPLICATE,
    FindingKind.UNSORTED,
    FindingKind.OFF_GRID,
    FindingKind.DISAGREEMENT,
}
_FINDINGS = {
    FindingKind.CONFLICT: "rows with the same key differ",
    FindingKind.NULL_VALUE: "values are empty that never may be",
    FindingKind.IMPOSSIBLE_VALUE: "values cannot be right",
    FindingKind.CONSTANT: "a value is the same in very many rows, and should vary",
    FindingKind.FROZEN: "values stand still for hours while others move",
    FindingKind.WRONG_VALUES: "values are known to be wrong in the archive",
    FindingKind.DUPLICATE: "rows are repeated",
    FindingKind.UNSORTED: "rows do not come in the order of time",
    FindingKind.OFF_GRID: "rows lie between the steps of their interval",
    FindingKind.DISAGREEMENT: "the monthly and the daily file do not say the same",
    FindingKind.IRREGULAR: "a file has an unusual form and is read all the same",
    FindingKind.UNVERIFIED: "the archive publishes no checksum for this form of file",
    FindingKind.NO_VOLUME: "nothing was traded for hours",
    FindingKind.KNOWN_DEFECT: "the archive is known to be defective here",
    FindingKind.KNOWN_HALT: "the market is known to have stood still here",
    FindingKind.SEMANTIC_CHANGE: "values mean something else from here on",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth knowing that is no gap.

    Attributes
    ----------
    market, data_type, symbol, interval
    start, end : int
        Microseconds since 1970 UTC, `end` exclusive.
    rows : int
        How many it concerns.
    kind : FindingKind
    evidence : str
    explained : bool
        Whether it is so for a known and harmless reason, which the evidence names.
    """

    market: Market
    data_type: DataType
    symbol: str
    interval: Interval | None
    start: int
    end: int
    rows: int
    kind: FindingKind
    evidence: str
    explained: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of days that no file gives."""

    kind: GapKind
    evidence: str


@dataclass(slots=True)
class DaySource:
    """A file that gives days of a line.

    Attributes
    ----------
    key : str
    start, end : int
        Its period, microseconds since 1970 UTC, `end` exclusive.
    profile : FileProfile or None
        None when it cannot be read.
    problem : str
        Why it cannot be read.
    proven : bool
        Whether its checksum was right.
    verifiable : bool
        Whether the archive publishes a checksum for this form of file.
    place : str
        Where it lies in the store, if not under its key.
    """

    key: str
    start: int
    end: int
    profile: FileProfile | None
    problem: str = ""
    proven: bool = False
    verifiable: bool = True
    place: str = ""

    @property
    def has_rows(self) -> bool:
        """Whether it gives any row."""
        return self.profile is not None and len(self.profile.runs) > 0

    @property
    def name(self) -> str:
        """Its base name, and whether it is what the archive published."""
        name = (self.place or self.key).rpartition("/")[2]
        return f"{name}{' (checksum right)' if self.proven else ''}"


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time without rows.

    Attributes
    ----------
    start, end : int
        Microseconds since 1970 UTC, `end` exclusive.
    missing : int or None
        Rows that are lacking; None where it cannot be told how many.
    kind : GapKind
    evidence : tuple of str
    days : numpy.ndarray
        Rows that are lacking of each day it touches.
    """

    start: int
    end: int
    missing: int | None
    kind: GapKind
    evidence: tuple[str, ...]
    days: npt.NDArray[np.int64] = field(compare=False)


@dataclass(slots=True)
class Timeline:
    """One symbol, feed and interval, day by day.

    Attributes
    ----------
    market, data_type, symbol, interval
    first_day, end_day : int
        Days since 1970 it is about, `end_day` exclusive.
    owners : list of DaySource
        Files that give its days.
    of_day : numpy.ndarray
        For each day the index of its owner, or -1 - the index of what is known of it.
    words : list of Explanation
        What is known of days without a file.
    expected_files, actual_files : int
    runs : numpy.ndarray
        The rows that are there.
    gaps : list of Gap
        In the order of time.
    """

    market: Market
    data_type: DataType
    symbol: str
    interval: Interval | None
    first_day: int
    end_day: int
    owners: list[DaySource]
    of_day: npt.NDArray[np.int64]
    words: list[Explanation]
    expected_files: int = 0
    actual_files: int = 0
    runs: Runs = field(default_factory=lambda: NO_RUNS)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def cadence(self) -> Cadence:
        """How its rows follow each other."""
        return cadence_of(self.market, self.data_type, self.interval)

    @property
    def start(self) -> int:
        """Where it begins, microseconds since 1970 UTC."""
        return self.first_day * DAY

    @property
    def end(self) -> int:
        """Where it ends, exclusive."""
        return self.end_day * DAY

    @property
    def what(self) -> tuple[Market, DataType, str, Interval | None]:
        """What it is about: market, data type, symbol and interval."""
        return self.market, self.data_type, self.symbol, self.interval

    @property
    def present(self) -> npt.NDArray[np.int64]:
        """Rows that are there, day by day."""
        counts = np.zeros(self.end_day - self.first_day, np.int64)
        np.add.at(counts, self.runs[:, 0] // DAY - self.first_day, self.runs[:, 2])
        return counts

    @property
    def missing(self) -> npt.NDArray[np.int64]:
        """Rows that are lacking, day by day."""
        counts = np.zeros(self.end_day - self.first_day, np.int64)
        for gap in self.gaps:
            if gap.kind.is_lack:
                at = gap.start // DAY - self.first_day
                counts[at : at + len(gap.days)] += gap.days
        return counts

    def places(self, day: int, end: int) -> slice:
        """Tell where some days are among its own, `end` exclusive."""
        return slice(max(day - self.first_day, 0), max(end - self.first_day, 0))

    def code(self, day: int) -> int:
        """Give the index of a day's owner, or -1 - that of its word."""
        return int(self.of_day[day - self.first_day])

    def stretches(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Cut a time where the file changes: from, to, and whose it is."""
        first, last = start // DAY, (end - 1) // DAY
        codes = self.of_day[first - self.first_day : last + 1 - self.first_day]
        cuts = np.flatnonzero(np.diff(codes)) + 1
        days = [first, *(first + cuts).tolist(), last + 1]
        for day, until in pairwise(days):
            yield max(start, day * DAY), min(end, until * DAY), self.code(day)


# One line


def examine(line: Timeline) -> None:
    """Find what is there of a line, and where rows are lacking."""
    line.runs = _served(line)
    cadence = line.cadence
    found = _in_steps(line) if cadence.kind in ("regular", "approximate") else _in_days(line)
    line.gaps = merge(found)


def _served(line: Timeline) -> Runs:
    """Put together the runs that the files give of the days they give."""
    read = [(at, owner.profile.runs) for at, owner in enumerate(line.owners) if owner.profile]
    if not read:
        return NO_RUNS
    runs = np.concatenate([each for _, each in read])
    giver = np.repeat([at for at, _ in read], [len(each) for _, each in read])
    days = runs[:, 0] // DAY - line.first_day
    taken = (days >= 0) & (days < len(line.of_day))
    if not line.cadence.is_long:
        taken[taken] = line.of_day[days[taken]] == giver[taken]
    runs = runs[taken]
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    if line.cadence.is_long and len(runs):
        # A candle that lies in two months may be in the files of both.
        runs = runs[np.concatenate([[True], np.diff(runs[:, 0]) > 0])]
    return runs


def _in_steps(line: Timeline) -> Iterator[Gap]:
    """Find the gaps of rows that come at a fixed step, or about so."""
    for start, end, step in _absences(line):

        def due(time: int, start: int = start, step: int = step) -> int:
            return line.cadence.count_due(start, time, step)

        for cut, until, code in _cut_at_delivery(line, line.stretches(start, end)):
            missing = due(until) - due(cut)
            if not missing:
                continue
            word = _word_of(line, code, cut, until)
            lack = word.kind.is_lack
            days = _by_day(due, cut, until) if lack else np.zeros(0, np.int64)
            yield Gap(cut, until, missing if lack else 0, word.kind, (word.evidence,), days)


def _absences(line: Timeline) -> Iterator[tuple[int, int, int]]:
    """Find where rows are due and not there: from, to, and their step."""
    cadence, runs = line.cadence, line.runs
    start, end = line.start, line.end
    step = int(runs[0, 3]) if cadence.hours_column and len(runs) else cadence.step
    phase = cadence.phase
    if phase is None:
        phase = int(runs[0, 0]) if len(runs) else start
    if cadence.kind == "regular":
        start = (
            cadence.ceil_to_grid(start, phase) if step == MONTH else start + (phase - start) % step
        )
    if cadence.is_long:
        # A candle that goes on after the last day is not to be expected.
        if step == MONTH:
            end = int(month_start(np.array([end]))[0])
        else:
            end = start + max(end - start, 0) // step * step
    if not len(runs):
        if start < end:
            yield start, end, step
        return
    firsts, steps = runs[:, 0], runs[:, 3]
    if cadence.hours_column:
        # Which of its neighbours tells the hours between two rows is not known.
        between = np.minimum(steps[:-1], steps[1:])
        allowed = np.maximum(steps[:-1], steps[1:])
        dues = runs[:-1, 1] + between
        lacking = firsts[1:] - runs[:-1, 1] > allowed
    else:
        reach = np.maximum.accumulate(cadence.next_due(runs[:, 1], steps))
        dues, between = reach[:-1], steps[1:]
        lacking = firsts[1:] > dues
    if cadence.kind == "approximate":
        lacking = 2 * (firsts[1:] - dues) >= between
    if firsts[0] > start and (cadence.kind == "regular" or firsts[0] - start >= step):
        # The first snapshot of a day comes anywhere within its pace.
        late = 0 if cadence.kind == "regular" else int(firsts[0] - start) % step
        yield start, int(firsts[0]) - late, step
    for at in np.flatnonzero(lacking).tolist():
        yield int(dues[at]), int(firsts[at + 1]), int(between[at]) or cadence.step
    last = int(cadence.next_due(runs[-1:, 1], steps[-1:])[0])
    if last < end and (cadence.kind == "regular" or 2 * (end - last) >= step):
        yield last, end, int(steps[-1]) or cadence.step


def _by_day(due: Callable[[int], int], start: int, end: int) -> npt.NDArray[np.int64]:
    """Count the rows that are due on each day of a stretch."""
    days = range(start // DAY, (end - 1) // DAY + 1)
    counts = [due(min((day + 1) * DAY, end)) for day in days]
    return np.diff([due(start), *counts])


def _in_days(line: Timeline) -> Iterator[Gap]:
    """Find the gaps of rows of which only the number, or nothing, tells that one is lacking."""
    jumps = _jumps(line)
    lacking = [
        (start, end, _word_of(line, code, start, end))
        for start, end, code in line.stretches(line.start, line.end)
        if code < 0 or not line.owners[code].has_rows
    ]
    for start, end, word in lacking:
        around = [jump for jump in jumps if jump.start <= start and end <= jump.end]
        alone = all(sum(jump.meets(*each[:2]) for each in lacking) == 1 for jump in around)
        yield _daily(start, end, around[0].missing if around and alone else None, word)
    whole = [jump for jump in jumps if not any(jump.meets(*each[:2]) for each in lacking)]
    for start, end, word in _silences(line):
        met = [jump for jump in whole if jump.meets(start, end)]
        whole = [jump for jump in whole if jump not in met]
        missing = sum(jump.missing for jump in met) if met else None
        start = min([start, *(jump.start for jump in met)])
        end = max([end, *(jump.end for jump in met)])
        yield _daily(start, end, missing, word)
    for jump in whole:
        name = line.owners[line.code(jump.start // DAY)].name
        said = f"{name}: {jump.missing:,} numbers in {line.cadence.id_column} are left out"
        yield _daily(jump.start, jump.end, jump.missing, Explanation(GapKind.HOLE, said))


def _daily(start: int, end: int, missing: int | None, word: Explanation) -> Gap:
    """Make a gap of rows that lie at no known times: all are counted on its first day."""
    lack = word.kind.is_lack
    days = np.zeros((end - 1) // DAY - start // DAY + 1, np.int64)
    days[0] = (missing or 0) if lack else 0
    return Gap(start, end, missing if lack else 0, word.kind, (word.evidence,), days)


class _Jump(NamedTuple):
    """Numbers that are left out between two rows."""

    start: int
    end: int
    missing: int

    def meets(self, start: int, end: int) -> bool:
        """Tell whether it has more than a moment in common with a time."""
        return self.start < end and start < self.end


def _jumps(line: Timeline) -> list[_Jump]:
    """Find where numbers are left out."""
    if line.cadence.kind != "sequence":
        return []
    runs = [Run(*run) for run in line.runs.tolist()]
    return [
        _Jump(before.last, max(after.first, before.last + 1), after.first_id - before.last_id - 1)
        for before, after in pairwise(runs)
        if after.first_id - before.last_id > 1
    ]


def _silences(line: Timeline) -> Iterator[tuple[int, int, Explanation]]:
    """Find files that begin late or end early, by how silent they are elsewhere."""
    for at, owner in enumerate(line.owners):
        if owner.profile is None or not owner.has_rows:
            continue
        profile, runs = owner.profile, owner.profile.runs
        if line.data_type is DataType.LIQUIDATION_SNAPSHOT and profile.rows < _FEWEST_LIQUIDATIONS:
            continue
        first, last = int(runs[0, 0]), int(runs[-1, 1])
        before, after = first - owner.start, owner.end - last
        late = _is_too_long(line, before, max(profile.longest, after))
        if late and _gives(line, at, owner.start // DAY) and not _follows(line, runs[0]):
            yield owner.start, first, _edge_word(line, owner, owner.start, first)
        early = _is_too_long(line, after, max(profile.longest, before))
        if early and _gives(line, at, owner.end // DAY - 1) and not _goes_on(line, runs[-1]):
            yield last, owner.end, _edge_word(line, owner, last, owner.end)


def _is_too_long(line: Timeline, silence: int, longest: int) -> bool:
    """Tell whether a silence at the edge of a file is none of its feed's own."""
    if line.data_type is DataType.BOOK_TICKER and silence > HOUR:
        # Best prices of a living market do not stand still for that long.
        return True
    return silence > max(_SILENCE * longest, MINUTE)


def _gives(line: Timeline, at: int, day: int) -> bool:
    return line.first_day <= day < line.end_day and line.code(day) == at


def _follows(line: Timeline, run: npt.NDArray[np.int64]) -> bool:
    """Tell whether the numbers of a run go on where those of the one before it end."""
    if line.cadence.kind != "sequence":
        return False
    at = int(np.searchsorted(line.runs[:, 0], run[0]))
    return at > 0 and Run(*line.runs[at - 1]).last_id + 1 == Run(*run).first_id


def _goes_on(line: Timeline, run: npt.NDArray[np.int64]) -> bool:
    """Tell whether the numbers of a run go on in the one after it."""
    if line.cadence.kind != "sequence":
        return False
    at = int(np.searchsorted(line.runs[:, 0], run[0])) + 1
    return at < len(line.runs) and Run(*line.runs[at]).first_id - 1 == Run(*run).last_id


# Words for what is lacking


def _word_of(line: Timeline, code: int, start: int, end: int) -> Explanation:
    """Say why the rows of a stretch, which one file gives or none, are not there."""
    if code < 0:
        return line.words[-1 - code]
    owner = line.owners[code]
    if owner.profile is None:
        return Explanation(GapKind.CORRUPT, owner.problem)
    runs = owner.profile.runs
    if not owner.profile.rows:
        return Explanation(GapKind.EMPTY_FILE, f"{owner.name} holds no row")
    if (runs[:, 1] < start).any() and (runs[:, 0] >= end).any():
        return Explanation(GapKind.HOLE, f"{owner.name} has rows before and after")
    return _edge_word(line, owner, start, end)


def _edge_word(line: Timeline, owner: DaySource, start: int, end: int) -> Explanation:
    """Say why a file has no rows at its beginning, or at its end."""
    runs = line.runs if owner.profile is None else owner.profile.runs
    first, last = int(runs[0, 0]), int(runs[-1, 1])
    begins = first >= end
    beside = (owner.start // DAY - 1) if begins else (owner.end // DAY)
    word = _known_of(line, beside)
    delivered = _delivered(line)
    outside = GapKind.BEFORE_LISTING if begins else GapKind.AFTER_DELISTING
    # Of a row between the steps only the step is known here.
    off_grid = owner.profile is not None and owner.profile.off_grid
    of = "lies in the step of" if off_grid else "is of"
    if begins:
        said = f"{owner.name}: its first row {of} {format_time(first)}"
        if beside < line.first_day:
            said += "; of a symbol that was listed then, nothing is lacking"
    else:
        said = f"{owner.name}: its last row {of} {format_time(last)}"
    if not begins and delivered is not None and owner.end > delivered:
        # Candles go on until then; the last trade is some minutes earlier.
        if start >= delivered - (0 if line.cadence.kind == "regular" else HOUR):
            return Explanation(
                outside, f"{said}; the contract was delivered at {format_time(delivered)}"
            )
        return Explanation(
            GapKind.SHORT_FILE, f"{said}; the contract went on to {format_time(delivered)}"
        )
    if word is not None and word.kind is outside:
        return Explanation(outside, f"{said}, and no file is {'before' if begins else 'after'} it")
    return Explanation(GapKind.SHORT_FILE, said)


#: When in a day contracts are delivered, UTC.
_DELIVERED = 8 * HOUR


def _delivered(line: Timeline) -> int | None:
    """Return when the contract of a line is delivered; None for a symbol without an end."""
    delivery = delivery_of(line.symbol)
    return None if delivery is None else to_day_number(delivery) * DAY + _DELIVERED


def _cut_at_delivery(
    line: Timeline, stretches: Iterable[tuple[int, int, int]]
) -> Iterator[tuple[int, int, int]]:
    """Cut stretches where the contract of a line is delivered."""
    delivered = _delivered(line)
    for start, end, code in stretches:
        if delivered is not None and start < delivered < end:
            yield start, delivered, code
            yield delivered, end, code
        else:
            yield start, end, code


def _known_of(line: Timeline, day: int) -> Explanation | None:
    """Give what is known of a day without a file."""
    if not line.first_day <= day < line.end_day or line.code(day) >= 0:
        return None
    return line.words[-1 - line.code(day)]


def merge(gaps: Iterable[Gap]) -> list[Gap]:
    """Join neighbours of one kind."""
    merged: list[Gap] = []
    for gap in sorted(gaps, key=lambda each: (each.start, each.end)):
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
    """Add what two neighbours lack day by day."""
    at = second.start // DAY - first.start // DAY
    days = np.zeros(max(len(first.days), at + len(second.days)), np.int64)
    days[: len(first.days)] += first.days
    days[at : at + len(second.days)] += second.days
    return days


def said(evidence: Sequence[str]) -> str:
    """Put pieces of evidence into one text."""
    shown = "; ".join(evidence[:_SHOWN])
    return shown if len(evidence) <= _SHOWN else f"{shown}; and {len(evidence) - _SHOWN:,} more"


# Lines side by side

_MAY_BE_HALTS = (GapKind.HOLE, GapKind.SHORT_FILE)
#: From, to, and of how many lines.
Span = tuple[int, int, int]


class Halt(NamedTuple):
    """A time in which a market is known to have stood still."""

    start: int  #: microseconds since 1970 UTC
    end: int  #: exclusive
    evidence: str
    #: Whether its times are known, and not only its day.
    exact: bool = True


def classify_halts(
    lines: Sequence[Timeline],
    known: Callable[[Timeline], Sequence[Halt]],
    traded: Callable[[Timeline, int, int], str | None],
) -> None:
    """Find the gaps of candles in which the market stood still, and call them so.

    Parameters
    ----------
    lines : sequence of Timeline
    known : callable
        Given a line, returns the known halts of its market.
    traded : callable
        Given a line and a time, says that nothing was traded in it though the trades are
        there without a gap; empty if something was; None if that is not known.
    """
    candles = [line for line in lines if line.data_type.has_intervals]
    kin = groupby(sorted(candles, key=_kin), key=_kin)
    for _, group in kin:
        side = list(group)
        halts = known(side[0])
        halted = _halted(side, [halt for halt in halts if not halt.exact])
        for line in side:
            line.gaps = merge(_split_at_halts(line, halted, halts, traded))


def _kin(line: Timeline) -> tuple[str, str, str]:
    return line.market, line.data_type, line.interval or ""


def _halted(lines: Sequence[Timeline], vague: Sequence[Halt]) -> list[Span]:
    """Find the times in which two lines or more have no candle, and no line has one.

    Candles have to follow within a file: files that end together before midnight may have
    been cut off together. Where a halt of the day is known, they need not.
    """
    if len(lines) < 2:
        return []
    lacks = [(line, gap) for line in lines for gap in line.gaps if gap.kind in _MAY_BE_HALTS]
    if not lacks:
        return []
    points = np.unique(
        [
            *(each for _, gap in lacks for each in (gap.start, gap.end)),
            *(midnight for _, gap in lacks for midnight in _midnights(gap.start, gap.end)),
        ]
    )
    lacking = np.zeros(len(points), np.int64)
    giving = np.zeros(len(points), np.int64)
    closed = np.zeros(len(points), np.bool_)
    for line in lines:
        days = points // DAY - line.first_day
        inside = (days >= 0) & (days < len(line.of_day))
        rows = np.array([owner.has_rows for owner in line.owners] or [False])
        codes = line.of_day[days[inside]]
        giving[inside] += (codes >= 0) & rows[np.maximum(codes, 0)]
        for gap in line.gaps:
            its = slice(*np.searchsorted(points, [gap.start, gap.end]))
            if gap.kind in _MAY_BE_HALTS:
                lacking[its] += 1
                closed[its] |= _closes(line, gap)
            elif not gap.kind.is_lack:
                # It lies in a file, and yet nothing is due of it.
                days = points[its] // DAY - line.first_day
                giving[its] -= line.of_day[days] >= 0
    for halt in vague:
        closed |= (points >= halt.start) & (points < halt.end)
    still = (lacking >= 2) & (lacking == giving) & closed
    return [
        (int(points[at]), int(points[at + 1]), int(giving[at]))
        for at in np.flatnonzero(still[:-1]).tolist()
    ]


def _closes(line: Timeline, gap: Gap) -> bool:
    """Tell whether rows follow a gap in the file in which it ends."""
    if gap.end % DAY:
        return True
    day = gap.end // DAY
    return day < line.end_day and line.code(day - 1) == line.code(day)


def _midnights(start: int, end: int) -> range:
    return range((start // DAY + 1) * DAY, end, DAY)


def _split_at_halts(
    line: Timeline,
    halted: Sequence[Span],
    known: Sequence[Halt],
    traded: Callable[[Timeline, int, int], str | None],
) -> Iterator[Gap]:
    """Cut the gaps of a line where the market stood still, and call those parts halts."""
    exact = [span for halt in known if halt.exact and (span := _in_candles(line, halt))]
    for gap in line.gaps:
        if gap.kind not in _MAY_BE_HALTS:
            yield gap
            continue
        for piece in _cut(line, gap, exact):
            if piece.kind is GapKind.HALT:
                yield piece
                continue
            for each in _cut(line, piece, _with_evidence(halted)):
                yield each if each.kind is GapKind.HALT else _explained(line, each, known, traded)


def _with_evidence(halted: Sequence[Span]) -> list[Halt]:
    return [
        Halt(start, end, f"none of the {count} symbols with files of this time has these candles")
        for start, end, count in halted
    ]


def _in_candles(line: Timeline, halt: Halt) -> Halt | None:
    """Return the candles that lie in a halt as a whole; None if there is none."""
    step = line.cadence.step
    if not 0 < step <= DAY:
        return None
    start = -(-halt.start // step) * step
    # Some say when the last second of a halt began, others when it ended.
    end = (halt.end + SECOND) // step * step
    return halt._replace(start=start, end=end) if start < end else None


def _cut(line: Timeline, gap: Gap, halts: Iterable[Halt]) -> Iterator[Gap]:
    """Cut a gap at halts, which come in the order of time, and call its parts in them so."""
    at = gap.start
    for halt in halts:
        start, end = max(halt.start, at), min(halt.end, gap.end)
        if start >= end:
            continue
        if at < start:
            yield slice_gap(line, gap, at, start)
        cut = slice_gap(line, gap, start, end)
        yield replace(cut, kind=GapKind.HALT, evidence=(halt.evidence,))
        at = end
    if at < gap.end:
        yield slice_gap(line, gap, at, gap.end)


def _explained(
    line: Timeline,
    gap: Gap,
    known: Sequence[Halt],
    traded: Callable[[Timeline, int, int], str | None],
) -> Gap:
    """Call a gap a halt if nothing was traded in it; say so if a halt of its day is known."""
    nothing = traded(line, gap.start, gap.end)
    if nothing:
        return replace(gap, kind=GapKind.HALT, evidence=(nothing,))
    evidence = gap.evidence
    if nothing is not None:
        evidence = (*evidence, "trades of this time are there: the candles were left out")
    else:
        vague = [h for h in known if not h.exact and h.start < gap.end and gap.start < h.end]
        evidence = (*evidence, *(f"at a time not known, {halt.evidence}" for halt in vague))
    return replace(gap, evidence=evidence)


def slice_gap(line: Timeline, gap: Gap, start: int, end: int) -> Gap:
    """Cut a part out of a gap of candles."""
    if (start, end) == (gap.start, gap.end):
        return gap

    def due(time: int) -> int:
        return line.cadence.count_due(gap.start, time, line.cadence.step)

    return replace(
        gap,
        start=start,
        end=end,
        missing=due(end) - due(start),
        days=_by_day(due, start, end),
    )
