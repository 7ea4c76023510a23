"""How a report looks: in words, in HTML that anybody may be sent, and in a picture.

``WRITE_SNAPSHOTS=1 pytest tests/unit/test_reports.py`` writes the expected pages anew; look at
what changed before it is committed.
"""

from __future__ import annotations

import base64
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import capture_output
from traitlets.config import Config

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.display.render import percent
from binance_archive_kit.errors import ChangedFile, CoverageError, FileError
from binance_archive_kit.quality.backtest import BacktestCoverage
from binance_archive_kit.quality.gaps import find_gaps
from binance_archive_kit.quality.halts import classify_halts
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.timeline import (
    Explanation,
    Finding,
    FindingKind,
    Gap,
    GapKind,
    Timeline,
    merge,
)
from binance_archive_kit.timestamps import to_day_number
from tests.support.planted import DAY, HOUR, at, every, examined, line_of, report_on
from tests.support.stores import kline, other

SNAPSHOTS = Path(__file__).parent / "snapshots"
EVIL = "<b>&\"'$\\frac$"

# Reports


def candles(symbol: str, *lacking: Sequence[int]) -> Timeline:
    """Make a line of some days of July, each of which lacks some hours."""
    owners = []
    for number, gone in enumerate(lacking):
        key = kline("X", f"2025-07-{number + 1:02}")
        times = [at(str(key.start)) + hour * HOUR for hour in range(24) if hour not in gone]
        owners.append((key, examined(key, times)))
    line = line_of(owners)
    line.stream = replace(line.stream, symbol=symbol)
    line.expected_files = line.actual_files = len(owners)
    find_gaps(line)
    return line


def of_events(symbol: str) -> Timeline:
    key = other("bookTicker", "X", "2024-03-29")
    times = every(60 * 1_000_000, "2024-03-29", "2024-03-29 20:00")
    line = line_of([(key, examined(key, times, ids=times))])
    line.stream = replace(line.stream, symbol=symbol)
    line.expected_files = line.actual_files = 1
    find_gaps(line)
    return line


def finding(symbol: str, evidence: str) -> Finding:
    start = at("2025-07-01")
    stream = Stream(Market.SPOT, DataType.KLINES, symbol, Interval.H1)
    return Finding(stream, start, start + DAY, 3, FindingKind.DUPLICATE, evidence)


def absence(symbol: str, reason: Reason = Reason.UNKNOWN_SYMBOL) -> Absence:
    day = date(2025, 7, 1)
    said = "the archive has no Spot klines of this symbol"
    return Absence(Market.SPOT, DataType.KLINES, reason, said, day, day, symbol, "1h")


def small(symbol: str = "ETHUSDT") -> CoverageReport:
    """Report on three streams: a whole one, one of several gaps, and one of events.

    The symbol may be one that no key can contain.
    """
    name = "ETHUSDT"
    lines = [
        candles("BTCUSDT", [2, 3], []),
        candles(name, [2, 3, 10], range(7, 24)),
        of_events(name),
    ]
    classify_halts(lines, lambda *_: "", lambda *_: None)
    problem: FileError = ChangedFile(f"data/{symbol}.zip", f"the zip of {symbol} is damaged")
    found = [finding(name, f"{symbol}: 3 of its rows stand there before")]
    report = report_on(lines, found, [absence(f"{symbol}T")], {problem.file: problem}, "a store")
    renamed = pl.col("symbol").replace(name, symbol)
    return replace(
        report,
        streams=report.streams.with_columns(renamed),
        gaps=report.gaps.with_columns(renamed),
        findings=report.findings.with_columns(renamed),
        days=report.days.with_columns(renamed),
    )


def large(streams: int, first: date, days: int, gaps: int) -> CoverageReport:
    """Report on many streams and days with gaps of every kind; each stream draws its own."""
    lines = []
    for number in range(streams):
        dice = random.Random(number)
        begin = to_day_number(first)
        stream = Stream(Market.SPOT, DataType.KLINES, f"SYMBOL{number}USDT", Interval.H1)
        line = Timeline(
            stream, begin, [Explanation(GapKind.NOT_COLLECTED, "no file")] * days, files=[]
        )
        lacking: dict[int, GapKind] = {}
        for _ in range(gaps):
            start = dice.randrange(days)
            kind = dice.choice(list(GapKind))
            lacking |= dict.fromkeys(range(start, min(start + dice.choice((1, 5)), days)), kind)
        line.runs = np.array(
            [
                [(begin + day) * DAY, (begin + day) * DAY + 23 * HOUR, 24, HOUR, 0, 0]
                for day in range(days)
                if day not in lacking
            ]
        )
        line.gaps = merge(
            Gap(
                (begin + day) * DAY,
                (begin + day + 1) * DAY,
                24 * kind.is_missing,
                kind,
                (f"evidence of day {day}",),
                np.array([24 * kind.is_missing]),
            )
            for day, kind in lacking.items()
        )
        lines.append(line)
    return report_on(lines, [], (), {}, "many")


@cache
def many() -> CoverageReport:
    return large(200, date(2025, 1, 1), 90, 8)


@cache
def long() -> CoverageReport:
    return large(1, date(2018, 1, 1), 2_922, 400)


def month() -> CoverageReport:
    return large(3, date(2024, 12, 12), 31, 9)


# In words


def test_only_all_is_100_percent() -> None:
    for whole in (3, 100, 999, 1_440, 44_640, 10**6, 10**9, 10**12):
        assert percent(whole, whole) == "100 %"
        for part in (1, whole // 3, whole // 2, whole - 1):
            spelled = percent(part, whole)
            share = float(spelled.removesuffix(" %"))
            assert 0 < share < 100
            # Never rounded up, but for the least that is not nothing.
            assert share == 0.01 or share * whole <= 100 * part * (1 + 1e-12)
        assert percent(0, whole) == "0 %"
    assert percent(0, 0) == "—"


@pytest.mark.parametrize("part", range(1, 100))
def test_whole_percents_are_whole(part: int) -> None:
    assert percent(part, 100) == f"{part}.00 %"
    assert percent(part / 100, 1.0) == f"{part}.00 %"


def test_the_verdict_has_its_numbers() -> None:
    report = small()
    verdict = report.verdict
    present, missing = report.streams.drop_nulls("expected")["present", "missing"].sum().row(0)
    assert (present, missing) == (46 + 28, 2 + 20)
    assert verdict.startswith(
        f"Incomplete: {percent(present, 96)} of the rows due are there ({present} of 96) and 0 of "
        "1 days where rows cannot be counted, in 5 of 5 files of 3 streams; "
        "2 halts (4 rows), 2 short files (17 rows), 1 hole (1 row)"
    )
    assert verdict.endswith(
        "never there: spot klines ETHUSDTT 1h, 2025-07-01: "
        "the archive has no Spot klines of this symbol"
    )
    assert report.coverage == present / 96
    assert report.weakest is not None
    assert report.weakest["data_type"] == "bookTicker"


def test_that_a_market_lacks_a_feed_is_no_news() -> None:
    report = report_on(
        [candles("BTCUSDT", [])], [], [absence("BTCUSDT", Reason.NO_SUCH_FEED)], {}, "a store"
    )
    assert report.never_there == []
    assert "never there" not in report.verdict
    assert "1 unavailable (cannot exist)" in str(report)


def test_a_report_of_many_streams_is_told_in_a_few_lines() -> None:
    said = repr(many())
    assert len(said.splitlines()) < 20
    assert "… and 188 more streams, none of them worse" in said
    shown = re.findall(r"(SYMBOL\d+USDT) 1h  ", said)
    assert len(shown) == 12
    order = [int(name[6:-4]) for name in shown]
    assert order == sorted(order), "in their own order"
    worst = many().streams.sort("coverage", maintain_order=True).head(12)["symbol"].to_list()
    assert set(shown) == set(worst)


def test_many_bad_files_are_told_in_a_few_lines() -> None:
    problems: dict[str, FileError] = {
        f"{n}.zip": ChangedFile(f"{n}.zip", "damaged") for n in range(5_000)
    }
    found = [finding("BTCUSDT", f"file {n}") for n in range(5_000)]
    report = report_on([candles("BTCUSDT", [])], found, (), problems, "a store")
    assert len(repr(report).splitlines()) < 15
    assert "and 4,994 more" in repr(report)
    assert "5,000 duplicate" in repr(report)
    assert len(report._repr_html_()) < 10_000


# In HTML


class Page(HTMLParser):
    """Reads a page: its elements, what they load, and its text."""

    VOID = ("meta", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_as_before(name: str, html: str) -> None:
    """Hold HTML against the stored one, an element to a line."""
    lines = html.replace("><", ">\n<") + "\n"
    path = SNAPSHOTS / name
    if os.environ.get("WRITE_SNAPSHOTS"):
        path.write_text(lines, encoding="utf-8")
    assert lines == path.read_text(encoding="utf-8")


def test_a_report_looks_as_before() -> None:
    assert_as_before("coverage.html", small()._repr_html_())
    assert_as_before("coverage.txt", str(small()))


def test_a_backtest_looks_as_before() -> None:
    lines = [candles("BTCUSDT", [2, 3], []), candles("ETHUSDT", [], range(7, 24))]
    classify_halts(lines, lambda *_: "", lambda *_: None)
    report = report_on(lines, [], [], {}, "a store")
    assert_as_before("backtest.html", BacktestCoverage(report, 0.999)._repr_html_())


def test_a_page_looks_as_before() -> None:
    page = re.sub(r"base64,[^\"]+", "base64,…", small().to_html())
    assert_as_before("page.html", page)


@pytest.mark.parametrize("html", ["panel", "page", "backtest"])
def test_nothing_is_taken_for_html(html: str) -> None:
    report = small(EVIL)
    made = {
        "panel": report._repr_html_,
        "page": report.to_html,
        "backtest": BacktestCoverage(report, 0.9)._repr_html_,
    }[html]()
    page = Page(made)
    assert "b" not in page.tags
    assert EVIL in page.text
    assert "<b>" not in made
    ours = {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "details"}
    ours |= {"summary", "ul", "li", "span", "html", "head", "meta", "title", "style", "body"}
    assert set(page.tags) <= ours | {"h1", "h2", "img"}
    assert {name for name, _ in page.attributes} <= {
        *("style", "aria-hidden", "alt", "src", "lang", "charset", "name", "content"),
    }


def test_a_title_is_escaped_too() -> None:
    page = Page(replace(small(), title=EVIL).to_html())
    assert f"Coverage of {EVIL}" in page.text
    assert "b" not in page.tags


def test_a_page_stands_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "coverage.html"
    assert small().to_html(path) is None
    html = path.read_text(encoding="utf-8")
    assert html == small().to_html()
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert [value[:22] for name, value in page.attributes if name in ("src", "href")] == [
        "data:image/png;base64,"
    ]
    assert "url(" not in html
    assert "http" not in html
    assert "color-scheme: light dark" in html
    [alt] = [value for name, value in page.attributes if name == "alt"]
    assert alt.startswith("Days of each stream: Incomplete: ")


def test_words_stand_beside_colours() -> None:
    text = Page(small()._repr_html_()).text
    for word in ("◐ incomplete", "halt", "short file", "hole", "duplicate", "invalid file"):
        assert word in text


def test_no_text_has_a_colour_of_its_own() -> None:
    """So that it is read on a light and on a dark ground."""
    page = Page(small().to_html())
    styles = [value for name, value in page.attributes if name == "style"]
    coloured = [style for style in styles if re.search(r"(?<![-\w])color:", style)]
    assert all(style.startswith("color:#") for style in coloured)
    marks = page.text.count("■")
    assert len(coloured) == marks, "only the squares before words"
    assert "background" not in "".join(styles)


@pytest.mark.parametrize("make", [many, long])
def test_a_large_report_is_a_small_page_and_made_soon(make: Callable[[], CoverageReport]) -> None:
    report = make()
    began = time.perf_counter()
    panel, page = report._repr_html_(), report.to_html()
    assert time.perf_counter() - began < 8
    assert len(page) < 1_000_000
    assert panel.count("<tr>") <= 26
    assert len(panel) < 30_000
    assert page.count("<tr>") <= 26 + 1_001
    left = report.gaps.height - 1_000
    assert (f"… and {left:,} more gaps; report.gaps has them all" in page) == (left > 0)
    hidden = report.streams.height - 25
    assert (f"… and {hidden:,} more streams, none of them worse" in panel) == (hidden > 0)
    assert many().gaps.height > 1_000


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """Lend a notebook's shell, which nobody else finds there afterwards."""
    before = sys.displayhook, sys.modules["__main__"]
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    yield shell
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()
    sys.displayhook, sys.modules["__main__"] = before


@pytest.mark.usefixtures("shell")
def test_a_notebook_shows_the_words_and_the_picture_as_two_outputs() -> None:
    report = small()
    with capture_output() as got:
        display(report)
    words, picture = got.outputs
    assert words.data == {"text/html": report._repr_html_(), "text/plain": str(report)}
    assert set(picture.data) == {"image/png", "text/plain"}
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")
    assert picture.metadata["image/png"]["alt"] == f"Days of each stream: {report.verdict}"
    assert picture.data["text/plain"] == f"Days of each stream: {report.verdict}"


# In a picture


def legend_of(axes: object) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[attr-defined]


def labels_of(axes: object, which: str) -> list[str]:
    ticks = getattr(axes, f"get_{which}ticklabels")()
    return [label.get_text() for label in ticks]


def cells_of(axes: object) -> np.ma.MaskedArray:
    """Give the field as it is drawn, row by row."""
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


def test_a_plot_is_drawn_where_it_is_told() -> None:
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2)
    assert small().plot(left) is left
    assert small().plot(axes=right) is right
    assert labels_of(left, "y") == ["spot klines BTCUSDT 1h", "spot klines ETHUSDT 1h",
                                    "futures_um bookTicker ETHUSDT"]  # fmt: skip
    figure.canvas.draw()
    own = small().plot()
    assert own.figure is not figure


def test_every_colour_has_its_word() -> None:
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
def test_days_are_put_together_where_there_are_too_many(days: int, columns: int, note: str) -> None:
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
def test_words_lie_within_the_picture_and_apart(
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


def test_symbols_are_no_formulas_and_no_boxes() -> None:
    """No font here may have the characters; drawing them would warn."""
    for symbol in (EVIL, "币安人生USDT", "$\\bad{"):
        assert small(symbol)._heatmap().png().startswith(b"\x89PNG")
        years = large(1, date(2024, 1, 1), 500, 4)
        renamed = replace(
            years,
            streams=years.streams.with_columns(symbol=pl.lit(symbol)),
            days=years.days.with_columns(symbol=pl.lit(symbol)),
        )
        assert renamed._heatmap().png().startswith(b"\x89PNG")


def test_nothing_is_not_drawn() -> None:
    report = report_on([], [], (), {}, "nothing")
    with pytest.raises(CoverageError, match="nothing to draw"):
        report.plot()
    assert "<img" not in report.to_html()
    assert "None." in report.to_html()


# Frames


def test_frames_have_the_promised_columns() -> None:
    report = small()
    assert report.gaps.columns == [
        *("market", "data_type", "symbol", "interval", "start", "end", "missing", "kind"),
        "evidence",
    ]
    assert report.gaps["start"].dtype.time_zone == "UTC"  # type: ignore[attr-defined]
    first = report.gaps.row(0, named=True)
    assert first["start"] == datetime(2025, 7, 1, 2, tzinfo=UTC)
    assert first["end"] == datetime(2025, 7, 1, 4, tzinfo=UTC)
    assert report.to_frame() is report.streams
    known = report.days.drop_nulls("expected")
    assert (known["present"] <= known["expected"]).all()
    assert (
        report.days.filter(report.days["data_type"] == "bookTicker")["expected"].null_count() == 1
    )


def test_every_kind_has_its_meaning() -> None:
    assert len({kind.meaning for kind in GapKind}) == len(GapKind) == 11
    assert len({kind.meaning for kind in FindingKind}) == len(FindingKind) == 16
    assert all(kind.is_flaw for kind in FindingKind if kind.is_doubt)
