"""Panels: one column of many symbols, gaps, returns, and the symbols that are left out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.export import wide_frames
from tests.support.candles import DAY, HOUR, at, day, file_of, line
from tests.support.stores import kline

JULY = [at("2025-07-01") + n * DAY for n in range(31)]


def month(root: Path, symbol: str, days: list[datetime], price: float = 100, **how: Any) -> None:
    """Put the candles of some days of July 2025 into a store; the price tells the day."""
    lines = [line(time, DAY, price + time.day, **how) for time in days]
    file_of(root, kline(symbol, "2025-07", "1d"), lines)


ENDS = ["symbol", "first", "last", "ended"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    month(tmp_path, "QQAUSDT", JULY)
    month(tmp_path, "QQBUSDT", [time for time in JULY if time.day not in (10, 11)], 200)
    month(tmp_path, "QQCBTC", JULY[20:], 300)
    return tmp_path


def values(frame: pl.DataFrame, symbol: str) -> dict[int, float | None]:
    return dict(zip(frame["open_time"].dt.day(), frame[symbol], strict=True))


def test_a_panel_has_a_row_per_step_and_a_column_per_symbol(root: Path) -> None:
    frame = bak.panel(root, "spot", "1d", "open")
    assert frame.schema == {
        "open_time": pl.Datetime("us", "UTC"),
        **dict.fromkeys(("QQAUSDT", "QQBUSDT", "QQCBTC"), pl.Float64),
    }
    assert frame["open_time"].to_list() == JULY
    assert values(frame, "QQAUSDT") == {n: 100.0 + n for n in range(1, 32)}
    assert [values(frame, "QQBUSDT")[n] for n in (9, 10, 11, 12)] == [209, None, None, 212]
    assert frame["QQCBTC"].null_count() == 20


def test_a_panel_has_the_values_of_a_scan(root: Path) -> None:
    long = bak.scan(root, "spot", "klines").select("symbol", "open_time", "volume").collect()
    frame = bak.panel(root, "spot", "1d", "volume").unpivot(
        index="open_time", variable_name="symbol", value_name="volume"
    )
    expected = long.with_columns(pl.col("symbol").cast(pl.String)).sort("symbol", "open_time")
    assert frame.drop_nulls().select(expected.columns).equals(expected)


def test_integers_are_floats(root: Path) -> None:
    assert bak.panel(root, "spot", "1d", "count")["QQAUSDT"].to_list() == [5.0] * 31


def test_times_without_any_candle_are_rows(tmp_path: Path) -> None:
    month(tmp_path, "QQAUSDT", [JULY[0], JULY[3]])
    month(tmp_path, "QQBUSDT", [JULY[1], JULY[4]])
    frame = bak.panel(tmp_path, "spot", "1d", "open")
    assert frame["open_time"].to_list() == JULY[:5]
    assert frame.row(2)[1:] == (None, None)


def test_the_range_limits_the_rows(root: Path) -> None:
    frame = bak.panel(root, "spot", "1d", "open", start="2025-07-03", end="2025-07-05")
    assert frame["open_time"].to_list() == JULY[2:5]
    assert "QQCBTC" not in frame.columns


def test_groups_of_symbols_give_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bak.panel(root, "spot", "1d", "close")
    monkeypatch.setattr(wide_frames, "_ROWS", 1)
    assert bak.panel(root, "spot", "1d", "close").equals(whole)


# Returns


def test_no_return_is_computed_across_a_gap(root: Path) -> None:
    found = values(bak.panel(root, "spot", "1d", "open", returns=True), "QQBUSDT")
    assert found[1] is None
    assert found[9] == pytest.approx(209 / 208 - 1)
    assert [found[n] for n in (10, 11, 12)] == [None] * 3
    assert found[13] == pytest.approx(213 / 212 - 1)


def test_returns_across_gaps_are_given_if_asked_for(root: Path) -> None:
    found = values(bak.panel(root, "spot", "1d", "open", returns=True, across_gaps=True), "QQBUSDT")
    assert [found[n] for n in (10, 11)] == [None] * 2
    assert found[12] == pytest.approx(212 / 209 - 1)
    assert found[13] == pytest.approx(213 / 212 - 1)


def test_a_return_on_nothing_is_null(tmp_path: Path) -> None:
    lines = [line(time, DAY, 100, volume) for time, volume in zip(JULY, (0, 5, 0, 0), strict=False)]
    file_of(tmp_path, kline("QQAUSDT", "2025-07", "1d"), lines)
    frame = bak.panel(tmp_path, "spot", "1d", "volume", returns=True)
    assert frame["QQAUSDT"].to_list() == [None, None, -1.0, None]


@pytest.mark.parametrize("across_gaps", [False, True])
def test_no_return_reaches_across_a_reuse_of_the_symbol(tmp_path: Path, across_gaps: bool) -> None:
    may = [at("2022-05-25") + n * DAY for n in range(7)]
    lines = [line(time, DAY, 1.0 + n) for n, time in enumerate(may)]
    file_of(tmp_path, kline("LUNAUSDT", "2022-05", "1d"), lines)
    with pytest.warns(bak.ArchiveKitWarning, match="cannot be compared: LUNAUSDT"):
        frame = bak.panel(tmp_path, "spot", "1d", "open", returns=True, across_gaps=across_gaps)
    found = values(frame, "LUNAUSDT")
    assert found[30] == pytest.approx(6 / 5 - 1)
    assert found[31] is None


# Symbols


def test_symbols_are_chosen_by_name_and_by_quote(root: Path) -> None:
    def names(**choice: Any) -> list[str]:
        return bak.panel(root, "spot", "1d", "close", **choice).columns[1:]

    assert names(symbols="QQBUSDT") == ["QQBUSDT"]
    assert names(symbols=["QQCBTC", "QQAUSDT"]) == ["QQAUSDT", "QQCBTC"]
    assert names(symbols=["QQ?USDT", "QQCBTC"]) == ["QQAUSDT", "QQBUSDT", "QQCBTC"]
    assert names(quote="USDT") == ["QQAUSDT", "QQBUSDT"]
    assert names(quote=["BTC", "USDT"]) == ["QQAUSDT", "QQBUSDT", "QQCBTC"]
    assert names(symbols=["QQCBTC", "QQAUSDT"], quote="BTC") == ["QQCBTC"]


def test_settled_contracts_have_a_quote(tmp_path: Path) -> None:
    for symbol in ("BNXUSDTSETTLED", "ETHUSDT", "ETHUSDC"):
        day(tmp_path, symbol, "2025-07-01", "1h", market="futures/um")
    frame = bak.panel(tmp_path, "futures_um", "1h", "close", quote="USDT")
    assert frame.columns == ["open_time", "BNXUSDTSETTLED", "ETHUSDT"]


def test_symbols_of_a_universe_that_are_not_in_the_store_are_reported(root: Path) -> None:
    universe = pl.DataFrame({"symbol": ["QQAUSDT", "DEADUSDT", "QQCBTC"]})
    with pytest.warns(bak.ArchiveKitWarning, match="not in the store: DEADUSDT"):
        frame = bak.panel(root, "spot", "1d", "close", universe=universe)
    assert frame.columns == ["open_time", "QQAUSDT", "QQCBTC"]
    _, report = bak.panel(root, "spot", "1d", "close", universe=universe, quote="USDT", report=True)
    assert report.select("symbol", "state").rows() == [
        ("DEADUSDT", "not_in_store"),
        ("QQAUSDT", "used"),
    ]


def test_symbols_with_few_rows_are_left_out(root: Path) -> None:
    with pytest.warns(
        bak.ArchiveKitWarning, match=r"less than 0.95 of their rows: QQBUSDT \(93.55%"
    ):
        frame = bak.panel(root, "spot", "1d", "close", min_coverage=0.95)
    # Rows before a symbol's own first one are not due.
    assert frame.columns == ["open_time", "QQAUSDT", "QQCBTC"]
    frame, report = bak.panel(root, "spot", "1d", "close", min_coverage=0.95, report=True)
    assert report.drop("changes").rows(named=True)[1] == {
        "symbol": "QQBUSDT",
        "state": "low_coverage",
        "first": JULY[0],
        "last": JULY[-1],
        "rows": 29,
        "due": 31,
        "coverage": pytest.approx(29 / 31),
    }


def test_a_share_is_that_of_the_coverage_report(root: Path) -> None:
    _, report = bak.panel(root, "spot", "1d", "close", report=True, symbols=["QQAUSDT", "QQBUSDT"])
    streams = bak.coverage(root).streams.filter(pl.col("symbol") != "QQCBTC")
    assert report["due"].to_list() == streams["expected"].to_list()
    assert report["coverage"].to_list() == streams["coverage"].to_list()


def test_rows_of_a_universe_are_due_beyond_those_of_the_store(root: Path) -> None:
    universe = pl.DataFrame(
        {
            "symbol": ["QQAUSDT", "QQBUSDT", "QQCBTC"],
            "first": [date(2025, 5, 9), date(2025, 7, 1), date(2025, 7, 21)],
            "last": [date(2025, 7, 31), date(2025, 8, 10), date(2025, 8, 10)],
            "ended": [False, True, False],
        }
    )
    _, report = bak.panel(root, "spot", "1d", "close", universe=universe, report=True)
    assert report["due"].to_list() == [31 + 30, 31, 11 + 10]
    _, report = bak.panel(
        root, "spot", "1d", "close", universe=universe, report=True, start="2025-06-21",
        end="2025-08-05",
    )  # fmt: skip
    assert report["due"].to_list() == [31 + 10, 31, 11 + 5]


def test_symbols_without_rows_in_the_range_are_reported(root: Path) -> None:
    with pytest.warns(bak.ArchiveKitWarning, match="1 symbol without a row in this range: QQCBTC"):
        bak.panel(root, "spot", "1d", "close", symbols=["QQAUSDT", "QQCBTC"], end="2025-07-05")
    _, report = bak.panel(root, "spot", "1d", "close", end="2025-07-05", report=True)
    assert report["state"].to_list() == ["used", "used", "no_rows"]


def test_repeated_candles_are_dropped_with_a_warning(root: Path) -> None:
    lines = [line(time, DAY, 100 + time.day) for time in (JULY[0], JULY[0], JULY[1])]
    file_of(root, kline("QQDUSDT", "2025-07", "1d"), lines)
    with pytest.warns(bak.ArchiveKitWarning, match="dropped 1 row"):
        frame = bak.panel(root, "spot", "1d", "open", symbols="QQDUSDT")
    assert frame["QQDUSDT"].to_list() == [101, 102]


def test_conflicting_candles_are_an_error_whatever_the_column(root: Path) -> None:
    lines = [line(JULY[0], DAY, 100), line(JULY[0], DAY, 100, volume=11)]
    file_of(root, kline("QQDUSDT", "2025-07", "1d"), lines)
    with pytest.raises(bak.FileError, match="conflicting_rows") as caught:
        bak.panel(root, "spot", "1d", "open")
    assert caught.value.reason == "conflicting_rows"
    with pytest.warns(bak.ArchiveKitWarning):
        frame = bak.panel(root, "spot", "1d", "open", on_error="skip")
    assert "QQDUSDT" not in frame.columns


# Other cadences


def test_months_and_weeks_have_steps_of_the_calendar(tmp_path: Path) -> None:
    for name in ("2025-01", "2025-02", "2025-04"):
        time = at(f"{name}-01")
        file_of(tmp_path, kline("QQAUSDT", name, "1mo"), [line(time, 28 * DAY, time.month)])
    frame, report = bak.panel(tmp_path, "spot", "1mo", "open", returns=True, report=True)
    assert frame["open_time"].dt.month().to_list() == [1, 2, 3, 4]
    assert frame["QQAUSDT"].to_list() == [None, 1.0, None, None]
    assert report["due"].to_list() == [4]


def test_candles_of_three_days_have_their_own_phase(tmp_path: Path) -> None:
    for symbol, first in (("QQAUSDT", 1), ("QQBUSDT", 2)):
        times = [at("2025-07-01") + (first - 1 + 3 * n) * DAY for n in (0, 1, 3)]
        lines = [line(time, 3 * DAY, 100 + time.day) for time in times]
        file_of(tmp_path, kline(symbol, "2025-07", "3d"), lines)
    frame, report = bak.panel(tmp_path, "spot", "3d", "open", returns=True, report=True)
    assert frame["open_time"].dt.day().to_list() == [1, 2, 4, 5, 7, 8, 10, 11]
    assert values(frame, "QQAUSDT") == {
        **dict.fromkeys((1, 2, 5, 7, 8, 10, 11)), 4: pytest.approx(104 / 101 - 1)
    }  # fmt: skip
    assert report["due"].to_list() == [4, 4]


def test_rows_off_the_grid_are_rows_of_their_own(tmp_path: Path) -> None:
    odd = JULY[1] + timedelta(milliseconds=7)
    month(tmp_path, "QQAUSDT", JULY[:3])
    month(tmp_path, "QQBUSDT", [JULY[0], odd, JULY[2]])
    frame = bak.panel(tmp_path, "spot", "1d", "open", returns=True)
    assert frame["open_time"].to_list() == [JULY[0], JULY[1], odd, JULY[2]]
    assert frame["QQBUSDT"].to_list() == [None] * 4


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"column": "clsoe"}, "column: 'clsoe' is not valid; did you mean 'close'"),
        ({"column": "open_time"}, "column: 'open_time' is not valid"),
        ({"interval": "7d"}, "interval: '7d' is not valid"),
        ({"interval": "1h"}, "interval"),
        ({"data_type": "trades"}, "data_type: 'trades' is not valid"),
        ({"symbols": "QQAUSDTT"}, "symbols.*did you mean 'QQAUSDT'"),
        ({"symbols": "*EUR"}, "symbols: '\\*EUR' matches none of the 3 symbols"),
        ({"quote": "USTD"}, "quote: 'USTD' is not valid; did you mean 'USDT'"),
        ({"across_gaps": True}, "across_gaps: it applies to returns"),
        ({"returns": 1}, "returns: 1 is neither True nor False"),
        ({"min_coverage": 95}, "min_coverage: 95 is not a share"),
        ({"universe": ["QQAUSDT"]}, "universe: .* is not a polars.DataFrame"),
        ({"universe": pl.DataFrame({"symbol": ["XUSDT"]})}, "universe: .* none of its symbols"),
        ({"universe": pl.DataFrame({"symbol": ["A"], "market": ["options"]})}, "of options"),
        (
            {"universe": pl.DataFrame([("A", "2025-06-01", None, False)], ENDS, orient="row")},
            "universe: its column first is of String; cast it to Date",
        ),
        ({"start": "2026-01-01"}, "no candle between 2026-01-01"),
        ({"symbols": "QQBUSDT", "min_coverage": 0.99}, "min_coverage: no .* QQBUSDT, has 93.5"),
        ({"cash": True}, "cash"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_errors(root: Path, change: dict[str, Any], message: str) -> None:
    arguments = {"market": "spot", "interval": "1d", "column": "close"} | change
    with pytest.raises(bak.ConfigurationError, match=message):
        bak.panel(root, **arguments)


def test_a_universe_and_symbols_exclude_each_other(root: Path) -> None:
    universe = pl.DataFrame({"symbol": ["QQAUSDT"]})
    with pytest.raises(bak.ConfigurationError, match="not both"):
        bak.panel(root, "spot", "1d", "close", symbols="QQAUSDT", universe=universe)


def test_the_hour_of_a_day_is_utc(tmp_path: Path) -> None:
    day(tmp_path, "QQAUSDT", "2025-07-01", "1h")
    frame = bak.panel(tmp_path, "spot", "1h", "close", start=datetime(2025, 7, 1, 20, tzinfo=UTC))
    assert frame["open_time"].to_list() == [at("2025-07-01") + n * HOUR for n in range(20, 24)]
