"""Files whose text is unusual and has one meaning only are read, and say what is unusual."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit import errors
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import Schema, load_schemas, schema
from binance_archive_kit.errors import FileError
from binance_archive_kit.reading.file_stats import FileStats, Irregularity
from binance_archive_kit.storage.proof import Expected, prove
from binance_archive_kit.storage.store import Store
from tests.support.dialects import Dialect, dialects_of, header_of, keys_of, write, zip_of
from tests.support.pieces import large
from tests.support.stores import (
    assert_same,
    csv_for,
    kline,
    naive_rows,
    other,
    promised,
    put,
    scan_rows,
    schema_of,
    view_of,
    view_rows,
)

FEEDS = sorted(load_schemas())
Lines = list[str]
Odd = Irregularity


def in_pieces(cut: bool) -> AbstractContextManager[None]:
    """Read every file as a large one, in pieces of some rows, or leave that as it is."""
    return large(1 << 20) if cut else nullcontext()


# Edits of lines: the header is among them if there is one


def _is_header(line: str) -> bool:
    return line[:1].isalpha()


def with_header(found: Schema, lines: Lines) -> Lines:
    return lines if lines and _is_header(lines[0]) else [header_of(found), *lines]


def extra_columns(found: Schema, lines: Lines, dice: random.Random) -> Lines:
    """Add columns that the header names, here and there."""
    header, *rows = (line.split(",") for line in with_header(found, lines))
    for name in ("venue", "note"):
        at = dice.randrange(len(header) + 1)
        header.insert(at, name)
        for row in rows:
            row.insert(at, dice.choice(("7", "x y", "1e5")))
    return [",".join(row) for row in (header, *rows)]


def another_order(found: Schema, lines: Lines, dice: random.Random) -> Lines:
    table = [line.split(",") for line in with_header(found, lines)]
    own = [at for at, name in enumerate(table[0]) if name not in ("venue", "note")]
    order = list(range(len(table[0])))
    while [at for at in order if at in own] == own:
        dice.shuffle(order)
    return [",".join(row[at] for at in order) for row in table]


def renamed(found: Schema, lines: Lines, dice: random.Random) -> Lines:
    header, *rows = with_header(found, lines)
    words = header.split(",")
    if dice.randrange(2):
        words[dice.randrange(len(words))] = "somethingnew"
    else:
        words = [word.replace("_", " ").title() for word in words]
    return [",".join(words), *rows]


def blank_lines(found: Schema, lines: Lines, dice: random.Random) -> Lines:
    lines = list(lines)
    for _ in range(dice.randint(1, 3)):
        lines.insert(dice.randrange(len(lines) + 1), dice.choice(("", "  ", "\t")))
    return lines


LINES: dict[Irregularity, Callable[[Schema, Lines, random.Random], Lines]] = {
    Odd.EXTRA_COLUMNS: extra_columns,
    Odd.OTHER_HEADER: another_order,
    Odd.BLANK_LINE: blank_lines,
}
TEXTS: dict[Irregularity, Callable[[bytes], bytes]] = {
    Odd.CARRIAGE_RETURN: lambda csv: csv.replace(b"\n", b"\r\n"),
    Odd.BYTE_ORDER_MARK: lambda csv: b"\xef\xbb\xbf" + csv,
    Odd.NO_FINAL_NEWLINE: lambda csv: csv.rstrip(b"\r\n"),
}


def in_other_unit(found: Schema, csv: bytes) -> bytes:
    """Give all times since 1970 in the other unit."""
    columns = (found.time.column, *found.time.others)
    at = [n for n, column in enumerate(found.columns) if column.column in columns]
    lines = csv.decode().splitlines()
    for n, line in enumerate(lines):
        if not _is_header(line):
            row = line.split(",")
            for place in at:
                value = int(row[place])
                row[place] = str(value * 1_000 if value < 10**14 else value // 1_000)
            lines[n] = ",".join(row)
    return "".join(f"{line}\n" for line in lines).encode()


def edited(found: Schema, csv: bytes, odd: set[Irregularity], dice: random.Random) -> bytes:
    lines = csv.decode().splitlines()
    for irregularity, edit in LINES.items():
        if irregularity in odd:
            lines = edit(found, lines, dice)
    csv = "".join(f"{line}\n" for line in lines).encode()
    for irregularity, change in TEXTS.items():
        if irregularity in odd:
            csv = change(csv)
    return csv


def facts_of(store: bak.OpenStore, key: ObjectKey) -> FileStats:
    feed = store.engine.feed(key.folder.market, key.folder.data_type)
    return store.engine.known.stats(feed)[str(key)]


def assert_reads_as(root: Path, key: ObjectKey, expected: list[tuple[object, ...]]) -> None:
    """View, scan and count agree, whatever is asked first, and from the second time on too."""
    market, data_type = key.folder.market, key.folder.data_type
    for first in ("count", "rows", "coverage"):
        store = bak.store(root, cache=False)
        lazy = bak.scan(store, market, data_type)
        with bak.connect(store) as con:
            count = f"SELECT count(*) FROM {view_of(key)}"
            if first == "count":
                assert con.sql(count).fetchall() == [(len(expected),)]
            elif first == "coverage":
                bak.coverage(store)
                assert store.problems == {}
            assert_same(view_rows(con, view_of(key)), expected)
            assert_same(scan_rows(lazy), expected)
            assert con.sql(count).fetchall() == [(len(expected),)]
            assert facts_of(store, key).rows == len(expected)


@st.composite
def irregular(draw: st.DrawFn) -> tuple[ObjectKey, Dialect, set[Irregularity], int, int, bool]:
    found = schema(*draw(st.sampled_from(FEEDS)))
    key = draw(st.sampled_from(keys_of(found)))
    dialect = draw(st.sampled_from(dialects_of(found)))
    odd = draw(st.sets(st.sampled_from([*LINES, *TEXTS, Odd.UNEXPECTED_UNIT]), min_size=1))
    if found.time.kind != "epoch" or key.folder.interval is not None:
        # Candles of the last unit end at 999999, which milliseconds do not have.
        odd -= {Odd.UNEXPECTED_UNIT}
    if dialect.ignoring:
        # One of several columns of one name cannot be told apart from the others.
        odd -= {Odd.EXTRA_COLUMNS, Odd.OTHER_HEADER}
    if Odd.BLANK_LINE in odd:
        # Where the last line is blank, the last row has its end.
        odd -= {Odd.NO_FINAL_NEWLINE}
    return (
        key,
        dialect,
        odd,
        draw(st.integers(1, 40)),
        draw(st.integers(0, 99)),
        draw(st.booleans()),
    )


@settings(max_examples=100)
@given(irregular())
def test_unusual_text_is_read_as_the_usual_one(
    drawn: tuple[ObjectKey, Dialect, set[Irregularity], int, int, bool],
) -> None:
    key, dialect, odd, rows, seed, cut = drawn
    found = schema_of(key)
    csv = csv_for(key, rows, seed, dialect)
    if csv.count(b"\n") <= 2:
        # The end of the only row may be the one that is missing.
        odd -= {Odd.CARRIAGE_RETURN}
    if Odd.UNEXPECTED_UNIT in odd:
        csv = in_other_unit(found, csv)
    with TemporaryDirectory() as usual, TemporaryDirectory() as unusual, in_pieces(cut):
        write(Path(usual), key, zip_of(key, csv))
        expected = promised(naive_rows(Path(usual), key), found)
        write(Path(unusual), key, zip_of(key, edited(found, csv, odd, random.Random(seed))))
        if not expected:
            odd -= {Odd.UNEXPECTED_UNIT, Odd.CARRIAGE_RETURN, Odd.NO_FINAL_NEWLINE}
        assert_reads_as(Path(unusual), key, expected)
        store = bak.store(unusual, cache=False)
        bak.scan(store, key.folder.market, key.folder.data_type).collect()
        assert facts_of(store, key).irregularities == odd


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("seed", range(8))
def test_a_header_that_calls_a_column_otherwise_is_read(
    seed: int, cut: bool, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    found = schema(*dice.choice(FEEDS))
    key = keys_of(found)[0]
    csv = csv_for(key, dialect=dialects_of(found)[0])
    write(tmp_path / "usual", key, zip_of(key, csv))
    text = "".join(f"{line}\n" for line in renamed(found, csv.decode().splitlines(), dice))
    write(tmp_path / "unusual", key, zip_of(key, text.encode()))
    with in_pieces(cut):
        expected = promised(naive_rows(tmp_path / "usual", key), found)
        assert_reads_as(tmp_path / "unusual", key, expected)


DOCUMENTED = (
    "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,"
    "Taker buy base asset volume,Taker buy quote asset volume,Ignore"
)


def test_a_header_in_the_words_of_the_documentation_is_read(tmp_path: Path) -> None:
    key = kline("BTCUSDT", "2025-07-01")
    write(tmp_path, key, zip_of(key, f"{DOCUMENTED}\n".encode() + csv_for(key)))
    write(tmp_path / "usual", key, zip_of(key, csv_for(key)))
    assert_reads_as(tmp_path, key, naive_rows(tmp_path / "usual", key))


UM = kline("BTCUSDT", "2025-07-01", market="futures/um")


@pytest.mark.parametrize(
    "change",
    [
        lambda words: [*words[:2], "foo", "bar", *words[4:]],  # which of two?
        lambda words: [*words[:4], words[5], words[5], *words[6:]],  # one twice
        lambda words: words[:-2],  # two that are missing
        lambda words: [*words[:1], "qty", *words[2:]],  # a word of another feed
        lambda words: [*words[:1], "foo", *words[3:], words[2]],  # moved and renamed
    ],
)
def test_a_header_that_may_mean_two_things_is_rejected(
    change: Callable[[list[str]], list[str]], tmp_path: Path
) -> None:
    def edit(csv: bytes) -> bytes:
        header, _, rest = csv.partition(b"\n")
        return ",".join(change(header.decode().split(","))).encode() + b"\n" + rest

    put(tmp_path, UM, edit=edit)
    with pytest.raises(errors.WrongColumns, match="its header should be"):
        bak.scan(tmp_path, "futures_um", "klines", cache=False).collect()


# The next midnight


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("period", ["2025-07-15", "2025-07"])
def test_a_row_of_the_next_midnight_is_left_to_the_next_file(
    period: str, cut: bool, tmp_path: Path
) -> None:
    """Whether the next file is there or not, no answer depends on what else is asked."""
    key = kline("BTCUSDT", period)
    rows = 24 if period.count("-") == 2 else 31 * 24
    following = ObjectKey(key.folder, key.end + timedelta(days=1))
    first_of_next = csv_for(following, rows).splitlines(keepends=True)[0]
    with in_pieces(cut):
        put(tmp_path, key, rows, edit=lambda csv: csv + first_of_next)
        put(tmp_path / "usual", key, rows)
        assert_reads_as(tmp_path, key, naive_rows(tmp_path / "usual", key))
        store = bak.store(tmp_path, cache=False)
        bak.scan(store, "spot", "klines").collect()
        assert facts_of(store, key).irregularities == {Odd.NEXT_MIDNIGHT}
        report = bak.coverage(store)
        assert report.gaps.is_empty(), report
        put(tmp_path, following, rows)
        frame = bak.scan(store, "spot", "klines").collect()
        assert frame["open_time"].is_unique().all()
        one_day = frame.filter(pl.col("date") == following.start)
        again = bak.scan(store, "spot", "klines", start=following.start, end=following.start)
        assert again.collect().equals(one_day)


def test_trades_of_the_next_midnight_are_left_out(tmp_path: Path) -> None:
    key = other("trades", "BTCUSDT", "2025-07-15", "spot")
    midnight = int(datetime(2025, 7, 16).timestamp()) * 10**6
    late = f"9999999999,1.0,1.0,1.0,{midnight},True,True\n".encode()
    put(tmp_path, key, edit=lambda csv: csv + late)
    put(tmp_path / "usual", key)
    assert_reads_as(tmp_path, key, naive_rows(tmp_path / "usual", key))


# Units


@pytest.mark.parametrize("day", ["2024-10-21", "2024-12-31", "2025-01-01", "2025-07-01"])
@pytest.mark.parametrize("market", ["spot", "futures/um"])
def test_the_unit_of_candles_is_told_by_their_magnitude(
    day: str, market: str, tmp_path: Path
) -> None:
    key = kline("BTCUSDT", day, market=market)
    write(tmp_path, key, zip_of(key, in_other_unit(schema_of(key), csv_for(key))))
    frame = bak.load_klines(tmp_path, "BTCUSDT", "1h", market=f"{key.folder.market}", cache=False)
    begin = datetime.fromisoformat(f"{day}T00:00+00:00")
    assert frame["open_time"].to_list() == [begin + timedelta(hours=n) for n in range(24)]
    store = bak.store(tmp_path, cache=False)
    bak.scan(store, key.folder.market, "klines").collect()
    assert facts_of(store, key).irregularities == {Odd.UNEXPECTED_UNIT}


def test_many_files_of_the_other_unit_are_read_together_the_second_time(tmp_path: Path) -> None:
    keys = [kline("BTCUSDT", f"2024-10-{day:02}") for day in range(1, 29)]
    for key in keys:
        csv = csv_for(key)
        if key.start.day % 2:
            csv = in_other_unit(schema_of(key), csv)
        write(tmp_path, key, zip_of(key, csv))
    expected = naive_rows(tmp_path, *keys)
    store = bak.store(tmp_path, cache=False)
    for _ in range(2):
        assert_same(scan_rows(bak.scan(store, "spot", "klines")), expected)


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("at", [0, 5, 23])
def test_two_units_in_one_file_are_rejected(at: int, cut: bool, tmp_path: Path) -> None:
    def edit(csv: bytes) -> bytes:
        rows = csv.decode().splitlines()
        rows[at] = re.sub(r"^\d+", lambda time: str(int(time[0]) // 1_000), rows[at])
        return "".join(f"{row}\n" for row in rows).encode()

    key = kline("BTCUSDT", "2025-07-01")
    put(tmp_path, key, edit=edit)
    with in_pieces(cut), pytest.raises(errors.WrongUnit, match="open_time holds"):
        bak.scan(tmp_path, "spot", "klines", cache=False).collect()


# What stays wrong


def test_a_bad_value_is_never_excused_by_what_is_unusual(tmp_path: Path) -> None:
    key = kline("BTCUSDT", "2025-07-01")
    for value in (b"0x10", b"=1+1", b"1_0", b"1\x00", b"n/a"):
        put(tmp_path, key, edit=lambda csv: b"\xef\xbb\xbf\n" + _second_price(csv, value) + b"\n")  # noqa: B023
        with pytest.raises(FileError, match="could not parse"):
            bak.scan(tmp_path, "spot", "klines", cache=False).collect()


def _second_price(csv: bytes, value: bytes) -> bytes:
    rows = csv.split(b"\n")
    cells = rows[1].split(b",")
    cells[2] = value
    return b"\n".join([rows[0], b",".join(cells), *rows[2:]])


def test_every_irregularity_has_a_meaning() -> None:
    assert all(each.meaning for each in Irregularity)


def test_what_is_unusual_is_remembered_by_another_process(tmp_path: Path) -> None:
    key = kline("BTCUSDT", "2025-07-01")
    put(tmp_path, key, edit=lambda csv: b"\xef\xbb\xbf" + csv[:-1])
    bak.scan(tmp_path, "spot", "klines").collect()
    store = bak.store(tmp_path)
    assert facts_of(store, key).irregularities == {Odd.BYTE_ORDER_MARK, Odd.NO_FINAL_NEWLINE}


# Whose fault it is


def test_an_error_says_whether_the_archive_is_at_fault(tmp_path: Path) -> None:
    key = kline("BTCUSDT", "2025-07-01")
    put(tmp_path, key, edit=lambda csv: csv.replace(b"\n", b",0\n", 1))
    with pytest.raises(FileError, match="collect it again with force_redownload=True") as local:
        bak.scan(tmp_path, "spot", "klines", cache=False).collect()
    assert not local.value.at_source
    store = Store(tmp_path)
    digest = hashlib.sha256((tmp_path / str(key)).read_bytes()).hexdigest()
    with store.records.recorder() as record:
        record([prove(str(key), tmp_path / str(key), Expected(None, None, digest))])
    with pytest.raises(FileError, match="force_redownload=True gives the same bytes") as source:
        bak.scan(tmp_path, "spot", "klines", cache=False).collect()
    assert source.value.at_source
    with bak.connect(tmp_path) as con:
        for _ in range(2):
            with pytest.raises(duckdb.Error, match="the archive publishes it like this"):
                con.sql("SELECT sum(volume) FROM spot_klines").fetchall()


def test_decimals_of_too_many_places_are_rejected_and_never_rounded(tmp_path: Path) -> None:
    key = other("trades", "BTCUSDT", "2025-07-15", "spot")
    market, data_type = Market.SPOT, DataType.TRADES
    numbers = {
        "0.1234567890123456785": False,
        "1.5E-18": False,
        "1E-19": False,
        "0.100000000000000000000000": True,
        "1.500E-18": False,
        "2.000E-17": True,
        "0E-25": True,
        "12345678901234567890.123456789012345678": True,
    }
    for number, is_exact in numbers.items():
        put(tmp_path, key, edit=lambda csv: _second_price(csv, number.encode()))  # noqa: B023
        for ask in (pl.len(), pl.col("price"), pl.col("qty")):
            lazy = bak.scan(tmp_path, market, data_type, cache=False, decimals=True).select(ask)
            if is_exact:
                lazy.collect()
                continue
            with pytest.raises(errors.WrongValues, match="more than 18 decimal places"):
                lazy.collect()
        bak.scan(tmp_path, market, data_type, cache=False).collect()
