"""Absences say what cannot be obtained, and are counted by kind and reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from binance_archive_kit.archive.absence import Absence, Reason, absence_folds
from binance_archive_kit.archive.enums import DataType, Market

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


def test_objects_under_other_names_are_told_apart() -> None:
    [fold] = absence_folds([replace(ABSENT, reason=Reason.OTHER_NAME)])
    assert fold.title.startswith("1 missing (the archive has it under another name)")
