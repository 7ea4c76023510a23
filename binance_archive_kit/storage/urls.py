"""Where a store lies: a local folder, or a URL of object storage, which stays text."""

from __future__ import annotations

import re
from pathlib import Path

from binance_archive_kit.errors import field_error, shown
from binance_archive_kit.paths import has_controls, read_path, url_scheme

SCHEME = "s3://"
_EXAMPLE = "'s3://bucket/research'"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_WILDCARDS = "*?"
#: A URL whose colon or slashes are missing.
_ALMOST = re.compile(r"\s*s3(?:/{2,}|:/?)(?=[^/])", re.IGNORECASE)
#: A folder, or the URL of a prefix in object storage.
Place = Path | str


def read_place(field: str, value: object) -> Place:
    """Validate a local folder, or a URL of object storage; asks no network.

    Parameters
    ----------
    field : str
        The argument's name, for the message.
    value : str or Path

    Returns
    -------
    Path or str
        A folder as a path with ``~`` expanded, a URL as text.

    Raises
    ------
    ConfigurationError
        If it is neither.

    Examples
    --------
    >>> read_place("output_directory", "data/research").as_posix()
    'data/research'
    >>> read_place("output_directory", "s3://bucket/research/")
    's3://bucket/research'
    """
    if is_url(value):
        return SCHEME + "/".join(filter(None, parse_url(value, field)))
    if isinstance(value, str | Path) and (start := _ALMOST.match(text := str(value))):
        why = "is a Path, which merges the slashes of a URL; give it as text, like"
        if isinstance(value, str):
            why = "looks like the URL of a bucket; give it with a colon and two slashes, like"
        raise field_error(field, f"{shown(text)} {why} {SCHEME + text[start.end() :]!r}")
    if isinstance(value, str) and (scheme := url_scheme(value)) not in (None, "file"):
        raise field_error(
            field,
            f"{shown(value)} is a URL with {scheme}:, and a store is a local folder, such as "
            "'data/research', or in object storage that speaks S3, such as "
            f"'{SCHEME}bucket/research'",
        )
    return read_path(field, value)


def is_url(value: object) -> bool:
    """Return whether a folder or URL is one of object storage.

    >>> is_url("s3://bucket/research"), is_url("data/research")
    (True, False)
    """
    return isinstance(value, str) and value.strip().lower().startswith(SCHEME)


def parse_url(url: object, field: str) -> tuple[str, str]:
    """Return the bucket and the prefix that a URL names; asks no network.

    Raises
    ------
    ConfigurationError
        If it is not such a URL, or an object below it could not be named safely.
    """
    text = url.strip() if isinstance(url, str) else ""
    name, _, prefix = text[len(SCHEME) :].rstrip("/").partition("/")
    if not is_url(url) or not _BUCKET.fullmatch(name):
        why = f"is not the URL of a bucket, such as {_EXAMPLE}"
        if "@" in name or ":" in name:
            why += "; set credentials and endpoint in the environment (AWS_ACCESS_KEY_ID, …)"
    elif has_controls(text):
        why = "has control characters or line ends; give a URL without"
    elif found := [each for each in _WILDCARDS if each in prefix]:
        why = f"has {' and '.join(found)}, a wildcard for s5cmd; give a URL without"
    elif any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        why = "has an empty part, '.' or '..' between its slashes; give a URL without"
    else:
        return name, prefix
    raise field_error(field, f"{shown(url)} {why}")
