"""One layout serves text, HTML and Markdown."""

from __future__ import annotations

from binance_archive_kit.display.summary import Fold, Summary, Table, first_lines

SUMMARY = Summary(
    "Plan",
    "2 objects <to> fetch",
    "good",
    [
        Table(("feed", "size"), [("spot klines", "1 KB"), ("<b>", "12 KB")], {1}, "… and 3"),
        Table(("nothing",), []),
    ],
    folds=[
        Fold("8 missing", range(8), "warn"),
        Fold("none", []),
    ],
    notes=["symbols: *read* as\n 'BTCUSDT'"],
)


def test_text_is_indented_below_the_verdict() -> None:
    assert SUMMARY.to_text().splitlines() == [
        "Plan · 2 objects <to> fetch",
        "  feed         size",
        "  spot klines  1 KB",
        "  <b>          12 KB",
        "  … and 3",
        "  8 missing",
        *(f"    {number}" for number in range(6)),
        "    … and 2 more",
        "  note: symbols: *read* as 'BTCUSDT'",
    ]


def test_html_escapes_and_leaves_out_what_is_empty() -> None:
    html = SUMMARY.to_html()
    assert "<strong>Plan</strong> · 2 objects &lt;to&gt; fetch" in html
    style = "padding:2px 5px;white-space:nowrap"
    assert f'<td style="text-align:right;{style}">12 KB</td>' in html
    assert f'<td style="text-align:left;{style}">&lt;b&gt;</td>' in html
    assert "<p>… and 3</p>" in html
    assert "8 missing</summary>" in html
    assert "1 note</summary>" in html
    assert "none" not in html
    assert "nothing" not in html
    assert html.endswith(f"{SUMMARY.body_html()}</div>")


def test_html_keeps_short_cells_on_one_line_and_wide_tables_scroll() -> None:
    html = Table(("day", "evidence"), [("2025-06-24", "no symbol has it " * 3)]).to_html()
    assert html.startswith('<div style="overflow-x:auto"><table')
    assert 'white-space:nowrap">2025-06-24</td>' in html
    assert 'min-width:24em">no symbol has it' in html


def test_markdown_escapes_and_lists() -> None:
    parts = SUMMARY.to_markdown().split("\n\n")
    assert parts == [
        "# Plan",
        r"2 objects \<to\> fetch",
        "| feed | size |\n| --- | --- |\n| spot klines | 1 KB |\n| \\<b\\> | 12 KB |",
        "… and 3",
        "**8 missing**",
        "\n".join(f"- {number}" for number in range(8)),
        "**Notes**",
        r"- symbols: \*read\* as 'BTCUSDT'",
    ]


def test_a_summary_may_be_its_verdict_alone() -> None:
    summary = Summary("Store", "empty", "idle")
    assert summary.to_text() == "Store · empty"
    assert summary.body_html() == ""
    assert summary.to_markdown() == "# Store\n\nempty"


def test_only_shown_lines_are_formatted() -> None:
    class Line:
        def __init__(self, number: int) -> None:
            self.number = number

        def __str__(self) -> str:
            assert self.number < 6
            return "line"

    assert first_lines([Line(number) for number in range(100)])[-1] == "… and 94 more"
    assert len(first_lines(range(7))) == 7
