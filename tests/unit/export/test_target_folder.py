"""The folder of an export: outside of the store, of one export at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.export.target_folder import check_target, locked, temporary_in


def test_a_target_in_the_store_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "link").symlink_to(store)
    (tmp_path / "file").touch()
    for path, words in (
        (store, "is the store itself"),
        (tmp_path / "link" / "x", "is inside the store"),
        (tmp_path / "file", "is not a folder"),
    ):
        with pytest.raises(bak.ConfigurationError, match=f"datadir: .*{words}"):
            check_target("datadir", path, store)
    assert check_target("datadir", tmp_path / "new", store) == tmp_path / "new"


def test_only_one_export_is_at_work(tmp_path: Path) -> None:
    target = tmp_path / "new" / "target"
    with locked(target), pytest.raises(bak.StoreError, match="another export"), locked(target):
        pass
    with locked(target):
        pass


def test_what_a_killed_export_left_is_removed(tmp_path: Path) -> None:
    with temporary_in(tmp_path) as folder:
        (folder / "half").touch()
        left = folder
    assert not left.exists()
    left.mkdir()
    (left / "half").touch()
    with temporary_in(tmp_path) as folder:
        assert not [*folder.iterdir()]
