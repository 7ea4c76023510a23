"""Snapshots give rows exactly, or not at all: damage and removed parts are noticed."""

from __future__ import annotations

import errno
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from binance_archive_kit.reading.chunks import Chunk, batch_of
from binance_archive_kit.tables import row_reader
from binance_archive_kit.tables.row_reader import Segment
from binance_archive_kit.tables.snapshot import ENTRY_SCHEMA, Snapshot, StaleSnapshot
from binance_archive_kit.tables.tables import Tables
from tests.support.stores import kline
from tests.support.table_files import (
    FEED,
    Files,
    feed_folder,
    no_fallback,
    plain,
    rows_by_file,
)

LIMIT = 1 << 30
DAYS = [f"2025-07-0{day}" for day in range(1, 6)]


@pytest.fixture
def files() -> Files:
    files = Files()
    files.fill(["AUSDT", "BUSDT"], DAYS, 40)
    files.put(kline("CUSDT", "2025-07"), 33_000)
    return files


@pytest.fixture
def tables(tmp_path: Path, files: Files) -> Tables:
    tables = Tables(tmp_path, LIMIT)
    tasks = [*files.tasks.values()]
    files.build(tables, tasks[:6])
    files.build(tables, tasks[6:])
    return tables


def segments(snapshot: Snapshot, *paths: str) -> list[Segment]:
    rows = {row[0]: Segment(*row[1:]) for row in positions(snapshot)}
    return [rows[path] for path in paths]


def positions(snapshot: Snapshot) -> list[tuple[str, int, int, int]]:
    return snapshot.entries().select("path", "part", "row", "rows").rows()


def fallback_of(files: Files, snapshot: Snapshot, names: list[str]) -> object:
    """Return the rows of segments from the files."""
    schema = pa.schema([FEED.arrow.field(name) for name in names])

    def fallback(segment: Segment) -> Iterator[pa.RecordBatch]:
        for path, part, row, rows in positions(snapshot):
            if part == segment.part and row <= segment.row < row + rows:
                frame = files.frame(path)
                batch = batch_of(Chunk([(files.tasks[path], frame.height)], frame), schema)
                yield batch.slice(segment.row - row, segment.rows)

    return fallback


def test_entries_describe_files(tables: Tables, files: Files) -> None:
    entries = tables.snapshot(FEED).entries()
    assert entries.schema == ENTRY_SCHEMA
    assert entries["path"].to_list() == sorted(files.tasks)
    for entry in entries.iter_rows(named=True):
        task, frame = files.tasks[entry["path"]], files.frame(entry["path"])
        assert entry["key"] == task.file.key
        assert (entry["symbol"], entry["interval"]) == (task.folder.symbol, "1h")
        assert entry["partition"] == task.folder.partition
        assert (entry["start"], entry["end"]) == (task.file.start, task.file.end)
        assert tuple(entry[name] for name in task.file.stamp._fields) == task.file.stamp
        times = frame["open_time"].cast(pl.Int64)
        assert (entry["rows"], entry["first"]) == (frame.height, times.min())
        assert entry["last"] == times.max()


def test_a_file_without_rows_has_no_times(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.put(kline("AUSDT", DAYS[0]), 0)
    files.build(tables)
    [entry] = tables.snapshot(FEED).entries().rows(named=True)
    assert (entry["rows"], entry["first"], entry["last"]) == (0, None, None)
    [part] = tables.snapshot(FEED).parts
    assert (part.rows, part.files, part.first, part.last) == (0, 1, DAYS[0], DAYS[0])


def test_the_newest_part_has_a_file(tables: Tables, files: Files) -> None:
    path = str(kline("AUSDT", DAYS[0]))
    files.put(kline("AUSDT", DAYS[0]), 7)
    files.build(tables)
    entry = tables.snapshot(FEED).entries().row(by_predicate=pl.col("path") == path, named=True)
    assert (entry["part"], entry["rows"]) == (2, 7)


def test_groups_have_their_rows_in_order(tables: Tables, files: Files) -> None:
    snapshot, names = tables.snapshot(FEED), ["file", "open_time", "close"]
    order = random.Random(1)
    paths = sorted(files.tasks)
    groups = [order.sample(paths, order.randint(0, len(paths))) for _ in range(9)]
    found: list[list[pa.RecordBatch]] = [[] for _ in groups]
    seen = []
    wanted = [segments(snapshot, *group) for group in groups]
    for index, batch in snapshot.read(wanted, names, None, no_fallback):
        seen.append(index)
        found[index].append(batch)
        assert batch.num_rows
    assert seen == sorted(seen)
    expected = files.expected(names)
    for group, batches in zip(groups, found, strict=True):
        frames = [expected[path] for path in group]
        if frames:
            assert plain(batches).equals(pl.concat(frames))


def test_parts_of_files_are_read(tables: Tables, files: Files) -> None:
    snapshot, path = tables.snapshot(FEED), str(kline("CUSDT", "2025-07"))
    [(part, row, rows)] = segments(snapshot, path)
    some = [Segment(part, row + 5, 10), Segment(part, row + rows - 3, 3)]
    where = ds.field("open_time") > files.frame(path)["open_time"][7]
    [(_, batch)] = snapshot.read([some], ["close"], where, no_fallback)
    close = files.frame(path)["close"]
    assert batch.column("close").to_pylist() == [*close[8:15], *close[-3:]]
    assert list(snapshot.read([some], ["close"], ds.field("close") < 0, no_fallback)) == []


def test_rows_without_columns_are_counted(tables: Tables, files: Files) -> None:
    snapshot = tables.snapshot(FEED)
    group = segments(snapshot, *files.tasks)
    batches = [batch for _, batch in snapshot.read([group], [], None, no_fallback)]
    assert sum(batch.num_rows for batch in batches) == sum(files.rows.values())
    where = ds.field("symbol") == "AUSDT"
    batches = [batch for _, batch in snapshot.read([group], [], where, no_fallback)]
    assert sum(batch.num_rows for batch in batches) == 200


def test_small_batches_are_joined(tables: Tables, files: Files) -> None:
    snapshot = tables.snapshot(FEED)
    paths = [path for path in files.tasks if "CUSDT" not in path]
    batches = list(snapshot.read([segments(snapshot, *paths)], ["close"], None, no_fallback))
    assert [batch.num_rows for _, batch in batches] == [400]


def test_a_part_that_is_gone_makes_a_snapshot_stale(tables: Tables, files: Files) -> None:
    snapshot = tables.snapshot(FEED)
    other = Tables(tables.use().folder, LIMIT)
    other.discard(FEED, snapshot.parts[0].name)
    with pytest.raises(StaleSnapshot):
        next(snapshot.read([segments(snapshot, *files.tasks)], ["close"], None, no_fallback))
    assert len(tables.snapshot(FEED).parts) == 1
    assert len(rows_by_file(tables, files)) == 5


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_parts_that_cannot_be_read_now_stay(
    tables: Tables, files: Files, tmp_path: Path, number: int
) -> None:
    error = OSError(number, "not now")
    tables.snapshot(FEED).entries()
    with mock.patch.object(row_reader.pa, "OSFile", side_effect=error):
        assert rows_by_file(tables, files) == {}
    assert tables.use().parts == 2
    assert len(rows_by_file(Tables(tmp_path, LIMIT), files)) == len(files.tasks)


def test_parts_deleted_by_hand(tables: Tables, files: Files, tmp_path: Path) -> None:
    entries, rows = sorted(tmp_path.rglob("*.parquet"))[:2]
    rows.unlink()
    assert len(rows_by_file(tables, files)) in (5, 6)
    assert not entries.exists()
    for path in tmp_path.rglob("*.entries.parquet"):
        path.unlink()
    assert rows_by_file(Tables(tmp_path, LIMIT), files) == {}


def test_a_read_that_has_begun_survives_the_removal(tables: Tables, files: Files) -> None:
    snapshot = tables.snapshot(FEED)
    read = snapshot.read(
        [segments(snapshot, path) for path in files.tasks], ["close"], None, no_fallback
    )
    first = next(read)
    tables.clear()
    assert sum(batch.num_rows for _, batch in [first, *read]) == sum(files.rows.values())


def test_a_dropped_read_ends(tables: Tables, files: Files) -> None:
    before = set(threading.enumerate())
    snapshot = tables.snapshot(FEED)
    read = snapshot.read([segments(snapshot, *files.tasks)], ["close"], None, no_fallback)
    next(read)
    assert set(threading.enumerate()) - before
    read.close()
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("where", [None, ds.field("close") > 0])
def test_damaged_rows_come_from_elsewhere(
    tables: Tables, files: Files, tmp_path: Path, where: ds.Expression | None
) -> None:
    snapshot = tables.snapshot(FEED)
    large = next(part for part in snapshot.parts if part.rows > 30_000)
    path = next(tmp_path.rglob(f"{large.name}.rows.parquet"))
    metadata = pq.read_metadata(path)
    names = [metadata.schema.column(n).name for n in range(metadata.num_columns)]
    column = metadata.row_group(0).column(names.index("close"))
    flip(path, column.data_page_offset + column.total_compressed_size // 2)
    names = ["file", "close"]
    groups = [segments(snapshot, file) for file in files.tasks]
    found: list[list[pa.RecordBatch]] = [[] for _ in groups]
    fallback = fallback_of(files, snapshot, names)
    for index, batch in snapshot.read(groups, names, where, fallback):
        found[index].append(batch)
    expected = files.expected(names)
    for batches, file in zip(found, files.tasks, strict=True):
        assert plain(batches).equals(expected[file])
    assert [part.name for part in tables.snapshot(FEED).parts] != [p.name for p in snapshot.parts]
    assert not path.exists()


def flip(path: Path, offset: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


def test_flipped_bits_never_change_rows(tables: Tables, files: Files, tmp_path: Path) -> None:
    folder = feed_folder(tmp_path)
    copy = tmp_path / "copy"
    order = random.Random(0)
    names = ["file", "date", "open_time", "close", "count"]
    expected = files.expected(names)
    listed = sorted(path for path in folder.iterdir() if path.suffix != ".lock")
    for number in range(120):
        shutil.copytree(folder, feed_folder(copy))
        victim = listed[number % len(listed)]
        flip(feed_folder(copy) / victim.name, order.randrange(victim.stat().st_size), number % 8)
        damaged = Tables(copy, LIMIT)
        fallback = fallback_of(files, damaged.snapshot(FEED), names)
        found = rows_by_file(damaged, files, names, None, fallback)
        for path, frame in found.items():
            assert frame.equals(expected[path]), (victim, path)
        shutil.rmtree(copy)


def test_threads_share_a_snapshot(tables: Tables, files: Files) -> None:
    expected = files.expected(["open_time", "close"])
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                found = rows_by_file(tables, files, ["open_time", "close"])
                assert all(found[path].equals(expected[path]) for path in files.tasks)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
