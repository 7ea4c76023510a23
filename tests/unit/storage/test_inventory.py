"""The frame of a store's files and their proofs, as plans use it."""

from __future__ import annotations

from pathlib import Path

from binance_archive_kit.storage.inventory import INVENTORY_SCHEMA
from binance_archive_kit.storage.store import Store
from tests.support.zip_forms import (
    GOOD,
    KEY,
    admit_proven,
    md5,
    stored,
)


def test_recorded_proofs_are_in_the_frame(store: Store, tmp_path: Path) -> None:
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


def test_a_later_proof_replaces_the_earlier(store: Store, tmp_path: Path) -> None:
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
        proof = admit_proven(store, tmp_path, KEY, stored())
        record([proof])
    [row] = store.inventory.frame([KEY.rpartition("/")[0] + "/"]).iter_rows(named=True)
    assert row["proven_size"] == row["file_size"] == len(stored())


def test_proofs_without_a_file_are_not_in_the_frame(store: Store, tmp_path: Path) -> None:
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
    store.path(KEY).unlink()
    assert store.inventory.frame([KEY.rpartition("/")[0] + "/"]).height == 0


def test_files_without_a_proof_are_in_the_frame(store: Store) -> None:
    store.path(KEY).parent.mkdir(parents=True)
    store.path(KEY).write_bytes(GOOD)
    store.path(KEY + ".CHECKSUM").write_text("x")
    store.path(KEY).with_name("folder.zip").mkdir()
    [row] = store.inventory.frame([KEY.rpartition("/")[0] + "/"]).iter_rows(named=True)
    assert (row["key"], row["file_size"], row["proven_by"]) == (KEY, len(GOOD), None)
