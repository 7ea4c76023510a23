"""The list of the parts of a feed's tables: a generation that is committed in one step.

A part is a Parquet file with the rows of many files, and beside it its entries: one row for each
file. Neither changes once it is listed. A manifest that is damaged, or that was written for
another format or another meaning of the feed, lists nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from binance_archive_kit.reading.feed_table import FeedTable

#: Format of the tables. Those of another format are ignored and removed.
FORMAT = 1
_MANIFEST = "manifest.json"
_ENTRIES = ".entries.parquet"
_ROWS = ".rows.parquet"
#: Bytes at the end of a Parquet file: the length of its footer, and a magic number.
_TAIL = 8


@dataclass(frozen=True, slots=True)
class Checked:
    """The size of a Parquet file, and the CRC-32 of its footer; its pages have their own."""

    bytes: int
    crc: int

    @classmethod
    def of(cls, path: Path) -> Checked:
        """Read the footer of a file that was just written."""
        with pa.OSFile(str(path)) as file:
            return cls(file.size(), _footer_crc(file))

    def is_of(self, file: pa.NativeFile) -> bool:
        """Return whether an open file has this size and footer."""
        return bool(file.size() == self.bytes) and _footer_crc(file) == self.crc


def _footer_crc(file: pa.NativeFile) -> int:
    size = file.size()
    tail = file.read_at(_TAIL, max(size - _TAIL, 0))
    length = min(int.from_bytes(tail[:4], "little") + _TAIL, size)
    return zlib.crc32(file.read_at(length, size - length))


@dataclass(frozen=True, slots=True)
class Part:
    """A Parquet file with the rows of many files, and its entries.

    Attributes
    ----------
    name : str
        Unique, never used again.
    period : str
        The months it is for: ``""`` for all, a year, or ``yyyy-mm``.
    rows, files : int
    first, last : str
        First and last UTC day that its files cover, ``yyyy-mm-dd``, both inclusive.
    data, entries : Checked
        The two files.
    """

    name: str
    period: str
    rows: int
    files: int
    first: str
    last: str
    data: Checked
    entries: Checked

    @property
    def bytes(self) -> int:
        """Bytes of the two files."""
        return self.data.bytes + self.entries.bytes

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Part:
        """Build a part from its JSON."""
        data, entries = Checked(**fields.pop("data")), Checked(**fields.pop("entries"))
        return cls(**fields, data=data, entries=entries)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of a feed's tables, the oldest first.

    Attributes
    ----------
    generation : int
        Raised by each commit; 0 if there are no tables.
    parts : tuple of Part
    meaning : str or None
        Digest of what the feed's rows mean; None if there are no tables.
    """

    generation: int = 0
    parts: tuple[Part, ...] = ()
    meaning: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """The names of the parts."""
        return frozenset(part.name for part in self.parts)


class FeedFolder:
    """The folder with the tables of one feed. Nothing is created before the first commit.

    Parameters
    ----------
    path : Path
    meaning : str or None
        Digest of what the feed's rows mean; None accepts any.
    """

    def __init__(self, path: Path, meaning: str | None) -> None:
        self.path = path
        self._meaning = meaning

    @classmethod
    def of(cls, root: Path, feed: FeedTable) -> FeedFolder:
        """Return the folder of a feed."""
        return cls(root / feed.table, meaning_of(feed))

    def data(self, name: str) -> Path:
        """Return the path of a part's rows."""
        return self.path / f"{name}{_ROWS}"

    def entries(self, name: str) -> Path:
        """Return the path of a part's entries."""
        return self.path / f"{name}{_ENTRIES}"

    def stamp(self) -> tuple[int, int, int] | None:
        """Return what changes with each commit; None if there is no manifest."""
        try:
            stat = (self.path / _MANIFEST).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def load(self) -> Manifest:
        """Read the manifest; an empty one if it is missing, damaged or foreign."""
        try:
            content = json.loads((self.path / _MANIFEST).read_bytes())
            crc = content.pop("crc")
            meaning, form = content["meaning"], content["format"]
            if crc != _crc(content) or form != FORMAT or self._meaning not in (None, meaning):
                return Manifest()
            parts = tuple(map(Part.parse, content["parts"]))
            return Manifest(content["generation"], parts, meaning)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Manifest()

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
            if parts == manifest.parts or self.commit(manifest.generation, parts):
                break
        self._remove(manifest.names & frozenset(old))

    def commit(self, generation: int, parts: tuple[Part, ...]) -> bool:
        """Replace a generation of the manifest; return False if it is no longer the latest."""
        with self._lock("commit"):
            old = self.load()
            if old.generation != generation:
                return False
            content = {
                "format": FORMAT,
                "meaning": self._meaning or old.meaning,
                "generation": generation + 1,
                "parts": [asdict(part) for part in parts],
            }
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
        """Become the only builder; False if another one is at work and `wait` is false."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self._lock("build")
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def sweep(self) -> None:
        """Remove files that no manifest lists. Only for the builder: they are of dead ones."""
        with self._lock("commit"):
            names = self.load().names
            listed = {path.name for name in names for path in (self.data(name), self.entries(name))}
            for path in self.path.iterdir():
                if path.suffix != ".lock" and path.name not in listed | {_MANIFEST}:
                    with suppress(OSError):
                        path.unlink()

    def _remove(self, names: frozenset[str]) -> None:
        """Remove the files of parts that are no longer listed."""
        for name in names:
            for path in (self.data(name), self.entries(name)):
                # What another process has open on Windows, the next build removes.
                with suppress(OSError):
                    path.unlink()

    def _lock(self, name: str) -> FileLock:
        # The system frees it when its process ends, in whatever way.
        return FileLock(self.path / f"{name}.lock", thread_local=False)


def _crc(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def meaning_of(feed: FeedTable) -> str:
    """Return a digest of what decides which rows a file of a feed has."""
    columns = [
        (column.name, column.column, column.dtype, column.unit, column.dropped)
        for column in feed.schema.columns
    ]
    time = feed.schema.time.model_dump_json(exclude={"description"})
    types = feed.arrow.to_string()
    description = f"{columns} {feed.schema.header} {feed.schema.sorted} {time} {types}"
    return hashlib.sha256(description.encode()).hexdigest()[:32]
