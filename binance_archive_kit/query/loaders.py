"""Candles as a researcher wants them: one row for each, resampled, joined with funding.

Everything is loaded for one symbol or several, each on its own. A row that the store has
more than once is given once if all its values are the same, and rejected if they are not.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, read_interval, read_names
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    ConflictingRows,
    respelled,
    shown,
    unknown,
)
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.open_store import Source, open_engine
from binance_archive_kit.query.polars_scan import scan_feed
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.query.selection import Moment, parse_selection
from binance_archive_kit.reading.feed_table import FILE_COLUMNS, FeedTable
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.timestamps import DAY, HOUR, MINUTE, SECOND

#: How late a funding may be before the one before it is no longer known to hold.
_LATE = timedelta(minutes=1)
_WEEK = 7 * DAY
#: Files that a message names one by one.
_FEW = 5
_INTERVALS = pl.Enum(Interval)


def load_klines(
    source: Source,
    symbol: str | Iterable[str],
    interval: str | Iterable[str],
    *,
    market: str = "spot",
    data_type: str = "klines",
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Load the candles of one symbol or several.

    Parameters
    ----------
    source : str, Path or OpenStore
    symbol, interval : str or iterable of str
        One name, or several in any collection. Of several, a column names each row's own.
    market : str
    data_type : str
        One of the kline families: ``klines``, ``markPriceKlines``, ``indexPriceKlines``,
        ``premiumIndexKlines``.
    start, end : str, date or datetime, optional
        Of ``open_time``, UTC; as for `scan`.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        ``symbol`` and ``interval`` where several were asked for, and the columns of the feed.
        A row for each candle there is, by symbol, interval and ``open_time``; missing candles
        are not made up. A candle that the store has more than once is given once, with a
        warning.

    Raises
    ------
    ConfigurationError
        If the store has no such candles.
    ConflictingRows
        If two candles with one open time differ; with ``on_error="skip"`` both are left out.
    FileError
        For a file that is not what its name says.
    """
    engine = open_engine(source, options)
    feed = engine.feed(market, data_type)
    rows = _Rows(engine)
    found = _candles(rows, feed, symbol, interval, start, end)
    rows.warn()
    return found


def ohlcv(
    source: Source,
    symbol: str | Iterable[str],
    every: str,
    *,
    market: str = "spot",
    start: Moment | None = None,
    end: Moment | None = None,
    interval: str | Iterable[str] | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Resample candles to a longer length.

    Each bar is made from the interval of which the store has the largest part of the bar's
    candles; of equal ones from that whose files cover more days, then from the finer one. It
    must fit into `every` a whole number of times.

    Parameters
    ----------
    source : str, Path or OpenStore
    symbol : str or iterable of str
        One name, or several in any collection. Of several, a column names each row's own.
    every : str
        Length of a bar: a number and ``s``, ``m``, ``h``, ``d``, ``w``, ``mo``, ``q`` or
        ``y``, such as ``"90m"``, ``"4h"``, ``"1d"``, ``"1w"`` or ``"1mo"`` (also ``"1M"``).
        Bars begin at multiples of it since 1970-01-01 00:00 UTC; those of whole weeks on
        Mondays, counted from 1970-01-05 (``7d`` is ``1w``); those of ``3d`` where the
        symbol's own 3d candles begin, if the store has any.
    market : str
    start, end : str, date or datetime, optional
        Of the candles' ``open_time``, UTC; as for `scan`. A bar that they cut has fewer
        candles than expected.
    interval : str or iterable of str, optional
        Interval of the candles to make bars from. Of several, each gives its own bars.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        ``symbol`` where several were asked for; ``open_time``, ``open``, ``high``, ``low``,
        ``close``, the sums of the amounts and counts; ``candles`` (how many went into the
        bar), ``expected_candles`` (how many a whole one has) and ``interval`` (of which);
        ``vwap`` (quote volume per volume; not for COIN-M, whose volume is in contracts).
        Bars without any candle are not there.

    Raises
    ------
    ConfigurationError
        If `every` is no length of time, or the store has no candles that fit into it.
    ConflictingRows
        If two candles with one open time differ; with ``on_error="skip"`` both are left out.
    """
    length = read_length(every)
    engine = open_engine(source, options)
    feed = engine.feed(market, DataType.KLINES)
    asked = None if interval is None else _intervals(interval)
    symbols = sorted(read_names("symbol", symbol))
    chosen = _chosen(engine, feed, symbols, asked, start, end)
    rows = _Rows(engine)
    bars = []
    for name in symbols:
        own = replace(chosen, symbols=frozenset([name]))
        streams = [held for held in engine.folders(feed) if held.folder.symbol == name]
        candidates = _candidates(streams, own, length)
        grid = replace(length, phase=_phase(rows, feed, streams, length))
        groups = [candidates] if asked is None else [[each] for each in candidates]
        found = [_best_bars(rows, feed, own, group, grid) for group in groups]
        bars += [frame for frame in found if frame is not None]
        if not any(frame is not None for frame in found):
            rows.absent.append(name)
    rows.check_absent(feed, chosen, start, end, any_rows=bool(bars))
    rows.warn()
    grown = pl.concat(bars)
    if "quote_volume" in grown.columns:
        # A candle without trades has no mean price.
        traded = pl.when(pl.col("volume") > 0).then(pl.col("volume"))
        grown = grown.with_columns((pl.col("quote_volume") / traded).alias("vwap"))
    return grown.drop("symbol") if isinstance(symbol, str) else grown


def klines_with_funding(
    source: Source,
    symbol: str | Iterable[str],
    interval: str | Iterable[str],
    *,
    market: str = "futures_um",
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Load candles, each with the latest funding that was known when it opened.

    A funding rate is known from its ``calc_time`` on, some milliseconds after the hour: the
    candle that opens at that hour does not know it. The candle's own columns are known when
    it closes.

    Parameters
    ----------
    source, symbol, interval, market, start, end, **options
        As for `load_klines`.

    Returns
    -------
    polars.DataFrame
        As `load_klines`, with ``calc_time``, ``funding_interval_hours`` and
        ``last_funding_rate`` of the symbol's latest funding at or before ``open_time``; null
        where the store has none before, and where a later one was due that the store lacks.

    Raises
    ------
    ConfigurationError
        If the store has no such candles, or no funding of a symbol.
    ConflictingRows
        If two candles with one open time differ, or two fundings with one time; with
        ``on_error="skip"`` both are left out.
    FileError
        For a file that is not what its name says.
    """
    engine = open_engine(source, options)
    rows = _Rows(engine)
    symbols, intervals = read_names("symbol", symbol), _intervals(interval)
    candles = _candles(rows, engine.feed(market, DataType.KLINES), symbols, intervals, start, end)
    feed = engine.feed(market, DataType.FUNDING_RATE)
    known = rows.read(feed, parse_selection(engine, feed, symbols))
    hours = pl.max_horizontal("funding_interval_hours", pl.col("funding_interval_hours").shift(-1))
    stale = (pl.col("calc_time") + pl.duration(hours=hours) + _LATE).alias("stale")
    joined = []
    for part in candles.partition_by("symbol", "interval", maintain_order=True):
        of_symbol = known.filter(pl.col("symbol") == part["symbol"][0]).drop("symbol")
        joined.append(
            part.join_asof(
                of_symbol.with_columns(stale),
                left_on="open_time",
                right_on="calc_time",
                coalesce=False,
            )
        )
    rows.warn()
    fresh = pl.when(pl.col("open_time") < pl.col("stale"))
    names = [name for name in known.columns if name != "symbol"]
    found = pl.concat(joined).with_columns(fresh.then(pl.col(name)).alias(name) for name in names)
    return found.drop("stale", *_single(symbol, interval))


# Rows that are there once


def _intervals(interval: str | Iterable[str]) -> list[str]:
    """Read one interval or several, each once."""
    return list(dict.fromkeys(map(read_interval, read_names("interval", interval))))


def _single(symbol: object, interval: object) -> list[str]:
    """Name the columns that say what was asked for by one name anyway."""
    return [
        name
        for name, words in (("symbol", symbol), ("interval", interval))
        if isinstance(words, str)
    ]


def _chosen(
    engine: Engine,
    feed: FeedTable,
    symbols: list[str],
    intervals: list[str] | None,
    start: Moment | None,
    end: Moment | None,
) -> Selection:
    """Read what is asked for, and see that the store has files of each symbol and interval."""
    chosen = parse_selection(engine, feed, symbols, intervals, start, end)
    there = {(held.folder.symbol, held.folder.interval) for held in engine.folders(feed)}
    for name in symbols:
        if any((name, each) not in there for each in intervals or ()):
            parse_selection(engine, feed, name, intervals, start, end)
    return chosen


def _candles(
    rows: _Rows,
    feed: FeedTable,
    symbol: str | Iterable[str],
    interval: str | Iterable[str],
    start: Moment | None,
    end: Moment | None,
) -> pl.DataFrame:
    """Load candles by symbol, interval and time; both names as columns unless one was given."""
    if not feed.data_type.has_intervals:
        families = [each for each in DataType if each.has_intervals]
        raise ConfigurationError(unknown("data_type", feed.data_type, families))
    symbols, intervals = sorted(read_names("symbol", symbol)), _intervals(interval)
    chosen = _chosen(rows.engine, feed, symbols, intervals, start, end)
    found = rows.read(feed, chosen)
    if len(symbols) * len(intervals) > 1 or found.is_empty():
        given = set(found.select("symbol", "interval").unique().rows())
        missing = [(s, i) for s in symbols for i in intervals if (s, i) not in given]
        rows.absent += [f"{name} {each}" for name, each in missing]
    rows.check_absent(feed, chosen, start, end, any_rows=not found.is_empty())
    return found.drop(_single(symbol, interval))


@dataclass
class _Rows:
    """Reads rows that are there once, and remembers what is odd about them.

    Attributes
    ----------
    repeated : int
        Rows that were dropped because they repeat another one.
    files : dict
        Files that such rows are in, in the order of their names.
    absent : list of str
        What has files, and no row of the time asked for.
    """

    engine: Engine
    repeated: int = 0
    files: set[str] = field(default_factory=set)
    absent: list[str] = field(default_factory=list)

    def read(self, feed: FeedTable, chosen: Selection, *where: pl.Expr) -> pl.DataFrame:
        """Read rows in the order of symbol, interval and time, each once."""
        lazy = scan_feed(self.engine, feed, chosen).filter(*where)
        names = ["symbol", "interval"] if feed.data_type.has_intervals else ["symbol"]
        columns = [*names, *feed.columns]
        frame = lazy.select(columns).collect()
        falls, repeats = _steps(frame, names, feed.time)
        if falls:
            frame = frame.sort(*names, feed.time, maintain_order=True)
            _, repeats = _steps(frame, names, feed.time)
        return self._once(feed, lazy, frame, [*names, feed.time]) if repeats else frame

    def _once(
        self, feed: FeedTable, lazy: pl.LazyFrame, frame: pl.DataFrame, key: list[str]
    ) -> pl.DataFrame:
        """Drop exact repeats, and reject different rows with one key."""
        twice = frame.group_by(key).len().filter(pl.col("len") > 1)
        times = twice[feed.time].unique()
        doubled = (
            lazy.filter(pl.col("date").is_in(times.dt.date().unique().to_list()))
            .filter(pl.col(feed.time).is_in(times.to_list()))
            .drop("market", "date", FILE_COLUMNS[0])
            .collect()
            .join(twice, on=key, how="semi")
        )
        own = list(feed.columns)
        groups = doubled.group_by(key, maintain_order=True).agg(
            pl.struct(own).n_unique().alias("kinds"), pl.len().alias("rows")
        )
        conflicts = groups.filter(pl.col("kinds") > 1).select(key)
        if conflicts.height:
            for error in _conflicts(doubled.join(conflicts, on=key, how="semi"), key, own):
                self.engine.reject(error)
        same = doubled.join(conflicts, on=key, how="anti")
        self.repeated += same.height - same.select(key).n_unique()
        self.files |= set(same["file"].cast(pl.String))
        rest = frame.join(conflicts, on=key, how="anti", maintain_order="left")
        return rest.unique(key, keep="first", maintain_order=True)

    def warn(self) -> None:
        """Warn once of the rows that were dropped."""
        if not self.repeated:
            return
        rows = "1 row that repeats" if self.repeated == 1 else f"{self.repeated:,} rows that repeat"
        warnings.warn(
            f"dropped {rows} another one in every value; files: {_few(sorted(self.files))}",
            ArchiveKitWarning,
            stacklevel=3,
        )

    def check_absent(
        self,
        feed: FeedTable,
        chosen: Selection,
        start: Moment | None,
        end: Moment | None,
        *,
        any_rows: bool,
    ) -> None:
        """Raise if nothing was found; warn if something of several was not."""
        if not self.absent and any_rows:
            return
        between = f"between {start or 'its beginning'} and {end or 'its end'}"
        if not any_rows:
            raise ConfigurationError(
                f"{_few(self.absent)}: the store has "
                f"{_reach(self.engine, feed, chosen)}, and no candle {between}"
                f"{_left_out(self.engine, feed, chosen)}"
            )
        left_out = _left_out(self.engine, feed, chosen)
        said = f"no candle {between} of {_few(self.absent)}{left_out}"
        warnings.warn(said, ArchiveKitWarning, stacklevel=4)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
    return f"{', '.join(names[:_FEW])}{more}"


def _steps(frame: pl.DataFrame, names: list[str], time: str) -> tuple[bool, bool]:
    """Return whether times of a stream ever fall from one row to the next, and ever repeat."""
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in names)
    step = pl.col(time).diff()
    zero = timedelta(0)
    found = frame.lazy().select(
        falls=(same & (step < zero)).any(), repeats=(same & (step == zero)).any()
    )
    falls, repeats = found.collect().row(0)
    return bool(falls), bool(repeats)


def _conflicts(rows: pl.DataFrame, key: list[str], own: list[str]) -> Iterator[ConflictingRows]:
    """Yield one error for each file: the first of its rows that conflict, and how many do."""
    *_, time = key
    rows = rows.with_columns(pl.col("file").cast(pl.String))
    firsts = rows.group_by("file", maintain_order=True).agg(
        pl.struct(key).n_unique().alias("times"), pl.col(key).first()
    )
    for first in firsts.iter_rows(named=True):
        group = rows.filter(pl.col(name) == first[name] for name in key)
        one, two = group.unique(own, keep="first", maintain_order=True).head(2).to_dicts()
        name = next(name for name in own if one[name] != two[name])
        said = f"two rows of {one[time]:%Y-%m-%d %H:%M:%S} differ: {name} is {one[name]}"
        others = [each["file"] for each in (one, two) if each["file"] != first["file"]]
        where = f", one of them in {others[0]}" if others else ""
        more = f" ({first['times']:,} such times)" if first["times"] > 1 else ""
        yield ConflictingRows(first["file"], f"{said} and {two[name]}{where}{more}")


def _left_out(engine: Engine, feed: FeedTable, chosen: Selection) -> str:
    """Return the files that are left out as they cannot be read, in words; empty if none."""
    bad = [file.place for file in _files(engine, feed, chosen) if file.place in engine.problems]
    return f"; files that cannot be read are left out: {_few(bad)}" if bad else ""


def _reach(engine: Engine, feed: FeedTable, chosen: Selection) -> str:
    """Return the days that the files of symbols and intervals cover, in words."""
    files = _files(engine, feed, chosen)
    return f"files of {min(f.start for f in files)} to {max(f.end for f in files)}"


def _files(engine: Engine, feed: FeedTable, chosen: Selection) -> list[StoredFile]:
    """Return the files of symbols and intervals."""
    return [
        file
        for held in engine.folders(feed)
        if chosen.symbols is None or held.folder.symbol in chosen.symbols
        if chosen.intervals is None or held.folder.interval in chosen.intervals
        for file in held.files
    ]


# Lengths of time


@dataclass(frozen=True)
class Length:
    """A length of time, and where stretches of it begin.

    Attributes
    ----------
    text : str
        As it was asked for.
    micros : int
        Microseconds; 0 for a number of calendar months.
    months : int
    phase : int
        Microseconds from the usual beginnings to the ones meant.
    """

    text: str
    micros: int = 0
    months: int = 0
    phase: int = 0

    @property
    def every(self) -> str:
        """The length for Polars, whose stretches begin as ours: weeks of it on Mondays."""
        if self.months:
            return f"{self.months}mo"
        weeks, rest = divmod(self.micros, _WEEK)
        return f"{self.micros}us" if rest else f"{weeks}w"

    def starts(self, times: pl.Expr) -> pl.Expr:
        """Return the starts of the stretches that times lie in."""
        phase = pl.duration(microseconds=self.phase)
        return (times - phase).dt.truncate(self.every) + phase

    def expected(self, starts: pl.Expr, interval: Interval) -> pl.Expr:
        """Count the candles of an interval that stretches from some moments on have."""
        if interval is Interval.MO1:
            return pl.lit(self.months, pl.Int64)
        if not self.months:
            return pl.lit(self.micros // _micros(interval), pl.Int64)
        spans = starts.dt.offset_by(self.every) - starts
        return spans.dt.total_microseconds() // _micros(interval)

    def days_around(self, days: Iterable[date]) -> list[date]:
        """List the days of all stretches that touch some days."""
        noon = pl.DataFrame({"first": list(days)}, schema={"first": pl.Datetime("us")})
        first = self.starts(pl.col("first"))
        last = self.starts(pl.col("first") + pl.duration(microseconds=DAY - 1))
        ends = last.dt.offset_by(self.every) - pl.duration(microseconds=1)
        ranges = noon.select(pl.date_ranges(first.dt.date(), ends.dt.date()).alias("days"))
        found: list[date] = ranges["days"].explode().unique().sort().to_list()
        return found


_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": _WEEK}
_MONTHS = {"mo": 1, "q": 3, "y": 12}


def read_length(every: str) -> Length:
    """Read a length of time.

    Raises
    ------
    ConfigurationError
        If it is none, or no longer than nothing.

    Examples
    --------
    >>> read_length("90m").micros == 90 * MINUTE, read_length("1M").months
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
        f"every: {shown(every)} is no length of time{hint} Write a number above 0 and s, m, h, d, "
        "w, mo, q or y, such as 90m, 4h, 1d, 1w or 1mo"
    )


def _micros(interval: Interval) -> int:
    return int(interval[:-1]) * _UNITS[interval[-1]]


def _fits(interval: Interval, length: Length) -> bool:
    """Return whether candles never extend beyond the end of a longer one.

    >>> _fits(Interval.H1, read_length("4h")), _fits(Interval.H1, read_length("90m"))
    (True, False)
    """
    if interval is Interval.MO1:
        return length.months > 0
    if interval is Interval.D3:
        # Where they begin, only they themselves tell.
        return length.micros == 3 * DAY
    if length.months:
        return interval is not Interval.W1
    return length.micros % _micros(interval) == 0


def _nearest(interval: Interval, length: Length) -> str:
    """Return advice on the lengths that fit an interval."""
    if interval in (Interval.D3, Interval.W1, Interval.MO1):
        return "weeks are made of 1w, months of 1mo, and nothing of 3d but 3d"
    number, unit = int(interval[:-1]), interval[-1]
    times = (length.micros or 30 * DAY * length.months) // _micros(interval)
    return "write " + " or ".join(f"{number * at}{unit}" for at in (times, times + 1) if at)


# Bars


def _candidates(
    streams: Sequence[StoredFolder], own: Selection, length: Length
) -> list[tuple[Interval, set[date]]]:
    """List the intervals of a symbol that fit, with the days that their files cover.

    First the one whose files cover most days, of equal ones the finest.
    """
    days: dict[Interval, set[date]] = {}
    for held in streams:
        groups = [[file] for file in held.files]
        kept = [file for [file], keep in zip(groups, own.keeps(held, groups), strict=True) if keep]
        if kept:
            its = days.setdefault(Interval(held.folder.interval or ""), set())
            its.update(day for file in kept for day in _days_within(file, own))
    there = [interval for interval in Interval if interval in days]
    fitting = [interval for interval in there if _fits(interval, length)]
    unfit = [interval for interval in there if interval not in fitting]
    if there and (not fitting or (own.intervals is not None and unfit)):
        raise ConfigurationError(
            f"every: {length.text!r} is no whole multiple of the candles that the store has of "
            f"{', '.join(own.symbols or ())}: {', '.join(unfit)}; {_nearest(unfit[0], length)}"
        )
    best = sorted(fitting, key=lambda interval: -len(days[interval]))
    return [(interval, days[interval]) for interval in best]


def _days_within(file: StoredFile, own: Selection) -> Iterator[date]:
    first = file.start if own.start is None else max(file.start, own.start.date())
    last = file.end
    if own.end is not None:
        # The end is exclusive: at midnight it is the day before that is the last one.
        last = min(last, (own.end - timedelta(microseconds=1)).date())
    yield from (first + timedelta(days=at) for at in range((last - first).days + 1))


def _phase(rows: _Rows, feed: FeedTable, streams: Sequence[StoredFolder], length: Length) -> int:
    """Return the offset of 3d bars in microseconds: that of the symbol's own 3d candles."""
    if length.micros != 3 * DAY or not any(h.folder.interval is Interval.D3 for h in streams):
        return 0
    symbol = streams[0].folder.symbol
    own = rows.read(feed, Selection(frozenset([symbol]), frozenset([Interval.D3])))
    counts = own.group_by(pl.col("open_time").dt.epoch("us") % length.micros).len()
    best = counts.sort("len", "open_time", descending=[True, False]).head(1)
    return int(best["open_time"].sum())


def _best_bars(
    rows: _Rows,
    feed: FeedTable,
    own: Selection,
    candidates: Sequence[tuple[Interval, set[date]]],
    length: Length,
) -> pl.DataFrame | None:
    """Make each bar from the candidate that has the largest part of its candles."""
    bars: list[pl.DataFrame] = []
    done: set[date] = set()
    for interval, days in candidates:
        where = []
        if bars:
            # Days of which all candles are there cannot get better.
            if not (missing := days - done):
                continue
            where = [pl.col("date").is_in(length.days_around(missing))]
        candles = rows.read(feed, replace(own, intervals=frozenset([interval])), *where)
        if not candles.is_empty():
            bars.append(_bars(candles, interval, length))
            done |= _whole_days(candles, interval)
    if not bars:
        return None
    if len(bars) == 1:
        return bars[0]
    part = (pl.col("candles") / pl.col("expected_candles")).clip(upper_bound=1)
    ranked = pl.concat(each.with_columns(rank=pl.lit(at)) for at, each in enumerate(bars))
    ranked = ranked.with_columns(part=part).sort(
        "open_time", "part", "rank", descending=[False, True, False]
    )
    return ranked.unique("open_time", keep="first", maintain_order=True).drop("part", "rank")


def _whole_days(candles: pl.DataFrame, interval: Interval) -> set[date]:
    """Return the days of which all candles are there."""
    if interval in (Interval.D3, Interval.W1, Interval.MO1):
        return set()
    days = candles.group_by(pl.col("open_time").dt.date().alias("day")).len()
    return set(days.filter(pl.col("len") >= DAY // _micros(interval))["day"])


def _bars(candles: pl.DataFrame, interval: Interval, length: Length) -> pl.DataFrame:
    """Make the bars of one symbol from its candles of one interval."""
    sums = [name for name in candles.columns if name.endswith("volume") or name == "count"]
    start = length.starts(pl.col("open_time")).alias("open_time")
    grown = (
        candles.with_columns(start)
        .set_sorted("open_time")
        .group_by("open_time", maintain_order=True)
        .agg(
            pl.col("symbol").first(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col(sums).sum(),
            pl.len().cast(pl.Int64).alias("candles"),
        )
        .with_columns(
            length.expected(pl.col("open_time"), interval).alias("expected_candles"),
            pl.lit(interval.value, _INTERVALS).alias("interval"),
        )
    )
    return grown.select("symbol", pl.exclude("symbol"))
