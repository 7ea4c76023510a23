"""Values and rows that cannot be right are found where they were planted, and nowhere else."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import schema
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.reading import reader as reading
from binance_archive_kit.reading import unzip as texts
from binance_archive_kit.reading.values import (
    Flaw,
    FlawKind,
    Reason,
    Standing,
    Streak,
    format_flaws,
    join_standing,
    merge_flaws,
    parse_flaws,
)
from tests.support.dialects import write, zip_of
from tests.support.planted import DAY, HOUR, MINUTE, SECOND, at, csv_at, every, plant
from tests.support.stores import kline, other

DAYS = [f"2025-07-{day:02}" for day in range(1, 5)]
#: A row of a candle file, field by field.
Row = list[str]


def walk(day: str, interval: int = HOUR, seed: int = 0) -> list[Row]:
    """Invent the candles of a day: prices that move, and amounts that fit together."""
    chance = np.random.default_rng([seed, at(day) // DAY])
    rows = []
    price = 100.0
    for time in range(at(day), at(day) + DAY, interval):
        close = round(price * (1 + chance.normal(0, 0.003)), 4)
        high = round(max(price, close) + abs(chance.normal(0, 0.05)), 4)
        low = round(min(price, close) - abs(chance.normal(0, 0.05)), 4)
        volume = round(float(chance.uniform(1, 20)), 4)
        taker = round(volume / 2, 4)
        numbers = price, high, low, close, volume, volume * price, taker, taker * price
        fields = [f"{number:.8f}" for number in numbers]
        rows.append(
            [f"{time}", *fields[:5], f"{time + interval - 1}", fields[5], "7", *fields[6:], "0"]
        )
        price = close
    return rows


def put_rows(root: Path, key: ObjectKey, rows: list[Row]) -> Path:
    body = "".join(",".join(row) + "\n" for row in rows)
    return write(root, key, zip_of(key, body.encode()))


OPEN, HIGH, LOW, CLOSE, VOLUME, TAKER = 1, 2, 3, 4, 5, 9


def changed(row: Row, at_: int, value: str) -> Row:
    return [*row[:at_], value, *row[at_ + 1 :]]


#: What is wrong with a row, the kind of finding it has to be, and how to make it so.
WRONG: dict[str, tuple[str, Callable[[Row], Row]]] = {
    "no close": ("null_value", lambda row: changed(row, CLOSE, "")),
    "no volume": ("null_value", lambda row: changed(row, VOLUME, "")),
    "NaN": ("impossible_value", lambda row: changed(row, OPEN, "NaN")),
    "infinite": ("impossible_value", lambda row: changed(row, HIGH, "inf")),
    "zero": ("impossible_value", lambda row: changed(row, LOW, "0.0")),
    "high below low": ("impossible_value", lambda row: changed(row, HIGH, "1.0")),
    "close above high": ("impossible_value", lambda row: changed(row, CLOSE, "900.0")),
    "open below low": ("impossible_value", lambda row: changed(row, OPEN, "1.0")),
    "negative volume": ("impossible_value", lambda row: changed(row, VOLUME, "-3.0")),
    "more taken than traded": ("impossible_value", lambda row: changed(row, TAKER, "99.0")),
}


@st.composite
def flawed_days(draw: st.DrawFn) -> list[dict[int, str]]:
    """Draw for each day what is wrong with which of its hours."""
    flaws = st.sampled_from(["repeat", "conflict", "shifted", "gone", *WRONG])
    return [
        draw(st.dictionaries(st.integers(1, 21), flaws, max_size=4)) if draw(st.booleans()) else {}
        for _ in DAYS
    ]


def planted_rows(day: str, flaws: dict[int, str]) -> list[Row]:
    """Give the rows of a day with its flaws."""
    rows = []
    for hour, row in enumerate(walk(day)):
        flaw = flaws.get(hour, "")
        if flaw == "gone":
            continue
        if flaw == "shifted":
            row = changed(row, 0, str(int(row[0]) + 28 * MINUTE + 14_789_000))
            row = changed(row, 6, str(int(row[0]) + HOUR - 1))
        elif flaw in WRONG:
            row = WRONG[flaw][1](row)
        rows.append(row)
        if flaw == "repeat":
            rows.append(row)
        elif flaw == "conflict":
            # Another candle of the same time, as good as the first one.
            rows.append(changed(row, CLOSE, row[OPEN]))
    return rows


def counted(report: CoverageReport) -> dict[tuple[str, str], int]:
    """Count the rows of each finding by its day and kind."""
    assert report.findings.filter(pl.col("kind") != "no_volume").height == report.findings.height
    told: dict[tuple[str, str], int] = {}
    for row in report.findings.iter_rows(named=True):
        name = f"{row['start']:%Y-%m-%d}", row["kind"]
        assert name not in told
        told[name] = row["rows"]
    return told


@settings(max_examples=40, deadline=None)
@given(flawed_days())
def test_what_is_planted_in_candles_is_found_row_by_row(days: list[dict[int, str]]) -> None:
    truth: dict[tuple[str, str], int] = {}
    gone = 0
    with tempfile.TemporaryDirectory() as folder:
        for day, flaws in zip(DAYS, days, strict=True):
            put_rows(Path(folder), kline("BTCUSDT", day), planted_rows(day, flaws))
            for flaw in flaws.values():
                if flaw == "gone":
                    gone += 1
                    continue
                names = {"repeat": "duplicate", "conflict": "conflict", "shifted": "off_grid"}
                kind = WRONG[flaw][0] if flaw in WRONG else names[flaw]
                truth[day, kind] = truth.get((day, kind), 0) + 1
        report = bak.coverage(folder)
        again = bak.coverage(folder)
        ready = bak.backtest_coverage(folder, min_coverage=0.5)
    assert counted(report) == truth
    assert report.gaps["missing"].sum() == gone
    assert report.streams["present"].sum() == 96 - gone
    doubts = {kind for _, kind in truth} & {"conflict", "null_value", "impossible_value"}
    assert ready.is_ready == (not doubts)
    assert report.is_complete == (not doubts and not gone)
    for said in (report.verdict, ready.verdict):
        assert ("doubtful: " in said) == bool(doubts)
        assert ("Complete:" in said or "Ready:" in said) <= (not truth)
        for kind, word in (("duplicate", "repeated row"), ("off_grid", "off-grid row")):
            assert (word in said) == any(each == kind for _, each in truth)
    if doubts:
        assert "100 %" not in report.verdict
    for name in ("streams", "gaps", "findings", "days"):
        assert getattr(again, name).equals(getattr(report, name)), name


@pytest.mark.parametrize("flaw", WRONG)
def test_a_flaw_of_a_value_names_its_column_and_time(tmp_path: Path, flaw: str) -> None:
    put_rows(tmp_path, kline("BTCUSDT", DAYS[0]), planted_rows(DAYS[0], {5: flaw}))
    [found] = bak.coverage(tmp_path).findings.rows(named=True)
    names = [column.column for column in schema(Market.SPOT, DataType.KLINES).columns]
    assert any(name in found["evidence"] for name in names)
    assert "first at 2025-07-01 05:00" in found["evidence"]
    assert (found["start"].hour, found["rows"]) == (5, 1)


def test_a_conflict_says_how_the_rows_differ(tmp_path: Path) -> None:
    rows = walk(DAYS[0])
    rows.insert(8, changed(rows[7], CLOSE, rows[7][OPEN]))
    put_rows(tmp_path, kline("BTCUSDT", DAYS[0]), rows)
    report = bak.coverage(tmp_path)
    both = f"close is both {float(rows[7][CLOSE])} and {float(rows[7][OPEN])}"
    assert both in report.findings["evidence"].item()
    assert report.verdict.startswith("Flawed: the rows due are present (24 of 24)")
    ready = bak.backtest_coverage(tmp_path)
    assert ready.verdict.startswith("Not ready: 2025-07-01 to 2025-07-01")
    assert "1 conflicting row" in ready.verdict


def test_a_doubt_outside_of_the_days_asked_for_is_none(tmp_path: Path) -> None:
    for day in DAYS:
        flaws = {5: "NaN"} if day == DAYS[0] else {}
        put_rows(tmp_path, kline("BTCUSDT", day), planted_rows(day, flaws))
    assert not bak.backtest_coverage(tmp_path).is_ready
    ready = bak.backtest_coverage(tmp_path, start=DAYS[1])
    assert ready.is_ready
    assert ready.verdict.startswith("Ready: ")


@pytest.mark.parametrize("interval", ["1m", "1h", "1d"])
def test_rows_that_come_in_blocks_are_told_from_each_other(tmp_path: Path, interval: str) -> None:
    """A month three times over, as the archive once had it; one candle is another one."""
    step = {"1m": MINUTE, "1h": HOUR, "1d": DAY}[interval]
    days = every(DAY, "2025-07-01", "2025-08-01")
    rows = [row for time in days for row in walk(str(np.datetime64(time, "us"))[:10], step)]
    other_ = changed(rows[3], CLOSE, rows[3][OPEN])
    put_rows(tmp_path, kline("BTCUSDT", "2025-07", interval), [*rows, *rows, other_, *rows[:3]])
    report = bak.coverage(tmp_path)
    kinds = dict(report.findings.select("kind", "rows").rows())
    assert kinds.pop("unsorted") == 2 * len(rows) + 4
    assert kinds == {"duplicate": len(rows) + 3, "conflict": 1}
    assert report.streams["present"].to_list() == [len(rows)]


def test_a_slot_with_two_shifted_rows_counts_once(tmp_path: Path) -> None:
    rows = walk(DAYS[0])
    rows.insert(10, changed(rows[9], 0, str(int(rows[9][0]) + 20 * MINUTE)))
    rows.insert(11, changed(rows[9], 0, str(int(rows[9][0]) + 40 * MINUTE)))
    put_rows(tmp_path, kline("BTCUSDT", DAYS[0]), rows)
    report = bak.coverage(tmp_path)
    assert report.streams["present"].to_list() == [24]
    assert counted(report) == {(DAYS[0], "off_grid"): 2}


def test_the_evidence_of_a_gap_beside_shifted_rows_does_not_contradict_them(tmp_path: Path) -> None:
    rows = [changed(row, 0, str(int(row[0]) + 28 * MINUTE)) for row in walk(DAYS[0])[:20]]
    put_rows(tmp_path, kline("BTCUSDT", DAYS[0]), rows)
    [gap] = bak.coverage(tmp_path).gaps.rows(named=True)
    assert (gap["kind"], gap["missing"]) == ("short_file", 4)
    assert "its last row is in the step of 2025-07-01 19:00" in gap["evidence"]


# Values that stand still


def minutes(day: str) -> list[Row]:
    return walk(day, MINUTE)


@pytest.mark.parametrize(("hours", "found"), [(1, False), (6, True)])
def test_a_price_that_stands_still_while_others_move_is_frozen(
    tmp_path: Path, hours: int, found: bool
) -> None:
    rows = minutes(DAYS[0])
    for place in range(300, 300 + 60 * hours):
        # So low that no other check minds it.
        rows[place] = changed(rows[place], LOW, "50.0")
    put_rows(tmp_path, kline("BTCUSDT", DAYS[0], "1m"), rows)
    report = bak.coverage(tmp_path)
    assert counted(report) == ({(DAYS[0], "frozen"): 60 * hours} if found else {})
    assert report.is_complete != found
    if found:
        assert "low stands still while others move in 360 rows" in report.findings["evidence"][0]


def test_a_close_that_stands_still_while_others_take_few_values_is_frozen(tmp_path: Path) -> None:
    """High and low move together, and each of them between few prices."""
    rows = minutes(DAYS[0])
    for place in range(300, 1_000):
        row = changed(changed(rows[place], OPEN, "100.0"), CLOSE, "100.0")
        row = changed(row, HIGH, f"{101 + place % 7}.5")
        rows[place] = changed(row, LOW, f"{90 + place % 5}.25")
    put_rows(tmp_path, kline("BTCUSDT", DAYS[0], "1m"), rows)
    assert counted(bak.coverage(tmp_path)) == {(DAYS[0], "frozen"): 700}


@pytest.mark.parametrize(("interval", "step"), [("1m", MINUTE), ("1h", HOUR)])
@pytest.mark.parametrize("busy", [0.2, 0.9])
def test_a_pair_that_closes_at_one_tick_is_not_frozen(
    tmp_path: Path, interval: str, step: int, busy: float
) -> None:
    chance = np.random.default_rng(3)
    days = [f"2025-07-{day:02}" for day in range(1, 32)] if interval == "1h" else DAYS[:1]
    rows = [row for day in days for row in walk(day, step)]
    for place, row in enumerate(rows):
        up, down = (chance.random(2) < busy) * chance.choice([1, 1, 1, 2, 2, 3], 2)
        row = changed(changed(row, OPEN, "1.0000"), CLOSE, "1.0000")
        rows[place] = changed(changed(row, HIGH, f"{1 + up / 1e4:.4f}"), LOW, f"{1 - down / 1e4}")
    period = "2025-07" if interval == "1h" else DAYS[0]
    put_rows(tmp_path, kline("FDUSDUSDT", period, interval), rows)
    assert bak.coverage(tmp_path).verdict.startswith("Complete: ")


def pegged(day: str) -> list[Row]:
    """Invent a pair of two stable coins: prices of few ticks, the outer ones all day the same."""
    chance = np.random.default_rng(1)
    rows = minutes(day)
    for place, row in enumerate(rows):
        one, other_ = chance.choice(["1.0000", "0.9999", "1.0001"], 2)
        row = changed(changed(row, OPEN, one), CLOSE, other_)
        rows[place] = changed(changed(row, HIGH, "1.0001"), LOW, "0.9999")
    return rows


def idle(day: str, first: int, last: int) -> list[Row]:
    """Invent a day in whose middle nothing is traded."""
    rows = minutes(day)
    for place in range(first, last):
        price = rows[first - 1][CLOSE]
        row = rows[place]
        for field in (OPEN, HIGH, LOW, CLOSE):
            row = changed(row, field, price)
        for field in (VOLUME, 7, 8, TAKER, 10):
            row = changed(row, field, "0")
        rows[place] = row
    return rows


def test_stable_coins_and_quiet_markets_are_not_frozen(tmp_path: Path) -> None:
    put_rows(tmp_path, kline("USDCUSDT", DAYS[0], "1m"), pegged(DAYS[0]))
    put_rows(tmp_path, kline("QUIETUSDT", DAYS[0], "1m"), idle(DAYS[0], 200, 500))
    report = bak.coverage(tmp_path)
    assert report.findings.height == 0
    assert report.verdict.startswith("Complete: ")


def test_hours_without_a_trade_are_worth_knowing(tmp_path: Path) -> None:
    put_rows(tmp_path, kline("QUIETUSDT", DAYS[0], "1m"), idle(DAYS[0], 200, 700))
    report = bak.coverage(tmp_path)
    [found] = report.findings.rows(named=True)
    assert (found["kind"], found["rows"]) == ("no_volume", 500)
    assert report.is_complete
    assert bak.backtest_coverage(tmp_path).verdict.startswith("Ready: ")


def book(day: str, frozen: set[int], empty: set[int] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """Invent a day of snapshots; some bands stand still from noon to six o'clock."""
    chance = np.random.default_rng(2)
    lines = ["timestamp,percentage,depth,notional"]
    still = {band: (900 + band, 90_000 + band) for band in range(-5, 6)}
    for time in every(30 * SECOND, day, f"{day} 23:59:59"):
        when = str(np.datetime64(time, "us"))[:19].replace("T", " ")
        for band in (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5):
            depth, notional = 1_000 + chance.integers(0, 500), 99_000 + chance.integers(0, 9_000)
            if band in frozen and 12 <= (time - at(day)) // HOUR < 18:
                depth, notional = still[band]
            if band in empty:
                depth = notional = 0
            lines.append(f"{when},{band},{depth}.5,{notional}.25".replace("0.5,0.25", "0,0"))
    return lines


@pytest.mark.parametrize(("frozen", "empty"), [({1}, {5}), ({1, 2}, set()), (set(), {1, -1})])
def test_bands_of_the_book_that_stand_still_are_frozen(
    tmp_path: Path, frozen: set[int], empty: set[int]
) -> None:
    key = other("bookDepth", "BTCUSDT", DAYS[0])
    body = "\n".join(book(DAYS[0], frozen, empty)) + "\n"
    write(tmp_path, key, zip_of(key, body.encode()))
    report = bak.coverage(tmp_path)
    assert set(report.findings["kind"]) == ({"frozen"} if frozen else set())
    for band in frozen:
        assert f"depth of band {band} stands still" in report.findings["evidence"].item()
    assert bak.backtest_coverage(tmp_path).is_ready == (not frozen)


def sided(root: Path, day: str, rows: int, side: Callable[[int], str], first: int) -> None:
    key = other("trades", "BTCUSDT", day)
    step = DAY // rows
    lines = [schema(Market.FUTURES_UM, DataType.TRADES).header_line]
    lines += [
        f"{first + n},100.5,1,100.5,{(at(day) + n * step) // 1_000},{side(n)}" for n in range(rows)
    ]
    write(root, key, zip_of(key, ("\n".join(lines) + "\n").encode()))


@pytest.mark.parametrize(
    ("side", "constant"),
    [
        (lambda _: "true", 120_000),
        (lambda n: "false" if n == 30_000 else "true", 0),
        (lambda n: "false" if n == 1_000 else "true", 118_000),
    ],
)
def test_a_side_that_never_changes_is_found_from_file_to_file(
    tmp_path: Path, side: Callable[[int], str], constant: int
) -> None:
    """60,000 trades a day for two days: neither file by itself has a hundred thousand."""
    for number, day in enumerate(DAYS[:2]):
        sided(tmp_path, day, 60_000, side if number == 0 else lambda _: "true", 60_000 * number)
    report = bak.coverage(tmp_path)
    kinds = dict(report.findings.select("kind", "rows").rows())
    assert kinds == ({"constant": pytest.approx(constant, abs=1_001)} if constant else {})
    assert report.is_complete == (not constant)


# Empty values of other feeds


def test_an_empty_column_of_metrics_is_found(tmp_path: Path) -> None:
    key = other("metrics", "BTCUSDT", DAYS[0])
    times = [time + 5 * MINUTE for time in every(5 * MINUTE, DAYS[0], DAYS[1])]
    body = csv_at(key, times).replace(b",1,1,1,1,1\n", b',1,"",1,1,1\n')
    write(tmp_path, key, zip_of(key, body))
    report = bak.coverage(tmp_path)
    [found] = report.findings.rows(named=True)
    assert (found["kind"], found["rows"]) == ("null_value", 288)
    assert "count_toptrader_long_short_ratio is empty in 288 rows" in found["evidence"]
    assert report.verdict.startswith("Flawed: ")


def test_coin_margined_metrics_may_be_empty(tmp_path: Path) -> None:
    key = other("metrics", "BTCUSD_PERP", DAYS[0], "futures/cm")
    body = csv_at(key, every(5 * MINUTE, DAYS[0], DAYS[1]))
    write(tmp_path, key, zip_of(key, body.replace(b",1,1,1,1,1\n", b',1,"","","",1\n')))
    assert bak.coverage(tmp_path).findings.height == 0


@pytest.mark.parametrize("text", ["0x10", "=1+1", "1_0", "1\x002", "abc"])
@pytest.mark.parametrize("field", [OPEN, VOLUME, TAKER])
def test_what_a_query_rejects_is_corrupt(tmp_path: Path, text: str, field: int) -> None:
    rows = walk(DAYS[0])
    rows[5] = changed(rows[5], field, text)
    put_rows(tmp_path, kline("BTCUSDT", DAYS[0]), rows)
    report = bak.coverage(tmp_path)
    assert set(report.gaps["kind"]) == {"corrupt"}
    assert len(report.problems) == 1


# Pieces of a file


@settings(max_examples=15, deadline=None)
@given(flawed_days(), st.sampled_from([300, 900, 2_000]), st.booleans())
def test_findings_are_the_same_however_a_file_is_cut(
    days: list[dict[int, str]], size: int, twice: bool
) -> None:
    """Large files are read in pieces; here even a few rows are a piece."""
    rows = [row for day, flaws in zip(DAYS, days, strict=True) for row in planted_rows(day, flaws)]
    with tempfile.TemporaryDirectory() as folder:
        put_rows(Path(folder), kline("BTCUSDT", "2025-07"), rows * (1 + twice))
        whole = bak.coverage(bak.store(folder, cache=False))
        with (
            patch.object(reading, "SMALL", 0),
            patch.object(texts, "_FIRST_CHUNK", size),
            patch.object(texts, "CHUNK", size),
            patch.object(texts, "_READ", 64),
        ):
            pieces = bak.coverage(bak.store(folder, cache=False))
    names = ["kind", "start", "end", "rows"]
    assert (
        pieces.findings.select(names).sort(names).equals(whole.findings.select(names).sort(names))
    )
    assert pieces.streams.equals(whole.streams)
    assert pieces.gaps.equals(whole.gaps)


# Rows in two files


def test_two_rows_of_one_label_are_explained_by_its_change(tmp_path: Path) -> None:
    before, after = (other("metrics", "BTCUSDT", day) for day in ("2026-06-24", "2026-06-25"))
    plant(tmp_path, before, every(5 * MINUTE, "2026-06-24 00:05", "2026-06-25 00:05"))
    plant(tmp_path, after, every(5 * MINUTE, "2026-06-25", "2026-06-26"))
    report = bak.coverage(tmp_path)
    [found] = report.findings.filter(pl.col("kind") == "duplicate").rows(named=True)
    assert (found["rows"], found["explained"]) == (1, True)
    assert report.streams["present"].to_list() == [576]
    assert report.is_complete
    ready = bak.backtest_coverage(tmp_path)
    assert ready.is_ready
    assert ready.verdict.startswith("Ready: ")
    assert "with a known reason: 1 repeated row" in ready.verdict


def metric_rows(first: str, count: int, seed: int) -> str:
    """Invent rows of metrics whose values tell which file they are of."""
    chance = np.random.default_rng(seed)
    start = np.datetime64(first)
    return "".join(
        f"{str(start + np.timedelta64(5 * place, 'm')).replace('T', ' ')},BTCUSDT,"
        + ",".join(f"{value:.8f}" for value in chance.uniform(1, 2, 6))
        + "\n"
        for place in range(count)
    )


@pytest.mark.parametrize(("day", "known"), [("2026-06-25", True), ("2026-06-26", False)])
@pytest.mark.parametrize("apart", [True, False])
def test_two_rows_of_one_label_that_differ_are_a_conflict_unless_known(
    tmp_path: Path, day: str, known: bool, apart: bool
) -> None:
    """The row that ends the day before may stand in its file, or in the one of the day."""
    yesterday = str(np.datetime64(day) - 1)
    header = schema(Market.FUTURES_UM, DataType.METRICS).header_line + "\n"
    before = metric_rows(f"{yesterday}T00:05:00", 288 if apart else 287, 1)
    again = "" if apart else metric_rows(f"{day}T00:00:00", 1, 3)
    own = metric_rows(f"{day}T00:00:00", 288, 2)
    for of, body in ((yesterday, before), (day, again + own)):
        key = other("metrics", "BTCUSDT", of)
        write(tmp_path, key, zip_of(key, (header + body).encode()))
    asked = {"start": day} if not apart else {}
    report, ready = bak.coverage(tmp_path, **asked), bak.backtest_coverage(tmp_path, **asked)
    kinds = set(report.findings["kind"]) - {"semantic_change"}
    assert kinds == {"duplicate" if known else "conflict"}
    assert report.is_complete == ready.is_ready == known


@pytest.mark.parametrize("differs", [True, False])
def test_a_candle_of_two_months_may_not_differ_in_them(tmp_path: Path, differs: bool) -> None:
    opens = every(3 * DAY, "2025-07-01", "2025-09-01")
    days = [str(np.datetime64(time, "us").astype("datetime64[D]")) for time in opens]
    rows = [walk(day, DAY, seed=place)[0] for place, day in enumerate(days)]
    again = changed(rows[10], HIGH, "999.0") if differs else rows[10]
    assert days[10] == "2025-07-31"
    for month, its in (("2025-07", rows[:11]), ("2025-08", [again, *rows[11:]])):
        put_rows(tmp_path, kline("BTCUSDT", month, "3d"), its)
    report, ready = bak.coverage(tmp_path), bak.backtest_coverage(tmp_path)
    assert report.is_complete == ready.is_ready == (not differs)
    assert set(report.findings["kind"]) == ({"conflict"} if differs else set())
    if differs:
        for word in ("BTCUSDT-3d-2025-07.zip", "BTCUSDT-3d-2025-08.zip", "high is"):
            assert word in report.findings["evidence"][0]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 199), min_size=150, max_size=300), st.sampled_from([300, 900]))
def test_events_that_come_again_in_a_later_piece_count_once(numbers: list[int], size: int) -> None:
    key = ObjectKey.parse("data/futures/um/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-01.zip")
    body = "".join(
        f"{number},1.5,{1 + number},1.5,{(at(DAYS[0]) + number * 300 * SECOND) // 1000},true\n"
        for number in numbers
    )
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), key, zip_of(key, body.encode()))
        with (
            patch.object(reading, "SMALL", 0),
            patch.object(texts, "_FIRST_CHUNK", size),
            patch.object(texts, "CHUNK", size),
            patch.object(texts, "_READ", 64),
        ):
            pieces = bak.coverage(bak.store(folder, cache=False))
    assert pieces.streams["present"].to_list() == [len(set(numbers))]


def test_metrics_that_were_published_twice_are_explained(tmp_path: Path) -> None:
    key = other("metrics", "BTCUSDT", "2021-05-20")
    times = every(5 * MINUTE, "2021-05-20 00:05", "2021-05-21 00:05")
    plant(tmp_path, key, [time for time in times for _ in (1, 2)])
    ready = bak.backtest_coverage(tmp_path)
    assert ready.is_ready
    assert "with a known reason: 288 repeated rows" in ready.verdict
    other_ = other("metrics", "BTCUSDT", "2025-05-20")
    times = every(5 * MINUTE, "2025-05-20 00:05", "2025-05-21 00:05")
    plant(tmp_path, other_, [time for time in times for _ in (1, 2)])
    again = bak.backtest_coverage(tmp_path, start="2025-05-20", end="2025-05-20")
    assert again.verdict.startswith("Ready with flaws: ")


def test_flaws_of_one_kind_are_merged() -> None:
    null = Flaw(FlawKind.NULL_VALUE, 1, 5, 5, (Reason("close is empty", 1),))
    low = Flaw(FlawKind.IMPOSSIBLE_VALUE, 2, 3, 8, (Reason("high is below low", 2),))
    more = Flaw(FlawKind.IMPOSSIBLE_VALUE, 1, 1, 1, (Reason("high is below low", 1),))
    both = Flaw(FlawKind.IMPOSSIBLE_VALUE, 3, 1, 8, (Reason("high is below low", 3),))
    assert merge_flaws([low, null, more]) == (both, null)
    assert parse_flaws(format_flaws((both, null), ())) == ((both, null), ())
    assert str(both) == "high is below low in 3 rows, first at 1970-01-01 00:00:00.000"


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 29))
def test_standing_is_the_same_for_rows_in_two_parts(values: list[bool], cut: int) -> None:
    def of(part: list[bool], first: int) -> tuple[Standing, ...]:
        return tuple(_standing_of(part, first)) if part else ()

    whole = of(values, 0)
    cut = min(cut, len(values))
    parts = join_standing(of(values[:cut], 0), of(values[cut:], cut))
    assert [(s.rows, s.head, s.tail, s.longest.rows) for s in parts] == [
        (s.rows, s.head, s.tail, s.longest.rows) for s in whole
    ]
    assert parse_flaws(format_flaws((), whole)) == ((), whole)


def _standing_of(values: list[bool], first: int) -> list[Standing]:
    """Compute for how long a value stands, row by row."""
    runs: list[list[int]] = []
    for index, value in enumerate(values):
        if runs and runs[-1][0] == value:
            runs[-1][2] = first + index
        else:
            runs.append([value, first + index, first + index])
    streaks = [Streak(bool(value), end - start + 1, start, end) for value, start, end in runs]
    longest = max(streaks, key=lambda streak: streak.rows)
    return [Standing("side", len(values), streaks[0], streaks[-1], longest)]
