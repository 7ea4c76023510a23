"""How fast zips are read and queried, as ratios against named rivals in one run.

    python -m tests.benchmarks.reading [count ohlc bars filter limit warm connect throughput]
        [--runs 5] [--folder DIR]

Every figure is the median of interleaved runs, beside the bound that is wanted of it.
All contestants answer the same question, and a run stops when two answers differ.
What is called the first read begins with a fresh store and connection each time, so
that nothing remembered helps. pandas is no dependency: without it that rival is left out.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import io
import math
import operator
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
from polars import selectors

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, ObjectKey, Stream
from binance_archive_kit.archive.schemas import schema
from binance_archive_kit.storage.zips import find_member

SYMBOLS = {"BTCUSDT": 6e4, "ETHUSDT": 3e3, "BNBUSDT": 600.0, "SOLUSDT": 150.0, "XRPUSDT": 50.0}
YEAR, DAYS = date(2025, 1, 1), 365
TRADES_START, TRADES_DAYS, TRADES = date(2025, 7, 1), 10, 2_000_000
HOURS_START, HOURS_DAYS = date(2020, 1, 1), 2000
MICROSECONDS_SINCE = date(2025, 1, 1)
MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
MB = 1e6
#: How hard the archive packs its files.
LEVEL = 6

OURS = "ours"
POLARS = "zipfile + pl.read_csv loop"
PANDAS = "pandas.read_csv loop"
DUCKDB = "DuckDB, unzipped csv"
PARQUET = "DuckDB, hand-written Parquet"

# The questions; each view and each rival's source has the columns they name.
COUNT = "SELECT count(*) AS n FROM {}"
EVERY_VALUE = "SELECT count(*) AS n, max(COLUMNS(*)) FROM {}"
OHLC = """
    SELECT symbol, date, arg_min(open, open_time) AS open, max(high) AS high, min(low) AS low,
        arg_max(close, open_time) AS close, sum(volume) AS volume
    FROM {} GROUP BY symbol, date"""
BARS = """
    SELECT time_bucket(INTERVAL 1 minute, time) AS minute, arg_min(price, time) AS open,
        max(price) AS high, min(price) AS low, arg_max(price, time) AS close, sum(qty) AS volume
    FROM {} GROUP BY minute"""
WEEK = """
    SELECT count(*) AS n, max(high) AS high, min(low) AS low, sum(volume) AS volume
    FROM {} WHERE symbol = 'BTCUSDT' AND date BETWEEN DATE '2025-03-03' AND DATE '2025-03-09'"""
WEEK_BY_TIME = WEEK.replace("date BETWEEN", "open_time BETWEEN").replace(
    "DATE '2025-03-09'", "TIMESTAMP '2025-03-09 23:59:59.999999'"
)
LIMIT = "SELECT * FROM {} LIMIT 5"
ONE_FILE = """
    SELECT count(*) AS n, min(open_time) AS first, max(close_time) AS last, max(high) AS high
    FROM {} WHERE symbol = 'C03USDT' AND date = DATE '%s'"""

Way = Callable[[], pl.DataFrame]


# The data


@dataclass(frozen=True)
class Feed:
    """Spot files of one data type, in the forms the contestants read.

    Attributes
    ----------
    folder : Path
        Holds ``zips`` under their keys, ``csv`` with the members, and ``parquet``.
    data_type : DataType
    """

    folder: Path
    data_type: DataType

    @property
    def zips(self) -> Path:
        """Where a store would have its files."""
        return self.folder / "zips"

    @property
    def view(self) -> str:
        """Our view of these files."""
        return f"spot_{self.data_type}"

    @property
    def columns(self) -> dict[str, str]:
        """Names and SQL types of the columns of a csv file."""
        types = {"float64": "DOUBLE", "bool": "BOOLEAN", "text": "VARCHAR"}
        columns = schema(Market.SPOT, self.data_type).columns
        return {column.column: types.get(column.dtype, "BIGINT") for column in columns}

    def csv(self, files: str = "**/*.csv") -> str:
        """Source for DuckDB over unzipped files; the date in a name spares it reading others."""
        times = ("time",) if self.data_type is DataType.TRADES else ("open_time", "close_time")
        return f"""(
            SELECT * EXCLUDE filename REPLACE (
                    {", ".join(f"make_timestamp({name}) AS {name}" for name in times)}),
                split_part(parse_filename(filename), '-', 1) AS symbol,
                filename[-14:-5]::DATE AS date
            FROM read_csv('{self.folder}/csv/{files}', columns = {self.columns},
                auto_detect = false, header = false, delim = ',', filename = true))"""

    @property
    def parquet(self) -> str:
        """Source for DuckDB over monthly Parquet."""
        return f"read_parquet('{self.folder}/parquet/*.parquet')"


def write_day(feed: Feed, key: ObjectKey, rows: pl.DataFrame) -> None:
    """Write the zip of a day, and its csv beside for those who cannot read zips."""
    csv = io.BytesIO()
    rows.write_csv(csv, include_header=False, float_precision=8)
    packed, plain = feed.zips / str(key), feed.folder / "csv" / str(key)
    for path in (packed, plain):
        path.parent.mkdir(parents=True, exist_ok=True)
    plain.with_suffix(".csv").write_bytes(csv.getbuffer())
    info = zipfile.ZipInfo(key.member, (2025, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(info, csv.getbuffer(), zipfile.ZIP_DEFLATED, LEVEL)


def write_days(feed: Feed, days: dict[ObjectKey, Way]) -> None:
    """Write days on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda day: write_day(feed, day[0], day[1]()), days.items()))


def year_of_minutes(symbol: str) -> pl.DataFrame:
    """Draw a year of 1m candles."""
    dice = np.random.default_rng(list(SYMBOLS).index(symbol))
    size = DAYS * 1440
    path = SYMBOLS[symbol] * np.exp(np.cumsum(dice.normal(0, 5e-4, size + 1)))
    opened, closed = path[:-1].round(2), path[1:].round(2)
    spread = path[1:] * 5e-4
    time_us = microseconds(YEAR) + np.arange(size) * MINUTE_US
    volume = dice.exponential(10, size).round(5)
    return pl.DataFrame(
        {
            "open_time": time_us,
            "open": opened,
            "high": (np.maximum(opened, closed) + spread * dice.random(size)).round(2),
            "low": (np.minimum(opened, closed) - spread * dice.random(size)).round(2),
            "close": closed,
            "volume": volume,
            "close_time": time_us + MINUTE_US - 1,
            "quote_volume": volume * closed,
            "count": dice.integers(1, 3000, size),
            "taker_buy_volume": volume / 2,
            "taker_buy_quote_volume": volume * closed / 2,
            "ignore": np.zeros(size, dtype=np.int64),
        }
    )


def day_of_trades(at: int) -> pl.DataFrame:
    """Draw a day of trades, no two in the same microsecond."""
    dice = np.random.default_rng(100 + at)
    # Increasing draws, each moved on by its rank, are strictly increasing.
    offsets = np.sort(dice.integers(0, DAY_US - TRADES, TRADES)) + np.arange(TRADES)
    price = (6e4 * np.exp(np.cumsum(dice.normal(0, 1e-6, TRADES)))).round(2)
    quantity = dice.exponential(0.01, TRADES).round(5) + 0.00001
    maker = pl.when("is_buyer_maker").then(pl.lit("True")).otherwise(pl.lit("False"))
    return pl.DataFrame(
        {
            "id": 5_000_000_000 + at * TRADES + np.arange(TRADES),
            "price": price,
            "qty": quantity,
            "quote_qty": price * quantity,
            "time": microseconds(TRADES_START + timedelta(days=at)) + offsets,
            "is_buyer_maker": dice.random(TRADES) < 0.5,
        }
    ).with_columns(is_buyer_maker=maker, is_best_match=pl.lit("True"))


def microseconds(day: date) -> int:
    """Microseconds from 1970 to the beginning of a UTC day."""
    return (day - date(1970, 1, 1)).days * DAY_US


@functools.cache
def klines(folder: Path) -> Feed:
    """Write five symbols x 365 daily files of 1m candles: 1,825 zips."""
    feed = Feed(folder / "klines", DataType.KLINES)
    for symbol in SYMBOLS:
        into = Folder(Stream(Market.SPOT, DataType.KLINES, symbol, Interval.M1), Partition.DAILY)
        year = year_of_minutes(symbol)
        days = {
            ObjectKey(into, YEAR + timedelta(days=at)): lambda y=year, a=at: y[a * 1440 :][:1440]
            for at in range(DAYS)
        }
        write_days(feed, days)
    return feed


@functools.cache
def trades(folder: Path) -> Feed:
    """Write ten daily files of 2,000,000 trades."""
    feed = Feed(folder / "trades", DataType.TRADES)
    into = Folder(Stream(Market.SPOT, DataType.TRADES, "BTCUSDT"), Partition.DAILY)
    days = {
        ObjectKey(into, TRADES_START + timedelta(days=at)): lambda at=at: day_of_trades(at)
        for at in range(TRADES_DAYS)
    }
    write_days(feed, days)
    return feed


def write_parquet(feed: Feed) -> None:
    """Write one Parquet file for each symbol and month, as one would by hand."""
    target = feed.folder / "parquet"
    if target.exists():
        return
    target.mkdir()
    months = {path.stem[: -len("-01")] for path in (feed.folder / "csv").rglob("*.csv")}
    with duckdb.connect() as con:
        for month in sorted(months):
            source = feed.csv(f"**/{month}-*.csv")
            to = target / f"{month}.parquet"
            con.execute(f"COPY (FROM {source}) TO '{to}' (FORMAT parquet, COMPRESSION zstd)")


def hour_klines(root: Path, symbols: int) -> None:
    """Write 2,000 small daily files of 1h candles for each symbol.

    Each symbol's zip is made once; its other days differ in name, times and checksum.
    """
    dice = np.random.default_rng(7)
    days = [HOURS_START + timedelta(days=at) for at in range(HOURS_DAYS)]
    for at in range(symbols):
        symbol = f"C{at:02d}USDT"
        stream = Folder(Stream(Market.SPOT, DataType.KLINES, symbol, Interval.H1), Partition.DAILY)
        rows = "".join(
            "%d,{:.8f},{:.8f},{:.8f},{:.8f},{:.8f},%d,{:.8f},{},1.00000000,1.00000000,0\n".format(
                *_candle(dice), *dice.uniform(2, 9e4, 2), dice.integers(99999)
            )
            for _ in range(24)
        )
        (root / stream.prefix).mkdir(parents=True)
        for unit in (1, 1000):
            chosen = [day for day in days if (day < MICROSECONDS_SINCE) == (unit == 1000)]
            _same_zips(root, stream, rows, chosen, unit)


def _candle(dice: np.random.Generator) -> list[float]:
    """Return open, high, low and close of a candle that can be."""
    low, one, other, high = sorted(dice.uniform(1, 9e4, 4).tolist())
    return [one, high, low, other]


def _same_zips(root: Path, stream: Folder, rows: str, days: list[date], unit: int) -> None:
    """Write stored zips of equal length; `unit` is how many microseconds a count stands for."""
    model, hour = ObjectKey(stream, days[0]), 3_600_000_000 // unit
    since = np.arange(24) * hour
    offsets = np.stack([since, since + hour - 1], axis=1).ravel()

    def csv_of(day: date) -> bytes:
        return (rows % tuple((offsets + microseconds(day) // unit).tolist())).encode()

    packed, csv = io.BytesIO(), csv_of(days[0])
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(zipfile.ZipInfo(model.member, (2025, 1, 1, 0, 0, 0)), csv)
    before, _, after = packed.getvalue().partition(csv)
    for day in days:
        key, csv = ObjectKey(stream, day), csv_of(day)
        head, tail = (
            part.replace(model.member.encode(), key.member.encode()) for part in (before, after)
        )
        # A checksum stands at byte 14 of the local header and at byte 16 of the directory.
        crc = struct.pack("<L", zlib.crc32(csv))
        whole = head[:14] + crc + head[18:] + csv + tail[:16] + crc + tail[20:]
        (root / str(key)).write_bytes(whole)


# The contestants


def by_ours(feed: Feed, question: str) -> pl.DataFrame:
    """Ask a store that remembers nothing."""
    with bak.connect(bak.store(feed.zips, cache=False)) as con:
        return con.sql(question.format(feed.view)).pl()


def by_duckdb(feed: Feed, question: str) -> pl.DataFrame:
    """Ask DuckDB over the unzipped files, with all columns given."""
    with duckdb.connect() as con:
        return con.sql(question.format(feed.csv())).pl()


def polars_loop(feed: Feed, *, symbols: bool = False) -> pl.DataFrame:
    """Read all zips into one frame, as people do with Polars."""
    frames = []
    for path in sorted(feed.zips.rglob("*.zip")):
        with zipfile.ZipFile(path) as file:
            csv = file.read(file.namelist()[0])
        frame = pl.read_csv(csv, has_header=False, new_columns=list(feed.columns))
        if symbols:
            frame = frame.with_columns(symbol=pl.lit(path.name.partition("-")[0]))
        frames.append(frame)
    return pl.concat(frames)


def pandas_loop(feed: Feed, *, symbols: bool = False) -> Any:
    """Read all zips into one frame, as people do with pandas."""
    import pandas as pd

    frames = []
    for path in sorted(feed.zips.rglob("*.zip")):
        frame = pd.read_csv(path, header=None, names=list(feed.columns))
        if symbols:
            frame["symbol"] = path.name.partition("-")[0]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def counted(count: int) -> pl.DataFrame:
    """Give a count the form the others' answers have."""
    return pl.DataFrame({"n": [count]})


def ohlc_by_polars(feed: Feed) -> pl.DataFrame:
    """Aggregate days; rows come in the order of time, which spares sorting."""
    day = pl.from_epoch("open_time", "us").dt.date().alias("date")
    return (
        polars_loop(feed, symbols=True)
        .group_by("symbol", day)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
    )


def ohlc_by_pandas(feed: Feed) -> pl.DataFrame:
    """Aggregate days; rows come in the order of time, which spares sorting."""
    frame = pandas_loop(feed, symbols=True)
    days = frame.groupby(["symbol", frame["open_time"] // DAY_US])
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return pl.from_pandas(days.agg(how))


def bars_by_polars(feed: Feed) -> pl.DataFrame:
    """Aggregate minutes; rows come in the order of time, which spares sorting."""
    price = pl.col("price")
    return (
        polars_loop(feed)
        .group_by(minute=pl.from_epoch("time", "us").dt.truncate("1m"))
        .agg(
            open=price.first(),
            high=price.max(),
            low=price.min(),
            close=price.last(),
            volume=pl.col("qty").sum(),
        )
    )


def bar_ways(feed: Feed) -> dict[str, Way]:
    """Give all ways from trades to minute bars; each is also run alone for its memory."""
    return {
        OURS: lambda: by_ours(feed, BARS),
        POLARS: lambda: bars_by_polars(feed),
        DUCKDB: lambda: by_duckdb(feed, BARS),
    }


def with_pandas(ways: dict[str, Way]) -> dict[str, Way]:
    """Leave the pandas loop out where there is no pandas, and say so."""
    if importlib.util.find_spec("pandas"):
        return ways
    print(f"\n{PANDAS} is left out: pandas is not installed")
    return {name: way for name, way in ways.items() if name != PANDAS}


# Measuring


def compare(runs: int, ways: dict[str, Way]) -> dict[str, float]:
    """Run all ways in turn, several times; give each one's median in milliseconds.

    Raises
    ------
    AssertionError
        If the answers differ.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, way in ways.items():
            started = time.perf_counter()
            frame = way()
            taken[name].append((time.perf_counter() - started) * 1000)
            sums = frame.select(selectors.numeric().sum()).row(0)
            answers[name] = [frame.height, *map(float, sums)]
    for name, answer in answers.items():
        same = zip(answer, answers[OURS], strict=True)
        assert all(math.isclose(*pair, rel_tol=1e-9) for pair in same), (name, answers)
    return {name: statistics.median(each) for name, each in taken.items()}


def verdict(value: float, sign: str, limit: float, unit: str = "") -> str:
    """Say what is wanted of a value, and whether it holds."""
    holds = {"<": operator.lt, "<=": operator.le, ">=": operator.ge, "==": operator.eq}[sign]
    word = "holds" if holds(value, limit) else "DOES NOT HOLD"
    return f"wanted {sign} {limit:g}{unit}: {word}"


def report(
    title: str, medians: dict[str, float], wanted: dict[str, tuple[str, float]] | None = None
) -> None:
    """Print medians and their ratios to ours.

    Parameters
    ----------
    title : str
    medians : dict of str to float
        Milliseconds of each contestant.
    wanted : dict of str to (str, float), optional
        Bounds by contestant: a lower one is of "it / ours", an upper one of "ours / it".
    """
    print(f"\n{title}")
    own = medians[OURS]
    for name, taken in medians.items():
        line = f"  {name:<36} {taken:10,.1f} ms"
        if name != OURS:
            sign, limit = (wanted or {}).get(name, ("", 0.0))
            upper = sign.startswith("<")
            ratio = own / taken if upper else taken / own
            line += f"   {'ours / it' if upper else 'it / ours'} = {ratio:6.2f}"
            line += f"   {verdict(ratio, sign, limit)}" if sign else ""
        print(line, flush=True)


def show(what: str, value: float, unit: str, sign: str = "", limit: float = 0.0) -> None:
    """Print one figure that is no ratio, and whether it holds."""
    said = verdict(value, sign, limit, f" {unit}".rstrip()) if sign else ""
    figure = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
    print(f"  {what:<44} {figure:>10} {unit:<4} {said}".rstrip(), flush=True)


_PEAK = """
import sys
from pathlib import Path
from binance_archive_kit.archive.enums import DataType
from tests.benchmarks import reading
folder, name = sys.argv[1:]
reading.bar_ways(reading.Feed(Path(folder), DataType.TRADES))[name]()
"""

# A process begins with the peak of the one it was forked from, so a small one stands between.
_SMALL = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def peak(feed: Feed, name: str) -> float:
    """Megabytes a fresh process needs at most for the minute bars."""
    command = [sys.executable, "-c", _PEAK, str(feed.folder), name]
    said = subprocess.run(
        [sys.executable, "-c", _SMALL, *command], check=True, capture_output=True, text=True
    )
    return float(said.stdout)


def processor_ms(way: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds a way takes, on the clock and of all processors together."""
    clock, processors = time.perf_counter(), time.process_time()
    way()
    return (time.perf_counter() - clock) * 1000, (time.process_time() - processors) * 1000


# The benchmarks


def count(folder: Path, runs: int) -> None:
    """Count the rows of 1,825 files, at the first read."""
    feed = klines(folder)
    ways: dict[str, Way] = {
        OURS: lambda: by_ours(feed, COUNT),
        POLARS: lambda: counted(polars_loop(feed).height),
        PANDAS: lambda: counted(len(pandas_loop(feed))),
        DUCKDB: lambda: by_duckdb(feed, COUNT),
    }
    medians = compare(runs, with_pandas(ways))
    wanted = {POLARS: (">=", 8.0), PANDAS: (">=", 8.0)}
    report(f"Count of 1,825 files, first read, {runs} runs", medians, wanted)


def ohlc(folder: Path, runs: int) -> None:
    """Aggregate 1,825 files by symbol and day, at the first read."""
    feed = klines(folder)
    ways: dict[str, Way] = {
        OURS: lambda: by_ours(feed, OHLC),
        POLARS: lambda: ohlc_by_polars(feed),
        PANDAS: lambda: ohlc_by_pandas(feed),
        DUCKDB: lambda: by_duckdb(feed, OHLC),
    }
    medians = compare(runs, with_pandas(ways))
    wanted = {POLARS: (">=", 4.0), PANDAS: (">=", 4.0), DUCKDB: ("<", 1.0)}
    report(f"OHLC by symbol and day of 1,825 files, first read, {runs} runs", medians, wanted)


def bars(folder: Path, runs: int) -> None:
    """Turn 20,000,000 trades into minute bars, at the first read; and the memory of it."""
    feed = trades(folder)
    medians = compare(runs, bar_ways(feed))
    wanted = {POLARS: (">=", 2.5), DUCKDB: ("<=", 1.25)}
    report(f"Minute bars of ten days of trades, first read, {runs} runs", medians, wanted)
    times = min(runs, 3)
    print(f"  Peak memory of a fresh process, the worst of {times}:")
    for name in bar_ways(feed):
        bound = ("<", 800.0) if name == OURS else ()
        show(f"  {name}", max(peak(feed, name) for _ in range(times)), "MB", *bound)


def week(folder: Path, runs: int) -> None:
    """Ask for seven days of one symbol among 1,825 files."""
    feed = klines(folder)
    by_time, by_name = f"{DUCKDB}, by open_time", f"{DUCKDB}, by file name"
    store = bak.store(feed.zips, cache=False)
    with bak.connect(store) as con, duckdb.connect() as rival:
        medians = compare(
            runs,
            {
                OURS: lambda: con.sql(WEEK.format(feed.view)).pl(),
                by_time: lambda: rival.sql(WEEK_BY_TIME.format(feed.csv())).pl(),
                by_name: lambda: rival.sql(WEEK.format(feed.csv())).pl(),
            },
        )
        scan = store.last_scan
    title = f"Seven days of one symbol among 1,825 files, open connection, {runs} runs"
    report(title, medians, {by_time: ("<=", 0.1)})
    show("files opened", scan.opened, "", "==", 7)
    show("files considered", scan.considered, "")
    show("inflated", scan.inflated / MB, "MB")
    fresh = compare(runs, {OURS: lambda: by_ours(feed, WEEK)})
    show("with store and connection made anew", fresh[OURS], "ms")


def limit(folder: Path, runs: int) -> None:
    """Look at the first rows of ten days of trades."""
    feed = trades(folder)
    print(f"\nFive rows of ten days of trades, fresh connection, {runs} runs")
    # The first row of a sorted feed is known once all times of the file were seen.
    medians = compare(runs, {OURS: lambda: by_ours(feed, LIMIT)})
    show("first read: reads all of the first day", medians[OURS], "ms")
    with bak.connect(feed.zips) as con:
        con.sql(f"SELECT max(time) FROM {feed.view}").fetchall()

    def again() -> pl.DataFrame:
        with bak.connect(feed.zips) as con:
            return con.sql(LIMIT.format(feed.view)).pl()

    show("files read before", compare(runs, {OURS: again})[OURS], "ms", "<", 300)
    shutil.rmtree(feed.zips / ".binance_archive_kit")


def warm(folder: Path, runs: int) -> None:
    """Ask again what the cache remembers."""
    for feed, questions in (
        (klines(folder), {"Count of 1,825 files": COUNT, "OHLC of 1,825 files": OHLC}),
        (trades(folder), {"Minute bars of ten days of trades": BARS}),
    ):
        write_parquet(feed)
        store = bak.store(feed.zips, cache=True)
        started = time.perf_counter()
        store.warm()
        made = time.perf_counter() - started
        with bak.connect(store) as con, duckdb.connect() as rival:
            for title, question in questions.items():
                ways: dict[str, Way] = {
                    OURS: lambda q=question, c=con, f=feed: c.sql(q.format(f.view)).pl(),
                    PARQUET: lambda q=question, c=rival, f=feed: c.sql(q.format(f.parquet)).pl(),
                }
                compare(1, ways)
                title = f"{title}, from the cache, open connection, {runs} runs"
                report(title, compare(runs, ways), {PARQUET: ("<=", 1.3)})
        show("store.warm(), once", made * 1000, "ms")


def connect(folder: Path, runs: int) -> None:
    """Connect to many small files, and ask for one of them."""
    for symbols, seconds in ((10, 2), (50, 10)):
        root = folder / "hours"
        hour_klines(root, symbols)
        connecting, asking = [], []
        for _ in range(runs):
            started = time.perf_counter()
            con = bak.connect(bak.store(root, cache=False))
            connecting.append(time.perf_counter() - started)
            for day in (date(2024, 12, 31), date(2025, 1, 15)):
                question = (ONE_FILE % day).format("spot_klines")
                started = time.perf_counter()
                [(rows, first, last, _)] = con.sql(question).fetchall()
                taken = time.perf_counter() - started
                midnight = datetime(day.year, day.month, day.day)
                assert (rows, first) == (24, midnight), (rows, first)
                assert last.replace(microsecond=0) == midnight + timedelta(days=1, seconds=-1)
            asking.append(taken * 1000)
            con.close()
        print(f"\n{symbols * HOURS_DAYS:,} small files, {runs} runs")
        show("bak.connect(bak.store(...))", statistics.median(connecting), "s", "<", seconds)
        show("one file, second query of a connection", statistics.median(asking), "ms", "<", 50)
        shutil.rmtree(root)


def throughput(folder: Path, runs: int) -> None:
    """Show what inflating and parsing cost by themselves, beside ours from zip to answer."""
    five = ["open_time", "open", "high", "low", "close"]
    _throughput(klines(folder), "BTCUSDT-*.zip", five, YEAR + timedelta(days=DAYS), runs)
    five = ["id", "price", "qty", "time", "is_buyer_maker"]
    _throughput(trades(folder), f"*-{TRADES_START}.zip", five, TRADES_START, runs)


def _throughput(feed: Feed, files: str, five: list[str], until: date, runs: int) -> None:
    from isal import isal_zlib

    packed = []
    for path in sorted(feed.zips.rglob(files)):
        with path.open("rb") as file:
            member = find_member(file, path.stat().st_size)
            file.seek(member.start)
            packed.append((file.read(member.compressed), member.size))
    csv = b"".join(zlib.decompress(data, -15, size) for data, size in packed)
    names = list(feed.columns)
    kept = [column.column for column in schema(Market.SPOT, feed.data_type).kept]

    def parse(columns: list[str]) -> pl.DataFrame:
        positions = [names.index(name) for name in columns]
        return pl.read_csv(csv, has_header=False, columns=positions, new_columns=names)

    with bak.connect(bak.store(feed.zips, cache=False)) as con:

        def ask(columns: list[str]) -> object:
            chosen = ", ".join(f'max("{name}")' for name in columns)
            where = f"symbol = 'BTCUSDT' AND date <= DATE '{until}'"
            return con.sql(f"SELECT {chosen} FROM {feed.view} WHERE {where}").fetchall()

        ways: dict[str, Callable[[], object]] = {
            "isal inflate": lambda: [isal_zlib.decompress(d, -15, size) for d, size in packed],
            "zlib inflate": lambda: [zlib.decompress(d, -15, size) for d, size in packed],
            f"pl.read_csv, {len(names)} columns": lambda: parse(names),
            "pl.read_csv, five columns": lambda: parse(five),
            f"ours, zip to answer, {len(kept)} columns": lambda: ask(kept),
            "ours, zip to answer, five columns": lambda: ask(five),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(runs):
            for name, way in ways.items():
                taken[name].append(processor_ms(way))
    size = len(csv) / MB
    print(f"\n{size:,.0f} MB of csv in {len(packed)} zips of {feed.data_type}, {runs} runs")
    for name, each in taken.items():
        clock, processors = (statistics.median(column) / 1000 for column in zip(*each, strict=True))
        rates = f"{size / clock:8,.0f} MB/s {size / processors:8,.0f} MB/s a core"
        print(f"  {name:<36} {rates}", flush=True)


def main() -> None:
    """Run the benchmarks that are named, or all."""
    benchmarks: dict[str, Callable[[Path, int], None]] = {
        "count": count,
        "ohlc": ohlc,
        "bars": bars,
        "filter": week,
        "limit": limit,
        "connect": connect,
        "throughput": throughput,
        # Last, so that no cache lies about while the others read for the first time.
        "warm": warm,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(benchmarks)}")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="for all files; in memory if there is /dev/shm")
    asked = parser.parse_args()
    if strangers := set(asked.names) - benchmarks.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(strangers))}")
    memory_disk = Path("/dev/shm")
    home = asked.folder or (memory_disk if memory_disk.is_dir() else None)
    with tempfile.TemporaryDirectory(dir=home, prefix="benchmark-") as name:
        print(f"{os.cpu_count()} cores, files in {home or tempfile.gettempdir()}")
        for each, benchmark in benchmarks.items():
            if each in (asked.names or benchmarks):
                benchmark(Path(name), asked.runs)


if __name__ == "__main__":
    main()
