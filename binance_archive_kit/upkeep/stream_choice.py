"""Choose the folders of a store: by market, data type, symbols, intervals and partition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from binance_archive_kit.archive.enums import (
    DataType,
    Market,
    Partition,
    read_interval,
    read_market,
    read_names,
)
from binance_archive_kit.archive.schemas import read_feed
from binance_archive_kit.errors import ConfigurationError, field_error, shown
from binance_archive_kit.planning.selection import named
from binance_archive_kit.query.open_store import OpenStore, Source
from binance_archive_kit.storage import places
from binance_archive_kit.storage.base_store import BaseInventory, BaseStore
from binance_archive_kit.storage.inventory import StoredFolder
from binance_archive_kit.storage.layout import BaseStorage
from binance_archive_kit.storage.places import store_at
from binance_archive_kit.storage.store import Store
from binance_archive_kit.suggestions import check_word, nearest, unknown


@dataclass(frozen=True, slots=True)
class StreamChoice:
    """Which streams of a store are meant; None means all.

    Attributes
    ----------
    market, data_type : str or None
    symbols : str, iterable of str or None
        Names, and patterns such as ``"*USDT"``.
    intervals : str, iterable of str or None
        Leaves out feeds without intervals.
    partition : str or None
    """

    market: str | None = None
    data_type: str | None = None
    symbols: str | Iterable[str] | None = None
    intervals: str | Iterable[str] | None = None
    partition: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return all(getattr(self, each.name) is None for each in fields(self))

    def folders(self, inventory: BaseInventory) -> list[StoredFolder]:
        """Return the chosen folders, with their files.

        Raises
        ------
        ConfigurationError
            If a value is invalid, or the store has no file of a feed, a symbol or an interval.
        """
        intervals = None
        if self.intervals is not None:
            intervals = {read_interval(word) for word in read_names("intervals", self.intervals)}
        if self.partition is not None:
            check_word("partition", self.partition, [*Partition])
        found = [
            folder
            for feed in self._feeds(inventory.feeds())
            for folder in inventory.folders(*feed)
            if self.partition in (None, folder.folder.partition)
        ]
        if intervals is not None:
            for word in sorted(intervals.difference(each.folder.interval for each in found)):
                raise field_error("intervals", f"the store has no file with the interval {word}")
            found = [each for each in found if each.folder.interval in intervals]
        if self.symbols is not None:
            names = self._names({each.folder.symbol for each in found})
            found = [each for each in found if each.folder.symbol in names]
        return found

    def _feeds(self, stored: Sequence[tuple[Market, DataType]]) -> list[tuple[Market, DataType]]:
        """Return the chosen feeds of those in the store."""
        market = None if self.market is None else read_market(self.market)
        data_type = self.data_type
        if data_type is not None and not isinstance(data_type, str):
            kinds = sorted({kind for _, kind in stored})
            raise ConfigurationError(unknown("data_type", data_type, kinds))
        if market is not None and data_type is not None:
            data_type = read_feed(market, data_type)[1]
        found = [
            (owner, kind)
            for owner, kind in stored
            if market in (None, owner) and data_type in (None, kind)
        ]
        if not found and (market or data_type):
            wanted = " ".join(str(word) for word in (market, data_type) if word)
            others = ", ".join(f"{owner} {kind}" for owner, kind in stored)
            raise field_error(
                "data_type" if data_type else "market",
                f"the store has no {wanted}; it has {others or 'nothing'}",
                label="",
            )
        return found

    def _names(self, stored: set[str]) -> set[str]:
        """Return the chosen symbols of those in the store."""
        assert self.symbols is not None  # noqa: S101 for the type checker
        names = named(read_names("symbols", self.symbols), stored)
        for name in sorted(names - stored):
            guess = nearest(name, sorted(stored))
            hint = f"; did you mean {guess!r}?" if guess else ""
            raise field_error("symbols", f"the store has no file of {shown(name)}{hint}")
        return names


def open_store(source: Source, storage: BaseStorage | None = None) -> BaseStore:
    """Return the store of a folder or URL, or of an open store.

    Raises
    ------
    ConfigurationError
        If there is no such store, or it is in object storage and a storage is given.
    """
    place = source.root if isinstance(source, OpenStore) else source
    return store_at(places.open_store(place).root, storage)


def open_folder(source: Source, what: str) -> Store:
    """Return the store of a folder, or of an open store.

    Parameters
    ----------
    source : str, Path or OpenStore
    what : str
        What needs a folder, for the message.

    Raises
    ------
    ConfigurationError
        If there is no such folder, or the store is in object storage.
    """
    store = open_store(source)
    if isinstance(store, Store):
        return store
    raise field_error(
        "store",
        f"{store.root} is in object storage, and {what} works on a local folder only; plan, "
        "collect, update, verify, connect, scan and coverage work there",
    )
