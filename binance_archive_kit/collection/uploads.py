"""Upload proven files to a bucket, and make sure by listing that their bytes have arrived."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from os.path import commonprefix
from pathlib import Path
from typing import BinaryIO, cast

from binance_archive_kit.archive.keys import prefix_of
from binance_archive_kit.errors import StoreError
from binance_archive_kit.storage.bucket import Bucket, BucketObject, stamp_of_object
from binance_archive_kit.storage.proof import Stamp, hash_file

#: Seconds before each further try.
_PAUSES = (0.5, 2.0, 6.0, 15.0)
#: Errors that a further try does not end.
_FINAL = re.compile(
    r"NoSuchBucket|AccessDenied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken"
    r"|NoCredentialProviders|no answer for|\b40[13]\b"
)
_MD5 = re.compile(r"[0-9a-f]{32}")
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
        #: Whether ETags can be an MD5; those of encrypted objects only look like one.
        self._etags_are_md5 = True

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
        # Objects that were uploaded in parts have another form of ETag.
        if not self._etags_are_md5 or not _MD5.fullmatch(there.etag or ""):
            return True
        with path.open("rb") as file:
            md5 = hash_file(file, "md5")
        if there.etag == md5:
            return True
        with self.bucket.errors(there.key), self.bucket.open(there.key) as stored:
            same = hash_file(cast(BinaryIO, stored), "md5") == md5
        self._etags_are_md5 = not same
        return same

    def _listed(self, keys: Collection[str]) -> dict[str, BucketObject]:
        listed = {found.key: found for found in self.bucket.list_etags(*prefixes_of(keys))}
        # A clock that is slow hides new objects from the listing.
        hidden = [key for key in keys if key not in listed]
        return listed | self.bucket.stat(hidden) if hidden else listed


def prefixes_of(keys: Iterable[str]) -> list[str]:
    """Return the longest prefix of the keys in each folder, to list few other objects.

    >>> prefixes_of(["a/x-01.zip", "a/x-02.zip", "b/y-01.zip"])
    ['a/x-0', 'b/y-01.zip']
    """
    folders: dict[str, list[str]] = {}
    for key in keys:
        folders.setdefault(prefix_of(key), []).append(key)
    return [commonprefix([min(each), max(each)]) for each in folders.values()]  # noqa: RUF071
