"""A report finds what was planted in a store, row by row, and nothing else."""

from __future__ import annotations

import json
import random
import tempfile
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.cli.main import main
from binance_archive_kit.cli.output import Exit
from binance_archive_kit.errors import ConfigurationError, CoverageError
from binance_archive_kit.reading.unzip import Unzipper
from tests.support.planted import DAY, HOUR, at, every, plant
from tests.support.reports import (
    ALL_DAY,
    DAYS,
    Truth,
    assert_consistent,
    gaps_of,
    hours,
    missing_rows,
    spoil,
    trades,
)
from tests.support.stores import kline

SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT")


# Any market of candles

FLAWS = ("none", "none", "hole", "late", "early", "empty", "deleted", "corrupt", "doubled", "mixed")


@st.composite
def markets(draw: st.DrawFn) -> tuple[dict[tuple[str, str], tuple[str, set[int]]], set[int]]:
    """Draw a flaw and missing hours for each symbol and day, and a halt of the market."""
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
def test_every_planted_flaw_of_candles_is_found(
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
    assert missing_rows(report, HOUR) == truth
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


def test_an_empty_folder_is_not_complete(tmp_path: Path) -> None:
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


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
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
def test_invalid_arguments_are_rejected(
    tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        bak.coverage(tmp_path, **arguments)
    assert [problem.field for problem in caught.value.problems] == [next(iter(arguments))]


@pytest.mark.parametrize("share", [0, -0.1, 1.01, 99.9, True, float("nan"), "0.9"])
def test_a_share_is_above_0_and_at_most_1(tmp_path: Path, share: object) -> None:
    with pytest.raises(ConfigurationError, match=r"min_coverage: .* is not a share") as caught:
        bak.backtest_coverage(tmp_path, min_coverage=share)
    assert [problem.field for problem in caught.value.problems] == ["min_coverage"]


# Remembered profiles


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every attempt to open a file fail."""

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


def test_a_rewritten_file_is_read_again(two_days: Path) -> None:
    assert bak.coverage(two_days).is_complete
    plant(two_days, kline("BTCUSDT", DAYS[0]), hours(DAYS[0], 5))
    plant(two_days, kline("BTCUSDT", DAYS[2]), hours(DAYS[2], 0))
    assert gaps_of(bak.coverage(two_days)) == [
        ("hole", "07-01 05:00", "07-01 06:00", 1),
        ("short_file", "07-03 00:00", "07-03 01:00", 1),
    ]


def test_without_a_cache_nothing_is_written(two_days: Path) -> None:
    assert bak.coverage(bak.store(two_days, cache=False)).is_complete
    assert not (two_days / ".binance_archive_kit").exists()


def test_skipped_files_are_reported(tmp_path: Path) -> None:
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
def test_the_exit_code_matches_the_report(
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
