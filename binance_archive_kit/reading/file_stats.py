"""File statistics: the period in a file's name, and the rows, times and order found on reading."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from binance_archive_kit.archive.enums import Interval
from binance_archive_kit.archive.keys import Folder
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.timestamps import DAY, MINUTE, to_day_number

#: Candles that do not divide the month may begin in the one before.
_LONG = {Interval.D3: timedelta(days=3), Interval.W1: timedelta(days=7)}
#: Labels at the end of a period, and clocks that differ, may reach into another day.
_TOLERANCE = 5 * MINUTE
_EXACT = ("klines", "trades", "aggTrades")


class Irregularity(StrEnum):
    """An unusual but unambiguous form of a file's text; the file is read."""

    UNEXPECTED_UNIT = "unexpected_unit"
    NO_FINAL_NEWLINE = "no_final_newline"
    BLANK_LINE = "blank_line"
    BYTE_ORDER_MARK = "byte_order_mark"
    CARRIAGE_RETURN = "carriage_return"
    NEXT_MIDNIGHT = "next_midnight"
    EXTRA_COLUMNS = "extra_columns"
    OTHER_HEADER = "other_header"

    @property
    def meaning(self) -> str:
        """The irregularity in words, and how the file is read."""
        return _MEANINGS[self]


_MEANINGS = {
    Irregularity.UNEXPECTED_UNIT: "times are in microseconds where files of its day have "
    "milliseconds, or in milliseconds where they have microseconds; read by their magnitude, "
    "which gives the days in the file's name",
    Irregularity.NO_FINAL_NEWLINE: "the last row has no end of line, so its last field may be "
    "cut off; read as it is",
    Irregularity.BLANK_LINE: "it has blank lines; they are left out",
    Irregularity.BYTE_ORDER_MARK: "it begins with a byte order mark, which is left out",
    Irregularity.CARRIAGE_RETURN: "lines end with a carriage return, which is left out",
    Irregularity.NEXT_MIDNIGHT: "it ends with a row of the midnight after its days; the row is "
    "left out, because the next file gives it",
    Irregularity.EXTRA_COLUMNS: "its header names columns that the feed does not have; they are "
    "left out",
    Irregularity.OTHER_HEADER: "its header names columns in another way or order; read by name",
}


@dataclass(frozen=True, slots=True)
class FileStats:
    """Statistics found on reading a file.

    Attributes
    ----------
    stamp : Stamp
        Of the file that was read.
    rows : int
    first, last : int or None
        Earliest and latest time of a row, microseconds since 1970 UTC; None without rows.
    sorted : bool
        Whether rows are in the order of time.
    inflated : int
        Bytes of its csv.
    checked : bool
        Whether every row was checked. If not, only the first and the last row were, whose
        times bound those of all rows as long as the file is in order.
    full : bool
        Whether every column of every row was parsed, so that no later read can find an
        invalid value.
    irregularities : frozenset of Irregularity
    """

    stamp: Stamp
    rows: int
    first: int | None
    last: int | None
    sorted: bool
    inflated: int
    checked: bool
    full: bool = False
    irregularities: frozenset[Irregularity] = frozenset()

    def is_of(self, file: StoredFile) -> bool:
        """Return whether these are the statistics of a file as it is now."""
        return self.stamp == file.stamp

    def __add__(self, more: FileStats) -> FileStats:
        """Return the statistics of two chunks of a file, the second following the first."""
        times = [
            time for time in (self.first, self.last, more.first, more.last) if time is not None
        ]
        follows = self.last is None or more.first is None or self.last <= more.first
        return FileStats(
            self.stamp,
            self.rows + more.rows,
            min(times, default=None),
            max(times, default=None),
            self.sorted and more.sorted and follows,
            self.inflated + more.inflated,
            self.checked and more.checked,
            self.full and more.full,
            self.irregularities | more.irregularities,
        )

    def __radd__(self, nothing: None) -> FileStats:
        """Return these statistics, if nothing was read before."""
        return self


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file to read.

    Attributes
    ----------
    file : StoredFile
    stored : StoredFolder
        The folder it belongs to.
    stats : FileStats or None
        None if it was not read before, or was changed since.
    without : frozenset of date
        UTC days whose rows another file supplies.
    """

    file: StoredFile
    stored: StoredFolder
    stats: FileStats | None = None
    without: frozenset[date] = frozenset()

    @property
    def folder(self) -> Folder:
        """The folder it belongs to, without its files."""
        return self.stored.folder

    @property
    def rows(self) -> int | None:
        """Rows that it supplies, if their number is known."""
        return None if self.stats is None or self.without else self.stats.rows


def period_of(folder: Folder, file: StoredFile) -> tuple[int, int]:
    """Return the times that rows of a file may have.

    Returns
    -------
    (int, int)
        Start (inclusive) and end (exclusive), microseconds since 1970 UTC.
    """
    before, after = slack_of(folder)
    return to_day_number(file.start) * DAY - before, (to_day_number(file.end) + 1) * DAY + after


def lead_of(folder: Folder) -> timedelta:
    """Return how long before the period of a file its first candle may begin."""
    return _LONG.get(folder.interval, timedelta()) if folder.interval else timedelta()


def slack_of(folder: Folder) -> tuple[int, int]:
    """Return the microseconds that rows may lie before and after the days of their file."""
    if folder.interval is not None:
        return lead_of(folder).days * DAY, 0
    if folder.data_type in _EXACT:
        return 0, 0
    return _TOLERANCE, _TOLERANCE
