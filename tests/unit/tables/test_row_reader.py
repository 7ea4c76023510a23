"""Row groups are decoded once, and a flipped bit never gives other values."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from binance_archive_kit.reading.chunks import Chunk, batch_of
from binance_archive_kit.tables.parquet_writer import ParquetWriter
from binance_archive_kit.tables.row_reader import (
    OpenFile,
    Piece,
    RowReader,
    Segment,
    UnreadableFile,
    footer_crc,
)
from tests.support.stores import kline
from tests.support.table_files import FEED, frame_of, plain, task_of

ROWS = [1000, 10, 3000]


def written(path: Path) -> pa.Table:
    """Write a part of three row groups; return its rows."""
    writer = ParquetWriter(path, FEED.arrow)
    tables = []
    for number, rows in enumerate(ROWS):
        task = task_of(kline(f"S{number}USDT", "2025-07-01"))
        batch = batch_of(Chunk([(task, rows)], frame_of(task, rows)), FEED.arrow)
        tables.append(pa.Table.from_batches([batch]))
        writer.write(tables[-1])
    writer.close()
    return pa.concat_tables(tables)


def opened(path: Path) -> OpenFile:
    return OpenFile(path, path.stat().st_size, footer_crc(path))


def no_damage(piece: Piece, error: UnreadableFile) -> Iterator[pa.RecordBatch]:
    raise AssertionError(piece)


def test_files_other_than_the_expected_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    written(path)
    size, crc = path.stat().st_size, footer_crc(path)
    for wrong_size, wrong_crc in ((size + 1, crc), (size, crc + 1)):
        with pytest.raises(UnreadableFile):
            OpenFile(path, wrong_size, wrong_crc)
    with pytest.raises(UnreadableFile):
        OpenFile(tmp_path / "y", size, crc)
    assert OpenFile(path, size, crc).starts == (0, 1000, 1010, 4010)


def test_the_crc_of_a_short_file_can_be_taken(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    (tmp_path / "y").write_bytes(b"")
    assert footer_crc(tmp_path / "x") != footer_crc(tmp_path / "y")


def test_opening_marks_a_file_as_used(tmp_path: Path) -> None:
    written(tmp_path / "x")
    os.utime(tmp_path / "x", (1, 1))
    opened(tmp_path / "x")
    assert (tmp_path / "x").stat().st_mtime > 1


def test_each_row_group_is_decoded_once(tmp_path: Path) -> None:
    written(tmp_path / "x"), written(tmp_path / "y")
    files = {0: opened(tmp_path / "x"), 1: opened(tmp_path / "y")}
    # Both parts in turn, in steps of a hundred rows.
    steps = range(0, sum(ROWS), 10)
    group = [Segment(part, row, 10) for row in steps for part in (0, 1)]
    with mock.patch.object(
        OpenFile, "decode", autospec=True, side_effect=OpenFile.decode
    ) as decode:
        batches = list(RowReader(files, ["symbol", "close"], None, no_damage).read([group]))
    assert decode.call_count == 6
    assert sum(batch.num_rows for _, batch in batches) == 2 * sum(ROWS)


def test_only_what_a_condition_needs_is_decoded(tmp_path: Path) -> None:
    table = written(tmp_path / "x")
    files = {0: opened(tmp_path / "x")}
    where = (ds.field("high") > 0) & (ds.field("open_time") >= table["open_time"][2999])
    with mock.patch.object(
        OpenFile, "decode", autospec=True, side_effect=OpenFile.decode
    ) as decode:
        reader = RowReader(files, ["close"], where, no_damage)
        [(_, batch)] = reader.read([[Segment(0, 0, sum(ROWS))]])
    [call] = decode.call_args_list
    assert call.args[1:] == (2, ["close", "open_time", "high"])
    assert batch.num_rows == sum(ROWS) - 2999


def test_ranges_are_cut_by_row_groups(tmp_path: Path) -> None:
    table = written(tmp_path / "x")
    files = {0: opened(tmp_path / "x")}
    reader = RowReader(files, FEED.arrow.names, None, no_damage)
    for start, end in itertools.combinations((0, 1, 999, 1000, 1009, 1010, 2000, 4010), 2):
        batches = [batch for _, batch in reader.read([[Segment(0, start, end - start)]])]
        assert plain(batches).equals(plain(table.slice(start, end - start).to_batches()))


def test_an_invalid_condition_is_no_damage(tmp_path: Path) -> None:
    written(tmp_path / "x")
    files = {0: opened(tmp_path / "x")}
    where = ds.field("symbol").cast(pa.int64()) > 0
    with pytest.raises(pa.ArrowInvalid):
        list(RowReader(files, ["close"], where, no_damage).read([[Segment(0, 0, 5)]]))


def test_nothing_is_read_of_nothing(tmp_path: Path) -> None:
    written(tmp_path / "x")
    reader = RowReader({0: opened(tmp_path / "x")}, ["close"], None, no_damage)
    assert list(reader.read([])) == []
    assert list(reader.read([[], [Segment(0, 5, 0)]])) == []


@pytest.mark.parametrize("name", ["symbol", "date", "open_time", "close", "count"])
def test_flipped_bits_in_the_headers_of_pages(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    table = written(path)
    expected = plain(table.select([name]).slice(0, ROWS[0]).to_batches())
    content, crc = path.read_bytes(), footer_crc(path)
    metadata = pq.read_metadata(path)
    column = metadata.row_group(0).column(FEED.arrow.names.index(name))
    pages = {column.data_page_offset, column.dictionary_page_offset or column.data_page_offset}
    refused = 0
    for offset in {page + byte for page in pages for byte in range(40)}:
        for bit in (0, 1, 3, 6):
            damaged = bytearray(content)
            damaged[offset] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                found = OpenFile(path, len(content), crc).decode(0, [name])
            except UnreadableFile:
                refused += 1
                continue
            assert plain(found.to_batches()).equals(expected), (offset, bit)
    assert refused > 50
