"""The files of a store as they are now, by folder, and the frame that plans use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.inventory import StoredFolder
from binance_archive_kit.storage.proof import stamp_of
from binance_archive_kit.storage.proven_files import INVENTORY_SCHEMA
from binance_archive_kit.storage.store import Store
from tests.support.both_stores import overwrite, remove
from tests.support.proven import fill_store
from tests.support.stores import kline, put
from tests.support.zip_forms import (
    GOOD,
    KEY,
    admit_proven,
    md5,
    stored,
)


def test_recorded_proofs_are_in_the_frame(either: BaseStore, tmp_path: Path) -> None:
    store = either
    prefix = KEY.rpartition("/")[0] + "/"
    # Keys that sort around the prefix, and one that is not ASCII.
    others = [
        KEY,
        KEY.replace("BTCUSDT/", "BTCUSDT_240329/"),
        KEY.replace("BTCUSDT/", "BTCUSD/"),
        KEY.replace("BTCUSDT/", "币安人生USDT/"),
    ]
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, key) for key in others])
        record([])
    found = store.inventory.frame([prefix])
    assert found.schema == INVENTORY_SCHEMA
    [row] = found.iter_rows(named=True)
    assert row["key"] == KEY
    assert (row["file_size"], row["proven_size"]) == (len(GOOD), len(GOOD))
    assert row["unchanged"]
    assert (row["proven_etag"], row["proven_by"]) == (md5(GOOD), "sha256")
    everything = store.inventory.frame([key.rpartition("/")[0] + "/" for key in others])
    assert sorted(everything["key"]) == sorted(others)
    assert everything["proven_by"].null_count() == 0


def test_a_later_proof_replaces_the_earlier(either: BaseStore, tmp_path: Path) -> None:
    store = either
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
        proof = admit_proven(store, tmp_path, KEY, stored())
        record([proof])
    [row] = store.inventory.frame([KEY.rpartition("/")[0] + "/"]).iter_rows(named=True)
    assert row["proven_size"] == row["file_size"] == len(stored())


def test_proofs_without_a_file_are_not_in_the_frame(either: BaseStore, tmp_path: Path) -> None:
    store = either
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
    remove(store, [KEY])
    assert store.inventory.frame([KEY.rpartition("/")[0] + "/"]).height == 0


def test_files_without_a_proof_are_in_the_frame(store: Store) -> None:
    store.path(KEY).parent.mkdir(parents=True)
    store.path(KEY).write_bytes(GOOD)
    store.path(KEY + ".CHECKSUM").write_text("x")
    store.path(KEY).with_name("folder.zip").mkdir()
    [row] = store.inventory.frame([KEY.rpartition("/")[0] + "/"]).iter_rows(named=True)
    assert (row["key"], row["file_size"], row["proven_by"]) == (KEY, len(GOOD), None)


def test_other_bytes_are_not_those_that_were_proven(either: BaseStore, tmp_path: Path) -> None:
    with either.records.recorder() as record:
        record([admit_proven(either, tmp_path, KEY)])
    for body in (GOOD[:-1] + b"x", b"short"):
        overwrite(either, KEY, body)
        found = either.inventory.frame([KEY.rpartition("/")[0] + "/"])
        # An object in a bucket that is not the proven one counts as absent.
        assert found["unchanged"].to_list() in ([False], [])


# Files by folder, for reading

DAYS = [kline("BTCUSDT", f"2025-07-0{day}") for day in (1, 2, 3)]
KLINES = Market.SPOT, DataType.KLINES


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    for key in (*DAYS, kline("AUSDT", "2025-07"), kline("币安USDT", "2025-07-01", "1d")):
        put(tmp_path, key, 5)
    # Time passes, so that folders are known not to change unnoticed.
    for folder in tmp_path.rglob("*"):
        if folder.is_dir():
            os.utime(folder, (1_750_000_000, 1_750_000_000.25))
    return tmp_path


def symbols(folders: list[StoredFolder]) -> list[str]:
    return [stored.folder.symbol for stored in folders]


def test_proven_files_are_in_their_folders(either: BaseStore, tmp_path: Path) -> None:
    others = [kline("AUSDT", "2025-07"), kline("币安USDT", "2025-07-01", "1d")]
    fill_store(either, tmp_path, [*DAYS, *others])
    inventory = either.inventory
    assert inventory.feeds() == [KLINES]
    folders = inventory.folders(*KLINES)
    assert {stored.folder for stored in folders} == {*inventory.names(*KLINES)}
    [days] = inventory.folders(*KLINES, "BTCUSDT".__eq__)
    assert [file.path for file in days.files] == [str(key) for key in DAYS]
    assert [file.start for file in days.files] == [key.start for key in DAYS]
    proofs = either.records.proofs(DAYS[0].folder.prefix)
    assert [file.stamp for file in days.files] == [proofs[str(key)].stamp for key in DAYS]
    assert inventory.folders(*KLINES, matches=lambda folder: folder.partition == "daily") == [
        stored for stored in folders if stored.folder.partition == "daily"
    ]
    assert inventory.folders(Market.SPOT, DataType.TRADES) == []
    again = inventory.folders(*KLINES)
    assert all(one is two for one, two in zip(again, folders, strict=True))
    fill_store(either, tmp_path, [kline("BTCUSDT", "2025-07-04"), kline("NEWUSDT", "2025-07-04")])
    assert sorted(symbols(inventory.folders(*KLINES))) == [
        "AUSDT",
        "BTCUSDT",
        "NEWUSDT",
        "币安USDT",
    ]
    [days] = inventory.folders(*KLINES, "BTCUSDT".__eq__)
    assert [file.start.day for file in days.files] == [1, 2, 3, 4]
    assert [either.read_file(file)[:2] for file in days.files] == [b"PK"] * 4
    for file in days.files:
        with either.open_file(file) as opened:
            assert opened.seek(0, os.SEEK_END) == file.size
            assert opened.seek(-22, os.SEEK_END) == file.size - 22
            assert opened.read(4) == b"PK\x05\x06"
    assert [either.stamp(file) for file in days.files] == [file.stamp for file in days.files]
    remove(either, [str(DAYS[0])])
    with pytest.raises(FileNotFoundError):
        either.read_file(days.files[0])


def test_folders_are_in_the_order_of_their_names(filled: Path) -> None:
    inventory = Store(filled).inventory
    folders = inventory.folders(*KLINES)
    assert sorted(symbols(folders)) == ["AUSDT", "BTCUSDT", "币安USDT"]
    assert {stored.folder for stored in folders} == {*inventory.names(*KLINES)}
    [days] = [stored for stored in folders if stored.folder.symbol == "BTCUSDT"]
    assert [file.path for file in days.files] == [str(key) for key in DAYS]
    assert [file.stamp for file in days.files] == [
        stamp_of((filled / str(key)).stat()) for key in DAYS
    ]


def test_files_of_other_folders_are_not_looked_at(filled: Path) -> None:
    inventory = Store(filled).inventory
    inventory.folders(*KLINES)
    looked: list[str] = []
    stat = os.stat

    def watched(path: Any, **options: Any) -> os.stat_result:
        looked.append(str(path))
        return stat(path, **options)

    with mock.patch("os.stat", watched):
        found = inventory.folders(*KLINES, "AUSDT".__eq__)
    assert symbols(found) == ["AUSDT"]
    files = [path for path in looked if path.endswith(".zip")]
    assert [Path(path).name for path in files] == ["AUSDT-1h-2025-07.zip"]


def test_unchanged_folders_are_the_same_objects(filled: Path) -> None:
    inventory = Store(filled).inventory
    before = inventory.folders(*KLINES)
    assert all(one is two for one, two in zip(inventory.folders(*KLINES), before, strict=True))


def rewrite(path: Path) -> None:
    """Write other bytes of the same size into the same file, and set its time back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes())
    new.replace(path)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize("change", [rewrite, replace, grow, os.utime])
def test_a_changed_file_has_its_stamp_of_now(filled: Path, change: Callable[[Path], None]) -> None:
    inventory = Store(filled).inventory
    inventory.folders(*KLINES)
    path = filled / str(DAYS[1])
    change(path)
    for _ in range(2):
        [days] = inventory.folders(*KLINES, "BTCUSDT".__eq__)
        stamps = {file.path: file.stamp for file in days.files}
        assert stamps[str(DAYS[1])] == stamp_of(path.stat())
        assert len(stamps) == 3


def test_files_that_arrive_or_go_are_found(filled: Path) -> None:
    inventory = Store(filled).inventory
    inventory.folders(*KLINES)
    put(filled, kline("BTCUSDT", "2025-07-04"), 5)
    put(filled, kline("NEWUSDT", "2025-07-04"), 5)
    (filled / str(DAYS[0])).unlink()
    folders = inventory.folders(*KLINES)
    assert {stored.folder for stored in folders} == {*inventory.names(*KLINES)}
    assert "NEWUSDT" in symbols(folders)
    [days] = [stored for stored in folders if stored.folder.symbol == "BTCUSDT"]
    assert [file.start.day for file in days.files] == [2, 3, 4]


def test_names_are_those_of_folders_with_files(filled: Path) -> None:
    inventory = Store(filled).inventory
    for folder in ("EMPTYUSDT", "NOTESUSDT", "MONTHUSDT"):
        (filled / f"data/spot/daily/klines/{folder}/1h").mkdir(parents=True)
    (filled / "data/spot/daily/klines/NOTESUSDT/1h/notes.zip").write_bytes(b"")
    wrong = filled / "data/spot/daily/klines/MONTHUSDT/1h/MONTHUSDT-1h-2025-07.zip"
    wrong.write_bytes(b"")
    for _ in range(2):
        names = inventory.names(*KLINES)
        assert sorted(name.symbol for name in names) == ["AUSDT", "BTCUSDT", "币安USDT"]
        assert {stored.folder for stored in inventory.folders(*KLINES)} == {*names}
    # All files of a symbol go, and its folder stays.
    for key in DAYS:
        (filled / str(key)).unlink()
    assert sorted(name.symbol for name in inventory.names(*KLINES)) == ["AUSDT", "币安USDT"]
