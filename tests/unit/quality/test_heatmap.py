"""Coverage as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_rgb

from binance_archive_kit.display import theme
from binance_archive_kit.errors import CoverageError
from binance_archive_kit.quality.heatmap import KIND_COLOURS
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.timeline import (
    GapKind,
)
from tests.support.planted import report_on
from tests.support.reports import EVIL, candles, large, long, many, month, small


def legend_of(axes: object) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[attr-defined]


def labels_of(axes: object, which: str) -> list[str]:
    ticks = getattr(axes, f"get_{which}ticklabels")()
    return [label.get_text() for label in ticks]


def cells_of(axes: object) -> np.ma.MaskedArray:
    """Return the grid as it is drawn, row by row."""
    from matplotlib.collections import QuadMesh

    [mesh] = [each for each in axes.collections if isinstance(each, QuadMesh)]  # type: ignore[attr-defined]
    return mesh.get_array()


@pytest.fixture(autouse=True)
def no_figure_is_left() -> object:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    yield
    pyplot.close("all")


def test_a_plot_is_drawn_on_the_given_axes() -> None:
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2)
    assert small().plot(left) is left
    assert small().plot(axes=right) is right
    assert labels_of(left, "y") == ["spot klines BTCUSDT 1h", "spot klines ETHUSDT 1h",
                                    "futures_um bookTicker ETHUSDT"]  # fmt: skip
    figure.canvas.draw()
    own = small().plot()
    assert own.figure is not figure


def test_every_colour_is_in_the_legend() -> None:
    axes = candles_report([2, 3], range(7, 24)).plot()
    assert legend_of(axes) == ["short file", "hole"]
    cells = cells_of(axes)
    assert cells.shape == (1, 2)
    assert cells[0, 0] != cells[0, 1]
    assert legend_of(many().plot()) == [
        *("after delisting", "before listing", "ended feed", "not published", "complete"),
        *("halt", "short file", "hole", "empty file", "not collected"),
        *("missing in archive", "corrupt"),
    ]


def candles_report(*lacking: Sequence[int]) -> CoverageReport:
    return report_on([candles("BTCUSDT", *lacking)], [], (), {}, "a store")


def test_many_streams_show_the_worst() -> None:
    picture = many()._heatmap()
    assert picture.codes.shape == (100, 90)
    assert picture.note == "the 100 worst of 200 streams"
    bad = many().streams.select("symbol", bad="missing")
    drawn = {name.split()[2] for name in picture.names}
    assert len(drawn) == 100
    assert bad.sort("bad", descending=True).head(10)["symbol"].is_in(list(drawn)).sum() >= 8


def test_one_stream_of_many_years_is_drawn_year_by_year() -> None:
    picture = long()._heatmap()
    assert picture.yearly
    assert picture.names == [str(year) for year in range(2018, 2026)]
    assert picture.codes.shape == (8, 366)
    february = [
        day for day, start in enumerate(picture.starts) if (start.month, start.day) == (2, 29)
    ]
    assert [picture.codes[row, february[0]] >= 0 for row in range(8)] == [
        year % 4 == 0 for year in range(2018, 2026)
    ]
    axes = picture.plot()
    assert labels_of(axes, "x")[:3] == ["Jan", "Feb", "Mar"]
    assert axes.get_title(loc="left") == "spot klines SYMBOL0USDT 1h"


@pytest.mark.parametrize(
    ("days", "columns", "note"),
    [(400, 400, ""), (401, 59, "week"), (2_800, 401, "week"), (2_801, 93, "month")],
)
def test_days_share_a_cell_where_there_are_too_many(days: int, columns: int, note: str) -> None:
    report = large(2, date(2018, 1, 1), days, 3)
    picture = report._heatmap()
    assert abs(picture.codes.shape[1] - columns) <= 1
    assert picture.note == (f"each cell shows the worst day of a {note}" if note else "")
    # Whatever is put together, the worst of it is seen.
    worst = {str(kind) for kind in report.days["kind"].drop_nulls().unique()}
    drawn = {word.replace(" ", "_") for word in legend_of(picture.plot())}
    lacks = {kind for kind in worst if GapKind(kind).is_missing}
    assert lacks <= drawn


def seasons() -> CoverageReport:
    return large(2, date(2022, 12, 24), 700, 9)


def quarters() -> CoverageReport:
    return large(2, date(2022, 1, 20), 1_070, 9)


def eras() -> CoverageReport:
    return large(2, date(2016, 12, 24), 3_400, 9)


@pytest.mark.parametrize("make", [small, many, long, month, seasons, quarters, eras])
def test_labels_lie_within_the_picture_and_do_not_overlap(
    make: Callable[[], CoverageReport],
) -> None:
    axes = make().plot()
    figure = axes.figure
    figure.canvas.draw()
    whole = figure.bbox
    legend = axes.get_legend().get_window_extent()
    boxes = [
        label.get_window_extent() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
    ]
    for box in (legend, *boxes):
        assert whole.x0 - 1 <= box.x0
        assert box.x1 <= whole.x1 + 1
        assert whole.y0 - 1 <= box.y0
        assert box.y1 <= whole.y1 + 1
    across = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(one.x1 < two.x0 for one, two in pairwise(across))
    down = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(one.y0 > two.y1 - 1 for one, two in pairwise(down))
    assert all(box.y0 > legend.y1 for box in across), "the legend is below the days"


def test_symbols_are_legible() -> None:
    """No font here may have the characters; drawing them would warn."""
    for symbol in (EVIL, "币安人生USDT", "$\\bad{"):
        assert small(symbol)._heatmap().figure("").png().startswith(b"\x89PNG")
        years = large(1, date(2024, 1, 1), 500, 4)
        renamed = replace(
            years,
            streams=years.streams.with_columns(symbol=pl.lit(symbol)),
            days=years.days.with_columns(symbol=pl.lit(symbol)),
        )
        assert renamed._heatmap().figure("").png().startswith(b"\x89PNG")


def test_a_halt_does_not_look_like_good_data() -> None:
    def distance(one: str, two: str) -> float:
        return float(np.linalg.norm(np.subtract(to_rgb(one), to_rgb(two))))

    for good in (theme.BLUE, "green", "teal", "limegreen"):
        assert distance(KIND_COLOURS[GapKind.HALT], good) > 0.5
    assert set(KIND_COLOURS) == set(GapKind)
    assert len(set(KIND_COLOURS.values())) == len(GapKind)


def test_a_plot_has_a_description() -> None:
    report = small()
    figure = report.plot().figure
    assert figure.description == f"Days of each stream: {report.verdict}"  # type: ignore[union-attr]


def test_an_empty_report_has_no_picture() -> None:
    report = report_on([], [], (), {}, "nothing")
    with pytest.raises(CoverageError, match="nothing to draw"):
        report.plot()
    assert "<img" not in report.to_html()
    assert "None." in report.to_html()
