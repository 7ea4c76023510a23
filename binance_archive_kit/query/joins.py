"""Join any feed to a frame without look-ahead: `known_at` and `join_known`.

A row is joined to a decision only if a live participant could have had it by then. When
that was stands in the schemas (`schemas.Known`): a candle at its close, metrics at the end
of their five minutes whichever way they are labelled, an hourly summary at the end of its
hour, all else at its own time.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import Any, Final

import polars as pl

from binance_archive_kit.archive.enums import Interval, read_interval, read_names
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    WrongValues,
    shown,
    unknown,
)
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.open_store import Source, open_engine
from binance_archive_kit.query.polars_scan import scan_feed
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.query.selection import parse_selection
from binance_archive_kit.reading.cadence import MONTH, Cadence, cadence_of, length
from binance_archive_kit.reading.feed_table import PATH_COLUMNS, feed_table, read_feed
from binance_archive_kit.reading.known_times import KNOWN_AT, columns_needed, known_at_of
from binance_archive_kit.storage.inventory import StoredFile

#: What `join_known` says of each row: whether a value was known, and if not, why.
STATUSES: Final = ("known", "not_yet_known", "too_old", "no_rows", "no_time")
KNOWN_STATUS: Final = "known_status"
_TIME = pl.Datetime("us", "UTC")
_DAY = timedelta(days=1)
#: Days of a feed on a grid, and rows of any other, that are read together.
_DAYS_AT_ONCE, _ROWS_AT_ONCE = 31, 1_000_000
#: How late a row may be before the one before it no longer counts.
_LATE = timedelta(minutes=1)
#: How many usual steps a value counts in a feed without an exact grid.
_PACE_STEPS = 20
#: How long a value counts in a feed without any steps.
_EVENT_AGE = _DAY
#: Names of temporary columns.
_ROW, _AT, _SYMBOL = "__row", "__at", "__symbol"
Batches = Iterator[pl.DataFrame]
#: Longer than the archive is old by far: any age can be asked for with None.
_LONGEST = timedelta(days=366_000)
_LENGTH = re.compile(r"([0-9]{1,7})(ms|s|m|h|d|w)")
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def known_at(frame: pl.DataFrame, market: str, data_type: str) -> pl.DataFrame:
    """Add the moment at which each row was known to a live participant.

    That is the earliest moment, not the publication in the archive a day later. ``scan(...,
    known_at=True)`` gives the same lazily, and reads whole files where it needs them.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows of one feed, with the columns it is computed from: the time of the feed;
        ``open_time`` and ``close_time`` of candles; ``file`` for metrics, all rows of each
        file, because their labels show which end of its period a row is labelled by.
    market, data_type : str
        Such as "futures_um" and "metrics".

    Returns
    -------
    polars.DataFrame
        `frame` with ``known_at``, UTC; null where the times of a row contradict each other.

    Raises
    ------
    ConfigurationError
        If the archive has no such feed, a column is missing, or times are without a zone.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> hour = datetime(2023, 10, 20, 7, tzinfo=UTC)
    >>> frame = known_at(pl.DataFrame({"time": [hour]}), "options", "EOHSummary")
    >>> str(frame["known_at"][0])
    '2023-10-20 08:00:00+00:00'
    """
    feed = feed_table(*read_feed(market, data_type))
    frame = _frame("frame", frame)
    for name in columns_needed(feed):
        if name not in frame.columns:
            raise ConfigurationError(
                f"frame: no column {name!r}, from which known_at of {feed.view} is computed; "
                f"it has {', '.join(frame.columns)}"
            )
    times = [name for name in columns_needed(feed) if name != "file"]
    aware = frame.with_columns(_utc(frame.schema, name, f"frame: {name}") for name in times)
    found = aware.select(known_at_of(feed).cast(_TIME)).to_series()
    return frame.with_columns(found)


def join_known(
    left: pl.DataFrame | pl.LazyFrame,
    source: Source | pl.DataFrame | pl.LazyFrame,
    market: str | None = None,
    data_type: str | None = None,
    *,
    on: str | pl.Expr = "open_time",
    symbol: str | Mapping[str, str] | None = None,
    interval: str | None = None,
    where: pl.Expr | None = None,
    by: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    tolerance: timedelta | str | None = "due",
    suffix: str | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Join to each row what a live participant knew of a feed at that moment.

    For each row of `left` this is the latest row of the feed whose ``known_at`` is at or
    before the moment that `on` gives. Rows that were known later never change the result.

    Parameters
    ----------
    left : polars.DataFrame or polars.LazyFrame
        One row for each decision; in any order, which is kept.
    source : str, Path, OpenStore, polars.DataFrame or polars.LazyFrame
        The folder of a store, or an open store. Or rows of any kind with a column
        ``known_at``, such as a filtered ``scan(..., known_at=True)``.
    market, data_type : str
        The feed to join, such as "futures_um" and "metrics"; not for a frame.
    on : str or polars.Expr
        Moment of each decision, with a time zone: a column of `left` or an expression. A
        candle's own close is not known at its ``open_time``: decide at ``open_time`` with
        what was known then, or at ``pl.col("open_time") + timedelta(hours=1)``.
    symbol : str or mapping of str to str, optional
        Symbol of the feed for all rows, or the one for each symbol of `left`, such as
        ``{"BTCUSDT": "BTCUSD_PERP"}``. By default the column ``symbol`` of `left` says it.
    interval : str, optional
        Of candles: the one to join. May be left out where the store has only one.
    where : polars.Expr, optional
        Condition on the rows of the feed, such as ``pl.col("percentage") == -1``.
    by : str or sequence of str
        Columns besides the symbol that must be equal on both sides, such as
        ``option_symbol``.
    columns : str or sequence of str, optional
        Columns of the feed to join; None for all of its own.
    tolerance : timedelta, str or None
        How old a row may be, ``"90m"`` or a timedelta: an older one counts as unknown. None
        for any age. ``"due"``: until the next row was due and a minute more (funding: eight
        hours); for feeds without fixed steps 20 of their usual steps, for trades, quotes and
        liquidations a day.
    suffix : str, optional
        Added to joined columns whose name `left` has already; ``_`` and the data type by
        default.
    **options
        As for `store`.

    Returns
    -------
    polars.DataFrame
        The rows of `left` with ``known_at`` and the columns of the feed, and with
        ``known_status``, which says why values are null:

        - ``known``: they are those of ``known_at``.
        - ``not_yet_known``: the store has no row that was known by then.
        - ``too_old``: the store has earlier rows, but none within `tolerance`.
        - ``no_rows``: the store has no files of this symbol.
        - ``no_time``: the moment of the decision is null.

    Raises
    ------
    ConfigurationError
        If a field is invalid, times have no zone, a symbol or interval is not in the store,
        or the rows of one symbol and moment are of several kinds and neither `where` nor
        `by` tells them apart.
    FileError
        For a file that is not what its name says, or that has two different rows of one
        symbol and time; ``on_error="skip"`` leaves such files, and such rows, out.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> def with_open_interest(folder: str) -> pl.DataFrame:
    ...     candles = bak.load_klines(folder, "BTCUSDT", "1h", market="futures_um")
    ...     return bak.join_known(
    ...         candles, folder, "futures_um", "metrics", symbol="BTCUSDT",
    ...         columns=["sum_open_interest"],
    ...     )
    """
    frame = _frame("left", left)
    if symbol is not None and not isinstance(symbol, str | Mapping):
        raise ConfigurationError(
            f"symbol: {shown(symbol)} is neither a name nor a mapping of names to names; several "
            "symbols are joined by the column 'symbol' of left"
        )
    groups = _names("by", by)
    rows: _FeedRows | _FrameRows
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        given = {"market": market, "data_type": data_type, "interval": interval} | options
        if odd := [name for name, value in given.items() if value is not None]:
            raise ConfigurationError(f"{', '.join(odd)}: not for a frame of rows; leave it out")
        rows = _FrameRows(source.lazy(), where)
    else:
        rows = _FeedRows(open_engine(source, options), market, data_type, where)
    own = rows.own if columns is None else _names("columns", columns)
    for name in groups:
        _check_has("by", name, frame.columns, "left")
        _check_has("by", name, rows.names, rows.title)
    for name in own:
        _check_has("columns", name, rows.names, rows.title)
    decisions = frame.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias(_ROW),
        _moments(frame, on),
        _symbols(frame, symbol, rows),
        *groups,
    )
    rows.choose(decisions[_SYMBOL].drop_nulls().unique().to_list(), interval, symbol)
    age = rows.age if tolerance == "due" else _read_length(tolerance)
    keys = [_SYMBOL, *groups]
    own = [name for name in own if name not in groups]
    timed = decisions.drop_nulls(_AT).sort(_AT)
    latest = _latest(rows, timed, keys, own, age)
    joined = timed.join_asof(
        latest,
        left_on=_AT,
        right_on=KNOWN_AT,
        by=keys,
        tolerance=age,
        coalesce=False,
        check_sortedness=False,
    )
    found = decisions.join(joined.select(_ROW, KNOWN_AT, *own), on=_ROW, how="left").sort(_ROW)
    found = found.with_columns(_status(found, rows, age))
    if suffix is None:
        suffix = rows.suffix
    names = {
        name: f"{name}{suffix}" if name in frame.columns else name
        for name in (KNOWN_AT, KNOWN_STATUS, *own)
    }
    if taken := [new for new in names.values() if new in frame.columns]:
        raise ConfigurationError(f"suffix: {suffix!r} makes {taken[0]!r}, which left has already")
    return frame.hstack(found.select(*names).rename(names))


class _FeedRows:
    """Rows of a feed of a store."""

    def __init__(
        self, engine: Engine, market: str | None, data_type: str | None, where: pl.Expr | None
    ) -> None:
        if market is None or data_type is None:
            raise ConfigurationError(
                "market, data_type: name a feed of the store, such as 'futures_um', 'metrics'"
            )
        self.engine = engine
        self.feed = engine.feed(market, data_type)
        self.title = self.feed.view
        self.suffix = f"_{self.feed.data_type.name.lower()}"
        self.own = list(self.feed.columns)
        self.names = [*self.own, *PATH_COLUMNS]
        self.has_symbols = True
        self._where = where
        if where is not None:
            _check_where(self.nothing().lazy(), where)
        self._files: dict[str, list[StoredFile]] = {}
        self._interval: Interval | None = None

    def choose(self, symbols: list[str], interval: str | None, named: object) -> None:
        """Choose the files of these symbols, and of one interval."""
        streams = self.engine.folders(self.feed)
        if not streams:
            raise ConfigurationError(self.engine.nothing_of(self.feed))
        known = sorted({held.folder.symbol for held in streams})
        strangers = sorted(set(symbols) - set(known))
        if strangers and (named is not None or len(strangers) == len(symbols)):
            parse_selection(self.engine, self.feed, strangers)
        if self.feed.data_type.has_intervals:
            there = {
                each.folder.interval
                for each in streams
                if each.folder.symbol in symbols or not symbols
            }
            if interval is not None and not isinstance(interval, str):
                raise ConfigurationError(
                    f"interval: {shown(interval)} is not valid; use a name like '1h'"
                )
            if interval is None and len(there) != 1:
                names = ", ".join(each for each in Interval if each in there)
                raise ConfigurationError(f"interval: choose one of {names}")
            own = [name for name in symbols if name in known] or None
            parse_selection(self.engine, self.feed, own, interval)
            [self._interval] = there if interval is None else [Interval(read_interval(interval))]
        elif interval is not None:
            raise ConfigurationError(f"interval: {self.title} has none; leave it out")
        for held in streams:
            if held.folder.symbol in symbols and held.folder.interval in (None, self._interval):
                self._files.setdefault(held.folder.symbol, []).extend(held.files)
        for files in self._files.values():
            files.sort(key=lambda file: file.start)

    @property
    def symbols(self) -> list[str]:
        """The symbols that the store has rows of."""
        return sorted(self._files)

    @property
    def period(self) -> timedelta:
        """The longest time from a row's own time to the moment at which it is known."""
        if self._interval is not None:
            step = length(self._interval)
            return timedelta(days=31) if step == MONTH else timedelta(microseconds=step)
        return self.feed.schema.known.period or timedelta(0)

    @property
    def age(self) -> timedelta | None:
        """How long a row counts until the next one is due, and a little more."""
        if self._interval is not None:
            return self.period + _LATE
        step = timedelta(microseconds=self._rhythm.step)
        if not step:
            return _EVENT_AGE
        return step + _LATE if self._is_grid else _PACE_STEPS * step

    @property
    def _rhythm(self) -> Cadence:
        return cadence_of(self.feed.market, self.feed.data_type, self._interval)

    @property
    def _is_grid(self) -> bool:
        return self._rhythm.kind == "regular"

    def batches(self, moments: pl.Series, age: timedelta | None, names: list[str]) -> Batches:
        """Yield the rows that some decision may see, oldest first, in parts that fit in memory."""
        for first, last in self._spans(moments, age):
            if not self._is_grid:
                rows = self._scan(self.symbols, first, last).select(names)
                yield from rows.collect_batches(chunk_size=_ROWS_AT_ONCE)
                continue
            for start in pl.datetime_range(
                first, last - _DAY, f"{_DAYS_AT_ONCE}d", time_zone="UTC", eager=True
            ):
                end = min(start + timedelta(days=_DAYS_AT_ONCE), last)
                yield self._scan(self.symbols, start, end).select(names).collect()

    def _spans(
        self, moments: pl.Series, age: timedelta | None
    ) -> Iterator[tuple[datetime, datetime]]:
        """Yield runs of whole days in which rows lie that some decision may see."""
        if not self.symbols:
            return
        # A long candle may begin before the month of its file.
        begin = min(_midnight(files[0].start) for files in self._files.values())
        begin -= self.period + _DAY
        back = None if age is None else age + self.period + _DAY
        run: tuple[datetime, datetime] | None = None
        for day in moments.dt.date().unique().sort():
            last = _midnight(day) + _DAY
            first = begin if back is None else max(begin, _midnight(day) - back)
            first = _midnight(first.date())
            if run is not None and first <= run[1]:
                run = run[0], last
                continue
            if run is not None:
                yield run
            run = (first, last) if first < last else None
        if run is not None:
            yield run

    def first_known(self, symbol: str) -> datetime | None:
        """Return when the first row of a symbol was known; None if it has none."""
        for file in self._files.get(symbol, []):
            first = _midnight(file.start) - self.period - _DAY
            rows = self._scan([symbol], first, _midnight(file.end) + 2 * _DAY)
            found = rows.select(pl.col(KNOWN_AT).min()).collect().item()
            if isinstance(found, datetime):
                return found
        return None

    def nothing(self) -> pl.DataFrame:
        """Return no rows, with all columns."""
        return pl.DataFrame(schema={**self.feed.polars, KNOWN_AT: _TIME, _SYMBOL: pl.String()})

    def _scan(self, symbols: list[str], start: datetime, end: datetime) -> pl.LazyFrame:
        selection = Selection(
            frozenset(symbols),
            None if self._interval is None else frozenset([self._interval]),
            start.replace(tzinfo=None),
            end.replace(tzinfo=None),
        )
        rows = scan_feed(self.engine, self.feed, selection, known_at=True)
        if self._where is not None:
            rows = rows.filter(self._where)
        return rows.with_columns(pl.col("symbol").cast(pl.String).alias(_SYMBOL))

    @property
    def order(self) -> list[str]:
        """Columns that put rows known at the same moment in order."""
        return [self.feed.time, *(key for key in self.feed.schema.key if key in self.own)]

    def checked(self, rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """Drop exact repeats; raise if rows of one symbol and moment are not of one kind."""
        schema = self.feed.schema
        if not {self.feed.time, *schema.time.made_from} & set(schema.key):
            return rows
        rows = rows.unique([name for name in rows.columns if name != "file"], maintain_order=True)
        twice = rows.filter(pl.struct(*keys, KNOWN_AT).is_duplicated())
        if twice.is_empty():
            return rows
        for name in schema.series:
            if name not in keys and twice[name].n_unique() > 1:
                raise ConfigurationError(
                    f"by: rows of {self.title} differ by {name!r} at one time; choose one of them "
                    f"with where=pl.col({name!r}) == …, or match a column of left with by={name!r}"
                )
        first = twice.row(0, named=True)
        same = twice.filter(
            pl.all_horizontal(pl.col(key) == first[key] for key in [*keys, KNOWN_AT])
        )
        one, *others = dict.fromkeys(same["file"])
        also = f", the other in {', '.join(others)}" if others else ""
        error = WrongValues(
            one,
            f"two different rows of {first[_SYMBOL]} were known at "
            f"{first[KNOWN_AT]:%Y-%m-%d %H:%M:%S} UTC{also}",
        )
        if self.engine.options.on_error == "raise":
            raise error
        self.engine.problems.setdefault(one, error)
        warnings.warn(
            f"{error.file}: {error.detail}; both left out", ArchiveKitWarning, stacklevel=4
        )
        return rows.filter(~pl.struct(*keys, KNOWN_AT).is_duplicated())


class _FrameRows:
    """Rows of a frame that says when each was known."""

    title = "the frame of rows"
    suffix = "_known"
    symbols: list[str]

    def __init__(self, frame: pl.LazyFrame, where: pl.Expr | None) -> None:
        types = frame.collect_schema()
        self.names = types.names()
        _check_has("source", KNOWN_AT, self.names, self.title)
        self.has_symbols = "symbol" in self.names
        label = pl.col("symbol").cast(pl.String) if self.has_symbols else pl.lit("")
        moments = _utc(types, KNOWN_AT, f"source: {KNOWN_AT}")
        self._frame = frame.with_columns(moments, label.alias(_SYMBOL))
        if where is not None:
            _check_where(self._frame.head(0), where)
            self._frame = self._frame.filter(where)
        self.own = [name for name in self.names if name not in (KNOWN_AT, *PATH_COLUMNS)]
        self.order: list[str] = []

    def choose(self, symbols: list[str], interval: str | None, named: object) -> None:
        """Find out which symbols there are, and since when."""
        first = self._frame.group_by(_SYMBOL).agg(pl.col(KNOWN_AT).min()).collect()
        self._first: dict[str, datetime | None] = dict(first.rows())
        self.symbols = sorted(self._first)
        if named is not None and (strangers := sorted(set(symbols) - set(self.symbols))):
            raise ConfigurationError(unknown("symbol of source", strangers[0], self.symbols))

    @property
    def age(self) -> timedelta | None:
        """A frame does not say when the next row is due."""
        raise ConfigurationError(
            "tolerance: a frame of rows does not say when the next one is due; give a length such "
            "as '90m', or None for any age"
        )

    def batches(self, _moments: pl.Series, _age: timedelta | None, names: list[str]) -> Batches:
        """Yield all rows at once."""
        yield self._frame.select(names).collect()

    def nothing(self) -> pl.DataFrame:
        """Return no rows, with all columns."""
        return self._frame.head(0).collect()

    def first_known(self, symbol: str) -> datetime | None:
        """Return when the first row of a symbol was known; None if it has none."""
        return self._first.get(symbol)

    def checked(self, rows: pl.DataFrame, _keys: Sequence[str]) -> pl.DataFrame:
        """Return rows as they are."""
        return rows


def _latest(
    rows: _FeedRows | _FrameRows,
    decisions: pl.DataFrame,
    keys: list[str],
    own: list[str],
    age: timedelta | None,
) -> pl.DataFrame:
    """Return for each decision the last row that became known since the decision before it.

    No decision sees any other row, so few are kept however many a feed has.
    """
    moments = decisions[_AT].unique().sort()
    names = list(dict.fromkeys([*keys, KNOWN_AT, *own, *rows.order]))
    if isinstance(rows, _FeedRows):
        names = list(dict.fromkeys([*names, *rows.feed.schema.series, "file"]))
    kept: list[pl.DataFrame] = []
    for batch in chain([rows.nothing().select(names)], rows.batches(moments, age, names)):
        found = rows.checked(batch.drop_nulls(KNOWN_AT), keys)
        slot = moments.search_sorted(found[KNOWN_AT], side="left")
        kept.append(
            found.with_columns(pl.Series("__slot", slot, dtype=pl.UInt32))
            .filter(pl.col("__slot") < len(moments))
            .sort(KNOWN_AT, *rows.order, maintain_order=True)
            .unique([*keys, "__slot"], keep="last", maintain_order=True)
            .drop("__slot")
        )
    return pl.concat(kept).sort(KNOWN_AT, maintain_order=True).select(*keys, KNOWN_AT, *own)


def _status(found: pl.DataFrame, rows: _FeedRows | _FrameRows, age: timedelta | None) -> pl.Series:
    """Return the status of each row: whether a value was known, and if not, why.

    It depends on nothing but rows known by then, and on which symbols the store has files of.
    """
    doubtful = found.filter(pl.col(KNOWN_AT).is_null() & pl.col(_AT).is_not_null())
    first = {
        symbol: rows.first_known(symbol) if symbol in rows.symbols else None
        for symbol in doubtful[_SYMBOL].drop_nulls().unique()
    }
    since = pl.col(_SYMBOL).replace_strict(first, default=None, return_dtype=_TIME)
    return found.select(
        pl.when(pl.col(_AT).is_null())
        .then(pl.lit("no_time"))
        .when(pl.col(KNOWN_AT).is_not_null())
        .then(pl.lit("known"))
        .when(~pl.col(_SYMBOL).is_in(rows.symbols).fill_null(False))
        .then(pl.lit("no_rows"))
        .when(since <= pl.col(_AT))
        .then(pl.lit("too_old"))
        .otherwise(pl.lit("not_yet_known"))
        .cast(pl.Enum(STATUSES))
        .alias(KNOWN_STATUS)
    ).to_series()


# What is asked for


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _frame(field: str, frame: object) -> pl.DataFrame:
    """Collect a frame of Polars; refuse anything else."""
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, pl.DataFrame):
        raise ConfigurationError(
            f"{field}: a {type(frame).__name__} is not a frame of Polars; "
            "make one of it first with polars.DataFrame(...)"
        )
    return frame


def _names(field: str, names: str | Sequence[str]) -> list[str]:
    """List the names of columns, which may be none."""
    empty = isinstance(names, Sequence) and not isinstance(names, str) and not names
    return [] if empty else read_names(field, names)


def _check_where(rows: pl.LazyFrame, where: pl.Expr) -> None:
    """See that a condition can be evaluated, on rows that are none."""
    if not isinstance(where, pl.Expr):
        raise ConfigurationError(
            f"where: {shown(where)} is not an expression; write it like pl.col('percentage') == -1"
        )
    try:
        rows.filter(where).collect()
    except pl.exceptions.PolarsError as error:
        said = re.split("; valid columns|\n", str(error))[0]
        raise ConfigurationError(f"where: not possible with these rows: {said}") from None


def _check_has(field: str, name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        raise ConfigurationError(unknown(f"{field}: column of {what}", name, names))


def _utc(types: Mapping[str, pl.DataType], name: str, field: str) -> pl.Expr:
    """Return the expression for a column of times in UTC; times without a zone are an error."""
    dtype = types[name]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        way = "give a column of polars.Datetime with a time zone"
        if dtype.is_temporal():
            way = "if its times are UTC, say so first with .dt.replace_time_zone('UTC')"
        raise ConfigurationError(f"{field}: {dtype} does not say which moment is meant; {way}")
    return pl.col(name).dt.convert_time_zone("UTC").cast(_TIME)


def _moments(frame: pl.DataFrame, on: str | pl.Expr) -> pl.Series:
    """Evaluate the moment of each decision, UTC."""
    if isinstance(on, str):
        _check_has("on", on, frame.columns, "left")
        on = pl.col(on)
    if not isinstance(on, pl.Expr):
        raise ConfigurationError(f"on: {shown(on)} is neither a column nor an expression")
    try:
        found = frame.with_columns(on.alias(_AT)).select(_AT)
    except pl.exceptions.PolarsError as error:
        raise ConfigurationError(f"on: left has no such moments: {error}") from None
    return found.select(_utc(found.schema, _AT, "on")).to_series()


def _symbols(
    frame: pl.DataFrame, symbol: str | Mapping[str, str] | None, rows: _FeedRows | _FrameRows
) -> pl.Series:
    """Return the symbol of the feed for each row of the left frame."""
    if isinstance(symbol, str):
        return pl.repeat(symbol, frame.height, eager=True, dtype=pl.String).alias(_SYMBOL)
    if not rows.has_symbols:
        if symbol is None:
            return pl.repeat("", frame.height, eager=True, dtype=pl.String).alias(_SYMBOL)
        raise ConfigurationError(f"symbol: {rows.title} has no column 'symbol'")
    if "symbol" not in frame.columns:
        raise ConfigurationError(
            f"symbol: left has no column 'symbol'; name the one of {rows.title} to join"
        )
    own = frame["symbol"].cast(pl.String).alias(_SYMBOL)
    if symbol is None:
        return own
    if not isinstance(symbol, Mapping) or not all(isinstance(s, str) for s in symbol.values()):
        raise ConfigurationError(
            f"symbol: {shown(symbol)} is neither a name nor a mapping of names to names"
        )
    if absent := sorted(set(own.drop_nulls()) - set(symbol)):
        raise ConfigurationError(f"symbol: says nothing of {absent[0]!r}, which left has")
    return own.replace_strict(dict(symbol), return_dtype=pl.String)


def _read_length(value: timedelta | str | None) -> timedelta | None:
    given = value
    if isinstance(value, str) and (found := _LENGTH.fullmatch(value)) is not None:
        value = int(found[1]) * _UNITS[found[2]]
    if value is not None and not (isinstance(value, timedelta) and value <= _LONGEST):
        raise ConfigurationError(
            f"tolerance: {shown(given)} is no length of time; write 'due', '90m', '8h' or '1d', or "
            "give a timedelta"
        )
    if value is not None and value < timedelta(0):
        raise ConfigurationError(f"tolerance: {value} is negative")
    return value
