"""Prove the files of a store again, from their bytes.

Everything else takes an unchanged stamp (size, times, inode) as proof that a file is the
one that was proven. A medium that returns other bytes than were written leaves the stamp
as it is: only `verify` finds that.
"""

from __future__ import annotations

import asyncio
import codecs
import gzip
import os
import random
import re
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from binance_archive_kit.archive.digests import Answer, DigestClient
from binance_archive_kit.archive.endpoint import endpoint_of
from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.archive.schemas import load_schemas
from binance_archive_kit.display import render
from binance_archive_kit.display.progress import INTERVAL, Bar, Progress
from binance_archive_kit.errors import (
    ArchiveKitError,
    BadChecksum,
    ConfigurationError,
    ObjectError,
    disk_error,
)
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.scan_planner import hash_moved
from binance_archive_kit.storage.inventory import Form, SkippedFile, StoredFile
from binance_archive_kit.storage.stamps import Stamp, stamp_of
from binance_archive_kit.storage.store import COMMIT_DELAY, Expected, ProofRecord, Store

_CONNECTIONS = 64
#: Files that may wait for being read, so that a million of them do not.
_WAITING = 512
_CHUNK = 1 << 20
#: Problems, and remarks of one kind, that are shown before the others are only counted.
_SHOWN, _SHOWN_NOTES = 20, 5
PROBLEMS: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(
    ("key", "file", "reason", "detail"), pl.String
)


@dataclass(frozen=True)
class Verification:
    """What proving again has shown: each file is proven, unverified or in `frame`.

    Attributes
    ----------
    root : Path
    files : int
        Files in the store that are read: zips, and csv files.
    read : int
        Files whose bytes were read.
    proven : int
        Files whose proof stands: of those that were read, by their bytes.
    unproven : int
        Files in which nothing is wrong, and of which nothing tells that they are the
        archive's: *unverified*. `collect` and ``verify(archive=True)`` prove zips; of csv
        files no digest is published.
    frame : polars.DataFrame
        What is wrong, a row for each file: ``key``, ``file`` (its path inside the store),
        ``reason`` (``gone``, ``changed``, ``checksum_differs``, ``unreadable``, or what
        collecting calls it) and ``detail``.
    untold : int
        Files of `frame` that the archive told no digest of; their bytes may be right.
    forgotten : bool
        Whether the proofs of files whose bytes are wrong are forgotten; they are not where
        the store cannot be written to.
    by_checksum : int
        Proven files of which no proof is recorded, and whose bytes the ``.CHECKSUM`` file
        beside them is of.
    csv : int
        Unverified files that are no zips.
    notes : tuple of str
        Files beside the data that say something else, and are not believed.
    skipped : tuple of SkippedFile
        Files that are not read because of their name or place; they are not in `files`.
    """

    root: Path
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
        """Sum it up in one line."""
        if self.state == "empty":
            return "no file of the archive is here"
        counted = Counter(self.frame["reason"])
        words = [f"{self.read:,} of {self.files:,} files read", f"{self.proven:,} proven"]
        words += [f"{self.unproven:,} unverified"] if self.unproven else []
        words += [f"{count:,} {reason}" for reason, count in counted.most_common()]
        return "; ".join(words)

    def _rows(self) -> list[tuple[str, str, str]]:
        return list(self.frame.select("reason", "file", "detail").head(_SHOWN).iter_rows())

    def _remarks(self) -> list[str]:
        """Return what is worth knowing beside the problems."""
        lines = []
        if self.by_checksum:
            lines.append(
                f"{self.by_checksum:,} of the proven agree with the .CHECKSUM beside them, and "
                "have no recorded proof"
            )
        if self.csv:
            lines.append(
                f"{self.csv:,} of the unverified are csv files: the archive publishes no digest "
                "of these"
            )
        if zips := self.unproven - self.csv:
            lines.append(
                f"{zips:,} of the unverified are zips without a recorded proof that were not "
                "read, or have no usable .CHECKSUM beside them; collect() or "
                "verify(archive=True) proves them"
            )
        lines += _some(self.notes)
        lines += _some(
            [f"not read: {each.path}: {each.reason}; {each.advice}" for each in self.skipped]
        )
        return lines

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [f"Store {self.state} · {self.headline()}"]
        lines += [f"  {reason}: {file}: {detail}" for reason, file, detail in self._rows()]
        more = self.frame.height - _SHOWN
        lines += [f"  … and {more:,} more"] if more > 0 else []
        if self.untold:
            lines.append(f"  proofs stay of the {self.untold:,} that the archive told nothing of")
        gone = self.frame["reason"].eq("gone").sum()
        if self.frame.height > self.untold + gone:
            proofs = "are forgotten" if self.forgotten else "stay: the store cannot be written to"
            lines.append(f"  collect again what is wrong: its proofs {proofs}")
        if gone:
            lines.append("  collect again what is gone, or leave it out of the configuration")
        lines += [f"  {line}" for line in self._remarks()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        states = {
            "empty": "idle",
            "sound": "good",
            "unverified": "warn",
            "not proven again": "warn",
        }
        state = states.get(self.state, "bad")
        table = render.table(("reason", "file", "detail"), self._rows())
        body = f"{table}{render.notes_html(self._remarks())}"
        return render.panel("Verification", f"{self.root}: {self.headline()}", state, body)


def _some(lines: Sequence[str]) -> list[str]:
    """Return the first few of some lines, and how many more there are."""
    more = len(lines) - _SHOWN_NOTES
    return [*lines[:_SHOWN_NOTES], *([f"… and {more:,} more like this"] if more > 0 else [])]


@dataclass(frozen=True, slots=True)
class _Check:
    """A file to look at, and the proof that is recorded of it, if any."""

    file: StoredFile
    proof: ProofRecord | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What was seen of a file.

    Attributes
    ----------
    check : _Check
    problem : (str, str) or None
        Reason and detail.
    proven : bool
    by_checksum : bool
        Whether only the ``.CHECKSUM`` file beside it proves it.
    note : str
    stamp : Stamp or None
        What the file's proof should have on record instead of what it has.
    """

    check: _Check
    problem: tuple[str, str] | None = None
    proven: bool = False
    by_checksum: bool = False
    note: str = ""
    stamp: Stamp | None = None


def verify(
    folder: str | Path,
    *,
    sample: int | None = None,
    archive: bool = False,
    endpoint_url: str | None = None,
    seed: int | None = None,
) -> Verification:
    """Prove the files of a store again, from their bytes.

    Nothing is moved or fetched. The proofs of files whose bytes are wrong are forgotten, so
    that the next `collect` sets them aside and fetches them again. Proofs of an older version
    of this package, and those of files that were copied or restored, get the stamps that the
    files have now. Shows its progress.

    A file without a recorded proof is compared with the ``.CHECKSUM`` file beside it, as other
    tools download it. Where they agree it counts as proven; that is not recorded, since
    such a file may be stale, or made by anyone: `collect` still asks the archive. Where a proof
    is recorded, a ``.CHECKSUM`` file that disagrees is only noted.

    Errors of the disk that change no time of the file are found by this function alone;
    run it now and then, with `sample` on large stores.

    Parameters
    ----------
    folder : str or Path
        A store, wherever its files lie.
    sample : int, optional
        Read so many files, chosen at random; of the others only the stamps are compared with
        their proofs, and files that were moved since are hashed. None reads all, 0 none.
    archive : bool
        Hold the bytes against the digests that the archive publishes now, instead of the
        recorded ones. Uses the network.
    endpoint_url : str, optional
        As in a configuration.
    seed : int, optional
        Makes the sample the same each time.

    Returns
    -------
    Verification
        Shows itself in a notebook; ``frame`` has what is wrong, ``state`` and ``sound``
        sum it up.

    Raises
    ------
    ConfigurationError
        If there is no such folder, or `sample` is below 0.
    StoreError
        If the record of what was proven is locked, or a folder cannot be read.
    """
    if sample is not None and (type(sample) is not int or sample < 0):
        raise ConfigurationError(f"sample: {sample!r} is not a number of files")
    engine = Engine(folder)
    store = Store(engine.root)
    try:
        return _verified(engine, store, sample, archive, endpoint_url, seed)
    except OSError as error:
        raise disk_error(error, engine.root) from None


def _verified(
    engine: Engine,
    store: Store,
    sample: int | None,
    archive: bool,
    endpoint_url: str | None,
    seed: int | None,
) -> Verification:
    checks, gone = _checks(engine)
    chosen = checks
    if sample is not None and sample < len(checks):
        chosen = random.Random(seed).sample(checks, sample)
    progress = Progress()
    with Bar(progress) as bar:
        digests: dict[str, Answer] = {}
        if archive:
            zips = [_published(each.file) for each in chosen if each.file.is_zip]
            progress.begin("asking for checksums", len(zips))
            digests = _digests(zips, endpoint_url)
        progress.begin("proving again", len(chosen), sum(each.file.size for each in chosen))
        found = list(_read(store, chosen, digests if archive else None, progress, bar))
    read = {each.file.place for each in chosen}
    found += _by_record(store, [each for each in checks if each.file.place not in read])
    if any(each.problem for each in found):
        found = list(_again(store, found))
    wrong = [
        (each.check.file.key, each.check.file.place, *each.problem)
        for each in found
        if each.problem is not None
    ]
    untold = {
        each.file.key
        for each in chosen
        if isinstance(digests.get(_published(each.file)), ObjectError)
    }
    store.restamp(
        {
            each.check.file.key: each.check.proof._replace(stamp=each.stamp)
            for each in found
            if each.stamp is not None and each.check.proof is not None
        }
    )
    forgotten = True
    try:
        store.forget([key for key, *_ in wrong if key not in untold])
    except (ArchiveKitError, OSError):
        forgotten = False
    wrong += [(key, key, "gone", "it was proven, and is not there any more") for key in gone]
    sound = [each for each in found if each.problem is None]
    return Verification(
        engine.root,
        files=len(checks),
        read=len(chosen),
        proven=sum(each.proven for each in sound),
        unproven=sum(not each.proven for each in sound),
        frame=pl.DataFrame(wrong, schema=PROBLEMS, orient="row"),
        untold=sum(key in untold for key, *_ in wrong),
        forgotten=forgotten,
        by_checksum=sum(each.by_checksum for each in sound),
        csv=sum(not each.check.file.is_zip for each in sound),
        notes=tuple(each.note for each in found if each.note),
        skipped=tuple(engine.skipped()),
    )


def _checks(engine: Engine) -> tuple[list[_Check], list[str]]:
    """List the files of a store with their proofs, and the keys of proofs without a file."""
    checks: list[_Check] = []
    gone: list[str] = []
    for name in load_schemas():
        feed = engine.feed(*name)
        proofs = engine.proofs(feed)
        for held in engine.folders(feed):
            # What is proven of a zip says nothing of a csv file in its place.
            checks += [
                _Check(file, proofs.pop(file.key, None) if file.is_zip else None)
                for file in held.files
            ]
        gone += proofs
    return checks, gone


def _again(store: Store, found: Iterable[_Found]) -> Iterator[_Found]:
    """Spare files that a collection has replaced meanwhile: a moment later their proof is there."""
    time.sleep(COMMIT_DELAY)
    recorded: dict[str, dict[str, ProofRecord]] = {}
    for each in found:
        check = each.check
        if each.problem is not None and check.file.is_zip:
            with suppress(OSError):
                stamp = stamp_of((store.root / check.file.place).stat())
                prefix = f"{check.file.key.rpartition('/')[0]}/"
                if prefix not in recorded:
                    recorded[prefix] = store.recorded(prefix)
                proof = recorded[prefix].get(check.file.key)
                if proof is not None and proof != check.proof and proof.is_of(stamp):
                    yield _Found(check, proven=True)
                    continue
        yield each


def _by_record(store: Store, checks: Sequence[_Check]) -> Iterator[_Found]:
    """Compare files with their proofs by stamp; read only those that were moved since."""
    proofs = {each.file.key: each.proof for each in checks}
    same = hash_moved(store, [each.file for each in checks if each.proof], proofs)
    for check in checks:
        if check.proof is None:
            yield _Found(check)
        elif check.proof.is_of(check.file.stamp) or check.file.key in same:
            yield _Found(check, proven=True)
        else:
            yield _Found(check, ("changed", "its bytes are not the ones that were proven"))


def _prove(store: Store, check: _Check, digests: dict[str, Answer] | None) -> _Found:
    """Read a file, and compare it with the digest that is known of it."""
    file, proof = check.file, check.proof
    key = _published(file)
    path = store.root / file.place
    if not file.is_zip:
        return _read_csv(check, path)
    digest: Answer | None = None if proof is None else proof.sha256
    if digests is not None:
        digest = digests[key]
    if isinstance(digest, ObjectError):
        return _Found(check, (digest.reason, digest.detail))
    try:
        proven = store.prove(key, path, Expected(None, None, digest))
    except ObjectError as error:
        changed = digests is None and proof is not None
        return _Found(check, ("changed" if changed else error.reason, error.detail))
    beside = read_checksum(path)
    note = ""
    if isinstance(beside, BadChecksum):
        note = f"{file.place}{CHECKSUM_SUFFIX}: {beside.detail}"
    if digest is None:
        if isinstance(beside, str) and beside != proven.sha256:
            why = (
                f"its SHA-256 is {proven.sha256}, and the {CHECKSUM_SUFFIX} beside it says "
                f"{beside}; verify(archive=True) tells which of the two is the archive's"
            )
            return _Found(check, ("checksum_differs", why))
        agrees = isinstance(beside, str)
        return _Found(check, proven=agrees, by_checksum=agrees, note=note)
    if isinstance(beside, str) and beside != proven.sha256:
        note = f"{file.place}{CHECKSUM_SUFFIX}: it is of other bytes than the proven ones"
    known = proof is not None and proof.sha256 == proven.sha256
    stamp = proven.stamp if known and proof is not None and proof.stamp != proven.stamp else None
    return _Found(check, proven=True, note=note, stamp=stamp)


def _published(file: StoredFile) -> str:
    """Return the key under which the archive publishes a zip: some keys lack a zero."""
    folder = f"{file.key.rpartition('/')[0]}/"
    if file.place == file.key or not file.place.startswith(folder):
        return file.key
    return f"{file.place[: -len('.zip')]}.zip"


def _read_csv(check: _Check, path: Path) -> _Found:
    """Read a csv file to its end: there is no digest of it, but it may be unreadable."""
    opened = gzip.open if check.file.form is Form.GZIP else open
    try:
        with opened(path, "rb") as file:
            while file.read(_CHUNK):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return _Found(check, ("unreadable", f"it is no intact gzip file: {error}"))
    return _Found(check)


#: A line of ``sha256sum``, and one of BSD's ``sha256``.
_GNU = re.compile(r"\\?([0-9a-f]{64})(?:\s+\*?(.*))?", re.IGNORECASE)
_BSD = re.compile(r"SHA(?:2?-)?256\s*\((.*)\)\s*=\s*([0-9a-f]{64})", re.IGNORECASE)


def read_checksum(path: Path) -> str | BadChecksum | None:
    """Read the digest of a file from the ``.CHECKSUM`` file beside it.

    Accepted are the archive's form, those of other tools (``*name``, BSD, a bare digest,
    capital letters, a byte order mark) and lists of several files that name this one.

    Parameters
    ----------
    path : Path
        Of the file, not of its checksum.

    Returns
    -------
    str, BadChecksum or None
        SHA-256 in lower-case hex; why there is none to compare with; None without such a file.
    """
    beside = path.with_name(f"{path.name}{CHECKSUM_SUFFIX}")
    try:
        with beside.open("rb") as file:
            body = file.read(_CHUNK)
    except FileNotFoundError:
        return None
    except OSError as error:
        return BadChecksum(path.name, f"it cannot be read: {error.strerror or error}")
    wide = body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = body.decode("utf-16" if wide else "utf-8", errors="replace").lstrip("\ufeff")
    named: set[str] = set()
    bare: set[str] = set()
    others: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if found := _BSD.fullmatch(line):
            name, digest = found[1], found[2]
        elif found := _GNU.fullmatch(line):
            name, digest = found[2] or "", found[1]
        else:
            continue
        base = name.replace("\\", "/").rpartition("/")[2].strip()
        if not base:
            bare.add(digest.lower())
        elif base == path.name:
            named.add(digest.lower())
        else:
            others.append(base)
    digests = named or bare
    if len(digests) == 1:
        return digests.pop()
    if digests:
        return BadChecksum(path.name, "it has several digests of this file")
    if others:
        return BadChecksum(path.name, f"it is of another file, {others[0]!r}")
    return BadChecksum(path.name, "it holds no SHA-256 digest")


def _read(
    store: Store,
    chosen: Sequence[_Check],
    digests: dict[str, Answer] | None,
    progress: Progress,
    bar: Bar,
) -> Iterator[_Found]:
    """Read files on several threads, in their order."""

    def work(check: _Check) -> _Found:
        try:
            return _prove(store, check, digests)
        except OSError as error:
            why = str(disk_error(error, check.file.place))
            return _Found(check, ("unreadable", why))

    pool = ThreadPoolExecutor(os.cpu_count() or 1, "verifier")
    jobs: deque[tuple[_Check, Future[_Found]]] = deque()
    todo = iter(chosen)
    shown = 0.0
    try:
        while True:
            jobs += [(each, pool.submit(work, each)) for each in islice(todo, _WAITING - len(jobs))]
            if not jobs:
                return
            check, job = jobs.popleft()
            while not wait([job], INTERVAL).done or time.monotonic() - shown > INTERVAL:
                bar.update()
                shown = time.monotonic()
            progress.done += 1
            progress.done_bytes += check.file.size
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _digests(keys: Sequence[str], endpoint_url: str | None) -> dict[str, Answer]:
    """Ask the archive for the digests of files; on a thread, whose loop is nobody else's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _ask(keys, endpoint_url)).result()


async def _ask(keys: Sequence[str], endpoint_url: str | None) -> dict[str, Answer]:
    matrix = load_matrix()
    answers: dict[str, Answer] = {}
    done = asyncio.Event()

    def answered(key: str, answer: Answer) -> None:
        answers[key] = answer
        if len(answers) == len(keys):
            done.set()

    endpoint = endpoint_of(endpoint_url, matrix)
    async with DigestClient(
        endpoint, matrix.archive.bucket, answered, connections=_CONNECTIONS, timeout=60
    ) as checksums:
        checksums.ask(keys)
        if keys:
            await done.wait()
    return answers
