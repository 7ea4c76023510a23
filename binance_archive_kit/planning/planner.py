"""Plan a collection: read the archive's listing and the store's inventory, then decide."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from binance_archive_kit.archive.endpoint import Route, endpoint_of
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import Folder, Span, format_period
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.archive.matrix import Matrix, load_matrix
from binance_archive_kit.display.background import run, run_async
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.errors import (
    disk_advice,
    field_error,
    shown,
    warn_user,
)
from binance_archive_kit.paths import find_path, read_path
from binance_archive_kit.planning.absences import ArchiveListing, witnesses
from binance_archive_kit.planning.config import (
    CollectionConfig,
    Config,
    PartitionChoice,
    read_config,
)
from binance_archive_kit.planning.decide import make_plan
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.requests import (
    FolderRequest,
    Note,
    Requests,
    expand,
    partial_months,
    replace_days,
    resolve_months,
)
from binance_archive_kit.planning.s5cmd_flags import Flags
from binance_archive_kit.planning.selection import SymbolSelection
from binance_archive_kit.planning.symbol_lists import (
    recall_symbols,
    select_symbols,
    without_dead,
)
from binance_archive_kit.storage.bucket_access import Access
from binance_archive_kit.storage.layout import BaseStorage
from binance_archive_kit.storage.places import check_storage, store_at
from binance_archive_kit.storage.urls import Place


def plan(
    config: Config | None = None,
    /,
    *,
    storage: BaseStorage | None = None,
    **fields: Any,
) -> Plan:
    """Plan a collection: compare the archive's listing with the store.

    Reads the listing over the network and the inventory of the store; downloads nothing, and
    changes no file.

    Parameters
    ----------
    config : CollectionConfig, dict, str or Path, optional
        A configuration, its fields, JSON text, or the path of a JSON file.
    storage : BaseStorage, optional
        Chooses the folders of files below ``output_directory``, as for `collect`.
    **fields
        The fields of a configuration, or changes to the given one.

    Returns
    -------
    Plan
        One row per object in ``plan.frame``; displays itself in a notebook.

    Raises
    ------
    ConfigurationError
        If a field is invalid. Raised before any network access.
    ListingError
        If the archive's listing cannot be read.
    """
    context = PlanningContext.read(read_config(config, **fields), storage)
    progress = Progress()
    return run(lambda: context.plan(progress), progress)


async def aplan(
    config: Config | None = None,
    /,
    *,
    storage: BaseStorage | None = None,
    **fields: Any,
) -> Plan:
    """Async version of `plan`."""
    context = PlanningContext.read(read_config(config, **fields), storage)
    progress = Progress()
    return await run_async(lambda: context.plan(progress), progress)


def check(config: CollectionConfig) -> None:
    """Validate a configuration as `plan` does, without network access.

    Raises
    ------
    ConfigurationError
        If a field is invalid: an unknown matrix, an unknown flag of s5cmd, …
    """
    PlanningContext.read(config, warn=False)


def check_folder(folder: Place) -> None:
    """Check that a folder exists or can be created, without creating it; no bucket is asked.

    Raises
    ------
    ConfigurationError
        If it cannot be a folder, or the environment's endpoint of object storage is invalid.
    """
    if isinstance(folder, str):
        Access.of_environment()
        return
    # The path of the working directory is part of s5cmd's commands.
    whole = read_path("output_directory", find_path("output_directory", folder).absolute())
    for path in (whole, *whole.parents):
        try:
            kind = path.stat().st_mode
        except FileNotFoundError:
            if path.is_symlink():
                raise field_error(
                    "output_directory",
                    f"{str(folder)!r} cannot be a folder: {str(path)!r} is a broken link",
                ) from None
            continue
        except NotADirectoryError:
            continue
        except OSError as error:  # a loop of links, a name that is too long, no permission
            raise field_error(
                "output_directory",
                f"{shown(str(folder))} cannot be a folder: "
                f"{disk_advice(error.errno) or error.strerror}",
            ) from None
        if not stat.S_ISDIR(kind):
            raise field_error(
                "output_directory", f"{str(folder)!r} cannot be a folder: {str(path)!r} is a file"
            )
        return


@dataclass(frozen=True)
class PlanningContext:
    """A configuration, validated against the matrix and the environment without network access."""

    config: CollectionConfig
    matrix: Matrix
    flags: Flags
    endpoint: str
    requests: Requests
    storage: BaseStorage | None

    @classmethod
    def read(
        cls,
        config: CollectionConfig,
        storage: BaseStorage | None = None,
        *,
        requests: Requests | None = None,
        warn: bool = True,
    ) -> PlanningContext:
        """Validate a configuration; with `warn`, warn of its unused parts.

        Parameters
        ----------
        config : CollectionConfig
        storage : BaseStorage, optional
        requests : Requests, optional
            What to request in place of all that the configuration names.
        warn : bool
        """
        if storage is not None and not callable(getattr(storage, "get_partition_path", None)):
            raise field_error(
                "storage",
                f"{storage!r} has no get_partition_path(zone=, exchange=, data_type=, "
                "trade_type=, symbol=, partition_date=)",
            )
        check_folder(config.output_directory)
        check_storage(config.output_directory, storage)
        now = datetime.now(UTC)
        matrix = load_matrix(config.matrix_path)
        flags = Flags.read(config.s5cmd_extra_args)
        requests = expand(config, matrix, now) if requests is None else requests
        # Relative days stay the same for the whole collection.
        config = config.settled(now)
        for warning in requests.warnings if warn else ():
            warn_user(str(warning))
        endpoint = endpoint_of(flags.general.get("--endpoint-url") or config.endpoint_url, matrix)
        # Raises now if a proxy or certificate is invalid.
        Route.to(endpoint)
        return cls(config, matrix, flags, endpoint, requests, storage)

    def listing_client(self) -> ListingClient:
        """Return a client for the archive's listing, not entered yet."""
        bucket, timeout = self.matrix.archive.bucket, self.config.timeout_seconds
        return ListingClient(self.endpoint, bucket, timeout)

    async def plan(self, progress: Progress) -> Plan:
        """Read the listing and the inventory, and make the plan."""
        now = datetime.now(UTC)
        store = store_at(self.config.output_directory, self.storage)
        listing: ArchiveListing | None = None
        if self.config.listing:
            async with self.listing_client() as archive:
                selections = await select_symbols(archive, self.config, self.matrix, now)
                context = self._with_symbols(selections, now)
                folders, selections, listing = await context._list(
                    archive, selections, now, progress
                )
                # Notes are about the symbols that have files of these days.
                context = self._with_symbols(selections, now)
                notes = [Note("", text) for text in archive.notes()]
        else:
            selections = recall_symbols(store.records, self.config, self.matrix)
            context = self._with_symbols(selections, now)
            folders, notes = _resolve(context.requests.folders, context._due_months(now)), []
        notes += [Note("symbols", str(selection)) for selection in selections]
        prefixes = dict.fromkeys(request.folder.prefix for request in folders)
        keys = [] if self.storage is None else _keys(folders, listing)
        inventory = await asyncio.to_thread(store.inventory.frame, prefixes, keys)
        requests = context.requests
        requests = replace(requests, folders=folders, notes=[*requests.notes, *notes])
        plan = make_plan(self.config, requests, listing, inventory, self.matrix, now)
        if self.storage is not None:
            await asyncio.to_thread(store.locations.resolve, plan.frame["key"])
        return replace(plan, selections=tuple(selections), storage=self.storage)

    def _with_symbols(
        self, selections: Sequence[SymbolSelection], now: datetime
    ) -> PlanningContext:
        """Return the context with requests for the selected symbols too."""
        if not selections:
            return self
        symbols = {selection.feed: selection.living for selection in selections}
        return replace(self, requests=expand(self.config, self.matrix, now, symbols))

    async def _list(
        self,
        archive: ListingClient,
        selections: Sequence[SymbolSelection],
        now: datetime,
        progress: Progress,
    ) -> tuple[list[FolderRequest], list[SymbolSelection], ArchiveListing]:
        """List the requested folders: monthly ones, then days that replace missing months.

        Last, list months that replace days before the first daily file.
        """

        def count(_: Folder) -> None:
            progress.done += 1

        progress.begin("listing", len(self.requests.folders), unit="folders")
        folders = await archive.list_folders(_days(self.requests.folders), count)
        published = {folder: listed.objects for folder, listed in folders.items()}
        requests = _resolve(self.requests.folders, published)
        days = _days(request for request in requests if request.folder not in folders)
        progress.total += len(days)
        folders |= await archive.list_folders(days, count)
        if self.config.partition is PartitionChoice.AUTO:
            months = partial_months(requests, folders, self.matrix, now)
            listed = await archive.list_folders(_days(months))
            requests = replace_days(requests, months, folders, listed)
            for folder in listed.keys() & _days(requests).keys():
                folders.setdefault(folder, listed[folder]).objects.update(listed[folder].objects)
        requests, found = without_dead(requests, folders, self.config, selections)
        witnessed = await archive.list_folders(
            _days(witnesses(requests, folders, self.matrix, now))
        )
        empty = {
            folder.parent for folder, each in folders.items() if each.probed and not each.first
        }
        symbols = {parent: await archive.symbols(parent) for parent in sorted(empty)}
        return requests, found, ArchiveListing(folders, witnessed, symbols)

    def _due_months(self, now: datetime) -> dict[Folder, list[str]]:
        """Return the requested months that should be published by now, as in the keys."""
        return {
            request.folder: [
                format_period(start, Partition.MONTHLY)
                for start in request.starts()
                if self.matrix.published_at(start, Partition.MONTHLY) <= now
            ]
            for request in self.requests.folders
            if request.rest is not None
        }


def _resolve(
    requests: Iterable[FolderRequest], published: Mapping[Folder, Iterable[str]]
) -> list[FolderRequest]:
    """Replace requests for months by the published months, and days for the others."""
    return [
        part
        for request in requests
        for part in resolve_months(request, published.get(request.folder, ()))
    ]


def _days(requests: Iterable[FolderRequest]) -> dict[Folder, Sequence[Span]]:
    """Return the runs of days of each requested folder."""
    return {request.folder: request.spans for request in requests}


def _keys(requests: Iterable[FolderRequest], listing: ArchiveListing | None) -> list[str]:
    """Return the keys of the requested objects; with a listing, only of the listed ones."""
    return [
        request.folder.key(period)
        for request in requests
        for period in (format_period(start, request.folder.partition) for start in request.starts())
        if listing is None or period in listing.folders[request.folder].objects
    ]
