"""Transfer the objects of a plan: download files and digests, and prove the files.

Three parts work concurrently. s5cmd downloads into a private folder, `DigestClient` fetches the
published digests, and `ProofQueue` proves each file once its digest is known. Temporary failures
are retried; files that fail their proof are quarantined.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.digests import Answer, DigestClient
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.matrix import Matrix
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.batches import Command, Copy, choose_workers, make_batches
from binance_archive_kit.download.events import EventLog
from binance_archive_kit.download.ledger import Ledger
from binance_archive_kit.download.outcomes import Outcomes
from binance_archive_kit.download.proof_queue import ProofQueue, Step, Transfer
from binance_archive_kit.download.s5cmd import Copied, Event, Limits, S5cmd
from binance_archive_kit.errors import (
    AbsentChecksum,
    BadChecksum,
    BadZip,
    Corrupt,
    DiskFull,
    ListingError,
    ObjectError,
    StaleChecksum,
    Stalled,
    Truncated,
    disk_error,
)
from binance_archive_kit.planning.plan import Action, Plan
from binance_archive_kit.planning.planner import PlanningContext
from binance_archive_kit.storage.proof import Proof
from binance_archive_kit.storage.store import Store

#: Connections for published digests; each request is one short round trip.
_DIGEST_CONNECTIONS = 128
#: Unproven files above which no more events are taken from s5cmd.
_MAX_UNPROVEN = 4_096
#: Maximum seconds between two rounds of retries.
_LONGEST_PAUSE = 9.0
#: Errors that quarantine the bytes.
_BAD_BYTES = (Corrupt, BadZip, StaleChecksum)


class Transfers:
    """Transfers the objects of one plan, and proves unproven files of the store.

    Attributes
    ----------
    outcomes : Outcomes
        Where the outcome of each object is written.
    """

    def __init__(
        self,
        plan: Plan,
        context: PlanningContext,
        store: Store,
        ledger: Ledger,
        progress: Progress,
        events: EventLog,
    ) -> None:
        self._plan = plan
        self._config = plan.config
        self._context = context
        self._store = store
        self._ledger = ledger
        self._progress = progress
        self._events = events
        self.outcomes = Outcomes(ledger, progress, events)
        self._transfers: dict[str, Transfer] = {}
        self._retry_queue: list[Transfer] = []
        self._disk_full: DiskFull | None = None
        self._digests: DigestClient
        self._proofs: ProofQueue

    async def run(self) -> None:
        """Prove and download until each object has an outcome.

        Raises
        ------
        OSError
            If the store cannot be written.
        """
        stale = self._config.accept_stale_checksum
        with self._store.staging() as folder, self._store.records.recorder() as record:
            client = DigestClient(
                self._context.endpoint,
                self._context.matrix.archive.bucket,
                self._on_digest,
                connections=_DIGEST_CONNECTIONS,
                timeout=min(self._config.timeout_seconds, 60),
            )
            proofs = ProofQueue(self._store, record, stale, self._on_outcome)
            async with client as self._digests, proofs as self._proofs:
                await self._prove_files_in_store()
                await self._download(folder)

    # Files in the store without a proof

    async def _prove_files_in_store(self) -> None:
        unproven = self._ledger.pending(self._plan.rows_to_prove())
        if not unproven.height:
            return
        self._progress.begin("proving files found in the store", unproven.height)
        for row, key, size, etag, checksum in unproven.select(
            "row", "key", "size", "etag", "checksum"
        ).iter_rows():
            path = str(self._store.path(key))
            transfer = self._transfers[key] = Transfer(key, row, size, etag, path, in_store=True)
            self._proofs.expect(key)
            if not self._config.download_checksum:
                self._prove(transfer)
            elif checksum is False:
                self._retry_or_fail(transfer, _absent_checksum(key))
            else:
                self._ask_digests([transfer])
            await self._proofs.wait(_MAX_UNPROVEN)
        await self._proofs.wait()

    # Downloads

    async def _download(self, folder: Path) -> None:
        fetch = self._plan.rows_to_fetch()
        # Replace files of the store that failed their proof.
        rejected, self._retry_queue = self._retry_queue, []
        sizes = [*fetch["size"], *(transfer.size for transfer in rejected)]
        if not sizes:
            return
        self._progress.begin("collecting", len(sizes), _sum_sizes(sizes))
        archive = self._context.matrix.archive
        command = Command(
            self._context.endpoint,
            archive.bucket,
            archive.region,
            folder,
            self._context.flags,
            choose_workers(sizes, self._config.max_parallel_downloads),
            self._config.part_size_mb,
        )
        limits = Limits(self._config.timeout_seconds, self._listed_size, self._note_arriving)
        s5cmd = S5cmd(command, limits)
        # s5cmd treats one worker for `run` as two.
        single = not self._config.enable_batch_mode or command.workers == 1
        self._copy = s5cmd.copy_singly if single else s5cmd.copy
        await self._copy_batches(self._first_batches())
        self._retry_queue += rejected
        await self._retry()
        if self._disk_full is not None:
            self._fail_rest(self._disk_full)

    async def _retry(self) -> None:
        """Fetch the queued objects again, in rounds with increasing pauses."""
        pause = 1.0
        while self._retry_queue and self._disk_full is None:
            queue, self._retry_queue = self._retry_queue, []
            await _list_again(queue, self._context)
            # Unreported objects need no pause, and stalled ones have waited already.
            if any(t.failures and not isinstance(t.error, Stalled) for t in queue):
                await asyncio.sleep(pause)
                pause = min(3 * pause, _LONGEST_PAUSE)
            await self._copy_batches(self._retry_batches(queue))

    async def _copy_batches(self, batches: Iterator[Sequence[Copy]]) -> None:
        """Copy batches, and wait for the proof of each file."""
        async with aclosing(self._copy(batches)) as reports:
            async for events in reports:
                for event in events:
                    self._on_event(event)
                await self._proofs.wait(_MAX_UNPROVEN)
        await self._proofs.wait()

    def _first_batches(self) -> Iterator[Sequence[Copy]]:
        """Yield batches of the objects to fetch; objects without a checksum fail immediately."""
        most, days = self._config.batch_size, self._config.days(self._ledger.clock.created_at)
        for batch in make_batches(self._objects(), days, most):
            if self._disk_full is not None:
                return
            transfers = [self._transfers[key] for copy in batch for key in copy.keys]
            self._ask_digests(transfers)
            size = _sum_sizes([transfer.size for transfer in transfers])
            self._events.batch_started([transfer.key for transfer in transfers], size)
            yield batch

    def _objects(self) -> Iterator[tuple[str, bool]]:
        """Yield each key of the plan, and whether to fetch it."""
        columns = self._plan.frame.select("key", "size", "etag", "checksum", "action")
        for row, (key, size, etag, checksum, action) in enumerate(columns.iter_rows()):
            fetch = action != Action.KEEP.value
            if fetch:
                transfer = Transfer(key, row, size, etag)
                if self._config.download_checksum and checksum is False:
                    self._fail(transfer, _absent_checksum(key))
                    fetch = False
                else:
                    self._transfers[key] = transfer
            yield key, fetch

    def _retry_batches(self, queue: Sequence[Transfer]) -> Iterator[Sequence[Copy]]:
        most = self._config.batch_size
        for start in range(0, len(queue), most):
            if self._disk_full is not None:
                return
            batch = queue[start : start + most]
            self._ask_digests(batch)
            yield [Copy((transfer.key,)) for transfer in batch]

    def _ask_digests(self, transfers: Iterable[Transfer]) -> None:
        if self._config.download_checksum:
            self._digests.request(t.key for t in transfers if t.digest is None)

    # Events of s5cmd and of the digest client

    def _on_event(self, event: Event) -> None:
        transfer = self._transfers[event.key]
        if isinstance(event, Copied):
            transfer.path = event.path
            self._proofs.expect(event.key)
            self._progress.arriving = 0
            if transfer.digest is not None or not self._config.download_checksum:
                self._prove(transfer)
        elif not event.final and transfer.retry_unreported():
            self._retry_queue.append(transfer)
        else:
            self._retry_or_fail(transfer, event.error)

    def _on_digest(self, key: str, digest: Answer) -> None:
        transfer = self._transfers.get(key)
        if transfer is None or transfer.digest is not None:
            return
        transfer.digest = digest
        if transfer.path is not None:
            self._prove(transfer)

    def _listed_size(self, key: str) -> int | None:
        transfer = self._transfers.get(key)
        return transfer.size if transfer is not None else None

    def _note_arriving(self, count: int) -> None:
        self._progress.arriving = count

    def _prove(self, transfer: Transfer) -> None:
        """Queue a file for its proof, unless the request for its digest failed."""
        if isinstance(transfer.digest, ObjectError):
            self._retry_or_fail(transfer, transfer.digest)
        else:
            self._proofs.put(transfer)

    # Outcomes

    def _on_outcome(self, transfer: Transfer, outcome: Proof | ObjectError) -> None:
        if isinstance(outcome, ObjectError):
            self._retry_or_fail(transfer, outcome)
            return
        self._finish(transfer)
        self.outcomes.prove(
            transfer.row, transfer.key, outcome.size, outcome.by, kept=transfer.in_store
        )

    def _retry_or_fail(self, transfer: Transfer, error: ObjectError) -> None:
        self._events.checksum_failed(error)
        if isinstance(error, DiskFull):
            self._disk_full = error
        match transfer.next_step(error, listed=self._config.listing):
            case Step.ASK_DIGEST:
                self._ask_digests([transfer])
            case Step.RETRY:
                self._queue_retry(transfer)
            case Step.REPLACE:
                self._replace(transfer, error)
            case Step.SKIP:
                self._skip(transfer)
            case Step.FAIL:
                self._fail(transfer, error)

    def _queue_retry(self, transfer: Transfer) -> None:
        self._proofs.discard(transfer.key)
        self._retry_queue.append(transfer)

    def _replace(self, transfer: Transfer, error: ObjectError) -> None:
        """Quarantine a file of the store that failed its proof, and queue a download."""
        try:
            self._quarantine(transfer, error)
        except OSError as problem:
            transfer.bad_file = None
            detail = f"{error.detail}; {_not_quarantined(problem)}"
            self._fail(transfer, Corrupt(transfer.key, detail))
            return
        transfer.start_over()
        self._queue_retry(transfer)

    def _fail(self, transfer: Transfer, error: ObjectError) -> None:
        unproven = isinstance(error, AbsentChecksum | BadChecksum) and not transfer.in_store
        if transfer.bad_file is not None and (isinstance(error, _BAD_BYTES) or unproven):
            try:
                place = f"the bytes are in {self._quarantine(transfer, error)}"
            except OSError as problem:
                place = _not_quarantined(problem)
            error = type(error)(transfer.key, f"{error.detail}; {place}")
        self._finish(transfer)
        self.outcomes.fail(transfer.row, error)

    def _quarantine(self, transfer: Transfer, error: ObjectError) -> Path | None:
        if transfer.bad_file is None or not transfer.bad_file.exists():
            return None
        return self._store.quarantine(transfer.bad_file, error, transfer.expected())

    def _skip(self, transfer: Transfer) -> None:
        """Record an object that was planned without a listing, and is not in the archive."""
        self._finish(transfer)
        self.outcomes.skip(transfer.row, _absence(transfer.key, self._context.matrix))

    def _finish(self, transfer: Transfer) -> None:
        self._transfers.pop(transfer.key, None)
        self._proofs.discard(transfer.key)

    def _fail_rest(self, error: DiskFull) -> None:
        """Fail all objects without an outcome, since the disk is full."""
        for key, transfer in list(self._transfers.items()):
            self._fail(transfer, DiskFull(key, error.detail))
        rest = self._ledger.pending(self._plan.frame.with_row_index("row"))
        for row, key in rest.select("row", "key").iter_rows():
            error = DiskFull(key, "not tried: the disk is full")
            self._fail(Transfer(key, row, None, None), error)


async def _list_again(queue: Sequence[Transfer], context: PlanningContext) -> None:
    """List objects again whose bytes did not match, since they may have been re-issued."""
    transfers = {t.key: t for t in queue if isinstance(t.error, Corrupt | Truncated)}
    if not transfers:
        return
    # If the listing fails, the sizes and ETags of the plan remain.
    with suppress(ListingError):
        async with context.listing_client() as client:
            described = await client.describe(transfers)
        for key, listed in described.items():
            transfers[key].size, transfers[key].etag = listed.size, listed.etag


def _sum_sizes(sizes: Sequence[int | None]) -> int | None:
    """Return the sum of sizes in bytes; None if one is unknown."""
    return None if None in sizes else sum(filter(None, sizes))


def _absence(key: str, matrix: Matrix) -> Absence:
    """Return the absence of an object: it is missing, or not published yet."""
    found = ObjectKey.parse(key)
    early = datetime.now(UTC) < matrix.published_at(found.start, found.folder.partition)
    reason = Reason.NOT_PUBLISHED if early else Reason.ABSENT
    detail = "not published yet" if early else "the archive does not have it"
    return Absence.of(found.folder, reason, detail, found.start, found.end, key)


def _absent_checksum(key: str) -> AbsentChecksum:
    return AbsentChecksum(
        key, "the archive lists no checksum of it; download_checksum=False accepts its ETag"
    )


def _not_quarantined(problem: OSError) -> str:
    return f"the bytes could not be quarantined: {disk_error(problem, 'quarantine')}"
