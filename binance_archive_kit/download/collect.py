"""The main verbs: `plan` says what a collection would do, `collect` does it.

Both wait for the work and show its progress; `aplan` and `acollect` are for code
that awaits. The work itself runs on an event loop in a thread of its own, so that
the four of them behave the same in scripts, cells, running loops and button handlers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from binance_archive_kit.display.background import run, run_async
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.events import EventLog, MetricsCollector
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.download.run import Run
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
)
from binance_archive_kit.planning.config import Config
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.planner import PlanningContext, config_of
from binance_archive_kit.storage.layout import BaseStorage
from binance_archive_kit.storage.store import Store


def collect(
    config: Config | Plan | None = None,
    /,
    *,
    storage: BaseStorage | None = None,
    metrics: MetricsCollector | None = None,
    **fields: Any,
) -> CollectionResult:
    """Download what the archive has of what is asked for, and prove every file.

    Files reach their final name, ``output_directory`` / their archive key, only when
    proven. Ended at any moment, a later call goes on where this one stopped.

    Parameters
    ----------
    config : CollectionConfig, dict, str, Path or Plan, optional
        As for `plan`. A plan is carried out as it stands, without asking the archive again.
    storage : BaseStorage, optional
        Decides where files lie below ``output_directory``, by its ``get_partition_path``.
        The store remembers which file lies where: views, and later calls without a storage,
        find them there. Files that lie elsewhere in the store are not moved, but fetched.
    metrics : MetricsCollector, optional
        Is told what happens as it happens, see `metrics`.
    **fields
        The fields of a configuration, instead of one; or changes to the given one.

    Returns
    -------
    CollectionResult
        Counts, files, and every failure with its reason; shows itself in a notebook.
        Objects that fail do not end the run: see ``raise_for_failures()``.

    Raises
    ------
    ConfigurationError
        If a field cannot be meant; before any network use.
    ListingError
        If the archive's listing cannot be read.
    DiskSpaceError
        If the plan does not fit on the disk; before any download.
    WorkflowError
        If there were objects to get and every one failed; carries the result.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> result = bak.collect(
    ...     markets=["spot"], symbols=["BTCUSDT"], data_types=["klines"],
    ...     intervals={"klines": ["1h"]}, output_directory="data",
    ...     date_range={"start": "2025-07-01", "end": "2025-07-15"},
    ... )  # doctest: +SKIP
    """
    work, progress, events = _collecting(config, storage, metrics, fields)
    try:
        return run(work, progress)
    finally:
        _say_trouble(events)


async def acollect(
    config: Config | Plan | None = None,
    /,
    *,
    storage: BaseStorage | None = None,
    metrics: MetricsCollector | None = None,
    **fields: Any,
) -> CollectionResult:
    """Do what `collect` does, for code that awaits; cancelling it leaves nothing behind."""
    work, progress, events = _collecting(config, storage, metrics, fields)
    try:
        return await run_async(work, progress)
    finally:
        _say_trouble(events)


def _collecting(
    config: Config | Plan | None,
    storage: BaseStorage | None,
    metrics: MetricsCollector | None,
    fields: dict[str, Any],
) -> tuple[Callable[[], Coroutine[Any, Any, CollectionResult]], Progress, EventLog]:
    """Prepare a collection; what is wrong with the question is raised here."""
    progress, events = Progress(), EventLog(metrics)
    ready, wanted = (config, None) if isinstance(config, Plan) else (None, config)
    given = [*fields, *(["storage"] if storage is not None else [])]
    with events.emitting_errors():
        if ready is not None and given:
            raise ConfigurationError(
                f"{', '.join(given)}: a plan is carried out as it stands; "
                "change its configuration and plan again"
            )
        question = PlanningContext.read(
            ready.config if ready is not None else config_of(wanted, fields),
            storage,
            warn=ready is None,
        )

    async def work() -> CollectionResult:
        created, began = datetime.now(UTC), time.monotonic()
        what = ready if ready is not None else await question.plan(progress)
        events.tasks_planned(what)
        fetch = Run(
            what,
            Store(what.config.output_directory, what.storage),
            question.endpoint,
            question.matrix,
            question.flags,
            progress,
            events,
            created,
            began,
        )
        return await fetch.run()

    async def told() -> CollectionResult:
        with events.run(question.config.output_directory) as finish:
            result = await work()
            finish(result)
        return result

    return told, progress, events


def _say_trouble(events: EventLog) -> None:
    """Say that a metrics collector failed, on the thread of whoever gave it."""
    if (trouble := events.collector_error) is not None:
        warnings.warn(
            f"metrics: the collector raised {type(trouble).__name__}: {trouble}; "
            "what it kept is not complete",
            ArchiveKitWarning,
            stacklevel=3,
        )
