"""The generator of archive files and the naive reader of them agree, so both can be believed."""

from __future__ import annotations

import os
import random
import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from binance_archive_kit.archive.digests import read_digest
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import Schema, load_schemas, schema
from binance_archive_kit.storage.zips import check_member
from tests.support import naive
from tests.support.dialects import (
    Dialect,
    Row,
    csv_of,
    dialects_of,
    header_of,
    keys_of,
    rows_of,
    usual_dialect,
    write,
    zip_of,
)

FEEDS = sorted(load_schemas())
SAMPLES = os.environ.get("BINANCE_ARCHIVE_SAMPLES")
SAMPLE_KEYS = (
    sorted(path.relative_to(SAMPLES).as_posix() for path in Path(SAMPLES).rglob("*.zip"))
    if SAMPLES
    else []
)
PLAIN = Dialect(header=False)
TYPES = {"time": datetime, "float64": float, "int64": int, "bool": bool, "text": str}


@pytest.fixture(params=FEEDS, ids=lambda feed: f"{feed[0]}-{feed[1]}")
def feed(request: pytest.FixtureRequest) -> Schema:
    """Each feed in turn."""
    return schema(*request.param)


def key_of(text: str) -> ObjectKey:
    return ObjectKey.parse(f"data/{text}.zip")


def own(found: Schema, row: dict[str, object]) -> list[object]:
    """Take from a row that was read what the generator made of columns that are shown."""
    made = 1 if found.time.made_from else 0
    return list(row.values())[6 : len(row) - made]


def time_of(row: Row, at: int) -> datetime:
    time = row[at]
    assert isinstance(time, datetime)
    return time


def shown(found: Schema, row: Row) -> list[object]:
    """Take from a row that was made what a reader gives back."""
    kept = zip(found.columns, row, strict=True)
    return [
        float(value) if isinstance(value, Decimal) else value
        for column, value in kept
        if not column.dropped and column.column not in ("symbol", "date")
    ]


def assert_reads_back(
    root: Path, found: Schema, key: ObjectKey, rows: list[Row], dialect: Dialect
) -> None:
    path = write(root, key, zip_of(key, csv_of(found, key, rows, dialect)))
    read = naive.read(path, key)
    assert [own(found, row) for row in read] == [shown(found, row) for row in rows]
    assert all(list(row) == naive.columns(found) for row in read)


@pytest.mark.parametrize("count", [0, 1, 30])
def test_every_dialect_reads_back(feed: Schema, count: int, tmp_path: Path) -> None:
    for seed, dialect in enumerate(dialects_of(feed)):
        for key in keys_of(feed)[:3]:
            rows = rows_of(feed, key, count, random.Random(seed))
            assert len(rows) == count or feed.data_type.has_intervals
            assert_reads_back(tmp_path, feed, key, rows, dialect)


def test_every_partition_and_interval_reads_back(feed: Schema, tmp_path: Path) -> None:
    for key in keys_of(feed):
        rows = rows_of(feed, key, 40, random.Random(str(key)))
        assert_reads_back(tmp_path, feed, key, rows, usual_dialect(feed, key))


def test_the_same_seed_gives_the_same_bytes(feed: Schema) -> None:
    key = keys_of(feed)[0]

    def data(seed: int) -> bytes:
        rows = rows_of(feed, key, 20, random.Random(seed))
        return zip_of(key, csv_of(feed, key, rows, usual_dialect(feed, key)))

    assert data(1) == data(1) != data(2)


def test_rows_lie_in_the_period_and_come_in_the_order_of_the_feed(feed: Schema) -> None:
    if feed.time.made_from:
        return  # its day is the file's by construction
    at = [column.column for column in feed.columns].index(feed.time.column)
    for key in keys_of(feed):
        times = [time_of(row, at) for row in rows_of(feed, key, 60, random.Random(3))]
        assert times
        label = timedelta(minutes=5 if feed.data_type is DataType.METRICS else 0)
        begin = datetime.combine(key.start, datetime.min.time())
        end = datetime.combine(key.end + timedelta(days=1), datetime.min.time())
        assert all(begin <= time < end + label for time in times)
        assert (times == sorted(times)) == (feed.sorted or len(times) == 1)


@pytest.mark.parametrize(
    ("key", "count", "first", "last"),
    [
        ("spot/daily/klines/A/1h/A-1h-2025-01-01", 24, "2025-01-01 00:00", "2025-01-01 23:00"),
        ("spot/daily/klines/A/1m/A-1m-2024-12-31", 1_440, "2024-12-31 00:00", "2024-12-31 23:59"),
        ("futures/um/monthly/klines/A/12h/A-12h-2024-02", 58, "2024-02-01 00:00", None),
        ("spot/monthly/klines/A/1w/A-1w-2025-07", 4, "2025-07-07 00:00", "2025-07-28 00:00"),
        ("spot/monthly/klines/A/1mo/A-1mo-2025-07", 1, "2025-07-01 00:00", "2025-07-01 00:00"),
    ],
)
def test_enough_rows_fill_the_grid(key: str, count: int, first: str, last: str | None) -> None:
    parsed = key_of(key)
    found = schema(parsed.folder.market, DataType.KLINES)
    rows = rows_of(found, parsed, 10**6, random.Random(4))
    assert len(rows) == count
    assert rows[0][0] == datetime.fromisoformat(first)
    assert last is None or rows[-1][0] == datetime.fromisoformat(last)
    unit = timedelta(microseconds=1 if parsed.start.year == 2025 else 1_000)
    assert all(time_of(row, 6) + unit == following[0] for row, following in pairwise(rows))


def test_keys_cover_what_a_feed_has(feed: Schema) -> None:
    keys = keys_of(feed)
    assert len(set(keys)) == len(keys)
    assert {(key.folder.market, key.folder.data_type) for key in keys} == {
        (feed.market, feed.data_type)
    }
    intervals = {key.folder.interval for key in keys}
    if feed.data_type.has_intervals:
        seconds = feed.market is Market.SPOT
        assert intervals == set(Interval) - (set() if seconds else {Interval.S1})
    assert {key.folder.partition for key in keys} <= set(Partition)


def test_every_row_of_a_feed_has_its_key_once(feed: Schema) -> None:
    names = [column.column for column in feed.columns]
    for key in keys_of(feed)[1:3]:
        rows = rows_of(feed, key, 200, random.Random(5))
        if feed.key:
            found = {tuple(row[names.index(name)] for name in feed.key) for row in rows}
            assert len(found) == len(rows)


# ---------------------------------------------------------------------------------------
# Spelling
# ---------------------------------------------------------------------------------------


def test_headers_are_those_of_the_schema(feed: Schema) -> None:
    assert header_of(feed) == feed.header_line
    assert all(dialect.header for dialect in dialects_of(feed)) == (feed.header == "present")


def test_a_file_without_rows_and_header_is_empty(feed: Schema) -> None:
    key = keys_of(feed)[0]
    assert csv_of(feed, key, [], PLAIN) == b""
    assert csv_of(feed, key, [], Dialect()) == f"{feed.header_line}\n".encode()


@pytest.mark.parametrize(
    ("dialect", "line"),
    [
        (PLAIN, '2023-06-25 00:05:00,A,5578700.5000000000000000,0.0000000000000000,"","","",-1.5'),
        (Dialect(header=False, padded=False), '2023-06-25 00:05:00,A,5578700.5,0,"","","",-1.5'),
        (Dialect(False, False, quoted_empties=False), "2023-06-25 00:05:00,A,5578700.5,0,,,,-1.5"),
    ],
)
def test_decimals_and_empties_are_spelled_as_told(dialect: Dialect, line: str) -> None:
    key = key_of("futures/cm/daily/metrics/A/A-metrics-2023-06-25")
    interest = Decimal("5578700.50"), Decimal("0E-5")
    row: Row = (datetime(2023, 6, 25, 0, 5), "A", *interest, None, None, None, Decimal("-1.5"))
    text = csv_of(schema(Market.FUTURES_CM, DataType.METRICS), key, [row], dialect).decode()
    assert text.replace("-1.50000000", "-1.5") == f"{line}\n"


@pytest.mark.parametrize(
    ("key", "times", "flag"),
    [
        ("spot/daily/trades/A/A-trades-2024-12-31", "1735689599999", "True"),
        ("spot/daily/trades/A/A-trades-2025-01-01", "1735775999999999", "True"),
        ("futures/um/daily/trades/A/A-trades-2025-01-01", "1735775999999", "true"),
    ],
)
def test_times_and_booleans_are_spelled_as_the_market_does(key: str, times: str, flag: str) -> None:
    parsed = key_of(key)
    found = schema(parsed.folder.market, DataType.TRADES)
    rows = rows_of(found, parsed, 200, random.Random(6))
    text = csv_of(found, parsed, rows, usual_dialect(found, parsed)).decode()
    assert text.splitlines()[-1].split(",")[4] == times
    assert f",{flag}" in text


def test_option_summaries_are_spelled_as_java_does() -> None:
    found = schema(Market.OPTIONS, DataType.EOH_SUMMARY)
    key = keys_of(found)[0]
    rows = rows_of(found, key, 500, random.Random(7))
    cells = set(re.split("[,\n]", csv_of(found, key, rows, Dialect()).decode()))
    assert {"0E-8", "-1E-8", '""'} <= cells
    assert any(re.fullmatch(r"-?\d\.\dE-7", cell) for cell in cells)
    assert all(re.fullmatch(r"BTC-231229-\d+-[CP]", str(row[2])) for row in rows)


# ---------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------


def read_text(root: Path, key: str, text: str) -> list[dict[str, object]]:
    parsed = key_of(key)
    return naive.read(write(root, parsed, zip_of(parsed, text.encode())), parsed)


def test_a_line_written_by_hand_is_read(tmp_path: Path) -> None:
    name = "spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15"
    line = "5086562723,119841.17000000,0.06427000,7702.19199590,1752537600003340,True,False\n"
    assert read_text(tmp_path, name, line) == [
        {
            "market": "spot",
            "symbol": "BTCUSDT",
            "interval": None,
            "date": date(2025, 7, 15),
            "partition": "daily",
            "file": f"data/{name}.zip",
            "id": 5086562723,
            "price": 119841.17,
            "qty": 0.06427,
            "quote_qty": 7702.1919959,
            "time": datetime(2025, 7, 15, 0, 0, 0, 3340),
            "is_buyer_maker": True,
            "is_best_match": False,
        }
    ]


def test_the_columns_of_the_path_replace_the_files_own(tmp_path: Path) -> None:
    name = "futures/um/daily/metrics/A/A-metrics-2026-06-24"
    # The last label of a day may be the first instant of the next one.
    (row,) = read_text(tmp_path, name, "2026-06-25 00:00:00,A,1.0,2,3,4,,6\n")
    assert list(row.items())[6:9] == [
        ("create_time", datetime(2026, 6, 25)),
        ("sum_open_interest", 1.0),
        ("sum_open_interest_value", 2.0),
    ]
    assert (row["symbol"], row["date"], row["count_long_short_ratio"]) == (
        "A",
        date(2026, 6, 25),
        None,
    )


def test_the_hour_of_option_summaries_makes_their_time(tmp_path: Path) -> None:
    name = "option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-10-20"
    cells = ["2023-10-20", "01", "BTC-231229-34000-C", "BTCUSDT", "C", "231229-34000"]
    (row,) = read_text(tmp_path, name, ",".join([*cells, *["-4.0E-7"] * 19, '""']) + "\n")
    assert (row["symbol"], row["date"], row["hour"]) == ("BTCUSDT", date(2023, 10, 20), "01")
    assert list(row.items())[-2:] == [
        ("openinterest_usdt", None),
        ("time", datetime(2023, 10, 20, 1)),
    ]
    assert row["delta"] == -0.0000004


@pytest.mark.parametrize("info_zip", [False, True])
def test_zips_and_sidecars_are_proven(info_zip: bool, feed: Schema, tmp_path: Path) -> None:
    key = keys_of(feed)[0]
    data = zip_of(key, b"1,2\n", info_zip=info_zip)
    path = write(tmp_path, key, data)
    with path.open("rb") as file:
        assert check_member(file, len(data), key.member).size == 4
    sidecar = (tmp_path / key.checksum).read_bytes()
    assert len(str(read_digest(str(key), sidecar))) == 64
    assert sidecar.endswith(b"\n") == (feed.market is not Market.SPOT)
    # Before the member the extra field is longer than in the directory.
    assert (int.from_bytes(data[28:30], "little") == 28) == info_zip


@pytest.mark.skipif(not SAMPLES, reason="BINANCE_ARCHIVE_SAMPLES is not set")
@pytest.mark.parametrize("key", SAMPLE_KEYS)
def test_real_files_are_read(key: str) -> None:
    parsed = ObjectKey.parse(key)
    found = schema(parsed.folder.market, parsed.folder.data_type)
    rows = naive.read(Path(SAMPLES or ".") / key, parsed)
    assert rows
    for row in rows:
        assert list(row) == naive.columns(found)
        day = row["date"]
        assert isinstance(day, date)
        assert parsed.start <= day <= parsed.end
    kinds = {column.column: TYPES[column.dtype] for column in found.kept}
    for name in set(rows[0]) & (kinds.keys() - {"symbol", "date"}):
        assert {type(row[name]) for row in rows} <= {kinds[name], type(None)}
