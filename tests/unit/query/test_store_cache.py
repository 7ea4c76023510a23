"""Rows from tables are those of the files, whatever happens to the folder of the cache."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.query.known_files import VERSION
from binance_archive_kit.tables import parquet_writer
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
    for index, key in enumerate(keys):
        put(root, key, 0 if index == 1 else 50)


def counts(store: bak.OpenStore) -> tuple[int, int]:
    """Return how many files the last query opened, and took from tables."""
    assert store.last_scan is not None
    return store.last_scan.opened, store.last_scan.cached


def rows_of(store: bak.OpenStore, key: ObjectKey) -> Rows:
    return scan_rows(bak.scan(store, key.folder.market, key.folder.data_type))


def build(store: bak.OpenStore, key: ObjectKey) -> None:
    store.build(key.folder.market, key.folder.data_type)


@pytest.mark.parametrize(
    ("name", "decimals"),
    [*((name, False) for name in FEEDS), ("klines", True), ("summaries", True)],
)
def test_rows_of_tables_are_those_of_the_zips(tmp_path: Path, name: str, decimals: bool) -> None:
    keys = FEEDS[name]
    fill(tmp_path, keys)
    market, data_type = keys[0].folder.market, keys[0].folder.data_type
    plain = bak.scan(tmp_path, market, data_type, cache=False, decimals=decimals).collect()
    store = bak.store(tmp_path, decimals=decimals)
    assert store.build(market, data_type).parts > 0
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
            f"file = '{keys[0]}' OR symbol = 'ETHUSDT'",
            "interval IS NULL",
            "partition = 'daily' OR market = 'spot'",
        ):
            assert_same(view_rows(con, view, where), view_rows(uncached, view, where))
            assert counts(store)[0] == 0
        for names in ("count(*)", "count(DISTINCT file)", "count(DISTINCT partition)"):
            query = f"SELECT {names} FROM {view}"
            assert con.sql(query).fetchall() == uncached.sql(query).fetchall()
        query = f"SELECT * FROM {view} LIMIT 7"
        assert len(con.sql(query).fetchall()) == min(7, len(cached))
    for column in lazy.collect_schema().names():
        assert_same(scan_rows(lazy.select(column)), scan_rows(plain.select(column)))
        assert_same(scan_rows(lazy.select(column).head(3)), scan_rows(plain.select(column).head(3)))


def test_tables_are_there_for_later_processes(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    expected = rows_of(bak.store(tmp_path, cache=False), DAYS[0])
    bak.store(tmp_path).build()
    later = bak.store(tmp_path)
    assert_same(rows_of(later, DAYS[0]), expected)
    assert counts(later) == (0, 5)


def test_only_the_chosen_files_are_built(tmp_path: Path) -> None:
    for name in ("klines", "trades", "metrics"):
        fill(tmp_path, FEEDS[name])
    store = bak.store(tmp_path)
    store.build("spot", "klines", symbols=["ETHUSDT"])
    klines = bak.scan(store, "spot", "klines")
    assert klines.filter(symbol="ETHUSDT").collect().height > 0
    assert counts(store) == (0, 3)
    # Some rows of one query come from tables and some from zips.
    assert_same(scan_rows(klines), naive_rows(tmp_path, *in_order(FEEDS["klines"])))
    assert counts(store) == (6, 3)


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path)
    store.build()
    before = rows_of(store, DAYS[0])
    put(tmp_path, DAYS[2], 20, seed=1)
    after = rows_of(store, DAYS[0])
    assert_same(after, naive_rows(tmp_path, *DAYS))
    assert after != before
    assert counts(store) == (1, 4)
    store.build()
    assert_same(rows_of(store, DAYS[0]), after)
    assert counts(store) == (0, 5)


def test_a_file_rewritten_in_place_is_read_anew(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path)
    store.build()
    path = tmp_path / str(DAYS[2])
    before = path.stat()
    rewritten = put(tmp_path / "other", DAYS[2], 50, seed=7).read_bytes()
    with path.open("r+b") as file:
        file.write(rewritten)
        file.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_ino == before.st_ino
    assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS))
    assert counts(store) == (1, 4)


def test_files_that_arrive_or_go_are_seen(tmp_path: Path) -> None:
    fill(tmp_path, DAYS[:4])
    store = bak.store(tmp_path)
    store.build()
    put(tmp_path, DAYS[4], 20)
    assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS))
    store.build()
    (tmp_path / str(DAYS[0])).unlink()
    assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS[1:]))
    shutil.rmtree((tmp_path / str(DAYS[0])).parent)
    with pytest.raises(bak.ConfigurationError):
        rows_of(store, DAYS[0])


def test_a_file_that_comes_back_is_read(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path)
    store.build()
    away = (tmp_path / str(DAYS[0])).rename(tmp_path / "away")
    assert_same(rows_of(store, DAYS[1]), naive_rows(tmp_path, *DAYS[1:]))
    away.rename(tmp_path / str(DAYS[0]))
    assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS))


@pytest.mark.parametrize("built", [True, False])
def test_prefer_is_respected(tmp_path: Path, built: bool) -> None:
    month = kline("BTCUSDT", "2025-07")
    put(tmp_path, month, 744)
    put(tmp_path, DAYS[0])
    for prefer, daily in (("daily", 24), ("monthly", 0), ("daily", 24)):
        store = bak.store(tmp_path, prefer=prefer)
        if built:
            store.build()
        rows = rows_of(store, month)
        assert sum(row[4] == "daily" for row in rows) == daily
        assert len(rows) == 744


def test_a_bad_file_is_never_hidden(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path)
    store.build()
    (tmp_path / str(DAYS[2])).write_bytes(b"<html>")
    for _ in range(2):
        with pytest.raises(bak.FileError, match=str(DAYS[2])):
            rows_of(store, DAYS[0])
        with pytest.warns(UserWarning, match=f"1 invalid file left out of the .*{DAYS[2]}"):
            store.build()
    skipping = bak.store(tmp_path, on_error="skip")
    expected = naive_rows(tmp_path, *(key for key in DAYS if key != DAYS[2]))
    with pytest.warns(UserWarning, match="left out"):
        assert_same(rows_of(skipping, DAYS[0]), expected)
    assert counts(skipping)[1] == 4


def test_building_changes_no_answer_about_a_file_bad_in_another_column(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    put(tmp_path, DAYS[2], edit=lambda csv: csv.replace(b",", b",oops", 1))
    expected = bak.scan(tmp_path, "spot", "klines", cache=False).select("high").collect()
    store = bak.store(tmp_path)
    with pytest.warns(UserWarning, match="1 invalid file left out of the tables"):
        store.build()
    assert bak.scan(store, "spot", "klines").select("high").collect().equals(expected)
    assert counts(store) == (1, 4)


def test_damaged_rows_within_a_file_are_read_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_writer, "FEW_ROWS", 20)
    monkeypatch.setattr(parquet_writer, "MOST_ROWS", 30)
    keys = [kline(symbol, "2025-07") for symbol in ("AUSDT", "BUSDT")]
    for key in keys:
        put(tmp_path, key, 300)
    folder = bak.store(tmp_path).build().folder
    assert folder is not None
    [part] = folder.rglob("*.rows.parquet")
    data = part.read_bytes()
    expected = naive_rows(tmp_path, *keys)
    discarded = []
    for index in range(100, len(data) // 2, len(data) // 20):
        part.write_bytes(bytes([*data[:index], data[index] ^ 255, *data[index + 1 :]]))
        store = bak.store(tmp_path)
        assert_same(rows_of(store, keys[0]), expected)
        # A damaged table is discarded, unless the byte decides nothing, as some of a page header.
        discarded.append(not part.exists())
        store.build()
        [part] = folder.rglob("*.rows.parquet")
        data = part.read_bytes()
    assert discarded.count(False) <= 1, discarded


# The folder


def test_without_a_cache_nothing_is_written(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    before = sorted(tmp_path.rglob("*"))
    store = bak.store(tmp_path, cache=False)
    for _ in range(2):
        assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS))
    assert counts(store)[1] == 0
    use = store.build()
    assert (use.folder, use.parts, use.bytes) == (None, 0, 0)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_cache_lies_beside_the_files(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    use = bak.store(tmp_path).build()
    assert use.folder is not None
    assert use.folder.is_relative_to(tmp_path)
    assert not use.folder.is_relative_to(tmp_path / "data")
    parts = list(use.folder.rglob("*.parquet"))
    assert len(parts) == 2 * use.parts == 2
    assert sum(path.stat().st_size for path in parts) == use.bytes


def test_the_folder_may_go_at_any_moment(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    expected = naive_rows(tmp_path, *DAYS)
    store = bak.store(tmp_path)
    with bak.connect(store) as con:
        folder = store.build().folder
        assert folder is not None
        assert_same(view_rows(con, "spot_klines"), expected)
        shutil.rmtree(folder)
        assert_same(view_rows(con, "spot_klines"), expected)
        assert_same(rows_of(store, DAYS[0]), expected)
        store.build()
        store.cache.clear()
        assert store.cache.use().parts == 0
        assert_same(view_rows(con, "spot_klines"), expected)


def test_the_folder_may_go_while_queries_run(tmp_path: Path) -> None:
    keys = [
        kline(f"{number}USDT", f"2025-0{month}-01")
        for number in range(10, 14)
        for month in (5, 6, 7)
    ]
    fill(tmp_path, keys)
    expected = naive_rows(tmp_path, *in_order(keys))
    store = bak.store(tmp_path)
    folder = store.build().folder
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
            # Filling a folder that goes meanwhile may fail; an answer without it must not.
            with suppress(OSError, bak.StoreError):
                store.build()
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("name", ["*.sqlite", "*.rows.parquet", "*.entries.parquet", "*.json"])
def test_garbage_in_the_folder_changes_no_answer(tmp_path: Path, name: str) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path)
    folder = store.build().folder
    assert folder is not None
    spoiled = list(folder.parent.rglob(name))
    assert spoiled
    for path in spoiled:
        path.write_bytes(b"garbage" * 1_000)
    for each in (bak.store(tmp_path), store):
        assert_same(rows_of(each, DAYS[0]), naive_rows(tmp_path, *DAYS))


def test_what_older_versions_have_cached_is_removed_by_a_query(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    cache = tmp_path / ".binance_archive_kit" / "cache"
    old = cache / "spot_klines" / "BTCUSDT" / "1h" / "2025-07.1234.parquet"
    old.parent.mkdir(parents=True)
    for path in (old, cache / "facts.1.sqlite", cache / "facts.1.sqlite-wal"):
        path.write_bytes(b"old")
    (cache / "facts.3.damaged-1234.sqlite").mkdir()  # a folder under the database's name
    bak.store(tmp_path, cache=False)
    bak.store(tmp_path)
    assert old.exists()
    rows_of(bak.store(tmp_path, cache=False), DAYS[0])
    assert old.exists()
    newer = [cache / "facts.99.sqlite", cache / "figures" / "a.bin"]
    newer[1].parent.mkdir()
    for path in newer:
        path.write_bytes(b"newer")
    store = bak.store(tmp_path)
    with pytest.warns(bak.ArchiveKitWarning, match="Nothing was lost: it is read") as found:
        rows_of(store, DAYS[0])
    assert len(found) == 1
    rows_of(store, DAYS[0])
    assert [path.read_bytes() for path in newer] == [b"newer", b"newer"]
    newer[0].unlink()
    shutil.rmtree(newer[1].parent)
    assert [path.name for path in cache.glob("*.sqlite")] == [f"facts.{VERSION}.sqlite"]
    assert not any(path.is_dir() for path in cache.iterdir())
    store.build()
    assert_same(rows_of(bak.store(tmp_path), DAYS[0]), naive_rows(tmp_path, *DAYS))
    assert store.cache.use().parts == 1


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    fill(tmp_path, DAYS)
    store = bak.store(tmp_path, cache_limit=1)
    assert store.build().bytes <= 1
    assert_same(rows_of(store, DAYS[0]), naive_rows(tmp_path, *DAYS))


def test_the_least_recently_used_feed_goes_first(tmp_path: Path) -> None:
    markets = ("spot", "futures/um", "futures/cm")
    keys = [kline("AUSDT", "2025-07", market=market) for market in markets]
    for key in keys:
        put(tmp_path, key, 700)
    use = bak.store(tmp_path).build()
    assert use.parts == 3
    assert use.folder is not None
    # Times of use are told apart however coarse the clock is.
    for index, key in enumerate(keys):
        for path in (use.folder / view_of(key)).glob("*.parquet"):
            os.utime(path, (1_750_000_000 + index, 1_750_000_000 + index))
    store = bak.store(tmp_path, cache_limit=use.bytes * 3 // 4)
    rows_of(store, keys[0])
    assert counts(store) == (0, 1)
    store.cache.tables.trim()
    assert store.cache.use().parts == 2
    for key, cached in zip(keys, (1, 0, 1), strict=True):
        rows_of(store, key)
        assert counts(store)[1] == cached


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
        assert_is_cached_in(home, root)
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
    assert_is_cached_in(home, root)
    assert [path.name for path in root.iterdir()] == ["data"]


def assert_is_cached_in(home: Path, root: Path) -> None:
    store = bak.store(root)
    use = store.build()
    assert use.folder is not None
    assert use.folder.is_relative_to(home)
    assert use.parts == 1
    assert_same(rows_of(store, DAYS[0]), naive_rows(root, *DAYS))
    assert counts(store) == (0, 5)
