"""Prove the files of a store again, from their bytes.

Everything else in the package takes an unchanged stamp (size, times, inode) as proof that a
file is the proven one. A medium that returns other bytes than were written leaves the stamp
unchanged: reading a whole file then checks its size and CRC-32, and `verify` its digest.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from binance_archive_kit.archive.digests import Answer
from binance_archive_kit.archive.schemas import load_schemas
from binance_archive_kit.display.background import Worker
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.display.summary import State, Summary, Table, first_lines
from binance_archive_kit.errors import (
    ArchiveKitError,
    disk_error,
    field_error,
)
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.bucket_checks import check_bucket
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.file_checks import (
    Check,
    Outcome,
    check_file,
    fetch_digests,
    published_key,
)
from binance_archive_kit.storage.places import open_store
from binance_archive_kit.storage.proof import stamp_of
from binance_archive_kit.storage.records import COMMIT_DELAY
from binance_archive_kit.storage.skipped import SkippedFile, find_skipped
from binance_archive_kit.storage.store import Store, rehash_moved

#: Files that are queued for reading.
_QUEUED = 4_096
#: Problems that are shown before the rest is only counted.
_SHOWN = 20
PROBLEMS: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(
    ("key", "file", "reason", "detail"), pl.String
)
_STATES: dict[str, State] = {
    "empty": "idle",
    "sound": "good",
    "unverified": "warn",
    "not proven again": "warn",
    "not sound": "bad",
}


@dataclass(frozen=True)
class Verification:
    """The result of `verify`: each file is proven, unverified or in `frame`.

    Attributes
    ----------
    root : Path or str
        The folder of the store, or its URL.
    files : int
        Number of files in the store: zips, and csv files.
    read : int
        Number of files whose bytes were read.
    proven : int
        Number of proven files: by their bytes if they were read, else by an unchanged stamp.
    unproven : int
        Number of *unverified* files: no problem was found, and no digest proves them. `collect` and
        ``verify(archive=True)`` prove zips; the archive publishes no digest of csv files.
    frame : polars.DataFrame
        The problems, a row for each file: ``key``, ``file`` (its path inside the store),
        ``reason`` (``gone``, ``changed``, ``checksum_differs``, ``unreadable``, or a reason
        that `collect` uses) and ``detail``.
    untold : int
        Number of files in `frame` whose digest the archive did not return; their bytes may be
        right.
    forgotten : bool
        Whether the proofs of files with wrong bytes were deleted; False if the store cannot be
        written to.
    by_checksum : int
        Number of proven files without a recorded proof whose bytes agree with the
        ``.CHECKSUM`` file beside them.
    csv : int
        Number of unverified files that are not zips.
    notes : tuple of str
        ``.CHECKSUM`` files that are unusable, or differ from the recorded proof.
    skipped : tuple of SkippedFile
        Files that are not read because of their name or folder; not counted in `files`.
    """

    root: Path | str
    files: int
    read: int
    proven: int
    unproven: int
    frame: pl.DataFrame
    untold: int = 0
    forgotten: bool = True
    by_checksum: int = 0
    csv: int = 0
    notes: tuple[str, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether there are files, and every one is proven."""
        return self.state == "sound"

    @property
    def state(self) -> str:
        """One of ``sound``, ``unverified``, ``not sound``, ``not proven again`` and ``empty``."""
        if self.frame.height:
            return "not proven again" if self.untold == self.frame.height else "not sound"
        if not self.files:
            return "empty"
        return "unverified" if self.unproven else "sound"

    def headline(self) -> str:
        """Return the counts in one line."""
        if self.state == "empty":
            return "it has no files of the archive"
        reasons = Counter(self.frame["reason"])
        words = [f"{self.read:,} of {self.files:,} files read", f"{self.proven:,} proven"]
        words += [f"{self.unproven:,} unverified"] if self.unproven else []
        words += [f"{count:,} {reason}" for reason, count in reasons.most_common()]
        return "; ".join(words)

    def _summary(self) -> Summary:
        rows = list(self.frame.select("reason", "file", "detail").head(_SHOWN).iter_rows())
        more = self.frame.height - len(rows)
        table = Table(
            ("reason", "file", "detail"), rows, below=f"… and {more:,} more" if more else ""
        )
        skipped = [f"not read: {file.path}: {file.reason}; {file.advice}" for file in self.skipped]
        notes = [*self._remarks(), *first_lines(self.notes), *first_lines(skipped)]
        return Summary(
            f"Store {self.state}", self.headline(), _STATES[self.state], [table], notes=notes
        )

    def _remarks(self) -> Iterator[str]:
        """Yield explanations of the counts, and what to do."""
        if self.untold:
            yield (
                f"the archive returned no digest of {self.untold:,} files; their proofs are kept"
            )
        gone = self.frame["reason"].eq("gone").sum()
        if self.frame.height > self.untold + gone:
            proofs = "are deleted" if self.forgotten else "stay: the store cannot be written to"
            yield f"collect the wrong files again: their proofs {proofs}"
        if gone:
            yield "collect the missing files again, or leave them out of the configuration"
        if self.by_checksum:
            yield (
                f"{self.by_checksum:,} of the proven agree with the .CHECKSUM beside them, and "
                "have no recorded proof"
            )
        if self.csv:
            yield (
                f"{self.csv:,} of the unverified are csv files: the archive publishes no digest "
                "of these"
            )
        if zips := self.unproven - self.csv:
            yield (
                f"{zips:,} of the unverified are zips without a recorded proof that were not "
                "read, or have no usable .CHECKSUM beside them; collect() or "
                "verify(archive=True) proves them"
            )

    def __str__(self) -> str:
        """Return the problems and remarks as text."""
        return self._summary().to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the same for a notebook, with the folder."""
        return replace(self._summary(), verdict=f"{self.root}: {self.headline()}").to_html()


def verify(
    folder: str | Path,
    *,
    sample: int | None = None,
    archive: bool = False,
    endpoint_url: str | None = None,
    seed: int | None = None,
) -> Verification:
    """Prove the files of a store again, from their bytes.

    Moves and downloads nothing. The proofs of files with wrong bytes are deleted, so that the next
    `collect` quarantines these files and fetches them again. If a file was copied or restored, or
    its proof is from an older version, its new stamp is recorded. Shows its progress.

    A file without a recorded proof is compared with the ``.CHECKSUM`` file beside it, which other
    tools download. If they agree, the file counts as proven. This is not recorded: the
    ``.CHECKSUM`` file may be stale or come from anywhere. `collect` still compares with the
    archive. If a proof is recorded, a ``.CHECKSUM`` file that differs only causes a note.

    A disk error may leave the times of a file unchanged. Only this function hashes such files
    again; a query that reads a whole file, not its cached rows, checks size and CRC-32. Run it now
    and then, with `sample` on large stores.

    Parameters
    ----------
    folder : str or Path
        The root of a store: the folder above ``data/``, or a URL such as
        ``s3://bucket/research``.
    sample : int, optional
        Number of files to read, chosen at random; 0 reads none, None (the default) all, and
        none in object storage.
        Other files are not read unless their stamp (size, times, inode) differs from the proof.
    archive : bool, default False
        Compare with the digests that the archive publishes now, instead of the recorded ones.
        Uses the network.
    endpoint_url : str, optional
        URL of an S3-compatible endpoint, used if `archive` is true; by default the environment
        variable ``S3_ENDPOINT_URL``, or Binance's own.
    seed : int, optional
        Makes the sample reproducible.

    Returns
    -------
    Verification
        Displays itself in a notebook. ``frame`` lists the problems, ``state`` and ``sound``
        summarise them.

    Raises
    ------
    ConfigurationError
        If the folder is not a store, `sample` is not a number of files, or `endpoint_url` is
        invalid.
    StoreError
        If the records of the store are locked, or a folder cannot be read.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bak.verify("data/research", sample=100)  # doctest: +SKIP
    """
    if sample is not None and (type(sample) is not int or sample < 0):
        raise field_error("sample", f"{sample!r} is not a number of files")
    store = open_store(folder)
    try:
        if isinstance(store, BucketStore):
            outcomes, gone = check_bucket(
                store, sample=sample, archive=archive, endpoint_url=endpoint_url, seed=seed
            )
        elif isinstance(store, Store):
            outcomes, gone = _check_folder(store, sample, archive, endpoint_url, seed)
        forgotten = _update_records(store, outcomes)
    except OSError as error:
        raise disk_error(error, store.root) from None
    problems = [
        (outcome.check.file.key, outcome.check.file.path, *outcome.problem)
        for outcome in outcomes
        if outcome.problem is not None
    ]
    problems += [(key, key, "gone", "it was proven, and is missing now") for key in gone]
    sound = [outcome for outcome in outcomes if outcome.problem is None]
    return Verification(
        store.root,
        files=len(outcomes),
        read=sum(outcome.read for outcome in outcomes),
        proven=sum(outcome.proven for outcome in sound),
        unproven=sum(not outcome.proven for outcome in sound),
        frame=pl.DataFrame(problems, schema=PROBLEMS, orient="row"),
        untold=sum(outcome.untold for outcome in outcomes),
        forgotten=forgotten,
        by_checksum=sum(outcome.by_checksum for outcome in sound),
        csv=sum(not outcome.check.file.is_zip for outcome in sound),
        notes=tuple(outcome.note for outcome in outcomes if outcome.note),
        skipped=tuple(find_skipped(store.inventory)) if isinstance(store, Store) else (),
    )


def _check_folder(
    store: Store,
    sample: int | None,
    archive: bool,
    endpoint_url: str | None,
    seed: int | None,
) -> tuple[list[Outcome], list[str]]:
    """Check the files of a folder; return also the keys of proofs without a file."""
    checks, gone = _list_checks(store)
    chosen = checks
    if sample is not None and sample < len(checks):
        chosen = random.Random(seed).sample(checks, sample)
    outcomes = _read_files(store, chosen, archive=archive, endpoint_url=endpoint_url)
    read = {check.file.path for check in chosen}
    outcomes += _compare_stamps(store, [c for c in checks if c.file.path not in read])
    if any(outcome.problem for outcome in outcomes):
        outcomes = list(_without_replaced(store, outcomes))
    return outcomes, gone


def _list_checks(store: Store) -> tuple[list[Check], list[str]]:
    """Return the files of a store with their proofs, and the keys of proofs without a file."""
    checks: list[Check] = []
    proofs = store.records.proofs("data/")
    for feed in load_schemas():
        for folder in store.inventory.folders(*feed):
            # The proof of a zip does not cover a csv file in its place.
            checks += [
                Check(file, proofs.pop(file.key, None) if file.is_zip else None)
                for file in folder.files
            ]
    return checks, list(proofs)


def _update_records(store: BaseStore, outcomes: Iterable[Outcome]) -> bool:
    """Record new stamps, and delete the proofs of wrong bytes; return whether that succeeded."""
    store.records.restamp(
        {
            outcome.check.file.key: outcome.check.proof._replace(stamp=outcome.stamp)
            for outcome in outcomes
            if outcome.stamp is not None and outcome.check.proof is not None
        }
    )
    wrong = [o.check.file.key for o in outcomes if o.problem is not None and not o.untold]
    try:
        store.records.forget(wrong)
    except (ArchiveKitError, OSError):
        return False
    return True


def _without_replaced(store: Store, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Clear the problems of files that a collection has replaced, and recorded, meanwhile."""
    time.sleep(COMMIT_DELAY)
    recorded = store.records.proofs("data/")
    for outcome in outcomes:
        file = outcome.check.file
        if outcome.problem is not None and file.is_zip:
            with suppress(OSError):
                stamp = stamp_of((store.root / file.path).stat())
                proof = recorded.get(file.key)
                if proof is not None and proof != outcome.check.proof and proof.is_of(stamp):
                    yield Outcome(outcome.check, proven=True, read=outcome.read)
                    continue
        yield outcome


def _compare_stamps(store: Store, checks: Sequence[Check]) -> Iterator[Outcome]:
    """Compare files with their proofs by stamp; hash only those that were moved."""
    proofs = {check.file.key: check.proof for check in checks}
    same = rehash_moved(store.records, (check.file for check in checks), proofs)
    for check in checks:
        if check.proof is None:
            yield Outcome(check)
        elif check.proof.is_of(check.file.stamp) or check.file.key in same:
            yield Outcome(check, proven=True)
        else:
            yield Outcome(check, ("changed", "its bytes are not the ones that were proven"))


def _read_files(
    store: Store, chosen: Sequence[Check], *, archive: bool, endpoint_url: str | None
) -> list[Outcome]:
    """Check files from their bytes, on several threads; show the progress."""
    digests: dict[str, Answer] | None = None

    def work(check: Check) -> Outcome:
        try:
            return check_file(store.root / check.file.path, check, digests)
        except OSError as error:
            return Outcome(check, ("unreadable", str(disk_error(error, check.file.path))))

    outcomes: list[Outcome] = []
    progress = Progress()
    with Bar(progress) as bar, ThreadPoolExecutor(os.cpu_count() or 1, "verifier") as pool:
        if archive:
            zips = [published_key(check.file) for check in chosen if check.file.is_zip]
            progress.begin("asking for checksums", len(zips))
            digests = Worker(lambda: fetch_digests(zips, endpoint_url)).wait(bar.update)
        progress.begin("proving again", len(chosen), sum(check.file.size for check in chosen))
        try:
            for start in range(0, len(chosen), _QUEUED):
                for outcome in pool.map(work, chosen[start : start + _QUEUED]):
                    outcomes.append(replace(outcome, read=True))
                    progress.count(1, outcome.check.file.size)
                    bar.tick()
        finally:
            pool.shutdown(cancel_futures=True)
    return outcomes
