"""The result of a deletion, as text and as HTML."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from binance_archive_kit.upkeep.deletion_result import PRUNED_SCHEMA, Pruning

DAY = date(2025, 7, 1)


def frame(count: int) -> pl.DataFrame:
    rows = [
        ("spot", "klines", "daily", f"<{at}>USDT", "1h", DAY, DAY, 2, 1536) for at in range(count)
    ]
    return pl.DataFrame(rows, PRUNED_SCHEMA, orient="row")


def test_a_dry_run_says_how_to_delete() -> None:
    found = Pruning(Path("store"), deleted=False, frame=frame(2))
    assert (found.files, found.bytes) == (4, 3072)
    lines = str(found).splitlines()
    assert lines[0] == "Dry run · store: 4 files of 2 streams, 3.0 KB, would be deleted"
    assert "repeat the call with dry_run=False" in lines[-1]
    assert "&lt;0&gt;USDT" in found._repr_html_()
    assert found.to_frame() is found.frame


def test_many_streams_are_shown_by_feed() -> None:
    text = str(Pruning(Path("store"), deleted=True, frame=frame(100)))
    assert "200 files of 100 streams, 150.0 KB, deleted" in text
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("partial", "1 file kept: only some of the days were chosen"),
        ("outside", "1 file kept: a symbolic link leads out of the store"),
        ("failed", "1 file not deleted"),
    ],
)
def test_what_stays_is_listed(kind: str, line: str) -> None:
    found = Pruning(Path("store"), True, frame(0), **{kind: ("a.zip",)})
    assert f"{line}\n    a.zip" in str(found)
    assert found.files == 0
