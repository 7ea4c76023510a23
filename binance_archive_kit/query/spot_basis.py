"""`bak.basis`: the difference between the prices of a futures contract and of its base on spot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, read_interval, read_names
from binance_archive_kit.archive.symbols import asset_of, multiplier_of, split_symbol
from binance_archive_kit.errors import (
    ConfigurationError,
    arguments,
    check_flag,
    field_error,
    shown,
)
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.loaders import load_klines
from binance_archive_kit.query.open_store import OpenStore, Source, open_engine
from binance_archive_kit.query.polars_scan import Moment
from binance_archive_kit.reading.known_times import KNOWN_AT, known_at_of
from binance_archive_kit.suggestions import check_word

_FUTURES = (Market.FUTURES_UM, Market.FUTURES_CM)
#: The time of day (UTC) at which contracts are delivered.
_DELIVERY = time(8)
_YEAR = timedelta(days=365)
#: Names of temporary columns.
_SPOT_KNOWN, _YEARS = "__spot_known", "__years"
#: Delivery of contracts without one.
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


@arguments(symbols="symbol", intervals="interval", store="source")
def basis(
    source: Source,
    symbol: str | Iterable[str],
    interval: str,
    *,
    market: str = "futures_um",
    spot_symbol: str | Mapping[str, str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    annualize: bool = False,
    **options: Any,
) -> pl.DataFrame:
    """Compute the basis of futures: the price of a contract less that of its base on spot.

    Parameters
    ----------
    source : str, Path or OpenStore
    symbol : str or iterable of str
        One futures contract, or a collection; perpetual or with a delivery. For several, a
        column with the symbol is added.
    interval : str
        Of the candles on both sides.
    market : str
        ``"futures_um"`` or ``"futures_cm"``.
    spot_symbol : str or mapping of str to str, optional
        The spot symbol for all contracts, or for each. By default the one of the same base and
        quote asset: ``SHIBUSDT`` for ``1000SHIBUSDT``. Required for COIN-M: its prices are in
        USD, and no spot price is. ``"BTCUSDT"`` makes the price of USDT in USD a part of the
        basis.
    start, end : str, date or datetime, optional
        Limits of ``open_time``, UTC; as for `scan`.
    annualize : bool
        Add ``annualized_basis``; only for contracts with a delivery day in their symbol.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        A row for each time at which the contract or the spot symbol has a candle, from the first
        candle of the contract to its delivery, sorted by symbol and time:

        - ``open_time``, ``Datetime("us", "UTC")``; ``known_at``: when all values of the row were
          known, which is when the later candle closes; where one is missing, not before it would
          have closed
        - ``spot_symbol``; ``spot_close`` and ``futures_close``: the last prices of the two
          candles, as published; null where there is no candle
        - ``multiplier``: units of the spot symbol's base in one of the contract's (1,000 for
          ``1000SHIBUSDT`` and ``SHIBUSDT``)
        - ``basis``: ``futures_close - multiplier * spot_close``, in the quote asset
        - ``relative_basis``: ``basis / (multiplier * spot_close)``
        - ``annualized_basis``: ``relative_basis`` times 365 days / time from ``known_at`` to the
            delivery (08:00 UTC); null at the delivery

        A basis is null where either candle is missing, where the two close at different times
        because a halt cut one short, and where they close after the delivery. Nothing is filled;
        but a candle without trades, as the archive publishes it, repeats the price before.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, the store has no such candles, or the base asset of a symbol
        is unknown or another one than that of its spot symbol.
    FileError
        As for `load_klines`.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> carry = bak.basis("data/research", "BTCUSDT", "1h")  # doctest: +SKIP
    """
    check_flag("annualize", annualize)
    engine = open_engine(source, options)
    feed = engine.feed(market, DataType.KLINES)
    check_word("market", feed.market, _FUTURES)
    length = read_interval(interval)
    names = sorted(read_names("symbol", symbol))
    pairs = [_pair_of(engine, feed.market, name, spot_symbol) for name in names]
    if annualize and (endless := [pair.symbol for pair in pairs if pair.delivery is None]):
        raise field_error("annualize", f"{endless[0]} has no delivery day in its symbol")
    opened = OpenStore(engine)
    futures = load_klines(opened, names, length, market=market, start=start, end=end)
    with arguments(symbol="spot_symbol"):
        others = sorted({pair.spot_symbol for pair in pairs})
        spot = load_klines(opened, others, length, start=start, end=end)
    found = _joined(
        futures.select("symbol", "open_time", known_at_of(feed), futures_close="close"),
        spot.select(
            "symbol", "open_time", known_at_of(feed).alias(_SPOT_KNOWN), spot_close="close"
        ),
        pl.DataFrame(pairs, schema=_PAIRS, orient="row"),
    )
    found = _with_basis(found, length)
    return found.select(
        *([] if isinstance(symbol, str) else ["symbol"]),
        *("open_time", KNOWN_AT, "spot_symbol", "spot_close", "futures_close", "multiplier"),
        *("basis", "relative_basis", *(["annualized_basis"] if annualize else [])),
    )


class _Pair(NamedTuple):
    """A futures contract and its spot symbol."""

    symbol: str
    spot_symbol: str
    multiplier: float
    delivery: datetime | None


_PAIRS = {
    "symbol": pl.String(),
    "spot_symbol": pl.String(),
    "multiplier": pl.Float64(),
    "delivery": pl.Datetime("us", "UTC"),
}


def _pair_of(
    engine: Engine, market: Market, symbol: str, chosen: str | Mapping[str, str] | None
) -> _Pair:
    """Find the spot symbol of a contract, and check that both price the same asset."""
    spot_symbol = _chosen(symbol, chosen)
    parts = split_symbol(market, symbol)
    if spot_symbol is None:
        if market is Market.FUTURES_CM:
            example = f"{parts.base or 'BTC'}USDT"
            raise field_error(
                "spot_symbol",
                f"{symbol} is priced in USD, and no spot symbol is; choose one, such as {example}",
            )
        if parts.base is None:
            raise _unknown_base("symbol", symbol)
        stored = {folder.symbol for folder in engine.names(engine.feed("spot", "klines"))}
        same, plain = (f"{base}{parts.quote}" for base in (parts.base, asset_of(market, symbol)))
        spot_symbol = same if same in stored else plain
    assets = asset_of(market, symbol), asset_of(Market.SPOT, spot_symbol)
    multipliers = multiplier_of(market, symbol), multiplier_of(Market.SPOT, spot_symbol)
    if multipliers[0] is None or multipliers[1] is None:
        field, name = ("symbol", symbol) if multipliers[0] is None else ("spot_symbol", spot_symbol)
        raise _unknown_base(field, name)
    if assets[0] != assets[1]:
        raise field_error(
            "spot_symbol",
            f"{spot_symbol} is a price of {assets[1]}, and {symbol} one of {assets[0]}",
        )
    delivery = None
    if parts.delivery is not None:
        delivery = datetime.combine(parts.delivery, _DELIVERY, UTC)
    return _Pair(symbol, spot_symbol, multipliers[0] / multipliers[1], delivery)


def _chosen(symbol: str, chosen: str | Mapping[str, str] | None) -> str | None:
    """Return the spot symbol that the caller chose for a contract, if any."""
    if isinstance(chosen, Mapping):
        if symbol not in chosen:
            raise field_error("spot_symbol", f"the mapping has no {symbol!r}")
        chosen = chosen[symbol]
        if not isinstance(chosen, str):
            raise field_error("spot_symbol", f"{shown(chosen)} is not a name; names are text")
    if chosen is not None and not isinstance(chosen, str):
        raise field_error(
            "spot_symbol",
            f"{shown(chosen)} is neither a name nor a mapping from contracts to spot symbols",
        )
    return chosen


def _unknown_base(field: str, symbol: str) -> ConfigurationError:
    return field_error(
        field, f"the base asset of {shown(symbol)} is not known, so its prices cannot be compared"
    )


def _joined(futures: pl.DataFrame, spot: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Join the candles of each pair by time, from the first of the contract to its delivery."""
    text = pl.col("symbol").cast(pl.String)
    spot = pairs.select("symbol", "spot_symbol").join(
        spot.with_columns(text.alias("spot_symbol")).drop("symbol"), on="spot_symbol"
    )
    joined = (
        futures.with_columns(text)
        .join(spot.drop("spot_symbol"), on=["symbol", "open_time"], how="full", coalesce=True)
        .join(pairs, on="symbol", how="left")
        .sort("symbol", "open_time")
    )
    first = pl.col("open_time").filter(pl.col("futures_close").is_not_null()).min().over("symbol")
    ends = pl.col("delivery").fill_null(_NEVER)
    return joined.filter(pl.col("open_time") >= first, pl.col("open_time") < ends)


def _with_basis(joined: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """Compute the basis where both candles close at the same time, and before the delivery."""
    known = pl.col(KNOWN_AT)
    # That there is no candle is known only when it would have closed.
    misses_one = pl.any_horizontal(pl.col("spot_close", "futures_close").is_null())
    due = pl.when(misses_one).then(pl.col("open_time").dt.offset_by(interval))
    at_once = (known == pl.col(_SPOT_KNOWN)) & (known <= pl.col("delivery").fill_null(_NEVER))
    spot = pl.col("multiplier") * pl.col("spot_close").cast(pl.Float64)
    difference = pl.col("futures_close").cast(pl.Float64) - spot
    left = (pl.col("delivery") - known).dt.total_microseconds()
    years = pl.when(left > 0).then(left) / (_YEAR / timedelta(microseconds=1))
    found = joined.with_columns(
        pl.when(at_once).then(difference).alias("basis"), years.alias(_YEARS)
    )
    relative = pl.col("basis") / spot
    return found.with_columns(
        relative.alias("relative_basis"),
        (relative / pl.col(_YEARS)).alias("annualized_basis"),
        pl.max_horizontal(known, _SPOT_KNOWN, due).alias(KNOWN_AT),
    )
