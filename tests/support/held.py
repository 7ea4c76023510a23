"""What a store in object storage must hold after a collection, whatever happened in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from binance_archive_kit.storage.bucket import Bucket, stamp_of_object
from binance_archive_kit.storage.bucket_store import BucketStore
from tests.support.checks import assert_nothing_staged


def md5s_of(bucket: Bucket, prefix: str = "data/") -> dict[str, str | None]:
    """List the objects below a prefix, with the MD5 of their bytes."""
    return {found.key: found.etag for found in bucket.list_etags(prefix)}


def assert_bucket_whole(bucket: Bucket, *versions: Mapping[str, bytes]) -> set[str]:
    """Below ``data/`` lie only whole zips, each of one of these versions; return their keys."""
    held = md5s_of(bucket)
    allowed = {
        (key, hashlib.md5(body, usedforsecurity=False).hexdigest())
        for zips in versions
        for key, body in zips.items()
    }
    assert held.items() <= allowed
    return set(held)


def assert_bucket_holds(bucket: Bucket, zips: Mapping[str, bytes], by: str = "sha256") -> None:
    """Below ``data/`` lie exactly these zips, and a new machine finds the proof of each."""
    assert assert_bucket_whole(bucket, zips) == zips.keys()
    with new_machine():
        store = BucketStore(bucket)
        rows = store.records.proof_rows(["data/"], "sha256", "proven_by")
    stamps = {each.key: tuple(stamp_of_object(each)) for each in bucket.list_etags("data/")}
    assert {key: tuple(row) for key, *row in rows} == {
        key: (*stamps[key], hashlib.sha256(body).hexdigest(), by) for key, body in zips.items()
    }


@contextmanager
def new_machine() -> Iterator[None]:
    """Look at buckets as a machine does that has never seen them."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setenv("XDG_CACHE_HOME", folder)
        yield


def bucket_quarantine(bucket: Bucket) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Read the quarantine: by key the bytes, and what the object beside them says."""
    found = {}
    for each in bucket.list("quarantine/"):
        if each.key.endswith(".bad"):
            said = json.loads(bucket.read(f"{each.key}.json"))
            found[said["key"]] = bucket.read(each.key), said
    return found


def assert_nothing_spooled(cache: Path) -> None:
    """No file is left on its way on the local disk."""
    for staging in cache.rglob("staging"):
        left = {path.name for path in staging.rglob("*")}
        assert left <= {"lock"}
        assert_nothing_staged(staging.parent)
