"""From files to csv text: inflated, without header, its rows counted.

A zip is read if its size and CRC-32 are the recorded ones; a bare csv has none. The header
row is detected, not assumed, and its words are compared with the feed's columns. Text that
is unusual and has one meaning only is read, and noted as an `Irregularity`.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from isal import isal_zlib
from isal.igzip_lib import IsalError

from binance_archive_kit.archive.keys import member_of
from binance_archive_kit.archive.schemas import Schema, load_schemas
from binance_archive_kit.errors import NoAccess, UnreadableZip, WrongColumns
from binance_archive_kit.reading.file_stats import FileTask, Irregularity
from binance_archive_kit.storage.inventory import Form, StoredFile
from binance_archive_kit.storage.zips import (
    BadMemberError,
    Member,
    find_member,
    inflated,
    pieces_of,
    size_limit,
)

#: Bytes of csv that are handed out in one go: few at first, as a few rows may be all that
#: is asked for, and then twice as many each time, up to this.
PIECE = 12 << 20
_FIRST_PIECE = 1 << 20
#: Bytes of csv up to which a file is read at once.
SMALL_TEXT = 64 << 20
#: Bytes that no row has.
_LONG_ROW = 1 << 20
#: Bytes of a file that are read in one go.
_READ = 1 << 20
#: A block that is larger than any that is asked for again and again.
_LARGE = 24 << 20
#: Bytes that are looked at in one go.
_BLOCK = 1 << 18
_NEWLINE, _COMMA, _NINE, _LETTER_E = b"\n,9e"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANK_ENDS = (b"\n\n", b"\n\r\n")
_BLANK_BEGIN = re.compile(rb"(?:[ \t\r]*\n)+")
_BLANK_LINES = re.compile(rb"^[ \t\r]*\n", re.MULTILINE)
_PLAIN: frozenset[Irregularity] = frozenset()


class LargeText(Exception):
    """The csv of a small file is too large to be read at once."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file differ from those of its feed, as its header says.

    Attributes
    ----------
    fields : int
        Fields of a row.
    places : tuple of int
        Which field holds each column of the feed.
    """

    fields: int
    places: tuple[int, ...]


@dataclass(slots=True)
class CsvChunk:
    """The csv of one file, or a piece of it, without its header.

    Attributes
    ----------
    source : FileTask
    body : bytes
    rows : int
    odd : frozenset of Irregularity
    layout : Layout or None
        None where rows are laid out as those of the feed.
    first : bool
        Whether the file begins with it.
    unit : str or None
        Unit of its times, ``ms`` or ``us``, if its first row shows it.
    other_letters : bool or None
        What `Unzipper.has_other_letters` says of it; None if it was not asked.
    """

    source: FileTask
    body: bytes
    rows: int
    odd: frozenset[Irregularity] = _PLAIN
    layout: Layout | None = None
    first: bool = True
    unit: str | None = None
    other_letters: bool | None = None


@dataclass(slots=True)
class RawChunk:
    """A piece of a large file's csv, as it comes from inflating: whole rows, in parts."""

    source: FileTask
    parts: list[bytes | memoryview]
    commas: int
    odd: frozenset[Irregularity]
    layout: Layout | None
    first: bool
    unit: str | None = None


class Unzipper:
    """Gets the csv out of the files of one feed.

    Parameters
    ----------
    root : Path
        Root of the store.
    schema : Schema
        What the feed's files hold.
    """

    def __init__(self, root: Path, schema: Schema) -> None:
        self._root = root
        self._schema = schema
        dtypes = [column.dtype for column in schema.kept]
        #: Columns of True and False; None where another column holds text.
        self._booleans = None if "text" in dtypes else dtypes.count("bool")
        #: Parsed header lines; most files have the same one.
        self._headers: dict[bytes, tuple[Layout | None, frozenset[Irregularity]]] = {}
        _keep_memory()

    def text(self, source: FileTask) -> CsvChunk:
        """Inflate a small file at once.

        Raises
        ------
        UnreadableZip, WrongColumns, NoAccess
        LargeText
            If it is not small once it is inflated.
        """
        name = source.file.path
        if not source.file.is_zip:
            return self._text(source, self._bare(source.file))
        try:
            with open(f"{self._root}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 -- often
                length = os.fstat(file.fileno()).st_size
                packed = file.read(length)
            member = _member(io.BytesIO(packed), length, source.file)
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
        return self._text(source, body)

    def _text(self, source: FileTask, body: bytes) -> CsvChunk:
        body, layout, odd = self._begun(source.file.path, body)
        text = self._counted(source, body, _commas(body), layout, odd)
        # Looked for now, while the bytes are in the processor's cache.
        text.other_letters = self.has_other_letters(text)
        return text

    def cut(self, source: FileTask) -> Iterator[RawChunk]:
        """Inflate a large file piece by piece, each ending with a whole row.

        Raises
        ------
        UnreadableZip, WrongColumns, NoAccess
            Once the piece is reached that shows it.
        """
        parts: list[bytes | memoryview] = []
        size, row, commas, first, enough = 0, 0, 0, True, _FIRST_PIECE
        layout: Layout | None = None
        odd = _PLAIN
        name = source.file.path
        for chunk in self._chunks(source.file):
            # Counted here and not in the whole piece: the bytes were just written.
            commas += _commas(chunk)
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
                body, layout, odd = self._begun(name, b"".join(parts))
                parts, commas = [body], body.count(b",") + over
            yield RawChunk(source, parts, commas - over, odd, layout, first)
            parts, size, commas, first = [rest], len(rest), over, False
            enough = min(2 * enough, PIECE)
        if first:
            body, layout, odd = self._begun(name, b"".join(parts))
            parts, commas = [body], body.count(b",")
        if size or first:
            yield RawChunk(source, parts, commas, odd, layout, first)

    def joined(self, cut: RawChunk) -> CsvChunk:
        """Join a piece of a large file.

        Raises
        ------
        WrongColumns
        """
        body = b"".join(cut.parts)
        return self._counted(
            cut.source, body, cut.commas, cut.layout, cut.odd, first=cut.first, unit=cut.unit
        )

    # Bytes

    def _chunks(self, file: StoredFile) -> Iterator[bytes]:
        """Yield the csv of a file piece by piece."""
        name = file.path
        try:
            with (self._root / name).open("rb", buffering=0) as opened:
                length = os.fstat(opened.fileno()).st_size
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

    def _begun(
        self, name: str, body: bytes
    ) -> tuple[bytes, Layout | None, frozenset[Irregularity]]:
        """Cut off what precedes the first row; return the rest, its layout and irregularities."""
        if not body or body[:1].isdigit() or body[:1] == b"-":
            return body, None, _PLAIN
        odd = _PLAIN
        if body.startswith(_BYTE_ORDER_MARK):
            body, odd = body[len(_BYTE_ORDER_MARK) :], odd | {Irregularity.BYTE_ORDER_MARK}
        if (blank := _BLANK_BEGIN.match(body)) is not None:
            body, odd = body[blank.end() :], odd | {Irregularity.BLANK_LINE}
        unquoted = body[1:2] if body[:1] == b'"' else body[:1]
        if not body or unquoted.isdigit() or unquoted in b'-"':
            return body, None, odd
        end = body.find(b"\n") + 1 or len(body)
        line = body[:end]
        if line not in self._headers:
            self._headers[line] = self._read_header(name, line)
        layout, more = self._headers[line]
        if (blank := _BLANK_BEGIN.match(body, end)) is not None:
            end, odd = blank.end(), odd | {Irregularity.BLANK_LINE}
        return body[end:], layout, odd | more

    def _read_header(self, name: str, line: bytes) -> tuple[Layout | None, frozenset[Irregularity]]:
        """Find the columns that a header names."""
        said = [word.strip(' "') for word in line.decode(errors="replace").strip().split(",")]
        columns = self._schema.columns
        if len(said) == len(columns) and all(
            word in (column.name, "ignore") for word, column in zip(said, columns, strict=True)
        ):
            return None, _PLAIN
        known = _words_of(self._schema)
        found = [known.get(_folded(word)) for word in said]
        places = {column: at for at, column in enumerate(found) if column is not None}
        strangers = [at for at, column in enumerate(found) if column is None]
        missing = [at for at in range(len(columns)) if at not in places]
        once = len(places) + len(strangers) == len(said)
        if once and not missing:
            order = tuple(places[at] for at in range(len(columns)))
            odd = set()
            if strangers:
                odd.add(Irregularity.EXTRA_COLUMNS)
            named = [said[at] for at in order]
            if list(order) != sorted(order) or named != [column.name for column in columns]:
                odd.add(Irregularity.OTHER_HEADER)
            usual = order == tuple(range(len(said)))
            return None if usual else Layout(len(said), order), frozenset(odd)
        in_place = all(column in (at, None) for at, column in enumerate(found))
        # One word that no feed has stands where the one column that is not named should.
        renamed = once and in_place and len(missing) == 1 and missing == strangers
        if renamed and _folded(said[missing[0]]) not in _all_words():
            return None, frozenset([Irregularity.OTHER_HEADER])
        begins, right = ",".join(said)[:80], self._schema.header_line
        raise WrongColumns(name, f"it begins {begins!r}, and its header should be {right!r}")

    # Rows

    def _counted(
        self,
        source: FileTask,
        body: bytes,
        commas: int,
        layout: Layout | None,
        odd: frozenset[Irregularity],
        *,
        first: bool = True,
        unit: str | None = None,
    ) -> CsvChunk:
        """Count the rows, comparing the number of their fields with that of the columns."""
        name = source.file.path
        tail = body[-3:]
        if len(tail) < 3 or not tail.endswith(b"\n") or tail.endswith(_BLANK_ENDS):
            body, more = _ended(name, body)
            odd |= more
        if not body:
            return CsvChunk(source, body, 0, odd, layout, first, unit)
        fields = len(self._schema.columns) if layout is None else layout.fields
        rows, over = divmod(commas, fields - 1)
        end = body.find(b"\n")
        its = body.count(b",", 0, end) + 1
        if over or its != fields:
            if Irregularity.NO_FINAL_NEWLINE in odd and its == fields:
                raise WrongColumns(name, "its last row is cut off")
            raise WrongColumns(
                name,
                f"its first row has {its} fields and there are {commas:,} commas in all; a row "
                f"of {self._schema.market} {self._schema.data_type} has {fields} fields",
            )
        if body[end - 1] == b"\r"[0]:
            odd |= {Irregularity.CARRIAGE_RETURN}
        return CsvChunk(source, body, rows, odd, layout, first, unit)

    def check_rows(self, text: CsvChunk) -> None:
        """Check that each row has its fields, and not only all rows together.

        Raises
        ------
        WrongColumns
        """
        letters = _letters(text.body)
        marks = letters[(letters == _COMMA) | (letters == _NEWLINE)]
        fields = len(self._schema.columns) if text.layout is None else text.layout.fields
        ends = marks[fields - 1 :: fields] == _NEWLINE
        if len(marks) != text.rows * fields or not ends.all():
            row = int(np.argmin(ends)) + 1
            name = text.source.file.path
            raise WrongColumns(name, f"row {row:,} does not have {fields} fields")

    def has_other_letters(self, text: CsvChunk) -> bool:
        """Return whether letters stand in the rows of numbers of a file, such as another header.

        Far cheaper than parsing. False where a column holds text: letters mean nothing there.
        """
        if self._booleans is None or not text.rows:
            return False
        if not self._booleans:
            return bool(_letters(text.body).max() > _NINE)
        # True and False have one "e" each, any header has more.
        return _count(text.body, _LETTER_E) != self._booleans * text.rows


def without_blank_lines(text: CsvChunk) -> bytes:
    """Return the csv of a file without lines that hold nothing."""
    return _BLANK_LINES.sub(b"", text.body)


def first_row(body: bytes) -> list[bytes]:
    """Return the fields of the first row; none if there is no row."""
    return body[: body.find(b"\n", 0, _BLOCK)].rstrip(b"\r").split(b",")


def first_and_last_row(text: CsvChunk) -> list[list[bytes]]:
    """Give the fields of the first and the last row; of no row if there is none."""
    if not text.rows:
        return []
    body = text.body
    first, last = body[: body.find(b"\n")], body[body.rfind(b"\n", 0, -1) + 1 : -1]
    return [line.rstrip(b"\r").split(b",") for line in (first, last)]


def _ended(name: str, body: bytes) -> tuple[bytes, frozenset[Irregularity]]:
    """Remove blank lines at the end, and end the last row."""
    bare = body.rstrip(b" \t\r\n")
    lines = body[len(bare) :].split(b"\n")
    if len(lines) == 1 and bare:
        if bare.endswith(b","):
            raise WrongColumns(name, "its last row is cut off")
        return body + b"\n", frozenset([Irregularity.NO_FINAL_NEWLINE])
    blank = len(lines) > 2 or bool(lines[-1]) or not bare
    odd = frozenset([Irregularity.BLANK_LINE]) if body and blank else _PLAIN
    return (bare + lines[0] + b"\n" if bare else b""), odd


@cache
def _keep_memory() -> None:
    """Have the C library keep large blocks that are freed, for this process.

    It gives them back to the system otherwise, and every file would have its memory mapped
    anew. Freeing a larger block teaches it not to.
    """
    bytearray(_LARGE)


def _commas(body: bytes) -> int:
    return _count(body, _COMMA)


def _count(body: bytes, letter: int) -> int:
    """Count a letter, some at a time: what is in between stays in the processor's cache."""
    letters = _letters(body)
    parts = (letters[at : at + _BLOCK] for at in range(0, len(letters), _BLOCK))
    return sum(int(np.count_nonzero(part == letter)) for part in parts)


def _letters(body: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(body, np.uint8)


def _member(file: Any, length: int, held: StoredFile) -> Member:
    name = held.path
    try:
        member = find_member(file, length)
    except BadMemberError as error:
        raise UnreadableZip(name, str(error)) from None
    if member.name != member_of(name) and member.name != member_of(held.key):
        raise UnreadableZip(name, f"its member is {member.name!r} and not {member_of(name)!r}")
    return member


def _gunzipped(name: str, file: BinaryIO, length: int) -> Iterator[bytes]:
    """Inflate a gzip of one or more members piece by piece."""
    limit, size = size_limit(length), 0
    inflater: Any = None
    packed = b""
    try:
        while packed := packed or file.read(_READ):
            if inflater is None:
                inflater = isal_zlib.decompressobj(31)
            for piece in pieces_of(inflater, packed, PIECE):
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


# Words of headers

#: Words that stand for another one, in Binance's documentation and in common tools.
_OTHER_WORDS = {
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


def _folded(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))


@cache
def _words_of_columns(columns: tuple[tuple[str, str], ...]) -> dict[str, int]:
    words = {_folded(column): at for at, (_, column) in enumerate(columns)}
    names = {name: at for at, (name, _) in enumerate(columns)}
    words |= {_folded(name): at for name, at in names.items()}
    others = {word: names[name] for word, name in _OTHER_WORDS.items() if name in names}
    return others | words


def _words_of(schema: Schema) -> dict[str, int]:
    """Return the number of the column that each folded word names."""
    return _words_of_columns(tuple((column.name, column.column) for column in schema.columns))


@cache
def _all_words() -> frozenset[str]:
    """Return the folded names of the columns of all feeds."""
    return frozenset(chain.from_iterable(map(_words_of, load_schemas().values())))
