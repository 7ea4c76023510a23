"""Stores of invented files, and their rows by each of the three ways to read them.

Rows are lists of tuples in the order of the view's columns, times naive UTC, so that the
naive reader, a view and a scan can be compared with ``==``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import duckdb
import polars as pl

from binance_archive_kit.archive.enums import Interval, Partition
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import Schema, schema
from binance_archive_kit.reading.feed_table import view_name
from tests.support import naive
from tests.support.dialects import Dialect, csv_of, rows_of, usual_dialect, write, zip_of

Rows = list[tuple[object, ...]]

SQL_TYPES = {
    "time": "TIMESTAMP",
    "float64": "DOUBLE",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "text": "VARCHAR",
}
POLARS_TYPES = {
    "time": pl.Datetime("us", "UTC"),
    "float64": pl.Float64(),
    "int64": pl.Int64(),
    "bool": pl.Boolean(),
    "text": pl.String(),
}


def kline(symbol: str, period: str, interval: str = "1h", market: str = "spot") -> ObjectKey:
    """Name a file of candles: of a day (``2025-07-01``) or of a month (``2025-07``)."""
    partition = "daily" if len(period) == len("2025-07-01") else "monthly"
    folder = f"data/{market}/{partition}/klines/{symbol}/{interval}"
    return ObjectKey.parse(f"{folder}/{symbol}-{interval}-{period}.zip")


def other(data_type: str, symbol: str, day: str, market: str = "futures/um") -> ObjectKey:
    """Name a daily file of a feed without intervals."""
    folder = f"data/{market}/daily/{data_type}/{symbol}"
    return ObjectKey.parse(f"{folder}/{symbol}-{data_type}-{day}.zip")


def schema_of(key: ObjectKey) -> Schema:
    return schema(key.folder.market, key.folder.data_type)


def view_of(key: ObjectKey) -> str:
    return view_name(key.folder.market, key.folder.data_type)


def csv_for(
    key: ObjectKey, rows: int = 24, seed: object = 0, dialect: Dialect | None = None
) -> bytes:
    """Spell a file of so many invented rows."""
    found = schema_of(key)
    made = rows_of(found, key, rows, random.Random(f"{key} {seed}"))
    return csv_of(found, key, made, dialect or usual_dialect(found, key))


def put(
    root: Path,
    key: ObjectKey,
    rows: int = 24,
    *,
    seed: object = 0,
    dialect: Dialect | None = None,
    edit: Callable[[bytes], bytes] = bytes,
) -> Path:
    """Put a file of so many invented rows into a store; `edit` may spoil its csv."""
    return write(root, key, zip_of(key, edit(csv_for(key, rows, seed, dialect))))


# Three ways to read


def naive_rows(root: Path, *keys: ObjectKey) -> Rows:
    """Read files one after another, by the standard library alone."""
    return [tuple(row.values()) for key in keys for row in naive.read(root / str(key), key)]


def view_rows(con: duckdb.DuckDBPyConnection, view: str, where: str = "") -> Rows:
    """Read a view, or those of its rows for which a condition holds."""
    return list(con.sql(f"SELECT * FROM {view} {where and 'WHERE'} {where}").fetchall())


def scan_rows(frame: pl.LazyFrame | pl.DataFrame) -> Rows:
    """Read a scan to its end."""
    return [tuple(map(_naive, row)) for row in frame.lazy().collect().rows()]


def _naive(value: object) -> object:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


def in_order(keys: Iterable[ObjectKey]) -> list[ObjectKey]:
    """Sort files as rows are promised: by symbol, interval and period."""
    return sorted(
        keys,
        key=lambda key: (key.folder.symbol, _RANKS.get(str(key.folder.interval), -1), key.start),
    )


_RANKS = {interval.value: at for at, interval in enumerate(Interval)}


def promised(rows: Rows, found: Schema) -> Rows:
    """Put rows, in the order of their files, into the order that a scan promises.

    By symbol and interval, and by time where the feed is sorted; what is equal stays as it was.
    """
    time = naive.columns(found).index(found.time.column) if found.sorted else 0
    return sorted(rows, key=lambda row: (str(row[1]), _RANKS.get(str(row[2]), -1), str(row[time])))


def assert_same(found: Rows, expected: Rows) -> None:
    """Compare rows one by one, and show the first that differs only."""
    for at, (one, two) in enumerate(zip(found, expected, strict=False)):
        assert one == two, f"row {at:,}"
    assert len(found) == len(expected)


def of_partition(keys: Iterable[ObjectKey], partition: Partition) -> list[ObjectKey]:
    """Choose the daily files, or the monthly ones."""
    return [key for key in keys if key.folder.partition is partition]


def dtypes_of(found: Schema) -> dict[str, str]:
    """Give the kind of each own column that a view shows, by its name."""
    kinds = {column.column: column.dtype for column in found.columns}
    kinds[found.time.column] = "time"
    return {name: kinds[name] for name in naive.columns(found)[6:]}


def assert_typed(con: duckdb.DuckDBPyConnection, frame: pl.LazyFrame, found: Schema) -> None:
    """The columns of a view and of a scan are those of the feed, and of its types."""
    view = view_name(found.market, found.data_type)
    paths = dict.fromkeys(["market", "symbol", "interval"], "VARCHAR") | {"date": "DATE"}
    paths |= dict.fromkeys(["partition", "file"], "VARCHAR")
    described = {name: kind for name, kind, *_ in con.sql(f"DESCRIBE {view}").fetchall()}
    kinds = dtypes_of(found)
    assert described == paths | {name: SQL_TYPES[kind] for name, kind in kinds.items()}
    assert list(described) == naive.columns(found)
    for schema_ in (frame.collect_schema(), frame.head(1).collect().schema):
        assert schema_.names() == naive.columns(found)
        assert {n: schema_[n] for n in kinds} == {n: POLARS_TYPES[k] for n, k in kinds.items()}
        assert schema_["date"] == pl.Date()
