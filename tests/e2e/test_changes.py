"""What changes between two looks: the archive's objects, and the store behind our back."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from binance_archive_kit.collection.collect import collect
from binance_archive_kit.planning.planner import plan
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
from tests.support.checks import assert_holds, files_of, quarantined, reasons_of
from tests.support.s3_server import LocalS3, Request

KEY = kline_key("BTCUSDT", FIRST + timedelta(days=1))
DAYS = 9


def of_equal_size(body: bytes) -> bytes:
    """Flip a bit: other bytes that only a look inside tells apart."""
    return body[:400] + bytes([body[400] ^ 1]) + body[401:]


def asked_for(server: LocalS3, ending: str) -> list[str]:
    return sorted({key for method, key in server.requests if key.endswith(ending)})


@pytest.fixture
def bucket() -> Bucket:
    return daily_klines("BTCUSDT", days=DAYS)


# The archive changes


@pytest.mark.parametrize("rows", [24, 30], ids=["of the same size", "of another size"])
def test_an_object_issued_again_is_updated(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket, rows: int
) -> None:
    server = serve(bucket)
    collect(ask(server, days=DAYS))
    body = zipped(KEY, candles("issue 2", rows))
    bucket |= {KEY: body, f"{KEY}.CHECKSUM": sidecar(KEY, body)}
    server.requests.clear()
    result = collect(ask(server, days=DAYS))
    assert result.collection_stats["successful_tasks"] == 1
    assert result.collection_stats["skipped_tasks"] == DAYS - 1
    assert asked_for(server, ".zip") == [KEY]
    assert_holds(store, zips_of(bucket))
    assert not (store / "quarantine").exists()


@pytest.mark.parametrize("rows", [24, 30], ids=["of the same size", "of another size"])
def test_an_object_issued_again_after_the_plan_is_taken_as_it_is_now(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket, rows: int
) -> None:
    server = serve(bucket)
    planned = plan(ask(server, days=DAYS))
    body = zipped(KEY, candles("issue 2", rows))
    bucket |= {KEY: body, f"{KEY}.CHECKSUM": sidecar(KEY, body)}
    result = collect(planned)
    assert reasons_of(result) == {}
    assert_holds(store, zips_of(bucket))
    # The proof is of what was taken, so the next run has nothing to do.
    assert collect(ask(server, days=DAYS)).collection_stats["skipped_tasks"] == DAYS


def test_an_object_issued_again_while_it_is_fetched_is_taken_as_it_is_now(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket
) -> None:
    """The zip is the old one and its sidecar, asked for a moment later, the new one."""
    body = zipped(KEY, candles("issue 2"))

    def reissue(request: Request) -> None:
        if request.key == KEY and request.method == "GET" and request.attempt == 1:
            bucket[f"{KEY}.CHECKSUM"] = sidecar(KEY, body)
        elif request.key == KEY and request.attempt == 2:
            bucket[KEY] = body

    server = serve(bucket, reissue)
    result = collect(ask(server, days=3))
    assert set(reasons_of(result).values()) <= {"checksum_stale"}
    bucket[KEY] = body
    assert collect(ask(server, days=3)).outcome == "complete"
    assert_holds(store, dict(list(zips_of(bucket).items())[:3]))


def test_an_object_withdrawn_after_the_plan_is_not_found(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket
) -> None:
    planned = plan(ask(serve(bucket), days=DAYS))
    del bucket[KEY], bucket[f"{KEY}.CHECKSUM"]
    assert reasons_of(collect(planned)) == {KEY: "not_found"}
    assert_holds(store, zips_of(bucket))


# The store changes


def overwrite(path: Path) -> None:
    path.write_bytes(of_equal_size(path.read_bytes()))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("change", [overwrite, truncate, empty, grow, Path.unlink])
@pytest.mark.parametrize("listing", [True, False], ids=["listed", "unlisted"])
def test_a_file_changed_behind_our_back_is_noticed_and_fetched_again(
    serve: Serve,
    ask: Ask,
    store: Path,
    bucket: Bucket,
    change: Callable[[Path], None],
    listing: bool,
) -> None:
    server = serve(bucket)
    config = ask(server, days=DAYS, listing=listing)
    collect(config)
    change(store / KEY)
    foreign = (store / KEY).read_bytes() if (store / KEY).exists() else None
    server.requests.clear()
    result = collect(config)
    assert reasons_of(result) == {}
    assert result.collection_stats["skipped_tasks"] == DAYS - 1
    assert asked_for(server, ".zip") == [KEY]
    assert_holds(store, zips_of(bucket))
    if change is overwrite or (foreign is not None and not listing):
        assert quarantined(store)[KEY][0] == foreign


def test_a_file_only_touched_is_hashed_again_and_kept(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket
) -> None:
    server = serve(bucket)
    collect(ask(server, days=DAYS))
    os.utime(store / KEY, (0, 0))
    server.requests.clear()
    assert collect(ask(server, days=DAYS)).collection_stats["skipped_tasks"] == DAYS
    assert asked_for(server, ".zip") == []
    assert asked_for(server, ".CHECKSUM") == []
    assert_holds(store, zips_of(bucket))


@pytest.mark.parametrize("loss", ["deleted", "damaged"])
@pytest.mark.filterwarnings("ignore:.*is damaged .* was moved to")
def test_lost_proofs_are_had_again_without_downloads(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket, loss: str
) -> None:
    server = serve(bucket)
    collect(ask(server, days=DAYS))
    database = store / ".binance_archive_kit" / "proofs.sqlite"
    if loss == "deleted":
        database.unlink()
    else:
        database.write_bytes(b"not a database at all" * 500)
    server.requests.clear()
    assert collect(ask(server, days=DAYS)).collection_stats["skipped_tasks"] == DAYS
    assert asked_for(server, ".zip") == []
    assert_holds(store, zips_of(bucket))


def fill(store: Path, files: Bucket) -> None:
    for key, body in files.items():
        (store / key).parent.mkdir(parents=True, exist_ok=True)
        (store / key).write_bytes(body)


@pytest.mark.parametrize("sidecars", [True, False], ids=["with sidecars", "zips alone"])
def test_a_folder_filled_by_another_tool_is_adopted(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket, sidecars: bool
) -> None:
    fill(store, bucket if sidecars else zips_of(bucket))
    server = serve(bucket)
    config = ask(server, days=DAYS)
    first = collect(config)
    assert first.collection_stats["skipped_tasks"] == DAYS
    assert first.collection_stats["downloaded_bytes"] == 0
    assert asked_for(server, ".zip") == []
    server.requests.clear()
    assert collect(config).collection_stats["skipped_tasks"] == DAYS
    assert asked_for(server, ".zip") == asked_for(server, ".CHECKSUM") == []
    if not sidecars:
        assert_holds(store, zips_of(bucket))


def test_of_a_folder_filled_by_another_tool_only_what_is_wrong_is_fetched(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket
) -> None:
    foreign = of_equal_size(bucket[KEY])
    fill(store, zips_of(bucket) | {KEY: foreign})
    server = serve(bucket)
    result = collect(ask(server, days=DAYS))
    assert result.collection_stats["successful_tasks"] == 1
    assert asked_for(server, ".zip") == [KEY]
    assert_holds(store, zips_of(bucket))
    assert quarantined(store)[KEY][0] == foreign


def test_files_that_are_none_of_ours_are_left_alone(
    serve: Serve, ask: Ask, store: Path, bucket: Bucket
) -> None:
    others = {
        "data/spot/daily/klines/BTCUSDT/1h/notes.txt": b"mine",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2020-01-01.zip": b"also mine",
        "report.ipynb": b"{}",
    }
    fill(store, others)
    assert collect(ask(serve(bucket), days=DAYS)).outcome == "complete"
    assert (store / "report.ipynb").read_bytes() == b"{}"
    held = files_of(store)
    assert held == zips_of(bucket) | {key: body for key, body in others.items() if "/" in key}
