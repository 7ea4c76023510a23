"""Write one part: the rows of files as they come, and an entry for each complete file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
import pyarrow as pa

from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.storage.record_objects import new_id
from binance_archive_kit.tables.manifest import FeedFolder, Part
from binance_archive_kit.tables.parquet_writer import ParquetWriter, RowGroups
from binance_archive_kit.tables.row_reader import footer_crc
from binance_archive_kit.tables.snapshot import STORED_SCHEMA

#: Files in a row group of entries: what is read for one symbol.
_ENTRIES = 4096
NO_DIGESTS: Mapping[str, str] = MappingProxyType({})


class PartWriter:
    """Writes one part.

    Parameters
    ----------
    folder : FeedFolder
    feed : FeedTable
    period : str
    digests : mapping of str to str, optional
        SHA-256 of files in hex, by their paths, as far as it is known.

    Attributes
    ----------
    rows : int
        Rows that were added.
    """

    def __init__(
        self,
        folder: FeedFolder,
        feed: FeedTable,
        period: str,
        digests: Mapping[str, str] = NO_DIGESTS,
    ) -> None:
        self._digests = digests
        self.rows = 0
        self._name = f"{period or 'all'}-{new_id()}"
        self._folder = folder
        self._period = period
        self._time = feed.time
        self._writer = ParquetWriter(folder.data(self._name), feed.arrow, fast=True)
        self._groups = RowGroups(feed.arrow)
        self._entries: list[tuple[object, ...]] = []
        self._days: set[str] = set()
        #: The file whose rows are being added: its path, first row, earliest and latest time.
        self._path = ""
        self._row = 0
        self._times: list[int] = []

    @property
    def bytes(self) -> int:
        """Bytes of rows that were written."""
        return self._writer.bytes

    def add(
        self, batch: pa.RecordBatch, spans: Sequence[tuple[FileTask, int]], *, ends: bool
    ) -> int:
        """Add rows; return the number of files that are complete.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            All columns of the feed.
        spans : sequence of (FileTask, int)
            The files, and how many of the rows each has, in their order.
        ends : bool
            Whether the last file ends with these rows.
        """
        for group in self._groups.add(batch, spans):
            self._writer.write(group)
        before = len(self._entries)
        for index, ((task, rows), times) in enumerate(
            zip(spans, self._limits(batch, spans), strict=True)
        ):
            if task.file.path != self._path:
                self._path, self._row, self._times = task.file.path, self.rows, []
            self.rows += rows
            self._times += times
            if ends or index < len(spans) - 1:
                self._add_entry(task)
        return len(self._entries) - before

    def _add_entry(self, task: FileTask) -> None:
        file, folder, times = task.file, task.folder, self._times
        self._days |= {str(file.start), str(file.end)}
        self._entries.append(
            (
                *(file.path, file.key, folder.symbol, folder.interval, folder.partition),
                *(file.start, file.end, *file.stamp, self._digests.get(file.path)),
                self.rows - self._row,
                *(min(times, default=None), max(times, default=None), self._row),
            )
        )
        self._path = ""

    def _limits(
        self, batch: pa.RecordBatch, spans: Sequence[tuple[FileTask, int]]
    ) -> Iterator[list[int]]:
        """Yield the earliest and the latest time of each file's rows, if it has any."""
        times = batch.column(self._time).cast(pa.int64()).to_numpy(zero_copy_only=False)
        counts = np.array([rows for _, rows in spans if rows], dtype=np.int64)
        starts = np.cumsum(counts) - counts
        limits = (np.minimum.reduceat(times, starts), np.maximum.reduceat(times, starts))
        pairs = iter(np.stack(limits, axis=1).tolist() if len(starts) else ())
        for _, rows in spans:
            yield next(pairs) if rows else []

    def finish(self) -> Part:
        """Complete the part; its files are listed nowhere yet."""
        for group in self._groups.rest():
            self._writer.write(group)
        self._writer.close()
        entries = pl.DataFrame(self._entries, schema=STORED_SCHEMA, orient="row")
        data, path = self._folder.data(self._name), self._folder.entries(self._name)
        write_entries(path, entries)
        symbols = entries["symbol"].unique().to_list() or [""]
        return Part(
            self._name,
            self._period,
            self.rows,
            len(self._entries),
            min(self._days, default=""),
            max(self._days, default=""),
            data.stat().st_size,
            footer_crc(data),
            path.stat().st_size,
            footer_crc(path),
            min(symbols),
            max(symbols),
        )

    def remove(self) -> None:
        """Remove the files."""
        self._writer.abort()
        self._folder.remove(self._name)


def write_entries(path: Path, entries: pl.DataFrame) -> None:
    """Write the entries of a part, with the columns of `STORED_SCHEMA`."""
    table = entries.to_arrow()
    with ParquetWriter(path, table.schema) as writer:
        for start in range(0, len(table), _ENTRIES):
            writer.write(table.slice(start, _ENTRIES))
