"""Resample candles to longer bars, each from the interval that has most of its candles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import polars as pl

from binance_archive_kit.archive.enums import Interval
from binance_archive_kit.errors import field_error, shown
from binance_archive_kit.query.file_lookup import days_between
from binance_archive_kit.query.polars_scan import UniqueRows
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading import cadence
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.timestamps import DAY, WEEK, parse_length, respell_length


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
        weeks, rest = divmod(self.micros, WEEK)
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

        >>> read_length("4h").fits(Interval.H1), read_length("90m").fits(Interval.H1)
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


def read_length(every: str, field: str = "every") -> Length:
    """Parse the length of a bar, or of an argument of another name.

    Raises
    ------
    ConfigurationError
        If it is invalid, or zero.

    Examples
    --------
    >>> read_length("90m").micros, read_length("1M").months
    (5400000000, 1)
    """
    guess = None
    if isinstance(every, str):
        text = "1mo" if every == "1M" else every
        micros, months = parse_length(text) or (0, 0)
        # Beyond a thousand years there are no candles, and soon no microseconds.
        if months or 0 < micros < 366_000 * DAY:
            return Length(every, micros, months)
        guess = respell_length(text)
    hint = f"; did you mean {guess!r}?" if guess and guess != every else "."
    raise field_error(
        field,
        f"{shown(every)} is not a length of time{hint} Write a number above 0 and s, m, h, d, w, "
        "mo, q or y, such as 90m, 4h, 1d, 1w or 1mo",
    )


_INTERVALS = pl.Enum(Interval)
#: An interval, and the days that its files cover.
Candidate = tuple[Interval, set[date]]


def find_candidates(
    streams: Sequence[StoredFolder], selection: Selection, length: Length
) -> list[Candidate]:
    """List the intervals of a symbol that fit into a bar, the one of most days first.

    Of intervals whose files cover equally many days, the finest comes first.

    Raises
    ------
    ConfigurationError
        If there are candles and none of them fits, or a requested one does not.
    """
    days: dict[Interval, set[date]] = {}
    for stored in streams:
        groups = [[file] for file in stored.files]
        for [file], matches in zip(groups, selection.may_match(stored, groups), strict=True):
            if matches:
                interval = Interval(stored.folder.interval or "")
                days.setdefault(interval, set()).update(_days_within(file, selection))
    known = [interval for interval in Interval if interval in days]
    fitting = [interval for interval in known if length.fits(interval)]
    unfit = [interval for interval in known if interval not in fitting]
    if known and (not fitting or (selection.intervals is not None and unfit)):
        raise field_error(
            "every",
            f"{length.text!r} is no whole multiple of the candles that the store has of "
            f"{', '.join(selection.symbols or ())}: {', '.join(unfit)}; {length.advice(unfit[0])}",
        )
    best = sorted(fitting, key=lambda interval: -len(days[interval]))
    return [(interval, days[interval]) for interval in best]


def _days_within(file: StoredFile, selection: Selection) -> set[date]:
    first, last = file.start, file.end
    if selection.start is not None:
        first = max(first, selection.start.date())
    if selection.end is not None:
        # The end is exclusive: midnight ends the day before.
        last = min(last, (selection.end - timedelta(microseconds=1)).date())
    return days_between(first, last)


def phase_of(
    rows: UniqueRows, feed: FeedTable, streams: Sequence[StoredFolder], length: Length
) -> int:
    """Return the offset of 3d bars in microseconds: that of the symbol's own 3d candles."""
    if length.micros != 3 * DAY or not any(s.folder.interval is Interval.D3 for s in streams):
        return 0
    symbol = streams[0].folder.symbol
    candles = rows.read(feed, Selection(frozenset([symbol]), frozenset([Interval.D3])))
    counts = candles.group_by(pl.col("open_time").dt.epoch("us") % length.micros).len()
    best = counts.sort("len", "open_time", descending=[True, False]).head(1)
    return int(best["open_time"].sum())


def best_bars(
    rows: UniqueRows,
    feed: FeedTable,
    selection: Selection,
    candidates: Sequence[Candidate],
    length: Length,
) -> pl.DataFrame | None:
    """Make each bar from the candidate that has the largest part of its candles."""
    bars: list[pl.DataFrame] = []
    done: set[date] = set()
    for interval, days in candidates:
        where = []
        if bars:
            # Days whose candles are complete cannot improve.
            if not (missing := days - done):
                continue
            where = [pl.col("date").is_in(length.days_around(missing))]
        candles = rows.read(feed, replace(selection, intervals=frozenset([interval])), *where)
        if not candles.is_empty():
            bars.append(_bars(candles, interval, length))
            done |= _whole_days(candles, interval)
    if not bars:
        return None
    if len(bars) == 1:
        return bars[0]
    part = (pl.col("candles") / pl.col("expected_candles")).clip(upper_bound=1)
    ranked = pl.concat(frame.with_columns(rank=pl.lit(n)) for n, frame in enumerate(bars))
    ranked = ranked.with_columns(part=part).sort(
        "open_time", "part", "rank", descending=[False, True, False]
    )
    return ranked.unique("open_time", keep="first", maintain_order=True).drop("part", "rank")


def _whole_days(candles: pl.DataFrame, interval: Interval) -> set[date]:
    """Return the days whose candles are complete."""
    if interval in (Interval.D3, Interval.W1, Interval.MO1):
        return set()
    days = candles.group_by(pl.col("open_time").dt.date().alias("day")).len()
    return set(days.filter(pl.col("len") >= DAY // cadence.length(interval))["day"])


def _bars(candles: pl.DataFrame, interval: Interval, length: Length) -> pl.DataFrame:
    """Make the bars of one symbol from its candles of one interval."""
    bars = resample(candles, length).with_columns(
        length.expected(pl.col("open_time"), interval).alias("expected_candles"),
        pl.lit(interval.value, _INTERVALS).alias("interval"),
    )
    return bars.select(
        pl.lit(candles["symbol"][0], candles.schema["symbol"]).alias("symbol"), pl.all()
    )


def resample(candles: pl.DataFrame, length: Length) -> pl.DataFrame:
    """Make bars from the sorted candles of one symbol; ``candles`` is the number of each.

    Returns
    -------
    polars.DataFrame
        ``open_time``, ``open``, ``high``, ``low``, ``close``, the sums of volumes and counts, and
        ``candles``.
    """
    sums = [name for name in candles.columns if name.endswith("volume") or name == "count"]
    start = length.starts(pl.col("open_time")).alias("open_time")
    return (
        candles.with_columns(start)
        .set_sorted("open_time")
        .group_by("open_time", maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col(sums).sum(),
            pl.len().cast(pl.Int64).alias("candles"),
        )
    )
