"""Resolve the patterns of a configuration: against the listing, or an earlier list of the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import date, datetime
from typing import Literal

import polars as pl
from pydantic import ValidationError

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Span, Stream, feed_prefix, parse_period
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.matrix import Feed, FrozenModel, Matrix
from binance_archive_kit.display.background import gather
from binance_archive_kit.errors import ConfigurationError, FieldProblem
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.date_range import DateRange
from binance_archive_kit.planning.lifetimes import PeriodListing
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.requests import FeedName, FolderRequest
from binance_archive_kit.planning.selection import (
    SymbolSelection,
    choose,
    is_pattern,
    require_matches,
)
from binance_archive_kit.storage.records import Records


class UnknownSymbolsError(ConfigurationError):
    """Neither the listing nor the store names the symbols that a pattern matches."""


async def list_symbols(archive: PeriodListing, feed: Feed) -> list[str]:
    """List the symbols that a feed has in any partition, sorted."""
    parents = [feed_prefix(feed.market, partition, feed.type) for partition in feed.partitioned]
    lists = await gather(map(archive.symbols, parents))
    return sorted({name for names in lists for name in names})


async def select_symbols(
    archive: PeriodListing, config: CollectionConfig, matrix: Matrix, now: datetime
) -> list[SymbolSelection]:
    """Select the listed symbols that the patterns of a configuration match, for each feed.

    Raises
    ------
    ConfigurationError
        If a pattern matches no symbol of any feed, or none of these has a quote.
    """
    asked = [*_patterns(config, matrix)]
    lists = await gather(list_symbols(archive, feed) for feed, _ in asked)
    listings = [(*each, listed) for each, listed in zip(asked, lists, strict=True)]
    if asked:
        require_matches(listings, config.quote)
    found = []
    for feed, patterns, listed in listings:
        choice = choose(feed.market, listed, patterns, config.quote, feed.symbol_form)
        found.append(
            SymbolSelection(
                feed.market,
                feed.type,
                patterns,
                config.quote,
                now,
                len(listed),
                choice.symbols,
                left_out=choice.left_out,
                unknown_quote=choice.unknown_quote,
            )
        )
    return found


class _Recorded(FrozenModel):
    """A selection in the records of a store, and the days for which symbols have no files."""

    listed_at: datetime
    listed: int
    symbols: tuple[str, ...]
    ended: tuple[str, ...]
    later: tuple[str, ...]
    absent: tuple[str, ...]
    intervals: tuple[str, ...] | None
    start: date
    end: date


def record_symbols(records: Records, plan: Plan) -> None:
    """Record the selections of a plan in its store, and the streams that it will collect."""
    feeds = {selection.feed for selection in plan.selections}
    record_selections(records, plan.selections, plan.config, streams_of(plan.frame, feeds))


def streams_of(frame: pl.DataFrame, feeds: Set[FeedName]) -> dict[Stream, Span]:
    """Return the first and the last day of the objects of each stream of some feeds."""
    streams: dict[Stream, Span] = {}
    columns = ("market", "data_type", "symbol", "interval")
    days = frame.group_by(columns).agg(pl.col("start").min(), pl.col("end").max())
    for market, data_type, symbol, interval, start, end in days.iter_rows():
        if (market, data_type) in feeds:
            kind = Interval(interval) if interval else None
            streams[Stream(Market(market), DataType(data_type), symbol, kind)] = start, end
    return streams


def record_selections(
    records: Records,
    selections: Sequence[SymbolSelection],
    config: CollectionConfig,
    streams: Mapping[Stream, Span],
) -> None:
    """Record the selections of a collection, and the days of the streams that it has found."""
    asked = config.days()
    recorded = {
        each.name: _Recorded(
            listed_at=each.listed_at,
            listed=each.listed,
            symbols=each.symbols,
            ended=each.ended,
            later=each.later,
            absent=each.absent,
            intervals=config.intervals.get(each.data_type),
            start=asked.start,
            end=asked.end,
        ).model_dump(mode="json")
        for each in selections
    }
    records.record_selections(recorded, streams)


def recall_symbols(
    records: Records, config: CollectionConfig, matrix: Matrix
) -> list[SymbolSelection]:
    """Return the selections of the last collection with these patterns, from the store.

    Raises
    ------
    UnknownSymbolsError
        If there was none.
    """
    days = config.days()
    recorded = records.selections() if config.has_patterns else {}
    found = []
    for feed, patterns in _patterns(config, matrix):
        never = SymbolSelection(feed.market, feed.type, patterns, config.quote, datetime.min, 0, ())
        try:
            earlier = _Recorded.model_validate(recorded.get(never.name))
        except ValidationError:  # none, or a damaged one
            raise UnknownSymbolsError(
                FieldProblem(
                    "symbols",
                    f"unknown which symbols {', '.join(map(repr, patterns))} matches: the listing "
                    "is not read (listing=False), and no earlier collection recorded them in "
                    f"{str(records.root)!r}; name the symbols, or read the listing",
                )
            ) from None
        intervals = config.intervals.get(feed.type)
        selection = replace(
            never,
            listed_at=earlier.listed_at,
            listed=earlier.listed,
            symbols=earlier.symbols,
            # Known for other days only in one direction, and for the same intervals.
            absent=earlier.absent if earlier.intervals == intervals else (),
            ended=earlier.ended if days.start >= earlier.start else (),
            later=earlier.later if days.end <= earlier.end else (),
        )
        found.append(selection)
    return found


def _patterns(config: CollectionConfig, matrix: Matrix) -> Iterator[tuple[Feed, tuple[str, ...]]]:
    """Yield the requested feeds, and the patterns of their symbols, where there are any."""
    for market in config.markets:
        patterns = tuple(filter(is_pattern, config.symbols_of(market)))
        for data_type in config.data_types if patterns else ():
            feed = matrix.feed(market, data_type)
            if feed is not None:
                yield feed, patterns


def without_dead(
    requests: Sequence[FolderRequest],
    listings: Mapping[Folder, FolderListing],
    config: CollectionConfig,
    selections: Sequence[SymbolSelection],
) -> tuple[list[FolderRequest], list[SymbolSelection]]:
    """Drop the requests of selected symbols that have no file of the requested days.

    A pattern matches symbols of all times and intervals. The files of a symbol that end before
    the days, or begin after them, are not missing; the selection names it.

    Parameters
    ----------
    requests : sequence of FolderRequest
    listings : mapping of Folder to FolderListing
        The listings of these requests, and of others.
    config : CollectionConfig
        With settled days.
    selections : sequence of SymbolSelection
    """
    days = config.days()
    folders: dict[tuple[FeedName, str], list[Folder]] = {}
    for folder in listings:
        name = (folder.market, folder.data_type), folder.symbol
        folders.setdefault(name, []).append(folder)
    dropped: set[tuple[FeedName, str]] = set()
    found = []
    for selection in selections:
        without: dict[str, list[str]] = {"before": [], "after": [], "nowhere": []}
        for symbol in set(selection.symbols) - set(config.symbols_of(selection.market)):
            name = selection.feed, symbol
            position = _position({each: listings[each] for each in folders.get(name, ())}, days)
            if position in without:
                without[position].append(symbol)
                dropped.add(name)
        ended, later, absent = (tuple(sorted(names)) for names in without.values())
        found.append(replace(selection, ended=ended, later=later, absent=absent))
    kept = [
        request
        for request in requests
        if ((request.folder.market, request.folder.data_type), request.folder.symbol) not in dropped
    ]
    return kept, found


def _position(
    listings: Mapping[Folder, FolderListing], days: DateRange
) -> Literal["before", "after", "nowhere", "within"]:
    """Return whether the files of a symbol lie before, after or within the days, or nowhere."""
    if not listings or any(listed.objects or listed.misnamed for listed in listings.values()):
        return "within"
    firsts = {
        folder: parse_period(listed.first, folder.partition)
        for folder, listed in listings.items()
        if listed.first is not None
    }
    if not firsts:
        return "nowhere"
    first = min(firsts.values())
    if first < days.start:
        return "before" if all(listings[folder].ends for folder in firsts) else "within"
    # A month tells the first day less exactly than a day does.
    daily = [day for folder, day in firsts.items() if folder.partition is Partition.DAILY]
    return "after" if min(daily, default=first) > days.end else "within"
