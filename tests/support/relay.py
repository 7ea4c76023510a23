"""Ways to a server other than the straight one: through TLS, or through a proxy."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.thread_server import ThreadServer

OPENSSL = shutil.which("openssl")


def certificate(folder: Path, *hosts: str) -> Path:
    """Make a certificate that vouches for itself, with its key in the same file.

    It is that of localhost, and of further hosts.
    """
    path, key = folder / "localhost.pem", folder / "localhost.key"
    command = [str(OPENSSL), "req", "-x509", "-nodes", "-days", "2", "-newkey", "rsa:2048"]
    command += [
        "-subj",
        "/CN=localhost",
        "-addext",
        ",".join(["subjectAltName=DNS:localhost", *(f"DNS:{host}" for host in hosts)]),
    ]
    command += ["-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path


class Relay(ThreadServer):
    """Passes bytes on to a server, from a thread of its own.

    With a `certificate` it speaks TLS to its clients. Without a `target` it is a proxy, which
    connects to where it is told by ``CONNECT``, and refuses all but the first `most`.
    """

    def __init__(
        self, target: str = "", certificate: Path | None = None, most: int = 10_000
    ) -> None:
        self.asked: list[str] = []
        self.connections = 0
        self._target = urlsplit(target)
        self._most = most
        tls = None
        if certificate:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
        super().__init__(tls)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self._port}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        refused = self.connections > self._most
        host, port = self._target.hostname, self._target.port
        if not host:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            if refused:
                writer.write(b"HTTP/1.1 429 Too Many Requests\r\n\r\n")
                writer.close()
                return
            host, _, number = head.split()[1].partition(":")
            port = int(number)
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")
        there, back = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(pass_bytes(reader, back), pass_bytes(there, writer))
        finally:
            back.transport.abort()
            writer.transport.abort()


async def pass_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until their end."""
    with suppress(ConnectionError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.close()
