"""The store: the local folder with the collected files.

Layout below the store's root::

    data/…                              zips under their archive key; those that `collect` has put
                                        there are proven, those of other tools once it checks them
    quarantine/…                        bytes that failed their proof, with the reason
    .binance_archive_kit/proofs.sqlite  stamp, digest and ETag of each proven file; objects
                                        that the archive lacks; locations of the files that a
                                        storage placed elsewhere
    .binance_archive_kit/staging/…      downloads in progress, private to each run

A file gets its final name by one atomic rename, after its proof. The record of the proof has
the file's stamp (size, times, inode), so that a later run only has to list the folder. A file
with the recorded size and another stamp is hashed once: stores that are copied, restored or
linked hold the same bytes as before.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, cast

from filelock import FileLock

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import ObjectError, StoreError, disk_error, field_error, shown
from binance_archive_kit.paths import find_path, nearest_folder
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.inventory import Inventory, StoredFile
from binance_archive_kit.storage.layout import PRIVATE, QUARANTINE, BaseStorage
from binance_archive_kit.storage.proof import (
    NOT_THERE,
    Expected,
    Proof,
    Stamp,
    hash_file,
    stamp_of,
)
from binance_archive_kit.storage.quarantine import QUARANTINED, reason_in
from binance_archive_kit.storage.records import Locations, ProofRecord, Records
from binance_archive_kit.storage.staging import sweep
from binance_archive_kit.storage.urls import is_url

#: The phase of `rehash`, for its progress.
HASHING = "hashing files that were moved since they were proven"
#: Files that a thread hashes before it checks for an interrupt.
_FILES_PER_JOB = 32
#: Flag of files whose bytes are not to be changed; only Windows has it.
_BINARY = getattr(os, "O_BINARY", 0)
#: Permissions of the files that s5cmd writes.
_MODE_OF_S5CMD = 0o644


class Store(BaseStore):
    """A local folder in the archive's layout.

    Parameters
    ----------
    root : str or Path
        Need not exist; created when the first file arrives.
    storage : BaseStorage, optional
        Decides where files lie. Without one, files lie at their recorded locations, and all
        others under their key.

    Attributes
    ----------
    records : Records
        Files that were proven, placed elsewhere, or found missing in the archive.
    locations : Locations
        Paths of files inside the store.
    inventory : Inventory
        Files in the store.
    """

    root: Path
    inventory: Inventory

    def __init__(self, root: str | Path, storage: BaseStorage | None = None) -> None:
        self.root = Path(root).absolute()
        self.private = self.root / PRIVATE
        self.records = Records(self.root)
        self.locations = Locations(self.records, storage)
        self.inventory = Inventory(self.locations, self.records)
        self._created: set[str] = set()
        #: Permissions of new files, as the umask has them.
        self._mode = _MODE_OF_S5CMD

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Return the store in an existing folder.

        Raises
        ------
        ConfigurationError
            If there is no such folder, or it is a part of the bucket's layout.
        """
        if is_url(folder):
            raise field_error(
                "store",
                f"{shown(str(folder))} is in object storage, and this works on a local folder only",
            )
        root = find_path("store", folder).absolute()
        if not root.is_dir():
            raise field_error(
                "store",
                f"{shown(str(folder))} is not a folder; collect something into it first, "
                "or name a folder that another tool filled in the bucket's layout",
            )
        parts = {market.path.partition("/")[0] for market in Market}
        if (
            root.name == "data"
            and not (root / PRIVATE).exists()
            and any((root / name).is_dir() for name in parts)
        ):
            raise field_error(
                "store",
                f"{str(folder)!r} is the part of the bucket's layout that begins with "
                f"data/; name the folder above it, {str(root.parent)!r}",
            )
        return cls(root)

    def __reduce__(self) -> tuple[type[Self], tuple[Path, BaseStorage | None]]:
        """Pickle the folder and the storage; the content of the disk is read again."""
        return type(self), (self.root, self.locations.storage)

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def path(self, key: str) -> Path:
        """Return the final path of the object with this key."""
        return self.root / self.locations.location(key)

    def read_file(self, file: StoredFile) -> bytes:
        """Read a file at once.

        Raises
        ------
        OSError
            If it is gone, or cannot be read.
        """
        # Without a file object, which for thousands of files takes longer.
        number = os.open(f"{self.root}/{file.path}", os.O_RDONLY | _BINARY)
        try:
            size = os.fstat(number).st_size
            data = os.read(number, size)
            # Some network file systems return less at once.
            while len(data) < size and (more := os.read(number, size - len(data))):
                data += more
            return data
        finally:
            os.close(number)

    def open_file(self, file: StoredFile) -> BinaryIO:
        """Open a file for reading at any place, without a buffer; an OSError if it is gone."""
        return cast(BinaryIO, io.FileIO(f"{self.root}/{file.path}"))

    def stamp(self, file: StoredFile) -> Stamp:
        """Return the stamp that a file has now; an OSError if it is gone."""
        return stamp_of(os.stat(f"{self.root}/{file.path}"))  # noqa: PTH116 -- of many

    def free_bytes(self) -> int:
        """Return the bytes free on the disk of the store."""
        return shutil.disk_usage(nearest_folder(self.root)).free

    def free_files(self) -> int | None:
        """Return the number of files (inodes) that fit on the disk; None without a limit."""
        if not hasattr(os, "statvfs"):
            return None
        found = os.statvfs(nearest_folder(self.root))
        return found.f_favail if found.f_files else None

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a folder for downloads in progress, private to one run; empty at first.

        Folders of killed runs are removed.
        """
        with super().staging() as folder:
            # s5cmd ignores the umask, which cannot be read without changing it.
            self._mode = stat.S_IMODE(folder.stat().st_mode) & 0o666
            yield folder

    def admit(self, proof: Proof, staged: str | Path) -> Proof:
        """Move a proven file to its final name, replacing any file there, atomically.

        Returns
        -------
        Proof
            With the stamp that the file has under its final name.
        """
        location = self.locations.location(proof.key)
        folder = location.rpartition("/")[0]
        if folder not in self._created:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            self._created.add(folder)
        # As text: building a Path takes longer than the rename itself.
        path = f"{self.root}/{location}"
        if self._mode != _MODE_OF_S5CMD:
            # Some disks, such as those with FAT, have no permissions, and refuse.
            with suppress(OSError):
                os.chmod(staged, self._mode)  # noqa: PTH101
        os.replace(staged, path)  # noqa: PTH105
        # Renaming a file changes its ctime. If anything else differs, another file has replaced
        # it since, which this proof does not cover.
        moved = stamp_of(os.stat(path))  # noqa: PTH116
        same = moved._replace(ctime=proof.stamp.ctime) == proof.stamp
        return replace(proof, stamp=moved) if same else proof

    def quarantine(self, file: Path, error: ObjectError, expected: Expected) -> Path:
        """Move a file that failed its proof into quarantine, with the reason in a file beside it.

        Returns
        -------
        Path
            Its new path. The name ends in ``.bad``, so that it is not read as a zip.
        """
        with file.open("rb") as source:
            sha256 = hash_file(source)
        target = self.root / QUARANTINE / f"{error.key}.{sha256[:12]}.bad"
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        note = {
            "key": error.key,
            "reason": error.reason,
            "detail": error.detail,
            "sha256": sha256,
            "size": target.stat().st_size,
            "expected_sha256": expected.digest,
            "expected_etag": expected.etag,
            "expected_size": expected.size,
            "quarantined_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(note, indent=1, ensure_ascii=False)
        part = target.with_name(f"{target.name}.json.part")
        # The bytes are safe without their reason; the reason is written whole, or not at all.
        with suppress(OSError):
            part.write_text(f"{text}\n", encoding="utf-8")
            part.replace(target.with_name(f"{target.name}.json"))
        return target

    def quarantined(self, prefix: str) -> dict[str, str]:
        """Return the reasons why objects below a prefix have bytes in quarantine, by key."""
        folder = self.root / QUARANTINE / prefix
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 -- called for every folder
        except OSError as error:
            if error.errno in NOT_THERE:
                return {}
            raise disk_error(error, folder) from None
        matches = filter(None, map(QUARANTINED.fullmatch, names))
        return {f"{prefix}{match[1]}": _read_reason(folder / match[0]) for match in matches}

    def collected(self) -> set[str]:
        """Return the keys of all files that were ever proven or quarantined in this store.

        Reads no file; the files may have changed, or gone, since then.
        """
        quarantine = self.root / QUARANTINE
        return self.records.proven_keys() | {
            f"{path.parent.relative_to(quarantine).as_posix()}/{name[1]}"
            for path in quarantine.rglob("*.bad")
            if (name := QUARANTINED.fullmatch(path.name))
        }

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Prevent downloads into the store from starting, and make sure that none is running.

        Raises
        ------
        StoreError
            If a collection is running in the store.
        """
        home = self.root / PRIVATE / "staging"
        try:
            home.mkdir(parents=True, exist_ok=True)
            lock = FileLock(home / "lock").acquire()
        except OSError as error:
            raise disk_error(error, home) from None
        with lock:
            sweep(home)
            if any(home.glob("*.lock")):
                raise StoreError(
                    f"{self.root}: a collection is running in this store; try again when it has "
                    "ended"
                )
            yield


def _read_reason(path: Path) -> str:
    """Return why a file is in quarantine, from the note beside it."""
    try:
        note = path.with_name(f"{path.name}.json").read_bytes()
    except OSError:
        note = b""
    return reason_in(note)


# Files that were copied, linked, restored or renamed: same bytes, new stamp


class MovedFile(NamedTuple):
    """A file with the proven size and another stamp."""

    key: str
    location: str
    proof: ProofRecord


def rehash(
    records: Records, files: Sequence[MovedFile], done: Callable[[int, int], None]
) -> dict[str, ProofRecord]:
    """Hash moved files on several threads, and record the stamps of those with the proven bytes.

    A stamp that cannot be recorded is kept in memory. After an interrupt, the next call
    continues with the other files.

    Parameters
    ----------
    files : sequence of MovedFile
    done : callable
        Called with numbers of files and bytes as they are hashed, from any thread; an
        exception that it raises ends the work.

    Returns
    -------
    dict of str to ProofRecord
        The new records of the files with the proven bytes, by key.
    """

    def hash_some(start: int) -> dict[str, ProofRecord]:
        unchanged = {}
        for key, location, proof in files[start : start + _FILES_PER_JOB]:
            with suppress(OSError), (Path(records.root) / location).open("rb") as file:
                stamp = stamp_of(os.fstat(file.fileno()))
                if stamp.size == proof.stamp.size and hash_file(file) == proof.sha256:
                    unchanged[key] = proof._replace(stamp=stamp)
            done(1, proof.stamp.size)
        return unchanged

    same: dict[str, ProofRecord] = {}
    pool = ThreadPoolExecutor(os.cpu_count() or 1, "hasher")
    try:
        for unchanged in pool.map(hash_some, range(0, len(files), _FILES_PER_JOB)):
            same |= unchanged
    finally:
        pool.shutdown(cancel_futures=True)
        records.restamp(same)
    return same


def rehash_moved(
    records: Records, files: Iterable[StoredFile], proofs: Mapping[str, ProofRecord | None]
) -> dict[str, ProofRecord]:
    """Hash the files that were moved since they were proven, and show the progress.

    Returns
    -------
    dict of str to ProofRecord
        The new records of the files with the proven bytes, by key.
    """
    moved = [
        MovedFile(file.key, file.path, proof)
        for file in files
        if (proof := proofs.get(file.key)) is not None
        and proof.stamp.size == file.size
        and not proof.is_of(file.stamp)
    ]
    if not moved:
        return {}
    progress = Progress()
    progress.begin(HASHING, len(moved), sum(file.proof.stamp.size for file in moved))
    with Bar(progress) as bar:

        def done(units: int, size: int) -> None:
            progress.count(units, size)
            bar.tick()

        return rehash(records, moved, done)
