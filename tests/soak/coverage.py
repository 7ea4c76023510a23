"""Collect random archives with every kind of gap, and compare the reports with a count of rows."""

from __future__ import annotations

import random
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from binance_archive_kit.errors import ArchiveKitWarning
from tests.support.random_archives import check, draw

SECONDS = 600.0


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    warnings.simplefilter("ignore", ArchiveKitWarning)
    until = time.monotonic() + seconds
    archives = streams = rows = 0
    while time.monotonic() < until:
        archive = draw(random.Random(f"{seed} {archives}"))
        check(archive, folder / "store")
        shutil.rmtree(folder / "store")
        archives += 1
        streams += len(archive.counted)
        rows += sum(count.due for count in archive.counted.values())
    yield f"{archives:,} archives of {streams:,} streams with {rows:,} rows due"
