"""A store is brought up to date: by what it has, in its own partitions, and after any failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.cli.main import main
from binance_archive_kit.upkeep import updating
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import (
    FIRST,
    Bucket,
    candles,
    daily_klines,
    kline_key,
    with_sidecars,
    zipped,
    zips_of,
)
from tests.support.checks import assert_holds
from tests.support.s3_server import Fault, LocalS3, Request

DAY = timedelta(days=1)


def months(symbol: str, *periods: str) -> Bucket:
    """Make a bucket of monthly spot candles."""
    folder = f"data/spot/monthly/klines/{symbol}/1h"
    keys = [f"{folder}/{symbol}-1h-{period}.zip" for period in periods]
    return with_sidecars({key: zipped(key, candles(key)) for key in keys})


def stored(store: Path) -> set[str]:
    return {path.relative_to(store).as_posix() for path in store.rglob("*.zip")}


def days(symbol: str, count: int, start: date = FIRST) -> set[str]:
    return {kline_key(symbol, start + at * DAY) for at in range(count)}


def test_each_stream_goes_on_after_its_last_file(serve: Serve, ask: Ask, store: Path) -> None:
    bucket = daily_klines("BTCUSDT", days=12) | daily_klines("ETHUSDT", days=12)
    server = serve(bucket)
    bak.collect(ask(server, "BTCUSDT", days=3))
    bak.collect(ask(server, "ETHUSDT", days=9))
    before = stored(store)
    planned = bak.update(store, end="2025-07-12", endpoint_url=server.url, dry_run=True)
    assert stored(store) == before
    assert set(planned.rows_to_fetch()["key"]) == set(zips_of(bucket)) - before
    assert planned.config.days().start == date(2025, 7, 3)

    result = bak.update(store, end="2025-07-12", endpoint_url=server.url)
    assert result.outcome == "complete"
    assert result.collection_stats["successful_tasks"] == 12
    assert not result.missing
    assert not result.not_published
    assert_holds(store, zips_of(bucket))

    server.requests.clear()
    again = bak.update(bak.store(store), end="2025-07-12", endpoint_url=server.url)
    assert again.outcome == "complete"
    assert again.collection_stats["skipped_tasks"] == 2
    assert not [key for method, key in server.requests if method == "GET"]


def test_only_what_is_chosen_is_updated(serve: Serve, ask: Ask, store: Path) -> None:
    server = serve(daily_klines("BTCUSDT", days=6) | daily_klines("ETHUSDT", days=6))
    bak.collect(ask(server, "BTCUSDT", "ETHUSDT", days=2))
    bak.update(store, symbols="ETH*", end="2025-07-04", endpoint_url=server.url)
    assert stored(store) == days("BTCUSDT", 2) | days("ETHUSDT", 4)


def test_a_store_of_months_gets_whole_months(serve: Serve, ask: Ask, store: Path) -> None:
    bucket = months("BTCUSDT", "2025-07", "2025-08", "2025-09")
    server = serve(bucket | daily_klines("BTCUSDT", days=100))
    bak.collect(ask(server, days=31, partition="monthly"))
    result = bak.update(store, end="2025-10-05", endpoint_url=server.url)
    assert_holds(store, zips_of(bucket))
    assert not result.missing
    assert not result.not_published


def test_a_store_of_both_gets_days_only_where_no_month_is_published(
    serve: Serve, ask: Ask, store: Path
) -> None:
    september = daily_klines("BTCUSDT", date(2025, 9, 1), days=8)
    august = daily_klines("BTCUSDT", date(2025, 8, 1), days=31)
    kept = months("BTCUSDT", "2025-07", "2025-08")
    server = serve(kept | august | september)
    bak.collect(ask(server, days=31, partition="monthly"))
    bak.collect(ask(server, start=date(2025, 8, 1), days=2))
    bak.update(store, end="2025-09-08", endpoint_url=server.url)
    # The two days of August stay; its month is published, and takes the place of the others.
    days_of_august = days("BTCUSDT", 2, date(2025, 8, 1))
    assert stored(store) == {*zips_of(kept), *zips_of(september), *days_of_august}


def test_a_month_that_is_not_there_is_replaced_by_its_days(
    serve: Serve, ask: Ask, store: Path
) -> None:
    daily = daily_klines("BTCUSDT", date(2025, 8, 1), days=33)
    server = serve(months("BTCUSDT", "2025-07") | daily)
    bak.collect(ask(server, days=31, partition="monthly"))
    bak.update(store, end="2025-09-02", partition="auto", endpoint_url=server.url)
    assert stored(store) == {*zips_of(months("BTCUSDT", "2025-07")), *zips_of(daily)}


def test_a_deleted_day_does_not_come_back_for_a_month_that_is_not_there(
    serve: Serve, ask: Ask, store: Path
) -> None:
    daily, july = daily_klines("BTCUSDT", date(2025, 8, 1), days=20), months("BTCUSDT", "2025-07")
    server = serve(july | daily)
    bak.collect(ask(server, days=31, partition="monthly"))
    bak.collect(ask(server, start=date(2025, 8, 1), days=5))
    bak.prune(store, start="2025-08-02", end="2025-08-03", dry_run=False)
    deleted = days("BTCUSDT", 2, date(2025, 8, 2))
    bak.update(store, end="2025-08-31", endpoint_url=server.url)
    assert stored(store) == {*zips_of(july), *zips_of(daily)} - deleted
    bak.update(store, end="2025-08-31", holes=True, endpoint_url=server.url)
    assert stored(store) == {*zips_of(july), *zips_of(daily)}


def test_holes_are_filled_on_request(serve: Serve, ask: Ask, store: Path) -> None:
    server = serve(daily_klines("BTCUSDT", days=10))
    bak.collect(ask(server, days=2))
    bak.collect(ask(server, start=FIRST + 5 * DAY, days=1))
    bak.update(store, end="2025-07-08", endpoint_url=server.url)
    hole = days("BTCUSDT", 3, FIRST + 2 * DAY)
    assert stored(store) == days("BTCUSDT", 8) - hole
    bak.update(store, end="2025-07-08", holes=True, endpoint_url=server.url)
    assert stored(store) == days("BTCUSDT", 8)


# Nothing is forgotten


def test_a_failed_file_is_requested_by_the_next_update(serve: Serve, ask: Ask, store: Path) -> None:
    broken = {kline_key("BTCUSDT", FIRST + 4 * DAY)}

    def refuse(request: Request) -> Fault | None:
        return Fault(status=403) if request.key in broken and request.method == "GET" else None

    server = serve(daily_klines("BTCUSDT", days=8), refuse)
    bak.collect(ask(server, days=2))
    settings: dict[str, Any] = {"endpoint_url": server.url, "s5cmd_extra_args": ["--retry-count=1"]}
    failed = bak.update(store, end="2025-07-08", **settings)
    assert [failure.key for failure in failed.failures] == [*broken]
    assert failed.outcome == "partial"
    broken.clear()
    healed = bak.update(store, end="2025-07-08", **settings)
    assert healed.collection_stats["successful_tasks"] == 1
    assert stored(store) == days("BTCUSDT", 8)
    assert not bak.update(store, end="2025-07-08", **settings).failures


def test_a_file_that_is_published_late_is_requested_again(
    serve: Serve, ask: Ask, store: Path
) -> None:
    late = kline_key("BTCUSDT", FIRST + 3 * DAY)
    bucket = daily_klines("BTCUSDT", days=6)
    without = serve({key: body for key, body in bucket.items() if not key.startswith(late)})
    bak.collect(ask(without, days=2))
    first = bak.update(store, end="2025-07-06", endpoint_url=without.url)
    assert [absence.key for absence in first.missing] == [late]
    again = bak.update(store, end="2025-07-06", endpoint_url=without.url)
    assert [absence.key for absence in again.missing] == [late]
    whole = serve(bucket)
    bak.update(store, end="2025-07-06", endpoint_url=whole.url)
    assert stored(store) == days("BTCUSDT", 6)


def test_a_killed_update_keeps_what_an_earlier_one_lacked(
    serve: Serve, ask: Ask, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = kline_key("BTCUSDT", FIRST + 3 * DAY)
    bucket = daily_klines("BTCUSDT", days=8)
    without = serve({key: body for key, body in bucket.items() if not key.startswith(late)})
    bak.collect(ask(without, days=2))
    bak.update(store, end="2025-07-06", endpoint_url=without.url)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(updating, "collect", die)
        with pytest.raises(KeyboardInterrupt):
            bak.update(store, end="2025-07-08", endpoint_url=without.url)
    bak.update(store, end="2025-07-08", endpoint_url=serve(bucket).url)
    assert stored(store) == days("BTCUSDT", 8)


CHILD = """\
import sys
import binance_archive_kit as bak
bak.update(sys.argv[1], end=sys.argv[2], endpoint_url=sys.argv[3], max_parallel_downloads=4)
"""


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_killed_update_is_finished_by_the_next_one(
    serve: Serve, ask: Ask, store: Path, share: float
) -> None:
    count = 60
    server = serve(daily_klines("BTCUSDT", days=count) | daily_klines("ETHUSDT", days=count))
    bak.collect(ask(server, "BTCUSDT", "ETHUSDT", days=1))
    server.latency = 0.03
    end = str(FIRST + (count - 1) * DAY)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store), end, server.url],
        env={**os.environ, "PYTHONPATH": str(Path(bak.__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while len(stored(store)) < share * 2 * count and time.monotonic() < until:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.latency = 0.0
    result = bak.update(store, end=end, endpoint_url=server.url)
    assert result.outcome == "complete"
    assert stored(store) == days("BTCUSDT", count) | days("ETHUSDT", count)


# What has ended


def test_what_has_ended_is_not_asked_for_again_and_again(
    serve: Serve, ask: Ask, store: Path
) -> None:
    server = serve(daily_klines("BTCUSDT", days=90) | daily_klines("DEADUSDT", days=3))
    bak.collect(ask(server, "BTCUSDT", "DEADUSDT", days=3))
    bak.update(store, symbols="BTCUSDT", end="2025-08-20", endpoint_url=server.url)

    first = bak.update(store, end="2025-08-21", endpoint_url=server.url)
    # One absence for all its days, as an ended stream has no further file.
    [absence] = first.missing
    assert (absence.symbol, absence.reason) == ("DEADUSDT", bak.Reason.AFTER_LAST)
    assert (absence.start, absence.end) == (date(2025, 7, 4), date(2025, 8, 21))

    server.requests.clear()
    second = bak.update(store, end="2025-08-22", endpoint_url=server.url)
    assert not second.missing
    assert "DEADUSDT" not in str(server.requests)
    assert "1 stream not requested, spot klines DEADUSDT 1h" in str(second)

    # Once in 35 days it is asked for again: it may have come back.
    returned = daily_klines("DEADUSDT", date(2025, 9, 25), days=3)
    later = serve(daily_klines("BTCUSDT", days=90) | daily_klines("DEADUSDT", days=3) | returned)
    third = bak.update(store, end="2025-09-27", endpoint_url=later.url)
    assert set(zips_of(returned)) <= stored(store)
    assert {absence.symbol for absence in third.missing} == {"DEADUSDT"}


def test_an_archive_that_stopped_is_not_taken_for_the_end_of_symbols(
    serve: Serve, ask: Ask, store: Path
) -> None:
    server = serve(daily_klines("BTCUSDT", days=3) | daily_klines("ETHUSDT", days=3))
    bak.collect(ask(server, "BTCUSDT", "ETHUSDT", days=3))
    result = bak.update(store, end="2025-08-31", endpoint_url=server.url)
    assert {absence.reason for absence in result.missing} == {bak.Reason.ABSENT}
    assert len(result.missing) == 2 * 59


def test_delivered_contracts_and_ended_feeds_are_left_alone(serve: Serve, store: Path) -> None:
    root = "data/futures/um/daily"
    contract, ended = "BTCUSDT_250328", "BTCUSDT"
    keys = [
        f"{root}/klines/{contract}/1h/{contract}-1h-2025-03-28.zip",
        f"{root}/liquidationSnapshot/{ended}/{ended}-liquidationSnapshot-2024-03-31.zip",
    ]
    for key in keys:
        (store / key).parent.mkdir(parents=True)
        (store / key).write_bytes(zipped(key, candles(key)))
    server = serve({})
    result = bak.update(store, market="um", end="2025-07-05", endpoint_url=server.url)
    assert result.outcome == "empty"
    assert not result.missing
    assert not [path for method, path in server.requests if "BTCUSDT" in path], server.requests
    assert "not requested" in str(result)


# Layouts, and misuse


class ByMonth(bak.BaseStorage):
    """Files by symbol and month."""

    def get_partition_path(self, **of: Any) -> str:
        return f"{of['symbol']}/{of['partition_date']:%Y-%m}"


def test_a_layout_is_kept(serve: Serve, ask: Ask, store: Path) -> None:
    server = serve(daily_klines("BTCUSDT", days=6))
    bak.collect(ask(server, days=2), storage=ByMonth())
    result = bak.update(store, end="2025-07-05", storage=ByMonth(), endpoint_url=server.url)
    assert result.collection_stats["skipped_tasks"] == 1
    names = {path.rpartition("/")[2] for path in days("BTCUSDT", 5)}
    assert stored(store) == {f"BTCUSDT/2025-07/{name}" for name in names}
    with pytest.warns(bak.ArchiveKitWarning, match="Give update the same storage"):
        bak.update(store, end="2025-07-05", endpoint_url=server.url, dry_run=True)


def test_bare_csv_files_count_as_files(serve: Serve, store: Path) -> None:
    server = serve(daily_klines("BTCUSDT", days=4))
    for key in days("BTCUSDT", 2):
        path = store / key.replace(".zip", ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    bak.update(store, end="2025-07-04", endpoint_url=server.url)
    assert stored(store) == days("BTCUSDT", 4) - days("BTCUSDT", 2)


def test_the_coverage_of_an_update_is_about_what_it_requested(
    serve: Serve, ask: Ask, store: Path
) -> None:
    """One stream begins before the last file of another one; no day of it is missing."""
    new = daily_klines("NEWUSDT", FIRST + 4 * DAY, days=4)
    server = serve(daily_klines("BTCUSDT", days=8) | new)
    bak.collect(ask(server, "BTCUSDT", days=1))
    bak.collect(ask(server, "NEWUSDT", start=FIRST + 4 * DAY, days=1))
    result = bak.update(store, end="2025-07-08", endpoint_url=server.url)
    report = bak.coverage(result.plan)
    first = dict(report.streams.select("symbol", "first").iter_rows())
    assert first == {"BTCUSDT": FIRST, "NEWUSDT": FIRST + 4 * DAY}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"end": "soon"}, "end: 'soon' is not a day"),
        ({"symbols": "BTCUSDC"}, "has no file of 'BTCUSDC'; did you mean 'BTCUSDT'"),
        ({"partition": "weekly"}, "partition: 'weekly' is not valid"),
        ({"partition": ["daily"]}, "partition: .* is not valid"),
        ({"end": datetime(2025, 7, 1, 12)}, "end: .* has a time"),
        ({"data_type": "trades"}, "the store has no trades; it has spot klines"),
        ({"intervals": "4h"}, "intervals: the store has no file with the interval 4h"),
        ({"output_directory": "x"}, "setting: 'output_directory' is not valid"),
        ({"end_point_url": "x"}, "did you mean 'endpoint_url'"),
        ({"holes": "yes"}, "holes: 'yes' is neither True nor False"),
    ],
)
def test_misuse_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    for key in days("BTCUSDT", 1):
        (tmp_path / key).parent.mkdir(parents=True)
        (tmp_path / key).touch()
    with pytest.raises(bak.ConfigurationError, match=message):
        bak.update(tmp_path, **options)


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(bak.ConfigurationError, match="has no file of the archive; collect some"):
        bak.update(tmp_path)
    with pytest.raises(bak.ConfigurationError, match="is not a folder"):
        bak.update(tmp_path / "nothing")


# The command


def run(server: LocalS3, store: Path, *arguments: str) -> int:
    return main(["update", str(store), "--endpoint-url", server.url, *arguments])


def test_the_command(
    serve: Serve, ask: Ask, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(request: Request) -> Fault | None:
        return (
            Fault(status=403) if "2025-07-06" in request.key and request.method == "GET" else None
        )

    server = serve(daily_klines("BTCUSDT", days=6), refuse)
    bak.collect(ask(server, days=2))
    assert run(server, store, "--end", "2025-07-04", "--dry-run") == 0
    assert "3 objects: 2 to download, 1 to keep" in capsys.readouterr().out
    assert stored(store) == days("BTCUSDT", 2)
    assert run(server, store, "--end", "2025-07-04", "--json") == 0
    assert '"successful_tasks": 2' in capsys.readouterr().out
    assert run(server, store, "--end", "2025-07-06", "--s5cmd-extra-args=--retry-count=1") == 1
    assert stored(store) == days("BTCUSDT", 5)
    assert run(server, store, "--symbols", "ETHUSDT") == 2
    assert "did you mean" in capsys.readouterr().err
