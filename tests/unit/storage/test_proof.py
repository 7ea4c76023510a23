"""Proving bytes against the published digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from binance_archive_kit.errors import BadZip, Corrupt, StaleChecksum
from binance_archive_kit.storage.proof import Expected, ProvenBy, prove
from binance_archive_kit.storage.stamps import stamp_of
from binance_archive_kit.storage.store import Store
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
