"""First and last day of streams: found exactly, with few listings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream, format_period, periods
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.planning.lifetimes import Due, Life, life_of

STREAM = Stream(Market.FUTURES_UM, DataType.KLINES, "AUSDT", Interval.D1)
DAILY, MONTHLY = Folder(STREAM, Partition.DAILY), Folder(STREAM, Partition.MONTHLY)
BOTH = {Partition.DAILY: DAILY, Partition.MONTHLY: MONTHLY}
#: 2026-11-28 and 2026-10 are the newest periods due.
DUE = Due.at(load_matrix(), datetime(2026, 11, 30, 12, tzinfo=UTC))


class Listing:
    """Pages of two folders in memory, as of a bucket; counts the requests."""

    def __init__(self, days: Iterable[str], months: Iterable[str] = (), junk: int = 0) -> None:
        self._keys = {
            folder: sorted(
                [
                    *(f"{each}.zip{suffix}" for each in names for suffix in ("", ".CHECKSUM")),
                    *(f"1999-junk-{number:04}" for number in range(junk)),
                ]
            )
            for folder, names in ((DAILY, days), (MONTHLY, months))
        }
        self.requests = 0

    async def symbols(self, parent: str) -> list[str]:
        raise NotImplementedError(parent)

    async def periods(self, folder: Folder, after: str, keys: int) -> tuple[list[str], bool]:
        self.requests += 1
        following = [key for key in self._keys[folder] if key > after]
        found = [key.removesuffix(".zip") for key in following[:keys] if key.endswith(".zip")]
        return found, len(following) > keys


def life(listing: Listing, folders: dict[Partition, Folder] = BOTH) -> Life:
    return asyncio.run(life_of(listing, folders, DUE))


def days(start: str, end: str) -> list[str]:
    return [*_spelled(start, end, Partition.DAILY)]


def months(start: str, end: str) -> list[str]:
    return [*_spelled(f"{start}-01", f"{end}-01", Partition.MONTHLY)]


def _spelled(start: str, end: str, partition: Partition) -> Iterator[str]:
    for day in periods(date.fromisoformat(start), date.fromisoformat(end), partition):
        yield format_period(day, partition)


def test_the_newest_periods_that_are_due() -> None:
    assert Due(date(2026, 11, 28), date(2026, 10, 1)) == DUE
    early = Due.at(load_matrix(), datetime(2026, 12, 1, 1, tzinfo=UTC))
    assert early == Due(date(2026, 11, 29), date(2026, 10, 1))


@pytest.mark.parametrize(
    ("daily", "monthly", "first", "last", "recent", "most"),
    [
        # Living: from its first day, whichever partition has it.
        (("2025-01-17", "2026-11-29"), ("2025-01", "2026-10"), "2025-01-17", "2026-11-29", 1, 3),
        (("2025-03-17", "2026-11-29"), ("2025-01", "2026-10"), "2025-01-01", "2026-11-29", 1, 3),
        (("2024-12-31", "2026-11-29"), ("2025-01", "2026-10"), "2024-12-31", "2026-11-29", 1, 3),
        (("2026-11-20", "2026-11-28"), None, "2026-11-20", "2026-11-28", 1, 3),
        # Ended: to the day.
        (("2020-01-01", "2024-09-10"), ("2020-01", "2024-09"), "2020-01-01", "2024-09-10", 0, 4),
        (("2020-01-01", "2024-09-30"), ("2020-01", "2024-08"), "2020-01-01", "2024-09-30", 0, 4),
        # The daily files end earlier than the monthly ones.
        (("2020-01-01", "2024-08-20"), ("2020-01", "2024-09"), "2020-01-01", "2024-09-30", 0, 4),
        (None, ("2020-02", "2024-02"), "2020-02-01", "2024-02-29", 0, 4),
        # Without monthly files pages are read to the end.
        (("2020-01-01", "2024-09-10"), None, "2020-01-01", "2024-09-10", 0, 7),
        (("2026-11-01", "2026-11-14"), None, "2026-11-01", "2026-11-14", 0, 4),
        (None, None, None, None, 0, 4),
    ],
)
def test_first_and_last_day(
    daily: tuple[str, str] | None,
    monthly: tuple[str, str] | None,
    first: str | None,
    last: str | None,
    recent: int,
    most: int,
) -> None:
    listing = Listing(days(*daily) if daily else (), months(*monthly) if monthly else ())
    found = life(listing)
    assert (found.first and str(found.first), found.last and str(found.last)) == (first, last)
    assert found.recent == bool(recent)
    assert listing.requests <= most


def test_a_feed_of_monthly_files_takes_one_listing() -> None:
    listing = Listing((), months("2020-01", "2026-10"))
    found = life(listing, {Partition.MONTHLY: MONTHLY})
    assert (found.first, found.last) == (date(2020, 1, 1), date(2026, 10, 31))
    assert found.recent
    assert listing.requests == 1
    ended = life(Listing((), months("2020-01", "2026-09")), {Partition.MONTHLY: MONTHLY})
    assert not ended.recent
    assert ended.ended(date(2026, 10, 31), publishing=True) == (
        True,
        "monthly files to 2026-09; other symbols go on to 2026-10-31; files were due to 2026-10-31",
    )


def test_other_keys_in_a_folder_do_not_hide_its_first_file() -> None:
    listing = Listing(days("2026-01-05", "2026-11-28"), months("2026-01", "2026-10"), junk=900)
    assert life(listing).first == date(2026, 1, 5)
    assert listing.requests == 5


def test_a_symbol_has_ended_if_others_go_on() -> None:
    found = life(Listing(days("2025-01-01", "2026-11-20"), months("2025-01", "2026-10")))
    assert found.ended(date(2026, 11, 29), publishing=True) == (
        True,
        "daily files to 2026-11-20; other symbols go on to 2026-11-29",
    )
    # A few days are no evidence.
    for newest in (date(2026, 11, 23), date(2026, 11, 20)):
        assert found.ended(newest, publishing=True) == (False, "daily files to 2026-11-20")


def test_a_symbol_has_not_ended_if_all_end_together() -> None:
    found = life(Listing(days("2025-01-01", "2025-07-15"), months("2025-01", "2025-06")))
    assert found.ended(date(2025, 7, 15), publishing=False) == (
        False,
        "daily files to 2025-07-15, as far as any symbol; files were due to 2026-11-28",
    )
    assert found.ended(date(2025, 7, 20), publishing=False) == (
        True,
        "daily files to 2025-07-15; other symbols go on to 2025-07-20",
    )


def test_nothing_is_said_of_a_symbol_without_files() -> None:
    assert life(Listing(())).ended(date(2026, 11, 29), publishing=True) == (None, "no file")


def test_a_symbol_lives_as_long_as_any_of_its_intervals() -> None:
    one = life(Listing(days("2020-01-01", "2022-01-31"), months("2020-01", "2022-01")))
    other = life(Listing(days("2021-01-01", "2026-11-28"), months("2021-01", "2026-10")))
    nothing = life(Listing(()))
    both = one | other
    assert (both.first, both.last, both.recent) == (one.first, other.last, True)
    assert other | one == both
    assert one | nothing == one
    assert nothing | one == one


@given(
    start=st.dates(date(2017, 8, 17), date(2026, 11, 28)),
    length=st.integers(0, 3_500),
    has_months=st.booleans(),
)
def test_both_ends_are_exact_within_the_budget(start: date, length: int, has_months: bool) -> None:
    end = min(start + timedelta(days=length), DUE.day)
    whole = [*_spelled(str(start), str(end), Partition.MONTHLY)] if has_months else []
    published = [month for month in whole if month <= "2026-10"]
    listing = Listing(days(str(start), str(end)), published)
    found = life(listing)
    assert (found.first, found.last) == (start, end)
    assert found.recent == (end >= date(2026, 11, 15))
    assert not has_months or listing.requests <= 4
