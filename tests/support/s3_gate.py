"""A gate before a server of object storage: counts requests, and answers some of them wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tests.support.thread_server import ThreadServer

#: Decides about a request by its method and path: a status to answer, 0 to cut the connection,
#: None to pass it on.
Rule = Callable[[str, str], int | None]
_CODES = {403: "AccessDenied", 404: "NoSuchBucket", 503: "SlowDown"}


@dataclass(frozen=True)
class Asked:
    """A request that has arrived."""

    method: str
    path: str
    size: int


class Gate(ThreadServer):
    """Passes requests on to an endpoint.

    Attributes
    ----------
    rule : callable or None
    requests : list of Asked
    """

    def __init__(self, endpoint: str, rule: Rule | None = None) -> None:
        super().__init__()
        self._upstream = urlsplit(endpoint)
        self.rule = rule
        self.requests: list[Asked] = []
        #: The loop itself refers to the tasks of lost connections only weakly.
        self._running: set[object] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def count(self, method: str, part: str = "") -> int:
        """Count the requests of a method whose path has a part."""
        return sum(each.method == method and part in each.path for each in self.requests)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._running.add(task)
        try:
            # Cancelled at the end; asyncio would report that.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer_one(reader, writer):
                    pass
            with suppress(OSError):
                await writer.drain()
                writer.close()
        finally:
            self._running.discard(task)
            if not writer.is_closing():
                writer.transport.abort()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        body = await read_body(reader, writer, head.decode("latin-1"))
        self.requests.append(Asked(method, unquote(target), len(body)))
        status = self.rule(method, unquote(target)) if self.rule else None
        if status == 0:
            writer.transport.abort()
            return False
        if status is not None:
            text = f"<Error><Code>{_CODES.get(status, 'InternalError')}</Code></Error>".encode()
            begin = f"HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\n"
            writer.write(f"{begin}Content-Length: {len(text)}\r\n\r\n".encode())
            writer.write(b"" if method == "HEAD" else text)
            await writer.drain()
            return True
        await self._pass_on(lines, body, writer)
        return False

    async def _pass_on(self, lines: list[str], body: bytes, writer: asyncio.StreamWriter) -> None:
        host, port = self._upstream.hostname, self._upstream.port
        dropped = ("connection:", "content-length:", "transfer-encoding:", "expect:")
        kept = [line for line in lines if line and not line.lower().startswith(dropped)]
        kept += ["Connection: close", f"Content-Length: {len(body)}"]
        there, back = await asyncio.open_connection(host, port)
        try:
            back.write("\r\n".join([*kept, "", ""]).encode("latin-1") + body)
            await back.drain()
            while data := await there.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            back.transport.abort()


async def read_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> bytes:
    """Read the body of a request, whatever its form."""
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:] if line)
    }
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in headers.get("transfer-encoding", ""):
        return await _read_chunks(reader)
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Read a body in chunks, signed or not."""
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readline() != b"\r\n":
        pass
    return body
