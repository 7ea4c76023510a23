"""A plain parser of the pages of a listing, element by element: what the fast one has to equal."""

from __future__ import annotations

from urllib.parse import unquote
from xml.etree import ElementTree

Objects = list[tuple[str, int, str, str]]
#: Key, size, ETag and time of each object, the folders, whether more follow, the next marker.
Parsed = tuple[Objects, list[str], bool, str]


def parse_plainly(body: bytes) -> Parsed | None:
    """Parse a page; None if it is not a page of a listing."""
    try:
        return _parse(body.decode())
    except (ValueError, ElementTree.ParseError):
        return None


def _parse(text: str) -> Parsed:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError
    root = ElementTree.fromstring(text)
    space, _, name = root.tag.rpartition("}")
    space = f"{space}}}" if space else ""
    truncated = root.findtext(f"{space}IsTruncated", "").strip().lower()
    if name != "ListBucketResult" or truncated not in ("true", "false"):
        raise ValueError
    encoded = root.findtext(f"{space}EncodingType") == "url"

    def decode(key: str) -> str:
        return unquote(key, errors="strict") if encoded else key

    objects: Objects = []
    for item in root.iterfind(f"{space}Contents"):
        fields = {field.tag: field.text or "" for field in item}
        key, size = decode(fields.get(f"{space}Key", "")), fields.get(f"{space}Size", "")
        if not (key and size.isascii() and size.isdigit() and len(size) <= 15):
            raise ValueError
        etag = fields.get(f"{space}ETag", "").strip('"')
        objects.append((key, int(size), etag, fields.get(f"{space}LastModified", "")))
    folders = [
        decode(item.findtext(f"{space}Prefix", ""))
        for item in root.iterfind(f"{space}CommonPrefixes")
    ]
    if not all(folders):
        raise ValueError
    if truncated == "false":
        return objects, folders, False, ""
    keys = [key for key, *_ in objects]
    if keys != sorted(keys) or folders != sorted(folders):
        raise ValueError
    return objects, folders, True, decode(root.findtext(f"{space}NextMarker", ""))
