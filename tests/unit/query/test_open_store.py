"""A store shows its contents, and rejects invalid values in words."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import (
    ConfigurationError,
)
from tests.support.candles import DAYS
from tests.support.stores import assert_same, naive_rows, scan_rows


def test_the_cache_is_filled_for_one_name_or_several(root: Path) -> None:
    assert bak.store(root, cache=False).warm(symbols="AUSDT").parts == 0
    with pytest.raises(ConfigurationError, match=r"'\*USDC' matches none of the"):
        bak.store(root).warm(symbols=["AUSDT", "*USDC"])
    with pytest.raises(ConfigurationError, match=r"'AUSD' is not in the store; did you mean 'AU"):
        bak.store(root).warm(symbols=["AUSD"])
    with pytest.raises(ConfigurationError, match="it is empty"):
        bak.store(root).warm(symbols=[])
    use = bak.store(root).build(symbols="A*")
    assert use.parts == 2
    assert repr(use) == str(use)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda root: bak.scan(root, "sport", "klines"), "did you mean 'spot'"),
        (lambda root: bak.scan(root, "spot", "kline"), "did you mean 'klines'"),
        (
            lambda root: bak.scan(root, "spot", "fundingRate"),
            "Valid: klines, trades, aggTrades",
        ),
        (lambda root: bak.scan(root, "spot", "trades"), "collect some first"),
        (
            lambda root: bak.scan(root, "spot", "klines", symbols="BTCUSD"),
            "did you mean 'BTCUSDT'",
        ),
        (
            lambda root: bak.scan(root, "spot", "klines", symbols=["btcusdt"]),
            "did you mean 'BTCUSDT'",
        ),
        (lambda root: bak.load_klines(root, "BTCUSDT", "1d"), "from 4h"),
        (
            lambda root: bak.scan(root, "spot", "klines", intervals="2h"),
            "not in the store. It has: 1h, 4h, 1d. To add it",
        ),
        (lambda root: bak.load_klines(root, "BTCUSDT", "1m"), "It has: 1h, 4h. To add it"),
        (lambda root: bak.load_klines(root, "ETHUSDT", "1h"), "It has: 1d. To add it"),
        (
            lambda root: bak.load_klines(root, "BTCUSDT", "1h", data_type="trades"),
            "Valid: klines",
        ),
        (
            lambda root: bak.scan(root, "spot", "klines", start="2025-07-03", end="2025-07-02"),
            "start: 2025-07-03 is not before end: 2025-07-02",
        ),
        (
            lambda root: bak.scan(
                root, "spot", "klines", start="2025-07-03 00:00", end="2025-07-03 00:00"
            ),
            "is not before",
        ),
        (lambda root: bak.scan(root, "spot", "klines", start="yesterday"), "neither a day nor"),
        (
            lambda root: bak.scan(root, "spot", "klines", start=1751328000000),
            "neither a day nor",
        ),
        (
            lambda root: bak.load_klines(root, "BTCUSDT", "1h", start="2026-01-01"),
            "2025-07-01 to 2025-07-03",
        ),
        (lambda root: bak.store(root, prefer="dayly"), "did you mean 'daily'"),
        (lambda root: bak.store(root, on_error="ignore"), "Valid: raise, skip"),
        (lambda root: bak.connect(root / "nowhere"), "is not a folder"),
        (lambda root: bak.scan(bak.store(root), "spot", "klines", prefer="monthly"), "prefer"),
        (lambda root: bak.connect(bak.store(root), cache=False), "already has its options"),
        (lambda root: bak.connect(root, on_eror="skip"), "did you mean 'on_error'"),
        (lambda root: bak.store(root, cache="no"), "cache: 'no' is neither True nor False"),
        (lambda root: bak.connect(root, distinct="yes"), "distinct: 'yes' is neither True"),
        (lambda root: bak.sql(root, "SELECT 1", known_at=1), "known_at: 1 is neither True"),
        (
            lambda root: bak.scan(root, "spot", "klines", distinct=None),
            "distinct: None is neither",
        ),
        (lambda root: bak.store(root, cache_limit="1GB"), "'1GB' is not a number of bytes"),
        (lambda root: bak.store(root / "data"), "name the folder above it"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(halted: Path, ask: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ask(halted)
    assert said in str(raised.value)


JOIN = {"source": None, "market": "spot", "data_type": "klines"}
LEFT = pl.DataFrame({"open_time": [datetime(2025, 7, 1, tzinfo=UTC)], "symbol": ["BTCUSDT"]})


def join(root: Path, **changes: Any) -> pl.DataFrame:
    given = JOIN | {"left": LEFT, "source": root, "interval": "1h"} | changes
    return bak.join_known(given.pop("left"), given.pop("source"), **given)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda root: bak.store(root / "nowhere"), "folder"),
        (lambda root: bak.store(5), "folder"),
        (lambda root: bak.store(root, cache_limit=-1), "cache_limit"),
        (lambda root: bak.store(root, on_eror="skip"), "on_eror"),
        (lambda root: bak.store(root).warm(symbols="NONE"), "symbols"),
        (lambda root: bak.store(root).warm("options"), "market"),
        (lambda root: bak.store(root)["spot"]["trades"], "data_type"),
        (lambda root: bak.store(root)["spot"].scan(), "data_type"),
        (lambda root: bak.connect(root / "nowhere"), "source"),
        (lambda root: bak.connect(bak.store(root), cache=False), "cache"),
        (lambda root: bak.connect(root, database=root), "database"),
        (lambda root: bak.connect(root, distinct=2), "distinct"),
        (lambda root: bak.scan(root / "nowhere", "spot", "klines"), "source"),
        (lambda root: bak.scan(root, "sport", "klines"), "market"),
        (lambda root: bak.scan(root, "spot", "metrics"), "data_type"),
        (lambda root: bak.scan(root, "spot", "trades"), "data_type"),
        (lambda root: bak.scan(root, "spot", "klines", symbols="NONE"), "symbols"),
        (lambda root: bak.scan(root, "spot", "klines", symbols=[]), "symbols"),
        (lambda root: bak.scan(root, "spot", "klines", intervals="1s"), "intervals"),
        (lambda root: bak.scan(root, "spot", "klines", intervals="7m"), "intervals"),
        (lambda root: bak.scan(root, "spot", "klines", end="soon"), "end"),
        (lambda root: bak.scan(root, "spot", "klines", start="2025-07-03", end="2025"), "end"),
        (lambda root: bak.load_klines(root / "nowhere", "BTCUSDT", "1h"), "source"),
        (lambda root: bak.load_klines(root, "NONE", "1h"), "symbol"),
        (lambda root: bak.load_klines(root, 3, "1h"), "symbol"),
        (lambda root: bak.load_klines(root, "BTCUSDT", "1s"), "interval"),
        (lambda root: bak.load_klines(root, "BTCUSDT", "7m"), "interval"),
        (lambda root: bak.load_klines(root, "BTCUSDT", "1h", start="2026-01-01"), "symbol"),
        (lambda root: bak.load_klines(root, "BTCUSDT", "1h", data_type="trades"), "data_type"),
        (lambda root: bak.ohlcv(root, "BTCUSDT", "7x"), "every"),
        (lambda root: bak.ohlcv(root, "BTCUSDT", "7m"), "every"),
        (lambda root: bak.ohlcv(root, "BTCUSDT", "1d", interval="1s"), "interval"),
        (lambda root: bak.klines_with_funding(root, "BTCUSDT", "1h", market="x"), "market"),
        (lambda root: bak.sql(root / "nowhere", "SELECT 1"), "source"),
        (lambda root: bak.sql(root, "SELECT"), "query"),
        (lambda root: bak.sql(root, "SELECT 1; SELECT 2"), "query"),
        (lambda root: bak.sql(root, "SELECT ?", 1), "params"),
        (lambda root: bak.sql(root, "FROM a", frames={"a": 1}), "frames"),
        (lambda root: bak.known_at(LEFT, "spot", "klines"), "frame"),
        (lambda root: bak.known_at(5, "spot", "klines"), "frame"),
        (lambda root: join(root, left=3), "left"),
        (lambda root: join(root, source=LEFT), "market"),
        (lambda root: join(root, market=None), "market"),
        (lambda root: join(root, data_type=None), "data_type"),
        (lambda root: join(root, on="time"), "on"),
        (lambda root: join(root, on=pl.lit(datetime(2025, 7, 1))), "on"),
        (lambda root: join(root, symbol="NONE"), "symbol"),
        (lambda root: join(root, symbol={"ETHUSDT": "BTCUSDT"}), "symbol"),
        (lambda root: join(root, interval="1s"), "interval"),
        (lambda root: join(root, interval=None), "interval"),
        (lambda root: join(root, where=True), "where"),
        (lambda root: join(root, where=pl.col("none") == 1), "where"),
        (lambda root: join(root, by="none"), "by"),
        (lambda root: join(root, columns="none"), "columns"),
        (lambda root: join(root, tolerance="soon"), "tolerance"),
        (lambda root: join(root, suffix="", columns="open_time"), "suffix"),
    ],
)
def test_an_error_names_the_argument(halted: Path, call: Any, field: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        call(halted)
    [problem] = raised.value.problems
    assert problem.field == field
    assert str(problem) == str(raised.value)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (again.problems, str(again)) == (raised.value.problems, str(raised.value))


@pytest.mark.parametrize(
    "ask", [bak.store, bak.connect, lambda halted, **o: bak.scan(halted, "spot", "klines", **o)]
)
def test_an_option_that_is_not_there_is_refused(halted: Path, ask: Any) -> None:
    with pytest.raises((TypeError, ConfigurationError), match="prefers"):
        ask(halted, prefers="daily")


def test_a_store_shows_what_it_has(halted: Path) -> None:
    store = bak.store(halted)
    frame = store.frame()
    assert frame.columns == [
        "view", "market", "data_type", "partition", "symbol", "interval", "first", "last", "files",
        "bytes", "proven", "tabled",
    ]  # fmt: skip
    hours = frame.filter(view="spot_klines", symbol="BTCUSDT", interval="1h").row(0, named=True)
    assert (hours["files"], hours["first"], hours["last"]) == (
        3,
        date(2025, 7, 1),
        date(2025, 7, 3),
    )
    assert hours["bytes"] == sum((halted / str(key)).stat().st_size for key in DAYS)
    assert hours["proven"] == hours["tabled"] == 0
    files = f"{frame['files'].sum()} files"
    assert files in repr(store)
    assert str(halted) in repr(store)
    page = store._repr_html_()
    assert "spot_klines" in page
    assert files in page


def test_a_store_is_walked_by_name(halted: Path) -> None:
    store = bak.store(halted)
    assert "spot" in store._ipython_key_completions_()
    assert store["spot"]._ipython_key_completions_() == ["klines"]
    shelf = store["spot"]["klines"]["BTCUSDT"]
    assert list(shelf) == ["1h", "4h"]
    assert_same(scan_rows(shelf["1h"].scan()), naive_rows(halted, *DAYS))
    assert shelf["1h"].scan(start="2025-07-03").select(pl.len()).collect().item() == 24
    with pytest.raises(ConfigurationError, match="did you mean 'BTCUSDT'"):
        store["spot"]["klines"]["BTCUSD"]
    with pytest.raises(ConfigurationError, match="choose a data_type first: klines"):
        store["spot"].scan()
    assert "<" not in repr(shelf)
    assert "BTCUSDT" in shelf._repr_html_()


def test_an_empty_folder_is_a_store_of_nothing(tmp_path: Path) -> None:
    store = bak.store(tmp_path)
    assert store.frame().is_empty()
    assert "no file of the archive" in repr(store)
    assert list(store) == []
    assert store.warm().parts == 0
    with bak.connect(store) as con:
        assert con.sql("FROM store_streams").fetchall() == []
        with pytest.raises((duckdb.Error, ConfigurationError), match="collect some first"):
            con.sql("SELECT count(*) FROM spot_klines").fetchall()
