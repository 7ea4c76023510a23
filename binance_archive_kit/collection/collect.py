"""`bak.collect` and `bak.acollect`: execute a plan, after making one if necessary.

The work runs on an event loop in a separate thread, so that both functions behave the same in
scripts, cells, running event loops and button handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from binance_archive_kit.collection.one_machine import prepare
from binance_archive_kit.collection.sharding import OBJECTS
from binance_archive_kit.collection.spread import SpreadOptions, prepare_spread
from binance_archive_kit.display.background import run, run_async
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.events import EventLog, MetricsCollector
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import warn_user
from binance_archive_kit.planning.config import Config
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.storage.layout import BaseStorage


def collect(
    config: Config | Plan | None = None,
    /,
    *,
    storage: BaseStorage | None = None,
    metrics: MetricsCollector | None = None,
    executor: Executor | None = None,
    shard_objects: int = OBJECTS,
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
        Receives the events of the collection while it runs. With an executor, those of the
        shards as ``batch_started`` and ``batch_finished``, and ``file_failed``; other events
        of objects stay in the workers.
    executor : concurrent.futures.Executor, optional
        Spreads the work over its workers, shard by shard; see `shards`. For a Dask cluster it is
        ``client.get_executor()``, for the cores of this machine
        ``ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))``. All workers
        need this package and the output directory. Only a few shards for each worker are
        submitted at a time, and a shard whose worker died is run again. An interrupt cancels
        the shards that wait; those that run are finished by their workers.
    shard_objects : int
        Most objects of a shard, if there is an executor.
    **fields
        The fields of a configuration, or changes to the given one.

    Returns
    -------
    CollectionResult
        Counts, files, and every failure with its reason; displays itself in a notebook.
        Failed objects do not end the run; ``raise_for_failures()`` raises an error for them.
        With an executor, a shard without a result counts as one failure, ``shard_failed``, as its
        objects are unknown; and if there are more than 100,000 rows, they are in Parquet files
        below the output directory, see ``result.detail``; they may be deleted.

    Raises
    ------
    ConfigurationError
        If a field is invalid. Raised before any network access.
    ListingError
        If the archive's listing cannot be read.
    DiskSpaceError
        If the plan does not fit on the disk. Raised before any download.
    WorkflowError
        If every object failed; its attribute ``result`` is the result. With an executor, also
        if that broke, or if many shards in a row have no result; then ``result`` has those
        that are done, and the next call continues.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> result = bak.collect(
    ...     markets=["spot"], symbols=["BTCUSDT"], data_types=["klines"],
    ...     intervals={"klines": ["1h"]}, output_directory="data",
    ...     date_range={"start": "2025-07-01", "end": "2025-07-15"},
    ... )  # doctest: +SKIP
    """
    events, texts = EventLog(metrics), list[str]()
    with _showing_warnings(events, texts):
        work, progress = _prepare(config, storage, events, fields, executor, shard_objects, texts)
        return run(work, progress)


async def acollect(
    config: Config | Plan | None = None,
    /,
    *,
    storage: BaseStorage | None = None,
    metrics: MetricsCollector | None = None,
    executor: Executor | None = None,
    shard_objects: int = OBJECTS,
    **fields: Any,
) -> CollectionResult:
    """Async version of `collect`. Cancelling it cleans up."""
    events, texts = EventLog(metrics), list[str]()
    with _showing_warnings(events, texts):
        work, progress = _prepare(config, storage, events, fields, executor, shard_objects, texts)
        return await run_async(work, progress)


def _prepare(
    config: Config | Plan | None,
    storage: BaseStorage | None,
    events: EventLog,
    fields: dict[str, Any],
    executor: Executor | None,
    objects: int,
    texts: list[str],
) -> tuple[Callable[[], Coroutine[Any, Any, CollectionResult]], Progress]:
    """Return the work of a collection, in this process or spread, and its progress."""
    if executor is None:
        return prepare(config, storage, events, fields)
    options = SpreadOptions(executor, objects, storage, texts)
    return prepare_spread(config, options, events, fields)


@contextmanager
def _showing_warnings(events: EventLog, texts: list[str]) -> Iterator[None]:
    """At the end, warn on the caller's thread of what workers and the collector said."""
    try:
        yield
    finally:
        for text in texts:
            warn_user(text)
        if (error := events.collector_error) is not None:
            warn_user(
                f"metrics: the collector raised {type(error).__name__}: {error}; "
                "its events are incomplete"
            )
