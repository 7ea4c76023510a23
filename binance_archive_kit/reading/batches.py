"""Arrow batches of rows, with their path columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from binance_archive_kit.reading.chunks import Chunk
from binance_archive_kit.reading.file_stats import FileTask

#: Rows of a batch whose rows are only counted.
_ROWS = 1 << 19


def count_chunks(spans: Iterable[tuple[FileTask, int | None]]) -> Iterator[Chunk]:
    """Yield chunks without columns for files whose number of rows is known."""
    chunk: list[tuple[FileTask, int]] = []
    room = _ROWS
    for task, rows in spans:
        left = rows or 0
        while left:
            taken = min(left, room)
            chunk.append((task, taken))
            left, room = left - taken, room - taken
            if not room:
                yield Chunk(chunk, pl.DataFrame())
                chunk, room = [], _ROWS
    if chunk:
        yield Chunk(chunk, pl.DataFrame())


def batch_of(chunk: Chunk, schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows of a chunk as a batch.

    Parameters
    ----------
    chunk : Chunk
    schema : pyarrow.Schema
        The columns, in their order: path columns, and columns of the chunk's frame.
    """
    own = chunk.frame.to_arrow()
    folders = [
        (held.folder, sum(rows for _, rows in spans))
        for held, spans in groupby(chunk.spans, lambda span: span[0].held)
    ]
    arrays = []
    for name in schema.names:
        if name in own.column_names:
            arrays.append(own.column(name).combine_chunks())
        elif name == "file":
            arrays.append(_repeat([(task.file.path, rows) for task, rows in chunk.spans]))
        else:
            arrays.append(_repeat([(getattr(folder, name), rows) for folder, rows in folders]))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _repeat(runs: Sequence[tuple[str | None, int]]) -> pa.DictionaryArray:
    """Return a dictionary array that repeats each word as often as its number says."""
    words, counts = zip(*runs, strict=True) if runs else ((), ())
    known = list(dict.fromkeys(word for word in words if word is not None))
    positions: dict[str | None, int] = {word: index for index, word in enumerate(known)}
    if len(known) == len(set(words)) == 1 and sum(counts) <= _ROWS:
        indices = _zeros()[: sum(counts)]
    else:
        indices = np.repeat([positions.get(word, -1) for word in words], counts).astype(np.int32)
    absent = indices < 0 if None in words else None
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, mask=absent), pa.array(map(str, known), pa.string()), safe=False
    )


@cache
def _zeros() -> npt.NDArray[np.int32]:
    """Return the indices of a repeated single word; never written to."""
    return np.zeros(_ROWS, np.int32)
