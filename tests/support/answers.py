"""A server that answers whatever it is told to, byte by byte, for answers `LocalS3` cannot give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from http.client import responses

from tests.support.thread_server import ThreadServer

#: What to send for a request's target: bytes, sent at once, or pieces and pauses in seconds.
Answer = bytes | Iterable[bytes | float]


def ok(body: bytes, *headers: str) -> bytes:
    """Spell an answer with a body."""
    return answer(200, body, *headers)


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Spell an answer with any status."""
    head = [f"HTTP/1.1 {status} {responses[status]}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + body


def page(
    keys: Iterable[str] = (),
    *,
    truncated: object = False,
    following: str | None = None,
    folders: Iterable[str] = (),
    size: object = 5,
    more: str = "",
) -> bytes:
    """Spell a page of a listing, correct or not."""
    told = str(truncated).lower() if isinstance(truncated, bool) else truncated
    inner = "".join(
        f'<Contents><Key>{key}</Key><LastModified>2025-08-01T00:00:00.000Z</LastModified><ETag>"x"'
        f"</ETag><Size>{size}</Size></Contents>"
        for key in keys
    )
    inner += "".join(
        f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders
    )
    inner += "" if following is None else f"<NextMarker>{following}</NextMarker>"
    text = f"<ListBucketResult><IsTruncated>{told}</IsTruncated>{inner}{more}</ListBucketResult>"
    return text.encode()


class Answers(ThreadServer):
    """Serves on loopback, from a thread of its own; a context manager.

    Attributes
    ----------
    asked : list of str
        The targets of all requests.
    """

    def __init__(self, reply: Callable[[str], Answer]) -> None:
        self.reply = reply
        self.asked: list[str] = []
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split()[1].decode()
            self.asked.append(target)
            told = self.reply(target)
            for piece in [told] if isinstance(told, bytes) else told:
                if isinstance(piece, bytes):
                    writer.write(piece)
                    await writer.drain()
                else:
                    await asyncio.sleep(piece)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.transport.abort()
