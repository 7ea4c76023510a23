"""The rows of older eras and ended feeds of the synthetic archive, in the archive's formats."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream
from binance_archive_kit.demo.feeds import Rows, kline_rows, metrics_rows, rows_of
from binance_archive_kit.demo.prices import (
    BNX,
    BTC,
    BTC_HOURS,
    CM_BTC,
    DAY,
    PRICES,
    SPOT_BTC,
    UM_BTC,
    UM_DELIVERY,
    UM_SETTLED,
    candles_of,
    minute,
    noise,
    random_walk,
    resampled,
    spell_fixed,
)


def older_files() -> Iterator[Rows]:
    """Yield days before the changes of unit and header, and days of ended contracts.

    The contracts are a delivery contract, and one that was settled under another name.
    """
    hour, longer = (Interval.H1,), (Interval.H1, Interval.D1)
    for instrument, start, days, price, intervals in (
        (UM_BTC, datetime(2022, 5, 5), 1, 396_841, hour),
        (UM_BTC, *BTC_HOURS[0], hour),
        (SPOT_BTC, *BTC_HOURS[1], hour),
        (UM_DELIVERY, datetime(2025, 7, 13), 3, 1_190_000, longer),
        (UM_SETTLED, datetime(2025, 6, 15), 4, BNX.price, longer),
    ):
        candles = candles_of(
            instrument, random_walk(instrument.asset, start, start + days * DAY, 60, price)
        )
        for interval in intervals:
            yield kline_rows(instrument, resampled(candles, interval), interval, Partition.DAILY)
    start = datetime(2021, 5, 20)
    yield metrics_rows(UM_BTC, candles_of(UM_BTC, random_walk(BTC, start, start + DAY, 5, 368_000)))


def ended_feeds() -> Iterator[Rows]:
    """Yield the last days of best bids and asks, liquidations and option summaries."""
    start = datetime(2024, 3, 29)
    quotes = candles_of(UM_BTC, random_walk(BTC, start, start + 2 * DAY, 5, 700_000))
    draw = noise(minute(), 1)
    sent = pl.col("time").dt.epoch("ms") + draw % 290_000
    amounts = [1 + noise(minute(), salt) % 20_000 for salt in (2, 3)]
    yield rows_of(
        UM_BTC.folder(DataType.BOOK_TICKER),
        # Some updates follow later ones, as in the archive.
        quotes.sort(minute() + (draw % 9 == 0) * 12, maintain_order=True),
        (4_200_000_000_000 + minute() * 1_000 + draw % 1_000).cast(pl.String),
        spell_fixed("close", 1, 8),
        spell_fixed(amounts[0], 3, 8),
        spell_fixed(pl.col("close") + 1, 1, 8),
        spell_fixed(amounts[1], 3, 8),
        sent.cast(pl.String),
        (sent + draw % 7).cast(pl.String),
    )
    start = datetime(2024, 10, 13)
    orders = candles_of(CM_BTC, random_walk(BTC, start, start + 2 * DAY, 60, 630_000))
    amount = 2 + draw % 300
    yield rows_of(
        CM_BTC.folder(DataType.LIQUIDATION_SNAPSHOT),
        orders,
        (pl.col("time").dt.epoch("ms") + draw % 3_600_000).cast(pl.String),
        pl.when(pl.col("close") > pl.col("open")).then(pl.lit("BUY")).otherwise(pl.lit("SELL")),
        pl.lit("LIMIT"),
        pl.lit("IOC"),
        amount.cast(pl.String),
        spell_fixed("close", 1, 1),
        spell_fixed("open", 1, 1),
        pl.lit("FILLED"),
        (1 + amount // 2).cast(pl.String),
        amount.cast(pl.String),
    )
    yield _summary_rows()


def _option_hours() -> pl.DataFrame:
    """Return the hourly state of sixteen options for two days, and their prices of 24 hours."""
    first = datetime(2023, 10, 22)
    hours = pl.datetime_range(
        first - DAY, first + 2 * DAY, "1h", closed="left", time_unit="ms", eager=True
    )
    options = pl.DataFrame({"strike": range(24_000, 40_000, 2_000)}).join(
        pl.DataFrame({"type": ["C", "P"]}), how="cross", maintain_order="left_right"
    )
    call, draw, price = pl.col("type") == "C", pl.col("draw"), pl.col("price")
    spot = 29_900 + noise(minute(), 20) % 200
    inside = pl.when(call).then(spot - pl.col("strike")).otherwise(pl.col("strike") - spot)

    def of_day(value: pl.Expr) -> pl.Expr:
        return value.rolling_sum(24, min_samples=1).over("strike", "type")

    return (
        pl.DataFrame({"time": hours})
        .join(options, how="cross", maintain_order="left_right")
        .with_columns(draw=noise(minute() + pl.col("strike") + call.cast(pl.Int64), 21), spot=spot)
        .with_columns(
            # In 10^-8 USDT: the exercise value, and the time value.
            mark=(inside.clip(lower_bound=0) + 1_200 - inside.abs() // 20) * 10**8,
            iv=45_000_000 + draw % 9_000_000,
            strike_text=pl.concat_str(pl.lit("231229-"), pl.col("strike").cast(pl.String)),
            delta=(50_000_000 + inside * 4_000).clip(2_000_000, 98_000_000),
            # Traded in one hour of thirty, in hundredths of a contract.
            traded=pl.when(draw // 7 % 30 == 0).then(1 + draw // 1_024 % 400).otherwise(0),
        )
        .with_columns(price=pl.when(pl.col("traded") > 0).then("mark"))
        .with_columns(
            close=price.forward_fill().over("strike", "type"),
            # Of the first trade in the 24 hours; without a trade every price is the last one.
            open=price.backward_fill().shift(23).over("strike", "type"),
            high=price.rolling_max(24, min_samples=1).over("strike", "type"),
            low=price.rolling_min(24, min_samples=1).over("strike", "type"),
            volume=of_day(pl.col("traded")),
            value=of_day(pl.col("traded") * (pl.col("mark") // 100)),
        )
        .filter(pl.col("time") >= first)
        .sort(noise(minute() * 100_000 + pl.col("strike") * 2 + call.cast(pl.Int64), 22))
    )


def _summary_rows() -> Rows:
    """Return an hourly summary of sixteen options, in no order.

    Open, high, low, close and volumes are those of the 24 hours up to the end of the hour. Zero is
    written ``0E-8``, null ``""``. The greeks have a plausible sign and size; they follow no model.
    """
    mark, volume, draw = pl.col("mark"), pl.col("volume"), pl.col("draw")

    def amount(value: pl.Expr) -> pl.Expr:
        text = spell_fixed(value, 8, 8, signed=True)
        return pl.when(value == 0).then(pl.lit("0E-8")).otherwise(text)

    def price(name: str) -> pl.Expr:
        of_trades = pl.when(volume > 0).then(name).otherwise("close")
        return amount(of_trades.fill_null(0))

    def sometimes(every: int, value: pl.Expr) -> pl.Expr:
        return pl.when(draw % every == 0).then(pl.lit('""')).otherwise(amount(value))

    open_interest = draw // 4_096 % 900 * 10**6
    return rows_of(
        Folder(Stream(Market.OPTIONS, DataType.EOH_SUMMARY, "BTCUSDT"), Partition.DAILY),
        _option_hours(),
        pl.col("time").dt.strftime("%Y-%m-%d"),
        pl.col("time").dt.strftime("%H"),
        pl.concat_str(pl.lit("BTC-"), "strike_text", pl.lit("-"), "type"),
        pl.lit("BTCUSDT"),
        pl.col("type"),
        pl.col("strike_text"),
        *(price(name) for name in PRICES),
        amount(volume * 10**6),
        amount(pl.col("value")),
        amount(mark * 98 // 100),
        amount(mark * 103 // 100),
        amount(10**6 * (1 + draw % 900)),
        amount(10**6 * (1 + draw // 2_048 % 900)),
        sometimes(4, pl.col("iv") - 10**6),
        sometimes(5, pl.col("iv") + 10**6),
        amount(mark),
        amount(pl.col("iv")),
        amount(pl.when(pl.col("type") == "C").then("delta").otherwise(-pl.col("delta"))),
        amount(3_000 + draw % 2_000),
        amount((20 + draw % 20) * 10**8),
        amount(-(8 + draw % 9) * 10**8),
        amount(open_interest),
        amount(open_interest * (pl.col("spot") // 100)),
    )
