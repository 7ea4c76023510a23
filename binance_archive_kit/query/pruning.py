"""Which files a question can concern: predicates held against what files' names promise.

Nothing is opened for that. A file that may hold a row of the answer always stays; what
cannot be told keeps it. There is one kind of question for each engine: Arrow expressions,
as DuckDB hands them over, Polars expressions, and plain ranges.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from binance_archive_kit.archive.enums import Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder
from binance_archive_kit.reading.file_stats import period_of
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.timestamps import to_naive

_MICROSECOND = timedelta(microseconds=1)

Group = Sequence[StoredFile]


class Pruner(Protocol):
    """Tells which groups of neighbouring files may hold a row of the answer."""

    def may_match(self, held: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Tell for each group of a stream's files whether it may hold such a row."""

    def all_match(self, held: StoredFolder, group: Group) -> bool:
        """Tell whether every row of a group of files is sure to be one of the answer."""


class All:
    """The question for all there is."""

    def may_match(self, held: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Keep all."""
        return [True] * len(groups)

    def all_match(self, held: StoredFolder, group: Group) -> bool:
        """Be true: no row is left out."""
        return True


@dataclass(frozen=True, slots=True)
class Selection:
    """The question for symbols, intervals and a stretch of time.

    Attributes
    ----------
    symbols, intervals : frozenset of str or None
        None asks for all.
    start, end : datetime or None
        Naive UTC; from, inclusive, and to, exclusive.
    """

    symbols: frozenset[str] | None = None
    intervals: frozenset[str] | None = None
    start: datetime | None = None
    end: datetime | None = None

    def may_match(self, held: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Keep the groups whose period touches the stretch."""
        folder = held.folder
        meant = (self.symbols is None or folder.symbol in self.symbols) and (
            self.intervals is None or folder.interval in self.intervals
        )
        return [meant and self._touches(_moments(folder, group)) for group in groups]

    def all_match(self, held: StoredFolder, group: Group) -> bool:
        """Tell whether the group's period lies within the stretch."""
        early, late = _moments(held.folder, group)
        return (self.start is None or self.start <= early) and (
            self.end is None or late <= self.end
        )

    def _touches(self, period: tuple[datetime, datetime]) -> bool:
        early, late = period
        return (self.start is None or self.start < late) and (self.end is None or early < self.end)


class And:
    """The question for what two questions ask for together."""

    def __init__(self, one: Pruner, other: Pruner) -> None:
        self._one = one
        self._other = other

    def may_match(self, held: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Keep what both keep."""
        first = self._one.may_match(held, groups)
        if not any(first):
            return first
        second = self._other.may_match(held, groups)
        return [a and b for a, b in zip(first, second, strict=True)]

    def all_match(self, held: StoredFolder, group: Group) -> bool:
        """Tell whether both are sure."""
        return self._one.all_match(held, group) and self._other.all_match(held, group)


def _moments(folder: Folder, group: Group) -> tuple[datetime, datetime]:
    """Give the times rows of neighbouring files may have, naive UTC: from; to, exclusive."""
    early, _ = period_of(folder, group[0])
    _, late = period_of(folder, max(group, key=lambda file: file.end))
    return to_naive(early), to_naive(late)


# Arrow


class ArrowPruner:
    """Holds an Arrow expression against what is guaranteed of each group of files.

    Arrow simplifies the expression itself, as it does for the partitions of a dataset.

    Parameters
    ----------
    where : pyarrow.dataset.Expression
    schema : pyarrow.Schema
        Of the feed's rows.
    time : str
        The column that tells the rows' time.
    """

    def __init__(self, where: ds.Expression, schema: pa.Schema, time: str) -> None:
        self._where = where
        self._schema = schema
        self._time = time

    def may_match(self, held: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Keep the groups for which the expression can be true."""
        kept = self._possible(held, groups, self._where)
        return [at in kept for at in range(len(groups))]

    def all_match(self, held: StoredFolder, group: Group) -> bool:
        """Tell whether the opposite of the expression cannot be true."""
        return not self._possible(held, [group], ~self._where)

    def _possible(
        self, held: StoredFolder, groups: Sequence[Group], where: ds.Expression
    ) -> set[int]:
        """Give the places of the groups for which an expression can be true."""
        form, system = ds.IpcFileFormat(), pafs.LocalFileSystem()
        # The fragments stand for groups of our files: their paths are places, and never opened.
        fragments = [
            form.make_fragment(str(at), system, self._guarantee(held, group))
            for at, group in enumerate(groups)
        ]
        dataset = ds.FileSystemDataset(fragments, self._schema, form, system)
        return {int(fragment.path) for fragment in dataset.get_fragments(where)}

    def _guarantee(self, held: StoredFolder, group: Group) -> ds.Expression:
        """Spell what is true of every row of a group of files."""
        found = held.guarantees.get((group[0], group[-1]))
        if found is None:
            folder = held.folder
            early, late = _moments(folder, group)
            day = ds.field("date")
            time = ds.field(self._time)
            found = (
                (ds.field("symbol") == folder.symbol)
                & (day >= early.date())
                & (day <= (late - _MICROSECOND).date())
                & (time >= early)
                & (time < late)
                & (ds.field("partition") == folder.partition.value)
                & (ds.field("market") == folder.market.value)
            )
            if folder.interval is not None:
                found &= ds.field("interval") == folder.interval.value
            if len(group) == 1:
                found &= ds.field("file") == group[0].path
            held.guarantees[group[0], group[-1]] = found
        return found


# Polars

#: Columns that are the same in all rows of a file, as they stand in Polars frames.
POLARS_PATHS: dict[str, pl.DataType] = {
    "market": pl.Enum(Market),
    "symbol": pl.Categorical(),
    "interval": pl.Enum(Interval),
    "partition": pl.Enum(Partition),
    "file": pl.Categorical(),
}


class PolarsPruner:
    """Holds a Polars predicate against what is known of each group of files.

    The predicate's parts are tried one by one on a few rows that stand for a group; a
    part that needs anything else of a row keeps the group.

    Parameters
    ----------
    predicate : polars.Expr
    time : str
        The column that tells the rows' time.
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
            if roots <= POLARS_PATHS.keys():
                self._paths.append(part)
            elif roots == {"date"}:
                self._days.append(part)
            elif roots == {time}:
                self._times += _half_lines(part, tree)

    def may_match(self, held: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Keep the groups for which no part rules every row out."""
        return [self._may_hold(held.folder, group) for group in groups]

    def all_match(self, held: StoredFolder, group: Group) -> bool:
        """Be false: rows are filtered by Polars, which knows best."""
        return False

    def _may_hold(self, folder: Folder, group: Group) -> bool:
        early, late = _moments(folder, group)
        file = group[0].path if len(group) == 1 else None
        paths = {"market": folder.market, "symbol": folder.symbol, "file": file}
        paths |= {"interval": folder.interval, "partition": folder.partition}
        # Whether the file is meant is known of a single file only.
        tried = [part for part in self._paths if file or "file" not in part.meta.root_names()]
        if not _any(tried, pl.DataFrame({n: [v] for n, v in paths.items()}, schema=POLARS_PATHS)):
            return False
        days = pl.date_range(early.date(), (late - _MICROSECOND).date(), eager=True).alias("date")
        if not _any(self._days, days.to_frame()):
            return False
        ends = pl.Series(self._time, [early, late - _MICROSECOND], pl.Datetime("us"))
        return _any(self._times, ends.dt.replace_time_zone("UTC").to_frame())


def _any(parts: Sequence[pl.Expr], rows: pl.DataFrame) -> bool:
    """Tell whether each part is true for at least one of the rows; when in doubt, yes."""
    try:
        return all(bool(rows.select(part).to_series().any()) for part in parts)
    except pl.exceptions.PolarsError:
        return True


def _tree(expression: pl.Expr) -> Any:
    """Show how an expression is made up; None if that cannot be shown.

    Only the names of its nodes are relied on: numbers do not survive a way back from here.
    """
    try:
        return json.loads(expression.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError):
        return None


def _conjuncts(predicate: pl.Expr) -> list[tuple[pl.Expr, Any]]:
    """Split a predicate at its topmost "and"s; return each part with its expression tree."""
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
    """Leave out hints of the optimizer, which no frame can be filtered by.

    What remains is made of the parts that Polars passed in, as they are; None if nothing does.
    """
    parts = _conjuncts(predicate)
    kept = [part for part, tree in parts if not _is_hint(tree)]
    if len(kept) == len(parts):
        return predicate
    return functools.reduce(operator.and_, kept) if kept else None


def _is_hint(tree: Any) -> bool:
    """Tell a dynamic predicate, which the scan may use and need not."""
    shown = tree.get("Display") if isinstance(tree, dict) else None
    return isinstance(shown, dict) and str(shown.get("fmt_str", "")).startswith("dynamic_pred")


_BOUNDS: dict[str, tuple[Callable[[pl.Expr, pl.Expr], pl.Expr], ...]] = {
    "Lt": (operator.lt,),
    "LtEq": (operator.le,),
    "Gt": (operator.gt,),
    "GtEq": (operator.ge,),
    "Eq": (operator.ge, operator.le),
}


def _half_lines(part: pl.Expr, tree: Any) -> Iterator[pl.Expr]:
    """Read a condition on one column as bounds; each is met at an end of a range, or nowhere in it.

    What is neither a comparison with a constant nor ``is_between`` gives none.
    """
    if json.dumps(tree).count('"Column"') != 1:
        # What it is compared with comes from a column too: it is another in every row.
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
