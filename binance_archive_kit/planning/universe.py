"""`bak.universe`: which symbols a feed has or had, and from when to when, by the listing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

import polars as pl

from binance_archive_kit.archive.endpoint import Route, endpoint_of
from binance_archive_kit.archive.enums import (
    INTERVAL_ALIASES,
    DataType,
    Interval,
    Market,
    Partition,
    read_market,
    read_names,
)
from binance_archive_kit.archive.keys import (
    Folder,
    Stream,
    feed_prefix,
    parse_period,
    period_end,
)
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.archive.matrix import Feed, Matrix, load_matrix
from binance_archive_kit.archive.symbols import Contract, SymbolParts, events_of, split_symbols
from binance_archive_kit.display.background import run
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.errors import ConfigurationError, field_error
from binance_archive_kit.planning.field_values import read_data_type, read_word
from binance_archive_kit.planning.requests import TRADED
from binance_archive_kit.planning.selection import choose, is_pattern
from binance_archive_kit.suggestions import nearest, unknown
from binance_archive_kit.timestamps import resolve_day

#: Most keys of one page of a listing: about 500 files with their checksums.
_PAGE = 1_000
#: Days before the newest published one in which a living symbol has a file.
_WINDOW = timedelta(days=14)
#: Days by which a symbol may end before the newest one and not have ended: files come late.
_GRACE = timedelta(days=3)
_DAY = timedelta(days=1)

_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "market": pl.Enum(Market),
    "symbol": pl.String,
    "base": pl.String,
    "quote": pl.String,
    "contract": pl.Enum(Contract),
    "delivery": pl.Date,
    "first": pl.Date,
    "last": pl.Date,
    "ended": pl.Boolean,
    "delisted": pl.Boolean,
    "evidence": pl.String,
    "changes": pl.List(pl.String),
    "listed_at": pl.Datetime("us", "UTC"),
}
UNIVERSE_SCHEMA = pl.Schema(_COLUMNS)


class PeriodListing(Protocol):
    """The questions to the listing: the symbols of a feed, and a page of a folder's periods."""

    async def symbols(self, parent: str) -> list[str]:
        """List the symbols below a feed's prefix."""

    async def periods(self, folder: Folder, after: str, keys: int) -> tuple[list[str], bool]:
        """List the periods of a folder from one on, and whether more may follow; one page."""


def universe(
    market: str,
    data_type: str,
    *,
    interval: str | None = None,
    at: str | date | None = None,
    symbols: str | Iterable[str] | None = None,
    quote: str | Iterable[str] | None = None,
    endpoint_url: str | None = None,
    matrix_path: str | None = None,
    timeout_seconds: float = 300,
) -> pl.DataFrame:
    """List the symbols that a feed has or had, each with its first and last day.

    Reads the archive's listing, with at most 4 requests per symbol and interval where the feed
    has monthly files; symbols that have ended stay in the archive, so the list is free of
    survivorship bias. Shows its progress.

    Parameters
    ----------
    market, data_type : str
        A feed, spelled as in a configuration.
    interval : str, optional
        The interval of candles; by default all that the feed has, which takes as many times
        longer.
    at : str or date, optional
        Only symbols that had files on this UTC day, such as ``"2021-06-01"`` or ``"-1d"``.
    symbols : str or iterable of str, optional
        Names and patterns such as ``"*USDT"``; by default all.
    quote : str or iterable of str, optional
        Only symbols with these quote assets. ``"USDT"`` finds ``BNXUSDTSETTLED`` too.
    endpoint_url, matrix_path, timeout_seconds
        As in a configuration.

    Returns
    -------
    polars.DataFrame
        A row per symbol, in the order of the listing: ``market``, ``symbol``, ``base``,
        ``quote``, ``contract`` and ``delivery`` (null where unknown); ``first`` and ``last``
        (UTC days of the first and last file, both inclusive; the ends of months where there are
        only monthly files); ``ended`` (no recent file, with the ``evidence`` in words);
        ``delisted`` (null unless every interval was listed); ``changes`` (known renames and
        reuses of the symbol); ``listed_at`` (UTC). It may be given as ``symbols=`` to
        `collect`. Files are no trades: USD-M candles of settled contracts go on, without
        trades, so their ``last`` is later than the last trade.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, or no symbol of the archive matches.
    ListingError
        If the archive's listing cannot be read.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bak.universe("futures_um", "klines", interval="1d", quote="USDT")  # doctest: +SKIP
    """
    matrix = load_matrix(matrix_path)
    feed = _read_feed(matrix, market, data_type)
    intervals = _read_intervals(feed, interval)
    now = datetime.now(UTC)
    day = None if at is None else _read_day(at, now.date())
    asked = ["*"] if symbols is None else read_names("symbols", symbols)
    quotes = [] if quote is None else read_names("quote", quote)
    endpoint = endpoint_of(endpoint_url, matrix)
    Route.to(endpoint)
    progress = Progress()

    async def work() -> pl.DataFrame:
        async with ListingClient(endpoint, matrix.archive.bucket, timeout_seconds) as archive:
            listed = await list_symbols(archive, feed)
            names = _chosen(feed, listed, asked, quotes)
            return await _survey(archive, matrix, feed, intervals, listed, names, now, progress)

    frame = run(work, progress)
    if day is not None:
        alive = (pl.col("last") >= day) | ~pl.col("ended")
        frame = frame.filter(pl.col("first") <= day, alive)
    return frame


def _read_feed(matrix: Matrix, market: str, data_type: str) -> Feed:
    """Return the feed of a market and a data type.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    known = read_market(market)
    kind = read_data_type("data_type", data_type)
    feed = matrix.feed(known, kind)
    if feed is None:
        raise ConfigurationError(unknown("data_type", data_type, matrix.data_types(known)))
    return feed


def _read_intervals(feed: Feed, interval: str | None) -> list[Interval | None]:
    """Return the intervals to list: the given one, or all of the feed."""
    if not feed.type.has_intervals:
        if interval is not None:
            raise field_error("interval", f"{feed.type} files have no intervals")
        return [None]
    published = {each for known in feed.partitioned.values() for each in known.intervals}
    if interval is None:
        return [each for each in Interval if each in published]
    found = read_word("interval", Interval, interval, INTERVAL_ALIASES)
    if found not in published:
        valid = [each for each in Interval if each in published]
        raise ConfigurationError(unknown("interval", interval, valid))
    return [found]


def _read_day(at: str | date, today: date) -> date:
    try:
        return resolve_day(at, today)
    except ValueError as error:
        raise field_error("at", str(error)) from None


async def list_symbols(archive: PeriodListing, feed: Feed) -> list[str]:
    """List the symbols of a feed, in any partition."""
    parents = [feed_prefix(feed.market, partition, feed.type) for partition in feed.partitioned]
    lists = await asyncio.gather(*map(archive.symbols, parents))
    return sorted({name for names in lists for name in names})


def _chosen(
    feed: Feed, listed: Sequence[str], asked: Sequence[str], quotes: Sequence[str]
) -> list[str]:
    """Return the listed symbols that were asked for.

    Raises
    ------
    ConfigurationError
        If a name is not listed, or nothing matches.
    """
    for name in asked:
        if not is_pattern(name) and name not in set(listed):
            raise ConfigurationError(unknown("symbols", name, listed))
    chosen = choose(feed.market, listed, asked, quotes, feed.symbol_form).symbols
    if not chosen:
        raise nothing_matches(feed, listed, asked, quotes)
    return list(chosen)


def nothing_matches(
    feed: Feed, listed: Sequence[str], patterns: Sequence[str], quotes: Sequence[str]
) -> ConfigurationError:
    """Return the error for patterns and quotes that match no listed symbol."""
    name = f"{feed.market.title} {feed.type}"
    if not listed:
        return field_error("symbols", f"the archive lists no symbol of {name}")
    matched = choose(feed.market, listed, patterns, (), feed.symbol_form).symbols
    if matched and quotes:
        known = sorted({part.quote for part in split_symbols(feed.market, matched).values()} - {None})
        guess = nearest(quotes[0], known)
        hint = f"; did you mean {guess!r}?" if guess else "."
        return field_error(
            "quote",
            f"none of the {len(matched):,} matching symbols of {name} is quoted in "
            f"{', '.join(map(repr, quotes))}{hint} Quotes there: {', '.join(known) or 'none known'}",
        )
    guess = nearest(patterns[0].replace("*", "").replace("?", ""), listed)
    hint = f"; the nearest is {guess!r}" if guess else f", such as {listed[0]!r}"
    given = ", ".join(map(repr, patterns[:5]))
    return field_error("symbols", f"{given} matches none of the {len(listed):,} symbols of {name}{hint}")


# Lifetimes


@dataclass(frozen=True, slots=True)
class _Life:
    """First and last day of a stream's files, UTC, both inclusive; None without files.

    Attributes
    ----------
    files : str
        What the last files are, in words.
    recent : bool
        Whether there are files of the last days that are due.
    """

    first: date | None = None
    last: date | None = None
    files: str = "no file"
    recent: bool = False

    def __or__(self, other: _Life) -> _Life:
        """Return the life of a symbol, from those of two of its intervals."""
        if self.first is None or other.first is None:
            return self if other.first is None else other
        longer = max(self, other, key=lambda life: life.last or date.min)
        return replace(
            longer,
            first=min(self.first, other.first),
            recent=self.recent or other.recent,
        )


@dataclass(frozen=True, slots=True)
class _Due:
    """First days of the newest periods that should be published by now."""

    day: date
    month: date

    @classmethod
    def at(cls, matrix: Matrix, now: datetime) -> _Due:
        """Return the newest periods due at a time."""
        day = now.date()
        while matrix.published_at(day, Partition.DAILY) > now:
            day -= _DAY
        month = now.date().replace(day=1)
        while matrix.published_at(month, Partition.MONTHLY) > now:
            month = (month - _DAY).replace(day=1)
        return cls(day, month)


async def _life_of(
    archive: PeriodListing, folders: Mapping[Partition, Folder], due: _Due
) -> _Life:
    """Find the first and the last day of one stream, in three or four listings.

    Pages cannot be read backwards. A living stream is recognized by its recent days; the end of
    another one is in the page that begins with its last month.
    """
    daily, monthly = folders.get(Partition.DAILY), folders.get(Partition.MONTHLY)
    recent: list[str] = []
    if daily is not None:
        window = due.day - _WINDOW
        recent, _ = await archive.periods(daily, window.isoformat(), _FEW)
    months: list[str] = []
    if monthly is not None:
        months = await (_first(archive, monthly) if recent else _all(archive, monthly))
    days = recent
    if daily is not None:
        first = await _first(archive, daily)
        days = first + recent
        if first and not recent:
            days = first + await _all(archive, daily, months[-1] if months else "")
    return _life(days, months, recent=bool(recent) or (daily is None and _reaches(months, due)))


def _reaches(months: Sequence[str], due: _Due) -> bool:
    return bool(months) and parse_period(months[-1], Partition.MONTHLY) >= due.month


async def _first(archive: PeriodListing, folder: Folder) -> list[str]:
    """Return the first period of a folder, whatever other keys precede it; empty without files."""
    for keys in (1, _PAGE):
        periods, more = await archive.periods(folder, "", keys)
        if periods or not more:
            break
    return periods[:1]


async def _all(archive: PeriodListing, folder: Folder, after: str = "") -> list[str]:
    """Return the periods of a folder, from one on; a page has about 500."""
    found: list[str] = []
    more = True
    while more:
        periods, more = await archive.periods(folder, after, _PAGE)
        if not periods:
            break
        found += periods
        after = f"{periods[-1]}.zip{CHECKSUM_SUFFIX}"
    return found


def _life(days: Sequence[str], months: Sequence[str], *, recent: bool) -> _Life:
    """Join what is listed of the days and the months of a stream."""
    first = last = None
    files = []
    if days:
        first = parse_period(days[0], Partition.DAILY)
        last = parse_period(days[-1], Partition.DAILY)
        files.append(f"daily files to {last}")
    if months:
        begins = parse_period(months[0], Partition.MONTHLY)
        first = first if first and first <= period_end(begins, Partition.MONTHLY) else begins
        final = parse_period(months[-1], Partition.MONTHLY)
        if last is None or last < final:
            last = period_end(final, Partition.MONTHLY)
            files.append(f"monthly files to {months[-1]}")
    return _Life(first, last, " and ".join(files) or "no file", recent)


async def _survey(
    archive: PeriodListing,
    matrix: Matrix,
    feed: Feed,
    intervals: Sequence[Interval | None],
    names: Sequence[str],
    parts: Mapping[str, SymbolParts],
    progress: Progress,
) -> pl.DataFrame:
    """List the lifetimes of symbols, and put them into a frame."""
    now = datetime.now(UTC)
    due = _Due.at(matrix, now)
    progress.begin("listing", len(names), unit="symbols")

    async def life(name: str) -> _Life:
        found = _Life()
        for interval in intervals:
            stream = Stream(feed.market, feed.type, name, interval)
            partitions = feed.partitions_with(interval)
            folders = {partition: Folder(stream, partition) for partition in partitions}
            found |= await _life_of(archive, folders, due)
        progress.done += 1
        return found

    lives = await gather(map(life, names))
    newest = max((each.last for each in lives if each.last and each.recent), default=None)
    whole = len(intervals) > 1 or intervals == [None]
    judged = feed.type in TRADED and whole
    rows = []
    for name, each in zip(names, lives, strict=True):
        ended, evidence = _ended(each, parts[name], newest, due)
        rows.append(
            (
                feed.market.value,
                name,
                parts[name].base,
                parts[name].quote,
                parts[name].contract and parts[name].contract.value,
                parts[name].delivery,
                each.first,
                each.last,
                ended,
                ended if judged else None,
                evidence,
                [str(event) for event in events_of(feed.market, name)],
                now,
            )
        )
    return pl.DataFrame(rows, schema=UNIVERSE_SCHEMA, orient="row")


def _ended(
    life: _Life, parts: SymbolParts, newest: date | None, due: _Due
) -> tuple[bool | None, str]:
    """Return whether the files of a symbol have ended, and the evidence; None without files."""
    if life.last is None:
        return None, life.files
    delivered = f"; delivered on {parts.delivery}" if parts.delivery else ""
    others = f"; other symbols go on to {newest}" if newest and newest > life.last else ""
    if not life.recent:
        nothing = f"{life.files}, none of the last days due ({due.day - _WINDOW} to {due.day})"
        return True, f"{nothing}{others}{delivered}"
    if newest and life.last < min(newest, due.day) - _GRACE:
        return True, f"{life.files}{others}{delivered}"
    if parts.delivery and parts.delivery <= life.last:
        return True, f"{life.files}{delivered}"
    return False, life.files
