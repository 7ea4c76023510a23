"""The command line, as a user's shell runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from binance_archive_kit.local_s3 import Fault, LocalS3, Request
from tests.support.bucket import daily_klines


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "binance_archive_kit.cli", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    fields = {
        "workflow_type": "archive_collection",
        "matrix_path": "enhanced_binance_archive_matrix.json",
        "output_directory": "out",
        "markets": ["spot"],
        "symbols": ["BTCUSDT"],
        "data_types": ["klines"],
        "intervals": {"klines": ["1h"]},
        "date_range": {"start": "2025-07-01", "end": "2025-07-03"},
    }
    path.write_text(json.dumps(fields))
    return path


BUCKET = daily_klines("BTCUSDT", days=3)


def test_demo_collects_everything_and_the_second_run_keeps_it(tmp_path: Path) -> None:
    said = run("demo", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "synthetic" in said.stdout
    first, second = said.stdout.split("# Second run")
    assert "Collection complete" in first
    for market in ("spot", "futures_um", "futures_cm", "options"):
        assert f'"{market}"' in first
    assert "0 downloaded, 661 kept" in second
    assert list(tmp_path.iterdir()) == []


def test_plan_then_collect_then_collect_again(tmp_path: Path, config: Path) -> None:
    with LocalS3(BUCKET) as server:
        planned = run("plan", "config.json", "--endpoint-url", server.url, cwd=tmp_path)
        assert (planned.returncode, planned.stderr) == (0, "")
        assert "3 objects: 3 to download" in planned.stdout
        assert not (tmp_path / "out").exists()
        collected = run("collect", "config.json", cwd=tmp_path, S3_ENDPOINT_URL=server.url)
        assert (collected.returncode, collected.stderr) == (0, "")
        assert "3 downloaded, 0 kept" in collected.stdout
        again = run("collect", "config.json", cwd=tmp_path, S3_ENDPOINT_URL=server.url)
        assert "0 downloaded, 3 kept" in again.stdout
    files = sorted(path.name for path in (tmp_path / "out" / "data").rglob("*.zip"))
    assert files == [f"BTCUSDT-1h-2025-07-0{day}.zip" for day in (1, 2, 3)]


def test_a_wrong_question_exits_with_2_and_says_what_is_right(tmp_path: Path, config: Path) -> None:
    config.write_text(config.read_text().replace('"spot"', '"sport"'))
    said = run("collect", "config.json", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert "markets: 'sport' is not valid; did you mean 'spot'?" in said.stderr
    absent = run("plan", "nothing.json", cwd=tmp_path)
    assert absent.returncode == 2
    assert "nothing.json" in absent.stderr


def test_failures_exit_with_1(tmp_path: Path, config: Path) -> None:
    def forbid(request: Request) -> Fault | None:
        return Fault(status=403) if request.key.endswith("07-02.zip") else None

    with LocalS3(BUCKET, fault=forbid) as server:
        some = run("collect", "config.json", "--endpoint-url", server.url, cwd=tmp_path)
    assert some.returncode == 1
    assert "Collection partial" in some.stdout
    assert "forbidden" in some.stdout

    def forbid_all(request: Request) -> Fault | None:
        return Fault(status=403) if request.key else None

    with LocalS3(BUCKET, fault=forbid_all) as server:
        every = run(
            "collect",
            "config.json",
            "--endpoint-url",
            server.url,
            "--output-directory",
            "other",
            cwd=tmp_path,
        )
    assert every.returncode == 1
    assert "Collection failed" in every.stdout
    assert "nothing was collected" in every.stderr


def test_an_endpoint_that_is_not_there_is_named(tmp_path: Path, config: Path) -> None:
    said = run("plan", "config.json", "--endpoint-url", "http://127.0.0.1:9", cwd=tmp_path)
    assert said.returncode == 1
    assert "http://127.0.0.1:9" in said.stderr
    assert "Traceback" not in said.stderr


def test_an_interrupt_exits_with_130_and_leaves_only_proven_files(
    tmp_path: Path, config: Path
) -> None:
    def hang(request: Request) -> Fault | None:
        wanted = request.method == "GET" and request.key.endswith("07-02.zip")
        return Fault(hang_after=10) if wanted else None

    with LocalS3(BUCKET, fault=hang) as server:
        command = [sys.executable, "-m", "binance_archive_kit.cli", "collect", "config.json"]
        with subprocess.Popen(
            [*command, "--endpoint-url", server.url],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as child:
            while not any(
                verb == "GET" and key.endswith("07-02.zip") for verb, key in server.requests
            ):
                assert child.poll() is None
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            _, complaint = child.communicate(timeout=20)
    assert child.returncode == 130
    assert "run it again" in complaint
    for path in (tmp_path / "out" / "data").rglob("*.zip"):
        assert path.read_bytes() == BUCKET[path.relative_to(tmp_path / "out").as_posix()]
