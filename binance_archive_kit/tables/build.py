"""Build the tables of one feed: write files as new parts, and merge parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from binance_archive_kit.archive.enums import rank_of
from binance_archive_kit.display import render
from binance_archive_kit.errors import DiskSpaceError
from binance_archive_kit.reading.chunks import Chunk, batch_of
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.tables.manifest import FeedFolder, Part
from binance_archive_kit.tables.merging import MOST, due, period_length
from binance_archive_kit.tables.part_writer import PartWriter
from binance_archive_kit.tables.row_reader import Segment
from binance_archive_kit.tables.snapshot import Snapshot, StaleSnapshot, tasks_of

Read = Callable[[Sequence[FileTask]], Iterator[Chunk]]
IsCurrent = Callable[[pl.DataFrame], pl.Series]
#: Rows, the files they are from, and whether the last one ends with them.
_Rows = tuple[pa.RecordBatch, Sequence[tuple[FileTask, int]], bool]


@dataclass(slots=True)
class BuildReport:
    """What a build has done.

    Attributes
    ----------
    files, rows : int
        Files that were added, and their rows.
    written : int
        Rows written, including those of merged parts.
    bytes : int
        Bytes written.
    seconds : float
    """

    files: int = 0
    rows: int = 0
    written: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Build:
    """One build of a feed's tables, by the only builder.

    Parameters
    ----------
    folder : FeedFolder
    feed : FeedTable
    digests : mapping of str to str
        SHA-256 of files in hex, by their paths, as far as it is known.

    Attributes
    ----------
    report : BuildReport
        What was done so far.
    """

    def __init__(self, folder: FeedFolder, feed: FeedTable, digests: Mapping[str, str]) -> None:
        self.report = BuildReport()
        self._digests = dict(digests)
        self._folder = folder
        self._feed = feed

    def add(
        self, period: str, tasks: Sequence[FileTask], read: Read, done: Callable[[int], None]
    ) -> None:
        """Write the rows of files of one period."""
        self._check_space(sum(task.file.packed_size for task in tasks))
        chunks = read(sorted(tasks, key=_order))
        rows = ((batch_of(each, self._feed.arrow), each.spans, each.ends) for each in chunks)
        for part in self._write(period, rows, done):
            self._folder.replace((), [part])
            self.report.files += part.files
            self.report.rows += part.rows

    def merge(self, snapshot: Snapshot, is_current: IsCurrent) -> None:
        """Merge the parts for which it is due, and drop rows of files that were replaced."""
        if not snapshot.parts:
            return
        entries = snapshot.entries()
        entries = entries.filter(is_current(entries))
        live: dict[int, int] = dict(entries.group_by("part").agg(pl.col("rows").sum()).iter_rows())
        rows_left = [live.get(index, 0) for index in range(len(snapshot.parts))]
        for indices in due(snapshot.parts, rows_left, merges_all=self._folder.merges_all):
            merged = [snapshot.parts[index] for index in indices]
            # What cannot be merged now can be read as it is.
            with suppress(DiskSpaceError, StaleSnapshot):
                self._check_space(sum(part.bytes for part in merged))
                kept = entries.filter(pl.col("part").is_in(indices))
                self._digests |= snapshot.digests(kept)
                rows = _rows_of(snapshot, kept, self._feed)
                new = list(self._write(merged[0].period, rows, lambda files: None))
                self._folder.replace([part.name for part in merged], new)

    def _write(
        self, period: str, rows: Iterable[_Rows], done: Callable[[int], None]
    ) -> Iterator[Part]:
        """Write rows, and yield the parts that are complete."""
        writer: PartWriter | None = None
        try:
            for batch, spans, ends in rows:
                writer = writer or PartWriter(self._folder, self._feed, period, self._digests)
                done(writer.add(batch, spans, ends=ends))
                if writer.bytes >= MOST and ends:
                    yield from self._finish(writer)
                    writer = None
            if writer is not None:
                yield from self._finish(writer)
                writer = None
        finally:
            if writer is not None:
                writer.remove()

    def _finish(self, writer: PartWriter) -> Iterator[Part]:
        part = writer.finish()
        if part.files:
            self.report.written += part.rows
            self.report.bytes += part.bytes
            yield part
        else:
            self._folder.remove(part.name)

    def _check_space(self, size: int) -> None:
        size = min(size, self._folder.most_on_disk)
        free = shutil.disk_usage(self._folder.path).free
        if free < size:
            raise DiskSpaceError(
                f"the tables of {self._feed.view} need about {render.size(size)}, and "
                f"{render.size(free)} are free on the disk of {self._folder.path}; "
                "free some space, or read without tables"
            )


def by_period(tasks: Sequence[FileTask], entries: pl.DataFrame) -> dict[str, list[FileTask]]:
    """Group files by the period of their part, so that a period is not much more than a part."""
    month = pl.col("start").dt.strftime("%Y-%m")
    months: dict[str, int] = dict(entries.group_by(month).agg(pl.col("size").sum()).iter_rows())
    for task in tasks:
        name = f"{task.file.start:%Y-%m}"
        months[name] = months.get(name, 0) + task.file.packed_size
    length = period_length(months)
    periods: dict[str, list[FileTask]] = {}
    for task in sorted(tasks, key=lambda task: task.file.start):
        periods.setdefault(str(task.file.start)[:length], []).append(task)
    return periods


def _order(task: FileTask) -> tuple[object, ...]:
    """Return what files are sorted by within a part."""
    folder, file = task.folder, task.file
    return folder.symbol, rank_of(folder.interval), file.start, file.path


def _rows_of(snapshot: Snapshot, entries: pl.DataFrame, feed: FeedTable) -> Iterator[_Rows]:
    """Yield the rows of files in several parts, in the order of a part."""
    files = sorted(tasks_of(entries), key=lambda pair: _order(pair[0]))

    def damaged(segment: Segment) -> Iterator[pa.RecordBatch]:
        raise StaleSnapshot(f"{segment} is damaged")

    waiting = ((task, segment.rows) for task, segment in files)
    segments = [segment for _, segment in files if segment.rows]
    left = 0
    for _, batch in snapshot.read([segments], feed.arrow.names, None, damaged):
        spans: list[tuple[FileTask, int]] = []
        room = batch.num_rows
        while room:
            if not left:
                task, left = next(waiting)
            taken = min(left, room)
            left, room = left - taken, room - taken
            spans.append((task, taken))
        yield batch, spans, not left
    if empty := list(waiting):
        yield pa.RecordBatch.from_pylist([], schema=feed.arrow), empty, True
