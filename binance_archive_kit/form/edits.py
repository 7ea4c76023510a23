"""Apply an edit of the browser to the fields of a form."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.form.model import (
    ENGINE_OPTIONS,
    Fields,
    chosen_markets,
    default_of,
    intervals_of,
    kind_of,
    symbols_of,
)


def split_symbols(text: str) -> list[str]:
    """Split a typed or pasted list of symbols at any separators.

    >>> split_symbols('btcusdt, "ETHUSDT"; 币安人生USDT BTCUSDT')
    ['BTCUSDT', 'ETHUSDT', '币安人生USDT']
    """
    words = re.split(r"""[\s,;|"'`\[\](){}]+""", text)
    return list(dict.fromkeys(word.upper() for word in words if word))


def edited(fields: Fields, edit: Mapping[str, Any]) -> Fields:
    """Return the fields after an edit.

    Parameters
    ----------
    fields : Fields
        Not changed.
    edit : mapping
        ``do`` names the action, and other items are its arguments: ``check`` a market or data
        type (`field`, `value`, `on`) · choose an ``interval`` (`data_type`, `value` or None
        for all, `on`) · ``add``, ``remove`` or ``replace`` symbols (`market` or None for every
        market, `text`) · ``share`` the symbols between the markets or not (`on`) · ``set``
        another `field` to a `value`, where None removes it.

    Raises
    ------
    ValueError
        If the edit is unknown.

    Examples
    --------
    >>> edited({"markets": ["spot"]}, {"do": "check", "field": "markets", "value": "options",
    ...                                "on": True})
    {'markets': ['spot', 'options']}
    """
    match edit:
        case {"do": "check", "field": "markets" | "data_types" as name, "value": str() as word}:
            after = {**fields, name: _with(fields.get(name, ()), word, edit.get("on"))}
            return _with_intervals(after, word, edit) if name == "data_types" else after
        case {"do": "interval", "data_type": str() as data_type, "value": None | str() as word}:
            intervals = intervals_of(fields)
            now = [] if word is None else _with(intervals.get(data_type, ()), word, edit.get("on"))
            intervals.pop(data_type, None)
            return {**fields, "intervals": intervals | ({data_type: now} if now else {})}
        case {"do": "add" | "remove" | "replace" as verb, "text": str() as text}:
            return _with_symbols(fields, verb, edit.get("market"), split_symbols(text))
        case {"do": "share", "on": bool() as shared}:
            return {**fields, "symbols": _shared(fields) if shared else _by_market(fields)}
        case {"do": "set", "field": str() as name, "value": value}:
            value = _value(name, value)
            after = {**fields, name: value}
            if value is None or (name in ENGINE_OPTIONS and value == default_of(name)):
                del after[name]
            return after
    raise ValueError(f"{dict(edit)!r} is not an edit of a form")


def _with(words: Iterable[str], word: str, on: object) -> list[str]:
    others = [other for other in words if other != word]
    return [*others, word] if on else others


def _with_intervals(fields: Fields, word: str, edit: Mapping[str, Any]) -> Fields:
    """Add the intervals of the other kline types to a newly chosen one; remove them with it."""
    if word not in set(DataType) or not DataType(word).has_intervals:
        return fields
    intervals = intervals_of(fields)
    others = [intervals.get(other) for other in fields["data_types"] if other != word]
    default = next(filter(None, others), [Interval.H1.value])
    intervals.pop(word, None)
    return {**fields, "intervals": intervals | ({word: list(default)} if edit.get("on") else {})}


def _with_symbols(fields: Fields, verb: str, market: str | None, names: list[str]) -> Fields:
    by_market = isinstance(fields.get("symbols"), Mapping)
    present = symbols_of(fields, Market(market) if by_market and market else None)
    match verb:
        case "add":
            names = list(dict.fromkeys([*present, *names]))
        case "remove":
            removed = set(names)
            names = [symbol for symbol in present if symbol not in removed]
    if not by_market:
        return {**fields, "symbols": names}
    others = {name: lists for name, lists in fields["symbols"].items() if name != market}
    return {**fields, "symbols": others | ({market: names} if names else {})}


def _shared(fields: Fields) -> list[str]:
    symbols = fields.get("symbols") or []
    lists = symbols.values() if isinstance(symbols, Mapping) else [symbols]
    return list(dict.fromkeys(chain.from_iterable(lists)))


def _by_market(fields: Fields) -> dict[str, list[str]]:
    if isinstance(fields.get("symbols"), Mapping):
        return dict(fields["symbols"])
    shared = symbols_of(fields)
    return {market.value: list(shared) for market in chosen_markets(fields)} if shared else {}


def _value(name: str, value: Any) -> Any:
    """Parse the text typed into a field; text that cannot be parsed is kept, and is invalid."""
    if not isinstance(value, str):
        return value
    typed = value.strip()
    if not typed:
        return None
    with suppress(ValueError):
        match kind_of(name):
            case "whole":
                return int(typed)
            case "number":
                return float(typed)
            case "words":
                return shlex.split(typed)
    return typed
