"""The files of a store in object storage: what its records prove, compared with a listing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby

import polars as pl

from binance_archive_kit.archive.enums import DataType, Market, Partition
from binance_archive_kit.archive.keys import Folder, ObjectKey, feed_prefix, is_symbol, prefix_of
from binance_archive_kit.garbage import paused_collection
from binance_archive_kit.storage.base_store import BaseInventory
from binance_archive_kit.storage.bucket import Bucket, stamp_of_object
from binance_archive_kit.storage.bucket_records import BucketRecords
from binance_archive_kit.storage.inventory import (
    StoredFile,
    StoredFolder,
    Symbols,
    SymbolTest,
    any_symbol,
)
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.storage.proven_files import compare_with_proofs

#: No clock may be wrong by more: S3 refuses requests. See `Bucket.list_etags`.
_SKEW = timedelta(minutes=20)
#: Symbols up to which the records of each are read by themselves.
_FEW = 24


class BucketInventory(BaseInventory):
    """The files below a prefix of a bucket, by feed; safe for several threads.

    For reading, these are the files that the records prove. For planning, the bucket is listed
    too.
    """

    def __init__(self, bucket: Bucket, records: BucketRecords) -> None:
        self._bucket = bucket
        self._records = records
        #: Folders of a feed, with the state of the records that they are from.
        self._stored: dict[str, tuple[frozenset[str], list[StoredFolder]]] = {}
        self._lock = threading.Lock()

    def feeds(self) -> list[tuple[Market, DataType]]:
        """Return the feeds that have records, in the order of the enums."""
        known = self._records.feeds()
        return [
            (market, data_type)
            for market in Market
            for data_type in DataType
            if any(_feed(market, each, data_type) in known for each in Partition)
        ]

    def names(
        self, market: Market, data_type: DataType, symbols: SymbolTest = any_symbol
    ) -> list[Folder]:
        """Return the folders of a feed that have files."""
        return [stored.folder for stored in self.folders(market, data_type, symbols)]

    def folders(
        self,
        market: Market,
        data_type: DataType,
        symbols: SymbolTest = any_symbol,
        matches: Callable[[Folder], bool] = lambda folder: True,
        needed: Callable[[Folder], Callable[[str], bool]] | None = None,
    ) -> list[StoredFolder]:
        """Return the folders of a feed that have files, in the order of their names."""
        with self._lock, paused_collection():
            return [
                stored
                for partition in Partition
                for prefix in _prefixes(feed_prefix(market, partition, data_type), symbols)
                for stored in self._read(prefix)
                if symbols(stored.folder.symbol) and matches(stored.folder)
            ]

    def _read(self, prefix: str) -> list[StoredFolder]:
        """Return the folders below a prefix; the same objects as long as the records stay."""
        state = self._records.state(prefix)
        known, stored = self._stored.get(prefix, (None, []))
        if known != state:
            before = {each.folder: each for each in stored}
            stored = []
            for new in _folders(self._records.proof_rows([prefix])):
                old = before.get(new.folder)
                stored.append(old if old is not None and old.listing == new.listing else new)
            self._stored[prefix] = state, stored
        return stored

    def frame(self, prefixes: Iterable[str], keys: Iterable[str] = ()) -> pl.DataFrame:
        """Return the zips below some prefixes that are the proven ones, as of now.

        Lists the prefixes that have proofs. An object that is gone, or not the proven one, has no
        row: it counts as absent, and is fetched again.
        """
        self._records.expire()
        proofs = self._records.proof_rows(prefixes, "etag", "proven_by")
        listed = self.listed(dict.fromkeys(prefix_of(key) for key, *_ in proofs))
        frame = compare_with_proofs([*listed.items()], proofs)
        return frame.filter("unchanged")

    def present(self) -> tuple[list[StoredFile], set[str]]:
        """Return all zips in the bucket, as of now, and the keys of all objects below ``data/``."""
        listed = self.listed(["data/"])
        rows = ((key, *listed[key]) for key in sorted(listed))
        return [file for folder in _folders(rows) for file in folder.files if file.is_zip], {
            *listed
        }

    def listed(self, prefixes: Iterable[str]) -> dict[str, Stamp]:
        """Return the stamps of the objects below some prefixes, by key, as of now."""
        prefixes = list(prefixes)
        if not prefixes:
            return {}
        found = {each.key: stamp_of_object(each) for each in self._bucket.list_etags(*prefixes)}
        # The listing leaves out objects that are newer than the clock of this machine.
        since = (datetime.now(UTC) - _SKEW).isoformat(timespec="seconds")
        recent = [
            key
            for key, *_, proven_at in self._records.proof_rows(prefixes, "proven_at")
            if proven_at > since and key not in found
        ]
        newer = self._bucket.stat(recent) if recent else {}
        return found | {key: stamp_of_object(each) for key, each in newer.items()}


def _feed(market: Market, partition: Partition, data_type: DataType) -> str:
    return feed_prefix(market, partition, data_type).removeprefix("data/")


def _prefixes(feed: str, symbols: SymbolTest) -> list[str]:
    """Return what to read of a feed: few symbols by themselves, as records are many."""
    if isinstance(symbols, Symbols) and len(symbols) <= _FEW:
        return [f"{feed}{symbol}/" for symbol in sorted(symbols) if is_symbol(symbol)]
    return [feed]


def _folders(rows: Iterable[tuple[object, ...]]) -> Iterator[StoredFolder]:
    """Yield the folders of records that are sorted by key."""
    pairs = ((str(key), Stamp(*stamp)) for key, *stamp in rows)  # type: ignore[arg-type]
    for prefix, group in groupby(pairs, key=lambda pair: prefix_of(pair[0])):
        listing = [(key[len(prefix) :], stamp) for key, stamp in group]
        for name, _ in listing:
            try:
                folder = ObjectKey.parse(f"{prefix}{name}").folder
            except ValueError:  # not a key of the archive
                continue
            stored = StoredFolder(folder, listing=listing)
            if not stored.is_empty:
                yield stored
            break
