"""What changes in the folder of a store is in the next query, and no row is doubled."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from tests.support.stores import (
    assert_same,
    in_order,
    kline,
    naive_rows,
    other,
    put,
    scan_rows,
    view_rows,
)

MONTH = kline("BTCUSDT", "2025-07")
DAYS = [kline("BTCUSDT", f"2025-07-{day:02}") for day in range(1, 32)]


# Files that are left out

LEFT = pl.DataFrame({"open_time": [datetime(2025, 7, 2, tzinfo=UTC)], "symbol": ["BTCUSDT"]})
SKIP: dict[str, Any] = {"on_error": "skip", "cache": False}


@pytest.mark.parametrize(
    "read",
    [
        lambda root: bak.scan(root, "spot", "klines", **SKIP).collect(),
        lambda root: bak.scan(root, "spot", "klines", **SKIP).select(pl.len()).collect(),
        lambda root: bak.load_klines(root, "BTCUSDT", "1h", **SKIP),
        lambda root: bak.ohlcv(root, "BTCUSDT", "1d", **SKIP),
        lambda root: bak.join_known(LEFT, root, "spot", "klines", **SKIP),
        lambda root: bak.sql(root, "SELECT * FROM spot_klines", **SKIP),
        lambda root: bak.connect(root, **SKIP).sql("SELECT max(high) FROM spot_klines").pl(),
        lambda root: (
            ThreadPoolExecutor(1).submit(bak.load_klines, root, "BTCUSDT", "1h", **SKIP).result()
        ),
    ],
)
def test_the_warning_of_a_file_left_out_names_the_line_of_the_caller(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    put(tmp_path, DAYS[0])
    put(tmp_path, DAYS[1], edit=lambda csv: csv + b"1,2\n")
    with pytest.warns(bak.ArchiveKitWarning, match="left out") as caught:
        read(tmp_path)
    first = read.__code__.co_firstlineno
    lines = {(warning.filename, 0 <= warning.lineno - first <= 2) for warning in caught}
    assert lines == {(__file__, True)}


# Doubled rows


@pytest.mark.parametrize(
    "key",
    [
        other("metrics", "BTCUSDT", "2021-05-01"),
        other("liquidationSnapshot", "BTCUSDT", "2023-06-25"),
    ],
    ids=["metrics", "liquidationSnapshot"],
)
def test_repeated_rows_are_served_as_they_are_or_once(tmp_path: Path, key: ObjectKey) -> None:
    put(tmp_path, key, 40)
    expected = naive_rows(tmp_path, key)
    once = list(dict.fromkeys(expected))
    assert len(once) < len(expected) == 40
    market, data_type = key.folder.market, key.folder.data_type
    view = f"futures_um_{data_type.name.lower()}"
    assert_same(scan_rows(bak.scan(tmp_path, market, data_type)), expected)
    assert_same(scan_rows(bak.scan(tmp_path, market, data_type, distinct=True)), once)
    with bak.connect(tmp_path) as con, bak.connect(tmp_path, distinct=True) as distinct:
        assert_same(view_rows(con, view), expected)
        assert_same(sorted(view_rows(distinct, view), key=str), sorted(once, key=str))


# What changes is in the next query


@pytest.fixture
def con(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    put(tmp_path, DAYS[0])
    with bak.connect(tmp_path) as con:
        assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, DAYS[0]))
        yield con


def test_a_file_that_arrives_is_there(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    for at in range(1, 4):
        put(tmp_path, DAYS[at])
        assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, *DAYS[: at + 1]))


def test_a_symbol_that_arrives_is_there(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    keys = [DAYS[0], kline("ETHUSDT", "2025-07-01"), kline("ETHUSDT", "2025-07-01", "1m")]
    put(tmp_path, keys[1])
    put(tmp_path, keys[2])
    assert len(view_rows(con, "spot_klines", "symbol = 'ETHUSDT'")) == 48
    assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, *in_order(keys)))


def test_a_feed_that_arrives_is_there(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    key = other("metrics", "BTCUSDT", "2025-07-01")
    put(tmp_path, key)
    assert_same(view_rows(con, "futures_um_metrics"), naive_rows(tmp_path, key))
    assert {row[0] for row in con.sql("FROM store_streams").fetchall()} == {
        "spot_klines",
        "futures_um_metrics",
    }


def test_a_file_of_other_content_is_read_anew(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    before = view_rows(con, "spot_klines")
    put(tmp_path, DAYS[0], 20, seed=1)
    expected = naive_rows(tmp_path, DAYS[0])
    assert expected != before
    assert con.sql("SELECT count(*) FROM spot_klines").fetchall() == [(20,)]
    assert_same(view_rows(con, "spot_klines"), expected)


def test_rows_are_counted_by_what_paths_say(tmp_path: Path) -> None:
    """Of files that were read before, none is opened for it."""
    days, month = kline("ETHUSDT", "2025-07-01"), kline("ETHUSDT", "2025-08")
    keys = [*DAYS[:3], days, month]
    for at, key in enumerate(keys):
        put(tmp_path, key, 20 + at)
    store = bak.store(tmp_path, cache=False)
    with bak.connect(store) as con:
        rows = view_rows(con, "spot_klines")
        for by, at in {"symbol": 1, "partition": 4, "file": 5}.items():
            for where, meant in {
                "true": keys,
                "symbol = 'ETHUSDT'": [days, month],
                "partition = 'daily'": keys[:4],
                f"file = '{DAYS[1]}'": [DAYS[1]],
                f"symbol = 'ETHUSDT' OR file = '{DAYS[1]}'": [DAYS[1], days, month],
            }.items():
                counted = con.sql(
                    f"SELECT {by}, count(*) FROM spot_klines WHERE {where} GROUP BY 1"
                )
                own = [row for row in rows if row[5] in set(map(str, meant))]
                assert dict(counted.fetchall()) == Counter(row[at] for row in own), (by, where)
                assert store.last_scan.opened == 0


def test_a_file_put_in_place_under_the_old_ones_coarse_time_is_read_anew(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    """As `cp -p`, `rsync -t` or s5cmd leave it: times in whole seconds, of the past."""
    path = tmp_path / str(DAYS[0])
    os.utime(path, (1_750_000_000, 1_750_000_000))
    view_rows(con, "spot_klines")
    new = put(tmp_path / "elsewhere", DAYS[0], 23, seed=1)
    os.utime(new, (1_750_000_001, 1_750_000_001))
    new.replace(path)
    assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, DAYS[0]))
    assert con.sql("SELECT count(*) FROM spot_klines").fetchall() == [(23,)]


def test_a_folder_whose_time_was_set_back_shows_what_arrived_in_it(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    folder = (tmp_path / str(DAYS[0])).parent
    os.utime(folder, (1_750_000_000, 1_750_000_000))
    view_rows(con, "spot_klines")
    put(tmp_path, DAYS[1])
    assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, *DAYS[:2]))


def test_a_file_that_arrives_within_a_tick_of_a_coarse_clock_is_there(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    """File systems that keep whole seconds show the same time before and after."""
    folder = (tmp_path / str(DAYS[0])).parent
    for at in range(1, 4):
        second = int(time.time())
        os.utime(folder, (second, second))
        assert len(view_rows(con, "spot_klines")) == at * 24
        put(tmp_path, DAYS[at])
        os.utime(folder, (second, second))
        assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, *DAYS[: at + 1]))


def test_a_file_that_goes_is_gone(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    put(tmp_path, DAYS[1])
    assert len(view_rows(con, "spot_klines")) == 48
    (tmp_path / str(DAYS[0])).unlink()
    assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, DAYS[1]))


def test_a_file_that_goes_while_its_folder_is_read_takes_no_other_along(tmp_path: Path) -> None:
    put(tmp_path, DAYS[0])
    lost = tmp_path / str(DAYS[1])
    lost.symlink_to(tmp_path / "nowhere.zip")
    assert_same(scan_rows(bak.scan(tmp_path, "spot", "klines")), naive_rows(tmp_path, DAYS[0]))
    assert bak.verify(tmp_path).files == 1


def test_a_feed_that_goes_says_so_and_comes_back(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    shutil.rmtree(tmp_path / "data")
    with pytest.raises((duckdb.Error, bak.ConfigurationError), match="; collect some first"):
        view_rows(con, "spot_klines")
    put(tmp_path, DAYS[1])
    assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, DAYS[1]))


def test_a_scan_made_before_a_file_arrived_has_it(tmp_path: Path) -> None:
    put(tmp_path, DAYS[0])
    lazy = bak.scan(tmp_path, "spot", "klines", symbols="BTCUSDT")
    assert lazy.select(pl.len()).collect().item() == 24
    put(tmp_path, DAYS[1])
    assert_same(scan_rows(lazy), naive_rows(tmp_path, *DAYS[:2]))


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT-1h-2025-07-02.zip.part",
        "BTCUSDT-1h-2025-13-02.zip",
        "BTCUSDT-1h-2025-07-32.zip",
        "BTCUSDT-1h-2025-07.zip",
        "ETHUSDT-1h-2025-07-02.zip",
        "BTCUSDT-1m-2025-07-02.zip",
        "copy of BTCUSDT-1h-2025-07-02.zip",
        "notes.txt",
    ],
)
def test_what_is_no_file_of_the_archive_is_overlooked(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, name: str
) -> None:
    (tmp_path / str(DAYS[0])).with_name(name).write_bytes(b"whatever")
    assert_same(view_rows(con, "spot_klines"), naive_rows(tmp_path, DAYS[0]))


def test_a_period_that_spans_a_month_of_a_long_interval_is_not_lost(tmp_path: Path) -> None:
    """Candles of a week may begin before the month whose file has them."""
    july, august = kline("BTCUSDT", "2025-07", "1w"), kline("BTCUSDT", "2025-08", "1w")
    put(tmp_path, july, 10)
    put(tmp_path, august, 10)
    expected = naive_rows(tmp_path, july, august)
    lazy = bak.scan(tmp_path, "spot", "klines", intervals="1w")
    assert_same(scan_rows(lazy), expected)
    moment = datetime(2025, 7, 28)
    same = [row for row in expected if row[6] == moment]
    assert len(same) == 1
    assert_same(
        scan_rows(lazy.filter(pl.col("open_time") == pl.lit(moment).dt.replace_time_zone("UTC"))),
        same,
    )
