"""The demo's S3 endpoint for tests and benchmarks: with faults, latency, folders and processes.

Tests make it answer wrongly, and benchmarks run it as a process of its own::

    with LocalS3({"data/a.zip": b"..."}, fault=lambda request: Fault(status=503)) as server:
        httpx.get(f"{server.url}/data.binance.vision/data/a.zip")

    python -m tests.support.s3_server FOLDER --latency 0.05 --processes 2
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import cast

from binance_archive_kit.demo import server as demo
from binance_archive_kit.demo.server import BACKLOG, MODIFIED, Body, ObjectInfo, Reply

__all__ = ["Fault", "LocalS3", "Request"]

_CHUNK = 1 << 18  # more than this is not hashed or sent in one go: others would wait
_LATE = 0.01  # seconds
_CODES = {403: "AccessDenied", 404: "NoSuchKey", 429: "SlowDown", 503: "SlowDown"}


@dataclass(frozen=True, slots=True)
class Request(demo.Request):
    """A request, as a fault rule sees it.

    Attributes
    ----------
    attempt : int
        1, 2, …: how often this method was asked for this key so far, or for this prefix,
        each page of a listing counting as one. 0 without a rule.
    """

    attempt: int = 0


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
    headers
        Send these headers too, such as ``Retry-After: 1``, ``Location: …`` or
        ``Content-Encoding: gzip``.
    length
        Announce so many bytes, whatever is sent.
    reset_after
        Send this many bytes of the body under the full Content-Length, then reset the connection.
    endless
        Announce no length, and repeat the body until either side closes.
    """

    status: int = 200
    hang_after: int | None = None
    cut_after: int | None = None
    flip: int | None = None
    body: bytes | None = None
    delay: float = 0.0
    bytes_per_second: int | None = None
    headers: tuple[str, ...] = ()
    length: int | None = None
    reset_after: int | None = None
    endless: bool = False

    def replace_reply(self, request: demo.Request) -> Reply | None:
        """Return the answer to give instead of the true one; None for the true one."""
        if self.body is not None:
            headers = demo.object_headers(_md5(self.body))
            reply = Reply(self.status, headers, self.body, len(self.body))
        elif self.status != 200:
            code = _CODES.get(self.status, "InternalError")
            reply = Reply.error(self.status, code, request.key)
        else:
            return None
        return reply.to(request.method)

    def head(self, reply: Reply) -> bytes:
        """Return the head of an answer as this fault changes it."""
        start, *lines = reply.head.decode().rstrip("\r\n").split("\r\n")
        announced = self.endless or self.length is not None
        kept = [line for line in lines if not (announced and line.startswith("Content-Length"))]
        kept += ["Transfer-Encoding: chunked"] if self.endless else []
        kept += [f"Content-Length: {self.length}"] if self.length is not None else []
        return "\r\n".join([start, *kept, *self.headers, "", ""]).encode()


class FileBody:
    """The bytes of an open file, which is closed with the last reference to it."""

    def __init__(self, path: Path) -> None:
        self.file = FileIO(path)

    def __getitem__(self, span: slice, /) -> bytes:
        self.file.seek(span.start)
        return self.file.read(span.stop - span.start)

    def stat(self) -> os.stat_result:
        return os.fstat(self.file.fileno())

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


def _md5(item: bytes | Path | FileBody) -> str:
    if isinstance(item, bytes):
        return hashlib.md5(item, usedforsecurity=False).hexdigest()
    body = FileBody(item) if isinstance(item, Path) else item
    return hashlib.file_digest(body.file, "md5").hexdigest()


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


class _Connection(demo.Connection):
    """A connection whose answers may take their time."""

    server: LocalS3

    def __init__(self, server: LocalS3) -> None:
        super().__init__(server)
        self._task: asyncio.Task[None] | None = None  # an answer that takes its time
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        asyncio.get_running_loop().call_soon(self.end)  # asyncio wakes a sendfile itself, first

    def end(self) -> None:
        # The answer first: a transport does not bear to be closed in the middle of a sendfile.
        if self._task and not self._task.done():
            self._task.cancel()
        else:
            super().end()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        self.advance()

    def is_busy(self) -> bool:
        return self._task is not None or not self._writable.is_set()

    def respond(self, request: demo.Request) -> None:
        server = self.server
        request = server.note(request)
        fault = server.fault(request) if server.fault else None
        slow = fault or server.latency or server.line
        if slow or not request.key or server.is_large(request.key):
            answer = self._answer_slowly(request, fault)
            self._task = asyncio.get_running_loop().create_task(answer)
        else:
            super().respond(request)

    async def _answer_slowly(self, request: demo.Request, fault: Fault | None) -> None:
        """Give an answer that waits, is long, or keeps others waiting unless a thread helps."""
        server, loop = self.server, asyncio.get_running_loop()
        try:
            await asyncio.sleep(server.latency + (fault.delay if fault else 0))
            if fault and fault.hang_after == 0:
                await loop.create_future()
            reply = fault.replace_reply(request) if fault else None
            if reply is None and not request.key:
                reply = await loop.run_in_executor(None, server.reply, request)
            elif reply is None:
                if server.is_large(request.key):  # so that `reply` has nothing to hash
                    await loop.run_in_executor(None, server.info, request.key)
                reply = server.reply(request)
            if fault or reply.end - reply.first > _CHUNK:
                await self._stream(reply, fault or Fault())
            else:
                if server.line:
                    await server.line.carry(reply.end - reply.first)
                self.send(reply)
        except Exception as error:
            if not (isinstance(error, ConnectionError) or self.transport.is_closing()):
                loop.call_exception_handler({"message": "no answer", "exception": error})
            self.transport.abort()
        self._task = None
        self.advance()

    async def _stream(self, reply: Reply, fault: Fault) -> None:
        """Send an answer at the client's pace, in the way the fault wants it."""
        loop = asyncio.get_running_loop()
        for limit in (fault.hang_after, fault.cut_after, fault.reset_after):
            if limit is not None:
                reply.end = min(reply.end, reply.first + limit)
        self.transport.write(fault.head(reply))
        if fault.endless and reply.first < reply.end:
            await self._send_endlessly(reply, fault)
            return
        plain = not fault.bytes_per_second and not self.server.line and fault.flip is None
        if isinstance(reply.body, FileBody) and plain and reply.first < reply.end:
            count = reply.end - reply.first
            await loop.sendfile(self.transport, reply.body.file, reply.first, count)
        else:
            await self._send_chunks(reply, fault)
        if fault.hang_after is not None:
            await loop.create_future()
        if fault.reset_after is not None:
            # What was sent arrives first. Without lingering, closing a socket resets it.
            await asyncio.sleep(_LATE)
            opened = self.transport.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif fault.cut_after is not None:
            self.transport.close()
        self.sent()

    async def _send_endlessly(self, reply: Reply, fault: Fault) -> None:
        """Repeat a body as chunks of an answer of unknown length."""
        body = bytes(reply.body[reply.first : reply.end])
        pace = fault.bytes_per_second or _CHUNK * 100
        body *= max(1, pace // 20 // len(body))
        step = max(1, min(pace // 20, len(body)))
        while not self.transport.is_closing():
            for start in range(0, len(body), step):
                piece = body[start : start + step]
                self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await self._writable.wait()
                await asyncio.sleep(len(piece) / pace)

    async def _send_chunks(self, reply: Reply, fault: Fault) -> None:
        loop = asyncio.get_running_loop()
        pace, line = fault.bytes_per_second, self.server.line
        flip = -1 if fault.flip is None or not reply.size else fault.flip % reply.size
        begin, step = loop.time(), min(_CHUNK, max(1, pace // 20)) if pace else _CHUNK
        for start in range(reply.first, reply.end, step):
            chunk = bytearray(reply.body[start : min(start + step, reply.end)])
            if start <= flip < start + len(chunk):
                chunk[flip - start] ^= 1
            if pace:
                passed = (start + len(chunk) - reply.first) / pace
                await asyncio.sleep(begin + passed - loop.time())
            if line:
                await line.carry(len(chunk))
            if self.transport.is_closing():
                break
            self.transport.write(chunk)
            await self._writable.wait()


class LocalS3(demo.LocalS3):
    """The demo's endpoint with faults, and objects that may change while they are served.

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
        super().__init__({} if isinstance(objects, Path) else objects, bucket=bucket)
        self.latency = latency
        self.fault = fault
        self.requests: list[tuple[str, str]] = []
        self.line = _Line(bandwidth) if bandwidth else None
        self._folder = objects if isinstance(objects, Path) else None
        self._source: Mapping[str, bytes | Path] = self.objects
        self._each = modified if isinstance(modified, Mapping) else {}
        self._default = modified if isinstance(modified, datetime) else MODIFIED
        #: The content and time that each description was made of; they differ between versions.
        self._versions: dict[str, tuple[object, datetime]] = {}
        self._port = port
        self._log = log
        self._attempts: Counter[tuple[str, str, str]] = Counter()
        self.refresh()

    def refresh(self) -> None:
        """Look again which files the folder holds."""
        if self._folder is not None:
            if not self._folder.is_dir():
                raise NotADirectoryError(self._folder)
            top = str(self._folder)
            found = (f"{at}/{name}" for at, _, names in os.walk(top) for name in names)
            self._source = {
                path.removeprefix(top).replace(os.sep, "/").lstrip("/"): Path(path)
                for path in found
            }
        self._sorted = sorted(self._source)
        self._known = set(self._sorted)

    def keys(self) -> Sequence[str]:
        # A mapping may have changed. Comparing 100,000 keys takes 3 ms, and their number alone
        # would hide that one key was exchanged for another.
        if self._folder is None and self._source.keys() != self._known:
            self.refresh()
        return self._sorted

    def is_large(self, key: str) -> bool:
        """Return whether hashing or sending an object would keep other clients waiting."""
        item = self._source.get(key, b"")
        try:
            return (len(item) if isinstance(item, bytes) else item.stat().st_size) > _CHUNK
        except OSError:
            return False

    def info(self, key: str) -> ObjectInfo | None:
        item = self._source.get(key)
        try:
            return None if item is None else self._describe(key, item)
        except OSError:  # the file has gone
            return None

    def open(self, key: str) -> tuple[ObjectInfo, Body] | None:
        item = self._source.get(key)
        try:
            # Asking the open file keeps description and content together when the path is replaced.
            body = FileBody(item) if isinstance(item, Path) else item
        except OSError:
            return None
        return None if body is None else (self._describe(key, body), body)

    def _describe(self, key: str, item: bytes | Path | FileBody) -> ObjectInfo:
        """Return the description of an object; each version of it is hashed only once."""
        when = self._each.get(key, self._default)
        if isinstance(item, bytes):
            size, content = len(item), cast(object, item)
        else:
            stat = item.stat()
            size, content = stat.st_size, (stat.st_size, stat.st_mtime_ns)
        # Comparing tuples looks at identity first: unchanged bytes cost nothing, however many.
        if self._versions.get(key) != (content, when):
            utc = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
            self._infos[key] = ObjectInfo.of(key, size, _md5(item), utc)
            self._versions[key] = content, when
        return self._infos[key]

    def new_connection(self) -> _Connection:
        return _Connection(self)

    def note(self, request: demo.Request) -> Request:
        """Log a request, and count its attempts if there is a rule that may look at them."""
        method, key, prefix = request.method, request.key, request.prefix
        if self._log:
            self.requests.append(("LIST", prefix) if request.is_listing else (method, key))
        if self.fault:
            self._attempts[method, key, prefix] += 1
        attempt = self._attempts[method, key, prefix]
        return Request(method, key, request.query, request.headers, attempt)


def _listen(port: int, *, shared: bool) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=BACKLOG, reuse_port=shared)


def main() -> None:
    """Serve a folder in the foreground until SIGTERM or SIGINT; the first line is the URL."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.s3_server")
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

    asyncio.run(server.serve(listener, started))
    if held >= 0:
        os.close(held)
        for worker in workers:
            os.waitpid(worker, 0)


if __name__ == "__main__":
    main()
