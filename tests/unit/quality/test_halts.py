"""Gaps of several symbols side by side: which of them are halts of the market."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.quality.halts import Halt, classify_halts
from binance_archive_kit.quality.timeline import (
    Timeline,
    join_evidence,
)
from tests.support.planted import (
    HOUR,
    MINUTE,
    at,
    every,
    examined,
    timeline_of,
    told,
)
from tests.support.reports import DAYS, UNLISTED, candle_files, hours, numbered, with_gaps
from tests.support.stores import kline


def nothing_known(_: Market) -> list[Halt]:
    return []


def unknown(*_: object) -> None:
    return None


def market(
    *lacking: Sequence[int], days: Sequence[str] = DAYS[:2], on: int = 0, **others: str
) -> list[Timeline]:
    """Return timelines of whole days with some hours of one day missing."""
    lines = []
    for number, its in enumerate(lacking):
        rows = [(day, hours(day, *(its if at == on else ()))) for at, day in enumerate(days)]
        lines.append(with_gaps(timeline_of(candle_files(*rows, symbol=f"S{number}", **others))))
    return lines


def test_candles_missing_for_every_symbol_are_a_halt() -> None:
    lines = market([2, 3], [2, 3], [2, 3])
    classify_halts(lines, nothing_known, unknown)
    for line in lines:
        assert told(line) == [("halt", "07-01 02:00", "07-01 04:00", 2)]
        assert line.gaps[0].evidence == (
            "none of the 3 symbols with files of this time has these candles",
        )


def test_candles_present_for_one_symbol_are_no_halt() -> None:
    lines = market([2, 3], [2, 3], [])
    classify_halts(lines, nothing_known, unknown)
    assert [told(line) for line in lines] == [
        [("hole", "07-01 02:00", "07-01 04:00", 2)],
        [("hole", "07-01 02:00", "07-01 04:00", 2)],
        [],
    ]


@pytest.mark.parametrize("minute", [0, 30])
def test_shorter_candles_of_the_time_disprove_a_halt(minute: int) -> None:
    """Those of another symbol, too: a halt is one of the whole market."""
    lines = market([2, 3], [2, 3])
    key = kline("S2", DAYS[0], "30m")
    present = [at(DAYS[0]) + 3 * HOUR + minute * MINUTE]
    lines.append(with_gaps(timeline_of([(key, examined(key, present))])))
    classify_halts(lines, nothing_known, unknown)
    for line in lines[:2]:
        assert told(line) == [("hole", "07-01 02:00", "07-01 04:00", 2)]


def test_missing_prices_that_are_computed_are_no_halt() -> None:
    lines = []
    for name in ("S0", "S1"):
        folder = f"data/futures/um/daily/markPriceKlines/{name}/1h"
        key = ObjectKey.parse(f"{folder}/{name}-1h-{DAYS[0]}.zip")
        lines.append(with_gaps(timeline_of([(key, examined(key, hours(DAYS[0], 2, 3)))])))
    classify_halts(lines, nothing_known, unknown)
    for line in lines:
        assert told(line) == [("hole", "07-01 02:00", "07-01 04:00", 2)]


def test_one_symbol_alone_is_no_evidence() -> None:
    lines = market([2, 3])
    classify_halts(lines, nothing_known, unknown)
    assert told(lines[0]) == [("hole", "07-01 02:00", "07-01 04:00", 2)]


def test_the_only_symbol_with_a_file_is_no_evidence() -> None:
    lines = market([2, 3])
    later = with_gaps(timeline_of(candle_files((DAYS[1], hours(DAYS[1])), symbol="LATE"), DAYS[0]))
    classify_halts([*lines, later], nothing_known, unknown)
    assert told(lines[0]) == [("hole", "07-01 02:00", "07-01 04:00", 2)]


def test_only_candles_missing_for_all_are_a_halt() -> None:
    lines = market([2, 3, 4], [3, 4, 5], [1, 2, 3, 4])
    classify_halts(lines, nothing_known, unknown)
    assert [told(line) for line in lines] == [
        [("hole", "07-01 02:00", "07-01 03:00", 1), ("halt", "07-01 03:00", "07-01 05:00", 2)],
        [("halt", "07-01 03:00", "07-01 05:00", 2), ("hole", "07-01 05:00", "07-01 06:00", 1)],
        [("hole", "07-01 01:00", "07-01 03:00", 2), ("halt", "07-01 03:00", "07-01 05:00", 2)],
    ]


def test_a_halt_is_separated_from_the_rest_of_a_truncated_file() -> None:
    lines = market([10, 11], [10, 11], range(7, 24))
    classify_halts(lines, nothing_known, unknown)
    assert told(lines[2]) == [
        ("short_file", "07-01 07:00", "07-01 10:00", 3),
        ("halt", "07-01 10:00", "07-01 12:00", 2),
        ("short_file", "07-01 12:00", "07-02 00:00", 12),
    ]
    assert sum(gap.days.sum() for gap in lines[2].gaps) == 17
    assert told(lines[0]) == [("halt", "07-01 10:00", "07-01 12:00", 2)]


def test_a_halt_over_midnight_is_one() -> None:
    lines = []
    for number in range(2):
        rows = candle_files(
            (DAYS[0], hours(DAYS[0], 23)), (DAYS[1], hours(DAYS[1], 0, 1)), symbol=f"S{number}"
        )
        lines.append(with_gaps(timeline_of(rows)))
    classify_halts(lines, nothing_known, unknown)
    assert [told(line) for line in lines] == [[("halt", "07-01 23:00", "07-02 02:00", 3)]] * 2
    assert lines[0].gaps[0].days.tolist() == [1, 2]


def test_symbols_without_a_file_do_not_count() -> None:
    lines = market([2, 3], [2, 3])
    absent = with_gaps(timeline_of(candle_files((DAYS[1], hours(DAYS[1])), symbol="LATE"), DAYS[0]))
    empty = with_gaps(
        timeline_of(candle_files((DAYS[0], []), (DAYS[1], hours(DAYS[1])), symbol="EMPTY"))
    )
    classify_halts([*lines, absent, empty], nothing_known, unknown)
    assert told(lines[0]) == [("halt", "07-01 02:00", "07-01 04:00", 2)]
    assert "none of the 2 symbols" in lines[0].gaps[0].evidence[0]
    assert told(absent) == [("not_collected", "07-01 00:00", "07-02 00:00", 24)]
    assert told(empty) == [("empty_file", "07-01 00:00", "07-02 00:00", 24)]


def test_the_hours_before_a_new_symbol_do_not_count() -> None:
    """Its first file begins with its trading; nothing is due before."""
    lines = market([2, 3], [2, 3], days=DAYS[1:3])
    rows = candle_files(
        (DAYS[1], hours(DAYS[1], *range(10))), (DAYS[2], hours(DAYS[2])), symbol="NEW"
    )
    new = with_gaps(timeline_of(rows, DAYS[0], words=[(DAYS[0], UNLISTED)]))
    classify_halts([*lines, new], nothing_known, unknown)
    assert told(lines[1]) == [("halt", "07-02 02:00", "07-02 04:00", 2)]
    assert told(new) == [("before_listing", "07-01 00:00", "07-02 10:00", 0)]


def test_halts_are_found_for_each_market_and_interval() -> None:
    hourly = market([2, 3], [2, 3])
    key = kline("S0", DAYS[0], "30m")
    half = [
        time for time in every(30 * MINUTE, DAYS[0], DAYS[1]) if time // HOUR % 24 not in (2, 3)
    ]
    other_interval = with_gaps(timeline_of([(key, examined(key, half))]))
    classify_halts([*hourly, other_interval], nothing_known, unknown)
    assert told(other_interval) == [("hole", "07-01 02:00", "07-01 04:00", 4)]
    assert told(hourly[0]) == [("halt", "07-01 02:00", "07-01 04:00", 2)]


def test_a_known_halt_needs_no_neighbours() -> None:
    [line] = market([3, 4, 5])
    halt = Halt(at("2025-07-01 03:40:55"), at("2025-07-01 05:00"), "a known halt")
    classify_halts([line], lambda _: [halt], unknown)
    assert told(line) == [
        ("hole", "07-01 03:00", "07-01 04:00", 1),
        ("halt", "07-01 04:00", "07-01 05:00", 1),
        ("hole", "07-01 05:00", "07-01 06:00", 1),
    ]
    assert line.gaps[1].evidence == ("a known halt",)


def test_a_halt_known_only_by_its_day_is_no_proof() -> None:
    [line] = market([4])
    halt = Halt(at("2025-07-01"), at("2025-07-02"), "a halt of this day", exact=False)
    classify_halts([line], lambda _: [halt], unknown)
    assert told(line) == [("hole", "07-01 04:00", "07-01 05:00", 1)]
    assert line.gaps[0].evidence[-1] == "at an unknown time, a halt of this day"


LATE = (21, 22, 23)


@pytest.mark.parametrize(
    ("lines", "kinds"),
    [
        # All files end together, and the next ones begin at midnight.
        ([LATE, LATE, LATE], ["short_file"] * 3),
        # One goes on before midnight, in the same file.
        ([LATE, LATE, (21, 22)], ["halt", "halt", "halt"]),
    ],
)
def test_files_that_end_together_are_no_halt_unless_one_continues(
    lines: list[tuple[int, ...]], kinds: list[str]
) -> None:
    side = market(*lines)
    classify_halts(side, nothing_known, unknown)
    assert [told(line)[0][0] for line in side] == kinds


def test_files_that_end_together_on_the_day_of_a_halt_are_a_halt() -> None:
    side = market(LATE, LATE)
    halt = Halt(at("2025-07-01"), at("2025-07-02"), "a halt of this day", exact=False)
    classify_halts(side, lambda _: [halt], unknown)
    assert [told(line)[0][0] for line in side] == ["halt", "halt"]


@pytest.mark.parametrize(
    ("traded", "kind"), [("nothing was traded", "halt"), ("", "hole"), (None, "hole")]
)
def test_trades_distinguish_a_halt_from_a_hole(traded: str | None, kind: str) -> None:
    lines = market([4])
    classify_halts(lines, nothing_known, lambda *_: traded)
    assert told(lines[0]) == [(kind, "07-01 04:00", "07-01 05:00", 1)]
    evidence = join_evidence(lines[0].gaps[0].evidence)
    assert ("the candles were left out" in evidence) == (traded == "")


def test_other_feeds_have_no_halts() -> None:
    line = with_gaps(timeline_of([numbered(DAYS[0], 0, 96, 40, 41, 42)]))
    classify_halts([line, line], nothing_known, lambda *_: "nothing was traded")
    assert told(line) == [("hole", "07-01 09:45", "07-01 10:45", 3)]


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.sets(st.integers(0, 23), max_size=23), min_size=2, max_size=2),
        min_size=1,
        max_size=4,
    )
)
def test_every_missing_row_is_in_one_gap_of_the_right_kind(
    lacking: list[list[set[int]]],
) -> None:
    """Some hours of two days are missing for every symbol; the truth is known hour by hour."""
    lines = []
    for number, its in enumerate(lacking):
        rows = candle_files(
            *((day, hours(day, *gone)) for day, gone in zip(DAYS, its, strict=False)),
            symbol=f"S{number}",
        )
        lines.append(with_gaps(timeline_of(rows)))
    classify_halts(lines, nothing_known, unknown)
    every = [{day * 24 + hour for day, gone in enumerate(its) for hour in gone} for its in lacking]
    for line, its in zip(lines, lacking, strict=True):
        kinds = {}
        for day, gone in enumerate(its):
            there = [hour for hour in range(24) if hour not in gone]
            for hour in gone:
                everywhere = all(hour in each[day] for each in lacking) and len(lacking) > 1
                # Of one symbol at least rows follow before its file ends.
                ends = [
                    next(h for h in range(day * 24 + hour, 49) if h not in own) for own in every
                ]
                everywhere &= any(end % 24 for end in ends)
                inside = there[0] < hour < there[-1]
                kind = "halt" if everywhere else "hole" if inside else "short_file"
                kinds[at(DAYS[day]) + hour * HOUR] = kind
        found = {
            time: str(gap.kind) for gap in line.gaps for time in range(gap.start, gap.end, HOUR)
        }
        assert found == kinds
        assert sum(gap.missing or 0 for gap in line.gaps) == len(kinds)
        assert line.missing.tolist() == [len(gone) for gone in its]
        for one, two in pairwise(line.gaps):
            assert one.end < two.start or one.kind != two.kind
