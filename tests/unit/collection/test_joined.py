"""Joined shards: the same result in memory and in files, and little memory for any number."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Market, Partition
from binance_archive_kit.collection.joined import Joined
from binance_archive_kit.collection.shard_run import ShardOutcome
from binance_archive_kit.collection.splitting import Shard
from binance_archive_kit.collection.stored_rows import LocalDetail
from binance_archive_kit.download.ledger import Ledger, State
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import ListingError, NotFound, ShardFailed
from binance_archive_kit.planning.absences import NO_FILE
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan
from binance_archive_kit.planning.selection import SymbolSelection
from tests.unit.download.test_result import CONFIG, A, D, F, K, plan_of, result_of

DAY = date(2025, 1, 1)
SHARD = Shard(Market.SPOT, DataType.TRADES, ("BTCUSDT",), (), (DAY, DAY), 4)


def absence(symbol: str | None, reason: Reason, detail: str = "why") -> Absence:
    return Absence(
        Market.SPOT, DataType.TRADES, reason, detail, DAY, DAY, symbol, None, Partition.DAILY
    )


def joined(folder: Path, most: int, *selections: SymbolSelection) -> Joined:
    plan = Plan(CONFIG, pl.DataFrame(schema=PLAN_SCHEMA), selections=selections)
    return Joined(plan, Ledger(bytearray()), LocalDetail(folder / "results"), most)


def outcomes() -> list[ShardOutcome]:
    """Three shards: one with all kinds of states, one that is kept, and one without a result."""
    mixed = plan_of(4, missing=(absence("BTCUSDT", Reason.ABSENT),))
    kept = plan_of(2, not_published=(absence("BTCUSDT", Reason.NOT_PUBLISHED),))
    first = result_of(
        D, K, F, A, plan=mixed, failures=[NotFound(mixed.frame["key"][2], "gone")],
        stale=[mixed.frame["key"][0]],
    )  # fmt: skip
    return [
        ShardOutcome.of(first),
        ShardOutcome.of(result_of(K, K, plan=kept)),
        ShardOutcome(problem=ListingError("no answer")),
    ]


def result(folder: Path, most: int, order: tuple[int, ...] = (1, 2, 3)) -> CollectionResult:
    both = joined(folder, most)
    for number in order:
        both.add(number, SHARD, pickle.loads(pickle.dumps(outcomes()[number - 1])))
    return both.result(["a note"])


def test_the_parts_are_one_result(tmp_path: Path) -> None:
    found = result(tmp_path, 1_000, order=(3, 1, 2))
    assert found.outcome == "partial"
    assert found.collection_stats == found.collection_stats | {
        "total_tasks": 6,
        "successful_tasks": 1,
        "skipped_tasks": 3,
        "failed_tasks": 2,
        "total_size_bytes": 4096,
        "downloaded_bytes": 1024,
    }
    assert [path[-14:-4] for path in found.output_files] == [
        *("2025-01-01", "2025-01-02"),
        *("2025-01-01", "2025-01-02"),
    ]
    assert [failure.reason for failure in found.failures] == ["not_found", "shard_failed"]
    assert isinstance(found.failures[1], ShardFailed)
    assert "spot trades BTCUSDT, 2025-01-01 to 2025-01-01" in found.failures[1].key
    assert found.failures[1].detail == "no answer"
    assert found.objects()["outcome"].to_list() == [
        *("downloaded", "kept", "failed", "absent"),
        *("kept", "kept"),
    ]
    assert len(found.stale) == len(found.missing) == len(found.not_published) == 1
    assert found.detail is None
    assert not (tmp_path / "results").exists()


def untimed(found: CollectionResult) -> str:
    return re.sub(r"at [^;]+/s|[^;]+ s$", "", str(found), flags=re.MULTILINE)


def test_many_rows_are_in_files_and_read_the_same(tmp_path: Path) -> None:
    few, many = result(tmp_path / "a", 1_000), result(tmp_path / "b", 1)
    assert many.detail == str(tmp_path / "b" / "results")
    for found in (many, pickle.loads(pickle.dumps(many))):
        assert untimed(found) == untimed(few)
        assert found.objects().equals(few.objects())
        assert found.plan.frame.equals(few.plan.frame)
        assert list(found.output_files) == list(few.output_files)
        assert list(found.metadata.source_files) == list(few.metadata.source_files)
        assert list(found.metadata.errors) == few.metadata.errors
        for kind in ("missing", "not_published", "unavailable"):
            assert list(getattr(found, kind)) == list(getattr(few, kind))
        assert [str(each) for each in found.failures] == [str(each) for each in few.failures]
        assert found.summary().equals(few.summary())
        assert found.collection_stats | {"processing_time_seconds": 0} == (
            few.collection_stats | {"processing_time_seconds": 0}
        )


@pytest.mark.parametrize("index", [0, 3, -1, slice(None), slice(1, 3), slice(3, 0, -2)])
def test_stored_sequences_are_indexed_like_lists(tmp_path: Path, index: Any) -> None:
    many = result(tmp_path, 1)
    assert many.output_files[index] == list(many.output_files)[index]


def test_stored_sequences_have_ends(tmp_path: Path) -> None:
    many = result(tmp_path, 1)
    assert len(many.missing) == 1
    with pytest.raises(IndexError):
        many.missing[1]


def selection(*symbols: str) -> SymbolSelection:
    now = datetime.now(UTC)
    names = tuple(symbols)
    return SymbolSelection(Market.SPOT, DataType.TRADES, ("*",), (), now, len(names), names)


@pytest.mark.parametrize("most", [1_000, 1])
def test_symbols_of_a_pattern_without_files_of_the_days_are_left_out(
    tmp_path: Path, most: int
) -> None:
    """A plan of the whole does so, too."""
    both = joined(tmp_path, most, selection("BTCUSDT", "OLD", "NEW", "NONE", "GAP", "SOON"))
    absences = [
        absence("BTCUSDT", Reason.AFTER_LAST),
        absence("OLD", Reason.AFTER_LAST),
        absence("OLD", Reason.NOT_PUBLISHED),
        absence("NEW", Reason.BEFORE_FIRST),
        absence("NONE", Reason.BEFORE_FIRST, NO_FILE),
        absence("GAP", Reason.AFTER_LAST),
        absence("GAP", Reason.ABSENT),
        absence("SOON", Reason.NOT_PUBLISHED),
    ]
    outcome = ShardOutcome.of(result_of(D))
    both.add(1, SHARD, replace(outcome, absences=tuple(absences)))
    found = both.result([])
    assert [each.symbol for each in found.missing] == ["BTCUSDT", "GAP", "GAP"]
    assert [each.symbol for each in found.not_published] == ["SOON"]
    assert not found.unavailable
    [chosen] = found.plan.selections
    assert (chosen.ended, chosen.later, chosen.absent) == (("OLD",), ("NEW",), ("NONE",))
    assert not list(tmp_path.rglob("undecided*"))


def test_a_symbol_whose_shard_has_no_result_is_not_left_out(tmp_path: Path) -> None:
    both = joined(tmp_path, 1_000, selection("BTCUSDT", "OLD"))
    lost = replace(SHARD, symbols=("OLD",))
    both.add(1, lost, ShardOutcome(problem=ListingError("no answer")))
    outcome = replace(ShardOutcome.of(result_of()), absences=(absence("OLD", Reason.AFTER_LAST),))
    both.add(2, lost, outcome)
    assert [each.symbol for each in both.result([]).missing] == ["OLD"]


def test_the_days_of_selected_streams_are_joined(tmp_path: Path) -> None:
    both = joined(tmp_path, 1_000, selection("BTCUSDT"))
    both.add(1, SHARD, ShardOutcome.of(result_of(D, K)))
    both.add(2, SHARD, ShardOutcome.of(result_of(D, K, K)))
    [(stream, days)] = both.streams.items()
    assert stream.symbol == "BTCUSDT"
    assert days == (DAY, DAY + timedelta(days=2))


def test_shards_that_were_not_run_are_failures(tmp_path: Path) -> None:
    both = joined(tmp_path, 1_000)
    both.add(1, SHARD, ShardOutcome.of(result_of(D)))
    both.add_failure("2 of 3 shards", "the executor broke")
    found = both.result([])
    assert found.outcome == "partial"
    assert "2 of 3 shards: shard_failed: the executor broke" in str(found.failures[0])
    assert found.collection_stats["failed_tasks"] == 1
    assert State.FAILED not in found.ledger.states
