"""Days are fixed, or counted from today and resolved by each plan."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import Any

import pytest

from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.date_range import DateRange

LEAST = {
    "markets": ["spot"],
    "symbols": ["BTCUSDT"],
    "data_types": ["klines"],
    "output_directory": "data",
}


def make(**fields: Any) -> CollectionConfig:
    return CollectionConfig(**{**LEAST, **fields})


def test_days() -> None:
    assert make().days(datetime(2025, 3, 1, 0, 1)) == DateRange(
        start="2025-02-28", end="2025-02-28"
    )
    fixed = make(date_range={"start": "2025-07-01", "end": "2025-07-02"})
    assert fixed.days(datetime(2030, 1, 1)) == fixed.date_range
    before = datetime.now(UTC).date()
    yesterday = make().days().start
    assert (before - yesterday).days in (0, 1)


TODAY = datetime(2025, 3, 1, 0, 1)


@pytest.mark.parametrize(
    ("start", "end", "meant"),
    [
        ("yesterday", "yesterday", ("2025-02-28", "2025-02-28")),
        ("-7d", "yesterday", ("2025-02-22", "2025-02-28")),
        ("-0d", "today", ("2025-03-01", "2025-03-01")),
        ("2025-01-15", "-1d", ("2025-01-15", "2025-02-28")),
        ("-59d", "2025-03-31", ("2025-01-01", "2025-03-31")),
        ("-99999d", "yesterday", ("1751-05-18", "2025-02-28")),
    ],
)
def test_days_counted_from_today(start: str, end: str, meant: tuple[str, str]) -> None:
    asked = make(date_range={"start": start, "end": end})
    assert asked.days(TODAY) == DateRange(start=meant[0], end=meant[1])
    # They stay what they are on their way to a file and back, and are settled by a plan.
    again = CollectionConfig.from_json(asked.to_json())
    assert again == asked
    assert asked.chosen()["date_range"] == {"start": start, "end": end}
    assert asked.settled(TODAY).chosen()["date_range"] == dict(
        zip(("start", "end"), meant, strict=True)
    )
    assert asked.replace(batch_size=5).date_range == asked.date_range


def test_days_counted_from_today_are_in_order() -> None:
    with pytest.raises(ConfigurationError, match="start yesterday is after end -7d"):
        make(date_range={"start": "yesterday", "end": "-7d"})
    asked = make(date_range={"start": "2025-03-01", "end": "yesterday"})
    with pytest.raises(ConfigurationError, match=r"2025-03-01 is after end yesterday \(2025-02-28"):
        asked.days(TODAY)
    with pytest.raises(ConfigurationError, match=r"date_range\.start: '1d' is not a day"):
        make(date_range={"start": "1d", "end": "yesterday"})


def test_settling_leaves_named_days_alone() -> None:
    fixed = make(date_range={"start": "2025-07-01", "end": "2025-07-02"})
    assert fixed.settled(TODAY) is fixed
    assert make().settled(TODAY).date_range == DateRange(start="2025-02-28", end="2025-02-28")


def test_help_shows_a_readable_signature() -> None:
    assert str(inspect.signature(DateRange)) == "(*, start, end)"
