"""Candles come as pandas frames, each in the shape that a tool expects."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    CoverageError,
    MissingExtraError,
)
from binance_archive_kit.export import pandas_frames
from tests.support.candles import DAY, MINUTE, at, day, file_of, line
from tests.support.stores import kline

pd = pytest.importorskip("pandas", reason="the pandas extra is not installed")

#: Lines of the halt in the second day of ZZBUSDT.
HALT = slice(3, 5)


def _halted(lines: list[str]) -> list[str]:
    return [*lines[: HALT.start], *lines[HALT.stop :]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("2025-07-01", "2025-07-02"):
        day(tmp_path, "QQAUSDT", name, "1h")
    day(tmp_path, "ZZBUSDT", "2025-07-01", "1h")
    day(tmp_path, "ZZBUSDT", "2025-07-02", "1h", edit=_halted)
    return tmp_path


def mapped(frame: Any) -> dict[str, list[Any]]:
    return {name: frame[name].tolist() for name in frame.columns}


TITLES = ["Open", "High", "Low", "Close", "Volume"]
LOWER = [name.lower() for name in TITLES]


@pytest.mark.parametrize(
    ("tool", "columns", "index_name", "zone"),
    [
        ("backtesting.py", TITLES, "open_time", None),
        ("mplfinance", TITLES, "Date", None),
        ("vectorbt", TITLES, "open_time", "UTC"),
        ("backtrader", LOWER, "open_time", None),
    ],
)
def test_each_tool_gets_its_columns_and_times(
    root: Path, tool: Any, columns: list[str], index_name: str, zone: str | None
) -> None:
    frame = bak.to_pandas(root, "QQAUSDT", "1h", tool)
    rows = bak.load_klines(root, "QQAUSDT", "1h")
    assert frame.columns.tolist() == columns
    assert mapped(frame) == {name: rows[name.lower()].to_list() for name in columns}
    assert (frame.dtypes == "float64").all()
    assert frame.index.name == index_name
    assert str(frame.index.tz) == str(zone)
    assert frame.index.dtype == (f"datetime64[ns, {zone}]" if zone else "datetime64[ns]")
    times = frame.index if zone else frame.index.tz_localize("UTC")
    assert times.to_pydatetime().tolist() == rows["open_time"].to_list()


def test_backtesting_is_the_usual_tool(root: Path) -> None:
    expected = bak.to_pandas(root, "QQAUSDT", "1h", "backtesting.py")
    pd.testing.assert_frame_equal(bak.to_pandas(root, "QQAUSDT", "1h"), expected)


def test_the_plain_frame_has_all_columns(root: Path) -> None:
    frame = bak.to_pandas(root, "QQAUSDT", "1h", "pandas", start="2025-07-02", end="2025-07-02")
    rows = bak.load_klines(root, "QQAUSDT", "1h", start="2025-07-02", end="2025-07-02")
    assert [frame.index.name, *frame.columns] == rows.columns
    assert frame["close"].tolist() == rows["close"].to_list()
    assert frame["count"].dtype == "int64"
    assert frame["close_time"].tolist() == rows["close_time"].to_list()


def test_days_are_whole_utc_days(root: Path) -> None:
    frame = bak.to_pandas(root, "QQAUSDT", "1h", start=date(2025, 7, 2), end="2025-07-02")
    assert (len(frame), str(frame.index[0])) == (24, "2025-07-02 00:00:00")
    with pytest.raises(ConfigurationError, match=r"start: .* has a time"):
        bak.to_pandas(root, "QQAUSDT", "1h", start=at("2025-07-02"))


def test_several_symbols_are_a_frame_each(root: Path) -> None:
    with pytest.raises(CoverageError, match="ZZBUSDT") as caught:
        bak.to_pandas(root, ["QQAUSDT", "ZZBUSDT"], "1h")
    assert 'frame.attrs["coverage"]' in str(caught.value)
    with pytest.warns(ArchiveKitWarning, match=r'see frame\.attrs\["coverage"\]: .*ZZBUSDT'):
        frames = bak.to_pandas(root, ["ZZBUSDT", "QQAUSDT"], "1h", on_gap="warn")
    assert list(frames) == ["ZZBUSDT", "QQAUSDT"]
    pd.testing.assert_frame_equal(frames["QQAUSDT"], bak.to_pandas(root, "QQAUSDT", "1h"))
    assert len(frames["ZZBUSDT"]) == 46
    assert list(bak.to_pandas(root, ["QQAUSDT"], "1h")) == ["QQAUSDT"]


def test_several_symbols_for_vectorbt_are_one_wide_frame(root: Path) -> None:
    with pytest.warns(ArchiveKitWarning):
        wide = bak.to_pandas(root, ["ZZBUSDT", "QQAUSDT"], "1h", "vectorbt", on_gap="mark")
    with pytest.warns(ArchiveKitWarning):
        single = bak.to_pandas(root, "ZZBUSDT", "1h", "vectorbt", on_gap="mark")
    assert wide.columns.names == ["column", "symbol"]
    assert wide["Close"].columns.tolist() == ["ZZBUSDT", "QQAUSDT"]
    assert len(wide) == 48
    gone = wide.index[24 + HALT.start : 24 + HALT.stop]
    assert wide["Close"]["ZZBUSDT"].isna().sum() == 2
    assert wide["Close"]["ZZBUSDT"][gone].isna().all()
    assert not wide["Close"]["QQAUSDT"].isna().any()
    assert wide["Close"]["ZZBUSDT"].dropna().tolist() == single["Close"].tolist()
    # A missing candle is not covered, nor is the first one after it.
    marks = wide["covered"]["ZZBUSDT"]
    assert marks.dtype == "bool"
    assert marks.index[~marks].tolist() == [*gone, wide.index[24 + HALT.stop]]
    assert set(wide.attrs["coverage"]) == {"QQAUSDT", "ZZBUSDT"}
    assert wide.attrs["coverage"]["ZZBUSDT"]["rows"] == 46


def test_a_mark_is_false_after_a_gap(root: Path) -> None:
    with pytest.warns(ArchiveKitWarning):
        frame = bak.to_pandas(root, "ZZBUSDT", "1h", "backtrader", on_gap="mark")
    assert frame.columns.tolist() == [*LOWER, "covered"]
    assert frame["covered"].dtype == "bool"
    assert [str(time) for time in frame.index[~frame["covered"]]] == ["2025-07-02 05:00:00"]
    with pytest.warns(ArchiveKitWarning):
        assert "covered" not in bak.to_pandas(root, "ZZBUSDT", "1h", on_gap="warn")


def test_the_coverage_goes_with_the_frame(root: Path) -> None:
    with pytest.warns(ArchiveKitWarning):
        frame = bak.to_pandas(root, "ZZBUSDT", "1h", on_gap="warn")
    coverage = frame.attrs["coverage"]
    assert (coverage["expected_rows"], coverage["present_rows"], coverage["rows"]) == (48, 46, 46)
    assert not coverage["complete"]
    [gap] = coverage["gaps"]
    assert (gap["start"], gap["missing"]) == ("2025-07-02T03:00:00+00:00", 2)
    # pandas copies the attributes for each result, and many sources would make that slow.
    assert (frame * 2).attrs["coverage"] is coverage
    assert copy.copy(coverage) == coverage
    whole = bak.to_pandas(root, "QQAUSDT", "1h").attrs["coverage"]
    assert whole["complete"]
    assert whole["gaps"] == []


def test_minutes_of_zipline_are_called_by_their_ends(tmp_path: Path) -> None:
    start = at("2025-07-01")
    lines = [line(start + n * MINUTE, MINUTE, 100 + n, 7) for n in range(1_440)]
    file_of(tmp_path, kline("QQAUSDT", "2025-07-01", "1m"), lines)
    file_of(tmp_path, kline("QQAUSDT", "2025-07-01", "1d"), [line(start, DAY, 100, 7)])
    minutes = bak.to_pandas(tmp_path, "QQAUSDT", "1m", "zipline")
    assert minutes.columns.tolist() == LOWER
    assert (minutes.index.name, minutes.index.tz) == ("date", None)
    assert [str(minutes.index[n]) for n in (0, -1)] == [
        "2025-07-01 00:01:00",
        "2025-07-02 00:00:00",
    ]
    assert minutes["open"].iloc[0] == 100
    days = bak.to_pandas(tmp_path, "QQAUSDT", "1d", "zipline")
    assert [str(time) for time in days.index] == ["2025-07-01 00:00:00"]


@pytest.mark.parametrize(
    ("price", "volume", "said"),
    [
        (100.5, 7.25, "1 volumes are not whole and lose .*, 0.25 in all .3.4 % of the volume."),
        (100.0005, 7, "1 rows have prices that are rounded to 0.001"),
        (100, 2**32, "1 rows have values beyond 32 bits, which are lost"),
        (5_000_000, 7, "1 rows have values beyond 32 bits"),
    ],
)
def test_what_zipline_cannot_hold_is_told(
    tmp_path: Path, price: float, volume: float, said: str
) -> None:
    file_of(
        tmp_path, kline("QQAUSDT", "2025-07-01", "1d"), [line(at("2025-07-01"), DAY, price, volume)]
    )
    with pytest.warns(ArchiveKitWarning, match=f"of 1 rows of QQAUSDT, {said}"):
        frame = bak.to_pandas(tmp_path, "QQAUSDT", "1d", "zipline")
    # The frame itself keeps them.
    assert frame["volume"].tolist() == [volume]
    assert frame["open"].tolist() == [price]


def test_decimals_become_numbers_for_tools(root: Path) -> None:
    expected = bak.to_pandas(root, "QQAUSDT", "1h")
    frame = bak.to_pandas(root, "QQAUSDT", "1h", decimals=True)
    pd.testing.assert_frame_equal(frame, expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tool": "backtest"}, "tool: 'backtest' is not valid; did you mean 'backtesting.py'"),
        ({"tool": "zipline"}, "interval: zipline has no bars of 1h; choose one of: 1m, 1d"),
        (
            {"symbol": "QQAUSD"},
            "symbols of spot_klines: 'QQAUSD' is not in the store; did you mean",
        ),
        ({"interval": "1min"}, "interval: .*did you mean '1m'"),
        ({"market": "sport"}, "market: .*did you mean 'spot'"),
        ({"on_gap": "rise"}, "on_gap: .*did you mean 'raise'"),
        ({"decimal": True}, "decimal"),
        ({"intervals": "1h"}, "intervals: no such argument here; it may be 'interval'"),
        ({"tool": "freqtrade"}, r"tool: freqtrade reads files: use to_freqtrade"),
        ({"tool": "NautilusTrader"}, r"use to_nautilus"),
    ],
)
def test_invalid_arguments_are_named(root: Path, changes: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"symbol": "QQAUSDT", "interval": "1h"} | changes
    with pytest.raises(ConfigurationError, match=said):
        bak.to_pandas(root, given.pop("symbol"), given.pop("interval"), **given)


def test_without_pandas_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pandas_frames, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"binance-archive-kit\[pandas\]"):
        bak.to_pandas(root, "QQAUSDT", "1h")
