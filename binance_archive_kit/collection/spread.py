"""Spread a collection over the workers of an executor, shard by shard."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.collection.executors import Window, check_executor, outliving_interrupts
from binance_archive_kit.collection.joined import Joined
from binance_archive_kit.collection.shard_run import (
    ShardOutcome,
    ShardTask,
    run_shard,
    this_process,
)
from binance_archive_kit.collection.sharding import Division, check_objects, divide, read_whole
from binance_archive_kit.collection.splitting import Shard
from binance_archive_kit.collection.stored_rows import PART, detail_files
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.events import EventLog
from binance_archive_kit.download.ledger import Clock, Ledger
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import ArchiveKitError, WorkflowError, field_error, warn_user
from binance_archive_kit.planning.config import Config, read_config
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan
from binance_archive_kit.planning.requests import expand
from binance_archive_kit.planning.selection import SymbolSelection
from binance_archive_kit.planning.symbol_lists import record_selections
from binance_archive_kit.query.store_cache import StoreCache
from binance_archive_kit.reading.feed_table import feed_table
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.layout import BaseStorage
from binance_archive_kit.storage.places import store_at

#: Times that a shard is run whose worker died or whose result was lost.
_TRIES = 3
#: Shards without a result, one after another, after which the others are not tried; more if more
#: are submitted at once.
_IN_A_ROW = 20
#: Seconds that a broken executor has to fail its futures.
_ENDING = 10.0
#: Seconds without a result after which it is looked whether there are workers, and after which a
#: cluster that has none is worth a warning.
_LOOK, _LONG = 2.0, 30.0
#: Different warnings of workers that are shown.
_MOST_WARNINGS = 20


@dataclass(frozen=True, slots=True)
class SpreadOptions:
    """How a collection is spread.

    Attributes
    ----------
    executor : Executor
    objects : int
        Most objects of a shard.
    storage : BaseStorage or None
    warnings : list of str
        Receives the warnings of the workers, each once.
    """

    executor: Executor
    objects: int
    storage: BaseStorage | None = None
    warnings: list[str] = field(default_factory=list)


def prepare_spread(
    config: Config | Plan | None,
    options: SpreadOptions,
    events: EventLog,
    fields: dict[str, Any],
) -> tuple[Callable[[], Coroutine[Any, Any, CollectionResult]], Progress]:
    """Validate the arguments of a collection that is spread; return its work and progress."""
    progress = Progress()
    with events.emitting_errors():
        if isinstance(config, Plan):
            raise field_error(
                "executor",
                "a plan is executed in this process; give its configuration, plan.config",
            )
        check_objects("shard_objects", options.objects)
        check_executor(options.executor, options.storage)
        asked = read_config(config, **fields)
        context = read_whole(asked, options.storage)

    async def work() -> CollectionResult:
        with events.run(context.config.output_directory):
            clock = Clock()
            division = await divide(asked, context, options.objects)
            with outliving_interrupts(options.executor):
                result = await Spread(division, options, progress, events, clock).run()
            events.run_finished(result)
        return result

    return work, progress


@dataclass(slots=True)
class _Try:
    """A shard that is submitted."""

    number: int
    shard: Shard
    attempt: int = 1


@dataclass
class Spread:
    """Runs the shards of a configuration on an executor.

    Attributes
    ----------
    division : Division
    options : SpreadOptions
    progress : Progress
    events : EventLog
    clock : Clock
        The start of the run.
    id : str
    """

    division: Division
    options: SpreadOptions
    progress: Progress
    events: EventLog
    clock: Clock
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        """Prepare an empty result."""
        place = self.division.config.output_directory
        self._store = store_at(place, self.options.storage)
        ledger = Ledger(bytearray(), self.clock, self._store.path)
        empty = Plan(
            self.division.config,
            pl.DataFrame(schema=PLAN_SCHEMA),
            selections=self.division.selections,
            storage=self.options.storage,
        )
        self._joined = Joined(empty, ledger, detail_files(place, self.id), PART)
        self._queue: asyncio.Queue[Future[Any]] = asyncio.Queue()
        self._running: dict[Future[Any], _Try] = {}
        self._again: deque[_Try] = deque()
        self._window = Window(self.options.executor)
        self._without_workers = False
        self._in_a_row = 0
        self._is_broken = False

    async def run(self) -> CollectionResult:
        """Run all shards.

        Raises
        ------
        WorkflowError
            If the executor broke, if many shards in a row have no result, or if every object
            failed.
        """
        total = sum(1 for _ in self.division.shards())
        self.progress.begin("collecting", total, unit="shards")
        todo = (_Try(*each) for each in enumerate(self.division.shards(), 1))
        problem = None
        try:
            while problem is None:
                while len(self._running) < self._window.size():
                    following = self._again.popleft() if self._again else next(todo, None)
                    if following is None:
                        break
                    problem = self._submit(following)
                    if problem is not None:
                        break
                if problem is not None or not self._running:
                    break
                future = await self._next()
                problem = self._settle(self._running.pop(future), future)
        except BaseException:
            self._joined.discard()
            raise
        finally:
            if not self._is_broken:
                for future in self._running:
                    future.cancel()
        await self._add_finished()
        return await asyncio.to_thread(self._finish, problem)

    async def _next(self) -> Future[Any]:
        """Wait for the next shard that ends; if there are no workers meanwhile, say so."""
        since = time.monotonic()
        while True:
            with suppress(TimeoutError):
                # `wait_for` loses an interrupt at the moment of a result, before Python 3.12.
                async with asyncio.timeout(_LOOK):
                    future = await self._queue.get()
                self.progress.waiting = ""
                return future
            if not await asyncio.to_thread(self._window.is_empty):
                self.progress.waiting, since = "", time.monotonic()
                continue
            self.progress.waiting = "waiting for workers"
            if not self._without_workers and time.monotonic() - since > _LONG:
                self._without_workers = True
                warn_user(
                    "executor: its cluster has no workers, and the collection waits for them; "
                    "start some, for example by cluster.scale(2), or interrupt it"
                )

    def _submit(self, each: _Try) -> str | None:
        """Submit a shard; return why the executor does not take it."""
        if each.attempt == 1 and each.shard.most:
            self.events.emit(
                "batch_started", batch=each.number, objects=each.shard.most, size_bytes=None
            )
        config = each.shard.config(self.division.config).to_json()
        task = ShardTask(
            config,
            self.options.storage,
            self.id,
            each.number,
            each.attempt,
            each.shard.most,
            this_process(),
        )
        try:
            future = self.options.executor.submit(run_shard, task)
        except Exception as error:  # it is broken, was shut down, or its cluster is gone
            self._is_broken = isinstance(error, BrokenExecutor)
            return _broken(error)
        self._running[future] = each
        loop = asyncio.get_running_loop()

        def done(future: Future[Any]) -> None:
            with suppress(RuntimeError):  # the run was interrupted, and its loop has ended
                loop.call_soon_threadsafe(self._queue.put_nowait, future)

        future.add_done_callback(done)
        return None

    def _settle(self, each: _Try, future: Future[Any]) -> str | None:
        """Use the result of a shard, or run it again; return why the others cannot go on."""
        error = CancelledError() if future.cancelled() else future.exception()
        if isinstance(error, BrokenExecutor):
            self._is_broken = True
            self._running[future] = each
            return _broken(error)
        outcome = None if error is not None else future.result()
        if not isinstance(outcome, ShardOutcome):
            reason = f"{type(error).__name__}: {error}" if error else "its result was lost"
            if each.attempt < _TRIES:
                each.attempt += 1
                self._again.append(each)
                return None
            problem = WorkflowError(f"its worker failed {_TRIES} times, at last by {reason}")
            outcome = ShardOutcome(problem=problem)
        self._add(each, outcome)
        self._in_a_row = self._in_a_row + 1 if outcome.problem is not None else 0
        if self._in_a_row >= max(_IN_A_ROW, self._window.size()):
            count = f"{self._in_a_row:,} shards in a row"
            return f"{count} have no result, the last one: {outcome.problem}"
        return None

    async def _add_finished(self) -> None:
        """Add the results that arrived before the executor broke.

        A pool that breaks fails all its futures, and then ends its other processes. If a future is
        cancelled meanwhile, Python 3.11 does not end them, and they go on writing.
        """
        until = time.monotonic() + _ENDING
        while self._is_broken and time.monotonic() < until:
            if all(future.done() for future in self._running):
                break
            await asyncio.sleep(0.05)
        for future, each in self._running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                outcome = future.result()
                if isinstance(outcome, ShardOutcome):
                    self._add(each, outcome)

    def _add(self, each: _Try, outcome: ShardOutcome) -> None:
        counts = self._joined.add(each.number, each.shard, outcome)
        self.progress.count(1, outcome.downloaded_bytes)
        self.progress.failed += counts["failed"]
        for failure in outcome.failures:
            self.events.file_failed(failure)
        if each.shard.most:
            self.events.emit(
                "batch_finished",
                batch=each.number,
                downloaded=counts["downloaded"],
                failed=counts["failed"],
                seconds=round(outcome.seconds, 3),
            )
        for text in outcome.warnings:
            if text not in self.options.warnings:
                self.options.warnings.append(text)
        del self.options.warnings[_MOST_WARNINGS:]

    def _finish(self, problem: str | None) -> CollectionResult:
        """Return the result of all shards, or raise it with what kept the others from running."""
        if problem is not None:
            left = self.progress.total - self.progress.done
            self._joined.add_failure(f"{left:,} of {self.progress.total:,} shards", problem)
        joined = self._joined
        self._join_published(joined.feeds())
        selections = joined.selections()
        result = joined.result(self._notes(selections))
        if selections and joined.streams:
            records, config = self._store.records, self.division.config
            record_selections(records, selections, config, joined.streams)
        if problem is not None:
            raise WorkflowError(
                f"the collection is not finished: {problem}. "
                f"{self.progress.done:,} of {self.progress.total:,} shards are done; "
                "collect again to continue",
                result,
            )
        if result.outcome == "failed":
            raise WorkflowError(f"nothing was collected: {result.failures_in_words()}", result)
        return result

    def _join_published(self, feeds: Iterable[tuple[str, str]]) -> None:
        """Join the records and the lists of tables that the shards have written to a bucket."""
        store = self._store
        if not isinstance(store, BucketStore) or not feeds:
            return
        try:
            # Of a large run, the records do not fit into an index of this machine.
            store.records.compact(to_index=False)
            names = sorted(feeds)
            StoreCache(store).join_tables(feed_table(Market(m), DataType(d)) for m, d in names)
        except (ArchiveKitError, OSError) as error:  # of the bucket, or of the local disk
            self.options.warnings.append(
                f"records and tables of the shards could not be joined ({error}); "
                f"bak.store({store.root!r}).build() does it"
            )

    def _notes(self, selections: tuple[SymbolSelection, ...]) -> list[str]:
        living = {selection.feed: selection.living for selection in selections}
        splitter = self.division.splitter
        requests = expand(self.division.asked, splitter.matrix, splitter.now, living)
        notes = [*map(str, (*requests.warnings, *requests.notes))]
        notes += [f"symbols: {selection}" for selection in selections]
        if self._without_workers:
            notes.append("executor: its cluster had no workers for some time")
        place = self.division.config.output_directory
        if isinstance(place, str) and self.progress.total > 1 and self.progress.done_bytes:
            notes.append(
                f"tables: each shard wrote its own; bak.store({place!r}).build() merges them, so "
                "that queries of many symbols take less time"
            )
        return notes


def _broken(error: Exception) -> str:
    reason = f"{type(error).__name__}: {error}"
    if not isinstance(error, BrokenExecutor):
        return f"the executor takes no more work ({reason}); make a new one"
    return (
        "a worker of the executor died, for example for want of memory, or of the line "
        "if __name__ == '__main__': in the script, and the executor cannot be used again "
        f"({reason}); make a new one"
    )
