"""Commits of a feed's tables in a bucket: objects that list parts, and are written once.

Of several commits the union holds, so that any of them may be joined into one at any time.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from binance_archive_kit.errors import StoreError
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.record_objects import new_id
from binance_archive_kit.tables.manifest import FORMAT, Part

#: Where the commits of a feed lie below its tables.
COMMITS = "manifest/"
#: Objects that are read at the same time.
REQUESTS = 16
_ID = re.compile(r"(\d{8}T\d{12})-[0-9a-f]{8}(?:\.|$)")
#: Commits of a similar size that a publication joins.
_SIMILAR = 4


class EntryPack(NamedTuple):
    """A copy of the entries of several parts in one object, so that one is read instead of many.

    Attributes
    ----------
    name : str
        Unique, never used again.
    size, crc : int
        Bytes, and the CRC-32 of the Parquet footer.
    parts : tuple of str
        Names of the parts.
    """

    name: str
    size: int
    crc: int
    parts: tuple[str, ...]


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
    packs : list of EntryPack
        Versions that do not know them read the entries of each part.
    """

    format: int
    meaning: str | None
    added: list[Part]
    replaced: dict[str, str]
    packs: list[EntryPack]

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
                    return cls(content["format"], None, [], {}, [])
                added = [Part(*part) for part in content["added"]]
                packs = [
                    EntryPack(name, size, crc, tuple(parts))
                    for name, size, crc, parts in content.get("packs", ())
                ]
                return cls(content["format"], content["meaning"], added, content["replaced"], packs)
        return cls(0, None, [], {}, [])


def commit_key(prefix: str, name: str) -> str:
    """Return the key of a commit of the tables below a prefix."""
    return f"{prefix}{COMMITS}{name}.json"


def listed_parts(commits: Collection[Commit]) -> list[Part]:
    """Return the parts that were added and not replaced, the oldest first."""
    added = {part.name: part for commit in commits for part in commit.added}
    for name in replaced_parts(commits):
        added.pop(name, None)
    return sorted(added.values(), key=lambda part: (time_of(part.name), part.name))


def replaced_parts(commits: Iterable[Commit]) -> dict[str, str]:
    """Return when parts were replaced, by their names."""
    return {name: time for commit in commits for name, time in commit.replaced.items()}


def listed_packs(commits: Collection[Commit]) -> list[EntryPack]:
    """Return the packs with the entries of several listed parts that no later pack has."""
    parts = {part.name for part in listed_parts(commits)}
    packs = {pack.name: pack for commit in commits for pack in commit.packs}
    found = []
    for pack in sorted(packs.values(), key=lambda pack: time_of(pack.name), reverse=True):
        if len(parts.intersection(pack.parts)) > 1:
            parts.difference_update(pack.parts)
            found.append(pack)
    return found[::-1]


def joined_commit(commits: Collection[Commit], since: str = "") -> Commit:
    """Return what commits of one meaning say together.

    Parts that were replaced before a time are left out: their files are gone.
    """
    replaced = {name: at for name, at in replaced_parts(commits).items() if at >= since}
    parts, packs = listed_parts(commits), listed_packs(commits)
    return Commit(FORMAT, next(iter(commits)).meaning, parts, replaced, packs)


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
    now = text_of(datetime.now(UTC))
    commit = Commit(FORMAT, meaning, [*added], dict.fromkeys(replaced, now), [])
    bucket.write(commit_key(prefix, new_id()), commit.to_json())


def join_similar(bucket: Bucket, prefix: str) -> None:
    """Join commits of a similar size once there are several, so that a query reads few.

    Each commit is joined about once for each tier of sizes, whatever their number. Others may
    do the same at the same time.
    """
    tiers: dict[tuple[int, str | None], list[str]] = {}
    commits: dict[str, Commit] = {}
    sizes: dict[int, list[str]] = {}
    for each in bucket.list(f"{prefix}{COMMITS}"):
        sizes.setdefault(each.size.bit_length() // 2, []).append(each.key)
    similar = [key for keys in sizes.values() if len(keys) >= _SIMILAR for key in keys]
    with suppress(FileNotFoundError), ThreadPoolExecutor(REQUESTS, "commits") as pool:
        found = pool.map(bucket.read, similar)
        commits = dict(zip(similar, map(Commit.from_json, found), strict=True))
    for tier, keys in sizes.items():
        for key in keys:
            if key in commits and commits[key].format == FORMAT:
                tiers.setdefault((tier, commits[key].meaning), []).append(key)
    for keys in tiers.values():
        if len(keys) >= _SIMILAR:
            # What was replaced may have been added by a commit that is not among these.
            commit = joined_commit([commits[key] for key in keys])
            bucket.write(commit_key(prefix, new_id()), commit.to_json())
            bucket.remove(keys)


def text_of(moment: datetime) -> str:
    """Return a time as it stands in names."""
    return f"{moment:%Y%m%dT%H%M%S%f}"


def time_of(name: str) -> str:
    """Return the time in a name; empty if it has none."""
    found = _ID.search(name)
    return found[1] if found else ""


def _crc(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
