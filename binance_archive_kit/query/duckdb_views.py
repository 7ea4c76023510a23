"""DuckDB over a store: one view for each feed, over the zips as they lie there.

DuckDB sees each feed as an Arrow dataset. It hands over the columns and the conditions
of a query and takes batches of rows as they are read; nothing is unzipped on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.archive.enums import DataType
from binance_archive_kit.archive.schemas import load_schemas
from binance_archive_kit.display import render
from binance_archive_kit.display.summary import Summary, Table
from binance_archive_kit.errors import ArchiveKitError, ConfigurationError
from binance_archive_kit.paths import find_path
from binance_archive_kit.query.engine import PROBLEMS, SCANS, STREAMS, Engine
from binance_archive_kit.reading.feed_table import FILE_COLUMNS, FeedTable
from binance_archive_kit.reading.known_times import KNOWN_AT, known_at_sql

#: The feed whose rows have no key, and are known to come twice.
_DOUBLED = DataType.LIQUIDATION_SNAPSHOT
#: Database in memory that holds the views when the user's own database is a file.
_VIEWS = "archive"


class _Answer:
    """Rows on their way, in the form in which DuckDB takes them from a scanner."""

    def __init__(self, schema: pa.Schema, rows: Iterator[pa.RecordBatch]) -> None:
        self._schema = schema
        self._rows = rows

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._schema, self._rows)


#: The latest errors of ours that went through DuckDB, which passes on their words alone.
_PASSED: deque[ArchiveKitError] = deque(maxlen=64)


def _in_arrow(rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Raise what is wrong with a file as the engine passes it on: in its own words."""
    try:
        yield from rows
    except ArchiveKitError as error:
        _PASSED.append(error.with_traceback(None))
        raise pa.ArrowInvalid(f"{type(error).__name__}: {error}") from None


def original(error: duckdb.Error) -> ArchiveKitError | None:
    """Find the error of ours that DuckDB passes on; None if it raised its own."""
    said = str(error)
    return next((each for each in reversed(_PASSED) if str(each) in said), None)


class FeedDataset(ds.InMemoryDataset):  # type: ignore[misc]
    """A feed of a store, as DuckDB sees it; read anew for every query.

    Parameters
    ----------
    engine : Engine
    feed : FeedTable
    """

    def __init__(self, engine: Engine, feed: FeedTable) -> None:
        super().__init__(feed.arrow.empty_table())
        self._holdings = engine
        self._feed = feed

    def scanner(
        self, columns: Sequence[str] | None = None, filter: ds.Expression | None = None
    ) -> _Answer:
        """Begin an answer.

        Parameters
        ----------
        columns : sequence of str, optional
        filter : pyarrow.dataset.Expression, optional
            DuckDB relies on it: rows for which it is not true must not be given.
        """
        names = self._feed.arrow.names if columns is None else list(columns)
        schema = pa.schema([self._feed.arrow.field(name) for name in names])
        try:
            rows = self._holdings.scan(self._feed, names, where=filter)
        except ArchiveKitError as error:
            _PASSED.append(error.with_traceback(None))
            raise
        return _Answer(schema, _in_arrow(rows))


class _AboutDataset(ds.InMemoryDataset):  # type: ignore[misc]
    """A small table about a store, made anew for every query."""

    def __init__(self, make: Callable[[], pl.DataFrame], columns: Mapping[str, Any]) -> None:
        super().__init__(pl.DataFrame(schema=columns).to_arrow())
        self._make = make

    def scanner(
        self, columns: Sequence[str] | None = None, filter: ds.Expression | None = None
    ) -> ds.Scanner:
        """Make the table, and scan it."""
        return ds.dataset(self._make().to_arrow()).scanner(columns=columns, filter=filter)


@dataclass(frozen=True)
class _About:
    """A small table about a store: what it is, what its columns hold, where it comes from."""

    what: str
    columns: dict[str, str]
    types: Mapping[str, Any]
    read: Callable[[Engine], pl.DataFrame]


_ABOUT = {
    "store_streams": _About(
        "What the store has, a row for each stream.",
        {
            "view": "View that gives its rows.",
            "market": "Market.",
            "data_type": "Data type, as the archive spells it.",
            "partition": "Daily or monthly files.",
            "symbol": "Symbol.",
            "interval": "Interval; NULL where files have none.",
            "first": "First UTC day its files cover.",
            "last": "Last UTC day its files cover, inclusive.",
            "files": "Number of files.",
            "bytes": "Bytes of the zips.",
            "proven": "Files whose proof is recorded and still stands.",
        },
        STREAMS,
        Engine.frame,
    ),
    "store_problems": _About(
        "Files that were left out of answers, and why.",
        {
            "file": "Path inside the store.",
            "reason": "One word for the kind of trouble.",
            "detail": "What was seen.",
        },
        PROBLEMS,
        Engine.problems_frame,
    ),
    "store_last_scan": _About(
        "What the latest question has cost.",
        {
            "view": "View that was read.",
            "considered": "Files that serve it.",
            "opened": "Zips that were opened.",
            "cached": "Files whose rows came from the cache.",
            "inflated": "Bytes of csv that were inflated.",
            "rows": "Rows handed out.",
            "seconds": "Seconds from the question to the last row.",
            "complete": "Whether the question was answered to its end.",
        },
        SCANS,
        Engine.last_scan_frame,
    ),
}


#: What is written again and again, once. Volumes of COIN-M are contracts, as in its view.
#: A bar that ends within a candle would know what is after its end. Bars begin as the loader's
#: do. A candle that stands in several rows counts once if all that they say of it is equal.
#: Rows come in the order of time, so that a bar whose rows rise in time has each of them once:
#: only where they do not, rows are compared.
_MACROS = """
CREATE OR REPLACE MACRO vwap(value, amount) AS sum(value) / nullif(sum(amount), 0);
CREATE OR REPLACE MACRO _names(field, words) AS CASE
    WHEN typeof(words) = 'VARCHAR' THEN [CAST(words AS VARCHAR)]
    WHEN len(TRY_CAST(words AS VARCHAR[])) > 0 THEN TRY_CAST(words AS VARCHAR[])
    ELSE error(field || ': give one name or a list of names') END;
CREATE OR REPLACE MACRO _months(every) AS
    12 * datepart('year', every) + datepart('month', every);
CREATE OR REPLACE MACRO _fits(every, of) AS CASE
    WHEN _months(every) > 0 THEN of NOT IN ('3d', '1w')
    WHEN epoch_us(every) <= 0 OR of = '1mo' THEN false
    WHEN of = '3d' THEN epoch_us(every) = epoch_us(INTERVAL 3 DAY)
    ELSE epoch_us(every) % epoch_us(TRY_CAST(of AS INTERVAL)) = 0 END;
CREATE OR REPLACE MACRO _bar(open_time, every, of) AS CASE
    WHEN of = '3d' OR epoch_us(every) <= 0 THEN open_time
    ELSE time_bucket(
        every, open_time, CASE WHEN _months(every) = 0 AND epoch_us(every) % 604800000000 = 0
                               THEN TIMESTAMP '1970-01-05' ELSE TIMESTAMP '1970-01-01' END) END;
CREATE OR REPLACE MACRO _due(bar, every, of) AS CASE
    WHEN NOT _fits(every, of)
        THEN error('every: ' || CAST(every AS VARCHAR) || ' is no whole multiple of the interval '
                   || of)
    WHEN of = '1mo' THEN _months(every)
    ELSE epoch_us(bar + every - bar) // epoch_us(TRY_CAST(of AS INTERVAL)) END;
CREATE OR REPLACE MACRO ohlcv(bars, of_symbol, of_interval, every) AS TABLE
    WITH timed AS (
        SELECT symbol, interval, open_time, open, high, low, close, volume,
               hash(*COLUMNS(lambda name: name NOT IN
                   ('market', 'symbol', 'interval', 'date', 'partition', 'file'))) AS said,
               CASE WHEN open_time > lag(open_time) OVER () THEN 0 ELSE 1 END AS turn
        FROM query_table(bars)
        WHERE list_contains(_names('symbol', of_symbol), symbol)
          AND list_contains(_names('interval', of_interval), interval)
    ), placed AS MATERIALIZED (
        SELECT * EXCLUDE turn, _bar(open_time, every, interval) AS bar,
               sum(turn) OVER (ROWS UNBOUNDED PRECEDING) AS run
        FROM timed
    ), quick AS MATERIALIZED (
        SELECT symbol, interval, bar, arg_min(open, open_time) AS open, max(high) AS high,
               min(low) AS low, arg_max(close, open_time) AS close, sum(volume) AS volume,
               count(*) AS candles, min(run) = max(run) AS rises
        FROM placed GROUP BY symbol, interval, bar
    ), once AS (
        SELECT symbol, interval, bar, open_time, any_value(open) AS open, any_value(high) AS high,
               any_value(low) AS low, any_value(close) AS close, any_value(volume) AS volume,
               CASE WHEN min(said) = max(said) THEN 1
                   ELSE error(symbol || ' ' || interval || ': different candles with open_time '
                       || CAST(open_time AS VARCHAR)) END AS one
        FROM placed SEMI JOIN (FROM quick WHERE NOT rises) USING (symbol, interval, bar)
        GROUP BY symbol, interval, bar, open_time
    ), found AS (
        SELECT * EXCLUDE rises FROM quick WHERE rises
        UNION ALL
        SELECT symbol, interval, bar, arg_min(open, open_time), max(high), min(low),
               arg_max(close, open_time), sum(volume), CAST(sum(one) AS BIGINT)
        FROM once GROUP BY symbol, interval, bar
    )
    SELECT symbol, bar AS open_time, open, high, low, close, volume, candles,
           CAST(_due(bar, every, interval) AS BIGINT) AS expected_candles, interval
    FROM found ORDER BY symbol, interval, bar;
"""


def open_views(
    engine: Engine,
    *,
    database: str | Path | None = None,
    distinct: bool = False,
    known_at: bool = False,
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB connection with the views of a store.

    Parameters
    ----------
    engine : Engine
    database : str or Path, optional
        File for the user's own tables and views; None keeps them in memory.
    distinct : bool
        Drop exact repeats of rows, of every feed whose rows have a key.
    known_at : bool
        Add the column ``known_at``: when a live participant could have had each row.
    """
    home = ":memory:" if database is None else str(find_path("database", database))
    try:
        connection = duckdb.connect(home)
    except (duckdb.Error, RuntimeError) as error:
        raise ConfigurationError(f"database: {home!r} cannot be opened: {error}") from None
    try:
        # Moments with a zone are compared with ours, which are UTC; cursors heed it too.
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        _create_views(
            connection,
            engine,
            in_file=database is not None,
            distinct=distinct,
            known_at=known_at,
        )
    except BaseException:
        connection.close()
        raise
    return connection


def show_connections(shell: Any) -> None:
    """Have an IPython show connections with our views as tables, and all others as before.

    DuckDB's connections cannot show themselves in another way than they do, nor be made to.
    """
    shown = shell.display_formatter.formatters["text/html"]
    if duckdb.DuckDBPyConnection not in shown.type_printers:
        shown.for_type(duckdb.DuckDBPyConnection, connection_html)


def connection_html(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Show which views of a connection have rows; None if it has none of our views."""
    try:
        # A cursor, so that an answer which is still being read is left in peace.
        with connection.cursor() as cursor:
            rows = cursor.execute(
                """SELECT view, count(DISTINCT symbol), min("first"), max("last"), sum(files),
                          sum(bytes) FROM store_streams GROUP BY view ORDER BY view"""
            ).fetchall()
            [(database,)] = cursor.execute("SELECT current_database()").fetchall()
    except duckdb.Error:
        return None
    files, size = sum(row[4] for row in rows), sum(row[5] for row in rows)
    table = [
        (view, f"{symbols:,}", f"{first}", f"{last}", f"{count:,}", render.size(weight))
        for view, symbols, first, last, count, weight in rows
    ]
    head = ("view", "symbols", "first day", "last day", "files", "size")
    return Summary(
        f"DuckDB connection to {database}",
        f"{len(rows):,} views have rows, of {files:,} files, {render.size(size)}",
        "good" if rows else "idle",
        [Table(head, table, numeric={1, 4, 5})],
    ).to_html()


def _create_views(
    connection: duckdb.DuckDBPyConnection,
    engine: Engine,
    *,
    in_file: bool,
    distinct: bool,
    known_at: bool,
) -> None:
    [(home,)] = connection.execute("SELECT current_database()").fetchall()
    if in_file:
        # A view that reads this process cannot lie in a file, but one that reads such a view can.
        try:
            connection.execute(f"ATTACH ':memory:' AS {_VIEWS}; USE {_VIEWS}")
        except duckdb.BinderException:
            raise ConfigurationError(
                f"database: a connection of this process has {home!r} open already; close it, or "
                "use its cursor()"
            ) from None
    described: dict[str, tuple[str, dict[str, str]]] = {}
    there = {feed.view for feed in engine.feeds()}
    for market, data_type in load_schemas():
        feed = engine.feed(market, data_type)
        rows = connection.from_arrow(FeedDataset(engine, feed))
        if distinct and (feed.schema.key or data_type is _DOUBLED):
            # Of the files that have a row, the first in the order of their names is named.
            rows = rows.aggregate(
                ", ".join(
                    f"min({name}) AS {name}" if name in FILE_COLUMNS else _quoted(name)
                    for name in feed.arrow.names
                )
            )
        columns = feed.column_comments
        if known_at:
            rows = rows.project(f"*, {known_at_sql(feed)} AS {KNOWN_AT}")
            columns = columns | {KNOWN_AT: feed.schema.known.description}
        rows.create_view(feed.view, replace=True)
        # A comment costs more than the view, so the columns of what is not there go without.
        described[feed.view] = (
            (f"{market.title} {data_type}, straight from the zips.", columns)
            if feed.view in there
            else (f"{market.title} {data_type}; nothing of it was in the store.", {})
        )
    for name, about in _ABOUT.items():
        table = _AboutDataset(partial(about.read, engine), about.types)
        connection.from_arrow(table).create_view(name, replace=True)
        described[name] = (about.what, about.columns)
    if in_file:
        connection.execute(f"USE {_quoted(home)}")
        for name in described:
            try:
                connection.execute(f"CREATE OR REPLACE VIEW {name} AS FROM {_VIEWS}.main.{name}")
            except duckdb.CatalogException as error:
                raise ConfigurationError(
                    f"database: it has something else under the name of a view: {error}"
                ) from None
    comments = [
        comment
        for view, (what, columns) in described.items()
        for comment in (
            f"COMMENT ON VIEW {view} IS {_literal(what)}",
            *(
                f"COMMENT ON COLUMN {view}.{_quoted(column)} IS {_literal(said)}"
                for column, said in columns.items()
            ),
        )
    ]
    connection.execute(";".join(["BEGIN", *comments, "COMMIT"]))
    connection.execute(_MACROS)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
