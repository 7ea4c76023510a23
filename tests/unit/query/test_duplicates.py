"""Rows that a store has twice count once, and contradictions are errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    ConflictingRows,
)
from tests.support.candles import HOUR, STEPS, at, day, file_of, line
from tests.support.stores import kline, put


@pytest.mark.parametrize("where", ["beside", "at the end", "whole file", "other file"])
def test_an_exact_repeat_counts_once(tmp_path: Path, where: str) -> None:
    plain = tmp_path / "plain"
    for date in ("2025-07-01", "2025-07-02"):
        day(plain, "AUSDT", date, "1h")
    edits: dict[str, Callable[[list[str]], list[str]]] = {
        "beside": lambda lines: [*lines[:5], lines[5].replace(",0\n", ",7\n"), *lines[5:]],
        "at the end": lambda lines: [*lines, lines[3].replace(",10.0,", ",10.000,")],
        "whole file": lambda lines: lines * 3,
        "other file": list,
    }
    day(tmp_path, "AUSDT", "2025-07-01", "1h", edit=edits[where])
    day(tmp_path, "AUSDT", "2025-07-02", "1h")
    if where == "other file":
        # Candles of three days may begin before their month: two files have one of them.
        step = STEPS["3d"]
        june, july = at("2025-06-27"), at("2025-06-30")
        for path, months in ((tmp_path, ("2025-06", "2025-07")), (plain, ("2025-06",))):
            for month in months:
                times = (june, july) if month == "2025-06" else (july, at("2025-07-03"))
                lines = [line(time, step, 100) for time in times]
                if path is plain:
                    lines.append(line(at("2025-07-03"), step, 100))
                file_of(path, kline("BUSDT", month, "3d"), lines)
        found = bak.load_klines(tmp_path, "BUSDT", "3d")
        assert found["open_time"].is_unique().all()
        return
    with pytest.warns(ArchiveKitWarning) as told:
        found = bak.load_klines(tmp_path, "AUSDT", "1h")
    assert len(told) == 1
    count = 48 if where == "whole file" else 1
    assert f"dropped {count} row" in str(told[0].message)
    assert "AUSDT-1h-2025-07-01.zip" in str(told[0].message)
    assert told[0].filename == __file__
    assert found.equals(bak.load_klines(plain, "AUSDT", "1h"))
    with pytest.warns(ArchiveKitWarning, match=f"dropped {count} row") as told:
        bars = bak.ohlcv(tmp_path, "AUSDT", "6h")
    assert len(told) == 1
    assert bars.equals(bak.ohlcv(plain, "AUSDT", "6h"))
    call = "FROM ohlcv('spot_klines', 'AUSDT', '1h', INTERVAL 6 HOUR)"
    assert bak.sql(tmp_path, call).equals(bak.sql(plain, call))
    kept = [name for name in bak.scan(plain, "spot", "klines").collect_schema() if name != "file"]
    rows = bak.scan(plain, "spot", "klines").select(kept).collect()
    once = bak.scan(tmp_path, "spot", "klines", distinct=True).select(kept).collect()
    assert once.sort("open_time").equals(rows)
    raw = bak.scan(tmp_path, "spot", "klines").collect()
    assert raw.height == rows.height + count
    with bak.connect(tmp_path, distinct=True) as con:
        assert con.sql("SELECT count(*), sum(volume) FROM spot_klines").fetchall() == [(48, 480.0)]
    with bak.connect(tmp_path) as con:
        assert con.sql("SELECT count(open) FROM spot_klines").fetchall() == [(48 + count,)]


@pytest.mark.parametrize("copies", [1, 2])
def test_different_candles_of_one_time_are_an_error(tmp_path: Path, copies: int) -> None:
    def edit(lines: list[str]) -> list[str]:
        return [*lines, *[line(at("2025-07-01 05:00"), HOUR, 7, 99.0)] * copies, lines[2]]

    bad = day(tmp_path, "AUSDT", "2025-07-01", "1h", edit=edit)
    asks: list[Callable[[Any], pl.DataFrame]] = [
        lambda source: bak.load_klines(source, "AUSDT", "1h"),
        lambda source: bak.ohlcv(source, ["AUSDT"], "1d"),
    ]
    for load in asks:
        with pytest.raises(ConflictingRows) as caught:
            load(tmp_path)
        assert caught.value.file == str(bad)
        for word in ("2025-07-01 05:00:00", "open", "7.0"):
            assert word in caught.value.detail
        store = bak.store(tmp_path, on_error="skip")
        with pytest.warns(ArchiveKitWarning):
            found = load(store)
        assert list(store.problems) == [str(bad)]
        assert store.problems[str(bad)].reason == "conflicting_rows"
        if "candles" in found.columns:
            assert found["candles"].to_list() == [23]
            assert found["expected_candles"].to_list() == [24]
        else:
            assert found["open_time"].to_list() == [
                at("2025-07-01") + n * HOUR for n in range(24) if n != 5
            ]
    with pytest.raises(ConfigurationError, match=r"AUSDT 1h: .* open_time 2025-07-01 05:00:00"):
        bak.sql(tmp_path, "FROM ohlcv('spot_klines', 'AUSDT', '1h', INTERVAL 1 DAY)")
    # What is raw stays raw, and both of them are there.
    both = bak.scan(tmp_path, "spot", "klines", distinct=True).collect()
    assert both.filter(open_time=at("2025-07-01 05:00")).height == 2
    with bak.connect(tmp_path, distinct=True) as con:
        assert con.sql("SELECT count(*) FROM spot_klines").fetchall() == [(25,)]


KLINE_COLUMNS = [
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
    *("count", "taker_buy_volume", "taker_buy_quote_volume"),
]


@pytest.mark.parametrize("column", KLINE_COLUMNS[1:])
def test_candles_that_differ_in_any_column_are_different(tmp_path: Path, column: str) -> None:
    """The loader and the macro count the same rows as repeats."""

    def edit(lines: list[str]) -> list[str]:
        cells = lines[5].split(",")
        place = KLINE_COLUMNS.index(column)
        cells[place] = str(int(cells[place]) - 1_000) if column == "close_time" else "3"
        return [*lines, ",".join(cells)]

    day(tmp_path, "AUSDT", "2025-07-01", "1h", edit=edit)
    with pytest.raises(ConflictingRows, match=column):
        bak.load_klines(tmp_path, "AUSDT", "1h")
    with pytest.raises(ConflictingRows, match=column):
        bak.ohlcv(tmp_path, "AUSDT", "4h")
    for distinct in (False, True):
        with pytest.raises(ConfigurationError, match=r"AUSDT 1h: .* open_time 2025-07-01 05:00:00"):
            bak.sql(
                tmp_path,
                "FROM ohlcv('spot_klines', 'AUSDT', '1h', INTERVAL 4 HOUR)",
                distinct=distinct,
            )


def test_a_conflict_of_two_files_names_both(tmp_path: Path) -> None:
    begin = int(at("2025-07-01").timestamp() * 1_000)
    header = "calc_time,funding_interval_hours,last_funding_rate\n"
    for month, rates in (("2025-06", (0.01, 0.02)), ("2025-07", (0.03, 0.04))):
        folder = "data/futures/um/monthly/fundingRate/AUSDT"
        key = ObjectKey.parse(f"{folder}/AUSDT-fundingRate-{month}.zip")
        times = (begin - 8 * 3_600_000, begin) if month == "2025-06" else (begin, begin + 8)
        rows = [f"{time},8,{rate}\n" for time, rate in zip(times, rates, strict=True)]
        file_of(tmp_path, key, [header, *rows])
    day(tmp_path, "AUSDT", "2025-07-01", "1h", market="futures/um")
    with pytest.raises(ConflictingRows, match=r"0\.02 and 0\.03") as caught:
        bak.klines_with_funding(tmp_path, "AUSDT", "1h")
    said = str(caught.value)
    assert "2025-06.zip" in said
    assert "2025-07.zip" in said


def test_distinct_reaches_across_files(tmp_path: Path) -> None:
    """The 00:00 of a day stands in the metrics of both days; rows that differ all stay."""
    names = "create_time,symbol,sum_open_interest,sum_open_interest_value,"
    names += "count_toptrader_long_short_ratio,sum_toptrader_long_short_ratio,"
    names += "count_long_short_ratio,sum_taker_long_short_vol_ratio\n"
    for date, times in (
        ("2026-06-24", ["2026-06-24 23:55:00", "2026-06-25 00:00:00"]),
        ("2026-06-25", ["2026-06-25 00:00:00", "2026-06-25 00:05:00"]),
    ):
        folder = "data/futures/um/daily/metrics/AUSDT"
        key = ObjectKey.parse(f"{folder}/AUSDT-metrics-{date}.zip")
        lines = [f"{time},AUSDT,1.5,2.5,3,4,5,6\n" for time in times]
        file_of(tmp_path, key, [names, *lines])
    assert bak.scan(tmp_path, "um", "metrics").collect().height == 4
    once = bak.scan(tmp_path, "um", "metrics", distinct=True)
    assert once.collect().height == 3
    assert once.select(pl.len()).collect().item() == 3
    assert once.select("create_time").collect().height == 3
    with bak.connect(tmp_path, distinct=True) as con:
        assert con.sql("SELECT count(*) FROM futures_um_metrics").fetchall() == [(3,)]
        assert con.sql("FROM futures_um_metrics").columns == once.collect_schema().names()


def test_other_rows_stay_as_they_are(tmp_path: Path) -> None:
    """A feed in order without repeats is what it was, whatever its values."""
    put(tmp_path, kline("AUSDT", "2025-07-01"))
    frame = bak.scan(tmp_path, "spot", "klines").collect()
    assert bak.load_klines(tmp_path, "AUSDT", "1h").equals(frame.drop(frame.columns[:6]))
