"""Proving again: what changed, what is gone, and what no size or time tells of."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.storage import databases
from binance_archive_kit.storage.verify import Verification
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import FIRST as DAY
from tests.support.bucket import daily_klines, kline_key
from tests.support.checks import flip, rot
from tests.support.s3_server import Fault


class Flat(bak.BaseStorage):
    def get_partition_path(self, **of: Any) -> str:
        return f"flat/{of['symbol']}"


@pytest.mark.parametrize("storage", [None, Flat()], ids=["under their key", "placed"])
def test_each_kind_of_trouble_is_told_and_mended(
    serve: Serve, ask: Ask, store: Path, storage: bak.BaseStorage | None
) -> None:
    config = ask(serve(daily_klines("BTCUSDT", days=6)), days=6)
    files = sorted(bak.collect(config, storage=storage).output_files)
    assert str(bak.verify(store)) == "Store sound · 6 of 6 files read; 6 proven"
    Path(files[0]).unlink()
    said = str(bak.verify(store))
    assert "collect the missing files again" in said
    assert "forgotten" not in said
    rot(Path(files[1]), store)
    Path(files[2]).write_bytes(b"x")
    found = bak.verify(store)
    assert not found.sound
    assert (found.files, found.read, found.proven, found.unproven) == (5, 5, 3, 0)
    places = dict(found.frame.select("file", "reason").iter_rows())
    inside = [os.path.relpath(file, store) for file in files]
    gone = kline_key("BTCUSDT", DAY)
    assert places == {gone: "gone", inside[1]: "changed", inside[2]: "changed"}
    assert "2 changed; 1 gone" in str(found)
    assert "changed" in found._repr_html_()
    result = bak.collect(config)
    assert result.collection_stats["successful_tasks"] == 3
    assert sorted(result.output_files) == files
    assert bak.verify(store).sound


def test_a_sample_is_a_sample(serve: Serve, ask: Ask, store: Path) -> None:
    config = ask(serve(daily_klines("BTCUSDT", days=12)), days=12)
    files = sorted(bak.collect(config).output_files)
    for file in files[:6]:
        rot(Path(file), store)
    assert bak.verify(store, sample=0).sound, "no stamp tells of it"
    one, same = (bak.verify(store, sample=4, seed=7) for _ in range(2))
    assert one.read == same.read == 4
    # What was found before has no proof any more, and is now told by its own CRC-32.
    assert set(one.frame["file"]) == set(same.frame["file"])
    assert bak.verify(store).frame.height == 6
    with pytest.raises(bak.ConfigurationError, match="sample: -1"):
        bak.verify(store, sample=-1)


def test_files_without_a_proof_are_read_and_said_to_be_without(
    serve: Serve, ask: Ask, store: Path
) -> None:
    config = ask(serve(daily_klines("BTCUSDT", days=3)), days=3)
    files = sorted(bak.collect(config).output_files)
    (store / ".binance_archive_kit" / "proofs.sqlite").unlink()
    flip(Path(files[0]))
    found = bak.verify(store)
    assert (found.read, found.proven, found.unproven) == (3, 0, 2)
    assert found.frame["reason"].to_list() == ["bad_zip"]


def test_the_archive_can_be_asked_from_a_running_loop(serve: Serve, ask: Ask, store: Path) -> None:
    server = serve(daily_klines("BTCUSDT", days=3))
    bak.collect(ask(server, days=3))

    async def cell() -> Verification:
        return bak.verify(store, archive=True, endpoint_url=server.url)

    assert asyncio.run(cell()).proven == 3


def test_an_archive_that_does_not_answer_costs_no_proof(
    serve: Serve, ask: Ask, store: Path
) -> None:
    server = serve(daily_klines("BTCUSDT", days=3))
    bak.collect(ask(server, days=3))
    server.fault = lambda request: Fault(status=403) if request.key else None
    found = bak.verify(store, archive=True, endpoint_url=server.url)
    assert (found.state, found.untold, found.proven) == ("not proven again", 3, 0)
    assert "the archive returned no digest of 3 files; their proofs are kept" in str(found)
    assert str(bak.verify(store)) == "Store sound · 3 of 3 files read; 3 proven"


def test_a_file_that_nobody_read_is_not_proven(serve: Serve, ask: Ask, store: Path) -> None:
    server = serve(daily_klines("BTCUSDT", days=3))
    files = sorted(bak.collect(ask(server, days=3)).output_files)
    (store / ".binance_archive_kit" / "proofs.sqlite").unlink()
    Path(files[0]).write_bytes(b"x")
    for archive in (False, True):
        found = bak.verify(store, sample=0, archive=archive, endpoint_url=server.url)
        assert (found.read, found.proven, found.unproven) == (0, 0, 3)


def test_what_is_wrong_is_told_where_nothing_can_be_written(
    serve: Serve, ask: Ask, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(bak.collect(ask(serve(daily_klines("BTCUSDT", days=2)), days=2)).output_files)
    rot(Path(files[0]), store)
    monkeypatch.setattr(databases, "_PATIENCE", 0.1)
    # Another process holds the record: it can be read, and not written.
    with closing(sqlite3.connect(store / ".binance_archive_kit/proofs.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        found = bak.verify(store)
    assert found.frame["reason"].to_list() == ["changed"]
    assert "their proofs stay: the store cannot be written to" in str(found)
