"""The command line: ``binance-archive COMMAND``, see `commands`.

Exit codes: 0 complete, all that the archive has is proven on disk; 1 some or all of it
failed; 2 the question is wrong; 3 there is nothing to do; 4 nothing is wrong, and not every
file of the store is proven; 130 interrupted. Progress is shown on a terminal only, and never
on standard output.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from binance_archive_kit import __version__
from binance_archive_kit.errors import (
    ArchiveKitError,
    ConfigurationError,
    WorkflowError,
    shown,
)

try:
    # This may take seconds, in which an interrupt has nothing to clean up.
    from binance_archive_kit.cli.commands import COMMANDS, Command, Exit, print_result
except KeyboardInterrupt:
    sys.stderr.write("binance-archive: interrupted before it began; run it again\n")
    sys.exit(130)

_EPILOG = """\
exit codes: 0 complete, 1 some or all of it failed, 2 the question is wrong,
3 there is nothing to do, 4 not every file of a store is proven, 130 interrupted

completion: source <(binance-archive completion bash), the same for zsh and tcsh
"""
_SHELLS = ("bash", "zsh", "tcsh")
#: A reader that went away, as a shell counts it.
_BROKEN_PIPE = 128 + 13
_DAYS_AGO = re.compile(r"-\d+d")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    with _open_streams():
        given = list(sys.argv[1:] if arguments is None else arguments)
        with _manners():
            try:
                return _run(given)
            except BrokenPipeError:
                # The reader has closed the pipe; Python would report that once more at the end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return _BROKEN_PIPE
            except OSError as error:
                where = "" if error.filename is None else f"{shown(error.filename)}: "
                return _complain(f"{where}{error.strerror or error}", Exit.PARTIAL)


def _run(given: Sequence[str]) -> int:
    """Carry a command out, and turn its errors into exit codes."""
    asked = argparse.Namespace()
    try:
        asked = parser().parse_args(_joined(given))
        code = int(asked.run(asked))
        sys.stdout.flush()
        return code
    except ConfigurationError as error:
        return _complain(error, Exit.WRONG)
    except WorkflowError as error:
        from binance_archive_kit.download.result import CollectionResult

        if isinstance(error.result, CollectionResult):
            print_result(error.result, as_json=getattr(asked, "json", False))
        return _complain(error, Exit.PARTIAL)
    except ArchiveKitError as error:
        return _complain(error, Exit.PARTIAL)
    except KeyboardInterrupt as interrupt:
        return _complain(str(interrupt) or "interrupted; run it again", Exit.INTERRUPTED)


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    found = argparse.ArgumentParser(
        prog="binance-archive",
        description="Collect the Binance public archive and prove every file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = found.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (*COMMANDS, _COMPLETION):
        each = commands.add_parser(command.name, help=command.what, description=command.what)
        command.arguments(each)
        each.set_defaults(run=command.run)
    return found


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=_SHELLS)


def _completion(asked: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(parser(), asked.shell))
    return Exit.COMPLETE


_COMPLETION = Command(
    "completion", "print a script that completes commands", _completion_arguments, _completion
)


def _joined(arguments: Sequence[str]) -> list[str]:
    """Write ``--start -7d`` as ``--start=-7d``: else it would be taken for another flag.

    >>> _joined(["plan", "--start", "-7d", "--json"])
    ['plan', '--start=-7d', '--json']
    """
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in ("--start", "--end") and _DAYS_AGO.fullmatch(word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


@contextmanager
def _manners() -> Iterator[None]:
    """Behave as a command should: notes on standard error, any encoding, ends when told to."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    before: Any = signal.SIG_DFL
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say_warning
            yield
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _open_streams() -> Iterator[None]:
    """Write to nowhere in place of a closed stream; ``print`` would choose another one."""
    closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    with ExitStack() as streams:
        for name in closed:
            setattr(sys, name, streams.enter_context(Path(os.devnull).open("w")))
        try:
            yield
        finally:
            for name in closed:
                setattr(sys, name, None)


def _interrupt(*_: object) -> None:
    """End as an interrupt from the keyboard would: a schedule ends us by SIGTERM."""
    raise KeyboardInterrupt


def _complain(message: object, code: int) -> int:
    with suppress(OSError):  # nowhere to complain; the exit code still says it
        print(f"binance-archive: {message}", file=sys.stderr)
    return int(code)


def _say_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"binance-archive: note: {message}", file=sys.stderr)
