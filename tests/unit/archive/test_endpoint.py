"""Tests of the endpoint, the route to it, and the advice on network errors."""

from __future__ import annotations

import pytest

from binance_archive_kit.archive.endpoint import Route, advice_on, endpoint_of, open_file_limit
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.errors import ConfigurationError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_given_endpoint_precedes_the_environment_and_the_matrix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matrix = load_matrix()
    assert endpoint_of(None, matrix) == matrix.archive.endpoint
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:1/")
    assert endpoint_of(None, matrix) == "http://127.0.0.1:1"
    assert endpoint_of("http://127.0.0.1:2", matrix) == "http://127.0.0.1:2"
    monkeypatch.setenv("S3_ENDPOINT_URL", "ftp://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"^S3_ENDPOINT_URL"):
        endpoint_of(None, matrix)


def test_plain_http_needs_no_certificates() -> None:
    assert Route.to("http://127.0.0.1:1") == Route("http://127.0.0.1:1", None, None, None)


def test_tls_and_text_have_the_same_certificates() -> None:
    route = Route.to("https://archive.example")
    assert route.tls is not None
    assert route.certificates is not None
    assert route.certificates.count("-----BEGIN CERTIFICATE-----") >= len(route.tls.get_ca_certs())


def test_a_password_is_in_no_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "me:secret@127.0.0.1:9")
    route = Route.to("http://archive.example")
    assert route.proxy == "http://me:secret@127.0.0.1:9"
    assert route.through == " through the proxy http://***@127.0.0.1:9"
    assert "secret" not in repr(route)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        # httpx, libcurl and s5cmd
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "SSL_CERT_FILE"),
        ("SSL certificate OpenSSL verify result: self-signed certificate (18)", "SSL_CERT_FILE"),
        ("x509: certificate signed by unknown authority", "SSL_CERT_FILE"),
        ("Hostname mismatch, certificate is not valid for 'a'", "another host's"),
        ("SSL: no alternative certificate subject name matches target host", "another host's"),
        ("x509: certificate is valid for a, not b", "another host's"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "no TLS at that port"),
        ("TLS connect error: error:0A00010B:SSL routines::wrong version number", "no TLS at that"),
        ("http: server gave HTTP response to HTTPS client", "no TLS at that port"),
        ("[Errno -2] Name or service not known", "cannot be resolved"),
        ("Could not resolve host: nowhere.example", "cannot be resolved"),
        ("dial tcp: lookup nowhere.example: no such host", "cannot be resolved"),
        ("All connection attempts failed", "nothing answers there"),
        ("Failed to connect to 127.0.0.1 port 9: Could not connect to server", "nothing answers"),
        ("dial tcp 127.0.0.1:9: connect: connection refused", "nothing answers there"),
        ("the proxy answered with status 407", "a user and a password"),
        ("an unknown message", ""),
    ],
)
def test_messages_of_each_client_have_the_same_advice(message: str, advice: str) -> None:
    assert advice in advice_on(message)
    assert bool(advice) == bool(advice_on(message))


def test_the_hard_limit_on_open_files_is_not_below_the_soft_one() -> None:
    assert 0 < open_file_limit() <= open_file_limit(hard=True)
