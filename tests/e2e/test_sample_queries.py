"""Real files, and the whole demo archive, read three ways that must agree cell by cell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from tests.support.checks import files_of
from tests.support.stores import (
    assert_same,
    assert_typed,
    in_order,
    naive_rows,
    promised,
    scan_rows,
    schema_of,
    view_of,
    view_rows,
)

SAMPLES = os.environ.get("BINANCE_ARCHIVE_SAMPLES")
SAMPLE_KEYS = (
    sorted(path.relative_to(SAMPLES).as_posix() for path in Path(SAMPLES).rglob("*.zip"))
    if SAMPLES
    else []
)
needs_samples = pytest.mark.skipif(
    not SAMPLES, reason="BINANCE_ARCHIVE_SAMPLES names no folder of real archive files"
)


def keys_in(root: Path) -> list[ObjectKey]:
    return [ObjectKey.parse(key) for key in files_of(root) if key.endswith(".zip")]


# Real files


@pytest.fixture(scope="module")
def samples() -> Iterator[duckdb.DuckDBPyConnection]:
    with bak.connect(SAMPLES or ".", cache=False) as con:
        yield con


@needs_samples
def test_there_are_samples() -> None:
    assert len(SAMPLE_KEYS) > 20


@pytest.mark.parametrize("name", SAMPLE_KEYS, ids=lambda name: name.rpartition("/")[2])
def test_a_real_file_reads_as_the_standard_library_reads_it(
    samples: duckdb.DuckDBPyConnection, name: str
) -> None:
    key = ObjectKey.parse(name)
    expected = naive_rows(Path(SAMPLES or "."), key)
    assert expected
    stream = key.folder
    lazy = bak.scan(
        SAMPLES or ".", stream.market, stream.data_type, symbols=stream.symbol, cache=False
    ).filter(pl.col("file") == name)
    assert_same(view_rows(samples, view_of(key), f"file = '{name}'"), expected)
    assert_same(scan_rows(lazy), expected)
    assert_typed(samples, lazy, schema_of(key))


#: Rows, first and last time of files, as counted by hand with `unzip -p` and `wc`.
KNOWN = {
    "spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2020-01-01": (
        1_440,
        datetime(2020, 1, 1),
        datetime(2020, 1, 1, 23, 59),
    ),
    "spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-05-08": (
        24,
        datetime(2026, 5, 8),
        datetime(2026, 5, 8, 23),
    ),
    "futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2022-05-05": (
        1_440,
        datetime(2022, 5, 5),
        datetime(2022, 5, 5, 23, 59),
    ),
    "futures/um/monthly/klines/NEARUSDT/1m/NEARUSDT-1m-2026-02": (
        40_320,
        datetime(2026, 2, 1),
        datetime(2026, 2, 28, 23, 59),
    ),
    "spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2021-02": (
        671,
        datetime(2021, 2, 1),
        datetime(2021, 2, 28, 23),
    ),
    "option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-10-20": (
        5_626,
        datetime(2023, 10, 20, 0),
        datetime(2023, 10, 20, 23),
    ),
}


@needs_samples
@pytest.mark.parametrize("name", KNOWN, ids=lambda name: name.rpartition("/")[2])
def test_a_real_file_has_the_rows_and_times_counted_by_hand(
    samples: duckdb.DuckDBPyConnection, name: str
) -> None:
    key = ObjectKey.parse(f"data/{name}.zip")
    time = schema_of(key).time.column
    found = samples.sql(
        f"SELECT count(*), min({time}), max({time}) FROM {view_of(key)} WHERE file = '{key}'"
    )
    assert found.fetchall() == [KNOWN[name]]


@needs_samples
def test_coin_margined_columns_are_called_what_they_hold(
    samples: duckdb.DuckDBPyConnection,
) -> None:
    columns = samples.sql("SELECT * FROM futures_cm_klines").columns
    assert {"volume", "base_volume", "taker_buy_base_volume"} <= set(columns)
    assert "quote_volume" not in columns
    assert "ignore" not in columns


# The demo archive


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collect the whole demo archive, once."""
    root = tmp_path_factory.mktemp("demo")
    with bak.demo_archive() as endpoint:
        result = bak.collect(bak.demo_config(endpoint, root))
    assert not result.failures
    assert len(keys_in(root)) > 300
    return root


def test_every_row_of_the_demo_archive_reads_the_same_three_ways(demo: Path) -> None:
    by_view: dict[str, list[ObjectKey]] = {}
    for key in in_order(keys_in(demo)):
        by_view.setdefault(view_of(key), []).append(key)
    assert len(by_view) > 15
    with bak.connect(demo, cache=False) as con:
        for view, keys in by_view.items():
            found = schema_of(keys[0])
            lazy = bak.scan(demo, found.market, found.data_type, cache=False)
            assert_typed(con, lazy, found)
            expected = promised(naive_rows(demo, *keys), found)
            assert_same(view_rows(con, view), expected)
            assert_same(scan_rows(lazy), expected)


def test_the_store_says_what_the_demo_archive_holds(demo: Path) -> None:
    frame = bak.store(demo).frame()
    keys = keys_in(demo)
    assert frame["files"].sum() == len(keys) == frame["proven"].sum()
    assert frame["bytes"].sum() == sum((demo / str(key)).stat().st_size for key in keys)
    assert set(frame["view"]) == {view_of(key) for key in keys}
    assert frame.height == len({key.folder for key in keys})
