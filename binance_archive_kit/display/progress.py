"""Progress of long work: a bar in notebooks, a line on terminals, nothing in pipes.

The work counts on a `Progress`, from any thread; its caller shows it. The bar is plain HTML
under one display id: it disappears when the work has succeeded, and a saved notebook has no
widget state.
"""

from __future__ import annotations

import sys
import time
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from types import TracebackType
from typing import Any, Self

from binance_archive_kit.display import render
from binance_archive_kit.errors import running_shell, short_traceback

#: Seconds between two updates of the display.
INTERVAL = 0.2


@dataclass(slots=True)
class Progress:
    """Counts of finished work.

    Attributes
    ----------
    phase : str
        Name of the current phase, such as ``listing``.
    unit : str
        The counted things, in the plural.
    done, total, failed : int
        Numbers of units.
    done_bytes, total_bytes : int or None
        None if sizes are unknown.
    arriving : int
        Bytes of files in flight.
    planned, proven : int or None
        Objects of the whole plan, and those that are in the store and proven.
    waiting : str
        What keeps the work from going on, in words; empty if nothing does.
    started : float
        `time.monotonic` of the start.
    """

    phase: str = "starting"
    unit: str = "objects"
    done: int = 0
    total: int = 0
    done_bytes: int = 0
    total_bytes: int | None = None
    failed: int = 0
    arriving: int = 0
    planned: int | None = None
    proven: int = 0
    waiting: str = ""
    started: float = field(default_factory=time.monotonic)
    #: Start of the phase, to which rates refer.
    _since: float = 0.0

    def begin(
        self, phase: str, total: int, total_bytes: int | None = None, unit: str = "objects"
    ) -> None:
        """Reset the counts for the next phase of the work."""
        self.phase, self.total, self.total_bytes = phase, total, total_bytes
        self.unit = unit
        self.done = self.done_bytes = self.failed = self.arriving = 0
        self._since = time.monotonic()

    def interrupted(self) -> str:
        """Return the message of an interrupt: the completed work, and what to do.

        >>> Progress().interrupted()
        'interrupted before anything was downloaded; run it again to continue'
        """
        if self.planned is None and self.phase in ("starting", "listing"):
            return "interrupted before anything was downloaded; run it again to continue"
        if self.planned is None:
            done = f"{self.done:,} of {self.total:,} {self.unit}"
            return f"interrupted while {self.phase}, after {done}; run it again"
        return (
            f"interrupted: {self.proven:,} of {self.planned:,} files are in the store and proven; "
            "run it again to continue"
        )

    def count(self, units: int, size: int) -> None:
        """Add finished units and their bytes."""
        self.done += units
        self.done_bytes += size

    def share(self) -> float:
        """Return the finished share, 0 to 1: of the bytes if known, else of the units."""
        if self.total_bytes:
            return min(1.0, self._bytes() / self.total_bytes)
        return min(1.0, self.done / self.total) if self.total else 0.0

    def _bytes(self) -> int:
        done = self.done_bytes + self.arriving
        return min(done, self.total_bytes) if self.total_bytes else done

    def line(self) -> str:
        """Format the progress as one line, with rate and time left."""
        elapsed = time.monotonic() - (self._since or self.started)
        words = [f"{self.phase}: {self.done:,} of {self.total:,} {self.unit}"]
        done = self._bytes()
        if done or self.total_bytes:
            total = f" of {render.size(self.total_bytes)}" if self.total_bytes else ""
            words.append(f"{render.size(done)}{total}")
        if done and elapsed > 0.5:
            words.append(f"{render.size(done / elapsed)}/s")
        share = self.share()
        if 0.01 < share < 1 and elapsed > 1:
            words.append(f"{render.duration(elapsed * (1 - share) / share)} left")
        if self.failed:
            words.append(f"{self.failed:,} failed")
        if self.waiting:
            words.append(self.waiting)
        return ", ".join(words)


class Bar:
    """Context manager that shows a `Progress` during work.

    An interrupt inside it gets a message with the completed work.

    Parameters
    ----------
    progress : Progress
    show : callable, optional
        Called with a line, the share done, and whether the line is the last one. By default
        for a notebook or a terminal; elsewhere nothing is shown.
    """

    def __init__(self, progress: Progress, show: Show | None = None) -> None:
        self._progress = progress
        self._show = show or _default_show()
        self._last = ""
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def update(self, *, final: bool = False) -> None:
        """Show the current progress; call it about every `INTERVAL` seconds."""
        line = self._progress.line()
        if self._show is not None and (line != self._last or final):
            self._show(line, self._progress.share(), final)
            self._last = line

    def tick(self) -> None:
        """Update the display if it is older than `INTERVAL`; cheap enough for tight loops."""
        if time.monotonic() - self._shown > INTERVAL:
            self._shown = time.monotonic()
            self.update()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt | CancelledError):
            message = self._progress.interrupted()
            if self._show is not None:
                self._show(message, self._progress.share(), True)
            if not error.args:
                error.args = (message,)
            # IPython shows these lines in place of a traceback of 40 lines.
            error._render_traceback_ = lambda: short_traceback(error)  # type: ignore[union-attr]
        elif self._last:
            self.update(final=True)
            if error is None and isinstance(self._show, _NotebookLine):
                self._show.clear()


Show = Callable[[str, float, bool], None]


def _default_show() -> Show | None:
    """Return the function that shows progress in a notebook or on a terminal, or None."""
    if hasattr(running_shell(), "kernel"):
        return _NotebookLine()
    return _terminal if sys.stderr is not None and sys.stderr.isatty() else None


class _NotebookLine:
    """Shows a bar and a line in one output of a notebook."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, line: str, share: float, final: bool) -> None:
        bar = (
            ""
            if final
            else f'<progress value="{share:.3f}" max="1" aria-label="progress"></progress> '
        )
        self._show({"text/html": f'<div style="font-size:90%">{bar}{escape(line)}</div>'})

    def clear(self) -> None:
        """Empty the output; notebooks give it no height then."""
        self._show({})

    def _show(self, data: dict[str, str]) -> None:
        from IPython import display

        # IPython's functions carry no types.
        show: Any = display.display
        if self._handle is None:
            self._handle = show(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def _terminal(line: str, share: float, final: bool) -> None:
    width = 20
    bar = "█" * round(width * share) + "·" * (width - round(width * share))
    # The previous line may have been longer: clear to the end of the line.
    sys.stderr.write(f"\r{bar} {line}\x1b[K" + ("\n" if final else ""))
    sys.stderr.flush()
