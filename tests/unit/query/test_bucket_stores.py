"""A store in object storage gives the same answers as the same files in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.storage.bucket import Bucket
from tests.support.bucket_stores import upload
from tests.support.stores import assert_same, kline, other, put, scan_rows, view_of, view_rows

DAYS = [f"2025-07-{day:02}" for day in range(1, 6)]
KEYS = [
    *(kline(symbol, day) for symbol in ("BTCUSDT", "币安人生USDT") for day in DAYS),
    kline("BTCUSDT", "2025-06"),
    kline("ETHUSDT", "2025-07"),
    *(kline("ETHUSDT", day) for day in DAYS[:2]),
    *(other("trades", "BTCUSDT", day, "spot") for day in DAYS[:2]),
    *(other("metrics", "BTCUSDT", day) for day in DAYS),
    *(other("bookDepth", "BTCUSDT", day) for day in DAYS),
    ObjectKey.parse("data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-06.zip"),
    ObjectKey.parse("data/option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-07-01.zip"),
]
VIEWS = sorted({view_of(key) for key in KEYS})


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an empty index."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "index"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for key in KEYS:
        put(tmp_path / "local", key)
    return tmp_path / "local"


def assert_same_answers(root: Path, url: str, **options: object) -> None:
    local, remote = bak.connect(root, **options), bak.connect(url, **options)
    for view in VIEWS:
        assert_same(view_rows(remote, view), view_rows(local, view))
        where = "date = '2025-07-02' AND symbol = 'BTCUSDT'"
        assert_same(view_rows(remote, view, where), view_rows(local, view, where))
    for market, data_type in {(key.folder.market, key.folder.data_type) for key in KEYS}:
        found, expected = (
            scan_rows(bak.scan(place, market, data_type, **options)) for place in (url, root)
        )
        assert_same(found, expected)


@pytest.mark.parametrize("built", ["nothing", "half", "all"])
def test_rows_are_the_same(root: Path, bucket: Bucket, built: str) -> None:
    half = [str(key) for key in KEYS[::2]]
    upload(root, bucket, half)
    if built == "half":
        bak.store(bucket.url).build()
    upload(root, bucket, [str(key) for key in KEYS[1::2]])
    if built == "all":
        bak.store(bucket.url).build()
        for data_type in ("trades", "bookDepth"):
            bak.store(bucket.url).build(data_type=data_type)
        assert set(bak.store(bucket.url).frame()["tabled"]) == {5, 2, 1}
    assert_same_answers(root, bucket.url)
    assert_same_answers(root, bucket.url, prefer="monthly")
    assert_same_answers(root, bucket.url, decimals=True)
    assert_same_answers(root, bucket.url, cache=False)
