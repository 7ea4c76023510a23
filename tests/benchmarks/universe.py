"""How long `universe` takes for a market, from an endpoint that answers late.

    python -m tests.benchmarks.universe 2000 --latency 0.05

The endpoint is a process of its own that computes its pages, so that its keys need no memory.
One of four symbols has ended. Prints seconds, and CPU of the client.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream, format_period, periods

_OBJECT = (
    "<Contents><Key>{}</Key><LastModified>2025-08-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag><Size>1234</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)


class ListedMarket:
    """The pages of a market of symbols with daily candles."""

    def __init__(self, symbols: int) -> None:
        today = datetime.now(UTC).date()
        self.symbols = [f"C{number:05}USDT" for number in range(symbols)]
        self.requests = 0
        self._folders: dict[str, tuple[Folder, list[str]]] = {}
        for number, name in enumerate(self.symbols):
            first = date(2020 + number % 6, 1 + number % 12, 1 + number % 28)
            ended = number % 4 == 0
            last = today - timedelta(days=100 + number % 200 if ended else 2)
            stream = Stream(Market.FUTURES_UM, DataType.KLINES, name, Interval.D1)
            for partition in Partition:
                folder = Folder(stream, partition)
                whole = [format_period(day, partition) for day in periods(first, last, partition)]
                if partition is Partition.MONTHLY:
                    whole = [month for month in whole if month < str(today)[:7]]
                self._folders[folder.prefix] = folder, whole

    def page(self, query: dict[str, str]) -> bytes:
        self.requests += 1
        prefix, marker = query["prefix"], query.get("marker", "")
        count = int(query["max-keys"])
        if "delimiter" in query:
            names = [name for name in self.symbols if f"{prefix}{name}/" > marker]
            found = [f"{prefix}{name}/" for name in names[:count]]
            inner = "".join(
                f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in found
            )
            more = len(names) > count
            inner += f"<NextMarker>{found[-1]}</NextMarker>" if more else ""
        else:
            folder, whole = self._folders[prefix]
            head = f"{prefix}{folder.stem}"
            after = marker.removeprefix(head)[: 10 if folder.partition is Partition.DAILY else 7]
            start = bisect_left(whole, after)
            keys = [
                key
                for period in whole[start : start + count // 2 + 2]
                for key in (f"{head}{period}.zip", f"{head}{period}.zip.CHECKSUM")
                if key > marker
            ]
            more = len(keys) > count
            inner = "".join(map(_OBJECT.format, keys[:count]))
        return (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{inner}</ListBucketResult>"
        ).encode()


def serve(symbols: int, latency: float, pipe: Connection) -> None:
    market = ListedMarket(symbols)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ", 2)[1].decode()
                query = {name: each[0] for name, each in parse_qs(urlsplit(target).query).items()}
                await asyncio.sleep(latency)
                body = market.page(query) if query else str(market.requests).encode()
                start = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(start.encode() + body)

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        async with server:
            await server.serve_forever()

    asyncio.run(main())


@contextmanager
def served(symbols: int, latency: float) -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(symbols, latency, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("symbols", type=int, nargs="?", default=2000)
    parser.add_argument("--latency", type=float, default=0.05)
    asked = parser.parse_args()
    with served(asked.symbols, asked.latency) as url:
        # Imports and the matrix are not part of it.
        bak.universe("um", "klines", interval="1d", symbols="C00000USDT", endpoint_url=url)
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        frame = bak.universe("um", "klines", interval="1d", endpoint_url=url)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert frame["ended"].sum() == -(-asked.symbols // 4)
    print(f"{frame.height:,} symbols: {seconds:.1f} s, {cpu:.1f} s of CPU")


if __name__ == "__main__":
    main()
