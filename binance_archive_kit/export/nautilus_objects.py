"""Instruments, bars and trade ticks of nautilus_trader, made from symbols and exact rows.

nautilus_trader is imported when an object is made, and not by this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

import binance_archive_kit
from binance_archive_kit.archive.enums import Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.symbols import Contract, SymbolParts
from binance_archive_kit.errors import CoverageError, field_error
from binance_archive_kit.export.exact_rows import Observed, raw_of
from binance_archive_kit.timestamps import format_time

VENUE = "BINANCE"
#: What an instrument of an export has as its source.
SOURCE = "Binance public archive, by binance_archive_kit"
#: The folders of streams in a catalogue.
_BARS, _TICKS = "bar", "trade_tick"
STREAM_FOLDERS = (_BARS, _TICKS)
_UNITS = {"s": "SECOND", "m": "MINUTE", "h": "HOUR", "d": "DAY", "w": "WEEK", "mo": "MONTH"}
#: When Binance settles contracts with a delivery day, UTC.
_DELIVERY = time(8)
_VALUES = ("open", "high", "low", "close", "volume")
_PERPETUALS = (Contract.PERPETUAL, Contract.SETTLED)
#: Makes a list of bars or ticks from a frame of `ExactRows`.
Maker = Callable[[pl.DataFrame], list[Any]]


@dataclass(frozen=True)
class Definition:
    """What is known of an instrument: by its symbol, and by the values of its rows.

    Attributes
    ----------
    market : Market
        Not options.
    symbol : str
    parts : SymbolParts
    """

    market: Market
    symbol: str
    parts: SymbolParts

    @property
    def id(self) -> str:
        """The name that nautilus_trader's own adapter of Binance gives it.

        >>> Definition(Market.FUTURES_UM, "BTCUSDT", SymbolParts()).id
        'BTCUSDT-PERP.BINANCE'
        >>> Definition(Market.FUTURES_CM, "BTCUSD_PERP", SymbolParts()).id
        'BTCUSD-PERP.BINANCE'
        >>> Definition(Market.FUTURES_CM, "BTCUSD_250926", SymbolParts()).id
        'BTCUSD_250926.BINANCE'
        """
        name = self.symbol
        if self.market is not Market.SPOT and not name[-1].isdigit():
            name = f"{name.removesuffix('_PERP')}-PERP"
        return f"{name}.{VENUE}"

    @property
    def problem(self) -> str:
        """Why nautilus_trader has no instrument for it; empty if it has."""
        parts = self.parts
        if parts.base is None or parts.quote is None:
            return "its base and quote asset are not known"
        if self.market is not Market.SPOT and parts.contract not in (
            *_PERPETUALS,
            Contract.DELIVERY,
        ):
            return "it is neither a perpetual nor a contract with a delivery day"
        return ""

    def bar_type(self, interval: Interval) -> str:
        """Return the type of its bars, as text.

        >>> Definition(Market.SPOT, "BTCUSDT", SymbolParts()).bar_type(Interval.H4)
        'BTCUSDT.BINANCE-4-HOUR-LAST-EXTERNAL'
        """
        digits = str(interval).rstrip("smhdwo")
        return f"{self.id}-{digits}-{_UNITS[str(interval)[len(digits) :]]}-LAST-EXTERNAL"

    def folder(self, stream: Stream) -> str:
        """Return the path of a stream inside a catalogue."""
        if stream.interval is None:
            return f"data/{_TICKS}/{self.id}"
        return f"data/{_BARS}/{self.bar_type(stream.interval)}"

    def instrument(self, observed: Observed) -> Any:
        """Make the instrument, with the precisions that its values show.

        Raises
        ------
        ConfigurationError
            If a contract of COIN-M does not show how many dollars it is worth.
        """
        from nautilus_trader.model.identifiers import InstrumentId, Symbol
        from nautilus_trader.model.instruments import CryptoFuture, CryptoPerpetual, CurrencyPair
        from nautilus_trader.model.objects import Currency, Price, Quantity

        parts, inverse = self.parts, self.market is Market.FUTURES_CM
        base, quote = Currency.from_str(parts.base), Currency.from_str(parts.quote)
        common = {
            "instrument_id": InstrumentId.from_str(self.id),
            "raw_symbol": Symbol(self.symbol),
            "quote_currency": quote,
            "price_precision": observed.price_places,
            "size_precision": observed.size_places,
            "price_increment": Price.from_str(_step(observed.price_places)),
            "size_increment": Quantity.from_str(_step(observed.size_places)),
            "ts_event": 0,
            "ts_init": 0,
            "info": self.info(observed),
        }
        if self.market is Market.SPOT:
            return CurrencyPair(base_currency=base, **common)
        common["is_inverse"] = inverse
        common["settlement_currency"] = base if inverse else quote
        if inverse:
            common["multiplier"] = Quantity.from_int(self._contract_size(observed))
        if parts.delivery is None or observed.first is None:
            return CryptoPerpetual(base_currency=base, **common)
        delivery = datetime.combine(parts.delivery, _DELIVERY, UTC)
        return CryptoFuture(
            underlying=base,
            activation_ns=_nanos(observed.first),
            expiration_ns=_nanos(delivery),
            **common,
        )

    def info(self, observed: Observed) -> dict[str, Any]:
        """Return where the fields of the instrument come from, as JSON has it."""
        found = {
            "source": SOURCE,
            "version": binance_archive_kit.__version__,
            "market": str(self.market),
            "symbol": self.symbol,
            "price_precision": f"observed: {observed.price_places} decimal places are the most of "
            "any exported price",
            "size_precision": f"observed: {observed.size_places} decimal places are the most of "
            "any exported volume or size",
            "price_increment, size_increment": "10 to the power of minus the precision; the tick "
            "and step sizes of the past are not published",
            "fees, margins, limits": "not published; those of nautilus_trader if none are given",
        }
        if self.market is Market.FUTURES_CM:
            size = self._contract_size(observed)
            found["multiplier"] = f"observed: a contract is {size} USD"
        if self.parts.contract is Contract.DELIVERY:
            found["activation_ns"] = "observed: time of the first exported row"
            found["expiration_ns"] = "08:00 UTC of the delivery day in the symbol"
        return found

    def _contract_size(self, observed: Observed) -> int:
        size = observed.contract_size
        if size is None:
            raise field_error(
                "trades",
                f"the exported rows of {self.symbol} do not show how many dollars a contract is; "
                'export bars or trades="trades" with them, which have the amount in the base asset',
            )
        return size


def check_limits(symbol: str, observed: Observed) -> None:
    """Raise an error for values that nautilus_trader cannot hold.

    Raises
    ------
    ConfigurationError
        If a price, a volume or a number of decimal places is too large.
    CoverageError
        If a trade has no size.
    """
    from nautilus_trader.model.objects import FIXED_PRECISION, PRICE_MAX, QUANTITY_MAX

    advice = "choose a shorter interval or other days, or use to_parquet"
    for what, largest, most in (
        ("price", observed.largest_price, PRICE_MAX),
        ("volume", observed.largest_size, QUANTITY_MAX),
    ):
        if largest is not None and largest[0] > most:
            value, at, stream = largest
            raise field_error(
                "symbols",
                f"the {what} {value:,.0f} of {stream} at {format_time(at)} UTC is larger than "
                f"{most:,.0f}, the largest that nautilus_trader holds; {advice}",
                label=symbol,
            )
    places = max(observed.price_places, observed.size_places)
    if places > FIXED_PRECISION:
        raise field_error(
            "symbols",
            f"values have {places} decimal places, and nautilus_trader holds {FIXED_PRECISION}; "
            "use to_parquet",
            label=symbol,
        )
    if observed.smallest_size is not None and observed.smallest_size <= 0:
        raise CoverageError(f"{symbol}: a trade has the size 0; choose other days")


def maker_of(definition: Definition, stream: Stream, instrument: Any) -> Maker:
    """Return a function that makes bars or ticks from frames of `ExactRows`."""
    if stream.interval is None:
        return lambda frame: _ticks(frame, instrument)
    bar_type, interval = definition.bar_type(stream.interval), stream.interval
    return lambda frame: _bars(frame, bar_type, interval, instrument)


def _bars(frame: pl.DataFrame, bar_type: str, interval: Interval, instrument: Any) -> list[Any]:
    """Make bars, stamped at their close: they are not known earlier."""
    from nautilus_trader.model.data import Bar, BarType
    from nautilus_trader.model.objects import FIXED_PRECISION

    kind = BarType.from_str(bar_type)
    places, sizes = instrument.price_precision, instrument.size_precision
    closes = frame["open_time"].dt.offset_by(str(interval)).dt.epoch("ns").to_list()
    values = [raw_of(frame[name], FIXED_PRECISION) for name in _VALUES]
    return [
        Bar.from_raw(kind, *prices, places, volume, sizes, close, close)
        for close, *prices, volume in zip(closes, *values, strict=True)
    ]


def _ticks(frame: pl.DataFrame, instrument: Any) -> list[Any]:
    """Make trade ticks."""
    from nautilus_trader.model.data import TradeTick
    from nautilus_trader.model.enums import AggressorSide
    from nautilus_trader.model.identifiers import TradeId
    from nautilus_trader.model.objects import FIXED_PRECISION

    # If the buyer's order was in the book, the seller was the aggressor.
    sides = {True: AggressorSide.SELLER, False: AggressorSide.BUYER}
    name, places, sizes = instrument.id, instrument.price_precision, instrument.size_precision
    columns = (
        raw_of(frame["price"], FIXED_PRECISION),
        raw_of(frame["size"], FIXED_PRECISION),
        frame["is_buyer_maker"].to_list(),
        frame["id"].to_list(),
        frame["time"].dt.epoch("ns").to_list(),
    )
    return [
        TradeTick.from_raw(
            name, price, places, size, sizes, sides[maker], TradeId(str(number)), at, at
        )
        for price, size, maker, number, at in zip(*columns, strict=True)
    ]


def _step(places: int) -> str:
    """Return the smallest step with some decimal places.

    >>> _step(2), _step(0)
    ('0.01', '1')
    """
    return f"{Decimal(1).scaleb(-places):f}"


def _nanos(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000
