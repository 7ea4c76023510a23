"""A bucket that holds what the archive held of June and July 2025, for the documented examples.

Spelled from the archive's published layout, feed by feed, and not by way of the package: what
it holds is what the examples must get. The files are small, and their contents invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from tests.support.bucket import Bucket, with_sidecars, zipped

LONG = ["BTCUSDT", "ETHUSDT"]
SPOT = [*LONG, "BNBUSDT", "ADAUSDT", "DOTUSDT", "LINKUSDT"]
UM = [*LONG, "BNBUSDT", "ADAUSDT", "DOTUSDT"]
CM = ["BTCUSD_PERP", "ETHUSD_PERP"]
PAIRS = ["BTCUSD", "ETHUSD"]
OPTIONS = ["BTCBVOLUSDT", "ETHBVOLUSDT"]
MINUTES = ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d"]
MONTHLY_ONLY = ["3d", "1w", "1mo"]
JUNE = [date(2025, 6, 1) + timedelta(days=at) for at in range(30)]
JULY = [date(2025, 7, 1) + timedelta(days=at) for at in range(15)]
MONTHS = ["2025-06", "2025-07"]


def _candles(root: str, family: str, symbols: list[str], intervals: list[str]) -> Iterator[str]:
    for symbol in symbols:
        # June is asked for of two symbols only.
        for day in (*(JUNE if symbol in LONG else ()), *JULY):
            for word in intervals:
                yield f"{root}/daily/{family}/{symbol}/{word}/{symbol}-{word}-{day}.zip"
        for month in MONTHS:
            for word in MONTHLY_ONLY:
                yield f"{root}/monthly/{family}/{symbol}/{word}/{symbol}-{word}-{month}.zip"


def _days(root: str, data_type: str, symbols: list[str], days: list[date]) -> Iterator[str]:
    for symbol in symbols:
        for day in days:
            yield f"{root}/daily/{data_type}/{symbol}/{symbol}-{data_type}-{day}.zip"


def keys() -> Iterator[str]:
    """Spell the keys of all zips."""
    spot, um, cm, option = "data/spot", "data/futures/um", "data/futures/cm", "data/option"
    yield from _candles(spot, "klines", SPOT, ["1s", *MINUTES])
    for root, symbols, pairs in ((um, UM, UM), (cm, CM, PAIRS)):
        for family in ("klines", "markPriceKlines", "premiumIndexKlines"):
            yield from _candles(root, family, symbols, MINUTES)
        yield from _candles(root, "indexPriceKlines", pairs, MINUTES)
        for symbol in symbols:
            for month in MONTHS:
                yield f"{root}/monthly/fundingRate/{symbol}/{symbol}-fundingRate-{month}.zip"
        for data_type in ("bookDepth", "metrics"):
            yield from _days(root, data_type, symbols, JULY)
    for root, symbols in ((spot, SPOT), (um, UM), (cm, CM)):
        for data_type in ("trades", "aggTrades"):
            yield from _days(root, data_type, symbols, JULY)
            yield from _days(root, data_type, [each for each in symbols if each in LONG], JUNE)
    yield from _days(option, "BVOLIndex", OPTIONS, JULY)
    # The last files of what has ended: its folders are still there.
    yield from _days(um, "bookTicker", LONG, [date(2024, 3, 29), date(2024, 3, 30)])
    for data_type in ("bookTicker", "liquidationSnapshot"):
        yield from _days(cm, data_type, CM, [date(2024, 10, 13), date(2024, 10, 14)])
    yield from _days(option, "EOHSummary", LONG, [date(2023, 10, 22), date(2023, 10, 23)])


def bucket() -> Bucket:
    """Make the objects: a zip of one row for each key, and its sidecar."""
    return with_sidecars({key: zipped(key, f"{key}\n") for key in keys()})
