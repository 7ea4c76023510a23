"""Read segments of parts in order; each row group is decoded once, some ahead on threads."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.tables.part_files import DAMAGE, OpenFile

#: Rows from which a batch is not joined with the next one.
_BATCH = 65_536
#: A column for the number of a row, to know which rows a condition has left.
_NUMBER = "__number"


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


#: The rows of the answer in a row group, and the range of them that each piece has.
_Decoded = tuple[pa.Table, Iterator[tuple[int, int]]]


@dataclass(slots=True)
class _RowGroup:
    """A row group that is needed.

    Attributes
    ----------
    pieces : list of Piece
    left : int
        Pieces that were not yielded yet.
    begun : bool
        Whether one was.
    decoded : Future
    """

    pieces: list[Piece] = field(default_factory=list)
    left: int = 0
    begun: bool = False
    decoded: Future[_Decoded] = field(default_factory=Future)


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
        Called with a piece whose row group is damaged; yields its rows of the answer.
    """

    def __init__(
        self,
        files: Mapping[int, OpenFile],
        columns: Sequence[str],
        where: ds.Expression | None,
        damaged: Callable[[Piece], Iterator[pa.RecordBatch]],
    ) -> None:
        self._files = files
        self._columns = list(columns)
        self._where = where
        self._damaged = damaged
        self._matching = {part: file.matching(where) for part, file in files.items()}
        self._starts = {part: file.footer.starts for part, file in files.items()}

    def read(self, groups: Sequence[Sequence[Segment]]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of each group in order, with the index of the group."""
        pieces = list(self._pieces(groups))
        row_groups: dict[tuple[int, int], _RowGroup] = {}
        for piece in pieces:
            row_group = row_groups.setdefault((piece.part, piece.row_group), _RowGroup())
            row_group.pieces.append(piece)
            row_group.left += 1
        waiting = deque(row_groups.values())
        workers = min(os.cpu_count() or 1, 8)
        # The threads are not waited for: this generator may be dropped on one of them.
        pool = ThreadPoolExecutor(workers, "tables")
        try:
            for _ in range(2 * workers):
                self._submit(pool, waiting)
            yield from self._yield(pieces, row_groups, lambda: self._submit(pool, waiting))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _yield(
        self,
        pieces: Iterable[Piece],
        row_groups: dict[tuple[int, int], _RowGroup],
        submit: Callable[[], None],
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        joined = _Joined()
        for piece in pieces:
            key = piece.part, piece.row_group
            row_group = row_groups[key]
            if not row_group.begun:
                row_group.begun = True
                submit()
            try:
                table, ranges = row_group.decoded.result()
            except DAMAGE:
                yield from joined.take()
                for batch in self._damaged(piece):
                    yield piece.group, batch
            else:
                yield from joined.add(piece.group, table, *next(ranges))
            row_group.left -= 1
            if not row_group.left:
                del row_groups[key]
        yield from joined.take()

    def _submit(self, pool: ThreadPoolExecutor, waiting: deque[_RowGroup]) -> None:
        """Begin to decode the next row group, if there is one."""
        if waiting:
            row_group = waiting.popleft()
            row_group.decoded = pool.submit(self._decode, row_group.pieces)

    def _decode(self, pieces: Sequence[Piece]) -> _Decoded:
        """Decode a row group; return the rows of the answer, and the range of each piece."""
        file, names = self._files[pieces[0].part], self._columns
        if self._where is None:
            table = file.decode(pieces[0].row_group, names)
            return table, ((piece.start, piece.end) for piece in pieces)
        words = str(self._where)
        others = [name for name in file.columns if name in words and name not in names]
        table = file.decode(pieces[0].row_group, [*names, *others])
        first = min(piece.start for piece in pieces)
        table = table.slice(first, max(piece.end for piece in pieces) - first)
        numbers = pa.array(np.arange(first, first + len(table), dtype=np.int32))
        table = table.append_column(_NUMBER, numbers).filter(self._where)
        rows = table.column(_NUMBER).to_numpy()
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
        if start >= end:
            return
        starts, matching = self._starts[part], self._matching[part]
        for row_group in range(bisect_right(starts, start) - 1, len(starts) - 1):
            first, last = starts[row_group], starts[row_group + 1]
            if first >= end:
                break
            if matching is None or row_group in matching:
                start_, end_ = max(start, first) - first, min(end, last) - first
                yield Piece(group, part, row_group, start_, end_)


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
        if start == end:
            return
        self._rows += end - start
        if self._runs and self._runs[-1][0] is table and self._runs[-1][2] == start:
            start = self._runs.pop()[1]
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
