"""A spool: a small store on the local disk, through which objects pass on their way to a bucket."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import polars as pl

from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.collection.chunking import Chunk
from binance_archive_kit.collection.uploads import Uploads
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.download.ledger import Clock, Ledger, State
from binance_archive_kit.errors import ObjectError
from binance_archive_kit.planning.plan import Action, Plan, PlanReason
from binance_archive_kit.query.engine import Engine, ReadOptions
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.layout import QUARANTINE
from binance_archive_kit.storage.proof import Proof, ProvenBy, Stamp
from binance_archive_kit.storage.store import Store
from binance_archive_kit.tables.bucket_tables import publish_tables

#: Bytes of zips that wait in a spool for their tables; two spools may be in use.
MOST_WAITING = 128 << 20
#: What follows the key in the name of a file in quarantine: bytes, and the note about them.
_BAD = re.compile(r"\.[0-9a-f]{12}\.bad(\.json)?")


class Spool:
    """A store for the files of some chunks.

    Parameters
    ----------
    home : Path
        The private folder of the run.

    Attributes
    ----------
    store : Store
    waiting : int
        Bytes of the files that wait for their tables, including those not uploaded yet.
    stamps : dict of str to Stamp
        The files that have arrived in the bucket and wait for their tables.
    """

    def __init__(self, home: Path) -> None:
        self.store = Store(home / uuid.uuid4().hex[:12])
        self.waiting = 0
        self.stamps: dict[str, Stamp] = {}

    @property
    def is_full(self) -> bool:
        """Whether its tables should be built before it takes more files."""
        return self.waiting >= min(MOST_WAITING, self.store.free_bytes() // 2 + 1)

    def publish_tables(self, uploads: Uploads) -> None:
        """Build the tables of its files, and add them to those of the bucket.

        Raises
        ------
        StoreError, DiskSpaceError
            If they cannot be written.
        """
        if self.stamps:
            root = self.store.root
            Engine(root, ReadOptions(on_error="skip")).build(quiet=True)
            publish = partial(publish_tables, root, uploads.bucket, self.stamps)
            if error := uploads.insist(publish):
                raise error

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.store.root, ignore_errors=True)


@dataclass(slots=True)
class Load:
    """The files of a chunk in a spool.

    Attributes
    ----------
    chunk : Chunk
    plan : Plan
        Of the chunk.
    spool : Spool
    ledger : Ledger
        The outcomes of the downloads, and `KEPT` for objects that are not needed.
    progress : Progress
    there : set of str
        Keys of the files that came from the bucket, to be proven.
    proofs : dict of str to Proof
        Of the files that were proven, by key.
    moved : dict of str to str
        Where files in quarantine are now, or why they are lost, by their paths.
    """

    chunk: Chunk
    plan: Plan
    spool: Spool
    ledger: Ledger
    progress: Progress = field(default_factory=Progress)
    there: set[str] = field(default_factory=set)
    proofs: dict[str, Proof] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, chunk: Chunk, whole: Plan, spool: Spool, clock: Clock) -> Load:
        """Return the load of a chunk before its download."""
        needed = {*chunk.needed}
        states = bytearray(State.PENDING if row in needed else State.KEPT for row in chunk.rows)
        return cls(chunk, chunk.plan(whole), spool, Ledger(states, clock, spool.store.path))

    def outcomes(self) -> Iterator[tuple[int, str, int]]:
        """Yield row of the whole plan, key and state of each needed object."""
        needed = {*self.chunk.needed}
        states = zip(self.chunk.rows, self.plan.frame["key"], self.ledger.states, strict=True)
        return (each for each in states if each[0] in needed)

    def fetch_kept(self, bucket: Bucket) -> None:
        """Fetch the files to be proven from the bucket; those that are gone, from the archive.

        Raises
        ------
        StoreError
            If the bucket cannot be read.
        """
        keys = self.plan.rows_to_prove()["key"].to_list()
        files = {key: self.spool.store.path(key) for key in keys}
        for folder in {path.parent for path in files.values()}:
            folder.mkdir(parents=True, exist_ok=True)
        gone = bucket.download(files)
        self.there = files.keys() - gone.keys()
        again, actions = pl.col("key").is_in([*gone]), self.plan.frame.schema["action"]
        new = {"action": Action.DOWNLOAD.value, "reason": PlanReason.NEW.value}
        frame = self.plan.frame.with_columns(
            pl.when(again).then(pl.lit(value)).otherwise(pl.col(name).cast(pl.String)).alias(name)
            for name, value in new.items()
        ).cast({"action": actions})
        self.plan = Plan(self.plan.config, frame)

    def take_proofs(self) -> None:
        """Read the proofs that the download has recorded."""
        proven = (State.DOWNLOADED, State.KEPT)
        keys = [key for _, key, state in self.outcomes() if state in proven]
        columns = ("sha256", "etag", "proven_by", "proven_at")
        rows = self.spool.store.records.proof_rows((), *columns, keys=keys)
        for key, size, mtime, ctime, inode, sha256, etag, by, at in rows:
            stamp = Stamp(size, mtime, ctime, inode)
            self.proofs[key] = Proof(key, stamp, sha256, etag, ProvenBy(by), at)
        self.spool.waiting += sum(self.proofs[key].size for key in self._with_tables())

    def _with_tables(self) -> Iterator[str]:
        """Yield the keys of new files whose rows are put into tables."""
        for key in self.proofs.keys() - self.there:
            if not ObjectKey.parse(key).folder.data_type.has_events:
                yield key

    def files(self) -> dict[str, Path]:
        """Return the proven files by their keys."""
        return {key: self.spool.store.path(key) for key in self.proofs}

    def quarantine(self, uploads: Uploads) -> None:
        """Upload the bytes that failed their proof, and the reasons."""
        root, keys = self.spool.store.root, set(self.plan.frame["key"])
        files = {}
        for path in sorted((root / QUARANTINE).rglob("*.bad*")):
            name = path.relative_to(root).as_posix()
            ending = _BAD.search(name.rpartition("/")[2])
            key = name.removeprefix(f"{QUARANTINE}/")
            if ending is not None and key.removesuffix(ending[0]) in keys:
                files[name] = path
        errors = uploads.put(files).errors
        for name, path in files.items():
            why = errors.get(name)
            self.moved[f"in {path}"] = (
                f"lost, since they could not be uploaded: {why}"
                if why
                else f"in {uploads.bucket.uri(name)}"
            )
            path.unlink()

    def elsewhere(self, error: ObjectError) -> ObjectError:
        """Return an error that names the place in the bucket of bytes in quarantine."""
        detail = error.detail
        for before, after in self.moved.items():
            if detail.endswith(before):
                detail = f"{detail.removesuffix(before)}{after}"
        return type(error)(error.key, detail)

    def release(self, arrived: Mapping[str, Stamp]) -> None:
        """Delete the files that are not to be read any more; keep those that wait for tables."""
        waiting = {*self._with_tables()}
        for key, path in self.files().items():
            if key in waiting and key in arrived:
                self.spool.stamps[key] = arrived[key]
                continue
            if key in waiting:
                self.spool.waiting -= self.proofs[key].size
            path.unlink(missing_ok=True)
