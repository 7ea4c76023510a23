"""A filter on a scan gives the rows that it gives on the collected frame, whatever it asks."""

from __future__ import annotations

import io
import math
import operator
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    ConflictingRows,
)
from binance_archive_kit.query.pruning import PolarsPruner, without_hints
from tests.support.candles import HOUR, STEPS, at, day, file_of, line
from tests.support.stores import kline, other, put


def test_any_moment_may_be_asked_for(tmp_path: Path) -> None:
    day(tmp_path, "AUSDT", "2025-07-01", "1h")
    for start, end in (("0001-01-01", "9999-12-31"), (datetime.min, datetime.max)):
        assert bak.load_klines(tmp_path, "AUSDT", "1h", start=start, end=end).height == 24
        assert bak.ohlcv(tmp_path, "AUSDT", "1d", start=start, end=end)["candles"].to_list() == [24]
    east, west = timezone(HOUR), timezone(-HOUR)
    for moment in (
        datetime.min.replace(tzinfo=east),
        datetime.max.replace(tzinfo=west),
        "x" * 10**6,
    ):
        for name in ("start", "end"):
            with pytest.raises(ConfigurationError, match=name) as caught:
                bak.scan(tmp_path, "spot", "klines", **{name: moment})  # type: ignore[arg-type]
            assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2025-07-02", None, "2025-07-02 00:00", "2025-07-03 23:00"),
        (None, "2025-07-02", "2025-07-01 00:00", "2025-07-02 23:00"),
        ("2025-07-02", "2025-07-02", "2025-07-02 00:00", "2025-07-02 23:00"),
        ("2025-07-01 12:00", "2025-07-02 12:00", "2025-07-01 12:00", "2025-07-02 11:00"),
        (date(2025, 7, 3), date(2025, 7, 3), "2025-07-03 00:00", "2025-07-03 23:00"),
        (datetime(2025, 7, 3), datetime(2025, 7, 3, 1), "2025-07-03 00:00", "2025-07-03 00:00"),
        (at("2025-07-03T05:00"), None, "2025-07-03 05:00", "2025-07-03 23:00"),
        ("2025-07-03T09:00+09:00", "2025-07-03T02:00Z", "2025-07-03 00:00", "2025-07-03 01:00"),
        ("2020-01-01", "2030-01-01", "2025-07-01 00:00", "2025-07-03 23:00"),
    ],
)
def test_days_are_inclusive_and_moments_end_before(
    halted: Path, start: Any, end: Any, first: str, last: str
) -> None:
    times = bak.load_klines(halted, "BTCUSDT", "1h", start=start, end=end)["open_time"]
    assert (times[0], times[-1]) == (at(first), at(last))
    scanned = bak.scan(
        halted, "spot", "klines", symbols="BTCUSDT", intervals="1h", start=start, end=end
    )
    assert scanned.collect()["open_time"].to_list() == times.to_list()


def test_intervals_may_be_spelled_as_people_do(halted: Path) -> None:
    frame = bak.scan(halted, "spot", "klines", intervals=["1d"]).collect()
    assert frame["symbol"].unique().to_list() == ["ETHUSDT"]


FEEDS = {
    "klines": ("spot", "klines", {}),
    "decimals": ("spot", "klines", {"decimals": True}),
    "trades": ("spot", "trades", {}),
    "metrics": ("futures_cm", "metrics", {}),
    "options": ("options", "EOHSummary", {}),
}


class Scans(dict[str, tuple[pl.LazyFrame, pl.DataFrame]]):
    """A scan of each feed, and what it gives."""

    __repr__ = object.__repr__


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Scans:
    """Scan feeds of every dtype, floats of seventeen digits among them; and collect each."""
    root = tmp_path_factory.mktemp("store")
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for period in ("2025-07-01", "2025-07-02"):
            for interval in ("1h", "4h"):
                put(root, kline(symbol, period, interval), edit=_long_floats)
            put(root, other("trades", symbol, period, "spot"), 20)
    for period in ("2025-07-01", "2025-07-02"):
        put(root, other("metrics", "BTCUSD_PERP", period, "futures/cm"), 20)
    put(root, other("EOHSummary", "BTCUSDT", "2023-07-01", "option"), 20)
    found = Scans()
    for name, (market, data_type, options) in FEEDS.items():
        lazy = bak.scan(bak.store(root, cache=False, **options), market, data_type)
        found[name] = lazy, lazy.collect()
    return found


def _long_floats(csv: bytes) -> bytes:
    """Give the quote volume all the digits that a float has, as the archive's often do."""
    lines = [line.split(b",") for line in csv.splitlines()]
    for index, cells in enumerate(lines):
        cells[7] = b"%.8f" % (98237902.75557831 * (1 + index * math.pi))
    return b"".join(b",".join(cells) + b"\n" for cells in lines)


_COMPARE: list[Callable[[pl.Expr, Any], pl.Expr]] = [
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
]
_CLOSED: list[Literal["both", "left", "right", "none"]] = ["both", "left", "right", "none"]


@st.composite
def _leaves(draw: st.DrawFn, frame: pl.DataFrame) -> pl.Expr:
    """Ask one thing of one column, by a value that it has, or one next to it."""
    name = draw(st.sampled_from(frame.columns))
    values, dtype = frame[name].drop_nulls(), frame.schema[name]
    column = pl.col(name)
    if not len(values) or draw(st.integers(0, 9)) == 0:
        return column.is_null() if draw(st.booleans()) else column.is_not_null()
    compare: Callable[[pl.Expr, Any], pl.Expr] = draw(st.sampled_from(_COMPARE))
    some = [_near(draw, values[draw(st.integers(0, len(values) - 1))]) for _ in range(3)]
    match draw(st.sampled_from(["compare", "compare", "turned", "is_in", "between", "sum"])):
        case "turned":
            return compare(pl.lit(some[0], dtype=dtype), column)
        case "is_in":
            return column.is_in(some)
        case "between" if not isinstance(dtype, pl.Boolean):
            closed: Literal["both", "left", "right", "none"] = draw(st.sampled_from(_CLOSED))
            return column.is_between(pl.lit(some[0]), pl.lit(some[1]), closed)
        case "sum" if dtype.is_numeric():
            step = draw(st.sampled_from([1, 2, 0.1, 98237902.75557831]))
            if not dtype.is_float():
                step = int(step)
            return compare(column * 3 - step, some[0])
    return compare(column, some[0])


def _near(draw: st.DrawFn, value: Any) -> Any:
    """Take a value, or one that is hardly another."""
    if isinstance(value, bool | str) or not draw(st.booleans()):
        return value
    up = draw(st.booleans())
    match value:
        case float():
            return math.nextafter(value, math.inf if up else -math.inf)
        case int():
            return value + (1 if up else -1)
        case Decimal():
            return value + Decimal("1e-18") * (1 if up else -1)
        case datetime():
            return value + timedelta(microseconds=1 if up else -1)
        case date():
            return value + timedelta(days=1 if up else -1)
    return value


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_filter_gives_what_it_gives_on_the_collected_frame(
    scans: Scans, data: st.DataObject
) -> None:
    lazy, frame = scans[data.draw(st.sampled_from(list(FEEDS)))]
    leaves = data.draw(st.lists(_leaves(frame), min_size=1, max_size=3))
    leaves = [~leaf if data.draw(st.booleans()) else leaf for leaf in leaves]
    join = data.draw(st.sampled_from([operator.and_, operator.or_]))
    condition = reduce(join, leaves)
    found = lazy.filter(condition).collect()
    assert found.equals(frame.filter(condition)), str(condition)


def test_every_long_float_is_met_exactly(scans: Scans) -> None:
    """One in twenty of them is another number in the JSON form of a predicate."""
    lazy, frame = scans["klines"]
    column = pl.col("quote_volume")
    for value in frame["quote_volume"].gather_every(4):
        ways = [compare(column, value) for compare in _COMPARE]
        ways += [column.is_in([value]), column.is_between(value, value), column - value == 0]
        found = [lazy.filter(way).collect().height for way in ways]
        assert found == [frame.filter(way).height for way in ways]


def test_hints_are_left_out_and_the_rest_stays_as_it_is() -> None:
    """No version of Polars in use passes such hints to a scan of ours; others may."""
    hint = pl.Expr.deserialize(
        io.StringIO('{"Display":{"inputs":[{"Column":"a"}],"fmt_str":"dynamic_pred"}}'),
        format="json",
    )
    frame = pl.DataFrame({"a": [98237902.75557831, 1.0, None], "b": [1, 2, 3]})
    both = (pl.col("a") == 98237902.75557831) & hint & (pl.col("b") < 3)
    kept = without_hints(both)
    assert kept is not None
    assert frame.filter(kept)["b"].to_list() == [1]
    assert without_hints(hint) is None
    plain = pl.col("a") > 1
    assert without_hints(plain) is plain
    assert PolarsPruner(both, "t") is not None


@pytest.mark.parametrize("where", ["beside", "at the end", "whole file", "other file"])
def test_an_exact_repeat_counts_once(tmp_path: Path, where: str) -> None:
    plain = tmp_path / "plain"
    for period in ("2025-07-01", "2025-07-02"):
        day(plain, "AUSDT", period, "1h")
    edits: dict[str, Callable[[list[str]], list[str]]] = {
        "beside": lambda lines: [*lines[:5], lines[5].replace(",0\n", ",7\n"), *lines[5:]],
        "at the end": lambda lines: [*lines, lines[3].replace(",10.0,", ",10.000,")],
        "whole file": lambda lines: lines * 3,
        "other file": list,
    }
    day(tmp_path, "AUSDT", "2025-07-01", "1h", edit=edits[where])
    day(tmp_path, "AUSDT", "2025-07-02", "1h")
    if where == "other file":
        # Candles of three days may begin before their month: two files have one of them.
        step = STEPS["3d"]
        june, july = at("2025-06-27"), at("2025-06-30")
        for path, months in ((tmp_path, ("2025-06", "2025-07")), (plain, ("2025-06",))):
            for month in months:
                times = (june, july) if month == "2025-06" else (july, at("2025-07-03"))
                lines = [line(time, step, 100) for time in times]
                if path is plain:
                    lines.append(line(at("2025-07-03"), step, 100))
                file_of(path, kline("BUSDT", month, "3d"), lines)
        found = bak.load_klines(tmp_path, "BUSDT", "3d")
        assert found["open_time"].is_unique().all()
        return
    with pytest.warns(ArchiveKitWarning) as told:
        found = bak.load_klines(tmp_path, "AUSDT", "1h")
    assert len(told) == 1
    count = 48 if where == "whole file" else 1
    assert f"dropped {count} row" in str(told[0].message)
    assert "AUSDT-1h-2025-07-01.zip" in str(told[0].message)
    assert told[0].filename == __file__
    assert found.equals(bak.load_klines(plain, "AUSDT", "1h"))
    with pytest.warns(ArchiveKitWarning, match=f"dropped {count} row") as told:
        bars = bak.ohlcv(tmp_path, "AUSDT", "6h")
    assert len(told) == 1
    assert bars.equals(bak.ohlcv(plain, "AUSDT", "6h"))
    call = "FROM ohlcv('spot_klines', 'AUSDT', '1h', INTERVAL 6 HOUR)"
    assert bak.sql(tmp_path, call).equals(bak.sql(plain, call))
    kept = [name for name in bak.scan(plain, "spot", "klines").collect_schema() if name != "file"]
    rows = bak.scan(plain, "spot", "klines").select(kept).collect()
    once = bak.scan(tmp_path, "spot", "klines", distinct=True).select(kept).collect()
    assert once.sort("open_time").equals(rows)
    raw = bak.scan(tmp_path, "spot", "klines").collect()
    assert raw.height == rows.height + count
    with bak.connect(tmp_path, distinct=True) as con:
        assert con.sql("SELECT count(*), sum(volume) FROM spot_klines").fetchall() == [(48, 480.0)]
    with bak.connect(tmp_path) as con:
        assert con.sql("SELECT count(open) FROM spot_klines").fetchall() == [(48 + count,)]


@pytest.mark.parametrize("copies", [1, 2])
def test_different_candles_of_one_time_are_an_error(tmp_path: Path, copies: int) -> None:
    def edit(lines: list[str]) -> list[str]:
        return [*lines, *[line(at("2025-07-01 05:00"), HOUR, 7, 99.0)] * copies, lines[2]]

    bad = day(tmp_path, "AUSDT", "2025-07-01", "1h", edit=edit)
    asks: list[Callable[[Any], pl.DataFrame]] = [
        lambda source: bak.load_klines(source, "AUSDT", "1h"),
        lambda source: bak.ohlcv(source, ["AUSDT"], "1d"),
    ]
    for load in asks:
        with pytest.raises(ConflictingRows) as caught:
            load(tmp_path)
        assert caught.value.file == str(bad)
        for word in ("2025-07-01 05:00", "open", "7.0"):
            assert word in caught.value.detail
        store = bak.store(tmp_path, on_error="skip")
        with pytest.warns(ArchiveKitWarning):
            found = load(store)
        assert list(store.problems) == [str(bad)]
        assert store.problems[str(bad)].reason == "conflicting_rows"
        if "candles" in found.columns:
            assert found["candles"].to_list() == [23]
            assert found["expected_candles"].to_list() == [24]
        else:
            assert found["open_time"].to_list() == [
                at("2025-07-01") + n * HOUR for n in range(24) if n != 5
            ]
    with pytest.raises(ConfigurationError, match=r"AUSDT 1h: .* open_time 2025-07-01 05:00:00"):
        bak.sql(tmp_path, "FROM ohlcv('spot_klines', 'AUSDT', '1h', INTERVAL 1 DAY)")
    # What is raw stays raw, and both of them are there.
    both = bak.scan(tmp_path, "spot", "klines", distinct=True).collect()
    assert both.filter(open_time=at("2025-07-01 05:00")).height == 2
    with bak.connect(tmp_path, distinct=True) as con:
        assert con.sql("SELECT count(*) FROM spot_klines").fetchall() == [(25,)]


KLINE_COLUMNS = [
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
    *("count", "taker_buy_volume", "taker_buy_quote_volume"),
]


@pytest.mark.parametrize("column", KLINE_COLUMNS[1:])
def test_candles_that_differ_in_any_column_are_different(tmp_path: Path, column: str) -> None:
    """The loader and the macro count the same rows as repeats."""

    def edit(lines: list[str]) -> list[str]:
        cells = lines[5].split(",")
        place = KLINE_COLUMNS.index(column)
        cells[place] = str(int(cells[place]) - 1_000) if column == "close_time" else "3"
        return [*lines, ",".join(cells)]

    day(tmp_path, "AUSDT", "2025-07-01", "1h", edit=edit)
    with pytest.raises(ConflictingRows, match=column):
        bak.load_klines(tmp_path, "AUSDT", "1h")
    with pytest.raises(ConflictingRows, match=column):
        bak.ohlcv(tmp_path, "AUSDT", "4h")
    for distinct in (False, True):
        with pytest.raises(ConfigurationError, match=r"AUSDT 1h: .* open_time 2025-07-01 05:00:00"):
            bak.sql(
                tmp_path,
                "FROM ohlcv('spot_klines', 'AUSDT', '1h', INTERVAL 4 HOUR)",
                distinct=distinct,
            )


def test_a_conflict_of_two_files_names_both(tmp_path: Path) -> None:
    begin = int(at("2025-07-01").timestamp() * 1_000)
    header = "calc_time,funding_interval_hours,last_funding_rate\n"
    for month, rates in (("2025-06", (0.01, 0.02)), ("2025-07", (0.03, 0.04))):
        folder = "data/futures/um/monthly/fundingRate/AUSDT"
        key = ObjectKey.parse(f"{folder}/AUSDT-fundingRate-{month}.zip")
        times = (begin - 8 * 3_600_000, begin) if month == "2025-06" else (begin, begin + 8)
        rows = [f"{time},8,{rate}\n" for time, rate in zip(times, rates, strict=True)]
        file_of(tmp_path, key, [header, *rows])
    day(tmp_path, "AUSDT", "2025-07-01", "1h", market="futures/um")
    with pytest.raises(ConflictingRows, match=r"0\.02 and 0\.03") as caught:
        bak.klines_with_funding(tmp_path, "AUSDT", "1h")
    said = str(caught.value)
    assert "2025-06.zip" in said
    assert "2025-07.zip" in said


def test_distinct_reaches_across_files(tmp_path: Path) -> None:
    """The 00:00 of a day stands in the metrics of both days; rows that differ all stay."""
    names = "create_time,symbol,sum_open_interest,sum_open_interest_value,"
    names += "count_toptrader_long_short_ratio,sum_toptrader_long_short_ratio,"
    names += "count_long_short_ratio,sum_taker_long_short_vol_ratio\n"
    for period, times in (
        ("2026-06-24", ["2026-06-24 23:55:00", "2026-06-25 00:00:00"]),
        ("2026-06-25", ["2026-06-25 00:00:00", "2026-06-25 00:05:00"]),
    ):
        folder = "data/futures/um/daily/metrics/AUSDT"
        key = ObjectKey.parse(f"{folder}/AUSDT-metrics-{period}.zip")
        lines = [f"{time},AUSDT,1.5,2.5,3,4,5,6\n" for time in times]
        file_of(tmp_path, key, [names, *lines])
    assert bak.scan(tmp_path, "um", "metrics").collect().height == 4
    once = bak.scan(tmp_path, "um", "metrics", distinct=True)
    assert once.collect().height == 3
    assert once.select(pl.len()).collect().item() == 3
    assert once.select("create_time").collect().height == 3
    with bak.connect(tmp_path, distinct=True) as con:
        assert con.sql("SELECT count(*) FROM futures_um_metrics").fetchall() == [(3,)]
        assert con.sql("FROM futures_um_metrics").columns == once.collect_schema().names()


def test_other_rows_stay_as_they_are(tmp_path: Path) -> None:
    """A feed in order without repeats is what it was, whatever its values."""
    put(tmp_path, kline("AUSDT", "2025-07-01"))
    frame = bak.scan(tmp_path, "spot", "klines").collect()
    assert bak.load_klines(tmp_path, "AUSDT", "1h").equals(frame.drop(frame.columns[:6]))
