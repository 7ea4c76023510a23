"""Detect the unit of times since 1970, and turn columns of a csv into datetimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from binance_archive_kit.errors import WrongUnit
from binance_archive_kit.reading.feed_table import MOMENT, FeedTable
from binance_archive_kit.reading.file_stats import FileTask, Irregularity
from binance_archive_kit.reading.headers import Layout
from binance_archive_kit.reading.unzip import CsvChunk, first_row

#: From this value on, a number since 1970 counts microseconds.
_MICROSECONDS = 10**14
#: Digits that always fit into 64 bits.
_DIGITS = 18
_NAMES = {"ms": "milliseconds", "us": "microseconds"}
_OTHER_UNIT = {"ms": "us", "us": "ms"}


class TimeUnits:
    """The units of the times of one feed's files.

    Parameters
    ----------
    feed : FeedTable
    """

    def __init__(self, feed: FeedTable) -> None:
        self._time = feed.schema.time
        self._positions = {name: index for index, name in enumerate(feed.csv_types)}

    def expected(self, task: FileTask) -> str | None:
        """Return the unit that the times of a file should have, or are known to have."""
        unit = self._time.unit_on(task.file.start)
        if task.stats is not None and Irregularity.UNEXPECTED_UNIT in task.stats.irregularities:
            return _OTHER_UNIT[unit or "ms"]
        return unit

    def unit(self, text: CsvChunk) -> str | None:
        """Return the unit of the times in a csv."""
        return text.unit or self.expected(text.task)

    def detect(self, task: FileTask, body: bytes, layout: Layout | None) -> str | None:
        """Detect the unit from the first row of a file; None if it was read before."""
        if self._time.kind != "epoch" or task.stats is not None:
            return None
        index = self._positions[self._time.column]
        fields = first_row(body)
        index = index if layout is None else layout.positions[index]
        if index >= len(fields) or not fields[index].isdigit() or len(fields[index]) > _DIGITS:
            return None
        return "us" if int(fields[index]) >= _MICROSECONDS else "ms"

    def is_unexpected(self, text: CsvChunk) -> bool:
        """Return whether times are in another unit than those of other files of the day."""
        return self.unit(text) != self._time.unit_on(text.task.file.start)

    def check(self, low: Any, high: Any, text: CsvChunk, name: str) -> None:
        """Check that the lowest and the highest time of a column have the unit of the file.

        Raises
        ------
        WrongUnit
        """
        unit = self.unit(text)
        for value in (low, high):
            if value is not None and (value >= _MICROSECONDS) != (unit == "us"):
                found = "us" if value >= _MICROSECONDS else "ms"
                raise WrongUnit(
                    text.task.file.path,
                    f"{name} holds {_NAMES[found]}, as {value} shows, and other times of the file "
                    f"are {_NAMES[unit or 'ms']}",
                )

    def with_datetimes(self, frame: pl.DataFrame, texts: Sequence[CsvChunk]) -> pl.DataFrame:
        """Turn the times of files of one unit into datetimes (naive, UTC).

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
        milliseconds = self.unit(texts[0]) == "ms"
        for name in epochs:
            values = frame[name]
            self.check(values.min(), values.max(), texts[0], name)
            datetimes = (values * 1_000 if milliseconds else values).cast(MOMENT)
            frame.replace_column(frame.get_column_index(name), datetimes)
        return frame
