"""What the store takes for proven is exactly what was promised, and nothing is lost."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.errors import ArchiveKitWarning, BadZip, Corrupt, StaleChecksum
from binance_archive_kit.reading import unzip as texts
from binance_archive_kit.storage import zips as members
from binance_archive_kit.storage.inventory import INVENTORY_SCHEMA
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.proof import Expected, Proof, ProvenBy, prove
from binance_archive_kit.storage.stamps import Stamp, stamp_of
from binance_archive_kit.storage.store import Store
from binance_archive_kit.storage.zips import BadMemberError, check_member, find_member

NAME = "BTCUSDT-trades-2025-07-15.csv"
KEY = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip"
TEXT = b"1,2.50,3,7.5,1752537600000000,True,True\n" * 3
LONG = b"".join(b"%d,%d.25,1,2,3,True,True\n" % (n, n * 7919) for n in range(120_000))


class Unseekable(io.BytesIO):
    """A stream into which zipfile cannot go back, as when a server zips on the fly."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def plain(text: bytes = TEXT, method: int = zipfile.ZIP_DEFLATED, name: str = NAME) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo(name, (2025, 7, 16, 1, 2, 4)), text, method)
    return made.getvalue()


def stored(text: bytes = TEXT) -> bytes:
    return plain(text, zipfile.ZIP_STORED)


def commented(text: bytes = TEXT) -> bytes:
    made = io.BytesIO(plain(text))
    with zipfile.ZipFile(made, "a") as archive:
        archive.comment = b"a comment"
    return made.getvalue()


def zip64(text: bytes = TEXT) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(NAME, (2025, 7, 16, 1, 2, 4))
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=True) as member:
            member.write(text)
    return made.getvalue()


def zip64_directory(text: bytes = TEXT) -> bytes:
    """Put the sizes of a zip's directory into zip64 fields, as for files above 4 GiB."""
    made = plain(text)
    at = made.rindex(b"PK\1\2")
    size = made.rindex(b"PK\5\6") - at
    record = (
        b"PK\6\6"
        + (44).to_bytes(8, "little")
        + b"\x2d\0\x2d\0"
        + bytes(8)
        + (1).to_bytes(8, "little") * 2
        + size.to_bytes(8, "little")
        + at.to_bytes(8, "little")
    )
    locator = b"PK\6\7" + bytes(4) + (at + size).to_bytes(8, "little") + (1).to_bytes(4, "little")
    end = b"PK\5\6" + bytes(4) + b"\xff" * 12 + bytes(2)
    return made[: at + size] + record + locator + end


def streamed(text: bytes = TEXT) -> bytes:
    """A zip whose sizes follow the member, in a data descriptor."""
    made = Unseekable()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(NAME, (2025, 7, 16, 1, 2, 4)), text, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def extra_fields(text: bytes = TEXT) -> bytes:
    """A zip as Info-ZIP makes it: with extra fields, of another length here than there."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(NAME, (2025, 7, 16, 1, 2, 4))
        info.extra = b"UT\5\0\3abcd"
        archive.writestr(info, text, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def prefixed(text: bytes = TEXT) -> bytes:
    return b"#!/bin/sh\n" + plain(text)


FORMS: list[Callable[..., bytes]] = [
    plain,
    stored,
    commented,
    zip64,
    zip64_directory,
    streamed,
    extra_fields,
    prefixed,
]


def check(data: bytes, name: str = NAME) -> bytes:
    """Check a zip, and read its member's bytes where the check says they are."""
    file = io.BytesIO(data)
    member = check_member(file, len(data), name)
    raw = data[member.start : member.start + member.compressed]
    if member.method == zipfile.ZIP_STORED:
        return raw
    import zlib

    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", [b"", b"\n", TEXT, LONG], ids=["empty", "short", "usual", "long"])
def test_every_form_of_zip_is_read(form: Callable[..., bytes], text: bytes) -> None:
    data = form(text)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
    assert check(data) == text
    member = find_member(io.BytesIO(data), len(data))
    assert (member.name, member.size) == (NAME, len(text))


def test_names_that_are_not_ascii() -> None:
    name = "币安人生USDT-trades-2025-07-15.csv"
    assert check(plain(name=name), name) == TEXT


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_zip_is_detected(form: Callable[..., bytes]) -> None:
    data = form(LONG)
    for eighth in range(8):
        with pytest.raises(BadMemberError):
            check(data[: len(data) * eighth // 8])


@pytest.mark.parametrize("form", FORMS)
def test_every_truncation_of_a_small_zip_is_detected(form: Callable[..., bytes]) -> None:
    data = form()
    # A comment may be cut short without harm to the member.
    for length in range(len(data) - len(b"a comment") if form is commented else len(data)):
        with pytest.raises(BadMemberError):
            check(data[:length])


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_is_detected_or_harmless(form: Callable[..., bytes]) -> None:
    data = form()
    for at in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        try:
            text = check(bytes(flipped))
        except BadMemberError:
            continue
        assert text == TEXT


@given(data=st.data())
def test_damage_is_detected_or_harmless(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(FORMS))())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        length = data.draw(st.integers(0, 8))
        whole[at : at + length] = data.draw(st.binary(max_size=8))
        if not whole:
            break
    try:
        text = check(bytes(whole))
    except BadMemberError:
        return
    assert text == TEXT


def test_a_zip_of_a_later_version_is_refused() -> None:
    data = bytearray(commented())
    data[data.rindex(b"PK\1\2") + 6] = 84
    with pytest.raises(BadMemberError, match="version"):
        check(bytes(data))


def test_a_directory_of_an_impossible_size_is_refused() -> None:
    data = bytearray(zip64_directory())
    data[data.rindex(b"PK\6\6") + 40 : data.rindex(b"PK\6\6") + 56] = b"\xff" * 16
    with pytest.raises(BadMemberError):
        check(bytes(data))


@given(st.binary(max_size=300))
def test_no_zip_at_all(data: bytes) -> None:
    with pytest.raises(BadMemberError):
        check(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no readable zip"),
        (b"<!DOCTYPE html><html><body>Sign in to the hotel's network</body>", "<!DOCTYPE html>"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "<?xml version"),
        (bytes(1000), "no readable zip"),
        (TEXT, "no readable zip"),
    ],
)
def test_what_is_no_zip_is_quoted(data: bytes, said: str) -> None:
    with pytest.raises(BadMemberError, match="no readable zip") as caught:
        check(data)
    assert said in str(caught.value)


def test_two_members() -> None:
    made = io.BytesIO(plain())
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("another.csv", "1")
    with pytest.raises(BadMemberError, match="2 members"):
        check(made.getvalue())


def test_no_member() -> None:
    made = io.BytesIO()
    zipfile.ZipFile(made, "w").close()
    with pytest.raises(BadMemberError, match="0 members"):
        check(made.getvalue())


def test_an_encrypted_member() -> None:
    data = bytearray(plain())
    data[6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1
    with pytest.raises(BadMemberError, match="encrypted"):
        check(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression(method: int) -> None:
    with pytest.raises(BadMemberError, match="method"):
        check(plain(method=method))


@pytest.mark.parametrize("name", ["ETHUSDT-trades-2025-07-15.csv", "", f"./{NAME}", f"a/{NAME}"])
def test_a_member_of_another_name(name: str) -> None:
    with pytest.raises(BadMemberError, match="and not"):
        check(plain(name=name))


# The store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def staged(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "staged"
    path.write_bytes(data)
    return path


GOOD = plain()
DAMAGED = bytes([*GOOD[:60], GOOD[60] ^ 1, *GOOD[61:]])
OTHER = "f" * 64


@pytest.mark.parametrize(
    ("data", "size", "etag", "digest", "accept", "outcome"),
    [
        # The digest decides where there is one.
        (GOOD, True, True, True, False, ProvenBy.SHA256),
        (GOOD, None, None, True, False, ProvenBy.SHA256),
        (GOOD, True, None, True, False, ProvenBy.SHA256),
        (GOOD, True, False, True, False, ProvenBy.SHA256),
        (GOOD, True, "0" * 32 + "-3", True, False, ProvenBy.SHA256),
        # Size first: it is cheap and never wrong.
        (GOOD, False, True, True, False, Corrupt),
        (GOOD, False, None, None, False, Corrupt),
        # Another digest: stale if the ETag vouches for the bytes, else corrupt.
        (GOOD, True, True, False, False, StaleChecksum),
        (GOOD, True, True, False, True, ProvenBy.STALE),
        (GOOD, True, False, False, True, Corrupt),
        (GOOD, True, None, False, True, Corrupt),
        (GOOD, True, "0" * 32 + "-3", False, True, Corrupt),
        # Without a digest, the ETag where it is an MD5, else the size and the CRC-32.
        (GOOD, True, True, None, False, ProvenBy.ETAG),
        (GOOD, True, False, None, False, Corrupt),
        (GOOD, True, "0" * 32 + "-3", None, False, ProvenBy.SIZE),
        (GOOD, True, "", None, False, ProvenBy.SIZE),
        (GOOD, None, None, None, False, ProvenBy.SIZE),
        # Damage.
        (DAMAGED, True, None, False, False, Corrupt),
        (DAMAGED, True, None, None, False, BadZip),
        (DAMAGED, True, True, None, False, BadZip),
        (DAMAGED, True, True, True, False, BadZip),
        (DAMAGED, True, True, False, True, Corrupt),
        (b"", True, None, None, False, BadZip),
        (b"<html>", True, True, True, False, BadZip),
        (plain(name="another.csv"), True, True, True, False, BadZip),
    ],
)
def test_prove(
    store: Store,
    tmp_path: Path,
    data: bytes,
    size: bool | None,
    etag: bool | str | None,
    digest: bool | None,
    accept: bool,
    outcome: ProvenBy | type[Exception],
) -> None:
    expected = Expected(
        None if size is None else len(data) + (not size),
        etag if isinstance(etag, str) or etag is None else md5(data) if etag else "0" * 32,
        None if digest is None else sha(data) if digest else OTHER,
    )
    file = staged(tmp_path, data)
    if isinstance(outcome, ProvenBy):
        proof = prove(KEY, file, expected, accept_stale=accept)
        assert proof.by is outcome
        assert (proof.key, proof.size, proof.sha256) == (KEY, len(data), sha(data))
        assert (proof.stamp, proof.etag) == (stamp_of(file.stat()), expected.etag)
    else:
        with pytest.raises(outcome) as caught:
            prove(KEY, file, expected, accept_stale=accept)
        assert type(caught.value) is outcome
        assert caught.value.key == KEY
    assert file.read_bytes() == data
    assert not store.path(KEY).exists()


def test_prove_a_large_file(store: Store, tmp_path: Path) -> None:
    data = stored(LONG)
    assert len(data) > 1 << 20
    expected = Expected(len(data), md5(data), sha(data))
    assert prove(KEY, staged(tmp_path, data), expected).by is ProvenBy.SHA256
    without = Expected(len(data), md5(data), None)
    assert prove(KEY, staged(tmp_path, data), without).by is ProvenBy.ETAG


def test_admit_replaces_atomically(store: Store, tmp_path: Path) -> None:
    admit_proven(store, tmp_path, KEY)
    assert store.path(KEY).read_bytes() == GOOD
    with store.path(KEY).open("rb") as reader:
        admit_proven(store, tmp_path, KEY, stored())
        assert reader.read() == GOOD  # who reads it goes on reading what it was
    assert store.path(KEY).read_bytes() == stored()
    assert not (tmp_path / "staged").exists()


def test_a_store_is_made_by_the_first_file_only(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "b")
    assert store.inventory.frame(["data/spot/daily/trades/BTCUSDT/"]).height == 0
    assert store.free_bytes() > 0
    assert list(tmp_path.iterdir()) == []


def admit_proven(store: Store, tmp_path: Path, key: str, data: bytes = GOOD) -> Proof:
    file = staged(tmp_path, data)
    proof = prove(KEY, file, Expected(len(data), md5(data), sha(data)))
    return store.admit(replace(proof, key=key), file)


def test_what_is_recorded_is_found(store: Store, tmp_path: Path) -> None:
    prefix = KEY.rpartition("/")[0] + "/"
    # Keys that sort around the prefix, and one that is not ASCII.
    others = [
        KEY,
        KEY.replace("BTCUSDT/", "BTCUSDT_240329/"),
        KEY.replace("BTCUSDT/", "BTCUSD/"),
        KEY.replace("BTCUSDT/", "币安人生USDT/"),
    ]
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, key) for key in others])
        record([])
    found = store.inventory.frame([prefix])
    assert found.schema == INVENTORY_SCHEMA
    [row] = found.iter_rows(named=True)
    assert row["key"] == KEY
    assert (row["file_size"], row["proven_size"]) == (len(GOOD), len(GOOD))
    assert row["unchanged"]
    assert (row["proven_etag"], row["proven_by"]) == (md5(GOOD), "sha256")
    everything = store.inventory.frame([key.rpartition("/")[0] + "/" for key in others])
    assert sorted(everything["key"]) == sorted(others)
    assert everything["proven_by"].null_count() == 0


def test_a_later_proof_replaces_the_earlier(store: Store, tmp_path: Path) -> None:
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
        proof = admit_proven(store, tmp_path, KEY, stored())
        record([proof])
    [row] = store.inventory.frame([KEY.rpartition("/")[0] + "/"]).iter_rows(named=True)
    assert row["proven_size"] == row["file_size"] == len(stored())


def test_proofs_of_files_that_are_gone_are_not_files(store: Store, tmp_path: Path) -> None:
    with store.records.recorder() as record:
        record([admit_proven(store, tmp_path, KEY)])
    store.path(KEY).unlink()
    assert store.inventory.frame([KEY.rpartition("/")[0] + "/"]).height == 0


def test_files_without_proof_are_files(store: Store) -> None:
    store.path(KEY).parent.mkdir(parents=True)
    store.path(KEY).write_bytes(GOOD)
    store.path(KEY + ".CHECKSUM").write_text("x")
    store.path(KEY).with_name("folder.zip").mkdir()
    [row] = store.inventory.frame([KEY.rpartition("/")[0] + "/"]).iter_rows(named=True)
    assert (row["key"], row["file_size"], row["proven_by"]) == (KEY, len(GOOD), None)


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


def test_what_the_archive_lacks_is_noted_with_its_reason(store: Store, tmp_path: Path) -> None:
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


def test_notes_without_a_reason_are_read_and_may_get_one(store: Store) -> None:
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


def test_a_damaged_database_is_set_aside(store: Store, tmp_path: Path) -> None:
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


def test_a_database_damaged_further_in_is_set_aside(store: Store, tmp_path: Path) -> None:
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


def test_quarantine_keeps_the_bytes_and_says_why(store: Store, tmp_path: Path) -> None:
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


# Staging


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


def test_staging_of_the_dead_is_swept_and_that_of_the_living_is_not(store: Store) -> None:
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


def test_many_runs_may_stage_at_once(store: Store) -> None:
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


def test_the_store_names_itself(tmp_path: Path) -> None:
    assert repr(Store(tmp_path)) == f"Store({str(tmp_path)!r})"
    assert pl.DataFrame(schema=INVENTORY_SCHEMA).columns[0] == "key"


# Pieces


@pytest.mark.parametrize("level", [1, 6])
def test_what_is_left_inside_the_inflater_is_not_lost(level: int) -> None:
    """A piece may end where all input is taken and some output is still to come."""
    most = members._MOST
    row = b"1609459200000,0.00000000,0.00000000\n"
    text = row * ((most + 8_000) // len(row))
    for size in (most - 1, most, most + 1, *range(most + 8, most + 8_000, 300)):
        body = text[:size]
        packer = zlib.compressobj(level, zlib.DEFLATED, -15)
        packed = packer.compress(body) + packer.flush()
        member = members.Member(NAME, 0, len(packed), size, zlib.crc32(body), 8)
        pieces = list(members.inflated(io.BytesIO(packed), member))
        assert b"".join(pieces) == body
        assert max(map(len, pieces)) <= most


def test_a_gzip_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(texts, "CHUNK", 1 << 16)
    path = tmp_path / "rows.csv.gz"
    row = b"1609459200000,0.00000000,0.00000000\n"
    for size in range(1 << 16, (1 << 16) + 4_000, 40):
        body = (row * 2_000)[:size]
        for tail in (b"", TEXT):
            path.write_bytes(gzip.compress(body, 1) + (gzip.compress(tail) if tail else b""))
            with path.open("rb") as file:
                found = b"".join(texts._gunzipped(path.name, file, path.stat().st_size))
            assert found == body + tail
