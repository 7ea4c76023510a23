"""The objects that the archive lists, and where a symbol begins; read over httpx.

Requests are anonymous ListObjects (version 1) in path style. Every prefix ends in ``/``, and
is read from the first requested day on, since keys sort by date. Long ranges are split into
pieces of about a page, which are read concurrently.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import zlib
from collections.abc import (
    AsyncGenerator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Self, TypeVar
from urllib.parse import quote

import anyio  # noqa: F401 - otherwise httpx imports both during the first request
import httpcore  # noqa: F401
import httpx

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

#: Most keys in one page of S3.
PAGE = 1_000
#: Requests in flight.
_CONCURRENCY = 32
_TRIES = 5
#: Seconds without a byte after which a request is repeated, if `timeout` is not shorter.
_PATIENCE = 30.0
#: Bytes of one page, decompressed: 1,000 keys of 1,024 bytes each, percent-encoded, take half.
_LARGEST_PAGE = 8 << 20
#: Bytes per second that count as progress once a page has taken longer than `timeout`.
_SLOWEST = 1 << 10
#: Pages of one listing: a million objects within the days of one piece, or as many symbols.
_MOST_PAGES = 2_000

T = TypeVar("T")


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

    Attributes
    ----------
    ignored : dict of str to list of str
        Keys and folders that were listed under a prefix they do not start with, by prefix.

    Raises
    ------
    ConfigurationError
        If the environment names an invalid proxy or a file without certificates.
    """

    def __init__(self, endpoint: str, bucket: str, timeout: float = 300) -> None:
        self.ignored: dict[str, list[str]] = {}
        self._url = f"{endpoint}/{bucket}"
        route = Route.to(endpoint)
        self._address = f"{self._url}{route.through}"
        self._timeout = timeout
        self._patience = min(timeout, _PATIENCE)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(self._patience, pool=None),
            limits=httpx.Limits(max_connections=_CONCURRENCY),
            # The only coding that is decompressed here, within a limit.
            headers={"user-agent": "binance-archive-kit", "accept-encoding": "gzip"},
            # By default httpx parses all certificates anew, even for plain HTTP.
            verify=route.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxy=route.proxy,
            trust_env=False,
        )
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

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
        pieces = list(_pieces(folder, spans))
        *_, last = await gather(self._list_piece(folder, piece, listing) for piece in pieces)
        listing.ends = not last
        if format_period(pieces[0][0], folder.partition) not in listing.objects:
            listing.probed = True
            listing.first = await self._find_first_period(folder, listing)
        await self._list_misnamed(folder, spans, listing)
        return listing

    async def _list_misnamed(
        self, folder: Folder, spans: Sequence[Span], listing: FolderListing
    ) -> None:
        """List keys with an unpadded month, which sort after their year, if files are missing."""
        first = listing.first or min(listing.objects, default="9999")
        last = max(listing.objects, default="") if listing.ends else "9999"
        starts = (start for span in spans for start in periods(*span, folder.partition))
        missing = {
            period[:4]
            for period in (format_period(start, folder.partition) for start in starts)
            if first < period < last
            and period not in listing.objects
            and period not in listing.misnamed
        }
        head = f"{folder.prefix}{folder.stem}"

        async def list_year(year: str) -> None:
            page = await self._page(f"{head}{year}-", f"{head}{year}-13", PAGE)
            for key, _ in page.objects:
                _period(key, head, folder.partition, listing)

        await gather(map(list_year, sorted(missing)))

    async def _find_first_period(self, folder: Folder, listing: FolderListing) -> str | None:
        """Return the period of the folder's first file; other keys may precede it."""
        head = f"{folder.prefix}{folder.stem}"
        async with aclosing(self._pages(folder.prefix, head, 2)) as pages:
            async for page in pages:
                for key in sorted(key for key, _ in page.objects):
                    if not key.startswith(head):
                        return None
                    if (period := _period(key, head, folder.partition, listing)) is not None:
                        return period
        return None

    async def _list_piece(self, folder: Folder, piece: Span, listing: FolderListing) -> bool:
        """List the days of one piece; return whether a key follows them."""
        start, end = (format_period(day, folder.partition) for day in piece)
        # Without ".zip" the marker sorts right before the first day's own key.
        head = f"{folder.prefix}{folder.stem}"
        marker = f"{head}{start}"
        last = f"{folder.key(end)}{CHECKSUM_SUFFIX}"
        # One more than needed shows whether anything follows.
        wanted = 2 * sum(1 for _ in periods(*piece, folder.partition)) + 1
        async with aclosing(self._pages(folder.prefix, marker, min(PAGE, wanted))) as pages:
            async for page in pages:
                checksums = {key for key, _ in page.objects if key.endswith(CHECKSUM_SUFFIX)}
                for key, listed in page.objects:
                    period = _period(key, head, folder.partition, listing)
                    if period is None or key > last:
                        continue
                    # Only keys that start with the zip's sort between it and its sidecar.
                    cut = page.truncated and page.objects[-1][0].startswith(key)
                    checksum = cut or f"{key}{CHECKSUM_SUFFIX}" in checksums
                    listing.objects[period] = replace(listed, checksum=checksum)
                if any(key > last for key, _ in page.objects):
                    return True
        return False

    async def describe(self, keys: Iterable[str]) -> dict[str, Listed]:
        """List single objects as they are now; omit those that are gone."""

        async def describe_one(key: str) -> tuple[str, Listed] | None:
            page = await self._page(key, "", 2)
            names = {name for name, _ in page.objects}
            for name, listed in page.objects:
                if name == key:
                    return key, replace(listed, checksum=f"{key}{CHECKSUM_SUFFIX}" in names)
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
        found = (_period(key, head, folder.partition, FolderListing()) for key, _ in page.objects)
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
            names = [*(key for key, _ in page.objects), *page.folders]
            for name in names:
                if not name.startswith(prefix):
                    self._ignore(prefix, name)
            page.objects[:] = [
                item for item in page.objects if item[0] > marker and item[0].startswith(prefix)
            ]
            page.folders[:] = [
                name for name in page.folders if name > marker and name.startswith(prefix)
            ]
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
        url = f"{self._url}?" + "&".join(
            f"{name}={quote(value, safe='')}" for name, value in query.items() if value
        )
        async with self._slots:
            body = await self._get(url, prefix)
        try:
            return parse_page(body)
        except InvalidPage as error:
            raise self._error(prefix, f"{error} (it begins {body[:40]!r})") from None

    async def _get(self, url: str, prefix: str) -> bytes:
        """Return the body of an answer; retry with growing pauses."""
        problem, stalled = "", 0.0
        for attempt in range(_TRIES):
            if attempt:
                # Jitter spreads the repeated requests.
                await asyncio.sleep(0.2 * 2**attempt * random.uniform(0.5, 1.5))
            began = asyncio.get_running_loop().time()
            try:
                async with self._client.stream("GET", url) as answer:
                    if answer.status_code == httpx.codes.OK:
                        return await self._body(answer, began)
                    problem = f"status {answer.status_code} {answer.reason_phrase}"
                    status = answer.status_code
            except InvalidPage as error:
                raise self._error(prefix, str(error)) from None
            except (httpx.TimeoutException, TimeoutError) as error:
                problem = f"no answer within {self._patience:g} s ({type(error).__name__})"
                stalled += asyncio.get_running_loop().time() - began
                if stalled >= self._timeout:
                    problem = f"no progress for {self._timeout:g} s (timeout_seconds)"
                    break
                continue
            except (httpx.RequestError, httpx.InvalidURL, OSError) as error:
                problem = _describe(error)
                if "CERTIFICATE_VERIFY_FAILED" in problem or "407" in problem:
                    break
                continue
            if status < 500 and status != httpx.codes.TOO_MANY_REQUESTS:
                raise self._error(prefix, problem, advice_on(problem))
        advice = advice_on(problem) or "check the network and endpoint_url, or try again later"
        raise ListingError(
            f"{self._address} did not list {prefix!r} in {attempt + 1} tries: {problem}; {advice}"
        )

    async def _body(self, answer: httpx.Response, began: float) -> bytes:
        """Return the body of an answer, within the limits of size and time."""
        coding = answer.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip", "x-gzip", ""):
            raise InvalidPage(f"the answer is compressed as {shown(coding)}, unrequested")
        unpacker = zlib.decompressobj(wbits=31) if "gzip" in coding else None
        clock = asyncio.get_running_loop().time
        body = bytearray()
        received = 0
        async for piece in answer.aiter_raw():
            received += len(piece)
            if clock() - began > self._timeout + received / _SLOWEST:
                raise TimeoutError("less than a kilobyte a second")
            if unpacker is not None:
                try:
                    piece = unpacker.decompress(piece, _LARGEST_PAGE + 1 - len(body))
                except zlib.error as error:
                    raise InvalidPage(f"the answer is not valid gzip: {error}") from None
            body += piece
            if len(body) > _LARGEST_PAGE:
                raise InvalidPage(f"the answer has more than {_LARGEST_PAGE >> 20} MiB")
        if unpacker is not None and not unpacker.eof:
            raise InvalidPage("the answer is not valid gzip: it ends too early")
        return bytes(body)


def _describe(error: BaseException) -> str:
    """Return the message of an error, or of the first of its causes that has one."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    message = f": {cause}" if cause is not None else ""
    handshake = isinstance(error, httpx.ConnectError) and not str(error)
    return f"{type(error).__name__}{' in the TLS handshake' if handshake else ''}{message}"


def _pieces(folder: Folder, spans: Iterable[Span]) -> Iterator[Span]:
    """Split runs of days into pieces of about a page, zips and sidecars together."""
    step = timedelta(days=PAGE // 2 if folder.partition is Partition.DAILY else 10_000)
    for start, end in spans:
        while start <= end:
            stop = min(end, start + step - timedelta(days=1))
            yield start, stop
            start = stop + timedelta(days=1)


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
