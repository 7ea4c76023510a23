"""Tests of the shipped annotations: halts, defects and changes of meaning."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise, product
from typing import Any

import pytest
from pydantic import ValidationError

from binance_archive_kit.archive.annotations import KnownHalt, load_annotations
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.archive.schemas import schema

MATRIX = load_matrix()
ANNOTATIONS = load_annotations()


def test_annotations_name_sources_and_columns_that_exist() -> None:
    for note in (
        *ANNOTATIONS.changes,
        *ANNOTATIONS.halts,
        *ANNOTATIONS.defects,
    ):
        assert len(note.source) > 10
    for defect in ANNOTATIONS.defects:
        for market, data_type in product(defect.markets, defect.data_types):
            feed = MATRIX.feed(market, data_type)
            assert feed is not None
            assert set(defect.partitions) <= set(feed.partitioned)
            assert defect.better is None or defect.better in feed.partitioned
            for interval in defect.intervals:
                assert feed.partitions_with(interval)
            columns = {column.column for column in schema(market, data_type).columns}
            assert set(defect.columns) <= columns
        assert defect.better is None or defect.better not in defect.partitions


def test_halts_are_sorted_and_do_not_overlap() -> None:
    halts = ANNOTATIONS.halts
    assert len(halts) > 30
    assert {halt.market for halt in halts} == {Market.SPOT}
    for before, after in pairwise(halts):
        assert before.end < after.start


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("2020-02-19", "2020-02-19 11:35:33 to 17:30:00 UTC"),
        ("2020-11-30", "2020-11-30 06:00 to 07:00 UTC"),
        ("2021-02-11", "2021-02-11 03:40:55 to 05:00:00 UTC"),
        ("2021-03-06", "2021-03-06 02:00:00 to 03:30:00 UTC"),
        ("2023-03-24", "2023-03-24 12:39:42 to 14:00:00 UTC"),
        ("2018-02-08", "2018-02-08 00:28:15 to 2018-02-09 10:00:01 UTC"),
    ],
)
def test_halts_are_described_as_exactly_as_they_are_known(day: str, words: str) -> None:
    [halt] = [each for each in ANNOTATIONS.halts if f"{each.start:%Y-%m-%d}" == day]
    assert halt.when == words


@pytest.mark.parametrize(
    ("market", "data_type", "partition", "day", "effects"),
    [
        ("futures_um", "trades", "daily", "2026-07-02", set()),
        ("futures_um", "trades", "daily", "2026-07-03", {"constant_column"}),
        ("futures_um", "trades", "daily", "2026-11-01", {"constant_column"}),
        ("futures_um", "aggTrades", "daily", "2026-07-03", set()),
        ("futures_cm", "trades", "daily", "2026-07-01", {"constant_column", "missing_rows"}),
        ("futures_um", "bookDepth", "daily", "2026-09-02", set()),
        ("futures_um", "bookDepth", "daily", "2026-09-03", {"frozen"}),
        ("spot", "klines", "monthly", "2020-12-21", {"wrong_values"}),
        ("spot", "klines", "daily", "2020-12-21", set()),
        ("spot", "klines", "monthly", "2020-12-22", set()),
        ("spot", "klines", "monthly", "2021-09-29", {"wrong_values"}),
        ("spot", "klines", "daily", "2018-02-10", {"off_grid_rows"}),
        ("futures_um", "markPriceKlines", "monthly", "2020-01-19", {"missing_rows"}),
        ("futures_um", "indexPriceKlines", "daily", "2024-08-12", {"missing_rows"}),
        ("futures_um", "metrics", "daily", "2021-05-24", {"repeated_rows"}),
        ("futures_um", "metrics", "daily", "2021-05-25", set()),
        ("futures_um", "metrics", "daily", "2026-06-25", {"repeated_rows"}),
        ("futures_um", "klines", "daily", "2026-09-12", set()),
    ],
)
def test_defects_apply_to_their_days_only(
    market: str, data_type: str, partition: str, day: str, effects: set[str]
) -> None:
    start = datetime.fromisoformat(f"{day}T00:00Z")
    kind = DataType(data_type)
    interval = Interval.H1 if kind.has_intervals else None
    stream = Stream(Market(market), kind, "BTCUSDT", interval)
    found = {
        defect.effect
        for defect in ANNOTATIONS.defects
        if not defect.symbols
        and defect.concerns(stream, Partition(partition))
        and defect.overlaps(start, start + timedelta(days=1))
    }
    assert found == effects


def test_defects_apply_to_their_symbols_and_intervals_only() -> None:
    [juv] = [defect for defect in ANNOTATIONS.defects if defect.symbols == ("JUVUSDT",)]
    daily_candles = Stream(Market.SPOT, DataType.KLINES, "JUVUSDT", Interval.D1)
    assert juv.concerns(daily_candles, Partition.MONTHLY)
    assert not juv.concerns(daily_candles, Partition.DAILY)
    assert not juv.concerns(replace(daily_candles, symbol="BTCUSDT"), Partition.MONTHLY)
    assert not juv.concerns(replace(daily_candles, interval=Interval.H1), Partition.MONTHLY)
    assert juv.concerns(daily_candles)


@pytest.mark.parametrize(
    ("on", "first", "last", "applies"),
    [
        ("2026-06-25", "2026-06-01", "2026-06-24", False),
        ("2026-06-25", "2026-06-01", "2026-06-25", True),
        ("2026-06-25", "2026-08-01", "2026-08-02", True),
        # Views give both units as one: only a range with both is reported.
        ("2025-01-01", "2025-02-01", "2025-02-02", False),
        ("2025-01-01", "2024-12-31", "2025-01-01", True),
        ("2025-01-01", "2025-01-01", "2025-01-02", False),
    ],
)
def test_changes_apply_where_rows_have_the_new_meaning(
    on: str, first: str, last: str, applies: bool
) -> None:
    [change] = [each for each in ANNOTATIONS.changes if each.on == date.fromisoformat(on)]
    days = date.fromisoformat(first), date.fromisoformat(last)
    assert change.concerns(change.markets[0], change.data_types[0], *days) == applies
    assert not change.concerns(Market.OPTIONS, DataType.BVOL_INDEX, *days)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": "2020-01-01T00:00:00"}, "states its zone"),
        ({"end": "2019-01-01T00:00:00Z"}, "end is after start"),
        ({"precision": "day", "end": "2021-03-06T03:00:00Z"}, "midnights"),
        ({"source": ""}, "source"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_contradictory_annotations_are_rejected(change: dict[str, Any], message: str) -> None:
    [halt] = [each for each in ANNOTATIONS.halts if f"{each.start:%Y-%m-%d}" == "2021-03-06"]
    fields = {name: getattr(halt, name) for name in KnownHalt.model_fields}
    with pytest.raises(ValidationError, match=message):
        KnownHalt.model_validate(fields | change)
