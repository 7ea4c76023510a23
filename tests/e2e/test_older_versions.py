"""Stores of older versions are upgraded with one message, and those of newer ones not touched."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.storage.store import Store
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import daily_klines
from tests.support.s3_server import LocalS3

#: The statements of the versions that first had them.
FIRST = [
    "CREATE TABLE IF NOT EXISTS proofs (key TEXT PRIMARY KEY, size INTEGER,"
    " mtime INTEGER, sha256 TEXT, etag TEXT, proven_by TEXT, proven_at TEXT) WITHOUT ROWID"
]
WITH_LOCATIONS = [
    *FIRST,
    "CREATE TABLE IF NOT EXISTS places (key TEXT PRIMARY KEY, place TEXT UNIQUE) WITHOUT ROWID",
]
WITH_MISSING = [
    *FIRST,
    "CREATE TABLE IF NOT EXISTS missing (key TEXT PRIMARY KEY, said TEXT) WITHOUT ROWID",
]
WITH_REASONS = [
    *WITH_LOCATIONS,
    "CREATE TABLE IF NOT EXISTS missing (key TEXT PRIMARY KEY, said TEXT, reason TEXT)"
    " WITHOUT ROWID",
]


def record_of(store: Path) -> Path:
    return store / ".binance_archive_kit" / "proofs.sqlite"


def age(store: Path, statements: list[str]) -> None:
    """Give a store the records that an older version would have of it."""
    path = record_of(store)
    with closing(sqlite3.connect(path)) as new:
        names = [name for (name,) in new.execute("SELECT name FROM sqlite_master") if name]
        columns = "key, size, mtime, sha256, etag, proven_by, proven_at"
        rows = new.execute(f"SELECT {columns} FROM proofs").fetchall()
    assert "proofs" in names
    path.unlink()
    with closing(sqlite3.connect(path)) as old, old:
        for statement in statements:
            old.execute(statement)
        old.executemany("INSERT INTO proofs VALUES (?,?,?,?,?,?,?)", rows)


@contextmanager
def messages() -> Iterator[list[str]]:
    """Collect the warnings of the package."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    found += [str(each.message) for each in caught]


@pytest.fixture
def server(serve: Serve, ask: Ask) -> LocalS3:
    server = serve(daily_klines("BTCUSDT", days=5))
    bak.collect(ask(server))
    server.requests.clear()
    return server


@pytest.mark.parametrize(
    "statements",
    [FIRST, WITH_LOCATIONS, WITH_MISSING, WITH_REASONS],
    ids=["first", "locations", "missing", "reasons"],
)
def test_records_are_upgraded_with_one_message(
    server: LocalS3, ask: Ask, store: Path, statements: list[str]
) -> None:
    age(store, statements)
    before = record_of(store).read_bytes()
    assert bak.store(store).frame()["proven"].to_list() == [5]
    assert bak.plan(ask(server)).count("keep") == 5
    assert record_of(store).read_bytes() == before, "a question upgrades nothing"

    with messages() as found:
        result = bak.update(store, end="2025-07-05", endpoint_url=server.url)
        again = bak.collect(ask(server, force_redownload=False))
        verified = bak.verify(store)
    assert result.collection_stats["skipped_tasks"] == 1
    assert again.collection_stats["skipped_tasks"] == 5
    assert not [key for method, key in server.requests if method == "GET"]
    assert verified.sound
    [message] = found
    assert "from an older version of this package and were upgraded" in message
    assert "Nothing was lost" in message
    assert len(Store(store).records.proven_keys()) == 5
    assert bak.store(store).frame()["proven"].to_list() == [5]


@pytest.mark.parametrize(
    "work",
    [
        lambda store, config: bak.collect(config),
        lambda store, config: bak.verify(store),
        lambda store, config: bak.store(store).frame(),
        lambda store, config: bak.update(store, endpoint_url=config.endpoint_url),
        lambda store, config: bak.prune(store, market="spot", dry_run=False),
        lambda store, config: bak.coverage(store),
    ],
    ids=["collect", "verify", "store", "update", "prune", "coverage"],
)
def test_records_of_a_newer_version_are_not_touched(
    server: LocalS3,
    ask: Ask,
    store: Path,
    work: Callable[[Path, bak.CollectionConfig], object],
) -> None:
    with closing(sqlite3.connect(record_of(store))) as newer, newer:
        newer.execute("ALTER TABLE proofs ADD COLUMN blake3 TEXT")
        newer.execute("PRAGMA user_version = 99")
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    with pytest.raises(bak.StoreError, match=r"newer version of this .* update the package"):
        work(store, ask(server, days=4))
    assert {path: path.read_bytes() for path in before} == before
