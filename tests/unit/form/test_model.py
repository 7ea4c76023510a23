"""The options of a form, without a widget."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.form import model
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan
from tests.support.form import MATRIX, START, fields_of


def types_for(*markets: str, **changes: Any) -> dict[str, dict[str, Any]]:
    offered = model.type_choices(fields_of(markets=list(markets), **changes), MATRIX)
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


def test_a_type_that_cannot_exist_stays() -> None:
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
    [offered] = model.interval_choices(fields, MATRIX)
    words = [word["value"] for word in offered["words"]]
    assert (words[0], words[-1], offered["hint"]) == (first, last, hint)
    assert [word["value"] for word in offered["words"] if word["on"]] == ["1h"]


def test_an_interval_that_cannot_exist_stays() -> None:
    fields = fields_of(markets=["futures_um"], intervals={"klines": ["1s", "1w", "1h"]})
    [offered] = model.interval_choices(fields, MATRIX)
    impossible = [word["value"] for word in offered["words"] if not word["possible"]]
    assert impossible == ["1s", "1w"]


def test_types_without_intervals_offer_none() -> None:
    assert model.interval_choices(fields_of(data_types=["trades", "metrics"]), MATRIX) == []


def test_symbols_are_listed_where_the_chosen_feeds_have_theirs() -> None:
    fields = fields_of(
        markets=["spot", "futures_um", "options"], data_types=["klines", "fundingRate"]
    )
    assert model.symbol_folders(fields, MATRIX) == {
        Market.SPOT: ["data/spot/daily/klines/"],
        Market.FUTURES_UM: [
            "data/futures/um/daily/klines/",
            "data/futures/um/monthly/fundingRate/",
        ],
        Market.OPTIONS: ["data/option/daily/BVOLIndex/"],
    }
    assert model.symbol_folders({}, MATRIX) == {}


def test_every_field_of_a_configuration_can_be_set() -> None:
    rows = {"markets", "data_types", "intervals", "symbols", "date_range", "partition"}
    engine = set(model.ENGINE_OPTIONS)
    assert rows | engine | {"output_directory", "workflow_type"} == set(
        CollectionConfig.model_fields
    )


def test_engine_options_say_what_was_changed() -> None:
    options = {
        each["name"]: each
        for each in model.engine_choices(
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
    text = model.days_in_words({"date_range": days})
    assert words in text
    assert bool(words) == bool(text)


def test_an_estimate_says_what_is_left_on_the_disk() -> None:
    row = dict.fromkeys(PLAN_SCHEMA.names()) | {
        **{"key": "data/x.zip", "market": "spot", "data_type": "trades", "partition": "daily"},
        **{"start": date(2025, 7, 1), "end": date(2025, 7, 1), "size": 3 << 20},
        **{"action": "download", "reason": "new"},
    }
    plan = Plan(CollectionConfig(**START), pl.DataFrame([row], schema=PLAN_SCHEMA))
    enough = model.estimate_of(plan, 10 << 20)
    assert enough["state"] == "ready"
    assert enough["text"].endswith(
        "3.0 MB to fetch; 10.0 MB free on the disk, 7.0 MB left afterwards"
    )
    assert "<table" in enough["html"]
    little = model.estimate_of(plan, 1 << 20)
    assert little["state"] == "full"
    assert "does not fit: only 1.0 MB free" in little["text"]
    nothing = model.estimate_of(Plan(plan.config, plan.frame.clear()), 1)
    assert nothing["state"] == "empty"
    assert "Nothing to collect" in nothing["text"]
