"""What the options of a collection change when its endpoint does wrong.

Each fault under the usual options is in `test_fault_matrix.py`.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from binance_archive_kit.collection.collect import collect
from binance_archive_kit.errors import WorkflowError
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import (
    FIRST,
    candles,
    daily_klines,
    kline_key,
    sidecar,
    zipped,
    zips_of,
)
from tests.support.checks import (
    assert_holds,
    files_of,
    quarantined,
    reasons_of,
)
from tests.support.faults import first_of, on_checksum, on_listing, on_zip
from tests.support.s3_server import Fault

#: The spoiled day, the second of each symbol.
SPOILED = FIRST + timedelta(days=1)
OTHER_BYTES = zipped(kline_key("BTCUSDT", SPOILED), candles("of somebody else"))
#: Few days are fetched one by one, whole tens of days by wildcards.
WAYS = {"one by one": 3, "by wildcard": 9}


def test_when_every_object_fails_the_error_carries_the_result(
    serve: Serve, ask: Ask, store: Path
) -> None:
    bucket = daily_klines("BTCUSDT", days=3)
    server = serve(bucket, on_zip("", Fault(status=403)))
    with pytest.raises(WorkflowError, match="3 forbidden") as caught:
        collect(ask(server, days=3))
    result = caught.value.result
    assert result is not None
    assert result.outcome == "failed"
    assert set(reasons_of(result)) == set(zips_of(bucket))
    assert files_of(store) == {}
    server.fault = None
    assert collect(ask(server, days=3)).outcome == "complete"
    assert_holds(store, zips_of(bucket))


@pytest.mark.parametrize("days", WAYS.values(), ids=WAYS)
def test_unlisted_objects_that_are_not_there_are_missing_and_not_failed(
    serve: Serve, ask: Ask, store: Path, days: int
) -> None:
    bucket = daily_klines("BTCUSDT", days=days)
    key = kline_key("BTCUSDT", SPOILED)
    del bucket[key], bucket[f"{key}.CHECKSUM"]
    server = serve(bucket)
    config = ask(server, days=days, listing=False)
    result = collect(config)
    assert result.failures == ()
    assert result.outcome == "complete"
    assert [absence.key for absence in result.missing] == [key]
    assert result.collection_stats["total_tasks"] == days - 1
    assert_holds(store, zips_of(bucket))
    again = collect(config).collection_stats
    assert again["skipped_tasks"] == days - 1
    assert again["total_size_bytes"] == result.collection_stats["total_size_bytes"] > 0


# Checksums


def test_a_stale_checksum_can_be_accepted(serve: Serve, ask: Ask, store: Path) -> None:
    bucket = daily_klines("BTCUSDT", days=9)
    key = kline_key("BTCUSDT", SPOILED)
    bucket[f"{key}.CHECKSUM"] = sidecar(key, OTHER_BYTES)
    server = serve(bucket)
    config = ask(server, days=9, accept_stale_checksum=True)
    result = collect(config)
    assert result.outcome == "complete"
    assert list(result.stale) == [str(store / key)]
    others = {each: body for each, body in zips_of(bucket).items() if each != key}
    assert files_of(store) == zips_of(bucket)
    assert not (store / "quarantine").exists()
    # Accepted once, it is kept; asked for strictly again, it is not.
    assert collect(config).collection_stats["skipped_tasks"] == 9
    strict = collect(config.replace(accept_stale_checksum=False))
    assert reasons_of(strict) == {key: "checksum_stale"}
    assert list(quarantined(store)) == [key]
    assert_holds(store, others)


@pytest.mark.parametrize("listed", [False, True], ids=["unlisted", "listed but gone"])
def test_objects_without_checksum_can_be_taken_on_their_etag(
    serve: Serve, ask: Ask, store: Path, listed: bool
) -> None:
    bucket = daily_klines("BTCUSDT", days=9)
    key = kline_key("BTCUSDT", SPOILED)
    if not listed:
        del bucket[f"{key}.CHECKSUM"]
    server = serve(bucket, on_checksum("", Fault(status=404)))
    assert collect(ask(server, days=9, download_checksum=False)).outcome == "complete"
    assert_holds(store, zips_of(bucket), by="etag")
    assert not any(name.endswith(".CHECKSUM") for _, name in server.requests)


@pytest.mark.parametrize("fault", [Fault(flip=400), Fault(body=OTHER_BYTES)], ids=["flip", "other"])
@pytest.mark.parametrize("until", [1, None], ids=["once", "always"])
def test_damage_is_found_without_checksums_too(
    serve: Serve, ask: Ask, store: Path, fault: Fault, until: int | None
) -> None:
    bucket = daily_klines("BTCUSDT", days=3)
    key = kline_key("BTCUSDT", SPOILED)
    server = serve(bucket, on_zip(f"{SPOILED}", fault, until_attempt=until))
    result = collect(ask(server, days=3, download_checksum=False))
    assert reasons_of(result) == ({} if until else {key: "corrupt"})
    kept = {each: body for each, body in zips_of(bucket).items() if until or each != key}
    assert_holds(store, kept, by="etag")


# Silence


def test_an_answer_that_always_stalls_is_given_up_in_time(
    serve: Serve, ask: Ask, store: Path
) -> None:
    bucket = daily_klines("BTCUSDT", days=3)
    key = kline_key("BTCUSDT", SPOILED)
    server = serve(bucket, on_zip(f"{SPOILED}", Fault(hang_after=0)))
    result = collect(ask(server, days=3, timeout_seconds=1))
    assert reasons_of(result) == {key: "timeout"}
    assert_holds(store, {each: body for each, body in zips_of(bucket).items() if each != key})
    assert server.requests.count(("GET", key)) == 2
    assert result.collection_stats["processing_time_seconds"] < 25
    server.fault = None
    assert collect(ask(server, days=3)).outcome == "complete"
    assert_holds(store, zips_of(bucket))


def test_objects_that_wait_behind_stalled_ones_are_not_given_up(
    serve: Serve, ask: Ask, store: Path
) -> None:
    bucket = daily_klines("BTCUSDT", days=9)
    stalled = [kline_key("BTCUSDT", FIRST + timedelta(days=at)) for at in (1, 2, 6, 7)]
    server = serve(bucket, first_of(*(on_zip(key, Fault(hang_after=0)) for key in stalled)))
    config = ask(server, days=9, timeout_seconds=0.5, max_parallel_downloads=2, listing=False)
    result = collect(config)
    assert reasons_of(result) == dict.fromkeys(stalled, "timeout")
    assert_holds(store, {key: body for key, body in zips_of(bucket).items() if key not in stalled})


def test_an_endpoint_that_cannot_list_still_gets_its_objects_one_by_one(
    serve: Serve, ask: Ask, store: Path
) -> None:
    bucket = daily_klines("BTCUSDT")
    server = serve(
        bucket,
        first_of(
            on_listing("", Fault(status=403)),
            on_zip(f"{SPOILED}", Fault(flip=100)),
        ),
    )
    # Bytes that do not match make us look at the listing again; its refusal ends nothing.
    result = collect(ask(server, listing=False))
    assert reasons_of(result) == {kline_key("BTCUSDT", SPOILED): "corrupt"}
    spoiled = kline_key("BTCUSDT", SPOILED)
    assert_holds(store, {key: body for key, body in zips_of(bucket).items() if key != spoiled})
