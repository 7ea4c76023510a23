"""The way to the archive: trust, proxies and refusals, for listing, checksums and s5cmd alike."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive import digests as checksums
from binance_archive_kit.archive import listing as archive
from binance_archive_kit.download import proof_queue
from binance_archive_kit.errors import ConfigurationError, ListingError, WorkflowError
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import daily_klines, zips_of
from tests.support.checks import assert_holds, reasons_of
from tests.support.faults import on_checksum, on_zip
from tests.support.relay import OPENSSL, Relay, certificate
from tests.support.s3_server import Fault, LocalS3

TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what this machine says of proxies and trust away, and try once only."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in TRUST:
        monkeypatch.delenv(name, raising=False)
    for module in (archive, checksums, proof_queue):
        monkeypatch.setattr(module, "_TRIES", 1)


@pytest.fixture
def tls(serve: Serve, tmp_path: Path) -> Iterator[tuple[LocalS3, Relay, Path]]:
    """Serve a bucket through TLS, with a certificate that nobody trusts yet."""
    if OPENSSL is None:
        pytest.skip("certificates are made by openssl")
    folder = tmp_path / "certificates"
    folder.mkdir()
    server, path = serve(daily_klines("BTCUSDT")), certificate(folder)
    with Relay(server.url, path) as relay:
        yield server, relay, path


@pytest.mark.parametrize("variable", TRUST)
def test_each_way_to_name_an_authority_is_enough_for_all_connections(
    tls: tuple[LocalS3, Relay, Path],
    ask: Ask,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    server, relay, path = tls
    config = ask(server, endpoint_url=relay.url)
    with pytest.raises(ListingError, match="name its PEM file in SSL_CERT_FILE"):
        bak.collect(config)
    assert server.requests == []
    # Set later, as in the next cell of a notebook.
    monkeypatch.setenv(variable, str(path.parent if variable.endswith("DIR") else path))
    assert bak.collect(config).outcome == "complete"
    assert_holds(store, zips_of(daily_klines("BTCUSDT")))


def test_an_authority_besides_another_is_enough(
    tls: tuple[LocalS3, Relay, Path], ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine may name its own authorities for some programs, and ours for others."""
    server, relay, path = tls
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate(other)))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert bak.collect(ask(server, endpoint_url=relay.url)).outcome == "complete"


def test_keys_are_not_handed_on_with_certificates(
    tls: tuple[LocalS3, Relay, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from binance_archive_kit.archive.endpoint import Route

    monkeypatch.setenv("SSL_CERT_FILE", str(tls[2]))
    assert "PRIVATE KEY" in tls[2].read_text()
    assert "PRIVATE KEY" not in str(Route.to(tls[1].url).certificates)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "AWS_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, b"", b"\0", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_file_without_certificates_is_named(
    serve: Serve,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    content: bytes | None,
) -> None:
    path = tmp_path / "no.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(variable, str(path))
    server = serve({})
    with pytest.raises(ConfigurationError, match=f"{variable}: .*no.pem"):
        bak.collect(ask(server, endpoint_url="https://localhost:9"))
    # What is not asked through TLS needs none.
    assert bak.plan(ask(server)).total_bytes == 0


# Refusals


def test_refused_checksums_say_how_to_go_on(serve: Serve, ask: Ask, store: Path) -> None:
    bucket = daily_klines("BTCUSDT", days=3)
    server = serve(bucket, on_checksum("", Fault(status=403)))
    with pytest.raises(WorkflowError, match="3 forbidden") as caught:
        bak.collect(ask(server, days=3))
    assert caught.value.result is not None
    for failure in caught.value.result.failures:
        assert server.url in failure.detail
        assert "download_checksum=False" in failure.detail
    assert bak.collect(ask(server, days=3, download_checksum=False)).outcome == "complete"
    assert_holds(store, zips_of(bucket), by="etag")


@pytest.mark.parametrize(
    ("status", "said"), [(403, "a firewall on the way forbids it"), (451, "legal reasons")]
)
@pytest.mark.parametrize("part", ["zip", "checksum"])
def test_refused_objects_are_explained(
    serve: Serve, ask: Ask, status: int, said: str, part: str
) -> None:
    on = on_zip if part == "zip" else on_checksum
    server = serve(daily_klines("BTCUSDT", days=2), on("07-01", Fault(status=status)))
    if part == "zip":
        # s5cmd asks by HEAD for large objects only; either way the answer is the same.
        server.fault = lambda r: Fault(status=status) if r.key[-9:] == "07-01.zip" else None
    result = bak.collect(ask(server, days=2))
    assert set(reasons_of(result).values()) == {"forbidden"}
    assert said in result.failures[0].detail


# Proxies


@pytest.mark.parametrize("download_checksum", [True, False])
def test_a_dead_proxy_is_named_by_each_connection(
    serve: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch, download_checksum: bool
) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    config = ask(
        serve({}),
        days=1,
        endpoint_url="http://archive.example",
        listing=False,
        download_checksum=download_checksum,
    )
    with pytest.raises(WorkflowError) as caught:
        bak.collect(config)
    assert caught.value.result is not None
    for failure in caught.value.result.failures:
        assert failure.reason == "connection"
        assert "127.0.0.1:9" in failure.detail
        assert "check the proxy" in failure.detail
        assert "secret" not in str(failure)
    with pytest.raises(ListingError, match=r"the proxy http://\*\*\*@127\.0\.0\.1:9"):
        bak.collect(config.replace(listing=True))


def test_all_connections_take_the_same_proxy(
    tls: tuple[LocalS3, Relay, Path], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only ``all_proxy`` names it, which s5cmd does not know of by itself."""
    server, relay, path = tls
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with Relay() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        s5cmd = bak.collect(ask(server, endpoint_url=relay.url))
        assert s5cmd.outcome == "complete"
        assert proxy.connections > 1
        seen = proxy.connections
        monkeypatch.setenv("no_proxy", "localhost")
        assert bak.collect(ask(server, endpoint_url=relay.url, force_redownload=True)).outcome == (
            "complete"
        )
        assert proxy.connections == seen


# Passwords and control characters


def test_a_password_reaches_no_process(
    serve: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line of s5cmd is for everyone on the machine to read."""
    seen: list[str] = []

    def look(_: object) -> Fault | None:
        told = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        seen.append(told.stdout)
        return None

    monkeypatch.setenv("http_proxy", "http://me:topsecret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = serve(daily_klines("BTCUSDT", days=1), on_zip("", Fault()))
    server.fault = look
    assert bak.collect(ask(server, days=1)).outcome == "complete"
    assert any("s5cmd" in each for each in seen)
    assert not any("topsecret" in each for each in seen)


def test_a_line_end_in_the_working_directory_is_no_command(
    serve: Serve, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a\nrm s3:"
    odd.mkdir()
    monkeypatch.chdir(odd)
    server = serve(daily_klines("BTCUSDT", days=1))
    with pytest.raises(ConfigurationError, match=r"^output_directory: .*control characters"):
        bak.collect(ask(server, days=1, output_directory="store"))
    assert not any(odd.iterdir())
