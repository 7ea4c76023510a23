"""What the command line can do: for each command its arguments, and what it runs.

A command is a `Command` in `COMMANDS`: a function that adds its arguments to a parser, and one
that carries it out and returns an `Exit`. Machines get JSON by ``--json``, people get text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition, read_market
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.display import render
from binance_archive_kit.errors import ConfigurationError, shown, unknown
from binance_archive_kit.paths import find_path
from binance_archive_kit.planning.config import CollectionConfig, PartitionChoice

if TYPE_CHECKING:
    from binance_archive_kit.archive.absence import Absence
    from binance_archive_kit.download.result import CollectionResult
    from binance_archive_kit.planning.plan import Plan

# What only some commands need is imported by them: it takes longer than a wrong question.


class Exit(IntEnum):
    """What a process ends with."""

    COMPLETE = 0  #: all is as asked for
    PARTIAL = 1  #: some of it failed, or all
    WRONG = 2  #: the question cannot be meant
    NOTHING = 3  #: there is nothing to do: the archive, or the store, has none of it
    UNVERIFIED = 4  #: nothing is wrong, and not every file is proven
    INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One command: its name, what it does, its arguments, and what carries it out."""

    name: str
    what: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class _Words(list[str]):
    """Words that shells offer, and that we check ourselves: with more to say about a wrong one."""

    def __contains__(self, word: object) -> bool:
        return True


def _words(words: Iterable[str], metavar: str = "WORD") -> dict[str, Any]:
    # Without a metavar the usage line would list them all.
    return {"choices": _Words(words), "metavar": metavar}


#: What shells complete: files and folders, by the names that shtab gives them.
_FILE = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
_FOLDER = {"bash": "_shtab_compgen_dirs", "zsh": "_files -/", "tcsh": "d"}


def _add(
    parser: argparse._ActionsContainer,
    *names: str,
    complete: dict[str, str] | None = None,
    **options: Any,
) -> None:
    action = parser.add_argument(*names, **options)
    if complete is not None:
        action.complete = complete  # type: ignore[attr-defined]  # shtab looks for it


def _json_argument(parser: argparse.ArgumentParser) -> None:
    _add(parser, "--json", action="store_true", help="give JSON, for machines")


def _store_argument(parser: argparse.ArgumentParser) -> None:
    help_ = "folder that was collected into, or is in the archive's layout"
    _add(parser, "store", help=help_, complete=_FOLDER)


def _print_json(value: object) -> None:
    print(json.dumps(value, default=str, ensure_ascii=False))


# A configuration, from a file and flags

_LISTS = {"markets": Market, "data_types": DataType}
_SWITCHES = (
    *("enable_resume", "force_redownload", "download_checksum", "accept_stale_checksum"),
    *("enable_batch_mode", "listing"),
)
_VALUES: dict[str, tuple[str, dict[str, Any]]] = {
    "partition": ("daily or monthly files, or auto", _words(PartitionChoice)),
    "output_directory": ("the store: files lie below it", {"complete": _FOLDER}),
    "endpoint_url": ("S3-compatible endpoint that holds the bucket", {}),
    "matrix_path": ("availability matrix", {"complete": _FILE}),
    "batch_size": ("objects handed to s5cmd at a time", {}),
    "max_parallel_downloads": ("files in flight", {}),
    "timeout_seconds": ("longest time one object may make no progress", {}),
    "part_size_mb": ("part size of large downloads, MiB", {}),
}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    _add(
        parser,
        "config",
        nargs="?",
        help="JSON file with a configuration, or - for standard input; flags change it, "
        "or take its place",
        complete=_FILE,
    )
    what = parser.add_argument_group("what to collect", "lists are separated by commas")
    for name, words in _LISTS.items():
        _add(what, _flag(name), action="append", help=" ".join(words), **_words(words))
    _add(
        what,
        "--symbols",
        action="append",
        metavar="[MARKET=]SYMBOLS",
        help="for every market, or for one: --symbols spot=BTCUSDT,ETHUSDT",
    )
    _add(
        what,
        "--intervals",
        action="append",
        metavar="[TYPE=]INTERVALS",
        help="of every kind of candles, or of one: --intervals klines=1m,1h",
    )
    for end in ("--start", "--end"):
        _add(what, end, metavar="DAY", help="UTC, inclusive: 2025-07-15, yesterday, -7d")
    how = parser.add_argument_group("how")
    for name, (said, options) in _VALUES.items():
        _add(how, _flag(name), help=said, **{"metavar": "VALUE", **options})
    _add(how, "--s5cmd-extra-args", metavar="FLAGS", help="flags of s5cmd, in one argument")
    for name in _SWITCHES:
        _add(
            how,
            _flag(name),
            action=argparse.BooleanOptionalAction,
            help=f"see the field {name}",
        )


def read_config(asked: argparse.Namespace) -> CollectionConfig:
    """Read a configuration from a file, from flags, or from both.

    Raises
    ------
    ConfigurationError
        If neither is given, or a value cannot be meant.
    """
    changes = _changes(asked)
    if asked.config is None:
        if not changes:
            raise ConfigurationError(
                "config: give a JSON file, or say what to collect by flags, such as "
                "--markets spot --symbols BTCUSDT --data-types klines --output-directory data"
            )
        return CollectionConfig(**changes)
    source: str = asked.config
    if source == "-":
        source = _standard_input("config")
        if not source.lstrip().startswith("{"):
            raise ConfigurationError("config: standard input holds no JSON object of fields")
    config = CollectionConfig.from_json(source)
    return config.replace(**changes) if changes else config


def _standard_input(field: str) -> str:
    """Read text from standard input."""
    try:
        # Closed, there is none; undecodable bytes may come as half characters.
        text = sys.stdin.read() if sys.stdin is not None else ""
        text.encode()
    except (OSError, ValueError):
        raise ConfigurationError(f"{field}: standard input is not UTF-8 text") from None
    return text


def _changes(asked: argparse.Namespace) -> dict[str, Any]:
    """Give the fields that flags set."""
    given = {name: value for name, value in vars(asked).items() if value is not None}
    changes = {name: given[name] for name in (*_VALUES, *_SWITCHES) if name in given}
    changes |= {name: _split(given[name]) for name in _LISTS if name in given}
    if "symbols" in given:
        changes["symbols"] = _by_name("symbols", given["symbols"])
    if "intervals" in given:
        intervals = _by_name("intervals", given["intervals"])
        candles = [each.value for each in DataType if each.has_intervals]
        changes["intervals"] = (
            intervals if isinstance(intervals, dict) else dict.fromkeys(candles, intervals)
        )
    if "s5cmd_extra_args" in given:
        try:
            changes["s5cmd_extra_args"] = shlex.split(given["s5cmd_extra_args"])
        except ValueError as error:
            raise ConfigurationError(
                f"s5cmd_extra_args: {shown(given['s5cmd_extra_args'])} is not valid: {error}"
            ) from None
    changes |= {name: given[name] for name in ("start", "end") if name in given}
    return changes


def _split(values: Sequence[str]) -> list[str]:
    return [word for value in values for word in value.split(",") if word]


def _by_name(field: str, values: Sequence[str]) -> list[str] | dict[str, list[str]]:
    """Read ``a,b`` as a list, and ``name=a,b`` as a part of a dictionary."""
    named = [value.partition("=") for value in values]
    if not any(equals for _, equals, _ in named):
        return _split(values)
    found: dict[str, list[str]] = {}
    for name, equals, words in named:
        if not equals:
            raise ConfigurationError(
                f"{field}: {name!r} is for all, and others are for one; write NAME={name}"
            )
        found.setdefault(name, []).extend(_split([words]))
    return found


# Plan and collect


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    _config_arguments(parser)
    _json_argument(parser)
    _add(
        parser,
        "--keys",
        action="store_true",
        help="give only the keys of the objects to fetch, a line for each",
    )


def _plan(asked: argparse.Namespace) -> int:
    from binance_archive_kit.planning.planner import plan

    found = plan(read_config(asked))
    if asked.keys:
        for key, action in found.frame.select("key", "action").iter_rows():
            if action != "keep":
                print(key)
    elif asked.json:
        _print_json(_plan_json(found))
    else:
        print(found)
    return Exit.COMPLETE if len(found) else Exit.NOTHING


def _collect_arguments(parser: argparse.ArgumentParser) -> None:
    _config_arguments(parser)
    _json_argument(parser)


def _collect(asked: argparse.Namespace) -> int:
    from binance_archive_kit.download.collect import collect

    result = collect(read_config(asked))
    print_result(result, as_json=asked.json)
    return exit_of(result)


def exit_of(result: CollectionResult) -> Exit:
    """Give what a collection ends with."""
    if result.failures:
        return Exit.PARTIAL
    return Exit.NOTHING if result.outcome == "empty" else Exit.COMPLETE


def print_result(result: CollectionResult, *, as_json: bool) -> None:
    """Print what a collection got."""
    if as_json:
        _print_json(_result_json(result))
    else:
        print(result)


def _plan_json(found: Plan) -> dict[str, Any]:
    return {
        "objects": len(found),
        **{f"to_{action}": found.count(action) for action in ("download", "update", "keep")},
        "total_bytes": found.total_bytes,
        "download_bytes": found.download_bytes,
        "feeds": found.summary().to_dicts(),
        **_absences_json(found),
        "notes": found.notes,
    }


def _result_json(result: CollectionResult) -> dict[str, Any]:
    return {
        "status": result.status,
        "outcome": result.outcome,
        "success_rate": result.success_rate,
        "collection_stats": result.collection_stats,
        "output_directory": result.output_directory,
        "output_files": list(result.output_files),
        "failures": [
            {"key": each.key, "reason": each.reason, "detail": each.detail}
            for each in result.failures
        ],
        **_absences_json(result),
        "stale": result.stale,
        "notes": result.plan.notes,
    }


def _absences_json(found: Plan | CollectionResult) -> dict[str, list[dict[str, Any]]]:
    def spelled(absences: Sequence[Absence]) -> list[dict[str, Any]]:
        return [asdict(absence) for absence in absences]

    return {
        "missing": spelled(found.missing),
        "not_published": spelled(found.not_published),
        "unavailable": spelled(found.unavailable),
    }


# Verify


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    _store_argument(parser)
    _add(parser, "--sample", type=int, metavar="N", help="read N files, chosen at random")
    _add(parser, "--seed", type=int, metavar="N", help="choose the same ones each time")
    _add(
        parser,
        "--archive",
        action="store_true",
        help="hold them against the digests that the archive publishes now",
    )
    _add(parser, "--endpoint-url", metavar="VALUE", help="ask this endpoint for them")
    _add(
        parser,
        "--allow-unverified",
        action="store_true",
        help="end with 0, not 4, when nothing is wrong and some files, such as .csv, have no proof",
    )
    _json_argument(parser)


def _verify(asked: argparse.Namespace) -> int:
    from binance_archive_kit.storage.verify import verify

    found = verify(
        asked.store,
        sample=asked.sample,
        archive=asked.archive,
        endpoint_url=asked.endpoint_url,
        seed=asked.seed,
    )
    if asked.json:
        counts = ("state", "files", "read", "proven", "by_checksum", "unproven", "sound")
        lists = {
            "problems": found.frame.to_dicts(),
            "notes": found.notes,
            "skipped": [each._asdict() for each in found.skipped],
        }
        _print_json({name: getattr(found, name) for name in counts} | lists)
    else:
        print(found)
    if found.frame.height:
        return Exit.PARTIAL
    if not found.files:
        return Exit.NOTHING
    return Exit.UNVERIFIED if found.unproven and not asked.allow_unverified else Exit.COMPLETE


# Coverage


def _coverage_arguments(parser: argparse.ArgumentParser) -> None:
    _add(
        parser,
        "source",
        help="folder of a store: what is there; or JSON file with a configuration: what is wanted",
        complete=_FILE,
    )
    for end in ("--start", "--end"):
        _add(parser, end, metavar="DAY", help="UTC, inclusive: 2025-07-15, yesterday, -7d")
    _add(
        parser,
        "--min-coverage",
        type=float,
        metavar="SHARE",
        help="end with 1 if any stream has less of what is due, or rows that cannot be "
        "trusted, such as 0.999",
    )
    _add(parser, "--html", metavar="FILE", help="write the report", complete=_FILE)
    _json_argument(parser)


def _coverage(asked: argparse.Namespace) -> int:
    from binance_archive_kit.quality.coverage import check_share, coverage

    least = None if asked.min_coverage is None else check_share(asked.min_coverage)
    page = None if asked.html is None else find_path("--html", asked.html)
    if page is not None and (page.is_dir() or not page.parent.is_dir()):
        raise ConfigurationError(f"--html: {str(page)!r} is no file in a folder that is there")
    report = coverage(asked.source, start=asked.start, end=asked.end)
    if page is not None:
        report.to_html(page)
    if asked.json:
        _print_json(
            {
                "verdict": report.verdict,
                "coverage": report.coverage,
                "complete": report.is_complete,
                "streams": report.streams.to_dicts(),
                "gaps": report.gaps.to_dicts(),
                "findings": report.findings.to_dicts(),
                "unavailable": [asdict(absence) for absence in report.unavailable],
                "problems": {file: str(error) for file, error in report.problems.items()},
                "skipped": [each._asdict() for each in report.skipped],
            }
        )
    else:
        print(report)
    weakest = report.weakest
    if weakest is None:
        return Exit.NOTHING
    short = least is not None and (weakest["coverage"] < least or report.doubts.height > 0)
    return Exit.PARTIAL if report.problems or short else Exit.COMPLETE


# SQL


def _sql_arguments(parser: argparse.ArgumentParser) -> None:
    _store_argument(parser)
    _add(parser, "query", help="such as: SELECT count(*) FROM spot_klines; - reads standard input")
    _add(parser, "--json", action="store_true", help="give a line of JSON for each row")


def _sql(asked: argparse.Namespace) -> int:
    from binance_archive_kit.query.open_store import connect
    from binance_archive_kit.query.sql import bound, check_statement, our_errors

    query = _standard_input("query") if asked.query == "-" else asked.query
    with connect(asked.store) as connection, our_errors(connection):
        # Names that are no table are not variables of this module.
        connection.execute("SET python_enable_replacements = false")
        check_statement(connection, query)
        answer = bound(connection, query)
        if answer is None:
            return Exit.COMPLETE
        if asked.json:
            # DuckDB's own JSON has every type: not all of them exist in Python.
            lines: Any = answer.query("found", "SELECT to_json(found)::VARCHAR FROM found")
            for batch in lines.to_arrow_reader(10_000):
                print("\n".join(batch.column(0).to_pylist()))
        else:
            answer.show(max_rows=200)
    return Exit.COMPLETE


# What the archive has


def _symbols_arguments(parser: argparse.ArgumentParser) -> None:
    _add(parser, "market", help=" ".join(Market), **_words(Market, "MARKET"))
    _add(
        parser,
        "data_type",
        nargs="?",
        help="by default klines; BVOLIndex of options",
        **_words(DataType, "TYPE"),
    )
    _add(parser, "--partition", help="of daily files, or of monthly ones", **_words(Partition))
    _add(parser, "--like", metavar="PATTERN", default="*", help="such as '*USDT' or 'BTC*'")
    _add(parser, "--endpoint-url", metavar="VALUE", help="ask this endpoint")
    _json_argument(parser)


def _symbols(asked: argparse.Namespace) -> int:
    from binance_archive_kit.archive.endpoint import endpoint_of
    from binance_archive_kit.archive.listing import ListingClient
    from binance_archive_kit.reading.feed_table import read_feed

    matrix = load_matrix()
    usual = DataType.BVOL_INDEX if asked.market in ("options", "option") else DataType.KLINES
    market, data_type = read_feed(asked.market, asked.data_type or usual)
    feed = matrix.feed(market, data_type)
    kept = [] if feed is None else [each for each in Partition if each in feed.partitioned]
    partition = asked.partition or kept[0]
    if partition not in kept:
        raise ConfigurationError(unknown(f"partition of {market} {data_type}", partition, kept))
    prefix = f"data/{market.path}/{partition}/{data_type}/"

    async def listed() -> list[str]:
        endpoint = endpoint_of(asked.endpoint_url, matrix)
        async with ListingClient(endpoint, matrix.archive.bucket) as archive:
            return await archive.symbols(prefix)

    found = [each for each in asyncio.run(listed()) if fnmatchcase(each, asked.like)]
    if asked.json:
        _print_json(found)
    else:
        for symbol in found:
            print(symbol)
    if not found:
        print(f"binance-archive: no symbol is like {asked.like!r}", file=sys.stderr)
    return Exit.COMPLETE if found else Exit.NOTHING


def _matrix_arguments(parser: argparse.ArgumentParser) -> None:
    _add(parser, "market", nargs="?", help="only this one", **_words(Market, "MARKET"))
    _add(parser, "--matrix-path", metavar="FILE", help="this matrix", complete=_FILE)
    _json_argument(parser)


def _matrix(asked: argparse.Namespace) -> int:
    matrix = load_matrix(asked.matrix_path)
    market = None if asked.market is None else read_market(asked.market)
    rows: list[dict[str, Any]] = [
        {
            "market": owner.value,
            "data_type": data_type.value,
            "partition": partition.value,
            "first": facts.first,
            "last": facts.last,
            "until": facts.until,
            "intervals": [each.value for each in Interval if each in facts.intervals],
            "confidence": facts.confidence.value,
            "note": facts.note,
        }
        for (owner, data_type), feed in matrix.feeds.items()
        if market in (None, owner)
        for partition, facts in feed.partitioned.items()
    ]
    if asked.json:
        _print_json(rows)
        return Exit.COMPLETE
    head = ("market", "data type", "files", "first", "last", "intervals")
    lines = [
        (
            row["market"],
            row["data_type"],
            row["partition"],
            str(row["first"] or "unknown"),
            row["until"],
            " ".join(row["intervals"]),
        )
        for row in rows
    ]
    print(render.text_table(head, lines))
    for correction in matrix.corrections.values():
        print(f"note: {correction}")
    return Exit.COMPLETE


# The cache and the demo


def _cache_arguments(parser: argparse.ArgumentParser) -> None:
    _store_argument(parser)
    _add(parser, "--warm", action="store_true", help="put every month into it")
    _add(parser, "--clear", action="store_true", help="forget everything")
    _json_argument(parser)


def _cache(asked: argparse.Namespace) -> int:
    from binance_archive_kit.query.open_store import store

    opened = store(asked.store)
    if asked.clear:
        opened.cache.clear()
    if asked.warm:
        opened.warm()
    use = opened.cache.use()
    if asked.json:
        _print_json(asdict(use))
    else:
        print(use)
    return Exit.COMPLETE


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    _add(
        parser,
        "--output-directory",
        metavar="FOLDER",
        help="keep the files here; else they are removed",
        complete=_FOLDER,
    )
    _add(parser, "--serve", action="store_true", help="only serve the archive, until interrupted")


def _demo(asked: argparse.Namespace) -> int:
    from binance_archive_kit.demo.archive import demo_archive, demo_config
    from binance_archive_kit.download.collect import collect

    archive = demo_archive()
    with archive as endpoint:
        print(archive, flush=True)
        if asked.serve:
            print(f"S3_ENDPOINT_URL={endpoint}\nServing until interrupted (Ctrl-C).", flush=True)
            while True:
                time.sleep(3600)
        folder = (
            nullcontext(asked.output_directory)
            if asked.output_directory
            else tempfile.TemporaryDirectory(prefix="binance-archive-demo-")
        )
        with folder as output:
            config = demo_config(endpoint, output)
            print(f"\n{config.to_python()}\n\n# First run", flush=True)
            first = collect(config)
            print(first)
            print("\n# Second run: everything is there and proven", flush=True)
            second = collect(config)
            print(second.headline())
            if asked.output_directory:
                print(f"\nThe files are in {output}")
        return max(exit_of(first), exit_of(second))


#: In the order in which they are shown.
COMMANDS = (
    Command("plan", "say what a collection would do; download nothing", _plan_arguments, _plan),
    Command(
        "collect",
        "download what the archive has, and prove every file",
        _collect_arguments,
        _collect,
    ),
    Command(
        "verify", "prove the files of a store again, from their bytes", _verify_arguments, _verify
    ),
    Command(
        "coverage",
        "say what is there of what is due, down to single rows, and why the rest is not",
        _coverage_arguments,
        _coverage,
    ),
    Command(
        "sql",
        "ask a store a question in SQL, over the zips as they lie there",
        _sql_arguments,
        _sql,
    ),
    Command(
        "symbols", "list the symbols that the archive has files of", _symbols_arguments, _symbols
    ),
    Command(
        "matrix",
        "show which feeds there are, since when and until when",
        _matrix_arguments,
        _matrix,
    ),
    Command(
        "cache",
        "show what the cache of a store takes; fill it, or clear it",
        _cache_arguments,
        _cache,
    ),
    Command(
        "demo",
        "run the main job on the embedded synthetic archive, on this machine alone",
        _demo_arguments,
        _demo,
    ),
)
