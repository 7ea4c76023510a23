"""Validate the paths that users give: the only place that decides what a local path may be."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from binance_archive_kit.errors import ConfigurationError, shown

#: A URL at the start. ``Path`` merges the slashes, so one is enough; drive letters are shorter.
_URL = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):/", re.ASCII)
#: Control characters (Cc), line separators (Zl, Zp) and halves of surrogate pairs (Cs).
_UNPRINTABLE = ("Cc", "Zl", "Zp", "Cs")


def has_controls(text: str) -> bool:
    r"""Return whether a text has control characters, line ends or half characters.

    >>> has_controls("a b"), has_controls("a\nb"), has_controls("a\x00")
    (False, True, True)
    """
    # Printable covers nearly all texts, and is far faster than the categories.
    return not text.isprintable() and any(unicodedata.category(c) in _UNPRINTABLE for c in text)


def read_path(field: str, value: object) -> Path:
    """Validate a local path, and expand ``~`` at its start.

    Parameters
    ----------
    field : str
        The argument's name, for the message.
    value : str or Path

    Raises
    ------
    ConfigurationError
        If it is not a path, is empty, is a URL, or has control characters.

    Examples
    --------
    >>> read_path("output_directory", "data/research").as_posix()
    'data/research'
    >>> read_path("output_directory", "s3://bucket/research")
    Traceback (most recent call last):
    binance_archive_kit.errors.ConfigurationError: output_directory: 's3://bucket/research' is a \
URL, not a folder or file of this machine; give a local path, such as 'data/research'
    """
    try:
        text: Any = os.fspath(value)  # type: ignore[call-overload]  # all else is refused below
    except Exception:  # a foreign object's own method may raise anything
        text = None
    if not isinstance(text, str):
        raise ConfigurationError(f"{field}: {shown(value)} is not a path; give a str or a Path")
    text = str(text)
    if not text.strip():
        raise ConfigurationError(
            f"{field}: {text!r} is empty; give a path ('.' is the working directory)"
        )
    if has_controls(text):
        raise ConfigurationError(
            f"{field}: {shown(text)} has control characters or line ends; give a path without"
        )
    if "://" in text or _URL.match(text):
        raise ConfigurationError(
            f"{field}: {shown(text)} is a URL, not a folder or file of this machine; "
            f"give a local path, such as {_local(text)!r}"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigurationError(
            f"{field}: {shown(text)} begins at a home directory that is not known; "
            "give the whole path, or write './~…' for a folder of that name"
        ) from None


def _local(text: str) -> str:
    """Suggest a local path instead of a URL."""
    found = _URL.match(text)
    if found and found[1].lower() == "file":
        return "/" + text[found.end() :].lstrip("/")
    return "data/research"
