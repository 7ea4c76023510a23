"""Commands that read a store: what they choose, print and reject."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.cli.main import main
from tests.support.stores import kline, other, put


def tabled(root: Path) -> list[tuple[str, str]]:
    """Return the view and symbol of each stream whose files are in tables."""
    frame = bak.store(root).frame().filter(pl.col("tabled") == pl.col("files"))
    return sorted(zip(frame["view"], frame["symbol"], strict=True))


def test_build_builds_what_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for symbol in ("AUSDT", "BUSDT", "CUSDT"):
        put(tmp_path, kline(symbol, "2025-07-01"))
        put(tmp_path, kline(symbol, "2025-07-01", market="futures/um"))
    put(tmp_path, other("trades", "AUSDT", "2025-07-01", "spot"))
    root = str(tmp_path)
    assert main(["build", root, "--market", "um", "--symbols", "AUSDT,BUSDT", "--json"]) == 0
    use = json.loads(capsys.readouterr().out)
    assert use["parts"] == 1
    assert 0 < use["bytes"] < use["limit"]
    assert tabled(tmp_path) == [("futures_um_klines", "AUSDT"), ("futures_um_klines", "BUSDT")]
    assert main(["build", root, "--data-type", "trades"]) == 0
    assert "Tables: 2 files, " in capsys.readouterr().out
    assert ("spot_trades", "AUSDT") in tabled(tmp_path)
    assert main(["build", root]) == 0
    assert len(tabled(tmp_path)) == 7


def test_build_leaves_trades_out_by_default(tmp_path: Path) -> None:
    put(tmp_path, kline("AUSDT", "2025-07-01"))
    put(tmp_path, other("trades", "AUSDT", "2025-07-01", "spot"))
    assert main(["build", str(tmp_path)]) == 0
    assert tabled(tmp_path) == [("spot_klines", "AUSDT")]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--market", "spt"], 2, "did you mean"),
        (["--market", "cm"], 2, "has no futures_cm; it has spot_klines"),
        (["--market", "spot", "--data-type", "tades"], 2, "did you mean"),
        (["--data-type", "trades"], 2, "has no trades; it has spot_klines"),
        (["--symbols", "AUSD"], 2, "'AUSD' is not in the store; did you mean 'AUSDT'?"),
    ],
)
def test_build_names_what_is_invalid(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    put(tmp_path, kline("AUSDT", "2025-07-01"))
    assert main(["build", str(tmp_path), *options]) == code
    assert message in capsys.readouterr().err


def test_build_of_an_empty_store(tmp_path: Path) -> None:
    assert main(["build", str(tmp_path)]) == 3


def test_export_writes_what_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, target = tmp_path / "store", tmp_path / "lake"
    for symbol in ("AUSDT", "BUSDT", "CBTC"):
        for day in ("2025-06-30", "2025-07-01"):
            put(store, kline(symbol, day))
    words = ["export", str(store), str(target), "--symbols", "*USDT", "--intervals", "1h"]
    assert main([*words, "--start", "2025-07-01", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["written"], done["rows"], done["complete"]) == (1, 48, False)
    assert done["files"][0]["month"] == "2025-07"
    assert main(words) == 0
    assert "1 file written, 1 kept, 0 removed; 96 rows" in capsys.readouterr().out
    assert main([*words, "--start", "2025-08-01"]) == 3
    assert main(["export", str(store), str(store / "lake")]) == 2
    assert "is inside the store" in capsys.readouterr().err


def test_cache_shows_and_clears(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, kline("AUSDT", "2025-07-01"))
    root = str(tmp_path)
    assert main(["cache", root]) == 0
    assert "Tables: 0 files" in capsys.readouterr().out
    # The option that older versions had.
    assert main(["cache", root, "--warm"]) == 0
    assert "Tables: 1 file, " in capsys.readouterr().out
    assert main(["cache", "--help"]) == 0
    assert "--warm" not in capsys.readouterr().out
    assert main(["cache", root, "--shared"]) == 2
    assert "--shared is for --clear" in capsys.readouterr().err
    assert main(["cache", root, "--clear"]) == 0
    assert "Tables: 0 files" in capsys.readouterr().out
    assert tabled(tmp_path) == []
