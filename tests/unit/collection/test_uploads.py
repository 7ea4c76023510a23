"""Files count as uploaded once their bytes are in the bucket, whatever was reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from binance_archive_kit.collection import uploads
from binance_archive_kit.collection.uploads import Uploads, etag_of, prefixes_of
from binance_archive_kit.storage import bucket as bucket_module
from binance_archive_kit.storage.bucket import Bucket, BucketObject, stamp_of_object
from tests.support.s3_gate import Gate


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_PAUSES", (0.01, 0.01))


@pytest.fixture
def gate(s3_endpoint: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    with Gate(s3_endpoint) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        yield gate


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for number in range(6):
        path = tmp_path / f"{number}"
        path.write_bytes(bytes([number]) * (number + 1))
        found[f"data/{number % 2}/COIN-{number}.zip"] = path
    return found


def test_all_arrive(bucket: Bucket, files: dict[str, Path]) -> None:
    arrived = Uploads(bucket).put(files)
    there = {found.key: stamp_of_object(found) for found in bucket.list_etags("")}
    assert arrived.stamps == there
    assert sorted(there) == sorted(files)
    assert arrived.errors == {}
    assert [bucket.read(key) for key in files] == [path.read_bytes() for path in files.values()]


def test_a_prefix_is_no_status(bucket: Bucket) -> None:
    below = Bucket(bucket.name, f"{bucket.prefix}/403")
    error = str(below.error("AWS Error INTERNAL_FAILURE", "a"))
    uploads = Uploads(below)
    assert not uploads._is_final(error)
    assert uploads._is_final(f"{error} status code: 403")


def test_what_came_from_the_bucket_is_not_uploaded_again(
    bucket: Bucket, files: dict[str, Path], gate: Gate
) -> None:
    Uploads(bucket).put(files)
    gone, changed, *_ = files
    bucket.remove([gone])
    bucket.write(changed, b"other")
    before = gate.count("PUT")
    arrived = Uploads(bucket).put(files, there=[*files])
    assert sorted(arrived.stamps) == sorted(files)
    assert gate.count("PUT") - before == 2
    assert bucket.read(changed) == files[changed].read_bytes()


@pytest.mark.parametrize("status", [503, 500, 0])
def test_a_fault_that_passes_is_no_failure(
    bucket: Bucket, files: dict[str, Path], gate: Gate, status: int
) -> None:
    tries: dict[str, int] = {}

    def rule(method: str, path: str) -> int | None:
        if method != "PUT" or "COIN-3" not in path:
            return None
        tries[path] = tries.get(path, 0) + 1
        return status if tries[path] == 1 else None

    gate.rule = rule
    arrived = Uploads(bucket).put(files)
    assert sorted(arrived.stamps) == sorted(files)
    assert tries
    assert arrived.errors == {}


@pytest.mark.parametrize(
    ("status", "refused", "word"),
    [(503, False, "slow down"), (403, True, "access is denied"), (404, True, "no such bucket")],
)
def test_a_lasting_fault_is_the_failure_of_its_objects(
    bucket: Bucket,
    files: dict[str, Path],
    gate: Gate,
    status: int,
    refused: bool,
    word: str,
) -> None:
    gate.rule = lambda method, path: status if method == "PUT" and "COIN-3" in path else None
    arrived = Uploads(bucket).put(files)
    assert [*arrived.errors] == ["data/1/COIN-3.zip"]
    assert word in arrived.errors["data/1/COIN-3.zip"]
    assert arrived.refused is refused
    assert len(arrived.stamps) == len(files) - 1


def test_a_listing_that_fails_proves_nothing(
    bucket: Bucket, files: dict[str, Path], gate: Gate
) -> None:
    gate.rule = lambda method, path: 403 if method == "GET" else None
    arrived = Uploads(bucket).put(files)
    assert arrived.stamps == {}
    assert sorted(arrived.errors) == sorted(files)


class Lossy(Bucket):
    """A bucket that stores other bytes, or nothing, under one key, and reports success."""

    stored: bytes | None = None

    def upload(self, files: dict[str, Path]) -> dict[str, str]:  # type: ignore[override]
        one, *others = files
        errors = super().upload({key: files[key] for key in others})
        if self.stored is not None:
            self.write(one, self.stored)
        return errors


@pytest.mark.parametrize(
    ("stored", "word"),
    [(None, "was not there"), (b"X", "other bytes"), (b"\x00\x00", "other bytes")],
)
def test_reported_success_is_not_believed(
    bucket: Bucket, files: dict[str, Path], stored: bytes | None, word: str
) -> None:
    lossy = Lossy(bucket.name, bucket.prefix)
    lossy.stored = stored
    arrived = Uploads(lossy).put({"data/0/a.zip": files["data/0/COIN-0.zip"]})
    assert arrived.stamps == {}
    assert word in arrived.errors["data/0/a.zip"]


class Encrypted(Bucket):
    """A bucket whose ETags look like an MD5, but are none, as with keys of a KMS."""

    opened = 0

    def list_etags(self, *prefixes: str) -> list[BucketObject]:
        found = super().list_etags(*prefixes)
        return [each._replace(etag=str(each.etag)[::-1]) for each in found]

    def open(self, key: str):  # type: ignore[no-untyped-def]
        self.opened += 1
        return super().open(key)


def test_etags_of_encrypted_objects_are_not_compared(
    bucket: Bucket, files: dict[str, Path]
) -> None:
    encrypted = Encrypted(bucket.name, bucket.prefix)
    sender = Uploads(encrypted)
    assert sorted(sender.put(files).stamps) == sorted(files)
    # The bytes are read back once, then their form of ETag is known.
    assert encrypted.opened == 1
    assert sorted(sender.put(files).stamps) == sorted(files)
    assert encrypted.opened == 1


def test_objects_that_were_uploaded_in_parts_are_compared(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are larger than a part, of 5 MiB at least, and have an ETag of another form."""
    for module in (uploads, bucket_module):
        monkeypatch.setattr(module, "PART_SIZE", 5 << 20)
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    size = 12_000_000
    for path, last in ((right, b"1"), (wrong, b"2")):
        with path.open("wb") as file:
            file.truncate(size - 1)
            file.seek(size - 1)
            file.write(last)
    key = "data/trades.zip"
    sender = Uploads(bucket)
    arrived = sender.put({key: right})
    [found] = bucket.list_etags("")
    assert arrived.stamps == {key: stamp_of_object(found)}
    assert (found.size, str(found.etag)[-2:]) == (size, "-3")
    with right.open("rb") as file:
        assert etag_of(file, in_parts=True) == found.etag
    assert sender._compare({key: right}) == (arrived.stamps, {})
    assert "other bytes" in sender._compare({key: wrong})[1][key]
    # The ETag alone says so, and encryption only changes that: then the bytes are compared.
    assert sender._has_bytes(found._replace(etag=f"{'0' * 32}-3"), right)
    assert sender._compare({key: wrong})[0] == arrived.stamps


def test_few_others_are_listed() -> None:
    assert prefixes_of([]) == []
    keys = ["a/x-2025-07-01.zip", "a/x-2025-07-31.zip", "b/y.zip"]
    assert prefixes_of(keys) == ["a/x-2025-07-", "b/y.zip"]
