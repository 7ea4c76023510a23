"""Files of candles without zips: what a store would have, and the chunks that a reader yields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.reading.chunks import Chunk, batch_of
from binance_archive_kit.reading.feed_table import FeedTable, feed_table
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.tables.build import BuildReport
from binance_archive_kit.tables.row_reader import Segment
from binance_archive_kit.tables.snapshot import Snapshot, StaleSnapshot
from binance_archive_kit.tables.tables import Tables
from tests.support.stores import kline

FEED = feed_table(Market.SPOT, DataType.KLINES)
HOUR = 3_600_000_000


def task_of(key: ObjectKey, version: int = 0, size: int = 4000) -> FileTask:
    file = StoredFile(str(key), str(key), key.start, key.end, Stamp(size, version, 1, 1))
    return FileTask(file, StoredFolder(key.folder, (file,)))


def frame_of(task: FileTask, rows: int) -> pl.DataFrame:
    """Hours from the start of the file, with values that differ by file and version."""
    start = datetime.combine(task.file.start, datetime.min.time(), UTC)
    first = int(start.timestamp()) * 1_000_000
    seed = hash((task.file.path, task.file.stamp.mtime)) % 100_000
    number = pl.int_range(rows, eager=True)
    time = (first + number * HOUR // 60).cast(pl.Datetime("us"))
    columns = {
        name: time if dtype == pl.Datetime("us") else (seed + number / 100).cast(dtype)
        for name, dtype in FEED.columns.items()
    }
    return pl.DataFrame({"date": time.cast(pl.Date), **columns})


@dataclass
class Files:
    """The files of a store, which are added, replaced and deleted.

    Attributes
    ----------
    tasks : dict of str to FileTask
        As the files are now.
    rows : dict of str to int
    joined : int
        Files in a chunk; 0 for chunks that end within a file.
    bad : set of str
        Files that cannot be read.
    """

    tasks: dict[str, FileTask] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    joined: int = 3
    bad: set[str] = field(default_factory=set)

    def put(self, key: ObjectKey, rows: int, size: int = 4000) -> FileTask:
        """Add or replace a file."""
        path = str(key)
        before = self.tasks.get(path)
        version = before.file.stamp.mtime + 1 if before else 0
        self.tasks[path] = task_of(key, version, size)
        self.rows[path] = rows
        return self.tasks[path]

    def fill(self, symbols: Sequence[str], days: Sequence[str], rows: int = 24) -> None:
        for symbol in symbols:
            for day in days:
                self.put(kline(symbol, day), rows)

    def delete(self, path: str) -> None:
        del self.tasks[path], self.rows[path]

    def frame(self, path: str) -> pl.DataFrame:
        return frame_of(self.tasks[path], self.rows[path])

    def read(self, tasks: Sequence[FileTask]) -> Iterator[Chunk]:
        """Yield chunks as a reader does: several files, or a piece of one."""
        good = [task for task in tasks if task.file.path not in self.bad]
        if self.joined:
            for start in range(0, len(good), self.joined):
                some = good[start : start + self.joined]
                frames = [self.frame(task.file.path) for task in some]
                spans = [(t, f.height) for t, f in zip(some, frames, strict=True)]
                yield Chunk(spans, pl.concat(frames))
            return
        for task in good:
            frame = self.frame(task.file.path)
            half = frame.height // 2
            yield Chunk([(task, half)], frame[:half], ends=False)
            yield Chunk([(task, frame.height - half)], frame[half:])

    def is_current(self, entries: pl.DataFrame) -> pl.Series:
        stamps = {path: task.file.stamp.mtime for path, task in self.tasks.items()}
        pairs = entries.select("path", "mtime").iter_rows()
        return pl.Series([stamps.get(path) == mtime for path, mtime in pairs], dtype=pl.Boolean)

    def pending(self, snapshot: Snapshot) -> list[FileTask]:
        """List the files that the tables do not have as they are now."""
        entries = snapshot.entries()
        current = set(entries.filter(self.is_current(entries))["path"])
        return [task for path, task in self.tasks.items() if path not in current]

    def build(
        self, tables: Tables, tasks: Sequence[FileTask] | None = None, **options: bool
    ) -> BuildReport:
        """Build what is pending."""
        if tasks is None:
            tasks = self.pending(tables.snapshot(FEED))
        return tables.build(
            FEED, tasks, self.read, is_current=self.is_current, done=lambda n: None, **options
        )

    def expected(self, names: Sequence[str] | None = None) -> dict[str, pl.DataFrame]:
        """Return the rows of each file, with all columns."""
        schema = FEED.arrow if names is None else pa.schema([FEED.arrow.field(n) for n in names])
        return {
            path: plain([batch_of(Chunk([(task, self.rows[path])], self.frame(path)), schema)])
            for path, task in self.tasks.items()
        }


def plain(batches: Sequence[pa.RecordBatch], schema: pa.Schema = FEED.arrow) -> pl.DataFrame:
    """Return batches as a frame with texts instead of categories."""
    schema = batches[0].schema if batches else schema
    frame = pl.DataFrame(pa.Table.from_batches(batches, schema).unify_dictionaries())
    return frame.cast({pl.Categorical: pl.String})


def no_fallback(segment: Segment) -> Iterator[pa.RecordBatch]:
    raise AssertionError(f"{segment} is damaged")


def rows_by_file(
    tables: Tables,
    files: Files,
    columns: Sequence[str] | None = None,
    where: ds.Expression | None = None,
    fallback: Callable[[Segment], Iterator[pa.RecordBatch]] = no_fallback,
    symbols: Collection[str] | None = None,
) -> dict[str, pl.DataFrame]:
    """Read the rows of each valid entry: what a query gets from the tables."""
    names = list(FEED.arrow.names) if columns is None else list(columns)
    schema = pa.schema([FEED.arrow.field(name) for name in names])
    while True:
        snapshot = tables.snapshot(FEED)
        entries = snapshot.entries(symbols)
        entries = entries.filter(files.is_current(entries))
        found = entries.select("path", "part", "row", "rows").rows()
        batches: list[list[pa.RecordBatch]] = [[] for _ in found]
        try:
            for index, batch in snapshot.read(
                [[Segment(*segment)] for _, *segment in found], names, where, fallback
            ):
                batches[index].append(batch)
        except StaleSnapshot:
            continue
        return {row[0]: plain(own, schema) for row, own in zip(found, batches, strict=True)}


def feed_folder(root: Path, feed: FeedTable = FEED) -> Path:
    return root / feed.table


def day(text: str) -> date:
    return date.fromisoformat(text)
