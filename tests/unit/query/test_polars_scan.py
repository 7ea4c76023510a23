"""A filter on a scan gives the rows that it gives on the collected frame, whatever it asks."""

from __future__ import annotations

import io
import math
import operator
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.query.pruning import PolarsPruner, without_hints
from tests.support.stores import kline, other, put

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
        for day in ("2025-07-01", "2025-07-02"):
            for interval in ("1h", "4h"):
                put(root, kline(symbol, day, interval), edit=_long_floats)
            put(root, other("trades", symbol, day, "spot"), 20)
    for day in ("2025-07-01", "2025-07-02"):
        put(root, other("metrics", "BTCUSD_PERP", day, "futures/cm"), 20)
    put(root, other("EOHSummary", "BTCUSDT", "2023-07-01", "option"), 20)
    found = Scans()
    for name, (market, data_type, options) in FEEDS.items():
        lazy = bak.scan(bak.store(root, cache=False, **options), market, data_type)
        found[name] = lazy, lazy.collect()
    return found


def _long_floats(csv: bytes) -> bytes:
    """Give the quote volume all the digits that a float has, as the archive's often do."""
    lines = [line.split(b",") for line in csv.splitlines()]
    for at, cells in enumerate(lines):
        cells[7] = b"%.8f" % (98237902.75557831 * (1 + at * math.pi))
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
