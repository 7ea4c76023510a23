"""The catalogue's model: the feed that it shows, its options, rows and code, without any widget.

The fields are those of a configuration of one feed and interval. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from binance_archive_kit.archive.enums import Interval, Market, Partition
from binance_archive_kit.archive.matrix import Feed, Matrix
from binance_archive_kit.archive.symbols import split_symbols
from binance_archive_kit.display.render import counted
from binance_archive_kit.display.summary import Summary, Table
from binance_archive_kit.form import model
from binance_archive_kit.form.messages import FieldMessage, Level, Messages
from binance_archive_kit.form.model import Fields

#: First and last day of a symbol's files (UTC, inclusive), as ISO dates; None without files.
Days = tuple[str | None, str | None]
#: Symbols that the static table shows.
_MOST_ROWS = 20


def feed_of(fields: Fields, matrix: Matrix) -> tuple[Feed, Interval | None]:
    """Return the feed and the interval of the fields, or the nearest ones that exist.

    >>> from binance_archive_kit.archive.matrix import load_matrix
    >>> feed, interval = feed_of({"markets": ["futures_cm"]}, load_matrix())
    >>> print(feed.market, feed.type, interval)
    futures_cm klines 1h
    """
    market = next(iter(model.chosen_markets(fields)), Market.SPOT)
    existing = matrix.data_types(market)
    data_type = next((each for each in model.chosen_types(fields) if each in existing), existing[0])
    feed = matrix.feeds[market, data_type]
    intervals = intervals_of(feed)
    chosen = model.intervals_of(fields).get(data_type.value)
    wanted = [*(chosen if isinstance(chosen, list) else ()), Interval.H1, *intervals]
    return feed, next((Interval(each) for each in wanted if each in intervals), None)


def intervals_of(feed: Feed) -> list[Interval]:
    """Return the intervals that a feed has in any partition, the shortest first."""
    published = {each for files in feed.partitioned.values() for each in files.intervals}
    return [each for each in Interval if each in published]


def with_feed(fields: Fields, feed: Feed, interval: Interval | None) -> Fields:
    """Return the fields with another feed and interval, in a partition that has it."""
    kept = {name: fields[name] for name in fields if name not in ("intervals", "partition")}
    fields = {**kept, "markets": [feed.market.value], "data_types": [feed.type.value]}
    if interval is not None:
        fields["intervals"] = {feed.type.value: [interval.value]}
        if Partition.DAILY not in feed.partitions_with(interval):
            fields["partition"] = "auto"
    return fields


def chosen_symbols(fields: Fields, market: Market) -> list[str]:
    """Return the symbols and patterns of the fields for a market, whatever else they hold.

    >>> chosen_symbols({"symbols": {"spot": ["BTCUSDT", 5]}}, Market.SPOT)
    ['BTCUSDT']
    """
    symbols = fields.get("symbols")
    if isinstance(symbols, Mapping):
        symbols = symbols.get(market.value)
    given = [symbols] if isinstance(symbols, str) else symbols
    return [each for each in given if isinstance(each, str)] if isinstance(given, list) else []


def type_choices(feed: Feed, matrix: Matrix) -> list[dict[str, Any]]:
    """Return the data types of the feed's market as options, with their files and days."""
    return [
        {
            "value": data_type.value,
            "about": re.split(r"[.;]", other.notes)[0],
            "hint": "",
            "files": files_of(other),
            "on": data_type is feed.type,
            "possible": True,
        }
        for data_type in matrix.data_types(feed.market)
        if (other := matrix.feed(feed.market, data_type))
    ]


def files_of(feed: Feed) -> str:
    """Return the partitions of a feed, and its first and last day as far as they are known.

    >>> from binance_archive_kit.archive.enums import DataType
    >>> from binance_archive_kit.archive.matrix import load_matrix
    >>> feeds = load_matrix().feeds
    >>> files_of(feeds[Market.SPOT, DataType.KLINES])
    'daily, monthly; since 2017-08-17'
    >>> files_of(feeds[Market.FUTURES_UM, DataType.BOOK_TICKER])
    'daily, monthly; 2023-05-16 to 2024-03-30'
    """
    # Daily files state the days more exactly than monthly ones, and come first.
    files = [feed.partitioned[partition] for partition in sorted(feed.partitioned)]
    firsts = [each.first for each in files if each.first]
    lasts = [each.until for each in files if each.last]
    first, ended = (f"{firsts[0]}" if firsts else ""), all(each.has_ended for each in files)
    if not ended:
        days = f"since {first}" if first else ""
    else:
        last = lasts[0] if lasts else "an unknown day"
        days = f"{first} to {last}" if first else f"ended {last}"
    return "; ".join(filter(None, (", ".join(sorted(feed.partitioned)), days)))


def symbol_rows(market: Market, names: Sequence[str]) -> list[list[str]]:
    """Return each symbol with its base and quote asset and its contract; empty if unknown."""
    return [
        [name, part.base or "", part.quote or "", _words(part.contract, part.delivery)]
        for name, part in split_symbols(market, names).items()
    ]


def label_of(feed: Feed, interval: Interval | None) -> str:
    """Return the name of a feed with its interval, such as ``spot klines 1h``."""
    return _words(feed.market, feed.type, interval)


def _words(*parts: object) -> str:
    return " ".join(f"{part}" for part in parts if part)


def all_days(symbols: Sequence[str], known: Mapping[str, Days]) -> dict[str, str] | None:
    """Return the range of days of the files of symbols; None if it is not known of each."""
    found = [known.get(symbol, (None, None)) for symbol in symbols]
    firsts = [first for first, _ in found if first]
    lasts = [last for _, last in found if last]
    if not found or len(firsts) < len(found) or len(lasts) < len(found):
        return None
    return {"start": min(firsts), "end": max(lasts)}


def day_messages(fields: Fields, symbols: Sequence[str], known: Mapping[str, Days]) -> Messages:
    """Return a note if known files of chosen symbols are all outside the requested days.

    >>> days = {"BTCUSDT": ("2017-08-17", "2025-07-15"), "NEWUSDT": ("2025-07-14", "2025-07-15")}
    >>> fields = {"date_range": {"start": "2025-07-01", "end": "2025-07-07"}}
    >>> print(day_messages(fields, [*days], days)["date_range"][0].text)
    no files of these days for 1 of 2 chosen symbols, such as NEWUSDT (2025-07-14 to 2025-07-15)
    """
    asked = fields.get("date_range")
    if not isinstance(asked, Mapping):
        return {}
    start, end = f"{asked.get('start')}", f"{asked.get('end')}"
    outside = [
        (symbol, *known[symbol])
        for symbol in symbols
        if symbol in known and not _overlap(known[symbol], (start, end))
    ]
    if not outside:
        return {}
    symbol, first, last = outside[0]
    files = f"{first} to {last}" if first else "none of this interval"
    count = f"{len(outside):,} of {len(symbols):,}"
    text = f"no files of these days for {count} chosen symbols, such as {symbol} ({files})"
    return {"date_range": [FieldMessage(Level.NOTE, text)]}


def _overlap(files: Days, asked: tuple[str, str]) -> bool:
    first, last = files
    return first is not None and last is not None and first <= asked[1] and asked[0] <= last


def summary_of(
    feed: Feed,
    matrix: Matrix,
    verdict: str,
    symbols: Sequence[str],
    known: Mapping[str, Days],
) -> Summary:
    """Summarize the catalogue: the data types of the market, and the first symbols.

    Parameters
    ----------
    feed : Feed
        The feed that is shown.
    matrix : Matrix
    verdict : str
    symbols : sequence of str
        Those to show first come first.
    known : mapping of str to Days
        The days of the symbols for which they are loaded.
    """
    kinds = [
        (choice["value"], choice["about"], choice["files"]) for choice in type_choices(feed, matrix)
    ]
    rows = [
        (symbol, *(day or "no files" for day in known.get(symbol, ("not loaded", "not loaded"))))
        for symbol in symbols[:_MOST_ROWS]
    ]
    more = len(symbols) - len(rows)
    return Summary(
        f"What the archive has in {feed.market.title}",
        verdict,
        "idle",
        (
            Table(("data type", "content", "files (UTC)"), kinds),
            Table(
                (f"symbol of {feed.type}", "first (UTC)", "last (UTC)"),
                rows,
                below=f"… and {counted(more, 'more symbol')}" if more else "",
            ),
        ),
    )
