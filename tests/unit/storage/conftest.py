"""Stores to test with."""

from __future__ import annotations

from pathlib import Path

import pytest

from binance_archive_kit.storage.store import Store
from tests.support.proven import (
    fill,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "store", tmp_path)
    return tmp_path / "store"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "words #1?.sqlite"
