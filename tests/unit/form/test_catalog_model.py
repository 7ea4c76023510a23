"""What the catalogue shows of a feed: its options, its rows, its code and its static table."""

from __future__ import annotations

import pytest

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.form import catalog_model
from tests.support.form import MATRIX, fields_of


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ("spot", "klines", "1h")),
        ({"markets": ["options"]}, ("options", "BVOLIndex", None)),
        ({"markets": ["futures_um"], "data_types": ["fundingRate"]},
         ("futures_um", "fundingRate", None)),
        ({"markets": ["spot"], "data_types": ["metrics"]}, ("spot", "klines", "1h")),
        ({"markets": ["futures_um"], "data_types": ["klines"], "intervals": {"klines": ["1s"]}},
         ("futures_um", "klines", "1h")),
        ({"markets": 3, "data_types": None, "intervals": {"klines": 7}}, ("spot", "klines", "1h")),
    ],
)  # fmt: skip
def test_any_fields_show_a_feed_that_exists(
    fields: dict[str, object], shown: tuple[str, str, str | None]
) -> None:
    feed, interval = catalog_model.feed_of(fields, MATRIX)
    assert (feed.market, feed.type, interval) == shown


def test_intervals_of_monthly_files_choose_a_partition_that_has_them() -> None:
    feed = MATRIX.feeds[Market.SPOT, DataType.KLINES]
    weekly = catalog_model.with_feed(fields_of(), feed, Interval.W1)
    assert weekly["partition"] == "auto"
    assert weekly["intervals"] == {"klines": ["1w"]}
    assert "partition" not in catalog_model.with_feed(weekly, feed, Interval.H1)
    trades = MATRIX.feeds[Market.SPOT, DataType.TRADES]
    assert "intervals" not in catalog_model.with_feed(weekly, trades, None)


def test_the_range_of_days_is_known_only_if_all_are() -> None:
    known = {"A": ("2020-01-01", "2021-01-01"), "B": ("2019-01-01", "2019-02-01")}
    assert catalog_model.all_days(["A", "B"], known) == {"start": "2019-01-01", "end": "2021-01-01"}
    assert catalog_model.all_days(["A", "C"], known) is None
    assert catalog_model.all_days(["A", "B"], known | {"B": (None, None)}) is None
    assert catalog_model.all_days([], known) is None


def test_unknown_assets_of_a_symbol_stay_empty() -> None:
    rows = catalog_model.symbol_rows(Market.FUTURES_UM, ["BTCUSDT_250926", "币安人生USDT", "???"])
    assert rows == [
        ["BTCUSDT_250926", "BTC", "USDT", "delivery 2025-09-26"],
        ["币安人生USDT", "币安人生", "USDT", "perpetual"],
        ["???", "", "", "perpetual"],
    ]


def test_the_static_table_escapes_and_counts() -> None:
    feed = MATRIX.feeds[Market.SPOT, DataType.KLINES]
    symbols = ["<script>alert('x')</script>", "\"&USDT'", *(f"COIN{at}" for at in range(30))]
    summary = catalog_model.summary_of(
        feed, MATRIX, "spot & <b>", symbols, {"COIN0": ("2020-01-01", None), "COIN1": (None, None)}
    )
    html = summary.to_html()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "&quot;&amp;USDT&#x27;" in html
    assert "spot &amp; &lt;b&gt;" in html
    assert "… and 12 more symbols" in html
    assert "COIN0  " in summary.to_text()
    [line] = [each for each in summary.to_text().splitlines() if each.strip().startswith("COIN1 ")]
    assert line.split()[1:] == ["no", "files", "no", "files"]
