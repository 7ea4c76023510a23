"""Which files continue a stream: by its partition, its holes, and the end of feed and contract."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime

import pytest

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream, format_period, parse_period, period_end
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.planning.config import PartitionChoice
from binance_archive_kit.storage.inventory import StoredFile
from binance_archive_kit.storage.proof import Stamp
from binance_archive_kit.upkeep.newer_files import NewerFiles, StoredStream

KLINES = Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1)
#: The monthly files of July are published, those of August are not.
NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)


def kept(*periods: str, stream: Stream = KLINES) -> StoredStream:
    """Make a stream with files of these days (``2025-07-01``) and months (``2025-07``)."""
    files: dict[Partition, list[StoredFile]] = {}
    for text in sorted(periods):
        partition = Partition.DAILY if text.count("-") == 2 else Partition.MONTHLY
        start, key = parse_period(text, partition), Folder(stream, partition).key(text)
        file = StoredFile(key, key, start, period_end(start, partition), Stamp(1, 1))
        files.setdefault(partition, []).append(file)
    return StoredStream(stream, files)


def wanted(
    stream: StoredStream,
    end: str,
    *,
    begin: str | None = None,
    choice: PartitionChoice | None = None,
    again: bool = False,
) -> list[str]:
    """Return the requested periods, as in the keys; those that replace months are in brackets."""
    newer = NewerFiles(load_matrix(), NOW, date.fromisoformat(end))
    start = date.fromisoformat(begin) if begin else date.fromordinal(stream.last.toordinal() + 1)
    found = []
    for request in newer.requests(stream, choice or stream.partition, start, again=again):
        for part in request.parts():
            found += [format_period(day, part.folder.partition) for day in part.starts()]
    return sorted(found)


def days(month: str, numbers: Iterable[int]) -> list[str]:
    return [f"{month}-{number:02}" for number in numbers]


def test_days_go_on_after_the_last_one() -> None:
    assert wanted(kept("2025-07-01"), "2025-07-03") == ["2025-07-02", "2025-07-03"]
    assert wanted(kept("2025-07-01"), "2025-07-03", again=True) == days("2025-07", [1, 2, 3])
    assert wanted(kept("2025-07-03"), "2025-07-03") == []
    assert wanted(kept("2025-07-05"), "2025-07-03", again=True) == []


def test_holes_are_requested_from_the_first_day_on() -> None:
    some = kept("2025-07-01", "2025-07-04", "2025-07-06")
    assert wanted(some, "2025-07-07", begin="2025-07-01") == days("2025-07", [2, 3, 5, 7])
    assert wanted(some, "2025-07-07") == ["2025-07-07"]


def test_months_go_on_as_months() -> None:
    july = kept("2025-06")
    assert wanted(july, "2025-08-20") == ["2025-07"]
    # August is over, and not published: the plan says so.
    assert wanted(july, "2025-08-31", again=True) == ["2025-06", "2025-07", "2025-08"]
    assert wanted(kept("2025-07"), "2025-08-20") == []


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        # July is published as a month, August is not.
        (["2025-06", "2025-06-30"], ["2025-07", *days("2025-08", range(1, 32))]),
        (["2025-06", "2025-07-01", "2025-07-02"], ["2025-07", *days("2025-08", range(1, 32))]),
        (["2025-07", "2025-08-01"], days("2025-08", range(2, 32))),
        # A month of which only days are in the store goes on by days.
        (["2025-05-01", "2025-05"], ["2025-06", "2025-07", *days("2025-08", range(1, 32))]),
    ],
)
def test_both_go_on_as_months_where_they_are_published(
    have: list[str], expected: list[str]
) -> None:
    assert wanted(kept(*have), "2025-08-31") == expected


def test_another_partition_may_be_chosen() -> None:
    monthly, auto = PartitionChoice.MONTHLY, PartitionChoice.AUTO
    some = kept("2025-06-29")
    assert wanted(some, "2025-08-02", choice=monthly) == ["2025-06", "2025-07"]
    expected = ["2025-06-30", "2025-07", "2025-08-01", "2025-08-02"]
    assert wanted(some, "2025-08-02", choice=auto) == expected
    assert wanted(kept("2025-06"), "2025-07-02", choice=PartitionChoice.DAILY) == [
        "2025-07-01",
        "2025-07-02",
    ]


def test_the_only_partition_of_a_feed_is_used_whatever_is_chosen() -> None:
    funding = Stream(Market.FUTURES_UM, DataType.FUNDING_RATE, "BTCUSDT")
    some = kept("2025-06", stream=funding)
    assert wanted(some, "2025-08-02", choice=PartitionChoice.DAILY) == ["2025-07"]
    metrics = Stream(Market.FUTURES_UM, DataType.METRICS, "BTCUSDT")
    assert wanted(
        kept("2025-07-01", stream=metrics), "2025-07-02", choice=PartitionChoice.MONTHLY
    ) == ["2025-07-02"]


def test_nothing_is_requested_after_the_delivery() -> None:
    contract = Stream(Market.FUTURES_UM, DataType.KLINES, "BTCUSDT_250926", Interval.H1)
    some = kept("2025-09-24", stream=contract)
    assert wanted(some, "2025-10-02") == ["2025-09-25", "2025-09-26"]


def test_uncovered_days_are_those_between_files() -> None:
    some = kept("2025-06", "2025-07-02", "2025-07-03")
    first, last = date(2025, 5, 30), date(2025, 7, 5)
    assert some.uncovered(first, last) == [
        (date(2025, 5, 30), date(2025, 5, 31)),
        (date(2025, 7, 1), date(2025, 7, 1)),
        (date(2025, 7, 4), date(2025, 7, 5)),
    ]
    assert some.uncovered(date(2025, 6, 3), date(2025, 6, 9)) == []
    assert some.newest.key.endswith("BTCUSDT-1h-2025-07-03.zip")
