"""Where a store lies: a local folder, or a URL in object storage, which stays text."""

from __future__ import annotations

import os
from pathlib import Path

from binance_archive_kit.errors import field_error, shown
from binance_archive_kit.paths import read_path, url_scheme
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.bucket import SCHEME, Bucket, is_url
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.layout import BaseStorage
from binance_archive_kit.storage.store import Store

#: A folder, or the URL of a prefix in object storage.
Place = Path | str


def read_place(field: str, value: object) -> Place:
    """Validate a local folder, or a URL of object storage; asks no network.

    Parameters
    ----------
    field : str
        The argument's name, for the message.
    value : str or Path

    Returns
    -------
    Path or str
        A folder as a path with ``~`` expanded, a URL as text.

    Raises
    ------
    ConfigurationError
        If it is neither.

    Examples
    --------
    >>> read_place("output_directory", "data/research").as_posix()
    'data/research'
    >>> read_place("output_directory", "s3://bucket/research/")
    's3://bucket/research'
    """
    if is_url(value):
        return Bucket.parse(str(value), field).url
    if isinstance(value, os.PathLike) and url_scheme(text := str(value)) == "s3":
        raise field_error(
            field,
            f"{shown(text)} is a Path, which merges the slashes of a URL; give it as text, "
            f"like {SCHEME + text.partition(':')[2].lstrip('/')!r}",
        )
    if isinstance(value, str) and (scheme := url_scheme(value)) not in (None, "file"):
        raise field_error(
            field,
            f"{shown(value)} is a URL with {scheme}:, and a store is a local folder, such as "
            "'data/research', or in object storage that speaks S3, such as "
            f"'{SCHEME}bucket/research'",
        )
    return read_path(field, value)


def store_at(place: str | Path, storage: BaseStorage | None = None) -> BaseStore:
    """Return the store at a place, which need not exist.

    Raises
    ------
    ConfigurationError
        If the place is invalid, or a storage is given for object storage.
    """
    place = read_place("output_directory", place)
    if isinstance(place, Path):
        return Store(place, storage)
    if storage is not None:
        raise field_error(
            "storage",
            f"files in object storage ({place}) lie under their archive key; leave storage out, "
            "or collect into a local folder",
        )
    return BucketStore(place)


def open_store(place: str | Path) -> BaseStore:
    """Return the store at a place that has one.

    Raises
    ------
    ConfigurationError
        If there is none.
    StoreError
        If object storage cannot be reached.
    """
    place = read_place("store", place)
    return Store.open(place) if isinstance(place, Path) else BucketStore.open(place)
