"""A disk without room, or one that refuses: every trouble has its error, and nothing half-written.

Mounting a small disk of its own for a test needs root; ``unshare -rm pytest
tests/e2e/test_disk.py`` does without.
"""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.collection import chunking
from binance_archive_kit.collection.collect import collect
from binance_archive_kit.errors import (
    ArchiveKitError,
    ArchiveKitWarning,
    ConfigurationError,
    DiskSpaceError,
    StoreError,
    WorkflowError,
)
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.planner import plan
from binance_archive_kit.storage import databases
from binance_archive_kit.storage.bucket import Bucket as Target
from binance_archive_kit.storage.layout import PRIVATE
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import Bucket, daily_klines, zips_of
from tests.support.checks import (
    assert_holds,
    assert_nothing_staged,
    assert_whole,
    files_of,
    reasons_of,
)
from tests.support.children import Children
from tests.support.dialects import zip_of
from tests.support.held import assert_bucket_holds, assert_bucket_whole
from tests.support.planted import HOUR, csv_at, every
from tests.support.s3_server import Request
from tests.support.stores import kline

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


def test_a_disk_that_fills_on_the_way_to_object_storage_leaves_nothing_partial(
    serve: Serve, ask: Ask, disk: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    monkeypatch.setattr(chunking, "_FEWEST_CHUNKS", 4)
    monkeypatch.setattr(chunking, "_FEWEST_OBJECTS", 8)
    rows = {"AUSDT": 24, "BUSDT": 30_000, "CUSDT": 24}
    archive = {
        key: body
        for symbol, count in rows.items()
        for key, body in daily_klines(symbol, days=11, rows=count).items()
    }
    # One chunk alone is too large.
    assert sum(map(len, zips_of(archive).values())) > 9 * MEBIBYTE
    server = serve(archive)
    # Without a listing, objects are expected to be small.
    config = ask(server, *rows, days=11, output_directory=s3_url, listing=False)
    with warnings.catch_warnings():
        # Of tables that do not fit either.
        warnings.simplefilter("ignore", ArchiveKitWarning)
        result = collect(config)
    reasons = reasons_of(result)
    assert set(reasons.values()) == {"disk_full"}
    untried = [each.key for each in result.failures if "the local disk is full" in each.detail]
    assert untried == [key for key in zips_of(archive) if "CUSDT" in key]
    target = Target.parse(s3_url)
    held = assert_bucket_whole(target, zips_of(archive))
    assert held == zips_of(archive).keys() - reasons.keys()
    assert held
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk.parent / "large"))
    assert collect(config).collection_stats["successful_tasks"] == len(reasons)
    assert_bucket_holds(target, zips_of(archive))


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


def test_files_can_be_deleted_when_no_space_is_left_to_record_it(
    serve: Serve, ask: Ask, disk: Path, bucket: Bucket
) -> None:
    store = disk / "store"
    config = ask(serve(bucket), days=12, output_directory=store)
    assert collect(config).outcome == "complete"
    filler = fill(disk)
    assert shutil.disk_usage(disk).free == 0
    assert bak.prune(store, data_type="klines", end="2025-07-10", dry_run=False).files == 10
    assert len(files_of(store)) == 2
    assert bak.verify(store).sound
    filler.unlink()
    assert collect(config).collection_stats["skipped_tasks"] == 2
    assert_holds(store, zips_of(bucket))


FEW_FILES = """
import os, resource, sys
import binance_archive_kit as bak
from binance_archive_kit.collection import collect
from binance_archive_kit.archive import curl_pool
config = bak.CollectionConfig.from_json(sys.argv[1])
limit = len(os.listdir("/proc/self/fd")) - 1 + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
bak.collect(config)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
@pytest.mark.parametrize("more", [4, 9])
def test_a_limit_for_open_files_ends_a_collection(serve: Serve, ask: Ask, more: int) -> None:
    children = Children(FEW_FILES)
    try:
        child = children.start(ask(serve(small()), days=3).to_json(), str(more))
        _, said = child.communicate(timeout=60)
    finally:
        children.end()
    last = said.decode().rstrip().rpartition("\n")[2]
    assert child.returncode, "it may not pass"
    assert last.startswith("binance_archive_kit.errors."), said.decode()


# A disk that refuses


def small() -> Bucket:
    return daily_klines("BTCUSDT", days=4)


def failures(config: CollectionConfig) -> dict[str, str]:
    """Collect, and give what is said of the objects that failed."""
    try:
        result = collect(config)
    except WorkflowError as error:
        result = error.result  # type: ignore[assignment]
    return {failure.reason: failure.detail for failure in result.failures}


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount a folder over itself, read-only."""
    for options in (["--bind"], ["-o", "remount,ro,bind"]):
        mount = ["mount", *options, str(folder), str(folder)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("needs the right to mount: be root, or run it by unshare -rm")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_store_is_read_and_said_to_be_so(
    serve: Serve, ask: Ask, store: Path, tmp_path: Path
) -> None:
    server = serve(small())
    collect(ask(server, days=3))
    with read_only(store):
        assert collect(ask(server, days=3)).outcome == "complete", "there is nothing to write"
        assert bak.verify(store).sound
        config = ask(server, days=4)
        assert plan(config).count("download") == 1
        with pytest.raises(
            ConfigurationError, match=r"output_directory: .*disk is read-only; make"
        ):
            collect(config)
        assert bak.store(store).frame()["proven"].to_list() == [3]
    moved = tmp_path / "moved"
    shutil.copytree(store, moved)
    with read_only(moved):
        config = ask(server, days=3, output_directory=moved)
        for _ in range(2):
            assert collect(config).collection_stats["skipped_tasks"] == 3
        assert bak.verify(moved, sample=0).sound
    with read_only(tmp_path), pytest.raises(ConfigurationError, match="read-only; make"):
        collect(ask(server, output_directory=tmp_path / "new"))


def test_a_limit_for_files_is_named_with_the_way_out(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket
) -> None:
    config = ask(serve(bucket), days=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        said = failures(config)["transfer_failed"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, hard))
        shutil.rmtree(store)
        with pytest.raises(StoreError, match=r"proofs.sqlite: .*ulimit -f"):
            collect(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "raise the limit (ulimit -f)" in said
    assert files_of(store) == {}
    assert collect(config).outcome == "complete"


@pytest.mark.parametrize("inodes", [4, 9, 14, 19])
def test_a_disk_without_inodes_is_full(serve: Serve, ask: Ask, tmp_path: Path, inodes: int) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size=50m,nr_inodes={inodes}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs: be root, or run it by unshare -rm")
    bucket = small()
    config = ask(serve(bucket), days=4, output_directory=folder / "store")
    try:
        with pytest.raises(ArchiveKitError) as caught:
            collect(config)
        if isinstance(caught.value, WorkflowError):
            assert caught.value.result is not None
            assert set(reasons_of(caught.value.result).values()) == {"disk_full"}
        else:
            assert isinstance(caught.value, DiskSpaceError)
            assert "file" in str(caught.value)
        assert_whole(folder / "store", zips_of(bucket))
        assert_nothing_staged(folder / "store")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("place", [PRIVATE, f"{PRIVATE}/staging"])
@pytest.mark.parametrize("kind", ["file", "loop"])
def test_something_else_where_a_folder_of_ours_should_be(
    serve: Serve, ask: Ask, store: Path, place: str, kind: str
) -> None:
    config = ask(serve(small()), days=4)
    path = store / place
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(path)
    plan(config)
    way_out = "move it away|remove them"
    with pytest.raises(StoreError, match=rf"{PRIVATE}/staging: .*({way_out})"):
        collect(config)
    assert bak.verify(store).state == "empty"
    path.unlink()
    assert collect(config).outcome == "complete"


def test_a_file_where_the_quarantine_should_be_fails_the_object_alone(
    serve: Serve, ask: Ask, store: Path
) -> None:
    config = ask(serve(small()), days=4)
    [bad, *_] = map(Path, collect(config).output_files)
    bad.write_bytes(b"?" * bad.stat().st_size)
    (store / "quarantine").write_text("mine")
    said = failures(config)["corrupt"]
    assert "the bytes could not be quarantined" in said
    assert "move it away" in said
    assert set(bad.read_bytes()) == set(b"?"), "nothing is overwritten that cannot be set aside"
    (store / "quarantine").unlink()
    assert collect(config).outcome == "complete"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: folder.write_text("mine"), "move it away"),
        (lambda folder: folder.symlink_to(folder), "remove them"),
    ],
    ids=["file", "loop"],
)
def test_something_else_where_the_data_should_be(
    serve: Serve, ask: Ask, store: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    bucket = small()
    config = ask(serve(bucket), days=4)
    folder = (store / next(iter(bucket))).parent
    folder.parent.mkdir(parents=True)
    spoil(folder)
    try:
        said = failures(config)["transfer_failed"]
    except StoreError as error:
        said = str(error)
    assert str(folder) in said
    assert reason in said
    folder.unlink()
    assert collect(config).outcome == "complete"
    zip_ = store / next(iter(bucket))
    zip_.unlink()
    zip_.mkdir()
    assert "a folder is where a file should be" in failures(config)["transfer_failed"]
    zip_.rmdir()
    zip_.symlink_to(zip_)
    assert collect(config).outcome == "complete"
    assert_holds(store, zips_of(bucket))


@pytest.mark.parametrize("verb", [plan, collect])
def test_a_path_that_the_file_system_refuses(
    serve: Serve, ask: Ask, tmp_path: Path, verb: Callable[[CollectionConfig], object]
) -> None:
    server = serve(small())
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    deep = tmp_path
    while len(str(deep)) < 4_060:
        deep /= "d" * min(200, max(1, 4_060 - len(str(deep))))
    for folder, way_out in (
        (tmp_path / ("x" * 300), "choose a shorter folder"),
        (deep, "choose a shorter folder"),
        (loop, "remove them"),
        (loop / "inside", "remove them"),
    ):
        config = ask(server, output_directory=folder)
        with pytest.raises((ConfigurationError, StoreError), match=way_out):
            verb(config)
        with pytest.raises(ArchiveKitError):
            bak.coverage(folder)


def test_a_record_that_is_locked_or_removed_meanwhile_costs_no_file(
    serve: Serve, ask: Ask, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_PATIENCE", 0.1)
    monkeypatch.setattr("binance_archive_kit.storage.records._SHORT_PATIENCE", 0.05)
    bucket = small()
    record = store / PRIVATE / "proofs.sqlite"
    others: list[sqlite3.Connection] = []

    def lock(request: Request) -> None:
        if request.key.endswith(".zip") and not others:
            others.append(sqlite3.connect(record, check_same_thread=False))
            others[0].execute("BEGIN IMMEDIATE")

    server = serve(bucket, lock)
    for days in (3, 4):
        with pytest.warns(ArchiveKitWarning, match=r"\d proofs could not be recorded .* locked"):
            assert collect(ask(server, days=days)).outcome == "complete"
        assert assert_whole(store, zips_of(bucket)) == days
    with closing(others[0]):
        others[0].rollback()
    assert collect(ask(server, days=4)).collection_stats["skipped_tasks"] == 4
    assert_holds(store, zips_of(bucket))
    shutil.rmtree(store)

    def remove(request: Request) -> None:
        if request.key.endswith("01.zip"):
            record.unlink(missing_ok=True)

    server.fault = remove
    assert collect(ask(server, days=4)).outcome == "complete"
    server.fault = None
    assert collect(ask(server, days=4)).collection_stats["skipped_tasks"] == 4
    assert_holds(store, zips_of(bucket))


def test_a_moved_store_asks_the_archive_for_nothing(
    serve: Serve, ask: Ask, store: Path, tmp_path: Path
) -> None:
    server = serve(small())
    collect(ask(server, days=4))
    moved = tmp_path / "moved"
    shutil.copytree(store, moved, copy_function=shutil.copy)  # other times, too
    server.requests.clear()
    config = ask(server, days=4, output_directory=moved)
    assert plan(config).frame["reason"].unique().to_list() == ["to be hashed"]
    result = collect(config)
    assert (result.outcome, result.collection_stats["skipped_tasks"]) == ("complete", 4)
    assert not any(key.endswith((".zip", ".CHECKSUM")) for _, key in server.requests)
    assert plan(config).frame["reason"].unique().to_list() == ["proven"]
    assert_holds(moved, zips_of(small()))


def test_a_cache_that_cannot_be_written_is_named(store: Path) -> None:
    key = kline("BTCUSDT", "2025-07-01")
    path = store / str(key)
    path.parent.mkdir(parents=True)
    path.write_bytes(zip_of(key, csv_at(key, every(HOUR, "2025-07-01", "2025-07-01 23:00"))))
    held = bak.store(store)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900, hard))
    try:
        with pytest.raises(StoreError, match="ulimit -f"):
            held.warm()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert held.warm().bytes > 0
