"""Writing months: groups of them, and the rows of each."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from binance_archive_kit.export import month_writer
from binance_archive_kit.export.footers import Footer, Verdict
from binance_archive_kit.export.month_writer import Job, grouped, schema_of, write_months
from binance_archive_kit.export.sources import find_sources
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import Selection
from tests.support.stores import kline, put


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    root = tmp_path / "store"
    for symbol in ("AUSDT", "BUSDT"):
        for month in ("2025-03", "2025-05", "2025-06"):
            put(root, kline(symbol, month), 48)
        put(root, kline(symbol, "2025-06", "4h"), 6)
    return Engine(root)


def jobs(engine: Engine, folder: Path) -> list[Job]:
    months = find_sources(engine, engine.feed("spot", "klines"), Selection())
    verdict = Verdict("Nothing is due", None, False)
    return [
        Job(month, Footer("", 0, "", verdict, 0), folder / f"{index}.parquet")
        for index, month in enumerate(months)
    ]


def test_consecutive_months_of_a_feed_are_written_together(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        [f"{job.month.folder.interval} {job.month.folder.month}" for job in group]
        for group in grouped(jobs(engine, tmp_path))
    ]
    assert found == [["1h 2025-03"], ["1h 2025-05", "1h 2025-06"], ["4h 2025-06"]]
    monkeypatch.setattr(month_writer, "_TOGETHER", 1)
    assert [len(group) for group in grouped(jobs(engine, tmp_path))] == [1, 1, 1, 1]
    assert list(grouped([])) == []


def test_each_month_has_its_rows(engine: Engine, tmp_path: Path) -> None:
    _, group, _ = grouped(jobs(engine, tmp_path))
    assert write_months(engine, group, lambda: None) == [96, 96]
    for job in group:
        table = pq.read_table(job.path)
        assert table.schema.equals(schema_of(job.month.feed))
        assert {f"{time:%Y-%m}" for time in table["open_time"].to_pylist()} == {
            job.month.folder.month
        }
        assert table["symbol"].to_pylist() == ["AUSDT"] * 48 + ["BUSDT"] * 48


def test_the_columns_are_those_of_a_scan_without_the_levels(engine: Engine) -> None:
    feed = engine.feed("spot", "klines")
    schema = schema_of(feed)
    assert schema.names == [n for n in feed.arrow.names if n not in ("market", "interval")]
    assert schema.field("open_time").type == pa.timestamp("us", "UTC")
