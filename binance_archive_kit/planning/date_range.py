"""Ranges of whole UTC days: fixed ones, and ones counted from today."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, model_validator

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import parse_period
from binance_archive_kit.errors import ConfigurationError, shown

#: Days outside of these are typing errors: dates this far away overflow when added to.
_FIRST_DAY, _LAST_DAY = date(1700, 1, 1), date(2299, 12, 31)


def _day(value: object) -> object:
    """Accept a date or an ISO day, and nothing that would have to be guessed at."""
    if isinstance(value, datetime):
        raise ValueError(f"{value!r} has a time; days are whole UTC days, like '2025-07-15'")
    if isinstance(value, date):
        return _possible(value)
    try:
        if not isinstance(value, str):
            raise ValueError
        day = parse_period(value, Partition.DAILY)
    except ValueError:
        raise ValueError(
            f"{shown(value)} is not a day; write it like '2025-07-15', or count from today: "
            "'today', 'yesterday', '-7d'"
        ) from None
    return _possible(day)


def _possible(day: date) -> date:
    """Reject a day that is so far away that it can only be a mistake."""
    if not _FIRST_DAY <= day <= _LAST_DAY:
        raise ValueError(
            f"{day} is not between {_FIRST_DAY} and {_LAST_DAY}; the archive begins in 2017"
        )
    return day


Day = Annotated[date, BeforeValidator(_day)]

_DAYS_AGO = {"today": 0, "yesterday": 1}
_AGO = re.compile(r"-(\d{1,5})d", re.ASCII)


def days_ago(value: object) -> int | None:
    """Read a day that is counted from today; None if it is another value.

    >>> days_ago("yesterday"), days_ago("-7d"), days_ago("2025-07-15")
    (1, 7, None)
    """
    if not isinstance(value, str):
        return None
    found = _AGO.fullmatch(value)
    return int(found[1]) if found else _DAYS_AGO.get(value)


class DateRange(BaseModel):
    """Whole UTC days from `start` to `end`, both inclusive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Day
    end: Day

    @model_validator(mode="after")
    def _in_order(self) -> DateRange:
        if self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}; both are inclusive")
        return self


def _day_or_ago(value: object) -> object:
    return value if days_ago(value) is not None else _day(value)


AnyDay = Annotated[date | str, BeforeValidator(_day_or_ago)]


class RelativeRange(BaseModel):
    """Whole UTC days, both inclusive, of which one or both are counted from today.

    ``"today"``, ``"yesterday"`` and ``"-7d"`` (seven days before today) mean other days
    every day: which ones is settled when a plan is made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: AnyDay
    end: AnyDay

    def on(self, today: date) -> DateRange:
        """Give the days that are meant today.

        >>> RelativeRange(start="-7d", end="yesterday").on(date(2025, 7, 16))
        DateRange(start=datetime.date(2025, 7, 9), end=datetime.date(2025, 7, 15))
        """
        try:
            start, end = (_settled(day, today) for day in (self.start, self.end))
        except ValueError as error:
            raise ConfigurationError(f"date_range: {error}") from None
        if start > end:
            raise ConfigurationError(
                f"date_range: start {_said(self.start, start)} is after end "
                f"{_said(self.end, end)}; both are inclusive"
            )
        return DateRange(start=start, end=end)

    @model_validator(mode="after")
    def _in_order(self) -> RelativeRange:
        ago = [days_ago(day) for day in (self.start, self.end)]
        if ago[0] is not None and ago[1] is not None and ago[0] < ago[1]:
            raise ValueError(f"start {self.start} is after end {self.end}; both are inclusive")
        return self


def read_day(value: object, today: date) -> date:
    """Read a UTC day, also one that is counted from today.

    Raises
    ------
    ValueError
        If it is none.
    """
    return _settled(_day_or_ago(value), today)


def _settled(day: object, today: date) -> date:
    ago = days_ago(day)
    if ago is None:
        return date.fromisoformat(str(day))
    return _possible(today - timedelta(days=ago))


def _said(day: date | str, meant: date) -> str:
    return str(day) if str(day) == str(meant) else f"{day} ({meant})"


def _kind_of_range(value: object) -> str:
    """Tell days that are named from days of which any is counted from today."""
    ends = value.values() if isinstance(value, Mapping) else ()
    relative = isinstance(value, RelativeRange) or any(days_ago(end) is not None for end in ends)
    return RELATIVE if relative else NAMED


NAMED, RELATIVE = "named days", "relative days"
AnyRange = Annotated[
    Annotated[DateRange, Tag(NAMED)] | Annotated[RelativeRange, Tag(RELATIVE)],
    Discriminator(_kind_of_range),
]
