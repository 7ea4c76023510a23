"""Store file statistics, profiles, rejections and comparisons in SQLite.

All of them can be rebuilt from the zips, so its SQLite file may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from binance_archive_kit.archive.keys import key_range, range_of_one
from binance_archive_kit.errors import ArchiveKitError, FileError, file_error
from binance_archive_kit.garbage import paused_collection
from binance_archive_kit.query.packed_runs import (
    EARLIEST,
    LATEST,
    PACKED_RUN,
    pack_runs,
    unpack_runs,
)
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileStats, Irregularity
from binance_archive_kit.reading.profile import FileProfile
from binance_archive_kit.reading.values import format_flaws, parse_flaws
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
from binance_archive_kit.storage.proof import Stamp

#: Changes when files are read differently than before, so that nothing old is used.
VERSION = 4
_VERSIONED = re.compile(r"facts\.(\d+)\.sqlite", re.ASCII)
_DECIMAL = "decimal_"
#: Up to this number, files are looked up one by one in a database.
FEW = 2000
_NONE: frozenset[Irregularity] = frozenset()
#: Returns the fields of statistics as they are; `dataclasses.astuple` would copy each deeply.
#: Without the first and the last one, the stamp and the irregularities, which are converted.
_FIELDS = attrgetter(*(field.name for field in fields(FileStats)[1:-1]))
_STAMP = {"size": COUNT, "mtime": INTEGER, "ctime": INTEGER, "inode": INTEGER}
_TIME = Kind("INTEGER", f"({{0}} IS NULL OR {{0}} BETWEEN {EARLIEST} AND {LATEST})")
_RUNS = Kind("BLOB", f"typeof({{0}}) = 'blob' AND length({{0}}) % {PACKED_RUN} = 0", "hex({0})")
_STATS = Table(
    {
        "key": TEXT,
        **_STAMP,
        "rows": COUNT,
        "first": _TIME,
        "last": _TIME,
        "in_order": FLAG,
        "inflated": COUNT,
        "checked": FLAG,
        "full": FLAG,
        "irregularities": TEXT,
    }
)
_REJECTIONS = Table({"key": TEXT, **_STAMP, "reason": TEXT, "place": TEXT, "detail": TEXT})
_TABLES = {
    "facts": _STATS,
    f"{_DECIMAL}facts": _STATS,
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
    """The stamp of a file that could not be read, and the error."""

    stamp: Stamp
    error: FileError


class KnownFiles:
    """Remembers the results of reading the files of one store.

    Safe to be used by several threads: a scan that is dropped half-way remembers the
    files that it has read, on any thread.

    Parameters
    ----------
    folder : Path, optional
        Where the SQLite file lies. Without it everything is remembered in memory only, and
        so it is if the file cannot be written.
    """

    def __init__(self, folder: Path | None) -> None:
        #: By the name of a feed's table: as decimals, other files can be read.
        self._stats: dict[str, dict[str, FileStats]] = {}
        #: The keys whose statistics were read from the database; None stands for all.
        self._loaded: dict[str, set[str] | None] = {}
        self._rejected: dict[str, dict[str, Rejection]] = {}
        #: The stamp of the database when rejections were last read from it.
        self._seen: dict[str, Stamp | None] = {}
        self._profiles: dict[str, dict[str, FileProfile]] = {}
        self._comparisons: dict[str, dict[str, tuple[str, str]]] = {}
        self._lock = threading.RLock()
        self._database: Database | None = None
        if folder is not None:
            self._database = Database(folder / f"facts.{VERSION}.sqlite", _TABLES, version=1)

    # Statistics and rejections

    def stats(self, feed: FeedTable) -> dict[str, FileStats]:
        """Return the loaded statistics of the files of a feed, by their keys; the mapping grows.

        Those of all files, unless `refresh` was told which ones are needed.
        """
        if feed.table not in self._stats:
            self.refresh(feed)
        return self._stats[feed.table]

    @paused_collection()
    def refresh(self, feed: FeedTable, needed: Sequence[str] | None = None) -> None:
        """Load statistics, and which files of a feed were rejected meanwhile, by any process.

        Parameters
        ----------
        feed : FeedTable
        needed : sequence of str, optional
            Keys of the files whose statistics are needed; all by default.
        """
        with self._lock:
            seen = None if self._database is None else self._database.stamp()
            rejected = self._rejected.get(feed.table, {})
            if feed.table not in self._seen or seen != self._seen[feed.table]:
                self._seen[feed.table] = seen
                rejected = rejected | dict(self._read_rejections(feed))
                self._rejected[feed.table] = rejected
            stats = self._load(feed, needed)
            # Statistics from a part of a file are invalid once it is rejected.
            if bad := {
                key
                for key, (stamp, _) in rejected.items()
                if key in stats and stats[key].stamp == stamp
            }:
                # Another mapping: choices of files made with the old one are made again.
                good = {key: each for key, each in stats.items() if key not in bad}
                self._stats[feed.table] = good

    def _load(self, feed: FeedTable, needed: Sequence[str] | None) -> dict[str, FileStats]:
        """Read statistics that were not read yet: a few by their keys, more all at once."""
        stats = self._stats.setdefault(feed.table, {})
        loaded = self._loaded.setdefault(feed.table, set())
        if loaded is None:
            return stats
        missing = None if needed is None else [key for key in needed if key not in loaded]
        if missing is None or len(missing) > FEW:
            self._loaded[feed.table] = None
            stats.update(dict(self._read_stats(feed)) | stats)
        elif missing:
            loaded.update(missing)
            stats.update(dict(self._read_stats(feed, missing)) | stats)
        return stats

    def remember(self, feed: FeedTable, stats: Mapping[str, FileStats]) -> None:
        """Remember statistics of files that are not rejected."""
        if not stats:
            return
        if rejected := self.rejected(feed):
            # A read of a part of a file may end after another reader rejected it.
            stats = {
                key: each
                for key, each in stats.items()
                if key not in rejected or rejected[key].stamp != each.stamp
            }
        with self._lock:
            # Another thread may be copying the mapping.
            self.stats(feed).update(stats)
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
        """Remember that a file cannot be read, and forget its statistics."""
        self.stats(feed)
        with self._lock:
            rejection = Rejection(file.stamp, error)
            self._rejected[feed.table] = self._rejected[feed.table] | {file.key: rejection}
            # Another mapping, as in `refresh`.
            stats = self._stats[feed.table]
            self._stats[feed.table] = {key: each for key, each in stats.items() if key != file.key}
        row = (file.key, *file.stamp, error.reason, error.file, error.detail)
        self._insert(_table("rejections", feed), [row])

    def _read_rejections(self, feed: FeedTable) -> Iterator[tuple[str, Rejection]]:
        for key, *stamp, reason, path, detail in self._select(_table("rejections", feed), feed):
            yield key, Rejection(Stamp(*stamp), file_error(reason, path, detail))

    def _read_stats(
        self, feed: FeedTable, keys: Iterable[str] | None = None
    ) -> Iterator[tuple[str, FileStats]]:
        for row in self._select(_table("facts", feed), feed, keys):
            key, size, mtime, ctime, inode, rows, first, last, *flags, words = row
            in_order, inflated, checked, full = flags
            try:
                found = frozenset(map(Irregularity, words.split(","))) if words else _NONE
            except ValueError:
                # A row of another version, or a damaged one, is skipped: its file is read again.
                continue
            counts = rows, first, last, bool(in_order), inflated
            stamp = Stamp(size, mtime, ctime, inode)
            yield key, FileStats(stamp, *counts, bool(checked), bool(full), found)

    # Profiles

    @paused_collection()
    def profiles(self, feed: FeedTable) -> dict[str, FileProfile]:
        """Return the remembered profiles of the files of a feed, by their keys."""
        with self._lock:
            if feed.table not in self._profiles:
                self._profiles[feed.table] = dict(self._read_profiles(feed))
            return self._profiles[feed.table]

    def remember_profiles(self, feed: FeedTable, profiles: Mapping[str, FileProfile]) -> None:
        """Remember profiles, and the statistics that come with them."""
        known = self.stats(feed)
        new = {key: profile.stats for key, profile in profiles.items()}
        self.remember(feed, {key: stats for key, stats in new.items() if known.get(key) != stats})
        self.profiles(feed).update(profiles)
        if self._database is None:
            return
        packed = pack_runs([profile.runs for profile in profiles.values()])
        rows = (
            (
                key,
                *profile.stats.stamp,
                profile.stats.rows,
                profile.duplicates,
                profile.off_grid,
                profile.stats.sorted,
                profile.longest_silence,
                runs,
                format_flaws(profile.flaws, profile.standing),
            )
            for (key, profile), runs in zip(profiles.items(), packed, strict=True)
        )
        self._insert("contents", rows)

    def _read_profiles(self, feed: FeedTable) -> Iterator[tuple[str, FileProfile]]:
        self.refresh(feed)
        known = self.stats(feed)
        found = self._select("contents", feed)
        unpacked = unpack_runs([row[-2] for row in found])
        for row, runs in zip(found, unpacked, strict=True) if unpacked else ():
            key, *stamp, _, duplicates, off_grid, _, longest, _, text = row
            stats = known.get(key)
            if stats is None or stats.stamp != tuple(stamp) or not stats.checked:
                continue
            try:
                flaws, standing = parse_flaws(text)
            except (ValueError, TypeError):
                # A damaged row is skipped: its file is read again.
                continue
            yield key, FileProfile(stats, duplicates, off_grid, longest, runs, flaws, standing)

    # Comparisons

    def comparison(self, feed: FeedTable, month: str, files: Sequence[StoredFile]) -> str | None:
        """Return the remembered result of a comparison of these very files.

        Parameters
        ----------
        feed : FeedTable
        month : str
            Key of the monthly file.
        files : sequence of StoredFile
            All that were compared.
        """
        with self._lock:
            if feed.view not in self._comparisons:
                rows = self._select("comparisons", feed)
                self._comparisons[feed.view] = {key: (name, found) for key, name, found in rows}
        name, found = self._comparisons[feed.view].get(month, ("", ""))
        return found if name == fingerprint(files) else None

    def remember_comparison(
        self, feed: FeedTable, month: str, files: Sequence[StoredFile], found: str
    ) -> None:
        """Remember the result of a comparison."""
        name = fingerprint(files)
        self._comparisons.setdefault(feed.view, {})[month] = name, found
        self._insert("comparisons", [(month, name, found)])

    # The database

    def clear(self) -> None:
        """Forget what is in memory."""
        for remembered in (
            self._stats,
            self._loaded,
            self._rejected,
            self._seen,
            self._profiles,
            self._comparisons,
        ):
            remembered.clear()

    def remove_older_versions(self) -> list[str]:
        """Delete the databases of older versions, and damaged ones; return their names.

        Omits what cannot be deleted, such as folders, and the databases of newer versions.
        """
        removed = []
        if self._database is not None:
            for path in sorted(self._database.path.parent.glob("facts.*.sqlite*")):
                found = _VERSIONED.match(path.name)
                is_older = found is not None and int(found[1]) < VERSION
                if is_older or ".damaged-" in path.name:
                    with suppress(OSError):
                        path.unlink()
                        removed.append(path.name)
        return removed

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        # Rows are built only if they are written.
        if self._database is None or not (built := list(rows)):
            return
        columns = ",".join(_TABLES[table].all)
        marks = ",".join("?" * len(built[0]))
        with suppress(ArchiveKitError, OSError):
            self._database.write(
                lambda connection: connection.executemany(
                    f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608 -- our word
                    built,
                )
            )

    def _select(
        self, table: str, feed: FeedTable, keys: Iterable[str] | None = None
    ) -> list[tuple[Any, ...]]:
        if self._database is not None:
            ranges = map(key_range, feed.prefixes) if keys is None else map(range_of_one, keys)
            with suppress(ArchiveKitError):
                return self._database.rows(table, ranges=ranges)
        return []


def _table(name: str, feed: FeedTable) -> str:
    """Return the name of a table of the database; decimals are parsed by other rules."""
    return f"{_DECIMAL}{name}" if feed.decimals else name


def fingerprint(files: Iterable[StoredFile]) -> str:
    """Return a digest that changes with any name or stamp of the files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path} {' '.join(map(str, file.stamp))}\n".encode())
    return digest.hexdigest()
