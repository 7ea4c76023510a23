"""Decide which files continue the streams of a store. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import (
    Folder,
    Span,
    Stream,
    delivery_of,
    period_end,
    periods,
)
from binance_archive_kit.archive.matrix import Confidence, Matrix, PartitionAvailability
from binance_archive_kit.planning.config import PartitionChoice
from binance_archive_kit.planning.requests import FolderRequest, merge_spans
from binance_archive_kit.storage.inventory import StoredFile

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class StoredStream:
    """A stream of a store, with its files.

    Attributes
    ----------
    stream : Stream
    files : mapping of Partition to sequence of StoredFile
        Oldest first; none of the sequences is empty.
    """

    stream: Stream
    files: Mapping[Partition, Sequence[StoredFile]]

    @property
    def first(self) -> date:
        """First UTC day that a file covers."""
        return min(files[0].start for files in self.files.values())

    @cached_property
    def newest(self) -> StoredFile:
        """The file with the latest day; of two, the shorter one."""
        files = [of_partition[-1] for of_partition in self.files.values()]
        return max(files, key=lambda file: (file.end, file.start))

    @property
    def last(self) -> date:
        """Last UTC day that a file covers."""
        return self.newest.end

    @property
    def partition(self) -> PartitionChoice:
        """The partition of its files; ``auto`` if it has both."""
        if len(self.files) > 1:
            return PartitionChoice.AUTO
        return PartitionChoice(next(iter(self.files)).value)

    def uncovered(self, start: date, end: date) -> list[Span]:
        """Return the runs of days from `start` to `end`, both inclusive, without a file."""
        found, day = [], start
        spans = [(file.start, file.end) for files in self.files.values() for file in files]
        for first, last in merge_spans(span for span in spans if span[1] >= start):
            if day < first:
                found.append((day, min(first - _DAY, end)))
            day = max(day, last + _DAY)
            if day > end:
                return found
        return [*found, (day, end)] if day <= end else found


@dataclass(frozen=True, slots=True)
class NewerFiles:
    """Requests for the files that continue streams, as of one time.

    Parameters
    ----------
    matrix : Matrix
    now : datetime
        The present, aware.
    end : date
        Last UTC day to request, inclusive.
    """

    matrix: Matrix
    now: datetime
    end: date

    def partitions(self, stream: Stream) -> Mapping[Partition, PartitionAvailability]:
        """Return the partitions in which the archive publishes a stream; empty if in none."""
        feed = self.matrix.feed(stream.market, stream.data_type)
        return {} if feed is None else feed.partitions_with(stream.interval)

    def last_day(self, stream: Stream, partition: Partition) -> date:
        """Return the last UTC day to request of a stream: the end, or that of feed or contract."""
        known = self.partitions(stream)[partition]
        days = [self.end]
        if known.last is not None and known.confidence is not Confidence.HEARSAY:
            days.append(period_end(known.last, partition))
        if (delivery := delivery_of(stream.symbol)) is not None:
            days.append(period_end(delivery, partition))
        return min(days)

    def requests(
        self, kept: StoredStream, choice: PartitionChoice, begin: date, *, again: bool
    ) -> list[FolderRequest]:
        """Return the requests for the days of a stream that no file covers.

        Parameters
        ----------
        kept : StoredStream
        choice : PartitionChoice
            A partition that the archive has for the stream, or ``auto``.
        begin : date
            First UTC day to request.
        again : bool
            Whether to request the newest file too, which shows that the stream is up to date.
        """
        known = self.partitions(kept.stream)
        wanted: dict[Partition, list[Span]] = {Partition.MONTHLY: [], Partition.DAILY: []}
        choice = _possible(choice, known)
        if choice is not PartitionChoice.DAILY:
            wanted[Partition.MONTHLY] += self._months(kept, choice, begin)
        if choice is not PartitionChoice.MONTHLY:
            wanted[Partition.DAILY] += self._days(kept, begin, wanted[Partition.MONTHLY])
        whole = choice is PartitionChoice.AUTO and bool(wanted[Partition.MONTHLY])
        newest = kept.newest
        if again and newest.start <= self.end:
            partition = Partition.DAILY if newest.start == newest.end else Partition.MONTHLY
            if partition in known:
                wanted[partition].append((newest.start, newest.end))

        def request(partition: Partition, rest: FolderRequest | None = None) -> FolderRequest:
            folder, spans = Folder(kept.stream, partition), merge_spans(wanted[partition])
            return FolderRequest(folder, spans, known[partition], rest, begin)

        if whole:
            return [request(Partition.MONTHLY, rest=request(Partition.DAILY))]
        return [request(partition) for partition, spans in wanted.items() if spans]

    def _months(self, kept: StoredStream, choice: PartitionChoice, begin: date) -> list[Span]:
        """Return the whole months to request as one file each."""
        uncovered = set(_days_of(kept.uncovered(begin, self.end)))
        monthly = kept.files.get(Partition.MONTHLY, ())
        # The months of a store go on from its last one, also if it has their days already.
        start = min(begin, monthly[-1].end + _DAY) if monthly else begin
        found = []
        for month in periods(start, self.last_day(kept.stream, Partition.MONTHLY), _MONTHLY):
            end = period_end(month, _MONTHLY)
            if end > self.end:
                break
            days = set(_days_of([(month, end)]))
            if choice is PartitionChoice.MONTHLY:
                is_wanted = bool(days & uncovered)
            elif self.matrix.published_at(month, _MONTHLY) > self.now:
                is_wanted = False
            else:
                is_wanted = days <= uncovered or (bool(monthly) and month > monthly[-1].end)
            if is_wanted:
                found.append((month, end))
        return found

    def _days(self, kept: StoredStream, begin: date, months: Sequence[Span]) -> list[Span]:
        """Return the days to request outside of some months."""
        last = self.last_day(kept.stream, Partition.DAILY)
        in_months = set(_days_of(months))
        days = (day for day in _days_of(kept.uncovered(begin, last)) if day not in in_months)
        return [*merge_spans((day, day) for day in days)]


_MONTHLY = Partition.MONTHLY


def _possible(
    choice: PartitionChoice, known: Mapping[Partition, PartitionAvailability]
) -> PartitionChoice:
    """Return the choice, or the only partition that the archive has for the stream."""
    if len(known) == 1:
        return PartitionChoice(next(iter(known)).value)
    return choice


def _days_of(spans: Sequence[Span]) -> Iterator[date]:
    """Yield the days of runs of days."""
    for start, end in spans:
        yield from periods(start, end, Partition.DAILY)
