"""The planner: what it warns of, and where."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak


async def _await(function: Callable[..., Any], fields: dict[str, Any]) -> None:
    await function(**fields)


def _cover(function: Callable[..., Any], fields: dict[str, Any]) -> None:
    function(bak.CollectionConfig(**fields))


WAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "plan": lambda fields: bak.plan(**fields),
    "aplan": lambda fields: asyncio.run(_await(bak.aplan, fields)),
    "collect": lambda fields: bak.collect(**fields),
    "acollect": lambda fields: asyncio.run(_await(bak.acollect, fields)),
    "coverage": lambda fields: _cover(bak.coverage, fields),
    "backtest_coverage": lambda fields: _cover(bak.backtest_coverage, fields),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_warning_names_the_users_line(tmp_path: Path, way: str) -> None:
    fields = {
        "markets": ["options"],
        "symbols": ["BTCUSDT"],
        "data_types": ["trades"],
        "intervals": {"trades": ["1h"]},
        "date_range": {"start": "2025-07-01", "end": "2025-07-02"},
        "output_directory": tmp_path / "store",
        # The market has no such feed, so nothing is asked of the network.
        "listing": False,
        "endpoint_url": "http://127.0.0.1:1",
    }
    with pytest.warns(bak.ArchiveKitWarning, match="trades files have no intervals") as caught:
        WAYS[way](fields)
    assert [warning.filename for warning in caught] == [__file__]
