"""Tables in a bucket have the rows of files as they are, whoever builds and reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from binance_archive_kit.errors import StoreError
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.tables import bucket_file, bucket_folder, entry_packs, manifest
from binance_archive_kit.tables import commits as commits_of_tables
from binance_archive_kit.tables.bucket_folder import TABLES, BucketFolder
from binance_archive_kit.tables.bucket_tables import BucketTables, publish_tables
from binance_archive_kit.tables.entry_packs import due_packs
from binance_archive_kit.tables.manifest import meaning_of
from binance_archive_kit.tables.row_reader import Segment
from binance_archive_kit.tables.tables import Tables
from tests.support.table_files import FEED, Files, rows_by_file

DAYS = [f"2025-07-{day:02}" for day in range(1, 11)]
PREFIX = f"{TABLES}{FEED.table}/"

Make = Callable[[], BucketTables]


@pytest.fixture
def machine(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that gives the tables to another machine."""
    monkeypatch.setattr(bucket_folder, "_FRESH", 0.0)
    count = iter(range(100))
    return lambda: BucketTables(bucket, tmp_path / f"machine {next(count)}")


def same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert found.keys() == expected.keys()
    for path, frame in expected.items():
        assert found[path].equals(frame), path


def parts(bucket: Bucket) -> list[str]:
    return [each.key for each in bucket.list(PREFIX) if each.key.endswith(".rows.parquet")]


def commits(bucket: Bucket) -> list[str]:
    return [each.key for each in bucket.list(f"{PREFIX}manifest/")]


@pytest.mark.parametrize("joined", [0, 7])
def test_tables_have_the_rows_of_their_files(machine: Make, joined: int) -> None:
    files = Files(joined=joined)
    files.fill(["BUSDT", "AUSDT", "币安人生USDT"], DAYS)
    report = files.build(machine())
    assert (report.files, report.rows) == (30, 720)
    reader = machine()
    same(rows_by_file(reader, files), files.expected())
    names, where = ["close", "symbol"], ds.field("symbol") == "AUSDT"
    expected = {
        path: frame.filter(pl.col("symbol") == "AUSDT").select(names)
        for path, frame in files.expected().items()
    }
    same(rows_by_file(reader, files, names, where), expected)
    assert "no limit" not in str(reader.use())
    assert reader.use().parts == 1
    assert str(reader.use()).endswith(f"in {reader.use().folder}")


def test_large_parts_are_read_column_by_column(machine: Make) -> None:
    files = Files(joined=0)
    files.fill(["BUSDT", "AUSDT"], DAYS[:2], 300_001)
    files.build(machine())
    same(rows_by_file(machine(), files), files.expected())
    names = ["close"]
    same(
        rows_by_file(machine(), files, names),
        {path: frame.select(names) for path, frame in files.expected().items()},
    )


def test_builders_of_several_machines_add_up(machine: Make, bucket: Bucket) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    tasks = list(files.tasks.values())
    # Each of them lists the tables before the others commit.
    builders = [machine() for _ in range(3)]
    for builder in builders:
        builder.snapshot(FEED)
    files.build(builders[0], tasks[:6])
    files.build(builders[1], tasks[4:])
    files.build(builders[2], tasks[:6])
    same(rows_by_file(machine(), files), files.expected())
    files.build(machine())
    assert machine().use().parts == 1
    assert len(commits(bucket)) == 1
    same(rows_by_file(machine(), files), files.expected())


def test_the_entries_of_a_symbol_are_of_few_parts(
    machine: Make, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BucketFolder, "merges_all", False)
    files = Files()
    symbols = [f"{letter}USDT" for letter in "ABCDEF"] + ["币安人生USDT"]
    for symbol in symbols:
        files.fill([symbol], DAYS[:2])
        files.build(machine())
    reader = machine()
    opened: list[str] = []
    real = Bucket.open
    monkeypatch.setattr(
        Bucket, "open", lambda self, key: real(self, key) if opened.append(key) is None else None
    )
    for symbol in ("DUSDT", "币安人生USDT"):
        reader.snapshot(FEED)
        opened.clear()
        assert reader.snapshot(FEED).entries({symbol})["symbol"].to_list() == [symbol] * 2
        assert len([key for key in opened if "entries" in key]) == 1
    assert reader.snapshot(FEED).entries().height == 14


def test_a_build_merges_small_parts_and_later_removes_them(
    machine: Make, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files()
    for day in DAYS[:4]:
        files.fill(["AUSDT", "BUSDT"], [day])
        with monkeypatch.context() as patch:
            patch.setattr(BucketFolder, "merges_all", False)
            files.build(machine())
    old = machine()
    before = old.snapshot(FEED)
    assert len(before.parts) == 4
    files.build(machine())
    assert machine().use().parts == 1
    # Who has listed the parts before still reads them.
    same(rows_by_file(old, files), files.expected())
    assert len(parts(bucket)) == 5
    monkeypatch.setattr(bucket_folder, "_GRACE", timedelta(0))
    files.build(machine())
    assert len(parts(bucket)) == 1
    same(rows_by_file(machine(), files), files.expected())


def test_replaced_files_are_read_as_they_are_now(machine: Make) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    files.build(machine())
    files.fill(["AUSDT"], DAYS[:6], 30)
    assert len(files.pending(machine().snapshot(FEED))) == 6
    files.build(machine())
    same(rows_by_file(machine(), files), files.expected())
    assert files.build(machine()).written == 0


class Killed(BaseException):
    """The end of a process."""


def test_a_build_may_be_killed_at_any_request(
    machine: Make, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_folder, "_GRACE", timedelta(0))
    files = Files()
    for day in DAYS[:2]:
        files.fill(["AUSDT", "BUSDT"], [day])
        for at in range(100):
            with monkeypatch.context() as patch:
                dies_at(patch, at)
                try:
                    files.build(machine())
                except Killed:
                    found = rows_by_file(machine(), files)
                    expected = files.expected()
                    same(found, {path: expected[path] for path in found})
                    continue
            break
        assert at > 5
        same(rows_by_file(machine(), files), files.expected())
    files.build(machine())
    assert (len(parts(bucket)), len(commits(bucket))) == (1, 1)


def dies_at(patch: pytest.MonkeyPatch, request: int) -> None:
    """Let the process die before its request of this number, or in the middle of an upload."""
    count = iter(range(10_000))

    def dying(name: str) -> None:
        real = getattr(Bucket, name)

        def call(self: Bucket, *args: object) -> object:
            if next(count) == request:
                if name == "upload":
                    [files] = args
                    assert isinstance(files, dict)
                    real(self, dict([*files.items()][:1]))
                raise Killed
            return real(self, *args)

        patch.setattr(Bucket, name, call)

    for name in ("list", "upload", "write", "remove"):
        dying(name)


def test_what_nobody_lists_is_removed_a_day_later(machine: Make, bucket: Bucket) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    files.build(machine())
    now = datetime.now(UTC)
    old, new = (f"all-{now - age:%Y%m%dT%H%M%S%f}-12345678" for age in (AGE, AGE / 3))
    for name in (old, new, "foreign"):
        bucket.write(f"{PREFIX}{name}.rows.parquet", b"x")
    bucket.write(f"{PREFIX}manifest/{old.removeprefix('all-')}.json", b"damaged")
    files.build(machine())
    left = "".join(each.key for each in bucket.list(PREFIX))
    assert old not in left
    assert old.removeprefix("all-") not in left
    assert new in left
    assert "foreign" in left
    same(rows_by_file(machine(), files), files.expected())


AGE = timedelta(days=1, hours=1)


def test_parts_that_are_gone_are_read_from_files_and_built_again(
    machine: Make, bucket: Bucket
) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    files.build(machine())
    reader = machine()
    reader.snapshot(FEED)
    bucket.remove(parts(bucket))
    assert rows_by_file(reader, files) == {}
    assert len(commits(bucket)) == 1
    builder = machine()
    with builder._folder_of(FEED).building(wait=True):
        pass
    files.build(builder)
    same(rows_by_file(machine(), files), files.expected())


def test_damaged_rows_are_never_returned(machine: Make, bucket: Bucket) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    files.build(machine())
    [key] = parts(bucket)
    body = bucket.read(key)
    damaged: list[Segment] = []
    expected = files.expected()

    def elsewhere(segment: Segment) -> Iterator[pa.RecordBatch]:
        damaged.append(segment)
        return iter(())

    for at in (10, len(body) // 2, len(body) - 20):
        bucket.write(key, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        damaged.clear()
        # Another process has not opened it before.
        bucket_file._footers.clear()
        found = rows_by_file(machine(), files, fallback=elsewhere)
        # Bytes of no meaning may change, as in the head of a page.
        good = [path for path, frame in found.items() if not frame.is_empty()]
        same({path: found[path] for path in good}, {path: expected[path] for path in good})
        assert sum(segment.rows for segment in damaged) == 24 * (len(found) - len(good))
    assert damaged or not found


def test_tables_of_other_versions(
    machine: Make, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    files.build(machine())
    with monkeypatch.context() as patch:
        for module in (manifest, bucket_folder, commits_of_tables):
            patch.setattr(module, "FORMAT", manifest.FORMAT + 1)
        assert rows_by_file(machine(), files) == {}
        files.fill(["BUSDT"], DAYS)
        files.build(machine())
    # The older version reads its own, and leaves those of the newer one alone.
    with pytest.raises(StoreError, match="newer version"):
        files.build(machine())
    assert len(parts(bucket)) == 2


def test_clearing_removes_what_all_share_only_on_request(machine: Make, bucket: Bucket) -> None:
    files, tables = Files(), machine()
    files.fill(["AUSDT"], DAYS)
    files.build(tables)
    shared = bucket.list(PREFIX)
    tables.clear()
    assert bucket.list(PREFIX) == shared
    same(rows_by_file(machine(), files), files.expected())
    tables.clear(shared=True)
    assert bucket.list(PREFIX) == []
    assert rows_by_file(machine(), files) == {}
    files.build(tables, list(files.tasks.values()))
    same(rows_by_file(machine(), files), files.expected())


# Published tables


def spooled(files: Files, folder: Path) -> dict[str, Stamp]:
    """Build tables in a local store, and give each file the stamp of an object."""
    files.build(
        Tables(folder / ".binance_archive_kit/cache/tables", 1 << 30), [*files.tasks.values()]
    )
    return {
        path: Stamp(task.file.size, 0, 0, number)
        for number, (path, task) in enumerate(files.tasks.items(), 1)
    }


def uploaded(files: Files, stamps: dict[str, Stamp]) -> None:
    """Let the files be the uploaded objects."""
    for path, stamp in stamps.items():
        task = files.tasks[path]
        object.__setattr__(task.file, "stamp", stamp)


def test_published_tables_have_the_stamps_of_the_objects(
    machine: Make, bucket: Bucket, tmp_path: Path
) -> None:
    files = Files()
    files.fill(["AUSDT", "BUSDT"], DAYS)
    expected = files.expected()
    stamps = spooled(files, tmp_path / "spool")
    lost = sorted(stamps)[3]
    del stamps[lost], expected[lost]
    assert publish_tables(tmp_path / "spool", bucket, stamps) == 19
    entries = machine().snapshot(FEED).entries()
    found = {path: Stamp(*stamp) for path, *stamp in entries.select("path", *Stamp._fields).rows()}
    assert found == stamps
    uploaded(files, stamps)
    same(rows_by_file(machine(), files), expected)
    assert machine()._folder_of(FEED).load().meaning == meaning_of(FEED)
    assert publish_tables(tmp_path / "nothing", bucket, stamps) == 0
    assert publish_tables(tmp_path / "spool", bucket, {}) == 0


def test_publications_join_their_commits(machine: Make, bucket: Bucket, tmp_path: Path) -> None:
    everything, stamps = Files(), {}
    for worker in range(20):
        files = Files()
        files.fill([f"S{worker:02}USDT"], DAYS[:2])
        stamps |= spooled(files, tmp_path / str(worker))
        publish_tables(tmp_path / str(worker), bucket, stamps)
        everything.tasks |= files.tasks
        everything.rows |= files.rows
        assert machine().use().parts == worker + 1
        assert len(commits(bucket)) <= 8
    expected = everything.expected()
    uploaded(everything, stamps)
    same(rows_by_file(machine(), everything), expected)


def test_publishing_may_be_killed_at_any_request(
    machine: Make, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    expected = files.expected()
    stamps = spooled(files, tmp_path)
    uploaded(files, stamps)
    for at in range(2):
        with monkeypatch.context() as patch:
            dies_at(patch, at)
            with pytest.raises(Killed):
                publish_tables(tmp_path, bucket, stamps)
        assert rows_by_file(machine(), files) == {}
    monkeypatch.setattr(commits_of_tables, "_SIMILAR", 2)
    for at in (2, 3, 4, 3, 4):
        with monkeypatch.context() as patch:
            dies_at(patch, at)
            with suppress(Killed):
                publish_tables(tmp_path, bucket, stamps)
        same(rows_by_file(machine(), files), expected)
    publish_tables(tmp_path, bucket, stamps)
    same(rows_by_file(machine(), files), expected)


def published(bucket: Bucket, folder: Path, *symbols: str, days: Sequence[str] = DAYS) -> Files:
    """Publish files as some workers do, each of one symbol and some days."""
    everything, stamps = Files(), {}
    for worker, symbol in enumerate(symbols):
        files = Files()
        files.fill([symbol], days[worker % 5 :: 5])
        stamps |= spooled(files, folder / str(worker))
        publish_tables(folder / str(worker), bucket, stamps)
        everything.tasks |= files.tasks
        everything.rows |= files.rows
    uploaded(everything, stamps)
    return everything


def packs(bucket: Bucket) -> list[str]:
    return [each.key for each in bucket.list(PREFIX) if "/pack-" in each.key]


def opened(tables: BucketTables, patch: pytest.MonkeyPatch, symbol: str) -> tuple[set[str], int]:
    """Return which objects with entries are read for a symbol, and how many files it has."""
    keys: set[str] = set()
    read = Bucket.read

    def note(bucket: Bucket, key: str) -> bytes:
        keys.update([key] if ".entries." in key else [])
        return read(bucket, key)

    with patch.context() as patched:
        patched.setattr(Bucket, "read", note)
        return keys, tables.snapshot(FEED).entries({symbol}).height


def test_joined_entries_are_read_at_once(
    machine: Make, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = ["AUSDT"] * 5 + ["币安人生USDT"] * 5
    everything = published(bucket, tmp_path, *symbols)
    keys, files = opened(machine(), monkeypatch, "AUSDT")
    assert (len(keys), files) == (5, 10)
    machine().join(FEED)
    assert (len(commits(bucket)), len(packs(bucket)), len(parts(bucket))) == (1, 1, 10)
    for symbol in ("AUSDT", "币安人生USDT"):
        keys, files = opened(machine(), monkeypatch, symbol)
        assert (len(keys), files) == (1, 10)
    same(rows_by_file(machine(), everything), everything.expected())
    # Again: nothing is written. More files: all small parts are packed again.
    before = bucket.list(PREFIX)
    machine().join(FEED)
    assert bucket.list(PREFIX) == before
    more = published(bucket, tmp_path / "more", "BUSDT", "BUSDT")
    machine().join(FEED)
    keys, files = opened(machine(), monkeypatch, "BUSDT")
    assert (len(keys), files) == (1, 4)
    # A build replaces the parts, and needs no pack; what is old goes a day later.
    everything.tasks |= more.tasks
    everything.rows |= more.rows
    everything.build(machine(), [])
    assert machine().use().parts == 1
    monkeypatch.setattr(bucket_folder, "_GRACE", timedelta(0))
    everything.build(machine(), [])
    assert (len(parts(bucket)), packs(bucket)) == (1, [])
    same(rows_by_file(machine(), everything), everything.expected())


@pytest.mark.parametrize("spoil", ["gone", "damaged"])
def test_entries_of_a_spoilt_pack_are_read_from_the_parts(
    machine: Make, bucket: Bucket, tmp_path: Path, spoil: str
) -> None:
    everything = published(bucket, tmp_path, *["AUSDT"] * 3)
    machine().join(FEED)
    [pack] = packs(bucket)
    if spoil == "gone":
        bucket.remove([pack])
    else:
        bucket.write(pack, b"x" * len(bucket.read(pack)))
    same(rows_by_file(machine(), everything), everything.expected())


def test_joining_may_be_killed_at_any_request(
    machine: Make, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = published(bucket, tmp_path, *["AUSDT"] * 3)
    expected = everything.expected()
    for at in range(4):
        with monkeypatch.context() as patch:
            dies_at(patch, at)
            with pytest.raises(Killed):
                machine().join(FEED)
        same(rows_by_file(machine(), everything), expected)
    machine().join(FEED)
    assert len(commits(bucket)) == 1
    same(rows_by_file(machine(), everything), expected)


def test_packs_that_are_large_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_packs, "_MOST", 400)
    monkeypatch.setattr(entry_packs, "_SMALL", 200)

    def part(name: str, symbol: str, size: int = 100) -> manifest.Part:
        return manifest.Part(name, "", 1, 1, "", "", 1, 1, size, 1, symbol, symbol)

    def due(parts: list[manifest.Part], *known: commits_of_tables.EntryPack) -> list[list[str]]:
        return [[each.name for each in group] for group in due_packs(parts, known)]

    found = [part(f"{symbol}{at}", symbol) for at in range(3) for symbol in "BA"]
    assert due(found) == [["A0", "A1", "A2", "B0"], ["B1", "B2"]]
    first = commits_of_tables.EntryPack("first", 300, 1, ("A0", "A1", "A2", "B0"))
    second = commits_of_tables.EntryPack("second", 150, 1, ("B1", "B2"))
    assert due(found, first, second) == []
    assert due([*found, part("C", "C")], first, second) == [["B1", "B2", "C"]]
    assert due([*found, part("C", "C", 300)], first, second) == []
    assert due([part("A", "A")]) == due([]) == []


def test_what_did_not_arrive_is_not_listed(
    machine: Make, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files()
    files.fill(["AUSDT"], DAYS)
    stamps = spooled(files, tmp_path)
    monkeypatch.setattr(Bucket, "upload", lambda self, files: {next(iter(files)): "no room"})
    with pytest.raises(StoreError, match="no room"):
        publish_tables(tmp_path, bucket, stamps)
    assert machine().use().parts == 0
