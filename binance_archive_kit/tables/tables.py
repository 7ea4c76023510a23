"""The tables of a store: build them from files, merge them, and keep them within a limit."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from binance_archive_kit.display import render
from binance_archive_kit.errors import StoreError, disk_error
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.tables.build import Build, BuildReport, IsCurrent, Read, by_period
from binance_archive_kit.tables.manifest import FeedFolder, Part
from binance_archive_kit.tables.part_writer import NO_DIGESTS
from binance_archive_kit.tables.row_reader import UnreadableFile
from binance_archive_kit.tables.snapshot import Snapshot

#: Nanoseconds for which a part that was used is not removed for tables built on the side.
_LATELY = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True, repr=False)
class TableUse:
    """The size of the tables of a store.

    Attributes
    ----------
    folder : Path, str or None
        The URL if they lie in a bucket; None if the store has no tables.
    parts, bytes : int
        Parquet files with rows, and what they take together.
    limit : int or None
        Bytes that they may take; in a bucket there is no limit.
    """

    folder: Path | str | None
    parts: int
    bytes: int
    limit: int | None

    def __str__(self) -> str:
        """Return the size in one line."""
        if self.folder is None:
            return "Tables: none are kept"
        limit = "" if self.limit is None else f" of at most {render.size(self.limit)}"
        return (
            f"Tables: {render.counted(self.parts, 'file')}, {render.size(self.bytes)}{limit}, "
            f"in {self.folder}"
        )

    __repr__ = __str__


class Tables:
    """The tables of one store; safe to be used by several threads and processes.

    Parameters
    ----------
    folder : Path or None
        Where they lie; created by the first build. None: there are no tables.
    limit : int
        Bytes that all parts may take; the least recently used ones are removed first.
    """

    #: What deletes all of them, as Python.
    clearing = "store.cache.clear()"

    def __init__(self, folder: Path | None, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._snapshots: dict[str, tuple[object, Snapshot]] = {}
        #: Parts that this process could not read.
        self._discarded: set[str] = set()
        self._lock = threading.Lock()

    def snapshot(self, feed: FeedTable) -> Snapshot:
        """Return the current generation of a feed's tables."""
        folder = self._folder_of(feed)
        with self._lock:
            stamp = folder.stamp(), len(self._discarded)
            known = self._snapshots.get(feed.table)
            if known is not None and known[0] == stamp:
                return known[1]
            parts = folder.load().parts
            parts = tuple(part for part in parts if part.name not in self._discarded)
            snapshot = Snapshot(folder, parts, partial(self._distrust, feed))
            self._snapshots[feed.table] = stamp, snapshot
        return snapshot

    def discard(self, feed: FeedTable, part: str) -> None:
        """Remove a part that is damaged or gone, by its name."""
        with self._lock:
            self._discarded.add(part)
        with suppress(OSError):
            self._folder_of(feed).replace([part], ())

    def _distrust(self, feed: FeedTable, part: str, error: UnreadableFile) -> None:
        """Discard a part that cannot be read; for this process only if it may be sound."""
        if error.is_passing:
            with self._lock:
                self._discarded.add(part)
        else:
            self.discard(feed, part)

    def build(
        self,
        feed: FeedTable,
        tasks: Sequence[FileTask],
        read: Read,
        *,
        is_current: IsCurrent,
        done: Callable[[int], None],
        digests: Mapping[str, str] = NO_DIGESTS,
        wait: bool = True,
    ) -> BuildReport:
        """Write the rows of files as new parts, then merge the parts for which that is due.

        Each part is committed when it is complete, so a build may be interrupted.

        Parameters
        ----------
        feed : FeedTable
        tasks : sequence of FileTask
        read : callable
            Yields the chunks of files, in their order, with all columns.
        is_current : callable
            Returns for entries whether their files are unchanged.
        done : callable
            Called with the number of files that were written since the last call.
        digests : mapping of str to str, optional
            SHA-256 of files in hex, by their paths, as far as it is known.
        wait : bool
            Whether to wait for another builder of the feed; if not, nothing is done.

        Raises
        ------
        DiskSpaceError
            If the disk has too little space.
        StoreError
            If the folder cannot be written.
        """
        folder, start = self._folder_of(feed), time.perf_counter()
        build = Build(folder, feed, digests)
        if self._folder is None:
            return build.report
        if wait and folder.is_newer:
            raise StoreError(
                f"{folder.path}: these tables were written by a newer version of this package; "
                f"update the package, or delete all tables ({self.clearing})"
            )
        is_alone = False
        try:
            with folder.building(wait=wait) as is_alone:
                if is_alone:
                    periods = by_period(tasks, self.snapshot(feed).entries())
                    for period, group in periods.items():
                        if build.report.bytes < self._limit:
                            build.add(period, group, read, done)
                            self.trim()
                    build.merge(self.snapshot(feed), is_current)
                    self.trim()
        except OSError as error:
            # The tables may have been cleared meanwhile.
            if not is_alone or folder.path.exists():
                raise disk_error(error, folder.path) from None
        build.report.seconds = time.perf_counter() - start
        return build.report

    def use(self) -> TableUse:
        """Return the number and size of the parts."""
        parts = [part for folder in self._feed_folders() for part in folder.load().parts]
        size = sum(part.bytes for part in parts)
        return TableUse(self._folder, len(parts), size, self._limit)

    def room(self) -> int:
        """Return the bytes that can be written without removing a part that was used lately.

        0 for a day after such a part was removed: tables are larger than estimated then.
        """
        with suppress(OSError):
            if _is_recent(self._full.stat().st_mtime_ns):
                return 0
        return self._limit - sum(part.bytes for used, _, part in self._parts() if _is_recent(used))

    def trim(self) -> None:
        """Remove the least recently used parts beyond the limit, and tables of other formats."""
        for folder in self._feed_folders():
            if not folder.load().parts:
                with suppress(OSError), folder.building(wait=False):
                    pass  # it removes what is not listed
        total = 0
        for used, folder, part in sorted(self._parts(), key=lambda each: each[0], reverse=True):
            total += part.bytes
            if total > self._limit:
                with suppress(OSError):
                    folder.replace([part.name], ())
                    if _is_recent(used):
                        self._full.touch()

    def _parts(self) -> Iterator[tuple[int, FeedFolder, Part]]:
        """Yield the parts of all feeds, with the time of their last use in nanoseconds."""
        for folder in self._feed_folders():
            for part in folder.load().parts:
                with suppress(OSError):
                    yield folder.data(part.name).stat().st_mtime_ns, folder, part

    def clear(self, *, shared: bool = False) -> None:
        """Remove everything; what others share only with `shared`."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _folder_of(self, feed: FeedTable) -> FeedFolder:
        return FeedFolder.of(self._path, feed)

    @property
    def _path(self) -> Path:
        # Nothing can be in there.
        return self._folder or Path(os.devnull, "tables")

    @property
    def _full(self) -> Path:
        """A file that was written when a part in use was last removed."""
        return self._path / "full"

    def _feed_folders(self) -> list[FeedFolder]:
        with suppress(OSError):
            paths = sorted(self._path.iterdir())
            return [FeedFolder(path, None) for path in paths if path.is_dir()]
        return []


def _is_recent(time_ns: int) -> bool:
    return time_ns > time.time_ns() - _LATELY
