"""Known halts, defects and changes of meaning in the published data.

The file is ``matrix/annotations.json``.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream
from binance_archive_kit.archive.matrix import Confidence, FrozenModel, StrictModel, shipped


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time of an annotation states its zone; write Z for UTC")
    return value.astimezone(UTC)


Instant = Annotated[datetime, AfterValidator(_as_utc)]
#: How exactly the start and the end of an annotation are known.
Precision = Literal["second", "minute", "day"]


class _Annotation(StrictModel):
    """A statement about the published data, with its source."""

    what: str = Field(min_length=1)
    confidence: Confidence
    source: str = Field(min_length=1)


class _Span(_Annotation):
    """An annotation of a range of time, UTC; `end` is exclusive."""

    start: Instant
    end: Instant | None
    precision: Precision

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end is after start")
        bounds = [bound for bound in (self.start, self.end) if bound is not None]
        if self.precision == "day" and any(bound.time() != time() for bound in bounds):
            raise ValueError("precision day: start and end are midnights, end exclusive")
        return self

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Return whether [start, end) overlaps the range; both are aware."""
        return start < (self.end or datetime.max.replace(tzinfo=UTC)) and self.start < end

    @property
    def when(self) -> str:
        """The range in words, no finer than it is known.

        >>> [halt] = [h for h in load_annotations().halts if h.start.date() == date(2021, 2, 11)]
        >>> halt.when
        '2021-02-11 03:40:55 to 05:00:00 UTC'
        """
        if self.precision == "day":
            first, last = self.start.date(), self.end and self.end.date() - timedelta(days=1)
            if last is None:
                return f"since {first}"
            return f"{first}" if first == last else f"{first} to {last}"
        pattern = "%H:%M:%S" if self.precision == "second" else "%H:%M"
        start = f"{self.start:%Y-%m-%d {pattern}}"
        if self.end is None:
            return f"since {start} UTC"
        day = "" if self.end.date() == self.start.date() else "%Y-%m-%d "
        return f"{start} to {self.end:{day}{pattern}} UTC"


class SemanticChange(_Annotation):
    """A day from which values of some feeds have another meaning.

    Attributes
    ----------
    on : date
        First UTC day of the new meaning.
    before, after : str
        The meaning before this day, and from this day on.
    reported : {"after", "across"}
        ``after``: if there are rows of this day or later. ``across``: only if there are rows
        of both sides, because views give both sides the same meaning.
    """

    markets: tuple[Market, ...]
    data_types: tuple[DataType, ...]
    on: date
    before: str = Field(min_length=1)
    after: str = Field(min_length=1)
    reported: Literal["after", "across"] = "after"

    def concerns(self, market: Market, data_type: DataType, first: date, last: date) -> bool:
        """Return whether the change is to be reported for rows of these days, both inclusive.

        >>> [labels] = [c for c in load_annotations().changes if c.on == date(2026, 6, 25)]
        >>> um = Market.FUTURES_UM, DataType.METRICS
        >>> labels.concerns(*um, date(2026, 8, 1), date(2026, 8, 2))
        True
        >>> labels.concerns(*um, date(2026, 6, 1), date(2026, 6, 24))
        False
        """
        return (
            market in self.markets
            and data_type in self.data_types
            and last >= self.on
            and (self.reported == "after" or first < self.on)
        )


class KnownHalt(_Span):
    """A range of time without trading in a market, UTC, `end` exclusive.

    A halt of ``precision="day"`` took place on these days, at unknown times.
    """

    market: Market
    end: Instant


#: The effect of a known defect on the rows or the file.
Effect = Literal[
    "wrong_values",
    "constant_column",
    "blank_column",
    "frozen",
    "missing_rows",
    "repeated_rows",
    "off_grid_rows",
    "stale_checksum",
    "not_traded",
]


class KnownDefect(_Span):
    """A defect of the published files themselves.

    Attributes
    ----------
    markets, data_types : tuple of Market, tuple of DataType
    symbols, intervals, partitions : tuple
        Limits the defect to these; empty for all.
    start, end : datetime
        Time range of the affected rows, UTC, `end` exclusive; an `end` of None means that the
        defect persisted when the source was written.
    columns : tuple of str
        Our names of the affected columns; empty for whole rows.
    effect : str
    better : Partition or None
        The partition with the right rows, if there is one.
    instead : str
        What to use instead; empty if nothing is known.
    fixed_on : date or None
        Day (UTC) on which Binance announced the replacement of the files. Only files that were
        downloaded before have the defect, so a plan does not mention it.
    """

    markets: tuple[Market, ...] = Field(min_length=1)
    data_types: tuple[DataType, ...] = Field(min_length=1)
    symbols: tuple[str, ...] = ()
    intervals: tuple[Interval, ...] = ()
    partitions: tuple[Partition, ...] = ()
    columns: tuple[str, ...] = ()
    effect: Effect
    better: Partition | None = None
    instead: str = ""
    fixed_on: date | None = None

    def concerns(self, stream: Stream, partition: Partition | None = None) -> bool:
        """Return whether files of a stream are affected, in one partition or in any."""
        return (
            stream.market in self.markets
            and stream.data_type in self.data_types
            and (not self.symbols or stream.symbol in self.symbols)
            and (not self.intervals or stream.interval in self.intervals)
            and (partition is None or not self.partitions or partition in self.partitions)
        )

    def __str__(self) -> str:
        """Return the time, the defect, the advice and the source."""
        advice = f"; {self.instead}" if self.instead else ""
        return f"{self.when}: {self.what}{advice} [{self.source}]"


class Annotations(FrozenModel):
    """All annotations of the shipped file."""

    changes: tuple[SemanticChange, ...]
    halts: tuple[KnownHalt, ...]
    defects: tuple[KnownDefect, ...]

    def wrong_days(self, folder: Folder, first: date, last: date) -> set[date]:
        """Return the days that are correct only in the other partition; ends inclusive.

        >>> december = date(2020, 12, 1), date(2020, 12, 31)
        >>> candles = Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1)
        >>> wrong_days = load_annotations().wrong_days
        >>> wrong_days(Folder(candles, Partition.MONTHLY), *december)
        {datetime.date(2020, 12, 21)}
        >>> wrong_days(Folder(candles, Partition.DAILY), *december)
        set()
        """
        days: set[date] = set()
        for defect in self.defects:
            if defect.better in (None, folder.partition) or defect.fixed_on or defect.end is None:
                continue
            start = max(defect.start.date(), first)
            end = min((defect.end - timedelta(microseconds=1)).date(), last)
            if start <= end and defect.concerns(folder.stream, folder.partition):
                days |= {start + timedelta(days=day) for day in range((end - start).days + 1)}
        return days


@cache
def load_annotations() -> Annotations:
    """Return the shipped annotations; the file is read once.

    >>> [str(change.on) for change in load_annotations().changes if Market.SPOT in change.markets]
    ['2025-01-01']
    """
    return Annotations.model_validate_json(shipped("annotations.json").read_bytes())
