"""Collect once, by an executor, in a process of its own: what `spreading` measures.

Its argument is JSON: ``{"way": "dask", "workers": 2, "objects": 1000, "config": {…}}``. It prints
two lines of JSON: the ids of the worker processes, and then the result.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import binance_archive_kit as bak

#: Empty tasks, to see what the executor itself takes for one.
TASKS = 200


def warm(seconds: float) -> int:
    """Import what a worker needs, and stay busy so that each worker gets one task."""
    assert bak.collect
    time.sleep(seconds)
    return os.getpid()


def nothing(config: str) -> int:
    """Take what a shard is sent, and return."""
    return len(config)


@contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """Give the executor of the standard library."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield pool


@contextmanager
def dask(workers: int) -> Iterator[Executor]:
    """Give the executor of a local Dask cluster."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            host="127.0.0.1",
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


WAYS = {"processes": processes, "dask": dask, "none": lambda workers: nullcontext(None)}


def main() -> None:
    """Run what the first argument describes."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    config = bak.CollectionConfig(**asked["config"])
    with WAYS[asked["way"]](asked["workers"]) as executor:
        options: dict[str, Any] = {}
        each = 0.0
        if executor is not None:
            options = {"executor": executor, "shard_objects": asked["objects"]}
            ready = [executor.submit(warm, 1 + at / 100) for at in range(asked["workers"])]
            print(json.dumps([future.result() for future in ready]), flush=True)
            each = overhead(executor, config.to_json())
        else:
            assert bak.collect
            print("[]", flush=True)
        started = time.perf_counter()
        result = bak.collect(config, **options)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # Workers, and s5cmd below them, have ended.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    stats = result.collection_stats
    print(
        json.dumps(
            {
                "seconds": seconds,
                "outcome": result.outcome,
                "downloaded": stats["successful_tasks"],
                "kept": stats["skipped_tasks"],
                "failed": stats["failed_tasks"],
                "peak_mb": peak,
                "cpu_seconds": sum(each.ru_utime + each.ru_stime for each in used),
                "task_seconds": each,
                "said": str(result)[:2000],
            }
        )
    )


def overhead(executor: Executor, config: str) -> float:
    """Return the seconds that an empty task takes, when many are submitted."""
    started = time.perf_counter()
    for future in [executor.submit(nothing, f"{config}{at}") for at in range(TASKS)]:
        future.result()
    return (time.perf_counter() - started) / TASKS


if __name__ == "__main__":
    main()
