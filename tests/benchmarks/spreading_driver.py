"""The memory of a run's driver: shards, and the joining of results of the size of real ones.

    python -m tests.benchmarks.spreading_driver [1e6 1e7]

The executor does nothing: it returns rows as a worker would, of symbols with 1,000 days each.
"""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from datetime import date
from random import Random
from resource import RUSAGE_SELF, getrusage
from typing import Any

import polars as pl

import binance_archive_kit as bak
from binance_archive_kit.collection.joined import OBJECTS
from binance_archive_kit.collection.shard_run import ShardOutcome
from tests.benchmarks.collecting import _BETWEEN

#: Days of each symbol.
DAYS = pl.date_range(date(2021, 1, 1), date(2023, 9, 27), eager=True)


class Nothing(Executor):
    """Returns the rows of a shard as if its objects had been downloaded."""

    def __init__(self) -> None:
        self._random = Random(1)
        self.bytes = 0

    def submit(self, _function: Any, /, *args: Any, **_options: Any) -> Future[Any]:
        """Return the outcome of a shard at once."""
        [task] = args
        shard = bak.CollectionConfig.from_json(task.config)
        names = [name for name in shard.symbols_of(bak.Market.SPOT) for _ in range(len(DAYS))]
        days = [*DAYS] * len(shard.symbols)
        frame = pl.DataFrame(
            {
                "key": [
                    f"data/spot/daily/trades/{name}/{name}-trades-{day}.zip"
                    for name, day in zip(names, days, strict=True)
                ],
                "symbol": names,
                "start": days,
                "end": days,
                "etag": [f"{self._random.getrandbits(128):032x}" for _ in names],
                "size": [self._random.randrange(10**6) for _ in names],
            }
        ).with_columns(
            market=pl.lit("spot"),
            data_type=pl.lit("trades"),
            partition=pl.lit("daily"),
            interval=pl.lit(None),
            last_modified=pl.lit("2025-07-16T01:00:00.000Z"),
            checksum=pl.lit(value=True),
            action=pl.lit("download"),
            reason=pl.lit("new"),
            outcome=pl.lit("downloaded"),
        )
        schema = {name: kind for name, kind in OBJECTS.items() if name != "shard"}
        rows = io.BytesIO()
        frame.select(*schema).cast(schema).write_ipc(rows, compression="zstd")
        outcome = ShardOutcome(rows.getvalue(), proven_bytes=len(names))
        sent = pickle.dumps(outcome)
        self.bytes = len(sent)
        future: Future[Any] = Future()
        future.set_result(pickle.loads(sent))
        return future


def drive(objects: int) -> None:
    """Collect so many objects, and print the time and the peak of this process."""
    executor, began = Nothing(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = bak.collect(
            markets=["spot"],
            symbols=[f"C{number}USDT" for number in range(objects // len(DAYS))],
            data_types=["trades"],
            start=DAYS[0],
            end=DAYS[-1],
            output_directory=folder,
            endpoint_url="http://127.0.0.1:9",
            executor=executor,
        )
        assert result.collection_stats["successful_tasks"] == objects
    peak = getrusage(RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  {objects:12,} objects: {time.monotonic() - began:6.1f} s, "
        f"{executor.bytes:,} bytes of a shard's result, {peak:4.0f} MB",
        flush=True,
    )


def main(sizes: Sequence[str]) -> None:
    """Drive runs of some sizes, each in a process of its own."""
    print("\nThe driver of a run with an executor that does nothing")
    for size in sizes or ("1e6", "1e7"):
        module = [sys.executable, "-m", __spec__.name, "--here", size]  # type: ignore[union-attr]
        subprocess.run([*_BETWEEN, *module], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        drive(int(float(sys.argv[2])))
    else:
        main(sys.argv[1:])
