"""What stands beside an exported file, and which candles are covered."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.export.gap_check import check_gaps
from binance_archive_kit.export.sidecar import StreamCoverage
from binance_archive_kit.query.engine import Engine
from tests.support.planted import DAY, HOUR, at, every, plant
from tests.support.reports import hours
from tests.support.stores import kline

SECOND = "2025-07-02"


def judged(root: Path, symbol: str = "BTCUSDT", interval: Interval = Interval.H1) -> StreamCoverage:
    stream = Stream(Market.SPOT, DataType.KLINES, symbol, interval)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bak.ArchiveKitWarning)
        return check_gaps(Engine(root), [stream], on_gap="mark")[stream]


@pytest.fixture
def gappy(tmp_path: Path) -> StreamCoverage:
    """Two days, without two hours of the second, and with one twice."""
    plant(tmp_path, kline("BTCUSDT", "2025-07-01"), hours("2025-07-01"))
    plant(tmp_path, kline("BTCUSDT", SECOND), [*hours(SECOND, 5, 6), at(f"{SECOND} 23:00")])
    return judged(tmp_path)


def test_the_dictionary_is_what_json_gives_back(gappy: StreamCoverage, tmp_path: Path) -> None:
    path = tmp_path / "BTC_USDT-1h.feather.coverage.json"
    gappy.write(path, rows=46)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found == {**gappy.to_dict(46), "checked_at": found["checked_at"]}
    assert found.pop("checked_at").endswith("+00:00")
    assert found.pop("findings")[0].items() >= {
        "kind": "duplicate", "rows": 1, "blocks": False, "explained": False,
    }.items()  # fmt: skip
    sources = found.pop("sources")
    assert [Path(source["path"]).name for source in sources] == [
        "BTCUSDT-1h-2025-07-01.zip",
        "BTCUSDT-1h-2025-07-02.zip",
    ]
    assert {source["sha256"] for source in sources} == {None}
    assert found == {
        "stream": {
            "market": "spot", "data_type": "klines", "symbol": "BTCUSDT", "interval": "1h",
        },
        "start": "2025-07-01T00:00:00+00:00",
        "end": "2025-07-03T00:00:00+00:00",
        "verdict": "Incomplete: 95.83 % of the rows due are present (46 of 48); 1 hole (2 rows); "
        "flaws: 1 repeated row",
        "complete": False,
        "coverage": 46 / 48,
        "expected_rows": 48,
        "present_rows": 46,
        "rows": 46,
        "gaps": [
            {
                "start": "2025-07-02T05:00:00+00:00",
                "end": "2025-07-02T07:00:00+00:00",
                "missing": 2,
                "kind": "hole",
                "evidence": "BTCUSDT-1h-2025-07-02.zip has rows before and after",
                "blocks": True,
            }
        ],
        "changes": [],
        "version": bak.__version__,
    }  # fmt: skip


def test_a_file_and_what_stands_beside_it_appear_whole(
    gappy: StreamCoverage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged, path = tmp_path / "staged.tmp", tmp_path / "a.feather"
    beside = tmp_path / "a.feather.coverage.json"
    staged.write_text("first")
    gappy.put(staged, path, 1)
    assert path.read_text() == "first"
    assert json.loads(beside.read_text())["rows"] == 1
    staged.write_text("second")
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target == beside:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        gappy.put(staged, path, 2)
    # No file has the description of another one.
    assert path.read_text() == "second"
    assert not beside.exists()


def frame(times: list[int]) -> pl.Series:
    return pl.Series("open_time", times, pl.Int64).cast(pl.Datetime("us", "UTC"))


def test_the_first_candle_after_a_gap_is_not_covered(gappy: StreamCoverage) -> None:
    times = [*hours("2025-07-01"), *hours(SECOND, 5, 6)]
    covered = gappy.covered(frame(times))
    assert (covered.name, covered.dtype) == ("covered", pl.Boolean)
    uncovered = [time for time, yes in zip(times, covered, strict=True) if not yes]
    assert uncovered == [at(f"{SECOND} 07:00")]


def test_a_halt_is_no_exception(tmp_path: Path) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        plant(tmp_path, kline(symbol, SECOND), hours(SECOND, 5, 6))
    found = judged(tmp_path)
    assert found.gaps["kind"].to_list() == ["halt"]
    assert not found.blocks
    assert found.covered(frame(hours(SECOND, 5, 6))).to_list().count(False) == 1


def test_the_very_first_candle_is_covered(gappy: StreamCoverage) -> None:
    assert gappy.covered(frame(hours(SECOND)[7:9])).to_list() == [True, True]
    assert gappy.covered(frame([])).to_list() == []


@pytest.mark.parametrize(
    ("interval", "times", "covered"),
    [
        (
            "1mo",
            ["2025-01-01", "2025-02-01", "2025-03-01", "2025-05-01"],
            [True, True, True, False],
        ),
        ("1w", ["2025-06-30", "2025-07-07", "2025-07-21"], [True, True, False]),
    ],
)
def test_long_candles_follow_their_own_steps(
    tmp_path: Path, interval: str, times: list[str], covered: list[bool]
) -> None:
    for time in times:
        plant(tmp_path, kline("BTCUSDT", time[:7], interval), [at(time)])
    found = judged(tmp_path, interval=Interval(interval))
    assert found.covered(frame([*map(at, times)])).to_list() == covered


def test_the_name_of_any_symbol_is_kept(tmp_path: Path) -> None:
    plant(tmp_path, kline("币安人生USDT", SECOND), hours(SECOND))
    found = judged(tmp_path, "币安人生USDT")
    path = tmp_path / "a.json"
    found.write(path)
    assert "币安人生USDT" in path.read_text(encoding="utf-8")
    assert found.describe() == (
        "spot klines 币安人生USDT 1h, 2025-07-02 to 2025-07-02: "
        "Complete: 100 % of the rows due are present (24 of 24)"
    )


def test_known_changes_of_a_symbol_are_named(tmp_path: Path) -> None:
    days = every(DAY, "2022-05-12", "2022-06-02")
    for day in days:
        name = str(pl.Series([day]).cast(pl.Datetime("us")).dt.date().item())
        plant(tmp_path, kline("LUNAUSDT", name), every(HOUR, name, f"{name} 23:59"))
    found = judged(tmp_path, "LUNAUSDT")
    assert found.changes
    assert found.changes[0] in found.describe()
    assert found.to_dict()["changes"] == [*found.changes]
