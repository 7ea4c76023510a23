"""Match the files of a store with the entries of its columnar tables.

An entry is valid as long as its file has the stamp that it had when its rows were written.
A market has very many files, so folders are compared as a whole, without an object per file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.archive.keys import Folder
from binance_archive_kit.query.pruning import Pruner, span_of_days
from binance_archive_kit.reading.file_stats import FileTask, lead_of
from binance_archive_kit.storage.inventory import Form, StoredFile, StoredFolder
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.tables.row_reader import Segment
from binance_archive_kit.tables.snapshot import tasks_of
from binance_archive_kit.timestamps import DAY

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FolderMatch:
    """The valid entries of a folder, and the other files in it.

    Attributes
    ----------
    stored : StoredFolder
    indices : numpy.ndarray of int64
        The valid entries, in the order of their files' names and so of time.
    others : StoredFolder or None
        The files that are not in tables; None if all are.
    """

    stored: StoredFolder
    indices: Indices
    others: StoredFolder | None


class TabledFiles:
    """The entries of a feed's tables, or of some of its symbols.

    Parameters
    ----------
    entries : polars.DataFrame
        In the order of their paths.
    """

    def __init__(self, entries: pl.DataFrame) -> None:
        self.entries = entries
        self._part = entries["part"].to_numpy().astype(np.int64)
        self._row = entries["row"].to_numpy()
        self._stamps = entries.select(Stamp._fields).to_numpy()
        self._rows = entries["rows"].to_numpy()
        self._start = entries["start"].to_physical().to_numpy().astype(np.int64)
        self._end = entries["end"].to_physical().to_numpy().astype(np.int64)
        #: The matches of folders, as these were last found.
        self._matches: dict[Folder, tuple[StoredFolder, FolderMatch | None]] = {}
        #: Rows of all entries up to each one.
        self._total = np.concatenate([[0], np.cumsum(self._rows)])
        #: Whether the rows of an entry follow those of the one before it.
        self._follows = np.zeros(len(entries), bool)
        if len(entries):
            ends = self._row[:-1] + self._rows[:-1]
            same = self._part[1:] == self._part[:-1]
            self._follows[1:] = same & (self._row[1:] == ends)

    def _listed(self, start: int, end: int) -> list[tuple[str, Stamp]]:
        """Return name and stamp of the files of some entries, as in the listing of a folder."""
        paths = self.entries["path"].slice(start, end - start).to_list()
        stamps = map(Stamp._make, self._stamps[start:end].tolist())
        return [(path.rpartition("/")[2], stamp) for path, stamp in zip(paths, stamps, strict=True)]

    @cached_property
    def _folders(self) -> dict[str, tuple[int, int]]:
        """The first entry of each folder, and the one after its last."""
        folders = self.entries["path"].str.replace(r"[^/]*$", "").rle().struct.unnest()
        ends = folders["len"].cast(pl.Int64).cum_sum()
        starts = ends - folders["len"]
        return dict(zip(folders["value"], zip(starts, ends, strict=True), strict=True))

    @cached_property
    def _irregular(self) -> frozenset[str]:
        """Folders with entries of files that do not lie under their key, or are no zips."""
        others = self.entries.filter(pl.col("path") != pl.col("key"))
        return frozenset(others["path"].str.replace(r"[^/]*$", ""))

    @cached_property
    def _by_path(self) -> dict[str, int]:
        return {path: index for index, path in enumerate(self.entries["path"])}

    def find(self, file: StoredFile) -> int | None:
        """Return the valid entry of a file, if it has one."""
        index = self._by_path.get(file.path)
        if index is None or tuple(self._stamps[index].tolist()) != file.stamp:
            return None
        return index

    def missing(self, stored: StoredFolder) -> list[FileTask]:
        """Return the files of a folder that have no valid entry."""
        match = self.match(stored)
        if match is None:
            return [FileTask(file, stored) for file in stored.files if self.find(file) is None]
        others = () if match.others is None else match.others.files
        return [FileTask(file, stored) for file in others]

    def match(self, stored: StoredFolder) -> FolderMatch | None:
        """Match a folder as a whole; None if its files have to be looked up one by one."""
        found = self._matches.get(stored.folder)
        if found is None or found[0] is not stored:
            # A folder whose files are unchanged is the same object as before.
            match = self._match(stored, found and found[1])
            found = self._matches[stored.folder] = stored, match
        return found[1]

    def _match(self, stored: StoredFolder, before: FolderMatch | None) -> FolderMatch | None:
        start, end = self._folders.get(stored.folder.prefix, (0, 0))
        if before is not None and before.others is None and len(before.indices) == end - start:
            known = before.stored.listing
        else:
            known = self._listed(start, end)
        if not stored.listing or stored.folder.prefix in self._irregular:
            return None
        indices = np.arange(start, end)
        if known == stored.listing:
            return FolderMatch(stored, indices, None)
        stem = stored.folder.stem
        if not all(name.startswith(stem) and name.endswith(Form.ZIP) for name, _ in stored.listing):
            return None
        now, tabled = dict(stored.listing), dict(known)
        others = [(name, stamp) for name, stamp in stored.listing if tabled.get(name) != stamp]
        if len(others) == len(now):
            return FolderMatch(stored, indices[:0], stored)
        is_valid = np.array([now.get(name) == stamp for name, stamp in known])
        rest = StoredFolder(stored.folder, listing=others) if others else None
        if rest is not None and any(file.path != file.key for file in rest.files):
            # It may be another form of a file that has an entry.
            return None
        return FolderMatch(stored, indices[is_valid], rest)

    def are_disjoint(self, matches: Sequence[FolderMatch]) -> bool:
        """Return whether no row of the matched entries can be that of another file of a stream.

        Otherwise files have to be chosen month by month.
        """
        for match in matches:
            if lead_of(match.stored.folder) and (
                match.others is not None or self._have_leads(match.indices)
            ):
                return False
        if len(matches) < 2:
            return True
        months = [set(self._months(match.indices)) for match in matches]
        for found, match in zip(months, matches, strict=True):
            files = () if match.others is None else match.others.files
            found.update(12 * file.start.year + file.start.month for file in files)
        return len(set().union(*months)) == sum(map(len, months))

    def _have_leads(self, indices: Indices) -> bool:
        first = self.entries["first"].to_numpy()[indices]
        return bool((first < self._start[indices] * DAY).any())

    def _months(self, indices: Indices) -> list[int]:
        starts = self.entries["start"].gather(indices)
        found: list[int] = (12 * starts.dt.year().cast(pl.Int64) + starts.dt.month()).to_list()
        return found

    def select(self, match: FolderMatch, pruner: Pruner) -> Indices:
        """Return the matched entries that may have a row of the answer, in the order of time."""
        own = match.indices
        spans = span_of_days(match.stored.folder, self._start[own], self._end[own])
        return own[pruner.spans_may_match(spans)]

    def in_time(self, indices: Sequence[Indices]) -> Indices:
        """Join entries of the folders of one stream, in the order of time."""
        if len(indices) == 1:
            return indices[0]
        joined = np.concatenate(indices)
        return joined[np.argsort(self._start[joined], kind="stable")]

    def starts(self, indices: Indices) -> Indices:
        """Return the first days of entries, counted from 1970."""
        return self._start[indices]

    def rows(self, indices: Indices) -> int:
        """Return the number of rows of entries."""
        return int(self._rows[indices].sum())

    def segments(self, indices: Indices) -> Iterator[Segment]:
        """Yield the rows of entries, those that follow each other as one segment."""
        if not len(indices):
            return
        follows = self._follows[indices]
        follows[1:] &= indices[1:] == indices[:-1] + 1
        follows[0] = False
        starts = np.flatnonzero(~follows)
        first, last = indices[starts], indices[np.concatenate([starts[1:] - 1, [-1]])]
        rows = self._total[last + 1] - self._total[first]
        for part, row, count in zip(
            self._part[first].tolist(), self._row[first].tolist(), rows.tolist(), strict=True
        ):
            if count:
                yield Segment(part, row, count)

    def tasks(self, segment: Segment) -> Iterator[tuple[FileTask, int]]:
        """Yield the files that have rows of a segment, with the first row of each in its part."""
        found = self.entries.filter(
            pl.col("part") == segment.part,
            pl.col("row") < segment.row + segment.rows,
            pl.col("row") + pl.col("rows") > segment.row,
        )
        for task, of_file in tasks_of(found.sort("row")):
            yield task, of_file.row
