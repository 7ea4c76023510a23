"""Where the files of a store lie, for those who want them elsewhere than under their key.

A store keeps a file under its archive key unless it is given a storage: any object whose
``get_partition_path`` names a folder for it. The base name stays the archive's.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from datetime import date
from enum import StrEnum
from pathlib import Path

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import ConfigurationError

#: Folders below a store's root that are not for data.
PRIVATE = ".binance_archive_kit"
QUARANTINE = "quarantine"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Zone(StrEnum):
    """How far data has come: as the archive published it."""

    ARCHIVE = "archive"


class Exchange(StrEnum):
    """Where data was made."""

    BINANCE = "binance"


class BaseStorage(ABC):
    """Decides where the files of a store lie; a subclass needs this one method only.

    Examples
    --------
    >>> class ByDay(BaseStorage):
    ...     def get_partition_path(self, **of):
    ...         day = of["partition_date"]
    ...         return f"{of['trade_type'].value}/{of['data_type'].value}/{day:%Y/%m/%d}"
    >>> key = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip"
    >>> path_in_store(ByDay(), key, Path())
    'spot/trades/2025/07/15/BTCUSDT-trades-2025-07-15.zip'
    """

    @abstractmethod
    def get_partition_path(
        self,
        *,
        zone: Zone,
        exchange: Exchange,
        data_type: DataType,
        trade_type: Market,
        symbol: str,
        partition_date: date,
    ) -> str | os.PathLike[str]:
        """Name the folder for a file, below ``output_directory``.

        Called by keyword, and more than once for the same file: it must give the same
        folder each time, and no two files of one base name the same folder.

        Parameters
        ----------
        zone, exchange, data_type, trade_type : enums
            Their ``.value`` is a word such as "archive", "binance", "klines", "futures_um".
        symbol : str
            As the archive files it.
        partition_date : date
            First UTC day that the file covers.
        """


def path_in_store(storage: BaseStorage, key: str, root: Path) -> str:
    """Ask a storage where the file with a key lies: its path inside the store.

    Raises
    ------
    ConfigurationError
        If the storage names something that is no folder of the store.
    """
    found = ObjectKey.parse(key)
    folder = found.folder
    said = storage.get_partition_path(
        zone=Zone.ARCHIVE,
        exchange=Exchange.BINANCE,
        data_type=folder.data_type,
        trade_type=folder.market,
        symbol=folder.symbol,
        partition_date=found.start,
    )
    place = f"{_folder(said, key, root)}{found.name}"
    if place != key and _is_key(place):
        raise _wrong(said, key, "the store keeps other files there, under their own key")
    return place


def _folder(said: object, key: str, root: Path) -> str:
    """Read the name of a folder as one inside the store; it ends in ``/``, or is empty."""
    if not isinstance(said, str | os.PathLike):
        raise _wrong(said, key, "give a folder, as text or as a path")
    text = os.fspath(said)
    if not isinstance(text, str):
        raise _wrong(said, key, "give a folder as text, not as bytes")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise _wrong(said, key, "no file system has such a name") from None
    if "://" in text:
        raise _wrong(
            said, key, "files are put into folders of this machine; name one below output_directory"
        )
    path = Path(text)
    if path.is_absolute():
        if not path.is_relative_to(root):
            raise _wrong(said, key, f"it lies outside of output_directory, {root}")
        path = path.relative_to(root)
    if ".." in path.parts or _CONTROL.search(text):
        raise _wrong(said, key, "name a plain folder below output_directory")
    if path.parts[:1] in ((PRIVATE,), (QUARANTINE,)):
        raise _wrong(said, key, f"{path.parts[0]} is not for data")
    return f"{path.as_posix()}/" if path.parts else ""


def fault_of_place(key: str, place: str) -> str:
    """Return why no file with this key can lie at a path inside a store; empty if it can.

    >>> fault_of_place("data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip", "../x.zip")
    'it is no plain path inside the store'
    """
    path = Path(place)
    if path.is_absolute() or ".." in path.parts or _CONTROL.search(place):
        return "it is no plain path inside the store"
    if path.parts[:1] in ((PRIVATE,), (QUARANTINE,)):
        return f"{path.parts[0]} is not for data"
    if not _is_key(key):
        return "that is no key of the archive"
    if path.name != key.rpartition("/")[2] or (place != key and _is_key(place)):
        return "another file lies there"
    return ""


def _wrong(said: object, key: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"storage: get_partition_path gives {said!r} for {key}: {why}")


def _is_key(place: str) -> bool:
    try:
        ObjectKey.parse(place)
    except ValueError:
        return False
    return True
