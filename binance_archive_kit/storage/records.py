"""The records of a store in ``proofs.sqlite``: proofs, missing objects and locations of files."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Span, Stream, key_range, range_of_one
from binance_archive_kit.errors import (
    ArchiveKitError,
    ArchiveKitWarning,
    DiskSpaceError,
    warn_user,
)
from binance_archive_kit.storage.databases import (
    COUNT,
    DIGEST,
    INTEGER,
    JSON,
    MAYBE_INTEGER,
    MAYBE_TEXT,
    TEXT,
    Database,
    Row,
    Table,
    Writer,
)
from binance_archive_kit.storage.layout import (
    PRIVATE,
    BaseStorage,
    fault_of_location,
    invalid_folder,
    path_in_store,
    shared_location,
)
from binance_archive_kit.storage.proof import Proof, ProvenBy, Stamp, stamp_of

#: Seconds during which a file may be in place while its proof is not recorded yet.
COMMIT_DELAY = 1.0
#: Between what the archive has answered of a missing object, and the time of the question.
ASKED = ", asked on "
#: Seconds to wait for the database once another process has kept it locked for long.
_SHORT_PATIENCE = 1.0
#: Of the tables; to be raised whenever they change.
_VERSION = 2
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
    "selections": Table({"name": TEXT, "value": JSON}),
    "selected": Table({"stream": TEXT, "first": TEXT, "last": TEXT}),
    "unfinished": Table({"stream": TEXT, "since": TEXT}),
}
#: Nanoseconds during which a file may change again without a new modification time.
_UNSETTLED = 2_000_000_000
_NO_STAMP = Stamp(0, 0)
#: Proofs with newer stamps that cannot be recorded, by root and key.
_RESTAMPED: dict[str, dict[str, ProofRecord]] = {}


class ProofRecord(NamedTuple):
    """The recorded proof of a file."""

    stamp: Stamp
    sha256: str
    #: Whether the digest is the one that the archive publishes.
    published: bool = False

    def is_of(self, stamp: Stamp) -> bool:
        """Return whether a file with this stamp is still the proven one."""
        return self.stamp.agrees(stamp)


class MissingRecord(NamedTuple):
    """The recorded reason why the archive lacks an object."""

    reason: Reason
    detail: str


class Records:
    """The records of the store in a folder; safe for several threads and processes."""

    root: Path | str
    path: Path

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / PRIVATE / "proofs.sqlite"
        self._database = Database(
            self.path, _TABLES, self._rebuilt, version=_VERSION, upgraded=self._upgraded
        )

    # Proofs

    def proofs(self, *prefixes: str, keys: Iterable[str] = ()) -> dict[str, ProofRecord]:
        """Return the proofs of the files whose keys begin with a prefix, or are among `keys`.

        Reads no file; the files may have changed, or gone, since they were proven.
        """
        rows = self.proof_rows(prefixes, "sha256", "proven_by", keys=keys)
        return {
            key: ProofRecord(
                Stamp(size, mtime, ctime or 0, inode or 0), sha256, by == ProvenBy.SHA256
            )
            for key, size, mtime, ctime, inode, sha256, by in rows
        }

    def proof_rows(
        self, prefixes: Iterable[str], *columns: str, keys: Iterable[str] = ()
    ) -> list[Row]:
        """Return key, stamp and further columns of the proofs below some prefixes, or of `keys`."""
        names = ("key", *Stamp._fields, *columns)
        ranges = [*map(key_range, prefixes), *map(range_of_one, keys)]
        restamped = _RESTAMPED.get(str(self.root))
        if not restamped:
            return self._database.rows("proofs", names, ranges)
        rows = self._database.rows("proofs", ("sha256", *names), ranges)
        return [_with_new_stamp(row, restamped.get(row[1])) for row in rows]

    def proven_keys(self) -> set[str]:
        """Return the keys of all files that have a proof."""
        return {key for (key,) in self._database.rows("proofs", ("key",))}

    @contextmanager
    def recorder(self) -> Iterator[Callable[[Sequence[Proof]], None]]:
        """Yield a function that records proofs, from any thread.

        A later run keeps the files with a recorded proof without reading them.
        """
        lock = threading.Lock()
        waiting: list[tuple[Any, ...]] = []
        error: ArchiveKitError | None = None
        with closing(Writer(self._database)) as writer:

            def write(connection: sqlite3.Connection) -> None:
                connection.executemany(
                    "INSERT OR REPLACE INTO proofs (key, size, mtime, ctime, inode, sha256, etag,"
                    " proven_by, proven_at) VALUES (?,?,?,?,?,?,?,?,?)",
                    waiting,
                )

            def record(proofs: Sequence[Proof]) -> None:
                nonlocal error
                with lock:
                    waiting.extend(
                        (p.key, *p.stamp, p.sha256, p.etag, p.by.value, p.proven_at) for p in proofs
                    )
                    try:
                        writer.write(write)
                    except ArchiveKitError as raised:
                        # The files are proven all the same. The next call tries again, with a
                        # shorter wait for another process that has locked the database.
                        error = raised
                        writer.patience = _SHORT_PATIENCE
                    else:
                        waiting.clear()

            # Raise before any work if the database cannot be written to.
            writer.write(lambda connection: None)
            yield record
            if waiting:
                record([])
        # The result already lists the failures that a full disk has caused.
        if waiting and not isinstance(error, DiskSpaceError):
            warnings.warn(
                f"{len(waiting):,} proofs could not be recorded ({error}); "
                "the next collection proves these files again",
                ArchiveKitWarning,
                stacklevel=2,
            )

    def restamp(self, proofs: Mapping[str, ProofRecord]) -> None:
        """Record new stamps of proven files; keep them in memory if that is not possible."""
        if not proofs:
            return
        rows = [(*proof.stamp, key, proof.sha256) for key, proof in proofs.items()]
        try:
            # Another process may have replaced the file, and its proof, meanwhile.
            self._write_rows(
                "UPDATE proofs SET size = ?, mtime = ?, ctime = ?, inode = ?"
                " WHERE key = ? AND sha256 = ?",
                rows,
            )
        except ArchiveKitError:
            _RESTAMPED.setdefault(str(self.root), {}).update(proofs)

    def forget(self, keys: Iterable[str]) -> None:
        """Delete the proofs of files, so that these are proven again or fetched."""
        rows = [(key,) for key in keys]
        for (key,) in rows:
            _RESTAMPED.get(str(self.root), {}).pop(key, None)
        if rows and self._database.stamp() is not None:
            self._write_rows("DELETE FROM proofs WHERE key = ?", rows)

    # Missing objects

    def record_missing(self, missing: Iterable[Absence], present: Iterable[str]) -> None:
        """Record which objects the archive lacks, for reports that do not ask it.

        Parameters
        ----------
        missing : iterable of Absence
            Recorded by the key of their last object; those of no object are left out.
        present : iterable of str
            Keys of objects that exist; earlier records of them as missing are deleted.
        """
        if self._database.stamp() is None:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        rows = [
            (key, f"{absence.detail}{ASKED}{now} UTC", absence.reason.value)
            for absence in missing
            if (key := absence.last_key)
        ]
        recorded = {key for (key,) in self._database.rows("missing", ["key"])}
        # Few objects are missing, and a million may be present.
        found = [(key,) for key in (recorded.intersection(present) if recorded else ())]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM missing WHERE key = ?", found)
            connection.executemany(
                "INSERT OR REPLACE INTO missing (key, said, reason) VALUES (?,?,?)", rows
            )

        if rows or found:
            self._database.write(write)

    def missing(self, prefix: str) -> dict[str, MissingRecord]:
        """Return the objects below a prefix that the archive was found to lack, by key."""
        columns = ("key", "said", "reason")
        rows = self._database.rows("missing", columns, [key_range(prefix)])
        # An unknown reason counts as a plain absence, so that nothing is hidden.
        return {
            key: MissingRecord(Reason(word) if word in set(Reason) else Reason.ABSENT, detail)
            for key, detail, word in rows
        }

    # Selected symbols

    def record_selections(
        self, selections: Mapping[str, object], streams: Mapping[Stream, Span]
    ) -> None:
        """Record which symbols patterns matched, for reports that do not list the archive.

        Parameters
        ----------
        selections : mapping of str to object
            What was matched, as JSON values, by the name of the patterns; replaces earlier ones.
        streams : mapping of Stream to Span
            The streams to collect, and their first and last listed day; earlier days remain.
        """
        rows = [(name, json.dumps(value)) for name, value in selections.items()]
        days = [
            (name_of_stream(stream), str(first), str(last))
            for stream, (first, last) in streams.items()
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO selections (name, value) VALUES (?,?)", rows
            )
            connection.executemany(
                "INSERT INTO selected (stream, first, last) VALUES (?,?,?)"
                " ON CONFLICT (stream) DO UPDATE SET"
                " first = min(first, excluded.first), last = max(last, excluded.last)",
                days,
            )

        self._database.write(write)

    def selections(self) -> dict[str, Any]:
        """Return what patterns matched, as JSON values, by the name of the patterns."""
        return {name: json.loads(value) for name, value in self._database.rows("selections")}

    def selected_streams(self) -> dict[Stream, Span]:
        """Return the streams that were selected by patterns, with their first and last day."""
        found = {}
        for text, first, last in self._database.rows("selected"):
            # A damaged record may name no stream.
            with suppress(ValueError):
                found[stream_of_name(text)] = date.fromisoformat(first), date.fromisoformat(last)
        return found

    # Unfinished updates

    def record_unfinished(self, streams: Mapping[Stream, date | None]) -> None:
        """Record from which UTC day on streams lack files that an update requested.

        Parameters
        ----------
        streams : mapping of Stream to date or None
            None if a stream lacks none.
        """
        recorded = self.unfinished()
        done = [
            (name_of_stream(each),) for each, day in streams.items() if not day and each in recorded
        ]
        rows = [
            (name_of_stream(each), str(day))
            for each, day in streams.items()
            if day and recorded.get(each) != day
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM unfinished WHERE stream = ?", done)
            connection.executemany(
                "INSERT OR REPLACE INTO unfinished (stream, since) VALUES (?,?)", rows
            )

        if done or rows:
            self._database.write(write)

    def unfinished(self) -> dict[Stream, date]:
        """Return the first UTC day that an unfinished update requested of each stream."""
        found = {}
        for text, since in self._database.rows("unfinished"):
            # A damaged record may name no stream.
            with suppress(ValueError):
                found[stream_of_name(text)] = date.fromisoformat(since)
        return found

    # Locations

    def locations(self) -> list[tuple[str, str]]:
        """Return key and location of the files that do not lie under their key; not validated."""
        return [(key, location) for key, location in self._database.rows("places")]

    def record_locations(self, outdated: Iterable[str], locations: Mapping[str, str]) -> None:
        """Delete the locations of some files and record others, in one transaction.

        Raises
        ------
        ConfigurationError
            If another file has one of the locations.
        """

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM places WHERE key = ?", [(key,) for key in outdated])
            for key, location in locations.items():
                try:
                    connection.execute(
                        "INSERT INTO places (key, place) VALUES (?,?)", (key, location)
                    )
                except sqlite3.IntegrityError:
                    [(owner,)] = connection.execute(
                        "SELECT key FROM places WHERE place = ?", (location,)
                    )
                    raise shared_location(location, owner, key) from None

        self._database.write(write)

    # Other versions, and damage

    def _upgraded(self, added: list[str]) -> None:
        """Tell that the records of an older version were upgraded."""
        warn_user(
            f"{self.path}: these records are from an older version of this package and were "
            f"upgraded (added: {', '.join(added)}). Nothing was lost: all proofs are kept"
        )

    def _rebuilt(self, why: str, moved: Path | None) -> None:
        """Warn of a damaged database, and save the locations in it.

        A location ends in the file's name, so that a damaged one is detected.
        """
        count = 0
        if moved is None:
            outcome = "cannot be moved, so that nothing is recorded; remove it"
        else:
            outcome = f"was moved to {moved.name}"
            rows = [
                row for row in self._database.saved(moved, "places") if not fault_of_location(*row)
            ]
            count = len(rows)
            if rows:
                self._write_rows("INSERT OR REPLACE INTO places (key, place) VALUES (?,?)", rows)
        locations = (
            f"the locations of {count:,} files that a storage placed elsewhere were saved"
            if count
            else "the locations of files that a storage placed elsewhere (collect again with that "
            "storage)"
        )
        warnings.warn(
            f"{self.path} is damaged ({why}) and {outcome}. Lost: the proofs of its files (the "
            "next collect proves them again, without fetching them); the objects that the archive "
            f"lacks; which symbols patterns have selected; {locations}",
            ArchiveKitWarning,
            stacklevel=2,
        )

    def _write_rows(self, statement: str, rows: Sequence[Row]) -> None:
        self._database.write(lambda connection: connection.executemany(statement, rows))


def name_of_stream(stream: Stream) -> str:
    """Return the name of a stream in the records."""
    return "/".join((*astuple(stream)[:3], stream.interval or ""))


def stream_of_name(name: str) -> Stream:
    """Return the stream of a name in the records.

    Raises
    ------
    ValueError
        If it names none.
    """
    market, data_type, symbol, interval = name.split("/")
    kind = Interval(interval) if interval else None
    return Stream(Market(market), DataType(data_type), symbol, kind)


def _with_new_stamp(row: Row, restamped: ProofRecord | None) -> Row:
    """Replace the stamp in a row of the proofs by a newer one, if any; drop the digest."""
    sha256, key, *rest = row
    if restamped is not None and restamped.sha256 == sha256:
        rest[: len(restamped.stamp)] = restamped.stamp
    return (key, *rest)


class Locations:
    """Paths inside a store, by key.

    Parameters
    ----------
    records : Records
    storage : BaseStorage, optional
        Decides where files lie. Without one, files lie at their recorded locations, and all
        others under their key.
    """

    def __init__(self, records: Records, storage: BaseStorage | None = None) -> None:
        self.root = Path(records.root)
        self.storage = storage
        self._records = records
        #: Decided by the storage.
        self._decided: dict[str, str] = {}
        #: Recorded, with the stamp of the database when they were read.
        self._recorded: dict[str, str] = {}
        self._read_at: Stamp | None = None
        #: Whether symbolic links on the way to a folder lead out of the store.
        self._outside: dict[str, bool] = {}
        #: Keys whose recorded locations are ignored.
        self._invalid: set[str] = set()

    def location(self, key: str) -> str:
        """Return the path inside the store of an object, once it is proven."""
        if self.storage is None:
            return (self._recorded if self._read_at else self.recorded()).get(key, key)
        location = self._decided.get(key)
        if location is None:
            location = path_in_store(self.storage, key, self.root)
            if location != key and self._leads_outside(location):
                why = f"a symbolic link on that path leads out of output_directory, {self.root}"
                raise invalid_folder(location.rpartition("/")[0], key, why)
            self._decided[key] = location
        return location

    def recorded(self) -> Mapping[str, str]:
        """Return the recorded locations of files that do not lie under their key, by key.

        Reads the database only if it changed since the last call; otherwise returns the same
        mapping. Ignores, with a warning, locations outside of the store and those of other
        files.

        Raises
        ------
        StoreError
            If the database is locked, or cannot be read.
        """
        try:
            stat = os.stat(self._records.path)  # noqa: PTH116 -- called for every query
        except OSError:
            self._recorded, self._read_at = {}, _NO_STAMP
            return self._recorded
        stamp = stamp_of(stat)
        if self._read_at != stamp:
            self._outside.clear()
            self._recorded = dict(self._valid(self._records.locations()))
            settled = time.time_ns() - stat.st_mtime_ns > _UNSETTLED
            self._read_at = stamp if settled else _NO_STAMP
        return self._recorded

    def _valid(self, rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield the locations at which a file of the store can lie; warn of the others."""
        ignored = []
        self._invalid.clear()
        for key, location in rows:
            why = fault_of_location(key, location)
            if not why and self._leads_outside(location):
                why = "a symbolic link leads out of the store"
            if why:
                ignored.append(f"{location!r} of {key!r} ({why})")
                self._invalid.add(key)
            else:
                yield key, location
        if ignored:
            more = f", and {len(ignored) - 3:,} more" if len(ignored) > 3 else ""
            warnings.warn(
                f"{self._records.path}: recorded locations of files are ignored: "
                f"{'; '.join(ignored[:3])}{more}; collect the files again, they are then found "
                "or fetched",
                ArchiveKitWarning,
                stacklevel=3,
            )

    def _leads_outside(self, location: str) -> bool:
        """Return whether symbolic links on a path inside the store lead out of it."""
        folder = location.rpartition("/")[0]
        if folder not in self._outside:
            self._outside[folder] = bool(folder) and not self._is_inside(f"{self.root}/{folder}")
        path = f"{self.root}/{location}"
        return self._outside[folder] or (os.path.islink(path) and not self._is_inside(path))  # noqa: PTH114

    def _is_inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root))

    def resolve(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the locations of the objects that will not lie under their key, by key.

        Raises
        ------
        ConfigurationError
            If the storage gives two of them one location.
        """
        locations = {key: path for key in keys if (path := self.location(key)) != key}
        owners: dict[str, str] = {}
        for key, location in locations.items():
            if owners.setdefault(location, key) != key:
                raise shared_location(location, owners[location], key)
        return locations

    def record(self, keys: Iterable[str]) -> None:
        """Record the locations before downloading: a path alone does not identify its key.

        Deletes recorded locations that are ignored.

        Raises
        ------
        ConfigurationError
            If another file has one of the locations.
        """
        self.recorded()
        keys = list(keys) if self.storage is not None else []
        if outdated := [*keys, *self._invalid]:
            self._records.record_locations(outdated, self.resolve(keys))
