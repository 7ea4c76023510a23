"""The locations of a store's files: as its storage decides them, or as they are recorded."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from binance_archive_kit.errors import ArchiveKitWarning
from binance_archive_kit.storage.layout import (
    BaseStorage,
    fault_of_location,
    invalid_folder,
    path_in_store,
    shared_location,
)
from binance_archive_kit.storage.proof import Stamp, stamp_of
from binance_archive_kit.storage.records import Records

#: Nanoseconds during which a file may change again without its time moving.
_UNSETTLED = 2_000_000_000
_NO_STAMP = Stamp(0, 0)


class Locations:
    """Paths inside a store, by key.

    Parameters
    ----------
    records : Records
    storage : BaseStorage, optional
        Decides where files lie. Without one, files lie at their recorded locations, and all
        others under their key.
    """

    def __init__(self, records: Records, storage: BaseStorage | None = None) -> None:
        self.root = records.root
        self.storage = storage
        self._records = records
        #: As the storage decided them.
        self._decided: dict[str, str] = {}
        #: As they are recorded, and the stamp of the database when they were read.
        self._recorded: dict[str, str] = {}
        self._read_at: Stamp | None = None
        #: Whether symbolic links on the way to a folder lead out of the store.
        self._outside: dict[str, bool] = {}
        #: Keys whose recorded locations are ignored.
        self._invalid: set[str] = set()

    def location(self, key: str) -> str:
        """Return the path inside the store of an object, once it is proven."""
        if self.storage is None:
            return (self._recorded if self._read_at else self.recorded()).get(key, key)
        location = self._decided.get(key)
        if location is None:
            location = path_in_store(self.storage, key, self.root)
            if location != key and self._leads_outside(location):
                why = f"a symbolic link on that path leads out of output_directory, {self.root}"
                raise invalid_folder(location.rpartition("/")[0], key, why)
            self._decided[key] = location
        return location

    def recorded(self) -> Mapping[str, str]:
        """Return the recorded locations of files that do not lie under their key, by key.

        Reads the database only if it changed since the last call; otherwise returns the same
        mapping. Ignores, with a warning, locations outside of the store and those of other
        files.

        Raises
        ------
        StoreError
            If the database is locked, or cannot be read.
        """
        try:
            stat = os.stat(self._records.path)  # noqa: PTH116 -- called for every query
        except OSError:
            self._recorded, self._read_at = {}, _NO_STAMP
            return self._recorded
        stamp = stamp_of(stat)
        if self._read_at != stamp:
            self._outside.clear()
            self._recorded = dict(self._valid(self._records.locations()))
            settled = time.time_ns() - stat.st_mtime_ns > _UNSETTLED
            self._read_at = stamp if settled else _NO_STAMP
        return self._recorded

    def _valid(self, rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield the locations at which a file of the store can lie; warn of the others."""
        ignored = []
        self._invalid.clear()
        for key, location in rows:
            why = fault_of_location(key, location)
            if not why and self._leads_outside(location):
                why = "a symbolic link leads out of the store"
            if why:
                ignored.append(f"{location!r} of {key!r} ({why})")
                self._invalid.add(key)
            else:
                yield key, location
        if ignored:
            more = f", and {len(ignored) - 3:,} more" if len(ignored) > 3 else ""
            warnings.warn(
                f"{self._records.path}: recorded locations of files are ignored: "
                f"{'; '.join(ignored[:3])}{more}; collect the files again, they are then found "
                "or fetched",
                ArchiveKitWarning,
                stacklevel=3,
            )

    def _leads_outside(self, location: str) -> bool:
        """Return whether symbolic links on a path inside the store lead out of it."""
        folder = location.rpartition("/")[0]
        if folder not in self._outside:
            self._outside[folder] = bool(folder) and not self._is_inside(f"{self.root}/{folder}")
        path = f"{self.root}/{location}"
        return self._outside[folder] or (os.path.islink(path) and not self._is_inside(path))  # noqa: PTH114

    def _is_inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root))

    def resolve(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the locations of the objects that will not lie under their key, by key.

        Raises
        ------
        ConfigurationError
            If the storage gives two of them one location.
        """
        locations = {key: path for key in keys if (path := self.location(key)) != key}
        owners: dict[str, str] = {}
        for key, location in locations.items():
            if owners.setdefault(location, key) != key:
                raise shared_location(location, owners[location], key)
        return locations

    def record(self, keys: Iterable[str]) -> None:
        """Record the locations before downloading: a path alone does not identify its key.

        Deletes recorded locations that are ignored.

        Raises
        ------
        ConfigurationError
            If another file has one of the locations.
        """
        self.recorded()
        keys = list(keys) if self.storage is not None else []
        if outdated := [*keys, *self._invalid]:
            self._records.record_locations(outdated, self.resolve(keys))
