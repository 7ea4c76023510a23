"""Read segments of parts in order; each row group is decoded once, some ahead on threads."""

from __future__ import annotations

import errno
import os
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pyarrow import types

from binance_archive_kit.reading.feed_table import words_of

#: Rows from which a batch is not joined with the next one.
_BATCH = 16_384
#: A column for the number of a row, to know which rows a condition has left.
_NUMBER = "__number"
#: Bytes at the end of a Parquet file: the length of its footer, and a magic number.
_TAIL = 8
OTHER_FOOTER = "it has another footer"
_FORM = ds.ParquetFileFormat()
_SYSTEM = pafs.LocalFileSystem()


class Segment(NamedTuple):
    """Consecutive rows of a part.

    Attributes
    ----------
    part : int
        Index of the part in its snapshot.
    row : int
        The first row.
    rows : int
    """

    part: int
    row: int
    rows: int


class Piece(NamedTuple):
    """Consecutive rows of a row group, for one group of segments.

    Attributes
    ----------
    group : int
        Index of the group of segments.
    part, row_group : int
    start, end : int
        Rows within the row group, the end exclusive.
    """

    group: int
    part: int
    row_group: int
    start: int
    end: int


class UnreadableFile(Exception):
    """A Parquet file is damaged or gone, or cannot be read now.

    Attributes
    ----------
    is_passing : bool
        Whether the file may be sound: the system has too few resources, or denies access.
    """

    def __init__(self, path: Path | str, error: Exception) -> None:
        super().__init__(f"{path}: {error}")
        number = error.errno if isinstance(error, OSError) else None
        self.is_passing = number not in (None, errno.ENOENT) or isinstance(error, MemoryError)


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Convert errors of a file that is damaged or gone to an `UnreadableFile`."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise UnreadableFile(path, error) from None


class OpenFile:
    """A Parquet file that stays readable after it is deleted; for several threads.

    Parameters
    ----------
    path : Path
        The file is marked as used now.
    size, crc : int
        Its bytes, and the CRC-32 of its footer.

    Attributes
    ----------
    fragment : pyarrow.dataset.Fragment
        The footer.
    starts : tuple of int
        First row of each row group, and the number of rows.
    threads : int
        Threads that read it best.

    Raises
    ------
    UnreadableFile
    """

    threads = min(os.cpu_count() or 1, 8)

    def __init__(self, path: Path, size: int, crc: int) -> None:
        self._path: Path | str = path
        with reading(path):
            self._file = pa.OSFile(str(path))
            if self._file.size() != size:
                raise pa.ArrowInvalid(f"it has {self._file.size():,} bytes, not {size:,}")
            self.fragment, self.starts = _footer(path, crc)
        with suppress(OSError):
            os.utime(path)

    def decode(self, row_group: int, columns: Sequence[str]) -> pa.Table:
        """Decode some columns of a row group, in the given order.

        Raises
        ------
        UnreadableFile
        """
        rows = self.starts[row_group + 1] - self.starts[row_group]
        with reading(self._path):
            # A reader is for one thread. Making one is cheap, as the footer is parsed.
            reader = pq.ParquetFile(
                self._source(row_group, columns),
                metadata=self.fragment.metadata,
                pre_buffer=False,
                page_checksum_verification=True,
            )
            table = reader.read_row_group(row_group, list(columns), use_threads=False)
            for column in table.columns:
                # Pages have checksums, but their headers do not.
                column.validate(full=types.is_dictionary(column.type))
                if len(column) != rows:
                    raise pa.ArrowInvalid(f"a column has {len(column):,} values, not {rows:,}")
        return table.select(columns)

    def _source(self, row_group: int, columns: Sequence[str]) -> pa.NativeFile:
        """Return a file that has at least these columns of a row group."""
        return self._file

    def matching(self, where: ds.Expression | None) -> frozenset[int]:
        """Return the row groups that may have rows for which a condition is true."""
        if where is None:
            return frozenset(range(len(self.starts) - 1))
        subset = self.fragment.subset(filter=where, schema=self.fragment.physical_schema)
        return frozenset(group.id for group in subset.row_groups)


def footer_crc(path: Path) -> int:
    """Return the CRC-32 of a Parquet file's footer."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL, 0))
        length = int.from_bytes(file.read(4), "little") + _TAIL
        file.seek(max(size - length, 0))
        return zlib.crc32(file.read())


@lru_cache(64)
def _footer(path: Path, crc: int) -> tuple[ds.Fragment, tuple[int, ...]]:
    """Parse the footer of a part. Files never change, and their names are never used again."""
    if footer_crc(path) != crc:
        raise pa.ArrowInvalid(OTHER_FOOTER)
    fragment = _FORM.make_fragment(str(path), _SYSTEM)
    return fragment, starts_of(fragment)


def starts_of(fragment: ds.Fragment) -> tuple[int, ...]:
    """Return the first row of each row group, and the number of rows."""
    counts = (fragment.metadata.row_group(n).num_rows for n in range(fragment.num_row_groups))
    return tuple(accumulate(counts, initial=0))


class RowReader:
    """Reads rows of open parts.

    Parameters
    ----------
    files : mapping of int to OpenFile
        The parts of the segments.
    columns : sequence of str
        Columns to return.
    where : pyarrow.dataset.Expression or None
    damaged : callable
        Called with a piece whose row group cannot be decoded, and the error; yields its rows
        of the answer.
    """

    def __init__(
        self,
        files: Mapping[int, OpenFile],
        columns: Sequence[str],
        where: ds.Expression | None,
        damaged: Callable[[Piece, UnreadableFile], Iterator[pa.RecordBatch]],
    ) -> None:
        self._files = files
        self._columns = list(columns)
        self._where = where
        self._damaged = damaged
        self._matching = {part: file.matching(where) for part, file in files.items()}

    def read(self, groups: Sequence[Sequence[Segment]]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of each group in order, with the index of the group."""
        pieces = list(self._pieces(groups))
        row_groups: dict[tuple[int, int], list[Piece]] = {}
        for piece in pieces:
            row_groups.setdefault((piece.part, piece.row_group), []).append(piece)
        waiting = iter(row_groups.items())
        decoded: dict[tuple[int, int], Future[tuple[pa.Table, Iterator[tuple[int, int]]]]] = {}
        joined = _Joined()
        workers = max((file.threads for file in self._files.values()), default=1)
        # The threads are not waited for: this generator may be dropped on one of them.
        pool = ThreadPoolExecutor(workers, "tables")
        try:
            for piece in pieces:
                key = piece.part, piece.row_group
                if piece is row_groups[key][0]:
                    # As many row groups are ahead at the first piece of each.
                    for other, own in islice(waiting, 1 if decoded else 2 * workers):
                        decoded[other] = pool.submit(self._decode, own)
                try:
                    table, ranges = decoded[key].result()
                except UnreadableFile as error:
                    yield from joined.take()
                    for batch in self._damaged(piece, error):
                        yield piece.group, batch
                else:
                    yield from joined.add(piece.group, table, *next(ranges))
                if piece is row_groups[key][-1]:
                    del decoded[key]
            yield from joined.take()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, pieces: Sequence[Piece]) -> tuple[pa.Table, Iterator[tuple[int, int]]]:
        """Decode a row group; return the rows of the answer, and the range of each piece."""
        file, names = self._files[pieces[0].part], self._columns
        if self._where is None:
            table = file.decode(pieces[0].row_group, names)
            return table, ((piece.start, piece.end) for piece in pieces)
        words = words_of(self._where)
        needed = file.fragment.physical_schema.names
        if words is not None:
            named = {*re.findall(r"\w+", words)}
            needed = [name for name in needed if name in named]
        table = file.decode(pieces[0].row_group, list(dict.fromkeys([*names, *needed])))
        first = min(piece.start for piece in pieces)
        table = table.slice(first, max(piece.end for piece in pieces) - first)
        # Often the condition is true for all rows, and then no other column is copied.
        numbers = pa.array(np.arange(len(table), dtype=np.int32))
        numbered = table.select(needed).append_column(_NUMBER, numbers).filter(self._where)
        found = numbered.column(_NUMBER).combine_chunks()
        if len(found) < len(table):
            table = table.take(found)
        rows = first + found.to_numpy()
        starts = np.searchsorted(rows, [piece.start for piece in pieces]).tolist()
        ends = np.searchsorted(rows, [piece.end for piece in pieces]).tolist()
        return table.select(names), zip(starts, ends, strict=True)

    def _pieces(self, groups: Sequence[Sequence[Segment]]) -> Iterator[Piece]:
        """Join the segments that follow each other, and cut them by row groups."""
        for index, group in enumerate(groups):
            part = start = end = -1
            for segment in group:
                if segment.part != part or segment.row != end:
                    yield from self._cut(index, part, start, end)
                    part, start, _ = segment
                    end = start
                end += segment.rows
            yield from self._cut(index, part, start, end)

    def _cut(self, group: int, part: int, start: int, end: int) -> Iterator[Piece]:
        while start < end:
            starts = self._files[part].starts
            row_group = bisect_right(starts, start) - 1
            first, stop = starts[row_group], min(end, starts[row_group + 1])
            if row_group in self._matching[part]:
                yield Piece(group, part, row_group, start - first, stop - first)
            start = stop


class _Joined:
    """Joins short runs of rows of one group into batches."""

    def __init__(self) -> None:
        self._group = 0
        self._runs: list[tuple[pa.Table, int, int]] = []
        self._rows = 0

    def add(
        self, group: int, table: pa.Table, start: int, end: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Add some rows of a table, and yield the batches that are complete."""
        if group != self._group or self._rows >= _BATCH:
            yield from self.take()
            self._group = group
        self._rows += end - start
        if self._runs and self._runs[-1][0] is table and self._runs[-1][2] == start:
            start = self._runs.pop()[1]
        if start < end:
            self._runs.append((table, start, end))

    def take(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield what was added since the last call."""
        tables = [table.slice(start, end - start) for table, start, end in self._runs]
        self._runs, self._rows = [], 0
        if len(tables) > 1:
            tables = [pa.concat_tables(tables).unify_dictionaries().combine_chunks()]
        for table in tables:
            for batch in table.to_batches():
                yield self._group, batch
