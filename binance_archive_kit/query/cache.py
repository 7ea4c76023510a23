"""What was read before: facts and contents of files, and months of rows as Parquet.

Everything here can be had again from the zips, so the folder may be deleted at any
moment. A month is kept under a name that its files' names and stamps give: when
one of them changes, arrives or goes, the name is another and the old file is unused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from binance_archive_kit.archive.keys import Folder, key_range
from binance_archive_kit.display import render
from binance_archive_kit.errors import ArchiveKitError, FileError, file_error
from binance_archive_kit.query.options import DEFAULT_LIMIT
from binance_archive_kit.reading.feed_table import PATH_COLUMNS, FeedTable
from binance_archive_kit.reading.file_stats import FileStats, FileTask, Irregularity
from binance_archive_kit.reading.flaws import format_flaws, parse_flaws
from binance_archive_kit.reading.profile import FileProfile
from binance_archive_kit.reading.runs import NO_RUNS, Run
from binance_archive_kit.storage.databases import (
    COUNT,
    FLAG,
    INTEGER,
    JSON,
    TEXT,
    Database,
    Kind,
    Table,
)
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.stamps import Stamp

#: Changes when files are read in another way than before, so that nothing old is taken up.
_VERSION = 2
#: Rows in a group of a Parquet file: what one thread of a query takes at a time.
_ROW_GROUP = 122_880
#: Rows that tell whether a column's values repeat.
_SAMPLE = 20_000
_PART = ".part"
_DECIMAL = "decimal_"
_WORDS = [name for name in PATH_COLUMNS if name != "date"]
_FORM = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(dictionary_columns=_WORDS))
_SYSTEM = pafs.LocalFileSystem()
#: Returns the fields of facts as they are: `dataclasses.astuple` would copy each deeply. Without
#: the first and the last one, the stamp and the irregularities, which are stored in another form.
_FIELDS = attrgetter(*(field.name for field in fields(FileStats)[1:-1]))


_STAMP = {"size": COUNT, "mtime": INTEGER, "ctime": INTEGER, "inode": INTEGER}
#: Microseconds since 1970 of the years 1 to 9999; a time outside of them is invalid.
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
_MOMENT = Kind("INTEGER", f"({{0}} IS NULL OR {{0}} BETWEEN {_FIRST} AND {_LAST})")
_RUNS = Kind("BLOB", f"typeof({{0}}) = 'blob' AND length({{0}}) % {8 * NO_RUNS.shape[1]} = 0")
_FACTS = Table(
    {
        "key": TEXT,
        **_STAMP,
        "rows": COUNT,
        "first": _MOMENT,
        "last": _MOMENT,
        "in_order": FLAG,
        "inflated": COUNT,
        "checked": FLAG,
        "full": FLAG,
        "irregularities": TEXT,
    }
)
_REJECTIONS = Table({"key": TEXT, **_STAMP, "reason": TEXT, "place": TEXT, "detail": TEXT})
_TABLES = {
    "facts": _FACTS,
    f"{_DECIMAL}facts": _FACTS,
    "rejections": _REJECTIONS,
    f"{_DECIMAL}rejections": _REJECTIONS,
    "contents": Table(
        {
            "key": TEXT,
            **_STAMP,
            "rows": COUNT,
            "repeats": COUNT,
            "strays": COUNT,
            "in_order": FLAG,
            "longest": INTEGER,
            "runs": _RUNS,
            "flaws": TEXT,
        }
    ),
    "comparisons": Table({"key": TEXT, "name": TEXT, "found": JSON}),
}


class Rejection(NamedTuple):
    """A file that could not be read, as it was then, and why."""

    stamp: Stamp
    error: FileError


@dataclass(frozen=True, slots=True)
class CacheUse:
    """What the cache of a store takes.

    Attributes
    ----------
    folder : Path or None
        None when nothing is kept.
    months, bytes : int
        Parquet files, and what they take together.
    limit : int
        Bytes that they may take.
    """

    folder: Path | None
    months: int
    bytes: int
    limit: int

    def __str__(self) -> str:
        """Say it in one line."""
        if self.folder is None:
            return "Cache: nothing is kept"
        return (
            f"Cache: {self.months:,} months, {render.size(self.bytes)} of at most "
            f"{render.size(self.limit)}, in {self.folder}"
        )


class MonthCache:
    """Facts and months of one store.

    Parameters
    ----------
    root : Path
        The store's root. The cache lies in its private folder; in the user's own cache
        folder when the store cannot be written to.
    keep : bool
        Whether anything is kept on disk; if not, facts live as long as this object.
    limit : int
        Bytes that all months together may take; the least recently used ones go first.
    """

    def __init__(self, root: Path, *, keep: bool = True, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        #: By the name of a feed's table: as decimals, other files can be read.
        self._facts: dict[str, dict[str, FileStats]] = {}
        self._rejected: dict[str, dict[str, Rejection]] = {}
        #: The stamp of the database when rejections were last read from it.
        self._seen: dict[str, Stamp | None] = {}
        self._profiles: dict[str, dict[str, FileProfile]] = {}
        self._compared: dict[str, dict[str, tuple[str, str]]] = {}
        self._fragments: dict[Path, ds.Fragment] = {}
        # A scan that is dropped half-way remembers what it has seen, on whatever thread that is.
        self._lock = threading.RLock()
        self.folder = _place(root) if keep else None
        self._rows: Database | None = None
        if self.folder is not None:
            self._rows = Database(self.folder / f"facts.{_VERSION}.sqlite", _TABLES)

    # Facts

    def known(self, feed: FeedTable) -> dict[str, FileStats]:
        """Give what is known of the files of a feed, by their keys; it grows with time."""
        if feed.table not in self._facts:
            self.refresh(feed)
        return self._facts[feed.table]

    def refresh(self, feed: FeedTable) -> None:
        """Take in which files of a feed were rejected meanwhile, by any cache of the store."""
        with self._lock:
            seen = None if self._rows is None else self._rows.stamp()
            if feed.table in self._facts and seen == self._seen.get(feed.table):
                return
            self._seen[feed.table] = seen
            if feed.table not in self._facts:
                self._facts[feed.table] = dict(self._read_facts(feed))
            stats = self._facts[feed.table]
            rejected = self._rejected.get(feed.table, {}) | dict(self._read_rejections(feed))
            self._rejected[feed.table] = rejected
            # What was found out by a look at a part of a file does not count any more.
            if bad := {
                key
                for key, (stamp, _) in rejected.items()
                if key in stats and stats[key].stamp == stamp
            }:
                # Another mapping: what was chosen by the old one is to be chosen anew.
                good = {key: each for key, each in stats.items() if key not in bad}
                self._facts[feed.table] = good

    def remember(self, feed: FeedTable, stats: Mapping[str, FileStats]) -> None:
        """Keep facts for the next time; a cache that cannot be written to keeps them in memory."""
        if rejected := self.rejected(feed):
            # A look at a part of a file may end after another reader rejected it.
            stats = {
                key: each
                for key, each in stats.items()
                if key not in rejected or rejected[key].stamp != each.stamp
            }
        self.known(feed).update(stats)
        self._insert(
            _table("facts", feed),
            (
                (key, *each.stamp, *_FIELDS(each), ",".join(sorted(each.irregularities)))
                for key, each in stats.items()
            ),
        )

    def rejected(self, feed: FeedTable) -> Mapping[str, Rejection]:
        """Return the files of a feed that could not be read, by their keys."""
        if feed.table not in self._rejected:
            self.refresh(feed)
        return self._rejected[feed.table]

    def reject(self, feed: FeedTable, file: StoredFile, error: FileError) -> None:
        """Remember that a file cannot be read, and forget what was known of it."""
        self.known(feed)
        with self._lock:
            rejection = Rejection(file.stamp, error)
            self._rejected[feed.table] = self._rejected[feed.table] | {file.key: rejection}
            # Another mapping, as above.
            stats = self._facts[feed.table]
            self._facts[feed.table] = {key: each for key, each in stats.items() if key != file.key}
        said = (error.reason, error.file, error.detail)
        self._insert(_table("rejections", feed), [(file.key, *file.stamp, *said)])

    def _read_rejections(self, feed: FeedTable) -> Iterator[tuple[str, Rejection]]:
        for key, *stamp, reason, place, detail in self._select(_table("rejections", feed), feed):
            yield key, Rejection(Stamp(*stamp), file_error(reason, place, detail))

    def _read_facts(self, feed: FeedTable) -> Iterator[tuple[str, FileStats]]:
        for row in self._select(_table("facts", feed), feed):
            key, size, mtime, ctime, inode, rows, first, last, *flags, words = row
            in_order, inflated, checked, full = flags
            try:
                odd = frozenset(map(Irregularity, words.split(","))) if words else frozenset()
            except ValueError:
                # Written by another version, or damaged: the file is read again.
                continue
            yield (
                key,
                FileStats(
                    Stamp(size, mtime, ctime, inode),
                    rows,
                    first,
                    last,
                    bool(in_order),
                    inflated,
                    bool(checked),
                    bool(full),
                    odd,
                ),
            )

    # Contents

    def profiles(self, feed: FeedTable) -> dict[str, FileProfile]:
        """Return the remembered profiles of the files of a feed, by their keys."""
        with self._lock:
            if feed.table not in self._profiles:
                self._profiles[feed.table] = dict(self._read_profiles(feed))
            return self._profiles[feed.table]

    def remember_profiles(self, feed: FeedTable, profiles: Mapping[str, FileProfile]) -> None:
        """Remember profiles, and the statistics that come with them."""
        known = self.known(feed)
        new = {key: profile.stats for key, profile in profiles.items()}
        self.remember(feed, {key: stats for key, stats in new.items() if known.get(key) != stats})
        self.profiles(feed).update(profiles)
        rows = (
            (
                key,
                *c.stats.stamp,
                c.stats.rows,
                c.duplicates,
                c.off_grid,
                c.stats.sorted,
                c.longest_silence,
                _packed(c),
                format_flaws(c.flaws, c.standing),
            )
            for key, c in profiles.items()
        )
        self._insert("contents", rows)

    def _read_profiles(self, feed: FeedTable) -> Iterator[tuple[str, FileProfile]]:
        known = self.known(feed)
        found = self._select("contents", feed)
        if not _are_runs([row[-2] for row in found]):
            return
        for row in found:
            key, *stamp, _, duplicates, off_grid, _, longest, packed, odd = row
            stats = known.get(key)
            if stats is None or stats.stamp != Stamp(*stamp) or not stats.checked:
                continue
            # A row that was damaged is as good as none: its file is read again.
            with suppress(ValueError, TypeError):
                runs = np.frombuffer(packed, "<i8").astype(np.int64).reshape(-1, NO_RUNS.shape[1])
                yield (
                    key,
                    FileProfile(stats, duplicates, off_grid, longest, runs, *parse_flaws(odd)),
                )

    # Comparisons

    def compared(self, feed: FeedTable, month: str, files: Iterable[StoredFile]) -> str | None:
        """Give what a comparison of these very files has found; None if there was none.

        Parameters
        ----------
        feed : FeedTable
        month : str
            Key of the monthly file.
        files : iterable of StoredFile
            All that were compared.
        """
        with self._lock:
            if feed.view not in self._compared:
                rows = self._select("comparisons", feed)
                self._compared[feed.view] = {key: (name, found) for key, name, found in rows}
        name, found = self._compared[feed.view].get(month, ("", ""))
        return found if name == _name_of(files) else None

    def remember_compared(
        self, feed: FeedTable, month: str, files: Iterable[StoredFile], found: str
    ) -> None:
        """Keep what a comparison has found for the next time."""
        name = _name_of(files)
        self._compared.setdefault(feed.view, {})[month] = name, found
        self._insert("comparisons", [(month, name, found)])

    # All of them

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        # Skip building the rows when nothing is kept.
        if self._rows is None or not (built := list(rows)):
            return
        places = ",".join("?" * len(built[0]))
        with suppress(ArchiveKitError, OSError):
            self._rows.write(
                lambda connection: connection.executemany(
                    f"INSERT OR REPLACE INTO {table} VALUES ({places})",  # noqa: S608 -- our word
                    built,
                )
            )

    def _select(self, table: str, feed: FeedTable) -> list[tuple[Any, ...]]:
        if self._rows is not None:
            with suppress(ArchiveKitError):
                return self._rows.rows(table, ranges=map(key_range, feed.prefixes))
        return []

    # Months

    def month(self, feed: FeedTable, folder: Folder, sources: Sequence[FileTask]) -> Path | None:
        """Say where the rows of a month of files lie, or would lie; None if nothing is kept.

        Parameters
        ----------
        feed : FeedTable
        folder : Folder
            Whose symbol and interval the files have.
        sources : sequence of FileTask
            All files that give the month's rows.
        """
        if self.folder is None:
            return None
        return self.folder / feed.table / folder.symbol / (folder.interval or "") / _name(sources)

    def write(self, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """Write a month in one step: it is there whole, or not at all.

        Not at all, too, when somebody deletes the folder meanwhile.

        Raises
        ------
        OSError
            If there is no room, or the folder cannot be written to.
        """
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{_PART}")
        with suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write(part, schema, _in_groups(batches, schema))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        month = path.name.partition(".")[0]
        for other in path.parent.glob(f"{month}.*.parquet"):
            if other != path:
                other.unlink(missing_ok=True)

    def read(
        self,
        paths: Iterable[Path],
        schema: pa.Schema,
        columns: list[str],
        where: ds.Expression | None,
    ) -> Iterator[pa.RecordBatch]:
        """Read months that are kept, in their order.

        Raises
        ------
        OSError, pyarrow.ArrowInvalid
            If one of them was deleted, or damaged.
        """
        months = ds.FileSystemDataset(map(self._fragment, paths), schema, _FORM, _SYSTEM)
        yield from months.scanner(columns=columns, filter=where, batch_size=_ROW_GROUP).to_reader()

    def _fragment(self, path: Path) -> ds.Fragment:
        """Open a month; what it says of itself is read once: under its name it never changes."""
        known = self._fragments.get(path)
        return known or self._fragments.setdefault(path, _FORM.make_fragment(str(path), _SYSTEM))

    def use(self) -> CacheUse:
        """Say what the months take."""
        sizes = [size for _, _, size in self._months()]
        return CacheUse(self.folder, len(sizes), sum(sizes), self._limit)

    def trim(self) -> None:
        """Remove the months that were not used for longest, until the rest is within the limit.

        The databases of older versions are removed, too.
        """
        if self._rows is not None:
            for path in self._rows.path.parent.glob("facts.*.sqlite*"):
                if not path.name.startswith(self._rows.path.name):
                    path.unlink(missing_ok=True)
        total = 0
        for _, path, size in sorted(self._months(), reverse=True):
            total += size
            if total > self._limit:
                path.unlink(missing_ok=True)

    def discard(self, paths: Iterable[Path]) -> None:
        """Remove months that cannot be read."""
        for path in paths:
            self._fragments.pop(path, None)
            with suppress(OSError):
                path.unlink()

    def clear(self) -> None:
        """Forget everything."""
        self._facts.clear()
        self._rejected.clear()
        self._seen.clear()
        self._profiles.clear()
        self._compared.clear()
        self._fragments.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _months(self) -> Iterator[tuple[int, Path, int]]:
        """Give when each month was last used, where it lies, and its size."""
        # Unlike `Path.rglob`, `os.walk` bears folders that vanish while it walks.
        for folder, _, names in os.walk(self.folder or os.devnull):
            for name in names:
                if name.endswith(".parquet"):
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):
                        stat = path.stat()
                        yield stat.st_mtime_ns, path, stat.st_size


def _table(name: str, feed: FeedTable) -> str:
    """Return the name of a table of the database: files are read as decimals by other rules."""
    return f"{_DECIMAL}{name}" if feed.decimals else name


def _name(sources: Sequence[FileTask]) -> str:
    """Name a month by its files: another name as soon as one of them is another."""
    said = hashlib.sha256(str(_VERSION).encode())
    for source in sources:
        file, days = source.file, ",".join(sorted(map(str, source.without)))
        said.update(f"{file.place} {_spelled(file)} {days}\n".encode())
    return f"{sources[0].file.start:%Y-%m}.{said.hexdigest()[:20]}.parquet"


def touch(paths: Iterable[Path]) -> None:
    """Note that months were used now."""
    for path in paths:
        with suppress(OSError):
            os.utime(path)


def _write(path: Path, schema: pa.Schema, groups: Iterator[pa.Table]) -> None:
    """Write row groups, each column in the way that is small and read fast.

    Whole numbers and times as differences, others whose values repeat as dictionaries.
    All with zstd, but for decimals: most of what a query reads are those, and LZ4 gives
    them back in half the time for a fifth more room.
    """
    first = next(groups, schema.empty_table())
    whole = {field.name for field in schema if _is_whole(field.type)}
    words = [name for name in schema.names if name not in whole and _repeats(first[name])]
    packed = {field.name: "lz4" if _is_decimal(field.type) else "zstd" for field in schema}
    with pq.ParquetWriter(
        path,
        schema,
        compression=packed,
        use_dictionary=words,
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
    ) as writer:
        for group in chain([first], groups):
            writer.write_table(group, row_group_size=_ROW_GROUP)


def _is_whole(dtype: pa.DataType) -> bool:
    """Tell whether values are whole numbers, as times are."""
    return bool(pa.types.is_integer(dtype) or pa.types.is_timestamp(dtype))


def _is_decimal(dtype: pa.DataType) -> bool:
    """Tell whether values are decimals, as prices and amounts are."""
    return bool(pa.types.is_floating(dtype) or pa.types.is_decimal(dtype))


def _repeats(values: pa.ChunkedArray) -> bool:
    """Tell whether a column has so few different values that a dictionary pays."""
    if pa.types.is_dictionary(values.type):
        return True
    sample = values.slice(0, _SAMPLE)
    return bool(pc.count_distinct(sample).as_py() < len(sample) / 2)


def _in_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Join batches into tables of about a row group each."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= _ROW_GROUP:
            yield pa.Table.from_batches(held, schema).unify_dictionaries()
            held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held, schema).unify_dictionaries()


def _name_of(files: Iterable[StoredFile]) -> str:
    """Name a group of files: another name as soon as one of them is another."""
    said = hashlib.sha256()
    for file in files:
        said.update(f"{file.place} {_spelled(file)}\n".encode())
    return said.hexdigest()


def _spelled(file: StoredFile) -> str:
    return " ".join(map(str, file.stamp))


def _are_runs(packed: Sequence[bytes]) -> bool:
    """Return whether the times in packed runs are valid; in a damaged file they may not be."""
    runs = np.frombuffer(b"".join(packed), "<i8").reshape(-1, NO_RUNS.shape[1])
    times = runs[:, : Run._fields.index("rows")]
    return not len(times) or bool(times.min() >= _FIRST and times.max() <= _LAST)


def _packed(profile: FileProfile) -> bytes:
    """Spell the runs of a file as bytes that every machine reads alike."""
    return profile.runs.astype("<i8").tobytes()


def _place(root: Path) -> Path:
    """Choose a folder that can be written to: beside the store, else the user's own."""
    beside = root / PRIVATE / "cache"
    folder = beside
    while not folder.exists():
        folder = folder.parent
    if os.access(folder, os.W_OK):
        return beside
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    return Path(home) / "binance_archive_kit" / name
