"""Certificates as a file, for libraries and programs that take the path of one."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from binance_archive_kit.errors import disk_error


def certificate_file(certificates: str) -> str:
    """Return the path of a file with certificates; it exists as long as this process.

    Child processes can read it too. On Linux it lies in memory, so that nothing stays on disk
    however the process ends.

    Raises
    ------
    StoreError, DiskSpaceError
        If it cannot be written.
    """
    descriptor = _in_memory(certificates)
    if descriptor is not None and Path(path := f"/proc/{os.getpid()}/fd/{descriptor}").exists():
        return path
    return _on_disk(certificates)


@cache
def _in_memory(certificates: str) -> int | None:
    """Write a file that has no name, and return its descriptor; None if that is impossible."""
    if sys.platform != "linux":
        return None
    try:
        descriptor = os.memfd_create("certificates")
        with open(descriptor, "w", encoding="ascii", closefd=False) as file:
            file.write(certificates)
    except OSError:
        return None
    return descriptor


@cache
def _on_disk(certificates: str) -> str:
    """Write a file that is deleted when the process ends; return its path."""
    path = ""
    try:
        file, path = tempfile.mkstemp(".pem", "authorities-")
        with os.fdopen(file, "w", encoding="ascii") as opened:
            opened.write(certificates)
    except OSError as error:
        if path:
            Path(path).unlink(missing_ok=True)
        raise disk_error(error, "the folder for temporary files (TMPDIR)") from None
    owner = os.getpid()

    def delete() -> None:
        # A fork has the same file.
        if os.getpid() == owner:
            with suppress(OSError):
                Path(path).unlink()

    atexit.register(delete)
    return path
