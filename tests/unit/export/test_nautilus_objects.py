"""Instruments, bars and ticks of nautilus_trader are made exactly."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.symbols import Contract, SymbolParts, split_symbol
from binance_archive_kit.errors import ConfigurationError, CoverageError
from binance_archive_kit.export.exact_rows import Observed
from binance_archive_kit.export.nautilus_objects import Definition, check_limits, maker_of

AT = datetime(2025, 7, 1, tzinfo=UTC)
SPOT, UM, CM = Market.SPOT, Market.FUTURES_UM, Market.FUTURES_CM


def definition(market: Market, symbol: str) -> Definition:
    return Definition(market, symbol, split_symbol(market, symbol))


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ("1s", "1-SECOND"),
        ("30m", "30-MINUTE"),
        ("12h", "12-HOUR"),
        ("1d", "1-DAY"),
        ("1w", "1-WEEK"),
        ("1mo", "1-MONTH"),
    ],
)
def test_a_stream_has_the_folder_of_its_bars(interval: str, said: str) -> None:
    stream = Stream(SPOT, DataType.KLINES, "BTCUSDT", Interval(interval))
    folder = definition(SPOT, "BTCUSDT").folder(stream)
    assert folder == f"data/bar/BTCUSDT.BINANCE-{said}-LAST-EXTERNAL"
    ticks = Stream(UM, DataType.TRADES, "BTCUSDT")
    assert definition(UM, "BTCUSDT").folder(ticks) == "data/trade_tick/BTCUSDT-PERP.BINANCE"


@pytest.mark.parametrize(
    ("market", "symbol", "said"),
    [
        (SPOT, "BTCUSDT", ""),
        (SPOT, "币安人生USDT", ""),
        (UM, "BTCUSDT_250926", ""),
        (UM, "BNXUSDTSETTLED", ""),
        (CM, "BTCUSD", "neither a perpetual nor a contract with a delivery day"),
        (SPOT, "WHATISIT", "base and quote asset are not known"),
    ],
)
def test_symbols_without_an_instrument_have_a_problem(
    market: Market, symbol: str, said: str
) -> None:
    problem = definition(market, symbol).problem
    assert (said in problem) if said else not problem


def test_the_fields_say_where_they_come_from() -> None:
    observed = Observed(price_places=2, size_places=5, first=AT)
    info = definition(UM, "BTCUSDT_250926").info(observed)
    assert info["price_precision"].startswith("observed: 2 decimal places")
    assert info["size_precision"].startswith("observed: 5 decimal places")
    assert "not published" in info["price_increment, size_increment"]
    assert "first exported row" in info["activation_ns"]
    assert "multiplier" not in info


def test_a_contract_of_unknown_size_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'trades: .*how many dollars.*trades="trades"'):
        definition(CM, "BTCUSD_PERP").info(Observed())
    info = definition(CM, "BTCUSD_PERP").info(Observed(least=99.9, most=100.1))
    assert info["multiplier"] == "observed: a contract is 100 USD"


class TestWithNautilus:
    """Objects of the library itself."""

    @pytest.fixture(autouse=True)
    def _is_installed(self) -> None:
        pytest.importorskip("nautilus_trader", reason="the nautilus extra is not installed")

    @pytest.mark.parametrize(
        ("market", "symbol", "kind", "base", "settlement", "inverse"),
        [
            (SPOT, "BTCUSDT", "CurrencyPair", "BTC", "USDT", False),
            (SPOT, "币安人生USDT", "CurrencyPair", "币安人生", "USDT", False),
            (UM, "1000BONKUSDT", "CryptoPerpetual", "1000BONK", "USDT", False),
            (UM, "BTCUSDT_250926", "CryptoFuture", "BTC", "USDT", False),
            (CM, "BTCUSD_PERP", "CryptoPerpetual", "BTC", "BTC", True),
            (CM, "ETHUSD_250926", "CryptoFuture", "ETH", "ETH", True),
        ],
    )
    def test_each_contract_has_its_class(
        self, market: Market, symbol: str, kind: str, base: str, settlement: str, inverse: bool
    ) -> None:
        observed = Observed(price_places=1, first=AT, least=100, most=100)
        found = definition(market, symbol).instrument(observed)
        assert type(found).__name__ == kind
        assert str(found.get_base_currency()) == base
        assert str(found.get_settlement_currency()) == settlement
        assert found.is_inverse == inverse
        assert int(found.multiplier) == (100 if inverse else 1)
        assert (found.price_precision, found.size_precision) == (1, 0)
        assert (str(found.price_increment), str(found.size_increment)) == ("0.1", "1")
        if kind == "CryptoFuture":
            delivery = datetime(2025, 9, 26, 8, tzinfo=UTC)
            assert found.expiration_utc == delivery
            assert found.activation_utc == AT

    def test_bars_are_stamped_at_their_close_and_exact(self) -> None:
        opened = [datetime(2025, 1, 31, tzinfo=UTC), datetime(2025, 2, 28, 23, tzinfo=UTC)]
        prices = ["0.00000001", "12345678.12345678"]
        for interval, closed in (
            ("1h", [datetime(2025, 1, 31, 1, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC)]),
            ("1d", [datetime(2025, 2, 1, tzinfo=UTC), datetime(2025, 3, 1, 23, tzinfo=UTC)]),
        ):
            bars = self._bars(interval, opened, prices)
            assert [bar.ts_event // 10**9 for bar in bars] == [at.timestamp() for at in closed]
            assert [bar.ts_event for bar in bars] == [bar.ts_init for bar in bars]
            for name in ("open", "high", "low", "close", "volume"):
                found = [getattr(bar, name).as_decimal() for bar in bars]
                assert found == [*map(Decimal, prices)]
        [month] = self._bars("1mo", [datetime(2025, 2, 1, tzinfo=UTC)], ["1"])
        assert month.ts_event // 10**9 == datetime(2025, 3, 1, tzinfo=UTC).timestamp()

    def _bars(self, interval: str, opened: list[datetime], prices: list[str]) -> list[Any]:
        decimals = pl.Series([*map(Decimal, prices)], dtype=pl.Decimal(38, 18))
        frame = pl.DataFrame({"open_time": opened}).with_columns(
            decimals.alias(name) for name in ("open", "high", "low", "close", "volume")
        )
        own = definition(SPOT, "BTCUSDT")
        instrument = own.instrument(Observed(price_places=8, size_places=8))
        stream = Stream(SPOT, DataType.KLINES, "BTCUSDT", Interval(interval))
        return maker_of(own, stream, instrument)(frame)

    def test_the_aggressor_is_who_did_not_wait(self) -> None:
        from nautilus_trader.model.enums import AggressorSide

        frame = pl.DataFrame(
            {
                "id": [7, 8],
                "price": [Decimal("1.5"), Decimal("1.6")],
                "size": [Decimal("2"), Decimal("0.001")],
                "time": [AT, AT],
                "is_buyer_maker": [True, False],
            },
            schema_overrides={"price": pl.Decimal(38, 18), "size": pl.Decimal(38, 18)},
        )
        own = definition(SPOT, "BTCUSDT")
        instrument = own.instrument(Observed(price_places=1, size_places=3))
        ticks = maker_of(own, Stream(SPOT, DataType.TRADES, "BTCUSDT"), instrument)(frame)
        assert [tick.aggressor_side for tick in ticks] == [
            AggressorSide.SELLER,
            AggressorSide.BUYER,
        ]
        assert [tick.trade_id.value for tick in ticks] == ["7", "8"]
        assert [str(tick.size) for tick in ticks] == ["2.000", "0.001"]
        assert {tick.ts_event for tick in ticks} == {int(AT.timestamp()) * 10**9}

    def test_values_beyond_the_limits_are_named(self) -> None:
        check_limits("A", Observed(largest_size=(3.4e13, AT, "a stream"), smallest_size=1e-9))
        with pytest.raises(ConfigurationError, match="A: the volume 40,000,000,000,000 of a str"):
            check_limits("A", Observed(largest_size=(4e13, AT, "a stream")))
        with pytest.raises(ConfigurationError, match="A: the price 20,000,000,000,000 of a str"):
            check_limits("A", Observed(largest_price=(2e13, AT, "a stream")))
        with pytest.raises(ConfigurationError, match="A: values have 17 decimal places"):
            check_limits("A", Observed(size_places=17))
        with pytest.raises(CoverageError, match="a trade has the size 0"):
            check_limits("A", Observed(smallest_size=0.0))


def test_parts_of_other_kinds_are_refused() -> None:
    parts = SymbolParts("BTC", "USDT", Contract.OPTION, date(2025, 9, 26))
    assert "neither a perpetual" in Definition(UM, "BTCUSDT", parts).problem
