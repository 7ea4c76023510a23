"""Proving again: what was proven once may have changed on disk, or rotted.

A collection takes a file's size and time for its word; `verify` reads the bytes.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from binance_archive_kit import render
from binance_archive_kit.checksums import Answer, Checksums
from binance_archive_kit.collection import endpoint_of
from binance_archive_kit.errors import ConfigurationError, ObjectError
from binance_archive_kit.holdings import Holdings
from binance_archive_kit.inventory import HeldFile
from binance_archive_kit.matrix import load_matrix
from binance_archive_kit.progress import INTERVAL, Bar, Progress
from binance_archive_kit.schemas import load_schemas
from binance_archive_kit.stamps import stamp_of
from binance_archive_kit.storage import SETTLING, Expected, Recorded, Store

_CONNECTIONS = 64
#: Files that may wait for being read, so that a million of them do not.
_WAITING = 512
PROBLEMS: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(
    ("key", "file", "reason", "detail"), pl.String
)


@dataclass(frozen=True)
class Verification:
    """What proving again has shown.

    Attributes
    ----------
    root : Path
    files : int
        Zips in the store.
    read : int
        Files whose bytes were read.
    proven : int
        Files whose proof stands: of those that were read, by their bytes.
    unproven : int
        Files that no proof is recorded of; `collect` proves them.
    frame : polars.DataFrame
        What is wrong, a row for each file: ``key``, ``file`` (its path inside the store),
        ``reason`` (``gone``, ``changed``, or what collecting calls it) and ``detail``.
    untold : int
        Files of `frame` that the archive told no digest of; their bytes may be right.
    forgotten : bool
        Whether the proofs of files whose bytes are wrong are forgotten; they are not where
        the store cannot be written to.
    """

    root: Path
    files: int
    read: int
    proven: int
    unproven: int
    frame: pl.DataFrame
    untold: int = 0
    forgotten: bool = True

    @property
    def sound(self) -> bool:
        """Whether there are files, and nothing is wrong with any."""
        return bool(self.files) and not self.frame.height

    @property
    def state(self) -> str:
        """One of ``sound``, ``not sound``, ``not proven again`` and ``empty``."""
        if not self.files and not self.frame.height:
            return "empty"
        if self.sound:
            return "sound"
        return "not proven again" if self.untold == self.frame.height else "not sound"

    def headline(self) -> str:
        """Sum it up in one line."""
        if self.state == "empty":
            return "no file of the archive is here"
        counted = Counter(self.frame["reason"])
        words = [f"{self.read:,} of {self.files:,} files read", f"{self.proven:,} proven"]
        words += [f"{self.unproven:,} without a proof"] if self.unproven else []
        words += [f"{count:,} {reason}" for reason, count in counted.most_common()]
        return "; ".join(words)

    def _rows(self) -> list[tuple[str, str, str]]:
        return list(self.frame.select("reason", "file", "detail").head(20).iter_rows())

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [f"Store {self.state} · {self.headline()}"]
        lines += [f"  {reason}: {file}: {detail}" for reason, file, detail in self._rows()]
        more = self.frame.height - 20
        lines += [f"  … and {more:,} more"] if more > 0 else []
        if self.untold:
            lines.append(f"  proofs stay of the {self.untold:,} that the archive told nothing of")
        if self.frame.height > self.untold:
            proofs = "are forgotten" if self.forgotten else "stay: the store cannot be written to"
            lines.append(f"  collect again what is wrong: its proofs {proofs}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        states = {"empty": "idle", "sound": "good", "not proven again": "warn"}
        state = states.get(self.state, "bad")
        table = render.table(("reason", "file", "detail"), self._rows())
        return render.panel("Verification", f"{self.root}: {self.headline()}", state, table)


@dataclass(frozen=True, slots=True)
class _Check:
    """A file to look at, and the proof that is recorded of it, if any."""

    file: HeldFile
    proof: Recorded | None


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
    that the next `collect` sets them aside and fetches them again. Shows its progress.

    Parameters
    ----------
    folder : str or Path
        A store, wherever its files lie.
    sample : int, optional
        Read so many files, chosen at random; of the others only size and time are compared
        with their proofs. None reads all, 0 none.
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
        Shows itself in a notebook; ``frame`` has what is wrong.

    Raises
    ------
    ConfigurationError
        If there is no such folder, or `sample` is below 0.
    """
    if sample is not None and (not isinstance(sample, int) or sample < 0):
        raise ConfigurationError(f"sample: {sample!r} is not a number of files")
    holdings = Holdings(folder, cache=False)
    store = Store(holdings.root)
    checks, gone = _checks(holdings)
    chosen = checks
    if sample is not None and sample < len(checks):
        chosen = random.Random(seed).sample(checks, sample)
    progress = Progress()
    with Bar(progress) as bar:
        digests: dict[str, Answer] = {}
        if archive:
            progress.begin("asking for checksums", len(chosen))
            digests = _digests([each.file.key for each in chosen], endpoint_url)
        progress.begin("proving again", len(chosen), sum(each.file.size for each in chosen))
        found = list(_read(store, chosen, digests if archive else None, progress, bar))
    read = {each.file.key for each in chosen}
    others = [each for each in checks if each.file.key not in read]
    found += [_by_record(each) for each in others]
    if any(problem for _, problem in found):
        found = list(_again(store, found))
    wrong = [(each.file.key, each.file.place, *problem) for each, problem in found if problem]
    untold = {key for key, digest in digests.items() if isinstance(digest, ObjectError)}
    forgotten = True
    try:
        store.forget([key for key, *_ in wrong if key not in untold])
    except (sqlite3.Error, OSError):
        forgotten = False
    wrong += [(key, key, "gone", "it was proven, and is not there any more") for key in gone]
    sound = [each for each, problem in found if not problem]
    proven = sum(each.proof is not None or (archive and each.file.key in read) for each in sound)
    return Verification(
        holdings.root,
        len(checks),
        len(chosen),
        proven,
        len(sound) - proven,
        pl.DataFrame(wrong, schema=PROBLEMS, orient="row"),
        sum(key in untold for key, *_ in wrong),
        forgotten,
    )


_Problem = tuple[str, str]


def _checks(holdings: Holdings) -> tuple[list[_Check], list[str]]:
    """List the files of a store with their proofs, and the keys of proofs without a file."""
    checks: list[_Check] = []
    gone: list[str] = []
    for name in load_schemas():
        feed = holdings.feed(*name)
        proofs = holdings.proofs(feed)
        for held in holdings.streams(feed):
            checks += [_Check(file, proofs.pop(file.key, None)) for file in held.files]
        gone += proofs
    return checks, gone


def _again(
    store: Store, found: Iterable[tuple[_Check, _Problem | None]]
) -> Iterator[tuple[_Check, _Problem | None]]:
    """Spare files that a collection has replaced meanwhile: a moment later their proof is there."""
    time.sleep(SETTLING)
    for check, problem in found:
        key = check.file.key
        if problem is not None:
            with suppress(OSError):
                stamp = stamp_of((store.root / check.file.place).stat())
                proof = store.recorded(f"{key.rpartition('/')[0]}/").get(key)
                newer = proof if proof != check.proof else None
                if newer and newer.is_of(stamp):
                    problem = None
        yield check, problem


def _by_record(check: _Check) -> tuple[_Check, _Problem | None]:
    """Compare size and time with the proof; reads nothing."""
    stands = check.proof is None or check.proof.is_of(check.file.stamp)
    return check, None if stands else ("changed", "its size or its time is not the proven one")


def _read(
    store: Store,
    chosen: Sequence[_Check],
    digests: dict[str, Answer] | None,
    progress: Progress,
    bar: Bar,
) -> Iterator[tuple[_Check, _Problem | None]]:
    """Read files on several threads, in their order."""

    def work(check: _Check) -> _Problem | None:
        key = check.file.key
        digest: Answer | None = check.proof.sha256 if check.proof is not None else None
        if digests is not None:
            digest = digests[key]
        if isinstance(digest, ObjectError):
            return digest.reason, digest.detail
        try:
            store.prove(key, store.root / check.file.place, Expected(None, None, digest))
        except ObjectError as error:
            changed = digests is None and check.proof is not None
            return "changed" if changed else error.reason, error.detail
        except OSError as error:
            return "unreadable", str(error)
        return None

    pool = ThreadPoolExecutor(os.cpu_count() or 1, "verifier")
    jobs: deque[tuple[_Check, Future[_Problem | None]]] = deque()
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
            yield check, job.result()
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
    async with Checksums(
        endpoint, matrix.archive.bucket, answered, connections=_CONNECTIONS, timeout=60
    ) as checksums:
        checksums.ask(keys)
        if keys:
            await done.wait()
    return answers
