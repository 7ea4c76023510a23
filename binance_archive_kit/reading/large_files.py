"""Read large files in chunks, each file in the order of time.

The rows of a file that was never read wait until its last row is read, because only then their
order is known. If they take too much memory, the rest of the file is read for its times
alone first, and again for its rows. A file that is out of order is sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.errors import FileError
from binance_archive_kit.reading.chunks import Chunk, ChunkReader, ReadRequest
from binance_archive_kit.reading.file_stats import FileStats, FileTask
from binance_archive_kit.reading.parallel import OrderedPool, Prefetcher
from binance_archive_kit.reading.parse import times_of
from binance_archive_kit.reading.unzip import CsvChunk
from binance_archive_kit.storage.inventory import StoredFile

#: Rows that are sorted at once.
_SORTED = 1 << 19
#: Later than any time.
LATEST = int(np.iinfo(np.int64).max)
_NO_TIMES = np.empty(0, np.int64)
T = TypeVar("T")
R = TypeVar("R")

#: Bytes that rows of one file may take while they wait for the rest of it.
WAITING = 96 << 20


def sort_frames(
    frames: Callable[[], Generator[pl.DataFrame]], lows: Sequence[int], time: str, limit: int
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file in the order of time.

    A pass over the file yields the earliest rows that were not yielded yet, as soon as no later
    chunk has an earlier row. Rows beyond the limit wait for the next pass.

    Parameters
    ----------
    frames : callable
        Returns the chunks of the file, each of them sorted.
    lows : sequence of int
        The earliest time of each chunk, microseconds since 1970 UTC.
    time : str
        Column to sort by.
    limit : int
        Bytes that waiting rows may take.
    """
    # The earliest time of all chunks after each one.
    next_lows = np.minimum.accumulate([LATEST, *reversed(lows)])[-2::-1]
    floor: int | None = None
    while True:
        waiting = _WaitingRows(time, limit)
        with closing(frames()) as chunks:
            for frame, low in zip(chunks, next_lows.tolist(), strict=True):
                waiting.add(frame, floor)
                yield from waiting.take(low)
        if waiting.ceiling is None:
            return
        floor = waiting.ceiling


class _WaitingRows:
    """Rows of a file that is out of order, until their turn.

    Attributes
    ----------
    ceiling : int or None
        Rows from this time on wait for another pass, because of the limit.
    """

    def __init__(self, time: str, limit: int) -> None:
        self._time = time
        self._limit = limit
        self._frames: list[pl.DataFrame] = []
        self.ceiling: int | None = None

    def add(self, frame: pl.DataFrame, floor: int | None) -> None:
        """Add the rows of a sorted chunk from a time on."""
        times = times_of(frame, self._time)
        start = 0 if floor is None else int(np.searchsorted(times, floor))
        end = len(times) if self.ceiling is None else int(np.searchsorted(times, self.ceiling))
        if start < end:
            self._frames.append(_copy(frame, start, end))

    def take(self, until: int) -> Iterator[pl.DataFrame]:
        """Yield the rows before a time, sorted; if too many stay, drop the latest of them."""
        until = until if self.ceiling is None else min(until, self.ceiling)
        while len(times := self._times_before(until)):
            # Some at a time: rows are in memory twice while they are sorted.
            bound = np.partition(times, _SORTED)[_SORTED] if len(times) > _SORTED else until
            bound = int(bound) if bound > times.min() else until
            yield pl.concat(self._split(bound)).sort(self._time, maintain_order=True)
        if sum(frame.estimated_size() for frame in self._frames) > self._limit:
            times = self._times_before(LATEST)
            middle = int(np.partition(times, len(times) // 2)[len(times) // 2])
            # Rows of one time stay together, however many they are.
            if middle > times.min():
                self.ceiling = middle
                self._frames = self._split(middle)

    def _times_before(self, until: int) -> npt.NDArray[np.int64]:
        columns = [times_of(frame, self._time) for frame in self._frames]
        return np.concatenate(
            [_NO_TIMES, *(times[: np.searchsorted(times, until)] for times in columns)]
        )

    def _split(self, time: int) -> list[pl.DataFrame]:
        """Remove and return the rows before a time."""
        before, rest = [], []
        for frame in self._frames:
            end = int(np.searchsorted(times_of(frame, self._time), time))
            if end:
                before.append(_copy(frame, 0, end))
            if end < frame.height:
                rest.append(_copy(frame, end, frame.height))
        self._frames = rest
        return before


def _copy(frame: pl.DataFrame, start: int, end: int) -> pl.DataFrame:
    """Copy some rows, so that the others do not stay in memory."""
    if (start, end) == (0, frame.height):
        return frame
    mask = np.zeros(frame.height, np.bool_)
    mask[start:end] = True
    return frame.filter(mask)


@dataclass(frozen=True, slots=True)
class _Part(Generic[T]):
    """The result of a chunk that waits until the order of its file is known.

    Attributes
    ----------
    task : FileTask
    stats : FileStats
        Of the chunk.
    size : int
        Bytes that its rows take.
    result : T or None
        None if only its times were read.
    ends : bool
    """

    task: FileTask
    stats: FileStats
    size: int
    result: T | None
    ends: bool


@dataclass(slots=True)
class _Waiting(Generic[T]):
    """The waiting results of one file."""

    results: list[T] = field(default_factory=list)
    size: int = 0
    stats: FileStats | None = None
    #: Whether no more results are taken, because of their size or because they are not in order.
    full: bool = False

    def add(self, part: _Part[T]) -> FileStats:
        """Add a result; return the statistics of the file so far."""
        self.stats = self.stats + part.stats
        self.full = self.full or not self.stats.sorted
        if part.result is not None and not self.full:
            self.results.append(part.result)
            self.size += part.size
            self.full = self.size > WAITING
        if not self.stats.sorted:
            self.results.clear()
        return self.stats


class LargeFiles(Generic[T]):
    """Reads large files in chunks.

    Parameters
    ----------
    reader : ChunkReader
    request : ReadRequest
    """

    def __init__(self, reader: ChunkReader, request: ReadRequest[T]) -> None:
        self._reader = reader
        self._request = request
        self._time = reader.time
        #: Files whose times alone are still needed.
        self._times_only: set[StoredFile] = set()

    def read(self, tasks: Sequence[FileTask]) -> Iterator[T]:
        """Read files, and yield their results in order."""
        with OrderedPool[Any](self._request.workers) as pool:
            yield from self.in_order(chain(self.submit(tasks, pool), pool.rest()))

    def submit(self, tasks: Sequence[FileTask], pool: OrderedPool[Any]) -> Iterator[Any]:
        """Parse chunks on a pool while the next ones are inflated; yield what `in_order` takes."""
        with Prefetcher(self._jobs(tasks)) as jobs:
            try:
                for job in jobs:
                    yield from pool.submit(job)
            except FileError:
                # Chunks before this one may be invalid, too; their errors come first.
                yield from pool.rest()
                raise

    def in_order(self, results: Iterable[Any]) -> Iterator[T]:
        """Yield results in order, those of a file once its order is known."""
        waiting: _Waiting[T] = _Waiting()
        for result in results:
            if not isinstance(result, _Part):
                yield result
                continue
            stats = waiting.add(result)
            if waiting.full:
                self._times_only.add(result.task.file)
            if result.ends:
                yield from self._release(result.task, stats, waiting)
                waiting = _Waiting()

    def _release(self, task: FileTask, stats: FileStats, waiting: _Waiting[T]) -> Iterator[T]:
        """Yield the results of a file whose order is known, reading again what did not wait."""
        self._times_only.discard(task.file)
        if task.stats is None or not task.stats.checked:
            self._request.notes.completed(task, stats)
        if not stats.sorted:
            yield from map(self._request.finish, self._sorted(task))
            return
        done = len(waiting.results)
        while waiting.results:
            yield waiting.results.pop(0)
        if waiting.full:
            request = self._request
            yield from self._read_again(
                task, request.columns, request.finish, workers=request.workers, start=done
            )

    def _finished(self, raw: CsvChunk) -> list[T]:
        return [self._request.finish(self._parse(raw, self._request.columns))]

    def _waiting(self, raw: CsvChunk) -> list[_Part[T]]:
        """Parse a chunk whose result waits until the order of the file is known."""
        times_only = raw.task.file in self._times_only
        columns = {self._time} if times_only else self._request.columns
        chunk = self._parse(raw, columns)
        size = int(chunk.frame.estimated_size())
        result = None if times_only else self._request.finish(chunk)
        return [_Part(raw.task, chunk.stats[0], size, result, raw.ends)]

    def _jobs(self, tasks: Sequence[FileTask]) -> Generator[Callable[[], list[Any]]]:
        """Yield the work on each chunk of files that `submit` submits."""
        matters = self._request.in_order and self._reader.needs_rows(self._request.columns)
        for task in tasks:
            known = task.stats
            if self._request.skip is not None and (known is None or not known.full):
                # Results cannot be taken back, so check all rows first.
                try:
                    known = None
                    for raw in self._raw_chunks(task):
                        known = known + self._parse(raw, set()).stats[0]
                except FileError as error:
                    self._request.skip(error)
                    continue
            if known is not None and not known.checked:
                known = None
            if matters and known is not None and not known.sorted:
                yield partial(list, [_Part(task, known, 0, None, ends=True)])
                continue
            work = self._waiting if matters and known is None else self._finished
            with closing(self._raw_chunks(task)) as chunks:
                for raw in chunks:
                    yield partial(work, raw)

    def _raw_chunks(self, task: FileTask) -> Generator[CsvChunk]:
        """Yield the chunks of a file, with the unit that its first row shows."""
        unit = None
        started = False
        try:
            for raw, is_last in _with_end(self._reader.unzipper.read_raw(task)):
                # The first chunk may have no row after its header.
                if not started and (body := b"".join(raw.parts)):
                    unit, started = self._reader.parser.detect_unit(task, body, raw.layout), True
                raw.unit, raw.ends = unit, is_last
                yield raw
        except FileError as error:
            raise self._request.notes.rejected(task, error) from None

    def _parse(self, raw: CsvChunk, columns: set[str]) -> Chunk:
        try:
            self._reader.unzipper.join(raw)
            return self._reader.read_one(raw, columns)
        except FileError as error:
            raise self._request.notes.rejected(raw.task, error) from None

    def _read_again(
        self,
        task: FileTask,
        columns: set[str],
        finish: Callable[[Chunk], R],
        *,
        workers: int,
        start: int = 0,
    ) -> Generator[R]:
        """Read a file once more, from one of its chunks on."""

        def chunks() -> Generator[CsvChunk]:
            with closing(self._raw_chunks(task)) as all_chunks:
                yield from islice(all_chunks, start, None)

        def run(raw: CsvChunk) -> list[R]:
            return [finish(self._parse(raw, columns))]

        with OrderedPool[R](workers) as pool, Prefetcher(chunks()) as rest:
            for raw in rest:
                yield from pool.submit(partial(run, raw))
            yield from pool.rest()

    def _sorted(self, task: FileTask) -> Iterator[Chunk]:
        """Yield the rows of a file in the order of time."""
        time, columns = self._time, self._request.columns
        extra_columns = {time} - columns
        inflated = 0
        empty = pl.DataFrame()

        def lowest(chunk: Chunk) -> int:
            times = times_of(chunk.frame, time)
            return int(times.min()) if len(times) else LATEST

        def frames() -> Generator[pl.DataFrame]:
            nonlocal inflated, empty
            with closing(
                self._read_again(task, columns | {time}, lambda chunk: chunk, workers=1)
            ) as chunks:
                for chunk in chunks:
                    inflated += chunk.inflated
                    empty = chunk.frame.clear()
                    yield chunk.frame

        workers = self._request.workers
        lows = list(self._read_again(task, {time}, lowest, workers=workers))
        for frame in sort_frames(frames, lows, time, WAITING):
            yield Chunk([(task, frame.height)], frame.drop(extra_columns), ends=False)
        yield Chunk([(task, 0)], empty.drop(extra_columns, strict=False), inflated=inflated)


def _with_end(items: Iterator[R]) -> Iterator[tuple[R, bool]]:
    """Yield each item, and whether it is the last one."""
    last = next(items, None)
    if last is None:
        return
    for item in items:
        yield last, False
        last = item
    yield last, True
