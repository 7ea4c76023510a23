"""Footers of the files of an export."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa

import binance_archive_kit as bak
from binance_archive_kit.export.footers import (
    Footer,
    Verdict,
    footer_text,
    metadata_of,
    read_footer,
    settings_of,
)
from binance_archive_kit.export.sources import find_sources
from binance_archive_kit.query.engine import Engine, ReadOptions
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.tables.parquet_writer import ParquetWriter
from tests.support.stores import kline, put

VERDICT = Verdict("Complete: 100 % ü", 1.0, True)


def test_a_footer_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    rows = pa.table({"a": [1, 2]})
    text = footer_text(3, "abc", VERDICT, "{}")
    writer = ParquetWriter(path, rows.schema, text)
    writer.write(rows)
    writer.close()
    footer = read_footer(path)
    assert footer == Footer("{}", 3, "abc", VERDICT, 2)
    assert text["binance_archive_kit.version"] == bak.__version__
    assert metadata_of(footer) == {
        "rows": 2,
        "sources": 3,
        "coverage": 1.0,
        "complete": True,
        "verdict": VERDICT.text,
    }


def test_other_files_have_no_footer(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("text")
    for name in ("other.parquet", "text.parquet", "missing.parquet"):
        assert read_footer(tmp_path / name) is None


def test_settings_are_what_decides_the_rows(tmp_path: Path) -> None:
    put(tmp_path, kline("AUSDT", "2025-07-01"))

    def settings(selection: Selection = Selection(), **options: str) -> str:  # noqa: B008
        engine = Engine(tmp_path, ReadOptions.parse(options))
        [month] = find_sources(engine, engine.feed("spot", "klines"), selection)
        return settings_of(engine, month)

    whole = settings()
    assert settings(Selection(start=datetime(2025, 6, 1))) == whole
    assert settings(Selection(start=datetime(2025, 7, 2))) != whole
    assert settings(prefer="monthly") != whole
    assert settings(decimals=True) != whole  # type: ignore[arg-type]
    assert settings(cache=False) == whole  # type: ignore[arg-type]
