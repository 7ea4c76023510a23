"""A small synthetic archive: the real one's formats, invented values.

Everything in it is **synthetic**: prices, amounts and rates are invented, and no
market ever looked like this. Keys, columns, headers, time units, spellings of
numbers and booleans, zips and checksums are those of the real archive, so what
works here works there. `demo` serves it.

What it holds:

* candles of 2025-06-15 to 2025-07-15 as daily files of 1h and 1d, and of 2025-05 and
  2025-06 as monthly ones of 1h, 1d, 1w and 1mo, of spot, USD-M and COIN-M symbols;
* candles of 1m for all these days of spot BTCUSDT and ETHUSDT, from 2025-07-09 on for
  USD-M and from 2025-07-13 on for the other symbols;
* the other running feeds of 2025-07-13 to 2025-07-15, to stay small only a few trades (240
  aggregated ones a day instead of a million), and book depth of the last day only;
* a few days of older eras and of feeds that have ended.

It agrees with itself as the real archive does: long candles are made of short ones,
trades lie within their candle, aggregates are made of trades. Where it does not, a
flaw of the real archive was planted, and `PLANTED` tells which, where and when.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import isqrt
from typing import Literal, cast

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, ObjectKey, Stream
from binance_archive_kit.archive.schemas import schema

#: First and last day (UTC, inclusive) of the daily candles.
FIRST_DAY, LAST_DAY = date(2025, 6, 15), date(2025, 7, 15)

#: First day (UTC) of the feeds of which only a few days are kept, up to `LAST_DAY`.
FIRST_LATE_DAY = date(2025, 7, 13)

# ---------------------------------------------------------------------------------------
# What is wrong with it, on purpose
# ---------------------------------------------------------------------------------------

Kind = Literal[
    "halt",
    "truncated",
    "missing_file",
    "placeholder",
    "disagreement",
    "doubled_rows",
    "unsorted_rows",
]


@dataclass(frozen=True, slots=True)
class Planted:
    """An irregularity of the real archive, planted in the synthetic one.

    Attributes
    ----------
    kind : str
        ``halt``: candles that no file holds; ``truncated``: a file that ends early,
        under a valid checksum; ``missing_file``: an object that is not there;
        ``placeholder``: a file of nothing but the header; ``disagreement``: a monthly
        file that differs from the daily ones; ``doubled_rows``; ``unsorted_rows``.
    key : str
        The object it is in, or that is not there.
    start, end : datetime
        The time it affects, UTC, `end` exclusive. For ``halt`` and ``truncated`` the
        time without rows; for the others the affected candle or the file's period.
    what : str
        What was done, in a sentence.
    """

    kind: Kind
    key: str
    start: datetime
    end: datetime
    what: str


#: When the synthetic spot market stood still, UTC, end exclusive.
_HALT = datetime(2025, 6, 24, 2, tzinfo=UTC), datetime(2025, 6, 24, 4, tzinfo=UTC)
_DAY = timedelta(days=1)


def _day(year: int, month: int, day: int) -> tuple[datetime, datetime]:
    start = datetime(year, month, day, tzinfo=UTC)
    return start, start + _DAY


_HALTED = (
    "daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-06-24",
    "daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-06-24",
    "daily/klines/ETHUSDT/1m/ETHUSDT-1m-2025-06-24",
    "daily/klines/ETHUSDT/1h/ETHUSDT-1h-2025-06-24",
    "daily/klines/币安人生USDT/1h/币安人生USDT-1h-2025-06-24",
    "monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-06",
    "monthly/klines/ETHUSDT/1h/ETHUSDT-1h-2025-06",
    "monthly/klines/币安人生USDT/1h/币安人生USDT-1h-2025-06",
)
_DOUBLED = (
    ("um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2021-05-20", _day(2021, 5, 20)),
    (
        "cm/daily/liquidationSnapshot/BTCUSD_PERP/BTCUSD_PERP-liquidationSnapshot-2024-10-13",
        _day(2024, 10, 13),
    ),
    (
        "cm/daily/liquidationSnapshot/BTCUSD_PERP/BTCUSD_PERP-liquidationSnapshot-2024-10-14",
        _day(2024, 10, 14),
    ),
)

#: Every irregularity of the synthetic archive; `build` plants exactly these.
PLANTED: tuple[Planted, ...] = (
    *(
        Planted(
            "halt",
            f"data/spot/{name}.zip",
            *_HALT,
            "the spot market stood still: no symbol has candles of these two hours",
        )
        for name in _HALTED
    ),
    Planted(
        "truncated",
        "data/spot/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2025-06-28.zip",
        datetime(2025, 6, 28, 7, 37, tzinfo=UTC),
        datetime(2025, 6, 29, tzinfo=UTC),
        "the last candle is that of 07:36; the checksum is valid",
    ),
    Planted(
        "missing_file",
        "data/futures/um/daily/klines/ETHUSDT/1h/ETHUSDT-1h-2025-07-04.zip",
        *_day(2025, 7, 4),
        "one day is missing between its neighbours; the other intervals have it",
    ),
    Planted(
        "missing_file",
        "data/option/daily/BVOLIndex/BTCBVOLUSDT/BTCBVOLUSDT-BVOLIndex-2025-07-14.zip",
        *_day(2025, 7, 14),
        "one day is missing between its neighbours",
    ),
    Planted(
        "placeholder",
        "data/futures/um/daily/metrics/ETHUSDT/ETHUSDT-metrics-2025-07-14.zip",
        *_day(2025, 7, 14),
        "the file holds its header and no row",
    ),
    Planted(
        "disagreement",
        "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-06.zip",
        datetime(2025, 6, 20, 13, tzinfo=UTC),
        datetime(2025, 6, 20, 14, tzinfo=UTC),
        "the monthly file closes this candle at its low, the daily file does not",
    ),
    *(
        Planted("doubled_rows", f"data/futures/{name}.zip", *when, "every row stands there twice")
        for name, when in _DOUBLED
    ),
    *(
        Planted(
            "unsorted_rows",
            f"data/option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-10-{day}.zip",
            *_day(2023, 10, day),
            "rows come in no order",
        )
        for day in (22, 23)
    ),
    *(
        Planted(
            "unsorted_rows",
            f"data/futures/um/daily/bookTicker/BTCUSDT/BTCUSDT-bookTicker-2024-03-{day}.zip",
            *_day(2024, 3, day),
            "some updates come after later ones",
        )
        for day in (29, 30)
    ),
)

# ---------------------------------------------------------------------------------------
# Invented values. All arithmetic is on whole numbers, so that every machine writes the
# same text: an amount is a count of its smallest unit, and gets its decimal point last.
# ---------------------------------------------------------------------------------------

_PRICES = ("open", "high", "low", "close")
_PRIME = 2_147_483_647
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class _Asset:
    """Something with a price, as a count of 10^-`places` of the quote asset."""

    name: str
    places: int
    price: int
    step: int  # the most that half of a minute's move can be


@dataclass(frozen=True, slots=True)
class _Instrument:
    """A symbol that is traded, and how the archive spells its numbers."""

    market: Market
    symbol: str
    asset: _Asset
    basis: int  # distance from the asset's price
    amount_places: int
    most: int  # amount traded in a busy minute
    decimals: tuple[int, int, int]  # of prices, amounts and values, as written
    first_id: int
    contract_size: int = 0  # in USD, COIN-M only

    @property
    def salt(self) -> int:
        return zlib.crc32(f"{self.market} {self.symbol}".encode()) % 1_000_000

    @property
    def value_places(self) -> int:
        return 8 if self.contract_size else self.asset.places + self.amount_places

    def value(self, amount: pl.Expr, price: pl.Expr) -> pl.Expr:
        """Value of an amount: in the quote asset, or on COIN-M in the base asset."""
        if self.contract_size:
            dollar: int = 10 ** (8 + self.asset.places)
            return amount * self.contract_size * dollar // price
        return amount * price

    def spell_price(self, price: str | pl.Expr) -> pl.Expr:
        return _fixed(price, self.asset.places, self.decimals[0])

    def spell_amount(self, amount: str | pl.Expr) -> pl.Expr:
        return _fixed(amount, self.amount_places, self.decimals[1])

    def spell_value(self, value: str | pl.Expr) -> pl.Expr:
        return _fixed(value, self.value_places, self.decimals[2])


_BTC = _Asset("BTC", 1, 1_045_000, 140)
_ETH = _Asset("ETH", 2, 250_000, 50)
_LIFE = _Asset("币安人生", 5, 20_000, 6)
_BNX = _Asset("BNX", 4, 12_000, 2)

# Few digits that matter keep the files small; the archive pads them all the same.
_SPOT, _UM, _CM, _OPTIONS = Market
_SPOT_BTC = _Instrument(_SPOT, "BTCUSDT", _BTC, 0, 3, 3_000, (8, 8, 8), 5_086_000_000)
_SPOT_ETH = _Instrument(_SPOT, "ETHUSDT", _ETH, 0, 2, 4_000, (8, 8, 8), 2_500_000_000)
_SPOT_LIFE = _Instrument(_SPOT, "币安人生USDT", _LIFE, 0, 0, 9_000, (8, 8, 8), 1_000)
_UM_BTC = _Instrument(_UM, "BTCUSDT", _BTC, -450, 3, 9_000, (2, 3, 5), 6_400_000_000)
_UM_ETH = _Instrument(_UM, "ETHUSDT", _ETH, -120, 2, 9_000, (2, 3, 5), 5_600_000_000)
_UM_DELIVERY = _Instrument(_UM, "BTCUSDT_250926", _BTC, 9_000, 3, 900, (2, 3, 5), 40_000_000)
_UM_SETTLED = _Instrument(_UM, "BNXUSDTSETTLED", _BNX, 0, 0, 9_000, (4, 0, 4), 90_000_000)
_CM_BTC = _Instrument(_CM, "BTCUSD_PERP", _BTC, -500, 0, 4_000, (1, 0, 8), 1_100_000_000, 100)
_CM_ETH = _Instrument(_CM, "ETHUSD_PERP", _ETH, -140, 0, 9_000, (2, 0, 8), 900_000_000, 10)

_MAIN = (_SPOT_BTC, _SPOT_ETH, _SPOT_LIFE, _UM_BTC, _UM_ETH, _CM_BTC, _CM_ETH)

#: Symbols whose feeds run to `LAST_DAY`, by market.
SYMBOLS = {
    Market.SPOT: ["BTCUSDT", "ETHUSDT", "币安人生USDT"],
    Market.FUTURES_UM: ["BTCUSDT", "ETHUSDT"],
    Market.FUTURES_CM: ["BTCUSD_PERP", "ETHUSD_PERP"],
    Market.OPTIONS: ["BTCBVOLUSDT", "ETHBVOLUSDT"],
}

#: First day of the daily 1m candles, where it is not `FIRST_LATE_DAY`: most of the bytes
#: are in these files.
_FIRST_MINUTES = {
    _SPOT_BTC: FIRST_DAY,
    _SPOT_ETH: FIRST_DAY,
    _UM_BTC: date(2025, 7, 9),
    _UM_ETH: date(2025, 7, 9),
}


def _noise(index: pl.Expr, salt: int) -> pl.Expr:
    """Mix an index into a whole number from 0 to 2^31 - 2 that looks random and never changes."""
    mixed = ((index + salt * 1_009) % _PRIME * 48_271 + 12_345) % _PRIME
    mixed = mixed * (mixed % 65_537 + 1) % _PRIME
    return (mixed * 69_621 + salt) % _PRIME


def _minute() -> pl.Expr:
    """Count the minutes since 1970, the index of all noise."""
    return pl.col("time").dt.epoch("ms") // _MINUTE_MS


def _fixed(value: str | pl.Expr, places: int, decimals: int, *, signed: bool = False) -> pl.Expr:
    """Spell a count of 10^-`places` with `decimals` decimals, of which there are no fewer."""
    count = pl.col(value) if isinstance(value, str) else value
    size = count.abs() if signed else count
    parts = [pl.when(count < 0).then(pl.lit("-")).otherwise(pl.lit(""))] if signed else []
    parts.append((size // 10**places).cast(pl.String))
    if places:
        # The leading one keeps the zeros after the point.
        parts.append(pl.lit("."))
        parts.append((size % 10**places + 10**places).cast(pl.String).str.slice(1))
        parts.append(pl.lit("0" * (decimals - places)))
    elif decimals:
        parts.append(pl.lit("." + "0" * decimals))
    return pl.concat_str(parts)


def _epoch(market: Market, time: pl.Expr, micros: pl.Expr | int = 0, less: int = 0) -> pl.Expr:
    """Spell an instant as the market does: spot went from ms to µs with the year 2025.

    `micros` are added where they can be written; `less` is taken off in the unit written.
    """
    millis = time.dt.epoch("ms")
    if market is not Market.SPOT:
        return (millis - less).cast(pl.String)
    # By the row's own day: a candle's close_time is written in the unit of its open_time.
    in_micros = pl.col("time") >= datetime(2025, 1, 1)
    return (pl.when(in_micros).then(millis * 1000 + micros - less).otherwise(millis - less)).cast(
        pl.String
    )


def _text(time: pl.Expr) -> pl.Expr:
    return time.dt.strftime("%Y-%m-%d %H:%M:%S")


def _walk(asset: _Asset, start: datetime, stop: datetime, minutes: int, price: int) -> pl.DataFrame:
    """Invent the asset's candles of so many minutes from `start` to `stop` (UTC, exclusive)."""
    reach = asset.step * isqrt(minutes)
    wide = 2 * reach + 1
    move, wick = _noise(_minute(), asset.price), _noise(_minute(), asset.price + 1)
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


def _main_walk(asset: _Asset) -> pl.DataFrame:
    """Invent hourly candles until daily files begin, and candles of a minute from then on."""
    begin = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day)
    end = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day) + _DAY
    hours = _walk(asset, datetime(2025, 5, 1), begin, 60, asset.price)
    return pl.concat([hours, _walk(asset, begin, end, 1, hours["close"][-1])])


def _candles(of: _Instrument, walk: pl.DataFrame) -> pl.DataFrame:
    """Trade an instrument along the walk of its asset."""
    prices = [pl.col(name) + of.basis for name in _PRICES]
    typical = (pl.col("high") + pl.col("low")) // 2
    draw = pl.col("draw")
    candles = (
        walk.with_columns(*prices, draw=_noise(_minute(), of.salt))
        .with_columns(volume=pl.col("minutes") * (of.most // 100 + draw % of.most))
        .with_columns(taker=pl.col("volume") * (30 + draw // 65_536 % 41) // 100)
        .select(
            "time", "open", "high", "low", "close", "volume", "taker", "minutes",
            count=pl.col("minutes") * (5 + draw // 1_024 % 60),
            value=of.value(pl.col("volume"), typical),
            taker_value=of.value(pl.col("taker"), typical),
        )
    )  # fmt: skip
    if of.market is Market.SPOT:
        start, end = (when.replace(tzinfo=None) for when in _HALT)
        candles = candles.filter((pl.col("time") < start) | (pl.col("time") >= end))
    return candles


def _resampled(candles: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """Make longer candles of shorter ones; weeks begin on Monday."""
    total = [name for name in candles.columns if name not in ("time", *_PRICES)]
    return candles.group_by_dynamic("time", every=interval.value).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col(total).sum(),
    )


# ---------------------------------------------------------------------------------------
# Rows as the archive writes them. Each feed gives frames of `time`, which says into which
# file a row goes, and `line`.
# ---------------------------------------------------------------------------------------

_Rows = tuple[Folder, pl.DataFrame]


def _rows(folder: Folder, frame: pl.DataFrame, *fields: pl.Expr) -> _Rows:
    return folder, frame.select("time", line=pl.concat_str(fields, separator=","))


def _late(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("time").dt.date() >= FIRST_LATE_DAY)


def _kline_rows(
    of: _Instrument, candles: pl.DataFrame, interval: Interval, partition: Partition
) -> _Rows:
    folder = Folder(Stream(of.market, DataType.KLINES, of.symbol, interval), partition)
    for planted in PLANTED:
        if planted.kind == "disagreement" and planted.key.startswith(folder.prefix):
            there = pl.col("time") == planted.start.replace(tzinfo=None)
            candles = candles.with_columns(close=pl.when(there).then("low").otherwise("close"))
    return _rows(
        folder,
        candles,
        _epoch(of.market, pl.col("time")),
        *(of.spell_price(name) for name in _PRICES),
        of.spell_amount("volume"),
        _epoch(of.market, pl.col("time").dt.offset_by(interval.value), less=1),
        of.spell_value("value"),
        pl.col("count").cast(pl.String),
        of.spell_amount("taker"),
        of.spell_value("taker_value"),
        pl.lit("0"),
    )


def _main_klines(of: _Instrument, candles: pl.DataFrame) -> Iterator[_Rows]:
    day = pl.col("time").dt.date()
    minutes = candles.filter(day >= _FIRST_MINUTES.get(of, FIRST_LATE_DAY))
    yield _kline_rows(of, minutes, Interval.M1, Partition.DAILY)
    for interval in (Interval.H1, Interval.D1, Interval.W1, Interval.MO1):
        longer = _resampled(candles, interval)
        whole_months = longer.filter(day.is_between(date(2025, 5, 1), date(2025, 6, 30)))
        yield _kline_rows(of, whole_months, interval, Partition.MONTHLY)
        if interval in (Interval.H1, Interval.D1):
            yield _kline_rows(of, longer.filter(day >= FIRST_DAY), interval, Partition.DAILY)


def _price_klines(of: _Instrument, walk: pl.DataFrame) -> Iterator[_Rows]:
    """Candles of the index, the mark price and the premium: 3,600 samples an hour, no volume."""
    places, hour = of.asset.places, Interval.H1
    walk = _resampled(_late(walk), hour)
    # The premium opens where it closed: both are the noise of the hour between them.
    bounds = [_noise(_minute() // 60 + later, of.salt + 4) % 90_000 - 60_000 for later in (0, 1)]
    wick = _noise(_minute(), of.salt + 5) % 5_000
    premium = walk.with_columns(open=bounds[0], close=bounds[1]).with_columns(
        high=pl.max_horizontal("open", "close") + wick,
        low=pl.min_horizontal("open", "close") - wick,
    )
    index = of.symbol.partition("_")[0]
    for data_type, symbol, frame, basis, count_places in (
        (DataType.INDEX_PRICE_KLINES, index, walk, 0, places),
        (DataType.MARK_PRICE_KLINES, of.symbol, walk, of.basis, places),
        (DataType.PREMIUM_INDEX_KLINES, of.symbol, premium, 0, 8),
    ):
        zero = pl.lit("0")
        yield _rows(
            Folder(Stream(of.market, data_type, symbol, hour), Partition.DAILY),
            frame,
            _epoch(of.market, pl.col("time")),
            *(_fixed(pl.col(name) + basis, count_places, 8, signed=True) for name in _PRICES),
            zero,
            _epoch(of.market, pl.col("time").dt.offset_by(hour.value), less=1),
            zero,
            pl.lit("3600"),
            zero,
            zero,
            zero,
        )


def _trade_rows(of: _Instrument, candles: pl.DataFrame) -> Iterator[_Rows]:
    """Trades of every sixth minute, a few to an aggregate: thinned, not the whole volume."""
    spot = of.market is Market.SPOT
    draw = pl.col("draw")
    # Ids of futures trades leave some numbers out, those of spot trades none.
    left_out = pl.lit(0) if spot else (pl.int_range(pl.len()) % 5 == 0).cast(pl.Int64)
    aggregates = (
        _late(candles)
        .gather_every(6)
        .with_columns(draw=_noise(_minute(), of.salt + 2))
        .select(
            pl.col("time") + pl.duration(milliseconds=draw % _MINUTE_MS),
            agg_id=of.first_id // 2 + pl.int_range(pl.len()),
            price=pl.col("low") + draw // 65_536 % (pl.col("high") - pl.col("low") + 1),
            micros=draw // 64 % 1_000,
            is_buyer_maker=draw // 32 % 2 == 0,
            trades=1 + draw // 1_024 % 3,
        )
        .with_columns(stop=of.first_id + (pl.col("trades") + left_out).cum_sum())
        .with_columns(first=pl.col("stop") - pl.col("trades"), last=pl.col("stop") - 1)
    )
    trades = (
        aggregates.with_columns(id=pl.int_ranges("first", "stop"))
        .explode("id")
        .with_columns(amount=1 + _noise(pl.col("id"), of.salt + 3) % (of.most // 20))
    )
    amounts = trades.group_by("agg_id", maintain_order=True).agg(pl.col("amount").sum())
    aggregates = aggregates.join(amounts, on="agg_id", how="left", maintain_order="left")

    true, false = ("True", "False") if spot else ("true", "false")
    maker = pl.when("is_buyer_maker").then(pl.lit(true)).otherwise(pl.lit(false))
    flags = [maker, pl.lit(true)] if spot else [maker]
    # COIN-M trades write their contracts with a decimal, its candles do not.
    amount = _fixed("amount", 0, 1) if of.contract_size else of.spell_amount("amount")
    time = _epoch(of.market, pl.col("time"), micros=pl.col("micros"))
    yield _rows(
        Folder(Stream(of.market, DataType.TRADES, of.symbol), Partition.DAILY),
        trades,
        pl.col("id").cast(pl.String),
        of.spell_price("price"),
        amount,
        of.spell_value(of.value(pl.col("amount"), pl.col("price"))),
        time,
        *flags,
    )
    yield _rows(
        Folder(Stream(of.market, DataType.AGG_TRADES, of.symbol), Partition.DAILY),
        aggregates,
        pl.col("agg_id").cast(pl.String),
        of.spell_price("price"),
        amount,
        pl.col("first").cast(pl.String),
        pl.col("last").cast(pl.String),
        time,
        *flags,
    )


def _metrics_rows(of: _Instrument, candles: pl.DataFrame) -> _Rows:
    """Open interest and ratios of 5-minute candles, or of every fifth one of a minute."""
    cm = of.market is Market.FUTURES_CM
    draws = [_noise(_minute(), of.salt + 6 + which) for which in range(4)]
    interest = 600 * of.most + draws[0] % of.most
    # To a hundredth, and written to eight decimals.
    ratios = [_fixed(60 + draw % 200, 2, 8) for draw in draws]
    # USD-M labels a period by its end, until June 2026; COIN-M by its start and without
    # the traders' ratios.
    label = pl.col("time") if cm else pl.col("time").dt.offset_by("5m")
    decimals = 8 if cm else 16
    return _rows(
        Folder(Stream(of.market, DataType.METRICS, of.symbol), Partition.DAILY),
        candles.filter(_minute() % 5 == 0),
        _text(label),
        pl.lit(of.symbol),
        _fixed(interest, of.amount_places, decimals),
        _fixed(of.value(interest, pl.col("close")), of.value_places, decimals),
        *([pl.lit("")] * 3 if cm else ratios[:3]),
        ratios[3],
    )


def _book_depth_rows(of: _Instrument, candles: pl.DataFrame) -> _Rows:
    """Depth within ±1 % to ±5 %, two snapshots a minute."""
    bands = pl.DataFrame({"band": [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]})
    halves = pl.DataFrame({"after": ["4s", "34s"]})
    last_day = candles.filter(pl.col("time").dt.date() == LAST_DAY)
    snapshots = last_day.join(halves, how="cross", maintain_order="left_right")
    amount = of.most * 20 * pl.col("band").abs() + _noise(_minute(), of.salt + 10) % of.most
    # What rests in a band was offered, on the whole, in its middle.
    price = pl.col("close") * (200 + pl.col("band")) // 200
    return _rows(
        Folder(Stream(of.market, DataType.BOOK_DEPTH, of.symbol), Partition.DAILY),
        snapshots.join(bands, how="cross", maintain_order="left_right"),
        _text(pl.col("time").dt.offset_by(pl.col("after"))),
        pl.col("band").cast(pl.String),
        _fixed(amount, of.amount_places, 8),
        _fixed(of.value(amount, price), of.value_places, 8),
    )


def _funding_rows(of: _Instrument) -> _Rows:
    """Rates of June and July 2025, every eight hours and a few milliseconds."""
    times = pl.datetime_range(
        datetime(2025, 6, 1), datetime(2025, 8, 1), "8h", closed="left", time_unit="ms", eager=True
    )
    draw = _noise(_minute(), of.salt + 11)
    return _rows(
        Folder(Stream(of.market, DataType.FUNDING_RATE, of.symbol), Partition.MONTHLY),
        pl.DataFrame({"time": times}),
        (pl.col("time").dt.epoch("ms") + draw % 13).cast(pl.String),
        pl.lit("8"),
        _fixed(draw // 65_536 % 20_000 - 8_000, 8, 8, signed=True),
    )


def _volatility_rows(asset: _Asset, level: int) -> _Rows:
    """About one value a second, each good for a minute; of all but Bitcoin the last day only."""
    walk = _walk(
        _Asset(f"{asset.name}BVOL", 4, level, 40),
        datetime(FIRST_LATE_DAY.year, FIRST_LATE_DAY.month, FIRST_LATE_DAY.day),
        datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day) + _DAY,
        1,
        level,
    )
    if asset is not _BTC:
        walk = walk.filter(pl.col("time").dt.date() == LAST_DAY)
    seconds = pl.DataFrame({"second": range(60)})
    walk = walk.join(seconds, how="cross", maintain_order="left_right")
    late = pl.col("second") * 1_000 + _noise(_minute(), level) % 3
    base = f"{asset.name}BVOL"
    return _rows(
        Folder(Stream(Market.OPTIONS, DataType.BVOL_INDEX, f"{base}USDT"), Partition.DAILY),
        walk,
        (pl.col("time").dt.epoch("ms") + late).cast(pl.String),
        pl.lit(f"{base}USDT"),
        pl.lit(base),
        pl.lit("USDT"),
        _fixed("close", 4, 4),
    )


def _older_eras() -> Iterator[_Rows]:
    """Candles from before the changes of unit and header, and metrics of doubled rows."""
    for of, start, days, price in (
        (_UM_BTC, datetime(2022, 5, 5), 1, 396_841),
        (_UM_BTC, datetime(2022, 9, 15), 1, 202_315),
        (_SPOT_BTC, datetime(2024, 12, 30), 4, 935_499),
    ):
        candles = _candles(of, _walk(of.asset, start, start + days * _DAY, 60, price))
        yield _kline_rows(of, candles, Interval.H1, Partition.DAILY)
    start = datetime(2021, 5, 20)
    yield _metrics_rows(_UM_BTC, _candles(_UM_BTC, _walk(_BTC, start, start + _DAY, 5, 368_000)))


def _other_contracts() -> Iterator[_Rows]:
    """Add a delivery contract, and one that was settled under a name of its own."""
    for of, start, days, price in (
        (_UM_DELIVERY, datetime(2025, 7, 13), 3, 1_190_000),
        (_UM_SETTLED, datetime(2025, 6, 15), 4, _BNX.price),
    ):
        candles = _candles(of, _walk(of.asset, start, start + days * _DAY, 60, price))
        for interval in (Interval.H1, Interval.D1):
            yield _kline_rows(of, _resampled(candles, interval), interval, Partition.DAILY)


def _ended_feeds() -> Iterator[_Rows]:
    """Give the last days of the best bids and asks, the liquidations and the option summaries."""
    start = datetime(2024, 3, 29)
    quotes = _candles(_UM_BTC, _walk(_BTC, start, start + 2 * _DAY, 5, 700_000))
    draw = _noise(_minute(), 1)
    sent = pl.col("time").dt.epoch("ms") + draw % 290_000
    amounts = [1 + _noise(_minute(), salt) % 20_000 for salt in (2, 3)]
    yield _rows(
        Folder(Stream(_UM, DataType.BOOK_TICKER, "BTCUSDT"), Partition.DAILY),
        # Some updates come after later ones, as they do.
        quotes.sort(_minute() + (draw % 9 == 0) * 12, maintain_order=True),
        (4_200_000_000_000 + _minute() * 1_000 + draw % 1_000).cast(pl.String),
        _fixed("close", 1, 8),
        _fixed(amounts[0], 3, 8),
        _fixed(pl.col("close") + 1, 1, 8),
        _fixed(amounts[1], 3, 8),
        sent.cast(pl.String),
        (sent + draw % 7).cast(pl.String),
    )
    start = datetime(2024, 10, 13)
    orders = _candles(_CM_BTC, _walk(_BTC, start, start + 2 * _DAY, 60, 630_000))
    amount = 2 + draw % 300
    yield _rows(
        Folder(Stream(_CM, DataType.LIQUIDATION_SNAPSHOT, "BTCUSD_PERP"), Partition.DAILY),
        orders,
        (pl.col("time").dt.epoch("ms") + draw % 3_600_000).cast(pl.String),
        pl.when(pl.col("close") > pl.col("open")).then(pl.lit("BUY")).otherwise(pl.lit("SELL")),
        pl.lit("LIMIT"),
        pl.lit("IOC"),
        amount.cast(pl.String),
        _fixed("close", 1, 1),
        _fixed("open", 1, 1),
        pl.lit("FILLED"),
        (1 + amount // 2).cast(pl.String),
        amount.cast(pl.String),
    )
    yield _summary_rows()


def _summary_rows() -> _Rows:
    """Sum up sixteen options every hour, in no order.

    Open, high, low, close and volumes are those of the 24 hours up to the end of the hour. Zero is
    spelled ``0E-8``, nothing ``""``. The greeks have the right sign and size, and follow no model.
    """
    first = datetime(2023, 10, 22)
    hours = pl.datetime_range(
        first - _DAY, first + 2 * _DAY, "1h", closed="left", time_unit="ms", eager=True
    )
    options = pl.DataFrame({"strike": range(24_000, 40_000, 2_000)}).join(
        pl.DataFrame({"type": ["C", "P"]}), how="cross", maintain_order="left_right"
    )
    call = pl.col("type") == "C"
    draw = pl.col("draw")
    spot = 29_900 + _noise(_minute(), 20) % 200
    inside = pl.when(call).then(spot - pl.col("strike")).otherwise(pl.col("strike") - spot)
    frame = (
        pl.DataFrame({"time": hours})
        .join(options, how="cross", maintain_order="left_right")
        .with_columns(draw=_noise(_minute() + pl.col("strike") + call.cast(pl.Int64), 21))
        .with_columns(
            # In 10^-8 USDT: what exercise would bring, and what the time left may add.
            mark=(inside.clip(lower_bound=0) + 1_200 - inside.abs() // 20) * 10**8,
            iv=45_000_000 + draw % 9_000_000,
            strike_text=pl.concat_str(pl.lit("231229-"), pl.col("strike").cast(pl.String)),
            delta=(50_000_000 + inside * 4_000).clip(2_000_000, 98_000_000),
            # Traded in one hour of thirty, in hundredths of a contract.
            traded=pl.when(draw // 7 % 30 == 0).then(1 + draw // 1_024 % 400).otherwise(0),
        )
        .with_columns(price=pl.when(pl.col("traded") > 0).then("mark"))
        .with_columns(
            close=pl.col("price").forward_fill().over("strike", "type"),
            # Of the first trade in the 24 hours; without a trade every price is the last one.
            open=pl.col("price").backward_fill().shift(23).over("strike", "type"),
            high=pl.col("price").rolling_max(24, min_samples=1).over("strike", "type"),
            low=pl.col("price").rolling_min(24, min_samples=1).over("strike", "type"),
            volume=pl.col("traded").rolling_sum(24, min_samples=1).over("strike", "type"),
            value=(pl.col("traded") * (pl.col("mark") // 100))
            .rolling_sum(24, min_samples=1)
            .over("strike", "type"),
        )
        .filter(pl.col("time") >= first)
        .sort(_noise(_minute() * 100_000 + pl.col("strike") * 2 + call.cast(pl.Int64), 22))
    )
    mark, volume = pl.col("mark"), pl.col("volume")

    def amount(value: pl.Expr) -> pl.Expr:
        return pl.when(value == 0).then(pl.lit("0E-8")).otherwise(_fixed(value, 8, 8, signed=True))

    def price(name: str) -> pl.Expr:
        of_trades = pl.when(volume > 0).then(name).otherwise("close")
        return amount(of_trades.fill_null(0))

    held = draw // 4_096 % 900 * 10**6
    return _rows(
        Folder(Stream(_OPTIONS, DataType.EOH_SUMMARY, "BTCUSDT"), Partition.DAILY),
        frame,
        pl.col("time").dt.strftime("%Y-%m-%d"),
        pl.col("time").dt.strftime("%H"),
        pl.concat_str(pl.lit("BTC-"), "strike_text", pl.lit("-"), "type"),
        pl.lit("BTCUSDT"),
        pl.col("type"),
        pl.col("strike_text"),
        *(price(name) for name in _PRICES),
        amount(volume * 10**6),
        amount(pl.col("value")),
        amount(mark * 98 // 100),
        amount(mark * 103 // 100),
        amount(10**6 * (1 + draw % 900)),
        amount(10**6 * (1 + draw // 2_048 % 900)),
        pl.when(draw % 4 == 0).then(pl.lit('""')).otherwise(amount(pl.col("iv") - 10**6)),
        pl.when(draw % 5 == 0).then(pl.lit('""')).otherwise(amount(pl.col("iv") + 10**6)),
        amount(mark),
        amount(pl.col("iv")),
        amount(pl.when(call).then("delta").otherwise(-pl.col("delta"))),
        amount(3_000 + draw % 2_000),
        amount((20 + draw % 20) * 10**8),
        amount(-(8 + draw % 9) * 10**8),
        amount(held),
        amount(held * (spot // 100)),
    )


# ---------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------


def _feeds() -> Iterator[_Rows]:
    """Everything the archive holds, before it is cut into files."""
    walks = {asset: _main_walk(asset) for asset in (_BTC, _ETH, _LIFE)}
    for of in _MAIN:
        walk = walks[of.asset]
        candles = _candles(of, walk)
        minutes = candles.filter(pl.col("time").dt.date() >= FIRST_DAY)
        yield from _main_klines(of, candles)
        yield from _trade_rows(of, candles)
        if of.market is not Market.SPOT:
            yield from _price_klines(of, walk)
            # As the feed has an older day too, the days between would else be missing.
            yield _metrics_rows(of, minutes if of is _UM_BTC else _late(minutes))
            yield _book_depth_rows(of, minutes)
            yield _funding_rows(of)
    yield _volatility_rows(_BTC, 372_000)
    yield _volatility_rows(_ETH, 615_000)
    yield from _older_eras()
    yield from _other_contracts()
    yield from _ended_feeds()


def _has_header(key: ObjectKey) -> bool:
    """Whether the file begins with a header: where headers came late, since 2022-08-11."""
    rule = schema(key.folder.market, key.folder.data_type).header
    return rule == "present" or (rule == "detect" and key.start >= date(2022, 8, 11))


def _files(folder: Folder, rows: pl.DataFrame) -> Iterator[tuple[ObjectKey, str]]:
    """Cut the rows of a stream into the csv texts of its files, planting what is to be wrong."""
    planted = {flaw.key: flaw for flaw in PLANTED}
    start = pl.col("time").dt.date()
    if folder.partition is Partition.MONTHLY:
        start = start.dt.month_start()
    for (first,), part in rows.group_by(start.alias("start"), maintain_order=True):
        key = ObjectKey(folder, cast(date, first))
        flaw = planted.get(str(key))
        lines = part["line"]
        match flaw.kind if flaw else None:
            case "missing_file":
                continue
            case "placeholder":
                lines = lines.clear()
            case "truncated" if flaw:
                lines = lines.filter(part["time"] < flaw.start.replace(tzinfo=None))
            case "doubled_rows":
                lines = lines.gather([row for row in range(len(lines)) for _ in (1, 2)])
        texts = lines.to_list()
        if _has_header(key):
            texts.insert(0, schema(folder.market, folder.data_type).header_line)
        yield key, "\n".join(texts) + "\n"


#: Bytes of csv from which on a file is large, here.
_LARGE = 1 << 20


def _zipped(key: ObjectKey, text: str) -> bytes:
    """Zip one csv the way the archive does, at a fixed time so that the bytes never change."""
    member = zipfile.ZipInfo(key.member, (2025, 8, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3  # Unix, on whatever system this runs
    member.external_attr = 0o644 << 16
    buffer = io.BytesIO()
    data = text.encode()
    with zipfile.ZipFile(buffer, "w") as archive:
        # The archive's level takes its time over the few large files.
        archive.writestr(member, data, compresslevel=6 if len(data) < _LARGE else 1)
    return buffer.getvalue()


def build() -> dict[str, bytes]:
    """Make every object of the synthetic archive.

    Returns
    -------
    dict of str to bytes
        Key to content, zips and their ``.CHECKSUM`` objects, in the order of a listing.
        The same on every call, and on every machine whose zlib compresses alike; the
        csv texts are the same everywhere.
    """
    objects = {}
    files = [file for folder, rows in _feeds() for file in _files(folder, rows)]
    with ThreadPoolExecutor() as pool:
        zips = pool.map(lambda file: _zipped(*file), files)
        for (key, _), data in zip(files, zips, strict=True):
            digest = hashlib.sha256(data).hexdigest()
            # Spot sidecars end without a newline.
            end = "" if key.folder.market is Market.SPOT else "\n"
            objects[str(key)] = data
            objects[key.checksum] = f"{digest}  {key.name}{end}".encode()
    return dict(sorted(objects.items()))
