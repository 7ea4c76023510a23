"""The sources of months: the files that may have their rows."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from binance_archive_kit.export.sources import MonthSources, find_sources
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import Selection
from tests.support.stores import kline, other, put


def found(root: Path, market: str, data_type: str, selection: Selection) -> dict[str, MonthSources]:
    engine = Engine(root)
    months = find_sources(engine, engine.feed(market, data_type), selection)
    return {f"{each.folder.interval} {each.folder.month}": each for each in months}


def names(month: MonthSources) -> list[str]:
    return [source.path.rpartition("/")[2] for source in month.sources]


def test_candles_belong_to_the_month_of_their_file(tmp_path: Path) -> None:
    for period in ("2025-06", "2025-07-01", "2025-07-31"):
        put(tmp_path, kline("AUSDT", period), 2)
    put(tmp_path, kline("BUSDT", "2025-07-01"), 2)
    months = found(tmp_path, "spot", "klines", Selection())
    assert list(months) == ["1h 2025-06", "1h 2025-07"]
    assert names(months["1h 2025-06"]) == ["AUSDT-1h-2025-06.zip"]
    assert names(months["1h 2025-07"]) == [
        "AUSDT-1h-2025-07-01.zip",
        "AUSDT-1h-2025-07-31.zip",
        "BUSDT-1h-2025-07-01.zip",
    ]


def test_a_week_may_begin_in_the_month_before_its_file(tmp_path: Path) -> None:
    put(tmp_path, kline("AUSDT", "2025-07", "1w"), 2)
    months = found(tmp_path, "spot", "klines", Selection())
    assert list(months) == ["1w 2025-06", "1w 2025-07"]


def test_a_range_limits_months_and_their_rows(tmp_path: Path) -> None:
    for month in ("2025-05", "2025-06", "2025-07"):
        put(tmp_path, kline("AUSDT", month), 2)
    selection = Selection(start=datetime(2025, 6, 9), end=datetime(2025, 7, 1))
    months = found(tmp_path, "spot", "klines", selection)
    assert list(months) == ["1h 2025-06"]
    assert months["1h 2025-06"].selection == Selection(
        None, frozenset(["1h"]), datetime(2025, 6, 9), datetime(2025, 7, 1)
    )


def test_the_digest_is_of_path_size_and_stamp(tmp_path: Path) -> None:
    put(tmp_path, other("trades", "AUSDT", "2025-07-15"), 2)
    [month] = found(tmp_path, "futures_um", "trades", Selection()).values()
    [source] = month.sources
    assert source.sha256 is None
    line = f"{source.path}\t{source.size}\t{source.stamp}\n"
    assert month.digest == hashlib.sha256(line.encode()).hexdigest()
    put(tmp_path, other("trades", "AUSDT", "2025-07-15"), 3)
    [changed] = found(tmp_path, "futures_um", "trades", Selection()).values()
    assert changed.digest != month.digest
    assert month.frame().row(0)[2:] == (source.path, source.size, None, source.stamp, None)


def test_csv_files_take_less_as_parquet(tmp_path: Path) -> None:
    path = put(tmp_path, kline("AUSDT", "2025-07-01"))
    path.with_suffix(".csv").write_bytes(b"x" * 800)
    path.unlink()
    [month] = found(tmp_path, "spot", "klines", Selection()).values()
    assert month.estimate == 100
