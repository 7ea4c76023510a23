"""Check files against their recorded proofs, and record what a reader finds out about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from binance_archive_kit.errors import ChangedFile, FileError
from binance_archive_kit.query.known_files import KnownFiles
from binance_archive_kit.reading.chunks import Notes
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.records import COMMIT_DELAY, ProofRecord, Records
from binance_archive_kit.storage.store import rehash_moved

#: Nanoseconds for which the proof of a new file may not be recorded yet; clocks may be apart.
_RECENT = 5_000_000_000


class Proofs:
    """The records of proven files, looked up once for each scan.

    Parameters
    ----------
    records : Records
    files : callable, optional
        Returns all files that the scan needs. If one of them was moved since it was proven,
        so were the others, and they are hashed again together.
    """

    def __init__(
        self, records: Records, files: Callable[[], Iterable[StoredFile]] | None = None
    ) -> None:
        self._records = records
        self._files = files
        #: Since when records are looked up.
        self._as_of = time.time_ns()
        self._found: dict[str, dict[str, ProofRecord]] = {}

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
            self._found.clear()
            if self._is_unchanged(file):
                return
        raise ChangedFile(file.path, "its bytes are not the ones that were proven")

    def is_published(self, file: StoredFile) -> bool:
        """Return whether the archive publishes these bytes, according to the proof."""
        proof = self._proof(file)
        return proof is not None and proof.published and proof.is_of(file.stamp)

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
            self._found[f"{key.rpartition('/')[0]}/"][key] = proven
        proof = self._proof(file)
        return proof is None or proof.is_of(file.stamp)

    def _proof(self, file: StoredFile) -> ProofRecord | None:
        if not file.is_zip:
            return None
        prefix = f"{file.key.rpartition('/')[0]}/"
        if prefix not in self._found:
            self._found[prefix] = self._records.proofs(prefix)
        return self._found[prefix].get(file.key)


class FileNotes(Notes):
    """Remembers what one reader finds out about the files of a feed."""

    def __init__(self, records: Records, known: KnownFiles, feed: FeedTable) -> None:
        self._proofs = Proofs(records)
        self._known = known
        self._feed = feed

    def completed(self, task: FileTask, stats: FileStats) -> None:
        """Remember the statistics of a file that was read to its end."""
        self._known.remember(self._feed, {task.file.key: stats})

    def rejected(self, task: FileTask, error: FileError) -> None:
        """Remember that a file cannot be read; complete the error with whose fault it is."""
        if error.lasting:
            error.at_source = self._proofs.is_published(task.file)
            self._known.reject(self._feed, task.file, error)
