"""The collection as a Prefect flow: Prefect displays, retries and logs its steps.

::

    from binance_archive_kit.workflow import archive_collection_flow

    await archive_collection_flow(config)               # one run
    archive_collection_flow.serve(                      # a run every day, as long as this runs
        name="daily", config=config, cron="0 6 * * *", tags=["crypto"]
    )

A configuration without ``date_range``, or with days counted from today, collects other
days in each run. Prefect retries whole steps after a pause; within a step, each download is
tried several times. A run with an invalid configuration is not retried.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from prefect import Flow, get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRunPolicy
from prefect.runtime import flow_run
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.annotations import quote

from binance_archive_kit.collection.collect import acollect
from binance_archive_kit.download.events import EventLog, MetricsCollector
from binance_archive_kit.download.ledger import Clock
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import ConfigurationError, ListingError, WorkflowError
from binance_archive_kit.paths import read_path
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import Plan, PlanReason
from binance_archive_kit.planning.planner import aplan, check
from binance_archive_kit.quality.coverage import coverage
from binance_archive_kit.storage.verify import verify
from binance_archive_kit.workflow import documented_errors, to_collection_config

#: Maximum number of batches of a run; a large plan has larger batches.
_MOST_BATCHES = 100


def _is_retryable(_task: Any, _run: Any, state: Any) -> bool:
    """Return whether a failed step may succeed later."""
    error = state.data
    if isinstance(error, WorkflowError) and error.result is not None:
        return any(failure.retryable for failure in error.result.failures)
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
async def collect_batch(part: Any, metrics: Any, number: int, count: int) -> CollectionResult:
    """Download and prove one batch of the objects."""
    result = await acollect(part, metrics=metrics)
    get_run_logger().info("batch %s of %s: %s", number, count, result.headline())
    for failure in result.failures:
        get_run_logger().warning("%s", failure)
    return result


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


class _BatchEvents(MetricsCollector):
    """Forwards the events of a run's batches as those of one collection."""

    def __init__(self, collector: MetricsCollector) -> None:
        self._collector = collector
        self._offset = self._last = 0

    def next(self) -> None:
        """Continue the batch numbers after the last one."""
        self._offset = self._last

    def record_event(self, event_name: str, /, **details: Any) -> None:
        if event_name in ("run_started", "tasks_planned", "run_finished"):
            return
        if "batch" in details:
            details["batch"] += self._offset
            self._last = max(self._last, details["batch"])
        self._collector.record_event(event_name, **details)

    def record_error(self, error_message: str, /, **details: Any) -> None:
        self._collector.record_error(error_message, **details)


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
            result = await _steps(valid, metrics, events)
            if result.outcome == "failed":
                raise WorkflowError(f"nothing was collected: {result.failures_in_words()}", result)
            events.run_finished(result)
    except ConfigurationError:
        await _disable_retries()
        raise
    return result


async def _steps(
    config: CollectionConfig, metrics: MetricsCollector | None, events: EventLog
) -> CollectionResult:
    clock = Clock()
    plan = await make_plan(quote(config))
    events.tasks_planned(plan)
    batch_events = None if metrics is None else _BatchEvents(metrics)
    done, batches = _batches(plan)
    parts = [(done, await acollect(plan.part(done), metrics=batch_events))] if done else []
    step = collect_batch
    for number, rows in enumerate(batches, 1):
        try:
            part = await step(quote(plan.part(rows)), quote(batch_events), number, len(batches))
        except WorkflowError as error:
            if not isinstance(error.result, CollectionResult):
                raise
            # After its last retry the archive may be down: the other batches have no retries.
            part, step = error.result, collect_batch.with_options(retries=0)
        if batch_events is not None:
            batch_events.next()
        parts.append((rows, part))
    result = CollectionResult.join(plan, parts, clock)
    prove(quote(result))
    await report(quote(result))
    return result


def _batches(plan: Plan) -> tuple[list[int], list[list[int]]]:
    """Split the rows of a plan into those that are done, and batches of the others."""
    done = plan.frame["reason"] == PlanReason.PROVEN.value
    todo = (~done).arg_true().to_list()
    size = max(plan.config.batch_size, -(-len(todo) // _MOST_BATCHES))
    batches = [todo[row : row + size] for row in range(0, len(todo), size)]
    return done.arg_true().to_list(), batches


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
