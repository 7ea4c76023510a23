"""The documents of runs in object storage: selected symbols and unfinished updates, as JSON.

Each run that has any writes one of its own. What holds is what they say together; the later one
counts.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from binance_archive_kit.errors import ArchiveKitWarning, StoreError
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.databases import Database
from binance_archive_kit.storage.record_objects import (
    RECORDS,
    RUNS,
    VERSION,
    DamagedRecordError,
    NewerRecordError,
    RecordName,
    decode_document,
    encode_document,
    is_run,
    new_id,
)

#: Objects that are fetched at the same time.
_THREADS = 16
#: Times to list the documents again if one is merged before it is read.
_TRIES = 20
T = TypeVar("T")


class RecordReader:
    """Reads objects of records; warns of each damaged one once."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._warned: set[str] = set()

    def read(self, name: str, decoder: Callable[[bytes], T]) -> T | None:
        """Read one object of records; None if it is damaged."""
        uri = self._bucket.uri(f"{RECORDS}{name}")
        try:
            return decoder(self._bucket.read(f"{RECORDS}{name}"))
        except NewerRecordError as error:
            raise StoreError(
                f"{uri} was written by a newer version of this package (its format is {error}, "
                f"and this version knows {VERSION}); update the package. Nothing was changed"
            ) from None
        except DamagedRecordError as error:
            if name not in self._warned:
                self._warned.add(name)
                warnings.warn(
                    f"{uri} is damaged ({error}) and is ignored. Lost: {_lost(name)}; delete it, "
                    "so that this warning ends",
                    ArchiveKitWarning,
                    stacklevel=2,
                )
            return None


class RunDocuments:
    """The documents of all runs of a store.

    Parameters
    ----------
    bucket : Bucket
    database : Database
        The index, with a table ``runs`` of their names and texts.
    reader : RecordReader
    """

    def __init__(self, bucket: Bucket, database: Database, reader: RecordReader) -> None:
        self._bucket = bucket
        self._database = database
        self._reader = reader
        self._syncing = threading.Lock()

    def write(self, document: dict[str, dict[str, Any]]) -> None:
        """Write a document of one or more parts."""
        self._bucket.write(f"{RUNS}{new_id()}.json", encode_document(document))

    def compact(self) -> int:
        """Merge the documents into one; return how many were replaced."""
        documents = self._documents()
        if len(documents) < 2:
            return 0
        merged = merge_documents(document for _, document in documents)
        # With the time of the last one, so that documents after that still count.
        time_of_last, _, _ = documents[-1][0].partition("-")
        name = f"{time_of_last}-{new_id().partition('-')[2]}.json"
        self._bucket.write(f"{RUNS}{name}", encode_document(merged))
        self._bucket.remove(f"{RUNS}{each}" for each, _ in documents)
        return len(documents)

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what the documents of all runs say together."""
        return merge_documents(document for _, document in self._documents())

    def _documents(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the documents of all runs, the oldest first; fetch those not in the index."""
        start = len(RUNS)
        with self._syncing:
            for _ in range(_TRIES):
                found = (each.key[start:] for each in self._bucket.list(RUNS))
                names = sorted(name for name in found if is_run(name))
                # One that was merged since it was listed is in another one now: list them again.
                with suppress(FileNotFoundError):
                    known = self._fetch(names)
                    return [(name, known[name]) for name in names]
        raise StoreError(
            f"{self._bucket.url}: its records change faster than they can be read; try again"
        )

    def _fetch(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the documents that are listed; reads those that are not in the index."""
        known = {name: json.loads(text) for name, text in self._database.rows("runs")}
        new = [name for name in names if name not in known]
        gone = [(name,) for name in known.keys() - set(names)]

        def read(name: str) -> dict[str, Any]:
            return self._reader.read(f"runs/{name}", decode_document) or {}

        with ThreadPoolExecutor(_THREADS, "records") as pool:
            fetched = dict(zip(new, pool.map(read, new), strict=True))
        rows = [(name, json.dumps(each)) for name, each in fetched.items()]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO runs (name, document) VALUES (?, ?)", rows
            )
            connection.executemany("DELETE FROM runs WHERE name = ?", gone)

        if rows or gone:
            self._database.write(write)
        return known | fetched


def merge_documents(documents: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merge the documents of runs, the oldest first; null deletes what an earlier one says."""
    merged: dict[str, dict[str, Any]] = {
        name: {} for name in ("selections", "selected", "unfinished")
    }
    for document in documents:
        for name in ("selections", "unfinished"):
            merged[name] |= document.get(name, {})
        for stream, (first, last) in document.get("selected", {}).items():
            before = merged["selected"].get(stream, [first, last])
            merged["selected"][stream] = [min(first, before[0]), max(last, before[1])]
    unfinished = merged["unfinished"].items()
    merged["unfinished"] = {stream: day for stream, day in unfinished if day is not None}
    return merged


def _lost(name: str) -> str:
    """Return what is lost with a damaged object."""
    parsed = RecordName.parse(name)
    if parsed is None:
        return "which symbols patterns have selected, and which streams an update has not finished"
    return (
        f"proofs of files of {parsed.feed.rstrip('/')}, symbols {parsed.first} to {parsed.last} "
        "(the next collect fetches these files again), and what the archive lacks of them"
    )
