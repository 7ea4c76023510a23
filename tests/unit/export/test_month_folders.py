"""Folders of exports: their names, and finding them."""

from __future__ import annotations

from pathlib import Path

import pytest

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.export.month_folders import FILE, MonthFolder, find_folders

DAYS = MonthFolder(Market.SPOT, DataType.KLINES, Interval.D1, "2025-12")
TRADES = MonthFolder(Market.FUTURES_UM, DataType.AGG_TRADES, None, "2025-07")


def put(root: Path, *parts: str) -> Path:
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(b"")
    return folder


def test_the_levels_have_names() -> None:
    assert TRADES.path == "market=futures_um/data_type=aggTrades/month=2025-07"
    assert DAYS.file == f"market=spot/data_type=klines/interval=1d/month=2025-12/{FILE}"
    assert (str(DAYS.start), str(DAYS.end)) == ("2025-12-01 00:00:00", "2026-01-01 00:00:00")


@pytest.mark.parametrize("month", ["../../etc", "a/b", "a=b", "%2F", "Ä b"])
def test_no_value_becomes_a_path(month: str) -> None:
    folder = MonthFolder(Market.SPOT, DataType.KLINES, None, month)
    assert folder.path.count("/") == 2
    assert folder.path.count("=") == 3
    assert ".." not in Path(folder.path).parts


def test_folders_are_found_and_others_are_not(tmp_path: Path) -> None:
    put(tmp_path, DAYS.path)
    put(tmp_path, TRADES.path)
    put(tmp_path, "market=spot", "data_type=klines", "interval=1d", "month=x")
    put(tmp_path, "market=spot", "data_type=klines", "interval=7x", "month=2025-07")
    put(tmp_path, "market=stocks", "data_type=klines", "month=2025-07")
    put(tmp_path, "market=%73pot", "data_type=klines", "month=2025-07")
    put(tmp_path, "other")
    (tmp_path / "market=spot" / "data_type=klines" / "month=2024-01").mkdir()
    assert set(find_folders(tmp_path)) == {DAYS, TRADES}
    assert list(find_folders(tmp_path / "nowhere")) == []
