"""A storage decides where files lie; resume, proofs and views find them there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.storage.layout import BaseStorage
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import Bucket, with_sidecars, zipped, zips_of
from tests.support.checks import proofs_of
from tests.support.stores import assert_same, csv_for, in_order, kline, naive_rows, other, view_rows

KEYS = [
    *(kline(symbol, f"2025-07-0{day}") for symbol in ("BTCUSDT", "ETHUSDT") for day in (1, 2, 3)),
    *(kline("BTCUSDT", f"2025-07-0{day}", market="futures/um") for day in (1, 2, 3)),
    *(other("metrics", "BTCUSDT", f"2025-07-0{day}") for day in (1, 2, 3)),
]


def bucket() -> Bucket:
    return with_sidecars({str(key): zipped(str(key), csv_for(key).decode()) for key in KEYS})


class ByDay(BaseStorage):
    """The documented form of a storage: keyword arguments, and no call of the parent's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_partition_path(self, **of: Any) -> str:
        words = (of["zone"], of["exchange"], of["trade_type"], of["data_type"])
        folders = "/".join(word.value for word in words)
        return f"{self.name}/{folders}/{of['symbol']}/{of['partition_date'].strftime('%Y/%m/%d')}"


def place(name: str, key: object) -> str:
    """Spell where `ByDay` puts a file, from its key alone."""
    folders, _, base = str(key).rpartition("/")
    words = folders.split("/")
    market = "futures_um" if "futures" in words else "spot"
    data_type, symbol = words[words.index("daily") + 1 :][:2]
    day = base[-len("2025-07-01.zip") : -len(".zip")].replace("-", "/")
    return f"{name}/archive/binance/{market}/{data_type}/{symbol}/{day}/{base}"


@pytest.fixture
def wanted(serve: Serve, ask: Ask) -> bak.CollectionConfig:
    symbols = {"spot": ["BTCUSDT", "ETHUSDT"], "futures_um": ["BTCUSDT"]}
    fields = {"markets": list(symbols), "symbols": symbols, "data_types": ["klines", "metrics"]}
    return ask(serve(bucket()), days=3, **fields)


def zips_below(store: Path) -> set[str]:
    return {path.relative_to(store).as_posix() for path in store.rglob("*.zip")}


def test_files_lie_where_the_storage_says(wanted: bak.CollectionConfig, store: Path) -> None:
    result = bak.collect(wanted, storage=ByDay("lake"))
    assert result.collection_stats["successful_tasks"] == len(KEYS)
    assert zips_below(store) == {place("lake", key) for key in KEYS}
    assert sorted(result.output_files) == sorted(str(store / place("lake", key)) for key in KEYS)
    held = {str(key): (store / place("lake", key)).read_bytes() for key in KEYS}
    assert held == zips_of(bucket())
    assert sorted(proofs_of(store)) == sorted(map(str, KEYS))


@pytest.mark.parametrize("again", [ByDay("lake"), None], ids=["same storage", "no storage"])
def test_a_later_run_keeps_them_with_and_without_the_storage(
    wanted: bak.CollectionConfig, store: Path, again: BaseStorage | None
) -> None:
    bak.collect(wanted, storage=ByDay("lake"))
    gone, damaged = (store / place("lake", key) for key in KEYS[:2])
    gone.unlink()
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    planned = bak.plan(wanted, storage=again)
    assert dict(planned.frame["reason"].value_counts().iter_rows()) == {
        "new": 1,
        "to be hashed": 1,
        "proven": len(KEYS) - 2,
    }
    result = bak.collect(planned)
    assert result.outcome == "complete"
    assert result.collection_stats["skipped_tasks"] == len(KEYS) - 2
    assert zips_below(store) == {place("lake", key) for key in KEYS}
    assert bak.collect(wanted, storage=again).collection_stats["skipped_tasks"] == len(KEYS)


def test_views_find_them_beside_those_under_their_key(
    wanted: bak.CollectionConfig, store: Path, tmp_path: Path
) -> None:
    bak.collect(wanted, storage=ByDay("lake"), symbols=["BTCUSDT"])
    bak.collect(wanted, symbols=["ETHUSDT"], markets=["spot"], data_types=["klines"])
    plain = tmp_path / "plain"
    bak.collect(wanted, output_directory=plain)
    with bak.connect(store) as con:
        for tabled in (False, True):
            for view, market in (("spot_klines", "spot"), ("futures_um_klines", "futures/um")):
                keys = in_order(key for key in KEYS if f"/{market}/daily/klines" in str(key))
                expected = [
                    (*row[:5], row[5] if "ETH" in row[5] else place("lake", row[5]), *row[6:])
                    for row in naive_rows(plain, *keys)
                ]
                assert_same(view_rows(con, view), expected)
                [scan] = con.sql("SELECT opened, cached FROM store_last_scan").fetchall()
                assert scan == ((0, len(keys)) if tabled else (len(keys), 0))
            [(rows,)] = con.sql("SELECT count(*) FROM futures_um_metrics").fetchall()
            assert rows == 3 * 24
            bak.store(store).build()
        one = place("lake", KEYS[0])
        [(found,)] = con.sql(f"SELECT count(*) FROM spot_klines WHERE file = '{one}'").fetchall()
        assert found == 24
    held = bak.store(store).frame()
    assert held["files"].sum() == held["proven"].sum() == len(KEYS)


def test_files_that_come_and_go_are_seen(wanted: bak.CollectionConfig, store: Path) -> None:
    count = "SELECT count(*) FROM spot_klines"
    bak.collect(wanted, storage=ByDay("lake"), markets=["spot"], symbols=["BTCUSDT"])
    with bak.connect(store) as con:
        assert con.sql(count).fetchall() == [(3 * 24,)]
        bak.collect(wanted, storage=ByDay("lake"))
        assert con.sql(count).fetchall() == [(6 * 24,)]
        (store / place("lake", KEYS[0])).unlink()
        assert con.sql(count).fetchall() == [(5 * 24,)]


def test_a_damaged_file_is_named_by_where_it_lies(
    wanted: bak.CollectionConfig, store: Path
) -> None:
    bak.collect(wanted, storage=ByDay("lake"))
    path = store / place("lake", KEYS[0])
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(bak.FileError) as caught:
        bak.scan(store, "spot", "klines").collect()
    assert caught.value.file == place("lake", KEYS[0])


def test_another_storage_fetches_anew_and_serves_no_row_twice(
    wanted: bak.CollectionConfig, store: Path
) -> None:
    bak.collect(wanted)
    bak.collect(wanted, storage=ByDay("lake"))
    assert bak.collect(wanted, storage=ByDay("pond")).collection_stats["skipped_tasks"] == 0
    with bak.connect(store) as con:
        files = con.sql("SELECT DISTINCT file FROM spot_klines").fetchall()
    assert {file for (file,) in files} == {place("pond", key) for key in KEYS[:6]}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            "one/for/all",
            "returns one location, one/for/all/BTCUSDT-1h-2025-07-01.zip, for two files",
        ),
        ("../outside", "name a plain folder below output_directory"),
        ("/somewhere/else", "outside of output_directory"),
        ("s3://bucket/x", "it is a URL; name a local folder"),
        ("quarantine/x", "quarantine is not for data"),
        (".binance_archive_kit", "is not for data"),
        ("a\0b", "plain folder"),
        (None, "give a folder, as text or as a path"),
        ("data/spot/daily/klines/BTCUSDT/1h", "under their own key"),
    ],
)
def test_what_cannot_be_a_place_is_refused_before_anything_is_fetched(
    wanted: bak.CollectionConfig, store: Path, answer: object, why: str
) -> None:
    class Odd(BaseStorage):
        def get_partition_path(self, **of: Any) -> Any:
            return answer

    for verb in (bak.plan, bak.collect):
        with pytest.raises(bak.ConfigurationError, match=why):
            verb(wanted, storage=Odd())
    assert not zips_below(store)


def test_the_place_of_a_file_of_an_earlier_run_is_taken(wanted: bak.CollectionConfig) -> None:
    class BySymbol(BaseStorage):
        def get_partition_path(self, *, symbol: str, **of: Any) -> Path:
            return Path("flat", symbol)

    klines = wanted.replace(data_types=["klines"])
    bak.collect(klines, storage=BySymbol(), markets=["spot"])
    with pytest.raises(bak.ConfigurationError, match=r"for two files: data/spot.* and data/fut"):
        bak.collect(klines, storage=BySymbol(), markets=["futures_um"])


def test_what_is_no_storage_is_refused(wanted: bak.CollectionConfig) -> None:
    with pytest.raises(bak.ConfigurationError, match="has no get_partition_path"):
        bak.collect(wanted, storage="somewhere")  # type: ignore[arg-type]
    planned = bak.plan(wanted)
    with pytest.raises(bak.ConfigurationError, match="storage: a plan is executed as it"):
        bak.collect(planned, storage=ByDay("lake"))


def test_a_store_without_a_storage_records_no_places(
    wanted: bak.CollectionConfig, store: Path
) -> None:
    bak.collect(wanted)
    with closing(sqlite3.connect(store / ".binance_archive_kit/proofs.sqlite")) as database:
        assert database.execute("SELECT * FROM places").fetchall() == []
