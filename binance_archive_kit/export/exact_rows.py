"""Candles and trades as exact decimals, piece by piece, and what their values show of a contract.

The archive publishes no tick sizes and no contract sizes of the past. What the values show is
called observed: the decimal places in use, and the dollars in a contract of COIN-M.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.errors import ConflictingRows, CoverageError
from binance_archive_kit.export.sidecar import StreamCoverage
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.polars_scan import UniqueRows
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.timestamps import format_time, next_month

#: Our names of the columns of trades and aggregated trades.
_TRADE_COLUMNS = {
    DataType.TRADES: {"id": "id", "price": "price", "qty": "size", "time": "time"},
    DataType.AGG_TRADES: {
        "agg_trade_id": "id",
        "price": "price",
        "quantity": "size",
        "transact_time": "time",
    },
}
_PRICES = ("open", "high", "low", "close", "price")
_SIZES = ("volume", "size")
#: Rounding of base amounts, as a share.
_ROUNDING = 1e-3
#: How far the clocks of trades are apart at most.
_JITTER = timedelta(minutes=1)


class ExactRows:
    """The rows of a stream on some days, each once, with exact decimals.

    Parameters
    ----------
    engine : Engine
        Reads decimals.
    coverage : StreamCoverage
        Of candles, trades or aggregated trades.
    """

    def __init__(self, engine: Engine, coverage: StreamCoverage) -> None:
        self.stream = stream = coverage.stream
        self._engine = engine
        self._feed = engine.feed(stream.market, stream.data_type)
        self._unique = UniqueRows(engine)
        self._selection = coverage.selection

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yield frames in the order of time; times are ``Datetime("us", "UTC")``.

        Candles: ``open_time``, ``open``, ``high``, ``low``, ``close``, ``volume``, and of COIN-M
        ``base``, the volume in the base asset. Trades: ``id``, ``price``, ``size``, ``time``,
        ``is_buyer_maker``, and of the trades of COIN-M ``base``.

        Raises
        ------
        FileError
            For an invalid file, and for rows that conflict, unless such files are left out.
        CoverageError
            If a value is empty.
        """
        frames = self._candles() if self.stream.interval else self._trades()
        for frame in frames:
            if not frame.is_empty():
                self._reject_nulls(frame)
                yield frame

    def _reject_nulls(self, frame: pl.DataFrame) -> None:
        empty = frame.filter(pl.any_horizontal(pl.all().is_null()))
        for row in empty.head(1).iter_rows(named=True):
            name = next(name for name, value in row.items() if value is None)
            time = format_time(row[time_of(self.stream)])
            raise CoverageError(f"{self.stream}: {name} is empty at {time} UTC; choose other days")

    def _candles(self) -> Iterator[pl.DataFrame]:
        """Yield candles month by month: those of a second take much memory."""
        base = ["base_volume"] if self.stream.market is Market.FUTURES_CM else []
        columns = ["open", "high", "low", "close", "volume", *base]
        for selection in _months(self._selection):
            frame = self._unique.read(self._feed, selection, columns=columns)
            yield frame.select("open_time", *columns).rename(dict.fromkeys(base, "base"))

    def _trades(self) -> Iterator[pl.DataFrame]:
        """Yield trades day by day; a file of a month is read once."""
        names = dict(_TRADE_COLUMNS[self.stream.data_type])
        names["is_buyer_maker"] = "is_buyer_maker"
        if "base_qty" in self._feed.columns:
            names["base_qty"] = "base"
        held: dict[date, list[pl.DataFrame]] = {}
        done: date | None = None
        for day, piece in self._pieces([*names]):
            if done is not None and day <= done:
                raise CoverageError(
                    f"{self.stream}: trades of {day} come after others of a later day; its files "
                    "are out of order"
                )
            held.setdefault(day, []).append(piece)
            # The clocks of trades differ by milliseconds, also at midnight.
            newest: Any = piece[self._feed.time].max()
            current = (newest - _JITTER).date()
            for complete in sorted(each for each in held if each < current):
                yield self._sorted(held.pop(complete), names)
                done = complete
        for day in sorted(held):
            yield self._sorted(held[day], names)

    def _pieces(self, names: list[str]) -> Iterator[tuple[date, pl.DataFrame]]:
        """Yield rows as they are read, those of one day together, with the day."""
        time, (start, end) = pc.field(self._feed.time), _limits(self._selection)
        naive = pa.timestamp("us")
        where = (time >= pa.scalar(start, naive)) & (time < pa.scalar(end, naive))
        columns = ["date", "file", *names]
        batches = self._engine.scan(self._feed, columns, self._selection, where, in_full=False)
        with closing(batches):
            for batch in batches:
                for piece in pl.DataFrame(batch).partition_by("date", maintain_order=True):
                    yield piece["date"][0], piece

    def _sorted(self, pieces: list[pl.DataFrame], names: dict[str, str]) -> pl.DataFrame:
        """Return the trades of a day, each once."""
        rows = pl.concat(pieces).rename(names)
        frame = rows.select(names.values())
        rises = _rises(frame["id"])
        if not rises:
            frame = frame.unique(maintain_order=True)
            twice = frame.filter(pl.col("id").is_duplicated())
            if twice.height:
                number = twice["id"][0]
                files = rows.filter(pl.col("id") == number)["file"].cast(pl.String)
                message = f"two different rows have the number {number}"
                self._engine.reject(ConflictingRows(files[0], message))
                frame = frame.filter(~pl.col("id").is_duplicated())
        frame = frame.with_columns(pl.col("time").dt.replace_time_zone("UTC"))
        # Trades are numbered; the clocks of their times may be some milliseconds apart.
        return frame if rises and frame["time"].is_sorted() else frame.sort("time", "id")


def time_of(stream: Stream) -> str:
    """Return the column of `ExactRows` by which rows are sorted."""
    return "open_time" if stream.interval else "time"


def _rises(values: pl.Series) -> bool:
    return bool((values.diff().drop_nulls() > 0).all())


def _limits(selection: Selection) -> tuple[datetime, datetime]:
    """Return the limits of a selection that has both."""
    if selection.start is None or selection.end is None:
        raise ValueError("the selection has no limits")
    return selection.start, selection.end


def _months(selection: Selection) -> Iterator[Selection]:
    """Split a selection by calendar months."""
    start, end = _limits(selection)
    while start < end:
        until = min(next_month(start.replace(day=1)), end)
        yield replace(selection, start=start, end=until)
        start = until


@dataclass
class Observed:
    """What the values of a symbol show.

    Attributes
    ----------
    price_places, size_places : int
        The most decimal places of any price and any size. Zeros at the end do not count.
    largest_price, largest_size : tuple of (float, datetime, str), or None
        Value, time and stream.
    smallest_size : float or None
        Of trades.
    first : datetime or None
        The time of the first row.
    least, most : float
        Bounds of the dollars in a contract of COIN-M.
    """

    price_places: int = 0
    size_places: int = 0
    largest_price: tuple[float, datetime, str] | None = None
    largest_size: tuple[float, datetime, str] | None = None
    smallest_size: float | None = None
    first: datetime | None = None
    least: float = 0.0
    most: float = float("inf")

    def add(self, stream: Stream, frame: pl.DataFrame) -> None:
        """Take a frame of `ExactRows` into account."""
        time = time_of(stream)
        for name in frame.columns:
            if name in _PRICES:
                self.price_places = places_of(frame[name], self.price_places)
            elif name in _SIZES:
                self.size_places = places_of(frame[name], self.size_places)
        price = "high" if stream.interval else "price"
        size = "volume" if stream.interval else "size"
        self.largest_price = _larger(self.largest_price, stream, frame, price, time)
        self.largest_size = _larger(self.largest_size, stream, frame, size, time)
        if not stream.interval:
            least = float(frame[size].min())  # type: ignore[arg-type]
            self.smallest_size = min(
                least, least if self.smallest_size is None else self.smallest_size
            )
        first = frame[time][0]
        self.first = first if self.first is None else min(first, self.first)
        if "base" in frame.columns:
            self._add_contract(frame, price, size, "low" if stream.interval else price)

    def _add_contract(self, frame: pl.DataFrame, high: str, size: str, low: str) -> None:
        """Narrow the bounds of the dollars in a contract: base amount × price / contracts."""
        number = {name: pl.col(name).cast(pl.Float64) for name in (high, size, low, "base")}
        per = number["base"] / number[size]
        traded = frame.filter(number[size] > 0)
        least, most = traded.select(
            least=(per * number[low]).max(), most=(per * number[high]).min()
        ).row(0)
        if least is not None:
            self.least, self.most = max(self.least, least), min(self.most, most)

    @property
    def contract_size(self) -> int | None:
        """Dollars in a contract of COIN-M: the only power of ten that all rows allow, or None."""
        sizes = [10**power for power in range(6)]
        least, most = self.least * (1 - _ROUNDING), self.most * (1 + _ROUNDING)
        found = [size for size in sizes if least <= size <= most]
        return found[0] if len(found) == 1 else None


def observe(streams: Iterable[ExactRows], tick: Callable[[], None]) -> Observed:
    """Observe the values of all rows of some streams of one symbol; `tick` is called often."""
    observed = Observed()
    for rows in streams:
        for frame in rows:
            observed.add(rows.stream, frame)
            tick()
    return observed


def places_of(values: pl.Series, least: int = 0) -> int:
    """Return how many decimal places values need, and at least a given number.

    >>> from decimal import Decimal
    >>> places_of(pl.Series([Decimal("1.50"), Decimal("3")], dtype=pl.Decimal(38, 18)))
    1
    """
    places = least
    while not (values.round(places) == values).all():
        places += 1
    return places


def raw_of(values: pl.Series, places: int) -> list[int]:
    """Return decimals as whole numbers of units of 10^-`places`.

    >>> from decimal import Decimal
    >>> raw_of(pl.Series([Decimal("1.50")], dtype=pl.Decimal(38, 18)), 3)
    [1500]
    """
    whole: list[int] = values.cast(pl.Decimal(38, places)).to_physical().to_list()
    return whole


def _larger(
    known: tuple[float, datetime, str] | None,
    stream: Stream,
    frame: pl.DataFrame,
    name: str,
    time: str,
) -> tuple[float, datetime, str]:
    """Return the larger of a known value and those of a column."""
    at: Any = frame[name].arg_max()
    largest = float(frame[name][at])
    if known is not None and known[0] >= largest:
        return known
    return largest, frame[time][at], str(stream)
