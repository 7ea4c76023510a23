"""Batches: wildcards match the wanted objects and no others; how s5cmd is called."""

from __future__ import annotations

import os
import resource
import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, ObjectKey, Stream, period_end, periods
from binance_archive_kit.download.batches import (
    MOST_WORKERS,
    Command,
    Copy,
    choose_workers,
    make_batches,
)
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.planning.date_range import DateRange
from binance_archive_kit.planning.s5cmd_flags import Flags

FIRST, LAST = date(2023, 1, 1), date(2025, 12, 31)
ALL = DateRange(start=FIRST, end=LAST)
SPOT = (Market.SPOT, Partition.DAILY, DataType.KLINES, "BTCUSDT", Interval.M1)


def check_groups(
    wanted: Sequence[ObjectKey],
    kept: Sequence[ObjectKey],
    existing: Sequence[ObjectKey],
    start: date,
    end: date,
    most: int,
) -> list[Copy]:
    """Group what a plan holds, and hold what is matched against what is wanted."""
    plan = sorted([*((k, True) for k in wanted), *((k, False) for k in kept)])
    objects = [(str(key), want) for key, want in plan]
    batches = list(make_batches(objects, DateRange(start=start, end=end), most))
    copies = [copy for batch in batches for copy in batch]
    for batch in batches:
        assert 0 < sum(len(copy.keys) for copy in batch) <= most
    names = [str(key) for key in existing]
    fetched: Counter[str] = Counter()
    for copy in copies:
        matched = (
            copy.keys
            if copy.pattern is None
            else [name for name in names if fnmatchcase(name, copy.pattern)]
        )
        assert copy.pattern is not None or len(copy.keys) == 1
        assert Counter(matched) == Counter(copy.keys)
        fetched.update(matched)
    assert fetched == Counter(str(key) for key in wanted)
    assert [key for copy in copies for key in copy.keys] == [k for k, want in objects if want]
    return copies


def all_keys(partition: Partition = Partition.DAILY) -> list[ObjectKey]:
    market, _, *rest = SPOT
    stream = Folder(Stream(market, *rest), partition)
    return [ObjectKey(stream, start) for start in periods(FIRST, LAST, partition)]


DAYS, MONTHS = all_keys(), all_keys(Partition.MONTHLY)
dates = st.dates(FIRST, LAST)


@given(
    ends=st.tuples(dates, dates).map(sorted),
    kept=st.sets(dates, max_size=12),
    kept_months=st.sets(st.integers(0, 35), max_size=6),
    absent=st.sets(dates, max_size=12),
    most=st.integers(1, 150),
)
@example([FIRST, LAST], set(), set(), set(), 100)
@example([date(2024, 2, 1), date(2024, 2, 29)], set(), set(), {date(2024, 2, 29)}, 31)
@example([date(2023, 2, 10), date(2023, 3, 9)], set(), set(), set(), 5)
def test_wildcards_match_the_wanted_objects_and_no_others(
    ends: list[date], kept: set[date], kept_months: set[int], absent: set[date], most: int
) -> None:
    start, end = ends
    existing = [key for key in DAYS if key.start not in absent]
    here = kept | {
        k.start
        for k in DAYS
        for n in kept_months
        if k.folder and k.start.month == n % 12 + 1 and k.start.year == 2023 + n // 12
    }
    inside = [key for key in existing if start <= key.start <= end]
    check_groups(
        [key for key in inside if key.start not in here],
        [key for key in inside if key.start in here],
        existing,
        start,
        end,
        most,
    )


@given(
    ends=st.tuples(dates, dates).map(sorted),
    kept=st.sets(st.sampled_from(MONTHS), max_size=6),
    absent=st.sets(st.sampled_from(MONTHS), max_size=6),
    most=st.integers(1, 40),
)
@example([FIRST, LAST], set(), set(), 100)
@example([date(2024, 1, 15), date(2024, 12, 3)], set(), set(), 100)
def test_wildcards_over_months(
    ends: list[date], kept: set[ObjectKey], absent: set[ObjectKey], most: int
) -> None:
    start, end = ends
    existing = [key for key in MONTHS if key not in absent]
    inside = [key for key in existing if key.end >= start and key.start <= end]
    check_groups(
        [key for key in inside if key not in kept],
        [key for key in inside if key in kept],
        existing,
        start,
        end,
        most,
    )


def auto(start: date, end: date) -> tuple[list[ObjectKey], list[ObjectKey]]:
    """Whole months, and the days around them, as ``partition="auto"`` takes them."""
    months = [key for key in MONTHS if start <= key.start and key.end <= end]
    covered = {day for key in months for day in periods(key.start, key.end, Partition.DAILY)}
    return months, [k for k in DAYS if start <= k.start <= end and k.start not in covered]


@given(ends=st.tuples(dates, dates).map(sorted), most=st.integers(1, 150))
@example([date(2024, 1, 15), date(2024, 12, 31)], 100)
@example([date(2024, 1, 1), date(2024, 9, 10)], 100)
def test_wildcards_match_no_month_that_is_fetched_as_days(ends: list[date], most: int) -> None:
    start, end = ends
    months, around = auto(start, end)
    check_groups(around, [], DAYS, start, end, most)
    check_groups(months, [], MONTHS, start, end, most)


def test_runs_become_few_commands() -> None:
    july = [key for key in DAYS if (key.start.year, key.start.month) == (2025, 7)]
    args = (date(2025, 7, 1), date(2025, 7, 31))
    assert [c.pattern for c in check_groups(july, [], DAYS, *args, 100)] == [
        "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-07-*.zip"
    ]
    tens = check_groups(july, [], DAYS, *args, 30)
    assert [c.pattern and c.pattern[-6:] for c in tens] == ["0*.zip", "1*.zip", "2*.zip", "3*.zip"]
    middle = [key for key in july if 10 <= key.start.day <= 25]
    copies = check_groups(middle, [], DAYS, date(2025, 7, 10), date(2025, 7, 25), 100)
    assert [len(copy.keys) for copy in copies] == [10, 1, 1, 1, 1, 1, 1]


def test_a_batch_command_has_one_stream() -> None:
    """Symbols and intervals that begin alike, and both partitions, in one plan."""
    start, end = date(2025, 7, 1), date(2025, 7, 31)
    streams = [
        Folder(Stream(Market.FUTURES_UM, DataType.KLINES, symbol, interval), Partition.DAILY)
        for symbol in ("BTCUSDT", "BTCUSDT_240329", "BTCUSDTX")
        for interval in (Interval.M1, Interval.M15)
    ]
    keys = [ObjectKey(s, d) for s in streams for d in periods(start, end, Partition.DAILY)]
    objects = [(str(key), True) for key in keys]
    batches = list(make_batches(objects, DateRange(start=start, end=end), 1000))
    [copies] = batches
    assert len(copies) == len(streams)
    for copy in copies:
        assert {k for k, _ in objects if fnmatchcase(k, str(copy.pattern))} == set(copy.keys)


def test_nothing_to_fetch_gives_no_batch() -> None:
    assert list(make_batches([], ALL, 5)) == []
    assert list(make_batches([("data/a-2025-07-01.zip", False)], ALL, 5)) == []


def test_batches_are_made_lazily() -> None:
    taken = []

    def objects() -> object:
        day = date(2020, 1, 1)
        while True:
            taken.append(day)
            yield f"data/spot/daily/trades/B/B-trades-{day}.zip", True
            day += timedelta(days=1)

    batches = make_batches(objects(), DateRange(start=LAST, end=LAST), 10)  # type: ignore[arg-type]
    next(batches)
    assert len(taken) < 100


def test_helper_of_this_file() -> None:
    months, around = auto(date(2025, 6, 10), date(2025, 8, 5))
    assert [key.period for key in months] == ["2025-07"]
    assert len(around) == 21 + 5
    assert period_end(date(2025, 7, 1), Partition.MONTHLY) == date(2025, 7, 31)


def command_of(folder: Path, *arguments: str) -> Command:
    return Command(
        "http://127.0.0.1:1",
        "data.binance.vision",
        "eu-north-1",
        folder,
        flags=Flags.read(arguments),
        max_workers=7,
        part_size=50,
    )


def test_each_flag_is_given_once_and_the_users_flags_win(tmp_path: Path) -> None:
    command = command_of(
        tmp_path,
        *("--no-sign-request", "--json", "--retry-count=5", "--numworkers=16"),
        *("--part-size=100MB", "--endpoint-url=http://other:1"),
    )
    line = command.line(Copy(("data/a.zip",)), tmp_path / "1")
    for words in (command.arguments(), shlex.split(line)):
        names = [word.partition("=")[0] for word in words if word.startswith("-")]
        assert len(names) == len(set(names))
    assert {"--retry-count=5", "--numworkers=16", "--endpoint-url=http://other:1"} <= {
        *command.arguments()
    }
    assert command.arguments()[-1] == "run"
    assert "--part-size=100" in shlex.split(line)
    assert command.workers == 16
    assert "--numworkers=7" in command_of(tmp_path).arguments()


def test_the_environment_has_no_aws_settings_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE", "S3_ENDPOINT_URL"):
        monkeypatch.setenv(name, "the user's")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    environment = command_of(tmp_path).environment
    assert "the user's" not in environment.values()
    assert environment["AWS_REGION"] == "eu-north-1"
    assert "AWS_CA_BUNDLE" not in environment
    assert not any(name.lower().endswith("_proxy") for name in environment)
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "币安人生USDT", "A$B", "A;B", "A&B", "A#B", "A(B"])
def test_lines_are_quoted(tmp_path: Path, symbol: str) -> None:
    folder = tmp_path / "a folder's name"
    command = command_of(folder)
    key = f"data/spot/daily/trades/{symbol}/{symbol}-trades-2025-07-15.zip"
    target = folder / "3"
    line = command.line(Copy((key,)), target)
    *flags, source, destination = shlex.split(line)
    assert flags[0] == "cp"
    assert "--raw" in flags
    assert (source, destination) == (f"s3://data.binance.vision/{key}", str(target))
    assert line.endswith("\n")
    assert line.count("\n") == 1
    pattern = f"data/spot/daily/trades/{symbol}/{symbol}-trades-2025-07-*.zip"
    line = command.line(Copy((key,), pattern), target)
    *flags, source, destination = shlex.split(line)
    assert "--raw" not in flags
    assert (source, destination) == (f"s3://data.binance.vision/{pattern}", f"{target}{os.sep}")


TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    [
        *("--source-region", "--endpoint-url", "--numworkers", "--part-size=5", "a\nrm x", "\0"),
        *("--source-region=x\nrm s3://a/b", "--concurrency=" + "9" * 5_000, "\r", "\u2028", "'"),
        *("--retry-count=" + "9" * 20, "-r", "-p", '"', "\\", "\udc80", "--source-region=\x85"),
    ]
)


@given(st.lists(TEXTS, max_size=4))
def test_any_flags_give_one_line_or_an_error(arguments: list[str]) -> None:
    try:
        command = command_of(Path("/tmp/x"), *arguments)
    except ConfigurationError as error:
        message = str(error)
        assert message.startswith("s5cmd_extra_args: ")
        return
    line = command.line(Copy(("data/a.zip",)), Path("/tmp/x/1"))
    assert line[:-1].isprintable()
    assert all(word.isprintable() for word in command.arguments())


@given(TEXTS, TEXTS)
def test_any_key_gives_one_line_or_an_error(key: str, folder: str) -> None:
    command = command_of(Path("/tmp/x"))
    target = Path("/tmp", folder.replace("\0", "\n"), "1")
    try:
        line = command.line(Copy((key,)), target)
    except ConfigurationError:
        return
    assert line.count("\n") == 1
    assert line.endswith("\n")
    line.encode()
    *_, source, destination = shlex.split(line)
    assert (source, destination) == (f"s3://data.binance.vision/{key}", str(target))


# Workers

LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@given(
    sizes=st.lists(st.one_of(st.none(), st.integers(0, 10**9)), max_size=300),
    wanted=st.one_of(st.none(), st.integers(1, 10_000)),
)
def test_workers_are_within_bounds(sizes: list[int | None], wanted: int | None) -> None:
    workers = choose_workers(sizes, wanted)
    assert 1 <= workers <= max(1, len(sizes))
    assert workers <= (wanted or MOST_WORKERS)
    if LIMIT != resource.RLIM_INFINITY:
        assert 4 * workers <= max(4, LIMIT)


@pytest.mark.skipif(0 <= LIMIT < 4 * MOST_WORKERS, reason="few files may be open here")
@pytest.mark.parametrize(
    ("sizes", "wanted", "workers"),
    [
        ([2_000] * 5_000, None, 256),
        ([None] * 5_000, None, 256),
        ([10 << 20] * 5_000, None, 32),
        ([100 << 20] * 5_000, None, 8),
        ([2_000] * 5_000, 10, 10),
        ([100 << 20] * 5_000, 64, 64),
        ([2_000] * 3, None, 3),
        ([], None, 1),
        ([], 5, 1),
    ],
)
def test_workers(sizes: list[int | None], wanted: int | None, workers: int) -> None:
    assert choose_workers(sizes, wanted) == workers
