"""A small store of proven candles, and what a test asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from hypothesis import strategies as st

from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.proof import Expected, Stamp, prove
from binance_archive_kit.storage.store import Store
from tests.support.both_stores import place
from tests.support.checks import opened_files
from tests.support.stores import kline, put

KEYS = [kline("BTCUSDT", f"2025-07-0{day}") for day in range(1, 6)]
PREFIX = KEYS[0].folder.prefix


def fill(root: Path, tmp_path: Path, keys: list[ObjectKey] = KEYS) -> Store:
    """Make a store of proven files."""
    store = Store(root)
    fill_store(store, tmp_path, keys)
    return store


def fill_store(store: BaseStore, tmp_path: Path, keys: Iterable[ObjectKey] = KEYS) -> None:
    """Put proven files into a store of any kind."""
    with store.records.recorder() as record:
        for key in keys:
            staged = put(tmp_path / "staged", key)
            proof = prove(str(key), staged, Expected(None, "e", None))
            record([place(store, proof, staged)])


def record_of(root: Path) -> Path:
    return root / PRIVATE / "proofs.sqlite"


def hashed(work: Callable[[], object]) -> int:
    """Count the zips that are opened meanwhile."""
    with opened_files() as opened:
        work()
    return sum(path.endswith(".zip") for path in opened)


numbers = st.sampled_from([0, 1, 2])
stamps = st.builds(Stamp, numbers, numbers, numbers, numbers)
NAME = KEYS[0].name
OTHER = "f" * 64


def beside(path: Path, text: str) -> None:
    path.with_name(f"{path.name}.CHECKSUM").write_text(text)
