"""Figures are legible on light and dark pages, with any characters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from binance_archive_kit.charts import symbol_colours
from binance_archive_kit.display import theme
from binance_archive_kit.display.inline_figure import InlineFigure
from binance_archive_kit.errors import ConfigurationError

#: White, and the background of JupyterLab's dark theme.
PAGES = ("#ffffff", "#111111")


def luminance(colour: str) -> float:
    channels = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4
        for each in colors.to_rgb(colour)
    )
    return sum(part * each for part, each in zip((0.2126, 0.7152, 0.0722), channels, strict=True))


def contrast(one: str, two: str) -> float:
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("page", PAGES)
def test_text_and_lines_are_legible(page: str) -> None:
    assert contrast(theme.INK, page) > 4.3
    for colour in (theme.BLUE, theme.ORANGE, *symbol_colours._PALETTE):
        assert contrast(colour, page) > 2.3


def pixels_of(text: str, families: list[str]) -> int:
    """Count the dark pixels of a drawn text."""
    figure = Figure(figsize=(3, 1))
    canvas = FigureCanvasAgg(figure)
    figure.text(0, 0.5, text, fontfamily=families, parse_math=False)
    canvas.draw()
    return int((np.asarray(canvas.buffer_rgba())[..., 0] < 100).sum())


@pytest.fixture
def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave out the fonts of this machine."""
    from matplotlib import font_manager

    theme._fonts.cache_clear()
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["DejaVu Sans"])
    yield
    theme._fonts.cache_clear()


@pytest.mark.usefixtures("only_dejavu")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("BTCUSDT ≥", "BTCUSDT ≥"),
        ("币安USDT", "\\u5e01\\u5b89USDT"),
        ("$\\bad{", "$\\bad{"),
        ("a\tb\0\u202e", "a\\tb\\x00\\u202e"),
        ("🧊", "\\U0001f9ca"),
    ],
)
def test_characters_without_a_glyph_are_escaped(text: str, shown: str) -> None:
    families, [name] = theme.legible([text])
    assert (families, name) == (["DejaVu Sans"], shown)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels_of(name, families)


def test_installed_fonts_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A font with the characters, if there is one, is named after the default one."""
    from matplotlib import font_manager

    theme._fonts.cache_clear()
    monkeypatch.setattr(theme, "_FONTS", ("No Such Font", "cmr10"))
    families, [name] = theme.legible(["BTC"])
    theme._fonts.cache_clear()
    assert "cmr10" in font_manager.get_font_names()
    assert (families, name) == (["DejaVu Sans", "cmr10"], "BTC")


def test_a_figure_of_pyplot_has_no_background_of_its_own() -> None:
    from matplotlib import pyplot

    with pyplot.rc_context({"figure.facecolor": "white", "figure.dpi": 72}):
        axes = theme.new_axes((4, 2), "nothing yet")
    figure = axes.figure
    assert isinstance(figure, InlineFigure)
    assert pyplot.gcf() is figure
    assert figure.description == "nothing yet"
    assert figure.get_facecolor()[3] == 0
    theme.dress(axes, grid=True)
    assert colors.to_rgba(axes.get_facecolor())[3] == 0
    assert {label.get_color() for label in axes.get_xticklabels()} == {theme.INK}


def test_a_title_is_broken_into_lines_that_fit() -> None:
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    theme.set_title(axes, "one", "word " * 30)
    figure.draw_without_rendering()
    title = axes._left_title  # type: ignore[attr-defined]
    assert title.get_text().startswith("one\nword word")
    assert title.get_window_extent().x1 <= figure.bbox.x1
    assert title.get_window_extent().y1 <= figure.bbox.y1


def test_a_legend_has_any_characters_and_fits() -> None:
    figure = Figure(figsize=(4, 3), layout="constrained")
    figure.subplots()
    names = ["币安人生USDT", "$\\bad{", *(f"a long name {number}" for number in range(7))]
    legend = theme.add_legend_below(figure, [Patch(label=name) for name in names])
    figure.draw_without_rendering()
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == theme.legible(names)[1]
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 < figure.axes[0].get_window_extent().y0


def test_a_long_unit_is_left_out() -> None:
    figure = Figure()
    axes = figure.subplots()
    theme.set_label(axes.yaxis, "volume", "BTC")
    assert axes.get_ylabel() == "volume\nBTC"
    theme.set_label(axes.yaxis, "volume", "币安人生")
    assert axes.get_ylabel() in ("volume", "volume\n币安人生")
    theme.set_label(axes.yaxis, "price")
    assert axes.get_ylabel() == "price"


@pytest.mark.parametrize(
    "size", [None, 3, (1, 2, 3), (0, 3), (4, 2), (4, 1e9), ("3", 3), (float("nan"), 3), {4, 3}]
)
def test_invalid_sizes(size: object) -> None:
    with pytest.raises(ConfigurationError, match=r"size: .* is not a width and a height in inches"):
        theme.check_size(size)
