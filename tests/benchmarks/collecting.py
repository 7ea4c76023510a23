"""How fast a proven collection is, as ratios against named rivals in one run.

    python -m tests.benchmarks.collecting [small large again plan memory rivals] [--runs 5]
        [--folder DIR] [--rivals DIR]

Every figure is the median of interleaved runs against a local server in a process of
its own. ``collect()`` includes its planning, and excludes the import of the package;
rivals exclude theirs too. ``rivals`` installs the rivals from the package index, each
into an environment of its own below ``--rivals``, which is kept for the next time.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX, Folder, ObjectKey, Stream
from binance_archive_kit.storage.s5cmd_process import binary

BUCKET = "data.binance.vision"
START, DAYS = date(2023, 1, 1), 400
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "XRPUSDT", "SOLUSDT")
LATENCIES = (0.0, 0.05)
#: Bytes a second: all that this machine's memory gives, and a line of 1 Gbit/s.
BANDWIDTHS = (None, 125e6)
HERE = Path(__file__).parent


# The archive


def write_object(root: Path, key: ObjectKey, csv: bytes) -> None:
    """Write a zip with its sidecar below `root`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        member = zipfile.ZipInfo(key.member, (2025, 1, 1, 0, 0, 0))
        file.writestr(member, csv, zipfile.ZIP_DEFLATED)
    path = root / str(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed.getvalue())
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    (root / key.checksum).write_text(f"{digest}  {key.name}")


def daily_klines(root: Path, symbols: tuple[str, ...], days: int) -> list[str]:
    """Write one small daily 1h file for each symbol and day; about 2 KB each."""
    dice = random.Random(1)
    keys = []
    for symbol in symbols:
        stream = Folder(Stream(Market.SPOT, DataType.KLINES, symbol, Interval.H1), Partition.DAILY)
        for at in range(days):
            rows = "".join(
                f"{1672531200000 + 3600000 * hour},"
                + ",".join(f"{dice.uniform(1, 9e4):.8f}" for _ in range(5))
                + f",{1672534799999 + 3600000 * hour},{dice.uniform(1, 1e9):.8f},"
                + f"{dice.randrange(99999)},{dice.random():.8f},{dice.random():.8f},0\n"
                for hour in range(24 * at, 24 * at + 24)
            )
            key = ObjectKey(stream, START + timedelta(days=at))
            write_object(root, key, rows.encode())
            keys.append(str(key))
    return sorted(keys)


def large_trades(root: Path, count: int, size: int) -> list[str]:
    """Write daily files of `size` bytes that do not compress."""
    stream = Folder(Stream(Market.SPOT, DataType.TRADES, "BTCUSDT"), Partition.DAILY)
    keys = []
    for at in range(count):
        key = ObjectKey(stream, START + timedelta(days=at))
        write_object(root, key, random.Random(at).randbytes(size))
        keys.append(str(key))
    return keys


@contextmanager
def serving(root: Path, latency: float = 0.0, bandwidth: float | None = None) -> Iterator[str]:
    """Serve a folder from a process of its own; give the endpoint."""
    command = [sys.executable, "-m", "tests.support.s3_server", str(root)]
    command += ["--latency", str(latency)]
    if bandwidth:
        command += ["--bandwidth", str(bandwidth)]
    with started(command) as url:
        yield url


@contextmanager
def started(command: list[str]) -> Iterator[str]:
    """Run a server that prints its URL first; give the URL."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            yield url
        finally:
            server.terminate()


# The contestants; each gives the seconds it took


def by_collect(
    url: str, output: Path, data_type: str, symbols: tuple[str, ...], days: int
) -> float:
    """Time ``collect()`` in a fresh process, without the import."""
    end = START + timedelta(days=days - 1)
    code = (
        "import time, binance_archive_kit as bak; bak.collect; t = time.perf_counter();"
        f"r = bak.collect(markets=['spot'], symbols={symbols!r}, data_types=[{data_type!r}],"
        f"intervals={{'klines': ['1h']}}, date_range={{'start': '{START}', 'end': '{end}'}},"
        f"output_directory={str(output)!r}, endpoint_url={url!r});"
        "print(time.perf_counter() - t, len(r.output_files), r.outcome)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, files, outcome = said.stdout.split()
    assert (int(files), outcome) == (len(symbols) * days, "complete"), said.stdout
    return float(seconds)


def by_s5cmd(url: str, output: Path, keys: list[str]) -> float:
    """Time a plain ``s5cmd run`` over zips and sidecars; it proves nothing."""
    lines = [
        f"cp s3://{BUCKET}/{name} {output / name}\n"
        for key in keys
        for name in (key, f"{key}{CHECKSUM_SUFFIX}")
    ]
    command = [str(binary()), "--no-sign-request", "--endpoint-url", url, "run"]
    started = time.perf_counter()
    subprocess.run(
        command,
        input="".join(lines),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "AWS_REGION": "ap-northeast-1"},
    )
    seconds = time.perf_counter() - started
    assert sum(1 for _ in output.rglob("*.zip")) == len(keys)
    return seconds


def by_rival(python: Path, driver: str, url: str, output: Path, *more: str) -> float:
    """Time a rival through its driver; see rivals/README.md."""
    end = START + timedelta(days=DAYS - 1)
    command = [str(python), str(HERE / "rivals" / driver), "--endpoint", url]
    command += ["--output", str(output), "--market", "spot", "--data-type", "klines"]
    command += ["--interval", "1h", "--start", str(START), "--end", str(end), *more]
    said = subprocess.run(
        [*command, "--symbols", *SYMBOLS], check=True, capture_output=True, text=True
    )
    result = json.loads(said.stdout.splitlines()[-1])
    assert result["files"] == DAYS * len(SYMBOLS), said.stdout
    return float(result["seconds"])


def compare(folder: Path, runs: int, ways: dict[str, Callable[[Path], float]]) -> dict[str, float]:
    """Run all ways in turn, several times; give each one's median."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            output = folder / "output"
            shutil.rmtree(output, ignore_errors=True)
            output.mkdir()
            taken[name].append(way(output))
    shutil.rmtree(folder / "output", ignore_errors=True)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def report(title: str, medians: dict[str, float]) -> None:
    """Print medians, and each as a ratio to our own."""
    print(f"\n{title}")
    own = next(iter(medians.values()))
    for name, seconds in medians.items():
        print(f"  {name:<44} {seconds:8.2f} s   collect() / it = {own / seconds:5.2f}", flush=True)


# The benchmarks


def small(folder: Path, runs: int, rivals: Path | None) -> None:
    """Collect 2,000 small daily objects with their sidecars."""
    root = folder / "small"
    keys = daily_klines(root, SYMBOLS, DAYS)
    for latency in LATENCIES:
        with serving(root, latency) as url:
            ways: dict[str, Callable[[Path], float]] = {
                "collect(), all proven": lambda out, url=url: by_collect(
                    url, out, "klines", SYMBOLS, DAYS
                ),
                "s5cmd run, 4,000 keys, nothing proven": lambda out, url=url: by_s5cmd(
                    url, out, keys
                ),
            }
            if rivals is not None:
                ways |= rival_ways(rivals, url, latency)
            medians = compare(folder, runs, ways)
        report(f"2,000 small objects, {latency * 1000:.0f} ms latency, {runs} runs", medians)


def rival_ways(rivals: Path, url: str, latency: float) -> dict[str, Callable[[Path], float]]:
    """Install the rivals where they are not yet; give a way to run each."""
    packages = {
        "binance-datatool": ("0.1.1", "run_datatool.py"),
        "binance-bulk-downloader": ("1.1.0.1", "run_bulk_downloader.py"),
        "nekojiru-binance": ("0.1.0", "run_nekojiru.py"),
    }
    ways: dict[str, Callable[[Path], float]] = {}
    for package, (version, driver) in packages.items():
        home = rivals / package
        python = home / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            wanted = f"{package}=={version}"
            subprocess.run([str(python), "-m", "pip", "install", "-q", wanted], check=True)
        if package == "binance-datatool" and not (
            shutil.which("aria2c") or (home / "bin/aria2c").exists()
        ):
            print("binance-datatool is left out: it needs aria2c on PATH (Debian: aria2)")
            continue
        # One object after another over a slow line would take minutes a run.
        if package != "nekojiru-binance" or not latency:
            ways[f"{package} {version}"] = lambda out, p=python, d=driver: by_rival(p, d, url, out)
        if package == "nekojiru-binance":
            ways[f"{package} {version}, 32 warm processes"] = lambda out, p=python, d=driver: (
                by_rival(p, d, url, out, "--processes", "32")
            )
    return ways


def large(folder: Path, runs: int) -> None:
    """Collect ten objects of 100 MB with their sidecars."""
    root = folder / "large"
    keys = large_trades(root, 10, 100 * 1000 * 1000)
    for bandwidth, latency in itertools.product(BANDWIDTHS, LATENCIES):
        with serving(root, latency, bandwidth) as url:
            medians = compare(
                folder,
                runs,
                {
                    "collect(), all proven": lambda out, url=url: by_collect(
                        url, out, "trades", ("BTCUSDT",), 10
                    ),
                    "s5cmd run, 20 keys, nothing proven": lambda out, url=url: by_s5cmd(
                        url, out, keys
                    ),
                },
            )
        line = f"{bandwidth / 1e6:.0f} MB/s" if bandwidth else "memory speed"
        title = f"Ten objects of 100 MB, {line}, {latency * 1000:.0f} ms latency, {runs} runs"
        report(title, medians)
    shutil.rmtree(root)


def again(folder: Path, runs: int) -> None:
    """Collect once more what is there and proven: 20,000 files."""
    root = folder / "again"
    symbols = tuple(f"C{at:02d}USDT" for at in range(50))
    daily_klines(root, symbols, DAYS)
    output = folder / "kept"
    with serving(root) as url:
        by_collect(url, output, "klines", symbols, DAYS)
        taken = [by_collect(url, output, "klines", symbols, DAYS) for _ in range(runs)]
    print(f"\nA re-run over 20,000 proven files, {runs} runs: {statistics.median(taken):.2f} s")
    for each in (root, output):
        shutil.rmtree(each)


#: A process begins with the peak of the one it was forked from, so a small one stands between.
_BETWEEN = [
    *(sys.executable, "-c"),
    "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)",
]

_PLAN = """
import resource, time, binance_archive_kit as bak
symbols = [f"C{at:03d}USDT" for at in range(275)]
started = time.perf_counter()
plan = bak.plan(
    markets=["spot"], symbols=symbols, data_types=["klines"],
    intervals={"klines": ["1m", "5m"]}, date_range={"start": "2020-01-01", "end": "2024-12-31"},
    output_directory="nowhere", endpoint_url="http://127.0.0.1:9", listing=False,
)
seconds = time.perf_counter() - started
print(len(plan), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def plan(folder: Path, runs: int) -> None:
    """Plan a million objects from the matrix alone."""
    taken, peaks, count = [], [], 0
    for _ in range(runs):
        said = subprocess.run(
            [*_BETWEEN, sys.executable, "-c", _PLAN],
            check=True,
            capture_output=True,
            text=True,
            cwd=folder,
        )
        objects, seconds, peak = said.stdout.split()
        count = int(objects)
        taken.append(float(seconds))
        peaks.append(float(peak))
    print(
        f"\nA plan of {count:,} objects from the matrix, {runs} runs: "
        f"{statistics.median(taken):.2f} s, peak {statistics.median(peaks):.0f} MB"
    )


_COLLECT = """
import resource, sys, binance_archive_kit as bak
url, output, count = sys.argv[1:]
symbols = [f"C{at:02d}USDT" for at in range(int(count))]
result = bak.collect(
    markets=["spot"], symbols=symbols, data_types=["klines"], intervals={"klines": ["1h"]},
    date_range={"start": "2023-01-01", "end": "2024-02-04"},
    output_directory=output, endpoint_url=url,
)
own, its = (resource.getrusage(who).ru_maxrss / 1024
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(len(result.output_files), own, its)
"""


def memory(folder: Path, runs: int) -> None:
    """Show how the memory of a collection grows with its number of objects."""
    root = folder / "memory"
    daily_klines(root, tuple(f"C{at:02d}USDT" for at in range(100)), DAYS)
    points = []
    print("\nPeak memory of a collection (this process, s5cmd)")
    with serving(root) as url:
        for symbols in (5, 25, 100):
            output = folder / "kept"
            said = subprocess.run(
                [*_BETWEEN, sys.executable, "-c", _COLLECT, url, str(output), str(symbols)],
                check=True,
                capture_output=True,
                text=True,
            )
            count, own, its = said.stdout.split()
            print(f"  {int(count):6,} objects: {float(own):4.0f} MB, {float(its):4.0f} MB")
            points.append((int(count), float(own)))
            shutil.rmtree(output)
    (first, low), (last, high) = points[0], points[-1]
    slope = (high - low) * 1024 / (last - first)
    print(f"  slope: {slope:.2f} KB an object")
    shutil.rmtree(root)


def main() -> None:
    """Run the benchmarks that are named, or all but the rivals."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ("small", "large", "again", "plan", "memory", "rivals")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="for all files; in memory if there is /dev/shm")
    parser.add_argument("--rivals", type=Path, default=Path("build/rivals"))
    asked = parser.parse_args()
    chosen = set(asked.names or names[:-1])
    memory_disk = Path("/dev/shm")
    home = asked.folder or (memory_disk if memory_disk.is_dir() else None)
    with tempfile.TemporaryDirectory(dir=home, prefix="benchmark-") as name:
        folder = Path(name)
        print(f"{os.cpu_count()} cores, files in {home or tempfile.gettempdir()}")
        if chosen & {"small", "rivals"}:
            small(folder, asked.runs, asked.rivals if "rivals" in chosen else None)
        if "large" in chosen:
            large(folder, asked.runs)
        if "again" in chosen:
            again(folder, asked.runs)
        if "plan" in chosen:
            plan(folder, asked.runs)
        if "memory" in chosen:
            memory(folder, asked.runs)


if __name__ == "__main__":
    main()
