"""Real files of the archive, served as the bucket and collected whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.collection.collect import collect
from binance_archive_kit.planning.config import CollectionConfig
from tests.support.checks import assert_holds, assert_nothing_staged, files_of
from tests.support.s3_server import LocalS3

SAMPLES = os.environ.get("BINANCE_ARCHIVE_SAMPLES")

pytestmark = pytest.mark.skipif(
    not SAMPLES, reason="BINANCE_ARCHIVE_SAMPLES names no folder of real archive files"
)


def samples() -> dict[str, bytes]:
    held = files_of(Path(SAMPLES or "."))
    return {key: body for key, body in held.items() if key.endswith(".zip")}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalS3]:
    with LocalS3(Path(SAMPLES or ".")) as server:
        yield server


def config_for(key: ObjectKey, server: LocalS3, store: Path, *, after: int = 0) -> CollectionConfig:
    """Ask for one object and nothing else, or for `after` days more."""
    stream = key.folder
    return CollectionConfig(
        markets=[stream.market],
        symbols=[stream.symbol],
        data_types=[stream.data_type],
        intervals={stream.data_type: [stream.interval]} if stream.interval else {},
        partition=stream.partition,
        date_range={"start": key.start, "end": key.end + timedelta(days=after)},
        output_directory=store,
        endpoint_url=server.url,
    )


def test_every_real_file_is_collected_and_proven(server: LocalS3, tmp_path: Path) -> None:
    zips = samples()
    assert len(zips) > 20
    store = tmp_path / "store"
    for key in zips:
        result = collect(config_for(ObjectKey.parse(key), server, store))
        assert list(result.output_files) == [str(store / key)], str(result)
        assert result.outcome == "complete"
    assert_holds(store, zips, by="sha256")
    assert_nothing_staged(store)
    server.requests.clear()
    for key in zips:
        again = collect(config_for(ObjectKey.parse(key), server, store))
        assert again.collection_stats["skipped_tasks"] == 1
    assert not any(method == "GET" and key for method, key in server.requests)


def test_a_folder_of_real_files_is_adopted_as_it_is(server: LocalS3, tmp_path: Path) -> None:
    zips = samples()
    for key, body in zips.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(body)
    server.requests.clear()
    for key in zips:
        result = collect(config_for(ObjectKey.parse(key), server, tmp_path))
        assert result.collection_stats["skipped_tasks"] == 1
        assert result.collection_stats["downloaded_bytes"] == 0
    assert not any(key.endswith(".zip") for _, key in server.requests)
    assert_holds(tmp_path, zips, by="sha256")
