"""Tables are built when many files are read again, and never at the cost of a query."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from filelock import FileLock

import binance_archive_kit as bak
from binance_archive_kit.query import table_builder
from binance_archive_kit.tables import build
from binance_archive_kit.tables.parquet_writer import ParquetWriter
from binance_archive_kit.tables.tables import Tables
from tests.support.proven import fill
from tests.support.stores import Rows, assert_same, kline, naive_rows, put, scan_rows

DAYS = [kline("BTCUSDT", f"2025-{month:02}-{day:02}") for month in (6, 7) for day in range(1, 11)]


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_builder, "_MANY_FILES", 10)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for key in DAYS:
        put(tmp_path, key)
    return tmp_path


def read(store: bak.OpenStore) -> Rows:
    rows = scan_rows(bak.scan(store, "spot", "klines"))
    assert_same(rows, naive_rows(store.root, *(key for key in DAYS)))
    return rows


def cached(store: bak.OpenStore) -> int:
    assert store.last_scan is not None
    return store.last_scan.cached


@contextmanager
def builds() -> Iterator[list[int]]:
    """Count the files of each build."""
    found: list[int] = []
    original = Tables.build

    def counted(self: Tables, feed: Any, tasks: Any, *args: Any, **options: Any) -> Any:
        found.append(len(tasks))
        return original(self, feed, tasks, *args, **options)

    with mock.patch.object(Tables, "build", counted):
        yield found


def test_the_second_read_of_many_files_builds_tables(root: Path) -> None:
    # Each store is opened anew, as by processes that end after one query.
    found = []
    with builds() as built:
        for _ in range(4):
            store = bak.store(root)
            read(store)
            found.append(cached(store))
    assert found == [0, 20, 20, 20]
    assert built == [20]
    assert bak.store(root).frame()["tabled"].sum() == 20


def test_real_numbers_of_files_build_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    for number in range(300):
        put(tmp_path, kline(f"S{number:03}USDT", "2025-07-01"), 2)
    store = bak.store(tmp_path)
    for expected in (0, 0, 300):
        symbols = None if expected or not store.last_scan else [f"S{n:03}USDT" for n in range(299)]
        bak.scan(store, "spot", "klines", symbols=symbols).collect()
        assert cached(store) == expected


def test_large_files_build_tables(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_builder, "_MANY_FILES", 1_000)
    size = sum((root / str(key)).stat().st_size for key in DAYS)
    monkeypatch.setattr(table_builder, "_MANY_BYTES", size + 1)
    store = bak.store(root)
    read(store), read(store)
    assert cached(store) == 0
    monkeypatch.setattr(table_builder, "_MANY_BYTES", size)
    read(store)
    assert cached(store) == 20


def test_files_that_were_not_read_before_join_the_tables(root: Path) -> None:
    bak.scan(bak.store(root), "spot", "klines", end="2025-06-30").collect()
    store = bak.store(root)
    read(store)
    assert cached(store) == 20


def test_a_query_of_the_first_rows_builds_nothing(root: Path) -> None:
    store = bak.store(root)
    read(store)
    for _ in range(2):
        assert bak.scan(store, "spot", "klines").head(5).collect().height == 5
        assert cached(store) == 0
    assert store.cache.use().parts == 0


def test_counting_builds_nothing(root: Path) -> None:
    store = bak.store(root)
    read(store)
    with bak.connect(store) as con:
        for query in ("SELECT count(*)", "SELECT symbol, file, count(*)", "SELECT DISTINCT file"):
            con.sql(f"{query} FROM spot_klines GROUP BY ALL").fetchall()
    assert store.cache.use().parts == 0


def test_the_progress_of_a_build_is_shown(root: Path) -> None:
    store = bak.store(root)
    read(store)
    show = mock.Mock()
    with (
        mock.patch("binance_archive_kit.display.progress._default_show", return_value=show),
        mock.patch("binance_archive_kit.display.progress.INTERVAL", 0),
    ):
        read(store)
    assert show.call_args.args[0].startswith("building tables: 20 of 20 files")


def test_a_cache_that_is_off_is_not_filled(root: Path) -> None:
    store = bak.store(root, cache=False)
    for _ in range(3):
        read(store)
        assert cached(store) == 0
    assert not (root / ".binance_archive_kit").exists()


# The limit


def test_files_that_fit_are_built(root: Path) -> None:
    # The limit is for twelve of the files; their tables are assumed to be as large.
    limit = sum((root / str(key)).stat().st_size for key in DAYS[:12]) + 10
    with builds() as built, mock.patch.object(Tables, "trim"):
        for _ in range(3):
            read(store := bak.store(root, cache_limit=limit))
            assert len(built) <= 1
    assert (built, cached(store)) == ([12], 12)


def test_tables_beyond_the_limit_are_not_built_again_and_again(root: Path) -> None:
    # Tables of very small files are larger than these.
    limit = sum((root / str(key)).stat().st_size for key in DAYS) + 10
    with builds() as built:
        for _ in range(4):
            read(store := bak.store(root, cache_limit=limit))
    assert built == [20]
    assert store.cache.use().bytes <= limit
    assert cached(store) == 0


def test_no_room_builds_nothing(root: Path) -> None:
    with builds() as built:
        for _ in range(3):
            read(bak.store(root, cache_limit=1_000))
    assert built == []


@pytest.mark.parametrize(("days", "removed"), [(0.5, False), (2, True)])
def test_only_tables_that_were_not_used_lately_make_room(
    root: Path, days: float, removed: bool
) -> None:
    others = [kline("OUSDT", str(key.start), market="futures/um") for key in DAYS]
    for key in others:
        put(root, key)
    folder = bak.store(root).build("futures_um").folder
    assert folder is not None
    used = time.time() - days * 86_400
    for path in folder.rglob("*.parquet"):
        os.utime(path, (used, used))
    limit = bak.store(root).cache.use().bytes + 10_000
    for _ in range(3):
        store = bak.store(root, cache_limit=limit)
        read(store)
    assert (cached(store) > 0) == removed
    bak.scan(store, "futures_um", "klines").collect()
    assert (cached(store) == 0) == removed


# Failures


def test_tables_that_another_process_builds_are_not_waited_for(root: Path) -> None:
    store = bak.store(root)
    read(store)
    assert store.cache.folder is not None
    folder = store.cache.folder / "tables" / "spot_klines"
    folder.mkdir(parents=True)
    with FileLock(folder / "build.lock"):
        read(store)
        assert cached(store) == 0
    read(store)
    assert cached(store) == 20


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_to_fails_no_query(root: Path, number: int) -> None:
    store = bak.store(root)
    read(store)
    error = OSError(number, os.strerror(number))
    for name in ("write", "close"):
        with mock.patch.object(ParquetWriter, name, side_effect=error), builds() as built:
            store = bak.store(root)
            for _ in range(3):
                read(store)
                assert cached(store) == 0
        # This process does not try again.
        assert built == [20]
    assert not list(root.rglob("*.parquet"))
    read(bak.store(root))


def test_a_full_disk_fails_no_query(root: Path) -> None:
    store = bak.store(root)
    read(store)
    usage = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=100))
    with mock.patch.object(build, "shutil", usage):
        read(store)
        with pytest.raises(bak.DiskSpaceError, match="free some space"):
            store.build()
    assert cached(store) == 0
    assert not list(root.rglob("*.parquet"))


def test_a_locked_or_foreign_folder_fails_no_query(root: Path) -> None:
    store = bak.store(root)
    read(store)
    assert store.cache.folder is not None
    (store.cache.folder / "tables").write_bytes(b"no folder")
    for _ in range(2):
        read(store)
    assert cached(store) == 0


def test_symbols_may_come_from_a_generator(root: Path) -> None:
    store = bak.store(root)
    names = [DAYS[0].folder.symbol]
    assert store.build("spot", symbols=(name for name in names)).parts == 1


def test_bad_files_are_tried_once(root: Path) -> None:
    # The bad values are in a column that the queries do not read.
    for key in DAYS[:11]:
        put(root, key, edit=lambda csv: csv.replace(b",", b",oops", 1))
    store = bak.store(root)
    high = bak.scan(store, "spot", "klines").select("high")
    expected = high.collect()
    with builds() as built:
        for _ in range(3):
            assert high.collect().equals(expected)
            assert cached(store) == 9
    assert built == [20]
    with pytest.raises(bak.FileError, match=str(DAYS[0])):
        bak.scan(store, "spot", "klines").collect()


def test_a_build_tells_files_that_changed_apart(root: Path) -> None:
    store = bak.store(root)
    store.build()
    for key in DAYS[:15]:
        put(root, key, seed=1)
    store.build()
    read(store)
    assert cached(store) == 20
    # The rows of the replaced files were dropped.
    entries = store.cache.tables.snapshot(store.engine.feed("spot", "klines")).parts
    assert sum(part.files for part in entries) == 20


def test_tables_record_the_digests_of_proven_files(tmp_path: Path) -> None:
    proven, root = DAYS[3], tmp_path / "store"
    fill(root, tmp_path, [proven])
    for key in DAYS[:3]:
        put(root, key)
    store = bak.store(root)
    store.build()
    snapshot = store.cache.tables.snapshot(store.engine.feed("spot", "klines"))
    assert snapshot.entries().height == 4
    digest = hashlib.sha256((root / str(proven)).read_bytes()).hexdigest()
    assert snapshot.digests(snapshot.entries()) == {str(proven): digest}
