"""Read files as csv text: inflated, without header, and with the number of its rows.

The size and the CRC-32 of a zip must be the recorded ones; a bare csv has none. The header row
is detected, not assumed, and compared with the feed's columns. Text that is unusual but
unambiguous is read, and noted as an `Irregularity`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from isal import isal_zlib
from isal.igzip_lib import IsalError

from binance_archive_kit.archive.keys import member_of
from binance_archive_kit.archive.schemas import Schema, load_schemas
from binance_archive_kit.errors import NoAccess, UnreadableZip, WrongColumns
from binance_archive_kit.reading.file_stats import FileTask, Irregularity
from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.inventory import Form, StoredFile
from binance_archive_kit.storage.zips import (
    BadMemberError,
    Member,
    find_member,
    inflated,
    pieces_of,
    size_limit,
)

Irregularities = frozenset[Irregularity]
NO_IRREGULARITIES: Irregularities = frozenset()

#: Other words for columns, from Binance's documentation and from common tools.
_SYNONYMS = {
    "quoteassetvolume": "quote_volume",
    "numberoftrades": "count",
    "trades": "count",
    "takerbuybaseassetvolume": "taker_buy_volume",
    "takerbuybasevolume": "taker_buy_volume",
    "takerbuyquoteassetvolume": "taker_buy_quote_volume",
    "unused": "ignore",
    "tradeid": "id",
    "quantity": "qty",
    "quotequantity": "quote_qty",
    "aggregatetradeid": "agg_trade_id",
    "wasthebuyerthemaker": "is_buyer_maker",
    "wasthetradethebestpricematch": "is_best_match",
    "fundingrate": "last_funding_rate",
    "fundingtime": "calc_time",
}
#: Bytes of csv in a chunk of a large file. The first chunk is smaller, because a few rows may be
#: all that is needed; each one after it is twice as large, up to this.
CHUNK = 12 << 20
_FIRST_CHUNK = 1 << 20
#: Bytes of csv up to which a file is read at once.
SMALL_TEXT = 64 << 20
#: More bytes than any row has.
_LONG_ROW = 1 << 20
#: Bytes of a file that are read at once.
_READ = 1 << 20
#: More bytes than any block that is allocated again and again.
_LARGE = 24 << 20
#: Bytes that are counted at once, so that they stay in the processor's cache.
_BLOCK = 1 << 18
_NEWLINE, _COMMA, _NINE, _LETTER_E = b"\n,9e"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANK_ENDS = (b"\n\n", b"\n\r\n")
_BLANK_RUNS = re.compile(rb"\n[ \t\r\n]*\n")
_BLANK_LINES = re.compile(rb"^[ \t\r]*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file differ from those of its feed.

    Attributes
    ----------
    fields : int
        Fields of a row.
    positions : tuple of int
        The field that holds each column of the feed.
    """

    fields: int
    positions: tuple[int, ...]


def is_header(body: bytes) -> bool:
    """Return whether csv text begins with a header; a row begins with a number or quotes."""
    first = body[1:2] if body[:1] == b'"' else body[:1]
    return bool(body) and not first.isdigit() and first not in (b"", b"-", b'"')


def parse_header(name: str, line: bytes, schema: Schema) -> tuple[Layout | None, Irregularities]:
    """Find the columns that a header names.

    Parameters
    ----------
    name : str
        Of the file.

    Returns
    -------
    (Layout or None, frozenset of Irregularity)
        None if rows are laid out as those of the feed.

    Raises
    ------
    WrongColumns
        If columns are missing, named twice or unclear.
    """
    words = [word.strip(' "') for word in line.decode(errors="replace").strip().split(",")]
    columns = schema.columns
    if len(words) == len(columns) and all(
        word in (column.name, "ignore") for word, column in zip(words, columns, strict=True)
    ):
        return None, NO_IRREGULARITIES
    known = _words_of(schema)
    named = [known.get(_folded(word)) for word in words]
    positions = {column: index for index, column in enumerate(named) if column is not None}
    extra = [index for index, column in enumerate(named) if column is None]
    missing = [column for column in range(len(columns)) if column not in positions]
    once = len(positions) + len(extra) == len(words)
    if once and not missing:
        order = tuple(positions[column] for column in range(len(columns)))
        irregularities = {Irregularity.EXTRA_COLUMNS} if extra else set()
        if list(order) != sorted(order) or any(
            words[index] != column.name for index, column in zip(order, columns, strict=True)
        ):
            irregularities.add(Irregularity.OTHER_HEADER)
        usual = order == tuple(range(len(words)))
        return None if usual else Layout(len(words), order), frozenset(irregularities)
    in_place = all(column in (index, None) for index, column in enumerate(named))
    # One word that no feed has, where the only missing column should be, is its new name.
    renamed = once and in_place and len(missing) == 1 and missing == extra
    if renamed and _folded(words[missing[0]]) not in _all_words():
        return None, frozenset([Irregularity.OTHER_HEADER])
    begin = ",".join(words)[:80]
    raise WrongColumns(
        name, f"it begins {begin!r}, and its header should be {schema.header_line!r}"
    )


def _folded(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))


@cache
def _words_of(schema: Schema) -> dict[str, int]:
    """Return the index of the column that each folded word names."""
    names = {column.name: index for index, column in enumerate(schema.columns)}
    synonyms = {word: names[name] for word, name in _SYNONYMS.items() if name in names}
    ours = {_folded(column.column): index for index, column in enumerate(schema.columns)}
    return synonyms | ours | {_folded(name): index for name, index in names.items()}


@cache
def _all_words() -> frozenset[str]:
    """Return the folded names of the columns of all feeds."""
    return frozenset(chain.from_iterable(map(_words_of, load_schemas().values())))


class LargeText(Exception):
    """The csv of a small zip is too large to be read at once."""


@dataclass(slots=True)
class CsvChunk:
    """The csv of a file, or whole rows of a large one, without the header.

    Attributes
    ----------
    task : FileTask
    parts : list of bytes
        The text as it was inflated, until `Unzipper.join` joins it to `body`.
    commas : int
        In all parts.
    irregularities : frozenset of Irregularity
    layout : Layout or None
        None if rows are laid out as those of the feed.
    first, ends : bool
        Whether the file begins, and ends, with it.
    body : bytes
    rows : int
    unit : str or None
        Unit of its times, ``ms`` or ``us``, if the first row of the file was looked at.
    other_letters : bool or None
        The result of `Unzipper.has_other_letters`, if it was called.
    """

    task: FileTask
    parts: list[bytes | memoryview]
    commas: int
    irregularities: Irregularities
    layout: Layout | None
    first: bool = True
    ends: bool = True
    body: bytes = b""
    rows: int = 0
    unit: str | None = None
    other_letters: bool | None = None


class Unzipper:
    """Reads the csv of the files of one feed.

    Parameters
    ----------
    store : BaseStore
    schema : Schema
        Of the feed.
    """

    def __init__(self, store: BaseStore, schema: Schema) -> None:
        self._store = store
        self._schema = schema
        dtypes = [column.dtype for column in schema.kept]
        #: How many columns hold True and False; None if another column holds text.
        self._booleans = None if "text" in dtypes else dtypes.count("bool")
        #: Parsed header lines; most files have the same one.
        self._headers: dict[bytes, tuple[Layout | None, Irregularities]] = {}
        _keep_memory()

    def fetch(self, tasks: Sequence[FileTask]) -> Mapping[str, bytes | Exception]:
        """Read small files ahead, by their keys, if they take long to be read one by one."""
        return self._store.fetch([task.file for task in tasks])

    def read(self, task: FileTask, fetched: bytes | Exception | None = None) -> CsvChunk:
        """Read a small file at once.

        Parameters
        ----------
        task : FileTask
        fetched : bytes or Exception, optional
            What was read of it ahead.

        Raises
        ------
        UnreadableZip, WrongColumns, NoAccess
        LargeText
            If its csv is not small.
        """
        name = task.file.path
        if not task.file.is_zip:
            return self._text(task, self._bare(task.file))
        try:
            if isinstance(fetched, Exception):
                raise fetched
            packed = self._store.read_file(task.file) if fetched is None else fetched
            member = _member(packed, len(packed), task.file)
            if member.size > SMALL_TEXT:
                raise LargeText
            inside = memoryview(packed)[member.start : member.start + member.compressed]
            if member.method:
                # A byte more than recorded shows that the size is wrong.
                body = isal_zlib.decompressobj(-15).decompress(inside, member.size + 1)
            else:
                body = bytes(inside)
        except OSError as error:
            raise _no_access(name, error) from None
        except IsalError as error:  # type: ignore[misc]  # its stub says otherwise
            raise UnreadableZip(name, f"its member does not inflate: {error}") from None
        if (isal_zlib.crc32(body), len(body)) != (member.crc, member.size):
            raise UnreadableZip(name, "its bytes do not have the recorded size and CRC-32")
        return self._text(task, body)

    def _text(self, task: FileTask, body: bytes) -> CsvChunk:
        body, layout, irregularities = self._without_header(task.file.path, body)
        csv = CsvChunk(task, [body], _count(body, _COMMA), irregularities, layout)
        self.join(csv)
        return csv

    def read_raw(self, task: FileTask) -> Iterator[CsvChunk]:
        """Read a large file chunk by chunk, each of whole rows.

        Raises
        ------
        UnreadableZip, WrongColumns, NoAccess
            Once the bytes that show it are reached.
        """
        parts: list[bytes | memoryview] = []
        size, row, commas, first, enough = 0, 0, 0, True, _FIRST_CHUNK
        layout: Layout | None = None
        irregularities = NO_IRREGULARITIES
        name = task.file.path
        for chunk in self._chunks(task.file):
            # Now, while the bytes are in the processor's cache.
            commas += _count(chunk, _COMMA)
            end = chunk.rfind(b"\n") + 1
            row = len(chunk) - end if end else row + len(chunk)
            if row > _LONG_ROW:
                raise WrongColumns(name, f"a row has more than {_LONG_ROW:,} bytes")
            if size + end < enough or not end:
                parts.append(chunk)
                size += len(chunk)
                continue
            rest = chunk[end:]
            over = rest.count(b",")
            parts.append(memoryview(chunk)[:end])
            if first:
                body, layout, irregularities = self._without_header(name, b"".join(parts))
                parts, commas = [body], body.count(b",") + over
            yield CsvChunk(task, parts, commas - over, irregularities, layout, first)
            parts, size, commas, first = [rest], len(rest), over, False
            enough = min(2 * enough, CHUNK)
        if first:
            body, layout, irregularities = self._without_header(name, b"".join(parts))
            parts, commas = [body], body.count(b",")
        if size or first:
            yield CsvChunk(task, parts, commas, irregularities, layout, first)

    # Bytes

    def _chunks(self, file: StoredFile) -> Iterator[bytes]:
        """Yield the bytes of a file's csv."""
        name = file.path
        try:
            with self._store.open_file(file) as opened:
                length = opened.seek(0, os.SEEK_END)
                opened.seek(0)
                if file.form is Form.ZIP:
                    yield from inflated(opened, _member(opened, length, file))
                elif file.form is Form.GZIP:
                    yield from _gunzipped(name, opened, length)
                else:
                    while chunk := opened.read(4 * _READ):
                        yield chunk
        except OSError as error:
            raise _no_access(name, error) from None
        except BadMemberError as error:
            raise UnreadableZip(name, str(error)) from None

    def _bare(self, file: StoredFile) -> bytes:
        """Read a small csv or gzip at once."""
        chunks, size = [], 0
        for chunk in self._chunks(file):
            chunks.append(chunk)
            size += len(chunk)
            if size > SMALL_TEXT:
                raise LargeText
        return b"".join(chunks)

    # The first row

    def _without_header(
        self, name: str, body: bytes
    ) -> tuple[bytes, Layout | None, Irregularities]:
        """Remove what precedes the first row; return the rest, its layout and irregularities."""
        if not body or body[:1].isdigit() or body[:1] == b"-":
            return body, None, NO_IRREGULARITIES
        irregularities = NO_IRREGULARITIES
        if body.startswith(_BYTE_ORDER_MARK):
            body = body[len(_BYTE_ORDER_MARK) :]
            irregularities |= {Irregularity.BYTE_ORDER_MARK}
        if blank := _blank_begin(body):
            body = body[blank:]
            irregularities |= {Irregularity.BLANK_LINE}
        if not is_header(body):
            return body, None, irregularities
        end = body.find(b"\n") + 1 or len(body)
        if end > _LONG_ROW:
            raise WrongColumns(name, f"its header has more than {_LONG_ROW:,} bytes")
        line = body[:end]
        if line not in self._headers:
            self._headers[line] = parse_header(name, line, self._schema)
        layout, more = self._headers[line]
        body = body[end:]
        if blank := _blank_begin(body):
            body = body[blank:]
            irregularities |= {Irregularity.BLANK_LINE}
        return body, layout, irregularities | more

    # Rows

    def join(self, csv: CsvChunk) -> None:
        """Join the parts of a chunk, count its rows by their commas, and check the first row.

        Raises
        ------
        WrongColumns
        """
        name, body = csv.task.file.path, b"".join(csv.parts)
        csv.parts.clear()
        tail = body[-3:]
        if len(tail) < 3 or not tail.endswith(b"\n") or tail.endswith(_BLANK_ENDS):
            body, more = _ended(name, body)
            csv.irregularities |= more
        csv.body = body
        if not body:
            return
        fields = self._fields(csv)
        csv.rows, over = divmod(csv.commas, fields - 1)
        end = body.find(b"\n")
        found = body.count(b",", 0, end) + 1
        if over or found != fields:
            if Irregularity.NO_FINAL_NEWLINE in csv.irregularities and found == fields:
                raise WrongColumns(name, "its last row is cut off")
            raise WrongColumns(
                name,
                f"its first row has {found} fields and there are {csv.commas:,} commas in all; a "
                f"row of {self._schema.market} {self._schema.data_type} has {fields} fields",
            )
        if body.endswith(b"\r", 0, end):
            csv.irregularities |= {Irregularity.CARRIAGE_RETURN}

    def _fields(self, csv: CsvChunk) -> int:
        """Return how many fields a row has."""
        return len(self._schema.columns) if csv.layout is None else csv.layout.fields

    def check_rows(self, csv: CsvChunk) -> None:
        """Check the number of fields of each row, and not only of all rows together.

        Raises
        ------
        WrongColumns
        """
        letters = _letters(csv.body)
        marks = letters[(letters == _COMMA) | (letters == _NEWLINE)]
        fields = self._fields(csv)
        ends = marks[fields - 1 :: fields] == _NEWLINE
        if len(marks) != csv.rows * fields or not ends.all():
            row = int(np.argmin(ends)) + 1
            name = csv.task.file.path
            raise WrongColumns(name, f"row {row:,} does not have {fields} fields")

    def has_other_letters(self, csv: CsvChunk) -> bool:
        """Return whether rows of numbers contain letters, such as those of another header.

        Far cheaper than parsing. False where a column holds text, and letters are usual.
        """
        if csv.other_letters is None:
            csv.other_letters = self._find_other_letters(csv)
        return csv.other_letters

    def _find_other_letters(self, csv: CsvChunk) -> bool:
        if self._booleans is None or not csv.rows:
            return False
        if not self._booleans:
            return bool(_letters(csv.body).max() > _NINE)
        # True and False have one "e" each, any header has more.
        return _count(csv.body, _LETTER_E) != self._booleans * csv.rows


def without_blank_lines(csv: CsvChunk) -> bytes:
    """Return the csv of a file without its blank lines."""
    # Runs of them one by one would take far more memory than the file.
    return _BLANK_LINES.sub(b"", _BLANK_RUNS.sub(b"\n\n", csv.body))


def first_row(body: bytes) -> bytes:
    """Return the first row, without the end of its line."""
    return body[: body.find(b"\n", 0, _BLOCK)]


def first_and_last_row(csv: CsvChunk) -> tuple[bytes, ...]:
    """Return the first and the last row, without the ends of their lines; nothing without rows."""
    if not csv.rows:
        return ()
    body = csv.body
    return body[: body.find(b"\n")], body[body.rfind(b"\n", 0, -1) + 1 : -1]


def field_of(row: bytes, index: int) -> bytes:
    """Return a field of a row; an empty one if the row is too short."""
    fields = row.rstrip(b"\r").split(b",", index + 1)
    return fields[index] if index < len(fields) else b""


def _ended(name: str, body: bytes) -> tuple[bytes, Irregularities]:
    """Remove blank lines at the end, and end the last row."""
    bare = body.rstrip(b" \t\r\n")
    first, *rest = body[len(bare) :].split(b"\n", 2)
    if not rest and bare:
        if bare.endswith(b","):
            raise WrongColumns(name, "its last row is cut off")
        return body + b"\n", frozenset([Irregularity.NO_FINAL_NEWLINE])
    blank = len(rest) > 1 or any(rest) or not bare
    irregularities = frozenset([Irregularity.BLANK_LINE]) if body and blank else NO_IRREGULARITIES
    return (bare + first + b"\n" if bare else b""), irregularities


def _blank_begin(body: bytes) -> int:
    """Return the length of the blank lines at the beginning."""
    if body[:1] not in b" \t\r\n":
        return 0
    return body.rfind(b"\n", 0, len(body) - len(body.lstrip(b" \t\r\n"))) + 1


@cache
def _keep_memory() -> None:
    """Make the C library keep large freed blocks, for this process.

    Otherwise it returns them to the system, and memory is mapped anew for every file. Freeing
    one larger block raises its threshold.
    """
    bytearray(_LARGE)


def _count(body: bytes, letter: int) -> int:
    """Count a letter block by block: intermediate arrays stay in the processor's cache."""
    letters = _letters(body)
    parts = (letters[start : start + _BLOCK] for start in range(0, len(letters), _BLOCK))
    return sum(int(np.count_nonzero(part == letter)) for part in parts)


def _letters(body: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(body, np.uint8)


def _member(file: BinaryIO | bytes, length: int, stored: StoredFile) -> Member:
    name = stored.path
    try:
        member = find_member(file, length)
    except BadMemberError as error:
        raise UnreadableZip(name, str(error)) from None
    if member.name != member_of(name) and member.name != member_of(stored.key):
        raise UnreadableZip(name, f"its member is {member.name!r} and not {member_of(name)!r}")
    return member


def _gunzipped(name: str, file: BinaryIO, length: int) -> Iterator[bytes]:
    """Inflate a gzip of one or more members."""
    limit, size = size_limit(length), 0
    inflater: Any = None
    packed = b""
    try:
        while packed := packed or file.read(_READ):
            if inflater is None:
                inflater = isal_zlib.decompressobj(31)
            for piece in pieces_of(inflater, packed, CHUNK):
                size += len(piece)
                if size > limit:
                    raise UnreadableZip(
                        name,
                        f"it inflates to more than {limit:,} bytes; no file of the archive does",
                    )
                yield piece
            packed = b""
            if inflater.eof:
                packed, inflater = inflater.unused_data, None
    except IsalError as error:  # type: ignore[misc]  # its stub says otherwise
        raise UnreadableZip(name, f"it is no intact gzip: {error}") from None
    if inflater is not None or not length:
        raise UnreadableZip(name, "the gzip is cut off")


def _no_access(name: str, error: OSError) -> NoAccess:
    return NoAccess(name, f"it cannot be read: {error.strerror or error}")
