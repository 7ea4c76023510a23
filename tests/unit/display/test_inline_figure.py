"""A figure that notebooks display by themselves."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib import image
from matplotlib.figure import Figure

from binance_archive_kit.display.inline_figure import InlineFigure


def a_figure() -> InlineFigure:
    figure = InlineFigure((4, 2), "A line that rises")
    figure.subplots().plot([1, 2], [3, 4])
    return figure


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    yield InteractiveShell.instance(history_manager=None)
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("pyplot", [False, True])
def test_a_cell_displays_the_picture_and_its_description(
    shell: InteractiveShell, pyplot: bool
) -> None:
    if pyplot:
        # The inline backend registers its own PNG of figures.
        png = shell.display_formatter.formatters["image/png"]  # type: ignore[union-attr]
        png.for_type(Figure, lambda _: b"another")
    shell.user_ns["figure"] = a_figure()
    with capture_output() as got:
        shell.run_cell("figure").raise_error()
    [output] = got.outputs
    assert set(output.data) == {"image/png", "text/plain"}
    assert output.data["text/plain"] == "A line that rises"
    assert output.metadata == {"image/png": {"alt": "A line that rises"}}
    picture = image.imread(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert picture.shape == (220, 440, 4)


def test_it_is_a_figure_that_can_be_saved(tmp_path: Path) -> None:
    figure = a_figure()
    figure.savefig(tmp_path / "a.png")
    figure.savefig(tmp_path / "a.pdf")
    assert isinstance(figure, Figure)
    picture = image.imread(tmp_path / "a.png")
    # The corners are transparent, and the line is not.
    assert not picture[[0, 0, -1, -1], [0, -1, 0, -1], 3].any()
    assert np.max(picture[..., 3]) == 1
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_it_is_not_known_to_pyplot() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    a_figure()
    assert pyplot.get_fignums() == before
