"""How results look: sizes and times in words, and small pieces of HTML.

Every piece escapes what it is given. Colours stand beside words, never instead of
them, and are chosen to be read on light and dark grounds; text keeps the colour of
the page. No script, no external resource, so a saved notebook shows the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from html import escape
from typing import Protocol


class Absence(Protocol):
    """Something that cannot be obtained; its text says what, when and why."""

    @property
    def reason(self) -> str:
        """The kind of absence, in one word."""


#: A colour for each kind of outcome: blue, orange, red, grey, violet.
COLOURS = {
    "good": "#3b82f6",
    "warn": "#f59e0b",
    "bad": "#ef4444",
    "idle": "#9ca3af",
    "later": "#8b5cf6",
}

#: The three kinds of absence: heading, colour and what the word means.
_ABSENCES = (
    ("missing", "warn", "could exist, the archive lacks it"),
    ("not published", "later", "will exist, it is too early"),
    ("unavailable", "idle", "cannot exist"),
)

_OTHER_NAME = "other_name"

#: Lines of one kind that are shown before the rest is only counted.
_SHOWN = 6


def size(count: float) -> str:
    """Spell a number of bytes for people, in steps of 1024.

    >>> size(512), size(1536), size(3 * 1024**3)
    ('512 B', '1.5 KB', '3.0 GB')
    """
    if round(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KB", "MB", "GB"):
        count /= 1024
        if round(count, 1) < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TB"


def duration(seconds: float) -> str:
    """Spell a length of time for people.

    >>> duration(0.42), duration(75), duration(7500)
    ('0.4 s', '1 min 15 s', '2 h 5 min')
    """
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if round(seconds, 1) < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def percent(part: float, whole: float) -> str:
    """Spell a share; only the whole is 100 %, and only nothing is 0 %.

    >>> percent(743, 744), percent(999_999, 1_000_000), percent(1, 1_000_000), percent(5, 5)
    ('99.86 %', '99.99 %', '0.01 %', '100 %')
    >>> percent(57, 100), percent(0.57, 1)
    ('57.00 %', '57.00 %')
    """
    if not whole:
        return "—"
    if part == whole:
        return "100 %"
    # Rounded first, as 57 of 100 are a little less than 0.57 to a computer.
    share = int(round(part / whole * 10_000, 6)) / 100
    return f"{min(max(share, 0.01 if part else 0.0), 99.99):.2f} %" if part else "0 %"


def counted(count: int, what: str) -> str:
    """Count things for people.

    >>> counted(1, "stream"), counted(1200, "stretch")
    ('1 stream', '1,200 stretches')
    """
    ending = "" if count == 1 else "es" if what.endswith("ch") else "s"
    return f"{count:,} {what}{ending}"


def plain(word: object) -> str:
    """Spell a word of ours as people do.

    >>> plain("missing_in_archive")
    'missing in archive'
    """
    return str(word).replace("_", " ")


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Collection[int] = (),
    unbroken: Collection[int] = (),
) -> str:
    """Lay rows out as an HTML table.

    Columns in `numeric` are set flush right, the text of those in `unbroken` in one line.
    """

    def style(at: int) -> str:
        flush = "right" if at in numeric else "left"
        wrap = ";white-space:nowrap" if at in unbroken else ""
        return f"text-align:{flush};padding:2px 10px 2px 0{wrap}"

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{tag} style="{style(at)}">{escape(str(cell))}</{tag}>' for at, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    if not body:
        return ""
    return (
        '<table style="border-collapse:collapse;margin:4px 0">'
        f"<thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"
    )


def panel(title: str, headline: str, kind: str, *parts: str) -> str:
    """Put a titled headline above some pieces of HTML."""
    return (
        f'<div style="border-left:4px solid {COLOURS[kind]};padding:2px 0 2px 12px">'
        f'<p style="margin:2px 0"><strong>{escape(title)}</strong> · {escape(headline)}</p>'
        f"{''.join(parts)}</div>"
    )


def details(kind: str, summary: str, lines: Sequence[str]) -> str:
    """Fold lines of text under a summary; a long list ends in a count of the rest."""
    items = "".join(f"<li>{escape(line)}</li>" for line in first(lines))
    return (
        f'<details><summary><span aria-hidden="true" style="color:{COLOURS[kind]}">■</span> '
        f'{escape(summary)}</summary><ul style="margin:2px 0">{items}</ul></details>'
    )


def notes_html(notes: Sequence[str]) -> str:
    """Fold the notes; nothing when there are none."""
    return details("idle", f"{len(notes)} notes", notes) if notes else ""


def absences_html(*kinds: Sequence[Absence]) -> str:
    """Fold what is missing, not published yet and unavailable, in this order."""
    return "".join(
        details(colour, _tally(word, meaning, absences), _lines(absences))
        for (word, colour, meaning), absences in zip(_ABSENCES, kinds, strict=True)
        if absences
    )


def absences_text(*kinds: Sequence[Absence]) -> list[str]:
    """List what is missing, not published yet and unavailable as lines of text."""
    lines = []
    for (word, _, meaning), absences in zip(_ABSENCES, kinds, strict=True):
        if absences:
            lines.append(f"  {_tally(word, meaning, absences)}")
            lines += [f"    {line}" for line in first(_lines(absences))]
    return lines


def _tally(word: str, meaning: str, absences: Sequence[Absence]) -> str:
    reasons = Counter(str(absence.reason) for absence in absences)
    if [*reasons] == [_OTHER_NAME]:
        meaning = "the archive has it under another name"
    words = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    return f"{len(absences):,} {word} ({meaning}): {words}"


def _lines(absences: Sequence[Absence]) -> list[str]:
    # One more than is shown, spelled; the others are only counted.
    return [str(absence) if at <= _SHOWN else "" for at, absence in enumerate(absences)]


def first(lines: Sequence[str]) -> list[str]:
    """Give the first of some lines, and how many more there are."""
    if len(lines) <= _SHOWN + 1:
        return list(lines)
    return [*lines[:_SHOWN], f"… and {len(lines) - _SHOWN:,} more"]


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Spell a table as text, in columns.

    >>> print(text_table(("name", "size"), [("a", "1 KB"), ("long name", "2 KB")]))
    name       size
    a          1 KB
    long name  2 KB
    """
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Spell a table in Markdown.

    >>> print(markdown_table(("a", "b"), [("1", "x|y")]))
    | a | b |
    | --- | --- |
    | 1 | x\|y |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(markdown_text, line))} |" for line in lines)


def markdown_list(title: str, items: Sequence[str], most: int = 20) -> str:
    """Spell a list in Markdown, the first few items of it."""
    more = [f"… and {len(items) - most:,} more"] if len(items) > most else []
    return "\n".join(
        [f"**{title}**", "", *(f"- {markdown_text(each)}" for each in [*items[:most], *more])]
    )


def markdown_text(text: str) -> str:
    """Keep text from being read as Markdown or HTML."""
    plain = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", plain)
