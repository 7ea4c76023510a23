"""Small files read as large ones are: in pieces, of which few may wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from binance_archive_kit.reading import reader as reading
from binance_archive_kit.reading import unzip as texts


@contextmanager
def large(waiting: int) -> Iterator[None]:
    """Read every file in pieces, of which few may wait."""
    with (
        patch.object(reading, "SMALL", -1),
        patch.object(reading, "WAITING", waiting),
        patch.object(reading, "_SORTED", 7),
        patch.object(texts, "_FIRST_PIECE", 200),
        patch.object(texts, "PIECE", 500),
        patch.object(texts.Unzipper, "_chunks", _crumbs),
    ):
        yield


_CHUNKS = texts.Unzipper._chunks


def _crumbs(self: texts.Unzipper, file: object) -> Iterator[bytes]:
    for chunk in _CHUNKS(self, file):  # type: ignore[arg-type]
        yield from (chunk[at : at + 150] for at in range(0, len(chunk), 150))
