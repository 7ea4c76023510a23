"""`bak.update`: collect the files that continue the streams of a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal, overload

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import ObjectKey, Stream
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.collection.collect import collect
from binance_archive_kit.display.background import run
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.display.render import counted
from binance_archive_kit.download.events import MetricsCollector
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import (
    ArchiveKitError,
    ConfigurationError,
    WorkflowError,
    arguments,
    check_flag,
    field_error,
    warn_user,
)
from binance_archive_kit.planning.config import SETTINGS, CollectionConfig, PartitionChoice
from binance_archive_kit.planning.date_range import DateRange, read_day
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.planner import PlanningContext
from binance_archive_kit.planning.requests import FolderRequest, Note, Requests, known_notes
from binance_archive_kit.query.open_store import Source
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.layout import BaseStorage
from binance_archive_kit.suggestions import check_word, unknown
from binance_archive_kit.upkeep.ended_streams import LATE, EndedStreams, stream_of
from binance_archive_kit.upkeep.newer_files import NewerFiles, StoredStream
from binance_archive_kit.upkeep.stream_choice import StreamChoice, open_store

_DAY = timedelta(days=1)


@overload
def update(source: Source, *, dry_run: Literal[True], **options: Any) -> Plan: ...
@overload
def update(
    source: Source, *, dry_run: Literal[False] = False, **options: Any
) -> CollectionResult: ...
@overload
def update(source: Source, *, dry_run: bool, **options: Any) -> CollectionResult | Plan: ...
@arguments(store="source")
def update(
    source: Source,
    *,
    end: str | date = "yesterday",
    holes: bool = False,
    market: str | None = None,
    data_type: str | None = None,
    symbols: str | Iterable[str] | None = None,
    intervals: str | Iterable[str] | None = None,
    partition: str | None = None,
    storage: BaseStorage | None = None,
    metrics: MetricsCollector | None = None,
    dry_run: bool = False,
    **settings: Any,
) -> CollectionResult | Plan:
    """Download the files that continue the streams of a store, and prove every one.

    Each stream (a feed, a symbol and an interval) goes on after its last file, in the partition
    of its files. A stream with monthly files only gets whole months. A stream with both gets
    monthly files for whole months once they are published, also if it has their days already,
    and daily files for other days. All streams are in one plan.

    Days that an earlier update could not get (it was killed, downloads failed, or the archive
    did not have a file of the last 35 days yet) are requested again. Streams that ended are not:
    feeds that have ended, delivered contracts, and symbols after whose last file the archive has
    had no other for 35 days. These are asked about once in 35 days, and notes of the plan
    count them. Nothing else in the store changes.

    Parameters
    ----------
    source : str, Path or OpenStore
        The folder or URL of a store, or an open store.
    end : str or date
        Last UTC day, inclusive: ``"2025-07-15"``, ``"yesterday"`` or ``"-2d"``.
    holes : bool
        Request also the days without a file between the first and the last file of each stream.
    market, data_type : str, optional
        Only these feeds.
    symbols, intervals : str or iterable of str, optional
        Only these; symbols may be patterns such as ``"*USDT"``.
    partition : {"daily", "monthly", "auto"}, optional
        The partition of the new files, where the archive has both.
    storage : BaseStorage, optional
        As for `collect`: chooses the folders of new files.
    metrics : MetricsCollector, optional
        As for `collect`.
    dry_run : bool
        Return the plan, and download nothing.
    **settings
        The fields of a configuration that say how to download, such as ``endpoint_url`` and
        ``max_parallel_downloads``.

    Returns
    -------
    CollectionResult
        As of `collect`. Streams that are up to date are among its kept files; what is not
        published yet, missing or failed is listed.
    Plan
        With ``dry_run=True``.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, or the store has no file of the archive, or none of these.
    ListingError, DiskSpaceError, WorkflowError
        As for `collect`.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bak.update("data/research", dry_run=True)  # doctest: +SKIP
    >>> result = bak.update("data/research")  # doctest: +SKIP
    """
    check_flag("holes", holes)
    check_flag("dry_run", dry_run)
    for name in settings:
        if name not in SETTINGS:
            raise ConfigurationError(unknown(name, name, SETTINGS, "setting"))
    if partition is not None:
        check_word("partition", partition, [*PartitionChoice])
    store = open_store(source, storage)
    choice = StreamChoice(market, data_type, symbols, intervals)
    kept = _streams(store, choice)
    if not kept:
        raise field_error("store", f"{store.root} has no file of the archive; collect some first")
    if storage is None and store.records.locations():
        warn_user(
            "storage: a storage placed files of this store elsewhere; without it, update puts "
            "new files at their archive key. Give update the same storage"
        )
    last = read_day("end", "yesterday" if end is None else end)
    newer = NewerFiles(load_matrix(settings.get("matrix_path")), datetime.now(UTC), last)
    chosen = None if partition is None else PartitionChoice(partition)
    work = _Update(store, newer, kept, chosen, holes=holes)
    progress = Progress()
    plan = run(lambda: work.plan(settings, progress), progress)
    return plan if dry_run else _collect(store, plan, metrics)


def _streams(store: BaseStore, choice: StreamChoice) -> list[StoredStream]:
    """Return the chosen streams of a store, with their files."""
    found: dict[Stream, dict[Partition, Sequence[StoredFile]]] = {}
    for stored in choice.folders(store.inventory):
        found.setdefault(stored.folder.stream, {})[stored.folder.partition] = stored.files
    return [StoredStream(stream, files) for stream, files in sorted(found.items(), key=_rank)]


def _rank(item: tuple[Stream, object]) -> tuple[Any, ...]:
    stream, _ = item
    return stream.market, stream.data_type, stream.symbol, stream.interval or ""


def _collect(store: BaseStore, plan: Plan, metrics: MetricsCollector | None) -> CollectionResult:
    """Execute a plan; record which days a later update has to request again."""
    fetched = plan.rows_to_fetch()
    if len(fetched):
        # Days that an earlier update could not get stay recorded if this one is killed.
        keys = map(ObjectKey.parse, fetched["key"])
        store.records.record_unfinished(_earliest(keys, store.records.unfinished()))
    try:
        result = collect(plan, metrics=metrics)
    except WorkflowError as error:
        if isinstance(error.result, CollectionResult):
            _settle(store, plan, error.result)
        raise
    _settle(store, plan, result)
    return result


def _settle(store: BaseStore, plan: Plan, result: CollectionResult) -> None:
    """Record the streams that lack days which may still be obtained; forget the others."""
    late = plan.config.days().end - LATE
    keys = [failure.key for failure in result.failures]
    keys += [
        absence.key
        for absence in result.missing
        if absence.key and absence.reason is Reason.ABSENT and absence.end >= late
    ]
    done: dict[Stream, date | None] = dict.fromkeys(plan.since)
    try:
        store.records.record_unfinished({**done, **_earliest(map(ObjectKey.parse, keys))})
    except ArchiveKitError as error:
        warn_user(
            f"the end of the update could not be recorded ({error}); the next one requests more "
            "than is needed"
        )


def _earliest(
    keys: Iterable[ObjectKey], known: Mapping[Stream, date] = MappingProxyType({})
) -> dict[Stream, date]:
    """Return the first day of the objects of each stream, and of the known days."""
    days = dict(known)
    for key in keys:
        stream = key.folder.stream
        days[stream] = min(key.start, days.get(stream, key.start))
    return days


@dataclass(frozen=True)
class _Update:
    """The update of some streams of a store.

    Attributes
    ----------
    store : BaseStore
    newer : NewerFiles
    kept : list of StoredStream
    choice : PartitionChoice or None
        None for that of each stream.
    holes : bool
        Whether to request the days without a file between others.
    """

    store: BaseStore
    newer: NewerFiles
    kept: list[StoredStream]
    choice: PartitionChoice | None
    holes: bool

    async def plan(self, settings: Mapping[str, Any], progress: Progress) -> Plan:
        """Plan the files that continue the streams."""
        unfinished = self.store.records.unfinished()
        ends = EndedStreams(self.store.records, self.newer, self.kept)
        whys = {e.stream: "" if e.stream in unfinished else ends.why(e) for e in self.kept}
        going = [each for each in self.kept if not whys[each.stream]]
        context = self._context(settings)
        async with context.listing_client() as archive:
            ended = await ends.ask(archive, [e for e in going if e.stream not in unfinished])
        gone = {stream_of(absence) for absence in ended}
        folders: dict[Stream, list[FolderRequest]] = {
            each.stream: self._requests(each, unfinished.get(each.stream))
            for each in going
            if each.stream not in gone
        }
        since = {stream: _first_day(parts) for stream, parts in folders.items() if parts}
        days = min(since.values(), default=self.newer.end), self.newer.end
        found = [part for parts in folders.values() for part in parts]
        notes = [*_notes(whys), *known_notes(found, days)]
        config = context.config.model_copy(
            update={"date_range": DateRange(start=min(days), end=days[1])}
        )
        requests = Requests(found, [*ended], notes)
        plan = await replace(context, config=config, requests=requests).plan(progress)
        return replace(plan, since=since)

    def _requests(self, kept: StoredStream, unfinished: date | None) -> list[FolderRequest]:
        """Return the requests for the days of a stream without a file."""
        begin = kept.first if self.holes else kept.last + _DAY
        if unfinished is not None:
            begin = min(begin, unfinished)
        # A csv file has no proof, and a file that lies elsewhere would be downloaded again.
        again = kept.newest.is_zip
        again = again and self.store.locations.location(kept.newest.key) == kept.newest.path
        return self.newer.requests(kept, self.choice or kept.partition, begin, again=again)

    def _context(self, settings: Mapping[str, Any]) -> PlanningContext:
        """Return the context of a configuration of all streams, without requests."""
        names = (each.stream for each in self.kept)
        streams = [stream for stream in names if stream.symbol == stream.symbol.upper()]
        streams = streams or [each.stream for each in self.kept]
        symbols: dict[Market, dict[str, None]] = {}
        intervals: dict[DataType, dict[Interval, None]] = {}
        for stream in streams:
            symbols.setdefault(stream.market, {})[stream.symbol] = None
            if stream.interval is not None:
                intervals.setdefault(stream.data_type, {})[stream.interval] = None
        config = CollectionConfig(
            markets=[*symbols],
            symbols={market: [*names] for market, names in symbols.items()},
            data_types=[*dict.fromkeys(stream.data_type for stream in streams)],
            intervals={data_type: [*words] for data_type, words in intervals.items()},
            start=self.newer.end,
            end=self.newer.end,
            output_directory=self.store.root,
            partition=self._partition(),
            **settings,
        )
        return PlanningContext.read(config, self.store.locations.storage, requests=Requests())

    def _partition(self) -> PartitionChoice:
        """Return the partition of all streams; ``auto`` if they differ."""
        found = {self.choice or each.partition for each in self.kept}
        return PartitionChoice.AUTO if len(found) > 1 else found.pop()


def _first_day(requests: Sequence[FolderRequest]) -> date:
    """Return the first requested day."""
    return min(span[0] for each in requests for part in each.parts() for span in part.spans)


def _notes(whys: Mapping[Stream, str]) -> Iterator[Note]:
    """Yield notes on the streams that are not requested."""
    for why in dict.fromkeys(filter(None, whys.values())):
        streams = [stream for stream, each in whys.items() if each == why]
        some = f"{streams[0]}" if len(streams) == 1 else f"such as {streams[0]}"
        yield Note("", f"{counted(len(streams), 'stream')} not requested, {some}: {why}")
