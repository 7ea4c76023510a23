"""Streams that have ended: by the matrix, by the records, and by the listing."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.storage.store import Store
from binance_archive_kit.upkeep.ended_streams import EndedStreams, stream_of
from binance_archive_kit.upkeep.newer_files import NewerFiles, StoredStream
from tests.support.bucket import daily_klines
from tests.support.s3_server import LocalS3
from tests.unit.upkeep.test_newer_files import kept

END = date(2025, 8, 31)
NOW = datetime(2025, 9, 2, 12, tzinfo=UTC)


def klines(symbol: str, market: Market = Market.SPOT) -> Stream:
    return Stream(market, DataType.KLINES, symbol, Interval.H1)


def ends(root: Path, *streams: StoredStream) -> EndedStreams:
    records = Store(root).records
    with records.recorder():
        pass
    return EndedStreams(records, NewerFiles(load_matrix(), NOW, END), streams)


@pytest.mark.parametrize(
    ("stream", "last", "why"),
    [
        (klines("BTCUSDT"), "2025-07-01", ""),
        (klines("BTCUSDT_250627", Market.FUTURES_UM), "2025-06-27", "delivered"),
        (klines("BTCUSDT_250627", Market.FUTURES_UM), "2025-06-25", ""),
        (klines("BTCUSDT_250926", Market.FUTURES_UM), "2025-08-01", ""),
        (klines("btcusdt"), "2025-07-01", "symbols of the archive are in capitals"),
    ],
)
def test_what_is_known_without_the_archive(
    tmp_path: Path, stream: Stream, last: str, why: str
) -> None:
    found = ends(tmp_path).why(kept(last, stream=stream))
    assert why in found
    assert bool(why) == bool(found)


@pytest.mark.parametrize(("asked", "is_known"), [(END, True), (date(2025, 7, 10), False)])
def test_what_was_asked_lately_is_known(tmp_path: Path, asked: date, is_known: bool) -> None:
    some = kept("2025-07-01")
    checked = ends(tmp_path, some)
    folder = Folder(some.stream, Partition.DAILY)
    start = some.last + timedelta(days=1)
    absence = Absence.of(folder, Reason.AFTER_LAST, "the last one", start, asked)
    Store(tmp_path).records.record_missing([absence], [])
    assert ("no later file" in checked.why(some)) == is_known


def ask(root: Path, url: str, *streams: StoredStream) -> list[Absence]:
    async def run() -> list[Absence]:
        async with ListingClient(url, "data.binance.vision") as archive:
            return await ends(root, *streams).ask(archive, streams)

    return asyncio.run(run())


def test_the_archive_is_asked_about_late_streams_only(tmp_path: Path) -> None:
    dead, late, new = (
        kept(day, stream=klines(name))
        for name, day in (
            ("DEADUSDT", "2025-07-02"),
            ("LATEUSDT", "2025-07-02"),
            ("NEWUSDT", "2025-08-30"),
        )
    )
    bucket = daily_klines("DEADUSDT", days=2) | daily_klines("LATEUSDT", days=9)
    with LocalS3(bucket) as server:
        [absence] = ask(tmp_path, server.url, dead, late, new)
        assert "NEWUSDT" not in str(server.requests)
        # Nothing goes on: the archive may have stopped publishing.
        assert ask(tmp_path, server.url, dead) == []
        # One that goes on in the archive is enough.
        assert [stream_of(each) for each in ask(tmp_path, server.url, dead, late)] == [dead.stream]
    assert stream_of(absence) == dead.stream
    assert (absence.reason, absence.start) == (Reason.AFTER_LAST, date(2025, 7, 3))
    assert absence.end == END
