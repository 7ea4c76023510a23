"""What is known of a file: what its name promises, and what reading it has shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from binance_archive_kit.archive.enums import Interval
from binance_archive_kit.archive.keys import Folder
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.stamps import Stamp
from binance_archive_kit.timestamps import DAY, MINUTE, to_day_number

#: Candles that do not divide the month may begin in the one before.
_LONG = {Interval.D3: timedelta(days=3), Interval.W1: timedelta(days=7)}
#: Labels of the end of a period, and the clocks of two machines, may reach into another day.
_BLUR = 5 * MINUTE
_EXACT = ("klines", "trades", "aggTrades")


class Irregularity(StrEnum):
    """An unusual form of a file's text that has one meaning only, so that the file is read."""

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
        """What was found, and how the file is read."""
        return _MEANINGS[self]


_MEANINGS = {
    Irregularity.UNEXPECTED_UNIT: "times are in microseconds where files of its day have "
    "milliseconds, or in milliseconds where they have microseconds; read by their magnitude, "
    "which gives the days in the file's name",
    Irregularity.NO_FINAL_NEWLINE: "the last row has no end of line, so its last field may be "
    "cut off; read as it stands",
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
    """What reading a file has shown.

    Attributes
    ----------
    stamp : Stamp
        Of the file that was read; of another file these facts say nothing.
    rows : int
    first, last : int or None
        Earliest and latest time of a row, microseconds since 1970 UTC; None without rows.
    sorted : bool
        Whether rows come in the order of time.
    inflated : int
        Bytes of its csv.
    checked : bool
        Whether every row was looked at; else only the first and the last one, whose times
        bound those of all as long as the file is in order.
    full : bool
        Whether every column of every row was parsed, so that no later question can find an
        invalid value.
    irregularities : frozenset of Irregularity
        What is unusual about its text.
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


def merged(stats: FileStats | None, more: FileStats) -> FileStats:
    """Put together what two pieces of a file show, the second following the first."""
    if stats is None:
        return more
    ends = [each for each in (stats.first, stats.last, more.first, more.last) if each is not None]
    follows = stats.last is None or more.first is None or stats.last <= more.first
    return FileStats(
        stats.stamp,
        stats.rows + more.rows,
        min(ends, default=None),
        max(ends, default=None),
        stats.sorted and more.sorted and follows,
        stats.inflated + more.inflated,
        stats.checked and more.checked,
        stats.full and more.full,
        stats.irregularities | more.irregularities,
    )


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file to read.

    Attributes
    ----------
    file : StoredFile
    held : StoredFolder
        The stream it belongs to.
    stats : FileStats or None
        None when it has not been read before, or was changed since.
    without : frozenset of date
        UTC days that another file gives instead.
    """

    file: StoredFile
    held: StoredFolder
    stats: FileStats | None = None
    without: frozenset[date] = frozenset()

    @property
    def folder(self) -> Folder:
        """The stream it belongs to, without its files."""
        return self.held.folder

    @property
    def rows(self) -> int | None:
        """How many rows it gives, if that is known."""
        return None if self.stats is None or self.without else self.stats.rows


def period_of(folder: Folder, file: StoredFile) -> tuple[int, int]:
    """Give the times that rows of a file may have, as microseconds since 1970 UTC.

    Returns
    -------
    (int, int)
        From, inclusive; to, exclusive.
    """
    before, after = _slack(folder)
    return to_day_number(file.start) * DAY - before, (to_day_number(file.end) + 1) * DAY + after


def lead_of(folder: Folder) -> timedelta:
    """Tell how long before the period of a file its first candle may begin."""
    return _LONG.get(folder.interval, timedelta()) if folder.interval else timedelta()


def _slack(folder: Folder) -> tuple[int, int]:
    """Give the microseconds by which rows may lie before and after the days of their file."""
    if folder.interval is not None:
        return lead_of(folder).days * DAY, 0
    if folder.data_type in _EXACT:
        return 0, 0
    return _BLUR, _BLUR
