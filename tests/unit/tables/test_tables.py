"""Tables have the rows of files as they are, whatever happens to files and builders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import polars as pl
import pyarrow.dataset as ds
import pytest

from binance_archive_kit.errors import ArchiveKitWarning, StoreError
from binance_archive_kit.reading.chunks import Chunk, batch_of
from binance_archive_kit.reading.feed_table import feed_table
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.reading.reader import ZipReader
from binance_archive_kit.storage.store import Store
from binance_archive_kit.tables import manifest
from binance_archive_kit.tables.manifest import FeedFolder
from binance_archive_kit.tables.row_reader import Segment
from binance_archive_kit.tables.tables import Tables
from tests.support.stores import kline, other, put
from tests.support.table_files import FEED, Files, feed_folder, no_fallback, plain, rows_by_file

DAYS = [f"2025-07-{day:02}" for day in range(1, 11)]
LIMIT = 1 << 30


def same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert found.keys() == expected.keys()
    for path, frame in expected.items():
        assert found[path].equals(frame), path


@pytest.mark.parametrize("joined", [0, 1, 7])
def test_tables_have_the_rows_of_their_files(tmp_path: Path, joined: int) -> None:
    files = Files(joined=joined)
    files.fill(["BUSDT", "AUSDT", "币安人生USDT"], DAYS)
    files.put(kline("BUSDT", "2025-08-01"), 0)
    tables = Tables(tmp_path / "t", LIMIT)
    report = files.build(tables)
    assert (report.files, report.rows, report.written) == (31, 720, 720)
    same(rows_by_file(tables, files), files.expected())
    assert files.pending(tables.snapshot(FEED)) == []


def test_conditions_and_columns(tmp_path: Path) -> None:
    files = Files()
    files.fill(["BUSDT", "AUSDT"], DAYS, 100)
    tables = Tables(tmp_path / "t", LIMIT)
    files.build(tables)
    names = ["close", "symbol"]
    where = (ds.field("symbol") == "AUSDT") & (ds.field("open") > 500.0)
    expected = {
        path: frame.filter(pl.col("symbol") == "AUSDT", pl.col("open") > 500).select(names)
        for path, frame in files.expected().items()
    }
    same(rows_by_file(tables, files, names, where), expected)
    assert sum(frame.height for frame in expected.values())


def test_large_files_span_row_groups(tmp_path: Path) -> None:
    files = Files(joined=0)
    files.fill(["BUSDT", "AUSDT"], DAYS[:2], 300_001)
    tables = Tables(tmp_path / "t", LIMIT)
    files.build(tables)
    same(rows_by_file(tables, files), files.expected())


def test_no_folder_has_no_tables() -> None:
    files, tables = Files(), Tables(None, LIMIT)
    files.fill(["AUSDT"], DAYS)
    assert files.build(tables).files == 0
    assert tables.snapshot(FEED).parts == ()
    assert tables.snapshot(FEED).entries().is_empty()
    assert rows_by_file(tables, files) == {}
    assert str(tables.use()) == "Tables: none are kept"


def test_nothing_is_created_before_the_first_build(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "t", LIMIT)
    assert tables.snapshot(FEED).entries().is_empty()
    tables.use(), tables.trim(), tables.clear()
    assert not (tmp_path / "t").exists()


def test_bad_files_have_no_entry(tmp_path: Path) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    files.bad = {sorted(files.tasks)[3]}
    tables = Tables(tmp_path / "t", LIMIT)
    assert files.build(tables).files == 9
    assert [task.file.path for task in files.pending(tables.snapshot(FEED))] == [*files.bad]


def test_entries_of_symbols(tmp_path: Path) -> None:
    files = Files()
    files.fill([f"S{n:03}USDT" for n in range(50)], DAYS[:3])
    tables = Tables(tmp_path / "t", LIMIT)
    files.build(tables)
    some = tables.snapshot(FEED).entries({"S007USDT"})
    assert some.height == 3
    assert some.equals(tables.snapshot(FEED).entries().filter(pl.col("symbol") == "S007USDT"))
    for none in (set(), {"OTHER"}):
        assert tables.snapshot(FEED).entries(none).is_empty()
    assert tables.use().parts == 1


def test_snapshots_are_kept_until_a_commit(tmp_path: Path) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    tables, other = Tables(tmp_path / "t", LIMIT), Tables(tmp_path / "t", LIMIT)
    files.build(tables)
    before = other.snapshot(FEED)
    assert other.snapshot(FEED) is before
    files.fill(["BUSDT"], DAYS)
    files.build(tables)
    assert other.snapshot(FEED) is not before
    same(rows_by_file(other, files), files.expected())


def test_files_that_were_replaced_or_deleted(tmp_path: Path) -> None:
    files = Files()
    files.fill(["AUSDT", "BUSDT"], DAYS)
    tables = Tables(tmp_path / "t", LIMIT)
    files.build(tables)
    for path in sorted(files.tasks)[:12]:
        files.delete(path)
    files.fill(["BUSDT"], DAYS[-2:], 5)
    assert files.build(tables).files == 2
    assert feed_folder(tmp_path / "t").is_dir()
    same(rows_by_file(tables, files), files.expected())
    [part] = [part for part in tables.snapshot(FEED).parts if part.files > 2]
    assert part.files == 6  # the others were dropped


def test_use_and_clear(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path / "t", LIMIT)
    files.fill(["AUSDT", "BUSDT"], DAYS)
    files.build(tables)
    use = tables.use()
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    assert (use.folder, use.parts, use.bytes, use.limit) == (tmp_path / "t", 1, size, LIMIT)
    assert str(use).startswith("Tables: 1 file, ")
    assert str(use).endswith(f" of at most 1.0 GB, in {tmp_path / 't'}")
    tables.clear()
    assert not (tmp_path / "t").exists()
    assert tables.use().parts == 0
    assert tables.snapshot(FEED).parts == ()


def test_the_least_recently_used_parts_go_first(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    for symbol in ("AUSDT", "BUSDT", "CUSDT"):
        files.fill([symbol], DAYS, 500)
        files.build(tables)
    for number, part in enumerate(tables.snapshot(FEED).parts):
        for path in feed_folder(tmp_path).glob(f"{part.name}.rows*"):
            os.utime(path, (number, number))
    snapshot = tables.snapshot(FEED)
    [*_] = snapshot.read([[Segment(0, 0, 1)]], ["close"], None, no_fallback)
    largest = max(part.bytes for part in snapshot.parts)
    Tables(tmp_path, 2 * largest).trim()
    entries = tables.snapshot(FEED).entries()
    assert set(entries["symbol"]) == {"AUSDT", "CUSDT"}
    same(
        rows_by_file(tables, files),
        {path: rows for path, rows in files.expected().items() if "BUSDT" not in path},
    )


def test_the_limit_holds_over_all_feeds(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS)
    files.build(tables)
    shutil.copytree(feed_folder(tmp_path), tmp_path / "spot_other")
    assert tables.use().parts == 2
    Tables(tmp_path, tables.use().bytes - 1).trim()
    assert tables.use().parts == 1


def test_a_build_stops_at_the_limit(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, 1000)
    files.fill(["AUSDT"], DAYS)
    for day in ("2024-01-01", "2023-01-01"):
        files.put(kline("AUSDT", day), 100, 300 << 20)
    assert files.build(tables).files == 1
    assert tables.use().bytes <= 1000


def test_discarded_parts_are_gone(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS)
    files.build(tables)
    [part] = tables.snapshot(FEED).parts
    tables.discard(FEED, part.name)
    tables.discard(FEED, "unknown")
    assert tables.snapshot(FEED).parts == ()
    assert not [*tmp_path.rglob("*.parquet")]


def test_discarded_parts_are_not_used_if_they_cannot_be_removed(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS)
    files.build(tables)
    [part] = tables.snapshot(FEED).parts
    with mock.patch.object(FeedFolder, "commit", side_effect=PermissionError):
        tables.discard(FEED, part.name)
        assert tables.snapshot(FEED).parts == ()


def test_tables_of_another_format_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS)
    files.build(tables)
    monkeypatch.setattr(manifest, "FORMAT", manifest.FORMAT + 1)
    with pytest.warns(ArchiveKitWarning, match="another version") as found:
        tables.trim()
    assert len(found) == 1
    assert not [*tmp_path.rglob("*.parquet")]
    assert files.build(Tables(tmp_path, LIMIT)).files == 10


def test_tables_of_a_newer_version_are_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS)
    files.build(tables)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with monkeypatch.context() as older:
        older.setattr(manifest, "FORMAT", manifest.FORMAT - 1)
        tables = Tables(tmp_path, LIMIT)
        assert tables.use().parts == 0
        tables.trim()
        with pytest.raises(StoreError, match="written by a newer version of this package; update"):
            files.build(tables)
    assert {path: path.read_bytes() for path in before} == before
    assert Tables(tmp_path, LIMIT).use().parts == 1


@pytest.mark.parametrize("decimals", [False, True])
@pytest.mark.parametrize(
    "name", ["spot klines", "spot trades", "futures_um metrics", "option EOHSummary"]
)
def test_real_readers_and_every_type(tmp_path: Path, name: str, decimals: bool) -> None:
    market, data_type = name.split()
    if data_type == "klines":
        keys = [kline(symbol, day) for symbol in ("AUSDT", "BUSDT") for day in DAYS]
    else:
        folder = {"spot": "spot", "futures_um": "futures/um", "option": "option"}[market]
        days = [f"2023-10-0{day}" for day in range(1, 4)]
        keys = [other(data_type, "BTCUSDT", day, folder) for day in days]
    for number, key in enumerate(keys):
        put(tmp_path, key, 0 if number == 1 else 50)
    feed = feed_table(keys[0].folder.market, keys[0].folder.data_type, decimals=decimals)
    folders = Store.open(tmp_path).inventory.folders(feed.market, feed.data_type)
    tasks = [FileTask(file, held) for held in folders for file in held.files]
    reader = ZipReader(Store(tmp_path), feed)

    def read(some: Sequence[FileTask]) -> Iterator[Chunk]:
        return reader.chunks(some, feed.arrow.names, lambda chunk: chunk, workers=1)

    tables = Tables(tmp_path / "t", LIMIT)
    tables.build(
        feed, tasks, read, is_current=lambda e: e["path"].is_not_null(), done=lambda n: None
    )
    snapshot = tables.snapshot(feed)
    entries = snapshot.entries()
    assert entries["path"].to_list() == sorted(task.file.path for task in tasks)
    positions = {
        row[0]: Segment(*row[1:]) for row in entries.select("path", "part", "row", "rows").rows()
    }
    group = [positions[task.file.path] for task in tasks]
    found = [batch for _, batch in snapshot.read([group], feed.arrow.names, None, no_fallback)]
    expected = [batch_of(chunk, feed.arrow) for chunk in read(tasks)]
    assert plain(found, feed.arrow).equals(plain(expected, feed.arrow))
    assert {batch.schema for batch in found} == {feed.arrow}
