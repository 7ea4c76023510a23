"""Patterns of symbols, resolved against a listing on loopback, and against a store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream, format_period, periods
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.symbol_lists import UnknownSymbolsError, record_symbols
from binance_archive_kit.storage.records import Records
from tests.support.s3_server import LocalS3

UM, CM, SPOT = Market.FUTURES_UM, Market.FUTURES_CM, Market.SPOT
#: First and last day of the files of some symbols.
LIVES = {
    (UM, DataType.KLINES, "BNXUSDT"): ("2024-01-01", "2024-03-31"),
    (UM, DataType.KLINES, "BNXUSDTSETTLED"): ("2023-02-01", "2023-02-11"),
    (UM, DataType.KLINES, "BTCUSDC"): ("2024-01-01", "2024-03-31"),
    (UM, DataType.KLINES, "BTCUSDT"): ("2024-01-01", "2024-03-31"),
    (UM, DataType.KLINES, "BTCUSDT_240628"): ("2024-03-20", "2024-03-31"),
    (UM, DataType.KLINES, "MATICUSDT"): ("2024-01-01", "2024-01-20"),
    (UM, DataType.KLINES, "IDOL"): ("2024-01-01", "2024-03-31"),
    (UM, DataType.METRICS, "BTCUSDT"): ("2024-01-01", "2024-03-31"),
    (CM, DataType.KLINES, "BTCUSD_PERP"): ("2024-01-01", "2024-03-31"),
    (CM, DataType.INDEX_PRICE_KLINES, "BTCUSD"): ("2024-01-01", "2024-03-31"),
    (SPOT, DataType.KLINES, "币安人生USDT"): ("2024-01-01", "2024-03-31"),
}


def keys() -> Iterator[str]:
    for (market, data_type, symbol), (start, end) in LIVES.items():
        interval = Interval.D1 if data_type.has_intervals else None
        stream = Stream(market, data_type, symbol, interval)
        for partition in Partition:
            if data_type is DataType.METRICS and partition is Partition.MONTHLY:
                continue
            folder = Folder(stream, partition)
            for day in periods(date.fromisoformat(start), date.fromisoformat(end), partition):
                key = folder.key(format_period(day, partition))
                yield from (key, f"{key}.CHECKSUM")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalS3]:
    with LocalS3(dict.fromkeys(keys(), b"zip")) as found:
        yield found


@pytest.fixture
def fields(server: LocalS3, tmp_path: Path) -> dict[str, Any]:
    return {
        "markets": ["futures_um"],
        "data_types": ["klines"],
        "intervals": {"klines": ["1d"], "indexPriceKlines": ["1d"]},
        "start": "2024-02-01",
        "end": "2024-02-10",
        "output_directory": tmp_path / "data",
        "endpoint_url": server.url,
    }


def symbols(plan: Plan) -> list[str]:
    return sorted(plan.frame["symbol"].cast(str).unique().to_list())


def test_a_pattern_takes_the_listed_symbols_of_the_days(fields: dict[str, Any]) -> None:
    plan = bak.plan(symbols="*USDT", **fields)
    [selection] = plan.selections
    assert selection.symbols == ("BNXUSDT", "BTCUSDT", "MATICUSDT")
    assert selection.listed == 7
    assert selection.ended == ("MATICUSDT",)
    assert selection.later == ()
    assert selection.left_out == ("BNXUSDTSETTLED", "BTCUSDT_240628")
    assert selection.living == ("BNXUSDT", "BTCUSDT")
    assert timedelta(0) < datetime.now(UTC) - selection.listed_at < timedelta(minutes=5)
    assert symbols(plan) == ["BNXUSDT", "BTCUSDT"]
    assert len(plan) == 20
    # What ended before, or begins later, is not missing.
    assert plan.missing == plan.unavailable == ()
    assert plan.config.symbols == ("*USDT",)
    text = str(plan)
    assert "*USDT matches 3 of 7 symbols of futures_um klines, listed at 20" in text
    assert "1 futures_um klines symbol selected, and ended before these days\n    MATIC" in text
    assert "2 futures_um klines symbols with the same quote, left out (survivorship bias)" in text


def test_a_quote_takes_dead_and_dated_contracts_too(fields: dict[str, Any]) -> None:
    plan = bak.plan(quote="USDT", **{**fields, "end": "2024-03-31"})
    [selection] = plan.selections
    assert selection.symbols[1] == "BNXUSDTSETTLED"
    assert selection.ended == ("BNXUSDTSETTLED", "MATICUSDT")
    assert selection.left_out == ()
    assert selection.unknown_quote == ("IDOL",)
    assert symbols(plan) == ["BNXUSDT", "BTCUSDT", "BTCUSDT_240628"]
    # The contract begins within the days.
    assert {absence.reason for absence in plan.unavailable} == {bak.Reason.BEFORE_FIRST}
    early = bak.plan(quote="USDT", **{**fields, "start": "2023-02-05", "end": "2023-02-06"})
    assert symbols(early) == ["BNXUSDTSETTLED"]
    assert early.selections[0].later == ("BNXUSDT", "BTCUSDT", "BTCUSDT_240628", "MATICUSDT")


def test_whole_months_and_days(fields: dict[str, Any]) -> None:
    auto = {**fields, "partition": "auto"}
    plan = bak.plan(symbols="*USDT", **{**auto, "start": "2024-01-15", "end": "2024-03-02"})
    assert plan.selections[0].ended == ()
    assert symbols(plan) == ["BNXUSDT", "BTCUSDT", "MATICUSDT"]
    dead = bak.plan(symbols="*", **{**auto, "end": "2024-03-02"})
    assert dead.selections[0].ended == ("BNXUSDTSETTLED", "MATICUSDT")
    assert dead.selections[0].later == ("BTCUSDT_240628",)


def test_symbols_of_other_intervals_are_not_missing(fields: dict[str, Any]) -> None:
    plan = bak.plan(symbols="*USDT", **{**fields, "intervals": {"klines": ["1h"]}})
    assert len(plan) == 0
    assert plan.missing == plan.unavailable == ()
    assert plan.selections[0].absent == ("BNXUSDT", "BTCUSDT", "MATICUSDT")
    assert "3 futures_um klines symbols selected, without files of these intervals" in str(plan)


def test_each_feed_has_its_own_symbols(fields: dict[str, Any]) -> None:
    plan = bak.plan(
        **{
            **fields,
            "markets": ["um", "cm", "spot"],
            "data_types": ["klines", "metrics", "indexPriceKlines"],
            "symbols": {"um": "*USDT", "cm": "BTC*_PERP", "spot": ["币安人生USDT"]},
        }
    )
    found = {selection.feed: selection.symbols for selection in plan.selections}
    assert found[UM, DataType.METRICS] == ("BTCUSDT",)
    assert found[CM, DataType.KLINES] == ("BTCUSD_PERP",)
    # Index candles are filed under the pair.
    assert found[CM, DataType.INDEX_PRICE_KLINES] == ("BTCUSD",)
    assert (SPOT, DataType.KLINES) not in found
    assert symbols(plan) == ["BNXUSDT", "BTCUSD", "BTCUSDT", "BTCUSD_PERP", "币安人生USDT"]
    assert not [each for each in plan.unavailable if each.reason is bak.Reason.UNKNOWN_SYMBOL]


def test_names_beside_patterns_are_explained_as_ever(fields: dict[str, Any]) -> None:
    plan = bak.plan(symbols=["*USDC", "MATICUSDT", "NOSUCHUSDT"], **fields)
    assert plan.selections[0].symbols == ("BTCUSDC",)
    assert {each.symbol for each in plan.missing} == {"MATICUSDT"}
    assert {each.symbol for each in plan.unavailable} == {"NOSUCHUSDT"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols": "*EUR"}, "symbols: '*EUR' matches none of 7 USD-M futures klines symbols"),
        ({"symbols": "BTCUSTD*"}, "the nearest is 'BTCUSDT'"),
        ({"quote": "USDD"}, "'USDD' is not valid; did you mean 'USDT'? Valid: USDC, USDT"),
    ],
)
def test_what_matches_nothing_names_the_nearest(
    fields: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bak.plan(**fields, **change)
    assert message in str(caught.value)


def test_a_pattern_may_match_in_one_market_only(fields: dict[str, Any]) -> None:
    plan = bak.plan(symbols="*USDT", **{**fields, "markets": ["um", "cm"]})
    assert [len(selection.symbols) for selection in plan.selections] == [3, 0]
    assert "*USDT matches 0 of 1 symbols of futures_cm klines" in str(plan)


# Without the listing


def test_without_a_listing_the_store_names_the_symbols(fields: dict[str, Any]) -> None:
    with pytest.raises(UnknownSymbolsError, match=r"unknown which symbols '\*USDT' matches"):
        bak.plan(symbols="*USDT", listing=False, **fields)
    listed = bak.plan(symbols="*USDT", **fields)
    record_symbols(Records(Path(fields["output_directory"]).absolute()), listed)
    plan = bak.plan(symbols="*USDT", listing=False, **fields)
    [selection], [expected] = plan.selections, listed.selections
    assert selection.symbols == expected.symbols
    assert selection.listed_at == expected.listed_at
    assert selection.ended == expected.ended
    assert symbols(plan) == ["BNXUSDT", "BTCUSDT"]
    # Of earlier days it is not known which symbols had ended.
    earlier = bak.plan(symbols="*USDT", listing=False, **{**fields, "start": "2024-01-10"})
    assert earlier.selections[0].ended == ()
    assert symbols(earlier) == ["BNXUSDT", "BTCUSDT", "MATICUSDT"]
    # Nor which symbols have no files of other intervals.
    hourly = bak.plan(symbols="*USDT", **{**fields, "intervals": {"klines": ["1h"]}})
    record_symbols(Records(Path(fields["output_directory"]).absolute()), hourly)
    daily = bak.plan(symbols="*USDT", listing=False, **fields)
    assert daily.selections[0].absent == ()
    # Another pattern is another selection.
    with pytest.raises(UnknownSymbolsError):
        bak.plan(symbols="*", listing=False, **fields)
    with pytest.raises(UnknownSymbolsError):
        bak.plan(quote="USDT", listing=False, **fields)


def test_recorded_streams_are_those_of_the_plan(fields: dict[str, Any]) -> None:
    records = Records(Path(fields["output_directory"]).absolute())
    record_symbols(records, bak.plan(symbols="*USDT", **fields))
    record_symbols(records, bak.plan(symbols="*USDT", **{**fields, "end": "2024-02-20"}))
    streams = records.selected_streams()
    span = date(2024, 2, 1), date(2024, 2, 20)
    assert streams == {
        Stream(UM, DataType.KLINES, name, Interval.D1): span for name in ("BNXUSDT", "BTCUSDT")
    }


def test_damaged_records_are_none(fields: dict[str, Any]) -> None:
    records = Records(Path(fields["output_directory"]).absolute())
    plan = bak.plan(symbols="*USDT", **fields)
    records.record_selections({plan.selections[0].name: {"symbols": 3}}, {})
    with pytest.raises(UnknownSymbolsError):
        bak.plan(symbols="*USDT", listing=False, **fields)


def test_coverage_never_calls_unknown_symbols_complete(fields: dict[str, Any]) -> None:
    config = bak.CollectionConfig(symbols="*USDT", listing=False, **fields)
    report = bak.coverage(config)
    assert not report.is_complete
    assert report.weakest is None
    assert report.verdict.startswith("Symbols unknown, so nothing can be said: symbols: unknown")
    assert not bak.backtest_coverage(config).is_ready
