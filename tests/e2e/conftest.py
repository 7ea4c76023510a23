"""Every test collects with the real s5cmd from a server of its own that can do wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from binance_archive_kit.planning.config import CollectionConfig
from tests.support.bucket import FIRST
from tests.support.checks import assert_no_downloader, assert_nothing_staged
from tests.support.faults import Rule
from tests.support.prefect_server import prefect_server, served_minutely
from tests.support.s3_bucket import bucket, s3_endpoint, s3_url
from tests.support.s3_server import LocalS3

__all__ = ["bucket", "prefect_server", "s3_endpoint", "s3_url", "served_minutely"]

Serve = Callable[..., LocalS3]
Ask = Callable[..., CollectionConfig]
#: The folder of a deployment that is served, and the archive it collects from.
Served = tuple[Path, LocalS3]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Name the output directory, which is not there yet."""
    return tmp_path / "store"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Lend a function that serves a bucket; afterwards no trace of a download may be left."""
    servers: list[LocalS3] = []

    def start(bucket: Mapping[str, bytes] | Path, fault: Rule | None = None) -> LocalS3:
        servers.append(LocalS3(bucket, fault=fault).start())
        return servers[-1]

    yield start
    try:
        for server in servers:
            assert_no_downloader(server.url)
        for private in tmp_path.rglob(".binance_archive_kit"):
            assert_nothing_staged(private.parent)
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def ask(store: Path) -> Ask:
    """Lend a function that asks a server for days of candles, into the store."""

    def config(
        server: LocalS3,
        *symbols: str,
        start: date = FIRST,
        days: int = 5,
        **changes: Any,
    ) -> CollectionConfig:
        fields: dict[str, Any] = {
            "markets": ["spot"],
            "symbols": list(symbols or ["BTCUSDT"]),
            "data_types": ["klines"],
            "intervals": {"klines": ["1h"]},
            "date_range": {"start": start, "end": start + timedelta(days=days - 1)},
            "output_directory": store,
            "endpoint_url": server.url,
            # s5cmd backs off longer with every retry; the library tries again by itself.
            "s5cmd_extra_args": ["--retry-count=1"],
        }
        return CollectionConfig(**fields | changes)

    return config


@pytest.fixture(scope="session")
def prefect_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a Prefect server on loopback, and give the environment that leads to it."""
    if find_spec("prefect") is None:
        pytest.skip("the prefect extra is not installed")
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


@pytest.fixture(scope="session")
def served(
    prefect_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Serve a deployment with a one-minute schedule while other tests run."""
    folder = tmp_path_factory.mktemp("served")
    with served_minutely(folder, prefect_env) as server:
        yield folder, server
