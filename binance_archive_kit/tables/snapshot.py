"""A generation of a feed's tables: which files it has rows of, and the rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.tables.manifest import PART_NAME, EntryFile, FeedFolder, Part
from binance_archive_kit.tables.row_reader import (
    OpenFile,
    Piece,
    RowReader,
    Segment,
    UnreadableFile,
)

#: Columns of the entries of a part: one row for each file.
STORED_SCHEMA = pl.Schema(
    {
        "path": pl.String,
        "key": pl.String,
        "symbol": pl.String,
        "interval": pl.String,
        "partition": pl.String,
        # First and last UTC day of the file, both inclusive.
        "start": pl.Date,
        "end": pl.Date,
        # Its stamp: bytes, nanoseconds since 1970 UTC, number in the file system.
        "size": pl.Int64,
        "mtime": pl.Int64,
        "ctime": pl.Int64,
        "inode": pl.Int64,
        # Its digest in hex, if it is known.
        "sha256": pl.String,
        # Its rows, and the earliest and latest of their times in microseconds since 1970 UTC.
        "rows": pl.Int64,
        "first": pl.Int64,
        "last": pl.Int64,
        # The first of its rows within the part.
        "row": pl.Int64,
    }
)
_READ_SCHEMA = pl.Schema({name: dtype for name, dtype in STORED_SCHEMA.items() if name != "sha256"})
#: Columns of `Snapshot.entries`; ``part`` is the index of the part in the snapshot. Digests take
#: much memory, and only a merge needs them.
ENTRY_SCHEMA = pl.Schema([*_READ_SCHEMA.items(), ("part", pl.Int32())])
#: Selections of symbols whose entries are remembered.
_SELECTIONS = 32
_ANY_COLUMN = "market"
S = TypeVar("S")
T = TypeVar("T")


class StaleSnapshot(Exception):
    """A part of the snapshot is gone; the next snapshot is without it."""


class Snapshot:
    """A generation of a feed's tables; safe to be used by several threads.

    Parameters
    ----------
    folder : FeedFolder
    parts : tuple of Part
    discard : callable
        Called with the name of a part that cannot be read, and the error.

    Attributes
    ----------
    parts : tuple of Part
        The oldest first.
    """

    def __init__(
        self,
        folder: FeedFolder,
        parts: tuple[Part, ...],
        discard: Callable[[str, UnreadableFile], None],
    ) -> None:
        self.parts = parts
        self._indices = {part.name: index for index, part in enumerate(parts)}
        self._folder = folder
        self._discard = discard
        self._entries: dict[frozenset[str] | None, pl.DataFrame] = {}
        self._lock = threading.Lock()

    def entries(self, symbols: Collection[str] | None = None) -> pl.DataFrame:
        """Return the files that the tables have rows of.

        Parameters
        ----------
        symbols : collection of str, optional
            Only files of these symbols; None for all.

        Returns
        -------
        polars.DataFrame
            With `ENTRY_SCHEMA`, in the order of paths. If several parts have rows of a file,
            only the newest is listed. A part whose entries are gone or damaged has none.
        """
        wanted = None if symbols is None else frozenset(symbols)
        with self._lock:
            if wanted not in self._entries:
                if len(self._entries) > _SELECTIONS:
                    self._entries.clear()
                self._entries[wanted] = self._read_entries(wanted)
            return self._entries[wanted]

    def digests(self, entries: pl.DataFrame) -> dict[str, str]:
        """Return the SHA-256 of files in hex, by their paths, as far as it is known.

        Parameters
        ----------
        entries : polars.DataFrame
            Some rows of `entries`.
        """
        digests: dict[str, str] = {}
        wanted = entries.select("path", "part")
        parts = [self.parts[index] for index in wanted["part"].unique()]
        for file in self._folder.entry_files(parts):
            for group in self._decode(file, ["path", "sha256"]):
                known = group.join(wanted, on=wanted.columns, how="semi").drop_nulls()
                digests |= dict(known.select("path", "sha256").iter_rows())
        return digests

    def read(
        self,
        groups: Sequence[Sequence[Segment]],
        columns: Sequence[str],
        where: ds.Expression | None,
        fallback: Callable[[Segment], Iterator[pa.RecordBatch]],
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Read rows, group by group; each row group is decoded once.

        Parameters
        ----------
        groups : sequence of sequence of Segment
            The rows of each group, in order.
        columns : sequence of str
            Columns to return.
        where : pyarrow.dataset.Expression or None
            Only rows for which this is true are returned.
        fallback : callable
            Yields the rows of a damaged segment, or of a part of one: those for which `where`
            is true, with `columns`. The part is discarded.

        Yields
        ------
        (int, pyarrow.RecordBatch)
            Index of the group, and some of its rows.

        Raises
        ------
        StaleSnapshot
            Before the first row, if a part is gone or its footer is damaged.
        """
        parts = sorted({segment.part for group in groups for segment in group})
        files = dict(zip(parts, self._map(self._open, parts), strict=True))

        def damaged(piece: Piece, error: UnreadableFile) -> Iterator[pa.RecordBatch]:
            self._discard(self.parts[piece.part].name, error)
            first = files[piece.part].starts[piece.row_group]
            start, end = first + piece.start, first + piece.end
            for part, row, rows in groups[piece.group]:
                if part == piece.part and row < end and row + rows > start:
                    begin = max(row, start)
                    yield from fallback(Segment(part, begin, min(row + rows, end) - begin))

        # Without a column, rows could not be counted.
        reader = RowReader(files, columns or [_ANY_COLUMN], where, damaged)
        for index, batch in reader.read(groups):
            yield index, batch.select(columns)

    def _open(self, part: int) -> OpenFile:
        try:
            return self._folder.open_data(self.parts[part])
        except UnreadableFile as error:
            self._discard(self.parts[part].name, error)
            raise StaleSnapshot(str(error)) from None

    def _map(self, work: Callable[[S], T], subjects: Sequence[S]) -> list[T]:
        """Do work on parts or files: at the same time if they have to be asked for."""
        if self._folder.requests == 1 or len(subjects) < 2:
            return [*map(work, subjects)]
        with ThreadPoolExecutor(self._folder.requests, "parts") as pool:
            return [*pool.map(work, subjects)]

    def _decode(
        self, file: EntryFile, columns: Sequence[str], where: ds.Expression | None = None
    ) -> list[pl.DataFrame]:
        """Return columns of the stored entries of parts, and the indices of these, by row group."""
        indices = [self._indices[part.name] for part in file.parts]
        try:
            opened = file.open()
            names = [PART_NAME] if PART_NAME in opened.fragment.physical_schema.names else []
            groups = [
                pl.DataFrame(opened.decode(group, [*columns, *names]))
                for group in sorted(opened.matching(where))
            ]
        except UnreadableFile as error:
            if len(file.parts) > 1:  # each has its own as well
                alone = FeedFolder.entry_files(self._folder, file.parts)
                return [group for each in alone for group in self._decode(each, columns, where)]
            self._discard(file.parts[0].name, error)
            return []
        if not names:
            return [group.with_columns(part=pl.lit(indices[0], pl.Int32)) for group in groups]
        parts = pl.DataFrame(
            {PART_NAME: [part.name for part in file.parts], "part": indices},
            {PART_NAME: pl.String, "part": pl.Int32},
        )
        return [group.join(parts, on=PART_NAME).drop(PART_NAME) for group in groups]

    def _read_entries(self, symbols: frozenset[str] | None) -> pl.DataFrame:
        frames = [ENTRY_SCHEMA.to_frame()]
        if symbols is not None and not symbols:
            return frames[0]
        where = None if symbols is None else ds.field("symbol").isin(sorted(symbols))
        parts = [part for part in self.parts if symbols is None or part.may_have(symbols)]
        decode = partial(self._decode, columns=_READ_SCHEMA.names(), where=where)
        for groups in self._map(decode, self._folder.entry_files(parts)):
            frames += [group.cast(ENTRY_SCHEMA) for group in groups]
        frame = pl.concat(frames)
        if symbols is not None:
            frame = frame.filter(pl.col("symbol").is_in(list(symbols)))
        if frame["path"].n_unique() < frame.height:
            frame = frame.sort("part").unique("path", keep="last")
        # Sorting copies the frame.
        return frame if frame["path"].is_sorted() else frame.sort("path")


def tasks_of(entries: pl.DataFrame) -> Iterator[tuple[FileTask, Segment]]:
    """Yield the file of each entry, and its rows."""
    columns = ["key", "path", "start", "end", *Stamp._fields, *Segment._fields]
    for key, path, start, end, *others in entries.select(columns).iter_rows():
        file = StoredFile(key, path, start, end, Stamp(*others[:4]))
        yield (
            FileTask(file, StoredFolder(ObjectKey.parse(key).folder, (file,))),
            Segment(*others[4:]),
        )
