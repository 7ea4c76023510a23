"""The rows of the active feeds of the synthetic archive, as text in the archive's formats."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream
from binance_archive_kit.demo.flaws import PLANTED
from binance_archive_kit.demo.prices import (
    BTC,
    DAY,
    FIRST_DAY,
    FIRST_LATE_DAY,
    FIRST_MINUTES,
    LAST_DAY,
    MINUTE_MS,
    PRICES,
    Asset,
    Instrument,
    minute,
    noise,
    random_walk,
    resampled,
    spell_epoch,
    spell_fixed,
    spell_time,
)

#: Rows of a folder: `time`, which determines the file of a row, and `line`.
Rows = tuple[Folder, pl.DataFrame]


def rows_of(folder: Folder, frame: pl.DataFrame, *fields: pl.Expr) -> Rows:
    """Join the fields of each row to a csv line."""
    return folder, frame.select("time", line=pl.concat_str(fields, separator=","))


def late(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows from `FIRST_LATE_DAY` on."""
    return frame.filter(pl.col("time").dt.date() >= FIRST_LATE_DAY)


def kline_rows(
    instrument: Instrument, candles: pl.DataFrame, interval: Interval, partition: Partition
) -> Rows:
    """Return the candles of one interval, with the planted disagreement."""
    folder = Folder(
        Stream(instrument.market, DataType.KLINES, instrument.symbol, interval), partition
    )
    for planted in PLANTED:
        if planted.kind == "disagreement" and planted.key.startswith(folder.prefix):
            is_planted = pl.col("time") == planted.start.replace(tzinfo=None)
            candles = candles.with_columns(close=pl.when(is_planted).then("low").otherwise("close"))
    return rows_of(
        folder,
        candles,
        spell_epoch(instrument.market, pl.col("time")),
        *(instrument.spell_price(name) for name in PRICES),
        instrument.spell_amount("volume"),
        spell_epoch(instrument.market, pl.col("time").dt.offset_by(interval.value), less=1),
        instrument.spell_value("value"),
        pl.col("count").cast(pl.String),
        instrument.spell_amount("taker"),
        instrument.spell_value("taker_value"),
        pl.lit("0"),
    )


def main_klines(instrument: Instrument, candles: pl.DataFrame) -> Iterator[Rows]:
    """Yield the candles of all intervals of an instrument."""
    day = pl.col("time").dt.date()
    minutes = candles.filter(day >= FIRST_MINUTES.get(instrument, FIRST_LATE_DAY))
    yield kline_rows(instrument, minutes, Interval.M1, Partition.DAILY)
    for interval in (Interval.H1, Interval.D1, Interval.W1, Interval.MO1):
        longer = resampled(candles, interval)
        whole_months = longer.filter(day.is_between(date(2025, 5, 1), date(2025, 6, 30)))
        yield kline_rows(instrument, whole_months, interval, Partition.MONTHLY)
        if interval in (Interval.H1, Interval.D1):
            yield kline_rows(instrument, longer.filter(day >= FIRST_DAY), interval, Partition.DAILY)


def price_klines(instrument: Instrument, walk: pl.DataFrame) -> Iterator[Rows]:
    """Yield candles of index, mark price and premium: 3,600 samples an hour, no volume."""
    places, hour = instrument.asset.places, Interval.H1
    walk = resampled(late(walk), hour)
    # The premium opens at the last close: both are the noise of the hour.
    bounds = [
        noise(minute() // 60 + later, instrument.salt + 4) % 90_000 - 60_000 for later in (0, 1)
    ]
    wick = noise(minute(), instrument.salt + 5) % 5_000
    premium = walk.with_columns(open=bounds[0], close=bounds[1]).with_columns(
        high=pl.max_horizontal("open", "close") + wick,
        low=pl.min_horizontal("open", "close") - wick,
    )
    index = instrument.symbol.partition("_")[0]
    for data_type, symbol, frame, basis, count_places in (
        (DataType.INDEX_PRICE_KLINES, index, walk, 0, places),
        (DataType.MARK_PRICE_KLINES, instrument.symbol, walk, instrument.basis, places),
        (DataType.PREMIUM_INDEX_KLINES, instrument.symbol, premium, 0, 8),
    ):
        zero = pl.lit("0")
        yield rows_of(
            Folder(Stream(instrument.market, data_type, symbol, hour), Partition.DAILY),
            frame,
            spell_epoch(instrument.market, pl.col("time")),
            *(spell_fixed(pl.col(name) + basis, count_places, 8, signed=True) for name in PRICES),
            zero,
            spell_epoch(instrument.market, pl.col("time").dt.offset_by(hour.value), less=1),
            zero,
            pl.lit("3600"),
            zero,
            zero,
            zero,
        )


def _trades(instrument: Instrument, candles: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return trades and aggregated trades of every sixth minute: a part of the volume."""
    draw = pl.col("draw")
    # Futures trade ids have gaps, spot ids have none.
    spot = instrument.market is Market.SPOT
    skipped = pl.lit(0) if spot else (pl.int_range(pl.len()) % 5 == 0).cast(pl.Int64)
    aggregates = (
        late(candles)
        .gather_every(6)
        .with_columns(draw=noise(minute(), instrument.salt + 2))
        .select(
            pl.col("time") + pl.duration(milliseconds=draw % MINUTE_MS),
            agg_id=instrument.first_id // 2 + pl.int_range(pl.len()),
            price=pl.col("low") + draw // 65_536 % (pl.col("high") - pl.col("low") + 1),
            micros=draw // 64 % 1_000,
            is_buyer_maker=draw // 32 % 2 == 0,
            trades=1 + draw // 1_024 % 3,
        )
        .with_columns(stop=instrument.first_id + (pl.col("trades") + skipped).cum_sum())
        .with_columns(first=pl.col("stop") - pl.col("trades"), last=pl.col("stop") - 1)
    )
    trades = (
        aggregates.with_columns(id=pl.int_ranges("first", "stop"))
        .explode("id")
        .with_columns(amount=1 + noise(pl.col("id"), instrument.salt + 3) % (instrument.most // 20))
    )
    amounts = trades.group_by("agg_id", maintain_order=True).agg(pl.col("amount").sum())
    return trades, aggregates.join(amounts, on="agg_id", how="left", maintain_order="left")


def trade_rows(instrument: Instrument, candles: pl.DataFrame) -> Iterator[Rows]:
    """Yield the rows of trades and aggregated trades."""
    trades, aggregates = _trades(instrument, candles)
    spot = instrument.market is Market.SPOT
    true, false = ("True", "False") if spot else ("true", "false")
    maker = pl.when("is_buyer_maker").then(pl.lit(true)).otherwise(pl.lit(false))
    flags = [maker, pl.lit(true)] if spot else [maker]
    # COIN-M trades have amounts with one decimal, COIN-M candles without.
    amount = (
        spell_fixed("amount", 0, 1)
        if instrument.contract_size
        else instrument.spell_amount("amount")
    )
    time = spell_epoch(instrument.market, pl.col("time"), micros=pl.col("micros"))
    yield rows_of(
        instrument.folder(DataType.TRADES),
        trades,
        pl.col("id").cast(pl.String),
        instrument.spell_price("price"),
        amount,
        instrument.spell_value(instrument.value(pl.col("amount"), pl.col("price"))),
        time,
        *flags,
    )
    yield rows_of(
        instrument.folder(DataType.AGG_TRADES),
        aggregates,
        pl.col("agg_id").cast(pl.String),
        instrument.spell_price("price"),
        amount,
        pl.col("first").cast(pl.String),
        pl.col("last").cast(pl.String),
        time,
        *flags,
    )


def metrics_rows(instrument: Instrument, candles: pl.DataFrame) -> Rows:
    """Return open interest and ratios of 5-minute candles, or of every fifth 1-minute candle."""
    cm = instrument.market is Market.FUTURES_CM
    draws = [noise(minute(), instrument.salt + 6 + index) for index in range(4)]
    interest = 600 * instrument.most + draws[0] % instrument.most
    # Rounded to a hundredth, written with eight decimals.
    ratios = [spell_fixed(60 + draw % 200, 2, 8) for draw in draws]
    # Until June 2026 USD-M labels a period by its end. COIN-M labels it by its start, and leaves
    # the ratios of traders empty.
    label = pl.col("time") if cm else pl.col("time").dt.offset_by("5m")
    decimals = 8 if cm else 16
    return rows_of(
        instrument.folder(DataType.METRICS),
        candles.filter(minute() % 5 == 0),
        spell_time(label),
        pl.lit(instrument.symbol),
        spell_fixed(interest, instrument.amount_places, decimals),
        spell_fixed(instrument.value(interest, pl.col("close")), instrument.value_places, decimals),
        *([pl.lit("")] * 3 if cm else ratios[:3]),
        ratios[3],
    )


def book_depth_rows(instrument: Instrument, candles: pl.DataFrame) -> Rows:
    """Return the depth within ±1 % to ±5 %, two snapshots a minute."""
    bands = pl.DataFrame({"band": [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]})
    halves = pl.DataFrame({"after": ["4s", "34s"]})
    last_day = candles.filter(pl.col("time").dt.date() == LAST_DAY)
    snapshots = last_day.join(halves, how="cross", maintain_order="left_right")
    amount = (
        instrument.most * 20 * pl.col("band").abs()
        + noise(minute(), instrument.salt + 10) % instrument.most
    )
    # The average price of the orders in a band is halfway to its edge.
    price = pl.col("close") * (200 + pl.col("band")) // 200
    return rows_of(
        instrument.folder(DataType.BOOK_DEPTH),
        snapshots.join(bands, how="cross", maintain_order="left_right"),
        spell_time(pl.col("time").dt.offset_by(pl.col("after"))),
        pl.col("band").cast(pl.String),
        spell_fixed(amount, instrument.amount_places, 8),
        spell_fixed(instrument.value(amount, price), instrument.value_places, 8),
    )


def funding_rows(instrument: Instrument) -> Rows:
    """Return the rates of June and July 2025, a few milliseconds after every eighth hour."""
    times = pl.datetime_range(
        date(2025, 6, 1), date(2025, 8, 1), "8h", closed="left", time_unit="ms", eager=True
    )
    draw = noise(minute(), instrument.salt + 11)
    return rows_of(
        instrument.folder(DataType.FUNDING_RATE, Partition.MONTHLY),
        pl.DataFrame({"time": times}),
        (pl.col("time").dt.epoch("ms") + draw % 13).cast(pl.String),
        pl.lit("8"),
        spell_fixed(draw // 65_536 % 20_000 - 8_000, 8, 8, signed=True),
    )


def volatility_rows(asset: Asset, level: int) -> Rows:
    """Return about one value a second, for all days of Bitcoin and the last day of others."""
    base = f"{asset.name}BVOL"
    walk = random_walk(
        Asset(base, 4, level, 40),
        FIRST_LATE_DAY,
        LAST_DAY + DAY,
        1,
        level,
    )
    if asset is not BTC:
        walk = walk.filter(pl.col("time").dt.date() == LAST_DAY)
    seconds = pl.DataFrame({"second": range(60)})
    walk = walk.join(seconds, how="cross", maintain_order="left_right")
    offset = pl.col("second") * 1_000 + noise(minute(), level) % 3
    return rows_of(
        Folder(Stream(Market.OPTIONS, DataType.BVOL_INDEX, f"{base}USDT"), Partition.DAILY),
        walk,
        (pl.col("time").dt.epoch("ms") + offset).cast(pl.String),
        pl.lit(f"{base}USDT"),
        pl.lit(base),
        pl.lit("USDT"),
        spell_fixed("close", 4, 4),
    )
