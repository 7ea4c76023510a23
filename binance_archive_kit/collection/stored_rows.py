"""Rows that are kept in memory while they are few, and in Parquet files once they are many."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar, overload

import polars as pl

from binance_archive_kit.errors import disk_error
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.layout import PRIVATE

T = TypeVar("T")

#: Rows of one Parquet file, and most rows in memory in all.
PART = 100_000
#: Frames in memory, each of which takes 20 KB however few its rows are.
_MOST_FRAMES = 100


class DetailFiles(Protocol):
    """A place for Parquet files; picklable."""

    @property
    def where(self) -> str:
        """The folder or URL, for messages."""

    def write(self, name: str, frame: pl.DataFrame) -> None:
        """Write a new file."""

    def read(self, name: str) -> pl.DataFrame:
        """Read a file."""

    def remove(self, name: str) -> None:
        """Remove a file."""


@dataclass(frozen=True, slots=True)
class LocalDetail:
    """Parquet files in a local folder, which is made with the first one."""

    folder: Path

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    def write(self, name: str, frame: pl.DataFrame) -> None:
        """Write a new file, whole under its name."""
        temporary = self.folder / f".{name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(temporary)
            temporary.replace(self.folder / name)
        except OSError as error:
            raise disk_error(error, self.folder) from None

    def read(self, name: str) -> pl.DataFrame:
        """Read a file."""
        return pl.read_parquet(self.folder / name, memory_map=False)

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.folder / name).unlink()


@dataclass(frozen=True, slots=True)
class BucketDetail:
    """Parquet files below a prefix of a bucket."""

    bucket: Bucket
    prefix: str

    @property
    def where(self) -> str:
        """The URL of the files."""
        return f"{self.bucket.url}/{self.prefix}"

    def write(self, name: str, frame: pl.DataFrame) -> None:
        """Write a new file."""
        data = io.BytesIO()
        frame.write_parquet(data)
        self.bucket.write(f"{self.prefix}/{name}", data.getvalue())

    def read(self, name: str) -> pl.DataFrame:
        """Read a file."""
        return pl.read_parquet(io.BytesIO(self.bucket.read(f"{self.prefix}/{name}")))

    def remove(self, name: str) -> None:
        """Remove a file."""
        self.bucket.remove([f"{self.prefix}/{name}"])


def detail_files(place: Path | str, run: str) -> DetailFiles:
    """Return the place for the Parquet files of a run, in the private folder of its store."""
    if isinstance(place, str):
        return BucketDetail(Bucket.parse(place), f"{PRIVATE}/results/{run}")
    return LocalDetail(place.absolute() / PRIVATE / "results" / run)


@dataclass(slots=True)
class StoredRows:
    """Rows of one kind.

    Attributes
    ----------
    kind : str
        The beginning of the files' names.
    column : str
        The column by whose values rows are counted and chosen.
    schema : polars.Schema
    counts : Counter of str
        Rows by value of the column.
    """

    kind: str
    column: str
    schema: pl.Schema
    counts: Counter[str] = field(default_factory=Counter)
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _held: int = 0
    _parts: list[tuple[str, Counter[str]]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, frame: pl.DataFrame) -> None:
        """Add rows."""
        if frame.height:
            self._frames.append(frame)
            if len(self._frames) > _MOST_FRAMES:
                self._frames = [pl.concat(self._frames, rechunk=True)]
            self._held += frame.height
            self.counts += count_values(frame[self.column])

    @property
    def held(self) -> int:
        """The number of rows in memory."""
        return self._held

    def flush(self, files: DetailFiles) -> None:
        """Write the rows in memory to a file."""
        if self._held:
            frame = pl.concat(self._frames)
            name = f"{self.kind}-{len(self._parts):06}.parquet"
            files.write(name, frame)
            self._parts.append((name, count_values(frame[self.column])))
            self._frames, self._held = [], 0

    def frames(self, files: DetailFiles) -> Iterator[pl.DataFrame]:
        """Yield all rows, file by file, then those in memory."""
        yield from (files.read(name) for name, _ in self._parts)
        yield from self._frames

    def remove(self, files: DetailFiles) -> None:
        """Remove the files."""
        for name, _ in self._parts:
            files.remove(name)

    def drain(self, files: DetailFiles) -> Iterator[pl.DataFrame]:
        """Yield all rows, and remove each file after its rows have been used."""
        for name, _ in self._parts:
            yield files.read(name)
            files.remove(name)
        yield from self._frames

    def frame(self, files: DetailFiles) -> pl.DataFrame:
        """Return all rows."""
        return pl.concat([pl.DataFrame(schema=self.schema), *self.frames(files)])

    def view(
        self, files: DetailFiles, values: Sequence[str], build: Callable[[pl.DataFrame], list[T]]
    ) -> StoredSequence[T]:
        """Return the rows with some values of the column, once all are in files."""
        parts = [(name, sum(counts[v] for v in values)) for name, counts in self._parts]
        reasons = Counter({value: self.counts[value] for value in values if self.counts[value]})
        filled = [(name, count) for name, count in parts if count]
        return StoredSequence(files, filled, self.column, tuple(values), build, reasons)


def count_values(values: pl.Series) -> Counter[str]:
    """Count the values of a column, as text."""
    counted = values.cast(pl.String).value_counts()
    return Counter(dict(counted.iter_rows()))


@dataclass(frozen=True, slots=True)
class StoredSequence(Sequence[T], Generic[T]):
    """Entries that are read from Parquet files on access, one file at a time; picklable.

    Attributes
    ----------
    reasons : mapping of str to int
        The number of entries by value of the column that chose them.
    """

    _files: DetailFiles
    _parts: Sequence[tuple[str, int]]
    _column: str
    _values: tuple[str, ...]
    _build: Callable[[pl.DataFrame], list[T]]
    reasons: Mapping[str, int]

    def __len__(self) -> int:
        return sum(count for _, count in self._parts)

    def __iter__(self) -> Iterator[T]:
        for name, _ in self._parts:
            yield from self._build(self._rows(name))

    def _rows(self, name: str) -> pl.DataFrame:
        frame = self._files.read(name)
        return frame.filter(pl.col(self._column).cast(pl.String).is_in(self._values))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, int):
            chosen = range(len(self))[index]
            return self._slice(chosen, chosen + 1)[0]
        start, stop, step = index.indices(len(self))
        if step < 0:
            return self._slice(stop + 1, start + 1)[::-1][::-step]
        return self._slice(start, stop)[::step]

    def _slice(self, start: int, stop: int) -> list[T]:
        """Return the entries from one position to another, exclusive."""
        found: list[T] = []
        before = 0
        for name, count in self._parts:
            first, last = max(start - before, 0), min(stop - before, count)
            if first < last:
                found += self._build(self._rows(name)[first:last])
            before += count
        return found

    def __repr__(self) -> str:
        return f"<{len(self):,} entries in {self._files.where}>"
