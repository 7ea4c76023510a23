"""The local index of the records in object storage: tables of SQLite that can be rebuilt.

Of the records of one file, the latest counts, in whichever order they are added.
"""

from __future__ import annotations

import sqlite3

import pyarrow as pa
import pyarrow.compute as pc

from binance_archive_kit.archive.keys import key_range
from binance_archive_kit.storage.databases import (
    COUNT,
    DIGEST,
    INTEGER,
    JSON,
    MAYBE_TEXT,
    TEXT,
    Row,
    Table,
)
from binance_archive_kit.storage.record_objects import SCHEMA

#: Of the tables; to be raised whenever they change.
VERSION = 2
TABLES = {
    "proofs": Table(
        {
            "key": TEXT,
            "size": COUNT,
            "mtime": INTEGER,
            "ctime": INTEGER,
            "inode": INTEGER,
            "sha256": DIGEST,
            "etag": MAYBE_TEXT,
            "proven_by": TEXT,
            "proven_at": TEXT,
            "recorded_at": INTEGER,
        }
    ),
    "missing": Table({"key": TEXT, "said": TEXT, "reason": TEXT, "recorded_at": INTEGER}),
    "forgotten": Table({"key": TEXT, "recorded_at": INTEGER}),
    "found": Table({"key": TEXT, "recorded_at": INTEGER}),
    "objects": Table({"name": TEXT, "replaces": JSON}),
    "runs": Table({"name": TEXT, "document": JSON}),
}
_INSERT = """
INSERT INTO proofs (key, size, mtime, ctime, inode, sha256, etag, proven_by, proven_at, recorded_at)
SELECT ?1, ?2, 0, 0, ?3, ?4, ?5, ?6, ?7, ?8
WHERE NOT EXISTS (SELECT 1 FROM forgotten WHERE key = ?1 AND recorded_at >= ?8)
ON CONFLICT (key) DO UPDATE SET size = excluded.size, inode = excluded.inode,
 sha256 = excluded.sha256, etag = excluded.etag, proven_by = excluded.proven_by,
 proven_at = excluded.proven_at, recorded_at = excluded.recorded_at
WHERE excluded.recorded_at >= proofs.recorded_at"""
_INSERT_MISSING = """
INSERT INTO missing (key, said, reason, recorded_at) SELECT ?1, ?2, ?3, ?4
WHERE NOT EXISTS (SELECT 1 FROM found WHERE key = ?1 AND recorded_at >= ?4)
ON CONFLICT (key) DO UPDATE SET said = excluded.said, reason = excluded.reason,
 recorded_at = excluded.recorded_at
WHERE excluded.recorded_at >= missing.recorded_at"""
_FORGET = """
DELETE FROM {0} WHERE key = ?1 AND recorded_at <= ?2;
INSERT INTO {1} (key, recorded_at) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET
 recorded_at = max(recorded_at, excluded.recorded_at)"""
#: Rows that are written at once.
_BATCH = 100_000


def add_records(connection: sqlite3.Connection, table: pa.Table) -> None:
    """Add records to the index, in batches."""
    for batch in table.to_batches(_BATCH):
        _add(connection, pa.Table.from_batches([batch]))


def _add(connection: sqlite3.Connection, table: pa.Table) -> None:
    proofs = pc.is_null(table["reason"])
    kinds = ("proofs", "forgotten", proofs), ("missing", "found", pc.invert(proofs))
    for name, deleted, of_kind in kinds:
        pairs = _rows(table.filter(pc.and_(of_kind, table["forgotten"])), "key", "recorded_at")
        for statement in _FORGET.format(name, deleted).split(";") if pairs else ():
            connection.executemany(statement, pairs)
    added = pc.invert(table["forgotten"])
    columns = SCHEMA.names[: SCHEMA.names.index("recorded_at") + 1]
    connection.executemany(_INSERT, _rows(table.filter(pc.and_(added, proofs)), *columns))
    missing = table.filter(pc.and_(added, pc.invert(proofs)))
    connection.executemany(
        _INSERT_MISSING, _rows(missing, "key", "detail", "reason", "recorded_at")
    )


def _rows(table: pa.Table, *names: str) -> list[Row]:
    return [*zip(*(table[name].to_pylist() for name in names), strict=True)]


def forget_feed(connection: sqlite3.Connection, feed: str) -> None:
    """Delete all records of a feed from the index."""
    for table in ("proofs", "forgotten", "missing", "found", "objects"):
        name, start = ("name", feed) if table == "objects" else ("key", f"data/{feed}")
        connection.execute(
            f"DELETE FROM {table} WHERE {name} >= ? AND {name} < ?",  # noqa: S608
            key_range(start),
        )
