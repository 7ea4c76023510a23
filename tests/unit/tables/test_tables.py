"""Tables have the rows of files as they are, whatever happens to files and builders."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.dataset as ds
import pytest

from binance_archive_kit.tables.tables import Tables
from tests.support.stores import kline
from tests.support.table_files import FEED, Files, feed_folder, rows_by_file

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
