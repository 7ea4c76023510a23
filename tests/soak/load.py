"""Collect, verify, report on and query 100,000 objects, and plan 1,000,000, again and again.

Five rounds in one process. Prints for each part its time, the most memory and the most open files,
and after each round what the process still holds, which must not grow. Each answer is compared
with an independent count of the archive's files.
"""

from __future__ import annotations

import csv
import gc
import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

import binance_archive_kit as bak
from tests.benchmarks import market_online
from tests.benchmarks.market_files import MANY, Candles, candles
from tests.support import listed_archive
from tests.support.resources import (
    Held,
    Watch,
    grown,
    kinds_of,
    release_memory,
    settled,
    without_reserves,
)

SECONDS = 1800.0
ROUNDS = 5
#: Symbols that are planned: a million objects, and how many keys a page of their listing has.
_PLANNED, _PAGE = 275, 200
#: What the process may hold more after each round, from the second one on, in MB.
_GROWTH = 8.0
_SQL = """
    SELECT count(*) AS rows, count(DISTINCT symbol) AS symbols, sum("count")::BIGINT AS trades,
        max(high) AS high
    FROM spot_klines
"""


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    without_reserves()
    share = min(1.0, seconds / SECONDS)
    wanted = replace(MANY, symbols=max(8, round(MANY.symbols * share)))
    archive = candles(folder / "archive", wanted)
    truth = _count(archive, folder / "truth.json")
    planned = max(3, round(_PLANNED * share))
    floors: list[Held] = []
    kinds: Counter[str] = Counter()
    with (
        market_online.serving("many", archive, 0) as url,
        listed_archive.serving(planned, _PAGE) as listing,
    ):
        for at in range(ROUNDS):
            store = folder / f"store{at}"
            shutil.rmtree(store, ignore_errors=True)
            work = _Round(store, url, listing, wanted, planned, truth)
            for name in _Round.PARTS:
                with Watch() as watch:
                    amount = getattr(work, name)()
                release_memory()
                yield f"round {at + 1}: {name:<8} {amount:>22}: {watch}; holds {Held.now()}"
            del work
            shutil.rmtree(store)
            floors.append(settled(floors[0]) if floors else Held.now())
            now = kinds_of(gc.get_objects())
            yield f"round {at + 1}: holds {floors[-1]}; {grown(kinds, now) if kinds else ''}"
            kinds = now
            if at:
                assert not floors[-1].more_than(floors[0]), floors[-1].more_than(floors[0])
    growth = (floors[-1].memory - floors[1].memory) / (ROUNDS - 2)
    held = ", ".join(f"{each.memory:,.0f}" for each in floors)
    yield f"{wanted.files:,} objects, {ROUNDS} rounds; holds {held} MB: {growth:+.1f} MB a round"
    assert growth <= _GROWTH, f"the process holds {growth:.1f} MB more after each round"


class _Round:
    """The parts of a round; each returns the amount of its work, and checks its result."""

    PARTS = ("collect", "again", "verify", "report", "query", "requery", "scan", "plan", "list")

    def __init__(
        self,
        store: Path,
        url: str,
        listing: str,
        wanted: Candles,
        planned: int,
        truth: dict[str, Any],
    ) -> None:
        self._store = store
        self._fields = market_online.fields("many", url, str(store)) | {"symbols": wanted.names}
        self._listing = listing
        self._files = wanted.files
        self._planned = planned
        self._truth = truth

    def collect(self) -> str:
        result = bak.collect(**self._fields)
        assert result.outcome == "complete", result
        assert result.collection_stats["successful_tasks"] == self._files, result.collection_stats
        return f"{len(result.output_files):,} objects"

    def again(self) -> str:
        result = bak.collect(**self._fields)
        assert result.collection_stats["skipped_tasks"] == self._files, result.collection_stats
        return f"{len(result.output_files):,} objects"

    def verify(self) -> str:
        found = bak.verify(self._store)
        assert (found.proven, found.read, found.frame.height) == (self._files, self._files, 0)
        return f"{found.proven:,} objects"

    def report(self) -> str:
        report = bak.coverage(self._store)
        # Known defects of the archive are doubtful, also here; but no row is missing.
        due, present = (report.streams[name].sum() for name in ("expected", "present"))
        assert due == present == self._truth["rows"], report
        assert not report.problems, report
        return f"{report.streams['present'].sum():,} rows"

    def query(self) -> str:
        with closing(bak.connect(self._store)) as con:
            [found] = bak.sql(con, _SQL).iter_rows(named=True)
        assert found == self._truth, (found, self._truth)
        return f"{found['rows']:,} rows"

    requery = query

    def scan(self) -> str:
        frame = bak.scan(self._store, "spot", "klines", start=date(2021, 1, 1))
        [found] = (
            frame.select(rows=pl.len(), trades=pl.col("count").sum())
            .collect()
            .iter_rows(named=True)
        )
        assert 0 < found["rows"] < self._truth["rows"]
        return f"{found['rows']:,} rows"

    def plan(self) -> str:
        return self._plan("http://127.0.0.1:9", listing=False)

    def list(self) -> str:
        return self._plan(self._listing)

    def _plan(self, url: str, **more: Any) -> str:
        fields = listed_archive.fields(self._planned, url, str(self._store.parent / "none"), **more)
        plan = bak.plan(**fields)
        assert len(plan) == listed_archive.objects(self._planned), plan
        assert (plan.frame["action"] == "download").all(), plan
        return f"{len(plan):,} objects"


def _count(archive: Path, known: Path) -> dict[str, Any]:
    """Count the rows of all zips with the standard library alone."""
    if known.exists():
        return dict(json.loads(known.read_text()))
    rows = trades = 0
    high, symbols = 0.0, set()
    for path in archive.rglob("*.zip"):
        symbols.add(path.parts[-3])
        with zipfile.ZipFile(path) as file:
            text = file.read(file.namelist()[0]).decode()
        for cells in csv.reader(text.splitlines()):
            rows, trades, high = rows + 1, trades + int(cells[8]), max(high, float(cells[2]))
    found = {"rows": rows, "symbols": len(symbols), "trades": trades, "high": high}
    known.write_text(json.dumps(found))
    return found
