"""What a form offers, what it says, and what an edit makes of its fields; without a widget."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.form import model as choices
from binance_archive_kit.form.model import Fields, Level, edited, read_fields
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan
from binance_archive_kit.planning.requests import expand

MATRIX = load_matrix()
NOW = datetime(2025, 7, 16, 12, tzinfo=UTC)
START = choices.starting_fields(NOW.date()) | {"symbols": ["BTCUSDT"]}


def fields_of(**changes: Any) -> Fields:
    return {name: value for name, value in (START | changes).items() if value is not None}


def said(fields: Fields, level: Level) -> dict[str, str]:
    """Read fields as a form does, and give what it says of one level, by field."""
    config, findings, _ = read_fields(fields, MATRIX)
    wrong = list(findings)
    for name, found in choices.findings_in(expand(config, MATRIX, NOW), wrong).items():
        findings[name] = [*findings.get(name, ()), *found]
    return {
        name: " | ".join(each.text for each in found if each.level is level)
        for name, found in findings.items()
        if any(each.level is level for each in found)
    }


# What is offered


def types_for(*markets: str, **changes: Any) -> dict[str, dict[str, Any]]:
    offered = choices.type_choices(fields_of(markets=list(markets), **changes), MATRIX)
    return {item["value"]: item for item in offered}


@pytest.mark.parametrize("market", Market)
def test_a_market_offers_the_types_it_has(market: Market) -> None:
    offered = types_for(market, data_types=[])
    assert set(offered) == set(MATRIX.data_types(market))
    assert all(item["possible"] and item["about"] and not item["on"] for item in offered.values())


def test_several_markets_offer_what_any_of_them_has() -> None:
    offered = types_for("spot", "futures_um")
    assert set(offered) == set(MATRIX.data_types(Market.FUTURES_UM))
    assert offered["klines"]["hint"] == ""
    assert offered["metrics"]["hint"] == "USD-M futures only"
    assert offered["bookTicker"]["hint"] == "USD-M futures only; ended 2024-03-30"


def test_a_type_that_cannot_be_stays_and_says_why() -> None:
    offered = types_for("options", data_types=["klines", "BVOLIndex"])
    assert set(offered) == {"klines", "BVOLIndex", "EOHSummary"}
    assert not offered["klines"]["possible"]
    assert offered["klines"]["on"]
    assert offered["klines"]["hint"] == "not in options"
    assert types_for(data_types=["klines"])["klines"]["hint"] == "not in any market"


@pytest.mark.parametrize(
    ("market", "partition", "first", "last", "hint"),
    [
        ("spot", None, "1s", "1d", "3d, 1w, 1mo: in monthly files only"),
        ("spot", "monthly", "1s", "1mo", ""),
        ("futures_um", "daily", "1m", "1d", "3d, 1w, 1mo: in monthly files only"),
        ("futures_um", "auto", "1m", "1mo", ""),
    ],
)
def test_intervals_are_those_of_market_and_files(
    market: str, partition: str | None, first: str, last: str, hint: str
) -> None:
    fields = fields_of(markets=[market], partition=partition)
    [offered] = choices.interval_choices(fields, MATRIX)
    words = [word["value"] for word in offered["words"]]
    assert (words[0], words[-1], offered["hint"]) == (first, last, hint)
    assert [word["value"] for word in offered["words"] if word["on"]] == ["1h"]


def test_an_interval_that_cannot_be_stays_and_says_why() -> None:
    fields = fields_of(markets=["futures_um"], intervals={"klines": ["1s", "1w", "1h"]})
    [offered] = choices.interval_choices(fields, MATRIX)
    impossible = [word["value"] for word in offered["words"] if not word["possible"]]
    assert impossible == ["1s", "1w"]
    told = said(fields, Level.CANNOT)["intervals"]
    assert "1s: USD-M futures klines has no interval 1s; it has 1m" in told
    assert "1w: only monthly files hold 1w; partition='auto' takes them" in told


def test_types_without_intervals_offer_none() -> None:
    assert choices.interval_choices(fields_of(data_types=["trades", "metrics"]), MATRIX) == []


def test_symbols_are_listed_where_the_chosen_feeds_have_theirs() -> None:
    fields = fields_of(
        markets=["spot", "futures_um", "options"], data_types=["klines", "fundingRate"]
    )
    assert choices.symbol_folders(fields, MATRIX) == {
        Market.SPOT: ["data/spot/daily/klines/"],
        Market.FUTURES_UM: [
            "data/futures/um/daily/klines/",
            "data/futures/um/monthly/fundingRate/",
        ],
        Market.OPTIONS: ["data/option/daily/BVOLIndex/"],
    }
    assert choices.symbol_folders({}, MATRIX) == {}


def test_every_field_of_a_configuration_can_be_set() -> None:
    rows = {"markets", "data_types", "intervals", "symbols", "date_range", "partition"}
    engine = set(choices.ENGINE_OPTIONS)
    assert rows | engine | {"output_directory", "workflow_type"} == set(
        CollectionConfig.model_fields
    )


def test_engine_options_say_what_was_changed() -> None:
    options = {
        each["name"]: each
        for each in choices.engine_choices(
            {"batch_size": 7, "s5cmd_extra_args": ["--log", "a b"], "listing": False}
        )
    }
    assert [name for name, each in options.items() if each["changed"]] == [
        *("listing", "batch_size", "s5cmd_extra_args")
    ]
    assert options["s5cmd_extra_args"]["value"] == "--log 'a b'"
    assert options["timeout_seconds"]["value"] == "300"
    assert options["max_parallel_downloads"]["value"] == ""
    assert options["enable_resume"]["value"] is True


# What is said


def test_nothing_is_wrong_with_a_complete_form() -> None:
    config, findings, same = read_fields(fields_of(), MATRIX)
    assert findings == {}
    assert config is same
    assert config == CollectionConfig(**fields_of())


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"markets": []}, "markets", "the list is empty; name at least one"),
        ({"data_types": []}, "data_types", "the list is empty"),
        ({"data_types": ["kline"]}, "data_types", "did you mean 'klines'"),
        ({"symbols": []}, "symbols", "the list is empty"),
        ({"symbols": ["a/b"]}, "symbols", "'a/b' cannot be a symbol"),
        ({"symbols": {"spot": ["x"]}}, "symbols", "symbols[spot]: 'x' is not valid"),
        ({"intervals": {"klines": ["2m"]}}, "intervals", "'2m' is not valid"),
        ({"date_range": {"start": "", "end": "2025-07-01"}}, "date_range", "'' is not a day"),
        (
            {"date_range": {"start": "2025-07-02", "end": "2025-07-01"}},
            "date_range",
            "is after end",
        ),
        ({"output_directory": None}, "output_directory", "required, and not given"),
        ({"partition": "weekly"}, "partition", "Valid: daily, monthly, auto"),
        ({"batch_size": "many"}, "batch_size", "'many' is not valid"),
        ({"timeout_seconds": -1}, "timeout_seconds", "-1 is not valid"),
        ({"endpoint_url": "ftp://x"}, "endpoint_url", "is not an http(s) URL"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    changes: dict[str, Any], field: str, words: str
) -> None:
    _, findings, config = read_fields(fields_of(**changes), MATRIX)
    assert config is None
    assert list(findings) == [field]
    assert words in findings[field][0].text
    assert findings[field][0].level is Level.WRONG


def test_all_that_is_wrong_is_said_at_once() -> None:
    fields = {"markets": [], "data_types": ["no"], "partition": 3, "batch_size": 0}
    _, findings, _ = read_fields(fields, MATRIX)
    assert set(findings) == {
        *("markets", "data_types", "partition", "batch_size", "symbols", "output_directory")
    }


@given(
    st.dictionaries(
        st.sampled_from([*CollectionConfig.model_fields]),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=3)
        | st.dictionaries(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=2)),
    )
)  # fmt: skip
def test_any_fields_can_be_read(fields: Fields) -> None:
    config, findings, same = read_fields(fields, MATRIX)
    assert (same is None) == bool(findings)
    expand(config, MATRIX, NOW)
    choices.type_choices(fields, MATRIX)


def test_what_cannot_exist_is_said_where_it_was_chosen() -> None:
    fields = fields_of(
        markets=["spot", "futures_cm"],
        data_types=["klines", "bookTicker", "metrics"],
        date_range={"start": "2025-07-01", "end": "2025-07-02"},
        partition="monthly",
    )
    told = said(fields, Level.CANNOT)
    assert "the archive has no spot bookTicker" in told["data_types"]
    assert "did you mean 'BTCUSD_PERP'" in told["symbols"]
    fields |= {"symbols": {"spot": ["BTCUSDT"], "futures_cm": ["BTCUSD_PERP"]}}
    assert "COIN-M futures metrics has daily files only" in said(fields, Level.CANNOT)["partition"]


def test_what_is_read_differently_is_noted() -> None:
    fields = fields_of(
        markets=["spot", "options"],
        symbols={"spot": ["BTCUSDT"]},
        date_range={"start": "2025-06-01", "end": "2025-06-30"},
    )
    told = said(fields, Level.NOTE)
    assert "none given for options" in told["symbols"]
    assert "auto would take up to 1 monthly files" in told["partition"]


def test_nothing_is_said_that_follows_from_a_stand_in() -> None:
    assert "symbols" not in said(fields_of(symbols=[], markets=["futures_cm"]), Level.CANNOT)
    assert said(fields_of(markets=[]), Level.CANNOT) == {}


def test_long_lists_of_findings_are_counted() -> None:
    fields = fields_of(markets=["futures_cm"], symbols=[f"COIN{at}USDT" for at in range(3_000)])
    told = said(fields, Level.CANNOT)["symbols"]
    assert told.count(" | ") == 4
    assert told.endswith("… and 2,996 more like these")


def test_symbols_that_are_not_listed_are_named() -> None:
    fields = fields_of(
        markets=["spot", "futures_um"], symbols=["BTCUSDT", "BTCUSTD", "币安人生USDT", "GONE"]
    )
    listed = {Market.SPOT: ["BTCUSDT", "币安人生USDT"], Market.FUTURES_UM: ["BTCUSDT"]}
    found = choices.unlisted(fields, listed, MATRIX)
    assert [(each.level, each.text) for each in found] == [
        (
            Level.CANNOT,
            "BTCUSTD is not listed in spot, USD-M futures by the archive; did you mean BTCUSDT?",
        ),
        (Level.CANNOT, "GONE is not listed in spot, USD-M futures by the archive"),
        (Level.NOTE, "币安人生USDT is not listed in USD-M futures"),
    ]
    assert choices.unlisted(fields, {}, MATRIX) == []


def test_symbols_are_known_by_the_name_they_are_filed_under() -> None:
    fields = fields_of(markets=["options"], data_types=["BVOLIndex"], symbols=["BTC"])
    assert choices.unlisted(fields, {Market.OPTIONS: ["BTCBVOLUSDT"]}, MATRIX) == []


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (None, "yesterday (UTC)"),
        ({"start": "2025-07-01", "end": "2025-07-01"}, "1 day (UTC)"),
        ({"start": "2024-01-01", "end": "2024-12-31"}, "366 days (UTC)"),
        ({"start": "2025-07-02", "end": "2025-07-01"}, ""),
        ({"start": "", "end": ""}, ""),
    ],
)
def test_days_are_counted(days: Any, words: str) -> None:
    told = choices.days_in_words({"date_range": days})
    assert words in told
    assert bool(words) == bool(told)


def test_an_estimate_says_what_is_left_on_the_disk() -> None:
    row = dict.fromkeys(PLAN_SCHEMA.names()) | {
        **{"key": "data/x.zip", "market": "spot", "data_type": "trades", "partition": "daily"},
        **{"start": date(2025, 7, 1), "end": date(2025, 7, 1), "size": 3 << 20},
        **{"action": "download", "reason": "new"},
    }
    plan = Plan(CollectionConfig(**START), pl.DataFrame([row], schema=PLAN_SCHEMA))
    enough = choices.estimate_of(plan, 10 << 20)
    assert enough["state"] == "ready"
    assert enough["text"].endswith(
        "3.0 MB to fetch; 10.0 MB free on the disk, 7.0 MB left afterwards"
    )
    assert "<table" in enough["html"]
    little = choices.estimate_of(plan, 1 << 20)
    assert little["state"] == "full"
    assert "does not fit: only 1.0 MB free" in little["text"]
    nothing = choices.estimate_of(Plan(plan.config, plan.frame.clear()), 1)
    assert nothing["state"] == "empty"
    assert "Nothing to collect" in nothing["text"]


# Edits


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
    with pytest.raises(ValueError, match="is no edit of a form"):
        edited(START, edit)


# There and back

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
    _, _, of_fields = read_fields(config.chosen(), MATRIX)
    assert of_fields == config
    again = CollectionConfig.from_json(config.to_json())
    assert again == config
    assert eval(again.to_python(), {"bak": bak}) == config
    # An edit that changes nothing leaves nothing changed.
    for market in config.markets:
        assert edited(again.chosen(), check("markets", market, False)) != again.chosen()
    for option in choices.engine_choices(config.chosen()):
        edit = {"do": "set", "field": option["name"], "value": option["value"]}
        assert CollectionConfig(**edited(config.chosen(), edit)) == config
