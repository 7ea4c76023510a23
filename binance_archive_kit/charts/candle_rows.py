"""The candles of a chart, from a store or a frame, with the times that have none and the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from binance_archive_kit.archive.enums import DataType, read_interval
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.schemas import schema
from binance_archive_kit.archive.symbols import split_symbol
from binance_archive_kit.charts.time_axis import is_time, to_utc
from binance_archive_kit.errors import ConfigurationError, field_error, shown
from binance_archive_kit.quality.expected import Expected
from binance_archive_kit.quality.frames import TIME
from binance_archive_kit.quality.stream_survey import survey_streams
from binance_archive_kit.query.bars import Length, read_length, resample
from binance_archive_kit.query.loaders import load_klines
from binance_archive_kit.query.open_store import OpenStore, Source, open_engine
from binance_archive_kit.query.polars_scan import Moment, first_few, parse_limits
from binance_archive_kit.suggestions import unknown
from binance_archive_kit.timestamps import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    WEEK,
    to_day_number,
    to_micros,
    to_naive,
)

#: The kind of a time without candles for which coverage has no reason.
NO_CANDLE = "no_candle"
#: Start and end, exclusive.
Span = tuple[datetime, datetime]
_PRICES = ("open", "high", "low", "close")
_GAPS = pl.Schema([("start", TIME), ("end", TIME), ("kind", pl.String())])
#: Lengths of bars from which the first is chosen that fits.
_LENGTHS = (
    *("5s", "10s", "15s", "30s", "1m", "2m", "3m", "5m", "10m", "15m", "30m", "1h", "2h", "3h"),
    *("4h", "6h", "8h", "12h", "1d", "2d", "3d", "1w", "6d", "2w", "12d", "1mo", "30d", "13w"),
    *("1q", "1y"),
)
#: Longest calendar month in microseconds.
_LONGEST_MONTH = 31 * DAY


@dataclass(frozen=True)
class CandleRows:
    """Candles of one stream, and the times without any.

    Attributes
    ----------
    frame : polars.DataFrame
        ``open_time``, ``open``, ``high``, ``low``, ``close`` and perhaps ``volume``, sorted.
    length : Length
        Of a candle.
    gaps : polars.DataFrame
        ``start`` and ``end`` (UTC, `end` exclusive) and ``kind`` of each gap within the limits.
    start, end : datetime
        Limits of the chart, UTC, `end` exclusive.
    name : str
        Such as ``spot klines BTCUSDT 1h``.
    price_unit, volume_unit : str
        Such as ``USDT`` and ``BTC``; empty if unknown.
    """

    frame: pl.DataFrame
    length: Length
    gaps: pl.DataFrame
    start: datetime
    end: datetime
    name: str
    price_unit: str = ""
    volume_unit: str = ""

    def bars(self, most: int, every: str | None) -> tuple[pl.DataFrame, Length]:
        """Return the bars to draw, and their length.

        Parameters
        ----------
        most : int
            The largest number of bars if their length is not given.
        every : str, optional
            The length of a bar.

        Raises
        ------
        ConfigurationError
            If `every` is invalid, or not a whole multiple of the candles.
        """
        if every is None:
            length = self._choose(most)
        elif not _fits(length := read_length(every), self.length):
            raise field_error("every", f"{every!r} is no whole multiple of {self.length.text}")
        if length.text == self.length.text:
            return self.frame, self.length
        if length.micros % WEEK and self.length.micros:
            # Candles of three days do not begin at multiples of three days since 1970.
            first = to_micros(self.frame["open_time"][0])
            length = replace(length, phase=first % self.length.micros)
        return resample(self.frame, length), length

    def _choose(self, most: int) -> Length:
        """Return the shortest length that makes at most `most` bars."""
        span = (self.end - self.start) // timedelta(microseconds=1)
        if span / _micros(self.length) <= most:
            return self.length
        lengths = [length for text in _LENGTHS if _fits(length := read_length(text), self.length)]
        enough = (length for length in lengths if span / _micros(length) <= most)
        return next(enough, lengths[-1] if lengths else self.length)


def _micros(length: Length) -> int:
    return length.micros or length.months * _LONGEST_MONTH


def _fits(length: Length, candle: Length) -> bool:
    """Return whether each bar is made of whole candles."""
    if candle.months:
        return length.months > 0 and length.months % candle.months == 0
    if length.months:
        return DAY % candle.micros == 0
    return length.micros % candle.micros == 0


def from_store(
    source: Source,
    symbol: str,
    interval: str,
    market: str,
    data_type: str,
    limits: tuple[Moment | None, Moment | None],
    options: dict[str, Any],
) -> CandleRows:
    """Load the candles of a store, and the gaps that its coverage reports."""
    engine = open_engine(source, options)
    feed = engine.feed(market, data_type)
    if not feed.data_type.has_intervals:
        families = [each for each in DataType if each.has_intervals]
        raise ConfigurationError(unknown("data_type", feed.data_type, families))
    start, end = limits
    frame = load_klines(
        OpenStore(engine),
        symbol,
        interval,
        market=market,
        data_type=data_type,
        start=start,
        end=end,
    )
    stream = Stream(feed.market, feed.data_type, symbol, read_interval(interval))
    first, until = parse_limits(start, end)
    stored = Expected.of_folder(engine, (None, None))
    own = stored.streams[stream]
    begins = _utc(first or to_naive(to_day_number(own.first) * DAY))
    ends = _utc(until or to_naive((to_day_number(own.last) + 1) * DAY))
    days = begins.date(), (ends - timedelta(microseconds=1)).date()
    known = survey_streams(engine, stored, {stream: days}).gaps.filter(symbol=symbol)
    length = read_length(interval)
    parts = split_symbol(feed.market, symbol)
    units = {column.name: column.unit for column in schema(feed.market, feed.data_type).columns}
    volume = {"base asset": parts.base, "contracts": "contracts"}.get(units.get("volume") or "")
    has_volume = feed.data_type is DataType.KLINES
    return CandleRows(
        frame.select("open_time", *_PRICES, *(["volume"] if has_volume else [])),
        length,
        _gaps_within(known, frame["open_time"], length, begins, ends),
        begins,
        ends,
        f"{feed.market} {feed.data_type} {symbol} {interval}",
        parts.quote or "",
        volume or "",
    )


def from_frame(
    frame: pl.DataFrame,
    symbol: str | None,
    interval: str | None,
    limits: tuple[Moment | None, Moment | None],
) -> CandleRows:
    """Take the candles of a frame. The reason of times without a candle is not known.

    Raises
    ------
    ConfigurationError
        If the frame is not of the candles of one symbol, or has none within the limits.
    """
    if missing := [name for name in ("open_time", *_PRICES) if name not in frame.columns]:
        raise field_error("source", f"the frame has no {', '.join(missing)}", label="")
    if symbol is not None and not isinstance(symbol, str):
        raise field_error("symbol", f"{shown(symbol)} is not the name of one symbol")
    if "symbol" in frame.columns:
        frame = _of_symbol(frame, symbol)
        symbol = frame["symbol"][0] if frame.height else symbol
    volume = ["volume"] if "volume" in frame.columns else []
    prices = pl.col(*_PRICES, *volume).cast(pl.Float64)
    if not is_time(frame.schema["open_time"]):
        raise field_error("source", "open_time of the frame is not a time", label="")
    candles = frame.select(to_utc(frame["open_time"]), prices).filter(
        pl.all_horizontal(pl.col(*_PRICES).is_finite())
    )
    first, until = parse_limits(*limits)
    start = pl.lit(True) if first is None else pl.col("open_time") >= _utc(first)
    end = pl.lit(True) if until is None else pl.col("open_time") < _utc(until)
    candles = candles.sort("open_time").filter(start, end)
    times = candles["open_time"]
    if not len(times):
        raise field_error("source", "the frame has no candle of these times", label="")
    if times.n_unique() < len(times):
        raise field_error(
            "source", "the frame has several candles of one time; choose a symbol", label=""
        )
    length = _length_between(times) if interval is None else read_length(interval, "interval")
    begins = _utc(first) if first else times[0]
    ends = _utc(until) if until else times.tail(1).dt.offset_by(length.every)[0]
    gaps = _gaps_within(pl.DataFrame(schema=_GAPS), times, length, begins, ends)
    name = " ".join(filter(None, (symbol, length.text)))
    return CandleRows(candles, length, gaps, begins, ends, name)


def _of_symbol(frame: pl.DataFrame, symbol: str | None) -> pl.DataFrame:
    """Return the rows of a symbol, which may be left out if the frame has only one."""
    known = frame["symbol"].cast(pl.String).unique().sort().to_list()
    if symbol is None and len(known) > 1:
        raise field_error("symbol", f"choose one of {first_few(known)}")
    if symbol is not None and symbol not in known:
        raise ConfigurationError(unknown("symbol", symbol, known))
    return frame if symbol is None else frame.filter(pl.col("symbol").cast(pl.String) == symbol)


def _length_between(times: pl.Series) -> Length:
    """Return the most frequent step between times as a length."""
    steps = times.diff().drop_nulls()
    if not len(steps):
        raise field_error("interval", "one candle does not show it; give it, such as '1h'")
    step = int(steps.mode().min().total_seconds() * SECOND)  # type: ignore[union-attr]
    days = step / DAY
    for text, least, most in (("1mo", 28, 31), ("1q", 90, 92), ("1y", 365, 366)):
        if least <= days <= most:
            return read_length(text)
    units = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND}
    unit = next((unit for unit, size in units.items() if step % size == 0), None)
    if unit is None:
        raise field_error("interval", "the times do not show it; give it, such as '1h'")
    return read_length("1w" if step == WEEK else f"{step // units[unit]}{unit}")


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)


def _gaps_within(
    known: pl.DataFrame, times: pl.Series, length: Length, start: datetime, end: datetime
) -> pl.DataFrame:
    """Return the known gaps within limits, and the other times of a candle or more without one."""
    begins, ends = pl.col("start").clip(start), pl.col("end").clip(upper_bound=end)
    gaps = known.select(begins, ends, pl.col("kind").cast(pl.String))
    gaps = gaps.filter(pl.col("start") < pl.col("end")).sort("start")
    limits = pl.Series([start, end], dtype=TIME)
    between = pl.DataFrame(
        {
            "start": pl.concat([limits[:1], times.dt.offset_by(length.every)]),
            "end": pl.concat([times, limits[1:]]),
        }
    )
    empty = between.filter(pl.col("start") < pl.col("end")).rows()
    rest = [(*span, NO_CANDLE) for span in _without(empty, gaps.select("start", "end").rows())]
    whole = pl.col("start").dt.offset_by(length.every) <= pl.col("end")
    others = pl.DataFrame(rest, _GAPS, orient="row").filter(whole)
    return pl.concat([gaps, others]).sort("start")


def _without(spans: Sequence[Span], others: Sequence[Span]) -> Iterator[Span]:
    """Yield the parts of spans that lie outside of others; both are sorted."""
    rest = iter(others)
    other = next(rest, None)
    for begin, end in spans:
        time = begin
        while other is not None and other[0] < end:
            if time < other[0]:
                yield time, other[0]
            time = max(time, other[1])
            if other[1] > end:
                break
            other = next(rest, None)
        if time < end:
            yield time, end
