"""The interface of a store, in a local folder or in object storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

import polars as pl

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import Folder
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder, SymbolTest, any_symbol
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.storage.records import Locations, Records
from binance_archive_kit.storage.staging import staging_folder


class BaseInventory(Protocol):
    """The files of a store, by feed; safe for several threads."""

    def feeds(self) -> list[tuple[Market, DataType]]:
        """Return the feeds that may have files, in the order of the enums."""

    def names(
        self, market: Market, data_type: DataType, symbols: SymbolTest = any_symbol
    ) -> list[Folder]:
        """Return the folders of a feed that have files.

        Parameters
        ----------
        market : Market
        data_type : DataType
        symbols : callable, optional
            Returns whether a symbol is needed; all by default.
        """

    def folders(
        self,
        market: Market,
        data_type: DataType,
        symbols: SymbolTest = any_symbol,
        matches: Callable[[Folder], bool] = lambda folder: True,
        needed: Callable[[Folder], Callable[[str], bool]] | None = None,
    ) -> list[StoredFolder]:
        """Return the folders of a feed that have files, in the order of their names.

        Parameters
        ----------
        market : Market
        data_type : DataType
        symbols : callable, optional
            Returns whether a symbol is needed; all by default.
        matches : callable, optional
            Returns whether a folder of these symbols is needed; all by default.
        needed : callable, optional
            Returns for a folder the test whether a file in it is needed, by its name; all are by
            default. The stamps of other files may be older.
        """

    def frame(self, prefixes: Iterable[str], keys: Iterable[str] = ()) -> pl.DataFrame:
        """Return the zips below some prefixes as of now, and their recorded proofs.

        Parameters
        ----------
        prefixes : iterable of str
            Each ending in ``/``.
        keys : iterable of str
            The objects below them that are needed. If a storage decides the locations, only
            these are found.

        Returns
        -------
        polars.DataFrame
            One row per file, with `INVENTORY_SCHEMA`.
        """


class BaseStore(ABC):
    """What a store in a folder and one in object storage have in common.

    Attributes
    ----------
    root : Path or str
        The folder, or the URL as text.
    private : Path
        A local folder for what can be rebuilt.
    records : Records
        Files that were proven, placed elsewhere, or found missing in the archive.
    locations : Locations
        Paths of files inside the store.
    inventory : BaseInventory
        Files in the store.
    """

    root: Path | str
    private: Path
    records: Records
    locations: Locations
    inventory: BaseInventory

    @abstractmethod
    def path(self, key: str) -> Path | str:
        """Return the final path, or URL, of the object with this key."""

    @abstractmethod
    def read_file(self, file: StoredFile) -> bytes:
        """Read a file at once.

        Raises
        ------
        OSError
            If it is gone, or cannot be read.
        ChangedFile
            If it is another object than the proven one.
        StoreError
            If object storage cannot be reached.
        """

    def fetch(self, files: Sequence[StoredFile]) -> Mapping[str, bytes | Exception]:
        """Read files ahead, if that takes less time than reading them one by one.

        Returns
        -------
        mapping of str to bytes or Exception
            By their keys; what `read_file` would return or raise. Empty if they are to be read
            one by one.
        """
        return {}

    def checking(self, digests: Mapping[str, str]) -> BaseStore:
        """Return this store, or one that compares what it reads whole with SHA-256 digests.

        Parameters
        ----------
        digests : mapping of str to str
            In hex, by the paths of files.
        """
        return self

    @abstractmethod
    def open_file(self, file: StoredFile) -> BinaryIO:
        """Open a file for reading at any place; raises as `read_file` does."""

    @abstractmethod
    def stamp(self, file: StoredFile) -> Stamp:
        """Return the stamp that a file has now, without asking a bucket; raises as `read_file`."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Return the bytes that still fit into the store; None without a limit."""

    @abstractmethod
    def quarantined(self, prefix: str) -> dict[str, str]:
        """Return the reasons why objects below a prefix have bytes in quarantine, by key."""

    @abstractmethod
    def collected(self) -> set[str]:
        """Return the keys of all files that were ever proven or quarantined in this store.

        Reads no file; the files may have changed, or gone, since then.
        """

    def staging(self) -> AbstractContextManager[Path]:
        """Yield a private local folder for downloads; removes those of killed runs first."""
        return staging_folder(self.private / "staging")
