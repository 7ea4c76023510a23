"""`bak.klines_with_derivatives`: candles of futures with what else was known at their close."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NamedTuple

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, read_interval, read_names
from binance_archive_kit.archive.schemas import read_feed
from binance_archive_kit.errors import ConfigurationError, FieldProblem, arguments
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.joins import KNOWN_STATUS, join_known, known_at
from binance_archive_kit.query.loaders import load_klines
from binance_archive_kit.query.open_store import OpenStore, Source, open_engine
from binance_archive_kit.query.polars_scan import Moment, parse_selection
from binance_archive_kit.reading import cadence
from binance_archive_kit.reading.known_times import KNOWN_AT
from binance_archive_kit.suggestions import check_word, unknown

_FUTURES = (Market.FUTURES_UM, Market.FUTURES_CM)


class _Join(NamedTuple):
    """The columns to join of a feed.

    Attributes
    ----------
    name : str
        Before ``known_at`` and ``known_status``.
    columns : dict of str to str
        Their names in the feed and in the result.
    """

    name: str
    columns: dict[str, str]


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_JOINS = {
    DataType.MARK_PRICE_KLINES: _Join("mark", {"close": "mark_close"}),
    DataType.INDEX_PRICE_KLINES: _Join("index", {"close": "index_close"}),
    DataType.PREMIUM_INDEX_KLINES: _Join("premium", {"close": "premium_close"}),
    DataType.METRICS: _Join("metrics", _same("sum_open_interest", "sum_open_interest_value")),
    DataType.FUNDING_RATE: _Join("funding", _same("last_funding_rate", "funding_interval_hours")),
}
_SHORTEST_MONTH = timedelta(days=28)
#: Name of a temporary column.
_AT = "__decision"


@arguments(symbols="symbol", intervals="interval", store="source")
def klines_with_derivatives(
    source: Source,
    symbol: str | Iterable[str],
    interval: str,
    *,
    market: str = "futures_um",
    data_types: str | Iterable[str] = tuple(_JOINS),
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Load candles of futures, each with what else was known when it closed.

    All values of a row are known at its ``known_at``, the close of the candle, so a decision
    may use the whole row from then on. (`klines_with_funding` joins what was known at the open.)

    Parameters
    ----------
    source : str, Path or OpenStore
    symbol : str or iterable of str
        One futures contract, or a collection. For several, a column with the symbol is added.
    interval : str
        Of the candles, and of those of the mark price, the index price and the premium index.
    market : str
        ``"futures_um"`` or ``"futures_cm"``.
    data_types : str or iterable of str
        The feeds to join, by default all five: ``markPriceKlines``, ``indexPriceKlines``,
        ``premiumIndexKlines``, ``metrics``, ``fundingRate``. The store must have each of them of
        each symbol; leave out those that it does not have.
    start, end : str, date or datetime, optional
        Limits of ``open_time`` of the candles, UTC; as for `scan`.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        As `load_klines`, with ``known_at`` and the columns of each feed:

        - ``mark_close``, ``index_close``: last mark price and last index price of the candle
          that closed with this one, in the quote asset; null if it is missing
        - ``premium_close``: last premium index of the candle that closed with this one, as a
          fraction of the index price; null if it is missing
        - ``sum_open_interest``, ``sum_open_interest_value``: the latest measured open interest,
          in the base and the quote asset; on COIN-M in contracts and the base asset. Measured
          every five minutes
        - ``last_funding_rate``, ``funding_interval_hours``: the latest charged funding, as a
          fraction of the position for that many hours; known some milliseconds after the hour,
          so not yet at a close of that hour

        ``mark_known_at``, ``index_known_at``, ``premium_known_at``, ``metrics_known_at`` and
        ``funding_known_at`` are the times at which the values were known, and ``mark_known_status``
        … ``funding_known_status`` say why values are null, as for `join_known`. A candle that
        closed an interval ago or more is ``too_old``; the latest open interest and funding count
        as long as with its ``tolerance="due"``: until the next one was due, and a minute more.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, or the store has no such candles or lacks a feed of a symbol.
    FileError
        As for `load_klines` and `join_known`.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> frame = bak.klines_with_derivatives(
    ...     "data/research", "BTCUSDT", "1h", data_types=["metrics", "fundingRate"]
    ... )  # doctest: +SKIP
    """
    engine = open_engine(source, options)
    owner = engine.feed(market, DataType.KLINES).market
    check_word("market", owner, _FUTURES)
    length = read_interval(interval)
    names = read_names("symbol", symbol)
    wanted = [_joinable(owner, each) for each in read_names("data_types", data_types)]
    symbols = {each: _symbols_of(engine, owner, each, names) for each in wanted}
    _check_stored(engine, owner, length, symbols)
    opened = OpenStore(engine)
    candles = load_klines(opened, names, length, market=owner, start=start, end=end)
    candles = known_at(candles, owner, DataType.KLINES)
    decisions = candles.select("symbol", pl.col(KNOWN_AT).alias(_AT))
    joined = [
        join_known(
            decisions,
            opened,
            owner,
            data_type,
            on=_AT,
            symbol=symbols[data_type],
            interval=length if data_type.has_intervals else None,
            columns=list(_JOINS[data_type].columns),
            tolerance=_age_of_candles(length) if data_type.has_intervals else "due",
        ).select(
            *(pl.col(name).alias(ours) for name, ours in _JOINS[data_type].columns.items()),
            *(
                pl.col(name).alias(f"{_JOINS[data_type].name}_{name}")
                for name in (KNOWN_AT, KNOWN_STATUS)
            ),
        )
        for data_type in wanted
    ]
    frame = pl.concat([candles, *joined], how="horizontal")
    return frame.drop("symbol") if isinstance(symbol, str) else frame


def _age_of_candles(interval: Interval) -> timedelta:
    """Return the largest age of a candle: less than the time between two of them."""
    step = cadence.length(interval)
    shortest = _SHORTEST_MONTH if step == cadence.MONTH else timedelta(microseconds=step)
    return shortest - timedelta(microseconds=1)


def _joinable(market: Market, data_type: str) -> DataType:
    """Parse the name of a feed that can be joined."""
    found = read_feed(market, data_type)[1]
    if found not in _JOINS:
        raise ConfigurationError(unknown("data_types", data_type, _JOINS))
    return found


def _symbols_of(
    engine: Engine, market: Market, data_type: DataType, symbols: list[str]
) -> dict[str, str]:
    """Map contracts to their symbols in a feed: index prices of COIN-M are stored by pair."""
    pairs = {symbol: symbol for symbol in symbols}
    if (market, data_type) == (Market.FUTURES_CM, DataType.INDEX_PRICE_KLINES):
        stored = {folder.symbol for folder in engine.names(engine.feed(market, data_type))}
        for symbol in symbols:
            pair = symbol.partition("_")[0]
            if pair in stored or symbol not in stored:
                pairs[symbol] = pair
    return pairs


def _check_stored(
    engine: Engine, market: Market, interval: Interval, symbols: dict[DataType, dict[str, str]]
) -> None:
    """Raise one ConfigurationError for all feeds that the store lacks."""
    problems: list[FieldProblem] = []
    stored: list[str] = []
    for data_type, names in symbols.items():
        before = len(problems)
        feed = engine.feed(market, data_type)
        for name in dict.fromkeys(names.values()):
            try:
                parse_selection(engine, feed, name, interval if data_type.has_intervals else None)
            except ConfigurationError as error:
                problems += error.problems
        if len(problems) == before:
            stored.append(data_type.value)
    if problems:
        advice = "the store has none of them; collect them first"
        if stored:
            advice = f"join what the store has, data_types={stored}, or collect the others first"
        raise ConfigurationError(*problems, FieldProblem("data_types", advice))
