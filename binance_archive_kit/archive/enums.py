"""Markets, partitions, data types and intervals, spelled as in the archive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from binance_archive_kit.errors import ConfigurationError, field_error, shown
from binance_archive_kit.suggestions import unknown

Word = TypeVar("Word", bound=StrEnum)


class Market(StrEnum):
    """One of the four published markets.

    The value is used in configurations; `path` is the folder in the archive.
    """

    SPOT = "spot"
    FUTURES_UM = "futures_um"
    FUTURES_CM = "futures_cm"
    OPTIONS = "options"

    @property
    def path(self) -> str:
        """Folder of this market below ``data/``.

        >>> Market.FUTURES_UM.path
        'futures/um'
        """
        return _MARKET_PATHS[self]

    @property
    def title(self) -> str:  # type: ignore[override]
        """Name of the market in texts.

        >>> Market.FUTURES_CM.title
        'COIN-M futures'
        """
        return _MARKET_TITLES[self]


_MARKET_PATHS = {
    Market.SPOT: "spot",
    Market.FUTURES_UM: "futures/um",
    Market.FUTURES_CM: "futures/cm",
    Market.OPTIONS: "option",
}
_MARKET_TITLES = {
    Market.SPOT: "spot",
    Market.FUTURES_UM: "USD-M futures",
    Market.FUTURES_CM: "COIN-M futures",
    Market.OPTIONS: "options",
}

#: Other spellings that configurations may use for a market.
MARKET_ALIASES = {
    "um": Market.FUTURES_UM,
    "cm": Market.FUTURES_CM,
    "option": Market.OPTIONS,
}


def read_market(market: str) -> Market:
    """Return the market of a name, in any accepted spelling.

    Raises
    ------
    ConfigurationError
        If there is no such market.

    Examples
    --------
    >>> read_market("um")
    <Market.FUTURES_UM: 'futures_um'>
    """
    return _read_word("market", Market, market, MARKET_ALIASES)


class Partition(StrEnum):
    """Period of one file: a UTC day or a calendar month."""

    DAILY = "daily"
    MONTHLY = "monthly"


class DataType(StrEnum):
    """The kind of data of a feed; the value is the name of its folder in the archive."""

    KLINES = "klines"
    TRADES = "trades"
    AGG_TRADES = "aggTrades"
    FUNDING_RATE = "fundingRate"
    PREMIUM_INDEX_KLINES = "premiumIndexKlines"
    METRICS = "metrics"
    INDEX_PRICE_KLINES = "indexPriceKlines"
    MARK_PRICE_KLINES = "markPriceKlines"
    BOOK_DEPTH = "bookDepth"
    BOOK_TICKER = "bookTicker"
    LIQUIDATION_SNAPSHOT = "liquidationSnapshot"
    BVOL_INDEX = "BVOLIndex"
    EOH_SUMMARY = "EOHSummary"

    @property
    def has_intervals(self) -> bool:
        """Whether files are split by interval: true for the four kline families.

        >>> DataType.MARK_PRICE_KLINES.has_intervals, DataType.TRADES.has_intervals
        (True, False)
        """
        return self in _KLINE_FAMILY

    @property
    def has_events(self) -> bool:
        """Whether files have single events, and so very many rows, instead of regular values.

        >>> DataType.TRADES.has_events, DataType.METRICS.has_events
        (True, False)
        """
        return self in _EVENTS


_EVENTS = frozenset(
    {DataType.TRADES, DataType.AGG_TRADES, DataType.BOOK_TICKER, DataType.BOOK_DEPTH}
)
_KLINE_FAMILY = frozenset(
    {
        DataType.KLINES,
        DataType.PREMIUM_INDEX_KLINES,
        DataType.INDEX_PRICE_KLINES,
        DataType.MARK_PRICE_KLINES,
    }
)

#: Another name for the premium index klines in configurations.
PREMIUM_INDEX = "premiumIndex"


class Interval(StrEnum):
    """Length of a candle; the month is ``1mo``."""

    S1 = "1s"
    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    H6 = "6h"
    H8 = "8h"
    H12 = "12h"
    D1 = "1d"
    D3 = "3d"
    W1 = "1w"
    MO1 = "1mo"


_RANKS: dict[str | None, int] = {interval: rank for rank, interval in enumerate(Interval)}


def rank_of(interval: Interval | None) -> int:
    """Return the position of an interval, from the shortest to the longest; -1 for none.

    >>> rank_of(None), rank_of(Interval.S1), rank_of(Interval.M1)
    (-1, 0, 1)
    """
    return _RANKS.get(interval, -1)


#: Other spellings that configurations may use for an interval.
INTERVAL_ALIASES = {"1M": Interval.MO1}


def read_interval(interval: str) -> Interval:
    """Return the interval of a name, in any accepted spelling.

    Raises
    ------
    ConfigurationError
        If the archive has no such interval.

    Examples
    --------
    >>> read_interval("1M")
    <Interval.MO1: '1mo'>
    """
    return _read_word("interval", Interval, interval, INTERVAL_ALIASES)


def _read_word(field: str, words: type[Word], word: str, aliases: Mapping[str, Word]) -> Word:
    name = aliases.get(word, word) if isinstance(word, str) else None
    if name not in set(words):
        raise ConfigurationError(unknown(field, word, words))
    return words(name)


def read_names(field: str, words: str | Iterable[str]) -> list[str]:
    """Return one name or several as a list without duplicates.

    Raises
    ------
    ConfigurationError
        If there is no name, or one is empty or not text.

    Examples
    --------
    >>> read_names("symbols", "BTCUSDT"), read_names("symbols", ("A", "B", "A"))
    (['BTCUSDT'], ['A', 'B'])
    """
    if isinstance(words, str):
        words = [words]
    try:
        # Bytes are a collection of numbers.
        names = list(dict.fromkeys(words)) if not isinstance(words, bytes) else None
    except TypeError:
        names = None
    if names is None:
        message = f"{shown(words)} is neither a name nor several; give a name or a list of names"
        raise field_error(field, message)
    if not names:
        raise field_error(field, "it is empty; give one name or several")
    for name in names:
        if not isinstance(name, str):
            raise field_error(field, f"{shown(name)} is not a name; names are text")
        if not name.strip():
            raise field_error(field, f"{shown(name)} is empty; give one name or several")
    return names
