"""Published digests, fetched over real connections: straight, through TLS and through proxies."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from binance_archive_kit.archive import digests as checksums
from binance_archive_kit.archive import endpoint as environment
from binance_archive_kit.archive.digests import Answer, DigestClient, read_digest
from binance_archive_kit.errors import (
    AbsentChecksum,
    BadChecksum,
    ConnectionLost,
    Forbidden,
    ObjectError,
    ServerFault,
    Stalled,
    Throttled,
)
from tests.support.relay import OPENSSL, Relay, certificate
from tests.support.s3_server import Fault, LocalS3, Request

KEYS = [f"data/spot/daily/trades/币{at}/币{at}-trades-2025-07-15.zip" for at in range(200)]
DIGESTS = {key: hashlib.sha256(key.encode()).hexdigest() for key in KEYS}
OBJECTS = {f"{key}.CHECKSUM": f"{digest}  a.zip\n".encode() for key, digest in DIGESTS.items()}


@pytest.fixture
def server() -> Iterator[LocalS3]:
    with LocalS3(OBJECTS) as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a certificate, and have it trusted as the machine's own."""
    if OPENSSL is None:
        pytest.skip("certificates are made by openssl")
    path = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    environment._trust.cache_clear()
    yield path
    environment._trust.cache_clear()


def fetch(
    endpoint: str, keys: list[str], connections: int = 8, timeout: float = 5
) -> dict[str, Answer]:
    """Ask for digests, and wait for all answers."""
    answers: dict[str, Answer] = {}

    async def main() -> None:
        done = asyncio.Event()

        def take(key: str, answer: Answer) -> None:
            assert key not in answers
            answers[key] = answer
            if len(answers) == len(keys):
                done.set()

        bucket = "data.binance.vision"
        async with DigestClient(
            endpoint, bucket, take, connections=connections, timeout=timeout
        ) as client:
            client.request(keys[:50])
            client.request(keys[50:])
            async with asyncio.timeout(30):
                await done.wait()

    asyncio.run(main(), debug=True)
    return answers


@pytest.mark.parametrize("connections", [1, 8, 500])
def test_digests_are_fetched(server: LocalS3, connections: int) -> None:
    assert fetch(server.url, KEYS, connections) == DIGESTS
    assert sorted(server.requests) == sorted(("GET", name) for name in OBJECTS)


def test_connections_are_reused(server: LocalS3) -> None:
    with Relay(server.url) as relay:
        assert fetch(relay.url, KEYS, 3) == DIGESTS
        assert relay.connections == 3


def test_digests_are_fetched_through_tls(server: LocalS3, trusted: Path) -> None:
    with Relay(server.url, trusted) as relay:
        assert fetch(relay.url, KEYS) == DIGESTS


def test_an_untrusted_endpoint_receives_no_request(
    server: LocalS3, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setattr(checksums, "_TRIES", 2)
    with Relay(server.url, trusted) as relay:
        (answer,) = fetch(relay.url, KEYS[:1]).values()
    assert isinstance(answer, ConnectionLost)
    assert "certificate is not trusted" in answer.detail
    assert server.requests == []


def test_digests_are_fetched_through_a_proxy(
    server: LocalS3, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Relay(server.url, trusted) as relay, Relay() as proxy:
        at = proxy.url.removeprefix("http://")
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@{at}")
        assert fetch(relay.url, KEYS, 4) == DIGESTS
        assert len(proxy.asked) == 4
        to = relay.url.rpartition("/")[2]
        for head in proxy.asked:
            assert head.startswith(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n")
            assert "Basic bWU6cEBzcw==" in head
        monkeypatch.setenv("no_proxy", "localhost")
        assert fetch(relay.url, KEYS, 4) == DIGESTS
        assert len(proxy.asked) == 4


def test_a_proxy_that_refuses_is_named(server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_TRIES", 2)
    with Relay(most=0) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        answers = fetch("https://archive.example", KEYS[:3])
    assert len(answers) == 3
    for answer in answers.values():
        assert isinstance(answer, ConnectionLost)
        assert "proxy answered with status 429" in answer.detail
    assert server.requests == []


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://127.0.0.1:9", "nothing answers there"),
        ("http://nosuchhost.invalid", "cannot be resolved"),
        ("http://bücher.invalid", "cannot be resolved"),
    ],
)
def test_an_endpoint_that_cannot_be_reached_is_named(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, said: str
) -> None:
    monkeypatch.setattr(checksums, "_TRIES", 2)
    count = 20 if "127" in endpoint else 1
    answers = fetch(endpoint, KEYS[:count], timeout=20)
    assert len(answers) == count
    for answer in answers.values():
        assert isinstance(answer, ConnectionLost)
        assert endpoint in answer.detail
        assert said in answer.detail


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("http://me:secret@127.0.0.1:9", "the proxy cannot be reached"),
        ("http://me:secret@nosuchhost.invalid", "the proxy's name cannot be resolved"),
    ],
)
def test_an_unreachable_proxy_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str, said: str
) -> None:
    monkeypatch.setattr(checksums, "_TRIES", 2)
    monkeypatch.setenv("http_proxy", proxy)
    (answer,) = fetch("http://archive.example", KEYS[:1], timeout=20).values()
    assert isinstance(answer, ConnectionLost)
    assert said in answer.detail
    assert f"through the proxy http://***@{proxy.partition('@')[2]}" in answer.detail
    assert "secret" not in str(answer)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(status=302), Forbidden),
        (Fault(status=404), AbsentChecksum),
        (Fault(status=403), Forbidden),
        (Fault(status=451), Forbidden),
        (Fault(status=500), ServerFault),
        (Fault(status=503), Throttled),
        (Fault(body=b"x" * (2 << 20)), ConnectionLost),
        (Fault(body=b"<html>"), BadChecksum),
        (Fault(hang_after=0), Stalled),
        (Fault(hang_after=20), Stalled),
        (Fault(cut_after=10), ConnectionLost),
    ],
)
def test_a_failed_request_affects_no_other(
    server: LocalS3, monkeypatch: pytest.MonkeyPatch, fault: Fault, kind: type[ObjectError]
) -> None:
    monkeypatch.setattr(checksums, "_TRIES", 2)

    def rule(request: Request) -> Fault | None:
        return fault if request.key.startswith(KEYS[7]) else None

    server.fault = rule
    answers = fetch(server.url, KEYS, timeout=1)
    answer = answers.pop(KEYS[7])
    assert isinstance(answer, kind)
    if isinstance(answer, ConnectionLost | Forbidden | Stalled | Throttled | ServerFault):
        assert server.url in answer.detail
    if isinstance(answer, Forbidden | AbsentChecksum):
        assert "download_checksum=False" in answer.detail
    assert answers == {key: digest for key, digest in DIGESTS.items() if key != KEYS[7]}


def test_a_slow_answer_is_accepted(server: LocalS3) -> None:
    server.fault = lambda _: Fault(bytes_per_second=60)
    assert fetch(server.url, KEYS[:3], timeout=1) == {key: DIGESTS[key] for key in KEYS[:3]}


def test_a_server_that_asks_for_a_pause_gets_it(server: LocalS3) -> None:
    times: list[float] = []

    def rule(request: Request) -> Fault | None:
        times.append(time.monotonic())
        return Fault(429, headers=("Retry-After: 1",)) if request.attempt == 1 else None

    server.fault = rule
    assert fetch(server.url, KEYS[:1]) == {KEYS[0]: DIGESTS[KEYS[0]]}
    first, second = times
    assert second - first >= 1


def test_closed_connections_are_reopened(server: LocalS3) -> None:
    """A kept-alive connection may be closed at any moment; once, that costs no try."""
    seen: set[str] = set()

    def rule(request: Request) -> Fault | None:
        first = request.key not in seen
        seen.add(request.key)
        return Fault(cut_after=0) if first else None

    server.fault = rule
    assert fetch(server.url, KEYS) == DIGESTS


def test_only_a_digest_is_parsed_as_one() -> None:
    assert read_digest("k", b"  " + b"AB" * 32 + b"  name.zip\r\n") == "ab" * 32
    for body in (b"", b"<html>", b"ab" * 31, b"ab" * 33):
        assert isinstance(read_digest("k", body), BadChecksum)


def test_refused_connections_are_not_needed(
    server: LocalS3, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Relay(server.url, trusted) as relay, Relay(most=2) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        assert fetch(relay.url, KEYS, 20) == DIGESTS
        assert len(proxy.asked) > 2


def test_descriptors_above_1023_are_no_obstacle(server: LocalS3) -> None:
    """As in a process with many open files; `select` cannot wait for them."""
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2_000:
        pytest.skip("the limit on open files is too low")
    with ExitStack() as files:
        for _ in range(1_100):
            files.enter_context(Path("/dev/null").open())
        assert fetch(server.url, KEYS) == DIGESTS


def test_no_thread_is_left_behind(server: LocalS3) -> None:
    async def main() -> None:
        async with DigestClient(
            server.url, "data.binance.vision", lambda *_: None, connections=8, timeout=5
        ) as client:
            client.request(KEYS)

    before = threading.active_count()
    asyncio.run(main())
    assert not [each for each in threading.enumerate() if each.name == "curl"]
    assert threading.active_count() <= before
