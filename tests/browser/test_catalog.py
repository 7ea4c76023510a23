"""The catalogue in JupyterLab: search, scroll and choose by mouse and keyboard, then collect."""

from __future__ import annotations

from pathlib import Path

import nbformat

import binance_archive_kit as bak
from binance_archive_kit.demo.synthetic import build
from binance_archive_kit.planning.selection import matches
from tests.browser.conftest import Lab, Open, fits, unlabelled
from tests.support.bucket import daily_klines
from tests.support.faults import on_listing
from tests.support.s3_server import Fault, LocalS3

SYMBOLS = 5_000
#: Milliseconds until 5,000 symbols are searched, sorted or scrolled, and drawn.
ANSWERED = 100
#: A symbol that is drawn as another one if anything takes it for HTML.
ODD = "&LT;B&GT;USDT"
#: Acts on the catalogue, and tells the longest time from an act to the next picture.
ACT = """async ([label, acts]) => {
  const search = document.querySelector(`[aria-label="${label}"]`);
  const grid = document.querySelector('.bak-grid');
  let slowest = 0;
  for (const [kind, value] of acts) {
    const began = performance.now();
    if (kind === 'type') {
      search.value = value;
      search.dispatchEvent(new Event('input', {bubbles: true}));
    } else if (kind === 'scroll') grid.scrollTop = value;
    else document.querySelectorAll('.bak-sort')[value].click();
    await new Promise(requestAnimationFrame);
    slowest = Math.max(slowest, performance.now() - began);
  }
  return slowest;
}"""
SEARCH = "Search the symbols"


def notebook_of(*cells: str) -> nbformat.NotebookNode:
    made: nbformat.NotebookNode = nbformat.v4.new_notebook(
        cells=list(map(nbformat.v4.new_code_cell, cells))
    )
    return made


def test_what_the_archive_has_becomes_a_collection(
    lab: Lab, open_notebook: Open, screenshots: Path
) -> None:
    from playwright.sync_api import expect

    with LocalS3({**build(), **daily_klines(ODD, days=5)}) as archive:
        notebook = open_notebook(
            "catalog.ipynb",
            notebook_of(
                "import binance_archive_kit as bak",
                f"catalog = bak.catalog({archive.url!r})\ncatalog",
                "catalog.config",
                "bak.collect(catalog.config)",
            ),
        )
        notebook.run_through("bak.catalog(")
        page = notebook.page
        catalog = page.locator(".bak-form")
        row = lambda name: catalog.get_by_role("row").filter(has_text=name)  # noqa: E731
        expect(catalog).to_contain_text("Symbols loaded: 4 symbols")
        expect(catalog).to_contain_text("First and last days of 4 of 4 are loaded.")
        expect(row("BTCUSDT")).to_contain_text("2024-12-302025-07-15")
        for word in ("Wrong", "Cannot", "Error", "✕"):
            expect(catalog).not_to_contain_text(word)
        expect(catalog).to_contain_text("Still needed: a symbol")
        expect(row(ODD)).to_have_count(1)
        assert not unlabelled(catalog)
        # Without a choice the configuration is the fields.
        notebook.run_through("catalog.config")
        expect(page.locator(".jp-Notebook")).to_contain_text("'symbols': []")

        # By mouse and by key.
        row("BTCUSDT").click()
        expect(row("BTCUSDT")).to_have_attribute("aria-selected", "true")
        search = catalog.get_by_label(SEARCH)
        search.fill("*人生us??")
        expect(catalog).to_contain_text("1 of 4")
        search.press("Enter")
        expect(catalog.get_by_role("button", name="Remove 币安人生USDT")).to_be_visible()
        search.press("Escape")
        search.press("ArrowDown")
        grid = catalog.get_by_role("grid")
        expect(grid).to_be_focused()
        # In the order of symbols, the odd one is the first.
        page.keyboard.press("Home")
        page.keyboard.press("Space")
        expect(row(ODD)).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Shift+End")
        expect(catalog.locator(".bak-chip")).to_have_count(4)
        catalog.get_by_role("button", name="Remove all").click()
        row(ODD).click()
        row("币安人生USDT").click(modifiers=["Shift"])
        expect(catalog.locator(".bak-chip")).to_have_count(4)
        grid.focus()
        page.keyboard.press("Enter")
        catalog.get_by_role("button", name="Remove ETHUSDT").click()
        page.keyboard.press("Tab")
        expect(catalog.locator(".bak-chip")).to_have_count(2)
        catalog.get_by_label("Chosen only").check()
        expect(catalog).to_contain_text("2 of 4")
        catalog.get_by_label("Chosen only").uncheck()
        expect(catalog).to_contain_text("no files of these days for 2 of 2 chosen symbols")
        catalog.get_by_role("button", name="All their days").click()
        expect(catalog).not_to_contain_text("no files of these days")
        catalog.get_by_role("textbox", name="Output folder").fill("chosen")
        catalog.get_by_label("from", exact=True).fill("2025-07-01")
        catalog.get_by_label("from", exact=True).press("Tab")
        expect(catalog.locator(".bak-code")).to_contain_text('"start": "2025-07-01"')
        expect(catalog.locator(".bak-code")).to_contain_text('output_directory="chosen"')
        catalog.get_by_role("button", name="Copy").click()
        expect(catalog).to_contain_text("Copied")
        names = {"bak": bak}
        copied = page.evaluate("navigator.clipboard.readText()")
        exec(copied.removesuffix("\nresult = bak.collect(config)"), names)
        config = names["config"]
        assert isinstance(config, bak.CollectionConfig)
        assert set(config.symbols) == {"BTCUSDT", ODD}

        for theme in ("Light", "Dark"):
            notebook.theme(theme)
            for width in (800, 1280):
                page.set_viewport_size({"width": width, "height": 1900})
                assert not fits(catalog), (theme, width)
                catalog.screenshot(path=screenshots / f"catalog-{theme.lower()}-{width}.png")
        notebook.theme("Light")
        result = notebook.run_through("bak.collect(")
        expect(result).to_contain_text("Collection complete")
        assert (lab.folder / "chosen/data/spot/daily/klines/BTCUSDT/1h").is_dir()

        # Another market, which cannot be listed at first.
        archive.fault = on_listing("metrics", Fault(status=403))
        catalog.get_by_label("USD-M futures").check()
        catalog.get_by_label("metrics").check()
        expect(catalog).to_contain_text("Symbols unknown: ")
        expect(catalog).to_contain_text("status 403")
        catalog.screenshot(path=screenshots / "catalog-offline.png")
        archive.fault = None
        catalog.get_by_role("button", name="Try again").click()
        expect(row("BTCUSDT")).to_contain_text("2021-05-20")

        # The tab is closed, and opened again: the catalogue is as it was left.
        notebook.come_back()
        catalog = notebook.page.locator(".bak-form")
        expect(catalog.get_by_label("metrics")).to_be_checked()
        expect(row("BTCUSDT")).to_contain_text("2021-05-20")
        notebook.shut_down()


def test_thousands_of_symbols_are_searched_sorted_and_scrolled_without_lag(
    open_notebook: Open, screenshots: Path
) -> None:
    from playwright.sync_api import expect

    names = sorted([f"COIN{at}USDT" for at in range(SYMBOLS - 3)] + ["BTCUSDT", "ETHBTC", "BNB"])
    objects = {f"data/spot/daily/klines/{name}/1h/{name}-1h-2025-07-01.zip": b"" for name in names}
    with LocalS3(objects) as server:
        notebook = open_notebook(
            "thousands.ipynb",
            notebook_of(
                "import binance_archive_kit as bak",
                f"catalog = bak.catalog({server.url!r})\ncatalog",
            ),
        )
        notebook.run_through("bak.catalog(")
        page = notebook.page
        catalog = page.locator(".bak-form")
        expect(catalog).to_contain_text("Symbols loaded: 5,000 symbols")
        rows = catalog.locator(".bak-grid-body > [role=row]")
        # Only visible symbols are drawn, and only their days are read.
        expect(rows.first).to_contain_text("2025-07-01")
        assert rows.count() < 40
        catalog.locator(".bak-grid").scroll_into_view_if_needed()
        acts = [
            *(("type", text) for text in ("C", "CO", "COIN29", "", "*9?USDT", "btc", "")),
            *(("scroll", top) for top in (30_000, 120_000, 60_000, 0)),
            *(("sort", column) for column in (2, 2, 4, 0)),
        ]
        slowest = min(page.evaluate(ACT, [SEARCH, acts]) for _ in range(3))
        print(f"\n5,000 symbols: slowest act {slowest:.0f} ms")
        assert slowest < ANSWERED
        asked = {key.split("/")[4] for kind, key in server.requests if key.count("/") > 4}
        assert len(asked) < 300

        # The rule of patterns is that of configurations.
        search = catalog.get_by_label(SEARCH)
        for pattern in ("COIN?0USDT", "*BTC", "COIN*7USDT", "BTC", "?", "*", "COIN(1)*", "[C]*"):
            page.evaluate(ACT, [SEARCH, [("type", pattern)]])
            wild = any(sign in pattern for sign in "*?")
            count = sum(matches(pattern, each) if wild else pattern in each for each in names)
            expect(catalog).to_contain_text(f"{count:,} of 5,000")
        search.fill("*BTC")
        catalog.get_by_role("button", name="Choose the pattern *BTC").click()
        expect(catalog.locator(".bak-code")).to_contain_text('symbols=["*BTC"]')
        catalog.get_by_role("button", name="Remove *BTC").click()

        # All days are loaded on request, until that is cancelled.
        server.latency = 0.2
        search.fill("")
        catalog.get_by_role("button", name="Load all").click()
        expect(catalog).to_contain_text("Loading first and last days")
        catalog.get_by_role("button", name="Cancel").click()
        expect(catalog).to_contain_text("of 5,000 are loaded; those of visible symbols follow")
        catalog.get_by_role("button", name="Choose all 5,000").click()
        expect(catalog).to_contain_text("and 4,988 more")
        catalog.screenshot(path=screenshots / "catalog-thousands.png")
        notebook.shut_down()
