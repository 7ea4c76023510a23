"""Feed the parsers spoilt keys, listings, checksums, configurations, flags, matrices, zips and csv.

What they read must be what the standard library reads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.parsers import PARSERS, feed

SECONDS = 600.0


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    total = 0
    for name in PARSERS:
        until = time.monotonic() + seconds / len(PARSERS)
        number = 0
        while time.monotonic() < until:
            feed(name, seed, number)
            number += 1
        total += number
        yield f"{name}: {number:,} inputs"
    yield f"{total:,} inputs to {len(PARSERS)} parsers"
