"""Rows whose number is known are counted without being read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.reading.chunks import count_chunks
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.storage.store import Store
from tests.support.stores import kline, put

DAYS = [kline("BTCUSDT", f"2025-07-0{day}") for day in (1, 2, 3)]


def test_many_rows_are_counted_some_at_a_time(tmp_path: Path) -> None:
    for key in DAYS:
        put(tmp_path, key)
    [held] = Store(tmp_path).inventory.folders(Market.SPOT, DataType.KLINES)
    spans = [
        (FileTask(file, held), rows) for file, rows in zip(held.files, (7, 0, 10**7), strict=True)
    ]
    counted: Counter[str] = Counter()
    for chunk in count_chunks(spans):
        assert 0 < sum(rows for _, rows in chunk.spans) < 10**6
        for task, rows in chunk.spans:
            counted[task.file.key] += rows
    assert counted == {str(DAYS[0]): 7, str(DAYS[2]): 10**7}
