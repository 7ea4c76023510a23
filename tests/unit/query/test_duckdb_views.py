"""The views are DuckDB's own: in cursors and threads, in a database file, in the catalogue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from IPython.core.formatters import DisplayFormatter

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.schemas import load_schemas
from binance_archive_kit.cli.main import main
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.query.duckdb_views import connection_html, show_connections
from binance_archive_kit.reading.feed_table import feed_table, view_name
from tests.support import naive
from tests.support.stores import (
    assert_same,
    dtypes_of,
    in_order,
    kline,
    naive_rows,
    other,
    put,
    scan_rows,
    schema_of,
    view_rows,
)

SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT", "Ä+&%20=$USDT")
KEYS = in_order(kline(symbol, day) for symbol in SYMBOLS for day in ("2025-07-01", "2025-07-02"))
TRADES = other("trades", "BTCUSD_PERP", "2025-07-01", "futures/cm")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    for key in (*KEYS, TRADES):
        put(root, key)
    return root


@pytest.fixture(scope="module")
def con(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with bak.connect(root, cache=False) as con:
        yield con


# Names and catalogue


def test_there_is_a_view_for_each_feed_of_the_archive(con: duckdb.DuckDBPyConnection) -> None:
    feeds = {view_name(*feed) for feed in load_schemas()}
    assert len(feeds) == len(load_schemas())
    views = {
        name
        for (name,) in con.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    }
    assert views >= feeds
    about = {name for name in views if name.startswith("store_")}
    assert about == {"store_streams", "store_universe", "store_problems", "store_last_scan"}
    assert feeds >= {
        "spot_klines",
        "spot_agg_trades",
        "futures_um_mark_price_klines",
        "futures_um_funding_rate",
        "options_bvol_index",
    }


@pytest.mark.parametrize("feed", load_schemas(), ids=lambda feed: view_name(*feed))
def test_a_feed_that_is_not_there_says_so(
    con: duckdb.DuckDBPyConnection, feed: tuple[Market, DataType]
) -> None:
    view = view_name(*feed)
    if view in ("spot_klines", "futures_cm_trades"):
        return
    assert con.sql(f"FROM {view}").columns == naive.columns(load_schemas()[feed])
    with pytest.raises((duckdb.Error, ConfigurationError), match="collect some first"):
        con.sql(f"FROM {view}").fetchall()


def test_what_is_there_is_described_in_the_catalogue(con: duckdb.DuckDBPyConnection) -> None:
    for view, key in (("spot_klines", KEYS[0]), ("futures_cm_trades", TRADES)):
        told = con.sql(
            f"SELECT column_name, comment FROM duckdb_columns() WHERE table_name = '{view}'"
        ).fetchall()
        comments = dict(told)
        assert list(comments) == naive.columns(schema_of(key))
        assert all(comments.values())
        for name, dtype in dtypes_of(schema_of(key)).items():
            assert dtype != "time" or comments[name].endswith("[UTC]")
    assert "[contracts]" in comments["qty"]
    of_summary = feed_table(Market.OPTIONS, DataType.EOH_SUMMARY).column_comments
    assert "[contracts, over the 24 hours before known_at]" in of_summary["volume_contracts"]
    assert "about the end of the hour" in of_summary["time"]
    assert "[as of known_at]" in of_summary["delta"]
    [(comment,)] = con.sql(
        "SELECT comment FROM duckdb_views() WHERE view_name = 'spot_klines'"
    ).fetchall()
    assert "klines" in comment


def test_the_store_can_be_looked_at_in_sql(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    streams = con.sql("SELECT view, symbol, files, first, last FROM store_streams").fetchall()
    expected = {("spot_klines", s, 2, date(2025, 7, 1), date(2025, 7, 2)) for s in SYMBOLS}
    day = date(2025, 7, 1)
    expected |= {("futures_cm_trades", "BTCUSD_PERP", 1, day, day)}
    assert set(streams) == expected
    assert con.sql("FROM store_problems").fetchall() == []
    perpetual = ("futures_cm_trades", "BTCUSD_PERP", "BTC", "USD", "perpetual", day, day)
    universe = con.sql("FROM store_universe").fetchall()
    assert len(universe) == len(expected)
    assert perpetual in universe
    assert con.sql("SELECT sum(bytes) FROM store_streams").fetchall() == [
        (sum((root / str(key)).stat().st_size for key in (*KEYS, TRADES)),)
    ]


# Cursors and threads


def test_cursors_see_the_views(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    with con.cursor() as one, one.cursor() as other_:
        for cursor in (one, other_):
            assert_same(view_rows(cursor, "spot_klines"), naive_rows(root, *KEYS))


def test_many_threads_ask_at_once(root: Path) -> None:
    expected = {
        symbol: naive_rows(root, *(key for key in KEYS if key.folder.symbol == symbol))
        for symbol in SYMBOLS
    }
    begin = threading.Barrier(8)
    with bak.connect(root) as con:

        def ask(number: int) -> None:
            with con.cursor() as cursor:
                begin.wait(20)
                for at in range(6):
                    symbol = SYMBOLS[(number + at) % len(SYMBOLS)]
                    found = view_rows(cursor, "spot_klines", f"symbol = '{symbol}'")
                    assert_same(found, expected[symbol])
                    cursor.sql("FROM store_last_scan").fetchall()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))


def test_a_view_can_be_joined_with_itself(con: duckdb.DuckDBPyConnection) -> None:
    found = con.sql(
        "SELECT count(*) FROM spot_klines a JOIN spot_klines b USING (open_time) "
        "WHERE a.symbol = 'BTCUSDT' AND b.symbol = 'ETHUSDT'"
    )
    assert found.fetchall() == [(48,)]


# A database of one's own


def test_a_database_file_keeps_ones_own_tables_and_views(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "my research.duckdb"
    ask = "SELECT symbol, day, turnover FROM turnover ORDER BY ALL"
    with bak.connect(root, database=file, cache=False) as con:
        con.execute(
            "CREATE VIEW turnover AS SELECT symbol, date AS day, sum(quote_volume) AS turnover "
            "FROM spot_klines GROUP BY ALL"
        )
        con.execute("CREATE TABLE bars AS SELECT symbol, open_time, close FROM spot_klines")
        first = con.sql(ask).fetchall()
        assert len(first) == 8
        assert_same(view_rows(con, "spot_klines"), naive_rows(root, *KEYS))
    for _ in (1, 2):
        with bak.connect(root, database=file, cache=False) as con:
            assert con.sql(ask).fetchall() == first
            joined = con.sql(
                "SELECT count(*) FROM bars JOIN spot_klines USING (symbol, open_time, close)"
            )
            assert joined.fetchall() == [(192,)]
            with con.cursor() as cursor:
                assert cursor.sql(ask).fetchall() == first
            told = con.sql(
                "SELECT comment FROM duckdb_columns() "
                "WHERE table_name = 'spot_klines' AND column_name = 'volume'"
            ).fetchall()
            assert any(comment for (comment,) in told)


def test_a_database_file_can_be_used_with_another_store(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other"
    put(elsewhere, KEYS[0], 3, seed=9)
    file = tmp_path / "research.duckdb"
    for folder, keys in ((root, KEYS), (elsewhere, KEYS[:1])):
        with bak.connect(folder, database=file, cache=False) as con:
            assert_same(view_rows(con, "spot_klines"), naive_rows(folder, *keys))


def test_a_table_under_the_name_of_a_view_is_not_overwritten(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "research.duckdb"
    with duckdb.connect(str(file)) as con:
        con.execute("CREATE TABLE spot_klines AS SELECT 42 AS mine")
    with pytest.raises(ConfigurationError, match="spot_klines"):
        bak.connect(root, database=file)
    with duckdb.connect(str(file)) as con:
        assert con.sql("FROM spot_klines").fetchall() == [(42,)]


# What comes out


def test_results_come_as_polars_and_arrow(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    answer = con.sql("FROM spot_klines")
    frame = answer.pl()
    assert isinstance(frame, pl.DataFrame)
    assert frame.schema["open_time"] == pl.Datetime("us")
    assert frame.schema["close"] == pl.Float64()
    assert_same(scan_rows(frame), naive_rows(root, *KEYS))
    table = answer.to_arrow_table()
    assert isinstance(table, pa.Table)
    assert table.schema.field("open_time").type == pa.timestamp("us")
    assert table.num_rows == 192
    assert_same([tuple(row.values()) for row in table.to_pylist()], naive_rows(root, *KEYS))


def test_results_come_as_pandas_where_it_is_there(con: duckdb.DuckDBPyConnection) -> None:
    pytest.importorskip("pandas")
    frame = con.sql("SELECT open_time, symbol, close FROM spot_klines").df()
    assert frame.shape == (192, 3)
    assert frame["open_time"].iloc[1].to_pydatetime() == datetime(2025, 7, 1, 1)
    assert set(frame["symbol"]) == set(SYMBOLS)


def test_scans_are_aware_of_utc(root: Path) -> None:
    frame = bak.scan(root, "spot", "klines", symbols="BTCUSDT").collect()
    assert frame["open_time"][0] == datetime(2025, 7, 1, tzinfo=UTC)
    assert frame.schema["open_time"] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_no_session_time_zone_moves_a_bar(root: Path, zone: str) -> None:
    con = bak.connect(root, cache=False)
    con.execute(f"SET TimeZone = '{zone}'")
    assert_same(view_rows(con, "spot_klines"), naive_rows(root, *KEYS))
    found = con.sql(
        "SELECT min(open_time), max(open_time)::VARCHAR, min(date_trunc('day', open_time)) "
        "FROM spot_klines WHERE open_time >= '2025-07-02' AND symbol = 'BTCUSDT'"
    )
    day = datetime(2025, 7, 2)
    assert found.fetchall() == [(day, "2025-07-02 23:00:00", day)]
    days = con.sql("SELECT DISTINCT date FROM spot_klines WHERE open_time::DATE = date ORDER BY 1")
    assert days.fetchall() == [(date(2025, 7, 1),), (date(2025, 7, 2),)]
    con.close()


# Names of symbols


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_symbol_of_any_letters_can_be_asked_for(
    con: duckdb.DuckDBPyConnection, root: Path, symbol: str
) -> None:
    keys = [key for key in KEYS if key.folder.symbol == symbol]
    expected = naive_rows(root, *keys)
    assert_same(view_rows(con, "spot_klines", f"symbol = '{symbol}'"), expected)
    assert_same(con.execute("FROM spot_klines WHERE symbol = ?", [symbol]).fetchall(), expected)
    assert_same(scan_rows(bak.scan(root, "spot", "klines", symbols=symbol)), expected)
    assert bak.load_klines(root, symbol, "1h").height == 48


@pytest.mark.parametrize("symbol", ["X'; DROP VIEW spot_klines; --", 'X"USDT', "X USDT", ".hidden"])
def test_a_folder_that_is_no_symbol_is_overlooked(tmp_path: Path, symbol: str) -> None:
    path = put(tmp_path, KEYS[0])
    copy = Path(str(path).replace(KEYS[0].folder.symbol, symbol))
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    with bak.connect(tmp_path) as con:
        assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, KEYS[0]))
        assert len(con.sql("FROM store_streams").fetchall()) == 1
        where = "symbol = '" + symbol.replace("'", "''") + "'"
        assert view_rows(con, "spot_klines", where) == []


def test_a_store_in_a_folder_of_an_unusual_name(tmp_path: Path) -> None:
    root = tmp_path / 'it\'s a "store"; %20 存档'
    put(root, KEYS[0])
    with bak.connect(root, database=root / "mine.duckdb") as con:
        assert_same(view_rows(con, "spot_klines"), naive_rows(root, KEYS[0]))


_ZONED = """
import sys
from datetime import datetime, timezone
import binance_archive_kit as bak
con = bak.connect(sys.argv[1])
day = [datetime(2025, 7, at, tzinfo=timezone.utc) for at in (1, 2)]
count = "SELECT min(open_time), count(*) FROM spot_klines WHERE symbol = 'BTCUSDT'"
for each in con, con.cursor():
    print(each.execute(f"{count} AND open_time >= $1 AND open_time < $2", day).fetchone())
frame = bak.load_klines(sys.argv[1], "BTCUSDT", "1h")
join = "FROM frame JOIN spot_klines AS k USING (open_time, close) WHERE symbol = 'BTCUSDT'"
print(con.execute(f"SELECT count(*) {join}").fetchone())
"""


def test_moments_with_a_zone_are_right_wherever_the_machine_stands(root: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", _ZONED, str(root)],
        env={**os.environ, "TZ": "America/New_York"},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = "(datetime.datetime(2025, 7, 1, 0, 0), 24)"
    assert said.stdout.splitlines() == [rows, rows, "(48,)"]


def test_a_database_that_is_open_already_is_our_error(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.duckdb"
    with bak.connect(root, database=file) as con:
        with pytest.raises(ConfigurationError, match="open already"):
            bak.connect(root, database=file)
        assert con.cursor().sql("SELECT count(*) FROM spot_klines").fetchall()
    with bak.connect(root, database=file) as con:
        assert con.sql("SELECT count(*) FROM spot_klines").fetchall()


# Macros and the command line


@pytest.mark.parametrize("every", ["90 MINUTE", "30 MINUTE"])
def test_the_macro_makes_no_bar_that_ends_within_a_candle(
    con: duckdb.DuckDBPyConnection, every: str
) -> None:
    with pytest.raises(duckdb.Error, match="no whole multiple of the interval 1h"):
        con.sql(f"FROM ohlcv('spot_klines', 'BTCUSDT', '1h', INTERVAL {every})").fetchall()


def test_the_macros_resample_and_weigh(con: duckdb.DuckDBPyConnection) -> None:
    macro = con.sql("FROM ohlcv('spot_klines', 'BTCUSDT', '1h', INTERVAL 4 HOUR)").fetchall()
    plain = con.sql(
        "SELECT symbol, time_bucket(INTERVAL 4 HOUR, open_time) AS at,"
        " first(open ORDER BY open_time), max(high), min(low), last(close ORDER BY open_time),"
        " sum(volume), count(*) FROM spot_klines"
        " WHERE symbol = 'BTCUSDT' AND interval = '1h' GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert len(plain) == 12
    for found, expected in zip(macro, plain, strict=True):
        assert found[:6] == expected[:6]
        assert found[6:8] == pytest.approx(expected[6:])
        assert found[8:] == (4, "1h")
    [(found, expected)] = con.sql(
        "SELECT vwap(quote_volume, volume), sum(quote_volume) / sum(volume) FROM spot_klines"
    ).fetchall()
    assert found == pytest.approx(expected)


def test_the_command_answers_in_sql(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = "SELECT symbol, count(*) AS bars FROM spot_klines WHERE symbol > 'Ö' GROUP BY ALL"
    assert main(["sql", str(root), ask]) == 0
    assert "币安人生USDT" in (told := capsys.readouterr().out)
    assert "48" in told
    assert main(["sql", "--json", str(root), ask]) == 0
    assert json.loads(capsys.readouterr().out) == {"symbol": "币安人生USDT", "bars": 48}
    assert main(["sql", str(root), "SELECT nothing FROM spot_klines"]) == 2
    assert "nothing" in capsys.readouterr().err
    assert main(["sql", str(root / "nowhere"), "SELECT 1"]) == 2
    assert "nowhere" in capsys.readouterr().err


# How a connection shows itself in a notebook


def test_a_connection_shows_which_views_have_rows(
    con: duckdb.DuckDBPyConnection, root: Path, tmp_path: Path
) -> None:
    pending = con.execute("FROM spot_klines")
    pending.fetchone()
    page = connection_html(con)
    assert page is not None
    assert "spot_klines" in page
    # An answer that is being read goes on.
    assert len(pending.fetchall()) > 0
    with bak.connect(bak.store(tmp_path)) as empty:
        assert "0 views have rows" in str(connection_html(empty))
    with bak.connect(root, database=tmp_path / "<b>.duckdb") as hostile:
        assert "<b>" not in str(connection_html(hostile))


def test_other_connections_look_as_before(con: duckdb.DuckDBPyConnection) -> None:
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    show_connections(shell)
    show_connections(shell)
    with duckdb.connect() as plain:
        assert connection_html(plain) is None
        assert set(shell.display_formatter.format(plain)[0]) == {"text/plain"}
    assert "spot_klines" in shell.display_formatter.format(con)[0]["text/html"]
