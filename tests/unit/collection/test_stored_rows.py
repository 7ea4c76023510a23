"""Rows in Parquet files: the same in a folder and in a bucket."""

from __future__ import annotations

import pickle
from pathlib import Path

import polars as pl
import pytest

from binance_archive_kit.collection.stored_rows import DetailFiles, StoredRows, detail_files
from binance_archive_kit.errors import StoreError

SCHEMA = pl.Schema({"kind": pl.String(), "number": pl.Int64()})


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> DetailFiles:
    if request.param == "folder":
        return detail_files(tmp_path, "run")
    return detail_files(request.getfixturevalue("s3_url"), "run")


def rows(*numbers: int) -> pl.DataFrame:
    kinds = ["even" if number % 2 == 0 else "odd" for number in numbers]
    return pl.DataFrame({"kind": kinds, "number": numbers}, schema=SCHEMA)


def to_numbers(frame: pl.DataFrame) -> list[int]:
    return frame["number"].to_list()


def test_rows_are_counted_written_and_read(files: DetailFiles) -> None:
    stored = StoredRows("numbers", "kind", SCHEMA)
    stored.add(rows(0, 1, 2))
    stored.add(rows())
    stored.flush(files)
    stored.add(rows(4, 5, 7))
    assert (len(stored), stored.held) == (6, 3)
    assert stored.counts == {"even": 3, "odd": 3}
    assert to_numbers(stored.frame(files)) == [0, 1, 2, 4, 5, 7]
    stored.flush(files)
    odd = pickle.loads(pickle.dumps(stored.view(files, ["odd"], to_numbers)))
    assert (list(odd), len(odd), odd[1], odd[-2:]) == ([1, 5, 7], 3, 5, [5, 7])
    assert files.where.endswith(".binance_archive_kit/results/run")
    assert [*map(len, stored.drain(files))] == [3, 3]
    with pytest.raises((FileNotFoundError, StoreError), match="numbers-000000"):
        files.read("numbers-000000.parquet")
