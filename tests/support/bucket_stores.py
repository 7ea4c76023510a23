"""Stores in a bucket with the files of a local store, and their tables."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from binance_archive_kit.storage.bucket import Bucket, stamp_of_object
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.proof import Expected, Proof, ProvenBy, prove
from binance_archive_kit.storage.store import Store
from tests.support.s3_gate import Gate


def prove_all(root: Path) -> None:
    """Prove the files of a local store, as a collection does."""
    with Store(root).records.recorder() as record:
        for path in root.glob("data/**/*.zip"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            key = path.relative_to(root).as_posix()
            record([prove(key, path, Expected(None, None, digest))])


def upload(root: Path, bucket: Bucket, keys: Iterable[str] | None = None) -> list[str]:
    """Upload files of a local store with their proofs, as a collection does; return their keys."""
    if keys is None:
        keys = (path.relative_to(root).as_posix() for path in root.glob("data/**/*.zip"))
    files = {key: root / key for key in sorted(map(str, keys))}
    assert bucket.upload(files) == {}
    listed = bucket.stat([*files])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with BucketStore(bucket).records.recorder() as record:
        proofs = []
        for key, path in files.items():
            body = path.read_bytes()
            sha256, md5 = hashlib.sha256(body).hexdigest(), hashlib.md5(body).hexdigest()
            stamp = stamp_of_object(listed[key])
            proofs.append(Proof(key, stamp, sha256, md5, ProvenBy.SHA256, now))
        record(proofs)
    return [*files]


def ask_elsewhere(endpoint: str, url: str, statement: str, cache: Path) -> tuple[str, int]:
    """Ask a store by SQL on a new machine; return the rows as text, and the number of requests."""
    code = (
        "import sys, binance_archive_kit as bak\n"
        "print(bak.sql(bak.connect(sys.argv[1]), sys.argv[2]).rows())\n"
    )
    with Gate(endpoint) as gate:
        found = subprocess.run(
            [sys.executable, "-c", code, url, statement],
            env={**os.environ, "AWS_ENDPOINT_URL_S3": gate.url, "XDG_CACHE_HOME": str(cache)},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    return found.strip(), len(gate.requests)
