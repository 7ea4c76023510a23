"""Name the valid values in messages about invalid ones, and suggest the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from binance_archive_kit.errors import ConfigurationError, FieldProblem, masked, shown
from binance_archive_kit.timestamps import parse_length, respell_length

#: Largest number of valid values in a message.
_MOST = 60
#: Characters of the longest text that may be a misspelling of a valid value.
_LONGEST = 120


def nearest(value: object, valid: Iterable[str]) -> str | None:
    """Return the valid value most similar to `value`, or None.

    Of lengths of time, only an equal one is suggested.

    >>> nearest("futures-um", ["spot", "futures_um", "futures_cm"])
    'futures_um'
    >>> nearest("zzz", ["spot"]) is None
    True
    >>> nearest("1min", ["1m", "1mo", "1M"]), nearest("60m", ["1m", "1h"]), nearest("10m", ["1m"])
    ('1m', '1h', None)
    >>> nearest("spot" * 10**6, ["spot"]) is None
    True
    """
    text = value if isinstance(value, str) else shown(value)
    if len(text) > _LONGEST:
        return None
    words = [str(word) for word in valid]
    lengths = {word: length for word in words if (length := parse_length(word)) is not None}
    if lengths and (wanted := parse_length(respell_length(text) or text)) is not None:
        # 10m is not a misspelling of 1m.
        return next((word for word, length in lengths.items() if length == wanted), None)
    by_folded: dict[str, str] = {}
    for word in words:
        by_folded.setdefault(word.casefold(), word)
    found = difflib.get_close_matches(text.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def unknown(
    field: str, value: object, valid: Iterable[str], label: str | None = None
) -> FieldProblem:
    """Return the problem of a value that is not one of the valid ones.

    >>> print(unknown("markets", "sport", ["spot", "options"]))
    markets: 'sport' is not valid; did you mean 'spot'? Valid: spot, options
    >>> len(str(unknown("symbols", "x" * 10**6, map(str, range(10**5))))) < 500
    True
    """
    words = list(valid)
    guess = nearest(value, words)
    hint = f"; did you mean {guess!r}?" if guess else "."
    text = repr(masked(str(value))) if isinstance(value, str) and len(value) < 100 else shown(value)
    more = f" and {len(words) - _MOST:,} more" if len(words) > _MOST else ""
    message = f"{text} is not valid{hint} Valid: {', '.join(words[:_MOST])}{more}"
    return FieldProblem(field, message, label)


def check_word(field: str, value: object, valid: Collection[str]) -> None:
    """Raise a ConfigurationError unless a value is one of the valid words.

    >>> check_word("on_gap", ["warn"], ["raise", "mark"])
    Traceback (most recent call last):
    binance_archive_kit.errors.ConfigurationError: on_gap: ['warn'] is not valid. Valid: raise, mark
    """
    if not isinstance(value, str) or value not in valid:
        raise ConfigurationError(unknown(field, value, valid))
