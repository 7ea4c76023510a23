"""Check rows against the name of their file, and gather the statistics of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.errors import OutOfPeriod, WrongValues
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask, Irregularity, period_of
from binance_archive_kit.reading.time_units import TimeUnits
from binance_archive_kit.reading.unzip import CsvChunk, Unzipper, first_and_last_row
from binance_archive_kit.timestamps import DAY, to_datetime, to_day_number


class RowChecks:
    """Checks the rows of one feed's files when they are read for the first time.

    Parameters
    ----------
    feed : FeedTable
    unzipper : Unzipper
    """

    def __init__(self, feed: FeedTable, unzipper: Unzipper) -> None:
        self._time = feed.time
        self._columns = list(feed.csv_types)
        self._units = TimeUnits(feed)
        self._unzipper = unzipper

    def stats_from_ends(self, texts: Sequence[CsvChunk]) -> list[FileStats] | None:
        """Return statistics from the first and the last row of each file.

        None if these do not show the times of all rows.

        Raises
        ------
        WrongUnit, OutOfPeriod
        """
        found = []
        position = self._columns.index(self._time)
        for text in texts:
            other_letters = text.other_letters
            if other_letters is None:
                other_letters = self._unzipper.has_other_letters(text)
            if other_letters:
                return None
            # A short row may have no time; parsing finds out what is wrong with it.
            fields = [row[position : position + 1] for row in first_and_last_row(text)]
            if not all(field and field[0].isdigit() for field in fields):
                return None
            times = [int(field) for [field] in fields]
            for time in times:
                self._units.check(time, time, text, self._time)
            if self._units.unit(text) == "ms":
                times = [time * 1_000 for time in times]
            span = (min(times), max(times)) if times else None
            ordered = not times or times[0] <= times[-1]
            found.append(self._stats(text, span, ordered, checked=False))
        return found

    def stats(
        self, frame: pl.DataFrame, texts: Sequence[CsvChunk], *, full: bool
    ) -> list[FileStats]:
        """Check the time and the symbol of every row, and return the statistics of each file.

        Raises
        ------
        OutOfPeriod, WrongValues
        """
        check_filled(self._time, frame, texts)
        times = times_of(frame, self._time)
        ends = np.cumsum([text.rows for text in texts])
        starts = np.concatenate([[0], ends[:-1]])
        # The first row of a file has none before it.
        falls = np.setdiff1d(np.flatnonzero(times[1:] < times[:-1]) + 1, starts)
        unsorted = set(np.searchsorted(ends, falls).tolist())
        found = []
        for number, (text, start, end) in enumerate(
            zip(texts, starts.tolist(), ends.tolist(), strict=True)
        ):
            if text.rows and "symbol" in frame.columns:
                _check_symbol(text.task, frame["symbol"].slice(start, text.rows))
            own = np.sort(times[start:end]) if number in unsorted else times[start:end]
            span = (int(own[0]), int(own[-1])) if text.rows else None
            found.append(self._stats(text, span, number not in unsorted, checked=True, full=full))
        return found

    def _stats(
        self,
        text: CsvChunk,
        span: tuple[int, int] | None,
        ordered: bool,
        *,
        checked: bool,
        full: bool = False,
    ) -> FileStats:
        """Compare the first and the last time of a file with its name."""
        first, last = span or (None, None)
        if span is not None:
            _check_period(text.task, *span)
        odd = text.odd
        if self._units.is_unexpected(text):
            odd |= {Irregularity.UNEXPECTED_UNIT}
        size, stamp = len(text.body), text.task.file.stamp
        return FileStats(stamp, text.rows, first, last, ordered, size, checked, full, odd)

    def without_next_midnight(
        self, frame: pl.DataFrame, text: CsvChunk
    ) -> tuple[pl.DataFrame, CsvChunk]:
        """Remove rows of the midnight after the days of a file: the next file has them."""
        file = text.task.file
        _, end = period_of(text.task.folder, file)
        column = frame[self._time]
        if end != (to_day_number(file.end) + 1) * DAY or column.max() is None:
            return frame, text
        late = times_of(frame, self._time) == end
        # A file of nothing else is another day's.
        if not late.any() or column.null_count() or (late.all() and text.first):
            return frame, text
        frame = frame.filter(~late)
        odd = text.odd | {Irregularity.NEXT_MIDNIGHT}
        return frame, replace(text, rows=frame.height, odd=odd)


def times_of(frame: pl.DataFrame, time: str) -> npt.NDArray[np.int64]:
    """Return a column of times as microseconds since 1970 UTC."""
    return frame[time].to_numpy().view(np.int64)


def check_filled(name: str, frame: pl.DataFrame, texts: Sequence[CsvChunk]) -> None:
    """Check that no field of a column is empty or invalid.

    Raises
    ------
    WrongValues
    """
    if not frame[name].null_count():
        return
    start = 0
    for text in texts:
        if frame[name].slice(start, text.rows).null_count():
            raise WrongValues(text.task.file.path, f"a row has no {name}, or no readable one")
        start += text.rows


def _check_period(task: FileTask, first: int, last: int) -> None:
    start, end = period_of(task.folder, task.file)
    if first < start or last >= end:
        found = to_datetime(first if first < start else last)
        days = str(task.file.start)
        if task.file.start != task.file.end:
            days += f" to {task.file.end}"
        raise OutOfPeriod(
            task.file.path,
            f"a row is of {found:%Y-%m-%d %H:%M:%S.%f}, and its name says {days}",
        )


def _check_symbol(task: FileTask, values: pl.Series) -> None:
    """Check that rows are of the symbol whose folder they lie in."""
    others = values.filter(values != task.folder.symbol)
    if len(others) or values.null_count():
        other = others[0] if len(others) else None
        raise WrongValues(
            task.file.path,
            f"a row is of symbol {other!r}, and it lies in the folder of another",
        )
