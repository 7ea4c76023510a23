"""From when to when a stream has files, found with few listings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Protocol

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX, Folder, parse_period, period_end
from binance_archive_kit.archive.matrix import Matrix

#: Keys of a large page: about 500 files with their checksums.
_PAGE = 1_000
#: Days before the newest one due in which a living stream has a file.
_WINDOW = timedelta(days=13)
#: Keys of a page for these days, with some that are published early.
_FEW = 50
#: Days by which a stream may end before others and still go on: files come late.
_GRACE = timedelta(days=3)
_DAY = timedelta(days=1)


class PeriodListing(Protocol):
    """What is asked of the listing: the symbols of a feed, and a page of a folder's periods."""

    async def symbols(self, parent: str) -> list[str]:
        """List the symbols below a feed's prefix."""

    async def periods(self, folder: Folder, after: str, keys: int) -> tuple[list[str], bool]:
        """List one page of a folder's periods, and tell whether more may follow.

        Parameters
        ----------
        folder : Folder
        after : str
            The period to begin with, or empty.
        keys : int
            Most keys of the page.
        """


@dataclass(frozen=True, slots=True)
class Due:
    """First days (UTC) of the newest periods that should be published by now."""

    day: date
    month: date

    @classmethod
    def at(cls, matrix: Matrix, now: datetime) -> Due:
        """Return the newest periods that are due at a time, aware."""
        day, month = now.date(), now.date().replace(day=1)
        while matrix.published_at(day, Partition.DAILY) > now:
            day -= _DAY
        while matrix.published_at(month, Partition.MONTHLY) > now:
            month = (month - _DAY).replace(day=1)
        return cls(day, month)


@dataclass(frozen=True, slots=True)
class Life:
    """First and last day of the files of a stream, UTC, both inclusive; None without files.

    Attributes
    ----------
    files : str
        What the last files are, in words.
    due : date
        The last day that should be published by now.
    recent : bool
        Whether the files reach the last days that are due.
    """

    first: date | None
    last: date | None
    files: str
    due: date
    recent: bool

    def __or__(self, other: Life) -> Life:
        """Return the life of a symbol, from those of two of its streams."""
        if self.first is None or other.first is None:
            return self if other.first is None else other
        longer = max(self, other, key=lambda life: life.last or date.min)
        first = min(self.first, other.first)
        return replace(longer, first=first, recent=self.recent or other.recent)

    def ended(self, newest: date | None, *, publishing: bool) -> tuple[bool | None, str]:
        """Return whether the files ended while those of others went on, and the evidence.

        Parameters
        ----------
        newest : date or None
            The last day of any symbol of the feed.
        publishing : bool
            Whether any symbol has recent files. Otherwise the archive may have stopped
            publishing, or be a copy of earlier days, and only the others tell.

        Returns
        -------
        ended : bool or None
            None without files.
        evidence : str
        """
        if self.last is None or newest is None:
            return None, self.files
        others = f"; other symbols go on to {newest}" if newest > self.last else ""
        if publishing and not self.recent:
            return True, f"{self.files}{others}; files were due to {self.due}"
        late = self.last < (min(newest, self.due) if publishing else newest) - _GRACE
        if late or publishing:
            return late, f"{self.files}{others if late else ''}"
        return False, f"{self.files}, as far as any symbol; files were due to {self.due}"


async def life_of(archive: PeriodListing, folders: Mapping[Partition, Folder], due: Due) -> Life:
    """Find the first and the last day of one stream, in three or four listings.

    Pages cannot be read backwards. A living stream is recognized by its recent days; the end of
    another one lies in the page that begins with its last month. Only where there are no
    monthly files, all pages from the first day on are read to find it.
    """
    daily, monthly = folders.get(Partition.DAILY), folders.get(Partition.MONTHLY)
    recent: list[str] = []
    if daily is not None:
        recent, _ = await archive.periods(daily, (due.day - _WINDOW).isoformat(), _FEW)
    months: list[str] = []
    if monthly is not None:
        months = await (_first(archive, monthly) if recent else _all(archive, monthly))
    if daily is None:
        reached = bool(months) and parse_period(months[-1], Partition.MONTHLY) >= due.month
        return _life([], months, period_end(due.month, Partition.MONTHLY), recent=reached)
    days = await _first(archive, daily) + recent
    if days and not recent:
        days += await _all(archive, daily, months[-1] if months else "")
    return _life(days, months, due.day, recent=bool(recent))


async def _first(archive: PeriodListing, folder: Folder) -> list[str]:
    """Return the first period of a folder, whatever other keys precede it; empty without files."""
    for keys in (1, _PAGE):
        periods, more = await archive.periods(folder, "", keys)
        if periods or not more:
            return periods[:1]
    return []


async def _all(archive: PeriodListing, folder: Folder, after: str = "") -> list[str]:
    """Return the periods of a folder, from one on."""
    found: list[str] = []
    more = True
    while more:
        periods, more = await archive.periods(folder, after, _PAGE)
        more = more and bool(periods)
        found += periods
        after = f"{found[-1]}.zip{CHECKSUM_SUFFIX}" if found else ""
    return found


def _life(days: Sequence[str], months: Sequence[str], due: date, *, recent: bool) -> Life:
    """Join what is listed of the days and the months of a stream."""
    first = last = None
    files = "no file"
    if days:
        first = parse_period(days[0], Partition.DAILY)
        last = parse_period(days[-1], Partition.DAILY)
        files = f"daily files to {last}"
    if months:
        begins, ends = (parse_period(months[index], Partition.MONTHLY) for index in (0, -1))
        # The day is exact, unless the daily files begin after the monthly ones.
        first = first if first and first <= period_end(begins, Partition.MONTHLY) else begins
        if last is None or last < ends:
            last = period_end(ends, Partition.MONTHLY)
            files = f"monthly files to {months[-1]}"
    return Life(first, last, files, due, recent)
