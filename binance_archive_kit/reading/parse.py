"""Parse csv text into a frame: detect the unit of its times, name its columns, check its rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.errors import FileError, OutOfPeriod, WrongUnit, WrongValues
from binance_archive_kit.reading.feed_table import MOMENT, PLACES, FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask, Irregularity, period_of
from binance_archive_kit.reading.unzip import (
    CsvChunk,
    Layout,
    Unzipper,
    field_of,
    first_and_last_row,
    first_row,
    without_blank_lines,
)
from binance_archive_kit.timestamps import DAY, to_datetime, to_day_number

#: From this value on, a number since 1970 counts microseconds.
_MICROSECONDS = 10**14
#: Digits that always fit into 64 bits.
_DIGITS = 18
#: More bytes than a row has on average, unless blank lines are among them.
_LONG = 2_000
_NAMES = {"ms": "milliseconds", "us": "microseconds"}
_OTHER_UNIT = {"ms": "us", "us": "ms"}
#: More digits than a decimal keeps, and numbers with a negative exponent.
_MANY_PLACES = re.compile(rb"\.\d{%d}0*[1-9]" % PLACES)
_SMALL_NUMBER = re.compile(rb"[-+.\d]+[eE]-\d+")


class CsvParser:
    """Parses the csv of one feed's files, and checks the rows against the name of each file.

    Parameters
    ----------
    feed : FeedTable
    unzipper : Unzipper
    """

    def __init__(self, feed: FeedTable, unzipper: Unzipper) -> None:
        self._time = feed.schema.time
        self._types = feed.csv_types
        self._decimals = feed.decimals
        self._unzipper = unzipper

    # Units

    def expected_unit(self, task: FileTask) -> str | None:
        """Return the unit that the times of a file should have, or are known to have."""
        unit = self._time.unit_on(task.file.start)
        if task.stats is not None and Irregularity.UNEXPECTED_UNIT in task.stats.irregularities:
            return _OTHER_UNIT[unit or "ms"]
        return unit

    def detect_unit(self, task: FileTask, body: bytes, layout: Layout | None) -> str | None:
        """Detect the unit from the first row of a file; None if it was read before."""
        if self._time.kind != "epoch" or task.stats is not None:
            return None
        index = [*self._types].index(self._time.column)
        field = field_of(first_row(body), index if layout is None else layout.positions[index])
        if not field.isdigit() or len(field) > _DIGITS:
            return None
        return "us" if int(field) >= _MICROSECONDS else "ms"

    def _unit(self, csv: CsvChunk) -> str | None:
        return csv.unit or self.expected_unit(csv.task)

    def parse(
        self, csv_chunks: Sequence[CsvChunk], names: Collection[str]
    ) -> tuple[pl.DataFrame, list[CsvChunk]]:
        """Parse some of the csv columns of files with one layout, as one frame.

        Times since 1970 stay numbers.

        Returns
        -------
        (polars.DataFrame, list of CsvChunk)
            The chunks have no blank lines.

        Raises
        ------
        WrongColumns, WrongValues
        """
        if self._decimals:
            for csv in csv_chunks:
                _check_places(csv)
        # A blank line is a row of nulls at first, which takes far more memory than the line.
        csv_chunks = [
            _without_blank_lines(csv) if len(csv.body) > _LONG * (csv.rows + 1) else csv
            for csv in csv_chunks
        ]
        try:
            frame = self._parse(csv_chunks, names)
        except FileError:
            stripped = _without_blank_lines(csv_chunks[0])
            if len(csv_chunks) > 1 or stripped is csv_chunks[0]:
                raise
            csv_chunks = [stripped]
            frame = self._parse(csv_chunks, names)
        return frame, csv_chunks

    def _parse(self, csv_chunks: Sequence[CsvChunk], names: Collection[str]) -> pl.DataFrame:
        columns = list(self._types.items())
        layout = csv_chunks[0].layout
        positions = range(len(columns)) if layout is None else layout.positions
        if layout is not None:
            # No column of a feed has a name that begins with a blank.
            fields: list[tuple[str, pl.DataType]] = [
                (f" {index}", pl.String()) for index in range(layout.fields)
            ]
            for position, column in zip(positions, columns, strict=True):
                fields[position] = column
        bodies = [csv.body for csv in csv_chunks]
        body = bodies[0] if len(bodies) == 1 else b"".join(bodies)
        name = csv_chunks[0].task.file.path
        try:
            frame = pl.read_csv(
                body,
                has_header=False,
                schema=dict(columns if layout is None else fields),
                columns=sorted(
                    position
                    for position, (column, _) in zip(positions, columns, strict=True)
                    if column in names
                ),
                extra_columns="raise",
                missing_columns="raise",
            )
        except pl.exceptions.PolarsError as error:
            for csv in csv_chunks:
                self._unzipper.check_rows(csv)
            raise WrongValues(name, str(error).partition("\n")[0]) from None
        if frame.height != sum(csv.rows for csv in csv_chunks):
            raise WrongValues(name, "its rows are not one to a line")
        return frame

    def with_datetimes(self, frame: pl.DataFrame, csv_chunks: Sequence[CsvChunk]) -> pl.DataFrame:
        """Turn times into datetimes (naive, UTC); each file has times of one unit.

        Raises
        ------
        WrongUnit
        """
        time = self._time
        if time.kind == "date_and_hour":
            if not set(time.made_from) <= set(frame.columns):
                return frame
            # Polars parses no hour without minutes.
            parts = pl.concat_str(*time.made_from, pl.lit("00"), separator=" ")
            parsed = parts.str.to_datetime(f"{time.format} %M", time_unit="us", strict=False)
            return frame.with_columns(parsed.alias(time.column))
        epochs = [name for name in (time.column, *time.others) if name in frame.columns]
        if time.kind == "text" or not epochs:
            return frame
        for name in epochs:
            datetimes = self._in_microseconds(frame[name], csv_chunks).cast(MOMENT)
            frame.replace_column(frame.get_column_index(name), datetimes)
        return frame

    def _in_microseconds(self, times: pl.Series, csv_chunks: Sequence[CsvChunk]) -> pl.Series:
        """Return times in microseconds, and check that they have the units of their files.

        Raises
        ------
        WrongUnit
        """
        units = [self._unit(csv) for csv in csv_chunks]
        if len(set(units)) == 1:
            _check_unit((times.min(), times.max()), units[0], csv_chunks[0], times.name)
            return times * 1_000 if units[0] == "ms" else times
        has_micros = np.repeat([unit == "us" for unit in units], [csv.rows for csv in csv_chunks])
        expected = pl.Series(has_micros)
        if ((times >= _MICROSECONDS) != expected).any():
            for csv, unit, part in zip(csv_chunks, units, _split(times, csv_chunks), strict=True):
                _check_unit((part.min(), part.max()), unit, csv, times.name)
        return times.zip_with(expected, times * 1_000)

    # Statistics

    def stats_from_ends(self, csv_chunks: Sequence[CsvChunk]) -> list[FileStats] | None:
        """Return statistics from the first and the last row of each of some files.

        None if these do not show the times of all rows.

        Raises
        ------
        WrongUnit, OutOfPeriod
        """
        name = self._time.column
        index = [*self._types].index(name)
        found = []
        for csv in csv_chunks:
            if self._unzipper.has_other_letters(csv):
                return None
            # A short row may have no time; parsing finds out what is wrong with it.
            fields = [field_of(row, index) for row in first_and_last_row(csv)]
            if not all(map(bytes.isdigit, fields)):
                return None
            times, unit = [int(field) for field in fields], self._unit(csv)
            _check_unit(times, unit, csv, name)
            if unit == "ms":
                times = [time * 1_000 for time in times]
            span = (min(times), max(times)) if times else None
            found.append(self._stats(csv, span, times == sorted(times), checked=False))
        return found

    def stats(
        self, frame: pl.DataFrame, csv_chunks: Sequence[CsvChunk], *, full: bool
    ) -> list[FileStats]:
        """Check the time and the symbol of every row, and return the statistics of each file.

        Raises
        ------
        OutOfPeriod, WrongValues
        """
        name = self._time.column
        check_filled(name, frame, csv_chunks)
        times = times_of(frame, name)
        ends = np.cumsum([csv.rows for csv in csv_chunks])
        starts = np.concatenate([[0], ends[:-1]])
        # The first row of a file has none before it.
        falls = np.setdiff1d(np.flatnonzero(times[1:] < times[:-1]) + 1, starts)
        unsorted = set(np.searchsorted(ends, falls).tolist())
        found = []
        for number, (csv, start, end) in enumerate(
            zip(csv_chunks, starts.tolist(), ends.tolist(), strict=True)
        ):
            if csv.rows and "symbol" in frame.columns:
                _check_symbol(csv.task, frame["symbol"].slice(start, csv.rows))
            ordered = number not in unsorted
            file_times = times[start:end] if ordered else np.sort(times[start:end])
            span = (int(file_times[0]), int(file_times[-1])) if csv.rows else None
            found.append(self._stats(csv, span, ordered, checked=True, full=full))
        return found

    def _stats(
        self,
        csv: CsvChunk,
        span: tuple[int, int] | None,
        ordered: bool,
        *,
        checked: bool,
        full: bool = False,
    ) -> FileStats:
        """Compare the first and the last time of a file with its name."""
        first, last = span or (None, None)
        file, irregularities = csv.task.file, csv.irregularities
        if span is not None:
            _check_period(csv.task, *span)
        if self._unit(csv) != self._time.unit_on(file.start):
            irregularities |= {Irregularity.UNEXPECTED_UNIT}
        counts = csv.rows, first, last, ordered, len(csv.body)
        return FileStats(file.stamp, *counts, checked, full, irregularities)

    def without_next_midnight(
        self, frame: pl.DataFrame, csv: CsvChunk
    ) -> tuple[pl.DataFrame, CsvChunk]:
        """Remove rows of the midnight after the days of a file: the next file has them."""
        file = csv.task.file
        _, end = period_of(csv.task.folder, file)
        column = frame[self._time.column]
        if end != (to_day_number(file.end) + 1) * DAY or column.max() is None:
            return frame, csv
        late = times_of(frame, self._time.column) == end
        # A file with no other rows is a file of the next day.
        if not late.any() or column.null_count() or (late.all() and csv.first):
            return frame, csv
        frame = frame.filter(~late)
        irregularities = csv.irregularities | {Irregularity.NEXT_MIDNIGHT}
        return frame, replace(csv, rows=frame.height, irregularities=irregularities)


def _without_blank_lines(csv: CsvChunk) -> CsvChunk:
    """Return a chunk without blank lines; the same one if it has none."""
    body = without_blank_lines(csv)
    if len(body) == len(csv.body):
        return csv
    return replace(csv, body=body, irregularities=csv.irregularities | {Irregularity.BLANK_LINE})


def times_of(frame: pl.DataFrame, time: str) -> npt.NDArray[np.int64]:
    """Return a column of times as microseconds since 1970 UTC."""
    return frame[time].to_numpy().view(np.int64)


def check_filled(name: str, frame: pl.DataFrame, csv_chunks: Sequence[CsvChunk]) -> None:
    """Check that no field of a column is empty or invalid.

    Raises
    ------
    WrongValues
    """
    if not frame[name].null_count():
        return
    for csv, values in zip(csv_chunks, _split(frame[name], csv_chunks), strict=True):
        if values.null_count():
            raise WrongValues(csv.task.file.path, f"a row has no {name}, or no readable one")


def _split(values: pl.Series, csv_chunks: Sequence[CsvChunk]) -> Iterator[pl.Series]:
    """Yield the values of each file."""
    start = 0
    for csv in csv_chunks:
        yield values.slice(start, csv.rows)
        start += csv.rows


def _check_period(task: FileTask, first: int, last: int) -> None:
    start, end = period_of(task.folder, task.file)
    if first < start or last >= end:
        found = to_datetime(first if first < start else last)
        days = str(task.file.start)
        if task.file.start != task.file.end:
            days += f" to {task.file.end}"
        raise OutOfPeriod(
            task.file.path,
            f"a row is of {found:%Y-%m-%d %H:%M:%S.%f}, and the days in its name are {days}",
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


def _check_unit(values: Iterable[Any], unit: str | None, csv: CsvChunk, name: str) -> None:
    """Check that times of a column have the unit of the file.

    Raises
    ------
    WrongUnit
    """
    for value in values:
        if value is not None and (value >= _MICROSECONDS) != (unit == "us"):
            found = "us" if value >= _MICROSECONDS else "ms"
            raise WrongUnit(
                csv.task.file.path,
                f"{name} holds {_NAMES[found]}, as {value} shows, and other times of the file "
                f"are {_NAMES[unit or 'ms']}",
            )


def _check_places(csv: CsvChunk) -> None:
    """Check that no number has more decimal places than are kept."""
    found = _MANY_PLACES.search(csv.body)
    number = None if found is None else found[0].decode()
    for small in _SMALL_NUMBER.findall(csv.body):
        exponent = Decimal(small.decode()).normalize().as_tuple().exponent
        if isinstance(exponent, int) and -exponent > PLACES:
            number = small.decode()
    if number is not None:
        raise WrongValues(
            csv.task.file.path,
            f"a number has more than {PLACES} decimal places (…{number}), which decimals=True "
            "cannot keep exactly; decimals=False reads it",
        )
