"""`bak.collect` and `bak.acollect`: execute a plan, after making one if necessary.

The work runs on an event loop in a separate thread, so that both functions behave the same in
scripts, cells, running event loops and button handlers.
"""

from __future__ import annotations

import warnings
from typing import Any

from binance_archive_kit.collection.one_machine import prepare
from binance_archive_kit.display.background import run, run_async
from binance_archive_kit.download.events import EventLog, MetricsCollector
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import ArchiveKitWarning
from binance_archive_kit.planning.config import Config
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.storage.layout import BaseStorage


def collect(
    config: Config | Plan | None = None,
    /,
    *,
    storage: BaseStorage | None = None,
    metrics: MetricsCollector | None = None,
    **fields: Any,
) -> CollectionResult:
    """Download the requested files that the archive has, and prove every one.

    A file gets its final name, ``output_directory`` / its archive key, only when it is proven.
    On their way to a bucket (``s3://bucket/prefix``), files are proven on the local disk, of which
    a few hundred megabytes are used; listing the bucket confirms that they have arrived. If a run
    is interrupted at any moment, the next call continues where it stopped.

    Parameters
    ----------
    config : CollectionConfig, dict, str, Path or Plan, optional
        As for `plan`. A plan is executed as it is, without reading the listing again.
    storage : BaseStorage, optional
        Chooses the folders of files below ``output_directory``, by its
        ``get_partition_path``. The store records the locations, so views and later calls
        without a storage find the files. A file the storage would place elsewhere is downloaded
        again, not moved.
    metrics : MetricsCollector, optional
        Receives the events of the collection while it runs.
    **fields
        The fields of a configuration, or changes to the given one.

    Returns
    -------
    CollectionResult
        Counts, files, and every failure with its reason; displays itself in a notebook.
        Failed objects do not end the run; ``raise_for_failures()`` raises an error for them.

    Raises
    ------
    ConfigurationError
        If a field is invalid. Raised before any network access.
    ListingError
        If the archive's listing cannot be read.
    DiskSpaceError
        If the plan does not fit on the disk. Raised before any download.
    WorkflowError
        If every object failed; its attribute ``result`` is the result.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> result = bak.collect(
    ...     markets=["spot"], symbols=["BTCUSDT"], data_types=["klines"],
    ...     intervals={"klines": ["1h"]}, output_directory="data",
    ...     date_range={"start": "2025-07-01", "end": "2025-07-15"},
    ... )  # doctest: +SKIP
    """
    events = EventLog(metrics)
    try:
        work, progress = prepare(config, storage, events, fields)
        return run(work, progress)
    finally:
        _warn_of_collector_error(events)


async def acollect(
    config: Config | Plan | None = None,
    /,
    *,
    storage: BaseStorage | None = None,
    metrics: MetricsCollector | None = None,
    **fields: Any,
) -> CollectionResult:
    """Async version of `collect`. Cancelling it cleans up."""
    events = EventLog(metrics)
    try:
        work, progress = prepare(config, storage, events, fields)
        return await run_async(work, progress)
    finally:
        _warn_of_collector_error(events)


def _warn_of_collector_error(events: EventLog) -> None:
    """Warn, on the caller's thread, that the metrics collector raised."""
    if (error := events.collector_error) is not None:
        warnings.warn(
            f"metrics: the collector raised {type(error).__name__}: {error}; "
            "its events are incomplete",
            ArchiveKitWarning,
            stacklevel=3,
        )
