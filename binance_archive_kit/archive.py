"""The archive's listing, over httpx.

Listings are anonymous ListObjects (version 1) requests in path style. Every prefix
ends in ``/``, and is entered at the first day asked for: keys sort by date, so no
page before it is read. Long ranges are cut into pieces of about a page that are read
at once.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote
from xml.etree import ElementTree

import anyio  # noqa: F401 - else httpx imports both in the middle of the first request
import httpcore  # noqa: F401
import httpx

from binance_archive_kit.enums import Partition
from binance_archive_kit.environment import tls_of
from binance_archive_kit.errors import ListingError
from binance_archive_kit.keys import (
    CHECKSUM_SUFFIX,
    Stream,
    parse_period,
    periods,
    spell_period,
)
from binance_archive_kit.planning import Listed, StreamListing
from binance_archive_kit.wishes import Span, Wish

#: Keys an S3 listing gives at most.
PAGE = 1_000
#: Requests in flight.
_CONCURRENCY = 32
#: Keys to look at for a stream's first file: nearly always the first one is it.
_FEW = 10
_TRIES = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer of a listing."""

    objects: list[tuple[str, Listed]]
    folders: list[str]
    truncated: bool


class Archive:
    """A bucket that can be listed; an async context manager.

    Parameters
    ----------
    endpoint : str
        URL of an S3-compatible endpoint, without the bucket.
    bucket : str
    """

    def __init__(self, endpoint: str, bucket: str) -> None:
        self._url = f"{endpoint}/{bucket}"
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(30, pool=None),
            limits=httpx.Limits(max_connections=_CONCURRENCY),
            headers={"user-agent": "binance-archive-kit"},
            # Else httpx reads all authorities anew, for an endpoint without TLS too.
            verify=tls_of(endpoint) or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def list_streams(
        self, asked: Iterable[Wish], on_stream: Callable[[Stream], None] = lambda _: None
    ) -> dict[Stream, StreamListing]:
        """List what the archive has of each stream within the days asked for.

        Where the first day asked for is absent, the stream's very first file is
        looked up too, so that a symbol's beginning is told from a hole.

        Parameters
        ----------
        asked : iterable of Wish
        on_stream : callable, optional
            Called as each stream is done.

        Raises
        ------
        ListingError
            If the endpoint refuses, or keeps failing.
        """
        found: dict[Stream, StreamListing] = {}

        async def list_one(wish: Wish) -> None:
            found[wish.stream] = await self._list_stream(wish)
            on_stream(wish.stream)

        await _together(list_one(wish) for wish in asked)
        return found

    async def _list_stream(self, wish: Wish) -> StreamListing:
        listing = StreamListing()
        pieces = list(_pieces(wish))
        *_, last = await _together(
            self._list_piece(wish.stream, piece, listing) for piece in pieces
        )
        listing.ends = not last
        opening = spell_period(pieces[0][0], wish.stream.partition)
        if opening not in listing.objects:
            listing.probed = True
            listing.first = await self._first_period(wish.stream)
        return listing

    async def _first_period(self, stream: Stream) -> str | None:
        """Return the period of a stream's first file, as spelled in its key; None if it has none.

        Keys of another form, such as that of the folder itself, may come before it.
        """
        head = marker = f"{stream.prefix}{stream.stem}"
        while True:
            page = await self._page(stream.prefix, marker, _FEW)
            for key, _ in page.objects:
                period = key.removeprefix(head).removesuffix(".zip")
                if key.endswith(".zip") and _is_period(period, stream.partition):
                    return period
            last = page.objects[-1][0] if page.objects else ""
            if not page.truncated or last <= marker:
                return None
            marker = last

    async def _list_piece(self, stream: Stream, piece: Span, listing: StreamListing) -> bool:
        """List the days of one piece; tell whether something follows it."""
        head = f"{stream.prefix}{stream.stem}"
        start, end = (spell_period(day, stream.partition) for day in piece)
        # Without ".zip" the marker sorts right before the first day's own key.
        marker = f"{head}{start}"
        beyond = f"{head}{end}.zip{CHECKSUM_SUFFIX}"
        # One more than needed tells whether anything follows.
        wanted = 2 * sum(1 for _ in periods(*piece, stream.partition)) + 1
        while True:
            page = await self._page(stream.prefix, marker, min(PAGE, wanted))
            checksums = {key for key, _ in page.objects if key.endswith(CHECKSUM_SUFFIX)}
            for key, listed in page.objects:
                if key > beyond:
                    return True
                marker = key
                period = key.removeprefix(head).removesuffix(".zip")
                if not key.endswith(".zip") or not _is_period(period, stream.partition):
                    continue
                # The sidecar sorts right after its zip; only a page's end can part them.
                alone = page.truncated and key == page.objects[-1][0]
                checksum = alone or f"{key}{CHECKSUM_SUFFIX}" in checksums
                listing.objects[period] = Listed(
                    listed.size, listed.etag, listed.last_modified, checksum
                )
            if not page.truncated:
                return False

    async def describe(self, keys: Iterable[str]) -> dict[str, Listed]:
        """List single objects as they are now; those that are gone are left out."""

        async def describe_one(key: str) -> tuple[str, Listed] | None:
            page = await self._page(key, "", 2)
            names = {name for name, _ in page.objects}
            for name, listed in page.objects:
                if name == key:
                    return key, replace(listed, checksum=f"{key}{CHECKSUM_SUFFIX}" in names)
            return None

        return dict(filter(None, await _together(describe_one(key) for key in keys)))

    async def symbols(self, parent: str) -> list[str]:
        """List the symbols below a feed's prefix, such as ``data/spot/daily/trades/``."""
        symbols: list[str] = []
        marker = ""
        while True:
            page = await self._page(parent, marker, PAGE, delimiter="/")
            symbols += [folder.removeprefix(parent).strip("/") for folder in page.folders]
            if not page.truncated or not page.folders:
                return symbols
            marker = page.folders[-1]

    async def _page(self, prefix: str, marker: str, keys: int, delimiter: str = "") -> _Page:
        query = {"prefix": prefix, "marker": marker, "max-keys": str(keys), "encoding-type": "url"}
        if delimiter:
            query["delimiter"] = delimiter
        url = f"{self._url}?" + "&".join(
            f"{name}={quote(value, safe='')}" for name, value in query.items() if value
        )
        async with self._slots:
            body = await self._get(url, prefix)
        return _read_page(body, prefix)

    async def _get(self, url: str, prefix: str) -> bytes:
        """Ask until there is an answer, waiting longer each time."""
        problem = ""
        for attempt in range(_TRIES):
            if attempt:
                # Jitter keeps many waiting requests from coming back at once.
                await asyncio.sleep(0.2 * 2**attempt * random.uniform(0.5, 1.5))
            try:
                answer = await self._client.get(url)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__} {error}".strip()
                continue
            if answer.status_code == httpx.codes.OK:
                return answer.content
            problem = f"status {answer.status_code} {answer.reason_phrase}"
            if answer.status_code < 500 and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                raise ListingError(
                    f"{self._url} does not list {prefix!r}: {problem}; check endpoint_url, "
                    "or plan without the listing (listing=False)"
                )
        raise ListingError(
            f"{self._url} did not list {prefix!r} in {_TRIES} tries: {problem}; "
            "check the network and endpoint_url, or try again later"
        )


async def _together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all at once; if one fails, end the others before saying so."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _pieces(wish: Wish) -> Iterator[Span]:
    """Cut the days asked for into pieces of about a page, zips and sidecars together."""
    step = timedelta(days=PAGE // 2 if wish.stream.partition is Partition.DAILY else 10_000)
    for start, end in wish.spans:
        while start <= end:
            stop = min(end, start + step - timedelta(days=1))
            yield start, stop
            start = stop + timedelta(days=1)


def _is_period(text: str, partition: Partition) -> bool:
    try:
        parse_period(text, partition)
    except ValueError:
        return False
    return True


def _read_page(body: bytes, prefix: str) -> _Page:
    """Read one page of XML.

    Raises
    ------
    ListingError
        If it is something else, such as the HTML page that a web front end answers.
    """
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - expat itself stops entity bombs
        if root.tag.rpartition("}")[2] != "ListBucketResult":
            raise ValueError(f"its root is <{root.tag}>")
    except (ElementTree.ParseError, ValueError) as error:
        raise ListingError(
            f"the endpoint answered {prefix!r} with {body[:40]!r}… and not with a listing "
            f"({error}); check endpoint_url"
        ) from None
    space = root.tag.removesuffix("ListBucketResult")
    # S3 says whether it has percent-encoded the keys as it was asked to.
    spell = unquote if root.findtext(f"{space}EncodingType") == "url" else str
    objects: list[tuple[str, Listed]] = []
    for item in root.iterfind(f"{space}Contents"):
        said = {field.tag: field.text or "" for field in item}
        size, when = int(said.get(f"{space}Size", 0)), said.get(f"{space}LastModified", "")
        listed = Listed(size, said.get(f"{space}ETag", "").strip('"'), when, False)
        objects.append((spell(said.get(f"{space}Key", "")), listed))
    folders = [
        spell(item.findtext(f"{space}Prefix", ""))
        for item in root.iterfind(f"{space}CommonPrefixes")
    ]
    return _Page(objects, folders, root.findtext(f"{space}IsTruncated") == "true")
