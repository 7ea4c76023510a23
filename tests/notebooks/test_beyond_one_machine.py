"""The README's page about several machines: its code and commands run, its permissions suffice."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

import binance_archive_kit as bak
from tests.benchmarks.spreading_arithmetic import table
from tests.notebooks.test_readme import README

[PAGE] = re.findall(r"^## When one machine is not enough\n(.*?)^## ", README, re.M | re.S)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
BIN = Path(sys.executable).parent
#: Requests before which the server grants everything: two buckets, a user, policy and key.
UNCHECKED = 5
#: S3 checks the permission to delete for each of the objects of a request, moto for the bucket.
MANY_AT_ONCE = {
    "Effect": "Allow",
    "Action": "s3:DeleteObject",
    "Resource": "arn:aws:s3:::research",
}


def block_of(language: str, word: str) -> str:
    """Return the one block of a language that contains a word."""
    [found] = [text for name, text in BLOCKS if name == language and word in text]
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: list[str], log: Path, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the end of the block."""
    environment = os.environ | changes
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def send(url: str, service: str, method: str, **fields: str) -> str:
    """Send a request of an administrator, which the server does not check."""
    scope = f"Credential=admin/20250101/us-east-1/{service}/aws4_request"
    signed = f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none"
    body = urlencode(fields).encode() or None
    request = Request(url, body, {"Authorization": signed}, method=method)
    for _ in range(100):
        try:
            with urlopen(request) as answer:
                return str(answer.read().decode())
        except ConnectionError:
            time.sleep(0.1)
        except OSError as error:
            if not isinstance(getattr(error, "reason", None), ConnectionError):
                raise
            time.sleep(0.1)
    raise TimeoutError(url)


@contextmanager
def guarded_bucket(folder: Path) -> Iterator[dict[str, str]]:
    """Serve the bucket to a user who has the permissions of the page, and no others.

    Gives the variables with which this user reaches it.
    """
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    checked = {"INITIAL_NO_AUTH_ACTION_COUNT": str(UNCHECKED)}
    with running(command, folder / "moto.log", **checked):
        for bucket in ("research", "other"):
            send(f"{endpoint}/{bucket}", "s3", "PUT")
        user = {"Version": "2010-05-08", "UserName": "collector"}
        document = json.loads(block_of("json", "Statement"))
        document["Statement"].append(MANY_AT_ONCE)
        policy = {"PolicyName": "page", "PolicyDocument": json.dumps(document)}
        send(endpoint, "iam", "POST", Action="CreateUser", **user)
        send(endpoint, "iam", "POST", Action="PutUserPolicy", **user, **policy)
        answer = send(endpoint, "iam", "POST", Action="CreateAccessKey", **user)
        [key] = re.findall("<AccessKeyId>(.*?)<", answer)
        [secret] = re.findall("<SecretAccessKey>(.*?)<", answer)
        yield {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve archive, bucket and cluster; give the folder of a machine that reaches them."""
    folder = tmp_path_factory.mktemp("page")
    with bak.demo_archive() as archive, ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in stack.enter_context(guarded_bucket(folder)).items():
            patch.setenv(name, value)
        patch.setenv("S3_ENDPOINT_URL", archive)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
        patch.chdir(folder)
        address = f"tcp://127.0.0.1:{free_port()}"
        for number, line in enumerate(block_of("sh", "dask scheduler").splitlines()):
            command = line.replace("tcp://scheduler:8786", address)
            command = command.replace("--host scheduler", f"--host {address}")
            options = ["--dashboard-address", "127.0.0.1:0"]
            log = folder / f"dask-{number}.log"
            stack.enter_context(running([*shlex.split(command), *options], log))
        script = block_of("python", "spread.py").replace("tcp://scheduler:8786", address)
        Path("spread.py").write_text(script)
        yield folder


@pytest.fixture(scope="module")
def spread(machine: Path) -> str:
    """Run the page's script; return what it prints."""
    said = subprocess.run(
        [sys.executable, "-W", "error", "spread.py"], capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr
    return said.stdout


def test_a_cluster_collects_into_the_bucket(spread: str) -> None:
    assert spread.startswith("Collection complete · ")


def test_the_bucket_is_read_like_a_folder(spread: str) -> None:
    names: dict[str, Any] = {"bak": bak}
    exec(block_of("python", "bak.coverage("), names)
    rows = bak.sql(names["con"], "SELECT count(*) AS n FROM futures_um_klines")["n"][0]
    [collected] = re.findall(r"of (\d+) objects", spread)
    assert rows == int(collected)  # a daily candle in each
    names["con"].close()


def test_the_permissions_are_needed(spread: str) -> None:
    for url in ("s3://research/elsewhere", "s3://other/candles"):
        with pytest.raises(bak.ArchiveKitError, match="denied"):
            bak.collect(
                markets=["spot"],
                symbols=["BTCUSDT"],
                data_types=["klines"],
                intervals={"klines": ["1d"]},
                date_range={"start": "2025-07-01", "end": "2025-07-02"},
                output_directory=url,
            ).raise_for_failures()


def test_other_engines_run_the_shards(spread: str, machine: Path) -> None:
    Path("shards.py").write_text(block_of("python", "shards.py"))
    subprocess.run([sys.executable, "shards.py"], check=True, timeout=60)
    shards = sorted(Path("shards").iterdir())
    assert shards
    assert all(shard.stat().st_size < 2048 for shard in shards)
    [wrapped] = re.findall(r"--wrap '(.*)'", block_of("sh", "sbatch"))
    for shard in shards:
        said = subprocess.run(
            ["sh", "-c", f"{wrapped} --json"],
            env=os.environ | {"SLURM_ARRAY_TASK_ID": shard.stem},
            capture_output=True,
            text=True,
            timeout=60,
        )
        # They are in the bucket already.
        assert json.loads(said.stdout)["collection_stats"]["successful_tasks"] == 0, said.stderr


def test_the_arithmetic_is_that_of_the_measured_figures() -> None:
    assert table() in PAGE
