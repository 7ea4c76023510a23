"""Open a store: `store` shows its contents, `connect` gives SQL, `scan` a lazy frame.

All three read the zips in place, from a folder that `collect` filled or that any other tool
filled in the bucket's layout, or from object storage. Times are UTC, in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from binance_archive_kit.display import render
from binance_archive_kit.display.summary import Fold, Summary, Table
from binance_archive_kit.errors import (
    ConfigurationError,
    arguments,
    check_flag,
    field_error,
    running_shell,
    shown,
)
from binance_archive_kit.query.duckdb_views import open_views, show_connections
from binance_archive_kit.query.engine import Engine, ReadOptions
from binance_archive_kit.query.polars_scan import Moment, parse_selection, scan_feed
from binance_archive_kit.query.scan_reader import ScanReport
from binance_archive_kit.storage.skipped import SkippedFile
from binance_archive_kit.suggestions import nearest
from binance_archive_kit.tables.tables import TableUse

if TYPE_CHECKING:
    import duckdb

#: Streams up to which each is shown in a line of its own.
_FEW = 24
#: Columns that count some of the files, with their titles.
_PARTS = {"proven": "proven", "tabled": "in tables"}
#: The names that select a part of a store, from the outermost to the innermost.
_LEVELS = ("market", "data_type", "symbol", "interval")


class StorePart:
    """A part of a store: the files of a market, a data type, a symbol or an interval.

    Parameters
    ----------
    engine : Engine
    words : tuple of str
        The chosen leading parts of (market, data type, symbol, interval).
    """

    def __init__(self, engine: Engine, words: tuple[str, ...] = ()) -> None:
        self.engine = engine
        self.words = words

    def frame(self) -> pl.DataFrame:
        """List the streams, one row each.

        Returns
        -------
        polars.DataFrame
            ``view``, ``market``, ``data_type``, ``partition``, ``symbol``, ``interval`` (text;
            null without intervals), ``first`` and ``last`` (dates: the first and the last UTC
            day that files cover), and as integers ``files``, ``bytes`` (their size on disk),
            ``proven`` (files whose proof is recorded and valid) and ``tabled`` (files whose
            rows are in tables).
        """
        streams = self.engine.frame()
        for level, word in zip(_LEVELS, self.words, strict=False):
            streams = streams.filter(pl.col(level) == word)
        return streams

    def scan(self, **choice: Any) -> pl.LazyFrame:
        """Scan the rows of this part lazily; takes the other parameters of `scan`.

        Raises
        ------
        ConfigurationError
            If the market or the data type is not chosen yet.
        """
        if len(self.words) < 2:
            level = _LEVELS[len(self.words)]
            raise field_error(level, f"choose a {level} first: {', '.join(self)}", label="")
        names = dict(zip(("symbols", "intervals"), self.words[2:], strict=False))
        return scan(OpenStore(self.engine), *self.words[:2], **(names | choice))

    def __getitem__(self, word: str) -> StorePart:
        """Return the part with one more word."""
        if len(self.words) == len(_LEVELS):
            raise ConfigurationError(f"{self!r} has no parts")
        if word not in (known := list(self)):
            guess = nearest(word, known)
            hint = f"; did you mean {guess!r}?" if guess else "."
            raise field_error(
                _LEVELS[len(self.words)],
                f"{shown(word)} is not in the store{hint} It has: {', '.join(known) or 'nothing'}",
            )
        return StorePart(self.engine, (*self.words, word))

    def __iter__(self) -> Iterator[str]:
        """Yield the words that may follow."""
        if len(self.words) < len(_LEVELS):
            yield from self.frame()[_LEVELS[len(self.words)]].drop_nulls().unique().sort()

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        return f"StorePart({' '.join(self.words)}: {render.counted(self.frame().height, 'stream')})"

    def _repr_html_(self) -> str:
        """Show the streams, feed by feed."""
        return _summary(self.engine, " ".join(self.words), self.frame()).to_html()


class OpenStore(StorePart):
    """An open store, returned by `store`.

    Its parts are looked up by name, with completion: ``store["spot"]["klines"]["BTCUSDT"]``.

    Attributes
    ----------
    root : Path or str
        The folder, or the URL.
    cache : StoreCache
        Has ``use()`` and ``clear()``.
    problems : dict of str to FileError
        Files that queries left out, by their path inside the store.
    last_scan : ScanReport or None
        The cost of the latest query.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.root = engine.root
        self.cache = engine.cache
        self.problems = engine.problems

    def __reduce__(self) -> tuple[type[Self], tuple[Engine]]:
        """Pickle the folder or the URL, and the options: the copy opens the store anew."""
        return type(self), (self.engine,)

    @property
    def last_scan(self) -> ScanReport | None:
        """The cost of the latest query; None before the first one."""
        return self.engine.last_scan

    def problems_frame(self) -> pl.DataFrame:
        """Return the files that queries left out: ``file``, ``reason``, ``detail`` (text)."""
        return self.engine.problems_frame()

    def last_scan_frame(self) -> pl.DataFrame:
        """Return the cost of the latest query as one row; no row before the first query.

        Returns
        -------
        polars.DataFrame
            ``view``, ``considered`` (files of the symbols and intervals that may match),
            ``opened`` (zips), ``cached`` (files whose rows came from tables), ``inflated``
            (bytes of csv), ``rows`` (returned), ``seconds`` and ``complete`` (whether all rows
            were read).
        """
        return self.engine.last_scan_frame()

    def skipped(self) -> list[SkippedFile]:
        """Return the files that are not read because of their name or folder, with advice.

        Raises
        ------
        ConfigurationError
            If the store lies in object storage, where only proven files are read.
        """
        if isinstance(self.root, str):
            raise field_error(
                "store",
                f"{self.root} is read by its records: other objects below it are no part of the "
                "store, whatever their names; copy a store into a folder to look for such files",
            )
        return self.engine.skipped()

    def build(
        self,
        market: str | None = None,
        data_type: str | None = None,
        *,
        symbols: str | Iterable[str] | None = None,
    ) -> TableUse:
        """Build columnar tables of the files, so that queries are as fast as on Parquet.

        Skips files whose rows are in tables already, and invalid files, with a warning. Shows
        its progress. Queries build the tables themselves when they read many files a second
        time.

        In object storage, collections write the tables of candles, funding, metrics and the like
        themselves, and only this builds others. It also merges the small tables and records of
        many runs into few, so that queries need fewer requests; run it now and then, on one
        machine or several, while others read and collect. It may be interrupted. What was merged
        stays for a day, for those who still read it; the next build then deletes it.

        Parameters
        ----------
        market, data_type : str, optional
            Only these feeds. None for all; without a data type, trades and order-book feeds
            are left out, as they are large.
        symbols : str or iterable of str, optional
            Names, and patterns such as ``"*USDT"``; None for all.

        Returns
        -------
        TableUse
            The size of the tables: ``parts`` (files), ``bytes`` and ``limit`` (bytes).

        Raises
        ------
        ConfigurationError
            If the store has no such feed, or none of them has such a symbol.
        StoreError, DiskSpaceError
            If the tables cannot be written.
        """
        return self.engine.build(market, data_type, symbols)

    #: The name that `build` had before.
    warm = build

    def __repr__(self) -> str:
        streams = self.frame()
        proven = f"{int(streams['proven'].sum()):,} proven"
        skipped = len(self.engine.skipped())
        more = f", {skipped:,} files skipped: see skipped()" if skipped else ""
        return f"OpenStore({str(self.root)!r}: {_amount(streams)}, {proven}{more})"

    def _repr_html_(self) -> str:
        """Show the streams, feed by feed."""
        return _summary(self.engine, "Store", self.frame(), self.engine.skipped()).to_html()


#: Where rows come from: the folder or URL of a store, or an open one.
Source = str | Path | OpenStore


def _summary(
    engine: Engine, title: str, streams: pl.DataFrame, skipped: Sequence[SkippedFile] = ()
) -> Summary:
    """Lay out streams feed by feed, or one by one if they are few."""
    few = streams.height <= _FEW
    names = ["symbol", "interval"] if few else []
    feeds = streams.group_by("view", "partition", *names, maintain_order=True).agg(
        pl.col("symbol").n_unique().alias("symbols"),
        pl.col("first").min(),
        pl.col("last").max(),
        pl.col("files", "bytes", "proven", "tabled").sum(),
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
            *("all" if row[name] == row["files"] else f"{row[name]:,}" for name in _PARTS),
        )
        for row in feeds.iter_rows(named=True)
    ]
    head = ("view", "partition", *(names or ["symbols"]))
    head += ("first day", "last day", "files", "size", *_PARTS.values())
    problems = [str(error) for error in engine.problems.values()]
    left_out = f"{len(problems):,} files are left out of results"
    others = [f"{path}: {reason}; {advice}" for path, reason, advice in skipped]
    unread = f"{len(others):,} files are skipped because of their name or folder"
    return Summary(
        title,
        f"{engine.root}: {_amount(streams)}",
        "bad" if problems else "warn" if others else "good" if streams.height else "idle",
        [Table(head, rows, numeric=range(len(head) - 4, len(head)))],
        folds=[Fold(left_out, problems, "bad"), Fold(unread, others, "warn")],
    )


def _amount(streams: pl.DataFrame) -> str:
    if not streams.height:
        return "no file of the archive found"
    files, size = int(streams["files"].sum()), render.size(int(streams["bytes"].sum()))
    counts = render.counted(streams.height, "stream"), render.counted(files, "file")
    return ", ".join((*counts, size))


@arguments(store="folder")
def store(folder: str | Path, **options: Any) -> OpenStore:
    """Open a store: a folder in the archive's layout, or one in object storage.

    Parameters
    ----------
    folder : str or Path
        A folder that `collect`, or any other tool that uses the bucket's layout, has filled; or
        the URL (``"s3://bucket/prefix"``, as text) of a store that `collect` has filled.
        Credentials and endpoint are those of the environment (``AWS_ACCESS_KEY_ID`` …,
        ``AWS_ENDPOINT_URL_S3``).
    **options
        - ``cache`` (True): build columnar tables when many files are read again. In object
          storage: read the tables there, and keep what is known of files on this machine.
        - ``cache_limit`` (20 GiB): the largest size of the tables, in bytes; there is no limit
          in object storage.
        - ``prefer`` ("daily" or "monthly"): which file to use where a daily and a monthly file
          overlap; default ``daily``.
        - ``on_error`` ("raise" or "skip"): raise an error for an invalid file, the default, or
          leave it out.
        - ``decimals`` (False): return prices and amounts as exact decimals, not as floats.

    Returns
    -------
    OpenStore
        Displays its contents in a notebook; `connect`, `scan` and the loaders accept it in
        place of the folder.

    Raises
    ------
    ConfigurationError
        If there is no such folder, or an option is invalid.
    StoreError
        If object storage cannot be reached; the message says what to do.
    """
    return OpenStore(Engine(folder, ReadOptions.parse(options)))


@arguments(store="source")
def connect(
    source: Source,
    *,
    database: str | Path | None = None,
    distinct: bool = False,
    known_at: bool = False,
    **options: Any,
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB connection with a view for each feed of the archive.

    Views are named ``spot_klines``, ``futures_um_agg_trades``, ``options_bvol_index`` and so
    on; ``store_streams`` lists the streams in the store, and ``store_universe`` its symbols with
    base and quote asset, kind of contract and days. Each view has the columns
    ``market, symbol, interval, date, partition, file`` and those of its files. The comments in
    ``duckdb_columns()`` describe meaning and unit of each column, for feeds that have files
    when the connection is opened.

    Two macros are defined. ``FROM ohlcv('spot_klines', 'BTCUSDT', '1m', INTERVAL 4 HOUR)``
    resamples candles as `binance_archive_kit.ohlcv` does, from one interval or a list, of one
    symbol or a list. ``vwap(quote_volume, volume)`` is the volume-weighted mean price.

    Conditions on the path columns and the time columns select the files to open. Files that
    are added later appear in the next query.

    Parameters
    ----------
    source : str, Path or OpenStore
        The folder or URL of a store, or an open store.
    database : str or Path, optional
        A file that stores your own tables and views; None keeps them in memory. The archive
        views work only if the file is opened with `connect`.
    distinct : bool
        Drop rows that are equal in every column except file and partition. Applies to
        liquidation snapshots and to feeds with a key. Different rows with the same key all stay.
    known_at : bool
        Add the column ``known_at`` to each view: the earliest time (UTC) at which a live
        participant could have had the row. Conditions on ``known_at`` do not limit the files
        opened; conditions on the time column do.
    **options
        As for `store`.

    Returns
    -------
    duckdb.DuckDBPyConnection
        A plain connection; its cursors and other threads see the views too. Its time zone is
        UTC, timestamps are UTC without a zone, prices and amounts are DOUBLE. In a notebook it
        displays which views have rows. Comparisons with times that have a zone are slow;
        `binance_archive_kit.sql` converts such times, and returns UTC times.

    Raises
    ------
    ConfigurationError
        If there is no such folder, or an option is invalid.

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
        open_engine(source, options), database=database, distinct=distinct, known_at=known_at
    )
    if (shell := running_shell()) is not None:
        show_connections(shell)
    return connection


@arguments(store="source", interval="intervals")
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
    source : str, Path or OpenStore
        The folder or URL of a store, or an open store.
    market, data_type : str
        Such as "futures_um" and "trades".
    symbols, intervals : str or iterable of str, optional
        Only these; None for all in the store.
    start, end : str, date or datetime, optional
        First and last UTC day, both inclusive (``"2025-07-01"``); or UTC times
        (``"2025-07-01 12:00"``), whose end is exclusive. They apply to the time column
        of the feed, such as ``open_time``.
    distinct : bool
        Drop exact duplicates, which are equal in every column except file and partition. The
        first of them stays. Different rows with the same key all stay.
    known_at : bool
        Add the column ``known_at``: the earliest time (UTC) at which a live participant could
        have had the row.
    **options
        As for `store`.

    Returns
    -------
    polars.LazyFrame
        The path columns ``market``, ``symbol``, ``interval``, ``date``, ``partition`` and
        ``file``, then the columns of the feed. Times are ``Datetime("us", "UTC")``, prices and
        amounts ``Float64``. Filters select the files to open, and only selected columns are
        parsed.

    Raises
    ------
    ConfigurationError
        If the archive has no such feed, or the store has no file of it, of a symbol or of an
        interval.
    FileError
        On ``collect()``: if a file is invalid, or its rows do not fit its name.
    """
    check_flag("distinct", distinct)
    check_flag("known_at", known_at)
    engine = open_engine(source, options)
    feed = engine.feed(market, data_type)
    selection = parse_selection(engine, feed, symbols, intervals, start, end)
    return scan_feed(engine, feed, selection, distinct=distinct, known_at=known_at)


def open_engine(source: Source, options: Mapping[str, Any]) -> Engine:
    """Return the engine of a store, opened if need be.

    Raises
    ------
    ConfigurationError
        If the folder does not exist, an option is invalid, or an open store is given options.
    """
    if not isinstance(source, OpenStore):
        return Engine(source, ReadOptions.parse(options))
    if options:
        raise field_error(
            next(iter(options)),
            "a store that is open already has its options; give them to store(...)",
            label=", ".join(options),
        )
    return source.engine
