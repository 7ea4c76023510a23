"""Validate paths that users give, and read the text and JSON files at them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
import unicodedata
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from binance_archive_kit.errors import (
    NO_ROOM,
    StoreError,
    disk_advice,
    disk_error,
    field_error,
    shown,
)

#: A URL at the start. ``Path`` merges the slashes, so one is enough; drive letters are shorter.
_URL = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):/", re.ASCII)
#: Control characters (Cc), line separators (Zl, Zp) and surrogates (Cs).
_UNPRINTABLE = ("Cc", "Zl", "Zp", "Cs")
#: Characters of a JSON file.
_LARGEST_FILE = 64 << 20


def has_controls(text: str) -> bool:
    r"""Return whether a text has control characters, line ends or surrogates.

    >>> has_controls("a b"), has_controls("a\nb"), has_controls("a\x00")
    (False, True, True)
    """
    # `isprintable` settles nearly all texts, much faster than the categories.
    return not text.isprintable() and any(unicodedata.category(c) in _UNPRINTABLE for c in text)


def url_scheme(text: str) -> str | None:
    """Return the scheme of a URL, in lower case; None for a path.

    >>> url_scheme("S3://bucket/a"), url_scheme("data/a")
    ('s3', None)
    """
    found = _URL.match(text)
    return found[1].lower() if found else None


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
        text: Any = os.fspath(value)  # type: ignore[call-overload]  # all else is rejected below
    except Exception:  # a foreign object's own method may raise anything
        text = None
    if not isinstance(text, str):
        problem = f"{shown(value)} is not a path; give a str or a Path"
    elif not text.strip():
        problem = f"{text!r} is empty; give a path ('.' is the working directory)"
    elif has_controls(text):
        problem = (
            f"{shown(text)} has control characters, line ends or bytes that are not UTF-8; "
            "give a path without"
        )
    elif "://" in text or _URL.match(text):
        problem = (
            f"{shown(text)} is a URL, not a folder or file of this machine; "
            f"give a local path, such as {_suggest_local(text)!r}"
        )
    else:
        try:
            return Path(str(text)).expanduser()
        except RuntimeError:
            problem = (
                f"{shown(text)} begins at a home directory that is not known; "
                "give the whole path, or write './~…' for a folder of that name"
            )
    raise field_error(field, problem)


def find_path(field: str, value: object) -> Path:
    """Validate a path that the file system can look up; it need not exist.

    Raises
    ------
    ConfigurationError
        As `read_path`, or if the path is too long, a loop of links or not accessible.
    """
    path = read_path(field, value)
    name = shown(str(path))
    try:
        path.absolute()
    except OSError:
        raise field_error(
            field,
            f"{name} is relative, and the working directory does not exist any more; "
            "change to another one, or give a path that begins with '/'",
        ) from None
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        problem = disk_advice(error.errno) or error.strerror
        raise field_error(field, f"{name}: {problem}") from None
    except ValueError as error:  # a character that the file system's encoding does not have
        raise field_error(field, f"{name} is not valid in the file system: {error}") from None
    return path


def nearest_folder(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists and can be looked up."""
    # `Path.exists` raises where permission is denied.
    while not os.path.exists(path) and path != path.parent:  # noqa: PTH110
        path = path.parent
    return path


def user_cache(identity: str) -> Path:
    """Return the folder in the user's own cache for what belongs to a store; it need not exist.

    Parameters
    ----------
    identity : str
        Whatever identifies the store.
    """
    name = hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()[:16]
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # the system does not know this user
        return private_temporary() / name
    return Path(home) / "binance_archive_kit" / name


def private_temporary() -> Path:
    """Return a folder for temporary files that only this user can write to, and create it.

    Raises
    ------
    StoreError, DiskSpaceError
        If it cannot be created, or someone else has created or may change it.
    """
    user = getattr(os, "getuid", int)()
    name = f"binance_archive_kit-{user}"
    try:
        path = Path(tempfile.gettempdir()) / name
        with suppress(FileExistsError):
            path.mkdir(0o700)
        # Not that of a link: anyone may create one in the folder of all users.
        found = path.lstat()
    except OSError as error:
        raise disk_error(error, name) from None
    is_own = stat.S_ISDIR(found.st_mode) and getattr(found, "st_uid", user) == user
    if not is_own or (os.name == "posix" and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise StoreError(
            f"{path}: it is no folder of this user, or others may write to it; remove it, or "
            "name a folder of yours in XDG_CACHE_HOME"
        )
    return path


def _suggest_local(text: str) -> str:
    """Suggest a local path instead of a URL."""
    found = _URL.match(text)
    if found and found[1].lower() == "file":
        return "/" + text[found.end() :].lstrip("/")
    return "data/research"


def read_text(field: str, path: Path, expected: str) -> str:
    """Read a file of UTF-8 text, within a limit.

    Parameters
    ----------
    field : str
        The argument's name, for the message.
    path : Path
    expected : str
        The valid content, for the message.

    Raises
    ------
    ConfigurationError
        If it cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_LARGEST_FILE + 1)
        if len(text) <= _LARGEST_FILE:
            return text
        why = f"it has more than {_LARGEST_FILE >> 20} MiB"
    except (OSError, ValueError) as error:
        why = str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8 text"
    raise field_error(
        field, f"{shown(str(path))} cannot be read: {why}; give the path of {expected}"
    )


def write_text(field: str, path: Path, text: str) -> None:
    """Write a file of UTF-8 text.

    Parameters
    ----------
    field : str
        The argument's name, for the message.
    path : Path
    text : str

    Raises
    ------
    ConfigurationError
        If it cannot be written.
    DiskSpaceError
        If the disk is full.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_error(error, path) from None
        raise field_error(
            field, f"{shown(str(path))} cannot be written: {error.strerror}"
        ) from None


def parse_json(text: str) -> Any:
    """Parse JSON strictly: no repeated names, no NaN.

    Raises
    ------
    ValueError
        If the text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_not_json)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        if "digits" in str(error):
            raise ValueError("it has a number of thousands of digits") from None
        raise


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; reject repeated names, which would lose a value."""
    members = dict(pairs)
    if len(members) < len(pairs):
        [(repeated, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {shown(repeated)} occurs twice in one object; remove one")
    return members


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")
