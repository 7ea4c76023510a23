"""Daily prices of the coins of a small market, three years long.

Bitcoin drives the market. Other coins follow it and have a course of their own, which lasts for
some months (weak momentum). Coins that end lose much of their value before; some of them rise
first. Whole numbers only, as in `prices`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import pairwise

import polars as pl

from binance_archive_kit.demo.prices import (
    BTC,
    BTC_HOURS,
    DAY,
    ETH,
    LAST_DAY,
    Asset,
    main_walk,
    minute,
    noise,
    random_walk,
)

#: First day (UTC) of the market.
FIRST_MARKET_DAY = date(2022, 7, 1)
#: The day before, whose close is the first open.
_ORIGIN = FIRST_MARKET_DAY - DAY
_MILLION = 10**6
#: Course of the whole market by quarter, in millionths a day; from the third of 2022.
_QUARTERS = (
    -300, -1_500, 3_500, 500, -1_000, 4_000, 4_000, -1_000, 200, 3_500, -1_500, 2_500, 0,
)  # fmt: skip
#: Days in which a coin loses much of its value before it ends, of the crash with which this
#: begins, and of the rise before.
_FALL, _CRASH, _RISE = 150, 45, 35


@dataclass(frozen=True, slots=True)
class Coin:
    """A coin of the market.

    Attributes
    ----------
    name : str
    places : int
        Decimal places of its price in USDT.
    price : int
        Its last price, as a count of 10^-`places` USDT.
    first, last : date
        Days of its first and last candle in USDT.
    rises : bool
        Whether it rises before its fall; only for coins that end.
    """

    name: str
    places: int
    price: int
    first: date = FIRST_MARKET_DAY
    last: date = LAST_DAY
    rises: bool = False

    @property
    def asset(self) -> Asset:
        """The coin as an asset."""
        return Asset(self.name, self.places, self.price, 1)

    @property
    def falls(self) -> bool:
        """Whether it loses much of its value before it ends; a renamed coin goes on."""
        return self.last < LAST_DAY and self.name != "MATIC"


_LIVING = """
    BNB 1 6_900   SOL 2 15_900   XRP 4 28_300   ADA 4 7_350   DOGE 5 19_100  AVAX 2 2_110
    DOT 3 3_940   LINK 2 1_560   LTC 2 9_400    ATOM 3 4_580  UNI 3 8_300    NEAR 3 2_530
    FIL 3 2_520   TRX 4 3_010    ETC 2 1_810    AAVE 2 31_200 SAND 4 2_820   ALGO 4 2_610
"""
_COINS = (
    Coin("BTC", BTC.places, BTC.price),
    Coin("ETH", ETH.places, ETH.price),
    *(
        Coin(name, int(places), int(price))
        for line in _LIVING.strip().splitlines()
        for name, places, price in zip(*[iter(line.split())] * 3, strict=True)
    ),
    # Began later.
    Coin("APT", 3, 5_020, date(2022, 10, 19)),
    Coin("ARB", 4, 3_980, date(2023, 3, 23)),
    Coin("SUI", 4, 39_000, date(2023, 5, 3)),
    Coin("PEPE", 8, 1_210, date(2023, 5, 5)),
    Coin("TIA", 3, 1_890, date(2023, 10, 31)),
    Coin("WIF", 3, 1_080, date(2024, 3, 5)),
    # Renamed: one coin, and one course, under two names.
    Coin("MATIC", 4, 2_350, last=date(2024, 9, 10)),
    Coin("POL", 4, 2_350, date(2024, 9, 13)),
    # Ended.
    Coin("HNT", 3, 4_210, last=date(2022, 12, 12)),
    Coin("SRM", 4, 1_460, last=date(2023, 2, 27), rises=True),
    Coin("BTS", 5, 812, last=date(2023, 6, 19)),
    Coin("VITE", 5, 934, last=date(2023, 8, 21), rises=True),
    Coin("PERL", 5, 1_210, last=date(2023, 10, 9), rises=True),
    Coin("TORN", 3, 2_240, last=date(2023, 11, 30), rises=True),
    Coin("XMR", 2, 11_840, last=date(2024, 2, 20), rises=True),
    Coin("MDX", 5, 2_640, last=date(2024, 4, 1), rises=True),
    Coin("ANT", 3, 4_870, last=date(2024, 5, 13), rises=True),
    Coin("WAVES", 4, 9_130, last=date(2024, 6, 17), rises=True),
    Coin("OMG", 4, 2_260, last=date(2024, 7, 22)),
    Coin("LOOM", 5, 3_310, last=date(2024, 10, 28), rises=True),
    Coin("UNFI", 3, 1_190, last=date(2024, 11, 25), rises=True),
    Coin("REN", 5, 2_070, last=date(2024, 12, 16)),
    Coin("EPX", 8, 3_400, last=date(2025, 2, 24), rises=True),
    Coin("AMB", 6, 2_080, last=date(2025, 3, 17), rises=True),
    Coin("CTK", 4, 2_890, last=date(2025, 4, 9)),
    Coin("REEF", 6, 1_450, last=date(2025, 5, 19), rises=True),
)
COINS = {coin.name: coin for coin in _COINS}


def _days(last: date) -> pl.DataFrame:
    """Return the days of the market up to one of them, as `time`."""
    times = pl.datetime_range(FIRST_MARKET_DAY, last, "1d", time_unit="ms", eager=True)
    return pl.DataFrame({"time": times})


def _bell(salt: int, width: int) -> pl.Expr:
    """Return noise like that of a normal distribution, in [-4 `width`, 4 `width`]."""
    parts = (noise(minute(), salt + step) % (2 * width + 1) for step in range(4))
    return pl.sum_horizontal(*parts) - 4 * width


def _backwards(price: int, moves: list[int]) -> list[int]:
    """Return the prices before and after moves in millionths that end at a price."""
    scale = 10**9  # small prices would lose too much when rounded
    levels = [price * scale]
    for move in reversed(moves):
        levels.append(levels[-1] * _MILLION // (_MILLION + move))
    return [level // scale for level in reversed(levels)]


def _between(first: int, prices: list[int]) -> list[int]:
    """Bend a course so that it begins at a price and still ends where it does."""
    steps, start = len(prices) - 1, prices[0]
    return [
        price * (steps * start + (first - start) * (steps - step)) // (steps * start)
        for step, price in enumerate(prices)
    ]


@cache
def known_walk(name: str) -> pl.DataFrame:
    """Return the candles of Bitcoin or Ether that other files of the archive have already."""
    hours = [
        random_walk(BTC, start, start + days * DAY, 60, price)
        for start, days, price in (BTC_HOURS if name == "BTC" else ())
    ]
    return pl.concat([*hours, main_walk(BTC if name == "BTC" else ETH)])


def _known_prices(name: str) -> dict[int, int]:
    """Return the closes of known days, and of the days before them, by day of the market."""
    found: dict[int, int] = {}
    days = known_walk(name).group_by(pl.col("time").dt.date(), maintain_order=True)
    for (day,), candles in days:
        assert isinstance(day, date)  # noqa: S101 for the type checker
        index = (day - _ORIGIN).days
        found.setdefault(index - 1, candles["open"][0])
        found[index] = candles["close"][-1]
    return found


def _joined(name: str, moves: list[int]) -> list[int]:
    """Return closes that follow moves where they are not known, and join those that are."""
    known = _known_prices(name)
    prices: list[int] = []
    for index in sorted(known):
        if index > len(prices):
            course = _backwards(known[index], moves[max(len(prices) - 1, 0) : index])
            prices = prices[:-1] + (_between(prices[-1], course) if prices else course)
        else:
            prices.append(known[index])
    return prices


def _bitcoin_moves() -> list[int]:
    """Return the moves of Bitcoin from day to day, in millionths."""
    time = pl.col("time")
    quarter = (time.dt.year() - 2022) * 4 + time.dt.quarter() - 3
    course = quarter.replace_strict(dict(enumerate(_QUARTERS)), return_dtype=pl.Int64)
    return _days(LAST_DAY).select(course + _bell(1, 18_000)).to_series().to_list()


def _moves(coin: Coin) -> list[int]:
    """Return the moves of a coin from day to day, in millionths."""
    salt = coin.asset.price
    season = minute() // (120 * 1_440) * 7_919
    own = noise(season, salt) % 3_001 - 2_000 + _bell(salt + 1, 15_000)
    if coin.falls:
        left = pl.lit(coin.last).cast(pl.Datetime("ms")).sub(pl.col("time")).dt.total_days()
        course = pl.when(left < _FALL - _CRASH).then(-7_000).when(left < _FALL).then(-20_000)
        if coin.rises:
            course = course.when(left < _FALL + _RISE).then(20_000)
        own += course.otherwise(-400)
    bitcoin = pairwise(closes("BTC"))
    market = [(after - before) * _MILLION // before for before, after in bitcoin]
    days = _days(coin.last)
    days = days.with_columns(market=pl.Series(market[: days.height]))
    beta = 80 + noise(pl.lit(salt), 5) % 60  # percent
    return days.select(pl.col("market") * beta // 100 + own).to_series().to_list()


@cache
def closes(name: str) -> list[int]:
    """Return the price of a coin at the end of each day, beginning before the first one."""
    coin = COINS[name]
    match name:
        case "BTC":
            return _joined(name, _bitcoin_moves())
        case "ETH":
            return _joined(name, _moves(coin))
        case "MATIC":
            return closes("POL")[: (coin.last - _ORIGIN).days + 1]
        case _:
            return _backwards(coin.price, _moves(coin))


def day_walk(prices: list[int], salt: int) -> pl.DataFrame:
    """Return daily candles from closes; the first close is the open of the first candle."""
    days = _days(FIRST_MARKET_DAY + (len(prices) - 2) * DAY)
    wick = noise(minute(), salt)
    top, bottom = pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close")
    return days.with_columns(
        minutes=pl.lit(1_440), open=pl.Series(prices[:-1]), close=pl.Series(prices[1:])
    ).select(
        "time",
        "minutes",
        "open",
        high=top + top * (wick % 25_000) // _MILLION,
        low=bottom - bottom * (wick // 65_536 % 25_000) // _MILLION,
        close="close",
    )


def minute_walk(days: pl.DataFrame, salt: int) -> pl.DataFrame:
    """Return candles of minutes that begin and end each day as its candle does."""
    minutes = pl.DataFrame({"of_day": range(1, 1_441)}, schema={"of_day": pl.Int64})
    reach = pl.col("open") // 900 + 1
    walk = (
        days.select("time", "open", end="close")
        .join(minutes, how="cross", maintain_order="left_right")
        .with_columns(pl.col("time") + pl.duration(minutes=pl.col("of_day") - 1))
        .with_columns(
            day=pl.col("time").dt.date(),
            reach=reach,
            move=noise(minute(), salt) % (2 * reach + 1) - reach,
            wick=noise(minute(), salt + 1),
        )
        .with_columns(moved=pl.col("move").cum_sum().over("day"))
        .with_columns(
            missed=pl.col("end") - pl.col("open") - pl.col("moved").last().over("day"),
        )
        .with_columns(
            close=pl.col("open") + pl.col("moved") + pl.col("missed") * pl.col("of_day") // 1_440
        )
    )
    opens = pl.col("close").shift(1).over("day").fill_null(pl.col("open"))
    wide = pl.col("reach") // 2 + 1
    return walk.select(
        "time",
        "wick",
        "close",
        minutes=pl.lit(1),
        open=opens,
        wide=wide,
    ).select(
        "time",
        "minutes",
        "open",
        high=pl.max_horizontal("open", "close") + pl.col("wick") % pl.col("wide"),
        low=pl.min_horizontal("open", "close") - pl.col("wick") // 65_536 % pl.col("wide"),
        close="close",
    )
