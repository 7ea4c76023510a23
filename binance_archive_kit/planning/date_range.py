"""Ranges of whole UTC days: fixed, or counted from today."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from inspect import Parameter, Signature
from typing import Annotated, overload

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, model_validator

from binance_archive_kit.errors import field_error, shown
from binance_archive_kit.timestamps import parse_day, parse_relative_day, resolve_day

Day = Annotated[date, BeforeValidator(parse_day)]


class DateRange(BaseModel):
    """Whole UTC days from `start` to `end`, both inclusive.

    Parameters
    ----------
    start, end : date or str
        Days, or their text such as ``"2025-07-15"``.

    Raises
    ------
    pydantic.ValidationError
        If a day is invalid, or `start` is after `end`.

    Examples
    --------
    >>> days = DateRange(start="2025-07-01", end="2025-07-15")
    >>> (days.end - days.start).days + 1
    15
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Day
    end: Day

    @model_validator(mode="after")
    def _in_order(self) -> DateRange:
        if self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}; both are inclusive")
        return self


# For help: pydantic's own signature shows the validators.
DateRange.__signature__ = Signature(
    [Parameter(name, Parameter.KEYWORD_ONLY) for name in DateRange.model_fields]
)


def _check_day(value: object) -> object:
    return value if parse_relative_day(value) is not None else parse_day(value)


AnyDay = Annotated[date | str, BeforeValidator(_check_day)]


class RelativeRange(BaseModel):
    """Whole UTC days, both inclusive, with one or both ends counted from today.

    Each plan resolves ``"today"``, ``"yesterday"`` and ``"-7d"`` (seven days before today) anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: AnyDay
    end: AnyDay

    def resolve(self, today: date) -> DateRange:
        """Resolve the days as of a day.

        >>> RelativeRange(start="-7d", end="yesterday").resolve(date(2025, 7, 16))
        DateRange(start=datetime.date(2025, 7, 9), end=datetime.date(2025, 7, 15))
        """
        try:
            start, end = (resolve_day(day, today) for day in (self.start, self.end))
        except ValueError as error:
            raise field_error("date_range", str(error)) from None
        if start > end:
            raise field_error(
                "date_range",
                f"start {_resolved(self.start, start)} is after end "
                f"{_resolved(self.end, end)}; both are inclusive",
            )
        return DateRange(start=start, end=end)

    @model_validator(mode="after")
    def _in_order(self) -> RelativeRange:
        ago = [parse_relative_day(day) for day in (self.start, self.end)]
        if ago[0] is not None and ago[1] is not None and ago[0] < ago[1]:
            raise ValueError(f"start {self.start} is after end {self.end}; both are inclusive")
        return self


def _resolved(day: date | str, resolved: date) -> str:
    return str(day) if str(day) == str(resolved) else f"{day} ({resolved})"


def _kind_of_range(value: object) -> str:
    """Return the tag of a range: relative if an end is counted from today."""
    ends = value.values() if isinstance(value, Mapping) else ()
    relative = isinstance(value, RelativeRange) or any(
        parse_relative_day(end) is not None for end in ends
    )
    return RELATIVE if relative else NAMED


NAMED, RELATIVE = "named days", "relative days"
AnyRange = Annotated[
    Annotated[DateRange, Tag(NAMED)] | Annotated[RelativeRange, Tag(RELATIVE)],
    Discriminator(_kind_of_range),
]


def check_range(value: object) -> object:
    """Reject a value of the wrong type; its days are validated later."""
    if value is None or isinstance(value, Mapping | DateRange | RelativeRange):
        return value
    raise field_error(
        "date_range",
        f"{shown(value)} is not a range of days; "
        "write date_range={'start': '2025-07-01', 'end': '2025-07-15'}",
    )


@overload
def read_day(name: str, value: str | date) -> date: ...
@overload
def read_day(name: str, value: str | date | None) -> date | None: ...
def read_day(name: str, value: str | date | None) -> date | None:
    """Parse a UTC day, such as ``"2025-07-01"``, ``"yesterday"`` or ``"-7d"``; None stays None.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : str or date, optional

    Raises
    ------
    ConfigurationError
        If it is not a day.
    """
    if isinstance(value, datetime):
        raise field_error(name, f"{value} has a time; give a whole UTC day")
    try:
        return None if value is None else resolve_day(value, datetime.now(UTC).date())
    except ValueError as error:
        raise field_error(name, str(error)) from None
