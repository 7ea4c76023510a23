"""Write rows of a feed as Parquet: encodings, checksums, and row groups that end with a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from binance_archive_kit.reading.file_stats import FileTask

#: A row group ends with a stream as soon as it has this many rows, so that reading one symbol
#: decodes little else.
FEW_ROWS = 32_000
#: The most rows of a row group: what one thread of a query takes at a time.
MOST_ROWS = 122_880
#: Rows that are written in each encoding to find the smallest.
_SAMPLE = 32_768
_DELTA = "DELTA_BINARY_PACKED"
_SPLIT = "BYTE_STREAM_SPLIT"
_DICTIONARY = "dictionary"
#: Level 3 is a tenth smaller than level 1 and is read as fast, with both codecs.
_LEVEL = 3


class ParquetWriter:
    """Writes one Parquet file; as a context manager, closes it, or aborts after an error.

    Parameters
    ----------
    path : Path
    schema : pyarrow.Schema
    metadata : mapping of str to str, optional
        Written to the footer when the file is closed.
    fast : bool
        Pack decimals with LZ4: they are read twice as fast and take a tenth more space. Some
        engines cannot read it.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        metadata: Mapping[str, str] | None = None,
        *,
        fast: bool = False,
    ) -> None:
        self._file = pa.OSFile(str(path), "wb")
        self._schema = schema
        self._metadata = metadata
        self._fast = fast
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.abort()

    def close(self) -> None:
        """Write the footer, and close the file."""
        try:
            writer = self._opened(self._schema.empty_table())
            if self._metadata:
                writer.add_key_value_metadata(dict(self._metadata))
            writer.close()
        finally:
            self._file.close()

    def abort(self) -> None:
        """Close the file as it is; nothing can read it."""
        if self._writer is not None:
            # Otherwise it writes a footer when it is deleted, which raises.
            self._writer.is_open = False
        self._file.close()

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        return int(self._file.tell())

    def write(self, group: pa.Table) -> None:
        """Write one row group of at most `MOST_ROWS` rows; the first decides the encodings."""
        self._opened(group).write_table(group, row_group_size=MOST_ROWS)
        self.rows += group.num_rows

    def _opened(self, first: pa.Table) -> pq.ParquetWriter:
        if self._writer is None:
            options = _options(self._schema, encodings(first, fast=self._fast), fast=self._fast)
            self._writer = pq.ParquetWriter(self._file, self._schema, **options)
        return self._writer


def encodings(table: pa.Table, *, fast: bool = False) -> dict[str, str]:
    """Return the encoding of each column that makes a sample of its values smallest.

    Parameters
    ----------
    table : pyarrow.Table
    fast : bool
        As for `ParquetWriter`.
    """
    sample = table.slice(0, _SAMPLE).combine_chunks()
    candidates = {field.name: _candidates(field.type) for field in table.schema}
    best = {name: names[0] for name, names in candidates.items()}
    sizes: dict[str, int] = {}
    for index in range(max(map(len, candidates.values())) if len(sample) else 0):
        attempt = {name: names[index] for name, names in candidates.items() if names[index:]}
        for name, size in _sizes(sample.select(list(attempt)), attempt, fast=fast).items():
            if name not in sizes or size < sizes[name]:
                sizes[name], best[name] = size, attempt[name]
    return best


def _candidates(kind: pa.DataType) -> tuple[str, ...]:
    """Return the encodings that may suit a type; the first is used if sizes are equal."""
    if types.is_dictionary(kind):
        return (_DICTIONARY,)
    if types.is_integer(kind) or types.is_timestamp(kind) or types.is_date(kind):
        return (_DELTA, _DICTIONARY)
    if _is_decimal(kind):
        return ("PLAIN", _DICTIONARY, _SPLIT)
    return ("PLAIN",) if types.is_boolean(kind) else (_DICTIONARY, "PLAIN")


def _options(schema: pa.Schema, chosen: Mapping[str, str], *, fast: bool) -> dict[str, Any]:
    words = [name for name, encoding in chosen.items() if encoding == _DICTIONARY]
    return {
        "use_dictionary": words,
        "column_encoding": {name: chosen[name] for name in chosen if name not in words},
        "compression": {
            field.name: "lz4" if fast and _is_decimal(field.type) else "zstd" for field in schema
        },
        "compression_level": dict.fromkeys(schema.names, _LEVEL),
        # Large pages are read faster.
        "max_rows_per_page": MOST_ROWS,
        "write_page_checksum": True,
    }


def _is_decimal(kind: pa.DataType) -> bool:
    return bool(types.is_floating(kind) or types.is_decimal(kind))


def _sizes(sample: pa.Table, attempt: Mapping[str, str], *, fast: bool) -> dict[str, int]:
    """Return the compressed size of each column in an encoding."""
    sink = pa.BufferOutputStream()
    pq.write_table(sample, sink, **_options(sample.schema, attempt, fast=fast))
    metadata = pq.read_metadata(pa.BufferReader(sink.getvalue()))
    columns = [metadata.row_group(0).column(index) for index in range(len(attempt))]
    return {column.path_in_schema: column.total_compressed_size for column in columns}


class RowGroups:
    """Joins batches of rows into row groups, which end where a file ends if possible."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._held: list[pa.RecordBatch] = []
        self._rows = 0
        self._task: FileTask | None = None

    def add(
        self, batch: pa.RecordBatch, spans: Iterable[tuple[FileTask, int]]
    ) -> Iterator[pa.Table]:
        """Add a batch, and yield the row groups that are complete.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
        spans : iterable of (FileTask, int)
            The files, and how many of the rows each has, in their order.
        """
        start = end = 0
        for task, rows in spans:
            held = self._rows + end - start
            if task is not self._task:
                is_other = self._task is None or task.folder.stream != self._task.folder.stream
                if held >= FEW_ROWS and (is_other or held + rows > MOST_ROWS):
                    yield self._group(batch, start, end)
                    start = end
            self._task = task
            end += rows
            while self._rows + end - start > MOST_ROWS:
                cut = start + MOST_ROWS - self._rows
                yield self._group(batch, start, cut)
                start = cut
        self._hold(batch, start, end)

    def rest(self) -> Iterator[pa.Table]:
        """Yield the last row group, if any rows are left."""
        if self._rows:
            yield self._group(self._held[0], 0, 0)

    def _hold(self, batch: pa.RecordBatch, start: int, end: int) -> None:
        if end > start:
            self._held.append(batch.slice(start, end - start))
            self._rows += end - start

    def _group(self, batch: pa.RecordBatch, start: int, end: int) -> pa.Table:
        """Return the held rows and some of a batch as one row group."""
        self._hold(batch, start, end)
        group = pa.Table.from_batches(self._held, self._schema).unify_dictionaries()
        self._held, self._rows = [], 0
        return group
