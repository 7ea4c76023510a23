"""A small S3-compatible endpoint on loopback: one bucket, read-only, standard library only.

The demo archive runs it on a background thread, end-to-end tests add faults to it, and benchmarks
run it as a process of its own::

    with LocalS3({"data/a.zip": b"..."}) as server:
        httpx.get(f"{server.url}/data.binance.vision/data/a.zip")

    python -m binance_archive_kit.demo.server FOLDER --latency 0.05 --processes 2

It answers what readers of a public bucket ask: ``GET`` and ``HEAD`` of objects (with ``Range``),
both versions of the listing, the bucket's region. Addresses are path style, ``/<bucket>/<key>``,
and nobody is asked to sign.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import os
import re
import signal
import socket
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape
from http.client import responses
from io import FileIO
from pathlib import Path
from typing import Self, cast
from urllib.parse import parse_qsl, quote_plus, unquote

__all__ = ["Fault", "LocalS3", "Request"]

MODIFIED = datetime(2025, 8, 1, tzinfo=UTC)
"""LastModified of every object, unless told: fixed, so that listings are reproducible."""

_REGION = "ap-northeast-1"
_PAGE = 1000  # S3 lists no more at a time, whatever is asked for
_CHUNK = 1 << 18  # more than this is not hashed or sent in one go: others would wait
_LATE = 0.01  # seconds
_BACKLOG = 4096  # a client with 256 workers connects with all of them at once
_LAST = "\U0010ffff"  # sorts after everything, so `prefix + _LAST` is where a prefix ends
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")
_XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_CODES = {
    400: "InvalidArgument",
    403: "AccessDenied",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    416: "InvalidRange",
    429: "SlowDown",
    503: "SlowDown",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a fault rule sees of a request.

    Attributes
    ----------
    method
        ``GET`` or ``HEAD``.
    key
        The object's key, decoded; empty for a listing.
    prefix
        The prefix a listing asks for, else empty.
    attempt
        1, 2, …: how often this method was asked for this key so far, or for this prefix,
        each page of a listing counting as one.
    headers
        The request's headers, names in lower case.
    """

    method: str
    key: str
    prefix: str
    attempt: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do instead of answering honestly and at once; the fields may be combined.

    Attributes
    ----------
    status
        Any other than 200 is answered as an S3 error with the matching code.
    hang_after
        Send the head and this many bytes of the body, then nothing until either side closes;
        0 keeps even the head back.
    cut_after
        Send this many bytes of the body under the full Content-Length, then close.
    flip
        Flip one bit of the byte at this offset, which counts in the whole object, also under a
        Range, and modulo its size, so that -1 is the last byte. The ETag stays the true one.
    body
        Send another body, consistent in itself: Content-Length and ETag are its own.
    delay
        Wait so many seconds before answering, on top of the server's latency.
    bytes_per_second
        Send the body at this pace.
    """

    status: int = 200
    hang_after: int | None = None
    cut_after: int | None = None
    flip: int | None = None
    body: bytes | None = None
    delay: float = 0.0
    bytes_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """One version of an object, its headers and its element of a listing rendered once."""

    version: object
    size: int
    headers: str
    plain: str
    encoded: str  # the same for encoding-type=url


def _object_headers(etag: str, when: datetime) -> str:
    return (
        f'ETag: "{etag}"\r\nLast-Modified: {format_datetime(when, usegmt=True)}\r\n'
        "Accept-Ranges: bytes\r\nContent-Type: binary/octet-stream\r\n"
    )


def _entry(key: str, version: tuple[object, datetime], size: int, etag: str) -> _Entry:
    when = version[1]
    when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    rest = (
        f"</Key><LastModified>{when:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
        f"<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )
    names = escape(key, quote=False), quote_plus(key, safe="/")
    plain = f"<Contents><Key>{names[0]}{rest}"
    # Nearly all keys read the same in both forms; then one string serves for both.
    encoded = plain if names[0] == names[1] else f"<Contents><Key>{names[1]}{rest}"
    return _Entry(version, size, _object_headers(etag, when), plain, encoded)


def _version(item: bytes | Path | int) -> tuple[int, object]:
    """Give the size of bytes or of a file, and a token that changes with the content."""
    if isinstance(item, bytes):
        return len(item), item
    stat = os.fstat(item) if isinstance(item, int) else item.stat()
    return stat.st_size, (stat.st_size, stat.st_mtime_ns)


def _md5(item: bytes | Path | int) -> str:
    if isinstance(item, bytes):
        return hashlib.md5(item, usedforsecurity=False).hexdigest()
    with FileIO(item, closefd=isinstance(item, Path)) as file:
        return hashlib.file_digest(file, "md5").hexdigest()


class _Objects:
    """The objects of the bucket, and what was worked out about each of them."""

    def __init__(
        self,
        objects: Mapping[str, bytes] | Path,
        modified: datetime | Mapping[str, datetime] | None,
    ) -> None:
        self._folder = objects if isinstance(objects, Path) else None
        # What each key holds: bytes, or the path of a file.
        self._source: Mapping[str, bytes | Path] = {} if isinstance(objects, Path) else objects
        self._each = modified if isinstance(modified, Mapping) else {}
        self._default = modified if isinstance(modified, datetime) else MODIFIED
        self._entries: dict[str, _Entry] = {}
        self.refresh()

    def refresh(self) -> None:
        if self._folder is not None:
            if not self._folder.is_dir():
                raise NotADirectoryError(self._folder)
            top = str(self._folder)
            found = (f"{at}/{name}" for at, _, names in os.walk(top) for name in names)
            self._source = {
                path.removeprefix(top).replace(os.sep, "/").lstrip("/"): Path(path)
                for path in found
            }
        # By code point, which for UTF-8 is the order of the bytes, and so that of S3.
        self._sorted = sorted(self._source)
        self._known = set(self._sorted)

    def keys(self) -> list[str]:
        # A mapping may have changed. Comparing 100,000 keys takes 3 ms, and their number alone
        # would hide that one key was exchanged for another.
        if self._folder is None and self._source.keys() != self._known:
            self.refresh()
        return self._sorted

    def is_large(self, key: str) -> bool:
        try:
            return _version(self._source.get(key, b""))[0] > _CHUNK
        except OSError:
            return False

    def entry(self, key: str) -> _Entry | None:
        """Describe an object; each version of it is hashed only once."""
        item = self._source.get(key)
        try:
            return None if item is None else self._describe(key, item)
        except OSError:  # the file has gone
            return None

    def open(self, key: str) -> tuple[_Entry | None, bytes | FileIO]:
        """Describe an object and give its bytes, or its file, which the caller closes."""
        item = self._source.get(key)
        if item is None:
            return None, b""
        if isinstance(item, bytes):
            return self._describe(key, item), item
        try:
            file = FileIO(item)
        except OSError:
            return None, b""
        # Asking the open file keeps description and content together when the path is replaced.
        return self._describe(key, file.fileno()), file

    def _describe(self, key: str, item: bytes | Path | int) -> _Entry:
        when = self._each.get(key, self._default)
        size, content = _version(item)
        entry = self._entries.get(key)
        # Comparing tuples looks at identity first: unchanged bytes cost nothing, however many.
        if entry is None or entry.version != (content, when):
            entry = self._entries[key] = _entry(key, (content, when), size, _md5(item))
        return entry


def _listing(objects: _Objects, bucket: str, ask: Mapping[str, str]) -> str:
    """Render a page of ListObjects, V1 or V2; raise ValueError for a parameter that is none."""
    v2, urls = ask.get("list-type") == "2", ask.get("encoding-type") == "url"
    prefix, delimiter = ask.get("prefix", ""), ask.get("delimiter", "")
    limit = min(int(ask.get("max-keys", _PAGE)), _PAGE)
    if limit < 0:
        raise ValueError(f"max-keys must not be negative: {limit}")
    token = ask.get("continuation-token") if v2 else None
    after = ask.get("start-after" if v2 else "marker", "")
    if token is not None:
        after = base64.b64decode(token, validate=True).decode()
    keys = objects.keys()
    at = max(bisect_left(keys, prefix), bisect_right(keys, after))
    end = bisect_right(keys, prefix + _LAST)
    contents: list[str] = []
    common: list[str] = []
    last = ""
    while at < end and len(contents) + len(common) < limit:
        cut = keys[at].find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            last = keys[at]
            at += 1
            if entry := objects.entry(last):
                contents.append(entry.encoded if urls else entry.plain)
        else:
            last = keys[at][: cut + len(delimiter)]
            at = bisect_right(keys, last + _LAST, at)
            if last > after:  # else it was on the page before
                common.append(last)
    more = bool(limit) and at < end

    def tag(name: str, text: str) -> str:
        text = quote_plus(text, safe="/") if urls else escape(text, quote=False)
        return f"<{name}>{text}</{name}>"

    head = f"<Name>{bucket}</Name>{tag('Prefix', prefix)}<MaxKeys>{limit}</MaxKeys>"
    head += tag("Delimiter", delimiter) if delimiter else ""
    head += "<EncodingType>url</EncodingType>" if urls else ""
    head += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
    if v2:
        head += f"<KeyCount>{len(contents) + len(common)}</KeyCount>"
        head += tag("StartAfter", ask["start-after"]) if "start-after" in ask else ""
        head += f"<ContinuationToken>{token}</ContinuationToken>" if token is not None else ""
        following = base64.b64encode(last.encode()).decode()
        head += f"<NextContinuationToken>{following}</NextContinuationToken>" if more else ""
    else:
        head += tag("Marker", after) + (tag("NextMarker", last) if more and delimiter else "")
    groups = "".join(f"<CommonPrefixes>{tag('Prefix', name)}</CommonPrefixes>" for name in common)
    return f"<ListBucketResult {_XMLNS}>{head}{''.join(contents)}{groups}</ListBucketResult>"


class _Reply:
    """An answer: its head, and a body that is sent from `first` to `end`."""

    def __init__(
        self,
        status: int,
        headers: str,
        body: bytes | FileIO,
        size: int,
        span: tuple[int, int] | None = None,
    ) -> None:
        self.body, self.size = body, size
        self.first, self.end = span or (0, size)
        start = f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"
        length = f"Content-Length: {self.end - self.first}"
        self.head = f"{start}\r\n{length}\r\n{headers}\r\n".encode()

    @classmethod
    def xml(cls, text: str, status: int = 200, headers: str = "") -> Self:
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
        return cls(status, f"Content-Type: application/xml\r\n{headers}", body, len(body))

    @classmethod
    def error(cls, status: int, about: str, code: str = "", headers: str = "") -> Self:
        code = code or _CODES.get(status, "InternalError")
        about = escape(about, quote=False)
        text = f"<Code>{code}</Code><Message>{code}</Message><Resource>{about}</Resource>"
        return cls.xml(f"<Error>{text}<RequestId>0</RequestId></Error>", status, headers)

    def to(self, method: str) -> Self:
        if method == "HEAD":  # the head of what GET would get, and no body
            self.end = self.first
        return self

    def read(self, at: int, stop: int) -> bytes:
        if isinstance(self.body, bytes):
            return self.body[at:stop]
        self.body.seek(at)
        return self.body.read(stop - at)

    def close(self) -> None:
        if not isinstance(self.body, bytes):
            self.body.close()


class _Line:
    """A line of limited bandwidth, which all connections share piece by piece, in turn."""

    def __init__(self, bandwidth: float) -> None:
        self._bandwidth = bandwidth
        self._free = 0.0  # when all that was taken on so far has passed

    async def carry(self, count: int) -> None:
        """Take the time that so many bytes take, after those before them."""
        now = asyncio.get_running_loop().time()
        # A sleep ends a little late; what is lost by that may be made up for.
        self._free = max(self._free, now - _LATE) + count / self._bandwidth
        await asyncio.sleep(self._free - now)


class _Connection(asyncio.Protocol):
    """One client: takes its requests and answers them in their order.

    A protocol and not streams: a small answer then costs one callback and no task.
    """

    def __init__(self, server: LocalS3) -> None:
        self._server = server
        self._buffer = bytearray()
        self._ended = False  # no more requests are taken
        self._task: asyncio.Task[None] | None = None  # an answer that takes its time
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._connections.discard(self)
        asyncio.get_running_loop().call_soon(self.end)  # asyncio wakes a sendfile itself, first

    def end(self) -> None:
        """Close at once, whatever is under way."""
        # The answer first: a transport does not bear to be closed in the middle of a sendfile.
        if self._task and not self._task.done():
            self._task.cancel()
        else:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        self._advance()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._buffer += data
        if not self._buffer[:1].isalpha():
            # Such as the greeting of TLS; unanswered, its sender would wait for ever.
            self._transport.close()
        self._advance()

    def _advance(self) -> None:
        """Answer the requests that have arrived whole, until one has to wait."""
        while not (self._task or self._ended or self._transport.is_closing()):
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0 or not self._writable.is_set():
                break
            head = self._buffer[:end].decode(errors="replace")
            del self._buffer[: end + 4]
            self._answer(head)

    def _answer(self, head: str) -> None:
        start, *lines = head.split("\r\n")
        method, target, version = start.split(" ")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        path, _, query = target.partition("?")
        ask = dict(parse_qsl(query, keep_blank_values=True))  # `+` is a space here, not in paths
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        self._ended = version != "HTTP/1.1" or headers.get("connection", "").lower() == "close"
        server = self._server
        if method not in ("GET", "HEAD"):
            self._ended = True  # a body may follow, and nobody would read it
            self._send(_Reply.error(405, path))
        elif bucket != server.bucket:
            self._send(_Reply.error(404, bucket, "NoSuchBucket").to(method))
        else:
            request = server._note(method, key, ask, headers)
            fault = server.fault(request) if server.fault else None
            slow = fault or server.latency or server._line
            if slow or not key or server._objects.is_large(key):
                answer = self._answer_slowly(request, ask, fault)
                self._task = asyncio.get_running_loop().create_task(answer)
            else:
                self._send(server._reply(request, ask))

    def _send(self, reply: _Reply) -> None:
        """Send a small answer in one go."""
        try:
            self._transport.write(reply.head + reply.read(reply.first, reply.end))
        finally:
            reply.close()
        self._sent()

    def _sent(self) -> None:
        if self._ended and not self._transport.is_closing():
            # The client closes: if this side did, with something unread, the kernel would reset
            # the connection, and the answer could be lost with it.
            self._transport.write_eof()

    async def _answer_slowly(
        self, request: Request, ask: Mapping[str, str], fault: Fault | None
    ) -> None:
        """Give an answer that waits, is long, or keeps others waiting unless a thread helps."""
        server, loop = self._server, asyncio.get_running_loop()
        try:
            await asyncio.sleep(server.latency + (fault.delay if fault else 0))
            if fault and fault.hang_after == 0:
                await loop.create_future()
            if not request.key:
                reply = await loop.run_in_executor(None, server._reply, request, ask, fault)
            else:
                if server._objects.is_large(request.key):  # so that `_reply` has nothing to hash
                    await loop.run_in_executor(None, server._objects.entry, request.key)
                reply = server._reply(request, ask, fault)
            if fault or reply.end - reply.first > _CHUNK:
                await self._stream(reply, fault or Fault())
            else:
                if server._line:
                    await server._line.carry(reply.end - reply.first)
                self._send(reply)
        except Exception as error:
            if not (isinstance(error, ConnectionError) or self._transport.is_closing()):
                loop.call_exception_handler({"message": "no answer", "exception": error})
            self._transport.abort()
        self._task = None
        self._advance()

    async def _stream(self, reply: _Reply, fault: Fault) -> None:
        """Send an answer at the client's pace, in the way the fault wants it."""
        loop = asyncio.get_running_loop()
        pace, line = fault.bytes_per_second, self._server._line
        flip = -1 if fault.flip is None or not reply.size else fault.flip % reply.size
        for limit in (fault.hang_after, fault.cut_after):
            if limit is not None:
                reply.end = min(reply.end, reply.first + limit)
        first, end = reply.first, reply.end
        try:
            self._transport.write(reply.head)
            plain = not pace and not line and flip < 0
            if isinstance(reply.body, FileIO) and plain and first < end:
                await loop.sendfile(self._transport, reply.body, first, end - first)
                first = end
            begin, step = loop.time(), min(_CHUNK, max(1, pace // 20)) if pace else _CHUNK
            for at in range(first, end, step):
                chunk = bytearray(reply.read(at, min(at + step, end)))
                if at <= flip < at + len(chunk):
                    chunk[flip - at] ^= 1
                if pace:
                    await asyncio.sleep(begin + (at + len(chunk) - first) / pace - loop.time())
                if line:
                    await line.carry(len(chunk))
                if self._transport.is_closing():
                    break
                self._transport.write(chunk)
                await self._writable.wait()
        finally:
            reply.close()
        if fault.hang_after is not None:
            await loop.create_future()
        if fault.cut_after is not None:
            self._transport.close()
        self._sent()


class LocalS3:
    """An S3 endpoint on loopback that serves one bucket, read-only, on a thread of its own.

    Parameters
    ----------
    objects
        Key to bytes; the mapping may change while it is served, and the next answer shows it.
        Or a folder laid out as the bucket: a file is read when asked for, and noticed when it
        has changed or gone, but new files are found only by `refresh`.
    bucket
        The bucket's name.
    latency
        Seconds that every answer takes longer, without holding up other clients.
    bandwidth
        Bytes a second that all bodies together may take; None sets no limit.
    fault
        Called with every request, on the server's thread; the `Fault` it returns is carried
        out, and after None the answer is honest.
    modified
        LastModified of all objects, or of single keys; else 2025-08-01 00:00 UTC. One without
        a time zone means UTC.
    port
        The port to listen on; 0 takes a free one.
    log
        Whether to keep `requests`, which grows by one with every request.

    Attributes
    ----------
    requests : list of tuple of str
        What was asked so far, in order: ``("GET", key)``, ``("HEAD", key)``, and
        ``("LIST", prefix)`` for each page of a listing. The bucket itself is the empty key.
    latency, fault
        As given; may be changed while serving.

    Examples
    --------
    >>> from urllib.request import urlopen
    >>> with LocalS3({"data/a.txt": b"hello"}) as server:
    ...     with urlopen(f"{server.url}/data.binance.vision/data/a.txt") as answer:
    ...         answer.read()
    b'hello'
    >>> server.requests
    [('GET', 'data/a.txt')]
    """

    def __init__(
        self,
        objects: Mapping[str, bytes] | Path,
        *,
        bucket: str = "data.binance.vision",
        latency: float = 0.0,
        bandwidth: float | None = None,
        fault: Callable[[Request], Fault | None] | None = None,
        modified: datetime | Mapping[str, datetime] | None = None,
        port: int = 0,
        log: bool = True,
    ) -> None:
        self.bucket = bucket
        self.latency = latency
        self.fault = fault
        self.requests: list[tuple[str, str]] = []
        self._line = _Line(bandwidth) if bandwidth else None
        self._objects = _Objects(objects, modified)
        self._port = port
        self._log = log
        self._attempts: Counter[tuple[str, str, str]] = Counter()
        self._connections: set[_Connection] = set()
        self._url = ""
        self._thread: threading.Thread | None = None
        self._end: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """The endpoint, such as ``http://127.0.0.1:45678``, without the bucket."""
        if not self._url:
            raise RuntimeError("the server has no address before it is started")
        return self._url

    def start(self) -> Self:
        """Serve on a daemon thread until `stop`; the server answers when this returns.

        Returns
        -------
        LocalS3
            The server itself.

        Raises
        ------
        RuntimeError
            If it is running already.
        OSError
            If the port is taken.
        """
        if self._thread:
            raise RuntimeError("the server is running already")
        listener = _listen(self._port)
        started: Future[Callable[[], None]] = Future()

        def run() -> None:
            try:
                with listener:
                    asyncio.run(self._serve(listener, started.set_result))
            except Exception as error:
                started.set_exception(error)  # itself an error, and so shown, once started

        thread = threading.Thread(target=run, name="local-s3", daemon=True)
        thread.start()
        self._end, self._thread = started.result(), thread
        return self

    def stop(self) -> None:
        """Close all connections, answered or not, and end the thread; harmless when stopped."""
        if self._thread:
            self._end()
            self._thread.join()
            self._thread = None

    def refresh(self) -> None:
        """Look again which files the folder holds."""
        self._objects.refresh()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _note(
        self, method: str, key: str, ask: Mapping[str, str], headers: Mapping[str, str]
    ) -> Request:
        listing = method == "GET" and not key and "location" not in ask
        prefix = ask.get("prefix", "") if listing else ""
        if self._log:
            self.requests.append(("LIST", prefix) if listing else (method, key))
        attempt = 0
        if self.fault:  # nobody else looks at the count, which takes memory for every key
            attempt = self._attempts[method, key, prefix] = self._attempts[method, key, prefix] + 1
        return Request(method, key, prefix, attempt, headers)

    def _reply(
        self, request: Request, ask: Mapping[str, str], fault: Fault | None = None
    ) -> _Reply:
        if fault and fault.body is not None:
            headers = _object_headers(_md5(fault.body), MODIFIED)
            reply = _Reply(fault.status, headers, fault.body, len(fault.body))
        elif fault and fault.status != 200:
            reply = _Reply.error(fault.status, request.key)
        elif request.key:
            reply = self._object(request)
        elif request.method == "HEAD":
            reply = _Reply(200, f"x-amz-bucket-region: {_REGION}\r\n", b"", 0)
        elif "location" in ask:
            place = f"<LocationConstraint {_XMLNS}>{_REGION}</LocationConstraint>"
            reply = _Reply.xml(place)
        else:
            try:
                reply = _Reply.xml(_listing(self._objects, self.bucket, ask))
            except ValueError:
                reply = _Reply.error(400, request.prefix)
        return reply.to(request.method)

    def _object(self, request: Request) -> _Reply:
        key, body = request.key, cast("bytes | FileIO", b"")
        if request.method == "HEAD":
            entry = self._objects.entry(key)
        else:
            entry, body = self._objects.open(key)
        if entry is None:
            return _Reply.error(404, key)
        match = _RANGE.fullmatch(request.headers.get("range", ""))
        if not match:
            return _Reply(200, entry.headers, body, entry.size)
        first, stop = 0, entry.size
        if match[3]:  # the last so many bytes
            first = max(0, stop - int(match[3]))
        else:
            first, stop = int(match[1]), min(stop, int(match[2] or stop) + 1)
        if first >= stop:
            if not isinstance(body, bytes):
                body.close()
            return _Reply.error(416, key, headers=f"Content-Range: bytes */{entry.size}\r\n")
        headers = f"{entry.headers}Content-Range: bytes {first}-{stop - 1}/{entry.size}\r\n"
        return _Reply(206, headers, body, entry.size, (first, stop))

    async def _serve(
        self, listener: socket.socket, started: Callable[[Callable[[], None]], None]
    ) -> None:
        """Serve until the function that `started` is called with is called, by any thread."""
        loop, ending = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            with suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(ending.set)

        self._url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = await loop.create_server(
            lambda: _Connection(self), sock=listener, backlog=_BACKLOG
        )
        started(end)
        await ending.wait()
        # Accept no more, and end connections until all is quiet, as some are half-way through
        # being accepted; the server does not bear to be closed before they are.
        loop.remove_reader(listener)
        while self._connections or len(asyncio.all_tasks()) > 1:
            for connection in self._connections:
                connection.end()
            await asyncio.sleep(0)
        server.close()


def _listen(port: int, *, shared: bool = False) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=_BACKLOG, reuse_port=shared)


def main() -> None:
    """Serve a folder in the foreground until SIGTERM or SIGINT; the first line is the URL."""
    parser = argparse.ArgumentParser(prog="python -m binance_archive_kit.demo.server")
    parser.add_argument("folder", type=Path, help="a folder laid out as the bucket")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--bandwidth", type=float, help="bytes a second, all answers together")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--processes", type=int, default=1, help="workers that share the port")
    args = parser.parse_args()
    # Each process has its share of the line.
    share = args.bandwidth / args.processes if args.bandwidth else None
    server = LocalS3(args.folder, latency=args.latency, bandwidth=share, log=False)
    # All sockets listen before the first fork: once the address is told, no worker is missing.
    listener = _listen(args.port, shared=args.processes > 1)
    port = listener.getsockname()[1]
    others = [_listen(port, shared=True) for _ in range(args.processes - 1)]
    # The parent keeps the only writing end: workers see it close however the parent ends.
    alive, held = os.pipe()
    workers: list[int] = []
    for other in others:
        worker = os.fork()
        if not worker:
            os.close(held)
            listener.close()
            listener, workers, held = other, [], -1
            break
        workers.append(worker)
    for other in others:
        if other is not listener:
            other.close()

    def started(end: Callable[[], None]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: end())
        if held < 0:
            asyncio.get_running_loop().add_reader(alive, end)
        else:
            print(server.url, flush=True)

    asyncio.run(server._serve(listener, started))
    if held >= 0:
        os.close(held)
        for worker in workers:
            os.waitpid(worker, 0)


if __name__ == "__main__":
    main()
