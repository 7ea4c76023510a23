"""Folders of a store, chosen by names; and errors that name what it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.query.open_store import store
from binance_archive_kit.storage.store import Store
from binance_archive_kit.upkeep.stream_choice import StreamChoice, open_store
from tests.support.stores import kline, other


@pytest.fixture
def root(tmp_path: Path) -> Path:
    keys = [
        kline("BTCUSDT", "2025-07-01"),
        kline("BTCUSDT", "2025-06"),
        kline("ETHUSDT", "2025-07-01", "4h"),
        kline("币安人生USDT", "2025-07-01", "4h", "futures/um"),
        other("metrics", "BTCUSDT", "2025-07-01"),
    ]
    for key in keys:
        (tmp_path / str(key)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / str(key)).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, 5),
        ({"market": "um"}, 2),
        ({"market": "futures_um", "data_type": "metrics"}, 1),
        ({"data_type": "klines"}, 4),
        ({"symbols": "BTCUSDT"}, 3),
        ({"symbols": ["ETH*", "币*"]}, 2),
        ({"intervals": "4h"}, 2),
        ({"intervals": ["1h", "4h"], "symbols": "BTC*"}, 2),
        ({"partition": "monthly"}, 1),
    ],
)
def test_all_that_is_given_must_hold(root: Path, choice: dict[str, Any], expected: int) -> None:
    found = StreamChoice(**choice).folders(Store(root).inventory)
    assert len(found) == expected
    assert all(folder.files for folder in found)
    assert StreamChoice(**choice).is_everything == (not choice)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"market": "spott"}, "market: 'spott' is not valid; did you mean 'spot'"),
        ({"market": "cm"}, "has no futures_cm; it has spot klines, futures_um klines"),
        ({"market": "um", "data_type": "trades"}, "the store has no futures_um trades"),
        ({"data_type": "kline"}, "the store has no kline; it has"),
        ({"symbols": "BTCUSD"}, "no file of 'BTCUSD'; did you mean 'BTCUSDT'"),
        ({"symbols": "xrp*"}, "matches none of the 3 symbols"),
        ({"symbols": 3}, "symbols: 3 is neither a name nor several"),
        ({"intervals": "7h"}, "interval: '7h' is not valid"),
        ({"intervals": "1d"}, "intervals: the store has no file with the interval 1d"),
        ({"partition": "auto"}, "partition: 'auto' is not valid"),
        ({"partition": ["daily"]}, "partition: .* is not valid"),
        ({"data_type": ["klines"]}, "data_type: .* is not valid; .* Valid: klines, metrics"),
    ],
)
def test_what_is_not_there_is_named(root: Path, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        StreamChoice(**choice).folders(Store(root).inventory)


def test_a_folder_and_an_open_store_are_the_same(root: Path) -> None:
    assert open_store(store(root)).root == open_store(str(root)).root == root
    with pytest.raises(ConfigurationError, match="is not a folder"):
        open_store(root / "nothing")
