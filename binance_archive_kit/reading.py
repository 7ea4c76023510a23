"""From zips to rows: inflate, check, parse; in the order of the files, a few at a time.

Nothing is believed of a file that its bytes do not show: columns go by position, and the
first time rows of a file are read its every row is held against what the file's name
promises: number of columns, unit of the times, days it covers, order. (When rows are only
counted, the times of the first and the last one have to do.) What was learned are the
file's `Facts`; a file whose facts are known, and whose size and time have not changed
since, is not checked again.

Small files are joined before they are parsed and large ones are cut into pieces, so
that memory stays flat and thousands of little files cost hardly more than one large.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from binance_archive_kit.errors import FileError, OutOfPeriod, WrongUnit, WrongValues
from binance_archive_kit.facts import Facts, Source, period_of
from binance_archive_kit.feeds import MOMENT, Feed
from binance_archive_kit.inventory import HeldFile
from binance_archive_kit.moments import moment_of
from binance_archive_kit.texts import Cut, Text, Unpacker, outer_rows
from binance_archive_kit.threads import Ahead, Ordered

T = TypeVar("T")

#: Bytes of zip up to which a file is small, and up to which small files are joined.
SMALL = 4 << 20
#: Rows that are handed out in one go when nothing but their number is asked.
_ROWS = 1 << 19
#: From this value on a count since 1970 is one of microseconds.
_MICROSECONDS = 10**14
_UNITS = {"ms": "milliseconds", "us": "microseconds"}


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
    inflated : int
        Bytes of csv that were parsed.
    ends : bool
        Whether the last span's file ends with this piece.
    """

    spans: list[tuple[Source, int]]
    frame: pl.DataFrame
    learned: list[Facts] = field(default_factory=list)
    inflated: int = 0
    ends: bool = True


class Reader:
    """Reads the files of one feed.

    Parameters
    ----------
    root : Path
        Root of the store.
    feed : Feed
    filled : collection of str
        Columns of which no field may be empty, among those that are read; the time never may.
    full : bool
        Parse every column of a file that no one has parsed in full yet, whatever is asked, so
        that a file is rejected for any of its values.
    """

    def __init__(
        self, root: Path, feed: Feed, filled: Collection[str] = (), *, full: bool = False
    ) -> None:
        self._filled = filled
        self._full = full
        self._unpacker = Unpacker(root, feed.schema)
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
        if check and self._full:
            names = names | self._positions.keys()
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
        with Ordered[T](workers) as ordered:
            for is_large, batches in groupby(self._batches(sources), _is_large):
                if is_large:
                    each = [source for batch in batches for source in batch]
                    yield from self._read_large(each, wanted, finish, ordered, skip)
                    continue
                for batch in batches:

                    def work(batch: Sequence[Source] = batch) -> list[T]:
                        return [finish(piece) for piece in self._read_small(batch, wanted, skip)]

                    yield from ordered.submit(work)
            yield from ordered.rest()

    def _asked(self, columns: set[str]) -> bool:
        return "date" in columns or not columns.isdisjoint(self.feed.columns)

    def _batches(self, sources: Sequence[Source]) -> Iterator[list[Source]]:
        """Join neighbours that can be read as one: small, and of one unit."""
        batch: list[Source] = []
        weight = 0
        kind: object = None
        for source in sources:
            its = source if source.without else None, self._time.unit_on(source.file.start)
            if batch and (weight + source.file.size > SMALL or its != kind):
                yield batch
                batch, weight = [], 0
            batch.append(source)
            weight += source.file.size
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
            texts = [self._unpacker.text(source) for source in sources]
            return [self._glance(texts, columns) or self._parse(texts, columns)]
        except FileError as error:
            if len(sources) == 1:
                if skip is None:
                    raise
                skip(error)
                return []
        # One of them is bad: let each speak for itself.
        return [piece for one in sources for piece in self._read_small([one], columns, skip)]

    def _glance(self, texts: Sequence[Text], columns: set[str]) -> Piece | None:
        """Look at the first and the last row only, if rows are to be counted and not read.

        None if more is asked, or if those two do not tell the times of all.
        """
        time = self._time
        if time.kind != "epoch" or not self.schema.sorted:
            return None
        if self._asked(columns) or self._full or texts[0].source.without:
            return None
        learned = []
        for text in texts:
            file = text.source.file
            unit = time.unit_on(file.start)
            fields = [row[self._positions[time.column]] for row in outer_rows(text)]
            if not all(map(bytes.isdigit, fields)):
                return None
            outer = [int(field) for field in fields]
            for value in outer:
                self._check_unit(value, value, file, time.column, unit)
            times = [value * 1_000 for value in outer] if unit == "ms" else outer
            span = (min(times), max(times)) if times else None
            in_order = not times or times[0] <= times[-1]
            learned.append(self._facts(text, span, in_order, checked=False))
        spans = [(text.source, text.rows) for text in texts]
        return Piece(spans, pl.DataFrame(), learned, sum(len(text.body) for text in texts))

    def _read_large(
        self,
        sources: Sequence[Source],
        columns: set[str],
        finish: Callable[[Piece], T],
        ordered: Ordered[T],
        skip: Callable[[FileError], None] | None,
    ) -> Iterator[T]:
        """Read files piece by piece: the next ones are inflated while others are parsed."""
        with Ahead(self._cuts(sources, columns, skip)) as cuts:
            try:
                for cut, ends in cuts:

                    def work(cut: Cut = cut, ends: bool = ends) -> list[T]:
                        text = self._unpacker.joined(cut)
                        piece = self._glance([text], columns) or self._parse([text], columns)
                        piece.ends = ends
                        return [finish(piece)]

                    yield from ordered.submit(work)
            except FileError:
                # What came before goes first: it may be wrong, too.
                yield from ordered.rest()
                raise

    def _cuts(
        self,
        sources: Sequence[Source],
        columns: set[str],
        skip: Callable[[FileError], None] | None,
    ) -> Generator[tuple[Cut, bool]]:
        """Cut files into pieces, each with whether it is the last one of its file."""
        for source in sources:
            if skip is not None:
                # Rows that were handed out cannot be taken back, so look at all of them first.
                try:
                    for cut in self._unpacker.cut(source):
                        self._parse([self._unpacker.joined(cut)], columns)
                except FileError as error:
                    skip(error)
                    continue
            yield from _with_end(self._unpacker.cut(source))

    # Parsing

    def _parse(self, texts: Sequence[Text], columns: set[str]) -> Piece:
        """Parse the csv of one or more files, and check those that are read for the first time."""
        spans = [(text.source, text.rows) for text in texts]
        check = not all(map(self._is_checked, texts))
        disordered = self.schema.sorted and not all(
            source.facts is None or source.facts.sorted for source, _ in spans
        )
        without = spans[0][0].without
        needed = self._needed(columns, check=check, timed=disordered or bool(without))
        frame = self._parsed(texts, needed)
        if check and frame[self.schema.columns[-1].column].null_count():
            # Either fields are empty, or rows are short and others make up for it.
            for text in texts:
                self._unpacker.check_rows(text)
        frame = self._with_times(frame, texts)
        for name in self._filled:
            self._check_filled(name, frame, texts)
        full = len(needed) == len(self._positions)
        learned = self._learn(frame, texts, full=full) if check else []
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
        return Piece(spans, asked, learned, sum(len(text.body) for text in texts))

    def _is_checked(self, text: Text) -> bool:
        """Tell whether rows and columns were looked at as this reader wants it."""
        facts = text.source.facts
        return facts is not None and facts.checked and (facts.full or not self._full)

    def _parsed(self, texts: Sequence[Text], needed: list[int]) -> pl.DataFrame:
        """Parse some of the columns, by their positions."""
        body = texts[0].body if len(texts) == 1 else b"".join(text.body for text in texts)
        try:
            frame = pl.read_csv(
                body,
                has_header=False,
                schema=self.feed.raw,
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

    def _with_times(self, frame: pl.DataFrame, texts: Sequence[Text]) -> pl.DataFrame:
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
        file = texts[0].source.file
        unit = time.unit_on(file.start)
        for name in epochs:
            values = frame[name]
            self._check_unit(values.min(), values.max(), file, name, unit)
            moments = (values * 1_000 if unit == "ms" else values).cast(MOMENT)
            frame.replace_column(frame.get_column_index(name), moments)
        return frame

    def _check_unit(self, low: Any, high: Any, file: HeldFile, name: str, unit: str | None) -> None:
        """Hold the magnitude of times since 1970 against the unit that files of the day have."""
        for value in (low, high):
            if value is not None and (value >= _MICROSECONDS) != (unit == "us"):
                found = "us" if value >= _MICROSECONDS else "ms"
                raise WrongUnit(
                    file.place,
                    f"{name} holds {_UNITS[found]}, as {value} shows, and files of {file.start} "
                    f"hold {_UNITS[unit or 'ms']}",
                )

    def _learn(self, frame: pl.DataFrame, texts: Sequence[Text], *, full: bool) -> list[Facts]:
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
        text: Text,
        span: tuple[int, int] | None,
        in_order: bool,
        *,
        checked: bool,
        full: bool = False,
    ) -> Facts:
        """Hold the first and the last time of a file against its name, and note what was seen."""
        if span is not None:
            self._check_period(text.source, *span)
        first, last = span or (None, None)
        file, size = text.source.file, len(text.body)
        return Facts(file.stamp, text.rows, first, last, in_order, size, checked, full)

    def _check_filled(self, name: str, frame: pl.DataFrame, texts: Sequence[Text]) -> None:
        """See that no field of a column is empty, or cannot be read."""
        if not frame[name].null_count():
            return
        at = 0
        for text in texts:
            if frame[name].slice(at, text.rows).null_count():
                said = f"a row has no {name}, or no readable one"
                raise WrongValues(text.source.file.place, said)
            at += text.rows

    def _check_period(self, source: Source, first: int, last: int) -> None:
        early, late = period_of(source.stream, source.file)
        if first < early or last >= late:
            found = first if first < early else last
            raise OutOfPeriod(
                source.file.place,
                f"a row is of {_moment(found)}, and its name says {_days(source)}",
            )

    def _check_symbol(self, source: Source, values: pl.Series) -> None:
        """See that the rows are of the symbol whose folder they lie in."""
        others = values.filter(values != source.stream.symbol)
        if len(others) or values.null_count():
            other = others[0] if len(others) else None
            raise WrongValues(
                source.file.place,
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


def _moment(micros: int) -> str:
    return f"{moment_of(micros):%Y-%m-%d %H:%M:%S.%f}"


def _days(source: Source) -> str:
    file = source.file
    return str(file.start) if file.start == file.end else f"{file.start} to {file.end}"


def counted(spans: Iterable[tuple[Source, int | None]]) -> Iterator[Piece]:
    """Give rows of which nothing else is asked than how many there are, some at a time."""
    some: list[tuple[Source, int]] = []
    room = _ROWS
    for source, rows in spans:
        left = rows or 0
        while left:
            taken = min(left, room)
            some.append((source, taken))
            left, room = left - taken, room - taken
            if not room:
                yield Piece(some, pl.DataFrame())
                some, room = [], _ROWS
    if some:
        yield Piece(some, pl.DataFrame())


def batch_of(piece: Piece, schema: pa.Schema) -> pa.RecordBatch:
    """Put the path columns beside what was read.

    Parameters
    ----------
    piece : Piece
    schema : pyarrow.Schema
        Columns to give, in their order: path columns, and columns of the piece's frame.
    """
    own = piece.frame.to_arrow()
    streams = [
        (held.stream, sum(rows for _, rows in spans))
        for held, spans in groupby(piece.spans, lambda span: span[0].held)
    ]
    arrays = []
    for name in schema.names:
        if name in own.column_names:
            arrays.append(own.column(name).combine_chunks())
        elif name == "file":
            arrays.append(_repeated([(source.file.place, rows) for source, rows in piece.spans]))
        else:
            arrays.append(_repeated([(getattr(stream, name), rows) for stream, rows in streams]))
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


def _is_large(batch: Sequence[Source]) -> bool:
    """Tell whether a file is read by itself, in pieces; it has no neighbours, then."""
    return batch[0].file.size > SMALL


def _with_end(items: Iterator[T]) -> Iterator[tuple[T, bool]]:
    """Give each item, and whether it is the last one."""
    last = next(items, None)
    if last is None:
        return
    for item in items:
        yield last, False
        last = item
    yield last, True
