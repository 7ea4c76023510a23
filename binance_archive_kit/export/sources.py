"""The files that the rows of an export come from, and their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

import polars as pl

from binance_archive_kit.archive.enums import Interval, rank_of
from binance_archive_kit.export.month_folders import MonthFolder
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import slack_of
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder, packed_size
from binance_archive_kit.timestamps import next_month

SOURCES_SCHEMA = pl.Schema(
    {
        # The file of the export, and the digest of its sources.
        "target": pl.String,
        "sources_sha256": pl.String,
        # Path inside the store, and bytes.
        "path": pl.String,
        "size": pl.Int64,
        # Digest of a proven file, or else the times and the number of the file.
        "sha256": pl.String,
        "stamp": pl.String,
        # Rows in the file of the export: 0 if another source gives the rows of its days.
        "rows": pl.Int64,
    }
)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that may have rows of a month.

    Attributes
    ----------
    path : str
        Inside the store.
    size : int
    sha256, stamp : str or None
        The digest of a proven file; of any other its times and its number.
    """

    path: str
    size: int
    sha256: str | None
    stamp: str | None


@dataclass
class MonthSources:
    """The sources of one file of an export.

    Attributes
    ----------
    folder : MonthFolder
    feed : FeedTable
    selection : Selection
        The rows of the file.
    sources : list of Source
        All files that may have a row of it, sorted by path.
    """

    folder: MonthFolder
    feed: FeedTable
    selection: Selection
    sources: list[Source] = field(default_factory=list)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over path, size and digest or stamp of each source, a line each."""
        digest = hashlib.sha256()
        for source in self.sources:
            words = (source.path, str(source.size), source.sha256 or source.stamp or "")
            digest.update(("\t".join(words) + "\n").encode())
        return digest.hexdigest()

    @property
    def estimate(self) -> int:
        """About how many bytes the rows take: as many as the zips."""
        return sum(packed_size(source.path, source.size) for source in self.sources)

    def frame(self) -> pl.DataFrame:
        """Return the sources with `SOURCES_SCHEMA`, without numbers of rows."""
        file, digest = self.folder.file, self.digest
        rows = [
            (file, digest, each.path, each.size, each.sha256, each.stamp, None)
            for each in self.sources
        ]
        return pl.DataFrame(rows, schema=SOURCES_SCHEMA, orient="row")


def find_sources(engine: Engine, feed: FeedTable, selection: Selection) -> list[MonthSources]:
    """Find the sources of each month of a feed; reads no file.

    Returns
    -------
    list of MonthSources
        Interval by interval, in the order of time.
    """
    folders = engine.folders(feed, selection.symbol_may_match, selection.folder_may_match)
    known = identify(engine, feed, folders)
    months: dict[tuple[Interval | None, str], MonthSources] = {}
    for stored in folders:
        interval = stored.folder.interval
        before, after = (timedelta(microseconds=slack) for slack in slack_of(stored.folder))
        for file in stored.files:
            source = known[file.path]
            for month in _months(file, before, after):
                if (interval, month) not in months:
                    folder = MonthFolder(feed.market, feed.data_type, interval, month)
                    limits = _limits(folder, selection)
                    months[interval, month] = MonthSources(folder, feed, limits)
                months[interval, month].sources.append(source)
    found = [each for each in months.values() if _has_time(each.selection)]
    for each in found:
        each.sources.sort(key=lambda source: source.path)
    return sorted(found, key=lambda each: _order(each.folder))


def _order(folder: MonthFolder) -> tuple[int, str]:
    return rank_of(folder.interval), folder.month


def identify(engine: Engine, feed: FeedTable, folders: Sequence[StoredFolder]) -> dict[str, Source]:
    """Return each file by its path, with its digest if its proof is valid."""
    files = [file for stored in folders for file in stored.files]
    proven = engine.proven(feed, files)
    proofs = engine.store.records.proofs(*feed.prefixes) if proven else {}
    found = {}
    for file in files:
        sha256 = proofs[file.key].sha256 if file.is_zip and file.key in proven else None
        _, *numbers = file.stamp
        stamp = None if sha256 else "-".join(map(str, numbers))
        found[file.path] = Source(file.path, file.size, sha256, stamp)
    return found


def _months(file: StoredFile, before: timedelta, after: timedelta) -> Iterator[str]:
    """Yield the months that rows of a file may belong to."""
    midnight = datetime.min.time()
    first = datetime.combine(file.start, midnight) - before
    last = datetime.combine(file.end, midnight) + timedelta(days=1) + after
    month = first.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month < last:
        yield f"{month:%Y-%m}"
        month = next_month(month)


def _limits(folder: MonthFolder, selection: Selection) -> Selection:
    """Return the selected rows of one folder."""
    start, end = selection.start or folder.start, selection.end or folder.end
    return Selection(
        selection.symbols,
        None if folder.interval is None else frozenset([folder.interval]),
        max(start, folder.start),
        min(end, folder.end),
    )


def _has_time(selection: Selection) -> bool:
    return not selection.start or not selection.end or selection.start < selection.end
