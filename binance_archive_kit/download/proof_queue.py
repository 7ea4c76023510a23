"""Prove files on threads, and move those that were downloaded into the store.

Small files are gathered into jobs, since dispatching one file costs more than hashing it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from binance_archive_kit.download.transfer import Transfer
from binance_archive_kit.errors import NO_ROOM, DiskFull, ObjectError, TransferFailed, disk_error
from binance_archive_kit.storage.proof import Proof, prove
from binance_archive_kit.storage.store import Store

_THREADS = 2
#: Limits of one job: enough small files to be worth dispatching.
_FILES_PER_JOB, _BYTES_PER_JOB = 64, 8 << 20
#: Seconds in which small files gather before a job is dispatched.
_GATHER_SECONDS = 0.01


class ProofQueue:
    """Proves files on threads of its own; an async context manager.

    Parameters
    ----------
    store : Store
    record : callable
        Records proofs; called on the threads.
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
        """Drop what no thread has started, and wait for the outcomes of the rest.

        After an interrupt, the outcomes agree with the files in the store.
        """
        self._closed = True
        self._ready.clear()
        try:
            self._threads.shutdown(wait=False, cancel_futures=True)
            await asyncio.gather(*self._jobs, return_exceptions=True)
        finally:
            self._threads.shutdown()

    def expect(self, key: str) -> None:
        """Count a file as unproven; its digest may not be known yet."""
        self._unproven.add(key)

    def discard(self, key: str) -> None:
        """No longer count a file as unproven."""
        self._unproven.discard(key)
        self._changed.set()

    def put(self, transfer: Transfer) -> None:
        """Prove the file of a transfer soon, together with others."""
        if self._closed:
            return
        self._ready.append(transfer)
        if self._gather_timer is None:
            loop = asyncio.get_running_loop()
            self._gather_timer = loop.call_later(_GATHER_SECONDS, self._dispatch)

    async def wait(self, most: int = 0) -> None:
        """Wait until at most `most` files are unproven; raise errors of the jobs."""
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
