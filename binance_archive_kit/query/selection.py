"""Parse symbols, intervals and times into a `Selection`, checked against a store."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta

from binance_archive_kit.archive.enums import Interval, read_interval, read_names
from binance_archive_kit.errors import ConfigurationError, FieldProblem, nearest, shown
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.timestamps import is_whole_day, parse_time

Moment = str | date | datetime
_DAY = timedelta(days=1)
_LAST_DAY = datetime(datetime.max.year, 12, 31)
#: Names up to which a message lists all of them.
_FEW = 24
#: Length from which on a given word is not repeated as the name of a symbol.
_LONG = 120


def parse_selection(
    engine: Engine,
    feed: FeedTable,
    symbols: str | Iterable[str] | None = None,
    intervals: str | Iterable[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
) -> Selection:
    """Parse the choice of rows, and check that the store has files of it.

    Raises
    ------
    ConfigurationError
        If a value is invalid, or the store has no file of the feed, of a symbol or of an
        interval.
    """
    folders = [stored.folder for stored in engine.folders(feed)]
    if not folders:
        raise ConfigurationError(engine.nothing_of(feed))
    chosen_symbols = _names("symbols", symbols)
    chosen_intervals = _names("intervals", intervals)
    if chosen_intervals is not None:
        chosen_intervals = frozenset(map(read_interval, chosen_intervals))
    known_symbols = sorted({folder.symbol for folder in folders})
    for symbol in sorted(chosen_symbols or ()):
        if symbol not in known_symbols:
            message = _not_in_store(feed, "symbols", symbol, known_symbols, chosen_intervals)
            raise ConfigurationError(f"{message}{engine.skipped_hint(symbol)}")
    of_symbols = {
        folder.interval
        for folder in folders
        if chosen_symbols is None or folder.symbol in chosen_symbols
    }
    known_intervals = [interval for interval in Interval if interval in of_symbols]
    for interval in sorted(chosen_intervals or ()):
        if interval not in known_intervals:
            raise ConfigurationError(
                _not_in_store(feed, "intervals", interval, known_intervals, chosen_symbols)
            )
    first, until = _time("start", start), _time("end", end)
    if until is not None and is_whole_day(end):
        until = until + _DAY if until < _LAST_DAY else None
    if first is not None and until is not None and first >= until:
        raise ConfigurationError(f"start: {start} is not before end: {end}")
    return Selection(chosen_symbols, chosen_intervals, first, until)


def _names(field: str, names: str | Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(read_names(field, names))


def _not_in_store(
    feed: FeedTable, field: str, name: str, known: Sequence[str], others: Collection[str] | None
) -> str:
    """Format the message for a symbol or interval that is not in the store, with how to add it."""
    guess = nearest(name, known)
    hint = f"; did you mean {guess!r}?" if guess else "."
    more = f" and {len(known) - _FEW:,} more" if len(known) > _FEW else ""
    given = {"symbols": sorted(others or ()), "intervals": sorted(others or ()), field: [name]}
    wanted = f"symbols={_listed(given['symbols'])}"
    wanted = f'markets=["{feed.market}"], {wanted}, data_types=["{feed.data_type}"]'
    if feed.data_type.has_intervals:
        wanted += f', intervals={{"{feed.data_type}": {_listed(given["intervals"])}}}'
    of = f" of {', '.join(others)}" if others and field == "intervals" and len(others) == 1 else ""
    message = (
        f"{field} of {feed.view}{of}: {shown(str(name))} is not in the store{hint} "
        f"It has: {', '.join(known[:_FEW])}{more}."
    )
    return message if len(name) > _LONG else f"{message} To add it: collect({wanted}, …)"


def _listed(names: Sequence[str]) -> str:
    """Format names as a Python list."""
    if not names or len(names) > _FEW:
        return "[…]"
    return f"[{', '.join(json.dumps(str(name), ensure_ascii=False) for name in names)}]"


def _time(field: str, value: Moment | None) -> datetime | None:
    """Parse a day or a time; return it as naive UTC."""
    try:
        return None if value is None else parse_time(value).replace(tzinfo=None)
    except ValueError as error:
        raise ConfigurationError(FieldProblem(field, str(error))) from None
