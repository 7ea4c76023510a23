"""From the archive to panels and Parquet: what was collected is what they have."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest

import binance_archive_kit as bak


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collect the whole demo archive, once."""
    root = tmp_path_factory.mktemp("demo")
    with bak.demo_archive() as endpoint:
        assert not bak.collect(bak.demo_config(endpoint, root)).failures
    return root


def test_every_feed_of_the_demo_archive_is_exported_as_it_is_scanned(
    demo: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    result = bak.to_parquet(demo, lake)
    assert bak.to_parquet(demo, lake).written == 0
    feeds = bak.store(demo).frame().select("market", "data_type").unique().rows()
    total = 0
    for market, data_type in feeds:
        expected = bak.scan(demo, market, data_type).drop("market", "interval").collect()
        words = pl.col(pl.Categorical, pl.Enum).cast(pl.String)
        folder = f"{lake}/market={market}/data_type={data_type}"
        found = pl.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=False)
        assert found.columns == expected.columns
        order = pl.struct(pl.all())
        assert (
            found.with_columns(words).sort(order).equals(expected.with_columns(words).sort(order))
        )
        with duckdb.connect() as con:
            [(count,)] = con.sql(
                f"SELECT count(*) FROM read_parquet('{folder}/**/*.parquet', "
                "hive_partitioning = true)"
            ).fetchall()
        assert count == expected.height
        total += expected.height
    assert result.rows == total
    sources = pl.read_parquet(lake / "_sources.parquet")
    assert sources["rows"].sum() == total
    assert sources["sha256"].null_count() == 0


def test_a_panel_of_the_demo_archive_has_the_candles_of_the_loader(demo: Path) -> None:
    frame, report = bak.panel(
        demo, "futures_um", "1h", "close", quote="USDT", min_coverage=0.5, report=True
    )
    used = report.filter(pl.col("state") == "used")["symbol"].to_list()
    assert frame.columns == ["open_time", *used]
    for symbol in used:
        candles = bak.load_klines(demo, symbol, "1h", market="futures_um")
        expected = candles.select("open_time", "close")
        found = frame.select("open_time", pl.col(symbol).alias("close")).drop_nulls()
        assert found.equals(expected.drop_nulls())
    moves = bak.panel(demo, "futures_um", "1h", "close", symbols=used, returns=True)
    gaps = bak.coverage(demo).gaps.filter(
        pl.col("market") == "futures_um", pl.col("interval") == "1h", pl.col("missing") > 0
    )
    for gap in gaps.filter(pl.col("symbol").is_in(used)).iter_rows(named=True):
        after = moves.filter(pl.col("open_time") == gap["end"])
        assert after[gap["symbol"]].is_null().all()
