"""From the archive to rows: what was collected is what is read, or the reader says so."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

import binance_archive_kit as bak
from binance_archive_kit import errors
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import ArchiveKitWarning
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import FIRST, Bucket, with_sidecars
from tests.support.dialects import zip_of
from tests.support.stores import (
    assert_same,
    csv_for,
    kline,
    naive_rows,
    put,
    scan_rows,
    view_rows,
)

KEYS = [kline("BTCUSDT", str(FIRST + timedelta(days=at))) for at in range(5)]


def bucket_of(keys: list[ObjectKey], seed: int = 0) -> Bucket:
    return with_sidecars({str(key): zip_of(key, csv_for(key, 24, seed)) for key in keys})


@pytest.fixture
def collected(serve: Serve, ask: Ask, store: Path) -> Path:
    assert bak.collect(ask(serve(bucket_of(KEYS)))).outcome == "complete"
    return store


def test_what_is_collected_after_connecting_is_in_the_next_query(
    serve: Serve, ask: Ask, store: Path
) -> None:
    server = serve(bucket_of(KEYS))
    store.mkdir()
    with bak.connect(store) as con:
        for days in (1, 3, 5):
            assert bak.collect(ask(server, days=days)).outcome == "complete"
            assert_same(view_rows(con, "spot_klines"), naive_rows(store, *KEYS[:days]))
        told = con.sql("SELECT files, proven FROM store_streams").fetchall()
        assert told == [(5, 5)]


def test_a_file_issued_again_is_read_as_it_is_now(serve: Serve, ask: Ask, store: Path) -> None:
    bucket = bucket_of(KEYS)
    server = serve(bucket)
    bak.collect(ask(server))
    with bak.connect(store) as con:
        before = view_rows(con, "spot_klines")
        bucket |= bucket_of(KEYS[1:2], seed=1)
        assert bak.collect(ask(server)).collection_stats["successful_tasks"] == 1
        after = view_rows(con, "spot_klines")
    assert after != before
    assert_same(after, naive_rows(store, *KEYS))


def test_a_file_changed_after_its_proof_is_refused(collected: Path) -> None:
    """It reads well, but it is not what the archive's digest was of."""
    put(collected, KEYS[2], seed=1)
    with pytest.raises(errors.ChangedFile, match="collect it again") as raised:
        bak.scan(collected, "spot", "klines").collect()
    assert raised.value.file == str(KEYS[2])
    with (
        bak.connect(collected) as con,
        pytest.raises(duckdb.Error, match=f"ChangedFile: {KEYS[2]}"),
    ):
        view_rows(con, "spot_klines")


def test_a_file_changed_between_two_queries_is_refused(collected: Path) -> None:
    with bak.connect(collected) as con:
        assert_same(view_rows(con, "spot_klines"), naive_rows(collected, *KEYS))
        put(collected, KEYS[2], 23, seed=1)
        with pytest.raises(duckdb.Error, match=f"ChangedFile: {KEYS[2]}"):
            view_rows(con, "spot_klines")
        with pytest.raises(duckdb.Error, match=f"ChangedFile: {KEYS[2]}"):
            con.sql("SELECT count(*) FROM spot_klines").fetchall()
        others = f"date <> '{KEYS[2].start}' AND file <> '{KEYS[2]}'"
        assert_same(
            view_rows(con, "spot_klines", others), naive_rows(collected, *KEYS[:2], *KEYS[3:])
        )


def test_a_changed_file_can_be_left_out(collected: Path) -> None:
    put(collected, KEYS[2], 23, seed=1)
    engine = bak.store(collected, on_error="skip")
    with pytest.warns(ArchiveKitWarning, match=f"left out: {KEYS[2]}"):
        rows = scan_rows(bak.scan(engine, "spot", "klines"))
    assert_same(rows, naive_rows(collected, *KEYS[:2], *KEYS[3:]))
    assert [type(each) for each in engine.problems.values()] == [errors.ChangedFile]


def test_a_changed_file_is_whole_again_once_it_is_collected(
    serve: Serve, ask: Ask, store: Path
) -> None:
    server = serve(bucket_of(KEYS))
    bak.collect(ask(server))
    with bak.connect(store) as con:
        put(store, KEYS[2], 23, seed=1)
        with pytest.raises(duckdb.Error, match="ChangedFile"):
            view_rows(con, "spot_klines")
        bak.collect(ask(server))
        rows = view_rows(con, "spot_klines")
    assert len(rows) == 120
    assert_same(rows, naive_rows(store, *KEYS))


def test_a_store_that_was_copied_or_touched_is_still_the_proven_one(
    collected: Path, tmp_path: Path
) -> None:
    for key in KEYS:
        os.utime(collected / str(key), (1_750_000_000, 1_750_000_000))
    assert_same(scan_rows(bak.scan(collected, "spot", "klines")), naive_rows(collected, *KEYS))
    moved = tmp_path / "moved"
    collected.rename(moved)
    assert_same(scan_rows(bak.scan(moved, "spot", "klines")), naive_rows(moved, *KEYS))


def test_a_collection_while_questions_are_asked_disturbs_none(
    serve: Serve, ask: Ask, store: Path
) -> None:
    """Each answer is of whole files: some of the days, and all rows of each."""
    keys = [kline("BTCUSDT", str(FIRST + timedelta(days=at))) for at in range(31)]
    server = serve(bucket_of(keys))
    bak.collect(ask(server, days=1))
    seen: list[int] = []
    with bak.connect(store) as con:

        def count(_: object = None) -> None:
            days = con.sql("SELECT date, count(*) FROM spot_klines GROUP BY ALL").fetchall()
            assert {rows for _, rows in days} == {24}
            seen.append(len(days))

        for days in range(1, 32, 6):
            bak.collect(ask(server, days=days))
            count()
        assert con.sql("SELECT max(date) FROM spot_klines").fetchall() == [(date(2025, 7, 31),)]
    assert seen == [1, 7, 13, 19, 25, 31]
