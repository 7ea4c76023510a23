"""Polars over a store: the rows of a feed as a lazy frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, timedelta

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import And, PolarsPruner, Pruner, Selection, without_hints
from binance_archive_kit.reading.feed_table import FILE_COLUMNS, FeedTable
from binance_archive_kit.reading.known_times import known_at_of

_DAY = timedelta(days=1)


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
    with closing(engine.scan(feed, read, pruner)) as batches:
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
    frame = pl.from_arrow(batch)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"{type(frame)} instead of a frame")
    wanted = {name: dtype for name, dtype in feed.polars.items() if name in frame.columns}
    return frame.with_columns(
        pl.col(name).dt.replace_time_zone("UTC")
        if isinstance(dtype, pl.Datetime)
        else pl.col(name).cast(dtype)
        for name, dtype in wanted.items()
        if frame.schema[name] != dtype
    )
