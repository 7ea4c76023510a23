"""Commands that keep a store: update and prune.

A command is a function that returns an `Exit`. It prints text, or JSON with ``--json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.cli.archive_commands import print_plan, print_result
from binance_archive_kit.cli.options import (
    day_options,
    intervals_option,
    json_option,
    part_options,
    setting_options,
    settings_from_options,
    split,
    store_argument,
    words,
)
from binance_archive_kit.cli.output import Exit, to_json
from binance_archive_kit.errors import WorkflowError
from binance_archive_kit.planning.config import SETTINGS, PartitionChoice


@click.command
@store_argument
@click.option("--dry-run", is_flag=True, help="Show the plan, and download nothing.")
@click.option(
    "--end",
    metavar="DAY",
    default="yesterday",
    help="Last UTC day, inclusive: 2025-07-15, yesterday or -2d. Default: yesterday.",
)
@click.option("--holes", is_flag=True, help="Request also the days without a file between others.")
@part_options("all")
@intervals_option
@click.option(
    "--partition",
    metavar="WORD",
    help="The partition of new files: daily, monthly or auto. Default: that of each stream.",
    shell_complete=words(PartitionChoice),
)
@json_option
@setting_options(SETTINGS)
def update(
    store: str,
    symbols: Sequence[str],
    intervals: Sequence[str],
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> Exit:
    """Download the files that continue the streams of a store.

    STORE is a folder in the archive's layout, or the URL of a store in object storage.
    """
    settings = settings_from_options(**{name: options.pop(name) for name in SETTINGS})
    names = {"symbols": split(symbols) or None, "intervals": split(intervals) or None}
    try:
        done = bak.update(store, dry_run=dry_run, **names, **options, **settings)
    except WorkflowError as error:
        if isinstance(error.result, bak.CollectionResult):
            print_result(error.result, as_json=as_json)
        raise
    if isinstance(done, bak.Plan):
        return print_plan(done, as_json=as_json)
    return print_result(done, as_json=as_json)


@click.command
@store_argument
@part_options("all")
@intervals_option
@click.option(
    "--partition",
    metavar="WORD",
    help="Only files of this partition: daily or monthly. Default: both.",
    shell_complete=words(Partition),
)
@day_options("the first", "the last")
@click.option("--yes", is_flag=True, help="Delete the files. Without it they are only shown.")
@json_option
def prune(
    store: str,
    symbols: Sequence[str],
    intervals: Sequence[str],
    yes: bool,
    as_json: bool,
    **options: Any,
) -> Exit:
    """Delete files of a store; without --yes only show which ones.

    STORE is a folder on this machine, in the archive's layout. At least one condition is
    required.
    """
    options |= {"symbols": split(symbols) or None, "intervals": split(intervals) or None}
    done = bak.prune(store, dry_run=not yes, **options)
    if as_json:
        values = ("deleted", "files", "bytes", "partial", "outside", "failed")
        frame = {"streams": done.frame.to_dicts()}
        print(to_json({name: getattr(done, name) for name in values} | frame))
    else:
        print(done)
    if done.failed:
        return Exit.PARTIAL
    return Exit.COMPLETE if done.files else Exit.NOTHING
