"""A server of object storage on loopback, with one bucket: moto's, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pyarrow.fs import S3FileSystem

from binance_archive_kit.storage.bucket import Bucket

#: Prints its port, and ends with its input.
_SERVER = """\
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
BUCKET = "research"


@contextmanager
def object_storage() -> Iterator[str]:
    """Run a server with an empty bucket named `BUCKET`; give its URL."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        # An unread pipe would block the server one day.
        threading.Thread(target=server.stdout.read, daemon=True).start()
        endpoint = f"http://127.0.0.1:{port}"
        client = S3FileSystem(
            access_key="tester",
            secret_key="secret",
            region="us-east-1",
            endpoint_override=endpoint,
            allow_bucket_creation=True,
        )
        client.create_dir(BUCKET)
        try:
            yield endpoint
        finally:
            server.kill()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Yield the URL of a server with an empty bucket named `BUCKET`."""
    with object_storage() as endpoint:
        yield endpoint


def s3_environment(endpoint: str) -> dict[str, str]:
    """Return the variables with which a process reaches the server."""
    return {
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty prefix, and set the environment that reaches it."""
    return reach(s3_endpoint, monkeypatch)


def reach(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set the environment that reaches a server, and return the URL of an empty prefix there."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/test {uuid.uuid4().hex[:8]}"


@pytest.fixture
def bucket(s3_url: str) -> Bucket:
    """Return an empty prefix of a bucket."""
    return Bucket.parse(s3_url)
