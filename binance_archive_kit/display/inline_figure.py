"""A figure of Matplotlib that notebooks display as a picture with a description.

Pyplot is not needed, and may be used: its own figures get a white background on dark pages.
"""

from __future__ import annotations

import base64
import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class InlineFigure(Figure):
    """A figure that a notebook displays when it is the value of a cell.

    It can be changed and saved like any other (``savefig``); its background is transparent.

    Parameters
    ----------
    figsize : (float, float)
        Width and height in inches.
    description : str
        Alternative text of the picture.
    **_
        Pyplot gives its own defaults, which are for white pages.
    """

    def __init__(self, figsize: tuple[float, float], description: str = "", **_: object) -> None:
        super().__init__(figsize=figsize, dpi=110, facecolor="none", layout="constrained")
        FigureCanvasAgg(self)
        self.description = description

    def png(self) -> bytes:
        """Return the picture as a PNG."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def base64(self) -> str:
        """Return the picture as a PNG in Base64."""
        return base64.b64encode(self.png()).decode()

    def _ipython_display_(self) -> None:
        """Show the picture in a notebook, with its description.

        The formats that IPython knows of a figure have no description, and depend on pyplot.
        """
        from IPython.display import display

        data = {"image/png": self.base64(), "text/plain": self.description}
        metadata = {"image/png": {"alt": self.description}}
        display(data, raw=True, metadata=metadata)  # type: ignore[no-untyped-call]
