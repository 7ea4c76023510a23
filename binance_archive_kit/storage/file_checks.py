"""Check single files from their bytes, against the recorded or the published digest."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from binance_archive_kit.archive.digests import Answer, DigestClient
from binance_archive_kit.archive.endpoint import endpoint_of
from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX, prefix_of
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.errors import BadChecksum, ObjectError
from binance_archive_kit.storage.inventory import Form, StoredFile
from binance_archive_kit.storage.proof import Expected, Stamp, prove, read_checksum
from binance_archive_kit.storage.records import ProofRecord

_CONNECTIONS = 64
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Check:
    """A file to check, and its recorded proof, if any."""

    file: StoredFile
    proof: ProofRecord | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of checking a file.

    Attributes
    ----------
    check : Check
    problem : (str, str) or None
        Reason and detail.
    proven : bool
    by_checksum : bool
        Whether only the ``.CHECKSUM`` file beside it proves it.
    untold : bool
        Whether the archive did not return its digest.
    note : str
    stamp : Stamp or None
        The stamp to record instead of the recorded one.
    read : bool
        Whether its bytes were read.
    """

    check: Check
    problem: tuple[str, str] | None = None
    proven: bool = False
    by_checksum: bool = False
    untold: bool = False
    note: str = ""
    stamp: Stamp | None = None
    read: bool = False


def check_file(path: Path, check: Check, digests: Mapping[str, Answer] | None) -> Outcome:
    """Read a file, and compare it with its digest: the recorded one, or the archive's."""
    file, proof = check.file, check.proof
    if not file.is_zip:
        return _read_csv(check, path)
    key = published_key(file)
    digest: Answer | None = None if proof is None else proof.sha256
    if digests is not None:
        digest = digests[key]
    if isinstance(digest, ObjectError):
        return Outcome(check, (digest.reason, digest.detail), untold=True)
    try:
        proven = prove(key, path, Expected(None, None, digest))
    except ObjectError as error:
        changed = digests is None and proof is not None
        return Outcome(check, ("changed" if changed else error.reason, error.detail))
    checksum = read_checksum(path)
    agrees = checksum == proven.sha256
    note = ""
    if isinstance(checksum, BadChecksum):
        note = f"{file.path}{CHECKSUM_SUFFIX}: {checksum.detail}"
    elif checksum is not None and not agrees:
        if digest is None:
            why = (
                f"its SHA-256 is {proven.sha256}, and the {CHECKSUM_SUFFIX} beside it has "
                f"{checksum}; verify(archive=True) shows which of the two the archive publishes"
            )
            return Outcome(check, ("checksum_differs", why))
        note = f"{file.path}{CHECKSUM_SUFFIX}: its digest differs from that of the proven bytes"
    if digest is None:
        return Outcome(check, proven=agrees, by_checksum=agrees, note=note)
    known = proof is not None and proof.sha256 == proven.sha256 and proof.stamp != proven.stamp
    return Outcome(check, proven=True, note=note, stamp=proven.stamp if known else None)


def published_key(file: StoredFile) -> str:
    """Return the key under which the archive publishes a zip: some keys lack a zero."""
    if file.path == file.key or not file.path.startswith(prefix_of(file.key)):
        return file.key
    return f"{file.path[: -len('.zip')]}.zip"


def _read_csv(check: Check, path: Path) -> Outcome:
    """Read a csv file to its end: it has no digest, but it may be unreadable."""
    opened = gzip.open if check.file.form is Form.GZIP else open
    try:
        with opened(path, "rb") as file:
            while file.read(_CHUNK):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return Outcome(check, ("unreadable", f"it is not an intact gzip file: {error}"))
    return Outcome(check)


async def fetch_digests(keys: Sequence[str], endpoint_url: str | None) -> dict[str, Answer]:
    """Return the digests that the archive publishes for some zips, by their keys."""
    matrix = load_matrix()
    answers: dict[str, Answer] = {}
    done = asyncio.Event()

    def answered(key: str, answer: Answer) -> None:
        answers[key] = answer
        if len(answers) == len(keys):
            done.set()

    endpoint = endpoint_of(endpoint_url, matrix)
    async with DigestClient(
        endpoint, matrix.archive.bucket, answered, connections=_CONNECTIONS, timeout=60
    ) as client:
        client.request(keys)
        if keys:
            await done.wait()
    return answers
