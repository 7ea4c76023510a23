"""A prefix of a bucket in object storage: list, read, write, upload, download and remove.

Small objects and parts of objects travel through Arrow, files through s5cmd.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
from pyarrow.fs import FileSelector, FileType

from binance_archive_kit.errors import StoreError, shown
from binance_archive_kit.paths import has_controls
from binance_archive_kit.storage.bucket_access import Access, access_errors
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.storage.s5cmd_process import Messages, run_commands
from binance_archive_kit.storage.urls import SCHEME, parse_url

#: Seconds without an answer after which s5cmd counts as stalled, and bytes a second at least.
_TIMEOUT = 120.0
_SLOWEST = 100_000
#: Bytes of the parts in which s5cmd uploads larger files: whole MiB.
PART_SIZE = 50 << 20
#: Objects that one request removes.
_REMOVED = 500
#: Requests at the same time.
_THREADS = 16
#: Bits of an ETag in a stamp: whole numbers of 60 bits fit into SQLite.
_DIGITS = 15
_EMPTY = "no object found"


class BucketObject(NamedTuple):
    """An object below the prefix of a bucket.

    Attributes
    ----------
    key : str
        Its key below the prefix.
    size : int
        Bytes.
    etag : str or None
        Without quotes; None if the listing did not ask for it.
    """

    key: str
    size: int
    etag: str | None = None


#: The method `Bucket.list` hides the name of the type.
Objects = list[BucketObject]


def stamp_of_object(found: BucketObject) -> Stamp:
    """Return the identity of an object, in place of the stamp of a file.

    Other bytes have another ETag, and so another stamp. An object that was copied in one
    request has the same one.

    Raises
    ------
    ValueError
        If the ETag is unknown.

    Examples
    --------
    >>> stamp_of_object(BucketObject("a.zip", 5, "5d41402abc4b2a76b9719d911017c592"))
    Stamp(size=5, mtime=0, ctime=0, inode=329130160933286417)
    """
    if found.etag is None:
        raise ValueError(f"{found.key} was listed without ETag")
    # An ETag is often an MD5, but any text is allowed.
    digits = hashlib.sha256(found.etag.encode()).hexdigest()[:_DIGITS]
    return Stamp(found.size, 0, 0, int(digits, 16) or 1)


class Bucket:
    """A prefix of a bucket; safe for several threads.

    Keys are below the prefix. Credentials and endpoint are those of the environment at each
    call, so that a pickle has nothing but the URL.

    Parameters
    ----------
    name : str
        The bucket.
    prefix : str
        Without slashes at its ends; may be empty.
    """

    def __init__(self, name: str, prefix: str = "") -> None:
        self.name = name
        self.prefix = prefix
        self.url = f"{SCHEME}{name}/{prefix}".rstrip("/")
        #: Path of the prefix for Arrow; ends in a slash.
        self.path = f"{name}/{prefix}/" if prefix else f"{name}/"

    @classmethod
    def parse(cls, url: str, field: str = "output_directory") -> Self:
        """Validate the URL of a prefix; asks no network.

        Parameters
        ----------
        url : str
            ``s3://bucket/prefix``; the prefix is taken as it stands, without ``%`` escapes.
        field : str
            The argument's name, for the message.

        Raises
        ------
        ConfigurationError
            If it is not such a URL, or an object below it could not be named safely.
        """
        return cls(*parse_url(url, field))

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """Pickle the URL; credentials are those of the process that reads it."""
        return type(self), (self.name, self.prefix)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bucket) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Bucket({self.url!r})"

    def uri(self, key: str) -> str:
        """Return the URL of an object."""
        return f"{SCHEME}{self.path}{key}"

    # Listing

    def list(self, prefix: str = "") -> Objects:
        """Return the objects below a prefix, sorted by key, without ETags.

        One request for a thousand objects. Objects that arrived before the call are complete.

        Parameters
        ----------
        prefix : str
            Empty, or ends in ``/``.

        Raises
        ------
        StoreError
            If the bucket cannot be listed; the message says what to do.
        """
        access = Access.of_environment()
        selector = FileSelector(f"{self.path}{prefix}".rstrip("/"), recursive=True)
        try:
            with access_errors(access, self.uri(prefix)):
                found = access.filesystem().get_file_info(selector)
        except FileNotFoundError:
            return []
        start = len(self.path)
        return sorted(
            BucketObject(info.path[start:], info.size)
            for info in found
            if info.type is FileType.File
        )

    def has(self, prefix: str) -> bool:
        """Return whether there is any object below a prefix that ends in ``/``."""
        access = Access.of_environment()
        path = f"{self.path}{prefix}".rstrip("/")
        with access_errors(access, self.uri(prefix)):
            return access.filesystem().get_file_info(path).type is FileType.Directory

    def list_etags(self, *prefixes: str) -> Objects:
        """Return the objects below some prefixes, sorted by key, with ETags, in one process.

        s5cmd leaves out objects that are newer than the clock of this machine: before an object
        that should be there counts as absent, `stat` has to be asked.

        Raises
        ------
        StoreError
            If the bucket cannot be listed; the message says what to do.
        """
        start = len(self.uri(""))

        def convert(message: Mapping[str, Any]) -> BucketObject | None:
            if message.get("type") != "file":
                return None
            etag = str(message["etag"]).strip('"')
            return BucketObject(message["key"][start:], message.get("size", 0), etag)

        lines = [f"ls {shlex.quote(self._checked(self.uri(prefix)) + '*')}" for prefix in prefixes]
        messages = self._run(lines, _TIMEOUT, convert)
        for error in messages.errors:
            if error["error"] != _EMPTY:
                raise self.error(error["error"])
        # Prefixes may overlap.
        return sorted({each for each in messages.results if each is not None})

    def stat(self, keys: Sequence[str]) -> dict[str, BucketObject]:
        """Return those of some objects that exist, with ETags, by key; one request each.

        Raises
        ------
        StoreError
            If the bucket cannot be read.
        """

        def look(key: str) -> BucketObject | None:
            try:
                with self.open(key) as file, self.errors(key):
                    return object_of(key, file)
            except FileNotFoundError:
                return None

        with ThreadPoolExecutor(_THREADS, "stat") as pool:
            return {found.key: found for found in pool.map(look, keys) if found is not None}

    # Reading and writing

    def open(self, key: str) -> pa.NativeFile:
        """Open an object for random access by range requests.

        Raises
        ------
        FileNotFoundError
            If there is no such object.
        StoreError
            If it cannot be read.
        """
        access = Access.of_environment()
        with access_errors(access, self.uri(key)):
            return access.filesystem().open_input_file(f"{self.path}{key}")

    def read(self, key: str) -> bytes:
        """Return the bytes of an object.

        Raises
        ------
        FileNotFoundError
            If there is no such object.
        StoreError
            If it cannot be read.
        """
        with self.errors(key), self.open(key) as file:
            return bytes(file.read())

    def write(self, key: str, data: bytes) -> None:
        """Write an object, whole.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        access = Access.of_environment()
        with access_errors(access, self.uri(key)):
            stream = access.filesystem().open_output_stream(f"{self.path}{key}")
            # Closing the stream is what makes the object appear: never after an error.
            stream.write(data)
            stream.close()

    def upload(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Upload local files by s5cmd, each whole.

        Parameters
        ----------
        files : mapping of str to Path
            The files by the key that they get.

        Returns
        -------
        dict of str to str
            Why files did not arrive, by key, with advice; empty if all did.
        """
        copies = {key: (str(path), self.uri(key)) for key, path in files.items()}
        return self._copy(copies, files, f"--part-size={PART_SIZE >> 20} ")

    def download(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Download objects by s5cmd to local files, each whole; the folders must exist.

        Parameters
        ----------
        files : mapping of str to Path
            The files to write by the key of the object.

        Returns
        -------
        dict of str to str
            Why objects did not arrive, by key, with advice; empty if all did.
        """
        return self._copy({key: (self.uri(key), str(path)) for key, path in files.items()}, {})

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that do not exist are ignored.

        Raises
        ------
        StoreError
            If one of them cannot be removed.
        """
        uris = [shlex.quote(self._checked(self.uri(key))) for key in keys]
        if not uris:
            return
        starts = range(0, len(uris), _REMOVED)
        lines = (f"rm --raw {' '.join(uris[at : at + _REMOVED])}" for at in starts)
        for error in self._run(lines, _TIMEOUT).errors:
            if error["error"] != _EMPTY:
                raise self.error(error["error"])

    # Errors

    def error(self, problem: object, key: str = "") -> StoreError:
        """Return the error of a failed request, with advice."""
        return Access.of_environment().error(self.uri(key) if key else self.url, problem)

    @contextmanager
    def errors(self, key: str) -> Iterator[None]:
        """Convert errors of reading an opened object.

        Raises
        ------
        FileNotFoundError
            If it was deleted.
        StoreError
            With advice.
        """
        access = Access.of_environment()
        with access_errors(access, self.uri(key)):
            try:
                yield
            except OSError:
                # If it was deleted since, Arrow may not say so: ask again, which raises then.
                access.filesystem().open_input_file(f"{self.path}{key}").close()
                raise

    # s5cmd

    def _copy(
        self, copies: Mapping[str, tuple[str, str]], local: Mapping[str, Path], flags: str = ""
    ) -> dict[str, str]:
        if not copies:
            return {}
        lines = {
            key: f"cp --raw {flags}{shlex.quote(self._checked(source))} "
            f"{shlex.quote(self._checked(target))}"
            for key, (source, target) in copies.items()
        }
        size = sum(path.stat().st_size for path in local.values() if path.exists())
        messages = self._run(lines.values(), _TIMEOUT + size / _SLOWEST)
        done = {
            (message.get("source"), message.get("destination"))
            for message in messages.results
            if message.get("success") is True
        }
        failed = {key for key, names in copies.items() if names not in done}
        return self._reasons(failed, copies, messages) if failed else {}

    def _reasons(
        self,
        failed: set[str],
        copies: Mapping[str, tuple[str, str]],
        messages: Messages,
    ) -> dict[str, str]:
        """Return why objects were not copied, by key; s5cmd names them without quotes."""
        by_command = {" ".join(copies[key]): key for key in failed}
        general = "s5cmd did not report it"
        reasons = {}
        for message in messages.errors:
            text = str(message["error"])
            command = re.sub(r"^cp (--?[\w-]+(=\S+)? )*", "", str(message.get("command", "")))
            key = by_command.get(command)
            if key is not None:
                reasons[key] = str(self.error(text, key))
            else:
                general = text
        return {key: reasons.get(key) or str(self.error(general, key)) for key in failed}

    def _run(
        self,
        lines: Iterable[str],
        timeout: float,
        convert: Callable[[dict[str, Any]], Any] = dict,
    ) -> Messages:
        access = Access.of_environment()
        try:
            return run_commands(lines, access.arguments(), access.environment(), timeout, convert)
        except TimeoutError as error:
            raise access.error(self.url, error) from None

    def _checked(self, word: str) -> str:
        """Return a word of a command, unless a line end in it would start another one."""
        if has_controls(word):
            raise StoreError(f"{shown(word)} has control characters or line ends; rename it")
        return word


def object_of(key: str, file: pa.NativeFile) -> BucketObject:
    """Return the object that an opened file reads; one request, with its first reading."""
    metadata: dict[str, bytes] = file.metadata()
    return BucketObject(key, file.size(), metadata["ETag"].decode().strip('"'))
