"""Keys are spelled and parsed in one place, exactly."""

from __future__ import annotations

import os
from datetime import date
from itertools import product
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    CHECKSUM_SUFFIX,
    Folder,
    ObjectKey,
    Stream,
    format_period,
    is_symbol,
    member_of,
    parse_period,
    period_end,
    periods,
)

FEEDS = [
    (market, partition, data_type, interval)
    for market, partition, data_type in product(Market, Partition, DataType)
    for interval in (Interval if data_type.has_intervals else [None])
]
SYMBOLS = [
    "BTCUSDT",
    "BTCUSDT_250926",
    "BTCUSD_PERP",
    "BTCUSD_250926",
    "BTCUSD",
    "1000BONKUSDT",
    "1INCHUSDT",
    "LUNAUSDTSETTLED",
    "ICPUSDT_SETTLED1",
    "BTCBVOLUSDT",
    "币安人生USDT",
    "A-B",
    "BTC-231229-34000-C",
    "A..B",
    "data",
    "1h",
]
symbols = st.one_of(
    st.sampled_from(SYMBOLS),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(is_symbol),
)
KEY = "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-15.zip"


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("day", [date(2024, 2, 1), date(1999, 12, 1)])
def test_every_form_of_key_survives_the_round_trip(symbol: str, day: date) -> None:
    seen = set()
    for feed in FEEDS:
        market, partition, data_type, interval = feed
        key = ObjectKey(Folder(Stream(market, data_type, symbol, interval), partition), day)
        text = str(key)
        assert ObjectKey.parse(text) == key
        assert str(ObjectKey.parse(text)) == text
        assert text.startswith(key.folder.prefix)
        assert key.folder.prefix.startswith(key.folder.parent)
        assert key.folder.prefix.endswith("/")
        assert text.rpartition("/")[2] == key.name
        assert key.member == key.name.removesuffix(".zip") + ".csv" == member_of(text)
        assert key.checksum == text + CHECKSUM_SUFFIX
        seen.add(text)
    assert len(seen) == len(FEEDS)


@given(feed=st.sampled_from(FEEDS), symbol=symbols, day=st.dates())
def test_round_trip(
    feed: tuple[Market, Partition, DataType, Interval | None], symbol: str, day: date
) -> None:
    market, partition, data_type, interval = feed
    start = day.replace(day=1) if partition is Partition.MONTHLY else day
    key = ObjectKey(Folder(Stream(market, data_type, symbol, interval), partition), start)
    parsed = ObjectKey.parse(str(key))
    assert parsed == key
    assert hash(parsed) == hash(key)
    assert key.start <= day <= key.end
    assert parse_period(key.period, partition) == start
    assert not {".", ".."} & set(str(key).split("/"))
    # A sidecar sorts right after its zip, and no other period between them.
    assert str(key) < key.checksum < str(key) + "0"


@given(st.text())
def test_parsed_keys_format_to_the_same_text(text: str) -> None:
    try:
        key = ObjectKey.parse(text)
    except ValueError:
        return
    assert str(key) == text


@given(st.sampled_from(FEEDS), st.integers(0, 200), st.characters(), st.booleans())
def test_a_damaged_key_is_refused_or_is_another_key(
    feed: tuple[Market, Partition, DataType, Interval | None], at: int, letter: str, insert: bool
) -> None:
    market, partition, data_type, interval = feed
    text = str(
        ObjectKey(
            Folder(Stream(market, data_type, "BTCUSDT", interval), partition), date(2025, 7, 1)
        )
    )
    at %= len(text)
    damaged = text[:at] + letter + text[at + (not insert) :]
    assume(damaged != text)
    said = ""
    try:
        assert str(ObjectKey.parse(damaged)) == damaged
    except ValueError as error:
        said = str(error)
    assert said == "" or repr(damaged) in said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "data",
        KEY.rpartition("/")[2],
        "/" + KEY,
        "data2/" + KEY.removeprefix("data/"),
        "data3/liquidationSnapshot/BTCUSDT/BTCUSDT-liquidationSnapshot-2024-03-01.zip",
        "s3://data.binance.vision/" + KEY,
        "./" + KEY,
        "../" + KEY,
        "data/../" + KEY,
        "data//" + KEY.removeprefix("data/"),
        KEY + "/",
        KEY + "\n",
        KEY + CHECKSUM_SUFFIX,
        KEY + ".bad",
        KEY.removesuffix(".zip"),
        KEY.replace(".zip", ".csv"),
        KEY.replace(".zip", ".ZIP"),
        KEY.upper(),
        # Folder and name that do not belong together.
        "data/spot/daily/klines/BTCUSDT/1h/ETHUSDT-1h-2025-07-15.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1m-2025-07-15.zip",
        "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1mo-2025-07-15.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-klines-2025-07-15.zip",
        "data/spot/daily/trades/BTCUSDT/BTCUSDT-aggTrades-2025-07-15.zip",
        "data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT_240329-1h-2025-07-15.zip",
        "data/futures/um/daily/klines/BTCUSDT_240329/1h/BTCUSDT-1h-2025-07-15.zip",
        # Interval where there is none, and none where there is one.
        "data/spot/daily/trades/BTCUSDT/1h/BTCUSDT-1h-2025-07-15.zip",
        "data/spot/daily/trades/BTCUSDT/1h/BTCUSDT-trades-2025-07-15.zip",
        "data/spot/daily/klines/BTCUSDT/BTCUSDT-klines-2025-07-15.zip",
        "data/spot/daily/klines/BTCUSDT/BTCUSDT-1h-2025-07-15.zip",
        "data/spot/monthly/klines/BTCUSDT/1M/BTCUSDT-1M-2025-07.zip",
        "data/spot/daily/klines/BTCUSDT/2m/BTCUSDT-2m-2025-07-15.zip",
        # Periods.
        "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-15.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-02-29.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-13-01.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-00-01.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-0000-01-01.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-20250715.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-W28-2.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-7-15.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-２０２５-07-15.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-15-.zip",
        "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-.zip",
        # Markets and feeds.
        "data/futures/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-15.zip",
        "data/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-15.zip",
        "data/options/daily/BVOLIndex/BTCBVOLUSDT/BTCBVOLUSDT-BVOLIndex-2025-07-15.zip",
        "data/spot/weekly/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip",
        "data/spot/daily/Trades/BTCUSDT/BTCUSDT-Trades-2025-07-15.zip",
        # Symbols that would leave the folder, or be more than one.
        "data/spot/daily/trades/../..-trades-2025-07-15.zip",
        "data/spot/daily/trades/./.-trades-2025-07-15.zip",
        "data/spot/daily/trades//-trades-2025-07-15.zip",
        "data/spot/daily/trades/BTC*/BTC*-trades-2025-07-15.zip",
        "data/spot/daily/trades/a\\b/a\\b-trades-2025-07-15.zip",
        "data/spot/daily/trades/a/b/a/b-trades-2025-07-15.zip",
        "data/spot/daily/trades/a b/a b-trades-2025-07-15.zip",
    ],
)
def test_bad_keys_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the key of an archive file"):
        ObjectKey.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "a*",
        "a?",
        "[a]",
        "a b",
        "a\n",
        "\n",
        "a\x00",
        "a\x7f",
        "'",
        '"',
        "`",
        "<b>",
        "a|b",
        "C:",
        "a\u2028",
        "a\u00a0b",
        ".hidden",
        "\ud800",
    ],
)
def test_invalid_symbols_are_rejected(text: str) -> None:
    assert not is_symbol(text)
    with pytest.raises(ValueError, match="cannot be a symbol"):
        Folder(Stream(Market.SPOT, DataType.TRADES, text), Partition.DAILY)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_valid_symbols_are_accepted(symbol: str) -> None:
    assert is_symbol(symbol)


def test_streams_need_an_interval_exactly_where_files_have_one() -> None:
    for data_type in DataType:
        wrong = None if data_type.has_intervals else Interval.H1
        with pytest.raises(ValueError, match="interval"):
            Folder(Stream(Market.SPOT, data_type, "BTCUSDT", wrong), Partition.DAILY)


def test_monthly_files_start_on_day_one() -> None:
    stream = Folder(Stream(Market.SPOT, DataType.TRADES, "BTCUSDT"), Partition.MONTHLY)
    with pytest.raises(ValueError, match="day 1"):
        ObjectKey(stream, date(2025, 7, 2))


def test_the_base_name_alone_does_not_identify_an_object() -> None:
    names = {
        ObjectKey(
            Folder(Stream(Market.FUTURES_UM, family, "BTCUSDT", Interval.H1), Partition.DAILY),
            date(2025, 7, 15),
        ).name
        for family in DataType
        if family.has_intervals
    }
    assert names == {"BTCUSDT-1h-2025-07-15.zip"}


@given(st.dates(), st.integers(0, 100), st.sampled_from(Partition))
@example(date.max, 0, Partition.DAILY)
@example(date.max, 0, Partition.MONTHLY)
def test_periods_touch_every_day_once(start: date, length: int, partition: Partition) -> None:
    end = date.fromordinal(min(start.toordinal() + length, date.max.toordinal()))
    spans = [(first, period_end(first, partition)) for first in periods(start, end, partition)]
    ordinals = [n for a, b in spans for n in range(a.toordinal(), b.toordinal() + 1)]
    assert ordinals == sorted(set(ordinals))
    assert set(range(start.toordinal(), end.toordinal() + 1)) <= set(ordinals)
    assert all(b >= start and a <= end for a, b in spans)
    spelled = [format_period(a, partition) for a, _ in spans]
    assert spelled == sorted(spelled)


SAMPLES = os.environ.get("BINANCE_ARCHIVE_SAMPLES")


@pytest.mark.skipif(not SAMPLES, reason="BINANCE_ARCHIVE_SAMPLES names no folder")
def test_real_keys_parse() -> None:
    root = Path(str(SAMPLES))
    keys = [path.relative_to(root).as_posix() for path in root.glob("data/**/*.zip")]
    assert len(keys) >= 20
    for key in keys:
        parsed = ObjectKey.parse(key)
        assert str(parsed) == key
        assert (root / parsed.checksum).is_file()
