"""Download daily archives with nekojiru-binance."""

from __future__ import annotations

import multiprocessing
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import nekojiru_binance
from rival_common import Job, argument_parser, job_from, print_result

#: The package fetches one file after another; more processes are the caller's own doing.
_PROCESSES = 1
_MIDDLE_OF_MONTH = 15


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of days of one symbol, small enough to come as daily archives.

    Attributes
    ----------
    symbol : str
        The symbol.
    start, end : date
        First and last day, both included.
    destination : Path
        Directory this part is written to.
    """

    symbol: str
    start: date
    end: date
    destination: Path


def parts_of(job: Job) -> list[Part]:
    """Cut a job into halves of months.

    For a whole month the package takes the monthly archive instead of the daily ones, and two
    calls within one month overwrite each other's output; half months, each in a directory of its
    own, avoid both.

    Parameters
    ----------
    job : Job
        The download to be cut.

    Returns
    -------
    list of Part
        The parts, symbol by symbol.
    """
    parts = []
    for symbol in job.symbols:
        start = job.start
        while start <= job.end:
            if start.day <= _MIDDLE_OF_MONTH:
                half, end = 1, start.replace(day=_MIDDLE_OF_MONTH)
            else:
                next_month = start.replace(day=28) + timedelta(days=4)
                half, end = 2, next_month - timedelta(days=next_month.day)
            parts.append(Part(symbol, start, min(end, job.end), job.output / f"half-{half}"))
            start = end + timedelta(days=1)
    return parts


def sync_part(job: Job, part: Part) -> str | None:
    """Download one part, each archive compared with its checksum by the package.

    Parameters
    ----------
    job : Job
        The download the part belongs to.
    part : Part
        The part to download.

    Returns
    -------
    str or None
        What went wrong, or ``None``. The package gives up the whole part on the first missing
        archive or wrong checksum.
    """
    try:
        nekojiru_binance.sync(
            dataset=re.sub(r"(?<=[a-z])(?=[A-Z])", "-", job.data_type).lower(),
            market=job.market,
            symbol=part.symbol,
            interval=job.interval,
            start=part.start.isoformat(),
            end=part.end.isoformat(),
            dest=str(part.destination),
            format="csv",
            base_url=job.bucket_url,
        )
    except (RuntimeError, ValueError) as error:
        return f"{part.symbol} {part.start} to {part.end}: {error}"
    return None


def main() -> None:
    """Run the download described on the command line and print its result."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--processes",
        type=int,
        default=_PROCESSES,
        help="parts downloaded at a time (default: %(default)s)",
    )
    arguments = parser.parse_args()
    job = job_from(arguments)
    parts = parts_of(job)
    processes = min(arguments.processes, len(parts))
    with ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn")
    ) as executor:
        # Start every process, and its imports, before the clock.
        list(executor.map(time.sleep, [0.5] * processes))
        started = time.perf_counter()
        problems = list(executor.map(sync_part, [job] * len(parts), parts))
        seconds = time.perf_counter() - started
    files = 0
    for part, problem in zip(parts, problems, strict=True):
        if problem is None:
            files += (part.end - part.start).days + 1
        else:
            print(problem, file=sys.stderr)
    print_result(seconds, files, verified=not any(problems))


if __name__ == "__main__":
    main()
