"""The store in object storage: the same layout as in a folder, with a local index.

Layout below the prefix of the bucket::

    data/…                                  zips under their archive key; the records prove them
    quarantine/…                            bytes that failed their proof, with the reason
    .binance_archive_kit/records/…          proofs, and what the archive lacks, by feed and range
                                            of symbols, as Parquet
    .binance_archive_kit/records/runs/…     selected symbols and unfinished updates, as JSON
    .binance_archive_kit/tables/…           columnar tables of the zips

Objects get their final name whole. All but zips are never changed, only merged.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Self, cast

import pyarrow as pa

from binance_archive_kit.errors import ArchiveKitError, ChangedFile, field_error
from binance_archive_kit.paths import nearest_folder, private_temporary, user_cache
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.bucket import Bucket, object_of, stamp_of_object
from binance_archive_kit.storage.bucket_access import Access
from binance_archive_kit.storage.bucket_inventory import BucketInventory
from binance_archive_kit.storage.bucket_records import BucketRecords
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.layout import QUARANTINE
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.storage.quarantine import QUARANTINED, reason_in
from binance_archive_kit.storage.record_objects import RECORDS
from binance_archive_kit.storage.records import Locations

#: Bytes that are read ahead of large files.
_AHEAD = 4 << 20
#: Objects that are read at the same time.
_REQUESTS = 16
#: Seconds for which the objects in quarantine are not listed again.
_FRESH = 2.0


class BucketStore(BaseStore):
    """A prefix of a bucket in the archive's layout; pickles as its URL.

    Parameters
    ----------
    url : str or Bucket
        Need not have any object.

    Attributes
    ----------
    bucket : Bucket
    """

    root: str
    records: BucketRecords
    inventory: BucketInventory

    def __init__(self, url: str | Bucket) -> None:
        self.bucket = url if isinstance(url, Bucket) else Bucket.parse(url, "store")
        self.root = self.bucket.url
        self.private = _index_folder(self.bucket)
        self.records = BucketRecords(self.bucket, self.private)
        self.locations = Locations(self.records)
        self.inventory = BucketInventory(self.bucket, self.records)
        self._quarantine_listed: tuple[float, dict[str, list[str]]] = (-_FRESH, {})
        self._lock = threading.Lock()
        #: SHA-256 digests in hex that are compared with what is read, by path.
        self._digests: Mapping[str, str] = {}

    @classmethod
    def open(cls, url: str | Bucket) -> Self:
        """Return the store below a prefix that has one.

        Raises
        ------
        ConfigurationError
            If it has none.
        StoreError
            If the bucket cannot be reached.
        """
        store = cls(url)
        if store.exists():
            return store
        name = repr(store.root)
        if store.bucket.has("data/"):
            raise field_error(
                "store",
                f"{name} has files, and no records of a store; collect into it, which fetches "
                "and proves them",
            )
        store.bucket.list("")  # raises if there is no such bucket
        above, part, _ = f"{store.root}/".rpartition("/data/")
        advice = "collect something into it first"
        if part and above.count("/") > 1 and cls(above).exists():
            advice = f"it is a part of one; name the prefix above data/, {above!r}"
        raise field_error("store", f"{name} has no store; {advice}")

    def exists(self) -> bool:
        """Return whether something was collected into it."""
        return self.bucket.has(RECORDS)

    def __reduce__(self) -> tuple[type[Self], tuple[Bucket]]:
        """Pickle the URL; the content of the bucket is read again."""
        return type(self), (self.bucket,)

    def __repr__(self) -> str:
        return f"BucketStore({self.root!r})"

    def path(self, key: str) -> str:
        """Return the URL of the object with this key."""
        return self.bucket.uri(key)

    def read_file(self, file: StoredFile) -> bytes:
        """Read an object at once."""
        with self._opened(file) as opened, self.bucket.errors(file.path):
            data = bytes(opened.read())
        proven = self._digests.get(file.path)
        if proven is not None and hashlib.sha256(data).hexdigest() != proven:
            raise ChangedFile(file.path, "its SHA-256 is not the one of its proof")
        return data

    def checking(self, digests: Mapping[str, str]) -> BucketStore:
        """Return a store that compares what it reads whole with SHA-256 digests."""
        store = copy.copy(self)
        store._digests = digests
        return store

    def fetch(self, files: Sequence[StoredFile]) -> Mapping[str, bytes | Exception]:
        """Read several objects at the same time."""

        def read(file: StoredFile) -> bytes | Exception:
            try:
                return self.read_file(file)
            except (OSError, ArchiveKitError) as error:
                return error

        with ThreadPoolExecutor(_REQUESTS, "objects") as pool:
            found = pool.map(read, files)
            return {file.key: data for file, data in zip(files, found, strict=True)}

    def _opened(self, file: StoredFile) -> pa.NativeFile:
        """Open an object, if it is the proven one."""
        opened = self.bucket.open(file.path)
        with self.bucket.errors(file.path):
            found = stamp_of_object(object_of(file.path, opened))
        if found != file.stamp:
            raise ChangedFile(
                file.path,
                "it was replaced in the bucket since its proof was recorded; if a collection is "
                "at work, try again",
            )
        return opened

    def open_file(self, file: StoredFile) -> BinaryIO:
        """Open an object for reading at any place, by range requests."""
        raw = _ObjectReader(self.bucket, file.path, self._opened(file))
        return cast(BinaryIO, io.BufferedReader(raw, _AHEAD))

    def stamp(self, file: StoredFile) -> Stamp:
        """Return the recorded stamp; whether the object still has it shows when it is read."""
        return file.stamp

    def free_bytes(self) -> None:
        """Return None: a bucket has no limit."""

    def quarantined(self, prefix: str) -> dict[str, str]:
        """Return the reasons why objects below a prefix have bytes in quarantine, by key."""
        start = len(f"{QUARANTINE}/")
        found = self._quarantine().get(prefix, [])
        reasons = {}
        for path in found:
            if match := QUARANTINED.fullmatch(path[start + len(prefix) :]):
                note = f"{path}.json"
                reasons[f"{prefix}{match[1]}"] = reason_in(
                    self.bucket.read(note) if note in found else b""
                )
        return reasons

    def _quarantine(self) -> Mapping[str, list[str]]:
        """Return the keys of all objects in quarantine by folder, as of now or just before."""
        with self._lock:
            listed_at, found = self._quarantine_listed
            if time.monotonic() - listed_at >= _FRESH:
                found = defaultdict(list)
                for each in self.bucket.list(f"{QUARANTINE}/"):
                    folder = each.key.removeprefix(f"{QUARANTINE}/").rpartition("/")[0]
                    found[f"{folder}/"].append(each.key)
                self._quarantine_listed = time.monotonic(), found
            return found

    def collected(self) -> set[str]:
        """Return the keys of all objects that were ever proven or quarantined in this store."""
        start = len(f"{QUARANTINE}/")
        return self.records.proven_keys() | {
            match[1]
            for found in self.bucket.list(f"{QUARANTINE}/")
            if (match := QUARANTINED.fullmatch(found.key[start:]))
        }


class _ObjectReader(io.RawIOBase):
    """Reads an object by range requests; its errors say what to do."""

    def __init__(self, bucket: Bucket, key: str, file: pa.NativeFile) -> None:
        self._bucket, self._key, self._file = bucket, key, file
        with bucket.errors(key):
            self._size = self._file.size()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        return int(self._file.seek(start + offset))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with self._bucket.errors(self._key):
            data = self._file.read(min(len(buffer), max(0, self._size - self.tell())))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _index_folder(bucket: Bucket) -> Path:
    """Return the local folder of what is known of a bucket, by its URL and its endpoint."""
    folder = user_cache(f"{Access.of_environment().endpoint or ''} {bucket.url}")
    if os.access(nearest_folder(folder), os.W_OK):
        return folder
    return private_temporary() / folder.name
