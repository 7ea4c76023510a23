"""Put files, folders and circles of links where records and caches are, and fill small disks."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import binance_archive_kit as bak
from tests.support.record_damage import FIRST, LAST, Damage, RecordedStore, archive
from tests.support.s3_server import LocalS3

SECONDS = 900.0
#: Options of a tmpfs: bytes, and numbers of files.
DISKS = [f"size={size}k" for size in (16, 40, 60, 80, 100, 120, 160, 200)]
DISKS += [f"size=50m,nr_inodes={count}" for count in (4, 10, 16, 20, 24, 28, 32, 36, 40, 48, 60)]


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    until = time.monotonic() + seconds
    shutil.rmtree(folder, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    server = LocalS3(archive()).start()
    try:
        store = RecordedStore(server, folder / "obstacles")
        store.fill()
        yield from _obstruct(Damage(store, folder / "cache"), until)
        for number, options in enumerate(DISKS):
            (folder / "disk").mkdir(exist_ok=True)
            with _mounted(folder / "disk", options) as is_mounted:
                if not is_mounted:
                    yield "no right to mount: small disks were left out"
                    return
                # Tables and an export need space, and deleting files must need none.
                _work_on(RecordedStore(server, folder / "disk"), folder / "disk" / "lake")
            if number + 1 == len(DISKS):
                yield f"{len(DISKS)} small disks: every work is done, or raises an error of its own"
    finally:
        server.stop()


def _obstruct(damage: Damage, until: float) -> Iterator[str]:
    paths = damage.paths()
    count = 0
    for path in paths:
        for kind in ("file", "folder", "circle"):
            assert time.monotonic() < until
            problem = damage.obstruct(path, kind)
            assert not problem, f"{path} is a {kind}: {problem}"
            count += 1
    yield f"{count} obstacles in {len(paths)} places: answers right, or errors with advice"


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[bool]:
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    is_mounted = not subprocess.run(mount, capture_output=True).returncode
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _work_on(store: RecordedStore, lake: Path) -> None:
    root: Path = store.root
    works: list[Callable[[], Any]] = [
        lambda: bak.collect(store.config),
        lambda: bak.store(root).build(),
        lambda: bak.coverage(root, start=FIRST, end=LAST),
        lambda: bak.update(root, end=LAST, endpoint_url=store.server.url),
        lambda: bak.to_parquet(root, lake),
    ]
    with warnings.catch_warnings(action="ignore"):
        for work in works:
            with suppress(bak.ArchiveKitError):
                work()
            if any(root.glob("data/**/*.zip")):
                store.held = {
                    path.relative_to(root).as_posix() for path in root.glob("data/**/*.zip")
                }
                assert bak.verify(root).frame.is_empty()
                rows = bak.scan(root, "spot", "klines").collect()
                assert len(rows) == len(store.truth()["queried"])
        if any(root.glob("data/**/*.zip")):
            bak.prune(root, data_type="klines", end=LAST + timedelta(days=1), dry_run=False)
            assert not any(root.glob("data/**/*.zip"))
            assert bak.verify(root).state == "empty"
