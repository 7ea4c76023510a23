"""Recording proofs, missing objects and locations."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import ObjectKey, Stream
from binance_archive_kit.errors import ArchiveKitWarning, ConfigurationError
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.layout import PRIVATE, fault_of_location
from binance_archive_kit.storage.proof import Proof, ProvenBy, Stamp
from binance_archive_kit.storage.store import Store
from tests.support.proven import (
    KEYS,
    fill,
    record_of,
)
from tests.support.stores import put, view_rows
from tests.support.zip_forms import (
    KEY,
    admit_proven,
)


def test_recording_from_many_threads(either: BaseStore) -> None:
    def proofs(n: int) -> list[Proof]:
        return [
            Proof(
                KEY.replace("2025", f"{2000 + 50 * n + i}"),
                Stamp(i, 0, inode=n),
                "0" * 64,
                None,
                ProvenBy.SIZE,
                "now",
            )
            for i in range(50)
        ]

    with either.records.recorder() as record:
        threads = [threading.Thread(target=record, args=(proofs(n),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with closing(sqlite3.connect(either.records.path)) as connection:
        assert connection.execute("SELECT count(*) FROM proofs").fetchone() == (400,)
    expected = {each.key: each.stamp for n in range(8) for each in proofs(n)}
    found = either.records.proofs("data/")
    assert {key: proof.stamp for key, proof in found.items()} == expected
    assert either.records.proven_keys() == expected.keys()
    assert either.records.proofs(keys=[KEY.replace("2025", "2000"), "data/none"]).keys() == {
        KEY.replace("2025", "2000")
    }
    either.records.forget([*expected][:100])
    assert either.records.proven_keys() == {*[*expected][100:]}


def lacking(day: int, reason: Reason) -> Absence:
    on = date(2025, 7, day)
    key = KEY.replace("2025-07-15", str(on))
    return Absence(Market.SPOT, DataType.TRADES, reason, "it is not there", on, on, key=key)


def test_missing_objects_are_recorded_with_a_reason(either: BaseStore, tmp_path: Path) -> None:
    store = either
    prefix = KEY.rpartition("/")[0] + "/"
    absences = [lacking(1, Reason.ABSENT), lacking(2, Reason.AFTER_LAST)]
    store.records.record_missing(absences, [])
    assert store.records.missing(prefix) == {}, "nothing is noted of a folder that is no store"
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
    store.records.record_missing(absences, [])
    noted = store.records.missing(prefix)
    assert {key: reason for key, (reason, _) in noted.items()} == {
        each.key: each.reason for each in absences
    }
    assert all(said.startswith("it is not there, asked on 20") for _, said in noted.values())
    store.records.record_missing([lacking(2, Reason.ABSENT)], [str(absences[0].key)])
    assert [reason for reason, _ in store.records.missing(prefix).values()] == [Reason.ABSENT]


def test_missing_records_of_an_older_version_have_no_reason(store: Store) -> None:
    """Stores were made before reasons were noted."""
    prefix = KEY.rpartition("/")[0] + "/"
    new = lacking(2, Reason.AFTER_LAST)
    database = store.root / PRIVATE / "proofs.sqlite"
    database.parent.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE missing (key TEXT PRIMARY KEY, said TEXT) WITHOUT ROWID")
        connection.execute("INSERT INTO missing (key, said) VALUES (?, 'as told')", (KEY,))
    old = {KEY: (Reason.ABSENT, "as told")}
    assert store.records.missing(prefix) == old
    with pytest.warns(ArchiveKitWarning, match="added: proofs, .* missing.reason"):
        store.records.record_missing([new], [])
    noted = store.records.missing(prefix)
    assert noted.pop(str(new.key)).reason is Reason.AFTER_LAST
    assert noted == old


def test_selections_are_recorded_and_their_days_joined(either: BaseStore) -> None:
    records = either.records
    assert records.selections() == {}
    assert records.selected_streams() == {}
    candles = Stream(Market.SPOT, DataType.KLINES, "币安人生USDT", Interval.D1)
    trades = Stream(Market.FUTURES_UM, DataType.TRADES, "A;--${}USDT")
    july, august = ((date(2025, month, 1), date(2025, month, 31)) for month in (7, 8))
    records.record_selections({"*": ["A", "币"]}, {candles: august, trades: july})
    records.record_selections({"*": ["B"], "other": None}, {candles: july})
    assert records.selections() == {"*": ["B"], "other": None}
    assert records.selected_streams() == {candles: (july[0], august[1]), trades: july}


def test_unfinished_streams_are_recorded_until_they_are_finished(either: BaseStore) -> None:
    candles = Stream(Market.SPOT, DataType.KLINES, "币安人生USDT", Interval.D1)
    trades = Stream(Market.FUTURES_UM, DataType.TRADES, "AUSDT")
    day = date(2025, 7, 1)
    either.records.record_unfinished({candles: day, trades: None})
    assert either.records.unfinished() == {candles: day}
    either.records.record_unfinished({candles: None, trades: day})
    assert either.records.unfinished() == {trades: day}


def test_damaged_selected_streams_are_ignored(store: Store) -> None:
    stream = Stream(Market.SPOT, DataType.TRADES, "BTCUSDT")
    days = date(2025, 7, 1), date(2025, 7, 2)
    store.records.record_selections({}, {stream: days})
    with closing(sqlite3.connect(store.records.path)) as connection, connection:
        rows = [("spot/trades", "x", "y"), ("spot/klines/BTCUSDT/", "2025-07-01", "2025-07-02")]
        rows += [("spot/trades/ETHUSDT/", "no day", "2025-07-02")]
        connection.executemany("INSERT INTO selected (stream, first, last) VALUES (?,?,?)", rows)
    assert store.records.selected_streams() == {stream: days}


def test_a_damaged_database_is_moved_aside(store: Store, tmp_path: Path) -> None:
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
    database = store.root / PRIVATE / "proofs.sqlite"
    database.write_bytes(b"this is no database at all" * 100)
    with pytest.warns(ArchiveKitWarning, match="damaged.*proves them again"):
        found = store.inventory.frame([KEY.rpartition("/")[0] + "/"])
    assert found["proven_by"].to_list() == [None]
    [aside] = database.parent.glob("proofs.damaged-*.sqlite")
    assert aside.read_bytes().startswith(b"this is no database")
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
    assert store.inventory.frame([KEY.rpartition("/")[0] + "/"])["proven_by"].to_list() == [
        "sha256"
    ]


def test_a_database_with_a_damaged_page_is_moved_aside(store: Store, tmp_path: Path) -> None:
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
        for n in range(40):
            record(
                [
                    Proof(f"{KEY}{n}-{i}", Stamp(i, 0), "0" * 64, None, ProvenBy.SIZE, "now")
                    for i in range(50)
                ]
            )
    database = store.root / PRIVATE / "proofs.sqlite"
    content = bytearray(database.read_bytes())
    assert len(content) > 3 * 4096
    content[4096:] = os.urandom(len(content) - 4096)
    database.write_bytes(content)
    with pytest.warns(ArchiveKitWarning, match="damaged"):
        found = store.inventory.frame([KEY.rpartition("/")[0] + "/"])
    assert found["key"].to_list() == [KEY]


# Locations that a storage decides, or that are recorded, stay inside the store.


SAFE = "flat/BTCUSDT"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (f"../{KEYS[0].name}", "plain"),
        (f"flat/../../{KEYS[0].name}", "plain"),
        (f"/etc/{KEYS[0].name}", "plain"),
        (f"flat/\x07/{KEYS[0].name}", "plain"),
        (f"{PRIVATE}/{KEYS[0].name}", "not for data"),
        (f"quarantine/{KEYS[0].name}", "not for data"),
        ("flat/other.zip", "another file"),
        (str(KEYS[1]), "another file"),
        ("", "another file"),
        (f"link/{KEYS[0].name}", "symbolic link"),
        (f"link/deeper/{KEYS[0].name}", "symbolic link"),
        (f"inside/{KEYS[0].name}", "symbolic link"),
    ],
)
def test_a_recorded_location_never_leads_outside(
    tmp_path: Path, root: Path, place: str, why: str
) -> None:
    """Neither a file outside is read, nor is one written there."""
    outside = tmp_path / "outside"
    (outside / "deeper").mkdir(parents=True)
    secret = put(tmp_path / "secret", KEYS[0], seed="secret")
    for folder in (outside, outside / "deeper", tmp_path):
        shutil.copy(secret, folder / KEYS[0].name)
    (root / "link").symlink_to(outside)
    (root / "inside").mkdir()
    (root / "inside" / KEYS[0].name).symlink_to(outside / KEYS[0].name)
    with closing(sqlite3.connect(record_of(root))) as database, database:
        database.execute("INSERT INTO places (key, place) VALUES (?, ?)", (str(KEYS[0]), place))
        database.execute("INSERT INTO places (key, place) VALUES ('data/x/../y.zip', 'y.zip')")

    def told() -> pytest.WarningsRecorder:
        return pytest.warns(ArchiveKitWarning, match=rf"locations of files are ignored.*{why}")

    with told():
        rows = view_rows(bak.connect(root, cache=False), "spot_klines")
    assert rows == view_rows(bak.connect(_copy(root, tmp_path), cache=False), "spot_klines")
    store = Store(root)
    with told():
        assert store.path(str(KEYS[0])) == root / str(KEYS[0])
    before = {path: path.read_bytes() for path in tmp_path.glob("outside/**/*.zip")}
    with told():
        Store(root).locations.record([])
    fill(root, tmp_path, KEYS[:1])
    assert {path: path.read_bytes() for path in tmp_path.glob("outside/**/*.zip")} == before


def _copy(root: Path, tmp_path: Path) -> Path:
    """Copy the files of a store, without its record."""
    shutil.copytree(root / "data", tmp_path / "copy" / "data", dirs_exist_ok=True)
    return tmp_path / "copy"


class Says(bak.BaseStorage):
    def __init__(self, folder: Any) -> None:
        self.folder = folder

    def get_partition_path(self, **_: Any) -> Any:
        return self.folder


@pytest.mark.parametrize(
    "folder", ["link", "link/deeper", "..", "a/../../b", "/etc", "x\0y", b"bytes", "\ud800", 7]
)
def test_a_storage_never_leads_outside(tmp_path: Path, folder: Any) -> None:
    root = tmp_path / "store"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigurationError, match="storage: get_partition_path returns"):
        Store(root, Says(folder)).locations.record([str(KEYS[0])])
    assert not record_of(root).exists()


def test_links_inside_the_store_are_accepted(tmp_path: Path) -> None:
    root = tmp_path / "store"
    (root / "real").mkdir(parents=True)
    (root / "link").symlink_to("real")
    store = Store(root, Says("link"))
    store.locations.record([str(KEYS[0])])
    assert Store(root).locations.recorded() == {str(KEYS[0]): f"link/{KEYS[0].name}"}


@given(st.text(max_size=12), st.sampled_from(KEYS))
def test_no_text_makes_the_check_of_a_location_raise(text: str, key: ObjectKey) -> None:
    assert fault_of_location(str(key), f"{SAFE}/{key.name}") == ""
    for place in (text, f"{text}/{key.name}"):
        if not fault_of_location(str(key), place):
            path = Path(os.path.normpath(f"/store/{place}"))
            assert path.is_relative_to("/store")
            assert path.name == key.name
    assert fault_of_location(text, text)
