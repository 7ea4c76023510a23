"""The SQL macros make the bars that the loader makes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.query.duckdb_views import MACROS
from tests.support.candles import HOUR, same


def test_a_macro_takes_one_name_or_several(root: Path) -> None:
    store = bak.store(root, cache=False)
    with bak.connect(store) as con:
        for names, intervals, files in (
            ("'AUSDT'", "'1h'", 2),
            ("['AUSDT', 'BUSDT']", "['1h']", 4),
            ("['AUSDT', 'AUSDT']", "['1h', '4h']", 4),
        ):
            call = f"FROM ohlcv('spot_klines', {names}, {intervals}, INTERVAL 8 HOUR)"
            found = bak.sql(con, call)
            assert store.last_scan is not None
            assert store.last_scan.opened == files
            symbols = [name for name in ("AUSDT", "BUSDT") if name in names]
            words = [name for name in ("1h", "4h") if name in intervals]
            expected = bak.ohlcv(store, symbols, "8h", interval=words)
            assert same(found, expected)
        with pytest.raises(duckdb.Error, match="give one name or a list"):
            con.sql("FROM ohlcv('spot_klines', [], '1h', INTERVAL 8 HOUR)").fetchall()


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("AB"), st.integers(0, 11), st.sampled_from([1, 1, 1, 2])),
        min_size=1,
        max_size=24,
    )
)
def test_the_macro_takes_rows_in_any_order(rows: list[tuple[str, int, int]]) -> None:
    """Of a table of the user, such as a sorted or joined view: each candle counts once."""
    table = pl.DataFrame(
        [
            (
                name,
                "1h",
                datetime(2025, 7, 1) + hour * HOUR,
                hour,
                hour + 2,
                hour - 2,
                hour,
                1,
                more,
            )
            for name, hour, more in rows
        ],
        schema=[
            "symbol",
            "interval",
            "open_time",
            "open",
            "high",
            "low",
            "close",
            "volume",
            "more",
        ],
        orient="row",
    )
    ask = "FROM ohlcv('mine', ['A', 'B'], '1h', INTERVAL 4 HOUR)"
    with duckdb.connect() as con:
        con.execute(MACROS.read_text("utf-8"))
        con.register("mine", table)
        candles = sorted(set(rows))
        if len({(name, hour) for name, hour, _ in candles}) < len(candles):
            with pytest.raises(duckdb.Error, match="different candles"):
                con.sql(ask).fetchall()
            return
        found = con.sql(ask).fetchall()
    bars: dict[tuple[str, int], list[int]] = {}
    for name, hour, _ in candles:
        bars.setdefault((name, hour // 4 * 4), []).append(hour)
    assert [(name, at_.hour, *values) for name, at_, *values in found] == [
        (name, bar, its[0], its[-1] + 2, its[0] - 2, its[-1], len(its), len(its), 4, "1h")
        for (name, bar), its in sorted(bars.items())
    ]


def test_the_macro_rejects_what_does_not_fit(long: tuple[Any, Any]) -> None:
    _, con = long
    for symbol, interval, every in (
        ("BUSDT", "1h", "90 MINUTE"),
        ("AUSDT", "1d", "36 HOUR"),
        ("AUSDT", "1d", "0 DAY"),
        ("AUSDT", "1d", "-1 DAY"),
    ):
        call = f"FROM ohlcv('spot_klines', '{symbol}', '{interval}', INTERVAL '{every}')"
        with pytest.raises(duckdb.Error, match="no whole multiple"):
            con.sql(call).fetchall()
