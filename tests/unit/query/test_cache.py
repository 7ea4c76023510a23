"""What was read before is read faster, and never differently."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.cli.main import main
from tests.support.stores import (
    Rows,
    assert_same,
    in_order,
    kline,
    naive_rows,
    other,
    put,
    scan_rows,
    schema_of,
    view_of,
    view_rows,
)

#: Files of feeds with booleans, text, NULLs and doubled rows, and one without rows among them.
FEEDS = {
    "klines": [
        kline(symbol, day)
        for symbol in ("BTCUSDT", "ETHUSDT", "币安人生USDT")
        for day in ("2025-06-30", "2025-07-01", "2025-07-02")
    ],
    "monthly klines": [
        kline("BTCUSDT", month, market="futures/cm") for month in ("2025-06", "2025-07")
    ],
    "trades": [other("trades", "BTCUSDT", f"2025-07-0{day}", "spot") for day in (1, 2, 3)],
    "metrics": [other("metrics", "BTCUSD_PERP", f"2025-07-0{day}", "futures/cm") for day in (1, 2)],
    "liquidations": [other("liquidationSnapshot", "BTCUSDT", f"2023-06-2{day}") for day in (5, 6)],
    "summaries": [other("EOHSummary", "BTCUSDT", f"2023-10-2{day}", "option") for day in (0, 1, 2)],
    "volatility": [other("BVOLIndex", "BTCBVOLUSDT", "2025-07-01", "option")],
}
DAYS = [kline("BTCUSDT", f"2025-07-0{day}") for day in range(1, 6)]


def fill(root: Path, keys: list[ObjectKey]) -> None:
    for at, key in enumerate(keys):
        put(root, key, 0 if at == 1 else 50)


def counts(store: bak.OpenStore) -> tuple[int, int]:
    """Say how many files the last question opened, and took from the cache."""
    assert store.last_scan is not None
    return store.last_scan.opened, store.last_scan.cached


def rows_of(store: bak.OpenStore, key: ObjectKey) -> Rows:
    return scan_rows(bak.scan(store, key.folder.market, key.folder.data_type))


@pytest.mark.parametrize(
    ("name", "decimals"),
    [*((name, False) for name in FEEDS), ("klines", True), ("summaries", True)],
)
def test_cached_rows_are_those_of_the_zips(tmp_path: Path, name: str, decimals: bool) -> None:
    keys = FEEDS[name]
    fill(tmp_path, keys)
    market, data_type = keys[0].folder.market, keys[0].folder.data_type
    plain = bak.scan(tmp_path, market, data_type, cache=False, decimals=decimals).collect()
    store = bak.store(tmp_path, decimals=decimals)
    assert store.warm().months > 0
    lazy = bak.scan(store, market, data_type)
    cached = lazy.collect()
    assert counts(store) == (0, len(keys))
    assert cached.schema == plain.schema
    assert_same(scan_rows(cached), scan_rows(plain))
    assert decimals or scan_rows(cached) == naive_rows(tmp_path, *in_order(keys))
    with (
        bak.connect(store) as con,
        bak.connect(tmp_path, cache=False, decimals=decimals) as uncached,
    ):
        view = view_of(keys[0])
        assert con.sql(f"FROM {view}").types == uncached.sql(f"FROM {view}").types
        assert_same(view_rows(con, view), view_rows(uncached, view))
        assert counts(store) == (0, len(keys))
        time_column = schema_of(keys[0]).time.column
        for where in (
            f"symbol = '{keys[0].folder.symbol}'",
            f"date = '{keys[0].start}'",
            f"{time_column} > '{keys[-1].start}'",
            f"file = '{keys[0]}' AND symbol <> 'X'",
            "interval IS NULL",
        ):
            assert_same(view_rows(con, view, where), view_rows(uncached, view, where))
            assert counts(store)[0] == 0
        count = con.sql(f"SELECT count(*), count(DISTINCT file) FROM {view}").fetchall()
        assert (
            count == uncached.sql(f"SELECT count(*), count(DISTINCT file) FROM {view}").fetchall()
        )
    for column in lazy.collect_schema().names():
        assert_same(scan_rows(lazy.select(column)), scan_rows(plain.select(column)))


def test_what_was_read_is_kept_by_itself(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path)
    expected = rows_of(store, DAYS[0])
    assert counts(store) == (5, 0)
    wait_until(lambda: store.cache.use().months == 1)
    assert_same(rows_of(store, DAYS[0]), expected)
    assert counts(store) == (0, 5)
    # And it is there for those who come later.
    later = bak.store(tmp_path)
    assert_same(rows_of(later, DAYS[0]), expected)
    assert counts(later) == (0, 5)


def wait_until(met: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not met() and time.monotonic() < until:
        time.sleep(0.02)
    assert met()


def test_only_what_is_asked_for_is_kept(tmp_path: Path) -> None:
    for name in ("klines", "trades", "metrics"):
        fill(tmp_path, FEEDS[name])
    store = bak.store(tmp_path)
    assert store.warm("spot", "klines", symbols=["ETHUSDT"]).months == 2
    klines = bak.scan(store, "spot", "klines")
    assert klines.filter(symbol="ETHUSDT").collect().height > 0
    assert counts(store) == (0, 3)
    expected = naive_rows(tmp_path, *in_order(FEEDS["klines"]))
    # Some rows of the same question come from the cache and some from zips.
    assert_same(scan_rows(klines), expected)
    assert counts(store) == (6, 3)


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path)
    store.warm()
    before = rows_of(store, DAYS[0])
    put(tmp_path, DAYS[2], 20, seed=1)
    after = rows_of(store, DAYS[0])
    assert_same(after, naive_rows(tmp_path, *DAYS))
    assert after != before
    assert counts(store)[0] > 0
    wait_until(lambda: rows_of(store, DAYS[0]) and counts(store) == (0, 5))
    assert_same(rows_of(store, DAYS[0]), after)


def test_a_file_that_arrives_or_goes_is_seen_in_a_kept_month(tmp_path: Path) -> None:
    fill(tmp_path, DAYS[:4])
    store = bak.store(tmp_path)
    store.warm()
    put(tmp_path, DAYS[4], 20)
    assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS))
    store.warm()
    (tmp_path / str(DAYS[0])).unlink()
    assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS[1:]))
    assert store.warm().months == 1


def test_prefer_is_respected_by_what_is_kept(tmp_path: Path) -> None:
    month = kline("BTCUSDT", "2025-07")
    put(tmp_path, month, 744)
    put(tmp_path, DAYS[0])
    for prefer, daily in (("daily", 24), ("monthly", 0), ("daily", 24)):
        store = bak.store(tmp_path, prefer=prefer)
        store.warm()
        rows = rows_of(store, month)
        assert counts(store)[0] == 0
        assert sum(row[4] == "daily" for row in rows) == daily
        assert len(rows) == 744


def test_a_bad_file_is_never_hidden_by_the_cache(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path)
    store.warm()
    (tmp_path / str(DAYS[2])).write_bytes(b"<html>")
    with pytest.raises(bak.FileError, match=str(DAYS[2])):
        rows_of(store, DAYS[0])


# The folder


def test_without_a_cache_nothing_is_written(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    before = sorted(tmp_path.rglob("*"))
    store = bak.store(tmp_path, cache=False)
    for _ in range(2):
        assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS))
    assert counts(store)[1] == 0
    use = store.warm()
    assert (use.folder, use.months, use.bytes) == (None, 0, 0)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_cache_lies_beside_the_files_and_its_pieces_are_whole(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    use = bak.store(tmp_path).warm()
    assert use.folder is not None
    assert use.folder.is_relative_to(tmp_path)
    assert not use.folder.is_relative_to(tmp_path / "data")
    files = [path for path in use.folder.rglob("*") if path.is_file()]
    months = [path for path in files if path.suffix == ".parquet"]
    assert len(months) == use.months == 1
    assert sum(path.stat().st_size for path in months) == use.bytes
    assert not [path for path in files if path.name.endswith(".part")]


def test_the_folder_may_go_at_any_moment(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    expected = naive_rows(tmp_path, *DAYS)
    store = bak.store(tmp_path)
    with bak.connect(store) as con:
        folder = store.warm().folder
        assert folder is not None
        assert_same(view_rows(con, "spot_klines"), expected)
        shutil.rmtree(folder)
        assert_same(view_rows(con, "spot_klines"), expected)
        assert_same(rows_of(store, DAYS[0]), expected)
        store.warm()
        store.cache.clear()
        assert store.cache.use().months == 0
        assert_same(view_rows(con, "spot_klines"), expected)


def test_the_folder_may_go_while_questions_are_asked(tmp_path: Path) -> None:
    keys = [
        kline(f"{number}USDT", f"2025-0{month}-01")
        for number in range(10, 14)
        for month in (5, 6, 7)
    ]
    fill(tmp_path, keys)
    expected = naive_rows(tmp_path, *in_order(keys))
    store = bak.store(tmp_path)
    folder = store.warm().folder
    assert folder is not None
    done = threading.Event()

    def remove() -> None:
        while not done.wait(0.005):
            shutil.rmtree(folder, ignore_errors=True)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(10):
            assert_same(rows_of(store, keys[0]), expected)
            # To fill a folder that goes meanwhile may fail, to answer without it must not.
            with suppress(OSError):
                store.warm()
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("suffix", [".sqlite", ".parquet"])
def test_garbage_in_the_folder_changes_no_answer(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path, DAYS)
    folder = bak.store(tmp_path).warm().folder
    assert folder is not None
    spoiled = list(folder.rglob(f"*{suffix}"))
    assert spoiled
    for path in spoiled:
        path.write_bytes(b"garbage" * 1_000)
    store = bak.store(tmp_path)
    assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS))


def test_the_limit_is_kept_and_the_least_used_goes_first(tmp_path: Path) -> None:
    symbols = ["AUSDT", "BUSDT", "CUSDT", "DUSDT"]
    for symbol in symbols:
        put(tmp_path, kline(symbol, "2025-07"), 700)
    use = bak.store(tmp_path).warm()
    assert use.months == 4
    limit = use.bytes * 5 // 8
    store = bak.store(tmp_path, cache_limit=limit)
    # Times of use are told apart however coarse the clock is.
    for at, symbol in enumerate(symbols):
        for path in (use.folder or tmp_path).rglob(f"{symbol}/**/*.parquet"):
            os.utime(path, (1_750_000_000 + at, 1_750_000_000 + at))
    bak.scan(store, "spot", "klines", symbols="AUSDT").collect()
    assert counts(store) == (0, 1)
    store.cache.trim()
    left = store.cache.use()
    assert 0 < left.bytes <= limit
    assert left.months == 2
    for symbol, cached in (("AUSDT", 1), ("DUSDT", 1), ("BUSDT", 0), ("CUSDT", 0)):
        bak.scan(store, "spot", "klines", symbols=symbol).select("high").head(1).collect()
        assert counts(store)[1] == cached, symbol


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path, cache_limit=1)
    assert store.warm().bytes <= 1
    assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written_to_uses_the_users_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    root = tmp_path / "store"
    fill(root, DAYS)
    root.chmod(0o555)
    try:
        assert_is_kept_in(home, root)
        assert [path.name for path in root.iterdir()] == ["data"]
    finally:
        root.chmod(0o755)


def test_a_read_only_store_uses_the_users_own_folder_as_root_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, root = tmp_path / "home", tmp_path / "store"
    fill(root, DAYS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    access = os.access

    def refuse(path: str | Path, mode: int) -> bool:
        below = Path(path).is_relative_to(root)
        return not (below and mode & os.W_OK) and access(path, mode)

    monkeypatch.setattr(os, "access", refuse)
    assert_is_kept_in(home, root)
    assert [path.name for path in root.iterdir()] == ["data"]


def assert_is_kept_in(home: Path, root: Path) -> None:
    store = bak.store(root)
    use = store.warm()
    assert use.folder is not None
    assert use.folder.is_relative_to(home)
    assert use.months == 1
    assert_same(rows_of(store, DAYS[0]), naive_rows(root, *DAYS))
    assert counts(store) == (0, 5)


# The command line


def test_the_command_fills_shows_and_clears(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, DAYS)
    assert main(["cache", str(tmp_path), "--warm"]) == 0
    assert "1 month" in capsys.readouterr().out
    assert main(["cache", str(tmp_path)]) == 0
    assert "1 month" in capsys.readouterr().out
    assert bak.store(tmp_path).cache.use().months == 1
    assert main(["cache", str(tmp_path), "--clear"]) == 0
    assert "0 months" in capsys.readouterr().out
    assert bak.store(tmp_path).cache.use().months == 0
