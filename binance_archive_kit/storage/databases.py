"""SQLite files that the package can rebuild: read, write, and recover from damage.

A damaged or foreign file under the name of such a file is moved aside (or removed), and a
new one begins. A sound file that cannot be used now, because it is locked or read-only or
its disk is full, is an error that names it.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from binance_archive_kit.errors import DiskSpaceError, StoreError, disk_error
from binance_archive_kit.storage.stamps import Stamp, stamp_of

Row = tuple[Any, ...]
#: Seconds to wait for another process that holds the file.
_PATIENCE = 60.0
#: Seconds in which a file without tables may be one that another process begins just now.
_BEGINNING = 5.0
#: Endings of the files beside a database while it is written to, or after a process was killed.
_SIDES = ("-journal", "-wal", "-shm")
#: Primary result codes of SQLite for a file that is sound and cannot be used now. All others
#: that a statement of ours can have mean that the file is damaged, or another program's.
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
    """What a column holds: its type, and a condition that every value of ours fulfils."""

    type: str
    valid: str


TEXT = Kind("TEXT", "typeof({0}) = 'text'")
MAYBE_TEXT = Kind("TEXT", "typeof({0}) IN ('text', 'null')")
INTEGER = Kind("INTEGER", "typeof({0}) = 'integer'")
MAYBE_INTEGER = Kind("INTEGER", "typeof({0}) IN ('integer', 'null')")
COUNT = Kind("INTEGER", "typeof({0}) = 'integer' AND {0} >= 0")
FLAG = Kind("INTEGER", "{0} IN (0, 1)")
#: A SHA-256 digest in hex. Its digits are not checked: that takes longer than reading the row,
#: and an invalid digest equals that of no file.
DIGEST = Kind("TEXT", "typeof({0}) = 'text' AND length({0}) = 64")
JSON = Kind("TEXT", "typeof({0}) = 'text' AND json_valid({0})")


@dataclass(frozen=True)
class Table:
    """A table whose first column, a text, is its key.

    Attributes
    ----------
    columns : mapping of str to Kind
        As a first version made them.
    added : mapping of str to Kind
        Those that later versions added; they may be null.
    unique : str
        Another column that identifies a row, if there is one.
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

    def sql(self, name: str) -> str:
        """Return the statement that makes it."""
        marks = {self.key: " PRIMARY KEY", self.unique: " UNIQUE"}
        columns = [f"{each} {kind.type}{marks.get(each, '')}" for each, kind in self.all.items()]
        return f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns)}) WITHOUT ROWID"


#: What the module raises: text that is not UTF-8 has no error of its own, and may be a part
#: of an error's message.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
#: Damaged files that could be neither moved nor removed, as they were then.
_USELESS: dict[Path, Stamp] = {}


class _Damaged(Exception):
    """The file cannot be used, now or later."""


class Database:
    """A SQLite file and its tables; the first write creates it.

    Safe to be used by several threads and processes.

    Parameters
    ----------
    path : Path
        Absolute. Its folder is made by the first write.
    tables : mapping of str to Table
    rebuilt : callable, optional
        Called with what was wrong and where the damaged file lies now, None where it could not
        be moved. Without it the file is removed silently.
    """

    def __init__(
        self,
        path: Path,
        tables: Mapping[str, Table],
        rebuilt: Callable[[str, Path | None], None] | None = None,
    ) -> None:
        self.path = path
        self._tables = tables
        self._rebuilt = rebuilt

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
            All by default. Those that an earlier version did not know are null.
        ranges : iterable of (str, str), optional
            Of keys, from inclusive to exclusive; all rows by default.

        Returns
        -------
        list of tuple
            Empty where there is no file, or a damaged one.

        Raises
        ------
        StoreError
            If the file is locked, or cannot be read.
        """
        names = list(self._tables[table].all) if columns is None else columns
        wanted = None if ranges is None else list(ranges)
        # Once more after a damaged file was replaced: some of its rows may be saved.
        for _ in range(2):
            seen = self.stamp()
            if seen is None or seen == _USELESS.get(self.path):
                break
            try:
                return self._read(self.path, table, names, wanted)
            except _Damaged as error:
                self._replace(seen, str(error))
        return []

    def _read(
        self, path: Path, table: str, names: Sequence[str], ranges: list[tuple[str, str]] | None
    ) -> list[Row]:
        try:
            return self._select(path, "mode=rw", table, names, ranges)
        except _ERRORS as error:
            if _code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                # What a killed process left beside it cannot be cleared away on a read-only disk.
                with suppress(*_ERRORS):
                    return self._select(path, "mode=ro&immutable=1", table, names, ranges)
            raise self._trouble(error) from None

    def _select(
        self,
        path: Path,
        mode: str,
        table: str,
        names: Sequence[str],
        ranges: list[tuple[str, str]] | None,
    ) -> list[Row]:
        shape = self._tables[table]
        with closing(_open(path, mode)) as connection:
            have = self._columns(connection, table)
            if not have:
                self._check_begun(connection)
                return []
            listed = ", ".join(name if name in have else "NULL" for name in names)
            within = "1" if ranges is None else f"{shape.key} >= ? AND {shape.key} < ?"
            valid = " AND ".join(
                kind.valid.format(name) for name, kind in shape.all.items() if name in have
            )
            rows: list[Row] = []
            count = 0
            for each in [()] if ranges is None else ranges:
                rows += connection.execute(
                    f"SELECT {listed} FROM {table} WHERE {within} AND {valid}",  # noqa: S608 -- our words
                    each,
                )
                [(found,)] = connection.execute(
                    f"SELECT count(*) FROM {table} WHERE {within}",  # noqa: S608 -- our words
                    each,
                )
                count += found
            if count != len(rows):
                raise _Damaged(f"{count - len(rows):,} rows of its table {table} are not valid")
            return rows

    def _columns(self, connection: sqlite3.Connection, table: str) -> set[str]:
        """Return the columns of a table, none where it is absent; check that they are ours."""
        have = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
        if not have:
            others = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if others and not others & set(self._tables):
                raise _Damaged("it holds the tables of another program")
        elif not set(self._tables[table].columns) <= have:
            raise _Damaged(f"its table {table} has other columns")
        return have

    def _check_begun(self, connection: sqlite3.Connection) -> None:
        """Check that a file without tables is new: another process may be creating them."""
        if connection.execute("SELECT name FROM sqlite_master").fetchone() is None:
            with suppress(OSError):
                if time.time() - self.path.stat().st_mtime > _BEGINNING:
                    raise _Damaged("it is empty")

    # Writing

    def write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Write in one transaction, which may be tried twice.

        Raises
        ------
        StoreError
            If the file is locked, or cannot be written.
        DiskSpaceError
            If there is no room.
        """
        with closing(Writer(self)) as writer:
            writer.write(work)

    def _open_to_write(self, patience: float) -> sqlite3.Connection:
        """Open the file, and create the tables and columns that are missing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.path.parent) from None
        seen = self.stamp()
        if seen is not None and seen == _USELESS.get(self.path):
            raise StoreError(f"{self.path} is damaged and cannot be replaced: {_ACCESS}")
        if seen is None and os.path.lexists(self.path):
            raise _Damaged("it is a link to nothing")
        connection = _open(self.path, "mode=rwc", patience)
        try:
            # A killed process loses nothing; only a power cut may, and all can be had again.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=TRUNCATE")
            with connection:
                if all(self._columns_made(connection, name) for name in self._tables):
                    return connection
                connection.execute("BEGIN IMMEDIATE")
                for name, table in self._tables.items():
                    connection.execute(table.sql(name))
                    have = self._columns(connection, name)
                    for column, kind in table.added.items():
                        if column not in have:
                            connection.execute(
                                f"ALTER TABLE {name} ADD COLUMN {column} {kind.type}"
                            )
        except BaseException:
            connection.close()
            raise
        return connection

    def _columns_made(self, connection: sqlite3.Connection, table: str) -> bool:
        return set(self._tables[table].all) <= self._columns(connection, table)

    # Damage

    def stamp(self) -> Stamp | None:
        """Return the stamp of what lies there; None for nothing, or a link to nothing."""
        try:
            return stamp_of(self.path.stat())
        except OSError:
            return None

    def _trouble(self, error: sqlite3.Error | UnicodeDecodeError) -> Exception:
        """Return what an error of SQLite means: damage, or an error for the user."""
        code = _code(error)
        if code not in _NOT_NOW:
            return _Damaged(str(error))
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR) and any(
            os.path.lexists(path) and not path.is_file() for path in self._parts(self.path)
        ):
            return _Damaged("there is something that is no file under its name")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            why = f"another process holds it locked ({error}); end that process, then try again"
        elif code == sqlite3.SQLITE_FULL or self._has_no_room():
            return DiskSpaceError(
                f"{self.path}: no room is left on its disk, for bytes or for one more file; "
                "free some space"
            )
        else:
            why = f"it cannot be used now ({error}); {_ACCESS}"
        return StoreError(f"{self.path}: {why}")

    def _has_no_room(self) -> bool:
        """Return whether the disk is full: SQLite calls that by several names."""
        if not hasattr(os, "statvfs"):
            return False
        with suppress(OSError):
            found = os.statvfs(self.path.parent)
            return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)
        return False

    def _replace(self, seen: Stamp | None, why: str) -> None:
        """Move a damaged file out of the way, and what lies beside it."""
        now = self.stamp()
        if seen is not None and now is not None and now.inode != seen.inode:
            # Another process has replaced it meanwhile.
            return
        name = f"{self.path.stem}.damaged-{uuid.uuid4().hex[:8]}{self.path.suffix}"
        aside = self.path.with_name(name)
        try:
            for path, target in zip(self._parts(self.path), self._parts(aside), strict=True):
                if os.path.lexists(path):
                    if self._rebuilt is None and not path.is_dir():
                        path.unlink()
                    else:
                        path.replace(target)
        except FileNotFoundError:
            return
        except OSError:
            if now is not None:
                _USELESS[self.path] = now
            moved = None
        else:
            moved = aside
        if self._rebuilt is not None:
            self._rebuilt(why, moved)

    def saved(self, aside: Path, table: str) -> list[Row]:
        """Return the rows of a table that can still be read from a file that was moved aside."""
        with suppress(*_ERRORS, _Damaged):
            names = list(self._tables[table].all)
            return self._select(aside, "mode=ro&immutable=1", table, names, None)
        return []

    @staticmethod
    def _parts(path: Path) -> list[Path]:
        return [path, *(path.with_name(f"{path.name}{side}") for side in _SIDES)]


_ACCESS = (
    "see that its folder is on a disk that works and may be written to, and that files may "
    "grow (ulimit -f)"
)


class Writer:
    """Keeps one connection to a database for many writes; for one thread at a time."""

    def __init__(self, database: Database, patience: float | None = None) -> None:
        self._database = database
        #: Seconds to wait for another process that holds the file.
        self.patience = _PATIENCE if patience is None else patience
        self._connection: sqlite3.Connection | None = None

    def write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Write in one transaction; see `Database.write`."""
        # The second time to a new file, where the first one is damaged, moved or gone.
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
                trouble: Exception = error
            except _ERRORS as error:
                trouble = self._database._trouble(error)
                if _is_moved(error) and again:
                    self.close()
                    continue
            self.close()
            if not isinstance(trouble, _Damaged):
                raise trouble from None
            self._database._replace(seen, str(trouble))
        raise StoreError(f"{self._database.path}: {trouble}; {_ACCESS}")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _open(path: Path, mode: str, patience: float | None = None) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?{mode}"
    wait = _PATIENCE if patience is None else patience
    return sqlite3.connect(uri, timeout=wait, uri=True, check_same_thread=False)


def _code(error: sqlite3.Error | UnicodeDecodeError) -> int | None:
    """Return SQLite's primary result code; None where the module itself could not go on."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_moved(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_DBMOVED
