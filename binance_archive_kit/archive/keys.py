"""Object keys: the only module that formats and parses them.

A *stream* is one market, data type, symbol and, for klines, interval. A *folder* is a stream
in one partition, daily or monthly. An *object key* is a folder and a period, a UTC day or a
calendar month::

    data/<market>/<partition>/<data type>/<SYMBOL>/[<interval>/]<name>-<period>.zip

The base name of a kline file contains the interval but not the data type, so only the whole
key identifies an object.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition

#: The first and the last day of a run of days, UTC, both inclusive.
Span = tuple[date, date]

#: Suffix of the object that contains the SHA-256 digest of a zip.
CHECKSUM_SUFFIX = ".CHECKSUM"

_MARKET_BY_FOLDERS = {tuple(market.path.split("/")): market for market in Market}
_PERIODS = {
    Partition.DAILY: re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII),
    Partition.MONTHLY: re.compile(r"\d{4}-\d{2}", re.ASCII),
}
# No symbol contains path separators, glob characters, quotes, white space, control characters,
# or lone surrogates, which UTF-8 cannot encode.
_NOT_A_SYMBOL = re.compile(r"""[/\\*?\[\]"'`<>|:\s\x00-\x1f\x7f-\x9f\ud800-\udfff]|^\.|^$""")


def is_symbol(text: str) -> bool:
    """Return whether `text` can be a symbol in a key.

    >>> is_symbol("BTCUSD_PERP"), is_symbol("币安人生USDT"), is_symbol("../etc")
    (True, True, False)
    """
    return not _NOT_A_SYMBOL.search(text)


_DELIVERY = re.compile(r"_(\d{6})$", re.ASCII)


def delivery_of(symbol: str) -> date | None:
    """Return the delivery day (UTC) of a contract; None if it has none.

    >>> delivery_of("BTCUSD_240628"), delivery_of("BTCUSD_PERP")
    (datetime.date(2024, 6, 28), None)
    """
    if found := _DELIVERY.search(symbol):
        with suppress(ValueError):
            return date.fromisoformat(f"20{found[1]}")
    return None


def feed_prefix(market: Market, partition: Partition, data_type: DataType) -> str:
    """Return the prefix of all symbols of a feed; it ends in ``/``.

    >>> feed_prefix(Market.OPTIONS, Partition.DAILY, DataType.BVOL_INDEX)
    'data/option/daily/BVOLIndex/'
    """
    return f"data/{market.path}/{partition}/{data_type}/"


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """A feed, a symbol and an interval: one continuous series of rows.

    Parameters
    ----------
    market : Market
    data_type : DataType
    symbol : str
        As spelled in the archive; it may contain non-ASCII characters.
    interval : Interval or None
        None except for the kline families.

    Raises
    ------
    ValueError
        If no key can contain the symbol, or the data type has no or needs an interval.
    """

    market: Market
    data_type: DataType
    symbol: str
    interval: Interval | None = None

    def __post_init__(self) -> None:
        """Reject a stream that has no key."""
        if not is_symbol(self.symbol):
            raise ValueError(f"{self.symbol!r} cannot be a symbol in an object key")
        if self.data_type.has_intervals != (self.interval is not None):
            need = "needs an" if self.data_type.has_intervals else "has no"
            raise ValueError(f"{self.data_type} {need} interval")

    def __str__(self) -> str:
        """Return a readable name, such as ``spot klines BTCUSDT 1h``."""
        interval = f" {self.interval}" if self.interval else ""
        return f"{self.market} {self.data_type} {self.symbol}{interval}"


@dataclass(frozen=True, slots=True, order=True)
class Folder:
    """One folder of the archive: the files of a stream in one partition."""

    stream: Stream
    partition: Partition

    @property
    def market(self) -> Market:
        """Market of the stream."""
        return self.stream.market

    @property
    def data_type(self) -> DataType:
        """Data type of the stream."""
        return self.stream.data_type

    @property
    def symbol(self) -> str:
        """Symbol of the stream."""
        return self.stream.symbol

    @property
    def interval(self) -> Interval | None:
        """Interval of the stream; None if its data type has none."""
        return self.stream.interval

    @property
    def parent(self) -> str:
        """Prefix of all symbols of this feed; it ends in ``/``.

        >>> Folder(Stream(Market.SPOT, DataType.TRADES, "BTCUSDT"), Partition.DAILY).parent
        'data/spot/daily/trades/'
        """
        return feed_prefix(self.market, self.partition, self.data_type)

    @property
    def prefix(self) -> str:
        """Prefix of all keys of this folder; it ends in ``/``.

        >>> stream = Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1)
        >>> Folder(stream, Partition.DAILY).prefix
        'data/spot/daily/klines/BTCUSDT/1h/'
        """
        folder = f"{self.interval}/" if self.interval else ""
        return f"{self.parent}{self.symbol}/{folder}"

    @property
    def stem(self) -> str:
        """The beginning of every base name in this folder, up to the period.

        >>> stream = Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1)
        >>> Folder(stream, Partition.DAILY).stem
        'BTCUSDT-1h-'
        """
        return f"{self.symbol}-{self.interval or self.data_type}-"

    def key(self, period: str) -> str:
        """Return the key of the zip of a period (``YYYY-MM-DD`` or ``YYYY-MM``)."""
        return self.keys([period])[0]

    def keys(self, periods: Iterable[str]) -> list[str]:
        """Return the keys of the zips of some periods."""
        head = f"{self.prefix}{self.stem}"
        return [f"{head}{period}.zip" for period in periods]

    def __str__(self) -> str:
        """Return a readable name, such as ``spot klines BTCUSDT 1h (daily)``."""
        return f"{self.stream} ({self.partition})"


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """A zip of the archive: a folder and the first day of its period.

    Parameters
    ----------
    folder : Folder
    start : date
        First UTC day the file covers; day 1 for a monthly file.

    Examples
    --------
    >>> key = ObjectKey.parse("data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-15.zip")
    >>> key.folder.symbol, key.folder.interval.value, key.start.isoformat()
    ('BTCUSDT', '1h', '2025-07-15')
    >>> str(key)
    'data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-15.zip'
    """

    folder: Folder
    start: date

    def __post_init__(self) -> None:
        """Reject a monthly file that does not start on day 1."""
        if self.folder.partition is Partition.MONTHLY and self.start.day != 1:
            raise ValueError(f"a monthly file starts on day 1, not on {self.start}")

    @classmethod
    def parse(cls, text: str) -> ObjectKey:
        """Parse a key; the exact inverse of ``str(key)``.

        Raises
        ------
        ValueError
            If `text` is not the key of a zip of the archive.
        """
        folders, _, name = text.rpartition("/")
        root, *middle = folders.split("/")
        # The market takes two folders for futures and one otherwise.
        split = 2 if middle[:1] == ["futures"] else 1
        market = _MARKET_BY_FOLDERS.get(tuple(middle[:split]))
        rest = middle[split:]
        if root != "data" or market is None or len(rest) not in (3, 4):
            raise ValueError(f"{text!r} is not the key of an archive file")
        try:
            folder = Folder(
                Stream(
                    market,
                    DataType(rest[1]),
                    rest[2],
                    Interval(rest[3]) if len(rest) == 4 else None,
                ),
                Partition(rest[0]),
            )
            if not (name.startswith(folder.stem) and name.endswith(".zip")):
                raise ValueError("the name does not match its folder")
            start = parse_period(name[len(folder.stem) : -len(".zip")], folder.partition)
        except ValueError as error:
            raise ValueError(f"{text!r} is not the key of an archive file: {error}") from None
        return cls(folder, start)

    @property
    def period(self) -> str:
        """The period as in the key: ``YYYY-MM-DD`` or ``YYYY-MM``."""
        return format_period(self.start, self.folder.partition)

    @property
    def end(self) -> date:
        """Last UTC day the file covers, inclusive."""
        return period_end(self.start, self.folder.partition)

    @property
    def name(self) -> str:
        """Base name of the zip."""
        return f"{self.folder.stem}{self.period}.zip"

    @property
    def member(self) -> str:
        """Name of the one csv file inside the zip."""
        return member_of(self.name)

    @property
    def checksum(self) -> str:
        """Key of the object that contains the SHA-256 digest of the zip."""
        return f"{self}{CHECKSUM_SUFFIX}"

    def __str__(self) -> str:
        """Return the key as text."""
        return self.folder.key(self.period)


def key_range(prefix: str) -> tuple[str, str]:
    """Return the range of keys with a prefix that ends in ``/``: start inclusive, end exclusive.

    Keys sort by their bytes, and ``0`` comes next after ``/``.

    >>> key_range("data/spot/daily/trades/BTCUSDT/")
    ('data/spot/daily/trades/BTCUSDT/', 'data/spot/daily/trades/BTCUSDT0')
    """
    return prefix, f"{prefix[:-1]}0"


def range_of_one(key: str) -> tuple[str, str]:
    """Return the range of keys that has one key only: start inclusive, end exclusive."""
    return key, f"{key}\0"


def prefix_of(key: str) -> str:
    """Return the prefix of the folder of a key; it ends in ``/``.

    >>> prefix_of("data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip")
    'data/spot/daily/trades/BTCUSDT/'
    """
    return f"{key.rpartition('/')[0]}/"


def member_of(name: str) -> str:
    """Return the name of the csv member of a zip, from its key or base name.

    >>> member_of("data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip")
    'BTCUSDT-trades-2025-07-15.csv'
    """
    return name.rpartition("/")[2].removesuffix(".zip") + ".csv"


def parse_period(text: str, partition: Partition) -> date:
    """Read a period of a key as the first day it covers.

    >>> parse_period("2024-02", Partition.MONTHLY)
    datetime.date(2024, 2, 1)
    """
    if not _PERIODS[partition].fullmatch(text):
        raise ValueError(f"{text!r} is not a {partition} period")
    return date.fromisoformat(text if partition is Partition.DAILY else f"{text}-01")


def parse_loose_period(text: str, partition: Partition) -> date | None:
    """Parse a period, also without leading zeros, as in some keys; None if it is invalid.

    >>> parse_loose_period("2020-8", Partition.MONTHLY)
    datetime.date(2020, 8, 1)
    >>> parse_loose_period("2020-8", Partition.DAILY) is None
    True
    """
    with suppress(ValueError):
        return parse_period("-".join(part.zfill(2) for part in text.split("-")), partition)
    return None


def format_period(start: date, partition: Partition) -> str:
    """Format the period that begins on `start`; the inverse of `parse_period`."""
    return start.isoformat() if partition is Partition.DAILY else start.isoformat()[:7]


def period_end(start: date, partition: Partition) -> date:
    """Return the last day, inclusive, of the period that begins on `start`.

    >>> period_end(date(2024, 2, 1), Partition.MONTHLY)
    datetime.date(2024, 2, 29)
    """
    if partition is Partition.DAILY:
        return start
    return start.replace(day=calendar.monthrange(start.year, start.month)[1])


def periods(start: date, end: date, partition: Partition) -> Iterator[date]:
    """Yield the first day of each period that overlaps `start` .. `end`, both inclusive.

    >>> [str(day) for day in periods(date(2025, 6, 15), date(2025, 7, 15), Partition.MONTHLY)]
    ['2025-06-01', '2025-07-01']
    """
    if partition is Partition.DAILY:
        yield from map(date.fromordinal, range(start.toordinal(), end.toordinal() + 1))
        return
    day = start.replace(day=1)
    while day <= end:
        yield day
        last = period_end(day, partition)
        if last == date.max:
            return
        day = last + timedelta(days=1)
