"""Change every 97th byte of every record, cut and lose records: answers are right or an error."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.record_damage import STEP, Damage, RecordedStore, archive, cuts, flips
from tests.support.s3_bucket import BUCKET, object_storage, s3_environment
from tests.support.s3_server import LocalS3

SECONDS = 7200.0


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    """Damage the records of a local store, then those of one in a bucket."""
    until = time.monotonic() + seconds
    for kind in ("local", "bucket"):
        shutil.rmtree(folder / kind, ignore_errors=True)
        cache = folder / kind / "cache"
        os.environ["XDG_CACHE_HOME"] = str(cache)
        server = LocalS3(archive()).start()
        try:
            if kind == "local":
                yield from _damage(RecordedStore(server, folder / kind), cache, seed, until)
            else:
                with object_storage() as endpoint:
                    os.environ |= s3_environment(endpoint)
                    url = f"s3://{BUCKET}/records"
                    yield from _damage(
                        RecordedStore(server, folder / kind, url), cache, seed, until
                    )
        finally:
            server.stop()


def _damage(store: RecordedStore, cache: Path, seed: int, until: float) -> Iterator[str]:
    store.fill()
    assert store.answers() == store.truth()
    damage = Damage(store, cache)
    count, records = 0, damage.records()
    for record, body in records.items():
        for way, spoilt in (*flips(body, seed % STEP), *cuts(body)):
            assert time.monotonic() < until, f"out of time after {count:,} damages of {store.root}"
            problem = damage.problem(record, spoilt)
            assert not problem, f"{record}, {way}: {problem}"
            count += 1
        yield f"{record}: {len(body):,} bytes"
    yield f"{count:,} damages of {len(records)} records: each answer right, or an error; all healed"
