"""Invented instruments and their candles.

All arithmetic is on whole numbers, so that every machine writes the same text: an amount is a
count of its smallest unit, and gets its decimal point last.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import isqrt

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream
from binance_archive_kit.demo.flaws import HALT

#: First and last day (UTC, inclusive) of the daily candles.
FIRST_DAY, LAST_DAY = date(2025, 6, 15), date(2025, 7, 15)

#: First day (UTC) of feeds with a few days only, up to `LAST_DAY`.
FIRST_LATE_DAY = date(2025, 7, 13)
DAY = timedelta(days=1)

PRICES = ("open", "high", "low", "close")
_PRIME = 2_147_483_647
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset with a price, as a count of 10^-`places` of the quote asset."""

    name: str
    places: int
    price: int
    step: int  # half of the largest move in a minute


@dataclass(frozen=True, slots=True)
class Instrument:
    """A traded symbol, and the format of its numbers in the archive."""

    market: Market
    symbol: str
    asset: Asset
    basis: int  # distance from the asset's price
    amount_places: int
    most: int  # about the largest amount traded in a minute
    decimals: tuple[int, int, int]  # of prices, amounts and values, as written
    first_id: int
    contract_size: int = 0  # in USD, COIN-M only

    def folder(self, data_type: DataType, partition: Partition = Partition.DAILY) -> Folder:
        """Return the folder of one of its feeds without intervals."""
        return Folder(Stream(self.market, data_type, self.symbol), partition)

    @property
    def salt(self) -> int:
        """A seed of noise, different for each instrument."""
        return zlib.crc32(f"{self.market} {self.symbol}".encode()) % 1_000_000

    @property
    def value_places(self) -> int:
        """Decimal places of `value`."""
        return 8 if self.contract_size else self.asset.places + self.amount_places

    def value(self, amount: pl.Expr, price: pl.Expr) -> pl.Expr:
        """Return the value of an amount: in the quote asset, or on COIN-M in the base asset."""
        if self.contract_size:
            dollar: int = 10 ** (8 + self.asset.places)
            return amount * self.contract_size * dollar // price
        return amount * price

    def spell_price(self, price: str | pl.Expr) -> pl.Expr:
        """Format a price."""
        return spell_fixed(price, self.asset.places, self.decimals[0])

    def spell_amount(self, amount: str | pl.Expr) -> pl.Expr:
        """Format an amount."""
        return spell_fixed(amount, self.amount_places, self.decimals[1])

    def spell_value(self, value: str | pl.Expr) -> pl.Expr:
        """Format a value."""
        return spell_fixed(value, self.value_places, self.decimals[2])


BTC = Asset("BTC", 1, 1_045_000, 140)
ETH = Asset("ETH", 2, 250_000, 50)
LIFE = Asset("币安人生", 5, 20_000, 6)
BNX = Asset("BNX", 4, 12_000, 2)

#: Hours of Bitcoin before `main_walk`: first day, number of days, and price at the start.
BTC_HOURS = ((datetime(2022, 9, 15), 1, 202_315), (datetime(2024, 12, 30), 4, 935_499))

# Few significant digits keep the files small; zeros pad them to the archive's width.
_SPOT, _UM, _CM, _OPTIONS = Market
SPOT_BTC = Instrument(_SPOT, "BTCUSDT", BTC, 0, 3, 3_000, (8, 8, 8), 5_086_000_000)
SPOT_ETH = Instrument(_SPOT, "ETHUSDT", ETH, 0, 2, 4_000, (8, 8, 8), 2_500_000_000)
SPOT_LIFE = Instrument(_SPOT, "币安人生USDT", LIFE, 0, 0, 9_000, (8, 8, 8), 1_000)
UM_BTC = Instrument(_UM, "BTCUSDT", BTC, -450, 3, 9_000, (2, 3, 5), 6_400_000_000)
UM_ETH = Instrument(_UM, "ETHUSDT", ETH, -120, 2, 9_000, (2, 3, 5), 5_600_000_000)
UM_DELIVERY = Instrument(_UM, "BTCUSDT_250926", BTC, 9_000, 3, 900, (2, 3, 5), 40_000_000)
UM_SETTLED = Instrument(_UM, "BNXUSDTSETTLED", BNX, 0, 0, 9_000, (4, 0, 4), 90_000_000)
CM_BTC = Instrument(_CM, "BTCUSD_PERP", BTC, -500, 0, 4_000, (1, 0, 8), 1_100_000_000, 100)
CM_ETH = Instrument(_CM, "ETHUSD_PERP", ETH, -140, 0, 9_000, (2, 0, 8), 900_000_000, 10)

MAIN = (SPOT_BTC, SPOT_ETH, SPOT_LIFE, UM_BTC, UM_ETH, CM_BTC, CM_ETH)

#: First day of the daily 1m candles, which are most of the bytes; by default `FIRST_LATE_DAY`.
FIRST_MINUTES = {
    SPOT_BTC: FIRST_DAY,
    SPOT_ETH: FIRST_DAY,
    UM_BTC: date(2025, 7, 9),
    UM_ETH: date(2025, 7, 9),
}


def noise(index: pl.Expr, salt: int) -> pl.Expr:
    """Hash an index into a whole number from 0 to 2^31 - 2."""
    mixed = ((index + salt * 1_009) % _PRIME * 48_271 + 12_345) % _PRIME
    mixed = mixed * (mixed % 65_537 + 1) % _PRIME
    return (mixed * 69_621 + salt) % _PRIME


def minute() -> pl.Expr:
    """Return the minutes since 1970, the index of all noise."""
    return pl.col("time").dt.epoch("ms") // MINUTE_MS


def spell_fixed(
    value: str | pl.Expr, places: int, decimals: int, *, signed: bool = False
) -> pl.Expr:
    """Format a count of 10^-`places` with `decimals` decimals; `decimals` >= `places`."""
    count = pl.col(value) if isinstance(value, str) else value
    size = count.abs() if signed else count
    parts = [pl.when(count < 0).then(pl.lit("-")).otherwise(pl.lit(""))] if signed else []
    parts.append((size // 10**places).cast(pl.String))
    if places:
        # The added power of ten keeps zeros after the point; its digit is cut off.
        parts.append(pl.lit("."))
        parts.append((size % 10**places + 10**places).cast(pl.String).str.slice(1))
        parts.append(pl.lit("0" * (decimals - places)))
    elif decimals:
        parts.append(pl.lit("." + "0" * decimals))
    return pl.concat_str(parts)


def spell_epoch(market: Market, time: pl.Expr, micros: pl.Expr | int = 0, less: int = 0) -> pl.Expr:
    """Format a time in the unit of the market: ms, or µs for spot from 2025 on.

    Adds `micros` if the unit is µs; subtracts `less` in the unit of the result.
    """
    epoch = time.dt.epoch("ms")
    if market is Market.SPOT:
        # By the time of the row: the close_time of a candle has the unit of its open_time.
        in_micros = pl.col("time") >= datetime(2025, 1, 1)
        epoch = pl.when(in_micros).then(epoch * 1000 + micros).otherwise(epoch)
    return (epoch - less).cast(pl.String)


def spell_time(time: pl.Expr) -> pl.Expr:
    """Format a time as text, to the second."""
    return time.dt.strftime("%Y-%m-%d %H:%M:%S")


def random_walk(asset: Asset, start: date, stop: date, minutes: int, price: int) -> pl.DataFrame:
    """Return an asset's candles of `minutes` minutes from `start` to `stop` (UTC, exclusive)."""
    reach = asset.step * isqrt(minutes)
    wide = 2 * reach + 1
    move, wick = noise(minute(), asset.price), noise(minute(), asset.price + 1)
    times = pl.datetime_range(
        start, stop, timedelta(minutes=minutes), closed="left", time_unit="ms", eager=True
    )
    return (
        pl.DataFrame({"time": times})
        .with_columns(move=move, wick=wick, minutes=pl.lit(minutes))
        .with_columns(
            close=price
            + (pl.col("move") % wide + pl.col("move") // 65_536 % wide).cum_sum()
            - (pl.int_range(pl.len()) + 1) * (2 * reach)
        )
        .with_columns(open=pl.col("close").shift(1, fill_value=price))
        .select(
            "time",
            "minutes",
            "open",
            pl.max_horizontal("open", "close").add(pl.col("wick") % reach).alias("high"),
            pl.min_horizontal("open", "close").sub(pl.col("wick") // 65_536 % reach).alias("low"),
            "close",
        )
    )


def main_walk(asset: Asset) -> pl.DataFrame:
    """Return hourly candles before `FIRST_DAY`, and 1-minute candles from then on."""
    hours = random_walk(asset, date(2025, 5, 1), FIRST_DAY, 60, asset.price)
    minutes = random_walk(asset, FIRST_DAY, LAST_DAY + DAY, 1, hours["close"][-1])
    return pl.concat([hours, minutes])


def candles_of(instrument: Instrument, walk: pl.DataFrame) -> pl.DataFrame:
    """Return the candles of an instrument along the walk of its asset."""
    prices = [pl.col(name) + instrument.basis for name in PRICES]
    typical = (pl.col("high") + pl.col("low")) // 2
    draw = pl.col("draw")
    candles = (
        walk.with_columns(*prices, draw=noise(minute(), instrument.salt))
        .with_columns(volume=pl.col("minutes") * (instrument.most // 100 + draw % instrument.most))
        .with_columns(taker=pl.col("volume") * (30 + draw // 65_536 % 41) // 100)
        .select(
            "time", "open", "high", "low", "close", "volume", "taker", "minutes",
            count=pl.col("minutes") * (5 + draw // 1_024 % 60),
            value=instrument.value(pl.col("volume"), typical),
            taker_value=instrument.value(pl.col("taker"), typical),
        )
    )  # fmt: skip
    if instrument.market is Market.SPOT:
        start, end = (time.replace(tzinfo=None) for time in HALT)
        candles = candles.filter((pl.col("time") < start) | (pl.col("time") >= end))
    return candles


def resampled(candles: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """Aggregate candles to a longer interval; weeks begin on Monday."""
    total = [name for name in candles.columns if name not in ("time", *PRICES)]
    return candles.group_by_dynamic("time", every=interval.value).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col(total).sum(),
    )
