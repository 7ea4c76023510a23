"""The files of a store by folder: the only scan of a store's data.

A file is the archive's zip, or the csv in it, bare or as ``.csv.gz``. If several of them
exist, the zip is used.

Any tool may have filled the folder in the bucket's layout. Files that a storage placed
elsewhere are found at their recorded locations. For reading, a folder is scanned again only
if its modification time has moved, so that files which arrive between two queries are found;
otherwise each of its files is looked at once. For planning, folders are always scanned.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    ObjectKey,
    Stream,
    feed_prefix,
    format_period,
    is_symbol,
    parse_loose_period,
    parse_period,
    period_end,
    prefix_of,
)
from binance_archive_kit.errors import disk_error
from binance_archive_kit.garbage import paused_collection
from binance_archive_kit.storage.databases import Row
from binance_archive_kit.storage.proof import (
    NOT_THERE,
    Stamp,
    raw_stamp,
    stamp_of,
    stamp_of_entry,
)
from binance_archive_kit.storage.proven_files import compare_with_proofs
from binance_archive_kit.storage.records import Locations, Records

INTERVALS = frozenset(Interval)
_SECOND = 1_000_000_000
#: Whether a file can be found by its name in an open folder, and this one be listed.
_BY_FOLDER = os.stat in os.supports_dir_fd and os.scandir in os.supports_fd
_ZIP = ".zip"
#: Bytes of csv that take about one byte in a zip, or in a Parquet file.
_PACKED = 8


class Form(StrEnum):
    """How the csv of a file is packed."""

    ZIP = ".zip"
    CSV = ".csv"
    GZIP = ".csv.gz"


_FORMS = list(Form)
_ENDINGS = (*Form, *map(str.upper, Form))


def form_of(name: str) -> Form:
    """Return the form of a file from its name, in upper or lower case.

    >>> form_of("BTCUSDT-1h-2025-07-15.ZIP"), form_of("BTCUSDT-1h-2025-07-15.csv.gz")
    (<Form.ZIP: '.zip'>, <Form.GZIP: '.csv.gz'>)
    """
    ending = name[-4:].lower()
    return Form.ZIP if ending == Form.ZIP else Form.CSV if ending == Form.CSV else Form.GZIP


def packed_size(path: str, size: int) -> int:
    """Return the size of a file as a zip, in bytes; estimated for a bare csv.

    >>> packed_size("BTCUSDT-1h-2025-07-15.zip", 4_000), packed_size("a.csv", 4_000)
    (4000, 500)
    """
    return size // _PACKED if form_of(path) is Form.CSV else size


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store.

    Attributes
    ----------
    key : str
        Its key in the archive.
    path : str
        Its path inside the store: the key, unless a storage decided otherwise.
    start, end : date
        First and last UTC day it covers, both inclusive.
    stamp : Stamp
        Size, times and inode.
    """

    key: str
    path: str
    start: date
    end: date
    stamp: Stamp

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stamp.size

    @property
    def packed_size(self) -> int:
        """Bytes that it takes as a zip; estimated for a bare csv."""
        return packed_size(self.path, self.size)

    @property
    def form(self) -> Form:
        """How its csv is packed, from its name."""
        return form_of(self.path)

    @property
    def is_zip(self) -> bool:
        """Whether it is the archive's own object; only zips have proofs."""
        return self.form is Form.ZIP


class StoredFolder:
    """The files of one folder, oldest first.

    Parameters
    ----------
    folder : Folder
    files : tuple of StoredFile, optional
    listing : list of (str, Stamp)
        Names and stamps of all files under the folder's own path, in the order of the names.
        They give `files` when these are first needed; a whole market has very many.
    """

    def __init__(
        self,
        folder: Folder,
        files: tuple[StoredFile, ...] | None = None,
        listing: list[tuple[str, Stamp]] | None = None,
    ) -> None:
        self.folder = folder
        self.listing = listing or []
        #: Cached by queries: the files chosen for a month, by its first file.
        self.choices: dict[StoredFile, Any] = {}
        if files is not None:
            self.files = files

    @cached_property
    def files(self) -> tuple[StoredFile, ...]:
        """The files whose names belong to the folder, oldest first."""
        return tuple(_own_files(self.folder, self.listing))

    @cached_property
    def months(self) -> tuple[tuple[StoredFile, ...], ...]:
        """The same files, grouped by the month in which they begin."""
        months = groupby(self.files, lambda file: (file.start.year, file.start.month))
        return tuple(tuple(files) for _, files in months)

    @property
    def count(self) -> int:
        """Number of files; of a folder that was not looked into yet, of all names."""
        return len(self.__dict__.get("files", self.listing))

    @cached_property
    def any_path(self) -> str | None:
        """The path of one of the files; None if there is none."""
        if self.listing and "files" not in self.__dict__:
            name, _ = self.listing[0]
            period = name.removeprefix(self.folder.stem).removesuffix(_ZIP)
            if len(name) == len(self.folder.stem) + len(period) + len(_ZIP):
                with suppress(ValueError):
                    parse_period(period, self.folder.partition)
                    return f"{self.folder.prefix}{name}"
        return self.files[0].path if self.files else None

    @property
    def is_empty(self) -> bool:
        """Whether it has no file."""
        return self.any_path is None


@dataclass
class _Listing:
    """The content of a folder; `settled`: any change to it will change its time."""

    mtime: int
    settled: bool
    folders: list[str]
    files: list[tuple[str, Stamp]]
    stored: StoredFolder | None = None

    @cached_property
    def stamps(self) -> dict[str, Stamp]:
        """Stamp of each file, by its name."""
        return dict(self.files)

    def stored_in(self, folder: Folder) -> StoredFolder:
        """Return the files as those of a folder; the same object as long as none changes."""
        if self.stored is None:
            self.stored = StoredFolder(folder, listing=self.files)
        return self.stored


@dataclass(slots=True)
class _Relocated:
    """The files that do not lie under their key, by feed and folder."""

    locations: Mapping[str, str]
    feeds: dict[tuple[Market, DataType], dict[Folder, list[tuple[ObjectKey, str]]]]
    #: As they were last found.
    stored: dict[Folder, StoredFolder] = field(default_factory=dict)


SymbolTest = Callable[[str], bool]


class Symbols(frozenset[str]):
    """A few symbols, as a test of symbols: an inventory may look for these alone."""

    def __call__(self, symbol: str) -> bool:
        """Return whether it is one of them."""
        return symbol in self


def any_symbol(symbol: str) -> bool:
    """Return True: every symbol is needed."""
    return True


class Inventory:
    """The files below a store's root, by feed; safe for several threads."""

    def __init__(self, locations: Locations, records: Records) -> None:
        self.root = locations.root
        self.locations = locations
        self._records = records
        self._relocated = _Relocated({}, {})
        self._listings: dict[str, _Listing] = {}
        self._lock = threading.Lock()

    def feeds(self) -> list[tuple[Market, DataType]]:
        """Return the feeds that have a folder for files, in the order of the enums."""
        with self._lock:
            relocated = self._read_locations().feeds
            return [
                (market, data_type)
                for market in Market
                for data_type in DataType
                if (market, data_type) in relocated
                or any(True for _ in self._walk(market, data_type))
            ]

    def names(
        self, market: Market, data_type: DataType, symbols: SymbolTest = any_symbol
    ) -> list[Folder]:
        """Return the folders of a feed that have files; looks at no file."""
        with self._lock:
            walked = self._walk(market, data_type, symbols)
            found = dict.fromkeys(
                folder for folder, path in walked if self._has_files(folder, path)
            )
            relocated = self._read_locations().feeds.get((market, data_type), {})
        return [*(found | dict.fromkeys(folder for folder in relocated if symbols(folder.symbol)))]

    def folders(
        self,
        market: Market,
        data_type: DataType,
        symbols: SymbolTest = any_symbol,
        matches: Callable[[Folder], bool] = lambda folder: True,
        needed: Callable[[Folder], Callable[[str], bool]] | None = None,
    ) -> list[StoredFolder]:
        """Return the folders of a feed that have files, in the order of their names.

        The stamps of the needed files are those of now: no caller has to look at a file again.
        Other files may have changed in place since they were last looked at. The parameters are
        those of `BaseInventory.folders`.
        """
        with self._lock, paused_collection():
            stored = [
                self._current(path, needed and needed(folder)).stored_in(folder)
                for folder, path in self._walk(market, data_type, symbols)
                if matches(folder)
            ]
            if relocated := self._read_locations().feeds.get((market, data_type)):
                moved = {
                    folder: files
                    for folder, files in relocated.items()
                    if symbols(folder.symbol) and matches(folder)
                }
                stored = self._with_relocated(stored, moved)
        return [folder for folder in stored if not folder.is_empty]

    def frame(self, prefixes: Iterable[str], keys: Iterable[str] = ()) -> pl.DataFrame:
        """Return the zips below some prefixes and their recorded proofs; reads no file.

        Parameters and columns are those of `BaseInventory.frame`.
        """
        if self.locations.storage is not None:
            files = self._stat({key: self.locations.location(key) for key in keys})
            return compare_with_proofs(files, self._proofs(prefixes))
        elsewhere: dict[str, dict[str, str]] = {}
        for key, location in self.locations.recorded().items():
            elsewhere.setdefault(prefix_of(key), {})[key] = location
        files, occupied = [], []
        for prefix in prefixes:
            relocated = elsewhere.get(prefix, {})
            found = [
                (key, stamp)
                for name, stamp in self._scan(prefix).files
                if name.endswith(_ZIP) and (key := f"{prefix}{name}") not in relocated
            ]
            found += self._stat(relocated)
            if found:
                files += found
                occupied.append(prefix)
        return compare_with_proofs(files, self._proofs(occupied))

    def _proofs(self, prefixes: Iterable[str]) -> list[Row]:
        return self._records.proof_rows(prefixes, "etag", "proven_by")

    def _stat(self, locations: Mapping[str, str]) -> list[tuple[str, Stamp]]:
        """Return key and stamp of the files that exist at some locations."""
        found = []
        for key, location in locations.items():
            try:
                stat = os.stat(f"{self.root}/{location}")  # noqa: PTH116 -- thousands of files
            except OSError as error:
                if error.errno in NOT_THERE:
                    continue
                raise disk_error(error, self.root) from None
            found.append((key, stamp_of(stat)))
        return found

    # Relocated files

    def _read_locations(self) -> _Relocated:
        """Group the relocated files by folder, unless the locations are the same as before."""
        locations = self.locations.recorded()
        if locations is not self._relocated.locations:
            self._relocated = _Relocated(locations, {})
            for key, location in locations.items():
                parsed = ObjectKey.parse(key)
                name = parsed.folder.market, parsed.folder.data_type
                feed = self._relocated.feeds.setdefault(name, {})
                feed.setdefault(parsed.folder, []).append((parsed, location))
        return self._relocated

    def _with_relocated(
        self,
        stored: list[StoredFolder],
        relocated: Mapping[Folder, list[tuple[ObjectKey, str]]],
    ) -> list[StoredFolder]:
        """Add relocated files to those that lie under their key."""
        found = {each.folder: each for each in stored}
        for folder, moved in relocated.items():
            files = {file.key: file for file in found[folder].files} if folder in found else {}
            for key, location in moved:
                parent, _, name = location.rpartition("/")
                stamp = self._current(parent).stamps.get(name)
                if stamp is not None:
                    files[str(key)] = StoredFile(str(key), location, key.start, key.end, stamp)
            in_order = tuple(sorted(files.values(), key=lambda file: file.start))
            known = self._relocated.stored.get(folder)
            if known is None or known.files != in_order:
                known = self._relocated.stored[folder] = StoredFolder(folder, in_order)
            found[folder] = known
        return sorted(found.values(), key=lambda each: each.folder)

    # Reading folders

    def _walk(
        self, market: Market, data_type: DataType, symbols: SymbolTest = any_symbol
    ) -> Iterator[tuple[Folder, str]]:
        """Yield the folders of a feed for files, with their paths; open none of other symbols."""
        for partition in Partition:
            parent = feed_prefix(market, partition, data_type)
            for symbol in filter(is_symbol, self._read(parent[:-1]).folders):
                if not symbols(symbol):
                    continue
                path = f"{parent}{symbol}"
                if not data_type.has_intervals:
                    yield Folder(Stream(market, data_type, symbol), partition), path
                    continue
                for name in self._read(path).folders:
                    if name in INTERVALS:
                        stream = Stream(market, data_type, symbol, Interval(name))
                        yield Folder(stream, partition), f"{path}/{name}"

    def _current(self, folder: str, needed: Callable[[str], bool] | None = None) -> _Listing:
        """Return the content of a folder, with the stamps that needed files have now."""
        known = self._listings.get(folder)
        listing = self._read(folder)
        # A file that is rewritten in place does not change the time of its folder.
        if listing is known:
            files = listing.files
            if needed is not None:
                files = [(name, stamp) for name, stamp in files if needed(name)]
            if not self._is_unchanged(folder, files):
                del self._listings[folder]
                listing = self._read(folder)
        return listing

    def _has_files(self, folder: Folder, path: str) -> bool:
        """Return whether a folder has files, from their names alone."""
        known, full = self._listings.get(path), f"{self.root}/{path}"
        try:
            if known is not None:
                some = known.stored_in(folder).any_path
                if known.settled and known.mtime == os.stat(full).st_mtime_ns:  # noqa: PTH116
                    return some is not None
                if some is not None and os.path.exists(f"{self.root}/{some}"):  # noqa: PTH110
                    return True
            with os.scandir(full) as entries:
                names = (entry.name for entry in entries if entry.name.endswith(_ENDINGS))
                return any(_own_files(folder, [(name, Stamp(0, 0))]) for name in names)
        except OSError:
            return False

    def _is_unchanged(self, folder: str, files: Sequence[tuple[str, Stamp]]) -> bool:
        """Return whether files have these stamps; no if one of them is gone."""
        path = f"{self.root}/{folder}"
        try:
            with _opened(path) as opened:
                place = opened if isinstance(opened, int) else None
                prefix = f"{path}/" if place is None else ""
                for name, stamp in files:
                    stat = os.stat(f"{prefix}{name}", dir_fd=place)
                    if raw_stamp(stat) != stamp and stamp_of(stat) != stamp:
                        return False
        except OSError:
            return False
        return True

    def _read(self, folder: str) -> _Listing:
        """Return the content of a folder; read again only if it may have changed."""
        known = self._listings.get(folder)
        if known is not None and known.settled:
            try:
                mtime = os.stat(f"{self.root}/{folder}").st_mtime_ns  # noqa: PTH116
            except OSError:
                mtime = -1
            if mtime == known.mtime:
                return known
        listing = self._scan(folder)
        listing.folders.sort()
        listing.files.sort()
        if known is not None and known.files == listing.files:
            listing.stored = known.stored
        self._listings[folder] = listing
        return listing

    def _scan(self, folder: str) -> _Listing:
        """Read a folder, in no order; empty if there is no such folder."""
        path = f"{self.root}/{folder}"
        try:
            mtime = os.stat(path).st_mtime_ns  # noqa: PTH116 -- called for every folder
            settled = time.time_ns() - mtime > _clock_tick(mtime)
            listing = _Listing(mtime, settled, [], [])
            with _opened(path) as opened, os.scandir(opened) as entries:
                for entry in entries:
                    try:
                        named = entry.name.endswith(_ENDINGS)
                        if named and entry.is_file():
                            listing.files.append((entry.name, stamp_of_entry(entry)))
                        elif entry.is_dir():
                            listing.folders.append(entry.name)
                        elif named:
                            listing.settled = False  # a link to nothing
                    except OSError as error:
                        if error.errno not in NOT_THERE:
                            raise
                        listing.settled = False  # deleted since the folder was opened
        except (FileNotFoundError, NotADirectoryError):
            return _Listing(0, False, [], [])
        except OSError as error:
            raise disk_error(error, path) from None
        return listing


@contextmanager
def _opened(path: str) -> Iterator[int | str]:
    """Open a folder, in which names are found faster than paths; yield its path on Windows."""
    if not _BY_FOLDER:
        yield path
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        yield opened
    finally:
        os.close(opened)


def _clock_tick(mtime: int) -> int:
    """Return the nanoseconds during which a folder may change without a new time.

    Clocks of file systems tick a hundred times a second or more often; those with whole
    seconds only tick every second or two.
    """
    return 2 * _SECOND if mtime % _SECOND == 0 else _SECOND // 10


@lru_cache(10_000)
def _period(text: str, partition: Partition) -> tuple[date, date]:
    """Return the first and the last day of a period; very many files have the same ones."""
    start = parse_period(text, partition)
    return start, period_end(start, partition)


def _own_files(folder: Folder, found: list[tuple[str, Stamp]]) -> list[StoredFile]:
    """Return the files whose names belong to a folder, oldest first."""
    prefix, stem, partition = folder.prefix, folder.stem, folder.partition
    files: dict[str, StoredFile] = {}
    others = []
    for name, stamp in found:
        if name.startswith(stem):
            try:
                if not name.endswith(_ZIP):
                    raise ValueError
                start, end = _period(name[len(stem) : -len(_ZIP)], partition)
            except ValueError:
                others.append((_FORMS.index(form_of(name)), name, stamp))
                continue
            key = f"{prefix}{name}"
            files[key] = StoredFile(key, key, start, end, stamp)
    # Of several forms of a file, the zip comes first.
    for _, name, stamp in sorted(others):
        begin = parse_loose_period(name[len(stem) : -len(form_of(name))], partition)
        if begin is not None:
            key = folder.key(format_period(begin, partition))
            end = period_end(begin, partition)
            files.setdefault(key, StoredFile(key, f"{prefix}{name}", begin, end, stamp))
    if others:
        return sorted(files.values(), key=lambda file: file.start)
    return list(files.values())
