"""A collection spread over workers: exact, whatever happens to them, and nothing twice."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.collection import spread
from binance_archive_kit.display import progress
from tests.e2e.conftest import Ask, Serve
from tests.e2e.test_storage import ByDay
from tests.support.bucket import Bucket, daily_klines, priced, zips_of
from tests.support.bucket_stores import ask_elsewhere
from tests.support.checks import assert_holds
from tests.support.s3_server import Fault, LocalS3, Request

SYMBOLS = ["BTCUSDT", "ETHUSDT", "ADAUSDT"]
DAYS = 40


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    return {key: body for name in SYMBOLS for key, body in daily_klines(name, days=DAYS).items()}


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Lend two processes; starting them takes a second."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def zips_fetched(server: LocalS3) -> Counter[str]:
    return Counter(
        key for method, key in server.requests if method == "GET" and key.endswith(".zip")
    )


def test_processes_collect_what_one_does(
    serve: Serve, ask: Ask, bucket: Bucket, processes: Executor, tmp_path: Path
) -> None:
    server = serve(bucket)
    config = ask(server, *SYMBOLS, "NEVERUSDT", days=DAYS + 5, data_types=["klines", "bookDepth"])
    result = bak.collect(config, executor=processes, shard_objects=25)
    assert result.outcome == "complete"
    assert_holds(config.output_directory, zips_of(bucket))
    assert max(zips_fetched(server).values()) == 1
    alone = bak.collect(config.replace(output_directory=tmp_path / "alone"))
    assert set(result.plan.frame["key"]) == set(alone.plan.frame["key"])
    assert sorted(result.metadata.source_files) == sorted(alone.metadata.source_files)
    assert result.summary().equals(alone.summary())
    assert [str(each) for each in result.missing] == [str(each) for each in alone.missing]
    assert {(a.symbol, a.reason) for a in result.unavailable} == {
        (a.symbol, a.reason) for a in alone.unavailable
    }
    # Again: nothing is fetched.
    server.requests.clear()
    again = bak.collect(config, executor=processes, shard_objects=25)
    assert again.collection_stats["skipped_tasks"] == len(zips_of(bucket))
    assert not zips_fetched(server)


def test_it_can_be_awaited_and_paths_are_absolute(
    serve: Serve, ask: Ask, threads: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = ask(serve(daily_klines("BTCUSDT")), output_directory="here")
    result = asyncio.run(_await(config, executor=threads))
    assert result.output_directory == str(tmp_path / "here")
    assert len(result.output_files) == 5


async def _await(config: bak.CollectionConfig, **options: Any) -> bak.CollectionResult:
    return await bak.acollect(config, **options)


def test_patterns_are_listed_once_and_dead_symbols_left_out(
    serve: Serve, ask: Ask, bucket: Bucket, threads: Executor
) -> None:
    old = daily_klines("OLDUSDT", bak.DateRange(start="2024-01-01", end="2024-01-02").start, 2)
    server = serve({**bucket, **old})
    config = ask(server, "*USDT", days=DAYS)
    names = [name for shard in bak.shards(config, objects=10) for name in shard.symbols]
    assert set(names) == {*SYMBOLS, "OLDUSDT"}
    assert len(server.requests) <= 2
    result = bak.collect(config, executor=threads, shard_objects=15)
    plan = bak.plan(config)
    assert len(result.output_files) == len(plan) == 3 * DAYS
    assert not (*result.missing, *result.unavailable, *result.not_published)
    [chosen], [planned] = result.plan.selections, plan.selections
    assert chosen.ended == planned.ended == ("OLDUSDT",)
    # The store knows the list, as after any other collection.
    offline = bak.coverage(config.replace(listing=False))
    assert offline.verdict == bak.coverage(config).verdict


def test_a_shard_without_a_result_does_not_lose_the_others(
    serve: Serve, ask: Ask, bucket: Bucket, threads: Executor
) -> None:
    """The listing of one symbol is refused, and all objects of another one."""

    def refuse(request: Request) -> Fault | None:
        if "ETHUSDT" in request.prefix or "ETHUSDT" in request.key:
            return Fault(status=403)
        return Fault(status=403) if request.key and "ADAUSDT" in request.key else None

    server = serve(bucket, refuse)
    result = bak.collect(ask(server, *SYMBOLS, days=5), executor=threads, shard_objects=5)
    assert result.outcome == "partial"
    assert len(result.output_files) == 5
    assert Counter(each.reason for each in result.failures) == {"forbidden": 5, "shard_failed": 1}
    assert result.collection_stats["failed_tasks"] == 6
    assert "ETHUSDT 1h, 2025-07-01 to 2025-07-05" in str(result)
    with pytest.raises(bak.WorkflowError, match="shard_failed"):
        result.raise_for_failures()


def test_an_archive_that_is_down_ends_the_run_early(
    serve: Serve, ask: Ask, threads: Executor
) -> None:
    server = serve({}, lambda request: Fault(status=403))
    config = ask(server, *(f"C{number}USDT" for number in range(200)), days=1)
    with pytest.raises(bak.WorkflowError, match="20 shards in a row have no result") as caught:
        bak.collect(config, executor=threads, shard_objects=1)
    assert caught.value.result is not None
    assert caught.value.result.collection_stats["failed_tasks"] < 40


class Forgetful(Executor):
    """Runs a shard at once, and spoils the result of some tries."""

    def __init__(self, *spoilt: object) -> None:
        self._spoilt = [*spoilt]
        self.tries = 0

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.tries += 1
        found = function(*args, **options)
        spoil = self._spoilt.pop(0) if self._spoilt else None
        if isinstance(spoil, CancelledError):
            future.cancel()
            future.set_running_or_notify_cancel()
        elif isinstance(spoil, BaseException):
            future.set_exception(spoil)
        else:
            future.set_result(found if spoil is None else None)
        return future


@pytest.mark.parametrize("spoilt", [CancelledError(), OSError("connection lost"), "forgotten"])
def test_a_lost_result_is_fetched_again_but_not_its_objects(
    serve: Serve, ask: Ask, spoilt: object
) -> None:
    server = serve(daily_klines("BTCUSDT"))
    executor = Forgetful(spoilt, spoilt)
    result = bak.collect(ask(server), executor=executor, shard_objects=2)
    assert result.outcome == "complete"
    assert executor.tries == 5
    assert set(zips_fetched(server).values()) == {1}


def test_a_shard_is_lost_a_few_times_only(serve: Serve, ask: Ask) -> None:
    executor = Forgetful(*[OSError("connection lost")] * 3)
    with pytest.raises(bak.WorkflowError, match=r"its worker failed 3 times.*connection lost"):
        bak.collect(ask(serve(daily_klines("BTCUSDT"))), executor=executor)
    assert executor.tries == 3


def test_an_executor_that_broke_says_what_to_do(serve: Serve, ask: Ask) -> None:
    config = ask(serve(daily_klines("BTCUSDT")))
    executor = Forgetful(None, BrokenExecutor("a process died"))
    with pytest.raises(bak.WorkflowError, match=r"cannot be used again .*make a new one") as caught:
        bak.collect(config, executor=executor, shard_objects=2)
    result: Any = caught.value.result
    # The third shard had its result before the second one broke the executor.
    assert len(result.output_files) == 3
    assert result.outcome == "partial"
    assert "1 of 3 shards: shard_failed" in str(result.failures[0])
    assert bak.collect(config).outcome == "complete"


def test_results_that_arrived_before_the_executor_broke_are_kept(serve: Serve, ask: Ask) -> None:
    config = ask(serve(daily_klines("BTCUSDT")))
    # All shards are submitted before the first result is used.
    executor = Forgetful(BrokenExecutor("a process died"))
    with pytest.raises(bak.WorkflowError, match="4 of 5 shards are done") as caught:
        bak.collect(config, executor=executor, shard_objects=1)
    result: Any = caught.value.result
    assert len(result.output_files) == 4


def test_an_executor_that_was_shut_down(serve: Serve, ask: Ask) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(bak.WorkflowError, match=r"takes no more work.*make a new one"):
        bak.collect(ask(serve(daily_klines("BTCUSDT"))), executor=executor)


def test_an_executor_whose_cluster_is_gone(serve: Serve, ask: Ask) -> None:
    class Gone(ThreadPoolExecutor):
        def submit(self, *work: object, **named: object) -> Future[Any]:  # type: ignore[override]
            raise EOFError("Client is closed")

    with Gone() as executor, pytest.raises(bak.WorkflowError, match=r"Client is closed.*new one"):
        bak.collect(ask(serve(daily_klines("BTCUSDT"))), executor=executor)


class Cluster(ThreadPoolExecutor):
    """Has no workers at first, as a cluster of Dask that is about to start."""

    def __init__(self) -> None:
        super().__init__(1)
        self._max_workers: Any = None
        self._client = self
        self.started = threading.Event()

    def nthreads(self) -> dict[str, int]:
        return {"tcp://10.0.0.1:1": 1} if self.started.is_set() else {}

    def submit(self, work: Any, /, *args: Any, **named: Any) -> Future[Any]:
        self._max_workers = 1
        future = super().submit(self._run, work, *args, **named)
        self._max_workers = None
        return future

    def _run(self, work: Any, *args: Any) -> object:
        self.started.wait(60)
        return work(*args)


def test_a_cluster_without_workers_is_waited_for(
    serve: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "_LOOK", 0.05)
    monkeypatch.setattr(spread, "_LONG", 0.2)
    lines: list[str] = []
    monkeypatch.setattr(progress, "_default_show", lambda: lambda line, *_: lines.append(line))
    with Cluster() as cluster:
        threading.Timer(1.5, cluster.started.set).start()
        with pytest.warns(bak.ArchiveKitWarning, match=r"no workers.*scale") as caught:
            result = bak.collect(ask(serve(daily_klines("BTCUSDT"))), executor=cluster)
    assert len(caught) == 1
    assert result.outcome == "complete"
    assert "had no workers for some time" in str(result)
    assert "collecting: 0 of 1 shards, waiting for workers" in lines
    assert "waiting" not in lines[-1]


def test_workers_share_a_bucket(
    serve: Serve,
    ask: Ask,
    s3_url: str,
    s3_endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their environment has the credentials; rows that are too many are in the bucket, too.

    However many shards have written the files of a symbol, a query needs few requests.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(spread, "PART", 3)
    days = priced(12, 50_000.0) | priced(4, 3_000.0, "ETHUSDT")
    config = ask(serve(days), "BTCUSDT", "ETHUSDT", days=12, output_directory=s3_url)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        result = bak.collect(config, executor=executor, shard_objects=2)
    assert result.outcome == "complete"
    assert result.detail is not None
    assert result.detail.startswith(f"{s3_url}/.binance_archive_kit/results/")
    keys = [f"{s3_url}/{key}" for key in sorted(zips_of(days))]
    assert sorted(result.output_files) == keys
    assert result.plan.frame.height == len(result.objects()) == 16
    assert f"bak.store({s3_url!r}).build() merges them" in str(result)
    first = "date BETWEEN '2025-07-01' AND '2025-07-04'"
    statement = f"SELECT count(*) FROM spot_klines WHERE symbol = 'BTCUSDT' AND {first}"
    found, requests = ask_elsewhere(s3_endpoint, s3_url, statement, tmp_path / "elsewhere")
    assert found == f"[({4 * 24},)]"
    assert requests <= 20
    again = bak.collect(config, executor=ThreadPoolExecutor(2), shard_objects=2)
    assert again.collection_stats["skipped_tasks"] == 16
    assert "merges them" not in str(again)


def test_a_killed_process_of_a_pool(serve: Serve, ask: Ask, bucket: Bucket) -> None:
    """A pool cannot be used after that; the next one continues, and fetches nothing twice."""
    server = serve(bucket)
    server.latency = 0.02
    config = ask(server, *SYMBOLS, days=DAYS, max_parallel_downloads=4)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        killer = threading.Thread(target=_kill_one, args=(server, pool))
        killer.start()
        with pytest.raises(bak.WorkflowError, match="make a new one"):
            bak.collect(config, executor=pool, shard_objects=10)
        killer.join()
    result = bak.collect(config)
    assert result.outcome == "complete"
    assert_holds(config.output_directory, zips_of(bucket))
    assert sum(zips_fetched(server).values()) - 3 * DAYS <= 2 * 10


def _kill_one(server: LocalS3, pool: ProcessPoolExecutor) -> None:
    until = time.monotonic() + 30
    while len(zips_fetched(server)) < 30 and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(next(iter(pool._processes)), signal.SIGKILL)


def test_an_interrupt_cancels_what_is_queued(
    serve: Serve, ask: Ask, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "PART", 3)
    server = serve(bucket)
    server.latency = 0.05
    config = ask(server, *SYMBOLS, days=DAYS, max_parallel_downloads=2)

    async def cancelled(executor: Executor) -> None:
        task = asyncio.create_task(bak.acollect(config, executor=executor, shard_objects=4))
        while len(zips_fetched(server)) < 10:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError, match="interrupted while collecting"):
            await task

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(cancelled(executor))
    # The shard that ran was finished, the others were not begun, and no detail is left.
    assert not [*config.output_directory.rglob("*.parquet")]
    assert len(zips_fetched(server)) < 30
    assert bak.collect(config).outcome == "complete"


def test_events_are_those_of_shards(serve: Serve, ask: Ask, threads: Executor) -> None:
    def refuse(request: Request) -> Fault | None:
        return Fault(status=403) if "07-03" in request.key else None

    metrics = bak.MetricsCollector()
    config = ask(serve(daily_klines("BTCUSDT"), refuse))
    bak.collect(config, executor=threads, shard_objects=2, metrics=metrics)
    events = [each["event"] for each in metrics.events]
    assert (events[0], events[-1]) == ("run_started", "run_finished")
    assert Counter(events[1:-1]) == {"batch_started": 3, "batch_finished": 3, "file_failed": 1}
    finished = [e["details"] for e in metrics.events if e["event"] == "batch_finished"]
    assert sum(each["downloaded"] for each in finished) == 4
    assert [error["details"]["reason"] for error in metrics.errors] == ["forbidden"]


def test_a_storage_places_the_files_of_all_workers(
    serve: Serve, ask: Ask, processes: Executor, store: Path
) -> None:
    result = bak.collect(
        ask(serve(daily_klines("BTCUSDT"))),
        storage=ByDay("mine"),
        executor=processes,
        shard_objects=2,
    )
    assert all(Path(path).is_file() for path in result.output_files)
    assert all("mine" in path for path in result.output_files)


def test_warnings_of_workers_are_shown_once_at_the_users_line(
    serve: Serve, ask: Ask, store: Path, processes: Executor
) -> None:
    """A worker finds the records damaged, and makes new ones."""
    (store / ".binance_archive_kit").mkdir(parents=True)
    (store / ".binance_archive_kit" / "proofs.sqlite").write_bytes(b"damaged" * 1_000)
    config = ask(serve(daily_klines("BTCUSDT")))
    with pytest.warns(bak.ArchiveKitWarning, match="is damaged") as caught:
        result = bak.collect(config, executor=processes, shard_objects=1)
    assert result.outcome == "complete"
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": 3}, "executor: 3 is not an executor"),
        ({"executor": Forgetful(), "shard_objects": 0}, "shard_objects: 0 is not a number"),
        (
            {"executor": ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork"))},
            "executor: its processes are forked.*get_context.'spawn'",
        ),
        (
            {
                "executor": ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")),
                "storage": ByDay(lambda: "x"),  # type: ignore[arg-type]
            },
            "storage: .* cannot be sent to other processes",
        ),
    ],
)
def test_invalid_arguments_are_named(
    ask: Ask, serve: Serve, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(bak.ConfigurationError, match=message):
        bak.collect(ask(serve({})), **options)


def test_a_plan_is_not_spread(ask: Ask, serve: Serve, threads: Executor) -> None:
    plan = bak.plan(ask(serve(daily_klines("BTCUSDT"))))
    with pytest.raises(bak.ConfigurationError, match="give its configuration"):
        bak.collect(plan, executor=threads)
