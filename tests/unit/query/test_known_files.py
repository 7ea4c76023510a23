"""Rejected files stay rejected, and sorted feeds are sorted however large a file is."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import load_schemas
from binance_archive_kit.errors import ArchiveKitWarning, FileError, file_error
from binance_archive_kit.query.known_files import KnownFiles
from binance_archive_kit.reading.cadence import Run
from binance_archive_kit.reading.feed_table import feed_table
from binance_archive_kit.reading.file_stats import FileStats
from binance_archive_kit.reading.profile import FileProfile
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.proof import Stamp
from tests.support.dialects import header_of, keys_of, write, zip_of
from tests.support.pieces import large
from tests.support.stores import (
    assert_same,
    csv_for,
    kline,
    naive_rows,
    other,
    promised,
    put,
    scan_rows,
    schema_of,
    view_of,
    view_rows,
)

FEED = feed_table(Market.SPOT, DataType.KLINES)
SORTED = [found for found in load_schemas().values() if found.sorted]


def disturbed(csv: bytes, how: str, dice: random.Random) -> bytes:
    """Bring the rows of a file out of order."""
    rows = csv.splitlines(keepends=True)
    header = [] if rows[0][:1].isdigit() else [rows.pop(0)]
    match how:
        case "shuffled":
            dice.shuffle(rows)
        case "reversed":
            rows.reverse()
        case "interleaved":
            half = len(rows) // 2
            rows = [row for pair in zip(rows[:half], rows[half:], strict=False) for row in pair]
        case "rotated":
            at = dice.randrange(len(rows) + 1)
            rows = rows[at:] + rows[:at]
        case "two swapped" if len(rows) > 1:
            at = dice.randrange(len(rows) - 1)
            rows[at], rows[at + 1] = rows[at + 1], rows[at]
        case "repeated":
            rows = sorted(rows + rows[: len(rows) // 2], key=lambda _: dice.random())
    return b"".join([*header, *rows])


HOWS = ["as it was", "shuffled", "reversed", "interleaved", "rotated", "two swapped", "repeated"]


@settings(max_examples=80)
@given(
    st.sampled_from(SORTED),
    st.sampled_from(HOWS),
    st.integers(1, 120),
    st.integers(0, 999),
    st.sampled_from([0, 500, 3_000, 1 << 20]),
)
def test_a_sorted_feed_is_sorted_however_its_files_are(
    found: object, how: str, rows: int, seed: int, waiting: int
) -> None:
    """Whatever may wait: the first read, later ones, and those that begin anywhere."""
    key = random.Random(seed).choice(keys_of(found))  # type: ignore[arg-type]
    csv = disturbed(csv_for(key, rows, seed), how, random.Random(seed))
    with TemporaryDirectory() as folder, large(waiting):
        write(Path(folder), key, zip_of(key, csv))
        expected = promised(naive_rows(Path(folder), key), schema_of(key))
        time = schema_of(key).time.column
        store = bak.store(folder, cache=False)
        lazy = bak.scan(store, key.folder.market, key.folder.data_type)
        assert lazy.select(time).collect()[time].is_sorted()
        assert_same(scan_rows(lazy), expected)
        assert_same(scan_rows(lazy.head(3)), expected[:3])
        with bak.connect(store) as con:
            assert_same(view_rows(con, view_of(key)), expected)
            assert con.sql(f"SELECT count(*) FROM {view_of(key)}").fetchall() == [(len(expected),)]
        again = bak.store(folder, cache=False, on_error="skip")
        assert_same(scan_rows(bak.scan(again, key.folder.market, key.folder.data_type)), expected)


def test_a_kept_month_of_a_large_file_is_in_order(tmp_path: Path) -> None:
    key = other("aggTrades", "BTCUSDT", "2023-05-01")
    csv = disturbed(csv_for(key, 200), "interleaved", random.Random(1))
    write(tmp_path, key, zip_of(key, csv))
    with large(1_000):
        expected = promised(naive_rows(tmp_path, key), schema_of(key))
        store = bak.store(tmp_path)
        store.build("futures_um", "aggTrades")
        assert store.cache.use().parts == 1
        assert_same(scan_rows(bak.scan(store, "futures_um", "aggTrades")), expected)
        assert store.last_scan is not None
        assert store.last_scan.cached == 1


# Rejected files


def second_header(csv: bytes) -> bytes:
    rows = csv.splitlines(keepends=True)
    header = header_of(schema_of(UM)).encode() + b"\n"
    return b"".join([*rows[:9], header, *rows[9:]])


def bad_cell(csv: bytes) -> bytes:
    rows = csv.splitlines(keepends=True)
    cells = rows[5].split(b",")
    cells[5] = b"0x10"
    return b"".join([*rows[:5], b",".join(cells), *rows[6:]])


def out_of_days(csv: bytes) -> bytes:
    rows = csv.splitlines(keepends=True)
    cells = rows[5].split(b",")
    cells[0] = str(int(cells[0]) + 40 * 86_400_000).encode()
    return b"".join([*rows[:5], b",".join(cells), *rows[6:]])


BAD = [second_header, bad_cell, out_of_days]
UM = kline("BADUSDT", "2022-08", market="futures/um")
COUNT = "SELECT count(*) FROM futures_um_klines"


def store_with(root: Path, edit: object) -> ObjectKey:
    """A store of a bad file and a good one."""
    good = kline("OKUSDT", "2022-08", market="futures/um")
    write(root, UM, zip_of(UM, edit(csv_for(UM, 240))))  # type: ignore[operator]
    put(root, good, 240)
    return good


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("edit", BAD)
def test_once_a_file_is_rejected_every_question_rejects_it(
    edit: object, cut: bool, tmp_path: Path
) -> None:
    store_with(tmp_path, edit)
    with large(1 << 20) if cut else nullcontext():
        with bak.connect(tmp_path) as con:
            with pytest.raises(duckdb.Error, match="BADUSDT"):
                con.sql("SELECT sum(volume), max(open_time) FROM futures_um_klines").fetchall()
            for ask in (COUNT, "SELECT max(high) FROM futures_um_klines", COUNT):
                with pytest.raises(duckdb.Error, match="BADUSDT"):
                    con.sql(ask).fetchall()
            others = "symbol = 'OKUSDT'"
            assert con.sql(f"{COUNT} WHERE {others}").fetchall() == [(240,)]
        # Another one, as in another process.
        with bak.connect(tmp_path) as con, pytest.raises(duckdb.Error, match="BADUSDT"):
            con.sql(COUNT).fetchall()
        # Until the file is another one.
        put(tmp_path, UM, 240)
        with bak.connect(tmp_path) as con:
            assert con.sql(COUNT).fetchall() == [(480,)]


def test_another_process_rejects_what_this_one_rejected(tmp_path: Path) -> None:
    store_with(tmp_path, bad_cell)
    with pytest.raises(FileError):
        bak.scan(tmp_path, "futures_um", "klines").collect()
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, binance_archive_kit as bak\n"
            "bak.connect(sys.argv[1]).sql(sys.argv[2]).show()",
            str(tmp_path),
            COUNT,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode != 0
    assert "BADUSDT" in said.stderr


def _reader(kind: str, root: Path) -> Callable[[bool], object]:
    """Open a store in one way; return a function that counts its rows, or reads all of them."""
    if kind == "connect":
        con = bak.connect(root)
        return lambda every: con.sql("FROM futures_um_klines" if every else COUNT).fetchall()
    source = bak.store(root) if kind == "store" else root
    return lambda every: (
        bak.scan(source, "futures_um", "klines").select(pl.all() if every else pl.len()).collect()
    )


@pytest.mark.parametrize("counted", ["connect", "store", "folder"])
@pytest.mark.parametrize("read", ["connect", "store", "folder", "coverage"])
def test_what_one_reader_rejects_all_others_reject_from_then_on(
    counted: str, read: str, tmp_path: Path
) -> None:
    """Also those that were open before, and have counted its rows by a look at a part of it."""
    store_with(tmp_path, bad_cell)
    count = _reader(counted, tmp_path)
    assert "480" in str(count(False))
    if read == "coverage":
        assert not bak.coverage(tmp_path).is_complete
    else:
        with pytest.raises((duckdb.Error, FileError), match="BADUSDT"):
            _reader(read, tmp_path)(True)
    for again in (count, *(_reader(kind, tmp_path) for kind in ("connect", "store", "folder"))):
        for _ in range(2):
            with pytest.raises((duckdb.Error, FileError), match="BADUSDT"):
                again(False)


@pytest.mark.parametrize("first", ["count", "one column", "all", "coverage"])
@pytest.mark.parametrize("edit", BAD)
def test_skipping_leaves_out_the_same_files_whatever_is_asked_first(
    edit: object, first: str, tmp_path: Path
) -> None:
    good = store_with(tmp_path, edit)
    expected = naive_rows(tmp_path, good)
    asks = {
        "count": COUNT,
        "one column": "SELECT count(open) FROM futures_um_klines",
        "all": "SELECT count(*) FROM (SELECT * FROM futures_um_klines WHERE volume >= 0)",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArchiveKitWarning)
        # What was only counted before, without skipping, counts for nothing.
        with bak.connect(tmp_path) as con, suppress(duckdb.Error):
            con.sql(COUNT).fetchall()
        store = bak.store(tmp_path, on_error="skip")
        with bak.connect(store) as con:
            if first == "coverage":
                report = bak.coverage(store)
                assert not report.is_complete
            for ask in [asks.get(first, COUNT), *asks.values()]:
                assert con.sql(ask).fetchall() == [(len(expected),)], ask
            assert list(store.problems) == [str(UM)]


@pytest.mark.parametrize("value", ["0x10", "=1+1", "1_0", "1\x00", "1 0", "--1", "1,5"])
@pytest.mark.parametrize("at", range(1, 11))
def test_coverage_rejects_what_connect_rejects(value: str, at: int, tmp_path: Path) -> None:
    """In any column, whichever of them a report looks at."""

    def edit(csv: bytes) -> bytes:
        rows = csv.decode().splitlines()
        cells = rows[3].split(",")
        cells[at] = value
        return "".join(f"{row}\n" for row in [*rows[:3], ",".join(cells), *rows[4:]]).encode()

    key = kline("BADUSDT", "2025-07-01")
    put(tmp_path, key, edit=edit)
    report = bak.coverage(tmp_path)
    assert not report.is_complete
    assert set(report.gaps["kind"]) == {"corrupt"}
    with pytest.raises(FileError):
        bak.scan(tmp_path, "spot", "klines", cache=False).select(pl.all()).collect()
    with bak.connect(tmp_path) as con, pytest.raises(duckdb.Error, match="BADUSDT"):
        con.sql("SELECT count(*) FROM spot_klines").fetchall()


def test_statistics_are_remembered_while_other_files_are_rejected(tmp_path: Path) -> None:
    key = kline("BADUSDT", "2025-07-01")
    put(tmp_path, key)
    known = KnownFiles(None)
    stamp = Stamp(*range(1, 5))
    stats = FileStats(stamp, 1, 0, 0, sorted=True, inflated=1, checked=True)
    file = StoredFile(str(key), str(key), key.start, key.end, stamp)
    known.remember(FEED, {f"{number}": stats for number in range(20_000)})
    errors: list[Exception] = []

    def remember() -> None:
        try:
            for number in range(20_000):
                known.remember(FEED, {f"new {number}": stats})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=remember) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        known.reject(FEED, file, file_error("corrupt", str(key), "damaged"))
    assert not errors
    assert len(known.stats(FEED)) == 40_000


def test_statistics_of_a_few_files_are_loaded_alone(tmp_path: Path) -> None:
    keys = [str(kline("BTCUSDT", f"2025-07-0{day}")) for day in range(1, 6)]
    stamp = Stamp(*range(1, 5))
    stats = FileStats(stamp, 1, 0, 0, sorted=True, inflated=1, checked=True)
    profile = FileProfile(stats, 0, 0, 0, np.zeros((1, len(Run._fields)), np.int64))
    KnownFiles(tmp_path).remember_profiles(FEED, dict.fromkeys(keys, profile))
    known = KnownFiles(tmp_path)
    known.refresh(FEED, keys[1:3])
    assert set(known.stats(FEED)) == set(keys[1:3])
    # Newer ones stay, and those of a rejected file are not loaded later.
    newer = replace(stats, rows=2)
    known.remember(FEED, {keys[0]: newer})
    day = ObjectKey.parse(keys[3])
    file = StoredFile(keys[3], keys[3], day.start, day.end, stamp)
    known.reject(FEED, file, file_error("corrupt", keys[3], "damaged"))
    known.refresh(FEED, keys)
    assert known.stats(FEED) == {keys[0]: newer, **dict.fromkeys(keys[1:3] + keys[4:], stats)}
    few = KnownFiles(tmp_path)
    few.refresh(FEED, keys[:1])
    assert set(few.profiles(FEED)) == {*keys[:3], keys[4]}
