"""Choose the symbols of an export: by name, by quote asset, or from a universe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from binance_archive_kit.archive.enums import Interval, read_names
from binance_archive_kit.archive.symbols import split_symbols
from binance_archive_kit.errors import ConfigurationError, field_error, shown, warn_user
from binance_archive_kit.export.due_rows import LIFETIME_SCHEMA
from binance_archive_kit.planning.selection import named
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.polars_scan import first_few, parse_selection
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.suggestions import unknown


@dataclass(frozen=True, slots=True)
class SymbolChoice:
    """The chosen symbols, sorted.

    Attributes
    ----------
    stored : list of str
        Those that the store has files of.
    missing : list of str
        Symbols of the universe that it has no file of.
    """

    stored: list[str]
    missing: list[str]


def choose_symbols(
    engine: Engine,
    feed: FeedTable,
    interval: Interval | None,
    symbols: str | Iterable[str] | None,
    quote: str | Iterable[str] | None,
    universe: pl.DataFrame | None,
) -> SymbolChoice:
    """Choose symbols with files of a feed and an interval; None is any interval.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, the store has no file of a symbol that is given by name, or
        it has none of the chosen symbols.
    """
    # Raises if the store has nothing of the feed or the interval.
    parse_selection(engine, feed, None, interval)
    stored = {each.symbol for each in engine.names(feed) if interval in (None, each.interval)}
    if universe is not None:
        if symbols is not None:
            raise field_error("universe", "give either symbols or a universe, not both")
        names = _of_universe(universe, feed)
    elif symbols is not None:
        names = named(read_names("symbols", symbols), stored)
        for name in sorted(names - stored):
            parse_selection(engine, feed, name, interval)
    else:
        names = stored
    if quote is not None:
        names = _with_quote(feed, names, stored, read_names("quote", quote))
    if not names & stored:
        few = ", ".join(sorted(names)[:3])
        message = (
            f"the store has {interval or ''} {feed.data_type} of none of its symbols, such as {few}"
        )
        raise field_error("universe", message)
    return SymbolChoice(sorted(names & stored), sorted(names - stored))


def leave_out(problems: Mapping[str, str], given: Collection[str], engine: str) -> list[str]:
    """Return the symbols that have a place in a backtest engine; warn of the others.

    Parameters
    ----------
    problems : mapping of str to str
        Why each symbol has none; empty if it has one.
    given : collection of str
        Names that must have one, and patterns.
    engine : str

    Raises
    ------
    ConfigurationError
        If a symbol that is given by name has none, or none has one.
    """
    left_out = [f"{name} ({problem})" for name, problem in problems.items() if problem]
    for name, problem in problems.items():
        if problem and name in given:
            raise field_error("symbols", f"{shown(name)}: {problem}")
    if len(left_out) == len(problems):
        raise field_error("symbols", f"{engine} has no place for them: {first_few(left_out)}")
    if left_out:
        warn_user(f"left out {first_few(left_out)}")
    return [name for name, problem in problems.items() if not problem]


def _of_universe(universe: object, feed: FeedTable) -> set[str]:
    """Return the symbols of a universe, which is to be one of the feed's market."""
    if not isinstance(universe, pl.DataFrame) or "symbol" not in universe.columns:
        message = "is not a polars.DataFrame with the column symbol, such as bak.universe returns"
        raise field_error("universe", f"{shown(universe)} {message}")
    has_lifetimes = LIFETIME_SCHEMA.keys() <= universe.schema.keys()
    for name, dtype in LIFETIME_SCHEMA.items() if has_lifetimes else ():
        if universe.schema[name] not in (dtype, pl.Null):
            message = f"its column {name} is of {universe.schema[name]}; cast it to {dtype}"
            raise field_error("universe", message)
    names = universe["symbol"].drop_nulls()
    if not universe["symbol"].len() or names.dtype not in (pl.String, pl.Categorical):
        raise field_error("universe", "it has no symbols; the column symbol has no text")
    markets = set(universe["market"].cast(pl.String)) if "market" in universe.columns else set()
    if others := sorted(str(market) for market in markets - {feed.market.value}):
        message = f"it has symbols of {', '.join(others)}; keep those of {feed.market} only"
        raise field_error("universe", message)
    return set(names.cast(pl.String))


def _with_quote(feed: FeedTable, names: set[str], stored: set[str], quotes: list[str]) -> set[str]:
    """Return the symbols with some quote assets."""
    parts = split_symbols(feed.market, names | stored)
    found = {name for name in names if parts[name].quote in quotes}
    known = {part.quote for name in names if (part := parts[name]).quote}
    for quote in quotes:
        if quote not in known:
            raise ConfigurationError(unknown("quote", quote, sorted(filter(None, known))))
    return found
