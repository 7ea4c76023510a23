"""What a configuration asks for: which folders of the archive, and which days of each.

Pure: the matrix is asked, the archive is not. What cannot exist is told from what
can, and every `Absence` has its word and its sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.annotations import KnownDefect, load_annotations
from binance_archive_kit.archive.enums import DataType, Interval, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    Span,
    Stream,
    period_end,
    periods,
    spell_period,
)
from binance_archive_kit.archive.matrix import (
    Confidence,
    Feed,
    Matrix,
    PartitionAvailability,
    WrongSymbolError,
)
from binance_archive_kit.planning.config import CollectionConfig, PartitionChoice
from binance_archive_kit.planning.date_range import RelativeRange

_DAY = timedelta(days=1)
#: Halts that a note names one by one; further ones are counted.
_HALTS_NAMED = 5
#: Feeds in which a halt of the market shows: they have no rows then.
TRADED = (DataType.KLINES, DataType.TRADES, DataType.AGG_TRADES)


@dataclass(frozen=True, slots=True)
class FolderRequest:
    """Days asked for of one stream.

    Attributes
    ----------
    folder : Folder
    spans : tuple of Span
        Runs of days, in order, whose files are wanted.
    instead : Folder or None
        The daily stream to fall back to for months the archive does not have.
    daily_spans : tuple of Span
        Days outside of whole months, to be taken from `instead`.
    """

    folder: Folder
    spans: tuple[Span, ...]
    facts: PartitionAvailability
    instead: Folder | None = None
    instead_facts: PartitionAvailability | None = None
    daily_spans: tuple[Span, ...] = ()

    def parts(self) -> Iterator[tuple[Folder, tuple[Span, ...]]]:
        """Yield the streams whose files it may take, with the days of each."""
        yield self.folder, self.spans
        if self.instead is not None:
            yield self.instead, self.daily_spans

    def starts(self) -> Iterator[date]:
        """First days of the periods asked for, in order."""
        for start, end in self.spans:
            yield from periods(start, end, self.folder.partition)


@dataclass(slots=True)
class Requests:
    """All that a configuration asks for, before the archive is asked."""

    requests: list[FolderRequest] = field(default_factory=list)
    unavailable: list[Absence] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Notes that the user should hear of at once: something asked for is not used.
    warnings: list[str] = field(default_factory=list)


def expand(config: CollectionConfig, matrix: Matrix, now: datetime) -> Requests:
    """Read a configuration as streams and days, and say what of it cannot exist.

    Parameters
    ----------
    config : CollectionConfig
    matrix : Matrix
    now : datetime
        The present, UTC.
    """
    found = Requests()
    days = config.days(now)
    if isinstance(config.date_range, RelativeRange):
        asked = config.date_range
        found.notes.append(
            f"date_range: {asked.start} to {asked.end} means {days.start} to {days.end} today"
        )
    for name, words in config.intervals.items():
        if name in config.data_types and not name.has_intervals:
            found.warnings.append(
                f"intervals[{name}]: {', '.join(words)} ignored: {name} files have no intervals"
            )
    for market in config.markets:
        symbols = config.symbols_of(market)
        if not symbols:
            found.warnings.append(f"symbols: none given for {market}, so nothing is planned there")
            continue
        for data_type in config.data_types:
            if (market, data_type) in matrix.corrections:
                found.notes.append(matrix.corrections[market, data_type])
            feed = matrix.feed(market, data_type)
            if feed is None:
                detail = f"the archive has no {market.title} {data_type}"
                found.unavailable.append(
                    Absence(market, data_type, Reason.NO_SUCH_FEED, detail, days.start, days.end)
                )
                continue
            _wish_feed(found, config, matrix, feed, symbols, (days.start, days.end))
    found.notes.extend(_auto_would_save(config, found.requests, matrix))
    found.notes.extend(_known_defects(found.requests))
    found.notes.extend(_known_halts(found.requests, days.start, days.end))
    found.notes.extend(_known_changes(found.requests, days.start, days.end))
    found.notes.extend(_doubts(found.requests))
    return found


def _wish_feed(
    found: Requests,
    config: CollectionConfig,
    matrix: Matrix,
    feed: Feed,
    symbols: Sequence[str],
    days: Span,
) -> None:
    """Add the wishes for one feed of one market."""
    filed: dict[str, None] = {}
    for symbol in symbols:
        try:
            filed[matrix.archive_symbol(feed, symbol)] = None
        except WrongSymbolError as error:
            found.unavailable.append(
                Absence(feed.market, feed.type, Reason.WRONG_SYMBOL, str(error), *days, symbol)
            )
    if not filed:
        return
    for interval in _intervals(config, feed):
        ways = feed.partitions_with(interval)
        problem = _unavailable(config.partition, feed, interval, ways, days)
        if problem is not None:
            found.unavailable.append(problem)
            continue
        found.requests.extend(
            _wish(feed, symbol, interval, ways, config.partition, days) for symbol in filed
        )


def _intervals(config: CollectionConfig, feed: Feed) -> list[Interval | None]:
    """Intervals to take of a feed: those asked for, or all that the partition keeps."""
    if not feed.type.has_intervals:
        return [None]
    asked = config.intervals.get(feed.type)
    if asked is not None:
        return [Interval(word) for word in asked]
    partitions = set(feed.partitioned)
    if config.partition is not PartitionChoice.AUTO:
        # Kept in the other partition only: each interval is then said to be unavailable.
        partitions = partitions & {Partition(config.partition.value)} or partitions
    kept = {word for each in partitions for word in feed.partitioned[each].intervals}
    return [word for word in Interval if word in kept]


def _unavailable(
    choice: PartitionChoice,
    feed: Feed,
    interval: Interval | None,
    ways: Mapping[Partition, PartitionAvailability],
    days: Span,
) -> Absence | None:
    """Say why no file of this feed and interval can exist for these days, if so."""

    def absence(reason: Reason, detail: str) -> Absence:
        return Absence(
            feed.market, feed.type, reason, detail, *days, interval=interval and str(interval)
        )

    name = f"{feed.market.title} {feed.type}"
    if not ways:
        kept = {word for facts in feed.partitioned.values() for word in facts.intervals}
        spelled = ", ".join(word for word in Interval if word in kept)
        return absence(
            Reason.NO_SUCH_INTERVAL, f"{name} has no interval {interval}; it has {spelled}"
        )
    only_monthly = Partition.DAILY not in ways
    if choice is PartitionChoice.DAILY and only_monthly and interval is not None:
        return absence(
            Reason.NOT_IN_PARTITION,
            f"only monthly files hold {interval}; partition='auto' takes them",
        )
    if choice is PartitionChoice.MONTHLY and Partition.MONTHLY not in ways:
        return absence(
            Reason.NOT_IN_PARTITION,
            f"{name} has daily files only; partition='daily' or 'auto' takes them",
        )
    if choice is not PartitionChoice.AUTO:
        # The other partition may have ended on another day.
        ways = {each: ways[each] for each in ways if each.value == choice.value} or ways
    # A doubtful date must not stop us from asking the archive.
    if any(facts.confidence is Confidence.HEARSAY for facts in ways.values()):
        return None
    firsts = [facts.first for facts in ways.values()]
    lasts = [facts.last and period_end(facts.last, partition) for partition, facts in ways.items()]
    if all(lasts) and days[0] > max(filter(None, lasts)):
        last = max(facts.last for facts in ways.values() if facts.last)
        return absence(Reason.ENDED, f"{name} ended on {last}")
    if all(firsts) and days[1] < min(filter(None, firsts)):
        return absence(Reason.NOT_BEGUN, f"{name} begins on {min(filter(None, firsts))}")
    return None


def _wish(
    feed: Feed,
    symbol: str,
    interval: Interval | None,
    ways: Mapping[Partition, PartitionAvailability],
    choice: PartitionChoice,
    days: Span,
) -> FolderRequest:
    """Choose the partition for one stream."""

    def folder(partition: Partition) -> Folder:
        return Folder(Stream(feed.market, feed.type, symbol, interval), partition)

    if Partition.DAILY not in ways or choice is PartitionChoice.MONTHLY:
        months = (days[0].replace(day=1), period_end(days[1], Partition.MONTHLY))
        return FolderRequest(folder(Partition.MONTHLY), (months,), ways[Partition.MONTHLY])
    if choice is PartitionChoice.AUTO and Partition.MONTHLY in ways:
        whole, rest = _whole_months(days)
        if whole:
            return FolderRequest(
                folder(Partition.MONTHLY),
                (whole,),
                ways[Partition.MONTHLY],
                instead=folder(Partition.DAILY),
                instead_facts=ways[Partition.DAILY],
                daily_spans=rest,
            )
    return FolderRequest(folder(Partition.DAILY), (days,), ways[Partition.DAILY])


def _whole_months(days: Span) -> tuple[Span | None, tuple[Span, ...]]:
    """Split a run of days into its whole calendar months and the days around them."""
    start, end = days
    first = start if start.day == 1 else period_end(start, Partition.MONTHLY) + timedelta(days=1)
    last = end if end == period_end(end, Partition.MONTHLY) else end.replace(day=1) - _DAY
    if first > last:
        return None, (days,)
    around = ((start, first - _DAY), (last + _DAY, end))
    return (first, last), tuple(span for span in around if span[0] <= span[1])


def _known_defects(asked: Sequence[FolderRequest]) -> Iterator[str]:
    """Name the known defects of the requested feeds, and the symbols that were renamed."""
    spans = {span for request in asked for _, spans in request.parts() for span in spans}
    for defect in load_annotations().defects:
        # The archive has replaced these files since: what is downloaded now is right.
        if defect.fixed_on is not None or not any(defect.overlaps(*_moments(s)) for s in spans):
            continue
        feeds: dict[str, None] = {}
        has_better = defect.better is not None
        for request in asked:
            if any(_is_in(defect, folder, spans) for folder, spans in request.parts()):
                feeds[f"{request.folder.market} {request.folder.data_type}"] = None
                has_better &= bool(_better_days(request))
        if feeds:
            also = "partition='auto' takes the daily files of these days too"
            said = f"{defect}; {also}" if has_better else f"{defect}"
            yield f"date_range: known defect of {', '.join(feeds)}, {said}"
    for rename in load_annotations().renames:
        symbols = {
            request.folder.symbol: None
            for request in asked
            if rename.concerns(request.folder.market, request.folder.symbol)
        }
        if symbols:
            yield f"symbols: {', '.join(symbols)}: {rename.what} [{rename.source}]"


def _is_in(defect: KnownDefect, folder: Folder, spans: Iterable[Span]) -> bool:
    """Return whether a stream has rows with a known defect on some of these days."""
    return defect.concerns(
        folder.market, folder.data_type, folder.symbol, folder.interval, folder.partition
    ) and any(defect.overlaps(*_moments(span)) for span in spans)


def _moments(span: Span) -> tuple[datetime, datetime]:
    """Return the first moment of a run of days, and the first one after it."""
    return datetime.combine(span[0], time(), UTC), datetime.combine(span[1] + _DAY, time(), UTC)


def _better_days(request: FolderRequest) -> list[Span]:
    """Return the days that the monthly files of a wish have wrong and the daily ones right."""
    folder = request.folder
    if request.instead is None:
        return []
    name = folder.market, folder.data_type, folder.symbol, folder.interval, folder.partition
    wrong = load_annotations().wrong_days
    return [(day, day) for span in request.spans for day in sorted(wrong(*name, *span))]


def _known_halts(asked: Sequence[FolderRequest], start: date, end: date) -> Iterator[str]:
    """Name the known halts of the markets, of which no file has rows."""
    for market in dict.fromkeys(request.folder.market for request in asked):
        types = {request.folder.data_type for request in asked if request.folder.market is market}
        first, after = _moments((start, end))
        halts = [
            halt
            for halt in load_annotations().halts
            if halt.market is market and halt.overlaps(first, after)
        ]
        if halts and types & set(TRADED):
            named = "; ".join(halt.when for halt in halts[:_HALTS_NAMED])
            more = f"; and {len(halts) - _HALTS_NAMED} more" if halts[_HALTS_NAMED:] else ""
            yield f"date_range: known halts of the {market} market, without rows: {named}{more}"


def _known_changes(asked: Sequence[FolderRequest], start: date, end: date) -> Iterator[str]:
    """Name the days from which values of the requested feeds have another meaning."""
    for change in load_annotations().changes:
        feeds = {
            f"{request.folder.market} {request.folder.data_type}": None
            for request in asked
            if change.concerns(request.folder.market, request.folder.data_type, start, end)
        }
        if feeds:
            yield f"date_range: {', '.join(feeds)}, {change.on}: {change.what} [{change.source}]"


def _doubts(asked: Sequence[FolderRequest]) -> Iterator[str]:
    """Name the intervals that the archive may have stopped publishing."""
    doubts = {
        f"intervals: {folder.market} {folder.data_type} {folder.partition} {folder.interval}: "
        f"{facts.doubts[folder.interval]}": None
        for request in asked
        for folder, facts in [(request.folder, request.facts)]
        if folder.interval is not None and folder.interval in facts.doubts
    }
    yield from doubts


def resolve_months(request: FolderRequest, published: Iterable[str]) -> list[FolderRequest]:
    """Split a wish for whole months into the months that are published, and days.

    Days that are wrong in a published month, and right in their daily file, are taken too.
    A wish that does not fall back on days is settled already.

    Parameters
    ----------
    request : FolderRequest
    published : iterable of str
        Months the archive has, as spelled in the key.
    """
    if request.instead is None or request.instead_facts is None:
        return [request]
    have = set(published)
    months: list[Span] = []
    days = list(request.daily_spans)
    for start in request.starts():
        taken = spell_period(start, Partition.MONTHLY) in have
        (months if taken else days).append((start, period_end(start, Partition.MONTHLY)))
    days += _better_days(replace(request, spans=tuple(months)))
    ways = (request.folder, months, request.facts), (request.instead, days, request.instead_facts)
    return [FolderRequest(folder, _joined(spans), facts) for folder, spans, facts in ways if spans]


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort runs of days and join those that touch."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + _DAY:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def _auto_would_save(
    config: CollectionConfig, asked: Sequence[FolderRequest], matrix: Matrix
) -> Iterator[str]:
    """Say how many daily files whole monthly ones could replace."""
    if config.partition is not PartitionChoice.DAILY:
        return
    days = months = 0
    for request in asked:
        feed = matrix.feed(request.folder.market, request.folder.data_type)
        monthly = feed and feed.partitioned.get(Partition.MONTHLY)
        if request.folder.partition is Partition.DAILY and monthly:
            for span in request.spans:
                whole, _ = _whole_months(span)
                if whole:
                    days += (whole[1] - whole[0]).days + 1
                    months += sum(1 for _ in periods(*whole, Partition.MONTHLY))
    if months:
        yield (
            f"partition='auto' would take up to {months:,} monthly files "
            f"instead of {days:,} daily ones"
        )
