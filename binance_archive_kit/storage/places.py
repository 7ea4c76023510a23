"""Open the store at a place: in a local folder, or in object storage."""

from __future__ import annotations

from pathlib import Path

from binance_archive_kit.errors import field_error
from binance_archive_kit.forks import check_process
from binance_archive_kit.paths import find_path
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.layout import BaseStorage
from binance_archive_kit.storage.store import Store
from binance_archive_kit.storage.urls import Place, read_place


def check_storage(place: Place, storage: BaseStorage | None) -> None:
    """Check that a storage can decide where the files of a store lie.

    Raises
    ------
    ConfigurationError
        If the store is in object storage.
    """
    if storage is not None and isinstance(place, str):
        raise field_error(
            "storage",
            f"files in object storage ({place}) lie under their archive key; leave storage out, "
            "or collect into a local folder",
        )


def store_at(place: str | Path, storage: BaseStorage | None = None) -> BaseStore:
    """Return the store at a place, which need not exist.

    Raises
    ------
    ConfigurationError
        If the place is invalid, or a storage is given for object storage.
    """
    place = read_place("output_directory", place)
    check_storage(place, storage)
    return Store(place, storage) if isinstance(place, Path) else BucketStore(place)


def has_store(place: str | Path) -> bool:
    """Return whether there is a store at a place.

    Raises
    ------
    StoreError
        If object storage cannot be reached.
    """
    place = read_place("store", place)
    if isinstance(place, Path):
        return find_path("store", place).is_dir()
    return BucketStore(place).exists()


def open_store(place: str | Path) -> BaseStore:
    """Return the store at a place that has one.

    Raises
    ------
    ConfigurationError
        If there is none.
    StoreError
        If object storage cannot be reached.
    """
    check_process()
    place = read_place("store", place)
    return Store.open(place) if isinstance(place, Path) else BucketStore.open(place)
