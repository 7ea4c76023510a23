"""DuckDB over a store: one view for each feed, which reads the zips in place.

DuckDB sees each feed as an Arrow dataset. It passes on the columns and the conditions of a
query and takes batches of rows as they are read; nothing is unzipped on disk.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.schemas import load_schemas
from binance_archive_kit.archive.symbols import split_symbols
from binance_archive_kit.display import render
from binance_archive_kit.display.summary import Summary, Table
from binance_archive_kit.errors import DiskSpaceError, field_error, shown
from binance_archive_kit.paths import find_path
from binance_archive_kit.query.engine import PROBLEMS, SCANS, STREAMS, Engine
from binance_archive_kit.reading.feed_table import FILE_COLUMNS, FeedTable
from binance_archive_kit.reading.known_times import KNOWN_AT, known_at_sql

#: The feed whose rows have no key, and are known to come twice.
_DOUBLED = DataType.LIQUIDATION_SNAPSHOT
#: Database in memory that holds the views when the user's own database is a file.
_VIEWS = "archive"
#: The macros of every connection.
MACROS = Path(__file__).with_name("macros.sql")


class _Answer:
    """Rows as they are read, with the one method of a scanner that DuckDB calls."""

    def __init__(self, schema: pa.Schema, rows: Iterator[pa.RecordBatch]) -> None:
        self._schema = schema
        self._rows = rows

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._schema, self._rows)


#: The latest errors in reading rows. DuckDB passes on only their text.
_PASSED: deque[Exception] = deque(maxlen=64)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _in_arrow(rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Raise errors as Arrow errors, whose text DuckDB passes on unchanged."""
    try:
        yield from rows
    except Exception as error:
        _PASSED.append(error.with_traceback(None))
        raise pa.ArrowInvalid(_text(error)) from None


def original(error: duckdb.Error) -> Exception | None:
    """Return the error in reading rows that DuckDB passes on; None if it raised its own."""
    message = str(error)
    return next((passed for passed in reversed(_PASSED) if _text(passed) in message), None)


def full_disk(error: Exception) -> DiskSpaceError | None:
    """Return the error for a full disk if that is what DuckDB reports."""
    if os.strerror(errno.ENOSPC) in str(error):
        return DiskSpaceError(f"{error}; free some space, or choose another disk")
    return None


class FeedDataset(ds.InMemoryDataset):  # type: ignore[misc]
    """A feed of a store as DuckDB sees it, read again for every query.

    Parameters
    ----------
    engine : Engine
    feed : FeedTable
    """

    def __init__(self, engine: Engine, feed: FeedTable) -> None:
        super().__init__(feed.arrow.empty_table())
        self._engine = engine
        self._feed = feed

    def scanner(
        self, columns: Sequence[str] | None = None, filter: ds.Expression | None = None
    ) -> _Answer:
        """Start reading rows.

        Parameters
        ----------
        columns : sequence of str, optional
        filter : pyarrow.dataset.Expression, optional
            DuckDB relies on it: rows for which it is not true must not be returned.
        """
        names = self._feed.arrow.names if columns is None else list(columns)
        schema = pa.schema([self._feed.arrow.field(name) for name in names])
        try:
            rows = self._engine.scan(self._feed, names, where=filter)
        except Exception as error:
            _PASSED.append(error.with_traceback(None))
            raise
        return _Answer(schema, _in_arrow(rows))


class _StoreTable(ds.InMemoryDataset):  # type: ignore[misc]
    """A small table about a store, made again for every query."""

    def __init__(self, make: Callable[[], pl.DataFrame], columns: Mapping[str, Any]) -> None:
        super().__init__(pl.DataFrame(schema=columns).to_arrow())
        self._make = make

    def scanner(
        self, columns: Sequence[str] | None = None, filter: ds.Expression | None = None
    ) -> ds.Scanner:
        """Make the table, and scan it."""
        try:
            table = self._make().to_arrow()
        except Exception as error:
            _PASSED.append(error.with_traceback(None))
            raise
        return ds.dataset(table).scanner(columns=columns, filter=filter)


_UNIVERSE: dict[str, Any] = {
    **dict.fromkeys(("view", "symbol", "base", "quote", "contract"), pl.String),
    **dict.fromkeys(("first", "last"), pl.Date),
}


def _universe(engine: Engine) -> pl.DataFrame:
    """List the symbols of each view, with their assets and days."""
    streams = engine.frame().group_by("view", "market", "symbol", maintain_order=True)
    rows = []
    for (_, market), group in streams.agg(pl.col("first").min(), pl.col("last").max()).group_by(
        "view", "market", maintain_order=True
    ):
        parts = split_symbols(Market(str(market)), group["symbol"])
        for view, _, symbol, first, last in group.iter_rows():
            of = parts[symbol]
            rows.append((view, symbol, of.base, of.quote, of.contract, first, last))
    return pl.DataFrame(rows, schema=_UNIVERSE, orient="row")


@dataclass(frozen=True)
class _StoreTableInfo:
    """The comments, the types and the source of a small table about a store."""

    comment: str
    columns: dict[str, str]
    types: Mapping[str, Any]
    read: Callable[[Engine], pl.DataFrame]


_STORE_TABLES = {
    "store_streams": _StoreTableInfo(
        "The streams of the store, one row each.",
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
            "proven": "Files whose proof is recorded and valid.",
            "tabled": "Files whose rows are in tables.",
        },
        STREAMS,
        Engine.frame,
    ),
    "store_universe": _StoreTableInfo(
        "The symbols of the store, one row for each view.",
        {
            "view": "View that gives its rows.",
            "symbol": "Symbol.",
            "base": "Asset that is priced; NULL if it is not known.",
            "quote": "Asset of the price; NULL if it is not known.",
            "contract": "Kind of contract, such as spot, perpetual or settled.",
            "first": "First UTC day its files cover.",
            "last": "Last UTC day its files cover, inclusive.",
        },
        _UNIVERSE,
        _universe,
    ),
    "store_problems": _StoreTableInfo(
        "Files that were left out of answers, with the reason.",
        {
            "file": "Path inside the store.",
            "reason": "Kind of the error, in one word.",
            "detail": "What is wrong.",
        },
        PROBLEMS,
        Engine.problems_frame,
    ),
    "store_last_scan": _StoreTableInfo(
        "The cost of the latest query.",
        {
            "view": "View that was read.",
            "considered": "Files of the symbols and intervals that may match.",
            "opened": "Zips that were opened.",
            "cached": "Files whose rows came from tables.",
            "inflated": "Bytes of csv that were inflated.",
            "rows": "Rows returned.",
            "seconds": "Seconds from the query to the last row.",
            "complete": "Whether all rows were read.",
        },
        SCANS,
        Engine.last_scan_frame,
    ),
}


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
        Drop exact duplicates of rows, of every feed whose rows have a key.
    known_at : bool
        Add the column ``known_at``: when a live participant could have had each row.
    """
    home = ":memory:" if database is None else str(find_path("database", database))
    if "?" in home:
        raise field_error(
            "database", f"{shown(home)}: DuckDB takes what follows '?' for options; rename it"
        )
    try:
        connection = duckdb.connect(home)
    except (duckdb.Error, RuntimeError) as error:
        raise full_disk(error) or field_error(
            "database", f"{home!r} cannot be opened: {error}"
        ) from None
    try:
        # Times with a zone are compared with ours, which are UTC; this holds for cursors too.
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        _create_views(
            connection,
            engine,
            in_file=database is not None,
            distinct=distinct,
            known_at=known_at,
        )
    except BaseException as error:
        connection.close()
        if isinstance(error, duckdb.Error):
            raise full_disk(error) or field_error(
                "database", f"{home!r} cannot be used: {error}; give another file"
            ) from None
        raise
    return connection


def show_connections(shell: Any) -> None:
    """Register a formatter that shows connections with our views as a table in IPython."""
    shown = shell.display_formatter.formatters["text/html"]
    if duckdb.DuckDBPyConnection not in shown.type_printers:
        shown.for_type(duckdb.DuckDBPyConnection, connection_html)


def connection_html(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Return the views that have rows as HTML; None for a connection without our views."""
    try:
        # A cursor does not disturb an answer that is still being read.
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
    """Register a view for each feed."""
    [(home,)] = connection.execute("SELECT current_database()").fetchall()
    if in_file:
        # A view that reads this process cannot lie in a file, but one that reads such a view can.
        try:
            connection.execute(f"ATTACH ':memory:' AS {_VIEWS}; USE {_VIEWS}")
        except duckdb.BinderException:
            raise field_error(
                "database",
                f"a connection of this process has {home!r} open already; close it, or use its "
                "cursor()",
            ) from None
    comments: dict[str, tuple[str, dict[str, str]]] = {}
    with_files = {feed.view for feed in engine.feeds()}
    for market, data_type in load_schemas():
        feed = engine.feed(market, data_type)
        rows, columns = _feed_rows(connection, engine, feed, distinct=distinct, known_at=known_at)
        rows.create_view(feed.view, replace=True)
        # A comment costs more than the view, so columns get theirs only if there are files.
        comments[feed.view] = (
            (f"{market.title} {data_type}, straight from the zips.", columns)
            if feed.view in with_files
            else (f"{market.title} {data_type}; the store had no file of it.", {})
        )
    for name, info in _STORE_TABLES.items():
        table = _StoreTable(partial(info.read, engine), info.types)
        connection.from_arrow(table).create_view(name, replace=True)
        comments[name] = (info.comment, info.columns)
    if in_file:
        _create_links(connection, home, comments)
    _comment(connection, comments)
    connection.execute(MACROS.read_text("utf-8"))


def _feed_rows(
    connection: duckdb.DuckDBPyConnection,
    engine: Engine,
    feed: FeedTable,
    *,
    distinct: bool,
    known_at: bool,
) -> tuple[duckdb.DuckDBPyRelation, dict[str, str]]:
    """Return the rows of a feed, and the comments on their columns."""
    rows = connection.from_arrow(FeedDataset(engine, feed))
    columns = feed.column_comments
    if distinct and (feed.schema.key or feed.data_type is _DOUBLED):
        # Of the files that have a row, the first in the order of their names is given.
        rows = rows.aggregate(
            ", ".join(
                f"min({name}) AS {name}" if name in FILE_COLUMNS else quoted(name)
                for name in feed.arrow.names
            )
        )
    if known_at:
        rows = rows.project(f"*, {known_at_sql(feed)} AS {KNOWN_AT}")
        columns = columns | {KNOWN_AT: feed.schema.known.description}
    return rows, columns


def _create_links(connection: duckdb.DuckDBPyConnection, home: str, views: Iterable[str]) -> None:
    """Create views in the user's database file that read the views in memory."""
    connection.execute(f"USE {quoted(home)}")
    for name in views:
        try:
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS FROM {_VIEWS}.main.{name}")
        except duckdb.CatalogException as error:
            raise field_error(
                "database", f"it has something else under the name of a view: {error}"
            ) from None


def _comment(
    connection: duckdb.DuckDBPyConnection, comments: Mapping[str, tuple[str, dict[str, str]]]
) -> None:
    """Comment on views and their columns."""
    statements = ["BEGIN"]
    for view, (comment, columns) in comments.items():
        statements.append(f"COMMENT ON VIEW {view} IS {_literal(comment)}")
        statements += (
            f"COMMENT ON COLUMN {view}.{quoted(column)} IS {_literal(text)}"
            for column, text in columns.items()
        )
    connection.execute(";".join([*statements, "COMMIT"]))


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
