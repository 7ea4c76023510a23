"""Published SHA-256 digests: the ``.CHECKSUM`` objects, fetched into memory by libcurl.

Every zip has one. With s5cmd they would take as long as the zips themselves; over dozens of
kept-alive connections, while the zips download, they take little time.
"""

from __future__ import annotations

import asyncio
import http.client
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from binance_archive_kit.archive.curl_pool import Cause, CurlPool, Failure, Limits, Outcome
from binance_archive_kit.archive.endpoint import Route, advice_on
from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX
from binance_archive_kit.errors import (
    AbsentChecksum,
    BadChecksum,
    ConnectionLost,
    Forbidden,
    ObjectError,
    ServerFault,
    Stalled,
    Throttled,
)

#: A SHA-256 digest, 64 lower-case hex digits; or why there is none.
Answer = str | ObjectError

#: The first word of a ``.CHECKSUM`` object; the name after it and the line's end vary.
_DIGEST = re.compile(rb"\s*([0-9a-fA-F]{64})(\s|$)")
#: Bytes of an answer: a digest takes a hundred, the error page of a firewall a few thousand.
_LARGEST = 1 << 20
#: Timeouts after which an answer counts as stalled although a byte arrives now and then.
_TIMEOUTS = 4
_TRIES = 5
#: Stalled answers to one request before it fails.
_STALLS = 2


@dataclass(slots=True)
class DigestRequest:
    """A request for the digest of one zip."""

    key: str
    tries: int = 0
    stalls: int = 0


class DigestClient:
    """Fetches published digests; an async context manager.

    Parameters
    ----------
    endpoint, bucket : str
    on_answer : callable
        Called on the event loop with the key of a zip, and its digest or an error.
    connections : int
        The largest number of connections.
    timeout : float
        Seconds without a byte after which a request is repeated, or fails.

    Raises
    ------
    ConfigurationError
        If the environment names an invalid proxy or a file without certificates.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        on_answer: Callable[[str, Answer], None],
        *,
        connections: int,
        timeout: float,
    ) -> None:
        self._route = Route.to(endpoint)
        self._timeout = timeout
        self._on_answer = on_answer

        def path_of(request: DigestRequest) -> str:
            return f"/{bucket}/{quote(request.key)}{CHECKSUM_SUFFIX}"

        limits = Limits(connections, timeout, _TIMEOUTS * timeout, _LARGEST)
        self._pool = CurlPool(self._route, path_of, self._on_outcome, limits)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.__aexit__()

    def request(self, keys: Iterable[str]) -> None:
        """Request the digests of zips by the keys of the zips; returns at once."""
        self._pool.send(DigestRequest(key) for key in keys)

    def _on_outcome(self, request: DigestRequest, outcome: Outcome) -> None:
        answer = self._read(request.key, outcome)
        if isinstance(outcome, Failure) and outcome.cause is Cause.REFUSED:
            request.tries = _TRIES
        if isinstance(answer, ObjectError) and _may_retry(request, answer):
            # A kept-alive connection may have been closed meanwhile: retry once at once.
            pause = 0.25 * 2**request.tries if request.tries > 1 else 0.0
            if not isinstance(outcome, Failure):
                pause = max(pause, min(outcome.retry_after(), self._timeout))
            self._loop.call_later(pause, self._pool.send, [request])
        else:
            self._on_answer(request.key, answer)

    def _read(self, key: str, outcome: Outcome) -> Answer:
        """Return the digest of an answer, or the error of a status other than 200."""
        address = f"{self._route.endpoint}{self._route.through}"
        if isinstance(outcome, Failure):
            if outcome.cause is Cause.STALLED:
                detail = f"no answer from {address} within {self._timeout:g} s"
                return Stalled(key, f"its checksum: {detail}")
            detail = f"its checksum from {address}: {outcome.message}"
            return ConnectionLost(key, "; ".join(filter(None, (detail, advice_on(detail)))))
        status = outcome.status
        if status == http.client.OK:
            return read_digest(key, outcome.body)
        if status == http.client.NOT_FOUND:
            return AbsentChecksum(
                key,
                "the archive has no checksum of it; "
                "download_checksum=False takes it on size and ETag",
            )
        detail = f"its checksum from {address}: status {status}"
        detail = "; ".join(filter(None, (detail, advice_on(f"status {status}"))))
        if status in (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE):
            return Throttled(key, detail)
        if status >= http.client.INTERNAL_SERVER_ERROR:
            return ServerFault(key, detail)
        return Forbidden(
            key,
            f"{detail}. If only checksums are refused, download_checksum=False goes by size "
            "and ETag",
        )


def _may_retry(request: DigestRequest, error: ObjectError) -> bool:
    """Count a failed try, and return whether another one is worthwhile."""
    request.tries += 1
    request.stalls += isinstance(error, Stalled)
    return error.retryable and request.tries < _TRIES and request.stalls < _STALLS


def read_digest(key: str, body: bytes) -> Answer:
    """Parse a ``.CHECKSUM`` object: its first word, 64 hex digits, is the digest."""
    found = _DIGEST.match(body)
    if found is None:
        return BadChecksum(key, f"its checksum begins {body[:40]!r} and not with a SHA-256 digest")
    return found[1].decode().lower()
