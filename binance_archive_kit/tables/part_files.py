"""Open the Parquet files of parts, checked against their manifest, and decode their rows."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from binance_archive_kit.tables.manifest import Checked

_FORM = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(
        pre_buffer=False, page_checksum_verification=True
    )
)
_SYSTEM = pafs.LocalFileSystem()
#: Bytes that the footers of parts may take in memory, as they are on disk.
_FOOTERS = 32 << 20
#: What a damaged file raises.
DAMAGE = (OSError, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class Footer:
    """The footer of a Parquet file.

    Attributes
    ----------
    fragment : pyarrow.dataset.Fragment
    metadata : pyarrow.parquet.FileMetaData
    starts : list of int
        First row of each row group, and the number of rows.
    """

    fragment: ds.Fragment
    metadata: pq.FileMetaData
    starts: list[int]

    @classmethod
    def read(cls, path: Path) -> Footer:
        """Read the footer of a file."""
        fragment = _FORM.make_fragment(str(path), _SYSTEM)
        metadata = fragment.metadata
        rows = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        return cls(fragment, metadata, [*accumulate(rows, initial=0)])


class OpenFile:
    """A Parquet file that stays readable after it is deleted; for several threads."""

    def __init__(self, file: pa.NativeFile, footer: Footer) -> None:
        self._file = file
        self.footer = footer

    def decode(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Decode some columns of a row group, in the given order.

        Raises
        ------
        OSError, pyarrow.ArrowException
            If the file is damaged.
        """
        # A reader is for one thread; making one is cheap, as the footer is parsed.
        reader = pq.ParquetFile(
            self._file,
            metadata=self.footer.metadata,
            pre_buffer=False,
            page_checksum_verification=True,
        )
        return reader.read_row_group(group, list(columns), use_threads=False).select(columns)

    @property
    def columns(self) -> list[str]:
        """The names of all columns."""
        names: list[str] = self.footer.fragment.physical_schema.names
        return names

    def matching(self, where: ds.Expression | None) -> frozenset[int] | None:
        """Return the row groups that may have rows for which a condition is true; None for all."""
        if where is None:
            return None
        fragment = self.footer.fragment
        subset = fragment.subset(filter=where, schema=fragment.physical_schema)
        return frozenset(group.id for group in subset.row_groups)


class PartFiles:
    """Opens Parquet files, and remembers their footers; safe to be used by several threads."""

    def __init__(self) -> None:
        self._footers: OrderedDict[Path, Footer] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def open(self, path: Path, expected: Checked) -> OpenFile:
        """Open a file, and mark it as used now.

        Raises
        ------
        OSError, pyarrow.ArrowException
            If the file is gone, or is not the expected one.
        """
        file = pa.OSFile(str(path))
        try:
            footer = self._footers.get(path)
            if footer is None:
                if not expected.is_of(file):
                    raise pa.ArrowInvalid(f"{path} is damaged")
                footer = Footer.read(path)
                self._remember(path, footer)
            elif file.size() != expected.bytes:
                raise pa.ArrowInvalid(f"{path} is damaged")
        except BaseException:
            file.close()
            raise
        with suppress(OSError):
            os.utime(path)
        return OpenFile(file, footer)

    def forget(self) -> None:
        """Forget all footers."""
        with self._lock:
            self._footers.clear()
            self._size = 0

    def _remember(self, path: Path, footer: Footer) -> None:
        with self._lock:
            if path not in self._footers:
                self._footers[path] = footer
                self._size += footer.metadata.serialized_size
            while self._size > _FOOTERS and len(self._footers) > 1:
                _, oldest = self._footers.popitem(last=False)
                self._size -= oldest.metadata.serialized_size
