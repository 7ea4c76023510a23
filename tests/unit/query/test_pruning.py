"""Conditions decide which files are opened, and never what the answer is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.schemas import read_feed
from binance_archive_kit.query.pruning import ArrowPruner, PolarsPruner
from binance_archive_kit.reading.feed_table import feed_table
from tests.support import naive
from tests.support.stores import (
    Rows,
    assert_same,
    in_order,
    kline,
    naive_rows,
    other,
    promised,
    put,
    scan_rows,
    schema_of,
)

SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT")
DAYS = [f"2025-07-{day:02}" for day in range(1, 9)]
#: Every symbol has eight days of two intervals, and another month.
KEYS = in_order(
    [
        *(
            kline(symbol, day, interval)
            for symbol in SYMBOLS
            for day in DAYS
            for interval in ("1h", "4h")
        ),
        *(kline(symbol, "2025-05", "1h") for symbol in SYMBOLS),
    ]
)
ALL = 51


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    for key in KEYS:
        put(root, key)
    return root


@pytest.fixture(scope="module")
def everything(root: Path) -> Rows:
    return promised(naive_rows(root, *KEYS), schema_of(KEYS[0]))


@pytest.fixture(scope="module")
def store(root: Path) -> bak.OpenStore:
    return bak.store(root, cache=False)


@pytest.fixture(scope="module")
def con(store: bak.OpenStore) -> Iterator[duckdb.DuckDBPyConnection]:
    with bak.connect(store) as con:
        yield con


@pytest.fixture(scope="module")
def full(store: bak.OpenStore) -> Iterator[duckdb.DuckDBPyConnection]:
    """Hold all rows in a table, where conditions are DuckDB's business alone."""
    with bak.connect(store) as con:
        con.execute("CREATE TABLE rows AS FROM spot_klines")
        yield con


def opened(store: bak.OpenStore) -> int:
    assert store.last_scan is not None
    assert store.last_scan.opened <= store.last_scan.considered <= ALL
    return store.last_scan.opened


#: Conditions in SQL, with the number of files that have to be opened.
SQL = {
    "symbol = 'BTCUSDT'": 17,
    "symbol = 'BTCUSDT' AND interval = '1h'": 9,
    "symbol IN ('BTCUSDT', 'ETHUSDT') AND interval = '4h'": 16,
    "symbol <> 'BTCUSDT'": 34,
    "symbol = '币安人生USDT'": 17,
    "symbol = 'BTCUSDT' OR symbol = 'ETHUSDT'": 34,
    "symbol = 'BTCUSDT' OR (symbol = 'ETHUSDT' AND interval = '4h')": 17 + 8,
    "symbol = 'NOTHING'": 0,
    "interval IN ('4h')": 24,
    "partition = 'monthly'": 3,
    "market = 'spot' AND partition = 'daily' AND interval = '1h'": 24,
    "market = 'futures_um'": 0,
    "date = DATE '2025-07-03'": 6,
    "date = '2025-07-03' AND symbol = 'ETHUSDT' AND interval = '1h'": 1,
    "date BETWEEN '2025-07-03' AND '2025-07-05'": 18,
    "date IN (DATE '2025-07-03', DATE '2025-07-07')": 12,
    "date < '2025-06-01'": 3,
    "date >= '2025-07-08'": 6,
    "date = '2025-05-31'": 3,
    "date = '2025-06-15'": 0,
    "open_time = TIMESTAMP '2025-07-03 04:00:00'": 6,
    "open_time = TIMESTAMP '2025-07-03 00:00:00'": 6,
    "open_time >= '2025-07-08 12:00:00'": 6,
    "open_time >= '2025-07-09'": 0,
    "open_time >= '2025-07-03' AND open_time < '2025-07-04'": 6,
    "open_time BETWEEN '2025-07-02 23:00:00' AND '2025-07-03 00:00:00'": 12,
    "open_time < '2025-05-01 00:00:00'": 0,
    "date_trunc('day', open_time) = '2025-07-03'": None,
    "date_trunc('hour', open_time) = '2025-07-03 04:00:00'": None,
    "open_time::DATE = '2025-07-03'": None,
    f"file = '{KEYS[5]}'": 1,
    f"file IN ('{KEYS[5]}', '{KEYS[30]}')": 2,
    "file LIKE '%ETHUSDT-1h%'": None,
    "symbol LIKE 'BTC%'": None,
    "symbol NOT IN ('BTCUSDT')": None,
    "date > '2025-07-01' OR close > 0": None,
    "high > 1000 AND symbol = 'BTCUSDT'": 17,
    "count = 0": None,
    "interval IS NULL": None,
    "volume IS NOT NULL AND date = '2025-07-03'": 6,
    "NOT (date = '2025-07-03')": None,
    "symbol > 'BTCUSDT' AND symbol < 'F'": None,
}


@pytest.mark.parametrize("where", SQL)
def test_conditions_in_sql_open_what_they_need(
    where: str,
    con: duckdb.DuckDBPyConnection,
    full: duckdb.DuckDBPyConnection,
    store: bak.OpenStore,
) -> None:
    expected = full.sql(f"SELECT * FROM rows WHERE {where}").fetchall()
    assert_same(con.sql(f"SELECT * FROM spot_klines WHERE {where}").fetchall(), expected)
    if SQL[where] is not None:
        assert opened(store) == SQL[where]
    # What is shown need not be what is looked at.
    ask = f"SELECT count(*), sum(low), min(file) FROM {{}} WHERE {where}"
    assert con.sql(ask.format("spot_klines")).fetchall() == full.sql(ask.format("rows")).fetchall()
    if SQL[where] is not None:
        assert opened(store) == SQL[where]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


TIME, DAY, SYMBOL = pl.col("open_time"), pl.col("date"), pl.col("symbol")
#: The same for Polars.
POLARS: dict[str, tuple[pl.Expr, int | None]] = {
    "symbol ==": (SYMBOL == "BTCUSDT", 17),
    "symbol is_in": (SYMBOL.is_in(["BTCUSDT", "ETHUSDT"]), 34),
    "symbol !=": (SYMBOL != "BTCUSDT", 34),
    "not symbol": (~(SYMBOL == "BTCUSDT"), 34),
    "symbol |": ((SYMBOL == "BTCUSDT") | (SYMBOL == "币安人生USDT"), 34),
    "symbol, interval": ((SYMBOL == "ETHUSDT") & (pl.col("interval") == "4h"), 8),
    "symbol or interval": (
        (SYMBOL == "BTCUSDT") | ((SYMBOL == "ETHUSDT") & (pl.col("interval") == "4h")),
        25,
    ),
    "starts_with": (SYMBOL.cast(pl.String).str.starts_with("BTC"), 17),
    "interval is_in": (pl.col("interval").is_in(["4h"]), 24),
    "partition": (pl.col("partition") == "monthly", 3),
    "market": (pl.col("market") == "spot", ALL),
    "date ==": (date(2025, 7, 3) == DAY, 6),
    "date is_in": (DAY.is_in([date(2025, 7, 3), date(2025, 7, 7)]), 12),
    "date is_between": (DAY.is_between(date(2025, 7, 3), date(2025, 7, 5)), 18),
    "date is_between none": (DAY.is_between(date(2025, 7, 3), date(2025, 7, 5), "none"), 6),
    "date range": ((date(2025, 7, 3) <= DAY) & (date(2025, 7, 5) > DAY), 12),
    "date !=": (date(2025, 7, 3) != DAY, None),
    "weekday": (DAY.dt.weekday() == 6, None),
    "date of nothing": (date(2025, 6, 15) == DAY, 0),
    "time >=": (at("2025-07-08 12:00") <= TIME, 6),
    "time ==": (at("2025-07-03 04:00") == TIME, 6),
    "time == midnight": (at("2025-07-03") == TIME, 6),
    "time is_between": (TIME.is_between(at("2025-07-02 23:00"), at("2025-07-03 00:00")), 12),
    "time range": ((at("2025-07-03") <= TIME) & (at("2025-07-04") > TIME), 6),
    "time after the last": (at("2025-07-08 23:59:59.999999") < TIME, 0),
    "time.dt.date()": (TIME.dt.date() == date(2025, 7, 3), None),
    "time.dt.hour()": (TIME.dt.hour() == 4, None),
    "time.dt.truncate()": (TIME.dt.truncate("1d") == at("2025-07-03"), None),
    "time == of itself": (TIME.dt.truncate("1d") == TIME, None),
    "time < of itself": (TIME.dt.round("1d") < TIME, None),
    "time is_between itself": (TIME.is_between(TIME.dt.truncate("1d"), TIME), None),
    "time or date": ((at("2025-07-08") <= TIME) | (date(2025, 5, 1) == DAY), None),
    "file": (pl.col("file") == str(KEYS[5]), 1),
    "file is_in": (pl.col("file").is_in([str(KEYS[5]), str(KEYS[30])]), 2),
    "own column": (pl.col("high") > 1_000, None),
    "own column and symbol": ((pl.col("high") > 1_000) & (SYMBOL == "BTCUSDT"), 17),
    "two columns": (pl.col("open") < pl.col("close"), None),
    "of whole columns": (pl.col("high") == pl.col("high").max(), None),
    "null": (pl.col("interval").is_null(), None),
    "true": (pl.lit(True), ALL),
}


@pytest.mark.parametrize("name", POLARS)
def test_conditions_in_polars_open_what_they_need(name: str, store: bak.OpenStore) -> None:
    condition, files = POLARS[name]
    lazy = bak.scan(store, "spot", "klines")
    expected = lazy.collect().filter(condition)
    assert_same(scan_rows(lazy.filter(condition)), scan_rows(expected))
    if files is not None:
        assert opened(store) == files
    narrow = ["file", "low"]
    assert_same(
        scan_rows(lazy.filter(condition).select(narrow)), scan_rows(expected.select(narrow))
    )
    if files is not None:
        assert opened(store) == files


@settings(max_examples=15)
@given(st.data())
def test_any_conditions_give_what_a_filter_of_everything_gives(
    store: bak.OpenStore,
    full: duckdb.DuckDBPyConnection,
    con: duckdb.DuckDBPyConnection,
    data: st.DataObject,
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(list(SQL)), min_size=2, max_size=3))
    join = data.draw(st.sampled_from([" AND ", " OR ", " AND NOT "]))
    where = join.join(f"({each})" for each in chosen)
    ask = f"SELECT count(*), sum(volume), min(open_time), max(file) FROM {{}} WHERE {where}"
    assert con.sql(ask.format("spot_klines")).fetchall() == full.sql(ask.format("rows")).fetchall()
    parts = [
        POLARS[name][0]
        for name in data.draw(st.lists(st.sampled_from(list(POLARS)), min_size=2, max_size=3))
        if name != "of whole columns"
    ]
    if parts:
        both = pl.all_horizontal(parts) if data.draw(st.booleans()) else pl.any_horizontal(parts)
        lazy = bak.scan(store, "spot", "klines")
        assert_same(scan_rows(lazy.filter(both)), scan_rows(lazy.collect().filter(both)))


# The options of scan


def test_what_scan_is_asked_for_opens_what_it_needs(store: bak.OpenStore, everything: Rows) -> None:
    lazy = bak.scan(
        store,
        "spot",
        "klines",
        symbols=["ETHUSDT"],
        intervals="1h",
        start="2025-07-02",
        end="2025-07-04",
    )
    days = [date(2025, 7, day) for day in (2, 3, 4)]
    assert_same(
        scan_rows(lazy),
        [row for row in everything if row[1:3] == ("ETHUSDT", "1h") and row[3] in days],
    )
    assert opened(store) == 3
    assert lazy.filter(date=date(2025, 7, 3)).collect().height == 24
    assert opened(store) == 1
    moments = bak.scan(
        store,
        "spot",
        "klines",
        symbols="ETHUSDT",
        intervals="1h",
        start="2025-07-02 12:00",
        end="2025-07-03 01:00",
    )
    assert moments.collect().height == 13
    assert opened(store) == 2


def test_every_way_to_run_a_scan_gives_its_rows(
    store: bak.OpenStore, everything: Rows, tmp_path: Path
) -> None:
    lazy = bak.scan(store, "spot", "klines")
    assert_same(scan_rows(lazy.collect(engine="streaming")), everything)
    assert_same(scan_rows(pl.collect_all([lazy, lazy])[1]), everything)
    assert_same(scan_rows(pl.concat(lazy.collect_batches())), everything)
    lazy.sink_parquet(tmp_path / "rows.parquet")
    assert_same(scan_rows(pl.read_parquet(tmp_path / "rows.parquet")), everything)
    own = lazy.select("symbol", "interval", "open_time", again="close")
    joined = lazy.join(own, on=["symbol", "interval", "open_time"], maintain_order="left")
    assert_same(scan_rows(joined.drop("again")), everything)


# Projections, limits and counts


@pytest.mark.parametrize("name", naive.columns(schema_of(KEYS[0])))
def test_a_column_alone_is_the_column_of_all(
    name: str, con: duckdb.DuckDBPyConnection, store: bak.OpenStore, everything: Rows
) -> None:
    place = naive.columns(schema_of(KEYS[0])).index(name)
    expected = [(row[place],) for row in everything]
    assert_same(con.sql(f'SELECT "{name}" FROM spot_klines').fetchall(), expected)
    assert_same(scan_rows(bak.scan(store, "spot", "klines").select(name)), expected)


def test_columns_come_in_the_order_asked_for(
    con: duckdb.DuckDBPyConnection, store: bak.OpenStore, everything: Rows
) -> None:
    names = naive.columns(schema_of(KEYS[0]))
    asked = ["close", "file", "open_time", "date", "high", "symbol"]
    expected = [tuple(row[names.index(name)] for name in asked) for row in everything]
    assert_same(con.sql(f"SELECT {', '.join(asked)} FROM spot_klines").fetchall(), expected)
    assert_same(scan_rows(bak.scan(store, "spot", "klines").select(asked)), expected)


def test_a_limit_stops_early(tmp_path: Path) -> None:
    # More files than are read together.
    keys = [
        other("trades", f"{number}USDT", day, "spot")
        for number in range(100, 700)
        for day in ("2024-12-31", "2025-01-01")
    ]
    for key in keys:
        put(tmp_path, key, 10)
    expected = naive_rows(tmp_path, keys[0])[:5]
    store = bak.store(tmp_path, cache=False)
    assert_same(scan_rows(bak.scan(store, "spot", "trades").head(5)), expected)
    assert store.last_scan is not None
    assert store.last_scan.opened < len(keys) // 2
    assert not store.last_scan.complete
    with bak.connect(store) as con:
        assert_same(con.sql("FROM spot_trades LIMIT 5").fetchall(), expected)
        assert store.last_scan.opened < len(keys) // 2
        assert not store.last_scan.complete


def test_a_limit_of_rows_that_a_condition_leaves(store: bak.OpenStore, everything: Rows) -> None:
    lazy = bak.scan(store, "spot", "klines").filter(symbol="ETHUSDT", interval="4h")
    expected = [row for row in everything if row[1:3] == ("ETHUSDT", "4h")]
    assert_same(scan_rows(lazy.head(7)), expected[:7])
    assert_same(scan_rows(lazy.slice(3, 7)), expected[3:10])
    assert_same(scan_rows(lazy.tail(7)), expected[-7:])


def test_counting_what_was_read_before_opens_nothing(root: Path, everything: Rows) -> None:
    store = bak.store(root, cache=False)
    with bak.connect(store) as con:
        for files in (ALL, 0):
            assert con.sql("SELECT count(*) FROM spot_klines").fetchall() == [(len(everything),)]
            assert opened(store) == files
        expected = {symbol: sum(row[1] == symbol for row in everything) for symbol in SYMBOLS}
        counts = con.sql("SELECT symbol, count(*) FROM spot_klines GROUP BY ALL").fetchall()
        assert dict(counts) == expected
        assert opened(store) == 0
        assert bak.scan(store, "spot", "klines").select(pl.len()).collect().item() == len(
            everything
        )
        assert opened(store) == 0


def test_the_last_scan_can_be_asked_in_sql(con: duckdb.DuckDBPyConnection) -> None:
    con.sql("SELECT max(high) FROM spot_klines WHERE date = '2025-07-03'").fetchall()
    told = con.sql("SELECT view, considered, opened, complete FROM store_last_scan").fetchall()
    assert told == [("spot_klines", ALL, 6, True)]


# Feeds whose rows may lie a little outside of their file's day


def test_a_row_of_the_next_day_is_found_in_its_file(tmp_path: Path) -> None:
    """Metrics of before 2026-06-25 label periods by their end: the last is the next day's."""
    keys = [other("metrics", "BTCUSDT", f"2025-07-0{day}") for day in (1, 2, 3)]
    for key in keys:
        put(tmp_path, key, 288)
    rows = naive_rows(tmp_path, *keys)
    second = [row for row in rows if row[3] == date(2025, 7, 2)]
    assert {row[5] for row in second} == {str(key) for key in keys[:2]}
    store = bak.store(tmp_path, cache=False)
    lazy = bak.scan(store, "um", "metrics")
    assert_same(scan_rows(lazy.filter(date=date(2025, 7, 2))), second)
    assert_same(
        scan_rows(
            lazy.filter(
                (pl.col("create_time") >= at("2025-07-02"))
                & (pl.col("create_time") < at("2025-07-03"))
            )
        ),
        second,
    )
    assert_same(
        scan_rows(bak.scan(store, "um", "metrics", start="2025-07-02", end="2025-07-02")), second
    )
    with bak.connect(store) as con:
        for where in (
            "date = '2025-07-02'",
            "create_time >= '2025-07-02' AND create_time < '2025-07-03'",
            "date_trunc('day', create_time) = '2025-07-02'",
        ):
            assert_same(
                con.sql(f"SELECT * FROM futures_um_metrics WHERE {where}").fetchall(), second
            )


def test_pruning_keeps_the_whole_of_a_feed_that_has_no_interval(tmp_path: Path) -> None:
    keys = [other("trades", symbol, "2025-07-01", "spot") for symbol in ("BTCUSDT", "ETHUSDT")]
    for key in keys:
        put(tmp_path, key)
    with bak.connect(tmp_path, cache=False) as con:
        for where, expected in (
            ("interval IS NULL", 48),
            ("interval = '1h'", 0),
            ("interval IS DISTINCT FROM '1h'", 48),
        ):
            found = con.sql(f"SELECT count(*) FROM spot_trades WHERE {where}").fetchall()
            assert found == [(expected,)], where
    assert (
        bak.scan(tmp_path, "spot", "trades").filter(pl.col("interval").is_null()).collect().height
        == 48
    )


@pytest.mark.parametrize(
    ("where", "symbols"),
    [
        (ds.field("symbol") == "AUSDT", {"AUSDT"}),
        (ds.field("symbol").isin(["AUSDT", "BUSDT"]), {"AUSDT", "BUSDT"}),
        ((ds.field("symbol") == "AUSDT") | (ds.field("interval") == "1h"), {"AUSDT", "BUSDT"}),
        (ds.field("interval") == "1h", {"AUSDT", "BUSDT"}),
    ],
)
def test_symbols_that_cannot_match_are_not_looked_at(where: Any, symbols: set[str]) -> None:
    feed = feed_table(*read_feed("spot", "klines"))
    pruner = ArrowPruner(where, feed.arrow, feed.time)
    assert {name for name in ("AUSDT", "BUSDT") if pruner.symbol_may_match(name)} == symbols


def test_conditions_on_symbols_in_polars_choose_symbols() -> None:
    is_a = pl.col("symbol") == "AUSDT"
    for predicate, expected in (
        (is_a & (pl.col("interval") == "1h"), [True, False]),
        (is_a | (pl.col("interval") == "1h"), [True, True]),
        (pl.col("close") > 1, [True, True]),
    ):
        pruner = PolarsPruner(predicate, "open_time")
        assert [pruner.symbol_may_match(name) for name in ("AUSDT", "BUSDT")] == expected


_SYMBOL = ds.field("symbol")


@pytest.mark.parametrize(
    ("where", "symbols"),
    [
        (_SYMBOL == "A", {"A"}),
        (_SYMBOL.isin(["币安人生USDT", "A"]), {"币安人生USDT", "A"}),
        ((_SYMBOL == "A") & (ds.field("interval") == "1m") & (ds.field("close") > 5.0), {"A"}),
        ((_SYMBOL == "A") | (_SYMBOL == "B"), {"A", "B"}),
        ((_SYMBOL >= "A") & (_SYMBOL <= "A"), {"A"}),
        ((_SYMBOL == "A") & (_SYMBOL == "B"), set()),
        ((_SYMBOL == "A") | (ds.field("close") > 5.0), None),
        (_SYMBOL != "A", None),
        (~(_SYMBOL == "A"), None),
        (_SYMBOL > "A", None),
        (_SYMBOL < "A", None),
        ((_SYMBOL > "A") & (_SYMBOL < "C"), None),
        (ds.field("interval") == _SYMBOL, None),
        (_SYMBOL.cast("string") == "A", None),
        (ds.field("interval") == "1m", None),
        # In the words of an expression a long list is cut short, and quotes may be anybody's.
        (_SYMBOL.isin([f"S{n}" for n in range(99)]), {f"S{n}" for n in range(99)}),
        (_SYMBOL.isin([f"S{n}" for n in range(999)]), None),
        (_SYMBOL == 'a"b', {'a"b'}),
        (_SYMBOL.isin(["A", '"', "B", '", "', "C\\"]), {"A", '"', "B", '", "', "C\\"}),
        # Arrow compares bytes with texts.
        (_SYMBOL == b"A", {"A"}),
        (_SYMBOL.isin(pa.array([b"A", b"\xff"])), {"A"}),
    ],
)
def test_the_symbols_of_a_condition(where: ds.Expression, symbols: set[str] | None) -> None:
    feed = feed_table(*read_feed("spot", "klines"))
    assert ArrowPruner(where, feed.arrow, feed.time).symbols == symbols
