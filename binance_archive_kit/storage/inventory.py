"""What a store has: its files by stream, kept fresh at the cost of a look at its folders.

A file is the archive's zip, or the csv in it, bare or as ``.csv.gz``; where several of them
are there, the zip is read. Files that are not read because of their name or folder are listed
by `Inventory.skipped`.

The folder may be one that `collect` filled, or one that any other tool filled in the
bucket's layout. Files that a storage placed elsewhere are known by the store's record of
their places. A folder is read again when its time of change moved, so that files
which arrive between two questions are there for the second one.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    ObjectKey,
    Stream,
    is_symbol,
    parse_period,
    period_end,
    spell_period,
)
from binance_archive_kit.errors import disk_error
from binance_archive_kit.storage.layout import QUARANTINE
from binance_archive_kit.storage.stamps import NOT_THERE, Stamp, stamp_of_entry

_SECOND = 1_000_000_000
#: Columns of `Store.inventory`: a file, and what was recorded when it was proven.
INVENTORY_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "file_size": pl.Int64,
        "proven_size": pl.Int64,
        # Whether the file has the recorded stamp; null without a proof.
        "unchanged": pl.Boolean,
        "proven_etag": pl.String,
        "proven_by": pl.String,
    }
)


class Form(StrEnum):
    """How the csv of a file is packed."""

    ZIP = ".zip"
    CSV = ".csv"
    GZIP = ".csv.gz"


def form_of(name: str) -> Form:
    """Return the form of a file from its name, in upper or lower case.

    >>> form_of("BTCUSDT-1h-2025-07-15.ZIP"), form_of("BTCUSDT-1h-2025-07-15.csv.gz")
    (<Form.ZIP: '.zip'>, <Form.GZIP: '.csv.gz'>)
    """
    ending = name[-4:].lower()
    return Form.ZIP if ending == Form.ZIP else Form.CSV if ending == Form.CSV else Form.GZIP


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store.

    Attributes
    ----------
    key : str
        Its key in the archive: what it is.
    place : str
        Its path inside the store: where it lies. The key, unless a storage decided otherwise.
    start, end : date
        First and last UTC day it covers, both inclusive.
    stamp : Stamp
        Size, times and inode, which identify it on disk.
    """

    key: str
    place: str
    start: date
    end: date
    stamp: Stamp

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stamp.size

    @property
    def form(self) -> Form:
        """How its csv is packed, as the name of the place tells."""
        return form_of(self.place)

    @property
    def is_zip(self) -> bool:
        """Whether it is the archive's own object; proofs are of zips, and say nothing of a csv."""
        return self.form is Form.ZIP


class SkippedFile(NamedTuple):
    """A file below the store's ``data`` folder that is not read because of its name or place."""

    path: str  #: inside the store
    reason: str
    advice: str


@dataclass(eq=False, slots=True)
class StoredFolder:
    """The files of one stream of the store, oldest first."""

    folder: Folder
    files: tuple[StoredFile, ...]
    #: The same files month by month.
    months: tuple[tuple[StoredFile, ...], ...] = field(init=False)
    #: What was worked out of groups of these files, by the first and the last of them.
    guarantees: dict[tuple[StoredFile, StoredFile], Any] = field(init=False, default_factory=dict)
    #: Which files were chosen to give the rows of a month, by its first file.
    choices: dict[StoredFile, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Group the files by the month they begin in."""
        months = groupby(self.files, lambda file: (file.start.year, file.start.month))
        self.months = tuple(tuple(files) for _, files in months)


@dataclass
class _Folder:
    """A folder as it was read: what lies in it, and whether it may have changed unseen."""

    mtime: int
    settled: bool
    folders: list[str]
    files: list[tuple[str, Stamp]]
    held: StoredFolder | None = None

    @cached_property
    def stamps(self) -> dict[str, Stamp]:
        """Stamp of each file, by its name."""
        return dict(self.files)


_Streams = dict[tuple[Market, DataType], dict[Folder, list[tuple[ObjectKey, str]]]]


@dataclass(slots=True)
class _Placed:
    """Files that do not lie under their key, by feed and stream; and how they were last found."""

    places: Mapping[str, str]
    streams: _Streams
    held: dict[Folder, StoredFolder] = field(default_factory=dict)


class Inventory:
    """The files below a store's root, by feed.

    Safe to be used by several threads.

    Parameters
    ----------
    root : Path
    places : callable, optional
        Gives the places of files that do not lie under their key, by key; the same mapping
        as long as nothing changed.
    """

    def __init__(self, root: Path, places: Callable[[], Mapping[str, str]] = dict) -> None:
        self.root = root
        self._places = places
        self._placed = _Placed({}, {})
        self._folders: dict[str, _Folder] = {}
        self._lock = threading.Lock()

    def feeds(self) -> list[tuple[Market, DataType]]:
        """Tell which feeds have a folder with something in it, in the order of the enums."""
        with self._lock:
            placed = self._read_places().streams
            return [
                (market, data_type)
                for market in Market
                for data_type in DataType
                if (market, data_type) in placed
                or any(True for _ in self._leaves(market, data_type))
            ]

    def folders(self, market: Market, data_type: DataType) -> list[StoredFolder]:
        """List the streams of a feed that have files, in the order of their names."""
        with self._lock:
            held = [
                self._held(folder, content) for folder, content in self._leaves(market, data_type)
            ]
            if placed := self._read_places().streams.get((market, data_type)):
                held = self._with_placed(held, placed)
        return [each for each in held if each.files]

    def skipped(self) -> list[SkippedFile]:
        """List the files that are not read because of their name or folder, and what to do.

        Walks through all folders below the root, and reads no file. Not listed are files whose
        name and folder are both foreign to the archive, and those of which another form is read.
        """
        held = [
            file for feed in self.feeds() for each in self.folders(*feed) for file in each.files
        ]
        keys = {file.key for file in held}
        places = {file.place for file in held} | set(self._places().values())
        skipped = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(name for name in folders if name[0] != "." and name != QUARANTINE)
            inside = os.path.relpath(folder, self.root).replace(os.sep, "/")
            inside = "" if inside == "." else f"{inside}/"
            for name in sorted(names):
                path = f"{inside}{name}"
                if name.lower().endswith(_LOWER_ENDINGS) and path not in places:
                    found = judge(inside, name)
                    if found is not None and found.key not in keys:
                        skipped.append(SkippedFile(path, found.reason, found.advice))
        return skipped

    # Files that lie elsewhere

    def _read_places(self) -> _Placed:
        """Group the places of files by stream, unless that was done and they are the same."""
        places = self._places()
        if places is not self._placed.places:
            streams: _Streams = {}
            for key, place in places.items():
                found = ObjectKey.parse(key)
                feed = streams.setdefault((found.folder.market, found.folder.data_type), {})
                feed.setdefault(found.folder, []).append((found, place))
            self._placed = _Placed(places, streams)
        return self._placed

    def _with_placed(
        self, held: list[StoredFolder], placed: Mapping[Folder, list[tuple[ObjectKey, str]]]
    ) -> list[StoredFolder]:
        """Add files that lie elsewhere to those that lie under their key."""
        found = {each.folder: each for each in held}
        for folder, its in placed.items():
            files = {file.key: file for file in found[folder].files} if folder in found else {}
            for key, place in its:
                if (file := self._placed_file(key, place)) is not None:
                    files[file.key] = file
            in_order = tuple(sorted(files.values(), key=lambda file: file.start))
            known = self._placed.held.get(folder)
            if known is None or known.files != in_order:
                known = self._placed.held[folder] = StoredFolder(folder, in_order)
            found[folder] = known
        return sorted(found.values(), key=lambda each: each.folder)

    def _placed_file(self, key: ObjectKey, place: str) -> StoredFile | None:
        folder, _, name = place.rpartition("/")
        stamp = self._read(folder).stamps.get(name)
        return None if stamp is None else StoredFile(str(key), place, key.start, key.end, stamp)

    # Files under their key

    def _leaves(self, market: Market, data_type: DataType) -> Iterator[tuple[Folder, _Folder]]:
        """Walk the folders of a feed that hold files: one for each stream."""
        for partition in Partition:
            parent = f"data/{market.path}/{partition}/{data_type}"
            for symbol in filter(is_symbol, self._read(parent).folders):
                path = f"{parent}/{symbol}"
                if not data_type.has_intervals:
                    yield Folder(Stream(market, data_type, symbol), partition), self._read(path)
                    continue
                for name in self._read(path).folders:
                    if name in _INTERVALS:
                        folder = Folder(
                            Stream(market, data_type, symbol, Interval(name)), partition
                        )
                        yield folder, self._read(f"{path}/{name}")

    def _read(self, folder: str) -> _Folder:
        """Read a folder, unless nothing in it can have changed since it was read."""
        path = f"{self.root}/{folder}"
        try:
            mtime = os.stat(path).st_mtime_ns  # noqa: PTH116 -- asked of every folder, every time
            known = self._folders.get(folder)
            if known is not None and known.settled and known.mtime == mtime:
                return known
            settled = time.time_ns() - mtime > _coarseness(mtime)
            found = _Folder(mtime, settled, [], [])
            with os.scandir(path) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir():
                            found.folders.append(entry.name)
                        elif entry.name.endswith(_ENDINGS):
                            found.files.append((entry.name, stamp_of_entry(entry)))
                    except OSError as error:
                        if error.errno not in NOT_THERE:
                            raise
                        # Gone since the folder was opened, or a link to nothing.
                        found.settled = False
        except (FileNotFoundError, NotADirectoryError):
            return _Folder(0, False, [], [])
        except OSError as error:
            raise disk_error(error, path) from None
        found.folders.sort()
        found.files.sort()
        if known is not None and known.files == found.files:
            found.held = known.held
        self._folders[folder] = found
        return found

    def _held(self, folder: Folder, content: _Folder) -> StoredFolder:
        if content.held is None:
            content.held = StoredFolder(folder, tuple(_held_files(folder, content.files)))
        return content.held


_INTERVALS = frozenset(Interval)
_LOWER_ENDINGS = tuple(Form)
_ENDINGS = (*_LOWER_ENDINGS, *map(str.upper, Form))


def _coarseness(mtime: int) -> int:
    """Tell for how long a folder may change again without its time moving, in nanoseconds.

    Clocks of file systems tick a hundred times a second or more often; those that know
    whole seconds only tick every second or two.
    """
    return 2 * _SECOND if mtime % _SECOND == 0 else _SECOND // 10


def _held_files(folder: Folder, found: list[tuple[str, Stamp]]) -> list[StoredFile]:
    """Pick the files whose names belong into the folder of a stream, oldest first."""
    prefix, stem, partition = folder.prefix, folder.stem, folder.partition
    files: dict[str, StoredFile] = {}
    others = []
    for name, stamp in found:
        if name.startswith(stem):
            try:
                if not name.endswith(".zip"):
                    raise ValueError
                start = parse_period(name[len(stem) : -len(".zip")], partition)
            except ValueError:
                others.append((_rank(name), name, stamp))
                continue
            key = f"{prefix}{name}"
            files[key] = StoredFile(key, key, start, period_end(start, partition), stamp)
    for _, name, stamp in sorted(others):
        begin = _read_period(name[len(stem) : -len(form_of(name))], partition)
        if begin is not None:
            key = folder.key(spell_period(begin, partition))
            end = period_end(begin, partition)
            files.setdefault(key, StoredFile(key, f"{prefix}{name}", begin, end, stamp))
    if others:
        return sorted(files.values(), key=lambda file: file.start)
    return list(files.values())


def _rank(name: str) -> int:
    """Return the place of a form among those of one file: the zip comes first."""
    return list(Form).index(form_of(name))


def _read_period(text: str, partition: Partition) -> date | None:
    """Parse a period, also without leading zeros, as in some keys; None if it is invalid.

    >>> _read_period("2020-8", Partition.MONTHLY), _read_period("2020-8", Partition.DAILY)
    (datetime.date(2020, 8, 1), None)
    """
    parts = text.split("-")
    if all(part.isdecimal() and part.isascii() and len(part) <= 4 for part in parts):
        with suppress(ValueError):
            return parse_period("-".join(part.zfill(2) for part in parts), partition)
    return None


# Files that are skipped


class Judged(NamedTuple):
    """Why a file is not read, what to do, and its key where that is known."""

    key: str | None
    reason: str
    advice: str


def judge(folder: str, name: str) -> Judged | None:
    """Return why a file is not read, and where it should lie.

    None if neither its name nor its folder is one of the archive.

    Parameters
    ----------
    folder : str
        Inside the store, ending in ``/``; empty for the root.
    name : str

    Examples
    --------
    >>> judge("data/spot/daily/klines/", "BTCUSDT-1h-2025-07-15.zip").advice
    'move it to data/spot/daily/klines/BTCUSDT/1h/'
    >>> judge("downloads/", "results.csv") is None
    True
    """
    words = folder.split("/")
    market = next((m for m in Market if f"/{m.path}/" in f"/{folder}"), None)
    marked = words[0] == "data" and words[1:2] in (["spot"], ["futures"], ["option"])
    found = _NAME.fullmatch(name)
    if found is None:
        if not marked:
            return None
        return Judged(
            None,
            "its name is not one of the archive's",
            "name it <SYMBOL>-<interval or data type>-<YYYY-MM-DD or YYYY-MM>.zip, or move it "
            "out of the store",
        )
    symbol, middle, period = found["symbol"], found["middle"], found["period"]
    partition = Partition.DAILY if period.count("-") == 2 else Partition.MONTHLY
    data_type = next((DataType(word) for word in words if word in set(DataType)), None)
    if middle in set(DataType):
        data_type = DataType(middle)
    interval = Interval(middle) if middle in _INTERVALS else None
    start = _read_period(period, partition)
    if start is None:
        return Judged(None, f"{period} is no day or month", "give it its right name")
    if data_type is not None and data_type.has_intervals and interval is None:
        return Judged(
            None,
            f"{middle} is no interval of the archive",
            f"give file and folder their right name; intervals are {', '.join(Interval)}",
        )
    target = "/".join(
        (
            "data",
            market.path if market else "<market>",
            partition,
            data_type or "<data type>",
            symbol,
            *([interval] if interval else []),
            "",
        )
    )
    key = None
    if market and data_type and is_symbol(symbol):
        key = Folder(Stream(market, data_type, symbol, interval), partition).key(
            spell_period(start, partition)
        )
    if folder == target:
        ending = found["ending"]
        return Judged(key, f"its name ends in {ending}", f"let it end in {ending.lower()}")
    return Judged(key, f"it lies in {folder or 'the root of the store'}", f"move it to {target}")


_NAME = re.compile(
    r"(?P<symbol>.+)-(?P<middle>[A-Za-z0-9]+)-(?P<period>\d{4}-\d{1,2}(-\d{1,2})?)"
    r"(?P<ending>\.zip|\.csv|\.csv\.gz)",
    re.ASCII | re.IGNORECASE,
)
