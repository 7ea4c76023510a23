"""Choose symbols from a listing, by pattern and by quote asset. Pure; no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.archive.matrix import Feed, SymbolForm
from binance_archive_kit.archive.symbols import split_symbols
from binance_archive_kit.errors import ConfigurationError, field_error
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


def nothing_matches(
    feed: Feed, listed: Sequence[str], patterns: Sequence[str], quotes: Sequence[str]
) -> ConfigurationError:
    """Return the error for patterns and quotes that no listed symbol has."""
    name = f"{feed.market.title} {feed.type}"
    if not listed:
        return field_error("symbols", f"the archive lists no symbol of {name}")
    matched = choose(feed.market, listed, patterns, (), feed.symbol_form).symbols
    if matched:
        parts = split_symbols(feed.market, listed)
        known = {quote for each in matched if (quote := parts[each].quote)}
        label = f"of the {len(matched):,} matching symbols of {name}"
        return ConfigurationError(unknown("quote", quotes[0], sorted(known), f"quote {label}"))
    guess = nearest("".join(c for c in patterns[0] if c not in WILDCARDS), listed)
    hint = f"the nearest is {guess!r}" if guess else f"one is {listed[0]!r}"
    given = ", ".join(map(repr, patterns[:5]))
    return field_error("symbols", f"{given} matches none of {len(listed):,} {name} symbols; {hint}")
