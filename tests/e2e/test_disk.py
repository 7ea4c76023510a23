"""A disk without room: a small one of its own for each test.

Mounting it needs root; ``unshare -rm pytest tests/e2e/test_disk.py`` does without.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from binance_archive_kit.collection import collect, plan
from binance_archive_kit.config import CollectionConfig
from binance_archive_kit.errors import ArchiveKitError, DiskSpaceError, WorkflowError
from binance_archive_kit.local_s3 import Request
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import Bucket, daily_klines, zips_of
from tests.support.checks import (
    assert_holds,
    assert_nothing_staged,
    assert_whole,
    files_of,
    reasons_of,
)

MEBIBYTE = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs: be root, or run it by unshare -rm")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on the disk, by one file."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    return filler


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    """Twelve days of about half a MiB each: 6 MiB."""
    bucket = daily_klines("BTCUSDT", days=12, rows=16_000)
    assert 5 * MEBIBYTE < sum(map(len, bucket.values())) < 7 * MEBIBYTE
    return bucket


def test_a_plan_that_does_not_fit_is_refused_before_any_byte(
    serve: Serve, ask: Ask, disk: Path, bucket: Bucket
) -> None:
    (disk / "others").write_bytes(bytes(4 * MEBIBYTE))
    server = serve(bucket)
    with pytest.raises(DiskSpaceError, match="free") as caught:
        collect(ask(server, days=12, output_directory=disk / "store"))
    assert "MB" in str(caught.value) or "MiB" in str(caught.value)
    assert not any(key for _, key in server.requests if ".zip" in key)
    assert not (disk / "store").exists()
    # What is there already needs no room: the half of it fits.
    half = ask(server, days=6, output_directory=disk / "store")
    assert collect(half).outcome == "complete"
    assert collect(half).collection_stats["skipped_tasks"] == 6


@pytest.mark.parametrize("batches", [True, False], ids=["batches", "process per file"])
@pytest.mark.parametrize("at", [1, 5, 12])
def test_a_disk_that_fills_during_the_run_leaves_nothing_partial(
    serve: Serve, ask: Ask, disk: Path, bucket: Bucket, at: int, batches: bool
) -> None:
    seen = 0

    def others_write(request: Request) -> None:
        nonlocal seen
        if request.method == "GET" and request.key.endswith(".zip"):
            seen += 1
            if seen == at:
                fill(disk)

    server = serve(bucket, others_write)
    store = disk / "store"
    config = ask(
        server,
        days=12,
        output_directory=store,
        enable_batch_mode=batches,
        max_parallel_downloads=2,
        batch_size=4,
    )
    try:
        result = collect(config)
    except WorkflowError as error:  # there was no room for a single one
        result = error.result
    assert result is not None
    assert set(reasons_of(result).values()) == {"disk_full"}
    held = assert_whole(store, zips_of(bucket))
    assert held == result.collection_stats["successful_tasks"] == 12 - len(result.failures)
    assert_nothing_staged(store)
    server.fault = None
    os.unlink(disk / "filler")  # noqa: PTH108
    again = collect(config)
    assert again.outcome == "complete"
    assert again.collection_stats["skipped_tasks"] == held
    assert_holds(store, zips_of(bucket))


@pytest.mark.parametrize("verb", [collect, plan])
def test_a_full_disk_is_called_so_when_sizes_are_not_known(
    serve: Serve, ask: Ask, disk: Path, bucket: Bucket, verb: Callable[[CollectionConfig], object]
) -> None:
    config = ask(serve(bucket), days=3, output_directory=disk / "store", listing=False)
    filler = fill(disk)
    if verb is plan:
        verb(config)
        assert not (disk / "store").exists()
        return
    with pytest.raises(ArchiveKitError, match=r"disk|space|room"):
        verb(config)
    assert files_of(disk / "store") == {}
    filler.unlink()
    assert collect(config).outcome == "complete"
