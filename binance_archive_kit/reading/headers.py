"""Header rows: detect one, and find the columns that it names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import chain

from binance_archive_kit.archive.schemas import Schema, load_schemas
from binance_archive_kit.errors import WrongColumns
from binance_archive_kit.reading.file_stats import Irregularity

Irregularities = frozenset[Irregularity]
NO_IRREGULARITIES: Irregularities = frozenset()

#: Other words for columns, from Binance's documentation and from common tools.
_SYNONYMS = {
    "quoteassetvolume": "quote_volume",
    "numberoftrades": "count",
    "trades": "count",
    "takerbuybaseassetvolume": "taker_buy_volume",
    "takerbuybasevolume": "taker_buy_volume",
    "takerbuyquoteassetvolume": "taker_buy_quote_volume",
    "unused": "ignore",
    "tradeid": "id",
    "quantity": "qty",
    "quotequantity": "quote_qty",
    "aggregatetradeid": "agg_trade_id",
    "wasthebuyerthemaker": "is_buyer_maker",
    "wasthetradethebestpricematch": "is_best_match",
    "fundingrate": "last_funding_rate",
    "fundingtime": "calc_time",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file differ from those of its feed.

    Attributes
    ----------
    fields : int
        Fields of a row.
    positions : tuple of int
        The field that holds each column of the feed.
    """

    fields: int
    positions: tuple[int, ...]


def is_header(body: bytes) -> bool:
    """Return whether csv text begins with a header; a row begins with a number or quotes."""
    first = body[1:2] if body[:1] == b'"' else body[:1]
    return bool(body) and not first.isdigit() and first not in (b"", b"-", b'"')


def parse_header(name: str, line: bytes, schema: Schema) -> tuple[Layout | None, Irregularities]:
    """Find the columns that a header names.

    Parameters
    ----------
    name : str
        Of the file.

    Returns
    -------
    (Layout or None, frozenset of Irregularity)
        None if rows are laid out as those of the feed.

    Raises
    ------
    WrongColumns
        If columns are missing, named twice or unclear.
    """
    words = [word.strip(' "') for word in line.decode(errors="replace").strip().split(",")]
    columns = schema.columns
    if len(words) == len(columns) and all(
        word in (column.name, "ignore") for word, column in zip(words, columns, strict=True)
    ):
        return None, NO_IRREGULARITIES
    known = _words_of(schema)
    named = [known.get(_folded(word)) for word in words]
    positions = {column: index for index, column in enumerate(named) if column is not None}
    extra = [index for index, column in enumerate(named) if column is None]
    missing = [column for column in range(len(columns)) if column not in positions]
    once = len(positions) + len(extra) == len(words)
    if once and not missing:
        order = tuple(positions[column] for column in range(len(columns)))
        odd = {Irregularity.EXTRA_COLUMNS} if extra else set()
        if list(order) != sorted(order) or any(
            words[index] != column.name for index, column in zip(order, columns, strict=True)
        ):
            odd.add(Irregularity.OTHER_HEADER)
        usual = order == tuple(range(len(words)))
        return None if usual else Layout(len(words), order), frozenset(odd)
    in_place = all(column in (index, None) for index, column in enumerate(named))
    # One word that no feed has, where the only missing column should be, is its new name.
    renamed = once and in_place and len(missing) == 1 and missing == extra
    if renamed and _folded(words[missing[0]]) not in _all_words():
        return None, frozenset([Irregularity.OTHER_HEADER])
    begin = ",".join(words)[:80]
    raise WrongColumns(
        name, f"it begins {begin!r}, and its header should be {schema.header_line!r}"
    )


def _folded(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))


@cache
def _words_of_columns(columns: tuple[tuple[str, str], ...]) -> dict[str, int]:
    names = {name: index for index, (name, _) in enumerate(columns)}
    synonyms = {word: names[name] for word, name in _SYNONYMS.items() if name in names}
    own = {_folded(column): index for index, (_, column) in enumerate(columns)}
    return synonyms | own | {_folded(name): index for name, index in names.items()}


def _words_of(schema: Schema) -> dict[str, int]:
    """Return the index of the column that each folded word names."""
    return _words_of_columns(tuple((column.name, column.column) for column in schema.columns))


@cache
def _all_words() -> frozenset[str]:
    """Return the folded names of the columns of all feeds."""
    return frozenset(chain.from_iterable(map(_words_of, load_schemas().values())))
