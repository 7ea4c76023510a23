"""Find the files of a store that are not read because of their name or folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from itertools import chain
from typing import NamedTuple, Self

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    Stream,
    format_period,
    is_symbol,
    parse_loose_period,
)
from binance_archive_kit.storage.inventory import INTERVALS, Form, Inventory, StoredFolder
from binance_archive_kit.storage.layout import QUARANTINE

_ENDINGS = tuple(Form)
_NAME = re.compile(
    r"(?P<symbol>.+)-(?P<middle>[A-Za-z0-9]+)-(?P<period>\d{4}-\d{1,2}(-\d{1,2})?)"
    r"(?P<ending>\.zip|\.csv|\.csv\.gz)",
    re.ASCII | re.IGNORECASE,
)


class SkippedFile(NamedTuple):
    """A file of a store that is not read because of its name or folder."""

    path: str  #: inside the store
    reason: str
    advice: str


class Diagnosis(NamedTuple):
    """Why a file is not read, what to do, and its key if that is known."""

    key: str | None
    reason: str
    advice: str


class _ReadFiles(NamedTuple):
    """The files of a store that are read."""

    keys: frozenset[str]
    paths: frozenset[str]

    @classmethod
    def of(cls, inventory: Inventory, stored: Iterable[StoredFolder]) -> Self:
        files = [file for folder in stored for file in folder.files]
        recorded = inventory.locations.recorded().values()
        return cls(
            frozenset(file.key for file in files),
            frozenset(chain((file.path for file in files), recorded)),
        )


def find_skipped(inventory: Inventory) -> list[SkippedFile]:
    """Return the files that are not read because of their name or folder, and what to do.

    Walks through all folders below the root, and reads no file. Files with a foreign name in a
    foreign folder are left out, and so are those that are read in another form.
    """
    stored = [
        folder for feed in inventory.feeds() for folder in inventory.folders(*feed, needed=_by_name)
    ]
    # Where all files are read, as in most folders, no name has to be looked at.
    counts = {each.folder.prefix: len(each.files) for each in stored if each.listing}
    read: _ReadFiles | None = None
    skipped = []
    for folder, folders, names in os.walk(inventory.root):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != QUARANTINE)
        relative = os.path.relpath(folder, inventory.root).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        names = [name for name in names if name.lower().endswith(_ENDINGS)]
        if len(names) == counts.get(prefix, 0):
            continue
        read = read or _ReadFiles.of(inventory, stored)
        for name in sorted(names):
            if (path := f"{prefix}{name}") not in read.paths:
                found = diagnose(prefix, name)
                if found is not None and found.key not in read.keys:
                    skipped.append(SkippedFile(path, found.reason, found.advice))
    return skipped


def _by_name(_folder: Folder) -> Callable[[str], bool]:
    """Need no file of a folder as it is now: only names are compared."""
    return lambda name: False


def diagnose(folder: str, name: str) -> Diagnosis | None:
    """Return why a file is not read, and where it should lie.

    None if neither its name nor its folder is in the form of the archive.

    Parameters
    ----------
    folder : str
        Inside the store, ending in ``/``; empty for the root.
    name : str

    Examples
    --------
    >>> diagnose("data/spot/daily/klines/", "BTCUSDT-1h-2025-07-15.zip").advice
    'move it to data/spot/daily/klines/BTCUSDT/1h/'
    >>> diagnose("downloads/", "results.csv") is None
    True
    """
    parts = folder.split("/")
    market = next((m for m in Market if f"/{m.path}/" in f"/{folder}"), None)
    in_layout = parts[0] == "data" and parts[1:2] in (["spot"], ["futures"], ["option"])
    found = _NAME.fullmatch(name)
    if found is None:
        if not in_layout:
            return None
        return Diagnosis(
            None,
            "its name is not one of the archive's",
            "name it <SYMBOL>-<interval or data type>-<YYYY-MM-DD or YYYY-MM>.zip, or move it "
            "out of the store",
        )
    symbol, middle, period = found["symbol"], found["middle"], found["period"]
    partition = Partition.DAILY if period.count("-") == 2 else Partition.MONTHLY
    data_type = next((DataType(word) for word in parts if word in set(DataType)), None)
    if middle in set(DataType):
        data_type = DataType(middle)
    interval = Interval(middle) if middle in INTERVALS else None
    if data_type is not None and interval is not None and not data_type.has_intervals:
        data_type = None  # candles in the folder of another feed
    start = parse_loose_period(period, partition)
    if start is None:
        return Diagnosis(None, f"{period} is not a day or month", "rename it")
    if data_type is not None and data_type.has_intervals and interval is None:
        return Diagnosis(
            None,
            f"{middle} is not an interval of the archive",
            f"rename file and folder; intervals are {', '.join(Interval)}",
        )
    feed = f"{market.path if market else '<market>'}/{partition}/{data_type or '<data type>'}"
    target = f"data/{feed}/{symbol}/" + (f"{interval}/" if interval else "")
    key = None
    if market and data_type and is_symbol(symbol):
        key = Folder(Stream(market, data_type, symbol, interval), partition).key(
            format_period(start, partition)
        )
    if folder == target:
        ending = found["ending"]
        return Diagnosis(key, f"its name ends in {ending}", f"let it end in {ending.lower()}")
    return Diagnosis(key, f"it lies in {folder or 'the root of the store'}", f"move it to {target}")
