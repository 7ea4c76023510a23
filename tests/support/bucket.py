"""Small buckets in the archive's layout: valid zips of one csv member, with their sidecars."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
from collections.abc import Mapping
from datetime import date, timedelta

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX, Folder, ObjectKey, Stream, member_of
from tests.support.candles import HOUR, at, line

#: Key to bytes, zips and sidecars together.
Bucket = dict[str, bytes]

#: First day of most buckets: the first days of a month, which wildcards may cover.
FIRST = date(2025, 7, 1)


def zipped(key: str, text: str) -> bytes:
    """Zip `text` as the archive would under `key`; the same bytes every time."""
    member = zipfile.ZipInfo(member_of(key), (2025, 8, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, text)
    return file.getvalue()


def sidecar(key: str, body: bytes) -> bytes:
    """Spell the ``.CHECKSUM`` object of a zip: digest, two spaces, base name."""
    return f"{hashlib.sha256(body).hexdigest()}  {key.rpartition('/')[2]}\n".encode()


def with_sidecars(zips: Mapping[str, bytes]) -> Bucket:
    """Add to each zip the sidecar that proves it."""
    return {
        name: held
        for key, body in zips.items()
        for name, held in ((key, body), (f"{key}{CHECKSUM_SUFFIX}", sidecar(key, body)))
    }


def candles(seed: object, rows: int = 24) -> str:
    """Invent rows of the right form; the same for the same seed, and hard to compress."""
    chance = random.Random(str(seed))
    numbers = [chance.getrandbits(160) for _ in range(rows)]
    return "".join(f"{row},{number % 10**8},{number}\n" for row, number in enumerate(numbers))


def kline_key(symbol: str, day: date, interval: str = "1h") -> str:
    """Spell the key of one day of spot candles."""
    stream = Folder(
        Stream(Market.SPOT, DataType.KLINES, symbol, Interval(interval)), Partition.DAILY
    )
    return str(ObjectKey(stream, day))


def daily_klines(
    symbol: str,
    start: date = FIRST,
    days: int = 5,
    interval: str = "1h",
    *,
    rows: int = 24,
    issue: int = 1,
) -> Bucket:
    """Make a bucket of daily spot candles, each day's bytes different.

    `rows` makes the objects larger (about 35 bytes each, zipped), and another `issue` has
    other bytes under the same keys.
    """
    keys = [kline_key(symbol, start + timedelta(days=day), interval) for day in range(days)]
    return with_sidecars({key: zipped(key, candles((key, issue), rows)) for key in keys})


def priced(days: int, price: float, symbol: str = "BTCUSDT") -> Bucket:
    """Make a bucket of daily spot candles whose rows can be read, all of one price."""
    found = {}
    for key in zips_of(daily_klines(symbol, days=days)):
        begin = at(key[-14:-4])
        found[key] = zipped(key, "".join(line(begin + h * HOUR, HOUR, price) for h in range(24)))
    return with_sidecars(found)


def zips_of(bucket: Mapping[str, bytes]) -> Bucket:
    """Leave the sidecars out."""
    return {key: body for key, body in bucket.items() if key.endswith(".zip")}


#: What takes long enough to be interrupted: so many symbols, and days of each. Most are
#: fetched by wildcards, and the last of each symbol by its name.
SYMBOLS = [f"COIN{at}USDT" for at in range(10)]
DAYS = 30


def many_klines() -> Bucket:
    """Make a bucket of all of these."""
    return {k: v for symbol in SYMBOLS for k, v in daily_klines(symbol, days=DAYS).items()}
