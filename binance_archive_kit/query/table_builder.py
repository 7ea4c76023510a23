"""Build the columnar tables of a store from its files, on request or when a read is repeated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import accumulate

import polars as pl

from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.display.render import counted
from binance_archive_kit.errors import ArchiveKitError, FileError, warn_user
from binance_archive_kit.query.file_lookup import FileLookup, ScanContext
from binance_archive_kit.query.scan_planner import ScanStep
from binance_archive_kit.query.scan_reader import ScanReport, Tally, worker_count
from binance_archive_kit.query.store_cache import StoreCache
from binance_archive_kit.reading.chunks import Chunk
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.reading.reader import ZipReader
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
        self._context = replace(context, skip=self._leave_out)
        self._cache = cache
        #: Tables that could not be built on the side; this is not tried again.
        self._failed: set[str] = set()
        #: Files that cannot be read, by their path; nor are these tried again.
        self._bad: dict[str, FileError] = {}

    def build(
        self, missing: Sequence[tuple[FeedTable, Sequence[FileTask]]], *, quiet: bool = False
    ) -> None:
        """Build tables of files, feed by feed; show the progress. Warn of bad files.

        With `quiet`, only builds.

        Raises
        ------
        StoreError, DiskSpaceError
            If the tables cannot be written.
        """
        self._bad.clear()
        count = sum(len(files) for _, files in missing)
        with nullcontext(_uncounted) if quiet else self._shown(count) as done:
            for feed, files in missing:
                self._build(feed, files, done, wait=True)
        for error in [] if quiet else [*self._bad.values()][:1]:
            warn_user(f"{counted(len(self._bad), 'invalid file')} left out of the tables: {error}")

    def build_if_repeated(self, feed: FeedTable, steps: Iterable[ScanStep]) -> bool:
        """Build tables of the files of a scan if many of them were read before.

        This needs no process that lives long: what was read is remembered on disk. Tables that
        are in use are never removed for others, so that no two queries take turns at it.

        Returns
        -------
        bool
            Whether tables were built.
        """
        if self._cache.folder is None or self._cache.is_shared or feed.table in self._failed:
            return False
        tasks = (task for step in steps for task in step.tasks)
        files = [task for task in tasks if not task.without and task.file.path not in self._bad]
        if not _are_many([task for task in files if task.stats is not None]):
            return False
        sizes = accumulate(task.file.packed_size for task in files)
        files = files[: bisect_right([*sizes], self._cache.tables.room())]
        if not _are_many(files):
            return False
        try:
            with self._shown(len(files)) as done:
                return self._build(feed, files, done, wait=False).files > 0
        except ArchiveKitError:
            # The zips remain usable if the tables cannot be written.
            self._failed.add(feed.table)
            return False

    @contextmanager
    def _shown(self, files: int) -> Iterator[Callable[[int], None]]:
        """Show the progress; give a function that counts files."""
        progress = Progress()
        progress.begin("building tables", files, unit="files")
        with Bar(progress) as bar:

            def done(count: int) -> None:
                progress.done += count
                bar.tick()

            yield done

    def _build(
        self, feed: FeedTable, files: Iterable[FileTask], done: Callable[[int], None], *, wait: bool
    ) -> BuildReport:
        lookup = _Lookup(self._context, feed, looked=True)
        digests: dict[str, str] = {}
        tally = Tally(ScanReport(feed.view))

        def read(tasks: Sequence[FileTask]) -> Iterator[Chunk]:
            names, workers, skip = feed.arrow.names, worker_count(), self._leave_out
            reader = ZipReader(self._context.store.checking(digests), feed, notes=lookup)
            chunks = reader.chunks(tasks, names, _same, workers=workers, skip=skip)
            with closing(chunks):
                for chunk in chunks:
                    tally.count(chunk)
                    yield chunk

        tasks = lookup.current(files)
        proofs = self._context.store.records.proofs(*feed.prefixes) if tasks else {}
        digests |= {
            task.file.path: proof.sha256
            for task in tasks
            if task.file.is_zip
            and (proof := proofs.get(task.file.key)) is not None
            and proof.is_of(task.file.stamp)
        }
        try:
            return self._cache.tables.build(
                feed,
                tasks,
                read,
                is_current=partial(self._are_current, feed),
                done=done,
                digests=digests,
                wait=wait,
            )
        finally:
            self._context.known.remember(feed, tally.stats)

    def _leave_out(self, error: FileError) -> None:
        """Leave a bad file out; reading its rows raises the error."""
        self._bad[error.file] = error

    def _are_current(self, feed: FeedTable, entries: pl.DataFrame) -> pl.Series:
        """Return for entries of tables whether their files are unchanged."""
        symbols = set(entries["symbol"])
        folders = self._context.store.inventory.folders(
            feed.market, feed.data_type, symbols.__contains__
        )
        stamps = {file.path: file.stamp for stored in folders for file in stored.files}
        rows = entries.select("path", *Stamp._fields).iter_rows()
        found = [stamps.get(path) == tuple(stamp) for path, *stamp in rows]
        return pl.Series(found, dtype=pl.Boolean)


class _Lookup(FileLookup):
    """Looks up files to build tables of. Changes the answer of no query."""

    def rejected(self, task: FileTask, error: FileError) -> FileError:
        """Return the error; queries that need the invalid rows will find it themselves."""
        return error


def _are_many(files: Sequence[FileTask]) -> bool:
    return len(files) >= _MANY_FILES or sum(task.file.size for task in files) >= _MANY_BYTES


def _same(chunk: Chunk) -> Chunk:
    return chunk


def _uncounted(count: int) -> None:
    """Count nothing."""
