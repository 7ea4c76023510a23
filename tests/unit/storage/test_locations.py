"""Locations that a storage decides, or that are recorded, stay inside the store."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import ArchiveKitWarning, ConfigurationError
from binance_archive_kit.storage.layout import PRIVATE, fault_of_location
from binance_archive_kit.storage.store import Store
from tests.support.proven import (
    KEYS,
    fill,
    record_of,
)
from tests.support.stores import put, view_rows

SAFE = "flat/BTCUSDT"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (f"../{KEYS[0].name}", "plain"),
        (f"flat/../../{KEYS[0].name}", "plain"),
        (f"/etc/{KEYS[0].name}", "plain"),
        (f"flat/\x07/{KEYS[0].name}", "plain"),
        (f"{PRIVATE}/{KEYS[0].name}", "not for data"),
        (f"quarantine/{KEYS[0].name}", "not for data"),
        ("flat/other.zip", "another file"),
        (str(KEYS[1]), "another file"),
        ("", "another file"),
        (f"link/{KEYS[0].name}", "symbolic link"),
        (f"link/deeper/{KEYS[0].name}", "symbolic link"),
        (f"inside/{KEYS[0].name}", "symbolic link"),
    ],
)
def test_a_recorded_location_never_leads_outside(
    tmp_path: Path, root: Path, place: str, why: str
) -> None:
    """Neither a file outside is read, nor is one written there."""
    outside = tmp_path / "outside"
    (outside / "deeper").mkdir(parents=True)
    secret = put(tmp_path / "secret", KEYS[0], seed="secret")
    for folder in (outside, outside / "deeper", tmp_path):
        shutil.copy(secret, folder / KEYS[0].name)
    (root / "link").symlink_to(outside)
    (root / "inside").mkdir()
    (root / "inside" / KEYS[0].name).symlink_to(outside / KEYS[0].name)
    with closing(sqlite3.connect(record_of(root))) as database, database:
        database.execute("INSERT INTO places VALUES (?, ?)", (str(KEYS[0]), place))
        database.execute("INSERT INTO places VALUES ('data/x/../y.zip', 'y.zip')")

    def told() -> pytest.WarningsRecorder:
        return pytest.warns(ArchiveKitWarning, match=rf"locations of files are ignored.*{why}")

    with told():
        rows = view_rows(bak.connect(root, cache=False), "spot_klines")
    assert rows == view_rows(bak.connect(_copy(root, tmp_path), cache=False), "spot_klines")
    store = Store(root)
    with told():
        assert store.path(str(KEYS[0])) == root / str(KEYS[0])
    before = {path: path.read_bytes() for path in tmp_path.glob("outside/**/*.zip")}
    with told():
        store.locations.record([])
    fill(root, tmp_path, KEYS[:1])
    assert {path: path.read_bytes() for path in tmp_path.glob("outside/**/*.zip")} == before


def _copy(root: Path, tmp_path: Path) -> Path:
    """Copy the files of a store, without its record."""
    shutil.copytree(root / "data", tmp_path / "copy" / "data", dirs_exist_ok=True)
    return tmp_path / "copy"


class Says(bak.BaseStorage):
    def __init__(self, folder: Any) -> None:
        self.folder = folder

    def get_partition_path(self, **_: Any) -> Any:
        return self.folder


@pytest.mark.parametrize(
    "folder", ["link", "link/deeper", "..", "a/../../b", "/etc", "x\0y", b"bytes", "\ud800", 7]
)
def test_a_storage_never_leads_outside(tmp_path: Path, folder: Any) -> None:
    root = tmp_path / "store"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigurationError, match="storage: get_partition_path returns"):
        Store(root, Says(folder)).locations.record([str(KEYS[0])])
    assert not record_of(root).exists()


def test_links_inside_the_store_are_accepted(tmp_path: Path) -> None:
    root = tmp_path / "store"
    (root / "real").mkdir(parents=True)
    (root / "link").symlink_to("real")
    store = Store(root, Says("link"))
    store.locations.record([str(KEYS[0])])
    assert Store(root).locations.recorded() == {str(KEYS[0]): f"link/{KEYS[0].name}"}


@given(st.text(max_size=12), st.sampled_from(KEYS))
def test_no_text_makes_the_check_of_a_location_raise(text: str, key: ObjectKey) -> None:
    assert fault_of_location(str(key), f"{SAFE}/{key.name}") == ""
    for place in (text, f"{text}/{key.name}"):
        if not fault_of_location(str(key), place):
            path = Path(os.path.normpath(f"/store/{place}"))
            assert path.is_relative_to("/store")
            assert path.name == key.name
    assert fault_of_location(text, text)
