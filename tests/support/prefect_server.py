"""A Prefect server of the test's own: on loopback, in a folder of its own, telling nobody."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from tests.support.bucket import FIRST, with_sidecars
from tests.support.dialects import zip_of
from tests.support.planted import HOUR, csv_at, every
from tests.support.s3_server import LocalS3
from tests.support.stores import kline

ROOT = Path(__file__).parents[2]
#: What the archive of these tests holds.
BUCKET = with_sidecars(
    {
        str(key): zip_of(key, csv_at(key, every(HOUR, str(day), str(day + timedelta(days=1)))))
        for day in (FIRST + timedelta(days=at) for at in range(5))
        for key in [kline("BTCUSDT", str(day))]
    }
)
#: Nothing leaves the machine.
QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


#: How scripts begin: their configuration lies beside them.
PRELUDE = """
import asyncio, json, sys, time
from pathlib import Path
config = json.loads(Path("config.json").read_text())
"""
_SERVE = """
from datetime import datetime, timedelta, timezone
from prefect.schedules import Interval
from binance_archive_kit.workflow import archive_collection_flow

if __name__ == "__main__":  # each run imports this file anew
    soon = datetime.now(timezone.utc) + timedelta(seconds=12)
    minutely = Interval(timedelta(minutes=1), anchor_date=soon)
    archive_collection_flow.serve(
        name="every-minute", config=config, schedules=[minutely], tags=["served"]
    )
"""


def config_for(server: LocalS3, folder: Path, **changes: Any) -> dict[str, Any]:
    """Ask for five days, and for something that cannot be."""
    return {
        "workflow_type": "archive_collection",
        "matrix_path": "enhanced_binance_archive_matrix.json",
        "output_directory": str(folder / "store"),
        "markets": ["spot"],
        "symbols": ["BTCUSDT"],
        "data_types": ["klines", "bookDepth"],
        "intervals": {"klines": ["1h"]},
        "date_range": {"start": "2025-07-01", "end": "2025-07-05"},
        "endpoint_url": server.url,
        "batch_size": 2,
        **changes,
    }


@contextmanager
def served_minutely(folder: Path, client: dict[str, str]) -> Iterator[LocalS3]:
    """Serve a deployment that collects every minute; gives the archive it collects from."""
    with LocalS3(BUCKET) as server, (folder / "log").open("w") as log:
        (folder / "config.json").write_text(json.dumps(config_for(server, folder)))
        (folder / "serve.py").write_text(f"{PRELUDE}\n{_SERVE}")
        environment = {**client, "PYTHONPATH": str(ROOT)}
        with started([sys.executable, "serve.py"], folder, environment, log):
            yield server


@contextmanager
def prefect_server(folder: Path) -> Iterator[dict[str, str]]:
    """Serve while the ``with`` block runs; gives the environment for clients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = {
        **QUIET,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    command = [sys.executable, "-m", "prefect", "server", "start"]
    with (
        (folder / "server.log").open("w") as log,
        started(
            [*command, "--host", "127.0.0.1", "--port", str(port)], folder, client, log
        ) as server,
    ):
        until = time.monotonic() + 120
        while not _answers(client):
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < until, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield client


@contextmanager
def started(
    command: list[str], folder: Path, environment: dict[str, str], log: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run a process and all it starts, until the ``with`` block ends."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(client: dict[str, str]) -> bool:
    try:
        return httpx.get(f"{client['PREFECT_API_URL']}/health").status_code == 200
    except httpx.HTTPError:
        return False


def ask(client: dict[str, str], what: str, **filters: Any) -> list[dict[str, Any]]:
    """Ask the server's API for things, as its page does: ``flow_runs``, ``task_runs``, …"""
    url = f"{client['PREFECT_API_URL']}/{what}/filter"
    answer = httpx.post(url, json=filters, timeout=30).raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found
