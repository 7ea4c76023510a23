"""Rows of a monthly file held against those of the daily files of the same days."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from binance_archive_kit.reading.cadence import Cadence, cadence_of
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.reading.reader import ZipReader

_ONLY = "only"
#: Values of one row that are told before the others are left out.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Neighbouring rows in which two files do not say the same.

    Attributes
    ----------
    start, end : int
        Microseconds since 1970 UTC, `end` exclusive.
    rows : int
    what : str
        How the first of them differs: ``close is 104.5 in the daily file and 104.0 in the
        monthly one``.
    """

    start: int
    end: int
    rows: int
    what: str


def reconcile(
    root: Path, feed: FeedTable, monthly: FileTask, daily: Sequence[FileTask], *, workers: int
) -> list[Mismatch]:
    """Find the rows of a month in which its file and the daily files differ.

    Parameters
    ----------
    root : Path
        The store's root.
    feed : FeedTable
    monthly : FileTask
    daily : sequence of FileTask
        Files of its days, in their order. Days without one are not compared.
    workers : int
        Threads to read with.

    Raises
    ------
    FileError
        For a file that is not what its name says.
    """
    cadence = cadence_of(feed.market, feed.data_type, monthly.folder.interval)
    found: list[Mismatch] = []
    for one in _compared(root, feed, cadence, monthly, daily, workers):
        last = found[-1] if found else None
        if last is not None and last.end >= one.start and _kind(last.what) == _kind(one.what):
            found[-1] = replace(last, end=one.end, rows=last.rows + one.rows)
        else:
            found.append(one)
    return found


def shared_rows(
    root: Path, feed: FeedTable, one: FileTask, other: FileTask, *, workers: int
) -> tuple[int, list[Mismatch]]:
    """Find the rows of one key that two neighbouring files both have.

    Parameters
    ----------
    root : Path
        The store's root.
    feed : FeedTable
    one, other : Source
        Small files: both are in memory at once.
    workers : int
        Threads to read with.

    Returns
    -------
    tuple of (int, list of Disagreement)
        How many rows both have, and those of them that differ.

    Raises
    ------
    FileError
        For a file that is not what its name says.
    """
    reader = ZipReader(root, feed)
    names = [each.file.key.rpartition("/")[2] for each in (one, other)]
    frames = []
    for source in (one, other):
        whole = replace(source, without=frozenset())
        pieces = reader.pieces([whole], feed.columns, lambda piece: piece.frame, workers=workers)
        frames.append(pl.concat(list(pieces)))
    key = list(dict.fromkeys([feed.time, *(n for n in feed.schema.key if n in feed.columns)]))
    values = [name for name in feed.columns if name not in key]
    both = frames[0].join(frames[1], on=key, how="inner", suffix=_MONTHLY, nulls_equal=True)
    differing = both.filter(
        pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}{_MONTHLY}")) for name in values)
    )
    found = []
    times = differing[feed.time].to_physical().to_list()
    for at, row in zip(times, differing.iter_rows(named=True), strict=True):
        name = next(each for each in values if row[each] != row[f"{each}{_MONTHLY}"])
        said = f"{name} is {row[name]} in {names[0]} and {row[f'{name}{_MONTHLY}']} in {names[1]}"
        found.append(Mismatch(at, at + 1, 1, said))
    return both.height, found


def _kind(what: str) -> str:
    """Say whether a row is in one file only, and in which."""
    return what if what.startswith(_ONLY) else ""


def _compared(
    root: Path,
    feed: FeedTable,
    cadence: Cadence,
    monthly: FileTask,
    daily: Sequence[FileTask],
    workers: int,
) -> Iterator[Mismatch]:
    """Go through both, day by day, and give the neighbouring rows of each that differ."""
    of_month = _by_day(root, feed, [monthly], workers)
    of_days = _by_day(root, feed, daily, workers)
    days = {source.file.start for source in daily}
    with closing(of_month), closing(of_days):
        one, other = next(of_month, None), next(of_days, None)
        while one is not None or other is not None:
            day = min(each[0] for each in (one, other) if each is not None)
            here = there = None
            if one is not None and one[0] == day:
                here, one = one[1], next(of_month, None)
            if other is not None and other[0] == day:
                there, other = other[1], next(of_days, None)
            if day in days:
                yield from _differences(feed, cadence, here, there)


def _by_day(
    root: Path, feed: FeedTable, sources: Sequence[FileTask], workers: int
) -> Generator[tuple[date, pl.DataFrame]]:
    """Read files, and give their rows day by day."""
    reader = ZipReader(root, feed)
    held: list[pl.DataFrame] = []
    at: date | None = None
    columns = [*feed.columns, "date"]
    pieces = reader.pieces(sources, columns, lambda piece: piece.frame, workers=workers)
    with closing(pieces):
        for frame in pieces:
            for rows in frame.partition_by("date", maintain_order=True):
                day = rows["date"][0]
                if held and at is not None and day != at:
                    yield at, pl.concat(held)
                    held = []
                at = day
                held.append(rows.drop("date"))
    if held and at is not None:
        yield at, pl.concat(held)


def _differences(
    feed: FeedTable, cadence: Cadence, monthly: pl.DataFrame | None, daily: pl.DataFrame | None
) -> Iterator[Mismatch]:
    """Hold the rows of one day against each other."""
    one = daily if daily is not None else monthly
    if one is None or (daily is not None and monthly is not None and daily.equals(monthly)):
        return
    key = [name for name in feed.schema.key if name in one.columns] or one.columns
    key = list(dict.fromkeys([feed.time, *key]))
    values = [name for name in one.columns if name not in key]
    sides = [
        (one.clear() if each is None else each.unique(key, maintain_order=True)).with_columns(
            pl.lit(True).alias(there)
        )
        for each, there in ((daily, _DAILY), (monthly, _MONTHLY))
    ]
    both = (
        sides[0]
        .join(sides[1], on=key, how="full", coalesce=True, suffix=_MONTHLY, nulls_equal=True)
        .sort(key)
        .with_row_index(_PLACE)
    )
    others = [pl.col(name).ne_missing(pl.col(f"{name}{_MONTHLY}")) for name in values]
    alone = pl.col(_DAILY).is_null() | pl.col(_MONTHLY).is_null()
    different = both.filter(pl.any_horizontal(alone, *others))
    if cadence.kind == "regular":
        apart = pl.col(feed.time).to_physical().diff() > cadence.step
    else:
        # Rows are neighbours when none that agree are between them.
        apart = pl.col(_PLACE).cast(pl.Int64).diff() > 1
    sides_change = [pl.col(side).is_null().cast(pl.Int8).diff() != 0 for side in (_DAILY, _MONTHLY)]
    begins = different.select(pl.any_horizontal(apart, *sides_change).fill_null(True)).to_series()
    times = different[feed.time].to_physical()
    bounds = [*begins.arg_true().to_list(), different.height]
    firsts = different.filter(begins).iter_rows(named=True)
    for (first, end), row in zip(pairwise(bounds), firsts, strict=True):
        last = np.array([times[end - 1]])
        after = int(cadence.next_due(last, np.array([max(cadence.step, 1)]))[0])
        yield Mismatch(times[first], after, end - first, _told(row, values))


#: Names of columns that no feed has.
_DAILY, _MONTHLY, _PLACE = " daily", " monthly", " place"


def _told(row: dict[str, Any], values: Sequence[str]) -> str:
    """Say how the two rows differ."""
    for here, word in ((_DAILY, "monthly"), (_MONTHLY, "daily")):
        if row[here] is None:
            return f"{_ONLY} the {word} file has it"
    told = [
        f"{name} is {row[name]} in the daily file and {row[f'{name}{_MONTHLY}']} in the monthly one"
        for name in values
        if row[name] != row[f"{name}{_MONTHLY}"]
    ]
    more = f", and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return f"{'; '.join(told[:_SHOWN])}{more}"
