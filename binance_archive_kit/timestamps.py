"""Time as files are told of it here: microseconds, and days, since 1970 UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_DAY_ZERO = _EPOCH.date()
_MICROSECOND = timedelta(microseconds=1)


def to_datetime(time: int) -> datetime:
    """Turn microseconds since 1970 into a moment, UTC."""
    return _EPOCH + timedelta(microseconds=time)


def to_naive(time: int) -> datetime:
    """Turn microseconds since 1970 into a moment that is UTC without saying so."""
    return _NAIVE_EPOCH + timedelta(microseconds=time)


def to_micros(moment: datetime) -> int:
    """Turn a moment into microseconds since 1970 UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def to_day_number(day: date) -> int:
    """Count the days since 1970."""
    return (day - _DAY_ZERO).days


def from_day_number(count: int) -> date:
    """Give the day that is so many after 1970 began."""
    return _DAY_ZERO + timedelta(days=count)


def format_time(time: int) -> str:
    """Write a moment for people, UTC, no finer than it is.

    >>> format_time(0), format_time(90_000_000), format_time(1_500_000)
    ('1970-01-01 00:00', '1970-01-01 00:01:30', '1970-01-01 00:00:01.500')
    """
    moment = to_datetime(time)
    if time % SECOND:
        return f"{moment:%Y-%m-%d %H:%M:%S}.{time % SECOND // 1000:03}"
    return f"{moment:%Y-%m-%d %H:%M:%S}" if time % MINUTE else f"{moment:%Y-%m-%d %H:%M}"
