"""The style of Matplotlib for figures of notebooks: legible on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import _fetch_figure_metadata

from binance_archive_kit.charts.symbol_colours import colour_of

STYLE = "binance_archive_kit.figures"


@pytest.fixture
def figure() -> Iterator[Figure]:
    with pyplot.style.context(STYLE):
        figure, axes = pyplot.subplots()
        axes.plot([1, 2], label="one")
        axes.plot([2, 1], label="two")
        axes.set(title="Title", xlabel="UTC", ylabel="USDT")
        axes.legend()
        figure.draw_without_rendering()
        yield figure
        pyplot.close(figure)


def luminance(colour: str) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in to_rgba(colour)[:3]
    ]
    return sum(share * value for share, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_figure_has_no_background_of_its_own(figure: Figure) -> None:
    assert to_rgba(figure.get_facecolor())[3] == 0
    assert to_rgba(figure.axes[0].get_facecolor())[3] == 0
    # Otherwise IPython asks the notebook for a white one on dark pages, or a black one on white.
    assert _fetch_figure_metadata(figure) is None


def test_text_is_legible_on_light_and_on_dark_pages(figure: Figure) -> None:
    [axes] = figure.axes
    texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_legend().get_texts()]
    texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    # The pages of JupyterLab are white and #111111.
    for text in texts:
        grey = luminance(text.get_color())
        assert 1.05 / (grey + 0.05) > 3.5
        assert (grey + 0.05) / (luminance("#111111") + 0.05) > 3.5


def test_the_first_colours_are_those_of_charts(figure: Figure) -> None:
    drawn = [to_hex(line.get_color()) for line in figure.axes[0].lines]
    assert drawn == [colour_of("BTCUSDT"), colour_of("ETHUSDT")]
