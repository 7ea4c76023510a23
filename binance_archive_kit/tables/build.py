"""Build the tables of one feed: write files as new parts, and merge parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from binance_archive_kit.archive.enums import Interval
from binance_archive_kit.display import render
from binance_archive_kit.errors import DiskSpaceError
from binance_archive_kit.reading.chunks import Chunk, batch_of
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.storage.inventory import Form
from binance_archive_kit.tables.manifest import FeedFolder, Part
from binance_archive_kit.tables.merging import MOST, Candidate, due, period_length
from binance_archive_kit.tables.part_writer import FileRows, PartWriter, SourceFile, files_of
from binance_archive_kit.tables.row_reader import Segment
from binance_archive_kit.tables.snapshot import Snapshot, StaleSnapshot

Read = Callable[[Sequence[FileTask]], Iterator[Chunk]]
IsCurrent = Callable[[pl.DataFrame], pl.Series]

_RANKS: dict[str | None, int] = {interval: rank for rank, interval in enumerate(Interval)}
#: Bytes of csv that take one byte in a table.
_PACKED = 8


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
    report : BuildReport
        Updated.
    limit : int
        Bytes after which no more files are added.
    """

    def __init__(
        self, folder: FeedFolder, feed: FeedTable, report: BuildReport, limit: int
    ) -> None:
        self._folder = folder
        self._feed = feed
        self._report = report
        self._limit = limit

    def add(
        self, period: str, tasks: Sequence[FileTask], read: Read, done: Callable[[int], None]
    ) -> None:
        """Write the rows of files of one period."""
        if self._report.bytes >= self._limit:
            return
        self._check_space(sum(map(_estimate, tasks)))

        def batches() -> Iterator[tuple[pa.RecordBatch, list[FileRows]]]:
            for chunk, files in files_of(read(tasks)):
                yield batch_of(chunk, self._feed.arrow), files
                done(sum(each.is_last for each in files))

        for part in self._write(period, batches()):
            self._folder.replace((), [part])
            self._report.files += part.files
            self._report.rows += part.rows

    def merge(self, snapshot: Snapshot, is_current: IsCurrent) -> None:
        """Merge the parts for which it is due, and drop the rows of other files from them."""
        if not snapshot.parts:
            return
        entries = snapshot.entries()
        entries = entries.filter(is_current(entries))
        live = dict(entries.group_by("part").agg(pl.col("rows").sum()).iter_rows())
        candidates = [
            Candidate(part.name, part.period, part.rows, live.get(index, 0), part.bytes)
            for index, part in enumerate(snapshot.parts)
        ]
        indices = {part.name: index for index, part in enumerate(snapshot.parts)}
        for names in due(candidates):
            merged = [indices[name] for name in names]
            with suppress(DiskSpaceError, StaleSnapshot):
                self._check_space(sum(snapshot.parts[index].bytes for index in merged))
                period = snapshot.parts[merged[0]].period
                rows = _merged(snapshot, entries.filter(pl.col("part").is_in(merged)), self._feed)
                new = list(self._write(period, rows))
                self._folder.replace(names, new)

    def _write(
        self, period: str, batches: Iterable[tuple[pa.RecordBatch, list[FileRows]]]
    ) -> Iterator[Part]:
        """Write rows, and yield the parts that are complete."""
        writer: PartWriter | None = None
        try:
            for batch, files in batches:
                writer = writer or PartWriter(self._folder, self._feed, period)
                writer.add(batch, files)
                if writer.bytes >= MOST and files[-1].is_last:
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
        if part is not None:
            self._report.written += part.rows
            self._report.bytes += part.bytes
            yield part

    def _check_space(self, size: int) -> None:
        free = shutil.disk_usage(self._folder.path).free
        if free < size:
            raise DiskSpaceError(
                f"the tables of {self._feed.view} need about {render.size(size)}, and "
                f"{render.size(free)} are free on the disk of {self._folder.path}; "
                "free some space, or read without tables"
            )


def by_period(
    tasks: Sequence[FileTask], entries: pl.DataFrame
) -> Iterator[tuple[str, list[FileTask]]]:
    """Group files by the period of their part, each group in the order of its rows."""
    month = pl.col("start").dt.strftime("%Y-%m")
    months: dict[str, int] = dict(entries.group_by(month).agg(pl.col("size").sum()).iter_rows())
    for task in tasks:
        name = f"{task.file.start:%Y-%m}"
        months[name] = months.get(name, 0) + _estimate(task)
    length = period_length(months)
    groups: dict[str, list[FileTask]] = {}
    for task in tasks:
        groups.setdefault(str(task.file.start)[:length], []).append(task)
    for period in sorted(groups):
        yield period, sorted(groups[period], key=_order_of_task)


def _estimate(task: FileTask) -> int:
    """Return about how many bytes the rows of a file take: as many as its zip."""
    return task.file.size // (_PACKED if task.file.form is Form.CSV else 1)


def _order_of_task(task: FileTask) -> tuple[object, ...]:
    folder, file = task.folder, task.file
    return folder.symbol, _RANKS.get(folder.interval, -1), file.start, file.path


def _order(file: SourceFile) -> tuple[object, ...]:
    return file.symbol, _RANKS.get(file.interval, -1), file.start, file.path


def _merged(
    snapshot: Snapshot, entries: pl.DataFrame, feed: FeedTable
) -> Iterator[tuple[pa.RecordBatch, list[FileRows]]]:
    """Yield the rows of files in several parts, in the order of a part."""
    width = len(SourceFile._fields)
    columns = [*SourceFile._fields, "part", "row", "rows"]
    rows = [
        (SourceFile(*values[:width]), Segment(*values[width:]))
        for values in entries.select(columns).iter_rows()
    ]
    rows.sort(key=lambda pair: _order(pair[0]))
    files = iter(rows)

    def damaged(segment: Segment) -> Iterator[pa.RecordBatch]:
        raise StaleSnapshot("a part is damaged")

    segments = [segment for _, segment in rows]
    left, is_first = 0, True
    for _, batch in snapshot.read([segments], feed.arrow.names, None, damaged):
        found: list[FileRows] = []
        room = batch.num_rows
        while room:
            if not left:
                file, segment = next(files)
                left, is_first = segment.rows, True
            taken = min(left, room)
            left, room = left - taken, room - taken
            found.append(FileRows(file, taken, is_first, is_last=not left))
            is_first = False
        yield batch, found
    if empty := [FileRows(file, 0, True, True) for file, _ in files]:
        yield pa.RecordBatch.from_pylist([], schema=feed.arrow), empty
