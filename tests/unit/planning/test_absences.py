"""Each absent period has its reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    Stream,
    periods,
)
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.listing_pages import Listed
from binance_archive_kit.planning.absences import Lifetimes, witnesses
from binance_archive_kit.planning.requests import expand
from tests.support.planning import (
    FIRST_HALF,
    MATRIX,
    NOW,
    SYMBOLS,
    UM,
    World,
    config_of,
    days,
    plan_of,
    reasons,
    spans_of,
)

STREAMS = [(symbol, interval) for symbol in ("BTCUSDT", "ETHUSDT") for interval in ("1h", "1d")]


@given(
    asked=st.sets(st.sampled_from(STREAMS), min_size=1),
    stops=st.fixed_dictionaries({stream: st.sampled_from([None, 1, 5, 12]) for stream in STREAMS}),
)
def test_a_symbol_is_delisted_when_all_of_it_stops_and_the_market_goes_on(
    asked: set[tuple[str, str]], stops: dict[tuple[str, str], int | None]
) -> None:
    """Streams that were not asked for are asked about where those that were cannot tell."""
    ends = {
        stream: date.max if day is None else date(2025, 7, day) for stream, day in stops.items()
    }
    ends |= {(symbol, "1m"): date(2025, 7, 1) for symbol in ("BTCUSDT", "ETHUSDT")}
    config = config_of(
        symbols=sorted({symbol for symbol, _ in asked}),
        intervals={"klines": sorted({interval for _, interval in asked})},
        date_range=FIRST_HALF,
    )
    plan = plan_of(config, World(stops=ends))
    for absence in plan.missing:
        own = max(ends[stream] for stream in STREAMS if stream[0] == absence.symbol)
        alive = max(ends[stream] for stream in STREAMS if stream[0] != absence.symbol)
        gone = own < absence.start <= alive
        assert (absence.reason is Reason.AFTER_LAST) == gone, absence
    assert len(plan) + len(plan.missing) == 15 * len(config.symbols_of("spot")) * len(
        config.intervals[DataType.KLINES]
    )


def test_a_market_that_stops_at_once_was_not_delisted() -> None:
    symbols = ["BTCUSDT", "ETHUSDT", "ADAUSDT"]
    world = World(ends=dict.fromkeys(SYMBOLS[Market.SPOT], date(2025, 7, 10)))
    plan = plan_of(config_of(symbols=symbols, data_types=["trades"], date_range=FIRST_HALF), world)
    assert {a.reason for a in plan.missing} == {Reason.ABSENT}
    assert "may have stopped publishing" in plan.missing[0].detail


def test_the_file_of_a_last_month_does_not_keep_a_symbol_alive() -> None:
    """A symbol that ends in the middle of a month has a file of that month."""
    asked = {"symbols": ["BTCUSDT"], "intervals": {"klines": ["1h"]}, "partition": "daily"}
    world = World(ends={"BTCUSDT": date(2025, 6, 20)})
    plan = plan_of(config_of(**asked, date_range=days("2025-06-15", "2025-06-25")), world)
    assert {a.reason for a in plan.missing} == {Reason.AFTER_LAST}
    assert [a.start.day for a in plan.missing] == [21, 22, 23, 24, 25]


def test_nothing_more_is_listed_while_the_last_days_are_not_due() -> None:
    asked = expand(config_of(date_range={"start": "-3d", "end": "yesterday"}), MATRIX, NOW)
    world = World(ends={"BTCUSDT": NOW.date() - timedelta(days=2)})
    listing = {request.folder: world.listing(request) for request in asked.folders}
    assert witnesses(asked.folders, listing, MATRIX, NOW) == []


@pytest.mark.parametrize(("months", "more"), [(3, 0), (2, 6)])
def test_nothing_more_is_listed_of_months_that_are_all_there(months: int, more: int) -> None:
    """A monthly file tells nothing of the days after its first one, but nothing is absent."""
    folder = Folder(Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H4), Partition.MONTHLY)
    config = config_of(
        partition="monthly",
        intervals={"klines": ["4h"]},
        date_range={"start": "2025-01-01", "end": "2025-03-31"},
    )
    asked = expand(config, MATRIX, NOW)
    objects = {f"2025-{at + 1:02}": Listed(1, "", "", True) for at in range(months)}
    listing = {folder: FolderListing(objects, ends=True)}
    found = [request.folder for request in witnesses(asked.folders, listing, MATRIX, NOW)]
    assert len([each for each in found if each.symbol == "BTCUSDT"]) == more


lasts = st.dictionaries(
    st.tuples(st.sampled_from(["AUSDT", "BUSDT", "CUSDT"]), st.sampled_from(Interval)),
    st.integers(0, 3),
    min_size=1,
)


@given(lasts)
def test_the_others_of_a_symbol_are_all_but_its_own(
    ends: Mapping[tuple[str, Interval], int],
) -> None:
    start = date(2025, 7, 1)
    listing = {
        Folder(
            Stream(Market.SPOT, DataType.KLINES, symbol, interval), Partition.DAILY
        ): FolderListing(
            {str(start + timedelta(days=at)): Listed(1, "", "", True) for at in range(last + 1)},
            ends=True,
        )
        for (symbol, interval), last in ends.items()
    }
    lifetimes = Lifetimes(listing)
    for stream in listing:
        others = [last for (symbol, _), last in ends.items() if symbol != stream.symbol]
        found = lifetimes.longest_other(stream)
        assert (found is None) == (not others)
        if found is not None:
            assert found[0] == start + timedelta(days=max(others))
            assert found[1].symbol != stream.symbol


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
