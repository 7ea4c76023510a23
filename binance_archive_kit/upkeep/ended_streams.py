"""Find the streams of a store that have ended, so that these are not requested every day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    ObjectKey,
    Stream,
    feed_prefix,
    format_period,
    period_end,
    prefix_of,
)
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.display.background import gather
from binance_archive_kit.planning.lifetimes import Due
from binance_archive_kit.storage.records import Records
from binance_archive_kit.upkeep.newer_files import NewerFiles, StoredStream

#: Days without a file after which a stream may have ended: with daily files, and without.
LATE = timedelta(days=35)
_LATE_MONTHS = timedelta(days=66)
#: Days by which another stream must go on longer: files come late.
_GRACE = timedelta(days=7)
#: Keys of a page that shows whether anything follows a zip and its checksum.
_KEYS = 3
_DAY = timedelta(days=1)


class EndedStreams:
    """Finds the ended ones of some streams, from the matrix, the records and the listing.

    Parameters
    ----------
    records : Records
    newer : NewerFiles
    kept : sequence of StoredStream
    """

    def __init__(self, records: Records, newer: NewerFiles, kept: Sequence[StoredStream]) -> None:
        self._records = records
        self._newer = newer
        due = Due.at(newer.matrix, newer.now)
        self._due = min(newer.end, due.day)
        #: The latest day that any stream of a feed is known to have.
        self._latest: dict[tuple[Market, DataType], date] = {}
        for each in kept:
            self._latest[_feed(each)] = max(each.last, self._latest.get(_feed(each), each.last))
        self._asked: dict[str, dict[str, date]] = {}

    def why(self, kept: StoredStream) -> str:
        """Return why a stream is known to have ended; empty if it may go on. Uses no network."""
        stream = kept.stream
        known = self._newer.partitions(stream)
        if stream.symbol != stream.symbol.upper():
            return "symbols of the archive are in capitals"
        if not known:
            return "the archive does not publish such files any more"
        lasts = [self._newer.last_day(stream, each) for each in known.keys() & kept.files or known]
        if max(lasts) <= kept.last < self._newer.end:
            return "their feed has ended, or the contract was delivered"
        if self._is_late(kept) and self._asked_until(kept) >= self._due - LATE:
            return "the archive had no later file when it was asked, within the last 35 days"
        return ""

    def _is_late(self, kept: StoredStream) -> bool:
        late = LATE if Partition.DAILY in kept.files else _LATE_MONTHS
        return self._due - kept.last > late

    def _asked_until(self, kept: StoredStream) -> date:
        """Return the last day for which the archive is recorded to have no file after the last."""
        found = date.min
        for partition in kept.files:
            parent = feed_prefix(kept.stream.market, partition, kept.stream.data_type)
            if parent not in self._asked:
                self._asked[parent] = self._ends_below(parent)
            days = self._asked[parent]
            found = max(found, days.get(Folder(kept.stream, partition).prefix, date.min))
        return found

    def _ends_below(self, parent: str) -> dict[str, date]:
        """Return the last day that each folder was found without a file after its last one."""
        latest: dict[str, str] = {}
        for key, recorded in self._records.missing(parent).items():
            if recorded.reason is Reason.AFTER_LAST:
                latest[prefix_of(key)] = max(key, latest.get(prefix_of(key), key))
        return {prefix: ObjectKey.parse(key).end for prefix, key in latest.items()}

    async def ask(self, archive: ListingClient, kept: Sequence[StoredStream]) -> list[Absence]:
        """Ask the archive about streams without a recent file.

        If no other stream of the feed goes on either, the archive may have stopped publishing:
        then no stream counts as ended here.

        Returns
        -------
        list of Absence
            The days after the last file of each stream that has ended.
        """
        late = [each for each in kept if self._is_late(each)]
        alive = await gather(self._goes_on(archive, each) for each in late)
        for each, goes_on in zip(late, alive, strict=True):
            if goes_on:
                self._latest[_feed(each)] = date.max
        return [
            self._absence(each)
            for each, goes_on in zip(late, alive, strict=True)
            if not goes_on and self._latest[_feed(each)] - each.last > _GRACE
        ]

    async def _goes_on(self, archive: ListingClient, kept: StoredStream) -> bool:
        for partition, files in kept.files.items():
            last = format_period(files[-1].start, partition)
            folder = Folder(kept.stream, partition)
            found, more = await archive.periods(folder, last, _KEYS)
            if more or max(found, default="") > last:
                return True
        return False

    def _absence(self, kept: StoredStream) -> Absence:
        partition = min(kept.files)  # daily before monthly
        start, end = kept.last + _DAY, self._due
        if partition is Partition.MONTHLY:
            end = period_end(end, partition)
        detail = f"the archive's last file is of {kept.last}; delisted?"
        folder = Folder(kept.stream, partition)
        return Absence.of(folder, Reason.AFTER_LAST, detail, start, end)


def _feed(kept: StoredStream) -> tuple[Market, DataType]:
    return kept.stream.market, kept.stream.data_type


def stream_of(absence: Absence) -> Stream | None:
    """Return the stream of the absence of an ended stream."""
    key = absence.last_key
    return None if key is None else ObjectKey.parse(key).folder.stream
