"""The folder that an export writes to: checked, locked, with a place for unfinished files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from binance_archive_kit.errors import StoreError, field_error, shown
from binance_archive_kit.paths import find_path

#: Names in the root of a target, beside the files of the export.
_LOCK, _TEMPORARY = ".export.lock", ".export.tmp"


def check_target(field: str, target: str | Path, root: Path | str) -> Path:
    """Return a folder to write to; raise if it is in the store, or not a folder.

    Parameters
    ----------
    field : str
        The argument's name, for the message.
    target : str or Path
    root : Path or str
        The folder of the store, or its URL.
    """
    path = find_path(field, target)
    if path.exists() and not path.is_dir():
        raise field_error(field, f"{shown(str(path))} is not a folder")
    real = Path(os.path.realpath(path))
    for parent in (real, *real.parents):
        if isinstance(root, Path) and parent.exists() and parent.samefile(root):
            what = "is the store itself" if parent == real else f"is inside the store {root}"
            raise field_error(field, f"{shown(str(path))} {what}; give another folder")
    return path


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Be the only export to a target."""
    target.mkdir(parents=True, exist_ok=True)
    try:
        # The system frees it when its process ends, in whatever way.
        with FileLock(target / _LOCK, timeout=0):
            yield
    except Timeout:
        message = f"{target}: another export is at work; wait for it, or choose another folder"
        raise StoreError(message) from None


@contextmanager
def temporary_in(target: Path) -> Iterator[Path]:
    """Give an empty folder in a target; an export that was killed may have left its own."""
    path = target / _TEMPORARY
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
