"""Place the problems of a configuration beside the form's fields.

The texts of invalid values come from `planning.config`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.matrix import Matrix, WrongSymbolError
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.form.model import Fields, chosen_markets, chosen_types, symbols_of
from binance_archive_kit.planning.config import ENDS, CollectionConfig, is_field, unknown_field
from binance_archive_kit.planning.requests import Requests
from binance_archive_kit.planning.selection import is_pattern, matches
from binance_archive_kit.suggestions import nearest

T = TypeVar("T")


class Level(StrEnum):
    """The severity of a message."""

    WRONG = "wrong"  #: invalid: no configuration until it is corrected
    NEEDED = "needed"  #: nothing is entered yet, and something has to be
    CANNOT = "cannot"  #: requested, and cannot exist
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class FieldMessage:
    """A sentence to show beside a field."""

    level: Level
    text: str


#: Messages by field; ``""`` for messages without a field.
Messages = dict[str, list[FieldMessage]]

#: What to enter in the fields that a configuration needs.
_NEEDED = {
    "markets": "a market",
    "symbols": "a symbol, or a pattern such as *USDT",
    "data_types": "a data type",
    "output_directory": "a folder for the files, or a URL such as s3://bucket/research",
}
#: Messages of one level shown beside a field; further ones are counted.
_SHOWN = 4
#: Fields beside which problems of other names are shown: short forms, and the environment.
_SHOWN_AT = {
    "start": "date_range",
    "end": "date_range",
    "S3_ENDPOINT_URL": "endpoint_url",
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "endpoint_url"),
}
#: Fields beside which absences are shown, by reason.
_FIELDS = {
    Reason.NO_SUCH_FEED: "data_types",
    Reason.ENDED: "data_types",
    Reason.NOT_BEGUN: "data_types",
    Reason.NO_SUCH_INTERVAL: "intervals",
    Reason.NOT_IN_PARTITION: "partition",
    Reason.WRONG_SYMBOL: "symbols",
}


def read_fields(
    fields: Fields, matrix: Matrix, read: Callable[[CollectionConfig], T]
) -> tuple[T | None, Messages]:
    """Build a configuration from the fields of a form, and read it.

    Valid values replace invalid ones, so that all fields are checked.

    Parameters
    ----------
    fields : Fields
    matrix : Matrix
    read : callable
        Takes a configuration; may raise a ConfigurationError.

    Returns
    -------
    result
        The result of `read`; None if an error does not depend on the fields.
    messages : Messages
        The invalid fields; empty if there are none.
    """
    valid = {name: value for name, value in fields.items() if is_field(name)}
    messages: Messages = {}
    if unknown := [unknown_field(name) for name in fields if not is_field(name)]:
        messages[""] = [FieldMessage(Level.WRONG, str(problem)) for problem in unknown]
    while True:
        try:
            config = CollectionConfig(**valid)
            valid = config.chosen()
            return read(config), messages
        except ConfigurationError as error:
            before = dict(valid)
            found = _problem_messages(error)
            for name in set(_NEEDED) & set(found):
                if fields.get(name) in (None, [], (), {}):
                    found[name] = [FieldMessage(Level.NEEDED, _NEEDED[name])]
            for name in found:
                _replace_invalid(valid, name, matrix)
            messages = {**found, **messages}
            if valid == before:
                return None, messages


def _problem_messages(error: ConfigurationError) -> Messages:
    """Sort problems by the fields beside which they are shown."""
    messages: Messages = {}
    for problem in error.problems:
        name, text = _placed(problem.field, problem.message)
        messages.setdefault(name, []).append(FieldMessage(Level.WRONG, text))
    return messages


def _placed(field: str, text: str) -> tuple[str, str]:
    """Return the field beside which to show a message, or ``""``, and the text to show."""
    name = re.split(r"[.\[]", field)[0]
    name = _SHOWN_AT.get(name, name)
    name = name if name in CollectionConfig.model_fields else ""
    return name, text if name == field or not field else f"{field}: {text}"


def _replace_invalid(fields: Fields, name: str, matrix: Matrix) -> None:
    """Replace an invalid field by a valid value, or by its default."""
    markets = chosen_markets(fields) or list(Market)
    match name:
        case "markets":
            fields[name] = list(Market)
        case "data_types":
            fields[name] = [DataType.KLINES]
        case "symbols":
            fields[name] = {market: list(matrix.symbols[market][:1]) for market in markets}
        case "output_directory":
            fields[name] = "."
        case "date_range":
            for days in (name, *ENDS):
                fields.pop(days, None)
        case _:
            fields.pop(name, None)


def request_messages(requests: Requests, invalid: Collection[str] = ()) -> Messages:
    """Return messages for requested data that cannot exist, and notes on how fields are read.

    Parameters
    ----------
    requests : Requests
    invalid : collection of str
        Invalid fields; messages that follow from their replaced values are omitted.
    """
    messages: Messages = {}

    def add(name: str, level: Level, text: str) -> None:
        if name not in invalid:
            messages.setdefault(name, []).append(FieldMessage(level, text))

    if not {"markets", "data_types"} & set(invalid):
        for absence in requests.unavailable:
            name = _FIELDS.get(absence.reason, "")
            if name == "partition" and absence.interval:
                name = "intervals"
            subject = absence.interval or absence.symbol
            add(name, Level.CANNOT, f"{subject}: {absence.detail}" if subject else absence.detail)
        for note in (*requests.warnings, *requests.notes):
            name, text = _placed(note.field, note.text)
            add(name or "matrix_path", Level.NOTE, text)
    return {name: _condensed(found) for name, found in messages.items()}


def _condensed(messages: Iterable[FieldMessage]) -> list[FieldMessage]:
    """Drop repeats, sort by level, and replace the end of a long list with its length."""
    distinct = dict.fromkeys(messages)
    shown = []
    for level in Level:
        of_level = [message for message in distinct if message.level is level]
        shown += of_level[:_SHOWN]
        if len(of_level) > _SHOWN:
            shown.append(FieldMessage(level, f"… and {len(of_level) - _SHOWN:,} more like these"))
    return shown


def unlisted_symbols(
    fields: Fields, listed: Mapping[Market, Collection[str]], matrix: Matrix
) -> list[FieldMessage]:
    """Return messages for the chosen symbols that the archive does not list.

    Parameters
    ----------
    fields : Fields
    listed : mapping of Market to collection of str
        The symbols of the archive, for each listed market.
    matrix : Matrix
    """
    absent: dict[str, list[Market]] = {}
    present: set[str] = set()
    for market in chosen_markets(fields):
        if market not in listed:
            continue
        symbols = set(listed[market])
        for symbol in symbols_of(fields, market):
            if is_pattern(symbol):
                found = any(matches(symbol, name) for name in symbols)
            else:
                found = bool(_archive_symbols(symbol, market, fields, matrix) & symbols)
            if found:
                present.add(symbol)
            else:
                absent.setdefault(symbol, []).append(market)
    messages = []
    for symbol, markets in absent.items():
        where = ", ".join(market.title for market in markets)
        if symbol in present:
            messages.append(FieldMessage(Level.NOTE, f"{symbol} is not listed in {where}"))
            continue
        # Comparing a name with thousands is slow, so only shown messages have a hint.
        known = {name for market in markets for name in listed[market]}
        guess = nearest(symbol, known) if len(messages) < _SHOWN else None
        hint = f"; did you mean {guess}?" if guess else ""
        messages.append(
            FieldMessage(Level.CANNOT, f"{symbol} is not listed in {where} by the archive{hint}")
        )
    return _condensed(messages)


def _archive_symbols(symbol: str, market: Market, fields: Fields, matrix: Matrix) -> set[str]:
    """Return the archive's names of a symbol in the chosen feeds of a market."""
    names = {symbol}
    for data_type in chosen_types(fields):
        feed = matrix.feed(market, data_type)
        if feed is not None:
            with suppress(WrongSymbolError):
                names.add(matrix.archive_symbol(feed, symbol))
    return names
