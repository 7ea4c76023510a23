"""The parts of a feed's tables in a bucket: what is listed by its commits together.

Each commit is an object that is written once, by one request, and never changed::

    .binance_archive_kit/tables/<feed>/<part>.rows.parquet, <part>.entries.parquet
    .binance_archive_kit/tables/<feed>/manifest/<time>-<random>.json    parts added, parts replaced

so several builders need no lock: if two of them merge the same parts, that only takes space.
Names begin or end with the time in UTC. What was replaced, or written and never committed, is
removed by a build a day later: until then, someone may be reading it or about to commit it.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from binance_archive_kit.errors import StoreError
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.record_objects import new_id
from binance_archive_kit.tables.bucket_file import BucketFile
from binance_archive_kit.tables.manifest import FORMAT, FeedFolder, Manifest, Part
from binance_archive_kit.tables.row_reader import OpenFile, UnreadableFile, reading

#: Where the tables of all feeds lie.
TABLES = f"{PRIVATE}/tables/"
_COMMITS = "manifest/"
_ID = re.compile(r"(\d{8}T\d{12})-[0-9a-f]{8}(?:\.|$)")
#: How long what is replaced, or not committed, stays.
_GRACE = timedelta(days=1)
#: Seconds for which a listing is current.
_FRESH = 2.0
#: Bytes of entries up to which they are kept on this machine, as a whole.
_KEPT = 8 << 20
_ATTEMPTS = 20
#: Commits of a similar size that a publication joins.
_SIMILAR = 4


class Commit(NamedTuple):
    """What a commit changes.

    Attributes
    ----------
    format : int
    meaning : str or None
        Digest of what decides which rows a file has.
    added : list of Part
    replaced : dict of str to str
        Names of parts, and the time at which they were replaced.
    """

    format: int
    meaning: str | None
    added: list[Part]
    replaced: dict[str, str]

    def to_json(self) -> bytes:
        """Return the content of its object, with a checksum."""
        content = self._asdict()
        return json.dumps({**content, "crc": _crc(content)}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Commit:
        """Read the content of an object; one that is damaged changes nothing."""
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            content: dict[str, Any] = json.loads(data)
            if content.pop("crc") == _crc(content):
                if content["format"] > FORMAT:
                    return cls(content["format"], None, [], {})
                added = [Part(*part) for part in content["added"]]
                return cls(content["format"], content["meaning"], added, content["replaced"])
        return cls(0, None, [], {})


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

    requests = 16
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
        kept = self._index / self.entries(part.name).name
        key, size, crc = f"{self._prefix}{kept.name}", part.entries_size, part.entries_crc
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
        parts = _listed(self._own().values())
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
        kept = self._index / _COMMITS
        for _ in range(_ATTEMPTS):
            listed = self._bucket.list(f"{self._prefix}{_COMMITS}")
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
        listed = {*commits, *(part.name for commit in commits.values() for part in commit.added)}
        with suppress(OSError):
            for path in (*(self._index / _COMMITS).iterdir(), *self._index.glob("*.parquet")):
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
                    self._join()
        except Timeout:
            yield False
        finally:
            self.is_building = False

    def _remove_old(self) -> None:
        """Remove what was replaced, or not committed, a day ago; drop parts that are gone."""
        own = self._own()
        listed = {part.name: part for part in _listed(own.values())}
        replaced, until = _replaced(own.values()), _text(datetime.now(UTC) - _GRACE)
        sizes = {
            each.key.removeprefix(self._prefix): each.size
            for each in self._bucket.list(self._prefix)
        }
        gone = [
            f"{self._prefix}{file}"
            for file in sizes
            if (name := file.removeprefix(_COMMITS).partition(".")[0]) not in listed
            and name not in own
            and (replaced.get(name) or _time_of(name) or until) < until
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

    def _join(self) -> None:
        """Write one commit instead of several."""
        self._listed_at = -_FRESH
        own = self._own()
        if len(own) < 2:
            return
        # Until their files are removed, and no other builder may list them again.
        until = _text(datetime.now(UTC) - 2 * _GRACE)
        replaced = {name: at for name, at in _replaced(own.values()).items() if at >= until}
        commit = Commit(FORMAT, self._meaning, _listed(own.values()), replaced)
        self._bucket.write(self._commit_key(new_id()), commit.to_json())
        self._bucket.remove([self._commit_key(name) for name in own])
        self._listed_at = -_FRESH

    def _commit_key(self, name: str) -> str:
        return f"{self._prefix}{_COMMITS}{name}.json"


def publish(
    bucket: Bucket,
    prefix: str,
    files: Mapping[str, Path],
    meaning: str | None,
    added: Sequence[Part],
    replaced: Collection[str],
) -> None:
    """Upload the files of parts, then commit them.

    Parameters
    ----------
    bucket : Bucket
    prefix : str
        Of the feed's tables; ends in a slash.
    files : mapping of str to Path
        By their names below the prefix.
    meaning : str or None
    added : sequence of Part
    replaced : collection of str
        Names of parts that are no longer to be read.

    Raises
    ------
    StoreError
        If something did not arrive; then nothing is listed.
    """
    errors = bucket.upload({f"{prefix}{name}": path for name, path in files.items()})
    if errors:
        raise StoreError(next(iter(errors.values())))
    commit = Commit(FORMAT, meaning, [*added], dict.fromkeys(replaced, _text(datetime.now(UTC))))
    bucket.write(f"{prefix}{_COMMITS}{new_id()}.json", commit.to_json())


def join_similar(bucket: Bucket, prefix: str) -> None:
    """Join commits of a similar size once there are several, so that a query reads few.

    Each commit is joined about once for each tier of sizes, whatever their number. Others may
    do the same at the same time.
    """
    tiers: dict[tuple[int, str | None], list[str]] = {}
    commits: dict[str, Commit] = {}
    sizes: dict[int, list[str]] = {}
    for each in bucket.list(f"{prefix}{_COMMITS}"):
        sizes.setdefault(each.size.bit_length() // 2, []).append(each.key)
    similar = [key for keys in sizes.values() if len(keys) >= _SIMILAR for key in keys]
    with suppress(FileNotFoundError), ThreadPoolExecutor(BucketFolder.requests, "commits") as pool:
        found = pool.map(bucket.read, similar)
        commits = dict(zip(similar, map(Commit.from_json, found), strict=True))
    for tier, keys in sizes.items():
        for key in keys:
            if key in commits and commits[key].format == FORMAT:
                tiers.setdefault((tier, commits[key].meaning), []).append(key)
    for (_, meaning), keys in tiers.items():
        if len(keys) >= _SIMILAR:
            own = [commits[key] for key in keys]
            # What was replaced may have been added by a commit that is not among these.
            commit = Commit(FORMAT, meaning, _listed(own), _replaced(own))
            bucket.write(f"{prefix}{_COMMITS}{new_id()}.json", commit.to_json())
            bucket.remove(keys)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, and give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _listed(commits: Collection[Commit]) -> list[Part]:
    """Return the parts that were added and not replaced, the oldest first."""
    added = {part.name: part for commit in commits for part in commit.added}
    for name in _replaced(commits):
        added.pop(name, None)
    return sorted(added.values(), key=lambda part: (_time_of(part.name), part.name))


def _replaced(commits: Iterable[Commit]) -> dict[str, str]:
    """Return when parts were replaced, by their names."""
    return {name: time for commit in commits for name, time in commit.replaced.items()}


def _text(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S%f}"


def _time_of(name: str) -> str:
    """Return the time in a name; empty if it has none."""
    found = _ID.search(name)
    return found[1] if found else ""


def _crc(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
