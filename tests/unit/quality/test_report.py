"""A report as text, as HTML and in a notebook.

``WRITE_SNAPSHOTS=1 pytest tests/unit/quality/test_report.py`` rewrites the snapshots; review
the changes before committing them.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import capture_output
from traitlets.config import Config

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.display.render import percent
from binance_archive_kit.errors import ChangedFile, FileError
from binance_archive_kit.quality.backtest import BacktestCoverage
from binance_archive_kit.quality.frames import COMPLETE, FLAWED, NOT_DUE, NOTHING
from binance_archive_kit.quality.halts import classify_halts
from binance_archive_kit.quality.report import CoverageReport, worst_first
from binance_archive_kit.quality.timeline import (
    FindingKind,
    GapKind,
)
from tests.support.planted import report_on
from tests.support.reports import EVIL, absence, candles, finding, long, many, small

SNAPSHOTS = Path(__file__).parent / "snapshots"


# Text


def test_only_the_whole_is_100_percent() -> None:
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
        f"Incomplete: {percent(present, 96)} of the rows due are present ({present} of 96) and 0 "
        "of 1 days where rows cannot be counted, in 5 of 5 files of 3 streams; "
        "2 halts (4 rows), 2 short files (17 rows), 1 hole (1 row)"
    )
    assert verdict.endswith(
        "unavailable: spot klines ETHUSDTT 1h, 2025-07-01: "
        "the archive has no Spot klines of this symbol"
    )
    assert report.coverage == present / 96
    assert report.weakest is not None
    assert report.weakest["data_type"] == "bookTicker"


def test_feeds_that_a_market_does_not_have_are_not_in_the_verdict() -> None:
    report = report_on(
        [candles("BTCUSDT", [])], [], [absence("BTCUSDT", Reason.NO_SUCH_FEED)], {}, "a store"
    )
    assert report.never_there == []
    assert "unavailable" not in report.verdict
    assert "1 unavailable (cannot exist)" in str(report)


def test_a_report_of_many_streams_has_a_few_lines() -> None:
    said = repr(many())
    assert len(said.splitlines()) < 20
    assert "… and 188 more streams, none of them worse" in said
    shown = re.findall(r"(SYMBOL\d+USDT) 1h  ", said)
    assert len(shown) == 12
    worst = many().streams.sort("coverage", maintain_order=True).head(12)["symbol"].to_list()
    assert shown == worst, "the worst first"


def test_several_streams_of_a_symbol_are_summed_up_if_there_are_many() -> None:
    streams = many().streams
    empty = streams.with_columns(
        pl.lit("4h", streams.schema["interval"]).alias("interval"),
        pl.lit(NOTHING).alias("state"),
        pl.lit(0, pl.Int64).alias("present"),
        pl.lit(0.0).alias("coverage"),
    )
    # The rows of one symbol cannot be counted, and the last one has no second stream.
    uncounted = empty.head(1).with_columns(pl.lit(None).alias("expected"))
    report = replace(many(), streams=pl.concat([streams, uncounted, empty[1:-1]]))
    said = repr(report)
    assert len(said.splitlines()) < 20
    assert "  symbol  " in said
    assert "… and 188 more symbols, none of them worse" in said
    parts, keys = worst_first(report.streams)
    assert keys == ("market", "symbol")
    assert parts["coverage"].is_sorted()
    rows = {row["symbol"]: row for row in parts.iter_rows(named=True)}
    one, two, last = (streams.row(index, named=True) for index in (0, 1, -1))
    assert rows[one["symbol"]]["expected"] is None
    assert rows[one["symbol"]]["actual_days"] == 2 * one["actual_days"]
    assert rows[two["symbol"]]["expected"] == 2 * two["expected"]
    assert rows[two["symbol"]]["present"] == two["present"]
    assert rows[two["symbol"]]["coverage"] == two["coverage"] / 2
    assert rows[two["symbol"]]["state"] == NOTHING
    assert rows[last["symbol"]]["state"] == last["state"]


def test_flawed_streams_are_worse_than_complete_ones() -> None:
    states = [COMPLETE, FLAWED, NOT_DUE, COMPLETE]
    streams = (
        many()
        .streams.head(4)
        .with_columns(pl.Series("state", states), pl.Series("coverage", [1.0, 1.0, None, 1.0]))
    )
    parts, keys = worst_first(streams)
    assert len(keys) == 4
    assert parts["symbol"].to_list() == [streams["symbol"][index] for index in (1, 0, 3, 2)]


def test_a_report_of_many_invalid_files_has_a_few_lines() -> None:
    problems: dict[str, FileError] = {
        f"{n}.zip": ChangedFile(f"{n}.zip", "damaged") for n in range(5_000)
    }
    found = [finding("BTCUSDT", f"file {n}") for n in range(5_000)]
    report = report_on([candles("BTCUSDT", [])], found, (), problems, "a store")
    assert len(repr(report).splitlines()) < 15
    assert "and 4,994 more" in repr(report)
    assert "5,000 duplicate" in repr(report)
    assert len(report._repr_html_()) < 10_000


# HTML


class Page(HTMLParser):
    """Parses a page: its elements, what they load, and its text."""

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


def assert_matches_snapshot(name: str, html: str) -> None:
    """Compare HTML with a snapshot, an element on each line."""
    lines = html.replace("><", ">\n<") + "\n"
    path = SNAPSHOTS / name
    if os.environ.get("WRITE_SNAPSHOTS"):
        path.write_text(lines, encoding="utf-8")
    assert lines == path.read_text(encoding="utf-8")


def test_a_report_matches_its_snapshot() -> None:
    assert_matches_snapshot("coverage.html", small()._repr_html_())
    assert_matches_snapshot("coverage.txt", str(small()))


def test_a_backtest_matches_its_snapshot() -> None:
    lines = [candles("BTCUSDT", [2, 3], []), candles("ETHUSDT", [], range(7, 24))]
    classify_halts(lines, lambda *_: "", lambda *_: None)
    report = report_on(lines, [], [], {}, "a store")
    assert_matches_snapshot("backtest.html", BacktestCoverage(report, 0.999)._repr_html_())


def test_a_page_matches_its_snapshot() -> None:
    page = re.sub(r"base64,[^\"]+", "base64,…", small().to_html())
    assert_matches_snapshot("page.html", page)


@pytest.mark.parametrize("html", ["panel", "page", "backtest"])
def test_everything_is_escaped(html: str) -> None:
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


def test_the_title_is_escaped() -> None:
    page = Page(replace(small(), title=EVIL).to_html())
    assert f"Coverage of {EVIL}" in page.text
    assert "b" not in page.tags


def test_a_page_needs_no_other_file(tmp_path: Path) -> None:
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


def test_words_accompany_colours() -> None:
    text = Page(small()._repr_html_()).text
    for word in ("◐ incomplete", "halt", "short file", "hole", "duplicate", "invalid file"):
        assert word in text


def test_text_keeps_the_colour_of_the_page() -> None:
    """So it is legible on light and dark backgrounds."""
    page = Page(small().to_html())
    styles = [value for name, value in page.attributes if name == "style"]
    coloured = [style for style in styles if re.search(r"(?<![-\w])color:", style)]
    assert all(style.startswith("color:#") for style in coloured)
    marks = page.text.count("■")
    assert len(coloured) == marks, "only the squares before words"
    assert "background" not in "".join(styles)


@pytest.mark.parametrize("make", [many, long])
def test_a_large_report_becomes_a_small_page_quickly(make: Callable[[], CoverageReport]) -> None:
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
    """Provide a notebook's shell, and remove it afterwards."""
    before = sys.displayhook, sys.modules["__main__"]
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    yield shell
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()
    sys.displayhook, sys.modules["__main__"] = before


@pytest.mark.usefixtures("shell")
def test_a_notebook_shows_the_summary_and_the_picture_as_two_outputs() -> None:
    report = small()
    with capture_output() as got:
        display(report)
    words, picture = got.outputs
    assert words.data == {"text/html": report._repr_html_(), "text/plain": str(report)}
    assert set(picture.data) == {"image/png", "text/plain"}
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")
    assert picture.metadata["image/png"]["alt"] == f"Days of each stream: {report.verdict}"
    assert picture.data["text/plain"] == f"Days of each stream: {report.verdict}"


def test_every_kind_has_a_meaning() -> None:
    assert len({kind.meaning for kind in GapKind}) == len(GapKind) == 11
    assert len({kind.meaning for kind in FindingKind}) == len(FindingKind) == 16
    assert all(kind.is_flaw for kind in FindingKind if kind.is_doubt)
