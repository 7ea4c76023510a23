"""Files are deleted by stream and period: those that were chosen, and nothing else, ever."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.cli.main import main
from binance_archive_kit.storage.store import Store
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import FIRST, daily_klines, kline_key, zips_of
from tests.support.checks import files_of
from tests.support.stores import kline, put

DAY = timedelta(days=1)


def days(symbol: str, count: int, start: date = FIRST, interval: str = "1h") -> set[str]:
    return {kline_key(symbol, start + at * DAY, interval) for at in range(count)}


def stored(store: Path) -> set[str]:
    """Name the zips; folders may go meanwhile."""
    return {
        (Path(folder) / name).relative_to(store).as_posix()
        for folder, _, names in os.walk(store)
        for name in names
        if name.endswith(".zip")
    }


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Make a store of two symbols, two intervals, and a month, with real rows."""
    root = tmp_path / "small"
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for at in range(4):
            put(root, kline(symbol, str(FIRST + at * DAY)))
    put(root, kline("BTCUSDT", "2025-07-01", "4h"), 6)
    put(root, kline("BTCUSDT", "2025-06"), 720)
    return root


def test_nothing_is_deleted_by_default(small: Path) -> None:
    before = files_of(small)
    found = bak.prune(small, symbols="BTCUSDT")
    assert not found.deleted
    assert found.files == 6
    # Zips, and the checksums beside them.
    assert found.bytes == sum(path.stat().st_size for path in small.rglob("BTCUSDT-*"))
    assert "nothing is deleted yet: repeat the call with dry_run=False" in str(found)
    assert "would be deleted" in found._repr_html_()
    assert files_of(small) == before


@pytest.mark.parametrize(
    ("choice", "gone"),
    [
        ({"symbols": "ETH*"}, days("ETHUSDT", 4)),
        ({"intervals": "4h"}, days("BTCUSDT", 1, interval="4h")),
        ({"partition": "monthly"}, {str(kline("BTCUSDT", "2025-06"))}),
        ({"end": "2025-07-02", "symbols": "ETHUSDT"}, days("ETHUSDT", 2)),
        (
            {"start": FIRST + DAY, "end": FIRST + DAY, "market": "spot"},
            days("BTCUSDT", 1, FIRST + DAY) | days("ETHUSDT", 1, FIRST + DAY),
        ),
        ({"end": "2025-06-30"}, {str(kline("BTCUSDT", "2025-06"))}),
    ],
)
def test_what_is_chosen_goes_and_nothing_else(
    small: Path, choice: dict[str, Any], gone: set[str]
) -> None:
    before = stored(small)
    planned = bak.prune(small, **choice)
    done = bak.prune(small, dry_run=False, **choice)
    assert stored(small) == before - gone
    assert done.deleted
    assert done.files == planned.files == len(gone)
    assert done.frame.equals(planned.frame)


def test_a_month_across_the_border_stays(small: Path) -> None:
    done = bak.prune(small, symbols="BTCUSDT", start="2025-06-15", dry_run=False)
    assert done.partial == (str(kline("BTCUSDT", "2025-06")),)
    assert stored(small) == {*done.partial, *days("ETHUSDT", 4)}
    assert "1 file kept: only some of the days were chosen" in str(done)


def test_every_form_goes_with_its_checksum_and_empty_folders(small: Path) -> None:
    zip_ = small / kline_key("ETHUSDT", FIRST)
    zip_.with_suffix(".csv").write_text("1,2\n")
    zip_.with_suffix(".csv.gz").write_bytes(b"")
    zip_.with_name(f"{zip_.name}.CHECKSUM").write_text("")
    note = small / "data/spot/daily/klines/ETHUSDT/notes.txt"
    note.write_text("mine")
    bak.prune(small, symbols="ETHUSDT", dry_run=False)
    assert [path for path in small.rglob("*ETH*") if path.is_file()] == []
    assert note.read_text() == "mine"
    assert not zip_.parent.exists()
    bak.prune(small, symbols="BTCUSDT", partition="monthly", dry_run=False)
    assert not (small / "data/spot/monthly").exists()


def test_rows_are_gone_at_once_and_tables_shrink(small: Path) -> None:
    opened = bak.store(small)
    before = opened.build()
    assert bak.scan(opened, "spot", "klines").collect().height == 8 * 24 + 6 + 720
    bak.prune(opened, end="2025-07-03", dry_run=False)
    assert bak.scan(opened, "spot", "klines").collect()["date"].unique().to_list() == [
        FIRST + 3 * DAY
    ]
    assert opened.cache.use().bytes < before.bytes
    bak.prune(opened, market="spot", dry_run=False)
    assert opened.cache.use().parts == 0
    assert not (small / "data").exists()


def test_tables_that_cannot_be_rewritten_do_not_hide_what_was_deleted(small: Path) -> None:
    opened = bak.store(small)
    opened.build()
    [lock] = small.rglob("build.lock")
    lock.unlink()
    lock.mkdir()
    with pytest.warns(bak.ArchiveKitWarning, match="tables could not be rewritten"):
        done = bak.prune(small, end="2025-07-03", dry_run=False)
    assert (done.deleted, done.failed) == (True, ())
    assert bak.scan(small, "spot", "klines").collect()["date"].min() == FIRST + 3 * DAY


# Nothing else


def test_quarantine_and_foreign_files_stay(small: Path) -> None:
    foreign = {
        "quarantine/data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-01.zip.0123456789ab.bad",
        "data/spot/daily/klines/BTCUSDT/1h/OTHER-1h-2025-07-01.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-01.parquet",
        "BTCUSDT-1h-2025-07-01.zip",
    }
    for path in foreign:
        (small / path).parent.mkdir(parents=True, exist_ok=True)
        (small / path).write_text("mine")
    bak.prune(small, market="spot", dry_run=False)
    left = {path for path in small.rglob("*") if path.is_file()}
    named = {path.relative_to(small).as_posix() for path in left}
    assert {path for path in named if not path.startswith(".")} == foreign


def test_links_that_lead_out_of_the_store_are_left_alone(small: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    folder = small / "data/spot/daily/klines"
    shutil.move(folder / "ETHUSDT", outside)
    (folder / "ETHUSDT").symlink_to(outside)
    linked = folder / "BTCUSDT/1h/BTCUSDT-1h-2025-07-09.zip"
    shutil.copy(small / kline_key("BTCUSDT", FIRST), tmp_path / "elsewhere.zip")
    linked.symlink_to(tmp_path / "elsewhere.zip")
    done = bak.prune(small, market="spot", dry_run=False)
    assert len(done.outside) == 5
    assert "a symbolic link leads out of the store" in str(done)
    assert len([*outside.rglob("*.zip")]) == 4
    assert (tmp_path / "elsewhere.zip").exists()
    assert linked.is_symlink()


def test_a_link_within_the_store_is_followed(small: Path) -> None:
    home = small / "disk2"
    folder = small / "data/spot/daily/klines/ETHUSDT"
    shutil.move(folder, home)
    folder.symlink_to(home)
    assert bak.prune(small, symbols="ETHUSDT", dry_run=False).files == 4
    assert not [*home.rglob("*.zip")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may delete everything")
def test_what_cannot_be_deleted_is_named(small: Path) -> None:
    folder = small / "data/spot/daily/klines/ETHUSDT/1h"
    folder.chmod(0o555)
    try:
        done = bak.prune(small, market="spot", partition="daily", dry_run=False)
    finally:
        folder.chmod(0o755)
    assert len(done.failed) == 4
    assert "permission denied" in done.failed[0]
    assert stored(small) == days("ETHUSDT", 4) | {str(kline("BTCUSDT", "2025-06"))}


# Records


def test_proofs_go_and_the_files_are_collected_again(serve: Serve, ask: Ask, store: Path) -> None:
    bucket = daily_klines("BTCUSDT", days=6)
    server = serve(bucket)
    config = ask(server, days=6)
    bak.collect(config)
    bak.prune(store, start="2025-07-03", end="2025-07-04", dry_run=False)
    assert Store(store).records.proven_keys() == stored(store)
    verified = bak.verify(store)
    assert verified.sound
    assert verified.files == 4
    missing = bak.coverage(store).gaps.filter(pl.col("kind") != "corrupt")
    assert missing["kind"].to_list() == ["not_collected"]
    assert missing["start"].dt.date().to_list() == [date(2025, 7, 3)]
    again = bak.collect(config)
    assert again.collection_stats["successful_tasks"] == 2
    assert stored(store) == {*zips_of(bucket)}


def test_an_update_requests_no_deleted_day(serve: Serve, ask: Ask, store: Path) -> None:
    server = serve(daily_klines("BTCUSDT", days=10))
    bak.collect(ask(server, days=4))
    Store(store).records.record_unfinished({kline("BTCUSDT", "2025-07-01").folder.stream: FIRST})
    bak.prune(store, end="2025-07-03", dry_run=False)
    bak.update(store, end="2025-07-08", endpoint_url=server.url)
    assert stored(store) == days("BTCUSDT", 5, FIRST + 3 * DAY)


class ByMonth(bak.BaseStorage):
    """Files by symbol and month."""

    def get_partition_path(self, **of: Any) -> str:
        return f"{of['symbol']}/{of['partition_date']:%Y-%m}"


def test_files_that_a_storage_placed_go_with_their_locations(
    serve: Serve, ask: Ask, store: Path
) -> None:
    server = serve(daily_klines("BTCUSDT", days=3) | daily_klines("ETHUSDT", days=3))
    bak.collect(ask(server, "BTCUSDT", "ETHUSDT", days=3), storage=ByMonth())
    bak.prune(store, symbols="ETHUSDT", dry_run=False)
    assert {path.split("/")[0] for path in stored(store)} == {"BTCUSDT"}
    assert len(Store(store).records.locations()) == 3
    assert not (store / "ETHUSDT").exists()
    with pytest.raises(bak.ConfigurationError, match="ETHUSDT"):
        bak.load_klines(store, "ETHUSDT", "1h")


# At any moment


CHILD = """\
import sys
import binance_archive_kit as bak
bak.prune(sys.argv[1], symbols=["AUSDT", "BUSDT"], dry_run=False)
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_run_is_healed_by_the_next_one(
    serve: Serve, ask: Ask, store: Path, seed: int
) -> None:
    symbols = ("AUSDT", "BUSDT", "CUSDT")
    bucket = {key: body for s in symbols for key, body in daily_klines(s, days=90).items()}
    server = serve(bucket)
    config = ask(server, *symbols, days=90)
    bak.collect(config)
    chance = random.Random(seed)
    count = chance.randrange(1, 170)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store)],
        env={**os.environ, "PYTHONPATH": str(Path(bak.__file__).parents[1])},
    )
    until = time.monotonic() + 60
    while len(stored(store)) > 270 - count and time.monotonic() < until and child.poll() is None:
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()

    left = stored(store)
    proven = Store(store).records.proven_keys()
    # No proof is left of a file that is gone: nothing claims to be there.
    assert proven <= left
    assert days("CUSDT", 90) <= left
    assert not bak.verify(store).frame.height
    if rest := {key.split("/")[4] for key in left} - {"CUSDT"}:
        bak.prune(store, symbols=rest, dry_run=False)
    assert stored(store) == days("CUSDT", 90)
    assert Store(store).records.proven_keys() == days("CUSDT", 90)
    again = bak.collect(config)
    assert again.outcome == "complete"
    assert again.collection_stats["successful_tasks"] == 180
    assert stored(store) == {*zips_of(bucket)}


def test_a_running_collection_is_not_disturbed(serve: Serve, ask: Ask, store: Path) -> None:
    bucket = daily_klines("BTCUSDT", days=60)
    server = serve(bucket)
    config = ask(server, days=60, max_parallel_downloads=2)
    bak.collect(ask(server, days=2))
    server.latency = 0.1
    thread = threading.Thread(target=bak.collect, args=(config,))
    thread.start()
    try:
        until = time.monotonic() + 30
        while len(stored(store)) < 6 and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(bak.StoreError, match="a collection is running in this store"):
            bak.prune(store, end="2025-07-03", dry_run=False)
        assert days("BTCUSDT", 2) <= stored(store)
    finally:
        server.latency = 0.0
        thread.join()
    assert stored(store) == {*zips_of(bucket)}
    assert bak.prune(store, end="2025-07-03", dry_run=False).files == 3


# Misuse, and the command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no condition is given, and it would delete all files"),
        ({"dry_run": False}, "no condition is given"),
        ({"start": "2025-07-03", "end": "2025-07-01"}, "start: 2025-07-03 is after end"),
        ({"end": "july"}, "end: 'july' is not a day"),
        ({"symbols": "BTCUSD"}, "did you mean 'BTCUSDT'"),
        ({"symbols": "XRP*"}, "matches none of the 2 symbols"),
        ({"symbols": []}, "symbols: it is empty"),
        ({"market": "sport"}, "did you mean 'spot'"),
        ({"market": "um"}, "the store has no futures_um; it has spot klines"),
        ({"partition": "auto"}, "partition: 'auto' is not valid"),
        ({"intervals": "1d"}, "the store has no file with the interval 1d"),
        ({"end": "2025-07-01", "dry_run": 1}, "dry_run: 1 is neither True nor False"),
    ],
)
def test_misuse_deletes_nothing(small: Path, options: dict[str, Any], message: str) -> None:
    before = files_of(small)
    with pytest.raises(bak.ConfigurationError, match=message):
        bak.prune(small, **options)
    assert files_of(small) == before


def test_the_command(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prune", str(small), "--symbols", "ETHUSDT", "--end", "2025-07-02"]
    assert main(command) == 0
    assert "prune with --yes" in capsys.readouterr().out
    assert days("ETHUSDT", 4) <= stored(small)
    assert main([*command, "--yes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["deleted"], found["files"]) == (True, 2)
    assert stored(small) & days("ETHUSDT", 4) == days("ETHUSDT", 2, FIRST + 2 * DAY)
    assert main(command) == 3
    assert main(["prune", str(small)]) == 2
    assert "no condition is given" in capsys.readouterr().err
