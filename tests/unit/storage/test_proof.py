"""Stamps of files, and proofs of their bytes against a published digest."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import BadChecksum, BadZip, Corrupt, StaleChecksum
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.storage.proof import (
    Expected,
    Proof,
    ProvenBy,
    Stamp,
    prove,
    raw_stamp,
    read_checksum,
    stamp_of,
)
from binance_archive_kit.storage.proven_files import _agrees
from binance_archive_kit.storage.store import Store
from tests.support.proven import (
    KEYS,
    NAME,
    PREFIX,
    hashed,
    stamps,
)
from tests.support.stores import put, view_rows
from tests.support.zip_forms import (
    DAMAGED,
    GOOD,
    KEY,
    LONG,
    OTHER,
    md5,
    plain,
    sha,
    staged,
    stored,
)


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


# Stamps identify files without reading them.


@given(stamps, stamps)
def test_stamps_agree_equally_in_python_and_in_frames(one: Stamp, other: Stamp) -> None:
    assert one.agrees(other) == other.agrees(one)
    assert one.agrees(one)
    row = {name: [value] for name, value in one._asdict().items()}
    row |= {f"proven_{name}": [value] for name, value in other._asdict().items()}
    same = pl.DataFrame(row).select(pl.all_horizontal(map(_agrees, Stamp._fields))).item()
    assert same == one.agrees(other)


def test_every_stamp_fits_into_the_database(tmp_path: Path) -> None:
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
    assert raw_stamp(path.stat()) == stamp_of(path.stat())


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
def test_another_file_with_the_same_size_and_time_is_read_again(
    tmp_path: Path, fresh: bool
) -> None:
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


def test_remembered_statistics_answer_for_unchanged_files(root: Path) -> None:
    first = Engine(root)
    [feed] = first.feeds()
    bak.store(root).warm()
    second = Engine(root)
    assert hashed(lambda: sum(batch.num_rows for batch in second.scan(feed, []))) == 0


# Reading the .CHECKSUM file beside a zip.


HEX = "0123456789abcdef" * 4


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
def test_reads_the_checksum_beside_a_file(tmp_path: Path, text: str, outcome: str) -> None:
    beside = tmp_path / f"{NAME}.CHECKSUM"
    for encoding in ("utf-8", "utf-16"):
        beside.write_text(text, encoding, newline="")
        found = read_checksum(tmp_path / NAME)
        if isinstance(found, BadChecksum):
            assert outcome in found.detail
        else:
            assert found == outcome


def test_a_checksum_that_is_not_text_is_reported(tmp_path: Path) -> None:
    beside = tmp_path / f"{NAME}.CHECKSUM"
    assert read_checksum(tmp_path / NAME) is None
    beside.write_bytes(os.urandom(3_000_000))
    assert isinstance(read_checksum(tmp_path / NAME), BadChecksum)
    beside.unlink()
    beside.mkdir()
    assert isinstance(read_checksum(tmp_path / NAME), BadChecksum)
