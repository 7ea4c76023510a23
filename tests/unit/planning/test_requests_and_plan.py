"""A configuration, a listing and a store make a plan: what is counted, and what is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    ObjectKey,
    Stream,
    format_period,
    period_end,
    periods,
)
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.listing_pages import Listed
from binance_archive_kit.archive.matrix import PartitionAvailability, load_matrix
from binance_archive_kit.planning.absences import ArchiveListing
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.date_range import DateRange
from binance_archive_kit.planning.decide import decide, make_plan
from binance_archive_kit.planning.lifetimes import Lifetimes, witnesses
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Action, Plan
from binance_archive_kit.planning.requests import FolderRequest, Requests, expand, resolve_months
from binance_archive_kit.storage.inventory import INVENTORY_SCHEMA

NOW = datetime(2025, 8, 20, 9, 0, tzinfo=UTC)
NOTHING = pl.DataFrame(schema=INVENTORY_SCHEMA)
MATRIX = load_matrix()

SYMBOLS = {
    Market.SPOT: {
        "BTCUSDT",
        "ETHUSDT",
        "ADAUSDT",
        "DOTUSDT",
        "LINKUSDT",
        "BNBUSDT",
        "币安人生USDT",
    },
    Market.FUTURES_UM: {"BTCUSDT", "ETHUSDT", "ADAUSDT", "DOTUSDT", "BNBUSDT", "BTCUSDT_250926"},
    Market.FUTURES_CM: {"BTCUSD_PERP", "ETHUSD_PERP", "BTCUSD_250926", "BTCUSD", "ETHUSD"},
    Market.OPTIONS: {"BTCBVOLUSDT", "ETHBVOLUSDT", "BTCUSDT", "ETHUSDT"},
}


@dataclass
class World:
    """An archive in which every object exists that the facts allow, unless said otherwise."""

    now: datetime = NOW
    holes: frozenset[str] = frozenset()
    begins: Mapping[str, date] = field(default_factory=dict)
    ends: Mapping[str, date] = field(default_factory=dict)
    #: Last day of single streams, by symbol and interval or data type.
    stops: Mapping[tuple[str, str], date] = field(default_factory=dict)
    #: Day of the next month on which monthly files come out.
    monthly_out: int = 4

    def exists(self, stream: Folder, facts: PartitionAvailability, start: date) -> bool:
        end = period_end(start, stream.partition)
        out = end + timedelta(days=1 if stream.partition is Partition.DAILY else self.monthly_out)
        return (
            stream.symbol in SYMBOLS[stream.market]
            and (facts.first is None or start >= facts.first)
            and (facts.last is None or start <= facts.last)
            and end >= self.begins.get(stream.symbol, end)
            and start <= self.ends.get(stream.symbol, start)
            and start <= self.stops.get((stream.symbol, stream.interval or stream.data_type), start)
            and datetime.combine(out, datetime.min.time(), UTC) <= self.now
            and str(ObjectKey(stream, start)) not in self.holes
        )

    def listing(self, request: FolderRequest) -> FolderListing:
        """Answer as `ListingClient.list_folders` does."""
        stream, facts = request.folder, request.availability
        listing = FolderListing()
        starts = list(request.starts())
        for start in starts:
            if self.exists(stream, facts, start):
                period = format_period(start, stream.partition)
                listing.objects[period] = Listed(1_000, "0" * 32, "2025-07-16T01:00:00.000Z", True)
        after = period_end(starts[-1], stream.partition) + timedelta(days=1)
        later = periods(after, after + timedelta(days=400), stream.partition)
        listing.ends = not any(self.exists(stream, facts, start) for start in later)
        if format_period(starts[0], stream.partition) not in listing.objects:
            listing.probed = True
            since = max(facts.first or date(2019, 1, 1), self.begins.get(stream.symbol, date.min))
            every = periods(since, self.now.date(), stream.partition)
            first = next((s for s in every if self.exists(stream, facts, s)), None)
            listing.first = first and format_period(first, stream.partition)
        return listing


def plan_of(
    config: CollectionConfig,
    world: World | None = None,
    *,
    listed: bool = True,
    inventory: pl.DataFrame = NOTHING,
) -> Plan:
    """Plan as `collection` does, with a world in place of the network."""
    world = world or World()
    asked = expand(config, MATRIX, world.now)
    if not listed:
        due = [
            settled
            for request in asked.requests
            for settled in resolve_months(
                request,
                [
                    format_period(s, Partition.MONTHLY)
                    for s in request.starts()
                    if MATRIX.published_at(s, Partition.MONTHLY) <= world.now
                ],
            )
        ]
        requests = Requests(due, asked.unavailable, asked.notes, asked.warnings)
        return make_plan(config, requests, None, inventory, MATRIX, world.now)
    listing = {request.folder: world.listing(request) for request in asked.requests}
    settled = [
        part
        for request in asked.requests
        for part in resolve_months(request, listing[request.folder].objects)
    ]
    for request in settled:
        if request.folder not in listing:
            listing[request.folder] = world.listing(request)
    known = {
        stream.parent: sorted(SYMBOLS[stream.market])
        for stream, each in listing.items()
        if each.probed and each.first is None
    }
    requests = Requests(settled, asked.unavailable, asked.notes, asked.warnings)
    beside = {
        request.folder: world.listing(request)
        for request in witnesses(settled, listing, MATRIX, world.now)
    }
    answer = ArchiveListing(listing, beside, known)
    return make_plan(config, requests, answer, inventory, MATRIX, world.now)


def days(start: str, end: str | None = None) -> dict[str, str]:
    return {"start": start, "end": end or start}


def config_of(**fields: Any) -> CollectionConfig:
    defaults = {
        "markets": ["spot"],
        "symbols": ["BTCUSDT"],
        "data_types": ["klines"],
        "output_directory": "output",
        "date_range": days("2025-07-15"),
    }
    return CollectionConfig(**{**defaults, **fields})


def reasons(absences: Iterable[Absence]) -> list[tuple[str, str, str]]:
    return sorted({(a.market.value, a.data_type.value, a.reason.value) for a in absences})


# The examples' counts

PAIR = ["BTCUSDT", "ETHUSDT"]
HOURS = {"klines": ["1h", "1d"]}
ALL_INTERVALS = [
    "1s",
    "1m",
    "3m",
    "5m",
    "15m",
    "30m",
    "1h",
    "2h",
    "4h",
    "6h",
    "8h",
    "12h",
    "1d",
    "3d",
    "1w",
    "1M",
]
FOUR = ["1m", "5m", "1h", "1d"]
BOTH = ["spot", "futures_um"]
FIRST_HALF = days("2025-07-01", "2025-07-15")

BLOCKS: dict[str, tuple[int, dict[str, Any]]] = {
    "basic": (2, {"intervals": HOURS}),
    "multi-market": (
        90,
        {
            "markets": ["spot", "futures_um", "futures_cm", "options"],
            "symbols": {
                "spot": PAIR,
                "futures_um": PAIR,
                "futures_cm": ["BTCUSD_PERP"],
                "options": ["BTC"],
            },
            "data_types": ["klines", "trades"],
            "intervals": HOURS,
            "date_range": days("2025-07-10", "2025-07-15"),
        },
    ),
    "spot complete": (
        600,
        {
            "symbols": ["BTCUSDT", "ETHUSDT", "ADAUSDT", "DOTUSDT", "LINKUSDT"],
            "data_types": ["klines", "trades", "aggTrades", "bookDepth", "bookTicker"],
            "intervals": {
                "klines": ["1m", "5m", "15m", "1h", "4h", "1d"],
                "bookDepth": ["100ms", "1000ms"],
            },
            "date_range": FIRST_HALF,
        },
    ),
    "futures um": (
        318,
        {
            "markets": ["futures_um"],
            "symbols": ["BTCUSDT", "ETHUSDT", "BNBUSDT"],
            "data_types": [
                "klines",
                "fundingRate",
                "premiumIndex",
                "liquidationSnapshot",
                "metrics",
            ],
            "intervals": {
                "klines": ["1m", "5m", "15m", "1h", "4h"],
                "indexPriceKlines": ["1h", "4h"],
                "markPriceKlines": ["1h", "4h"],
            },
            "date_range": FIRST_HALF,
        },
    ),
    "options": (
        30,
        {
            "markets": ["options"],
            "symbols": ["BTC", "ETH"],
            "data_types": ["BVOLIndex", "EOHSummary"],
            "intervals": {"BVOLIndex": FOUR},
            "date_range": FIRST_HALF,
        },
    ),
    "comprehensive klines": (
        106,
        {
            "markets": ["spot", "futures_um", "futures_cm"],
            "symbols": {
                "spot": PAIR,
                "futures_um": PAIR,
                "futures_cm": ["BTCUSD_PERP", "ETHUSD_PERP"],
            },
            "data_types": ["klines", "indexPriceKlines", "markPriceKlines"],
            "intervals": {
                "klines": ALL_INTERVALS,
                "indexPriceKlines": FOUR,
                "markPriceKlines": FOUR,
            },
        },
    ),
    "order book": (
        2,
        {
            "markets": BOTH,
            "symbols": PAIR,
            "data_types": ["bookDepth", "bookTicker"],
            "intervals": {"bookDepth": ["100ms", "1000ms"]},
        },
    ),
    "liquidations": (
        0,
        {
            "markets": ["futures_um", "futures_cm"],
            "symbols": ["BTCUSDT", "ETHUSDT", "ADAUSDT"],
            "data_types": ["liquidationSnapshot"],
            "date_range": FIRST_HALF,
        },
    ),
    "high throughput": (
        180,
        {
            "markets": BOTH,
            "symbols": PAIR,
            "data_types": ["klines", "trades"],
            "intervals": HOURS,
            "date_range": FIRST_HALF,
        },
    ),
    "memory-optimised": (2, {"intervals": HOURS, "enable_batch_mode": False}),
    "network-resilient": (
        6,
        {"symbols": PAIR, "data_types": ["klines", "trades"], "intervals": HOURS},
    ),
    "single day": (28, {"markets": BOTH, "data_types": ["klines", "trades", "fundingRate"]}),
    "weekly": (
        32,
        {"symbols": PAIR, "intervals": HOURS, "date_range": days("2025-07-08", "2025-07-15")},
    ),
    "monthly": (
        31,
        {"intervals": {"klines": ["1d"]}, "date_range": days("2025-06-15", "2025-07-15")},
    ),
    "prefect deployment": (
        12,
        {"markets": BOTH, "symbols": PAIR, "data_types": ["klines", "trades"], "intervals": HOURS},
    ),
    "robust retry": (13, {}),
    "partial": (
        324,
        {
            "markets": BOTH,
            "symbols": PAIR,
            "data_types": ["klines", "trades"],
            "date_range": days("2025-07-10", "2025-07-15"),
        },
    ),
    "research": (
        2166,
        {
            "markets": ["spot", "futures_um", "futures_cm", "options"],
            "symbols": {
                "spot": ["BTCUSDT", "ETHUSDT", "ADAUSDT", "DOTUSDT", "LINKUSDT"],
                "futures_um": ["BTCUSDT", "ETHUSDT", "ADAUSDT", "DOTUSDT"],
                "futures_cm": ["BTCUSD_PERP", "ETHUSD_PERP"],
                "options": ["BTC", "ETH"],
            },
            "data_types": [
                *("klines", "trades", "aggTrades", "bookDepth", "bookTicker", "fundingRate"),
                *("premiumIndex", "liquidationSnapshot", "metrics", "BVOLIndex", "EOHSummary"),
                *("indexPriceKlines", "markPriceKlines"),
            ],
            "intervals": {
                "klines": ["1m", "5m", "15m", "1h", "4h", "1d"],
                "indexPriceKlines": ["1h", "4h", "1d"],
                "markPriceKlines": ["1h", "4h", "1d"],
                "BVOLIndex": ["1h", "1d"],
                "bookDepth": ["1000ms"],
            },
            "date_range": FIRST_HALF,
        },
    ),
    "backtest": (
        724,
        {
            "markets": BOTH,
            "symbols": PAIR,
            "data_types": ["klines", "trades", "fundingRate", "liquidationSnapshot"],
            "intervals": {"klines": ["1m", "5m", "1h"]},
            "date_range": days("2025-06-01", "2025-07-15"),
        },
    ),
    "pipeline init": (
        51,
        {
            "markets": BOTH,
            "symbols": ["BTCUSDT", "ETHUSDT", "BNBUSDT"],
            "data_types": ["klines", "trades", "fundingRate", "bookTicker"],
            "intervals": {"klines": ["1m", "5m", "1h"]},
            "date_range": days("2025-07-14", "2025-07-15"),
            "force_redownload": True,
        },
    ),
    "unit test": (1, {"intervals": {"klines": ["1h"]}, "batch_size": 5}),
    "performance test": (
        6,
        {"symbols": PAIR, "data_types": ["klines", "trades"], "intervals": HOURS},
    ),
    "command line": (2, {"intervals": HOURS}),
    "shell script": (
        12,
        {"markets": BOTH, "symbols": PAIR, "data_types": ["klines", "trades"], "intervals": HOURS},
    ),
}


def block(name: str) -> CollectionConfig:
    return config_of(**BLOCKS[name][1])


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


# What the examples cannot have

UM, CM = "futures_um", "futures_cm"


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
    listing = {request.folder: found for request in asked.requests}
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


# Partitions


def spans_of(plan: Plan) -> list[str]:
    return [key.rpartition("/")[2] for key in plan.frame["key"]]


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
    assert note == "partition: auto would take up to 4 monthly files instead of 122 daily ones"
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
    [request] = expand(config, MATRIX, NOW).requests
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


# Absences: each has its own word


def test_a_hole_is_missing_and_names_its_key() -> None:
    hole = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-10.zip"
    config = config_of(data_types=["trades"], date_range=FIRST_HALF)
    plan = plan_of(config, World(holes=frozenset({hole})))
    assert len(plan) == 14
    [absence] = plan.missing
    assert (absence.reason, absence.key) == (Reason.ABSENT, hole)
    assert (absence.start, absence.end) == (date(2025, 7, 10), date(2025, 7, 10))
    assert plan.unavailable == ()
    assert plan.not_published == ()


def test_each_missing_file_is_listed_by_itself() -> None:
    holes = frozenset(
        f"data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-{day:02}.zip"
        for day in (10, 11, 12)
    )
    plan = plan_of(config_of(data_types=["trades"], date_range=FIRST_HALF), World(holes=holes))
    assert {absence.key for absence in plan.missing} == holes


def test_days_before_a_symbol_begins_are_one_run() -> None:
    config = config_of(data_types=["trades"], date_range=FIRST_HALF)
    plan = plan_of(config, World(begins={"BTCUSDT": date(2025, 7, 11)}))
    assert len(plan) == 5
    [absence] = plan.unavailable
    assert absence.reason is Reason.BEFORE_FIRST
    assert (absence.start, absence.end) == (date(2025, 7, 1), date(2025, 7, 10))
    assert "2025-07-11" in absence.detail
    assert absence.key is None


def test_days_after_a_symbol_ends_are_missing_and_say_delisted() -> None:
    config = config_of(data_types=["trades"], date_range=FIRST_HALF)
    plan = plan_of(config, World(ends={"BTCUSDT": date(2025, 7, 10)}))
    assert len(plan) == 10
    assert {a.reason for a in plan.missing} == {Reason.AFTER_LAST}
    assert len(plan.missing) == 5
    assert "2025-07-10" in plan.missing[0].detail
    assert "delisted" in plan.missing[0].detail
    later = plan_of(config, World(ends={"BTCUSDT": date(2025, 5, 1)}))
    assert {a.reason for a in later.missing} == {Reason.AFTER_LAST}
    assert "of before" not in later.missing[0].detail


STREAMS = [(symbol, interval) for symbol in ("BTCUSDT", "ETHUSDT") for interval in ("1h", "1d")]


@given(
    asked=st.sets(st.sampled_from(STREAMS), min_size=1),
    stops=st.fixed_dictionaries({stream: st.sampled_from([None, 1, 5, 12]) for stream in STREAMS}),
)
def test_a_symbol_is_delisted_when_all_of_it_stops_and_the_market_goes_on(
    asked: set[tuple[str, str]], stops: dict[tuple[str, str], int | None]
) -> None:
    """Streams that were not asked for are asked about where those that were cannot tell."""
    ends = {
        stream: date.max if day is None else date(2025, 7, day) for stream, day in stops.items()
    }
    ends |= {(symbol, "1m"): date(2025, 7, 1) for symbol in ("BTCUSDT", "ETHUSDT")}
    config = config_of(
        symbols=sorted({symbol for symbol, _ in asked}),
        intervals={"klines": sorted({interval for _, interval in asked})},
        date_range=FIRST_HALF,
    )
    plan = plan_of(config, World(stops=ends))
    for absence in plan.missing:
        own = max(ends[stream] for stream in STREAMS if stream[0] == absence.symbol)
        alive = max(ends[stream] for stream in STREAMS if stream[0] != absence.symbol)
        gone = own < absence.start <= alive
        assert (absence.reason is Reason.AFTER_LAST) == gone, absence
    assert len(plan) + len(plan.missing) == 15 * len(config.symbols_of("spot")) * len(
        config.intervals[DataType.KLINES]
    )


def test_a_market_that_stops_at_once_was_not_delisted() -> None:
    symbols = ["BTCUSDT", "ETHUSDT", "ADAUSDT"]
    world = World(ends=dict.fromkeys(SYMBOLS[Market.SPOT], date(2025, 7, 10)))
    plan = plan_of(config_of(symbols=symbols, data_types=["trades"], date_range=FIRST_HALF), world)
    assert {a.reason for a in plan.missing} == {Reason.ABSENT}
    assert "may have stopped publishing" in plan.missing[0].detail


def test_the_file_of_a_last_month_does_not_keep_a_symbol_alive() -> None:
    """A symbol that ends in the middle of a month has a file of that month."""
    asked = {"symbols": ["BTCUSDT"], "intervals": {"klines": ["1h"]}, "partition": "daily"}
    world = World(ends={"BTCUSDT": date(2025, 6, 20)})
    plan = plan_of(config_of(**asked, date_range=days("2025-06-15", "2025-06-25")), world)
    assert {a.reason for a in plan.missing} == {Reason.AFTER_LAST}
    assert [a.start.day for a in plan.missing] == [21, 22, 23, 24, 25]


def test_nothing_more_is_listed_while_the_last_days_are_not_due() -> None:
    asked = expand(config_of(date_range={"start": "-3d", "end": "yesterday"}), MATRIX, NOW)
    world = World(ends={"BTCUSDT": NOW.date() - timedelta(days=2)})
    listing = {request.folder: world.listing(request) for request in asked.requests}
    assert witnesses(asked.requests, listing, MATRIX, NOW) == []


def test_days_after_a_feed_has_ended_are_unavailable() -> None:
    config = config_of(
        markets=["um"], data_types=["bookTicker"], date_range=days("2024-03-29", "2024-04-02")
    )
    plan = plan_of(config)
    assert spans_of(plan) == [
        "BTCUSDT-bookTicker-2024-03-29.zip",
        "BTCUSDT-bookTicker-2024-03-30.zip",
    ]
    [absence] = plan.unavailable
    assert (absence.reason, absence.start, absence.end) == (
        Reason.ENDED,
        date(2024, 3, 31),
        date(2024, 4, 2),
    )


def test_days_before_a_feed_begins_are_unavailable() -> None:
    config = config_of(markets=["um"], data_types=["bookDepth"])
    whole = plan_of(config.replace(date_range=days("2022-06-01")))
    assert reasons(whole.unavailable) == [(UM, "bookDepth", "not_begun")]
    part = plan_of(config.replace(date_range=days("2022-12-30", "2023-01-02")))
    assert len(part) == 2
    [absence] = part.unavailable
    assert (absence.reason, absence.end) == (Reason.NOT_BEGUN, date(2022, 12, 31))


def test_a_known_gap_is_missing_and_said_to_be_known() -> None:
    config = config_of(
        markets=["options"],
        symbols=["BTC"],
        data_types=["BVOLIndex"],
        date_range=days("2025-12-14", "2026-01-05"),
    )
    gap = frozenset(
        f"data/option/daily/BVOLIndex/BTCBVOLUSDT/BTCBVOLUSDT-BVOLIndex-{d}.zip"
        for d in periods(date(2025, 12, 15), date(2026, 1, 4), Partition.DAILY)
    )
    plan = plan_of(config, World(now=datetime(2026, 2, 1, tzinfo=UTC), holes=gap))
    assert len(plan) == 2
    assert len(plan.missing) == 21
    assert {a.detail for a in plan.missing} == {"the archive does not have it, a known gap"}


@pytest.mark.parametrize(
    ("hour", "today", "kind"),
    [
        (0, date(2025, 7, 16), "not_published"),
        (23, date(2025, 7, 16), "not_published"),
        (1, date(2025, 7, 17), "missing"),
    ],
)
def test_a_day_is_missing_only_after_it_is_due(hour: int, today: date, kind: str) -> None:
    key = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip"
    world = World(
        now=datetime(today.year, today.month, today.day, hour, tzinfo=UTC), holes=frozenset({key})
    )
    plan = plan_of(config_of(data_types=["trades"]), world)
    assert [a.key for a in getattr(plan, kind)] == [key]
    assert len(plan.missing) + len(plan.not_published) == 1


def test_today_and_the_future_are_not_published() -> None:
    config = config_of(data_types=["trades"], date_range=days("2025-08-18", "2025-08-25"))
    for listed in (True, False):
        plan = plan_of(config, listed=listed)
        assert len(plan) == 2
        assert [str(a.start) for a in plan.not_published] == [
            f"2025-08-{day}" for day in range(20, 26)
        ]
        assert plan.missing == ()


def test_a_month_is_missing_only_after_it_is_due() -> None:
    config = config_of(
        markets=["um"], data_types=["fundingRate"], date_range=days("2025-06-01", "2025-07-31")
    )
    late = World(now=datetime(2025, 8, 10, tzinfo=UTC), monthly_out=20)
    plan = plan_of(config, late)
    assert [a.reason for a in plan.not_published] == [Reason.NOT_PUBLISHED]
    plan = plan_of(config, World(now=datetime(2025, 8, 17, tzinfo=UTC), monthly_out=20))
    assert [a.key for a in plan.missing] == [
        "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"
    ]


def test_a_day_before_the_last_published_one_is_a_hole_even_when_fresh() -> None:
    key = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-08-18.zip"
    config = config_of(data_types=["trades"], date_range=days("2025-08-17", "2025-08-19"))
    plan = plan_of(config, World(now=datetime(2025, 8, 20, 0, tzinfo=UTC), holes=frozenset({key})))
    assert [(a.reason, a.key) for a in plan.missing] == [(Reason.ABSENT, key)]


def test_an_unknown_symbol_is_answered_with_the_nearest() -> None:
    plan = plan_of(config_of(symbols=["BTCUSTD"], data_types=["trades"]))
    [absence] = plan.unavailable
    assert absence.reason is Reason.UNKNOWN_SYMBOL
    assert "did you mean 'BTCUSDT'?" in absence.detail
    assert plan.missing == ()


def test_an_unknown_symbol_is_unknown_for_yesterday_too() -> None:
    config = config_of(symbols=["BTCUSTD"], data_types=["trades"], date_range=None)
    plan = plan_of(config)
    assert [a.reason for a in plan.unavailable] == [Reason.UNKNOWN_SYMBOL]
    assert plan.not_published == ()


def test_a_symbol_without_this_interval_is_no_unknown_symbol() -> None:
    config = config_of(intervals={"klines": ["1h"]}, date_range=days("2024-01-01"))
    plan = plan_of(config, World(begins={"BTCUSDT": date(2030, 1, 1)}))
    assert [a.reason for a in plan.unavailable] == [Reason.BEFORE_FIRST]


def test_absences_speak_for_themselves() -> None:
    hole = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip"
    plan = plan_of(config_of(data_types=["trades"]), World(holes=frozenset({hole})))
    assert (
        str(plan.missing[0])
        == "spot trades BTCUSDT daily, 2025-07-15: the archive does not have it"
    )


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


# How it reads


@pytest.mark.parametrize("name", ["liquidations"])
def test_an_empty_plan_claims_no_success(name: str) -> None:
    plan = plan_of(block(name))
    assert bool(plan)
    for text in (plan.headline(), str(plan), plan._repr_html_()):
        assert "Nothing to collect" in text
        assert not any(word in text.lower() for word in ("success", "complete", "proven", "done"))
    assert "did you mean" in str(plan)
    assert plan.total_bytes == 0


def test_a_plan_reads_well() -> None:
    hole = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-10.zip"
    config = config_of(
        markets=BOTH,
        data_types=["trades", "bookTicker"],
        date_range=days("2025-07-09", "2025-07-11"),
    )
    plan = plan_of(config, World(holes=frozenset({hole})))
    assert plan.headline() == "5 objects: 5 to download; 4.9 KB to fetch"
    text = str(plan)
    row = "spot trades daily 2 2 0 0 2.0 KB 2025-07-09 to 2025-07-11"
    assert row in " ".join(text.split())
    assert "1 missing (could exist, the archive does not have it): 1 absent" in text
    assert "2 unavailable (cannot exist)" in text
    assert repr(plan) == f"Plan({plan.headline()})"
    unlisted = plan_of(config, listed=False)
    assert unlisted.headline().endswith("size unknown")
    assert "unknown" in unlisted._repr_html_()


def test_html_escapes_what_comes_from_outside() -> None:
    hostile = Absence(
        Market.SPOT, DataType.TRADES, Reason.ABSENT, "<script>x</script>", *(date(2025, 7, 1),) * 2
    )
    frame = decide(objects_frame(), NOTHING, config_of())
    plan = Plan(config_of(), frame, missing=(hostile,), notes=("<img src=x onerror=y>",))
    html = plan._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


def test_a_long_list_of_absences_is_cut_with_a_count() -> None:
    config = config_of(data_types=["trades"], date_range=days("2025-09-01", "2025-12-31"))
    plan = plan_of(config)
    assert "… and 116 more" in str(plan)
    assert str(plan).count("not published yet") <= 7


# What to do with each object: the table of `decide`

ETAG, OTHER = "a" * 32, "b" * 32


def objects_frame(**changes: Any) -> pl.DataFrame:
    row = {
        "key": "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip",
        "market": "spot",
        "data_type": "trades",
        "partition": "daily",
        "symbol": "BTCUSDT",
        "interval": None,
        "start": date(2025, 7, 15),
        "end": date(2025, 7, 15),
        "size": 100,
        "etag": ETAG,
        "last_modified": "2025-07-16T01:00:00.000Z",
        "checksum": True,
        **changes,
    }
    schema = {k: v for k, v in PLAN_SCHEMA.items() if k not in ("action", "reason")}
    return pl.DataFrame([row], schema=schema)


def inventory_frame(**changes: Any) -> pl.DataFrame:
    row = {
        "key": "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip",
        "file_size": 100,
        "proven_size": 100,
        "unchanged": True,
        "proven_etag": ETAG,
        "proven_by": "sha256",
        **changes,
    }
    return pl.DataFrame([row], schema=INVENTORY_SCHEMA)


UNPROVEN = {"proven_size": None, "unchanged": None, "proven_etag": None, "proven_by": None}
UNLISTED = {"size": None, "etag": None, "last_modified": None, "checksum": None}


@pytest.mark.parametrize(
    ("on_disk", "listed", "settings", "action", "reason"),
    [
        # The lines of the docstring, in order.
        (None, {}, {}, "download", "new"),
        ({}, {}, {"force_redownload": True}, "update", "forced"),
        ({}, {}, {"enable_resume": False}, "update", "forced"),
        ({"file_size": 99, "unchanged": False}, {}, {}, "update", "size differs"),
        (UNPROVEN, {}, {}, "keep", "to be proven"),
        ({"proven_size": 99, "unchanged": False}, {}, {}, "keep", "to be proven"),
        ({"unchanged": False}, {"etag": OTHER}, {}, "keep", "to be proven"),
        ({"unchanged": False}, {}, {}, "keep", "to be hashed"),
        ({"proven_by": "etag"}, {}, {}, "keep", "to be proven"),
        ({}, {"etag": OTHER}, {}, "update", "re-issued"),
        ({}, {}, {}, "keep", "proven"),
        ({}, UNLISTED, {}, "keep", "proven"),
        # New, whatever else is set.
        (None, {}, {"force_redownload": True}, "download", "new"),
        (None, UNLISTED, {}, "download", "new"),
        (None, {"etag": None}, {"enable_resume": False}, "download", "new"),
        # Force wins over every state of the file.
        (UNPROVEN, {}, {"force_redownload": True}, "update", "forced"),
        ({"file_size": 99, "unchanged": False}, {}, {"force_redownload": True}, "update", "forced"),
        ({}, UNLISTED, {"enable_resume": False}, "update", "forced"),
        # Another size, proven before or not.
        ({"file_size": 0, **UNPROVEN}, {}, {}, "update", "size differs"),
        ({}, {"size": 101}, {}, "update", "size differs"),
        ({}, {"size": 101, "etag": OTHER}, {}, "update", "re-issued"),
        ({"file_size": 99, "unchanged": False}, {"etag": OTHER}, {}, "update", "size differs"),
        # A moved file is hashed, if its proof is as strong as asked for.
        ({"unchanged": False}, UNLISTED, {}, "keep", "to be hashed"),
        ({"unchanged": False, "proven_by": "etag"}, {}, {}, "keep", "to be proven"),
        ({"unchanged": False, "proven_etag": None}, {}, {}, "keep", "to be proven"),
        ({"unchanged": False}, {}, {"force_redownload": True}, "update", "forced"),
        # An unproven file is proven before anything is fetched.
        (UNPROVEN, {"etag": OTHER}, {}, "keep", "to be proven"),
        (UNPROVEN, UNLISTED, {}, "keep", "to be proven"),
        # How strong a proof must be.
        ({"proven_by": "size"}, {}, {}, "keep", "to be proven"),
        ({"proven_by": "stale"}, {}, {}, "keep", "to be proven"),
        ({"proven_by": "etag"}, {}, {"download_checksum": False}, "keep", "proven"),
        ({"proven_by": "size"}, {}, {"download_checksum": False}, "keep", "proven"),
        ({"proven_by": "stale"}, {}, {"accept_stale_checksum": True}, "keep", "proven"),
        ({"proven_by": "etag"}, {}, {"accept_stale_checksum": True}, "keep", "to be proven"),
        (
            {"proven_by": "etag"},
            {"etag": OTHER},
            {"download_checksum": False},
            "update",
            "re-issued",
        ),
        (UNPROVEN, {}, {"download_checksum": False}, "keep", "to be proven"),
        ({"proven_by": "sha256"}, {}, {"accept_stale_checksum": True}, "keep", "proven"),
        # A listing without ETag says nothing of the bytes.
        ({}, {"etag": None}, {}, "keep", "proven"),
        # Nor does a proof without one: it was made while the archive was not asked.
        ({"proven_etag": None}, {}, {}, "keep", "to be proven"),
        ({"proven_etag": None}, {"etag": None}, {}, "keep", "proven"),
        ({"proven_etag": None}, {"size": 101}, {}, "update", "size differs"),
    ],
)
def test_decide(
    on_disk: dict[str, Any] | None,
    listed: dict[str, Any],
    settings: dict[str, Any],
    action: str,
    reason: str,
) -> None:
    inventory = NOTHING if on_disk is None else inventory_frame(**on_disk)
    decided = decide(objects_frame(**listed), inventory, config_of(**settings))
    assert decided.schema == PLAN_SCHEMA
    assert decided.select("action", "reason").rows() == [(action, reason)]


def test_decide_keeps_the_order_and_ignores_other_files() -> None:
    objects = pl.concat([objects_frame(key=f"data/{name}.zip") for name in "cab"])
    inventory = pl.concat([inventory_frame(key=f"data/{name}.zip") for name in "xa"])
    decided = decide(objects, inventory, config_of())
    assert decided.select("key", "action").rows() == [
        ("data/c.zip", "download"),
        ("data/a.zip", "keep"),
        ("data/b.zip", "download"),
    ]


def test_a_plan_counts_its_actions() -> None:
    config = config_of(data_types=["trades"], date_range=days("2025-07-14", "2025-07-16"))
    stale = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-16.zip"
    inventory = pl.concat(
        [
            inventory_frame(file_size=1_000, proven_size=1_000, proven_etag="0" * 32),
            inventory_frame(key=stale, file_size=5),
        ]
    )
    plan = plan_of(config, inventory=inventory)
    assert [plan.count(action) for action in Action] == [1, 1, 1]
    assert plan.count("keep") == 1
    assert plan.total_bytes == 3_000
    assert plan.download_bytes == 2_000
    assert plan.headline() == ("3 objects: 1 to download, 1 to update, 1 to keep; 2.0 KB to fetch")


def test_a_plan_of_many_objects_is_quick() -> None:
    config = config_of(markets=BOTH, symbols=PAIR, date_range=days("2020-01-01", "2025-07-31"))
    plan = plan_of(config, listed=False)
    assert len(plan) > 100_000
    assert plan.frame["key"].n_unique() == len(plan)


def test_streams_name_themselves() -> None:
    stream = Folder(Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1), Partition.DAILY)
    assert str(stream) == "spot klines BTCUSDT 1h (daily)"


# What is known to be wrong in the archive


def notes_of(**fields: Any) -> list[str]:
    return [str(note) for note in expand(config_of(**fields), MATRIX, NOW_LATE).notes]


NOW_LATE = datetime(2026, 11, 30, tzinfo=UTC)


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
    also = "partition='auto' takes the daily files of these days too"
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
            "COIN-M futures bookTicker has ended: the archive's last file of it is of 2024-10",
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
    promised = {note for note in found if "takes the daily files" in note}
    assert [note for note in found if "2018-02-09" in note and "defect" in note]
    assert promised == {note for note in found if "2020-12-21" in note}


lasts = st.dictionaries(
    st.tuples(st.sampled_from(["AUSDT", "BUSDT", "CUSDT"]), st.sampled_from(Interval)),
    st.integers(0, 3),
    min_size=1,
)


@given(lasts)
def test_the_others_of_a_symbol_are_all_but_its_own(
    ends: Mapping[tuple[str, Interval], int],
) -> None:
    start = date(2025, 7, 1)
    listing = {
        Folder(
            Stream(Market.SPOT, DataType.KLINES, symbol, interval), Partition.DAILY
        ): FolderListing(
            {str(start + timedelta(days=at)): Listed(1, "", "", True) for at in range(last + 1)},
            ends=True,
        )
        for (symbol, interval), last in ends.items()
    }
    lifetimes = Lifetimes(listing)
    for stream in listing:
        others = [last for (symbol, _), last in ends.items() if symbol != stream.symbol]
        found = lifetimes.longest_other(stream)
        assert (found is None) == (not others)
        if found is not None:
            assert found[0] == start + timedelta(days=max(others))
            assert found[1].symbol != stream.symbol
