"""Stamps identify files without reading them."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.storage.inventory import _agrees
from binance_archive_kit.storage.proof import Proof, ProvenBy
from binance_archive_kit.storage.stamps import Stamp, raw, stamp_of
from binance_archive_kit.storage.store import Store
from tests.support.proven import (
    KEYS,
    PREFIX,
    hashed,
    stamps,
)
from tests.support.stores import put, view_rows


@given(stamps, stamps)
def test_stamps_agree_equally_in_python_and_in_frames(one: Stamp, other: Stamp) -> None:
    assert one.agrees(other) == other.agrees(one)
    assert one.agrees(one)
    row = {name: [value] for name, value in one._asdict().items()}
    row |= {f"proven_{name}": [value] for name, value in other._asdict().items()}
    same = pl.DataFrame(row).select(pl.all_horizontal(map(_agrees, Stamp._fields))).item()
    assert same == one.agrees(other)


def test_every_stamp_fits_into_the_database(tmp_path: Path) -> None:
    """Inodes of network file systems, and times of odd files, may need all 64 bits."""
    stat = os.stat_result(
        # The last three are access, modification and change, in nanoseconds.
        [0o100644, 2**64 - 1, 0, 1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2**64 - 2, -5]
    )
    stamp = stamp_of(stat)
    assert all(0 <= part < 2**63 for part in stamp)
    store = Store(tmp_path / "store")
    with store.records.recorder() as record:
        record([Proof(str(KEYS[0]), stamp, "0" * 64, None, ProvenBy.SIZE, "now")])
    assert store.records.proofs(PREFIX)[str(KEYS[0])].stamp == stamp
    path = put(tmp_path, KEYS[0])
    assert raw(path.stat()) == stamp_of(path.stat())


def spoil_alike(path: Path, key: ObjectKey) -> None:
    """Put another file of the same size and time in place of one."""
    stat = path.stat()
    for seed in range(400):
        other = put(path.parents[9] / "other", key, seed=seed + 1)
        if other.stat().st_size == stat.st_size:
            os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            other.replace(path)
            return
    raise AssertionError("no file of the same size")


@pytest.mark.parametrize("fresh", [True, False], ids=["a new process", "the same one"])
def test_another_file_with_the_same_size_and_time_is_read_again(
    tmp_path: Path, fresh: bool
) -> None:
    root = tmp_path / "a/b/c/store"
    for key in KEYS:
        put(root, key)
    held = bak.store(root)
    held.warm()
    before = view_rows(bak.connect(held), "spot_klines")
    assert held.last_scan is not None
    assert held.last_scan.cached == 5
    spoil_alike(root / str(KEYS[2]), KEYS[2])
    held = bak.store(root) if fresh else held
    after = view_rows(bak.connect(held), "spot_klines")
    assert len(after) == len(before) == 5 * 24
    assert [one == other for one, other in zip(before, after, strict=True)].count(True) == 4 * 24
    assert after == view_rows(bak.connect(root, cache=False), "spot_klines")


def test_remembered_statistics_answer_for_unchanged_files(root: Path) -> None:
    first = Engine(root)
    [feed] = first.feeds()
    first.warm()
    second = Engine(root)
    assert hashed(lambda: sum(batch.num_rows for batch in second.scan(feed, []))) == 0
