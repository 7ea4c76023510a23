"""Lengths of bars: parse "4h" or "1mo", and find the start of the bar a time lies in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import polars as pl

from binance_archive_kit.archive.enums import Interval
from binance_archive_kit.errors import ConfigurationError, respelled, shown
from binance_archive_kit.reading import cadence
from binance_archive_kit.timestamps import DAY, HOUR, MINUTE, SECOND

_WEEK = 7 * DAY
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": _WEEK}
_MONTHS = {"mo": 1, "q": 3, "y": 12}


@dataclass(frozen=True)
class Length:
    """The length of a bar, and where bars begin.

    Attributes
    ----------
    text : str
        As given.
    micros : int
        Microseconds; 0 for a number of calendar months.
    months : int
    phase : int
        Microseconds from the usual starts to the actual ones.
    """

    text: str
    micros: int = 0
    months: int = 0
    phase: int = 0

    @property
    def every(self) -> str:
        """The length for Polars, which starts weeks on Mondays too."""
        if self.months:
            return f"{self.months}mo"
        weeks, rest = divmod(self.micros, _WEEK)
        return f"{self.micros}us" if rest else f"{weeks}w"

    def starts(self, times: pl.Expr) -> pl.Expr:
        """Return the starts of the bars that times lie in."""
        phase = pl.duration(microseconds=self.phase)
        return (times - phase).dt.truncate(self.every) + phase

    def expected(self, starts: pl.Expr, interval: Interval) -> pl.Expr:
        """Count the candles of an interval in a whole bar with each of the given starts."""
        if interval is Interval.MO1:
            return pl.lit(self.months, pl.Int64)
        candle = cadence.length(interval)
        if not self.months:
            return pl.lit(self.micros // candle, pl.Int64)
        spans = starts.dt.offset_by(self.every) - starts
        return spans.dt.total_microseconds() // candle

    def days_around(self, days: Iterable[date]) -> list[date]:
        """List the days of all bars that overlap the given days."""
        given = pl.DataFrame({"first": list(days)}, schema={"first": pl.Datetime("us")})
        first = self.starts(pl.col("first"))
        last = self.starts(pl.col("first") + pl.duration(microseconds=DAY - 1))
        ends = last.dt.offset_by(self.every) - pl.duration(microseconds=1)
        ranges = given.select(pl.date_ranges(first.dt.date(), ends.dt.date()).alias("days"))
        found: list[date] = ranges["days"].explode().unique().sort().to_list()
        return found

    def fits(self, interval: Interval) -> bool:
        """Return whether no candle of an interval extends beyond the end of its bar.

        >>> parse_length("4h").fits(Interval.H1), parse_length("90m").fits(Interval.H1)
        (True, False)
        """
        if interval is Interval.MO1:
            return self.months > 0
        if interval is Interval.D3:
            # Only the candles themselves show where they begin.
            return self.micros == 3 * DAY
        if self.months:
            return interval is not Interval.W1
        return self.micros % cadence.length(interval) == 0

    def advice(self, interval: Interval) -> str:
        """Return advice on lengths that fit an interval."""
        if interval in (Interval.D3, Interval.W1, Interval.MO1):
            return "weeks are made of 1w, months of 1mo, and nothing of 3d but 3d"
        number, unit = int(interval[:-1]), interval[-1]
        times = (self.micros or 30 * DAY * self.months) // cadence.length(interval)
        return "write " + " or ".join(f"{number * n}{unit}" for n in (times, times + 1) if n)


def parse_length(every: str) -> Length:
    """Parse the length of a bar.

    Raises
    ------
    ConfigurationError
        If it is invalid, or zero.

    Examples
    --------
    >>> parse_length("90m").micros == 90 * MINUTE, parse_length("1M").months
    (True, 1)
    """
    text = "1mo" if every == "1M" else every
    if isinstance(text, str):
        if (found := re.fullmatch(r"([0-9]{1,4})(mo|q|y)", text)) and int(found[1]):
            return Length(every, months=int(found[1]) * _MONTHS[found[2]])
        if re.fullmatch(r"([0-9]{1,9}[smhdw]){1,8}", text):
            parts = re.findall(r"(\d+)([smhdw])", text)
            micros = sum(int(number) * _UNITS[unit] for number, unit in parts)
            # Beyond a thousand years there are no candles, and soon no microseconds.
            if 0 < micros < 366_000 * DAY:
                return Length(every, micros)
    guess = respelled(text) if isinstance(text, str) else None
    hint = f"; did you mean {guess!r}?" if guess and guess != text else "."
    raise ConfigurationError(
        f"every: {shown(every)} is not a length of time{hint} Write a number above 0 and s, m, h, "
        "d, w, mo, q or y, such as 90m, 4h, 1d, 1w or 1mo"
    )
