"""Whether data can be trusted: what was wanted, what the archive has, and what is inside.

`coverage` holds what is due against what is there, down to single rows, and says of every
gap of which kind it is. `backtest_coverage` says what several streams can support together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.annotations import load_annotations
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    ObjectKey,
    Stream,
    delivery_of,
    period_end,
    periods,
)
from binance_archive_kit.archive.matrix import Matrix, PartitionAvailability, load_matrix
from binance_archive_kit.archive.schemas import schema
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import ConfigurationError, FileError
from binance_archive_kit.paths import find_path
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.planner import plan
from binance_archive_kit.planning.requests import TRADED
from binance_archive_kit.quality.backtest import BacktestCoverage
from binance_archive_kit.quality.gaps import (
    DaySource,
    Explanation,
    Finding,
    FindingKind,
    GapKind,
    Halt,
    Timeline,
    classify_halts,
    examine,
)
from binance_archive_kit.quality.reconcile import compare_month, shared_rows
from binance_archive_kit.quality.report import CoverageReport, report_on
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.open_store import OpenStore
from binance_archive_kit.query.options import Prefer, ReadOptions
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.cadence import cadence_of
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats
from binance_archive_kit.reading.file_stats import FileTask as FileSource
from binance_archive_kit.reading.profile import FileProfile
from binance_archive_kit.reading.values import CONSTANT_ROWS, Flaw, Standing, joined_standing
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.store import Store
from binance_archive_kit.timestamps import (
    DAY,
    format_time,
    from_day_number,
    resolve_day,
    to_datetime,
    to_day_number,
    to_micros,
    to_naive,
)

T = TypeVar("T")
FileTask = str | Path | OpenStore | CollectionConfig | Plan
#: What a line is about.
Name = tuple[Market, DataType, str, Interval | None]
#: Files of a line by their keys, and the days of each that another one gives instead.
_Owned = dict[str, tuple[DaySource, frozenset[date]]]

_ONE_DAY = timedelta(days=1)
#: Why two files differ where the archive has put only one of them right.
_KNOWN_WRONG = (
    "as is known, the monthly file is wrong on this day, and the daily one gives its rows"
)
#: What is said of days whose file is gone.
_REMOVED = "its file was collected and is no longer there; collect(...) fetches it again"
_MIDNIGHT = datetime.min.time()
#: How long ago a period may have ended that is not published yet.
_RECENT = timedelta(days=62)
#: Words for what the archive says of days it has no file of. Other absences are no gaps in
#: something: there never was such a thing.
_KINDS = {
    Reason.ABSENT: GapKind.MISSING_IN_ARCHIVE,
    Reason.OTHER_NAME: GapKind.NOT_COLLECTED,
    Reason.AFTER_LAST: GapKind.AFTER_DELISTING,
    Reason.NOT_PUBLISHED: GapKind.NOT_PUBLISHED,
    Reason.NOT_BEGUN: GapKind.BEFORE_LISTING,
    Reason.BEFORE_FIRST: GapKind.BEFORE_LISTING,
    Reason.ENDED: GapKind.ENDED_FEED,
}


def coverage(
    source: FileTask,
    *,
    start: str | date | None = None,
    end: str | date | None = None,
    prefer: Prefer = "daily",
) -> CoverageReport:
    """Report what is there of what is due: files, rows, and every gap with its reason.

    Reads each file once; what is in it is remembered beside its proof, so that a second
    report reads only what is new. Shows its progress.

    Parameters
    ----------
    source : str, Path, OpenStore, CollectionConfig or Plan
        A store's folder, or what `store` gives of it: what is there is held against itself,
        from the first to the last file of each stream that was ever collected, without
        asking the archive. A
        configuration (or the path of its JSON): what it wants is held against what the
        archive lists and its output folder has; this asks the archive's listing. A plan: as
        its configuration, without asking again.
    start, end : str or date, optional
        UTC days, both inclusive: only these. ``"yesterday"`` and ``"-7d"`` count from today.
        For a folder they may lie beyond its files; of a configuration's days, only those
        that lie within.
    prefer : {"daily", "monthly"}
        Which file serves a day that a daily and a monthly file cover both, as for `store`.

    Returns
    -------
    CoverageReport
        Shows itself in a notebook; see its ``gaps``, ``findings`` and ``to_frame()``.

    Raises
    ------
    ConfigurationError
        If there is no such folder, or a day or a field of the configuration cannot be meant.
    ListingError
        If a configuration is given and the archive's listing cannot be read.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> report = bak.coverage("data/research")  # doctest: +SKIP
    >>> report.gaps  # doctest: +SKIP
    """
    span = _day("start", start), _day("end", end)
    if span[0] and span[1] and span[0] > span[1]:
        raise ConfigurationError(f"start: {start} is after end: {end}")
    if isinstance(source, str | Path) and find_path("source", source).is_file():
        source = CollectionConfig.from_json(source)
    if isinstance(source, CollectionConfig):
        source = plan(source)
    if isinstance(source, Plan):
        folder = Path(source.config.output_directory)
        held = Engine(folder, ReadOptions(prefer=prefer)) if folder.is_dir() else None
        matrix = load_matrix(source.config.matrix_path)
        return Survey(held, matrix, Expected.of_plan(source, span)).report(str(folder))
    engine = (
        source.engine
        if isinstance(source, OpenStore)
        else Engine(source, ReadOptions(prefer=prefer))
    )
    survey = Survey(engine, load_matrix(), Expected.of_folder(engine, span))
    return survey.report(str(engine.root))


def backtest_coverage(
    source: FileTask,
    *,
    min_coverage: float = 0.999,
    start: str | date | None = None,
    end: str | date | None = None,
    prefer: Prefer = "daily",
) -> BacktestCoverage:
    """Say what several streams can support together.

    Parameters
    ----------
    source, start, end, prefer
        As for `coverage`.
    min_coverage : float
        Share of the rows that are due, 0 to 1, which every stream must have.

    Returns
    -------
    BacktestCoverage
        The common window, the weakest stream, what a strategy must skip, and a verdict.

    Raises
    ------
    ConfigurationError, ListingError
        As for `coverage`.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> ready = bak.backtest_coverage("data/research", min_coverage=0.99)  # doctest: +SKIP
    >>> ready.raise_if_not_ready()  # doctest: +SKIP
    """
    check_share(min_coverage)
    report = coverage(source, start=start, end=end, prefer=prefer)
    return BacktestCoverage(report, min_coverage)


def check_share(min_coverage: float) -> float:
    """Give a share of rows back if it is one.

    Raises
    ------
    ConfigurationError
        If it is not above 0 and at most 1.
    """
    number = isinstance(min_coverage, int | float) and not isinstance(min_coverage, bool)
    if not number or not 0 < min_coverage <= 1:
        raise ConfigurationError(
            f"min_coverage: {min_coverage!r} is no share of rows; give one above 0, up to 1, "
            "such as 0.999"
        )
    return min_coverage


def _day(name: str, value: str | date | None) -> date | None:
    if isinstance(value, datetime):
        raise ConfigurationError(f"{name}: {value} is a moment; coverage is told of whole UTC days")
    try:
        return None if value is None else resolve_day(value, datetime.now(UTC).date())
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None


# What is wanted


@dataclass(slots=True)
class ExpectedStream:
    """What is wanted of one line.

    Attributes
    ----------
    first, last : date
        UTC days, both inclusive.
    listed : list of (str, date, date)
        Keys that the archive lists, and the days of each.
    absent : list of Absence
        Days that the archive has no file of.
    """

    first: date
    last: date
    listed: list[tuple[str, date, date]] = field(default_factory=list)
    absent: list[Absence] = field(default_factory=list)

    def touches(self, file: StoredFile) -> bool:
        """Tell whether a file covers any of these days."""
        return file.start <= self.last and file.end >= self.first


@dataclass(slots=True)
class Expected:
    """What a report is to be about.

    Attributes
    ----------
    wanted : dict of Name to ExpectedStream
    unavailable : list of Absence
        What was asked for and never was.
    listed : bool
        Whether the archive was asked what it has.
    nothing : str
        Why nothing is wanted, where no day is.
    removed : dict of Name to list of ObjectKey
        What the store once had and has no file of.
    """

    wanted: dict[Name, ExpectedStream]
    unavailable: list[Absence]
    listed: bool
    nothing: str = ""
    removed: Mapping[Name, Sequence[ObjectKey]] = field(default_factory=dict)

    @classmethod
    def of_plan(cls, planned: Plan, span: tuple[date | None, date | None]) -> Expected:
        """Read what a configuration wants, and what the archive says to it."""
        days = planned.config.days()
        first, last = max(days.start, span[0] or days.start), min(days.end, span[1] or days.end)
        if first > last:
            said = f"the configuration wants {days.start} to {days.end}, none of which is asked for"
            return cls({}, [], planned.config.listing, said)
        wanted: dict[Name, ExpectedStream] = {}

        def of(name: Name) -> ExpectedStream:
            return wanted.setdefault(name, ExpectedStream(first, last))

        columns = planned.frame.select(
            "market", "data_type", "symbol", "interval", "key", "start", "end"
        )
        for market, data_type, symbol, interval, key, start, end in columns.iter_rows():
            if start <= last and end >= first:
                at = None if interval is None else Interval(interval)
                of((Market(market), DataType(data_type), symbol, at)).listed.append(
                    (key, start, end)
                )
        lacking = (*planned.missing, *planned.not_published, *planned.unavailable)
        unavailable = []
        for absence in lacking:
            of_line = _name_of(absence)
            if of_line is None or absence.reason not in _KINDS:
                unavailable.append(absence)
            elif absence.start <= last and absence.end >= first:
                of(of_line).absent.append(absence)
        for name, its in list(wanted.items()):
            # Of a symbol and interval that the archive has nothing of, no day can be lacking.
            if not its.listed and all(a.reason is Reason.BEFORE_FIRST for a in its.absent):
                unavailable += wanted.pop(name).absent
        return cls(wanted, unavailable, planned.config.listing)

    @classmethod
    def of_folder(cls, engine: Engine, span: tuple[date | None, date | None]) -> Expected:
        """Want what is there or was, from the first file of each line to the last."""
        wanted: dict[Name, ExpectedStream] = {}

        def want(folder: Folder, first: date, last: date) -> None:
            its = wanted.setdefault(_name_of_stream(folder), ExpectedStream(first, last))
            its.first, its.last = min(its.first, first), max(its.last, last)

        for feed in engine.feeds():
            for held in engine.folders(feed):
                want(held.folder, held.files[0].start, max(file.end for file in held.files))
        removed: dict[Name, list[ObjectKey]] = {}
        for key in _removed(engine):
            want(key.folder, key.start, key.end)
            removed.setdefault(_name_of_stream(key.folder), []).append(key)
        for name, its in list(wanted.items()):
            its.first, its.last = span[0] or its.first, span[1] or its.last
            if its.first > its.last:
                del wanted[name]
        return cls(wanted, [], listed=False, removed=removed)


def _removed(engine: Engine) -> Iterator[ObjectKey]:
    """List the objects that the store once had and has no file of."""
    there = {
        file.key for feed in engine.feeds() for held in engine.folders(feed) for file in held.files
    }
    for key in sorted(Store(engine.root).collected() - there):
        # A record that names no object says nothing.
        with suppress(ValueError):
            yield ObjectKey.parse(key)


def _name_of(absence: Absence) -> Name | None:
    """Name the line an absence is of; None if it is of many."""
    if absence.symbol is None or absence.data_type.has_intervals != (absence.interval is not None):
        return None
    interval = None if absence.interval is None else Interval(absence.interval)
    return absence.market, absence.data_type, absence.symbol, interval


def _name_of_stream(folder: Folder) -> Name:
    return folder.market, folder.data_type, folder.symbol, folder.interval


# What is there


class Survey:
    """Goes through a store, feed by feed, and holds it against what is wanted."""

    def __init__(self, engine: Engine | None, matrix: Matrix, asked: Expected) -> None:
        self._holdings = engine
        self._matrix = matrix
        self._asked = asked
        self._now = datetime.now(UTC).replace(tzinfo=None)
        self._progress = Progress()
        self._problems: dict[str, FileError] = {}
        self._findings: list[Finding] = []
        self._bar: Bar | None = None
        self._store = None if engine is None else Store(engine.root)
        self._streams: dict[FeedTable, list[StoredFolder]] = {}
        self._sources: dict[str, FileSource] = {}

    def report(self, title: str) -> CoverageReport:
        """Look at everything, and say what there is."""
        lines: list[Timeline] = []
        self._progress.begin("looking into files", self._count(), unit="files")
        with Bar(self._progress) as self._bar:
            for (market, data_type), group in groupby(
                sorted(self._asked.wanted, key=_order), key=lambda name: name[:2]
            ):
                lines += self._lines(market, data_type, list(group))
            for line in lines:
                examine(line)
            classify_halts(lines, lambda line: _known_halts(line.market), self._traded)
        for line in lines:
            for told in (_changes, _known_defects, _halts_beside):
                self._findings += told(line)
        findings = sorted(self._findings, key=lambda each: each.start)
        asked = self._asked
        return report_on(
            lines,
            findings,
            asked.unavailable,
            self._problems,
            title,
            nothing=asked.nothing,
            skipped=[] if self._holdings is None else self._holdings.skipped(),
        )

    def _lines(self, market: Market, data_type: DataType, names: Sequence[Name]) -> list[Timeline]:
        """Look at the files of one feed."""
        wanted = {name: self._asked.wanted[name] for name in names}
        owners: dict[Name, _Owned] = {name: {} for name in names}
        held: dict[Name, list[StoredFolder]] = {name: [] for name in names}
        if self._holdings is not None:
            feed = self._holdings.feed(market, data_type)
            for folder in self._held(self._holdings, feed):
                name = _name_of_stream(folder.folder)
                if name in held:
                    held[name].append(folder)
            self._own(feed, wanted, owners)
            for name, streams in held.items():
                self._compare(feed, name, streams, wanted[name])
        lines = []
        for name in names:
            line = self._line(name, wanted[name], owners[name], held[name])
            lines.append(line)
            facts = self._facts(market, data_type)
            self._findings += _flaws(line, facts)
            self._findings += self._meetings(line, facts)
        return lines

    def _meetings(self, line: Timeline, facts: Mapping[str, FileStats]) -> Iterator[Finding]:
        """Find rows of one key that two neighbouring files both have.

        Only labels at midnight and candles longer than a day can stand in two files.
        """
        engine = self._holdings
        if engine is None or not (line.cadence.is_long or line.data_type is DataType.METRICS):
            return
        owners = sorted(line.owners, key=lambda each: (each.start, each.end))
        for one, other in pairwise(owners):
            before, after = facts.get(one.key), facts.get(other.key)
            if before is None or after is None or before.last is None or after.first is None:
                continue
            if before.last < after.first or one.end > other.start:
                # What two files of one day say is compared elsewhere.
                continue
            feed = engine.feed(line.market, line.data_type)
            its, others = self._sources[one.key], self._sources[other.key]
            try:
                shared, differing = shared_rows(engine, feed, its, others)
            except FileError as error:
                self._skip(error)
                continue
            why = _shared_label(line, before.last) if shared == 1 else ""
            where = (*line.what, after.first, before.last + max(line.cadence.step, 1))
            said = f"{format_time(before.last)} stands in {one.name} and in {other.name}"
            if differing and not why:
                said = f"{said}; {differing[0].what}"
                yield Finding(*where, len(differing), FindingKind.CONFLICT, said)
            elif shared and not line.cadence.is_long:
                # A candle that lies in two months may stand in both, and is served once.
                yield Finding(*where, shared, FindingKind.DUPLICATE, said + why, bool(why))

    def _facts(self, market: Market, data_type: DataType) -> Mapping[str, FileStats]:
        """Return what reading the files of a feed has shown, by their keys."""
        if self._holdings is None:
            return {}
        return self._holdings.cache.known(self._holdings.feed(market, data_type))

    def _own(
        self,
        feed: FeedTable,
        wanted: Mapping[Name, ExpectedStream],
        owners: dict[Name, _Owned],
    ) -> None:
        """Find out which files give the days of each line, and what is in them."""
        engine = self._holdings
        if engine is None:
            return
        pruner = Selection(
            frozenset(name[2] for name in wanted),
            None if not feed.data_type.has_intervals else frozenset(str(n[3]) for n in wanted),
            datetime.combine(min(each.first for each in wanted.values()), _MIDNIGHT),
            datetime.combine(max(each.last for each in wanted.values()), _MIDNIGHT) + _ONE_DAY,
        )
        months = engine.serving(feed, self._held(engine, feed), pruner, self._skip)
        sources = {source.file.key: source for month in months for source in month.sources}
        self._sources |= sources
        profiles = engine.contents(feed, sources.values(), self._skip, self._done)
        served_files = (served.file for month in months for served in month.needed)
        proven = engine.proven(feed, served_files)
        for month in months:
            for served in month.needed:
                key = served.file.key
                name = _name_of_stream(served.held.folder)
                there = key in sources or served.file.place in self._problems
                if name not in owners or not there:
                    continue
                if key in owners[name]:
                    # It serves what is before the days of another one, and what is after.
                    owner, without = owners[name][key]
                    owners[name][key] = owner, without & served.without
                    continue
                owner = self._owner(served.file, profiles.get(key), proven=key in proven)
                owners[name][key] = owner, served.without

    def _held(self, engine: Engine, feed: FeedTable) -> list[StoredFolder]:
        """List what the store has of a feed: the same all along, whatever comes meanwhile."""
        if feed not in self._streams:
            self._streams[feed] = engine.folders(feed)
        return self._streams[feed]

    def _count(self) -> int:
        """Count the files to look into."""
        if self._holdings is None:
            return 0
        return sum(
            wanted.touches(file)
            for feed in {name[:2] for name in self._asked.wanted}
            for held in self._held(self._holdings, self._holdings.feed(*feed))
            if (wanted := self._asked.wanted.get(_name_of_stream(held.folder))) is not None
            for file in held.files
        )

    def _done(self, count: int) -> None:
        self._progress.done = min(self._progress.done + count, self._progress.total)
        if self._bar is not None:
            self._bar.update()

    def _owner(self, file: StoredFile, profile: FileProfile | None, *, proven: bool) -> DaySource:
        problem = self._problems.get(file.place)
        return DaySource(
            file.key,
            to_day_number(file.start) * DAY,
            (to_day_number(file.end) + 1) * DAY,
            profile,
            "" if problem is None else str(problem),
            proven,
            file.is_zip,
            "" if file.is_zip else file.place,
        )

    def _skip(self, error: FileError) -> None:
        self._problems[error.file] = error

    def _line(
        self,
        name: Name,
        wanted: ExpectedStream,
        owned: _Owned,
        held: Sequence[StoredFolder],
    ) -> Timeline:
        """Put the days of a line together."""
        first, end = to_day_number(wanted.first), to_day_number(wanted.last) + 1
        of_day = np.full(end - first, -1, np.int64)
        owners: list[DaySource] = []
        # A day that two files are named after is given by the one that has rows.
        for owner, without in sorted(owned.values(), key=lambda each: each[0].has_rows):
            days = range(max(owner.start // DAY, first) - first, min(owner.end // DAY, end) - first)
            others = {to_day_number(day) - first for day in without}
            own = [day for day in days if day not in others] if others else days
            if own:
                of_day[own] = len(owners)
                owners.append(owner)
        line = Timeline(*name, first, end, owners, of_day, [])
        for word, start, until in self._words(name, wanted, held):
            line.words.append(word)
            its = line.places(to_day_number(start), to_day_number(until) + 1)
            of_day[its] = np.where(of_day[its] < 0, -len(line.words), of_day[its])
        self._count_files(line, wanted, held)
        return line

    def _words(
        self, name: Name, wanted: ExpectedStream, held: Sequence[StoredFolder]
    ) -> Iterator[tuple[Explanation, date, date]]:
        """Give what is known of days that no file gives; what comes later knows better."""
        if self._asked.listed:
            said = "the archive has it and the store has not; collect(...) fetches it"
        else:
            said = "the store has no file, and the archive was not asked; coverage(config) asks it"
        yield Explanation(GapKind.NOT_COLLECTED, said), wanted.first, wanted.last
        if not self._asked.listed:
            yield from self._unlisted(name, wanted)
            yield from self._found_lacking(name, held)
        for key in self._asked.removed.get(name, ()):
            yield Explanation(GapKind.NOT_COLLECTED, _REMOVED), key.start, key.end
        for absence in wanted.absent:
            yield Explanation(_KINDS[absence.reason], absence.detail), absence.start, absence.end
        for defect in load_annotations().defects:
            if defect.effect == "not_traded" and defect.end and defect.concerns(*name):
                word = Explanation(GapKind.AFTER_DELISTING, str(defect))
                yield word, defect.start.date(), (defect.end - _ONE_DAY).date()
        yield from self._quarantined(name)

    def _unlisted(
        self, name: Name, wanted: ExpectedStream
    ) -> Iterator[tuple[Explanation, date, date]]:
        """Give what the matrix and earlier collections know of days without a file."""
        market, data_type = name[:2]
        ways = self._ways(name)
        if not ways:
            return
        title = f"{market.title} {data_type}"
        facts = ways.values()
        if all(each.first for each in facts):
            begins = min(each.first for each in facts if each.first)
            word = Explanation(GapKind.BEFORE_LISTING, f"{title} begins on {begins}")
            yield word, date.min, begins - _ONE_DAY
        for each in facts:
            for start, end in each.gaps:
                yield (
                    Explanation(GapKind.MISSING_IN_ARCHIVE, "a known gap of the archive"),
                    start,
                    end,
                )
        if all(each.last for each in facts):
            ends = max(period_end(f.last, p) for p, f in ways.items() if f.last)
            word = Explanation(GapKind.ENDED_FEED, f"{title} ended on {ends}")
            yield word, ends + _ONE_DAY, date.max
        if (delivery := delivery_of(name[2])) is not None:
            word = Explanation(GapKind.AFTER_DELISTING, f"the contract was delivered on {delivery}")
            yield word, delivery + _ONE_DAY, date.max
        partition = min(ways)  # daily before monthly
        for begins in periods(self._now.date() - _RECENT, wanted.last, partition):
            if self._matrix.published_at(begins, partition) > self._now:
                yield Explanation(GapKind.NOT_PUBLISHED, "not published yet"), begins, date.max
                break

    def _ways(self, name: Name) -> Mapping[Partition, PartitionAvailability]:
        """Give the partitions in which the archive keeps a line; none if it is not known."""
        market, data_type, _, interval = name
        feed = self._matrix.feed(market, data_type)
        return {} if feed is None else feed.partitions_with(interval) or feed.partitioned

    def _found_lacking(
        self, name: Name, held: Sequence[StoredFolder]
    ) -> Iterator[tuple[Explanation, date, date]]:
        """Give what earlier collections were told of objects that the archive lacks."""
        last = max((file.end for folder in held for file in folder.files), default=date.min)
        told = []
        for found, (reason, said) in self._noted(name, Store.missing):
            kind = _KINDS[reason]
            if kind is GapKind.AFTER_DELISTING and found.start <= max(last, self._last(name)):
                # A later file of the symbol is here, so what was told then was not its end.
                kind = GapKind.MISSING_IN_ARCHIVE
            told.append((Explanation(kind, said), found.start, found.end))
        # Where the daily and the monthly object of a day differ, a lack is not to be hidden.
        yield from sorted(told, key=lambda each: each[0].kind.is_lack)

    def _quarantined(self, name: Name) -> Iterator[tuple[Explanation, date, date]]:
        for found, said in self._noted(name, Store.quarantined):
            yield Explanation(GapKind.CORRUPT, f"in quarantine, {said}"), found.start, found.end

    def _noted(
        self, name: Name, notes: Callable[[Store, str], Mapping[str, T]]
    ) -> Iterator[tuple[ObjectKey, T]]:
        """Look up what the store has noted of the objects of a line."""
        market, data_type, symbol, interval = name
        if self._store is None:
            return
        for partition in Partition:
            prefix = Folder(Stream(market, data_type, symbol, interval), partition).prefix
            for key, noted in notes(self._store, prefix).items():
                # A note that names no object says nothing.
                with suppress(ValueError):
                    yield ObjectKey.parse(key), noted

    def _last(self, name: Name) -> date:
        """Return the last day of which the store has a file of a line's symbol, in any feed."""
        return self._lasts.get((name[0], name[2].removesuffix("_PERP")), date.min)

    @cached_property
    def _lasts(self) -> dict[tuple[Market, str], date]:
        """Last day of which the store has a file of each symbol, in any feed."""
        lasts: dict[tuple[Market, str], date] = {}
        if self._holdings is None:
            return lasts
        for feed in self._holdings.feeds():
            for held in self._held(self._holdings, feed):
                name = held.folder.market, held.folder.symbol.removesuffix("_PERP")
                last = max(file.end for file in held.files)
                lasts[name] = max(last, lasts.get(name, last))
        return lasts

    def _count_files(
        self, line: Timeline, wanted: ExpectedStream, held: Sequence[StoredFolder]
    ) -> None:
        """Count the files that are there, and those that should be."""
        files = {
            file.key: folder.folder.partition
            for folder in held
            for file in folder.files
            if wanted.touches(file)
        }
        if self._asked.listed:
            lacking = {a.key for a in wanted.absent if a.key and _KINDS[a.reason].is_lack}
            line.expected_files = len(wanted.listed) + len(lacking)
            line.actual_files = sum(key in files for key, _, _ in wanted.listed)
            return
        absent = [
            (from_day_number(start // DAY), from_day_number((end - 1) // DAY))
            for start, end, code in line.stretches(line.start, line.end)
            if code < 0 and line.words[-1 - code].kind.is_lack
        ]
        # Files like those that are there, or like those that there can be.
        partition = min(set(files.values()) or self._ways(line.what), default=Partition.DAILY)
        lacking_files = sum(len(list(periods(*days, partition))) for days in absent)
        line.actual_files = len(files)
        line.expected_files = len(files) + lacking_files

    def _compare(
        self, feed: FeedTable, name: Name, streams: Sequence[StoredFolder], wanted: ExpectedStream
    ) -> None:
        """Hold monthly files against the daily ones of the same days."""
        by_partition = {each.folder.partition: each for each in streams}
        if len(by_partition) < len(Partition) or self._holdings is None:
            return
        monthly, daily = by_partition[Partition.MONTHLY], by_partition[Partition.DAILY]
        early, late = to_day_number(wanted.first) * DAY, (to_day_number(wanted.last) + 1) * DAY
        for file in monthly.files:
            if not wanted.touches(file):
                continue
            try:
                found = compare_month(self._holdings, feed, monthly, daily, file)
            except FileError as error:
                self._skip(error)
                continue
            # On these days the daily files give the rows, whichever are preferred.
            wrong = load_annotations().wrong_days(*name, Partition.MONTHLY, file.start, file.end)
            for each in found:
                if each.start >= late or each.end <= early:
                    continue
                known = {
                    from_day_number(each.start // DAY),
                    from_day_number((each.end - 1) // DAY),
                } <= wrong
                said = f"{each.what}; {_KNOWN_WRONG}" if known else each.what
                self._findings.append(
                    Finding(
                        *name,
                        each.start,
                        each.end,
                        each.rows,
                        FindingKind.DISAGREEMENT,
                        said,
                        explained=known,
                    )
                )

    def _traded(self, line: Timeline, start: int, end: int) -> str | None:
        """Look whether anything was traded in a time of which candles are lacking."""
        if line.data_type is not DataType.KLINES or self._holdings is None:
            return None
        days = ExpectedStream(from_day_number(start // DAY), from_day_number((end - 1) // DAY))
        for data_type in (DataType.AGG_TRADES, DataType.TRADES):
            if cadence_of(line.market, data_type, None).kind != "sequence":
                continue
            feed = self._holdings.feed(line.market, data_type)
            name = line.market, data_type, line.symbol, None
            owners: dict[Name, _Owned] = {name: {}}
            self._own(feed, {name: days}, owners)
            trades = self._line(name, days, owners[name], ())
            examine(trades)
            if any(gap.start < end and gap.end > start for gap in trades.gaps):
                continue
            asked = Selection(frozenset([line.symbol]), None, to_naive(start), to_naive(end))
            where = pc.field(feed.time) >= pa.scalar(start, pa.timestamp("us"))
            where &= pc.field(feed.time) < pa.scalar(end, pa.timestamp("us"))
            where &= pc.field("symbol") == line.symbol
            rows = self._holdings.scan(feed, [feed.time], asked, where)
            with closing(rows):
                traded = any(batch.num_rows for batch in rows)
            return "" if traded else f"nothing was traded: {data_type} are there without a gap"
        return None


def _order(name: Name) -> tuple[int, int, str, int]:
    """Order lines by market, data type, symbol and interval, as the enums have them."""
    market, data_type, symbol, interval = name
    at = -1 if interval is None else list(Interval).index(interval)
    return list(Market).index(market), list(DataType).index(data_type), symbol, at


def _flaws(line: Timeline, facts: Mapping[str, FileStats]) -> Iterator[Finding]:
    """Say what is wrong with the files of a line, apart from what is lacking."""
    yield from _standing_still(line)
    ordered = schema(line.market, line.data_type).sorted
    for number, owner in enumerate(line.owners):
        of = (*line.what, owner.start, owner.end)
        if not owner.verifiable:
            said = f"{owner.name}: verify cannot prove it; the zip can be proven"
            yield Finding(*of, 0, FindingKind.UNVERIFIED, said)
        profile = owner.profile
        if profile is None:
            continue
        rows = f"of its {profile.rows:,} rows"
        known = facts.get(owner.key)
        for odd in sorted(known.irregularities) if known else ():
            yield Finding(*of, profile.rows, FindingKind.IRREGULAR, f"{owner.name}: {odd.meaning}")
        differing = 0
        for flaw in profile.flaws:
            kind = FindingKind(flaw.kind)
            if kind is FindingKind.CONFLICT:
                differing = flaw.rows
            if not _touches(line, number, flaw):
                continue
            where = (*line.what, flaw.first, flaw.last + max(line.cadence.step, 1))
            one_label = kind is FindingKind.CONFLICT and flaw.first == flaw.last
            why = _shared_label(line, flaw.first) if one_label else ""
            said = f"{owner.name}: {flaw}{why}"
            yield Finding(
                *where, flaw.rows, FindingKind.DUPLICATE if why else kind, said, bool(why)
            )
        if profile.duplicates > differing:
            again = profile.duplicates - differing
            said = f"{owner.name}: {again:,} {rows} repeat an earlier one"
            why, harmless = _explained(line, owner, "repeated_rows")
            yield Finding(*of, again, FindingKind.DUPLICATE, said + why, harmless)
        if not profile.in_order:
            said = f"{owner.name}: rows do not come in the order of time"
            why = "" if ordered else "; files of this feed never promise it"
            yield Finding(*of, profile.rows, FindingKind.UNSORTED, said + why, not ordered)
        if profile.off_grid:
            said = f"{owner.name}: {profile.off_grid:,} {rows} lie between the steps"
            why, harmless = _explained(line, owner, "off_grid_rows")
            yield Finding(*of, profile.off_grid, FindingKind.OFF_GRID, said + why, harmless)


def _touches(line: Timeline, number: int, flaw: Flaw) -> bool:
    """Return whether a flaw of a file may lie in days whose rows come from that file."""
    days = line.of_day[line.places(flaw.first // DAY, flaw.last // DAY + 1)]
    return len(days) > 0 and (line.cadence.is_long or bool((days == number).any()))


def _explained(line: Timeline, owner: DaySource, effect: str) -> tuple[str, bool]:
    """Return the known defect that explains a finding, and whether the archive still has it.

    What the archive has put right since then is no explanation: the file is an old one.
    """
    start, end = to_datetime(owner.start), to_datetime(owner.end)
    partition = ObjectKey.parse(owner.key).folder.partition
    for defect in load_annotations().defects:
        concerned = defect.concerns(*line.what, partition)
        if defect.effect == effect and concerned and defect.overlaps(start, end):
            return f"; as is known, {defect}", defect.fixed_on is None
    return "", False


def _standing_still(line: Timeline) -> Iterator[Finding]:
    """Find a bool that has one value in very many rows, from file to file."""
    standing: tuple[Standing, ...] = ()
    for owner in sorted(line.owners, key=lambda each: each.start):
        if owner.profile is not None:
            standing = joined_standing(standing, owner.profile.standing)
    for each in standing:
        value, rows, first, last = each.longest
        if rows >= CONSTANT_ROWS:
            said = f"{each.column} is {str(value).lower()} in each of {rows:,} rows in a row"
            yield Finding(*line.what, first, last + 1, rows, FindingKind.CONSTANT, said)


def _shared_label(line: Timeline, label: int) -> str:
    """Say why two rows have the label of a change of labels; nothing at any other time."""
    day = from_day_number(label // DAY)
    if line.data_type is not DataType.METRICS or label % DAY:
        return ""
    return next(
        (
            f"; as is known: {change.what} [{change.source}]"
            for change in load_annotations().changes
            if change.on == day and change.concerns(line.market, line.data_type, day, day)
        ),
        "",
    )


def _changes(line: Timeline) -> Iterator[Finding]:
    """Yield the changes of meaning that concern rows of a line."""
    if not len(line.runs):
        return
    first, last = int(line.runs[0, 0]) // DAY, int(line.runs[:, 1].max()) // DAY
    for change in load_annotations().changes:
        if change.concerns(
            line.market, line.data_type, from_day_number(first), from_day_number(last)
        ):
            start = max(to_day_number(change.on), first) * DAY
            said = f"{change.what} [{change.source}]"
            end = (last + 1) * DAY
            yield Finding(*line.what, start, end, 0, FindingKind.SEMANTIC_CHANGE, said)


#: Effects that the rows themselves show; what they show names the defect.
_SEEN_IN_ROWS = ("repeated_rows", "off_grid_rows")


def _known_defects(line: Timeline) -> Iterator[Finding]:
    """Name what is known to be wrong in the archive where a line touches it."""
    start, end = to_datetime(line.start), to_datetime(line.end)
    for defect in load_annotations().defects:
        if defect.effect in _SEEN_IN_ROWS:
            continue
        if not defect.concerns(*line.what) or not defect.overlaps(start, end):
            continue
        first = max(to_micros(defect.start), line.start)
        last = line.end if defect.end is None else min(to_micros(defect.end), line.end)
        if defect.partitions:
            # Files of the other partition have it right.
            codes = {code for _, _, code in line.stretches(first, last) if code >= 0}
            streams = [ObjectKey.parse(line.owners[code].key).folder for code in codes]
            if not any(each.partition in defect.partitions for each in streams):
                continue
        if defect.fixed_on is not None and not _shows(line, first, last):
            continue
        wrong = defect.effect == "wrong_values"
        kind = FindingKind.WRONG_VALUES if wrong else FindingKind.KNOWN_DEFECT
        yield Finding(*line.what, first, last, 0, kind, str(defect))


def _shows(line: Timeline, start: int, end: int) -> bool:
    """Return whether rows are missing within a span of time."""
    return any(gap.kind.is_lack and gap.start < end and start < gap.end for gap in line.gaps)


def _halts_beside(line: Timeline) -> Iterator[Finding]:
    """Name the known halts that a line touches, but for those that its gaps name."""
    if line.data_type not in TRADED:
        return
    for halt in _known_halts(line.market):
        start, end = max(halt.start, line.start), min(halt.end, line.end)
        named = (
            gap.kind is GapKind.HALT and gap.start < end and start < gap.end for gap in line.gaps
        )
        if start >= end or any(named):
            continue
        if any(code >= 0 for _, _, code in line.stretches(start, end)):
            evidence = halt.evidence
            yield Finding(*line.what, start, end, 0, FindingKind.KNOWN_HALT, evidence)


@cache
def _known_halts(market: Market) -> list[Halt]:
    """Return the known halts of a market, in the order of time."""
    return sorted(
        Halt(
            to_micros(halt.start),
            to_micros(halt.end),
            f"a known halt, {halt.when}: {halt.what} [{halt.source}]",
            halt.precision != "day",
        )
        for halt in load_annotations().halts
        if halt.market == market
    )
