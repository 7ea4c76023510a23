"""Expand a configuration into requested folders, with the days of each.

Uses the matrix; accesses neither the network nor the disk. Data that cannot exist becomes an
`Absence` with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import NamedTuple

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.annotations import KnownDefect, load_annotations
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    Span,
    Stream,
    format_period,
    parse_period,
    period_end,
    periods,
)
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.matrix import (
    Confidence,
    Feed,
    Matrix,
    PartitionAvailability,
    WrongSymbolError,
)
from binance_archive_kit.archive.symbols import SymbolEvent, crossings
from binance_archive_kit.planning.config import CollectionConfig, PartitionChoice
from binance_archive_kit.planning.date_range import RelativeRange
from binance_archive_kit.planning.selection import is_pattern

#: Market and data type of a feed.
FeedName = tuple[Market, DataType]
_DAY = timedelta(days=1)
#: Number of halts that a note lists; the others are counted.
_HALTS_NAMED = 5
#: Feeds without rows while their market is halted.
TRADED = (DataType.KLINES, DataType.TRADES, DataType.AGG_TRADES)


@dataclass(frozen=True, slots=True)
class FolderRequest:
    """Days requested of one folder.

    Attributes
    ----------
    folder : Folder
    spans : tuple of Span
        Runs of days, in order, whose files are requested.
    availability : PartitionAvailability
    rest : FolderRequest or None
        The daily folder of the same stream, with the days around whole months. Its files
        also replace months that are not in the archive.
    since : date
        The first day on which daily files replace such months.
    """

    folder: Folder
    spans: tuple[Span, ...]
    availability: PartitionAvailability
    rest: FolderRequest | None = None
    since: date = date.min

    def parts(self) -> list[FolderRequest]:
        """Return this request, and the one for the rest."""
        return [self, self.rest] if self.rest else [self]

    def starts(self) -> Iterator[date]:
        """Yield the first days of the requested periods, in order."""
        for start, end in self.spans:
            yield from periods(start, end, self.folder.partition)


class Note(NamedTuple):
    """A remark on a field of the configuration.

    Attributes
    ----------
    field : str
        Name of the field, with a key in brackets; empty if the note is about no field.
    text : str
        The note without the name.
    """

    field: str
    text: str

    def __str__(self) -> str:
        """Return the text after the name of the field."""
        return f"{self.field}: {self.text}" if self.field else self.text


@dataclass(slots=True)
class Requests:
    """The requests of a configuration, before the archive is listed."""

    folders: list[FolderRequest] = field(default_factory=list)
    unavailable: list[Absence] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    #: Notes on unused parts of the configuration; shown immediately.
    warnings: list[Note] = field(default_factory=list)


def expand(
    config: CollectionConfig,
    matrix: Matrix,
    now: datetime,
    selected: Mapping[FeedName, Sequence[str]] | None = None,
) -> Requests:
    """Expand a configuration into folders and days, and find what cannot exist.

    Parameters
    ----------
    config : CollectionConfig
    matrix : Matrix
    now : datetime
        The present, aware.
    selected : mapping of (Market, DataType) to sequence of str, optional
        The symbols that patterns match, by feed; without them patterns request nothing.
    """
    resolved = config.days(now)
    days = resolved.start, resolved.end
    found = Requests(notes=[*_resolved_days(config, days)], warnings=[*unused_parts(config)])
    for market in config.markets:
        for data_type in config.data_types if config.symbols_of(market) else ():
            if (market, data_type) in matrix.corrections:
                found.notes.append(Note("", matrix.corrections[market, data_type]))
            feed = matrix.feed(market, data_type)
            if feed is not None:
                names = [name for name in config.symbols_of(market) if not is_pattern(name)]
                names += (selected or {}).get((market, data_type), ())
                _expand_feed(config, matrix, feed, names, days, found)
                continue
            detail = f"the archive has no {market.title} {data_type}"
            absence = Absence(market, data_type, Reason.NO_SUCH_FEED, detail, *days)
            found.unavailable.append(absence)
    found.notes += _months_for_days(config, found.folders, days, matrix)
    found.notes += known_notes(found.folders, days)
    return found


def _expand_feed(
    config: CollectionConfig,
    matrix: Matrix,
    feed: Feed,
    names: Iterable[str],
    days: Span,
    found: Requests,
) -> None:
    """Add a request for each symbol and interval of a feed, or an absence."""
    absence_of = partial(Absence, feed.market, feed.type)
    symbols: dict[str, None] = {}
    for symbol in names:
        try:
            symbols[matrix.archive_symbol(feed, symbol)] = None
        except WrongSymbolError as error:
            absence = absence_of(Reason.WRONG_SYMBOL, str(error), *days, symbol)
            found.unavailable.append(absence)
    for interval in requested_intervals(config, feed) if symbols or config.has_patterns else ():
        problem = unavailable(config.partition, feed, interval, days)
        if problem is not None:
            absence = absence_of(*problem, *days, interval=interval and interval.value)
            found.unavailable.append(absence)
            continue
        partitions = feed.partitions_with(interval)
        for symbol in symbols:
            stream = Stream(feed.market, feed.type, symbol, interval)
            found.folders.append(_request(stream, partitions, config.partition, days))


def requested_intervals(config: CollectionConfig, feed: Feed) -> list[Interval | None]:
    """Return the requested intervals of a feed; by default all of the chosen partition."""
    if not feed.type.has_intervals:
        return [None]
    requested = config.intervals.get(feed.type)
    if requested is not None:
        return [Interval(word) for word in requested]
    partitions = set(feed.partitioned)
    if config.partition is not PartitionChoice.AUTO:
        # If only the other partition exists, its intervals are reported as unavailable.
        partitions = partitions & {Partition(config.partition.value)} or partitions
    return _published_intervals(feed, partitions)


def _published_intervals(feed: Feed, partitions: Iterable[Partition]) -> list[Interval | None]:
    published = {word for each in partitions for word in feed.partitioned[each].intervals}
    return [word for word in Interval if word in published]


def unavailable(
    choice: PartitionChoice, feed: Feed, interval: Interval | None, days: Span
) -> tuple[Reason, str] | None:
    """Return why no file of this feed and interval can exist for these days; None if one can."""
    name = f"{feed.market.title} {feed.type}"
    partitions = feed.partitions_with(interval)
    if not partitions:
        valid = ", ".join(map(str, _published_intervals(feed, feed.partitioned)))
        return Reason.NO_SUCH_INTERVAL, f"{name} has no interval {interval}; it has {valid}"
    if choice is PartitionChoice.DAILY and Partition.DAILY not in partitions and interval:
        detail = f"only monthly files have {interval}; use partition='auto'"
        return Reason.NOT_IN_PARTITION, detail
    if choice is PartitionChoice.MONTHLY and Partition.MONTHLY not in partitions:
        detail = f"{name} has daily files only; use partition='daily' or 'auto'"
        return Reason.NOT_IN_PARTITION, detail
    begins, ends, last = known_days(choice, partitions)
    if ends is not None and days[0] > ends:
        return Reason.ENDED, f"{name} ended on {last}"
    if begins is not None and days[1] < begins:
        return Reason.NOT_BEGUN, f"{name} begins on {begins}"
    return None


def known_days(
    choice: PartitionChoice, partitions: Mapping[Partition, PartitionAvailability]
) -> tuple[date | None, date | None, date | None]:
    """Return the first and the last days of files, where they are known for certain.

    Parameters
    ----------
    choice : PartitionChoice
    partitions : mapping of Partition to PartitionAvailability
        The partitions that have the interval.

    Returns
    -------
    begins, ends : date or None
        First and last UTC day of any file.
    last : date or None
        First day of the last file.
    """
    if choice is not PartitionChoice.AUTO:
        # The other partition may have ended on another day.
        chosen = Partition(choice.value)
        partitions = {chosen: partitions[chosen]} if chosen in partitions else partitions
    # A doubtful date does not rule out files.
    if any(known.confidence is Confidence.HEARSAY for known in partitions.values()):
        return None, None, None
    firsts = [known.first for known in partitions.values() if known.first]
    lasts = {partition: known.last for partition, known in partitions.items() if known.last}
    begins = min(firsts) if len(firsts) == len(partitions) else None
    if len(lasts) < len(partitions):
        return begins, None, None
    ends = max(period_end(last, partition) for partition, last in lasts.items())
    return begins, ends, max(lasts.values())


def _request(
    stream: Stream,
    partitions: Mapping[Partition, PartitionAvailability],
    choice: PartitionChoice,
    days: Span,
) -> FolderRequest:
    """Choose the partition for one stream."""

    def request(
        partition: Partition, *spans: Span, rest: FolderRequest | None = None
    ) -> FolderRequest:
        return FolderRequest(Folder(stream, partition), spans, partitions[partition], rest)

    if Partition.DAILY not in partitions or choice is PartitionChoice.MONTHLY:
        months = days[0].replace(day=1), period_end(days[1], Partition.MONTHLY)
        return request(Partition.MONTHLY, months)
    if choice is PartitionChoice.AUTO and Partition.MONTHLY in partitions:
        months_, around = _whole_months(days)
        if months_:
            return request(Partition.MONTHLY, months_, rest=request(Partition.DAILY, *around))
    return request(Partition.DAILY, days)


def _whole_months(days: Span) -> tuple[Span | None, tuple[Span, ...]]:
    """Split a run of days into its whole calendar months and the days around them."""
    start, end = days
    first = start if start.day == 1 else period_end(start, Partition.MONTHLY) + _DAY
    last = end if end == period_end(end, Partition.MONTHLY) else end.replace(day=1) - _DAY
    if first > last:
        return None, (days,)
    around = ((start, first - _DAY), (last + _DAY, end))
    return (first, last), tuple(span for span in around if span[0] <= span[1])


def resolve_months(request: FolderRequest, published: Iterable[str]) -> list[FolderRequest]:
    """Split a request for whole months into the published months, and days for the others.

    Adds days that are wrong in a published month, and right in their daily file. Returns a
    request without a daily folder unchanged.

    Parameters
    ----------
    request : FolderRequest
    published : iterable of str
        Months in the archive, as in the keys.
    """
    if request.rest is None:
        return [request]
    have = set(published)
    months: list[Span] = []
    days = list(request.rest.spans)
    for start in request.starts():
        end = period_end(start, Partition.MONTHLY)
        if format_period(start, Partition.MONTHLY) in have:
            months.append((start, end))
        elif end >= request.since:
            days.append((max(start, request.since), end))
    days += _better_days(replace(request, spans=tuple(months)))
    resolved = (
        replace(request, spans=merge_spans(months), rest=None),
        replace(request.rest, spans=merge_spans(days)),
    )
    return [part for part in resolved if part.spans]


def partial_months(
    requests: Iterable[FolderRequest],
    listing: Mapping[Folder, FolderListing],
    matrix: Matrix,
    now: datetime,
) -> list[FolderRequest]:
    """Request the partly requested months that have days before the first daily file.

    Daily files may begin years after the monthly ones. These months are listed next; of the month
    with the first daily file also the one before, which shows whether the symbol began in it.

    Parameters
    ----------
    requests : iterable of FolderRequest
        Requests for published months, and for days.
    listing : mapping of Folder to FolderListing
        The listing of these requests.
    matrix : Matrix
    now : datetime
        The present, aware.
    """
    found = []
    for request in requests:
        folder, listed = request.folder, listing[request.folder]
        if folder.partition is not Partition.DAILY or not listed.probed:
            continue
        feed = matrix.feeds[folder.market, folder.data_type]
        availability = feed.partitions_with(folder.interval).get(Partition.MONTHLY)
        monthly = Folder(folder.stream, Partition.MONTHLY)
        known = listing.get(monthly, FolderListing())
        # The whole months have been listed.
        first = parse_period(known.first, Partition.MONTHLY) if known.first else date.max
        first_day = _first_day(listed)
        months = [
            ((start - _DAY).replace(day=1) if end >= first_day else start, end)
            for start, end in _partial_months(request, first_day)
            if matrix.published_at(start, Partition.MONTHLY) <= now
            and (start >= first or not known.probed)
        ]
        if months and availability:
            found.append(FolderRequest(monthly, merge_spans(months), availability))
    return found


def _partial_months(request: FolderRequest, first: date) -> Iterator[Span]:
    """Yield the partly requested months with requested days before the first daily file."""
    for start, end in request.spans:
        for day in (start, end):
            month = day.replace(day=1), period_end(day, Partition.MONTHLY)
            if max(start, month[0]) < first and not (start <= month[0] and month[1] <= end):
                yield month


def _first_day(listed: FolderListing) -> date:
    """Return the day of the first file of a daily folder whose first file was looked up."""
    return parse_period(listed.first, Partition.DAILY) if listed.first else date.max


def replace_days(
    requests: Iterable[FolderRequest],
    months: Iterable[FolderRequest],
    listing: Mapping[Folder, FolderListing],
    listed_months: Mapping[Folder, FolderListing],
) -> list[FolderRequest]:
    """Request the published months instead of their days before the first daily file.

    Parameters
    ----------
    requests : iterable of FolderRequest
        Requests for published months, and for days.
    months : iterable of FolderRequest
        The `partial_months` of these requests.
    listing, listed_months : mapping of Folder to FolderListing
        The listings of both.
    """
    replaced = {request.folder: request for request in requests}
    order = {folder.stream: position for position, folder in enumerate(replaced)}
    for request in months:
        daily = replaced[Folder(request.folder.stream, Partition.DAILY)]
        first = _first_day(listing[daily.folder])
        objects = listed_months[request.folder].objects
        published = {parse_period(period, Partition.MONTHLY) for period in objects}
        partial = {
            month
            for month in published.intersection(
                day.replace(day=1) for day in daily.starts() if day < first
            )
            if month < first.replace(day=1) or min(published) < month
        }
        if not partial:
            continue
        del replaced[daily.folder]
        monthly = replaced.pop(request.folder, replace(request, spans=()))
        spans = [(month, period_end(month, Partition.MONTHLY)) for month in partial]
        replaced[monthly.folder] = replace(monthly, spans=merge_spans([*monthly.spans, *spans]))
        days = [
            (day, day)
            for day in daily.starts()
            if day >= first or day.replace(day=1) not in partial
        ]
        if days:
            replaced[daily.folder] = replace(daily, spans=merge_spans(days))
    return sorted(replaced.values(), key=lambda request: order[request.folder.stream])


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort runs of days and merge those that touch."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + _DAY:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


# Notes


def _resolved_days(config: CollectionConfig, days: Span) -> Iterator[Note]:
    """Yield a note on relative days, with the days that they mean today."""
    if isinstance(config.date_range, RelativeRange):
        start, end = config.date_range.start, config.date_range.end
        yield Note("date_range", f"{start} to {end} means {days[0]} to {days[1]} today")


def unused_parts(config: CollectionConfig) -> Iterator[Note]:
    """Yield notes on unused intervals and markets."""
    for name, words in config.intervals.items():
        if name in config.data_types and not name.has_intervals:
            text = f"{', '.join(words)} ignored: {name} files have no intervals"
            yield Note(f"intervals[{name}]", text)
    for market in config.markets:
        if not config.symbols_of(market):
            yield Note("symbols", f"none given for {market}, so the plan has nothing of it")


def _months_for_days(
    config: CollectionConfig, requests: Sequence[FolderRequest], days: Span, matrix: Matrix
) -> Iterator[Note]:
    """Yield a note on the number of daily files that monthly ones could replace."""
    whole, _ = _whole_months(days)
    if config.partition is not PartitionChoice.DAILY or whole is None:
        return
    folders = sum(
        Partition.MONTHLY in matrix.feeds[folder.market, folder.data_type].partitioned
        for folder in (request.folder for request in requests)
        if folder.partition is Partition.DAILY
    )
    if folders:
        months = folders * len([*periods(*whole, Partition.MONTHLY)])
        count = folders * len([*periods(*whole, Partition.DAILY)])
        text = f"auto would fetch up to {months:,} monthly files instead of {count:,} daily ones"
        yield Note("partition", text)


def known_notes(requests: Sequence[FolderRequest], days: Span) -> list[Note]:
    """Return notes on what is known of the requested files, and of the days of all of them."""
    return [
        *_known_defects(requests),
        *_known_renames(requests, days),
        *_known_halts(requests, days),
        *_known_changes(requests, days),
        *_doubtful_intervals(requests),
    ]


def _known_defects(requests: Sequence[FolderRequest]) -> Iterator[Note]:
    """Yield notes on known defects of the requested feeds."""
    spans = {span for request in requests for part in request.parts() for span in part.spans}
    for defect in load_annotations().defects:
        # The files of a fixed defect have been replaced in the archive.
        if defect.fixed_on is not None or not _overlaps(defect, spans):
            continue
        concerned = [
            request
            for request in requests
            if any(
                defect.concerns(part.folder.stream, part.folder.partition)
                and _overlaps(defect, part.spans)
                for part in request.parts()
            )
        ]
        if concerned:
            also = "; partition='auto' fetches the daily files of these days too"
            better = all(map(_better_days, concerned)) and defect.better is not None
            text = f"known defect of {_feeds(concerned)}, {defect}{also if better else ''}"
            yield Note("date_range", text)


def _overlaps(defect: KnownDefect, spans: Iterable[Span]) -> bool:
    return any(defect.overlaps(*_times(span)) for span in spans)


def _times(span: Span) -> tuple[datetime, datetime]:
    """Return the start of a run of days, and its end, exclusive."""
    return datetime.combine(span[0], time(), UTC), datetime.combine(span[1] + _DAY, time(), UTC)


def _better_days(request: FolderRequest) -> list[Span]:
    """Return the days that are wrong in monthly files, and right in daily ones."""
    if request.rest is None:
        return []
    wrong = load_annotations().wrong_days
    return [(day, day) for span in request.spans for day in sorted(wrong(request.folder, *span))]


def _feeds(requests: Iterable[FolderRequest]) -> str:
    """List the feeds of requests, each once."""
    feeds = (f"{request.folder.market} {request.folder.data_type}" for request in requests)
    return ", ".join(dict.fromkeys(feeds))


def _known_renames(requests: Sequence[FolderRequest], days: Span) -> Iterator[Note]:
    """Yield notes on renames and reuses of symbols that the days cross, or may cross."""
    symbols: dict[SymbolEvent, dict[str, None]] = {}
    for market, symbol in dict.fromkeys((r.folder.market, r.folder.symbol) for r in requests):
        for event in crossings(market, symbol, *days):
            symbols.setdefault(event, {})[symbol] = None
    for event, names in symbols.items():
        yield Note("symbols", f"{', '.join(names)}: {event}")


def _known_halts(requests: Sequence[FolderRequest], days: Span) -> Iterator[Note]:
    """Yield notes on known halts of the markets, during which no file has rows."""
    traded = (r.folder.market for r in requests if r.folder.data_type in TRADED)
    for market in dict.fromkeys(traded):
        halts = [
            halt.when
            for halt in load_annotations().halts
            if halt.market is market and halt.overlaps(*_times(days))
        ]
        if halts:
            named = "; ".join(halts[:_HALTS_NAMED])
            more = f"; and {len(halts) - _HALTS_NAMED} more" if halts[_HALTS_NAMED:] else ""
            text = f"known halts of the {market} market, without rows: {named}{more}"
            yield Note("date_range", text)


def _known_changes(requests: Sequence[FolderRequest], days: Span) -> Iterator[Note]:
    """Yield notes on days from which values of the requested feeds have another meaning."""
    for change in load_annotations().changes:
        concerned = [
            request
            for request in requests
            if change.concerns(request.folder.market, request.folder.data_type, *days)
        ]
        if concerned:
            text = f"{_feeds(concerned)}, {change.on}: {change.what} [{change.source}]"
            yield Note("date_range", text)


def _doubtful_intervals(requests: Sequence[FolderRequest]) -> Iterator[Note]:
    """Yield notes on intervals that the archive may have stopped publishing."""
    notes: dict[Note, None] = {}
    for request in requests:
        folder, doubts = request.folder, request.availability.doubts
        if folder.interval is not None and folder.interval in doubts:
            feed = f"{folder.market} {folder.data_type} {folder.partition}"
            text = f"{feed} {folder.interval}: {doubts[folder.interval]}"
            notes[Note("intervals", text)] = None
    yield from notes
