"""Private folders for downloads in progress; those of killed runs are removed."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def staging_folder(home: Path) -> Iterator[Path]:
    """Yield a new folder in `home`, and remove it at the end.

    Removes the folders of killed runs first: their locks are free.
    """
    home.mkdir(parents=True, exist_ok=True)
    folder = home / uuid.uuid4().hex[:12]
    lock = FileLock(f"{folder}.lock")
    with FileLock(home / "lock"):
        sweep(home)
        lock.acquire()
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def sweep(home: Path) -> None:
    """Remove staging folders whose run has ended."""
    for path in home.glob("*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        lock.release()
        path.unlink(missing_ok=True)
