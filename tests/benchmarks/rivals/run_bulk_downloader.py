"""Download daily archives with binance-bulk-downloader."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from binance_bulk_downloader.downloader import BinanceBulkDownloader
from rival_common import Job, argument_parser, job_from, print_result


class LocalDownloader(BinanceBulkDownloader):
    """The package's downloader, pointed at a job's bucket and kept to its days.

    The package downloads all that a symbol has; the range of days is applied to what its listing
    answers. It never reads a ``.CHECKSUM`` sidecar: it unpacks each archive and deletes it.

    Parameters
    ----------
    job : Job
        The download to be done.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(
            destination_dir=str(job.output),
            data_type=job.data_type,
            data_frequency=job.interval or "1m",
            asset=job.market,
            timeperiod_per_file="daily",
            symbols=list(job.symbols),
        )
        self._job = job
        self._BINANCE_DATA_S3_BUCKET_URL = job.bucket_url
        self._BINANCE_DATA_DOWNLOAD_BASE_URL = job.bucket_url

    def _get_file_list_from_s3_bucket(self, prefix: str) -> list[str]:
        """List the archives under a prefix, less those of other days, and make their directories.

        The package's threads race to make a directory, and the losers drop their archive without
        a word; with the directories there beforehand every archive arrives.

        Parameters
        ----------
        prefix : str
            Prefix of the keys to list.

        Returns
        -------
        list of str
            Keys of the archives to download.
        """
        listed = super()._get_file_list_from_s3_bucket(prefix)
        keys = [key for key in listed if self._job.covers(key)]
        for directory in {(self._job.output / key).parent for key in keys}:
            directory.mkdir(parents=True, exist_ok=True)
        return keys


def main() -> None:
    """Run the download described on the command line and print its result."""
    job = job_from(argument_parser(__doc__).parse_args())
    with Path(os.devnull).open("w", encoding="utf-8") as sink, contextlib.redirect_stdout(sink):
        started = time.perf_counter()
        LocalDownloader(job).run_download()
        seconds = time.perf_counter() - started
    # A failed download is shown and forgotten by the package, so what arrived is counted.
    files = sum(job.covers(path.name) for path in job.output.rglob("*.csv"))
    print_result(seconds, files, verified=False)


if __name__ == "__main__":
    main()
