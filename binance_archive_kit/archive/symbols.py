"""Symbols: base and quote asset, kind of contract, and assets that changed their symbol.

They are read from ``matrix/symbols.json``. Symbols are data from the listing: whatever does not
have a known form is split into nulls, never into a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import cache, cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from binance_archive_kit.archive.enums import Market, Partition
from binance_archive_kit.archive.keys import Span, delivery_of, period_end
from binance_archive_kit.archive.matrix import Confidence, FrozenModel, StrictModel, shipped


class Contract(StrEnum):
    """What a symbol stands for.

    ``settled`` is the rest of a contract that was settled before its symbol was used again.
    ``pair``, ``underlying`` and ``volatility_index`` are not traded: the pair of COIN-M index
    prices, the underlying of option summaries, and Binance's volatility indexes.
    """

    SPOT = "spot"
    PERPETUAL = "perpetual"
    DELIVERY = "delivery"
    SETTLED = "settled"
    PAIR = "pair"
    OPTION = "option"
    UNDERLYING = "underlying"
    VOLATILITY_INDEX = "volatility_index"


@dataclass(frozen=True, slots=True)
class SymbolParts:
    """The parts of a symbol; None where they are unknown or ambiguous.

    Attributes
    ----------
    base, quote : str or None
        The asset that is priced, with its multiplier (``1000BONK``), and the asset of the price.
    contract : Contract or None
    delivery : date or None
        Day of delivery or expiry, UTC.
    """

    base: str | None = None
    quote: str | None = None
    contract: Contract | None = None
    delivery: date | None = None


def _span(text: str) -> Span:
    """Return the first and the last day that a day, a month or a year can mean.

    >>> [str(day) for day in _span("2024-02")], [str(day) for day in _span("2024")]
    (['2024-02-01', '2024-02-29'], ['2024-01-01', '2024-12-31'])
    """
    start = date.fromisoformat(f"{text}-01-01"[:10])
    if len(text) == len("2024"):
        return start, start.replace(month=12, day=31)
    partition = Partition.MONTHLY if len(text) == len("2024-02") else Partition.DAILY
    return start, period_end(start, partition)


def _as_partial_day(text: str) -> str:
    _span(text)
    return text


def _shifted(span: Span, days: int) -> Span:
    return span[0] + timedelta(days=days), span[1] + timedelta(days=days)


PartialDay = Annotated[str, AfterValidator(_as_partial_day)]


class SymbolEvent(StrictModel):
    """A day on which an asset changed its symbol, or a symbol its meaning.

    Attributes
    ----------
    kind : {"renamed", "reused", "redenominated", "relisted"}
        ``renamed``: later data of the asset are filed under `successor`. ``reused``: the symbol
        stands for another asset. ``redenominated``: for the same asset in other units.
        ``relisted``: a contract was settled, and another one listed under its symbol. In the
        last three cases the files of one symbol hold both, and no price may be compared across.
    markets : tuple of Market
    asset : str
        The asset that changed, without multiplier.
    successor : str or None
        The new asset of a ``renamed`` one.
    last, first : str or None
        Last UTC day of the old and first of the new; a month or a year if only that is known.
    what : str
        The change, in words.
    confidence, source
        How well it is known, and from where.
    """

    kind: Literal["renamed", "reused", "redenominated", "relisted"]
    markets: tuple[Market, ...] = Field(min_length=1)
    asset: str = Field(min_length=1)
    successor: str | None
    last: PartialDay | None
    first: PartialDay | None
    what: str = Field(min_length=1)
    confidence: Confidence
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if (self.kind == "renamed") != (self.successor is not None):
            raise ValueError("a renamed asset has a successor, and no other has one")
        if self.last and self.first and _span(self.first)[1] < _span(self.last)[0]:
            raise ValueError("the first day of the new comes after the last of the old")
        return self

    def concerns(self, market: Market, symbol: str) -> bool:
        """Return whether a symbol is a pair of the asset, or of its successor.

        >>> [btt] = [event for event in load_symbols().events if event.asset == "BTT"]
        >>> [btt.concerns(Market.SPOT, name) for name in ("BTTUSDT", "BTTCUSDT", "TUSDUSDT")]
        [True, True, False]
        """
        return market in self.markets and asset_of(market, symbol) in (self.asset, self.successor)

    def crosses(self, market: Market, symbol: str, start: date, end: date) -> bool:
        """Return whether data of a symbol from `start` to `end` lie on both sides of the change.

        Both ends are inclusive, UTC. For a renamed asset the other side is filed under the other
        symbol: days after the change for the old symbol, days before it for the new one. Where
        the days are unknown, the answer is that they may. The data of a settled contract, such
        as BNXUSDTSETTLED, are of one side only.

        >>> [btt] = [event for event in load_symbols().events if event.asset == "BTT"]
        >>> btt.crosses(Market.SPOT, "BTTUSDT", date(2021, 1, 1), date(2021, 12, 31))
        False
        >>> btt.crosses(Market.SPOT, "BTTCUSDT", date(2022, 1, 1), date(2022, 12, 31))
        True
        """
        if not self.concerns(market, symbol) or _SETTLED.search(symbol):
            return False
        last, first = self.last and _span(self.last), self.first and _span(self.first)
        old_ends = last or (first and _shifted(first, -1))
        new_begins = self.new_begins
        if not old_ends or not new_begins:
            return True
        has_old = start < new_begins[1]
        if self.kind != "renamed":
            return has_old and end >= new_begins[0]
        # The files of the old symbol end with its last day.
        return has_old if asset_of(market, symbol) == self.successor else end > old_ends[0]

    @property
    def new_begins(self) -> Span | None:
        """First and last day on which the data of the new may begin; None if unknown.

        >>> [luna] = [each for each in events_of(Market.SPOT, "LUNAUSDT") if each.kind == "reused"]
        >>> [str(day) for day in luna.new_begins]
        ['2022-05-31', '2022-05-31']
        """
        if self.first:
            return _span(self.first)
        return _shifted(_span(self.last), 1) if self.last else None

    @property
    def when(self) -> str:
        """The days of the change, in words.

        >>> [btt] = [event for event in load_symbols().events if event.asset == "BTT"]
        >>> btt.when
        'from 2022-01-25'
        """
        if self.last and self.first:
            return f"old until {self.last}, new from {self.first}"
        if self.last or self.first:
            return f"until {self.last}" if self.last else f"from {self.first}"
        return "day unknown"

    def __str__(self) -> str:
        """Return the change with its days and its source."""
        change = {
            "renamed": f"{self.asset} was renamed to {self.successor}",
            "reused": f"{self.asset} was used again for another asset",
            "redenominated": f"{self.asset} was redenominated",
            "relisted": f"{self.asset} was settled and listed again",
        }[self.kind]
        return f"{change} ({self.when}): {self.what} [{self.source}]"


class _Symbols(FrozenModel):
    """The content of ``matrix/symbols.json``."""

    quotes: Mapping[Market, tuple[str, ...]]
    pairs: Mapping[str, str]
    multipliers: tuple[str, ...]
    assets: frozenset[str]
    events: tuple[SymbolEvent, ...]

    @cached_property
    def by_asset(self) -> dict[tuple[Market, str], list[SymbolEvent]]:
        """The events of each asset, old or new, in a market."""
        found: dict[tuple[Market, str], list[SymbolEvent]] = {}
        for event in self.events:
            for market in event.markets:
                for asset in filter(None, (event.asset, event.successor)):
                    found.setdefault((market, asset), []).append(event)
        return found

    @cached_property
    def multiplier(self) -> re.Pattern[str]:
        """Multipliers at the start of a base, such as ``1000`` in ``1000BONK``."""
        words = sorted(map(re.escape, self.multipliers), key=len, reverse=True)
        return re.compile(rf"^({'|'.join(words)})(?=\D)")


@cache
def load_symbols() -> _Symbols:
    """Return the shipped facts about symbols; the file is read once."""
    return _Symbols.model_validate_json(shipped("symbols.json").read_bytes())


_SETTLED = re.compile(r"(_?SETTLED)+$")
_COIN_MARGINED = re.compile(r"(?P<base>.+)USD(?:_(?P<term>PERP|\d{6}))?", re.ASCII)
_OPTION = re.compile(r"(?P<base>[^-]+)-(?P<expiry>\d{6})-[\d.]+-[CP]", re.ASCII)
_VOLATILITY = re.compile(r"(?P<base>.+BVOL)(?P<quote>USDT)")


def split_symbol(market: Market, symbol: str, assets: Set[str] = frozenset()) -> SymbolParts:
    """Split a symbol into base and quote asset, and tell its kind of contract.

    The longest quote asset that fits is taken, unless another division leaves a known asset
    (``BNBUSD`` is BNB/USD, not BN/BUSD). If that does not decide, base and quote are None.

    Parameters
    ----------
    market : Market
    symbol : str
        As spelled in the archive.
    assets : set of str, optional
        Further known base assets, see `split_symbols`.

    Examples
    --------
    >>> split_symbol(Market.SPOT, "BTCTUSD").base, split_symbol(Market.SPOT, "BTCTUSD").quote
    ('BTC', 'TUSD')
    >>> parts = split_symbol(Market.FUTURES_UM, "BTCUSDT_250926")
    >>> parts.base, parts.contract.value, str(parts.delivery)
    ('BTC', 'delivery', '2025-09-26')
    """
    match market:
        case Market.FUTURES_CM:
            return _split_coin_margined(symbol)
        case Market.OPTIONS:
            return _split_option(symbol, assets)
        case Market.FUTURES_UM:
            return _split_usd_margined(symbol, assets)
        case Market.SPOT:
            return SymbolParts(*_split_pair(market, symbol, assets), Contract.SPOT)


def split_symbols(market: Market, symbols: Iterable[str]) -> dict[str, SymbolParts]:
    """Split all symbols of a listing; assets of plain symbols help to divide ambiguous ones."""
    names = list(symbols)
    quotes = [quote for quote in _quotes(market) if not _contains_another(market, quote)]
    plain = {name.removesuffix(quote) for name in names for quote in quotes if name.endswith(quote)}
    return {name: split_symbol(market, name, plain - {""}) for name in names}


def asset_of(market: Market, symbol: str) -> str | None:
    """Return the base asset of a symbol without its multiplier; None if unknown.

    >>> asset_of(Market.FUTURES_UM, "1000BONKUSDT"), asset_of(Market.FUTURES_UM, "1INCHUSDT")
    ('BONK', '1INCH')
    """
    base = split_symbol(market, symbol).base
    return base and load_symbols().multiplier.sub("", base)


def multiplier_of(market: Market, symbol: str) -> int | None:
    """Return the number of units of the asset in one of the base; None if the base is unknown.

    >>> [multiplier_of(Market.FUTURES_UM, name) for name in ("1000BONKUSDT", "1INCHUSDT")]
    [1000, 1]
    """
    base = split_symbol(market, symbol).base
    if base is None:
        return None
    found = load_symbols().multiplier.match(base)
    return int(found[1].replace("M", "000000")) if found else 1


def events_of(market: Market, symbol: str) -> list[SymbolEvent]:
    """Return the known changes of a symbol and its asset.

    >>> [event.successor for event in events_of(Market.SPOT, "MATICUSDT")]
    ['POL']
    """
    asset = asset_of(market, symbol)
    return list(load_symbols().by_asset.get((market, asset), ())) if asset else []


def crossings(market: Market, symbol: str, start: date, end: date) -> list[SymbolEvent]:
    """Return the known changes that a range of days, both inclusive, crosses or may cross."""
    events = events_of(market, symbol)
    return [event for event in events if event.crosses(market, symbol, start, end)]


@cache
def _quotes(market: Market) -> tuple[str, ...]:
    """Return the quote assets of a market, the longest first."""
    return tuple(sorted(load_symbols().quotes[market], key=lambda quote: (-len(quote), quote)))


def _contains_another(market: Market, quote: str) -> bool:
    """Return whether a quote asset ends like another one, in one direction or the other."""
    return any(
        other != quote and (other.endswith(quote) or quote.endswith(other))
        for other in _quotes(market)
    )


def _split_pair(market: Market, pair: str, assets: Set[str]) -> tuple[str | None, str | None]:
    """Split ``BASEQUOTE``; two nulls if it has no known quote asset, or several may fit."""
    facts = load_symbols()
    found = [
        (pair.removesuffix(quote), quote)
        for quote in _quotes(market)
        if pair.endswith(quote) and pair != quote
    ]
    if len(found) > 1 and market is Market.SPOT and pair in facts.pairs:
        found = [(base, quote) for base, quote in found if quote == facts.pairs[pair]]
    elif len(found) > 1:
        found = [(base, quote) for base, quote in found if base in facts.assets or base in assets]
    return found[0] if len(found) == 1 else (None, None)


def _split_usd_margined(symbol: str, assets: Set[str]) -> SymbolParts:
    market = Market.FUTURES_UM
    pair = _SETTLED.sub("", symbol)
    contract = Contract.PERPETUAL if pair == symbol else Contract.SETTLED
    delivery = delivery_of(pair)
    if delivery is not None:
        pair = pair.rpartition("_")[0]
        contract = Contract.DELIVERY
    if "_" in pair:
        return SymbolParts()
    return SymbolParts(*_split_pair(market, pair, assets), contract, delivery)


def _split_coin_margined(symbol: str) -> SymbolParts:
    found = _COIN_MARGINED.fullmatch(symbol)
    if found is None:
        return SymbolParts()
    base, term = found["base"], found["term"]
    if term is None:
        return SymbolParts(base, "USD", Contract.PAIR)
    if term == "PERP":
        return SymbolParts(base, "USD", Contract.PERPETUAL)
    delivery = delivery_of(symbol)
    return SymbolParts(base, "USD", Contract.DELIVERY if delivery else None, delivery)


def _split_option(symbol: str, assets: Set[str]) -> SymbolParts:
    if found := _OPTION.fullmatch(symbol):
        expiry = delivery_of(f"_{found['expiry']}")
        return SymbolParts(found["base"], "USDT", Contract.OPTION if expiry else None, expiry)
    if found := _VOLATILITY.fullmatch(symbol):
        return SymbolParts(found["base"], found["quote"], Contract.VOLATILITY_INDEX)
    base, quote = _split_pair(Market.OPTIONS, symbol, assets)
    return SymbolParts(base, quote, Contract.UNDERLYING if base else None)
