"""A store in object storage: its records, index and inventory, and what others do to them."""

from __future__ import annotations

import pickle
import shutil
import sqlite3
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.errors import ArchiveKitWarning, ConfigurationError, StoreError
from binance_archive_kit.storage import bucket_records
from binance_archive_kit.storage.bucket import Bucket, BucketObject, stamp_of_object
from binance_archive_kit.storage.bucket_records import BucketRecords
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.proof import Proof, ProvenBy
from binance_archive_kit.storage.record_objects import RECORDS, RUNS, encode, table_of

PREFIX = "data/spot/daily/klines/{}/1h/"
SYMBOLS = ("AUSDT", "BUSDT", "币安人生USDT")


def key_of(symbol: str, day: int) -> str:
    return f"{PREFIX.format(symbol)}{symbol}-1h-2025-07-{day:02}.zip"


KEYS = [key_of(symbol, day) for symbol in SYMBOLS for day in (1, 2)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bucket_records, "_FRESH", 0.0)


def put(bucket: Bucket, keys: Iterable[str], body: bytes = b"zip") -> list[Proof]:
    """Write objects, and return their proofs."""
    for key in keys:
        bucket.write(key, body + key.encode())
    found = bucket.stat([*keys])
    return [
        Proof(key, stamp_of_object(found[key]), "0" * 64, "e" * 32, ProvenBy.SHA256, "2025-08-01")
        for key in keys
    ]


def fill(bucket: Bucket, keys: Iterable[str] = KEYS, body: bytes = b"zip") -> None:
    proofs = put(bucket, keys, body)
    with BucketStore(bucket).records.recorder() as record:
        for proof in proofs:
            record([proof])


def proven(bucket: Bucket, *symbols: str) -> list[str]:
    prefixes = [PREFIX.format(symbol) for symbol in symbols or SYMBOLS]
    return [*BucketStore(bucket).records.proofs(*prefixes)]


def planned(bucket: Bucket) -> list[str]:
    prefixes = [PREFIX.format(symbol) for symbol in SYMBOLS]
    return BucketStore(bucket).inventory.frame(prefixes).sort("key")["key"].to_list()


def records_of(bucket: Bucket) -> list[str]:
    return [found.key for found in bucket.list(RECORDS)]


def test_what_is_recorded_is_found(bucket: Bucket) -> None:
    fill(bucket)
    assert len(records_of(bucket)) == 1, "merged at the end of the run"
    assert proven(bucket) == sorted(KEYS)
    assert planned(bucket) == sorted(KEYS)
    store = BucketStore.open(bucket.url)
    assert store.inventory.feeds() == [(Market.SPOT, DataType.KLINES)]
    folders = store.inventory.folders(Market.SPOT, DataType.KLINES)
    assert [folder.folder.symbol for folder in folders] == sorted(SYMBOLS)
    assert [file.key for folder in folders for file in folder.files] == sorted(KEYS)
    assert store.collected() == set(KEYS)
    again = store.inventory.folders(Market.SPOT, DataType.KLINES)
    assert all(one is other for one, other in zip(folders, again, strict=True))
    [file] = [file for folder in folders for file in folder.files if file.key == KEYS[0]]
    assert store.read_file(file) == b"zip" + KEYS[0].encode()
    assert store.stamp(file) == file.stamp
    with store.open_file(file) as opened:
        assert opened.seek(-3, 2) == file.size - 3
        assert opened.read() == b"zip"
        assert opened.seek(1) == 1
        assert opened.read(4) == b"ipda"


def test_one_symbol_needs_only_its_records(bucket: Bucket) -> None:
    for symbol in SYMBOLS:
        fill(bucket, [key_of(symbol, 1)])
    assert len(records_of(bucket)) == 3
    shutil.rmtree(BucketStore(bucket).private)
    assert proven(bucket, "BUSDT") == [key_of("BUSDT", 1)]
    index = BucketStore(bucket).records
    assert index._database.rows("proofs", ["key"]) == [(key_of("BUSDT", 1),)]
    assert len(proven(bucket)) == 3


def test_an_object_deleted_or_overwritten_by_others_counts_as_absent(bucket: Bucket) -> None:
    fill(bucket)
    bucket.remove([KEYS[0]])
    size = len(bucket.read(KEYS[1]))
    bucket.write(KEYS[1], b"x" * size)
    assert planned(bucket) == sorted(KEYS[2:])
    fill(bucket, KEYS[:2], b"new")
    assert planned(bucket) == sorted(KEYS)


def test_a_listing_without_new_objects_is_completed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As s5cmd's is where the clock of this machine is slow."""
    proofs = [
        Proof(p.key, p.stamp, p.sha256, p.etag, p.by, f"{time.strftime('%Y-%m-%dT%H:%M:%S')}+00:00")
        for p in put(bucket, KEYS)
    ]
    with BucketStore(bucket).records.recorder() as record:
        record(proofs)
    monkeypatch.setattr(Bucket, "list_etags", lambda self, *prefixes: [])
    assert planned(bucket) == sorted(KEYS)


def test_two_processes_write_records_at_once(bucket: Bucket) -> None:
    one, two = BucketStore(bucket), BucketStore(bucket)
    proofs = put(bucket, KEYS)
    with one.records.recorder() as record_one, two.records.recorder() as record_two:
        record_one(proofs[:2])
        record_two(proofs[2:4])
        record_one(proofs[3:5])
        record_two(proofs[5:])
        assert proven(bucket) == sorted(KEYS)
    assert proven(bucket) == sorted(KEYS)
    assert len(records_of(bucket)) == 2


@pytest.mark.parametrize("damage", ["deleted", "damaged", "stale"])
def test_the_index_can_be_rebuilt(bucket: Bucket, damage: str, tmp_path: Path) -> None:
    fill(bucket, KEYS[:3])
    index = BucketStore(bucket).records.path
    assert index.is_relative_to(tmp_path / "cache")
    kept = index.read_bytes()
    fill(bucket, KEYS[3:])
    if damage == "deleted":
        shutil.rmtree(index.parent)
    elif damage == "damaged":
        index.write_bytes(b"x" * 10_000)
    else:
        index.write_bytes(kept)
    assert proven(bucket) == sorted(KEYS)
    assert planned(bucket) == sorted(KEYS)


def test_deleted_records_are_forgotten(bucket: Bucket) -> None:
    fill(bucket, KEYS[:3])
    fill(bucket, KEYS[3:])
    assert len(proven(bucket)) == 6
    bucket.remove(records_of(bucket)[:1])
    assert len(proven(bucket)) == 3
    bucket.remove(records_of(bucket))
    assert proven(bucket) == []
    with pytest.raises(ConfigurationError, match="has files, and no records of a store"):
        BucketStore.open(bucket)


def test_forgotten_proofs_stay_forgotten(bucket: Bucket) -> None:
    fill(bucket)
    before = BucketStore(bucket)
    before.records.forget(KEYS[:1])
    for _ in range(2):
        assert proven(bucket) == sorted(KEYS[1:])
        shutil.rmtree(before.private)
        before.records.compact()
    assert len(records_of(bucket)) == 1
    fill(bucket, KEYS[:1])
    assert proven(bucket) == sorted(KEYS)


def test_other_indexes_learn_what_was_forgotten_and_merged(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(bucket)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        other = BucketStore(bucket)
        assert len(other.records.proofs("data/")) == 6
    store = BucketStore(bucket)
    assert store.private != other.private
    store.records.forget(KEYS[:1])
    store.records.compact()
    assert len(store.records.proofs("data/")) == 5
    assert len(other.records.proofs("data/")) == 5


def test_processes_that_share_an_index_never_see_it_empty(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lists the records just before the other adds an object to the index."""
    monkeypatch.setattr(bucket_records, "_FRESH", 60.0)
    one, two = BucketStore(bucket).records, BucketStore(bucket).records
    for number in range(len(KEYS)):
        fill(bucket, KEYS[number : number + 1])
        assert len(two.proofs("data/")) in (number, number + 1)
        seen = len(two.proofs("data/"))
        assert len(one.proofs("data/")) >= seen
        assert len(two.proofs("data/")) >= seen, "nothing was wiped"


@pytest.mark.parametrize("damage", ["deleted", "invalid rows"])
def test_an_index_that_is_lost_while_it_is_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(bucket_records, "_FRESH", 60.0)
    fill(bucket)
    store = BucketStore(bucket)
    path, sync = store.records.path, BucketRecords._sync_needed
    calls: list[int] = []

    def then_lose(self: BucketRecords, prefixes: Iterable[str]) -> None:
        sync(self, prefixes)
        calls.append(1)
        if len(calls) == 1 and damage == "deleted":
            path.unlink()
        elif len(calls) == 1:
            with closing(sqlite3.connect(path)) as database, database:
                database.execute("UPDATE proofs SET size = -7")

    monkeypatch.setattr(BucketRecords, "_sync_needed", then_lose)
    assert len(store.records.proofs("data/")) == 6
    assert len(store.inventory.folders(Market.SPOT, DataType.KLINES)) == 3


def test_a_slow_clock_does_not_lose_proofs(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bucket)
    with monkeypatch.context() as fast:
        fast.setattr(time, "time_ns", lambda: 2_000_000_000 * 10**9)
        BucketStore(bucket).records.forget(KEYS[:1])
    assert proven(bucket) == sorted(KEYS[1:])
    fill(bucket, KEYS[:1])
    assert proven(bucket) == sorted(KEYS)
    BucketStore(bucket).records.forget(KEYS[:1])
    assert proven(bucket) == sorted(KEYS[1:])


def test_compact_keeps_the_newest(bucket: Bucket, tmp_path: Path) -> None:
    for body in (b"a", b"bb", b"ccc"):
        fill(bucket, KEYS, body)
    assert len(records_of(bucket)) == 3
    store = BucketStore(bucket)
    other = BucketStore(bucket)
    other.private = tmp_path / "other"
    other.records.path = other.private / "proofs.sqlite"
    assert len(other.records.proofs("data/")) == 6
    assert store.records.compact() == 3
    assert store.records.compact() == 0
    assert len(records_of(bucket)) == 1
    assert planned(bucket) == sorted(KEYS)
    assert len(other.records.proofs("data/")) == 6
    shutil.rmtree(store.private)
    assert planned(bucket) == sorted(KEYS)


def test_a_merge_that_is_killed_loses_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (1, 2):
        fill(bucket, [key_of(symbol, day) for symbol in SYMBOLS])
    with monkeypatch.context() as killed:
        killed.setattr(Bucket, "remove", lambda self, keys: None)
        BucketStore(bucket).records.compact()
    assert len(records_of(bucket)) == 3
    assert proven(bucket) == sorted(KEYS)
    shutil.rmtree(BucketStore(bucket).private)
    assert proven(bucket) == sorted(KEYS)
    BucketStore(bucket).records.compact()
    assert len(records_of(bucket)) == 1
    assert proven(bucket) == sorted(KEYS)


def test_two_merges_at_once_lose_nothing(bucket: Bucket) -> None:
    for key in KEYS:
        fill(bucket, [key])
    with ThreadPoolExecutor(2) as pool:
        stores = [BucketStore(bucket), BucketStore(bucket)]
        assert sum(pool.map(lambda store: store.records.compact(), stores)) >= len(KEYS)
    assert proven(bucket) == sorted(KEYS)
    shutil.rmtree(BucketStore(bucket).private)
    assert proven(bucket) == sorted(KEYS)
    BucketStore(bucket).records.compact()
    assert len(records_of(bucket)) == 1


def test_records_that_are_merged_while_they_are_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in KEYS:
        fill(bucket, [key])
    shutil.rmtree(BucketStore(bucket).private)
    compacting = BucketStore(Bucket.parse(bucket.url))
    compacting.records.path = compacting.private.with_name("other") / "proofs.sqlite"
    compacting.records._database.path = compacting.records.path
    listing = Bucket.list
    calls: list[str] = []

    def then_merge(self: Bucket, prefix: str = "") -> list[BucketObject]:
        found = listing(self, prefix)
        calls.append(prefix)
        if len(calls) == 1:
            compacting.records.compact()
        return found

    monkeypatch.setattr(Bucket, "list", then_merge)
    assert proven(bucket) == sorted(KEYS)
    assert len(records_of(bucket)) == 1


def test_records_that_come_and_go_while_they_are_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As those of shards that run on many machines."""
    fill(bucket)
    first = records_of(bucket)
    other = BucketRecords(bucket, tmp_path / "other")
    proofs = put(bucket, [key_of("CUSDT", 1)])
    reading, gone = Bucket.read, list[str]()

    def then_merge(self: Bucket, key: str) -> bytes:
        if key not in first and self is not other._bucket and len(gone) < 6:
            gone.append(key)
            other._merge([key.removeprefix(RECORDS), other._write(table_of(proofs, 1))])
        elif key in first:
            other._write(table_of(proofs, 1))
        return reading(self, key)

    shutil.rmtree(BucketStore(bucket).private)
    monkeypatch.setattr(Bucket, "read", then_merge)
    reader = BucketStore(Bucket.parse(bucket.url))
    assert [*reader.records.proofs("data/")] == sorted([*KEYS, proofs[0].key])
    assert len(gone) == 6


def test_an_object_that_goes_after_it_was_opened(bucket: Bucket) -> None:
    bucket.write("a", b"x")
    with bucket.open("a") as file:
        bucket.remove(["a"])
        with pytest.raises(FileNotFoundError, match="no such object"), bucket.errors("a"):
            file.read()


def absent(symbol: str, day: int) -> Absence:
    on = date(2025, 7, day)
    names = Market.SPOT, DataType.KLINES, Reason.ABSENT, "it is not there", on, on
    return Absence(*names, key=key_of(symbol, day))


def test_absences_cost_a_request_only_when_they_are_new(bucket: Bucket) -> None:
    """And others read only those of their own symbols."""
    fill(bucket, [key_of(symbol, 1) for symbol in SYMBOLS])
    before = set(records_of(bucket))
    for symbol in SYMBOLS:
        for _ in range(2):
            records = BucketStore(bucket).records
            records.proofs(PREFIX.format(symbol))
            records.record_missing([absent(symbol, 9)], [key_of(symbol, 1)])
    assert len(records_of(bucket)) == len(before) + 3
    assert bucket.list(RUNS) == []
    shutil.rmtree(BucketStore(bucket).private)
    store = BucketStore(bucket)
    [(key, found)] = store.records.missing(PREFIX.format("BUSDT")).items()
    assert (key, found.reason) == (key_of("BUSDT", 9), Reason.ABSENT)
    assert store.records._database.rows("missing", ["key"]) == [(key,)]
    prefix = "data/spot/daily/klines/"
    assert len(store.records.missing(prefix)) == 3
    # Published after all: found by another run, which has no newer proof.
    store.records.record_missing([], [key])
    for _ in range(2):
        assert len(BucketStore(bucket).records.missing(prefix)) == 2
        store.records.compact()
        shutil.rmtree(store.private)
    assert len(records_of(bucket)) == 1
    assert len(proven(bucket)) == 3
    # A proof and an absence of one file are kept apart, as in a folder.
    fill(bucket, [key_of("AUSDT", 9)])
    store.records.forget([key_of("AUSDT", 9)])
    store.records.compact()
    assert len(BucketStore(bucket).records.missing(prefix)) == 2
    assert len(proven(bucket)) == 3


def test_documents_of_runs(bucket: Bucket) -> None:
    fill(bucket, KEYS[:1])
    one, two = BucketStore(bucket).records, BucketStore(bucket).records
    candles = Stream(Market.SPOT, DataType.KLINES, "AUSDT", Interval.H1)
    july = date(2025, 7, 1), date(2025, 7, 31)
    one.record_selections({"*": ["A"]}, {candles: july})
    two.record_selections({"*": ["A"]}, {candles: july})
    assert len(bucket.list(RUNS)) == 1, "nothing new"
    two.record_selections({"*": ["A", "B"]}, {candles: (july[0], date(2025, 8, 31))})
    one.record_unfinished({candles: july[1]})
    for _ in range(2):
        assert one.selections() == two.selections() == {"*": ["A", "B"]}
        assert one.selected_streams() == {candles: (july[0], date(2025, 8, 31))}
        assert two.unfinished() == {candles: july[1]}
        one.compact()
        assert len(bucket.list(RUNS)) == 1
    for number, bad in enumerate(
        [b"", b"[]", b"{", b'{"version": 1, "selected": {"a": 5}}', b'{"missing": {}}', b"[" * 9999]
    ):
        bucket.write(f"{RUNS}20990101T000000000000-0000000{number}.json", bad)
    with pytest.warns(ArchiveKitWarning, match="is damaged .* Lost: which symbols patterns"):
        assert one.selections() == {"*": ["A", "B"]}
    bucket.write(f"{RUNS}20990101T000000000000-aaaaaaaa.json", b'{"version": 2, "x": 1}')
    with pytest.raises(StoreError, match="newer version"):
        two.selections()


def test_equal_selections_of_a_day_are_recorded_once(bucket: Bucket) -> None:
    fill(bucket, KEYS[:1])
    records = BucketStore(bucket).records
    for at in ("2025-07-01T10:00:00Z", "2025-07-01T23:00:00Z"):
        records.record_selections({"*": {"symbols": ["A"], "listed_at": at}}, {})
    assert len(bucket.list(RUNS)) == 1
    # The next day, or other symbols, are news; the latest time counts.
    records.record_selections({"*": {"symbols": ["A", "B"], "listed_at": at}}, {})
    records.record_selections(
        {"*": {"symbols": ["A", "B"], "listed_at": "2025-07-02T01:00:00Z"}}, {}
    )
    assert len(bucket.list(RUNS)) == 3
    assert records.selections()["*"]["listed_at"] == "2025-07-02T01:00:00Z"


def test_documents_that_are_merged_while_they_are_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, KEYS[:1])
    writer = BucketStore(bucket).records
    writer.record_selections({"a": ["A"]}, {})
    writer.record_selections({"b": ["B"]}, {})
    reader = BucketStore(Bucket.parse(bucket.url))
    reader.records._database.path = reader.private.with_name("other") / "proofs.sqlite"
    listing = Bucket.list

    def then_merged(self: Bucket, prefix: str = "") -> list[BucketObject]:
        found = listing(self, prefix)
        monkeypatch.setattr(Bucket, "list", listing)
        assert writer.compact() == 2
        return found

    monkeypatch.setattr(Bucket, "list", then_merged)
    assert reader.records.selections() == {"a": ["A"], "b": ["B"]}


def test_damaged_records_are_ignored_with_a_warning(bucket: Bucket) -> None:
    fill(bucket)
    [name] = records_of(bucket)
    body = bucket.read(name)
    for bad in (b"", b"nonsense", body[:-20], encode_other()):
        bucket.write(name[:-12] + "a.parquet".rjust(12, "0"), bad)
        shutil.rmtree(BucketStore(bucket).private, ignore_errors=True)
        with pytest.warns(ArchiveKitWarning, match="is damaged .* Lost: proofs of files of spot"):
            assert proven(bucket) == sorted(KEYS)
    bucket.write(f"{RECORDS}notes.txt", b"mine")
    bucket.write(f"{RECORDS}spot/daily/klines/mine.parquet", b"mine")


def encode_other() -> bytes:
    return encode(pa.table({"a": [1]}))


def test_records_of_a_newer_version(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bucket, KEYS[:1])
    with monkeypatch.context() as newer:
        newer.setattr("binance_archive_kit.storage.record_objects.VERSION", 2)
        proofs = put(bucket, KEYS[1:2])
        with BucketStore(bucket).records.recorder() as record:
            record(proofs)
    shutil.rmtree(BucketStore(bucket).private)
    with pytest.raises(StoreError, match="newer version of this package"):
        proven(bucket)


def test_an_absent_store(bucket: Bucket) -> None:
    with pytest.raises(ConfigurationError, match="has no store; collect something into it first"):
        BucketStore.open(bucket.url)
    with pytest.raises(StoreError, match="there is no such bucket"):
        BucketStore.open("s3://absent-bucket/x")
    fill(bucket, KEYS[:1])
    with pytest.raises(ConfigurationError, match="a part of one; name the prefix above") as part:
        BucketStore.open(f"{bucket.url}/data/spot")
    assert repr(bucket.url) in str(part.value)
    with pytest.raises(ConfigurationError, match="collect something into it first"):
        BucketStore.open(f"{bucket.url}/none/data/spot")


def test_pickle_and_repr(bucket: Bucket) -> None:
    store = BucketStore(bucket)
    assert repr(store) == f"BucketStore({bucket.url!r})"
    data = pickle.dumps(store)
    assert b"secret" not in data
    assert pickle.loads(data).root == bucket.url
