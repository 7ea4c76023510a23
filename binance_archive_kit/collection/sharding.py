"""`bak.shards`: split a collection into configurations that other machines can run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from binance_archive_kit.collection.splitting import Shard, Splitter
from binance_archive_kit.display.background import run
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.errors import field_error, shown
from binance_archive_kit.paths import find_path
from binance_archive_kit.planning.config import CollectionConfig, Config, read_config
from binance_archive_kit.planning.planner import PlanningContext
from binance_archive_kit.planning.requests import Requests, unused_parts
from binance_archive_kit.planning.selection import SymbolSelection
from binance_archive_kit.planning.symbol_lists import recall_symbols, select_symbols
from binance_archive_kit.storage.layout import BaseStorage
from binance_archive_kit.storage.places import store_at

#: Objects of a shard: enough to make its start cheap, and few enough to do again.
OBJECTS = 1_000


def shards(
    config: Config | None = None, /, *, objects: int = OBJECTS, **fields: Any
) -> Iterator[CollectionConfig]:
    """Split a collection into shards, for any engine that runs functions on many machines.

    Each shard is a configuration of its own, and `collect` runs it. Together they request what
    the whole one does, each object once. A shard that runs again, after its worker died or
    its result was lost, keeps what is in the store and downloads the rest. With an executor
    of `concurrent.futures`, ``collect(config, executor=…)`` does all of this.

    Parameters
    ----------
    config : CollectionConfig, dict, str or Path, optional
        As for `plan`.
    objects : int
        Most objects of a shard. A shard of daily files has at most one object for each stream and
        day; a month that could be one file counts as one, and may turn out to be days.
    **fields
        The fields of a configuration, or changes to the given one.

    Returns
    -------
    iterator of CollectionConfig
        Made one by one, so any number needs little memory. Each has absolute paths, fixed days,
        one feed and less than 2 KB of JSON, unless its own path or flags are longer.

        Patterns are compared with the archive's listing of symbols once, and shards name the
        symbols. A symbol that a pattern matches and that has no file of the days is requested
        too; the plan of its shard states why it has none.

    Raises
    ------
    ConfigurationError
        If a field is invalid. Raised before any network access, except for a pattern that
        matches no symbol.
    ListingError
        If there are patterns, and the archive's symbols cannot be listed.

    Examples
    --------
    >>> config = CollectionConfig(
    ...     markets=["spot"], symbols=["BTCUSDT", "ETHUSDT"], data_types=["trades"],
    ...     start="2021-01-01", end="2024-12-31", output_directory="/data",
    ... )
    >>> for shard in shards(config):
    ...     print(*shard.symbols, shard.date_range.start, shard.date_range.end)
    BTCUSDT 2021-01-01 2023-01-01
    BTCUSDT 2023-01-02 2024-12-31
    ETHUSDT 2021-01-01 2023-01-01
    ETHUSDT 2023-01-02 2024-12-31
    """
    check_objects("objects", objects)
    asked = read_config(config, **fields)
    context = read_whole(asked)
    return run(lambda: divide(asked, context, objects), Progress()).configs()


@dataclass(frozen=True, slots=True)
class Division:
    """The shards of a configuration.

    Attributes
    ----------
    asked : CollectionConfig
        As given.
    config : CollectionConfig
        The same with absolute paths and fixed days.
    splitter : Splitter
    selections : tuple of SymbolSelection
        The symbols that its patterns match.
    """

    asked: CollectionConfig
    config: CollectionConfig
    splitter: Splitter
    selections: tuple[SymbolSelection, ...]

    def shards(self) -> Iterator[Shard]:
        """Yield the shards."""
        return self.splitter.shards()

    def with_objects(self, objects: int) -> Division:
        """Return the same configuration in shards of another size."""
        return replace(self, splitter=replace(self.splitter, objects=objects))

    def configs(self) -> Iterator[CollectionConfig]:
        """Yield the shards as configurations."""
        return (shard.config(self.config) for shard in self.splitter.shards())


def check_objects(field: str, objects: object) -> None:
    """Raise a ConfigurationError unless it is a number of objects."""
    if not isinstance(objects, int) or isinstance(objects, bool) or objects < 1:
        raise field_error(field, f"{shown(objects)} is not a number of objects; give 1 or more")


def read_whole(
    config: CollectionConfig, storage: BaseStorage | None = None, *, warn: bool = True
) -> PlanningContext:
    """Validate a configuration that is to be split, and make it independent of this process."""
    requests = Requests(warnings=[*unused_parts(config)])
    context = PlanningContext.read(_elsewhere(config), storage, requests=requests, warn=warn)
    if context.endpoint == context.matrix.archive.endpoint:
        return context
    # Workers may have another environment.
    pinned = context.config.model_copy(update={"endpoint_url": context.endpoint})
    return PlanningContext.read(pinned, storage, requests=requests, warn=False)


def _elsewhere(config: CollectionConfig) -> CollectionConfig:
    """Return the configuration with absolute paths, for processes in another folder."""
    folder, matrix = config.output_directory, config.matrix_path
    changes: dict[str, Any] = {}
    if isinstance(folder, Path):
        changes["output_directory"] = find_path("output_directory", folder).absolute()
    if matrix is not None and Path(matrix).is_file():
        changes["matrix_path"] = str(Path(matrix).absolute())
    return config.model_copy(update=changes)


async def divide(asked: CollectionConfig, context: PlanningContext, objects: int) -> Division:
    """Resolve the patterns of a configuration, from one listing of symbols for each feed."""
    now = datetime.now(UTC)
    config, matrix = context.config, context.matrix
    selections: list[SymbolSelection] = []
    if config.has_patterns and config.listing:
        async with context.listing_client() as archive:
            selections = await select_symbols(archive, config, matrix, now)
    elif config.has_patterns:
        store = store_at(config.output_directory, context.storage)
        selections = recall_symbols(store.records, config, matrix)
    selected = {selection.feed: selection.living for selection in selections}
    splitter = Splitter(config, matrix, now, selected, objects)
    return Division(asked, config, splitter, tuple(selections))
