"""Recording proofs and missing objects."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.errors import ArchiveKitWarning
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.proof import Proof, ProvenBy, Stamp
from binance_archive_kit.storage.store import Store
from tests.support.zip_forms import (
    KEY,
    admit_proven,
)


def test_recording_from_many_threads(store: Store) -> None:
    def proofs(n: int) -> list[Proof]:
        return [
            Proof(f"data/x/{n}-{i}.zip", Stamp(i, n), "0" * 64, None, ProvenBy.SIZE, "now")
            for i in range(50)
        ]

    with store.records.recorder() as record:
        threads = [threading.Thread(target=record, args=(proofs(n),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with sqlite3.connect(store.root / PRIVATE / "proofs.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM proofs").fetchone() == (400,)
    connection.close()


def lacking(day: int, reason: Reason) -> Absence:
    on = date(2025, 7, day)
    key = KEY.replace("2025-07-15", str(on))
    return Absence(Market.SPOT, DataType.TRADES, reason, "it is not there", on, on, key=key)


def test_missing_objects_are_recorded_with_a_reason(store: Store, tmp_path: Path) -> None:
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
        connection.execute("INSERT INTO missing VALUES (?, 'as told')", (KEY,))
    old = {KEY: (Reason.ABSENT, "as told")}
    assert store.records.missing(prefix) == old
    store.records.record_missing([new], [])
    noted = store.records.missing(prefix)
    assert noted.pop(str(new.key)).reason is Reason.AFTER_LAST
    assert noted == old


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
