"""Hold several symbols of `to_pandas` in a portfolio of vectorbt."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import vectorbt as vbt

import binance_archive_kit as bak

FOLDER = Path(sys.argv[1])
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
PRICES = ["open", "high", "low", "close", "volume"]

for name, rows in EXPECTED.items():
    market, symbol, interval = name.split()
    how = {"market": market, **rows["days"]}
    frame = bak.to_pandas(FOLDER / "store", symbol, interval, "vectorbt", **how)
    candles = frame.vbt.ohlcv(freq=interval)
    assert str(candles.close.index.tz) == "UTC"
    assert candles.close.index.as_unit("ms").astype("int64").tolist() == rows["open_time"], name
    for price in PRICES:
        assert getattr(candles, price).tolist() == rows[price], (name, price)
    other = "ETHUSDT" if symbol == "BTCUSDT" else "BTCUSDT"
    wide = bak.to_pandas(FOLDER / "store", [symbol, other], interval, "vectorbt", **how)
    held = vbt.Portfolio.from_holding(wide["Close"], freq=interval)
    close = rows["close"]
    # The position is bought at the first close.
    assert abs(held.total_return()[symbol] - (close[-1] / close[0] - 1)) < 1e-12, name
    assert list(held.total_return().index) == [symbol, other]
    print(f"  {name}: {len(close):,} candles, each equal; {held.total_return()[symbol]:.4%} held")
print(f"  vectorbt {vbt.__version__}")
