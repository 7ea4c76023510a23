"""Reports of a few planted rows, and what they say in short."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import ObjectKey, Stream
from binance_archive_kit.errors import ChangedFile, FileError
from binance_archive_kit.quality.gaps import find_gaps
from binance_archive_kit.quality.halts import classify_halts
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.timeline import (
    Explanation,
    Finding,
    FindingKind,
    Gap,
    GapKind,
    Timeline,
    merge,
)
from binance_archive_kit.reading.profile import FileProfile
from binance_archive_kit.timestamps import to_day_number
from tests.support.planted import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    at,
    every,
    examined,
    moment,
    plant,
    report_on,
    timeline_of,
)
from tests.support.stores import kline, other

DAYS = [f"2025-07-{day:02}" for day in range(1, 32)]


def hours(day: str, *lacking: int) -> list[int]:
    return [at(day) + hour * HOUR for hour in range(24) if hour not in lacking]


def spoil(path: Path) -> None:
    """Flip a byte of the data in a zip."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


#: Kind of gap of each missing row, by symbol and time.
Truth = dict[tuple[str, int], str]


def missing_rows(report: CoverageReport, step: int) -> Truth:
    """Return the missing rows of a report, each with the kind of its gap."""
    told = {}
    for row in report.gaps.iter_rows(named=True):
        start, end = (int(row[name].timestamp()) * SECOND for name in ("start", "end"))
        assert row["missing"] == (end - start) // step, row
        for time in range(start, end, step):
            assert (row["symbol"], time) not in told, "two gaps overlap"
            told[row["symbol"], time] = row["kind"]
    return told


def gaps_of(report: CoverageReport) -> list[tuple[object, ...]]:
    return [
        (row["kind"], f"{row['start']:%m-%d %H:%M}", f"{row['end']:%m-%d %H:%M}", row["missing"])
        for row in report.gaps.iter_rows(named=True)
    ]


def assert_consistent(report: CoverageReport, present: int, lacking: int) -> None:
    """Compare the parts of a report with each other, and with counts."""
    streams, days, gaps = report.streams, report.days, report.gaps
    assert streams["present"].sum() == days["present"].sum() == present
    assert streams["missing"].sum() == gaps["missing"].sum() == lacking
    assert streams["expected"].sum() == days["expected"].sum() == present + lacking
    whole = lacking == 0
    assert report.is_complete == whole
    assert ("100 %" in report.verdict) == whole
    for one, two in pairwise(gaps.sort("symbol", "interval", "start").iter_rows(named=True)):
        if (one["symbol"], one["interval"]) == (two["symbol"], two["interval"]):
            assert one["end"] < two["start"] or one["kind"] != two["kind"]
    assert gaps["evidence"].str.len_chars().min() != 0


def long_candles(root: Path, interval: str, *months: str) -> None:
    """Write months of candles that begin on Mondays, or with the month."""
    for month in months:
        key = kline("BTCUSDT", month, interval)
        days = every(DAY, str(key.start), f"{key.end + timedelta(days=1)}")
        mondays = [time for time in days if moment(time).weekday() == 0]
        plant(root, key, mondays if interval == "1w" else days[:1])


def trades(
    root: Path, times: Sequence[int], ids: Sequence[int], data_type: str = "aggTrades"
) -> None:
    plant(root, other(data_type, "BTCUSDT", DAYS[0], "spot"), times, ids=ids)


ALL_DAY = every(MINUTE, DAYS[0], DAYS[1])


def candle_files(
    *days: tuple[str, Sequence[int] | None], symbol: str = "BTCUSDT", interval: str = "1h"
) -> list[tuple[ObjectKey, FileProfile | None]]:
    keys = [kline(symbol, day, interval) for day, _ in days]
    return [
        (key, None if times is None else examined(key, times))
        for key, (_, times) in zip(keys, days, strict=True)
    ]


def with_gaps(line: Timeline) -> Timeline:
    find_gaps(line)
    return line


def numbered(day: str, first: int, count: int, *lacking: int) -> tuple[ObjectKey, FileProfile]:
    """Return a day of evenly spaced trades with ids from a first one on."""
    key = other("aggTrades", "BTCUSDT", day, "spot")
    ids = [first + n for n in range(count) if first + n not in lacking]
    step = DAY // count
    return key, examined(key, [at(day) + (each - first) * step for each in ids], ids=ids)


UNLISTED = Explanation(GapKind.BEFORE_LISTING, "the archive's first file is later")


EVIL = "<b>&\"'$\\frac$"


def candles(symbol: str, *lacking: Sequence[int]) -> Timeline:
    """Return a timeline of some days of July, each with some hours missing."""
    owners = []
    for number, gone in enumerate(lacking):
        key = kline("X", f"2025-07-{number + 1:02}")
        times = [at(str(key.start)) + hour * HOUR for hour in range(24) if hour not in gone]
        owners.append((key, examined(key, times)))
    line = timeline_of(owners)
    line.stream = replace(line.stream, symbol=symbol)
    line.expected_files = line.actual_files = len(owners)
    find_gaps(line)
    return line


def of_events(symbol: str) -> Timeline:
    key = other("bookTicker", "X", "2024-03-29")
    times = every(60 * 1_000_000, "2024-03-29", "2024-03-29 20:00")
    line = timeline_of([(key, examined(key, times, ids=times))])
    line.stream = replace(line.stream, symbol=symbol)
    line.expected_files = line.actual_files = 1
    find_gaps(line)
    return line


def finding(symbol: str, evidence: str) -> Finding:
    start = at("2025-07-01")
    stream = Stream(Market.SPOT, DataType.KLINES, symbol, Interval.H1)
    return Finding(stream, start, start + DAY, 3, FindingKind.DUPLICATE, evidence)


def absence(symbol: str, reason: Reason = Reason.UNKNOWN_SYMBOL) -> Absence:
    day = date(2025, 7, 1)
    said = "the archive has no Spot klines of this symbol"
    return Absence(Market.SPOT, DataType.KLINES, reason, said, day, day, symbol, "1h")


def small(symbol: str = "ETHUSDT") -> CoverageReport:
    """Report on three streams: a whole one, one of several gaps, and one of events.

    The symbol may be one that no key can contain.
    """
    name = "ETHUSDT"
    lines = [
        candles("BTCUSDT", [2, 3], []),
        candles(name, [2, 3, 10], range(7, 24)),
        of_events(name),
    ]
    classify_halts(lines, lambda *_: "", lambda *_: None)
    problem: FileError = ChangedFile(f"data/{symbol}.zip", f"the zip of {symbol} is damaged")
    found = [finding(name, f"{symbol}: 3 of its rows stand there before")]
    report = report_on(lines, found, [absence(f"{symbol}T")], {problem.file: problem}, "a store")
    renamed = pl.col("symbol").replace(name, symbol)
    return replace(
        report,
        streams=report.streams.with_columns(renamed),
        gaps=report.gaps.with_columns(renamed),
        findings=report.findings.with_columns(renamed),
        days=report.days.with_columns(renamed),
    )


def large(streams: int, first: date, days: int, gaps: int) -> CoverageReport:
    """Report on many streams with random gaps of every kind."""
    lines = []
    for number in range(streams):
        dice = random.Random(number)
        begin = to_day_number(first)
        stream = Stream(Market.SPOT, DataType.KLINES, f"SYMBOL{number}USDT", Interval.H1)
        line = Timeline(
            stream, begin, [Explanation(GapKind.NOT_COLLECTED, "no file")] * days, files=[]
        )
        lacking: dict[int, GapKind] = {}
        for _ in range(gaps):
            start = dice.randrange(days)
            kind = dice.choice(list(GapKind))
            lacking |= dict.fromkeys(range(start, min(start + dice.choice((1, 5)), days)), kind)
        line.runs = np.array(
            [
                [(begin + day) * DAY, (begin + day) * DAY + 23 * HOUR, 24, HOUR, 0, 0]
                for day in range(days)
                if day not in lacking
            ]
        )
        line.gaps = merge(
            Gap(
                (begin + day) * DAY,
                (begin + day + 1) * DAY,
                24 * kind.is_missing,
                kind,
                (f"evidence of day {day}",),
                np.array([24 * kind.is_missing]),
            )
            for day, kind in lacking.items()
        )
        lines.append(line)
    return report_on(lines, [], (), {}, "many")


@cache
def many() -> CoverageReport:
    return large(200, date(2025, 1, 1), 90, 8)


@cache
def long() -> CoverageReport:
    return large(1, date(2018, 1, 1), 2_922, 400)


def month() -> CoverageReport:
    return large(3, date(2024, 12, 12), 31, 9)
