"""Parquet files are small, exact, checked, and read in the units that queries need."""

from __future__ import annotations

import gc
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from binance_archive_kit.reading.chunks import Chunk, batch_of
from binance_archive_kit.tables.parquet_writer import (
    FEW_ROWS,
    MOST_ROWS,
    ParquetWriter,
    RowGroups,
    encodings,
)
from tests.support.stores import kline
from tests.support.table_files import FEED, frame_of, task_of

VALUES = np.random.default_rng(0)
N = 20_000
TABLE = pa.table(
    {
        "noise": VALUES.random(N),
        "prices": VALUES.integers(100, 120, N) / 100,
        "times": pa.array(range(0, N * 60, 60), pa.timestamp("us")),
        "ids": np.arange(N),
        "flags": VALUES.random(N) < 0.5,
        "texts": pa.array([None if n % 7 == 0 else f"text {n}" for n in range(N)]),
        "words": pa.array(["a", "b"] * (N // 2)).dictionary_encode(),
        "exact": pa.array([Decimal(n) / 8 for n in range(N)], pa.decimal128(38, 18)),
    }
)


def write(path: Path, *groups: pa.Table, metadata: dict[str, str] | None = None) -> None:
    writer = ParquetWriter(path, groups[0].schema, metadata)
    for group in groups:
        writer.write(group)
    writer.close()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "x", TABLE, TABLE.slice(0, 5), metadata={"who": "test"})
    assert pq.read_table(tmp_path / "x").equals(pa.concat_tables([TABLE, TABLE.slice(0, 5)]))
    footer = pq.read_metadata(tmp_path / "x")
    assert footer.metadata[b"who"] == b"test"
    assert footer.num_row_groups == 2


def test_encodings_suit_the_values() -> None:
    found = encodings(TABLE)
    assert found["prices"] == found["words"] == "dictionary"
    assert found["times"] == found["ids"] == "DELTA_BINARY_PACKED"
    assert found["noise"] != "dictionary"
    assert found["flags"] == "PLAIN"
    assert found.keys() == set(TABLE.column_names)


def test_an_empty_file_can_be_read(tmp_path: Path) -> None:
    writer = ParquetWriter(tmp_path / "x", TABLE.schema)
    writer.close()
    assert pq.read_table(tmp_path / "x").equals(TABLE.slice(0, 0))


def test_pages_have_checksums(tmp_path: Path) -> None:
    write(tmp_path / "x", TABLE)
    content = bytearray((tmp_path / "x").read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "x").write_bytes(content)
    try:
        pq.read_table(tmp_path / "x", page_checksum_verification=True)
    except OSError as error:
        assert "CRC" in str(error)  # noqa: PT017
    else:
        raise AssertionError


def groups_of(*files: tuple[str, int], joined: int = 1) -> list[int]:
    """Return the sizes of the row groups that files get; joined by some to a batch."""
    groups, sizes = RowGroups(FEED.arrow), []
    tasks = [
        (task_of(kline(symbol, f"2025-01-{n % 28 + 1:02}")), rows)
        for n, (symbol, rows) in enumerate(files)
    ]
    for start in range(0, len(tasks), joined):
        some = tasks[start : start + joined]
        frame = pl.concat([frame_of(task, rows) for task, rows in some])
        batch = batch_of(Chunk(some, frame), FEED.arrow)
        sizes += [len(group) for group in groups.add(batch, some)]
    return [*sizes, *(len(group) for group in groups.rest())]


def test_row_groups_end_with_a_stream() -> None:
    assert groups_of(("A", 44_640), ("B", 44_640), ("C", 100)) == [44_640, 44_640, 100]
    small = [(symbol, 2000) for symbol in "ABCDE" for _ in range(9)]
    for joined in (1, 4, 45):
        assert groups_of(*small, joined=joined) == [36_000, 36_000, 18_000]


def test_row_groups_are_not_too_large() -> None:
    assert groups_of(*[("A", 50_000)] * 5) == [100_000, 100_000, 50_000]
    assert groups_of(("A", 2 * MOST_ROWS + 7)) == [MOST_ROWS, MOST_ROWS, 7]
    assert groups_of(("A", FEW_ROWS - 1), ("A", MOST_ROWS)) == [MOST_ROWS, FEW_ROWS - 1]
    assert groups_of() == []


def interrupted(path: Path) -> None:
    with ParquetWriter(path, TABLE.schema) as writer:
        writer.write(TABLE)
        raise KeyboardInterrupt


def test_an_interrupted_file_has_no_footer(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "a")
    # A writer that is still open writes its footer when it is deleted.
    gc.collect()
    with pytest.raises(pa.ArrowInvalid):
        pq.read_metadata(tmp_path / "a")
