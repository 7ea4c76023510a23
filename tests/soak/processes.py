"""Let three processes collect, build, query, verify and clean up one store at the same time."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import binance_archive_kit as bak
from tests.support.bucket import zips_of
from tests.support.checks import assert_holds, assert_nothing_staged
from tests.support.children import Children
from tests.support.kills import archive, config_of
from tests.support.s3_server import LocalS3

SECONDS = 600.0
_CHILD = """
import random, sys, warnings
import binance_archive_kit as bak
from tests.support.kills import config_of
from tests.support.store_events import many_merges
root, url, seed = sys.argv[1:]
dice = random.Random(int(seed))
warnings.simplefilter("ignore", bak.ArchiveKitWarning)
def query():
    rows = bak.scan(root, "spot", "klines").select("file", "open_time").collect()
    assert set(rows.group_by("file").len()["len"]) <= {24}, rows
works = [
    lambda: bak.collect(config_of(root, url)),
    lambda: bak.collect(config_of(root, url).replace(force_redownload=True)),
    lambda: bak.store(root).build(),
    query, query,
    lambda: bak.coverage(root),
    lambda: bak.store(root).cache.clear(),
    lambda: bak.prune(root, data_type="klines", end="2025-07-03", dry_run=False),
]
def verified():
    bad = bak.verify(root).frame
    # Others delete files meanwhile; the bytes of those that are there are right.
    assert set(bad["reason"]) <= {"gone"}, bad
works.append(verified)
with many_merges():
    for _ in range(12):
        work = dice.choice(works)
        try:
            work()
        except bak.ArchiveKitError as error:
            print("error", type(error).__name__, str(error)[:200], file=sys.stderr)
"""


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    """Start three processes again and again; then one run must complete the store."""
    until, dice, errors, rounds = time.monotonic() + seconds, random.Random(seed), Counter[str](), 0
    shutil.rmtree(folder, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    server = LocalS3(archive()).start()
    zips = zips_of(archive())
    try:
        while time.monotonic() < until:
            root = folder / f"store{rounds % 5}"
            children = Children(_CHILD)
            try:
                seeds = [str(dice.randrange(2**31)) for _ in range(3)]
                running = [children.start(str(root), server.url, each) for each in seeds]
                for child in running:
                    said = child.communicate(timeout=300)[1].decode()
                    assert not child.returncode, said
                    lines = [line.split() for line in said.splitlines()]
                    errors.update(line[1] for line in lines if line[:1] == ["error"])
            finally:
                children.end()
            assert bak.collect(config_of(root, server.url)).outcome == "complete"
            assert bak.verify(root).sound
            assert_holds(root, zips)
            assert_nothing_staged(root)
            assert bak.scan(root, "spot", "klines").collect().height == 24 * len(zips)
            rounds += 1
            yield f"{rounds} rounds of three processes, errors: {dict(errors)}"
    finally:
        server.stop()
