"""Small files read as large ones are: in pieces, of which few may wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from binance_archive_kit.reading import large_files, reader, unzip


@contextmanager
def large(waiting: int) -> Iterator[None]:
    """Read every file in pieces, of which few may wait."""
    with (
        patch.object(reader, "SMALL", -1),
        patch.object(large_files, "WAITING", waiting),
        patch.object(large_files, "_SORTED", 7),
        patch.object(unzip, "_FIRST_CHUNK", 200),
        patch.object(unzip, "CHUNK", 500),
        patch.object(unzip.Unzipper, "_chunks", _crumbs),
    ):
        yield


_CHUNKS = unzip.Unzipper._chunks


def _crumbs(self: unzip.Unzipper, file: object) -> Iterator[bytes]:
    for chunk in _CHUNKS(self, file):  # type: ignore[arg-type]
        yield from (chunk[at : at + 150] for at in range(0, len(chunk), 150))
