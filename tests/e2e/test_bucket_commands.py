"""A store in object storage from the command line: plan, collect, update, verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.cli.main import main
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.storage.bucket import Bucket
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import FIRST, daily_klines, kline_key, zips_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_commands_take_a_url(
    serve: Serve, ask: Ask, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = daily_klines("BTCUSDT", days=6)
    server = serve(archive)
    config = tmp_path / "config.json"
    ask(server, days=3, output_directory=bucket.url).to_json(config)
    assert json.loads(config.read_text())["output_directory"] == bucket.url

    assert main(["plan", str(config), "--keys"]) == 0
    assert len(capsys.readouterr().out.split()) == 3
    assert main(["collect", str(config)]) == 0
    assert [found.key for found in bucket.list("data/")] == sorted(zips_of(archive))[:3]
    capsys.readouterr()
    main(["plan", str(config), "--keys"])
    assert capsys.readouterr().out == "", "all are kept"

    bucket.remove([kline_key("BTCUSDT", FIRST)])
    capsys.readouterr()
    assert main(["verify", bucket.url]) == 1
    assert "1 gone" in capsys.readouterr().out
    assert main(["plan", str(config), "--keys"]) == 0
    assert capsys.readouterr().out.split() == [kline_key("BTCUSDT", FIRST)]
    assert main(["collect", str(config)]) == 0

    update = ["update", bucket.url, "--end", "2025-07-06", "--endpoint-url", server.url]
    assert main([*update, "--dry-run"]) == 0
    assert main(update) == 0
    found = {each.key: bucket.read(each.key) for each in bucket.list("data/")}
    assert found == zips_of(archive)
    capsys.readouterr()
    assert main(["verify", bucket.url, "--sample", "2"]) == 0
    assert "2 of 6 files read; 6 proven" in capsys.readouterr().out
    assert main(["verify", bucket.url, "--json"]) == 0
    assert main(["prune", bucket.url, "--data-type", "klines", "--yes"]) == 2
    assert "in object storage, and prune works on a local folder only" in capsys.readouterr().err


def test_what_needs_a_folder_says_so(bucket: Bucket) -> None:
    with pytest.raises(ConfigurationError, match="has no store; collect something into it first"):
        bak.update(bucket.url)
    with pytest.raises(ConfigurationError, match="has no store"):
        bak.prune(bucket.url, data_type="trades")
    with pytest.raises(ConfigurationError, match="has no store"):
        bak.verify(bucket.url)
