"""`bak.prune`: delete files of a store, by stream, interval or period.

The order makes a killed run harmless: first the proofs of some files are deleted, then the files.
What remains is a file without a proof, which the next run deletes, and `collect` proves again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX, Folder, Stream
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import (
    ArchiveKitError,
    DiskSpaceError,
    arguments,
    check_flag,
    disk_advice,
    field_error,
    warn_user,
)
from binance_archive_kit.planning.date_range import read_day
from binance_archive_kit.query.engine import Engine, ReadOptions
from binance_archive_kit.query.open_store import Source
from binance_archive_kit.storage.inventory import Form, StoredFile
from binance_archive_kit.storage.store import Store
from binance_archive_kit.upkeep.deletion_result import PRUNED_SCHEMA, Pruning
from binance_archive_kit.upkeep.stream_choice import StreamChoice, open_folder

#: Files whose proofs are deleted together.
_TOGETHER = 1_000
_DAY = timedelta(days=1)


@arguments(store="source")
def prune(
    source: Source,
    *,
    market: str | None = None,
    data_type: str | None = None,
    symbols: str | Iterable[str] | None = None,
    intervals: str | Iterable[str] | None = None,
    partition: str | None = None,
    start: str | date | None = None,
    end: str | date | None = None,
    dry_run: bool = True,
) -> Pruning:
    """Delete files of a store; by default, only show which ones.

    At least one condition is required; all that are given must hold. Deletes the archive's zips,
    their csv forms and the ``.CHECKSUM`` files beside them, with their proofs, and folders that
    are empty then. A file stays if only some of its days are chosen. Quarantine, other files,
    and files outside the store to which symbolic links lead, are never touched.

    The rows of deleted files are gone from all queries at once; columnar tables are rewritten as
    soon as more than a third of a file's rows is gone. `collect` downloads the files again if it
    is asked to, `update` does so only with ``holes=True``. If the call is interrupted, repeat it.

    Parameters
    ----------
    source : str, Path or OpenStore
        The local folder of a store, or an open store in one.
    market, data_type : str, optional
        Only these feeds.
    symbols, intervals : str or iterable of str, optional
        Only these; symbols may be patterns such as ``"*USDT"``.
    partition : {"daily", "monthly"}, optional
        Only files of this partition.
    start, end : str or date, optional
        First and last UTC day, both inclusive: ``"2025-07-15"``, ``"yesterday"`` or ``"-400d"``.
    dry_run : bool
        Delete nothing, the default.

    Returns
    -------
    Pruning
        The streams, files and bytes; displays itself in a notebook.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, no condition is given, or the store has no such stream.
    StoreError
        If a collection is running in the store.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bak.prune("data/research", data_type="trades", end="-365d")  # doctest: +SKIP
    >>> bak.prune("data/research", data_type="trades", end="-365d", dry_run=False)  # doctest: +SKIP
    """
    check_flag("dry_run", dry_run)
    choice = StreamChoice(market, data_type, symbols, intervals, partition)
    days = read_day("start", start), read_day("end", end)
    if choice.is_everything and days == (None, None):
        raise field_error(
            "prune",
            "no condition is given, and it would delete all files; give a market, data_type, "
            "symbols, intervals, partition, start or end",
            label="",
        )
    first, last = days[0] or date.min, days[1] or date.max
    if first > last:
        raise field_error("start", f"{first} is after end: {last}")
    work = _Deletion(open_folder(source, "prune"), choice, first, last)
    found = work.find()
    if not dry_run:
        with work.store.alone():
            work.delete(found.files)
    return Pruning(
        work.store.root,
        deleted=not dry_run,
        frame=_frame(found.files if dry_run else work.deleted),
        partial=found.partial,
        outside=found.outside,
        failed=tuple(f"{path}: {why}" for path, why in work.failed.items()),
    )


@dataclass(frozen=True, slots=True)
class _File:
    """A file to delete, in all its forms.

    Attributes
    ----------
    folder : Folder
    file : StoredFile
    paths : tuple of str
        Inside the store: its checksum, the forms that are not read, and the file itself last.
    size : int
        Bytes of all of them.
    """

    folder: Folder
    file: StoredFile
    paths: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class _Found:
    """The files to delete, and the chosen files that stay."""

    files: list[_File]
    partial: tuple[str, ...]
    outside: tuple[str, ...]


@dataclass
class _Deletion:
    """The deletion of some files of a store.

    Attributes
    ----------
    store : Store
    choice : StreamChoice
    first, last : date
        UTC days, both inclusive.
    deleted : list of _File
    failed : dict of str to str
        Why files could not be deleted, by path.
    """

    store: Store
    choice: StreamChoice
    first: date
    last: date
    deleted: list[_File] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def find(self) -> _Found:
        """Find the chosen files."""
        found, partial, outside = [], [], []
        inside = _Inside(self.store.root)
        for stored in self.choice.folders(self.store.inventory):
            for file in stored.files:
                if file.end < self.first or file.start > self.last:
                    continue
                if file.start < self.first or file.end > self.last:
                    partial.append(file.path)
                elif file.path not in inside:
                    outside.append(file.path)
                else:
                    found.append(_with_forms(self.store.root, stored.folder, file))
        return _Found(found, tuple(partial), tuple(outside))

    def delete(self, files: Sequence[_File]) -> None:
        """Delete files, what is recorded of them, and the folders that are empty then."""
        progress = Progress()
        progress.begin("deleting", len(files), sum(file.size for file in files))
        with Bar(progress) as bar:
            for start in range(0, len(files), _TOGETHER):
                some = files[start : start + _TOGETHER]
                proven = [each.file.key for each in some]
                for each in some:
                    proven = self._forget(proven)
                    self._unlink(each)
                    progress.count(1, each.size)
                    bar.tick()
                self.store.records.forget(proven)
        self._forget_locations()
        self._forget_unfinished()
        self._remove_folders()
        feeds = {(each.folder.market, each.folder.data_type) for each in self.deleted}
        try:
            _compact(self.store.root, feeds)
        except ArchiveKitError as error:
            warn_user(
                f"the tables could not be rewritten without the rows of deleted files ({error}); "
                "no query returns these rows, but they still take space"
            )

    def _forget(self, proven: list[str]) -> list[str]:
        """Delete the proofs of files, and return those that remain: all, on a full disk.

        Deleting must be possible there: the next file makes space for the record of it.
        """
        try:
            self.store.records.forget(proven)
        except DiskSpaceError:
            return proven
        return []

    def _unlink(self, each: _File) -> None:
        try:
            for path in each.paths:
                (self.store.root / path).unlink(missing_ok=True)
        except OSError as error:
            advice = disk_advice(error.errno)
            self.failed[each.file.path] = advice or error.strerror or str(error)
        else:
            self.deleted.append(each)

    def _forget_locations(self) -> None:
        """Forget the recorded locations of files that are neither there nor proven.

        They are those of files that were deleted, now or by a run that was killed.
        """
        recorded = self.store.locations.recorded()
        if not recorded:
            return
        proven = self.store.records.proven_keys()
        gone = [
            key
            for key, location in recorded.items()
            if key not in proven and not os.path.lexists(self.store.root / location)
        ]
        if gone:
            self.store.records.record_locations(gone, {})

    def _forget_unfinished(self) -> None:
        """Let the next update not request days that are deleted."""
        unfinished = self.store.records.unfinished()
        kept: dict[Stream, date | None] = {}
        for each in self.deleted:
            stream = each.folder.stream
            if stream in unfinished:
                after = self.last < date.max and unfinished[stream] >= self.first
                kept[stream] = max(unfinished[stream], self.last + _DAY) if after else None
        self.store.records.record_unfinished(kept)

    def _remove_folders(self) -> None:
        """Remove the folders of deleted files that are empty, and empty folders above them."""
        root = self.store.root
        for folder in {(root / each.file.path).parent for each in self.deleted}:
            for path in (folder, *folder.parents):
                if path == root:
                    break
                try:
                    path.rmdir()
                except OSError:
                    break


class _Inside:
    """Whether paths lie inside a store, also behind symbolic links."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real = Path(os.path.realpath(root))
        self._folders: dict[str, bool] = {}

    def __contains__(self, path: str) -> bool:
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            self._folders[folder] = self._leads_inside(folder)
        link = self._folders[folder] and (self._root / path).is_symlink()
        return self._leads_inside(path) if link else self._folders[folder]

    def _leads_inside(self, path: str) -> bool:
        return Path(os.path.realpath(self._root / path)).is_relative_to(self._real)


def _with_forms(root: Path, folder: Folder, file: StoredFile) -> _File:
    """Return a file with all its forms: without the others, one of them would be read."""
    stem = file.path[: -len(file.form)]
    others = [f"{stem}{form}" for form in Form]
    paths = [f"{stem}{Form.ZIP}{CHECKSUM_SUFFIX}", *others, file.path]
    sizes = {}
    for path in paths:
        with suppress(OSError):
            found = os.lstat(root / path)
            if not stat.S_ISDIR(found.st_mode):
                sizes[path] = found.st_size
    sizes[file.path] = sizes.pop(file.path, file.size)
    return _File(folder, file, tuple(sizes), sum(sizes.values()))


def _frame(files: Iterable[_File]) -> pl.DataFrame:
    """Count files by stream and partition."""
    rows = [
        (
            *(each.folder.market, each.folder.data_type, each.folder.partition),
            *(each.folder.symbol, each.folder.interval),
            *(each.file.start, each.file.end, 1, each.size),
        )
        for each in files
    ]
    return (
        pl.DataFrame(rows, PRUNED_SCHEMA, orient="row")
        .group_by("market", "data_type", "partition", "symbol", "interval", maintain_order=True)
        .agg(pl.col("first").min(), pl.col("last").max(), pl.col("files", "bytes").sum())
    )


def _compact(root: Path, feeds: Iterable[tuple[Market, DataType]]) -> None:
    """Rewrite the tables of feeds without the rows of deleted files, where that is due."""
    for decimals in (False, True):
        # No limit: the tables of the user stay within that of the user.
        engine = Engine(root, ReadOptions(decimals=decimals, cache_limit=2**62))
        engine.compact([engine.feed(*name) for name in sorted(feeds)])
