"""The files of a small market: many symbols of spot and USD-M, built when they are first read.

Their keys are known at once, so that a listing does not wait. `MARKET` states what there is:

* candles of 1d as monthly files of 2022-07 to 2025-06, and as daily ones of July 2025 or of the
  last month of a symbol that has ended;
* candles of 1m as monthly files of 2023-07 to 2024-06, for the spot symbols BTCUSDT, ETHUSDT
  and BNBUSDT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    CHECKSUM_SUFFIX,
    Folder,
    ObjectKey,
    Stream,
    delivery_of,
    periods,
)
from binance_archive_kit.demo.coins import (
    COINS,
    FIRST_MARKET_DAY,
    closes,
    day_walk,
    known_walk,
    minute_walk,
)
from binance_archive_kit.demo.feeds import kline_rows
from binance_archive_kit.demo.prices import (
    DAY,
    LAST_DAY,
    SPOT_BTC,
    SPOT_ETH,
    UM_BTC,
    UM_ETH,
    Asset,
    Instrument,
    candles_of,
    resampled,
)
from binance_archive_kit.demo.zips import Text, checksum_of, texts_of, zip_of

#: Symbols whose files from May 2025 on are those of `binance_archive_kit.demo.synthetic`.
_MAIN = {
    (instrument.market, instrument.symbol): instrument
    for instrument in (SPOT_BTC, SPOT_ETH, UM_BTC, UM_ETH)
}
_LAST_MAIN_DAY = date(2025, 4, 30)
#: Last day (UTC) of the monthly files, and the year (both inclusive) of those of minutes.
LAST_MONTHLY_DAY = date(2025, 6, 30)
_MINUTE_YEAR = date(2023, 7, 1), date(2024, 6, 30)
_MINUTE_SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")


@dataclass(frozen=True, slots=True)
class MarketSymbol:
    """A symbol of the market, and the days (UTC, both inclusive) that its files cover.

    Attributes
    ----------
    instrument : Instrument
    coin : str
        The coin that it trades.
    quote : str
    first, last : date
    """

    instrument: Instrument
    coin: str
    quote: str
    first: date
    last: date

    @property
    def has_minutes(self) -> bool:
        """Whether it has files of 1m."""
        market = self.instrument.market
        return market is Market.SPOT and self.instrument.symbol in _MINUTE_SYMBOLS

    def folder(self, interval: Interval, partition: Partition) -> Folder:
        """Return the folder of its candles."""
        instrument = self.instrument
        stream = Stream(instrument.market, DataType.KLINES, instrument.symbol, interval)
        return Folder(stream, partition)

    def starts(self, partition: Partition) -> list[date]:
        """Return the first days of its files of 1d."""
        if partition is Partition.MONTHLY:
            return [*periods(self.first, min(self.last, LAST_MONTHLY_DAY), partition)]
        if self.last == _LAST_MAIN_DAY:
            return []
        return [*periods(max(self.first, self.last.replace(day=1)), self.last, partition)]

    def _prices(self) -> list[int]:
        """Return its price at the end of each day, beginning before the first of the market."""
        prices, places = closes(self.coin), COINS[self.coin].places
        if self.quote == "BTC":
            shift = 10 ** (self.instrument.asset.places + COINS["BTC"].places - places)
            return [a * shift // b for a, b in zip(prices, closes("BTC"), strict=False)]
        delivery = delivery_of(self.instrument.symbol)
        if delivery is None:
            return prices
        # A tenth of a percent a week above the price, until the delivery.
        left = (delivery - FIRST_MARKET_DAY + DAY).days
        return [
            price * (10**6 + 143 * max(0, left - day)) // 10**6 for day, price in enumerate(prices)
        ]

    def days(self) -> pl.DataFrame:
        """Return its candles of 1d."""
        instrument = self.instrument
        walk = day_walk(self._prices(), instrument.salt)
        day = pl.col("time").dt.date()
        candles = candles_of(instrument, walk.filter(day.is_between(self.first, self.last)))
        known = []
        if self.has_minutes:
            known.append(self.minutes(*_MINUTE_YEAR))
        if instrument in (SPOT_BTC, UM_BTC):
            before = known_walk("BTC").filter(day <= self.last)
            known.append(candles_of(instrument, before))
        if not known:
            return candles
        longer = resampled(pl.concat(known).sort("time"), Interval.D1)
        others = candles.join(longer, on="time", how="anti")
        longer = longer.select(
            pl.col(name).cast(dtype) for name, dtype in candles.collect_schema().items()
        )
        return pl.concat([others, longer]).sort("time")

    def minutes(self, first: date, last: date) -> pl.DataFrame:
        """Return its candles of 1m of some days, both inclusive."""
        instrument = self.instrument
        walk = day_walk(self._prices(), instrument.salt)
        days = walk.filter(pl.col("time").dt.date().is_between(first, last))
        return candles_of(instrument, minute_walk(days, instrument.salt + 1))


def _instrument(market: Market, symbol: str, asset: Asset, quote: str) -> Instrument:
    """Return an instrument whose turnover is some 20,000 USDT a minute."""
    unit = 10**asset.places
    amount_places = 3 if asset.price >= 100 * unit else 1 if asset.price >= unit else 0
    most = max(20, 20_000 * 10 ** (asset.places + amount_places) // asset.price)
    if quote == "BTC":
        amount_places, most = 2, max(20, 20 * unit // asset.price)
    decimals = (8, 8, 8)
    if market is Market.FUTURES_UM:
        decimals = asset.places, amount_places, asset.places + amount_places
    return Instrument(market, symbol, asset, 0, amount_places, most, decimals, 0)


def _symbol(
    market: Market,
    symbol: str,
    coin: str,
    quote: str = "USDT",
    first: date = FIRST_MARKET_DAY,
    last: date = LAST_DAY,
    places: int | None = None,
) -> MarketSymbol:
    """Return a symbol; its days are those of its coin, and at most the given ones."""
    known = COINS[coin]
    asset = known.asset
    if places is not None:
        asset = Asset(coin, places, asset.price, asset.step)
    if quote == "BTC" and places is not None:
        shift = 10 ** (places + COINS["BTC"].places - known.places)
        asset = Asset(coin, places, asset.price * shift // COINS["BTC"].price, asset.step)
    instrument = _MAIN.get((market, symbol))
    if instrument:
        last = _LAST_MAIN_DAY
    else:
        instrument = _instrument(market, symbol, asset, quote)
    return MarketSymbol(instrument, coin, quote, max(first, known.first), min(last, known.last))


_SPOT, _UM = Market.SPOT, Market.FUTURES_UM
# Spot pairs in USDC were not traded in the months before.
_USDC, _FDUSD, _UM_USDC = date(2023, 3, 12), date(2023, 8, 4), date(2024, 1, 4)

#: The symbols of the market.
MARKET: tuple[MarketSymbol, ...] = (
    *(_symbol(_SPOT, f"{coin}USDT", coin) for coin in COINS if coin != "CTK"),
    _symbol(_SPOT, "ETHBTC", "ETH", "BTC", places=5),
    _symbol(_SPOT, "BNBBTC", "BNB", "BTC", places=6),
    _symbol(_SPOT, "SOLBTC", "SOL", "BTC", places=7),
    _symbol(_SPOT, "BTCUSDC", "BTC", "USDC", _USDC),
    _symbol(_SPOT, "ETHUSDC", "ETH", "USDC", _USDC),
    _symbol(_SPOT, "BTCFDUSD", "BTC", "FDUSD", _FDUSD),
    _symbol(_SPOT, "ETHFDUSD", "ETH", "FDUSD", _FDUSD),
    *(
        _symbol(_UM, f"{coin}USDT", coin)
        for coin in ("BTC", "ETH", "SOL", "XRP", "DOGE", "ARB", "SUI", "WAVES", "REEF")
    ),
    _symbol(_UM, "MATICUSDT", "MATIC", last=date(2024, 9, 4)),
    _symbol(_UM, "POLUSDT", "POL"),
    _symbol(_UM, "1000PEPEUSDT", "PEPE", places=5),
    _symbol(_UM, "CTKUSDTSETTLED", "CTK"),
    _symbol(_UM, "BTCUSDC", "BTC", "USDC", _UM_USDC),
    _symbol(_UM, "BTCUSDT_240628", "BTC", first=date(2023, 12, 29), last=date(2024, 6, 28)),
    _symbol(_UM, "BTCUSDT_241227", "BTC", first=date(2024, 6, 28), last=date(2024, 12, 27)),
    _symbol(_UM, "BTCUSDT_250627", "BTC", first=date(2024, 12, 27), last=date(2025, 6, 27)),
    _symbol(_UM, "ETHUSDT_250627", "ETH", first=date(2024, 12, 27), last=date(2025, 6, 27)),
)


@dataclass(frozen=True, slots=True)
class _Group:
    """Files that are built together: their keys, and the function that returns their texts."""

    keys: tuple[ObjectKey, ...]
    build: Callable[[], Iterable[Text]]


def _groups(symbol: MarketSymbol) -> Iterator[_Group]:
    """Yield the files of a symbol: those of days by folder, those of minutes one by one."""
    for partition in Partition:
        folder = symbol.folder(Interval.D1, partition)
        keys = tuple(ObjectKey(folder, start) for start in symbol.starts(partition))
        if keys:
            yield _Group(keys, partial(_of_days, symbol, keys))
    if symbol.has_minutes:
        folder = symbol.folder(Interval.M1, Partition.MONTHLY)
        for start in periods(*_MINUTE_YEAR, Partition.MONTHLY):
            key = ObjectKey(folder, start)
            yield _Group((key,), partial(_of_minutes, symbol, key))


def _of_days(symbol: MarketSymbol, keys: tuple[ObjectKey, ...]) -> Iterator[Text]:
    span = pl.col("time").dt.date().is_between(keys[0].start, keys[-1].end)
    candles = symbol.days().filter(span)
    partition = keys[0].folder.partition
    return texts_of(*kline_rows(symbol.instrument, candles, Interval.D1, partition))


def _of_minutes(symbol: MarketSymbol, key: ObjectKey) -> Iterator[Text]:
    candles = symbol.minutes(key.start, key.end)
    return texts_of(*kline_rows(symbol.instrument, candles, Interval.M1, Partition.MONTHLY))


class MarketFiles(Mapping[str, bytes]):
    """The zips of the market and their checksums by key, and the given objects.

    The keys are known at once; a zip is built, with others of its folder, when it is first read.
    """

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = dict(objects)
        self._later = {
            str(key): group for symbol in MARKET for group in _groups(symbol) for key in group.keys
        }
        later = (name for key in self._later for name in (key, key + CHECKSUM_SUFFIX))
        self._keys = dict.fromkeys(sorted({*self._objects, *later}))

    def __getitem__(self, key: str) -> bytes:
        """Return an object, and build it before if need be."""
        if key not in self._objects:
            for built, text in self._later[key.removesuffix(CHECKSUM_SUFFIX)].build():
                data = zip_of(built, text)
                self._objects[str(built)] = data
                self._objects[built.checksum] = checksum_of(built, data)
        return self._objects[key]

    def __contains__(self, key: object) -> bool:
        """Return whether there is an object, without building it."""
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        """Yield the keys in the order of a listing."""
        return iter(self._keys)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._keys)
