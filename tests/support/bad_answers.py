"""Answers of servers that are none, byte by byte."""

from __future__ import annotations

from tests.support.answers import answer, ok

_HEAD = b"HTTP/1.1 200 OK\r\n"
#: Answers that clients reject at once.
SHORT: dict[str, bytes] = {
    "noise": bytes(range(256)) * 10,
    "no length": _HEAD + b"Content-Length: x\r\n\r\nabc",
    "bad chunks": _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "bad headers": _HEAD + b"\xff\xfe\x00: \x80\r\nfoo\r\n\r\n",
    "brotli": ok(b"abc", "Content-Encoding: br"),
}
ALL: dict[str, bytes] = SHORT | {
    "a huge length": _HEAD + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "a bad address": answer(301, b"", "Location: http://[::"),
    "a bomb": ok(
        b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><ListBucketResult>&c;'
        b"</ListBucketResult>"
    ),
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n",
    "HTTP/0.9": b"<html>hi</html>",
    "a length below zero": _HEAD + b"Content-Length: -5\r\n\r\nabc",
    "two lengths": _HEAD + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
    "huge headers": _HEAD + (b"A: " + b"a" * 70_000 + b"\r\n") * 40 + b"\r\n",
    "a bad status": b"HTTP/1.1 abc Weird\r\n\r\n",
    "a huge status": b"HTTP/1.1 99999999999 Weird\r\n\r\n",
    "no status yet": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "no gzip": ok(b"abc", "Content-Encoding: gzip"),
    "a circle": answer(302, b"", "Location: /again"),
    "another scheme": answer(307, b"", "Location: ftp://x"),
    "a wait": answer(429, b"", "Retry-After: -1"),
    "a secret handshake": answer(401, b"", "WWW-Authenticate: Negotiate"),
}
