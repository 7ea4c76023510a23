"""Find, check and inflate the one csv member of an archive zip.

Archive zips have one deflated member. Parsing them here is many times faster than a general
zip reader, which matters for thousands of files. Anything unusual (zip64, a comment, a second
member) is left to the standard library.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from isal import isal_zlib
from isal.igzip_lib import IsalError

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x1
_UTF8 = 0x800
#: Bytes of zip to inflate at a time: the more, the fewer switches between threads.
_READ = 1 << 20
#: Largest piece of csv, in bytes.
_PIECE = 8 << 20
#: Largest possible ratio of deflate.
_DEFLATE_LIMIT = 1032
#: Largest accepted ratio. Files of the archive have 3 to 20; candles of a symbol without
#: trades, at most 50.
_RATIO_LIMIT = 200
#: Bytes of csv that are accepted at any ratio: equal rows compress further.
_ALWAYS_ALLOWED = 256 << 20


class BadMemberError(ValueError):
    """The file is not a zip with exactly one intact member."""


@dataclass(frozen=True, slots=True)
class Member:
    """The position of the member in its zip, and its entry in the directory.

    Attributes
    ----------
    name : str
    start : int
        Offset of the first compressed byte.
    compressed, size : int
        Bytes in the zip, and when inflated.
    crc : int
        CRC-32 of the inflated bytes.
    method : int
        0 stored, 8 deflated.
    """

    name: str
    start: int
    compressed: int
    size: int
    crc: int
    method: int


def find_member(file: BinaryIO | bytes, length: int) -> Member:
    """Find the one member of a zip of `length` bytes, in a file or in memory.

    Raises
    ------
    BadMemberError
        If the file is not a zip, is truncated, or does not have exactly one member.
    """
    member = _find_plain(file, length)
    if member is None:
        member = _find_general(io.BytesIO(file) if isinstance(file, bytes) else file)
    _check_sizes(member, length)
    return member


def size_limit(packed: int) -> int:
    """Return the largest accepted size of a csv with `packed` compressed bytes."""
    return max(_ALWAYS_ALLOWED, _RATIO_LIMIT * packed)


def _check_sizes(member: Member, length: int) -> None:
    """Check that the sizes in the directory are plausible, before allocating memory."""
    if member.start + member.compressed > length:
        raise BadMemberError("the zip is cut off")
    most = member.compressed * (_DEFLATE_LIMIT if member.method else 1)
    if member.size > most:
        raise BadMemberError(
            f"its directory states {member.size:,} bytes, more than {member.compressed:,} "
            "compressed bytes can expand to"
        )
    if member.size > size_limit(member.compressed):
        raise BadMemberError(
            f"its directory states {member.size:,} bytes, more than {_RATIO_LIMIT} times its "
            f"{member.compressed:,} compressed bytes; no file of the archive has such a ratio"
        )


def inflated(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Inflate a member; yield pieces of at most 8 MiB.

    Raises
    ------
    BadMemberError
        If its bytes do not inflate, or differ from the recorded size or CRC-32. The CRC-32 is
        checked at the end.
    """
    inflater = isal_zlib.decompressobj(-15) if member.method == _DEFLATED else None
    crc = size = 0
    remaining = member.compressed
    file.seek(member.start)
    while remaining and (inflater is None or not inflater.eof):
        packed = file.read(min(remaining, _READ))
        remaining -= len(packed)
        if not packed:
            raise BadMemberError("the zip is cut off")
        try:
            for piece in (packed,) if inflater is None else pieces_of(inflater, packed, _PIECE):
                crc = isal_zlib.crc32(piece, crc)
                size += len(piece)
                if size > member.size:
                    raise BadMemberError(_OTHER_BYTES)
                yield piece
        except IsalError as error:  # type: ignore[misc]  # missing in its stub
            raise BadMemberError(f"its member does not inflate: {error}") from None
    if inflater is not None and not inflater.eof:
        raise BadMemberError("its member's deflate stream is cut off")
    if (crc, size) != (member.crc, member.size):
        raise BadMemberError(_OTHER_BYTES)


_OTHER_BYTES = "its bytes do not have the recorded size and CRC-32"


def pieces_of(inflater: Any, packed: bytes, most: int) -> Iterator[bytes]:
    """Inflate compressed bytes; yield pieces of at most `most` bytes.

    Raises
    ------
    isal.igzip_lib.IsalError
        If they do not inflate.
    """
    full = True
    while full and not inflater.eof:
        piece = inflater.decompress(packed, most)
        if piece:
            yield piece
        packed = inflater.unconsumed_tail
        # A full piece may be followed by more, even if all input is consumed.
        full = len(piece) == most


def _read(file: BinaryIO | bytes, start: int, size: int) -> bytes:
    if isinstance(file, bytes):
        return file[start : start + size]
    file.seek(start)
    return file.read(size)


def _find_plain(file: BinaryIO | bytes, length: int) -> Member | None:
    """Find the member of a zip of the usual form; None for any other form."""
    if length < _END.size + _CENTRAL.size:
        return None
    end = _read(file, length - _END.size, _END.size)
    magic, disk, first, entries, count, size, start, comment = _END.unpack(end)
    usual = magic == b"PK\5\6" and not (disk or first or comment) and entries == count == 1
    if not usual or start + size + _END.size != length or size < _CENTRAL.size:
        return None
    directory = _read(file, start, size)
    magic, _, _, flags, method, _, _, *fields = _CENTRAL.unpack_from(directory)
    crc, compressed, inflated, name_length, *_, offset = fields
    if magic != b"PK\1\2" or flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
        return None
    name = directory[_CENTRAL.size : _CENTRAL.size + name_length]
    local = _read(file, offset, _LOCAL.size)
    if len(local) < _LOCAL.size or local[:4] != b"PK\3\4":
        return None
    local_name_length, extra = _LOCAL.unpack(local)[9:]
    data = offset + _LOCAL.size + local_name_length + extra
    if data + compressed > start or 0xFFFFFFFF in (compressed, inflated, offset):
        return None
    encoding = "utf-8" if flags & _UTF8 or not name.isascii() else "ascii"
    return Member(name.decode(encoding, "replace"), data, compressed, inflated, crc, method)


def _find_general(file: BinaryIO) -> Member:
    """Find the member with the standard library."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            if len(infos) != 1:
                raise BadMemberError(f"the zip has {len(infos)} members instead of one")
            info = infos[0]
            if info.flag_bits & _ENCRYPTED:
                raise BadMemberError("the zip is encrypted")
            if info.compress_type not in (_STORED, _DEFLATED):
                raise BadMemberError(f"the zip is compressed by method {info.compress_type}")
            file.seek(info.header_offset)
            name_length, extra = _LOCAL.unpack(file.read(_LOCAL.size))[9:]
            start = info.header_offset + _LOCAL.size + name_length + extra
    except (
        zipfile.BadZipFile,
        struct.error,
        OSError,
        ValueError,
        NotImplementedError,
        OverflowError,
    ) as error:
        if isinstance(error, BadMemberError):
            raise
        file.seek(0)
        raise BadMemberError(f"no readable zip: {error}; it begins {file.read(16)!r}") from None
    return Member(
        info.filename, start, info.compress_size, info.file_size, info.CRC, info.compress_type
    )


def check_member(file: BinaryIO, length: int, name: str, *, inflate: bool = True) -> Member:
    """Check that a zip has one member called `name`, and that its bytes are intact.

    Parameters
    ----------
    file : BinaryIO
    length : int
        Bytes of the zip.
    name : str
    inflate : bool
        Whether to inflate the member and check its size and CRC-32.

    Raises
    ------
    BadMemberError
        If there is not exactly one member with that name, or its bytes are damaged.
    """
    member = find_member(file, length)
    if member.name != name:
        raise BadMemberError(f"its member is {member.name!r} and not {name!r}")
    if inflate:
        for _ in inflated(file, member):
            pass
    return member
