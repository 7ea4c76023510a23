"""A read-only S3 endpoint on loopback that serves one bucket of objects in memory.

It answers the requests of readers of a public bucket: ``GET`` and ``HEAD`` of objects (with
``Range``), both versions of the listing, and the bucket's region. Addresses are path style,
``/<bucket>/<key>``, and requests need no signature::

    with LocalS3({"data/a.zip": b"..."}) as server:
        httpx.get(f"{server.url}/data.binance.vision/data/a.zip")
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import socket
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape
from http.client import responses
from typing import Protocol, Self, cast
from urllib.parse import parse_qsl, quote_plus, unquote

#: LastModified of every object: fixed, so that listings are reproducible.
MODIFIED = datetime(2025, 8, 1, tzinfo=UTC)
#: A client with 256 workers opens all of its connections at once.
BACKLOG = 4096
_REGION = "ap-northeast-1"
#: Maximum number of objects in a page; S3 ignores larger requests.
_PAGE = 1000
#: Sorts after every key: ``prefix + _LAST`` is the end of a prefix.
_LAST = "\U0010ffff"
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")
_XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Body(Protocol):
    """The bytes of an object, in memory or in a file."""

    def __getitem__(self, span: slice, /) -> bytes:
        """Return the bytes of a range."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for an object, or for the bucket.

    Attributes
    ----------
    method : str
        ``GET`` or ``HEAD``.
    key : str
        The object's key, decoded; empty for the bucket.
    query : mapping of str to str
    headers : mapping of str to str
        Names in lower case.
    """

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def is_listing(self) -> bool:
        """Whether it is for a page of a listing."""
        return self.method == "GET" and not self.key and "location" not in self.query

    @property
    def prefix(self) -> str:
        """The prefix of a listing; empty for other requests."""
        return self.query.get("prefix", "") if self.is_listing else ""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The size and headers of an object, and its element in a listing, formatted once."""

    size: int
    headers: str
    element: str
    encoded_element: str  # for encoding-type=url

    @classmethod
    def of(cls, key: str, size: int, etag: str, modified: datetime = MODIFIED) -> Self:
        """Format the headers and the element of an object."""
        rest = (
            f"</Key><LastModified>{modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )
        plain, encoded = (
            f"<Contents><Key>{name}{rest}"
            for name in (escape(key, quote=False), quote_plus(key, safe="/"))
        )
        # Nearly all keys are equal in both forms; one string then serves for both.
        return cls(
            size, object_headers(etag, modified), plain, plain if encoded == plain else encoded
        )


def object_headers(etag: str, modified: datetime = MODIFIED) -> str:
    """Return the headers that describe an object."""
    return (
        f'ETag: "{etag}"\r\nLast-Modified: {format_datetime(modified, usegmt=True)}\r\n'
        "Accept-Ranges: bytes\r\nContent-Type: binary/octet-stream\r\n"
    )


class Reply:
    """A response: its head, and a body that is sent from `first` to `end`, exclusive."""

    def __init__(
        self, status: int, headers: str, body: Body, size: int, span: tuple[int, int] | None = None
    ) -> None:
        self.body, self.size = body, size
        self.first, self.end = span or (0, size)
        start = f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"
        length = f"Content-Length: {self.end - self.first}"
        self.head = f"{start}\r\n{length}\r\n{headers}\r\n".encode()

    @classmethod
    def xml(cls, text: str, status: int = 200, headers: str = "") -> Self:
        """Return a response with an XML document."""
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
        return cls(status, f"Content-Type: application/xml\r\n{headers}", body, len(body))

    @classmethod
    def error(cls, status: int, code: str, resource: str, headers: str = "") -> Self:
        """Return an S3 error response."""
        text = f"<Code>{code}</Code><Message>{code}</Message>"
        text += f"<Resource>{escape(resource, quote=False)}</Resource><RequestId>0</RequestId>"
        return cls.xml(f"<Error>{text}</Error>", status, headers)

    def to(self, method: str) -> Self:
        """Drop the body for a HEAD request, and keep the head of a GET request."""
        if method == "HEAD":
            self.end = self.first
        return self


class Connection(asyncio.Protocol):
    """A client's connection: answers requests in the order of their arrival.

    A protocol instead of streams: a response then costs one callback and no task.
    """

    def __init__(self, server: LocalS3) -> None:
        self.server = server
        self._buffer = bytearray()
        self._ended = False  # further requests are ignored

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        self.transport = cast(asyncio.Transport, transport)
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection."""
        self.server.connections.discard(self)

    def end(self) -> None:
        """Close the connection immediately, without sending pending data."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer the complete requests."""
        if self._ended:
            return
        self._buffer += data
        if not self._buffer[:1].isalpha():
            # Such as a TLS handshake: its sender would wait for a response forever.
            self.transport.close()
        self.advance()

    def is_busy(self) -> bool:
        """Return whether the next request has to wait."""
        return False

    def advance(self) -> None:
        """Answer the complete requests until one has to wait."""
        while not (self.is_busy() or self._ended or self.transport.is_closing()):
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
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
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        self._ended = version != "HTTP/1.1" or headers.get("connection", "").lower() == "close"
        if method not in ("GET", "HEAD"):
            self._ended = True  # a request body may follow, and is not read
            self.send(Reply.error(405, "MethodNotAllowed", path))
        elif bucket != self.server.bucket:
            self.send(Reply.error(404, "NoSuchBucket", bucket).to(method))
        else:
            # A plus is a space in the query only.
            parameters = dict(parse_qsl(query, keep_blank_values=True))
            self.respond(Request(method, key, parameters, headers))

    def respond(self, request: Request) -> None:
        """Respond to a request for the bucket or one of its objects."""
        self.send(self.server.reply(request))

    def send(self, reply: Reply) -> None:
        """Send a response in one write."""
        self.transport.write(reply.head + reply.body[reply.first : reply.end])
        self.sent()

    def sent(self) -> None:
        """End the connection after its last response."""
        if self._ended and not self.transport.is_closing():
            # The client closes. If this side closed with unread input, the kernel would reset the
            # connection, and the client could lose the response.
            self.transport.write_eof()


class LocalS3:
    """An S3 endpoint on loopback that serves one bucket, read-only, on a separate thread.

    Parameters
    ----------
    objects : mapping of str to bytes
        The objects by key; must not change while they are served.
    bucket : str

    Examples
    --------
    >>> from urllib.request import urlopen
    >>> with LocalS3({"data/a.txt": b"hello"}) as server:
    ...     with urlopen(f"{server.url}/data.binance.vision/data/a.txt") as answer:
    ...         answer.read()
    b'hello'
    """

    _port = 0

    def __init__(
        self, objects: Mapping[str, bytes], *, bucket: str = "data.binance.vision"
    ) -> None:
        self.bucket = bucket
        self.connections: set[Connection] = set()
        self.objects = objects
        self._infos: dict[str, ObjectInfo] = {}
        self._sorted = sorted(objects)
        self._url = ""
        self._thread: threading.Thread | None = None
        self._end: Callable[[], None] = lambda: None

    # Objects

    def keys(self) -> Sequence[str]:
        """Return all keys, in the order of their UTF-8 bytes."""
        return self._sorted

    def info(self, key: str) -> ObjectInfo | None:
        """Return the description of an object; None if there is no such object."""
        if key not in self._infos and key in self.objects:
            body = self.objects[key]
            etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
            self._infos[key] = ObjectInfo.of(key, len(body), etag)
        return self._infos.get(key)

    def open(self, key: str) -> tuple[ObjectInfo, Body] | None:
        """Return the description and the bytes of an object; None if there is no such object."""
        info = self.info(key)
        return None if info is None else (info, self.objects[key])

    # Responses

    def reply(self, request: Request) -> Reply:
        """Return the response to a request."""
        if request.key:
            reply = self._object(request)
        elif request.method == "HEAD":
            reply = Reply(200, f"x-amz-bucket-region: {_REGION}\r\n", b"", 0)
        elif not request.is_listing:
            reply = Reply.xml(f"<LocationConstraint {_XMLNS}>{_REGION}</LocationConstraint>")
        else:
            try:
                reply = Reply.xml(self._listing(request.query))
            except ValueError:
                reply = Reply.error(400, "InvalidArgument", request.prefix)
        return reply.to(request.method)

    def _object(self, request: Request) -> Reply:
        found = self.open(request.key)
        if found is None:
            return Reply.error(404, "NoSuchKey", request.key)
        info, body = found
        match = _RANGE.fullmatch(request.headers.get("range", ""))
        if not match:
            return Reply(200, info.headers, body, info.size)
        first, stop = 0, info.size
        if match[3]:  # the last bytes
            first = max(0, stop - int(match[3]))
        else:
            first, stop = int(match[1]), min(stop, int(match[2] or stop) + 1)
        if first >= stop:
            headers = f"Content-Range: bytes */{info.size}\r\n"
            return Reply.error(416, "InvalidRange", request.key, headers)
        headers = f"{info.headers}Content-Range: bytes {first}-{stop - 1}/{info.size}\r\n"
        return Reply(206, headers, body, info.size, (first, stop))

    def _listing(self, query: Mapping[str, str]) -> str:
        """Format a page of ListObjects, V1 or V2.

        Raises
        ------
        ValueError
            If a parameter is invalid.
        """
        v2, delimiter = query.get("list-type") == "2", query.get("delimiter", "")
        limit = min(int(query.get("max-keys", _PAGE)), _PAGE)
        if limit < 0:
            raise ValueError(f"max-keys must not be negative: {limit}")
        after = query.get("start-after" if v2 else "marker", "")
        token = query.get("continuation-token") if v2 else None
        if token is not None:
            after = base64.b64decode(token, validate=True).decode()
        prefix, urls = query.get("prefix", ""), query.get("encoding-type") == "url"
        contents, folders, last, more = self._page(prefix, delimiter, after, limit, urls=urls)

        def tag(name: str, text: str) -> str:
            text = quote_plus(text, safe="/") if urls else escape(text, quote=False)
            return f"<{name}>{text}</{name}>"

        head = f"<Name>{self.bucket}</Name>{tag('Prefix', prefix)}<MaxKeys>{limit}</MaxKeys>"
        head += tag("Delimiter", delimiter) if delimiter else ""
        head += "<EncodingType>url</EncodingType>" if urls else ""
        head += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if v2:
            head += f"<KeyCount>{len(contents) + len(folders)}</KeyCount>"
            head += tag("StartAfter", query["start-after"]) if "start-after" in query else ""
            head += f"<ContinuationToken>{token}</ContinuationToken>" if token is not None else ""
            following = base64.b64encode(last.encode()).decode()
            head += f"<NextContinuationToken>{following}</NextContinuationToken>" if more else ""
        else:
            head += tag("Marker", after) + (tag("NextMarker", last) if more and delimiter else "")
        body = "".join(contents)
        body += "".join(
            f"<CommonPrefixes>{tag('Prefix', folder)}</CommonPrefixes>" for folder in folders
        )
        return f"<ListBucketResult {_XMLNS}>{head}{body}</ListBucketResult>"

    def _page(
        self, prefix: str, delimiter: str, after: str, limit: int, *, urls: bool
    ) -> tuple[list[str], list[str], str, bool]:
        """Return a page's elements and folders, its last name, and whether more follow."""
        keys = self.keys()
        index = max(bisect_left(keys, prefix), bisect_right(keys, after))
        end = bisect_right(keys, prefix + _LAST)
        contents: list[str] = []
        folders: list[str] = []
        last = ""
        while index < end and len(contents) + len(folders) < limit:
            cut = keys[index].find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                last = keys[index]
                index += 1
                if info := self.info(last):
                    contents.append(info.encoded_element if urls else info.element)
            else:
                last = keys[index][: cut + len(delimiter)]
                index = bisect_right(keys, last + _LAST, index)
                if last > after:  # otherwise the previous page has it
                    folders.append(last)
        return contents, folders, last, bool(limit) and index < end

    # Serving

    def new_connection(self) -> Connection:
        """Return the protocol for a new connection."""
        return Connection(self)

    @property
    def url(self) -> str:
        """The endpoint, such as ``http://127.0.0.1:45678``, without the bucket."""
        if not self._url:
            raise RuntimeError("the server has no address before it is started")
        return self._url

    def start(self) -> Self:
        """Serve on a daemon thread until `stop`; the server answers when this returns.

        Raises
        ------
        RuntimeError
            If the server is running already.
        """
        if self._thread:
            raise RuntimeError("the server is running already")
        listener = socket.create_server(("127.0.0.1", self._port), backlog=BACKLOG)
        started: Future[Callable[[], None]] = Future()

        def run() -> None:
            try:
                with listener:
                    asyncio.run(self.serve(listener, started.set_result))
            except Exception as error:
                started.set_exception(error)  # after the start, this raises on the thread

        thread = threading.Thread(target=run, name="local-s3", daemon=True)
        thread.start()
        self._end, self._thread = started.result(), thread
        return self

    def stop(self) -> None:
        """Close all connections and end the thread; does nothing if it is not running."""
        if self._thread:
            self._end()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    async def serve(
        self, listener: socket.socket, started: Callable[[Callable[[], None]], None]
    ) -> None:
        """Serve until a thread calls the function that `started` receives."""
        loop, ending = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ending.set)

        self._url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = await loop.create_server(self.new_connection, sock=listener, backlog=BACKLOG)
        started(end)
        await ending.wait()
        # Accept no more connections, and end the open ones. Some are still being accepted, and
        # the server must not be closed before them.
        loop.remove_reader(listener)
        while self.connections or len(asyncio.all_tasks()) > 1:
            for connection in self.connections:
                connection.end()
            await asyncio.sleep(0)
        server.close()
