"""What a store holds, and its rows: the one way from files to batches of rows.

A question goes through the same steps whoever asks it, DuckDB or Polars: which files
serve each day, which of them can concern the question, which of their months are in the
cache, and then the reading of the rest.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, replace
from itertools import chain, groupby
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.archive.enums import Partition, read_names
from binance_archive_kit.archive.schemas import load_schemas
from binance_archive_kit.display import render
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    FileError,
    disk_error,
    nearest,
    shown,
)
from binance_archive_kit.query.cache import CacheUse, MonthCache, touch
from binance_archive_kit.query.options import ReadOptions
from binance_archive_kit.query.pruning import All, ArrowPruner, Pruner, Selection
from binance_archive_kit.query.scan_planner import (
    FileNotes,
    MonthTask,
    Proofs,
    ScanPlanner,
    Served,
)
from binance_archive_kit.reading.batches import batch_of, count_chunks
from binance_archive_kit.reading.chunks import Chunk
from binance_archive_kit.reading.feed_table import FeedTable, feed_table, read_feed
from binance_archive_kit.reading.file_stats import FileStats, FileTask
from binance_archive_kit.reading.profile import FileProfile, profile_files
from binance_archive_kit.reading.reader import ZipReader
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.moved import rehash_moved
from binance_archive_kit.storage.records import ProofRecord
from binance_archive_kit.storage.skipped import SkippedFile, find_skipped
from binance_archive_kit.storage.store import Store

_DEFAULTS = ReadOptions()


@dataclass(slots=True)
class ScanReport:
    """What one question has cost.

    Attributes
    ----------
    view : str
    considered : int
        Files that serve the feed.
    opened : int
        Zips that were opened.
    cached : int
        Files whose rows came from the cache.
    inflated : int
        Bytes of csv that were inflated from the zips.
    rows : int
        Rows handed out.
    seconds : float
        From the question to the last row, with the time its reader took.
    complete : bool
        Whether the question was answered to its end.
    """

    view: str
    considered: int = 0
    opened: int = 0
    cached: int = 0
    inflated: int = 0
    rows: int = 0
    seconds: float = 0.0
    complete: bool = False

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.view}: {self.opened:,} of {self.considered:,} files opened, "
            f"{self.cached:,} from the cache; {render.size(self.inflated)} inflated, "
            f"{self.rows:,} rows in {self.seconds:.2f} s"
        )


STREAMS: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("view", "market", "data_type", "partition", "symbol", "interval"), pl.String),
    **dict.fromkeys(("first", "last"), pl.Date),
    **dict.fromkeys(("files", "bytes", "proven"), pl.Int64),
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


@dataclass(frozen=True)
class Query:
    """What is asked of a feed.

    Attributes
    ----------
    feed : FeedTable
    names : list of str
        Columns to give.
    pruner : Pruner
    where : pyarrow.dataset.Expression or None
    """

    feed: FeedTable
    names: list[str]
    pruner: Pruner
    where: ds.Expression | None

    @property
    def looked_at(self) -> list[str]:
        """Columns to read: those to give, and any that the condition may look at."""
        words = "" if self.where is None else str(self.where)
        return [name for name in self.feed.arrow.names if name in self.names or name in words]

    @property
    def reads(self) -> bool:
        """Whether rows have to be looked at, and not only counted."""
        return any(name == "date" or name in self.feed.columns for name in self.looked_at)

    def rows_of(self, piece: Chunk) -> pa.RecordBatch:
        """Choose the rows and columns of a piece that are to be given."""
        batch = batch_of(piece, pa.schema([self.feed.arrow.field(n) for n in self.looked_at]))
        if self.where is not None:
            groups = groupby((source for source, _ in piece.spans), lambda source: source.held)
            covered = (
                self.pruner.all_match(held, [s.file for s in group]) for held, group in groups
            )
            if not all(covered):
                batch = batch.filter(self.where)
        return batch.select(self.names)


class _Tally:
    """What the pieces of a scan have cost, and what they have shown of their files."""

    def __init__(self, report: ScanReport) -> None:
        self.report = report
        #: Facts of files that were read to their end.
        self.learned: dict[str, FileStats] = {}
        self._begun: dict[str, FileStats] = {}

    def count(self, piece: Chunk) -> None:
        self.report.opened += len(piece.spans) if piece.ends else 0
        self.report.inflated += piece.inflated
        for (source, _), stats in zip(piece.spans, piece.stats, strict=False):
            key = source.file.key
            shown = self._begun.pop(key, None) + stats
            (self.learned if piece.ends else self._begun)[key] = shown


class Engine:
    """The files of a store, ready to be read; safe to be used by several threads.

    Parameters
    ----------
    root : str or Path
        A folder in the archive's layout, whoever filled it.
    options : ReadOptions

    Attributes
    ----------
    problems : dict of str to FileError
        Files that were left out, by their path inside the store, with the reasons.
    last_scan : ScanReport or None
        What the latest question has cost.
    """

    def __init__(self, root: str | Path, options: ReadOptions = _DEFAULTS) -> None:
        self._store = Store.open(root)
        self.root = self._store.root
        self.problems: dict[str, FileError] = {}
        self.last_scan: ScanReport | None = None
        self.cache = MonthCache(self.root, keep=options.cache, limit=options.cache_limit)
        self.options = options
        self._first = Partition(options.prefer)
        self._skip = self._leave_out if options.on_error == "skip" else None
        self._servings = ScanPlanner(
            self.root, self._store, self.cache, first=self._first, skip=self._skip
        )
        self._keeper = _Keeper(self)

    # Feeds

    def feeds(self) -> list[FeedTable]:
        """List the feeds that the store has files of."""
        return [
            self.feed(*name) for name in self._store.inventory.feeds() if name in load_schemas()
        ]

    def feed(self, market: str, data_type: str) -> FeedTable:
        """Look up a feed, whether the store has files of it or not.

        Raises
        ------
        ConfigurationError
            If there is no such feed in the archive.
        """
        return feed_table(*read_feed(market, data_type), decimals=self.options.decimals)

    def nothing_of(self, feed: FeedTable) -> str:
        """Say that the store has no file of a feed, and what to do about it."""
        return (
            f"the store {self.root} has no {feed.market.title} {feed.data_type}; collect some "
            f'first: collect(markets=["{feed.market}"], data_types=["{feed.data_type}"], …)'
            f"{self.skipped_hint()}"
        )

    def folders(self, feed: FeedTable) -> list[StoredFolder]:
        """List the streams of a feed, as they lie in the store now."""
        return self._store.inventory.folders(feed.market, feed.data_type)

    def skipped(self) -> list[SkippedFile]:
        """List the files that are not read because of their name or place, and what to do."""
        return find_skipped(self._store.inventory)

    def skipped_hint(self, symbol: str = "") -> str:
        """Return what to add to a message that something is not there; empty if no file is skipped.

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
    ) -> Generator[pa.RecordBatch]:
        """Read the rows of a feed.

        Parameters
        ----------
        feed : FeedTable
        columns : sequence of str, optional
            Path columns and own columns to give, in this order; None for all.
        pruner : Pruner, optional
            What decides which files are opened; by default `where` does.
        where : pyarrow.dataset.Expression, optional
            Only rows for which this is true are given.

        Returns
        -------
        generator of pyarrow.RecordBatch
            Symbol by symbol, interval by interval, in the order of time where the feed
            promises one.

        Raises
        ------
        FileError
            For a file that is not what its name says, unless such files are skipped.
        """
        names = feed.arrow.names if columns is None else list(columns)
        if pruner is None:
            pruner = All() if where is None else ArrowPruner(where, feed.arrow, feed.time)
        streams = self.folders(feed)
        if not streams:
            raise ConfigurationError(self.nothing_of(feed))
        return self._scan(Query(feed, names, pruner, where), streams)

    def _scan(self, question: Query, streams: Sequence[StoredFolder]) -> Generator[pa.RecordBatch]:
        feed = question.feed
        report = self.last_scan = ScanReport(feed.view)
        report.considered = sum(len(held.files) for held in streams)
        tally = _Tally(report)
        began = time.perf_counter()
        try:
            months = self._servings.months(feed, streams, question.pruner, cached=question.reads)
            read = self._read if question.reads else self._counted
            for batch in read(question, months, tally):
                report.rows += batch.num_rows
                yield batch
            report.complete = True
            if question.reads:
                self._keeper.take(feed, months)
        finally:
            report.seconds = time.perf_counter() - began
            self.cache.remember(feed, tally.learned)

    def _read(
        self, question: Query, months: Sequence[MonthTask], tally: _Tally
    ) -> Iterator[pa.RecordBatch]:
        """Read months; neighbours that lie in the same place together."""
        for is_kept, run in groupby(months, lambda month: month.kept is not None):
            if is_kept:
                yield from self._kept(question, list(run), tally)
            else:
                sources = [source for month in run for source in month.sources]
                yield from self._unzipped(question, sources, tally)

    def _counted(
        self, question: Query, months: Sequence[MonthTask], tally: _Tally
    ) -> Iterator[pa.RecordBatch]:
        """Give as many rows as files are known to have; open only the others."""
        by_file = "file" in question.looked_at
        spans = (span for month in months for span in month.spans(by_file=by_file))
        for is_known, run in groupby(spans, lambda span: span[1] is not None):
            if is_known:
                yield from map(question.rows_of, count_chunks(run))
            else:
                yield from self._unzipped(question, [source for source, _ in run], tally)

    def _kept(
        self, question: Query, months: Sequence[MonthTask], tally: _Tally
    ) -> Iterator[pa.RecordBatch]:
        """Read months from the cache; from the zips, should that fail."""
        feed = question.feed
        paths = [month.kept for month in months if month.kept is not None]
        given = 0
        try:
            for batch in self.cache.read(paths, feed.arrow, question.names, question.where):
                given += batch.num_rows
                yield batch
        except (pa.ArrowInvalid, OSError):
            # Deleted, or damaged. The same rows come from the zips, in the same order.
            self.cache.discard(paths)
            needed = [each for month in months for each in month.needed]
            sources = self._servings.sources(feed, needed, Proofs(self._store))
            for batch in self._unzipped(question, sources, tally):
                over = min(given, batch.num_rows)
                given -= over
                if over < batch.num_rows:
                    yield batch.slice(over)
        else:
            tally.report.cached += sum(len(month.serving) for month in months)
            touch(paths)

    def _unzipped(
        self, question: Query, sources: Sequence[FileTask], tally: _Tally
    ) -> Iterator[pa.RecordBatch]:
        """Read files from the zips."""
        pieces = ZipReader(self.root, question.feed, notes=self._notes(question.feed)).chunks(
            sources,
            question.looked_at,
            lambda piece: (piece, question.rows_of(piece)),
            workers=_workers(),
            skip=self._skip,
        )
        with closing(pieces):
            for piece, batch in pieces:
                tally.count(piece)
                if batch.num_rows:
                    yield batch

    def _notes(self, feed: FeedTable) -> FileNotes:
        return FileNotes(self._store, self.cache, feed)

    # Examining

    def proofs(self, feed: FeedTable) -> dict[str, ProofRecord]:
        """Give what was recorded of a feed's proven files, by their keys."""
        proofs: dict[str, ProofRecord] = {}
        for prefix in feed.prefixes:
            proofs |= self._store.records.proofs(prefix)
        return proofs

    def proven(self, feed: FeedTable, files: Iterable[StoredFile]) -> set[str]:
        """Return the keys of the files whose proof is recorded and still stands.

        Those that were moved since they were proven are hashed again, once, with progress.
        """
        proofs = self.proofs(feed)
        proven: set[str] = set()
        others: list[StoredFile] = []
        for file in files:
            proof = proofs.get(file.key)
            # What is proven of a zip says nothing of a csv file in its place.
            if proof is not None and file.is_zip:
                if proof.is_of(file.stamp):
                    proven.add(file.key)
                else:
                    others.append(file)
        return proven | rehash_moved(self._store.records, others, proofs).keys()

    def serving(
        self,
        feed: FeedTable,
        streams: Sequence[StoredFolder],
        pruner: Pruner,
        skip: Callable[[FileError], None],
    ) -> list[MonthTask]:
        """Tell which files give each day, month by month; from the zips, whatever the cache has.

        Parameters
        ----------
        feed : FeedTable
        streams : sequence of StoredFolder
            All of the feed.
        pruner : Pruner
        skip : callable
            Told of files that are not what they were when they were proven.
        """
        servings = ScanPlanner(self.root, self._store, self.cache, first=self._first, skip=skip)
        return servings.months(feed, streams, pruner, cached=False)

    def contents(
        self,
        feed: FeedTable,
        sources: Iterable[FileTask],
        skip: Callable[[FileError], None],
        done: Callable[[int], None],
    ) -> dict[str, FileProfile]:
        """See what is in files, reading those that were not seen before.

        Parameters
        ----------
        feed : FeedTable
        sources : iterable of FileTask
        skip : callable
            Told of files that cannot be read, which are not among the result.
        done : callable
            Told how many more files are seen into.

        Returns
        -------
        dict of str to Contents
            By the keys of the files.
        """
        remembered = self.cache.profiles(feed)
        seen: dict[str, FileProfile] = {}
        unseen: dict[str, FileTask] = {}
        for source in sources:
            key = source.file.key
            known = remembered.get(key)
            if known and known.stats.is_of(source.file) and source.stats is not None:
                seen[key] = known
            else:
                # A file that serves several stretches of days is looked at once.
                unseen[key] = replace(source, without=frozenset()) if source.without else source
        done(len(seen))
        new = dict(self._examined(feed, list(unseen.values()), skip, done))
        self.cache.remember_profiles(feed, new)
        return seen | new

    def tasks(self, feed: FeedTable, served: Sequence[Served]) -> list[FileTask]:
        """Return what to read of files, each as it is on disk now."""
        return self._servings.sources(feed, served, Proofs(self._store))

    @property
    def workers(self) -> int:
        """Threads to read with."""
        return _workers()

    def _examined(
        self,
        feed: FeedTable,
        sources: Sequence[FileTask],
        skip: Callable[[FileError], None],
        done: Callable[[int], None],
    ) -> Iterator[tuple[str, FileProfile]]:
        """Read files for what is in them."""
        with closing(
            profile_files(
                self.root,
                feed,
                sources,
                workers=_workers(),
                skip=skip,
                notes=self._notes(feed),
            )
        ) as looked:
            for files in looked:
                done(len(files))
                yield from files.items()

    def _leave_out(self, error: FileError) -> None:
        """Leave a file out, and say so."""
        first = error.file not in self.problems
        self.problems[error.file] = error
        if first:
            warnings.warn(f"left out: {error}", ArchiveKitWarning, stacklevel=2)

    def reject(self, error: FileError) -> None:
        """Raise what is wrong with a file, or list it as left out, as ``on_error`` says."""
        if self._skip is None:
            raise error
        self._skip(error)

    # Looking

    def frame(self) -> pl.DataFrame:
        """Say what is there: a row for each stream.

        Returns
        -------
        polars.DataFrame
            ``view``, ``market``, ``data_type``, ``partition``, ``symbol``, ``interval``,
            ``first`` and ``last`` (UTC days that files cover, both inclusive), ``files``,
            ``bytes`` (of the zips) and ``proven`` (files whose proof still stands).
        """
        rows: list[tuple[object, ...]] = []
        for feed in self.feeds():
            streams = self.folders(feed)
            proven = self.proven(feed, chain.from_iterable(held.files for held in streams))
            rows += (_line(feed, held, proven) for held in streams)
        return pl.DataFrame(rows, schema=STREAMS, orient="row")

    def problems_frame(self) -> pl.DataFrame:
        """Give the files that were left out: ``file``, ``reason``, ``detail``."""
        rows = [(each.file, each.reason, each.detail) for each in self.problems.values()]
        return pl.DataFrame(rows, schema=PROBLEMS, orient="row")

    def last_scan_frame(self) -> pl.DataFrame:
        """Give what the latest question has cost, as one row; none if there was no question."""
        rows = [] if self.last_scan is None else [astuple(self.last_scan)]
        return pl.DataFrame(rows, schema=SCANS, orient="row")

    # Keeping

    def warm(
        self,
        market: str | None = None,
        data_type: str | None = None,
        *,
        symbols: str | Iterable[str] | None = None,
    ) -> CacheUse:
        """Put all months into the cache, so that the first query is as fast as the later ones.

        Shows its progress. Months that are there already cost nothing.

        Parameters
        ----------
        market, data_type : str, optional
            Only these feeds; None for all.
        symbols : str or iterable of str, optional
            Only these symbols; None for all.

        Returns
        -------
        CacheUse
            What the cache takes now.

        Raises
        ------
        ConfigurationError
            If the store has no such feed, or none of them has such a symbol.
        StoreError, DiskSpaceError
            If the cache's folder cannot be written to.
        """
        feeds = [feed for feed in self.feeds() if feed.is_called(market, data_type)]
        wanted = " ".join(word for word in (market, data_type) if word)
        if wanted and not feeds:
            views = ", ".join(feed.view for feed in self.feeds())
            raise ConfigurationError(
                f"the store {self.root} has no {wanted}; it has {views or 'nothing'}"
            )
        names = None if symbols is None else frozenset(read_names("symbols", symbols))
        there = sorted({held.folder.symbol for feed in feeds for held in self.folders(feed)})
        for name in sorted(names or ()):
            if name not in there:
                guess = nearest(name, there)
                hint = f"; did you mean {guess!r}?" if guess else ""
                raise ConfigurationError(f"symbols: {shown(name)} is not in the store{hint}")
        pruner = Selection(symbols=names)
        progress = Progress()
        with Bar(progress) as bar:
            todo = []
            for feed in feeds:
                months = self._servings.months(feed, self.folders(feed), pruner)
                todo += [(feed, month) for month in months if month.kept is None]
            progress.begin("filling the cache", len(todo), unit="months")
            try:
                for feed, month in todo:
                    self.keep(feed, month, workers=_workers())
                    progress.done += 1
                    bar.update()
                self.cache.trim()
            except OSError as error:
                raise disk_error(error, self.cache.folder) from None
        return self.cache.use()

    def keep(self, feed: FeedTable, month: MonthTask, *, workers: int) -> None:
        """Put a month into the cache."""
        sources = self._servings.sources(feed, month.serving, Proofs(self._store))
        path = self.cache.month(feed, month.serving[0].held.folder, sources)
        if path is None or path.exists() or len(sources) < len(month.serving):
            return
        tally = _Tally(ScanReport(feed.view))

        def rows() -> Iterator[pa.RecordBatch]:
            pieces = ZipReader(self.root, feed, notes=self._notes(feed)).chunks(
                sources, feed.arrow.names, lambda piece: piece, workers=workers
            )
            for piece in pieces:
                tally.count(piece)
                yield batch_of(piece, feed.arrow)

        self.cache.write(path, feed.arrow, rows())
        self.cache.remember(feed, tally.learned)


class _Keeper:
    """Puts months into the cache once they were read, while nobody waits."""

    def __init__(self, engine: Engine) -> None:
        self._holdings = engine
        self._todo: deque[tuple[FeedTable, MonthTask]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def take(self, feed: FeedTable, months: Iterable[MonthTask]) -> None:
        """Note the months that a question has read whole and from the zips."""
        if self._holdings.cache.folder is None:
            return
        self._todo += [
            (feed, month)
            for month in months
            if month.kept is None and len(month.needed) == len(month.serving)
        ]
        self._go_on()

    def _go_on(self) -> None:
        """Start the next month, one at a time: so a program that ends waits for one at most."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "cache")
        # There is no next one, or the program is ending.
        with suppress(IndexError, RuntimeError):
            self._pool.submit(self._keep, *self._todo.popleft())

    def _keep(self, feed: FeedTable, month: MonthTask) -> None:
        # The zips are there whatever becomes of this: a full disk, a bad file, a lost folder.
        with suppress(OSError, FileError):
            self._holdings.keep(feed, month, workers=1)
        if not self._todo:
            self._holdings.cache.trim()
        self._go_on()


def _line(feed: FeedTable, held: StoredFolder, proven: Set[str]) -> tuple[object, ...]:
    """Say what there is of a stream, and how much of it is proven."""
    folder, files = held.folder, held.files
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
    )


def _workers() -> int:
    """Threads to read with: one more than there are cores, as one of them often waits."""
    return min(os.cpu_count() or 1, 8) + 1
