"""Configurations are expanded into folders and days, and notes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.archive.enums import DataType, Market, Partition
from binance_archive_kit.archive.keys import (
    ObjectKey,
    format_period,
    period_end,
    periods,
)
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.listing_pages import Listed
from binance_archive_kit.planning.absences import ArchiveListing
from binance_archive_kit.planning.date_range import DateRange
from binance_archive_kit.planning.decide import make_plan
from binance_archive_kit.planning.requests import expand, partial_months, resolve_months
from tests.support.planning import (
    BLOCKS,
    BOTH,
    CM,
    MATRIX,
    NOTHING,
    NOW,
    NOW_LATE,
    UM,
    World,
    block,
    config_of,
    days,
    plan_of,
    reasons,
    spans_of,
)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "from the matrix"])
@pytest.mark.parametrize("name", BLOCKS)
def test_counts_of_the_examples(name: str, listed: bool) -> None:
    plan = plan_of(block(name), listed=listed)
    assert len(plan) == BLOCKS[name][0]
    assert plan.frame["key"].n_unique() == len(plan)
    assert plan.missing == ()
    assert plan.not_published == ()
    assert (plan.total_bytes is None) == (not listed and len(plan) > 0)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_row_is_a_key_that_says_what_its_row_says(name: str) -> None:
    config = block(name)
    asked = config.days(NOW)
    for row in plan_of(config).frame.iter_rows(named=True):
        key = ObjectKey.parse(row["key"])
        stream = key.folder
        assert (row["market"], row["data_type"], row["partition"]) == (
            *(stream.market.value, stream.data_type.value, stream.partition.value),
        )
        assert (row["symbol"], row["interval"]) == (stream.symbol, stream.interval)
        assert (row["start"], row["end"]) == (key.start, key.end)
        assert key.start <= asked.end
        assert key.end >= asked.start


def keys_of(name: str) -> list[str]:
    return plan_of(block(name)).frame["key"].to_list()


def test_funding_rates_of_the_futures_example() -> None:
    funding = [key for key in keys_of("futures um") if "fundingRate" in key]
    assert len(funding) == 3
    assert all("/monthly/" in key for key in funding)


def test_backtest_is_complete() -> None:
    keys = keys_of("backtest")
    assert sum("klines" in key for key in keys) == 540
    assert sum("fundingRate" in key for key in keys) == 2 * 2


def test_three_kline_families_side_by_side() -> None:
    keys = keys_of("comprehensive klines")
    families = Counter(key.split("/daily/")[1].split("/")[0] for key in keys)
    # spot 2 x 13, um 2 x 12, cm 2 x 12 klines; 4 intervals x 4 symbols of each other family.
    assert families == {"klines": 74, "indexPriceKlines": 16, "markPriceKlines": 16}
    assert any("/cm/daily/indexPriceKlines/BTCUSD/" in key for key in keys)
    assert not any("/indexPriceKlines/BTCUSD_PERP/" in key for key in keys)
    assert any("/cm/daily/markPriceKlines/BTCUSD_PERP/" in key for key in keys)


def test_research_counts_per_feed() -> None:
    plan = plan_of(block("research"))
    counts = {
        (row["market"], row["data_type"]): row["objects"]
        for row in plan.summary().iter_rows(named=True)
    }
    assert counts == {
        ("spot", "klines"): 450,
        ("spot", "trades"): 75,
        ("spot", "aggTrades"): 75,
        ("futures_um", "klines"): 360,
        ("futures_um", "trades"): 60,
        ("futures_um", "aggTrades"): 60,
        ("futures_um", "bookDepth"): 60,
        ("futures_um", "fundingRate"): 4,
        ("futures_um", "premiumIndexKlines"): 60,
        ("futures_um", "metrics"): 60,
        ("futures_um", "indexPriceKlines"): 180,
        ("futures_um", "markPriceKlines"): 180,
        ("futures_cm", "klines"): 180,
        ("futures_cm", "trades"): 30,
        ("futures_cm", "aggTrades"): 30,
        ("futures_cm", "bookDepth"): 30,
        ("futures_cm", "fundingRate"): 2,
        ("futures_cm", "premiumIndexKlines"): 30,
        ("futures_cm", "metrics"): 30,
        ("futures_cm", "indexPriceKlines"): 90,
        ("futures_cm", "markPriceKlines"): 90,
        ("options", "BVOLIndex"): 30,
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("basic", []),
        (
            "multi-market",
            [("options", "klines", "no_such_feed"), ("options", "trades", "no_such_feed")],
        ),
        (
            "spot complete",
            [("spot", "bookDepth", "no_such_feed"), ("spot", "bookTicker", "no_such_feed")],
        ),
        ("futures um", [(UM, "liquidationSnapshot", "ended")]),
        ("options", [("options", "EOHSummary", "ended")]),
        (
            "comprehensive klines",
            [
                (CM, "klines", "no_such_interval"),
                (CM, "klines", "not_in_partition"),
                (UM, "klines", "no_such_interval"),
                (UM, "klines", "not_in_partition"),
                ("spot", "indexPriceKlines", "no_such_feed"),
                ("spot", "klines", "not_in_partition"),
                ("spot", "markPriceKlines", "no_such_feed"),
            ],
        ),
        (
            "order book",
            [
                (UM, "bookTicker", "ended"),
                ("spot", "bookDepth", "no_such_feed"),
                ("spot", "bookTicker", "no_such_feed"),
            ],
        ),
        (
            "liquidations",
            [(CM, "liquidationSnapshot", "wrong_symbol"), (UM, "liquidationSnapshot", "ended")],
        ),
        ("single day", [("spot", "fundingRate", "no_such_feed")]),
        (
            "backtest",
            [
                (UM, "liquidationSnapshot", "ended"),
                ("spot", "fundingRate", "no_such_feed"),
                ("spot", "liquidationSnapshot", "no_such_feed"),
            ],
        ),
        (
            "pipeline init",
            [
                (UM, "bookTicker", "ended"),
                ("spot", "bookTicker", "no_such_feed"),
                ("spot", "fundingRate", "no_such_feed"),
            ],
        ),
    ],
)
def test_reasons_of_the_examples(name: str, expected: list[tuple[str, str, str]]) -> None:
    # Whether cm bookTicker has ended is hearsay, so the listing is asked; no example stands on it.
    assert reasons(plan_of(block(name)).unavailable) == expected


def test_a_wrong_symbol_is_answered_with_the_right_one() -> None:
    wrong = [a for a in plan_of(block("liquidations")).unavailable if a.reason == "wrong_symbol"]
    assert [a.symbol for a in wrong] == ["BTCUSDT", "ETHUSDT", "ADAUSDT"]
    for absence, guess in zip(wrong, ("BTCUSD_PERP", "ETHUSD_PERP", "ADAUSD_PERP"), strict=True):
        assert f"did you mean {guess!r}?" in absence.detail
        assert "BASE" in absence.detail


def test_endings_name_the_last_day() -> None:
    said = {
        (a.market, a.data_type): a.detail
        for name in ("options", "liquidations", "order book")
        for a in plan_of(block(name)).unavailable
        if a.reason is Reason.ENDED
    }
    assert "2023-10-23" in said[Market.OPTIONS, DataType.EOH_SUMMARY]
    assert "2024-03-31" in said[Market.FUTURES_UM, DataType.LIQUIDATION_SNAPSHOT]
    assert said[Market.FUTURES_UM, DataType.BOOK_TICKER].startswith(
        "USD-M futures bookTicker ended"
    )


def test_cm_book_ticker_ended_is_found_out_by_asking() -> None:
    config = config_of(markets=["cm"], symbols=["BTCUSD_PERP"], data_types=["bookTicker"])
    plan = plan_of(config)
    assert len(plan) == 0
    assert reasons(plan.unavailable) == [(CM, "bookTicker", "ended")]
    # And if the archive has it all the same, the archive is right.
    asked = expand(config, MATRIX, NOW)
    found = FolderListing({"2025-07-15": Listed(1, "", "", True)})
    listing = {request.folder: found for request in asked.folders}
    assert len(make_plan(config, asked, ArchiveListing(listing), NOTHING, MATRIX, NOW)) == 1


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("options", ["intervals[BVOLIndex]: 1m, 5m, 1h, 1d ignored"]),
        ("order book", ["intervals[bookDepth]: 100ms, 1000ms ignored"]),
        ("spot complete", ["intervals[bookDepth]: 100ms, 1000ms ignored"]),
        ("research", ["intervals[BVOLIndex]: 1h, 1d ignored", "intervals[bookDepth]: 1000ms ign"]),
        ("futures um", []),  # intervals of types that are not asked for at all
    ],
)
def test_intervals_of_types_without_them_are_ignored_with_one_warning(
    name: str, ignored: list[str]
) -> None:
    warned = [str(note) for note in expand(block(name), MATRIX, NOW).warnings]
    assert len(warned) == len(ignored)
    for start, text in zip(ignored, sorted(warned), strict=True):
        assert text.startswith(start)
    assert set(warned) <= set(plan_of(block(name)).notes)


def test_a_market_without_symbols_gives_one_warning_and_nothing_else() -> None:
    plan = plan_of(
        config_of(markets=BOTH, symbols={"spot": ["BTCUSDT"]}, data_types=["trades", "aggTrades"])
    )
    assert len(plan) == 2
    assert [note for note in plan.notes if "futures_um" in note] == [plan.notes[0]]
    assert plan.unavailable == ()


def test_auto_takes_whole_months_and_days_at_the_edges() -> None:
    config = config_of(
        data_types=["trades"], partition="auto", date_range=days("2025-05-30", "2025-08-02")
    )
    assert spans_of(plan_of(config)) == [
        "BTCUSDT-trades-2025-06.zip",
        "BTCUSDT-trades-2025-07.zip",
        "BTCUSDT-trades-2025-05-30.zip",
        "BTCUSDT-trades-2025-05-31.zip",
        "BTCUSDT-trades-2025-08-01.zip",
        "BTCUSDT-trades-2025-08-02.zip",
    ]


@pytest.mark.parametrize("listed", [True, False])
def test_auto_takes_unpublished_months_as_days(listed: bool) -> None:
    config = config_of(
        data_types=["trades"], partition="auto", date_range=days("2025-06-01", "2025-07-31")
    )
    plan = plan_of(config, World(now=datetime(2025, 8, 3, tzinfo=UTC)), listed=listed)
    assert len(plan) == 1 + 31
    assert Counter(plan.frame["partition"]) == {"monthly": 1, "daily": 31}
    assert plan.missing == ()
    assert plan.not_published == ()


def test_auto_takes_a_month_that_is_absent_in_between_as_days() -> None:
    hole = "data/spot/monthly/trades/BTCUSDT/BTCUSDT-trades-2025-05.zip"
    config = config_of(
        data_types=["trades"], partition="auto", date_range=days("2025-04-01", "2025-06-30")
    )
    plan = plan_of(config, World(holes=frozenset({hole})))
    assert Counter(plan.frame["partition"]) == {"monthly": 2, "daily": 31}


def test_auto_within_a_month_is_daily() -> None:
    plan = plan_of(config_of(partition="auto", intervals={"klines": ["1h"]}))
    assert spans_of(plan) == ["BTCUSDT-1h-2025-07-15.zip"]


@pytest.mark.parametrize("interval", ["3d", "1w", "1mo", "1M"])
@pytest.mark.parametrize("market", BOTH)
def test_long_intervals_are_in_monthly_files_only(market: str, interval: str) -> None:
    spelled = "1mo" if interval == "1M" else interval
    fields = {"markets": [market], "intervals": {"klines": [interval]}}
    daily = plan_of(config_of(**fields))
    assert len(daily) == 0
    assert [(a.reason, a.interval) for a in daily.unavailable] == [("not_in_partition", spelled)]
    assert "partition='auto'" in daily.unavailable[0].detail
    for partition in ("auto", "monthly"):
        plan = plan_of(config_of(**fields, partition=partition))
        assert spans_of(plan) == [f"BTCUSDT-{spelled}-2025-07.zip"]
        assert plan.unavailable == ()


@pytest.mark.parametrize("market", [UM, CM])
def test_seconds_are_of_spot_only(market: str) -> None:
    symbol = "BTCUSDT" if market == UM else "BTCUSD_PERP"
    for partition in ("daily", "monthly", "auto"):
        plan = plan_of(
            config_of(
                markets=[market],
                symbols=[symbol],
                intervals={"klines": ["1s"]},
                partition=partition,
            )
        )
        assert len(plan) == 0
        assert reasons(plan.unavailable) == [(market, "klines", "no_such_interval")]
        assert "it has 1m, 3m" in plan.unavailable[0].detail


@pytest.mark.parametrize("partition", ["daily", "monthly", "auto"])
def test_types_with_only_monthly_files_give_one_per_month_touched(partition: str) -> None:
    config = config_of(
        markets=["um"],
        data_types=["fundingRate"],
        partition=partition,
        date_range=days("2025-04-30", "2025-07-01"),
    )
    months = ["2025-04", "2025-05", "2025-06", "2025-07"]
    assert spans_of(plan_of(config)) == [f"BTCUSDT-fundingRate-{month}.zip" for month in months]


def test_types_with_only_daily_files_are_not_in_monthly() -> None:
    fields = {"markets": ["um"], "data_types": ["metrics", "bookDepth"]}
    plan = plan_of(config_of(**fields, partition="monthly"))
    assert len(plan) == 0
    assert {a.reason for a in plan.unavailable} == {Reason.NOT_IN_PARTITION}
    assert len(plan_of(config_of(**fields, partition="auto"))) == 2


def test_monthly_takes_every_month_touched() -> None:
    config = config_of(
        intervals={"klines": ["1d"]},
        partition="monthly",
        date_range=days("2025-06-15", "2025-07-15"),
    )
    assert spans_of(plan_of(config)) == ["BTCUSDT-1d-2025-06.zip", "BTCUSDT-1d-2025-07.zip"]


@pytest.mark.parametrize(("partition", "count"), [("daily", 13), ("monthly", 16), ("auto", 16)])
def test_intervals_left_out_mean_all_of_the_partition(partition: str, count: int) -> None:
    assert len(plan_of(config_of(partition=partition))) == count


def test_daily_says_what_auto_would_save() -> None:
    config = config_of(
        markets=BOTH,
        data_types=["trades", "metrics"],
        date_range=days("2025-05-20", "2025-07-31"),
    )
    [note] = plan_of(config).notes
    assert note == "partition: auto would fetch up to 4 monthly files instead of 122 daily ones"
    assert plan_of(config.replace(partition="auto")).notes == ()
    assert plan_of(config_of(date_range=days("2025-07-02", "2025-07-31"))).notes == ()


@given(
    start=st.dates(date(2024, 1, 1), date(2025, 8, 1)),
    length=st.integers(0, 200),
    out=st.sets(
        st.sampled_from(
            [str(d)[:7] for d in periods(date(2024, 1, 1), date(2026, 3, 1), Partition.MONTHLY)]
        )
    ),
)
def test_auto_covers_each_day_exactly_once(start: date, length: int, out: set[str]) -> None:
    end = start + timedelta(days=length)
    config = config_of(
        data_types=["trades"], partition="auto", date_range=DateRange(start=start, end=end)
    )
    [request] = expand(config, MATRIX, NOW).folders
    covered: list[date] = []
    for settled in resolve_months(request, out):
        for at in settled.starts():
            stop = period_end(at, settled.folder.partition)
            if settled.folder.partition is Partition.MONTHLY:
                assert format_period(at, Partition.MONTHLY) in out
            covered += periods(at, stop, Partition.DAILY)
    assert sorted(covered) == list(periods(start, end, Partition.DAILY))


@given(
    start=st.dates(date(2024, 1, 1), date(2025, 8, 1)),
    length=st.integers(0, 70),
    partition=st.sampled_from(["daily", "monthly", "auto"]),
    holes=st.sets(st.dates(date(2024, 1, 1), date(2025, 9, 1)), max_size=5),
    now=st.datetimes(datetime(2024, 1, 1), datetime(2025, 12, 1), timezones=st.just(UTC)),
    listed=st.booleans(),
)
def test_every_period_asked_for_is_planned_or_accounted_for(
    start: date, length: int, partition: str, holes: set[date], now: datetime, listed: bool
) -> None:
    end = start + timedelta(days=length)
    world = World(
        now=now,
        holes=frozenset(f"data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-{d}.zip" for d in holes),
    )
    config = config_of(
        data_types=["trades"], partition=partition, date_range=DateRange(start=start, end=end)
    )
    plan = plan_of(config, world, listed=listed)
    absences = (*plan.unavailable, *plan.missing, *plan.not_published)
    told = [*zip(plan.frame["start"], plan.frame["end"], strict=True)]
    told += [(a.start, a.end) for a in absences]
    covered = Counter(d for s, e in told for d in periods(s, e, Partition.DAILY))
    assert set(covered.values()) <= {1}
    assert set(periods(start, end, Partition.DAILY)) <= set(covered)


def test_the_default_is_yesterday() -> None:
    plan = plan_of(config_of(data_types=["trades"], date_range=None))
    assert spans_of(plan) == ["BTCUSDT-trades-2025-08-19.zip"]


def test_days_counted_from_today_are_named_in_a_note() -> None:
    config = config_of(data_types=["trades"], date_range={"start": "-2d", "end": "yesterday"})
    plan = plan_of(config)
    assert spans_of(plan) == ["BTCUSDT-trades-2025-08-18.zip", "BTCUSDT-trades-2025-08-19.zip"]
    assert "date_range: -2d to yesterday means 2025-08-18 to 2025-08-19 today" in plan.notes


@pytest.mark.parametrize("symbol", ["币安人生USDT"])
def test_symbols_that_are_not_ascii(symbol: str) -> None:
    plan = plan_of(config_of(symbols=[symbol], data_types=["trades"]))
    assert plan.frame["key"].to_list() == [
        f"data/spot/daily/trades/{symbol}/{symbol}-trades-2025-07-15.zip"
    ]


def test_delivery_contracts_have_no_premium_index() -> None:
    config = config_of(markets=["cm"], symbols=["BTCUSD_250926"], data_types=["premiumIndexKlines"])
    assert reasons(plan_of(config).unavailable) == [(CM, "premiumIndexKlines", "wrong_symbol")]


def test_symbols_that_are_filed_as_one_give_one_file() -> None:
    config = config_of(
        markets=["cm"],
        symbols=["BTCUSD_PERP", "BTCUSD", "BTCUSD_250926"],
        data_types=["indexPriceKlines"],
        intervals={"indexPriceKlines": ["1h"]},
    )
    assert spans_of(plan_of(config)) == ["BTCUSD-1h-2025-07-15.zip"]


def notes_of(**fields: Any) -> list[str]:
    return [str(note) for note in expand(config_of(**fields), MATRIX, NOW_LATE).notes]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {
                "markets": ["futures_um"],
                "data_types": ["trades"],
                "date_range": days("2026-07-01", "2026-07-03"),
            },
            ["futures_um trades, since 2026-07-03: is_buyer_maker is true", "#476", "aggTrades"],
        ),
        (
            {
                "markets": ["futures_cm"],
                "symbols": ["BTCUSD_PERP"],
                "data_types": ["trades"],
                "date_range": days("2026-09-01"),
            },
            ["futures_cm trades, since 2026-07-01: is_buyer_maker", "first two hours", "#492"],
        ),
        (
            {
                "markets": ["futures_um"],
                "data_types": ["bookDepth"],
                "date_range": days("2026-09-03"),
            },
            ["since 2026-09-03 12:00 UTC: depth and notional of the ask bands", "#496"],
        ),
        (
            {
                "intervals": {"klines": ["1h"]},
                "partition": "monthly",
                "date_range": days("2020-12-01", "2020-12-31"),
            },
            ["spot klines, 2020-12-21: the monthly files are wrong", "#475", "use the daily file"],
        ),
        (
            {"intervals": {"klines": ["1h"]}, "date_range": days("2018-02-08", "2018-02-12")},
            [":28:14.789", "known halts of the spot market", "2018-02-08 00:28:15 to 2018-02-09"],
        ),
        (
            {
                "markets": ["futures_um"],
                "data_types": ["markPriceKlines"],
                "intervals": {"markPriceKlines": ["1m"]},
                "date_range": days("2024-08-12"),
            },
            ["futures_um markPriceKlines, 2024-08-12: 2 minutes"],
        ),
        (
            {
                "markets": ["futures_um"],
                "data_types": ["markPriceKlines"],
                "intervals": {"markPriceKlines": ["1h"]},
                "date_range": days("2024-08-11", "2024-08-13"),
            },
            ["futures_um markPriceKlines, 2024-08-12: 2 minutes are in no file of the 1m candles"],
        ),
        (
            {"data_types": ["trades"], "date_range": days("2020-01-01", "2020-12-31")},
            ["2020-02-09 02:00:00 to 03:00:00 UTC; 2020-02-19 11:35:33 to 17:30:00", "and 3 more"],
        ),
        (
            {
                "markets": ["futures_um"],
                "data_types": ["metrics"],
                "date_range": days("2026-08-01"),
            },
            ["futures_um metrics, 2026-06-25: create_time is the start", "#491"],
        ),
        (
            {"symbols": ["BTTUSDT"], "intervals": {"klines": ["1d"]}},
            ["symbols: BTTUSDT: BTT was renamed to BTTC"],
        ),
        (
            {
                "markets": ["futures_um"],
                "intervals": {"klines": ["3d"]},
                "partition": "auto",
                "date_range": days("2025-01-01", "2025-01-31"),
            },
            ["intervals: futures_um klines monthly 3d: seen to end in 2024-01"],
        ),
    ],
)
def test_a_plan_names_what_is_known_to_be_wrong(fields: dict[str, Any], words: list[str]) -> None:
    notes = "\n".join(notes_of(**fields))
    for word in words:
        assert word in notes


@pytest.mark.parametrize(
    "fields",
    [
        {"data_types": ["trades"], "date_range": days("2026-07-03")},
        {
            "markets": ["futures_um"],
            "data_types": ["aggTrades", "trades"],
            "date_range": days("2026-07-01", "2026-07-02"),
        },
        {
            "markets": ["futures_um"],
            "data_types": ["aggTrades"],
            "date_range": days("2026-08-01"),
        },
        {"markets": ["futures_um"], "data_types": ["bookDepth"], "date_range": days("2026-09-02")},
        # The daily file is right, and so are the days beside.
        {"intervals": {"klines": ["1h"]}, "date_range": days("2020-12-22", "2020-12-24")},
        # Binance replaced these files.
        {
            "symbols": ["JUVUSDT"],
            "intervals": {"klines": ["1d"]},
            "partition": "monthly",
            "date_range": days("2022-03-01", "2022-03-31"),
        },
        {"intervals": {"klines": ["1m"]}, "date_range": days("2025-04-22")},
        # Halts of the spot market are none of the futures'.
        {
            "markets": ["futures_um"],
            "intervals": {"klines": ["1h"]},
            "date_range": days("2021-02-11"),
        },
        {"symbols": ["BTTCUSDT"], "intervals": {"klines": ["1d"]}},
        # Views give both units as one.
        {"intervals": {"klines": ["1d"]}, "date_range": days("2025-01-01", "2025-01-31")},
        {"markets": ["futures_um"], "data_types": ["metrics"], "date_range": days("2026-06-24")},
    ],
)
def test_a_plan_is_silent_where_nothing_is_known_to_be_wrong(fields: dict[str, Any]) -> None:
    notes = "\n".join(notes_of(**fields))
    for word in ("known", "renamed", "microseconds", "create_time"):
        assert word not in notes


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    ("month", "bad"), [("2020-12", "2020-12-21"), ("2021-09", "2021-09-29"), ("2021-03", None)]
)
def test_auto_takes_the_daily_file_of_a_day_that_is_wrong_in_its_month(
    month: str, bad: str | None, listed: bool
) -> None:
    last = f"{month}-30" if month == "2021-09" else f"{month}-31"
    config = config_of(
        partition="auto",
        intervals={"klines": ["1h", "1d"]},
        date_range=days(f"{month}-01", last),
    )
    plan = plan_of(config, World(now=NOW_LATE), listed=listed)
    periods_of = {
        (row["interval"], row["partition"], str(row["start"]))
        for row in plan.frame.cast({"interval": pl.String, "partition": pl.String}).to_dicts()
    }
    expected = {(interval, "monthly", f"{month}-01") for interval in ("1h", "1d")}
    expected |= {(interval, "daily", bad) for interval in ("1h", "1d") if bad}
    assert periods_of == expected
    assert not plan.missing
    also = "partition='auto' fetches the daily files of these days too"
    assert any(also in note for note in plan.notes) == bool(bad)


def test_a_month_that_is_not_published_gives_each_day_once() -> None:
    key = "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2020-12.zip"
    config = config_of(
        partition="auto",
        intervals={"klines": ["1h"]},
        date_range=days("2020-11-01", "2021-01-02"),
    )
    plan = plan_of(config, World(now=NOW_LATE, holes=frozenset({key})))
    assert plan.frame["key"].is_unique().all()
    daily = plan.frame.filter(pl.col("partition") == "daily")["start"]
    assert len(daily) == 33
    assert plan_of(config, World(now=NOW_LATE)).frame["start"].to_list() == [
        date(2020, 11, 1),
        date(2020, 12, 1),
        date(2020, 12, 21),
        date(2021, 1, 1),
        date(2021, 1, 2),
    ]


@pytest.mark.parametrize("partition", ["daily", "monthly"])
def test_other_partitions_are_taken_as_asked(partition: str) -> None:
    config = config_of(
        partition=partition,
        intervals={"klines": ["1h"]},
        date_range=days("2020-12-01", "2020-12-31"),
    )
    plan = plan_of(config, World(now=NOW_LATE))
    assert set(plan.frame["partition"]) == {partition}
    assert len(plan.frame) == (31 if partition == "daily" else 1)


@pytest.mark.parametrize(
    ("partition", "start", "end", "detail"),
    [
        (
            "daily",
            "2024-10-13",
            "2024-10-16",
            "COIN-M futures bookTicker ended about 2024-10-14",
        ),
        (
            "monthly",
            "2024-09-01",
            "2024-12-31",
            "COIN-M futures bookTicker has ended: the archive's last file is of 2024-10",
        ),
    ],
)
def test_a_feed_that_ended_on_a_doubtful_day_is_listed(
    partition: str, start: str, end: str, detail: str
) -> None:
    config = config_of(
        markets=["futures_cm"],
        symbols=["BTCUSD_PERP"],
        data_types=["bookTicker"],
        partition=partition,
        date_range=days(start, end),
    )
    world = World(now=NOW_LATE, ends={"BTCUSD_PERP": date(2024, 10, 14)})
    plan = plan_of(config, world)
    assert len(plan.frame) == 2
    assert not plan.missing
    assert {absence.detail for absence in plan.unavailable} == {detail}
    assert {absence.reason for absence in plan.unavailable} == {Reason.ENDED}


def test_a_note_promises_daily_files_only_of_days_that_have_better_ones() -> None:
    found = notes_of(
        partition="auto",
        intervals={"klines": ["1h"]},
        date_range=days("2018-02-01", "2020-12-31"),
    )
    promised = {note for note in found if "fetches the daily files" in note}
    assert [note for note in found if "2018-02-09" in note and "defect" in note]
    assert promised == {note for note in found if "2020-12-21" in note}


@pytest.mark.parametrize(
    ("start", "end", "months", "daily"),
    [
        # Around whole months.
        ("2023-01-15", "2023-03-31", ["2023-01", "2023-02", "2023-03"], 0),
        ("2023-02-01", "2023-04-03", ["2023-02", "2023-03", "2023-04"], 0),
        # Without a whole month.
        ("2023-01-15", "2023-01-20", ["2023-01"], 0),
        ("2023-01-15", "2023-02-03", ["2023-01", "2023-02"], 0),
        # In the month in which the daily files begin.
        ("2023-05-02", "2023-05-20", ["2023-05"], 11),
        # After the daily files begin.
        ("2023-05-12", "2023-05-20", [], 9),
    ],
)
def test_auto_fetches_the_month_of_days_before_the_first_daily_file(
    start: str, end: str, months: list[str], daily: int
) -> None:
    config = config_of(
        symbols=["BTCUSDT", "ETHUSDT"],
        intervals={"klines": ["1d"]},
        partition="auto",
        date_range=days(start, end),
    )
    plan = plan_of(config, World(daily_from=date(2023, 5, 10)))
    assert plan.unavailable == ()
    assert plan.missing == ()
    assert plan.frame["symbol"].to_list() == sorted(plan.frame["symbol"])
    rows = plan.frame.filter(symbol="BTCUSDT")
    monthly = rows.filter(partition="monthly")
    assert [str(day)[:7] for day in monthly["start"]] == months
    assert len(rows) - len(monthly) == daily
    assert rows.n_unique("key") == len(rows)


def test_days_that_neither_files_nor_months_have_are_before_the_first() -> None:
    config = config_of(
        intervals={"klines": ["1d"]}, partition="auto", date_range=days("2023-01-15", "2023-05-20")
    )
    world = World(daily_from=date(2023, 5, 10), begins={"BTCUSDT": date(2023, 3, 5)})
    plan = plan_of(config, world)
    assert plan.missing == ()
    [absence] = plan.unavailable
    assert (absence.reason, absence.start) == (Reason.BEFORE_FIRST, date(2023, 1, 15))
    assert absence.end == date(2023, 2, 28)
    assert len(plan.frame.filter(partition="monthly")) == 3


def test_days_of_the_month_in_which_a_symbol_begins_need_no_month() -> None:
    config = config_of(
        intervals={"klines": ["1d"]}, partition="auto", date_range=days("2025-06-02", "2025-06-20")
    )
    plan = plan_of(config, World(begins={"BTCUSDT": date(2025, 6, 10)}))
    [absence] = plan.unavailable
    assert (absence.reason, absence.end) == (Reason.BEFORE_FIRST, date(2025, 6, 9))
    assert plan.frame["partition"].to_list() == ["daily"] * 11


def test_explicitly_requested_daily_files_are_not_replaced() -> None:
    config = config_of(
        intervals={"klines": ["1d"]}, partition="daily", date_range=days("2023-01-15", "2023-01-20")
    )
    plan = plan_of(config, World(daily_from=date(2023, 5, 10)))
    assert len(plan) == 0
    assert [absence.reason for absence in plan.unavailable] == [Reason.BEFORE_FIRST]


@pytest.mark.parametrize(("begins", "more"), [(date(2023, 1, 20), 1), (date(2023, 3, 5), 0)])
def test_a_month_before_the_first_one_is_not_listed_again(begins: date, more: int) -> None:
    config = config_of(
        intervals={"klines": ["1d"]}, partition="auto", date_range=days("2023-01-15", "2023-04-30")
    )
    world = World(daily_from=date(2023, 5, 10), begins={"BTCUSDT": begins})
    [request] = expand(config, MATRIX, NOW).folders
    listing = {part.folder: world.listing(part) for part in request.parts()}
    requests = resolve_months(request, listing[request.folder].objects)
    assert len(partial_months(requests, listing, MATRIX, NOW)) == more
