"""Run s5cmd: write copy commands to its input, and convert its output to events.

Guarantees:

- Each object has exactly one event, `Copied` or `Refused`.
- `Copied` means that s5cmd reports success. It does so for flipped bytes and short bodies too:
  only the proof shows whether the bytes are right.
- An object that s5cmd does not report is `Refused`, and so is one that sends too slowly, or far
  more bytes than are listed.
- No process and no temporary file outlives the call, however it ends.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Self
from urllib.parse import quote

from binance_archive_kit.archive.curl_pool import SLOWEST
from binance_archive_kit.archive.endpoint import advice_on
from binance_archive_kit.download.batches import Command, Copy
from binance_archive_kit.errors import (
    ConnectionLost,
    Corrupt,
    DiskFull,
    Forbidden,
    NotFound,
    ObjectError,
    ServerFault,
    Stalled,
    Throttled,
    TransferFailed,
    Truncated,
    disk_advice,
)
from binance_archive_kit.storage.s5cmd_process import parse_json, tied

#: s5cmd does not release the memory of failed tasks, so a new process replaces it.
_ERRORS_PER_PROCESS = 2_000
#: Seconds without output after which the next batch is sent in any case: s5cmd never reports
#: objects that a wildcard did not find, and they must not block the others.
_QUIET = 2.0
_READ = 1 << 16
#: Seconds between SIGTERM and SIGKILL.
_GRACE = 2.0
#: Bytes that an object may have beyond twice its listed size: it may have been issued again.
_SLACK = 1 << 16
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Copied:
    """An object that s5cmd reports as written to `path`; nothing is proven yet."""

    key: str
    path: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An object that did not arrive.

    Attributes
    ----------
    key : str
    error : ObjectError
    final : bool
        False if s5cmd did not name the object: its wildcard did not match it, or the process
        ended before. A request for its key shows the reason.
    """

    key: str
    error: ObjectError
    final: bool = True


Event = Copied | Refused


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process is watched for.

    Attributes
    ----------
    timeout : float
        Seconds without progress after which the process counts as stalled, and after which less
        than a kilobyte a second is none.
    size_of : callable, optional
        Returns the listed bytes of an object, None if unknown.
    on_bytes : callable, optional
        Called with the bytes in the folder while large files arrive, about once a second.
    """

    timeout: float
    size_of: Callable[[str], int | None] = lambda _: None
    on_bytes: Callable[[int], None] = lambda _: None


class S5cmd:
    """Copies objects of one bucket into a folder.

    Parameters
    ----------
    command : Command
    limits : Limits
    """

    def __init__(self, command: Command, limits: Limits) -> None:
        self._command = command
        self._limits = limits
        self._processes = 0

    async def copy(self, batches: Iterator[Sequence[Copy]]) -> AsyncGenerator[list[Event], None]:
        """Copy batches of objects with one process after another, usually with one.

        Takes a batch from the iterator once few objects are in flight, so memory does not grow
        with the number of batches. Yields events as s5cmd reports them, one for each object.
        """
        feed = _Feed(batches)
        while not feed.exhausted:
            async with self._process(feed, self._command.workers) as process:
                while events := await process.events():
                    yield events

    async def copy_singly(
        self, batches: Iterator[Sequence[Copy]]
    ) -> AsyncGenerator[list[Event], None]:
        """Copy each object with a separate process; run as many processes as there are workers."""
        keys = (key for batch in batches for copy in batch for key in copy.keys)
        running: set[asyncio.Task[list[Event]]] = set()
        try:
            while True:
                for key in islice(keys, self._command.workers - len(running)):
                    running.add(asyncio.ensure_future(self._copy_one(key)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                # Unlike asking one by one, this takes the errors of all of them.
                yield [event for events in await asyncio.gather(*done) for event in events]
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _copy_one(self, key: str) -> list[Event]:
        reported: list[Event] = []
        async with self._process(_Feed(iter([[Copy((key,))]])), 1) as process:
            while events := await process.events():
                reported += events
        return reported

    def _process(self, feed: _Feed, workers: int) -> _Process:
        self._processes += 1
        folder = self._command.folder / f"p{self._processes}"
        folder.mkdir()
        return _Process(self._command, feed, folder, workers, self._limits)


class _Feed:
    """An iterator of batches that knows the size of the next one."""

    def __init__(self, batches: Iterator[Sequence[Copy]]) -> None:
        self._batches = batches
        self._next = next(batches, None)

    @property
    def exhausted(self) -> bool:
        return self._next is None

    def size(self) -> int:
        return sum(len(copy.keys) for copy in self._next or ())

    def take(self) -> Sequence[Copy]:
        batch = self._next or ()
        self._next = next(self._batches, None)
        return batch


class _Process:
    """One s5cmd process; a context manager that ends it on exit.

    The process ends when the feed is exhausted, when it stalls, when an object does not end, and
    after too many errors.
    """

    def __init__(
        self,
        command: Command,
        feed: _Feed,
        folder: Path,
        workers: int,
        limits: Limits,
    ) -> None:
        self._command = command
        self._feed = feed
        self._folder = folder
        self._workers = workers
        self._limits = limits
        #: Keys without an event, in the order of the input, with the name of their file or folder.
        self._in_flight: dict[str, str] = {}
        self._patterns: dict[str, Copy] = {}
        self._room = asyncio.Event()
        self._reports: asyncio.Queue[list[Event]] = asyncio.Queue()
        self._errors = 0
        #: Why the process was killed, and the errors of the objects to blame.
        self._stalled = ""
        self._overlong: dict[str, ObjectError] = {}
        self._last_error = ""
        #: When the last event or input was, and when the size of the folder changed last.
        self._last_event = self._last_activity = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def _start(self) -> None:
        """Start s5cmd."""
        self._process = await asyncio.create_subprocess_exec(
            *tied(self._command.arguments()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._command.environment,
            # In its own group, an interrupt at the terminal does not reach s5cmd.
            start_new_session=sys.platform != "win32",
        )
        self._note_event()
        readers = [
            asyncio.ensure_future(self._read(self._process.stdout, self._parse_success)),
            asyncio.ensure_future(self._read(self._process.stderr, self._parse_failure)),
        ]
        self._tasks = [
            asyncio.ensure_future(self._write()),
            asyncio.ensure_future(self._watch()),
            asyncio.ensure_future(self._report_rest(readers)),
            *readers,
        ]

    async def events(self) -> list[Event]:
        """Return the next events; an empty list after the last one."""
        events = await self._reports.get()
        if not events:
            for task in self._tasks:
                if task.done() and not task.cancelled():
                    task.result()  # raises its error
        return events

    async def __aexit__(self, *_: object) -> None:
        """End the process, with SIGKILL if necessary."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process.stdin is not None:
            # s5cmd ignores signals while it waits for input.
            self._process.stdin.close()
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), _GRACE)
            except TimeoutError:
                self._signal(_KILL)
                await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                self._process.send_signal(number)
            else:
                os.killpg(self._process.pid, number)

    # Input

    async def _write(self) -> None:
        """Write batches to the input while few objects are in flight, then close it."""
        stdin = self._process.stdin
        if stdin is None:
            return
        number = 0
        try:
            while not self._feed.exhausted and self._errors < _ERRORS_PER_PROCESS:
                await self._wait_for_room()
                lines = []
                for copy in self._feed.take():
                    number += 1
                    # s5cmd appends digits to a name while it writes.
                    name = f"{number}-"
                    lines.append(self._command.line(copy, self._folder / name))
                    self._in_flight.update(dict.fromkeys(copy.keys, name))
                    if copy.pattern is not None:
                        self._patterns[copy.pattern] = copy
                self._note_event()
                stdin.write("".join(lines).encode())
                await stdin.drain()
        except ConnectionError:
            pass  # the process has ended; `_report_rest` refuses its objects
        finally:
            stdin.close()

    async def _wait_for_room(self) -> None:
        window = 4 * self._workers
        while self._in_flight and len(self._in_flight) + self._feed.size() > window:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), _QUIET)
            except TimeoutError:
                if self._idle_seconds() >= _QUIET:
                    return

    # Output

    async def _read(
        self,
        stream: asyncio.StreamReader | None,
        parse_line: Callable[[str], Iterable[Event]],
    ) -> None:
        """Parse lines as they arrive, many at a time."""
        if stream is None:
            return
        rest = b""
        while data := await stream.read(_READ):
            whole, _, rest = (rest + data).rpartition(b"\n")
            lines = whole.decode(errors="replace").split("\n")
            if events := [event for line in lines for event in parse_line(line)]:
                self._note_event()
                self._reports.put_nowait(events)
                self._room.set()
        if rest and (events := list(parse_line(rest.decode(errors="replace")))):
            self._reports.put_nowait(events)

    def _parse_success(self, line: str) -> Iterator[Event]:
        message = parse_json(line)
        key = str(message.get("source", "")).removeprefix(self._command.uri(""))
        if message.get("success") is True and key in self._in_flight:
            del self._in_flight[key]
            yield Copied(key, str(message["destination"]))

    def _parse_failure(self, line: str) -> Iterator[Event]:
        message = parse_json(line)
        text = str(message.get("error", line)).strip()
        if not text:
            return
        self._errors += 1
        source = self._source_of(str(message.get("command", "")))
        copy = self._patterns.get(source) or Copy((source,))
        failed = [key for key in copy.keys if key in self._in_flight]
        for key in failed:
            del self._in_flight[key]
            # An error of a wildcard does not name an object.
            error = explain(key, text, self._command.route.through, self._folder)
            yield Refused(key, error, final=copy.pattern is None)
        if not failed and copy.pattern is None:
            self._last_error = text[:500]

    def _source_of(self, command: str) -> str:
        """Return the source in a failed command, which s5cmd repeats without quotes."""
        _, found, rest = command.partition(self._command.uri(""))
        return rest.partition(f" {self._folder}")[0] if found else ""

    async def _report_rest(self, readers: Sequence[asyncio.Task[None]]) -> None:
        """Report all objects without an event as refused, after the last line of output."""
        await asyncio.gather(*readers, return_exceptions=True)
        await self._process.wait()
        if self._in_flight:
            # s5cmd starts objects in order, so only the first ones had started.
            started = set(islice(self._in_flight, self._workers))
            rest = reversed(list(self._in_flight))
            self._reports.put_nowait([self._unreported(key, key in started) for key in rest])
        self._reports.put_nowait([])

    def _unreported(self, key: str, started: bool) -> Refused:
        if error := self._overlong.get(key):
            return Refused(key, error)
        if self._stalled:
            return Refused(key, Stalled(key, self._stalled), final=started)
        code = self._process.returncode
        reason = self._last_error or f"s5cmd ended with {code} and did not report it"
        return Refused(key, TransferFailed(key, reason), final=False)

    # Time

    async def _watch(self) -> None:
        """Kill the process if it makes no progress, or does not end.

        s5cmd has no timeout of its own: a stalled response would block it forever. Neither does
        its output prove progress: where the pages of a listing repeat, it copies the same objects
        forever.
        """
        timeout = self._limits.timeout
        pause = min(1.0, timeout / 4)
        growth = _Growth(self._last_event)
        while True:
            await asyncio.sleep(pause)
            if not self._in_flight:
                if self._feed.exhausted and self._idle_seconds() >= _GRACE:
                    self._signal(_KILL)
                    return
                if not self._feed.exhausted:
                    self._note_event()
            elif self._idle_seconds() >= pause:
                sizes = await asyncio.to_thread(_sizes, self._folder)
                size = sum(sizes.values())
                self._limits.on_bytes(size)
                if growth.note(size, self._last_event):
                    self._note_activity()
                seconds = asyncio.get_running_loop().time() - self._last_event
                if self._idle_seconds() >= timeout or (seconds >= timeout and not growth.most):
                    self._stalled = f"no progress for {timeout:g} s"
                elif seconds >= timeout + growth.most / SLOWEST:
                    self._stalled = f"too slow: {growth.most:,} bytes in {seconds:.0f} s"
                self._overlong = dict(self._find_overlong(sizes))
                if self._stalled or self._overlong:
                    self._signal(_KILL)
                    return

    def _find_overlong(self, sizes: Mapping[Path, int]) -> Iterator[tuple[str, ObjectError]]:
        """Yield the objects with far more bytes than are listed, and their errors."""
        for path, size in sizes.items():
            if size <= _SLACK:
                continue
            name, *rest = path.relative_to(self._folder).parts
            for key, target in self._in_flight.items():
                listed = self._limits.size_of(key)
                if listed is None or size <= 2 * listed + _SLACK or not name.startswith(target):
                    continue
                if not rest or rest[-1].startswith(key.rpartition("/")[2]):
                    detail = f"more than {size:,} bytes, and the archive lists {listed:,}"
                    yield key, Corrupt(key, detail)

    def _note_event(self) -> None:
        self._last_event = self._last_activity = asyncio.get_running_loop().time()

    def _note_activity(self) -> None:
        self._last_activity = asyncio.get_running_loop().time()

    def _idle_seconds(self) -> float:
        return asyncio.get_running_loop().time() - self._last_activity


class _Growth:
    """The growth of a folder since the last event.

    Attributes
    ----------
    most : int
        Bytes. Files that are moved away, and replaced again and again, do not add up.
    """

    def __init__(self, since: float) -> None:
        self.most = 0
        self._since = since
        self._last = self._least = -1

    def note(self, size: int, since: float) -> bool:
        """Note the size of the folder; return whether it has changed."""
        changed = size != self._last
        if since != self._since or self._least < 0:
            self._since, self._least, self.most = since, size, 0
        self._last, self._least = size, min(size, self._least)
        self.most = max(self.most, size - self._least)
        return changed


def _sizes(folder: Path) -> dict[Path, int]:
    """Return the bytes of all files below a folder that s5cmd writes to."""
    sizes = {}
    for path in folder.rglob("*"):
        # Files may be renamed or moved meanwhile.
        with suppress(FileNotFoundError):
            stat = path.stat()
            if S_ISREG(stat.st_mode):
                sizes[path] = stat.st_size
    return sizes


#: Patterns in messages of s5cmd, and their errors; the first match counts.
_ERRORS: tuple[tuple[str, type[ObjectError]], ...] = (
    (r"no space left on device|disk quota exceeded|not enough space", DiskFull),
    (r"status code: 404|NoSuchKey|NoSuchBucket|no object found", NotFound),
    (r"status code: (401|403|407|451)|AccessDenied|Forbidden|Proxy Authentication", Forbidden),
    (r"status code: (429|503)|SlowDown|RequestLimitExceeded|TooManyRequests", Throttled),
    (r"status code: 5\d\d|InternalError", ServerFault),
    (r"unexpected EOF", Truncated),
    (
        r"connection re(fused|set)|broken pipe|no such host|dial tcp|i/o timeout|TLS|x509"
        r"|RequestError|RequestCanceled|\bEOF\b",
        ConnectionLost,
    ),
)


def explain(key: str, text: str, route: str = "", folder: Path | None = None) -> ObjectError:
    """Convert a message of s5cmd to an error.

    `route` names the proxy, which most messages of s5cmd omit. The key and `folder`, into which
    it copies, are no part of what a message says, whatever words they are made of.

    >>> explain("data/x.zip", "NoSuchKey:  status code: 404, request id: , host id:").reason
    'not_found'
    """
    # Request and host ids are always empty without signing.
    detail = re.sub(r",? (request|host) id: ?[\w-]*", "", text).strip(" ,:")
    said = text
    for name in (str(folder or key), key, quote(key), key.rpartition("/")[2]):
        said = said.replace(name, "")
    kind = next((kind for words, kind in _ERRORS if re.search(words, said)), TransferFailed)
    if kind is ConnectionLost:
        detail += route
    advice = advice_on(detail) or (_disk_advice(detail) if kind is TransferFailed else "")
    return kind(key, "; ".join(filter(None, (detail, advice))))


def _disk_advice(detail: str) -> str:
    """Return advice on an error of the local disk; empty if unknown."""
    words = detail.lower()
    for number, name in errno.errorcode.items():
        advice = "" if name in ("EPERM", "EACCES") else disk_advice(number)
        if advice and os.strerror(number).lower() in words:
            return advice
    return ""
