"""`bak.sql`: one statement in, a frame with UTC times out; frames and moments go in as UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import binance_archive_kit as bak
from binance_archive_kit.cli.main import main
from binance_archive_kit.errors import ConfigurationError, FileError
from binance_archive_kit.query.engine import Engine
from tests.support.stores import kline, put

KEY = kline("BTCUSDT", "2025-07-01")
TOKYO = timezone(timedelta(hours=9))
MINE = pl.DataFrame(
    {"open_time": [datetime(2025, 7, 1, 5), datetime(2025, 7, 1, 6), datetime(2025, 7, 2)]}
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    put(root, KEY)
    return root


@pytest.fixture(scope="module")
def con(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with bak.connect(root) as connection:
        yield connection


@pytest.fixture(params=["folder", "store", "connection"])
def source(root: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "connection":
        with bak.connect(root) as connection:
            yield connection
    else:
        yield root if request.param == "folder" else bak.store(root)


def test_every_time_of_an_answer_is_utc(source: Any, root: Path) -> None:
    frame = bak.sql(
        source,
        """SELECT open_time, date, [close_time] AS list, {'t': open_time} AS struct,
                  open_time::TIMESTAMPTZ AS zoned, open_time::TIMESTAMP_NS AS ns,
                  open_time::TIMESTAMP_S AS s, close_time - open_time AS length, NULL::INTERVAL n
           FROM spot_klines ORDER BY open_time""",
    )
    utc = pl.Datetime("us", "UTC")
    assert dict(frame.schema) == {
        "open_time": utc,
        "date": pl.Date(),
        "list": pl.List(utc),
        "struct": pl.Struct({"t": utc}),
        "zoned": utc,
        "ns": utc,
        "s": utc,
        "length": pl.Duration("us"),
        "n": pl.Duration("us"),
    }
    scanned = bak.scan(root, "spot", "klines").collect()
    assert frame.join(scanned, on="open_time").height == frame.height == scanned.height
    assert frame["zoned"].to_list() == frame["ns"].to_list() == frame["open_time"].to_list()
    assert frame["length"][0] == timedelta(hours=1) - timedelta(microseconds=1)


@pytest.mark.parametrize("decimals", [False, True])
def test_an_answer_joins_with_scans_and_loaders(root: Path, decimals: bool) -> None:
    """Whatever is joined by the path columns has the same types everywhere."""
    source = bak.store(root, decimals=decimals)
    scanned = bak.scan(source, "spot", "klines").collect()
    every = bak.sql(source, "FROM spot_klines")
    assert every.schema == scanned.schema
    assert bak.sql(source, "FROM spot_klines WHERE false").schema == scanned.schema
    keys = ["market", "symbol", "interval", "date", "partition", "file", "open_time"]
    assert every.join(scanned, on=keys).height == 24
    assert pl.concat([every, scanned]).height == 48
    loaded = bak.load_klines(source, ["BTCUSDT"], ["1h"])
    assert every.join(loaded, on=["symbol", "interval", "open_time"]).height == 24
    bars = bak.sql(source, "FROM ohlcv('spot_klines', 'BTCUSDT', '1h', INTERVAL 4 HOUR)")
    made = bak.ohlcv(source, ["BTCUSDT"], "4h")
    assert bars.join(made, on=["symbol", "interval", "open_time"]).height == 6
    # And back again.
    again = bak.sql(
        source,
        "SELECT count(*) n FROM e JOIN spot_klines USING (symbol, interval)",
        frames={"e": every.head(1)},
    )
    assert again["n"].to_list() == [24]


def test_other_words_stay_text(con: duckdb.DuckDBPyConnection) -> None:
    found = bak.sql(
        con,
        "SELECT 'spot' AS market, 5 AS symbol, unnest(['1h', 'mine', NULL]) AS interval,"
        " 'x' AS file, NULL::VARCHAR AS partition, 'BTCUSDT' AS name",
    )
    types = {name: str(dtype).partition("(")[0] for name, dtype in found.schema.items()}
    assert types == {
        "market": "Enum",
        "symbol": "Int32",
        "interval": "String",
        "file": "Categorical",
        "partition": "Enum",
        "name": "String",
    }
    assert found["interval"].to_list() == ["1h", "mine", None]
    assert found["partition"].to_list() == [None] * 3


def test_a_connection_in_another_zone_gives_the_same_moments(root: Path) -> None:
    with bak.connect(root) as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        query = "SELECT TIMESTAMPTZ '2025-07-01 09:00', min(open_time) FROM spot_klines"
        assert set(bak.sql(connection, query).row(0)) == {datetime(2025, 7, 1, tzinfo=UTC)}


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo", "America/New_York"])
def test_frames_compare_by_moment(
    con: duckdb.DuckDBPyConnection, unit: Any, zone: str | None
) -> None:
    times = pl.col("open_time").dt.cast_time_unit(unit)
    if zone:
        times = times.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    frame = MINE.with_columns(times)
    joined = "SELECT open_time FROM spot_klines JOIN {} USING (open_time) ORDER BY ALL"
    expected = [(datetime(2025, 7, 1, hour, tzinfo=UTC),) for hour in (5, 6)]
    assert bak.sql(con, joined.format("other"), frames={"other": frame}).rows() == expected
    for mine in (frame, frame.lazy(), frame.to_arrow()):
        assert bak.sql(con, joined.format("mine")).rows() == expected, mine


def test_frames_are_gone_after_the_query(root: Path) -> None:
    with bak.connect(root) as connection:
        bak.sql(connection, "FROM other", frames={"other": MINE})
        connection.execute("SET python_enable_replacements = false")
        with pytest.raises(duckdb.CatalogException):
            connection.sql("FROM other")
        bak.sql(connection, "FROM MINE")
        [(kept,)] = connection.sql(
            "SELECT current_setting('python_enable_replacements')"
        ).fetchall()
        assert kept is False


class _Word(StrEnum):
    BTC = "BTCUSDT"


def test_values_are_bound_and_their_moments_are_utc(source: Any) -> None:
    count = "SELECT count(*) FROM spot_klines WHERE "
    noon = datetime(2025, 7, 1, 21, tzinfo=TOKYO)
    for query, params, rows in (
        ("open_time >= ? AND symbol = ?", [noon, _Word.BTC], 12),
        ("open_time >= $1", (datetime(2025, 7, 1, 12),), 12),
        ("open_time < $t AND date = $d", {"t": noon, "d": date(2025, 7, 1)}, 12),
        ("open_time IN (SELECT unnest($ts))", {"ts": [noon, noon + timedelta(hours=1)]}, 2),
        ("hour(open_time) IN (SELECT unnest(?))", [pl.Series([3, 4])], 2),
        ("hour(open_time) IN (SELECT unnest(?))", [{3, 4}], 2),
        ("hour(open_time) = ?", [np.int64(3)], 1),
        ("symbol = ?", ["x' OR '1' = '1"], 0),
    ):
        assert bak.sql(source, count + query, params).item() == rows, query


def test_bound_moments_reach_the_files(root: Path) -> None:
    store = bak.store(root)
    query = "SELECT count(close) FROM spot_klines WHERE open_time >= ?"
    assert bak.sql(store, query, [datetime(2026, 1, 1, tzinfo=UTC)]).item() == 0
    assert store.last_scan is not None
    assert store.last_scan.opened + store.last_scan.cached == 0


@pytest.mark.parametrize(
    ("query", "params", "options", "said"),
    [
        ("SELECT 1; DROP VIEW spot_klines", None, {}, "2 statements"),
        ("-- nothing", None, {}, "no statement"),
        (3, None, {}, "not text"),
        ("SELECT ?", "abc", {}, "params"),
        ("SELECT ?", [1, 2], {}, "query"),
        ("SELECT $a", {"b": 1}, {}, "query"),
        ("SELECT ?", [object()], {}, "query"),
        ("SELECT\n  zz\nFROM spot_klines", None, {}, r"LINE 2:   zz"),
        ("SELECT\n  *\nFROM spot_klins", None, {}, r"(?s)did you mean 'spot_klines'.*LINE 3"),
        ("FROM pg_foo", None, {}, "Views with rows: spot_klines"),
        ("FROM query", None, {}, "no table or view 'query'"),
        ("SELEC 1", None, {}, "LINE 1"),
        ("SELECT 'x'::INT", None, {}, "LINE 1"),
        ("SELECT INTERVAL 1 MONTH", None, {}, "no fixed length"),
        ("FROM f", None, {"frames": {"f": 3}}, "frames: 'f' is a int"),
        ("FROM f", None, {"frames": MINE}, "frames: a DataFrame has no names"),
        ("SELECT ?", MINE, {}, "params: <DataFrame> is neither"),
        (MINE, None, {}, "query: <DataFrame> is not text"),
        ("FROM klines", None, {}, "did you mean 'spot_klines'"),
        ("FROM KLINES", None, {}, "did you mean 'spot_klines'"),
        ("FROM f", None, {"frames": {"SPOT_klines": MINE}}, "is a table or view"),
        ("FROM spot_trades", None, {}, "collect some first"),
        ("SELECT 1", None, {"cash": True}, "cash"),
    ],
)
def test_what_cannot_be_answered_is_our_error(
    con: duckdb.DuckDBPyConnection, query: Any, params: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        bak.sql(con, query, params, **options)
    assert "pg_" not in str(caught.value).replace("pg_foo", "")
    assert bak.sql(con, "SELECT 1").item() == 1


def test_frames_are_seen_from_every_source(source: Any) -> None:
    mine = MINE.with_columns(pl.col("open_time").dt.replace_time_zone("UTC"))
    query = "SELECT count(*) FROM spot_klines JOIN {} USING (open_time)"
    assert bak.sql(source, query.format("mine")).item() == 2
    assert bak.sql(source, query.format("x"), frames={"x": mine}).item() == 2
    with pytest.raises(ConfigurationError, match="no table or view 'x'"):
        bak.sql(source, query.format("x"))


def test_a_bad_file_raises_its_own_error(tmp_path: Path) -> None:
    put(tmp_path, KEY, edit=lambda csv: b"garbage,1\n")
    with bak.connect(tmp_path) as connection:
        for source in (tmp_path, bak.store(tmp_path), connection):
            with pytest.raises(FileError) as caught:
                bak.sql(source, "SELECT sum(close) FROM spot_klines")
            assert caught.value.file == str(KEY)


def test_statements_without_rows_are_carried_out(root: Path) -> None:
    with bak.connect(root) as connection:
        bak.sql(connection, "CREATE TABLE own AS SELECT max(open_time) AS t FROM spot_klines")
        assert bak.sql(connection, "FROM own").item() == datetime(2025, 7, 1, 23, tzinfo=UTC)


def test_the_command_line_names_our_views(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("spot_klins", "query", "pg_foo"):
        assert main(["sql", str(root), f"FROM {table}"]) != 0
        said = capsys.readouterr().err
        assert "Views with rows: spot_klines" in said
        assert "LINE 1" in said


def test_an_error_of_the_reader_itself_is_raised_as_it_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Iterator[pa.RecordBatch]:
        yield from ()
        raise KeyError("lost")

    monkeypatch.setattr(Engine, "_scan", fail)
    with pytest.raises(KeyError, match="lost"):
        bak.sql(root, "SELECT * FROM spot_klines")
