"""Command line, archive layout and result line shared by the rival drivers."""

from __future__ import annotations

import argparse
import json
import os
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

BUCKET = "data.binance.vision"

_DAY_IN_KEY = re.compile(r"(\d{4}-\d{2}-\d{2})\.(?:zip|csv)(?:\.CHECKSUM)?$")


@dataclass(frozen=True, slots=True)
class Job:
    """One download to be done, whichever rival does it.

    Attributes
    ----------
    bucket_url : str
        Path-style URL of the bucket, without a trailing slash.
    output : Path
        Directory the files go to.
    market : str
        ``"spot"``, ``"um"`` or ``"cm"``.
    data_type : str
        Data type as the archive spells it, such as ``"klines"`` or ``"aggTrades"``.
    interval : str or None
        Kline interval, or ``None`` for a data type without one.
    start, end : date
        First and last day, both included.
    symbols : tuple of str
        Symbols in the order given.
    """

    bucket_url: str
    output: Path
    market: str
    data_type: str
    interval: str | None
    start: date
    end: date
    symbols: tuple[str, ...]

    def covers(self, key: str) -> bool:
        """Tell whether the daily file named by ``key`` falls into the range of days.

        Parameters
        ----------
        key : str
            Object key or file name, of an archive, of its checksum or of its CSV file.

        Returns
        -------
        bool
            Whether the name ends with a day from ``start`` to ``end``.
        """
        match = _DAY_IN_KEY.search(key)
        return match is not None and self.start <= date.fromisoformat(match[1]) <= self.end


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Build the command line that every driver shares.

    Parameters
    ----------
    description : str or None
        First line of the help text.

    Returns
    -------
    argparse.ArgumentParser
        Parser that a driver may extend with options of its own.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--endpoint", required=True, help="base URL of the local S3 server")
    parser.add_argument("--output", required=True, type=Path, help="directory to download into")
    parser.add_argument("--market", choices=("spot", "um", "cm"), default="spot")
    parser.add_argument("--data-type", default="klines")
    parser.add_argument("--interval", default=None)
    parser.add_argument("--start", required=True, type=date.fromisoformat)
    parser.add_argument("--end", required=True, type=date.fromisoformat)
    parser.add_argument("--symbols", required=True, nargs="+")
    return parser


def job_from(arguments: argparse.Namespace) -> Job:
    """Turn the parsed command line into a job, and keep its traffic off any proxy.

    Parameters
    ----------
    arguments : argparse.Namespace
        What the parser of `argument_parser` returned.

    Returns
    -------
    Job
        The download to be done, its output an absolute path.
    """
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    return Job(
        bucket_url=f"{arguments.endpoint.rstrip('/')}/{BUCKET}",
        output=arguments.output.resolve(),
        market=arguments.market,
        data_type=arguments.data_type,
        interval=arguments.interval,
        start=arguments.start,
        end=arguments.end,
        symbols=tuple(arguments.symbols),
    )


def print_result(seconds: float, files: int, *, verified: bool) -> None:
    """Print the one JSON line a driver answers with.

    Parameters
    ----------
    seconds : float
        Wall-clock time of the download, and of the verification if there was one.
    files : int
        Number of daily archives that arrived; sidecars are not counted.
    verified : bool
        Whether the rival compared every one of them with its checksum.
    """
    print(json.dumps({"seconds": round(seconds, 4), "files": files, "verified": verified}))
