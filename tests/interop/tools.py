"""What is exported for each tool, and what it must find again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl

import binance_archive_kit as bak

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
#: Days of the demo archive without any flaw of these streams.
START, END = "2025-07-10", "2025-07-14"


class Tool(NamedTuple):
    """A tool that loads exports.

    Attributes
    ----------
    name : str
        ``check_<name>.py`` beside this module loads the export: a script that is run by the
        interpreter of the tool's environment, with the folder as its argument. It prints what it
        has loaded, and fails otherwise.
    requirements : tuple of str
        As for pip.
    export : callable
        Takes the folder of the store, and an empty one; writes there what the check needs.
    pythons : tuple of str
        Interpreters, the first that can install the tool is taken.
    """

    name: str
    requirements: tuple[str, ...]
    export: Callable[[Path, Path], None]
    pythons: tuple[str, ...] = ("python3.12", "python3.11", "python3.13")


def collect_demo(folder: Path, endpoint: str) -> Path:
    """Collect what the exports need from the demo archive."""
    bak.collect(
        markets=["spot", "futures_um"],
        symbols=SYMBOLS,
        data_types=["klines", "markPriceKlines", "fundingRate", "trades"],
        intervals={"klines": ["1m", "1h", "1d"], "markPriceKlines": ["1h"]},
        start=START,
        end=END,
        output_directory=str(folder),
        endpoint_url=endpoint,
    ).raise_for_failures()
    return folder


def expect(folder: Path, frames: dict[str, pl.DataFrame]) -> None:
    """Write rows that a check compares with, as JSON: names to columns, times in milliseconds."""
    columns = {
        name: frame.with_columns(pl.col(pl.Datetime).dt.epoch("ms")).to_dict(as_series=False)
        for name, frame in frames.items()
    }
    text = json.dumps(columns, ensure_ascii=False)
    (folder / "expected.json").write_text(text, encoding="utf-8")


def _freqtrade(store: Path, folder: Path) -> None:
    """Export to freqtrade; the streams are named by pair, timeframe and type of candle."""
    days = {"start": START, "end": END}
    expected = {}
    for market, suffix, kind in (("spot", "", "spot"), ("futures_um", ":USDT", "futures")):
        bak.to_freqtrade(store, folder / "data", market=market, **days)
        for symbol in SYMBOLS:
            pair = f"{symbol.removesuffix('USDT')}/USDT{suffix}"
            for interval in ("1m", "1h", "1d"):
                candles = bak.load_klines(store, symbol, interval, market=market, **days)
                expected[f"{pair} {interval} {kind}"] = candles
    for symbol in SYMBOLS:
        pair = f"{symbol.removesuffix('USDT')}/USDT:USDT"
        expected[f"{pair} 1h mark"] = bak.load_klines(
            store, symbol, "1h", market="futures_um", data_type="markPriceKlines", **days
        )
        funding = bak.scan(store, "futures_um", "fundingRate", symbols=symbol, **days).collect()
        expected[f"{pair} 1h funding_rate"] = funding.select("calc_time", "last_funding_rate")
    expect(folder, expected)


TOOLS = {tool.name: tool for tool in (Tool("freqtrade", ("freqtrade",), _freqtrade),)}
