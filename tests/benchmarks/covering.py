"""What a coverage report costs, beside queries of the same files.

    python -m tests.benchmarks.covering [--runs 5] [--folder DIR]

Medians of interleaved runs. A first report begins with a store that remembers nothing, as
do the queries; a second one in a new process with what the first one has remembered.
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
from pathlib import Path

import binance_archive_kit as bak
from tests.benchmarks.reading import (
    COUNT,
    EVERY_VALUE,
    HOURS_DAYS,
    OURS,
    by_ours,
    hour_klines,
    klines,
    report,
    show,
)

_SYMBOLS = 10
_REPORT = """
import sys, time
import binance_archive_kit as bak
bak.store(sys.argv[1]).engine.feeds()
began = time.perf_counter()
report = bak.coverage(sys.argv[1])
print(time.perf_counter() - began, int(report.is_complete))
"""
# A process begins with the peak of the one it was forked from, so a small one stands between.
_SMALL = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def report_in_a_process(folder: Path) -> tuple[float, float]:
    """Report on a store in a process of its own; give its seconds and peak megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", _SMALL, sys.executable, "-c", _REPORT, str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, complete, peak = done.stdout.split()
    assert complete == "1", done.stdout
    return float(seconds), float(peak)


def against_queries(folder: Path, runs: int) -> None:
    """Report on 1,825 files at row level, query their every value, and count their rows."""
    feed = klines(folder)
    rows = by_ours(feed, COUNT)["n"].item()
    reporting: list[float] = []
    asking: dict[str, list[float]] = {COUNT: [], EVERY_VALUE: []}
    for _ in range(runs):
        for question, taken in asking.items():
            began = time.perf_counter()
            by_ours(feed, question)
            taken.append(time.perf_counter() - began)
        began = time.perf_counter()
        covered = bak.coverage(bak.store(feed.zips, cache=False))
        reporting.append(time.perf_counter() - began)
        assert covered.is_complete, covered
        assert covered.streams["present"].sum() == rows, covered
    report_in_a_process(feed.zips)
    again = [report_in_a_process(feed.zips)[0] for _ in range(runs)]
    medians = {
        OURS: statistics.median(reporting) * 1000,
        "count(*), first read": statistics.median(asking[COUNT]) * 1000,
        "max of each column, first read": statistics.median(asking[EVERY_VALUE]) * 1000,
    }
    title = f"First report on 1,825 daily files of 1m candles, {rows:,} rows, {runs} runs"
    # A count parses no value, a report checks all of them.
    wanted = {"count(*), first read": ("<=", 2.0), "max of each column, first read": ("<=", 1.0)}
    report(title, medians, wanted)
    show("second report, another process", statistics.median(again), "s", "<", 1)


def many_files(folder: Path, runs: int) -> None:
    """Report on 20,000 small files."""
    root = folder / "hours"
    hour_klines(root, _SYMBOLS)
    firsts, peaks, seconds = [], [], []
    for _ in range(runs):
        shutil.rmtree(root / ".binance_archive_kit", ignore_errors=True)
        first, peak = report_in_a_process(root)
        firsts.append(first)
        peaks.append(peak)
        seconds.append(report_in_a_process(root)[0])
    print(f"\n{_SYMBOLS * HOURS_DAYS:,} daily files of 1h candles, {runs} runs")
    show("first report", statistics.median(firsts), "s")
    show("peak memory of its process", statistics.median(peaks), "MB", "<", 500)
    show("second report, another process", statistics.median(seconds), "s")
    shutil.rmtree(root)


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="for all files; in memory if there is /dev/shm")
    asked = parser.parse_args()
    memory_disk = Path("/dev/shm")
    home = asked.folder or (memory_disk if memory_disk.is_dir() else None)
    with tempfile.TemporaryDirectory(dir=home, prefix="benchmark-") as name:
        print(f"{os.cpu_count()} cores, files in {home or tempfile.gettempdir()}")
        against_queries(Path(name), asked.runs)
        many_files(Path(name), asked.runs)


if __name__ == "__main__":
    main()
