"""A file counts as the one that was proven, or read before, while nothing tells otherwise."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sqlite3
import subprocess
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.cli.main import main
from binance_archive_kit.errors import ArchiveKitWarning, BadChecksum, ConfigurationError
from binance_archive_kit.query import proofs
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.storage import databases
from binance_archive_kit.storage.inventory import _agrees
from binance_archive_kit.storage.layout import PRIVATE, fault_of_location
from binance_archive_kit.storage.proof import Expected, Proof, ProvenBy, prove, read_checksum
from binance_archive_kit.storage.records import Records
from binance_archive_kit.storage.stamps import Stamp, raw, stamp_of
from binance_archive_kit.storage.store import Store
from tests.support.checks import flip, opened_files
from tests.support.stores import csv_for, kline, put, view_rows

KEYS = [kline("BTCUSDT", f"2025-07-0{day}") for day in range(1, 6)]
PREFIX = KEYS[0].folder.prefix


def fill(root: Path, tmp_path: Path, keys: list[ObjectKey] = KEYS) -> Store:
    """Make a store of proven files."""
    store = Store(root)
    with store.records.recorder() as record:
        for key in keys:
            staged = put(tmp_path / "staged", key)
            proof = prove(str(key), staged, Expected(None, "e", None))
            record([store.admit(proof, staged)])
    return store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "store", tmp_path)
    return tmp_path / "store"


def record_of(root: Path) -> Path:
    return root / PRIVATE / "proofs.sqlite"


def unchanged(root: Path) -> list[bool]:
    return Store(root).inventory.frame([PREFIX]).sort("key")["unchanged"].to_list()


def hashed(work: Callable[[], object]) -> int:
    """Count the zips that are opened meanwhile."""
    with opened_files() as opened:
        work()
    return sum(path.endswith(".zip") for path in opened)


def age(root: Path) -> None:
    """Make the record one of the version that knew neither ctime nor inode."""
    with closing(sqlite3.connect(record_of(root))) as database, database:
        database.execute("ALTER TABLE proofs DROP COLUMN ctime")
        database.execute("ALTER TABLE proofs DROP COLUMN inode")


# Stamps

numbers = st.sampled_from([0, 1, 2])
stamps = st.builds(Stamp, numbers, numbers, numbers, numbers)


@given(stamps, stamps)
def test_stamps_agree_alike_in_python_and_in_frames(one: Stamp, other: Stamp) -> None:
    assert one.agrees(other) == other.agrees(one)
    assert one.agrees(one)
    row = {name: [value] for name, value in one._asdict().items()}
    row |= {f"proven_{name}": [value] for name, value in other._asdict().items()}
    same = pl.DataFrame(row).select(pl.all_horizontal(map(_agrees, Stamp._fields))).item()
    assert same == one.agrees(other)


def test_a_stamp_fits_wherever_it_is_recorded(tmp_path: Path) -> None:
    """Inodes of network file systems, and times of odd files, may need all 64 bits."""
    stat = os.stat_result(
        # The last three are access, modification and change, in nanoseconds.
        [0o100644, 2**64 - 1, 0, 1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2**64 - 2, -5]
    )
    stamp = stamp_of(stat)
    assert all(0 <= part < 2**63 for part in stamp)
    store = Store(tmp_path / "store")
    with store.records.recorder() as record:
        record([Proof(str(KEYS[0]), stamp, "0" * 64, None, ProvenBy.SIZE, "now")])
    assert store.records.proofs(PREFIX)[str(KEYS[0])].stamp == stamp
    path = put(tmp_path, KEYS[0])
    assert raw(path.stat()) == stamp_of(path.stat())


# Proofs


def test_the_stamp_is_recorded_as_it_is_under_the_final_name(root: Path) -> None:
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
def test_a_moved_store_is_proven_by_whatever_looks_first(
    root: Path, tmp_path: Path, ask: str
) -> None:
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


def test_a_question_hashes_only_the_files_it_needs(root: Path, tmp_path: Path) -> None:
    there = tmp_path / "moved"
    shutil.copytree(root, there)
    con = bak.connect(there, cache=False)
    view_rows(con, "spot_klines", f"date = '{KEYS[2].start}'")
    assert unchanged(there) == [False, False, True, False, False]


def test_where_nothing_can_be_recorded_files_are_hashed_once_a_process(
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


def test_the_record_of_an_older_version_is_taken_until_verify_upgrades_it(root: Path) -> None:
    age(root)
    before = record_of(root).read_bytes()
    assert unchanged(root) == [True] * 5
    assert len(view_rows(bak.connect(root), "spot_klines")) == 5 * 24
    assert bak.store(root).frame()["proven"].to_list() == [5]
    assert record_of(root).read_bytes() == before, "a question upgrades nothing"
    assert bak.verify(root, sample=0).sound
    flip(root / str(KEYS[0]))
    assert unchanged(root) == [True] * 5
    found = bak.verify(root)
    assert found.frame["reason"].to_list() == ["changed"]
    assert unchanged(root) == [None, *[True] * 4]
    stamps = {key: proof.stamp for key, proof in Store(root).records.proofs(PREFIX).items()}
    assert stamps == {str(key): stamp_of((root / str(key)).stat()) for key in KEYS[1:]}


def test_a_new_proof_goes_into_the_record_of_an_older_version(root: Path, tmp_path: Path) -> None:
    age(root)
    fill(root, tmp_path, KEYS[:1])
    assert Store(root).records.proofs(PREFIX)[str(KEYS[0])].stamp == stamp_of(
        (root / str(KEYS[0])).stat()
    )
    assert unchanged(root) == [True] * 5


# What was read before


def spoil_alike(path: Path, key: ObjectKey) -> None:
    """Put another file of the same size and time in place of one."""
    stat = path.stat()
    for seed in range(400):
        other = put(path.parents[9] / "other", key, seed=seed + 1)
        if other.stat().st_size == stat.st_size:
            os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            other.replace(path)
            return
    raise AssertionError("no file of the same size")


@pytest.mark.parametrize("fresh", [True, False], ids=["a new process", "the same one"])
def test_another_file_of_the_same_size_and_time_is_read_anew(tmp_path: Path, fresh: bool) -> None:
    root = tmp_path / "a/b/c/store"
    for key in KEYS:
        put(root, key)
    held = bak.store(root)
    held.warm()
    before = view_rows(bak.connect(held), "spot_klines")
    assert held.last_scan is not None
    assert held.last_scan.cached == 5
    spoil_alike(root / str(KEYS[2]), KEYS[2])
    held = bak.store(root) if fresh else held
    after = view_rows(bak.connect(held), "spot_klines")
    assert len(after) == len(before) == 5 * 24
    assert [one == other for one, other in zip(before, after, strict=True)].count(True) == 4 * 24
    assert after == view_rows(bak.connect(root, cache=False), "spot_klines")


def test_unchanged_files_are_answered_from_what_was_remembered(root: Path) -> None:
    first = Engine(root)
    [feed] = first.feeds()
    first.warm()
    second = Engine(root)
    assert hashed(lambda: sum(batch.num_rows for batch in second.scan(feed, []))) == 0


# Places

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
def test_a_recorded_place_never_leads_outside(
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
        database.execute("INSERT INTO places VALUES (?, ?)", (str(KEYS[0]), place))
        database.execute("INSERT INTO places VALUES ('data/x/../y.zip', 'y.zip')")

    def told() -> pytest.WarningsRecorder:
        return pytest.warns(ArchiveKitWarning, match=rf"places of files are ignored.*{why}")

    with told():
        rows = view_rows(bak.connect(root, cache=False), "spot_klines")
    assert rows == view_rows(bak.connect(_copy(root, tmp_path), cache=False), "spot_klines")
    store = Store(root)
    with told():
        assert store.path(str(KEYS[0])) == root / str(KEYS[0])
    before = {path: path.read_bytes() for path in tmp_path.glob("outside/**/*.zip")}
    with told():
        store.locations.record([])
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
    with pytest.raises(ConfigurationError, match="storage: get_partition_path gives"):
        Store(root, Says(folder)).locations.record([str(KEYS[0])])
    assert not record_of(root).exists()


def test_links_that_stay_inside_are_fine(tmp_path: Path) -> None:
    root = tmp_path / "store"
    (root / "real").mkdir(parents=True)
    (root / "link").symlink_to("real")
    store = Store(root, Says("link"))
    store.locations.record([str(KEYS[0])])
    assert Store(root).locations.recorded() == {str(KEYS[0]): f"link/{KEYS[0].name}"}


@given(st.text(max_size=12), st.sampled_from(KEYS))
def test_places_are_judged_without_raising(text: str, key: ObjectKey) -> None:
    assert fault_of_location(str(key), f"{SAFE}/{key.name}") == ""
    for place in (text, f"{text}/{key.name}"):
        if not fault_of_location(str(key), place):
            path = Path(os.path.normpath(f"/store/{place}"))
            assert path.is_relative_to("/store")
            assert path.name == key.name
    assert fault_of_location(text, text)


# Sidecars

NAME = KEYS[0].name
HEX = "0123456789abcdef" * 4
OTHER = "f" * 64


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (f"{HEX}  {NAME}", HEX),
        (f"{HEX}  {NAME}\n", HEX),
        (f"{HEX} *{NAME}\r\n", HEX),
        (f"{HEX}\t{NAME}\n", HEX),
        (f"{HEX.upper()}  {NAME}\n", HEX),
        (f"\ufeff{HEX}  {NAME}\n", HEX),
        (f"{HEX}\n", HEX),
        (f"  {HEX}  ./daily/{NAME}\n", HEX),
        (f"{HEX}  C:\\data\\{NAME}\n", HEX),
        (f"SHA256 ({NAME}) = {HEX}\n", HEX),
        (f"SHA2-256({NAME})= {HEX}\n", HEX),
        (f"SHA512 ({NAME}) = {HEX}\n", "no SHA-256"),
        (f"# made today\n{OTHER}  another.zip\n{HEX}  {NAME}\n", HEX),
        (f"{HEX}  {NAME}\n{HEX}  {NAME}\n", HEX),
        (f"{HEX}  {NAME}\n{OTHER}  {NAME}\n", "several digests"),
        (f"{HEX}\n{OTHER}\n", "several digests"),
        (f"{HEX}  another.zip\n", "of another file, 'another.zip'"),
        ("", "no SHA-256"),
        ("\n\n", "no SHA-256"),
        (f"{HEX[:32]}  {NAME}\n", "no SHA-256"),
        (f"{HEX}{HEX}  {NAME}\n", "no SHA-256"),
        ("<html>Not found</html>", "no SHA-256"),
    ],
)
def test_the_checksum_beside_a_file_is_read(tmp_path: Path, text: str, outcome: str) -> None:
    beside = tmp_path / f"{NAME}.CHECKSUM"
    for encoding in ("utf-8", "utf-16"):
        beside.write_text(text, encoding, newline="")
        found = read_checksum(tmp_path / NAME)
        if isinstance(found, BadChecksum):
            assert outcome in found.detail
        else:
            assert found == outcome


def test_a_checksum_that_is_no_text_file_is_told_of(tmp_path: Path) -> None:
    beside = tmp_path / f"{NAME}.CHECKSUM"
    assert read_checksum(tmp_path / NAME) is None
    beside.write_bytes(os.urandom(3_000_000))
    assert isinstance(read_checksum(tmp_path / NAME), BadChecksum)
    beside.unlink()
    beside.mkdir()
    assert isinstance(read_checksum(tmp_path / NAME), BadChecksum)


def beside(path: Path, text: str) -> None:
    path.with_name(f"{path.name}.CHECKSUM").write_text(text)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_folder_of_another_tool_is_proven_by_its_checksums(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    paths = [put(root, key) for key in KEYS]
    for path in paths:
        path.with_name(f"{path.name}.CHECKSUM").unlink()

    def verified(*arguments: str) -> tuple[int, str]:
        code = main(["verify", str(root), *arguments])
        return code, capsys.readouterr().out

    code, said = verified()
    assert (code, said.splitlines()[0]) == (
        4,
        "Store unverified · 5 of 5 files read; 0 proven; 5 unverified",
    )
    assert not bak.verify(root).sound
    assert verified("--allow-unverified")[0] == 0
    for path in paths:
        beside(path, f"{digest(path)}  {path.name}\n")
    code, said = verified()
    assert code == 0
    assert said.startswith("Store sound · 5 of 5 files read; 5 proven\n")
    assert "5 of the proven agree with the .CHECKSUM beside them" in said
    assert not record_of(root).exists(), "nothing is recorded of it"
    code, said = verified("--sample", "2")
    assert (code, "2 proven; 3 unverified" in said) == (4, True)
    beside(paths[0], f"{OTHER}  {NAME}\n")
    beside(paths[1], "nothing of use\n")
    for flags in ((), ("--allow-unverified",)):
        code, said = verified(*flags)
        assert code == 1
        assert "Store not sound · 5 of 5 files read; 3 proven; 1 unverified; 1 checksum" in said
        assert f"the .CHECKSUM beside it says {OTHER}" in said
        assert "it holds no SHA-256 digest" in said


def test_a_recorded_proof_is_believed_more_than_a_checksum_beside(root: Path) -> None:
    path = root / str(KEYS[0])
    beside(path, f"{OTHER}  {path.name}\n")
    found = bak.verify(root)
    assert (found.sound, found.proven) == (True, 5)
    assert found.notes == (f"{KEYS[0]}.CHECKSUM: it is of other bytes than the proven ones",)
    assert "other bytes than the proven" in str(found)


# Quarantine


def test_a_note_in_quarantine_may_be_missing_or_cut(root: Path) -> None:
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


# Files without a digest


def unpacked(path: Path, ending: str) -> Path:
    """Put the csv of a zip beside it, in another form."""
    with zipfile.ZipFile(path) as archive:
        [name] = archive.namelist()
        body = archive.read(name)
    target = path.with_name(path.name.removesuffix(".zip") + ending)
    target.write_bytes(gzip.compress(body) if ending.endswith(".gz") else body)
    return target


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_csv_files_are_read_and_unverified(
    root: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / str(KEYS[0])
    target = unpacked(path, ending)
    found = bak.verify(root)
    assert (found.sound, found.files) == (True, 5), "the zip is used where both are there"
    Store(root).records.forget([str(KEYS[0])])
    path.unlink()
    found = bak.verify(root)
    assert (found.state, found.files, found.read) == ("unverified", 5, 5)
    assert (found.proven, found.unproven, found.csv) == (4, 1, 1)
    assert "1 of the unverified are csv files" in str(found)
    assert main(["verify", str(root)]) == 4
    assert main(["verify", str(root), "--allow-unverified"]) == 0
    assert bak.store(root).frame()["proven"].to_list() == [4]
    target.write_bytes(target.read_bytes()[:-9])
    if ending == ".csv.gz":
        found = bak.verify(root)
        assert found.frame["reason"].to_list() == ["unreadable"]
        assert main(["verify", str(root), "--allow-unverified"]) == 1
    capsys.readouterr()


def test_a_csv_file_is_not_proven_by_the_zip_that_was_there(root: Path) -> None:
    unpacked(root / str(KEYS[0]), ".csv")
    (root / str(KEYS[0])).unlink()
    found = bak.verify(root)
    assert (found.proven, found.unproven) == (4, 1)
    assert found.frame["reason"].to_list() == ["gone"]
    assert len(view_rows(bak.connect(root, cache=False), "spot_klines")) == 5 * 24


def test_files_that_are_not_read_are_named(root: Path) -> None:
    (root / "flat").mkdir()
    shutil.copy(root / str(KEYS[0]), root / "flat" / "BTCUSDT-1h-2024-01-01.zip")
    found = bak.verify(root)
    assert (found.sound, found.files) == (True, 5)
    [skipped] = found.skipped
    assert f"not read: flat/BTCUSDT-1h-2024-01-01.zip: {skipped.reason}" in str(found)


def test_a_key_without_a_zero_is_proven_by_its_own_name(tmp_path: Path) -> None:
    """The archive has some such keys; the member of the zip is named like the zip."""
    key = kline("ADABKRW", "2020-08", "1d")
    name = "ADABKRW-1d-2020-8"
    path = (tmp_path / str(key)).with_name(f"{name}.zip")
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.csv", csv_for(key))
    beside(path, f"{digest(path)}  {path.name}\n")
    found = bak.verify(tmp_path)
    assert (found.state, found.proven) == ("sound", 1)


@pytest.mark.parametrize(("after", "least"), [(0, 1), (60, 0)], ids=["just now", "long ago"])
def test_many_changed_files_are_not_waited_for_one_by_one(
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

    monkeypatch.setattr(proofs.time, "sleep", sleep)
    monkeypatch.setattr(proofs.time, "time_ns", lambda: int(now * 1e9))
    monkeypatch.setattr(proofs, "_RECENT", 2_000_000_000)
    with pytest.warns(ArchiveKitWarning, match="changed"):
        rows = bak.scan(root, "spot", "klines", on_error="skip", cache=False).collect()
    assert not rows.height
    assert least <= len(waits) <= 3 * least


def test_records_are_looked_up_once_for_many_bad_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in KEYS:
        path = tmp_path / str(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(key.member, "1,2,3\n")
    looked: list[str] = []
    proofs = Records.proofs
    monkeypatch.setattr(Records, "proofs", lambda r, p: looked.append(p) or proofs(r, p))
    store = bak.store(tmp_path, on_error="skip")
    for _ in range(2):
        looked.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ArchiveKitWarning)
            assert not bak.scan(store, "spot", "klines").collect().height
        assert len(store.problems) == len(KEYS)
        assert len(looked) < len(KEYS)
