"""Read the rows of a feed once each: exact duplicates dropped, contradictions rejected."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl

from binance_archive_kit.errors import ArchiveKitWarning, ConflictingRows
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.polars_scan import scan_feed
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.feed_table import FILE_COLUMNS, FeedTable

#: Names that a message lists.
_FEW = 5


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

    def read(self, feed: FeedTable, selection: Selection, *where: pl.Expr) -> pl.DataFrame:
        """Read rows in the order of symbol, interval and time, each once."""
        lazy = scan_feed(self.engine, feed, selection).filter(*where)
        names = ["symbol", "interval"] if feed.data_type.has_intervals else ["symbol"]
        frame = lazy.select(*names, *feed.columns).collect()
        falls, has_duplicates = _steps(frame, names, feed.time)
        if falls:
            frame = frame.sort(*names, feed.time, maintain_order=True)
            _, has_duplicates = _steps(frame, names, feed.time)
        return self._unique(feed, lazy, frame, [*names, feed.time]) if has_duplicates else frame

    def _unique(
        self, feed: FeedTable, lazy: pl.LazyFrame, frame: pl.DataFrame, key: list[str]
    ) -> pl.DataFrame:
        """Drop exact duplicates, and reject different rows with one key."""
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
        warnings.warn(
            f"dropped {rows} another one in every value; files: {first_few(sorted(self.files))}",
            ArchiveKitWarning,
            stacklevel=3,
        )


def first_few(names: Sequence[str]) -> str:
    """Join the first names, and count the others."""
    more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
    return f"{', '.join(names[:_FEW])}{more}"


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
        message = f"two rows of {one[time]:%Y-%m-%d %H:%M:%S} differ: {name} is {one[name]}"
        others = [each["file"] for each in (one, two) if each["file"] != first["file"]]
        where = f", one of them in {others[0]}" if others else ""
        more = f" ({first['times']:,} such times)" if first["times"] > 1 else ""
        yield ConflictingRows(first["file"], f"{message} and {two[name]}{where}{more}")
