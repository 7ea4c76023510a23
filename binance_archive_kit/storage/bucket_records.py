"""The records of a store in object storage, with a local index that can be rebuilt.

The objects below `RECORDS` are the truth. The index, a SQLite file, has the rows of those that
were fetched: a later process lists the objects, which takes a request for a thousand, and fetches
only new ones. Several machines write at once without a lock, as no object is ever changed.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import ChainMap, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from binance_archive_kit.archive.absence import Absence
from binance_archive_kit.archive.keys import Span, Stream, key_range, prefix_of, range_of_one
from binance_archive_kit.errors import StoreError
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.databases import Database, Row
from binance_archive_kit.storage.proof import Proof, ProvenBy
from binance_archive_kit.storage.record_index import TABLES, VERSION, add_records, forget_feed
from binance_archive_kit.storage.record_objects import (
    RECORDS,
    SCHEMA,
    RecordName,
    decode,
    encode,
    feed_of,
    forgotten_table,
    missing_table,
    name_of,
    newest,
    table_of,
)
from binance_archive_kit.storage.records import (
    ASKED,
    MissingRecord,
    ProofRecord,
    Records,
    name_of_stream,
    stream_of_name,
)
from binance_archive_kit.storage.run_documents import RecordReader, RunDocuments, merge_documents

#: Seconds during which readers do not list the records again.
_FRESH = 2.0
#: Objects that are fetched at the same time.
_THREADS = 16
#: Bytes that are merged into one object: a new machine reads all of it for one symbol.
_MERGED = 4 << 20
#: Times to list again if an object disappears before it is fetched: it was merged.
_TRIES = 20
#: Times to read the index if it changes meanwhile, for whatever reason.
_READS = 3
T = TypeVar("T")
#: Names of objects, and their records with the names that they replace; None if damaged.
_Fetched = dict[str, tuple[pa.Table, list[str]] | None]


class BucketRecords(Records):
    """The records below a prefix of a bucket; safe for several threads, processes and machines.

    Parameters
    ----------
    bucket : Bucket
    folder : Path
        Of the index; may be deleted at any time.
    """

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self.root = bucket.url
        self.path = folder / "proofs.sqlite"
        self._bucket = bucket
        self._database = Database(self.path, TABLES, version=VERSION)
        #: Folders of records: when they were listed, and the names of their objects.
        self._listings: dict[str, tuple[float, set[str]]] = {}
        self._reader = RecordReader(bucket)
        self._runs = RunDocuments(bucket, self._database, self._reader)
        self._syncing = threading.RLock()
        #: How often this object has written to the index.
        self._changes = 0

    # Proofs

    def proof_rows(
        self, prefixes: Iterable[str], *columns: str, keys: Iterable[str] = ()
    ) -> list[Row]:
        """Return key, stamp and further columns of the proofs below some prefixes, or of `keys`."""
        prefixes, keys = list(prefixes), list(keys)
        read = super().proof_rows
        return self._read([*prefixes, *keys], lambda: read(prefixes, *columns, keys=keys))

    def proven_keys(self) -> set[str]:
        """Return the keys of all objects that have a proof."""
        return self._read(["data/"], super().proven_keys)

    @contextmanager
    def recorder(self) -> Iterator[Callable[[Sequence[Proof]], None]]:
        """Yield a function that records proofs, from any thread: by one object for each feed.

        It raises a `StoreError` if they cannot be recorded. At the end, the objects of each
        feed are merged into one.
        """
        written: dict[str, list[str]] = defaultdict(list)
        lock = threading.Lock()

        def record(proofs: Sequence[Proof]) -> None:
            by_key = {proof.key: proof for proof in proofs}
            for feed, keys in _by_feed(by_key).items():
                group = [by_key[key] for key in keys]
                name = self._write(table_of(group, self._time_after(keys)))
                with lock:
                    written[feed].append(name)

        yield record
        for names in written.values():
            # The proofs are recorded all the same.
            with suppress(StoreError):
                self._merge(names)

    def restamp(self, proofs: Mapping[str, ProofRecord]) -> None:
        """Record the new stamps of proven objects."""
        if not proofs:
            return
        rows = self.proof_rows([], "sha256", "etag", "proven_by", "proven_at", keys=proofs)
        with self.recorder() as record:
            record(
                [
                    Proof(key, proofs[key].stamp, sha256, etag, ProvenBy(by), at)
                    for key, _, _, _, _, sha256, etag, by, at in rows
                    if sha256 == proofs[key].sha256
                ]
            )

    def forget(self, keys: Iterable[str]) -> None:
        """Delete the proofs of objects, so that these are fetched again."""
        for group in _by_feed(keys).values():
            self._write(forgotten_table(group, self._time_after(group)))

    def _time_after(self, keys: Iterable[str]) -> int:
        """Return the time, or one after those of the proofs of some keys, if it is later.

        The clock of the machine that recorded them may be fast.
        """
        ranges = [range_of_one(key) for key in keys]
        tables = ("proofs", "forgotten")
        rows = [
            row for name in tables for row in self._database.rows(name, ["recorded_at"], ranges)
        ]
        return max([time.time_ns(), *(int(at) + 1 for (at,) in rows)])

    def _write(
        self, table: pa.Table, replaces: Sequence[str] = (), *, to_index: bool = True
    ) -> str:
        """Write records of one feed as an object, and add them to the index; return its name."""
        name = str(name_of(table))
        self._bucket.write(f"{RECORDS}{name}", encode(table, replaces))
        if to_index:
            self._apply({name: (table, [*replaces])}, replaces)
        self._listings.clear()
        return name

    # Merging

    def compact(self, *, to_index: bool = True) -> int:
        """Merge small objects of records, and return how many were replaced.

        May be called while others write, and again after it was killed. The records are added
        to the index of this machine, unless `to_index` is false.
        """
        small: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for found in self._bucket.list(RECORDS):
            name = RecordName.parse(found.key.removeprefix(RECORDS))
            if name is not None and found.size < _MERGED:
                small[name.feed].append((str(name), found.size))
        groups = (names for objects in small.values() for names in _cut(sorted(objects)))
        replaced = sum(self._merge(names, to_index=to_index) for names in groups)
        return replaced + self._runs.compact()

    def _merge(self, names: Sequence[str], *, to_index: bool = True) -> int:
        """Merge objects of records; return the number of objects that were replaced."""
        if len(names) < 2:
            return 0
        found = self._fetch(names)
        if len(found) < len(names):  # another process merges them
            return 0
        fetched = {name: each for name, each in found.items() if each is not None}
        if len(fetched) < 2:
            return 0
        tables = newest(table for table, _ in fetched.values())
        self._write(tables, list(fetched), to_index=to_index)
        self._bucket.remove(f"{RECORDS}{name}" for name in fetched)
        return len(fetched)

    # The index

    def _read(self, prefixes: Sequence[str], read: Callable[[], T]) -> T:
        """Read from the index what it has of some prefixes, once it has all of it.

        Reads again if it was deleted, or found to be damaged, meanwhile.
        """
        for _ in range(_READS):
            self._sync_needed(prefixes)
            before = self._changes
            found = read()
            self._sync_needed(prefixes)
            if self._changes == before:
                break
        return found

    def state(self, prefix: str) -> frozenset[str]:
        """Return what identifies the records below a prefix; it changes when they do."""
        self._sync_needed([prefix])
        return frozenset(name for name, _ in self._seen(feed_of(prefix)[0]))

    def expire(self) -> None:
        """Have the next call list the records again, however recently they were listed."""
        self._listings.clear()

    def feeds(self) -> set[str]:
        """Return the feeds, as in keys, that have objects of records; fetches none."""
        with self._syncing:
            listed = self._list("")
        return {name.feed for name in map(RecordName.parse, listed) if name is not None}

    def _sync_needed(self, prefixes: Iterable[str]) -> None:
        """Fetch the records of keys and prefixes that are not in the index yet."""
        needed: dict[str, set[str] | None] = {}
        for prefix in prefixes:
            feed, symbol = feed_of(prefix)
            symbols = needed.setdefault(feed, set())
            if not symbol or symbols is None:
                needed[feed] = None
            else:
                symbols.add(symbol)
        with self._syncing:
            for feed, symbols in needed.items():
                self._sync_feed(feed, symbols)

    def _sync_feed(self, feed: str, symbols: set[str] | None) -> None:
        owed: set[str] | None = None
        read: set[str] = set()
        for _ in range(_TRIES):
            seen = {name: json.loads(replaces) for name, replaces in self._seen(feed)}
            listed = self._list(feed)
            if seen.keys() - listed:
                # Another process may have added objects since they were listed.
                self._listings.clear()
                listed = self._list(feed)
            needed, gone = {n for n in listed if _is_needed(n, symbols)}, seen.keys() - listed
            new = sorted(needed - seen.keys())
            for start in range(0, len(new), _THREADS):
                fetched = self._fetch(new[start : start + _THREADS])
                self._apply(fetched)
                seen |= {name: found[1] if found else [] for name, found in fetched.items()}
            read |= {*seen}.union(*seen.values())
            # Others come and go while many machines write: what was there at first is enough.
            owed = needed if owed is None else owed
            if (owed <= read or needed <= seen.keys()) and self._drop(gone, seen, listed):
                return
            self._listings.clear()
        raise StoreError(
            f"{self._bucket.url}: its records change faster than they can be read; try again"
        )

    def _drop(self, gone: Set[str], seen: Mapping[str, list[str]], listed: Set[str]) -> bool:
        """Remove objects from the index that are no longer in the bucket, unless these change."""
        if gone <= {each for names in seen.values() for each in names}:
            if gone:
                self._apply({}, gone)
            return True
        # What was deleted may be that of some rows: read the others again.
        feeds = {each.feed for each in map(RecordName.parse, gone) if each}
        again = [name for name in seen.keys() & listed if name.startswith(tuple(feeds))]
        fetched = self._fetch(again)
        if len(fetched) == len(again):
            self._apply(fetched, gone, feeds)
        return len(fetched) == len(again)

    def _seen(self, feed: str) -> list[Row]:
        """Return the names of the objects in the index, and what they replace."""
        return self._database.rows("objects", ranges=[key_range(feed)] if feed else None)

    def _list(self, feed: str) -> set[str]:
        """Return the names of the objects of a feed, or of several, as of now or just before."""
        now = time.monotonic()
        parents = [feed[: at + 1] for at, letter in enumerate(feed) if letter == "/"]
        for parent in ("", *parents):
            at, names = self._listings.get(parent, (-_FRESH, set()))
            if now - at < _FRESH:
                return {name for name in names if name.startswith(feed)}
        found = (each.key.removeprefix(RECORDS) for each in self._bucket.list(f"{RECORDS}{feed}"))
        names = {name for name in found if RecordName.parse(name) is not None}
        self._listings[feed] = now, names
        return names

    def _fetch(self, names: Sequence[str]) -> _Fetched:
        """Read those objects that still exist; warn of damaged ones.

        Raises
        ------
        StoreError
            If one of them was written by a newer version of this package.
        """

        def read(name: str) -> _Fetched:
            try:
                return {name: self._reader.read(name, decode)}
            except FileNotFoundError:  # merged since it was listed
                return {}

        with ThreadPoolExecutor(_THREADS, "records") as pool:
            return dict(ChainMap(*pool.map(read, names)))

    def _apply(
        self, fetched: _Fetched, gone: Iterable[str] = (), emptied: Iterable[str] = ()
    ) -> None:
        """Add fetched records to the index, and forget the names of objects that are gone.

        The index of the emptied feeds is deleted before, in the same transaction.
        """
        names = [(name,) for name in gone]

        def write(connection: sqlite3.Connection) -> None:
            for feed in emptied:
                forget_feed(connection, feed)
            for name, found in fetched.items():
                table, replaces = found or (SCHEMA.empty_table(), [])
                add_records(connection, table)
                connection.execute(
                    "INSERT OR REPLACE INTO objects (name, replaces) VALUES (?, ?)",
                    (name, json.dumps(replaces)),
                )
            connection.executemany("DELETE FROM objects WHERE name = ?", names)

        self._database.write(write)
        self._changes += 1

    # Missing objects

    def record_missing(self, missing: Iterable[Absence], present: Iterable[str]) -> None:
        """Record which objects the archive lacks, unless that was recorded on this day already.

        See `Records.record_missing`.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        rows: dict[str, tuple[str, str] | None] = {
            key: (f"{absence.detail}{ASKED}{now} UTC", absence.reason.value)
            for absence in missing
            if (key := absence.last_key)
        }
        present = set(present)
        # The plan has read what is recorded of these folders.
        ranges = map(key_range, {*map(prefix_of, rows), *map(prefix_of, present)})
        recorded = {key: row for key, *row in self._database.rows("missing", ranges=ranges)}
        new = {
            key: row
            for key, row in rows.items()
            if row and (key not in recorded or _day_of(row) != _day_of(recorded[key]))
        }
        changed = new | dict.fromkeys(recorded.keys() & present - rows.keys())
        # Nothing is noted of a prefix that is no store.
        if changed and self._bucket.has(RECORDS):
            for group in _by_feed(changed).values():
                self._write(missing_table({key: changed[key] for key in group}, time.time_ns()))

    def missing(self, prefix: str) -> dict[str, MissingRecord]:
        """Return the objects below a prefix that the archive was found to lack, by key."""
        read = super().missing
        return self._read([prefix], lambda: read(prefix))

    # The documents of runs

    def record_selections(
        self, selections: Mapping[str, object], streams: Mapping[Stream, Span]
    ) -> None:
        """Record which symbols patterns matched, unless that was recorded on this day already.

        See `Records.record_selections`.
        """
        known = self._runs.state()
        new = dict(selections)
        days = {
            name_of_stream(stream): [str(first), str(last)]
            for stream, (first, last) in streams.items()
        }
        merged = merge_documents([{"selected": known["selected"]}, {"selected": days}])
        recorded = {name: _of_the_day(known["selections"].get(name)) for name in new}
        if recorded != {name: _of_the_day(each) for name, each in new.items()} or (
            merged["selected"] != known["selected"]
        ):
            self._runs.write({"selections": new, "selected": days})

    def selections(self) -> dict[str, Any]:
        """Return what patterns matched, as JSON values, by the name of the patterns."""
        return dict(self._runs.state()["selections"])

    def selected_streams(self) -> dict[Stream, Span]:
        """Return the streams that were selected by patterns, with their first and last day."""
        found = {}
        for text, (first, last) in self._runs.state()["selected"].items():
            # A damaged record may name no stream.
            with suppress(ValueError):
                found[stream_of_name(text)] = date.fromisoformat(first), date.fromisoformat(last)
        return found

    def record_unfinished(self, streams: Mapping[Stream, date | None]) -> None:
        """Record from which UTC day on streams lack files; see `Records.record_unfinished`."""
        recorded = self._runs.state()["unfinished"]
        new = {name_of_stream(each): day and str(day) for each, day in streams.items()}
        changed = {name: day for name, day in new.items() if recorded.get(name) != day}
        if changed:
            self._runs.write({"unfinished": changed})

    def unfinished(self) -> dict[Stream, date]:
        """Return the first UTC day that an unfinished update requested of each stream."""
        found = {}
        for text, since in self._runs.state()["unfinished"].items():
            with suppress(ValueError):
                found[stream_of_name(text)] = date.fromisoformat(since)
        return found

    def locations(self) -> list[tuple[str, str]]:
        """Return no location: every object lies under its key."""
        return []


def _by_feed(keys: Iterable[str]) -> dict[str, list[str]]:
    """Group keys by their feed."""
    groups = defaultdict(list)
    for key in keys:
        groups[feed_of(key)[0]].append(key)
    return groups


def _day_of(row: Sequence[str]) -> tuple[str, str]:
    """Return what is said of a missing object and why, up to the day of the question."""
    said, reason, *_ = row
    return said[: -len(" 23:59 UTC")], reason


def _of_the_day(selection: Any) -> Any:
    """Return a selection with the day instead of the time of its listing."""
    if isinstance(selection, dict) and isinstance(time := selection.get("listed_at"), str):
        return {**selection, "listed_at": time[: len("2025-07-01")]}
    return selection


def _is_needed(name: str, symbols: set[str] | None) -> bool:
    parsed = RecordName.parse(name)
    return symbols is None or (parsed is not None and parsed.may_have(symbols))


def _cut(objects: Iterable[tuple[str, int]]) -> list[list[str]]:
    """Group objects, in their order, so that those of a group are merged at once."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, each in objects:
        if size + each > _MERGED and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += each
    return groups
