"""Fill timelines from the files of a store, and report on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import date
from functools import cached_property
from itertools import groupby, pairwise

import pyarrow as pa
import pyarrow.compute as pc

from binance_archive_kit.archive.enums import DataType, Market, Partition
from binance_archive_kit.archive.keys import ObjectKey, Stream, periods
from binance_archive_kit.archive.matrix import Matrix
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import FileError
from binance_archive_kit.garbage import paused_collection
from binance_archive_kit.quality.expected import GAP_KINDS, DayExplainer, Expected, ExpectedStream
from binance_archive_kit.quality.findings import (
    file_findings,
    known_findings,
    known_halts,
    mismatch_findings,
    shared_rows_finding,
)
from binance_archive_kit.quality.frames import frames_of
from binance_archive_kit.quality.gaps import find_gaps
from binance_archive_kit.quality.halts import classify_halts
from binance_archive_kit.quality.reconcile import compare_month, shared_rows
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.timeline import (
    DaySource,
    Explanation,
    Finding,
    GapKind,
    Timeline,
)
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.cadence import cadence_of
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.storage.inventory import StoredFolder
from binance_archive_kit.timestamps import DAY, from_day_number, to_day_number, to_naive

#: Source of a day before it is explained.
_UNEXPLAINED = Explanation(GapKind.NOT_COLLECTED, "")


class Survey:
    """Compares the expected rows with a store, feed by feed; reads each file at most once.

    Parameters
    ----------
    engine : Engine or None
        None if the store does not exist yet.
    matrix : Matrix
    expected : Expected
    """

    def __init__(self, engine: Engine | None, matrix: Matrix, expected: Expected) -> None:
        self._engine = engine
        self._expected = expected
        store = None if engine is None else engine.store
        self._explainer = DayExplainer(expected, matrix, store, self._last_day)
        self._progress = Progress()
        self._bar: Bar | None = None
        self._problems: dict[str, FileError] = {}
        self._findings: list[Finding] = []
        self._folders = dict(expected.folders)
        self._tasks: dict[str, FileTask] = {}

    # A market has very many files, and what is known of them stays until the end.
    @paused_collection()
    def report(self, title: str) -> CoverageReport:
        """Profile all files, and build the report."""
        timelines: list[Timeline] = []
        self._progress.begin("examining files", self._count_stored(), unit="files")
        with Bar(self._progress) as self._bar:
            for _, group in groupby(self._expected.streams, _feed_of):
                timelines += self._timelines([*group])
            for timeline in timelines:
                find_gaps(timeline)
            classify_halts(timelines, known_halts, self._nothing_traded)
        for timeline in timelines:
            self._findings += known_findings(timeline)
        findings = sorted(self._findings, key=lambda finding: finding.start)
        frames = frames_of(timelines, findings)
        return CoverageReport(
            title,
            *frames,
            tuple(self._expected.unavailable),
            self._problems,
            self._expected.nothing,
            () if self._engine is None else tuple(self._engine.skipped()),
            tuple(self._expected.changes()),
        )

    def _timelines(self, streams: Sequence[Stream]) -> list[Timeline]:
        """Build the timelines of the streams of one feed, and collect findings in their files."""
        engine = self._engine
        expected = {stream: self._expected.streams[stream] for stream in streams}
        if engine is None:
            return [self._timeline(stream, expected[stream], (), ()) for stream in streams]
        feed = engine.feed(streams[0].market, streams[0].data_type)
        files = self._files(engine, feed, expected)
        folders: dict[Stream, list[StoredFolder]] = {stream: [] for stream in streams}
        for folder in self._folders_of(engine, feed):
            folders.get(folder.folder.stream, []).append(folder)
        timelines = [
            self._timeline(stream, expected[stream], files[stream].values(), stored)
            for stream, stored in folders.items()
        ]
        for timeline in timelines:
            self._compare_months(engine, feed, timeline, folders[timeline.stream])
            self._findings += file_findings(timeline)
            self._compare_neighbours(engine, feed, timeline)
        return timelines

    # The store

    def _folders_of(self, engine: Engine, feed: FeedTable) -> list[StoredFolder]:
        """List the folders of a feed, as they were at the first call."""
        if feed not in self._folders:
            self._folders[feed] = engine.folders(feed)
        return self._folders[feed]

    def _count_stored(self) -> int:
        """Count the stored files of the expected days."""
        engine, streams = self._engine, self._expected.streams
        if engine is None:
            return 0
        feeds = {engine.feed(*_feed_of(stream)) for stream in streams}
        return sum(
            expected.count_touched(stored.files)
            for feed in feeds
            for stored in self._folders_of(engine, feed)
            if (expected := streams.get(stored.folder.stream)) is not None
        )

    def _last_day(self, stream: Stream) -> date:
        """Return the last day with a file of a symbol in the store, in any feed."""
        return self._last_days.get(_symbol_of(stream), date.min)

    @cached_property
    def _last_days(self) -> dict[tuple[Market, str], date]:
        lasts: dict[tuple[Market, str], date] = {}
        if self._engine is not None:
            for feed in self._engine.feeds():
                for stored in self._folders_of(self._engine, feed):
                    symbol = _symbol_of(stored.folder.stream)
                    last = max(file.end for file in stored.files)
                    lasts[symbol] = max(last, lasts.get(symbol, last))
        return lasts

    def _files(
        self, engine: Engine, feed: FeedTable, expected: Mapping[Stream, ExpectedStream]
    ) -> dict[Stream, dict[str, DaySource]]:
        """Profile the files of each stream, and return them by key."""
        selection = Selection(
            frozenset(stream.symbol for stream in expected),
            frozenset(str(stream.interval) for stream in expected)
            if feed.data_type.has_intervals
            else None,
            to_naive(min(to_day_number(days.first) for days in expected.values()) * DAY),
            to_naive(max(to_day_number(days.last) + 1 for days in expected.values()) * DAY),
        )
        months = engine.plan(feed, self._folders_of(engine, feed), selection, self._skip)
        tasks = {task.file.key: task for month in months for task in month.tasks}
        self._tasks |= tasks
        profiles = engine.profiles(feed, tasks.values(), self._skip, self._done)
        needed = [served for month in months for served in month.needed]
        proven = engine.proven(feed, (served.file for served in needed))
        files: dict[Stream, dict[str, DaySource]] = {stream: {} for stream in expected}
        for served in needed:
            file, stream = served.file, served.folder.stream
            was_read = file.key in tasks or file.path in self._problems
            if stream not in files or not was_read:
                continue
            problem, profile = str(self._problems.get(file.path, "")), profiles.get(file.key)
            source = DaySource(file, profile, problem, file.key in proven, served.without)
            # A file whose days lie before and after those of another one is needed twice.
            files[stream].setdefault(file.key, source).without &= served.without
        return files

    def _skip(self, error: FileError) -> None:
        self._problems[error.file] = error

    def _done(self, count: int) -> None:
        self._progress.done = min(self._progress.done + count, self._progress.total)
        if self._bar is not None:
            self._bar.update()

    # Timelines

    def _timeline(
        self,
        stream: Stream,
        expected: ExpectedStream,
        files: Iterable[DaySource],
        folders: Sequence[StoredFolder],
    ) -> Timeline:
        """Build a timeline, without gaps yet."""
        first, end = to_day_number(expected.first), to_day_number(expected.last) + 1
        timeline = Timeline(stream, first, [_UNEXPLAINED] * (end - first), [])
        for kind, evidence, start, last in self._explainer.explain(stream, expected, folders):
            days = timeline.slice_of(to_day_number(start), to_day_number(last) + 1)
            timeline.sources[days] = [Explanation(kind, evidence)] * len(timeline.sources[days])
        # Where two files are named after a day, the one with rows is its source.
        for file in sorted(files, key=lambda file: file.has_rows):
            period = range(max(file.start // DAY, first), min(file.end // DAY, end))
            others = {to_day_number(day) for day in file.without}
            days_of_file = [day for day in period if day not in others] if others else period
            if not days_of_file:
                continue
            timeline.files.append(file)
            if others:
                for day in days_of_file:
                    timeline.sources[day - first] = file
            else:
                days = timeline.slice_of(period.start, period.stop)
                timeline.sources[days] = [file] * len(period)
        self._count_files(timeline, expected, folders)
        return timeline

    def _count_files(
        self, timeline: Timeline, expected: ExpectedStream, folders: Sequence[StoredFolder]
    ) -> None:
        """Count the expected and the actual files of a timeline."""
        if self._expected.listed:
            absences = expected.absences
            missing = {a.key for a in absences if a.key and GAP_KINDS[a.reason].is_missing}
            files = (file for stored in folders for file in stored.files)
            present = {file.key for file in files if expected.touches(file)}
            timeline.expected_files = len(expected.listed) + len(missing)
            timeline.actual_files = sum(key in present for key in expected.listed)
            return
        counts = {
            stored.folder.partition: expected.count_touched(stored.files) for stored in folders
        }
        gaps = [
            (from_day_number(span.start // DAY), from_day_number((span.end - 1) // DAY))
            for span in timeline.spans(timeline.start, timeline.end)
            if isinstance(span.source, Explanation) and span.source.kind.is_missing
        ]
        # Other missing files are of a partition that is present, or else of one that is published.
        possible = {partition for partition, count in counts.items() if count}
        published = self._explainer.partitions(timeline.stream)
        partition = min(possible or published, default=Partition.DAILY)
        known = expected.absent_objects(folders) if gaps else []
        absent: set[ObjectKey] = set()
        others = 0
        for first, last in gaps:
            found = [key for key in known if key.start <= last and key.end >= first]
            absent.update(found)
            others += 0 if found else len([*periods(first, last, partition)])
        timeline.actual_files = sum(counts.values())
        timeline.expected_files = timeline.actual_files + len(absent) + others

    # Comparisons

    def _compare_months(
        self, engine: Engine, feed: FeedTable, timeline: Timeline, folders: Sequence[StoredFolder]
    ) -> None:
        """Compare monthly files with the daily files of the same days."""
        by_partition = {stored.folder.partition: stored for stored in folders}
        if len(by_partition) < len(Partition):
            return
        monthly, daily = by_partition[Partition.MONTHLY], by_partition[Partition.DAILY]
        for file in monthly.files:
            if self._expected.streams[timeline.stream].touches(file):
                try:
                    mismatches = compare_month(engine, feed, monthly, daily, file)
                except FileError as error:
                    self._skip(error)
                else:
                    self._findings += mismatch_findings(timeline, mismatches)

    def _compare_neighbours(self, engine: Engine, feed: FeedTable, timeline: Timeline) -> None:
        """Compare the rows with one key in two neighbouring files.

        Only labels at midnight and candles longer than a day can be in two files.
        """
        if not (timeline.cadence.is_long or timeline.stream.data_type is DataType.METRICS):
            return
        for files in pairwise(sorted(timeline.files, key=lambda file: (file.start, file.end))):
            one, other = files
            if one.profile is None or other.profile is None:
                continue
            before, after = one.profile.stats.last, other.profile.stats.first
            if before is None or after is None or before < after or one.end > other.start:
                # Two files of the same days are compared elsewhere.
                continue
            try:
                shared = shared_rows(
                    engine, feed, self._tasks[one.file.key], self._tasks[other.file.key]
                )
            except FileError as error:
                self._skip(error)
            else:
                times = after, before
                self._findings += shared_rows_finding(timeline, files, times, *shared)

    def _nothing_traded(self, timeline: Timeline, start: int, end: int) -> str | None:
        """Return the evidence that nothing was traded; empty if something was; None if unknown."""
        engine = self._engine
        if timeline.stream.data_type is not DataType.KLINES or engine is None:
            return None
        days = ExpectedStream(from_day_number(start // DAY), from_day_number((end - 1) // DAY))
        for data_type in (DataType.AGG_TRADES, DataType.TRADES):
            if cadence_of(timeline.stream.market, data_type, None).kind != "sequence":
                continue
            feed = engine.feed(timeline.stream.market, data_type)
            stream = Stream(timeline.stream.market, data_type, timeline.stream.symbol)
            files = self._files(engine, feed, {stream: days})[stream]
            trades = self._timeline(stream, days, files.values(), ())
            find_gaps(trades)
            if any(gap.overlaps(start, end) for gap in trades.gaps):
                continue
            where = pc.field(feed.time) >= pa.scalar(start, pa.timestamp("us"))
            where &= pc.field(feed.time) < pa.scalar(end, pa.timestamp("us"))
            where &= pc.field("symbol") == stream.symbol
            rows = engine.scan(feed, [feed.time], where=where)
            with closing(rows):
                traded = any(batch.num_rows for batch in rows)
            return "" if traded else f"nothing was traded: {data_type} are present without a gap"
        return None


def _feed_of(stream: Stream) -> tuple[Market, DataType]:
    return stream.market, stream.data_type


def _symbol_of(stream: Stream) -> tuple[Market, str]:
    return stream.market, stream.symbol.removesuffix("_PERP")
