"""The tables of a store in a bucket: shared by all who read and build them, without a limit."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import polars as pl

from binance_archive_kit.errors import StoreError
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.storage.record_objects import new_id
from binance_archive_kit.tables.bucket_folder import TABLES, BucketFolder
from binance_archive_kit.tables.commits import join_similar, publish
from binance_archive_kit.tables.manifest import FeedFolder, Part, meaning_of
from binance_archive_kit.tables.part_writer import write_entries
from binance_archive_kit.tables.row_reader import footer_crc
from binance_archive_kit.tables.snapshot import STORED_SCHEMA
from binance_archive_kit.tables.tables import Tables, TableUse

_UNLIMITED = 1 << 62
#: Where the tables of a local store lie.
_LOCAL = f"{PRIVATE}/cache/tables"


class BucketTables(Tables):
    """The tables of one store in a bucket; safe for several threads and machines.

    Parameters
    ----------
    bucket : Bucket
    index : Path
        A folder of this machine, for what never changes and for new parts.
    """

    clearing = "store.cache.clear(shared=True)"

    def __init__(self, bucket: Bucket, index: Path) -> None:
        super().__init__(index, _UNLIMITED)
        self._bucket = bucket
        self._index = index
        self._folders: dict[str, BucketFolder] = {}
        self._lock_of_folders = threading.Lock()

    def discard(self, feed: FeedTable, part: str) -> None:
        """Read a part no longer; a builder lists it no longer either."""
        with self._lock:
            self._discarded.add(part)
        folder = self._folder_of(feed)
        if folder.is_building:
            folder.replace([part], ())

    def use(self) -> TableUse:
        """Return the number and size of the parts."""
        parts = [part for folder in self._feed_folders() for part in folder.load().parts]
        size = sum(part.bytes for part in parts)
        return TableUse(self._bucket.uri(TABLES).rstrip("/"), len(parts), size, None)

    def trim(self) -> None:
        """Do nothing: there is no limit, and builds remove what is old."""

    def clear(self, *, shared: bool = False) -> None:
        """Remove everything on this machine; with `shared` in the bucket, too."""
        if shared:
            self._bucket.remove([each.key for each in self._bucket.list(TABLES)])
        super().clear()
        self._folders.clear()

    def join(self, feed: FeedTable) -> None:
        """Join what many have published of a feed, so that a query needs few requests.

        Raises
        ------
        StoreError
            If the bucket cannot be read or written.
        """
        self._folder_of(feed).join()

    def _folder_of(self, feed: FeedTable) -> BucketFolder:
        with self._lock_of_folders:
            if feed.table not in self._folders:
                self._folders[feed.table] = BucketFolder(
                    self._bucket, feed.table, meaning_of(feed), self._index
                )
            return self._folders[feed.table]

    def _feed_folders(self) -> list[FeedFolder]:
        keys = (each.key.removeprefix(TABLES) for each in self._bucket.list(TABLES))
        names = sorted({key.partition("/")[0] for key in keys})
        return [BucketFolder(self._bucket, name, None, self._index) for name in names]


def publish_tables(spool_root: Path, bucket: Bucket, stamps: Mapping[str, Stamp]) -> int:
    """Upload the tables of a local store whose files were uploaded before, and commit them.

    A kill at any moment leaves nothing wrong: parts are listed once all of them have arrived.

    Parameters
    ----------
    spool_root : Path
        The local store; its tables stay as they are, but for a file of entries beside each part.
    bucket : Bucket
    stamps : mapping of str to Stamp
        The stamps of the uploaded objects, by their paths; files without one are left out.

    Returns
    -------
    int
        Files whose rows are in the published tables.

    Raises
    ------
    StoreError
        If something did not arrive. Feeds that were committed before stay.
    """
    count = 0
    folders = spool_root / _LOCAL
    for path in sorted(folders.iterdir()) if folders.is_dir() else ():
        folder, prefix = FeedFolder(path, None), f"{TABLES}{path.name}/"
        manifest = folder.load()
        files: dict[str, Path] = {}
        added: list[Part] = []
        for part in manifest.parts:
            if (published := _published(folder, part, stamps)) is not None:
                added.append(published)
                files[folder.data(published.name).name] = folder.data(part.name)
                files[folder.entries(published.name).name] = folder.entries(published.name)
        if added:
            publish(bucket, prefix, files, manifest.meaning, added, ())
            # Queries read many commits as well as few, only more slowly.
            with suppress(StoreError):
                join_similar(bucket, prefix)
            count += sum(part.files for part in added)
    return count


def _published(folder: FeedFolder, part: Part, stamps: Mapping[str, Stamp]) -> Part | None:
    """Write the entries of a part with other stamps; None if none of its files has one."""
    opened = folder.open_entries(part)
    entries = pl.concat(
        [
            pl.DataFrame(opened.decode(group, STORED_SCHEMA.names())).cast(STORED_SCHEMA)
            for group in range(len(opened.starts) - 1)
        ]
        or [STORED_SCHEMA.to_frame()]
    )
    rows = [(path, *stamps[path]) for path in entries["path"] if path in stamps]
    if not rows:
        return None
    fields = dict.fromkeys(Stamp._fields, pl.Int64)
    new = pl.DataFrame(rows, {"path": pl.String, **fields}, orient="row")
    entries = (
        entries.drop(Stamp._fields)
        .join(new, on="path", how="inner", maintain_order="left")
        .select(STORED_SCHEMA.names())
    )
    name = f"{part.period or 'all'}-{new_id()}"
    path = folder.entries(name)
    write_entries(path, entries)
    return part._replace(
        name=name,
        files=entries.height,
        entries_size=path.stat().st_size,
        entries_crc=footer_crc(path),
        first_symbol=min(entries["symbol"].to_list()),
        last_symbol=max(entries["symbol"].to_list()),
    )
