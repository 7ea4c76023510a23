"""The commands of ``binance-archive``, and their exit codes.

A command is a function in `COMMANDS` that returns an `Exit`. It prints text, or JSON with
``--json``.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, date, datetime
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import Any

import click
from click.shell_completion import get_completion_class

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition, read_market
from binance_archive_kit.archive.keys import feed_prefix
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.cli.options import (
    FILE,
    FOLDER,
    config_from_options,
    config_options,
    day_options,
    endpoint_option,
    json_option,
    split,
    standard_input,
    store_argument,
    words,
)
from binance_archive_kit.display.summary import Table
from binance_archive_kit.errors import (
    ConfigurationError,
    FieldProblem,
    WorkflowError,
    field_error,
)
from binance_archive_kit.paths import find_path
from binance_archive_kit.suggestions import unknown
from binance_archive_kit.timestamps import resolve_day

# Commands import some modules themselves, so that errors in arguments are reported quickly.


class Exit(IntEnum):
    """The exit codes."""

    COMPLETE = 0
    PARTIAL = 1  #: something failed
    WRONG = 2  #: an argument is invalid
    NOTHING = 3  #: the archive, or the store, has no such data
    UNVERIFIED = 4  #: no failure, but some files have no proof
    INTERRUPTED = 130


def _json(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


@click.command
@config_options
@json_option
@click.option("--keys", is_flag=True, help="Print only the keys to download, one per line.")
def plan(as_json: bool, keys: bool, **options: Any) -> Exit:
    """Show what a collection would do, without downloading.

    CONFIG is a JSON file with a configuration, or - for standard input. Options override its
    fields; without CONFIG they are the whole configuration.
    """
    found = bak.plan(config_from_options(**options))
    if keys:
        for key, action in found.frame.select("key", "action").iter_rows():
            if action != "keep":
                print(key)
    else:
        print(_plan_json(found) if as_json else found)
    return Exit.COMPLETE if len(found) else Exit.NOTHING


@click.command
@config_options
@json_option
def collect(as_json: bool, **options: Any) -> Exit:
    """Download the requested data, and prove every file.

    CONFIG is a JSON file with a configuration, or - for standard input. Options override its
    fields; without CONFIG they are the whole configuration.
    """
    try:
        result = bak.collect(config_from_options(**options))
    except WorkflowError as error:
        if isinstance(error.result, bak.CollectionResult):
            print(_result_json(error.result) if as_json else error.result)
        raise
    print(_result_json(result) if as_json else result)
    return _exit_of(result)


def _exit_of(result: bak.CollectionResult) -> Exit:
    if result.failures:
        return Exit.PARTIAL
    return Exit.NOTHING if result.outcome == "empty" else Exit.COMPLETE


def _plan_json(found: bak.Plan) -> str:
    actions = ("download", "update", "keep")
    return _json(
        {
            "objects": len(found),
            **{f"to_{action}": found.count(action) for action in actions},
            "total_bytes": found.total_bytes,
            "download_bytes": found.download_bytes,
            "feeds": found.summary().to_dicts(),
            **_absences(found),
            "selections": [asdict(selection) for selection in found.selections],
            "notes": found.notes,
        }
    )


def _result_json(result: bak.CollectionResult) -> str:
    names = ("status", "outcome", "success_rate", "collection_stats", "output_directory")
    reasons = ("key", "reason", "detail")
    return _json(
        {
            **{name: getattr(result, name) for name in names},
            "output_files": list(result.output_files),
            "failures": [{name: getattr(e, name) for name in reasons} for e in result.failures],
            **_absences(result),
            "stale": result.stale,
            "selections": [asdict(selection) for selection in result.plan.selections],
            "notes": result.plan.notes,
        }
    )


def _absences(found: bak.Plan | bak.CollectionResult) -> dict[str, list[dict[str, Any]]]:
    kinds = ("missing", "not_published", "unavailable")
    return {kind: [asdict(absence) for absence in getattr(found, kind)] for kind in kinds}


@click.command
@store_argument
@click.option("--sample", type=int, metavar="N", help="Hash only N random files. Default: all.")
@click.option("--seed", type=int, metavar="N", help="Make the sample reproducible.")
@click.option("--archive", is_flag=True, help="Compare with the digests that are published now.")
@endpoint_option
@click.option(
    "--allow-unverified",
    is_flag=True,
    help="Exit with 0, not 4, if the only issue is unverified files, such as .csv.",
)
@json_option
def verify(store: str, allow_unverified: bool, as_json: bool, **options: Any) -> Exit:
    """Hash the files of a store again, and check their proofs.

    STORE is a folder in the archive's layout.
    """
    found = bak.verify(store, **options)
    if as_json:
        counts = ("state", "files", "read", "proven", "by_checksum", "unproven", "sound")
        lists = {
            "problems": found.frame.to_dicts(),
            "notes": found.notes,
            "skipped": [file._asdict() for file in found.skipped],
        }
        print(_json({name: getattr(found, name) for name in counts} | lists))
    else:
        print(found)
    if found.frame.height:
        return Exit.PARTIAL
    if not found.files:
        return Exit.NOTHING
    return Exit.UNVERIFIED if found.unproven and not allow_unverified else Exit.COMPLETE


@click.command
@click.argument("source", shell_complete=FILE)
@day_options("the first day of SOURCE", "the last day of SOURCE")
@click.option(
    "--min-coverage",
    type=float,
    metavar="SHARE",
    help="Exit with 1 if a stream has less than this share of its rows, such as 0.999, or doubtful "
    "values.",
)
@click.option(
    "--html", metavar="FILE", help="Write the report as an HTML page.", shell_complete=FILE
)
@json_option
def coverage(
    source: str,
    start: str | None,
    end: str | None,
    min_coverage: float | None,
    html: str | None,
    as_json: bool,
) -> Exit:
    """Compare the rows present with the rows due, and explain every gap.

    SOURCE is the folder of a store, or a JSON file with a configuration.
    """
    from binance_archive_kit.quality.coverage import check_share

    least = None if min_coverage is None else check_share(min_coverage)
    page = None if html is None else find_path("--html", html)
    if page is not None and (page.is_dir() or not page.parent.is_dir()):
        raise ConfigurationError(
            FieldProblem("--html", f"{str(page)!r} is not the path of a file in an existing folder")
        )
    report = bak.coverage(source, start=start, end=end)
    if page is not None:
        report.to_html(page)
    print(_report_json(report) if as_json else report)
    weakest = report.weakest
    if weakest is None:
        return Exit.NOTHING
    short = least is not None and (weakest["coverage"] < least or report.doubts.height > 0)
    return Exit.PARTIAL if report.problems or short else Exit.COMPLETE


def _report_json(report: bak.CoverageReport) -> str:
    frames = ("streams", "gaps", "findings")
    return _json(
        {
            "verdict": report.verdict,
            "coverage": report.coverage,
            "complete": report.is_complete,
            **{name: getattr(report, name).to_dicts() for name in frames},
            "unavailable": [asdict(absence) for absence in report.unavailable],
            "problems": {file: str(error) for file, error in report.problems.items()},
            "skipped": [file._asdict() for file in report.skipped],
            "changes": report.changes,
        }
    )


# A query may start with a comment, "-- …", which is not an option.
@click.command(context_settings={"ignore_unknown_options": True})
@store_argument
@click.argument("query")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per row and line.")
def sql(store: str, query: str, as_json: bool) -> Exit:
    """Query a store with SQL.

    QUERY is a statement, such as "SELECT count(*) FROM spot_klines", or - for standard input.
    """
    from binance_archive_kit.query.sql import bound, check_statement, our_errors

    query = standard_input("query") if query == "-" else query
    with bak.connect(store) as connection, our_errors(connection):
        # Unknown table names must not resolve to variables of this module.
        connection.execute("SET python_enable_replacements = false")
        check_statement(connection, query)
        answer = bound(connection, query)
        if answer is None:
            return Exit.COMPLETE
        if as_json:
            # DuckDB formats JSON itself: not all of its types exist in Python.
            lines: Any = answer.query("found", "SELECT to_json(found)::VARCHAR FROM found")
            for batch in lines.to_arrow_reader(10_000):
                print("\n".join(batch.column(0).to_pylist()))
        else:
            answer.show(max_rows=200)
    return Exit.COMPLETE


@click.command
@click.argument("market", shell_complete=words(Market))
@click.argument("data_type", required=False, shell_complete=words(DataType))
@click.option(
    "--partition",
    metavar="WORD",
    help="Only symbols with files in this partition: daily or monthly. Default: daily, if the "
    "feed has daily files.",
    shell_complete=words(Partition),
)
@click.option(
    "--like",
    metavar="PATTERN",
    default="*",
    help="Only symbols like this, such as '*USDT' or 'BTC*'. Default: all.",
)
@endpoint_option
@json_option
def symbols(
    market: str,
    data_type: str | None,
    partition: str | None,
    like: str,
    endpoint_url: str | None,
    as_json: bool,
) -> Exit:
    """List the symbols of a feed in the archive.

    DATA_TYPE is klines by default, or BVOLIndex for options.
    """
    from binance_archive_kit.archive.endpoint import endpoint_of
    from binance_archive_kit.archive.listing import ListingClient
    from binance_archive_kit.archive.schemas import read_feed

    matrix = load_matrix()
    options = read_market(market) is Market.OPTIONS
    usual = DataType.BVOL_INDEX if options else DataType.KLINES
    owner, kind = read_feed(market, data_type or usual)
    feed = matrix.feed(owner, kind)
    valid = [] if feed is None else [each for each in Partition if each in feed.partitioned]
    partition = partition or valid[0]
    if partition not in valid:
        raise ConfigurationError(unknown(f"partition of {owner} {kind}", partition, valid))
    prefix = feed_prefix(owner, Partition(partition), kind)

    async def listed() -> list[str]:
        endpoint = endpoint_of(endpoint_url, matrix)
        async with ListingClient(endpoint, matrix.archive.bucket) as archive:
            return await archive.symbols(prefix)

    found = [symbol for symbol in asyncio.run(listed()) if fnmatchcase(symbol, like)]
    if found or as_json:
        print(_json(found) if as_json else "\n".join(found))
    if not found:
        click.echo(f"binance-archive: no symbol matches {like!r}", err=True)
    return Exit.COMPLETE if found else Exit.NOTHING


@click.command
@click.argument("market", shell_complete=words(Market))
@click.argument("data_type", shell_complete=words(DataType))
@click.option(
    "--interval",
    metavar="WORD",
    help="The interval of candles. Default: all that the feed has, which takes longer.",
    shell_complete=words(Interval),
)
@click.option(
    "--at", metavar="DAY", help="Only symbols with files on this UTC day: 2021-06-01 or -7d."
)
@click.option(
    "--symbols",
    metavar="LIST",
    default="*",
    help="Names, and patterns such as '*USDT', separated by commas. Default: all.",
)
@click.option(
    "--quote",
    metavar="LIST",
    help="Only symbols with these quote assets, separated by commas. Default: any.",
)
@endpoint_option
@json_option
def universe(
    market: str, data_type: str, symbols: str, quote: str | None, as_json: bool, **options: Any
) -> Exit:
    """List the symbols that a feed has or had, with their first and last day.

    Symbols that have ended are listed too. Days are those of files, UTC, both inclusive.
    """
    quotes = None if quote is None else quote.split(",")
    found = bak.universe(market, data_type, symbols=symbols.split(","), quote=quotes, **options)
    if as_json:
        print(_json(found.to_dicts()))
    elif found.height:
        columns = ("symbol", "base", "quote", "contract", "first", "last", "ended", "evidence")
        rows = [
            tuple("unknown" if value is None else str(value) for value in row)
            for row in found.select(columns).iter_rows()
        ]
        print(Table(columns, rows).to_text())
        for change in found["changes"].explode().drop_nulls().unique(maintain_order=True):
            print(f"note: {change}")
    if not found.height:
        click.echo(f"binance-archive: no symbol has files on {options['at']}", err=True)
    return Exit.COMPLETE if found.height else Exit.NOTHING


@click.command
@click.argument("market", required=False, shell_complete=words(Market))
@click.option("--matrix-path", metavar="FILE", help="Show another matrix.", shell_complete=FILE)
@json_option
def matrix(market: str | None, matrix_path: str | None, as_json: bool) -> Exit:
    """Show the feeds of the archive, with their first and last day or month."""
    matrix = load_matrix(matrix_path)
    only = None if market is None else read_market(market)
    rows: list[dict[str, Any]] = [
        {
            "market": owner.value,
            "data_type": data_type.value,
            "partition": partition.value,
            "first": files.first,
            "last": files.last,
            "until": files.until,
            "intervals": [each.value for each in Interval if each in files.intervals],
            "confidence": files.confidence.value,
            "note": files.note,
        }
        for (owner, data_type), feed in matrix.feeds.items()
        if only in (None, owner)
        for partition, files in feed.partitioned.items()
    ]
    if as_json:
        print(_json(rows))
        return Exit.COMPLETE
    head = ("market", "data type", "files", "first", "last", "intervals")
    cells = [
        (
            *(row[key] for key in ("market", "data_type", "partition")),
            *(_in_periods(row[key], row["partition"]) for key in ("first", "until")),
            " ".join(row["intervals"]),
        )
        for row in rows
    ]
    print(Table(head, cells).to_text())
    for correction in matrix.corrections.values():
        print(f"note: {correction}")
    return Exit.COMPLETE


def _in_periods(day: object, partition: str) -> str:
    """Format the first day of a period, or words with it; of a month, without the day."""
    text = str(day or "unknown")
    return text.removesuffix("-01") if partition == Partition.MONTHLY else text


@click.command
@store_argument
@click.option(
    "--market",
    metavar="WORD",
    help="Only this market. Default: all.",
    shell_complete=words(Market),
)
@click.option(
    "--data-type",
    metavar="WORD",
    help="Only this data type. Default: all but trades and order books, which are large.",
    shell_complete=words(DataType),
)
@click.option(
    "--symbols",
    metavar="WORDS",
    multiple=True,
    help="Only these symbols, such as BTCUSDT,ETHUSDT. Default: all.",
)
@json_option
def build(
    store: str, market: str | None, data_type: str | None, symbols: Sequence[str], as_json: bool
) -> Exit:
    """Build columnar tables of a store, so that queries are as fast as on Parquet."""
    opened = bak.store(store)
    use = opened.build(market, data_type, symbols=split(symbols) or None)
    print(_json(asdict(use)) if as_json else use)
    return Exit.COMPLETE if opened.engine.feeds() else Exit.NOTHING


@click.command
@store_argument
@click.argument("target", shell_complete=FOLDER)
@click.option(
    "--market",
    metavar="WORD",
    help="Only this market. Default: all.",
    shell_complete=words(Market),
)
@click.option(
    "--data-type",
    metavar="WORD",
    help="Only this data type. Default: all.",
    shell_complete=words(DataType),
)
@click.option(
    "--symbols",
    metavar="WORDS",
    multiple=True,
    help="Only these symbols, and those like a pattern, such as 'BTCUSDT,*ETH'. Default: all.",
)
@click.option(
    "--intervals",
    metavar="WORDS",
    multiple=True,
    help="Only these intervals of candles, such as 1h,1d. Default: all.",
    shell_complete=words(Interval),
)
@day_options("the first of STORE", "the last of STORE")
@json_option
def export(
    store: str,
    target: str,
    symbols: Sequence[str],
    intervals: Sequence[str],
    as_json: bool,
    **options: Any,
) -> Exit:
    """Write a store as Parquet files, in folders that other engines know.

    TARGET is a folder outside the store. Files that are up to date are kept.
    """
    options |= {name: _day(name, options[name]) for name in ("start", "end")}
    done = bak.to_parquet(
        store, target, symbols=split(symbols) or None, intervals=split(intervals) or None, **options
    )
    print(_export_json(done) if as_json else done)
    return Exit.COMPLETE if done.rows else Exit.NOTHING


def _day(field: str, value: str | None) -> date | None:
    try:
        return None if value is None else resolve_day(value, datetime.now(UTC).date())
    except ValueError as error:
        raise field_error(field, str(error)) from None


def _export_json(done: bak.ParquetExport) -> str:
    names = ("target", "written", "kept", "removed", "rows", "bytes", "verdict")
    values = {name: getattr(done, name) for name in names}
    return _json({**values, "complete": done.is_complete, "files": done.files.to_dicts()})


@click.command
@store_argument
@click.option("--warm", is_flag=True, hidden=True, help="Build the tables.")
@click.option("--clear", is_flag=True, help="Delete the tables, and what is known of the files.")
@json_option
def cache(store: str, warm: bool, clear: bool, as_json: bool) -> Exit:
    """Show the size of a store's tables, or delete them."""
    opened = bak.store(store)
    if clear:
        opened.cache.clear()
    if warm:
        opened.build()
    use = opened.cache.use()
    print(_json(asdict(use)) if as_json else use)
    return Exit.COMPLETE


@click.command
@click.option(
    "--output-directory",
    metavar="FOLDER",
    help="Keep the files in this folder. Default: a temporary folder.",
    shell_complete=FOLDER,
)
@click.option("--serve", is_flag=True, help="Only serve the archive, until interrupted.")
def demo(output_directory: str | None, serve: bool) -> Exit:
    """Collect the embedded synthetic archive; needs no network."""
    archive = bak.demo_archive()
    with archive as endpoint:
        print(archive, flush=True)
        if serve:
            print(f"S3_ENDPOINT_URL={endpoint}\nServing until interrupted (Ctrl-C).", flush=True)
            while True:
                time.sleep(3600)
        folder = (
            nullcontext(output_directory)
            if output_directory
            else tempfile.TemporaryDirectory(prefix="binance-archive-demo-")
        )
        with folder as output:
            config = bak.demo_config(endpoint, output)
            print(f"\n{config.to_python()}\n\n# First run", flush=True)
            first = bak.collect(config)
            print(first)
            print("\n# Second run: every file is proven already", flush=True)
            second = bak.collect(config)
            print(second.headline())
            if output_directory:
                print(f"\nThe files are in {output}")
        return max(_exit_of(first), _exit_of(second))


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> Exit:
    """Print a shell script that completes commands, options and values."""
    root = context.find_root()
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 for the type checker: click has all three
    print(kind(root.command, {}, str(root.info_name), COMPLETE_VARIABLE).source())
    return Exit.COMPLETE


#: The shell's script runs the program with this variable set to ask for completions.
COMPLETE_VARIABLE = "_BINANCE_ARCHIVE_COMPLETE"
#: In the order of the help.
COMMANDS = (
    plan,
    collect,
    verify,
    coverage,
    sql,
    symbols,
    universe,
    matrix,
    build,
    export,
    cache,
    demo,
)
