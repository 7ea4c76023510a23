"""Published digests: the ``.CHECKSUM`` objects, fetched into memory.

They are tiny, and there is one for every zip. Fetched by the downloader they would
cost as much again as the zips; over some dozens of kept-alive connections they come
nearly for free, while the zips are on their way.
"""

from __future__ import annotations

import http.client
import queue
import re
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import certifi

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
from binance_archive_kit.keys import CHECKSUM_SUFFIX

#: The first word of a ``.CHECKSUM`` object; the name after it and the line's end vary.
_DIGEST = re.compile(rb"([0-9a-fA-F]{64})(\s|$)")
_HEAD = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)
_TRIES = 5
#: An answer that does not come is waited for no more than this often.
_STALLS = 2

Answer = str | ObjectError


class Checksums:
    """Fetches published digests on threads of its own; a context manager.

    Parameters
    ----------
    endpoint, bucket : str
    on_answers : callable
        Called on one of the threads with ``{key: digest or error}`` as answers come.
    connections : int
        Connections, at most.
    timeout : float
        Seconds that one answer may take.
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
        self._endpoint = endpoint
        self._host = urlsplit(endpoint).netloc
        self._bucket = bucket
        self._on_answer = on_answer
        # Half of the files we may have open is for everybody else.
        self._most = min(connections, open_file_limit() // 2)
        self._timeout = timeout
        self._wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._open: set[http.client.HTTPConnection] = set()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        for _ in self._threads:
            self._wanted.put(None)
        # Closing the sockets wakes the threads that wait for an answer.
        for connection in list(self._open):
            with suppress(OSError):
                if connection.sock is not None:
                    connection.sock.shutdown(2)
        for thread in self._threads:
            thread.join()

    def ask(self, keys: Iterable[str]) -> None:
        """Ask for the digests of zips, by the keys of the zips; returns at once."""
        count = 0
        for key in keys:
            self._wanted.put(key)
            count += 1
        for _ in range(min(count, self._most - len(self._threads))):
            thread = threading.Thread(target=self._work, name="checksums", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        connection = _connect(self._endpoint, self._timeout)
        self._open.add(connection)
        try:
            while (key := self._wanted.get()) is not None and not self._ended.is_set():
                answer = self._fetch(connection, key)
                if not self._ended.is_set():
                    self._on_answer(key, answer)
        finally:
            self._open.discard(connection)
            connection.close()

    def _fetch(self, connection: http.client.HTTPConnection, key: str) -> Answer:
        """Fetch one digest, trying again after passing trouble."""
        path = f"/{self._bucket}/{quote(f'{key}{CHECKSUM_SUFFIX}')}"
        error: ObjectError = ConnectionLost(key, "never asked")
        stalls = 0
        for attempt in range(_TRIES):
            # A kept-alive connection may have been closed meanwhile: the first retry is free.
            if attempt > 1 and self._ended.wait(0.25 * 2**attempt):
                break
            try:
                status, body = _exchange(connection, self._host, path)
            except TimeoutError:
                connection.close()
                error = Stalled(key, f"its checksum: no answer within {self._timeout:g} s")
                stalls += 1
                if stalls == _STALLS:
                    break
                continue
            except (OSError, http.client.HTTPException) as problem:
                connection.close()
                error = ConnectionLost(key, f"its checksum: {problem or type(problem).__name__}")
                continue
            if status == http.client.OK:
                return read_digest(key, body)
            error = _refusal(key, status)
            if not error.passing:
                break
        return error


def _exchange(connection: http.client.HTTPConnection, host: str, path: str) -> tuple[int, bytes]:
    """Ask for one small object; return the status and the body.

    `http.client` makes the connection, its TLS and its way through a proxy. The answer
    is read here: parsing its headers as mail takes longer than all the rest of the proof.
    """
    if connection.sock is None:
        connection.connect()
    connection.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = b""
    while (found := _HEAD.match(answer)) is None:
        answer += _receive(connection)
    length = _LENGTH.search(found[0])
    if length is None:
        raise http.client.HTTPException("an answer without Content-Length")
    end = found.end() + int(length[1])
    while len(answer) < end:
        answer += _receive(connection)
    if _CLOSE.search(found[0]):
        connection.close()
    return int(found[1]), answer[found.end() : end]


def _receive(connection: http.client.HTTPConnection) -> bytes:
    piece: bytes = connection.sock.recv(1 << 16)
    if not piece:
        raise ConnectionResetError("the connection was closed")
    return piece


def open_file_limit() -> int:
    """Return how many files this process may have open."""
    try:
        import resource
    except ImportError:  # not a Unix
        return 1 << 10
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 10 if soft == resource.RLIM_INFINITY else soft


def read_digest(key: str, body: bytes) -> Answer:
    """Read the digest of a ``.CHECKSUM`` object: its first word, 64 hex digits."""
    found = _DIGEST.match(body.lstrip())
    if found is None:
        return BadChecksum(key, f"its checksum begins {body[:40]!r} and not with a SHA-256 digest")
    return found[1].decode().lower()


def _refusal(key: str, status: int) -> ObjectError:
    said = f"its checksum: status {status}"
    if status == http.client.NOT_FOUND:
        return AbsentChecksum(
            key,
            "the archive has no checksum of it; download_checksum=False takes it on size and ETag",
        )
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        return Forbidden(key, said)
    if status in (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE):
        return Throttled(key, said)
    return ServerFault(key, said)


def _connect(endpoint: str, timeout: float) -> http.client.HTTPConnection:
    """Prepare a connection to an endpoint, through the environment's proxy if there is one."""
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "", parts.port
    proxy = urllib.request.getproxies().get(parts.scheme)
    tunnel = None
    if proxy and not urllib.request.proxy_bypass(host):
        tunnel = (host, port)
        through = urlsplit(proxy)
        host, port = through.hostname or "", through.port
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=certifi.where())
        context.load_default_certs()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    if tunnel is not None:
        connection.set_tunnel(*tunnel)
    return connection
