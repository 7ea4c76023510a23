"""The embedded archive: `synthetic` files, served on loopback as the real archive is.

::

    with demo_archive() as endpoint:
        collect(demo_config(endpoint, "demo-data"))
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.demo.server import S3Server
from binance_archive_kit.demo.synthetic import FIRST_DAY, LAST_DAY, SYMBOLS, build
from binance_archive_kit.display import render
from binance_archive_kit.planning.config import CollectionConfig


class DemoArchive:
    """The synthetic archive, served on loopback while the ``with`` block runs.

    Values are invented; see `synthetic` for what it holds. Nothing is written to disk.

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
        self._server: S3Server | None = None
        self._contents = ""

    @property
    def url(self) -> str:
        """The endpoint, such as ``http://127.0.0.1:43231``; raises until it is started."""
        if self._server is None:
            raise RuntimeError("the demo archive has no address before it is started")
        return self._server.url

    def start(self) -> str:
        """Build the archive, serve it on a thread of its own, and return the endpoint."""
        if self._server is None:
            objects = build()
            total = render.size(sum(map(len, objects.values())))
            self._contents = f"{len(objects):,} objects, {total}"
            self._server = S3Server(objects)
            self._server.start()
        return self.url

    def stop(self) -> None:
        """Stop serving; does nothing when it is not served."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> str:
        """Start, and give the endpoint."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def __repr__(self) -> str:
        """Say where it is, how large, and that its values are invented."""
        if self._server is None:
            return "DemoArchive(not started, synthetic)"
        return f"DemoArchive({self.url}, {self._contents}, synthetic)"


def demo_archive() -> DemoArchive:
    """Serve a small synthetic archive, to try everything without the network.

    Returns
    -------
    DemoArchive
        A context manager that gives the endpoint's URL.

    Examples
    --------
    >>> with demo_archive() as endpoint:
    ...     endpoint.startswith("http://127.0.0.1:")
    True
    """
    return DemoArchive()


def demo_config(endpoint: str, output_directory: str | Path) -> CollectionConfig:
    """Ask for all that runs of the synthetic archive: every market, every living feed.

    Parameters
    ----------
    endpoint : str
        What ``with demo_archive() as endpoint`` gives.
    output_directory : str or Path
        The store to collect into.

    Returns
    -------
    CollectionConfig
        Days 2025-06-15 to 2025-07-15, both inclusive.
    """
    hour = [Interval.H1]
    return CollectionConfig(
        markets=list(Market),
        symbols=SYMBOLS,
        data_types=[
            DataType.KLINES,
            DataType.TRADES,
            DataType.AGG_TRADES,
            DataType.FUNDING_RATE,
            DataType.PREMIUM_INDEX_KLINES,
            DataType.METRICS,
            DataType.INDEX_PRICE_KLINES,
            DataType.MARK_PRICE_KLINES,
            DataType.BOOK_DEPTH,
            DataType.BVOL_INDEX,
        ],
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
