"""Every public function, called on a store with all it needs; and what it may raise.

Used with stores, disks, servers and programs that are not as they should be: each call has to give
an answer, or an error of the package that says what to do.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from matplotlib import pyplot

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.cli.main import main
from tests.support.bucket import Bucket, with_sidecars
from tests.support.dialects import zip_of
from tests.support.planted import HOUR, MINUTE, csv_at, every
from tests.support.stores import kline, other

DAYS = ("2025-07-01", "2025-07-02", "2025-07-03")
_COIN = "BTCUSDT"
_FUNDING = "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"


def archive() -> Bucket:
    """Return an archive with a few files for each of the calls."""
    times: dict[ObjectKey, list[int]] = {}
    for day in DAYS:
        start, end = f"{day} 00:00", f"{day} 23:59"
        for market in ("spot", "futures/um"):
            for symbol in (_COIN, "ETHUSDT"):
                times[kline(symbol, day, market=market)] = every(HOUR, start, end)
        times[other("aggTrades", _COIN, day, market="spot")] = every(10 * MINUTE, start, end)
        times[other("metrics", _COIN, day)] = every(5 * MINUTE, start, end)
    times[ObjectKey.parse(_FUNDING)] = every(8 * HOUR, "2025-07-01 00:00", "2025-08-01 00:00")
    return with_sidecars({str(key): zip_of(key, csv_at(key, its)) for key, its in times.items()})


@dataclass(frozen=True)
class Calls:
    """The calls on one store.

    Attributes
    ----------
    url : str
        Of the archive.
    store : Path or str
    target : Path
        A folder for what is written elsewhere.
    """

    url: str
    store: Path | str
    target: Path

    def config(self, **changes: Any) -> bak.CollectionConfig:
        fields: dict[str, Any] = {
            "markets": ["spot", "futures_um"],
            "symbols": [_COIN, "ETHUSDT"],
            "data_types": ["klines", "fundingRate", "metrics", "aggTrades"],
            "intervals": {"klines": ["1h"]},
            "date_range": {"start": DAYS[0], "end": DAYS[-1]},
            "output_directory": self.store,
            "endpoint_url": self.url,
            "s5cmd_extra_args": ["--retry-count=1"],
            "timeout_seconds": 5,
        }
        return bak.CollectionConfig(**fields | changes)

    def prepare(self) -> None:
        """Collect the archive, and leave everything behind that later calls may meet."""
        self.run(lambda: bak.collect(self.config()), strictly=True)
        bak.store(self.store).build()
        bak.coverage(self.store)

    def reading(self) -> dict[str, Callable[[], object]]:
        """Return the calls that need no archive, by the names of the public functions."""
        s, t = self.store, self.target
        moment = pl.DataFrame({"open_time": [datetime(2025, 7, 2, tzinfo=UTC)]})

        def show_store() -> object:
            opened = bak.store(s)
            parts = opened["spot"]["klines"]
            shown = repr(opened), opened._repr_html_(), opened.problems_frame(), parts.frame()
            return shown, opened.cache.use(), opened.last_scan_frame(), parts.scan().collect()

        def report() -> object:
            found = bak.coverage(s)
            found.to_html(t / "report.html")
            return found.plot(), found.to_frame(), found.to_markdown(), found.verdict

        def joined() -> object:
            return bak.join_known(moment, s, "spot", "klines", symbol=_COIN, interval="1h")

        def connected() -> object:
            with bak.connect(s) as connection:
                try:
                    return connection.sql("SELECT count(*) FROM spot_klines").fetchall()
                except duckdb.Error as error:  # documented: a connection is DuckDB's own
                    return error

        calls: dict[str, Callable[[], object]] = {
            "store": show_store,
            "OpenStore.build": lambda: bak.store(s).build("spot", "aggTrades"),
            "OpenStore.skipped": lambda: isinstance(s, Path) and bak.store(s).skipped(),
            "connect": connected,
            "connect database": lambda: bak.connect(s, database=t / "own.duckdb").close(),
            "sql": lambda: bak.sql(s, "SELECT symbol, max(close) FROM spot_klines GROUP BY ALL"),
            "sql streams": lambda: bak.sql(s, "SELECT * FROM store_streams"),
            "scan": lambda: bak.scan(s, "spot", "klines").collect(),
            "scan skip": lambda: bak.scan(s, "spot", "klines", on_error="skip").collect(),
            "scan zips": lambda: bak.scan(s, "spot", "klines", cache=False).collect(),
            "load_klines": lambda: bak.load_klines(s, _COIN, "1h"),
            "ohlcv": lambda: bak.ohlcv(s, _COIN, "4h"),
            "klines_with_funding": lambda: bak.klines_with_funding(s, _COIN, "1h"),
            "klines_with_derivatives": lambda: bak.klines_with_derivatives(
                s, _COIN, "1h", data_types=["metrics", "fundingRate"]
            ),
            "basis": lambda: bak.basis(s, _COIN, "1h"),
            "volume_bars": lambda: bak.volume_bars(s, _COIN, 10),
            "dollar_bars": lambda: bak.dollar_bars(s, _COIN, 10),
            "forward_returns": lambda: bak.forward_returns(s, "2h", _COIN, "1h"),
            "join_known": joined,
            "panel": lambda: bak.panel(s, "spot", "1h", "close", min_coverage=0.5),
            "candles": lambda: bak.candles(s, _COIN, "1h"),
            "coverage": report,
            "backtest_coverage": lambda: bak.backtest_coverage(s).verdict,
            "verify": lambda: repr(bak.verify(s)),
            "verify sample": lambda: repr(bak.verify(s, sample=2)),
            "prune": lambda: repr(bak.prune(s, data_type="klines", end=DAYS[0])),
            "to_parquet": lambda: repr(bak.to_parquet(s, t / "lake")),
            "to_freqtrade": lambda: repr(bak.to_freqtrade(s, t / "freqtrade", on_gap="warn")),
            "to_pandas": lambda: bak.to_pandas(s, _COIN, "1h", on_gap="warn"),
        }
        for name, words in {
            "verify": (),
            "coverage": ("--html", str(t / "page.html")),
            "sql": ("SELECT count(*) FROM spot_klines",),
            "build": (),
            "export": (str(t / "exported"),),
            "cache": (),
        }.items():
            calls[f"$ {name}"] = lambda name=name, words=words: command(name, str(s), *words)
        return calls

    def asking(self) -> dict[str, Callable[[], object]]:
        """Return the calls that ask the archive."""
        s, url = self.store, self.url
        chosen = ("--markets", "spot", "--symbols", _COIN, "--data-types", "klines")
        chosen += ("--intervals", "1h", "--start", DAYS[0], "--end", DAYS[-1])
        chosen += ("--output-directory", str(s), "--endpoint-url", url, "--timeout-seconds", "5")

        def collected(**changes: Any) -> object:
            result = bak.collect(self.config(**changes))
            return result.objects(), result.plot(), result.to_markdown(), result.output_files

        def planned() -> object:
            plan = bak.plan(self.config())
            return repr(plan), plan._repr_html_(), plan.frame

        return {
            "plan": planned,
            "aplan": lambda: asyncio.run(bak.aplan(self.config())),
            "collect": collected,
            "collect again": lambda: collected(force_redownload=True),
            "collect singly": lambda: collected(force_redownload=True, enable_batch_mode=False),
            "collect unlisted": lambda: collected(force_redownload=True, listing=False),
            "acollect": lambda: asyncio.run(bak.acollect(self.config())),
            "update": lambda: bak.update(s, end=DAYS[-1], endpoint_url=url),
            "update plan": lambda: bak.update(s, end=DAYS[-1], endpoint_url=url, dry_run=True),
            "verify archive": lambda: repr(bak.verify(s, archive=True, endpoint_url=url)),
            "coverage of a plan": lambda: bak.coverage(self.config()).verdict,
            "universe": lambda: bak.universe(
                "spot", "klines", interval="1h", endpoint_url=url, timeout_seconds=5
            ),
            "shards": lambda: list(bak.shards(self.config(symbols="*"))),
            "$ plan": lambda: command("plan", *chosen),
            "$ collect": lambda: command("collect", *chosen),
            "$ update": lambda: command("update", str(s), "--endpoint-url", url),
            "$ symbols": lambda: command("symbols", "spot", "--endpoint-url", url),
        }

    def run(self, call: Callable[[], object], *, strictly: bool = False) -> object:
        """Call a function; return its answer, or the package's error, which has to help."""
        with warnings.catch_warnings():
            warnings.simplefilter("error" if strictly else "ignore")
            try:
                return call()
            except bak.ArchiveKitError as raised:
                if strictly:
                    raise
                error = raised
            finally:
                pyplot.close("all")
        # What is wrong, and what to do.
        text = str(error)
        assert len(text) > 30, error
        assert re.search("[:;] ", text), error
        return error


def command(*arguments: str) -> int:
    """Run the command line in this process; return its exit code."""
    before = sys.stdout, sys.stderr
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in before]
    sys.stdout, sys.stderr = streams
    try:
        code = main(arguments)
    finally:
        sys.stdout, sys.stderr = before
    streams[1].flush()
    said = streams[1].buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "Traceback" not in said, said
    assert code in (0, 1, 2, 3, 4), code
    assert code in (0, 3, 4) or said.startswith("binance-archive: ") or code == 1, said
    return code
