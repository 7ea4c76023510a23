"""The result of `to_parquet`: the files of an export, and whether their rows are complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from binance_archive_kit.display import render
from binance_archive_kit.display.summary import State, Summary, Table

WRITTEN, KEPT, REMOVED = "written", "kept", "removed"
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "file": pl.String,
    "state": pl.Enum([WRITTEN, KEPT, REMOVED]),
    "market": pl.String,
    "data_type": pl.String,
    "interval": pl.String,
    "month": pl.String,
    "rows": pl.Int64,
    "bytes": pl.Int64,
    "sources": pl.Int64,
    "coverage": pl.Float64,
    "complete": pl.Boolean,
    "verdict": pl.String,
}
FILES_SCHEMA = pl.Schema(_COLUMNS)
#: Feeds in a table before the others are only counted.
_ROWS = 25


def are_complete(files: pl.DataFrame) -> bool:
    """Return whether there are files, and all of them are complete."""
    return files.height > 0 and files["complete"].all()


def describe_coverage(files: pl.DataFrame, nothing: str = "") -> str:
    """Describe the coverage of exported files in one sentence.

    Parameters
    ----------
    files : polars.DataFrame
        ``file`` (the name to show), ``coverage``, ``complete`` and ``verdict`` of each.
    nothing : str
        Why there may be no file.
    """
    if not files.height:
        return f"Nothing exported: {nothing}" if nothing else "Nothing exported"
    count = render.counted(files.height, "file")
    if are_complete(files):
        return f"Complete: no due row of {count} is missing"
    bad = files.filter(~pl.col("complete"))
    worst = bad.sort("coverage", nulls_last=True).row(0, named=True)
    return (
        f"Incomplete: {bad.height:,} of {count} {'has' if files.height == 1 else 'have'} gaps or "
        f"doubtful rows; the worst, {worst['file']}: {worst['verdict']}"
    )


@dataclass(frozen=True, repr=False)
class ParquetExport:
    """The files of an export, as `to_parquet` left them.

    Attributes
    ----------
    target : Path
    files : polars.DataFrame
        A row per file: ``file`` (path inside the target), ``state`` (``written``, ``kept`` or
        ``removed``), ``market``, ``data_type``, ``interval``, ``month``, ``rows``, ``bytes``,
        ``sources`` (number of files that may have rows of it), ``coverage`` (share of the due
        rows, or of days, 0 to 1), ``complete`` and ``verdict`` (in words).
    """

    target: Path
    files: pl.DataFrame

    @property
    def written(self) -> int:
        """Number of files that were written."""
        return self._count(WRITTEN)

    @property
    def kept(self) -> int:
        """Number of files that were up to date."""
        return self._count(KEPT)

    @property
    def removed(self) -> int:
        """Number of files that were removed, since the store has no rows of them any more."""
        return self._count(REMOVED)

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return int(self._present["rows"].sum())

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return int(self._present["bytes"].sum())

    @property
    def is_complete(self) -> bool:
        """Whether there are files, and no due row of any is missing or doubtful."""
        return are_complete(self._present)

    @property
    def verdict(self) -> str:
        """The coverage of all files in one sentence."""
        files = self._present.with_columns(pl.col("file").str.replace(r"/[^/]*$", ""))
        return describe_coverage(files, "the store has no rows of this selection")

    @property
    def _present(self) -> pl.DataFrame:
        return self.files.filter(pl.col("state") != REMOVED)

    def _count(self, state: str) -> int:
        return self.files.filter(pl.col("state") == state).height

    def to_frame(self) -> pl.DataFrame:
        """Return `files`."""
        return self.files

    def __str__(self) -> str:
        """Return the counts, the feeds and the verdict as text."""
        return self._summary().to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the result as HTML."""
        return self._summary().to_html()

    def _summary(self) -> Summary:
        state: State = "good" if self.is_complete else "warn" if self._present.height else "idle"
        counts = (
            f"{self.target}: {render.counted(self.written, 'file')} written, {self.kept:,} kept, "
            f"{self.removed:,} removed; {self.rows:,} rows, {render.size(self.bytes)}"
        )
        rows = [*self._feeds()]
        more = len(rows) - _ROWS
        below = f"… and {more:,} more" if more > 0 else ""
        head = ("feed", "months", "files", "rows", "size", "complete")
        tables = [
            Table(head, rows[:_ROWS], range(2, 6), below=below),
            Table((), (), below=self.verdict),
        ]
        return Summary("Parquet", counts, state, tables)

    def _feeds(self) -> Iterator[tuple[str, ...]]:
        """Yield a row of the table for each feed and interval."""
        names = ["market", "data_type", "interval"]
        feeds = self._present.group_by(names, maintain_order=True).agg(
            pl.min("month").alias("first"),
            pl.max("month").alias("last"),
            pl.len().alias("files"),
            pl.col("rows", "bytes", "complete").sum(),
        )
        for row in feeds.iter_rows(named=True):
            yield (
                " ".join(filter(None, (row[name] for name in names))),
                f"{row['first']} to {row['last']}",
                f"{row['files']:,}",
                f"{row['rows']:,}",
                render.size(row["bytes"]),
                "all" if row["complete"] == row["files"] else f"{row['complete']:,}",
            )
