"""Read a Parquet file in a bucket: its footer once, then columns of row groups by few requests."""

from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.tables.row_reader import OTHER_FOOTER, OpenFile, reading, starts_of

#: Bytes at the end that are read first: most footers are smaller.
_TAIL = 128 << 10
#: Bytes after a footer: its length, and a magic number.
_END = 8
#: Unneeded bytes that are read rather than asking again.
_HOLE = 1 << 20
_MAGIC = b"PAR1"
#: Footers that are remembered.
_MOST = 64
_FORM = ds.ParquetFileFormat()


class _Footer(NamedTuple):
    """A parsed footer, the first row of each row group, and the last bytes of its file."""

    fragment: ds.Fragment
    starts: tuple[int, ...]
    tail: bytes


#: By the URL of a part, whose name is never used again, and its CRC-32.
_footers: dict[tuple[Path | str, int], _Footer] = {}


class BucketFile(OpenFile):
    """A Parquet file in a bucket; for several threads.

    Parameters
    ----------
    bucket : Bucket
    key : str
    size, crc : int
        Its bytes, and the CRC-32 of its footer.

    Raises
    ------
    UnreadableFile
        If it is damaged or gone.
    StoreError
        If the bucket cannot be read.
    """

    threads = 8

    def __init__(self, bucket: Bucket, key: str, size: int, crc: int) -> None:
        self._path = bucket.uri(key)
        self._bucket = bucket
        self._key = key
        self._size = size
        self._opened: pa.NativeFile | None = None
        self._lock = threading.Lock()
        with reading(self._path):
            footer = _footers.get((self._path, crc)) or self._read_footer(crc)
        self.fragment, self.starts, self._tail = footer

    def _read_at(self, start: int, size: int) -> bytes:
        """Read some bytes; opens the file if it is not open yet."""
        with self._bucket.errors(self._key):
            with self._lock:
                # Not earlier, nor for longer: credentials may be others later.
                if self._opened is None:
                    self._opened = self._bucket.open(self._key)
            return bytes(self._opened.read_at(size, start))

    def _read_footer(self, crc: int) -> _Footer:
        """Read, check and parse the footer."""
        tail = self._read_at(max(self._size - _TAIL, 0), _TAIL)
        length = int.from_bytes(tail[-_END:-4], "little") + _END
        if len(tail) < length <= self._size:
            start = self._size - length
            tail = self._read_at(start, length - len(tail)) + tail
        footer = tail[-length:]
        if zlib.crc32(footer) != crc:
            raise pa.ArrowInvalid(OTHER_FOOTER)
        fragment = _FORM.make_fragment(pa.BufferReader(_MAGIC + footer))
        found = _Footer(fragment, starts_of(fragment), tail)
        if len(_footers) >= _MOST:
            _footers.clear()
        _footers[self._path, crc] = found
        return found

    def _source(self, row_group: int, columns: Sequence[str]) -> pa.NativeFile:
        """Read the columns of a row group, with little between them, at once."""
        start = self._size - len(self._tail)
        blocks = [(start, self._tail)]
        blocks += [
            (first, self._read_at(first, end - first))
            for first, end in _joined(self._ranges(row_group, columns))
            if first < start
        ]
        return pa.PythonFile(_Blocks(blocks, self._size), mode="r")

    def _ranges(self, row_group: int, columns: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Yield where columns begin and end."""
        names, metadata = {*columns}, self.fragment.metadata.row_group(row_group)
        for index in range(metadata.num_columns):
            column = metadata.column(index)
            if column.path_in_schema in names:
                start = column.data_page_offset
                if column.has_dictionary_page:
                    start = min(start, column.dictionary_page_offset)
                yield start, start + column.total_compressed_size


def _joined(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges with few bytes between them."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start - joined[-1][1] <= _HOLE:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


class _Blocks(io.RawIOBase):
    """Some bytes of a file that were read before, in their places."""

    def __init__(self, blocks: Sequence[tuple[int, bytes]], size: int) -> None:
        self._blocks = blocks
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._at + size, self._size)
        for start, block in self._blocks:
            if start <= self._at and end <= start + len(block):
                found = block[self._at - start : end - start]
                self._at = end
                return found
        raise pa.ArrowInvalid(f"bytes {self._at:,} to {end:,} are of no column")
