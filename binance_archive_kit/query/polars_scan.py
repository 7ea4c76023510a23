"""Polars over a store: the selected rows of a feed, as a lazy frame or without duplicates."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from binance_archive_kit.archive.enums import DataType, Interval, read_interval, read_names
from binance_archive_kit.errors import (
    ConfigurationError,
    ConflictingRows,
    field_error,
    shown,
    warn_user,
)
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import And, PolarsPruner, Pruner, Selection, without_hints
from binance_archive_kit.reading.feed_table import FILE_COLUMNS, FeedTable
from binance_archive_kit.reading.known_times import known_at_of
from binance_archive_kit.storage.inventory import Symbols
from binance_archive_kit.suggestions import nearest
from binance_archive_kit.timestamps import format_time, is_whole_day, parse_length, parse_time

Moment = str | date | datetime
_DAY = timedelta(days=1)
_LAST_DAY = datetime(datetime.max.year, 12, 31)
#: Names up to which a message lists all of them.
_FEW = 24
#: Files or streams that a message names.
_FEW_FILES = 5
#: Length from which on a given word is not repeated as the name of a symbol.
_LONG = 120


def parse_selection(
    engine: Engine,
    feed: FeedTable,
    symbols: str | Iterable[str] | None = None,
    intervals: str | Iterable[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
) -> Selection:
    """Parse the choice of rows, and check that the store has files of it.

    Raises
    ------
    ConfigurationError
        If a value is invalid, or the store has no file of the feed, of a symbol or of an
        interval.
    """
    chosen_symbols = _names("symbols", symbols)
    folders = [] if chosen_symbols is None else engine.names(feed, Symbols(chosen_symbols))
    if chosen_symbols is None or not chosen_symbols <= {folder.symbol for folder in folders}:
        folders = engine.names(feed)
    if not folders:
        raise engine.nothing_of(feed)
    chosen_intervals = _names("intervals", intervals)
    if chosen_intervals is not None:
        chosen_intervals = frozenset(map(read_interval, chosen_intervals))
    known_symbols = sorted({folder.symbol for folder in folders})
    for symbol in sorted((chosen_symbols or frozenset()).difference(known_symbols)):
        hint = engine.skipped_hint(symbol)
        raise _not_in_store(feed, "symbols", symbol, known_symbols, chosen_intervals, hint)
    of_symbols = {
        folder.interval
        for folder in folders
        if chosen_symbols is None or folder.symbol in chosen_symbols
    }
    known_intervals = [interval for interval in Interval if interval in of_symbols]
    for interval in sorted(chosen_intervals or ()):
        if interval not in known_intervals:
            raise _not_in_store(feed, "intervals", interval, known_intervals, chosen_symbols)
    return Selection(chosen_symbols, chosen_intervals, *parse_limits(start, end))


def parse_limits(
    start: Moment | None, end: Moment | None
) -> tuple[datetime | None, datetime | None]:
    """Parse the limits of times; return them as naive UTC, the end exclusive.

    A day as `end` is included.

    Raises
    ------
    ConfigurationError
        If a value is invalid, or the start is not before the end.
    """
    first, until = _time("start", start), _time("end", end)
    if until is not None and is_whole_day(end):
        until = until + _DAY if until < _LAST_DAY else None
    if first is not None and until is not None and first >= until:
        raise field_error("start", f"{start} is not before end: {end}")
    return first, until


def _names(field: str, names: str | Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(read_names(field, names))


def _not_in_store(
    feed: FeedTable,
    field: str,
    name: str,
    known: Sequence[str],
    others: Collection[str] | None,
    skipped_hint: str = "",
) -> ConfigurationError:
    """Return the error for a symbol or interval that is not in the store, with how to add it."""
    guess = nearest(name, known)
    hint = f"; did you mean {guess!r}?" if guess else "."
    more = f" and {len(known) - _FEW:,} more" if len(known) > _FEW else ""
    given = {"symbols": sorted(others or ()), "intervals": sorted(others or ()), field: [name]}
    wanted = f"symbols={_listed(given['symbols'])}"
    wanted = f'markets=["{feed.market}"], {wanted}, data_types=["{feed.data_type}"]'
    if feed.data_type.has_intervals:
        wanted += f', intervals={{"{feed.data_type}": {_listed(given["intervals"])}}}'
    of = f" of {', '.join(others)}" if others and field == "intervals" and len(others) == 1 else ""
    message = (
        f"{shown(str(name))} is not in the store{hint} It has: {', '.join(known[:_FEW])}{more}."
    )
    misspelled = guess is not None and _letters(name) == _letters(guess)
    advice = "" if misspelled or len(name) > _LONG else f" To add it: collect({wanted}, …)"
    if field == "intervals" and (parts := _parts_of(feed, name, known)):
        advice += f'; ohlcv(…, "{name}") builds such candles from {parts}'
    return field_error(field, f"{message}{advice}{skipped_hint}", f"{field} of {feed.view}{of}")


def _parts_of(feed: FeedTable, name: str, known: Sequence[str]) -> str | None:
    """Return the longest stored interval that divides a longer candle."""
    length, _ = parse_length(name) or (0, 0)
    fixed = [(parse_length(each) or (0, 0))[0] for each in known]
    parts = [each for each, part in zip(known, fixed, strict=True) if part and length % part == 0]
    return parts[-1] if parts and length and feed.data_type is DataType.KLINES else None


def _letters(symbol: str) -> str:
    """Return the letters and digits of a symbol, which others write BTC/USDT:USDT or btc-usdt."""
    return "".join(filter(str.isalnum, symbol.partition(":")[0])).casefold()


def _listed(names: Sequence[str]) -> str:
    """Format names as a Python list."""
    if not names or len(names) > _FEW:
        return "[…]"
    return f"[{', '.join(json.dumps(str(name), ensure_ascii=False) for name in names)}]"


def _time(field: str, value: Moment | None) -> datetime | None:
    """Parse a day or a time; return it as naive UTC."""
    try:
        return None if value is None else parse_time(value).replace(tzinfo=None)
    except ValueError as error:
        raise field_error(field, str(error)) from None


def scan_feed(
    engine: Engine,
    feed: FeedTable,
    selection: Selection,
    *,
    distinct: bool = False,
    known_at: bool = False,
) -> pl.LazyFrame:
    """Scan the selected rows of a feed lazily.

    Parameters
    ----------
    engine : Engine
    feed : FeedTable
    selection : Selection
    distinct : bool
        Drop exact duplicates: rows equal in every column but the file and its partition.
    known_at : bool
        Add the column ``known_at``: when a live participant could have had each row, UTC.
    """
    rows = selection
    # The labels of a whole file of metrics show which end of its period a row is labelled by.
    if known_at and feed.schema.known.rule == "metrics_label":
        start, end = selection.start, selection.end
        rows = replace(selection, start=start and start - _DAY, end=end and end + _DAY)

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        return _frames(engine, feed, rows, columns, predicate, limit)

    frame = register_io_source(read, schema=feed.polars, is_pure=True).filter(
        *_conditions(feed, rows)
    )
    if distinct:
        values = [name for name in feed.polars if name not in FILE_COLUMNS]
        frame = frame.unique(values, keep="first", maintain_order=True)
    if known_at:
        frame = frame.with_columns(known_at_of(feed))
    return frame if rows is selection else frame.filter(*_conditions(feed, selection))


def read_batches(
    engine: Engine, feed: FeedTable, selection: Selection, columns: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """Yield some columns of the selected rows, in order, in parts that fit in memory."""
    where = [*_conditions(feed, selection)]
    names = [*columns, *(name for name in ("symbol", feed.time) if name not in columns)]
    for frame in _frames(engine, feed, selection, names, None, None):
        yield frame.filter(where).select(columns)


def _conditions(feed: FeedTable, selection: Selection) -> Iterator[pl.Expr]:
    """Yield a selection as conditions on rows."""
    if selection.symbols is not None:
        yield pl.col("symbol").is_in(sorted(selection.symbols))
    if selection.intervals is not None:
        yield pl.col("interval").is_in(sorted(selection.intervals))
    time = pl.col(feed.time)
    if selection.start is not None:
        yield time >= selection.start.replace(tzinfo=UTC)
    if selection.end is not None:
        yield time < selection.end.replace(tzinfo=UTC)


def _frames(
    engine: Engine,
    feed: FeedTable,
    selection: Selection,
    columns: list[str] | None,
    predicate: pl.Expr | None,
    limit: int | None,
) -> Iterator[pl.DataFrame]:
    """Yield the rows that Polars asks for, as they are read."""
    names = list(feed.polars) if columns is None else columns
    pruner: Pruner = selection
    read = list(names)
    if predicate is not None:
        pruner = And(selection, PolarsPruner(predicate, feed.time))
        predicate = without_hints(predicate)
    if predicate is not None:
        read += [name for name in predicate.meta.root_names() if name not in names]
    with closing(engine.scan(feed, read, pruner, in_full=limit is None)) as batches:
        for batch in batches:
            frame = _polars_frame(batch, feed)
            if predicate is not None:
                frame = frame.filter(predicate)
            frame = frame.select(names)
            if limit is not None:
                frame = frame.head(limit)
                limit -= frame.height
            yield frame
            if limit == 0:
                return


def _polars_frame(batch: pa.RecordBatch, feed: FeedTable) -> pl.DataFrame:
    """Convert a batch to a frame of the feed's Polars types."""
    frame = pl.DataFrame(batch)
    schema = frame.schema
    return frame.with_columns(
        pl.col(name).dt.replace_time_zone("UTC")
        if isinstance(dtype, pl.Datetime)
        else pl.col(name).cast(dtype)
        for name, dtype in feed.polars.items()
        if schema.get(name, dtype) != dtype
    )


@dataclass
class UniqueRows:
    """Reads rows without duplicates, and counts the dropped ones.

    Attributes
    ----------
    dropped : int
        Rows that were dropped because they are equal to another one.
    files : set of str
        Files that have such rows.
    """

    engine: Engine
    dropped: int = 0
    files: set[str] = field(default_factory=set)

    def read(
        self,
        feed: FeedTable,
        selection: Selection,
        *where: pl.Expr,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Read rows in the order of symbol, interval and time, each once.

        Parameters
        ----------
        feed : FeedTable
        selection : Selection
        *where : polars.Expr
        columns : sequence of str, optional
            Own columns to return besides the time; all by default. Copies of a row are compared
            in all columns.
        """
        lazy = scan_feed(self.engine, feed, selection).filter(*where)
        names = ["symbol", "interval"] if feed.data_type.has_intervals else ["symbol"]
        own = feed.columns if columns is None else dict.fromkeys((feed.time, *columns))
        frame = lazy.select(*names, *own).collect()
        falls, has_duplicates = _steps(frame, names, feed.time)
        if falls:
            frame = frame.sort(*names, feed.time, maintain_order=True)
            _, has_duplicates = _steps(frame, names, feed.time)
        return self.unique(feed, lazy, frame, [*names, feed.time]) if has_duplicates else frame

    def unique(
        self, feed: FeedTable, lazy: pl.LazyFrame, frame: pl.DataFrame, key: list[str]
    ) -> pl.DataFrame:
        """Drop exact duplicates, and reject different rows with one key.

        Parameters
        ----------
        feed : FeedTable
        lazy : polars.LazyFrame
            A scan that has the rows of the frame, from which copies are compared.
        frame : polars.DataFrame
        key : list of str
            Columns that identify a row; the last one is its time.
        """
        duplicated = frame.group_by(key).len().filter(pl.col("len") > 1)
        times = duplicated[feed.time].unique()
        rows = (
            lazy.filter(pl.col("date").is_in(times.dt.date().unique().to_list()))
            .filter(pl.col(feed.time).is_in(times.to_list()))
            .drop("market", "date", FILE_COLUMNS[0])
            .collect()
            .join(duplicated, on=key, how="semi")
        )
        values = list(feed.columns)
        kinds = rows.group_by(key, maintain_order=True).agg(
            pl.struct(values).n_unique().alias("kinds")
        )
        conflicts = kinds.filter(pl.col("kinds") > 1).select(key)
        if conflicts.height:
            for error in _conflicts(rows.join(conflicts, on=key, how="semi"), key, values):
                self.engine.reject(error)
        equal = rows.join(conflicts, on=key, how="anti")
        self.dropped += equal.height - equal.select(key).n_unique()
        self.files |= set(equal["file"].cast(pl.String))
        rest = frame.join(conflicts, on=key, how="anti", maintain_order="left")
        return rest.unique(key, keep="first", maintain_order=True)

    def warn(self) -> None:
        """Warn of the rows that were dropped."""
        if not self.dropped:
            return
        rows = "1 row that repeats" if self.dropped == 1 else f"{self.dropped:,} rows that repeat"
        files = first_few(sorted(self.files))
        warn_user(f"dropped {rows} another one in every value; files: {files}")


def first_few(names: Sequence[str]) -> str:
    """Join the first names, and count the others."""
    more = f" and {len(names) - _FEW_FILES:,} more" if len(names) > _FEW_FILES else ""
    return f"{', '.join(names[:_FEW_FILES])}{more}"


def _steps(frame: pl.DataFrame, names: list[str], time: str) -> tuple[bool, bool]:
    """Return whether times of a stream ever fall from row to row, and whether they ever repeat."""
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in names)
    step = pl.col(time).diff()
    zero = timedelta(0)
    found = frame.lazy().select(
        falls=(same & (step < zero)).any(), has_duplicates=(same & (step == zero)).any()
    )
    falls, has_duplicates = found.collect().row(0)
    return bool(falls), bool(has_duplicates)


def _conflicts(rows: pl.DataFrame, key: list[str], values: list[str]) -> Iterator[ConflictingRows]:
    """Yield one error for each file: the first of its rows that conflict, and how many do."""
    *_, time = key
    rows = rows.with_columns(pl.col("file").cast(pl.String))
    firsts = rows.group_by("file", maintain_order=True).agg(
        pl.struct(key).n_unique().alias("times"), pl.col(key).first()
    )
    for first in firsts.iter_rows(named=True):
        group = rows.filter(pl.col(name) == first[name] for name in key)
        one, two = group.unique(values, keep="first", maintain_order=True).head(2).to_dicts()
        name = next(name for name in values if one[name] != two[name])
        message = f"two rows of {format_time(one[time])} differ: {name} is {one[name]}"
        others = [each["file"] for each in (one, two) if each["file"] != first["file"]]
        where = f", one of them in {others[0]}" if others else ""
        more = f" ({first['times']:,} such times)" if first["times"] > 1 else ""
        yield ConflictingRows(first["file"], f"{message} and {two[name]}{where}{more}")
