"""Query a store in SQL and return a Polars frame: `sql`.

DuckDB's times have no zone and mean UTC; the times of our frames have the zone UTC. Both
directions are converted here, so that rows of either kind can be joined.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import duckdb
import numpy as np
import polars as pl

from binance_archive_kit.errors import field_error, shown
from binance_archive_kit.forks import check_process
from binance_archive_kit.query.duckdb_views import full_disk, original, quoted
from binance_archive_kit.query.open_store import Source, connect
from binance_archive_kit.reading.feed_table import PATH_TYPES
from binance_archive_kit.suggestions import nearest

_UTC = pl.Datetime("us", "UTC")
_NAIVE = pl.Datetime("us")
_MISSING_TABLE = re.compile(r"Table with name (.+) does not exist!(\nDid you mean .*)?")


def sql(
    source: Source | duckdb.DuckDBPyConnection,
    query: str,
    params: Sequence[object] | Mapping[str, object] | None = None,
    *,
    frames: Mapping[str, Any] | None = None,
    distinct: bool = False,
    known_at: bool = False,
    **options: Any,
) -> pl.DataFrame:
    """Run one SQL statement over a store, and return its rows as a frame.

    Parameters
    ----------
    source : str, Path, OpenStore or DuckDBPyConnection
        The folder or URL of a store, an open store, or a connection returned by `connect`.
    query : str
        One statement of DuckDB's SQL over the views that `connect` lists.
    params : sequence or mapping, optional
        Values for ``?`` or ``$1`` (a list or tuple) or ``$name`` (a mapping). Times with
        a zone are converted to UTC; times without a zone are taken as UTC.
    frames : mapping of str to frame, optional
        Polars, pandas or Arrow frames that the query may use as tables, by name. Unknown
        table names are looked up among the caller's variables.
        Times with a zone are converted to UTC; times without a zone are taken as UTC.
    distinct, known_at : bool
        As for `connect`.
    **options
        As for `store`; not for a connection, which has its options already.

    Returns
    -------
    polars.DataFrame
        The rows of the answer. A TIMESTAMP is ``Datetime("us", "UTC")``, an INTERVAL is
        ``Duration("us")``. Columns named ``market``, ``symbol``, ``interval``, ``partition`` and
        ``file`` have the types that `scan` returns, so results join with scans. Columns with other
        values keep DuckDB's type. For a statement that is not a query, the columns are those that
        DuckDB reports, such as ``Count``.

    Raises
    ------
    ConfigurationError
        If there is no such folder or an option is invalid. If the query is not exactly one
        statement, or DuckDB rejects it; the message shows the line with the error.
    FileError
        If a file is invalid, or its rows do not fit its name.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bak.sql(
    ...     "data/research",
    ...     "SELECT symbol, max(high) FROM spot_klines WHERE open_time >= $since GROUP BY ALL",
    ...     {"since": datetime(2025, 7, 1, tzinfo=UTC)},
    ... )  # doctest: +SKIP
    """
    values = _values(params)
    if frames is not None and not isinstance(frames, Mapping):
        raise field_error(
            "frames", f"a {type(frames).__name__} has no names; write frames={{'name': frame}}"
        )
    tables = {name: _table(name, frame) for name, frame in (frames or {}).items()}
    if isinstance(source, duckdb.DuckDBPyConnection):
        given = options | {"distinct": distinct, "known_at": known_at}
        if names := [name for name, value in given.items() if name in options or value]:
            raise field_error(
                names[0],
                "a connection has its options already; give them to connect(...)",
                label=", ".join(names),
            )
        return _answer(source, query, values, tables, sys._getframe(1))
    with connect(source, distinct=distinct, known_at=known_at, **options) as connection:
        return _answer(connection, query, values, tables, sys._getframe(1))


def _answer(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    values: Any,
    tables: dict[str, pl.DataFrame],
    caller: FrameType,
) -> pl.DataFrame:
    """Run a statement, with frames registered for its duration only."""
    registered: list[str] = []
    with our_errors(connection):
        check_statement(connection, query)
        [(replaced,)] = connection.sql(
            "SELECT current_setting('python_enable_replacements')"
        ).fetchall()
        # DuckDB would look among the variables of this module.
        connection.execute("SET python_enable_replacements = false").complete()
        try:
            for name, table in tables.items():
                _check_name(connection, name)
                connection.register(name, table)
                registered.append(name)
            while True:
                try:
                    return _rows(bound(connection, query, values))
                except duckdb.CatalogException as error:
                    name, found = _variable(error, caller)
                    if found is None or name in registered:
                        raise
                    connection.register(name, found)
                    registered.append(name)
        finally:
            for name in registered:
                connection.unregister(name)
            connection.execute(f"SET python_enable_replacements = {replaced}").complete()


def bound(
    connection: duckdb.DuckDBPyConnection, query: str, values: Any = None
) -> duckdb.DuckDBPyRelation | None:
    """Run a statement, and return its rows, not read yet.

    Raises
    ------
    duckdb.Error
        With the line at fault.
    """
    try:
        return connection.sql(query, params=values)
    except (duckdb.BinderException, duckdb.CatalogException):
        # A relation's error is without the line at fault; it had no effect, so ask once more.
        connection.execute(query, values).abort()
        raise


@contextmanager
def our_errors(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Convert errors of DuckDB to our own.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Its views are named in the message about a table that does not exist.

    Raises
    ------
    ConfigurationError
        For a query that DuckDB rejects or cannot run.
    Exception
        The error that reading rows raised inside DuckDB, such as a FileError.
    """
    check_process()
    try:
        yield
    except (duckdb.InterruptException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and str(error) != "Query interrupted":
            raise
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        if (passed := original(error)) is not None:
            raise passed from None
        if (full := full_disk(error)) is not None:
            raise full from None
        message = str(error)
        if (found := _MISSING_TABLE.search(message)) is not None:
            line = message[found.end() :].strip("\n")
            message = f"{_no_table(connection, found[1])}\n\n{line}" if line else message
        raise field_error("query", message) from None


def check_statement(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Check that a query is one statement; raise a ConfigurationError if not."""
    if not isinstance(query, str):
        raise field_error("query", f"{shown(query)} is not text")
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise field_error(
            "query",
            f"it holds {len(statements)} statements; write one, with its steps in a WITH clause, "
            "or run several on a connection of connect(...)"
            if statements
            else "it holds no statement",
        )


def _check_name(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Check that the name of a frame is not that of a table or view."""
    found = connection.sql(
        "SELECT table_type FROM information_schema.tables WHERE lower(table_name) = lower(?)",
        params=[name],
    ).fetchall()
    if found:
        raise field_error("frames", f"{shown(name)} is a table or view; choose another name")


def _no_table(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """Format the message for a table that does not exist, with the views that have rows."""
    try:
        rows = connection.sql("SELECT DISTINCT view FROM store_streams ORDER BY view").fetchall()
    except duckdb.Error:
        return f"there is no table {shown(name)}; this connection has no views of a store"
    views = [str(view) for (view,) in rows]
    # The beginning may be omitted: ``um_klines`` means ``futures_um_klines``.
    longer = [view for view in views if view.endswith(f"_{name}".lower())]
    known = [*views, "store_streams", "store_universe", "store_problems", "store_last_scan"]
    guess = min(longer, key=len) if longer else nearest(name, known)
    hint = f"did you mean {guess!r}? " if guess else ""
    listed = f"{hint}Views with rows: {', '.join(views) or 'none'}"
    return f"there is no table or view {shown(name)}; {listed}"


# Input


def _values(params: object) -> Any:
    if params is None:
        return None
    if isinstance(params, list | tuple | Mapping):
        return _value(params)
    raise field_error(
        "params",
        f"{shown(params)} is neither a list or tuple of values for ? nor a mapping for $name",
    )


def _value(value: object) -> object:
    """Convert a value to one that DuckDB accepts, with times in naive UTC."""
    match value:
        case datetime():
            return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
        case Mapping():
            return {name: _value(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset() | pl.Series() | np.ndarray():
            return [_value(each) for each in value]
        case np.generic() if not isinstance(value, np.datetime64):
            return value.item()
    return value


def _table(name: str, frame: object) -> pl.DataFrame:
    """Convert a frame to Polars, with times in naive UTC."""
    table = _frame(frame)
    if table is None:
        raise field_error(
            "frames",
            f"{shown(name)} is a {type(frame).__name__}, not a frame of Polars, pandas or Arrow",
        )
    return table


def _frame(value: object) -> pl.DataFrame | None:
    if isinstance(value, pl.LazyFrame):
        value = value.collect()
    elif not isinstance(value, pl.DataFrame) and hasattr(value, "__arrow_c_stream__"):
        value = pl.DataFrame(value)
    if not isinstance(value, pl.DataFrame):
        return None
    # By way of UTC: a time that only loses its zone would keep its local clock.
    return _with_times(_with_times(value, _UTC), _NAIVE)


def _variable(error: Exception, caller: FrameType) -> tuple[str, pl.DataFrame | None]:
    """Find the variable of the calling code that a query names as a table."""
    found = _MISSING_TABLE.search(str(error))
    name = found[1] if found else ""
    return name, _frame(caller.f_locals.get(name, caller.f_globals.get(name)))


# Output


def _rows(relation: duckdb.DuckDBPyRelation | None) -> pl.DataFrame:
    if relation is None:
        return pl.DataFrame()
    spans = [
        name
        for name, kind in zip(relation.columns, relation.types, strict=True)
        if str(kind) == "INTERVAL"
    ]
    if spans:
        relation = relation.project(f"* REPLACE ({', '.join(map(_microseconds, spans))})")
    frame: pl.DataFrame = relation.pl()
    frame = _with_times(frame, _UTC).with_columns(pl.col(spans).cast(pl.Duration("us")))
    return frame.with_columns(_words(frame))


def _words(frame: pl.DataFrame) -> Iterator[pl.Series]:
    """Yield the columns with the name and only the valid values of a path column, in its type."""
    for name, dtype in frame.schema.items():
        wanted = PATH_TYPES.get(name)
        if wanted is None or dtype != pl.String:
            continue
        values = frame[name].cast(wanted, strict=False)
        if values.null_count() == frame[name].null_count():
            yield values


def _microseconds(name: str) -> str:
    """Return the SQL for the length of an INTERVAL; a frame's durations have no months."""
    column = quoted(name)
    return (
        f"CASE WHEN datepart('year', {column}) = 0 AND datepart('month', {column}) = 0 "
        f"THEN epoch_us({column}) "
        f"WHEN {column} IS NOT NULL THEN error('an INTERVAL of months has no fixed length; "
        f"convert it in the query, such as with CAST(... AS VARCHAR)') END AS {column}"
    )


def _with_times(frame: pl.DataFrame, moment: pl.Datetime) -> pl.DataFrame:
    """Cast all times of a frame to one type; the times stay the same."""
    wanted = {name: _timed(dtype, moment) for name, dtype in frame.schema.items()}
    return frame.cast({n: t for n, t in wanted.items() if t != frame.schema[n]})


def _timed(dtype: pl.DataType, moment: pl.Datetime) -> pl.DataType:
    match dtype:
        case pl.Datetime():
            return moment
        case pl.List():
            return pl.List(_timed(dtype.inner, moment))  # type: ignore[arg-type]
        case pl.Array():
            return pl.Array(_timed(dtype.inner, moment), dtype.size)  # type: ignore[arg-type]
        case pl.Struct():
            return pl.Struct({f.name: _timed(f.dtype, moment) for f in dtype.fields})  # type: ignore[arg-type]
    return dtype
