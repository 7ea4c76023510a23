"""The axis of times, in UTC, and prices without powers of ten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from binance_archive_kit.timestamps import format_time

#: These carry no types.
_date2num: Any = dates.date2num
_AutoDateLocator: Any = dates.AutoDateLocator
_ConciseDateFormatter: Any = dates.ConciseDateFormatter

Numbers = npt.NDArray[np.float64]


def is_time(dtype: pl.DataType) -> bool:
    """Return whether a column is of dates or times."""
    return dtype in (pl.Date, pl.Datetime)


def to_utc(times: pl.Series) -> pl.Series:
    """Convert dates and times to UTC, in microseconds; without a time zone they are UTC."""
    times = times.cast(pl.Datetime("us", getattr(times.dtype, "time_zone", None)))
    is_naive = times.dtype == pl.Datetime("us")
    return times.dt.replace_time_zone("UTC") if is_naive else times.dt.convert_time_zone("UTC")


def to_numbers(times: pl.Series) -> Numbers:
    """Convert times to the date numbers of Matplotlib."""
    naive = times.dt.cast_time_unit("us").dt.replace_time_zone(None)
    numbers: Numbers = _date2num(naive.to_numpy())
    return numbers


def to_number(time: datetime) -> float:
    """Convert a time to a date number of Matplotlib."""
    return float(_date2num(time))


def show_times(axes: Axes, start: float, end: float) -> None:
    """Limit the axis to times, given as numbers, with dates in UTC."""
    # One time alone is in the middle of a day.
    axes.set_xlim((start, end) if start < end else (start - 0.5, end + 0.5))
    locator = _AutoDateLocator(tz=UTC, minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(_ConciseDateFormatter(locator, tz=UTC))


def show_prices(axes: Axes, *, log: bool = False) -> None:
    """Format prices in full, without powers of ten."""
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(format_price))


def format_price(price: float, _: object = None) -> str:
    """Format a price.

    >>> format_price(97600.0), format_price(0.00001), format_price(2.5)
    ('97,600', '0.00001', '2.5')
    """
    # Ticks are multiples of powers of ten that floating point does not have.
    text = np.format_float_positional(price, precision=10, fractional=False, trim="-")
    whole, point, rest = text.partition(".")
    return f"{int(whole):,}{point}{rest}" if abs(price) >= 1 else text


def format_amount(amount: float, _: object = None) -> str:
    """Format an amount, with a letter for thousands (k), millions (M) or billions (G).

    >>> format_amount(1_500_000), format_amount(250), format_amount(0.4)
    ('1.5 M', '250', '0.4')
    """
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(amount) >= size:
            return f"{format_price(amount / size)}{letter}"
    return format_price(amount)


def describe_range(start: datetime, end: datetime) -> str:
    """Format a range of times; `end` is exclusive, and whole days are named by the last one.

    >>> describe_range(datetime(2025, 7, 1), datetime(2025, 7, 4))
    '2025-07-01 to 2025-07-03 UTC'
    >>> describe_range(datetime(2025, 7, 1), datetime(2025, 7, 1, 12))
    '2025-07-01 00:00 to 2025-07-01 12:00 UTC'
    """
    day = timedelta(days=1)
    if start.time() == end.time() == datetime.min.time():
        first, last = start.date(), (end - day).date()
        return f"{first} UTC" if first == last else f"{first} to {last} UTC"
    return f"{format_time(start)} to {format_time(end)} UTC"
