"""The symbols of an export."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import Interval
from binance_archive_kit.export.symbol_choice import SymbolChoice, choose_symbols
from binance_archive_kit.query.engine import Engine
from tests.support.candles import day


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    for symbol in ("BNBUSD", "BNBUSDT", "ETHBTC"):
        day(tmp_path, symbol, "2025-07-01", "1h")
    day(tmp_path, "SOLUSDT", "2025-07-01", "4h")
    return Engine(tmp_path)


def test_symbols_have_files_of_the_interval(engine: Engine) -> None:
    feed = engine.feed("spot", "klines")
    found = choose_symbols(engine, feed, Interval.H1, None, None, None)
    assert found == SymbolChoice(["BNBUSD", "BNBUSDT", "ETHBTC"], [])


def test_a_universe_may_have_symbols_that_are_missing(engine: Engine) -> None:
    feed = engine.feed("spot", "klines")
    universe = pl.DataFrame({"symbol": ["SOLUSDT", "ETHBTC", "ETHBTC", None]})
    found = choose_symbols(engine, feed, Interval.H1, None, None, universe)
    assert found == SymbolChoice(["ETHBTC"], ["SOLUSDT"])
    with pytest.raises(bak.ConfigurationError, match="none of its symbols"):
        choose_symbols(engine, feed, Interval.H1, None, "USDT", universe)


def test_a_symbol_without_files_of_the_interval_is_an_error(engine: Engine) -> None:
    feed = engine.feed("spot", "klines")
    with pytest.raises(bak.ConfigurationError, match="'1h' is not in the store"):
        choose_symbols(engine, feed, Interval.H1, ["ETHBTC", "SOLUSDT"], None, None)
