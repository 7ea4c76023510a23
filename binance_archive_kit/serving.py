"""Which file serves which day of a question, and where its rows lie.

Where a daily and a monthly file cover the same day, one of them serves it: no row is
given twice, and none is lost. That is settled for whole months before a question is
looked at, so that it never changes an answer which part of the rows was asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

from binance_archive_kit.caching import Cache
from binance_archive_kit.enums import Interval, Partition
from binance_archive_kit.errors import ChangedFile, FileError
from binance_archive_kit.facts import Facts, Source, merged
from binance_archive_kit.feeds import Feed
from binance_archive_kit.inventory import HeldFile, HeldStream
from binance_archive_kit.pruning import Pruner
from binance_archive_kit.reading import Reader
from binance_archive_kit.storage import Store

#: What is recorded of proven files, by the prefix of their stream and their key.
_Proofs = dict[str, dict[str, tuple[int, int, str]]]
_Part = tuple[HeldStream, tuple[HeldFile, ...]]

#: Seconds after which a file that is not the proven one is looked at once more: a
#: collection records the proof of a file just after it has put the file in place.
_SETTLING = 1.0
_DAY_ZERO = date(1970, 1, 1)
_DAY_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Served:
    """A file that serves days, the stream it belongs to, and the days another one serves."""

    held: HeldStream
    file: HeldFile
    without: frozenset[date] = frozenset()

    @property
    def start(self) -> date:
        """First day that it serves."""
        return min(_span(self.file.start, self.file.end) - self.without)


@dataclass(slots=True)
class Month:
    """A month of one symbol and interval.

    Attributes
    ----------
    serving : list of Served
        The files that give its rows.
    needed : list of Served
        Those of them that may hold a row of the answer.
    sources : list of Source
        The needed ones as they lie there now; none when the month is kept.
    kept : Path or None
        Where its rows are in the cache.
    """

    serving: list[Served]
    needed: list[Served]
    sources: list[Source] = field(default_factory=list)
    kept: Path | None = None


class Servings:
    """Chooses the files of a store that serve a question.

    Parameters
    ----------
    root : Path
    store : Store
        What was proven.
    cache : Cache
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
        cache: Cache,
        *,
        first: Partition,
        skip: Callable[[FileError], None] | None,
    ) -> None:
        self._root = root
        self._store = store
        self._cache = cache
        self._first = first
        self._skip = skip

    def months(
        self, feed: Feed, streams: Sequence[HeldStream], pruner: Pruner, *, cached: bool = True
    ) -> list[Month]:
        """Choose the files that may hold a row of the answer, month by month.

        Parameters
        ----------
        feed : Feed
        streams : sequence of HeldStream
            All of the feed.
        pruner : Pruner
        cached : bool
            Whether months may come from the cache.

        Returns
        -------
        list of Month
            Symbol by symbol, interval by interval, in the order of time.
        """
        by_name: dict[tuple[str, int], list[HeldStream]] = {}
        for held in streams:
            name = held.stream.symbol, _RANKS.get(held.stream.interval, -1)
            by_name.setdefault(name, []).append(held)
        proofs: _Proofs = {}
        months: list[Month] = []
        for _, held_streams in sorted(by_name.items()):
            if any(pruner.keeps(held, [held.files])[0] for held in held_streams):
                found = self._months_of(feed, held_streams, pruner, proofs)
                months += (self._located(feed, month, proofs, cached=cached) for month in found)
        return months

    def _months_of(
        self, feed: Feed, held_streams: Sequence[HeldStream], pruner: Pruner, proofs: _Proofs
    ) -> Iterator[Month]:
        """Choose the files of one symbol and interval."""
        parts: dict[tuple[int, int], list[_Part]] = {}
        meant: set[tuple[int, int]] = set()
        for held in held_streams:
            keeps = pruner.keeps(held, held.months)
            for files, keep in zip(held.months, keeps, strict=True):
                month = files[0].start.year, files[0].start.month
                parts.setdefault(month, []).append((held, files))
                if keep:
                    meant.add(month)
        for at in sorted(meant):
            serving = self._serving(feed, parts[at], proofs)
            found = Month(serving, _kept(pruner, serving))
            if found.needed:
                yield found

    def _serving(self, feed: Feed, parts: Sequence[_Part], proofs: _Proofs) -> list[Served]:
        """Choose one file for each day of a month."""
        if len(parts) == 1:
            [(held, files)] = parts
            return [Served(held, file) for file in files]
        first, second = sorted(parts, key=lambda part: part[0].stream.partition is not self._first)
        held, files = first
        days: set[date] = set()
        for file in files:
            days |= self._days(feed, held, file, proofs)
        serving = [Served(held, file) for file in files]
        held, files = second
        for file in files:
            its = _span(file.start, file.end)
            # Rows come in the order of time, so what the others leave of it is read run by run.
            serving += [Served(held, file, frozenset(its - run)) for run in _runs(its - days)]
        return sorted(serving, key=lambda each: (each.start, each.file.end))

    def _days(self, feed: Feed, held: HeldStream, file: HeldFile, proofs: _Proofs) -> set[date]:
        """Tell which days a file serves when another one covers them too: those it has rows of."""
        named = _span(file.start, file.end)
        try:
            sources = self.sources(feed, [Served(held, file)], proofs)
            facts = self._facts(feed, sources[0]) if sources else None
        except FileError:
            # Whoever needs its rows will be told; nobody gets those of another file instead.
            return named
        if facts is None or facts.first is None or facts.last is None:
            return set()
        if held.stream.partition is Partition.DAILY:
            return named
        first, last = (
            _DAY_ZERO + timedelta(days=each // _DAY_MICROSECONDS)
            for each in (facts.first, facts.last)
        )
        return named & _span(first, last)

    def _facts(self, feed: Feed, source: Source) -> Facts | None:
        """Read a file for what it shows, unless that is known; None if it is left out."""
        facts = source.facts
        if facts is not None:
            return facts
        reader = Reader(self._root, feed)
        for piece in reader.pieces([source], (), lambda piece: piece, workers=1, skip=self._skip):
            for each in piece.learned:
                facts = merged(facts, each)
        if facts is not None:
            self._cache.remember(feed, {source.file.key: facts})
        return facts

    def _located(self, feed: Feed, month: Month, proofs: _Proofs, *, cached: bool) -> Month:
        """Find out where the rows of a month are: kept in the cache, or in the zips."""
        needed = {each.file.key for each in month.needed}
        sources = self.sources(feed, month.serving, proofs, needed)
        if cached and len(sources) == len(month.serving) and all(each.facts for each in sources):
            path = self._cache.month(feed, month.serving[0].held.stream, sources)
            month.kept = path if path is not None and path.exists() else None
        if month.kept is None:
            month.sources = [source for source in sources if source.file.key in needed]
        return month

    def sources(
        self,
        feed: Feed,
        serving: Sequence[Served],
        proofs: _Proofs,
        needed: Collection[str] | None = None,
    ) -> list[Source]:
        """Look at files as they are now; those that are gone, or left out, are not among them.

        Raises
        ------
        ChangedFile
            For a needed file that is no longer the proven one; None needs all.
        """
        known = self._cache.known(feed)
        sources = []
        for each in serving:
            file = each.file
            try:
                stat = os.stat(f"{self._root}/{file.place}")  # noqa: PTH116 -- of thousands of files
            except OSError:
                continue
            size, mtime = stat.st_size, stat.st_mtime_ns
            if mtime != file.mtime or size != file.size:
                file = replace(file, size=size, mtime=mtime)
            facts = known.get(file.key)
            if facts is not None and (facts.mtime != mtime or facts.size != size):
                facts = None
            if facts is None and (needed is None or file.key in needed):
                try:
                    self._check_proof(each.held.stream.prefix, file, proofs)
                except FileError as error:
                    if self._skip is None:
                        raise
                    self._skip(error)
                    continue
            sources.append(Source(file, each.held.stream, facts, each.without))
        return sources

    def _check_proof(self, prefix: str, file: HeldFile, proofs: _Proofs) -> None:
        """See that a file is still the one that was proven, if it ever was."""
        if prefix not in proofs:
            proofs[prefix] = self._store.recorded(prefix)
        if not self._contradicts(file, proofs[prefix]):
            return
        time.sleep(_SETTLING)
        proofs[prefix] = self._store.recorded(prefix)
        if self._contradicts(file, proofs[prefix]):
            raise ChangedFile(file.place, "its bytes are not the ones that were proven")

    def _contradicts(self, file: HeldFile, proofs: dict[str, tuple[int, int, str]]) -> bool:
        """Hold a file against its proof, if it has one; read it only if its time moved."""
        size, mtime, sha256 = proofs.get(file.key, (file.size, file.mtime, ""))
        if size != file.size:
            return True
        return mtime != file.mtime and self._store.hash(file.place) != sha256


_RANKS: dict[Interval | None, int] = {interval: at for at, interval in enumerate(Interval)}


def _span(first: date, last: date) -> set[date]:
    return {first + timedelta(days=at) for at in range((last - first).days + 1)}


def _runs(days: Collection[date]) -> Iterator[set[date]]:
    """Group days into runs of neighbours."""
    for _, run in groupby(enumerate(sorted(days)), lambda each: each[1] - timedelta(days=each[0])):
        yield {day for _, day in run}


def _kept(pruner: Pruner, serving: Sequence[Served]) -> list[Served]:
    """Choose the files that may hold a row of the answer."""
    kept = []
    for held, part in groupby(serving, lambda each: each.held):
        files = list(part)
        keeps = pruner.keeps(held, [[each.file] for each in files])
        kept += [each for each, keep in zip(files, keeps, strict=True) if keep]
    return kept
