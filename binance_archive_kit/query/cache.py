"""Months of rows as Parquet, beside the zips they come from.

All of it can be rebuilt from the zips, so the folder may be deleted at any time. The name of a
cached month depends on the names and stamps of its files: when one of them changes, arrives
or goes, the name is another one and the old file is unused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pyarrow import types

from binance_archive_kit.archive.keys import Folder
from binance_archive_kit.display import render
from binance_archive_kit.query.known_files import VERSION, KnownFiles
from binance_archive_kit.reading.feed_table import PATH_COLUMNS, FeedTable
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.storage.layout import PRIVATE

#: Rows in a group of a Parquet file: what one thread of a query takes at a time.
_ROW_GROUP = 122_880
#: Rows that tell whether a column's values repeat.
_SAMPLE = 20_000
_PART = ".part"
#: Bytes that the cached months of a store may take.
DEFAULT_LIMIT = 20 << 30
_WORDS = [name for name in PATH_COLUMNS if name != "date"]
_FORM = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(dictionary_columns=_WORDS))
_SYSTEM = pafs.LocalFileSystem()


@dataclass(frozen=True, slots=True)
class CacheUse:
    """The size of the cache of a store.

    Attributes
    ----------
    folder : Path or None
        None if nothing is cached on disk.
    months, bytes : int
        Parquet files, and what they take together.
    limit : int
        Bytes that they may take.
    """

    folder: Path | None
    months: int
    bytes: int
    limit: int

    def __str__(self) -> str:
        """Return the size in one line."""
        if self.folder is None:
            return "Cache: nothing is kept"
        return (
            f"Cache: {self.months:,} months, {render.size(self.bytes)} of at most "
            f"{render.size(self.limit)}, in {self.folder}"
        )


class MonthCache:
    """The cached months of one store.

    Parameters
    ----------
    root : Path
        The store's root. The cache lies in its private folder; in the user's own cache
        folder if the store cannot be written to.
    keep : bool
        Whether anything is written to disk; if not, statistics live as long as this object.
    limit : int
        Bytes that all months together may take; the least recently used ones go first.

    Attributes
    ----------
    folder : Path or None
    known : KnownFiles
        What is known of the store's files; it lies beside the months.
    """

    def __init__(self, root: Path, *, keep: bool = True, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._fragments: dict[Path, ds.Fragment] = {}
        self.folder = _folder_of(root) if keep else None
        self.known = KnownFiles(self.folder)

    def month(self, feed: FeedTable, folder: Folder, sources: Sequence[FileTask]) -> Path | None:
        """Return where the rows of a month are cached, or would be; None if nothing is cached.

        Parameters
        ----------
        feed : FeedTable
        folder : Folder
            Whose symbol and interval the files have.
        sources : sequence of FileTask
            All files that give the month's rows.
        """
        if self.folder is None:
            return None
        return self.folder / feed.table / folder.symbol / (folder.interval or "") / _name(sources)

    def write(self, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """Write a month in one step: it is there whole, or not at all.

        Nor if the folder is deleted meanwhile.

        Raises
        ------
        OSError
            If there is no room, or the folder cannot be written to.
        """
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{_PART}")
        with suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write(part, schema, _in_groups(batches, schema))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        month = path.name.partition(".")[0]
        for other in path.parent.glob(f"{month}.*.parquet"):
            if other != path:
                other.unlink(missing_ok=True)

    def read(
        self,
        paths: Iterable[Path],
        schema: pa.Schema,
        columns: list[str],
        where: ds.Expression | None,
    ) -> Iterator[pa.RecordBatch]:
        """Read cached months, in the given order.

        Raises
        ------
        OSError, pyarrow.ArrowInvalid
            If one of them was deleted, or damaged.
        """
        months = ds.FileSystemDataset(map(self._fragment, paths), schema, _FORM, _SYSTEM)
        yield from months.scanner(columns=columns, filter=where, batch_size=_ROW_GROUP).to_reader()

    def _fragment(self, path: Path) -> ds.Fragment:
        """Open a month; its metadata is read once, as it never changes under its name."""
        known = self._fragments.get(path)
        return known or self._fragments.setdefault(path, _FORM.make_fragment(str(path), _SYSTEM))

    def use(self) -> CacheUse:
        """Return the number and size of the months."""
        sizes = [size for _, _, size in self._months()]
        return CacheUse(self.folder, len(sizes), sum(sizes), self._limit)

    def trim(self) -> None:
        """Remove the least recently used months beyond the limit, and files of other versions."""
        self.known.remove_other_versions()
        total = 0
        for _, path, size in sorted(self._months(), reverse=True):
            total += size
            if total > self._limit:
                path.unlink(missing_ok=True)

    def discard(self, paths: Iterable[Path]) -> None:
        """Remove months that cannot be read."""
        for path in paths:
            self._fragments.pop(path, None)
            with suppress(OSError):
                path.unlink()

    def clear(self) -> None:
        """Forget everything."""
        self.known.clear()
        self._fragments.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _months(self) -> Iterator[tuple[int, Path, int]]:
        """Yield for each month when it was last used, its path, and its size."""
        # Unlike `Path.rglob`, `os.walk` bears folders that vanish while it walks.
        for folder, _, names in os.walk(self.folder or os.devnull):
            for name in names:
                if name.endswith(".parquet"):
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):
                        stat = path.stat()
                        yield stat.st_mtime_ns, path, stat.st_size


def _name(sources: Sequence[FileTask]) -> str:
    """Return the name of a month, which changes with any of its files."""
    digest = hashlib.sha256(str(VERSION).encode())
    for source in sources:
        file, days = source.file, ",".join(sorted(map(str, source.without)))
        stamp = " ".join(map(str, file.stamp))
        digest.update(f"{file.path} {stamp} {days}\n".encode())
    return f"{sources[0].file.start:%Y-%m}.{digest.hexdigest()[:20]}.parquet"


def touch(paths: Iterable[Path]) -> None:
    """Record that months were used now."""
    for path in paths:
        with suppress(OSError):
            os.utime(path)


def _write(path: Path, schema: pa.Schema, groups: Iterator[pa.Table]) -> None:
    """Write row groups, each column in the encoding that is small and read fast.

    Whole numbers and times as differences, others whose values repeat as dictionaries.
    All with zstd, but for decimals: queries read mostly those, and LZ4 decodes them in
    half the time for a fifth more space.
    """
    first = next(groups, schema.empty_table())
    whole = {f.name for f in schema if types.is_integer(f.type) or types.is_timestamp(f.type)}
    words = [name for name in schema.names if name not in whole and _repeats(first[name])]
    packed = {
        f.name: "lz4" if types.is_floating(f.type) or types.is_decimal(f.type) else "zstd"
        for f in schema
    }
    with pq.ParquetWriter(
        path,
        schema,
        compression=packed,
        use_dictionary=words,
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
    ) as writer:
        for group in chain([first], groups):
            writer.write_table(group, row_group_size=_ROW_GROUP)


def _repeats(values: pa.ChunkedArray) -> bool:
    """Return whether a column has so few different values that a dictionary pays."""
    if types.is_dictionary(values.type):
        return True
    sample = values.slice(0, _SAMPLE)
    return bool(pc.count_distinct(sample).as_py() < len(sample) / 2)


def _in_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Join batches into tables of about a row group each."""
    batched: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        batched.append(batch)
        rows += batch.num_rows
        if rows >= _ROW_GROUP:
            yield pa.Table.from_batches(batched, schema).unify_dictionaries()
            batched, rows = [], 0
    if batched:
        yield pa.Table.from_batches(batched, schema).unify_dictionaries()


def _folder_of(root: Path) -> Path:
    """Return a folder that can be written to: in the store, else in the user's cache folder."""
    beside = root / PRIVATE / "cache"
    folder = beside
    while not folder.exists():
        folder = folder.parent
    if os.access(folder, os.W_OK):
        return beside
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    return Path(home) / "binance_archive_kit" / name
