"""From files to rows: inflate, check, parse; in the order of the files, a few at a time.

Columns go by position, and the first time rows of a file are read its every row is checked
against what the file's name promises: number of columns, unit of the times, days it covers,
order. (When rows are only counted, the times of the first and the last one have to do.) What
was learned are the file's `FileStats`; a file whose facts are known, and whose stamp has not
changed since, is not checked again.

Small files are joined before they are parsed and large ones are cut into pieces, so
that memory stays flat and thousands of little files cost hardly more than one large. The
rows of a large file that was never read before wait until its last row was seen: only then
it is known that none has to move. Where they take too much memory to wait, the times alone
are read to the end first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from binance_archive_kit.errors import (
    FileError,
    OutOfPeriod,
    WrongUnit,
    WrongValues,
)
from binance_archive_kit.reading.feed_table import MOMENT, PLACES, FeedTable
from binance_archive_kit.reading.file_stats import (
    FileStats,
    FileTask,
    Irregularity,
    period_of,
)
from binance_archive_kit.reading.parallel import OrderedPool, Prefetcher
from binance_archive_kit.reading.unzip import (
    SMALL_TEXT,
    CsvChunk,
    LargeText,
    Layout,
    RawChunk,
    Unzipper,
    first_and_last_row,
    first_row,
    without_blank_lines,
)
from binance_archive_kit.storage.inventory import Form, StoredFile
from binance_archive_kit.timestamps import DAY, to_datetime, to_day_number

T = TypeVar("T")

#: Bytes of zip up to which a file is small, and up to which small files are joined.
SMALL = 4 << 20
#: Bytes of csv that count as one of zip.
_PACKED = 8
#: Bytes that rows of one file may take while they wait for the rest of it.
WAITING = 96 << 20
#: Rows that are handed out in one go when nothing but their number is asked.
_ROWS = 1 << 19
#: From this value on a count since 1970 is one of microseconds.
_MICROSECONDS = 10**14
#: Digits up to which a whole number is one of 64 bits.
_DIGITS = 18
_UNITS = {"ms": "milliseconds", "us": "microseconds"}
_OTHER_UNIT = {"ms": "us", "us": "ms"}
#: What is unusual in a way that files cannot be joined.
_APART = frozenset(
    [
        Irregularity.BLANK_LINE,
        Irregularity.NEXT_MIDNIGHT,
        Irregularity.EXTRA_COLUMNS,
        Irregularity.OTHER_HEADER,
    ]
)
#: Digits beyond those that a decimal keeps, and exponents that may be.
_MANY_PLACES = re.compile(rb"\.\d{%d}0*[1-9]" % PLACES)
_SMALL_NUMBER = re.compile(rb"[-+.\d]+[eE]-\d+")


@dataclass(slots=True)
class Chunk:
    """Rows that were read together.

    Attributes
    ----------
    spans : list of (FileTask, int)
        Whose rows they are, and how many of each, in their order.
    frame : polars.DataFrame
        The columns asked for; no columns at all when only rows were asked for.
    stats : list of FileStats
        For each span, what these rows show of its file; empty when it was known.
    inflated : int
        Bytes of csv that were parsed.
    ends : bool
        Whether the last span's file ends with this piece.
    """

    spans: list[tuple[FileTask, int]]
    frame: pl.DataFrame
    stats: list[FileStats] = field(default_factory=list)
    inflated: int = 0
    ends: bool = True


class Notes(Protocol):
    """Where a reader notes at once what it has found out about a file."""

    def completed(self, source: FileTask, stats: FileStats) -> None:
        """Note what a file that was read to its end has shown."""

    def rejected(self, source: FileTask, error: FileError) -> None:
        """Note that a file cannot be read, and complete what the error says."""


class _NoNotes:
    """Notes nothing."""

    def completed(self, source: FileTask, stats: FileStats) -> None:
        """Forget it."""

    def rejected(self, source: FileTask, error: FileError) -> None:
        """Forget it."""


@dataclass(frozen=True, slots=True)
class _Large:
    """A file that is to be read in pieces, when it is its turn."""

    source: FileTask


@dataclass(frozen=True, slots=True)
class _Job:
    """A piece of a large file to parse.

    Attributes
    ----------
    cut : RawChunk
    ends : bool
        Whether it is the last one of its file.
    waits : bool
        Whether the order of its rows matters and is not known to be right.
    known : FileStats or None
        What is known of the file.
    """

    cut: RawChunk
    ends: bool
    waits: bool
    known: FileStats | None


@dataclass(frozen=True, slots=True)
class _Part(Generic[T]):
    """A piece of a large file whose order is not known yet, and what was made of it.

    Attributes
    ----------
    source : FileTask
    stats : FileStats
        What the piece shows.
    size : int
        Bytes that its rows take.
    made : T or None
        None if only its times were read.
    ends : bool
    """

    source: FileTask
    stats: FileStats
    size: int
    made: T | None
    ends: bool


#: Rows that are sorted in one go.
_SORTED = 1 << 19
#: Later than any time.
_LATEST = int(np.iinfo(np.int64).max)
_NO_TIMES = np.empty(0, np.int64)


class _Pending:
    """Rows of a file that is out of order, until it is their turn.

    Parameters
    ----------
    time : str
        Column that they are to be ordered by.
    limit : int
        Bytes that they may take.

    Attributes
    ----------
    ceiling : int or None
        Rows from this time on were left for another pass, as there was no room for them.
    """

    def __init__(self, time: str, limit: int) -> None:
        self._time = time
        self._limit = limit
        self._frames: list[pl.DataFrame] = []
        self.ceiling: int | None = None

    def add(self, frame: pl.DataFrame, floor: int | None) -> None:
        """Add the rows of a piece from a time on; they are in order among themselves."""
        times = _times(frame, self._time)
        first = 0 if floor is None else int(np.searchsorted(times, floor))
        end = len(times) if self.ceiling is None else int(np.searchsorted(times, self.ceiling))
        if first < end:
            self._frames.append(_copied(frame, first, end))

    def taken(self, until: int) -> Iterator[pl.DataFrame]:
        """Yield the rows before a time, in order; if too many stay, leave the latest for later."""
        until = until if self.ceiling is None else min(until, self.ceiling)
        while len(times := self._times_before(until)):
            # Some at a time: they are in memory twice while they are sorted.
            some = np.partition(times, _SORTED)[_SORTED] if len(times) > _SORTED else until
            some = int(some) if some > times.min() else until
            yield pl.concat(self._split(some)).sort(self._time, maintain_order=True)
        size = sum(frame.estimated_size() for frame in self._frames)
        if size > self._limit:
            times = self._times_before(_LATEST)
            middle = int(np.partition(times, len(times) // 2)[len(times) // 2])
            # Rows of one time stay together, however many they are.
            if middle > times.min():
                self.ceiling = middle
                self._frames = self._split(middle)

    def _times_before(self, until: int) -> npt.NDArray[np.int64]:
        each = [_times(frame, self._time) for frame in self._frames]
        return np.concatenate(
            [_NO_TIMES, *(times[: np.searchsorted(times, until)] for times in each)]
        )

    def _split(self, at: int) -> list[pl.DataFrame]:
        """Remove and return the rows before a time."""
        before, rest = [], []
        for frame in self._frames:
            times = _times(frame, self._time)
            end = int(np.searchsorted(times, at))
            if end == 0:
                rest.append(frame)
            elif end == len(times):
                before.append(frame)
            else:
                before.append(_copied(frame, 0, end))
                rest.append(_copied(frame, end, len(times)))
        self._frames = rest
        return before


def _copied(frame: pl.DataFrame, first: int, end: int) -> pl.DataFrame:
    """Copy some rows, so that the others do not stay in memory."""
    if (first, end) == (0, frame.height):
        return frame
    mask = np.zeros(frame.height, np.bool_)
    mask[first:end] = True
    return frame.filter(mask)


def _times(frame: pl.DataFrame, time: str) -> npt.NDArray[np.int64]:
    return frame[time].to_numpy().view(np.int64)


class ZipReader:
    """Reads the files of one feed.

    Parameters
    ----------
    root : Path
        Root of the store.
    feed : FeedTable
    filled : collection of str
        Columns of which no field may be empty, among those that are read; the time never may.
    full : bool
        Parse every column of a file that was not parsed in full before, whatever is asked, so
        that a file is rejected for any of its values. So does skipping: otherwise it would
        depend on the question which files are left out.
    in_order : bool
        Give rows in the order of time where the feed promises it; else large files that break
        it are in order only within their pieces.
    notes : Notes, optional
    """

    def __init__(
        self,
        root: Path,
        feed: FeedTable,
        filled: Collection[str] = (),
        *,
        full: bool = False,
        in_order: bool = True,
        notes: Notes | None = None,
    ) -> None:
        self._filled = filled
        self._full = full
        self._in_order = in_order and feed.schema.sorted
        self._notes = notes or _NoNotes()
        self._workers = 1
        #: Large files of which only the times are still wanted.
        self._light: set[StoredFile] = set()
        self._unpacker = Unzipper(root, feed.schema)
        self.feed = feed
        self.schema = feed.schema
        self._time = feed.schema.time
        self._positions = {name: at for at, name in enumerate(feed.csv_types)}

    # What to parse

    def _needed(self, columns: set[str], *, check: bool, timed: bool) -> list[int]:
        """Positions of the csv columns that give `columns`, and of those that checks look at."""
        names = columns & self.feed.columns.keys()
        if check or timed or "date" in columns:
            names = names | {self._time.column}
        if self._time.column in names and self._time.kind == "date_and_hour":
            names = names | set(self._time.made_from)
        if check:
            names = names | {"symbol", self.schema.columns[-1].column}
        if check and self._full:
            names = names | self._positions.keys()
        return sorted(self._positions[name] for name in names & self._positions.keys())

    # Reading

    def chunks(
        self,
        sources: Sequence[FileTask],
        columns: Collection[str],
        finish: Callable[[Chunk], T],
        *,
        workers: int,
        skip: Callable[[FileError], None] | None = None,
    ) -> Generator[T]:
        """Read files, in their order, and give what `finish` makes of each piece.

        Parameters
        ----------
        sources : sequence of FileTask
        columns : collection of str
            What the frames are to hold: own columns, and ``date``.
        finish : callable
            Called with each `Chunk`, on one of the reading threads.
        workers : int
            Threads to parse with.
        skip : callable, optional
            Told of files that cannot be read, which are then left out; else they raise.

        Raises
        ------
        FileError
            For the first file that is not what its name says.
        """
        wanted = set(columns)
        self._workers = workers
        self._full = self._full or skip is not None
        with OrderedPool[Any](workers) as ordered:
            yield from self._in_turn(
                self._results(sources, wanted, finish, ordered, skip), wanted, finish, skip
            )

    def _results(
        self,
        sources: Sequence[FileTask],
        columns: set[str],
        finish: Callable[[Chunk], T],
        ordered: OrderedPool[Any],
        skip: Callable[[FileError], None] | None,
    ) -> Iterator[T | _Part[T] | _Large]:
        """Yield the result of each piece, and the large files to read when it is their turn."""
        for is_large, batches in groupby(self._batches(sources), _is_large):
            if is_large:
                each = [source for batch in batches for source in batch]
                yield from self._read_large(each, columns, finish, ordered, skip)
                continue
            for batch in batches:

                def work(batch: Sequence[FileTask] = batch) -> list[T | _Large]:
                    read = self._read_small(batch, columns, skip)
                    return [finish(each) if isinstance(each, Chunk) else each for each in read]

                yield from ordered.submit(work)
        yield from ordered.rest()

    def _in_turn(
        self,
        results: Iterator[T | _Part[T] | _Large],
        columns: set[str],
        finish: Callable[[Chunk], T],
        skip: Callable[[FileError], None] | None,
    ) -> Iterator[T]:
        """Yield results in order, those of large files only once their order is known."""
        waiting: list[T] = []
        size = 0
        stats: FileStats | None = None
        for result in results:
            if isinstance(result, _Large):
                with OrderedPool[Any](self._workers) as ordered:
                    read = self._read_large([result.source], columns, finish, ordered, skip)
                    whole = chain(read, ordered.rest())
                    yield from self._in_turn(whole, columns, finish, skip)
            elif not isinstance(result, _Part):
                yield result
            else:
                stats = stats + result.stats
                if result.made is not None and stats.sorted and size <= WAITING:
                    waiting.append(result.made)
                    size += result.size
                if not stats.sorted:
                    waiting.clear()
                if not stats.sorted or size > WAITING:
                    self._light.add(result.source.file)
                if result.ends:
                    yield from self._released(result.source, stats, waiting, size, columns, finish)
                    waiting, size, stats = [], 0, None

    def _released(
        self,
        source: FileTask,
        stats: FileStats,
        waiting: list[T],
        size: int,
        columns: set[str],
        finish: Callable[[Chunk], T],
    ) -> Iterator[T]:
        """Yield the rows of a large file whose order is known."""
        self._light.discard(source.file)
        if source.stats is None or not source.stats.checked:
            self._notes.completed(source, stats)
        if not stats.sorted:
            yield from map(finish, self._merged(source, columns))
            return
        given = len(waiting)
        while waiting:
            yield waiting.pop(0)
        if size > WAITING:
            yield from self._again(source, columns, finish, after=given)

    def _again(
        self,
        source: FileTask,
        columns: set[str],
        finish: Callable[[Chunk], T],
        *,
        after: int = 0,
        workers: int = 0,
    ) -> Generator[T]:
        """Read a large file again, after its first pieces."""

        def cuts() -> Generator[tuple[RawChunk, bool]]:
            with closing(self._cut(source)) as whole:
                for at, each in enumerate(_with_end(whole)):
                    if at >= after:
                        yield each

        with OrderedPool[T](workers or self._workers) as ordered, Prefetcher(cuts()) as rest:
            for cut, ends in rest:

                def work(cut: RawChunk = cut, ends: bool = ends) -> list[T]:
                    return [finish(self._piece(cut, columns, ends=ends))]

                yield from ordered.submit(work)
            yield from ordered.rest()

    def _merged(self, source: FileTask, columns: set[str]) -> Iterator[Chunk]:
        """Sort the rows of a large file by time, in passes that fit into memory.

        A pass gives the earliest rows that were not given yet, as soon as no later piece has
        an earlier one; those that there is no room for wait for the next pass.
        """
        time = self._time.column
        spans = self._again(source, {time}, lambda piece: _times(piece.frame, time))
        lows = [int(times.min()) if len(times) else _LATEST for times in spans]
        # What is the earliest time in each piece and all after it; after the last there is none.
        lows = np.minimum.accumulate([_LATEST, *reversed(lows)])[::-1].tolist()
        stats: FileStats | None = None
        inflated = 0
        floor: int | None = None
        while True:
            heap = _Pending(time, WAITING)
            with closing(
                self._again(source, columns | {time}, lambda piece: piece, workers=1)
            ) as pieces:
                for at, piece in enumerate(pieces):
                    if floor is None and piece.stats:
                        stats = stats + piece.stats[0]
                    inflated += piece.inflated
                    heap.add(piece.frame, floor)
                    for frame in heap.taken(lows[at + 1]):
                        asked = frame[[name for name in frame.columns if name in columns]]
                        yield Chunk([(source, frame.height)], asked, ends=False)
            if heap.ceiling is None:
                break
            floor = heap.ceiling
        learned = [] if stats is None else [stats]
        nothing = piece.frame.clear()[[name for name in piece.frame.columns if name in columns]]
        yield Chunk([(source, 0)], nothing, learned, inflated)

    def _asked(self, columns: set[str]) -> bool:
        return "date" in columns or not columns.isdisjoint(self.feed.columns)

    def _batches(self, sources: Sequence[FileTask]) -> Iterator[list[FileTask]]:
        """Join neighbours that can be read as one: small, and of one unit."""
        batch: list[FileTask] = []
        weight = 0
        kind: object = None
        for source in sources:
            stats = source.stats
            apart = source.without or (stats is not None and stats.irregularities & _APART)
            its = source if apart else None, self._expected_unit(source)
            heavy = _weight(source)
            if batch and (weight + heavy > SMALL or its != kind):
                yield batch
                batch, weight = [], 0
            batch.append(source)
            weight += heavy
            kind = its
        if batch:
            yield batch

    def _read_small(
        self,
        sources: Sequence[FileTask],
        columns: set[str],
        skip: Callable[[FileError], None] | None,
    ) -> list[Chunk | _Large]:
        """Read files that fit into memory together, and parse them as one."""
        try:
            texts = [self._unpacker.text(source) for source in sources]
            if len(texts) == 1:
                return [self._read_alone(texts[0], columns)]
            if all(text.layout is None for text in texts):
                return [self._stats_from_ends(texts, columns) or self._parse(texts, columns)]
        except LargeText:
            if len(sources) == 1:
                return [_Large(sources[0])]
        except FileError as error:
            if len(sources) == 1:
                self._notes.rejected(sources[0], error)
                if skip is None:
                    raise
                skip(error)
                return []
        # One of them is bad, or odd: let each speak for itself.
        return [piece for one in sources for piece in self._read_small([one], columns, skip)]

    def _read_alone(self, text: CsvChunk, columns: set[str]) -> Chunk:
        """Read one file in the unit that its first row shows."""
        unit = self._shown_unit(text.source, text.body, text.layout)
        return self._read_one(replace(text, unit=unit), columns)

    def _read_one(self, text: CsvChunk, columns: set[str]) -> Chunk:
        try:
            piece = self._stats_from_ends([text], columns)
        except FileError:
            # A look at all rows may show that it can be read all the same.
            piece = None
        return piece or self._parse([text], columns)

    def _stats_from_ends(self, texts: Sequence[CsvChunk], columns: set[str]) -> Chunk | None:
        """Look at the first and the last row only, if rows are to be counted and not read.

        None if more is asked, or if those two do not tell the times of all.
        """
        time = self._time
        if time.kind != "epoch" or not self.schema.sorted or self.feed.decimals:
            return None
        text = texts[0]
        if self._asked(columns) or self._full or text.source.without or text.layout:
            return None
        learned = []
        for text in texts:
            other_letters = text.other_letters
            if other_letters is None:
                other_letters = self._unpacker.has_other_letters(text)
            if other_letters:
                return None
            unit = self._unit(text)
            at = self._positions[time.column]
            # A row that is too short has no time; what is wrong with it, parsing tells.
            fields = [row[at] if at < len(row) else b"" for row in first_and_last_row(text)]
            if not all(map(bytes.isdigit, fields)):
                return None
            outer = [int(field) for field in fields]
            for value in outer:
                self._check_unit(value, value, text, time.column)
            times = [value * 1_000 for value in outer] if unit == "ms" else outer
            span = (min(times), max(times)) if times else None
            in_order = not times or times[0] <= times[-1]
            learned.append(self._facts(text, span, in_order, checked=False))
        spans = [(text.source, text.rows) for text in texts]
        return Chunk(spans, pl.DataFrame(), learned, sum(len(text.body) for text in texts))

    # Large files

    def _read_large(
        self,
        sources: Sequence[FileTask],
        columns: set[str],
        finish: Callable[[Chunk], T],
        ordered: OrderedPool[Any],
        skip: Callable[[FileError], None] | None,
    ) -> Iterator[T | _Part[T]]:
        """Read files piece by piece: the next ones are inflated while others are parsed."""
        with Prefetcher(self._cuts(sources, columns, skip)) as cuts:
            try:
                for job in cuts:

                    def work(job: _Job = job) -> list[T | _Part[T]]:
                        source = job.cut.source
                        if not job.waits:
                            return [finish(self._piece(job.cut, columns, ends=job.ends))]
                        if job.known is not None:
                            return [_Part(source, job.known, 0, None, job.ends)]
                        light = source.file in self._light
                        wanted = {self._time.column} if light else columns
                        piece = self._piece(job.cut, wanted, ends=job.ends)
                        [stats] = piece.stats
                        size = int(piece.frame.estimated_size())
                        made = None if light else finish(piece)
                        return [_Part(source, stats, size, made, job.ends)]

                    yield from ordered.submit(work)
            except FileError:
                # What came before goes first: it may be wrong, too.
                yield from ordered.rest()
                raise

    def _cuts(
        self,
        sources: Sequence[FileTask],
        columns: set[str],
        skip: Callable[[FileError], None] | None,
    ) -> Generator[_Job]:
        """Cut files into pieces; of a file that is known to be out of order, give one."""
        matters = self._in_order and self._asked(columns)
        for source in sources:
            stats = source.stats
            if skip is not None and not (stats is not None and stats.full):
                # Rows that were handed out cannot be taken back, so look at all of them first.
                stats = None
                try:
                    for cut in self._cut(source):
                        [learned] = self._piece(cut, set(), ends=False).stats
                        stats = stats + learned
                except FileError as error:
                    skip(error)
                    continue
            known = stats if stats is not None and stats.checked else None
            waits = matters and (known is None or not known.sorted)
            with closing(self._cut(source)) as cuts:
                for cut, ends in _with_end(cuts):
                    out_of_order = waits and known is not None
                    yield _Job(cut, ends or out_of_order, waits, known)
                    if out_of_order:
                        break

    def _cut(self, source: FileTask) -> Generator[RawChunk]:
        """Cut a file into pieces, all of the unit that its first row shows."""
        unit = None
        begun = False
        try:
            for cut in self._unpacker.cut(source):
                # The first piece may be no more than a header.
                if not begun and (body := b"".join(cut.parts)):
                    unit, begun = self._shown_unit(source, body, cut.layout), True
                cut.unit = unit
                yield cut
        except FileError as error:
            self._notes.rejected(source, error)
            raise

    def _piece(self, cut: RawChunk, columns: set[str], *, ends: bool) -> Chunk:
        """Parse a piece of a large file."""
        try:
            piece = self._read_one(self._unpacker.joined(cut), columns)
        except FileError as error:
            self._notes.rejected(cut.source, error)
            raise
        piece.ends = ends
        return piece

    # Parsing

    def _parse(self, texts: Sequence[CsvChunk], columns: set[str]) -> Chunk:
        """Parse the csv of one or more files, and check those that are read for the first time."""
        check = not all(map(self._is_checked, texts))
        disordered = self.schema.sorted and not all(
            text.source.stats is None or text.source.stats.sorted for text in texts
        )
        without = texts[0].source.without
        odd = texts[0].source.stats and Irregularity.NEXT_MIDNIGHT in (
            texts[0].source.stats.irregularities
        )
        needed = self._needed(columns, check=check, timed=disordered or bool(without or odd))
        frame, texts = self._parsed(texts, needed)
        if check and frame[self.schema.columns[-1].column].null_count():
            # Either fields are empty, or rows are short and others make up for it.
            for text in texts:
                self._unpacker.check_rows(text)
        frame = self._with_times(frame, texts)
        for name in self._filled:
            try:
                self._check_filled(name, frame, texts)
            except FileError as error:
                # Other readers do not mind.
                error.lasting = False
                raise
        if len(texts) == 1 and (check or odd):
            frame, texts = self._without_next_midnight(frame, texts[0])
        full = len(needed) == len(self._positions)
        learned = self._learn(frame, texts, full=full) if check else []
        spans = [(text.source, text.rows) for text in texts]
        if self.schema.sorted:
            frame = self._sorted(frame, learned, spans)
        if "date" in columns or without:
            # Each of these few columns by itself costs less than a query for them together.
            days = frame[self._time.column].cast(pl.Date).alias("date")
            frame = frame.drop("date", strict=False).hstack([days])
        if without:
            frame = frame.filter(~pl.col("date").is_in(without))
            spans = [(spans[0][0], frame.height)]
        words = [n for n, dtype in frame.schema.items() if dtype == pl.String and n in columns]
        if words:
            # Nothing and "" are the same nothing.
            frame = frame.with_columns(pl.col(words).replace("", None))
        asked = frame[[name for name in frame.columns if name in columns]]
        return Chunk(spans, asked, learned, sum(len(text.body) for text in texts))

    def _is_checked(self, text: CsvChunk) -> bool:
        """Return whether rows and columns were looked at as this reader wants it."""
        stats = text.source.stats
        return stats is not None and stats.checked and (stats.full or not self._full)

    def _parsed(
        self, texts: Sequence[CsvChunk], needed: list[int]
    ) -> tuple[pl.DataFrame, Sequence[CsvChunk]]:
        """Parse some of the columns, by their positions; without blank lines if there are any."""
        if self.feed.decimals:
            for text in texts:
                self._check_places(text)
        try:
            return self._frame_of(texts, needed), texts
        except FileError:
            text, body = texts[0], without_blank_lines(texts[0])
            if len(texts) > 1 or len(body) == len(text.body):
                raise
            odd = text.odd | {Irregularity.BLANK_LINE}
            texts = [replace(text, body=body, odd=odd)]
            return self._frame_of(texts, needed), texts

    def _frame_of(self, texts: Sequence[CsvChunk], needed: list[int]) -> pl.DataFrame:
        text = texts[0]
        body = text.body if len(texts) == 1 else b"".join(text.body for text in texts)
        schema: dict[str, pl.DataType] = self.feed.csv_types
        if text.layout is not None:
            at = {place: column for column, place in enumerate(text.layout.places)}
            named = list(self.feed.csv_types.items())
            # No column of a feed has a name that begins with a blank.
            schema = dict(
                named[at[place]] if place in at else (f" {place}", pl.String())
                for place in range(text.layout.fields)
            )
            needed = sorted(text.layout.places[column] for column in needed)
        try:
            frame = pl.read_csv(
                body,
                has_header=False,
                schema=schema,
                columns=needed,
                extra_columns="raise",
                missing_columns="raise",
            )
        except pl.exceptions.PolarsError as error:
            for text in texts:
                self._unpacker.check_rows(text)
            said = str(error).partition("\n")[0]
            raise WrongValues(texts[0].source.file.place, said) from None
        if frame.height != sum(text.rows for text in texts):
            raise WrongValues(texts[0].source.file.place, "its rows are not one to a line")
        return frame

    def _check_places(self, text: CsvChunk) -> None:
        """Check that no number has more decimal places than are kept."""
        found = _MANY_PLACES.search(text.body)
        said = None if found is None else found[0].decode()
        for number in _SMALL_NUMBER.findall(text.body):
            places = Decimal(number.decode()).normalize().as_tuple().exponent
            if isinstance(places, int) and -places > PLACES:
                said = number.decode()
        if said is not None:
            raise WrongValues(
                text.source.file.place,
                f"a number has more than {PLACES} decimal places (…{said}), which decimals=True "
                "cannot keep exactly; decimals=False reads it",
            )

    def _without_next_midnight(
        self, frame: pl.DataFrame, text: CsvChunk
    ) -> tuple[pl.DataFrame, list[CsvChunk]]:
        """Leave out what is of the midnight after the days of a file: the next file has it."""
        source = text.source
        _, late = period_of(source.folder, source.file)
        times = frame[self._time.column]
        last = times.max()
        if late != (to_day_number(source.file.end) + 1) * DAY or last is None:
            return frame, [text]
        after = _times(frame, self._time.column) == late
        # A file of nothing else is another day's.
        if not after.any() or times.null_count() or (after.all() and text.first):
            return frame, [text]
        frame = frame.filter(~after)
        odd = text.odd | {Irregularity.NEXT_MIDNIGHT}
        return frame, [replace(text, rows=frame.height, odd=odd)]

    # Units

    def _expected_unit(self, source: FileTask) -> str | None:
        """Return the unit that the times of a file should have, or are known to have."""
        unit = self._time.unit_on(source.file.start)
        stats = source.stats
        if stats is not None and Irregularity.UNEXPECTED_UNIT in stats.irregularities:
            return _OTHER_UNIT[unit or "ms"]
        return unit

    def _unit(self, text: CsvChunk) -> str | None:
        return text.unit or self._expected_unit(text.source)

    def _shown_unit(self, source: FileTask, body: bytes, layout: Layout | None) -> str | None:
        """Return the unit that the first row of a file shows, if it is read for the first time."""
        if self._time.kind != "epoch" or source.stats is not None:
            return None
        at = self._positions[self._time.column]
        fields = first_row(body)
        at = at if layout is None else layout.places[at]
        if at >= len(fields) or not fields[at].isdigit() or len(fields[at]) > _DIGITS:
            return None
        return "us" if int(fields[at]) >= _MICROSECONDS else "ms"

    def _with_times(self, frame: pl.DataFrame, texts: Sequence[CsvChunk]) -> pl.DataFrame:
        """Turn what tells the time into moments at microseconds, UTC."""
        time = self._time
        if time.kind == "date_and_hour":
            if not set(time.made_from) <= set(frame.columns):
                return frame
            # Polars reads no hour without its minutes.
            parts = pl.concat_str(*time.made_from, pl.lit("00"), separator=" ")
            moment = parts.str.to_datetime(f"{time.format} %M", time_unit="us", strict=False)
            return frame.with_columns(moment.alias(time.column))
        epochs = [name for name in (time.column, *time.others) if name in frame.columns]
        if time.kind == "text" or not epochs:
            return frame
        unit = self._unit(texts[0])
        for name in epochs:
            values = frame[name]
            self._check_unit(values.min(), values.max(), texts[0], name)
            moments = (values * 1_000 if unit == "ms" else values).cast(MOMENT)
            frame.replace_column(frame.get_column_index(name), moments)
        return frame

    def _check_unit(self, low: Any, high: Any, text: CsvChunk, name: str) -> None:
        """Check the magnitude of times since 1970: all of a file are of one unit."""
        unit = self._unit(text)
        for value in (low, high):
            if value is not None and (value >= _MICROSECONDS) != (unit == "us"):
                found = "us" if value >= _MICROSECONDS else "ms"
                raise WrongUnit(
                    text.source.file.place,
                    f"{name} holds {_UNITS[found]}, as {value} shows, and other times of the file "
                    f"are {_UNITS[unit or 'ms']}",
                )

    def _learn(
        self, frame: pl.DataFrame, texts: Sequence[CsvChunk], *, full: bool
    ) -> list[FileStats]:
        """Hold every row against the names of the files, and note what they show."""
        self._check_filled(self._time.column, frame, texts)
        times = frame[self._time.column].to_numpy().view(np.int64)
        ends = np.cumsum([text.rows for text in texts])
        starts = np.concatenate([[0], ends[:-1]])
        # Before the first row of a file there is no other one.
        falls = np.setdiff1d(np.flatnonzero(times[1:] < times[:-1]) + 1, starts)
        broken = set(np.searchsorted(ends, falls).tolist())
        named = "symbol" in frame.columns
        learned = []
        for at, (text, start, end) in enumerate(
            zip(texts, starts.tolist(), ends.tolist(), strict=True)
        ):
            if text.rows and named:
                self._check_symbol(text.source, frame["symbol"].slice(start, text.rows))
            its = np.sort(times[start:end]) if at in broken else times[start:end]
            span = (int(its[0]), int(its[-1])) if text.rows else None
            learned.append(self._facts(text, span, at not in broken, checked=True, full=full))
        return learned

    def _facts(
        self,
        text: CsvChunk,
        span: tuple[int, int] | None,
        in_order: bool,
        *,
        checked: bool,
        full: bool = False,
    ) -> FileStats:
        """Compare the first and the last time of a file with its name, and note what was seen."""
        if span is not None:
            self._check_period(text.source, *span)
        first, last = span or (None, None)
        file, size, odd = text.source.file, len(text.body), text.odd
        if text.unit is not None and text.unit != self._time.unit_on(file.start):
            odd |= {Irregularity.UNEXPECTED_UNIT}
        elif text.source.stats is not None:
            odd |= text.source.stats.irregularities & {Irregularity.UNEXPECTED_UNIT}
        return FileStats(file.stamp, text.rows, first, last, in_order, size, checked, full, odd)

    def _check_filled(self, name: str, frame: pl.DataFrame, texts: Sequence[CsvChunk]) -> None:
        """See that no field of a column is empty, or cannot be read."""
        if not frame[name].null_count():
            return
        at = 0
        for text in texts:
            if frame[name].slice(at, text.rows).null_count():
                said = f"a row has no {name}, or no readable one"
                raise WrongValues(text.source.file.place, said)
            at += text.rows

    def _check_period(self, source: FileTask, first: int, last: int) -> None:
        early, late = period_of(source.folder, source.file)
        if first < early or last >= late:
            found = first if first < early else last
            raise OutOfPeriod(
                source.file.place,
                f"a row is of {_moment(found)}, and its name says {_days(source)}",
            )

    def _check_symbol(self, source: FileTask, values: pl.Series) -> None:
        """See that the rows are of the symbol whose folder they lie in."""
        others = values.filter(values != source.folder.symbol)
        if len(others) or values.null_count():
            other = others[0] if len(others) else None
            raise WrongValues(
                source.file.place,
                f"a row is of symbol {other!r}, and it lies in the folder of another",
            )

    def _sorted(
        self, frame: pl.DataFrame, learned: Sequence[FileStats], spans: list[tuple[FileTask, int]]
    ) -> pl.DataFrame:
        """Put rows into the order of time where the feed promises it and a file breaks it."""
        known: list[FileStats | None] = [*learned] or [source.stats for source, _ in spans]
        if all(stats is None or stats.sorted for stats in known):
            return frame
        parts, at = [], 0
        for _, rows in spans:
            parts.append(frame.slice(at, rows).sort(self._time.column, maintain_order=True))
            at += rows
        return pl.concat(parts)


def _moment(micros: int) -> str:
    return f"{to_datetime(micros):%Y-%m-%d %H:%M:%S.%f}"


def _days(source: FileTask) -> str:
    file = source.file
    return str(file.start) if file.start == file.end else f"{file.start} to {file.end}"


def counted(spans: Iterable[tuple[FileTask, int | None]]) -> Iterator[Chunk]:
    """Give rows of which nothing else is asked than how many there are, some at a time."""
    some: list[tuple[FileTask, int]] = []
    room = _ROWS
    for source, rows in spans:
        left = rows or 0
        while left:
            taken = min(left, room)
            some.append((source, taken))
            left, room = left - taken, room - taken
            if not room:
                yield Chunk(some, pl.DataFrame())
                some, room = [], _ROWS
    if some:
        yield Chunk(some, pl.DataFrame())


def batch_of(piece: Chunk, schema: pa.Schema) -> pa.RecordBatch:
    """Put the path columns beside what was read.

    Parameters
    ----------
    piece : Chunk
    schema : pyarrow.Schema
        Columns to give, in their order: path columns, and columns of the piece's frame.
    """
    own = piece.frame.to_arrow()
    streams = [
        (held.folder, sum(rows for _, rows in spans))
        for held, spans in groupby(piece.spans, lambda span: span[0].held)
    ]
    arrays = []
    for name in schema.names:
        if name in own.column_names:
            arrays.append(own.column(name).combine_chunks())
        elif name == "file":
            arrays.append(_repeated([(source.file.place, rows) for source, rows in piece.spans]))
        else:
            arrays.append(_repeated([(getattr(folder, name), rows) for folder, rows in streams]))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _repeated(runs: Sequence[tuple[str | None, int]]) -> pa.DictionaryArray:
    """Repeat each word as often as its rows are, as a dictionary array."""
    words, counts = zip(*runs, strict=True) if runs else ((), ())
    known = list(dict.fromkeys(word for word in words if word is not None))
    places: dict[str | None, int] = {word: at for at, word in enumerate(known)}
    if len(known) == len(set(words)) == 1 and sum(counts) <= _ROWS:
        indices = _zeros()[: sum(counts)]
    else:
        indices = np.repeat([places.get(word, -1) for word in words], counts).astype(np.int32)
    absent = indices < 0 if None in words else None
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, mask=absent), pa.array(map(str, known), pa.string()), safe=False
    )


@cache
def _zeros() -> npt.NDArray[np.int32]:
    """Give the places of one word again and again, made once: nobody writes to them."""
    return np.zeros(_ROWS, np.int32)


def _is_large(batch: Sequence[FileTask]) -> bool:
    """Tell whether a file is read by itself, in pieces; it has no neighbours, then."""
    return _weight(batch[0]) > SMALL


def _weight(source: FileTask) -> int:
    """Return the bytes that a file takes as a zip, or would take."""
    stats = source.stats
    if stats is not None and stats.inflated > SMALL_TEXT:
        return SMALL + 1
    return source.file.size if source.file.form is not Form.CSV else source.file.size // _PACKED


def _with_end(items: Iterator[T]) -> Iterator[tuple[T, bool]]:
    """Give each item, and whether it is the last one."""
    last = next(items, None)
    if last is None:
        return
    for item in items:
        yield last, False
        last = item
    yield last, True
