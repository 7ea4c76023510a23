"""A colour for each symbol, which is the same in every figure."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.archive.symbols import asset_of

#: Assets that always have a colour of their own.
_ASSETS = (
    *("BTC", "ETH", "BNB", "SOL", "XRP", "DOGE", "ADA", "TRX", "LINK", "AVAX", "DOT", "LTC"),
)
#: Colours that are legible on light and on dark pages. Red-green colour-blind people can tell them
#: apart: of those on which it was searched, this list has the largest smallest difference.
_PALETTE = (
    *("#f08c00", "#3b82f6", "#8ca97d", "#ad2ca7", "#28acdf", "#9e829b", "#237356"),
    *("#cc1a0a", "#a867c3", "#fd6cd4", "#a15883", "#2c965d", "#dc631e", "#1961d4"),
)
#: The first colours are for the first assets alone, which are in most figures.
_OWN = 2
#: Widths in points of the lines of one figure that share a colour. Dashes would look like gaps.
_WIDTHS = (1.2, 2.0, 0.6)


class LineStyle(NamedTuple):
    """How the line of a symbol is drawn."""

    color: str
    linewidth: float


def colour_of(symbol: str) -> str:
    """Return the colour of a symbol: that of its asset, in any market and against any quote.

    >>> colour_of("BTCUSDT") == colour_of("BTCUSD_PERP") == colour_of("BTC")
    True
    >>> colour_of("ETHUSDT") == colour_of("BTCUSDT")
    False
    """
    markets = (Market.FUTURES_UM, Market.SPOT, Market.FUTURES_CM)
    asset = next(filter(None, (asset_of(market, symbol) for market in markets)), symbol)
    if asset in _ASSETS:
        return _PALETTE[_ASSETS.index(asset)]
    return _PALETTE[_OWN + zlib.crc32(asset.encode()) % (len(_PALETTE) - _OWN)]


def line_styles(symbols: Iterable[str]) -> list[LineStyle]:
    """Return the style of each symbol's line; those of one colour get different widths.

    >>> [style.linewidth for style in line_styles(["BTCUSDT", "ETHUSDT", "BTCUSDC"])]
    [1.2, 1.2, 2.0]
    """
    used: Counter[str] = Counter()
    styles = []
    for symbol in symbols:
        colour = colour_of(symbol)
        styles.append(LineStyle(colour, _WIDTHS[used[colour] % len(_WIDTHS)]))
        used[colour] += 1
    return styles
