"""Months are read from the cache, from the zips or as a count, and written into the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.schemas import read_feed
from binance_archive_kit.errors import FileError
from binance_archive_kit.query.cache import MonthCache
from binance_archive_kit.query.file_lookup import ScanContext
from binance_archive_kit.query.months import CacheWriter, MonthReader, Query, ScanReport, Tally
from binance_archive_kit.query.pruning import ArrowPruner, Selection
from binance_archive_kit.query.scan_planner import MonthTask, ScanPlanner
from binance_archive_kit.reading.feed_table import FeedTable, feed_table
from binance_archive_kit.storage.store import Store
from tests.support.stores import kline, put

KEYS = [kline("BTCUSDT", f"2025-0{month}-01") for month in (5, 6, 7)]
FEED: FeedTable = feed_table(*read_feed("spot", "klines"))


@pytest.fixture
def context(tmp_path: Path) -> ScanContext:
    """Three months with a day each."""
    for key in KEYS:
        put(tmp_path, key)
    store = Store(tmp_path)
    return ScanContext(store, MonthCache(store.root), Partition.DAILY, None)


def query(*names: str, where: ds.Expression | None = None) -> Query:
    pruner = Selection() if where is None else ArrowPruner(where, FEED.arrow, FEED.time)
    return Query(FEED, list(names), pruner, where)


def months_of(context: ScanContext, asked: Query) -> list[MonthTask]:
    folders = context.store.inventory.folders(FEED.market, FEED.data_type)
    return ScanPlanner(context, FEED, asked.pruner, cached=asked.reads).months(folders)


def read(context: ScanContext, asked: Query) -> tuple[pa.Table, Tally]:
    tally = Tally(ScanReport(FEED.view))
    batches = list(MonthReader(context, asked, tally).read(months_of(context, asked)))
    context.cache.known.remember(FEED, tally.stats)
    schema = pa.schema([FEED.arrow.field(name) for name in asked.names])
    return pa.Table.from_batches(batches, schema), tally


def fill(context: ScanContext) -> list[Path]:
    writer = CacheWriter(context)
    for month in months_of(context, query("close")):
        writer.write(FEED, month, workers=1)
    assert context.cache.folder is not None
    return sorted(context.cache.folder.rglob("*.parquet"))


def test_cached_months_are_those_of_the_zips(context: ScanContext) -> None:
    asked = query("file", "open_time", "close")
    zips, tally = read(context, asked)
    assert (zips.num_rows, tally.report.opened, tally.report.cached) == (72, 3, 0)
    assert len(fill(context)) == 3
    cached, tally = read(context, asked)
    assert (tally.report.opened, tally.report.cached) == (0, 3)
    assert cached.to_pylist() == zips.to_pylist()


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_bad_cached_month_is_read_from_its_zip(
    context: ScanContext, index: int, damage: str
) -> None:
    asked = query("open_time", "close")
    zips, _ = read(context, asked)
    paths = fill(context)
    months = months_of(context, asked)
    if damage == "gone":
        paths[index].unlink()
    else:
        paths[index].write_bytes(paths[index].read_bytes()[:-100])
    tally = Tally(ScanReport(FEED.view))
    batches = MonthReader(context, asked, tally).read(months)
    assert pa.Table.from_batches(batches).to_pylist() == zips.to_pylist()
    assert tally.report.opened == 3
    assert not any(path.exists() for path in paths), "none of them is trusted"


def test_known_rows_are_counted_without_opening_a_file(context: ScanContext) -> None:
    asked = query("symbol")
    assert not asked.reads
    for opened in (3, 0):
        counted, tally = read(context, asked)
        assert (counted.num_rows, tally.report.opened) == (72, opened)


def test_a_condition_reads_its_columns_and_returns_the_others(context: ScanContext) -> None:
    where = pc.field("close") > pc.scalar(0.0)
    asked = query("open_time", where=where)
    assert asked.columns == ["open_time", "close"]
    found, _ = read(context, asked)
    assert found.column_names == ["open_time"]
    none, _ = read(context, query("open_time", where=pc.field("close") < pc.scalar(0.0)))
    assert none.num_rows == 0


def test_a_file_counts_once_it_was_read_to_its_end(context: ScanContext) -> None:
    asked = query("close")
    tally = Tally(ScanReport(FEED.view))
    batches = MonthReader(context, asked, tally).read(months_of(context, asked))
    next(batches)
    batches.close()
    assert tally.report.opened == len(tally.stats) < 4
    _, tally = read(context, asked)
    assert [stats.rows for stats in tally.stats.values()] == [24] * 3


def test_a_month_with_a_bad_file_is_not_cached(context: ScanContext) -> None:
    [first, *_] = months_of(context, query("close"))
    put(context.store.root, KEYS[0], edit=lambda csv: csv[:-9])
    with pytest.raises(FileError):
        CacheWriter(context).write(FEED, first, workers=1)
    skipping = replace(context, skip=lambda error: None)
    CacheWriter(skipping).write(FEED, first, workers=1)
    assert context.cache.use().months == 0
