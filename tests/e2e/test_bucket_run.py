"""A collection into object storage: the same outcome as into a folder, whatever goes wrong."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit
from binance_archive_kit.collection import bucket_run, chunking, spool, uploads
from binance_archive_kit.collection.collect import acollect, collect
from binance_archive_kit.demo.archive import demo_archive
from binance_archive_kit.download.events import MetricsCollector
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    DiskSpaceError,
    StoreError,
    WorkflowError,
)
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.planner import plan
from binance_archive_kit.storage.bucket import Bucket, stamp_of_object
from binance_archive_kit.storage.bucket_store import BucketStore
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import (
    DAYS,
    FIRST,
    SYMBOLS,
    candles,
    daily_klines,
    kline_key,
    many_klines,
    priced,
    sidecar,
    zipped,
    zips_of,
)
from tests.support.checks import assert_no_downloader, downloaders, reasons_of
from tests.support.children import Children
from tests.support.faults import first_of, on_checksum, on_zip
from tests.support.held import (
    assert_bucket_holds,
    assert_bucket_whole,
    assert_nothing_spooled,
    bucket_quarantine,
)
from tests.support.s3_gate import Gate
from tests.support.s3_server import Fault, LocalS3

Archive = dict[str, bytes]
THREE = ("BTCUSDT", "ETHUSDT", "ADAUSDT")
KEY = kline_key("BTCUSDT", FIRST + timedelta(days=1))
#: Seconds that a process may take to notice that nobody wants it any more, on a busy machine.
SOON = 20.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a local index of its own, small chunks, and little patience."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(chunking, "_FEWEST_CHUNKS", 4)
    monkeypatch.setattr(chunking, "_FEWEST_OBJECTS", 8)
    monkeypatch.setattr(uploads, "_PAUSES", (0.01, 0.01))
    return tmp_path / "cache"


@pytest.fixture
def archive() -> Archive:
    return {k: v for symbol in THREE for k, v in daily_klines(symbol, days=9).items()}


@pytest.fixture
def gate(s3_endpoint: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Stand before the server of the destination."""
    with Gate(s3_endpoint) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        yield gate


@pytest.fixture
def into(ask: Ask, bucket: Bucket) -> Callable[..., CollectionConfig]:
    """Lend a function that asks for days of candles, into the bucket."""

    def config(server: LocalS3, *symbols: str, **changes: Any) -> CollectionConfig:
        fields = {"days": 9, "output_directory": bucket.url, **changes}
        return ask(server, *(symbols or THREE), **fields)

    return config


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """Serve the demo archive, whose files have rows."""
    with demo_archive() as endpoint:
        yield endpoint


def fetched(server: LocalS3) -> list[str]:
    """Return the zips that were asked for, in order."""
    return [key for method, key in server.requests if method == "GET" and key.endswith(".zip")]


def reissue(archive: Archive, key: str, *, rows: int = 24) -> None:
    body = zipped(key, candles("issue 2", rows))
    archive |= {key: body, f"{key}.CHECKSUM": sidecar(key, body)}


# The ordinary course


def test_all_is_proven_in_the_bucket(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, cache: Path, gate: Gate
) -> None:
    server = serve(archive)
    result = collect(into(server))
    assert result.outcome == "complete"
    assert result.output_directory == bucket.url
    assert [*result.output_files] == [f"{bucket.url}/{key}" for key in result.plan.frame["key"]]
    stats = result.collection_stats
    size = sum(map(len, zips_of(archive).values()))
    assert (stats["successful_tasks"], stats["total_size_bytes"]) == (27, size)
    assert "27 of 27 objects proven in the bucket" in str(result)
    assert sorted(fetched(server)) == sorted(zips_of(archive))
    assert_bucket_holds(bucket, zips_of(archive))
    assert_nothing_spooled(cache)
    # One object of records, however many chunks there were.
    records = f"{bucket.prefix}/.binance_archive_kit/records/spot"
    assert len(bucket.list(".binance_archive_kit/records/spot/")) == 1
    assert gate.count("PUT", records) > 1


def test_a_second_run_moves_nothing(
    serve: Serve, into: Ask, archive: Archive, gate: Gate, cache: Path
) -> None:
    server = serve(archive)
    collect(into(server))
    for machine in ("the same", "another"):
        if machine == "another":
            shutil.rmtree(cache)
        server.requests.clear()
        gate.requests.clear()
        result = collect(into(server))
        assert result.collection_stats["skipped_tasks"] == 27
        assert result.collection_stats["total_size_bytes"] == sum(
            map(len, zips_of(archive).values())
        )
        assert [method for method, _ in server.requests if method != "LIST"] == []
        assert gate.count("PUT", "/data/") == 0
        assert len(gate.requests) < 20


@pytest.mark.parametrize("rows", [24, 30], ids=["of the same size", "of another size"])
def test_only_what_was_issued_again_moves(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, gate: Gate, rows: int
) -> None:
    server = serve(archive)
    collect(into(server))
    reissue(archive, KEY, rows=rows)
    server.requests.clear()
    gate.requests.clear()
    result = collect(into(server))
    assert result.collection_stats["successful_tasks"] == 1
    assert fetched(server) == [KEY]
    assert gate.count("PUT", "/data/") == 1
    assert_bucket_holds(bucket, zips_of(archive))


def test_what_was_removed_or_replaced_behind_our_back_is_fetched_again(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive
) -> None:
    server = serve(archive)
    collect(into(server))
    other = kline_key("ETHUSDT", FIRST)
    bucket.remove([KEY])
    bucket.write(other, archive[other][:-1] + b"x")
    server.requests.clear()
    assert collect(into(server)).collection_stats["successful_tasks"] == 2
    assert sorted(fetched(server)) == sorted([KEY, other])
    assert_bucket_holds(bucket, zips_of(archive))


def test_a_file_that_another_tool_put_there_is_not_believed(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive
) -> None:
    server = serve(archive)
    bucket.write(KEY, b"not a zip")
    assert collect(into(server)).collection_stats["successful_tasks"] == 27
    assert_bucket_holds(bucket, zips_of(archive))


def test_a_plan_can_be_made_before(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive
) -> None:
    server = serve(archive)
    planned = plan(into(server))
    assert planned.count("download") == 27
    assert collect(planned).outcome == "complete"
    assert plan(into(server)).count("keep") == 27
    assert_bucket_holds(bucket, zips_of(archive))


def test_a_proof_may_go_after_the_plan(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive
) -> None:
    server = serve(archive)
    collect(into(server))
    planned = plan(into(server, listing=False))
    BucketStore(bucket).records.forget([KEY])
    # A plan is executed as it stands; the next one fetches the object again.
    assert collect(planned).collection_stats["skipped_tasks"] == 27
    assert plan(into(server)).count("download") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"enable_batch_mode": False, "max_parallel_downloads": 3},
        {"listing": False},
        {"download_checksum": False},
        {"partition": "auto"},
        {"symbols": ["*USDT"]},
        {"max_parallel_downloads": 1},
        {"batch_size": 2},
    ],
    ids=str,
)
def test_options_mean_the_same(
    serve: Serve,
    into: Ask,
    bucket: Bucket,
    archive: Archive,
    store: Path,
    options: dict[str, Any],
) -> None:
    server = serve(archive)
    config = into(server).replace(**options)
    result = collect(config)
    local = collect(config.replace(output_directory=store))
    assert result.outcome == local.outcome == "complete"
    assert result.summary().equals(local.summary())
    assert result.missing == local.missing
    by = "sha256" if config.download_checksum else "etag"
    assert_bucket_holds(bucket, zips_of(archive), by)
    server.requests.clear()
    again = collect(config)
    assert again.collection_stats["skipped_tasks"] == 27
    assert again.summary().equals(collect(config.replace(output_directory=store)).summary())
    assert fetched(server) == []


@pytest.mark.parametrize("again", [{"force_redownload": True}, {"enable_resume": False}], ids=str)
def test_everything_can_be_fetched_again(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, again: dict[str, bool]
) -> None:
    server = serve(archive)
    collect(into(server))
    server.requests.clear()
    assert collect(into(server, **again)).collection_stats["successful_tasks"] == 27
    assert sorted(fetched(server)) == sorted(zips_of(archive))
    assert_bucket_holds(bucket, zips_of(archive))


def test_weaker_proofs_are_made_good_from_the_bucket(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, gate: Gate
) -> None:
    server = serve(archive)
    collect(into(server, download_checksum=False))
    assert plan(into(server)).count("keep") == 27
    server.requests.clear()
    gate.requests.clear()
    result = collect(into(server))
    assert result.collection_stats["skipped_tasks"] == 27
    assert fetched(server) == []
    assert gate.count("PUT", "/data/") == 0
    assert gate.count("GET", "/data/") >= 27
    assert_bucket_holds(bucket, zips_of(archive))


def test_a_plan_without_listing_notes_what_the_archive_lacks(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive
) -> None:
    for name in (KEY, f"{KEY}.CHECKSUM"):
        del archive[name]
    server = serve(archive)
    result = collect(into(server, listing=False))
    assert result.outcome == "complete"
    assert [absence.last_key for absence in result.missing] == [KEY]
    assert [*BucketStore(bucket).records.missing("data/")] == [KEY]
    assert_bucket_holds(bucket, zips_of(archive))


def test_a_storage_has_no_place_in_a_bucket(serve: Serve, into: Ask, archive: Archive) -> None:
    class ByDay(binance_archive_kit.BaseStorage):  # type: ignore[misc, name-defined]
        def get_partition_path(self, **names: Any) -> str:
            return str(names["partition_date"])

    with pytest.raises(ConfigurationError, match=r"storage: .*object storage.*leave storage out"):
        collect(into(serve(archive)), storage=ByDay())


def test_the_progress_counts_uploads_too(
    serve: Serve, into: Ask, archive: Archive, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float]] = []
    original = bucket_run.BucketRun._count_arriving

    def count(run: bucket_run.BucketRun) -> int:
        arrived = original(run)
        seen.append((run._progress.done, run._progress.share()))
        return arrived

    monkeypatch.setattr(bucket_run.BucketRun, "_count_arriving", count)
    monkeypatch.setattr(chunking, "_FEWEST_OBJECTS", 100)
    gate.rule = lambda method, path: time.sleep(0.02)  # slower than the archive
    assert collect(into(serve(archive))).outcome == "complete"
    assert max(share for done, share in seen if not done) <= 0.5
    assert seen[-1] == (27, 1.0)


# Tables


def entries_of(bucket: Bucket, table: str) -> pl.DataFrame:
    """Read the entries of all parts of a table: the files whose rows are in it."""
    found = bucket.list(f".binance_archive_kit/tables/{table}/")
    parts = [each.key for each in found if each.key.endswith(".entries.parquet")]
    return pl.concat([pl.read_parquet(bucket.read(key)) for key in parts])


def test_tables_of_regular_feeds_are_published(
    demo: str, bucket: Bucket, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MOST_WAITING", 20_000)
    failing = kline_key("ETHUSDT", date(2025, 7, 3))
    gate.rule = lambda method, path: 403 if method == "PUT" and failing in path else None
    config = CollectionConfig(
        markets=["spot"],
        symbols=["BTCUSDT", "ETHUSDT"],
        data_types=["klines", "trades"],
        intervals={"klines": ["1h"]},
        date_range={"start": "2025-07-01", "end": "2025-07-08"},
        output_directory=bucket.url,
        endpoint_url=demo,
    )
    assert reasons_of(collect(config)) == {failing: "upload_failed"}
    tables = {each.key.split("/")[2] for each in bucket.list(".binance_archive_kit/tables/")}
    assert tables == {"spot_klines"}
    entries = entries_of(bucket, "spot_klines")
    stamps = {each.key: tuple(stamp_of_object(each)) for each in bucket.list_etags("data/")}
    held = {key: stamp for key, stamp in stamps.items() if "/klines/" in key}
    assert len(held) == 15
    columns = ["path", "size", "mtime", "ctime", "inode"]
    assert {path: stamp for path, *stamp in entries.select(columns).iter_rows()} == {
        key: [*stamp] for key, stamp in held.items()
    }
    gate.rule = None
    assert collect(config).collection_stats["successful_tasks"] == 1
    assert sorted(entries_of(bucket, "spot_klines")["path"]) == sorted([*held, failing])
    parts = bucket.list(".binance_archive_kit/tables/spot_klines/")
    rows = pl.concat(
        [
            pl.read_parquet(bucket.read(each.key)).sort("open_time")
            for each in parts
            if each.key.endswith(".rows.parquet")
        ]
    )
    collect(config.replace(output_directory=tmp_path / "local"))
    local = binance_archive_kit.scan(tmp_path / "local", "spot", "klines").collect()
    assert plain(rows).equals(plain(local))


def plain(candles: pl.DataFrame) -> pl.DataFrame:
    """Return columns of candles in one order, without what readers add to their types."""
    columns = ["open", "high", "low", "close", "volume", "count"]
    symbol, time = pl.col("symbol").cast(pl.String), pl.col("open_time").dt.replace_time_zone(None)
    return candles.select(symbol, time, *columns).sort("symbol", "open_time")


def test_rows_of_files_issued_again_replace_those_before(
    serve: Serve, into: Ask, bucket: Bucket, store: Path
) -> None:
    archive = priced(9, 100.0)
    server = serve(archive)
    config = into(server, "BTCUSDT")
    for changed in ({}, {key: body for key, body in priced(9, 200.0).items() if KEY in key}):
        archive |= changed
        opened = []
        for place in (bucket.url, store):
            assert collect(config.replace(output_directory=place)).outcome == "complete"
            rows = binance_archive_kit.scan(place, "spot", "klines").collect()
            opened.append(plain(rows))
        assert opened[0].equals(opened[1])
        prices = opened[0].group_by("open").len().sort("open").rows()
        assert prices == ([(100.0, 192), (200.0, 24)] if changed else [(100.0, 216)])
        assert binance_archive_kit.store(bucket.url).frame()["tabled"].to_list() == [9]


def test_tables_that_cannot_be_published_are_no_failure(
    demo: str, bucket: Bucket, gate: Gate
) -> None:
    gate.rule = lambda method, path: 403 if method == "PUT" and "/tables/" in path else None
    config = CollectionConfig(
        markets=["spot"],
        symbols=["BTCUSDT"],
        data_types=["klines"],
        intervals={"klines": ["1d"]},
        date_range={"start": "2025-07-01", "end": "2025-07-08"},
        output_directory=bucket.url,
        endpoint_url=demo,
    )
    with pytest.warns(ArchiveKitWarning, match=r"tables could not be written.*build"):
        assert collect(config).outcome == "complete"


# Events


def test_events_are_those_of_a_folder(
    serve: Serve, into: Ask, archive: Archive, store: Path, bucket: Bucket
) -> None:
    spoiled = kline_key("ADAUSDT", FIRST)
    archive[spoiled] = archive[spoiled][:-3]
    server = serve(archive)
    seen: dict[str, list[dict[str, Any]]] = {}
    for place in (store, bucket.url):
        for run in (1, 2):
            metrics = MetricsCollector()
            collect(into(server, output_directory=place), metrics=metrics)
            seen[f"{place} {run}"] = metrics.events
            if run == 1:
                errors = metrics.errors
                assert [error["details"]["key"] for error in errors] == [spoiled]
    for run in (1, 2):
        local, remote = (
            sorted(
                (event["event"], event["details"].get("key", ""))
                for event in seen[f"{place} {run}"]
                if not event["event"].startswith("batch")
            )
            for place in (store, bucket.url)
        )
        assert remote == local
    first = seen[f"{bucket.url} 1"]
    paths = [event["details"]["path"] for event in first if event["event"] == "file_downloaded"]
    assert sorted(paths) == sorted(
        f"{bucket.url}/{key}" for key in zips_of(archive) if key != spoiled
    )
    started = sum(event["event"] == "batch_started" for event in first)
    assert started == sum(event["event"] == "batch_finished" for event in first) > 0


# Faults of the archive


def test_bad_bytes_are_in_quarantine_and_the_rest_is_collected(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, cache: Path
) -> None:
    other = zipped(KEY, candles("of somebody else"))
    gone, refused = kline_key("ETHUSDT", FIRST), kline_key("ADAUSDT", FIRST)
    faults = first_of(
        on_zip(KEY, Fault(body=other)),
        on_zip(gone, Fault(status=404), method=None),
        on_checksum(refused, Fault(status=403)),
    )
    server = serve(archive, faults)
    result = collect(into(server))
    assert reasons_of(result) == {KEY: "corrupt", gone: "not_found", refused: "forbidden"}
    [(key, (body, said))] = bucket_quarantine(bucket).items()
    assert (key, body, said["reason"]) == (KEY, other, "corrupt")
    [failure] = [failure for failure in result.failures if failure.key == KEY]
    assert f"the bytes are in {bucket.url}/quarantine/{KEY}." in failure.detail
    assert str(cache) not in str(result)
    assert "corrupt: " in BucketStore(bucket).quarantined(KEY.rpartition("/")[0] + "/")[KEY]
    assert_bucket_holds(
        bucket, {k: v for k, v in zips_of(archive).items() if k not in (KEY, gone, refused)}
    )
    server.fault = None
    result = collect(into(server))
    assert result.collection_stats["successful_tasks"] == 3
    assert_bucket_holds(bucket, zips_of(archive))
    assert_nothing_spooled(cache)


def test_a_chunk_of_failures_does_not_end_the_run(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive
) -> None:
    server = serve(archive, on_zip("BTCUSDT", Fault(status=404), method=None))
    result = collect(into(server))
    assert result.collection_stats["failed_tasks"] == 9
    held = {key: body for key, body in zips_of(archive).items() if "BTCUSDT" not in key}
    assert_bucket_holds(bucket, held)


def test_a_run_without_any_file_fails(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive
) -> None:
    server = serve(archive, on_zip("", Fault(status=404), method=None))
    with pytest.raises(WorkflowError, match="27 objects failed") as caught:
        collect(into(server))
    assert caught.value.result.collection_stats["failed_tasks"] == 27
    assert_bucket_holds(bucket, {})


def test_a_stale_checksum_is_accepted_on_request(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive
) -> None:
    archive[f"{KEY}.CHECKSUM"] = sidecar(KEY, b"other")
    server = serve(archive)
    assert reasons_of(collect(into(server))) == {KEY: "checksum_stale"}
    result = collect(into(server, accept_stale_checksum=True))
    assert [*result.stale] == [f"{bucket.url}/{KEY}"]
    assert assert_bucket_whole(bucket, zips_of(archive)) == zips_of(archive).keys()
    # Without the permission it fails again, and nothing is taken away.
    assert reasons_of(collect(into(server))) == {KEY: "checksum_stale"}
    assert assert_bucket_whole(bucket, zips_of(archive)) == zips_of(archive).keys()


# Faults of the destination


@pytest.mark.parametrize("status", [503, 500, 0])
def test_a_fault_of_the_bucket_that_passes_is_no_failure(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, gate: Gate, status: int
) -> None:
    server = serve(archive)
    tries: dict[str, int] = {}

    def rule(method: str, path: str) -> int | None:
        if method != "PUT":
            return None
        tries[path] = tries.get(path, 0) + 1
        return status if tries[path] == 1 and random.Random(path).random() < 0.3 else None

    gate.rule = rule
    assert collect(into(server)).outcome == "complete"
    assert max(tries.values()) > 1
    gate.rule = None
    assert sorted(fetched(server)) == sorted(zips_of(archive))
    assert_bucket_holds(bucket, zips_of(archive))


@pytest.mark.parametrize("status", [403, 500])
def test_what_the_bucket_does_not_take_is_a_failure(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, gate: Gate, status: int
) -> None:
    server = serve(archive)
    gate.rule = lambda method, path: status if method == "PUT" and KEY in path else None
    result = collect(into(server))
    assert reasons_of(result) == {KEY: "upload_failed"}
    if status == 403:
        assert "access is denied; check the credentials" in result.failures[0].detail
    rest = {key: body for key, body in zips_of(archive).items() if key != KEY}
    assert_bucket_holds(bucket, rest)
    gate.rule = None
    assert collect(into(server)).collection_stats["successful_tasks"] == 1
    assert_bucket_holds(bucket, zips_of(archive))


def test_a_bucket_that_takes_nothing_ends_the_run_soon(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, gate: Gate, cache: Path
) -> None:
    server = serve(archive)
    gate.rule = lambda method, path: 403 if method == "PUT" else None
    with pytest.raises(WorkflowError, match=r"27 upload_failed.*access is denied") as caught:
        collect(into(server))
    assert len(fetched(server)) <= 18
    assert any("not tried" in str(failure) for failure in caught.value.result.failures)
    assert_bucket_holds(bucket, {})
    gate.rule = None
    assert collect(into(server)).outcome == "complete"
    assert_bucket_holds(bucket, zips_of(archive))
    assert_nothing_spooled(cache)


def test_a_bucket_that_is_not_there_is_an_error_before_any_download(
    serve: Serve, into: Ask, archive: Archive, s3_url: str
) -> None:
    server = serve(archive)
    with pytest.raises(StoreError, match="no such bucket"):
        collect(into(server, output_directory="s3://nowhere/prefix"))
    assert fetched(server) == []


def test_records_are_written_with_patience(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, gate: Gate
) -> None:
    server = serve(archive)
    failing = 5

    def rule(method: str, path: str) -> int | None:
        ours = method == "PUT" and "/records/" in path
        return 503 if ours and gate.count("PUT", "/records/") <= failing else None

    gate.rule = rule
    assert collect(into(server)).outcome == "complete"
    assert gate.count("PUT", "/records/") > failing
    assert sorted(fetched(server)) == sorted(zips_of(archive))
    gate.rule = None
    assert_bucket_holds(bucket, zips_of(archive))


def test_objects_without_a_recorded_proof_are_failures(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive, gate: Gate
) -> None:
    server = serve(archive)
    gate.rule = lambda method, path: 403 if method == "PUT" and "/records/" in path else None
    with pytest.raises(WorkflowError, match="its proof could not be recorded"):
        collect(into(server))
    gate.rule = None
    assert [*BucketStore(bucket).records.proven_keys()] == []
    assert collect(into(server)).collection_stats["successful_tasks"] == 27
    assert_bucket_holds(bucket, zips_of(archive))


# The local disk


def test_too_small_a_disk_is_an_error_before_any_download(
    serve: Serve, into: Ask, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(archive)
    usage = shutil._ntuple_diskusage(10**9, 10**9, 1000)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskSpaceError, match=r"pass through .* 1000 B free.*XDG_CACHE_HOME"):
        collect(into(server))
    assert fetched(server) == []


def zip_bytes(folder: Path) -> int:
    """Sum the sizes of the zips below a folder, while they come and go."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(path, name).stat().st_size if ".zip" in name else 0
    return size


def test_the_spool_stays_small(
    serve: Serve, into: Ask, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    archive = daily_klines("BTCUSDT", days=60, rows=3000)
    size = len(archive[KEY])
    monkeypatch.setattr(chunking, "MOST_BYTES", 4 * size)
    monkeypatch.setattr(spool, "MOST_WAITING", 8 * size)
    server = serve(archive)
    most = 0

    async def main() -> None:
        nonlocal most
        task = asyncio.create_task(acollect(into(server, "BTCUSDT", days=60)))
        while not task.done():
            most = max(most, zip_bytes(cache))
            await asyncio.sleep(0.005)
        assert (await task).outcome == "complete"

    asyncio.run(main())
    assert 4 * size < most <= (4 + 4 + 2 * 12) * size < 40 * size
    assert_bucket_holds(bucket, zips_of(archive))


# Ends at any moment

CHILD = """\
import signal, sys
from binance_archive_kit.collection import chunking
from binance_archive_kit.collection.collect import collect
from binance_archive_kit.planning.config import CollectionConfig

signal.signal(signal.SIGINT, signal.default_int_handler)
chunking._FEWEST_CHUNKS, chunking._FEWEST_OBJECTS = 4, 32
collect(CollectionConfig.from_json(sys.argv[1]))
"""


@pytest.fixture
def children() -> Iterator[Children]:
    children = Children(CHILD)
    yield children
    children.end()


def wait_for(count: Callable[[], int], least: int) -> None:
    until = time.monotonic() + SOON
    while count() < least:
        assert time.monotonic() < until, f"{count()} of {least}"
        time.sleep(0.005)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_process_may_end_at_any_moment(
    serve: Serve,
    into: Ask,
    bucket: Bucket,
    gate: Gate,
    children: Children,
    cache: Path,
    name: str,
) -> None:
    archive = many_klines()
    server = serve(archive)
    server.latency = 0.01
    config = into(server, *SYMBOLS, days=DAYS, max_parallel_downloads=8)
    chance, total = random.Random(name), len(SYMBOLS) * DAYS
    shares = 0.15, 0.25, 0.3
    for share in shares:
        proven = BucketStore(bucket).records.proven_keys()
        before = len(fetched(server))
        child = children.start(config.to_json(), XDG_CACHE_HOME=str(cache))
        wanted = before + chance.randrange(1, int(share * (total - len(proven))))
        wait_for(lambda: len(fetched(server)), wanted)
        if share == shares[-1]:
            wait_for(lambda: len(BucketStore(bucket).records.proven_keys()), 1)
        time.sleep(chance.uniform(0, 0.3))
        child.send_signal(signal.Signals[name])
        child.wait(SOON)
        assert child.returncode not in (0, None)
        for endpoint in (server.url, gate.url):
            assert_no_downloader(endpoint, within=SOON)
        assert_bucket_whole(bucket, zips_of(archive))
        now = BucketStore(bucket).records.proven_keys()
        new = len(fetched(server)) - before
        # What is lost is no more than was in the spool: two chunks.
        assert new - len(now - proven) <= 2 * 75 + 62
    proven = BucketStore(bucket).records.proven_keys()
    assert 0 < len(proven) < total
    server.requests.clear()
    server.latency = 0.0
    result = collect(config)
    assert result.outcome == "complete"
    assert result.collection_stats["skipped_tasks"] == len(proven)
    assert sorted(fetched(server)) == sorted(zips_of(archive).keys() - proven)
    assert_bucket_holds(bucket, zips_of(archive))
    assert_nothing_spooled(cache)


@pytest.mark.parametrize("count", [0, 1, 60])
def test_a_cancelled_task_leaves_nothing_behind(
    serve: Serve, into: Ask, bucket: Bucket, gate: Gate, cache: Path, count: int
) -> None:
    archive = many_klines()
    server = serve(archive)
    server.latency = 0.01
    config = into(server, *SYMBOLS, days=DAYS, max_parallel_downloads=8)

    async def main() -> None:
        task = asyncio.create_task(acollect(config))
        await asyncio.to_thread(wait_for, lambda: len(fetched(server)), count)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert downloaders(server.url) == downloaders(gate.url) == []
        assert_nothing_spooled(cache)

    asyncio.run(main())
    held = BucketStore(bucket).records.proven_keys()
    server.latency = 0.0
    server.requests.clear()
    result = collect(config)
    assert result.collection_stats["skipped_tasks"] == len(held)
    assert sorted(fetched(server)) == sorted(zips_of(archive).keys() - held)
    assert_bucket_holds(bucket, zips_of(archive))


def test_an_interrupt_does_not_wait_for_a_bucket_that_takes_nothing(
    serve: Serve,
    into: Ask,
    archive: Archive,
    gate: Gate,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "_PAUSES", (300.0,))
    gate.rule = lambda method, path: 500 if method == "PUT" and "/data/" in path else None

    async def main() -> None:
        task = asyncio.create_task(acollect(into(serve(archive))))
        await asyncio.to_thread(wait_for, lambda: gate.count("PUT", "/data/"), 9)
        await asyncio.sleep(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, SOON)
        assert_nothing_spooled(cache)

    asyncio.run(main())


# Several at once


def test_two_machines_share_a_prefix(
    serve: Serve, into: Ask, bucket: Bucket, children: Children, tmp_path: Path
) -> None:
    archive = many_klines()
    server = serve(archive)
    parts = [SYMBOLS[:6], SYMBOLS[4:]]
    running = [
        children.start(
            into(server, *part, days=DAYS).to_json(),
            XDG_CACHE_HOME=str(tmp_path / f"machine {number}"),
        )
        for number, part in enumerate(parts)
    ]
    for child in running:
        _, said = child.communicate(timeout=60)
        assert child.returncode == 0, said.decode()
    assert_bucket_holds(bucket, zips_of(archive))
    server.requests.clear()
    result = collect(into(server, *SYMBOLS, days=DAYS))
    assert result.collection_stats["skipped_tasks"] == len(zips_of(archive))
    assert fetched(server) == []


def test_several_threads_share_a_prefix(
    serve: Serve, into: Ask, bucket: Bucket, archive: Archive
) -> None:
    server = serve(archive)
    parts = [THREE[:2], THREE[1:], THREE]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda part: collect(into(server, *part)), parts))
    assert [result.outcome for result in results] == ["complete"] * 3
    assert_bucket_holds(bucket, zips_of(archive))
