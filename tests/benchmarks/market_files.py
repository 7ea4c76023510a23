"""Generate a market's worth of files in the archive's layout, with the digits of real ones.

A folder that is complete is used again: it has a file that says so, with what was generated.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import multiprocessing
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, ObjectKey, Stream, periods
from binance_archive_kit.archive.schemas import schema

#: How hard the archive packs its files.
_LEVEL = 6
_DAY_MS, _MINUTE_MS = 86_400_000, 60_000
#: From then on spot files count microseconds.
_MICROSECONDS_SINCE = date(2025, 1, 1)
#: The ends of symbols, so often as in a real market.
_QUOTES = ("USDT", "USDT", "USDT", "BTC", "USDC")
_COMPLETE = "complete.json"
#: Changes when other files are generated.
_VERSION = 1
COLUMNS = [column.column for column in schema(Market.SPOT, DataType.KLINES).columns]


@dataclass(frozen=True)
class Candles:
    """Monthly files of spot candles of many symbols.

    Attributes
    ----------
    symbols : int
    first, last : date
        The first day of the first and of the last month.
    interval : Interval
        One day or one minute.
    """

    symbols: int
    first: date
    last: date
    interval: Interval = Interval.D1

    @property
    def names(self) -> list[str]:
        """The symbols."""
        bases = map("".join, itertools.product("ABCDEFGHJKLMNP", repeat=3))
        return [
            f"{base}{_QUOTES[index % len(_QUOTES)]}"
            for index, base in zip(range(self.symbols), bases, strict=False)
        ]

    @property
    def months(self) -> list[date]:
        """The first day of each month."""
        return list(periods(self.first, self.last, Partition.MONTHLY))

    @property
    def files(self) -> int:
        """How many zips there are."""
        return self.symbols * len(self.months)

    def keys(self, symbol: str) -> list[ObjectKey]:
        """Return the keys of a symbol's files, oldest first."""
        stream = Stream(Market.SPOT, DataType.KLINES, symbol, self.interval)
        folder = Folder(stream, Partition.MONTHLY)
        return [ObjectKey(folder, month) for month in self.months]


#: 30,000 monthly files of 1d candles, 100,000 of them, and a month of 1m candles.
DAYS = Candles(500, date(2021, 1, 1), date(2025, 12, 1))
MANY = Candles(1000, date(2017, 9, 1), date(2025, 12, 1))
MINUTES = Candles(200, date(2024, 6, 1), date(2024, 6, 1), Interval.M1)


def complete(folder: Path, what: object, write: Callable[[], None]) -> Path:
    """Return a folder of generated files; write them if they are not all there."""
    mark, meaning = folder / _COMPLETE, json.dumps([_VERSION, what], default=str)
    if not mark.exists() or mark.read_text() != meaning:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write()
        mark.write_text(meaning)
    return folder


def candles(folder: Path, wanted: Candles) -> Path:
    """Return a folder with a store of candles, generated on all cores if it is not there."""

    def write() -> None:
        # A fork of a process that has queried would wait for threads that it does not have.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
            work = partial(_write_symbol, folder, wanted)
            list(pool.map(work, range(wanted.symbols), chunksize=8))

    return complete(folder, asdict(wanted), write)


def _write_symbol(root: Path, wanted: Candles, index: int) -> None:
    for key, packed in symbol_files(wanted, index):
        path = root / str(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)


def symbol_files(wanted: Candles, index: int, seed: int = 0) -> Iterator[tuple[ObjectKey, bytes]]:
    """Yield key and zip of each month of a symbol.

    Parameters
    ----------
    wanted : Candles
    index : int
        Of the symbol.
    seed : int
        Another number gives other prices.
    """
    keys = wanted.keys(wanted.names[index])
    rows = _rows(wanted, keys, np.random.default_rng([seed, index]))
    csv = rows.write_csv(include_header=False, float_precision=8).encode()
    ends = np.flatnonzero(np.frombuffer(csv, np.uint8) == ord("\n")) + 1
    start = 0
    for key, count in zip(keys, _counts(wanted, keys), strict=True):
        begin, end = 0 if not start else ends[start - 1], ends[start + count - 1]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            info = zipfile.ZipInfo(key.member, (2025, 1, 1, 0, 0, 0))
            file.writestr(info, csv[begin:end], zipfile.ZIP_DEFLATED, _LEVEL)
        yield key, packed.getvalue()
        start += count


def _counts(wanted: Candles, keys: list[ObjectKey]) -> list[int]:
    per_day = 1 if wanted.interval is Interval.D1 else 1440
    return [per_day * ((key.end - key.start).days + 1) for key in keys]


def _rows(wanted: Candles, keys: list[ObjectKey], dice: np.random.Generator) -> pl.DataFrame:
    """Draw the candles of a symbol: a random walk on a grid of prices, as an exchange has."""
    size = sum(_counts(wanted, keys))
    step = _DAY_MS if wanted.interval is Interval.D1 else _MINUTE_MS
    scale = 0.04 if wanted.interval is Interval.D1 else 0.001
    middle = 10 ** dice.uniform(-4, 4)
    digits = max(0, 4 - int(np.floor(np.log10(middle))))
    steps = dice.normal(0, scale, size + 1)
    # It returns to the middle, or five years would end at nothing or at infinity.
    walk = middle * np.exp(np.sin(np.cumsum(steps)))
    opened, closed = walk[:-1].round(digits), walk[1:].round(digits)
    above, below = scale * walk[1:] * dice.random((2, size))
    trades = dice.integers(10, 200_000 if step == _DAY_MS else 3_000, size)
    volume = (trades * dice.exponential(100 / middle, size)).round(max(0, 6 - digits))
    bought = (volume * dice.uniform(0.3, 0.7, size)).round(max(0, 6 - digits))
    since = (wanted.first - date(1970, 1, 1)).days * _DAY_MS
    start = since + np.arange(size, dtype=np.int64) * step
    counted_from = (_MICROSECONDS_SINCE - date(1970, 1, 1)).days * _DAY_MS
    unit = np.where(start >= counted_from, 1000, 1)
    return pl.DataFrame(
        {
            "open_time": start * unit,
            "open": opened,
            "high": np.maximum(np.maximum(opened, closed), (walk[1:] + above).round(digits)),
            "low": np.minimum(np.minimum(opened, closed), (walk[1:] - below).round(digits)),
            "close": closed,
            "volume": volume,
            "close_time": (start + step) * unit - 1,
            "quote_volume": volume * closed,
            "count": trades,
            "taker_buy_volume": bought,
            "taker_buy_quote_volume": bought * closed,
            "ignore": np.zeros(size, np.int64),
        }
    )


def sidecars(root: Path) -> None:
    """Write the checksum of each zip beside it, as the archive has it."""
    for path in root.rglob("*.zip"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        Path(f"{path}.CHECKSUM").write_text(f"{digest}  {path.name}")
