"""Identify a file on disk without reading it: its size, times and inode.

Writing to a file, replacing it, or setting its modification time back changes its stamp.
A medium that returns other bytes than were written does not: only reading shows that.
"""

from __future__ import annotations

import errno
import os
from operator import attrgetter
from typing import NamedTuple

#: Whole numbers up to this fit into SQLite and into 64-bit columns.
_BITS = (1 << 63) - 1
#: `st_ctime` is the time of creation there, and listing a folder gives no inode.
_WINDOWS = os.name == "nt"
#: Error numbers for a name without a file: it has gone, or is a link to nothing.
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
#: The fields of a stamp in an `os.stat_result`, to compare thousands of files quickly. If they
#: differ from a stamp, `stamp_of` decides.
raw = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")


class Stamp(NamedTuple):
    """The identity of a file at some moment; if its stamp differs, it may be another file.

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
