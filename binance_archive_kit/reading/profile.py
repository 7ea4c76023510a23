"""Profile files: their runs of consecutive rows, duplicates, and invalid values."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.archive.enums import DataType
from binance_archive_kit.errors import FileError
from binance_archive_kit.reading.cadence import (
    Cadence,
    Marks,
    RowColumns,
    Run,
    Runs,
    Times,
    cadence_of,
    falls,
    find_runs,
    is_first,
    is_regular,
    label_offset,
    longest_silences,
    merge_runs,
    overlap,
    snap_to_grid,
)
from binance_archive_kit.reading.chunks import Chunk, Notes
from binance_archive_kit.reading.feed_table import MOMENT, FeedTable, feed_table
from binance_archive_kit.reading.file_stats import FileStats, FileTask
from binance_archive_kit.reading.reader import ZipReader
from binance_archive_kit.reading.values import (
    Batch,
    Flaw,
    FlawKind,
    Reason,
    Standing,
    ValueChecks,
    join_standing,
    merge_flaws,
)
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.timestamps import DAY, HOUR, from_day_number

#: Names of columns that no feed has.
_FILE, _INDEX = " file", " index"
#: Hashes of the keys of rows and of whole rows, and the times of the rows.
_Hashes = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], Times]


@dataclass(frozen=True, slots=True)
class FileProfile:
    """A summary of the rows of a file.

    Attributes
    ----------
    stats : FileStats
    duplicates : int
        Rows that have the same key as an earlier row, or equal one where there is no key.
    off_grid : int
        Rows whose time is not on the grid. Each counts for the step it lies in.
    longest_silence : int
        The longest time between two rows, in microseconds.
    runs : numpy.ndarray
        Columns as in `Run`, in the order of time.
    flaws : tuple of Flaw
        Invalid values, and rows of one key that differ.
    standing : tuple of Standing
        Streaks of the bools that should not be constant.
    """

    stats: FileStats
    duplicates: int
    off_grid: int
    longest_silence: int
    runs: Runs
    flaws: tuple[Flaw, ...] = ()
    standing: tuple[Standing, ...] = ()

    @property
    def days(self) -> frozenset[date] | None:
        """UTC days that it has rows of; None if runs do not show the days of all rows."""
        if self.off_grid or self.duplicates:
            return None
        starts = self.runs[:, Run._fields.index("first")]
        return frozenset(from_day_number(day) for day in set((starts // DAY).tolist()))


class Profiler:
    """Profiles rows of one feed.

    Parameters
    ----------
    feed : FeedTable

    Attributes
    ----------
    columns : list of str
        Columns to read: all, because every value is checked.
    filled : list of str
        Those of them that, besides the time, show whether a row is missing; no field of them
        may be empty.
    """

    def __init__(self, feed: FeedTable) -> None:
        self._feed = feed
        self._key = [name for name in feed.schema.key if name in feed.columns]
        if not self._key:
            # Rows differ by the whole row, or by the path columns and the time.
            self._key = [feed.time] if feed.schema.key else list(feed.columns)
        elif feed.schema.time.made_from:
            self._key = [feed.time, *self._key]
        self.filled: list[str] = []
        if not feed.data_type.has_intervals:
            cadence = cadence_of(feed.market, feed.data_type, None)
            self.filled += filter(None, (cadence.id_column, cadence.hours_column))
        self.columns = list(feed.columns)
        self._checks = ValueChecks(feed)

    def profile_chunk(self, chunk: Chunk) -> tuple[Chunk, list[FileProfile]]:
        """Return a chunk, and the profile of each file's rows in it."""
        known = [task.stats for task, _ in chunk.spans if task.stats is not None]
        return chunk, self.profile(chunk.spans, chunk.frame, chunk.stats or known)

    def profile(
        self,
        spans: Sequence[tuple[FileTask, int]],
        frame: pl.DataFrame,
        stats: Sequence[FileStats],
    ) -> list[FileProfile]:
        """Profile the rows of files, or chunks of files, that were read together.

        Parameters
        ----------
        spans : sequence of (FileTask, int)
            The files, and how many rows each has.
        frame : polars.DataFrame
            Their rows, with `columns`.
        stats : sequence of FileStats
            Of each file.
        """
        files = len(spans)
        cadence = cadence_of(self._feed.market, self._feed.data_type, spans[0][0].folder.interval)
        file = np.repeat(np.arange(files), [count for _, count in spans])
        # The key of a funding rate is its hour.
        labels = snap_to_grid(self._feed.data_type, _integers(frame, self._feed.time))
        batch = Batch(frame, file, labels, files)
        flaws = self._checks.flaws(batch, cadence)
        standing = self._checks.standing(batch)
        rows = self._row_columns(batch, cadence, spans)
        duplicates = off_grid = np.zeros(files, np.int64)
        by_time = rows.id is None and self._key == [self._feed.time] and cadence.step > 0
        # Nearly all files are regular: no row has to move, and none to be left out.
        if not (by_time and is_regular(cadence, rows)):
            new = self._without_duplicates(batch, rows.other_file)
            duplicates = np.bincount(file[~new], minlength=files)
            if duplicates.any():
                for number, conflict in self._conflicts(batch).items():
                    flaws[number] = (*flaws.get(number, ()), conflict)
            rows, off_grid = _on_grid(cadence, rows, files)
            rows = _sorted_once(cadence, rows, new)
        runs, owners = find_runs(cadence, rows)
        bounds = np.searchsorted(owners, np.arange(files + 1)).tolist()
        silences = longest_silences(rows, files)
        return [
            FileProfile(
                stats[number],
                int(duplicates[number]),
                int(off_grid[number]),
                int(silences[number]),
                runs[start:end],
                flaws.get(number, ()),
                standing.get(number, ()),
            )
            for number, (start, end) in enumerate(pairwise(bounds))
        ]

    def _row_columns(
        self, batch: Batch, cadence: Cadence, spans: Sequence[tuple[FileTask, int]]
    ) -> RowColumns:
        times = batch.times
        if self._feed.data_type is DataType.METRICS:
            ends = np.cumsum([count for _, count in spans])
            offsets = [
                label_offset(self._feed.market, self._feed.data_type, task.file.start, labels)
                for (task, _), labels in zip(spans, np.split(times, ends[:-1]), strict=True)
            ]
            times = times - np.array(offsets, np.int64)[batch.file]
        if cadence.hours_column:
            steps = _integers(batch.frame, cadence.hours_column) * HOUR
        else:
            # Takes no memory for each row.
            steps = np.broadcast_to(np.int64(max(cadence.step, 0)), len(times))
        ids = _integers(batch.frame, cadence.id_column) if cadence.id_column else None
        return RowColumns(batch.file, times, steps, ids)

    def _without_duplicates(self, batch: Batch, other_file: Marks) -> Marks:
        """Return which rows of each file have a key that no earlier row of it has."""
        if self._key == [self._feed.time]:
            if not falls(batch.times).any():
                return is_first(other_file, batch.times)
            order = np.lexsort((batch.times, batch.file))
            new = np.empty(len(order), np.bool_)
            new[order] = is_first(other_file, batch.times[order])
            return new
        keys = batch.frame.select(self._key).with_columns(pl.Series(_FILE, batch.file))
        firsts = keys.with_row_index(_INDEX).unique(keys.columns, keep="first")[_INDEX]
        new = np.zeros(len(batch.file), np.bool_)
        new[firsts.to_numpy()] = True
        return new

    def _conflicts(self, batch: Batch) -> dict[int, Flaw]:
        """Find rows that have the key of another row of their file and differ from it."""
        rows = batch.frame.with_columns(
            pl.Series(_FILE, batch.file), pl.Series(self._feed.time, batch.times)
        )
        key = [_FILE, *self._key]
        repeated = rows.filter(pl.struct(key).is_duplicated()).unique(maintain_order=True)
        differing = repeated.filter(pl.struct(key).is_duplicated())
        conflicts: dict[int, Flaw] = {}
        for (file,), group in differing.group_by(_FILE, maintain_order=True):
            count = group.height - group.n_unique(key)
            first = group.filter(pl.struct(key) == group.select(pl.struct(key)).to_series()[0])
            times = _integers(group, self._feed.time)
            text = _difference(first.drop(_FILE))
            conflicts[int(file)] = _conflict(text, count, times)
        return conflicts

    # Files whose chunks overlap

    def hashes(self, chunk: Chunk) -> _Hashes:
        """Return hashes of the key of each row and of each whole row, and the times."""
        return (
            chunk.frame.select(self._key).hash_rows().to_numpy(),
            chunk.frame.select(self.columns).hash_rows().to_numpy(),
            _integers(chunk.frame, self._feed.time),
        )

    def recount(
        self, cadence: Cadence, profile: FileProfile, chunks: Sequence[_Hashes]
    ) -> FileProfile:
        """Count the duplicates and conflicts of a file again, over the hashes of all its rows."""
        keys, rows, times = (np.concatenate(column) for column in zip(*chunks, strict=True))
        order = np.lexsort((rows, keys))
        keys, rows, times = keys[order], rows[order], times[order]
        repeated = keys[1:] == keys[:-1]
        differs = repeated & (rows[1:] != rows[:-1])
        flaws = tuple(flaw for flaw in profile.flaws if flaw.kind is not FlawKind.CONFLICT)
        if differs.any():
            text = "rows of one time or number differ"
            flaws += (_conflict(text, int(differs.sum()), times[1:][differs]),)
        runs = profile.runs
        if cadence.kind == "irregular":
            # One run a day, whose ends do not show which rows are in two chunks.
            new = times[np.concatenate([[True], ~repeated])] if len(times) else times
            days, counts = np.unique(new // DAY, return_counts=True)
            runs = runs.copy()
            index = np.searchsorted(days, runs[:, Run._fields.index("first")] // DAY)
            runs[:, Run._fields.index("rows")] = counts[index]
        return replace(profile, duplicates=int(repeated.sum()), runs=runs, flaws=flaws)


def profile_files(
    store: BaseStore,
    feed: FeedTable,
    tasks: Sequence[FileTask],
    *,
    workers: int,
    skip: Callable[[FileError], None] | None,
    notes: Notes | None = None,
) -> Generator[dict[str, FileProfile]]:
    """Read files in full, and yield the profiles of those that were read together, by their keys.

    Parameters
    ----------
    store : BaseStore
    feed : FeedTable
    tasks : sequence of FileTask
    workers : int
        Threads to parse with.
    skip : callable or None
        Called with the error of each file that cannot be read, which is then left out; None
        raises it.
    notes : Notes, optional

    Raises
    ------
    FileError
        For the first file that is invalid, or whose rows do not fit its name.
    """
    # Exact decimals would be checked the same, but slower.
    feed = feed_table(feed.market, feed.data_type)
    profiler = Profiler(feed)
    for interval, group in groupby(tasks, lambda task: task.folder.interval):
        cadence = cadence_of(feed.market, feed.data_type, interval)
        reader = ZipReader(store, feed, profiler.filled, full=True, in_order=False, notes=notes)
        chunks = reader.chunks(
            list(group), profiler.columns, profiler.profile_chunk, workers=workers, skip=skip
        )
        # Of a large file, the profile of the chunks read so far.
        before: FileProfile | None = None
        overlaps = False
        with closing(chunks):
            for chunk, profiles in chunks:
                last_task, _ = chunk.spans[-1]
                if before is not None:
                    overlaps = overlaps or overlap(cadence, before.runs, profiles[0].runs)
                profiles[0] = merge_profiles(cadence, before, profiles[0])
                if not chunk.ends:
                    [before] = profiles
                    continue
                if overlaps:
                    whole = reader.chunks([last_task], profiler.columns, profiler.hashes, workers=1)
                    profiles[-1] = profiler.recount(cadence, profiles[-1], list(whole))
                keys = [task.file.key for task, _ in chunk.spans]
                yield dict(zip(keys, profiles, strict=True))
                before, overlaps = None, False


def merge_profiles(cadence: Cadence, profile: FileProfile | None, more: FileProfile) -> FileProfile:
    """Merge the profiles of two chunks of a file, the second following the first.

    A row that is in both is counted once where rows come by steps or by number.
    """
    if profile is None:
        return more
    runs, shared = merge_runs(cadence, profile.runs, more.runs)
    longest = max(profile.longest_silence, more.longest_silence)
    if len(profile.runs) and len(more.runs):
        longest = max(longest, Run(*more.runs[0]).first - Run(*profile.runs[-1]).last)
    # Statistics that were known before are those of the whole file.
    stats = profile.stats if profile.stats is more.stats else profile.stats + more.stats
    return FileProfile(
        stats,
        profile.duplicates + more.duplicates + shared,
        profile.off_grid + more.off_grid,
        int(longest),
        runs,
        merge_flaws((*profile.flaws, *more.flaws)),
        join_standing(profile.standing, more.standing),
    )


def _on_grid(cadence: Cadence, rows: RowColumns, files: int) -> tuple[RowColumns, Times]:
    """Move rows to the step they lie in; return them, and how many of each file are off the grid.

    A row between two steps is not missing: it is the row of its step.
    """
    steps = cadence.floor_to_grid(rows.time)
    moved = rows.time != steps
    counts = np.bincount(rows.file[moved], minlength=files)
    return (replace(rows, time=steps) if moved.any() else rows), counts


def _sorted_once(cadence: Cadence, rows: RowColumns, new: Marks) -> RowColumns:
    """Return the rows of each file in their order and without duplicates; `new` marks these."""
    if (falls(rows.position) & ~rows.other_file).any():
        order = np.lexsort((rows.time, rows.position, rows.file))
        rows, new = rows.take(order), new[order]
    if cadence.kind != "irregular":
        new = is_first(rows.other_file, rows.position)
    return rows if new.all() else rows.take(new)


def _conflict(text: str, rows: int, times: Times) -> Flaw:
    reason = Reason(text, rows)
    return Flaw(FlawKind.CONFLICT, rows, int(times.min()), int(times.max()), (reason,))


def _difference(rows: pl.DataFrame) -> str:
    """Return the first column in which two rows differ, with both values."""
    for name in rows.columns:
        one, other = rows[name][:2]
        if one != other:
            return f"{name} is both {one} and {other}"
    return "rows differ"


def _integers(frame: pl.DataFrame, name: str) -> Times:
    """Return a column of times (as microseconds since 1970 UTC) or of whole numbers."""
    values = frame[name].to_numpy()
    if frame[name].dtype == MOMENT:
        return values.view(np.int64)
    return values.astype(np.int64, copy=False)
