"""The messages of a form: each beside its field, and none that follows from another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.form import messages, model
from binance_archive_kit.form.messages import Level, read_fields
from binance_archive_kit.form.model import Fields
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.requests import expand
from tests.support.form import MATRIX, NOW, as_given, fields_of


def shown(fields: Fields, level: Level) -> dict[str, str]:
    """Return the form's messages of one level, by field."""
    config, found = read_fields(fields, MATRIX, as_given)
    invalid = list(found)
    for name, more in messages.request_messages(expand(config, MATRIX, NOW), invalid).items():
        found[name] = [*found.get(name, ()), *more]
    return {
        name: " | ".join(message.text for message in of_field if message.level is level)
        for name, of_field in found.items()
        if any(message.level is level for message in of_field)
    }


def test_nothing_is_wrong_with_a_complete_form() -> None:
    config, found = read_fields(fields_of(), MATRIX, as_given)
    assert found == {}
    assert config == CollectionConfig(**fields_of())


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"data_types": ["kline"]}, "data_types", "did you mean 'klines'"),
        ({"symbols": ["a/b"]}, "symbols", "'a/b' cannot be a symbol"),
        ({"symbols": {"spot": ["x"]}}, "symbols", "symbols[spot]: 'x' is not valid"),
        ({"intervals": {"klines": ["2m"]}}, "intervals", "'2m' is not valid"),
        ({"date_range": {"start": "", "end": "2025-07-01"}}, "date_range", "'' is not a day"),
        (
            {"date_range": {"start": "2025-07-02", "end": "2025-07-01"}},
            "date_range",
            "is after end",
        ),
        ({"output_directory": ""}, "output_directory", "is empty"),
        ({"partition": "weekly"}, "partition", "Valid: daily, monthly, auto"),
        ({"batch_size": "many"}, "batch_size", "'many' is not valid"),
        ({"timeout_seconds": -1}, "timeout_seconds", "-1 is not valid"),
        ({"endpoint_url": "ftp://x"}, "endpoint_url", "is not an http(s) URL"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    changes: dict[str, Any], field: str, words: str
) -> None:
    _, found = read_fields(fields_of(**changes), MATRIX, as_given)
    assert list(found) == [field]
    assert words in found[field][0].text
    assert found[field][0].level is Level.WRONG


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"markets": []}, "markets", "a market"),
        ({"data_types": []}, "data_types", "a data type"),
        ({"symbols": []}, "symbols", "a symbol, or a pattern such as *USDT"),
        ({"symbols": None}, "symbols", "a symbol, or a pattern such as *USDT"),
        (
            {"output_directory": None},
            "output_directory",
            "a folder for the files, or a URL such as s3://bucket/research",
        ),
    ],
)
def test_what_is_not_entered_yet_is_needed_and_not_wrong(
    changes: dict[str, Any], field: str, words: str
) -> None:
    _, found = read_fields(fields_of(**changes), MATRIX, as_given)
    assert found == {field: [messages.FieldMessage(Level.NEEDED, words)]}


def test_all_that_is_wrong_is_said_at_once() -> None:
    fields = {"markets": [], "data_types": ["no"], "partition": 3, "batch_size": 0}
    _, found = read_fields(fields, MATRIX, as_given)
    assert set(found) == {
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
    config, found = read_fields(fields, MATRIX, as_given)
    try:
        CollectionConfig(**fields)
    except ConfigurationError:
        assert found
    else:
        assert not found
    expand(config, MATRIX, NOW)
    model.type_choices(fields, MATRIX)


def test_what_cannot_exist_is_said_where_it_was_chosen() -> None:
    fields = fields_of(
        markets=["spot", "futures_cm"],
        data_types=["klines", "bookTicker", "metrics"],
        date_range={"start": "2025-07-01", "end": "2025-07-02"},
        partition="monthly",
    )
    text = shown(fields, Level.CANNOT)
    assert "the archive has no spot bookTicker" in text["data_types"]
    assert "did you mean 'BTCUSD_PERP'" in text["symbols"]
    fields |= {"symbols": {"spot": ["BTCUSDT"], "futures_cm": ["BTCUSD_PERP"]}}
    assert "COIN-M futures metrics has daily files only" in shown(fields, Level.CANNOT)["partition"]


def test_what_is_read_differently_is_noted() -> None:
    fields = fields_of(
        markets=["spot", "options"],
        symbols={"spot": ["BTCUSDT"]},
        date_range={"start": "2025-06-01", "end": "2025-06-30"},
    )
    text = shown(fields, Level.NOTE)
    assert "none given for options" in text["symbols"]
    assert "auto would fetch up to 1 monthly files" in text["partition"]


def test_nothing_is_said_that_follows_from_a_stand_in() -> None:
    assert "symbols" not in shown(fields_of(symbols=[], markets=["futures_cm"]), Level.CANNOT)
    assert shown(fields_of(markets=[]), Level.CANNOT) == {}


def test_long_lists_of_findings_are_counted() -> None:
    fields = fields_of(markets=["futures_cm"], symbols=[f"COIN{at}USDT" for at in range(3_000)])
    text = shown(fields, Level.CANNOT)["symbols"]
    assert text.count(" | ") == 4
    assert text.endswith("… and 2,996 more like these")


def test_symbols_that_are_not_listed_are_named() -> None:
    fields = fields_of(
        markets=["spot", "futures_um"], symbols=["BTCUSDT", "BTCUSTD", "币安人生USDT", "GONE"]
    )
    listed = {Market.SPOT: ["BTCUSDT", "币安人生USDT"], Market.FUTURES_UM: ["BTCUSDT"]}
    found = messages.unlisted_symbols(fields, listed, MATRIX)
    assert [(each.level, each.text) for each in found] == [
        (
            Level.CANNOT,
            "BTCUSTD is not listed in spot, USD-M futures by the archive; did you mean BTCUSDT?",
        ),
        (Level.CANNOT, "GONE is not listed in spot, USD-M futures by the archive"),
        (Level.NOTE, "币安人生USDT is not listed in USD-M futures"),
    ]
    assert messages.unlisted_symbols(fields, {}, MATRIX) == []


def test_patterns_are_compared_with_the_listed_symbols() -> None:
    fields = fields_of(markets=["spot", "futures_um"], symbols=["*USDT", "*USDC", "*EUR"])
    listed = {Market.SPOT: ["BTCUSDT"], Market.FUTURES_UM: ["BTCUSDT", "BTCUSDC"]}
    found = messages.unlisted_symbols(fields, listed, MATRIX)
    assert [(each.level, each.text) for each in found] == [
        (Level.CANNOT, "*EUR is not listed in spot, USD-M futures by the archive"),
        (Level.NOTE, "*USDC is not listed in spot"),
    ]


def test_symbols_are_known_by_the_name_they_are_filed_under() -> None:
    fields = fields_of(markets=["options"], data_types=["BVOLIndex"], symbols=["BTC"])
    assert messages.unlisted_symbols(fields, {Market.OPTIONS: ["BTCBVOLUSDT"]}, MATRIX) == []


def test_an_interval_that_cannot_exist_says_why() -> None:
    fields = fields_of(markets=["futures_um"], intervals={"klines": ["1s", "1w", "1h"]})
    text = shown(fields, Level.CANNOT)["intervals"]
    assert "1s: USD-M futures klines has no interval 1s; it has 1m" in text
    assert "1w: only monthly files have 1w; use partition='auto'" in text
