"""Plan a scan: choose which file gives the rows of each day, month by month.

Where a daily and a monthly file cover the same day, one of them gives its rows: none is
returned twice, and none is lost. A candle that begins before its month may be in the files
of two months; those of the earlier one give it. Files are chosen for whole months, whatever
the query asks for, so that its conditions never change which row is returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, compress, groupby

import numpy as np

from binance_archive_kit.archive.annotations import load_annotations
from binance_archive_kit.archive.enums import rank_of
from binance_archive_kit.query.file_lookup import (
    FileLookup,
    Part,
    ScanContext,
    days_between,
    has_lead,
)
from binance_archive_kit.query.pruning import Pruner
from binance_archive_kit.query.tabled_files import FolderMatch, Indices, TabledFiles
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask, lead_of
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.tables.row_reader import Segment
from binance_archive_kit.timestamps import to_day_number

#: Symbol and rank of the interval: how streams are ordered.
_Name = tuple[str, int]


def _name_of(stored: StoredFolder) -> _Name:
    return stored.folder.symbol, rank_of(stored.folder.interval)


def _by_name(streams: Iterable[StoredFolder]) -> list[tuple[_Name, list[StoredFolder]]]:
    """Group folders by stream, in order."""
    groups: dict[_Name, list[StoredFolder]] = {}
    for stored in streams:
        groups.setdefault(_name_of(stored), []).append(stored)
    return sorted(groups.items())


@dataclass(frozen=True, slots=True)
class Claim:
    """A file among several of the same days.

    Attributes
    ----------
    stored : StoredFolder
    file : StoredFile
    possible, has, supplied : set of date
        Days that it may have rows of; that it has rows of; and whose rows it supplies.
    """

    stored: StoredFolder
    file: StoredFile
    possible: set[date]
    has: set[date]
    supplied: set[date]

    def tasks(self, others: set[date], *, needed: bool) -> Iterator[tuple[date, FileTask]]:
        """Yield a task for each stretch of days, with its first day.

        Parameters
        ----------
        others : set of date
            Days whose rows other files give.
        needed : bool
            Whether to yield a task for a file that supplies no day.
        """
        if not self.supplied:
            if needed or not self.has:
                task = FileTask(self.file, self.stored, without=frozenset(self.has))
                yield self.file.start, task
            return
        mixed = any(day < max(self.supplied) for day in others & self.possible)
        days = self.possible if mixed else self.has
        # A stretch ends where another file gives a day, so that rows come in the order of time.
        days_of_all = sorted(self.supplied | others)
        for is_supplied, group in groupby(days_of_all, self.supplied.__contains__):
            if is_supplied:
                stretch = set(group)
                without = frozenset(days - stretch)
                yield min(stretch), FileTask(self.file, self.stored, without=without)


@dataclass(slots=True)
class MonthTask:
    """A month of one symbol and interval.

    Attributes
    ----------
    files : list of FileTask
        The files that give its rows, as they were listed.
    needed : list of FileTask
        Those of them that may have a row of the answer.
    tasks : sequence of FileTask
        The needed ones as they are on disk now.
    """

    files: list[FileTask]
    needed: list[FileTask]
    tasks: Sequence[FileTask]


@dataclass(slots=True)
class RememberedChoice:
    """Which of a month's files give its rows; valid as long as the files stay as they are.

    Attributes
    ----------
    parts : list of Part
        All files of the month.
    files : list of FileTask
        The chosen ones, as they were listed.
    tasks : list of FileTask
        The chosen ones, as they were on disk.
    known : dict of str to FileStats
        The statistics at that time; a file that is rejected makes it another mapping.
    """

    parts: list[Part]
    files: list[FileTask]
    tasks: list[FileTask]
    known: dict[str, FileStats]


@dataclass(slots=True)
class ScanStep:
    """Rows that follow each other in the answer, from tables or from files.

    Attributes
    ----------
    segments : list of Segment
        Rows of tables; empty if the rows come from files.
    counts : list of (StoredFolder, int)
        The number of rows that each folder has in the segments.
    tabled : int
        Files that have these rows.
    tasks : list of FileTask
        Files to read.
    """

    segments: list[Segment] = field(default_factory=list)
    counts: list[tuple[StoredFolder, int]] = field(default_factory=list)
    tabled: int = 0
    tasks: list[FileTask] = field(default_factory=list)


class _Steps:
    """Collects the steps of a scan."""

    def __init__(self, tabled: TabledFiles) -> None:
        self._tabled = tabled
        self.steps: list[ScanStep] = []

    def add_entries(self, indices: Indices) -> None:
        """Add the rows of entries."""
        if not len(indices):
            return
        if not self.steps or self.steps[-1].tasks:
            self.steps.append(ScanStep())
        step = self.steps[-1]
        step.tabled += len(indices)
        for segment in self._tabled.segments(indices):
            part, row, rows = step.segments[-1] if step.segments else (-1, 0, 0)
            if (part, row + rows) == (segment.part, segment.row):
                step.segments[-1] = Segment(part, row, rows + segment.rows)
            else:
                step.segments.append(segment)

    def count(self, stored: StoredFolder, indices: Indices) -> None:
        """Add the rows of entries of a folder to the counts of the last step with segments."""
        step = next((step for step in reversed(self.steps) if not step.tasks), None)
        if step is not None and len(indices):
            step.counts.append((stored, self._tabled.rows(indices)))

    def add_task(self, task: FileTask) -> None:
        """Add a file to read."""
        if not self.steps or not self.steps[-1].tasks:
            self.steps.append(ScanStep())
        self.steps[-1].tasks.append(task)


class ScanPlanner:
    """Plans one scan of a feed.

    Parameters
    ----------
    context : ScanContext
    feed : FeedTable
    pruner : Pruner
        Decides which files may have a row of the answer.
    """

    def __init__(self, context: ScanContext, feed: FeedTable, pruner: Pruner) -> None:
        self._context = context
        self._feed = feed
        self._pruner = pruner
        #: Files of each month that may have a row of the answer, and those of the month before.
        self._months: list[tuple[list[Part], list[Part]]] = []
        self._lookup = FileLookup(context, feed, self._needed_files, looked=True)

    def steps(self, streams: Sequence[StoredFolder], tabled: TabledFiles) -> list[ScanStep]:
        """Choose where the rows of the answer come from.

        Parameters
        ----------
        streams : sequence of StoredFolder
            Of the feed, those that may have a row of the answer.
        tabled : TabledFiles
            At least those of these streams.

        Returns
        -------
        list of ScanStep
            Symbol by symbol, interval by interval, in the order of time.
        """
        matches: dict[_Name, list[FolderMatch] | None] = {}
        direct: list[StoredFolder] = []
        for name, group in _by_name(streams):
            found = [match for stored in group if (match := tabled.match(stored)) is not None]
            if len(found) == len(group) and tabled.are_disjoint(found):
                matches[name] = found
                direct += [match.others for match in found if match.others is not None]
            else:
                matches[name] = None
                direct += group
        tasks: dict[_Name, list[FileTask]] = {}
        for month in self.months(direct) if direct else ():
            for task in month.tasks:
                tasks.setdefault(_name_of(task.stored), []).append(task)
        steps = _Steps(tabled)
        for name, of_stream in matches.items():
            if of_stream is None:
                self._add_chosen(steps, tabled, tasks.get(name, []))
            else:
                self._add_matched(steps, tabled, of_stream, tasks.get(name, []))
        return steps.steps

    def _add_matched(
        self,
        steps: _Steps,
        tabled: TabledFiles,
        matches: Sequence[FolderMatch],
        tasks: Sequence[FileTask],
    ) -> None:
        """Add a stream whose files each give all their rows."""
        folders = [
            (match.stored, tabled.select(match, self._pruner))
            for match in matches
            if self._pruner.folder_may_match(match.stored.folder)
        ]
        if folders:
            indices = tabled.in_time([own for _, own in folders])
            starts = tabled.starts(indices)
            done = 0
            for task in tasks:
                place = int(np.searchsorted(starts, to_day_number(task.file.start)))
                steps.add_entries(indices[done:place])
                steps.add_task(task)
                done = place
            steps.add_entries(indices[done:])
            for stored, own in folders:
                steps.count(stored, own)

    def _add_chosen(self, steps: _Steps, tabled: TabledFiles, tasks: Sequence[FileTask]) -> None:
        """Add a stream whose files were chosen month by month."""
        for task in tasks:
            index = None if task.without else tabled.find(task.file)
            if index is None:
                steps.add_task(task)
            else:
                indices = np.array([index])
                steps.add_entries(indices)
                steps.count(task.stored, indices)

    def months(self, streams: Sequence[StoredFolder]) -> list[MonthTask]:
        """Choose the files that may have a row of the answer, month by month.

        Parameters
        ----------
        streams : sequence of StoredFolder
            All of the feed, or of some of its streams.

        Returns
        -------
        list of MonthTask
            Symbol by symbol, interval by interval, in the order of time.
        """
        for _, group in _by_name(streams):
            if any(self._pruner.folder_may_match(stored.folder) for stored in group):
                self._months += self._matching_months(group)
        parts = chain.from_iterable(chain.from_iterable(self._months))
        keys = dict.fromkeys(file.key for _, files in parts for file in files)
        self._context.known.refresh(self._feed, list(keys))
        self._lookup.expect(keys)
        self._lookup.profile_leads(chain.from_iterable(parts for parts, _ in self._months))
        months = [self._month(parts, before) for parts, before in self._months]
        return [month for month in months if month is not None]

    def _matching_months(
        self, streams: Sequence[StoredFolder]
    ) -> Iterator[tuple[list[Part], list[Part]]]:
        """Yield the files of each month of one symbol and interval that may match.

        Months are taken together where no file can have the days of another one.
        """
        if len(streams) == 1 and not lead_of(streams[0].folder):
            [stored] = streams
            matches = self._pruner.may_match(stored, stored.months)
            if files := tuple(chain.from_iterable(compress(stored.months, matches))):
                yield [(stored, files)], []
            return
        parts: dict[tuple[int, int], list[Part]] = {}
        matching: set[tuple[int, int]] = set()
        for stored in streams:
            matches = self._pruner.may_match(stored, stored.months)
            for files, is_match in zip(stored.months, matches, strict=True):
                month = files[0].start.year, files[0].start.month
                parts.setdefault(month, []).append((stored, files))
                if is_match:
                    matching.add(month)
        for year, number in sorted(matching):
            before = (year, number - 1) if number > 1 else (year - 1, 12)
            yield parts[year, number], parts.get(before, [])

    def _needed_files(self) -> list[StoredFile]:
        """Return the files of all months that may have a row of the answer."""
        parts = chain.from_iterable(parts for parts, _ in self._months)
        tasks = [FileTask(file, stored) for stored, files in parts for file in files]
        return [task.file for task in self._matching(tasks)]

    def _matching(self, tasks: Sequence[FileTask]) -> list[FileTask]:
        """Return the files that may have a row of the answer."""
        found = []
        for stored, group in groupby(tasks, lambda task: task.stored):
            files = list(group)
            matches = self._pruner.may_match(stored, [[task.file] for task in files])
            found += [task for task, is_match in zip(files, matches, strict=True) if is_match]
        return found

    def _month(self, parts: list[Part], before: list[Part]) -> MonthTask | None:
        """Plan a month; None if no file of it can have a row of the answer."""
        choice = self._remembered(parts)
        files = choice.files if choice else self._choose(parts, before)
        whole = all(self._pruner.all_match(stored, group) for stored, group in parts)
        needed = files if whole else self._matching(files)
        if not needed:
            return None
        choice = choice or self._look_up(parts, files, needed)
        if needed is files:
            return MonthTask(files, needed, choice.tasks)
        keys = {task.file.key for task in needed}
        return MonthTask(files, needed, [task for task in choice.tasks if task.file.key in keys])

    def _remembered(self, parts: list[Part]) -> RememberedChoice | None:
        """Return the remembered choice among the files of a month, if it is still valid."""
        [(stored, files), *_] = parts
        choice: RememberedChoice | None = stored.choices.get(files[0])
        if choice is None or choice.parts != parts:
            return None
        return choice if choice.known is self._context.known.stats(self._feed) else None

    def _look_up(
        self, parts: list[Part], files: list[FileTask], needed: list[FileTask]
    ) -> RememberedChoice:
        """Look up the chosen files; remember the choice once all of them were read."""
        known = self._context.known
        tasks = self._lookup.current(files, {task.file.key for task in needed})
        choice = RememberedChoice(parts, files, tasks, known.stats(self._feed))
        # Which file gives a candle that began before depends on files of that month too.
        if (
            len(tasks) == len(files)
            and all(task.stats is not None and task.stats.checked for task in tasks)
            and not any(map(has_lead, tasks))
        ):
            [(stored, group), *_] = parts
            stored.choices[group[0]] = choice
        return choice

    def _choose(self, parts: list[Part], before: list[Part]) -> list[FileTask]:
        """Choose one file for each day of a month, and for candles that began before it."""
        lead = lead_of(parts[0][0].folder)
        early = lead and self._lookup.have_leads(parts)
        if len(parts) == 1 and not early:
            [(stored, files)] = parts
            return [FileTask(file, stored) for file in files]
        prefer = self._context.prefer
        first, *others = sorted(parts, key=lambda part: part[0].folder.partition is not prefer)
        taken: set[date] = set()
        for part in before if early else ():
            taken |= self._lookup.days_of(*part)
        wrong = self._wrong_days(first, others)
        claims: list[Claim] = []
        for part in (first, *others):
            stored, files = part
            for file in files:
                possible = days_between(file.start - lead, file.end)
                # The last file gets all remaining days, so it is not read for them.
                is_read = bool(lead) or part is first
                has = self._lookup.days_of(stored, [file]) if is_read else possible
                supplied = has - taken - wrong if part is first else has - taken
                claims.append(Claim(stored, file, possible, has, supplied))
                taken |= supplied
        given = set(chain.from_iterable(claim.supplied for claim in claims))
        tasks = [
            task
            for claim in claims
            for task in claim.tasks(given - claim.supplied, needed=claim.stored is first[0])
        ]
        tasks.sort(key=lambda pair: (pair[0], pair[1].file.end))
        return [task for _, task in tasks]

    def _wrong_days(self, first: Part, others: Sequence[Part]) -> set[date]:
        """Return the days that are known to be wrong in one part, and that others have."""
        stored, files = first
        wrong = load_annotations().wrong_days(stored.folder, files[0].start, files[-1].end)
        better: set[date] = set()
        for other, candidates in others if wrong else ():
            covering = [f for f in candidates if days_between(f.start, f.end) & wrong]
            better |= wrong & self._lookup.days_of(other, covering)
        return better
