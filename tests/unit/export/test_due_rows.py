"""Rows that are due between the first and the last row of a stream."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import polars as pl
import pytest

from binance_archive_kit.archive.annotations import load_annotations
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.export.due_rows import Lifetime, RowCounts, count_due, lifetimes_of
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.cadence import cadence_of
from binance_archive_kit.timestamps import DAY, to_day_number, to_micros

STREAM = Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.D1)


def counts(
    days: list[int], stream: Stream = STREAM, lifetime: Lifetime | None = None, **limits: datetime
) -> RowCounts:
    cadence = cadence_of(stream.market, stream.data_type, stream.interval)
    return count_due(stream, cadence, np.array(days, np.int64) * DAY, Selection(**limits), lifetime)


def test_rows_are_due_from_the_first_to_the_last() -> None:
    assert counts([5]) == (1, 1)
    assert counts([5, 6, 9]) == (3, 5)
    assert counts([5, 6, 9]).coverage == pytest.approx(0.6)
    assert RowCounts(0, 0).coverage is None


def test_two_rows_in_one_step_count_once() -> None:
    cadence = cadence_of(STREAM.market, STREAM.data_type, STREAM.interval)
    times = np.array([5 * DAY, 5 * DAY + 7, 6 * DAY], np.int64)
    assert count_due(STREAM, cadence, times, Selection()) == (2, 2)


def test_a_lifetime_extends_the_due_rows_within_the_range() -> None:
    alive = Lifetime(2 * DAY, 12 * DAY)
    assert counts([5, 6], lifetime=alive) == (2, 10)
    limits = {"start": datetime(1970, 1, 4), "end": datetime(1970, 1, 8)}
    assert counts([5, 6], lifetime=alive, **limits) == (2, 4)
    assert counts([5, 6], lifetime=Lifetime(5 * DAY, 6 * DAY)) == (2, 2)


def test_a_universe_gives_lifetimes_without_its_uncertain_months() -> None:
    days = [date(2025, 1, 31), date(2025, 3, 9), True], [date(2025, 1, 1), date(2025, 3, 9), False]
    rows = [("ENDED", *days[0]), ("ALIVE", *days[1]), ("SHORT", *days[0][:1] * 2, True)]
    universe = pl.DataFrame(rows, schema=["symbol", "first", "last", "ended"], orient="row")
    start = to_day_number(date(2025, 2, 1)) * DAY
    assert lifetimes_of(universe) == {
        "ENDED": (start, to_day_number(date(2025, 3, 1)) * DAY),
        "ALIVE": (start, to_day_number(date(2025, 3, 10)) * DAY),
    }
    assert lifetimes_of(None) == lifetimes_of(universe.drop("ended")) == {}


def test_no_row_is_due_while_a_symbol_is_not_traded() -> None:
    defects = load_annotations().defects
    halted = next(
        each
        for each in defects
        if each.effect == "not_traded" and each.end and each.symbols
        if DataType.KLINES in each.data_types
    )
    stream = Stream(halted.markets[0], DataType.KLINES, halted.symbols[0], Interval.D1)
    assert halted.end is not None
    first, last = to_micros(halted.start) // DAY - 2, to_micros(halted.end) // DAY + 2
    found = counts([first, first + 1, last], stream)
    plain = counts([first, first + 1, last])
    assert found.present == plain.present == 3
    assert found.due == plain.due - (to_micros(halted.end) - to_micros(halted.start)) // DAY
