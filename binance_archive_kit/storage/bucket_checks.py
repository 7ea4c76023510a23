"""Check the objects of a store in object storage against its records."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path

from binance_archive_kit.archive.digests import Answer
from binance_archive_kit.display.background import Worker
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import ObjectError, StoreError
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.file_checks import (
    Check,
    Outcome,
    check_file,
    fetch_digests,
    published_key,
)
from binance_archive_kit.storage.records import COMMIT_DELAY

#: Bytes and objects that are downloaded at once.
_GROUP_BYTES, _GROUP = 256 << 20, 1_024


def check_bucket(
    store: BucketStore,
    *,
    sample: int | None,
    archive: bool,
    endpoint_url: str | None,
    seed: int | None,
) -> tuple[list[Outcome], list[str]]:
    """Compare the objects of a store with their records; see `verify`.

    Returns
    -------
    list of Outcome
        For each object that is there.
    list of str
        Keys of proofs without an object.

    Raises
    ------
    StoreError
        If the bucket cannot be listed or read.
    """
    store.records.expire()
    proofs = store.records.proofs("data/")
    files, present = store.inventory.present()
    gone = sorted(proofs.keys() - present)
    checks = [Check(file, proofs.get(file.key)) for file in files]
    if any(check.proof is None or not check.proof.is_of(check.file.stamp) for check in checks):
        # A collection may have put them there since the records were read.
        time.sleep(COMMIT_DELAY)
        store.records.expire()
        proofs = store.records.proofs("data/")
        checks = [Check(file, proofs.get(file.key)) for file in files]
    chosen = min(sample or 0, len(checks))
    read = {check.file.key for check in random.Random(seed).sample(checks, chosen)}
    read |= {check.file.key for check in checks if _is_overwritten(check)}
    progress = Progress()
    with Bar(progress) as bar:
        digests: dict[str, Answer] | None = None
        if archive:
            asked = [c for c in checks if sample is None or c.file.key in read]
            keys = [published_key(check.file) for check in asked]
            progress.begin("asking for checksums", len(keys))
            digests = Worker(lambda: fetch_digests(keys, endpoint_url)).wait(bar.update)
        downloads = [check for check in checks if check.file.key in read]
        progress.begin("proving again", len(downloads), sum(check.file.size for check in downloads))
        outcomes = []
        for outcome in _download(store, downloads, digests):
            outcomes.append(outcome)
            progress.count(1, outcome.check.file.size)
            bar.tick()
    rest = (check for check in checks if check.file.key not in read)
    return outcomes + [_compare(check, digests) for check in rest], gone


def _is_overwritten(check: Check) -> bool:
    """Return whether only the bytes can tell if an object is still the proven one."""
    proof = check.proof
    return (
        proof is not None
        and not proof.is_of(check.file.stamp)
        and proof.stamp.size == check.file.size
    )


def _compare(check: Check, digests: Mapping[str, Answer] | None) -> Outcome:
    """Compare an object with its record, without its bytes."""
    proof = check.proof
    if proof is None:
        return Outcome(check)
    if not proof.is_of(check.file.stamp):
        return Outcome(check, ("changed", "its bytes are not the ones that were proven"))
    digest = proof.sha256 if digests is None else digests.get(published_key(check.file))
    if isinstance(digest, ObjectError):
        return Outcome(check, (digest.reason, digest.detail), untold=True)
    if digest not in (None, proof.sha256):
        why = f"SHA-256 is {proof.sha256}, and the archive publishes {digest}"
        return Outcome(check, ("corrupt", why))
    return Outcome(check, proven=True)


def _download(
    store: BucketStore, checks: Sequence[Check], digests: Mapping[str, Answer] | None
) -> Iterator[Outcome]:
    """Download objects in groups, and check their bytes."""
    with (
        store.staging() as folder,
        ThreadPoolExecutor(os.cpu_count() or 1, "verifier") as pool,
    ):
        for group in _groups(checks):
            paths = {
                check.file.path: folder / str(at) / check.file.path.rpartition("/")[2]
                for at, check in enumerate(group)
            }
            for path in paths.values():
                path.parent.mkdir(exist_ok=True)
            errors = store.bucket.download(paths)
            if errors:
                raise StoreError(next(iter(errors.values())))
            yield from pool.map(_check_copy, paths.values(), group, repeat(digests))
            for path in paths.values():
                path.unlink()


def _check_copy(path: Path, check: Check, digests: Mapping[str, Answer] | None) -> Outcome:
    """Check the local copy of an object."""
    outcome = check_file(path, check, digests)
    moved = outcome.proven and _is_overwritten(check)
    return replace(outcome, stamp=check.file.stamp if moved else None, read=True)


def _groups(checks: Sequence[Check]) -> Iterator[list[Check]]:
    group: list[Check] = []
    size = 0
    for check in checks:
        if group and (len(group) == _GROUP or size + check.file.size > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(check)
        size += check.file.size
    if group:
        yield group
