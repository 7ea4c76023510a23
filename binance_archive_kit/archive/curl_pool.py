"""Thousands of small GET requests at once, over kept-alive connections of libcurl.

The listing and the digests use it. A request ends in an `Answer`, whatever its status, or in a
`Failure`; their callers decide what is tried again.
"""

from __future__ import annotations

import asyncio
import errno
import http.client
import math
import queue
import string
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote, urlsplit

import pycurl

from binance_archive_kit.archive.certificate_file import certificate_file
from binance_archive_kit.archive.endpoint import Route, open_file_limit
from binance_archive_kit.errors import disk_error

USER_AGENT = "binance-archive-kit"
#: Seconds before the endpoint is asked for more connections after it has refused some.
_PAUSE = 1.0
#: Seconds within which new requests are started while others are under way.
_POLL = 0.02
#: Seconds between two checks for requests without progress.
_CHECK = 0.05
#: Bytes per second that count as progress once an answer has taken longer than its timeout.
SLOWEST = 1 << 10


class Cause(Enum):
    """Why there is no answer."""

    STALLED = auto()
    TOO_LARGE = auto()
    #: The certificate is not trusted, or the proxy refuses: another try ends likewise.
    REFUSED = auto()
    CONNECTION = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer: the cause, its message, and the seconds that it took."""

    cause: Cause
    message: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a server.

    Attributes
    ----------
    status : int
    head : bytes
        Status line and headers; those of a proxy come first.
    body : bytes
        As sent, without decompression.
    """

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """Return the value of a header, empty without one; `name` is in lower case."""
        head = self.head.strip().rpartition(b"\r\n\r\n")[2].lower()
        value = head.partition(f"\r\n{name}:".encode())[2].partition(b"\r\n")[0]
        return value.strip().decode("latin-1")

    def retry_after(self) -> float:
        """Return the seconds after which the server wants to be asked again; 0 if unknown."""
        seconds = self.header("retry-after")
        known = seconds.isascii() and seconds.isdigit() and len(seconds) < 9
        return float(seconds) if known else 0.0


R = TypeVar("R")
Outcome = Answer | Failure


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of requests.

    Attributes
    ----------
    connections : int
        The largest number of connections.
    patience : float
        Seconds without a byte after which a request is given up.
    timeout : float
        Seconds after which a request is given up that brings less than a kilobyte a second.
    largest : int
        Bytes of an answer's body.
    """

    connections: int
    patience: float
    timeout: float
    largest: int


@dataclass(slots=True, eq=False)
class _Transfer(Generic[R]):
    """A handle of libcurl, used for one request after another."""

    request: R
    curl: Any = field(default_factory=pycurl.Curl)
    head: bytearray = field(default_factory=bytearray)
    body: bytearray = field(default_factory=bytearray)
    began: float = 0.0
    #: Bytes received, and when the last of them was noticed.
    received: int = 0
    progressed: float = 0.0

    def begin(self, request: R) -> None:
        """Take another request."""
        self.request = request
        self.head.clear()
        self.body.clear()
        self.began = self.progressed = time.monotonic()
        self.received = 0

    def is_stalled(self, now: float, limits: Limits) -> bool:
        """Return whether nothing, or too little, has arrived for too long."""
        received = len(self.head) + len(self.body)
        if received != self.received:
            self.received, self.progressed = received, now
        return (
            now - self.progressed > limits.patience
            or now - self.began > limits.timeout + received / SLOWEST
        )

    @property
    def is_connected(self) -> bool:
        """Whether the request was sent."""
        return bool(self.curl.getinfo(pycurl.PRETRANSFER_TIME))


class CurlPool(Generic[R]):
    """Requests under way on a thread of their own; an async context manager.

    Parameters
    ----------
    route : Route
    path_of : callable
        Returns the path and query of a request, percent-encoded.
    on_outcome : callable
        Called on the event loop with each request and its outcome.
    limits : Limits
    headers : sequence of str
        Further headers of all requests.
    """

    def __init__(
        self,
        route: Route,
        path_of: Callable[[R], str],
        on_outcome: Callable[[R, Outcome], None],
        limits: Limits,
        headers: Sequence[str] = (),
    ) -> None:
        self._route = route
        self._path_of = path_of
        self._on_outcome = on_outcome
        self._limits = limits
        self._headers = [*headers]
        self._endpoint = encode_host(route.endpoint)
        self._queue: queue.SimpleQueue[list[R] | None] = queue.SimpleQueue()
        self._waiting: deque[R] = deque()
        self._active: dict[pycurl.Curl, _Transfer[R]] = {}
        self._idle: list[_Transfer[R]] = []
        # The other half of the open files is for the rest of the process.
        self._most = self._limit = min(limits.connections, open_file_limit() // 2)
        self._limited_until = self._checked = 0.0
        self._certificates = ""
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="curl", daemon=True)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if self._route.certificates is not None:
            # libcurl parses a file once; certificates given as bytes for every connection.
            self._certificates = certificate_file(self._route.certificates)
        try:
            self._multi = pycurl.CurlMulti()
        except pycurl.error:
            raise disk_error(OSError(errno.EMFILE, ""), "connections to the archive") from None
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        self._queue.put(None)
        # Bounded, as libcurl waits for a host name that is being resolved.
        await asyncio.to_thread(self._thread.join, _PAUSE)

    def send(self, requests: Iterable[R]) -> None:
        """Start requests, from any thread; returns at once."""
        self._queue.put([*requests])

    # On the event loop

    def _take(self, outcomes: list[tuple[R, Outcome]]) -> None:
        for request, outcome in outcomes:
            if self._ended:
                return
            self._on_outcome(request, outcome)

    # On the thread

    def _run(self) -> None:
        self._multi.setopt(pycurl.M_MAXCONNECTS, self._most)
        while self._receive():
            try:
                self._start()
                self._multi.perform()
                outcomes = [*self._finished(), *self._stalled()]
            except Exception as error:  # unexpected, and no request may wait forever
                # Its text may have the address of a proxy, with its password.
                outcomes = list(self._abandoned(type(error).__name__))
            if outcomes:
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._take, outcomes)
            elif self._active and not self._multi.select(_POLL):
                # It returns at once if all descriptors are above 1,023.
                time.sleep(0.002)
        list(self._abandoned(""))
        self._multi.close()

    def _abandoned(self, message: str) -> Iterator[tuple[R, Outcome]]:
        """End all requests, and yield their failures."""
        for curl in self._active:
            self._multi.remove_handle(curl)
        for request in [*(each.request for each in self._active.values()), *self._waiting]:
            yield request, Failure(Cause.REFUSED, message)
        self._active.clear()
        self._waiting.clear()

    def _receive(self) -> bool:
        """Take new requests, waiting for them if none is under way; return False at the end."""
        with suppress(queue.Empty):
            while True:
                requests = self._queue.get(block=not (self._active or self._waiting))
                if requests is None:
                    return False
                self._waiting += requests
        return True

    def _start(self) -> None:
        if time.monotonic() >= self._limited_until:
            self._limit = self._most
        while self._waiting and len(self._active) < self._limit:
            # Taken off at the end, so that an unexpected error here ends it with the others.
            request = self._waiting[0]
            transfer = self._idle.pop() if self._idle else self._new_transfer(request)
            transfer.begin(request)
            transfer.curl.setopt(pycurl.URL, f"{self._endpoint}{self._path_of(request)}")
            self._multi.add_handle(transfer.curl)
            self._active[transfer.curl] = transfer
            self._waiting.popleft()

    def _new_transfer(self, request: R) -> _Transfer[R]:
        transfer = _Transfer(request)
        for option, value in {
            pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.USERAGENT: USER_AGENT,
            pycurl.HTTPHEADER: self._headers,
            pycurl.CAINFO: self._certificates,
            # Empty: none, whatever the environment says.
            pycurl.PROXY: encode_host(self._route.proxy or ""),
            pycurl.NOPROXY: "",
            pycurl.CONNECTTIMEOUT_MS: math.ceil(self._limits.patience * 1000),
            pycurl.MAXFILESIZE: self._limits.largest,
            pycurl.HEADERFUNCTION: transfer.head.extend,
            pycurl.WRITEFUNCTION: transfer.body.extend,
            pycurl.NOSIGNAL: 1,
        }.items():
            transfer.curl.setopt(option, value)
        return transfer

    def _finished(self) -> Iterator[tuple[R, Outcome]]:
        """Yield the outcomes that have arrived; put requests to start again back."""
        _, answered, failed = self._multi.info_read()
        ended = [(curl, 0, "") for curl in answered] + failed
        transfers = [self._active.pop(curl) for curl, *_ in ended]
        reachable = bool(answered) or any(each.is_connected for each in self._active.values())
        for transfer, (curl, code, message) in zip(transfers, ended, strict=True):
            self._multi.remove_handle(curl)
            self._idle.append(transfer)
            if not code:
                status = curl.getinfo(pycurl.RESPONSE_CODE)
                yield transfer.request, Answer(status, bytes(transfer.head), bytes(transfer.body))
            elif code == pycurl.E_COULDNT_CONNECT and reachable:
                # The endpoint may have reached its limit; the open connections continue.
                self._limit = max(len(self._active), len(answered))
                self._limited_until = time.monotonic() + _PAUSE
                self._waiting.appendleft(transfer.request)
            else:
                seconds = time.monotonic() - transfer.began
                yield transfer.request, self._failure(curl, code, message, seconds)

    def _stalled(self) -> Iterator[tuple[R, Outcome]]:
        """End the requests that make no progress, and yield them."""
        now = time.monotonic()
        if now - self._checked < _CHECK:
            return
        self._checked = now
        stalled = [each for each in self._active.values() if each.is_stalled(now, self._limits)]
        for transfer in stalled:
            self._multi.remove_handle(self._active.pop(transfer.curl).curl)
            self._idle.append(transfer)
            yield transfer.request, Failure(Cause.STALLED, "no progress", now - transfer.began)

    def _failure(self, curl: Any, code: int, message: str, seconds: float) -> Failure:
        cause = {
            pycurl.E_OPERATION_TIMEDOUT: Cause.STALLED,
            pycurl.E_FILESIZE_EXCEEDED: Cause.TOO_LARGE,
            pycurl.E_PEER_FAILED_VERIFICATION: Cause.REFUSED,
        }.get(code, Cause.CONNECTION)
        status = curl.getinfo(pycurl.HTTP_CONNECTCODE)
        if status and status != http.client.OK:
            message = f"the proxy answered with status {status}"
            if status == http.client.PROXY_AUTHENTICATION_REQUIRED:
                cause = Cause.REFUSED
        elif code == pycurl.E_COULDNT_RESOLVE_PROXY:
            message = f"the proxy's name cannot be resolved: {message}"
        elif code == pycurl.E_COULDNT_CONNECT and self._route.proxy:
            message = f"the proxy cannot be reached: {message}"
        return Failure(cause, message, seconds)


def encode_host(url: str) -> str:
    """Encode the host name of a URL for resolvers, and other letters as percent signs."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    url = url.replace(host, host.encode("idna").decode(), 1) if host else url
    return quote(url, safe=string.punctuation, errors="surrogateescape")
