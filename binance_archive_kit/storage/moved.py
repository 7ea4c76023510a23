"""Prove files again that were copied, linked, restored or renamed: same bytes, new stamp."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.proof import hash_file
from binance_archive_kit.storage.records import ProofRecord, Records
from binance_archive_kit.storage.stamps import stamp_of

#: What `rehash` does, for its progress.
HASHING = "hashing files that were moved since they were proven"
#: Files that a thread hashes before it checks for an interrupt.
_FILES_PER_JOB = 32


class MovedFile(NamedTuple):
    """A file with the proven size and another stamp."""

    key: str
    location: str
    proof: ProofRecord


def rehash(
    records: Records, files: Sequence[MovedFile], done: Callable[[int, int], None]
) -> dict[str, ProofRecord]:
    """Hash moved files on several threads, and record the stamps of those with the proven bytes.

    A stamp that cannot be recorded is kept in memory. After an interrupt, the next call
    continues with the other files.

    Parameters
    ----------
    files : sequence of MovedFile
    done : callable
        Called with numbers of files and bytes as they are hashed, from any thread; an
        exception that it raises ends the work.

    Returns
    -------
    dict of str to ProofRecord
        The new records of the files with the proven bytes, by key.
    """

    def hash_some(start: int) -> dict[str, ProofRecord]:
        unchanged = {}
        for key, location, proof in files[start : start + _FILES_PER_JOB]:
            with suppress(OSError), (records.root / location).open("rb") as file:
                stamp = stamp_of(os.fstat(file.fileno()))
                if stamp.size == proof.stamp.size and hash_file(file) == proof.sha256:
                    unchanged[key] = proof._replace(stamp=stamp)
            done(1, proof.stamp.size)
        return unchanged

    same: dict[str, ProofRecord] = {}
    pool = ThreadPoolExecutor(os.cpu_count() or 1, "hasher")
    try:
        for unchanged in pool.map(hash_some, range(0, len(files), _FILES_PER_JOB)):
            same |= unchanged
    finally:
        pool.shutdown(cancel_futures=True)
        records.restamp(same)
    return same


def rehash_moved(
    records: Records, files: Iterable[StoredFile], proofs: Mapping[str, ProofRecord | None]
) -> dict[str, ProofRecord]:
    """Hash the moved ones among some files, and show the progress.

    Returns
    -------
    dict of str to ProofRecord
        The new records of the files with the proven bytes, by key.
    """
    moved = [
        MovedFile(file.key, file.path, proof)
        for file in files
        if (proof := proofs.get(file.key)) is not None
        and proof.stamp.size == file.size
        and not proof.is_of(file.stamp)
    ]
    if not moved:
        return {}
    progress = Progress()
    progress.begin(HASHING, len(moved), sum(file.proof.stamp.size for file in moved))
    with Bar(progress) as bar:

        def done(units: int, size: int) -> None:
            progress.count(units, size)
            bar.tick()

        return rehash(records, moved, done)
