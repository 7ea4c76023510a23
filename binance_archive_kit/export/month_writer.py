"""Write the rows of some months, each to a Parquet file of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binance_archive_kit.export.footers import Footer, footer_text
from binance_archive_kit.export.sources import MonthSources
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.tables.parquet_writer import FEW_ROWS, MOST_ROWS, ParquetWriter

#: Columns that are levels of the folders.
_LEVELS = ("market", "interval")
#: Estimated bytes up to which months of a feed are written together. The rows come symbol by
#: symbol, so that each month has a row group in memory.
_TOGETHER = 16 << 20


class Job(NamedTuple):
    """A file to write.

    Attributes
    ----------
    month : MonthSources
    footer : Footer
        Without the number of rows.
    path : Path
    """

    month: MonthSources
    footer: Footer
    path: Path


def grouped(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Group the files of consecutive months of a feed that are written together."""
    group: list[Job] = []
    size = 0
    for job in jobs:
        month = job.month
        size += month.estimate
        if group:
            before = group[-1].month
            follows = (before.feed, before.folder.interval) == (month.feed, month.folder.interval)
            if not follows or before.selection.end != month.selection.start or size > _TOGETHER:
                yield group
                group, size = [], month.estimate
        group.append(job)
    if group:
        yield group


def write_months(engine: Engine, group: Sequence[Job], tick: Callable[[], None]) -> list[int]:
    """Write the rows of consecutive months; return their numbers. Without rows, there is no file.

    Parameters
    ----------
    engine : Engine
    group : sequence of Job
    tick : callable
        Called now and then.

    Raises
    ------
    FileError
        For an invalid source, unless the store leaves such files out.
    OSError
        If a file cannot be written.
    """
    months = [job.month for job in group]
    feed, first, last = months[0].feed, months[0].selection, months[-1].selection
    selection = Selection(first.symbols, first.intervals, first.start, last.end)
    naive = pa.timestamp("us")
    where = pc.field(feed.time) >= pa.scalar(first.start, naive)
    where &= pc.field(feed.time) < pa.scalar(last.end, naive)
    limits = np.array([month.selection.start for month in months], "datetime64[us]")
    schema = schema_of(feed)
    files = [_File(job, schema) for job in group]
    try:
        # The rows are read once: no tables are built for it.
        with closing(engine.scan(feed, schema.names, selection, where, in_full=False)) as batches:
            for batch in batches:
                tick()
                for index, symbol, piece in _pieces(batch, feed.time, limits.astype(np.int64)):
                    files[index].add(symbol, piece)
        return [file.finish() for file in files]
    finally:
        for file in files:
            file.abort()


def schema_of(feed: FeedTable) -> pa.Schema:
    """Return the columns of a file: those of `scan`, without the levels of its folder."""
    return pa.schema(
        field.with_type(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(field.type) else field
        for field in feed.arrow
        if field.name not in _LEVELS
    )


def _pieces(
    batch: pa.RecordBatch, time: str, limits: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Iterator[tuple[int, str, pa.RecordBatch]]:
    """Split a batch where the month or the symbol changes.

    Yields
    ------
    (int, str, pyarrow.RecordBatch)
        The index of the month, the symbol, and rows.
    """
    if not batch.num_rows:
        return
    times = batch.column(time).cast(pa.int64()).to_numpy(zero_copy_only=False)
    months = np.searchsorted(limits, times, side="right") - 1
    symbols = batch.column("symbol")
    codes = symbols.indices.to_numpy()
    changes = np.flatnonzero((np.diff(months) != 0) | (np.diff(codes) != 0)) + 1
    # Each piece would keep the words of the whole batch, such as the paths of all files.
    rows = pa.RecordBatch.from_arrays([*map(_decoded, batch.columns)], batch.schema.names)
    for start, end in pairwise([0, *changes.tolist(), batch.num_rows]):
        yield int(months[start]), symbols[start].as_py(), rows.slice(start, end - start)


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


class _File:
    """A file that is being written, row group by row group."""

    def __init__(self, job: Job, schema: pa.Schema) -> None:
        self._path = job.path
        self._schema = schema
        footer = job.footer
        self._metadata = footer_text(footer.sources, footer.digest, footer.verdict, footer.settings)
        self._writer: ParquetWriter | None = None
        self._held: list[pa.RecordBatch] = []
        self._rows = 0
        self._symbol = ""

    def add(self, symbol: str, rows: pa.RecordBatch) -> None:
        """Add rows of a symbol. A row group ends with a symbol if possible."""
        if self._rows >= FEW_ROWS and symbol != self._symbol:
            self._write()
        self._symbol = symbol
        while self._rows + rows.num_rows > MOST_ROWS:
            room = MOST_ROWS - self._rows
            self._hold(rows.slice(0, room))
            self._write()
            rows = rows.slice(room)
        self._hold(rows)

    def _hold(self, rows: pa.RecordBatch) -> None:
        if rows.num_rows:
            self._held.append(rows)
            self._rows += rows.num_rows

    def _write(self) -> None:
        if not self._held:
            return
        rows = pa.Table.from_batches(self._held).combine_chunks()
        self._held, self._rows = [], 0
        columns = [
            column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
            for column, field in zip(rows.columns, self._schema, strict=True)
        ]
        if self._writer is None:
            self._writer = ParquetWriter(self._path, self._schema, self._metadata)
        group = pa.Table.from_arrays(columns, rows.schema.names)
        self._writer.write(group.cast(self._schema))

    def finish(self) -> int:
        """Complete the file, and return the number of its rows."""
        self._write()
        writer = self._writer
        if writer is None:
            return 0
        writer.close()
        # Until here it may have to be aborted.
        self._writer = None
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())
        return writer.rows

    def abort(self) -> None:
        """Close the file, if it is not complete."""
        if self._writer is not None:
            self._writer.abort()
