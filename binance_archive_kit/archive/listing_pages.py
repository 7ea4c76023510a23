"""Parse and check pages of a listing: the XML answers of S3-compatible endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress, repeat
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

from binance_archive_kit.errors import shown

#: Tags of one page: a thousand objects of 16 fields have 33 each.
_MOST_TAGS = 100_000
#: Digits of a size: a petabyte.
_MOST_DIGITS = 15
#: Bytes that a text of XML may have; a carriage return would have to become a line feed.
_LEGAL = bytes([9, 10, *range(32, 256)])
_OBJECT, _END = "<Contents>", "</Contents>"
_FIELDS = ("Key", "Size", "ETag", "LastModified")
#: The texts of the fields of all objects, by the name of the field.
_Fields = dict[str, list[str]]


class Listed(NamedTuple):
    """One zip as the archive lists it."""

    size: int
    etag: str
    last_modified: str
    checksum: bool


@dataclass(slots=True)
class Page:
    """One page of a listing; its keys are in ascending order if more pages follow.

    Attributes
    ----------
    keys, sizes, etags, modified : list
        One item for each object.
    folders : list of str
    truncated : bool
        Whether more pages follow.
    following : str
        The marker of the next page, if the endpoint returns one.
    """

    keys: list[str]
    sizes: list[int]
    etags: list[str]
    modified: list[str]
    folders: list[str]
    truncated: bool
    following: str = ""

    @property
    def objects(self) -> list[tuple[str, Listed]]:
        """The objects with their keys; whether they have a checksum is left open."""
        return [(key, Listed(size, etag, at, False)) for key, size, etag, at in self.rows()]

    def rows(self) -> Iterator[tuple[str, int, str, str]]:
        """Yield key, size, ETag and time of each object."""
        return zip(self.keys, self.sizes, self.etags, self.modified, strict=True)

    def keep(self, prefix: str, marker: str) -> None:
        """Drop the objects and folders before a marker, or without a prefix."""
        self.folders = [name for name in self.folders if name > marker and name.startswith(prefix)]
        kept = [key > marker and key.startswith(prefix) for key in self.keys]
        if not all(kept):
            self.keys, self.sizes = [*compress(self.keys, kept)], [*compress(self.sizes, kept)]
            self.etags = [*compress(self.etags, kept)]
            self.modified = [*compress(self.modified, kept)]


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
    root, fields = _split_objects(text, body) or (_parse(text), None)
    return _page(root, fields)


def _parse(text: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - without a document type, no entities
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidPage(f"the answer is not XML: {error}") from None


def _page(root: ElementTree.Element, fields: _Fields | None) -> Page:
    """Read and check a page; `fields` are those of its objects, by default those in `root`."""
    space, _, name = root.tag.rpartition("}")
    if name != "ListBucketResult":
        raise InvalidPage(f"the answer is not a listing but <{shown(name)[1:-1]}>")
    space = f"{space}}}" if space else ""
    truncated = root.findtext(f"{space}IsTruncated", "").strip().lower()
    if truncated not in ("true", "false"):
        raise InvalidPage(f"IsTruncated is {shown(truncated)} and neither true nor false")
    # S3 states whether it has percent-encoded the keys as requested.
    decode = _decode if root.findtext(f"{space}EncodingType") == "url" else str
    if fields is None:
        items = [
            {field.tag: field.text or "" for field in item}
            for item in root.iterfind(f"{space}Contents")
        ]
        fields = {name: [item.get(f"{space}{name}", "") for item in items] for name in _FIELDS}
    keys = list(map(decode, fields["Key"]))
    if not all(keys):
        raise InvalidPage("an object of it has no Key")
    folders = [
        decode(item.findtext(f"{space}Prefix", ""))
        for item in root.iterfind(f"{space}CommonPrefixes")
    ]
    if not all(folders):
        raise InvalidPage("a folder of it has no Prefix")
    page = Page(
        keys,
        _sizes(keys, fields["Size"]),
        [etag.strip('"') for etag in fields["ETag"]],
        fields["LastModified"],
        folders,
        truncated == "true",
    )
    if page.truncated:
        if keys != sorted(keys) or folders != sorted(folders):
            raise InvalidPage("its keys are not in order, so the next page cannot be found")
        page.following = decode(root.findtext(f"{space}NextMarker", ""))
    return page


def _sizes(keys: list[str], sizes: list[str]) -> list[int]:
    """Convert the sizes of objects to numbers."""
    digits = "".join(sizes)
    fit = all(sizes) and max(map(len, sizes), default=0) <= _MOST_DIGITS
    if not (fit and digits.isascii() and digits.isdigit()):
        for key, size in zip(keys, sizes, strict=True):
            if not (size.isascii() and size.isdigit() and len(size) <= _MOST_DIGITS):
                raise InvalidPage(
                    f"the Size {shown(size)} of {shown(key)} is not a number of bytes"
                )
    return list(map(int, sizes))


def _decode(key: str) -> str:
    """Decode a percent-encoded key."""
    try:
        return unquote(key, errors="strict") if "%" in key else key
    except UnicodeDecodeError:
        raise InvalidPage(f"the key {shown(key)} is not UTF-8") from None


# Objects with the same elements in the same order: nearly all


def _split_objects(text: str, body: bytes) -> tuple[ElementTree.Element, _Fields] | None:
    """Split a page at the tags of its objects, which takes a quarter of the time of parsing it.

    Returns
    -------
    tuple of Element and dict, or None
        The page with its first object alone, parsed, and the fields of all objects. None if
        another object has other tags than the first, or the page has anything but elements
        without attributes, and text, between its objects: then it has to be parsed.
    """
    count, start, end = text.count(_OBJECT), text.find(_OBJECT), text.rfind(_END)
    if count < 2 or end < start:
        return None
    # What a text cannot have, or only as "]]>". Deleting all legal bytes finds the others fast.
    if "]" in text or "\ufffe" in text or "\uffff" in text or body.translate(None, _LEGAL):
        return None
    tokens = text[start + 1 : end].split("<")
    width, rest = divmod(len(tokens) + 1, count)
    fields = None if rest else _fields([*tokens, tokens[width - 1]], width, count)
    if fields is None or not _unescape(fields["ETag"], text.count("&", start, end)):
        return None
    one = text[: text.index(_OBJECT, start + 1)] + text[end + len(_END) :]
    try:
        root = _parse(one)
    except InvalidPage:
        return None
    # The objects may be no objects of this page but deeper in it.
    space = root.tag.rpartition("ListBucketResult")[0]
    return (root, fields) if len(root.findall(f"{space}Contents")) == 1 else None


def _unescape(etags: list[str], references: int) -> bool:
    """Replace the quotes of ETags; return whether there are no other references among objects."""
    if references:
        joined = "".join(etags)
        if joined.count("&quot;") + joined.count("&#34;") != references:
            return False
        etags[:] = [etag.replace("&quot;", '"').replace("&#34;", '"') for etag in etags]
    return True


def _fields(tokens: list[str], width: int, count: int) -> _Fields | None:
    """Return the fields of objects; None if not all objects have the tags of the first one.

    Parameters
    ----------
    tokens : list of str
        Tags without ``<``, each with the text after it, from the first opening tag on.
    width : int
        Tags of one object.
    count : int
        Number of objects.
    """
    fields = {name: [""] * count for name in _FIELDS}
    depth = 0
    for index, token in enumerate(tokens[:width]):
        column = tokens[index::width]
        tag = token[: token.find(">") + 1]
        name = tag.strip("/>")
        # Names with white space or quotes have attributes.
        if not name.isalnum():
            return None
        if tag.startswith("/"):
            depth -= 1
            same = column.count(token) == count
        else:
            same = all(map(str.startswith, column, repeat(tag)))
            if depth == 1 and name in fields:
                fields[name] = [text[len(tag) :] for text in column]
            depth += not tag.endswith("/>")
        if not same or (depth == 0) != (index == width - 1):
            return None
    return fields
