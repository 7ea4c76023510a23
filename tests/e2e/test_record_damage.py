"""A byte that the disk has changed in a record never becomes a wrong answer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from binance_archive_kit.storage.record_objects import (
    SCHEMA,
    DamagedRecordError,
    NewerRecordError,
    decode,
    decode_document,
    encode,
    encode_document,
)
from tests.e2e.conftest import Serve
from tests.support.record_damage import Damage, RecordedStore, archive, cuts, flips


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_local_store_answers_right_with_damaged_records(
    serve: Serve, tmp_path: Path, cache: Path
) -> None:
    store = RecordedStore(serve(archive()), tmp_path)
    store.fill()
    assert store.answers() == store.truth()
    damage, chance = Damage(store, cache), random.Random(5)
    for record, body in damage.records().items():
        ways = [chance.choice([*flips(body)]), chance.choice([*cuts(body)])]
        for way, spoilt in ways:
            assert not damage.problem(record, spoilt), (record, way)


def test_a_bucket_answers_right_with_damaged_records(
    serve: Serve, tmp_path: Path, cache: Path, s3_url: str
) -> None:
    store = RecordedStore(serve(archive()), tmp_path, s3_url)
    store.fill()
    assert store.answers() == store.truth()
    damage, chance = Damage(store, cache), random.Random(6)
    found = damage.records()
    for record in chance.sample([*found], 4):
        way, spoilt = chance.choice([*flips(found[record]), *cuts(found[record])])
        assert not damage.problem(record, spoilt), (record, way)


@pytest.mark.parametrize("decoder", [decode, decode_document])
def test_no_changed_byte_of_a_record_in_a_bucket_changes_what_it_says(
    decoder: Callable[[bytes], object],
) -> None:
    for body in _bodies(document=decoder is decode_document):
        expected = decoder(body)
        for way, spoilt in flips(body, 0, 5):
            try:
                found = decoder(spoilt)
            except (DamagedRecordError, NewerRecordError):
                continue
            assert found == expected, way


def test_older_versions_read_the_documents_of_runs() -> None:
    """They take every part but the version for an object, and ignore those they do not know."""
    [body] = _bodies(document=True)
    document = json.loads(body)
    assert document.pop("version") == 1
    assert all(isinstance(part, dict) for part in document.values())
    without = {name: part for name, part in document.items() if name != "check"}
    assert decode_document(json.dumps({"version": 1, **without}).encode()) == without


def _bodies(*, document: bool) -> Iterator[bytes]:
    if document:
        stream = "spot/klines/BTCUSDT/1h"
        yield encode_document(
            {"selected": {stream: ["2025-07-01", "2025-07-05"]}, "unfinished": {stream: None}}
        )
        return
    rows = [
        {
            "key": f"data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-{day:02}.zip",
            "size": 1000 + day,
            "inode": random.Random(day).getrandbits(60),
            "sha256": f"{random.Random(day).getrandbits(256):064x}",
            "etag": f"{random.Random(day).getrandbits(128):032x}",
            "proven_by": "sha256",
            "proven_at": "2025-08-01T00:00:00+00:00",
            "recorded_at": 1_754_000_000_000_000_000 + day,
            "forgotten": False,
        }
        for day in range(1, 20)
    ]
    yield encode(pa.Table.from_pylist(rows, SCHEMA), ["spot/daily/klines/A~B~x.parquet"])
