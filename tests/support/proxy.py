"""An HTTP proxy that leads made-up hosts to servers of a test, and writes down what it is asked."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from tests.support.relay import pass_bytes
from tests.support.s3_gate import read_body
from tests.support.thread_server import ThreadServer


class Proxy(ThreadServer):
    """Tunnels by ``CONNECT``, and passes other requests on.

    Parameters
    ----------
    routes : mapping of str to str
        URLs of servers by the names of hosts, which exist nowhere else.
    login : str
        ``user:password`` without which it refuses with 407; empty for none.

    Attributes
    ----------
    heads : list of str
        The heads of all requests that it let through.
    refused : int
    """

    def __init__(self, routes: Mapping[str, str], login: str = "") -> None:
        self._routes = {host: urlsplit(url) for host, url in routes.items()}
        self._token = base64.b64encode(login.encode()).decode()
        self.heads: list[str] = []
        self.refused = 0
        super().__init__()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer)
        finally:
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if self._token and f"proxy-authorization: basic {self._token}".lower() not in head.lower():
            self.refused += 1
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n"
                b'Proxy-Authenticate: Basic realm="test"\r\nConnection: close\r\n\r\n'
            )
            await writer.drain()
            return
        self.heads.append(head)
        method, target, version = head.partition("\r\n")[0].split(" ")
        url = urlsplit(f"//{target}" if method == "CONNECT" else target)
        upstream = self._routes[url.hostname or ""]
        there, back = await asyncio.open_connection(upstream.hostname, upstream.port)
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(pass_bytes(reader, back), pass_bytes(there, writer))
                return
            body = await read_body(reader, writer, head)
            dropped = ("proxy-", "connection:", "transfer-", "content-length:", "expect:", "host:")
            kept = [
                line
                for line in head.split("\r\n")[1:]
                if line and not line.lower().startswith(dropped)
            ]
            path = target.split(url.netloc, 1)[1] or "/"
            kept += [f"Host: {upstream.netloc}", f"Content-Length: {len(body)}"]
            lines = [f"{method} {path} {version}", *kept, "Connection: close", "", ""]
            back.write("\r\n".join(lines).encode("latin-1") + body)
            await pass_bytes(there, writer)
        finally:
            back.transport.abort()
