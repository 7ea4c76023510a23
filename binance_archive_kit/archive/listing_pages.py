"""Parse and check pages of a listing: the XML answers of S3-compatible endpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import unquote
from xml.etree import ElementTree

from binance_archive_kit.errors import shown

#: Tags of one page: a thousand objects of 16 fields have 33 each.
_MOST_TAGS = 100_000
#: Digits of a size: a petabyte.
_MOST_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Listed:
    """One zip as the archive lists it."""

    size: int
    etag: str
    last_modified: str
    checksum: bool


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; its keys are in ascending order if more pages follow."""

    objects: list[tuple[str, Listed]]
    folders: list[str]
    truncated: bool
    #: The marker of the next page, if the endpoint returns one.
    following: str = ""


class InvalidPage(ValueError):
    """An answer that is not a page of a listing; the message is the reason."""


def parse_page(body: bytes) -> Page:
    """Parse one page of a listing.

    Raises
    ------
    InvalidPage
        If it is anything else, such as the HTML page of a web front end, or incomplete.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidPage(f"the answer is not UTF-8: {error.reason}") from None
    # Elements take far more memory than their text, and entities multiply it.
    if "<!" in text and ("<!DOCTYPE" in text or "<!ENTITY" in text):
        raise InvalidPage("the answer is not a listing but a page with a document type")
    if text.count("<") > _MOST_TAGS or text.count("=") > _MOST_TAGS:
        raise InvalidPage("the answer has more elements than a page can have")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - without a document type, no entities
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidPage(f"the answer is not XML: {error}") from None
    space, _, name = root.tag.rpartition("}")
    if name != "ListBucketResult":
        raise InvalidPage(f"the answer is not a listing but <{shown(name)[1:-1]}>")
    space = f"{space}}}" if space else ""
    truncated = root.findtext(f"{space}IsTruncated", "").strip().lower()
    if truncated not in ("true", "false"):
        raise InvalidPage(f"IsTruncated is {shown(truncated)} and neither true nor false")
    # S3 states whether it has percent-encoded the keys as requested.
    decode = _decode if root.findtext(f"{space}EncodingType") == "url" else str
    objects: list[tuple[str, Listed]] = []
    for item in root.iterfind(f"{space}Contents"):
        fields = {field.tag: field.text or "" for field in item}
        key, size = decode(fields.get(f"{space}Key", "")), fields.get(f"{space}Size", "")
        if not key:
            raise InvalidPage("an object of it has no Key")
        if not (size.isascii() and size.isdigit() and len(size) <= _MOST_DIGITS):
            raise InvalidPage(f"the Size {shown(size)} of {shown(key)} is not a number of bytes")
        modified, etag = fields.get(f"{space}LastModified", ""), fields.get(f"{space}ETag", "")
        objects.append((key, Listed(int(size), etag.strip('"'), modified, False)))
    folders = [
        decode(item.findtext(f"{space}Prefix", ""))
        for item in root.iterfind(f"{space}CommonPrefixes")
    ]
    if not all(folders):
        raise InvalidPage("a folder of it has no Prefix")
    page = Page(objects, folders, truncated == "true")
    if page.truncated:
        keys = [key for key, _ in objects]
        if keys != sorted(keys) or folders != sorted(folders):
            raise InvalidPage("its keys are not in order, so the next page cannot be found")
        page = replace(page, following=decode(root.findtext(f"{space}NextMarker", "")))
    return page


def _decode(key: str) -> str:
    """Decode a percent-encoded key."""
    try:
        return unquote(key, errors="strict")
    except UnicodeDecodeError:
        raise InvalidPage(f"the key {shown(key)} is not UTF-8") from None
