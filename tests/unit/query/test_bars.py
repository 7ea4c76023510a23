"""Bars are made as by hand, of lengths that are parsed or rejected with advice."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import INTERVAL_ALIASES, Interval
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.query.bars import read_length
from binance_archive_kit.suggestions import nearest
from tests.support.candles import (
    DAY,
    DAYS,
    EPOCH,
    HOUR,
    MINUTE,
    SQL_COLUMNS,
    STEPS,
    at,
    bar_end,
    collections,
    day,
    file_of,
    line,
    rows_by_hand,
    same,
)
from tests.support.stores import kline, put


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
        length = read_length(text)
    except ConfigurationError:
        return
    assert length.micros > 0 or length.months > 0


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
    with pytest.raises(ConfigurationError, match=r"every: .* is not a length of time") as caught:
        read_length(every)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("every", "same_as"),
    [("1h30m", "90m"), ("30m1h", "90m"), ("1d12h", "36h"), ("1w1d", "8d"), ("0h30m", "30m")],
)
def test_lengths_add_up(every: str, same_as: str) -> None:
    assert read_length(every).micros == read_length(same_as).micros


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


def test_a_length_is_a_length(halted: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a length of time"):
        bak.ohlcv(halted, "BTCUSDT", "soon")


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


def resampled(rows: list[dict[str, Any]], hours: int) -> list[dict[str, Any]]:
    """Make longer candles of hours, one bucket after another."""
    buckets: dict[datetime, list[dict[str, Any]]] = {}
    for row in rows:
        since = row["open_time"] - datetime(1970, 1, 1)
        start = datetime(1970, 1, 1) + since // (hours * HOUR) * (hours * HOUR)
        buckets.setdefault(start, []).append(row)
    return [
        {
            "open_time": start,
            "open": held[0]["open"],
            "high": max(row["high"] for row in held),
            "low": min(row["low"] for row in held),
            "close": held[-1]["close"],
            "volume": sum(row["volume"] for row in held),
            "quote_volume": sum(row["quote_volume"] for row in held),
            "count": sum(row["count"] for row in held),
            "taker_buy_volume": sum(row["taker_buy_volume"] for row in held),
            "taker_buy_quote_volume": sum(row["taker_buy_quote_volume"] for row in held),
            "candles": len(held),
        }
        for start, held in buckets.items()
    ]


@pytest.mark.parametrize(
    ("every", "hours"), [("1h", 1), ("2h", 2), ("4h", 4), ("5h", 5), ("1d", 24)]
)
def test_candles_are_resampled_from_the_finest(halted: Path, every: str, hours: int) -> None:
    expected = resampled(rows_by_hand(halted, *DAYS), hours)
    found = bak.ohlcv(halted, "BTCUSDT", f"{hours}h")
    assert found["open_time"].dt.replace_time_zone(None).to_list() == [
        row["open_time"] for row in expected
    ]
    for name in ("open", "high", "low", "close", "count", "candles"):
        assert found[name].to_list() == [row[name] for row in expected], name
    for name in expected[0].keys() - {"open_time", "open", "high", "low", "close", "count"}:
        assert found[name].to_list() == pytest.approx([row[name] for row in expected]), name
    for price, row in zip(found["vwap"], expected, strict=True):
        if row["volume"]:
            assert price == pytest.approx(row["quote_volume"] / row["volume"])
        else:
            assert price is None  # nothing was traded at any price


def test_a_hole_is_not_filled_and_shows(halted: Path) -> None:
    found = bak.ohlcv(halted, "BTCUSDT", "2h", start="2025-07-02", end="2025-07-02")
    # Hours 3 to 7 are missing: the bar of 2 has one, those of 4 and 6 are not there.
    assert found["candles"].to_list() == [2, 1, *[2] * 8]
    starts = found["open_time"].to_list()
    assert at("2025-07-02 04:00") not in starts
    assert at("2025-07-02 06:00") not in starts
    assert all(b - a >= 2 * HOUR for a, b in pairwise(starts))


def test_coin_margined_candles_have_no_price_of_contracts(halted: Path) -> None:
    found = bak.ohlcv(halted, "BTCUSD_PERP", "1d", market="futures_cm")
    rows = rows_by_hand(halted, kline("BTCUSD_PERP", "2025-07-01", market="futures/cm"))
    assert found["volume"].to_list() == pytest.approx([sum(row["volume"] for row in rows)])
    assert found["base_volume"].to_list() == pytest.approx([sum(r["base_volume"] for r in rows)])
    assert "vwap" not in found.columns


@pytest.mark.parametrize(
    ("symbol", "every", "said"),
    [
        ("BTCUSDT", "30m", "'30m' is no whole multiple .* of BTCUSDT: 1h, 4h; write 1h$"),
        ("BTCUSDT", "90m", "'90m' is no whole multiple .*; write 1h or 2h$"),
        ("ETHUSDT", "1h", "'1h' is no whole multiple .* of ETHUSDT: 1d; write 1d$"),
        ("ETHUSDT", "36h", "write 1d or 2d$"),
    ],
)
def test_no_candle_reaches_over_the_end_of_a_longer_one(
    halted: Path, symbol: str, every: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        bak.ohlcv(halted, symbol, every)


@pytest.mark.parametrize("interval", ["3d", "1w", "1mo"])
def test_long_candles_fit_only_into_their_own_kind(tmp_path: Path, interval: str) -> None:
    day = "2025-07" if interval == "1mo" else "2025-07-07"
    put(tmp_path, kline("BTCUSDT", day, interval), 1)
    fits = {"1w": "2w", "1mo": "1q"}.get(interval)
    for every in ("12d", "2w", "1q"):
        if every == fits:
            assert bak.ohlcv(tmp_path, "BTCUSDT", every)["candles"].to_list() == [1]
        else:
            with pytest.raises(ConfigurationError, match="nothing of 3d"):
                bak.ohlcv(tmp_path, "BTCUSDT", every)


def test_candles_are_resampled_from_those_of_the_most_days(tmp_path: Path) -> None:
    """A day of minutes does not hide the days that have hours alone."""
    for key in DAYS:
        put(tmp_path, key)
    put(tmp_path, kline("BTCUSDT", "2025-07-03", "1m"), 1440)
    assert bak.ohlcv(tmp_path, "BTCUSDT", "1d")["candles"].to_list() == [24, 24, 24]
    of_a_day = bak.ohlcv(tmp_path, "BTCUSDT", "1d", start="2025-07-03")
    assert of_a_day["candles"].to_list() == [1440]
    assert bak.ohlcv(tmp_path, "BTCUSDT", "1d", interval="1m")["candles"].to_list() == [1440]
    with pytest.raises(ConfigurationError, match="It has: 1m, 1h"):
        bak.ohlcv(tmp_path, "BTCUSDT", "1d", interval="2h")
    with pytest.raises(ConfigurationError, match="no candle between 2026-01-01"):
        bak.ohlcv(tmp_path, "BTCUSDT", "1d", start="2026-01-01")
