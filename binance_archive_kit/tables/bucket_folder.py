"""The parts of a feed's tables in a bucket: what is listed by its commits together.

Each commit is an object that is written once, by one request, and never changed::

    .binance_archive_kit/tables/<feed>/<part>.rows.parquet, <part>.entries.parquet
    .binance_archive_kit/tables/<feed>/pack-….entries.parquet           entries of many parts
    .binance_archive_kit/tables/<feed>/manifest/<time>-<random>.json    parts added, parts replaced

so several builders need no lock: if two of them merge the same parts, that only takes space.
Names begin or end with the time in UTC. What was replaced, or written and never committed, is
removed by a build a day later: until then, someone may be reading it or about to commit it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from binance_archive_kit.errors import StoreError
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.record_objects import new_id
from binance_archive_kit.tables.bucket_file import BucketFile
from binance_archive_kit.tables.commits import (
    COMMITS,
    REQUESTS,
    Commit,
    EntryPack,
    commit_key,
    joined_commit,
    listed_packs,
    listed_parts,
    publish,
    replaced_parts,
    text_of,
    time_of,
)
from binance_archive_kit.tables.entry_packs import due_packs, write_pack
from binance_archive_kit.tables.manifest import FORMAT, EntryFile, FeedFolder, Manifest, Part
from binance_archive_kit.tables.row_reader import OpenFile, UnreadableFile, reading

#: Where the tables of all feeds lie.
TABLES = f"{PRIVATE}/tables/"
#: How long what is replaced, or not committed, stays.
_GRACE = timedelta(days=1)
#: Seconds for which a listing is current.
_FRESH = 2.0
#: Bytes of entries up to which they are kept on this machine, as a whole.
_KEPT = 8 << 20
_ATTEMPTS = 20


class BucketFolder(FeedFolder):
    """The tables of one feed in a bucket; safe for several threads and machines.

    Parameters
    ----------
    bucket : Bucket
    table : str
        Name of the feed's tables.
    meaning : str or None
        Of the feed. None accepts any.
    index : Path
        A folder of this machine. Commits and entries, which never change, are kept there, and
        new parts are written there first.

    Attributes
    ----------
    is_building : bool
        Whether this object is the only builder of this machine.
    """

    requests = REQUESTS
    merges_all = True
    most_on_disk = 512 << 20

    def __init__(self, bucket: Bucket, table: str, meaning: str | None, index: Path) -> None:
        super().__init__(index / table / "new", meaning)
        self._bucket = bucket
        self._prefix = f"{TABLES}{table}/"
        self._index = index / table
        self._commits: dict[str, Commit] = {}
        self._listed_at = -_FRESH
        self._lock_of_list = threading.Lock()
        self.is_building = False

    # Reading

    def open_data(self, part: Part) -> OpenFile:
        """Open the rows of a part; an `UnreadableFile` if they are damaged or gone."""
        key = f"{self._prefix}{self.data(part.name).name}"
        return BucketFile(self._bucket, key, part.data_size, part.data_crc)

    def open_entries(self, part: Part) -> OpenFile:
        """Open the entries of a part; an `UnreadableFile` if they are damaged or gone."""
        return self._open_kept(part.name, part.entries_size, part.entries_crc)

    def entry_files(self, parts: Sequence[Part]) -> list[EntryFile]:
        """Return the fewest objects with the entries of some parts."""
        left = {part.name: part for part in parts}
        found = []
        for pack in listed_packs(self._own().values()):
            names = [name for name in pack.parts if name in left]
            if len(names) > 1:
                packed = tuple(left.pop(name) for name in names)
                found.append(EntryFile(packed, partial(self._open_kept, *pack[:3])))
        return found + super().entry_files([*left.values()])

    def _open_kept(self, name: str, size: int, crc: int) -> OpenFile:
        """Open entries; an object that is not large is kept on this machine."""
        kept = self._index / self.entries(name).name
        key = f"{self._prefix}{kept.name}"
        with suppress(UnreadableFile):
            return OpenFile(kept, size, crc)
        if size <= _KEPT:
            with reading(self._bucket.uri(key)):
                data = self._bucket.read(key)
            with suppress(OSError):
                write_whole(kept, data)
                return OpenFile(kept, size, crc)
        return BucketFile(self._bucket, key, size, crc)

    def stamp(self) -> object:
        """Return what changes with each commit; lists the commits every few seconds at most."""
        with self._lock_of_list:
            if time.monotonic() - self._listed_at >= _FRESH:
                self._commits = self._read_commits()
                self._listed_at = time.monotonic()
            return tuple(self._commits)

    def load(self) -> Manifest:
        """Return the parts that are listed."""
        parts = listed_parts(self._own().values())
        return Manifest(len(self._commits), self._meaning, tuple(parts))

    @property
    def is_newer(self) -> bool:
        """Whether the tables are those of a newer version, which are neither read nor changed."""
        self.stamp()
        return any(commit.format > FORMAT for commit in self._commits.values())

    def _own(self) -> dict[str, Commit]:
        """Return the commits of this format and meaning, by their names."""
        self.stamp()
        return {
            name: commit
            for name, commit in self._commits.items()
            if commit.format == FORMAT and self._meaning in (None, commit.meaning)
        }

    def _read_commits(self) -> dict[str, Commit]:
        """List the commits, and read those that were not read yet."""
        kept = self._index / COMMITS
        for _ in range(_ATTEMPTS):
            listed = self._bucket.list(f"{self._prefix}{COMMITS}")
            keys = [each.key for each in listed]

            def read(key: str) -> Commit:
                path = kept / key.rpartition("/")[2]
                if path.stem in self._commits:
                    return self._commits[path.stem]
                with suppress(OSError):
                    commit = Commit.from_json(path.read_bytes())
                    if commit.format:
                        return commit
                data = self._bucket.read(key)
                with suppress(OSError):
                    write_whole(path, data)
                return Commit.from_json(data)

            # A commit that was joined with others meanwhile is gone: list them again.
            with suppress(FileNotFoundError), ThreadPoolExecutor(self.requests, "commits") as pool:
                commits = [*pool.map(read, keys)]
                found = dict(zip((Path(key).stem for key in keys), commits, strict=True))
                self._forget(found)
                return found
        raise StoreError(f"{self._bucket.uri(self._prefix)}: the tables change all the time")

    def _forget(self, commits: Mapping[str, Commit]) -> None:
        """Remove what this machine has kept of commits and parts that are listed no longer."""
        listed = {*commits}
        for commit in commits.values():
            listed |= {part.name for part in commit.added}
            listed |= {pack.name for pack in commit.packs}
        with suppress(OSError):
            for path in (*(self._index / COMMITS).iterdir(), *self._index.glob("*.parquet")):
                if path.name.partition(".")[0] not in listed:
                    path.unlink(missing_ok=True)

    # Writing

    def replace(self, old: Collection[str], new: Sequence[Part]) -> None:
        """Upload new parts, and list them instead of some old ones, in one step.

        Raises
        ------
        StoreError
            If something did not arrive.
        """
        known = {part.name for part in self.load().parts}
        names = known & {*old}
        if not (names or new):
            return
        files = {self.data(part.name).name: self.data(part.name) for part in new}
        files |= {self.entries(part.name).name: self.entries(part.name) for part in new}
        publish(self._bucket, self._prefix, files, self._meaning, new, names)
        self._listed_at = -_FRESH
        for part in new:
            self.entries(part.name).replace(self._index / self.entries(part.name).name)
            self.remove(part.name)

    @contextmanager
    def building(self, *, wait: bool) -> Iterator[bool]:
        """Become the only builder of this machine, and remove what is no longer needed.

        Gives False if the tables are of a newer version, or if another builder is at work on
        this machine, unless `wait` is true.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._index / "build.lock", thread_local=False)
        try:
            with lock.acquire(timeout=-1 if wait else 0):
                for path in self.path.iterdir():
                    with suppress(OSError):
                        path.unlink()
                self.is_building = not self.is_newer
                if self.is_building:
                    self._remove_old()
                yield self.is_building
                if self.is_building:
                    self.join()
        except Timeout:
            yield False
        finally:
            self.is_building = False

    def _remove_old(self) -> None:
        """Remove what was replaced, or not committed, a day ago; drop parts that are gone."""
        own = self._own()
        listed = {part.name: part for part in listed_parts(own.values())}
        needed = {*listed, *own, *(pack.name for pack in listed_packs(own.values()))}
        replaced, until = replaced_parts(own.values()), text_of(datetime.now(UTC) - _GRACE)
        sizes = {
            each.key.removeprefix(self._prefix): each.size
            for each in self._bucket.list(self._prefix)
        }
        gone = [
            f"{self._prefix}{file}"
            for file in sizes
            if (name := file.removeprefix(COMMITS).partition(".")[0]) not in needed
            and (replaced.get(name) or time_of(name) or until) < until
        ]
        if gone:
            self._bucket.remove(gone)
        lost = [
            name
            for name, part in listed.items()
            if sizes.get(self.data(name).name) != part.data_size
            or sizes.get(self.entries(name).name) != part.entries_size
        ]
        self.replace(lost, ())

    def join(self) -> None:
        """Write one commit instead of several, and the entries of many small parts as one object.

        May be called while others write, and again after it was killed.

        Raises
        ------
        StoreError
            If the bucket cannot be read or written.
        """
        self._listed_at = -_FRESH
        own = self._own()
        commits = [*own.values()]
        due = due_packs(listed_parts(commits), listed_packs(commits))
        packs = [pack for pack in map(self._pack, due) if pack is not None]
        if self.is_newer or (len(own) < 2 and not packs):
            return
        commits.append(Commit(FORMAT, self._meaning, [], {}, packs))
        # Until their files are removed, and no other builder may list them again.
        commit = joined_commit(commits, text_of(datetime.now(UTC) - 2 * _GRACE))
        self._bucket.write(commit_key(self._prefix, new_id()), commit.to_json())
        self._bucket.remove([commit_key(self._prefix, name) for name in own])
        self._listed_at = -_FRESH

    def _pack(self, parts: Sequence[Part]) -> EntryPack | None:
        """Upload the entries of parts as one object."""

        def unkept(part: Part) -> OpenFile:
            key = f"{self._prefix}{self.entries(part.name).name}"
            return BucketFile(self._bucket, key, part.entries_size, part.entries_crc)

        self.path.mkdir(parents=True, exist_ok=True)
        written = write_pack([EntryFile((p,), partial(unkept, p)) for p in parts], self.path)
        if written is None:
            return None
        pack, path = written
        try:
            errors = self._bucket.upload({f"{self._prefix}{path.name}": path})
        finally:
            path.unlink()
        if errors:
            raise StoreError(next(iter(errors.values())))
        return pack


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, and give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
