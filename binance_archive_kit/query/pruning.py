"""Decide which files can match a predicate, from their names alone; `ScanPlanner` selects them.

No file is opened. A file that may have a row of the answer is always kept, and so is one that
cannot be decided. There is a pruner for Arrow expressions, as DuckDB passes them, for Polars
expressions, and for plain ranges.
"""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import Folder, parse_period, period_end
from binance_archive_kit.reading.feed_table import PATH_TYPES, words_of
from binance_archive_kit.reading.file_stats import lead_of, period_of, slack_of
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.timestamps import DAY, to_day_number, to_micros, to_naive

_MICROSECOND = timedelta(microseconds=1)
#: Length of a month in a name, ``yyyy-mm``.
_MONTH = 7
_UTC = pl.Datetime("us", "UTC")

Group = Sequence[StoredFile]


#: Times that the rows of each of some groups of files may have, microseconds since 1970 UTC:
#: the first ones, inclusive, and the ends, exclusive.
Spans = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


#: The functions in the words of an Arrow expression, and perhaps others; those that compare.
_FUNCTION = re.compile(r"(\w+)\(")
_COMPARISONS = {"is_in", "is_valid", "is_null", "invert", "if_else"}
#: Texts of an expression up to which the symbols among them are looked for.
_FEW_TEXTS = 100


class Pruner(Protocol):
    """Decides which groups of neighbouring files can match."""

    @property
    def symbols(self) -> frozenset[str] | None:
        """All symbols that may match; None if they are not known."""

    def symbol_may_match(self, symbol: str) -> bool:
        """Return whether any row of a symbol may match."""

    def folder_may_match(self, folder: Folder) -> bool:
        """Return whether any row of a folder may match, whatever its time and file."""

    def spans_may_match(self, spans: Spans) -> npt.NDArray[np.bool_]:
        """Return for each span of time whether any row in it may match, in a matching folder."""

    def may_match(self, stored: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Return for each group of a folder's files whether any row may match."""

    def all_match(self, stored: StoredFolder, group: Group) -> bool:
        """Return whether every row of a group of files is sure to match.

        An empty group stands for all files that the folder ever had.
        """


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

    def symbol_may_match(self, symbol: str) -> bool:
        """Return whether the symbol is chosen."""
        return self.symbols is None or symbol in self.symbols

    def folder_may_match(self, folder: Folder) -> bool:
        """Return whether the symbol and the interval are chosen."""
        return (self.symbols is None or folder.symbol in self.symbols) and (
            self.intervals is None or folder.interval is None or folder.interval in self.intervals
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
        if not group:
            return False
        first, end = _times_of(stored.folder, group)
        return (self.start is None or self.start <= first) and (self.end is None or end <= self.end)


class And:
    """Matches the rows that two pruners match."""

    def __init__(self, one: Pruner, other: Pruner) -> None:
        self._one = one
        self._other = other

    @property
    def symbols(self) -> frozenset[str] | None:
        """All symbols that one of them may match; None if neither knows."""
        return self._other.symbols if self._one.symbols is None else self._one.symbols

    def symbol_may_match(self, symbol: str) -> bool:
        """Return whether both may match."""
        return self._one.symbol_may_match(symbol) and self._other.symbol_may_match(symbol)

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
    _, late = period_of(folder, group[-1])
    return to_naive(early), to_naive(late)


def spans_of(folder: Folder, groups: Sequence[Group]) -> Spans:
    """Return the times that rows of each group of a folder's files may have."""
    days = [(to_day_number(group[0].start), to_day_number(group[-1].end)) for group in groups]
    first, last = np.array(days, np.int64).reshape(-1, 2).T
    return span_of_days(folder, first, last)


def span_of_days(
    folder: Folder, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
) -> Spans:
    """Return the times that rows of files may have, from the first and last day in their names."""
    before, after = slack_of(folder)
    return first * DAY - before, (last + 1) * DAY + after


# Arrow

#: Symbol, interval, partition, first and last day, and the path of a single file, as far as they
#: may decide whether rows match.
_Traits = tuple[str | None, str | None, str | None, date | None, date | None, str | None]
#: Spans of time that are first compared as one.
_NEIGHBOURS = 16
_OTHER_THAN_AND = re.compile(r" or |invert\(")


class NeededMonths:
    """Decides by the name of a file whether its month may have a row of the answer.

    Parameters
    ----------
    pruner : Pruner
    """

    def __init__(self, pruner: Pruner) -> None:
        self._pruner = pruner
        #: By how far rows lie outside of the days of their file, and by month.
        self._known: dict[tuple[int, int], dict[str, bool]] = {}

    def __call__(self, folder: Folder) -> Callable[[str], bool]:
        """Return the test for a name in a folder; true for one that tells no month."""
        known = self._known.setdefault(slack_of(folder), {})
        start = len(folder.stem)
        end = start + _MONTH

        def is_needed(name: str) -> bool:
            month = name[start:end]
            if month not in known:
                known[month] = self._may_match(folder, month)
            return known[month]

        return is_needed

    def _may_match(self, folder: Folder, month: str) -> bool:
        try:
            first = parse_period(month, Partition.MONTHLY)
        except ValueError:
            return True
        last = period_end(first, Partition.MONTHLY)
        if lead_of(folder):
            # Its rows decide which file gives the first candle of the next month.
            last = period_end(last + timedelta(days=1), Partition.MONTHLY)
        days = (np.array([to_day_number(day)]) for day in (first, last))
        return bool(self._pruner.spans_may_match(span_of_days(folder, *days))[0])


class ArrowPruner:
    """Compares an Arrow expression with the guarantee of each group of files.

    Arrow simplifies the expression, as it does for the partitions of a dataset. For thousands
    of groups that takes longer than to read them, so groups that differ in nothing that the
    expression names are compared once.

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
        self._negated = ~where
        self._schema = schema
        self._time = time
        words = words_of(where)
        if words is None:
            # Anything may be in it.
            words = f"unknown({' or '.join((*PATH_TYPES, time))})"
        self._words = words
        #: The columns that the expression names, and perhaps others.
        self._named = {name for name in (*PATH_TYPES, time) if name in words}
        self._timed = not self._named.isdisjoint(("date", time))
        # If all conditions have to be true, those on times are the same for every symbol.
        self._mixed = "symbol" in self._named and _OTHER_THAN_AND.search(words) is not None
        self._may: dict[_Traits, bool] = {}
        self._spans: dict[tuple[int, int], bool] = {}
        self._symbols: dict[str, bool] = {}
        self._may_not: dict[_Traits, bool] = {}

    @cached_property
    def symbols(self) -> frozenset[str] | None:
        """All symbols for which the expression can be true; None if they are not known.

        Between the texts that it compares with, it is the same for all symbols. So if it is
        false there, the only symbols are among these texts.
        """
        plain = {*_FUNCTION.findall(self._words)} <= _COMPARISONS
        if "symbol" not in self._named or not plain:
            return None
        texts = _texts_of(self._where)
        if texts is None or len(texts) > _FEW_TEXTS:
            return None
        points = ["", *(f"{text}\0" for text in texts), *texts]
        possible = self._possible([ds.field("symbol") == point for point in points], self._where)
        if not possible.isdisjoint(range(len(texts) + 1)):
            return None
        return frozenset(points[index] for index in possible)

    def symbol_may_match(self, symbol: str) -> bool:
        """Return whether the expression can be true for a symbol."""
        if "symbol" not in self._named:
            return True
        if symbol not in self._symbols:
            guarantee = ds.field("symbol") == symbol
            self._symbols[symbol] = bool(self._possible([guarantee], self._where))
        return self._symbols[symbol]

    def folder_may_match(self, folder: Folder) -> bool:
        """Return whether the expression can be true in a folder."""
        return self._compared(self._where, self._may, folder, [()])[0]

    def spans_may_match(self, spans: Spans) -> npt.NDArray[np.bool_]:
        """Return whether the expression can be true at some time of each span."""
        if not self._timed:
            return np.ones(len(spans[0]), bool)
        keys = list(zip(*(limits.tolist() for limits in spans), strict=True))
        if new := sorted({key for key in keys if key not in self._spans}):
            self._compare_spans(new)
        return np.array([self._spans[key] for key in keys], bool)

    def _compare_spans(self, spans: Sequence[tuple[int, int]]) -> None:
        """Compare spans of time; first many neighbours at once, as most queries need few days."""
        runs = [spans[start : start + _NEIGHBOURS] for start in range(0, len(spans), _NEIGHBOURS)]
        wholes = [
            self._guarantee_of_times(min(first for first, _ in run), max(end for _, end in run))
            for run in runs
        ]
        possible = self._possible(wholes, self._where)
        near = [span for index, run in enumerate(runs) if index in possible for span in run]
        possible = self._possible([self._guarantee_of_times(*span) for span in near], self._where)
        found = {near[index] for index in possible}
        self._spans.update((span, span in found) for span in spans)

    def may_match(self, stored: StoredFolder, groups: Sequence[Group]) -> list[bool]:
        """Return whether the expression can be true in each group."""
        if not self.folder_may_match(stored.folder):
            return [False] * len(groups)
        return self._compared(self._where, self._may, stored.folder, groups)

    def all_match(self, stored: StoredFolder, group: Group) -> bool:
        """Return whether the negated expression cannot be true."""
        folder = stored.folder
        if not self.folder_may_match(folder):
            return False
        return not self._compared(self._negated, self._may_not, folder, [group])[0]

    def _compared(
        self,
        where: ds.Expression,
        known: dict[_Traits, bool],
        folder: Folder,
        groups: Sequence[Group],
    ) -> list[bool]:
        """Return whether an expression can be true in each group; an empty one is the folder."""
        traits = [self._traits(folder, group) for group in groups]
        new = {key: group for key, group in zip(traits, groups, strict=True) if key not in known}
        if new:
            guarantees = [self._guarantee(folder, group) for group in new.values()]
            possible = self._possible(guarantees, where)
            known.update((key, index in possible) for index, key in enumerate(new))
        return [known[key] for key in traits]

    def _possible(self, guarantees: Sequence[ds.Expression], where: ds.Expression) -> set[int]:
        """Return the indices of the guarantees under which an expression can be true."""
        form, system = ds.IpcFileFormat(), pafs.LocalFileSystem()
        # The fragments stand for groups: their paths are indices, and are never opened.
        fragments = [
            form.make_fragment(str(index), system, guarantee)
            for index, guarantee in enumerate(guarantees)
        ]
        dataset = ds.FileSystemDataset(fragments, self._schema, form, system)
        return {int(fragment.path) for fragment in dataset.get_fragments(where)}

    def _traits(self, folder: Folder, group: Group) -> _Traits:
        """Return what decides whether a group matches, in a folder that may match."""
        named = self._named
        first, last = (group[0].start, group[-1].end) if self._timed and group else (None, None)
        return (
            folder.symbol if self._mixed or ("symbol" in named and not group) else None,
            # The first candle of an interval may begin before its file.
            folder.interval,
            folder.partition if "partition" in named else None,
            first,
            last,
            group[0].path if "file" in named and len(group) == 1 else None,
        )

    def _guarantee(self, folder: Folder, group: Group) -> ds.Expression:
        """Return what is true of every row of a group, as far as the expression names it."""
        words = {
            "market": folder.market.value,
            "symbol": folder.symbol,
            "interval": folder.interval and folder.interval.value,
            "partition": folder.partition.value,
            "file": group[0].path if len(group) == 1 else None,
        }
        guarantee = ds.scalar(True)
        for name, word in words.items():
            if name in self._named and word is not None:
                guarantee &= ds.field(name) == word
        if self._timed and group:
            [early], [late] = spans_of(folder, [group])
            guarantee &= self._guarantee_of_times(int(early), int(late))
        return guarantee

    def _guarantee_of_times(self, first: int, end: int) -> ds.Expression:
        """Return what is true of every row from a time to another one, exclusive."""
        early, late = to_naive(first), to_naive(end)
        day, time = ds.field("date"), ds.field(self._time)
        days = (day >= early.date()) & (day <= (late - _MICROSECOND).date())
        return days & (time >= early) & (time < late)


def _texts_of(where: ds.Expression) -> list[str] | None:
    """Return all texts that an Arrow expression has, sorted; None if they cannot be found.

    They are taken from its pickled form, where each one is a value. In its words, a text with
    quotes cannot be told from two texts, and long lists are shortened.
    """
    try:
        [packed] = where.__reduce__()[1]
        values = [column.to_pylist() for column in pa.ipc.open_file(packed).get_batch(0).columns]
    except (pa.ArrowException, ValueError, TypeError):
        return None
    todo: list[Any] = values
    texts: set[str] = set()
    while todo:
        match todo.pop():
            case str(text):
                texts.add(text)
            case bytes(text):
                texts.add(text.decode(errors="replace"))
            case dict(members):
                todo += members.values()
            case list(items):
                todo += items
    return sorted(texts)


# Polars

#: Columns that are the same in all rows of a file, with their types in Polars frames.
_POLARS_PATHS = {name: dtype for name, dtype in PATH_TYPES.items() if name != "date"}


class PolarsPruner:
    """Compares a Polars predicate with the paths and periods of each group of files.

    The conditions that the predicate joins by "and" are evaluated one by one on a few rows that
    represent a group; a condition on any other column keeps the group. What is the same for
    many groups is evaluated once.

    Parameters
    ----------
    predicate : polars.Expr
    time : str
        The column of the rows' time.
    """

    def __init__(self, predicate: pl.Expr, time: str) -> None:
        self._folders: list[pl.Expr] = []
        self._files: list[pl.Expr] = []
        self._days: list[pl.Expr] = []
        self._times: list[pl.Expr] = []
        self._time = time
        self._symbol_conditions: list[pl.Expr] = []
        self._matching_symbols: dict[str, bool] = {}
        self._matching_folders: dict[Folder, bool] = {}
        self._matching_periods: dict[tuple[str | None, date, date], bool] = {}
        for part, tree in _conjuncts(predicate):
            roots = set(part.meta.root_names())
            if not roots or _is_hint(tree):
                continue
            if roots <= _POLARS_PATHS.keys():
                (self._files if "file" in roots else self._folders).append(part)
                if roots == {"symbol"}:
                    self._symbol_conditions.append(part)
            elif roots == {"date"}:
                self._days.append(part)
            elif roots == {time}:
                self._times += _bounds(part, tree)

    @property
    def symbols(self) -> None:
        """None: the symbols are not known."""

    def symbol_may_match(self, symbol: str) -> bool:
        """Return whether no condition on the symbol alone rules it out."""
        if not self._symbol_conditions:
            return True
        if symbol not in self._matching_symbols:
            row = pl.DataFrame({"symbol": [symbol]}, schema={"symbol": PATH_TYPES["symbol"]})
            found = (_evaluate(part, row).any() for part in self._symbol_conditions)
            self._matching_symbols[symbol] = all(found)
        return self._matching_symbols[symbol]

    def folder_may_match(self, folder: Folder) -> bool:
        """Return whether no condition on path columns rules out all rows of a folder."""
        if folder not in self._matching_folders:
            rows = _paths_frame(folder, [None])
            matches = all(_evaluate(part, rows).any() for part in self._folders)
            self._matching_folders[folder] = matches
        return self._matching_folders[folder]

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
        folder, known = stored.folder, self._matching_periods
        periods = [(folder.interval, group[0].start, group[-1].end) for group in groups]
        pairs = zip(periods, groups, strict=True)
        if new := {period: group for period, group in pairs if period not in known}:
            spans = spans_of(folder, [*new.values()])
            known.update(zip(new, self.spans_may_match(spans).tolist(), strict=True))
        matches = np.array([known[period] for period in periods], bool)
        # The column `file` is known only of single files.
        if self._files and all(len(group) == 1 for group in groups):
            rows = _paths_frame(folder, [group[0].path for group in groups])
            for part in self._files:
                matches &= _evaluate(part, rows)
        found: list[bool] = matches.tolist()
        return found

    def all_match(self, stored: StoredFolder, group: Group) -> bool:
        """Return False: the rows are always filtered by Polars."""
        return False


def _paths_frame(folder: Folder, files: Sequence[str | None]) -> pl.DataFrame:
    """Return the path columns of rows of a folder, one row for each file."""
    paths: dict[str, str | None] = {"market": folder.market, "symbol": folder.symbol}
    paths |= {"interval": folder.interval, "partition": folder.partition}
    columns = {name: [path] * len(files) for name, path in paths.items()} | {"file": files}
    return pl.DataFrame(columns, schema=_POLARS_PATHS)


def _evaluate(part: pl.Expr, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Return for which rows a condition is true; True for all if that cannot be evaluated."""
    try:
        found = rows.select(part).to_series()
        if len(found) == len(rows):
            return found.fill_null(value=False).to_numpy().astype(bool)
    except pl.exceptions.PolarsError:
        pass
    return np.ones(len(rows), bool)


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
