"""Whatever lies in place of the records, the store goes on, says so, and invents no proof."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import ArchiveKitWarning
from binance_archive_kit.query.store_cache import StoreCache
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.proof import Expected, prove
from binance_archive_kit.storage.store import Store
from tests.support.dialects import zip_of
from tests.support.planted import HOUR, csv_at, every
from tests.support.stores import kline

DAYS = [f"2025-07-{day:02}" for day in range(1, 9)]
KEYS = [kline("BTCUSDT", day) for day in DAYS]
#: A file that was changed after it was proven; nothing may ever call it proven.
FALSE = KEYS[-1]
PREFIX = KEYS[0].folder.prefix


class Flat(bak.BaseStorage):
    def get_partition_path(self, **of: Any) -> str:
        return f"flat/{of['symbol']}"


def admit(store: Store, tmp_path: Path, *keys: ObjectKey) -> None:
    """Prove files of candles, and put them into a store."""
    store.locations.record(map(str, keys))
    with store.records.recorder() as record:
        for key in keys:
            staged = tmp_path / "staged"
            staged.write_bytes(
                zip_of(key, csv_at(key, every(HOUR, str(key.start), f"{key.start} 23:59")))
            )
            digest = hashlib.sha256(staged.read_bytes()).hexdigest()
            record([store.admit(prove(str(key), staged, Expected(None, "e", digest)), staged)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of eight files; one is changed, one lies elsewhere, one is noted as missing."""
    folder = tmp_path_factory.mktemp("model")
    root = folder / "store"
    admit(Store(root), folder, *KEYS[:6], FALSE)
    admit(Store(root, Flat()), folder, KEYS[6])
    path = root / str(FALSE)
    other = zip_of(FALSE, csv_at(FALSE, every(HOUR, DAYS[-1], f"{DAYS[-1]} 20:00")))
    path.write_bytes(other.ljust(path.stat().st_size, b"\0")[: path.stat().st_size])
    gone = kline("BTCUSDT", "2025-07-09")
    absence = Absence(
        Market.SPOT,
        DataType.KLINES,
        Reason.ABSENT,
        "it is not there",
        gone.start,
        gone.end,
        key=str(gone),
    )
    Store(root).records.record_missing([absence], [])
    return root


def record_of(root: Path) -> Path:
    return root / PRIVATE / "proofs.sqlite"


def proven(root: Path) -> set[str]:
    """Return the keys that a store calls proven, by the way that plans go."""
    found = Store(root).inventory.frame([PREFIX])
    return set(found.filter(found["unchanged"])["key"])


def use(root: Path, tmp_path: Path) -> None:
    """Use a store in each way that its record is used; nothing may raise."""
    true = {str(key) for key in KEYS} - {str(FALSE)}
    assert proven(root) <= true
    store = Store(root)
    store.records.proofs(PREFIX)
    store.records.missing(PREFIX)
    admit(store, tmp_path, KEYS[0])
    assert str(KEYS[0]) in proven(root)
    store.records.record_missing([], [])
    store.records.forget([str(KEYS[0])])


def use_in_full(root: Path, *, cache: bool = False) -> None:
    """Use a store as its owner does; nothing may raise, and nothing is lost that lies there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArchiveKitWarning)
        found = bak.verify(root)
        assert found.proven + found.unproven + found.frame.height >= found.files >= 7
        assert found.proven <= 7
        assert not found.sound
        held = bak.store(root, cache=cache, on_error="skip").frame()
        assert 7 <= held["files"].sum() <= 8, "a place may be lost, and never a file under its key"
        assert held["proven"].sum() <= 7
        streams = bak.coverage(root, start=DAYS[0], end=DAYS[5]).streams
        assert streams["present"].sum() == 6 * 24
        rows = bak.connect(root, cache=cache, on_error="skip")
        assert rows.sql(
            "SELECT count(*) FROM spot_klines WHERE date < '2025-07-07'"
        ).fetchall() == [(6 * 24,)]


def flips(body: bytes, count: int) -> Iterator[bytes]:
    dice = random.Random(7)
    for at in sorted(dice.sample(range(len(body)), count)):
        spoilt = bytearray(body)
        spoilt[at] ^= dice.choice([1 << dice.randrange(8), dice.randrange(128, 256)])
        yield bytes(spoilt)


def truncations(body: bytes) -> Iterator[bytes]:
    for size in (0, 1, 15, 16, 50, 99, 100, 512, 4095, 4096, 4097, len(body) // 2, len(body) - 1):
        yield body[:size]


def foreign(path: Path, script: str) -> bytes:
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(script)
    body = path.read_bytes()
    path.unlink()
    return body


FOREIGN = [
    "CREATE TABLE cookies (host TEXT)",
    "CREATE TABLE proofs (id INTEGER PRIMARY KEY, done INTEGER)",
    "CREATE TABLE proofs (key TEXT, size TEXT NOT NULL CHECK (size = 'x'))",
    "CREATE VIEW proofs AS SELECT 1 AS key",
    "CREATE TABLE places (key INTEGER); CREATE TABLE missing (said BLOB)",
    "CREATE TABLE proofs (key TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, sha256 TEXT,"
    " etag TEXT, proven_by TEXT, proven_at TEXT, more TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE proofs (key, size, mtime, sha256, etag, proven_by, proven_at);"
    f"INSERT INTO proofs VALUES ('{KEYS[0]}', -1, 'x', 'zz', 7, NULL, NULL)",
    f"CREATE TABLE proofs (key, size, mtime, sha256, etag, proven_by, proven_at);"
    f"INSERT INTO proofs VALUES ('{FALSE}', x'00ff', 1, x'ff', 7, 'sha256', 'now')",
]


def spoilt_records(model: Path, tmp_path: Path) -> Iterator[bytes]:
    body = record_of(model).read_bytes()
    yield from flips(body, 90)
    yield from truncations(body)
    # SQLite quotes its own statements in a message, which is then no UTF-8.
    for word in (b"sha256 TEXT", b"CREATE TABLE places", b"tableproofs"):
        assert word in body
        yield body.replace(word, word[:3] + b"\xff" + word[4:])
    yield b"this is a text file\n" * 300
    yield random.Random(1).randbytes(len(body))
    yield body[:100] + random.Random(2).randbytes(len(body) - 100)
    yield body + body
    for script in FOREIGN:
        yield foreign(tmp_path / "foreign", script)


@pytest.mark.filterwarnings("ignore::binance_archive_kit.errors.ArchiveKitWarning")
def test_recovery_from_damaged_records_proves_nothing_wrong(model: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(model, root)
    assert proven(model) == {str(key) for key in KEYS[:7]}
    for number, body in enumerate(spoilt_records(model, tmp_path)):
        shutil.rmtree(root / PRIVATE)
        (root / PRIVATE).mkdir()
        record_of(root).write_bytes(body)
        os.utime(record_of(root), (1, 1))
        use(root, tmp_path)
        if number % 20 == 0:
            record_of(root).write_bytes(body)
            use_in_full(root)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def as_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def as_dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere") / "x")


def with_folder_for_journal(path: Path) -> None:
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    path.with_name(f"{path.name}-journal").mkdir()


def with_hot_journal(path: Path) -> None:
    """Leave the journal of a process that was killed, and a page it had written."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("PRAGMA cache_size=1")
        database.execute("BEGIN IMMEDIATE")
        database.execute("CREATE TABLE big (x BLOB)")
        database.executemany("INSERT INTO big VALUES (?)", [(bytes(9_000),)] * 40)
        journal = path.with_name(f"{path.name}-journal")
        journal_body, body = journal.read_bytes(), path.read_bytes()
    path.write_bytes(body)
    journal.write_bytes(journal_body)


def with_garbage_beside(path: Path) -> None:
    for side in ("-journal", "-wal", "-shm"):
        path.with_name(f"{path.name}{side}").write_bytes(random.Random(3).randbytes(9_000))


def as_wal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
    for side in ("-wal", "-shm"):
        path.with_name(f"{path.name}{side}").write_bytes(random.Random(4).randbytes(9_000))


@pytest.mark.filterwarnings("ignore::binance_archive_kit.errors.ArchiveKitWarning")
@pytest.mark.parametrize(
    "spoil",
    [
        as_folder,
        as_loop,
        as_dangling,
        with_folder_for_journal,
        with_hot_journal,
        with_garbage_beside,
        as_wal,
        Path.unlink,
    ],
    ids=lambda each: each.__name__,
)
def test_recovery_from_other_things_under_or_beside_the_name(
    model: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    root = tmp_path / "store"
    for work in (lambda: use(root, tmp_path), lambda: use_in_full(root)):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(model, root)
        spoil(record_of(root))
        work()


def test_the_warning_names_the_loss_and_locations_are_saved(model: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(model, root)
    with closing(sqlite3.connect(record_of(root))) as database, database:
        database.execute("UPDATE proofs SET size = -1 WHERE key = ?", (str(KEYS[0]),))
    with pytest.warns(ArchiveKitWarning) as told:
        assert proven(root) == set()
    said = str(told[0].message)
    assert "1 rows of its table proofs are not valid" in said
    assert "the next collect proves them again, without fetching them" in said
    assert "the locations of 1 files that a storage placed elsewhere were saved" in said
    assert Store(root).locations.recorded() == {str(KEYS[6]): f"flat/BTCUSDT/{KEYS[6].name}"}
    assert len(list(root.glob(f"{PRIVATE}/proofs.damaged-*.sqlite"))) == 1


def test_an_empty_database_is_reported_unless_it_is_new(tmp_path: Path) -> None:
    root = tmp_path / "store"
    record_of(root).parent.mkdir(parents=True)
    record_of(root).touch()
    assert proven(root) == set()
    os.utime(record_of(root), (time.time() - 60,) * 2)
    with pytest.warns(ArchiveKitWarning, match="damaged \\(it is empty\\)"):
        assert proven(root) == set()


@pytest.mark.filterwarnings("ignore::binance_archive_kit.errors.ArchiveKitWarning")
def test_a_damaged_cache_is_rebuilt(model: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(model, root)
    use_in_full(root, cache=True)
    cached = StoreCache(Store(root)).folder
    assert cached is not None
    [facts] = cached.glob("facts.*.sqlite")
    body = facts.read_bytes()
    assert len(body) > 8_192
    bodies = [*flips(body, 40), *truncations(body), b"text" * 4_000]
    bodies += [foreign(tmp_path / "foreign", script) for script in FOREIGN]
    for number, spoilt in enumerate(bodies):
        facts.write_bytes(spoilt)
        held = bak.store(root, on_error="skip")
        [feed] = held.engine.feeds()
        held.engine.known.stats(feed)
        held.engine.known.profiles(feed)
        if number % 8 == 0:
            facts.write_bytes(spoilt)
            bak.coverage(root)
            bak.connect(root, on_error="skip").sql("SELECT max(close) FROM spot_klines").fetchall()
    facts.unlink(missing_ok=True)
    facts.mkdir()
    use_in_full(root, cache=True)
