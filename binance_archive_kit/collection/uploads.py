"""Upload proven files to a bucket, and make sure by listing that their bytes have arrived."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from os.path import commonprefix
from pathlib import Path
from typing import BinaryIO, cast

from binance_archive_kit.archive.keys import prefix_of
from binance_archive_kit.errors import StoreError
from binance_archive_kit.storage.bucket import PART_SIZE, Bucket, BucketObject, stamp_of_object
from binance_archive_kit.storage.proof import Stamp, hash_file

#: Seconds before each further try.
_PAUSES = (0.5, 2.0, 6.0, 15.0)
#: Errors that a further try does not end.
_FINAL = re.compile(
    r"NoSuchBucket|AccessDenied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken"
    r"|NoCredentialProviders|no answer for|\b40[13]\b"
)
#: ETags of objects that were uploaded whole, and in parts: the MD5 of their MD5s.
_MD5 = re.compile(r"[0-9a-f]{32}(?:-(\d+))?")
_BLOCK = 1 << 20
_ABSENT = "it was not there after its upload"
_OTHER = "other bytes were there after its upload; another program may write to the same prefix"


@dataclass(slots=True)
class Arrivals:
    """The outcome of uploads.

    Attributes
    ----------
    stamps : dict of str to Stamp
        The objects whose bytes have arrived, by key.
    errors : dict of str to str
        Why the others have not, by key.
    refused : bool
        Whether an error was one that further tries do not end.
    """

    stamps: dict[str, Stamp] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    refused: bool = False


class Uploads:
    """Uploads files to a bucket. Its methods block; they run on a thread.

    Parameters
    ----------
    bucket : Bucket
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._stopped = threading.Event()
        #: Forms of ETags that only look like an MD5, as those of encrypted objects do.
        self._other_forms: set[bool] = set()

    def stop(self) -> None:
        """Try no longer; what is uploaded now still is."""
        self._stopped.set()

    def put(self, files: Mapping[str, Path], there: Collection[str] = ()) -> Arrivals:
        """Upload files; a few times if that fails.

        Parameters
        ----------
        files : mapping of str to Path
            By their keys.
        there : collection of str
            Keys of files that came from the bucket; uploaded only if it has other bytes now.
        """
        found = Arrivals()
        left = dict(files)
        if kept := {key: left[key] for key in there if key in left}:
            found.stamps |= self._compare(kept)[0]
        for pause in (*_PAUSES, None):
            left = {key: path for key, path in left.items() if key not in found.stamps}
            if not left:
                break
            found.errors = self._try(left, found)
            found.refused = any(map(self._is_final, found.errors.values()))
            done = not found.errors or pause is None or found.refused
            if done or self._stopped.wait(pause):
                break
        return found

    def insist(self, write: Callable[[], object]) -> StoreError | None:
        """Write something else; a few times if that fails. Return the last error."""
        for pause in (*_PAUSES, None):
            try:
                write()
            except StoreError as error:
                if pause is None or self._is_final(str(error)) or self._stopped.wait(pause):
                    return error
            else:
                return None
        return None

    def _is_final(self, error: str) -> bool:
        """Return whether a further try does not end an error; its URL may have any number."""
        return bool(_FINAL.search(error.replace(self.bucket.url, "")))

    def _try(self, files: Mapping[str, Path], found: Arrivals) -> dict[str, str]:
        """Upload files once; return the errors."""
        try:
            errors = self.bucket.upload(files)
            stamps, others = self._compare(
                {key: path for key, path in files.items() if key not in errors}
            )
        except StoreError as error:
            return dict.fromkeys(files, str(error))
        found.stamps |= stamps
        return {**errors, **others}

    def _compare(self, files: Mapping[str, Path]) -> tuple[dict[str, Stamp], dict[str, str]]:
        """Compare files with the objects in the bucket; return their stamps, and the errors."""
        listed = self._listed(files)
        stamps, errors = {}, {}
        for key, path in files.items():
            there = listed.get(key)
            if there is None:
                errors[key] = _ABSENT
            elif self._has_bytes(there, path):
                stamps[key] = stamp_of_object(there)
            else:
                errors[key] = _OTHER
        return stamps, errors

    def _has_bytes(self, there: BucketObject, path: Path) -> bool:
        """Return whether an object can have the bytes of a file: by size, and MD5 if known."""
        if there.size != path.stat().st_size:
            return False
        form = _MD5.fullmatch(there.etag or "")
        if form is None or (in_parts := form[1] is not None) in self._other_forms:
            return True
        # What another program has uploaded may have parts of another size.
        if in_parts and int(form[1]) != -(-there.size // PART_SIZE):
            return True
        with path.open("rb") as file:
            etag = etag_of(file, in_parts=in_parts)
        if there.etag == etag:
            return True
        with self.bucket.errors(there.key), self.bucket.open(there.key) as stored:
            same = etag_of(cast(BinaryIO, stored), in_parts=in_parts) == etag
        if same:
            self._other_forms.add(in_parts)
        return same

    def _listed(self, keys: Collection[str]) -> dict[str, BucketObject]:
        listed = {found.key: found for found in self.bucket.list_etags(*prefixes_of(keys))}
        # A clock that is slow hides new objects from the listing.
        hidden = [key for key in keys if key not in listed]
        return listed | self.bucket.stat(hidden) if hidden else listed


def etag_of(file: BinaryIO, *, in_parts: bool) -> str:
    """Return the ETag of an unencrypted object with the bytes of a file."""
    if not in_parts:
        return hash_file(file, "md5")
    parts: list[bytes] = []
    left = 0
    while left == 0:  # the part before was a whole one
        md5, left = hashlib.md5(usedforsecurity=False), PART_SIZE
        while left and (block := file.read(min(left, _BLOCK))):
            md5.update(block)
            left -= len(block)
        if left < PART_SIZE:
            parts.append(md5.digest())
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def prefixes_of(keys: Iterable[str]) -> list[str]:
    """Return the longest prefix of the keys in each folder, to list few other objects.

    >>> prefixes_of(["a/x-01.zip", "a/x-02.zip", "b/y-01.zip"])
    ['a/x-0', 'b/y-01.zip']
    """
    folders: dict[str, list[str]] = {}
    for key in keys:
        folders.setdefault(prefix_of(key), []).append(key)
    return [commonprefix([min(each), max(each)]) for each in folders.values()]  # noqa: RUF071
