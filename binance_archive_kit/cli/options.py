"""Options shared by several commands, and conversion of options to a configuration.

The options of a configuration are generated from the fields of `CollectionConfig`, with their
names, types, help texts and defaults.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem
from pydantic.fields import FieldInfo

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.errors import field_error, shown
from binance_archive_kit.planning.config import CollectionConfig, PartitionChoice, read_config

C = TypeVar("C", bound=Callable[..., Any])
#: Returns completions of an incomplete word.
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


def words(valid: Iterable[str]) -> Complete:
    """Return a completion of words; in a list separated by commas, of the last word.

    Does not validate words: other packages do so, with better messages.
    """
    valid = [str(word) for word in valid]

    def complete(
        _: click.Context, __: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{w}") for w in valid if w.startswith(last)]

    return complete


def _paths(kind: str) -> Complete:
    return lambda _, __, incomplete: [CompletionItem(incomplete, type=kind)]


FILE, FOLDER = _paths("file"), _paths("dir")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
store_argument = click.argument("store", shell_complete=FOLDER)
endpoint_option = click.option(
    "--endpoint-url", metavar="URL", help=CollectionConfig.model_fields["endpoint_url"].description
)


def part_options(data_types: str) -> Callable[[C], C]:
    """Return a decorator that adds ``--market``, ``--data-type`` and ``--symbols`` of a store.

    Parameters
    ----------
    data_types : str
        The default of ``--data-type``.
    """

    def add(command: C) -> C:
        options = (
            click.option(
                "--market",
                metavar="WORD",
                help="Only this market. Default: all.",
                shell_complete=words(Market),
            ),
            click.option(
                "--data-type",
                metavar="WORD",
                help=f"Only this data type. Default: {data_types}.",
                shell_complete=words(DataType),
            ),
            click.option(
                "--symbols",
                metavar="WORDS",
                multiple=True,
                help="Only these symbols, and those like a pattern, such as 'BTCUSDT,*ETH'. "
                "Default: all.",
            ),
        )
        return reduce(lambda done, option: option(done), reversed(options), command)

    return add


intervals_option = click.option(
    "--intervals",
    metavar="WORDS",
    multiple=True,
    help="Only these intervals of candles, such as 1h,1d. Default: all.",
    shell_complete=words(Interval),
)


def day_options(first: str, last: str) -> Callable[[C], C]:
    """Return a decorator that adds ``--start`` and ``--end``; the arguments name their defaults."""

    def add(command: C) -> C:
        for flag, which, default in (("--end", "Last", last), ("--start", "First", first)):
            text = f"{which} UTC day, inclusive: 2025-07-15, yesterday or -7d. Default: {default}."
            command = click.option(flag, metavar="DAY", help=text)(command)
        return command

    return add


# A configuration

#: Lists: the placeholder of their values, and additional help.
_LISTS = {
    "markets": ("LIST", "Separated by commas."),
    "symbols": (
        "[MARKET=]LIST",
        "Separated by commas; for one market: spot=BTCUSDT,ETHUSDT; patterns: '*USDT'.",
    ),
    "quote": ("LIST", "Separated by commas."),
    "data_types": ("LIST", f"Of {', '.join(DataType)}, separated by commas."),
    "intervals": (
        "[TYPE=]LIST",
        "Separated by commas; for one type: klines=1m,1h. Default: all published ones.",
    ),
}
_COMPLETIONS = {
    "markets": words(Market),
    "data_types": words(DataType),
    "partition": words(PartitionChoice),
    "output_directory": FOLDER,
    "matrix_path": FILE,
}


def config_options(command: C) -> C:
    """Add the argument and the options of a configuration to a command."""
    decorators = [click.argument("config", required=False, shell_complete=FILE)]
    for name, field in CollectionConfig.model_fields.items():
        if name == "date_range":
            decorators.append(day_options("yesterday", "yesterday"))
        elif name != "workflow_type":
            decorators.append(_field_option(name, field))
    return reduce(lambda function, decorator: decorator(function), reversed(decorators), command)


def setting_options(names: Iterable[str]) -> Callable[[C], C]:
    """Return a decorator that adds the options of some fields of a configuration."""
    options = [_field_option(name, CollectionConfig.model_fields[name]) for name in names]
    return lambda command: reduce(lambda done, option: option(done), reversed(options), command)


def settings_from_options(**options: Any) -> dict[str, Any]:
    """Return the values of the options of fields that were given."""
    return {
        name: _READERS[name](value) if name in _READERS else value
        for name, value in options.items()
        if value is not None and value != ()
    }


def _field_option(name: str, field: FieldInfo) -> Callable[[Any], Any]:
    """Return the option of a field."""
    flag = f"--{name.replace('_', '-')}"
    metavar, more = _LISTS.get(name, ("VALUE", ""))
    if field.annotation is bool:
        no = flag.replace("--", "--no-")
        text = f"{field.description} Default: {flag if field.default else no}."
        return click.option(f"{flag}/{no}", default=None, help=text)
    return click.option(
        flag,
        metavar=metavar,
        multiple=name in _LISTS,
        help=f"{field.description} {more or _default_text(field)}".rstrip(),
        shell_complete=_COMPLETIONS.get(name),
    )


def _default_text(field: FieldInfo) -> str:
    """Return the default of a field as a sentence; the description explains None itself."""
    given = not field.is_required() and field.default not in (None, ())
    return f"Default: {field.default}." if given else ""


def config_from_options(config: str | None, **options: Any) -> CollectionConfig:
    """Return the configuration of a file, of options, or of both.

    Parameters
    ----------
    config : str or None
        Path of a JSON file, JSON text, or ``-`` for standard input.
    **options
        Values of the options, as text; None or empty if not given.

    Raises
    ------
    ConfigurationError
        If there is neither a file nor an option, or a value is invalid.
    """
    changes = settings_from_options(**options)
    if config is None and not changes:
        raise field_error(
            "config",
            "missing; give a JSON file, or options such as "
            "--markets spot --symbols BTCUSDT --data-types klines --output-directory data",
        )
    if config == "-":
        config = standard_input("config")
        if not config.lstrip().startswith("{"):
            raise field_error("config", "standard input has no JSON object of fields")
    return read_config(config, **changes)


def standard_input(field: str) -> str:
    """Read text from standard input.

    Raises
    ------
    ConfigurationError
        If it is not UTF-8 text.
    """
    try:
        # `sys.stdin` is None if it is closed. Undecodable bytes may be read as surrogates.
        text = sys.stdin.read() if sys.stdin is not None else ""
        text.encode()
    except (OSError, ValueError):
        raise field_error(field, "standard input is not UTF-8 text") from None
    return text


def split(values: Sequence[str]) -> list[str]:
    """Return the words of values that each have several, separated by commas."""
    return [word for value in values for word in value.split(",") if word]


def _by_name(field: str, values: Sequence[str]) -> list[str] | dict[str, list[str]]:
    """Parse ``a,b`` as a list, and ``name=a,b`` as a part of a dictionary."""
    named = [value.partition("=") for value in values]
    if not any(equals for _, equals, _ in named):
        return split(values)
    found: dict[str, list[str]] = {}
    for name, equals, listed in named:
        if not equals:
            message = f"{name!r} has no NAME=, and other values have one; write NAME={name}"
            raise field_error(field, message)
        found.setdefault(name, []).extend(split([listed]))
    return found


def _intervals(values: Sequence[str]) -> dict[str, list[str]]:
    intervals = _by_name("intervals", values)
    if isinstance(intervals, dict):
        return intervals
    return {str(kind): intervals for kind in DataType if kind.has_intervals}


def _s5cmd_flags(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as error:
        raise field_error("s5cmd_extra_args", f"{shown(value)} is not valid: {error}") from None


#: Parsers of options that are not the text of a field.
_READERS: dict[str, Callable[[Any], Any]] = {
    "markets": split,
    "quote": split,
    "data_types": split,
    "symbols": partial(_by_name, "symbols"),
    "intervals": _intervals,
    "s5cmd_extra_args": _s5cmd_flags,
}
