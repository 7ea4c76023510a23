"""The main files of the synthetic archive: the real formats with invented values.

Prices, amounts and rates are invented. Keys, columns, headers, time units, formats of numbers
and booleans, zips and checksums are those of the real archive. `binance_archive_kit.demo.archive`
serves the files:

* candles of 2025-06-15 to 2025-07-15 as daily files of 1h and 1d, and of 2025-05 and
  2025-06 as monthly ones of 1h, 1d, 1w and 1mo, of spot, USD-M and COIN-M symbols;
* candles of 1m for all these days of spot BTCUSDT and ETHUSDT, from 2025-07-09 on for
  USD-M and from 2025-07-13 on for the other symbols;
* the other active feeds of 2025-07-13 to 2025-07-15; to stay small, with 240 aggregated trades
  a day instead of a million, and book depth of the last day only;
* a few days of older eras and of feeds that have ended.

`binance_archive_kit.demo.market` adds three years of many symbols.

The files are consistent, like those of the real archive: long candles aggregate short ones,
trades lie within their candle, aggregated trades combine trades. The exceptions reproduce flaws
of the real archive; `binance_archive_kit.demo.flaws` lists them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.demo.ended_feeds import ended_feeds, older_files
from binance_archive_kit.demo.feeds import (
    Rows,
    book_depth_rows,
    funding_rows,
    late,
    main_klines,
    metrics_rows,
    price_klines,
    trade_rows,
    volatility_rows,
)
from binance_archive_kit.demo.prices import (
    BTC,
    ETH,
    FIRST_DAY,
    LIFE,
    MAIN,
    UM_BTC,
    candles_of,
    main_walk,
)
from binance_archive_kit.demo.zips import checksum_of, texts_of, zip_of

#: Symbols whose feeds run to `LAST_DAY`, by market.
SYMBOLS = {
    Market.SPOT: ["BTCUSDT", "ETHUSDT", "币安人生USDT"],
    Market.FUTURES_UM: ["BTCUSDT", "ETHUSDT"],
    Market.FUTURES_CM: ["BTCUSD_PERP", "ETHUSD_PERP"],
    Market.OPTIONS: ["BTCBVOLUSDT", "ETHBVOLUSDT"],
}


def _feeds() -> Iterator[Rows]:
    """Yield the rows of all folders of the synthetic archive."""
    walks = {asset: main_walk(asset) for asset in (BTC, ETH, LIFE)}
    for instrument in MAIN:
        walk = walks[instrument.asset]
        candles = candles_of(instrument, walk)
        minutes = candles.filter(pl.col("time").dt.date() >= FIRST_DAY)
        yield from main_klines(instrument, candles)
        yield from trade_rows(instrument, candles)
        if instrument.market is not Market.SPOT:
            yield from price_klines(instrument, walk)
            # The metrics of UM_BTC begin in 2021, so a missing later day would be a gap.
            yield metrics_rows(instrument, minutes if instrument is UM_BTC else late(minutes))
            yield book_depth_rows(instrument, minutes)
            yield funding_rows(instrument)
    yield volatility_rows(BTC, 372_000)
    yield volatility_rows(ETH, 615_000)
    yield from older_files()
    yield from ended_feeds()


def build() -> dict[str, bytes]:
    """Build the main objects of the synthetic archive.

    Returns
    -------
    dict of str to bytes
        Keys and contents of the zips and their ``.CHECKSUM`` objects, in the order of a
        listing. The csv texts are the same on every machine; the zips depend on the version
        of zlib.
    """
    objects = {}
    files = [file for folder, rows in _feeds() for file in texts_of(folder, rows)]
    with ThreadPoolExecutor() as pool:
        zips = pool.map(lambda file: zip_of(*file), files)
        for (key, _), data in zip(files, zips, strict=True):
            objects[str(key)] = data
            objects[key.checksum] = checksum_of(key, data)
    return dict(sorted(objects.items()))
