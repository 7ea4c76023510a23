"""What is exported for each tool, and what it must find again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
from polars import selectors as cs

import binance_archive_kit as bak

ROOT = Path(__file__).parents[2]
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
MARKETS = {"spot": SYMBOLS, "futures_um": SYMBOLS, "futures_cm": ["BTCUSD_PERP", "ETHUSD_PERP"]}
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
        markets=list(MARKETS),
        symbols=MARKETS,
        data_types=["klines", "markPriceKlines", "fundingRate", "trades"],
        intervals={"klines": ["1m", "1h", "1d"], "markPriceKlines": ["1h"]},
        start=START,
        end=END,
        output_directory=str(folder),
        endpoint_url=endpoint,
    ).raise_for_failures()
    return folder


def expect(folder: Path, frames: dict[str, pl.DataFrame], **more: object) -> None:
    """Write rows that a check compares with, as JSON: names to columns, times in milliseconds.

    Each name has what is in `more`, too. Decimals are text.
    """
    columns = {
        name: frame.with_columns(
            pl.col(pl.Datetime).dt.epoch("ms"), cs.decimal().cast(pl.String)
        ).to_dict(as_series=False)
        | more
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


def _pandas(store: Path, folder: Path) -> None:
    """Let a check call `to_pandas` itself; the streams are named by market, symbol, interval."""
    (folder / "store").symlink_to(store)
    days = {"start": START, "end": END}
    expected = {
        f"{market} {symbol} {interval}": bak.load_klines(
            store, symbol, interval, market=market, **days
        )
        for market in ("spot", "futures_um")
        for symbol in SYMBOLS
        for interval in ("1m", "1h", "1d")
    }
    expect(folder, expected, days=days)


def _nautilus(store: Path, folder: Path) -> None:
    """Let a check call `to_nautilus` itself, and compare decimals."""
    (folder / "store").symlink_to(store)
    days = {"start": START, "end": END}
    exact = bak.store(store, decimals=True)
    expected = {}
    for market, symbols in MARKETS.items():
        for symbol in symbols:
            for interval in ("1m", "1h", "1d"):
                candles = bak.load_klines(exact, symbol, interval, market=market, **days)
                expected[f"{market} {symbol} {interval}"] = candles
            trades = bak.scan(exact, market, "trades", symbols=symbol, **days)
            trades = trades.select("id", "price", "qty", "time", "is_buyer_maker")
            nanoseconds = pl.col("time").dt.epoch("ns").alias("nanoseconds")
            expected[f"{market} {symbol} trades"] = trades.with_columns(nanoseconds).collect()
    expect(folder, expected, days=days)


def _ours(extra: str) -> tuple[str, ...]:
    """Require this package, as it is, for exports that are made in memory or by the tool."""
    return "-e", f"{ROOT}[{extra}]"


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("freqtrade", ("freqtrade",), _freqtrade),
        Tool("backtesting", (*_ours("pandas"), "backtesting"), _pandas),
        Tool("vectorbt", (*_ours("pandas"), "vectorbt"), _pandas),
        Tool("backtrader", (*_ours("pandas"), "backtrader"), _pandas),
        Tool("mplfinance", (*_ours("pandas"), "mplfinance"), _pandas),
        Tool("zipline", (*_ours("pandas"), "zipline-reloaded"), _pandas),
        Tool("nautilus", _ours("nautilus"), _nautilus, ("python3.12", "python3.13")),
    )
}
