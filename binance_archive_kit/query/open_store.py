"""From a store to rows: `store` shows what is there, `connect` gives SQL, `scan` frames.

Everything reads the zips as they lie in the folder, one that `collect` filled or one that
any other tool filled in the bucket's layout. Times are UTC, at microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from binance_archive_kit.archive.enums import Interval, read_interval, read_names
from binance_archive_kit.display import render
from binance_archive_kit.display.progress import running_shell
from binance_archive_kit.errors import ConfigurationError, check_flag, nearest, shown, unknown
from binance_archive_kit.query.duckdb_views import open_views, show_connections
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import And, PolarsPruner, Pruner, Selection, without_hints
from binance_archive_kit.reading.feed_table import FILE_COLUMNS, FeedTable
from binance_archive_kit.reading.known_times import known_at_of
from binance_archive_kit.storage.skipped import SkippedFile

if TYPE_CHECKING:
    import duckdb

Moment = str | date | datetime
Source = str | Path | Engine
_DAY = timedelta(days=1)
_LAST_DAY = datetime(datetime.max.year, 12, 31)
_OPTIONS = ("cache", "cache_limit", "prefer", "on_error", "decimals")
#: Streams up to which each is shown in a line of its own, and names up to which all are listed.
_FEW = 24
#: Characters from which on a name is none.
_LONG = 120


class OpenStore(Engine):
    """A store that is open for questions: what `store` gives.

    Its parts are had by name, with completion: ``store["spot"]["klines"]["BTCUSDT"]``.
    """

    def __getitem__(self, word: str) -> StorePart:
        """Give the part under a market."""
        return StorePart(self)[word]

    def __iter__(self) -> Iterator[str]:
        """Give the markets there are."""
        return iter(StorePart(self))

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


class StorePart:
    """A part of a store: all its files under some words, such as a market and a data type.

    Parameters
    ----------
    engine : Engine
    words : tuple of str
        Market, data type, symbol and interval, as many as are chosen.
    """

    def __init__(self, engine: Engine, words: tuple[str, ...] = ()) -> None:
        self._holdings = engine
        self.words = words

    def frame(self) -> pl.DataFrame:
        """Say what is there: a row for each stream, as `Engine.frame` does."""
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

    def __getitem__(self, word: str) -> StorePart:
        """Give the part under one more word."""
        if len(self.words) == len(_LEVELS):
            raise ConfigurationError(f"{self!r} has no parts")
        if word not in (there := list(self)):
            guess = nearest(word, there)
            hint = f"; did you mean {guess!r}?" if guess else "."
            raise ConfigurationError(
                f"{_LEVELS[len(self.words)]}: {shown(word)} is not in the store{hint} "
                f"It has: {', '.join(there) or 'nothing'}"
            )
        return StorePart(self._holdings, (*self.words, word))

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
    engine: Engine, title: str, streams: pl.DataFrame, skipped: Sequence[SkippedFile] = ()
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
    problems = [str(error) for error in engine.problems.values()]
    left_out = f"{len(problems):,} files are left out of answers"
    others = [f"{path}: {reason}; {advice}" for path, reason, advice in skipped]
    unread = f"{len(others):,} files are skipped because of their name or folder"
    return render.panel(
        title,
        f"{engine.root}: {_amount(streams)}",
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
        ``on_error`` ("raise" or "skip") and ``decimals`` (False), see `Engine`.

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
    makes longer candles of short ones as `binance_archive_kit.ohlcv` does, from one interval
    or a list, of one symbol or a list; and ``vwap(quote_volume, volume)`` is the mean price.
    Conditions on the path columns, and on the time columns, decide which files are opened.
    Files that arrive later are in the next query.

    Parameters
    ----------
    source : str, Path or Engine
        A store's folder, or what `store` gives of it.
    database : str or Path, optional
        A file for your own tables and views; opened again with `connect`, views over the
        archive work as before. None keeps them in memory.
    distinct : bool
        Drop exact repeats of rows, of liquidation snapshots and of every feed whose rows have
        a key: rows equal in every column but the file and its partition. Different rows with
        one key all stay.
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
        which views have rows. Frames whose times have a zone compare by moment, which is
        slow; `binance_archive_kit.sql` converts them, and gives answers with UTC times.

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
    check_flag("distinct", distinct)
    check_flag("known_at", known_at)
    connection = open_views(
        opened(source, options), database=database, distinct=distinct, known_at=known_at
    )
    if (shell := running_shell()) is not None:
        show_connections(shell)
    return connection


def scan(
    source: Source,
    market: str,
    data_type: str,
    *,
    symbols: str | Iterable[str] | None = None,
    intervals: str | Iterable[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    distinct: bool = False,
    known_at: bool = False,
    **options: Any,
) -> pl.LazyFrame:
    """Scan a feed of a store as a Polars frame, lazily.

    Parameters
    ----------
    source : str, Path or Engine
        A store's folder, or what `store` gives of it.
    market, data_type : str
        Such as "futures_um" and "trades".
    symbols, intervals : str or iterable of str, optional
        Only these; None for all that are there.
    start, end : str, date or datetime, optional
        UTC. Days (``"2025-07-01"``) are both inclusive; of moments
        (``"2025-07-01 12:00"``) the end is exclusive. Held against the column that rows
        are ordered by, such as ``open_time``.
    distinct : bool
        Drop exact repeats of rows: equal in every column but the file and its partition. Of
        rows that repeat each other the first stays; different rows with one key all stay.
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
    check_flag("distinct", distinct)
    check_flag("known_at", known_at)
    engine = opened(source, options)
    feed = engine.feed(market, data_type)
    chosen = read_choice(engine, feed, symbols, intervals, start, end)
    if known_at:
        # Of metrics, all labels of a file show which end of a period they stand for.
        around = _DAY if feed.schema.known.rule == "metrics_label" else timedelta(0)
        whole = scan(
            engine,
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
        return _frames(engine, feed, chosen, columns, predicate, rows)

    frame = register_io_source(read, schema=feed.polars, is_pure=True)
    for condition in _conditions(feed, chosen):
        frame = frame.filter(condition)
    if distinct:
        same = [name for name in feed.polars if name not in FILE_COLUMNS]
        frame = frame.unique(same, keep="first", maintain_order=True)
    return frame


# What is asked for


def _open(folder: str | Path, options: dict[str, Any]) -> OpenStore:
    for name in options:
        if name not in _OPTIONS:
            raise ConfigurationError(unknown("option", name, _OPTIONS))
    return OpenStore(folder, **options)


def opened(source: Source, options: dict[str, Any]) -> Engine:
    """Open a store; return one that is open already as it is.

    Raises
    ------
    ConfigurationError
        If there is no such folder, an option is invalid, or a store that is open gets any.
    """
    if not isinstance(source, Engine):
        return _open(source, options)
    if options:
        raise ConfigurationError(
            f"{', '.join(options)}: a store that is open already has its options; "
            "give them to store(...)"
        )
    return source


def read_choice(
    engine: Engine,
    feed: FeedTable,
    symbols: str | Iterable[str] | None,
    intervals: str | Iterable[str] | None,
    start: Moment | None,
    end: Moment | None,
) -> Selection:
    """Read what is asked for, and see that the store has files of it."""
    streams = [held.folder for held in engine.folders(feed)]
    if not streams:
        raise ConfigurationError(engine.nothing_of(feed))
    asked_symbols = _asked("symbols", symbols)
    asked_intervals = _asked("intervals", intervals)
    if asked_intervals is not None:
        asked_intervals = frozenset(map(read_interval, asked_intervals))
    known_symbols = sorted({folder.symbol for folder in streams})
    for symbol in sorted(asked_symbols or ()):
        if symbol not in known_symbols:
            said = _not_there(feed, "symbols", symbol, known_symbols, asked_intervals)
            raise ConfigurationError(f"{said}{engine.skipped_hint(symbol)}")
    known = {s.interval for s in streams if asked_symbols is None or s.symbol in asked_symbols}
    there = [interval for interval in Interval if interval in known]
    for interval in sorted(asked_intervals or ()):
        if interval not in there:
            raise ConfigurationError(_not_there(feed, "intervals", interval, there, asked_symbols))
    first, last = read_moment("start", start), read_moment("end", end)
    until = last
    if last is not None and is_day(end):
        until = last + _DAY if last < _LAST_DAY else None
    if first is not None and until is not None and first >= until:
        raise ConfigurationError(f"start: {start} is not before end: {end}")
    return Selection(asked_symbols, asked_intervals, first, until)


def _asked(field: str, words: str | Iterable[str] | None) -> frozenset[str] | None:
    return None if words is None else frozenset(read_names(field, words))


def _not_there(
    feed: FeedTable, field: str, name: str, there: Sequence[str], others: Collection[str] | None
) -> str:
    """Format the message for a symbol or interval that is not in the store, with how to add it."""
    guess = nearest(name, there)
    hint = f"; did you mean {guess!r}?" if guess else "."
    more = f" and {len(there) - _FEW:,} more" if len(there) > _FEW else ""
    given = {"symbols": [name], "intervals": sorted(others or ())}
    if field == "intervals":
        given = {"symbols": sorted(others or ()), "intervals": [name]}
    wanted = f"symbols={_listed(given['symbols'])}" if given["symbols"] else "symbols=[…]"
    wanted = f'markets=["{feed.market}"], {wanted}, data_types=["{feed.data_type}"]'
    if feed.data_type.has_intervals:
        words = _listed(given["intervals"]) if given["intervals"] else "[…]"
        wanted += f', intervals={{"{feed.data_type}": {words}}}'
    of = f" of {', '.join(others)}" if others and field == "intervals" and len(others) == 1 else ""
    said = (
        f"{field} of {feed.view}{of}: {shown(str(name))} is not in the store{hint} "
        f"It has: {', '.join(there[:_FEW])}{more}."
    )
    return said if len(name) > _LONG else f"{said} To add it: collect({wanted}, …)"


def _listed(words: Sequence[str]) -> str:
    """Write names as a Python list."""
    if len(words) > _FEW:
        return "[…]"
    return f"[{', '.join(json.dumps(str(word), ensure_ascii=False) for word in words)}]"


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
    try:
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise ConfigurationError(_no_moment(name, value)) from None


def _no_moment(name: str, value: object) -> str:
    said = f"{name}: {shown(value)} is neither a day nor a moment"
    return f"{said}; write 2025-07-01 or 2025-07-01T12:00"


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


def _conditions(feed: FeedTable, chosen: Selection) -> Iterator[pl.Expr]:
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


# Rows


def _frames(
    engine: Engine,
    feed: FeedTable,
    chosen: Selection,
    columns: list[str] | None,
    predicate: pl.Expr | None,
    rows: int | None,
) -> Iterator[pl.DataFrame]:
    """Give the rows that Polars asks for, as they are read."""
    names = list(feed.polars) if columns is None else columns
    pruner: Pruner = chosen
    if predicate is not None:
        pruner = And(chosen, PolarsPruner(predicate, feed.time))
        predicate = without_hints(predicate)
    left = rows
    looked_at = list(names)
    if predicate is not None:
        looked_at += [name for name in predicate.meta.root_names() if name not in names]
    with closing(engine.scan(feed, looked_at, pruner)) as batches:
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


def _polars_frame(batch: pa.RecordBatch, feed: FeedTable) -> pl.DataFrame:
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
