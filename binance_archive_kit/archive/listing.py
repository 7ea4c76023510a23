"""The objects that the archive lists, and where a symbol begins.

Requests are anonymous ListObjects (version 1) in path style. Every prefix ends in ``/``, and
is read from the first requested day on, since keys sort by date. Long ranges are split into
pieces of about a page, which are read concurrently over libcurl; single pages over httpx.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import zlib
from collections.abc import (
    AsyncGenerator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from binance_archive_kit.archive.curl_pool import (
    Answer,
    Cause,
    CurlPool,
    Limits,
    Outcome,
)
from binance_archive_kit.archive.endpoint import Route, advice_on
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import (
    CHECKSUM_SUFFIX,
    Folder,
    Span,
    format_period,
    is_symbol,
    parse_loose_period,
    periods,
)
from binance_archive_kit.archive.listing_pages import InvalidPage, Listed, Page, parse_page
from binance_archive_kit.display.background import gather
from binance_archive_kit.errors import ListingError, shown

if TYPE_CHECKING:
    from binance_archive_kit.archive.single_requests import SingleRequests

#: Most keys in one page of S3.
PAGE = 1_000
#: Requests in flight.
_CONCURRENCY = 64
_TRIES = 5
#: Seconds without a byte after which a request is repeated, if `timeout` is not shorter.
_PATIENCE = 30.0
#: Bytes of one page, decompressed: 1,000 keys of 1,024 bytes each, percent-encoded, take half.
_LARGEST_PAGE = 8 << 20
#: Pages of one listing: a million objects within the days of one piece, or as many symbols.
_MOST_PAGES = 2_000


@dataclass(slots=True)
class FolderListing:
    """The listed objects of one folder, within the requested days.

    Attributes
    ----------
    objects : dict of str to Listed
        By period, as spelled in the key.
    first : str or None
        Period of the folder's first file; None if there is none, or it was not looked up.
    probed : bool
        The first file was looked up.
    ends : bool
        Nothing is listed after the requested days.
    misnamed : dict of str to str
        Keys without the zeros that all others have, by the period with its zeros.
    """

    objects: dict[str, Listed] = field(default_factory=dict)
    misnamed: dict[str, str] = field(default_factory=dict)
    first: str | None = None
    probed: bool = False
    ends: bool = False


class ListingClient:
    """Lists the objects of a bucket; an async context manager.

    Parameters
    ----------
    endpoint : str
        URL of an S3-compatible endpoint, without the bucket.
    bucket : str
    timeout : float
        Seconds without progress after which a request is given up.
    bulk : bool
        Whether thousands of requests are to be expected; else httpx is used for a few.

    Attributes
    ----------
    ignored : dict of str to list of str
        Keys and folders that were listed under a prefix they do not start with, by prefix.

    Raises
    ------
    ConfigurationError
        If the environment names an invalid proxy or a file without certificates.
    """

    def __init__(
        self, endpoint: str, bucket: str, timeout: float = 300, *, bulk: bool = True
    ) -> None:
        self.ignored: dict[str, list[str]] = {}
        route = Route.to(endpoint)
        self._bucket = f"/{bucket}"
        self._address = f"{endpoint}/{bucket}{route.through}"
        self._timeout = timeout
        self._patience = min(timeout, _PATIENCE)
        limits = Limits(_CONCURRENCY, self._patience, timeout, _LARGEST_PAGE)
        self._requests = _BulkRequests(route, limits) if bulk else _single_requests(route, limits)

    async def __aenter__(self) -> Self:
        await self._requests.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._requests.__aexit__()

    async def list_folders(
        self,
        days: Mapping[Folder, Sequence[Span]],
        on_folder: Callable[[Folder], None] = lambda _: None,
    ) -> dict[Folder, FolderListing]:
        """List the objects of folders, within runs of days.

        If the first of the days is absent, the folder's first file is looked up too, which
        distinguishes the beginning of a symbol from a gap.

        Parameters
        ----------
        days : mapping of Folder to sequence of Span
            For each folder its runs of days, UTC, in order; at least one.
        on_folder : callable, optional
            Called as each folder is done.

        Raises
        ------
        ListingError
            If the endpoint refuses, or keeps failing.
        """

        async def list_one(folder: Folder, spans: Sequence[Span]) -> FolderListing:
            found = await self._list_folder(folder, spans)
            on_folder(folder)
            return found

        listings = await gather(list_one(*item) for item in days.items())
        # In the order of the request, not of the answers: explanations name the first that fits.
        return dict(zip(days, listings, strict=True))

    async def _list_folder(self, folder: Folder, spans: Sequence[Span]) -> FolderListing:
        listing = FolderListing()
        pieces = _pieces(tuple(spans), folder.partition)
        found = [self._list_piece(folder, piece, listing) for piece in pieces]
        # One piece, as nearly always, needs no task of its own.
        listing.ends = not (await found[0] if len(found) == 1 else (await gather(found))[-1])
        if pieces[0].periods[0] not in listing.objects:
            listing.probed = True
            listing.first = await self._find_first_period(folder, listing)
        await self._list_misnamed(folder, pieces, listing)
        return listing

    async def _list_misnamed(
        self, folder: Folder, pieces: Sequence[_Piece], listing: FolderListing
    ) -> None:
        """List keys with an unpadded month, which sort after their year, if files are missing."""
        absent = [
            period
            for piece in pieces
            for period in piece.periods
            if period not in listing.objects and period not in listing.misnamed
        ]
        if not absent:
            return
        first = listing.first or min(listing.objects, default="9999")
        last = max(listing.objects, default="") if listing.ends else "9999"
        head = f"{folder.prefix}{folder.stem}"

        async def list_year(year: str) -> None:
            page = await self._page(f"{head}{year}-", f"{head}{year}-13", PAGE)
            for key in page.keys:
                _period(key, head, folder.partition, listing)

        missing = {period[:4] for period in absent if first < period < last}
        await gather(map(list_year, sorted(missing)))

    async def _find_first_period(self, folder: Folder, listing: FolderListing) -> str | None:
        """Return the period of the folder's first file; other keys may precede it."""
        head = f"{folder.prefix}{folder.stem}"
        async with aclosing(self._pages(folder.prefix, head, 2)) as pages:
            async for page in pages:
                for key in sorted(page.keys):
                    if not key.startswith(head):
                        return None
                    if (period := _period(key, head, folder.partition, listing)) is not None:
                        return period
        return None

    async def _list_piece(self, folder: Folder, piece: _Piece, listing: FolderListing) -> bool:
        """List the days of one piece; return whether a key follows them."""
        # Without ".zip" the marker sorts right before the first day's own key.
        head = f"{folder.prefix}{folder.stem}"
        marker = f"{head}{piece.periods[0]}"
        last = f"{folder.key(piece.periods[-1])}{CHECKSUM_SUFFIX}"
        # One more than needed shows whether anything follows.
        wanted = 2 * len(piece.periods) + 1
        async with aclosing(self._pages(folder.prefix, marker, min(PAGE, wanted))) as pages:
            async for page in pages:
                keys = set(page.keys)
                for key, size, etag, modified in page.rows():
                    if not key.endswith(".zip"):
                        continue
                    # Looking an expected key up takes far less time than parsing it.
                    period = piece.by_ending.get(key[len(head) :]) if key <= last else None
                    if period is None or not key.startswith(head):
                        period = _period(key, head, folder.partition, listing)
                    if period is None or key > last:
                        continue
                    # Only keys that start with the zip's sort between it and its sidecar.
                    cut = page.truncated and page.keys[-1].startswith(key)
                    checksum = cut or f"{key}{CHECKSUM_SUFFIX}" in keys
                    listing.objects[period] = Listed(size, etag, modified, checksum)
                if page.keys and max(page.keys) > last:
                    return True
        return False

    async def describe(self, keys: Iterable[str]) -> dict[str, Listed]:
        """List single objects as they are now; omit those that are gone."""

        async def describe_one(key: str) -> tuple[str, Listed] | None:
            page = await self._page(key, "", 2)
            for name, size, etag, modified in page.rows():
                if name == key:
                    checksum = f"{key}{CHECKSUM_SUFFIX}" in page.keys
                    return key, Listed(size, etag, modified, checksum)
            return None

        return dict(filter(None, await gather(describe_one(key) for key in keys)))

    async def periods(
        self, folder: Folder, after: str = "", keys: int = PAGE
    ) -> tuple[list[str], bool]:
        """List one page of the periods of a folder, as in the keys; and whether more may follow.

        Parameters
        ----------
        folder : Folder
        after : str
            The period to begin with; empty for the first one.
        keys : int
            Most keys of the page, checksums included.
        """
        head = f"{folder.prefix}{folder.stem}"
        async with aclosing(self._pages(folder.prefix, f"{head}{after}", keys)) as pages:
            page = await anext(pages)
        found = (_period(key, head, folder.partition, FolderListing()) for key in page.keys)
        return [period for period in found if period is not None], page.truncated

    async def symbols(self, parent: str) -> list[str]:
        """List the symbols below a feed's prefix, such as ``data/spot/daily/trades/``."""
        symbols: dict[str, None] = {}
        async with aclosing(self._pages(parent, "", PAGE, delimiter="/")) as pages:
            async for page in pages:
                for folder in page.folders:
                    symbol = folder.removeprefix(parent).removesuffix("/")
                    if is_symbol(symbol):
                        symbols[symbol] = None
                    else:
                        self._ignore(parent, folder)
        return list(symbols)

    def notes(self) -> list[str]:
        """Return one note for each prefix with ignored keys."""
        return [
            f"listing: {len(keys):,} keys under {prefix!r} do not belong there, such as "
            f"{shown(keys[0])}; ignored"
            for prefix, keys in self.ignored.items()
        ]

    def _ignore(self, prefix: str, key: str) -> None:
        self.ignored.setdefault(prefix, []).append(key)

    async def _pages(
        self, prefix: str, marker: str, keys: int, delimiter: str = ""
    ) -> AsyncGenerator[Page, None]:
        """Yield the pages after a marker, without keys outside the prefix.

        Raises
        ------
        ListingError
            If the pages repeat, or do not end.
        """
        for _ in range(_MOST_PAGES):
            page = await self._page(prefix, marker, keys, delimiter)
            names = [*page.keys, *page.folders]
            if not all(map(str.startswith, names, repeat(prefix))):
                for name in names:
                    if not name.startswith(prefix):
                        self._ignore(prefix, name)
            page.keep(prefix, marker)
            yield page
            if not page.truncated:
                return
            # NextMarker counts only if the page has no key of this prefix.
            matching = [name for name in names if name.startswith(prefix)]
            after, marker = marker, max(matching, default=page.following)
            if marker <= after or not marker.startswith(prefix):
                raise self._error(
                    prefix,
                    f"its next page would begin again at {shown(after)}; the endpoint seems to "
                    "ignore the parameter marker of ListObjects, version 1",
                )
        raise self._error(prefix, f"it has more than {_MOST_PAGES:,} pages")

    def _error(self, prefix: str, problem: str, advice: str = "") -> ListingError:
        advice = advice or "check endpoint_url, or plan without the listing (listing=False)"
        return ListingError(f"{self._address} does not list {prefix!r}: {problem}; {advice}")

    async def _page(self, prefix: str, marker: str, keys: int, delimiter: str = "") -> Page:
        query = {"prefix": prefix, "marker": marker, "max-keys": str(keys), "encoding-type": "url"}
        if delimiter:
            query["delimiter"] = delimiter
        path = f"{self._bucket}?" + "&".join(
            f"{name}={quote(value, safe='')}" for name, value in query.items() if value
        )
        body = await self._get(path, prefix)
        try:
            return parse_page(body)
        except InvalidPage as error:
            raise self._error(prefix, f"{error} (it begins {body[:40]!r})") from None

    async def _get(self, path: str, prefix: str) -> bytes:
        """Return the body of an answer; retry with growing pauses."""
        problem, stalled, wait = "", 0.0, 0.0
        for attempt in range(_TRIES):
            if attempt:
                # Jitter spreads the repeated requests.
                pause = 0.2 * 2**attempt * random.uniform(0.5, 1.5)
                await asyncio.sleep(max(pause, min(wait, self._patience)))
            outcome = await self._requests.send(path)
            if isinstance(outcome, Answer):
                if outcome.status == http.client.OK:
                    try:
                        return _body(outcome)
                    except InvalidPage as error:
                        raise self._error(prefix, str(error)) from None
                problem = f"status {outcome.status} {http.client.responses.get(outcome.status, '')}"
                if outcome.status < 500 and outcome.status != http.client.TOO_MANY_REQUESTS:
                    raise self._error(prefix, problem.strip(), advice_on(problem))
                wait = outcome.retry_after()
                continue
            problem, wait = outcome.message, 0
            if outcome.cause is Cause.STALLED:
                problem = f"no answer within {self._patience:g} s"
                stalled += outcome.seconds
                if stalled >= self._timeout:
                    problem = f"no progress for {self._timeout:g} s (timeout_seconds)"
                    break
            elif outcome.cause is Cause.TOO_LARGE:
                raise self._error(prefix, _TOO_LARGE)
            elif outcome.cause is Cause.REFUSED:
                break
        advice = advice_on(problem) or "check the network and endpoint_url, or try again later"
        raise ListingError(
            f"{self._address} did not list {prefix!r} in {attempt + 1} tries: {problem}; {advice}"
        )


def _single_requests(route: Route, limits: Limits) -> SingleRequests:
    """Import httpx only for the catalogue of symbols."""
    from binance_archive_kit.archive.single_requests import SingleRequests

    return SingleRequests(route, limits)


@dataclass(slots=True, eq=False)
class _PageRequest:
    """A request for a page, and its outcome."""

    path: str
    outcome: asyncio.Future[Outcome]

    def end(self, outcome: Outcome) -> None:
        if not self.outcome.done():  # cancelled
            self.outcome.set_result(outcome)


class _BulkRequests:
    """Sends requests over libcurl, many at once; an async context manager."""

    def __init__(self, route: Route, limits: Limits) -> None:
        self._pool = CurlPool[_PageRequest](
            route,
            lambda request: request.path,
            _PageRequest.end,
            limits,
            # The only coding that is decompressed here, within a limit.
            ["Accept-Encoding: gzip"],
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.__aexit__()

    async def send(self, path: str) -> Outcome:
        """Request a path and query; return the answer, or why there is none."""
        request = _PageRequest(path, asyncio.get_running_loop().create_future())
        self._pool.send([request])
        return await request.outcome


_TOO_LARGE = f"the answer has more than {_LARGEST_PAGE >> 20} MiB"


def _body(answer: Answer) -> bytes:
    """Return the body of an answer, decompressed within the limit of size.

    Raises
    ------
    InvalidPage
        If it is compressed in another way or too much, or not valid gzip.
    """
    coding = answer.header("content-encoding") or "identity"
    if coding == "identity":
        return answer.body
    if coding not in ("gzip", "x-gzip"):
        raise InvalidPage(f"the answer is compressed as {shown(coding)}, unrequested")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        body = unpacker.decompress(answer.body, _LARGEST_PAGE + 1)
    except zlib.error as error:
        raise InvalidPage(f"the answer is not valid gzip: {error}") from None
    if len(body) > _LARGEST_PAGE:
        raise InvalidPage(_TOO_LARGE)
    if not unpacker.eof:
        raise InvalidPage("the answer is not valid gzip: it ends too early")
    return body


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of days of about a page: its periods as in the keys, and by the end of the key."""

    periods: tuple[str, ...]
    by_ending: Mapping[str, str]


@lru_cache(maxsize=16)  # most folders are requested for the same days
def _pieces(spans: Sequence[Span], partition: Partition) -> tuple[_Piece, ...]:
    """Split runs of days into pieces of about a page, zips and sidecars together."""
    step = timedelta(days=PAGE // 2 if partition is Partition.DAILY else 10_000)
    pieces = []
    for start, end in spans:
        while start <= end:
            stop = min(end, start + step - timedelta(days=1))
            names = tuple(format_period(day, partition) for day in periods(start, stop, partition))
            pieces.append(_Piece(names, {f"{name}.zip": name for name in names}))
            start = stop + timedelta(days=1)
    return tuple(pieces)


def _period(key: str, head: str, partition: Partition, listing: FolderListing) -> str | None:
    """Return the period of a zip; None for other keys. Misnamed zips are noted in `listing`."""
    if not (key.startswith(head) and key.endswith(".zip")):
        return None
    written = key[len(head) : -len(".zip")]
    start = parse_loose_period(written, partition)
    if start is None:
        return None
    period = format_period(start, partition)
    if period != written:
        listing.misnamed[period] = key
        return None
    return period
