"""Rows to join, with the time at which each was known: of a feed of a store, or of a frame."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from binance_archive_kit.archive.enums import Interval, read_interval
from binance_archive_kit.errors import (
    ConfigurationError,
    WrongValues,
    field_error,
    shown,
    warn_user,
)
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.polars_scan import parse_selection, scan_feed
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.cadence import MONTH, cadence_of, length
from binance_archive_kit.reading.feed_table import PATH_COLUMNS
from binance_archive_kit.reading.known_times import KNOWN_AT
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.suggestions import unknown
from binance_archive_kit.timestamps import format_time

Batches = Iterator[pl.DataFrame]
TIME = pl.Datetime("us", "UTC")
#: Name of the temporary column of the symbol, as text.
SYMBOL = "__symbol"
_DAY = timedelta(days=1)
#: Days of a regular feed, and rows of any other, that are read together.
_DAYS_AT_ONCE, _ROWS_AT_ONCE = 31, 1_000_000
#: How late a row may be before the one before it is too old.
_LATE = timedelta(minutes=1)
#: Usual steps until a value is too old, in a feed without exact steps.
_USUAL_STEPS = 20
#: Age from which on a value is too old, in a feed without steps.
_EVENT_AGE = _DAY


class FeedRows:
    """Rows of a feed of a store.

    Attributes
    ----------
    title : str
        Names the rows in messages.
    suffix : str
        Added to column names that the left frame has already.
    columns, names : list of str
        The columns of the feed, without the path columns; and all that can be joined.
    has_symbols : bool
        Whether rows have a symbol.
    """

    has_symbols = True

    def __init__(
        self, engine: Engine, market: str | None, data_type: str | None, where: pl.Expr | None
    ) -> None:
        if market is None or data_type is None:
            raise field_error(
                "market" if market is None else "data_type",
                "name a feed of the store, such as 'futures_um', 'metrics'",
                label="market, data_type",
            )
        self._engine = engine
        self.feed = engine.feed(market, data_type)
        self.title = self.feed.view
        self.suffix = f"_{self.feed.data_type.name.lower()}"
        self.columns = list(self.feed.columns)
        self.names = [*self.columns, *PATH_COLUMNS]
        self._where = where
        if where is not None:
            _check_where(self.nothing().lazy(), where)
        self._files: dict[str, list[StoredFile]] = {}
        self._interval: Interval | None = None

    def choose(self, symbols: list[str], interval: str | None, *, named: bool) -> None:
        """Choose the files of these symbols, and of one interval.

        Parameters
        ----------
        named : bool
            Whether the caller named the symbols, so that each must be in the store; else it
            is enough that one is.
        """
        folders = self._engine.names(self.feed)
        known = {folder.symbol for folder in folders}
        strangers = sorted(set(symbols) - known)
        refused = strangers and (named or len(strangers) == len(symbols))
        parse_selection(self._engine, self.feed, strangers if refused else None)
        if self.feed.data_type.has_intervals:
            intervals = {
                folder.interval for folder in folders if folder.symbol in symbols or not symbols
            }
            if interval is not None and not isinstance(interval, str):
                raise field_error(
                    "interval", f"{shown(interval)} is not valid; use a name like '1h'"
                )
            if interval is None and len(intervals) != 1:
                names = ", ".join(each for each in Interval if each in intervals)
                raise field_error("interval", f"choose one of {names}")
            given = [name for name in symbols if name in known]
            parse_selection(self._engine, self.feed, given or None, interval)
            if interval is not None:
                intervals = {Interval(read_interval(interval))}
            [self._interval] = intervals
        elif interval is not None:
            raise field_error("interval", f"{self.title} has none; leave it out")
        for stored in self._engine.folders(self.feed, symbols.__contains__):
            if stored.folder.interval == self._interval:
                self._files.setdefault(stored.folder.symbol, []).extend(stored.files)
        for files in self._files.values():
            files.sort(key=lambda file: file.start)

    @property
    def symbols(self) -> list[str]:
        """The chosen symbols that the store has files of."""
        return sorted(self._files)

    @property
    def age(self) -> timedelta | None:
        """Age from which on a row is too old: until the next one was due, and a little more."""
        if self._interval is not None:
            return self._period + _LATE
        cadence = cadence_of(self.feed.market, self.feed.data_type, None)
        step = timedelta(microseconds=cadence.step)
        if not step:
            return _EVENT_AGE
        return step + _LATE if cadence.kind == "regular" else _USUAL_STEPS * step

    @property
    def expires(self) -> pl.Expr | None:
        """When each row is too old, where rows say when the next one is due; else None."""
        hours = cadence_of(self.feed.market, self.feed.data_type, None).hours_column
        return pl.col(KNOWN_AT) + pl.duration(hours=hours) + _LATE if hours else None

    @property
    def order(self) -> list[str]:
        """Columns that order rows known at the same time."""
        return [self.feed.time, *(key for key in self.feed.schema.key if key in self.columns)]

    @property
    def _period(self) -> timedelta:
        """The longest time from a row's own time to the time at which it is known."""
        if self._interval is not None:
            step = length(self._interval)
            return timedelta(days=31) if step == MONTH else timedelta(microseconds=step)
        return self.feed.schema.known.period or timedelta(0)

    def nothing(self) -> pl.DataFrame:
        """Return no rows, with all columns."""
        return pl.DataFrame(schema={**self.feed.polars, KNOWN_AT: TIME, SYMBOL: pl.String()})

    def batches(self, times: pl.Series, age: timedelta | None, names: list[str]) -> Batches:
        """Yield the rows that a decision may see, oldest first, in parts that fit in memory."""
        cadence = cadence_of(self.feed.market, self.feed.data_type, self._interval)
        for first, last in self._spans(times, age):
            if cadence.kind != "regular":
                rows = self._scan(self.symbols, first, last).select(names)
                yield from rows.collect_batches(chunk_size=_ROWS_AT_ONCE)
                continue
            for start in pl.datetime_range(
                first, last - _DAY, f"{_DAYS_AT_ONCE}d", time_zone="UTC", eager=True
            ):
                end = min(start + timedelta(days=_DAYS_AT_ONCE), last)
                yield self._scan(self.symbols, start, end).select(names).collect()

    def _spans(self, times: pl.Series, age: timedelta | None) -> list[tuple[datetime, datetime]]:
        """Return the spans of whole days whose rows a decision may see."""
        spans: list[tuple[datetime, datetime]] = []
        if not self.symbols:
            return spans
        # A long candle may begin before the month of its file.
        begin = min(_midnight(files[0].start) for files in self._files.values())
        begin -= self._period + _DAY
        back = None if age is None else age + self._period + _DAY
        for day in times.dt.date().unique().sort():
            last = _midnight(day) + _DAY
            first = begin if back is None else max(begin, _midnight(day) - back)
            first = _midnight(first.date())
            if spans and first <= spans[-1][1]:
                spans[-1] = spans[-1][0], last
            elif first < last:
                spans.append((first, last))
        return spans

    def first_known(self, symbol: str) -> datetime | None:
        """Return when the first row of a symbol was known; None if it has none."""
        for file in self._files.get(symbol, []):
            first = _midnight(file.start) - self._period - _DAY
            rows = self._scan([symbol], first, _midnight(file.end) + 2 * _DAY)
            found = rows.select(pl.col(KNOWN_AT).min()).collect().item()
            if isinstance(found, datetime):
                return found
        return None

    def _scan(self, symbols: list[str], start: datetime, end: datetime) -> pl.LazyFrame:
        selection = Selection(
            frozenset(symbols),
            None if self._interval is None else frozenset([self._interval]),
            start.replace(tzinfo=None),
            end.replace(tzinfo=None),
        )
        rows = scan_feed(self._engine, self.feed, selection, known_at=True)
        if self._where is not None:
            rows = rows.filter(self._where)
        return rows.with_columns(pl.col("symbol").cast(pl.String).alias(SYMBOL))

    def unique(self, rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """Drop exact duplicates; raise if rows of one symbol and time are of several kinds.

        Raises
        ------
        ConfigurationError
            If the rows differ by a column that `where` or `by` can choose.
        WrongValues
            If rows differ otherwise; where bad files are skipped, such rows are dropped.
        """
        schema = self.feed.schema
        if not {self.feed.time, *schema.time.made_from} & set(schema.key):
            return rows
        rows = rows.unique([name for name in rows.columns if name != "file"], maintain_order=True)
        ambiguous = pl.struct(*keys, KNOWN_AT).is_duplicated()
        twice = rows.filter(ambiguous)
        if twice.is_empty():
            return rows
        for name in schema.series:
            if name not in keys and twice[name].n_unique() > 1:
                raise field_error(
                    "by",
                    f"rows of {self.title} differ by {name!r} at one time; choose one of them "
                    f"with where=pl.col({name!r}) == …, or match a column of left with by={name!r}",
                )
        first = twice.row(0, named=True)
        same = twice.filter(
            pl.all_horizontal(pl.col(key) == first[key] for key in [*keys, KNOWN_AT])
        )
        file, *others = dict.fromkeys(same["file"])
        also = f", the other in {', '.join(others)}" if others else ""
        error = WrongValues(
            file,
            f"two different rows of {first[SYMBOL]} were known at "
            f"{format_time(first[KNOWN_AT])} UTC{also}",
        )
        if self._engine.options.on_error == "raise":
            raise error
        self._engine.problems.setdefault(file, error)
        warn_user(f"{error.file}: {error.detail}; both left out")
        return rows.filter(~ambiguous)


class FrameRows:
    """Rows of a frame with the column ``known_at``; attributes as of `FeedRows`."""

    title = "the frame of rows"
    suffix = "_known"
    order: Sequence[str] = ()
    expires: None = None
    symbols: list[str]

    def __init__(self, frame: pl.LazyFrame, where: pl.Expr | None) -> None:
        types = frame.collect_schema()
        self.names = types.names()
        check_column("source", KNOWN_AT, self.names, self.title)
        self.has_symbols = "symbol" in self.names
        symbol = pl.col("symbol").cast(pl.String) if self.has_symbols else pl.lit("")
        times = as_utc(types, KNOWN_AT, "source", f"source: {KNOWN_AT}")
        self._frame = frame.with_columns(times, symbol.alias(SYMBOL))
        if where is not None:
            _check_where(self._frame.head(0), where)
            self._frame = self._frame.filter(where)
        self.columns = [name for name in self.names if name not in (KNOWN_AT, *PATH_COLUMNS)]

    def choose(self, symbols: list[str], _interval: str | None, *, named: bool) -> None:
        """Find the symbols, and since when each is known."""
        first = self._frame.group_by(SYMBOL).agg(pl.col(KNOWN_AT).min()).collect()
        self._first: dict[str, datetime | None] = dict(first.rows())
        self.symbols = sorted(self._first)
        if named and (strangers := sorted(set(symbols) - set(self.symbols))):
            problem = unknown("symbol", strangers[0], self.symbols, "symbol of source")
            raise ConfigurationError(problem)

    @property
    def age(self) -> timedelta | None:
        """Raise a ConfigurationError: a frame does not show when the next row is due."""
        raise field_error(
            "tolerance",
            "a frame of rows does not say when the next one is due; give a length such as '90m', "
            "or None for any age",
        )

    def nothing(self) -> pl.DataFrame:
        """Return no rows, with all columns."""
        return self._frame.head(0).collect()

    def batches(self, _times: pl.Series, _age: timedelta | None, names: list[str]) -> Batches:
        """Yield all rows at once."""
        yield self._frame.select(names).collect()

    def first_known(self, symbol: str) -> datetime | None:
        """Return when the first row of a symbol was known; None if it has none."""
        return self._first.get(symbol)

    def unique(self, rows: pl.DataFrame, _keys: Sequence[str]) -> pl.DataFrame:
        """Return the rows unchanged."""
        return rows


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _check_where(rows: pl.LazyFrame, where: pl.Expr) -> None:
    """Check that a condition can be evaluated, on a frame without rows."""
    if not isinstance(where, pl.Expr):
        raise field_error(
            "where",
            f"{shown(where)} is not an expression; write it like pl.col('percentage') == -1",
        )
    try:
        rows.filter(where).collect()
    except pl.exceptions.PolarsError as error:
        message = re.split("; valid columns|\n", str(error))[0]
        raise field_error("where", f"not possible with these rows: {message}") from None


def check_column(field: str, name: str, names: Sequence[str], title: str) -> None:
    """Raise a ConfigurationError unless rows have a column of this name."""
    if name not in names:
        label = f"{field}: column of {title}"
        raise ConfigurationError(unknown(field, name, names, label))


def as_utc(
    types: Mapping[str, pl.DataType], name: str, field: str, label: str | None = None
) -> pl.Expr:
    """Return the expression for a column of times in UTC; times without a zone are an error."""
    dtype = types[name]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        advice = "give a column of polars.Datetime with a time zone"
        if dtype.is_temporal():
            advice = "if its times are UTC, convert it with .dt.replace_time_zone('UTC')"
        raise field_error(field, f"{dtype} has no time zone; {advice}", label)
    return pl.col(name).dt.convert_time_zone("UTC").cast(TIME)
