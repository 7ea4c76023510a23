"""Published digests: the ``.CHECKSUM`` objects, fetched into memory.

They are tiny, and there is one for every zip. Fetched by the downloader they would
cost as much again as the zips; over some dozens of kept-alive connections they come
nearly for free, while the zips are on their way.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote, unquote, urlsplit

from binance_archive_kit.archive.endpoint import (
    advice_on,
    open_file_limit,
    proxy_of,
    tls_of,
    way_of,
)
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

#: The first word of a ``.CHECKSUM`` object; the name after it and the line's end vary.
_DIGEST = re.compile(rb"([0-9a-fA-F]{64})(\s|$)")
_HEAD = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)
#: Bytes of an answer: a digest takes a hundred, the error page of a firewall a few thousand.
_LARGEST = 1 << 20
_TRIES = 5
#: Seconds before a connection that could not be made is tried again.
_PAUSE = 1.0
#: An answer that does not come is waited for no more than this often.
_STALLS = 2

Answer = str | ObjectError


@dataclass(slots=True)
class DigestRequest:
    """One digest that is asked for."""

    key: str
    tries: int = 0
    stalls: int = 0


class DigestClient:
    """Fetches published digests on the running event loop; an async context manager.

    Parameters
    ----------
    endpoint, bucket : str
    on_answer : callable
        Called with the key of a zip, and its digest or an error, as answers come.
    connections : int
        Connections, at most.
    timeout : float
        Seconds without a byte after which an answer is waited for no longer.
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
        self._way = _Way(endpoint)
        self._where = f"{endpoint}{way_of(endpoint)}"
        self._host = urlsplit(endpoint).netloc
        self._bucket = bucket
        self._on_answer = on_answer
        # Half of the files we may have open is for everybody else.
        self._most = min(connections, open_file_limit() // 2)
        self._timeout = timeout
        self._waiting: deque[DigestRequest] = deque()
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._watching: asyncio.TimerHandle | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        self._watch()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        if self._watching is not None:
            self._watching.cancel()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in list(self._open):
            connection.end()
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn

    def ask(self, keys: Iterable[str]) -> None:
        """Ask for the digests of zips, by the keys of the zips; returns at once."""
        self._waiting += map(DigestRequest, keys)
        self._serve()

    def _serve(self) -> None:
        """Hand what waits to connections that are free, and open more where they are too few."""
        while self._waiting and self._idle:
            self._idle.pop().ask(self._waiting.popleft())
        room = self._most - len(self._open) - len(self._opening)
        for _ in range(min(room, len(self._waiting) - len(self._opening))):
            task = asyncio.ensure_future(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._connected)

    async def _connect(self) -> None:
        """Open a connection; it reports by itself when it can be used."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._way.connect(_Connection(self))
        except Exception as problem:
            if self._open:
                # The endpoint may take no more than it has; the others go on meanwhile.
                await asyncio.sleep(_PAUSE)
            elif self._waiting:
                # Whoever waits longest would have been asked for on this connection.
                self.failed(self._waiting.popleft(), problem)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not self._ended:
            self._serve()

    def _watch(self) -> None:
        """Close connections whose answer does not come."""
        loop = asyncio.get_running_loop()
        for connection in list(self._open):
            connection.check(loop.time() - self._timeout)
        self._watching = loop.call_later(self._timeout / 4, self._watch)

    # What connections say

    def request(self, key: str) -> bytes:
        """Spell the request for a digest."""
        path = f"/{self._bucket}/{quote(key)}{CHECKSUM_SUFFIX}"
        return f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode()

    def answered(self, question: DigestRequest, status: int, body: bytes) -> None:
        """Take the answer to a question."""
        if status == http.client.OK:
            self._on_answer(question.key, read_digest(question.key, body))
        else:
            self._retry_or_fail(question, self._refusal(question.key, status))

    def failed(self, question: DigestRequest, problem: Exception) -> None:
        """Take note that a question was not answered."""
        if isinstance(problem, TimeoutError):
            question.stalls += 1
            said = f"its checksum: no answer from {self._where} within {self._timeout:g} s"
            self._retry_or_fail(question, Stalled(question.key, said))
        else:
            said = f"its checksum from {self._where}: {problem or type(problem).__name__}"
            said = "; ".join(filter(None, (said, advice_on(said))))
            self._retry_or_fail(question, ConnectionLost(question.key, said))

    def free(self, connection: _Connection) -> None:
        """Take a connection that is new, or has its answer."""
        self._open.add(connection)
        self._idle.append(connection)
        self._serve()

    def gone(self, connection: _Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._ended:
            self._serve()

    def _refusal(self, key: str, status: int) -> ObjectError:
        if status == http.client.NOT_FOUND:
            return AbsentChecksum(
                key,
                "the archive has no checksum of it; "
                "download_checksum=False takes it on size and ETag",
            )
        said = f"its checksum from {self._where}: status {status}"
        said = "; ".join(filter(None, (said, advice_on(f"status {status}"))))
        if status in (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE):
            return Throttled(key, said)
        if status >= http.client.INTERNAL_SERVER_ERROR:
            return ServerFault(key, said)
        return Forbidden(
            key,
            f"{said}. If only checksums are refused, download_checksum=False goes by size and ETag",
        )

    def _retry_or_fail(self, question: DigestRequest, error: ObjectError) -> None:
        """Ask again after passing trouble, later each time."""
        question.tries += 1
        if not error.retryable or question.tries == _TRIES or question.stalls == _STALLS:
            self._on_answer(question.key, error)
        elif question.tries == 1:
            # A kept-alive connection may have been closed meanwhile: the first retry is free.
            self._again(question)
        else:
            pause = 0.25 * 2**question.tries
            asyncio.get_running_loop().call_later(pause, self._again, question)

    def _again(self, question: DigestRequest) -> None:
        if not self._ended:
            self._waiting.appendleft(question)
            self._serve()


class _Connection(asyncio.Protocol):
    """A kept-alive connection, with one question under way at most.

    The answer is read by hand: to parse its headers as mail takes longer than all the
    rest of the proof.
    """

    def __init__(self, owner: DigestClient) -> None:
        self._owner = owner
        self._question: DigestRequest | None = None
        self._answer = b""
        self._since = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.free(self)

    def ask(self, question: DigestRequest) -> None:
        """Ask for one digest."""
        self._question, self._answer = question, b""
        self._since = asyncio.get_running_loop().time()
        self._transport.write(self._owner.request(question.key))

    def check(self, since: float) -> None:
        """Give the question up if not a byte has come since then."""
        if self._question is not None and self._since < since:
            self._lose(TimeoutError())

    def data_received(self, data: bytes) -> None:
        question = self._question
        if question is None:
            self.end()  # nothing was asked: whatever comes next could not be trusted
            return
        self._answer += data
        if len(self._answer) > _LARGEST:
            self._lose(http.client.HTTPException(f"an answer of more than {_LARGEST:,} bytes"))
            return
        found = _HEAD.match(self._answer)
        length = _LENGTH.search(found[0]) if found else None
        if found is None or (length and len(self._answer) < found.end() + int(length[1])):
            self._since = asyncio.get_running_loop().time()
        elif length is None:
            self._lose(http.client.HTTPException("an answer without Content-Length"))
        else:
            self._question = None
            body = self._answer[found.end() : found.end() + int(length[1])]
            self._owner.answered(question, int(found[1]), body)
            if _CLOSE.search(found[0]):
                self.end()
            else:
                self._owner.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(exc or ConnectionResetError("the connection was closed"))

    def _lose(self, problem: Exception) -> None:
        """Close, and say what became of the question."""
        question, self._question = self._question, None
        self.end()
        if question is not None:
            self._owner.failed(question, problem)

    def end(self) -> None:
        """Close at once."""
        self._question = None
        self._transport.abort()
        self._owner.gone(self)


def read_digest(key: str, body: bytes) -> Answer:
    """Read the digest of a ``.CHECKSUM`` object: its first word, 64 hex digits."""
    found = _DIGEST.match(body.lstrip())
    if found is None:
        return BadChecksum(key, f"its checksum begins {body[:40]!r} and not with a SHA-256 digest")
    return found[1].decode().lower()


class _Way:
    """The way to an endpoint: through the environment's proxy if there is one."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._tls = tls_of(endpoint)
        self._proxy = proxy_of(endpoint)
        self._host = parts.hostname or ""
        self._port = parts.port or (80 if self._tls is None else 443)

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """Connect, and hand the connection to a protocol."""
        to: dict[str, Any] = {"host": self._host, "port": self._port}
        if self._proxy is not None:
            to = {"sock": await _tunnel(self._proxy, self._host, self._port)}
        name = self._host if self._tls else None
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: protocol, **to, ssl=self._tls, server_hostname=name)


async def _tunnel(proxy: str, host: str, port: int) -> socket.socket:
    """Have a proxy connect to a host; whatever is written to the socket then goes there."""
    loop = asyncio.get_running_loop()
    through = urlsplit(proxy)
    at = through.hostname or "", through.port or 80
    try:
        found = await loop.getaddrinfo(*at, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectionRefusedError(f"the proxy's name cannot be resolved: {error}") from None
    family, kind, protocol, _, address = found[0]
    tunnel = socket.socket(family, kind, protocol)
    try:
        tunnel.setblocking(False)
        try:
            await loop.sock_connect(tunnel, address)
        except OSError as error:
            raise ConnectionRefusedError(f"the proxy cannot be reached: {error}") from None
        request = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        if through.username:
            user = f"{unquote(through.username)}:{unquote(through.password or '')}"
            request += f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}\r\n"
        await loop.sock_sendall(tunnel, f"{request}\r\n".encode())
        answer = b""
        while (head := _HEAD.match(answer)) is None:
            if len(answer) > _LARGEST:
                raise ConnectionRefusedError("the proxy did not answer with HTTP")
            piece = await loop.sock_recv(tunnel, 1 << 12)
            if not piece:
                raise ConnectionResetError("the proxy closed the connection")
            answer += piece
        if head[1] != b"200":
            raise ConnectionRefusedError(f"the proxy answered with status {head[1].decode()}")
    except BaseException:
        tunnel.close()
        raise
    return tunnel
