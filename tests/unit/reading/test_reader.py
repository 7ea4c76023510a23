"""Files of every feed in every dialect read the same by view, by scan and by hand."""

from __future__ import annotations

import os
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit import errors
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import Schema, load_schemas, schema
from binance_archive_kit.errors import ArchiveKitWarning, FileError
from binance_archive_kit.reading import unzip
from binance_archive_kit.reading.reader import SMALL
from binance_archive_kit.reading.unzip import CHUNK
from tests.support.dialects import (
    Dialect,
    dialects_of,
    header_of,
    keys_of,
    write,
    zip_of,
)
from tests.support.stores import (
    Rows,
    assert_same,
    assert_typed,
    csv_for,
    in_order,
    kline,
    naive_rows,
    of_partition,
    other,
    promised,
    put,
    scan_rows,
    schema_of,
    view_of,
    view_rows,
)

FEEDS = sorted(load_schemas())


@pytest.fixture(params=FEEDS, ids=lambda feed: f"{feed[0]}-{feed[1]}")
def feed(request: pytest.FixtureRequest) -> Schema:
    """Each feed in turn."""
    return schema(*request.param)


def assert_reads(root: Path, keys: list[ObjectKey], con: duckdb.DuckDBPyConnection) -> Rows:
    """View, scan and the naive reader give the same rows of files of one feed."""
    found = schema_of(keys[0])
    expected = promised(naive_rows(root, *in_order(keys)), found)
    lazy = bak.scan(root, found.market, found.data_type, cache=False)
    assert_same(scan_rows(lazy), expected)
    assert_same(view_rows(con, view_of(keys[0])), expected)
    assert_typed(con, lazy, found)
    return expected


@pytest.fixture
def con(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a store that has nothing yet."""
    with bak.connect(tmp_path, cache=False) as con:
        yield con


@pytest.fixture(scope="module", params=Partition)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Partition, Path, duckdb.DuckDBPyConnection]]:
    """Open a store for the daily files of all feeds, and one for the monthly ones."""
    root = tmp_path_factory.mktemp("store")
    with bak.connect(root, cache=False) as con:
        yield request.param, root, con


# Every dialect


def test_a_folder_of_all_dialects_reads_as_by_hand(
    feed: Schema, shared: tuple[Partition, Path, duckdb.DuckDBPyConnection]
) -> None:
    """Several symbols and intervals, with empty files and files of one row among them."""
    partition, root, con = shared
    keys = of_partition(keys_of(feed), partition)
    if not keys:
        return  # the feed has only daily files, or only monthly ones
    dialects = dialects_of(feed)
    # Enough files for every dialect to be there.
    keys += [ObjectKey(key.folder, _before(key)) for key in keys[: len(dialects)]]
    keys = sorted(set(keys))
    for at, key in enumerate(keys):
        put(root, key, (7, 0, 1, 30)[at % 4], dialect=dialects[at % len(dialects)])
    assert len(assert_reads(root, keys, con)) > 10


def _before(key: ObjectKey) -> date:
    """Begin a period earlier."""
    day = key.start - timedelta(days=1)
    return day if key.folder.partition is Partition.DAILY else day.replace(day=1)


@st.composite
def stores(draw: st.DrawFn) -> dict[ObjectKey, tuple[Dialect, int, int]]:
    """Draw some files of one feed, each with a dialect, a number of rows and a seed."""
    found = schema(*draw(st.sampled_from(FEEDS)))
    partition = draw(st.sampled_from([key.folder.partition for key in keys_of(found)]))
    keys = st.sampled_from(of_partition(keys_of(found), partition))
    spelled = st.tuples(
        st.sampled_from(dialects_of(found)), st.integers(0, 40), st.integers(0, 2**32)
    )
    return draw(st.dictionaries(keys, spelled, min_size=1, max_size=4))


@settings(max_examples=20)
@given(stores())
def test_any_store_reads_as_by_hand(drawn: dict[ObjectKey, tuple[Dialect, int, int]]) -> None:
    with TemporaryDirectory() as folder, bak.connect(folder, cache=False) as con:
        for key, (dialect, rows, seed) in drawn.items():
            put(Path(folder), key, rows, seed=seed, dialect=dialect)
        assert_reads(Path(folder), list(drawn), con)


def test_a_feed_of_empty_files_has_no_rows(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    keys = [kline("BTCUSDT", day) for day in ("2025-07-01", "2025-07-02")]
    for key in keys:
        put(tmp_path, key, 0)
    assert assert_reads(tmp_path, keys, con) == []


def long_csv(key: ObjectKey, rows: int) -> bytes:
    """Spell many trades quickly, hard to compress."""
    chance = random.Random(str(key))
    begin = int(datetime.combine(key.start, datetime.min.time(), UTC).timestamp()) * 10**6
    numbers = [chance.getrandbits(180) for _ in range(rows)]
    return "".join(
        f"{at},{n % 10**15}e-8,{n >> 60 & 0xFFFFFFFFFFFF}.5,{n >> 120}.25,{begin + at * 400_000},"
        "True,False\n"
        for at, n in enumerate(numbers)
    ).encode()


def test_files_may_be_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems return less than they are asked for."""
    for number in (1, 2):
        put(tmp_path, kline("QQAUSDT", f"2025-07-0{number}"))
    expected = bak.scan(tmp_path, "spot", "klines", cache=False).collect()
    read = os.read
    monkeypatch.setattr(unzip.os, "read", lambda file, size: read(file, min(size, 100)))
    assert bak.scan(tmp_path, "spot", "klines", cache=False).collect().equals(expected)


def test_a_large_file_reads_as_by_hand(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    """Large files are inflated and parsed piece by piece."""
    key = other("trades", "BTCUSDT", "2025-07-01", "spot")
    csv = long_csv(key, 200_000)
    assert len(csv) > CHUNK
    path = write(tmp_path, key, zip_of(key, csv))
    assert path.stat().st_size > SMALL
    expected = naive_rows(tmp_path, key)
    assert len(expected) == 200_000
    assert_same(scan_rows(bak.scan(tmp_path, "spot", "trades", cache=False)), expected)
    assert_same(view_rows(con, "spot_trades"), expected)


def test_times_of_a_mixed_folder_are_right_around_the_change_of_unit(tmp_path: Path) -> None:
    for day in ("2024-12-31", "2025-01-01"):
        put(tmp_path, kline("BTCUSDT", day))
    frame = bak.load_klines(tmp_path, "BTCUSDT", "1h", cache=False)
    steps = frame["open_time"].diff().drop_nulls().unique().to_list()
    assert steps == [timedelta(hours=1)]
    ends = (frame["close_time"] - frame["open_time"]).unique().sort().to_list()
    assert ends == [timedelta(hours=1, milliseconds=-1), timedelta(hours=1, microseconds=-1)]


def test_rows_of_a_sorted_feed_come_in_order_even_if_a_file_breaks_it(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    def reverse(csv: bytes) -> bytes:
        return b"".join(reversed(csv.splitlines(keepends=True)))

    keys = [kline("BTCUSDT", day) for day in ("2025-07-01", "2025-07-02")]
    for key in keys:
        put(tmp_path, key, edit=reverse)
    times = [str(row[6]) for row in assert_reads(tmp_path, keys, con)]
    assert times == sorted(times)


def test_empty_text_is_null_however_it_is_spelled(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    def empty(all_: list[str]) -> list[str]:
        for at, nothing in ((1, ""), (2, '""')):
            row = all_[at].split(",")
            all_[at] = ",".join([row[0], row[1], nothing, nothing, *row[4:]])
        return all_

    key = other("liquidationSnapshot", "BTCUSDT", "2023-06-25")
    put(tmp_path, key, edit=lines(empty))
    rows = assert_reads(tmp_path, [key], con)
    assert [row[8:10] for row in rows[:3]] == [(None, None), (None, None), ("LIMIT", "IOC")]


@pytest.mark.parametrize("name", ["futures/um/klines", "spot/trades", "option/EOHSummary"])
def test_decimals_are_exact(name: str, tmp_path: Path) -> None:
    market, _, data_type = name.rpartition("/")
    key = next(
        key
        for found in load_schemas().values()
        for key in keys_of(found)
        if (found.market.path, found.data_type) == (market, data_type)
    )
    put(tmp_path, key, 30, dialect=Dialect(header=schema_of(key).header == "present"))
    expected = exact(tmp_path, key)
    found = schema_of(key)
    names = ", ".join(f'"{name}"' for name in expected)
    with bak.connect(tmp_path, cache=False, decimals=True) as con:
        told = con.sql(f"SELECT {names} FROM {view_of(key)}")
        assert set(map(str, told.types)) == {"DECIMAL(38,18)"}
        assert told.fetchall() == list(zip(*expected.values(), strict=True))
    lazy = bak.scan(tmp_path, found.market, found.data_type, cache=False, decimals=True)
    frame = lazy.select(*expected).collect()
    assert set(frame.dtypes) == {pl.Decimal(38, 18)}
    assert {name: frame[name].to_list() for name in expected} == expected


def exact(root: Path, key: ObjectKey) -> dict[str, list[Decimal | None]]:
    """Read the decimals of a file as they are written."""
    with zipfile.ZipFile(root / str(key)) as archive:
        lines = archive.read(key.member).decode().splitlines()
    rows = [line.split(",") for line in lines if line[0].isdigit()]
    return {
        column.column: [Decimal(text) if text not in ("", '""') else None for text in texts]
        for column, texts in zip(schema_of(key).columns, zip(*rows, strict=True), strict=True)
        if column.dtype == "float64" and not column.dropped
    }


# What is wrong with a file has a name


def lines(change: Callable[[list[str]], list[str]]) -> Callable[[bytes], bytes]:
    """Make a change of a csv of a change of its lines."""
    return lambda csv: "".join(f"{line}\n" for line in change(csv.decode().splitlines())).encode()


def cells(change: Callable[[list[str]], list[str]], at: int = 2) -> Callable[[bytes], bytes]:
    """Change the fields of one line."""
    return lines(lambda all_: [*all_[:at], ",".join(change(all_[at].split(","))), *all_[at + 1 :]])


def torn(all_: list[str]) -> list[str]:
    """Move fields from the end of a row to the end of the next one: the commas are as many."""
    short, long = all_[2].split(","), all_[3].split(",")
    return [*all_[:2], ",".join(short[:-4]), ",".join(long + short[-4:]), *all_[4:]]


def in_unit(factor: Callable[[int], int]) -> Callable[[bytes], bytes]:
    """Give the times of candles in another unit."""

    def change(line: str) -> str:
        row = line.split(",")
        row[0], row[6] = str(factor(int(row[0]))), str(factor(int(row[6])))
        return ",".join(row)

    return lines(lambda all_: [change(line) for line in all_])


def a_day_later(row: list[str]) -> list[str]:
    return [str(int(row[0]) + 86_400_000_000), *row[1:]]


SPOT = kline("BADUSDT", "2025-07-02")
OLD = kline("BADUSDT", "2024-07-02")
METRICS = other("metrics", "BADUSDT", "2025-07-02")
UM = kline("BADUSDT", "2025-07-02", market="futures/um")
FOREIGN = header_of(schema_of(METRICS))

SPOILED: dict[str, tuple[ObjectKey, type[FileError], Callable[[bytes], bytes]]] = {
    "a missing column": (
        SPOT,
        errors.WrongColumns,
        lines(lambda all_: [line.rpartition(",")[0] for line in all_]),
    ),
    "an extra column": (
        SPOT,
        errors.WrongColumns,
        lines(lambda all_: [f"{line},0" for line in all_]),
    ),
    "a row too short and one too long": (SPOT, errors.WrongColumns, lines(torn)),
    "a row too short": (SPOT, errors.WrongColumns, cells(lambda row: row[:-1])),
    "a row too long": (SPOT, errors.WrongColumns, cells(lambda row: [*row, "0"])),
    "a last row cut off": (SPOT, errors.WrongColumns, lambda csv: csv[:-30]),
    "a last row cut off after a comma": (SPOT, errors.WrongColumns, lambda csv: csv[:-2]),
    "the header of another feed": (
        UM,
        errors.WrongColumns,
        lines(lambda all_: [FOREIGN, *all_[1:]]),
    ),
    "a page of html": (SPOT, errors.WrongColumns, lambda _: b"<html>\n<p>Busy</p>\n</html>\n"),
    "a garbage price": (SPOT, errors.WrongValues, cells(lambda row: [row[0], "n/a", *row[2:]])),
    "a garbage time": (SPOT, errors.WrongValues, cells(lambda row: ["soon", *row[1:]])),
    "no time": (SPOT, errors.WrongValues, cells(lambda row: ["", *row[1:]])),
    "a garbage time as text": (
        METRICS,
        errors.WrongValues,
        cells(lambda row: ["2025-07-02 25:61:00", *row[1:]]),
    ),
    "another symbol": (
        METRICS,
        errors.WrongValues,
        cells(lambda row: [row[0], "ETHUSDT", *row[2:]]),
    ),
    "times of no unit": (OLD, errors.OutOfPeriod, in_unit(lambda ms: ms // 1_000)),
    "one row in another unit": (
        SPOT,
        errors.WrongUnit,
        cells(lambda row: [row[0][:-3], *row[1:]]),
    ),
    "a row of the next day": (SPOT, errors.OutOfPeriod, cells(a_day_later)),
    "the rows of another day": (
        SPOT,
        errors.OutOfPeriod,
        lambda _: csv_for(kline("BADUSDT", "2025-07-03")),
    ),
}


def spoiled_zip(name: str) -> bytes:
    body = zip_of(SPOT, csv_for(SPOT))
    match name:
        case "a flipped byte":
            return body[:400] + bytes([body[400] ^ 0x10]) + body[401:]
        case "a truncated zip":
            return body[: len(body) * 2 // 3]
        case "a zip that lacks its end":
            return body[:-10]
        case "a page of html called zip":
            return b"<html><body>503 Slow Down</body></html>"
        case "nothing at all":
            return b""
        case "the zip of another day":
            return zip_of(kline("BADUSDT", "2025-07-03"), csv_for(SPOT))
        case "a wrong size in the directory":
            at = body.rindex(b"PK\x01\x02") + 24
            size = struct.unpack_from("<I", body, at)[0]
            return body[:at] + struct.pack("<I", size - 1) + body[at + 4 :]
    raise ValueError(name)


ZIPS = [
    "a flipped byte",
    "a truncated zip",
    "a zip that lacks its end",
    "a page of html called zip",
    "nothing at all",
    "the zip of another day",
    "a wrong size in the directory",
]


def spoil(root: Path, name: str) -> tuple[ObjectKey, type[FileError]]:
    """Put a bad file into a store, and good ones beside it: of its symbol, and of another."""
    if name in ZIPS:
        key, error = SPOT, errors.UnreadableZip
        write(root, key, spoiled_zip(name))
    else:
        key, error, edit = SPOILED[name]
        put(root, key, edit=edit)
    for good in good_beside(key):
        put(root, good)
    return key, error


def good_beside(key: ObjectKey) -> list[ObjectKey]:
    named = str(key).replace("BADUSDT", "OKUSDT")
    return [ObjectKey(key.folder, key.start + timedelta(days=7)), ObjectKey.parse(named)]


@pytest.mark.parametrize("name", [*SPOILED, *ZIPS])
def test_what_is_wrong_is_told_by_name_and_spoils_nothing_else(name: str, tmp_path: Path) -> None:
    key, error = spoil(tmp_path, name)
    market, data_type = key.folder.market, key.folder.data_type
    lazy = bak.scan(tmp_path, market, data_type, cache=False)
    with pytest.raises(error, match="force_redownload") as raised:
        lazy.collect()
    assert type(raised.value) is error
    assert raised.value.file == str(key)
    assert str(key) in str(raised.value)
    good = good_beside(key)
    expected = [naive_rows(tmp_path, each) for each in good]
    assert_same(
        scan_rows(lazy.filter(pl.col("date") > key.end + timedelta(days=1), symbol="BADUSDT")),
        expected[0],
    )
    assert_same(scan_rows(lazy.filter(symbol="OKUSDT")), expected[1])
    with bak.connect(tmp_path, cache=False) as con:
        view = view_of(key)
        with pytest.raises(duckdb.Error, match=error.__name__) as told:
            view_rows(con, view)
        assert str(key) in str(told.value)
        assert "force_redownload" in str(told.value)
        later = f"symbol = 'BADUSDT' AND date >= '{key.end + timedelta(days=2)}'"
        assert_same(view_rows(con, view, later), expected[0])
        assert_same(view_rows(con, view, "symbol = 'OKUSDT'"), expected[1])


@pytest.mark.parametrize("name", [*SPOILED, *ZIPS])
def test_a_bad_file_can_be_left_out_loudly(name: str, tmp_path: Path) -> None:
    key, error = spoil(tmp_path, name)
    store = bak.store(tmp_path, cache=False, on_error="skip")
    expected = naive_rows(tmp_path, *good_beside(key))
    with pytest.warns(ArchiveKitWarning, match=f"left out: {key}"):
        assert_same(scan_rows(bak.scan(store, key.folder.market, key.folder.data_type)), expected)
    assert {file: type(problem) for file, problem in store.problems.items()} == {str(key): error}


@pytest.mark.parametrize("columns", ["count(*)", "count(DISTINCT symbol)", "min(high)"])
@pytest.mark.parametrize("name", ["a row too short", "the rows of another day", "a flipped byte"])
def test_a_bad_file_is_not_counted_however_little_is_asked_of_it(
    name: str, columns: str, tmp_path: Path
) -> None:
    key, error = spoil(tmp_path, name)
    with (
        bak.connect(tmp_path, cache=False) as con,
        pytest.raises(duckdb.Error, match=error.__name__),
    ):
        con.sql(f"SELECT {columns} FROM {view_of(key)}").fetchall()


def test_rows_that_were_only_counted_are_checked_when_they_are_read(tmp_path: Path) -> None:
    key, error = spoil(tmp_path, "a row of the next day")
    with bak.connect(tmp_path) as con:
        rows = sum(len(naive_rows(tmp_path, each)) for each in (key, *good_beside(key)))
        assert con.sql(f"SELECT count(*) FROM {view_of(key)}").fetchall() == [(rows,)]
        for columns in ("max(date)", "min(high)"):
            with pytest.raises(duckdb.Error, match=error.__name__):
                con.sql(f"SELECT {columns} FROM {view_of(key)}").fetchall()


@pytest.mark.parametrize("name", ["a garbage price", "a flipped byte"])
def test_a_bad_file_can_be_left_out_of_views(name: str, tmp_path: Path) -> None:
    key, error = spoil(tmp_path, name)
    with bak.connect(tmp_path, cache=False, on_error="skip") as con:
        with pytest.warns(ArchiveKitWarning, match=f"left out: {key}"):
            assert_same(view_rows(con, view_of(key)), naive_rows(tmp_path, *good_beside(key)))
        told = con.sql("SELECT file, reason FROM store_problems").fetchall()
        assert told == [(str(key), error.reason)]


def test_a_large_bad_file_gives_none_of_its_rows(tmp_path: Path) -> None:
    """What is wrong stands in its last piece, when the first could be long handed out."""
    key = other("trades", "BADUSDT", "2025-07-01", "spot")
    good = other("trades", "OKUSDT", "2025-07-01", "spot")
    path = write(tmp_path, key, zip_of(key, long_csv(key, 200_000)[:-2]))
    put(tmp_path, good)
    assert path.stat().st_size > SMALL
    with pytest.raises(errors.WrongValues):
        bak.scan(tmp_path, "spot", "trades", cache=False).collect()
    with pytest.warns(ArchiveKitWarning, match=str(key)):
        rows = scan_rows(bak.scan(tmp_path, "spot", "trades", cache=False, on_error="skip"))
    assert_same(rows, naive_rows(tmp_path, good))


def with_a_garbage_price(csv: bytes) -> bytes:
    """Spoil what no count shows: a price of the last piece."""
    *rows, last = csv.splitlines(keepends=True)
    spoiled = rows[-1].split(b",")
    spoiled[1] = b"x"
    return b"".join([*rows[:-1], b",".join(spoiled), last])


def test_of_two_large_bad_files_the_first_is_named(tmp_path: Path) -> None:
    """The second is inflated while the first is parsed still."""
    first, second = (
        other("trades", "BADUSDT", day, "spot") for day in ("2025-07-01", "2025-07-02")
    )
    write(tmp_path, first, zip_of(first, with_a_garbage_price(long_csv(first, 200_000))))
    write(tmp_path, second, zip_of(second, long_csv(second, 200_000))[:-10])
    with pytest.raises(errors.WrongValues, match=str(first)):
        bak.scan(tmp_path, "spot", "trades", cache=False).collect()


def test_a_large_bad_file_is_left_out_of_counts_too(tmp_path: Path) -> None:
    key = other("trades", "BADUSDT", "2025-07-01", "spot")
    good = other("trades", "OKUSDT", "2025-07-01", "spot")
    path = write(tmp_path, key, zip_of(key, with_a_garbage_price(long_csv(key, 200_000))))
    put(tmp_path, good)
    assert path.stat().st_size > SMALL
    store = bak.store(tmp_path, cache=False, on_error="skip")
    scan = bak.scan(store, "spot", "trades")
    good_rows = naive_rows(tmp_path, good)
    with pytest.warns(ArchiveKitWarning, match=str(key)):
        assert scan.select(pl.len()).collect().item() == len(good_rows)
    assert_same(scan_rows(scan), good_rows)
    assert scan.select(pl.len()).collect().item() == len(good_rows)
