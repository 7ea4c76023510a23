"""The location of each file in a store: under its archive key, or where a storage places it.

A storage is an object whose ``get_partition_path`` returns the folder for a file. The base
name of a file stays the archive's.
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
from binance_archive_kit.errors import ConfigurationError, field_error

#: Folders below a store's root that hold no data.
PRIVATE = ".binance_archive_kit"
QUARANTINE = "quarantine"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Zone(StrEnum):
    """The processing stage of data: as the archive published it."""

    ARCHIVE = "archive"


class Exchange(StrEnum):
    """The exchange that the data is from."""

    BINANCE = "binance"


class BaseStorage(ABC):
    """Chooses the folder of each file of a store. Subclasses define `get_partition_path`.

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
        """Return the folder for a file, below ``output_directory``.

        Called with keywords, and more than once for the same file. It must return the same
        folder each time, and different folders for files with the same base name.

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
    """Return the path, relative to the store, that a storage assigns to a key.

    Raises
    ------
    ConfigurationError
        If the storage returns something that is not a folder of the store.
    """
    parsed = ObjectKey.parse(key)
    folder = storage.get_partition_path(
        zone=Zone.ARCHIVE,
        exchange=Exchange.BINANCE,
        data_type=parsed.folder.data_type,
        trade_type=parsed.folder.market,
        symbol=parsed.folder.symbol,
        partition_date=parsed.start,
    )
    location = f"{_prefix(folder, key, root)}{parsed.name}"
    if location != key and _is_key(location):
        raise invalid_folder(folder, key, "the store keeps other files there, under their own key")
    return location


def _prefix(folder: object, key: str, root: Path) -> str:
    """Return a folder as a path relative to the store, which ends in ``/`` or is empty."""
    if not isinstance(folder, str | os.PathLike):
        raise invalid_folder(folder, key, "give a folder, as text or as a path")
    text = os.fspath(folder)
    if not isinstance(text, str):
        raise invalid_folder(folder, key, "give a folder as text, not as bytes")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise invalid_folder(folder, key, "no file system allows such a name") from None
    if "://" in text:
        why = "it is a URL; name a local folder below output_directory"
        raise invalid_folder(folder, key, why)
    path = Path(text)
    if path.is_absolute():
        if not path.is_relative_to(root):
            raise invalid_folder(folder, key, f"it lies outside of output_directory, {root}")
        path = path.relative_to(root)
    if fault := _fault_of_path(path):
        raise invalid_folder(folder, key, f"{fault}; name a plain folder below output_directory")
    return f"{path.as_posix()}/" if path.parts else ""


def _fault_of_path(path: Path) -> str:
    """Return why no file can lie at a path relative to the store; empty if one can."""
    if path.is_absolute() or ".." in path.parts or _CONTROL.search(str(path)):
        return "it is not a plain path inside the store"
    if path.parts[:1] in ((PRIVATE,), (QUARANTINE,)):
        return f"{path.parts[0]} is not for data"
    return ""


def fault_of_location(key: str, location: str) -> str:
    """Return why the file with a key cannot have a path inside a store; empty if it can.

    >>> key = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip"
    >>> fault_of_location(key, "../x.zip")
    'it is not a plain path inside the store'
    """
    path = Path(location)
    if fault := _fault_of_path(path):
        return fault
    if not _is_key(key):
        return "the archive has no such key"
    if path.name != key.rpartition("/")[2] or (location != key and _is_key(location)):
        return "another file lies there"
    return ""


def invalid_folder(folder: object, key: str, why: str) -> ConfigurationError:
    """Return the error for a folder that a storage may not return."""
    return field_error("storage", f"get_partition_path returns {folder!r} for {key}: {why}")


def shared_location(location: str, one: str, other: str) -> ConfigurationError:
    """Return the error for a storage that gives two files one location."""
    return field_error(
        "storage",
        f"get_partition_path returns one location, {location}, for two files: {one} and "
        f"{other}; let the folder tell them apart, by trade_type, data_type and symbol",
    )


def _is_key(text: str) -> bool:
    try:
        ObjectKey.parse(text)
    except ValueError:
        return False
    return True
