"""Write one part: the rows of files as they come, and an entry for each complete file."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from binance_archive_kit.reading.chunks import Chunk
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.tables.manifest import Checked, FeedFolder, Part
from binance_archive_kit.tables.parquet_writer import ParquetWriter, RowGroups
from binance_archive_kit.tables.snapshot import STORED_SCHEMA

#: Entries of a row group: what is read for one symbol.
_ENTRIES = 4096


class SourceFile(NamedTuple):
    """The first columns of an entry."""

    path: str
    key: str
    symbol: str
    interval: str | None
    partition: str
    start: date
    end: date
    size: int
    mtime: int
    ctime: int
    inode: int
    sha256: str | None

    @property
    def stream(self) -> tuple[str, str | None]:
        """Symbol and interval."""
        return self.symbol, self.interval


class FileRows(NamedTuple):
    """Some rows of a batch.

    Attributes
    ----------
    file : SourceFile
        Where they come from.
    rows : int
    is_first, is_last : bool
        Whether the file begins, and ends, with them.
    """

    file: SourceFile
    rows: int
    is_first: bool
    is_last: bool


def files_of(chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[FileRows]]]:
    """Yield for each chunk the files that its rows are from."""
    unfinished: str | None = None
    for chunk in chunks:
        files = []
        for task, rows in chunk.spans:
            folder, file = task.folder, task.file
            names = folder.symbol, folder.interval, folder.partition
            source = SourceFile(
                file.path, file.key, *names, file.start, file.end, *file.stamp, None
            )
            files.append(FileRows(source, rows, file.path != unfinished, is_last=True))
            unfinished = None
        if files and not chunk.ends:
            files[-1] = files[-1]._replace(is_last=False)
            unfinished = files[-1].file.path
        yield chunk, files


class PartWriter:
    """Writes one part.

    Parameters
    ----------
    folder : FeedFolder
    feed : FeedTable
    period : str
    """

    def __init__(self, folder: FeedFolder, feed: FeedTable, period: str) -> None:
        self._name = f"{period or 'all'}-{uuid.uuid4().hex[:12]}"
        self._folder = folder
        self._period = period
        self._time = feed.time
        self._writer = ParquetWriter(folder.data(self._name), feed.arrow)
        self._groups = RowGroups(feed.arrow)
        self._entries: list[tuple[SourceFile, int, int | None, int | None, int]] = []
        #: First row, earliest and latest time of the file whose rows are being added.
        self._file: tuple[int, int | None, int | None] = 0, None, None
        self.rows = 0

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        return self._writer.bytes

    @property
    def files(self) -> int:
        """Files that were added completely."""
        return len(self._entries)

    def add(self, batch: pa.RecordBatch, files: Sequence[FileRows]) -> None:
        """Add rows.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            All columns of the feed.
        files : sequence of FileRows
            All of its rows, in order.
        """
        spans = [(each.file.stream, each.rows, each.is_first) for each in files]
        for group in self._groups.add(batch, spans):
            self._writer.write(group)
        for each, (first, last) in zip(files, self._times(batch, files), strict=True):
            if each.is_first:
                self._file = self.rows, None, None
            self.rows += each.rows
            row, earliest, latest = self._file
            first = min((t for t in (earliest, first) if t is not None), default=None)
            last = max((t for t in (latest, last) if t is not None), default=None)
            self._file = row, first, last
            if each.is_last:
                self._entries.append((each.file, self.rows - row, first, last, row))

    def _times(
        self, batch: pa.RecordBatch, files: Sequence[FileRows]
    ) -> Iterator[tuple[int | None, int | None]]:
        """Yield the earliest and the latest time of each file's rows."""
        times = batch.column(self._time).cast(pa.int64()).to_numpy(zero_copy_only=False)
        counts = np.array([each.rows for each in files if each.rows], dtype=np.int64)
        starts = np.cumsum(counts) - counts
        first = iter(np.minimum.reduceat(times, starts).tolist() if len(starts) else ())
        last = iter(np.maximum.reduceat(times, starts).tolist() if len(starts) else ())
        for each in files:
            yield (next(first), next(last)) if each.rows else (None, None)

    def finish(self) -> Part | None:
        """Complete the two files; None, and no file, if there is no entry."""
        for group in self._groups.rest():
            self._writer.write(group)
        self._writer.close()
        if not self._entries:
            self.remove()
            return None
        # Neighbours are written in the order of symbols, so that one symbol is read cheaply.
        rows = [(*file, *others) for file, *others in self._entries]
        entries = pl.DataFrame(rows, schema=STORED_SCHEMA, orient="row").to_arrow()
        path = self._folder.entries(self._name)
        with ParquetWriter(path, entries.schema) as writer:
            for start in range(0, len(entries), _ENTRIES):
                writer.write(entries.slice(start, _ENTRIES))
        return Part(
            self._name,
            self._period,
            self.rows,
            len(self._entries),
            str(min(file.start for file, *_ in self._entries)),
            str(max(file.end for file, *_ in self._entries)),
            Checked.of(self._folder.data(self._name)),
            Checked.of(path),
        )

    def remove(self) -> None:
        """Remove the files."""
        self._writer.abort()
        for path in (self._folder.data(self._name), self._folder.entries(self._name)):
            with suppress(OSError):
                path.unlink()
