"""Exports of the demo archive judge each stream as a report on the whole store does."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.export.gap_check import check_gaps
from binance_archive_kit.quality.expected import Expected
from binance_archive_kit.quality.timeline import STREAM_FIELDS, stream_values
from binance_archive_kit.query.engine import Engine


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "store"
    with bak.demo_archive() as endpoint:
        bak.collect(bak.demo_config(endpoint, root))
    return root


def of_stream(frame: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    values = zip(STREAM_FIELDS, stream_values(stream), strict=True)
    return frame.filter(
        pl.col(name).cast(pl.String).eq_missing(pl.lit(value and str(value)))
        for name, value in values
    )


def test_each_stream_alone_is_judged_as_in_the_report_on_all(demo: Path) -> None:
    report = bak.coverage(demo)
    engine = Engine(demo)
    streams = list(Expected.of_folder(engine, (None, None)).streams)
    assert len(streams) == report.streams.height > 50
    blocked = set()
    for stream in streams:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bak.ArchiveKitWarning)
            found = check_gaps(engine, [stream], on_gap="warn")[stream]
        row = of_stream(report.streams, stream).row(0, named=True)
        assert (found.expected, found.present) == (row["expected"], row["present"]), stream
        assert found.verdict.coverage == row["coverage"], stream
        assert found.gaps.equals(of_stream(report.gaps, stream)), stream
        findings = of_stream(report.findings, stream)
        assert found.findings.sort(pl.all()).equals(findings.sort(pl.all())), stream
        if found.blocks:
            blocked.add(str(stream))
    # What is planted in the demo archive, and no halt.
    assert blocked == {
        "spot klines ETHUSDT 1m",
        "futures_um klines ETHUSDT 1h",
        "futures_um metrics ETHUSDT",
        "options BVOLIndex BTCBVOLUSDT",
    }


def test_a_halt_is_told_and_a_missing_file_blocks(demo: Path, tmp_path: Path) -> None:
    with pytest.warns(bak.ArchiveKitWarning, match=r"1 halt \(2 rows\)"):
        result = bak.to_freqtrade(demo, tmp_path / "spot", intervals="1h")
    beside = tmp_path / "spot" / "BTC_USDT-1h.feather.coverage.json"
    [gap] = json.loads(beside.read_text(encoding="utf-8"))["gaps"]
    assert (gap["start"], gap["end"]) == ("2025-06-24T02:00:00+00:00", "2025-06-24T04:00:00+00:00")
    assert (gap["kind"], gap["blocks"]) == ("halt", False)
    assert not result.is_complete
    with pytest.raises(bak.CoverageError, match=r"futures_um klines ETHUSDT 1h.*missing in arch"):
        bak.to_freqtrade(demo, tmp_path / "um", market="futures_um", intervals="1h")
    assert not (tmp_path / "um").exists()
