"""What the whole archive takes, computed from figures that `spreading` measured."""

from __future__ import annotations

from dataclasses import dataclass

#: Zips of the archive; it has as many checksums, about 10^8 objects in all.
ZIPS = 50_000_000
WORKERS = (1, 10, 100)
#: Bits a second of a worker's network, and what share of it is used.
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


MEASURED = Measured(source_requests=2.04, writes=1.02, reads=0.01, cpu_seconds=0.0025)


def table(figures: Measured = MEASURED) -> str:
    """Return the table of the README."""
    writes, reads = ZIPS * figures.writes, ZIPS * figures.reads
    price = writes / 1e6 * WRITE_PRICE + reads / 1e6 * READ_PRICE
    seconds = ZIPS * figures.cpu_seconds
    terabyte = 8e12 / LINE
    rows = [
        ("zips, and as many checksums", f"{ZIPS:,}"),
        (f"shards of {figures.shard:,}", f"{ZIPS // figures.shard:,}"),
        ("requests to the archive", f"{ZIPS * figures.source_requests / 1e6:.0f} million"),
        (
            "requests to the bucket",
            f"{writes / 1e6:.0f} million that write, {reads / 1e6:.0f} million others: "
            f"{price:,.0f} USD at {WRITE_PRICE:.1f} and {READ_PRICE:.1f} USD a million",
        ),
    ]
    for name, of in (
        ("computing, for small objects", seconds),
        ("each TB, at 1 Gbit/s a worker", terabyte),
    ):
        hours = ", ".join(f"{of / workers / 3600:,.1f} h with {workers}" for workers in WORKERS)
        rows.append((name, f"{hours} workers"))
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def arithmetic() -> None:
    """Print what the whole archive takes."""
    print("\nThe whole archive")
    print(table())
