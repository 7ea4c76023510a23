"""What a store, and the machine, must look like after a collection, whatever happened in it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from binance_archive_kit.download.result import CollectionResult

PRIVATE = ".binance_archive_kit"


_opened: list[str] | None = None


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str):
        _opened.append(arguments[0])


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Lend a list that grows by the path of each file that Python opens, on any thread."""
    global _opened
    if not _hooked:
        # A hook stays for ever; one is enough.
        sys.addaudithook(_note_opened)
        _hooked.append(True)
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


_hooked: list[bool] = []


def rot(path: Path, store: Path) -> None:
    """Flip a byte of a proven file as a failing medium does: its stamp stays the recorded one."""
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    stat = path.stat()
    with closing(sqlite3.connect(store / PRIVATE / "proofs.sqlite")) as database, database:
        changed = database.execute(
            "UPDATE proofs SET mtime = ?, ctime = ?, inode = ?, crc = NULL WHERE key LIKE ?",
            (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, f"%/{path.name}"),
        )
        assert changed.rowcount == 1


def flip(path: Path) -> None:
    """Flip a byte, and set size and modification time back to what they were."""
    body, stat = bytearray(path.read_bytes()), path.stat()
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def files_of(store: Path) -> dict[str, bytes]:
    """Read every file below the store's ``data/``, by its key."""
    paths = (path for path in (store / "data").rglob("*") if path.is_file())
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in paths}


def proofs_of(store: Path) -> dict[str, tuple[str, int, int]]:
    """Read what is recorded: by key what the file was proven by, its size and its time."""
    with closing(sqlite3.connect(store / PRIVATE / "proofs.sqlite")) as database:
        rows = database.execute("SELECT key, proven_by, size, mtime FROM proofs").fetchall()
    return {key: tuple(rest) for key, *rest in rows}


def quarantined(store: Path) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Read the quarantine: by key the bytes, and what the file beside them says."""
    found = {}
    for path in (store / "quarantine").rglob("*.bad"):
        said = json.loads(path.with_name(f"{path.name}.json").read_text("utf-8"))
        found[said["key"]] = path.read_bytes(), said
    return found


def reasons_of(result: CollectionResult) -> dict[str, str]:
    """Give the word for each failure, by key."""
    assert len({failure.key for failure in result.failures}) == len(result.failures)
    return {failure.key: failure.reason for failure in result.failures}


def assert_holds(store: Path, zips: Mapping[str, bytes], by: str = "sha256") -> None:
    """Below ``data/`` lie exactly these zips, byte for byte, and each has its proof."""
    held = files_of(store)
    assert sorted(held) == sorted(zips)
    assert [key for key in zips if held[key] != zips[key]] == []
    proofs = proofs_of(store)
    stats = {key: (store / key).stat() for key in zips}
    recorded = {key: (by, stat.st_size, stat.st_mtime_ns) for key, stat in stats.items()}
    assert {key: proofs.get(key) for key in zips} == recorded


def assert_whole(store: Path, zips: Mapping[str, bytes]) -> int:
    """What lies below ``data/`` are zips of the bucket, none of them partial; count them."""
    held = files_of(store)
    assert [key for key, body in held.items() if zips.get(key) != body] == []
    return len(held)


def assert_nothing_staged(store: Path) -> None:
    """No download is left on its way: no folder, no temporary file."""
    staging = store / PRIVATE / "staging"
    left = {path.name for path in staging.rglob("*")} if staging.exists() else set()
    assert left <= {"lock"}


def downloaders(endpoint: str) -> list[str]:
    """Find the running s5cmd processes that talk to an endpoint, by their command lines."""
    if Path("/proc/self/cmdline").exists():
        lines = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:  # ended meanwhile
                continue
    else:
        told = subprocess.run(["ps", "-Ao", "command="], capture_output=True, text=True, check=True)
        lines = told.stdout.splitlines()
    return [line for line in lines if "s5cmd" in line and endpoint in line]


def assert_no_downloader(endpoint: str, within: float = 0) -> None:
    """No s5cmd talks to an endpoint any more, or stops doing so within some seconds."""
    until = time.monotonic() + within
    while (running := downloaders(endpoint)) and time.monotonic() < until:
        time.sleep(0.02)
    assert running == []
