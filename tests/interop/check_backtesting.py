"""Run a strategy of backtesting.py on candles of `to_pandas`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import backtesting
import pandas as pd

import binance_archive_kit as bak

FOLDER = Path(sys.argv[1])
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
SEEN: list[tuple[int, float]] = []


class BuyOnce(backtesting.Strategy):
    """Remember each candle, and buy at the first one."""

    def init(self) -> None:
        pass

    def next(self) -> None:
        SEEN.append((self.data.index[-1].value // 10**6, self.data.Close[-1]))
        if not self.position:
            self.buy(size=1)


for name, rows in EXPECTED.items():
    market, symbol, interval = name.split()
    frame = bak.to_pandas(FOLDER / "store", symbol, interval, market=market, **rows["days"])
    SEEN.clear()
    stats = backtesting.Backtest(frame, BuyOnce, cash=10**7, finalize_trades=True).run()
    # The first call is at the second candle.
    expected = list(zip(rows["open_time"], rows["close"], strict=True))
    assert expected[1:] == SEEN, name
    # The order of the second candle is filled at the open of the third.
    assert stats["_trades"]["EntryPrice"].tolist() == [rows["open"][2]], name
    assert stats["_trades"]["EntryTime"].tolist() == [pd.Timestamp(rows["open_time"][2], unit="ms")]
    assert frame["Volume"].tolist() == rows["volume"], name
    print(f"  {name}: {len(SEEN):,} calls with the right candle, 1 trade")
print(f"  backtesting.py {backtesting.__version__}")
