"""Chunks hold each object to fetch once, are bounded, and no wildcard matches more than that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binance_archive_kit.collection.chunking import MOST_BYTES, Chunk, make_chunks
from binance_archive_kit.download.batches import make_batches
from binance_archive_kit.planning.plan import Plan, PlanReason
from tests.support.planning import config_of, days, plan_of

MIB = 1 << 20
WHOLE = plan_of(
    config_of(
        markets=["spot"],
        symbols=["BTCUSDT", "ETHUSDT", "ADAUSDT"],
        data_types=["klines", "trades"],
        intervals={"klines": ["1h", "1d"]},
        date_range=days("2025-04-20", "2025-07-15"),
    )
)


def with_rows(
    sizes: Sequence[int | None], reasons: Sequence[PlanReason], whole: Plan = WHOLE
) -> Plan:
    """Give the objects of a plan these sizes and reasons."""
    frame = whole.frame.with_columns(
        pl.Series("size", sizes, dtype=pl.Int64),
        pl.Series("reason", [reason.value for reason in reasons]),
        pl.Series("action", [reason.action.value for reason in reasons]).cast(
            whole.frame.schema["action"]
        ),
    )
    return replace(whole, frame=frame)


def needed(plan: Plan) -> list[int]:
    return [*plan.rows_to_fetch()["row"], *plan.rows_to_prove()["row"]]


def check(plan: Plan) -> list[Chunk]:
    chunks = make_chunks(plan)
    rows = [row for chunk in chunks for row in chunk.rows]
    assert len(set(rows)) == len(rows)
    assert sorted(needed(plan)) == [row for chunk in chunks for row in chunk.needed]
    assert rows == sorted(rows)
    everything = plan.frame["key"].to_list()
    for chunk in chunks:
        part = chunk.plan(plan)
        assert part.frame.equals(plan.frame[chunk.rows])
        assert chunk.needed == sorted(chunk.rows[row] for row in needed(part))
        assert chunk.count > 0
        assert chunk.size <= MOST_BYTES or chunk.count == 1
        fetched = set(part.rows_to_fetch()["key"])
        objects = zip(part.frame["key"], part.frame["key"].is_in(list(fetched)), strict=True)
        copied = []
        for batch in make_batches(objects, part.config.days(), 500):
            for copy in batch:
                copied += copy.keys
                if copy.pattern is not None:
                    matched = {key for key in everything if fnmatchcase(key, copy.pattern)}
                    assert matched == set(copy.keys)
        assert sorted(copied) == sorted(fetched)
    return chunks


def test_a_new_store_is_filled_in_a_few_chunks() -> None:
    count = len(WHOLE)
    chunks = check(with_rows([1000] * count, [PlanReason.NEW] * count))
    assert 2 <= len(chunks) <= 4
    assert max(chunk.count for chunk in chunks) < 0.6 * count
    assert sum(chunk.count for chunk in chunks) == count


def test_nothing_to_do_is_no_chunk() -> None:
    count = len(WHOLE)
    assert make_chunks(with_rows([1000] * count, [PlanReason.PROVEN] * count)) == []
    assert make_chunks(plan_of(config_of(symbols=["NOSUCHUSDT"]))) == []


@pytest.mark.parametrize("size", [5 * MIB, 30 * MIB, 100 * MIB])
def test_large_objects_pass_a_few_at_a_time(size: int) -> None:
    count = len(WHOLE)
    chunks = check(with_rows([size] * count, [PlanReason.NEW] * count))
    fitting = max(1, MOST_BYTES // size)
    assert max(chunk.count for chunk in chunks) == fitting
    assert sum(chunk.count == fitting for chunk in chunks) > 0.6 * len(chunks)


def test_objects_of_unknown_size_are_expected_to_be_as_large_as_their_feed() -> None:
    count = len(WHOLE)
    chunks = check(with_rows([None] * count, [PlanReason.NEW] * count))
    feeds = WHOLE.frame["data_type"].cast(pl.String).to_list()
    largest = {
        feed: max(c.count for c in chunks if feeds[c.rows[0]] == feed == feeds[c.rows[-1]])
        for feed in ("klines", "trades")
    }
    assert largest["trades"] <= 4 < 100 < largest["klines"]


@settings(max_examples=30)
@given(st.data())
def test_any_plan_is_cut_exactly(data: st.DataObject) -> None:
    count = len(WHOLE)
    size = st.sampled_from([None, 0, 1000, 2 * MIB, 40 * MIB, 90 * MIB])
    reason = st.sampled_from([PlanReason.PROVEN, PlanReason.NEW, *PlanReason])
    few = data.draw(st.lists(st.tuples(size, reason), min_size=1, max_size=12))
    run = data.draw(st.integers(1, 40))
    rows = [few[(row // run) % len(few)] for row in range(count)]
    check(with_rows([size for size, _ in rows], [reason for _, reason in rows]))
