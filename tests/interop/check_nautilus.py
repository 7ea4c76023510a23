"""Load bars and ticks of `to_nautilus` from its catalogue, and run a strategy on them."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import nautilus_trader
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model import Bar, BarType, Money, Venue
from nautilus_trader.model.enums import AccountType, AggressorSide, OmsType, OrderSide
from nautilus_trader.model.objects import Currency
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.trading.strategy import Strategy

import binance_archive_kit as bak

FOLDER = Path(sys.argv[1])
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
UNITS = {"1m": "1-MINUTE", "1h": "1-HOUR", "1d": "1-DAY"}
NANOS = {"1m": 60 * 10**9, "1h": 3_600 * 10**9, "1d": 86_400 * 10**9}
CLASSES = {"spot": "CurrencyPair", "futures_um": "CryptoPerpetual", "futures_cm": "CryptoPerpetual"}
PRICES = ["open", "high", "low", "close", "volume"]


def name_of(market: str, symbol: str) -> str:
    """Return the name that the adapter of Binance gives an instrument."""
    return (
        f"{symbol}.BINANCE" if market == "spot" else f"{symbol.removesuffix('_PERP')}-PERP.BINANCE"
    )


def check_bars(name: str, rows: dict[str, Any]) -> None:
    """Compare the values and stamps of bars."""
    market, symbol, interval = name.split()
    bars = catalog.bars(bar_types=[f"{name_of(market, symbol)}-{UNITS[interval]}-LAST-EXTERNAL"])
    closes = [time * 10**6 + NANOS[interval] for time in rows["open_time"]]
    assert [bar.ts_event for bar in bars] == closes, name
    assert [bar.ts_init for bar in bars] == closes, name
    for price in PRICES:
        found = [getattr(bar, price).as_decimal() for bar in bars]
        assert found == [*map(Decimal, rows[price])], (name, price)
    print(f"  {name}: {len(bars):,} bars, each equal, stamped at their close")


def check_ticks(name: str, rows: dict[str, Any]) -> None:
    """Compare the values, numbers and sides of ticks."""
    market, symbol, _ = name.split()
    ticks = catalog.trade_ticks(instrument_ids=[name_of(market, symbol)])
    sides = {True: AggressorSide.SELLER, False: AggressorSide.BUYER}
    assert [tick.ts_event for tick in ticks] == rows["nanoseconds"], name
    assert [tick.price.as_decimal() for tick in ticks] == [*map(Decimal, rows["price"])], name
    assert [tick.size.as_decimal() for tick in ticks] == [*map(Decimal, rows["qty"])], name
    assert [tick.trade_id.value for tick in ticks] == [*map(str, rows["id"])], name
    assert [tick.aggressor_side for tick in ticks] == [*map(sides.get, rows["is_buyer_maker"])], (
        name
    )
    print(f"  {name}: {len(ticks):,} ticks, each equal")


class BuyOnce(Strategy):
    """Remember when each bar was seen, and buy at the first one."""

    def __init__(self, bar_type: BarType) -> None:
        super().__init__()
        self.bar_type = bar_type
        self.seen: list[tuple[int, Decimal]] = []
        self.filled: list[Decimal] = []

    def on_start(self) -> None:
        self.subscribe_bars(self.bar_type)

    def on_bar(self, bar: Bar) -> None:
        self.seen.append((self.clock.timestamp_ns(), bar.close.as_decimal()))
        if len(self.seen) == 1:
            instrument = self.cache.instrument(bar.bar_type.instrument_id)
            size = instrument.size_increment
            self.submit_order(
                self.order_factory.market(instrument.id, OrderSide.BUY, quantity=size)
            )

    def on_order_filled(self, event: Any) -> None:
        self.filled.append(event.last_px.as_decimal())


def run(market: str, symbol: str, interval: str) -> None:
    """Run a strategy on bars of the catalogue."""
    rows = EXPECTED[f"{market} {symbol} {interval}"]
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    [instrument] = catalog.instruments(instrument_ids=[name_of(market, symbol)])
    engine.add_venue(
        Venue("BINANCE"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH if market == "spot" else AccountType.MARGIN,
        base_currency=None,
        starting_balances=[Money(10**7, Currency.from_str(code)) for code in ("USDT", "BTC")],
    )
    engine.add_instrument(instrument)
    kind = BarType.from_str(f"{instrument.id}-{UNITS[interval]}-LAST-EXTERNAL")
    engine.add_data(catalog.bars(bar_types=[str(kind)]))
    strategy = BuyOnce(kind)
    engine.add_strategy(strategy)
    engine.run()
    # No bar is seen before its candle has closed.
    closes = [time * 10**6 + NANOS[interval] for time in rows["open_time"]]
    assert strategy.seen == [*zip(closes, map(Decimal, rows["close"]), strict=True)]
    assert strategy.filled == [Decimal(rows["close"][0])], strategy.filled
    engine.dispose()
    print(f"  {market} {symbol} {interval}: {len(closes):,} calls at the close of a bar, 1 order")


catalog = ParquetDataCatalog(str(FOLDER / "catalog"))
for market in CLASSES:
    own = [name.split() for name in EXPECTED if name.startswith(f"{market} ")]
    bak.to_nautilus(
        FOLDER / "store",
        FOLDER / "catalog",
        market=market,
        symbols=sorted({symbol for _, symbol, _ in own}),
        intervals=sorted({interval for *_, interval in own if interval != "trades"}),
        trades="trades",
        **next(iter(EXPECTED.values()))["days"],
    )
for name, rows in EXPECTED.items():
    (check_ticks if name.endswith(" trades") else check_bars)(name, rows)
for instrument in catalog.instruments():
    market = instrument.info["market"]
    assert type(instrument).__name__ == CLASSES[market]
    assert instrument.info["price_precision"].startswith("observed: ")
    assert str(instrument.id) == name_of(market, instrument.raw_symbol.value)
inverse = catalog.instruments(instrument_ids=["BTCUSD-PERP.BINANCE"])[0]
assert (inverse.is_inverse, int(inverse.multiplier), inverse.size_precision) == (True, 100, 0)
assert str(inverse.get_settlement_currency()) == "BTC"
for each in (
    ("spot", "BTCUSDT", "1h"),
    ("futures_um", "BTCUSDT", "1m"),
    ("futures_cm", "BTCUSD_PERP", "1h"),
):
    run(*each)
print(f"  nautilus_trader {nautilus_trader.__version__}")
