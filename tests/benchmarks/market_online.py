"""What planning, listing and re-running cost for a whole market: part of the market benchmark.

The server runs in a process of its own, so that the client's processor time is its own.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX, Folder, ObjectKey, Stream, period_end
from tests.benchmarks.collecting import started
from tests.benchmarks.market_files import DAYS, MANY, Candles, candles
from tests.benchmarks.reading import show
from tests.support.s3_server import LocalS3

_LATENCY = 0.05
#: As many folders as a market with all its dead symbols has.
_LISTED = Candles(2000, DAYS.first, DAYS.last)
#: Daily files that each of those symbols has besides.
_DAILY = 31

_PLAN = """
import sys, time
import binance_archive_kit as bak
from tests.benchmarks.market_online import fields
fields = fields("listed", sys.argv[1], sys.argv[2])
bak.plan
began, own = time.perf_counter(), time.process_time()
plan = bak.plan(**fields)
print(time.perf_counter() - began, time.process_time() - own, len(plan))
"""
_UNIVERSE = """
import sys, time
import binance_archive_kit as bak
bak.universe
began, own = time.perf_counter(), time.process_time()
frame = bak.universe("spot", "klines", interval="1d", endpoint_url=sys.argv[1])
print(time.perf_counter() - began, time.process_time() - own, frame.height)
"""
_COLLECT = """
import sys, time
import binance_archive_kit as bak
from tests.benchmarks.market_online import fields
fields = fields("many", sys.argv[1], sys.argv[2])
bak.collect
began, own = time.perf_counter(), time.process_time()
result = bak.collect(**fields)
assert result.outcome == "complete", result
print(time.perf_counter() - began, time.process_time() - own, len(result.output_files))
"""


def fields(name: str, url: str, output: str) -> dict[str, object]:
    """Return the fields of a configuration that asks for all that a server has."""
    wanted = {"listed": _LISTED, "many": MANY}[name]
    return {
        "markets": ["spot"],
        "symbols": wanted.names,
        "data_types": ["klines"],
        "intervals": {"klines": ["1d"]},
        "partition": "monthly",
        "date_range": {
            "start": str(wanted.first),
            "end": str(period_end(wanted.last, Partition.MONTHLY)),
        },
        "output_directory": output,
        "endpoint_url": url,
    }


# The server


class _FixedS3(LocalS3):
    """A server of objects that never change, so that they need not be compared."""

    def keys(self) -> Sequence[str]:
        return self._sorted


def _objects(name: str, folder: Path) -> Mapping[str, bytes]:
    """Return the objects that a server has: real zips, or only names with few bytes."""
    objects = {}
    if name == "many":
        for path in folder.rglob("*.zip"):
            key, packed = path.relative_to(folder).as_posix(), path.read_bytes()
            digest = hashlib.sha256(packed).hexdigest()
            objects[key] = packed
            objects[f"{key}{CHECKSUM_SUFFIX}"] = f"{digest}  {path.name}".encode()
        return objects
    for symbol in _LISTED.names:
        stream = Stream(Market.SPOT, DataType.KLINES, symbol, Interval.D1)
        daily = Folder(stream, Partition.DAILY)
        days = (date(2025, 12, 31) - timedelta(days=at) for at in range(_DAILY))
        for key in (*_LISTED.keys(symbol), *(ObjectKey(daily, day) for day in days)):
            objects[str(key)] = objects[key.checksum] = str(key).encode()
    return objects


@contextmanager
def serving(name: str, folder: Path, latency: float) -> Iterator[str]:
    """Serve objects from a process of its own; give the endpoint."""
    command = [sys.executable, "-m", __name__, name, str(folder), str(latency)]
    with started(command) as url:
        yield url


def main() -> None:
    """Serve until SIGTERM; the first line is the URL."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}")
    parser.add_argument("name", choices=("listed", "many"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("latency", type=float)
    asked = parser.parse_args()
    server = _FixedS3(_objects(asked.name, asked.folder), latency=asked.latency, log=False)
    # Describe the objects before a client waits for it.
    for key in server._sorted:
        server.info(key)
    with server:
        print(server.url, flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        signal.pause()


# The benchmarks


def _run(code: str, *words: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True
    )
    return list(map(float, done.stdout.split()))


def planning(folder: Path, runs: int) -> None:
    """Plan 2,000 folders of 60 objects."""
    with serving("listed", folder, _LATENCY) as url, tempfile.TemporaryDirectory() as output:
        found = [_run(_PLAN, url, output) for _ in range(runs)]
    clock, processors, objects = (statistics.median(each) for each in zip(*found, strict=True))
    print(f"\nPlanning {_LISTED.symbols:,} folders of {len(_LISTED.months)} objects, {runs} runs")
    assert objects == _LISTED.files, found
    show("processor time of the client", processors, "s", "<=", 6)
    show("a planned object, of processor time", processors / objects * 1e6, "µs", "<=", 50)
    show("on the clock, at 50 ms latency", clock, "s")


def universe(folder: Path, runs: int) -> None:
    """List the universe of 2,000 symbols."""
    print(f"\nUniverse of {_LISTED.symbols:,} symbols, {runs} runs")
    if not hasattr(bak, "universe"):
        print("  not measured: universe() does not exist yet", flush=True)
        return
    with serving("listed", folder, _LATENCY) as url:
        found = [_run(_UNIVERSE, url) for _ in range(runs)]
    clock, processors, symbols = (statistics.median(each) for each in zip(*found, strict=True))
    assert symbols == _LISTED.symbols, found
    show("on the clock, at 50 ms latency", clock, "s", "<=", 12)
    show("processor time of the client", processors, "s")


def again(folder: Path, runs: int) -> None:
    """Collect once more what is there and proven: 100,000 files."""
    root = candles(folder / "many", MANY)
    output = folder / "collected"
    with serving("many", root, 0) as url:
        once = _run(_COLLECT, url, str(output))
        found = [_run(_COLLECT, url, str(output)) for _ in range(runs)]
    clock, processors, files = (statistics.median(each) for each in zip(*found, strict=True))
    print(f"\nRe-running a complete collection of {MANY.files:,} objects, {runs} runs")
    assert files == MANY.files, found
    show("the collection before, once", once[0], "s")
    show("on the clock", clock, "s", "<=", 5)
    show("processor time of the client", processors, "s")


if __name__ == "__main__":
    main()
