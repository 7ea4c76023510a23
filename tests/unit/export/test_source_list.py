"""The list of sources of a target."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from binance_archive_kit.export.footers import Footer, Verdict
from binance_archive_kit.export.source_list import SOURCES, SourceList
from binance_archive_kit.export.sources import MonthSources, find_sources
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import Selection
from tests.support.stores import kline, put

VERDICT = Verdict("Complete", 1.0, True)


@pytest.fixture
def month(tmp_path: Path) -> MonthSources:
    put(tmp_path / "store", kline("AUSDT", "2025-07-01"))
    put(tmp_path / "store", kline("BUSDT", "2025-07-01"))
    engine = Engine(tmp_path / "store")
    [found] = find_sources(engine, engine.feed("spot", "klines"), Selection())
    return found


def listed(target: Path) -> pl.DataFrame:
    return pl.read_parquet(target / SOURCES)


def footer(month: MonthSources) -> Footer:
    return Footer("", 2, month.digest, VERDICT, 3)


def test_sources_are_listed_before_and_counted_after(tmp_path: Path, month: MonthSources) -> None:
    sources = SourceList(tmp_path, tmp_path / "new")
    sources.add([month])
    assert listed(tmp_path)["rows"].to_list() == [None, None]
    file = tmp_path / month.folder.file
    file.parent.mkdir(parents=True)
    pl.DataFrame({"file": [month.sources[0].path] * 3}).write_parquet(file)
    sources.finish([month], {month.folder.file: footer(month)}, VERDICT)
    found = listed(tmp_path)
    assert found["rows"].to_list() == [3, 0]
    assert found["path"].to_list() == [source.path for source in month.sources]
    metadata = pq.read_metadata(tmp_path / SOURCES).metadata
    assert metadata[b"binance_archive_kit.sources"] == b"2"
    assert metadata[b"binance_archive_kit.verdict"] == b"Complete"
    assert not (tmp_path / "new").exists()


def test_the_same_list_is_not_written_again(tmp_path: Path, month: MonthSources) -> None:
    file = tmp_path / month.folder.file
    file.parent.mkdir(parents=True)
    pl.DataFrame({"file": ["x"]}).write_parquet(file)
    inodes = set()
    for _ in range(2):
        SourceList(tmp_path, tmp_path / "new").finish(
            [month], {month.folder.file: footer(month)}, VERDICT
        )
        inodes.add((tmp_path / SOURCES).stat().st_ino)
    assert len(inodes) == 1


def test_sources_of_files_that_are_gone_are_dropped(tmp_path: Path, month: MonthSources) -> None:
    sources = SourceList(tmp_path, tmp_path / "new")
    sources.add([month])
    sources.finish([month], {}, VERDICT)
    assert listed(tmp_path).height == 0


def test_months_without_rows_are_remembered(tmp_path: Path, month: MonthSources) -> None:
    sources = SourceList(tmp_path, tmp_path / "new")
    sources.set_empty(month, "settings", empty=True)
    sources.finish([], {}, VERDICT)
    again = SourceList(tmp_path, tmp_path / "new")
    assert again.is_empty(month, "settings")
    assert not again.is_empty(month, "others")
    again.set_empty(month, "settings", empty=False)
    assert not again.is_empty(month, "settings")


def test_a_damaged_list_is_empty(tmp_path: Path, month: MonthSources) -> None:
    (tmp_path / SOURCES).write_bytes(b"PAR1 damaged PAR1")
    sources = SourceList(tmp_path, tmp_path / "new")
    assert not sources.is_empty(month, "")
    sources.add([month])
    assert listed(tmp_path).height == 2
