"""Files are looked up as they are on disk now, and as they were proven."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.schemas import read_feed
from binance_archive_kit.errors import ChangedFile, FileError, UnreadableZip
from binance_archive_kit.query import file_lookup
from binance_archive_kit.query.file_lookup import FileLookup, ScanContext, days_between
from binance_archive_kit.query.known_files import KnownFiles
from binance_archive_kit.reading.feed_table import FeedTable, feed_table
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.storage.proof import Expected, prove
from binance_archive_kit.storage.store import Store
from tests.support.checks import flip, rot
from tests.support.proven import fill
from tests.support.stores import kline, put

KEYS = [kline("BTCUSDT", f"2025-07-0{day}") for day in (1, 2, 3)]
FEED: FeedTable = feed_table(*read_feed("spot", "klines"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three days of candles, of which the second has none."""
    for key, rows in zip(KEYS, (24, 0, 5), strict=True):
        put(tmp_path / "store", key, rows)
    return tmp_path / "store"


def context_of(root: Path) -> ScanContext:
    store = Store(root)
    return ScanContext(store, KnownFiles(None), Partition.DAILY, None)


def tasks_of(context: ScanContext) -> list[FileTask]:
    [stored] = context.store.inventory.folders(FEED.market, FEED.data_type)
    return [FileTask(file, stored) for file in stored.files]


def keys_of(tasks: list[FileTask]) -> list[str]:
    return [task.file.key for task in tasks]


def test_files_that_are_gone_are_left_out(root: Path) -> None:
    context = context_of(root)
    tasks = tasks_of(context)
    (root / str(KEYS[1])).unlink()
    found = FileLookup(context, FEED).current(tasks)
    assert keys_of(found) == [str(KEYS[0]), str(KEYS[2])]


def test_a_changed_file_has_its_new_stamp_and_no_statistics(root: Path) -> None:
    context = context_of(root)
    lookup = FileLookup(context, FEED)
    tasks = tasks_of(context)
    lookup.profile(tasks)
    assert [task.rows for task in lookup.current(tasks)] == [24, 0, 5]
    put(root, KEYS[0], 7)
    first, *others = lookup.current(tasks)
    assert first.stats is None
    assert first.file.size == (root / str(KEYS[0])).stat().st_size
    assert [task.rows for task in others] == [0, 5]


def test_a_bad_file_is_rejected_from_then_on_if_it_is_needed(root: Path) -> None:
    put(root, KEYS[1], edit=lambda csv: csv[:-9])
    context = context_of(root)
    tasks = tasks_of(context)
    errors: list[FileError] = []
    done: list[int] = []
    profiles = FileLookup(context, FEED).profile(tasks, errors.append, done=done.append)
    assert sorted(profiles) == [str(KEYS[0]), str(KEYS[2])]
    assert [error.file for error in errors] == [tasks[1].file.path]
    assert sum(done) == 2
    lookup = FileLookup(context, FEED)
    with pytest.raises(type(errors[0])):
        lookup.current(tasks)
    assert len(lookup.current(tasks, {str(KEYS[0])})) == 3
    skipped: list[FileError] = []
    skipping = FileLookup(replace(context, skip=skipped.append), FEED)
    assert keys_of(skipping.current(tasks)) == [str(KEYS[0]), str(KEYS[2])]
    assert [str(error) for error in skipped] == [str(errors[0])]


def test_a_file_that_is_not_the_proven_one_is_an_error(root: Path, tmp_path: Path) -> None:
    proven = tmp_path / "proven"
    fill(proven, tmp_path, KEYS)
    context = context_of(proven)
    assert len(FileLookup(context, FEED).current(tasks_of(context))) == 3
    flip(proven / str(KEYS[1]))
    os.utime(proven / str(KEYS[1]), (1, 1))
    context = context_of(proven)
    with pytest.raises(ChangedFile, match="proven") as caught:
        FileLookup(context, FEED).current(tasks_of(context))
    assert caught.value.file.endswith(KEYS[1].name)


@pytest.mark.parametrize("published", [True, False])
def test_an_error_says_whether_the_archive_has_the_bad_file(
    tmp_path: Path, published: bool
) -> None:
    staged = put(tmp_path / "staged", KEYS[0])
    digest = hashlib.sha256(staged.read_bytes()).hexdigest() if published else None
    store = Store(tmp_path / "store")
    with store.records.recorder() as record:
        proof = prove(str(KEYS[0]), staged, Expected(None, "e", digest))
        record([store.admit(proof, staged)])
    context = context_of(store.root)
    lookup = FileLookup(context, FEED)
    [task] = tasks_of(context)
    error = UnreadableZip(task.file.path, "it ends early")
    assert lookup.rejected(task, error) is error
    assert error.at_source is published
    with pytest.raises(UnreadableZip) as caught:
        lookup.current([task])
    assert caught.value.at_source is published


def test_a_file_whose_bytes_decayed_is_not_called_the_archives(tmp_path: Path) -> None:
    root = fill(tmp_path / "store", tmp_path, KEYS[:1]).root
    proof = prove(str(KEYS[0]), root / str(KEYS[0]), Expected(None, "e", None))
    rot(root / str(KEYS[0]), root)
    context = context_of(root)
    lookup = FileLookup(context, FEED)
    [task] = tasks_of(context)
    errors = [lookup.rejected(task, UnreadableZip(task.file.path, "bad CRC")) for _ in range(2)]
    for error in errors:
        assert isinstance(error, ChangedFile)
        assert not error.at_source
        assert "no longer the proven ones" in str(error)
        assert "unreadable_zip: bad CRC" in str(error)
        assert "run verify on the store; collect it again" in str(error)
    assert not context.store.records.proofs("data/"), "the next collection proves it again"
    with pytest.raises(ChangedFile, match="no longer the proven ones"):
        FileLookup(context, FEED).current([task])
    # The medium returns the right bytes again.
    with context.store.records.recorder() as record:
        record([replace(proof, stamp=task.file.stamp)])
    assert FileLookup(context, FEED).current([task])


def test_a_file_that_is_replaced_meanwhile_is_not_judged(tmp_path: Path) -> None:
    root = fill(tmp_path / "store", tmp_path, KEYS[:1]).root
    context = context_of(root)
    [task] = tasks_of(context)
    put(root, KEYS[0], 7)
    error = UnreadableZip(task.file.path, "bad CRC")
    assert FileLookup(context, FEED).rejected(task, error) is error
    assert len(context.store.records.proofs("data/")) == 1
    (root / str(KEYS[0])).unlink()
    assert FileLookup(context, FEED).rejected(task, error) is error


def test_days_are_those_of_rows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    month = kline("BTCUSDT", "2025-07")
    put(root, month, 30)
    context = context_of(root)
    lookup = FileLookup(context, FEED)
    for stored in context.store.inventory.folders(FEED.market, FEED.data_type):
        daily = stored.folder.partition is Partition.DAILY
        days = {date(2025, 7, 1), date(2025, 7, 3)} if daily else {date(2025, 7, 1)}
        found = lookup.days_of(stored, stored.files)
        assert found == days if daily else found >= days
        # They are remembered.
        with monkeypatch.context() as patch:
            patch.setattr(file_lookup, "profile_files", None)
            patch.setattr(file_lookup, "ZipReader", None)
            assert FileLookup(context, FEED).days_of(stored, stored.files) == found


def test_a_file_that_cannot_be_read_has_all_its_days(root: Path) -> None:
    context = context_of(root)
    [stored] = context.store.inventory.folders(FEED.market, FEED.data_type)
    (root / str(KEYS[1])).write_bytes(b"no zip")
    assert KEYS[1].start in FileLookup(context, FEED).days_of(stored, stored.files[1:2])


def test_days_between_has_both_ends() -> None:
    assert days_between(date(2024, 2, 28), date(2024, 3, 1)) == {
        date(2024, 2, 28),
        date(2024, 2, 29),
        date(2024, 3, 1),
    }
    assert not days_between(date(2024, 3, 1), date(2024, 2, 28))
