"""Commands that read the archive: plan, collect, symbols, universe, matrix and demo.

A command is a function that returns an `Exit`. It prints text, or JSON with ``--json``.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

import click

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition, read_market
from binance_archive_kit.archive.keys import feed_prefix
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.cli.options import (
    FILE,
    FOLDER,
    config_from_options,
    config_options,
    endpoint_option,
    json_option,
    words,
)
from binance_archive_kit.cli.output import Exit, to_json
from binance_archive_kit.display.summary import Table
from binance_archive_kit.errors import ConfigurationError, WorkflowError
from binance_archive_kit.suggestions import unknown

# Commands import some modules themselves, so that errors in arguments are reported quickly.


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
    if not keys:
        return print_plan(found, as_json=as_json)
    for key, action in found.frame.select("key", "action").iter_rows():
        if action != "keep":
            print(key)
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
        return print_result(bak.collect(config_from_options(**options)), as_json=as_json)
    except WorkflowError as error:
        if isinstance(error.result, bak.CollectionResult):
            print_result(error.result, as_json=as_json)
        raise


def print_result(result: bak.CollectionResult, *, as_json: bool) -> Exit:
    """Print the result of a collection; return the exit code."""
    print(_result_json(result) if as_json else result)
    return _exit_of(result)


def print_plan(found: bak.Plan, *, as_json: bool) -> Exit:
    """Print a plan; return the exit code."""
    print(_plan_json(found) if as_json else found)
    return Exit.COMPLETE if len(found) else Exit.NOTHING


def _exit_of(result: bak.CollectionResult) -> Exit:
    if result.failures:
        return Exit.PARTIAL
    return Exit.NOTHING if result.outcome == "empty" else Exit.COMPLETE


def _plan_json(found: bak.Plan) -> str:
    actions = ("download", "update", "keep")
    return to_json(
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
    return to_json(
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
        async with ListingClient(endpoint, matrix.archive.bucket, bulk=False) as archive:
            return await archive.symbols(prefix)

    known = asyncio.run(listed())
    found = [symbol for symbol in known if fnmatchcase(symbol, like)]
    if found or as_json:
        print(to_json(found) if as_json else "\n".join(found))
    if not found:
        guess = like.upper()
        hint = (
            f"; did you mean {guess!r}?"
            if any(fnmatchcase(symbol, guess) for symbol in known)
            else ""
        )
        click.echo(f"binance-archive: no symbol matches {like!r}{hint}", err=True)
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
        print(to_json(found.to_dicts()))
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
        print(to_json(rows))
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
