"""Entries of tables are matched with the files of folders by their names and stamps."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.query.engine import Engine, ReadOptions
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.query.tabled_files import FolderMatch, TabledFiles
from binance_archive_kit.storage.inventory import StoredFolder
from tests.support.candles import STEPS, at, file_of, line
from tests.support.stores import csv_for, kline, put

DAYS = [kline("BTCUSDT", f"2025-07-{day:02}") for day in range(1, 6)]
JULY, JUNE = kline("BTCUSDT", "2025-07"), kline("BTCUSDT", "2025-06")


class Built:
    """A store with tables, in which files may change."""

    def __init__(self, root: Path, keys: list[ObjectKey]) -> None:
        self.root = root
        for key in keys:
            put(root, key)
        self.engine = Engine(root, ReadOptions())
        self.feed = self.engine.feed("spot", "klines")
        self.build()

    def build(self) -> None:
        self.engine.build("spot", "klines", None)
        self.tabled = TabledFiles(self.engine.cache.tables.snapshot(self.feed).entries())

    def folders(self) -> list[StoredFolder]:
        return Engine(self.root, ReadOptions()).folders(self.feed)

    def match(self) -> FolderMatch | None:
        [stored] = self.folders()
        return self.tabled.match(stored)


def names(match: FolderMatch | None) -> tuple[int, list[str]]:
    """Return the number of valid entries, and the names of the other files."""
    assert match is not None
    others = () if match.others is None else match.others.files
    return len(match.indices), [Path(file.path).name for file in others]


def path_of(root: Path, key: ObjectKey) -> Path:
    return root / str(key)


def test_unchanged_files_match_as_a_whole(tmp_path: Path) -> None:
    built = Built(tmp_path, DAYS)
    assert names(built.match()) == (5, [])
    [stored] = built.folders()
    assert built.tabled.missing(stored) == []


def test_other_files_are_named(tmp_path: Path) -> None:
    built = Built(tmp_path, DAYS)
    put(tmp_path, DAYS[1], seed=1)
    put(tmp_path, kline("BTCUSDT", "2025-07-09"))
    path_of(tmp_path, DAYS[3]).unlink()
    expected = ["BTCUSDT-1h-2025-07-02.zip", "BTCUSDT-1h-2025-07-09.zip"]
    assert names(built.match()) == (3, expected)
    [stored] = built.folders()
    assert [Path(task.file.path).name for task in built.tabled.missing(stored)] == expected


def test_a_folder_without_valid_entries_has_only_other_files(tmp_path: Path) -> None:
    built = Built(tmp_path, DAYS[:2])
    for key in DAYS[:2]:
        put(tmp_path, key, seed=1)
    assert names(built.match())[0] == 0
    put(tmp_path / "new", DAYS[0])
    engine = Engine(tmp_path / "new", ReadOptions())
    [stored] = engine.folders(built.feed)
    empty = TabledFiles(built.tabled.entries.clear())
    assert names(empty.match(stored)) == (0, ["BTCUSDT-1h-2025-07-01.zip"])


def test_names_that_belong_to_no_file_are_ignored(tmp_path: Path) -> None:
    built = Built(tmp_path, DAYS)
    (path_of(tmp_path, DAYS[0]).parent / "BTCUSDT-1h-notes.zip").write_bytes(b"")
    assert names(built.match()) == (5, [])
    (path_of(tmp_path, DAYS[0]).parent / "notes.zip").write_bytes(b"")
    [stored] = built.folders()
    assert built.tabled.match(stored) is None
    assert built.tabled.missing(stored) == []


def add_csv(path: Path, csv: bytes) -> None:
    path.with_suffix(".csv").write_bytes(csv)


def add_gzip(path: Path, csv: bytes) -> None:
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(csv))


def add_loose(path: Path, csv: bytes) -> None:
    path.with_name("BTCUSDT-1h-2025-7-2.zip").write_bytes(path.read_bytes())


def add_upper(path: Path, csv: bytes) -> None:
    path.with_suffix(".ZIP").write_bytes(path.read_bytes())


@pytest.mark.parametrize("add", [add_csv, add_gzip, add_loose, add_upper])
def test_other_forms_of_files_are_looked_up_one_by_one(
    tmp_path: Path, add: Callable[[Path, bytes], None]
) -> None:
    built = Built(tmp_path, DAYS)
    path = path_of(tmp_path, DAYS[1])
    add(path, csv_for(DAYS[1]))
    # The zip still gives the rows of its day.
    [stored] = built.folders()
    assert built.tabled.match(stored) is None
    assert built.tabled.missing(stored) == []
    assert [file.path for file in stored.files] == [str(key) for key in DAYS]
    path.unlink()
    [stored] = built.folders()
    [missing] = built.tabled.missing(stored)
    assert missing.file.key == str(DAYS[1])
    assert missing.file.path != str(DAYS[1])
    # And the other way round: the other form is in tables when the zip comes back.
    built.build()
    [stored] = built.folders()
    assert built.tabled.missing(stored) == []
    put(tmp_path, DAYS[1], seed=2)
    [stored] = built.folders()
    assert built.tabled.match(stored) is None
    [missing] = built.tabled.missing(stored)
    assert missing.file.path == str(DAYS[1])


def test_find_wants_the_very_file(tmp_path: Path) -> None:
    built = Built(tmp_path, DAYS)
    [stored] = built.folders()
    assert [built.tabled.find(file) for file in stored.files] == [0, 1, 2, 3, 4]
    put(tmp_path, DAYS[2], seed=1)
    [stored] = built.folders()
    assert [built.tabled.find(file) for file in stored.files] == [0, 1, None, 3, 4]


# Which rows a stream has from tables


def are_disjoint(built: Built) -> bool:
    matches = [built.tabled.match(stored) for stored in built.folders()]
    assert None not in matches
    return built.tabled.are_disjoint([match for match in matches if match is not None])


def test_files_of_other_months_are_disjoint(tmp_path: Path) -> None:
    built = Built(tmp_path, [JUNE, *DAYS])
    assert are_disjoint(built)
    # So are they with files that are not in tables.
    put(tmp_path, kline("BTCUSDT", "2025-05"))
    assert are_disjoint(built)
    put(tmp_path, kline("BTCUSDT", "2025-06-30"))
    assert not are_disjoint(built)


def test_files_of_a_common_month_are_not(tmp_path: Path) -> None:
    assert not are_disjoint(Built(tmp_path, [JULY, *DAYS]))


@pytest.mark.parametrize(("first", "disjoint"), [("2025-06-30", False), ("2025-07-07", True)])
def test_candles_that_begin_before_their_file_are_not(
    tmp_path: Path, first: str, disjoint: bool
) -> None:
    key = kline("BTCUSDT", "2025-07", "1w")
    file_of(tmp_path, key, [line(at(first), STEPS["1w"], 100)])
    built = Built(tmp_path, [])
    assert are_disjoint(built) == disjoint
    # With a file that is not in tables, that is not known.
    file_of(tmp_path, kline("BTCUSDT", "2025-08", "1w"), [line(at("2025-08-04"), STEPS["1w"], 100)])
    assert not are_disjoint(built)


def test_select_keeps_what_may_match(tmp_path: Path) -> None:
    built = Built(tmp_path, DAYS)
    match = built.match()
    assert match is not None
    chosen = Selection(frozenset(["BTCUSDT"]), frozenset([Interval.H1]), None, None)
    assert built.tabled.select(match, chosen).tolist() == [0, 1, 2, 3, 4]
    late = Selection(None, None, at("2025-07-03 12:00").replace(tzinfo=None), None)
    assert built.tabled.select(match, late).tolist() == [2, 3, 4]


def test_segments_join_rows_that_follow_each_other(tmp_path: Path) -> None:
    built = Built(tmp_path, [*DAYS[:2], *DAYS[3:]])
    put(tmp_path, DAYS[2], 0)
    built.build()
    tabled = built.tabled
    [stored] = built.folders()
    match = tabled.match(stored)
    assert match is not None
    assert tabled.rows(match.indices) == 96
    assert [segment.rows for segment in tabled.segments(match.indices)] == [48, 48]
    assert [segment.rows for segment in tabled.segments(match.indices[[0, 2, 3]])] == [24, 24]
    assert list(tabled.segments(match.indices[:0])) == []
    [first, *_] = tabled.segments(match.indices)
    assert [(task.file.key, row) for task, row in tabled.tasks(first._replace(row=30, rows=2))] == [
        (str(DAYS[1]), 24)
    ]


def test_entries_are_in_the_order_of_time(tmp_path: Path) -> None:
    built = Built(tmp_path, [JUNE, *DAYS, kline("BTCUSDT", "2025-08")])
    matches = [built.tabled.match(stored) for stored in built.folders()]
    indices = built.tabled.in_time([match.indices for match in matches if match is not None])
    assert (built.feed.market, built.feed.data_type) == (Market.SPOT, DataType.KLINES)
    assert built.tabled.starts(indices).tolist() == sorted(built.tabled.starts(indices))
    assert len(indices) == 7
