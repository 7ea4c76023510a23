"""Symbols keep their colours."""

from __future__ import annotations

import pytest
from matplotlib import rcParams, style

from binance_archive_kit.charts import symbol_colours
from binance_archive_kit.charts.symbol_colours import colour_of, line_styles

WELL_KNOWN = ["BTC", "ETH", "BNB", "SOL", "XRP", "DOGE", "ADA", "TRX", "LINK", "AVAX", "DOT", "LTC"]


def test_the_style_of_notebooks_has_the_same_colours() -> None:
    with style.context("binance_archive_kit.figures"):
        cycle = rcParams["axes.prop_cycle"].by_key()["color"]
    assert cycle[:2] == [colour_of("BTCUSDT"), colour_of("ETHUSDT")]
    assert set(cycle) <= set(symbol_colours._PALETTE)


def test_the_well_known_differ() -> None:
    assert len({colour_of(f"{asset}USDT") for asset in WELL_KNOWN}) == len(WELL_KNOWN)


@pytest.mark.parametrize("name", ["BTC", "BTCUSDC", "BTCUSD_PERP", "BTCUSDT_250926", "BTCTRY"])
def test_an_asset_has_one_colour_in_all_markets(name: str) -> None:
    assert colour_of(name) == colour_of("BTCUSDT")


def test_another_asset_with_the_same_beginning_has_its_own() -> None:
    assert colour_of("1000PEPEUSDT") == colour_of("PEPEUSDT")
    assert colour_of("ETHFIUSDT") != colour_of("ETHUSDT")
    assert colour_of("BTCDOMUSDT") != colour_of("BTCUSDT")


def test_colours_do_not_change_between_runs() -> None:
    # Of Python's own hash, they would.
    assert [colour_of(name) for name in ("PEPEUSDT", "币安人生USDT", "<b>$x")] == [
        *("#dc631e", "#a15883", "#8ca97d"),
    ]


def test_a_name_of_a_figure_has_the_colour_of_every_other_figure() -> None:
    names = [f"A{number}USDT" for number in range(40)]
    alone = [line_styles([name])[0].color for name in names]
    assert [style.color for style in line_styles(names)] == alone
    assert [style.color for style in line_styles(names[::-1])] == alone[::-1]


def test_collisions_are_few_and_differ_in_width() -> None:
    names = [f"{asset}USDT" for asset in (*WELL_KNOWN, "PEPE", "SHIB", "UNI", "ATOM")]
    styles = line_styles(names)
    assert len({style.color for style in styles}) >= 12
    assert len(set(styles)) == len(names)
