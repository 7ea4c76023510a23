"""Put, overwrite and remove files of a store, whichever kind it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from binance_archive_kit.storage.base_store import BaseStore
from binance_archive_kit.storage.bucket import stamp_of_object
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.proof import Proof
from binance_archive_kit.storage.store import Store


def place(store: BaseStore, proof: Proof, staged: Path) -> Proof:
    """Put a proven file into a store, as a collection does; return its final proof."""
    if isinstance(store, BucketStore):
        assert store.bucket.upload({proof.key: staged}) == {}
        staged.unlink()
        [found] = store.bucket.stat([proof.key]).values()
        return replace(proof, stamp=stamp_of_object(found))
    assert isinstance(store, Store)
    return store.admit(proof, staged)


def overwrite(store: BaseStore, key: str, body: bytes) -> None:
    """Write a file behind the back of a store."""
    if isinstance(store, BucketStore):
        store.bucket.write(key, body)
    else:
        path = Path(store.path(key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def remove(store: BaseStore, keys: Iterable[str]) -> None:
    """Remove files behind the back of a store."""
    for key in keys:
        if isinstance(store, BucketStore):
            store.bucket.remove([key])
        else:
            Path(store.path(key)).unlink()
