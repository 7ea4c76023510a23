"""Ingest candles of `to_pandas` into a bundle of zipline, and run a strategy on it."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

import binance_archive_kit as bak

FOLDER = Path(sys.argv[1])
os.environ["ZIPLINE_ROOT"] = str(FOLDER / "zipline")

import zipline  # noqa: E402
from zipline.api import order, record, symbol  # noqa: E402
from zipline.data import bundles  # noqa: E402
from zipline.utils.calendar_utils import get_calendar  # noqa: E402

EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
PRICES = ["open", "high", "low", "close"]
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
#: Volumes are stored as whole numbers of this part of a coin.
VOLUMES = 1_000
ROWS = {
    interval: [EXPECTED[f"spot {name} {interval}"] for name in SYMBOLS] for interval in ("1m", "1d")
}
DAYS = ROWS["1d"][0]["days"]
START, END = pd.Timestamp(DAYS["start"]), pd.Timestamp(DAYS["end"])


def frames(interval: str) -> list[tuple[int, pd.DataFrame]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", bak.ArchiveKitWarning)
        found = bak.to_pandas(FOLDER / "store", SYMBOLS, interval, "zipline", **DAYS)
    # Every symbol has volumes that are not whole, and the user is told.
    assert sum("volumes are not whole" in str(each.message) for each in told) == len(SYMBOLS)
    return [
        (sid, found[name].assign(volume=(found[name]["volume"] * VOLUMES).round()))
        for sid, name in enumerate(SYMBOLS)
    ]


def ingest(
    environ: Any,
    asset_db_writer: Any,
    minute_bar_writer: Any,
    daily_bar_writer: Any,
    adjustment_writer: Any,
    *others: Any,
) -> None:
    assets = {"symbol": SYMBOLS, "start_date": START, "end_date": END, "exchange": "Binance"}
    assets["auto_close_date"] = END + pd.Timedelta(days=1)
    exchanges = pd.DataFrame({"exchange": ["Binance"], "country_code": ["US"]})
    asset_db_writer.write(equities=pd.DataFrame(assets), exchanges=exchanges)
    minute_bar_writer.write(frames("1m"))
    daily_bar_writer.write(frames("1d"))
    adjustment_writer.write()


def check(reader: Any, times: pd.DatetimeIndex, rows: list[dict[str, list[float]]]) -> None:
    """Compare what a bundle has of all assets with the rows of a store."""
    arrays = reader.load_raw_arrays([*PRICES, "volume"], times[0], times[-1], range(len(rows)))
    for array, name in zip(arrays, [*PRICES, "volume"], strict=True):
        for sid, columns in enumerate(rows):
            scale, places = (VOLUMES, 0) if name == "volume" else (1, 3)
            wanted = [round(value * scale, places) for value in columns[name]]
            assert [round(value, 3) for value in array[:, sid].tolist()] == wanted, (name, sid)


SEEN: list[tuple[pd.Timestamp, float]] = []


def handle_data(context: Any, data: Any) -> None:
    asset = symbol("BTCUSDT")
    SEEN.append((zipline.api.get_datetime(), data.current(asset, "close")))
    if len(SEEN) == 1:
        order(asset, 1)
    record(price=data.current(asset, "close"))


calendar = get_calendar("24/7")
bundles.register("demo", ingest, "24/7", START, END, minutes_per_day=1_440)
bundles.ingest("demo")
bundle = bundles.load("demo")

days = pd.DatetimeIndex(pd.to_datetime(ROWS["1d"][0]["open_time"], unit="ms"))
check(bundle.equity_daily_bar_reader, days, ROWS["1d"])
print(f"  days: {len(days)} of {len(SYMBOLS)} symbols, each equal")
# A minute is called by its end.
minutes = pd.to_datetime(ROWS["1m"][0]["open_time"], unit="ms", utc=True) + pd.Timedelta("1min")
check(bundle.equity_minute_bar_reader, minutes, ROWS["1m"])
print(f"  minutes: {len(minutes):,} of {len(SYMBOLS)} symbols, each equal")

zipline.run_algorithm(
    start=START,
    end=END,
    initialize=lambda context: None,
    handle_data=handle_data,
    capital_base=10**7,
    data_frequency="minute",
    bundle="demo",
    trading_calendar=calendar,
    benchmark_returns=pd.Series(0.0, index=pd.date_range(START, END, tz="UTC")),
)
closes = dict(zip(minutes, ROWS["1m"][0]["close"], strict=True))
assert len(SEEN) > 1_440
# At each minute, the close is that of the candle that has just ended.
assert all(abs(closes[time] - close) < 1e-3 for time, close in SEEN)
print(f"  {len(SEEN):,} calls with the right candle")
print(f"  zipline-reloaded {zipline.__version__}")
