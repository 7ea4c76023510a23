"""Admitting, quarantining and staging files, and files that were moved since they were proven."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    BadChecksum,
    Corrupt,
)
from binance_archive_kit.query import file_lookup
from binance_archive_kit.storage import databases
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.layout import QUARANTINE
from binance_archive_kit.storage.proof import Expected, stamp_of
from binance_archive_kit.storage.proven_files import INVENTORY_SCHEMA
from binance_archive_kit.storage.records import Records
from binance_archive_kit.storage.store import Store
from tests.support.both_stores import overwrite
from tests.support.checks import flip
from tests.support.proven import (
    KEYS,
    PREFIX,
    fill,
    fill_store,
    hashed,
    record_of,
)
from tests.support.stores import put, view_rows
from tests.support.zip_forms import (
    DAMAGED,
    GOOD,
    KEY,
    OTHER,
    admit_proven,
    sha,
    staged,
    stored,
)


def test_admit_replaces_atomically(store: Store, tmp_path: Path) -> None:
    admit_proven(store, tmp_path, KEY)
    assert store.path(KEY).read_bytes() == GOOD
    with store.path(KEY).open("rb") as reader:
        admit_proven(store, tmp_path, KEY, stored())
        assert reader.read() == GOOD  # who reads it goes on reading what it was
    assert store.path(KEY).read_bytes() == stored()
    assert not (tmp_path / "staged").exists()


def test_the_first_file_creates_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "b")
    assert store.inventory.frame(["data/spot/daily/trades/BTCUSDT/"]).height == 0
    assert store.free_bytes() > 0
    assert list(tmp_path.iterdir()) == []


def test_quarantine_keeps_the_bytes_and_the_reason(store: Store, tmp_path: Path) -> None:
    error = Corrupt(KEY, "SHA-256 is 币安, and not")
    expected = Expected(7, "e" * 32, OTHER)
    aside = store.quarantine(staged(tmp_path, DAMAGED), error, expected)
    assert aside.read_bytes() == DAMAGED
    assert aside.is_relative_to(store.root / "quarantine")
    assert aside.name == f"BTCUSDT-trades-2025-07-15.zip.{sha(DAMAGED)[:12]}.bad"
    said = json.loads(aside.with_name(aside.name + ".json").read_text(encoding="utf-8"))
    assert said.pop("quarantined_at")
    assert said == {
        "key": KEY,
        "reason": "corrupt",
        "detail": "SHA-256 is 币安, and not",
        "sha256": sha(DAMAGED),
        "size": len(DAMAGED),
        "expected_sha256": OTHER,
        "expected_etag": "e" * 32,
        "expected_size": 7,
    }
    assert not (tmp_path / "staged").exists()
    # The same bytes again lie there once, other bytes beside them.
    assert store.quarantine(staged(tmp_path, DAMAGED), error, expected) == aside
    assert store.quarantine(staged(tmp_path, b"else"), error, expected) != aside
    assert len(list(aside.parent.glob("*.bad"))) == 2
    assert not list(store.root.rglob("*.zip"))


def staging_of(store: BaseStore) -> list[Path]:
    return sorted(p for p in (store.private / "staging").iterdir() if p.is_dir())


def test_staging_is_private_and_leaves_nothing(either: BaseStore) -> None:
    store = either
    with store.staging() as one, store.staging() as two:
        assert one != two
        (one / "file").write_bytes(b"x")
        assert staging_of(store) == sorted([one, two])
        # The same disk, so that a rename is enough.
        if isinstance(store, Store):
            assert one.stat().st_dev == store.root.stat().st_dev
    assert staging_of(store) == []
    assert list((store.private / "staging").glob("*.lock")) == []


def test_staging_is_removed_when_the_run_fails(either: BaseStore) -> None:
    store = either

    def fail() -> None:
        with store.staging() as folder:
            (folder / "file").write_bytes(b"x")
            raise RuntimeError("on its way")

    with pytest.raises(RuntimeError, match="on its way"):
        fail()
    assert staging_of(store) == []


HOLD = """
import sys
from binance_archive_kit.storage.places import store_at
with store_at(sys.argv[1]).staging() as folder:
    (folder / "file").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_staging_folders_of_ended_runs_are_removed(either: BaseStore) -> None:
    store = either
    command = [sys.executable, "-c", HOLD, str(store.root)]
    here = str(Path(__file__).parents[3])
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
    ) as process:
        assert process.stdout is not None
        other = Path(process.stdout.readline().strip())
        with store.staging() as mine:
            assert staging_of(store) == sorted([mine, other])
            assert (other / "file").read_bytes() == b"x"
        assert staging_of(store) == [other]
        process.kill()
        process.wait()
        assert staging_of(store) == [other]
        with store.staging() as mine:
            assert staging_of(store) == [mine]
    assert staging_of(store) == []


def test_many_runs_stage_at_once(either: BaseStore) -> None:
    store = either
    seen: list[int] = []

    def run(n: int) -> None:
        for _ in range(5):
            with store.staging() as folder:
                (folder / "file").write_bytes(bytes([n]))
                assert (folder / "file").read_bytes() == bytes([n])
                seen.append(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 30
    assert staging_of(store) == []


def test_a_store_pickles_as_its_place(either: BaseStore, tmp_path: Path) -> None:
    fill_store(either, tmp_path, KEYS[:2])
    copy = pickle.loads(pickle.dumps(either))
    assert (type(copy), copy.root) == (type(either), either.root)
    assert copy.collected() == {str(key) for key in KEYS[:2]}
    assert repr(copy) == f"{type(either).__name__}({str(either.root)!r})"
    assert str(copy.path(str(KEYS[0]))) == f"{either.root}/{KEYS[0]}"


def test_quarantined_bytes_are_listed_with_the_reason(either: BaseStore) -> None:
    bad = f"{QUARANTINE}/{KEYS[0]}.0123456789ab.bad"
    overwrite(either, bad, b"x")
    overwrite(either, f"{bad}.json", b'{"reason": "corrupt", "detail": "SHA-256 differs"}')
    overwrite(either, f"{QUARANTINE}/{KEYS[1]}.0123456789ab.bad", b"x")
    overwrite(either, f"{QUARANTINE}/{PREFIX}mine.bad", b"x")
    assert either.quarantined(PREFIX) == {
        str(KEYS[0]): "corrupt: SHA-256 differs",
        str(KEYS[1]): "reason unknown: the note beside the bytes is missing or damaged",
    }
    assert either.quarantined(KEYS[0].folder.parent) == {}
    assert either.collected() == {str(key) for key in KEYS[:2]}


def test_repr_of_a_store(tmp_path: Path) -> None:
    assert repr(Store(tmp_path)) == f"Store({str(tmp_path)!r})"
    assert pl.DataFrame(schema=INVENTORY_SCHEMA).columns[0] == "key"


def test_a_quarantine_note_may_be_missing_or_truncated(root: Path) -> None:
    store = Store(root)
    error = BadChecksum(str(KEYS[0]), "spoilt")
    aside = [
        store.quarantine(put(root.parent / "bad", KEYS[0], seed=seed), error, Expected(1, "e", "f"))
        for seed in range(3)
    ]
    notes = [path.with_name(f"{path.name}.json") for path in aside]
    assert all(note.exists() for note in notes)
    assert store.quarantined(PREFIX) == {str(KEYS[0]): "checksum_unreadable: spoilt"}
    whole = notes[0].read_bytes()
    for path in (*aside[1:], *notes[1:]):
        path.unlink()
    for body in (whole[: len(whole) // 2], b"", b"[]", b'{"reason": 1}', b"\xff", b"[" * 9_999):
        notes[0].write_bytes(body)
        [said] = store.quarantined(PREFIX).values()
        assert said.startswith("reason unknown: the note beside the bytes is missing or damaged")
        assert bak.coverage(root).streams.height == 1
    notes[0].unlink()
    assert len(store.quarantined(PREFIX)) == 1
    (aside[0].parent / "mine.bad").write_text("x")
    (aside[0].parent / "mine.bad.json").write_text("x")
    assert len(store.quarantined(PREFIX)) == 1


# Files that were moved, copied or changed since they were proven.


def unchanged(root: Path) -> list[bool]:
    return Store(root).inventory.frame([PREFIX]).sort("key")["unchanged"].to_list()


def age(root: Path) -> None:
    """Make the record one of the version that knew neither ctime nor inode."""
    with closing(sqlite3.connect(record_of(root))) as database, database:
        database.execute("ALTER TABLE proofs DROP COLUMN ctime")
        database.execute("ALTER TABLE proofs DROP COLUMN inode")


def test_the_recorded_stamp_is_that_of_the_final_name(root: Path) -> None:
    proofs = Store(root).records.proofs(PREFIX)
    for key in KEYS:
        assert proofs[str(key)].stamp == stamp_of((root / str(key)).stat())
    assert unchanged(root) == [True] * 5


CHANGES: Mapping[str, Callable[[Path], object]] = {
    "flipped": flip,
    "replaced": lambda path: shutil.copy2(path, path.with_suffix(".new")).replace(path),
    "touched": lambda path: os.utime(path, (1, 1)),
    "mode": lambda path: path.chmod(0o600),
    "linked": lambda path: os.link(path, f"{path}.other"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_stamp_is_hashed_once_and_recorded(root: Path, change: str) -> None:
    CHANGES[change](root / str(KEYS[1]))
    assert unchanged(root) == [True, False, True, True, True]
    held = bak.store(root, cache=False, on_error="skip")
    if change == "flipped":
        assert held.frame()["proven"].to_list() == [4]
        with pytest.warns(ArchiveKitWarning, match="changed"):
            assert len(view_rows(bak.connect(root, cache=False, on_error="skip"), "spot_klines"))
        assert unchanged(root) == [True, False, True, True, True]
        return
    assert hashed(lambda: held.frame()) == 1
    assert held.frame()["proven"].to_list() == [5]
    assert hashed(lambda: bak.store(root).frame()) == 0, "once"
    assert unchanged(root) == [True] * 5


@pytest.mark.parametrize("ask", ["frame", "query", "coverage", "verify a sample"])
def test_the_first_reader_proves_a_moved_store(root: Path, tmp_path: Path, ask: str) -> None:
    there = tmp_path / "moved"
    subprocess.run(["cp", "-a", root, there], check=True)
    # As git does, which keeps no time at all.
    for key in KEYS[:2]:
        os.utime(there / str(key), (5, 5))
    assert unchanged(there) == [False] * 5
    if ask == "frame":
        assert bak.store(there).frame()["proven"].to_list() == [5]
    elif ask == "query":
        assert len(view_rows(bak.connect(there), "spot_klines")) == 5 * 24
    elif ask == "coverage":
        bak.coverage(there)
    else:
        found = bak.verify(there, sample=2, seed=1)
        assert (found.sound, found.read, found.proven) == (True, 2, 5)
    assert unchanged(there) == [True] * 5
    assert unchanged(root) == [True] * 5


def test_a_query_hashes_only_the_files_it_needs(root: Path, tmp_path: Path) -> None:
    there = tmp_path / "moved"
    shutil.copytree(root, there)
    con = bak.connect(there, cache=False)
    view_rows(con, "spot_klines", f"date = '{KEYS[2].start}'")
    assert unchanged(there) == [False, False, True, False, False]


def test_a_read_only_store_is_hashed_once_per_process(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "moved"
    shutil.copytree(root, there)
    monkeypatch.setattr(databases, "_PATIENCE", 0.05)
    with closing(sqlite3.connect(record_of(there))) as other:
        other.execute("BEGIN IMMEDIATE")
        assert hashed(lambda: bak.store(there).frame()) == 5
        assert hashed(lambda: bak.store(there).frame()) == 0
        assert unchanged(there) == [True] * 5
    flip(there / str(KEYS[0]))
    assert unchanged(there) == [False, *[True] * 4]


def test_verify_upgrades_the_records_of_an_older_version(root: Path) -> None:
    age(root)
    before = record_of(root).read_bytes()
    assert unchanged(root) == [True] * 5
    assert len(view_rows(bak.connect(root), "spot_klines")) == 5 * 24
    assert bak.store(root).frame()["proven"].to_list() == [5]
    assert record_of(root).read_bytes() == before, "a question upgrades nothing"
    assert bak.verify(root, sample=0).sound
    flip(root / str(KEYS[0]))
    assert unchanged(root) == [True] * 5
    with pytest.warns(ArchiveKitWarning, match=r"older version .* Nothing was lost") as told:
        found = bak.verify(root)
    assert len(told) == 1
    assert found.frame["reason"].to_list() == ["changed"]
    assert unchanged(root) == [None, *[True] * 4]
    stamps = {key: proof.stamp for key, proof in Store(root).records.proofs(PREFIX).items()}
    assert stamps == {str(key): stamp_of((root / str(key)).stat()) for key in KEYS[1:]}


def test_a_new_proof_upgrades_the_database_of_an_older_version(root: Path, tmp_path: Path) -> None:
    age(root)
    with pytest.warns(ArchiveKitWarning, match="proofs.ctime, proofs.inode"):
        fill(root, tmp_path, KEYS[:1])
    assert Store(root).records.proofs(PREFIX)[str(KEYS[0])].stamp == stamp_of(
        (root / str(KEYS[0])).stat()
    )
    assert unchanged(root) == [True] * 5


@pytest.mark.parametrize(("after", "least"), [(0, 1), (60, 0)], ids=["just now", "long ago"])
def test_many_changed_files_share_one_wait(
    after: int, least: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a file that changed just now may have a proof that is not recorded yet."""
    for key in KEYS:
        file = root / str(key)
        file.write_bytes(file.read_bytes() + b"x")
    now = time.time() + after
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    monkeypatch.setattr(file_lookup.time, "sleep", sleep)
    monkeypatch.setattr(file_lookup.time, "time_ns", lambda: int(now * 1e9))
    monkeypatch.setattr(file_lookup, "_RECENT", 2_000_000_000)
    with pytest.warns(ArchiveKitWarning, match="changed"):
        rows = bak.scan(root, "spot", "klines", on_error="skip", cache=False).collect()
    assert not rows.height
    assert least <= len(waits) <= 3 * least


def test_records_are_read_once_for_many_bad_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in KEYS:
        path = tmp_path / str(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(key.member, "1,2,3\n")
    looked: list[str] = []
    proofs = Records.proofs

    def counted(records: Records, *prefixes: str, keys: Sequence[str] = ()) -> Any:
        looked.append(" ".join((*prefixes, *keys)))
        return proofs(records, *prefixes, keys=keys)

    monkeypatch.setattr(Records, "proofs", counted)
    store = bak.store(tmp_path, on_error="skip")
    for _ in range(2):
        looked.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ArchiveKitWarning)
            assert not bak.scan(store, "spot", "klines").collect().height
        assert len(store.problems) == len(KEYS)
        assert len(looked) < len(KEYS)
