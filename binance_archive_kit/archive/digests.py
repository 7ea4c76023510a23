"""Published SHA-256 digests: the ``.CHECKSUM`` objects, fetched into memory by libcurl.

Every zip has one. With s5cmd they would take as long as the zips themselves; over dozens of
kept-alive connections, while the zips download, they take little time.
"""

from __future__ import annotations

import asyncio
import http.client
import math
import queue
import re
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

import pycurl

from binance_archive_kit.archive.endpoint import Route, advice_on, open_file_limit
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
_TRIES = 5
#: Stalled answers to one request before it fails.
_STALLS = 2
#: Seconds before the endpoint is asked for more connections after it has refused some.
_PAUSE = 1.0
#: Seconds within which new requests are started while others are under way.
_POLL = 0.02


@dataclass(slots=True)
class DigestRequest:
    """A request for the digest of one zip."""

    key: str
    tries: int = 0
    stalls: int = 0


Answered = tuple[DigestRequest, Answer]


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
        # The other half of the open files is for the rest of the process.
        connections = min(connections, open_file_limit() // 2)
        route = Route.to(endpoint)
        self._transfers = _Transfers(route, bucket, connections, timeout, self._deliver)
        self._on_answer = on_answer
        self._ended = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._transfers.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        # Bounded, as libcurl waits for a host name that is being resolved.
        await asyncio.to_thread(self._transfers.stop, _PAUSE)

    def request(self, keys: Iterable[str]) -> None:
        """Request the digests of zips by the keys of the zips; returns at once."""
        self._transfers.queue.put([DigestRequest(key) for key in keys])

    def _deliver(self, answers: list[Answered]) -> None:
        """Pass answers from the thread to the event loop."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._take, answers)

    def _take(self, answers: list[Answered]) -> None:
        for request, answer in answers:
            if self._ended:
                return
            if isinstance(answer, ObjectError) and _may_retry(request, answer):
                # A kept-alive connection may have been closed meanwhile: retry once at once.
                pause = 0.25 * 2**request.tries if request.tries > 1 else 0
                self._loop.call_later(pause, self._transfers.queue.put, [request])
            else:
                self._on_answer(request.key, answer)


def _may_retry(request: DigestRequest, error: ObjectError) -> bool:
    """Count a failed try, and return whether another one is worthwhile."""
    request.tries += 1
    request.stalls += isinstance(error, Stalled)
    return error.retryable and request.tries < _TRIES and request.stalls < _STALLS


@dataclass(slots=True, eq=False)
class _Transfer:
    """A handle of libcurl, used for one request after another."""

    request: DigestRequest
    curl: pycurl.Curl = field(default_factory=pycurl.Curl)
    body: bytearray = field(default_factory=bytearray)

    @property
    def is_connected(self) -> bool:
        """Whether the request was sent."""
        return bool(self.curl.getinfo(pycurl.PRETRANSFER_TIME))


class _Transfers:
    """Requests under way over kept-alive connections, on a thread of their own.

    Parameters
    ----------
    route : Route
    bucket : str
    connections : int
    timeout : float
    deliver : callable
        Called on the thread with answers as they arrive.

    Attributes
    ----------
    queue : queue.SimpleQueue
        Takes requests from any thread.
    """

    def __init__(
        self,
        route: Route,
        bucket: str,
        connections: int,
        timeout: float,
        deliver: Callable[[list[Answered]], None],
    ) -> None:
        self.queue: queue.SimpleQueue[list[DigestRequest] | None] = queue.SimpleQueue()
        self._route = route
        self._bucket = bucket
        self._timeout = timeout
        self._deliver = deliver
        self._waiting: deque[DigestRequest] = deque()
        self._active: dict[pycurl.Curl, _Transfer] = {}
        self._idle: list[_Transfer] = []
        self._most = self._limit = connections
        self._limited_until = 0.0
        self._certificates = ""
        self._thread = threading.Thread(target=self._run, name="digests", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._folder = tempfile.TemporaryDirectory()
        if self._route.certificates is not None:
            # libcurl parses a file once; certificates in memory for every connection.
            path = Path(self._folder.name, "certificates.pem")
            path.write_text(self._route.certificates, encoding="ascii")
            self._certificates = str(path)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Drop all requests and end the thread, waiting at most `timeout` seconds for it."""
        self.queue.put(None)
        self._thread.join(timeout)
        self._folder.cleanup()

    def _run(self) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, self._most)
        while self._receive():
            try:
                self._start_transfers()
                self._multi.perform()
                answers = list(self._finished())
            except Exception as error:  # unexpected, and no request may wait forever
                answers = list(self._abandoned(repr(error)))
            if answers:
                self._deliver(answers)
            elif self._active and not self._multi.select(_POLL):
                # It returns at once if all descriptors are above 1,023.
                time.sleep(0.002)
        list(self._abandoned(""))
        self._multi.close()

    def _abandoned(self, message: str) -> Iterator[Answered]:
        """End all requests, and yield their errors."""
        for curl in self._active:
            self._multi.remove_handle(curl)
        for request in [*(each.request for each in self._active.values()), *self._waiting]:
            request.tries = _TRIES
            yield request, self._failure(request.key, message)
        self._active.clear()
        self._waiting.clear()

    def _receive(self) -> bool:
        """Take new requests, waiting for them if none is under way; return False at the end."""
        with suppress(queue.Empty):
            while True:
                requests = self.queue.get(block=not (self._active or self._waiting))
                if requests is None:
                    return False
                self._waiting += requests
        return True

    def _start_transfers(self) -> None:
        if time.monotonic() >= self._limited_until:
            self._limit = self._most
        while self._waiting and len(self._active) < self._limit:
            request = self._waiting.popleft()
            transfer = self._idle.pop() if self._idle else self._new_transfer(request)
            transfer.request = request
            transfer.body.clear()
            path = f"/{self._bucket}/{quote(request.key)}{CHECKSUM_SUFFIX}"
            transfer.curl.setopt(pycurl.URL, f"{_ascii(self._route.endpoint)}{path}")
            self._active[transfer.curl] = transfer
            self._multi.add_handle(transfer.curl)

    def _new_transfer(self, request: DigestRequest) -> _Transfer:
        transfer = _Transfer(request)
        for option, value in {
            pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.USERAGENT: "binance-archive-kit",
            pycurl.CAINFO: self._certificates,
            # Empty: none, whatever the environment says.
            pycurl.PROXY: _ascii(self._route.proxy or ""),
            pycurl.NOPROXY: "",
            pycurl.HTTPPROXYTUNNEL: 1,
            pycurl.CONNECTTIMEOUT_MS: math.ceil(self._timeout * 1000),
            pycurl.LOW_SPEED_LIMIT: 1,
            pycurl.LOW_SPEED_TIME: math.ceil(self._timeout),
            pycurl.MAXFILESIZE: _LARGEST,
            pycurl.WRITEFUNCTION: transfer.body.extend,
            pycurl.NOSIGNAL: 1,
        }.items():
            transfer.curl.setopt(option, value)
        return transfer

    def _finished(self) -> Iterator[Answered]:
        """Yield the answers that have arrived; put requests to start again back."""
        _, answered, failed = self._multi.info_read()
        ended = [(curl, 0, "") for curl in answered] + failed
        transfers = [self._active.pop(curl) for curl, *_ in ended]
        reachable = bool(answered) or any(each.is_connected for each in self._active.values())
        for transfer, (curl, code, message) in zip(transfers, ended, strict=True):
            self._multi.remove_handle(curl)
            self._idle.append(transfer)
            request = transfer.request
            if not code:
                yield request, self._answer(transfer)
            elif code == pycurl.E_COULDNT_CONNECT and reachable:
                # The endpoint may have reached its limit; the open connections continue.
                self._limit = max(len(self._active), len(answered))
                self._limited_until = time.monotonic() + _PAUSE
                self._waiting.appendleft(request)
            elif code == pycurl.E_OPERATION_TIMEDOUT:
                detail = f"no answer from {self._address} within {self._timeout:g} s"
                yield request, Stalled(request.key, f"its checksum: {detail}")
            else:
                status = curl.getinfo(pycurl.HTTP_CONNECTCODE)
                if status and status != http.client.OK:
                    message = f"the proxy answered with status {status}"
                elif code == pycurl.E_COULDNT_RESOLVE_PROXY:
                    message = f"the proxy's name cannot be resolved: {message}"
                elif code == pycurl.E_COULDNT_CONNECT and self._route.proxy:
                    message = f"the proxy cannot be reached: {message}"
                yield request, self._failure(request.key, message)

    def _failure(self, key: str, message: str) -> ObjectError:
        """Return the error of a request without an answer."""
        detail = f"its checksum from {self._address}: {message}"
        return ConnectionLost(key, "; ".join(filter(None, (detail, advice_on(detail)))))

    @property
    def _address(self) -> str:
        return f"{self._route.endpoint}{self._route.through}"

    def _answer(self, transfer: _Transfer) -> Answer:
        """Return the digest of an answer, or the error of a status other than 200."""
        key, status = transfer.request.key, transfer.curl.getinfo(pycurl.RESPONSE_CODE)
        if status == http.client.OK:
            return read_digest(key, bytes(transfer.body))
        if status == http.client.NOT_FOUND:
            return AbsentChecksum(
                key,
                "the archive has no checksum of it; "
                "download_checksum=False takes it on size and ETag",
            )
        detail = f"its checksum from {self._address}: status {status}"
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


def _ascii(url: str) -> str:
    """Encode the host name of a URL for resolvers."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return url.replace(host, host.encode("idna").decode(), 1) if host else url


def read_digest(key: str, body: bytes) -> Answer:
    """Parse a ``.CHECKSUM`` object: its first word, 64 hex digits, is the digest."""
    found = _DIGEST.match(body)
    if found is None:
        return BadChecksum(key, f"its checksum begins {body[:40]!r} and not with a SHA-256 digest")
    return found[1].decode().lower()
