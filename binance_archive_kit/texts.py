"""From zips to csv text: inflated, without header, its rows counted.

Bytes are believed when size and CRC-32 are the recorded ones. The header row is
detected, not assumed, and what it says is held against the feed's columns.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib
from isal.igzip_lib import IsalError

from binance_archive_kit.errors import UnreadableZip, WrongColumns
from binance_archive_kit.facts import Source
from binance_archive_kit.keys import member_of
from binance_archive_kit.members import BadMemberError, Member, find_member
from binance_archive_kit.schemas import Schema

#: Bytes of csv that are handed out in one go: few at first, as a few rows may be all that
#: is asked for, and then twice as many each time, up to this.
PIECE = 12 << 20
_FIRST_PIECE = 1 << 20
#: Bytes of zip that are inflated in one go: the more, the fewer hand-overs between threads.
_READ = 1 << 20
#: A block that is larger than any that is asked for again and again.
_LARGE = 24 << 20
#: Bytes that are looked at in one go.
_BLOCK = 1 << 18
_NEWLINE, _COMMA = b"\n,"


@dataclass(frozen=True, slots=True)
class Text:
    """The csv of one file, or a piece of it, without its header."""

    source: Source
    body: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A piece of a large file's csv, as it comes from inflating: whole rows, in parts."""

    source: Source
    parts: list[bytes | memoryview]
    commas: int
    first: bool


class Unpacker:
    """Gets the csv out of the zips of one feed.

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
        _keep_memory()

    def text(self, source: Source) -> Text:
        """Inflate a small file at once.

        Raises
        ------
        UnreadableZip, WrongColumns
        """
        name = source.file.place
        try:
            with open(f"{self._root}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 -- often
                length = os.fstat(file.fileno()).st_size
                packed = file.read(length)
            member = _member(io.BytesIO(packed), length, name)
            inside = memoryview(packed)[member.start : member.start + member.compressed]
            if member.method:
                body = isal_zlib.decompress(inside, -15, max(member.size, 1))
            else:
                body = bytes(inside)
        except OSError as error:
            raise _unreadable(name, error) from None
        except IsalError as error:  # type: ignore[misc]  # its stub says otherwise
            raise UnreadableZip(name, f"its member does not inflate: {error}") from None
        if (isal_zlib.crc32(body), len(body)) != (member.crc, member.size):
            raise UnreadableZip(name, "its bytes do not have the recorded size and CRC-32")
        body = self._without_header(name, body)
        return Text(source, body, self._rows(name, body, _commas(body)))

    def cut(self, source: Source) -> Iterator[Cut]:
        """Inflate a large file piece by piece, each ending with a whole row.

        Raises
        ------
        UnreadableZip
            Once the piece is reached that shows it.
        """
        parts: list[bytes | memoryview] = []
        size, commas, first, enough = 0, 0, True, _FIRST_PIECE
        for chunk in self._inflate(source.file.place):
            # Counted here and not in the whole piece: the bytes were just written.
            commas += _commas(chunk)
            end = chunk.rfind(b"\n") + 1
            if size + end < enough or not end:
                parts.append(chunk)
                size += len(chunk)
                continue
            rest = chunk[end:]
            over = rest.count(b",")
            yield Cut(source, [*parts, memoryview(chunk)[:end]], commas - over, first)
            parts, size, commas, first = [rest], len(rest), over, False
            enough = min(2 * enough, PIECE)
        if size or first:
            yield Cut(source, parts, commas, first)

    def joined(self, cut: Cut) -> Text:
        """Put a piece of a large file together, its header taken off.

        Raises
        ------
        WrongColumns
        """
        name, commas = cut.source.file.place, cut.commas
        body = whole = b"".join(cut.parts)
        if cut.first:
            body = self._without_header(name, whole)
            commas -= whole.count(b",", 0, len(whole) - len(body))
        return Text(cut.source, body, self._rows(name, body, commas))

    def _inflate(self, name: str) -> Iterator[bytes]:
        try:
            with (self._root / name).open("rb", buffering=0) as file:
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
            raise _unreadable(name, error) from None
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
        columns = self._schema.columns
        fits = len(said) == len(columns) and all(
            word in (column.name, "ignore") for word, column in zip(said, columns, strict=True)
        )
        if not fits:
            begins, right = ",".join(said)[:80], self._schema.header_line
            raise WrongColumns(name, f"it begins {begins!r}, and its header should be {right!r}")
        return body[end:]

    def _rows(self, name: str, body: bytes, commas: int) -> int:
        """Tell the number of rows, holding that of their fields against the columns."""
        if not body:
            return 0
        if not body.endswith(b"\n"):
            raise WrongColumns(name, "its last row is cut off: it has no end of line")
        columns = len(self._schema.columns)
        rows, over = divmod(commas, columns - 1)
        first = body.count(b",", 0, body.find(b"\n")) + 1
        if over or first != columns:
            raise WrongColumns(
                name,
                f"its first row has {first} fields and there are {commas:,} commas in all; a row "
                f"of {self._schema.market} {self._schema.data_type} has {columns} fields",
            )
        return rows

    def check_rows(self, text: Text) -> None:
        """See that each row has its fields, and not only all rows together.

        Raises
        ------
        WrongColumns
        """
        letters = _letters(text.body)
        marks = letters[(letters == _COMMA) | (letters == _NEWLINE)]
        columns = len(self._schema.columns)
        ends = marks[columns - 1 :: columns] == _NEWLINE
        if len(marks) != text.rows * columns or not ends.all():
            row = int(np.argmin(ends)) + 1
            name = text.source.file.place
            raise WrongColumns(name, f"row {row:,} does not have {columns} fields")


def outer_rows(text: Text) -> list[list[bytes]]:
    """Give the fields of the first and the last row; of no row if there is none."""
    if not text.rows:
        return []
    body = text.body
    first, last = body[: body.find(b"\n")], body[body.rfind(b"\n", 0, -1) + 1 : -1]
    return [first.split(b","), last.split(b",")]


@cache
def _keep_memory() -> None:
    """Have the C library keep large blocks that are freed, for this process.

    It gives them back to the system otherwise, and every file would have its memory mapped
    anew. Freeing a larger block teaches it not to.
    """
    bytearray(_LARGE)


def _commas(body: bytes) -> int:
    """Count commas, some at a time: what is in between stays in the processor's cache."""
    letters = _letters(body)
    parts = (letters[at : at + _BLOCK] for at in range(0, len(letters), _BLOCK))
    return sum(int(np.count_nonzero(part == _COMMA)) for part in parts)


def _letters(body: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(body, np.uint8)


def _member(file: Any, length: int, key: str) -> Member:
    try:
        member = find_member(file, length)
    except BadMemberError as error:
        raise UnreadableZip(key, str(error)) from None
    if member.name != member_of(key):
        raise UnreadableZip(key, f"its member is {member.name!r} and not {member_of(key)!r}")
    return member


def _unreadable(name: str, error: OSError) -> UnreadableZip:
    return UnreadableZip(name, f"it cannot be read: {error.strerror or error}")
