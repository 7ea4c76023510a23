"""Download daily archives with binance-datatool."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from binance_datatool.archive import ArchiveClient
from binance_datatool.archive import client as listing_module
from binance_datatool.common import DataFrequency, DataType, TradeType, configure_cli_logging
from binance_datatool.workflow import results as results_module
from binance_datatool.workflow.download import ArchiveDownloadWorkflow
from binance_datatool.workflow.results import DownloadResult, VerifyResult
from binance_datatool.workflow.verify import ArchiveVerifyWorkflow
from rival_common import Job, argument_parser, job_from, print_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from binance_datatool.archive import SymbolListingResult


class DayRangeClient(ArchiveClient):
    """Listing client that keeps only the days of a job.

    The package downloads all that a symbol has; its download workflow accepts another client, so
    that is where the range of days is applied.

    Parameters
    ----------
    job : Job
        The download whose days are kept.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(trust_env=False)
        self._job = job

    async def list_symbol_files_batch(
        self,
        trade_type: TradeType,
        data_freq: DataFrequency,
        data_type: DataType,
        symbols: Sequence[str],
        interval: str | None = None,
        *,
        progress_bar: bool = False,
    ) -> dict[str, SymbolListingResult]:
        """List the files of several symbols, less those of other days.

        Parameters
        ----------
        trade_type, data_freq, data_type, symbols, interval, progress_bar
            As for the overridden method.

        Returns
        -------
        dict of str to tuple
            For each symbol its files and its error, if it had one.
        """
        listed = await super().list_symbol_files_batch(
            trade_type, data_freq, data_type, symbols, interval, progress_bar=progress_bar
        )
        return {
            symbol: ([file for file in files if self._job.covers(file.key)], error)
            for symbol, (files, error) in listed.items()
        }


def download(job: Job, workers: int | None) -> tuple[int, bool]:
    """Download the archives and their sidecars, then verify them.

    Parameters
    ----------
    job : Job
        The download to be done.
    workers : int or None
        Processes that verify; ``None`` for the package's own choice.

    Returns
    -------
    files : int
        Number of archives that arrived and passed.
    verified : bool
        Whether nothing failed, in the listing, the download or the verification.

    Raises
    ------
    TypeError
        When a workflow answers as if for a dry run.
    """
    trade_type, data_type = TradeType(job.market), DataType(job.data_type)
    downloaded = asyncio.run(
        ArchiveDownloadWorkflow(
            trade_type,
            DataFrequency.daily,
            data_type,
            job.symbols,
            job.output,
            interval=job.interval,
            client=DayRangeClient(job),
        ).run()
    )
    checked = ArchiveVerifyWorkflow(
        trade_type,
        DataFrequency.daily,
        data_type,
        job.symbols,
        job.output,
        interval=job.interval,
        n_workers=workers,
    ).run()
    if not isinstance(downloaded, DownloadResult) or not isinstance(checked, VerifyResult):
        msg = "a workflow answered as if for a dry run"
        raise TypeError(msg)
    failures = (
        downloaded.failed
        + downloaded.listing_failed_symbols
        + checked.failed
        + checked.orphan_zips
        + checked.orphan_checksums
    )
    return checked.verified, failures == 0 and checked.verified > 0


def main() -> None:
    """Run the download described on the command line and print its result."""
    parser = argument_parser(__doc__)
    parser.add_argument("--workers", type=int, default=None, help="processes that verify")
    arguments = parser.parse_args()
    job = job_from(arguments)
    configure_cli_logging(0)
    # The package looks for aria2c on PATH; one inside this environment counts as well.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    vars(listing_module)["S3_LISTING_PREFIX"] = job.bucket_url
    vars(results_module)["S3_DOWNLOAD_PREFIX"] = job.bucket_url
    started = time.perf_counter()
    files, verified = download(job, arguments.workers)
    print_result(time.perf_counter() - started, files, verified=verified)


if __name__ == "__main__":
    main()
