"""One object on its way into the store, and the decision what to do after an error."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from binance_archive_kit.archive.digests import Answer
from binance_archive_kit.errors import (
    BadChecksum,
    Corrupt,
    NotFound,
    ObjectError,
    StaleChecksum,
    Stalled,
)
from binance_archive_kit.storage.proof import Expected

#: Tries for each object; bytes that do not match are fetched only once more, and so are
#: objects that stall.
_TRIES = 3
_TRIES_OF: dict[type[ObjectError], int] = {Corrupt: 2, Stalled: 2}


class Step(Enum):
    """What to do after an error."""

    ASK_DIGEST = auto()  #: ask for the digest again
    RETRY = auto()  #: fetch the object again
    REPLACE = auto()  #: quarantine a file of the store, and fetch the object
    SKIP = auto()  #: the archive does not have the object
    FAIL = auto()


@dataclass(slots=True)
class Transfer:
    """One object on its way into the store.

    Attributes
    ----------
    key : str
    row : int
        Row of the plan.
    size : int or None
    etag : str or None
        As listed; None if the archive was not asked.
    path : str or None
        File that waits for its proof.
    digest : str, ObjectError or None
        The answer to the request for the published digest.
    in_store : bool
        Whether the file has its final name already, and only needs a proof.
    bad_file : Path or None
        File that failed its proof.
    error : ObjectError or None
        The last error.
    failures : int
        How often the object failed.
    unreported : int
        How often s5cmd did not report it.
    digest_repeated : bool
        Whether the digest was asked for twice.
    """

    key: str
    row: int
    size: int | None
    etag: str | None
    path: str | None = None
    digest: Answer | None = None
    in_store: bool = False
    bad_file: Path | None = None
    error: ObjectError | None = None
    failures: int = 0
    unreported: int = 0
    digest_repeated: bool = False

    def expected(self) -> Expected:
        """Return what the archive publishes about the object, as far as known."""
        return Expected(self.size, self.etag, self.digest if isinstance(self.digest, str) else None)

    def next_step(self, error: ObjectError, *, listed: bool) -> Step:
        """Record an error, and decide what to do.

        Parameters
        ----------
        error : ObjectError
        listed : bool
            Whether the archive lists the object.
        """
        if isinstance(error, StaleChecksum | BadChecksum) and not self.digest_repeated:
            # The digest may have been damaged in transit.
            self.digest_repeated, self.digest = True, None
            return Step.ASK_DIGEST
        if self.path is not None:
            self.bad_file, self.path = Path(self.path), None
        self.failures += 1
        self.error = error
        if self.in_store:
            return Step.REPLACE if isinstance(error, Corrupt) else Step.FAIL
        if isinstance(error, NotFound) and not listed:
            return Step.SKIP
        # An error of the digest is final: it was retried already, and the zip is not to blame.
        final = error is self.digest or not error.retryable
        if final or self.failures >= _TRIES_OF.get(type(error), _TRIES):
            return Step.FAIL
        if isinstance(error, Corrupt):
            # The digest may belong to another issue than the bytes.
            self.digest = None
        return Step.RETRY

    def retry_unreported(self) -> bool:
        """Count a try that s5cmd did not report; return whether to request the key by itself."""
        self.unreported += 1
        return self.unreported <= _TRIES

    def start_over(self) -> None:
        """Forget a file of the store that was quarantined, so that the object is fetched."""
        self.in_store, self.bad_file, self.digest, self.failures = False, None, None, 0
