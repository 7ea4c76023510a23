"""The store: the local folder, what it has, and what is proven about it.

Layout below the store's root::

    data/…                              zips under their archive key, each one proven
    quarantine/…                        bytes that failed their proof, with the reason
    .binance_archive_kit/proofs.sqlite  what was proven: stamp, digest, ETag, how; what
                                        the archive was found to lack; and where files lie
                                        that a storage placed elsewhere
    .binance_archive_kit/staging/…      downloads on their way, private to each run

A file reaches its final name by one atomic rename, after its proof. The proofs
record the file's stamp (size, times, inode), so that a later run needs no more than
a look at the folder. A file whose stamp differs and whose size does not is hashed once
more: a store that was copied, restored or linked holds the same bytes as before.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import polars as pl
from filelock import FileLock, Timeout

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.keys import key_range, member_of
from binance_archive_kit.errors import (
    ArchiveKitError,
    ArchiveKitWarning,
    BadZip,
    ConfigurationError,
    Corrupt,
    DiskSpaceError,
    ObjectError,
    StaleChecksum,
    disk_error,
)
from binance_archive_kit.storage.databases import (
    COUNT,
    DIGEST,
    INTEGER,
    MAYBE_INTEGER,
    MAYBE_TEXT,
    TEXT,
    Database,
    Row,
    Table,
    Writer,
)
from binance_archive_kit.storage.inventory import INVENTORY_SCHEMA
from binance_archive_kit.storage.layout import (
    PRIVATE,
    QUARANTINE,
    BaseStorage,
    fault_of_place,
    path_in_store,
)
from binance_archive_kit.storage.stamps import NOT_THERE, Stamp, stamp_of, stamp_of_entry
from binance_archive_kit.storage.zips import BadMemberError, check_member

_MD5 = re.compile(r"[0-9a-f]{32}")
_CHUNK = 1 << 20
#: A name in quarantine: that of the object, and the first digits of the bytes' SHA-256.
_QUARANTINED = re.compile(r"(.+)\.[0-9a-f]{12}\.bad")
#: Seconds to wait for a record that another process held locked for long before.
_IMPATIENCE = 1.0
#: Nanoseconds for which a file may change again without its time moving.
_UNSETTLED = 2_000_000_000
_NO_STAMP = Stamp(0, 0)


class ProvenBy(StrEnum):
    """What a file was proven by, the strongest first."""

    SHA256 = "sha256"  #: the digest of its ``.CHECKSUM`` object
    ETAG = "etag"  #: size and the MD5 that the listing gives
    STALE = "stale"  #: as by ETag, against a published digest of other bytes
    SIZE = "size"  #: size and its own CRC-32, all there is without digest and MD5


@dataclass(frozen=True, slots=True)
class Expected:
    """What the archive promises of an object.

    Attributes
    ----------
    size : int or None
    etag : str or None
        None, like `size`, when the archive was not asked.
    digest : str or None
        SHA-256 in hex; None when it is not to be compared.
    """

    size: int | None
    etag: str | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a file under its final name."""

    key: str
    stamp: Stamp
    sha256: str
    etag: str | None
    by: ProvenBy
    proven_at: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stamp.size


class ProofRecord(NamedTuple):
    """What was recorded of a file when it was proven."""

    stamp: Stamp
    sha256: str
    #: Whether the digest is the one that the archive publishes.
    published: bool = False

    def is_of(self, stamp: Stamp) -> bool:
        """Return whether a file with this stamp is still the one that was proven."""
        return self.stamp.agrees(stamp)


class Moved(NamedTuple):
    """A file whose size is the proven one, and whose stamp is another."""

    key: str
    place: str
    proof: ProofRecord


class MissingRecord(NamedTuple):
    """What was noted of an object that the archive was found to lack."""

    reason: Reason
    said: str


_TABLES = {
    "proofs": Table(
        {
            "key": TEXT,
            "size": COUNT,
            "mtime": INTEGER,
            "sha256": DIGEST,
            "etag": MAYBE_TEXT,
            "proven_by": TEXT,
            "proven_at": TEXT,
        },
        added={"ctime": MAYBE_INTEGER, "inode": MAYBE_INTEGER},
    ),
    "missing": Table({"key": TEXT, "said": TEXT}, added={"reason": MAYBE_TEXT}),
    "places": Table({"key": TEXT, "place": TEXT}, unique="place"),
}
#: What a later hash has shown of moved files, by root and key, where it cannot be recorded.
_REHASHED: dict[str, dict[str, ProofRecord]] = {}
#: What `Store.rehash` does, for people who wait for it.
HASHING = "hashing files that were moved since they were proven"
#: Files that one thread hashes before it looks whether there is something else to do.
_FILES_PER_HASHER = 32

#: Seconds in which a file may lie in place while its proof is not recorded yet.
COMMIT_DELAY = 1.0


class Store:
    """A local folder in the archive's layout.

    Parameters
    ----------
    root : str or Path
        Need not exist; created when the first file arrives.
    storage : BaseStorage, optional
        Decides where files lie. Without one they lie where a storage once placed them, and
        all others under their key.
    """

    def __init__(self, root: str | Path, storage: BaseStorage | None = None) -> None:
        self.root = Path(root).absolute()
        self._storage = storage
        self._made: set[str] = set()
        #: Places by key, as the storage decided them.
        self._decided: dict[str, str] = {}
        #: Places by key, as they are recorded, and when that was last looked up.
        self._remembered: dict[str, str] = {}
        self._read_at: Stamp | None = None
        #: Folders by whether symbolic links on the way to them lead out of the store.
        self._outside: dict[str, bool] = {}
        #: Keys whose recorded places are ignored.
        self._bad_places: set[str] = set()
        self._records = Database(
            self.root / PRIVATE / "proofs.sqlite", _TABLES, rebuilt=self._rebuilt
        )

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    # Where files lie

    def path(self, key: str) -> Path:
        """Where the object with this key lies, once it is proven."""
        return self.root / self.place(key)

    def place(self, key: str) -> str:
        """Give the path inside the store of the object with this key, once it is proven."""
        if self._storage is None:
            return (self._remembered if self._read_at else self.places()).get(key, key)
        place = self._decided.get(key)
        if place is None:
            place = path_in_store(self._storage, key, self.root)
            if place != key and self._leads_outside(place):
                raise ConfigurationError(
                    f"storage: get_partition_path gives {place.rpartition('/')[0]!r} for {key}: a "
                    f"symbolic link on that path leads out of output_directory, {self.root}"
                )
            self._decided[key] = place
        return place

    def places(self) -> Mapping[str, str]:
        """Return the recorded places of files that do not lie under their key, by key.

        Costs a look at one file's time unless something was recorded since the last call.
        Places outside of the store, and those of other files, are ignored with a warning.

        Raises
        ------
        StoreError
            If the record is locked, or cannot be read.
        """
        try:
            stat = os.stat(self._records.path)  # noqa: PTH116 -- asked for every question
        except OSError:
            self._remembered, self._read_at = {}, _NO_STAMP
            return self._remembered
        stamp = stamp_of(stat)
        if self._read_at != stamp:
            self._outside.clear()
            self._remembered = dict(self._sound_places(self._records.rows("places")))
            settled = time.time_ns() - stat.st_mtime_ns > _UNSETTLED
            self._read_at = stamp if settled else _NO_STAMP
        return self._remembered

    def _sound_places(self, rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
        """Leave out recorded places where no file of ours can lie, with a warning."""
        bad = []
        self._bad_places.clear()
        for key, place in rows:
            why = fault_of_place(key, place)
            if not why and self._leads_outside(place):
                why = "a symbolic link leads out of the store"
            if why:
                bad.append(f"{place!r} of {key!r} ({why})")
                self._bad_places.add(key)
            else:
                yield key, place
        if bad:
            more = f", and {len(bad) - 3:,} more" if len(bad) > 3 else ""
            warnings.warn(
                f"{self._records.path}: recorded places of files are ignored: "
                f"{'; '.join(bad[:3])}{more}; collect the files again, they are then found "
                "or fetched",
                ArchiveKitWarning,
                stacklevel=3,
            )

    def _leads_outside(self, place: str) -> bool:
        """Return whether symbolic links on a path inside the store lead out of it."""
        folder = place.rpartition("/")[0]
        if folder not in self._outside:
            path = f"{self.root}/{folder}"
            self._outside[folder] = bool(folder) and not self._is_inside(path)
        path = f"{self.root}/{place}"
        return self._outside[folder] or (os.path.islink(path) and not self._is_inside(path))  # noqa: PTH114

    def _is_inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root))

    def decide(self, keys: Iterable[str]) -> dict[str, str]:
        """Give the places of objects that will not lie under their key, by key.

        Raises
        ------
        ConfigurationError
            If the storage has one place for two of them.
        """
        places = {key: place for key in keys if (place := self.place(key)) != key}
        owners: dict[str, str] = {}
        for key, place in places.items():
            if owners.setdefault(place, key) != key:
                raise _shared(place, owners[place], key)
        return places

    def remember(self, keys: Iterable[str]) -> None:
        """Record where objects will lie, before they do: a place alone says no key.

        Recorded places that are ignored are removed.

        Raises
        ------
        ConfigurationError
            If one of their places is that of another file.
        """
        self.places()
        keys = list(keys) if self._storage is not None else []
        gone = [(key,) for key in (*keys, *self._bad_places)]
        if not gone:
            return
        places = self.decide(keys)

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM places WHERE key = ?", gone)
            for key, place in places.items():
                try:
                    connection.execute("INSERT INTO places VALUES (?,?)", (key, place))
                except sqlite3.IntegrityError:
                    [(owner,)] = connection.execute(
                        "SELECT key FROM places WHERE place = ?", (place,)
                    )
                    raise _shared(place, owner, key) from None

        self._records.write(write)

    # What there is

    def inventory(self, prefixes: Iterable[str], keys: Iterable[str] = ()) -> pl.DataFrame:
        """Look at the files below some prefixes, and at their proofs; reads no file.

        Parameters
        ----------
        prefixes : iterable of str
            Each ending in ``/``.
        keys : iterable of str
            Objects below them that are asked for; only a storage's are looked at one by one.

        Returns
        -------
        polars.DataFrame
            One row per file, with `INVENTORY_SCHEMA`.
        """
        found: list[tuple[str, Stamp]] = []
        held: list[str] = []
        if self._storage is not None:
            held = list(prefixes)
            return self._inventory(self._look_at({key: self.place(key) for key in keys}), held)
        placed: dict[str, dict[str, str]] = {}
        for key, place in self.places().items():
            placed.setdefault(f"{key.rpartition('/')[0]}/", {})[key] = place
        for prefix in prefixes:
            try:
                stats = list(_zips_in(f"{self.root}/{prefix}", prefix))
            except (FileNotFoundError, NotADirectoryError):
                stats = []
            except OSError as error:
                raise disk_error(error, self.root) from None
            if elsewhere := placed.get(prefix):
                stats = [each for each in stats if each[0] not in elsewhere]
                stats += self._look_at(elsewhere)
            if stats:
                held.append(prefix)
                found += stats
        return self._inventory(found, held)

    def _look_at(self, places: Mapping[str, str]) -> list[tuple[str, Stamp]]:
        """Look at files by their places: key and stamp of those that are there."""
        stats = []
        for key, place in places.items():
            try:
                stat = os.stat(f"{self.root}/{place}")  # noqa: PTH116 -- of thousands of files
            except OSError as error:
                if error.errno in NOT_THERE:
                    continue
                raise disk_error(error, self.root) from None
            stats.append((key, stamp_of(stat)))
        return stats

    def _inventory(self, found: Sequence[tuple[str, Stamp]], held: Sequence[str]) -> pl.DataFrame:
        """Put the proofs below some prefixes beside the files that were found there."""
        stamp = dict.fromkeys(Stamp._fields, pl.Int64)
        of_proof = {f"proven_{name}": dtype for name, dtype in stamp.items()}
        files = _frame([(key, *stamp) for key, stamp in found], {"key": pl.String, **stamp})
        proofs = _frame(
            self._select_proofs(held, "etag", "proven_by"),
            {
                "key": pl.String,
                **of_proof,
                "proven_etag": pl.String,
                "proven_by": pl.String,
            },
        )
        return (
            files.join(proofs, on="key", how="left")
            .with_columns(pl.all_horizontal(map(_agrees, Stamp._fields)).alias("unchanged"))
            .rename({"size": "file_size"})
            .select(INVENTORY_SCHEMA.names())
        )

    def _select_proofs(self, prefixes: Sequence[str], *columns: str) -> list[tuple[Any, ...]]:
        """Return key, stamp and some more columns of the proofs below some prefixes."""
        names = ("key", *Stamp._fields, *columns)
        ranges = map(key_range, prefixes)
        known = _REHASHED.get(str(self.root))
        if not known:
            return self._records.rows("proofs", names, ranges)
        rows = self._records.rows("proofs", ("sha256", *names), ranges)
        return [_as_rehashed(row, known.get(row[1])) for row in rows]

    def free_bytes(self) -> int:
        """Bytes free on the disk that holds the store, or will hold it."""
        return shutil.disk_usage(self._nearest_folder()).free

    def free_files(self) -> int | None:
        """Files that the disk has room for (inodes); None where there is no such limit."""
        if not hasattr(os, "statvfs"):
            return None
        found = os.statvfs(self._nearest_folder())
        return found.f_favail if found.f_files else None

    def _nearest_folder(self) -> Path:
        folder = self.root
        while not folder.exists():
            folder = folder.parent
        return folder

    # Proof

    def prove(
        self, key: str, file: str | Path, expected: Expected, *, accept_stale: bool = False
    ) -> Proof:
        """Prove that a file holds what the archive promises under a key.

        Reads the file once, and once more when the digests differ.

        Raises
        ------
        Corrupt
            If size, digest or ETag are not the promised ones.
        StaleChecksum
            If size and ETag are, and the published digest is not.
        BadZip
            If the bytes are the promised ones, and are no zip with the one right member.
        """
        with io.FileIO(file) as opened:
            stat = os.fstat(opened.fileno())
            # A small file is read once; most of the archive's are.
            source = cast(BinaryIO, opened)
            if stat.st_size <= _CHUNK:
                source = io.BytesIO(opened.read())
            if expected.size is not None and stat.st_size != expected.size:
                raise Corrupt(
                    key, f"{stat.st_size:,} bytes, and the archive lists {expected.size:,}"
                )
            sha256 = _hash(source, "sha256")
            by = _compare(key, source, sha256, expected)
            try:
                # The publisher's digest vouches for every byte. Inflating a large member
                # would take many times longer than that, and readers check its CRC-32.
                vouched = by is ProvenBy.SHA256 and stat.st_size > _CHUNK
                check_member(source, stat.st_size, member_of(key), inflate=not vouched)
            except BadMemberError as error:
                # Damage and a digest that does not match are one thing: damage.
                if by is ProvenBy.STALE:
                    raise Corrupt(key, f"SHA-256 is {sha256}, not {expected.digest}") from None
                raise BadZip(key, str(error)) from None
        if by is ProvenBy.STALE and not accept_stale:
            raise StaleChecksum(
                key,
                f"size, ETag and CRC-32 are right, but the published SHA-256 is "
                f"{expected.digest} and that of the bytes {sha256}; "
                "accept_stale_checksum=True takes such files",
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Proof(key, stamp_of(stat), sha256, expected.etag, by, now)

    def recorded(self, prefix: str) -> dict[str, ProofRecord]:
        """Return stamp and SHA-256 of the proven files whose keys begin with a prefix.

        Reads no file; the files may have changed, or gone, since they were proven.
        """
        rows = self._select_proofs([prefix], "sha256", "proven_by")
        return {
            key: ProofRecord(
                Stamp(size, mtime, ctime or 0, inode or 0), sha256, by == ProvenBy.SHA256
            )
            for key, size, mtime, ctime, inode, sha256, by in rows
        }

    def rehash(
        self, moved: Sequence[Moved], done: Callable[[int, int], None]
    ) -> dict[str, ProofRecord]:
        """Hash files again whose size is the proven one and whose stamp is another.

        A file that was copied, linked, restored or renamed has the bytes that were proven.
        Its new stamp is recorded, so that this happens once; in memory where the record
        cannot be written.

        Parameters
        ----------
        moved : sequence of Moved
        done : callable
            Called with numbers of files and bytes as they are hashed, from any thread; ends
            the work by raising.

        Returns
        -------
        dict of str to Recorded
            What is recorded now, by key, of the files whose bytes are the proven ones.
        """
        if not moved:
            return {}
        parts = [
            moved[at : at + _FILES_PER_HASHER] for at in range(0, len(moved), _FILES_PER_HASHER)
        ]
        same: dict[str, ProofRecord] = {}
        pool = ThreadPoolExecutor(min(os.cpu_count() or 1, len(parts)), "hasher")
        try:
            for found in pool.map(lambda part: self._hash_moved(part, done), parts):
                same |= found
        finally:
            pool.shutdown(cancel_futures=True)
            # Interrupted, the next call goes on where this one stopped.
            self.restamp(same)
        return same

    def _hash_moved(
        self, moved: Sequence[Moved], done: Callable[[int, int], None]
    ) -> dict[str, ProofRecord]:
        same = {}
        for key, place, proof in moved:
            with suppress(OSError), (self.root / place).open("rb") as file:
                stamp = stamp_of(os.fstat(file.fileno()))
                if stamp.size == proof.stamp.size and _hash(file, "sha256") == proof.sha256:
                    same[key] = proof._replace(stamp=stamp)
            done(1, proof.stamp.size)
        return same

    def restamp(self, proofs: Mapping[str, ProofRecord]) -> None:
        """Record the stamps that proven files have now; in memory if that is not possible."""
        if not proofs:
            return
        rows = [(*proof.stamp, key, proof.sha256) for key, proof in proofs.items()]

        def write(connection: sqlite3.Connection) -> None:
            # Another process may have replaced the file, and its proof, meanwhile.
            connection.executemany(
                "UPDATE proofs SET size = ?, mtime = ?, ctime = ?, inode = ?"
                " WHERE key = ? AND sha256 = ?",
                rows,
            )

        try:
            self._records.write(write)
        except ArchiveKitError:
            _REHASHED.setdefault(str(self.root), {}).update(proofs)

    def record_missing(self, missing: Iterable[Absence], there: Iterable[str]) -> None:
        """Remember which objects the archive was found to lack, for reports without it.

        Parameters
        ----------
        missing : iterable of Absence
            Those without a key are about no object, and are left out.
        there : iterable of str
            Keys of objects that it does not lack, whatever was found before.
        """
        if not self._records.path.exists():
            return
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        rows = [
            (each.key, f"{each.detail}, asked on {now} UTC", each.reason.value)
            for each in missing
            if each.key
        ]
        noted = {key for (key,) in self._records.rows("missing", ["key"])}
        # Few are missing, and there may be a million.
        gone = [(key,) for key in (noted.intersection(there) if noted else ())]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM missing WHERE key = ?", gone)
            connection.executemany(
                "INSERT OR REPLACE INTO missing (key, said, reason) VALUES (?,?,?)", rows
            )

        if rows or gone:
            self._records.write(write)

    def missing(self, prefix: str) -> dict[str, MissingRecord]:
        """Say which objects below a prefix the archive was found to lack, why, and when."""
        rows = self._records.rows("missing", ranges=[key_range(prefix)])
        return {key: MissingRecord(_reason_of(reason), said) for key, said, reason in rows}

    def quarantined(self, prefix: str) -> dict[str, str]:
        """Say which objects below a prefix have bytes set aside, and for which reason."""
        found = {}
        for path in sorted((self.root / QUARANTINE / prefix).glob("*.bad")):
            if name := _QUARANTINED.fullmatch(path.name):
                found[f"{prefix}{name[1]}"] = _reason_beside(path)
        return found

    def collected(self) -> set[str]:
        """Return the keys of all files that were ever proven here, or set aside as bad.

        Reads no file; the files may have changed, or gone, since then.
        """
        rows = self._records.rows("proofs", ("key",))
        aside = self.root / QUARANTINE
        return {key for (key,) in rows} | {
            f"{path.parent.relative_to(aside).as_posix()}/{name[1]}"
            for path in aside.rglob("*.bad")
            if (name := _QUARANTINED.fullmatch(path.name))
        }

    def admit(self, proof: Proof, staged: str | Path) -> Proof:
        """Move a proven file to its final name, replacing what lies there, atomically.

        Returns
        -------
        Proof
            The same, with the stamp that the file has under its final name.
        """
        place = self.place(proof.key)
        folder = place.rpartition("/")[0]
        if folder not in self._made:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        # As text: putting a Path together takes longer than the rename itself.
        path = f"{self.root}/{place}"
        os.replace(staged, path)  # noqa: PTH105
        # Renaming a file changes its ctime. Anything else that differs is of another file,
        # which was put in its place since, and of which this proof says nothing.
        moved = stamp_of(os.stat(path))  # noqa: PTH116
        same = moved._replace(ctime=proof.stamp.ctime) == proof.stamp
        return replace(proof, stamp=moved) if same else proof

    @contextmanager
    def recorder(self) -> Iterator[Callable[[Sequence[Proof]], None]]:
        """Lend a function that remembers proofs, from any thread.

        A later run keeps the files whose proof is remembered without reading them.
        """
        lock = threading.Lock()
        waiting: list[tuple[Any, ...]] = []
        trouble: ArchiveKitError | None = None
        with closing(Writer(self._records)) as writer:

            def write(connection: sqlite3.Connection) -> None:
                connection.executemany(
                    "INSERT OR REPLACE INTO proofs (key, size, mtime, ctime, inode, sha256, etag,"
                    " proven_by, proven_at) VALUES (?,?,?,?,?,?,?,?,?)",
                    waiting,
                )

            def record(proofs: Sequence[Proof]) -> None:
                nonlocal trouble
                with lock:
                    waiting.extend(
                        (p.key, *p.stamp, p.sha256, p.etag, p.by.value, p.proven_at) for p in proofs
                    )
                    try:
                        writer.write(write)
                    except ArchiveKitError as error:
                        # The files are proven all the same. The next call tries again, and
                        # waits no longer for another process that holds the record.
                        trouble = error
                        writer.patience = _IMPATIENCE
                    else:
                        waiting.clear()

            # What cannot be written from the beginning is told before any work.
            writer.write(lambda connection: None)
            yield record
            if waiting:
                record([])
        # A full disk is in the result already, as what failed for it.
        if waiting and not isinstance(trouble, DiskSpaceError):
            warnings.warn(
                f"{len(waiting):,} proofs could not be recorded ({trouble}); "
                "the next collection proves these files again",
                ArchiveKitWarning,
                stacklevel=2,
            )

    def forget(self, keys: Iterable[str]) -> None:
        """Forget the proofs of files: they are to be proven again, or fetched."""
        rows = [(key,) for key in keys]
        for (key,) in rows:
            _REHASHED.get(str(self.root), {}).pop(key, None)
        if rows and self._records.path.exists():
            self._records.write(
                lambda connection: connection.executemany("DELETE FROM proofs WHERE key = ?", rows)
            )

    def quarantine(self, file: Path, error: ObjectError, expected: Expected) -> Path:
        """Set bytes aside that failed their proof, with the reason in a file beside them.

        Returns
        -------
        Path
            Where the bytes lie now. The name ends in ``.bad``, so that no reader of
            zips takes them up.
        """
        with file.open("rb") as source:
            sha256 = _hash(source, "sha256")
        aside = self.root / QUARANTINE / f"{error.key}.{sha256[:12]}.bad"
        aside.parent.mkdir(parents=True, exist_ok=True)
        file.replace(aside)
        said = {
            "key": error.key,
            "reason": error.reason,
            "detail": error.detail,
            "sha256": sha256,
            "size": aside.stat().st_size,
            "expected_sha256": expected.digest,
            "expected_etag": expected.etag,
            "expected_size": expected.size,
            "quarantined_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        reason = json.dumps(said, indent=1, ensure_ascii=False)
        part = aside.with_name(f"{aside.name}.json.part")
        # The bytes are safe without their reason; a reason is there whole, or not at all.
        with suppress(OSError):
            part.write_text(f"{reason}\n", encoding="utf-8")
            part.replace(aside.with_name(f"{aside.name}.json"))
        return aside

    def _rebuilt(self, why: str, aside: Path | None) -> None:
        """Warn of a damaged record; save the places of files, which nothing else tells.

        Each place names its file, so that a wrong one shows.
        """
        path = self._records.path
        if aside is None:
            fate = "cannot be moved out of the way, so that nothing is recorded; remove it"
            places = 0
        else:
            fate = f"was moved to {aside.name}"
            places = self._save_places(aside)
        elsewhere = (
            f"the places of {places:,} files that a storage placed elsewhere were saved"
            if places
            else "where files lie that a storage placed elsewhere (collect again with that storage)"
        )
        warnings.warn(
            f"{path} is damaged ({why}) and {fate}. Lost: the proofs of its files (the next "
            "collect proves them again, without fetching them); what the archive was found to "
            f"lack; {elsewhere}",
            ArchiveKitWarning,
            stacklevel=2,
        )

    def _save_places(self, damaged: Path) -> int:
        """Record again the places that a damaged record still tells; return how many."""
        rows = [
            (key, place)
            for key, place in self._records.saved(damaged, "places")
            if not fault_of_place(key, place)
        ]
        if rows:
            self._records.write(
                lambda connection: connection.executemany(
                    "INSERT OR REPLACE INTO places (key, place) VALUES (?,?)", rows
                )
            )
        return len(rows)

    # Staging

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Lend a private folder for downloads, on the same disk as the store.

        Folders that a killed run left behind are removed first; those of living runs
        are known by their locks. The folder is removed at the end.
        """
        home = self.root / PRIVATE / "staging"
        home.mkdir(parents=True, exist_ok=True)
        folder = home / uuid.uuid4().hex[:12]
        lock = FileLock(f"{folder}.lock")
        with FileLock(home / "lock"):
            _sweep(home)
            lock.acquire()
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)


def _sweep(home: Path) -> None:
    """Remove staging folders whose run is gone."""
    for path in home.glob("*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        lock.release()
        path.unlink(missing_ok=True)


def _shared(place: str, one: str, other: str) -> ConfigurationError:
    return ConfigurationError(
        f"storage: get_partition_path has one place, {place}, for two files: {one} and {other}; "
        "let the folder tell them apart, by trade_type, data_type and symbol"
    )


def _frame(
    rows: Sequence[Row], schema: Mapping[str, pl.DataType | type[pl.DataType]]
) -> pl.DataFrame:
    """Build a frame column by column, which takes a third of the time that rows take."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema)


def _agrees(name: str) -> pl.Expr:
    """Compare a part of the stamps of file and proof, as `Stamp.agrees` does."""
    file, proof = pl.col(name), pl.col(f"proven_{name}")
    if name not in Stamp._field_defaults:
        return file == proof
    # Null in a record of an older version.
    return (file == proof) | (file == 0) | (proof.fill_null(0) == 0)


def _reason_of(word: str | None) -> Reason:
    """Read a noted reason; one that is not known counts as a lack, which hides nothing."""
    return Reason(word) if word in set(Reason) else Reason.ABSENT


def _as_rehashed(row: Row, known: ProofRecord | None) -> Row:
    """Replace the stamp in a row of the proofs by that of a later hash; drop the digest."""
    sha256, key, *rest = row
    if known is not None and known.sha256 == sha256:
        rest[: len(known.stamp)] = known.stamp
    return (key, *rest)


def _reason_beside(path: Path) -> str:
    """Return why bytes are in quarantine, as the file beside them says."""
    try:
        said = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
        reason, detail = said["reason"], said["detail"]
        if isinstance(reason, str) and isinstance(detail, str):
            return f"{reason}: {detail}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return "reason unknown: the note beside the bytes is missing or damaged"


def _compare(key: str, source: BinaryIO, sha256: str, expected: Expected) -> ProvenBy:
    """Hold the bytes' hashes against the promised ones."""
    if expected.digest == sha256:
        return ProvenBy.SHA256
    md5 = expected.etag if expected.etag and _MD5.fullmatch(expected.etag) else None
    same_etag = md5 is not None and _hash(source, "md5") == md5
    if expected.digest is not None:
        if same_etag:
            return ProvenBy.STALE
        raise Corrupt(key, f"SHA-256 is {sha256}, and the archive publishes {expected.digest}")
    if md5 is None:
        return ProvenBy.SIZE
    if not same_etag:
        raise Corrupt(key, f"MD5 is not the ETag {md5} that the archive lists")
    return ProvenBy.ETAG


def _hash(source: BinaryIO, name: str) -> str:
    if isinstance(source, io.BytesIO):
        # A buffer would have to be cleared first, which takes longer than the hash itself.
        return hashlib.new(name, source.getbuffer(), usedforsecurity=False).hexdigest()
    source.seek(0)
    digest = hashlib.new(name, usedforsecurity=False)
    buffer = memoryview(bytearray(_CHUNK))
    while count := source.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
    return digest.hexdigest()


def _zips_in(folder: str, prefix: str) -> Iterator[tuple[str, Stamp]]:
    """Yield key and stamp of the zips in a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".zip"):
                try:
                    if entry.is_file():
                        yield prefix + entry.name, stamp_of_entry(entry)
                except OSError as error:
                    # It may go while its folder is read.
                    if error.errno not in NOT_THERE:
                        raise
