"""Read files as chunks of checked rows, in the order of the files.

Small files are joined before they are parsed and large ones are read in chunks, so that memory
stays flat and thousands of small files cost hardly more than a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from binance_archive_kit.errors import FileError
from binance_archive_kit.reading.chunks import Chunk, ChunkReader, Notes, ReadRequest
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.reading.file_stats import FileTask, Irregularity
from binance_archive_kit.reading.large_files import LargeFiles
from binance_archive_kit.reading.parallel import OrderedPool
from binance_archive_kit.reading.unzip import SMALL_TEXT, LargeText, Unzipper
from binance_archive_kit.storage.base_store import BaseStore

T = TypeVar("T")

#: Bytes of zip up to which a file is small, and up to which small files are joined.
SMALL = 4 << 20
#: Files that are joined at most, so that there is work for several threads.
_MOST_FILES = 512
#: Irregular files that cannot be joined with others.
_APART = frozenset(
    [
        Irregularity.BLANK_LINE,
        Irregularity.NEXT_MIDNIGHT,
        Irregularity.EXTRA_COLUMNS,
        Irregularity.OTHER_HEADER,
    ]
)


@dataclass(frozen=True, slots=True)
class _Large:
    """A small zip with much csv, to be read in chunks once the files before it are read."""

    task: FileTask


class ZipReader:
    """Reads the files of one feed.

    Parameters
    ----------
    store : BaseStore
    feed : FeedTable
    filled : collection of str
        Columns without empty fields, among those that are read; the time always is one.
    full : bool
        Parse every column of files that were not parsed in full before, so that a file is
        rejected for any of its values. Skipping files implies it: otherwise the requested
        columns would decide which files are left out.
    in_order : bool
        Yield rows in the order of time where the feed promises it; else large files that are
        out of order are sorted only within their chunks.
    notes : Notes, optional
    """

    def __init__(
        self,
        store: BaseStore,
        feed: FeedTable,
        filled: Collection[str] = (),
        *,
        full: bool = False,
        in_order: bool = True,
        notes: Notes | None = None,
    ) -> None:
        self._feed = feed
        self._filled = filled
        self._full = full
        self._in_order = in_order and feed.schema.sorted
        self._notes = notes or Notes()
        self._unzipper = Unzipper(store, feed.schema)

    def chunks(
        self,
        tasks: Sequence[FileTask],
        columns: Collection[str],
        finish: Callable[[Chunk], T],
        *,
        workers: int,
        skip: Callable[[FileError], None] | None = None,
    ) -> Generator[T]:
        """Read files, and yield the result of each chunk, in the order of the files.

        Parameters
        ----------
        tasks : sequence of FileTask
        columns : collection of str
            Columns of the frames: own columns, and ``date``.
        finish : callable
            Called with each `Chunk` on a reading thread; returns the result.
        workers : int
            Threads to parse with.
        skip : callable, optional
            Called with the error of each file that cannot be read, which is then left out; by
            default it is raised.

        Raises
        ------
        FileError
            For the first file that is invalid, or whose rows do not fit its name.
        """
        request = ReadRequest(set(columns), finish, workers, skip, self._in_order, self._notes)
        full = self._full or skip is not None
        reader = ChunkReader(self._feed, self._unzipper, self._filled, full=full)
        large = LargeFiles(reader, request)
        read_small = partial(_read_small, reader, request)
        with OrderedPool[Any](workers) as pool:
            results = _submit(_batches(tasks), read_small, large, pool)
            for result in large.in_order(results):
                if isinstance(result, _Large):
                    yield from large.read([result.task])
                else:
                    yield result


def _read_small(
    reader: ChunkReader, request: ReadRequest[T], tasks: Sequence[FileTask]
) -> list[T | _Large]:
    """Read files that fit into memory together; return the results."""
    fetched = reader.unzipper.fetch(tasks)
    chunks = _parse_small(reader, request, tasks, fetched)
    return [chunk if isinstance(chunk, _Large) else request.finish(chunk) for chunk in chunks]


def _parse_small(
    reader: ChunkReader,
    request: ReadRequest[T],
    tasks: Sequence[FileTask],
    fetched: Mapping[str, bytes | Exception],
) -> list[Chunk | _Large]:
    columns = request.columns
    try:
        csv_chunks = [reader.unzip(task, columns, fetched.get(task.file.key)) for task in tasks]
        if len(csv_chunks) == 1:
            [csv] = csv_chunks
            csv.unit = reader.parser.detect_unit(csv.task, csv.body, csv.layout)
            return [reader.read_one(csv, request.columns)]
        if all(csv.layout is None for csv in csv_chunks):
            return [reader.read(csv_chunks, request.columns)]
    except LargeText:
        if len(tasks) == 1:
            return [_Large(tasks[0])]
    except FileError as error:
        if len(tasks) == 1:
            error = request.notes.rejected(tasks[0], error)
            if request.skip is None:
                raise error from None
            request.skip(error)
            return []
    # One of them is bad or irregular: read each by itself.
    return [chunk for task in tasks for chunk in _parse_small(reader, request, [task], fetched)]


def _submit(
    batches: Iterator[list[FileTask]],
    read_small: Callable[[list[FileTask]], list[Any]],
    large: LargeFiles[Any],
    pool: OrderedPool[Any],
) -> Iterator[Any]:
    for is_large, group in groupby(batches, lambda batch: _weight(batch[0]) > SMALL):
        if is_large:
            yield from large.submit([task for batch in group for task in batch], pool)
        else:
            for batch in group:
                yield from pool.submit(partial(read_small, batch))
    yield from pool.rest()


def _batches(tasks: Sequence[FileTask]) -> Iterator[list[FileTask]]:
    """Group neighbours that can be parsed together."""
    batch: list[FileTask] = []
    weight = 0
    was_apart = False
    for task in tasks:
        stats = task.stats
        apart = bool(task.without or (stats is not None and stats.irregularities & _APART))
        bytes_of_task = _weight(task)
        is_full = weight + bytes_of_task > SMALL or len(batch) == _MOST_FILES
        if batch and (is_full or apart or was_apart):
            yield batch
            batch, weight = [], 0
        batch.append(task)
        weight += bytes_of_task
        was_apart = apart
    if batch:
        yield batch


def _weight(task: FileTask) -> int:
    """Return the size of a file as a zip, in bytes; estimated for a csv."""
    if task.stats is not None and task.stats.inflated > SMALL_TEXT:
        return SMALL + 1
    return task.file.packed_size
