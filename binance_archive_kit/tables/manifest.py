"""The list of the parts of a feed's tables: a generation that is committed in one step.

A part is a Parquet file with the rows of many files, and beside it its entries: one row for each
file. Neither changes once it is listed. A manifest that is damaged, or that was written for
another format or another meaning of the feed, lists nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from binance_archive_kit.errors import warn_user
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.tables.row_reader import OpenFile

#: Another number if files are read, or tables are written, differently than before. Tables of
#: another format are ignored and removed.
FORMAT = 1
_MANIFEST = "manifest.json"
#: The column with the name of the part in entries of several parts.
PART_NAME = "part_name"


class Part(NamedTuple):
    """A Parquet file with the rows of many files, and its entries.

    Attributes
    ----------
    name : str
        Unique, never used again.
    period : str
        The days of its files begin with it: ``""``, a year, or ``yyyy-mm``.
    rows, files : int
    first, last : str
        First and last UTC day that its files cover, ``yyyy-mm-dd``, both inclusive.
    data_size, data_crc : int
        Bytes of the rows, and the CRC-32 of the Parquet footer; pages have their own.
    entries_size, entries_crc : int
        The same of the entries.
    first_symbol, last_symbol : str
        Between these, both inclusive, are its symbols; empty if that is not known.
    """

    name: str
    period: str
    rows: int
    files: int
    first: str
    last: str
    data_size: int
    data_crc: int
    entries_size: int
    entries_crc: int
    first_symbol: str = ""
    last_symbol: str = ""

    def may_have(self, symbols: Collection[str]) -> bool:
        """Return whether it may have files of some symbols."""
        first, last = self.first_symbol, self.last_symbol
        return not last or any(first <= symbol <= last for symbol in symbols)

    @property
    def bytes(self) -> int:
        """Bytes of both files."""
        return self.data_size + self.entries_size


class Manifest(NamedTuple):
    """The parts of a feed's tables, the oldest first.

    Attributes
    ----------
    generation : int
        Raised by each commit; 0 if there are no tables.
    meaning : str or None
        Digest of what decides which rows a file has.
    parts : tuple of Part
    """

    generation: int = 0
    meaning: str | None = None
    parts: tuple[Part, ...] = ()


class EntryFile(NamedTuple):
    """A file with the entries of some parts, and perhaps of others.

    Attributes
    ----------
    parts : tuple of Part
    open : callable
        Opens it; an `UnreadableFile` if it is damaged or gone. With entries of several parts, it
        has a further column, `PART_NAME`.
    """

    parts: tuple[Part, ...]
    open: Callable[[], OpenFile]


class FeedFolder:
    """The folder with the tables of one feed. The first build creates it.

    Parameters
    ----------
    path : Path
    meaning : str or None
        Of the feed. None accepts any.

    Attributes
    ----------
    requests : int
        Parts that are opened at the same time.
    merges_all : bool
        Whether a build merges all small parts, and not only many of a similar size.
    most_on_disk : int
        Bytes of new parts that are on the disk of this machine at most.
    """

    requests = 1
    merges_all = False
    most_on_disk = sys.maxsize

    def __init__(self, path: Path, meaning: str | None) -> None:
        self.path = path
        self._meaning = meaning

    @classmethod
    def of(cls, root: Path, feed: FeedTable) -> FeedFolder:
        """Return the folder of a feed."""
        return cls(root / feed.table, meaning_of(feed))

    def data(self, name: str) -> Path:
        """Return the path of a part's rows."""
        return self.path / f"{name}.rows.parquet"

    def entries(self, name: str) -> Path:
        """Return the path of a part's entries."""
        return self.path / f"{name}.entries.parquet"

    def open_data(self, part: Part) -> OpenFile:
        """Open the rows of a part; an `UnreadableFile` if they are damaged or gone."""
        return OpenFile(self.data(part.name), part.data_size, part.data_crc)

    def open_entries(self, part: Part) -> OpenFile:
        """Open the entries of a part; an `UnreadableFile` if they are damaged or gone."""
        return OpenFile(self.entries(part.name), part.entries_size, part.entries_crc)

    def entry_files(self, parts: Sequence[Part]) -> list[EntryFile]:
        """Return the files with the entries of some parts."""
        return [EntryFile((part,), partial(self.open_entries, part)) for part in parts]

    def stamp(self) -> object:
        """Return what changes with each commit; None without a manifest."""
        with suppress(OSError):
            stat = (self.path / _MANIFEST).stat()
            return stat.st_mtime_ns, stat.st_ino, stat.st_size
        return None

    def load(self) -> Manifest:
        """Read the manifest; an empty one if it is missing, damaged or foreign."""
        with suppress(KeyError, TypeError, AttributeError):
            content = self._content()
            meaning, parts = content["meaning"], tuple(Part(*part) for part in content["parts"])
            if content["format"] == FORMAT and self._meaning in (None, meaning):
                return Manifest(content["generation"], meaning, parts)
        return Manifest(meaning=self._meaning)

    def _content(self) -> dict[str, Any]:
        """Return the content of a manifest of any version; empty if it is missing or damaged."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            content: dict[str, Any] = json.loads((self.path / _MANIFEST).read_bytes())
            if content.pop("crc") == _crc(content):
                return content
        return {}

    @property
    def is_newer(self) -> bool:
        """Whether the tables are those of a newer version, which are neither read nor changed."""
        found = self._content().get("format")
        return isinstance(found, int) and found > FORMAT

    def replace(self, old: Collection[str], new: Sequence[Part]) -> None:
        """List new parts instead of some old ones, whatever other processes commit meanwhile.

        Raises
        ------
        OSError
            If the manifest cannot be written.
        """
        while True:
            manifest = self.load()
            parts = (*(part for part in manifest.parts if part.name not in old), *new)
            if parts == manifest.parts or self.commit(
                manifest.generation, manifest._replace(parts=parts)
            ):
                break
        for name in {part.name for part in manifest.parts} & {*old}:
            self.remove(name)

    def commit(self, old_generation: int, manifest: Manifest) -> bool:
        """Replace a generation of the manifest; return False if it is no longer the latest."""
        with self._lock("commit"):
            if self.load().generation != old_generation:
                return False
            content = manifest._replace(generation=old_generation + 1)._asdict()
            content["format"] = FORMAT
            new = self.path / f"{uuid.uuid4().hex[:8]}.new"
            try:
                with new.open("w", encoding="utf-8") as file:
                    json.dump({**content, "crc": _crc(content)}, file)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(self.path / _MANIFEST)
            finally:
                new.unlink(missing_ok=True)
        return True

    @contextmanager
    def building(self, *, wait: bool) -> Iterator[bool]:
        """Become the only builder, and remove what dead ones have left behind.

        Gives False if the tables are of a newer version, or if another builder is at work,
        unless `wait` is true.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with self._lock("build").acquire(timeout=-1 if wait else 0):
                is_ours = not self.is_newer
                if is_ours:
                    self._sweep()
                yield is_ours
        except Timeout:
            yield False

    def remove(self, name: str) -> None:
        """Remove the files of a part that is not listed."""
        for path in (self.data(name), self.entries(name)):
            # What another process has open on Windows, the next build removes.
            with suppress(OSError):
                path.unlink()

    def _sweep(self) -> None:
        """Remove files that the manifest does not list."""
        with self._lock("commit"):
            listed = {part.name for part in self.load().parts}
            if not listed and self._content().get("parts"):
                warn_user(
                    f"{self.path.parent}: removed tables that another version of this package had "
                    "written, as it reads files differently. Nothing was lost: they are built "
                    "from the store's files again"
                )
            kept = {*listed, _MANIFEST.partition(".")[0]} if listed else listed
            for path in self.path.iterdir():
                if path.suffix != ".lock" and path.name.partition(".")[0] not in kept:
                    with suppress(OSError):
                        path.unlink()

    def _lock(self, name: str) -> FileLock:
        # The system frees it when its process ends, in whatever way.
        return FileLock(self.path / f"{name}.lock", thread_local=False)


def _crc(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


@cache
def meaning_of(feed: FeedTable) -> str:
    """Return a digest of what decides which rows a file has."""
    columns = [
        (column.name, column.column, column.dtype, column.unit, column.dropped)
        for column in feed.schema.columns
    ]
    time = feed.schema.time.model_dump_json(exclude={"description"})
    types = feed.arrow.to_string()
    description = f"{columns} {feed.schema.header} {feed.schema.sorted} {time} {types}"
    return hashlib.sha256(description.encode()).hexdigest()[:32]
