"""``_sources.parquet``: the sources of all files of a target."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from binance_archive_kit.export.footers import Footer, Verdict, footer_text
from binance_archive_kit.export.sources import SOURCES_SCHEMA, MonthSources
from binance_archive_kit.tables.parquet_writer import ParquetWriter

#: The name of the list, in the root of a target.
SOURCES = "_sources.parquet"
_KEY = ["target", "sources_sha256", "path"]
_EMPTY = "binance_archive_kit.empty"


class SourceList:
    """The list of a target. At any time it has the sources of each file, and maybe others.

    Parameters
    ----------
    target : Path
    temporary : Path
        Where a new list is written before it replaces the old one.
    """

    def __init__(self, target: Path, temporary: Path) -> None:
        self._target = target
        self._temporary = temporary
        self._frame = SOURCES_SCHEMA.to_frame()
        self._metadata: dict[str, str] = {}
        #: What decides the rows of files that were not written, as they have none.
        self._empty: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        """Read the list; it is empty if it is missing or damaged."""
        path = self._target / SOURCES
        with suppress(OSError, ValueError, KeyError, pa.ArrowException, pl.exceptions.PolarsError):
            found = pq.read_metadata(path).metadata
            metadata = {key.decode(): value.decode() for key, value in found.items()}
            frame = pl.read_parquet(path, hive_partitioning=False, glob=False)
            self._empty = dict(json.loads(metadata[_EMPTY]))
            self._frame = frame.select(list(SOURCES_SCHEMA)).cast(SOURCES_SCHEMA)
            self._metadata = metadata

    def is_empty(self, month: MonthSources, settings: str) -> bool:
        """Return whether the sources of a month are known to have no row of it."""
        return self._empty.get(month.folder.file) == _fingerprint(month, settings)

    def set_empty(self, month: MonthSources, settings: str, *, empty: bool) -> None:
        """Remember whether the sources of a month have no row of it."""
        self._empty.pop(month.folder.file, None)
        if empty:
            self._empty[month.folder.file] = _fingerprint(month, settings)

    def add(self, months: Sequence[MonthSources]) -> None:
        """Add the sources of files that are going to be written; forget their numbers of rows."""
        if months:
            changed = pl.col("target").is_in([month.folder.file for month in months])
            rows = pl.when(~changed).then("rows")
            self._write(self._joined(months).with_columns(rows), self._metadata)

    def finish(
        self, months: Iterable[MonthSources], footers: Mapping[str, Footer], verdict: Verdict
    ) -> None:
        """Keep the sources of the files that exist, and count the rows of each source.

        Parameters
        ----------
        months : iterable of MonthSources
        footers : mapping of str to Footer
            All files of the target, by path.
        verdict : Verdict
            On all of them.
        """
        files = [(file, footer.digest) for file, footer in footers.items()]
        schema = {name: SOURCES_SCHEMA[name] for name in _KEY[:2]}
        current = pl.DataFrame(files, schema=schema, orient="row")
        frame = self._joined(months).join(current, on=_KEY[:2], how="semi", maintain_order="left")
        digest = hashlib.sha256()
        for words in sorted(files):
            digest.update(("\t".join(words) + "\n").encode())
        metadata = footer_text(frame["path"].n_unique(), digest.hexdigest(), verdict)
        self._write(_counted(self._target, frame), metadata)

    def _joined(self, months: Iterable[MonthSources]) -> pl.DataFrame:
        """Add the sources of months that are not listed yet."""
        known = set(self._frame.select(_KEY[:2]).unique().rows())
        new = (each for each in months if (each.folder.file, each.digest) not in known)
        return pl.concat([self._frame, *(month.frame() for month in new)]).sort(_KEY)

    def _write(self, frame: pl.DataFrame, metadata: Mapping[str, str]) -> None:
        """Replace the list, unless it is the same."""
        content = {**metadata, _EMPTY: json.dumps(self._empty, sort_keys=True)}
        known = {name: self._metadata.get(name) for name in content}
        if frame.equals(self._frame) and known == content:
            return
        table = frame.to_arrow()
        try:
            with ParquetWriter(self._temporary, table.schema, content) as writer:
                if frame.height:
                    writer.write(table)
            with self._temporary.open("rb+") as file:
                os.fsync(file.fileno())
            self._temporary.replace(self._target / SOURCES)
        finally:
            self._temporary.unlink(missing_ok=True)
        self._frame, self._metadata = frame, content


def _fingerprint(month: MonthSources, settings: str) -> str:
    return hashlib.sha256(f"{settings}{month.digest}".encode()).hexdigest()


def _counted(target: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Count the rows of each source where they are unknown, in the files of the export."""
    unknown = frame.filter(pl.col("rows").is_null())["target"].unique()
    counts = [
        pl.scan_parquet(target / file, hive_partitioning=False, glob=False)
        .group_by(pl.col("file").cast(pl.String).alias("path"))
        .agg(pl.len().cast(pl.Int64).alias("counted"))
        .with_columns(pl.lit(file).alias("target"))
        .collect()
        for file in unknown
    ]
    schema = {"path": pl.String, "counted": pl.Int64, "target": pl.String}
    counted = pl.concat([pl.DataFrame(schema=schema), *counts])
    found = frame.join(counted, on=["target", "path"], how="left", maintain_order="left")
    return found.with_columns(pl.coalesce("rows", "counted", pl.lit(0))).drop("counted")
