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

import errno
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
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import polars as pl
from filelock import FileLock, Timeout

from binance_archive_kit.errors import (
    ArchiveKitWarning,
    BadZip,
    ConfigurationError,
    Corrupt,
    ObjectError,
    StaleChecksum,
)
from binance_archive_kit.keys import key_range, member_of
from binance_archive_kit.layout import PRIVATE, QUARANTINE, BaseStorage, place_of
from binance_archive_kit.members import BadMemberError, check_member
from binance_archive_kit.planning import INVENTORY_SCHEMA
from binance_archive_kit.stamps import Stamp, stamp_of, stamp_of_entry
from binance_archive_kit.wishes import Absence, Reason

_MD5 = re.compile(r"[0-9a-f]{32}")
_CHUNK = 1 << 20
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


class Recorded(NamedTuple):
    """What was recorded of a file when it was proven."""

    stamp: Stamp
    sha256: str
    #: Whether the digest is the one that the archive publishes.
    published: bool = False

    def is_of(self, stamp: Stamp) -> bool:
        """Return whether a file with this stamp is still the one that was proven."""
        return self.stamp.agrees(stamp)


class Lacking(NamedTuple):
    """What was noted of an object that the archive was found to lack."""

    reason: Reason
    said: str


#: Seconds in which a file may lie in place while its proof is not recorded yet.
SETTLING = 1.0


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
            place = self._decided[key] = place_of(self._storage, key, self.root)
        return place

    def places(self) -> Mapping[str, str]:
        """Give the remembered places of files that do not lie under their key, by key.

        Costs a look at one file's time unless something was recorded since the last call.
        """
        try:
            stat = os.stat(self._database)  # noqa: PTH116 -- asked for every question
        except FileNotFoundError:
            self._remembered, self._read_at = {}, _NO_STAMP
            return self._remembered
        stamp = stamp_of(stat)
        if self._read_at != stamp:
            there = self._select("SELECT 1 FROM sqlite_master WHERE name = ?", [("places",)])
            rows = self._select("SELECT key, place FROM places", [()]) if there else []
            self._remembered = dict(rows)
            settled = time.time_ns() - stat.st_mtime_ns > _UNSETTLED
            self._read_at = stamp if settled else _NO_STAMP
        return self._remembered

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
        """Remember where objects will lie, before they do: a place alone says no key.

        Raises
        ------
        ConfigurationError
            If one of their places is that of another file.
        """
        if self._storage is None:
            return
        keys = list(keys)
        places = self.decide(keys)
        with closing(self._connect()) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS places (key TEXT PRIMARY KEY, place TEXT UNIQUE)"
                " WITHOUT ROWID"
            )
            connection.executemany("DELETE FROM places WHERE key = ?", ((key,) for key in keys))
            for key, place in places.items():
                try:
                    connection.execute("INSERT INTO places VALUES (?,?)", (key, place))
                except sqlite3.IntegrityError:
                    [(owner,)] = connection.execute(
                        "SELECT key FROM places WHERE place = ?", (place,)
                    )
                    raise _shared(place, owner, key) from None

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
                with os.scandir(self.root / prefix) as entries:
                    stats = [
                        (f"{prefix}{entry.name}", stamp)
                        for entry in entries
                        if entry.name.endswith(".zip") and entry.is_file()
                        for stamp in _stamp_of(entry)
                    ]
            except (FileNotFoundError, NotADirectoryError):
                stats = []
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
            except (FileNotFoundError, NotADirectoryError):
                continue
            stats.append((key, stamp_of(stat)))
        return stats

    def _inventory(self, found: Sequence[tuple[str, Stamp]], held: Sequence[str]) -> pl.DataFrame:
        """Put the proofs below some prefixes beside the files that were found there."""
        of_file: dict[str, Any] = {"key": pl.String, **dict.fromkeys(Stamp._fields, pl.Int64)}
        of_proof = {f"proven_{name}": dtype for name, dtype in of_file.items() if name != "key"}
        of_proof |= {"proven_etag": pl.String, "proven_by": pl.String}
        files = pl.DataFrame([(key, *stamp) for key, stamp in found], of_file, orient="row")
        rows = self._select_proofs(held, "etag", "proven_by")
        proofs = pl.DataFrame(rows, {"key": pl.String, **of_proof}, orient="row")
        return (
            files.join(proofs, on="key", how="left")
            .with_columns(pl.all_horizontal(map(_agrees, Stamp._fields)).alias("unchanged"))
            .rename({"size": "file_size"})
            .select(INVENTORY_SCHEMA.names())
        )

    def _select_proofs(self, prefixes: Sequence[str], *columns: str) -> list[tuple[Any, ...]]:
        """Return key, stamp and some more columns of the proofs below some prefixes."""
        names = ", ".join(columns)

        def ask(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            stamp = "ifnull(ctime, 0), ifnull(inode, 0)" if _has_stamps(connection) else "0, 0"
            query = (
                f"SELECT key, size, mtime, {stamp}, {names}"  # noqa: S608 -- our words
                " FROM proofs WHERE key >= ? AND key < ?"
            )
            return [row for each in prefixes for row in connection.execute(query, key_range(each))]

        return self._ask(ask)

    def _select(self, query: str, each: Iterable[Sequence[str]]) -> list[tuple[Any, ...]]:
        """Return what is recorded, once for each set of values."""
        return self._ask(
            lambda connection: [row for values in each for row in connection.execute(query, values)]
        )

    def _ask(
        self, ask: Callable[[sqlite3.Connection], list[tuple[Any, ...]]]
    ) -> list[tuple[Any, ...]]:
        """Read the database; returns no rows if it is missing or damaged."""
        if not self._database.exists():
            return []
        try:
            with closing(self._connect()) as connection:
                return ask(connection)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            # Damaged further in than a look at its first page shows.
            self._set_aside(error)
            return []

    def free_bytes(self) -> int:
        """Bytes free on the disk that holds the store, or will hold it."""
        folder = self.root
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

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

    def recorded(self, prefix: str) -> dict[str, Recorded]:
        """Give stamp and SHA-256 of the proven files whose keys begin with a prefix.

        Reads no file; the files may have changed, or gone, since they were proven.
        """
        rows = self._select_proofs([prefix], "sha256, proven_by")
        return {
            key: Recorded(Stamp(size, mtime, ctime, inode), sha256, by == ProvenBy.SHA256)
            for key, size, mtime, ctime, inode, sha256, by in rows
        }

    def note_missing(self, missing: Iterable[Absence], there: Iterable[str]) -> None:
        """Remember which objects the archive was found to lack, for reports without it.

        Parameters
        ----------
        missing : iterable of Absence
            Those without a key are about no object, and are left out.
        there : iterable of str
            Keys of objects that it does not lack, whatever was found before.
        """
        if not self._database.exists():
            return
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        rows = [
            (each.key, f"{each.detail}, asked on {now} UTC", each.reason.value)
            for each in missing
            if each.key
        ]
        with closing(self._connect()) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            _make_room_for_reasons(connection)
            noted = {key for (key,) in connection.execute("SELECT key FROM missing")}
            # Few are missing, and there may be a million.
            gone = noted.intersection(there) if noted else ()
            connection.executemany("DELETE FROM missing WHERE key = ?", [(key,) for key in gone])
            connection.executemany("INSERT OR REPLACE INTO missing VALUES (?,?,?)", rows)

    def missing(self, prefix: str) -> dict[str, Lacking]:
        """Say which objects below a prefix the archive was found to lack, why, and when."""
        # All columns: a store that was last written before reasons were noted has none.
        rows = self._select("SELECT * FROM missing WHERE key >= ? AND key < ?", [key_range(prefix)])
        return {key: Lacking(_reason_of(*reason), said) for key, said, *reason in rows}

    def quarantined(self, prefix: str) -> dict[str, str]:
        """Say which objects below a prefix have bytes set aside, and for which reason."""
        found = {}
        for path in sorted((self.root / QUARANTINE / prefix).glob("*.bad.json")):
            said = json.loads(path.read_text(encoding="utf-8"))
            found[said["key"]] = f"{said['reason']}: {said['detail']}"
        return found

    def hash(self, place: str) -> str:
        """Hash the file that lies at a path inside the store: its SHA-256 in hex."""
        with (self.root / place).open("rb") as file:
            return _hash(file, "sha256")

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
        with closing(self._connect()) as connection:
            with connection:
                _make_room_for_stamps(connection)

            def record(proofs: Sequence[Proof]) -> None:
                rows = [
                    (p.key, *p.stamp, p.sha256, p.etag, p.by.value, p.proven_at) for p in proofs
                ]
                try:
                    with lock, connection:
                        connection.executemany(
                            "INSERT OR REPLACE INTO proofs (key, size, mtime, ctime, inode,"
                            " sha256, etag, proven_by, proven_at) VALUES (?,?,?,?,?,?,?,?,?)",
                            rows,
                        )
                except sqlite3.OperationalError as error:
                    # Without room for its record a file is proven all the same; a later
                    # run proves it again.
                    if not _is_full(error):
                        raise

            yield record

    def forget(self, keys: Iterable[str]) -> None:
        """Forget the proofs of files: they are to be proven again, or fetched."""
        rows = [(key,) for key in keys]
        if rows and self._database.exists():
            with closing(self._connect()) as connection, connection:
                connection.executemany("DELETE FROM proofs WHERE key = ?", rows)

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
        aside.with_name(f"{aside.name}.json").write_text(f"{reason}\n", encoding="utf-8")
        return aside

    @property
    def _database(self) -> Path:
        return self.root / PRIVATE / "proofs.sqlite"

    def _connect(self) -> sqlite3.Connection:
        """Open the proofs, starting anew if the file is damaged: proofs can be had again."""
        self._database.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if _is_full(error):
                raise OSError(errno.ENOSPC, str(error), str(self._database)) from None
            if isinstance(error, sqlite3.OperationalError):
                raise
            self._set_aside(error)
            return self._open()

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Put a damaged database aside; what it said can be proven again."""
        aside = self._database.with_name(f"proofs.damaged-{uuid.uuid4().hex[:8]}.sqlite")
        self._database.replace(aside)
        warnings.warn(
            f"{self._database} is damaged ({error}) and was set aside as {aside.name}; "
            "the files of this store will be proven again",
            ArchiveKitWarning,
            stacklevel=2,
        )

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._database, timeout=60, check_same_thread=False)
        try:
            # A killed process loses nothing; only a power cut may, and then we prove again.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=TRUNCATE")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS proofs (key TEXT PRIMARY KEY, size INTEGER,"
                " mtime INTEGER, sha256 TEXT, etag TEXT, proven_by TEXT, proven_at TEXT,"
                " ctime INTEGER, inode INTEGER) WITHOUT ROWID"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS missing (key TEXT PRIMARY KEY, said TEXT, reason TEXT)"
                " WITHOUT ROWID"
            )
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

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


def _agrees(name: str) -> pl.Expr:
    """Compare a part of the stamps of file and proof, as `Stamp.agrees` does."""
    file, proof = pl.col(name), pl.col(f"proven_{name}")
    unknown = (file == 0) | (proof == 0) if name in Stamp._field_defaults else False
    return (file == proof) | unknown


def _has_stamps(connection: sqlite3.Connection) -> bool:
    """Return whether ctime and inode have columns; older versions recorded neither."""
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(proofs)")}
    return {"ctime", "inode"} <= columns


def _make_room_for_stamps(connection: sqlite3.Connection) -> None:
    """Add the columns of ctime and inode to a store that an older version made."""
    connection.execute("BEGIN IMMEDIATE")
    if not _has_stamps(connection):
        connection.execute("ALTER TABLE proofs ADD COLUMN ctime INTEGER")
        connection.execute("ALTER TABLE proofs ADD COLUMN inode INTEGER")


def _make_room_for_reasons(connection: sqlite3.Connection) -> None:
    """Make room for reasons in a store that was made before they were noted."""
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(missing)")}
    if "reason" not in columns:
        connection.execute("ALTER TABLE missing ADD COLUMN reason TEXT")


def _reason_of(word: str | None = None) -> Reason:
    """Read a noted reason; one that is not known counts as a lack, which hides nothing."""
    return Reason(word) if word in set(Reason) else Reason.ABSENT


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


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


def _stamp_of(entry: os.DirEntry[str]) -> Iterator[Stamp]:
    """Yield the stamp of a file, or nothing: it may go while its folder is read."""
    with suppress(FileNotFoundError):
        yield stamp_of_entry(entry)
