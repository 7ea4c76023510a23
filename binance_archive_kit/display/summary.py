"""A result, laid out once: shown as text, HTML or Markdown.

Each part escapes its cells and lines. Colours accompany words and never replace them; they
are legible on light and dark backgrounds, and text keeps the colour of the page. There are no
scripts and no external resources, so that a saved notebook shows the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from binance_archive_kit.display.render import counted

#: The outcome of a result: shown in blue, orange, red, grey and violet.
State = Literal["good", "warn", "bad", "idle", "later"]

_COLOURS = {
    "good": "#3b82f6",
    "warn": "#f59e0b",
    "bad": "#ef4444",
    "idle": "#9ca3af",
    "later": "#8b5cf6",
}
#: Characters of a cell that HTML keeps on one line.
_SHORT = 40
#: Lines of a fold that text and HTML show, and Markdown.
_LINES = 6
_MARKDOWN_LINES = 20


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below a heading; a table without rows is not shown.

    Attributes
    ----------
    head : sequence of str
        Names of the columns.
    rows : sequence of sequences of str
        The cells.
    numeric : collection of int
        Columns that HTML aligns to the right.
    below : str
        A line below the table, such as a count of further rows.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Collection[int] = ()
    below: str = ""

    def to_text(self) -> str:
        """Return the rows in aligned columns.

        >>> print(Table(("name", "size"), [("a", "1 KB"), ("long name", "2 KB")]).to_text())
        name       size
        a          1 KB
        long name  2 KB
        """
        lines = [[_one_line(cell) for cell in row] for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join(filter(None, (*(text if self.rows else ()), self.below)))

    def to_html(self) -> str:
        """Return a ``table`` element, and a paragraph for the line below it.

        Cells of up to `_SHORT` characters stay on one line; wide tables scroll.
        """
        below = f"<p>{escape(self.below)}</p>" if self.below else ""
        if not self.rows:
            return below
        sides = ["right" if index in self.numeric else "left" for index in range(len(self.head))]

        def cells(tag: str, row: Sequence[str]) -> str:
            return "".join(
                f'<{tag} style="text-align:{side};padding:2px 5px;{_width(str(cell))}">'
                f"{escape(str(cell))}</{tag}>"
                for side, cell in zip(sides, row, strict=True)
            )

        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        return (
            '<div style="overflow-x:auto">'
            '<table style="border-collapse:collapse;margin:4px 0">'
            f"<thead><tr>{cells('th', self.head)}</tr></thead><tbody>{body}</tbody></table></div>"
            f"{below}"
        )

    def to_markdown(self) -> str:
        r"""Return a Markdown table, and a paragraph for the line below it.

        >>> print(Table(("a", "b"), [("1", "x|y")]).to_markdown())
        | a | b |
        | --- | --- |
        | 1 | x\|y |
        """
        lines = [self.head, ["---"] * len(self.head), *self.rows] if self.rows else []
        table = "\n".join(f"| {' | '.join(map(markdown_text, line))} |" for line in lines)
        return "\n\n".join(filter(None, (table, markdown_text(self.below))))


@dataclass(frozen=True, slots=True)
class Fold:
    """Lines that HTML folds under a title; long lists end with a count of the rest.

    Attributes
    ----------
    title : str
        Description of the lines, with their number.
    lines : sequence
        Each is formatted with `str`, and only if it is shown.
    state : str
        Chooses the colour beside the title.
    """

    title: str
    lines: Sequence[object]
    state: State = "idle"

    def to_text(self) -> str:
        """Return the title and, indented, the first lines."""
        return "\n  ".join((self.title, *first_lines(self.lines)))

    def to_html(self) -> str:
        """Return a ``details`` element."""
        items = "".join(f"<li>{escape(line)}</li>" for line in first_lines(self.lines))
        return (
            '<details><summary><span aria-hidden="true" '
            f'style="color:{_COLOURS[self.state]}">■</span> '
            f'{escape(self.title)}</summary><ul style="margin:2px 0">{items}</ul></details>'
        )

    def to_markdown(self) -> str:
        """Return the title and a list."""
        items = (f"- {markdown_text(line)}" for line in first_lines(self.lines, _MARKDOWN_LINES))
        return "\n".join((f"**{markdown_text(self.title)}**", "", *items))


@dataclass(frozen=True, slots=True)
class Summary:
    """The content of a result's display, in any format.

    Attributes
    ----------
    title : str
        A word or two, such as ``Plan``.
    verdict : str
        The outcome in one line.
    state : str
        Chooses the colour in HTML.
    tables : sequence of Table
        Those without rows are not shown.
    folds : sequence of Fold
        Those without lines are not shown.
    notes : sequence of str
        Remarks, shown last.
    """

    title: str
    verdict: str
    state: State
    tables: Sequence[Table] = ()
    folds: Sequence[Fold] = field(default=(), kw_only=True)
    notes: Sequence[str] = field(default=(), kw_only=True)

    def to_text(self) -> str:
        """Return text: a line with the verdict, the rest indented."""
        parts = [part.to_text() for part in self._parts()]
        parts += [f"note: {_one_line(note)}" for note in self.notes]
        lines = "\n".join(parts).splitlines()
        return "\n  ".join((f"{self.title} · {self.verdict}", *lines))

    def to_html(self) -> str:
        """Return a ``div`` element."""
        return (
            f'<div style="border-left:4px solid {_COLOURS[self.state]};padding:2px 0 2px 12px">'
            f'<p style="margin:2px 0"><strong>{escape(self.title)}</strong> · '
            f"{escape(self.verdict)}</p>{self.body_html()}</div>"
        )

    def body_html(self) -> str:
        """Return the HTML below the verdict."""
        parts = [part.to_html() for part in self._parts()]
        if self.notes:
            parts.append(Fold(counted(len(self.notes), "note"), self.notes).to_html())
        return "".join(parts)

    def to_markdown(self) -> str:
        """Return a Markdown document."""
        parts = [f"# {markdown_text(self.title)}", markdown_text(self.verdict)]
        parts += [part.to_markdown() for part in self._parts()]
        parts += [Fold("Notes", self.notes).to_markdown()] if self.notes else []
        return "\n\n".join(parts)

    def _parts(self) -> Iterator[Table | Fold]:
        """Yield the tables and folds that are not empty."""
        yield from (table for table in self.tables if table.rows or table.below)
        yield from (fold for fold in self.folds if fold.lines)


def _width(cell: str) -> str:
    """Return the style that keeps a short cell on one line, and a long one legible."""
    # JupyterLab has a style for each cell, so that none is inherited from the table.
    return "white-space:nowrap" if len(cell) <= _SHORT else "min-width:24em"


def first_lines(lines: Sequence[object], most: int = _LINES) -> list[str]:
    """Format the first lines, and count the rest.

    >>> first_lines("abcdefgh")
    ['a', 'b', 'c', 'd', 'e', 'f', '… and 2 more']
    """
    shown = len(lines) if len(lines) <= most + 1 else most
    more = [f"… and {len(lines) - shown:,} more"] if shown < len(lines) else []
    return [*(_one_line(line) for line in lines[:shown]), *more]


def markdown_text(text: object) -> str:
    """Escape text that Markdown or HTML would interpret."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", _one_line(text))


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
