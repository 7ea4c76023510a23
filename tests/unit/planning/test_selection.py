"""Choosing symbols from a listing, by pattern and by quote asset."""

from __future__ import annotations

import pytest

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.matrix import SymbolForm, load_matrix
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.planning.selection import (
    Choice,
    choose,
    is_pattern,
    matches,
    named,
    require_matches,
)

UM = Market.FUTURES_UM
LISTED = [
    "1000BONKUSDT",
    "BNXUSDT",
    "BNXUSDTSETTLED",
    "BTCUSDC",
    "BTCUSDT",
    "BTCUSDT_250926",
    "ETHBTC",
    "IDOL",
    "币安人生USDT",
]
CANDLES = load_matrix().feed(UM, DataType.KLINES)


@pytest.mark.parametrize(
    ("pattern", "symbol", "fits"),
    [
        ("*", "币安人生USDT", True),
        ("*USDT", "BTCUSDT", True),
        ("*USDT", "BNXUSDTSETTLED", False),
        ("BTC????", "BTCUSDT", True),
        ("BTC????", "BTCUSDTX", False),
        ("B*T", "BTCUSDT", True),
        ("BTCUSDT", "BTCUSDT", True),
        # Whatever else a pattern holds stands for itself.
        (".*", "BTCUSDT", False),
        ("BTC[A-Z]*", "BTCUSDT", False),
        ("B.C*", "BTCUSDT", False),
    ],
)
def test_patterns(pattern: str, symbol: str, fits: bool) -> None:
    assert matches(pattern, symbol) == fits


def test_only_wildcards_make_a_pattern() -> None:
    assert is_pattern("*USDT")
    assert is_pattern("BTC?")
    assert not is_pattern("BTCUSDT")


def test_a_pattern_leaves_out_contracts_of_the_same_quote() -> None:
    assert choose(UM, LISTED, ["*USDT"]) == Choice(
        ("1000BONKUSDT", "BNXUSDT", "BTCUSDT", "币安人生USDT"),
        ("BNXUSDTSETTLED", "BTCUSDT_250926"),
    )
    assert choose(UM, LISTED, ["*"]).left_out == ()


def test_a_quote_asset_finds_settled_and_delivery_contracts() -> None:
    found = choose(UM, LISTED, ["*"], ["USDT"])
    assert found.symbols == (
        "1000BONKUSDT",
        "BNXUSDT",
        "BNXUSDTSETTLED",
        "BTCUSDT",
        "BTCUSDT_250926",
        "币安人生USDT",
    )
    assert found.left_out == ()
    assert found.unknown_quote == ("IDOL",)
    assert choose(UM, LISTED, ["BTC*"], ["USDC", "BTC"]).symbols == ("BTCUSDC",)


def test_pairs_are_also_found_by_their_contract() -> None:
    listed = ["BTCUSD", "ETHUSD"]
    found = choose(Market.FUTURES_CM, listed, ["BTC*_PERP"], form=SymbolForm.PAIR)
    assert found.symbols == ("BTCUSD",)


@pytest.mark.parametrize(
    ("listed", "patterns", "quotes", "message"),
    [
        (
            LISTED,
            ["*EUR"],
            [],
            "symbols: '*EUR' matches none of 9 USD-M futures klines symbols; one is '1000BONKUSDT'",
        ),
        (
            LISTED,
            ["BTCUSTD*"],
            [],
            "symbols: 'BTCUSTD*' matches none of 9 USD-M futures klines symbols; "
            "the nearest is 'BTCUSDT'",
        ),
        (
            LISTED,
            ["*usdt"],
            [],
            "symbols: '*usdt' matches none of 9 USD-M futures klines symbols; "
            "did you mean '*USDT'?",
        ),
        # One that matches does not hide one that does not.
        (
            LISTED,
            ["BTC*", "*EUR"],
            [],
            "symbols: '*EUR' matches none of 9 USD-M futures klines symbols; one is '1000BONKUSDT'",
        ),
        (
            LISTED,
            ["BTC*"],
            ["USDT", "USDD"],
            "quote of the 3 matching symbols of USD-M futures klines: 'USDD' is not valid; "
            "did you mean 'USDT'? Valid: USDC, USDT",
        ),
        (
            LISTED,
            ["*"],
            ["USDTT"],
            "quote of the 9 matching symbols of USD-M futures klines: 'USDTT' is not valid; "
            "did you mean 'USDT'? Valid: BTC, USDC, USDT",
        ),
        ([], ["*"], [], "symbols: the archive lists no symbol of USD-M futures klines"),
    ],
)
def test_what_matches_nothing_is_an_error(
    listed: list[str], patterns: list[str], quotes: list[str], message: str
) -> None:
    assert CANDLES is not None
    with pytest.raises(ConfigurationError) as error:
        require_matches([(CANDLES, patterns, listed)], quotes)
    assert str(error.value) == message


def test_one_feed_with_matches_is_enough() -> None:
    coins = load_matrix().feed(Market.FUTURES_CM, DataType.KLINES)
    assert CANDLES is not None
    assert coins is not None
    patterns = ["*USDT", "*_PERP"]
    listings = [(CANDLES, patterns, LISTED), (coins, patterns, ["BTCUSD_PERP"])]
    require_matches(listings, ["USDT", "USD"])


def test_names_and_patterns_of_a_store() -> None:
    stored = {"BTCUSDT", "ETHUSDT", "ETHBTC"}
    assert named(["ETH*", "NONE"], stored) == {"ETHUSDT", "ETHBTC", "NONE"}
    with pytest.raises(ConfigurationError) as error:
        named(["eth*"], stored)
    assert str(error.value) == (
        "symbols: 'eth*' matches none of the 3 symbols in the store; did you mean 'ETH*'?"
    )
