"""Other ways to ask: process per file, forced, unusual names and places, wildcards."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from binance_archive_kit.collection.collect import collect
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import FIRST, daily_klines, kline_key, zips_of
from tests.support.checks import assert_holds
from tests.support.faults import Meter


@pytest.mark.parametrize("batches", [True, False], ids=["batches", "process per file"])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_files_are_in_flight_than_allowed(
    serve: Serve, ask: Ask, store: Path, batches: bool, most: int
) -> None:
    bucket = daily_klines("BTCUSDT", days=12)
    meter = Meter(0.1)
    server = serve(bucket, meter)
    config = ask(server, days=12, enable_batch_mode=batches, max_parallel_downloads=most)
    assert collect(config).outcome == "complete"
    assert meter.most == most
    assert_holds(store, zips_of(bucket))


def test_one_process_per_file_takes_the_same_files(serve: Serve, ask: Ask, tmp_path: Path) -> None:
    bucket = daily_klines("BTCUSDT", days=31) | daily_klines("ETHUSDT", days=31)
    server = serve(bucket)
    config = ask(server, "BTCUSDT", "ETHUSDT", days=31)
    for batches in (True, False):
        folder = tmp_path / str(batches)
        result = collect(config.replace(enable_batch_mode=batches, output_directory=folder))
        assert result.collection_stats["successful_tasks"] == 62
        assert_holds(folder, zips_of(bucket))


@pytest.mark.parametrize("again", [{"force_redownload": True}, {"enable_resume": False}], ids=str)
def test_everything_can_be_fetched_again(
    serve: Serve, ask: Ask, store: Path, again: dict[str, bool]
) -> None:
    bucket = daily_klines("BTCUSDT", days=9)
    server = serve(bucket)
    collect(ask(server, days=9))
    server.requests.clear()
    result = collect(ask(server, days=9, **again))
    assert result.collection_stats["successful_tasks"] == 9
    fetched = {key for method, key in server.requests if method == "GET" and key.endswith(".zip")}
    assert fetched == set(zips_of(bucket))
    assert_holds(store, zips_of(bucket))


@pytest.mark.parametrize("days", [3, 9], ids=["one by one", "by wildcard"])
@pytest.mark.parametrize("batches", [True, False], ids=["batches", "process per file"])
@pytest.mark.parametrize(
    ("symbol", "folder"),
    [
        ("币安人生USDT", "plain"),
        ("BTCUSDT", "with spaces, 'quotes' and $HOME"),
        ("Ä+&%20=$USDT", "存档 ñ *?[0-9]"),
    ],
)
def test_unusual_symbols_in_unusual_places(
    serve: Serve, ask: Ask, tmp_path: Path, days: int, batches: bool, symbol: str, folder: str
) -> None:
    bucket = daily_klines(symbol, days=days)
    place = tmp_path / folder / "store"
    config = ask(
        serve(bucket), symbol, days=days, output_directory=place, enable_batch_mode=batches
    )
    assert collect(config).outcome == "complete"
    assert_holds(place, zips_of(bucket))
    assert collect(config).collection_stats["skipped_tasks"] == days


RANGES = {
    "a month": (date(2025, 7, 1), date(2025, 7, 31)),
    "across months": (date(2025, 6, 20), date(2025, 8, 9)),
    "across a year": (date(2024, 12, 10), date(2025, 1, 19)),
    "the middle of a month": (date(2025, 7, 5), date(2025, 7, 25)),
    "one day": (date(2025, 7, 10), date(2025, 7, 10)),
}


@pytest.mark.parametrize("held", [0, 1], ids=["into an empty store", "with some days there"])
@pytest.mark.parametrize("name", RANGES)
def test_nothing_is_fetched_that_was_not_asked_for(
    serve: Serve, ask: Ask, store: Path, name: str, held: int
) -> None:
    """Wildcards, which fetch most of it, must not reach past what is needed."""
    start, end = RANGES[name]
    days = (end - start).days + 1
    # More days on both sides than any wildcard spans, and a symbol that begins the same.
    bucket = daily_klines("BTCUSDT", start - timedelta(days=40), days + 80)
    bucket |= daily_klines("BTCUSDTX", start, days)
    asked = {kline_key("BTCUSDT", start + timedelta(days=at)) for at in range(days)}
    server = serve(bucket)
    kept: set[str] = set()
    if held:
        middle = start + timedelta(days=days // 2)
        collect(ask(server, start=middle, days=1))
        kept = {kline_key("BTCUSDT", middle)}
        server.requests.clear()
    assert collect(ask(server, start=start, days=days)).outcome == "complete"
    zips = [key for method, key in server.requests if method == "GET" and key.endswith(".zip")]
    assert sorted(zips) == sorted(asked - kept)
    assert_holds(store, {key: body for key, body in bucket.items() if key in asked})


def test_days_that_wildcards_cover_are_fetched_by_them(serve: Serve, ask: Ask) -> None:
    server = serve(daily_klines("BTCUSDT", days=31))
    collect(ask(server, days=31))
    assert not any(method == "HEAD" and key.endswith(".zip") for method, key in server.requests)
    assert ("LIST", f"{kline_key('BTCUSDT', FIRST)[: -len('01.zip')]}") in server.requests
