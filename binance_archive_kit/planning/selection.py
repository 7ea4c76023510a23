"""Choose symbols from a listing, by pattern and by quote asset. Pure; no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.matrix import Feed, SymbolForm
from binance_archive_kit.archive.symbols import split_symbols
from binance_archive_kit.display.render import counted
from binance_archive_kit.display.summary import Fold, State
from binance_archive_kit.errors import ConfigurationError, field_error, shown
from binance_archive_kit.suggestions import nearest, unknown

#: Characters that make a symbol of a configuration a pattern; no symbol contains them.
WILDCARDS = "*?"


def is_pattern(symbol: str) -> bool:
    """Return whether a symbol of a configuration is a pattern, such as ``*USDT``."""
    return any(character in symbol for character in WILDCARDS)


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(each, re.escape(each)) for each in pattern), re.DOTALL)


def matches(pattern: str, symbol: str) -> bool:
    """Return whether a symbol has the form of a pattern: ``*`` for any text, ``?`` for one sign.

    >>> matches("*USDT", "BTCUSDT"), matches("BTC*", "ETHUSDT"), matches("1000?*", "1000BONKUSDT")
    (True, False, True)
    """
    return _expression(pattern).fullmatch(symbol) is not None


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen symbols of one listing.

    Attributes
    ----------
    symbols : tuple of str
        In the order of the listing.
    left_out : tuple of str
        Other symbols with the quote assets of the chosen ones: settled and delivered contracts
        among them, without which a study sees survivors only.
    unknown_quote : tuple of str
        Symbols that match a pattern and whose quote asset is unknown, if one was asked for.
    """

    symbols: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unknown_quote: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SymbolSelection:
    """The symbols of one feed that the patterns of a configuration match.

    Attributes
    ----------
    market, data_type : Market, DataType
    patterns, quotes : tuple of str
        Patterns, and the quote assets to which they are limited; none for any.
    listed_at : datetime
        When the archive listed the symbols, UTC.
    listed : int
        The number of symbols that it listed for the feed.
    symbols : tuple of str
        Those that match, sorted.
    ended, later, absent : tuple of str
        Those of `symbols` whose files end before the requested days, begin after them, or are
        all of other intervals.
    left_out : tuple of str
        Other symbols with the same quote assets. A study without the settled and delivered
        contracts among them sees survivors only.
    unknown_quote : tuple of str
        Symbols that match a pattern, and whose quote asset is unknown, if one was asked for.
    """

    market: Market
    data_type: DataType
    patterns: tuple[str, ...]
    quotes: tuple[str, ...]
    listed_at: datetime
    listed: int
    symbols: tuple[str, ...]
    ended: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unknown_quote: tuple[str, ...] = ()

    @property
    def feed(self) -> tuple[Market, DataType]:
        """Market and data type."""
        return self.market, self.data_type

    @property
    def living(self) -> tuple[str, ...]:
        """Those of `symbols` that may have files of the requested days."""
        dead = {*self.ended, *self.later, *self.absent}
        return tuple(name for name in self.symbols if name not in dead)

    @property
    def name(self) -> str:
        """The name under which a store records the selection; equal for equal patterns."""
        parts = [self.market, self.data_type, list(self.patterns), list(self.quotes)]
        return json.dumps(parts, ensure_ascii=False)

    def __str__(self) -> str:
        """Return what was selected, from which listing, and how many symbols have no such days."""
        given = ", ".join(self.patterns)
        quotes = f" quoted in {', '.join(self.quotes)}" if self.quotes else ""
        verb = "match" if len(self.patterns) > 1 else "matches"
        text = (
            f"{given}{quotes} {verb} {len(self.symbols):,} of {self.listed:,} symbols of "
            f"{self.market} {self.data_type}, listed at {self.listed_at:%Y-%m-%d %H:%M} UTC"
        )
        counts = [
            (len(self.ended), "ended before these days"),
            (len(self.later), "began after these days"),
            (len(self.absent), "without files of these intervals"),
            (len(self.left_out), "more with the same quote left out"),
            (len(self.unknown_quote), "more with an unknown quote left out"),
        ]
        return "; ".join([text, *(f"{count:,} {words}" for count, words in counts if count)])

    def folds(self) -> list[Fold]:
        """Return the symbols that the days or the patterns leave out, for a summary."""
        feed = f"{self.market} {self.data_type}"
        kinds: list[tuple[str, State, tuple[str, ...]]] = [
            ("selected, and ended before these days", "idle", self.ended),
            ("selected, and began after these days", "idle", self.later),
            ("selected, without files of these intervals", "idle", self.absent),
            ("with the same quote, left out (survivorship bias)", "warn", self.left_out),
            ("with an unknown quote, left out", "warn", self.unknown_quote),
        ]
        return [
            Fold(f"{counted(len(names), f'{feed} symbol')} {words}", names, state)
            for words, state, names in kinds
            if names
        ]


def choose(
    market: Market,
    listed: Sequence[str],
    patterns: Iterable[str],
    quotes: Sequence[str] = (),
    form: SymbolForm = SymbolForm.AS_LISTED,
) -> Choice:
    """Choose the listed symbols that match a pattern or a name, and have one of the quotes.

    Parameters
    ----------
    market : Market
    listed : sequence of str
        The symbols that the archive lists for a feed.
    patterns : iterable of str
        Patterns and names.
    quotes : sequence of str
        Quote assets; none for any.
    form : SymbolForm
        How symbols of the feed are filed; those of pairs also match as ``BTCUSD_PERP``.
    """
    given = list(patterns)
    parts = split_symbols(market, listed)
    matched = [name for name in listed if any(_fits(each, name, form) for each in given)]
    unknown = [name for name in matched if quotes and parts[name].quote is None]
    chosen = [name for name in matched if not quotes or parts[name].quote in quotes]
    found = {parts[name].quote for name in chosen} - {None}
    among = set(chosen)
    left = [name for name in listed if name not in among and parts[name].quote in found]
    return Choice(tuple(chosen), tuple(left), tuple(unknown))


def _fits(pattern: str, symbol: str, form: SymbolForm) -> bool:
    return matches(pattern, symbol) or (
        form is SymbolForm.PAIR and matches(pattern, f"{symbol}_PERP")
    )


def require_matches(
    listings: Iterable[tuple[Feed, Sequence[str], Sequence[str]]], quotes: Sequence[str]
) -> None:
    """Raise an error for a pattern or a quote that no listed symbol of any feed has.

    Parameters
    ----------
    listings : iterable of (Feed, patterns, symbols)
        Feeds with the patterns and names that are asked of each, and its listed symbols.
    quotes : sequence of str
        Quote assets; none for any.
    """
    asked: dict[str, list[tuple[Feed, Sequence[str]]]] = {}
    found: set[str] = set()
    known: set[str] = set()
    places = []
    for feed, patterns, listed in listings:
        for pattern in filter(is_pattern, patterns):
            asked.setdefault(pattern, []).append((feed, listed))
            if any(_fits(pattern, name, feed.symbol_form) for name in listed):
                found.add(pattern)
        if quotes:
            parts = split_symbols(feed.market, listed)
            matched = choose(feed.market, listed, patterns, (), feed.symbol_form).symbols
            known |= {quote for name in matched if (quote := parts[name].quote)}
            places.append(f"{len(matched):,} matching symbols of {feed.market.title} {feed.type}")
    for pattern, feeds in asked.items():
        if pattern not in found:
            raise _nothing_matches(pattern, *next((f for f in feeds if f[1]), feeds[0]))
    for quote in quotes:
        if quote not in known:
            label = f"quote of the {', '.join(places)}"
            raise ConfigurationError(unknown("quote", quote, sorted(known), label))


def _nothing_matches(pattern: str, feed: Feed, listed: Sequence[str]) -> ConfigurationError:
    name = f"{feed.market.title} {feed.type}"
    if not listed:
        return field_error("symbols", f"the archive lists no symbol of {name}")
    hint = in_capitals(pattern, listed)
    if not hint:
        guess = nearest("".join(c for c in pattern if c not in WILDCARDS), listed)
        hint = f"; the nearest is {guess!r}" if guess else f"; one is {listed[0]!r}"
    message = f"{pattern!r} matches none of {len(listed):,} {name} symbols{hint}"
    return field_error("symbols", message)


def in_capitals(pattern: str, symbols: Iterable[str]) -> str:
    """Return the hint that a pattern matches if it is in capitals, or nothing."""
    capitals = pattern.upper()
    found = capitals != pattern and any(matches(capitals, name) for name in symbols)
    return f"; did you mean {capitals!r}?" if found else ""


def named(given: Iterable[str], stored: Set[str]) -> set[str]:
    """Return the names of a list of names and patterns, with the stored symbols that match.

    Raises
    ------
    ConfigurationError
        If a pattern matches no stored symbol.
    """
    names = set()
    for each in given:
        if not is_pattern(each):
            names.add(each)
        elif found := {name for name in stored if matches(each, name)}:
            names |= found
        else:
            message = f"{shown(each)} matches none of the {len(stored):,} symbols in the store"
            raise field_error("symbols", message + in_capitals(each, stored))
    return names
