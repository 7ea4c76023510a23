"""`bak.universe`: which symbols a feed has or had, and from when to when, by the listing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

import polars as pl

from binance_archive_kit.archive.endpoint import Route, endpoint_of
from binance_archive_kit.archive.enums import Interval, Market, read_interval, read_names
from binance_archive_kit.archive.keys import Folder, Stream
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.archive.matrix import Feed, load_matrix
from binance_archive_kit.archive.schemas import read_feed
from binance_archive_kit.archive.symbols import Contract, SymbolParts, events_of, split_symbols
from binance_archive_kit.display.background import gather, run
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.errors import ConfigurationError, field_error
from binance_archive_kit.planning.lifetimes import Due, Life, PeriodListing, life_of
from binance_archive_kit.planning.requests import TRADED
from binance_archive_kit.planning.selection import choose, is_pattern, require_matches
from binance_archive_kit.planning.symbol_lists import list_symbols
from binance_archive_kit.suggestions import unknown
from binance_archive_kit.timestamps import resolve_day

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


def universe(
    market: str,
    data_type: str,
    *,
    interval: str | None = None,
    at: str | date | None = None,
    symbols: str | Iterable[str] = "*",
    quote: str | Iterable[str] | None = None,
    endpoint_url: str | None = None,
    matrix_path: str | None = None,
    timeout_seconds: float = 300,
) -> pl.DataFrame:
    """List the symbols that a feed has or had, each with its first and last day.

    Reads the archive's listing, with at most 4 requests per symbol and interval where the feed
    has monthly files. Symbols that have ended stay in the archive, so the list is free of
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
    symbols : str or iterable of str
        Names, and patterns such as ``"*USDT"``; by default all.
    quote : str or iterable of str, optional
        Only symbols with these quote assets; ``"USDT"`` finds ``BNXUSDTSETTLED`` too.
    endpoint_url, matrix_path, timeout_seconds
        As in a configuration.

    Returns
    -------
    polars.DataFrame
        A row per symbol, sorted by name. ``market``, ``symbol``; ``base``, ``quote``,
        ``contract`` and ``delivery`` (null where unknown); ``first`` and ``last`` (UTC days of
        the first and last file, both inclusive; whole months where there are only monthly
        files; null for a symbol without files of the interval); ``ended`` (the files
        end while those of other symbols go on) with its ``evidence``; ``delisted`` (null unless
        all intervals of the candles were listed);
        ``changes`` (known renames and reuses of the symbol, with days and sources);
        ``listed_at`` (UTC). The frame, or a part of it, may be given as ``symbols=`` to
        `collect`. Files are not trades: USD-M candles of a settled contract go on without
        trades, so ``last`` may be later than its last trade.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, or no symbol matches a pattern or has a quote.
    ListingError
        If the archive's listing cannot be read.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bak.universe("spot", "klines", interval="1d", at="2021-06-01")  # doctest: +SKIP
    """
    matrix = load_matrix(matrix_path)
    feed = matrix.feeds[read_feed(market, data_type)]
    intervals = _intervals_of(feed, interval)
    day = None if at is None else _day_of(at)
    patterns = read_names("symbols", symbols)
    quotes = [] if quote is None else read_names("quote", quote)
    endpoint = endpoint_of(endpoint_url, matrix)
    # Raises now if a proxy or certificate is invalid.
    Route.to(endpoint)
    progress = Progress()

    async def work() -> pl.DataFrame:
        async with ListingClient(endpoint, matrix.archive.bucket, timeout_seconds) as archive:
            listed = await list_symbols(archive, feed)
            names = _choose(feed, listed, patterns, quotes)
            due = Due.at(matrix, started)
            lives = await _lives(archive, feed, intervals, names, due, progress)
            others: list[Life] = []
            if not any(life.recent for life in lives):
                # Whether the archive goes on is seen from symbols that surely do.
                known = [name for name in matrix.symbols.get(feed.market, ()) if name in listed]
                others = await _lives(archive, feed, intervals, known[:2], due, progress)
        parts = split_symbols(feed.market, listed)
        whole = feed.type in TRADED and intervals == _intervals_of(feed, None)
        chosen = {name: parts[name] for name in names}
        return _frame(feed, chosen, lives, others, whole, started)

    started = datetime.now(UTC)
    frame = run(work, progress)
    if day is None:
        return frame
    return frame.filter(pl.col("first") <= day, (pl.col("last") >= day) | ~pl.col("ended"))


def _intervals_of(feed: Feed, interval: str | None) -> list[Interval | None]:
    """Return the given interval of a feed, or all that it has."""
    if not feed.type.has_intervals:
        if interval is not None:
            raise field_error("interval", f"{feed.type} files have no intervals")
        return [None]
    published = {each for known in feed.partitioned.values() for each in known.intervals}
    valid = [each for each in Interval if each in published]
    if interval is None:
        return [*valid]
    found = read_interval(interval)
    if found not in published:
        raise ConfigurationError(unknown("interval", interval, valid))
    return [found]


def _day_of(at: str | date) -> date:
    today = datetime.now(UTC).date()
    try:
        day = resolve_day(at, today)
    except ValueError as error:
        raise field_error("at", str(error)) from None
    if day > today:
        raise field_error("at", f"{day} is in the future; give a UTC day up to {today}")
    return day


def _choose(
    feed: Feed, listed: Sequence[str], patterns: Sequence[str], quotes: Sequence[str]
) -> tuple[str, ...]:
    """Choose listed symbols.

    Raises
    ------
    ConfigurationError
        If a name is not listed, or nothing matches a pattern or has a quote.
    """
    for name in patterns:
        if not is_pattern(name) and name not in listed:
            raise ConfigurationError(unknown("symbols", name, listed))
    require_matches([(feed, patterns, listed)], quotes)
    return choose(feed.market, listed, patterns, quotes, feed.symbol_form).symbols


async def _lives(
    archive: PeriodListing,
    feed: Feed,
    intervals: Sequence[Interval | None],
    names: Sequence[str],
    due: Due,
    progress: Progress,
) -> list[Life]:
    """Find the first and the last day of each symbol, over all of the intervals."""
    progress.begin("listing", len(names), unit="symbols")

    async def life(name: str) -> Life:
        lives = []
        for interval in intervals:
            stream = Stream(feed.market, feed.type, name, interval)
            partitions = feed.partitions_with(interval)
            folders = {partition: Folder(stream, partition) for partition in partitions}
            lives.append(await life_of(archive, folders, due))
        progress.done += 1
        whole, *others = lives
        for other in others:
            whole |= other
        return whole

    return await gather(map(life, names))


def _frame(
    feed: Feed,
    parts: dict[str, SymbolParts],
    lives: Sequence[Life],
    others: Sequence[Life],
    all_intervals: bool,
    listed_at: datetime,
) -> pl.DataFrame:
    """Return the frame of a universe; `others` are lives of symbols that are not in it."""
    every = [life for life in (*lives, *others) if life.last]
    publishing = any(life.recent for life in every)
    newest = max((life.last for life in every if life.last), default=None)
    feed_ended = all(files.has_ended for files in feed.partitioned.values())
    market = feed.market
    rows = []
    for (name, part), life in zip(parts.items(), lives, strict=True):
        ended, evidence = life.ended(newest, publishing=publishing)
        if feed_ended and ended is not None:
            ended, evidence = True, f"{life.files}; {market.title} {feed.type} has ended"
        elif part.delivery and life.last and part.delivery <= life.last:
            ended, evidence = True, f"{evidence}; delivered on {part.delivery}"
        changes = [str(event) for event in events_of(market, name)]
        delisted = ended if all_intervals else None
        days = part.delivery, life.first, life.last
        kind = part.base, part.quote, part.contract
        rows.append((market, name, *kind, *days, ended, delisted, evidence, changes, listed_at))
    return pl.DataFrame(rows, schema=UNIVERSE_SCHEMA, orient="row")
