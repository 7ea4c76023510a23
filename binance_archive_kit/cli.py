"""The command line: ``binance-archive plan | collect | sql | cache | demo``.

Exit codes: 0 all that the archive has is proven on disk; 1 some or all of it failed;
2 the question is wrong; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from binance_archive_kit import __version__
from binance_archive_kit.collection import collect, plan
from binance_archive_kit.config import CollectionConfig
from binance_archive_kit.datasets import connect, store
from binance_archive_kit.demo import demo_archive, demo_config
from binance_archive_kit.errors import ArchiveKitError, ConfigurationError, WorkflowError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    asked = _parser().parse_args(arguments)
    warnings.showwarning = _say_warning
    try:
        return int(asked.run(asked))
    except ConfigurationError as error:
        return _complain(error, 2)
    except WorkflowError as error:
        if error.result is not None:
            print(error.result)
        return _complain(error, 1)
    except ArchiveKitError as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted; what is proven is kept, run it again to go on", 130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="binance-archive",
        description="Collect the Binance public archive and prove every file.",
        epilog="A configuration is a JSON file; see the README for its fields.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    for name, run, what in (
        ("plan", _plan, "say what a collection would do; download nothing"),
        ("collect", _collect, "download what the archive has, and prove every file"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("config", type=Path, help="JSON file with the configuration")
        command.add_argument("--endpoint-url", help="use this endpoint instead of the one it names")
        command.add_argument(
            "--output-directory", help="use this folder instead of the one it names"
        )
        command.set_defaults(run=run)

    what = "ask a store a question in SQL, over the zips as they lie there"
    command = commands.add_parser("sql", help=what, description=what)
    command.add_argument("store", type=Path, help="folder in the archive's layout")
    command.add_argument("query", help="such as: SELECT count(*) FROM spot_klines")
    command.add_argument("--json", action="store_true", help="give a line of JSON for each row")
    command.set_defaults(run=_sql)

    what = "show what the cache of a store takes; fill it, or clear it"
    command = commands.add_parser("cache", help=what, description=what)
    command.add_argument("store", type=Path, help="folder in the archive's layout")
    command.add_argument("--warm", action="store_true", help="put every month into it")
    command.add_argument("--clear", action="store_true", help="forget everything")
    command.set_defaults(run=_cache)

    what = "run the main job on the embedded synthetic archive, on this machine alone"
    command = commands.add_parser("demo", help=what, description=what)
    command.add_argument("--output-directory", help="keep the files here; else they are removed")
    command.add_argument(
        "--serve", action="store_true", help="only serve the archive, until interrupted"
    )
    command.set_defaults(run=_demo)
    return parser


def _plan(asked: argparse.Namespace) -> int:
    print(plan(_config(asked)))
    return 0


def _collect(asked: argparse.Namespace) -> int:
    result = collect(_config(asked))
    print(result)
    return 1 if result.failures else 0


def _sql(asked: argparse.Namespace) -> int:
    import duckdb

    with connect(asked.store) as connection:
        try:
            answer = connection.sql(asked.query)
            if answer is None:
                return 0
            if asked.json:
                for row in answer.pl().iter_rows(named=True):
                    print(json.dumps(row, default=str, ensure_ascii=False))
            else:
                answer.show(max_rows=200)
        except duckdb.Error as error:
            return _complain(str(error).partition(" Detail: Python exception")[0], 2)
    return 0


def _cache(asked: argparse.Namespace) -> int:
    opened = store(asked.store)
    if asked.clear:
        opened.cache.clear()
    if asked.warm:
        opened.warm()
    print(opened.cache.use())
    return 0


def _config(asked: argparse.Namespace) -> CollectionConfig:
    changes = {
        name: getattr(asked, name)
        for name in ("endpoint_url", "output_directory")
        if getattr(asked, name) is not None
    }
    config = CollectionConfig.from_json(asked.config)
    return config.replace(**changes) if changes else config


def _demo(asked: argparse.Namespace) -> int:
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
        return 1 if first.failures or second.failures else 0


def _complain(message: object, code: int) -> int:
    print(f"binance-archive: {message}", file=sys.stderr)
    return code


def _say_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"binance-archive: note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
