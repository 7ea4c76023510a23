"""Proxies with and without a password, to the archive and to a bucket, for every client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive import digests, listing
from binance_archive_kit.archive.curl_pool import Limits
from binance_archive_kit.archive.endpoint import Route
from binance_archive_kit.archive.single_requests import SingleRequests
from binance_archive_kit.display.background import Worker
from binance_archive_kit.download import proof_queue
from binance_archive_kit.storage import bucket_access
from binance_archive_kit.storage.bucket import Bucket
from tests.e2e.conftest import Ask, Serve
from tests.support.answers import Answers, ok
from tests.support.bucket import daily_klines, zips_of
from tests.support.checks import assert_holds
from tests.support.proxy import Proxy
from tests.support.relay import OPENSSL, Relay, certificate

#: The server of the bucket would take a name with dots for that of a bucket.
ARCHIVE, TARGET = "archive.example", "objectstorage"
#: As a user and a password are written in a URL, and as a proxy wants them.
WRITTEN, LOGIN = "me:s%40cret@", "me:s@cret"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take this machine's proxies away, set secrets that must not leave it, and try once."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for module in (listing, digests, proof_queue):
        monkeypatch.setattr(module, "_TRIES", 1)
    monkeypatch.setattr(bucket_access, "_RETRIES", 0)
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = FILEKEY\naws_secret_access_key = FILESECRET\n"
    )
    (home / ".netrc").write_text(f"machine {ARCHIVE} login NETRCUSER password NETRCSECRET\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "VARIABLESECRET")


@pytest.fixture(params=["http", "https"])
def way(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], tuple[str, str]]]:
    """Lend a function that gives the scheme, and the URL at which a server speaks it."""
    relays: list[Relay] = []

    def lead(url: str) -> tuple[str, str]:
        if request.param == "http":
            return "http", url
        if OPENSSL is None:
            pytest.skip("certificates are made by openssl")
        path = certificate(tmp_path, ARCHIVE, TARGET)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        relays.append(Relay(url, path))
        return "https", relays[-1].__enter__().url

    yield lead
    for relay in relays:
        relay.__exit__()


def assert_discreet(proxy: Proxy) -> None:
    """Nothing that identifies a user goes to the archive; the proxy knows its own password."""
    for head in proxy.heads:
        names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:]}
        assert not {"authorization", "cookie", "x-amz-security-token"} & names, head
        for secret in ("SECRET", "FILEKEY", "NETRCUSER"):
            assert secret not in head


@pytest.mark.parametrize("variable", ["{}_proxy", "{}_PROXY", "all_proxy", "ALL_PROXY"])
def test_every_client_reaches_the_archive_through_a_proxy_with_a_password(
    serve: Serve,
    ask: Ask,
    store: Path,
    way: Callable[[str], tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    bucket = daily_klines("BTCUSDT", days=3)
    scheme, url = way(serve(bucket).url)
    name = variable.format(scheme if variable[-1].islower() else scheme.upper())
    with Proxy({ARCHIVE: url}, LOGIN) as proxy:
        monkeypatch.setenv(name, f"http://{WRITTEN}{proxy.address}")
        config = ask(serve({}), days=3, endpoint_url=f"{scheme}://{ARCHIVE}")
        assert bak.collect(config).outcome == "complete"
        assert_holds(store, zips_of(bucket))
        assert bak.verify(store, archive=True, endpoint_url=f"{scheme}://{ARCHIVE}").sound
        with_httpx = len(proxy.heads)
        outcome = Worker(lambda: _ask_singly(config.endpoint_url or "")).wait()
        assert getattr(outcome, "status", outcome) == 200
        assert len(proxy.heads) > with_httpx
        assert_discreet(proxy)
        if scheme == "http":
            # None of them asks for a tunnel, which many proxies allow for TLS only.
            for part in ("prefix=", ".CHECKSUM", ".zip "):
                assert any(part in head for head in proxy.heads), part
    assert "s%40cret" not in repr(Route.to(f"{scheme}://{ARCHIVE}"))


async def _ask_singly(endpoint: str) -> object:
    async with SingleRequests(Route.to(endpoint), Limits(1, 10, 10, 1 << 20)) as requests:
        return await requests.send("/data.binance.vision?prefix=data/")


def test_a_bucket_is_reached_through_a_proxy_with_a_password(
    s3_url: str,
    s3_endpoint: str,
    way: Callable[[str], tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """By Arrow and by s5cmd, which sign their requests; the signature is no secret."""
    scheme, url = way(s3_endpoint)
    bucket = Bucket.parse(s3_url)
    (tmp_path / "file").write_bytes(b"abc")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{scheme}://{TARGET}")
    with Proxy({TARGET: url}, LOGIN) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{WRITTEN}{proxy.address}")
        assert bucket.upload({"a": tmp_path / "file"}) == {}
        seen = len(proxy.heads)
        assert bucket.read("a") == b"abc"
        assert 0 < seen < len(proxy.heads)
        assert not any("not-a-real-secret" in head for head in proxy.heads)
    with Proxy({TARGET: url}, "another:login") as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{WRITTEN}{proxy.address}")
        [problem] = bucket.upload({"a": tmp_path / "file"}).values()
        with pytest.raises(bak.StoreError) as raised:
            bucket.list()
        for said in (problem, str(raised.value)):
            assert "the proxy asks for a user and a password" in said
            assert "s%40cret" not in said
            assert "s@cret" not in said


@pytest.mark.parametrize("client", ["listing", "digests", "s5cmd"])
def test_a_refusing_proxy_is_explained_by_each_client(
    serve: Serve,
    ask: Ask,
    way: Callable[[str], tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    client: str,
) -> None:
    scheme, url = way(serve(daily_klines("BTCUSDT", days=1)).url)
    with Proxy({ARCHIVE: url}, LOGIN) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://me:wrong@{proxy.address}")
        config = ask(
            serve({}),
            days=1,
            endpoint_url=f"{scheme}://{ARCHIVE}",
            listing=client == "listing",
            download_checksum=client == "digests",
        )
        with pytest.raises(bak.ArchiveKitError) as raised:
            bak.collect(config)
        assert proxy.refused
        assert "the proxy asks for a user and a password" in str(raised.value)
        assert "wrong" not in str(raised.value)


def test_no_proxy_is_obeyed(serve: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(daily_klines("BTCUSDT", days=1))
    with Proxy({}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
        for value in ("127.0.0.1", "*"):
            monkeypatch.setenv("NO_PROXY", value)
            config = ask(server, days=1, force_redownload=True)
            assert bak.collect(config).outcome == "complete"
        assert proxy.heads == []


def test_a_cookie_is_not_sent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask_twice() -> None:
        async with SingleRequests(Route.to(f"http://{ARCHIVE}"), Limits(1, 9, 9, 99)) as requests:
            for _ in range(2):
                await requests.send("/")

    with (
        Answers(lambda _: ok(b"", "Set-Cookie: id=1; Path=/")) as server,
        Proxy({ARCHIVE: server.url}) as proxy,
    ):
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        Worker(ask_twice).wait()
        assert len(proxy.heads) == 2
        assert_discreet(proxy)
