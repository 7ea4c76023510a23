"""A database that the package can rebuild."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from binance_archive_kit.errors import DiskSpaceError, StoreError
from binance_archive_kit.storage import databases
from binance_archive_kit.storage.databases import COUNT, MAYBE_TEXT, TEXT, Database, Table
from binance_archive_kit.storage.proof import Stamp

TABLES = {"words": Table({"key": TEXT, "count": COUNT}, added={"more": MAYBE_TEXT})}


def test_rows_are_written_and_read(path: Path) -> None:
    database = Database(path, TABLES)
    assert database.rows("words") == []
    assert not path.parent.exists()
    database.write(
        lambda c: c.executemany(
            "INSERT INTO words (key, count, more) VALUES (?,?,?)", [("b", 2, None), ("a", 1, "x")]
        )
    )
    assert database.rows("words") == [("a", 1, "x"), ("b", 2, None)]
    assert database.rows("words", ["count"], [("b", "c"), ("x", "y")]) == [(2,)]


def test_a_new_column_is_null_until_the_next_write(
    path: Path,
) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("CREATE TABLE words (key TEXT PRIMARY KEY, count INTEGER) WITHOUT ROWID")
        old.execute("INSERT INTO words VALUES ('a', 1)")
    before = path.read_bytes()
    database = Database(path, TABLES)
    assert database.rows("words") == [("a", 1, None)]
    assert path.read_bytes() == before, "a question writes nothing"
    database.write(lambda c: c.execute("UPDATE words SET more = 'x'"))
    assert database.rows("words") == [("a", 1, "x")]


def test_an_upgrade_is_told_once(path: Path) -> None:
    Database(path, {"others": Table({"key": TEXT})}).write(lambda c: None)
    Database(path, {"words": Table({"key": TEXT, "count": COUNT})}).write(lambda c: None)
    told: list[list[str]] = []
    for _ in range(2):
        database = Database(path, TABLES, version=1, upgraded=told.append)
        assert database.rows("words") == []
        assert len(told) == min(_, 1), "a question writes nothing"
        database.write(lambda c: None)
    assert told == [["words.more"]]
    new = path.with_name("new.sqlite")
    Database(new, TABLES, version=1, upgraded=told.append).write(lambda c: None)
    assert len(told) == 1


def test_a_database_of_a_newer_version_is_not_touched(path: Path) -> None:
    newer = {"words": Table({"word": TEXT, "weight": COUNT}), "more": Table({"key": TEXT})}
    Database(path, newer, version=7).write(
        lambda c: c.execute("INSERT INTO words (word, weight) VALUES ('a', 1)")
    )
    before = path.read_bytes()
    database = Database(path, TABLES, version=6)
    message = "newer version of this package .its format is 7, and this version knows 6.; update"
    with pytest.raises(StoreError, match=message):
        database.rows("words")
    with pytest.raises(StoreError, match=message):
        database.write(lambda c: c.execute("DELETE FROM words"))
    assert path.read_bytes() == before
    assert not [*path.parent.glob("*damaged*")]


@pytest.mark.parametrize(("table", "version"), [("theirs", 7), ("words", 1 << 20)])
def test_another_program_or_damage_is_not_a_newer_version(
    path: Path, table: str, version: int
) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"CREATE TABLE {table} (key TEXT)")
        other.execute(f"PRAGMA user_version = {version}")
    reasons: list[str] = []
    database = Database(path, TABLES, rebuilt=lambda why, moved: reasons.append(why), version=1)
    database.write(lambda c: c.execute("INSERT INTO words (key, count) VALUES ('a', 1)"))
    assert database.rows("words") == [("a", 1, None)]
    assert reasons == [f"its format is {version}, and this version knows 1"]


def test_a_locked_database_is_not_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_PATIENCE", 0.05)
    database = Database(path, TABLES)
    database.write(lambda c: c.execute("INSERT INTO words (key, count) VALUES ('a', 1)"))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for work in (
            lambda: database.rows("words"),
            lambda: database.write(lambda c: c.execute("DELETE FROM words")),
        ):
            with pytest.raises(StoreError, match=r"another process has locked it .* end that"):
                work()
    assert database.rows("words") == [("a", 1, None)]


def test_a_database_that_is_removed_during_writes_is_created_again(path: Path) -> None:
    database = Database(path, TABLES)
    with closing(databases.Writer(database)) as writer:
        for number, spoil in enumerate((path.unlink, lambda: shutil.rmtree(path.parent))):
            key = f"{number}"
            writer.write(lambda c: c.execute("INSERT INTO words (key, count) VALUES ('before', 1)"))
            spoil()
            writer.write(
                lambda c, key=key: c.execute(
                    "INSERT INTO words (key, count, more) VALUES (?, 1, '')", (key,)
                )
            )
            assert database.rows("words") == [(key, 1, "")]


def test_a_full_disk_raises_its_own_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(path, TABLES)

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 3")
        connection.execute(
            "INSERT INTO words (key, count, more) VALUES ('a', 1, ?)", ("x" * 100_000,)
        )

    with pytest.raises(DiskSpaceError, match="its disk is full"):
        database.write(fill)
    assert database.rows("words") == []


class Meeting(Database):
    """Lets two threads that replace a damaged file look at it at the same moment."""

    meeting = threading.Barrier(2)
    replaces = False

    def stamp(self) -> Stamp | None:
        found = super().stamp()
        if self.replaces:
            with suppress(threading.BrokenBarrierError):
                self.meeting.wait(0.5)
        return found

    def _replace(self, seen: Stamp | None, why: str) -> None:
        self.replaces = True
        super()._replace(seen, why)
        self.replaces = False


def test_of_two_writers_one_moves_a_damaged_file(tmp_path: Path) -> None:
    """The new file of one writer is not taken for the damaged one by the other."""
    path = tmp_path / "words.sqlite"
    path.write_bytes(b"damaged" * 1_000)
    moved: list[Path | None] = []
    start = threading.Barrier(2)

    def write(key: str) -> None:
        database = Meeting(path, TABLES, lambda why, aside: moved.append(aside))
        open_to_write = database._open_to_write

        def both_have_opened(patience: float) -> sqlite3.Connection:
            with suppress(threading.BrokenBarrierError):
                start.wait(0.5)
            return open_to_write(patience)

        database._open_to_write = both_have_opened  # type: ignore[method-assign]
        database.write(lambda c: c.execute("INSERT INTO words (key, count) VALUES (?, 1)", (key,)))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    assert Database(path, TABLES).rows("words", ["key"]) == [("a",), ("b",)]
    assert len(moved) == 1


def test_a_file_that_another_writer_creates_meanwhile_is_used(path: Path) -> None:
    class Late(Database):
        """Another writer creates the file once this one has seen that there is none."""

        opens = False

        def _open_to_write(self, patience: float) -> sqlite3.Connection:
            self.opens = True
            return super()._open_to_write(patience)

        def stamp(self) -> Stamp | None:
            seen = super().stamp()
            if seen is None and self.opens:
                add(Database(path, TABLES), "a")
            return seen

    def add(database: Database, key: str) -> None:
        database.write(lambda c: c.execute("INSERT INTO words (key, count) VALUES (?, 1)", (key,)))

    moved: list[Path | None] = []
    add(Late(path, TABLES, lambda why, aside: moved.append(aside)), "b")
    assert Database(path, TABLES).rows("words", ["key"]) == [("a",), ("b",)]
    assert not moved


def test_no_changed_byte_of_a_database_becomes_a_value(path: Path) -> None:
    database = Database(path, TABLES)
    rows = [(f"data/{number:03}.zip", 1000 + number, "x" * 20) for number in range(60)]
    database.write(
        lambda c: c.executemany("INSERT INTO words (key, count, more) VALUES (?,?,?)", rows)
    )
    # An upsert and an update keep the checksums, too.
    database.write(
        lambda c: c.execute(
            "INSERT INTO words (key, count) VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET"
            " count = count + 1",
            rows[0][:1],
        )
    )
    database.write(lambda c: c.execute("UPDATE words SET more = NULL WHERE key = ?", rows[1][:1]))
    rows[0], rows[1] = (rows[0][0], 1001, rows[0][2]), (rows[1][0], 1001, None)
    body = path.read_bytes()
    assert database.rows("words") == rows
    first = body.index(rows[-1][0].encode())
    damaged = 0
    for at in range(first, first + 40 * 45, 7):
        path.write_bytes(body[:at] + bytes([body[at] ^ 1 << at % 8]) + body[at + 1 :])
        found = database.rows("words")
        assert {*found} <= {*rows}, at
        damaged += not found
    assert damaged > 200
