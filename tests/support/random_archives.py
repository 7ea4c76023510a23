"""Random archives with every kind of gap, and an independent count of their rows.

What is in a file is decided first, so that the count needs no reader: rows are times, and the
rows due follow from the first and the last file that the archive has of a stream.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from tests.support.bucket import Bucket, with_sidecars
from tests.support.dialects import zip_of
from tests.support.planted import DAY, HOUR, MINUTE, at, csv_at
from tests.support.s3_server import LocalS3
from tests.support.stores import kline, other

#: First days around a leap day, a day that is none, a change of unit and of year, and of month.
STARTS = (date(2024, 2, 26), date(2025, 2, 26), date(2024, 12, 29), date(2025, 6, 28))
STEPS = {"15m": 15 * MINUTE, "1h": HOUR, "4h": 4 * HOUR, "1d": DAY}
_LIVING = "SOLUSDT"
_SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT")
#: How a file may be, and how often.
_STATES = ("full",) * 12 + ("cut", "late", "holes", "holes", "empty", "absent", "absent", "corrupt")

Stream = tuple[str, str, str, str | None]


@dataclass
class Counted:
    """The rows of a stream.

    Attributes
    ----------
    present, due : int
    kinds : Counter of str
        Rows missing in whole days, by the kind of gap.
    """

    present: int = 0
    due: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


@dataclass
class RandomArchive:
    """A bucket, the configuration that asks for all of it, and the count of its rows."""

    bucket: Bucket
    fields: dict[str, Any]
    counted: dict[Stream, Counted]

    def config(self, folder: Path, url: str) -> bak.CollectionConfig:
        return bak.CollectionConfig(**self.fields, output_directory=folder, endpoint_url=url)


def draw(dice: random.Random) -> RandomArchive:
    """Draw an archive of up to a dozen streams and ten days."""
    start, days = dice.choice(STARTS), dice.randint(2, 10)
    markets = dice.sample(["spot", "futures_um"], dice.randint(1, 2))
    intervals = dice.sample(list(STEPS), dice.randint(1, 2))
    # One symbol lives on, so that the ends of the others are theirs and not the archive's.
    symbols = [_LIVING, *dice.sample(_SYMBOLS, dice.randint(0, 3))]
    span = [start + timedelta(days=n) for n in range(days)]
    metrics = "futures_um" in markets and dice.random() < 0.5
    halts = {market: _halted(dice, span) for market in markets}
    zips: Bucket = {}
    counted: dict[Stream, Counted] = {}
    for market in markets:
        path = "spot" if market == "spot" else "futures/um"
        for symbol in symbols:
            life = [0, days - 1]
            if symbol != _LIVING and dice.random() < 0.4:
                life = sorted(dice.choices(range(days), k=2))
            for interval in intervals:
                keys = [kline(symbol, f"{day}", interval, path) for day in span]
                _fill(zips, counted, keys, life, STEPS[interval], halts[market], dice)
            if market == "futures_um" and metrics:
                keys = [other("metrics", symbol, f"{day}") for day in span]
                _fill(zips, counted, keys, life, 5 * MINUTE, set(), dice)
    fields: dict[str, Any] = {
        "markets": markets,
        "symbols": symbols,
        "data_types": ["klines", *(["metrics"] if metrics else [])],
        "intervals": {"klines": intervals},
        "date_range": {"start": f"{start}", "end": f"{span[-1]}"},
    }
    return RandomArchive(with_sidecars(zips), fields, counted)


def _halted(dice: random.Random, span: list[date]) -> set[int]:
    """Draw the hours of a halt of a whole market; none in most archives."""
    if dice.random() < 0.6:
        return set()
    first = at(f"{dice.choice(span)}") + dice.randint(4, 15) * HOUR
    return set(range(first, first + dice.randint(1, 4) * HOUR, MINUTE))


def _fill(
    zips: Bucket,
    counted: dict[Stream, Counted],
    keys: list[ObjectKey],
    life: list[int],
    step: int,
    halt: set[int],
    dice: random.Random,
) -> None:
    """Add the files of a stream to a bucket, and count its rows."""
    states = [dice.choice(_STATES) if life[0] <= n <= life[1] else "none" for n in range(len(keys))]
    # Rows before the first and after the last one that the archive has are not due.
    states[life[0]] = states[life[1]] = "full"
    folder = keys[0].folder
    stream = (
        *(str(folder.market), str(folder.data_type), folder.symbol),
        folder.interval and folder.interval.value,
    )
    count = counted[stream] = Counted()
    for n, (key, state) in enumerate(zip(keys, states, strict=True)):
        if not life[0] <= n <= life[1]:
            continue
        first = at(f"{key.start}")
        # Metrics are labelled by the end of their period.
        shift = 0 if key.folder.interval else step
        grid = list(range(first + shift, first + DAY + shift, step))
        count.due += len(grid)
        times = [time for time in grid if time not in halt]
        if len(times) > 1:
            cut = dice.randint(1, len(times) - 1)
            if state == "cut":
                times = times[:cut]
            elif state == "late":
                times = times[cut:]
            elif state == "holes":
                gone = set(dice.sample(times[1:], dice.randint(1, max(1, len(times) // 3))))
                times = [time for time in times if time not in gone]
        if state in ("empty", "absent", "corrupt"):
            kinds = {"empty": "empty_file", "absent": "missing_in_archive"}
            count.kinds[kinds.get(state, "corrupt")] += len(grid)
            times = []
        count.present += len(times)
        if state == "absent":
            continue
        body = csv_at(key, times or grid if state == "corrupt" else times)
        if state == "corrupt":
            body = body.replace(b",1", b",x", 1)
        zips[str(key)] = zip_of(key, body)


def differences(archive: RandomArchive, report: bak.CoverageReport) -> Iterator[str]:
    """Yield what a report counts otherwise."""
    found = {
        (row["market"], row["data_type"], row["symbol"], row["interval"]): row
        for row in report.streams.iter_rows(named=True)
    }
    for stream, count in archive.counted.items():
        row = found.get(stream)
        told = (row["present"] or 0, row["expected"] or 0) if row else (0, 0)
        if told != (count.present, count.due):
            yield f"{stream}: {told} instead of {(count.present, count.due)}"
        gaps = report.gaps.filter(
            (report.gaps["market"] == stream[0])
            & (report.gaps["data_type"] == stream[1])
            & (report.gaps["symbol"] == stream[2])
            & (report.gaps["interval"].cast(str).eq_missing(stream[3]))
        )
        kinds: Counter[str] = Counter()
        for kind, missing in gaps.select("kind", "missing").iter_rows():
            if kind in ("empty_file", "missing_in_archive", "corrupt", "not_collected"):
                kinds[kind] += missing or 0
        if kinds != count.kinds:
            yield f"{stream}: {dict(kinds)} instead of {dict(count.kinds)}"
    if extra := found.keys() - archive.counted.keys():
        yield f"{extra} are no streams"


def check(archive: RandomArchive, folder: Path) -> None:
    """Collect an archive into a folder, and compare the reports on it with the count."""
    with LocalS3(archive.bucket) as server:
        config = archive.config(folder, server.url)
        bak.collect(config)
        reports = {"configuration": bak.coverage(config), "folder": bak.coverage(folder)}
    for name, report in reports.items():
        assert list(differences(archive, report)) == [], (name, archive.fields)
