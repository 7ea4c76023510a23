"""SQLite databases that the package can rebuild: read, write, and recover from damage.

A damaged or foreign file under the name of such a database is moved aside (or removed), and a
new database is created. A sound database that cannot be used now, because it is locked or
read-only or its disk is full, raises an error that names it. So does one that a newer version of
the package has written; one of an older version is read as it is, and upgraded by the first write.

Each row has a CRC-32 of its values, which SQLite itself does not: a byte that the disk has changed
inside a value is damage like any other.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from binance_archive_kit.errors import DiskSpaceError, StoreError, disk_error
from binance_archive_kit.storage.proof import Stamp, stamp_of

Row = tuple[Any, ...]
#: Seconds to wait for another process that has locked the database.
_PATIENCE = 60.0
#: Seconds for which a file without tables may be a database that another process is creating.
_CREATION = 5.0
#: No version of the package has a higher format; a damaged file may claim one.
_LAST_VERSION = 1_000
#: The column with the checksum of a row; null in rows of older versions.
_CRC = "crc"
#: Endings of the files beside a database during a write, or after a process was killed.
_SIDES = ("-journal", "-wal", "-shm")
#: Primary result codes of SQLite for a sound database that cannot be used now. All other codes
#: mean that the file is damaged, or another program's.
_NOT_NOW = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,
}


class Kind(NamedTuple):
    """The type of a column, a condition that every valid value fulfils, and a value as text."""

    type: str
    valid: str
    text: str = "{0}"


TEXT = Kind("TEXT", "typeof({0}) = 'text'")
MAYBE_TEXT = Kind("TEXT", "typeof({0}) IN ('text', 'null')")
INTEGER = Kind("INTEGER", "typeof({0}) = 'integer'")
MAYBE_INTEGER = Kind("INTEGER", "typeof({0}) IN ('integer', 'null')")
COUNT = Kind("INTEGER", "typeof({0}) = 'integer' AND {0} >= 0")
FLAG = Kind("INTEGER", "{0} IN (0, 1)")
#: A SHA-256 digest in hex. Checking its digits takes longer than reading the row, and an invalid
#: digest equals that of no file.
DIGEST = Kind("TEXT", "typeof({0}) = 'text' AND length({0}) = 64")
JSON = Kind("TEXT", "typeof({0}) = 'text' AND json_valid({0})")


@dataclass(frozen=True)
class Table:
    """A table with a text as key in its first column.

    Attributes
    ----------
    columns : mapping of str to Kind
        The columns of the first version.
    added : mapping of str to Kind
        The columns of later versions; they may be null.
    unique : str
        Another column with unique values, if any.
    """

    columns: Mapping[str, Kind]
    added: Mapping[str, Kind] = field(default_factory=dict)
    unique: str = ""

    @property
    def all(self) -> dict[str, Kind]:
        """All columns, in the order of a new table."""
        return {**self.columns, **self.added}

    @property
    def key(self) -> str:
        """Name of the column that is the key."""
        return next(iter(self.columns))

    @property
    def crc(self) -> str:
        """The expression of a row's checksum."""
        values = (kind.text.format(name) for name, kind in self.all.items())
        form = "|".join(["%s"] * len(self.all))
        return f"crc32(CAST(printf('{form}', {', '.join(values)}) AS BLOB))"

    def sql(self, name: str) -> str:
        """Return the statement that creates the table."""
        marks = {self.key: " PRIMARY KEY", self.unique: " UNIQUE"}
        columns = [f"{each} {kind.type}{marks.get(each, '')}" for each, kind in self.all.items()]
        columns.append(f"{_CRC} INTEGER")
        return f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns)}) WITHOUT ROWID"

    def triggers(self, name: str) -> Iterator[str]:
        """Yield the statements that have a connection keep the checksums of the table."""
        change = f"UPDATE {name} SET {_CRC} = {self.crc} WHERE {self.key} = NEW.{self.key}"  # noqa: S608
        for event in ("INSERT", f"UPDATE OF {', '.join(self.all)}"):
            yield (
                f"CREATE TEMP TRIGGER {name}_{event[:6].lower()} AFTER {event} ON main.{name} "
                f"BEGIN {change}; END"
            )


#: Errors of the `sqlite3` module: invalid UTF-8 in a text, or in the message of another error,
#: raises the second one.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
#: Stamps of damaged files that could be neither moved nor removed.
_IRREPLACEABLE: dict[Path, Stamp] = {}


class _Damaged(Exception):
    """The file cannot be used, now or later; the message is the reason."""


class _Query(NamedTuple):
    """Columns of a table, within ranges of keys; all rows if `ranges` is None."""

    table: str
    columns: Sequence[str]
    ranges: Sequence[tuple[str, str]] | None = None


class Database:
    """A SQLite file with some tables; created by the first write.

    Safe for several threads and processes.

    Parameters
    ----------
    path : Path
        Absolute. The first write creates its folder.
    tables : mapping of str to Table
    rebuilt : callable, optional
        Called with the reason and the new path of a damaged file; None if the file could not be
        moved. Without this function a damaged file is removed silently.
    version : int
        Of the tables; to be raised whenever they change. A database with a higher one is not used.
    upgraded : callable, optional
        Called with the names of the tables and columns that were added to an older database.
    """

    def __init__(
        self,
        path: Path,
        tables: Mapping[str, Table],
        rebuilt: Callable[[str, Path | None], None] | None = None,
        *,
        version: int = 0,
        upgraded: Callable[[list[str]], None] | None = None,
    ) -> None:
        self.path = path
        self._tables = tables
        self._rebuilt = rebuilt
        self._version = version
        self._upgraded = upgraded

    # Reading

    def rows(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        ranges: Iterable[tuple[str, str]] | None = None,
    ) -> list[Row]:
        """Return rows of a table, in the order of their keys within each range.

        Parameters
        ----------
        table : str
        columns : sequence of str, optional
            All by default. Columns that are missing in an earlier version are null.
        ranges : iterable of (str, str), optional
            Start, inclusive, and end, exclusive, of keys; all rows by default.

        Returns
        -------
        list of tuple
            Empty if there is no file, or a damaged one.

        Raises
        ------
        StoreError
            If the database is locked, or cannot be read.
        """
        names = list(self._tables[table].all) if columns is None else columns
        query = _Query(table, names, None if ranges is None else list(ranges))
        # Again after a damaged file was replaced: some of its rows may have been saved.
        for _ in range(2):
            seen = self.stamp()
            if seen is None or seen == _IRREPLACEABLE.get(self.path):
                break
            try:
                return self._read(query)
            except _Damaged as error:
                self._replace(seen, str(error))
        return []

    def _read(self, query: _Query) -> list[Row]:
        try:
            return self._select(self.path, "mode=rw", query)
        except _ERRORS as error:
            if _code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                # On a read-only disk, the journal of a killed process cannot be removed.
                with suppress(*_ERRORS):
                    return self._select(self.path, "mode=ro&immutable=1", query)
            raise self._meaning_of(error) from None

    def _select(self, path: Path, mode: str, query: _Query, *, partial: bool = False) -> list[Row]:
        """Return rows; if some are invalid, raise, or return the others if `partial`."""
        name, table = query.table, self._tables[query.table]
        with closing(_open(path, mode)) as connection:
            self._check_version(connection)
            existing = self._columns(connection, name)
            if not existing:
                self._check_new(connection)
                return []
            listed = ", ".join(each if each in existing else "NULL" for each in query.columns)
            within = "1" if query.ranges is None else f"{table.key} >= ? AND {table.key} < ?"
            valid = " AND ".join(
                kind.valid.format(column)
                for column, kind in table.all.items()
                if column in existing
            )
            if {_CRC, *table.all} <= existing:
                valid += f" AND ({_CRC} IS NULL OR {_CRC} = {table.crc})"
            select = f"SELECT {listed} FROM {name} WHERE {within} AND {valid}"  # noqa: S608
            count = f"SELECT count(*) FROM {name} WHERE {within}"  # noqa: S608
            rows: list[Row] = []
            total = 0
            for span in [()] if query.ranges is None else query.ranges:
                rows += connection.execute(select, span)
                total += connection.execute(count, span).fetchone()[0]
            if total != len(rows) and not partial:
                raise _Damaged(f"{total - len(rows):,} rows of its table {name} are not valid")
            return rows

    def _columns(self, connection: sqlite3.Connection, table: str) -> set[str]:
        """Return the columns of a table, empty if there is none; check that they are ours."""
        have = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
        if not have:
            others = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if others and not others & set(self._tables):
                raise _Damaged("it has the tables of another program")
        elif not set(self._tables[table].columns) <= have:
            raise _Damaged(f"its table {table} has other columns")
        return have

    def _check_new(self, connection: sqlite3.Connection) -> None:
        """Raise if a file without tables is old; another process may be creating a new one."""
        if connection.execute("SELECT name FROM sqlite_master").fetchone() is None:
            with suppress(OSError):
                if time.time() - self.path.stat().st_mtime > _CREATION:
                    raise _Damaged("it is empty")

    def _check_version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the tables; raise if it is newer than ours."""
        [(version,)] = connection.execute("PRAGMA user_version")
        if version > self._version:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if version > _LAST_VERSION or not names & set(self._tables):
                raise _Damaged(f"its format is {version}, and this version knows {self._version}")
            raise StoreError(
                f"{self.path} was written by a newer version of this package (its format is "
                f"{version}, and this version knows {self._version}); update the package. "
                "Nothing was changed"
            )
        return int(version)

    # Writing

    def write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Write in one transaction, which may be attempted twice.

        Raises
        ------
        StoreError
            If the database is locked, or cannot be written.
        DiskSpaceError
            If the disk is full.
        """
        with closing(Writer(self)) as writer:
            writer.write(work)

    def _open_to_write(self, patience: float) -> sqlite3.Connection:
        """Open the database, and create missing tables and columns."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.path.parent) from None
        seen = self.stamp()
        if seen is not None and seen == _IRREPLACEABLE.get(self.path):
            raise StoreError(f"{self.path} is damaged and cannot be replaced: {_ACCESS}")
        # Whether it is a link: another process may have created the file meanwhile.
        if seen is None and self.path.is_symlink() and not self.path.exists():
            raise _Damaged("it is a link to nothing")
        # SQLite would give a new file fewer permissions than the umask. Why there can be none,
        # it says itself.
        with suppress(OSError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        connection = _open(self.path, "mode=rwc", patience)
        try:
            self._check_version(connection)
            # A killed process loses nothing; a power cut may, and everything can be rebuilt.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=TRUNCATE")
            connection.execute("PRAGMA temp_store=MEMORY")
            added = self._upgrade(connection)
            for name, table in self._tables.items():
                for statement in table.triggers(name):
                    connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        if added and self._upgraded is not None:
            self._upgraded(added)
        return connection

    def _upgrade(self, connection: sqlite3.Connection) -> list[str]:
        """Create missing tables and columns; return their names if the database is not new."""
        with connection:
            is_current = self._check_version(connection) == self._version
            if is_current and all(
                {_CRC, *table.all} <= self._columns(connection, name)
                for name, table in self._tables.items()
            ):
                return []
            connection.execute("BEGIN IMMEDIATE")
            self._check_version(connection)
            before = {name: self._columns(connection, name) for name in self._tables}
            added = [name for name, have in before.items() if not have]
            for name, table in self._tables.items():
                connection.execute(table.sql(name))
                columns = {**table.added, _CRC: INTEGER} if before[name] else {}
                new = {each: kind for each, kind in columns.items() if each not in before[name]}
                for column, kind in new.items():
                    connection.execute(f"ALTER TABLE {name} ADD COLUMN {column} {kind.type}")
                if new:
                    connection.execute(f"UPDATE {name} SET {_CRC} = {table.crc}")  # noqa: S608
                added += [f"{name}.{column}" for column in new if column != _CRC]
            connection.execute(f"PRAGMA user_version = {self._version}")
        return added if any(before.values()) else []

    # Damage

    def stamp(self) -> Stamp | None:
        """Return the stamp of the file; None if there is none, or a link to nothing."""
        try:
            return stamp_of(self.path.stat())
        except OSError:
            return None

    def _meaning_of(self, error: sqlite3.Error | UnicodeDecodeError) -> Exception:
        """Translate an error of SQLite into damage, or an error for the user."""
        code = _code(error)
        if code not in _NOT_NOW:
            return _Damaged(str(error))
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR) and any(
            os.path.lexists(path) and not path.is_file() for path in self._parts(self.path)
        ):
            return _Damaged("its name is not that of a file")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            why = f"another process has locked it ({error}); end that process, then try again"
        elif code == sqlite3.SQLITE_FULL or self._disk_is_full():
            return DiskSpaceError(
                f"{self.path}: its disk is full: no bytes or no files are free; free some space"
            )
        else:
            why = f"it cannot be used now ({error}); {_ACCESS}"
        return StoreError(f"{self.path}: {why}")

    def _disk_is_full(self) -> bool:
        """Return whether the disk is full; SQLite has several codes for that."""
        if not hasattr(os, "statvfs"):
            return False
        with suppress(OSError):
            found = os.statvfs(self.path.parent)
            return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)
        return False

    def _replace(self, seen: Stamp | None, why: str) -> None:
        """Move or remove a damaged file, and the files beside it."""
        name = f"{self.path.stem}.damaged-{uuid.uuid4().hex[:8]}{self.path.suffix}"
        aside = self.path.with_name(name)
        try:
            # Otherwise a process could move the new file of another one.
            with FileLock(self.path.with_name(f"{self.path.name}.lock")):
                now = self.stamp()
                if seen is not None and (now is None or now.inode != seen.inode):
                    # Another process has replaced it already.
                    return
                for path, target in zip(self._parts(self.path), self._parts(aside), strict=True):
                    if os.path.lexists(path):
                        if self._rebuilt is None and not path.is_dir():
                            path.unlink()
                        else:
                            path.replace(target)
        except FileNotFoundError:
            return
        except OSError:
            if (now := self.stamp()) is not None:
                _IRREPLACEABLE[self.path] = now
            moved = None
        else:
            moved = aside
        if self._rebuilt is not None:
            self._rebuilt(why, moved)

    def saved(self, path: Path, table: str) -> list[Row]:
        """Return the valid rows of a table in a damaged file that was moved to a path."""
        with suppress(*_ERRORS, _Damaged, StoreError):
            query = _Query(table, list(self._tables[table].all))
            return self._select(path, "mode=ro&immutable=1", query, partial=True)
        return []

    @staticmethod
    def _parts(path: Path) -> list[Path]:
        return [path, *(path.with_name(f"{path.name}{side}") for side in _SIDES)]


_ACCESS = (
    "check that its folder is on a working, writable disk, and the limit on file sizes (ulimit -f)"
)


class Writer:
    """One connection to a database for many writes; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Seconds to wait for another process that has locked the database.
        self.patience = _PATIENCE
        self._connection: sqlite3.Connection | None = None

    def write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Write in one transaction; see `Database.write`."""
        # The second attempt creates a new file if the first one is damaged, moved or gone.
        for again in (True, False):
            seen = self._database.stamp()
            try:
                if self._connection is None:
                    self._connection = self._database._open_to_write(self.patience)
                self._connection.execute(f"PRAGMA busy_timeout = {int(self.patience * 1000)}")
                with self._connection:
                    work(self._connection)
                return
            except _Damaged as error:
                reason: Exception = error
            except _ERRORS as error:
                reason = self._database._meaning_of(error)
                if _is_moved(error) and again:
                    self.close()
                    continue
            self.close()
            if not isinstance(reason, _Damaged):
                raise reason from None
            self._database._replace(seen, str(reason))
        raise StoreError(f"{self._database.path}: {reason}; {_ACCESS}")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _open(path: Path, mode: str, patience: float | None = None) -> sqlite3.Connection:
    patience = _PATIENCE if patience is None else patience
    uri = f"{path.as_uri()}?{mode}"
    connection = sqlite3.connect(uri, timeout=patience, uri=True, check_same_thread=False)
    connection.create_function("crc32", 1, zlib.crc32, deterministic=True)
    return connection


def _code(error: sqlite3.Error | UnicodeDecodeError) -> int | None:
    """Return SQLite's primary result code; None for an error of the Python module."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_moved(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_DBMOVED
