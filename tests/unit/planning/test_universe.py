"""`universe`: the symbols of a feed and their days, from a listing on loopback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream, format_period, periods
from binance_archive_kit.errors import ConfigurationError, ListingError
from binance_archive_kit.planning.universe import UNIVERSE_SCHEMA, universe
from tests.support.s3_server import Fault, LocalS3, Request

TODAY = datetime.now(UTC).date()
D1, H1 = Interval.D1, Interval.H1
#: First and last day of some USD-M symbols; None for those that go on.
LIVES: dict[str, tuple[date, date | None]] = {
    "BNXUSDTSETTLED": (TODAY - timedelta(900), TODAY - timedelta(870)),
    "BTCUSDT": (TODAY - timedelta(1200), None),
    "BTCUSDT_250926": (date(2025, 3, 30), date(2025, 9, 26)),
    "ETHBTC": (TODAY - timedelta(400), None),
    "LITUSDT": (TODAY - timedelta(700), None),
    "MATICUSDT": (date(2024, 1, 10), date(2024, 9, 10)),
    "币安人生USDT": (TODAY - timedelta(40), None),
}


def keys_of(
    symbol: str, first: date, last: date | None, interval: Interval, market: Market
) -> Iterator[str]:
    stream = Stream(market, DataType.KLINES, symbol, interval)
    for partition in Partition:
        folder = Folder(stream, partition)
        for start in periods(first, last or TODAY - timedelta(2), partition):
            whole = partition is Partition.DAILY or start < TODAY.replace(day=1)
            if whole:
                key = folder.key(format_period(start, partition))
                yield from (key, f"{key}.CHECKSUM")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalS3]:
    um = Market.FUTURES_UM
    keys = [key for name, days in LIVES.items() for key in keys_of(name, *days, D1, um)]
    # Another interval that went on for a day longer.
    first, last = LIVES["MATICUSDT"]
    assert last is not None
    keys += keys_of("MATICUSDT", first, last + timedelta(1), H1, um)
    keys += keys_of("BTCUSDT", TODAY - timedelta(1200), None, H1, um)
    with LocalS3(dict.fromkeys(keys, b"")) as found:
        yield found


def ask(server: LocalS3, data_type: str = "klines", **arguments: Any) -> pl.DataFrame:
    arguments = {"interval": "1d", "endpoint_url": server.url, **arguments}
    return universe("futures_um", data_type, **arguments)


def test_every_symbol_with_its_days(server: LocalS3) -> None:
    before = len(server.requests)
    frame = ask(server)
    asked = Counter(prefix for method, prefix in server.requests[before:] if method == "LIST")
    assert frame.schema == UNIVERSE_SCHEMA
    assert frame["symbol"].to_list() == sorted(LIVES)
    for row in frame.iter_rows(named=True):
        first, last = LIVES[row["symbol"]]
        assert row["first"] == first
        assert row["last"] == (last or TODAY - timedelta(2))
        assert row["ended"] == (last is not None)
        assert row["delisted"] is None
        assert sum(n for prefix, n in asked.items() if f"/{row['symbol']}/" in prefix) <= 4
    rows = {row["symbol"]: row for row in frame.iter_rows(named=True)}
    assert (rows["ETHBTC"]["base"], rows["ETHBTC"]["quote"]) == ("ETH", "BTC")
    assert rows["BNXUSDTSETTLED"]["contract"] == "settled"
    assert rows["BTCUSDT_250926"]["delivery"] == date(2025, 9, 26)
    assert rows["BTCUSDT_250926"]["evidence"].endswith("delivered on 2025-09-26")
    assert rows["MATICUSDT"]["evidence"].startswith("daily files to 2024-09-10; other symbols go")
    assert "Lighter" in rows["LITUSDT"]["changes"][0]
    assert rows["BTCUSDT"]["changes"] == []
    age = datetime.now(UTC) - rows["BTCUSDT"]["listed_at"]
    assert timedelta(0) < age < timedelta(minutes=5)


def test_what_existed_on_a_day(server: LocalS3) -> None:
    assert ask(server, at="2024-09-10")["symbol"].to_list() == sorted(
        name
        for name, (first, last) in LIVES.items()
        if first <= date(2024, 9, 10) <= (last or TODAY)
    )
    assert "MATICUSDT" not in ask(server, at=date(2024, 9, 11))["symbol"]
    assert ask(server, at="1999-01-01").is_empty()
    # Days that are not published yet: whatever goes on.
    assert ask(server, at="today", symbols=["BTCUSDT", "MATICUSDT"])["symbol"].to_list() == [
        "BTCUSDT"
    ]


def test_symbols_and_quotes(server: LocalS3) -> None:
    assert ask(server, quote="USDT").height == len(LIVES) - 1
    assert ask(server, symbols="*BTC")["symbol"].to_list() == ["ETHBTC"]
    assert ask(server, symbols=["BTCUSDT", "*SETTLED"], quote=["USDT"]).height == 2


def test_one_dead_symbol_is_compared_with_those_that_go_on(server: LocalS3) -> None:
    [row] = ask(server, symbols="MATICUSDT").iter_rows(named=True)
    assert row["ended"]
    assert f"other symbols go on to {TODAY - timedelta(2)}" in row["evidence"]


def test_a_copy_of_earlier_days_has_living_symbols() -> None:
    keys = [
        key
        for name, last in (("ADAUSDT", 31), ("BTCUSDT", 31), ("DEADUSDT", 20))
        for key in keys_of(name, date(2024, 1, 1), date(2024, 1, last), D1, Market.FUTURES_UM)
    ]
    with LocalS3(dict.fromkeys(keys, b"")) as server:
        ended = dict(ask(server).select("symbol", "ended").iter_rows())
        assert ended == {"ADAUSDT": False, "BTCUSDT": False, "DEADUSDT": True}
        [row] = ask(server, symbols="DEADUSDT").iter_rows(named=True)
        assert row["evidence"] == "daily files to 2024-01-20; other symbols go on to 2024-01-31"
        assert not ask(server, interval=None, symbols="ADAUSDT")["delisted"][0]
        assert ask(server, at="2024-02-15")["symbol"].to_list() == ["ADAUSDT", "BTCUSDT"]


def test_symbols_of_an_ended_feed_have_ended() -> None:
    stream = Stream(Market.FUTURES_UM, DataType.BOOK_TICKER, "BTCUSDT")
    key = Folder(stream, Partition.DAILY).key("2024-03-30")
    with LocalS3({key: b""}) as server:
        [row] = universe("um", "bookTicker", endpoint_url=server.url).iter_rows(named=True)
    assert row["ended"]
    assert row["evidence"] == "daily files to 2024-03-30; USD-M futures bookTicker has ended"


def test_delisted_is_said_only_of_all_intervals(server: LocalS3) -> None:
    frame = ask(server, interval=None, symbols=["BTCUSDT", "MATICUSDT"])
    rows = {row["symbol"]: row for row in frame.iter_rows(named=True)}
    assert rows["MATICUSDT"]["delisted"]
    assert rows["MATICUSDT"]["last"] == date(2024, 9, 11)
    assert rows["BTCUSDT"]["delisted"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"data_type": "trade"},
            "data type of futures_um: 'trade' is not valid; did you mean 'trades'?",
        ),
        ({"data_type": "EOHSummary"}, "data type of futures_um: 'EOHSummary' is not valid"),
        ({"interval": "7m"}, "interval: '7m' is not valid"),
        ({"interval": "1s"}, "interval: '1s' is not valid"),
        ({"data_type": "trades"}, "interval: trades files have no intervals"),
        ({"at": "2024-02-30"}, "at: "),
        ({"symbols": "BTCUSTD"}, "did you mean 'BTCUSDT'?"),
        ({"at": "2099-01-01"}, "at: 2099-01-01 is in the future; give a UTC day up to "),
        ({"symbols": "*BUSD"}, "'*BUSD' matches none of 7 USD-M futures klines symbols"),
        ({"symbols": []}, "symbols: it is empty"),
        ({"quote": "BUSD"}, "did you mean 'USDT'"),
        ({"endpoint_url": "ftp://x"}, "endpoint_url"),
    ],
)
def test_invalid_arguments(server: LocalS3, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ask(server, **arguments)
    assert message in str(caught.value)


def test_an_empty_archive_has_no_symbols() -> None:
    with LocalS3({}) as server, pytest.raises(ConfigurationError, match="lists no symbol of"):
        ask(server)


def test_a_refused_listing_is_an_error(server: LocalS3) -> None:
    def refuse(request: Request) -> Fault | None:
        return Fault(status=403) if "BTCUSDT/" in request.prefix else None

    server.fault = refuse
    try:
        with pytest.raises(ListingError, match="403"):
            ask(server)
    finally:
        server.fault = None
