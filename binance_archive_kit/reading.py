"""From zips to rows: inflate, check, parse; in the order of the files, a few at a time.

Nothing is believed of a file that its bytes do not show. The header row is detected,
columns go by position, and the first time a file is read its every row is held against
what the file's name promises: number of columns, unit of the times, days it covers,
order. What was learned are the file's `Facts`; a file whose facts are known, and whose
size and time have not changed since, is not checked again.

Small files are joined before they are parsed and large ones are cut into pieces, so
that memory stays flat and thousands of little files cost hardly more than one large.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from isal import isal_zlib
from isal.igzip_lib import IsalError

from binance_archive_kit.enums import Interval
from binance_archive_kit.errors import (
    FileError,
    OutOfPeriod,
    UnreadableZip,
    WrongColumns,
    WrongUnit,
    WrongValues,
)
from binance_archive_kit.feeds import MOMENT, Feed
from binance_archive_kit.inventory import HeldFile
from binance_archive_kit.keys import Stream, member_of
from binance_archive_kit.members import BadMemberError, Member, find_member

T = TypeVar("T")

#: Bytes of csv that are parsed in one go.
_PIECE = 8 << 20
#: Bytes of zip up to which a file is small, and up to which small files are joined.
_SMALL = 2 << 20
_READ = 1 << 20
#: Rows that are handed out in one go when nothing but their number is asked.
_ROWS = 1 << 20
#: From this value on a count since 1970 is one of microseconds.
_MICROSECONDS = 10**14
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Facts:
    """What reading a file has shown.

    Attributes
    ----------
    size, mtime : int
        Of the file that was read; of another file these facts say nothing.
    rows : int
    first, last : int or None
        Earliest and latest time of a row, microseconds since 1970 UTC; None without rows.
    sorted : bool
        Whether rows come in the order of time.
    inflated : int
        Bytes of its csv.
    """

    size: int
    mtime: int
    rows: int
    first: int | None
    last: int | None
    sorted: bool
    inflated: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read.

    Attributes
    ----------
    file : HeldFile
    stream : Stream
    facts : Facts or None
        None when it has not been read before, or was changed since.
    without : frozenset of date
        UTC days that another file gives instead.
    """

    file: HeldFile
    stream: Stream
    facts: Facts | None = None
    without: frozenset[date] = frozenset()


@dataclass(slots=True)
class Piece:
    """Rows that were read together.

    Attributes
    ----------
    spans : list of (Source, int)
        Whose rows they are, and how many of each, in their order.
    frame : polars.DataFrame
        The columns asked for; no columns at all when only rows were asked for.
    learned : list of Facts
        For each span, what these rows show of its file; empty when it was known.
    inflated : int or None
        Bytes of csv that were parsed; None when no file was opened.
    ends : bool
        Whether the last span's file ends with this piece.
    """

    spans: list[tuple[Source, int]]
    frame: pl.DataFrame
    learned: list[Facts] = field(default_factory=list)
    inflated: int | None = None
    ends: bool = True

    @property
    def rows(self) -> int:
        """Count the rows."""
        return sum(count for _, count in self.spans)


@dataclass(frozen=True, slots=True)
class _Text:
    """The csv of one file, or a piece of it, without its header."""

    source: Source
    body: bytes
    rows: int


class Reader:
    """Reads the files of one feed.

    Parameters
    ----------
    root : Path
        Root of the store.
    feed : Feed
    """

    def __init__(self, root: Path, feed: Feed) -> None:
        self.root = root
        self.feed = feed
        self.schema = feed.schema
        self._time = feed.schema.time
        self._positions = {name: at for at, name in enumerate(feed.raw)}

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
        return sorted(self._positions[name] for name in names & self._positions.keys())

    # Reading

    def pieces(
        self,
        sources: Sequence[Source],
        columns: Collection[str],
        finish: Callable[[Piece], T],
        *,
        workers: int,
        skip: Callable[[FileError], None] | None = None,
    ) -> Generator[T]:
        """Read files, in their order, and give what `finish` makes of each piece.

        Parameters
        ----------
        sources : sequence of Source
        columns : collection of str
            What the frames are to hold: own columns, and ``date``.
        finish : callable
            Called with each `Piece`, on one of the reading threads.
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
        with _Ordered[T](workers) as ordered:
            for batch in self._batches(sources, wanted):
                if batch[0].file.size > _SMALL and not self._is_known(batch[0], wanted):
                    yield from self._read_large(batch[0], wanted, finish, ordered, skip)
                    continue

                def work(batch: Sequence[Source] = batch) -> list[T]:
                    if self._is_known(batch[0], wanted):
                        return [finish(_unread(batch))]
                    return [finish(piece) for piece in self._read_small(batch, wanted, skip)]

                yield from ordered.submit(work)
            yield from ordered.rest()

    def _is_known(self, source: Source, columns: set[str]) -> bool:
        """Whether nothing is asked of a file that its facts do not say: its number of rows."""
        return source.facts is not None and not source.without and not self._asked(columns)

    def _asked(self, columns: set[str]) -> bool:
        return "date" in columns or not columns.isdisjoint(self.feed.columns)

    def _batches(self, sources: Sequence[Source], columns: set[str]) -> Iterator[list[Source]]:
        """Join neighbours that can be read as one: small, of one unit, all known or none."""
        batch: list[Source] = []
        weight = 0
        kind: object = None
        for source in sources:
            known = self._is_known(source, columns)
            size = (source.facts.rows if source.facts else 0) if known else source.file.size
            its = known, source.without, self._time.unit_on(source.file.start)
            most = _ROWS if known else _SMALL
            if batch and (weight + size > most or its != kind):
                yield batch
                batch, weight = [], 0
            batch.append(source)
            weight += size
            kind = its
        if batch:
            yield batch

    def _read_small(
        self,
        sources: Sequence[Source],
        columns: set[str],
        skip: Callable[[FileError], None] | None,
    ) -> list[Piece]:
        """Read files that fit into memory together, and parse them as one."""
        try:
            texts = [self._text(source) for source in sources]
            return [self._parse(texts, columns)]
        except FileError as error:
            if len(sources) == 1:
                if skip is None:
                    raise
                skip(error)
                return []
        # One of them is bad: let each speak for itself.
        return [piece for one in sources for piece in self._read_small([one], columns, skip)]

    def _read_large(
        self,
        source: Source,
        columns: set[str],
        finish: Callable[[Piece], T],
        ordered: _Ordered[T],
        skip: Callable[[FileError], None] | None,
    ) -> Iterator[T]:
        """Read a file piece by piece: the next one is inflated while others are parsed."""
        if skip is not None and source.facts is None:
            # Rows that were handed out cannot be taken back, so look at all of them first.
            try:
                for text in self._texts(source):
                    self._parse([text], set())
            except FileError as error:
                skip(error)
                return
        for text, ends in _with_end(self._texts(source)):

            def work(text: _Text = text, ends: bool = ends) -> list[T]:
                piece = self._parse([text], columns)
                piece.ends = ends
                return [finish(piece)]

            yield from ordered.submit(work)

    # One file's csv

    def _text(self, source: Source) -> _Text:
        """Inflate a small file and take its header off."""
        name = source.file.key
        try:
            with (self.root / name).open("rb", buffering=0) as file:
                length = os.fstat(file.fileno()).st_size
                packed = file.read(length)
            member = _member(io.BytesIO(packed), length, name)
            inside = memoryview(packed)[member.start : member.start + member.compressed]
            if member.method:
                body = isal_zlib.decompress(inside, -15, max(member.size, 1))
            else:
                body = bytes(inside)
        except OSError as error:
            raise UnreadableZip(name, f"it cannot be read: {error.strerror or error}") from None
        except IsalError as error:  # type: ignore[misc]  # its stub says otherwise
            raise UnreadableZip(name, f"its member does not inflate: {error}") from None
        if (isal_zlib.crc32(body), len(body)) != (member.crc, member.size):
            raise UnreadableZip(name, "its bytes do not have the recorded size and CRC-32")
        body = self._without_header(name, body)
        return _Text(source, body, self._count(name, body))

    def _texts(self, source: Source) -> Iterator[_Text]:
        """Inflate a large file piece by piece, each ending with a whole row."""
        name = source.file.key
        rest, begun = b"", False
        for chunk in self._inflate(name):
            rest += chunk
            if len(rest) < _PIECE:
                continue
            end = rest.rfind(b"\n") + 1
            body, rest = rest[:end], rest[end:]
            if not begun:
                body, begun = self._without_header(name, body), True
            yield _Text(source, body, self._count(name, body))
        if not begun:
            rest = self._without_header(name, rest)
        if rest or not begun:
            yield _Text(source, rest, self._count(name, rest))

    def _inflate(self, name: str) -> Iterator[bytes]:
        try:
            with (self.root / name).open("rb", buffering=0) as file:
                member = _member(file, os.fstat(file.fileno()).st_size, name)
                inflater = isal_zlib.decompressobj(-15) if member.method else None
                crc = size = 0
                left = member.compressed
                file.seek(member.start)
                while left:
                    chunk = file.read(min(left, _READ))
                    if not chunk:
                        raise UnreadableZip(name, "the zip is cut off")
                    left -= len(chunk)
                    if inflater is not None:
                        chunk = inflater.decompress(chunk)
                    crc = isal_zlib.crc32(chunk, crc)
                    size += len(chunk)
                    yield chunk
        except OSError as error:
            raise UnreadableZip(name, f"it cannot be read: {error.strerror or error}") from None
        except IsalError as error:  # type: ignore[misc]  # its stub says otherwise
            raise UnreadableZip(name, f"its member does not inflate: {error}") from None
        if (crc, size) != (member.crc, member.size):
            raise UnreadableZip(name, "its bytes do not have the recorded size and CRC-32")

    def _without_header(self, name: str, body: bytes) -> bytes:
        """Take the header row off, if there is one, after a look at what it says."""
        if not body or body[:1].isdigit() or body[:1] in b'-"':
            return body
        end = body.find(b"\n") + 1 or len(body)
        said = body[:end].decode(errors="replace").strip().split(",")
        columns = self.schema.columns
        fits = len(said) == len(columns) and all(
            word in (column.name, "ignore") for word, column in zip(said, columns, strict=True)
        )
        if not fits:
            begins = ",".join(said)[:80]
            raise WrongColumns(
                name, f"it begins {begins!r}, and its header should be {self.schema.header_line!r}"
            )
        return body[end:]

    def _count(self, name: str, body: bytes) -> int:
        """Count the rows, holding the number of their fields against the columns."""
        if not body:
            return 0
        if not body.endswith(b"\n"):
            raise WrongColumns(name, "its last row is cut off: it has no end of line")
        columns = len(self.schema.columns)
        commas = int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord(",")))
        rows, over = divmod(commas, columns - 1)
        if over or body.count(b",", 0, body.find(b"\n")) != columns - 1:
            first = body[: body.find(b"\n")].count(b",") + 1
            raise WrongColumns(
                name,
                f"its first row has {first} fields and there are {commas:,} commas in all; "
                f"a row of {self.schema.market} {self.schema.data_type} has {columns} fields",
            )
        return rows

    def _check_rows(self, text: _Text) -> None:
        """See that each row has its fields, and not only all rows together."""
        letters = np.frombuffer(text.body, np.uint8)
        marks = letters[(letters == ord(",")) | (letters == ord("\n"))]
        columns = len(self.schema.columns)
        ends = marks[columns - 1 :: columns] == ord("\n")
        if len(marks) != text.rows * columns or not ends.all():
            row = int(np.argmin(ends)) + 1
            raise WrongColumns(text.source.file.key, f"row {row:,} does not have {columns} fields")

    # Parsing

    def _parse(self, texts: Sequence[_Text], columns: set[str]) -> Piece:
        """Parse the csv of one or more files, and check those that are read for the first time."""
        spans = [(text.source, text.rows) for text in texts]
        check = any(source.facts is None for source, _ in spans)
        unsorted = self.schema.sorted and not all(
            source.facts is None or source.facts.sorted for source, _ in spans
        )
        without = spans[0][0].without
        needed = self._needed(columns, check=check, timed=unsorted or bool(without))
        bodies = [text.body for text in texts if text.rows]
        try:
            frame = pl.read_csv(
                bodies or b"",
                has_header=False,
                schema=self.feed.raw,
                columns=needed,
                extra_columns="raise",
                missing_columns="raise",
            )
        except pl.exceptions.PolarsError as error:
            for text in texts:
                self._check_rows(text)
            said = str(error).partition("\n")[0]
            raise WrongValues(texts[0].source.file.key, said) from None
        if frame.height != sum(text.rows for text in texts):
            raise WrongValues(texts[0].source.file.key, "its rows are not one to a line")
        if check and frame[self.schema.columns[-1].column].null_count():
            # Either fields are empty, or rows are short and others make up for it.
            for text in texts:
                self._check_rows(text)
        frame = self._with_times(frame, texts)
        learned = self._learn(frame, texts) if check else []
        if self.schema.sorted:
            frame = self._sorted(frame, learned, spans)
        if "date" in columns or without:
            frame = frame.with_columns(pl.col(self._time.column).cast(pl.Date).alias("date"))
        if without:
            frame = frame.filter(~pl.col("date").is_in(without))
            spans = [(spans[0][0], frame.height)]
        words = [n for n, dtype in frame.schema.items() if dtype == pl.String and n in columns]
        if words:
            # Nothing and "" are the same nothing.
            frame = frame.with_columns(pl.col(words).replace("", None))
        asked = [name for name in frame.columns if name in columns]
        return Piece(spans, frame.select(asked), learned, sum(map(len, bodies)))

    def _with_times(self, frame: pl.DataFrame, texts: Sequence[_Text]) -> pl.DataFrame:
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
        unit = time.unit_on(texts[0].source.file.start)
        for name in epochs:
            self._check_unit(frame[name], texts[0].source.file, name, unit)
        return frame.with_columns((pl.col(epochs) * (1_000 if unit == "ms" else 1)).cast(MOMENT))

    def _check_unit(self, values: pl.Series, file: HeldFile, name: str, unit: str | None) -> None:
        """Hold the magnitude of times since 1970 against the unit that files of the day have."""
        for value in (values.min(), values.max()):
            if isinstance(value, int) and (value >= _MICROSECONDS) != (unit == "us"):
                found = "us" if value >= _MICROSECONDS else "ms"
                raise WrongUnit(
                    file.key,
                    f"{name} holds {_UNITS[found]}, as {value} shows, and files of {file.start} "
                    f"hold {_UNITS[unit or 'ms']}",
                )

    def _learn(self, frame: pl.DataFrame, texts: Sequence[_Text]) -> list[Facts]:
        """Hold every row against the names of the files, and note what they show."""
        moments = frame[self._time.column]
        at = 0
        learned = []
        if moments.null_count():
            self._blame_nulls(moments, texts)
        times = moments.to_physical().to_numpy()
        # Where a time is earlier than the one before it.
        falls = np.flatnonzero(times[1:] < times[:-1]) + 1
        for text in texts:
            end = at + text.rows
            file = text.source.file
            first = last = None
            if text.rows:
                part = times[at:end]
                first, last = int(part.min()), int(part.max())
                self._check_period(text.source, first, last)
                if "symbol" in frame.columns:
                    self._check_symbol(text.source, frame["symbol"].slice(at, text.rows))
            inside = bool(np.any((falls > at) & (falls < end)))
            learned.append(
                Facts(file.size, file.mtime, text.rows, first, last, not inside, len(text.body))
            )
            at = end
        return learned

    def _blame_nulls(self, moments: pl.Series, texts: Sequence[_Text]) -> None:
        at = 0
        for text in texts:
            if moments.slice(at, text.rows).null_count():
                raise WrongValues(
                    text.source.file.key, f"a row has no {self._time.column}, or no readable one"
                )
            at += text.rows

    def _check_period(self, source: Source, first: int, last: int) -> None:
        early, late = period_of(source.stream, source.file)
        if first < early or last >= late:
            found = first if first < early else last
            raise OutOfPeriod(
                source.file.key, f"a row is of {_moment(found)}, and its name says {_days(source)}"
            )

    def _check_symbol(self, source: Source, values: pl.Series) -> None:
        """See that the rows are of the symbol whose folder they lie in."""
        others = values.filter(values != source.stream.symbol)
        if len(others) or values.null_count():
            other = others[0] if len(others) else None
            raise WrongValues(
                source.file.key,
                f"a row is of symbol {other!r}, and it lies in the folder of another",
            )

    def _sorted(
        self, frame: pl.DataFrame, learned: Sequence[Facts], spans: list[tuple[Source, int]]
    ) -> pl.DataFrame:
        """Put rows into the order of time where the feed promises it and a file breaks it."""
        known: list[Facts | None] = [*learned] or [source.facts for source, _ in spans]
        if all(facts is None or facts.sorted for facts in known):
            return frame
        parts, at = [], 0
        for _, rows in spans:
            parts.append(frame.slice(at, rows).sort(self._time.column, maintain_order=True))
            at += rows
        return pl.concat(parts)


_UNITS = {"ms": "milliseconds", "us": "microseconds"}


def period_of(stream: Stream, file: HeldFile) -> tuple[int, int]:
    """Give the times that rows of a file may have, as microseconds since 1970 UTC.

    Returns
    -------
    (int, int)
        From, inclusive; to, exclusive.
    """
    slack_before, slack_after = _slack(stream)
    start = datetime.combine(file.start, datetime.min.time(), UTC)
    end = datetime.combine(file.end, datetime.min.time(), UTC) + _DAY
    micro = timedelta(microseconds=1)
    return (start - slack_before - _EPOCH) // micro, (end + slack_after - _EPOCH) // micro


#: Candles that do not divide the day may begin in the month before.
_LONG = {Interval.D3: timedelta(days=3), Interval.W1: timedelta(days=7)}
#: Labels of the end of a period, and the clocks of two machines, may reach into another day.
_BLUR = timedelta(minutes=5)
_EXACT = ("klines", "trades", "aggTrades")


def _slack(stream: Stream) -> tuple[timedelta, timedelta]:
    if stream.interval is not None:
        return _LONG.get(stream.interval, timedelta()), timedelta()
    if stream.data_type in _EXACT:
        return timedelta(), timedelta()
    return _BLUR, _BLUR


def _member(file: io.BufferedIOBase | io.RawIOBase | io.BytesIO, length: int, key: str) -> Member:
    try:
        member = find_member(file, length)  # type: ignore[arg-type]
    except BadMemberError as error:
        raise UnreadableZip(key, str(error)) from None
    if member.name != member_of(key):
        raise UnreadableZip(key, f"its member is {member.name!r} and not {member_of(key)!r}")
    return member


def _moment(micros: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S.%f}"


def _days(source: Source) -> str:
    file = source.file
    return str(file.start) if file.start == file.end else f"{file.start} to {file.end}"


def batch_of(piece: Piece, schema: pa.Schema) -> pa.RecordBatch:
    """Put the path columns beside what was read.

    Parameters
    ----------
    piece : Piece
    schema : pyarrow.Schema
        Columns to give, in their order: path columns, and columns of the piece's frame.
    """
    counts = [count for _, count in piece.spans]
    own = piece.frame.to_arrow()
    arrays = []
    for name in schema.names:
        if name in own.column_names:
            arrays.append(own.column(name))
        else:
            words = [_path_word(source, name) for source, _ in piece.spans]
            arrays.append(_repeated(words, counts))
    return pa.RecordBatch.from_arrays([_whole(array) for array in arrays], schema=schema)


def _path_word(source: Source, name: str) -> str | None:
    if name == "file":
        return source.file.key
    word = getattr(source.stream, name)
    return None if word is None else str(word)


def _repeated(words: Sequence[str | None], counts: Sequence[int]) -> pa.DictionaryArray:
    """Repeat each word as often as its rows are, as a dictionary array."""
    known = list(dict.fromkeys(word for word in words if word is not None))
    places: dict[str | None, int] = {word: at for at, word in enumerate(known)}
    indices = np.repeat([places.get(word, -1) for word in words], counts).astype(np.int32)
    absent = indices < 0
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, mask=absent if absent.any() else None), pa.array(known, pa.string())
    )


def _whole(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _unread(sources: Sequence[Source]) -> Piece:
    """Give the rows of files of which nothing else is asked than how many there are."""
    spans = [(source, source.facts.rows) for source in sources if source.facts is not None]
    return Piece(spans, pl.DataFrame())


def merged(facts: Facts | None, more: Facts) -> Facts:
    """Put together what two pieces of a file show, the second following the first."""
    if facts is None:
        return more
    ends = [each for each in (facts.first, facts.last, more.first, more.last) if each is not None]
    follows = facts.last is None or more.first is None or facts.last <= more.first
    return Facts(
        facts.size,
        facts.mtime,
        facts.rows + more.rows,
        min(ends, default=None),
        max(ends, default=None),
        facts.sorted and more.sorted and follows,
        facts.inflated + more.inflated,
    )


def _with_end(items: Iterator[T]) -> Iterator[tuple[T, bool]]:
    """Give each item, and whether it is the last one."""
    last = next(items, None)
    if last is None:
        return
    for item in items:
        yield last, False
        last = item
    yield last, True


class _Ordered(Generic[T]):
    """Work on threads whose results come back in the order it was handed over."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, "reader")
        self._most = 2 * workers
        self._jobs: deque[Future[list[T]]] = deque()

    def __enter__(self) -> _Ordered[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, work: Callable[[], list[T]]) -> Iterator[T]:
        """Hand work over; give what is done, waiting when too much is under way."""
        self._jobs.append(self._pool.submit(work))
        while self._jobs and (len(self._jobs) > self._most or self._jobs[0].done()):
            yield from self._jobs.popleft().result()

    def rest(self) -> Iterator[T]:
        """Give the results of all that is still under way."""
        while self._jobs:
            yield from self._jobs.popleft().result()
