"""The result of `prune`: which files are deleted, and which stay although they were chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from binance_archive_kit.display import render
from binance_archive_kit.display.summary import Fold, State, Summary, Table

#: Columns of `Pruning.frame`: a stream in one partition. Days are UTC, both inclusive.
PRUNED_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("market", "data_type", "partition", "symbol", "interval"), pl.String()),
        **dict.fromkeys(("first", "last"), pl.Date()),
        **dict.fromkeys(("files", "bytes"), pl.Int64()),
    }
)
#: Rows of the table, beyond which feeds are shown instead of streams.
_ROWS = 24


@dataclass(frozen=True)
class Pruning:
    """The files that `prune` deletes, or would delete.

    Displays itself in a notebook.

    Attributes
    ----------
    root : Path
        The folder of the store.
    deleted : bool
        Whether the files are deleted; False after a dry run.
    frame : polars.DataFrame
        One row per stream and partition: ``market``, ``data_type``, ``partition``, ``symbol``,
        ``interval`` (text), ``first`` and ``last`` (the UTC days of the files, both inclusive),
        ``files`` and ``bytes``.
    partial : tuple of str
        Paths inside the store of files that stay because only some of their days were chosen.
    outside : tuple of str
        Paths of files that stay because a symbolic link leads out of the store.
    failed : tuple of str
        Paths of files that could not be deleted, with the reason.
    """

    root: Path
    deleted: bool
    frame: pl.DataFrame
    partial: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def files(self) -> int:
        """Number of files."""
        return int(self.frame["files"].sum())

    @property
    def bytes(self) -> int:
        """Bytes of the files."""
        return int(self.frame["bytes"].sum())

    def headline(self) -> str:
        """Return the amount in one line."""
        if not self.files:
            return "no file is to be deleted" if not self.failed else "no file was deleted"
        streams = self.frame.select("market", "data_type", "symbol", "interval").n_unique()
        verb = "deleted" if self.deleted else "would be deleted"
        return (
            f"{render.counted(self.files, 'file')} of {render.counted(streams, 'stream')}, "
            f"{render.size(self.bytes)}, {verb}"
        )

    def to_frame(self) -> pl.DataFrame:
        """Return `frame`."""
        return self.frame

    def __str__(self) -> str:
        """Return the amount and the streams as text."""
        return self._summary().to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the same as HTML."""
        return self._summary().to_html()

    def _summary(self) -> Summary:
        state: State = "bad" if self.failed else "idle" if not self.files else "warn"
        if self.deleted and self.files and not self.failed:
            state = "good"
        streams = ("symbol", "interval") if self.frame.height <= _ROWS else ()
        names = ("market", "data_type", "partition", *streams)
        head = (*(render.plain(name) for name in names), "first day", "last day", "files", "size")
        last = len(head) - 1
        folds = [
            _fold(self.partial, "kept: only some of the days were chosen", "idle"),
            _fold(self.outside, "kept: a symbolic link leads out of the store", "warn"),
            _fold(self.failed, "not deleted", "bad"),
        ]
        more = ["nothing is deleted yet: repeat the call with dry_run=False, or prune with --yes"]
        return Summary(
            "Pruned" if self.deleted else "Dry run",
            f"{self.root}: {self.headline()}",
            state,
            [Table(head, [*self._rows(names)], numeric={last - 1, last})],
            folds=[fold for fold in folds if fold.lines],
            notes=more if self.files and not self.deleted else [],
        )

    def _rows(self, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Yield a row of the table for each stream, or for each feed."""
        grouped = self.frame.group_by(names, maintain_order=True).agg(
            pl.col("first").min(), pl.col("last").max(), pl.col("files", "bytes").sum()
        )
        for row in grouped.iter_rows(named=True):
            yield (
                *(row[name] or "" for name in names),
                str(row["first"]),
                str(row["last"]),
                f"{row['files']:,}",
                render.size(row["bytes"]),
            )


def _fold(paths: Sequence[str], what: str, state: State) -> Fold:
    return Fold(f"{render.counted(len(paths), 'file')} {what}", paths, state)
