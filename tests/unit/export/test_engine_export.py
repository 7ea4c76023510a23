"""The result of an export to a backtest engine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from binance_archive_kit.export.engine_export import FILES_SCHEMA, EngineExport


def row(file: str, **values: Any) -> dict[str, Any]:
    return {
        "file": file,
        "market": "spot",
        "data_type": "klines",
        "symbol": "BTCUSDT",
        "interval": "1h",
        "rows": 100,
        "bytes": 1_000,
        "first": datetime(2025, 7, 1, tzinfo=UTC),
        "last": datetime(2025, 7, 5, 3, tzinfo=UTC),
        "coverage": 1.0,
        "complete": True,
        "verdict": "Complete: all",
        **values,
    }


def result(*rows: dict[str, Any]) -> EngineExport:
    return EngineExport("an engine", Path("data"), pl.DataFrame(rows, FILES_SCHEMA, orient="row"))


def test_the_files_are_counted_and_shown() -> None:
    found = result(row("a.feather"), row("b.feather"))
    assert found.rows == 200
    assert found.is_complete
    assert found.verdict == "Complete: no due row of 2 files is missing"
    assert found.to_frame() is found.files
    text = str(found)
    assert text == repr(found)
    assert "an engine" in text
    assert "data: 2 files; 200 rows, 2.0 KB" in text
    assert "a.feather  100   2025-07-01 00:00  2025-07-05 03:00  100 %" in text


def test_the_worst_file_is_named_and_escaped() -> None:
    bad = row("<b>.feather", complete=False, coverage=0.5, verdict="Incomplete: <i>")
    found = result(row("a.feather"), bad, row("c.feather", complete=False, coverage=0.9))
    assert not found.is_complete
    assert found.verdict == (
        "Incomplete: 2 of 3 files have gaps or doubtful rows; "
        "the worst, <b>.feather: Incomplete: <i>"
    )
    assert "1 of 1 file has gaps or doubtful rows" in result(bad).verdict
    html = found._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;.feather" in html


def test_without_files_nothing_is_complete() -> None:
    found = result()
    assert not found.is_complete
    assert (found.rows, found.verdict) == (0, "Nothing exported")
    assert "0 files" in str(found)


def test_a_share_that_cannot_be_told_is_no_number() -> None:
    assert "None" not in str(result(row("a", coverage=None)))


def test_of_many_files_the_first_are_shown() -> None:
    text = str(result(*(row(f"{number:02}.feather") for number in range(27))))
    assert "24.feather" in text
    assert "25.feather" not in text
    assert "… and 2 more" in text
