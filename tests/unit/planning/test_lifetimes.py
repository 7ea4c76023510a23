"""A delisted symbol is told from a stream that stops."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    Stream,
)
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.listing_pages import Listed
from binance_archive_kit.planning.lifetimes import Lifetimes, witnesses
from binance_archive_kit.planning.requests import expand
from tests.support.planning import (
    FIRST_HALF,
    MATRIX,
    NOW,
    SYMBOLS,
    World,
    config_of,
    days,
    plan_of,
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
    listing = {request.folder: world.listing(request) for request in asked.requests}
    assert witnesses(asked.requests, listing, MATRIX, NOW) == []


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
