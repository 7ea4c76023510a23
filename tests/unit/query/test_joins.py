"""What was known when, and joins that never see more than that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, ObjectKey, Stream
from binance_archive_kit.archive.schemas import load_schemas, schema
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.query.joins import STATUSES
from binance_archive_kit.reading.cadence import label_offset
from binance_archive_kit.reading.feed_table import feed_table
from binance_archive_kit.reading.known_times import known_at_of
from binance_archive_kit.timestamps import DAY, MINUTE, to_day_number
from tests.support import naive
from tests.support.dialects import csv_of, rows_of, usual_dialect, write, zip_of
from tests.support.stores import csv_for, kline, other, put

FEEDS = sorted(load_schemas())
MILLI = timedelta(milliseconds=1)

Row = dict[str, Any]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# When each row of each feed is known, once more and by other means


def keys_of(market: Market, data_type: DataType) -> list[ObjectKey]:
    """Name the files of two days in a row, or of two months."""
    days = {
        DataType.METRICS: (date(2026, 6, 24), date(2026, 6, 25)),
        DataType.BOOK_TICKER: (date(2023, 5, 16), date(2023, 5, 17)),
        DataType.LIQUIDATION_SNAPSHOT: (date(2023, 6, 25), date(2023, 6, 26)),
        DataType.EOH_SUMMARY: (date(2023, 10, 20), date(2023, 10, 21)),
        DataType.FUNDING_RATE: (date(2025, 5, 1), date(2025, 6, 1)),
    }.get(data_type, (date(2024, 12, 31), date(2025, 1, 1)))
    partition = Partition.MONTHLY if data_type is DataType.FUNDING_RATE else Partition.DAILY
    symbol = {Market.FUTURES_CM: "BTCUSD_PERP"}.get(market, "BTCUSDT")
    if data_type is DataType.BVOL_INDEX:
        symbol = "BTCBVOLUSDT"
    if (market, data_type) == (Market.FUTURES_CM, DataType.INDEX_PRICE_KLINES):
        symbol = "BTCUSD"
    interval = Interval.H1 if data_type.has_intervals else None
    return [
        ObjectKey(Folder(Stream(market, data_type, symbol, interval), partition), day)
        for day in days
    ]


def known_naively(key: ObjectKey, row: Row) -> datetime:
    """When a row was known, from the archive's facts; of whole files as the archive makes them."""
    match key.folder.data_type:
        case DataType.METRICS:
            by_end = key.folder.market is Market.FUTURES_UM and key.start < date(2026, 6, 25)
            found = row["create_time"] + timedelta(minutes=0 if by_end else 5)
        case DataType.EOH_SUMMARY:
            found = row["time"] + timedelta(hours=1)
        case DataType.BOOK_TICKER:
            found = max(row["transaction_time"], row["event_time"])
        case data_type if data_type.has_intervals:
            found = row["open_time"] + timedelta(hours=1)
        case DataType.BOOK_DEPTH:
            found = row["timestamp"]
        case DataType.FUNDING_RATE | DataType.BVOL_INDEX:
            found = row["calc_time"]
        case DataType.AGG_TRADES:
            found = row["transact_time"]
        case _:
            found = row["time"]
    known: datetime = found.replace(tzinfo=UTC)
    return known


def files_of(root: Path, keys: Iterable[ObjectKey], rows: int = 60) -> list[tuple[datetime, Row]]:
    """Write files of invented rows; return these with the moments they were known at."""
    found = []
    for key in keys:
        put(root, key, rows)
        found += [(known_naively(key, row), row) for row in naive.read(root / str(key), key)]
    return found


@pytest.fixture(params=FEEDS, ids=lambda feed: f"{feed[0]}-{feed[1]}")
def any_feed(request: pytest.FixtureRequest) -> tuple[Market, DataType]:
    """Each feed in turn."""
    market, data_type = request.param
    return Market(market), DataType(data_type)


def test_every_row_of_every_feed_says_when_it_was_known(
    any_feed: tuple[Market, DataType], tmp_path: Path
) -> None:
    rows = files_of(tmp_path, keys_of(*any_feed))
    scanned = bak.scan(tmp_path, *any_feed, known_at=True).collect()
    assert scanned.schema["known_at"] == pl.Datetime("us", "UTC")
    assert sorted(scanned["known_at"]) == sorted(known for known, _ in rows)
    raw = bak.scan(tmp_path, *any_feed).collect()
    assert raw.columns == scanned.columns[:-1]
    assert bak.known_at(raw, *any_feed)["known_at"].to_list() == scanned["known_at"].to_list()
    assert (scanned["known_at"] >= scanned[feed_table(*any_feed).time]).all()


def test_views_say_the_same_as_scans(any_feed: tuple[Market, DataType], tmp_path: Path) -> None:
    keys = keys_of(*any_feed)
    files_of(tmp_path, keys)
    feed = feed_table(*any_feed)
    scanned = bak.scan(tmp_path, *any_feed, known_at=True).collect()
    found = bak.sql(tmp_path, f"FROM {feed.view}", known_at=True)
    assert found.columns == scanned.columns
    both = [feed.time, "file", "known_at"]
    as_text = pl.col("file").cast(pl.String)
    one, other_ = (each.select(both).with_columns(as_text).sort(both) for each in (found, scanned))
    assert one.equals(other_)
    # A condition that leaves some rows of a file does not change what its labels show.
    time = scanned[feed.time].sort()[len(scanned) // 2]
    some = f"SELECT known_at FROM {feed.view} WHERE {feed.time} >= $1 ORDER BY 1"
    part = bak.sql(tmp_path, some, [time], known_at=True)["known_at"]
    assert part.to_list() == scanned.filter(pl.col(feed.time) >= time)["known_at"].sort().to_list()
    assert "known_at" not in bak.sql(tmp_path, f"FROM {feed.view} LIMIT 0").columns


def test_a_range_of_a_scan_sees_the_same(any_feed: tuple[Market, DataType], tmp_path: Path) -> None:
    files_of(tmp_path, keys_of(*any_feed))
    whole = bak.scan(tmp_path, *any_feed, known_at=True).collect()
    time = feed_table(*any_feed).time
    first, last = whole[time].sort()[len(whole) // 3], whole[time].sort()[len(whole) // 2]
    part = bak.scan(tmp_path, *any_feed, start=first, end=last, known_at=True).collect()
    expected = whole.filter((pl.col(time) >= first) & (pl.col(time) < last))
    assert part.sort(part.columns).equals(expected.sort(expected.columns))
    late = bak.scan(tmp_path, *any_feed, known_at=True).filter(pl.col(time) >= last).collect()
    expected = whole.filter(pl.col(time) >= last)
    assert late.sort(late.columns).equals(expected.sort(expected.columns))


@settings(max_examples=60, deadline=None)
@given(
    market=st.sampled_from([Market.FUTURES_UM, Market.FUTURES_CM]),
    day=st.dates(date(2026, 6, 20), date(2026, 6, 30)),
    slots=st.lists(st.integers(-2, 290), min_size=1, max_size=40),
)
def test_labels_are_read_as_coverage_reads_them(
    market: Market, day: date, slots: list[int]
) -> None:
    times = np.array(sorted(slots)) * 5 * MINUTE + to_day_number(day) * DAY
    shift = label_offset(market, DataType.METRICS, day, times)
    frame = pl.DataFrame(
        {
            "create_time": pl.Series(times).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "file": [f"data/futures/um/daily/metrics/X/X-metrics-{day}.zip"] * len(times),
        }
    )
    found = frame.select(
        known_at_of(feed_table(market, DataType.METRICS)) - pl.col("create_time")
    ).to_series()
    assert found.to_list() == [timedelta(microseconds=5 * MINUTE - shift)] * len(times)


@pytest.mark.parametrize(
    ("opened", "closed", "known"),
    [
        # In milliseconds, in microseconds, and cut short by the halts of 2018.
        ("2020-01-01 00:00", "2020-01-01 00:00:59.999", "2020-01-01 00:01"),
        ("2026-05-08 00:00", "2026-05-08 00:59:59.999999", "2026-05-08 01:00"),
        ("2018-01-04 03:00", "2018-01-04 03:00:14.838", "2018-01-04 03:00:14.839"),
        ("2018-02-09 09:28:14.789", "2018-02-09 10:28:14.788", "2018-02-09 10:28:14.789"),
        ("2026-05-08 00:00", "2026-05-08 00:12:41.646123", "2026-05-08 00:12:41.646124"),
        ("2024-02-01 00:00", "2024-02-29 23:59:59.999", "2024-03-01 00:00"),
        # A close before the open says nothing.
        ("2020-01-01 00:01", "2020-01-01 00:00:59.999", None),
    ],
)
def test_a_candle_is_known_at_its_close(opened: str, closed: str, known: str | None) -> None:
    frame = pl.DataFrame({"open_time": [utc(opened)], "close_time": [utc(closed)]})
    found = bak.known_at(frame, "spot", "klines")["known_at"].to_list()
    assert found == [known and utc(known)]


def test_two_rows_of_one_label_are_known_at_two_times(tmp_path: Path) -> None:
    keys = [other("metrics", "BTCUSDT", day) for day in ("2026-06-24", "2026-06-25")]
    files_of(tmp_path, keys, rows=288)
    rows = bak.scan(tmp_path, "futures_um", "metrics", known_at=True).filter(
        pl.col("create_time") == utc("2026-06-25")
    )
    found = rows.sort("known_at").select("file", "known_at").collect()
    assert [file[-14:-4] for file in found["file"]] == ["2026-06-24", "2026-06-25"]
    assert found["known_at"].to_list() == [utc("2026-06-25"), utc("2026-06-25 00:05")]


@pytest.mark.parametrize(
    ("feed", "frame", "message"),
    [
        (("spot", "klines"), {"open_time": [utc("2025-01-01")]}, "no column 'close_time'"),
        (("futures_um", "metrics"), {"create_time": [utc("2025-01-01")]}, "no column 'file'"),
        (("spot", "trades"), {"time": [datetime(2025, 1, 1)]}, "frame: time.*replace_time_zone"),
        (("spot", "trades"), {"time": [date(2025, 1, 1)]}, "has no time zone"),
        (("spot", "metrics"), {"time": [utc("2025-01-01")]}, "data type of spot: 'metrics'"),
    ],
)
def test_what_cannot_be_known_is_refused(
    feed: tuple[str, str], frame: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        bak.known_at(pl.DataFrame(frame), *feed)


# Joins


def chosen(data_type: DataType) -> tuple[dict[str, Any], Callable[[Row], bool]]:
    """One row for each time: of the book one band, of options the first of a file."""
    if data_type is DataType.BOOK_DEPTH:
        return {"where": pl.col("percentage") == -1.0}, lambda row: row["percentage"] == -1.0
    return {}, lambda row: True


def joined_naively(
    moments: list[datetime], rows: list[tuple[datetime, Row]], age: timedelta | None
) -> list[list[Row]]:
    """Give for each moment the rows that are the latest known by then, all that are equal."""
    found = []
    for at in moments:
        seen = [known for known, _ in rows if known <= at and (age is None or known >= at - age)]
        last = max(seen, default=None)
        found.append([row for known, row in rows if known == last])
    return found


def moments_about(rows: list[tuple[datetime, Row]], dice: random.Random) -> list[datetime]:
    """Choose moments in any order: at, before and after those at which rows were known."""
    known = [known for known, _ in rows]
    steps = [timedelta(0), -timedelta(microseconds=1), MILLI, timedelta(minutes=4)]
    found = [dice.choice(known) + dice.choice(steps) for _ in range(60)]
    return [*found, min(known) - timedelta(days=1), max(known) + timedelta(days=40)]


@pytest.mark.parametrize("age", ["due", None, timedelta(minutes=7)], ids=str)
def test_joins_give_the_latest_row_known(
    any_feed: tuple[Market, DataType], tmp_path: Path, age: timedelta | str | None
) -> None:
    market, data_type = any_feed
    keys = keys_of(*any_feed)
    rows = files_of(tmp_path, keys)
    how, is_chosen = chosen(data_type)
    if data_type is DataType.EOH_SUMMARY:
        option = rows[0][1]["option_symbol"]
        how = {"where": pl.col("option_symbol") == option}
        rows = [(known, row) for known, row in rows if row["option_symbol"] == option]
    rows = [(known, row) for known, row in rows if is_chosen(row)]
    moments = moments_about(rows, random.Random(str(any_feed)))
    left = pl.DataFrame({"at": moments, "n": range(len(moments))}, schema_overrides={"n": pl.Int64})
    joined = bak.join_known(
        left,
        tmp_path,
        market,
        data_type,
        on="at",
        symbol=keys[0].folder.symbol,
        tolerance=age,
        **how,
    )
    assert joined.columns[:2] == ["at", "n"]
    assert joined["at"].to_list() == moments
    if age == "due":
        assert set(joined["known_status"]) <= {"known", "not_yet_known", "too_old"}
        return
    assert not isinstance(age, str)
    first = min(known for known, _ in rows)
    own = list(feed_table(*any_feed).columns)
    expected = joined_naively(moments, rows, age)
    for found, candidates in zip(joined.to_dicts(), expected, strict=True):
        values = {name: found[name] for name in own}
        if candidates:
            assert found["known_status"] == "known"
            times = {name for name in own if isinstance(values[name], datetime)}
            plain = {
                name: value.replace(tzinfo=None) if name in times else value
                for name, value in values.items()
            }
            assert plain in [{name: row[name] for name in own} for row in candidates]
        else:
            assert set(values.values()) == {None}
            assert found["known_status"] == ("too_old" if found["at"] >= first else "not_yet_known")


def test_rows_known_later_never_change_a_join(
    any_feed: tuple[Market, DataType], tmp_path: Path
) -> None:
    market, data_type = any_feed
    keys = keys_of(*any_feed)
    rows = files_of(tmp_path, keys)
    how, _ = chosen(data_type)
    if data_type is DataType.EOH_SUMMARY:
        how = {"where": pl.col("option_symbol") == rows[0][1]["option_symbol"]}
    known = sorted(known for known, _ in rows)
    at = known[int(len(known) * 0.7)]
    moments = [at - timedelta(minutes=minutes) for minutes in range(0, 3000, 97)]
    left = pl.DataFrame({"at": moments})

    def join() -> pl.DataFrame:
        return bak.join_known(
            left, tmp_path, market, data_type, on="at", symbol=keys[0].folder.symbol, **how
        )

    before = join()
    assert before["known_status"].eq("known").any()
    # Later rows are replaced by others, whole files of them are exchanged.
    for key in keys:
        found = schema(market, data_type)
        made = rows_of(found, key, 60, random.Random(f"{key} 0"))
        others = rows_of(found, key, 60, random.Random(f"{key} others"))
        put(tmp_path, key, 60)
        texts = csv_of(found, key, made, usual_dialect(found, key)).splitlines(keepends=True)
        strange = csv_of(found, key, others, usual_dialect(found, key)).splitlines(keepends=True)
        head = len(texts) - len(made)
        is_later = [known_naively(key, row) > at for row in naive.read(tmp_path / str(key), key)]
        lines = texts[:head]
        for later, line, instead in zip(is_later, texts[head:], strange[head:], strict=False):
            lines.append(
                _with_values_of(line, instead, found.time.column, found) if later else line
            )
        write(tmp_path, key, zip_of(key, b"".join(lines)))
    assert join().equals(before)


def _with_values_of(line: bytes, other_line: bytes, time: str, found: Any) -> bytes:
    """Take the values of another row, but the times and what identifies the row of this one."""
    mine, others = line.rstrip(b"\n").split(b","), other_line.rstrip(b"\n").split(b",")
    kept = [column.measures == "identity" for column in found.columns]
    both = [a if keep else b for a, b, keep in zip(mine, others, kept, strict=True)]
    return b",".join(both) + b"\n"


MOMENTS = st.datetimes(datetime(2025, 1, 1), datetime(2025, 1, 2)).map(
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)
KNOWN = st.lists(st.tuples(st.sampled_from("AB"), MOMENTS, st.integers(0, 99)), max_size=30)


@settings(max_examples=200, deadline=None)
@given(
    rows=KNOWN,
    decisions=st.lists(st.tuples(st.sampled_from("ABC"), st.none() | MOMENTS), max_size=20),
    minutes=st.none() | st.integers(0, 300),
)
def test_frames_are_joined_symbol_by_symbol(
    rows: list[tuple[str, datetime, int]],
    decisions: list[tuple[str, datetime | None]],
    minutes: int | None,
) -> None:
    time = pl.Datetime("us", "UTC")
    right = pl.DataFrame(
        rows, schema={"symbol": pl.String, "known_at": time, "value": pl.Int64}, orient="row"
    )
    left = pl.DataFrame(decisions, schema={"symbol": pl.String, "at": time}, orient="row")
    age = None if minutes is None else timedelta(minutes=minutes)
    joined = bak.join_known(left, right, on="at", tolerance=age)
    assert joined.select("symbol", "at").equals(left)
    for (symbol, at), found in zip(decisions, joined.to_dicts(), strict=True):
        own = [(known, value) for of, known, value in rows if of == symbol]
        if at is None:
            assert (found["known_status"], found["value"]) == ("no_time", None)
            continue
        past = [each for each in own if each[0] <= at]
        last = max((known for known, _ in past), default=None)
        if last is not None and (age is None or last >= at - age):
            assert found["known_status"] == "known"
            assert found["known_at"] == last
            # Of equals the last one given.
            assert found["value"] == [value for known, value in own if known == last][-1]
        else:
            status = "too_old" if past else "not_yet_known" if own else "no_rows"
            assert (found["known_status"], found["known_at"]) == (status, None)


@settings(max_examples=100, deadline=None)
@given(rows=KNOWN, changed=KNOWN, cut=MOMENTS, moments=st.lists(MOMENTS, min_size=1, max_size=9))
def test_what_comes_later_in_a_frame_changes_nothing(
    rows: list[tuple[str, datetime, int]],
    changed: list[tuple[str, datetime, int]],
    cut: datetime,
    moments: list[datetime],
) -> None:
    def frame(found: list[tuple[str, datetime, int]]) -> pl.DataFrame:
        types = {"known_at": pl.Datetime("us", "UTC"), "value": pl.Int64()}
        return pl.DataFrame([row[1:] for row in found], schema=types, orient="row")

    past = [row for row in rows if row[1] <= cut]
    later = [row for row in changed if row[1] > cut]
    left = pl.DataFrame({"at": [at for at in moments if at <= cut] or [cut]})
    before = bak.join_known(left, frame([*rows]), on="at", tolerance="2h")
    after = bak.join_known(left, frame([*past, *later]), on="at", tolerance="2h")
    assert after.drop("known_status").equals(before.drop("known_status"))


# Several symbols, other names, what is not there


@pytest.fixture
def futures(tmp_path: Path) -> Path:
    """Metrics, depth and trades of two contracts, and candles of both."""
    for symbol in ("BTCUSDT", "ETHUSDT"):
        put(tmp_path, other("metrics", symbol, "2026-09-12"), rows=288, seed=symbol)
        put(tmp_path, other("bookDepth", symbol, "2026-09-12"), rows=240, seed=symbol)
        put(tmp_path, kline(symbol, "2026-09-12", "1h", "futures/um"), seed=symbol)
        put(tmp_path, kline(symbol, "2026-09-12", "1m", "futures/um"), rows=1440, seed=symbol)
    return tmp_path


def hours(*symbols: str) -> pl.DataFrame:
    times = pl.datetime_range(utc("2026-09-12"), utc("2026-09-12 23:00"), "1h", eager=True)
    return pl.concat(
        pl.DataFrame({"open_time": times}).with_columns(symbol=pl.lit(symbol)) for symbol in symbols
    )


def test_each_symbol_gets_its_own_rows(futures: Path) -> None:
    both = bak.join_known(hours("ETHUSDT", "BTCUSDT"), futures, "um", "metrics")
    for symbol in ("BTCUSDT", "ETHUSDT"):
        alone = bak.join_known(
            hours(symbol).drop("symbol"), futures, "um", "metrics", symbol=symbol
        )
        part = both.filter(pl.col("symbol") == symbol).drop("symbol")
        assert part.equals(alone)
    other_names = hours("ETHUSDC").with_columns(pl.col("symbol").cast(pl.Categorical))
    mapped = bak.join_known(other_names, futures, "um", "metrics", symbol={"ETHUSDC": "ETHUSDT"})
    assert mapped["sum_open_interest"].equals(
        both.filter(pl.col("symbol") == "ETHUSDT")["sum_open_interest"]
    )


def test_stock_columns_of_start_labels_are_known_five_minutes_later(futures: Path) -> None:
    joined = bak.join_known(hours("BTCUSDT"), futures, "um", "metrics")
    first, *others = joined.to_dicts()
    assert (first["known_status"], first["sum_open_interest"]) == ("not_yet_known", None)
    for row in others:
        assert row["create_time"] == row["open_time"] - timedelta(minutes=5)
        assert row["known_at"] == row["open_time"]


def test_symbols_that_the_store_lacks_say_so(futures: Path) -> None:
    joined = bak.join_known(hours("BTCUSDT", "XRPUSDT"), futures, "um", "metrics")
    status = dict(joined.group_by("symbol").agg(pl.col("known_status").last()).rows())
    assert status == {"BTCUSDT": "known", "XRPUSDT": "no_rows"}
    with pytest.raises(ConfigurationError, match=r"XRPUSDT.*not in the store.*BTCUSDT, ETH"):
        bak.join_known(hours("XRPUSDT"), futures, "um", "metrics")
    with pytest.raises(ConfigurationError, match=r"XRPUSDT.*not in the store.*BTCUSDT, ETH"):
        bak.join_known(hours("BTCUSDT", "XRPUSDT"), futures, "um", "metrics", symbol="XRPUSDT")


def test_values_count_until_the_next_is_due(futures: Path) -> None:
    late = pl.DataFrame({"at": [utc("2026-09-13 00:00"), utc("2026-09-13 00:06:30")]})
    of_btc: dict[str, Any] = {"on": "at", "symbol": "BTCUSDT", "columns": "sum_open_interest"}
    due = bak.join_known(late, futures, "um", "metrics", **of_btc)
    assert due["known_status"].to_list() == ["known", "too_old"]
    assert due["sum_open_interest"].is_null().to_list() == [False, True]
    for tolerance in (None, "90m", timedelta(hours=1)):
        found = bak.join_known(late, futures, "um", "metrics", tolerance=tolerance, **of_btc)
        assert found["known_status"].to_list() == ["known", "known"]


def test_bands_are_chosen_or_matched(futures: Path) -> None:
    left = (
        hours("BTCUSDT")
        .head(3)
        .with_columns(band=pl.Series([[-1.0, 5.0]] * 3, dtype=pl.List(pl.Float64)))
        .explode("band")
        .rename({"band": "percentage"})
    )
    with pytest.raises(ConfigurationError, match=r"differ by 'percentage'.*where=.*by="):
        bak.join_known(left.drop("percentage"), futures, "um", "bookDepth")
    matched = bak.join_known(left, futures, "um", "bookDepth", by="percentage", tolerance=None)
    for band in (-1.0, 5.0):
        alone = bak.join_known(
            left.filter(pl.col("percentage") == band).drop("percentage"),
            futures,
            "um",
            "bookDepth",
            where=pl.col("percentage") == band,
            columns=["depth"],
            tolerance=None,
        )
        assert alone["depth"].equals(matched.filter(pl.col("percentage") == band)["depth"])


def earlier(text: bytes, days: int) -> bytes:
    """Let candles begin and end so many days before."""
    lines = [line.split(b",") for line in text.splitlines(keepends=True)]
    for line in lines:
        for at in (0, 6):
            line[at] = str(int(line[at]) - days * DAY).encode()
    return b"".join(b",".join(line) for line in lines)


@pytest.mark.parametrize(("interval", "days"), [("3d", 3), ("1w", 7), ("1mo", 0)])
@pytest.mark.parametrize("tolerance", ["due", None])
def test_long_candles_that_begin_before_their_month_are_seen(
    tmp_path: Path, interval: str, days: int, tolerance: str | None
) -> None:
    key = kline("BTCUSDT", "2025-02", interval)
    put(tmp_path, key, edit=lambda text: earlier(text, days))
    rows: list[Row] = list(naive.read(tmp_path / str(key), key))
    candles = [
        (row["open_time"].replace(tzinfo=UTC), row["close_time"].replace(tzinfo=UTC) + MILLI)
        for row in rows
    ]
    ends = [end.replace(microsecond=0) for _, end in candles]
    assert (candles[0][0] < utc("2025-02-01")) == bool(days)
    left = pl.DataFrame({"at": [ends[0] - timedelta(seconds=1), *ends]})
    found = bak.join_known(
        left, tmp_path, "spot", "klines", on="at", symbol="BTCUSDT", tolerance=tolerance
    )
    assert found["open_time"].to_list() == [None, *(opened for opened, _ in candles)]
    assert found["known_status"].to_list() == ["not_yet_known", *["known"] * len(candles)]


def test_repeats_count_once_and_contradictions_are_named(futures: Path) -> None:
    key = other("metrics", "BTCUSDT", "2026-09-12")
    before = bak.join_known(hours("BTCUSDT"), futures, "um", "metrics")
    put(
        futures,
        key,
        rows=288,
        seed="BTCUSDT",
        edit=lambda text: text + b"".join(text.splitlines(keepends=True)[5:9]),
    )
    assert bak.join_known(hours("BTCUSDT"), futures, "um", "metrics").equals(before)

    def contradict(text: bytes) -> bytes:
        line = text.splitlines(keepends=True)[7].split(b",")
        return text + b",".join([*line[:2], b"12345.678", *line[3:]])

    put(futures, key, rows=288, seed="BTCUSDT", edit=contradict)
    with pytest.raises(bak.FileError, match=r"metrics-2026-09-12.*two different rows of BTCUSDT"):
        bak.join_known(hours("BTCUSDT"), futures, "um", "metrics")
    opened = bak.store(futures, on_error="skip")
    with pytest.warns(bak.ArchiveKitWarning, match="two different rows of BTCUSDT.*both left out"):
        found = bak.join_known(hours("BTCUSDT"), opened, "um", "metrics", tolerance=None)
    assert list(opened.problems) == [str(key)]
    assert len(found) == 24
    # What was known just then is gone, and the row before it still counts.
    label = csv_for(key, 288, "BTCUSDT").splitlines()[7].split(b",")[0].decode()
    just_then = utc(label) + timedelta(minutes=5)
    left = pl.DataFrame({"at": [just_then]})
    with pytest.warns(bak.ArchiveKitWarning, match="both left out"):
        found = bak.join_known(
            left, opened, "um", "metrics", on="at", symbol="BTCUSDT", tolerance=None
        )
    assert found["known_at"].to_list() == [just_then - timedelta(minutes=5)]


def test_names_that_are_taken_get_a_suffix(futures: Path) -> None:
    candles = bak.load_klines(futures, "BTCUSDT", "1h", market="um")
    once = bak.join_known(candles, futures, "um", "klines", symbol="BTCUSDT", interval="1m")
    assert once["close_klines"].drop_nulls().len()
    assert {"known_at", "known_status", "open_time_klines"} <= set(once.columns)
    twice = bak.join_known(once, futures, "um", "metrics", symbol="BTCUSDT", suffix="_oi")
    assert {"known_at_oi", "known_status_oi", "sum_open_interest"} <= set(twice.columns)
    with pytest.raises(ConfigurationError, match="suffix: '' makes 'known_at'"):
        bak.join_known(once, futures, "um", "metrics", symbol="BTCUSDT", suffix="")


def test_a_candle_never_sees_the_one_it_opens(futures: Path) -> None:
    candles = bak.load_klines(futures, "BTCUSDT", "1h", market="um")
    own = bak.join_known(candles, futures, "um", "klines", symbol="BTCUSDT", interval="1h")
    assert own["close_klines"].to_list() == [None, *candles["close"].to_list()[:-1]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"on": "at"}, "on: column of left: 'at'"),
        ({"on": pl.lit("x")}, "on: String has no time zone"),
        ({"on": pl.col("open_time").dt.replace_time_zone(None)}, "on: .*replace_time_zone"),
        ({"on": pl.col("nothing")}, "on: not possible with left"),
        ({"on": pl.lit(1.5)}, "on: .*has no time zone; .*Datetime with a time zone"),
        ({"on": 5}, "on: 5 is neither"),
        ({"columns": 5}, "columns: 5 is neither"),
        ({"by": 5}, "by: 5 is neither"),
        ({"where": "percentage > 1"}, "where: .* is not an expression"),
        ({"where": pl.col("nothing") > 1}, 'where: .*column "nothing"$'),
        ({"where": pl.col("create_time")}, "where: not possible"),
        ({"tolerance": 5}, "tolerance: 5 is not a length"),
        ({"market": ["um"]}, "market: .* is not valid"),
        ({"data_type": ["metrics"]}, "data type of futures_um: .* is not valid"),
        ({"data_type": "klines", "interval": ["1h"]}, "interval: .* is not valid"),
        ({"data_type": "klines", "interval": "2h"}, "'2h' is not in the store.*To add it"),
        ({"columns": ["open_interest"]}, "columns: column of futures_um_metrics"),
        ({"by": "percentage"}, "by: column of left"),
        ({"interval": "1h"}, "interval: futures_um_metrics has none"),
        ({"tolerance": "soon"}, "tolerance: 'soon' is not a length"),
        ({"tolerance": timedelta(minutes=-1)}, "tolerance: .*negative"),
        ({"tolerance": 90}, "tolerance: 90 is not a length"),
        ({"by": [5]}, "by: 5 is not a name"),
        ({"symbol": ["BTCUSDT"]}, r"symbol: \['BTCUSDT'\] is neither a name nor a mapping"),
        ({"symbol": {"BTCUSDT": None}}, "symbol: {'BTCUSDT': None} is neither"),
        ({"data_type": "klines", "interval": ["1h"]}, r"interval: \['1h'\] is not valid"),
        ({"symbol": {"ETHUSDT": "ETHUSDT"}}, "symbol: the mapping has no 'BTCUSDT'"),
        ({"data_type": "klines", "interval": "1min"}, "interval: '1min'"),
        ({"data_type": "klines"}, "interval: choose one of 1m, 1h"),
        ({"data_type": None}, "market, data_type: name a feed"),
        ({"data_type": "metric"}, "metrics"),
        ({"prefers": "daily"}, "prefers"),
    ],
)
def test_fields_that_are_invalid_are_named(
    futures: Path, fields: dict[str, Any], message: str
) -> None:
    asked = {"market": "um", "data_type": "metrics"} | fields
    market, data_type = asked.pop("market"), asked.pop("data_type")
    with pytest.raises(ConfigurationError, match=message):
        bak.join_known(hours("BTCUSDT"), futures, market, data_type, **asked)


@pytest.mark.parametrize("left", [None, {"open_time": []}, [1]], ids=str)
def test_what_is_no_frame_is_refused(futures: Path, left: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"left: a .* is not a frame of Polars"):
        bak.join_known(left, futures, "um", "metrics")
    with pytest.raises(ConfigurationError, match=r"frame: a .* is not a frame of Polars"):
        bak.known_at(left, "um", "metrics")
    rows = bak.scan(futures, "um", "metrics", known_at=True)
    with pytest.raises(ConfigurationError, match=r'where: .*column "nothing"$'):
        bak.join_known(hours("BTCUSDT"), rows, where=pl.col("nothing") > 1, tolerance=None)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_decisions_may_be_in_any_zone_and_unit(
    futures: Path, unit: Literal["ms", "us", "ns"]
) -> None:
    usual = bak.join_known(hours("BTCUSDT"), futures, "um", "metrics")
    berlin = pl.col("open_time").dt.cast_time_unit(unit).dt.convert_time_zone("Europe/Berlin")
    left = hours("BTCUSDT").with_columns(berlin)
    found = bak.join_known(left, futures, "um", "metrics")
    assert found["open_time"].dtype == left["open_time"].dtype
    assert found.drop("open_time").equals(usual.drop("open_time"))


def test_a_left_without_symbols_names_one(futures: Path) -> None:
    with pytest.raises(ConfigurationError, match="left has no column 'symbol'"):
        bak.join_known(hours("BTCUSDT").drop("symbol"), futures, "um", "metrics")


def test_a_frame_of_rows_says_when_they_were_known(futures: Path) -> None:
    left = hours("BTCUSDT")
    rows = bak.scan(futures, "um", "metrics", known_at=True).filter(pl.col("sum_open_interest") > 0)
    of_frame = bak.join_known(left, rows, tolerance="6m")
    of_store = bak.join_known(left, futures, "um", "metrics", where=pl.col("sum_open_interest") > 0)
    assert of_frame.equals(of_store.select(of_frame.columns))
    with pytest.raises(ConfigurationError, match="tolerance: a frame"):
        bak.join_known(left, rows)
    with pytest.raises(ConfigurationError, match=r"source: column .*'known_at'"):
        bak.join_known(left, rows.drop("known_at"), tolerance=None)
    with pytest.raises(ConfigurationError, match="market: not for a frame"):
        bak.join_known(left, rows, "um", tolerance=None)


def test_nothing_to_join_joins_nothing(futures: Path) -> None:
    none = bak.join_known(hours("BTCUSDT").head(0), futures, "um", "metrics")
    assert none.is_empty()
    assert "sum_open_interest" in none.columns
    lazy = bak.join_known(hours("BTCUSDT").lazy(), bak.store(futures), "um", "metrics")
    assert len(lazy) == 24
    assert set(lazy["known_status"].cast(pl.String)) <= set(STATUSES)


def test_a_funding_lasts_for_the_hours_that_it_states(tmp_path: Path) -> None:
    key = ObjectKey.parse(
        "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"
    )
    start = int(utc("2025-07-01").timestamp() * 1_000)
    # The funding of 12:00 is missing: nobody knows that at 13:00 but by the hours of the last.
    rows = [f"{start + hours * 3_600_000 + 5},4,0.01\n" for hours in (0, 4, 8, 16)]
    head = "calc_time,funding_interval_hours,last_funding_rate\n"
    write(tmp_path, key, zip_of(key, "".join([head, *rows]).encode()))
    times = [utc("2025-07-01") + timedelta(hours=hour) for hour in range(22)]
    left = pl.DataFrame({"open_time": times})
    found = bak.join_known(left, tmp_path, "um", "fundingRate", symbol="BTCUSDT")
    # A funding is late by some milliseconds, so the hour itself knows the one before.
    known = [hour for hour in range(22) if 0 < hour <= 12 or 16 < hour <= 20]
    statuses = found["known_status"].to_list()
    assert [hour for hour in range(22) if statuses[hour] == "known"] == known
    assert statuses[0] == "not_yet_known"
    assert {statuses[hour] for hour in (13, 14, 15, 16, 21)} == {"too_old"}
    assert found["last_funding_rate"].is_not_null().sum() == len(known)
    columns = ["last_funding_rate"]
    part = bak.join_known(left, tmp_path, "um", "fundingRate", symbol="BTCUSDT", columns=columns)
    assert part["last_funding_rate"].equals(found["last_funding_rate"])
    longer = bak.join_known(left, tmp_path, "um", "fundingRate", symbol="BTCUSDT", tolerance="9h")
    assert longer["known_status"].to_list()[1:] == ["known"] * 21
