"""Which file serves which day of a question, and where its rows lie.

Where a daily and a monthly file cover the same day, one of them serves it: no row is
given twice, and none is lost. A candle that begins before its month may be in the files
of two months; those of the earlier one give it. That is settled for whole months before a
question is looked at, so that it never changes an answer which part of the rows was asked
for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import chain, groupby
from pathlib import Path

from binance_archive_kit.archive.annotations import load_annotations
from binance_archive_kit.archive.enums import Interval, Partition
from binance_archive_kit.errors import ChangedFile, FileError, file_error
from binance_archive_kit.query.cache import MonthCache
from binance_archive_kit.query.pruning import Pruner
from binance_archive_kit.reading.chunks import Chunk, Notes
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask, lead_of
from binance_archive_kit.reading.profile import FileProfile, profile_files
from binance_archive_kit.reading.reader import ZipReader
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.moved import rehash_moved
from binance_archive_kit.storage.records import COMMIT_DELAY, ProofRecord
from binance_archive_kit.storage.stamps import Stamp, raw, stamp_of
from binance_archive_kit.storage.store import Store
from binance_archive_kit.timestamps import DAY, to_day_number

_Stamps = dict[str, list[tuple[str, Stamp]]]
_Part = tuple[StoredFolder, tuple[StoredFile, ...]]


#: Nanoseconds for which the proof of a new file may not be recorded yet; clocks may be apart.
_RECENT = 5_000_000_000


class Proofs:
    """What is recorded of proven files, looked up once for each question.

    Parameters
    ----------
    store : Store
    files : callable, optional
        Returns all files that the question needs: where one of them was moved since it was
        proven, so were the others, and they are hashed again together.
    """

    def __init__(
        self, store: Store, files: Callable[[], Iterable[StoredFile]] | None = None
    ) -> None:
        self._store = store
        self._files = files
        #: Since when records are looked up.
        self._as_of = time.time_ns()
        self._recorded: dict[str, dict[str, ProofRecord]] = {}

    def check(self, file: StoredFile) -> None:
        """Check that a file is still the one that was proven, if it ever was.

        Raises
        ------
        ChangedFile
            If its bytes are others.
        """
        if self._stands(file):
            return
        if max(file.stamp.mtime, file.stamp.ctime) > self._as_of - _RECENT:
            # A collection may have put it in place, and not recorded its proof yet.
            time.sleep(COMMIT_DELAY)
            self._as_of = time.time_ns()
            self._recorded.clear()
            if self._stands(file):
                return
        raise ChangedFile(file.path, "its bytes are not the ones that were proven")

    def is_published(self, file: StoredFile) -> bool:
        """Return whether the archive publishes a file as it is, as its proof says."""
        proof = self._proof(file)
        return proof is not None and proof.published and proof.is_of(file.stamp)

    def _stands(self, file: StoredFile) -> bool:
        proof = self._proof(file)
        if proof is None or proof.is_of(file.stamp):
            return True
        if proof.stamp.size != file.size:
            return False
        others = () if self._files is None else self._files()
        self._files = None
        files = {each.key: each for each in (*others, file)}
        proofs = {key: self._proof(each) for key, each in files.items()}
        for key, known in rehash_moved(self._store.records, files.values(), proofs).items():
            self._recorded[f"{key.rpartition('/')[0]}/"][key] = known
        proof = self._proof(file)
        return proof is None or proof.is_of(file.stamp)

    def _proof(self, file: StoredFile) -> ProofRecord | None:
        if not file.is_zip:
            return None
        prefix = f"{file.key.rpartition('/')[0]}/"
        if prefix not in self._recorded:
            self._recorded[prefix] = self._store.records.proofs(prefix)
        return self._recorded[prefix].get(file.key)


@dataclass(frozen=True, slots=True)
class Served:
    """A file that serves days, the stream it belongs to, and the days another one serves."""

    held: StoredFolder
    file: StoredFile
    without: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Claim:
    """A file among several of the same days: days it may and does have rows of, and serves."""

    held: StoredFolder
    file: StoredFile
    possible: set[date]
    has: set[date]
    own: set[date]

    def served(self, others: set[date], *, needed: bool) -> Iterator[tuple[date, Served]]:
        """Give it stretch by stretch, as others serve days in between, with the start of each.

        A file that serves no day is given if it is needed all the same.
        """
        if not self.own:
            if needed or not self.has:
                yield self.file.start, Served(self.held, self.file, frozenset(self.has))
            return
        mixed = any(day < max(self.own) for day in others & self.possible)
        days = self.possible if mixed else self.has
        # Rows come in the order of time.
        for stretch in _stretches(self.own, others):
            yield min(stretch), Served(self.held, self.file, frozenset(days - stretch))


@dataclass(slots=True)
class MonthTask:
    """A month of one symbol and interval.

    Attributes
    ----------
    serving : list of Served
        The files that give its rows.
    needed : list of Served
        Those of them that may hold a row of the answer.
    sources : sequence of FileTask
        The needed ones as they lie there now; none when the month is kept.
    rows : int or None
        How many rows they give, if that is known and all are of one stream.
    kept : Path or None
        Where its rows are in the cache.
    """

    serving: list[Served]
    needed: list[Served]
    sources: Sequence[FileTask] = ()
    rows: int | None = None
    kept: Path | None = None

    def spans(self, *, by_file: bool) -> list[tuple[FileTask, int | None]]:
        """Give the needed files, and how many rows each gives, as far as that is known.

        Unless asked file by file, one may stand for all whose rows have the same path
        columns but for the file.
        """
        if self.rows is not None and not by_file:
            return [(self.sources[0], self.rows)]
        return [(source, source.rows) for source in self.sources]


@dataclass(slots=True)
class RememberedChoice:
    """Which of a month's files give its rows; it stands as long as they stay as they are.

    Attributes
    ----------
    parts : list of (StoredFolder, tuple of StoredFile)
        All files of the month.
    serving : list of Served
    sources : list of FileTask
        The chosen ones as they lay there.
    known : dict of str to FileStats
        What was known of files then; forgotten, it is another.
    path : Path or None
        Where the month's rows would be kept, if all is known of it and anything is kept.
    stamps : dict of str to list of (str, Stamp)
        Names and stamps of the chosen files by folder, for a settled choice.
    rows : int or None
        How many rows they give, if that is known and all are of one stream.
    """

    parts: list[_Part]
    serving: list[Served]
    sources: list[FileTask]
    known: dict[str, FileStats]
    path: Path | None = None
    stamps: _Stamps = field(default_factory=dict)
    rows: int | None = None

    def settle(self) -> None:
        """Note what the next question would otherwise have to gather again."""
        for source in self.sources:
            file = source.file
            folder, _, name = file.path.rpartition("/")
            self.stamps.setdefault(folder, []).append((name, file.stamp))
        rows = [source.rows for source in self.sources if source.rows is not None]
        if len(rows) == len(self.sources) and len({each.folder for each in self.sources}) == 1:
            self.rows = sum(rows)


class FileNotes(Notes):
    """Records in the cache what one reader finds out about the files of a feed.

    Parameters
    ----------
    store : Store
    cache : MonthCache
    feed : FeedTable
    """

    def __init__(self, store: Store, cache: MonthCache, feed: FeedTable) -> None:
        self._proofs = Proofs(store)
        self._cache = cache
        self._feed = feed

    def completed(self, task: FileTask, stats: FileStats) -> None:
        """Record what a file that was read to its end has shown."""
        self._cache.remember(self._feed, {task.file.key: stats})

    def rejected(self, task: FileTask, error: FileError) -> None:
        """Record that a file cannot be read, and let the error say whose fault it is."""
        if error.lasting:
            error.at_source = self._proofs.is_published(task.file)
            self._cache.reject(self._feed, task.file, error)


class ScanPlanner:
    """Chooses the files of a store that serve a question.

    Parameters
    ----------
    root : Path
    store : Store
        What was proven.
    cache : MonthCache
        What is known of files, and which months are kept.
    first : Partition
        Which partition serves a day that both cover.
    skip : callable, optional
        Told of files that cannot be read, which are then left out; else they raise.
    """

    def __init__(
        self,
        root: Path,
        store: Store,
        cache: MonthCache,
        *,
        first: Partition,
        skip: Callable[[FileError], None] | None,
    ) -> None:
        self._root = root
        self._store = store
        self._cache = cache
        self._first = first
        self._skip = skip
        #: Days that files have rows of, where what is remembered does not tell.
        self._dates: dict[StoredFile, frozenset[date]] = {}

    def months(
        self,
        feed: FeedTable,
        streams: Sequence[StoredFolder],
        pruner: Pruner,
        *,
        cached: bool = True,
    ) -> list[MonthTask]:
        """Choose the files that may hold a row of the answer, month by month.

        Parameters
        ----------
        feed : FeedTable
        streams : sequence of StoredFolder
            All of the feed.
        pruner : Pruner
        cached : bool
            Whether months may come from the cache.

        Returns
        -------
        list of Month
            Symbol by symbol, interval by interval, in the order of time.
        """
        self._cache.refresh(feed)
        by_name: dict[tuple[str, int], list[StoredFolder]] = {}
        for held in streams:
            name = held.folder.symbol, _RANKS.get(held.folder.interval, -1)
            by_name.setdefault(name, []).append(held)
        meant: list[tuple[list[_Part], list[_Part]]] = []
        for _, held_streams in sorted(by_name.items()):
            if any(pruner.may_match(held, [held.files])[0] for held in held_streams):
                meant += _meant(held_streams, pruner)
        proofs = Proofs(self._store, lambda: _needed(pruner, meant))
        self._look_for_early(feed, [parts for parts, _ in meant], proofs)
        months = [
            self._month(feed, parts, before, pruner, proofs, cached=cached)
            for parts, before in meant
        ]
        return [month for month in months if month is not None]

    def _month(
        self,
        feed: FeedTable,
        parts: list[_Part],
        before: list[_Part],
        pruner: Pruner,
        proofs: Proofs,
        *,
        cached: bool,
    ) -> MonthTask | None:
        """Choose the files of a month, and find out where its rows are: in the cache or the zips.

        None if none of them can hold a row of the answer.
        """
        choice = self._recalled(feed, parts)
        serving = choice.serving if choice else self._serving(feed, parts, before, proofs)
        whole = all(pruner.all_match(held, files) for held, files in parts)
        needed = serving if whole else _kept(pruner, serving)
        if not needed:
            return None
        choice = choice or self._chosen(feed, parts, serving, needed, proofs)
        if cached and choice.path is not None and choice.path.exists():
            return MonthTask(serving, needed, kept=choice.path)
        if needed is serving:
            return MonthTask(serving, needed, choice.sources, choice.rows)
        keys = {each.file.key for each in needed}
        return MonthTask(
            serving, needed, [each for each in choice.sources if each.file.key in keys]
        )

    def _recalled(self, feed: FeedTable, parts: list[_Part]) -> RememberedChoice | None:
        """Recall the choice among the files of a month, if it still stands."""
        [(held, files), *_] = parts
        choice: RememberedChoice | None = held.choices.get(files[0])
        if choice is None or choice.parts != parts:
            return None
        if choice.known is not self._cache.known(feed) or not self._unchanged(choice.stamps):
            return None
        return choice

    def _unchanged(self, stamps: _Stamps) -> bool:
        """Tell whether files are as they were; when one is rewritten, its folder does not show it.

        Where folders cannot be opened they count as changed.
        """
        try:
            for path, files in stamps.items():
                # In an open folder a name is found faster than by its path, thousands of times.
                folder = os.open(f"{self._root}/{path}", os.O_RDONLY)
                try:
                    for name, stamp in files:
                        stat = os.stat(name, dir_fd=folder)
                        if raw(stat) != stamp and stamp_of(stat) != stamp:
                            return False
                finally:
                    os.close(folder)
        except OSError:
            return False
        return True

    def _chosen(
        self,
        feed: FeedTable,
        parts: list[_Part],
        serving: list[Served],
        needed: list[Served],
        proofs: Proofs,
    ) -> RememberedChoice:
        """Look at the files that serve a month; recall them once they were read through."""
        sources = self.sources(feed, serving, proofs, {each.file.key for each in needed})
        choice = RememberedChoice(parts, serving, sources, self._cache.known(feed))
        stats = [source.stats for source in sources if source.stats is not None]
        if len(stats) == len(serving):
            [(held, files), *_] = parts
            choice.path = self._cache.month(feed, held.folder, sources)
            # Who gives a candle that began in the month before, files of that month decide too.
            if all(each.checked for each in stats) and not any(map(_is_early, sources)):
                choice.settle()
                held.choices[files[0]] = choice
        return choice

    def _serving(
        self, feed: FeedTable, parts: list[_Part], before: list[_Part], proofs: Proofs
    ) -> list[Served]:
        """Choose one file for each day of a month, and of candles that began before it."""
        lead = lead_of(parts[0][0].folder)
        early = lead and self._are_early(feed, parts, proofs)
        if len(parts) == 1 and not early:
            [(held, files)] = parts
            return [Served(held, file) for file in files]
        first, *second = sorted(parts, key=lambda part: part[0].folder.partition is not self._first)
        taken: set[date] = set()
        for held, files in before if early else ():
            taken |= self._days_of(feed, held, files, proofs)
        wrong = self._wrong_days(feed, first, second, proofs)
        claims: list[Claim] = []
        for part in (first, *second):
            held, files = part
            for file in files:
                possible = _span(file.start - lead, file.end)
                # Whatever the others leave of a file is its own, so nobody has to look into it.
                looks = bool(lead) or part is first
                has = self._days_of(feed, held, [file], proofs) if looks else possible
                own = has - taken - wrong if part is first else has - taken
                claims.append(Claim(held, file, possible, has, own))
                taken |= own
        every = set(chain.from_iterable(claim.own for claim in claims))
        serving = [
            (start, served)
            for claim in claims
            for start, served in claim.served(every - claim.own, needed=claim.held is first[0])
        ]
        serving.sort(key=lambda each: (each[0], each[1].file.end))
        return [served for _, served in serving]

    def _wrong_days(
        self, feed: FeedTable, first: _Part, others: Sequence[_Part], proofs: Proofs
    ) -> set[date]:
        """Return the days that files are known to have wrong and that others have rows of."""
        held, files = first
        folder = held.folder
        wrong = load_annotations().wrong_days(
            feed.market,
            feed.data_type,
            folder.symbol,
            folder.interval,
            folder.partition,
            files[0].start,
            files[-1].end,
        )
        better: set[date] = set()
        for other, its_files in others if wrong else ():
            its_own = [file for file in its_files if _span(file.start, file.end) & wrong]
            better |= wrong & self._days_of(feed, other, its_own, proofs)
        return better

    def _days_of(
        self, feed: FeedTable, held: StoredFolder, files: Sequence[StoredFile], proofs: Proofs
    ) -> set[date]:
        """Tell which days files serve when others cover them too: those they have rows of."""
        days: set[date] = set()
        for file in files:
            try:
                for source in self.sources(feed, [Served(held, file)], proofs):
                    days |= self._days(feed, source)
            except FileError:
                # Whoever needs its rows will be told; nobody gets those of another file instead.
                days |= _span(file.start, file.end)
        return days

    def _days(self, feed: FeedTable, source: FileTask) -> frozenset[date] | set[date]:
        """Tell which days a file has rows of; none if it is left out."""
        file = source.file
        if source.folder.partition is Partition.DAILY and not lead_of(source.folder):
            return {file.start} if self._has_rows(feed, source) else set()
        known = self._cache.profiles(feed).get(file.key)
        if known is None or not known.stats.is_of(file):
            known = self._look_into(feed, [source]).get(file.key)
        if known is None:
            return set()
        return known.days if known.days is not None else self._read_dates(feed, source)

    def _read_dates(self, feed: FeedTable, source: FileTask) -> frozenset[date]:
        """Read the day of every row of a file."""
        if source.file not in self._dates:
            pieces = self._reader(feed).chunks(
                [source], ["date"], lambda piece: piece.frame["date"].unique(), workers=1
            )
            self._dates[source.file] = frozenset(chain.from_iterable(pieces))
        return self._dates[source.file]

    def _reader(self, feed: FeedTable) -> ZipReader:
        return ZipReader(self._root, feed, notes=FileNotes(self._store, self._cache, feed))

    def _has_rows(self, feed: FeedTable, source: FileTask) -> bool:
        """Tell whether a file has rows, and none that is of another day; no if it is left out."""
        stats, key = source.stats, source.file.key
        if self._skip is not None and (stats is None or not stats.checked):
            # A bad file must not keep another one from its day, so every row has to be seen.
            seen = self._look_into(feed, [source]).get(key)
            return seen is not None and seen.stats.rows > 0
        if stats is None:
            pieces = self._reader(feed).chunks([source], (), _learned, workers=1)
            for shown in chain.from_iterable(pieces):
                stats = stats + shown
            if stats is not None:
                self._cache.remember(feed, {key: stats})
        return stats is not None and stats.rows > 0

    def _look_into(
        self,
        feed: FeedTable,
        sources: Sequence[FileTask],
        skip: Callable[[FileError], None] | None = None,
    ) -> dict[str, FileProfile]:
        """Read files in full, and remember what is in them; give it by their keys."""
        skip = skip if self._skip is None else self._skip
        notes = FileNotes(self._store, self._cache, feed)
        looked = profile_files(self._root, feed, sources, workers=1, skip=skip, notes=notes)
        profiles = {key: profile for files in looked for key, profile in files.items()}
        self._cache.remember_profiles(feed, profiles)
        return profiles

    def _look_for_early(
        self, feed: FeedTable, months: Sequence[Sequence[_Part]], proofs: Proofs
    ) -> None:
        """Read what may begin before its month and was not read before; many files at once."""
        known = self._cache.known(feed)
        unseen: list[FileTask] = []
        for held, files in chain.from_iterable(months):
            for file in files if lead_of(held.folder) else ():
                stats = known.get(file.key)
                if stats is None or not stats.checked or not stats.is_of(file):
                    with suppress(FileError):
                        unseen += (
                            source
                            for source in self.sources(feed, [Served(held, file)], proofs)
                            if source.stats is None or not source.stats.checked
                        )
        if unseen:
            # Whoever needs a bad one will be told.
            self._look_into(feed, unseen, skip=lambda error: None)

    def _are_early(self, feed: FeedTable, parts: Sequence[_Part], proofs: Proofs) -> bool:
        """Tell whether any of some files has a candle that begins before it."""
        for held, files in parts:
            for file in files:
                with suppress(FileError):
                    if any(map(_is_early, self.sources(feed, [Served(held, file)], proofs))):
                        return True
        return False

    def sources(
        self,
        feed: FeedTable,
        serving: Sequence[Served],
        proofs: Proofs,
        needed: Collection[str] | None = None,
    ) -> list[FileTask]:
        """Look at files as they are now; those that are gone, or left out, are not among them.

        Raises
        ------
        ChangedFile
            For a needed file that is no longer the proven one; None needs all.
        """
        known = self._cache.known(feed)
        rejected = self._cache.rejected(feed)
        skips = self._skip is not None
        sources = []
        for each in serving:
            file = each.file
            try:
                stat = os.stat(f"{self._root}/{file.path}")  # noqa: PTH116 -- of thousands of files
            except OSError:
                continue
            if raw(stat) != file.stamp and (stamp := stamp_of(stat)) != file.stamp:
                file = replace(file, stamp=stamp)
            stats = known.get(file.key)
            if stats is not None and (not stats.is_of(file) or (skips and not stats.full)):
                # What is only counted, or read in part, may turn out to be bad.
                stats = None
            if stats is None and (needed is None or file.key in needed):
                try:
                    if rejected and (bad := rejected.get(file.key)) and bad.stamp == file.stamp:
                        # Raised anew: one error is not to be changed by several threads.
                        _, said = bad
                        published = proofs.is_published(file)
                        raise file_error(said.reason, said.file, said.detail, published)
                    proofs.check(file)
                except FileError as error:
                    if self._skip is None:
                        raise
                    self._skip(error)
                    continue
            sources.append(FileTask(file, each.held, stats, each.without))
        return sources


_RANKS: dict[Interval | None, int] = {interval: at for at, interval in enumerate(Interval)}


def _learned(piece: Chunk) -> list[FileStats]:
    return piece.stats


def _span(first: date, last: date) -> set[date]:
    return {first + timedelta(days=at) for at in range((last - first).days + 1)}


def _stretches(own: set[date], others: set[date]) -> Iterator[set[date]]:
    """Group days so that none of the others lies between those of a group."""
    for is_own, days in groupby(sorted(own | others), lambda day: day in own):
        if is_own:
            yield set(days)


def _is_early(source: FileTask) -> bool:
    """Tell whether a file has a candle that begins before the days it is named after."""
    first = None if source.stats is None else source.stats.first
    early = first is not None and first < to_day_number(source.file.start) * DAY
    return early and bool(lead_of(source.folder))


def _meant(
    held_streams: Sequence[StoredFolder], pruner: Pruner
) -> Iterator[tuple[list[_Part], list[_Part]]]:
    """Give all files of each month of one symbol and interval that may hold a row of the answer.

    With those of the month before.
    """
    parts: dict[tuple[int, int], list[_Part]] = {}
    meant: set[tuple[int, int]] = set()
    for held in held_streams:
        keeps = pruner.may_match(held, held.months)
        for files, keep in zip(held.months, keeps, strict=True):
            month = files[0].start.year, files[0].start.month
            parts.setdefault(month, []).append((held, files))
            if keep:
                meant.add(month)
    for at in sorted(meant):
        yield parts[at], parts.get(_month_before(at), [])


def _needed(pruner: Pruner, meant: Sequence[tuple[list[_Part], list[_Part]]]) -> list[StoredFile]:
    """Return the files of some months that may hold a row of the answer."""
    parts = chain.from_iterable(parts for parts, _ in meant)
    served = [Served(held, file) for held, files in parts for file in files]
    return [each.file for each in _kept(pruner, served)]


def _month_before(at: tuple[int, int]) -> tuple[int, int]:
    year, month = at
    return (year, month - 1) if month > 1 else (year - 1, 12)


def _kept(pruner: Pruner, serving: Sequence[Served]) -> list[Served]:
    """Choose the files that may hold a row of the answer."""
    kept = []
    for held, part in groupby(serving, lambda each: each.held):
        files = list(part)
        keeps = pruner.may_match(held, [[each.file] for each in files])
        kept += [each for each, keep in zip(files, keeps, strict=True) if keep]
    return kept
