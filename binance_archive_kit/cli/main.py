"""Run a command line: ``binance-archive COMMAND``, and turn errors into exit codes.

`archive_commands`, `store_commands` and `upkeep_commands` define the commands. Progress is shown on
a terminal only, and never on standard output.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from binance_archive_kit import __version__
from binance_archive_kit.errors import ArchiveKitError, ConfigurationError, shown

try:
    # The imports may take seconds; an interrupt has nothing to clean up yet.
    import click
    from click.shell_completion import get_completion_class, shell_complete

    from binance_archive_kit.cli import archive_commands, store_commands, upkeep_commands
    from binance_archive_kit.cli.output import Exit
except KeyboardInterrupt:
    sys.stderr.write("binance-archive: interrupted before the start; run it again\n")
    sys.exit(130)

_PROGRAM = "binance-archive"
_EPILOG = """\b
Exit codes: 0 complete, 1 something failed, 2 invalid arguments or configuration,
3 nothing to do, 4 nothing is wrong but some files are unverified, 130 interrupted

\b
Completion of commands, options and values:
bash  source <(binance-archive completion bash)
zsh   source <(binance-archive completion zsh)
fish  binance-archive completion fish | source
"""
#: The exit code of a shell for a program whose reader closed the pipe.
_BROKEN_PIPE = 128 + 13
#: The shell's script runs the program with this variable set to ask for completions.
_COMPLETE_VARIABLE = "_BINANCE_ARCHIVE_COMPLETE"
#: In the order of the help.
COMMANDS = (
    archive_commands.plan,
    archive_commands.collect,
    upkeep_commands.update,
    store_commands.verify,
    store_commands.coverage,
    store_commands.sql,
    archive_commands.symbols,
    archive_commands.universe,
    archive_commands.matrix,
    store_commands.build,
    store_commands.export,
    store_commands.cache,
    upkeep_commands.prune,
    archive_commands.demo,
)


class _Group(click.Group):
    """Lists commands in the order of `COMMANDS`, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> Exit:
    """Print a shell script that completes commands, options and values."""
    root = context.find_root()
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 for the type checker: click has all three
    print(kind(root.command, {}, str(root.info_name), _COMPLETE_VARIABLE).source())
    return Exit.COMPLETE


cli = click.version_option(__version__, prog_name=_PROGRAM, message="%(prog)s %(version)s")(
    _Group(
        _PROGRAM,
        commands=[*COMMANDS, completion],
        help="Collect the Binance public archive and prove every file.",
        epilog=_EPILOG,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    with _open_streams(), _signals_and_warnings():
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments))
        except BrokenPipeError:
            # The reader closed the pipe; Python would report it again when flushing at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _BROKEN_PIPE
        except OSError as error:
            where = "" if error.filename is None else f"{shown(error.filename)}: "
            return _print_error(f"{where}{error.strerror or error}", Exit.PARTIAL)


def _run(arguments: list[str]) -> int:
    """Run a command, and turn its errors into exit codes.

    Does not use `click.Command.main`, which prints an additional line for an interrupt.
    """
    try:
        if instruction := os.environ.get(_COMPLETE_VARIABLE):
            return shell_complete(cli, {}, _PROGRAM, _COMPLETE_VARIABLE, instruction)
        with cli.make_context(_PROGRAM, arguments) as context:
            code = int(cli.invoke(context))
        sys.stdout.flush()
        return code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except ConfigurationError as error:
        return _print_error(error, Exit.WRONG)
    except ArchiveKitError as error:
        return _print_error(error, Exit.PARTIAL)
    except KeyboardInterrupt as interrupt:
        return _print_error(str(interrupt) or "interrupted; run it again", Exit.INTERRUPTED)


@contextmanager
def _signals_and_warnings() -> Iterator[None]:
    """Print warnings as notes, escape unencodable characters, and handle SIGTERM."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    before: Any = signal.SIG_DFL
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            yield
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _open_streams() -> Iterator[None]:
    """Replace closed streams by the null device."""
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
    """Treat SIGTERM, which schedulers send, like an interrupt from the keyboard."""
    raise KeyboardInterrupt


def _print_error(message: object, code: int) -> int:
    with suppress(OSError):  # standard error may be full or closed
        print(f"binance-archive: {message}", file=sys.stderr)
    return int(code)


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"binance-archive: note: {message}", file=sys.stderr)
