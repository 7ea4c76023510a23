"""A part has an entry for each file that was written completely, and only for those."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from binance_archive_kit.reading.chunks import Chunk, batch_of
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.tables.manifest import FeedFolder
from binance_archive_kit.tables.part_writer import PartWriter
from binance_archive_kit.tables.row_reader import footer_crc
from tests.support.stores import kline
from tests.support.table_files import FEED, frame_of, task_of

TASKS = [task_of(kline("AUSDT", f"2025-07-0{day}")) for day in range(1, 6)]


@pytest.fixture
def folder(tmp_path: Path) -> FeedFolder:
    folder = FeedFolder.of(tmp_path, FEED)
    folder.path.mkdir()
    return folder


def add(writer: PartWriter, *spans: tuple[FileTask, int], ends: bool = True) -> int:
    frame = pl.concat([frame_of(task, rows) for task, rows in spans])
    return writer.add(batch_of(Chunk([*spans], frame), FEED.arrow), spans, ends=ends)


def entries(folder: FeedFolder, name: str) -> list[tuple[object, ...]]:
    frame = pl.DataFrame(pq.read_table(folder.entries(name)))
    return frame.select("path", "row", "rows").rows()


def test_files_of_one_batch_and_of_several(folder: FeedFolder) -> None:
    writer = PartWriter(folder, FEED, "2025")
    assert add(writer, (TASKS[0], 10), (TASKS[1], 0), (TASKS[2], 5), ends=False) == 2
    assert add(writer, (TASKS[2], 7), ends=False) == 0
    assert add(writer, (TASKS[2], 1), (TASKS[3], 4)) == 2
    part = writer.finish()
    paths = [task.file.path for task in TASKS]
    assert entries(folder, part.name) == [
        (paths[0], 0, 10),
        (paths[1], 10, 0),
        (paths[2], 10, 13),
        (paths[3], 23, 4),
    ]
    assert (part.period, part.rows, part.files) == ("2025", 27, 4)
    assert (part.first, part.last) == ("2025-07-01", "2025-07-04")
    assert part.name.startswith("2025-")
    assert part.data_size == folder.data(part.name).stat().st_size
    assert part.entries_crc == footer_crc(folder.entries(part.name))


def test_files_that_do_not_end_have_no_entry(folder: FeedFolder) -> None:
    writer = PartWriter(folder, FEED, "")
    assert add(writer, (TASKS[0], 10), ends=False) == 0
    assert add(writer, (TASKS[1], 5)) == 1
    assert add(writer, (TASKS[2], 10), ends=False) == 0
    part = writer.finish()
    assert entries(folder, part.name) == [(TASKS[1].file.path, 10, 5)]
    assert part.rows == 25


def test_times_that_are_out_of_order(folder: FeedFolder) -> None:
    writer = PartWriter(folder, FEED, "")
    frame = frame_of(TASKS[0], 10)
    for half in (frame[7:], frame[:7]):
        chunk = Chunk([(TASKS[0], half.height)], half)
        writer.add(batch_of(chunk, FEED.arrow), chunk.spans, ends=half.height == 7)
    part = writer.finish()
    [entry] = pl.DataFrame(pq.read_table(folder.entries(part.name))).rows(named=True)
    times = frame["open_time"].cast(pl.Int64)
    assert (entry["first"], entry["last"]) == (times.min(), times.max())


def test_an_abandoned_part_leaves_nothing(folder: FeedFolder) -> None:
    writer = PartWriter(folder, FEED, "")
    add(writer, (TASKS[0], 10))
    writer.remove()
    assert not [*folder.path.iterdir()]
