"""Read the months of a scan: from the cache, from the zips, or as a count; and fill the cache."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.display import render
from binance_archive_kit.errors import FileError
from binance_archive_kit.query.cache import touch
from binance_archive_kit.query.file_lookup import FileLookup, ScanContext
from binance_archive_kit.query.pruning import Pruner
from binance_archive_kit.query.scan_planner import MonthTask
from binance_archive_kit.reading.chunks import Chunk, batch_of, count_chunks
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask


@dataclass(slots=True)
class ScanReport:
    """The cost of one query.

    Attributes
    ----------
    view : str
    considered : int
        Files of the feed.
    opened : int
        Zips that were opened.
    cached : int
        Files whose rows came from the cache.
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
            f"{self.cached:,} from the cache; {render.size(self.inflated)} inflated, "
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
    """

    feed: FeedTable
    names: list[str]
    pruner: Pruner
    where: ds.Expression | None

    @cached_property
    def columns(self) -> list[str]:
        """Columns to read: those to return, and those that the condition may need."""
        words = "" if self.where is None else str(self.where)
        return [name for name in self.feed.arrow.names if name in self.names or name in words]

    @cached_property
    def _schema(self) -> pa.Schema:
        return pa.schema([self.feed.arrow.field(name) for name in self.columns])

    @property
    def reads(self) -> bool:
        """Whether rows have to be read, and not only counted."""
        return any(name == "date" or name in self.feed.columns for name in self.columns)

    def rows_of(self, chunk: Chunk) -> pa.RecordBatch:
        """Return the rows and columns of a chunk that belong to the answer."""
        batch = batch_of(chunk, self._schema)
        if self.where is not None:
            groups = groupby((task for task, _ in chunk.spans), lambda task: task.stored)
            covered = (
                self.pruner.all_match(stored, [task.file for task in group])
                for stored, group in groups
            )
            if not all(covered):
                batch = batch.filter(self.where)
        return batch.select(self.names)


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


class MonthReader:
    """Reads the months of one query.

    Parameters
    ----------
    context : ScanContext
    query : Query
    tally : Tally
        Counts what is read.
    """

    def __init__(self, context: ScanContext, query: Query, tally: Tally) -> None:
        self._context = context
        self._lookup = FileLookup(context, query.feed)
        self._query = query
        self._tally = tally

    def read(self, months: Sequence[MonthTask]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of months; cached ones that follow each other are read together."""
        if not self._query.reads:
            yield from self._count(months)
            return
        for is_cached, run in groupby(months, lambda month: month.cached is not None):
            if is_cached:
                yield from self._cached(list(run))
            else:
                yield from self._unzipped([task for month in run for task in month.tasks])

    def _count(self, months: Sequence[MonthTask]) -> Iterator[pa.RecordBatch]:
        """Yield as many rows as files are known to have; open only the other files."""
        by_file = "file" in self._query.columns
        spans = (span for month in months for span in month.spans(by_file=by_file))
        for is_known, run in groupby(spans, lambda span: span[1] is not None):
            if is_known:
                yield from map(self._query.rows_of, count_chunks(run))
            else:
                yield from self._unzipped([task for task, _ in run])

    def _cached(self, months: Sequence[MonthTask]) -> Iterator[pa.RecordBatch]:
        """Yield rows from the cache; from the zips if that fails."""
        query, cache = self._query, self._context.cache
        paths = [month.cached for month in months if month.cached is not None]
        done = 0
        try:
            for batch in cache.read(paths, query.feed.arrow, query.names, query.where):
                done += batch.num_rows
                yield batch
        except (pa.ArrowInvalid, OSError):
            # Deleted or damaged. The zips have the same rows in the same order.
            cache.discard(paths)
            needed = (task for month in months for task in month.needed)
            for batch in self._unzipped(self._lookup.current(needed)):
                again = min(done, batch.num_rows)
                done -= again
                if again < batch.num_rows:
                    yield batch.slice(again)
        else:
            self._tally.report.cached += sum(len(month.files) for month in months)
            touch(paths)

    def _unzipped(self, tasks: Sequence[FileTask]) -> Iterator[pa.RecordBatch]:
        rows_of = self._query.rows_of
        chunks = self._lookup.reader().chunks(
            tasks,
            self._query.columns,
            lambda chunk: (chunk, rows_of(chunk)),
            workers=worker_count(),
            skip=self._context.skip,
        )
        with closing(chunks):
            for chunk, batch in chunks:
                self._tally.count(chunk)
                if batch.num_rows:
                    yield batch


def worker_count() -> int:
    """Return the number of threads to read with: one more than cores, as one often waits."""
    return min(os.cpu_count() or 1, 8) + 1


class CacheWriter:
    """Writes months of a store into its cache."""

    def __init__(self, context: ScanContext) -> None:
        self._context = context
        self._queue: deque[tuple[FeedTable, MonthTask]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def write(self, feed: FeedTable, month: MonthTask, *, workers: int) -> None:
        """Write a month, unless it is cached already or one of its files cannot be read."""
        cache = self._context.cache
        lookup = FileLookup(self._context, feed)
        tasks = lookup.current(month.files)
        if len(tasks) < len(month.files):
            return
        path = cache.month(feed, month.files[0].folder, tasks)
        if path is None or path.exists():
            return
        tally = Tally(ScanReport(feed.view))

        def rows() -> Iterator[pa.RecordBatch]:
            names = feed.arrow.names
            for chunk in lookup.reader().chunks(tasks, names, lambda chunk: chunk, workers=workers):
                tally.count(chunk)
                yield batch_of(chunk, feed.arrow)

        cache.write(path, feed.arrow, rows())
        cache.known.remember(feed, tally.stats)

    def write_later(self, feed: FeedTable, months: Iterable[MonthTask]) -> None:
        """Write the months that a scan has read completely and from the zips."""
        if self._context.cache.folder is None:
            return
        self._queue += [
            (feed, month)
            for month in months
            if month.cached is None and len(month.needed) == len(month.files)
        ]
        self._start_next()

    def _start_next(self) -> None:
        """Start the next month, one at a time: a program that ends waits for one at most."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "cache")
        # The queue is empty, or the program is ending.
        with suppress(IndexError, RuntimeError):
            self._pool.submit(self._write_next, *self._queue.popleft())

    def _write_next(self, feed: FeedTable, month: MonthTask) -> None:
        # The zips remain usable after a full disk, a bad file or a deleted folder.
        with suppress(OSError, FileError):
            self.write(feed, month, workers=1)
        if not self._queue:
            self._context.cache.trim()
        self._start_next()
