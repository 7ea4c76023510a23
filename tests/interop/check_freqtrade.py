"""List and load an export with freqtrade, and sum up funding as its backtest does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import freqtrade
from freqtrade.configuration import TimeRange
from freqtrade.data.history import load_data, load_pair_history
from freqtrade.enums import CandleType
from freqtrade.exchange import Exchange

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


print(f"  freqtrade {freqtrade.__version__}")
(FOLDER / "user_data").mkdir()
names = listed("spot") | listed("futures")
assert names == set(EXPECTED), names ^ set(EXPECTED)
print(f"  list-data: {len(names)} of {len(EXPECTED)} files")
for stream, rows in EXPECTED.items():
    check_candles(stream, rows)
for future in ("BTC/USDT:USDT", "ETH/USDT:USDT"):
    check_funding(future)
