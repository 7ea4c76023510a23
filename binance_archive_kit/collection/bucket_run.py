"""Execute a plan into a bucket: download and prove chunks on the local disk, and upload them.

Three stages work concurrently, each on another chunk: the download, which is that of a local
store; the upload, with the records of the proofs; and the tables of the chunks before. An object
is proven once its bytes have arrived in the bucket and its proof is recorded there. If the run
ends before, the next one fetches it again, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from binance_archive_kit.archive.enums import DataType
from binance_archive_kit.collection.chunking import MOST_BYTES, Chunk, make_chunks
from binance_archive_kit.collection.spool import Load, Spool
from binance_archive_kit.collection.uploads import Arrivals, Uploads
from binance_archive_kit.display import render
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.events import EventLog
from binance_archive_kit.download.ledger import Clock, Ledger, State
from binance_archive_kit.download.outcomes import Outcomes
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.download.run import disk_errors, finish
from binance_archive_kit.download.transfers import Transfers
from binance_archive_kit.errors import (
    ArchiveKitError,
    DiskFull,
    DiskSpaceError,
    NotUploaded,
    ObjectError,
    warn_user,
)
from binance_archive_kit.planning.plan import Plan, PlanReason
from binance_archive_kit.planning.planner import PlanningContext
from binance_archive_kit.planning.symbol_lists import record_symbols
from binance_archive_kit.storage.bucket_store import BucketStore

_T = TypeVar("_T")
#: A run fetches no more after so many chunks in a row of which nothing could be uploaded, or after
#: so many objects in a row that the bucket refused.
_HOPELESS_CHUNKS, _REFUSED_OBJECTS = 3, 8
_UNRECORDED = "the local disk did not take the record of its proof"


class BucketRun:
    """Executes one plan whose store is a bucket. The parameters are those of `download.run.Run`."""

    def __init__(
        self,
        plan: Plan,
        context: PlanningContext,
        progress: Progress,
        events: EventLog,
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._context = context
        self._progress = progress
        self._events = events
        self._store = BucketStore(str(plan.config.output_directory))
        self._ledger = Ledger(bytearray(len(plan)), clock, self._store.bucket.uri)
        self._outcomes = Outcomes(self._ledger, progress, events)
        self._uploads = Uploads(self._store.bucket)
        self._record: Callable[..., None]
        #: Chunks that are downloaded or uploaded now.
        self._loads: list[Load] = []
        #: Why nothing more is fetched, and the objects of chunks without any success in a row.
        self._hopeless: ObjectError | None = None
        self._untaken: list[int] = []

    async def run(self) -> CollectionResult:
        """Execute the plan, and return the outcome of each object.

        Raises
        ------
        WorkflowError
            If every object failed, and there was one at least.
        DiskSpaceError
            If the local disk has no room for two chunks.
        StoreError
            If the bucket cannot be read or written.
        """
        plan = self._plan
        self._progress.planned = len(plan)
        self._keep_proven()
        if plan.selections and len(plan):
            await asyncio.to_thread(record_symbols, self._store.records, plan)
        if chunks := make_chunks(plan):
            with disk_errors(self._store.private, self._store.private):
                await self._transfer(chunks)
        return finish(plan, self._ledger, self._store.records)

    def _keep_proven(self) -> None:
        rows = self._plan.rows_with(PlanReason.PROVEN).select("row", "key", "size")
        unlisted = rows.filter(rows["size"].is_null())["key"].to_list()
        proofs = self._store.records.proofs(keys=unlisted) if unlisted else {}
        for row, key, size in rows.iter_rows():
            if size is None:  # 0 if it was removed since the plan was made
                size = proofs[key].stamp.size if key in proofs else 0
            self._outcomes.keep(row, key, size)

    async def _transfer(self, chunks: Sequence[Chunk]) -> None:
        count, known = sum(chunk.count for chunk in chunks), self._plan.download_bytes is not None
        size = sum(chunk.size for chunk in chunks) if known else None
        self._progress.begin("collecting", count, size)
        watch = asyncio.ensure_future(self._watch_arrivals())
        try:
            with self._store.staging() as folder, self._store.records.recorder() as self._record:
                self._check_space(chunks, folder)
                await self._pass_through(chunks, folder)
        finally:
            watch.cancel()

    def _check_space(self, chunks: Sequence[Chunk], folder: Path) -> None:
        """Raise a DiskSpaceError if two chunks, and files that wait for tables, do not fit."""
        sizes = sorted((chunk.size for chunk in chunks), reverse=True)
        fetched = self._plan.rows_to_fetch()
        events = [kind.value for kind in DataType if kind.has_events]
        waiting = fetched.filter(~fetched["data_type"].cast(pl.String).is_in(events))["size"].sum()
        # With little room, fewer files wait than could.
        need = sum(sizes[:2]) + min(int(waiting), MOST_BYTES)
        free = Spool(folder).store.free_bytes()
        if need > free:
            raise DiskSpaceError(
                f"output_directory: files pass through {self._store.private} on their way to "
                f"{self._store.root}; that disk has {render.size(free)} free, and "
                f"{render.size(need)} are needed; free some space, or set XDG_CACHE_HOME to a "
                "folder on another disk"
            )

    async def _watch_arrivals(self) -> None:
        while True:
            await asyncio.sleep(self._ledger.arrivals.step)
            self._ledger.note_arrivals(self._count_arriving())

    def _count_arriving(self) -> int:
        """Return the bytes of the chunks that have come from the archive, and show them."""
        progress = [load.progress for load in self._loads]
        arrived = sum(each.done_bytes + each.arriving for each in progress)
        # They have done half of their way: the bucket is still before them.
        self._progress.arriving = arrived // 2
        return arrived

    # The stages

    async def _pass_through(self, chunks: Sequence[Chunk], folder: Path) -> None:
        """Pass all chunks through the stages."""
        uploads, tables = _Stage(), _Stage()
        spool = Spool(folder)
        try:
            for chunk in chunks:
                if self._hopeless is not None:
                    self._give_up(chunk, self._hopeless)
                    continue
                load = await self._download(chunk, spool)
                await uploads.start(partial(self._upload, load))
                if spool.is_full:
                    await uploads.wait()
                    await tables.start(partial(self._build_tables, spool))
                    spool = Spool(folder)
            await uploads.wait()
            await tables.start(partial(self._build_tables, spool))
            await tables.wait()
        finally:
            self._uploads.stop()
            await uploads.end()
            await tables.end()

    async def _download(self, chunk: Chunk, spool: Spool) -> Load:
        """Download a chunk into a spool, and prove its files."""
        load = Load.of(chunk, self._plan, spool, self._ledger.clock)
        self._loads.append(load)
        if load.plan.rows_to_prove().height:
            await _on_thread(load.fetch_kept, self._store.bucket)
        events = _SpoolEvents(self._events)
        transfers = Transfers(
            load.plan, self._context, spool.store, load.ledger, load.progress, events
        )
        await transfers.run()
        if full := next((f for f in load.ledger.failures if isinstance(f, DiskFull)), None):
            self._hopeless = DiskFull(full.key, "not tried: the local disk is full")
        load.take_proofs()
        return load

    async def _upload(self, load: Load) -> None:
        """Upload the files of a chunk, and record their proofs."""
        arrivals = await _on_thread(self._upload_and_record, load)
        self._settle(load, arrivals)
        self._loads.remove(load)
        self._count_arriving()
        if arrivals.stamps:
            self._untaken.clear()
        elif load.proofs:
            self._untaken.append(len(load.proofs))
            refused = arrivals.refused and sum(self._untaken) >= _REFUSED_OBJECTS
            if refused or len(self._untaken) >= _HOPELESS_CHUNKS:
                why = next(iter(arrivals.errors.values()))
                detail = f"not tried: {self._store.root} takes nothing: {why}"
                self._hopeless = NotUploaded("", detail)

    def _upload_and_record(self, load: Load) -> Arrivals:
        arrivals = self._uploads.put(load.files(), load.there)
        # The bytes first: a proof without its object would be false.
        stamps = arrivals.stamps
        proofs = [replace(load.proofs[key], stamp=stamp) for key, stamp in stamps.items()]
        if error := self._uploads.insist(partial(self._record, proofs)):
            why = f"its proof could not be recorded: {error}"
            arrivals.errors.update(dict.fromkeys(stamps, why))
            stamps.clear()
        load.quarantine(self._uploads)
        return arrivals

    async def _build_tables(self, spool: Spool) -> None:
        """Build the tables of a spool's files, publish them, and delete the spool."""
        try:
            await _on_thread(spool.publish_tables, self._uploads)
        except ArchiveKitError as error:
            # The zips are there, and `build` makes up for it.
            build = f"bak.store({self._store.root!r}).build()"
            warn_user(f"tables could not be written ({error}); {build} does it")
        await _on_thread(spool.remove)

    # Outcomes

    def _settle(self, load: Load, arrivals: Arrivals) -> None:
        """Take over the outcomes of a chunk."""
        failures = {failure.key: failure for failure in load.ledger.failures}
        absent = (*load.ledger.missing, *load.ledger.not_published)
        absences = {absence.last_key: absence for absence in absent}
        outcomes = self._outcomes
        for row, key, state in load.outcomes():
            if state == State.ABSENT:
                outcomes.skip(row, absences[key])
            elif state == State.FAILED:
                outcomes.fail(row, load.elsewhere(failures[key]))
            elif key not in arrivals.stamps:
                outcomes.fail(row, NotUploaded(key, arrivals.errors.get(key, _UNRECORDED)))
            else:
                size, by = arrivals.stamps[key].size, load.proofs[key].by
                outcomes.prove(row, key, size, by, kept=state == State.KEPT)
        load.release(arrivals.stamps)

    def _give_up(self, chunk: Chunk, error: ObjectError) -> None:
        """Fail the objects of a chunk that is not tried."""
        keys = self._plan.frame["key"]
        for row in chunk.needed:
            self._outcomes.fail(row, type(error)(keys[row], error.detail))


class _SpoolEvents(EventLog):
    """The events of a chunk: those of its files follow once these are in the bucket."""

    def __init__(self, events: EventLog) -> None:
        super().__init__()
        self._whole = events

    def __bool__(self) -> bool:
        return bool(self._whole)

    def batch_started(self, keys: Sequence[str], size: int | None) -> None:
        self._whole.batch_started(keys, size)

    def checksum_failed(self, error: ObjectError) -> None:
        self._whole.checksum_failed(error)


class _Stage:
    """A stage of the run, which works on one chunk at a time."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start work once the work before has ended; raise its error."""
        await self.wait()
        self._task = asyncio.create_task(work())

    async def wait(self) -> None:
        """Wait for the work; raise its error. Cancelling the caller does not cancel the work."""
        if self._task is not None:
            await asyncio.shield(self._task)
            self._task = None

    async def end(self) -> None:
        """Wait for the work in any case, since it has files open."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


async def _on_thread(work: Callable[..., _T], *arguments: object) -> _T:
    """Run work on a thread; if the caller is cancelled, wait for its end all the same."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
