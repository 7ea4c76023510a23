"""What is in a file at the level of rows, in a few numbers: its runs of rows without a gap.

A run never goes over midnight UTC, so that the runs of some days of a file are known
without the others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby, pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.archive.enums import DataType
from binance_archive_kit.errors import FileError
from binance_archive_kit.reading.cadence import (
    Cadence,
    Times,
    cadence_of,
    label_offset,
    snap_to_grid,
)
from binance_archive_kit.reading.feed_table import MOMENT, FeedTable, feed_table
from binance_archive_kit.reading.file_stats import FileStats, FileTask, merged
from binance_archive_kit.reading.reader import Chunk, Notes, ZipReader
from binance_archive_kit.reading.values import (
    Batch,
    Flaw,
    FlawKind,
    Reason,
    Standing,
    ValueChecks,
    joined_flaws,
    joined_standing,
)
from binance_archive_kit.storage.stamps import Stamp
from binance_archive_kit.timestamps import DAY, HOUR, MINUTE, from_day_number

#: A row for each run.
Runs = npt.NDArray[np.int64]
#: Whether something is so of each row, or between each two.
Marks = npt.NDArray[np.bool_]


class Run(NamedTuple):
    """Columns of `Runs`: times are microseconds since 1970 UTC, both inclusive."""

    first: int
    last: int
    rows: int  #: different ones; where rows come by time, different times
    step: int  #: microseconds from its last row to the one after it; 0 where there is no step
    first_id: int
    last_id: int


NO_RUNS: Runs = np.empty((0, len(Run._fields)), np.int64)


@dataclass(frozen=True, slots=True)
class FileProfile:
    """What is in a file.

    Attributes
    ----------
    stamp : Stamp
        Of the file that was read; of another file this says nothing.
    rows : int
        All of them, repeated ones too.
    duplicates : int
        Rows that have the same key as an earlier one, or are the same where there is no key.
    off_grid : int
        Rows whose time is not on the grid. Each counts for the step it lies in.
    in_order : bool
        Whether rows come in the order of time.
    longest : int
        The longest time between two rows, in microseconds.
    runs : numpy.ndarray
        As `Run` has it, in the order of time.
    flaws : tuple of Flaw
        Values that cannot be right, and rows of one key that differ.
    standing : tuple of Standing
        How long bools have the same value, where they should not for long.
    """

    stamp: Stamp
    rows: int
    duplicates: int
    off_grid: int
    in_order: bool
    longest: int
    runs: Runs
    flaws: tuple[Flaw, ...] = ()
    standing: tuple[Standing, ...] = ()

    @property
    def days(self) -> frozenset[date] | None:
        """UTC days that it has rows of; None where runs do not tell the days of all rows."""
        if self.off_grid or self.duplicates:
            return None
        starts = self.runs[:, Run._fields.index("first")]
        return frozenset(from_day_number(day) for day in set((starts // DAY).tolist()))


@dataclass(frozen=True, slots=True)
class ProfiledFile:
    """A file that was read to its end: what is in it, and the facts that were not known."""

    source: FileTask
    profile: FileProfile
    stats: FileStats | None


class Profiler:
    """Sees what is in the files of one feed.

    Parameters
    ----------
    feed : FeedTable

    Attributes
    ----------
    columns : list of str
        Columns it has to be shown: all, as every value is checked.
    filled : list of str
        Those of them that, beside the time, tell whether a row is lacking: none of their
        fields may be empty.
    """

    def __init__(self, feed: FeedTable) -> None:
        self._feed = feed
        self._key = [name for name in feed.schema.key if name in feed.columns]
        if not self._key:
            # What tells rows apart may be the whole row, or the path columns and the time.
            self._key = [feed.time] if feed.schema.key else list(feed.columns)
        elif feed.schema.time.made_from:
            self._key = [feed.time, *self._key]
        self.filled: list[str] = []
        if not feed.data_type.has_intervals:
            cadence = cadence_of(feed.market, feed.data_type, None)
            self.filled += filter(None, (cadence.id_column, cadence.hours_column))
        self.columns = list(feed.columns)
        self._checks = ValueChecks(feed)

    def seen(self, piece: Chunk) -> tuple[Chunk, list[FileProfile]]:
        """See what is in the files of a piece, and give it back with that."""
        known = [source.stats for source, _ in piece.spans]
        in_order = [each is None or each.sorted for each in piece.stats or known]
        return piece, self.examine(piece.spans, piece.frame, in_order)

    def examine(
        self, spans: Sequence[tuple[FileTask, int]], frame: pl.DataFrame, in_order: Sequence[bool]
    ) -> list[FileProfile]:
        """See what is in some files, or in pieces of them, that were read together.

        Parameters
        ----------
        spans : sequence of (FileTask, int)
            The files, and how many rows each has.
        frame : polars.DataFrame
            Their rows, with `columns`.
        in_order : sequence of bool
            Whether rows of each file come in the order of time.
        """
        counts = np.array([count for _, count in spans], np.int64)
        file = np.repeat(np.arange(len(spans)), counts)
        cadence = cadence_of(self._feed.market, self._feed.data_type, spans[0][0].folder.interval)
        # Rows of funding are told apart by the hour they stand for.
        told = snap_to_grid(cadence, self._feed.data_type, _numbers(frame, self._feed.time))
        times = told
        if self._feed.data_type is DataType.METRICS:
            times = times - self._shifts(spans, counts, times)
        turns = _turns(file)
        batch = Batch(frame, file, told, len(spans))
        flaws = self._checks.flaws(batch, cadence)
        standing = self._checks.standing(batch)
        ids = _numbers(frame, cadence.id_column) if cadence.id_column else _all(0, times)
        if cadence.hours_column:
            steps = _numbers(frame, cadence.hours_column) * HOUR
        else:
            steps = _all(max(cadence.step, 0), times)
        # Clocks may be some milliseconds apart, so that it is numbers that follow each other.
        follow = ids if cadence.id_column else times
        by_time = follow is times and self._key == [self._feed.time]
        apart = np.diff(times)
        if by_time and cadence.step > 0 and _is_regular(cadence, turns, times, apart):
            # So are nearly all files: no row has to move, and none to be left out.
            duplicates = off_grid = np.zeros(len(spans), np.int64)
        else:
            new = self._new(frame, file, turns, told)
            duplicates = np.bincount(file[~new], minlength=len(spans))
            if duplicates.any():
                for number, conflict in self._conflicts(batch).items():
                    flaws[number] = (*flaws.get(number, ()), conflict)
            starts = cadence.floor_to_grid(times)
            off = times != starts
            off_grid = np.bincount(file[off], minlength=len(spans))
            if off.any():
                # A row between the steps is there, and is the one of the step it lies in.
                times, apart = starts, np.diff(starts)
                follow = follow if cadence.id_column else times
            if (_falls(follow) & ~turns).any():
                order = np.lexsort((times, follow, file))
                file, new, follow = file[order], new[order], follow[order]
                times, ids, steps = times[order], ids[order], steps[order]
                apart = np.diff(times)
            # Sorting leaves the rows of each file together, so that files turn where they did.
            taken = new if cadence.kind == "irregular" else _is_new(turns, follow)
            if not taken.all():
                file, times, ids, steps = file[taken], times[taken], ids[taken], steps[taken]
                turns, apart = _turns(file), np.diff(times)
        runs, at = _runs(cadence, file, turns, times, apart, ids, steps)
        ends = np.searchsorted(at, np.arange(len(spans) + 1)).tolist()
        of_each = zip(
            range(len(spans)),
            spans,
            duplicates.tolist(),
            off_grid.tolist(),
            in_order,
            _longest(file, turns, apart, len(spans)).tolist(),
            pairwise(ends),
            strict=True,
        )
        return [
            FileProfile(
                source.file.stamp,
                count,
                again,
                off,
                ordered,
                longest,
                runs[begin:end],
                flaws.get(number, ()),
                standing.get(number, ()),
            )
            for number, (source, count), again, off, ordered, longest, (begin, end) in of_each
        ]

    def _shifts(self, spans: Sequence[tuple[FileTask, int]], counts: Times, times: Times) -> Times:
        ends = np.cumsum(counts)
        return np.repeat(
            [
                label_offset(
                    self._feed.market,
                    self._feed.data_type,
                    source.file.start,
                    times[end - count : end],
                )
                for (source, count), end in zip(spans, ends, strict=True)
            ],
            counts,
        )

    def _new(self, frame: pl.DataFrame, file: Times, turns: Marks, times: Times) -> Marks:
        """Tell which rows of each file did not come before."""
        if self._key == [self._feed.time]:
            if not _falls(times).any():
                return _is_new(turns, times)
            order = np.lexsort((times, file))
            new = np.empty(len(times), np.bool_)
            new[order] = _is_new(turns, times[order])
            return new
        marked = frame.select(self._key).with_columns(pl.Series(_FILE, file))
        firsts = marked.with_row_index(_AT).unique(marked.columns, keep="first")[_AT]
        new = np.zeros(len(file), np.bool_)
        new[firsts.to_numpy()] = True
        return new

    def _conflicts(self, batch: Batch) -> dict[int, Flaw]:
        """Find rows that have the key of another row of their file and say something else."""
        rows = batch.frame.with_columns(
            pl.Series(_FILE, batch.file), pl.Series(self._feed.time, batch.times)
        )
        key = [_FILE, *self._key]
        again = rows.filter(pl.struct(key).is_duplicated()).unique(maintain_order=True)
        differing = again.filter(pl.struct(key).is_duplicated())
        found: dict[int, Flaw] = {}
        for (file,), its in differing.group_by(_FILE, maintain_order=True):
            told = its[self._feed.time]
            count = its.height - its.n_unique(key)
            first = its.filter(pl.struct(key) == its.select(pl.struct(key)).to_series()[0])
            reason = Reason(_difference(first.drop(_FILE)), count)
            span = int(told.min()), int(told.max())  # type: ignore[arg-type]
            found[int(file)] = Flaw(FlawKind.CONFLICT, count, *span, (reason,))
        return found

    def exactly(self, parts: Sequence[_Hashes]) -> tuple[int, Flaw | None, dict[int, int]]:
        """Count the rows of a file that come again, those of one key that differ, and the others.

        Returns
        -------
        tuple of (int, Flaw or None, dict of int to int)
            The last are the rows of each day, in days since 1970, that are no repeats.
        """
        keys, rows, times = (np.concatenate(each) for each in zip(*parts, strict=True))
        order = np.lexsort((rows, keys))
        keys, rows, times = keys[order], rows[order], times[order]
        again = keys[1:] == keys[:-1]
        differs = again & (rows[1:] != rows[:-1])
        new = np.concatenate([[True], ~again]) if len(keys) else np.zeros(0, np.bool_)
        days = dict(zip(*(each.tolist() for each in _counted(times[new] // DAY)), strict=True))
        if not differs.any():
            return int(again.sum()), None, days
        its, count = times[1:][differs], int(differs.sum())
        reason = Reason("rows of one time or number differ", count)
        conflict = Flaw(FlawKind.CONFLICT, count, int(its.min()), int(its.max()), (reason,))
        return int(again.sum()), conflict, days

    def hashes(self, piece: Chunk) -> _Hashes:
        """Return a number for each key and for each whole row, and the times."""
        told = _numbers(piece.frame, self._feed.time)
        key = piece.frame.select(self._key).hash_rows().to_numpy()
        return key, piece.frame.select(self.columns).hash_rows().to_numpy(), told


#: Numbers that stand for the keys of rows, and for whole rows; and their times.
_Hashes = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], Times]


def _difference(rows: pl.DataFrame) -> str:
    """Return the first column in which two rows differ, with both values."""
    for name in rows.columns:
        one, other = rows[name][:2]
        if one != other:
            return f"{name} is both {one} and {other}"
    return "rows differ"


def profile_files(
    root: Path,
    feed: FeedTable,
    sources: Sequence[FileTask],
    *,
    workers: int,
    skip: Callable[[FileError], None] | None,
    notes: Notes | None = None,
) -> Generator[list[ProfiledFile]]:
    """Read files for what is in them, and give those that were read together.

    Parameters
    ----------
    root : Path
        Root of the store.
    feed : FeedTable
    sources : sequence of FileTask
    workers : int
        Threads to parse with.
    skip : callable or None
        Told of files that cannot be read, which are then left out; else they raise.
    notes : Notes, optional
        Where to note what was found out about files.

    Raises
    ------
    FileError
        For the first file that is not what its name says.
    """
    # Exact decimals would be checked the same, only slower.
    feed = feed_table(feed.market, feed.data_type)
    examiner = Profiler(feed)
    # Files of one interval follow each other at its pace.
    for interval, group in groupby(sources, lambda source: source.folder.interval):
        cadence = cadence_of(feed.market, feed.data_type, interval)
        begun: dict[str, ProfiledFile] = {}
        overlap = False
        reader = ZipReader(root, feed, examiner.filled, full=True, in_order=False, notes=notes)
        pieces = reader.pieces(
            list(group), examiner.columns, examiner.seen, workers=workers, skip=skip
        )
        with closing(pieces):
            for piece, found in pieces:
                shown = zip_longest(piece.spans, found, piece.stats)
                for (source, _), profile, stats in shown:
                    before = begun.get(source.file.key)
                    if before is not None:
                        overlap = overlap or _overlap(cadence, before.profile, profile)
                        profile = joined(cadence, before.profile, profile)
                        stats = stats and merged(before.stats, stats)
                        if overlap and piece.ends:
                            profile = _recounted(reader, examiner, source, cadence, profile)
                    begun[source.file.key] = ProfiledFile(source, profile, stats)
                if piece.ends:
                    yield [*begun.values()]
                    begun.clear()
                    overlap = False


def _overlap(cadence: Cadence, profile: FileProfile, more: FileProfile) -> bool:
    """Return whether an earlier piece may have rows of a piece, too."""
    if not len(profile.runs) or not len(more.runs):
        return False
    last, first = profile.runs[:, 1].max(), more.runs[0, 0]
    # Clocks of events may be apart, and such rows are no repeats.
    return bool(
        first < last - MINUTE if cadence.kind in ("irregular", "sequence") else first <= last
    )


def _recounted(
    reader: ZipReader, examiner: Profiler, source: FileTask, cadence: Cadence, profile: FileProfile
) -> FileProfile:
    """Count the repeats and conflicts of a file whose pieces overlap, over all its rows."""
    whole = replace(source, without=frozenset())
    duplicates, conflict, days = examiner.exactly(
        list(reader.pieces([whole], examiner.columns, examiner.hashes, workers=1))
    )
    others = tuple(flaw for flaw in profile.flaws if flaw.kind is not FlawKind.CONFLICT)
    runs = profile.runs
    if cadence.kind == "irregular":
        # Of these there is one run for each day, whose ends do not tell what stands in two pieces.
        runs = runs.copy()
        runs[:, Run._fields.index("rows")] = [days[at] for at in (runs[:, 0] // DAY).tolist()]
    flaws = (*others, conflict) if conflict else others
    return replace(profile, duplicates=duplicates, runs=runs, flaws=flaws)


def _counted(values: Times) -> tuple[Times, Times]:
    """Return the different values, and how often each is there."""
    different, counts = np.unique(values, return_counts=True)
    return different, counts


#: Names of columns that no feed has.
_FILE, _AT = " file", " at"


def joined(cadence: Cadence, profile: FileProfile | None, more: FileProfile) -> FileProfile:
    """Put together what is in two pieces of a file, the second following the first.

    Of rows that stand in both, those that come by steps or numbers are counted once.
    """
    if profile is None:
        return more
    runs = np.concatenate([profile.runs, more.runs])
    duplicates = profile.duplicates + more.duplicates
    longest = max(profile.longest, more.longest)
    in_order = profile.in_order and more.in_order
    if len(profile.runs) and len(more.runs):
        seam = len(profile.runs)
        before, after = Run(*runs[seam - 1]), Run(*runs[seam])
        longest = max(longest, after.first - before.last)
        in_order = in_order and before.last <= after.first
        at = Run._fields.index("first_id" if cadence.kind == "sequence" else "first")
        if _is_ascending(runs[seam - 1 : seam + 1, at]):
            near, far, runs = runs[: seam - 1], runs[seam + 1 :], runs[seam - 1 : seam + 1]
        else:
            near, far, runs = NO_RUNS, NO_RUNS, runs[np.argsort(runs[:, at], kind="stable")]
        whole = runs[:, 2].sum()
        runs = _folded(cadence, runs)
        if cadence.kind in ("regular", "sequence"):
            duplicates += int(whole - runs[:, 2].sum())
        runs = np.concatenate([near, runs, far])
    return replace(
        profile,
        rows=profile.rows + more.rows,
        duplicates=duplicates,
        off_grid=profile.off_grid + more.off_grid,
        in_order=in_order,
        longest=longest,
        runs=runs,
        flaws=joined_flaws(profile.flaws, more.flaws),
        standing=joined_standing(profile.standing, more.standing),
    )


def _is_ascending(values: Times) -> bool:
    return not _falls(values).any()


def _folded(cadence: Cadence, runs: Runs) -> Runs:
    """Make one of runs of a day that follow each other, or overlap."""
    folded: list[Run] = []
    for run in (Run(*each) for each in runs.tolist()):
        last = folded[-1] if folded else None
        if (
            last is None
            or last.first // DAY != run.first // DAY
            or not _follows(cadence, last, run)
        ):
            folded.append(run)
            continue
        ends = max(last, run, key=lambda each: (each.last_id, each.last))
        folded[-1] = Run(
            min(last.first, run.first),
            max(last.last, run.last),
            last.rows + run.rows - _common(cadence, last, run),
            ends.step,
            last.first_id,
            ends.last_id,
        )
    return np.array(folded, np.int64).reshape(-1, len(Run._fields))


def _follows(cadence: Cadence, before: Run, after: Run) -> bool:
    """Tell whether a run, which begins no earlier than another one, goes on with that one."""
    match cadence.kind:
        case "irregular":
            return True
        case "sequence":
            return after.first_id - before.last_id <= 1
        case "approximate":
            return 2 * (after.first - before.last) < 3 * before.step
        case _:
            return after.first - before.last <= before.step


def _common(cadence: Cadence, before: Run, after: Run) -> int:
    """Count the rows that stand in both of two runs; those that keep a pace by their ends."""
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


def _runs(
    cadence: Cadence,
    file: Times,
    turns: Marks,
    times: Times,
    apart: Times,
    ids: Times,
    steps: Times,
) -> tuple[Runs, Times]:
    """Cut rows into runs; give these, and the file of each.

    `turns` marks between which rows one file ends and the next one begins; `apart` are the
    times between them.
    """
    if not len(times):
        return NO_RUNS, file
    days = times // DAY
    match cadence.kind:
        case "irregular":
            breaks = np.zeros(len(apart), np.bool_)
        case "sequence":
            breaks = np.diff(ids) != 1
        case "approximate":
            breaks = 2 * apart >= 3 * cadence.step
        case _ if cadence.hours_column:
            # A row may tell the hours since the one before it, or those to the next.
            breaks = (apart != steps[1:]) & (apart != steps[:-1])
        case _:
            breaks = apart != cadence.step
    breaks |= _turns(days) | turns
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:], [len(times)]]) - 1
    runs = np.column_stack(
        [times[starts], times[ends], ends - starts + 1, steps[ends], ids[starts], ids[ends]]
    )
    return runs, file[starts]


def _is_regular(cadence: Cadence, turns: Marks, times: Times, apart: Times) -> bool:
    """Tell whether times rise within each file, and all are on the grid."""
    # A time that comes one step after one on the grid is on it, too.
    jumps = np.flatnonzero(apart != cadence.step)
    rises = (apart[jumps] > 0) | turns[jumps]
    heads = np.concatenate([times[:1], times[jumps + 1]])
    return bool(rises.all() and cadence.is_on_grid(heads).all())


def _longest(file: Times, turns: Marks, apart: Times, files: int) -> Times:
    """Give the longest time between two rows of each file."""
    longest = np.zeros(files, np.int64)
    within = np.where(turns, 0, apart)
    if len(within):
        starts = np.concatenate([[0], np.flatnonzero(turns) + 1])
        # After the last row of all there is no other one.
        starts = starts[starts < len(within)]
        longest[file[starts]] = np.maximum.reduceat(within, starts)
    return longest


def _is_new(turns: Marks, values: Times) -> Marks:
    """Tell which values, in order within each file, are not the one before again."""
    new = np.ones(len(values), np.bool_)
    np.logical_or(_turns(values), turns, out=new[1:])
    return new


def _all(value: int, like: Times) -> Times:
    """Give one value for each row, without room for each."""
    return np.broadcast_to(np.int64(value), len(like))


def _turns(values: Times) -> Marks:
    """Tell between which neighbours a value turns into another one."""
    turns: Marks = values[1:] != values[:-1]
    return turns


def _falls(values: Times) -> Marks:
    """Tell between which neighbours values fall."""
    falls: Marks = values[1:] < values[:-1]
    return falls


def _numbers(frame: pl.DataFrame, name: str) -> Times:
    values = frame[name].to_numpy()
    if frame[name].dtype == MOMENT:
        return values.view(np.int64)
    return values.astype(np.int64, copy=False)
