"""List and load an export with freqtrade, and run its backtest over it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import freqtrade
from freqtrade.configuration import TimeRange
from freqtrade.data.history import load_data, load_pair_history
from freqtrade.enums import CandleType, RunMode
from freqtrade.exchange import Exchange
from freqtrade.exchange.binance import Binance
from freqtrade.optimize.backtesting import Backtesting

FOLDER = Path(sys.argv[1])
DATA = FOLDER / "data"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
PRICES = ["open", "high", "low", "close", "volume"]


def listed(mode: str) -> set[str]:
    """Ask ``freqtrade list-data``; return pair, timeframe and type of each line."""
    command = [Path(sys.executable).with_name("freqtrade"), "list-data", "--no-color"]
    command += ["--userdir", FOLDER / "user_data", "--datadir", DATA, "--exchange", "binance"]
    command += ["--trading-mode", mode, "--show-timerange"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cells = [re.split(r"\s*[│|]\s*", line.strip(" │|")) for line in text.splitlines()]
    return {" ".join(row[:3]) for row in cells if len(row) == 6 and "/" in row[0]}


def check_candles(name: str, columns: dict[str, list[float]]) -> None:
    """Load a pair; compare every value."""
    pair, timeframe, kind = name.split()
    found = load_pair_history(
        pair,
        timeframe,
        DATA,
        fill_up_missing=False,
        drop_incomplete=False,
        candle_type=CandleType.from_string("" if kind == "spot" else kind),
    )
    times = found["date"].astype("int64") // (10**6 if "ns" in str(found["date"].dtype) else 1)
    if kind == "funding_rate":
        # freqtrade rounds the times of funding down to seconds.
        wanted = [time // 1000 * 1000 for time in columns["calc_time"]]
        assert times.tolist() == wanted, name
        assert found["open"].tolist() == columns["last_funding_rate"], name
    else:
        assert times.tolist() == columns["open_time"], name
        for price in PRICES:
            assert found[price].tolist() == columns[price], (name, price)
    print(f"  {name}: {len(found):,} rows, each equal")


def check_funding(pair: str) -> None:
    """Join funding with mark prices, as a backtest does; every funding has its mark price."""
    span = TimeRange.parse_timerange("20250710-20250715")
    loaded = {
        kind: load_data(DATA, "1h", [pair], timerange=span, candle_type=kind)[pair]
        for kind in (CandleType.FUNDING_RATE, CandleType.MARK)
    }
    joined = Exchange.combine_funding_and_mark(*loaded.values())
    marks = set(loaded[CandleType.MARK]["date"])
    due = [date for date in loaded[CandleType.FUNDING_RATE]["date"] if date in marks]
    assert due, pair
    assert joined["date"].tolist() == due, pair
    print(f"  {pair}: {len(joined):,} fundings have their mark price")


def offline(config: dict, pair: str) -> Binance:
    """Return freqtrade's Binance with one market, which needs no network."""
    exchange = Binance(config, validate=False)
    is_future = pair.endswith(":USDT")
    kind = "swap" if is_future else "spot"
    market = {
        "id": "BTCUSDT",
        "symbol": pair,
        "base": "BTC",
        "quote": "USDT",
        "settle": "USDT" if is_future else None,
        "type": kind,
        "spot": not is_future,
        "swap": is_future,
        "contract": is_future,
        "linear": is_future or None,
        "contractSize": 1.0 if is_future else None,
        "active": True,
        "precision": {"amount": 1e-5, "price": 0.1},
        "limits": {
            "amount": {"min": 1e-5, "max": 1e5},
            "price": {"min": 0.1, "max": 1e7},
            "cost": {"min": 5, "max": None},
            "leverage": {"min": 1, "max": 10},
        },
        "maker": 0.0,
        "taker": 0.0,
    }
    market = exchange._api.safe_market_structure(market)
    exchange._markets = {pair: market}
    exchange._api.set_markets([market])
    exchange._leverage_tiers = {
        pair: [
            {
                "minNotional": 0,
                "maxNotional": 1e9,
                "maintenanceMarginRate": 0.004,
                "maxLeverage": 10,
                "maintAmt": 0.0,
            }
        ]
    }
    return exchange


def check_backtest(pair: str, mode: str) -> None:
    """Hold a position between two candles: prices are those of the next opens, funding is paid."""
    side = {"price_side": "same", "use_order_book": False}
    config = {
        "exchange": {"name": "binance", "pair_whitelist": [pair], "pair_blacklist": []},
        "stake_currency": "USDT",
        "stake_amount": 1000,
        "dry_run": True,
        "dry_run_wallet": 10_000,
        "max_open_trades": 1,
        "timeframe": "1h",
        "timerange": "20250713-20250715",
        "datadir": DATA,
        "user_data_dir": FOLDER / "user_data",
        "dataformat_ohlcv": "feather",
        "dataformat_trades": "feather",
        "runmode": RunMode.BACKTEST,
        "strategy": "Holding",
        "strategy_path": str(Path(__file__).with_name("freqtrade_strategies")),
        "entry_pricing": side,
        "exit_pricing": side,
        "trading_mode": mode,
        "margin_mode": "isolated" if mode == "futures" else "",
        "export": "none",
        "fee": 0.0,
        "pairlists": [{"method": "StaticPairList"}],
        "tradable_balance_ratio": 0.99,
        "original_config": {},
    }
    backtest = Backtesting(config, exchange=offline(config, pair))
    [strategy] = backtest.strategylist
    backtest.backtest_one_strategy(strategy, *backtest.load_bt_data())
    trades = backtest.all_bt_content["Holding"]["results"]
    [trade] = trades.to_dict("records")
    opens = by_time(f"{pair} 1h {mode}", "open_time", "open")
    hour = 3_600_000
    enters, exits = (
        int(datetime.fromisoformat(signal).timestamp()) * 1000 + hour
        for signal in (strategy.enter_at, strategy.exit_at)
    )
    assert trade["open_date"].timestamp() * 1000 == enters
    assert trade["close_date"].timestamp() * 1000 == exits
    assert (trade["open_rate"], trade["close_rate"]) == (opens[enters], opens[exits])
    paid = 0.0
    if mode == "futures":
        marks = by_time(f"{pair} 1h mark", "open_time", "open")
        rates = by_time(f"{pair} 1h funding_rate", "calc_time", "last_funding_rate")
        due = [time for time in rates if enters <= time // hour * hour <= exits]
        assert len(due) == 4
        paid = -trade["amount"] * sum(marks[time // hour * hour] * rates[time] for time in due)
    assert math.isclose(trade["funding_fees"], paid, rel_tol=1e-9), (trade["funding_fees"], paid)
    print(
        f"  backtest of {pair}: entered and left at the open after each signal; funding {paid:.6f}"
    )


def by_time(name: str, times: str, values: str) -> dict[int, float]:
    return dict(zip(EXPECTED[name][times], EXPECTED[name][values], strict=True))


print(f"  freqtrade {freqtrade.__version__}")
(FOLDER / "user_data").mkdir()
names = listed("spot") | listed("futures")
assert names == set(EXPECTED), names ^ set(EXPECTED)
print(f"  list-data: {len(names)} of {len(EXPECTED)} files")
for stream, rows in EXPECTED.items():
    check_candles(stream, rows)
for future in ("BTC/USDT:USDT", "ETH/USDT:USDT"):
    check_funding(future)
check_backtest("BTC/USDT", "spot")
check_backtest("BTC/USDT:USDT", "futures")
