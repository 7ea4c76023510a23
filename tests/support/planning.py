"""A pretended archive, and plans made from it without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from binance_archive_kit.archive.absence import Absence
from binance_archive_kit.archive.enums import Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    ObjectKey,
    format_period,
    period_end,
    periods,
)
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.listing_pages import Listed
from binance_archive_kit.archive.matrix import PartitionAvailability, load_matrix
from binance_archive_kit.planning.absences import ArchiveListing, witnesses
from binance_archive_kit.planning.config import CollectionConfig, PartitionChoice
from binance_archive_kit.planning.decide import make_plan
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan
from binance_archive_kit.planning.requests import (
    FolderRequest,
    Requests,
    expand,
    partial_months,
    replace_days,
    resolve_months,
)
from binance_archive_kit.storage.proven_files import INVENTORY_SCHEMA

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
    #: First day of all daily files.
    daily_from: date = date.min
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
            and (stream.partition is Partition.MONTHLY or start >= self.daily_from)
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
            for request in asked.folders
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
    listing = {request.folder: world.listing(request) for request in asked.folders}
    settled = [
        part
        for request in asked.folders
        for part in resolve_months(request, listing[request.folder].objects)
    ]
    for request in settled:
        if request.folder not in listing:
            listing[request.folder] = world.listing(request)
    if config.partition is PartitionChoice.AUTO:
        months = partial_months(settled, listing, MATRIX, world.now)
        listed_months = {request.folder: world.listing(request) for request in months}
        settled = replace_days(settled, months, listing, listed_months)
        for folder in listed_months.keys() & {request.folder for request in settled}:
            listed_month = listed_months[folder]
            listing.setdefault(folder, listed_month).objects.update(listed_month.objects)
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


UM, CM = "futures_um", "futures_cm"


def spans_of(plan: Plan) -> list[str]:
    return [key.rpartition("/")[2] for key in plan.frame["key"]]


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


NOW_LATE = datetime(2026, 11, 30, tzinfo=UTC)
