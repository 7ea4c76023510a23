"""Files and timelines with rows at chosen times, to plant what is to be found.

Times are microseconds since 1970 UTC; values mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from binance_archive_kit.archive.absence import Absence
from binance_archive_kit.archive.enums import DataType
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import FileError
from binance_archive_kit.quality.frames import frames_of
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.timeline import DaySource, Explanation, Finding, GapKind, Timeline
from binance_archive_kit.reading.feed_table import feed_table
from binance_archive_kit.reading.file_stats import FileStats, FileTask
from binance_archive_kit.reading.profile import FileProfile, Profiler
from binance_archive_kit.storage.inventory import StoredFile, StoredFolder
from binance_archive_kit.storage.proof import Stamp
from tests.support.dialects import write, zip_of
from tests.support.stores import schema_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def at(text: str) -> int:
    """Parse a time such as ``2025-07-01 04:00``."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def every(step: int, start: str, end: str) -> list[int]:
    """Return the times from one time to another, exclusive."""
    return list(range(at(start), at(end), step))


def moment(time: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time)


# Rows that are examined without any file


def source_of(key: ObjectKey) -> FileTask:
    file = StoredFile(str(key), str(key), key.start, key.end, Stamp(1, 1))
    return FileTask(file, StoredFolder(key.folder, (file,)))


def examined(
    key: ObjectKey, times: Sequence[int], *, ids: Sequence[int] = (), hours: Sequence[int] = ()
) -> FileProfile:
    """Profile a file with rows at these times, in this order."""
    return examined_together([(key, times)], ids=ids, hours=hours)[0]


def examined_together(
    files: Sequence[tuple[ObjectKey, Sequence[int]]],
    *,
    ids: Sequence[int] = (),
    hours: Sequence[int] = (),
) -> list[FileProfile]:
    """Profile files that were read together."""
    stream = files[0][0].folder
    feed = feed_table(stream.market, stream.data_type)
    profiler = Profiler(feed)
    times = [time for _, its in files for time in its]
    columns: dict[str, pl.Series] = {
        feed.time: pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("us"))
    }
    for name in profiler.columns:
        if name == "funding_interval_hours":
            columns[name] = pl.Series(hours or [8] * len(times), dtype=pl.Int64)
        elif name in feed.schema.key and name != feed.time:
            values = ids or range(len(times))
            columns[name] = pl.Series(values, dtype=pl.Int64).cast(feed.columns[name])
        elif name != feed.time:
            # Values that no check finds fault with.
            own = (
                columns[feed.time] if feed.columns[name] == pl.Datetime("us") else [1] * len(times)
            )
            columns[name] = pl.Series(own).cast(feed.columns[name])
    stats = [
        FileStats(
            Stamp(1, 1),
            len(its),
            min(its, default=None),
            max(its, default=None),
            list(its) == sorted(its),
            0,
            checked=True,
        )
        for _, its in files
    ]
    spans = [(source_of(key), len(its)) for key, its in files]
    return profiler.profile(spans, pl.DataFrame(columns), stats)


def day_source_of(key: ObjectKey, profile: FileProfile | None, problem: str = "") -> DaySource:
    return DaySource(source_of(key).file, profile, problem)


#: Explains days without a file, unless a test gives another explanation.
ABSENT = Explanation(GapKind.NOT_COLLECTED, "no file")


def timeline_of(
    owners: Sequence[tuple[ObjectKey, FileProfile | None]],
    start: str = "",
    end: str = "",
    words: Iterable[tuple[str, Explanation]] = (),
    stream_of: ObjectKey | None = None,
) -> Timeline:
    """Return a timeline of files; `start` and `end` are its first and last day.

    `words` are explanations of single days.
    """
    stream = (stream_of or owners[0][0]).folder.stream
    first = at(start or str(owners[0][0].start)) // DAY
    until = at(end or str(owners[-1][0].end)) // DAY + 1
    files = [day_source_of(key, profile) for key, profile in owners]
    line = Timeline(stream, first, [ABSENT] * (until - first), files)
    for file in files:
        for day in range(max(file.start // DAY, first), min(file.end // DAY, until)):
            line.sources[day - first] = file
    for day, word in words:
        line.sources[at(day) // DAY - first] = word
    return line


def report_on(
    timelines: Sequence[Timeline],
    findings: Sequence[Finding],
    unavailable: Sequence[Absence],
    problems: Mapping[str, FileError],
    title: str,
) -> CoverageReport:
    """Report on timelines as a survey does."""
    return CoverageReport(title, *frames_of(timelines, findings), tuple(unavailable), problems)


def told(line: Timeline) -> list[tuple[str, str, str, int | None]]:
    """Return the gaps of a timeline: kind, start, end, missing rows."""
    return [
        (str(gap.kind), f"{moment(gap.start):%m-%d %H:%M}", f"{moment(gap.end):%m-%d %H:%M}",
         gap.missing)
        for gap in line.gaps
    ]  # fmt: skip


# Files


def spelled(key: ObjectKey, time: int, day: date) -> str:
    """Format a time as the files of a day do."""
    schema = schema_of(key)
    if schema.time.format:
        return f"{moment(time):%Y-%m-%d %H:%M:%S}"
    return str(time if schema.time.unit_on(day) == "us" else time // 1_000)


def csv_at(
    key: ObjectKey,
    times: Sequence[int],
    *,
    ids: Sequence[int] = (),
    hours: Sequence[int] = (),
    value: Sequence[int] = (),
) -> bytes:
    """Return a csv file with a row at each of these times; `value` makes rows differ."""
    numbers = ids or range(len(times))
    spans = hours or [8] * len(times)
    values = value or [1] * len(times)
    lines = []
    for time, number, hour, price in zip(times, numbers, spans, values, strict=True):
        when = spelled(key, time, key.start)
        match key.folder.data_type:
            case DataType.AGG_TRADES:
                flags = "True,True" if key.folder.market == "spot" else "true"
                cells = f"{number},{price},1,{number},{number},{when},{flags}"
            case DataType.TRADES:
                flags = "True,True" if key.folder.market == "spot" else "true"
                cells = f"{number},{price},1,1,{when},{flags}"
            case DataType.FUNDING_RATE:
                cells = f"{when},{hour},{price}"
            case DataType.METRICS:
                cells = f"{when},{key.folder.symbol},{price},1,1,1,1,1"
            case DataType.BOOK_DEPTH:
                cells = f"{when},-1,{price},1\n{when},1,{price},1"
            case DataType.BVOL_INDEX:
                cells = f"{when},{key.folder.symbol},BTCBVOL,USDT,{price}"
            case _:
                cells = f"{when},{price},{price},{price},{price},1,{when},1,1,1,1,0"
        lines.append(cells)
    if schema_of(key).header == "present":
        lines.insert(0, schema_of(key).header_line)
    return "".join(f"{line}\n" for line in lines).encode()


def plant(
    root: Path,
    key: ObjectKey,
    times: Sequence[int],
    *,
    ids: Sequence[int] = (),
    hours: Sequence[int] = (),
    value: Sequence[int] = (),
) -> Path:
    """Write a file with rows at these times into a store."""
    return write(root, key, zip_of(key, csv_at(key, times, ids=ids, hours=hours, value=value)))
