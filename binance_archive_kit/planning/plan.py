"""The plan of a collection: one row per object with its action, and the absences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

import polars as pl

from binance_archive_kit.archive.absence import Absence, absence_folds
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.display import render
from binance_archive_kit.display.summary import Summary, Table
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.selection import SymbolSelection
from binance_archive_kit.storage.layout import BaseStorage


class Action(StrEnum):
    """The action of a collection for an object."""

    DOWNLOAD = "download"
    UPDATE = "update"
    KEEP = "keep"


class PlanReason(StrEnum):
    """The reason of an action; see `decide.decide`."""

    NEW = "new"
    FORCED = "forced"
    SIZE_DIFFERS = "size differs"
    REISSUED = "re-issued"
    TO_BE_PROVEN = "to be proven"
    TO_BE_HASHED = "to be hashed"
    PROVEN = "proven"

    @property
    def action(self) -> Action:
        """The action that follows."""
        return _ACTIONS.get(self, Action.KEEP)


_ACTIONS = {
    PlanReason.NEW: Action.DOWNLOAD,
    PlanReason.FORCED: Action.UPDATE,
    PlanReason.SIZE_DIFFERS: Action.UPDATE,
    PlanReason.REISSUED: Action.UPDATE,
}

#: Shape of `Plan.frame`. Days and times are UTC; ``start`` and ``end`` are inclusive.
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "key": pl.String,
    "market": pl.Enum(Market),
    "data_type": pl.Enum(DataType),
    "partition": pl.Enum(Partition),
    "symbol": pl.Categorical(),
    "interval": pl.Enum(Interval),
    "start": pl.Date,
    "end": pl.Date,
    "size": pl.Int64,
    "etag": pl.String,
    "last_modified": pl.String,
    "checksum": pl.Boolean,
    "action": pl.Enum(Action),
    "reason": pl.String,
}
PLAN_SCHEMA = pl.Schema(_COLUMNS)


@dataclass(frozen=True)
class Plan:
    """The objects that a collection would download, update or keep.

    `plan` returns it, `collect` executes it. Displays itself in a notebook.

    Attributes
    ----------
    config : CollectionConfig
        The configuration, with relative days resolved.
    frame : polars.DataFrame
        One row per object that exists:

        - ``key``, ``market``, ``data_type``, ``partition``, ``symbol``, ``interval``: text or
          categories
        - ``start``, ``end``: dates, the UTC days of the object, both inclusive
        - ``size``: bytes
        - ``etag``, ``last_modified``: text; the time is UTC, ISO 8601
        - ``checksum``: bool, whether the archive has a ``.CHECKSUM`` object
        - ``action``: ``download``, ``update`` or ``keep``
        - ``reason``: text

        Size, ETag, time and checksum are null without a listing (``listing=False``).
    unavailable : sequence of Absence
        Requested data that cannot exist.
    missing : sequence of Absence
        Requested data that could exist, but is not in the archive.
    not_published : sequence of Absence
        Requested data that is not published yet.
    notes : tuple of str
        Remarks on the configuration and the requested data.
    selections : tuple of SymbolSelection
        For each feed, the symbols that the patterns of the configuration match, and when the
        archive listed them.
    storage : BaseStorage or None
        Chooses folders. Without one, new files go to their key; existing files stay.
    since : dict of Stream to date
        The first requested UTC day of each stream that does not begin with the configuration's
        days: an update continues each stream from its last file.
    """

    config: CollectionConfig
    frame: pl.DataFrame = field(repr=False)
    unavailable: Sequence[Absence] = ()
    missing: Sequence[Absence] = ()
    not_published: Sequence[Absence] = ()
    notes: tuple[str, ...] = ()
    selections: tuple[SymbolSelection, ...] = ()
    storage: BaseStorage | None = field(default=None, repr=False)
    since: Mapping[Stream, date] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Return the number of objects."""
        return self.frame.height

    def __bool__(self) -> bool:
        """Return True, also for an empty plan."""
        return True

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all objects; None without a listing."""
        return _sum_of_sizes(self.frame)

    @property
    def download_bytes(self) -> int | None:
        """Bytes to download or update; None without a listing."""
        return _sum_of_sizes(self.rows_to_fetch())

    def count(self, action: Action | str) -> int:
        """Count the objects with an action: ``download``, ``update`` or ``keep``."""
        return int((self.frame["action"] == Action(action).value).sum())

    def rows_to_fetch(self) -> pl.DataFrame:
        """Return the rows to download or update, with their number as ``row``."""
        return self._rows(pl.col("action") != Action.KEEP.value)

    def rows_with(self, *reasons: PlanReason) -> pl.DataFrame:
        """Return the rows that have one of these reasons, with their number as ``row``."""
        return self._rows(pl.col("reason").is_in([reason.value for reason in reasons]))

    def rows_to_prove(self) -> pl.DataFrame:
        """Return the rows of kept files without a current proof, with their number as ``row``."""
        return self.rows_with(PlanReason.TO_BE_PROVEN, PlanReason.TO_BE_HASHED)

    def _rows(self, condition: pl.Expr) -> pl.DataFrame:
        return self.frame.with_row_index("row").filter(condition)

    def part(self, rows: Sequence[int]) -> Plan:
        """Return the plan for some of the objects, by row number, without absences and notes."""
        return Plan(self.config, self.frame[rows], storage=self.storage)

    def headline(self) -> str:
        """Summarize the plan in one line."""
        if not len(self):
            return "Nothing to collect: the archive has no object of this request"
        actions = [f"{self.count(a):,} to {a.value}" for a in Action if self.count(a)]
        size = self.download_bytes
        amount = "size unknown" if size is None else f"{render.size(size)} to fetch"
        return f"{render.counted(len(self), 'object')}: {', '.join(actions)}; {amount}"

    def summary(self) -> pl.DataFrame:
        """Count objects and bytes per feed: one row per market, data type and partition."""
        return (
            self.frame.group_by("market", "data_type", "partition", maintain_order=True)
            .agg(
                pl.len().alias("objects"),
                pl.col("size").sum().alias("bytes"),
                *[(pl.col("action") == a.value).sum().alias(a.value) for a in Action],
                pl.col("start").min().alias("first"),
                pl.col("end").max().alias("last"),
            )
            .with_columns(pl.col("market", "data_type", "partition").cast(pl.String))
        )

    def _summary(self) -> Summary:
        """Return the summary: the objects by feed, and the absences."""
        rows = [
            (
                row["market"],
                row["data_type"],
                row["partition"],
                f"{row['objects']:,}",
                *[f"{row[a.value]:,}" for a in Action],
                render.size(row["bytes"]) if self.total_bytes is not None else "unknown",
                f"{row['first']} to {row['last']}",
            )
            for row in self.summary().iter_rows(named=True)
        ]
        head = ("market", "data type", "partition", "objects", *Action, "size", "days (UTC)")
        return Summary(
            "Plan",
            self.headline(),
            "good" if len(self) else "idle",
            [Table(head, rows, numeric={3, 4, 5, 6, 7})],
            folds=[
                *absence_folds(self.missing, self.not_published, self.unavailable),
                *(fold for selection in self.selections for fold in selection.folds()),
            ],
            notes=self.notes,
        )

    def __str__(self) -> str:
        """Return the summary as text."""
        return self._summary().to_text()

    def __repr__(self) -> str:
        """Summarize the plan in one line."""
        return f"Plan({self.headline()})"

    def _repr_html_(self) -> str:
        """Show the plan in a notebook."""
        return self._summary().to_html()

    def tables_html(self) -> str:
        """Return the objects by feed and the absences as HTML, without the headline."""
        return self._summary().body_html()


def _sum_of_sizes(frame: pl.DataFrame) -> int | None:
    return None if frame["size"].null_count() else int(frame["size"].sum())
