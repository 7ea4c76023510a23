"""Loaders: one name or several, rows that stand twice, and bars of every length.

What a bar is is worked out here a second time, candle by candle, in plain Python.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import INTERVAL_ALIASES, Interval
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    ConflictingRows,
    nearest,
    respelled,
)
from binance_archive_kit.query.duckdb_views import MACROS
from binance_archive_kit.query.lengths import parse_length
from tests.support.dialects import write, zip_of
from tests.support.stores import kline, put

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STEPS = {
    "1m": MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "4h": 4 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": 7 * DAY,
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def line(
    time: datetime, step: timedelta, price: float, volume: float = 10.0, market: str = "spot"
) -> str:
    """Write a candle."""
    fine = market == "spot" and time >= at("2025-01-01")
    unit = timedelta(microseconds=1) if fine else timedelta(milliseconds=1)
    begin, end = (time - EPOCH) // unit, (time + step - EPOCH) // unit - 1
    prices = f"{price},{price + 2},{price - 2},{price + 1}"
    return f"{begin},{prices},{volume},{end},{volume * price},5,{volume / 2},{volume},0\n"


def file_of(root: Path, key: ObjectKey, lines: list[str]) -> ObjectKey:
    write(root, key, zip_of(key, "".join(lines).encode()))
    return key


def day(
    root: Path,
    symbol: str,
    date: str,
    interval: str,
    market: str = "spot",
    edit: Callable[[list[str]], list[str]] = list,
) -> ObjectKey:
    """Put a day of candles into a store; the price tells symbol, interval and time."""
    step, start = STEPS[interval], at(date)
    base = 1_000 * (1 + ord(symbol[0]) - ord("A")) + 100 * list(STEPS).index(interval)
    times = [start + n * step for n in range(DAY // step)]
    lines = [line(time, step, base + n % 50, market=market) for n, time in enumerate(times)]
    return file_of(root, kline(symbol, date, interval, market), edit(lines))


# One name or several


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    for symbol in ("BUSDT", "AUSDT", "CUSDT"):
        for date in ("2025-07-01", "2025-07-02"):
            for interval in ("1h", "4h"):
                day(root, symbol, date, interval)
                day(root, symbol, date, interval, market="futures/um")
    day(root, "CUSDT", "2025-07-03", "1h")
    return root


def collections(*names: str) -> list[Any]:
    """Give names in every collection a user has them in, repeats among them."""
    return [
        list(names),
        [*names, *names],
        tuple(names),
        set(names),
        dict.fromkeys(names),
        (name for name in names),
        pl.Series(names),
        pl.DataFrame({"symbol": names})["symbol"].to_numpy(),
    ]


def test_several_symbols_are_loaded_each_by_itself(root: Path) -> None:
    each = {name: bak.load_klines(root, name, "1h") for name in ("AUSDT", "BUSDT")}
    assert "symbol" not in each["AUSDT"].columns
    for names in collections("BUSDT", "AUSDT"):
        found = bak.load_klines(root, names, "1h")
        assert found.columns == ["symbol", *each["AUSDT"].columns]
        for name, frame in each.items():
            assert found.filter(symbol=name).drop("symbol").equals(frame)
        assert found.height == sum(frame.height for frame in each.values())
    one = bak.load_klines(root, ["AUSDT"], "1h")
    assert one["symbol"].unique().to_list() == ["AUSDT"]


def test_several_intervals_are_loaded_each_by_itself(root: Path) -> None:
    each = {name: bak.load_klines(root, "AUSDT", name) for name in ("1h", "4h")}
    for names in collections("4h", "1h"):
        found = bak.load_klines(root, "AUSDT", names)
        assert found.columns == ["interval", *each["1h"].columns]
        for name, frame in each.items():
            assert found.filter(interval=name).drop("interval").equals(frame)
    both = bak.load_klines(root, ["AUSDT", "BUSDT"], ["1h", "4h"])
    assert both.columns[:2] == ["symbol", "interval"]
    assert both.height == 2 * sum(frame.height for frame in each.values())


def test_several_symbols_make_bars_each_by_itself(root: Path) -> None:
    each = {name: bak.ohlcv(root, name, "6h") for name in ("AUSDT", "BUSDT")}
    for names in collections("BUSDT", "AUSDT"):
        found = bak.ohlcv(root, names, "6h")
        assert found.columns == ["symbol", *each["AUSDT"].columns]
        for name, frame in each.items():
            assert found.filter(symbol=name).drop("symbol").equals(frame)
    of_both = bak.ohlcv(root, "AUSDT", "8h", interval=["1h", "4h"])
    for interval in ("1h", "4h"):
        alone = bak.ohlcv(root, "AUSDT", "8h", interval=interval)
        assert of_both.filter(interval=interval).equals(alone)
        assert alone["interval"].unique().to_list() == [interval]


def test_several_symbols_are_joined_with_their_own_funding(tmp_path: Path) -> None:
    for symbol, rate in (("AUSDT", 1), ("BUSDT", 2)):
        day(tmp_path, symbol, "2025-07-01", "1h", market="futures/um")
        day(tmp_path, symbol, "2025-07-01", "4h", market="futures/um")
        folder = f"data/futures/um/monthly/fundingRate/{symbol}"
        key = ObjectKey.parse(f"{folder}/{symbol}-fundingRate-2025-07.zip")
        begin = int(at("2025-07-01").timestamp() * 1_000)
        rows = [f"{begin + hours * 3_600_000 + 7},8,0.0{rate}{hours:02}\n" for hours in (0, 8, 16)]
        header = "calc_time,funding_interval_hours,last_funding_rate\n"
        # One funding stands twice, and counts once.
        file_of(tmp_path, key, [header, *rows, rows[-1]])
    with pytest.warns(ArchiveKitWarning, match="1 row that repeats"):
        single = bak.klines_with_funding(tmp_path, "AUSDT", "1h")
    with pytest.warns(ArchiveKitWarning, match="2 rows that repeat") as told:
        found = bak.klines_with_funding(tmp_path, ["AUSDT", "BUSDT"], ["1h", "4h"])
    assert len(told) == 1
    assert single.height == 24
    assert found.filter(symbol="AUSDT", interval="1h").drop("symbol", "interval").equals(single)
    for symbol, least in (("AUSDT", 0.01), ("BUSDT", 0.02)):
        rates = found.filter(symbol=symbol)["last_funding_rate"].drop_nulls()
        assert rates.is_between(least, least + 0.002).all()


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


SQL_COLUMNS = ["open_time", "open", "high", "low", "close", "volume"]
SQL_COLUMNS += ["candles", "expected_candles", "interval"]


def same(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    """Compare bars of the macro with those of the loader."""
    columns = ["symbol", *SQL_COLUMNS] if "symbol" in expected.columns else SQL_COLUMNS
    words = [name for name in ("symbol", "interval") if name in columns]
    frames = [
        frame.select(columns).with_columns(pl.col(words).cast(pl.String)).sort(columns)
        for frame in (found, expected)
    ]
    return frames[0].equals(frames[1])


@pytest.mark.parametrize("load", [bak.load_klines, bak.klines_with_funding, bak.ohlcv])
@pytest.mark.parametrize(
    ("names", "said"),
    [([], "symbols?: it is empty"), (3, "neither a name nor"), (["AUSDT", 3], "3 is not a name")],
)
def test_names_that_are_none_are_refused(root: Path, load: Any, names: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(root, names, "1h", market="futures_um")


def test_the_cache_is_filled_for_one_name_or_several(root: Path) -> None:
    assert bak.store(root, cache=False).warm(symbols="AUSDT").months == 0
    with pytest.raises(ConfigurationError, match=r"'AUSD' is not in the store; did you mean 'AU"):
        bak.store(root).warm(symbols=["AUSD"])
    with pytest.raises(ConfigurationError, match="it is empty"):
        bak.store(root).warm(symbols=[])


def test_what_one_of_several_lacks_is_not_left_out_silently(root: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'DUSDT' is not in the store.*To add it: coll"):
        bak.load_klines(root, ["AUSDT", "DUSDT"], "1h")
    with pytest.warns(ArchiveKitWarning, match="no candle between 2025-07-03 .* of AUSDT 1h"):
        found = bak.load_klines(root, ["AUSDT", "CUSDT"], "1h", start="2025-07-03")
    assert found["symbol"].unique().to_list() == ["CUSDT"]
    with pytest.warns(ArchiveKitWarning, match="of AUSDT"):
        bars = bak.ohlcv(root, ["AUSDT", "CUSDT"], "1d", start="2025-07-03")
    assert bars["symbol"].to_list() == ["CUSDT"]
    day(root, "DUSDT", "2025-07-01", "4h")
    asks: list[Callable[[], pl.DataFrame]] = [
        lambda: bak.load_klines(root, ["AUSDT", "DUSDT"], ["1h", "4h"]),
        lambda: bak.ohlcv(root, ["AUSDT", "DUSDT"], "1d", interval=["1h", "4h"]),
    ]
    for load in asks:
        with pytest.raises(ConfigurationError, match=r"'1h' is not in the store.*DUSDT"):
            load()


# Rows that stand twice


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


# Bars of every length


def bar_start(time: datetime, every: str) -> datetime:
    """Tell where the bar begins that a time is in, by the rule and by hand."""
    number, unit = int(every[:-1].rstrip("m")), every.lstrip("0123456789")
    if unit == "mo":
        number = int(every[:-2])
        months = (time.year - 1970) * 12 + time.month - 1
        months -= months % number
        return datetime(1970 + months // 12, months % 12 + 1, 1, tzinfo=UTC)
    units = {"m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
    number = int(every.removesuffix(unit))
    length = number * units[unit]
    origin = datetime(1970, 1, 5, tzinfo=UTC) if length % (7 * DAY) == timedelta(0) else EPOCH
    return origin + (time - origin) // length * length


def bar_end(start: datetime, every: str) -> datetime:
    if every.endswith("mo"):
        months = start.year * 12 + start.month - 1 + int(every[:-2])
        return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    units = {"m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
    return start + int(every[:-1]) * units[every[-1]]


def by_hand(candles: pl.DataFrame, every: str, interval: str) -> list[tuple[Any, ...]]:
    bars: dict[datetime, list[dict[str, Any]]] = {}
    for row in candles.to_dicts():
        bars.setdefault(bar_start(row["open_time"], every), []).append(row)
    return [
        (
            start,
            rows[0]["open"],
            max(row["high"] for row in rows),
            min(row["low"] for row in rows),
            rows[-1]["close"],
            pytest.approx(sum(row["volume"] for row in rows)),
            len(rows),
            (bar_end(start, every) - start) // STEPS[interval],
            interval,
        )
        for start, rows in sorted(bars.items())
    ]


INTERVAL_OF = {"m": "MINUTE", "h": "HOUR", "d": "DAY", "w": "WEEK", "mo": "MONTH"}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Two years and a half of days, forty days of hours with holes."""
    root = tmp_path_factory.mktemp("long")
    start = at("2023-01-01")
    for month in range(30):
        first = datetime(2023 + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        end = bar_end(first, "1mo")
        days = [first + n * DAY for n in range((end - first) // DAY)]
        lines = [line(time, DAY, 100 + (time - start) // DAY) for time in days if time.day != 9]
        file_of(root, kline("AUSDT", f"{first:%Y-%m}", "1d"), lines)
        if first >= at("2024-05-01") and first < at("2024-07-01"):
            hours = [first + n * HOUR for n in range((end - first) // HOUR)]
            kept = [line(t, HOUR, 100 + t.hour + t.day) for t in hours if t.hour != t.day % 24]
            file_of(root, kline("BUSDT", f"{first:%Y-%m}", "1h"), kept)
    store = bak.store(root)
    with bak.connect(store) as con:
        yield store, con


FROM_HOURS = [f"{n}h" for n in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 24, 36, 48, 168)]
FROM_DAYS = [f"{n}d" for n in (1, 2, 3, 4, 5, 6, 7, 9, 10, 14, 21, 28, 30)]
FROM_DAYS += ["1w", "2w", "3w", "4w", *(f"{n}mo" for n in (1, 2, 3, 4, 5, 6, 7, 12, 24))]


@pytest.mark.parametrize(
    ("every", "symbol"),
    [*((each, "BUSDT") for each in FROM_HOURS), *((each, "AUSDT") for each in FROM_DAYS)],
)
def test_bars_of_every_length_begin_by_the_rule(
    long: tuple[Any, Any], every: str, symbol: str
) -> None:
    store, con = long
    interval = "1h" if symbol == "BUSDT" else "1d"
    candles = bak.load_klines(store, symbol, interval)
    expected = by_hand(candles, every, interval)
    found = bak.ohlcv(store, symbol, every)
    assert found.select(SQL_COLUMNS).rows() == expected
    unit = every.lstrip("0123456789")
    length = f"INTERVAL {every.removesuffix(unit)} {INTERVAL_OF[unit]}"
    macro = bak.sql(con, f"FROM ohlcv('spot_klines', '{symbol}', '{interval}', {length})")
    assert macro.select(SQL_COLUMNS).rows() == expected
    assert all(bar_end(one, every) <= two for one, two in pairwise(found["open_time"]))


def test_other_spellings_of_a_length_are_the_same_bars(long: tuple[Any, Any]) -> None:
    store, _ = long
    for one, two in (("7d", "1w"), ("1M", "1mo"), ("1q", "3mo"), ("1y", "12mo"), ("14d", "2w")):
        assert bak.ohlcv(store, "AUSDT", one).equals(bak.ohlcv(store, "AUSDT", two))
    assert bak.ohlcv(store, "BUSDT", "1d12h").equals(bak.ohlcv(store, "BUSDT", "36h"))


@pytest.mark.parametrize("first", ["2024-05-01", "2024-05-02", "2024-05-03"])
def test_three_days_begin_where_the_archives_own_do(tmp_path: Path, first: str) -> None:
    hours = [at("2024-05-01") + n * HOUR for n in range(31 * 24)]
    lines = [line(time, HOUR, 100 + time.day) for time in hours]
    file_of(tmp_path, kline("AUSDT", "2024-05", "1h"), lines)
    three = [at(first) + n * 3 * DAY for n in range(9)]
    file_of(tmp_path, kline("AUSDT", "2024-05", "3d"), [line(t, 3 * DAY, 50) for t in three])
    made = bak.ohlcv(tmp_path, "AUSDT", "3d", interval="1h")
    assert [time for time in made["open_time"] if time in three] == three
    own = bak.ohlcv(tmp_path, "AUSDT", "3d", interval="3d")
    assert own["open_time"].to_list() == three
    macro = bak.sql(tmp_path, "FROM ohlcv('spot_klines', 'AUSDT', '3d', INTERVAL 3 DAY)")
    assert same(macro, own)


@pytest.mark.parametrize(
    ("every", "said"),
    [
        ("30min", "did you mean '30m'"),
        ("4 hours", "did you mean '4h'"),
        ("1month", "did you mean '1mo'"),
        ("2H", "did you mean '2h'"),
        ("2M", "did you mean '2mo'"),
        ("soon", "Write a number"),
        ("0d", "above 0"),
        ("-1d", "above 0"),
        ("0mo", "above 0"),
        ("", "above 0"),
        ("1", "above 0"),
        ("999999999d", "above 0"),
        ("1mo1d", "above 0"),
        (None, "above 0"),
        (60, "above 0"),
        (timedelta(hours=1), "above 0"),
    ],
)
def test_what_is_no_length_is_our_error(root: Path, every: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        bak.ohlcv(root, "AUSDT", every)


@given(st.text(max_size=6))
def test_any_text_is_a_length_or_our_error(text: str) -> None:
    try:
        length = parse_length(text)
    except ConfigurationError:
        return
    assert length.micros > 0 or length.months > 0


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


# The source of each bar


def cut(count: int) -> Callable[[list[str]], list[str]]:
    return lambda lines: lines[:count]


@pytest.mark.parametrize("count", [0, 1, 457, 1439])
def test_a_cut_fine_interval_gives_way_to_a_whole_one(tmp_path: Path, count: int) -> None:
    day(tmp_path, "AUSDT", "2025-04-21", "1m")
    day(tmp_path, "AUSDT", "2025-04-22", "1m", edit=cut(count))
    day(tmp_path, "AUSDT", "2025-04-23", "1m")
    day(tmp_path, "AUSDT", "2025-04-22", "1h")
    found = bak.ohlcv(tmp_path, "AUSDT", "1d")
    assert found["interval"].to_list() == ["1m", "1h", "1m"]
    assert found["candles"].to_list() == [1440, 24, 1440]
    assert found["expected_candles"].to_list() == [1440, 24, 1440]
    week = bak.ohlcv(tmp_path, "AUSDT", "1w")
    assert week["interval"].to_list() == ["1m"]
    assert week["candles"].to_list() == [2880 + count]


@settings(max_examples=25, deadline=None)
@given(
    kept=st.lists(
        st.tuples(*(st.sampled_from([0.0, 0.3, 0.5, 1.0, 1.0]) for _ in range(3))),
        min_size=3,
        max_size=3,
    ),
    every=st.sampled_from(["4h", "7h", "1d", "2d", "1w", "1mo"]),
)
def test_each_bar_is_of_the_interval_that_has_most_of_it(
    tmp_path_factory: pytest.TempPathFactory, kept: list[tuple[float, ...]], every: str
) -> None:
    root = tmp_path_factory.mktemp("kept")
    intervals = ("30m", "1h", "4h")
    for interval, parts in zip(intervals, kept, strict=True):
        for number, part in enumerate(parts):
            if part:
                count = round(DAY / STEPS[interval] * part)
                day(root, "AUSDT", f"2025-07-0{number + 1}", interval, edit=cut(count))
    bars: dict[datetime, list[tuple[Any, ...]]] = {}
    there = [each for each, parts in zip(intervals, kept, strict=True) if any(parts)]
    for interval in there:
        if every == "7h" and interval == "4h":
            continue
        for bar in by_hand(bak.load_klines(root, "AUSDT", interval), every, interval):
            bars.setdefault(bar[0], []).append(bar)
    if not bars:
        with pytest.raises(ConfigurationError):
            bak.ohlcv(root, "AUSDT", every)
        return
    found = bak.ohlcv(root, "AUSDT", every).select(SQL_COLUMNS).rows()
    assert [bar[0] for bar in found] == sorted(bars)
    for bar in found:
        best = max(row[6] / row[7] for row in bars[bar[0]])
        assert bar in bars[bar[0]]
        assert bar[6] / bar[7] == best


def test_whole_candles_are_read_from_one_interval_alone(tmp_path: Path) -> None:
    for date in ("2025-07-01", "2025-07-02"):
        for interval in ("1m", "1h"):
            day(tmp_path, "AUSDT", date, interval)
    store = bak.store(tmp_path, cache=False)
    with warnings.catch_warnings(record=True) as told:
        found = bak.ohlcv(store, "AUSDT", "6h")
    assert found["interval"].unique().to_list() == ["1m"]
    assert store.last_scan is not None
    assert store.last_scan.opened == 2
    assert not told


@pytest.mark.parametrize(
    "every",
    [
        *(
            "",
            "h",
            "0h",
            "0h0m",
            "-1h",
            "1ns",
            "1us",
            "1.5h",
            "1h 30m",
            "1mo1d",
            "٣h",
            "1h\n",
            "1qo",
        ),
        *("9" * 5_000 + "h", "1h" * 5_000, "x" * 10**6, None, 60, 1.5, b"1h", ["1h"], HOUR),
    ],
    ids=lambda value: str(value)[:12],
)
def test_odd_lengths_are_our_error(every: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"every: .* is no length of time") as caught:
        parse_length(every)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("odd", [5, None, b"x", [None], [b"x"], ["x" * 10**6], "x" * 10**6, [], {}])
@pytest.mark.parametrize("name", ["symbol", "interval", "market", "data_type"])
def test_names_that_are_none_are_our_error(root: Path, name: str, odd: Any) -> None:
    given = {"symbol": "AUSDT", "interval": "1h"} | {name: odd}
    with pytest.raises(ConfigurationError, match=name.replace("_", ".")) as caught:
        bak.load_klines(root, **given)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("every", "same_as"),
    [("1h30m", "90m"), ("30m1h", "90m"), ("1d12h", "36h"), ("1w1d", "8d"), ("0h30m", "30m")],
)
def test_lengths_add_up(every: str, same_as: str) -> None:
    assert parse_length(every).micros == parse_length(same_as).micros


def test_any_moment_may_be_asked_for(tmp_path: Path) -> None:
    day(tmp_path, "AUSDT", "2025-07-01", "1h")
    for start, end in (("0001-01-01", "9999-12-31"), (datetime.min, datetime.max)):
        assert bak.load_klines(tmp_path, "AUSDT", "1h", start=start, end=end).height == 24
        assert bak.ohlcv(tmp_path, "AUSDT", "1d", start=start, end=end)["candles"].to_list() == [24]
    east, west = timezone(HOUR), timezone(-HOUR)
    for moment in (
        datetime.min.replace(tzinfo=east),
        datetime.max.replace(tzinfo=west),
        "x" * 10**6,
    ):
        for name in ("start", "end"):
            with pytest.raises(ConfigurationError, match=name) as caught:
                bak.scan(tmp_path, "spot", "klines", **{name: moment})  # type: ignore[arg-type]
            assert len(str(caught.value)) < 400


@pytest.mark.parametrize("load", [bak.load_klines, bak.ohlcv])
def test_when_all_is_left_out_the_error_names_the_files(
    tmp_path: Path, load: Callable[..., pl.DataFrame]
) -> None:
    bad = day(tmp_path, "AUSDT", "2025-07-01", "1h", edit=lambda lines: [*lines, "1,2\n"])
    day(tmp_path, "BUSDT", "2025-07-01", "1h")
    with pytest.warns(ArchiveKitWarning), pytest.raises(ConfigurationError, match=str(bad)):
        load(tmp_path, "AUSDT", "1h", on_error="skip")
    with pytest.warns(ArchiveKitWarning) as told:
        found = load(tmp_path, ["AUSDT", "BUSDT"], "1h", on_error="skip")
    assert set(found["symbol"]) == {"BUSDT"}
    assert any("no candle" in str(each.message) and str(bad) in str(each.message) for each in told)


# Words


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        *(("1min", "1m"), ("5min", "5m"), ("30min", "30m"), ("60m", "1h"), ("60min", "1h")),
        *(("24h", "1d"), ("7d", "1w"), ("1hour", "1h"), ("1day", "1d"), ("1week", "1w")),
        *(("1month", "1mo"), ("1H", "1h"), ("1 m", "1m"), ("10m", None), ("30d", None)),
        ("1mon", "1mo"),
    ],
)
def test_a_length_suggests_the_same_length(root: Path, value: str, meant: str | None) -> None:
    valid = [*Interval, *INTERVAL_ALIASES]
    assert nearest(value, valid) == meant
    asks: list[Callable[[], object]] = [
        lambda: bak.load_klines(root, "AUSDT", value),
        lambda: bak.scan(root, "spot", "klines", intervals=value),
        lambda: bak.CollectionConfig(
            markets=["spot"], symbols=["AUSDT"], data_types=["klines"],
            intervals={"klines": [value]}, date_range={"start": "2025-01-01", "end": "2025-01-02"},
            output_directory="x",
        ),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(ConfigurationError) as caught:
            ask()
        said = str(caught.value)
        assert (f"did you mean '{meant}'" in said) if meant else ("did you mean" not in said)


def test_respelled_words_are_their_own_spelling() -> None:
    for unit in ("s", "m", "h", "d", "w", "mo"):
        assert respelled(f"3{unit}") == f"3{unit}"


def test_other_rows_stay_as_they_are(tmp_path: Path) -> None:
    """A feed in order without repeats is what it was, whatever its values."""
    put(tmp_path, kline("AUSDT", "2025-07-01"))
    frame = bak.scan(tmp_path, "spot", "klines").collect()
    assert bak.load_klines(tmp_path, "AUSDT", "1h").equals(frame.drop(frame.columns[:6]))
