"""Run a strategy of backtrader on candles of `to_pandas`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, timedelta
from pathlib import Path

import backtrader as bt

import binance_archive_kit as bak

FOLDER = Path(sys.argv[1])
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
LENGTHS = {"1m": (bt.TimeFrame.Minutes, 1), "1h": (bt.TimeFrame.Minutes, 60)}
LENGTHS["1d"] = (bt.TimeFrame.Days, 1)
PRICES = ["open", "high", "low", "close", "volume"]


class BuyOnce(bt.Strategy):
    """Remember each candle, and buy at the first one."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.values: list[list[float]] = []
        self.filled: list[tuple[int, float]] = []

    def next(self) -> None:
        # Times are days in floating point: the last microseconds are not exact.
        time = self.data.datetime.datetime(0).replace(tzinfo=UTC) + timedelta(milliseconds=500)
        self.times.append(int(time.timestamp()) * 1_000)
        self.values.append([getattr(self.data, name)[0] for name in PRICES])
        if len(self) == 1:
            self.buy(size=1)

    def notify_order(self, order: bt.Order) -> None:
        if order.status == order.Completed:
            self.filled.append((len(self), order.executed.price))


for name, rows in EXPECTED.items():
    market, symbol, interval = name.split()
    frame = bak.to_pandas(
        FOLDER / "store", symbol, interval, "backtrader", market=market, **rows["days"]
    )
    timeframe, compression = LENGTHS[interval]
    cerebro = bt.Cerebro()
    cerebro.adddata(
        bt.feeds.PandasData(dataname=frame, timeframe=timeframe, compression=compression)
    )
    cerebro.addstrategy(BuyOnce)
    cerebro.broker.setcash(10**7)
    [strategy] = cerebro.run()
    assert strategy.times == rows["open_time"], name
    assert strategy.values == [list(row) for row in zip(*map(rows.get, PRICES), strict=True)], name
    # The order of the first candle is filled at the open of the second.
    assert strategy.filled == [(2, rows["open"][1])], name
    print(f"  {name}: {len(strategy.times):,} calls with the right candle, 1 order")
print(f"  backtrader {bt.__version__}")
