"""The cache of a store: its columnar tables, and what is known of its files.

All of it can be rebuilt from the zips, so the folder may be deleted at any time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.errors import warn_user
from binance_archive_kit.paths import nearest_folder, user_cache
from binance_archive_kit.query.known_files import KnownFiles
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.tables.bucket_tables import BucketTables
from binance_archive_kit.tables.tables import Tables, TableUse

#: Bytes that the tables of a store may take.
DEFAULT_LIMIT = 20 << 30
_TABLES = "tables"
#: Beginnings of the names of folders in caches of older versions: months of a feed, and what
#: lay under the name of a database.
_OLD_FOLDERS = (*(f"{market}_" for market in Market), "facts.")
#: Names in a message.
_NAMED = 3


class StoreCache:
    """The cache of one store.

    Parameters
    ----------
    store : BaseStore
        The cache lies in its private folder; in the user's own cache folder if that cannot be
        written to. The tables of a store in object storage lie there.
    keep : bool
        Whether anything is written to disk; if not, statistics live as long as this object.
    limit : int
        Bytes that all tables together may take; the least recently used ones go first.

    Attributes
    ----------
    folder : Path or None
    known : KnownFiles
    tables : Tables
    is_shared : bool
        Whether others read the tables too: then they are built on request only.
    """

    def __init__(self, store: BaseStore, *, keep: bool = True, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = _folder_of(store) if keep else None
        self.is_shared = isinstance(store, BucketStore)
        self._has_old = True
        self.known = KnownFiles(self.folder)
        if self.folder is not None and isinstance(store, BucketStore):
            self.tables: Tables = BucketTables(store.bucket, self.folder / _TABLES)
        else:
            self.tables = Tables(self.folder and self.folder / _TABLES, limit)

    def use(self) -> TableUse:
        """Return the number and size of the tables' files."""
        return self.tables.use()

    def remove_old(self) -> None:
        """Remove what older versions of this package have cached; looks for it once."""
        if not self._has_old or self.folder is None:
            return
        self._has_old = False
        removed = self.known.remove_older_versions()
        with suppress(OSError):
            for path in sorted(self.folder.iterdir()):
                if path.is_dir() and path.name.startswith(_OLD_FOLDERS):
                    shutil.rmtree(path, ignore_errors=True)
                    removed.append(path.name)
        if removed:
            more = f" and {len(removed) - _NAMED:,} more" if removed[_NAMED:] else ""
            warn_user(
                f"{self.folder}: removed what an older version of this package had cached "
                f"({', '.join(removed[:_NAMED])}{more}). Nothing was lost: it is read from the "
                "store's files again"
            )

    def join_tables(self, feeds: Iterable[FeedTable]) -> None:
        """Join what many workers have published of feeds, so that a query needs few requests.

        Raises
        ------
        StoreError
            If the bucket cannot be read or written.
        """
        if isinstance(self.tables, BucketTables):
            for feed in feeds:
                self.tables.join(feed)

    def clear(self, *, shared: bool = False) -> None:
        """Forget and delete everything that is on this machine.

        Parameters
        ----------
        shared : bool
            Delete the tables in a bucket too, which all machines read. They are built again from
            the files, by `build`.
        """
        self.known.clear()
        self.tables.clear(shared=shared)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _folder_of(store: BaseStore) -> Path:
    """Return a folder that can be written to: in the store, else in the user's cache folder."""
    beside = store.private / "cache"
    if os.access(nearest_folder(beside), os.W_OK):
        return beside
    return user_cache(str(store.root))
