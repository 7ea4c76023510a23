"""Parse and check the user's flags for s5cmd."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from binance_archive_kit.errors import ConfigurationError, field_error, shown
from binance_archive_kit.paths import has_controls
from binance_archive_kit.suggestions import unknown

#: Digits of a number: s5cmd allocates memory for each worker.
_MOST_DIGITS = 6


def _count(name: str, text: str) -> str:
    digits = text.isascii() and text.isdigit()
    if not digits or len(text.lstrip("0")) > _MOST_DIGITS or int(text) < 1:
        most = f"{10**_MOST_DIGITS - 1:,}"
        raise _error(f"{name}={text[:100]} is not a number of at least 1, and at most {most}")
    return text


def _mebibytes(name: str, text: str) -> str:
    return _count(name, re.sub(r"(?i)\s*(mi?b?)$", "", text))


def _text(name: str, text: str) -> str:
    if not text:
        raise _error(f"{name} has no value")
    return text


_Reader = Callable[[str, str], str]
#: Flags before the command; those without a reader take no value.
_GLOBAL: dict[str, _Reader | None] = {
    "--json": None,
    "--no-sign-request": None,
    "--use-list-objects-v1": None,
    "--endpoint-url": _text,
    "--retry-count": _count,
    "--numworkers": _count,
}
#: Flags of ``cp``.
_COPY: dict[str, _Reader | None] = {
    "--part-size": _mebibytes,
    "--concurrency": _count,
    "--source-region": _text,
}
_READERS = {**_GLOBAL, **_COPY}
_SHORT = {"-r": "--retry-count", "-p": "--part-size", "-c": "--concurrency"}
#: Flags of s5cmd that would prevent the proof, with the reason.
_HARMFUL = {
    **dict.fromkeys(
        ("--no-clobber", "--if-size-differ", "--if-source-newer", "-n", "-s", "-u"),
        "the plan selects the objects",
    ),
    **dict.fromkeys(("--include", "--exclude"), "the plan selects the objects"),
    "--no-verify-ssl": "certificates are always verified; if your network has its own "
    "authority, name its PEM file in SSL_CERT_FILE",
    "--dry-run": "nothing would be downloaded",
    "--log": "the outcome of each object is read from the log",
    "--stat": "its output would be read as objects",
    "--raw": "it is set where necessary",
    "--show-progress": "the progress is shown without it",
}


@dataclass(frozen=True, slots=True)
class Flags:
    """Flags for s5cmd, each at its place and none twice.

    Attributes
    ----------
    general : dict of str to str or None
        Flags before the command.
    copy : dict of str to str or None
        Flags of ``cp``.
    """

    general: dict[str, str | None] = field(default_factory=dict)
    copy: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Flags:
        """Sort a user's flags into those before the command and those of ``cp``.

        Any order is valid, and ``--part-size=100MB`` too; s5cmd itself accepts plain numbers of
        MiB only, and only after ``cp``.

        Raises
        ------
        ConfigurationError
            If a flag is unknown, has no value, or would prevent the proof.

        Examples
        --------
        >>> flags = Flags.read(["--part-size=100MB", "--numworkers", "16"])
        >>> flags.general, flags.copy
        ({'--numworkers': '16'}, {'--part-size': '100'})
        """
        flags = cls()
        rest = list(arguments)
        for argument in arguments:
            if has_controls(argument):
                raise _error(f"{shown(argument)} has control characters or line ends")
        while rest:
            written, equals, value = rest.pop(0).partition("=")
            name = _SHORT.get(written, written)
            if name in _HARMFUL:
                raise _error(f"{written} cannot be set: {_HARMFUL[name]}")
            if name not in _READERS:
                raise ConfigurationError(unknown("s5cmd_extra_args", name, _READERS))
            target = flags.copy if name in _COPY else flags.general
            reader = _READERS[name]
            if reader is None:
                if equals and value != "true":
                    raise _error(f"{name} takes no value")
                target[name] = None
            else:
                if not equals:
                    value = rest.pop(0) if rest else ""
                target[name] = reader(name, value)
        return flags


def _error(message: str) -> ConfigurationError:
    return field_error("s5cmd_extra_args", message)


def format_flags(flags: dict[str, str | None]) -> list[str]:
    """Format flags as the arguments of a command line."""
    return [name if value is None else f"{name}={value}" for name, value in flags.items()]
