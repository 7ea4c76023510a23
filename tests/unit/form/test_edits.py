"""Edits of a form's fields."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.form import model
from binance_archive_kit.form.edits import edited
from binance_archive_kit.form.messages import read_fields
from binance_archive_kit.form.model import Fields
from binance_archive_kit.planning.config import CollectionConfig
from tests.support.form import MATRIX, START, as_given, fields_of


def edits(fields: Fields, *several: dict[str, Any]) -> Fields:
    before = json.dumps(fields)
    after = fields
    for edit in several:
        after = edited(after, edit)
    assert json.dumps(fields) == before
    return after


def check(field: str, value: str, on: bool) -> dict[str, Any]:
    return {"do": "check", "field": field, "value": value, "on": on}


def test_markets_and_types_are_ticked() -> None:
    after = edits(START, check("markets", "options", True), check("markets", "spot", False))
    assert after["markets"] == ["options"]
    assert edits(after, check("markets", "options", True)) == after


def test_a_new_candle_type_comes_with_the_intervals_of_the_others() -> None:
    fields = fields_of(intervals={"klines": ["1m", "1h"]})
    after = edits(fields, check("data_types", "markPriceKlines", True))
    assert after["intervals"] == {"klines": ["1m", "1h"], "markPriceKlines": ["1m", "1h"]}
    assert edits(after, check("data_types", "markPriceKlines", False)) == fields
    first = edits(fields_of(data_types=[], intervals={}), check("data_types", "klines", True))
    assert first["intervals"] == {"klines": ["1h"]}
    assert edits(fields, check("data_types", "trades", True))["intervals"] == fields["intervals"]


def test_intervals_are_ticked_and_none_of_them_means_all() -> None:
    def interval(value: str | None, on: bool) -> dict[str, Any]:
        return {"do": "interval", "data_type": "klines", "value": value, "on": on}

    after = edits(START, interval("1m", True), interval("1h", False))
    assert after["intervals"] == {"klines": ["1m"]}
    assert edits(after, interval("1m", False))["intervals"] == {}
    assert edits(after, interval(None, True))["intervals"] == {}


def test_symbols_are_added_removed_and_replaced() -> None:
    def symbols(verb: str, text: str, market: str | None = None) -> dict[str, Any]:
        return {"do": verb, "market": market, "text": text}

    after = edits(START, symbols("add", "ethusdt,\n币安人生USDT BTCUSDT"))
    assert after["symbols"] == ["BTCUSDT", "ETHUSDT", "币安人生USDT"]
    after = edits(after, symbols("remove", "ETHUSDT"))
    assert after["symbols"] == ["BTCUSDT", "币安人生USDT"]
    assert edits(after, symbols("replace", "['A', \"B\"]"))["symbols"] == ["A", "B"]
    assert edits(after, symbols("replace", " "))["symbols"] == []


def test_markets_may_have_symbols_of_their_own() -> None:
    fields = fields_of(markets=["spot", "futures_cm"])
    apart = edits(fields, {"do": "share", "on": False})
    assert apart["symbols"] == {"spot": ["BTCUSDT"], "futures_cm": ["BTCUSDT"]}
    apart = edits(
        apart,
        {"do": "replace", "market": "futures_cm", "text": "BTCUSD_PERP"},
        {"do": "add", "market": "spot", "text": "ETHUSDT"},
    )
    assert apart["symbols"] == {"futures_cm": ["BTCUSD_PERP"], "spot": ["BTCUSDT", "ETHUSDT"]}
    assert edits(apart, {"do": "replace", "market": "spot", "text": ""})["symbols"] == {
        "futures_cm": ["BTCUSD_PERP"]
    }
    assert set(edits(apart, {"do": "share", "on": True})["symbols"]) == {
        *("BTCUSD_PERP", "BTCUSDT", "ETHUSDT")
    }


@pytest.mark.parametrize(
    ("field", "typed", "value"),
    [
        ("batch_size", " 250 ", 250),
        ("batch_size", "100", None),
        ("batch_size", "", None),
        ("batch_size", "many", "many"),
        ("timeout_seconds", "1.5", 1.5),
        ("timeout_seconds", "300", None),
        ("max_parallel_downloads", "8", 8),
        ("s5cmd_extra_args", "--log 'a b'", ["--log", "a b"]),
        ("s5cmd_extra_args", "'open", "'open"),
        ("enable_resume", False, False),
        ("enable_resume", True, None),
        ("endpoint_url", " http://127.0.0.1:1 ", "http://127.0.0.1:1"),
        ("output_directory", "", None),
        ("output_directory", "/data x", "/data x"),
        ("date_range", None, None),
        ("partition", "auto", "auto"),
    ],
)
def test_what_is_typed_is_read(field: str, typed: Any, value: Any) -> None:
    after = edits(START, {"do": "set", "field": field, "value": typed})
    assert after.get(field) == value
    assert (field in after) == (value is not None)


@pytest.mark.parametrize(
    "edit", [{}, {"do": "explode"}, check("symbols", "x", True), {"do": "add", "text": 3}]
)
def test_what_is_no_edit_is_refused(edit: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not an edit of a form"):
        edited(START, edit)


WORDS = st.lists(
    st.sampled_from(["BTCUSDT", "币安人生USDT", "BTCUSD_PERP", "1000BONK"]), min_size=1
)
CONFIGS = st.fixed_dictionaries(
    {
        "markets": st.lists(st.sampled_from(Market), min_size=1),
        "symbols": WORDS | st.dictionaries(st.sampled_from(Market), WORDS),
        "data_types": st.lists(st.sampled_from([*DataType, "premiumIndex"]), min_size=1),
        "output_directory": st.sampled_from(["data", "/a b/c", "./x"]),
    },
    optional={
        "intervals": st.dictionaries(
            st.sampled_from(["klines", "markPriceKlines"]),
            st.lists(st.sampled_from([*Interval, "1M"]), min_size=1),
        ),
        "date_range": st.none() | st.just({"start": "2025-01-01", "end": "2025-02-03"}),
        "partition": st.sampled_from(["daily", "monthly", "auto"]),
        "batch_size": st.integers(1, 10_000),
        "max_parallel_downloads": st.none() | st.integers(1, 512),
        "enable_resume": st.booleans(),
        "timeout_seconds": st.floats(0.5, 1e6),
        "s5cmd_extra_args": st.lists(st.sampled_from(["--log=debug", "a b", "--x"])),
        "listing": st.booleans(),
        "endpoint_url": st.none() | st.just("http://127.0.0.1:9000"),
    },
)


@given(CONFIGS)
def test_fields_json_and_python_are_the_same_configuration(fields: Fields) -> None:
    config = CollectionConfig(**fields)
    assert read_fields(config.chosen(), MATRIX, as_given) == (config, {})
    again = CollectionConfig.from_json(config.to_json())
    assert again == config
    assert eval(again.to_python(), {"bak": bak}) == config
    # An edit that changes nothing leaves nothing changed.
    for market in config.markets:
        assert edited(again.chosen(), check("markets", market, False)) != again.chosen()
    for option in model.engine_choices(config.chosen()):
        edit = {"do": "set", "field": option["name"], "value": option["value"]}
        assert CollectionConfig(**edited(config.chosen(), edit)) == config
