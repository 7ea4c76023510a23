"""Read the steps of a scan: rows of tables, rows of files, or only their number."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import chain, groupby, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.display import render
from binance_archive_kit.query.file_lookup import FileLookup, Skip
from binance_archive_kit.query.pruning import Pruner
from binance_archive_kit.query.scan_planner import ScanStep
from binance_archive_kit.query.tabled_files import TabledFiles
from binance_archive_kit.reading.chunks import Chunk, batch_of, count_chunks
from binance_archive_kit.reading.feed_table import FeedTable, words_of
from binance_archive_kit.reading.file_stats import FileStats, FileTask
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.tables.row_reader import Segment
from binance_archive_kit.tables.snapshot import Snapshot

#: Temporary column of the step that a row belongs to.
_LABEL = "__step"
#: Columns that differ between the files of a stream.
_OF_FILES = frozenset({"file", "partition"})


@dataclass(slots=True)
class ScanReport:
    """The cost of one query.

    Attributes
    ----------
    view : str
    considered : int
        Files of the symbols and intervals that may have a row of the answer.
    opened : int
        Zips that were opened.
    cached : int
        Files whose rows came from tables.
    inflated : int
        Bytes of csv that were inflated from the zips.
    rows : int
        Rows returned.
    seconds : float
        From the query to the last row, with the time that the caller took.
    complete : bool
        Whether all rows were read.
    """

    view: str
    considered: int = 0
    opened: int = 0
    cached: int = 0
    inflated: int = 0
    rows: int = 0
    seconds: float = 0.0
    complete: bool = False

    def __str__(self) -> str:
        """Return the cost in one line."""
        return (
            f"{self.view}: {self.opened:,} of {self.considered:,} files opened, "
            f"{self.cached:,} from tables; {render.size(self.inflated)} inflated, "
            f"{self.rows:,} rows in {self.seconds:.2f} s"
        )


@dataclass(frozen=True)
class Query:
    """A query of one feed.

    Attributes
    ----------
    feed : FeedTable
    names : list of str
        Columns to return.
    pruner : Pruner
    where : pyarrow.dataset.Expression or None
    in_full : bool
        Whether all rows will be read.
    """

    feed: FeedTable
    names: list[str]
    pruner: Pruner
    where: ds.Expression | None
    in_full: bool = True

    @cached_property
    def columns(self) -> list[str]:
        """Columns to read: those to return, and those that the condition may need."""
        words = "" if self.where is None else words_of(self.where)
        every = self.feed.arrow.names
        return [name for name in every if words is None or name in self.names or name in words]

    @cached_property
    def _schema(self) -> pa.Schema:
        return pa.schema([self.feed.arrow.field(name) for name in self.columns])

    @property
    def reads(self) -> bool:
        """Whether rows have to be read, and not only counted."""
        return any(name == "date" or name in self.feed.columns for name in self.columns)

    def batch_of(self, chunk: Chunk) -> pa.RecordBatch:
        """Return all rows of a chunk, with the columns to read."""
        return batch_of(chunk, self._schema)

    def select(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows and columns of a batch that belong to the answer."""
        return (batch if self.where is None else batch.filter(self.where)).select(self.names)

    def rows_of(self, chunk: Chunk) -> pa.RecordBatch:
        """Return the rows and columns of a chunk that belong to the answer."""
        batch = self.batch_of(chunk)
        if self.where is not None:
            groups = groupby((task for task, _ in chunk.spans), lambda task: task.stored)
            covered = (
                self.pruner.all_match(stored, [task.file for task in group])
                for stored, group in groups
            )
            if not all(covered):
                batch = batch.filter(self.where)
        return batch.select(self.names)

    def rows_by_label(
        self, chunk: Chunk, labels: Sequence[int]
    ) -> list[tuple[int, pa.RecordBatch]]:
        """Return the rows of a chunk that belong to the answer, split by the labels of its files.

        Parameters
        ----------
        chunk : Chunk
        labels : sequence of int
            One for each of the chunk's spans.
        """
        numbers = np.repeat(labels, [rows for _, rows in chunk.spans])
        batch = self.batch_of(chunk).append_column(_LABEL, pa.array(numbers))
        if self.where is not None:
            batch = batch.filter(self.where)
        numbers = batch.column(_LABEL).to_numpy()
        cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), batch.num_rows]
        rows = batch.select(self.names)
        return [
            (int(numbers[start]), rows.slice(start, end - start))
            for start, end in pairwise(cuts)
            if start < end
        ]


class Tally:
    """Counts the chunks of a scan, and adds up the statistics of their files."""

    def __init__(self, report: ScanReport) -> None:
        self.report = report
        #: Statistics of files that were read to their end.
        self.stats: dict[str, FileStats] = {}
        self._partial: dict[str, FileStats] = {}

    def count(self, chunk: Chunk) -> None:
        """Count a chunk."""
        self.report.opened += len(chunk.spans) if chunk.ends else 0
        self.report.inflated += chunk.inflated
        for (task, _), stats in zip(chunk.spans, chunk.stats, strict=False):
            key = task.file.key
            shown = self._partial.pop(key, None) + stats
            (self.stats if chunk.ends else self._partial)[key] = shown


class ScanReader:
    """Reads the steps of one query.

    Parameters
    ----------
    lookup : FileLookup
    snapshot : Snapshot
        The tables, as the scan was planned with them.
    tabled : TabledFiles
    query : Query
    tally : Tally
        Counts what is read.
    skip : callable, optional
        Called with the error of each bad file, which is then left out; None raises it.
    """

    def __init__(
        self,
        lookup: FileLookup,
        snapshot: Snapshot,
        tabled: TabledFiles,
        query: Query,
        tally: Tally,
        skip: Skip | None,
    ) -> None:
        self._lookup = lookup
        self._snapshot = snapshot
        self._tabled = tabled
        self._query = query
        self._tally = tally
        self._skip = skip

    def read(self, steps: Sequence[ScanStep]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of steps, in order.

        Raises
        ------
        StaleSnapshot
            Before the first row, if a table is gone.
        FileError
            For a file that is not what its name says.
        """
        if not self._query.reads:
            yield from self._count(steps)
            return
        with ExitStack() as stack:
            tables = stack.enter_context(closing(self._from_tables(steps)))
            files = stack.enter_context(closing(self._unzipped(steps)))
            groups = {False: _Groups(tables), True: _Groups(files)}
            groups[False].start()
            for index, step in enumerate(steps):
                yield from groups[bool(step.tasks)].take(index)
        self._tally.report.cached += sum(step.tabled for step in steps)

    def _count(self, steps: Sequence[ScanStep]) -> Iterator[pa.RecordBatch]:
        """Yield as many rows as files are known to have; open only the other files."""
        # The rows of a folder are counted together, unless its files have to be told apart.
        by_file = not _OF_FILES.isdisjoint(self._query.columns)
        with closing(self._from_tables(steps if by_file else ())) as tables:
            groups = _Groups(tables)
            groups.start()
            for by_table, run in groupby(enumerate(steps), lambda each: bool(each[1].segments)):
                if by_table and by_file:
                    for index, _ in run:
                        yield from groups.take(index)
                else:
                    yield from self._counted(step for _, step in run)
        self._tally.report.cached += sum(step.tabled for step in steps)

    def _counted(self, steps: Iterable[ScanStep]) -> Iterator[pa.RecordBatch]:
        spans = chain.from_iterable(map(_spans_of, steps))
        for is_known, run in groupby(spans, lambda span: span[1] is not None):
            if is_known:
                yield from map(self._query.rows_of, count_chunks(run))
            else:
                for _, batch in self._unzipped([ScanStep(tasks=[task for task, _ in run])]):
                    yield batch

    def _from_tables(self, steps: Sequence[ScanStep]) -> Generator[tuple[int, pa.RecordBatch]]:
        query, groups = self._query, [step.segments for step in steps]
        if any(groups):
            folders = chain.from_iterable(step.counts for step in steps)
            where = query.where
            if where is not None and all(query.pruner.all_match(each, ()) for each, _ in folders):
                where = None
            yield from self._snapshot.read(groups, query.names, where, self._replace_damaged)

    def _replace_damaged(self, segment: Segment) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a damaged segment from their files, as these have been until now."""
        query, end = self._query, segment.row + segment.rows
        for task, row in self._tabled.tasks(segment):
            chunks = self._lookup.reader().chunks(
                [task], query.columns, query.batch_of, workers=1, skip=self._skip
            )
            with closing(chunks):
                for batch in chunks:
                    first, last = max(segment.row - row, 0), min(end - row, batch.num_rows)
                    row += batch.num_rows
                    if first < last:
                        yield query.select(batch.slice(first, last - first))

    def _unzipped(self, steps: Sequence[ScanStep]) -> Generator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of files, with the index of their step."""
        query = self._query
        labels = {
            (task.file.key, task.without): index
            for index, step in enumerate(steps)
            for task in step.tasks
        }

        def finish(chunk: Chunk) -> tuple[Chunk, list[tuple[int, pa.RecordBatch]]]:
            found = [labels[task.file.key, task.without] for task, _ in chunk.spans]
            if len(set(found)) == 1:
                return chunk, [(found[0], query.rows_of(chunk))]
            return chunk, query.rows_by_label(chunk, found)

        chunks = self._lookup.reader().chunks(
            [task for step in steps for task in step.tasks],
            query.columns,
            finish,
            workers=worker_count(),
            skip=self._skip,
        )
        with closing(chunks):
            for chunk, batches in chunks:
                self._tally.count(chunk)
                for label, batch in batches:
                    if batch.num_rows:
                        yield label, batch


class _Groups:
    """Hands out the batches of one group after the other."""

    def __init__(self, batches: Iterator[tuple[int, pa.RecordBatch]]) -> None:
        self._batches = batches
        self._next: tuple[int, pa.RecordBatch] | None = None

    def start(self) -> None:
        """Read the first batch: what cannot be read then raises before any row is returned."""
        self._next = next(self._batches, None)

    def take(self, group: int) -> Iterator[pa.RecordBatch]:
        """Yield the batches of a group; groups that were skipped must have none."""
        while True:
            if self._next is None:
                self._next = next(self._batches, None)
            if self._next is None or self._next[0] != group:
                return
            batch = self._next[1]
            self._next = None
            yield batch


def _spans_of(step: ScanStep) -> Iterator[tuple[FileTask, int | None]]:
    """Yield the files of a step, with the number of their rows as far as it is known.

    One file stands for all of its folder that are in tables.
    """
    for stored, rows in step.counts:
        yield FileTask(StoredFile("", "", date.min, date.min, Stamp(0, 0)), stored), rows
    for task in step.tasks:
        yield task, task.rows


def worker_count() -> int:
    """Return the number of threads to read with: one more than cores, as one often waits."""
    return min(os.cpu_count() or 1, 8) + 1
