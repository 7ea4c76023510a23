"""Validate the values of a configuration's fields: words, lists, symbols, intervals and flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

from binance_archive_kit.archive.endpoint import USER_INFO
from binance_archive_kit.archive.enums import (
    INTERVAL_ALIASES,
    MARKET_ALIASES,
    PREMIUM_INDEX,
    DataType,
    Interval,
    Market,
)
from binance_archive_kit.archive.keys import is_symbol
from binance_archive_kit.archive.matrix import default_intervals
from binance_archive_kit.errors import ConfigurationError, field_error, shown
from binance_archive_kit.paths import has_controls
from binance_archive_kit.planning.selection import WILDCARDS, is_pattern
from binance_archive_kit.suggestions import unknown

Word = TypeVar("Word", bound=StrEnum)

#: Entries of one list; more is a mistake, or an iterable without an end.
MOST_ENTRIES = 1_000_000
#: Characters of a symbol, which a key contains twice; keys have at most 1,024 bytes.
_LONGEST_SYMBOL = 100
_TYPE_ALIASES = {PREMIUM_INDEX: DataType.PREMIUM_INDEX_KLINES}


def read_word(field: str, kind: type[Word], value: object, aliases: Mapping[str, Word]) -> Word:
    """Return the member of an enum for its value or an alias."""
    if isinstance(value, str):
        if value in aliases:
            return aliases[value]
        if value in set(kind):
            return kind(value)
    raise ConfigurationError(unknown(field, value, [*kind, *aliases]))


def _entries(field: str, value: object) -> list[Any]:
    """Return the entries of any iterable except a text or a dict."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        advice = "name at least one" if value is None else f"write {field}=[{shown(value)}]"
        raise field_error(field, f"{shown(value)} is not a list; {advice}")
    try:
        given = list(islice(value, MOST_ENTRIES + 1))
    except Exception as error:  # an iterable's own code may raise anything
        raise field_error(field, f"{shown(value)} is not a list: {error}") from None
    if len(given) > MOST_ENTRIES:
        raise field_error(field, f"the list has more than {MOST_ENTRIES:,} entries; give fewer")
    return given


def read_list(field: str, value: object) -> list[Any]:
    """Return the entries of a non-empty list in their order, without duplicates."""
    given = _entries(field, value)
    try:
        items = list(dict.fromkeys(given))
    except Exception:  # entries without a hash are no words; the caller rejects them
        items = given
    if not items:
        raise field_error(field, "the list is empty; name at least one")
    return items


def _symbols(field: str, value: object) -> tuple[str, ...]:
    """Return symbols and patterns; one pattern need not be in a list."""
    symbols = read_list(field, [value] if isinstance(value, str) and is_pattern(value) else value)
    for symbol in symbols:
        if not isinstance(symbol, str) or not _may_be_symbol(symbol):
            raise field_error(
                field,
                f"{shown(symbol)} cannot be a symbol; write it like 'BTCUSDT', or a pattern "
                "like '*USDT'",
            )
        if symbol != symbol.upper():
            raise field_error(
                field,
                f"{symbol!r} is not valid: symbols of the archive are in capitals; "
                f"did you mean {symbol.upper()!r}?",
            )
    return tuple(symbols)


def _may_be_symbol(text: str) -> bool:
    name = text
    for wildcard in WILDCARDS:
        name = name.replace(wildcard, "X")
    return is_symbol(name) and len(text) <= _LONGEST_SYMBOL


def _symbols_of_frame(frame: Any) -> list[str] | dict[str, list[str]]:
    """Return the symbols in a frame, by market if it has a column of markets."""
    if "symbol" not in frame.columns:
        raise field_error("symbols", "the frame has no column symbol; give one of bak.universe")
    names = list(frame["symbol"])
    if not names:
        raise field_error("symbols", "the frame has no rows; name at least one symbol")
    if "market" not in frame.columns:
        return names
    by_market: dict[str, list[str]] = {}
    for market, name in zip(frame["market"], names, strict=True):
        by_market.setdefault(market, []).append(name)
    return by_market


def read_markets(value: object) -> tuple[Market, ...]:
    """Return a list of markets without duplicates."""
    words = read_list("markets", value)
    return tuple(
        dict.fromkeys(read_word("markets", Market, word, MARKET_ALIASES) for word in words)
    )


def read_symbols(value: object) -> tuple[str, ...] | dict[Market, tuple[str, ...]]:
    """Return the symbols and patterns for every market, or by market.

    A frame of polars or pandas is accepted too.
    """
    if hasattr(value, "columns"):
        value = _symbols_of_frame(value)
    if not isinstance(value, Mapping):
        return _symbols("symbols", value)
    symbols: dict[Market, tuple[str, ...]] = {}
    for name, some in value.items():
        market = read_word("symbols", Market, name, MARKET_ALIASES)
        # A market may appear twice, by its name and by an alias.
        merged = [*symbols.get(market, ()), *_symbols(f"symbols[{name}]", some)]
        symbols[market] = tuple(dict.fromkeys(merged))
    return symbols


def read_quotes(value: object) -> tuple[str, ...]:
    """Return a list of quote assets; one need not be in a list."""
    quotes = read_list("quote", [value] if isinstance(value, str) else value)
    for quote in quotes:
        if not isinstance(quote, str) or not is_symbol(quote) or quote != quote.upper():
            raise field_error("quote", f"{shown(quote)} is not an asset; write it like 'USDT'")
    return tuple(quotes)


def read_feeds(
    data_types: object, intervals: object
) -> tuple[tuple[DataType, ...], dict[DataType, tuple[str, ...]]]:
    """Return data types and their intervals; an alias may have default intervals of its own."""
    words = read_list("data_types", data_types)
    types = dict.fromkeys(read_word("data_types", DataType, w, _TYPE_ALIASES) for w in words)
    given = {} if intervals is None else intervals
    if not isinstance(given, Mapping):
        raise field_error(
            "intervals",
            f"{shown(given)} is not a dict of data type to list; "
            f"write intervals={{'klines': {shown(given)}}}",
        )
    found: dict[DataType, tuple[str, ...]] = {}
    for name, some in given.items():
        data_type = read_word("intervals", DataType, name, _TYPE_ALIASES)
        merged = [*found.get(data_type, ()), *_intervals(data_type, f"intervals[{name}]", some)]
        found[data_type] = tuple(dict.fromkeys(merged))
    if PREMIUM_INDEX in words and DataType.PREMIUM_INDEX_KLINES.value not in words:
        default = tuple(map(str, default_intervals(PREMIUM_INDEX)))
        found.setdefault(DataType.PREMIUM_INDEX_KLINES, default)
    return tuple(types), found


def _intervals(data_type: DataType, field: str, value: object) -> list[str]:
    words = read_list(field, value)
    if data_type.has_intervals:
        words = [read_word(field, Interval, word, INTERVAL_ALIASES) for word in words]
    for word in words:
        if not isinstance(word, str) or has_controls(word):
            raise field_error(field, f"{shown(word)} is not valid; write it like '1h'")
    return [str(word) for word in words]


def read_flags(value: object) -> tuple[str, ...]:
    """Return a list of s5cmd's flags, not sorted yet; see `s5cmd_flags.Flags`."""
    flags = _entries("s5cmd_extra_args", value)
    for flag in flags:
        problem = ""
        if not isinstance(flag, str):
            problem = f"{shown(flag)} is not valid; flags are text"
        elif has_controls(flag):
            problem = f"{shown(flag)} has control characters"
        elif "://" in flag and "@" in flag:
            problem = USER_INFO
        if problem:
            raise field_error("s5cmd_extra_args", problem)
    return tuple(flags)
