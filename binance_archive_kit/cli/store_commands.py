"""Commands that read a store: verify, coverage, sql, build, export and cache.

A command is a function that returns an `Exit`. It prints text, or JSON with ``--json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

import binance_archive_kit as bak
from binance_archive_kit.cli.options import (
    FILE,
    FOLDER,
    day_options,
    endpoint_option,
    intervals_option,
    json_option,
    part_options,
    split,
    standard_input,
    store_argument,
)
from binance_archive_kit.cli.output import Exit, to_json
from binance_archive_kit.errors import ConfigurationError, FieldProblem
from binance_archive_kit.paths import find_path
from binance_archive_kit.planning.date_range import read_day

# Commands import some modules themselves, so that errors in arguments are reported quickly.


@click.command
@store_argument
@click.option(
    "--sample",
    type=int,
    metavar="N",
    help="Hash only N random files. Default: all; none of those in object storage.",
)
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

    STORE is a folder in the archive's layout, or a URL such as s3://bucket/research, of
    which sizes and ETags are compared with the records.
    """
    found = bak.verify(store, **options)
    if as_json:
        counts = ("state", "files", "read", "proven", "by_checksum", "unproven", "sound")
        lists = {
            "problems": found.frame.to_dicts(),
            "notes": found.notes,
            "skipped": [file._asdict() for file in found.skipped],
        }
        print(to_json({name: getattr(found, name) for name in counts} | lists))
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

    SOURCE is the folder or URL of a store, or a JSON file with a configuration.
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
    return to_json(
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

    STORE is a folder, or a URL such as s3://bucket/research. QUERY is a statement, such as
    "SELECT count(*) FROM spot_klines", or - for standard input.
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
@store_argument
@part_options("all but trades and order books, which are large")
@json_option
def build(
    store: str, market: str | None, data_type: str | None, symbols: Sequence[str], as_json: bool
) -> Exit:
    """Build columnar tables of a store, so that queries are as fast as on Parquet.

    STORE is a folder, or a URL such as s3://bucket/research; there, small tables are merged.
    """
    opened = bak.store(store)
    use = opened.build(market, data_type, symbols=split(symbols) or None)
    print(to_json(asdict(use)) if as_json else use)
    return Exit.COMPLETE if opened.engine.feeds() else Exit.NOTHING


@click.command
@store_argument
@click.argument("target", shell_complete=FOLDER)
@part_options("all")
@intervals_option
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

    STORE is a folder or URL; TARGET is a folder outside the store. Files that are up to date
    are kept.
    """
    options |= {name: read_day(name, options[name]) for name in ("start", "end")}
    done = bak.to_parquet(
        store, target, symbols=split(symbols) or None, intervals=split(intervals) or None, **options
    )
    print(_export_json(done) if as_json else done)
    return Exit.COMPLETE if done.rows else Exit.NOTHING


def _export_json(done: bak.ParquetExport) -> str:
    names = ("target", "written", "kept", "removed", "rows", "bytes", "verdict")
    values = {name: getattr(done, name) for name in names}
    return to_json({**values, "complete": done.is_complete, "files": done.files.to_dicts()})


@click.command
@store_argument
@click.option("--warm", is_flag=True, hidden=True, help="Build the tables.")
@click.option("--clear", is_flag=True, help="Delete the tables, and what is known of the files.")
@click.option(
    "--shared", is_flag=True, help="With --clear: in a bucket, too, where all machines read them."
)
@json_option
def cache(store: str, warm: bool, clear: bool, shared: bool, as_json: bool) -> Exit:
    """Show the size of a store's tables, or delete them.

    STORE is a folder, or a URL such as s3://bucket/research.
    """
    opened = bak.store(store)
    if shared and not clear:
        raise click.UsageError("--shared is for --clear")
    if clear:
        opened.cache.clear(shared=shared)
    if warm:
        opened.build()
    use = opened.cache.use()
    print(to_json(asdict(use)) if as_json else use)
    if clear and use.parts and not shared and not as_json:
        print("Deleted what this machine had kept of them; --clear --shared deletes them for all")
    return Exit.COMPLETE
