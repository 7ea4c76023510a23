"""What the public functions return can be pickled, as process pools and notebooks do."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import binance_archive_kit as bak
from tests.e2e.conftest import Ask, Serve
from tests.e2e.test_storage import ByDay
from tests.support.bucket import daily_klines


def copy_of(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def test_results_and_stores_are_equal_after_pickling(serve: Serve, ask: Ask, store: Path) -> None:
    config = ask(serve(daily_klines("BTCUSDT")), days=6)
    result = bak.collect(config)
    opened = bak.store(store)
    values = [
        config,
        bak.plan(config),
        result,
        bak.coverage(store),
        bak.backtest_coverage(store),
        bak.verify(store),
        opened,
        opened["spot"],
        *bak.plan(config).missing,
        bak.schema("spot", "klines"),
    ]
    for value in values:
        assert str(copy_of(value)) == str(value)
    again = copy_of(result)
    assert list(again.output_files) == list(result.output_files)
    assert again.collection_stats == result.collection_stats
    assert copy_of(opened)["spot"]["klines"].frame().equals(opened["spot"]["klines"].frame())


def test_a_result_keeps_its_storage(serve: Serve, ask: Ask) -> None:
    result = bak.collect(ask(serve(daily_klines("BTCUSDT"))), storage=ByDay("mine"))
    paths = list(copy_of(result).output_files)
    assert paths == list(result.output_files)
    assert all(Path(path).is_file() for path in paths)
