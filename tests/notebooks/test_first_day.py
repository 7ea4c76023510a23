"""The README's table of a first day: each task runs, and its result is that of the csv texts."""

from __future__ import annotations

import ast
import json
import math
import re
import statistics
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime
from importlib.util import find_spec
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from matplotlib.figure import Figure

import binance_archive_kit as bak
from tests.notebooks.test_figures import (
    DAY,
    HOUR,
    LAST,
    candles_of,
    payments_of,
    rows_of,
    same,
    start_of,
)
from tests.notebooks.test_readme import table_of

TASKS = {task: re.findall(r"`([^`]+)`", cell) for task, cell in table_of("task")}
THREE = ["BTCUSDT", "ETHUSDT", "ADAUSDT"]
START, JULY = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)


def candles(symbol: str, interval: str, folder: str = "spot") -> list[dict[str, Any]]:
    """Read the monthly file of June, and the daily ones of July."""
    months = candles_of(f"{folder}/monthly/klines/{symbol}/{interval}", None)
    june = [row for row in months if START <= row["time"] < JULY]
    return [*june, *candles_of(f"{folder}/daily/klines/{symbol}/{interval}", (JULY.date(), LAST))]


HOURS = candles("BTCUSDT", "1h")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Collect what the other tasks use, in a folder of its own."""
    with bak.demo_archive() as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3_ENDPOINT_URL", endpoint)
        patch.chdir(tmp_path_factory.mktemp("first"))
        names: dict[str, Any] = {"bak": bak, "pl": pl}
        assert run("Collect", names).outcome == "complete"
        yield names


def run(task: str, names: dict[str, Any]) -> Any:
    """Run the lines of a task, and return the value of the last one."""
    *before, last = ast.parse("\n".join(TASKS[task])).body
    assert isinstance(last, ast.Expr)
    with warnings.catch_warnings():
        # The demo archive has a halt on these days.
        warnings.simplefilter("ignore", bak.ArchiveKitWarning)
        exec(compile(ast.Module(before, []), task, "exec"), names)
        return eval(compile(ast.Expression(last.value), task, "eval"), names)


def test_a_task_takes_at_most_three_lines_of_public_names() -> None:
    assert {len(lines) for lines in TASKS.values()} == {1, 2, 3}
    used = {name for lines in TASKS.values() for name in re.findall(r"bak\.(\w+)", str(lines))}
    assert used <= {*bak.__all__}


def test_closes_of_three_symbols_in_one_chart(names: dict[str, Any]) -> None:
    figure = run("Closes of three symbols in one chart", names)
    days = {symbol: candles(symbol, "1d") for symbol in THREE}
    times = [START + at * DAY for at in range(45)]
    assert [[row["time"] for row in rows] for rows in days.values()] == 3 * [times]
    closes = {symbol: [row["close"] for row in rows] for symbol, rows in days.items()}
    expected = [*zip(times, *closes.values(), strict=True)]
    same(names["closes"], ["open_time", *THREE], expected)
    assert isinstance(figure, Figure)
    drawn = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == 45]
    ends = sorted(100 * values[-1] / values[0] for values in closes.values())
    assert sorted(float(values[-1]) for values in drawn) == pytest.approx(ends)
    assert [float(values[0]) for values in drawn] == pytest.approx([100, 100, 100])
    assert {text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text"))} >= {
        *THREE
    }


def test_correlation_of_returns(names: dict[str, Any]) -> None:
    run("Closes of three symbols in one chart", names)
    found = run("Correlation of returns", names)
    returns = {
        symbol: [
            after["close"] / before["close"] - 1
            for before, after in pairwise(candles(symbol, "1d"))
        ]
        for symbol in THREE
    }
    expected = [
        tuple(statistics.correlation(returns[one], returns[other]) for other in THREE)
        for one in THREE
    ]
    same(found, THREE, expected)
    # The first return of a day has no day before it, and none is invented.
    assert names["returns"].select(pl.col(THREE).null_count()).row(0) == (1, 1, 1)


def test_basis(names: dict[str, Any]) -> None:
    spot = {row["time"]: row["close"] for row in HOURS}
    future = {row["time"]: row["close"] for row in candles("BTCUSDT", "1h", "futures/um")}
    expected = [
        (time, time + HOUR, close - spot[time] if time in spot else None)
        for time, close in sorted(future.items())
    ]
    same(run("Basis of a perpetual", names), ["open_time", "known_at", "basis"], expected)
    # During the halt of the spot market there is no basis.
    assert [row[2] for row in expected].count(None) == 2


def test_funding_carry(names: dict[str, Any]) -> None:
    found = run("Funding carry", names)
    expected = [
        (symbol, math.fsum(rate for time, rate in payments_of(symbol) if within(time)))
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    same(found.sort(pl.col("symbol").cast(pl.String)), ["symbol", "paid_by_longs"], expected)


def within(time: datetime) -> bool:
    return date(2025, 7, 1) <= time.date() <= LAST


def test_universe_by_turnover(names: dict[str, Any]) -> None:
    found = run("Universe by turnover", names)
    symbols = {*names["june"].columns} - {"open_time"}
    turnover = {
        symbol: statistics.median(
            float(row[7]) for row in rows_of(f"spot/monthly/klines/{symbol}/1d") if in_june(row)
        )
        for symbol in symbols
    }
    assert len(turnover) == 28
    expected = sorted(turnover.items(), key=lambda each: -each[1])[:20]
    same(found.sort("turnover", descending=True), ["symbol", "turnover"], expected)
    assert names["june"]["open_time"].max() == datetime(2025, 6, 30, tzinfo=UTC)


def in_june(row: list[str]) -> bool:
    scale = 1_000_000 if len(row[0]) == 16 else 1_000
    return START.timestamp() <= int(row[0]) / scale < JULY.timestamp()


def test_resample(names: dict[str, Any]) -> None:
    expected = []
    for start, group in groupby(HOURS, lambda row: start_of(row["time"], 4 * HOUR)):
        bars = list(group)
        high, low = max(row["high"] for row in bars), min(row["low"] for row in bars)
        volume = math.fsum(row["volume"] for row in bars)
        row = (start, bars[0]["open"], high, low, bars[-1]["close"], volume, len(bars), 4)
        expected.append(row)
    columns = ["open_time", "open", "high", "low", "close", "volume"]
    same(run("Resample", names), [*columns, "candles", "expected_candles"], expected)
    # The bar with the halt says so.
    assert [row[6] for row in expected].count(4) == len(expected) - 1


def test_files(names: dict[str, Any]) -> None:
    run("Parquet, Feather, CSV", names)
    lake = pl.scan_parquet("lake/market=spot/data_type=klines/interval=1h/**/*.parquet")
    spot = lake.filter(pl.col("symbol") == "BTCUSDT").sort("open_time").collect()
    feather = pl.read_ipc("BTCUSDT-1h.feather")
    text = pl.read_csv("BTCUSDT-1h.csv", try_parse_dates=True)
    columns = ["open", "high", "low", "close", "volume"]
    expected = [(row["time"], *(row[name] for name in columns)) for row in HOURS]
    for frame in (spot, feather, text):
        assert frame.schema["open_time"].time_zone == "UTC"
        same(frame, ["open_time", *columns], expected)
    assert "2025-06-01T00:00:00.000000+0000," in Path("BTCUSDT-1h.csv").read_text(encoding="utf-8")


def test_freqtrade(names: dict[str, Any]) -> None:
    run("freqtrade", names)
    file = Path("user_data/data/binance/BTC_USDT-1h.feather")
    frame = pl.read_ipc(file)
    assert frame.schema["date"] == pl.Datetime("ms", "UTC")
    expected = [(row["time"], row["open"], row["close"], row["volume"]) for row in HOURS]
    same(frame, ["date", "open", "close", "volume"], expected)
    [gap] = json.loads(Path(f"{file}.coverage.json").read_text(encoding="utf-8"))["gaps"]
    assert (gap["kind"], gap["missing"], gap["blocks"]) == ("halt", 2, False)
    assert gap["start"].startswith("2025-06-24T02:00:00")


def test_nautilus(names: dict[str, Any]) -> None:
    task = "NautilusTrader (extra `nautilus`)"
    if find_spec("nautilus_trader") is None:
        with pytest.raises(bak.MissingExtraError, match=r"binance-archive-kit\[nautilus\]"):
            run(task, names)
        return
    run(task, names)
    assert [*Path("catalog").rglob("*.parquet")]


@pytest.mark.parametrize(
    ("task", "index", "zone", "close"),
    [
        ("backtesting.py (extra `pandas`)", "open_time", None, "Close"),
        ("vectorbt (extra `pandas`)", "open_time", "UTC", ("Close", "BTCUSDT")),
        ("backtrader (extra `pandas`)", "open_time", None, "close"),
        ("zipline (extra `pandas`)", "date", None, "close"),
    ],
)
def test_pandas(names: dict[str, Any], task: str, index: str, zone: str | None, close: Any) -> None:
    pytest.importorskip("pandas", reason="no pandas: pip install 'binance-archive-kit[pandas]'")
    frame = run(task, names)
    assert frame.index.name == index
    assert (frame.index.tz and str(frame.index.tz)) == zone
    rows = candles("BTCUSDT", "1d") if "zipline" in task else HOURS
    times = [time.to_pydatetime().replace(tzinfo=UTC) for time in frame.index]
    # No row is invented for the halt.
    assert times == [row["time"] for row in rows]
    assert frame[close].tolist() == [row["close"] for row in rows]
