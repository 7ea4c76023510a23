"""The engine: a store's files as batches of rows.

Every query takes the same steps, whether DuckDB or Polars runs it: drop the folders that cannot
match, choose the file for each day, read the rows that are in tables, and the other files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import astuple, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.archive.enums import Partition, read_market, read_names
from binance_archive_kit.archive.keys import Folder
from binance_archive_kit.archive.schemas import load_schemas, read_feed
from binance_archive_kit.errors import (
    ConfigurationError,
    FileError,
    StoreError,
    check_flag,
    field_error,
    shown,
    warn_user,
)
from binance_archive_kit.forks import check_process
from binance_archive_kit.planning.selection import named
from binance_archive_kit.query.file_lookup import FileLookup, ScanContext, Skip
from binance_archive_kit.query.pruning import ArrowPruner, NeededMonths, Pruner, Selection
from binance_archive_kit.query.scan_planner import MonthTask, ScanPlanner, ScanStep
from binance_archive_kit.query.scan_reader import (
    Query,
    ScanReader,
    ScanReport,
    Tally,
    worker_count,
)
from binance_archive_kit.query.store_cache import DEFAULT_LIMIT, StoreCache
from binance_archive_kit.query.table_builder import TableBuilder
from binance_archive_kit.query.tabled_files import TabledFiles
from binance_archive_kit.reading.feed_table import FeedTable, feed_table
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.reading.profile import FileProfile
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.inventory import (
    Inventory,
    StoredFile,
    StoredFolder,
    Symbols,
    SymbolTest,
    any_symbol,
)
from binance_archive_kit.storage.places import open_store
from binance_archive_kit.storage.skipped import SkippedFile, find_skipped
from binance_archive_kit.storage.store import rehash_moved
from binance_archive_kit.suggestions import nearest, unknown
from binance_archive_kit.tables.snapshot import Snapshot, StaleSnapshot
from binance_archive_kit.tables.tables import TableUse

Prefer = Literal["daily", "monthly"]
#: Arguments that some functions take in the singular and others in the plural.
_SELECTIONS = ("market", "data_type", "symbols", "intervals")
OnError = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the files of a store are read.

    Attributes
    ----------
    cache : bool
        Build columnar tables when many files are read again.
    cache_limit : int
        Bytes that the tables may take together.
    prefer : {"daily", "monthly"}
        Which file gives the rows of a day that a daily and a monthly file both cover.
    on_error : {"raise", "skip"}
        What to do about a file that is damaged, or whose rows do not fit its name.
    decimals : bool
        Read prices and amounts as exact decimals instead of floating point numbers.

    Raises
    ------
    ConfigurationError
        If a value is invalid.
    """

    cache: bool = True
    cache_limit: int = DEFAULT_LIMIT
    prefer: Prefer = "daily"
    on_error: OnError = "raise"
    decimals: bool = False

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("prefer", self.prefer, ("daily", "monthly")),
            ("on_error", self.on_error, ("raise", "skip")),
        ):
            if value not in valid:
                raise ConfigurationError(unknown(name, value, valid))
        check_flag("cache", self.cache)
        check_flag("decimals", self.decimals)
        if not isinstance(self.cache_limit, int) or self.cache_limit < 0:
            raise field_error("cache_limit", f"{shown(self.cache_limit)} is not a number of bytes")

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> ReadOptions:
        """Return the options given by name; a ConfigurationError for a name that is unknown."""
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                other = name[:-1] if name.endswith("s") else f"{name}s"
                if other in _SELECTIONS or name in _SELECTIONS:
                    raise field_error(
                        name, f"no such argument here; it may be {other!r}, see its help"
                    )
                raise ConfigurationError(unknown(name, name, names, "option"))
        return cls(**options)


_DEFAULTS = ReadOptions()
#: How often a scan is planned again because another process changed the tables.
_ATTEMPTS = 5
#: Symbols up to which only their own entries of tables are read.
_FEW_SYMBOLS = 24
#: Selections of symbols whose entries are remembered.
_REMEMBERED = 64
STREAMS: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("view", "market", "data_type", "partition", "symbol", "interval"), pl.String),
    **dict.fromkeys(("first", "last"), pl.Date),
    **dict.fromkeys(("files", "bytes", "proven", "tabled"), pl.Int64),
}
PROBLEMS: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(
    ("file", "reason", "detail"), pl.String
)
SCANS: dict[str, pl.DataType | type[pl.DataType]] = {
    "view": pl.String,
    **dict.fromkeys(("considered", "opened", "cached", "inflated", "rows"), pl.Int64),
    "seconds": pl.Float64,
    "complete": pl.Boolean,
}


class Engine:
    """The files of a store, ready to be read; safe to be used by several threads.

    Parameters
    ----------
    root : str or Path
        A folder in the archive's layout, filled by any tool; or the URL of a store in object
        storage.
    options : ReadOptions

    Attributes
    ----------
    store : BaseStore
    cache : StoreCache
    known : KnownFiles
    problems : dict of str to FileError
        Files that were left out, by their path inside the store, with the reasons.
    last_scan : ScanReport or None
        The cost of the latest query.
    """

    def __init__(self, root: str | Path, options: ReadOptions = _DEFAULTS) -> None:
        self.store = open_store(root)
        self.root = self.store.root
        self.options = options
        self.problems: dict[str, FileError] = {}
        self.last_scan: ScanReport | None = None
        self.cache = StoreCache(self.store, keep=options.cache, limit=options.cache_limit)
        self.known = self.cache.known
        skip = self._leave_out if options.on_error == "skip" else None
        self._context = ScanContext(self.store, self.known, Partition(options.prefer), skip)
        #: The entries of tables that were last used, by table and symbols.
        self._tabled: dict[tuple[str, frozenset[str] | None], TabledFiles] = {}
        self._builder = TableBuilder(self._context, self.cache)

    def __reduce__(self) -> tuple[type[Self], tuple[Path | str, ReadOptions]]:
        """Pickle the folder or the URL, and the options: the copy opens the store anew."""
        return type(self), (self.root, self.options)

    # Feeds

    def feeds(self) -> list[FeedTable]:
        """List the feeds that the store has files of."""
        check_process()  # of an engine from before a fork
        return [self.feed(*name) for name in self.store.inventory.feeds() if name in load_schemas()]

    def matching_feeds(self, market: str | None, data_type: str | None) -> list[FeedTable]:
        """List the feeds of these names that the store has files of; None matches any.

        Raises
        ------
        ConfigurationError
            If a name is invalid, or it has no such feed.
        """
        market = market if market is None else read_market(market)
        if market and data_type:
            market, data_type = read_feed(market, data_type)
        feeds = [feed for feed in self.feeds() if feed.matches(market, data_type)]
        wanted = " ".join(word for word in (market, data_type) if word)
        if wanted and not feeds:
            views = ", ".join(feed.view for feed in self.feeds())
            message = f"the store {self.root} has no {wanted}; it has {views or 'nothing'}"
            raise field_error("data_type" if data_type else "market", message, label="")
        return feeds

    def feed(self, market: str, data_type: str) -> FeedTable:
        """Look up a feed, whether the store has files of it or not.

        Raises
        ------
        ConfigurationError
            If the archive has no such feed.
        """
        return feed_table(*read_feed(market, data_type), decimals=self.options.decimals)

    def nothing_of(self, feed: FeedTable) -> ConfigurationError:
        """Return the error for a feed that the store has no file of."""
        return field_error(
            "data_type",
            f"the store {self.root} has no {feed.market.title} {feed.data_type}; collect some "
            f'first: collect(markets=["{feed.market}"], data_types=["{feed.data_type}"], …)'
            f"{self.skipped_hint()}",
            label="",
        )

    def names(self, feed: FeedTable, symbols: SymbolTest = any_symbol) -> list[Folder]:
        """List the folders of a feed that have files; looks at no file.

        Parameters
        ----------
        feed : FeedTable
        symbols : callable, optional
            Returns whether a symbol is needed; all by default.
        """
        check_process()
        return self.store.inventory.names(feed.market, feed.data_type, symbols)

    def folders(
        self,
        feed: FeedTable,
        symbols: SymbolTest = any_symbol,
        matches: Callable[[Folder], bool] = lambda folder: True,
        needed: Callable[[Folder], Callable[[str], bool]] | None = None,
    ) -> list[StoredFolder]:
        """List the folders of a feed with their files, as they are now.

        Parameters
        ----------
        feed : FeedTable
        symbols : callable, optional
            Returns whether a symbol is needed; all by default.
        matches : callable, optional
            Returns whether a folder of these symbols is needed; all by default.
        needed : callable, optional
            Returns for a folder the test whether a file in it is needed, by its name; all are by
            default.
        """
        return self.store.inventory.folders(feed.market, feed.data_type, symbols, matches, needed)

    def skipped(self) -> list[SkippedFile]:
        """List the files that are not read because of their name or folder, with advice.

        None of a store in object storage, which reads only what its records prove.
        """
        inventory = self.store.inventory
        return find_skipped(inventory) if isinstance(inventory, Inventory) else []

    def skipped_hint(self, symbol: str = "") -> str:
        """Return a hint for a message about missing files; empty if no file is skipped.

        Parameters
        ----------
        symbol : str
            Only files whose path has it.
        """
        skipped = [each for each in self.skipped() if symbol in each.path]
        if not skipped:
            return ""
        path, reason, advice = skipped[0]
        return (
            f". {len(skipped):,} files are skipped because of their name or folder, such as "
            f"{path}: {reason}; {advice}"
        )

    # Rows

    def scan(
        self,
        feed: FeedTable,
        columns: Sequence[str] | None = None,
        pruner: Pruner | None = None,
        where: ds.Expression | None = None,
        *,
        in_full: bool = True,
    ) -> Generator[pa.RecordBatch]:
        """Read the rows of a feed.

        Parameters
        ----------
        feed : FeedTable
        columns : sequence of str, optional
            Path columns and own columns to return, in this order; None for all.
        pruner : Pruner, optional
            Decides which files are opened; by default `where` does.
        where : pyarrow.dataset.Expression, optional
            Only rows for which this is true are returned.
        in_full : bool
            Whether all rows will be read, and not only the first few.

        Returns
        -------
        generator of pyarrow.RecordBatch
            Symbol by symbol, interval by interval, in the order of time where the feed
            promises one.

        Raises
        ------
        FileError
            For an invalid file, unless such files are skipped.
        """
        names = feed.arrow.names if columns is None else list(columns)
        if pruner is None:
            pruner = Selection() if where is None else ArrowPruner(where, feed.arrow, feed.time)
        few = pruner.symbols
        folders = self.names(feed, pruner.symbol_may_match if few is None else Symbols(few))
        if not folders and not self.names(feed):
            raise self.nothing_of(feed)
        return self._scan(Query(feed, names, pruner, where, in_full), folders)

    def _scan(self, query: Query, folders: Sequence[Folder]) -> Generator[pa.RecordBatch]:
        feed = query.feed
        report = self.last_scan = ScanReport(feed.view)
        tally = Tally(report)
        start = time.perf_counter()
        self.cache.remove_old()
        try:
            for batch in self._read(query, folders, tally):
                report.rows += batch.num_rows
                yield batch
            report.complete = True
        finally:
            report.seconds = time.perf_counter() - start
            self.known.remember(feed, tally.stats)

    def _read(
        self, query: Query, folders: Sequence[Folder], tally: Tally
    ) -> Iterator[pa.RecordBatch]:
        """Read the rows of a query; again with other tables if one goes before the first row."""
        feed = query.feed
        # All folders of a stream, since it depends on all which file gives a day.
        names = {each.stream for each in folders if query.pruner.folder_may_match(each)}
        symbols = Symbols(stream.symbol for stream in names)
        streams = self.folders(
            feed,
            symbols,
            lambda folder: folder.stream in names,
            NeededMonths(query.pruner),
        )
        tally.report.considered = sum(stored.count for stored in streams)
        steps, tabled, snapshot = self._steps(query, streams)
        if query.in_full and query.reads and self._builder.build_if_repeated(feed, steps):
            steps, tabled, snapshot = self._steps(query, streams)
        lookup = FileLookup(self._context, feed)
        for _ in range(_ATTEMPTS):
            reader = ScanReader(lookup, snapshot, tabled, query, tally, self._context.skip)
            try:
                yield from reader.read(steps)
                return
            except StaleSnapshot:
                steps, tabled, snapshot = self._steps(query, streams)
        raise StoreError(f"{self.cache.folder}: the tables of {feed.view} change all the time")

    def _steps(
        self, query: Query, streams: Sequence[StoredFolder]
    ) -> tuple[list[ScanStep], TabledFiles, Snapshot]:
        """Plan a scan, with the tables as they are now."""
        snapshot = self.cache.tables.snapshot(query.feed)
        symbols = {stored.folder.symbol for stored in streams}
        tabled = self._tabled_of(query.feed, snapshot, symbols)
        steps = ScanPlanner(self._context, query.feed, query.pruner).steps(streams, tabled)
        return steps, tabled, snapshot

    def _tabled_of(
        self, feed: FeedTable, snapshot: Snapshot, symbols: Set[str] | None = None
    ) -> TabledFiles:
        """Return the entries of tables, of all symbols or of a few."""
        few = frozenset(symbols) if symbols is not None and len(symbols) <= _FEW_SYMBOLS else None
        entries = snapshot.entries(few)
        known = self._tabled.get((feed.table, few))
        if known is None or known.entries is not entries:
            if len(self._tabled) > _REMEMBERED:
                self._tabled.clear()
            known = self._tabled[feed.table, few] = TabledFiles(entries)
        return known

    # Tables

    def build(
        self,
        market: str | None = None,
        data_type: str | None = None,
        symbols: str | Iterable[str] | None = None,
        *,
        quiet: bool = False,
    ) -> TableUse:
        """Build tables of all files, as `OpenStore.build` describes.

        With `quiet`, shows no progress, and does not warn of bad files.
        """
        feeds, names = self._files_to_build(market, data_type, symbols)
        self.cache.remove_old()
        missing: list[tuple[FeedTable, list[FileTask]]] = []
        for feed in feeds:
            tabled = self._tabled_of(feed, self.cache.tables.snapshot(feed))
            streams = self.folders(feed, lambda symbol: names is None or symbol in names)
            missing.append((feed, [task for each in streams for task in tabled.missing(each)]))
        self._builder.build(missing, quiet=quiet)
        if isinstance(self.store, BucketStore):
            self.store.records.compact()
        return self.cache.use()

    def compact(self, feeds: Iterable[FeedTable]) -> None:
        """Rewrite the tables of feeds without the rows of files that are gone, where it is due.

        Raises
        ------
        StoreError, DiskSpaceError
            If the tables cannot be written.
        """
        tabled = [feed for feed in feeds if self.cache.tables.snapshot(feed).parts]
        if tabled:
            self._builder.build([(feed, []) for feed in tabled])

    def _files_to_build(
        self, market: str | None, data_type: str | None, symbols: str | Iterable[str] | None
    ) -> tuple[list[FeedTable], set[str] | None]:
        """Return feeds, without a data type not those of single trades, and symbols (None: all)."""
        feeds = self.matching_feeds(market, data_type)
        small = [feed for feed in feeds if data_type or not feed.data_type.has_events]
        if symbols is None:
            return small, None
        known = {folder.symbol for feed in feeds for folder in self.names(feed)}
        names = named(read_names("symbols", symbols), known)
        for name in sorted(names - known):
            guess = nearest(name, sorted(known))
            hint = f"; did you mean {guess!r}?" if guess else ""
            raise field_error("symbols", f"{shown(name)} is not in the store{hint}")
        return small, names

    # Files

    def plan(
        self, feed: FeedTable, streams: Sequence[StoredFolder], selection: Pruner, skip: Skip
    ) -> list[MonthTask]:
        """Plan which files give the rows of each day, without tables.

        Parameters
        ----------
        feed : FeedTable
        streams : sequence of StoredFolder
            All of the feed.
        selection : Pruner
        skip : callable
            Called with the error of each file that is no longer the proven one.
        """
        context = replace(self._context, skip=skip)
        return ScanPlanner(context, feed, selection).months(streams)

    def tasks(self, feed: FeedTable, files: Iterable[FileTask]) -> list[FileTask]:
        """Return files as they are on disk now, with their statistics."""
        return FileLookup(self._context, feed).current(files)

    def profiles(
        self,
        feed: FeedTable,
        tasks: Iterable[FileTask],
        skip: Skip,
        done: Callable[[int], None],
    ) -> dict[str, FileProfile]:
        """Profile files; those whose profile is remembered are not read.

        Parameters
        ----------
        feed : FeedTable
        tasks : iterable of FileTask
        skip : callable
            Called with the error of each file that cannot be read; it has no profile.
        done : callable
            Called with the number of files that were profiled since the last call.

        Returns
        -------
        dict of str to FileProfile
            By the keys of the files.
        """
        remembered = self.known.profiles(feed)
        profiles: dict[str, FileProfile] = {}
        unread: dict[str, FileTask] = {}
        for task in tasks:
            key = task.file.key
            profile = remembered.get(key)
            if profile and profile.stats.is_of(task.file) and task.stats is not None:
                profiles[key] = profile
            else:
                # A file that gives several stretches of days is read once.
                unread[key] = replace(task, without=frozenset()) if task.without else task
        done(len(profiles))
        lookup = FileLookup(replace(self._context, skip=skip), feed)
        return profiles | lookup.profile([*unread.values()], workers=worker_count(), done=done)

    def proven(self, feed: FeedTable, files: Iterable[StoredFile]) -> set[str]:
        """Return the keys of the files whose proof is recorded and valid.

        Those that were moved since they were proven are hashed again, once, with progress.
        """
        proofs = self.store.records.proofs(*feed.prefixes)
        # The proof of a zip says nothing about a csv file in its place.
        zips = [file for file in files if file.key in proofs and file.is_zip]
        proven = {file.key for file in zips if proofs[file.key].is_of(file.stamp)}
        moved = [file for file in zips if file.key not in proven]
        return proven | rehash_moved(self.store.records, moved, proofs).keys()

    def _leave_out(self, error: FileError) -> None:
        """Leave a file out, with a warning."""
        first = error.file not in self.problems
        self.problems[error.file] = error
        if first:
            warn_user(f"left out: {error.problem()}")

    def reject(self, error: FileError) -> None:
        """Raise an error, or leave its file out, according to ``on_error``."""
        if self._context.skip is None:
            raise error
        self._context.skip(error)

    # Frames

    def frame(self) -> pl.DataFrame:
        """List the streams, one row each.

        Returns
        -------
        polars.DataFrame
            ``view``, ``market``, ``data_type``, ``partition``, ``symbol``, ``interval``,
            ``first`` and ``last`` (UTC days that files cover, both inclusive), ``files``,
            ``bytes`` (of the zips), ``proven`` (files whose proof is valid) and ``tabled``
            (files whose rows are in tables).
        """
        rows: list[tuple[object, ...]] = []
        for feed in self.feeds():
            streams = self.folders(feed)
            proven = self.proven(feed, chain.from_iterable(stored.files for stored in streams))
            tabled = self._tabled_of(feed, self.cache.tables.snapshot(feed))
            rows += (_row_of(feed, stored, proven, tabled) for stored in streams)
        return pl.DataFrame(rows, schema=STREAMS, orient="row")

    def problems_frame(self) -> pl.DataFrame:
        """List the files that were left out: ``file``, ``reason``, ``detail``."""
        rows = [(each.file, each.reason, each.detail) for each in self.problems.values()]
        return pl.DataFrame(rows, schema=PROBLEMS, orient="row")

    def last_scan_frame(self) -> pl.DataFrame:
        """Return the cost of the latest query as one row; no row before the first one."""
        rows = [] if self.last_scan is None else [astuple(self.last_scan)]
        return pl.DataFrame(rows, schema=SCANS, orient="row")


def _row_of(
    feed: FeedTable, stored: StoredFolder, proven: Set[str], tabled: TabledFiles
) -> tuple[object, ...]:
    """Return the row of a stream."""
    folder, files = stored.folder, stored.files
    return (
        feed.view,
        folder.market.value,
        folder.data_type.value,
        folder.partition.value,
        folder.symbol,
        folder.interval and folder.interval.value,
        files[0].start,
        max(file.end for file in files),
        len(files),
        sum(file.size for file in files),
        sum(file.key in proven for file in files),
        len(files) - len(tabled.missing(stored)),
    )
