"""What a report says of a store is what was planted in it, row by row, and nothing else."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from time import sleep
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import ObjectKey, period_end
from binance_archive_kit.cli.commands import Exit
from binance_archive_kit.cli.main import main
from binance_archive_kit.errors import ConfigurationError, CoverageError
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.reading.unzip import Unzipper
from binance_archive_kit.storage.records import Records
from binance_archive_kit.storage.store import Store
from tests.support.dialects import write, zip_of
from tests.support.planted import DAY, HOUR, MINUTE, SECOND, at, csv_at, every, moment, plant
from tests.support.stores import kline, other, put, view_of

DAYS = [f"2025-07-{day:02}" for day in range(1, 32)]
SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT")
#: What a report says of one row: the symbol, its time and a word.
Truth = dict[tuple[str, int], str]


def hours(day: str, *lacking: int) -> list[int]:
    return [at(day) + hour * HOUR for hour in range(24) if hour not in lacking]


def spoil(path: Path) -> None:
    """Flip a byte of the data in a zip."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def rows_told(report: CoverageReport, step: int) -> Truth:
    """Spell the gaps of a report row by row."""
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
    """The parts of a report say the same, and what was counted elsewhere."""
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


# Any market of candles

FLAWS = ("none", "none", "hole", "late", "early", "empty", "deleted", "corrupt", "doubled", "mixed")


@st.composite
def markets(draw: st.DrawFn) -> tuple[dict[tuple[str, str], tuple[str, set[int]]], set[int]]:
    """Draw for each symbol and day a flaw and hours it lacks, and when the market stood still."""
    planted = {}
    for symbol in SYMBOLS[: draw(st.integers(1, 3))]:
        for day in DAYS[:4]:
            flaw = draw(st.sampled_from(FLAWS))
            lacking: set[int] = set()
            if flaw == "hole":
                lacking = draw(st.sets(st.integers(1, 22), min_size=1, max_size=4))
            elif flaw == "late":
                lacking = set(range(draw(st.integers(1, 23))))
            elif flaw == "early":
                lacking = set(range(draw(st.integers(1, 23)), 24))
            planted[symbol, day] = flaw, lacking
    first = draw(st.integers(0, 4 * 24 - 5))
    length = draw(st.sampled_from([0, 0, 1, 4]))
    return planted, {at(DAYS[0]) + hour * HOUR for hour in range(first, first + length)}


@settings(max_examples=25)
@given(markets())
def test_all_that_is_planted_in_candles_is_found(
    drawn: tuple[dict[tuple[str, str], tuple[str, set[int]]], set[int]],
) -> None:
    planted, halt = drawn
    there: dict[tuple[str, str], list[int]] = {}
    findings = set()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for (symbol, day), (flaw, lacking) in planted.items():
            if flaw == "deleted":
                continue
            times = [time for time in hours(day, *lacking) if time not in halt]
            rows = [] if flaw == "empty" else times
            if flaw == "doubled":
                rows = [time for time in times for _ in (1, 2)]
                findings.add((symbol, day, "duplicate", len(times)))
            elif flaw == "mixed":
                rows = random.Random(day).sample(times, len(times))
                if rows != times:
                    findings.add((symbol, day, "unsorted", len(times)))
            path = plant(root, kline(symbol, day), rows)
            if flaw == "corrupt":
                spoil(path)
            there[symbol, day] = [] if flaw in ("empty", "corrupt") else times
        if not there:
            return
        report = bak.coverage(root)
        again = bak.coverage(root)
    truth: Truth = {}
    silent = {
        symbol: {
            time
            for (each, day), rows in there.items()
            if each == symbol and rows
            for time in set(hours(day)) - set(rows)
        }
        for symbol, _ in there
    }
    for symbol in {symbol for symbol, _ in there}:
        own = [day for each, day in there if each == symbol]
        for day in DAYS[DAYS.index(own[0]) : DAYS.index(own[-1]) + 1]:
            rows = there.get((symbol, day), [])
            flaw = planted[symbol, day][0]
            for time in set(hours(day)) - set(rows):
                # Those that have rows on this day, and what they have of this hour.
                speaking = {of: its for (of, each), its in there.items() if each == day and its}
                still = len(speaking) > 1 and not any(time in its for its in speaking.values())
                # And of one of them at least rows follow before a file ends.
                still = still and any(
                    next(later for later in count(time, HOUR) if later not in silent[of]) % DAY
                    for of in speaking
                )
                if flaw == "corrupt":
                    kind = "corrupt"
                elif flaw == "deleted":
                    kind = "not_collected"
                elif not rows:
                    kind = "empty_file"
                elif still:
                    kind = "halt"
                else:
                    kind = "hole" if rows[0] < time < rows[-1] else "short_file"
                truth[symbol, time] = kind
    assert rows_told(report, HOUR) == truth
    assert {
        (row["symbol"], f"{row['start']:%Y-%m-%d}", row["kind"], row["rows"])
        for row in report.findings.iter_rows(named=True)
    } == findings
    assert_consistent(report, sum(map(len, there.values())), len(truth))
    assert set(report.problems) == {
        str(kline(*name)) for name, (flaw, _) in planted.items() if flaw == "corrupt"
    }
    for name in ("streams", "gaps", "findings", "days"):
        assert getattr(again, name).equals(getattr(report, name)), name


# Monthly and daily files of the same days


def test_a_month_rewritten_where_it_lies_is_compared_anew(tmp_path: Path) -> None:
    month, day = kline("BTCUSDT", "2025-07", "8h"), kline("BTCUSDT", DAYS[0], "8h")
    times = [at(DAYS[0]) + n * 8 * HOUR for n in range(3)]
    path = plant(tmp_path, month, times)
    plant(tmp_path, day, times)
    store = bak.store(tmp_path)
    sleep(0.2)  # until its folder counts as settled
    assert bak.coverage(store).findings.is_empty()
    path.write_bytes(zip_of(month, csv_at(month, times, value=[1, 2, 1])))
    [finding] = bak.coverage(store).findings.iter_rows(named=True)
    assert (finding["kind"], finding["rows"]) == ("disagreement", 1)


@st.composite
def months(draw: st.DrawFn) -> tuple[set[int], dict[int, set[int]], set[int], str]:
    """Draw places of a month, and of some of its days, that lack a row; and rows that differ."""
    month = draw(st.sets(st.integers(0, 31 * 3 - 1), max_size=5))
    days = draw(
        st.dictionaries(st.integers(0, 5), st.sets(st.integers(0, 2), max_size=3), min_size=1)
    )
    changed = draw(st.sets(st.integers(0, 6 * 3 - 1), max_size=4))
    return month, days, changed, draw(st.sampled_from(["daily", "monthly"]))


@settings(max_examples=25)
@given(months())
def test_of_two_files_of_a_day_one_counts_and_both_are_compared(
    drawn: tuple[set[int], dict[int, set[int]], set[int], str],
) -> None:
    gone, days, changed, prefer = drawn
    step = 8 * HOUR
    start = at(DAYS[0])
    of_month = [place for place in range(31 * 3) if place not in gone]
    of_days = {
        day: [day * 3 + at_ for at_ in range(3) if at_ not in lacking]
        for day, lacking in days.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plant(root, kline("BTCUSDT", "2025-07", "8h"), [start + n * step for n in of_month])
        for day, places in of_days.items():
            values = [2 if place in changed else 1 for place in places]
            times = [start + n * step for n in places]
            plant(root, kline("BTCUSDT", DAYS[day], "8h"), times, value=values)
        report = bak.coverage(root, prefer=prefer)  # type: ignore[arg-type]
    first, last = of_month[0] // 3, of_month[-1] // 3
    truth = {}
    for day in range(31):
        by_day = bool(of_days.get(day))
        by_month = first <= day <= last
        if prefer == "daily":
            file = of_days[day] if by_day else of_month
        else:
            file = of_month if by_month or not by_day else of_days[day]
        for place in set(range(day * 3, day * 3 + 3)) - set(file):
            inside = file[0] < place < file[-1]
            truth["BTCUSDT", start + place * step] = "hole" if inside else "short_file"
    assert rows_told(report, step) == truth
    differing = {
        place
        for day, places in of_days.items()
        for place in range(day * 3, day * 3 + 3)
        if (place in places) != (place in of_month) or (place in places and place in changed)
    }
    changed_there = {place for its in of_days.values() for place in its} & changed & set(of_month)
    found = report.findings
    assert set(found["kind"]) <= {"disagreement"}
    assert found["rows"].sum() == len(differing)
    told = set()
    for row in found.iter_rows(named=True):
        began, end = (int(row[name].timestamp()) * SECOND for name in ("start", "end"))
        places = {(time - start) // step for time in range(began, end, step)}
        told |= places
        by_month = places & set(of_month)
        if "only the daily" in row["evidence"]:
            assert not by_month
        elif "only the monthly" in row["evidence"]:
            assert by_month == places <= differing - changed_there
        else:
            assert places <= changed_there
            assert "is 2.0 in the daily file and 1.0 in the monthly one" in row["evidence"]
    assert told == differing


@pytest.mark.parametrize("spoilt", [True, False])
def test_days_that_a_daily_file_cannot_give_come_from_the_monthly_one(
    tmp_path: Path, spoilt: bool
) -> None:
    plant(tmp_path, kline("BTCUSDT", "2025-07"), every(HOUR, DAYS[0], "2025-08-01"))
    for day in DAYS[3:6]:
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    bad = kline("BTCUSDT", DAYS[4])
    if spoilt:
        spoil(tmp_path / str(bad))
    else:
        plant(tmp_path, bad, [])
    report = bak.coverage(tmp_path)
    assert_consistent(report, 31 * 24, 0)
    assert list(report.problems) == ([str(bad)] if spoilt else [])
    assert report.findings["rows"].to_list() == ([] if spoilt else [24])


def test_many_rows_in_a_row_that_differ_are_one_finding(tmp_path: Path) -> None:
    """A daily file of trades that ends early lacks whatever the monthly one has from there on."""
    month = ObjectKey.parse("data/spot/monthly/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2025-07.zip")
    times = every(MINUTE, DAYS[0], "2025-07-01 12:00")
    plant(tmp_path, month, times, ids=range(len(times)))
    day = other("aggTrades", "BTCUSDT", DAYS[0], "spot")
    plant(tmp_path, day, times[:300], ids=range(300))
    report = bak.coverage(tmp_path)
    [found] = report.findings.rows(named=True)
    assert (found["rows"], found["evidence"]) == (420, "only the monthly file has it")
    assert (found["start"], found["end"]) == (moment(times[300]), moment(times[-1] + 1))


# Other feeds


@settings(max_examples=12)
@given(st.sets(st.integers(0, 4 * 288 - 1), max_size=30), st.booleans())
def test_metrics_are_whole_over_the_change_of_their_labels(lacking: set[int], cm: bool) -> None:
    """288 a day, whatever end of a period labels it, and midnight in two files is one row."""
    days = [date(2026, 6, 23) + timedelta(days=n) for n in range(4)]
    market, symbol = ("futures/cm", "BTCUSD_PERP") if cm else ("futures/um", "BTCUSDT")
    start = at(str(days[0]))
    with tempfile.TemporaryDirectory() as folder:
        for number, day in enumerate(days):
            places = set(range(number * 288, number * 288 + 288)) - lacking
            late = 0 if cm or day >= date(2026, 6, 25) else 5 * MINUTE
            # Without its last label, or its first one, a file does not show whose end they are.
            times = [start + place * 5 * MINUTE + late for place in sorted(places)]
            plant(Path(folder), other("metrics", symbol, str(day), market), times)
        report = bak.coverage(folder)
    told = {(time - start) // (5 * MINUTE) for _, time in rows_told(report, 5 * MINUTE)}
    assert told == lacking
    assert_consistent(report, 4 * 288 - len(lacking), len(lacking))


@settings(max_examples=15)
@given(
    st.lists(st.integers(20, 60), min_size=2, max_size=5),
    st.sets(st.integers(1, 100), max_size=6),
    st.sets(st.integers(0, 4), max_size=1),
)
def test_every_number_of_trades_that_lacks_is_counted(
    counts: list[int], lacking: set[int], gone: set[int]
) -> None:
    """So many trades on each day, numbered on and on; some are left out, perhaps a whole day."""
    gone = {day for day in gone if 0 < day < len(counts) - 1}
    first, held = 1_000, []
    with tempfile.TemporaryDirectory() as folder:
        for day, count in enumerate(counts):
            ids = [first + n for n in range(count)]
            # A day keeps its first and its last one, so that what lacks is inside.
            own = [i for i in ids if i - 1_000 not in lacking or i in (ids[0], ids[-1])]
            if day not in gone:
                times = [at(DAYS[day]) + (i - first) * (DAY // count) for i in own]
                plant(Path(folder), other("aggTrades", "X", DAYS[day], "spot"), times, ids=own)
                held += own
            first += count
        report = bak.coverage(folder)
    assert_consistent(report, len(held), sum(counts) - len(held))
    kinds = set(report.gaps["kind"])
    assert kinds == ({"not_collected"} if gone else set()) | (
        {"hole"} if len(held) + sum(counts[day] for day in gone) < sum(counts) else set()
    )


def test_funding_that_changes_its_hours_is_counted_by_them(tmp_path: Path) -> None:
    keys = [
        ObjectKey.parse(f"data/futures/um/monthly/fundingRate/X/X-fundingRate-2025-0{month}.zip")
        for month in (6, 7)
    ]
    june = every(8 * HOUR, "2025-06-01", "2025-06-16") + every(4 * HOUR, "2025-06-16", "2025-07-01")
    july = every(4 * HOUR, "2025-07-01", "2025-07-11") + every(8 * HOUR, "2025-07-11", "2025-08-01")
    lacking = at("2025-07-20 08:00")
    july.remove(lacking)
    for key, times in zip(keys, (june, july), strict=True):
        own = [4 if at("2025-06-16") <= time < at("2025-07-11") else 8 for time in times]
        plant(tmp_path, key, [time + 5_000 for time in times], hours=own)
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("hole", "07-20 08:00", "07-20 16:00", 1)]
    assert_consistent(report, len(june) + len(july), 1)


def test_the_volatility_index_is_counted_by_the_second(tmp_path: Path) -> None:
    key = other("BVOLIndex", "BTCBVOLUSDT", DAYS[0], "option")
    start = at(DAYS[0])
    places = [n for n in range(86_400) if not 3_600 <= n < 3_700 and n < 80_000]
    plant(tmp_path, key, [start + n * SECOND + n % 3 * 1_000 for n in places])
    report = bak.coverage(tmp_path)
    assert [(row[0], row[3]) for row in gaps_of(report)] == [("hole", 100), ("short_file", 6_400)]
    assert_consistent(report, len(places), 6_500)


# Trades as witnesses


def trades(
    root: Path, times: Sequence[int], ids: Sequence[int], data_type: str = "aggTrades"
) -> None:
    plant(root, other(data_type, "BTCUSDT", DAYS[0], "spot"), times, ids=ids)


STILL = (at(f"{DAYS[0]} 04:00"), at(f"{DAYS[0]} 06:00"))
ALL_DAY = every(MINUTE, DAYS[0], DAYS[1])
BUT_STILL = [time for time in ALL_DAY if not STILL[0] <= time < STILL[1]]


@pytest.mark.parametrize(
    ("times", "ids", "kind", "evidence"),
    [
        (BUT_STILL, range(len(BUT_STILL)), "halt", "nothing was traded: {} are present"),
        (ALL_DAY, range(1_440), "hole", "trades of this time are present"),
        (BUT_STILL, [n for n in range(1_440) if not 240 <= n < 360], "hole", "before and after"),
    ],
    ids=["continuous and silent", "traded", "left out"],
)
@pytest.mark.parametrize("data_type", ["aggTrades", "trades"])
def test_trades_tell_whether_the_market_stood_still(
    tmp_path: Path, times: list[int], ids: Sequence[int], kind: str, evidence: str, data_type: str
) -> None:
    plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0], 4, 5))
    trades(tmp_path, times, ids, data_type)
    report = bak.coverage(tmp_path)
    [row] = report.gaps.filter(pl.col("data_type") == "klines").rows(named=True)
    assert (row["kind"], row["missing"]) == (kind, 2)
    assert evidence.format(data_type) in row["evidence"]


def test_trades_of_another_time_tell_nothing(tmp_path: Path) -> None:
    plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0], 4, 5))
    plant(tmp_path, other("aggTrades", "BTCUSDT", DAYS[3], "spot"), ALL_DAY[:0])
    plant(tmp_path, other("aggTrades", "ETHUSDT", DAYS[0], "spot"), BUT_STILL)
    report = bak.coverage(tmp_path)
    [row] = report.gaps.filter(pl.col("data_type") == "klines").rows(named=True)
    assert row["kind"] == "hole"
    assert "traded" not in row["evidence"]


def test_damaged_trades_tell_nothing(tmp_path: Path) -> None:
    plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0], 4, 5))
    spoil(plant(tmp_path, other("aggTrades", "BTCUSDT", DAYS[0], "spot"), BUT_STILL))
    report = bak.coverage(tmp_path)
    assert dict(report.gaps.select("data_type", "kind").rows()) == {
        "klines": "hole",
        "aggTrades": "corrupt",
    }


@pytest.mark.parametrize(("data_type", "column"), [("aggTrades", "agg_trade_id"), ("trades", "id")])
def test_a_row_without_its_number_makes_its_file_corrupt(
    tmp_path: Path, data_type: str, column: str
) -> None:
    first, second = (other(data_type, "BTCUSDT", day, "spot") for day in DAYS[:2])
    plant(tmp_path, first, hours(DAYS[0]))
    rows = csv_at(second, hours(DAYS[1]), ids=range(24, 48)).replace(b"\n30,", b"\n,")
    write(tmp_path, second, zip_of(second, rows))
    # What a query has looked at of it are other columns.
    with bak.connect(tmp_path) as con:
        con.sql(f"SELECT sum(price) FROM {view_of(first)}").fetchall()
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("corrupt", "07-02 00:00", "07-03 00:00", None)]
    assert [(error.file, error.reason) for error in report.problems.values()] == [
        (str(second), "wrong_values")
    ]
    assert f"a row has no {column}" in report.gaps["evidence"].item()


def test_funding_that_does_not_say_its_hours_is_corrupt(tmp_path: Path) -> None:
    name = "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"
    funding = ObjectKey.parse(name)
    rows = csv_at(funding, every(8 * HOUR, "2025-07-01", "2025-08-01"))
    write(tmp_path, funding, zip_of(funding, rows.replace(b",8,", b",,", 1)))
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("corrupt", "07-01 00:00", "08-01 00:00", 93)]
    assert "a row has no funding_interval_hours" in report.gaps["evidence"].item()


# Words for what is not there


@pytest.mark.parametrize("lacks", ["daily", "monthly"])
def test_a_lack_of_one_partition_is_not_hidden_by_what_was_told_of_the_other(
    tmp_path: Path, lacks: str
) -> None:
    for day in (DAYS[0], DAYS[2]):
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    told = []
    for key in (kline("BTCUSDT", DAYS[1]), kline("BTCUSDT", "2025-07")):
        stream = key.folder
        reason = Reason.ABSENT if stream.partition == lacks else Reason.NOT_PUBLISHED
        of = (stream.market, stream.data_type, reason, f"told of the {stream.partition} one")
        told.append(Absence(*of, key.start, key.end, stream.symbol, stream.interval, key=str(key)))
    store = Store(tmp_path)
    with store.records.recorder() as record:
        record([])
    store.records.record_missing(told, [])
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("missing_in_archive", "07-02 00:00", "07-03 00:00", 24)]
    assert report.gaps["evidence"].item().startswith(f"told of the {lacks} one")


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    report = bak.coverage(tmp_path)
    assert report.verdict == f"Nothing found: {tmp_path} has no file of the archive for these days"
    assert (report.coverage, report.weakest, report.is_complete) == (None, None, False)
    for name in ("streams", "gaps", "findings", "days"):
        assert getattr(report, name).height == 0
    ready = bak.backtest_coverage(tmp_path)
    assert not ready.is_ready
    assert ready.verdict.startswith("Not ready: Nothing found")
    assert (ready.window, ready.coverage, ready.completeness) == (None, None, 0.0)
    for text in (str(report), report._repr_html_(), report.to_html(), ready._repr_html_()):
        assert "100" not in text.replace("max-width:100%", "")
    with pytest.raises(CoverageError, match="nothing to draw"):
        report.plot()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'.*nowhere' is not a folder"):
        bak.coverage(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"start": "2025-07-02", "end": "2025-07-01"}, "start: 2025-07-02 is after end"),
        ({"start": "July"}, "start: 'July' is not a day"),
        ({"end": "2025-7-1"}, "end: '2025-7-1' is not a day"),
        ({"end": datetime(2025, 7, 1, tzinfo=UTC)}, "has a time"),
        ({"prefer": "weekly"}, "prefer: 'weekly'"),
    ],
)
def test_questions_that_cannot_be_meant_are_refused(
    tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        bak.coverage(tmp_path, **arguments)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, 99.9, True, float("nan"), "0.9"])
def test_a_share_is_above_nothing_and_up_to_one(tmp_path: Path, share: object) -> None:
    with pytest.raises(ConfigurationError, match=r"min_coverage: .* is not a share"):
        bak.backtest_coverage(tmp_path, min_coverage=share)


@pytest.fixture
def two_days(tmp_path: Path) -> Path:
    for day in DAYS[:2]:
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    return tmp_path


def test_what_is_there_is_held_against_itself(two_days: Path) -> None:
    report = bak.coverage(two_days)
    assert report.verdict == (
        "Complete: 100 % of the rows due are there (48 of 48), in 2 of 2 files of 1 stream"
    )
    assert report.coverage == 1.0
    assert report.to_frame().equals(report.streams)


def test_days_beyond_the_files_are_not_collected(two_days: Path) -> None:
    report = bak.coverage(two_days, start="2025-06-30", end=date(2025, 7, 4))
    assert gaps_of(report) == [
        ("not_collected", "06-30 00:00", "07-01 00:00", 24),
        ("not_collected", "07-03 00:00", "07-05 00:00", 48),
    ]
    assert "coverage(config)" in report.gaps["evidence"][0]
    assert report.verdict.startswith("Incomplete: 40.00 % of the rows due are there (48 of 120)")
    assert "in 2 of 5 files" in report.verdict


def test_some_days_are_looked_at_by_themselves(two_days: Path) -> None:
    report = bak.coverage(two_days, start=DAYS[1], end=DAYS[1])
    assert_consistent(report, 24, 0)
    assert report.days["date"].to_list() == [date(2025, 7, 2)]


def test_days_to_come_are_not_published(two_days: Path) -> None:
    report = bak.coverage(two_days, start="2100-01-01", end="2100-01-31")
    assert set(report.gaps["kind"]) == {"not_published"}
    assert report.verdict == "Nothing is due: 1 stretch not published"
    assert (report.coverage, report.is_complete) == (None, False)
    assert report.streams["state"].to_list() == ["nothing due"]


def test_days_before_the_feed_began_were_never_due(two_days: Path) -> None:
    report = bak.coverage(two_days, start="2015-01-01", end="2015-01-31")
    assert set(report.gaps["kind"]) == {"before_listing"}
    assert report.verdict == "Nothing is due: 1 stretch before listing"


def test_a_feed_that_ended_is_not_lacking(tmp_path: Path) -> None:
    put(tmp_path, other("EOHSummary", "BTCUSDT", "2023-10-23", "option"), 2_000)
    report = bak.coverage(tmp_path, end="2023-10-25")
    assert gaps_of(report) == [("ended_feed", "10-24 00:00", "10-26 00:00", 0)]
    assert "ended on 2023-10-23" in report.gaps["evidence"][0]


def test_a_month_that_lacks_is_one_file(tmp_path: Path) -> None:
    for month in ("2025-05", "2025-07"):
        key = kline("BTCUSDT", month, "1d")
        plant(tmp_path, key, every(DAY, str(key.start), f"{key.end + timedelta(days=1)}"))
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("not_collected", "06-01 00:00", "07-01 00:00", 30)]
    assert "in 2 of 3 files" in report.verdict


def long_candles(root: Path, interval: str, *months: str) -> None:
    """Plant months of candles that begin on Mondays, or with the month."""
    for month in months:
        key = kline("BTCUSDT", month, interval)
        days = every(DAY, str(key.start), f"{key.end + timedelta(days=1)}")
        mondays = [time for time in days if moment(time).weekday() == 0]
        plant(root, key, mondays if interval == "1w" else days[:1])


@pytest.mark.parametrize("interval", ["1w", "1mo"])
def test_what_only_a_file_of_the_running_month_can_hold_is_not_published(
    tmp_path: Path, interval: str
) -> None:
    this = datetime.now(UTC).date().replace(day=1)
    last = (this - timedelta(days=1)).replace(day=1)
    before = (last - timedelta(days=1)).replace(day=1)
    long_candles(tmp_path, interval, f"{before:%Y-%m}", f"{last:%Y-%m}")
    report = bak.coverage(tmp_path, end=period_end(this, Partition.MONTHLY))
    [gap] = report.gaps.rows(named=True)
    assert (gap["kind"], gap["missing"], gap["start"].month) == ("not_published", 0, this.month)
    assert report.is_complete
    assert "in 2 of 2 files" in report.verdict


def test_files_of_long_candles_are_counted_by_the_month(tmp_path: Path) -> None:
    long_candles(tmp_path, "1w", "2025-04", "2025-05")
    report = bak.coverage(tmp_path, start="2025-07-01", end="2025-08-31")
    assert report.verdict.startswith("Nothing there: 0 % of the rows due are there (0 of 8), in 0 ")
    assert "in 0 of 2 files" in report.verdict


# What was seen is remembered


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attempt to open a file fail."""

    def refuse(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(Unzipper, "read", refuse)
    monkeypatch.setattr(Unzipper, "read_raw", refuse)


def test_a_second_report_opens_no_file(two_days: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(two_days, kline("BTCUSDT", "2025-07"), every(HOUR, DAYS[0], "2025-08-01"))
    trades(two_days, ALL_DAY, range(1_440))
    first = bak.coverage(two_days)
    forbid_reading(monkeypatch)
    second = bak.coverage(two_days)
    assert str(second) == str(first)
    assert second.gaps.equals(first.gaps)
    assert second.findings.equals(first.findings)


def test_a_file_that_was_written_again_is_read_again(two_days: Path) -> None:
    assert bak.coverage(two_days).is_complete
    plant(two_days, kline("BTCUSDT", DAYS[0]), hours(DAYS[0], 5))
    plant(two_days, kline("BTCUSDT", DAYS[2]), hours(DAYS[2], 0))
    assert gaps_of(bak.coverage(two_days)) == [
        ("hole", "07-01 05:00", "07-01 06:00", 1),
        ("short_file", "07-03 00:00", "07-03 01:00", 1),
    ]


def test_a_comparison_is_made_again_when_a_file_was_written_again(two_days: Path) -> None:
    plant(two_days, kline("BTCUSDT", "2025-07"), every(HOUR, DAYS[0], "2025-08-01"))
    assert bak.coverage(two_days).findings.height == 0
    plant(two_days, kline("BTCUSDT", DAYS[1]), hours(DAYS[1]), value=[3] * 24)
    [found] = bak.coverage(two_days).findings.rows(named=True)
    assert (found["kind"], found["rows"]) == ("disagreement", 24)


@pytest.mark.parametrize(("day", "known"), [("2020-12-21", True), ("2020-12-22", False)])
def test_a_day_known_to_be_wrong_in_its_month_may_differ(
    tmp_path: Path, day: str, known: bool
) -> None:
    plant(tmp_path, kline("BTCUSDT", "2020-12"), every(HOUR, "2020-12-01", "2021-01-01"))
    plant(tmp_path, kline("BTCUSDT", day), hours(day), value=[3] * 24)
    report = bak.coverage(tmp_path)
    [found] = report.findings.filter(pl.col("kind") == "disagreement").rows(named=True)
    assert (found["rows"], found["explained"]) == (24, known)
    assert ("as is known, the monthly file is wrong" in found["evidence"]) == known
    assert ("Complete" in str(report)) == known


def test_without_a_cache_nothing_is_written(two_days: Path) -> None:
    assert bak.coverage(bak.store(two_days, cache=False)).is_complete
    assert not (two_days / ".binance_archive_kit").exists()


# Backtests


def backtest_store(root: Path) -> None:
    """Prices of two symbols, trades of one that begin a day later, and funding."""
    for day in DAYS[:5]:
        plant(root, kline("BTCUSDT", day, market="futures/um"), hours(day))
        lacking = (3, 4) if day == DAYS[2] else ()
        plant(root, kline("ETHUSDT", day, market="futures/um"), hours(day, *lacking))
    first = 0
    for day in DAYS[1:5]:
        times = every(MINUTE, day, f"{date.fromisoformat(day) + timedelta(days=1)}")
        key = other("aggTrades", "BTCUSDT", day)
        plant(root, key, times, ids=range(first, first + len(times)))
        first += len(times)
    funding = ObjectKey.parse(
        "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"
    )
    plant(root, funding, every(8 * HOUR, "2025-07-01", "2025-08-01"))


def test_streams_support_together_what_all_of_them_have(tmp_path: Path) -> None:
    backtest_store(tmp_path)
    ready = bak.backtest_coverage(tmp_path, start=DAYS[0], end=DAYS[4])
    assert ready.asked == (date(2025, 7, 1), date(2025, 7, 5))
    assert ready.window == (date(2025, 7, 2), date(2025, 7, 5))
    assert ready.weakest is not None
    assert ready.weakest["symbol"] == "ETHUSDT"
    assert ready.coverage == 94 / 96
    assert ready.skip.rows() == [
        (
            moment(at("2025-07-03 03:00")),
            moment(at("2025-07-03 05:00")),
            "futures_um klines ETHUSDT 1h",
            "hole",
        )
    ]
    assert ready.verdict == (
        "Not ready: 2025-07-02 to 2025-07-05 is all that every stream has of 2025-07-01 to "
        "2025-07-05, as futures_um aggTrades BTCUSDT begins on 2025-07-02; of these days the "
        "weakest stream, futures_um klines ETHUSDT 1h, has 97.91 % of its rows (wanted 99.9 %); "
        "skip 1 stretch"
    )
    with pytest.raises(CoverageError, match="Not ready: 2025-07-02 to 2025-07-05"):
        ready.raise_if_not_ready()
    # The first day lacks trades, so one file of sixteen is not there.
    assert (ready.actual_files, ready.expected_files) == (15, 16)
    assert ready.completeness == 100 * 15 / 16
    assert "15 of 16 files (93.75 %)" in repr(ready)


def test_the_streams_that_end_the_window_are_named(tmp_path: Path) -> None:
    reach = {"BTCUSDT": DAYS[:5], "ETHUSDT": DAYS[2:5], "XRPUSDT": DAYS[:4], "ADAUSDT": DAYS[:4]}
    for symbol, days in reach.items():
        for day in days:
            plant(tmp_path, kline(symbol, day), hours(day))
    ready = bak.backtest_coverage(tmp_path)
    assert ready.verdict == (
        "Not ready: 2025-07-03 to 2025-07-04 is all that every stream has of 2025-07-01 to "
        "2025-07-05, as spot klines ETHUSDT 1h begins on 2025-07-03 and spot klines ADAUSDT 1h "
        "and 1 more end on 2025-07-04; of these days the weakest stream, spot klines ADAUSDT 1h, "
        "has 100 % of its rows (wanted 99.9 %)"
    )
    only_start = bak.backtest_coverage(tmp_path, end=DAYS[3]).verdict
    assert "as spot klines ETHUSDT 1h begins on 2025-07-03; of" in only_start


def test_a_month_of_funding_does_not_ask_for_all_of_the_month(tmp_path: Path) -> None:
    backtest_store(tmp_path)
    ready = bak.backtest_coverage(tmp_path, min_coverage=0.97)
    assert ready.asked == (date(2025, 7, 1), date(2025, 7, 5))
    assert ready.window == (date(2025, 7, 2), date(2025, 7, 5))
    shutil.rmtree(tmp_path / "data/futures/um/daily/aggTrades")
    assert bak.backtest_coverage(tmp_path, min_coverage=0.97).is_ready
    # Whoever asks for the month is told that most of it is not there.
    asked = bak.backtest_coverage(tmp_path, min_coverage=0.97, start=DAYS[0], end=DAYS[-1])
    assert asked.asked == (date(2025, 7, 1), date(2025, 7, 31))
    assert not asked.is_ready
    # Of funding alone it is all there is to go by.
    shutil.rmtree(tmp_path / "data/futures/um/daily")
    alone = bak.backtest_coverage(tmp_path)
    assert alone.asked == alone.window == (date(2025, 7, 1), date(2025, 7, 31))
    assert alone.is_ready


def test_a_month_of_weeks_does_not_ask_for_all_of_the_month(tmp_path: Path) -> None:
    long_candles(tmp_path, "1w", "2025-07")
    for day in DAYS[:15]:
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    ready = bak.backtest_coverage(tmp_path)
    assert ready.asked == ready.window == (date(2025, 7, 1), date(2025, 7, 15))
    assert ready.is_ready


def test_enough_of_all_days_is_ready(tmp_path: Path) -> None:
    backtest_store(tmp_path)
    ready = bak.backtest_coverage(tmp_path, min_coverage=0.97, start=DAYS[1], end=DAYS[4])
    assert ready.is_ready
    assert ready.verdict.startswith("Ready: 2025-07-02 to 2025-07-05; the weakest stream, ")
    assert "(wanted 97 %); skip 1 stretch" in ready.verdict
    ready.raise_if_not_ready()
    # Every file is there, and yet rows are lacking: the honest figure stands beside.
    assert ready.completeness == 100.0
    assert "16 of 16" not in repr(ready)
    assert "a file that is there may lack rows" in repr(ready)


@pytest.mark.parametrize("interval", ["1w", "1mo"])
def test_long_candles_leave_the_window_whole(tmp_path: Path, interval: str) -> None:
    """Most days have no candle of a week, and lack none."""
    for month, end in (("2025-05", "2025-06-01"), ("2025-06", "2025-07-01")):
        plant(tmp_path, kline("BTCUSDT", month, "4h"), every(4 * HOUR, f"{month}-01", end))
        days = every(DAY, f"{month}-01", end)
        opens = [time for time in days if moment(time).weekday() == 0]
        key = kline("BTCUSDT", month, interval)
        plant(tmp_path, key, opens if interval == "1w" else days[:1])
    ready = bak.backtest_coverage(tmp_path)
    assert ready.window == ready.asked == (date(2025, 5, 1), date(2025, 6, 30))
    assert ready.is_ready
    assert (ready.coverage, ready.skip.height) == (1.0, 0)
    # The second month has none: then it ends with what was due of the first.
    plant(tmp_path, kline("BTCUSDT", "2025-06", interval), [])
    ready = bak.backtest_coverage(tmp_path)
    assert not ready.is_ready
    last = date(2025, 6, 1) if interval == "1w" else date(2025, 5, 31)
    assert ready.window == (date(2025, 5, 1), last)


def test_what_is_wanted_is_not_rounded_up(tmp_path: Path) -> None:
    backtest_store(tmp_path)
    verdict = bak.backtest_coverage(tmp_path, min_coverage=0.9999999).verdict
    assert "(wanted 99.99999 %)" in verdict


def test_a_stream_without_rows_leaves_no_window(two_days: Path) -> None:
    for day in DAYS[:2]:
        plant(two_days, kline("ETHUSDT", day), [])
    ready = bak.backtest_coverage(two_days)
    assert ready.window is None
    assert ready.verdict.startswith("Not ready: spot klines ETHUSDT 1h has no rows; ")


def test_streams_of_different_days_leave_no_window(two_days: Path) -> None:
    plant(two_days, kline("ETHUSDT", DAYS[6]), hours(DAYS[6]))
    ready = bak.backtest_coverage(two_days)
    assert ready.window is None
    assert "there is no day of which every stream has rows" in ready.verdict


def test_lacks_of_several_streams_are_one_stretch_to_skip(tmp_path: Path) -> None:
    lacking: dict[str, Callable[[str], list[int]]] = {
        "BTCUSDT": lambda day: hours(day, 5, 6),
        "ETHUSDT": lambda day: hours(day, 6, 7),
        "XRPUSDT": lambda day: hours(day),
    }
    for symbol, of in lacking.items():
        plant(tmp_path, kline(symbol, DAYS[0]), of(DAYS[0]))
    ready = bak.backtest_coverage(tmp_path)
    [stretch] = ready.skip.rows(named=True)
    assert (stretch["start"].hour, stretch["end"].hour) == (5, 8)
    assert stretch["streams"] == "spot klines BTCUSDT 1h, spot klines ETHUSDT 1h"
    assert stretch["kinds"] == "hole"


def test_a_bare_zip_is_as_good(tmp_path: Path) -> None:
    """Another tool's folder has no digests."""
    path = plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0]))
    path.with_name(f"{path.name}.CHECKSUM").unlink()
    assert bak.coverage(tmp_path).is_complete
    key = kline("BTCUSDT", DAYS[1])
    write(tmp_path, key, zip_of(key, b"<html>"))
    report = bak.coverage(tmp_path)
    assert set(report.gaps["kind"]) == {"corrupt"}


# What is known of the archive


def test_a_day_that_only_a_csv_gives_is_there_and_unverified(two_days: Path) -> None:
    zipped = two_days / str(kline("BTCUSDT", DAYS[1]))
    csv = zipped.with_suffix(".csv")
    csv.write_bytes(csv_at(kline("BTCUSDT", DAYS[1]), hours(DAYS[1])))
    zipped.unlink()
    report = bak.coverage(two_days)
    assert_consistent(report, 48, 0)
    [found] = report.findings.rows(named=True)
    assert found["kind"] == "unverified"
    assert found["evidence"].startswith("BTCUSDT-1h-2025-07-02.csv: verify cannot prove it")
    assert bak.backtest_coverage(two_days).is_ready


def test_a_file_of_an_unusual_form_is_read_and_named(two_days: Path) -> None:
    key = kline("BTCUSDT", DAYS[1])
    write(two_days, key, zip_of(key, csv_at(key, hours(DAYS[1])).rstrip(b"\n")))
    report = bak.coverage(two_days)
    assert_consistent(report, 48, 0)
    [found] = report.findings.rows(named=True)
    assert found["kind"] == "irregular"
    assert "no end of line" in found["evidence"]
    assert bak.backtest_coverage(two_days).verdict.startswith("Ready: ")
    assert bak.coverage(two_days).findings.equals(report.findings)


def test_files_that_are_skipped_are_never_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "BTCUSDT-1h-2025-07-01.zip").write_bytes(b"PK")
    report = bak.coverage(tmp_path)
    assert report.verdict.startswith("Nothing read: 1 file skipped because of name or place")
    assert report.skipped[0].advice in report.verdict
    assert "Nothing found" not in bak.backtest_coverage(tmp_path).verdict
    for text in (str(report), report._repr_html_(), report.to_markdown()):
        assert "data/BTCUSDT-1h-2025-07-01.zip" in text
    plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0]))
    assert "1 file skipped" in bak.coverage(tmp_path).verdict


def test_a_change_of_meaning_is_told_wherever_such_rows_are(tmp_path: Path) -> None:
    def told(*days: str) -> list[str]:
        root = tmp_path / days[0]
        for day in days:
            late = 0 if day >= "2026-06-25" else 5 * MINUTE
            times = [time + late for time in every(5 * MINUTE, day, f"{day} 23:59")]
            plant(root, other("metrics", "BTCUSDT", day), times)
        changes = bak.coverage(root).findings.filter(pl.col("kind") == "semantic_change")
        return [f"{start:%Y-%m-%d}" for start in changes["start"]]

    assert told("2026-06-23") == []
    assert told("2026-08-01") == ["2026-08-01"]
    assert told("2026-06-24", "2026-06-25") == ["2026-06-25"]


def test_a_known_defect_is_named_where_it_is_touched(tmp_path: Path) -> None:
    day = "2020-12-21"
    month = kline("BTCUSDT", "2020-12")
    plant(tmp_path, month, every(HOUR, "2020-12-01", "2021-01-01"))
    report = bak.coverage(tmp_path)
    [found] = report.findings.filter(pl.col("kind") == "wrong_values").rows(named=True)
    assert f"{found['start']:%Y-%m-%d}" == day
    assert "the daily ones right" in found["evidence"]
    assert "not to be trusted: 1 known defect" in report.verdict
    assert not bak.backtest_coverage(tmp_path, start=day, end=day).is_ready
    assert bak.backtest_coverage(tmp_path, start="2020-12-01", end="2020-12-15").is_ready
    # The daily file of that day is right, and gives it.
    plant(tmp_path, kline("BTCUSDT", day), hours(day))
    kinds = set(bak.coverage(tmp_path).findings["kind"])
    assert "wrong_values" not in kinds


def test_a_halt_that_took_no_whole_candle_is_named(tmp_path: Path) -> None:
    day = "2020-02-19"
    plant(tmp_path, kline("BTCUSDT", day, "8h"), every(8 * HOUR, day, f"{day} 23:59"))
    report = bak.coverage(tmp_path)
    [found] = report.findings.rows(named=True)
    assert found["kind"] == "known_halt"
    assert "2020-02-19 11:35:33" in found["evidence"]
    assert report.is_complete
    lacking = hours(day, 12, 13, 14, 15)
    plant(tmp_path, kline("ETHUSDT", day), lacking)
    gaps = bak.coverage(tmp_path).gaps.filter(pl.col("symbol") == "ETHUSDT")
    assert gaps["kind"][0] == "halt"
    assert "a known halt, 2020-02-19 11:35:33" in gaps["evidence"][0]


@pytest.mark.parametrize(
    ("last", "kinds"), [("08:00", set()), ("09:00", set()), ("05:00", {"short_file"})]
)
def test_a_contract_ends_on_the_day_its_name_says(
    tmp_path: Path, last: str, kinds: set[str]
) -> None:
    name = "data/futures/um/daily/klines/BTCUSDT_240628/1h/BTCUSDT_240628-1h-"
    for day, end in (("2024-06-27", "2024-06-28"), ("2024-06-28", f"2024-06-28 {last}")):
        plant(tmp_path, ObjectKey.parse(f"{name}{day}.zip"), every(HOUR, day, end))
    report = bak.coverage(tmp_path, start="2024-06-27", end="2024-06-30")
    assert report.is_complete == (not kinds)
    assert set(report.gaps["kind"]) == {"after_delisting", *kinds}


def test_a_symbol_of_which_another_stream_goes_on_was_not_delisted(tmp_path: Path) -> None:
    """What an earlier collection noted of one stream is held against all of the symbol."""
    plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0]))
    key = kline("BTCUSDT", DAYS[1])
    stream = key.folder
    absence = Absence(
        stream.market, stream.data_type, Reason.AFTER_LAST, "delisted?", key.start, key.end,
        stream.symbol, stream.interval, key=str(key),
    )  # fmt: skip
    store = Store(tmp_path)
    with store.records.recorder() as record:
        record([])
    store.records.record_missing([absence], [])
    asked = {"start": DAYS[0], "end": DAYS[1]}
    assert set(bak.coverage(tmp_path, **asked).gaps["kind"]) == {"after_delisting"}
    plant(tmp_path, kline("BTCUSDT", DAYS[2], "8h"), every(8 * HOUR, DAYS[2], DAYS[3]))
    report = bak.coverage(tmp_path, **asked)
    gaps = report.gaps.filter(pl.col("interval") == "1h")
    assert set(gaps["kind"]) == {"missing_in_archive"}
    assert not report.is_complete


@pytest.mark.parametrize("noted", ["not a key", "data/spot/daily/klines/X/1h/X-1h-2025.zip"])
def test_a_note_that_names_no_object_does_no_harm(
    two_days: Path, noted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "quarantined", lambda *_: {noted: "bad"})
    monkeypatch.setattr(Records, "missing", lambda *_: {noted: (Reason.ABSENT, "said")})
    assert bak.coverage(two_days).is_complete


# On the command line


def run(root: Path, *arguments: str) -> int:
    return main(["coverage", str(root), *arguments])


@pytest.mark.parametrize(
    ("flaw", "plain", "gated"),
    [
        ("none", Exit.COMPLETE, Exit.COMPLETE),
        ("hole", Exit.COMPLETE, Exit.PARTIAL),
        ("repeat", Exit.COMPLETE, Exit.COMPLETE),
        ("conflict", Exit.COMPLETE, Exit.PARTIAL),
        ("corrupt", Exit.PARTIAL, Exit.PARTIAL),
        ("nothing", Exit.NOTHING, Exit.NOTHING),
    ],
)
def test_a_report_ends_with_what_it_says(
    tmp_path: Path, flaw: str, plain: Exit, gated: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    times = hours(DAYS[0], *([5] if flaw == "hole" else []))
    values = [1] * len(times)
    if flaw in ("repeat", "conflict"):
        times.insert(5, times[5])
        values.append(1)
        values[5] = 1 if flaw == "repeat" else 2
    if flaw != "nothing":
        path = plant(tmp_path, kline("BTCUSDT", DAYS[0]), times, value=values)
        if flaw == "corrupt":
            spoil(path)
    assert run(tmp_path) == plain
    assert run(tmp_path, "--min-coverage", "0.999") == gated
    assert run(tmp_path, "--json") == plain
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["skipped"] == []
