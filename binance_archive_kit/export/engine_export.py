"""The result of an export to a backtest engine: its files, and whether their rows are complete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from binance_archive_kit.display import render
from binance_archive_kit.display.summary import State, Summary, Table
from binance_archive_kit.export.result import are_complete, describe_coverage
from binance_archive_kit.export.sidecar import StreamCoverage
from binance_archive_kit.quality.timeline import stream_values

_TIME = pl.Datetime("us", "UTC")
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "file": pl.String,
    "market": pl.String,
    "data_type": pl.String,
    "symbol": pl.String,
    "interval": pl.String,
    "rows": pl.Int64,
    "bytes": pl.Int64,
    "first": _TIME,
    "last": _TIME,
    "coverage": pl.Float64,
    "complete": pl.Boolean,
    "verdict": pl.String,
}
FILES_SCHEMA = pl.Schema(_COLUMNS)
#: Files in a table before the others are only counted.
_ROWS = 25


class Written(NamedTuple):
    """A stream that was exported.

    Attributes
    ----------
    path : str
        Of its file, or of the folder of its files, inside the target.
    coverage : StreamCoverage
    rows : int
    first, last : datetime
        Times of the first and the last row.
    """

    path: str
    coverage: StreamCoverage
    rows: int
    first: datetime
    last: datetime

    def size(self, target: Path) -> int:
        """Return the bytes of its files."""
        path = target / self.path
        return sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))


@dataclass(frozen=True, repr=False)
class EngineExport:
    """The files that an export has written for a backtest engine.

    Attributes
    ----------
    engine : str
        The name of the engine.
    target : Path
    files : polars.DataFrame
        A row per file: ``file`` (path inside the target), ``market``, ``data_type``, ``symbol``,
        ``interval``, ``rows``, ``bytes``, ``first`` and ``last`` (times of its rows,
        ``Datetime("us", "UTC")``), ``coverage`` (share of the due rows, or of days, 0 to 1),
        ``complete`` and ``verdict`` (in words). The gaps are in ``<file>.coverage.json``.
    """

    engine: str
    target: Path
    files: pl.DataFrame

    @classmethod
    def of(cls, engine: str, target: Path, written: Iterable[Written]) -> EngineExport:
        """Build the result from what was written to a target."""
        rows = [
            (
                each.path,
                *(value and str(value) for value in stream_values(each.coverage.stream)),
                each.rows,
                each.size(target),
                each.first,
                each.last,
                each.coverage.verdict.coverage,
                each.coverage.verdict.complete,
                each.coverage.verdict.text,
            )
            for each in written
        ]
        return cls(engine, target, pl.DataFrame(rows, FILES_SCHEMA, orient="row"))

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return int(self.files["rows"].sum())

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return int(self.files["bytes"].sum())

    @property
    def is_complete(self) -> bool:
        """Whether there are files, and no due row of any is missing or doubtful."""
        return are_complete(self.files)

    @property
    def verdict(self) -> str:
        """The coverage of all files in one sentence."""
        return describe_coverage(self.files)

    def to_frame(self) -> pl.DataFrame:
        """Return `files`."""
        return self.files

    def __str__(self) -> str:
        """Return the counts, the files and the verdict as text."""
        return self._summary().to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the result as HTML."""
        return self._summary().to_html()

    def _summary(self) -> Summary:
        state: State = "good" if self.is_complete else "warn" if self.files.height else "idle"
        size = render.size(self.bytes)
        count = render.counted(self.files.height, "file")
        rows = [
            (
                row["file"],
                f"{row['rows']:,}",
                f"{row['first']:%Y-%m-%d %H:%M}",
                f"{row['last']:%Y-%m-%d %H:%M}",
                "" if row["coverage"] is None else render.percent(row["coverage"], 1.0),
            )
            for row in self.files.head(_ROWS).iter_rows(named=True)
        ]
        more = self.files.height - _ROWS
        below = f"… and {more:,} more" if more > 0 else ""
        head = ("file", "rows", "first (UTC)", "last (UTC)", "coverage")
        tables = [
            Table(head, rows, {1, 4}, below=below),
            Table((), (), below=self.verdict),
        ]
        counts = f"{self.target}: {count}; {self.rows:,} rows, {size}"
        return Summary(self.engine, counts, state, tables)
