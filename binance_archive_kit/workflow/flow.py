"""The collection as a Prefect flow: Prefect displays, retries and logs its steps.

::

    from binance_archive_kit.workflow import archive_collection_flow

    await archive_collection_flow(config)               # one run
    archive_collection_flow.serve(                      # a run every day, as long as this runs
        name="daily", config=config, cron="0 6 * * *", tags=["crypto"]
    )

A configuration without ``date_range``, or with days counted from today, collects other
days in each run. The collection is split into shards, which are tasks of the flow's task
runner. Prefect retries whole steps after a pause; within a step, each download is tried
several times. A run with an invalid configuration is not retried.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from prefect import Flow, get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRunPolicy
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.annotations import quote

from binance_archive_kit.collection.shard_run import ShardOutcome, run_shard
from binance_archive_kit.collection.sharding import divide, read_whole
from binance_archive_kit.collection.spread import Spread, SpreadOptions
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.events import EventLog
from binance_archive_kit.download.ledger import Clock
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import ConfigurationError, ListingError, WorkflowError
from binance_archive_kit.paths import read_path
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.planner import aplan, check
from binance_archive_kit.quality.coverage import coverage
from binance_archive_kit.storage.verify import verify
from binance_archive_kit.workflow import documented_errors, to_collection_config

#: Objects of a shard of a large plan; those of a small one have at least ``batch_size``.
_MOST_OBJECTS = 1_000
#: Shards of a plan, unless they would be larger or smaller than that.
_SHARDS = 100
#: Threads that wait for tasks.
_MOST_WAITING = 96


class _NothingCollected(WorkflowError):
    """All objects of a shard failed; Prefect may run it again."""

    def __init__(self, message: str, outcome: ShardOutcome) -> None:
        super().__init__(message)
        self.outcome = outcome

    def __reduce__(self) -> tuple[type[_NothingCollected], tuple[str, ShardOutcome]]:
        """Pickle with the outcome."""
        return type(self), (str(self), self.outcome)


def _is_retryable(_task: Any, _run: Any, state: Any) -> bool:
    """Return whether a failed step may succeed later."""
    error = state.data
    if isinstance(error, _NothingCollected):
        if error.outcome.problem is None:
            return any(failure.retryable for failure in error.outcome.failures)
        error = error.outcome.problem
    return isinstance(error, ListingError | WorkflowError)


#: Options of steps that are retried, after 10 seconds and after a minute.
_RETRIED: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 2,
    "retry_delay_seconds": [10.0, 60.0],
    "retry_condition_fn": _is_retryable,
}


@task(name="validate", cache_policy=NO_CACHE)
def validate(config: Any) -> CollectionConfig:
    """Validate the configuration."""
    valid = to_collection_config(config)
    check(valid)
    return valid


@task(name="plan", **_RETRIED)
async def make_plan(config: Any) -> Plan:
    """List the archive and decide what to do."""
    plan = await aplan(config)
    get_run_logger().info("plan: %s", plan.headline())
    return plan


@task(name="collect", task_run_name="collect {number} of {count}", **_RETRIED)
def collect_shard(shard: Any, number: int, count: int) -> ShardOutcome:
    """Download and prove the objects of one shard."""
    outcome = run_shard(shard)
    logger = get_run_logger()
    logger.info("batch %s of %s: %s", number, count, outcome.headline)
    for failure in outcome.failures:
        logger.warning("%s", failure)
    if outcome.is_failed:
        raise _NothingCollected(outcome.headline, outcome)
    return outcome


class _TaskRunner(Executor):
    """The task runner of the flow run as an executor: each shard is a task.

    Parameters
    ----------
    count : int
        Shards with objects; the others run here.
    """

    def __init__(self, count: int) -> None:
        runner = getattr(FlowRunContext.get(), "task_runner", None)
        workers = getattr(runner, "_max_workers", sys.maxsize)
        # Threads of this process share its network.
        self._max_workers = workers if workers <= _MOST_WAITING // 3 else 1
        self._waiting = ThreadPoolExecutor(_MOST_WAITING, "shard")
        self._numbers: dict[int, int] = {}
        self._count = count
        self._step = collect_shard

    def submit(self, _function: Any, /, *args: Any, **_options: Any) -> Future[Any]:
        """Submit a shard."""
        [shard] = args
        if not shard.most:
            return self._waiting.submit(run_shard, shard)
        number = self._numbers.setdefault(shard.number, len(self._numbers) + 1)
        future = self._step.submit(quote(shard), number, self._count)
        return self._waiting.submit(copy_context().run, self._outcome, future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads that wait for tasks."""
        self._waiting.shutdown(wait, cancel_futures=cancel_futures)

    def _outcome(self, future: Any) -> Any:
        done = future.result(raise_on_failure=False)
        if isinstance(done, _NothingCollected):
            # After its last retry the archive may be down: the other shards have no retries.
            self._step = collect_shard.with_options(retries=0)
            return done.outcome
        if isinstance(done, BaseException):
            raise done
        return done


@task(name="prove", cache_policy=NO_CACHE)
def prove(result: Any) -> int:
    """Check that every collected file exists, unchanged since its proof."""
    if not result.output_files:
        return 0
    found = verify(result.output_directory, sample=0)
    get_run_logger().info("%s", found.headline())
    wrong = set(found.frame["key"]) & set(result.metadata.source_files)
    if wrong:
        raise WorkflowError(f"{len(wrong):,} files changed after they were proven: {found}", result)
    return len(result.output_files)


@task(name="report", cache_policy=NO_CACHE)
async def report(result: Any) -> None:
    """Save two reports as artifacts: what was collected, and its coverage."""
    get_run_logger().info("%s: %s", result.outcome, result.headline())
    await acreate_markdown_artifact(
        f"{result.to_markdown()}\n\nThe files are in `{result.output_directory}`.",
        key="archive-collection",
        description=result.headline(),
    )
    found = await asyncio.to_thread(coverage, result.plan)
    get_run_logger().info("coverage: %s", found.verdict)
    await acreate_markdown_artifact(
        found.to_markdown(), key="archive-coverage", description=found.verdict
    )


class ArchiveCollectionFlow(Flow[[Any], Any]):
    """The flow; deployments refer to it by its module."""

    def to_deployment(  # type: ignore[override]
        self, name: str, *, config: Any = None, **options: Any
    ) -> Any:
        """Prepare a deployment, as `prefect.Flow.to_deployment` does.

        Parameters
        ----------
        name : str
        config : dict or CollectionConfig, optional
            The configuration of the runs; without it, each run needs a ``config`` parameter.
        **options
            ``cron``, ``interval``, ``tags``, ``work_pool_name`` and Prefect's other options.
        """
        return super().to_deployment(name, **_deployed(config, options))

    def serve(  # type: ignore[override]
        self, name: str | None = None, *, config: Any = None, **options: Any
    ) -> None:
        """Serve a deployment until interrupted, as `prefect.Flow.serve` does.

        Parameters are those of `to_deployment`.
        """
        super().serve(name or self.name, **_deployed(config, options))

    def with_options(self, **options: Any) -> ArchiveCollectionFlow:
        """Return a flow with other options, such as ``retries``."""
        changed = super().with_options(**options)
        changed.__class__ = ArchiveCollectionFlow
        return changed  # type: ignore[return-value]


def _deployed(config: Any, options: dict[str, Any]) -> dict[str, Any]:
    if config is not None:
        plain = config.chosen() if isinstance(config, CollectionConfig) else dict(config)
        # Workers run in other folders, so the path must be absolute. The run rejects an invalid
        # path.
        with suppress(ConfigurationError):
            folder = read_path("output_directory", plain.get("output_directory"))
            plain["output_directory"] = str(folder.absolute())
        options["parameters"] = {**(options.get("parameters") or {}), "config": plain}
    return {"entrypoint_type": EntrypointType.MODULE_PATH, **options}


async def _archive_collection(config: dict[str, Any], metrics: Any = None) -> CollectionResult:
    """Collect the data of a configuration from the Binance public archive; prove every file.

    Each run resolves relative days, such as "yesterday". Proven files are kept.
    """
    events = EventLog(metrics)
    try:
        with events.emitting_errors():
            valid = validate(quote(config))
        with documented_errors(), events.run(valid.output_directory):
            result = await _steps(valid, events)
            events.run_finished(result)
    except ConfigurationError:
        await _disable_retries()
        raise
    return result


async def _steps(config: CollectionConfig, events: EventLog) -> CollectionResult:
    clock = Clock()
    plan = await make_plan(quote(config))
    events.tasks_planned(plan)
    context = read_whole(plan.config, warn=False)
    division = await divide(config, context, _MOST_OBJECTS)
    most = sum(shard.most for shard in division.shards())
    size = max(config.batch_size, min(_MOST_OBJECTS, -(-most // _SHARDS)))
    division = division.with_objects(size)
    runner = _TaskRunner(sum(shard.most > 0 for shard in division.shards()))
    options = SpreadOptions(runner, size)
    failed = None
    try:
        result = await Spread(division, options, Progress(), events, clock).run()
    except WorkflowError as error:
        if not isinstance(error.result, CollectionResult):
            raise
        failed, result = error, error.result
    finally:
        runner.shutdown(wait=False)
    for text in options.warnings:
        get_run_logger().warning("%s", text)
    prove(quote(result))
    await report(quote(result))
    if failed is not None:
        raise failed
    return result


async def _disable_retries() -> None:
    """Disable Prefect's retries of this run."""
    if flow_run.id is not None:
        async with get_client() as client:
            await client.update_flow_run(flow_run.id, empirical_policy=FlowRunPolicy(retries=0))


# Prefect finds a deployed flow by the name of its function.
_archive_collection.__name__ = "archive_collection_flow"
archive_collection_flow = ArchiveCollectionFlow(
    _archive_collection, name="archive-collection", validate_parameters=False, persist_result=False
)
