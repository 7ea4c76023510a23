"""The coverage verdict of each month."""

from __future__ import annotations

from pathlib import Path

import binance_archive_kit as bak
from binance_archive_kit.export.footers import Verdict
from binance_archive_kit.export.sources import find_sources
from binance_archive_kit.export.verdicts import judge
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import Selection
from tests.support.planted import plant
from tests.support.reports import hours
from tests.support.stores import kline


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


def test_no_month_has_no_verdict(tmp_path: Path) -> None:
    assert judge(Engine(tmp_path), []) == {}
