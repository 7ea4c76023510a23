"""Days and times are parsed, converted and formatted in one place."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from binance_archive_kit import timestamps


@pytest.mark.parametrize("value", ["2025-7-15", "20250715", "2025-02-30", "soon", 20250715, None])
def test_only_dates_and_iso_days_are_days(value: object) -> None:
    with pytest.raises(ValueError, match="is not a day; write it like"):
        timestamps.parse_day(value)


@pytest.mark.parametrize("value", [date(1699, 12, 31), "2300-01-01"])
def test_days_far_away_are_rejected(value: object) -> None:
    with pytest.raises(ValueError, match="is not between"):
        timestamps.parse_day(value)


def test_a_time_is_not_a_day() -> None:
    with pytest.raises(ValueError, match="has a time"):
        timestamps.parse_day(datetime(2025, 7, 15, tzinfo=UTC))


def test_days_counted_from_today_are_resolved() -> None:
    today = date(2025, 7, 15)
    assert timestamps.resolve_day("today", today) == today
    assert timestamps.resolve_day("2025-07-01", today) == date(2025, 7, 1)
    with pytest.raises(ValueError, match="is not between"):
        timestamps.resolve_day("-99999d", date(1750, 1, 1))


@pytest.mark.parametrize(
    "value",
    [
        "2025-07-01T12:00",
        "2025-07-01 14:00+02:00",
        datetime(2025, 7, 1, 12),
        datetime(2025, 7, 1, 7, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_times_are_utc(value: object) -> None:
    assert timestamps.parse_time(value) == datetime(2025, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("value", ["yesterday", 1751328000000, "0001-01-01T00:00+05:00"])
def test_other_values_are_no_times(value: object) -> None:
    with pytest.raises(ValueError, match="is neither a day nor a time"):
        timestamps.parse_time(value)


def test_conversions_are_inverse() -> None:
    time = datetime(2025, 7, 15, 12, 0, 0, 1, tzinfo=UTC)
    micros = timestamps.to_micros(time)
    assert timestamps.to_datetime(micros) == time
    assert timestamps.to_naive(micros) == time.replace(tzinfo=None)
    assert timestamps.from_day_number(timestamps.to_day_number(time.date())) == time.date()


@pytest.mark.parametrize("text", ["", "1", "h", "1 h", "1H", "1M", "1mo1d", "1d1mo", "-1d", "1.5h"])
def test_other_texts_are_no_lengths_of_time(text: str) -> None:
    assert timestamps.parse_length(text) is None


def test_lengths_of_time_are_added_up() -> None:
    assert timestamps.parse_length("1w1d30m") == (8 * timestamps.DAY + 30 * timestamps.MINUTE, 0)
    assert timestamps.parse_length("2y") == (0, 24)


@pytest.mark.parametrize("unit", ["s", "m", "h", "d", "w", "mo"])
def test_units_of_the_archive_are_spelled_the_same(unit: str) -> None:
    assert timestamps.respell_length(f"3{unit}") == f"3{unit}"
