"""Forward returns are labels: right where every candle is there, and null elsewhere."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.errors import ConfigurationError
from tests.support.candles import DAY, HOUR, at, bar_end, day, file_of, line
from tests.support.stores import kline

START = at("2025-07-01")
MILLI = timedelta(milliseconds=1)
Candle = tuple[datetime, datetime, float | None]


def frame_of(candles: list[Candle], **more: Any) -> pl.DataFrame:
    """Return candles as `load_klines` returns them, with their opens, ends and closes."""
    opens, ends, closes = zip(*candles, strict=True) if candles else ((), (), ())
    times = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {"open_time": opens, "close": closes, "close_time": [end - MILLI for end in ends]},
        schema={"open_time": times, "close": pl.Float64, "close_time": times},
    ).with_columns(**more)


def hours(*closes: float | None, start: datetime = START) -> list[Candle]:
    return [
        (start + n * HOUR, start + (n + 1) * HOUR, close)
        for n, close in enumerate(closes)
        if close is not None
    ]


def slow(candles: list[Candle], index: int, count: int, step: timedelta) -> Any:
    """Return a forward return and when it is known, by walking from candle to candle."""
    by_open = {candle[0]: candle for candle in candles}
    here = candles[index]
    for _ in range(count):
        opened, ended, _close = here
        if ended - opened != step or ended not in by_open:
            return None, None
        here = by_open[ended]
    opened, ended, close = here
    before = candles[index][2]
    if ended - opened != step or close is None or before is None:
        return None, None
    return close / before - 1, ended


@st.composite
def candles_with_flaws(draw: st.DrawFn) -> list[Candle]:
    """Draw candles of an hour with holes, candles cut short, and times shifted after a halt."""
    found: list[Candle] = []
    time = START
    kinds = st.sampled_from(["whole"] * 6 + ["missing", "short", "shifted"])
    for kind in draw(st.lists(kinds, min_size=1, max_size=40)):
        price = draw(st.integers(1, 10_000)) / 8
        end = time + HOUR
        if kind == "shifted":
            time += 17 * timedelta(minutes=1)
            end = time + HOUR
        elif kind == "short":
            end = time + 13 * timedelta(minutes=1)
        if kind != "missing":
            found.append((time, end, price))
        time = time + HOUR
    return found


@settings(max_examples=80, deadline=None)
@given(
    one=candles_with_flaws(),
    two=candles_with_flaws(),
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True),
    order=st.randoms(use_true_random=False),
)
def test_returns_are_those_of_a_walk_from_candle_to_candle(
    one: list[Candle], two: list[Candle], counts: list[int], order: Any
) -> None:
    frames = [frame_of(one, symbol=pl.lit("A")), frame_of(two, symbol=pl.lit("B"))]
    both = pl.concat(frames)
    shuffled = both[order.sample(range(both.height), both.height)]
    found = bak.forward_returns(shuffled, [f"{count}h" for count in counts], interval="1h")
    assert found.select(both.columns).equals(shuffled)
    expected = {}
    for symbol, candles in (("A", one), ("B", two)):
        for index, candle in enumerate(candles):
            labels = [slow(candles, index, count, HOUR) for count in counts]
            expected[symbol, candle[0]] = labels
    for row in found.iter_rows(named=True):
        for count, (value, known) in zip(
            counts, expected[row["symbol"], row["open_time"]], strict=True
        ):
            assert row[f"forward_return_{count}h"] == (value and pytest.approx(value, abs=1e-12))
            assert row[f"label_known_at_{count}h"] == known


def test_a_label_says_its_horizon_and_when_it_is_known() -> None:
    found = bak.forward_returns(frame_of(hours(100, 110, 99)), ["2h", 1])
    assert found.columns[3:] == [
        *("forward_return_2h", "label_known_at_2h"),
        *("forward_return_1_candle", "label_known_at_1_candle"),
    ]
    assert found["forward_return_2h"].to_list() == pytest.approx([-0.01, None, None])
    assert found["label_known_at_2h"].to_list() == [START + 3 * HOUR, None, None]
    assert found["forward_return_1_candle"].to_list() == pytest.approx([0.1, -0.1, None])
    for name in found.columns[3:]:
        kind = pl.Float64() if "return" in name else pl.Datetime("us", "UTC")
        assert found.schema[name] == kind


def test_logarithms(tmp_path: Path) -> None:
    found = bak.forward_returns(frame_of(hours(100, 110, 99)), "1h", log=True)
    expected = [math.log(1.1), math.log(0.9), None]
    assert found["forward_return_1h"].to_list() == pytest.approx(expected)


def test_candles_are_loaded_from_a_store(tmp_path: Path) -> None:
    for symbol in ("AUSDT", "BUSDT"):
        day(tmp_path, symbol, "2025-07-01", "1h")
        day(tmp_path, symbol, "2025-07-02", "1h", edit=lambda lines: lines[:5] + lines[7:])
    for symbol in ("AUSDT", ["AUSDT", "BUSDT"]):
        candles = bak.load_klines(tmp_path, symbol, "1h")
        found = bak.forward_returns(tmp_path, "3h", symbol, "1h")
        assert found.equals(bak.forward_returns(candles, "3h", interval="1h"))
        assert found.equals(bak.forward_returns(candles, "3h"))
        # 24 + 5 candles, then two are missing, then 17: each run ends with three labels less.
        assert found["forward_return_3h"].is_not_null().sum() % (26 + 14) == 0
    scanned = bak.scan(tmp_path, "spot", "klines", symbols="BUSDT")
    part = bak.forward_returns(scanned, "3h")
    assert part["forward_return_3h"].equals(
        bak.forward_returns(tmp_path, "3h", "BUSDT", "1h")["forward_return_3h"]
    )
    early = bak.forward_returns(tmp_path, "3h", "AUSDT", "1h", end="2025-07-01")
    assert early["forward_return_3h"].null_count() == 3


def test_intervals_of_one_frame_are_labelled_each_by_itself(tmp_path: Path) -> None:
    day(tmp_path, "AUSDT", "2025-07-01", "1h")
    day(tmp_path, "AUSDT", "2025-07-01", "4h")
    both = bak.load_klines(tmp_path, "AUSDT", ["1h", "4h"])
    found = bak.forward_returns(both, "8h")
    for interval in ("1h", "4h"):
        alone = bak.forward_returns(tmp_path, "8h", "AUSDT", interval)
        assert found.filter(interval=interval).drop("interval").equals(alone)
    with pytest.raises(ConfigurationError, match=r"'2h' is no whole number .* last 4h each"):
        bak.forward_returns(both, "2h")


def test_bars_with_missing_candles_have_no_label(tmp_path: Path) -> None:
    day(tmp_path, "AUSDT", "2025-07-01", "1h", edit=lambda lines: lines[:9] + lines[10:])
    bars = bak.ohlcv(tmp_path, "AUSDT", "4h")
    assert bars["candles"].to_list() == [4, 4, 3, 4, 4, 4]
    found = bak.forward_returns(bars, ["4h", 2])
    closes = bars["close"].to_list()
    expected = [closes[n + 1] / closes[n] - 1 if n in (0, 3, 4) else None for n in range(6)]
    assert found["forward_return_4h"].to_list() == pytest.approx(expected)
    expected = [closes[5] / closes[3] - 1 if n == 3 else None for n in range(6)]
    assert found["forward_return_2_candles"].to_list() == pytest.approx(expected)


def test_panels_become_rows_of_symbols(tmp_path: Path) -> None:
    day(tmp_path, "AUSDT", "2025-07-01", "1h")
    day(tmp_path, "BUSDT", "2025-07-01", "1h", edit=lambda lines: lines[:3] + lines[5:])
    wide = bak.panel(tmp_path, "spot", "1h", "close")
    found = bak.forward_returns(wide, "2h")
    assert found.columns[:3] == ["symbol", "open_time", "close"]
    for symbol in ("AUSDT", "BUSDT"):
        alone = bak.forward_returns(tmp_path, "2h", symbol, "1h")
        part = found.filter(pl.col("close").is_not_null(), symbol=symbol)
        names = ["open_time", "close", "forward_return_2h", "label_known_at_2h"]
        assert part.select(names).equals(alone.select(names))
    assert found.filter(symbol="BUSDT")["forward_return_2h"].null_count() == 6


@pytest.mark.parametrize("every", ["1mo", "1w", "3mo"])
def test_candles_of_months_and_weeks(tmp_path: Path, every: str) -> None:
    starts = [at("2024-01-01")]
    while len(starts) < 8:
        starts.append(bar_end(starts[-1], every))
    candles = [(begin, bar_end(begin, every), 100.0 + n) for n, begin in enumerate(starts)]
    del candles[5]
    number, unit = int(every[0]), every[1:]
    name = f"forward_return_{2 * number}{unit}"
    expected = [102 / 100 - 1, 103 / 101 - 1, 104 / 102 - 1, *[None] * 4]
    frame = frame_of(candles)
    if every == "3mo":
        # The archive has none of these, but they can be built.
        frame = frame.drop("close_time")
        found = bak.forward_returns(frame, f"{2 * number}{unit}", interval="3mo")
    else:
        found = bak.forward_returns(frame, f"{2 * number}{unit}")
    assert found[name].to_list() == pytest.approx(expected)


def test_bars_of_months(tmp_path: Path) -> None:
    start = at("2024-01-01")
    for month in range(1, 7):
        days = [start + n * DAY for n in range(182) if (start + n * DAY).month == month]
        lines = [line(time, DAY, 100 + (time - start) // DAY) for time in days]
        file_of(tmp_path, kline("AUSDT", f"2024-0{month}", "1d"), lines)
    bars = bak.ohlcv(tmp_path, "AUSDT", "1mo")
    found = bak.forward_returns(bars, ["1mo", "1q"])
    closes = bars["close"].to_list()
    expected = [closes[n + 1] / closes[n] - 1 for n in range(5)]
    assert found["forward_return_1mo"].to_list() == pytest.approx([*expected, None])
    assert found["label_known_at_1q"].to_list()[:2] == [at("2024-05-01"), at("2024-06-01")]


def test_no_return_reaches_across_the_reuse_of_a_symbol() -> None:
    days = [at("2022-05-29") + n * DAY for n in range(5)]
    candles = frame_of([(time, time + DAY, 5.0 + n) for n, time in enumerate(days)])
    known = {"horizons": "1d", "interval": "1d"}
    across = [True, False, True, True, False]
    for frame, more in (
        (candles, {"symbol": "LUNAUSDT"}),
        (candles.with_columns(symbol=pl.lit("LUNAUSDT")), {}),
        (candles.with_columns(symbol=pl.lit("LUNAUSDT"), market=pl.lit("spot")), {"market": "um"}),
    ):
        found = bak.forward_returns(frame, **known, **more)
        assert found["forward_return_1d"].is_not_null().to_list() == across
    other = bak.forward_returns(candles, "1d", "BTCUSDT", "1d")
    assert other["forward_return_1d"].null_count() == 1


def test_missing_prices_have_no_label() -> None:
    candles = frame_of(hours(1, 2, 3, 4, 5)).with_columns(
        close=pl.Series([1.0, None, float("nan"), 4.0, 5.0])
    )
    found = bak.forward_returns(candles, "1h")
    assert found["forward_return_1h"].to_list() == pytest.approx([None, None, None, 0.25, None])


def test_no_candles_have_no_labels() -> None:
    found = bak.forward_returns(frame_of([]), "1h")
    assert found.height == 0
    assert found.columns[-2:] == ["forward_return_1h", "label_known_at_1h"]
    assert found.schema["forward_return_1h"] == pl.Float64()


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"horizons": "90m"}, "horizons: '90m' is no whole number of candles, which last"),
        ({}, {"horizons": "1mo"}, "horizons: '1mo' is no whole number"),
        ({}, {"horizons": "1 hour"}, "horizons: '1 hour' is not a length.*did you mean '1h'"),
        ({}, {"horizons": 0}, "horizons: 0 is no horizon"),
        ({}, {"horizons": True}, "horizons: True is no horizon"),
        ({}, {"horizons": []}, r"horizons: \[\] is no horizon"),
        ({}, {"horizons": [1.5]}, "horizons: 1.5 is no horizon"),
        ({}, {"horizons": "1h", "log": 1}, "log: 1 is neither"),
        ({}, {"horizons": "1h", "column": "open"}, "column: open is known before"),
        ({}, {"horizons": "1h", "column": "clse"}, "column.*did you mean 'close'"),
        ({}, {"horizons": "1h", "column": "close_time"}, "column: 'close_time' has no numbers"),
        ({}, {"horizons": "1h", "interval": "1hour"}, "interval: '1hour' is not a length"),
        ({}, {"horizons": "1h", "start": "2025-07-01"}, "start: not for a frame"),
        ({}, {"horizons": "1h", "prefer": "daily"}, "prefer: not for a frame"),
        ({}, {"horizons": "1h", "symbol": ["A", "B"]}, "symbol: .* not the name of a frame's"),
        ({}, {"horizons": "1h", "market": "sport"}, "market: 'sport'.*did you mean 'spot'"),
        ({"close": pl.lit(0.0)}, {"horizons": "1h"}, "close is 0.0 at 2025-07-01 00:00"),
        ({"open_time": pl.col("open_time").first()}, {"horizons": "1h"}, "two candles open at"),
        (
            {"open_time": pl.col("open_time").dt.replace_time_zone(None)},
            {"horizons": "1h"},
            "source: open_time: .* has no time zone",
        ),
        ({"forward_return_1h": pl.lit(1)}, {"horizons": "1h"}, "has a column 'forward_return_1h'"),
    ],
)
def test_what_cannot_be_labelled_is_refused(
    change: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    frame = frame_of(hours(100, 110, 99)).with_columns(**change)
    with pytest.raises(ConfigurationError, match=message):
        bak.forward_returns(frame, **arguments)


def test_the_length_of_candles_is_not_guessed(tmp_path: Path) -> None:
    # Every other candle is missing: nothing but the interval shows that.
    times = [START + 2 * n * HOUR for n in range(5)]
    frame = pl.DataFrame({"open_time": times, "close": [1.0] * 5})
    with pytest.raises(ConfigurationError, match=r"interval: the frame does not show how long"):
        bak.forward_returns(frame, "2h")
    found = bak.forward_returns(frame, "2h", interval="1h")
    assert found["forward_return_2h"].null_count() == 5
    with pytest.raises(ConfigurationError, match="symbol: name the candles"):
        bak.forward_returns(tmp_path, "1h")
    with pytest.raises(ConfigurationError, match="interval: name the candles"):
        bak.forward_returns(tmp_path, "1h", "AUSDT")
