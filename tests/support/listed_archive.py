"""A server of a listing without objects: millions of keys, which are formatted on request.

    python -m tests.support.listed_archive SYMBOLS PAGE

lists daily spot candles of so many symbols, of two intervals and of five years, with their
sidecars, in pages of so many keys.
"""

from __future__ import annotations

import signal
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any, overload

from binance_archive_kit.demo import server as demo
from binance_archive_kit.demo.server import ObjectInfo
from tests.benchmarks.collecting import started

FIRST, LAST = date(2020, 1, 1), date(2024, 12, 31)
INTERVALS = ("1m", "5m")
_DAYS = [str(FIRST + timedelta(days=index)) for index in range((LAST - FIRST).days + 1)]
_SUFFIXES = (".zip", ".zip.CHECKSUM")


def symbols(count: int) -> list[str]:
    return [f"C{index:03d}USDT" for index in range(count)]


def objects(count: int) -> int:
    """Return how many zips of so many symbols are listed."""
    return count * len(INTERVALS) * len(_DAYS)


def fields(count: int, url: str, output: str, **more: Any) -> dict[str, Any]:
    """Return the fields of a configuration that asks for all of them."""
    return {
        "markets": ["spot"],
        "symbols": symbols(count),
        "data_types": ["klines"],
        "intervals": {"klines": [*INTERVALS]},
        "date_range": {"start": str(FIRST), "end": str(LAST)},
        "output_directory": output,
        "endpoint_url": url,
        **more,
    }


class _Keys(Sequence[str]):
    """All keys, in order."""

    def __init__(self, count: int) -> None:
        self._folders = [
            f"data/spot/daily/klines/{symbol}/{interval}/{symbol}-{interval}-"
            for symbol in symbols(count)
            for interval in INTERVALS
        ]

    def __len__(self) -> int:
        return len(self._folders) * len(_DAYS) * len(_SUFFIXES)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            raise TypeError("one key at a time")
        rest, suffix = divmod(index, len(_SUFFIXES))
        folder, day = divmod(rest, len(_DAYS))
        return f"{self._folders[folder]}{_DAYS[day]}{_SUFFIXES[suffix]}"


class ListedS3(demo.LocalS3):
    """Lists keys of objects that it does not have."""

    def __init__(self, count: int) -> None:
        super().__init__({})
        self._keys = _Keys(count)

    def keys(self) -> Sequence[str]:
        return self._keys

    def info(self, key: str) -> ObjectInfo | None:
        number = zlib.crc32(key.encode())
        return ObjectInfo.of(key, 2_000 + number % 1_000, f"{number:032x}")


@contextmanager
def serving(count: int, page: int) -> Iterator[str]:
    """Serve from a process of its own; give the endpoint."""
    with started([sys.executable, "-m", __name__, str(count), str(page)]) as url:
        yield url


def main() -> None:
    """Serve until SIGTERM; the first line is the URL."""
    count, page = map(int, sys.argv[1:])
    demo._PAGE = page
    with ListedS3(count) as server:
        print(server.url, flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        signal.pause()


if __name__ == "__main__":
    main()
