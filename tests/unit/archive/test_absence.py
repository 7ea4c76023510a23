"""Absences say what cannot be obtained, and are counted by kind and reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from binance_archive_kit.archive.absence import Absence, Reason, absence_folds
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream

DAY = date(2025, 7, 1)
ABSENT = Absence(Market.SPOT, DataType.TRADES, Reason.ABSENT, "no file", DAY, DAY, "BTCUSDT")


def test_folds_count_kinds_and_reasons() -> None:
    later = replace(ABSENT, reason=Reason.AFTER_LAST)
    early = replace(ABSENT, reason=Reason.NOT_PUBLISHED)
    missing, not_published = absence_folds([ABSENT, later, ABSENT], [early])
    assert missing.title == (
        "3 missing (could exist, the archive does not have it): 2 absent, 1 after_last"
    )
    assert not_published.title.startswith("1 not published (will exist, it is too early)")
    assert (missing.state, not_published.state) == ("warn", "later")
    assert missing.to_text().splitlines()[1] == "  spot trades BTCUSDT, 2025-07-01: no file"
    assert absence_folds() == []


def test_an_absence_of_one_folder_has_a_last_key() -> None:
    folder = Folder(Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1), Partition.MONTHLY)
    first, last = date(2025, 6, 1), date(2025, 7, 10)
    absence = Absence.of(folder, Reason.BEFORE_FIRST, "it begins later", first, last)
    assert absence.last_key == folder.key("2025-07")
    assert replace(absence, key="another").last_key == "another"
    assert replace(absence, partition=None).last_key is None
    assert replace(absence, symbol=None).last_key is None


def test_objects_under_other_names_are_told_apart() -> None:
    [fold] = absence_folds([replace(ABSENT, reason=Reason.OTHER_NAME)])
    assert fold.title.startswith("1 missing (the archive has it under another name)")
