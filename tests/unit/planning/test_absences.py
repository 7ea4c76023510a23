"""Each absent period has its reason."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import (
    periods,
)
from tests.support.planning import (
    FIRST_HALF,
    UM,
    World,
    config_of,
    days,
    plan_of,
    reasons,
    spans_of,
)


def test_a_hole_is_missing_and_names_its_key() -> None:
    hole = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-10.zip"
    config = config_of(data_types=["trades"], date_range=FIRST_HALF)
    plan = plan_of(config, World(holes=frozenset({hole})))
    assert len(plan) == 14
    [absence] = plan.missing
    assert (absence.reason, absence.key) == (Reason.ABSENT, hole)
    assert (absence.start, absence.end) == (date(2025, 7, 10), date(2025, 7, 10))
    assert plan.unavailable == ()
    assert plan.not_published == ()


def test_each_missing_file_is_listed_by_itself() -> None:
    holes = frozenset(
        f"data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-{day:02}.zip"
        for day in (10, 11, 12)
    )
    plan = plan_of(config_of(data_types=["trades"], date_range=FIRST_HALF), World(holes=holes))
    assert {absence.key for absence in plan.missing} == holes


def test_days_before_a_symbol_begins_are_one_run() -> None:
    config = config_of(data_types=["trades"], date_range=FIRST_HALF)
    plan = plan_of(config, World(begins={"BTCUSDT": date(2025, 7, 11)}))
    assert len(plan) == 5
    [absence] = plan.unavailable
    assert absence.reason is Reason.BEFORE_FIRST
    assert (absence.start, absence.end) == (date(2025, 7, 1), date(2025, 7, 10))
    assert "2025-07-11" in absence.detail
    assert absence.key is None


def test_days_after_a_symbol_ends_are_missing_and_say_delisted() -> None:
    config = config_of(data_types=["trades"], date_range=FIRST_HALF)
    plan = plan_of(config, World(ends={"BTCUSDT": date(2025, 7, 10)}))
    assert len(plan) == 10
    assert {a.reason for a in plan.missing} == {Reason.AFTER_LAST}
    assert len(plan.missing) == 5
    assert "2025-07-10" in plan.missing[0].detail
    assert "delisted" in plan.missing[0].detail
    later = plan_of(config, World(ends={"BTCUSDT": date(2025, 5, 1)}))
    assert {a.reason for a in later.missing} == {Reason.AFTER_LAST}
    assert "of before" not in later.missing[0].detail


def test_days_after_a_feed_has_ended_are_unavailable() -> None:
    config = config_of(
        markets=["um"], data_types=["bookTicker"], date_range=days("2024-03-29", "2024-04-02")
    )
    plan = plan_of(config)
    assert spans_of(plan) == [
        "BTCUSDT-bookTicker-2024-03-29.zip",
        "BTCUSDT-bookTicker-2024-03-30.zip",
    ]
    [absence] = plan.unavailable
    assert (absence.reason, absence.start, absence.end) == (
        Reason.ENDED,
        date(2024, 3, 31),
        date(2024, 4, 2),
    )


def test_days_before_a_feed_begins_are_unavailable() -> None:
    config = config_of(markets=["um"], data_types=["bookDepth"])
    whole = plan_of(config.replace(date_range=days("2022-06-01")))
    assert reasons(whole.unavailable) == [(UM, "bookDepth", "not_begun")]
    part = plan_of(config.replace(date_range=days("2022-12-30", "2023-01-02")))
    assert len(part) == 2
    [absence] = part.unavailable
    assert (absence.reason, absence.end) == (Reason.NOT_BEGUN, date(2022, 12, 31))


def test_a_known_gap_is_missing_and_said_to_be_known() -> None:
    config = config_of(
        markets=["options"],
        symbols=["BTC"],
        data_types=["BVOLIndex"],
        date_range=days("2025-12-14", "2026-01-05"),
    )
    gap = frozenset(
        f"data/option/daily/BVOLIndex/BTCBVOLUSDT/BTCBVOLUSDT-BVOLIndex-{d}.zip"
        for d in periods(date(2025, 12, 15), date(2026, 1, 4), Partition.DAILY)
    )
    plan = plan_of(config, World(now=datetime(2026, 2, 1, tzinfo=UTC), holes=gap))
    assert len(plan) == 2
    assert len(plan.missing) == 21
    assert {a.detail for a in plan.missing} == {"the archive does not have it, a known gap"}


@pytest.mark.parametrize(
    ("hour", "today", "kind"),
    [
        (0, date(2025, 7, 16), "not_published"),
        (23, date(2025, 7, 16), "not_published"),
        (1, date(2025, 7, 17), "missing"),
    ],
)
def test_a_day_is_missing_only_after_it_is_due(hour: int, today: date, kind: str) -> None:
    key = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip"
    world = World(
        now=datetime(today.year, today.month, today.day, hour, tzinfo=UTC), holes=frozenset({key})
    )
    plan = plan_of(config_of(data_types=["trades"]), world)
    assert [a.key for a in getattr(plan, kind)] == [key]
    assert len(plan.missing) + len(plan.not_published) == 1


def test_today_and_the_future_are_not_published() -> None:
    config = config_of(data_types=["trades"], date_range=days("2025-08-18", "2025-08-25"))
    for listed in (True, False):
        plan = plan_of(config, listed=listed)
        assert len(plan) == 2
        assert [str(a.start) for a in plan.not_published] == [
            f"2025-08-{day}" for day in range(20, 26)
        ]
        assert plan.missing == ()


def test_a_month_is_missing_only_after_it_is_due() -> None:
    config = config_of(
        markets=["um"], data_types=["fundingRate"], date_range=days("2025-06-01", "2025-07-31")
    )
    late = World(now=datetime(2025, 8, 10, tzinfo=UTC), monthly_out=20)
    plan = plan_of(config, late)
    assert [a.reason for a in plan.not_published] == [Reason.NOT_PUBLISHED]
    plan = plan_of(config, World(now=datetime(2025, 8, 17, tzinfo=UTC), monthly_out=20))
    assert [a.key for a in plan.missing] == [
        "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"
    ]


def test_a_day_before_the_last_published_one_is_a_hole_even_when_fresh() -> None:
    key = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-08-18.zip"
    config = config_of(data_types=["trades"], date_range=days("2025-08-17", "2025-08-19"))
    plan = plan_of(config, World(now=datetime(2025, 8, 20, 0, tzinfo=UTC), holes=frozenset({key})))
    assert [(a.reason, a.key) for a in plan.missing] == [(Reason.ABSENT, key)]


def test_an_unknown_symbol_is_answered_with_the_nearest() -> None:
    plan = plan_of(config_of(symbols=["BTCUSTD"], data_types=["trades"]))
    [absence] = plan.unavailable
    assert absence.reason is Reason.UNKNOWN_SYMBOL
    assert "did you mean 'BTCUSDT'?" in absence.detail
    assert plan.missing == ()


def test_an_unknown_symbol_is_unknown_for_yesterday_too() -> None:
    config = config_of(symbols=["BTCUSTD"], data_types=["trades"], date_range=None)
    plan = plan_of(config)
    assert [a.reason for a in plan.unavailable] == [Reason.UNKNOWN_SYMBOL]
    assert plan.not_published == ()


def test_a_symbol_without_this_interval_is_no_unknown_symbol() -> None:
    config = config_of(intervals={"klines": ["1h"]}, date_range=days("2024-01-01"))
    plan = plan_of(config, World(begins={"BTCUSDT": date(2030, 1, 1)}))
    assert [a.reason for a in plan.unavailable] == [Reason.BEFORE_FIRST]


def test_absences_speak_for_themselves() -> None:
    hole = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip"
    plan = plan_of(config_of(data_types=["trades"]), World(holes=frozenset({hole})))
    assert (
        str(plan.missing[0])
        == "spot trades BTCUSDT daily, 2025-07-15: the archive does not have it"
    )
