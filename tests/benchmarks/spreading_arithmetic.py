"""What the whole archive takes, computed from figures that `spreading` measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Zips of the archive; it has as many checksums, about 10^8 objects in all.
ZIPS = 50_000_000
WORKERS = (1, 10, 100)
#: Bits a second of a worker's network.
LINE = 1e9
#: US dollars that object stores commonly charge for a million requests that write or list, and
#: for a million others.
WRITE_PRICE, READ_PRICE = 5.0, 0.4


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of `spreading times`, for small objects.

    Attributes
    ----------
    source_requests, writes, reads : float
        Requests for each zip: to the archive, and those to the bucket that write, and others.
    cpu_seconds : float
        Seconds of one core for each zip: worker and s5cmd, without the servers.
    shard : int
        Objects of a shard.
    """

    source_requests: float
    writes: float
    reads: float
    cpu_seconds: float
    shard: int = 1000


MEASURED = Measured(source_requests=2.04, writes=1.01, reads=0.01, cpu_seconds=0.002)


def table(figures: Measured = MEASURED) -> str:
    """Return the table of the README."""
    writes, reads = ZIPS * figures.writes, ZIPS * figures.reads
    price = writes / 1e6 * WRITE_PRICE + reads / 1e6 * READ_PRICE
    rows = [
        ("zips, with as many checksums", f"{ZIPS / 1e6:.0f} million"),
        (f"shards of {figures.shard:,} zips", f"{ZIPS // figures.shard:,}"),
        ("requests to the archive", f"{ZIPS * figures.source_requests / 1e6:.0f} million"),
        (
            "requests to the bucket that write or list, and others",
            f"{writes / 1e6:.1f} million, {reads / 1e6:.1f} million",
        ),
        (
            f"their price, at {WRITE_PRICE:.2f} and {READ_PRICE:.2f} USD a million",
            f"{price:,.0f} USD",
        ),
        (
            f"hours of {_worded(WORKERS)} workers, for small files",
            _worded(ZIPS * figures.cpu_seconds / workers / 3600 for workers in WORKERS),
        ),
        (
            "minutes of these for each terabyte more, at 1 Gbit/s each",
            _worded(8e12 / LINE / workers / 60 for workers in WORKERS),
        ),
    ]
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def _worded(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:.2g}" if number < 100 else f"{number:,.0f}" for number in numbers)


def arithmetic() -> None:
    """Print what the whole archive takes."""
    print("\nThe whole archive")
    print(table())
