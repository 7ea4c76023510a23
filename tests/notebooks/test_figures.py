"""The notebooks' figures, computed a second time from the csv texts with the standard library.

Each notebook runs once in this process, against the demo archive. Its variables are compared with
values that share no code with the library: plain loops over the rows of the zips.
"""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
import warnings
import zipfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat
import polars as pl
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib import pyplot

from binance_archive_kit.demo import archive as demo
from binance_archive_kit.demo import synthetic
from binance_archive_kit.demo.market import MarketFiles
from tests.notebooks.test_style import NOTEBOOKS

MAIN = synthetic.build()
#: With the market, whose files are built when they are read.
OBJECTS = MarketFiles(MAIN)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: First and last day of the notebooks' range, both included, and its exclusive end.
FIRST, LAST, END = date(2025, 6, 15), date(2025, 7, 15), datetime(2025, 7, 16, tzinfo=UTC)
FIRST_TIME = datetime(2025, 6, 15, tzinfo=UTC)

Names = Mapping[str, Any]


def cells_of(stem: str) -> list[nbformat.NotebookNode]:
    [path] = [path for path in NOTEBOOKS if path.stem == stem]
    cells: list[nbformat.NotebookNode] = nbformat.read(path, as_version=4).cells
    return cells


def texts_of(stem: str) -> list[str]:
    return [cell.source for cell in cells_of(stem) if cell.cell_type == "markdown"]


# -- running a notebook -----------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Names]]:
    """Run a notebook and return its variables."""
    with pytest.MonkeyPatch.context() as patch:
        # Every notebook serves the same archive: build it once.
        patch.setattr(demo, "build", lambda: MAIN)
        patch.setattr(demo, "MarketFiles", lambda _: OBJECTS)
        patch.setenv("PLOOMBER_STATS_ENABLED", "false")
        InteractiveShell.clear_instance()
        shell = InteractiveShell.instance(history_manager=None)

        def execute(stem: str) -> Names:
            patch.chdir(tmp_path_factory.mktemp(stem))
            shell.reset()
            with warnings.catch_warnings(), mpl.rc_context(), pl.Config():
                warnings.simplefilter("ignore")
                for cell in cells_of(stem):
                    if cell.cell_type == "code":
                        shell.run_cell(cell.source, silent=True).raise_error()
                pyplot.close("all")
            return dict(shell.user_ns)

        yield execute
        InteractiveShell.clear_instance()


# -- reading the archive a second way ---------------------------------------------------


def rows_of(folder: str, *, days: tuple[date, date] | None = None) -> list[list[str]]:
    """Read the data rows of the zips in a folder of the archive, in the order of their names."""
    found = []
    for key in OBJECTS:
        if not key.startswith(f"data/{folder}/") or not key.endswith(".zip"):
            continue
        if days and not str(days[0]) <= key[-len("YYYY-MM-DD.zip") : -len(".zip")] <= str(days[1]):
            continue
        with zipfile.ZipFile(io.BytesIO(OBJECTS[key])) as archive:
            [name] = archive.namelist()
            lines = csv.reader(io.TextIOWrapper(archive.open(name), "utf-8"))
            found += [row for row in lines if row[0][0].isdigit()]
    return found


def instant(text: str) -> datetime:
    """Read a count of milliseconds, or of microseconds if it is that large, or a written time."""
    if not text.isdigit():
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    micros = int(text) if len(text) == 16 else int(text) * 1_000
    return EPOCH + timedelta(microseconds=micros)


def candles_of(folder: str, days: tuple[date, date] | None = (FIRST, LAST)) -> list[dict[str, Any]]:
    names = ("open", "high", "low", "close", "volume")
    return [
        {
            "time": instant(row[0]),
            **{name: float(row[at]) for at, name in enumerate(names, 1)},
            "quote_volume": float(row[7]),
        }
        for row in rows_of(folder, days=days)
    ]


def start_of(time: datetime, length: timedelta) -> datetime:
    return EPOCH + (time - EPOCH) // length * length


def minute_returns(candles: list[dict[str, Any]]) -> Iterator[tuple[datetime, float]]:
    """Give the logarithmic returns over exactly one minute, at the open of their candle."""
    for before, after in pairwise(candles):
        if after["time"] - before["time"] == MINUTE:
            yield after["time"], math.log(after["close"] / before["close"])


def payments_of(symbol: str) -> list[tuple[datetime, float]]:
    rows = rows_of(f"futures/um/monthly/fundingRate/{symbol}")
    return [(instant(row[0]), float(row[2])) for row in rows]


def same(frame: pl.DataFrame, columns: list[str], expected: list[tuple[Any, ...]]) -> None:
    """Compare all rows, numbers to nine digits and everything else exactly."""
    found = frame.select(columns).rows()
    assert len(found) == len(expected) > 0
    different = [
        (one, other)
        for one, other in zip(found, expected, strict=True)
        if not all(map(_alike, one, other))
    ]
    assert different == []


def _alike(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


# -- 01 and 02 --------------------------------------------------------------------------


def test_the_quickstart(run: Callable[[str], Names]) -> None:
    names = run("01_quickstart")
    wanted = [
        f"data/{folder}-{day}.zip"
        for day in (FIRST + n * DAY for n in range(31))
        for symbol in ("BTCUSDT", "ETHUSDT")
        for interval in ("1m", "1h")
        for market in ("spot", "futures/um")
        for folder in [f"{market}/daily/klines/{symbol}/{interval}/{symbol}-{interval}"]
    ]
    wanted += [
        f"data/futures/um/monthly/fundingRate/{symbol}/{symbol}-fundingRate-2025-{month}.zip"
        for symbol in ("BTCUSDT", "ETHUSDT")
        for month in ("06", "07")
    ]
    there = {key for key in wanted if key in OBJECTS}
    assert set(names["plan"].frame["key"]) == there
    assert names["plan"].frame["size"].sum() == sum(len(OBJECTS[key]) for key in there)
    collected = {str(path).partition("/quickstart/")[2] for path in names["result"].output_files}
    assert collected == there
    [absence] = names["result"].missing
    assert "ETHUSDT 1h daily, 2025-07-04" in str(absence)
    bars = candles_of("spot/daily/klines/BTCUSDT/1m", (LAST, LAST))
    columns = ["open", "high", "low", "close", "volume"]
    expected = [(bar["time"], *(bar[name] for name in columns)) for bar in bars]
    same(names["bars"], ["open_time", *columns], expected)


def test_a_clicked_config(run: Callable[[str], Names]) -> None:
    names = run("02_build_a_config")
    # The file has no address of the demo archive, which ends with the kernel.
    assert names["again"] == names["config"].replace(endpoint_url=None)
    assert "endpoint" not in Path("data/clicked.json").read_text(encoding="utf-8")
    found = {
        symbol: candles_of(f"spot/daily/klines/{symbol}/1h") for symbol in ("BTCUSDT", "ETHUSDT")
    }
    closes = {symbol: {row["time"]: row["close"] for row in rows} for symbol, rows in found.items()}
    times = [FIRST_TIME + at * HOUR for at in range(31 * 24)]
    expected = [(time, *(closes[symbol].get(time) for symbol in closes)) for time in times]
    same(names["closes"], ["open_time", *closes], expected)
    # During the halt no symbol has a close.
    assert [row[1:] for row in expected].count((None, None)) == 2


# -- 03 ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def queries(run: Callable[[str], Names]) -> Names:
    return run("03_query_with_duckdb")


MINUTES = {
    symbol: candles_of(f"spot/daily/klines/{symbol}/1m") for symbol in ("BTCUSDT", "ETHUSDT")
}


def test_turnover_names_the_partial_days(queries: Names) -> None:
    days: dict[Any, list[float]] = defaultdict(list)
    for symbol, candles in MINUTES.items():
        for candle in candles:
            days[symbol, start_of(candle["time"], DAY)].append(candle["quote_volume"])
    expected = [(*day, math.fsum(values) / 1e6, len(values)) for day, values in days.items()]
    same(queries["turnover"], ["symbol", "day", "turnover", "candles"], expected)
    partial = queries["turnover"].filter(pl.col("candles") < 1440)
    assert sorted(zip(partial["symbol"], partial["day"].dt.date(), strict=True)) == [
        ("BTCUSDT", date(2025, 6, 24)),
        ("ETHUSDT", date(2025, 6, 24)),
        ("ETHUSDT", date(2025, 6, 28)),
    ]


def test_long_candles_are_made_of_minutes(queries: Names) -> None:
    late = [bar for bar in MINUTES["BTCUSDT"] if bar["time"].date() >= date(2025, 7, 1)]
    expected = []
    for start, group in groupby(late, lambda bar: start_of(bar["time"], 6 * HOUR)):
        bars = list(group)
        high, low = max(bar["high"] for bar in bars), min(bar["low"] for bar in bars)
        expected.append((start, bars[0]["open"], high, low, bars[-1]["close"], len(bars)))
    same(queries["candles"], ["open_time", "open", "high", "low", "close", "minutes"], expected)
    assert set(queries["candles"]["minutes"]) == {360}


def test_volatility_has_no_return_across_a_gap(queries: Names) -> None:
    expected = []
    for symbol, candles in MINUTES.items():
        hours = defaultdict(list)
        for time, value in minute_returns(candles):
            hours[time.hour].append(value)
        expected += [
            (symbol, hour, statistics.stdev(values) * math.sqrt(60) * 1e4, len(values))
            for hour, values in sorted(hours.items())
        ]
    same(queries["hours"], ["symbol", "hour", "bp", "returns"], expected)
    # The claim of the text: no hour stands out.
    for _, hours in queries["hours"].group_by("symbol"):
        assert hours["bp"].max() < 1.1 * hours["bp"].min()


def test_each_payment_counts_once(queries: Names) -> None:
    payments = payments_of("BTCUSDT")
    candles = candles_of("futures/um/daily/klines/BTCUSDT/1h")
    bought = candles[0]["time"]
    expected = []
    for candle in candles:
        known = [(time, rate) for time, rate in payments if time <= candle["time"]]
        paid = math.fsum(rate for time, rate in known if time > bought)
        expected.append((candle["time"], candle["open"], known[-1][1], 1e4 * paid))
    same(queries["costs"], ["open_time", "open", "rate", "paid"], expected)
    # Payments on the full hour are those that a careless join counts twice.
    assert any(time == start_of(time, HOUR) for time, _ in payments if bought < time < END)


def test_taker_buying_is_bought_less_sold(queries: Names) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        total = 0.0
        expected = []
        trades = rows_of(f"spot/daily/trades/{symbol}", days=(date(2025, 7, 13), LAST))
        for trade in sorted(trades, key=lambda trade: (int(trade[4]), int(trade[0]))):
            total += float(trade[3]) * (-1 if trade[5] == "True" else 1)
            expected.append((total,))
        same(queries["pressure"].filter(symbol=symbol), ["bought"], expected)


def test_the_sql_cells_that_the_text_shows(queries: Names) -> None:
    [text] = [text for text in texts_of("03_query_with_duckdb") if "%%sql" in text]
    magics, query = re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    shell = InteractiveShell.instance()
    shell.push({"con": queries["con"]})
    with warnings.catch_warnings():
        # Of jupysql's own code, while it is compiled.
        warnings.simplefilter("ignore")
        for code in (magics, query):
            shell.run_cell(code, silent=True).raise_error()
    trades = {
        symbol: len(rows_of(f"spot/daily/trades/{symbol}", days=(FIRST, LAST)))
        for symbol in ("BTCUSDT", "ETHUSDT")
    }
    same(shell.user_ns["counts"], ["symbol", "trades"], [*trades.items()])


# -- 04 ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coverage(run: Callable[[str], Names]) -> Names:
    return run("04_coverage")


def runs_missing(folder: str, step: timedelta, label: timedelta) -> Iterator[tuple[Any, ...]]:
    """Find the runs of missing rows, from the first day that has a file to the last of the range.

    `label` is how much later than its period a row is labelled.
    """
    dated = f"data/{folder}/"
    days = [key[-14:-4] for key in OBJECTS if key.startswith(dated) and key.endswith(".zip")]
    first = min(datetime.fromisoformat(day) for day in days if day >= str(FIRST))
    there = {instant(row[0]) - label for row in rows_of(folder, days=(FIRST, LAST))}
    time = first.replace(tzinfo=UTC)
    start = None
    while time <= END:
        absent = time < END and time not in there
        if absent and start is None:
            start = time
        elif not absent and start is not None:
            yield start, time, (time - start) // step
            start = None
        time += step


def test_every_gap_is_one_of_the_csv_texts(coverage: Names) -> None:
    expected = {}
    for market, folder in (("spot", "spot"), ("futures_um", "futures/um")):
        for symbol in ("BTCUSDT", "ETHUSDT", "币安人生USDT"):
            for interval, step in (("1m", MINUTE), ("1h", HOUR)):
                if market == "futures_um" and symbol == "币安人生USDT":
                    continue
                path = f"{folder}/daily/klines/{symbol}/{interval}"
                for start, end, missing in runs_missing(path, step, timedelta(0)):
                    expected[market, "klines", symbol, interval, start] = end, missing
    for symbol in ("BTCUSDT", "ETHUSDT"):
        path = f"futures/um/daily/metrics/{symbol}"
        for start, end, missing in runs_missing(path, 5 * MINUTE, 5 * MINUTE):
            expected["futures_um", "metrics", symbol, None, start] = end, missing
    gaps = coverage["gaps"].to_dicts()
    found = {
        tuple(gap[name] for name in ("market", "data_type", "symbol", "interval", "start")): (
            gap["end"],
            gap["missing"],
        )
        for gap in gaps
    }
    assert found == expected
    kinds = {
        (2025, 6, 24): "halt",
        (2025, 6, 28): "short_file",
        (2025, 7, 4): "missing_in_archive",
        (2025, 7, 14): "empty_file",
    }
    for gap in gaps:
        assert gap["kind"] == kinds[gap["start"].timetuple()[:3]]


def test_the_months_differ_in_one_candle(coverage: Names) -> None:
    days = {row[0]: row for row in rows_of("spot/daily/klines/BTCUSDT/1h")}
    months = {row[0]: row for row in rows_of("spot/monthly/klines/BTCUSDT/1h")}
    differ = [
        instant(time)
        for time in days.keys() & months.keys()
        if list(map(float, days[time])) != list(map(float, months[time]))
    ]
    findings = coverage["findings"].filter(kind="disagreement")
    assert findings["start"].to_list() == differ
    assert findings["rows"].to_list() == [1]


def test_a_strategy_skips_what_any_stream_lacks(coverage: Names) -> None:
    lacking = [
        (start, end)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for start, end, _ in runs_missing(
            f"futures/um/daily/klines/{symbol}/1h", HOUR, timedelta(0)
        )
    ]
    assert coverage["ready"].skip.select("start", "end").rows() == lacking
    [missing] = lacking
    due = 31 * 24
    share = (due - (missing[1] - missing[0]) // HOUR) / due
    assert coverage["ready"].weakest["coverage"] == pytest.approx(share)


# -- 05 ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def derivatives(run: Callable[[str], Names]) -> Names:
    return run("05_derivatives")


def test_funding_is_summed_up_within_the_range(derivatives: Names) -> None:
    expected = []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        total = 0.0
        for time, rate in payments_of(symbol):
            if FIRST <= time.date() <= LAST:
                total += rate
                expected.append((symbol, time, rate, 1e4 * total))
    assert len(expected) == 2 * 31 * 3
    same(derivatives["funding"], ["symbol", "calc_time", "rate", "paid"], expected)


def test_each_open_sees_only_what_was_known(derivatives: Names) -> None:
    hours = rows_of("futures/um/daily/premiumIndexKlines/BTCUSDT/1h")
    metrics = rows_of("futures/um/daily/metrics/BTCUSDT", days=(FIRST, LAST))
    # A candle is known when it closes, these metrics at their label.
    feeds = [
        sorted((instant(row[6]) + timedelta(milliseconds=1), float(row[4])) for row in hours),
        payments_of("BTCUSDT"),
        sorted((instant(row[0]), float(row[2])) for row in metrics),
    ]
    expected: list[tuple[Any, ...]] = []
    for candle in candles_of("futures/um/daily/klines/BTCUSDT/1h", (date(2025, 7, 13), LAST)):
        known = [[value for time, value in feed if time <= candle["time"]] for feed in feeds]
        expected.append((candle["time"], *(values[-1] if values else None for values in known)))
    columns = ["open_time", "premium", "last_funding_rate", "sum_open_interest"]
    same(derivatives["known"], columns, expected)
    assert [row[1] is None for row in expected] == [True] + [False] * 71


def test_open_interest_is_relative_to_the_first_row(derivatives: Names) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        rows = rows_of(f"futures/um/daily/metrics/{symbol}", days=(FIRST, LAST))
        values = sorted((instant(row[0]), float(row[2])) for row in rows)
        # By the day of the row: its first one stands at the end of the file of the day before.
        values = [value for value in values if value[0].date() >= date(2025, 7, 13)]
        expected = [(time, 100 * (value / values[0][1] - 1)) for time, value in values]
        found = derivatives["interest"].filter(symbol=symbol)
        same(found, ["create_time", "change"], expected)


def test_liquidations_count_each_row_once(derivatives: Names) -> None:
    rows = rows_of("futures/cm/daily/liquidationSnapshot/BTCUSD_PERP")
    unique = list(dict.fromkeys(map(tuple, rows)))
    assert len(rows) == 2 * len(unique)
    sums: dict[Any, float] = defaultdict(float)
    for row in unique:
        sums[start_of(instant(row[0]), 3 * HOUR), row[1]] += float(row[9])
    expected = [(*key, total) for key, total in sorted(sums.items())]
    same(derivatives["forced"], ["t", "side", "contracts"], expected)


# -- 06 ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def options(run: Callable[[str], Names]) -> Names:
    return run("06_options_volatility")


def index_of(symbol: str) -> list[tuple[datetime, float]]:
    return [(instant(row[0]), float(row[4])) for row in rows_of(f"option/daily/BVOLIndex/{symbol}")]


def test_index_levels_are_those_at_the_end_of_ten_minutes(options: Names) -> None:
    expected = []
    for symbol in ("BTCBVOLUSDT", "ETHBVOLUSDT"):
        last = {
            start_of(time, 10 * MINUTE) + 10 * MINUTE: level for time, level in index_of(symbol)
        }
        expected += [(symbol, time, level) for time, level in sorted(last.items())]
    same(options["levels"], ["symbol", "t", "level"], expected)


def test_implied_is_known_before_what_is_realised(options: Names) -> None:
    index = index_of("BTCBVOLUSDT")
    times = [time for time, _ in index]
    late = [bar for bar in MINUTES["BTCUSDT"] if bar["time"].date() >= date(2025, 7, 13)]
    windows = defaultdict(list)
    for time, value in minute_returns(late):
        windows[start_of(time, 2 * HOUR)].append(value)
    expected = []
    for start, values in sorted(windows.items()):
        at = bisect_right(times, start) - 1
        fresh = at >= 0 and start - times[at] < MINUTE
        realised = statistics.stdev(values) * math.sqrt(365 * 24 * 60) * 100
        expected.append((start, realised, index[at][1] if fresh else None))
    same(options["both"], ["t", "realised", "index_value"], expected)


def test_the_last_row_of_each_option(options: Names) -> None:
    rows = [
        row
        for row in rows_of("option/daily/EOHSummary/BTCUSDT")
        if (row[0], row[1]) == ("2023-10-23", "23") and row[2].startswith("BTC-231229-")
    ]
    expected = sorted(
        (row[4], float(row[2].split("-")[2]), float(row[19]), float(row[10])) for row in rows
    )
    same(options["last"], ["type", "strike", "mark_iv", "volume_contracts"], expected)
    assert set(options["last"]["known_at"]) == {datetime(2023, 10, 24, tzinfo=UTC)}


# -- 07 ---------------------------------------------------------------------------------


def test_an_existing_archive(run: Callable[[str], Names]) -> None:
    names = run("07_existing_archive")
    found = candles_of("spot/daily/klines/BTCUSDT/1h", (date(2025, 7, 9), date(2025, 7, 14)))
    expected = []
    for day, group in groupby(found, lambda candle: candle["time"].date()):
        bars = list(group)
        low, high = min(bar["low"] for bar in bars), max(bar["high"] for bar in bars)
        expected.append((day, len(bars), low, high))
    same(names["found"], ["date", "candles", "low", "high"], expected)
    whole = candles_of("spot/daily/klines/BTCUSDT/1h", (date(2025, 7, 1), LAST))
    closes = [(bar["time"], bar["close"]) for bar in whole]
    same(names["candles"], ["open_time", "close"], closes)
    # The counts that the text states.
    actions = dict(names["plan"].frame.group_by("action").len().iter_rows())
    assert actions == {"keep": 7, "download": 8}
    assert "9 downloaded, 6 kept" in names["result"].headline()
    assert len(list((names["folder"] / "quarantine").rglob("*.json"))) == 1


# -- 09 ---------------------------------------------------------------------------------

MARKET_END = date(2025, 6, 30)
#: Open and close by day.
Prices = dict[date, tuple[float, float]]


def month_after(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def gain_of(prices: Prices, day: date) -> float:
    """Return the gain from an open to that of the next month, or to the last close before it."""
    until = month_after(day)
    if until in prices:
        return prices[until][0] / prices[day][0] - 1
    return prices[max(each for each in prices if each < until)][1] / prices[day][0] - 1


def growth_of(market: dict[str, Prices], share: int) -> Iterator[tuple[Any, ...]]:
    """Give the growth of the best of a market, one in `share` of its symbols, by month."""
    growth, day = 1.0, date(2022, 10, 1)
    while month_after(day) <= MARKET_END:
        past = {
            symbol: prices[day - DAY][1] / prices[day - 91 * DAY][1]
            for symbol, prices in market.items()
            if {day, day - DAY, day - 91 * DAY} <= prices.keys()
        }
        best = sorted(past, key=past.__getitem__, reverse=True)[: len(past) // share]
        growth *= 1 + statistics.fmean(gain_of(market[symbol], day) for symbol in best)
        yield datetime.combine(day, datetime.min.time(), UTC), growth
        day = month_after(day)


def test_survivors_do_better_by_the_same_rule(run: Callable[[str], Names]) -> None:
    names = run("09_whole_market")
    folder = "spot/monthly/klines"
    symbols = {key.split("/")[4] for key in OBJECTS if key.startswith(f"data/{folder}/")}
    market: dict[str, Prices] = {
        symbol: {
            instant(row[0]).date(): (float(row[1]), float(row[4]))
            for row in rows_of(f"{folder}/{symbol}/1d")
        }
        for symbol in symbols
        if symbol.endswith("USDT")
    }
    assert set(names["universe"]["symbol"]) == market.keys()
    survivors = {symbol: prices for symbol, prices in market.items() if MARKET_END in prices}
    assert set(names["survivors"]["symbol"]) == survivors.keys()
    for which, share in (("best quarter", 4), ("all symbols", 1)):
        ends = []
        for label, chosen in (("universe at each date", market), ("today's survivors", survivors)):
            expected = [*growth_of(chosen, share)]
            found = names["results"][which].filter(list=label)
            same(found, ["open_time", "growth"], expected)
            ends.append(expected[-1][1])
        # The claim of the text.
        assert ends[1] > 1.4 * ends[0]


# -- 10 ---------------------------------------------------------------------------------


def test_the_verdict_travels_with_the_data(run: Callable[[str], Names]) -> None:
    pytest.importorskip("pandas", reason="no pandas: pip install 'binance-archive-kit[pandas]'")
    names = run("10_into_your_backtester")
    assert "short file" in names["stopped"].replace("\n", " ")
    hours = candles_of("spot/daily/klines/BTCUSDT/1h")
    halt = datetime(2025, 6, 24, 2, tzinfo=UTC)
    assert {halt - HOUR, halt, halt + HOUR, halt + 2 * HOUR} - {row["time"] for row in hours} == {
        halt,
        halt + HOUR,
    }
    [gap] = names["coverage"]["gaps"]
    assert (gap["kind"], gap["missing"], gap["blocks"]) == ("halt", 2, False)
    assert datetime.fromisoformat(gap["start"]) == halt
    expected = [(row["time"], row["close"]) for row in hours]
    same(pl.read_ipc(names["file"]), ["date", "close"], expected)
    # Only the candle after the halt has a return over more than one hour.
    marked = names["marked"]
    assert marked["Close"].tolist() == [row["close"] for row in hours]
    [late] = marked.index[~marked["covered"]]
    assert late.to_pydatetime().replace(tzinfo=UTC) == halt + 2 * HOUR
    july = [row["close"] for row in hours if row["time"] >= datetime(2025, 7, 1, tzinfo=UTC)]
    assert names["wide"]["Close"]["BTCUSDT"].tolist() == july
