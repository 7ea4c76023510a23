"""Admitting, quarantining and staging files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import (
    BadChecksum,
    Corrupt,
)
from binance_archive_kit.storage.inventory import INVENTORY_SCHEMA
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.proof import Expected
from binance_archive_kit.storage.store import Store
from tests.support.proven import KEYS, PREFIX
from tests.support.stores import put
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


def staging_of(store: Store) -> list[Path]:
    return sorted(p for p in (store.root / PRIVATE / "staging").iterdir() if p.is_dir())


def test_staging_is_private_and_leaves_nothing(store: Store) -> None:
    with store.staging() as one, store.staging() as two:
        assert one != two
        (one / "file").write_bytes(b"x")
        assert staging_of(store) == sorted([one, two])
        # The same disk, so that a rename is enough.
        assert one.stat().st_dev == store.root.stat().st_dev
    assert staging_of(store) == []
    assert list((store.root / PRIVATE / "staging").glob("*.lock")) == []


def test_staging_is_removed_when_the_run_fails(store: Store) -> None:
    def fail() -> None:
        with store.staging() as folder:
            (folder / "file").write_bytes(b"x")
            raise RuntimeError("on its way")

    with pytest.raises(RuntimeError, match="on its way"):
        fail()
    assert staging_of(store) == []


HOLD = """
import sys
from binance_archive_kit.storage.store import Store
with Store(sys.argv[1]).staging() as folder:
    (folder / "file").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_staging_folders_of_ended_runs_are_removed(store: Store) -> None:
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


def test_many_runs_stage_at_once(store: Store) -> None:
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
