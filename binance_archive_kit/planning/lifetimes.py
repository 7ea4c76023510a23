"""How long symbols have files, and which further folders to list to find out.

A folder whose files stop does not mean a delisted symbol while another interval, partition or
data type of the symbol goes on; nor when every requested symbol stops at once, for then the
archive may have stopped publishing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from operator import itemgetter

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream, parse_period, period_end
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.matrix import Matrix, PartitionAvailability, WrongSymbolError
from binance_archive_kit.planning.requests import FolderRequest

#: Candles longer than a day: a month of few days may have none.
_LONG = (Interval.D3, Interval.W1, Interval.MO1)
#: Candles that every traded symbol has.
_WITNESSES = (Interval.M1, Interval.H1, Interval.D1)


class Lifetimes:
    """First and last day of symbols, as far as the archive was asked.

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
        #: The two symbols of each market that last longest: asked for each absent period.
        self._longest = {
            market: sorted(symbols.values(), key=_DAY_OF, reverse=True)[:2]
            for market, symbols in self._last.items()
        }

    def last(self, folder: Folder) -> tuple[date, Folder]:
        """Return the last day of a folder's symbol, UTC, and the folder that has it."""
        return self._last[folder.market][_contract(folder)]

    def earlier(self, folder: Folder, day: date) -> Folder | None:
        """Return another interval of the same candles that has files of a day, or earlier ones."""
        if folder.interval in _LONG:
            return None
        first, other = self._first.get(_candles(folder), (date.max, folder))
        return other if other != folder and first <= day else None

    def longest_other(self, folder: Folder) -> tuple[date, Folder] | None:
        """Return the last day of the market's other symbol that lasts longest, and its folder."""
        contract = _contract(folder)
        longest = self._longest[folder.market]
        return next((last for last in longest if _contract(last[1]) != contract), None)


_DAY_OF = itemgetter(0)


def _last_day(folder: Folder, listed: FolderListing) -> date:
    """Return the last day (UTC) on which a folder is known to have rows.

    For a month only its first day: a symbol may end in the middle of it.
    """
    if not listed.ends:
        return date.max if listed.objects or listed.first else date.min
    return parse_period(max(listed.objects), folder.partition) if listed.objects else date.min


def _candles(folder: Folder) -> tuple[str, ...]:
    """Return what the intervals of some candles have in common."""
    return folder.market, folder.data_type, folder.partition, folder.symbol


def _contract(folder: Folder) -> str:
    """Return what is traded: COIN-M index candles are filed under the pair."""
    return folder.symbol.removesuffix("_PERP")


def witnesses(
    requests: Sequence[FolderRequest],
    listing: Mapping[Folder, FolderListing],
    matrix: Matrix,
    now: datetime,
) -> list[FolderRequest]:
    """Choose folders to list besides, to tell a delisted symbol from a stream that stops.

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
        if last >= end:
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
    """Yield the folders that a symbol has as long as it is traded."""
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
