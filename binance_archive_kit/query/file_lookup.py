"""Look up files for a scan: as they are on disk now and as proven, and the days they have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import chain

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import prefix_of
from binance_archive_kit.errors import ArchiveKitError, ChangedFile, FileError, file_error
from binance_archive_kit.query.known_files import FEW, KnownFiles
from binance_archive_kit.reading.chunks import Chunk, Notes
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask, lead_of
from binance_archive_kit.reading.profile import FileProfile, profile_files
from binance_archive_kit.reading.reader import ZipReader
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.proof import hash_file
from binance_archive_kit.storage.records import COMMIT_DELAY, ProofRecord
from binance_archive_kit.storage.store import rehash_moved
from binance_archive_kit.timestamps import DAY, to_day_number

#: Nanoseconds for which the proof of a new file may not be recorded yet; clocks may be apart.
_RECENT = 5_000_000_000


class Proofs:
    """The records of proven files, looked up once for each scan.

    Parameters
    ----------
    store : BaseStore
    files : callable, optional
        Returns all files that the scan needs. If one of them was moved since it was proven,
        so were the others, and they are hashed again together.
    """

    def __init__(
        self, store: BaseStore, files: Callable[[], Iterable[StoredFile]] | None = None
    ) -> None:
        self._store = store
        self._records = store.records
        self._files = files
        #: Since when records are looked up.
        self._as_of = time.time_ns()
        self._found: dict[str, ProofRecord] = {}
        #: Keys, and prefixes of folders, whose proofs were looked up.
        self._looked_up: set[str] = set()
        self._expected: frozenset[str] = frozenset()

    def check(self, file: StoredFile) -> None:
        """Check that a file is still the one that was proven, if it ever was.

        Raises
        ------
        ChangedFile
            If its bytes are others.
        """
        if self._is_unchanged(file):
            return
        if max(file.stamp.mtime, file.stamp.ctime) > self._as_of - _RECENT:
            # A collection may have put it in place, and not recorded its proof yet.
            time.sleep(COMMIT_DELAY)
            self._as_of = time.time_ns()
            self._looked_up.clear()
            self._found.clear()
            if self._is_unchanged(file):
                return
        raise ChangedFile(file.path, "its bytes are not the ones that were proven")

    def proof(self, file: StoredFile) -> ProofRecord | None:
        """Return the proof of a file whose stamp is still the proven one."""
        proof = self._proof(file)
        return proof if proof is not None and proof.is_of(file.stamp) else None

    def judge(self, file: StoredFile, error: FileError) -> FileError:
        """Return the error to raise for an unreadable file: of the archive, or of the disk.

        Hashes the file if it is proven. If its bytes are not the proven ones any more, deletes
        the proof, so that the next collection replaces the file.
        """
        proof = self.proof(file)
        if proof is None or isinstance(error, ChangedFile):
            return error
        try:
            with self._store.open_file(file) as opened:
                same = hash_file(opened) == proof.sha256
            replaced = not proof.is_of(self._store.stamp(file))
        except (OSError, ChangedFile):
            return error
        if same or replaced:
            error.at_source = same and proof.published
            return error
        with suppress(ArchiveKitError, OSError):
            self._records.forget([file.key])
        self._found.pop(file.key, None)
        return ChangedFile(
            file.path,
            "its bytes are no longer the proven ones, though its size and times are unchanged "
            f"({error.reason}: {error.detail}); the disk may be failing: run verify on the store",
        )

    def _is_unchanged(self, file: StoredFile) -> bool:
        proof = self._proof(file)
        if proof is None or proof.is_of(file.stamp):
            return True
        if proof.stamp.size != file.size:
            return False
        others = () if self._files is None else self._files()
        self._files = None
        files = {each.key: each for each in (*others, file)}
        proofs = {key: self._proof(each) for key, each in files.items()}
        for key, proven in rehash_moved(self._records, files.values(), proofs).items():
            self._found[key] = proven
        proof = self._proof(file)
        return proof is None or proof.is_of(file.stamp)

    def _proof(self, file: StoredFile) -> ProofRecord | None:
        if not file.is_zip:
            return None
        prefix = prefix_of(file.key)
        if self._looked_up.isdisjoint((file.key, prefix)):
            # Opening the records takes longer than reading those of many folders.
            expected, self._expected = self._expected, frozenset()
            if file.key in expected and len(expected) <= FEW:
                self._read((), expected)
            else:
                self._read({prefix, *map(prefix_of, expected)}, ())
        return self._found.get(file.key)

    def _read(self, prefixes: Collection[str], keys: Collection[str]) -> None:
        self._found |= self._records.proofs(*prefixes, keys=keys)
        self._looked_up.update(prefixes, keys)

    def expect(self, keys: Iterable[str]) -> None:
        """Look these files up together with the first one that is needed."""
        self._expected = frozenset(keys)


Skip = Callable[[FileError], None]
#: Files of a folder, in the order of their names.
Part = tuple[StoredFolder, tuple[StoredFile, ...]]


@dataclass(frozen=True)
class ScanContext:
    """The state that the scans of a store share.

    Attributes
    ----------
    store : BaseStore
    known : KnownFiles
    prefer : Partition
        Which partition gives the rows of a day that both cover.
    skip : callable, optional
        Called with the error of each bad file, which is then left out; None raises it.
    days : dict of StoredFile to frozenset of date
        Days that files have rows of, if their profiles do not show them.
    """

    store: BaseStore
    known: KnownFiles
    prefer: Partition
    skip: Skip | None
    days: dict[StoredFile, frozenset[date]] = field(default_factory=dict)


class FileLookup(Notes):
    """Looks up the files of a feed, for one scan, and remembers the results of reading them.

    Parameters
    ----------
    context : ScanContext
    feed : FeedTable
    files : callable, optional
        Returns all files that the scan needs.
    looked : bool
        Whether files are as they are listed, so that none has to be looked at again.
    """

    def __init__(
        self,
        context: ScanContext,
        feed: FeedTable,
        files: Callable[[], Iterable[StoredFile]] | None = None,
        *,
        looked: bool = False,
    ) -> None:
        self._looked = looked
        self._known = context.known
        self._context = context
        self._feed = feed
        self._proofs = Proofs(context.store, files)
        self._judging = threading.Lock()

    def current(
        self, tasks: Iterable[FileTask], needed: Collection[str] | None = None
    ) -> list[FileTask]:
        """Return the files that still exist and are not left out, as they are now, with statistics.

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
            file = task.file if self._looked else self._look(task.file)
            if file is None:
                continue
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
            found.append(FileTask(file, task.stored, stats, task.without))
        return found

    def _look(self, file: StoredFile) -> StoredFile | None:
        """Return a file as it is on disk now; None if it is gone."""
        try:
            stamp = self._context.store.stamp(file)
        except OSError:
            return None
        return file if stamp == file.stamp else replace(file, stamp=stamp)

    def expect(self, keys: Iterable[str]) -> None:
        """Look up the proofs of these files together."""
        self._proofs.expect(keys)

    def completed(self, task: FileTask, stats: FileStats) -> None:
        """Remember the statistics of a file that was read to its end."""
        self._known.remember(self._feed, {task.file.key: stats})

    def rejected(self, task: FileTask, error: FileError) -> FileError:
        """Remember that a file cannot be read; return the error to raise, with its cause."""
        if not error.lasting:
            return error
        # Several threads may fail on parts of one file.
        with self._judging:
            found = self._rejection(task.file)
            if isinstance(found, ChangedFile):
                return found
            error = self._proofs.judge(task.file, error)
            self._known.reject(self._feed, task.file, error)
            return error

    def reader(self) -> ZipReader:
        """Return a reader of the feed."""
        return ZipReader(self._context.store, self._feed, notes=self)

    def _check(self, file: StoredFile) -> None:
        """Raise if a file was rejected, or is no longer the proven one."""
        error = self._rejection(file)
        if error is not None:
            raise error
        self._proofs.check(file)

    def _rejection(self, file: StoredFile) -> FileError | None:
        """Return the error of a file that was rejected as it is now."""
        rejection = self._known.rejected(self._feed).get(file.key)
        if rejection is None or rejection.stamp != file.stamp:
            return None
        error, proof = rejection.error, self._proofs.proof(file)
        if isinstance(error, ChangedFile) and proof is not None:
            # A collection has found the proven bytes again.
            return None
        # A new error, as several threads may add to one.
        published = proof is not None and proof.published
        return file_error(error.reason, error.file, error.detail, published)

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
            profile = self.profile([task]).get(file.key)
        if profile is None:
            return set()
        return profile.days if profile.days is not None else self._read_days(task)

    def _has_rows(self, task: FileTask) -> bool:
        """Return whether a file has rows; a file that is left out has none."""
        stats, key = task.stats, task.file.key
        if self._context.skip is not None and (stats is None or not stats.checked):
            # Every row has to be read, so that a bad file does not keep another from its day.
            profile = self.profile([task]).get(key)
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
        return self.reader().chunks([task], columns, lambda chunk: chunk, workers=1)

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
            self.profile(unread, skip=lambda error: None)

    def have_leads(self, parts: Iterable[Part]) -> bool:
        """Return whether any file has a candle that begins before it."""
        for stored, files in parts:
            for file in files:
                with suppress(FileError):
                    if any(map(has_lead, self.current([FileTask(file, stored)]))):
                        return True
        return False

    def profile(
        self,
        tasks: Sequence[FileTask],
        skip: Skip | None = None,
        *,
        workers: int = 1,
        done: Callable[[int], None] | None = None,
    ) -> dict[str, FileProfile]:
        """Read files in full; remember and return their profiles, by their keys.

        Parameters
        ----------
        tasks : sequence of FileTask
        skip : callable, optional
            Called with the error of each file that cannot be read, unless the store has its own.
        workers : int
            Threads to parse with.
        done : callable, optional
            Called with the number of files that were profiled since the last call.
        """
        profiles: dict[str, FileProfile] = {}
        skip = self._context.skip or skip
        found = profile_files(
            self._context.store, self._feed, tasks, workers=workers, skip=skip, notes=self
        )
        with closing(found):
            for group in found:
                if done is not None:
                    done(len(group))
                profiles |= group
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
