"""Build the columnar tables of a store from its files, on request or when a read is repeated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import polars as pl

from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import ArchiveKitError, FileError
from binance_archive_kit.query.file_lookup import FileLookup, ScanContext
from binance_archive_kit.query.scan_planner import ScanStep
from binance_archive_kit.query.scan_reader import ScanReport, Tally, worker_count
from binance_archive_kit.query.store_cache import StoreCache
from binance_archive_kit.reading.chunks import Chunk
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.tables.build import BuildReport

#: Files, or bytes of zip, from which tables are built when these are read again.
_MANY_FILES, _MANY_BYTES = 300, 16 << 20


class TableBuilder:
    """Builds the tables of one store.

    Parameters
    ----------
    context : ScanContext
    cache : StoreCache
    """

    def __init__(self, context: ScanContext, cache: StoreCache) -> None:
        self._context = replace(context, skip=_ignore)
        self._cache = cache
        #: Tables that could not be built on the side; this is not tried again.
        self._failed: set[str] = set()

    def build(self, missing: Sequence[tuple[FeedTable, Sequence[FileTask]]]) -> None:
        """Build tables of files, feed by feed; show the progress. Bad files are left out.

        Raises
        ------
        StoreError, DiskSpaceError
            If the tables cannot be written.
        """
        progress = Progress()
        with Bar(progress) as bar:
            progress.begin("building tables", sum(len(files) for _, files in missing), unit="files")
            for feed, files in missing:
                self._build(feed, files, progress, bar, wait=True)

    def build_if_repeated(self, feed: FeedTable, steps: Iterable[ScanStep]) -> bool:
        """Build tables of the files of a scan if many of them were read before.

        This needs no process that lives long: what was read is remembered on disk.

        Returns
        -------
        bool
            Whether tables were built.
        """
        if self._cache.folder is None or feed.table in self._failed:
            return False
        files = [task for step in steps for task in step.tasks if not task.without]
        read = [task.file.size for task in files if task.stats is not None]
        if len(read) < _MANY_FILES and sum(read) < _MANY_BYTES:
            return False
        progress = Progress()
        progress.begin("building tables", len(files), unit="files")
        try:
            with Bar(progress) as bar:
                report = self._build(feed, files, progress, bar, wait=False)
        except ArchiveKitError:
            # The zips remain usable if there is no space for tables.
            self._failed.add(feed.table)
            return False
        if report.files < len(files):
            self._failed.add(feed.table)
        return report.files > 0

    def _build(
        self,
        feed: FeedTable,
        files: Iterable[FileTask],
        progress: Progress,
        bar: Bar,
        *,
        wait: bool,
    ) -> BuildReport:
        lookup = FileLookup(self._context, feed, looked=True)
        tally = Tally(ScanReport(feed.view))

        def read(tasks: Sequence[FileTask]) -> Iterator[Chunk]:
            names, workers = feed.arrow.names, worker_count()
            chunks = lookup.reader().chunks(tasks, names, _same, workers=workers, skip=_ignore)
            with closing(chunks):
                for chunk in chunks:
                    tally.count(chunk)
                    yield chunk

        def done(count: int) -> None:
            progress.done += count
            bar.update()

        try:
            return self._cache.tables.build(
                feed,
                lookup.current(files),
                read,
                is_current=partial(self._are_current, feed),
                done=done,
                wait=wait,
            )
        finally:
            self._context.known.remember(feed, tally.stats)

    def _are_current(self, feed: FeedTable, entries: pl.DataFrame) -> pl.Series:
        """Return for entries of tables whether their files are unchanged."""
        folders = self._context.store.inventory.folders(feed.market, feed.data_type)
        stamps = {file.path: file.stamp for stored in folders for file in stored.files}
        rows = entries.select("path", *Stamp._fields).iter_rows()
        found = [stamps.get(path) == tuple(stamp) for path, *stamp in rows]
        return pl.Series(found, dtype=pl.Boolean)


def _same(chunk: Chunk) -> Chunk:
    return chunk


def _ignore(error: FileError) -> None:
    """Leave a bad file out; reading its rows raises the error."""
