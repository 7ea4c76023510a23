"""Explain absent periods; choose further folders to list as evidence.

If the files of a folder end, the symbol may be delisted, but not while another interval,
partition or data type of the symbol continues. If all requested symbols end at the same time,
the archive may have stopped publishing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import itemgetter

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream, delivery_of, parse_period, period_end
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.matrix import (
    Confidence,
    Matrix,
    PartitionAvailability,
    WrongSymbolError,
)
from binance_archive_kit.planning.requests import FolderRequest
from binance_archive_kit.suggestions import nearest

#: Candles longer than a day: a short first month may have none.
_LONG = (Interval.D3, Interval.W1, Interval.MO1)
#: Candles that every traded symbol has.
_WITNESSES = (Interval.M1, Interval.H1, Interval.D1)
#: The detail of the days of a folder without files.
NO_FILE = "the archive has no file of this symbol and interval"
#: Reasons that are reported for each file, and not for runs of days.
_OF_ONE_FILE = (Reason.ABSENT, Reason.OTHER_NAME, Reason.AFTER_LAST, Reason.NOT_PUBLISHED)


class Lifetimes:
    """First and last days of symbols in the listed folders.

    Parameters
    ----------
    listing : mapping of Folder to FolderListing
        The listed folders, requested or not.
    """

    def __init__(self, listing: Mapping[Folder, FolderListing]) -> None:
        self._last: dict[Market, dict[str, tuple[date, Folder]]] = {}
        self._first: dict[tuple[str, ...], tuple[date, Folder]] = {}
        for folder, listed in listing.items():
            first = listed.first or min(listed.objects, default=None)
            if first and folder.interval not in _LONG:
                begins = parse_period(first, folder.partition), folder
                candles = _candles(folder)
                self._first[candles] = min(self._first.get(candles, begins), begins, key=_DAY_OF)
            last = _last_day(folder, listed), folder
            symbols = self._last.setdefault(folder.market, {})
            contract = _contract(folder)
            symbols[contract] = max(symbols.get(contract, last), last, key=_DAY_OF)
        #: For each market its two symbols with the latest last days; read for each absent period.
        self._longest = {
            market: sorted(symbols.values(), key=_DAY_OF, reverse=True)[:2]
            for market, symbols in self._last.items()
        }

    def last(self, folder: Folder) -> tuple[date, Folder]:
        """Return the last day of a folder's symbol (UTC), and the folder with that day."""
        return self._last[folder.market][_contract(folder)]

    def earlier(self, folder: Folder, day: date) -> Folder | None:
        """Return another interval of the same candles with a file of the day or an earlier one."""
        if folder.interval in _LONG:
            return None
        first, other = self._first.get(_candles(folder), (date.max, folder))
        return other if other != folder and first <= day else None

    def longest_other(self, folder: Folder) -> tuple[date, Folder] | None:
        """Return the latest last day of the market's other symbols, and its folder."""
        contract = _contract(folder)
        longest = self._longest[folder.market]
        return next((last for last in longest if _contract(last[1]) != contract), None)


_DAY_OF = itemgetter(0)


def _last_day(folder: Folder, listed: FolderListing) -> date:
    """Return the last day (UTC) on which a folder is known to have rows.

    The first day of a monthly file counts: a symbol may end within the month.
    """
    if not listed.ends:
        return date.max if listed.objects or listed.first else date.min
    return parse_period(max(listed.objects), folder.partition) if listed.objects else date.min


def _candles(folder: Folder) -> tuple[str, ...]:
    """Return the fields of a folder that are the same for all intervals."""
    return folder.market, folder.data_type, folder.partition, folder.symbol


def _contract(folder: Folder) -> str:
    """Return the name of a contract: COIN-M index candles have it without ``_PERP``."""
    return folder.symbol.removesuffix("_PERP")


def witnesses(
    requests: Sequence[FolderRequest],
    listing: Mapping[Folder, FolderListing],
    matrix: Matrix,
    now: datetime,
) -> list[FolderRequest]:
    """Choose further folders to list, to distinguish a delisted symbol from an ended stream.

    Parameters
    ----------
    requests : sequence of FolderRequest
    listing : mapping of Folder to FolderListing
        The listing of these requests.
    matrix : Matrix
    now : datetime
        The present, aware.
    """
    lifetimes = Lifetimes(listing)
    found: dict[Folder, FolderRequest] = {}
    for request in requests:
        folder, end = request.folder, request.spans[-1][1]
        listed = listing.get(folder)
        if listed is None or not listed.ends or not (listed.objects or listed.first):
            continue
        last, _ = lifetimes.last(folder)
        # Nothing is absent after the file of the last requested period.
        if max(last, period_end(_last_day(folder, listed), folder.partition)) >= end:
            continue
        start = max(request.spans[0][0], last + timedelta(days=1))
        if now < matrix.published_at(start, folder.partition):
            continue
        symbols = [folder.symbol]
        other = lifetimes.longest_other(folder)
        if other is None or other[0] < end:
            symbols += matrix.symbols.get(folder.market, ())[:2]
        for symbol in symbols:
            for witness, availability in _traded(folder.market, symbol, matrix):
                if witness not in listing:
                    first = start if witness.partition is Partition.DAILY else start.replace(day=1)
                    days = first, period_end(end, witness.partition)
                    found.setdefault(witness, FolderRequest(witness, (days,), availability))
    return [*found.values()]


def _traded(
    market: Market, symbol: str, matrix: Matrix
) -> Iterator[tuple[Folder, PartitionAvailability]]:
    """Yield folders that have files on every day on which a symbol is traded."""
    options = market is Market.OPTIONS
    data_type = DataType.BVOL_INDEX if options else DataType.KLINES
    feed = matrix.feed(market, data_type)
    if feed is None:
        return
    if market is Market.FUTURES_CM and "_" not in symbol:
        symbol = f"{symbol}_PERP"
    try:
        symbol = matrix.archive_symbol(feed, symbol)
    except WrongSymbolError:
        return
    for partition, availability in feed.partitioned.items():
        for interval in (None,) if options else _WITNESSES:
            yield Folder(Stream(market, data_type, symbol, interval), partition), availability


@dataclass(frozen=True, slots=True)
class ArchiveListing:
    """The listed part of the archive.

    Attributes
    ----------
    folders : mapping of Folder to FolderListing
        The requested folders.
    witnesses : mapping of Folder to FolderListing
        Further folders, see `witnesses`.
    symbols : mapping of str to sequence of str
        Symbols in the archive, by the parent prefix of their folders.
    """

    folders: Mapping[Folder, FolderListing]
    witnesses: Mapping[Folder, FolderListing] = field(default_factory=dict)
    symbols: Mapping[str, Sequence[str]] = field(default_factory=dict)


class AbsenceExplainer:
    """Finds the reason of each absent period.

    Parameters
    ----------
    listing : ArchiveListing
    matrix : Matrix
    now : datetime
        The present, aware.
    """

    def __init__(self, listing: ArchiveListing, matrix: Matrix, now: datetime) -> None:
        self._symbols = listing.symbols
        self._lifetimes = Lifetimes({**listing.folders, **listing.witnesses})
        self._matrix = matrix
        self._now = now

    def explain(
        self, request: FolderRequest, absent: Sequence[tuple[str, date]], listed: FolderListing
    ) -> Iterator[Absence]:
        """Yield the absences of a folder; join periods that cannot exist into runs.

        Parameters
        ----------
        request : FolderRequest
        absent : sequence of (str, date)
            Absent periods as in the keys, and their first days, in order.
        listed : FolderListing
            The listing of the folder.
        """
        if not absent:
            return
        folder, last = request.folder, max(listed.objects, default="")
        reasons = (
            (start, *self._reason(request, listed, last, period, start), period)
            for period, start in absent
        )
        for (reason, detail, period), run in groupby(reasons, _run_of):
            starts = [start for start, *_ in run]
            end = period_end(starts[-1], folder.partition)
            key = folder.key(period) if period else None
            yield Absence.of(folder, reason, detail, starts[0], end, key)

    def _reason(
        self, request: FolderRequest, listed: FolderListing, last: str, period: str, start: date
    ) -> tuple[Reason, str]:
        """Return why a period is absent; `last` is the last listed period, or empty."""
        folder, availability = request.folder, request.availability
        if period in listed.misnamed:
            return Reason.OTHER_NAME, (
                f"the archive has it under another name, {listed.misnamed[period]}, which is not "
                "fetched; download that object and its checksum by hand, and save the zip as "
                f"{folder.key(period).rpartition('/')[2]}"
            )
        if (reason := outside(request, start)) is not None:
            return reason
        has_none = listed.probed and listed.first is None
        if has_none and folder.symbol not in self._symbols.get(folder.parent, ()):
            return self._unknown_symbol(folder)
        after_last = period > last
        if after_last and self._now < self._matrix.published_at(start, folder.partition):
            return Reason.NOT_PUBLISHED, "not published yet"
        if has_none:
            return Reason.BEFORE_FIRST, NO_FILE
        if listed.probed and listed.first is not None and period < listed.first:
            detail = f"its first file in the archive is from {listed.first}"
            earlier = self._lifetimes.earlier(folder, start)
            also = f"; the files of {earlier} begin earlier" if earlier else ""
            return Reason.BEFORE_FIRST, detail + also
        if any(first <= start <= last for first, last in availability.gaps):
            return Reason.ABSENT, "the archive does not have it, a known gap"
        if listed.ends and after_last:
            return self._after_last(request, start, last)
        return Reason.ABSENT, "the archive does not have it"

    def _unknown_symbol(self, folder: Folder) -> tuple[Reason, str]:
        guess = nearest(folder.symbol, self._symbols.get(folder.parent, ()))
        hint = f"; did you mean {guess!r}?" if guess else ""
        name = f"{folder.market.title} {folder.data_type}"
        return Reason.UNKNOWN_SYMBOL, f"the archive has no {name} of this symbol{hint}"

    def _after_last(
        self, request: FolderRequest, start: date, last_period: str
    ) -> tuple[Reason, str]:
        """Return why a period after the last file is absent: ended, delisted, or missing."""
        folder = request.folder
        if request.availability.has_ended:
            last = f": the archive's last file is of {last_period}" if last_period else ""
            return Reason.ENDED, f"{folder.market.title} {folder.data_type} has ended{last}"
        period = f"is of {last_period}" if last_period else "is older than these days"
        detail = f"the archive's last file {period}"
        last_day, longest = self._lifetimes.last(folder)
        if last_day >= start:
            return Reason.ABSENT, f"{detail}, though {longest} continues"
        delivery = delivery_of(folder.symbol)
        if delivery is not None and delivery < start:
            return Reason.AFTER_LAST, f"{detail}; the contract was delivered on {delivery}"
        other = self._lifetimes.longest_other(folder)
        if other is not None and other[0] >= start:
            return Reason.AFTER_LAST, f"{detail}; delisted?"
        return Reason.ABSENT, (
            f"{detail}, and no other symbol of {folder.market.title} is known to continue: the "
            "archive may have stopped publishing"
        )


def _run_of(absent: tuple[date, Reason, str, str]) -> tuple[Reason, str, str]:
    """Return the key that groups absent periods into runs."""
    _, reason, detail, period = absent
    return reason, detail, period if reason in _OF_ONE_FILE else ""


def outside(request: FolderRequest, start: date) -> tuple[Reason, str] | None:
    """Return why a period is outside the days of its feed; None if it is inside."""
    folder, availability = request.folder, request.availability
    first, last = availability.first, availability.last
    if last is not None and start > last:
        on = "about" if availability.confidence is Confidence.HEARSAY else "on"
        return Reason.ENDED, f"{folder.market.title} {folder.data_type} ended {on} {last}"
    if first is not None and period_end(start, folder.partition) < first:
        return Reason.NOT_BEGUN, f"{folder.market.title} {folder.data_type} begins on {first}"
    return None
