"""The coverage verdict of each month."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.export.footers import Verdict
from binance_archive_kit.export.sources import find_sources
from binance_archive_kit.export.verdicts import judge, verdict_of
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import Selection
from tests.support.planted import plant
from tests.support.reports import hours
from tests.support.stores import kline, other, put


def verdicts(root: Path) -> dict[str, Verdict]:
    engine = Engine(root)
    feed = engine.feed("spot", "klines")
    found = judge(engine, find_sources(engine, feed, Selection()))
    return {folder.month: verdict for folder, verdict in found.items()}


def test_each_month_has_its_own_verdict(tmp_path: Path) -> None:
    for day in ("2025-06-29", "2025-06-30", "2025-07-01", "2025-07-03"):
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    found = verdicts(tmp_path)
    assert found["2025-06"] == Verdict(
        "Complete: 100 % of the rows due are present (48 of 48)", 1.0, True
    )
    assert found["2025-07"].text.startswith(
        "Incomplete: 66.66 % of the rows due are present (48 of 72); 1 period not collected"
    )
    assert not found["2025-07"].complete
    report = bak.coverage(tmp_path, start="2025-07-01")
    assert found["2025-07"].coverage == report.coverage


def test_symbols_that_are_not_exported_tell_a_halt(tmp_path: Path) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for day in ("2025-06-30", "2025-07-01", "2025-07-02"):
            rows = hours(day)
            halted = day == "2025-07-01"
            plant(tmp_path, kline(symbol, day), rows[:5] + rows[7:] if halted else rows)
    engine = Engine(tmp_path)
    chosen = Selection(symbols=frozenset({"BTCUSDT"}))
    [june, july] = judge(
        engine, find_sources(engine, engine.feed("spot", "klines"), chosen)
    ).values()
    assert june.text == "Complete: 100 % of the rows due are present (24 of 24)"
    assert july.text == "Incomplete: 95.83 % of the rows due are present (46 of 48); 1 halt"
    only = Selection(frozenset({"BTCUSDT"}), start=datetime(2025, 7, 2))
    [july] = judge(engine, find_sources(engine, engine.feed("spot", "klines"), only)).values()
    assert july.text == "Complete: 100 % of the rows due are present (24 of 24)"


def test_no_month_has_no_verdict(tmp_path: Path) -> None:
    assert judge(Engine(tmp_path), []) == {}


@pytest.mark.parametrize(
    ("kind", "text", "complete"),
    [
        ("before_listing", "Complete: 100 % of the days due are present (2 of 2)", True),
        (
            "not_collected",
            "Incomplete: 40.00 % of the days due are present (2 of 5); 1 period",
            False,
        ),
    ],
)
def test_days_count_only_if_rows_were_due(
    kind: str, text: str, complete: bool, tmp_path: Path
) -> None:
    keys = [other("trades", "BTCUSDT", f"2025-07-0{day}") for day in (4, 5)]
    for number, key in enumerate(keys):
        put(tmp_path, key, 50, seed=number)
    report = bak.coverage(tmp_path)
    same = report.days.row(0, named=True) | {"present": 0, "kind": kind}
    empty = pl.DataFrame(
        [same | {"date": date(2025, 7, day)} for day in (1, 2, 3)], report.days.schema
    )
    gaps = report.gaps.clear()
    if kind == "not_collected":
        times = {"start": datetime(2025, 7, 1, tzinfo=UTC), "end": datetime(2025, 7, 4, tzinfo=UTC)}
        row = dict.fromkeys(gaps.columns) | times | {"kind": kind, "evidence": ""}
        gaps = pl.DataFrame([row], gaps.schema)
    found = verdict_of(pl.concat([empty, report.days]), gaps, report.findings.clear())
    assert found.text.startswith(text)
    assert found.complete == complete
