"""Stores to test with."""

from __future__ import annotations

from pathlib import Path

import pytest

from binance_archive_kit.storage import bucket_records
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.places import store_at
from binance_archive_kit.storage.store import Store
from tests.support.proven import (
    fill,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(params=["folder", "bucket"])
def either(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> BaseStore:
    """Return an empty store of each kind."""
    if request.param == "folder":
        return Store(tmp_path / "store")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bucket_records, "_FRESH", 0.0)
    return store_at(request.getfixturevalue("s3_url"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "store", tmp_path)
    return tmp_path / "store"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "words #1?.sqlite"
