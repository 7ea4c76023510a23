"""Rows to join come in parts, with the time at which each was known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from binance_archive_kit.errors import ConfigurationError, WrongValues
from binance_archive_kit.query import known_rows
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.known_rows import SYMBOL, TIME, FeedRows, FrameRows, as_utc
from binance_archive_kit.reading.known_times import KNOWN_AT
from tests.support.candles import HOUR, at, day
from tests.support.stores import kline, other, put

COLUMNS = [SYMBOL, "open_time", KNOWN_AT, "close", "file"]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    for number in range(1, 6):
        day(tmp_path, "AUSDT", f"2025-07-0{number}", "1h")
    day(tmp_path, "BUSDT", "2025-07-02", "1h")
    put(tmp_path, kline("AUSDT", "2025-07-01", "4h"), 6)
    put(tmp_path, other("metrics", "AUSDT", "2025-07-01"), 288)
    return Engine(tmp_path)


def klines(engine: Engine, *symbols: str) -> FeedRows:
    rows = FeedRows(engine, "spot", "klines", None)
    rows.choose(list(symbols), "1h", named=True)
    return rows


def times(*texts: str) -> pl.Series:
    return pl.Series([at(text) for text in texts], dtype=TIME)


def test_rows_of_the_days_around_the_decisions_are_read(engine: Engine) -> None:
    rows = klines(engine, "AUSDT")
    found = pl.concat(rows.batches(times("2025-07-04 12:00"), HOUR, COLUMNS))
    assert found[KNOWN_AT].min() < at("2025-07-04 11:00")
    assert found[KNOWN_AT].max() >= at("2025-07-04 12:00")
    assert found.filter(pl.col("open_time") < at("2025-07-02")).is_empty()
    every = pl.concat(rows.batches(times("2025-07-04 12:00"), None, COLUMNS))
    assert every["open_time"].min() == at("2025-07-01")


@pytest.mark.parametrize("days", [1, 2, 31])
def test_parts_of_any_size_are_the_same_rows(
    engine: Engine, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_rows, "_DAYS_AT_ONCE", days)
    rows = klines(engine, "AUSDT", "BUSDT")
    parts = list(rows.batches(times("2025-07-02 12:00", "2025-07-05 01:00"), None, COLUMNS))
    found = pl.concat(parts)
    assert found.height == found.unique().height == 6 * 24
    assert sorted(set(found[SYMBOL])) == ["AUSDT", "BUSDT"]
    assert found["open_time"].dt.date().unique_counts().to_list() == [24, 48, 24, 24, 24]


def test_a_symbol_is_known_from_its_first_row_on(engine: Engine) -> None:
    rows = klines(engine, "AUSDT", "BUSDT")
    assert rows.symbols == ["AUSDT", "BUSDT"]
    known = rows.first_known("BUSDT")
    assert known is not None
    assert abs(known - at("2025-07-02 01:00")) < timedelta(seconds=1)
    assert rows.first_known("CUSDT") is None


def test_a_row_is_old_when_the_next_was_due(engine: Engine) -> None:
    assert klines(engine, "AUSDT").age == HOUR + timedelta(minutes=1)
    metrics = FeedRows(engine, "um", "metrics", None)
    metrics.choose(["AUSDT"], None, named=True)
    assert metrics.age == timedelta(minutes=6)
    assert FeedRows(engine, "um", "trades", None).age == timedelta(days=1)


def test_an_interval_is_chosen_if_there_are_several(engine: Engine) -> None:
    rows = FeedRows(engine, "spot", "klines", None)
    with pytest.raises(ConfigurationError, match="interval: choose one of 1h, 4h"):
        rows.choose(["AUSDT"], None, named=True)
    rows.choose(["BUSDT"], None, named=True)
    assert rows.symbols == ["BUSDT"]
    with pytest.raises(ConfigurationError, match="has none"):
        FeedRows(engine, "um", "metrics", None).choose(["AUSDT"], "1h", named=True)


@pytest.mark.parametrize("named", [True, False])
def test_a_symbol_may_be_absent_unless_it_is_named(engine: Engine, named: bool) -> None:
    rows = FeedRows(engine, "um", "metrics", None)
    if named:
        with pytest.raises(ConfigurationError, match="CUSDT"):
            rows.choose(["AUSDT", "CUSDT"], None, named=named)
    else:
        rows.choose(["AUSDT", "CUSDT"], None, named=named)
        assert rows.symbols == ["AUSDT"]


def test_equal_rows_are_one_and_different_ones_are_an_error(engine: Engine) -> None:
    rows = klines(engine, "AUSDT")
    names = [*COLUMNS, *rows.feed.schema.series]
    found = pl.concat(rows.batches(times("2025-07-01 12:00"), HOUR, list(dict.fromkeys(names))))
    copies = pl.concat([found, found.with_columns(file=pl.lit("copy").cast(pl.Categorical))])
    assert rows.unique(copies, [SYMBOL]).drop("file").equals(found.drop("file"))
    changed = found.head(1).with_columns(pl.col("close") + 1)
    with pytest.raises(WrongValues, match="two different rows of AUSDT"):
        rows.unique(pl.concat([found, changed]), [SYMBOL])


def test_rows_of_a_frame_are_joined_as_they_are() -> None:
    frame = pl.DataFrame({KNOWN_AT: times("2025-07-02", "2025-07-01"), "value": [2, 1]})
    rows = FrameRows(frame.lazy(), pl.col("value") < 2)
    assert (rows.columns, rows.has_symbols) == (["value"], False)
    rows.choose([], None, named=False)
    [batch] = rows.batches(times("2025-07-02"), None, ["value"])
    assert batch["value"].to_list() == [1]
    assert rows.first_known("") == at("2025-07-01")
    assert rows.nothing().is_empty()
    with pytest.raises(ConfigurationError, match="does not say when the next one is due"):
        _ = rows.age
    with pytest.raises(ConfigurationError, match="known_at"):
        FrameRows(frame.lazy().drop(KNOWN_AT), None)


def test_a_condition_is_checked_before_any_row_is_read(engine: Engine) -> None:
    with pytest.raises(ConfigurationError, match="where: not possible"):
        FeedRows(engine, "spot", "klines", pl.col("absent") > 1)
    with pytest.raises(ConfigurationError, match="is not an expression"):
        FeedRows(engine, "spot", "klines", "close > 1")  # type: ignore[arg-type]


def test_times_need_a_zone() -> None:
    zoned = pl.Series("t", [datetime(2025, 7, 1, tzinfo=UTC)]).dt.convert_time_zone("Asia/Tokyo")
    frame = pl.DataFrame([zoned])
    assert frame.select(as_utc(frame.schema, "t", "on"))["t"].to_list() == [at("2025-07-01")]
    with pytest.raises(ConfigurationError, match="has no time zone"):
        as_utc(frame.select(pl.col("t").dt.replace_time_zone(None)).schema, "t", "on")
