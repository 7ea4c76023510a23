"""Zips of every form with one csv member, sound and damaged."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.proof import Expected, Proof, prove
from tests.support.both_stores import place

NAME = "BTCUSDT-trades-2025-07-15.csv"
KEY = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip"
TEXT = b"1,2.50,3,7.5,1752537600000000,True,True\n" * 3
LONG = b"".join(b"%d,%d.25,1,2,3,True,True\n" % (n, n * 7919) for n in range(120_000))


def plain(text: bytes = TEXT, method: int = zipfile.ZIP_DEFLATED, name: str = NAME) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo(name, (2025, 7, 16, 1, 2, 4)), text, method)
    return made.getvalue()


class Unseekable(io.BytesIO):
    """A stream into which zipfile cannot go back, as when a server zips on the fly."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def streamed(text: bytes = TEXT, name: str = NAME) -> bytes:
    """A zip whose sizes follow the member, in a data descriptor."""
    made = Unseekable()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name, (2025, 7, 16, 1, 2, 4)), text, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def stored(text: bytes = TEXT) -> bytes:
    return plain(text, zipfile.ZIP_STORED)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def staged(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "staged"
    path.write_bytes(data)
    return path


GOOD = plain()
DAMAGED = bytes([*GOOD[:60], GOOD[60] ^ 1, *GOOD[61:]])
OTHER = "f" * 64


def admit_proven(store: BaseStore, tmp_path: Path, key: str, data: bytes = GOOD) -> Proof:
    file = staged(tmp_path, data)
    proof = prove(KEY, file, Expected(len(data), md5(data), sha(data)))
    return place(store, replace(proof, key=key), file)
