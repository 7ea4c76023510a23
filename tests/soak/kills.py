"""Kill processes that collect or build tables at 200 random moments, in both kinds of stores."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.support.kills import Killed, archive
from tests.support.s3_bucket import BUCKET, object_storage, s3_environment
from tests.support.s3_server import LocalS3

SECONDS = 3600.0
#: Kills of each work in each kind of store: 200 in all.
KILLS = 50


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    """Check what is there after each kill, and that the next run completes it."""
    until, dice, counts = time.monotonic() + seconds, random.Random(seed), Counter[str]()
    shutil.rmtree(folder, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    server = LocalS3(archive()).start()
    try:
        with object_storage() as endpoint:
            os.environ |= s3_environment(endpoint)
            for root in (folder / "store", f"s3://{BUCKET}/kills"):
                killed = Killed(server, root, folder / "cache", dice)
                for number in range(KILLS):
                    for work in ("collect", "build"):
                        assert time.monotonic() < until, f"out of time: {dict(counts)}"
                        counts[killed.kill(work)] += 1
                    if number % 10 == 9:
                        yield f"{root}: {dict(counts)}"
    finally:
        server.stop()
    yield ", ".join(f"{count} kills {what}" for what, count in sorted(counts.items()))
