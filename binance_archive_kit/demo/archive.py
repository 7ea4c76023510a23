"""The embedded archive: the files of `synthetic` and `market`, served on loopback.

::

    with demo_archive() as endpoint:
        collect(demo_config(endpoint, "demo-data"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.demo.market import MarketFiles
from binance_archive_kit.demo.prices import FIRST_DAY, LAST_DAY
from binance_archive_kit.demo.server import LocalS3
from binance_archive_kit.demo.synthetic import SYMBOLS, build
from binance_archive_kit.planning.config import CollectionConfig


class DemoArchive:
    """A synthetic archive, served on 127.0.0.1 between `start` and `stop`, or in a ``with`` block.

    Its values are invented; `binance_archive_kit.demo.synthetic` and
    `binance_archive_kit.demo.market` list its contents. It writes nothing to disk.

    Examples
    --------
    >>> archive = DemoArchive()
    >>> archive
    DemoArchive(not started, synthetic)
    >>> with archive as endpoint:
    ...     endpoint == archive.url
    True
    """

    def __init__(self) -> None:
        self._server: LocalS3 | None = None

    def __reduce__(self) -> Any:
        """Pickle an archive that is not started.

        Raises
        ------
        TypeError
            If it is served by this process.
        """
        if self._server is not None:
            raise TypeError(
                "a DemoArchive that is started is served by this process and cannot be pickled; "
                "give its url to other processes"
            )
        return type(self), ()

    @property
    def url(self) -> str:
        """The endpoint, such as ``http://127.0.0.1:43231``.

        Raises
        ------
        RuntimeError
            If the archive is not started.
        """
        if self._server is None:
            raise RuntimeError("the demo archive has no address before it is started")
        return self._server.url

    def start(self) -> str:
        """Build the archive, serve it on a background thread, and return the endpoint."""
        if self._server is None:
            self._server = LocalS3(MarketFiles(build())).start()
        return self.url

    def stop(self) -> None:
        """Stop serving. Does nothing if the archive is not started."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> str:
        """Start, and return the endpoint."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def __repr__(self) -> str:
        """Return the endpoint and the number of objects, and that the values are invented."""
        if self._server is None:
            return "DemoArchive(not started, synthetic)"
        return f"DemoArchive({self.url}, {len(self._server.objects):,} objects, synthetic)"


def demo_archive() -> DemoArchive:
    """Return a small synthetic archive, to try the package without the real one.

    Returns
    -------
    DemoArchive
        Not started yet. Both ``start()`` and a ``with`` block return the URL of the endpoint.

    Examples
    --------
    >>> with demo_archive() as endpoint:
    ...     endpoint.startswith("http://127.0.0.1:")
    True
    """
    return DemoArchive()


def demo_config(endpoint: str, output_directory: str | Path) -> CollectionConfig:
    """Return a configuration for every active feed of the demo archive, in every market.

    Parameters
    ----------
    endpoint : str
        The URL returned by ``DemoArchive.start()``.
    output_directory : str or Path
        The store to collect into.

    Returns
    -------
    CollectionConfig
        For the UTC days 2025-06-15 to 2025-07-15, both inclusive.
    """
    ended = (DataType.BOOK_TICKER, DataType.LIQUIDATION_SNAPSHOT, DataType.EOH_SUMMARY)
    hour = [Interval.H1]
    return CollectionConfig(
        markets=list(Market),
        symbols=SYMBOLS,
        data_types=[data_type for data_type in DataType if data_type not in ended],
        intervals={
            DataType.KLINES: [Interval.M1, Interval.H1, Interval.D1],
            DataType.PREMIUM_INDEX_KLINES: hour,
            DataType.INDEX_PRICE_KLINES: hour,
            DataType.MARK_PRICE_KLINES: hour,
        },
        date_range={"start": FIRST_DAY, "end": LAST_DAY},
        output_directory=output_directory,
        endpoint_url=endpoint,
    )
