"""Write months into the cache: in the background after a scan, or all at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pyarrow as pa

from binance_archive_kit.errors import FileError
from binance_archive_kit.query.file_lookup import FileLookup, ScanContext
from binance_archive_kit.query.month_reader import ScanReport, Tally
from binance_archive_kit.query.scan_planner import MonthTask
from binance_archive_kit.reading.chunks import batch_of
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.reader import ZipReader


class CacheWriter:
    """Writes months of a store into its cache."""

    def __init__(self, context: ScanContext) -> None:
        self._context = context
        self._queue: deque[tuple[FeedTable, MonthTask]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def write(self, feed: FeedTable, month: MonthTask, *, workers: int) -> None:
        """Write a month, unless it is cached already or one of its files cannot be read."""
        cache = self._context.cache
        tasks = FileLookup(self._context, feed).current(month.files)
        path = cache.month(feed, month.files[0].folder, tasks)
        if path is None or path.exists() or len(tasks) < len(month.files):
            return
        tally = Tally(ScanReport(feed.view))

        def rows() -> Iterator[pa.RecordBatch]:
            reader = ZipReader(self._context.store.root, feed, notes=self._context.notes(feed))
            for chunk in reader.chunks(
                tasks, feed.arrow.names, lambda chunk: chunk, workers=workers
            ):
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
