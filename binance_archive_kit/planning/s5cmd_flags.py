"""Flags for s5cmd that a user may set: parsed, checked, and sorted to their places."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from binance_archive_kit.errors import ConfigurationError, field_error, shown, unknown
from binance_archive_kit.paths import has_controls

#: Digits of a number: s5cmd makes room for as many workers as it is told to.
_MOST_DIGITS = 6


def _count(name: str, text: str) -> str:
    digits = text.isascii() and text.isdigit()
    if not digits or len(text.lstrip("0")) > _MOST_DIGITS or int(text) < 1:
        raise field_error(
            "s5cmd_extra_args",
            f"{name}={text[:100]} is not a number of at least 1, and at most "
            f"{10**_MOST_DIGITS - 1:,}",
        )
    return text


def _mebibytes(name: str, text: str) -> str:
    return _count(name, re.sub(r"(?i)\s*(mi?b?)$", "", text))


def _text(name: str, text: str) -> str:
    if not text:
        raise field_error("s5cmd_extra_args", f"{name} has no value")
    return text


_Reader = Callable[[str, str], str]
#: Flags that stand before the command; those without a reader take no value.
_GLOBAL: dict[str, _Reader | None] = {
    "--json": None,
    "--no-sign-request": None,
    "--no-verify-ssl": None,
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
_SHORT = {"-r": "--retry-count", "-p": "--part-size", "-c": "--concurrency"}
#: Flags that s5cmd has and that would break the proof, with what they would break.
_HARMFUL = {
    "--no-clobber": "what to fetch is decided by the plan",
    "--if-size-differ": "what to fetch is decided by the plan",
    "--if-source-newer": "what to fetch is decided by the plan",
    "--dry-run": "nothing would be downloaded",
    "--log": "every object's outcome is read from the log",
    "--stat": "its lines would be taken for objects",
    "--raw": "it is set where it is needed",
    "--include": "what to fetch is decided by the plan",
    "--exclude": "what to fetch is decided by the plan",
    "--show-progress": "progress is shown already",
    "-n": "what to fetch is decided by the plan",
    "-s": "what to fetch is decided by the plan",
    "-u": "what to fetch is decided by the plan",
}


@dataclass(frozen=True, slots=True)
class Flags:
    """Flags for s5cmd, each in its place and none twice.

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
        """Sort a user's flags to their places.

        ``--part-size=100MB`` is accepted anywhere, though s5cmd itself wants plain
        MiB, and only after ``cp``.

        Raises
        ------
        ConfigurationError
            If a flag is not known, lacks its value, or would break the proof.

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
                raise field_error(
                    "s5cmd_extra_args", f"{shown(argument)} has control characters or line ends"
                )
        while rest:
            written, equals, value = rest.pop(0).partition("=")
            name = _SHORT.get(written, written)
            if name in _HARMFUL:
                raise field_error("s5cmd_extra_args", f"{written} cannot be set: {_HARMFUL[name]}")
            place = next(((t, p) for t, p in flags._places() if name in t), None)
            if place is None:
                raise ConfigurationError(unknown("s5cmd_extra_args", name, [*_GLOBAL, *_COPY]))
            table, target = place
            reader = table[name]
            if reader is None:
                if equals and value != "true":
                    raise field_error("s5cmd_extra_args", f"{name} takes no value")
                target[name] = None
            else:
                if not equals:
                    value = rest.pop(0) if rest else ""
                target[name] = reader(name, value)
        return flags

    def _places(
        self,
    ) -> tuple[tuple[dict[str, _Reader | None], dict[str, str | None]], ...]:
        return ((_GLOBAL, self.general), (_COPY, self.copy))


def format_flags(flags: dict[str, str | None]) -> list[str]:
    """Format flags as the arguments of a command line."""
    return [name if value is None else f"{name}={value}" for name, value in flags.items()]
