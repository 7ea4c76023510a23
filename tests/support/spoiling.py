"""Spoil files of a store, in ways that disks, other programs and users do."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from binance_archive_kit.storage.layout import PRIVATE

_KLINES = "data/spot/daily/klines/BTCUSDT/1h"
_TABLES = f"{PRIVATE}/cache/tables"
#: One of each kind of file and folder in a store, as patterns.
TARGETS = {
    "zip": f"{_KLINES}/*07-02.zip",
    "futures": "data/futures/um/daily/klines/BTCUSDT/1h/*07-02.zip",
    "trades": "data/spot/daily/aggTrades/BTCUSDT/*07-02.zip",
    "funding": "data/futures/um/monthly/fundingRate/BTCUSDT/*.zip",
    "metrics": "data/futures/um/daily/metrics/BTCUSDT/*07-02.zip",
    "proofs": f"{PRIVATE}/proofs.sqlite",
    "facts": f"{PRIVATE}/cache/facts.*.sqlite",
    "manifest": f"{_TABLES}/spot_klines/manifest.json",
    "rows": f"{_TABLES}/*/*.rows.parquet",
    "entries": f"{_TABLES}/*/*.entries.parquet",
    "build lock": f"{_TABLES}/spot_klines/build.lock",
    "commit lock": f"{_TABLES}/spot_klines/commit.lock",
    "staging lock": f"{PRIVATE}/staging/lock",
    "stream": _KLINES,
    "symbol": "data/spot/daily/klines/BTCUSDT",
    "data": "data",
    "private": PRIVATE,
    "cache": f"{PRIVATE}/cache",
    "tables": _TABLES,
    "feed": f"{_TABLES}/spot_klines",
    "staging": f"{PRIVATE}/staging",
}


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    if body:
        body[len(body) // 2] ^= 4
    path.write_bytes(body)


def _scramble(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(max(200, path.stat().st_size)))


def _make_folder(path: Path) -> None:
    path.mkdir()
    (path / "x").write_text("x")


#: What happens to the bytes of a file.
TO_BYTES: dict[str, Callable[[Path], object]] = {
    "halved": _halve,
    "emptied": lambda path: os.truncate(path, 0),
    "scrambled": _scramble,
    "flipped": _flip,
}
#: What takes the place of a file or folder, which is moved away.
TO_NAMES: dict[str, Callable[[Path], object]] = {
    "replaced by a folder": _make_folder,
    "replaced by a file": lambda path: path.write_text("x"),
    "replaced by a loop": lambda path: path.symlink_to(path),
    "replaced by a broken link": lambda path: path.symlink_to(path.with_name("nowhere")),
    "gone": lambda path: None,
}
#: Permissions that are taken away.
TO_MODES: dict[str, Callable[[Path], object]] = {
    "not accessible": lambda path: path.chmod(0),
    "read-only": lambda path: path.chmod(0o555 if path.is_dir() else 0o444),
}


def spoil(root: Path, pattern: str, how: str) -> int:
    """Spoil what matches a pattern, unless it is spoiled already; return how much did match."""
    count = 0
    for path in sorted(root.glob(pattern)):
        if path.name.endswith(".was") or path.is_symlink():
            continue
        if how in TO_BYTES:
            if path.is_file():
                TO_BYTES[how](path)
                count += 1
        elif how in TO_MODES:
            TO_MODES[how](path)
            count += 1
        else:
            was = path.with_name(f"{path.name}.was")
            if was.is_dir():
                shutil.rmtree(was)
            path.replace(was)
            TO_NAMES[how](path)
            count += 1
    return count


def heal_modes(root: Path) -> None:
    """Give all permissions back."""
    root.chmod(0o755)
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
