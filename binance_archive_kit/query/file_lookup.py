"""Look up files for a scan: as they are on disk now, and the days they have rows of."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import chain

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.errors import FileError, file_error
from binance_archive_kit.query.cache import MonthCache
from binance_archive_kit.query.recorded_proofs import FileNotes, Proofs
from binance_archive_kit.reading.chunks import Chunk
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask, lead_of
from binance_archive_kit.reading.profile import FileProfile, profile_files
from binance_archive_kit.reading.reader import ZipReader
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.proof import raw_stamp, stamp_of
from binance_archive_kit.storage.store import Store
from binance_archive_kit.timestamps import DAY, to_day_number

Skip = Callable[[FileError], None]
#: Files of a folder, in the order of their names.
Part = tuple[StoredFolder, tuple[StoredFile, ...]]


@dataclass(frozen=True)
class ScanContext:
    """What the scans of a store share.

    Attributes
    ----------
    store : Store
    cache : MonthCache
    prefer : Partition
        Which partition gives the rows of a day that both cover.
    skip : callable, optional
        Called with the error of each bad file, which is then left out; None raises it.
    days : dict of StoredFile to frozenset of date
        Days that files have rows of, where their profiles do not tell.
    """

    store: Store
    cache: MonthCache
    prefer: Partition
    skip: Skip | None
    days: dict[StoredFile, frozenset[date]] = field(default_factory=dict)

    def notes(self, feed: FeedTable) -> FileNotes:
        """Return new notes on the files of a feed."""
        return FileNotes(self.store.records, self.cache.known, feed)


class FileLookup:
    """Looks up the files of a feed, for one scan.

    Parameters
    ----------
    context : ScanContext
    feed : FeedTable
    files : callable, optional
        Returns all files that the scan needs.
    """

    def __init__(
        self,
        context: ScanContext,
        feed: FeedTable,
        files: Callable[[], Iterable[StoredFile]] | None = None,
    ) -> None:
        self._root = context.store.root
        self._known = context.cache.known
        self._context = context
        self._feed = feed
        self._proofs = Proofs(context.store.records, files)

    def current(
        self, tasks: Iterable[FileTask], needed: Collection[str] | None = None
    ) -> list[FileTask]:
        """Return files as they are now, with their statistics; without those left out or gone.

        Parameters
        ----------
        tasks : iterable of FileTask
        needed : collection of str, optional
            Keys of the files that have to be readable; all by default.

        Raises
        ------
        FileError
            For a needed file that was rejected, or is no longer the proven one.
        """
        known = self._known.stats(self._feed)
        skips = self._context.skip is not None
        found = []
        for task in tasks:
            file = task.file
            try:
                stat = os.stat(f"{self._root}/{file.path}")  # noqa: PTH116 -- of thousands of files
            except OSError:
                continue
            if raw_stamp(stat) != file.stamp and (stamp := stamp_of(stat)) != file.stamp:
                file = replace(file, stamp=stamp)
            stats = known.get(file.key)
            if stats is not None and (stats.stamp != file.stamp or (skips and not stats.full)):
                # A file that was only counted, or read in part, may turn out to be bad.
                stats = None
            if stats is None and (needed is None or file.key in needed):
                try:
                    self._check(file)
                except FileError as error:
                    if self._context.skip is None:
                        raise
                    self._context.skip(error)
                    continue
            found.append(FileTask(file, task.held, stats, task.without))
        return found

    def _check(self, file: StoredFile) -> None:
        """Raise if a file was rejected, or is no longer the proven one."""
        rejection = self._known.rejected(self._feed).get(file.key)
        if rejection is not None and rejection.stamp == file.stamp:
            # A new error, as several threads may add to one.
            error = rejection.error
            published = self._proofs.is_published(file)
            raise file_error(error.reason, error.file, error.detail, published)
        self._proofs.check(file)

    def days_of(self, stored: StoredFolder, files: Sequence[StoredFile]) -> set[date]:
        """Return the days that files have rows of."""
        days: set[date] = set()
        for file in files:
            try:
                for task in self.current([FileTask(file, stored)]):
                    days |= self._days(task)
            except FileError:
                # A file that cannot be read has all its days: reading them raises the error
                # instead of returning the rows of another file.
                days |= days_between(file.start, file.end)
        return days

    def _days(self, task: FileTask) -> frozenset[date] | set[date]:
        file = task.file
        if task.folder.partition is Partition.DAILY and not lead_of(task.folder):
            return {file.start} if self._has_rows(task) else set()
        profile = self._known.profiles(self._feed).get(file.key)
        if profile is None or not profile.stats.is_of(file):
            profile = self._profile([task]).get(file.key)
        if profile is None:
            return set()
        return profile.days if profile.days is not None else self._read_days(task)

    def _has_rows(self, task: FileTask) -> bool:
        """Return whether a file has rows; a file that is left out has none."""
        stats, key = task.stats, task.file.key
        if self._context.skip is not None and (stats is None or not stats.checked):
            # Every row has to be read, so that a bad file does not keep another from its day.
            profile = self._profile([task]).get(key)
            return profile is not None and profile.stats.rows > 0
        if stats is None:
            for chunk in self._read(task, ()):
                for more in chunk.stats:
                    stats = stats + more
            if stats is not None:
                self._known.remember(self._feed, {key: stats})
        return stats is not None and stats.rows > 0

    def _read_days(self, task: FileTask) -> frozenset[date]:
        """Read the day of every row of a file."""
        if task.file not in self._context.days:
            days = (chunk.frame["date"].unique() for chunk in self._read(task, ["date"]))
            self._context.days[task.file] = frozenset(chain.from_iterable(days))
        return self._context.days[task.file]

    def _read(self, task: FileTask, columns: Sequence[str]) -> Iterator[Chunk]:
        reader = ZipReader(self._root, self._feed, notes=self._context.notes(self._feed))
        return reader.chunks([task], columns, lambda chunk: chunk, workers=1)

    def profile_leads(self, parts: Iterable[Part]) -> None:
        """Profile the files that may have rows before their month, many at once."""
        known = self._known.stats(self._feed)
        unread: list[FileTask] = []
        for stored, files in parts:
            for file in files if lead_of(stored.folder) else ():
                stats = known.get(file.key)
                if stats is None or not stats.checked or not stats.is_of(file):
                    with suppress(FileError):
                        unread += (
                            task
                            for task in self.current([FileTask(file, stored)])
                            if task.stats is None or not task.stats.checked
                        )
        if unread:
            # Bad files raise when their rows are read.
            self._profile(unread, skip=lambda error: None)

    def have_leads(self, parts: Iterable[Part]) -> bool:
        """Return whether any file has a candle that begins before it."""
        for stored, files in parts:
            for file in files:
                with suppress(FileError):
                    if any(map(has_lead, self.current([FileTask(file, stored)]))):
                        return True
        return False

    def _profile(
        self, tasks: Sequence[FileTask], skip: Skip | None = None
    ) -> dict[str, FileProfile]:
        """Read files in full; remember and return their profiles, by their keys."""
        found = profile_files(
            self._root,
            self._feed,
            tasks,
            workers=1,
            skip=self._context.skip or skip,
            notes=self._context.notes(self._feed),
        )
        profiles = {key: profile for files in found for key, profile in files.items()}
        self._known.remember_profiles(self._feed, profiles)
        return profiles


def has_lead(task: FileTask) -> bool:
    """Return whether a file has a candle that begins before the days in its name."""
    first = None if task.stats is None else task.stats.first
    return (
        first is not None
        and first < to_day_number(task.file.start) * DAY
        and bool(lead_of(task.folder))
    )


def days_between(first: date, last: date) -> set[date]:
    """Return the days from the first to the last, both inclusive."""
    return {first + timedelta(days=n) for n in range((last - first).days + 1)}
