"""Parse, convert and format days, times and lengths of time.

Times are aware datetimes in UTC or microseconds since 1970; days are dates or counted from
1970. `to_naive` is for frames, whose times are UTC without a time zone.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from binance_archive_kit.errors import shown

Day = TypeVar("Day", date, datetime)

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_DAY_ZERO = _EPOCH.date()
_MICROSECOND = timedelta(microseconds=1)

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
#: Days outside of these are typing errors, and overflow when days are added.
_FIRST_DAY, _LAST_DAY = date(1700, 1, 1), date(2299, 12, 31)
_DAYS_AGO = {"today": 0, "yesterday": 1}
_AGO = re.compile(r"-(\d{1,5})d", re.ASCII)


def parse_day(value: object) -> date:
    """Parse a whole UTC day: a date, or text such as ``2025-07-15``.

    Raises
    ------
    ValueError
        If it is not a day, or not between 1700 and 2299.

    Examples
    --------
    >>> parse_day("2025-07-15")
    datetime.date(2025, 7, 15)
    """
    if isinstance(value, datetime):
        raise ValueError(f"{value!r} has a time; days are whole UTC days, like '2025-07-15'")
    try:
        if isinstance(value, str) and _DAY.fullmatch(value):
            value = date.fromisoformat(value)
        if not isinstance(value, date):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{shown(value)} is not a day; write it like '2025-07-15', or count from today: "
            "'today', 'yesterday', '-7d'"
        ) from None
    if not _FIRST_DAY <= value <= _LAST_DAY:
        raise ValueError(
            f"{value} is not between {_FIRST_DAY} and {_LAST_DAY}; the archive begins in 2017"
        )
    return value


def parse_relative_day(value: object) -> int | None:
    """Return the number of days from a relative day to today; None for any other value.

    >>> parse_relative_day("yesterday"), parse_relative_day("-7d"), parse_relative_day("2025")
    (1, 7, None)
    """
    if not isinstance(value, str):
        return None
    found = _AGO.fullmatch(value)
    return int(found[1]) if found else _DAYS_AGO.get(value)


def resolve_day(value: object, today: date) -> date:
    """Parse a day that may be counted from today.

    Raises
    ------
    ValueError
        As `parse_day`.

    Examples
    --------
    >>> resolve_day("-7d", today=date(2025, 7, 15))
    datetime.date(2025, 7, 8)
    """
    ago = parse_relative_day(value)
    return parse_day(value if ago is None else today - timedelta(days=ago))


def parse_time(value: object) -> datetime:
    """Parse a time, or a day as its first moment; without a time zone it is UTC.

    Raises
    ------
    ValueError
        If it is neither a day nor a time.

    Examples
    --------
    >>> print(parse_time("2025-07-01 12:00+02:00"), parse_time(date(2025, 7, 1)))
    2025-07-01 10:00:00+00:00 2025-07-01 00:00:00+00:00
    """
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(time, date) and not isinstance(time, datetime):
            time = datetime.combine(time, datetime.min.time())
        if not isinstance(time, datetime):
            raise ValueError
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{shown(value)} is neither a day nor a time; write 2025-07-01 or 2025-07-01T12:00"
        ) from None


def is_whole_day(value: object) -> bool:
    """Return whether a value is a day, in any spelling of ISO 8601, and not a time.

    >>> is_whole_day("2025-07-15"), is_whole_day("20250715"), is_whole_day("2025-07-15T00:00")
    (True, True, False)
    """
    if isinstance(value, str):
        try:
            date.fromisoformat(value)
        except ValueError:
            return False
        return True
    return isinstance(value, date) and not isinstance(value, datetime)


_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_MONTHS = {"mo": 1, "q": 3, "y": 12}
_UNIT_WORDS = {
    "s": "s sec secs second seconds",
    "m": "m min mins minute minutes t",
    "h": "h hr hrs hour hours",
    "d": "d day days",
    "w": "w wk wks week weeks",
    "mo": "mo mon mth month months",
}
_UNIT_BY_WORD = {word: unit for unit, words in _UNIT_WORDS.items() for word in words.split()}


def parse_length(text: str) -> tuple[int, int] | None:
    """Parse a length of time, such as ``90m``, ``1h30m`` or ``1mo``.

    Returns
    -------
    (int, int) or None
        Microseconds, and calendar months: one of them is 0. None if it is not a length.

    Examples
    --------
    >>> parse_length("1h30m") == (90 * MINUTE, 0), parse_length("1q"), parse_length("1 hour")
    (True, (0, 3), None)
    """
    if found := re.fullmatch(r"([0-9]{1,4})(mo|q|y)", text):
        return 0, int(found[1]) * _MONTHS[found[2]]
    if re.fullmatch(r"([0-9]{1,9}[smhdw]){1,8}", text):
        parts = re.findall(r"(\d+)([smhdw])", text)
        return sum(int(number) * _UNITS[unit] for number, unit in parts), 0
    return None


def respell_length(text: str) -> str | None:
    """Spell a length of time in one unit as the archive does, or return None.

    >>> respell_length("30min"), respell_length("4 hours"), respell_length("1M")
    ('30m', '4h', '1mo')
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*([A-Za-z]+)\s*", text)
    if found is None:
        return None
    # Binance writes M for months.
    unit = "mo" if found[2] == "M" else _UNIT_BY_WORD.get(found[2].casefold())
    return f"{int(found[1])}{unit}" if unit else None


def to_datetime(time: int) -> datetime:
    """Return the time at a number of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=time)


def to_naive(time: int) -> datetime:
    """Return the time at a number of microseconds since 1970, without its time zone (UTC)."""
    return _NAIVE_EPOCH + timedelta(microseconds=time)


def to_micros(time: datetime) -> int:
    """Return the microseconds from 1970 to an aware time."""
    return (time - _EPOCH) // _MICROSECOND


def to_day_number(day: date) -> int:
    """Return the number of days from 1970 to a day."""
    return (day - _DAY_ZERO).days


def from_day_number(count: int) -> date:
    """Return the day at a number of days after 1970-01-01."""
    return _DAY_ZERO + timedelta(days=count)


def format_time(time: int | datetime) -> str:
    """Format microseconds since 1970, or a datetime in UTC, no finer than needed.

    >>> format_time(0), format_time(90_000_000), format_time(1_500_000)
    ('1970-01-01 00:00', '1970-01-01 00:01:30', '1970-01-01 00:00:01.500')
    """
    time = to_naive(time) if isinstance(time, int) else time.replace(tzinfo=None)
    finest = "milliseconds" if time.microsecond else "seconds" if time.second else "minutes"
    return time.isoformat(" ", finest)


def next_month(day: Day) -> Day:
    """Return the first day of the month after that of a day; a time keeps its hour.

    >>> str(next_month(date(2024, 1, 31))), str(next_month(date(2024, 12, 1)))
    ('2024-02-01', '2025-01-01')
    """
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
