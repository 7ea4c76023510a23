"""A figure of Matplotlib that notebooks display as a picture with a description, without pyplot."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class InlineFigure(Figure):
    """A figure that a notebook displays when it is the value of a cell.

    It can be changed and saved like any other (``savefig``); its background is transparent.

    Parameters
    ----------
    size : (float, float)
        Width and height in inches.
    description : str
        What the picture shows, for people who cannot see it.
    """

    def __init__(self, size: tuple[float, float], description: str = "") -> None:
        super().__init__(figsize=size, dpi=110, facecolor="none", layout="constrained")
        FigureCanvasAgg(self)
        self.description = description

    def png(self) -> bytes:
        """Return the picture as a PNG."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the picture and its description, which IPython prefers to its own formats."""
        data = {"image/png": self.png(), "text/plain": self.description}
        return data, {"image/png": {"alt": self.description}}
