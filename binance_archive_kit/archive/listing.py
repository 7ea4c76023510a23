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
import zlib
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote
from xml.etree import ElementTree

import anyio  # noqa: F401 - else httpx imports both in the middle of the first request
import httpcore  # noqa: F401
import httpx

from binance_archive_kit.archive.endpoint import Route, advice_on
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import (
    CHECKSUM_SUFFIX,
    Folder,
    Span,
    is_symbol,
    parse_period,
    periods,
    spell_period,
    unpadded_period,
)
from binance_archive_kit.errors import ListingError, shown

#: Keys an S3 listing gives at most.
PAGE = 1_000
#: Requests in flight.
_CONCURRENCY = 32
_TRIES = 5
#: Seconds without a byte after which a request is repeated, if `timeout` is not shorter.
_PATIENCE = 30.0
#: Bytes of one page, decompressed: 1,000 keys of 1,024 bytes each, percent-encoded, take half.
_LARGEST_PAGE = 8 << 20
#: Bytes a second that count as progress once a page has taken longer than `timeout`.
_SLOWEST = 1 << 10
#: Tags of one page: a thousand objects of 16 fields have 33 each.
_MOST_TAGS = 100_000
#: Pages of one listing: a million objects within the days of one piece, or as many symbols.
_MOST_PAGES = 2_000
#: Digits of a size: a petabyte.
_MOST_DIGITS = 15

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """One zip as the archive lists it."""

    size: int
    etag: str
    last_modified: str
    checksum: bool


@dataclass(slots=True)
class StreamListing:
    """What the archive lists of one stream, within the days asked for.

    Attributes
    ----------
    objects : dict of str to Listed
        By period, as spelled in the key.
    first : str or None
        Period of the stream's very first file, known when `probed`.
    ends : bool
        Nothing is listed after the days asked for.
    misnamed : dict of str to str
        Keys without the zeros that all others have, by the period that is meant.
    """

    objects: dict[str, Listed] = field(default_factory=dict)
    misnamed: dict[str, str] = field(default_factory=dict)
    first: str | None = None
    probed: bool = False
    ends: bool = False


@dataclass(frozen=True, slots=True)
class _Page:
    """One page of a listing, its keys in ascending order if more follow."""

    objects: list[tuple[str, Listed]]
    folders: list[str]
    truncated: bool
    #: Where the next page begins, if the endpoint says so.
    following: str = ""


class _Invalid(ValueError):
    """An answer that is not the page of a listing; says why."""


class ListingClient:
    """A bucket that can be listed; an async context manager.

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
        Keys and folders that do not belong to the prefix they were listed under, by prefix.

    Raises
    ------
    ConfigurationError
        If the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, endpoint: str, bucket: str, timeout: float = 300) -> None:
        self.ignored: dict[str, list[str]] = {}
        self._url = f"{endpoint}/{bucket}"
        route = Route.to(endpoint)
        self._where = f"{self._url}{route.through}"
        self._timeout = timeout
        self._patience = min(timeout, _PATIENCE)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(self._patience, pool=None),
            limits=httpx.Limits(max_connections=_CONCURRENCY),
            # Only what is decompressed here, within a limit.
            headers={"user-agent": "binance-archive-kit", "accept-encoding": "gzip"},
            # Else httpx reads all authorities anew, for an endpoint without TLS too.
            verify=route.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxy=route.proxy,
            trust_env=False,
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

    async def list_folders(
        self,
        days: Mapping[Folder, Sequence[Span]],
        on_folder: Callable[[Folder], None] = lambda _: None,
    ) -> dict[Folder, StreamListing]:
        """List the objects of folders, within runs of days.

        Where the first of the days is absent, the folder's very first file is looked up too,
        so that the beginning of a symbol is distinguished from a hole.

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
        found: dict[Folder, StreamListing] = {}

        async def list_one(folder: Folder, spans: Sequence[Span]) -> None:
            found[folder] = await self._list_folder(folder, spans)
            on_folder(folder)

        await _together(list_one(*item) for item in days.items())
        return found

    async def _list_folder(self, folder: Folder, spans: Sequence[Span]) -> StreamListing:
        listing = StreamListing()
        pieces = list(_pieces(folder, spans))
        *_, last = await _together(self._list_piece(folder, piece, listing) for piece in pieces)
        listing.ends = not last
        opening = spell_period(pieces[0][0], folder.partition)
        if opening not in listing.objects:
            listing.probed = True
            listing.first = await self._first_period(folder, listing)
        await self._list_misnamed(folder, spans, listing)
        return listing

    async def _list_misnamed(
        self, folder: Folder, spans: Sequence[Span], listing: StreamListing
    ) -> None:
        """List keys with an unpadded month, which sort after their year, if files are missing."""
        first = listing.first or min(listing.objects, default="9999")
        last = max(listing.objects, default="") if listing.ends else "9999"
        starts = (start for span in spans for start in periods(*span, folder.partition))
        missing = {
            period[:4]
            for period in (spell_period(start, folder.partition) for start in starts)
            if first < period < last
            and period not in listing.objects
            and period not in listing.misnamed
        }
        head = f"{folder.prefix}{folder.stem}"

        async def list_year(year: str) -> None:
            page = await self._page(f"{head}{year}-", f"{head}{year}-13", PAGE)
            for key, _ in page.objects:
                _note_misnamed(folder, key, listing)

        await _together(map(list_year, sorted(missing)))

    async def _first_period(self, folder: Folder, listing: StreamListing) -> str | None:
        """Return the period of a stream's first file, whatever other keys precede it."""
        head = f"{folder.prefix}{folder.stem}"
        async with aclosing(self._pages(folder.prefix, head, 2)) as pages:
            async for page in pages:
                for key, _ in page.objects:
                    if not key.startswith(head):
                        return None
                    period = key.removeprefix(head).removesuffix(".zip")
                    if key.endswith(".zip") and _is_period(period, folder.partition):
                        return period
                    _note_misnamed(folder, key, listing)
        return None

    async def _list_piece(self, folder: Folder, piece: Span, listing: StreamListing) -> bool:
        """List the days of one piece; return whether something follows it."""
        head = f"{folder.prefix}{folder.stem}"
        start, end = (spell_period(day, folder.partition) for day in piece)
        # Without ".zip" the marker sorts right before the first day's own key.
        marker = f"{head}{start}"
        beyond = f"{head}{end}.zip{CHECKSUM_SUFFIX}"
        # One more than needed tells whether anything follows.
        wanted = 2 * sum(1 for _ in periods(*piece, folder.partition)) + 1
        async with aclosing(self._pages(folder.prefix, marker, min(PAGE, wanted))) as pages:
            async for page in pages:
                checksums = {key for key, _ in page.objects if key.endswith(CHECKSUM_SUFFIX)}
                follows = False
                for key, listed in page.objects:
                    period = key.removeprefix(head).removesuffix(".zip")
                    right = key.endswith(".zip") and _is_period(period, folder.partition)
                    if not right:
                        _note_misnamed(folder, key, listing)
                    if key > beyond:
                        follows = True
                        continue
                    if not right:
                        continue
                    # The sidecar sorts right after its zip; only a page's end can part them.
                    alone = page.truncated and key == page.objects[-1][0]
                    checksum = alone or f"{key}{CHECKSUM_SUFFIX}" in checksums
                    listing.objects[period] = Listed(
                        listed.size, listed.etag, listed.last_modified, checksum
                    )
                if follows:
                    return True
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
    ) -> AsyncGenerator[_Page, None]:
        """Yield the pages after a marker, without what is not asked for.

        Raises
        ------
        ListingError
            If the pages do not move on, or have no end.
        """
        for _ in range(_MOST_PAGES):
            page = await self._page(prefix, marker, keys, delimiter)
            names = [*(key for key, _ in page.objects), *page.folders]
            for name in names:
                if not name.startswith(prefix):
                    self._ignore(prefix, name)
            after = marker
            page.objects[:] = [
                each for each in page.objects if each[0] > after and each[0].startswith(prefix)
            ]
            page.folders[:] = [
                each for each in page.folders if each > after and each.startswith(prefix)
            ]
            yield page
            if not page.truncated:
                return
            # Never beyond what was seen: NextMarker counts on a page that has nothing of ours.
            own = [name for name in names if name.startswith(prefix)]
            marker = max(own) if own else page.following
            if marker <= after or not marker.startswith(prefix):
                raise self._error(
                    prefix,
                    f"its next page would begin again at {shown(after)}; the endpoint seems not "
                    "to know the parameter marker of ListObjects, version 1",
                )
        raise self._error(prefix, f"it has more than {_MOST_PAGES:,} pages")

    def _error(self, prefix: str, problem: str, advice: str = "") -> ListingError:
        advice = advice or "check endpoint_url, or plan without the listing (listing=False)"
        return ListingError(f"{self._where} does not list {prefix!r}: {problem}; {advice}")

    async def _page(self, prefix: str, marker: str, keys: int, delimiter: str = "") -> _Page:
        query = {"prefix": prefix, "marker": marker, "max-keys": str(keys), "encoding-type": "url"}
        if delimiter:
            query["delimiter"] = delimiter
        url = f"{self._url}?" + "&".join(
            f"{name}={quote(value, safe='')}" for name, value in query.items() if value
        )
        async with self._slots:
            body = await self._get(url, prefix)
        try:
            return _read_page(body)
        except _Invalid as error:
            raise self._error(prefix, f"{error} (it begins {body[:40]!r})") from None

    async def _get(self, url: str, prefix: str) -> bytes:
        """Ask until there is an answer, waiting longer each time."""
        problem, stalled = "", 0.0
        for attempt in range(_TRIES):
            if attempt:
                # Jitter keeps many waiting requests from coming back at once.
                await asyncio.sleep(0.2 * 2**attempt * random.uniform(0.5, 1.5))
            began = asyncio.get_running_loop().time()
            try:
                async with self._client.stream("GET", url) as answer:
                    if answer.status_code == httpx.codes.OK:
                        return await self._body(answer, began)
                    problem = f"status {answer.status_code} {answer.reason_phrase}"
                    status = answer.status_code
            except _Invalid as error:
                raise self._error(prefix, str(error)) from None
            except (httpx.TimeoutException, TimeoutError) as error:
                problem = f"no answer within {self._patience:g} s ({type(error).__name__})"
                stalled += asyncio.get_running_loop().time() - began
                if stalled >= self._timeout:
                    problem = f"no progress for {self._timeout:g} s (timeout_seconds)"
                    break
                continue
            except (httpx.RequestError, httpx.InvalidURL, OSError) as error:
                problem = _in_words(error)
                if "CERTIFICATE_VERIFY_FAILED" in problem or "407" in problem:
                    break
                continue
            if status < 500 and status != httpx.codes.TOO_MANY_REQUESTS:
                raise self._error(prefix, problem, advice_on(problem))
        advice = advice_on(problem) or "check the network and endpoint_url, or try again later"
        raise ListingError(
            f"{self._where} did not list {prefix!r} in {attempt + 1} tries: {problem}; {advice}"
        )

    async def _body(self, answer: httpx.Response, began: float) -> bytes:
        """Read the body of an answer, within the limits of size and time."""
        coding = answer.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip", "x-gzip", ""):
            raise _Invalid(f"the answer is compressed as {shown(coding)}, which was not asked for")
        unpacker = zlib.decompressobj(wbits=31) if "gzip" in coding else None
        clock = asyncio.get_running_loop().time
        body = bytearray()
        come = 0
        async for piece in answer.aiter_raw():
            come += len(piece)
            if clock() - began > self._timeout + come / _SLOWEST:
                raise TimeoutError("less than a kilobyte a second")
            if unpacker is not None:
                try:
                    piece = unpacker.decompress(piece, _LARGEST_PAGE + 1 - len(body))
                except zlib.error as error:
                    raise _Invalid(f"the answer is not valid gzip: {error}") from None
            body += piece
            if len(body) > _LARGEST_PAGE:
                raise _Invalid(f"the answer has more than {_LARGEST_PAGE >> 20} MiB")
        if unpacker is not None and not unpacker.eof:
            raise _Invalid("the answer is not valid gzip: it ends too early")
        return bytes(body)


def _in_words(error: BaseException) -> str:
    """Return the message of an error, or of the first of its causes that has one."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    said = f": {cause}" if cause is not None else ""
    handshake = isinstance(error, httpx.ConnectError) and not str(error)
    return f"{type(error).__name__}{' in the TLS handshake' if handshake else ''}{said}"


async def _together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all at once; if one fails, end the others before saying so."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _pieces(folder: Folder, spans: Iterable[Span]) -> Iterator[Span]:
    """Split runs of days into pieces of about a page, zips and sidecars together."""
    step = timedelta(days=PAGE // 2 if folder.partition is Partition.DAILY else 10_000)
    for start, end in spans:
        while start <= end:
            stop = min(end, start + step - timedelta(days=1))
            yield start, stop
            start = stop + timedelta(days=1)


def _note_misnamed(folder: Folder, key: str, listing: StreamListing) -> None:
    """Note a key whose period is written without zeros."""
    head = f"{folder.prefix}{folder.stem}"
    if key.startswith(head) and key.endswith(".zip"):
        period = key.removeprefix(head).removesuffix(".zip")
        if (meant := unpadded_period(period, folder.partition)) is not None:
            listing.misnamed[meant] = key


def _is_period(text: str, partition: Partition) -> bool:
    try:
        parse_period(text, partition)
    except ValueError:
        return False
    return True


def _read_page(body: bytes) -> _Page:
    """Parse one page of XML.

    Raises
    ------
    _Invalid
        If it is something else, such as the HTML page of a web front end, or incomplete.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _Invalid(f"the answer is not UTF-8: {error.reason}") from None
    # Elements take far more memory than their text, and entities multiply it.
    if "<!" in text and ("<!DOCTYPE" in text or "<!ENTITY" in text):
        raise _Invalid("the answer is not a listing but a page with a document type")
    if text.count("<") > _MOST_TAGS or text.count("=") > _MOST_TAGS:
        raise _Invalid("the answer has more elements than a page can have")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - without a document type, no entities
    except (ElementTree.ParseError, ValueError) as error:
        raise _Invalid(f"the answer is not XML: {error}") from None
    space, _, name = root.tag.rpartition("}")
    if name != "ListBucketResult":
        raise _Invalid(f"the answer is not a listing but <{shown(name)[1:-1]}>")
    space = f"{space}}}" if space else ""
    truncated = root.findtext(f"{space}IsTruncated", "").strip().lower()
    if truncated not in ("true", "false"):
        raise _Invalid(f"it does not say whether it is complete (IsTruncated {shown(truncated)})")
    # S3 says whether it has percent-encoded the keys as it was asked to.
    spell = _decoded if root.findtext(f"{space}EncodingType") == "url" else str
    objects: list[tuple[str, Listed]] = []
    for item in root.iterfind(f"{space}Contents"):
        said = {field.tag: field.text or "" for field in item}
        key, size = spell(said.get(f"{space}Key", "")), said.get(f"{space}Size", "")
        if not key:
            raise _Invalid("an object of it has no Key")
        if not (size.isascii() and size.isdigit() and len(size) <= _MOST_DIGITS):
            raise _Invalid(f"the Size {shown(size)} of {shown(key)} is not a number of bytes")
        when, etag = said.get(f"{space}LastModified", ""), said.get(f"{space}ETag", "")
        objects.append((key, Listed(int(size), etag.strip('"'), when, False)))
    folders = [
        spell(item.findtext(f"{space}Prefix", ""))
        for item in root.iterfind(f"{space}CommonPrefixes")
    ]
    if not all(folders):
        raise _Invalid("a folder of it has no Prefix")
    page = _Page(objects, folders, truncated == "true")
    if page.truncated:
        keys = [key for key, _ in objects]
        if keys != sorted(keys) or folders != sorted(folders):
            raise _Invalid("its keys are not in order, so the next page cannot be found")
        page = replace(page, following=spell(root.findtext(f"{space}NextMarker", "")))
    return page


def _decoded(key: str) -> str:
    """Decode a percent-encoded key."""
    try:
        return unquote(key, errors="strict")
    except UnicodeDecodeError:
        raise _Invalid(f"the key {shown(key)} is not UTF-8") from None
