"""The rows of steps come from tables, from files or from counts, in the order of the steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.errors import FileError
from binance_archive_kit.query.engine import Engine, ReadOptions
from binance_archive_kit.query.file_lookup import FileLookup, ScanContext
from binance_archive_kit.query.pruning import ArrowPruner, Selection
from binance_archive_kit.query.scan_planner import ScanPlanner, ScanStep
from binance_archive_kit.query.scan_reader import Query, ScanReader, ScanReport, Tally
from binance_archive_kit.query.store_cache import StoreCache
from binance_archive_kit.query.tabled_files import TabledFiles
from binance_archive_kit.reading.feed_table import FeedTable, feed_table, read_feed
from binance_archive_kit.storage.store import Store
from binance_archive_kit.tables.snapshot import StaleSnapshot
from tests.support.stores import assert_same, kline, naive_rows, put, scan_rows

KEYS = [kline("BTCUSDT", f"2025-0{month}-01") for month in (5, 6, 7)]
FEED: FeedTable = feed_table(*read_feed("spot", "klines"))


@pytest.fixture
def context(tmp_path: Path) -> ScanContext:
    """Three months with a day each."""
    for key in KEYS:
        put(tmp_path, key)
    store = Store(tmp_path)
    return ScanContext(store, StoreCache(store).known, Partition.DAILY, None)


def query(*names: str, where: ds.Expression | None = None) -> Query:
    pruner = Selection() if where is None else ArrowPruner(where, FEED.arrow, FEED.time)
    return Query(FEED, list(names), pruner, where)


def build(context: ScanContext, *symbols: str) -> None:
    Engine(context.store.root, ReadOptions()).build("spot", "klines", symbols or None)


class Scan:
    """A scan of the store, as the engine does it."""

    def __init__(self, context: ScanContext, query: Query) -> None:
        self.snapshot = StoreCache(context.store).tables.snapshot(FEED)
        self.tabled = TabledFiles(self.snapshot.entries())
        folders = context.store.inventory.folders(FEED.market, FEED.data_type)
        planner = ScanPlanner(context, FEED, query.pruner)
        self.steps: list[ScanStep] = planner.steps(folders, self.tabled)
        self.tally = Tally(ScanReport(FEED.view))
        self._context = context
        self._query = query

    @property
    def report(self) -> tuple[int, int]:
        """Files that were opened, and that came from tables."""
        return self.tally.report.opened, self.tally.report.cached

    def batches(self) -> Iterator[pa.RecordBatch]:
        lookup = FileLookup(self._context, FEED)
        reader = ScanReader(
            lookup, self.snapshot, self.tabled, self._query, self.tally, self._context.skip
        )
        return reader.read(self.steps)

    def read(self) -> pa.Table:
        found = list(self.batches())
        self._context.known.remember(FEED, self.tally.stats)
        schema = pa.schema([FEED.arrow.field(name) for name in self._query.names])
        return pa.Table.from_batches(found, schema)


def test_rows_of_tables_are_those_of_the_zips(context: ScanContext) -> None:
    asked = query("file", "open_time", "close")
    scan = Scan(context, asked)
    zips = scan.read()
    assert (zips.num_rows, scan.report) == (72, (3, 0))
    build(context)
    scan = Scan(context, asked)
    assert scan.read().to_pylist() == zips.to_pylist()
    assert scan.report == (0, 3)


def test_rows_of_files_between_tables_are_in_order(context: ScanContext) -> None:
    build(context)
    put(context.store.root, KEYS[1], seed=1)
    scan = Scan(context, query("file", "open_time"))
    assert [len(step.tasks) for step in scan.steps] == [0, 1, 0]
    found = scan.read()
    assert found["open_time"].to_pylist() == sorted(found["open_time"].to_pylist())
    assert scan.report == (1, 2)


def test_known_rows_are_counted_without_opening_a_file(context: ScanContext) -> None:
    asked = query("symbol")
    assert not asked.reads
    for opened in (3, 0):
        scan = Scan(context, asked)
        assert (scan.read().num_rows, scan.report) == (72, (opened, 0))
    build(context)
    scan = Scan(context, asked)
    scan.snapshot.read = None  # type: ignore[method-assign, assignment]
    assert (scan.read().num_rows, scan.report) == (72, (0, 3))


@pytest.mark.parametrize("names", [["file"], ["partition"], ["symbol", "file"]])
def test_path_columns_are_those_of_each_file(context: ScanContext, names: list[str]) -> None:
    put(context.store.root, kline("BTCUSDT", "2025-08"), 5)
    asked = query(*names)
    zips = Scan(context, asked).read()
    build(context)
    # One file is in tables no longer.
    put(context.store.root, KEYS[1])
    for _ in range(2):
        assert Scan(context, asked).read().to_pylist() == zips.to_pylist()
    where = pc.field("file") == str(KEYS[2])
    found = Scan(context, query(*names, where=where))
    assert found.read().num_rows == 24
    where |= pc.field("partition") == "monthly"
    assert Scan(context, query("symbol", where=where)).read().num_rows == 29


def test_a_condition_reads_its_columns_and_returns_the_others(context: ScanContext) -> None:
    where = pc.field("close") > pc.scalar(0.0)
    asked = query("open_time", where=where)
    assert asked.columns == ["open_time", "close"]
    for _ in range(2):
        assert Scan(context, asked).read().column_names == ["open_time"]
        none = Scan(context, query("open_time", where=pc.field("close") < pc.scalar(0.0)))
        assert none.read().num_rows == 0
        build(context)


def test_a_file_counts_once_it_was_read_to_its_end(context: ScanContext) -> None:
    asked = query("close")
    scan = Scan(context, asked)
    batches: Any = scan.batches()
    next(batches)
    batches.close()
    assert scan.tally.report.opened == len(scan.tally.stats) < 4
    scan = Scan(context, asked)
    scan.read()
    assert [stats.rows for stats in scan.tally.stats.values()] == [24] * 3


def test_a_bad_file_raises_or_is_left_out(context: ScanContext) -> None:
    build(context)
    put(context.store.root, KEYS[1], edit=lambda csv: csv[:-9])
    asked = query("close")
    with pytest.raises(FileError):
        Scan(context, asked).read()
    skipped: list[FileError] = []
    scan = Scan(replace(context, skip=skipped.append), asked)
    assert (scan.read().num_rows, scan.report) == (48, (0, 2))
    assert len(skipped) == 1


def without_parts(context: ScanContext) -> None:
    for path in context.store.root.rglob("*.rows.parquet"):
        path.unlink()


@pytest.mark.parametrize("name", ["close", "file"])
def test_a_table_that_is_gone_is_noticed_before_the_first_row(
    context: ScanContext, name: str
) -> None:
    build(context)
    put(context.store.root, KEYS[0], seed=1)
    scan = Scan(context, query(name))
    assert scan.steps[0].tasks, "rows of a file come first"
    without_parts(context)
    with pytest.raises(StaleSnapshot):
        next(scan.batches())
    assert scan.report == (0, 0)


def test_a_scan_whose_tables_go_is_planned_again(
    context: ScanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(context)
    put(context.store.root, KEYS[0], seed=1)
    read = ScanReader.read
    goes = iter([True, False])

    def read_without(self: ScanReader, steps: Sequence[ScanStep]) -> Iterator[pa.RecordBatch]:
        if next(goes):
            without_parts(context)
        return read(self, steps)

    monkeypatch.setattr(ScanReader, "read", read_without)
    store = bak.store(context.store.root)
    rows = scan_rows(bak.scan(store, "spot", "klines"))
    assert_same(rows, naive_rows(context.store.root, *KEYS))
    assert store.last_scan is not None
    assert (store.last_scan.opened, store.last_scan.cached) == (3, 0)


def test_tables_that_always_go_raise(context: ScanContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: ScanReader, steps: Sequence[ScanStep]) -> Iterator[pa.RecordBatch]:
        raise StaleSnapshot

    monkeypatch.setattr(ScanReader, "read", read)
    with pytest.raises(bak.StoreError, match="change all the time"):
        bak.scan(context.store.root, "spot", "klines").collect()
