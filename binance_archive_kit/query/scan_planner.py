"""Plan a scan: choose which file gives the rows of each day, month by month.

Where a daily and a monthly file cover the same day, one of them gives its rows: none is
returned twice, and none is lost. A candle that begins before its month may be in the files
of two months; those of the earlier one give it. Files are chosen for whole months, whatever
the query asks for, so that its conditions never change which row is returned.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, groupby
from pathlib import Path

from binance_archive_kit.archive.annotations import load_annotations
from binance_archive_kit.archive.enums import Interval
from binance_archive_kit.query.file_lookup import (
    FileLookup,
    Part,
    ScanContext,
    days_between,
    has_lead,
)
from binance_archive_kit.query.pruning import Pruner
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask, lead_of
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.proof import Stamp, raw_stamp, stamp_of

_RANKS: dict[Interval | None, int] = {interval: rank for rank, interval in enumerate(Interval)}


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
        The needed ones as they are on disk now; none if the month is cached.
    rows : int or None
        Number of their rows, if it is known and all are of one folder.
    cached : Path or None
        Where its rows are cached.
    """

    files: list[FileTask]
    needed: list[FileTask]
    tasks: Sequence[FileTask] = ()
    rows: int | None = None
    cached: Path | None = None

    def spans(self, *, by_file: bool) -> list[tuple[FileTask, int | None]]:
        """Return the needed files, with the number of rows of each as far as it is known.

        Unless `by_file`, one may stand for all whose rows have the same path columns but
        for the file.
        """
        if self.rows is not None and not by_file:
            return [(self.tasks[0], self.rows)]
        return [(task, task.rows) for task in self.tasks]


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
    path : Path or None
        Where the month is cached, or would be; None as long as a file was not read.
    stamps : dict of str to list of (str, Stamp)
        Names and stamps of the chosen files, by folder.
    rows : int or None
        Number of their rows, if it is known and all are of one folder.
    """

    parts: list[Part]
    files: list[FileTask]
    tasks: list[FileTask]
    known: dict[str, FileStats]
    path: Path | None = None
    stamps: dict[str, list[tuple[str, Stamp]]] = field(default_factory=dict)
    rows: int | None = None

    def complete(self) -> None:
        """Collect the stamps and the number of rows for the next scan."""
        for task in self.tasks:
            folder, _, name = task.file.path.rpartition("/")
            self.stamps.setdefault(folder, []).append((name, task.file.stamp))
        rows = [task.rows for task in self.tasks if task.rows is not None]
        if len(rows) == len(self.tasks) and len({task.folder for task in self.tasks}) == 1:
            self.rows = sum(rows)

    def is_valid(self, root: Path) -> bool:
        """Return whether the files are unchanged; no if a folder cannot be opened."""
        try:
            for path, files in self.stamps.items():
                # In an open folder a name is found faster than by its path.
                folder = os.open(f"{root}/{path}", os.O_RDONLY)
                try:
                    for name, stamp in files:
                        stat = os.stat(name, dir_fd=folder)
                        if raw_stamp(stat) != stamp and stamp_of(stat) != stamp:
                            return False
                finally:
                    os.close(folder)
        except OSError:
            return False
        return True


class ScanPlanner:
    """Plans one scan of a feed.

    Parameters
    ----------
    context : ScanContext
    feed : FeedTable
    pruner : Pruner
        Decides which files may have a row of the answer.
    cached : bool
        Whether months may come from the cache.
    """

    def __init__(
        self, context: ScanContext, feed: FeedTable, pruner: Pruner, *, cached: bool = True
    ) -> None:
        self._context = context
        self._feed = feed
        self._pruner = pruner
        self._cached = cached
        #: Files of each month that may have a row of the answer, and those of the month before.
        self._months: list[tuple[list[Part], list[Part]]] = []
        self._lookup = FileLookup(context, feed, self._needed_files)

    def months(self, streams: Sequence[StoredFolder]) -> list[MonthTask]:
        """Choose the files that may have a row of the answer, month by month.

        Parameters
        ----------
        streams : sequence of StoredFolder
            All of the feed.

        Returns
        -------
        list of MonthTask
            Symbol by symbol, interval by interval, in the order of time.
        """
        self._context.cache.known.refresh(self._feed)
        by_name: dict[tuple[str, int], list[StoredFolder]] = {}
        for stored in streams:
            name = stored.folder.symbol, _RANKS.get(stored.folder.interval, -1)
            by_name.setdefault(name, []).append(stored)
        for _, group in sorted(by_name.items()):
            if any(self._pruner.may_match(stored, [stored.files])[0] for stored in group):
                self._months += self._matching_months(group)
        self._lookup.profile_leads(chain.from_iterable(parts for parts, _ in self._months))
        months = [self._month(parts, before) for parts, before in self._months]
        return [month for month in months if month is not None]

    def _matching_months(
        self, streams: Sequence[StoredFolder]
    ) -> Iterator[tuple[list[Part], list[Part]]]:
        """Yield the files of each month of one symbol and interval that may match."""
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
        if self._cached and choice.path is not None and choice.path.exists():
            return MonthTask(files, needed, cached=choice.path)
        if needed is files:
            return MonthTask(files, needed, choice.tasks, choice.rows)
        keys = {task.file.key for task in needed}
        return MonthTask(files, needed, [task for task in choice.tasks if task.file.key in keys])

    def _remembered(self, parts: list[Part]) -> RememberedChoice | None:
        """Return the remembered choice among the files of a month, if it is still valid."""
        [(stored, files), *_] = parts
        choice: RememberedChoice | None = stored.choices.get(files[0])
        if choice is None or choice.parts != parts:
            return None
        if choice.known is not self._context.cache.known.stats(self._feed):
            return None
        return choice if choice.is_valid(self._context.store.root) else None

    def _look_up(
        self, parts: list[Part], files: list[FileTask], needed: list[FileTask]
    ) -> RememberedChoice:
        """Look up the chosen files; remember the choice once all of them were read."""
        cache = self._context.cache
        tasks = self._lookup.current(files, {task.file.key for task in needed})
        choice = RememberedChoice(parts, files, tasks, cache.known.stats(self._feed))
        stats = [task.stats for task in tasks if task.stats is not None]
        if len(stats) == len(files):
            [(stored, group), *_] = parts
            choice.path = cache.month(self._feed, stored.folder, tasks)
            # Which file gives a candle that began before depends on files of that month too.
            if all(each.checked for each in stats) and not any(map(has_lead, tasks)):
                choice.complete()
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
