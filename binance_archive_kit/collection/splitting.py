"""Split a configuration into shards by arithmetic, without listing its objects. Pure; no I/O.

A shard is a rectangle of one feed: symbols × intervals × days. Long streams are split by days, and
short ones share a shard. Where monthly files may be requested, days are split between months, so
no month belongs to two shards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Span, period_end, periods
from binance_archive_kit.archive.matrix import Feed, Matrix, WrongSymbolError
from binance_archive_kit.planning.config import CollectionConfig, PartitionChoice
from binance_archive_kit.planning.date_range import DateRange
from binance_archive_kit.planning.requests import (
    FeedName,
    known_days,
    requested_intervals,
    unavailable,
)
from binance_archive_kit.planning.selection import is_pattern

#: Bytes of a shard's JSON, exclusive.
LARGEST_JSON = 2_048
#: Bytes for symbols where the other fields, such as a long path, leave less than that.
_LEAST_ROOM = 256
#: Bytes of a symbol's line in the JSON, without the symbol: indentation, comma and line end.
_LINE = 6
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a configuration for one feed, some symbols, intervals and days.

    Attributes
    ----------
    market, data_type : Market, DataType
    symbols : tuple of str
    intervals : tuple of Interval
        Empty for data without intervals.
    days : Span
        UTC, both inclusive.
    most : int
        The number of periods that it requests: at most so many objects.
    """

    market: Market
    data_type: DataType
    symbols: tuple[str, ...]
    intervals: tuple[Interval, ...]
    days: Span
    most: int

    def config(self, whole: CollectionConfig) -> CollectionConfig:
        """Return the shard as a configuration, with the other fields of the whole one."""
        words = tuple(interval.value for interval in self.intervals)
        return whole.model_copy(
            update={
                "markets": (self.market,),
                "symbols": self.symbols,
                "quote": (),
                "data_types": (self.data_type,),
                "intervals": {self.data_type: words} if words else {},
                "date_range": DateRange.model_construct(start=self.days[0], end=self.days[1]),
            }
        )

    def __str__(self) -> str:
        """Return the feed, the symbols and the days, shortened."""
        more = f" and {len(self.symbols) - 2:,} more" if len(self.symbols) > 2 else ""
        names = f"{', '.join(self.symbols[:2])}{more}"
        words = ", ".join(self.intervals)
        name = " ".join(filter(None, (self.market, self.data_type, names, words)))
        return f"{name}, {self.days[0]} to {self.days[1]}"


@dataclass(frozen=True, slots=True)
class Splitter:
    """Splits one configuration.

    Attributes
    ----------
    config : CollectionConfig
        With settled days.
    matrix : Matrix
    now : datetime
        The present, aware.
    selected : mapping of (Market, DataType) to sequence of str
        The symbols that patterns match, by feed.
    objects : int
        Most periods of a shard, except where one month has more days.
    """

    config: CollectionConfig
    matrix: Matrix
    now: datetime
    selected: Mapping[FeedName, Sequence[str]]
    objects: int

    def shards(self) -> Iterator[Shard]:
        """Yield the shards, feed by feed and stream by stream."""
        for market in self.config.markets:
            for data_type in self.config.data_types if self.config.symbols_of(market) else ():
                feed = self.matrix.feed(market, data_type)
                if feed is not None:
                    yield from self._of_feed(feed)
                else:
                    # Its plan states that there is no such feed, whatever the symbol.
                    names = self._names(market, data_type) or self.matrix.symbols[market]
                    yield Shard(market, data_type, tuple(names[:1]), (), self._days, 0)

    @property
    def _days(self) -> Span:
        days = self.config.days(self.now)
        return days.start, days.end

    def _names(self, market: Market, data_type: DataType) -> list[str]:
        names = [name for name in self.config.symbols_of(market) if not is_pattern(name)]
        return [*names, *self.selected.get((market, data_type), ())]

    def _of_feed(self, feed: Feed) -> Iterator[Shard]:
        right, wrong = self._spelled(feed, self._names(feed.market, feed.type))
        for names in self._chunks(feed, wrong, (), len(wrong)):
            yield Shard(feed.market, feed.type, names, (), self._days, 0)
        if not right and not self.config.has_patterns:
            return
        # What cannot exist for any symbol is stated by the plan of one of them.
        known, _ = self._spelled(feed, self.matrix.symbols.get(feed.market, ()))
        one = tuple([*right, *known][:1])
        groups: dict[tuple[Partition, ...], list[Interval]] = {}
        none: list[Interval] = []
        for interval in requested_intervals(self.config, feed):
            words = [interval] if interval else []
            if unavailable(self.config.partition, feed, interval, self._days):
                none += words
                if not words and one:
                    yield Shard(feed.market, feed.type, one, (), self._days, 0)
            else:
                groups.setdefault(tuple(feed.partitions_with(interval)), []).extend(words)
        if none and one:
            yield Shard(feed.market, feed.type, one, tuple(none), self._days, 0)
        for partitions, intervals in groups.items():
            if right:
                yield from self._of_group(feed, partitions, intervals, right)

    def _of_group(
        self, feed: Feed, partitions: Sequence[Partition], words: list[Interval], names: list[str]
    ) -> Iterator[Shard]:
        """Yield the shards of the intervals of a feed that have files in the same partitions."""
        availability = feed.partitions_with(words[0] if words else None)
        begins, ends, _ = known_days(self.config.partition, availability)
        days = start, end = self._days
        if begins is not None and start < begins.replace(day=1) <= end:
            days = begins.replace(day=1), end
            before = start, days[0] - _DAY
            yield Shard(feed.market, feed.type, (names[0],), tuple(words), before, 0)
        if ends is not None and days[0] <= period_end(ends, Partition.MONTHLY) < end:
            days = days[0], period_end(ends, Partition.MONTHLY)
            after = days[1] + _DAY, end
            yield Shard(feed.market, feed.type, (names[0],), tuple(words), after, 0)
        windows = self._windows(days, partitions)
        each = sum(count for _, count in windows)
        at_once = max(1, self.objects // each)
        for position in range(0, len(words) or 1, at_once):
            intervals = tuple(words[position : position + at_once])
            streams = max(1, len(intervals))
            for chunk in self._chunks(feed, names, intervals, self.objects // (each * streams)):
                for window, count in windows:
                    most = count * len(chunk) * streams
                    yield Shard(feed.market, feed.type, chunk, intervals, window, most)

    def _spelled(self, feed: Feed, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the valid names in the archive's spelling, and the invalid ones, each once."""
        right: dict[str, None] = {}
        wrong: dict[str, None] = {}
        for name in names:
            try:
                spelled = self.matrix.archive_symbol(feed, name)
            except WrongSymbolError:
                wrong[name] = None
            else:
                right[spelled] = None
        return [*right], [*wrong]

    def _chunks(
        self, feed: Feed, names: Sequence[str], intervals: tuple[Interval, ...], most: int
    ) -> Iterator[tuple[str, ...]]:
        """Yield groups of symbols: `most` of a group, and fewer where their JSON is too long."""
        bare = Shard(feed.market, feed.type, (), intervals, self._days, 0).config(self.config)
        room = max(_LEAST_ROOM, LARGEST_JSON - len(bare.to_json().encode()) - _LINE)
        chunk: list[str] = []
        free = room
        for name in names:
            need = len(json.dumps(name, ensure_ascii=False).encode()) + _LINE
            if chunk and (len(chunk) >= most or need > free):
                yield tuple(chunk)
                chunk, free = [], room
            chunk.append(name)
            free -= need
        if chunk:
            yield tuple(chunk)

    def _windows(self, days: Span, partitions: Sequence[Partition]) -> list[tuple[Span, int]]:
        """Split days into runs of about equal numbers of periods; return these numbers too."""
        parts = self._whole_parts(days, partitions)
        total = sum(count for _, count in parts)
        shards = -(-total // self.objects)
        most = -(-total // shards)
        windows: list[tuple[Span, int]] = []
        for span, count in parts:
            if windows and windows[-1][1] + count <= most:
                (first, _), before = windows[-1]
                windows[-1] = (first, span[1]), before + count
            else:
                windows.append((span, count))
        return windows

    def _whole_parts(self, days: Span, partitions: Sequence[Partition]) -> list[tuple[Span, int]]:
        """Return the parts of some days that a shard has wholly or not at all, with their periods.

        A month that may be published as one file counts as one period, others as their days.
        """
        start, end = days
        choice = self.config.partition
        only_months = Partition.DAILY not in partitions or choice is PartitionChoice.MONTHLY
        if not only_months and (
            choice is PartitionChoice.DAILY or Partition.MONTHLY not in partitions
        ):
            return [((day, day), 1) for day in periods(start, end, Partition.DAILY)]
        parts = []
        for month in periods(start, end, Partition.MONTHLY):
            last = period_end(month, Partition.MONTHLY)
            span = max(month, start), min(last, end)
            due = self.matrix.published_at(month, Partition.MONTHLY) <= self.now
            whole = only_months or (span == (month, last) and due)
            parts.append((span, 1 if whole else (span[1] - span[0]).days + 1))
        return parts
