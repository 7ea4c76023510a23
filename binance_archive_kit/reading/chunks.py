"""Turn csv text into chunks of checked rows.

The first time rows of a file are read, every row is checked against the file's name: number of
columns, unit of the times, days, order. If rows are only counted, only the first and last time
are checked. A file is not checked again while its recorded statistics match its stamp.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from binance_archive_kit.errors import FileError
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask, Irregularity
from binance_archive_kit.reading.parse import CsvParser, check_filled
from binance_archive_kit.reading.unzip import CsvChunk, Unzipper

T = TypeVar("T")
#: Rows of a batch whose rows are only counted.
_ROWS = 1 << 19


@dataclass(slots=True)
class Chunk:
    """Rows that were read together.

    Attributes
    ----------
    spans : list of (FileTask, int)
        The files, and how many of the rows each has, in their order.
    frame : polars.DataFrame
        The requested columns; no column if rows are only counted.
    stats : list of FileStats
        For each span, what these rows show of its file; empty if that was known.
    inflated : int
        Bytes of csv that were parsed.
    ends : bool
        Whether the file of the last span ends with this chunk.
    """

    spans: list[tuple[FileTask, int]]
    frame: pl.DataFrame
    stats: list[FileStats] = field(default_factory=list)
    inflated: int = 0
    ends: bool = True


class Notes:
    """Receives the results of reading files; does nothing unless overridden."""

    def completed(self, task: FileTask, stats: FileStats) -> None:
        """Note the statistics of a file that was read to its end."""

    def rejected(self, task: FileTask, error: FileError) -> FileError:
        """Note that a file cannot be read; return the error to raise."""
        return error


@dataclass(frozen=True, slots=True)
class ReadRequest(Generic[T]):
    """A request to read columns of files.

    Attributes
    ----------
    columns : set of str
        Own columns, and ``date``.
    finish : callable
        Called with each `Chunk` on a reading thread; returns the result.
    workers : int
        Threads to parse with.
    skip : callable or None
        Called with the error of a file that cannot be read, which is then left out; None
        raises it.
    in_order : bool
        Whether the rows of each file are to be in the order of time.
    notes : Notes
    """

    columns: set[str]
    finish: Callable[[Chunk], T]
    workers: int
    skip: Callable[[FileError], None] | None
    in_order: bool
    notes: Notes


class ChunkReader:
    """Parses and checks the csv of one feed's files.

    Parameters
    ----------
    feed : FeedTable
    unzipper : Unzipper
    filled : collection of str
        Columns without empty fields, among those that are read; the time always is one.
    full : bool
        Parse every column of files that were not parsed in full before.
    """

    def __init__(
        self, feed: FeedTable, unzipper: Unzipper, filled: Collection[str], *, full: bool
    ) -> None:
        self._feed = feed
        self._schema = feed.schema
        self._filled = filled
        self._full = full
        self.unzipper = unzipper
        self.parser = CsvParser(feed, unzipper)
        self.time = feed.time

    def needs_rows(self, columns: set[str]) -> bool:
        """Return whether columns come from the rows, and not only from the names of files."""
        return "date" in columns or not columns.isdisjoint(self._feed.columns)

    def unzip(
        self, task: FileTask, columns: set[str], fetched: bytes | Exception | None = None
    ) -> CsvChunk:
        """Read the csv of a small file, of which something may have been read ahead.

        Raises
        ------
        FileError, LargeText
        """
        csv = self.unzipper.read(task, fetched)
        if not self.needs_rows(columns):
            # Now, while the bytes are in the processor's cache.
            self.unzipper.has_other_letters(csv)
        return csv

    def read(self, csv_chunks: Sequence[CsvChunk], columns: set[str]) -> Chunk:
        """Read files of one layout, each of them whole.

        Raises
        ------
        FileError
        """
        return self._from_ends(csv_chunks, columns) or self._from_rows(csv_chunks, columns)

    def read_one(self, csv: CsvChunk, columns: set[str]) -> Chunk:
        """Read one file, or a part of it.

        Raises
        ------
        FileError
        """
        try:
            chunk = self._from_ends([csv], columns)
        except FileError:
            # All rows may show that it is readable.
            chunk = None
        return chunk or self._from_rows([csv], columns)

    def _from_ends(self, csv_chunks: Sequence[CsvChunk], columns: set[str]) -> Chunk | None:
        """Return a chunk without columns; None if its rows have to be parsed."""
        if (
            self._schema.time.kind != "epoch"
            or not self._schema.sorted
            or self._feed.decimals
            or self.needs_rows(columns)
            or self._full
            or csv_chunks[0].task.without
            or csv_chunks[0].layout
        ):
            return None
        stats = self.parser.stats_from_ends(csv_chunks)
        if stats is None:
            return None
        inflated = sum(len(csv.body) for csv in csv_chunks)
        return Chunk(_spans(csv_chunks), pl.DataFrame(), stats, inflated, csv_chunks[-1].ends)

    def _from_rows(self, csv_chunks: Sequence[CsvChunk], columns: set[str]) -> Chunk:
        """Parse all rows, and check those that are read for the first time."""
        task, known = csv_chunks[0].task, [csv.task.stats for csv in csv_chunks]
        check = not all(
            stats is not None and stats.checked and (stats.full or not self._full)
            for stats in known
        )
        unsorted = self._schema.sorted and not all(stats is None or stats.sorted for stats in known)
        midnight = known[0] is not None and Irregularity.NEXT_MIDNIGHT in known[0].irregularities
        timed = unsorted or bool(task.without) or midnight
        names = self._columns_to_parse(columns, check=check, timed=timed)
        frame, parsed = self.parser.parse(csv_chunks, names)
        if check and frame[self._schema.columns[-1].column].null_count():
            # Either fields are empty, or rows differ in length and have the right number in all.
            for csv in parsed:
                self.unzipper.check_rows(csv)
        frame = self.parser.with_datetimes(frame, parsed)
        self._check_filled(frame, parsed)
        if len(parsed) == 1 and (check or midnight):
            frame, parsed[0] = self.parser.without_next_midnight(frame, parsed[0])
        full = len(names) == len(self._feed.csv_types)
        stats = self.parser.stats(frame, parsed, full=full) if check else []
        spans = _spans(parsed)
        if self._schema.sorted:
            frame = self._in_order(frame, spans, stats or known)
        if "date" in columns or task.without:
            # Faster than a query with the other expressions.
            days = frame[self.time].cast(pl.Date).alias("date")
            frame = frame.drop("date", strict=False).hstack([days])
        if task.without:
            frame = frame.filter(~pl.col("date").is_in(task.without))
            spans = [(task, frame.height)]
        inflated = sum(len(csv.body) for csv in parsed)
        return Chunk(spans, _requested(frame, columns), stats, inflated, csv_chunks[-1].ends)

    def _columns_to_parse(self, columns: set[str], *, check: bool, timed: bool) -> set[str]:
        """Return the csv columns that give `columns`, and those that are checked."""
        time = self._schema.time
        names = columns & self._feed.columns.keys()
        if check or timed or "date" in columns:
            names = names | {time.column}
        if time.column in names:
            names = names | set(time.made_from)
        if check:
            names = names | {"symbol", self._schema.columns[-1].column}
        if check and self._full:
            names = names | self._feed.csv_types.keys()
        return names & self._feed.csv_types.keys()

    def _check_filled(self, frame: pl.DataFrame, csv_chunks: Sequence[CsvChunk]) -> None:
        for name in self._filled:
            try:
                check_filled(name, frame, csv_chunks)
            except FileError as error:
                # Other readers accept the file.
                error.lasting = False
                raise

    def _in_order(
        self,
        frame: pl.DataFrame,
        spans: Sequence[tuple[FileTask, int]],
        known: Sequence[FileStats | None],
    ) -> pl.DataFrame:
        """Sort the rows of each file by time, if they are not."""
        if all(stats is None or stats.sorted for stats in known):
            return frame
        parts, start = [], 0
        for _, rows in spans:
            parts.append(frame.slice(start, rows).sort(self.time, maintain_order=True))
            start += rows
        return pl.concat(parts)


def _spans(csv_chunks: Sequence[CsvChunk]) -> list[tuple[FileTask, int]]:
    return [(csv.task, csv.rows) for csv in csv_chunks]


def _requested(frame: pl.DataFrame, columns: set[str]) -> pl.DataFrame:
    """Return the requested columns, with empty texts as null."""
    words = [name for name, dtype in frame.schema.items() if dtype == pl.String and name in columns]
    if words:
        frame = frame.with_columns(pl.col(words).replace("", None))
    return frame[[name for name in frame.columns if name in columns]]


def count_chunks(spans: Iterable[tuple[FileTask, int | None]]) -> Iterator[Chunk]:
    """Yield chunks without columns for files whose number of rows is known."""
    chunk: list[tuple[FileTask, int]] = []
    room = _ROWS
    for task, rows in spans:
        left = rows or 0
        while left:
            taken = min(left, room)
            chunk.append((task, taken))
            left, room = left - taken, room - taken
            if not room:
                yield Chunk(chunk, pl.DataFrame())
                chunk, room = [], _ROWS
    if chunk:
        yield Chunk(chunk, pl.DataFrame())


def batch_of(chunk: Chunk, schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows of a chunk as a batch.

    Parameters
    ----------
    chunk : Chunk
    schema : pyarrow.Schema
        The columns, in their order: path columns, and columns of the chunk's frame.
    """
    table = chunk.frame.to_arrow()
    folders = [
        (stored.folder, sum(rows for _, rows in spans))
        for stored, spans in groupby(chunk.spans, lambda span: span[0].stored)
    ]
    arrays = []
    for name in schema.names:
        if name in table.column_names:
            arrays.append(table.column(name).combine_chunks())
        elif name == "file":
            arrays.append(_repeat([(task.file.path, rows) for task, rows in chunk.spans]))
        else:
            arrays.append(_repeat([(getattr(folder, name), rows) for folder, rows in folders]))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _repeat(runs: Sequence[tuple[str | None, int]]) -> pa.DictionaryArray:
    """Return a dictionary array that repeats each word as often as its number says."""
    words, counts = zip(*runs, strict=True) if runs else ((), ())
    known = list(dict.fromkeys(word for word in words if word is not None))
    positions: dict[str | None, int] = {word: index for index, word in enumerate(known)}
    if len(known) == len(set(words)) == 1 and sum(counts) <= _ROWS:
        indices = _zeros()[: sum(counts)]
    else:
        indices = np.repeat([positions.get(word, -1) for word in words], counts).astype(np.int32)
    absent = indices < 0 if None in words else None
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, mask=absent), pa.array(map(str, known), pa.string()), safe=False
    )


@cache
def _zeros() -> npt.NDArray[np.int32]:
    """Return the indices of a repeated single word; never written to."""
    return np.zeros(_ROWS, np.int32)
