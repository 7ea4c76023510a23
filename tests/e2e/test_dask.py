"""A collection on a real cluster of Dask: interrupted, then one of two workers is killed.

The cluster is in a process of its own, as a notebook or a script would have it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import Bucket, many_klines, zips_of
from tests.support.checks import assert_holds
from tests.support.s3_server import LocalS3

ROOT = Path(bak.__file__).parents[1]
#: Objects of a shard, of which each of two workers may have one in flight.
OBJECTS = 20

_SCRIPT = """\
import faulthandler, json, os, signal, sys, threading, time
import binance_archive_kit as bak
from distributed import Client, LocalCluster

faulthandler.dump_traceback_later(200, exit=True)  # says where it hangs

def main():
    config = bak.CollectionConfig.from_json(sys.argv[1])
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        host="127.0.0.1",
    ) as cluster, Client(cluster) as client:
        pids = client.run(os.getpid)

        def after(files, work, *arguments):
            folder = config.output_directory / "data"
            while len([*folder.rglob("*.zip")]) < files:
                time.sleep(0.01)
            work(*arguments)

        def start(*arguments):
            thread = threading.Thread(target=after, args=arguments, daemon=True)
            thread.start()
            return thread

        # As a notebook does: the workers are interrupted, too.
        start(int(sys.argv[2]), os.killpg, os.getpgrp(), signal.SIGINT)
        try:
            bak.collect(config, executor=client.get_executor(), shard_objects=20)
        except KeyboardInterrupt as error:
            interrupted = str(error)
        # The workers finish what they run: another one would fetch the same objects meanwhile.
        while any(client.run(lambda dask_worker: dask_worker.state.executing_count).values()):
            time.sleep(0.1)
        survived = client.run(os.getpid) == pids
        handled = client.run(lambda: repr(signal.getsignal(signal.SIGINT)))
        killer = start(int(sys.argv[3]), os.kill, next(iter(pids.values())), signal.SIGKILL)
        result = bak.collect(config, executor=client.get_executor(), shard_objects=20)
        killer.join()
    print(json.dumps({
        "interrupted": interrupted, "survived": survived, "handled": str(handled),
        "outcome": result.outcome, "stats": result.collection_stats,
        "files": len(result.output_files), "missing": len(result.missing),
    }))

if __name__ == "__main__":
    main()
"""


def run(
    folder: Path, config: bak.CollectionConfig, interrupt_after: int, kill_after: int
) -> dict[str, Any]:
    script = folder / "cluster.py"
    script.write_text(_SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), config.to_json(), str(interrupt_after), str(kill_after)],
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    # No bar and no warning of a worker.
    assert "ArchiveKitWarning" not in done.stderr
    return said


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    return many_klines()


def fetched(server: LocalS3) -> int:
    return sum(method == "GET" and key.endswith(".zip") for method, key in server.requests)


def test_an_interrupt_and_a_killed_worker_cost_only_what_was_in_flight(
    serve: Serve, ask: Ask, bucket: Bucket, tmp_path: Path
) -> None:
    server = serve(bucket)
    server.latency = 0.02
    names = sorted({key.split("/")[4] for key in zips_of(bucket)})
    config = ask(server, *names, days=len(zips_of(bucket)) // len(names), max_parallel_downloads=8)
    count = len(zips_of(bucket))
    said = run(tmp_path, config, interrupt_after=count // 6, kill_after=count // 2)
    assert said["interrupted"].startswith("interrupted while collecting")
    assert said["survived"]
    assert "_ignore_interrupts" not in said["handled"]
    assert said["outcome"] == "complete"
    assert said["files"] == len(zips_of(bucket))
    assert said["missing"] == 0
    assert_holds(config.output_directory, zips_of(bucket))
    assert 0 <= fetched(server) - len(zips_of(bucket)) <= OBJECTS
    again = bak.collect(config)
    assert again.collection_stats["skipped_tasks"] == len(zips_of(bucket))
