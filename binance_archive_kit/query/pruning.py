"""Decide which files can match a predicate, from their names alone; `ScanPlanner` selects them.

No file is opened. A file that may have a row of the answer is always kept, and so is one that
cannot be decided. There is a pruner for Arrow expressions, as DuckDB passes them, for Polars
expressions, and for plain ranges.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from binance_archive_kit.archive.keys import Folder
from binance_archive_kit.reading.feed_table import PATH_TYPES
from binance_archive_kit.reading.file_stats import period_of, slack_of
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.timestamps import DAY, to_day_number, to_micros, to_naive

_MICROSECOND = timedelta(microseconds=1)
_UTC = pl.Datetime("us", "UTC")

Group = Sequence[StoredFile]


#: Times that the rows of each of some groups of files may have, microseconds since 1970 UTC:
#: the first ones, inclusive, and the ends, exclusive.
Spans = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


class Pruner(Protocol):
    """Decides which groups of neighbouring files can match."""

    def folder_may_match(self, folder: Folder) -> bool:
        """Return whether any row of a folder may match, whatever its time and file."""

    def spans_may_match(self, spans: Spans) -> npt.NDArray[np.bool_]:
        """Return for each span of time whether any row in it may match, in a matching folder."""

    def may_match(self, stored: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Return for each group of a folder's files whether any row may match."""

    def all_match(self, stored: StoredFolder, group: Group) -> bool:
        """Return whether every row of a group of files is sure to match."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Matches symbols, intervals and a range of time; everything by default.

    Attributes
    ----------
    symbols, intervals : frozenset of str or None
        None matches all.
    start, end : datetime or None
        Naive UTC; the start is inclusive, the end exclusive.
    """

    symbols: frozenset[str] | None = None
    intervals: frozenset[str] | None = None
    start: datetime | None = None
    end: datetime | None = None

    def folder_may_match(self, folder: Folder) -> bool:
        """Return whether the symbol and the interval are chosen."""
        return (self.symbols is None or folder.symbol in self.symbols) and (
            self.intervals is None or folder.interval in self.intervals
        )

    def spans_may_match(self, spans: Spans) -> npt.NDArray[np.bool_]:
        """Return whether spans overlap the range."""
        first, end = spans
        matches = np.ones(len(first), bool)
        if self.start is not None:
            matches &= end > to_micros(self.start.replace(tzinfo=UTC))
        if self.end is not None:
            matches &= first < to_micros(self.end.replace(tzinfo=UTC))
        return matches

    def may_match(self, stored: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Return whether the periods of groups overlap the range."""
        if not self.folder_may_match(stored.folder):
            return [False] * len(groups)
        if self.start is None and self.end is None:
            return [True] * len(groups)
        matches: list[bool] = self.spans_may_match(spans_of(stored.folder, groups)).tolist()
        return matches

    def all_match(self, stored: StoredFolder, group: Group) -> bool:
        """Return whether the period of a group lies within the range."""
        if self.start is None and self.end is None:
            return True
        first, end = _times_of(stored.folder, group)
        return (self.start is None or self.start <= first) and (self.end is None or end <= self.end)


class And:
    """Matches the rows that two pruners match."""

    def __init__(self, one: Pruner, other: Pruner) -> None:
        self._one = one
        self._other = other

    def folder_may_match(self, folder: Folder) -> bool:
        """Return whether both may match."""
        return self._one.folder_may_match(folder) and self._other.folder_may_match(folder)

    def spans_may_match(self, spans: Spans) -> npt.NDArray[np.bool_]:
        """Return whether both may match."""
        return self._one.spans_may_match(spans) & self._other.spans_may_match(spans)

    def may_match(self, stored: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Return whether both may match."""
        first = self._one.may_match(stored, groups)
        if not any(first):
            return first
        second = self._other.may_match(stored, groups)
        return [a and b for a, b in zip(first, second, strict=True)]

    def all_match(self, stored: StoredFolder, group: Group) -> bool:
        """Return whether both are sure to match."""
        return self._one.all_match(stored, group) and self._other.all_match(stored, group)


def _times_of(folder: Folder, group: Group) -> tuple[datetime, datetime]:
    """Return the times that rows of a group may have, naive UTC; the end is exclusive."""
    early, _ = period_of(folder, group[0])
    _, late = period_of(folder, max(group, key=lambda file: file.end))
    return to_naive(early), to_naive(late)


def spans_of(folder: Folder, groups: Sequence[Group]) -> Spans:
    """Return the times that rows of each group of a folder's files may have."""
    days = [
        (to_day_number(group[0].start), to_day_number(max(file.end for file in group)))
        for group in groups
    ]
    first, last = np.array(days, np.int64).reshape(-1, 2).T
    return span_of_days(folder, first, last)


def span_of_days(
    folder: Folder, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
) -> Spans:
    """Return the times that rows of files may have, from the first and last day in their names."""
    before, after = slack_of(folder)
    return first * DAY - before, (last + 1) * DAY + after


# Arrow


class ArrowPruner:
    """Compares an Arrow expression with the guarantee of each group of files.

    Arrow simplifies the expression, as it does for the partitions of a dataset.

    Parameters
    ----------
    where : pyarrow.dataset.Expression
    schema : pyarrow.Schema
        Of the feed's rows.
    time : str
        The column of the rows' time.
    """

    def __init__(self, where: ds.Expression, schema: pa.Schema, time: str) -> None:
        self._where = where
        self._schema = schema
        self._time = time
        #: Whether every row of a folder is sure to match.
        self._certain: dict[Folder, bool] = {}

    def folder_may_match(self, folder: Folder) -> bool:
        """Return whether the expression can be true in a folder."""
        return bool(self._possible([_guarantee_of(folder)], self._where))

    def spans_may_match(self, spans: Spans) -> npt.NDArray[np.bool_]:
        """Return True for all: the statistics of row groups show which of them can match."""
        return np.ones(len(spans[0]), bool)

    def may_match(self, stored: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Return whether the expression can be true in each group."""
        if not self.folder_may_match(stored.folder):
            return [False] * len(groups)
        if self._all_match(stored.folder):
            return [True] * len(groups)
        guarantees = [self._guarantee(stored, group) for group in groups]
        possible = self._possible(guarantees, self._where)
        return [index in possible for index in range(len(groups))]

    def all_match(self, stored: StoredFolder, group: Group) -> bool:
        """Return whether the negated expression cannot be true."""
        return self._all_match(stored.folder) or not self._possible(
            [self._guarantee(stored, group)], ~self._where
        )

    def _all_match(self, folder: Folder) -> bool:
        """Return whether every row of a folder is sure to match."""
        if folder not in self._certain:
            self._certain[folder] = not self._possible([_guarantee_of(folder)], ~self._where)
        return self._certain[folder]

    def _possible(self, guarantees: Sequence[ds.Expression], where: ds.Expression) -> set[int]:
        """Return the indices of the guarantees under which an expression can be true."""
        form, system = ds.IpcFileFormat(), pafs.LocalFileSystem()
        # The fragments stand for groups of files: their paths are indices, and are never opened.
        fragments = [
            form.make_fragment(str(index), system, guarantee)
            for index, guarantee in enumerate(guarantees)
        ]
        dataset = ds.FileSystemDataset(fragments, self._schema, form, system)
        return {int(fragment.path) for fragment in dataset.get_fragments(where)}

    def _guarantee(self, stored: StoredFolder, group: Group) -> ds.Expression:
        """Return a condition that is true of every row of a group of files."""
        guarantee = stored.guarantees.get((group[0], group[-1]))
        if guarantee is None:
            folder = stored.folder
            early, late = _times_of(folder, group)
            day = ds.field("date")
            time = ds.field(self._time)
            guarantee = (
                _guarantee_of(folder)
                & (day >= early.date())
                & (day <= (late - _MICROSECOND).date())
                & (time >= early)
                & (time < late)
            )
            if len(group) == 1:
                guarantee &= ds.field("file") == group[0].path
            stored.guarantees[group[0], group[-1]] = guarantee
        return guarantee


def _guarantee_of(folder: Folder) -> ds.Expression:
    """Return what is true of every row of a folder."""
    guarantee = (
        (ds.field("symbol") == folder.symbol)
        & (ds.field("partition") == folder.partition.value)
        & (ds.field("market") == folder.market.value)
    )
    if folder.interval is not None:
        guarantee &= ds.field("interval") == folder.interval.value
    return guarantee


# Polars

#: Columns that are the same in all rows of a file, with their types in Polars frames.
_POLARS_PATHS = {name: dtype for name, dtype in PATH_TYPES.items() if name != "date"}


class PolarsPruner:
    """Compares a Polars predicate with the paths and periods of each group of files.

    The conditions that the predicate joins by "and" are evaluated one by one on a few rows that
    represent a group; a condition on any other column keeps the group.

    Parameters
    ----------
    predicate : polars.Expr
    time : str
        The column of the rows' time.
    """

    def __init__(self, predicate: pl.Expr, time: str) -> None:
        self._paths: list[pl.Expr] = []
        self._days: list[pl.Expr] = []
        self._times: list[pl.Expr] = []
        self._time = time
        for part, tree in _conjuncts(predicate):
            roots = set(part.meta.root_names())
            if not roots or _is_hint(tree):
                continue
            if roots <= _POLARS_PATHS.keys():
                self._paths.append(part)
            elif roots == {"date"}:
                self._days.append(part)
            elif roots == {time}:
                self._times += _bounds(part, tree)

    def folder_may_match(self, folder: Folder) -> bool:
        """Return whether no condition on path columns rules out all rows of a folder."""
        conditions = [part for part in self._paths if "file" not in part.meta.root_names()]
        return _any(conditions, _paths_frame(folder, None))

    def spans_may_match(self, spans: Spans) -> npt.NDArray[np.bool_]:
        """Return whether no condition on days or times rules out all rows of each span."""
        early, late = spans[0], spans[1] - 1
        matches = np.ones(len(early), bool)
        if len(early) and self._days:
            first, last = early // DAY, late // DAY
            origin = int(first.min())
            days = pl.Series("date", np.arange(origin, int(last.max()) + 1, dtype=np.int32))
            frame = days.cast(pl.Date).to_frame()
            for part in self._days:
                # Days up to each one for which the condition is true.
                count = np.concatenate([[0], np.cumsum(_evaluate(part, frame))])
                matches &= count[last + 1 - origin] > count[first - origin]
        for part in self._times:
            found = [
                _evaluate(part, pl.Series(self._time, ends).cast(_UTC).to_frame())
                for ends in (early, late)
            ]
            matches &= found[0] | found[1]
        return matches

    def may_match(self, stored: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Return whether no condition rules out all rows of each group."""
        if not self.folder_may_match(stored.folder):
            return [False] * len(groups)
        matches: list[bool] = self.spans_may_match(spans_of(stored.folder, groups)).tolist()
        conditions = [part for part in self._paths if "file" in part.meta.root_names()]
        # The column `file` is known only of a single file.
        return [
            is_match
            and (
                not conditions
                or len(group) > 1
                or _any(conditions, _paths_frame(stored.folder, group[0].path))
            )
            for is_match, group in zip(matches, groups, strict=True)
        ]

    def all_match(self, stored: StoredFolder, group: Group) -> bool:
        """Return False: the rows are always filtered by Polars."""
        return False


def _paths_frame(folder: Folder, file: str | None) -> pl.DataFrame:
    """Return the path columns of a folder's rows as one row."""
    paths = {"market": folder.market, "symbol": folder.symbol, "file": file}
    paths |= {"interval": folder.interval, "partition": folder.partition}
    return pl.DataFrame({name: [paths[name]] for name in _POLARS_PATHS}, schema=_POLARS_PATHS)


def _evaluate(part: pl.Expr, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Return for which rows a condition is true; True for all if that cannot be evaluated."""
    try:
        found = rows.select(part).to_series()
        if len(found) == len(rows):
            return found.fill_null(value=False).to_numpy().astype(bool)
    except pl.exceptions.PolarsError:
        pass
    return np.ones(len(rows), bool)


def _any(parts: Sequence[pl.Expr], rows: pl.DataFrame) -> bool:
    """Return whether each condition is true for some row; True if that cannot be evaluated."""
    try:
        return all(bool(rows.select(part).to_series().any()) for part in parts)
    except pl.exceptions.PolarsError:
        return True


def _tree(expression: pl.Expr) -> Any:
    """Return the nodes of an expression; None if it cannot be serialized.

    Only the names of nodes are used: numbers in them are rounded.
    """
    try:
        return json.loads(expression.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError):
        return None


def _conjuncts(predicate: pl.Expr) -> list[tuple[pl.Expr, Any]]:
    """Split a predicate at its topmost "and"s; return each part with its nodes."""
    parts: list[tuple[pl.Expr, Any]] = []
    todo = [(predicate, _tree(predicate))]
    while todo:
        part, tree = todo.pop()
        node = tree.get("BinaryExpr") if isinstance(tree, dict) else None
        if node is not None and node.get("op") == "And":
            right, left = part.meta.pop()
            todo += [(right, node["right"]), (left, node["left"])]
        else:
            parts.append((part, tree))
    return parts


def without_hints(predicate: pl.Expr) -> pl.Expr | None:
    """Remove hints of the optimizer, which no frame can be filtered by.

    The other parts stay as Polars passed them in; None if there are none.
    """
    parts = _conjuncts(predicate)
    kept = [part for part, tree in parts if not _is_hint(tree)]
    if len(kept) == len(parts):
        return predicate
    return functools.reduce(operator.and_, kept) if kept else None


def _is_hint(tree: Any) -> bool:
    """Return whether a part is a dynamic predicate, which a scan may ignore."""
    shown = tree.get("Display") if isinstance(tree, dict) else None
    return isinstance(shown, dict) and str(shown.get("fmt_str", "")).startswith("dynamic_pred")


_BOUNDS: dict[str, tuple[Callable[[pl.Expr, pl.Expr], pl.Expr], ...]] = {
    "Lt": (operator.lt,),
    "LtEq": (operator.le,),
    "Gt": (operator.gt,),
    "GtEq": (operator.ge,),
    "Eq": (operator.ge, operator.le),
}


def _bounds(part: pl.Expr, tree: Any) -> Iterator[pl.Expr]:
    """Yield the bounds in a condition on one column.

    A range of times has a match only if each bound is true at one of its ends. Other conditions
    than comparisons with a constant and ``is_between`` have no bounds.
    """
    if json.dumps(tree).count('"Column"') != 1:
        # The column is compared with another column, which differs in every row.
        return
    node = tree.get("BinaryExpr")
    if node is not None and node["op"] in _BOUNDS:
        sides = [node["left"], node["right"]]
        if sum("Column" in side for side in sides if isinstance(side, dict)) == 1:
            right, left = part.meta.pop()
            yield from (bound(left, right) for bound in _BOUNDS[node["op"]])
        return
    between = tree.get("Function", {})
    if "IsBetween" in str(between.get("function")) and len(between.get("input", ())) == 3:
        column = between["input"][0]
        if isinstance(column, dict) and "Column" in column:
            high, low, time = part.meta.pop()
            yield time >= low
            yield time <= high
