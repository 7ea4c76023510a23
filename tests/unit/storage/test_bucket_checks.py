"""`verify` of a store in object storage: records against the listing, and bytes of a sample."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.storage import bucket_checks, bucket_records
from binance_archive_kit.storage.bucket import Bucket, stamp_of_object
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.proof import Proof, ProvenBy
from tests.support.bucket import candles, kline_key, with_sidecars, zipped
from tests.support.candles import DAY, at
from tests.support.s3_server import LocalS3

KEYS = [kline_key("BTCUSDT", (at("2025-07-01") + day * DAY).date()) for day in range(4)]
BODIES = {key: zipped(key, candles(key)) for key in KEYS}


@pytest.fixture
def filled(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return a bucket with four proven objects."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bucket_records, "_FRESH", 0.0)
    monkeypatch.setattr(bucket_checks, "COMMIT_DELAY", 0.0)
    for key, body in BODIES.items():
        bucket.write(key, body)
    found = bucket.stat(KEYS)
    with BucketStore(bucket).records.recorder() as record:
        record(
            [
                Proof(
                    key,
                    stamp_of_object(found[key]),
                    hashlib.sha256(BODIES[key]).hexdigest(),
                    "e",
                    ProvenBy.SHA256,
                    "2025-08-01",
                )
                for key in KEYS
            ]
        )
    return bucket


def test_a_sound_store_is_compared_without_reading(filled: Bucket) -> None:
    found = bak.verify(filled.url)
    assert (found.state, found.files, found.read, found.proven) == ("sound", 4, 0, 4)
    assert filled.url in found._repr_html_()


def test_a_sample_is_downloaded_and_hashed(filled: Bucket) -> None:
    found = bak.verify(filled.url, sample=3, seed=1)
    assert (found.state, found.files, found.read, found.proven) == ("sound", 4, 3, 4)
    found = bak.verify(filled.url, sample=99)
    assert (found.state, found.read, found.proven) == ("sound", 4, 4)


def test_what_others_did_is_found(filled: Bucket) -> None:
    filled.remove(KEYS[:1])
    body = filled.read(KEYS[1])
    filled.write(KEYS[1], body[:-1] + bytes([body[-1] ^ 1]))
    filled.write(KEYS[2], b"short")
    found = bak.verify(filled.url)
    assert found.state == "not sound"
    assert dict(found.frame.select("key", "reason").iter_rows()) == {
        KEYS[0]: "gone",
        KEYS[1]: "changed",
        KEYS[2]: "changed",
    }
    assert (found.files, found.read, found.proven) == (3, 1, 1)
    # Their proofs are deleted, so that the next collection fetches them.
    assert [*BucketStore(filled).records.proofs("data/")] == [KEYS[0], KEYS[3]]


def test_the_same_bytes_again_are_proven(filled: Bucket) -> None:
    """An object that was copied in parts has another ETag."""
    store = BucketStore(filled)
    proof = store.records.proofs(keys=KEYS[:1])[KEYS[0]]
    other = proof._replace(stamp=proof.stamp._replace(inode=5))
    store.records.restamp({KEYS[0]: other})
    assert store.records.proofs(keys=KEYS[:1]) == {KEYS[0]: other}
    found = bak.verify(filled.url)
    assert (found.state, found.read, found.proven) == ("sound", 1, 4)
    assert BucketStore(filled).records.proofs(keys=KEYS[:1]) == {KEYS[0]: proof}
    assert bak.verify(filled.url).read == 0


def test_objects_without_proof_are_unverified(filled: Bucket) -> None:
    BucketStore(filled).records.forget(KEYS[:1])
    found = bak.verify(filled.url)
    assert (found.state, found.files, found.proven, found.unproven) == ("unverified", 4, 3, 1)
    filled.write("data/spot/notes.txt", b"mine")
    assert bak.verify(filled.url).files == 4


def test_published_digests_are_compared_without_reading(filled: Bucket) -> None:
    published = BODIES | {KEYS[0]: zipped(KEYS[0], candles("issued again"))}
    with LocalS3(with_sidecars(published)) as server:
        found = bak.verify(filled.url, archive=True, endpoint_url=server.url)
        assert found.read == 0
        assert found.frame["reason"].to_list() == ["corrupt"]
        assert found.frame["key"].to_list() == KEYS[:1]
        again = bak.verify(filled.url, archive=True, sample=4, endpoint_url=server.url)
        assert again.read == 4
        assert again.frame["reason"].to_list() == ["corrupt"]
