"""The result of an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from binance_archive_kit.export.result import FILES_SCHEMA, ParquetExport


def row(month: str, state: str = "written", **values: Any) -> dict[str, Any]:
    return {
        "file": f"market=spot/data_type=klines/interval=1d/month={month}/part-0.parquet",
        "state": state,
        "market": "spot",
        "data_type": "klines",
        "interval": "1d",
        "month": month,
        "rows": 100,
        "bytes": 1_000,
        "sources": 3,
        "coverage": 1.0,
        "complete": True,
        "verdict": "Complete: all",
        **values,
    }


def result(*rows: dict[str, Any]) -> ParquetExport:
    return ParquetExport(Path("lake"), pl.DataFrame(rows, FILES_SCHEMA, orient="row"))


def test_removed_files_have_no_rows() -> None:
    found = result(row("2025-05", "removed"), row("2025-06", "kept"), row("2025-07"))
    assert (found.written, found.kept, found.removed) == (1, 1, 1)
    assert (found.rows, found.bytes) == (200, 2_000)
    assert found.verdict == "Complete: no due row of 2 files is missing"
    assert found.to_frame() is found.files
    assert "lake: 1 file written, 1 kept, 1 removed; 200 rows, 2.0 KB" in str(found)
    assert "2025-06 to 2025-07" in str(found)


def test_the_worst_file_is_named() -> None:
    bad = row("2025-06", complete=False, coverage=0.5, verdict="Incomplete: <b>")
    found = result(bad, row("2025-07", complete=False, coverage=0.9))
    assert not found.is_complete
    assert found.verdict.startswith(
        "Incomplete: 2 of 2 files have gaps or doubtful rows; the worst"
    )
    assert found.verdict.endswith("month=2025-06: Incomplete: <b>")
    assert "&lt;b&gt;" in found._repr_html_()


def test_nothing_is_not_complete() -> None:
    assert not result().is_complete
    assert result().verdict.startswith("Nothing exported")
