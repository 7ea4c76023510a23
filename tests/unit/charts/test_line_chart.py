"""Each symbol has a line of its own, which never crosses a gap, and a name at its end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib import dates
from matplotlib.text import Text

import binance_archive_kit as bak
from binance_archive_kit.charts.symbol_colours import colour_of
from binance_archive_kit.display.theme import legible
from binance_archive_kit.errors import ConfigurationError
from tests.support.candles import at, day

HOUR = timedelta(hours=1)
START = datetime(2025, 7, 1, tzinfo=UTC)


def wide(**columns: list[float | None]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    times = [START + n * HOUR for n in range(count)]
    return pl.DataFrame({"open_time": times} | columns, strict=False)


def market(count: int, rows: int = 50) -> pl.DataFrame:
    """Return prices of many symbols; some end early."""
    dice = np.random.default_rng(0)
    steps = dice.normal(0, 0.02, (rows, count)).cumsum(axis=0)
    walks = np.exp(steps + dice.normal(0, 2, count))
    columns: dict[str, Any] = {f"A{n}USDT": walks[:, n].tolist() for n in range(count)}
    for n in range(0, count, 7):
        ends = rows // 2 + n % 9
        columns[f"A{n}USDT"][ends:] = [None] * (rows - ends)
    return wide(**columns)


# -- what is drawn ----------------------------------------------------------------------


def segments_of(axes: Any, colour: str) -> list[list[tuple[datetime, float]]]:
    """Return the connected parts of the lines of a colour, and their single points."""
    found = []
    for line in axes.lines:
        if line.get_color() != colour:
            continue
        xs, ys = line.get_data()
        points = [*zip(dates.num2date(xs, tz=UTC), np.asarray(ys, float).tolist(), strict=True)]
        parts: list[list[tuple[datetime, float]]] = [[]]
        for time, value in points:
            if np.isnan(value) or line.get_linestyle() == "None":
                parts.append([])
            if not np.isnan(value):
                parts[-1].append((time, value))
        is_line = line.get_linestyle() != "None"
        # A part of one point has no length.
        found += [part for part in parts if len(part) > (1 if is_line else 0)]
    return sorted(found)


def names_of(axes: Any) -> list[str]:
    """Return the names of the lines, from top to bottom."""
    return [label.get_text() for label in sorted(axes.texts, key=lambda label: -label.xyann[1])]


def test_lines_are_broken_at_nulls_and_missing_rows() -> None:
    frame = wide(
        BTCUSDT=[1, 2, None, 4, None, 6, 7, 8], ETHUSDT=[5, 5, 5, 5, 5, 5, float("nan"), 5]
    )
    axes = bak.lines(frame).axes[0]
    values = [[value for _, value in part] for part in segments_of(axes, colour_of("BTCUSDT"))]
    assert values == [[1, 2], [4], [6, 7, 8]]
    values = [[value for _, value in part] for part in segments_of(axes, colour_of("ETHUSDT"))]
    assert values == [[5] * 6, [5]]
    rows = frame.filter(~pl.int_range(pl.len()).is_in([2, 4])).drop("ETHUSDT")
    for given_rows in (rows, rows.reverse(), rows.rename({"open_time": "t"})):
        axes = bak.lines(given_rows).axes[0]
        parts = segments_of(axes, colour_of("BTCUSDT"))
        assert [[value for _, value in part] for part in parts] == [[1, 2], [4], [6, 7, 8]]
        assert [part[0][0] for part in parts] == [START, START + 3 * HOUR, START + 5 * HOUR]


def test_months_have_no_gap_between_them() -> None:
    months = pl.DataFrame({"open_time": [date(2025, month, 1) for month in (1, 2, 3, 4, 7, 8)]})
    axes = bak.lines(months.with_columns(X=pl.int_range(6))).axes[0]
    assert [[value for _, value in part] for part in segments_of(axes, colour_of("X"))] == [
        *([0, 1, 2, 3], [4, 5]),
    ]


def test_each_line_is_named_beside_its_end() -> None:
    frame = wide(BTCUSDT=[1, 2, 3], ETHUSDT=[3, 2, 1], 币安人生USDT=[2, 2, None])
    figure = bak.lines(frame)
    axes = figure.axes[0]
    _, [cjk] = legible(["币安人生USDT"])
    assert {label.get_text() for label in axes.texts} == {"BTCUSDT", "ETHUSDT", cjk}
    for label in axes.texts:
        if label.get_text() != cjk:
            assert label.get_color() == colour_of(label.get_text())
    ends = {label.get_text(): label.xy[1] for label in axes.texts}  # type: ignore[attr-defined]
    assert ends == {"BTCUSDT": 3, "ETHUSDT": 1, cjk: 2}
    assert axes.get_title(loc="left") == (
        f"BTCUSDT, ETHUSDT, {cjk}\n2025-07-01 00:00 to 2025-07-01 02:00 UTC"
    )
    assert axes.get_xlabel() == "open_time, UTC"
    assert bak.lines(frame, title="mine").axes[0].get_title(loc="left") == "mine"


@pytest.mark.parametrize("count", [2, 12, 30, 40])
@pytest.mark.parametrize("log", [False, True])
def test_names_do_not_overlap_and_lie_within_the_picture(count: int, log: bool) -> None:
    figure = bak.lines(market(count), log=log)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert len(axes.texts) == count
    area = axes.get_window_extent()
    # Without the line that leads to the name.
    boxes = [Text.get_window_extent(label) for label in axes.texts]
    margin = [box for box in boxes if box.x0 > area.x1]
    margin.sort(key=lambda box: box.y0)
    assert len(margin) == count - len(range(0, count, 7))
    assert all(one.y1 <= two.y0 + 3 for one, two in pairwise(margin))
    for box in boxes:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1


def test_of_very_many_lines_the_highest_and_the_lowest_are_named() -> None:
    frame = market(100)
    axes = bak.lines(frame, log=True).axes[0]
    last = {name: frame[name].drop_nulls()[-1] for name in frame.columns[1:]}
    ranked = sorted(last, key=last.__getitem__)
    assert {label.get_text() for label in axes.texts} == {*ranked[:10], *ranked[-10:]}
    assert "100 symbols, of which the 10 highest and the 10 lowest at their end are named" in (
        axes.get_title(loc="left")
    )
    # All are drawn, with a line for the single points of each.
    assert len(axes.lines) == 200


def test_no_more_lines_are_named_than_fit() -> None:
    for size in ((4, 3), (20, 3), (6, 5)):
        figure = bak.lines(market(40), log=True, size=size)
        figure.draw_without_rendering()
        axes = figure.axes[0]
        count = len(axes.texts)
        assert 10 <= count < 40
        assert f"the {count // 2} highest and the {count // 2} lowest" in " ".join(
            axes.get_title(loc="left").split()
        )
        boxes = [Text.get_window_extent(label) for label in axes.texts]
        assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)


def test_a_symbol_has_one_colour_in_all_figures() -> None:
    frame = market(30)
    colours = {label.get_text(): label.get_color() for label in bak.lines(frame).axes[0].texts}
    for some in (frame.columns[1:5], frame.columns[20:9:-1]):
        figure = bak.lines(frame.select("open_time", *some))
        assert {label.get_text(): label.get_color() for label in figure.axes[0].texts} == {
            name: colours[name] for name in some
        }
    btc = bak.lines(wide(BTCUSDT=[1, 2])).axes[0].texts[0].get_color()
    assert bak.lines(wide(A=[1, 2], BTCUSD_PERP=[1, 2])).axes[0].texts[1].get_color() == btc


def test_rebased_lines_meet_at_the_first_common_time() -> None:
    frame = wide(BTCUSDT=[50, 100, 110, 120], ETHUSDT=[None, 4, 2, 1])
    axes = bak.lines(frame, rebase=True).axes[0]
    values = [[value for _, value in part] for part in segments_of(axes, colour_of("BTCUSDT"))]
    assert values == [pytest.approx([50, 100, 110, 120])]
    values = [[value for _, value in part] for part in segments_of(axes, colour_of("ETHUSDT"))]
    assert values == [[100, 50, 25]]
    assert axes.get_title(loc="left").endswith("; 2025-07-01 01:00 is 100")


def test_a_panel_of_a_store(tmp_path: Path) -> None:
    for symbol, days in (("BTCUSDT", (1, 2, 4)), ("ETHUSDT", (2, 3, 4))):
        for number in days:
            day(tmp_path, symbol, f"2025-07-0{number}", "4h")
    closes = bak.panel(tmp_path, "spot", "4h", "close")
    axes = bak.lines(closes, rebase=True).axes[0]
    parts = segments_of(axes, colour_of("BTCUSDT"))
    assert [(part[0][0], part[-1][0]) for part in parts] == [
        (at("2025-07-01 00:00"), at("2025-07-02 20:00")),
        (at("2025-07-04 00:00"), at("2025-07-04 20:00")),
    ]
    [part] = segments_of(axes, colour_of("ETHUSDT"))
    assert [value for _, value in part] == pytest.approx(
        [100 * close / closes["ETHUSDT"][6] for close in closes["ETHUSDT"][6:]]
    )


def test_columns_without_a_value_are_named_in_a_warning() -> None:
    with pytest.warns(bak.ArchiveKitWarning, match="no value of BUSDT, so no line"):
        figure = bak.lines(wide(AUSDT=[1.0, 2], BUSDT=[None, None]).cast({"BUSDT": pl.Float64}))
    assert names_of(figure.axes[0]) == ["AUSDT"]


def test_one_row_is_a_point() -> None:
    axes = bak.lines(wide(BTCUSDT=[3.0])).axes[0]
    assert segments_of(axes, colour_of("BTCUSDT")) == [[(START, 3)]]
    left, right = axes.get_xlim()
    assert left < dates.date2num(START) < right  # type: ignore[no-untyped-call]


LONG = pl.DataFrame({"open_time": [START], "symbol": ["X"], "close": [1.0]})


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (
            "data/research",
            {},
            "frame: 'data/research' is not a Polars DataFrame, such as panel(...)",
        ),
        (LONG, {}, "frame: it has a row for each time and symbol; use panel(...), or frame.pivot("),
        (wide(A=[1]).drop("open_time"), {}, "frame: it has no column of times"),
        (wide(A=[1]).drop("A"), {}, "frame: it has no column of numbers"),
        (wide(A=[1]).clear(), {}, "frame: it has no value"),
        (pl.concat([wide(A=[1]), wide(A=[1])]), {}, "frame: open_time has times more than once"),
        (wide(A=[1, 0], B=[1, 2]), {"log": True}, "frame: not all values are above 0: A"),
        (wide(A=[1, -1]), {"rebase": True}, "frame: not all values are above 0: A"),
        (wide(A=[1, None], B=[None, 2]), {"rebase": True}, "rebase: there is no time at which all"),
        (wide(A=[1]), {"rebase": "yes"}, "rebase: 'yes' is neither True nor False"),
        (wide(A=[1]), {"size": 3}, "size: 3 is not a width and a height"),
    ],
)
def test_invalid_arguments(frame: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bak.lines(frame, **options)
    assert message in str(caught.value)
