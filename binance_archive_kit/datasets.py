"""From a store to rows: `store` shows what is there, `connect` gives SQL, `scan` frames.

Everything reads the zips as they lie in the folder, one that `collect` filled or one that
any other tool filled in the bucket's layout. Times are UTC, at microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from binance_archive_kit import render
from binance_archive_kit.enums import INTERVAL_ALIASES, DataType, Interval
from binance_archive_kit.errors import ConfigurationError, unknown
from binance_archive_kit.feeds import PATH_COLUMNS, Feed
from binance_archive_kit.holdings import Holdings
from binance_archive_kit.inventory import HeldFile, HeldStream, SkippedFile
from binance_archive_kit.lookahead import known_at_of
from binance_archive_kit.progress import running_shell
from binance_archive_kit.pruning import Both, PolarsPruner, Pruner, Range, without_hints
from binance_archive_kit.views import open_views, show_connections

if TYPE_CHECKING:
    import duckdb

Moment = str | date | datetime
Source = str | Path | Holdings
_DAY = timedelta(days=1)
_OPTIONS = ("cache", "cache_limit", "prefer", "on_error", "decimals")
#: How late a funding may be before the one before it is no longer known to hold.
_LATE = timedelta(minutes=1)
#: Streams up to which each is shown in a line of its own.
_FEW = 24


class OpenStore(Holdings):
    """A store that is open for questions: what `store` gives.

    Its parts are had by name, with completion: ``store["spot"]["klines"]["BTCUSDT"]``.
    """

    def __getitem__(self, word: str) -> Shelf:
        """Give the part under a market."""
        return Shelf(self)[word]

    def __iter__(self) -> Iterator[str]:
        """Give the markets there are."""
        return iter(Shelf(self))

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        """Say what there is in one line."""
        streams = self.frame()
        proven = f"{int(streams['proven'].sum()):,} proven"
        skipped = len(self.skipped())
        more = f", {skipped:,} files skipped: see skipped()" if skipped else ""
        return f"OpenStore({str(self.root)!r}: {_amount(streams)}, {proven}{more})"

    def _repr_html_(self) -> str:
        """Show what there is, feed by feed."""
        return _panel(self, "Store", self.frame(), self.skipped())


#: What a part of a store is named by, from the outermost to the innermost.
_LEVELS = ("market", "data_type", "symbol", "interval")


class Shelf:
    """A part of a store: all its files under some words, such as a market and a data type.

    Parameters
    ----------
    holdings : Holdings
    words : tuple of str
        Market, data type, symbol and interval, as many as are chosen.
    """

    def __init__(self, holdings: Holdings, words: tuple[str, ...] = ()) -> None:
        self._holdings = holdings
        self.words = words

    def frame(self) -> pl.DataFrame:
        """Say what is there: a row for each stream, as `Holdings.frame` does."""
        streams = self._holdings.frame()
        for level, word in zip(_LEVELS, self.words, strict=False):
            streams = streams.filter(pl.col(level) == word)
        return streams

    def scan(self, **choice: Any) -> pl.LazyFrame:
        """Scan its rows, once market and data type are chosen; the rest as for `scan`.

        Raises
        ------
        ConfigurationError
            If market or data type are still open.
        """
        if len(self.words) < 2:
            raise ConfigurationError(
                f"choose a {_LEVELS[len(self.words)]} first: {', '.join(self)}"
            )
        names = dict(zip(("symbols", "intervals"), self.words[2:], strict=False))
        return scan(self._holdings, *self.words[:2], **(names | choice))

    def __getitem__(self, word: str) -> Shelf:
        """Give the part under one more word."""
        if len(self.words) == len(_LEVELS):
            raise ConfigurationError(f"{self!r} has no parts")
        if word not in (valid := list(self)):
            raise ConfigurationError(unknown(_LEVELS[len(self.words)], word, valid))
        return Shelf(self._holdings, (*self.words, word))

    def __iter__(self) -> Iterator[str]:
        """Give the words that may follow."""
        if len(self.words) < len(_LEVELS):
            yield from self.frame()[_LEVELS[len(self.words)]].drop_nulls().unique().sort()

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        return f"Shelf({' '.join(self.words) or 'everything'}: {self.frame().height:,} streams)"

    def _repr_html_(self) -> str:
        """Show what there is, feed by feed."""
        return _panel(self._holdings, " ".join(self.words), self.frame())


def _panel(
    holdings: Holdings, title: str, streams: pl.DataFrame, skipped: Sequence[SkippedFile] = ()
) -> str:
    """Show streams feed by feed, or one by one when they are few."""
    few = streams.height <= _FEW
    names = ["symbol", "interval"] if few else []
    feeds = streams.group_by("view", "partition", *names, maintain_order=True).agg(
        pl.col("symbol").n_unique().alias("symbols"),
        pl.col("first").min(),
        pl.col("last").max(),
        pl.col("files", "bytes", "proven").sum(),
    )
    rows = [
        (
            row["view"],
            row["partition"],
            *([row["symbol"], row["interval"] or ""] if few else [f"{row['symbols']:,}"]),
            str(row["first"]),
            str(row["last"]),
            f"{row['files']:,}",
            render.size(row["bytes"]),
            "all" if row["proven"] == row["files"] else f"{row['proven']:,}",
        )
        for row in feeds.iter_rows(named=True)
    ]
    head = ("view", "partition", *(names or ["symbols"]))
    head += ("first day", "last day", "files", "size", "proven")
    problems = [str(error) for error in holdings.problems.values()]
    left_out = f"{len(problems):,} files are left out of answers"
    others = [f"{path}: {reason}; {advice}" for path, reason, advice in skipped]
    unread = f"{len(others):,} files are skipped because of their name or folder"
    return render.panel(
        title,
        f"{holdings.root}: {_amount(streams)}",
        "bad" if problems else "warn" if others else "good" if streams.height else "idle",
        render.table(head, rows, numeric=range(len(head) - 3, len(head))),
        render.details("bad", left_out, problems) if problems else "",
        render.details("warn", unread, others) if others else "",
    )


def _amount(streams: pl.DataFrame) -> str:
    if not streams.height:
        return "no file of the archive is here"
    files, size = int(streams["files"].sum()), render.size(int(streams["bytes"].sum()))
    return f"{streams.height:,} streams, {files:,} files, {size}"


def store(folder: str | Path, **options: Any) -> OpenStore:
    """Look at what a folder in the archive's layout holds.

    Parameters
    ----------
    folder : str or Path
        Filled by `collect`, or by any other tool in the bucket's layout.
    **options
        ``cache`` (True), ``cache_limit`` (bytes), ``prefer`` ("daily" or "monthly"),
        ``on_error`` ("raise" or "skip") and ``decimals`` (False), see `Holdings`.

    Returns
    -------
    OpenStore
        Shows itself in a notebook; takes the place of the folder in `connect` and `scan`.

    Raises
    ------
    ConfigurationError
        If there is no such folder, or an option cannot be meant.
    """
    return _open(folder, options)


def connect(
    source: Source,
    *,
    database: str | Path | None = None,
    distinct: bool = False,
    known_at: bool = False,
    **options: Any,
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB connection with a view for each feed of the archive.

    Views are called ``spot_klines``, ``futures_um_agg_trades``, ``options_bvol_index`` and
    so on; ``store_streams`` says which of them have rows. Each has the columns ``market,
    symbol, interval, date, partition, file`` and those of its files; their meaning and
    unit stand in the catalogue (``duckdb_columns()``) for feeds that have files by then.

    Two macros come with them: ``FROM ohlcv('spot_klines', 'BTCUSDT', '1m', INTERVAL 4 HOUR)``
    makes longer candles of short ones, and ``vwap(quote_volume, volume)`` is the mean price.
    Conditions on the path columns, and on the time columns, decide which files are opened.
    Files that arrive later are in the next query.

    Parameters
    ----------
    source : str, Path or Holdings
        A store's folder, or what `store` gives of it.
    database : str or Path, optional
        A file for your own tables and views; opened again with `connect`, views over the
        archive work as before. None keeps them in memory.
    distinct : bool
        Drop exact repeats of rows of metrics and liquidation snapshots.
    known_at : bool
        Add the column ``known_at`` to each view: when a live participant could have had the
        row, UTC. A condition on it opens all files; one on the time of the feed does not.
    **options
        As for `store`.

    Returns
    -------
    duckdb.DuckDBPyConnection
        A plain connection: cursors and threads see the views too. Its time zone is UTC,
        timestamps are naive and UTC, prices and amounts are DOUBLE. In a notebook it shows
        which views have rows.

    Raises
    ------
    ConfigurationError
        If there is no such folder, or an option cannot be meant.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> con = bak.connect("data/research")  # doctest: +SKIP
    >>> con.sql(
    ...     "SELECT date, max(high) FROM spot_klines WHERE symbol = 'BTCUSDT' GROUP BY ALL"
    ... ).pl()  # doctest: +SKIP
    """
    connection = open_views(
        _holdings(source, options), database=database, distinct=distinct, known_at=known_at
    )
    if (shell := running_shell()) is not None:
        show_connections(shell)
    return connection


def scan(
    source: Source,
    market: str,
    data_type: str,
    *,
    symbols: str | Collection[str] | None = None,
    intervals: str | Collection[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    distinct: bool = False,
    known_at: bool = False,
    **options: Any,
) -> pl.LazyFrame:
    """Scan a feed of a store as a Polars frame, lazily.

    Parameters
    ----------
    source : str, Path or Holdings
        A store's folder, or what `store` gives of it.
    market, data_type : str
        Such as "futures_um" and "trades".
    symbols, intervals : str or collection of str, optional
        Only these; None for all that are there.
    start, end : str, date or datetime, optional
        UTC. Days (``"2025-07-01"``) are both inclusive; of moments
        (``"2025-07-01 12:00"``) the end is exclusive. Held against the column that rows
        are ordered by, such as ``open_time``.
    distinct : bool
        Drop exact repeats of rows.
    known_at : bool
        Add the column ``known_at``: when a live participant could have had each row, UTC.
    **options
        As for `store`.

    Returns
    -------
    polars.LazyFrame
        Path columns, then the feed's own; times are ``Datetime("us", "UTC")``. Filters and
        selections reach the files: what they rule out is not opened, or not parsed.

    Raises
    ------
    ConfigurationError
        If the archive has no such feed, or the store no file of it, of a symbol or of an
        interval.
    FileError
        When collected: for a file that is not what its name says.
    """
    holdings = _holdings(source, options)
    feed = holdings.feed(market, data_type)
    chosen = _choice(holdings, feed, symbols, intervals, start, end)
    if known_at:
        # Of metrics, all labels of a file show which end of a period they stand for.
        around = _DAY if feed.schema.known.rule == "metrics_label" else timedelta(0)
        whole = scan(
            holdings,
            market,
            data_type,
            symbols=symbols,
            intervals=intervals,
            start=chosen.start and chosen.start - around,
            end=chosen.end and chosen.end + around,
            distinct=distinct,
        )
        return whole.with_columns(known_at_of(feed)).filter(*_conditions(feed, chosen))

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        return _frames(holdings, feed, chosen, columns, predicate, rows)

    frame = register_io_source(read, schema=feed.polars, is_pure=True)
    for condition in _conditions(feed, chosen):
        frame = frame.filter(condition)
    if distinct:
        frame = frame.unique(maintain_order=True)
    return frame


def load_klines(
    source: Source,
    symbol: str,
    interval: str,
    *,
    market: str = "spot",
    data_type: str = "klines",
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Load the candles of one symbol.

    Parameters
    ----------
    source : str, Path or Holdings
    symbol, interval : str
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
        A row for each candle there is, in the order of ``open_time``; candles that the
        archive lacks are not made up.

    Raises
    ------
    ConfigurationError
        If the store has no such candles.
    FileError
        For a file that is not what its name says.
    """
    holdings = _holdings(source, options)
    feed = holdings.feed(market, data_type)
    if not feed.data_type.has_intervals:
        families = [each for each in DataType if each.has_intervals]
        raise ConfigurationError(unknown("data_type", data_type, families))
    candles = scan(
        holdings, market, data_type, symbols=symbol, intervals=interval, start=start, end=end
    )
    found = candles.drop(*PATH_COLUMNS).sort("open_time").collect()
    if found.is_empty():
        raise ConfigurationError(
            f"{symbol} {interval}: the store has {_reach(holdings, feed, symbol, interval)}, and "
            f"no candle between {start or 'its beginning'} and {end or 'its end'}"
        )
    return found


def ohlcv(
    source: Source,
    symbol: str,
    every: str,
    *,
    market: str = "spot",
    start: Moment | None = None,
    end: Moment | None = None,
    interval: str | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Resample candles to a longer length.

    They are made from the candles whose files cover most of the days asked for, of these the
    finest, and only from such as fit into `every` a whole number of times.

    Parameters
    ----------
    source : str, Path or Holdings
    symbol : str
    every : str
        Length of the new candles as Polars spells it: ``"90m"``, ``"4h"``, ``"1d"``, ``"1w"``,
        ``"1mo"``. They begin at multiples of it, weeks on Mondays.
    market : str
    start, end : str, date or datetime, optional
        Of ``open_time``, UTC; as for `scan`.
    interval : str, optional
        Interval of the candles to make them from.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        ``open_time``, ``open``, ``high``, ``low``, ``close``, the sums of the amounts and
        counts, ``vwap`` (quote volume per volume; not for COIN-M, whose volume is in
        contracts) and ``candles``: how many went into each, so that one with holes shows.

    Raises
    ------
    ConfigurationError
        If the store has no candles of the symbol that fit into `every`.
    """
    holdings = _holdings(source, options)
    feed = holdings.feed(market, DataType.KLINES)
    chosen = _choice(holdings, feed, symbol, interval, start, end)
    fitting = _fitting(holdings.streams(feed), chosen, every)
    candles = load_klines(holdings, symbol, fitting, market=market, start=start, end=end)
    sums = [name for name in candles.columns if name.endswith("volume") or name == "count"]
    grown = candles.group_by_dynamic("open_time", every=every).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col(sums).sum(),
        pl.len().alias("candles"),
    )
    if "quote_volume" in sums:
        # A candle without trades has no mean price.
        traded = pl.when(pl.col("volume") > 0).then(pl.col("volume"))
        grown = grown.with_columns((pl.col("quote_volume") / traded).alias("vwap"))
    return grown


def klines_with_funding(
    source: Source,
    symbol: str,
    interval: str,
    *,
    market: str = "futures_um",
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Load candles, each with the latest funding that was known when it opened.

    Parameters
    ----------
    source, symbol, interval, market, start, end, **options
        As for `load_klines`.

    Returns
    -------
    polars.DataFrame
        As `load_klines`, with ``calc_time``, ``funding_interval_hours`` and
        ``last_funding_rate`` of the latest funding at or before ``open_time``; null where
        the store has none before, and where a later one was due that the store lacks.

    Raises
    ------
    ConfigurationError
        If the store has no such candles, or no funding of the symbol.
    FileError
        For a file that is not what its name says.
    """
    holdings = _holdings(source, options)
    candles = load_klines(holdings, symbol, interval, market=market, start=start, end=end)
    funding = scan(holdings, market, DataType.FUNDING_RATE, symbols=symbol)
    known = funding.drop(*PATH_COLUMNS).sort("calc_time").collect()
    hours = pl.max_horizontal("funding_interval_hours", pl.col("funding_interval_hours").shift(-1))
    stale = (pl.col("calc_time") + pl.duration(hours=hours) + _LATE).alias("stale")
    joined = candles.join_asof(
        known.with_columns(stale), left_on="open_time", right_on="calc_time", coalesce=False
    )
    fresh = pl.when(pl.col("open_time") < pl.col("stale"))
    return joined.with_columns(fresh.then(pl.col(name)).alias(name) for name in known.columns).drop(
        "stale"
    )


# What is asked for


def _open(folder: str | Path, options: dict[str, Any]) -> OpenStore:
    for name in options:
        if name not in _OPTIONS:
            raise ConfigurationError(unknown("option", name, _OPTIONS))
    return OpenStore(folder, **options)


def _holdings(source: Source, options: dict[str, Any]) -> Holdings:
    if not isinstance(source, Holdings):
        return _open(source, options)
    if options:
        raise ConfigurationError(
            f"{', '.join(options)}: a store that is open already has its options; "
            "give them to store(...)"
        )
    return source


def _choice(
    holdings: Holdings,
    feed: Feed,
    symbols: str | Collection[str] | None,
    intervals: str | Collection[str] | None,
    start: Moment | None,
    end: Moment | None,
) -> Range:
    """Read what is asked for, and see that the store has files of it."""
    streams = [held.stream for held in holdings.streams(feed)]
    if not streams:
        raise ConfigurationError(holdings.nothing_of(feed))
    asked_symbols = _words(symbols)
    asked_intervals = _words(intervals)
    if asked_intervals is not None:
        asked_intervals = frozenset(INTERVAL_ALIASES.get(each, each) for each in asked_intervals)
    known_symbols = sorted({stream.symbol for stream in streams})
    for symbol in sorted(asked_symbols or ()):
        if symbol not in known_symbols:
            said = unknown(f"symbols of {feed.view}", symbol, known_symbols)
            raise ConfigurationError(f"{said}{holdings.skipped_hint(symbol)}")
    known = {s.interval for s in streams if asked_symbols is None or s.symbol in asked_symbols}
    there = [interval for interval in Interval if interval in known]
    for interval in sorted(asked_intervals or ()):
        if interval not in there:
            raise ConfigurationError(unknown(f"intervals of {feed.view}", interval, there))
    first, last = read_moment("start", start), read_moment("end", end)
    until = last + _DAY if last is not None and is_day(end) else last
    if first is not None and until is not None and first >= until:
        raise ConfigurationError(f"start: {start} is not before end: {end}")
    return Range(asked_symbols, asked_intervals, first, until)


def _words(words: str | Collection[str] | None) -> frozenset[str] | None:
    if words is None:
        return None
    return frozenset([words] if isinstance(words, str) else words)


def read_moment(name: str, value: Moment | None) -> datetime | None:
    """Read a day or a moment as naive UTC.

    >>> read_moment("start", "2025-07-01 12:00"), read_moment("start", date(2025, 7, 1))
    (datetime.datetime(2025, 7, 1, 12, 0), datetime.datetime(2025, 7, 1, 0, 0))
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigurationError(_no_moment(name, value)) from None
    elif not isinstance(value, date):
        raise ConfigurationError(_no_moment(name, value))
    elif not isinstance(value, datetime):
        value = datetime.combine(value, datetime.min.time())
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _no_moment(name: str, value: object) -> str:
    return f"{name}: {value!r} is neither a day nor a moment; write 2025-07-01 or 2025-07-01T12:00"


def is_day(value: Moment | None) -> bool:
    """Tell whether a value names a whole day, in any of the ways that ISO 8601 has.

    >>> is_day("2025-07-15"), is_day("20250715"), is_day("2025-07-15T00:00")
    (True, True, False)
    """
    if isinstance(value, str):
        try:
            date.fromisoformat(value)
        except ValueError:
            return False
        return True
    return isinstance(value, date) and not isinstance(value, datetime)


def _conditions(feed: Feed, chosen: Range) -> Iterator[pl.Expr]:
    """Spell what is asked for as conditions on rows."""
    if chosen.symbols is not None:
        yield pl.col("symbol").is_in(sorted(chosen.symbols))
    if chosen.intervals is not None:
        yield pl.col("interval").is_in(sorted(chosen.intervals))
    time = pl.col(feed.time)
    if chosen.start is not None:
        yield time >= chosen.start.replace(tzinfo=UTC)
    if chosen.end is not None:
        yield time < chosen.end.replace(tzinfo=UTC)


def _length(every: str) -> timedelta:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    try:
        [end] = pl.Series([start]).dt.offset_by(every)
    except pl.exceptions.PolarsError as error:
        raise ConfigurationError(f"every: {every!r} is no length of time: {error}") from None
    length: timedelta = end - start
    return length


def _fitting(streams: Sequence[HeldStream], chosen: Range, every: str) -> Interval:
    """Choose the candles of a symbol to make longer ones from."""
    days: dict[Interval, set[date]] = {}
    for held in streams:
        groups = [[file] for file in held.files]
        kept = [
            file for [file], keep in zip(groups, chosen.keeps(held, groups), strict=True) if keep
        ]
        if kept:
            own = days.setdefault(Interval(held.stream.interval or ""), set())
            own.update(day for file in kept for day in _days_within(file, chosen))
    there = [interval for interval in Interval if interval in days]
    fitting = [interval for interval in there if _fits(interval, every)]
    if there and not fitting:
        raise ConfigurationError(
            f"every: {every!r} is no whole multiple of the candles that the store has of "
            f"{', '.join(chosen.symbols or ())}: {', '.join(there)}; {_nearest(there[0], every)}"
        )
    return max(fitting, key=lambda interval: len(days[interval]), default=Interval.M1)


def _days_within(file: HeldFile, chosen: Range) -> Iterator[date]:
    first = file.start if chosen.start is None else max(file.start, chosen.start.date())
    last = file.end if chosen.end is None else min(file.end, chosen.end.date())
    yield from (first + timedelta(days=at) for at in range((last - first).days + 1))


def _fits(interval: Interval, every: str) -> bool:
    """Tell whether candles never reach over the end of a longer one.

    >>> _fits(Interval.H1, "4h"), _fits(Interval.H1, "90m"), _fits(Interval.D1, "1mo")
    (True, False, True)
    """
    length = _length(every)
    if interval is Interval.W1:
        return re.fullmatch(r"\d+w", every) is not None
    if interval is Interval.MO1:
        return re.fullmatch(r"\d+(mo|q|y)", every) is not None
    # Nobody promises on which days candles of three days begin.
    return interval is not Interval.D3 and not length % _length(interval)


def _nearest(interval: Interval, every: str) -> str:
    """Say which lengths would do."""
    if interval in (Interval.D3, Interval.W1, Interval.MO1):
        return "weeks are made of 1w, months of 1mo, and nothing of 3d, which begin on any day"
    number, unit = int(interval[:-1]), interval[-1]
    times = _length(every) // _length(interval)
    return "write " + " or ".join(f"{number * at}{unit}" for at in (times, times + 1) if at)


def _reach(holdings: Holdings, feed: Feed, symbol: str, interval: str) -> str:
    """Say which days the files of a symbol and interval cover."""
    files = [
        file
        for held in holdings.streams(feed)
        if held.stream.symbol == symbol and held.stream.interval == interval
        for file in held.files
    ]
    return f"files of {min(f.start for f in files)} to {max(f.end for f in files)}"


# Rows


def _frames(
    holdings: Holdings,
    feed: Feed,
    chosen: Range,
    columns: list[str] | None,
    predicate: pl.Expr | None,
    rows: int | None,
) -> Iterator[pl.DataFrame]:
    """Give the rows that Polars asks for, as they are read."""
    names = list(feed.polars) if columns is None else columns
    pruner: Pruner = chosen
    if predicate is not None:
        pruner = Both(chosen, PolarsPruner(predicate, feed.time))
        predicate = without_hints(predicate)
    left = rows
    looked_at = list(names)
    if predicate is not None:
        looked_at += [name for name in predicate.meta.root_names() if name not in names]
    with closing(holdings.scan(feed, looked_at, pruner)) as batches:
        for batch in batches:
            frame = _polars_frame(batch, feed)
            if predicate is not None:
                frame = frame.filter(predicate)
            frame = frame.select(names)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame
            if left == 0:
                return


def _polars_frame(batch: pa.RecordBatch, feed: Feed) -> pl.DataFrame:
    """Turn a batch into a frame of the feed's Polars types."""
    frame = pl.from_arrow(batch)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"{type(frame)} instead of a frame")
    wanted = {name: dtype for name, dtype in feed.polars.items() if name in frame.columns}
    return frame.with_columns(
        pl.col(name).dt.replace_time_zone("UTC")
        if isinstance(dtype, pl.Datetime)
        else pl.col(name).cast(dtype)
        for name, dtype in wanted.items()
        if frame.schema[name] != dtype
    )
