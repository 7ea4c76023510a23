"""A collection in this process: make the plan if necessary, and execute it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from binance_archive_kit.collection.bucket_run import BucketRun
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.events import EventLog
from binance_archive_kit.download.ledger import Clock
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.download.run import Run
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.planning.config import Config, read_config
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.planner import PlanningContext
from binance_archive_kit.planning.requests import Requests
from binance_archive_kit.storage.layout import BaseStorage


def prepare(
    config: Config | Plan | None,
    storage: BaseStorage | None,
    events: EventLog,
    fields: dict[str, Any],
) -> tuple[Callable[[], Coroutine[Any, Any, CollectionResult]], Progress]:
    """Validate the arguments of a collection; return its work and its progress."""
    progress = Progress()
    given = config if isinstance(config, Plan) else None
    with events.emitting_errors():
        if isinstance(config, Plan):
            changes = [*fields, *(["storage"] if storage is not None else [])]
            if changes:
                raise ConfigurationError(
                    f"{', '.join(changes)}: a plan is executed as it is; "
                    "change its configuration and plan again"
                )
            # The plan has its requests already.
            context = PlanningContext.read(config.config, requests=Requests())
        else:
            context = PlanningContext.read(read_config(config, **fields), storage)

    async def work() -> CollectionResult:
        with events.run(context.config.output_directory):
            clock = Clock()
            plan = given if given is not None else await context.plan(progress)
            events.tasks_planned(plan)
            kind = BucketRun if isinstance(plan.config.output_directory, str) else Run
            result = await kind(plan, context, progress, events, clock).run()
            events.run_finished(result)
        return result

    return work, progress
