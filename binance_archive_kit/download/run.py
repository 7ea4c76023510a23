"""Carrying out a plan: s5cmd brings, the archive's digests vouch, the store admits.

Three things go on at once: s5cmd downloads into a private folder, `DigestClient` fetches
the published digests, and threads prove each file as soon as both have come. What
fails for a passing reason is tried again; what fails its proof goes to quarantine.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.digests import Answer, DigestClient
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.archive.matrix import Matrix
from binance_archive_kit.display import render
from binance_archive_kit.display.progress import Arrivals, Progress
from binance_archive_kit.download.batches import Copy, make_batches
from binance_archive_kit.download.command import Command, choose_workers
from binance_archive_kit.download.events import EventLog
from binance_archive_kit.download.result import CollectionResult, State
from binance_archive_kit.download.s5cmd import Copied, Refused, S5cmd
from binance_archive_kit.errors import (
    NO_ROOM,
    AbsentChecksum,
    ArchiveKitError,
    ArchiveKitWarning,
    BadChecksum,
    BadZip,
    ConfigurationError,
    Corrupt,
    DiskFull,
    DiskSpaceError,
    ListingError,
    NotFound,
    ObjectError,
    StaleChecksum,
    Stalled,
    TransferFailed,
    Truncated,
    WorkflowError,
    disk_advice,
    disk_error,
)
from binance_archive_kit.planning.plan import Action, Plan
from binance_archive_kit.planning.s5cmd_flags import Flags
from binance_archive_kit.storage.moved import HASHING, MovedFile, rehash
from binance_archive_kit.storage.proof import Expected, Proof, ProvenBy, prove
from binance_archive_kit.storage.store import Store

#: Connections for published digests; each answer is one short round trip.
_CHECKSUM_CONNECTIONS = 128
_PROVERS = 2
#: What one prover takes at a time: enough small files to be worth the hand-over.
_FILES_PER_JOB, _BYTES_PER_JOB = 64, 8 << 20
#: Seconds in which small files gather, since handing one over costs more than its proof.
_GATHERING = 0.01
#: Files that may wait for their proof before no more are taken from s5cmd.
_WAITING = 4_096
_TRIES = 3
#: Seconds between one round of tries and the next, at most.
_LONGEST_PAUSE = 9.0
#: Bytes that did not match are fetched once more, and no object may stall more than twice.
_TRIES_OF = {Corrupt: 2, Stalled: 2}
#: Bytes that are known to be wrong, wherever they lie.
_BAD_BYTES = (Corrupt, BadZip, StaleChecksum)
#: Reasons of a plan to keep files that are not known to be proven.
_NOT_SURE = ("to be proven", "to be hashed")
#: States of objects that the archive was seen to have.
_THERE = [State.DOWNLOADED, State.KEPT, State.FAILED]


@dataclass(slots=True)
class _Task:
    """One object on its way."""

    row: int
    size: int | None
    etag: str | None
    #: Where a file lies that waits for its proof, or has failed it.
    path: str | None = None
    answer: Answer | None = None
    #: Lies under its final name already, and is only to be proven.
    adopted: bool = False
    #: Bytes that failed their proof.
    bad: Path | None = None
    error: ObjectError | None = None
    #: How often it failed, and how often s5cmd said nothing of it.
    failed: int = 0
    lost: int = 0
    #: Its digest was asked for once more, alone.
    checksum_failed: bool = False

    def expected(self) -> Expected:
        return Expected(self.size, self.etag, self.answer if isinstance(self.answer, str) else None)


class Run:
    """Carries out one plan.

    Parameters
    ----------
    plan : Plan
    store : Store
    endpoint : str
    matrix : Matrix
    flags : Flags
        The user's flags for s5cmd.
    progress : Progress
    events : EventLog
    created_at : datetime
        When the run began, UTC.
    began : float
        The same moment by the monotonic clock.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        endpoint: str,
        matrix: Matrix,
        flags: Flags,
        progress: Progress,
        events: EventLog,
        created_at: datetime,
        began: float,
    ) -> None:
        self._plan = plan
        self._config = plan.config
        self._store = store
        self._endpoint = endpoint
        self._matrix = matrix
        self._flags = flags
        self._progress = progress
        self._events = events
        self._created_at = created_at
        self._began = began
        self._states = bytearray(len(plan))
        self._tasks: dict[str, _Task] = {}
        #: Files that are here and not proven yet, and those of them that can be.
        self._unproven: set[str] = set()
        self._ready: deque[str] = deque()
        self._again: list[str] = []
        self._failures: list[ObjectError] = []
        self._missing: list[Absence] = []
        self._pending: list[Absence] = []
        self._stale: list[str] = []
        self._downloaded_bytes = 0
        self._arrivals = Arrivals()
        self._proven_bytes = 0
        self._disk_full: DiskFull | None = None
        self._jobs: set[asyncio.Future[None]] = set()
        self._moved = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        #: A fault of our own in a proof: never to be swallowed.
        self._trouble: BaseException | None = None
        self._checksums: DigestClient | None = None

    async def run(self) -> CollectionResult:
        """Carry the plan out, and say what came of every object.

        Raises
        ------
        WorkflowError
            If there were objects to get and every one failed.
        ConfigurationError, DiskSpaceError, StoreError
            If the store cannot be written.
        """
        try:
            return await self._run()
        except OSError as error:
            if isinstance(error, PermissionError) or error.errno == errno.EROFS:
                raise ConfigurationError(
                    f"output_directory: {str(self._config.output_directory)!r} cannot be written: "
                    f"{error.filename}: {disk_advice(error.errno)}"
                ) from None
            raise disk_error(error, self._store.root) from None

    async def _run(self) -> CollectionResult:
        plan = self._plan
        frame = plan.frame
        self._progress.planned = len(plan)
        self._keep_proven()
        self._check_space()
        await self._hash_moved()
        unsure = frame["reason"].is_in(_NOT_SURE) & (self._state_column() == State.PENDING)
        if plan.count(Action.KEEP) < len(plan) or unsure.any():
            watch = asyncio.ensure_future(self._watch_arrivals())
            try:
                await self._collect()
            finally:
                watch.cancel()
        seconds = time.monotonic() - self._began
        self._arrivals.note(seconds, self._downloaded_bytes, final=True)
        result = CollectionResult(
            plan,
            self._states,
            failures=self._failures,
            missing=self._missing,
            not_published=self._pending,
            stale=self._stale,
            spell=lambda key: str(self._store.path(key)),
            proven_bytes=self._proven_bytes,
            downloaded_bytes=self._downloaded_bytes,
            seconds=seconds,
            created_at=self._created_at,
            arrivals=self._arrivals.moments,
        )
        there = self._state_column().is_in(_THERE)
        try:
            self._store.records.record_missing(result.missing, frame["key"].filter(there))
        except ArchiveKitError as error:
            warnings.warn(
                f"what the archive was found to lack could not be recorded ({error}); reports "
                "without its listing do not know of it",
                ArchiveKitWarning,
                stacklevel=2,
            )
        if result.outcome == "failed":
            raise WorkflowError(f"nothing was collected: {result.failures_in_words()}", result)
        return result

    def _state_column(self) -> pl.Series:
        """Return the state of each object, in the order of the plan."""
        return pl.Series(self._states, dtype=pl.UInt8)

    async def _watch_arrivals(self) -> None:
        while True:
            await asyncio.sleep(self._arrivals.step)
            come = self._downloaded_bytes + self._progress.arriving
            self._arrivals.note(time.monotonic() - self._began, come)

    def _keep_proven(self) -> None:
        """Count what is there and proven; sizes of a plan without listing are the files' own."""
        kept = (self._plan.frame["reason"] == "proven").arg_true()
        for row in kept:
            self._states[row] = State.KEPT
        self._progress.proven = len(kept)
        self._proven_bytes = int(self._plan.frame["size"].gather(kept).sum())
        if self._events:
            for key, size in self._plan.frame.select("key", "size")[kept].iter_rows():
                self._tell_skipped(key, size)

    def _tell_skipped(self, key: str, size: int) -> None:
        self._events.emit("file_skipped", key=key, path=str(self._store.path(key)), size_bytes=size)

    def _check_space(self) -> None:
        need = self._plan.download_bytes
        if need is None:
            return
        free = self._store.free_bytes()
        if need > free:
            raise DiskSpaceError(
                f"output_directory: {self._store.root} has {render.size(free)} free, and the "
                f"plan fetches {render.size(need)}; free some space, or ask for less"
            )
        files, left = self._plan.count(Action.DOWNLOAD), self._store.free_files()
        if left is not None and files > left:
            raise DiskSpaceError(
                f"output_directory: the disk of {self._store.root} has room for {left:,} more "
                f"files (inodes), and the plan fetches {files:,}; remove some, or ask for less"
            )

    async def _collect(self) -> None:
        try:
            await asyncio.to_thread(self._store.locations.record, self._plan.frame["key"])
            staging = self._store.staging()
            with (
                staging as folder,
                self._store.records.recorder() as self._record,
                ThreadPoolExecutor(_PROVERS, "prover") as self._provers,
            ):
                checksums = DigestClient(
                    self._endpoint,
                    self._matrix.archive.bucket,
                    self._answered,
                    connections=_CHECKSUM_CONNECTIONS,
                    timeout=min(self._config.timeout_seconds, 60),
                )
                async with checksums as self._checksums:
                    try:
                        await self._prove_adopted()
                        await self._download(folder)
                    finally:
                        if self._soon is not None:
                            self._soon.cancel()
                        for job in self._jobs:
                            job.cancel()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskSpaceError(
                    f"output_directory: no room is left on the disk of {self._store.root}, for "
                    "bytes or for one more file; free some space"
                ) from None
            raise

    # What is there, and has no proof yet

    async def _prove_adopted(self) -> None:
        doubtful = self._plan.frame.with_row_index("row").filter(
            pl.col("reason").is_in(_NOT_SURE), self._state_column() == State.PENDING
        )
        if not doubtful.height:
            return
        self._progress.begin("proving files found in the store", doubtful.height)
        rows = doubtful.select("row", "key", "size", "etag", "checksum")
        for row, key, size, etag, checksum in rows.iter_rows():
            task = _Task(row, size, etag, path=str(self._store.path(key)), adopted=True)
            self._tasks[key] = task
            self._unproven.add(key)
            if not self._config.download_checksum:
                self._prove_soon(key)
            elif checksum is False:
                self._retry_or_fail(key, task, _absent_checksum(key))
            else:
                self._ask([key])
            await self._settle(_WAITING)
        await self._settle(0)

    async def _hash_moved(self) -> None:
        """Hash files that were moved since they were proven; keep those whose bytes are the same.

        Uses no network, and writes nothing but their stamps.
        """
        keys = self._plan.frame.filter(pl.col("reason") == "to be hashed")["key"]
        if not len(keys):
            return
        prefixes = {f"{key.rpartition('/')[0]}/" for key in keys}
        records, locations = self._store.records, self._store.locations
        proofs = {
            key: proof for prefix in prefixes for key, proof in records.proofs(prefix).items()
        }
        files = [
            MovedFile(key, locations.location(key), proofs[key]) for key in keys if key in proofs
        ]
        progress = self._progress
        progress.begin(HASHING, len(files), sum(file.proof.stamp.size for file in files))
        stopped = threading.Event()

        def done(units: int, size: int) -> None:
            if stopped.is_set():
                raise InterruptedError
            progress.count(units, size)

        try:
            found = await asyncio.to_thread(rehash, records, files, done)
        except asyncio.CancelledError:
            stopped.set()
            raise
        rows = self._plan.frame.with_row_index("row").filter(pl.col("key").is_in(list(found)))
        for row, key in rows.select("row", "key").iter_rows():
            size = found[key].stamp.size
            self._states[row] = State.KEPT
            self._proven_bytes += size
            if self._events:
                self._tell_skipped(key, size)

    # Downloads

    async def _download(self, folder: Path) -> None:
        fetch = self._plan.frame.filter(pl.col("action") != Action.KEEP.value)
        # Files of the store that turned out to be other bytes join what is to be fetched.
        disowned, self._again = self._again, []
        sizes = [*fetch["size"], *(self._tasks[key].size for key in disowned)]
        if not sizes:
            return
        known = None if None in sizes else sum(filter(None, sizes))
        self._progress.begin("collecting", len(sizes), known)
        command = Command(
            self._endpoint,
            self._matrix.archive.bucket,
            self._matrix.archive.region,
            folder,
            self._flags,
            choose_workers(sizes, self._config.max_parallel_downloads),
            self._config.part_size_mb,
        )
        s5cmd = S5cmd(command, self._config.timeout_seconds, self._weigh)
        # With one worker for `run`, s5cmd uses two.
        single = not self._config.enable_batch_mode or command.workers == 1
        self._copy = s5cmd.copy_singly if single else s5cmd.copy
        await self._transfer(self._planned())
        self._again += disowned
        pause = 1.0
        while self._again and self._disk_full is None:
            keys, self._again = self._again, []
            await self._look_again(keys)
            # Objects that s5cmd only lost sight of need no pause, and stalled ones had one.
            tasks = map(self._tasks.__getitem__, keys)
            if any(each.failed and not isinstance(each.error, Stalled) for each in tasks):
                await asyncio.sleep(pause)
                pause = min(3 * pause, _LONGEST_PAUSE)
            await self._transfer(self._retried(keys))
        if self._disk_full is not None:
            self._give_up(self._disk_full)

    async def _transfer(self, batches: Iterator[Sequence[Copy]]) -> None:
        """Bring batches of objects, and prove them as they come."""
        async with aclosing(self._copy(batches)) as reports:
            async for events in reports:
                for event in events:
                    if isinstance(event, Copied):
                        self._copied(event)
                    else:
                        self._refused(event)
                await self._settle(_WAITING)
        await self._settle(0)

    def _planned(self) -> Iterator[Sequence[Copy]]:
        """Batches of what the plan wants fetched; objects without a digest fail up front."""
        listed_checksum = self._config.download_checksum
        columns = self._plan.frame.select("key", "size", "etag", "checksum", "action")
        rows: dict[str, _Task] = {}

        def objects() -> Iterator[tuple[str, bool]]:
            for row, (key, size, etag, checksum, action) in enumerate(columns.iter_rows()):
                wanted = action != Action.KEEP.value
                if wanted:
                    task = _Task(row, size, etag)
                    if listed_checksum and checksum is False:
                        self._fail(key, task, _absent_checksum(key))
                        wanted = False
                    else:
                        rows[key] = task
                yield key, wanted

        days = self._config.days(self._created_at)
        most = self._config.batch_size
        for batch in make_batches(objects(), days, most):
            if self._disk_full is not None:
                return
            for copy in batch:
                for key in copy.keys:
                    self._tasks[key] = rows.pop(key)
            self._ask(key for copy in batch for key in copy.keys)
            if self._events:
                self._tell_begun([key for copy in batch for key in copy.keys])
            yield batch

    def _tell_begun(self, keys: Sequence[str]) -> None:
        sizes = [self._tasks[key].size for key in keys]
        self._events.batch_started(keys, None if None in sizes else sum(filter(None, sizes)))

    def _retried(self, keys: Sequence[str]) -> Iterator[Sequence[Copy]]:
        most = self._config.batch_size
        for at in range(0, len(keys), most):
            if self._disk_full is not None:
                return
            batch = keys[at : at + most]
            self._ask(batch)
            yield [Copy((key,)) for key in batch]

    def _ask(self, keys: Iterable[str]) -> None:
        if self._config.download_checksum and self._checksums is not None:
            self._checksums.ask(key for key in keys if self._tasks[key].answer is None)

    async def _look_again(self, keys: Sequence[str]) -> None:
        """See whether objects whose bytes did not match were re-issued since the plan."""
        doubtful = [key for key in keys if isinstance(self._tasks[key].error, Corrupt | Truncated)]
        if not doubtful:
            return
        # An endpoint that cannot list leaves us with what the plan knows.
        with suppress(ListingError):
            bucket, timeout = self._matrix.archive.bucket, self._config.timeout_seconds
            async with ListingClient(self._endpoint, bucket, timeout) as archive:
                now = await archive.describe(doubtful)
            for key, listed in now.items():
                task = self._tasks[key]
                task.size, task.etag = listed.size, listed.etag

    # What comes in

    def _copied(self, event: Copied) -> None:
        task = self._tasks[event.key]
        task.path = event.path
        self._unproven.add(event.key)
        self._progress.arriving = 0
        if task.answer is not None or not self._config.download_checksum:
            self._prove_soon(event.key)

    def _refused(self, event: Refused) -> None:
        task = self._tasks[event.key]
        if type(event.error) is TransferFailed:
            event = replace(event, error=_with_advice(event.error))
        if not event.final and task.lost < _TRIES:
            # Ask for it by name: only an answer to that is a failure of the object.
            task.lost += 1
            self._again.append(event.key)
        else:
            self._retry_or_fail(event.key, task, event.error)

    def _answered(self, key: str, answer: Answer) -> None:
        task = self._tasks.get(key)
        if task is None or task.answer is not None:
            return
        task.answer = answer
        if task.path is not None:
            self._prove_soon(key)

    def _weigh(self, count: int) -> None:
        self._progress.arriving = count

    # Proof

    def _prove_soon(self, key: str) -> None:
        """Let small files gather before they are handed to a prover."""
        self._ready.append(key)
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_GATHERING, self._prove_ready)

    def _prove_ready(self) -> None:
        """Hand files whose digest is known to the provers."""
        self._soon = None
        while self._ready and len(self._jobs) < 2 * _PROVERS:
            batch: list[tuple[str, _Task]] = []
            weight = 0
            while self._ready and len(batch) < _FILES_PER_JOB and weight < _BYTES_PER_JOB:
                key = self._ready.popleft()
                task = self._tasks[key]
                if isinstance(task.answer, ObjectError):
                    self._retry_or_fail(key, task, task.answer)
                    continue
                batch.append((key, task))
                weight += task.size or 0
            if batch:
                job = asyncio.ensure_future(self._prove(batch))
                self._jobs.add(job)
                job.add_done_callback(self._job_done)
        self._moved.set()

    def _job_done(self, job: asyncio.Future[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            self._trouble = error
        if self._soon is None:
            self._prove_ready()
        self._moved.set()

    async def _prove(self, batch: Sequence[tuple[str, _Task]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            outcomes = await loop.run_in_executor(self._provers, self._prove_files, batch)
        except OSError as error:
            outcomes = [_of_os(key, error) for key, _ in batch]
        for (key, task), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Proof):
                self._proven(key, task, outcome)
            else:
                self._retry_or_fail(key, task, outcome)

    def _prove_files(self, batch: Sequence[tuple[str, _Task]]) -> list[Proof | ObjectError]:
        """Prove files and admit them to the store; runs on a prover's thread."""
        outcomes: list[Proof | ObjectError] = []
        stale = self._config.accept_stale_checksum
        for key, task in batch:
            if task.path is None:
                raise RuntimeError(f"{key} has no file to prove")
            try:
                proof = prove(key, task.path, task.expected(), accept_stale=stale)
                if not task.adopted:
                    proof = self._store.admit(proof, task.path)
                outcomes.append(proof)
            except ObjectError as error:
                outcomes.append(error)
            except OSError as error:
                outcomes.append(_of_os(key, error))
        # Recorded after the renames: a proof without its file would be a lie.
        self._record([each for each in outcomes if isinstance(each, Proof)])
        return outcomes

    async def _settle(self, most: int) -> None:
        """Wait until at most so many files wait for their proof."""
        while self._trouble is None and len(self._unproven) > most:
            self._moved.clear()
            await self._moved.wait()
        if self._trouble is not None:
            raise self._trouble

    # What becomes of an object

    def _proven(self, key: str, task: _Task, proof: Proof) -> None:
        self._leave(key)
        self._states[task.row] = State.KEPT if task.adopted else State.DOWNLOADED
        self._proven_bytes += proof.size
        self._progress.proven += 1
        if not task.adopted:
            self._downloaded_bytes += proof.size
        if proof.by is ProvenBy.STALE:
            self._stale.append(key)
        self._progress.done += 1
        self._progress.done_bytes += proof.size
        if self._events and task.adopted:
            self._tell_skipped(key, proof.size)
        elif self._events:
            path, by = str(self._store.path(key)), proof.by.value
            self._events.file_downloaded(key, path=path, size_bytes=proof.size, proven_by=by)

    def _retry_or_fail(self, key: str, task: _Task, error: ObjectError) -> None:
        """Try again what may yet succeed; what cannot has failed."""
        self._events.checksum_failed(error)
        if isinstance(error, StaleChecksum | BadChecksum) and not task.checksum_failed:
            # It may be the digest that was damaged on its way, and that is soon told.
            task.checksum_failed, task.answer = True, None
            self._ask([key])
            return
        if task.path is not None:
            task.bad, task.path = Path(task.path), None
        task.failed += 1
        task.error = error
        if isinstance(error, DiskFull):
            self._disk_full = error
        if task.adopted:
            self._reject_adopted(key, task, error)
        elif isinstance(error, NotFound) and not self._plan.config.listing:
            self._absent(key, task)
        elif error is task.answer:
            # It was asked for often enough, and the zip is not to blame.
            self._fail(key, task, error)
        elif error.retryable and task.failed < _TRIES_OF.get(type(error), _TRIES):
            if isinstance(error, Corrupt):
                # The digest may be of another issue than the bytes.
                task.answer = None
            self._unproven.discard(key)
            self._again.append(key)
        else:
            self._fail(key, task, error)

    def _reject_adopted(self, key: str, task: _Task, error: ObjectError) -> None:
        """Deal with a file found in the store that could not be proven."""
        if not isinstance(error, Corrupt):
            self._fail(key, task, error)
            return
        # Somebody's bytes under an archive name: set them aside, and fetch the real ones.
        try:
            self._quarantine(key, task, error)
        except OSError as trouble:
            task.bad = None
            self._fail(key, task, Corrupt(key, f"{error.detail}; {_not_aside(trouble)}"))
            return
        self._unproven.discard(key)
        task.adopted, task.bad, task.answer, task.failed = False, None, None, 0
        self._again.append(key)

    def _fail(self, key: str, task: _Task, error: ObjectError) -> None:
        wrong = isinstance(error, _BAD_BYTES)
        unproven = isinstance(error, AbsentChecksum | BadChecksum) and not task.adopted
        if task.bad is not None and (wrong or unproven):
            try:
                aside = f"the bytes are in {self._quarantine(key, task, error)}"
            except OSError as trouble:
                aside = _not_aside(trouble)
            error = type(error)(key, f"{error.detail}; {aside}")
        self._leave(key)
        self._states[task.row] = State.FAILED
        self._failures.append(error)
        self._events.file_failed(error)
        self._progress.done += 1
        self._progress.failed += 1

    def _quarantine(self, key: str, task: _Task, error: ObjectError) -> Path | None:
        if task.bad is None or not task.bad.exists():
            return None
        return self._store.quarantine(task.bad, error, task.expected())

    def _absent(self, key: str, task: _Task) -> None:
        """Note that the archive does not have what was planned without its listing."""
        self._leave(key)
        self._states[task.row] = State.ABSENT
        self._progress.total -= 1
        found = ObjectKey.parse(key)
        folder = found.folder
        early = datetime.now(UTC) < self._matrix.published_at(found.start, folder.partition)
        reason = Reason.NOT_PUBLISHED if early else Reason.ABSENT
        detail = "not published yet" if early else "the archive does not have it"
        absence = Absence.of(folder, reason, detail, found.start, found.end, key)
        (self._pending if early else self._missing).append(absence)

    def _leave(self, key: str) -> None:
        self._tasks.pop(key, None)
        self._unproven.discard(key)

    def _give_up(self, error: DiskFull) -> None:
        """Fail all that is left: there is no room for it."""
        for key, task in list(self._tasks.items()):
            self._fail(key, task, DiskFull(key, error.detail))
        rest = self._plan.frame.with_row_index("row").filter(pl.col("action") != Action.KEEP.value)
        for row, key in rest.select("row", "key").iter_rows():
            if self._states[row] == State.PENDING:
                self._fail(
                    key, _Task(row, None, None), DiskFull(key, "not tried: the disk is full")
                )


def _absent_checksum(key: str) -> AbsentChecksum:
    return AbsentChecksum(
        key, "the archive lists no checksum of it; download_checksum=False takes it on its ETag"
    )


def _of_os(key: str, error: OSError) -> ObjectError:
    """Turn trouble with the local disk into an error of ours."""
    kind = DiskFull if error.errno in NO_ROOM else TransferFailed
    where = error.filename2 or error.filename
    return kind(key, str(disk_error(error, where) if where else error))


def _with_advice(error: TransferFailed) -> TransferFailed:
    """Add the way out where s5cmd had trouble with the local disk."""
    words = error.detail.lower()
    for number, name in errno.errorcode.items():
        advice = disk_advice(number)
        if advice and name not in ("EPERM", "EACCES") and os.strerror(number).lower() in words:
            return TransferFailed(error.key, f"{error.detail}: {advice}")
    return error


def _not_aside(trouble: OSError) -> str:
    return f"the bytes could not be put into quarantine: {disk_error(trouble, 'quarantine')}"
