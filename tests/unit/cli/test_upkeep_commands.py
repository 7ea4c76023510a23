"""The commands that keep a store, without an archive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from binance_archive_kit.cli.main import main
from tests.support.stores import kline, put


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for day in ("2025-07-01", "2025-07-02"):
        put(tmp_path, kline("BTCUSDT", day))
    return tmp_path


def zips(store: Path) -> list[str]:
    return sorted(path.name for path in store.rglob("*.zip"))


def test_prune_shows_and_deletes(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prune", str(store), "--market", "spot", "--end", "2025-07-01", "--json"]
    assert main(command) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["deleted"], shown["files"], len(zips(store))) == (False, 1, 2)
    assert shown["streams"][0]["symbol"] == "BTCUSDT"
    assert main([*command, "--yes"]) == 0
    assert json.loads(capsys.readouterr().out)["deleted"]
    assert zips(store) == ["BTCUSDT-1h-2025-07-02.zip"]
    assert main(command) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "no condition is given"),
        (["prune", "--symbols", "BTCUSD", "--yes"], "did you mean 'BTCUSDT'"),
        (["update", "--end", "soon"], "end: 'soon' is not a day"),
        (["update", "--partition", "weekly"], "partition: 'weekly' is not valid"),
        (["update", "--endpoint-url", "ftp://x"], "endpoint_url"),
    ],
)
def test_misuse_is_named(
    store: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *options = arguments
    assert main([command, str(store), *options]) == 2
    assert message in capsys.readouterr().err
    assert len(zips(store)) == 2


def test_update_offers_how_to_download_and_not_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["update", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--endpoint-url" in text
    assert "--max-parallel-downloads" in text
    for flag in ("--markets", "--output-directory", "--force-redownload", "--listing"):
        assert flag not in text
