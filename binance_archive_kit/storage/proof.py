"""Prove the bytes of a file against the published digest; recognise a proven file by its stamp.

Writing to a file, replacing it, or setting its modification time back changes its stamp.
A medium that returns other bytes than were written does not: reading a whole file then checks
its size and CRC-32, and `verify` its digest.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import io
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX, member_of
from binance_archive_kit.errors import BadChecksum, BadZip, Corrupt, StaleChecksum
from binance_archive_kit.storage.zips import BadMemberError, check_member

_MD5 = re.compile(r"[0-9a-f]{32}")
_CHUNK = 1 << 20
#: A line of ``sha256sum``, and one of BSD's ``sha256``.
_GNU = re.compile(r"\\?([0-9a-f]{64})(?:\s+\*?(.*))?", re.IGNORECASE)
_BSD = re.compile(r"SHA(?:2?-)?256\s*\((.*)\)\s*=\s*([0-9a-f]{64})", re.IGNORECASE)
#: Whole numbers up to this fit into SQLite and into 64-bit columns.
_BITS = (1 << 63) - 1
#: `st_ctime` is the time of creation there, and listing a folder gives no inode.
_WINDOWS = os.name == "nt"
#: Error numbers for a name without a file: deleted, or a link to nothing.
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
#: The fields of a stamp in an `os.stat_result`, to compare thousands of files quickly. If they
#: differ from a stamp, `stamp_of` decides.
raw_stamp = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")


class Stamp(NamedTuple):
    """The identity of a file; a file with another stamp may have other bytes.

    Attributes
    ----------
    size : int
        Bytes.
    mtime : int
        Time of the last write, in nanoseconds since 1970 UTC; any program may set it.
    ctime : int
        Time of the last change of bytes, name or attributes, likewise; only the system sets
        it. 0 if unknown.
    inode : int
        Number in the file system; 0 if unknown.
    """

    size: int
    mtime: int
    ctime: int = 0
    inode: int = 0

    def agrees(self, other: Stamp) -> bool:
        """Return whether both are equal in all fields that are known in both."""
        return self == other or (
            self.size == other.size
            and self.mtime == other.mtime
            and (self.ctime == other.ctime or not self.ctime or not other.ctime)
            and (self.inode == other.inode or not self.inode or not other.inode)
        )


def stamp_of(stat: os.stat_result) -> Stamp:
    """Return the stamp of a file from its `os.stat_result`."""
    ctime = 0 if _WINDOWS else stat.st_ctime_ns & _BITS
    return Stamp(stat.st_size, stat.st_mtime_ns & _BITS, ctime, stat.st_ino & _BITS)


def stamp_of_entry(entry: os.DirEntry[str]) -> Stamp:
    """Return the stamp of a file from its entry in a folder; follows links."""
    return stamp_of(os.stat(entry.path) if _WINDOWS else entry.stat())  # noqa: PTH116


class ProvenBy(StrEnum):
    """The evidence for a file, the strongest first."""

    SHA256 = "sha256"  #: the digest of its ``.CHECKSUM`` object
    ETAG = "etag"  #: size and the MD5 in the listing
    STALE = "stale"  #: as by ETag, while the published digest differs
    SIZE = "size"  #: size and the zip's own CRC-32, without digest and MD5


@dataclass(frozen=True, slots=True)
class Expected:
    """Size and hashes that the archive gives for an object.

    Attributes
    ----------
    size : int or None
    etag : str or None
        None, like `size`, if the archive was not asked.
    digest : str or None
        SHA-256 in hex; None if it is not to be compared.
    """

    size: int | None
    etag: str | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of proving a file: its stamp, hashes and evidence."""

    key: str
    stamp: Stamp
    sha256: str
    etag: str | None
    by: ProvenBy
    proven_at: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stamp.size


def prove(key: str, file: str | Path, expected: Expected, *, accept_stale: bool = False) -> Proof:
    """Prove that a file holds the bytes that the archive publishes under a key.

    Reads the file once, and once more if the digests differ.

    Raises
    ------
    Corrupt
        If size, digest or ETag differ.
    StaleChecksum
        If size and ETag agree, and the published digest differs.
    BadZip
        If the bytes agree, and are not a zip with the one expected member.
    """
    with io.FileIO(file) as opened:
        stat = os.fstat(opened.fileno())
        # A small file, as most of the archive's are, is read once.
        source = cast(BinaryIO, opened)
        if stat.st_size <= _CHUNK:
            source = io.BytesIO(opened.read())
        if expected.size is not None and stat.st_size != expected.size:
            raise Corrupt(key, f"{stat.st_size:,} bytes, and the archive lists {expected.size:,}")
        sha256 = hash_file(source)
        by = _compare(key, source, sha256, expected)
        try:
            # The published digest proves every byte. Inflating a large member would take many
            # times longer, and readers check its CRC-32.
            large = by is ProvenBy.SHA256 and stat.st_size > _CHUNK
            check_member(source, stat.st_size, member_of(key), inflate=not large)
        except BadMemberError as error:
            # A damaged zip whose digest differs is corrupt, not stale.
            if by is ProvenBy.STALE:
                raise Corrupt(key, f"SHA-256 is {sha256}, not {expected.digest}") from None
            raise BadZip(key, str(error)) from None
    if by is ProvenBy.STALE and not accept_stale:
        raise StaleChecksum(
            key,
            f"size, ETag and CRC-32 agree, but the published SHA-256 is "
            f"{expected.digest} and that of the bytes {sha256}; "
            "accept_stale_checksum=True takes such files",
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Proof(key, stamp_of(stat), sha256, expected.etag, by, now)


def _compare(key: str, source: BinaryIO, sha256: str, expected: Expected) -> ProvenBy:
    """Compare the hashes of the bytes with the expected ones."""
    if expected.digest == sha256:
        return ProvenBy.SHA256
    md5 = expected.etag if expected.etag and _MD5.fullmatch(expected.etag) else None
    same_etag = md5 is not None and hash_file(source, "md5") == md5
    if expected.digest is not None:
        if same_etag:
            return ProvenBy.STALE
        raise Corrupt(key, f"SHA-256 is {sha256}, and the archive publishes {expected.digest}")
    if md5 is None:
        return ProvenBy.SIZE
    if not same_etag:
        raise Corrupt(key, f"MD5 is not the ETag {md5} that the archive lists")
    return ProvenBy.ETAG


def hash_file(source: BinaryIO, algorithm: str = "sha256") -> str:
    """Hash all bytes of an open file; return the digest in hex."""
    if isinstance(source, io.BytesIO):
        # Clearing a buffer first takes longer than the hash itself.
        return hashlib.new(algorithm, source.getbuffer(), usedforsecurity=False).hexdigest()
    source.seek(0)
    digest = hashlib.new(algorithm, usedforsecurity=False)
    buffer = memoryview(bytearray(_CHUNK))
    while count := source.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
    return digest.hexdigest()


def read_checksum(path: Path) -> str | BadChecksum | None:
    """Read the digest of a file from the ``.CHECKSUM`` file beside it.

    Accepted are the archive's form, those of other tools (``*name``, BSD, a bare digest,
    capital letters, a byte order mark) and lists of several files that name this one.

    Parameters
    ----------
    path : Path
        Of the file, not of its checksum.

    Returns
    -------
    str, BadChecksum or None
        SHA-256 in lower-case hex; the reason if the file has no usable digest; None if there
        is no such file.
    """
    try:
        with path.with_name(f"{path.name}{CHECKSUM_SUFFIX}").open("rb") as file:
            body = file.read(_CHUNK)
    except FileNotFoundError:
        return None
    except OSError as error:
        return BadChecksum(path.name, f"it cannot be read: {error.strerror or error}")
    wide = body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = body.decode("utf-16" if wide else "utf-8", errors="replace").lstrip("\ufeff")
    digests: dict[str, set[str]] = {}
    for line in map(str.strip, text.splitlines()):
        if found := _BSD.fullmatch(line):
            name, digest = found[1], found[2]
        elif found := _GNU.fullmatch(line):
            name, digest = found[2] or "", found[1]
        else:
            continue
        base = name.replace("\\", "/").rpartition("/")[2].strip()
        digests.setdefault(base, set()).add(digest.lower())
    matching = digests.get(path.name) or digests.get("", set())
    if len(matching) == 1:
        return matching.pop()
    if matching:
        return BadChecksum(path.name, "it has several digests of this file")
    if digests:
        return BadChecksum(path.name, f"it is of another file, {next(iter(digests))!r}")
    return BadChecksum(path.name, "it has no SHA-256 digest")
