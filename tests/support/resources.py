"""What a process holds, and what it leaves behind: memory, open files, threads, children, files.

For Linux: read from ``/proc``.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

_MB = 1024
_OWN = Path("/proc/self")


def _status(process: Path, name: str) -> int:
    """Return a number of a process's status: kilobytes, or a count."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def children(parent: int | None = None) -> dict[int, str]:
    """Return the processes that descend from one, by id; those that have ended are marked."""
    found: dict[int, tuple[int, str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            before, _, after = stat.read_text(errors="replace").rpartition(")")
            state, of, *_ = after.split()
            name = before.partition("(")[2] + (" (ended)" if state == "Z" else "")
            found[int(stat.parent.name)] = int(of), name
    wanted, own = {parent or os.getpid()}, dict[int, str]()
    while new := {pid for pid, (of, _) in found.items() if of in wanted} - own.keys():
        own |= {pid: found[pid][1] for pid in new}
        wanted |= new
    return own


def open_files() -> list[str]:
    """Return what the descriptors of this process lead to."""
    found = []
    for link in (_OWN / "fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return [target for target in found if not target.endswith("/fd")]


def without_reserves() -> None:
    """Begin this process again with one arena of the C library for all threads.

    With one for each thread, what they hold in reserve grows for a dozen rounds of the same work,
    without any leak.
    """
    if os.environ.get("MALLOC_ARENA_MAX") != "1":
        os.execve(sys.executable, sys.orig_argv, os.environ | {"MALLOC_ARENA_MAX": "1"})


def release_memory() -> None:
    """Collect garbage, and return what allocators keep in reserve to the system."""
    for _ in range(3):
        gc.collect()
    if pool := getattr(sys.modules.get("pyarrow"), "default_memory_pool", None):
        pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class Held:
    """What this process holds.

    Attributes
    ----------
    memory : float
        Anonymous memory that is resident, in MB.
    objects : int
        Objects that Python's collector knows.
    files : Counter of str
        Targets of open descriptors; numbers of sockets and pipes are left out.
    threads : Counter of str
        Names of Python's threads.
    tasks : int
        Threads of the process, those of libraries too.
    children : Counter of str
        Names of the processes that descend from it.
    """

    memory: float
    objects: int
    files: Counter[str]
    threads: Counter[str]
    tasks: int
    children: Counter[str]

    @classmethod
    def now(cls) -> Self:
        """Look, after garbage is collected."""
        release_memory()
        return cls(
            _status(_OWN, "RssAnon") / _MB,
            len(gc.get_objects()),
            Counter(target.partition("[")[0] for target in open_files()),
            # Dummies stand for threads of libraries that have ended, until others have their ids.
            Counter(
                thread.name.rstrip("0123456789")
                for thread in threading.enumerate()
                if not isinstance(thread, threading._DummyThread)
            ),
            _status(_OWN, "Threads"),
            Counter(children().values()),
        )

    def more_than(self, before: Held) -> dict[str, Counter[str]]:
        """Return the files, threads and children that were not there before."""
        pairs = {
            "files": self.files - before.files,
            "threads": self.threads - before.threads,
            "children": self.children - before.children,
        }
        return {name: more for name, more in pairs.items() if more}

    def __str__(self) -> str:
        return (
            f"{self.memory:,.0f} MB, {self.objects:,} objects, {self.files.total()} files, "
            f"{self.tasks} threads, {self.children.total()} children"
        )


def settled(before: Held, within: float = 5.0) -> Held:
    """Return what is held once nothing is held but what was before, or after some seconds."""
    until = time.monotonic() + within
    while (found := Held.now()).more_than(before) and time.monotonic() < until:
        time.sleep(0.1)
    return found


@dataclass
class Watch:
    """Measures some work: its time, and the most that it held at once; a context manager.

    Attributes
    ----------
    seconds : float
    peak : float
        Most memory of this process, in MB.
    files, tasks : int
        Most open descriptors and threads that were seen.
    children : float
        Most memory of any process that it started, in MB.
    """

    seconds: float = 0.0
    peak: float = 0.0
    files: int = 0
    tasks: int = 0
    children: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        # Only from then on the kernel counts the peak.
        (_OWN / "clear_refs").write_text("5")
        self._thread = threading.Thread(target=self._look, name="watch")
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.monotonic() - self._began
        self._ended.set()
        self._thread.join()
        self.peak = _status(_OWN, "VmHWM") / _MB

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            self.files = max(self.files, len(open_files()))
            self.tasks = max(self.tasks, _status(_OWN, "Threads"))
            for pid in children():
                with suppress(OSError):
                    peak = _status(Path(f"/proc/{pid}"), "VmHWM") / _MB
                    self.children = max(self.children, peak)

    def __str__(self) -> str:
        its = f" (its children {self.children:,.0f} MB)" if self.children else ""
        return f"{self.seconds:.1f} s, peak {self.peak:,.0f} MB{its}, {self.files} files"


def files_below(folders: Iterable[Path]) -> set[str]:
    """Return the paths of all files and folders below some folders."""
    return {str(path) for folder in folders for path in folder.rglob("*")}


def kinds_of(objects: Iterable[object]) -> Counter[str]:
    """Count objects by their types."""
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in objects)


def grown(before: Mapping[str, int], after: Mapping[str, int], most: int = 10) -> str:
    """Format the types of which there are most more than before."""
    more = Counter(after)
    more.subtract(before)
    return ", ".join(f"{count:+,} {name}" for name, count in more.most_common(most) if count > 0)
