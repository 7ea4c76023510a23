"""Tests of the facts about symbols: base, quote, kind of contract, renames and reuse."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.archive.symbols import (
    SymbolEvent,
    asset_of,
    crossings,
    events_of,
    load_symbols,
    split_symbol,
    split_symbols,
)

SPOT, UM, CM, OPTIONS = Market.SPOT, Market.FUTURES_UM, Market.FUTURES_CM, Market.OPTIONS


@pytest.mark.parametrize(
    ("market", "symbol", "base", "quote", "contract", "delivery"),
    [
        (SPOT, "BTCUSDT", "BTC", "USDT", "spot", None),
        (SPOT, "BTCTUSD", "BTC", "TUSD", "spot", None),
        (SPOT, "BTCFDUSD", "BTC", "FDUSD", "spot", None),
        (SPOT, "BTCUSD", "BTC", "USD", "spot", None),
        (SPOT, "BNBBUSD", "BNB", "BUSD", "spot", None),
        (SPOT, "SHIBDOGE", "SHIB", "DOGE", "spot", None),
        (SPOT, "BTCUSD1", "BTC", "USD1", "spot", None),
        (SPOT, "BTCU", "BTC", "U", "spot", None),
        (SPOT, "USDTTRY", "USDT", "TRY", "spot", None),
        (SPOT, "1000SATSUSDT", "1000SATS", "USDT", "spot", None),
        (SPOT, "币安人生USDT", "币安人生", "USDT", "spot", None),
        (UM, "BTCUSDT", "BTC", "USDT", "perpetual", None),
        (UM, "1000BONKUSDT", "1000BONK", "USDT", "perpetual", None),
        (UM, "ETHBTC", "ETH", "BTC", "perpetual", None),
        (UM, "ETHU", "ETH", "U", "perpetual", None),
        (UM, "龙虾USDT", "龙虾", "USDT", "perpetual", None),
        (UM, "BTCUSDT_250926", "BTC", "USDT", "delivery", "2025-09-26"),
        (UM, "BTCBUSD_210129", "BTC", "BUSD", "delivery", "2021-01-29"),
        (UM, "BNXUSDTSETTLED", "BNX", "USDT", "settled", None),
        (UM, "ICPUSDT_SETTLED", "ICP", "USDT", "settled", None),
        (UM, "AERGOUSDTSETTLEDSETTLED", "AERGO", "USDT", "settled", None),
        (CM, "BTCUSD_PERP", "BTC", "USD", "perpetual", None),
        (CM, "BTCUSD_240628", "BTC", "USD", "delivery", "2024-06-28"),
        (CM, "BTCUSD", "BTC", "USD", "pair", None),
        (OPTIONS, "BTC-250926-100000-C", "BTC", "USDT", "option", "2025-09-26"),
        (OPTIONS, "DOGE-231027-0.06-P", "DOGE", "USDT", "option", "2023-10-27"),
        (OPTIONS, "BTCUSDT", "BTC", "USDT", "underlying", None),
        # As in the files' own columns base_asset and quote_asset.
        (OPTIONS, "BTCBVOLUSDT", "BTCBVOL", "USDT", "volatility_index", None),
    ],
)
def test_symbols_are_split(
    market: Market,
    symbol: str,
    base: str,
    quote: str,
    contract: str,
    delivery: str | None,
) -> None:
    parts = split_symbol(market, symbol)
    assert (parts.base, parts.quote, parts.contract) == (base, quote, contract)
    assert parts.delivery == (delivery and date.fromisoformat(delivery))


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [
        # The longest quote leaves an unknown asset, and another one a known one.
        ("BNBUSD", "BNB", "USD"),
        ("SHIBUSD", "SHIB", "USD"),
        ("USDTUSD", "USDT", "USD"),
        ("ADAEUR", "ADA", "EUR"),
        # Both divisions leave a known asset; the exchange has said which one it is.
        ("BTCBUSD", "BTC", "BUSD"),
        ("ARBUSD", "AR", "BUSD"),
        ("LUNAEUR", "LUNA", "EUR"),
    ],
)
def test_known_assets_decide_where_the_longest_quote_is_wrong(
    symbol: str, base: str, quote: str
) -> None:
    parts = split_symbol(SPOT, symbol)
    assert (parts.base, parts.quote) == (base, quote)


@pytest.mark.parametrize(
    ("market", "symbol"),
    [
        (SPOT, "USDT"),
        (SPOT, "QQQ"),
        (SPOT, "ZZZZTUSD"),  # ZZZZ/TUSD or ZZZZT/USD
        (UM, "IDOL"),
        (UM, "BTCUSDT_259999"),
        (UM, "BTCUSDT_PERP"),
        (UM, "SETTLED"),
        (CM, "USD_PERP"),
        (CM, "BTCUSDT"),
        (CM, "BTCUSD_QUARTER"),
        (OPTIONS, "BTC"),
        (OPTIONS, "币"),
        (OPTIONS, "BTC-250926-100000-X"),
    ],
)
def test_what_cannot_be_split_is_null(market: Market, symbol: str) -> None:
    parts = split_symbol(market, symbol)
    assert (parts.base, parts.quote) == (None, None)
    assert events_of(market, symbol) == []


def test_an_impossible_delivery_day_leaves_the_contract_unknown() -> None:
    assert split_symbol(CM, "BTCUSD_249999").contract is None
    assert split_symbol(OPTIONS, "BTC-259999-100000-C").contract is None


@given(st.sampled_from(Market), st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_split_or_null(market: Market, text: str, other: str) -> None:
    parts = split_symbols(market, [text, other])[text]
    assert (parts.base is None) == (parts.quote is None)
    if parts.base is not None:
        assert parts.base
        assert text.startswith(parts.base)
    events_of(market, text)
    crossings(market, text, date(2020, 1, 1), date(2026, 1, 1))


@given(st.sampled_from(sorted(load_symbols().quotes[SPOT])), st.text("ABCDTUS", min_size=1))
def test_a_split_of_a_pair_is_one_of_its_divisions(quote: str, base: str) -> None:
    parts = split_symbol(SPOT, base + quote)
    if parts.base is not None:
        assert f"{parts.base}{parts.quote}" == base + quote
        assert parts.quote in load_symbols().quotes[SPOT]


def test_other_symbols_of_a_listing_decide_ambiguous_ones() -> None:
    assert split_symbols(SPOT, ["ZZZZTUSD"])["ZZZZTUSD"].quote is None
    assert split_symbols(SPOT, ["ZZZZTUSD", "ZZZZUSDT"])["ZZZZTUSD"].quote == "TUSD"
    assert split_symbols(SPOT, ["ZZZZTUSD", "ZZZZTBTC"])["ZZZZTUSD"].quote == "USD"
    both = split_symbols(SPOT, ["ZZZZTUSD", "ZZZZUSDT", "ZZZZTBTC"])
    assert both["ZZZZTUSD"].quote is None
    assert [*both] == ["ZZZZTUSD", "ZZZZUSDT", "ZZZZTBTC"]


def test_multipliers_are_not_part_of_an_asset() -> None:
    assert asset_of(UM, "1000LUNCUSDT") == "LUNC"
    assert asset_of(UM, "1000000MOGUSDT") == "MOG"
    assert asset_of(UM, "1MBABYDOGEUSDT") == "BABYDOGE"
    assert asset_of(SPOT, "1INCHUSDT") == "1INCH"


def test_every_event_has_a_source_and_names_what_is_unknown() -> None:
    for event in load_symbols().events:
        assert len(event.source) > 10
        assert event.source in str(event)
        if event.last is None and event.first is None:
            assert event.when == "day unknown"
            assert event.confidence == "C"
    assert {event.kind for event in load_symbols().events} == {
        "renamed",
        "reused",
        "redenominated",
        "relisted",
    }


@pytest.mark.parametrize(
    ("market", "symbol", "kinds"),
    [
        (SPOT, "BTTUSDT", ["renamed"]),
        (SPOT, "BTTCUSDT", ["renamed"]),
        (UM, "1000BTTCUSDT", ["renamed"]),
        (SPOT, "NANOBTC", ["renamed", "renamed"]),  # XRB to NANO to XNO
        (SPOT, "LUNAUSDT", ["renamed", "reused"]),
        (UM, "LUNAUSDT", ["renamed"]),
        (CM, "LUNAUSD_PERP", ["renamed"]),
        (UM, "LITUSDT", ["reused"]),
        (UM, "LITUSDTSETTLED", ["reused"]),
        (SPOT, "LITUSDT", ["renamed"]),
        (SPOT, "MATICUSDT", ["renamed"]),
        (UM, "BNXUSDTSETTLED", ["redenominated", "renamed"]),
        (UM, "ICPUSDT", ["relisted"]),
        (SPOT, "ICPUSDT", []),
        (SPOT, "BTCUSDT", []),
        (SPOT, "TUSDUSDT", []),
    ],
)
def test_events_apply_to_pairs_of_their_asset(
    market: Market, symbol: str, kinds: list[str]
) -> None:
    assert sorted(event.kind for event in events_of(market, symbol)) == kinds


@pytest.mark.parametrize(
    ("market", "symbol", "start", "end", "crossed"),
    [
        # A reused symbol: only a range with days of both.
        (UM, "LITUSDT", "2024-01-01", "2024-12-31", False),
        (UM, "LITUSDT", "2024-01-01", "2026-01-31", True),
        (UM, "LITUSDT", "2026-01-01", "2026-01-31", False),
        (UM, "LITUSDTSETTLED", "2024-01-01", "2026-01-31", False),
        (UM, "LITUSDT", "2025-02-01", "2025-12-23", True),  # the rest of the old, and the new
        # A renamed asset: days whose data are filed under the other symbol.
        (SPOT, "FTMUSDT", "2024-01-01", "2025-01-13", False),
        (SPOT, "FTMUSDT", "2024-01-01", "2025-01-14", True),
        (SPOT, "SUSDT", "2025-01-16", "2025-02-01", False),
        (SPOT, "SUSDT", "2025-01-15", "2025-02-01", True),
        # Only a month is known: it may.
        (UM, "PUMPUSDT", "2025-06-01", "2025-06-30", False),
        (UM, "PUMPUSDT", "2025-07-01", "2025-07-31", True),
        (UM, "PUMPUSDT", "2025-08-01", "2025-08-31", False),
        # Only one of the days is known.
        (SPOT, "NANOUSDT", "2021-12-01", "2022-01-25", False),
        (SPOT, "NANOUSDT", "2021-12-01", "2022-01-26", True),
        (SPOT, "XNOUSDT", "2022-01-25", "2022-02-01", True),
        (SPOT, "XNOUSDT", "2022-01-26", "2022-02-01", False),
        (SPOT, "BTTUSDT", "2022-01-01", "2022-01-24", False),
        (SPOT, "BTTUSDT", "2022-01-01", "2022-01-25", True),
        (SPOT, "BTTCUSDT", "2022-01-25", "2022-02-01", False),
        # Nothing is known: it may.
        (SPOT, "ERDUSDT", "2020-01-01", "2020-01-02", True),
        (SPOT, "EOSUSDT", "2018-06-01", "2018-06-02", False),
        (SPOT, "EOSUSDT", "2018-06-01", "2025-01-01", True),
        (SPOT, "BTCUSDT", "2017-08-17", "2026-11-30", False),
    ],
)
def test_ranges_that_cross_a_change(
    market: Market, symbol: str, start: str, end: str, crossed: bool
) -> None:
    days = date.fromisoformat(start), date.fromisoformat(end)
    assert bool(crossings(market, symbol, *days)) == crossed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "reused"}, "successor"),
        ({"successor": None}, "successor"),
        ({"first": "2024-13"}, "month must be"),
        ({"first": "2023-01-01", "last": "2024-01-01"}, "after the last"),
        ({"source": ""}, "source"),
        ({"markets": []}, "markets"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_contradictory_events_are_rejected(change: dict[str, Any], message: str) -> None:
    [event] = events_of(SPOT, "FTMUSDT")
    with pytest.raises(ValidationError, match=message):
        SymbolEvent.model_validate({**event.model_dump(), **change})
