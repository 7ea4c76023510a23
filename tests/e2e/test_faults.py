"""What the archive's endpoint can do wrong, object by object, and what becomes of it.

Each kind of trouble has a symbol of its own, of which one day in the middle is spoiled. All
of them go through one run, as they would in life: one object's trouble is no other's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from binance_archive_kit.collection.collect import collect
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import ListingError, WorkflowError
from binance_archive_kit.planning.config import CollectionConfig
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import (
    FIRST,
    Bucket,
    candles,
    daily_klines,
    kline_key,
    sidecar,
    zipped,
    zips_of,
)
from tests.support.checks import (
    assert_holds,
    assert_no_downloader,
    assert_nothing_staged,
    files_of,
    quarantined,
    reasons_of,
)
from tests.support.faults import Rule, first_of, on_checksum, on_listing, on_zip
from tests.support.s3_server import Fault, LocalS3

#: The spoiled day, the second of each symbol.
SPOILED = FIRST + timedelta(days=1)
OTHER_BYTES = zipped(kline_key("BTCUSDT", SPOILED), candles("of somebody else"))
HTML = b"<html><body>Please log in to this network</body></html>"


@dataclass(frozen=True)
class Trouble:
    """One kind of trouble with one object.

    `objects` replaces the zip and its sidecar in the bucket (None: not there), `fault` is
    what the server does with requests, `reasons` how the failure may be called, and
    `aside` whether the bytes are worth keeping in quarantine.
    """

    reasons: set[str]
    aside: bool = False
    fault: tuple[str, Fault] | None = None
    objects: dict[str, bytes | None] = field(default_factory=dict)


def zip_fault(reason: str, fault: Fault, *, aside: bool = False) -> Trouble:
    return Trouble({reason}, aside, ("zip", fault))


#: For ever: what the object is reported as.
TROUBLES = {
    "GONE": zip_fault("not_found", Fault(status=404)),
    "FORBIDDEN": zip_fault("forbidden", Fault(status=403)),
    "THROTTLED": zip_fault("throttled", Fault(status=503)),
    "BROKEN": zip_fault("server_error", Fault(status=500)),
    "CUT": Trouble({"truncated", "connection"}, fault=("zip", Fault(cut_after=300))),
    "CUTATONCE": Trouble({"truncated", "connection"}, fault=("zip", Fault(cut_after=0))),
    "SHORT": zip_fault("corrupt", Fault(body=OTHER_BYTES[:200]), aside=True),
    "EMPTY": zip_fault("corrupt", Fault(body=b""), aside=True),
    "PORTAL": zip_fault("corrupt", Fault(body=HTML), aside=True),
    "FLIPPED": zip_fault("corrupt", Fault(flip=400), aside=True),
    "NOZIP": Trouble({"bad_zip"}, True, objects={"zip": HTML, "sum": b"right"}),
    "STALESUM": Trouble({"checksum_stale"}, True, objects={"sum": sidecar("x", OTHER_BYTES)}),
    "FLIPPEDSUM": Trouble({"checksum_stale", "checksum_unreadable"}, True, ("sum", Fault(flip=7))),
    "HTMLSUM": Trouble({"checksum_unreadable"}, True, objects={"sum": HTML}),
    "NOSUM": Trouble({"checksum_absent"}, objects={"sum": None}),
    "LOSTSUM": Trouble({"checksum_absent"}, True, ("sum", Fault(status=404))),
    "FORBIDDENSUM": Trouble({"forbidden"}, fault=("sum", Fault(status=403))),
}
#: Once, or for the first few attempts: nothing of it may be left to see.
PASSING: dict[str, tuple[str, Fault, int]] = {
    "STORM": ("zip", Fault(status=503), 3),
    "BREAK": ("zip", Fault(status=500), 3),
    "CUT": ("zip", Fault(cut_after=300), 1),
    "CUTATONCE": ("zip", Fault(cut_after=0), 3),
    "SHORT": ("zip", Fault(body=OTHER_BYTES[:200]), 1),
    "EMPTY": ("zip", Fault(body=b""), 1),
    "PORTAL": ("zip", Fault(body=HTML), 1),
    "FLIPPED": ("zip", Fault(flip=400), 1),
    "STORMSUM": ("sum", Fault(status=503), 2),
    "BREAKSUM": ("sum", Fault(status=500), 2),
    "CUTSUM": ("sum", Fault(cut_after=10), 2),
    "FLIPPEDSUM": ("sum", Fault(flip=7), 1),
    "PORTALSUM": ("sum", Fault(body=HTML), 1),
}
#: Few days are fetched one by one, whole tens of days by wildcards.
WAYS = {"one by one": 3, "by wildcard": 9}


def rule_for(symbol: str, what: str, fault: Fault, until: int | None = None) -> Rule:
    on = on_zip if what == "zip" else on_checksum
    return on(f"/{symbol}-1h-{SPOILED}.", fault, until_attempt=until)


@dataclass(frozen=True)
class Run:
    """One collection with all troubles in it, and what there should have been."""

    config: CollectionConfig
    right: Bucket
    server: LocalS3
    result: CollectionResult

    @property
    def store(self) -> Path:
        return self.config.output_directory


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def hopeless(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Collect with every trouble for ever."""
    right: Bucket = {}
    served: dict[str, bytes] = {}
    rules: list[Rule] = []
    for symbol, trouble in TROUBLES.items():
        days = daily_klines(symbol, days=request.param)
        key = kline_key(symbol, SPOILED)
        right |= days
        served |= days
        if trouble.fault:
            rules.append(rule_for(symbol, *trouble.fault))
        for what, body in trouble.objects.items():
            name = key if what == "zip" else f"{key}.CHECKSUM"
            if body is None:
                del served[name]
            else:
                served[name] = sidecar(key, served[key]) if body == b"right" else body
    store = tmp_path_factory.mktemp("hopeless") / "store"
    with LocalS3(served, fault=first_of(*rules)) as server:
        config = CollectionConfig(
            markets=["spot"],
            symbols=list(TROUBLES),
            data_types=["klines"],
            intervals={"klines": ["1h"]},
            date_range={"start": FIRST, "end": FIRST + timedelta(days=request.param - 1)},
            output_directory=store,
            endpoint_url=server.url,
            s5cmd_extra_args=["--retry-count=1"],
        )
        yield Run(config, right, server, collect(config))


@pytest.mark.parametrize("symbol", TROUBLES)
def test_trouble_for_ever_is_called_by_its_name(hopeless: Run, symbol: str) -> None:
    reasons = reasons_of(hopeless.result)
    assert reasons[kline_key(symbol, SPOILED)] in TROUBLES[symbol].reasons


@pytest.mark.parametrize("symbol", TROUBLES)
def test_bytes_that_failed_their_proof_are_in_quarantine(hopeless: Run, symbol: str) -> None:
    key = kline_key(symbol, SPOILED)
    aside = quarantined(hopeless.store)
    assert (key in aside) == TROUBLES[symbol].aside
    if key in aside:
        body, said = aside[key]
        (failure,) = (each for each in hopeless.result.failures if each.key == key)
        assert said["reason"] == failure.reason
        assert said["size"] == len(body)
        assert ".bad" in failure.detail


def test_trouble_of_one_object_is_no_others(hopeless: Run) -> None:
    spoiled = {kline_key(symbol, SPOILED) for symbol in TROUBLES}
    others = {key: body for key, body in zips_of(hopeless.right).items() if key not in spoiled}
    result = hopeless.result
    assert set(reasons_of(result)) == spoiled
    assert_holds(hopeless.store, others)
    assert_nothing_staged(hopeless.store)
    assert_no_downloader(hopeless.server.url)
    assert result.outcome == "partial"
    assert result.status == "success"
    assert sorted(result.output_files) == sorted(str(hopeless.store / key) for key in others)
    assert result.collection_stats["failed_tasks"] == len(spoiled)
    with pytest.raises(WorkflowError, match=f"{len(spoiled)} objects failed") as caught:
        result.raise_for_failures()
    assert caught.value.result is result


def test_the_next_run_heals_all_of_it(hopeless: Run) -> None:
    with LocalS3(hopeless.right) as healthy:
        result = collect(hopeless.config.replace(endpoint_url=healthy.url))
        asked = [key for method, key in healthy.requests if method == "GET" and key]
    spoiled = {kline_key(symbol, SPOILED) for symbol in TROUBLES}
    assert result.outcome == "complete"
    assert_holds(hopeless.store, zips_of(hopeless.right))
    assert {key for key in asked if key.endswith(".zip")} == spoiled


@pytest.mark.parametrize("days", WAYS.values(), ids=WAYS)
def test_passing_trouble_leaves_no_trace(serve: Serve, ask: Ask, store: Path, days: int) -> None:
    bucket: Bucket = {}
    for symbol in PASSING:
        bucket |= daily_klines(symbol, days=days)
    rules = [rule_for(symbol, *trouble) for symbol, trouble in PASSING.items()]
    result = collect(ask(serve(bucket, first_of(*rules)), *PASSING, days=days))
    assert reasons_of(result) == {}
    assert result.outcome == "complete"
    assert_holds(store, zips_of(bucket))


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


# Listings


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(cut_after=100)], ids=["503", "cut"])
def test_a_listing_that_fails_for_a_while_is_asked_again(
    serve: Serve, ask: Ask, store: Path, fault: Fault
) -> None:
    bucket = daily_klines("BTCUSDT", days=9)
    server = serve(bucket, on_listing("", fault, until_attempt=2))
    assert collect(ask(server, days=9)).outcome == "complete"
    assert_holds(store, zips_of(bucket))


@pytest.mark.parametrize("fault", [Fault(status=403), Fault(body=HTML)], ids=["403", "HTML"])
def test_a_listing_that_is_refused_ends_the_run(
    serve: Serve, ask: Ask, store: Path, fault: Fault
) -> None:
    server = serve(daily_klines("BTCUSDT"), on_listing("", fault))
    with pytest.raises(ListingError):
        collect(ask(server))
    assert not store.exists()


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


HANGS = {
    "before the head": ("zip", Fault(hang_after=0)),
    "in the body": ("zip", Fault(hang_after=300)),
    "of a HEAD": ("head", Fault(hang_after=0)),
    "of a checksum": ("sum", Fault(hang_after=0)),
    "in a checksum": ("sum", Fault(hang_after=20)),
}


def hang_rule(what: str, fault: Fault, until: int | None) -> Rule:
    if what == "head":
        return on_zip(f"{SPOILED}", fault, method="HEAD", until_attempt=until)
    return rule_for("BTCUSDT", what, fault, until)


@pytest.mark.parametrize("hang", HANGS)
def test_an_answer_that_stalls_once_is_asked_for_again(
    serve: Serve, ask: Ask, store: Path, hang: str
) -> None:
    bucket = daily_klines("BTCUSDT", days=4)
    server = serve(bucket, hang_rule(*HANGS[hang], 1))
    result = collect(ask(server, days=4, timeout_seconds=1))
    assert reasons_of(result) == {}
    assert_holds(store, zips_of(bucket))
    assert result.collection_stats["processing_time_seconds"] < 8


@pytest.mark.parametrize(
    ("hang", "reason", "days"),
    [
        ("before the head", "timeout", 3),
        ("in the body", "timeout", 9),
        ("of a checksum", "timeout", 3),
    ],
)
def test_an_answer_that_always_stalls_is_given_up_in_time(
    serve: Serve, ask: Ask, store: Path, hang: str, reason: str, days: int
) -> None:
    bucket = daily_klines("BTCUSDT", days=days)
    server = serve(bucket, hang_rule(*HANGS[hang], None))
    result = collect(ask(server, days=days, timeout_seconds=1))
    key = kline_key("BTCUSDT", SPOILED)
    assert reasons_of(result) == {key: reason}
    assert_holds(store, {each: body for each, body in zips_of(bucket).items() if each != key})
    asked = server.requests.count(("GET", key))
    assert asked == (1 if "checksum" in hang else 2)
    assert result.collection_stats["processing_time_seconds"] < 25
    server.fault = None
    assert collect(ask(server, days=days)).outcome == "complete"
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


def test_a_slow_answer_is_not_a_stalled_one(serve: Serve, ask: Ask, store: Path) -> None:
    """It takes several times `timeout_seconds`, and never stops making progress."""
    bucket = daily_klines("BTCUSDT", days=2, rows=400)
    size = len(bucket[kline_key("BTCUSDT", SPOILED)])
    server = serve(bucket, on_zip(f"{SPOILED}", Fault(bytes_per_second=size // 2)))
    assert collect(ask(server, days=2, timeout_seconds=0.5)).outcome == "complete"
    assert_holds(store, zips_of(bucket))
    asked = [key for method, key in server.requests if method == "GET" and key.endswith(".zip")]
    assert sorted(asked) == sorted(zips_of(bucket))


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
