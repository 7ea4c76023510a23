"""A few GET requests over httpx, one after another: the catalogue of symbols.

It needs neither a thread nor a file, which `curl_pool` has for thousands of requests at once.
Both give the same answers and failures, and reach the same endpoints.
"""

from __future__ import annotations

import asyncio
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self

import anyio  # noqa: F401 - otherwise httpx imports both during the first request
import httpcore  # noqa: F401
import httpx

from binance_archive_kit.archive.curl_pool import (
    SLOWEST,
    USER_AGENT,
    Answer,
    Cause,
    Failure,
    Limits,
    Outcome,
    encode_host,
)
from binance_archive_kit.archive.endpoint import Route


class SingleRequests:
    """Sends requests to an endpoint; an async context manager."""

    def __init__(self, route: Route, limits: Limits) -> None:
        self._endpoint = encode_host(route.endpoint)
        self._limits = limits
        self._proxied = route.proxy is not None
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(limits.patience, pool=None),
            limits=httpx.Limits(max_connections=limits.connections),
            headers={"user-agent": USER_AGENT, "accept-encoding": "gzip"},
            # By default httpx parses all certificates anew, even for plain HTTP.
            verify=route.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxy=None if route.proxy is None else encode_host(route.proxy),
            trust_env=False,
            # Whatever a server wants to be remembered is not sent back to it.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, path: str) -> Outcome:
        """Request a path and query, percent-encoded; return the answer, or why there is none."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            return await self._receive(path, began + self._limits.timeout)
        except (httpx.TimeoutException, TimeoutError):
            return Failure(Cause.STALLED, "no progress", clock() - began)
        except (httpx.RequestError, httpx.InvalidURL, UnicodeError, OSError) as error:
            return self._failure(error, clock() - began)

    async def _receive(self, path: str, end: float) -> Outcome:
        """Receive an answer; raise TimeoutError at a time, or later while there is progress."""
        body = bytearray()
        async with (
            asyncio.timeout_at(end) as timeout,
            self._client.stream("GET", f"{self._endpoint}{path}") as response,
        ):
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > self._limits.largest:
                    return Failure(Cause.TOO_LARGE, "the answer is too large")
                timeout.reschedule(end + len(body) / SLOWEST)
        head = b"".join(b"\r\n%b: %b" % header for header in response.headers.raw)
        return Answer(response.status_code, head, bytes(body))

    def _failure(self, error: Exception, seconds: float) -> Failure:
        message = _describe(error)
        cause = Cause.CONNECTION
        if "CERTIFICATE_VERIFY_FAILED" in message:
            cause = Cause.REFUSED
        elif isinstance(error, httpx.ProxyError):
            if str(error).startswith("407"):
                cause = Cause.REFUSED
            message = f"the proxy answered with status {error}"
        elif self._proxied and isinstance(error, httpx.ConnectError) and str(error):
            message = f"the proxy cannot be reached: {message}"
        return Failure(cause, message, seconds)


def _describe(error: BaseException) -> str:
    """Return the message of an error, or of the first of its causes that has one."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    message = f": {cause}" if cause is not None else ""
    handshake = isinstance(error, httpx.ConnectError) and not str(error)
    return f"{type(error).__name__}{' in the TLS handshake' if handshake else ''}{message}"
