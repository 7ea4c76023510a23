"""Ways to the archive that real lines have: TLS, and a proxy in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from binance_archive_kit.archive import endpoint as environment
from binance_archive_kit.collection.collect import collect
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import daily_klines, zips_of
from tests.support.checks import assert_holds, assert_no_downloader, reasons_of
from tests.support.relay import OPENSSL, Relay, certificate


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a certificate, and have it trusted as the machine's own."""
    if OPENSSL is None:
        pytest.skip("certificates are made by openssl")
    path = certificate(tmp_path)
    for name in ("SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        monkeypatch.setenv(name, str(path))
    environment._trust.cache_clear()
    yield path
    environment._trust.cache_clear()


def test_everything_goes_through_tls(serve: Serve, ask: Ask, store: Path, trusted: Path) -> None:
    bucket = daily_klines("BTCUSDT", days=40)
    server = serve(bucket)
    with Relay(server.url, trusted) as relay:
        result = collect(ask(server, days=40, endpoint_url=relay.url))
        assert_no_downloader(relay.url)
    assert reasons_of(result) == {}
    assert result.outcome == "complete"
    assert_holds(store, zips_of(bucket))
