"""Transfers of objects into the store, and a queue that proves their files on threads.

Downloaded files are moved into the store once they are proven. A job has several small files,
since dispatching one file costs more than hashing it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Self

from binance_archive_kit.archive.digests import Answer
from binance_archive_kit.errors import (
    NO_ROOM,
    BadChecksum,
    Corrupt,
    DiskFull,
    NotFound,
    ObjectError,
    StaleChecksum,
    Stalled,
    TransferFailed,
    disk_error,
)
from binance_archive_kit.storage.proof import Expected, Proof, prove
from binance_archive_kit.storage.store import Store

#: Tries for each object; corrupt and stalled objects are fetched only once more.
_TRIES = 3
_TRIES_OF: dict[type[ObjectError], int] = {Corrupt: 2, Stalled: 2}
_THREADS = 2
#: Limits of one job.
_FILES_PER_JOB, _BYTES_PER_JOB = 64, 8 << 20
#: Seconds to wait for further small files before a job is dispatched.
_GATHER_SECONDS = 0.01


class Step(Enum):
    """The next step after an error."""

    ASK_DIGEST = auto()  #: request the digest again
    RETRY = auto()  #: fetch the object again
    REPLACE = auto()  #: quarantine a file of the store, and fetch the object
    SKIP = auto()  #: the object is not in the archive
    FAIL = auto()


@dataclass(slots=True)
class Transfer:
    """The transfer of one object into the store.

    Attributes
    ----------
    key : str
    row : int
        Row of the plan.
    size : int or None
    etag : str or None
        As listed; None without a listing.
    path : str or None
        Unproven file of the object.
    digest : str, ObjectError or None
        The published digest, or the error of its request; None before that.
    in_store : bool
        Whether the file is in the store already, and only needs a proof.
    bad_file : Path or None
        File that failed its proof.
    error : ObjectError or None
        The last error.
    failures : int
        Number of failed tries.
    unreported : int
        Number of tries without a report of s5cmd.
    digest_repeated : bool
        Whether the digest was requested twice.
    """

    key: str
    row: int
    size: int | None
    etag: str | None
    path: str | None = None
    digest: Answer | None = None
    in_store: bool = False
    bad_file: Path | None = None
    error: ObjectError | None = None
    failures: int = 0
    unreported: int = 0
    digest_repeated: bool = False

    def expected(self) -> Expected:
        """Return the size, ETag and digest that the archive publishes, as far as known."""
        return Expected(self.size, self.etag, self.digest if isinstance(self.digest, str) else None)

    def next_step(self, error: ObjectError, *, listed: bool) -> Step:
        """Record an error, and return the next step.

        Parameters
        ----------
        error : ObjectError
        listed : bool
            Whether the archive lists the object.
        """
        if isinstance(error, StaleChecksum | BadChecksum) and not self.digest_repeated:
            # The digest may have been damaged in transit.
            self.digest_repeated, self.digest = True, None
            return Step.ASK_DIGEST
        if self.path is not None:
            self.bad_file, self.path = Path(self.path), None
        self.failures += 1
        self.error = error
        if self.in_store:
            return Step.REPLACE if isinstance(error, Corrupt) else Step.FAIL
        if isinstance(error, NotFound) and not listed:
            return Step.SKIP
        # An error of the digest is final: its request was retried, and the zip is not the cause.
        final = error is self.digest or not error.retryable
        if final or self.failures >= _TRIES_OF.get(type(error), _TRIES):
            return Step.FAIL
        if isinstance(error, Corrupt):
            # The digest may belong to another version of the object.
            self.digest = None
        return Step.RETRY

    def retry_unreported(self) -> bool:
        """Count a try without a report of s5cmd; return whether to retry."""
        self.unreported += 1
        return self.unreported <= _TRIES

    def start_over(self) -> None:
        """Reset the transfer after its file in the store was quarantined."""
        self.in_store, self.bad_file, self.digest, self.failures = False, None, None, 0


class ProofQueue:
    """Proves files on a thread pool; an async context manager.

    Parameters
    ----------
    store : Store
    record : callable
        Records proofs; called on the threads of the pool.
    accept_stale : bool
        Whether to accept files whose published digest differs, if size and ETag are right.
    on_outcome : callable
        Called on the event loop with a transfer and the proof or error of its file.
    """

    def __init__(
        self,
        store: Store,
        record: Callable[[Sequence[Proof]], None],
        accept_stale: bool,
        on_outcome: Callable[[Transfer, Proof | ObjectError], None],
    ) -> None:
        self._store = store
        self._record = record
        self._accept_stale = accept_stale
        self._on_outcome = on_outcome
        self._threads = ThreadPoolExecutor(_THREADS, "prover")
        self._unproven: set[str] = set()
        self._ready: deque[Transfer] = deque()
        self._jobs: set[asyncio.Future[None]] = set()
        self._gather_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._internal_error: BaseException | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel jobs that have not started, and wait for the others.

        This keeps the outcomes and the files of the store consistent after an interrupt.
        """
        self._closed = True
        self._ready.clear()
        try:
            self._threads.shutdown(wait=False, cancel_futures=True)
            await asyncio.gather(*self._jobs, return_exceptions=True)
        finally:
            self._threads.shutdown()

    def expect(self, key: str) -> None:
        """Count a file as unproven; its digest may be unknown yet."""
        self._unproven.add(key)

    def discard(self, key: str) -> None:
        """No longer count a file as unproven."""
        self._unproven.discard(key)
        self._changed.set()

    def put(self, transfer: Transfer) -> None:
        """Queue the file of a transfer for a proof."""
        if self._closed:
            return
        self._ready.append(transfer)
        if self._gather_timer is None:
            loop = asyncio.get_running_loop()
            self._gather_timer = loop.call_later(_GATHER_SECONDS, self._dispatch)

    async def wait(self, most: int = 0) -> None:
        """Wait until at most `most` files are unproven; raise errors of jobs."""
        while self._internal_error is None and len(self._unproven) > most:
            self._changed.clear()
            await self._changed.wait()
        if self._internal_error is not None:
            raise self._internal_error

    def _dispatch(self) -> None:
        self._gather_timer = None
        while self._ready and len(self._jobs) < 2 * _THREADS:
            batch: list[Transfer] = []
            size = 0
            while self._ready and len(batch) < _FILES_PER_JOB and size < _BYTES_PER_JOB:
                batch.append(self._ready.popleft())
                size += batch[-1].size or 0
            job = asyncio.ensure_future(self._run_job(batch))
            self._jobs.add(job)
            job.add_done_callback(self._job_done)

    def _job_done(self, job: asyncio.Future[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            self._internal_error = error
        if self._gather_timer is None:
            self._dispatch()
        self._changed.set()

    async def _run_job(self, batch: Sequence[Transfer]) -> None:
        loop = asyncio.get_running_loop()
        outcomes: Sequence[Proof | ObjectError]
        try:
            outcomes = await loop.run_in_executor(self._threads, self._prove_files, batch)
        except OSError as error:
            outcomes = [_disk_failure(transfer.key, error) for transfer in batch]
        for transfer, outcome in zip(batch, outcomes, strict=True):
            self._on_outcome(transfer, outcome)

    def _prove_files(self, batch: Sequence[Transfer]) -> list[Proof | ObjectError]:
        """Prove files, and record the proofs; runs on a thread."""
        outcomes = [self._prove_file(transfer) for transfer in batch]
        # Recorded after the renames: a proof without its file would be false.
        self._record([outcome for outcome in outcomes if isinstance(outcome, Proof)])
        return outcomes

    def _prove_file(self, transfer: Transfer) -> Proof | ObjectError:
        key, path, stale = transfer.key, str(transfer.path), self._accept_stale
        try:
            proof = prove(key, path, transfer.expected(), accept_stale=stale)
            return proof if transfer.in_store else self._store.admit(proof, path)
        except ObjectError as error:
            return error
        except OSError as error:
            return _disk_failure(key, error)


def _disk_failure(key: str, error: OSError) -> ObjectError:
    """Convert an error of the local disk into the failure of an object."""
    kind = DiskFull if error.errno in NO_ROOM else TransferFailed
    where = error.filename2 or error.filename
    return kind(key, str(disk_error(error, where) if where else error))
