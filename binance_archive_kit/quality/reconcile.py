"""Compare rows that are in two files of a stream: monthly and daily files, and neighbours."""

from __future__ import annotations

import heapq
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from datetime import date
from itertools import groupby, pairwise, repeat
from typing import Any

import numpy as np
import polars as pl

from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.scan_reader import worker_count
from binance_archive_kit.reading.cadence import Cadence, cadence_of
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.reading.reader import ZipReader
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder

_ONLY = "only"
#: Values of one row that are shown before the rest is counted.
_SHOWN = 3
#: Names of columns that no feed has.
_DAILY, _MONTHLY, _INDEX = " daily", " monthly", " index"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Neighbouring rows in which two files differ.

    Attributes
    ----------
    start, end : int
        Microseconds since 1970 UTC, `end` exclusive.
    rows : int
    difference : str
        The difference of the first row: ``close is 104.5 in the daily file and 104.0 in the
        monthly one``.
    """

    start: int
    end: int
    rows: int
    difference: str


def compare_month(
    engine: Engine, feed: FeedTable, monthly: StoredFolder, daily: StoredFolder, file: StoredFile
) -> list[Mismatch]:
    """Compare a monthly file with the daily files of its days.

    The result is remembered until one of the files changes.

    Parameters
    ----------
    monthly, daily : StoredFolder
        The two folders of one stream.
    file : StoredFile
        The monthly file.

    Raises
    ------
    FileError
        If a file is invalid.
    """
    days = [day for day in daily.files if file.start <= day.start <= file.end]
    if not days:
        return []
    # Only the size and the time of a file show that it was rewritten in place.
    served = [FileTask(file, monthly), *(FileTask(day, daily) for day in days)]
    tasks = {task.file.key: task for task in engine.tasks(feed, served)}
    files = [task.file for task in tasks.values()]
    month = tasks.pop(file.key, None)
    if month is None or not tasks:
        return []
    remembered = engine.known.comparison(feed, file.key, files)
    if remembered is not None:
        return [Mismatch(*values) for values in json.loads(remembered)]
    found = _reconcile(engine, feed, month, [*tasks.values()])
    text = json.dumps([astuple(mismatch) for mismatch in found])
    engine.known.remember_comparison(feed, file.key, files, text)
    return found


def shared_rows(
    engine: Engine, feed: FeedTable, one: FileTask, other: FileTask
) -> tuple[int, list[Mismatch]]:
    """Count the keys of rows that are in both of two small files, and list differing rows.

    Both files are in memory at once.

    Raises
    ------
    FileError
        If a file is invalid.
    """
    names = one.file.key.rpartition("/")[2], other.file.key.rpartition("/")[2]
    frames = [
        pl.concat(_frames(engine, feed, [replace(task, without=frozenset())], [*feed.columns]))
        for task in (one, other)
    ]
    key, values = _key_and_values(feed, [*feed.columns])
    shared = frames[0].join(frames[1], on=key, how="inner", suffix=_MONTHLY, nulls_equal=True)
    differing = shared.filter(pl.any_horizontal(_differ(values)))
    times = differing[feed.time].to_physical().to_list()
    rows = differing.iter_rows(named=True)
    return shared.height, [
        Mismatch(time, time + 1, 1, _describe(row, values, names))
        for time, row in zip(times, rows, strict=True)
    ]


def _frames(
    engine: Engine, feed: FeedTable, tasks: Sequence[FileTask], columns: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """Yield the rows of files, in the order of the files."""
    chunks = ZipReader(engine.store, feed).chunks(
        tasks, columns, lambda chunk: chunk.frame, workers=worker_count()
    )
    with closing(chunks):
        yield from chunks


def _key_and_values(feed: FeedTable, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split columns into the key of a row, the time first, and the rest.

    Where a feed has no key, all columns are the key.
    """
    key = [name for name in feed.schema.key if name in columns] or columns
    key = list(dict.fromkeys([feed.time, *key]))
    return key, [name for name in columns if name not in key]


def _differ(values: Sequence[str]) -> list[pl.Expr]:
    """Return an expression for each column of joined rows: whether its two values differ."""
    return [pl.col(name).ne_missing(pl.col(f"{name}{_MONTHLY}")) for name in values]


def _reconcile(
    engine: Engine, feed: FeedTable, monthly: FileTask, daily: Sequence[FileTask]
) -> list[Mismatch]:
    """Find the rows in which a monthly file and daily files, sorted by day, differ.

    Days without a daily file are not compared.
    """
    cadence = cadence_of(feed.market, feed.data_type, monthly.folder.interval)
    days = {task.file.start for task in daily}
    found: list[Mismatch] = []
    for day, month_rows, day_rows in _side_by_side(engine, feed, monthly, daily):
        if day not in days:
            continue
        for mismatch in _differences(feed, cadence, month_rows, day_rows):
            last = found[-1] if found else None
            if last and last.end >= mismatch.start and _side(last) == _side(mismatch):
                found[-1] = replace(last, end=mismatch.end, rows=last.rows + mismatch.rows)
            else:
                found.append(mismatch)
    return found


def _side(mismatch: Mismatch) -> str:
    """Return the difference of rows that are in one file only; empty for rows in both."""
    return mismatch.difference if mismatch.difference.startswith(_ONLY) else ""


def _side_by_side(
    engine: Engine, feed: FeedTable, monthly: FileTask, daily: Sequence[FileTask]
) -> Iterator[tuple[date, pl.DataFrame | None, pl.DataFrame | None]]:
    """Yield each day with its rows in the monthly file and in the daily files."""
    of_month = _by_day(engine, feed, [monthly])
    of_days = _by_day(engine, feed, daily)
    with closing(of_month), closing(of_days):
        sides = zip(of_month, repeat(_MONTHLY)), zip(of_days, repeat(_DAILY))
        merged = heapq.merge(*sides, key=lambda side: side[0][0])
        for day, group in groupby(merged, lambda side: side[0][0]):
            rows = {name: frame for (_, frame), name in group}
            yield day, rows.get(_MONTHLY), rows.get(_DAILY)


def _by_day(
    engine: Engine, feed: FeedTable, tasks: Sequence[FileTask]
) -> Generator[tuple[date, pl.DataFrame]]:
    """Yield the rows of files day by day."""
    parts = (
        part
        for frame in _frames(engine, feed, tasks, [*feed.columns, "date"])
        for part in frame.partition_by("date", maintain_order=True)
    )
    for day, rows in groupby(parts, lambda part: part["date"][0]):
        yield day, pl.concat([part.drop("date") for part in rows])


def _differences(
    feed: FeedTable, cadence: Cadence, monthly: pl.DataFrame | None, daily: pl.DataFrame | None
) -> Iterator[Mismatch]:
    """Yield the mismatches of one day; neighbouring rows that differ are one mismatch."""
    one = daily if daily is not None else monthly
    if one is None or (daily is not None and monthly is not None and daily.equals(monthly)):
        return
    key, values = _key_and_values(feed, one.columns)
    sides = [
        (one.clear() if rows is None else rows.unique(key, maintain_order=True)).with_columns(
            pl.lit(True).alias(side)
        )
        for rows, side in ((daily, _DAILY), (monthly, _MONTHLY))
    ]
    both = (
        sides[0]
        .join(sides[1], on=key, how="full", coalesce=True, suffix=_MONTHLY, nulls_equal=True)
        .sort(key)
        .with_row_index(_INDEX)
    )
    alone = pl.col(_DAILY).is_null() | pl.col(_MONTHLY).is_null()
    different = both.filter(pl.any_horizontal(alone, *_differ(values)))
    if cadence.kind == "regular":
        apart = pl.col(feed.time).to_physical().diff() > cadence.step
    else:
        # Rows are neighbours if no equal rows are between them.
        apart = pl.col(_INDEX).cast(pl.Int64).diff() > 1
    sides_change = [pl.col(side).is_null().cast(pl.Int8).diff() != 0 for side in (_DAILY, _MONTHLY)]
    begins = different.select(pl.any_horizontal(apart, *sides_change).fill_null(True)).to_series()
    times = different[feed.time].to_physical()
    bounds = [*begins.arg_true().to_list(), different.height]
    firsts = different.filter(begins).iter_rows(named=True)
    for (first, end), row in zip(pairwise(bounds), firsts, strict=True):
        last = np.array([times[end - 1]])
        after = int(cadence.next_due(last, np.array([max(cadence.step, 1)]))[0])
        if row[_DAILY] is None or row[_MONTHLY] is None:
            difference = f"{_ONLY} the {'monthly' if row[_DAILY] is None else 'daily'} file has it"
        else:
            difference = _describe(row, values, ("the daily file", "the monthly one"))
        yield Mismatch(times[first], after, end - first, difference)


def _describe(row: dict[str, Any], values: Sequence[str], files: tuple[str, str]) -> str:
    """Describe how the values of two joined rows differ."""
    differing = [
        f"{name} is {row[name]} in {files[0]} and {row[f'{name}{_MONTHLY}']} in {files[1]}"
        for name in values
        if row[name] != row[f"{name}{_MONTHLY}"]
    ]
    more = f", and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    return f"{'; '.join(differing[:_SHOWN])}{more}"
