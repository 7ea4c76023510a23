"""Draw candles of `to_pandas` with mplfinance."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl
import mplfinance as mpf
from matplotlib.dates import num2date

import binance_archive_kit as bak

mpl.use("agg")
FOLDER = Path(sys.argv[1])
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
#: mplfinance warns of more candles.
MOST = 500

for name, rows in EXPECTED.items():
    market, symbol, interval = name.split()
    frame = bak.to_pandas(
        FOLDER / "store", symbol, interval, "mplfinance", market=market, **rows["days"]
    )
    how = {"volume": True, "show_nontrading": True, "returnfig": True}
    _, axes = mpf.plot(frame, type="line", warn_too_much_data=10**9, **how)
    [line] = axes[0].get_lines()
    times = [round(num2date(x).timestamp() * 1_000, -3) for x in line.get_xdata()]
    assert times == rows["open_time"], name
    assert line.get_ydata().tolist() == rows["close"], name
    bars = [bar.get_height() for bar in axes[2].patches]
    assert bars == rows["volume"], name
    path = FOLDER / f"{interval}.png"
    mpf.plot(frame.tail(MOST), type="candle", volume=True, savefig=path)
    assert path.stat().st_size > 10_000
    print(f"  {name}: {len(times):,} points, each equal; {path.name}")
print(f"  mplfinance {mpf.__version__}")
