"""`bak.shards`: configurations that do not depend on this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.matrix import DEFAULT_MATRIX, shipped

FIELDS: dict[str, Any] = {
    "markets": ["spot"],
    "symbols": ["BTCUSDT"],
    "data_types": ["trades"],
    "start": "2025-01-01",
    "end": "2025-01-10",
    "output_directory": "data",
}


def test_paths_days_and_endpoint_are_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    (tmp_path / "m.json").write_text(shipped(DEFAULT_MATRIX).read_text())
    fields = {**FIELDS, "start": "-3d", "end": "-2d", "matrix_path": "m.json"}
    [shard] = bak.shards(fields)
    assert shard.output_directory == tmp_path / "data"
    assert shard.matrix_path == str(tmp_path / "m.json")
    assert shard.endpoint_url == "http://127.0.0.1:9"
    assert isinstance(shard.date_range, bak.DateRange)
    assert (shard.date_range.end - shard.date_range.start).days == 1


def test_the_endpoint_of_binance_and_urls_stay() -> None:
    [shard] = bak.shards(FIELDS, output_directory="s3://research/all")
    assert shard.endpoint_url is None
    assert shard.output_directory == "s3://research/all"
    assert bak.CollectionConfig.from_json(shard.to_json()) == shard


def test_errors_are_raised_at_once() -> None:
    with pytest.raises(bak.ConfigurationError, match="markets"):
        bak.shards(FIELDS, markets=["sport"])
    with pytest.raises(bak.ConfigurationError, match="objects: 0 is not a number of objects"):
        bak.shards(FIELDS, objects=0)
    with pytest.raises(bak.ConfigurationError, match="matrix_path"):
        bak.shards(FIELDS, matrix_path="nowhere.json")


def test_unused_parts_are_warned_of_once() -> None:
    with pytest.warns(bak.ArchiveKitWarning, match="have no intervals") as caught:
        found = [*bak.shards(FIELDS, intervals={"trades": ["1h"]}, objects=2)]
    assert len(caught) == 1
    assert len(found) == 5
