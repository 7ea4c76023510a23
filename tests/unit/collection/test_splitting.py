"""Shards: together the whole plan, each object once, small, and yielded one by one."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date, timedelta
from itertools import islice
from typing import Any

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from binance_archive_kit.archive.absence import Absence
from binance_archive_kit.archive.enums import Interval
from binance_archive_kit.archive.matrix import Feed, WrongSymbolError
from binance_archive_kit.collection.splitting import LARGEST_JSON, Shard, Splitter
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import Plan
from tests.support.planning import BLOCKS, MATRIX, NOW, World, config_of, plan_of

#: Market, data type, symbol, interval and day.
Cell = tuple[str, str, str | None, str | None, date]


def split(config: CollectionConfig, objects: int) -> list[Shard]:
    return list(Splitter(config.settled(NOW), MATRIX, NOW, {}, objects).shards())


def days_of(start: date, end: date) -> Iterator[date]:
    yield from map(date.fromordinal, range(start.toordinal(), end.toordinal() + 1))


def spelled(feed: Feed, names: Iterable[str]) -> Iterator[str]:
    """Spell the symbols as the archive does for a feed, and leave out those of other feeds."""
    for name in names:
        with suppress(WrongSymbolError):
            yield MATRIX.archive_symbol(feed, name)


def absent_cells(config: CollectionConfig, absences: Iterable[Absence]) -> set[Cell]:
    """Spell absences out: those of all symbols or intervals for each of them."""
    cells, days = set(), config.days()
    for each in absences:
        feed = MATRIX.feed(each.market, each.data_type)
        names: set[str | None] = {each.symbol}
        words: set[str | None] = {each.interval}
        if each.symbol is None:
            names = set(config.symbols_of(each.market))
            if feed:
                names = {*spelled(feed, config.symbols_of(each.market))}
        if each.interval is None and feed and each.data_type.has_intervals:
            asked = config.intervals.get(each.data_type)
            words = set(asked) if asked else set(Interval)
        for name in names:
            for word in words:
                # Monthly files begin before the first of the days.
                for day in days_of(max(each.start, days.start), min(each.end, days.end)):
                    cells.add((each.market, each.data_type, name, word, day))
    return cells


def assert_together(config: CollectionConfig, objects: int, world: World) -> list[Plan]:
    """Check that shards and the whole plan the same objects, and miss the same days."""
    config = config.settled(world.now)
    whole = plan_of(config, world)
    parts = [plan_of(shard.config(config), world) for shard in split(config, objects)]
    keys = [key for part in parts for key in part.frame["key"]]
    assert sorted(keys) == sorted(whole.frame["key"])
    assert len(set(keys)) == len(keys)
    rows = pl.concat([whole.frame.clear(), *(part.frame for part in parts)]).sort("key")
    assert rows.equals(whole.frame.sort("key"))
    for kind in ("unavailable", "missing", "not_published"):
        found = [absence for part in parts for absence in getattr(part, kind)]
        assert absent_cells(config, found) == absent_cells(config, getattr(whole, kind)), kind
        assert len(set(found)) == len(found)
    return parts


@pytest.mark.parametrize(
    ("block", "objects"),
    [
        (block, objects)
        for block, (count, _) in BLOCKS.items()
        for objects in ((1, 7, 1_000) if count <= 100 else (7, 1_000))
    ],
)
def test_documented_requests_are_the_union_of_their_shards(block: str, objects: int) -> None:
    parts = assert_together(config_of(**BLOCKS[block][1]), objects, World())
    assert all(len(part) <= max(objects, 31) for part in parts)


_DAYS = st.dates(date(2019, 12, 1), date(2025, 8, 19))
_TYPES = ["klines", "fundingRate", "trades", "bookDepth", "metrics", "liquidationSnapshot"]


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(_DAYS)
    end = min(start + timedelta(days=draw(st.integers(0, 120))), date(2025, 8, 20))
    symbols = ["BTCUSDT", "ETHUSDT", "币安人生USDT", "NEVERUSDT", "BTCUSD_PERP", "BTC"]
    return {
        "markets": draw(st.lists(st.sampled_from(["spot", "um", "cm", "option"]), min_size=1)),
        "symbols": draw(st.lists(st.sampled_from(symbols), min_size=1, unique=True)),
        "data_types": draw(st.lists(st.sampled_from(_TYPES), min_size=1, max_size=2, unique=True)),
        "intervals": {"klines": draw(st.sampled_from([["1h"], ["1d", "3d", "1mo"], ["1s", "1m"]]))},
        "date_range": {"start": start, "end": end},
        "partition": draw(st.sampled_from(["daily", "monthly", "auto"])),
    }


@st.composite
def worlds(draw: st.DrawFn) -> World:
    return World(
        begins={"ETHUSDT": draw(_DAYS)},
        ends={"BTCUSDT": draw(_DAYS)},
        daily_from=draw(st.sampled_from([date.min, date(2021, 3, 14)])),
        monthly_out=draw(st.sampled_from([2, 40])),
    )


@settings(phases=[Phase.explicit, Phase.generate], max_examples=40)
@given(requests(), worlds(), st.sampled_from([1, 2, 30, 31, 100]))
def test_shards_are_disjoint_and_together_the_whole_plan(
    fields: dict[str, Any], world: World, objects: int
) -> None:
    config = config_of(**fields).settled(world.now)
    whole = plan_of(config, world)
    parts = [plan_of(shard.config(config), world) for shard in split(config, objects)]
    keys = Counter(key for part in parts for key in part.frame["key"])
    assert keys == Counter(whole.frame["key"])
    for kind in ("unavailable", "missing", "not_published"):
        found = {absence for part in parts for absence in getattr(part, kind)}
        assert absent_cells(config, found) == absent_cells(config, getattr(whole, kind)), kind


def test_a_shard_is_a_configuration_of_its_own() -> None:
    config = config_of(
        markets=["spot", "um"],
        symbols={"spot": ["BTCUSDT"], "um": ["ETHUSDT"]},
        data_types=["klines", "trades"],
        intervals={"klines": ["1h", "1d"]},
        date_range={"start": "-7d", "end": "yesterday"},
        batch_size=7,
    ).settled(NOW)
    [klines, trades, *_] = (shard.config(config) for shard in split(config, 1_000))
    assert klines == config_of(
        symbols=["BTCUSDT"],
        intervals={"klines": ["1h", "1d"]},
        date_range={"start": "2025-08-13", "end": "2025-08-19"},
        batch_size=7,
    )
    assert trades.data_types == ("trades",)
    assert not trades.intervals
    for shard in (klines, trades):
        assert CollectionConfig.from_json(shard.to_json()) == shard
        assert CollectionConfig(**shard.chosen()) == shard


def test_long_names_give_small_shards() -> None:
    names = [f"{'币' * 90}{number:09}" for number in range(50)]
    config = config_of(symbols=names, intervals={"klines": ["1h", "1d"]})
    shards = [shard.config(config) for shard in split(config, 1_000)]
    assert [name for shard in shards for name in shard.symbols] == names
    assert all(len(shard.to_json().encode()) < LARGEST_JSON for shard in shards)
    assert len(shards) < 15


def test_a_long_path_still_gives_shards() -> None:
    config = config_of(symbols=["BTCUSDT", "ETHUSDT"], output_directory="long/" * 800)
    assert [shard.symbols for shard in split(config, 1_000)] == [("BTCUSDT", "ETHUSDT")]


def test_short_streams_share_a_shard() -> None:
    names = [f"C{number}USDT" for number in range(100)]
    shards = [shard for shard in split(config_of(symbols=names), 1_000) if shard.most]
    streams = {
        (name, word) for shard in shards for name in shard.symbols for word in shard.intervals
    }
    assert sum(shard.most for shard in shards) == len(streams) == 100 * 13
    assert len(shards) <= 3


def test_a_hundred_million_objects_are_split_one_shard_at_a_time() -> None:
    config = config_of(
        markets=["spot", "um"],
        symbols=[f"C{number}USDT" for number in range(2_000)],
        data_types=["klines", "trades", "aggTrades"],
        date_range={"start": "2017-08-17", "end": "2025-08-19"},
    ).settled(NOW)
    splitter = Splitter(config, MATRIX, NOW, {}, 1_000)
    next(splitter.shards())  # what is loaded once
    tracemalloc.start()
    most = sum(shard.most for shard in islice(splitter.shards(), 20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most > 15_000_000
    assert peak < 5 << 20
