"""What research on a whole market costs, as ratios against named rivals in one run.

    python -m tests.benchmarks.market
        [first tables many minutes changes coverage planning universe again]
        [--runs 5] [--folder DIR]

Every figure is the median of interleaved runs, beside the bound that is wanted of it. What is
called the first read begins with a fresh store, so that nothing remembered helps. The files are
generated in memory, or below ``--folder``, where they stay for the next time; together they take
2 GB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from unittest.mock import patch

import duckdb
import polars as pl

import binance_archive_kit as bak
from tests.benchmarks import market_online
from tests.benchmarks.market_files import (
    COLUMNS,
    DAYS,
    MANY,
    MINUTES,
    candles,
    complete,
    symbol_files,
)
from tests.benchmarks.reading import OURS, compare, report, show

_PRIVATE = ".binance_archive_kit"
LOOP = "zipfile + pl.read_csv loop"
PARQUET = "DuckDB, one sorted Parquet"
#: Rows of a row group that DuckDB likes best.
_ROW_GROUP = 122_880

# The questions; our view and the hand-written file have the columns they name.
PANEL = "SELECT symbol, open_time, close FROM {} WHERE interval = '1d'"
SYMBOL = "SELECT open_time, close FROM {} WHERE interval = '1d' AND symbol = 'BBBUSDT'"
DAY = """
    SELECT symbol, close FROM {} WHERE interval = '1d'
    AND open_time >= TIMESTAMP '2023-05-05' AND open_time < TIMESTAMP '2023-05-06'"""
MEAN = "SELECT open_time, avg(close) AS close FROM {} WHERE interval = '1m' GROUP BY open_time"
OURS_MEAN = """
    SELECT open_time, avg(close) AS close FROM {} WHERE interval = '1d' GROUP BY open_time"""


# The contestants


def with_connect(root: Path) -> pl.DataFrame:
    """Ask a new connection that has and writes no tables."""
    with bak.connect(bak.store(root, cache=False)) as con:
        return con.sql(PANEL.format("spot_klines")).pl()


def with_scan(root: Path) -> pl.DataFrame:
    """Scan as with_connect asks."""
    rows = bak.scan(bak.store(root, cache=False), "spot", "klines", intervals="1d")
    return rows.select("symbol", "open_time", "close").collect()


def with_loop(root: Path) -> pl.DataFrame:
    """Read all zips into one frame, as people do."""
    return _rows(root, "symbol", "open_time", "close").with_columns(_moment("open_time"))


def with_tables(root: Path) -> pl.DataFrame:
    """Ask a new connection to a store with tables."""
    with bak.connect(root) as con:
        return con.sql(PANEL.format("spot_klines")).pl()


def mean_with_tables(root: Path) -> pl.DataFrame:
    """Return the mean price by minute from the tables."""
    with bak.connect(root) as con:
        return con.sql(MEAN.format("spot_klines")).pl()


#: Each is also run alone for its memory.
WAYS: dict[str, Callable[[Path], pl.DataFrame]] = {
    "ours, connect": with_connect,
    "ours, scan": with_scan,
    LOOP: with_loop,
    "ours, tables": with_tables,
    "ours, mean by minute": mean_with_tables,
}


def _rows(root: Path, *names: str) -> pl.DataFrame:
    frames = []
    for path in sorted(root.rglob("*.zip")):
        with zipfile.ZipFile(path) as file:
            csv = file.read(file.namelist()[0])
        frame = pl.read_csv(csv, has_header=False, new_columns=COLUMNS)
        symbol, interval, _ = path.name.split("-", 2)
        frame = frame.with_columns(symbol=pl.lit(symbol), interval=pl.lit(interval))
        frames.append(frame.select(names) if names else frame)
    return pl.concat(frames, how="vertical_relaxed")


def _moment(name: str) -> pl.Expr:
    """Turn a count since 1970 into a time, by its magnitude."""
    count = pl.col(name)
    return pl.from_epoch(pl.when(count < 10**14).then(count * 1000).otherwise(count), "us")


def parquet(folder: Path, root: Path) -> str:
    """Return a DuckDB source of one Parquet file of a store's rows, as one writes it by hand."""

    def write() -> None:
        rows = _rows(root).with_columns(_moment("open_time"), _moment("close_time"))
        rows = rows.drop("ignore").sort("symbol", "open_time")
        path = folder / "rows.parquet"
        rows.write_parquet(path, compression="zstd", row_group_size=_ROW_GROUP)

    complete(folder, (root / "complete.json").read_text(), write)
    return f"read_parquet('{folder}/rows.parquet')"


# Measuring

_ALONE = """
import sys
from pathlib import Path

class WithoutPandas:
    # pyarrow imports pandas wherever it is installed, and that takes 30 MB.
    def find_spec(self, name, *others):
        if name == "pandas":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, WithoutPandas())
from tests.benchmarks import market
root, name = sys.argv[1:]
market.WAYS[name](Path(root))
"""
# A process begins with the peak of the one it was forked from, so a small one stands between.
_SMALL = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""
_FIRST_QUERY = """
import sys, time
import binance_archive_kit as bak
bak.connect(sys.argv[1]).close()
began = time.perf_counter()
with bak.connect(sys.argv[1]) as con:
    [(rows,)] = con.sql(sys.argv[2]).fetchall()
print(time.perf_counter() - began, rows)
"""
_REPORT = """
import sys, time
import binance_archive_kit as bak
bak.store(sys.argv[1]).engine.feeds()
bak.coverage  # imports what it needs
began = time.perf_counter()
report = bak.coverage(sys.argv[1])
print(time.perf_counter() - began, report.coverage)
"""
_IMPORTS = "import duckdb, binance_archive_kit as bak; bak.connect; bak.store"


def in_a_process(code: str, *words: str) -> list[float]:
    """Run code in a process of its own, and return the numbers that it prints."""
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # DuckDB may show its progress before.
    return list(map(float, done.stdout.splitlines()[-1].split()))


def peak(root: Path, name: str) -> float:
    """Return the megabytes that a contestant needs at most, in the median of five processes."""
    command = _SMALL, sys.executable, "-c", _ALONE, str(root), name
    return statistics.median(in_a_process(*command)[0] for _ in range(5))


def median(way: Callable[[], object], runs: int) -> float:
    """Return the median time of a way in milliseconds."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        way()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def forget(root: Path) -> None:
    """Delete all that was derived from a store's files."""
    shutil.rmtree(root / _PRIVATE, ignore_errors=True)


def build(root: Path) -> bool:
    """Build the tables of a store; return False, with a word, if that is not possible yet."""
    store = bak.store(root)
    if hasattr(store, "build"):
        store.build()
        return True
    print("  not measured: store(...).build() does not exist yet", flush=True)
    return False


def table_files(root: Path) -> dict[Path, int]:
    """Return the bytes of each file of the tables; none of them is ever changed."""
    return {path: path.stat().st_size for path in (root / _PRIVATE).rglob("*.parquet")}


def zip_bytes(root: Path) -> int:
    """Return the bytes of a store's zips."""
    return sum(path.stat().st_size for path in root.rglob("*.zip"))


# The benchmarks


def first(folder: Path, runs: int) -> None:
    """Read 30,000 files for the first time."""
    root = candles(folder / "days", DAYS)
    ways = {
        OURS: lambda: with_connect(root),
        "ours, scan": lambda: with_scan(root),
        LOOP: lambda: with_loop(root),
    }
    medians = compare(runs, ways)
    report(f"First read of {DAYS.files:,} monthly 1d files, {runs} runs", medians)
    show("connect: the loop / ours", medians[LOOP] / medians[OURS], "", ">=", 4)
    show("scan: the loop / ours", medians[LOOP] / medians["ours, scan"], "", ">=", 3.5)
    for name in ("ours, connect", "ours, scan", LOOP):
        bound = () if name == LOOP else ("<=", 500.0)
        show(f"peak, {name}", statistics.median(peak(root, name) for _ in range(3)), "MB", *bound)


def tables(folder: Path, runs: int) -> None:
    """Build the tables of 30,000 files, and ask them."""
    root = candles(folder / "days", DAYS)
    source = parquet(folder / "days_parquet", root)
    print(f"\nTables of {DAYS.files:,} monthly 1d files, {runs} runs")
    building, looping = [], []
    for _ in range(runs):
        forget(root)
        began = time.perf_counter()
        if not build(root):
            return
        building.append(time.perf_counter() - began)
        looping.append(median(lambda: with_loop(root), 1) / 1000)
    taken, loop = statistics.median(building), statistics.median(looping)
    show("build()", taken, "s")
    show("build() / the loop", taken / loop, "", "<=", 0.4)
    share = sum(table_files(root).values()) / zip_bytes(root)
    show("bytes of the tables / of the zips", share, "", "<=", 0.9)
    with bak.connect(root) as con, duckdb.connect() as rival:
        for title, question, ratio, more in (
            ("All rows of three columns", PANEL, 2.0, 100.0),
            ("One symbol", SYMBOL, 0.0, 50.0),
            ("One day of all symbols", DAY, 0.0, 100.0),
        ):
            ways = {
                OURS: lambda q=question: con.sql(q.format("spot_klines")).pl(),
                PARQUET: lambda q=question: rival.sql(q.format(source)).pl(),
            }
            compare(1, ways)
            medians = compare(runs, ways)
            report(f"{title}, from tables, open connection, {runs} runs", medians)
            show("ours", medians[OURS], "ms", "<=", round(ratio * medians[PARQUET] + more, 1))
        looked = set(_folders_looked_at(lambda: con.sql(SYMBOL.format("spot_klines")).pl()))
        foreign = [path for path in looked if "/klines/" in path and "/BBBUSDT" not in path]
        show("other folders looked at for one symbol", len(foreign), "", "==", 0)
    peaks = statistics.median(peak(root, "ours, tables") for _ in range(3))
    show("peak, all rows of three columns", peaks, "MB", "<=", 300)


def _folders_looked_at(way: Callable[[], object]) -> Iterator[str]:
    """Run a way; yield the paths below a folder that it lists or asks about."""
    paths: list[str] = []

    @contextmanager
    def noting(name: str) -> Iterator[None]:
        own = getattr(os, name)

        def noted(path: object = ".", *more: object, **named: object) -> object:
            paths.append(str(path))
            return own(path, *more, **named)

        with patch.object(os, name, noted):
            yield

    with noting("stat"), noting("scandir"), noting("open"), noting("listdir"):
        way()
    yield from paths


def many(folder: Path, runs: int) -> None:
    """Ask the tables of 100,000 files in a new process."""
    root = candles(folder / "many", MANY)
    print(f"\nTables of {MANY.files:,} monthly 1d files, {runs} runs")
    if not build(root):
        return
    question = "SELECT count(*) FROM spot_klines WHERE interval = '1d' AND close > 0"
    code = f"{_IMPORTS}\n{_FIRST_QUERY.replace('bak.connect(sys.argv[1]).close()', '')}"
    taken = [in_a_process(code, str(root), question)[0] for _ in range(runs)]
    show("first query of a new process", statistics.median(taken), "s", "<=", 1.0)


def minutes(folder: Path, runs: int) -> None:
    """Take the mean price by minute of a month of 1m candles."""
    root = candles(folder / "minutes", MINUTES)
    source = parquet(folder / "minutes_parquet", root)
    print(f"\nA month of 1m candles of {MINUTES.symbols} symbols, {runs} runs")
    building = []
    for _ in range(min(runs, 3)):
        forget(root)
        began = time.perf_counter()
        if not build(root):
            return
        building.append(time.perf_counter() - began)
    show("build()", statistics.median(building), "s")
    with bak.connect(root) as con, duckdb.connect() as rival:
        ways = {
            OURS: lambda: con.sql(MEAN.format("spot_klines")).pl(),
            PARQUET: lambda: rival.sql(MEAN.format(source)).pl(),
        }
        compare(1, ways)
        medians = compare(runs, ways)
    report(f"Mean price by minute, {runs} runs", medians, {PARQUET: ("<=", 1.5)})
    peaks = statistics.median(peak(root, "ours, mean by minute") for _ in range(3))
    show("peak", peaks, "MB", "<=", 300)


def changes(folder: Path, runs: int) -> None:
    """Replace 300 of 30,000 files, add 500, and ask again."""
    print(f"\n{DAYS.files:,} files in tables, of which 1 % are replaced and 500 added, {runs} runs")
    if not hasattr(bak.OpenStore, "build"):
        print("  not measured: store(...).build() does not exist yet", flush=True)
        return
    before, after, again, written = [], [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            root = Path(name) / "store"
            shutil.copytree(candles(folder / "days", DAYS), root)
            forget(root)
            build(root)
            files = table_files(root)
            with bak.connect(root) as con:

                def ask(con: duckdb.DuckDBPyConnection = con) -> pl.DataFrame:
                    return con.sql(OURS_MEAN.format("spot_klines")).pl()

                ask()
                before.append(median(ask, 3))
                _change(root)
                after.append(median(ask, 1))
                found = ask().sort("open_time")
                truth = with_loop(root).group_by("open_time").agg(pl.col("close").mean())
                assert found.height == truth.height, (found, truth)
                apart = found["close"] - truth.sort("open_time")["close"]
                assert (apart.abs() <= 1e-9 * found["close"]).all(), apart
                build(root)
                new = table_files(root)
                again.append(median(ask, 3))
            share = sum(size for path, size in new.items() if path not in files)
            rows = (300 + DAYS.symbols) / DAYS.files * sum(files.values())
            written.append(share / rows)
    ratio = statistics.median(after) / statistics.median(before)
    show("query before", statistics.median(before), "ms")
    show("query after, correct at once", statistics.median(after), "ms")
    show("after / before", ratio, "", "<=", 2)
    show("bytes that build() writes / bytes that changed", statistics.median(written), "", "<=", 3)
    show("query after build()", statistics.median(again), "ms")


def _change(root: Path) -> None:
    """Give every hundredth file other prices, and each symbol one more month."""
    more = replace(DAYS, last=date(2026, 1, 1))
    for index in range(DAYS.symbols):
        for number, (key, packed) in enumerate(symbol_files(more, index, seed=1)):
            is_new = number == len(more.months) - 1
            if is_new or (index * len(DAYS.months) + number) % 100 == 0:
                path = root / str(key)
                other = path.with_suffix(".new")
                other.write_bytes(packed)
                other.replace(path)


def coverage(folder: Path, runs: int) -> None:
    """Report on 30,000 files."""
    root = candles(folder / "days", DAYS)
    reading, firsts, seconds = [], [], []
    for _ in range(runs):
        forget(root)
        reading.append(median(lambda: with_connect(root), 1) / 1000)
        for taken in (firsts, seconds):
            clock, share = in_a_process(_REPORT, str(root))
            assert share == 1, share
            taken.append(clock)
    read, reporting = statistics.median(reading), statistics.median(firsts)
    forget(root)
    print(f"\nCoverage of {DAYS.files:,} monthly 1d files, {runs} runs")
    show("first read, for comparison", read, "s")
    show("first report", reporting, "s")
    show("first report / first read", reporting / read, "", "<=", 1.5)
    show("second report, another process", statistics.median(seconds), "s", "<=", 1)


def main() -> None:
    """Run the benchmarks that are named, or all."""
    benchmarks: dict[str, Callable[[Path, int], None]] = {
        "first": first,
        "tables": tables,
        "many": many,
        "minutes": minutes,
        "changes": changes,
        "coverage": coverage,
        "planning": market_online.planning,
        "universe": market_online.universe,
        "again": market_online.again,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(benchmarks)}")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="for the files, which stay for the next time")
    asked = parser.parse_args()
    if strangers := set(asked.names) - benchmarks.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(strangers))}")
    with _folder(asked.folder) as folder:
        print(f"{os.cpu_count()} cores, files in {folder}")
        for name, benchmark in benchmarks.items():
            if name in (asked.names or benchmarks):
                benchmark(folder, asked.runs)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """Give the folder for the files; without a given one they are deleted at the end."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    memory_disk = Path("/dev/shm")
    home = memory_disk if memory_disk.is_dir() else None
    with tempfile.TemporaryDirectory(dir=home, prefix="benchmark-") as name:
        yield Path(name)


if __name__ == "__main__":
    main()
