"""Numbers of bytes, lengths of time, shares and counts in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from binance_archive_kit.display import summary
from binance_archive_kit.display.summary import Fold, State, Summary, Table

_OTHER_NAME = "other_name"


class Absence(Protocol):
    """Something that cannot be obtained; its text says what, when and why."""

    @property
    def reason(self) -> str:
        """The kind of absence, in one word."""


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


def _absence_folds(
    missing: Sequence[Absence], not_published: Sequence[Absence], unavailable: Sequence[Absence]
) -> list[Fold]:
    """Return a fold for each kind of absence that occurs."""
    kinds: list[tuple[str, State, str, Sequence[Absence]]] = [
        ("missing", "warn", "could exist, the archive lacks it", missing),
        ("not published", "later", "will exist, it is too early", not_published),
        ("unavailable", "idle", "cannot exist", unavailable),
    ]
    return [
        Fold(_tally(word, meaning, absences), absences, state)
        for word, state, meaning, absences in kinds
        if absences
    ]


def _tally(word: str, meaning: str, absences: Sequence[Absence]) -> str:
    reasons = Counter(str(absence.reason) for absence in absences)
    if [*reasons] == [_OTHER_NAME]:
        meaning = "the archive has it under another name"
    words = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    return f"{len(absences):,} {word} ({meaning}): {words}"


# Until the results return a `Summary`


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Collection[int] = (),
    unbroken: Collection[int] = (),
) -> str:
    """Return `Table.to_html`."""
    return Table(head, [*rows], numeric, unbroken).to_html()


def panel(title: str, headline: str, kind: Any, *parts: str) -> str:
    """Put a titled headline above some pieces of HTML."""
    return (
        Summary(title, headline, kind).to_html().removesuffix("</div>") + "".join(parts) + "</div>"
    )


def details(kind: Any, title: str, lines: Sequence[str]) -> str:
    """Return `Fold.to_html`."""
    return Fold(title, lines, kind).to_html()


def notes_html(notes: Sequence[str]) -> str:
    """Fold the notes; nothing when there are none."""
    return Summary("", "", "idle", notes=notes).body_html()


def absences_html(*kinds: Sequence[Absence]) -> str:
    """Fold what is missing, not published yet and unavailable, in this order."""
    return "".join(fold.to_html() for fold in _absence_folds(*kinds))


def absences_text(*kinds: Sequence[Absence]) -> list[str]:
    """List what is missing, not published yet and unavailable as lines of text."""
    return [f"  {line}" for fold in _absence_folds(*kinds) for line in fold.to_text().splitlines()]


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return `Table.to_text`."""
    return Table(head, [*rows]).to_text()


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return `Table.to_markdown`."""
    return Table(head, [*rows]).to_markdown()


def markdown_list(title: str, items: Sequence[str]) -> str:
    """Return `Fold.to_markdown`."""
    return Fold(title, items).to_markdown()


def markdown_text(text: str) -> str:
    """Return `summary.markdown_text`."""
    return summary.markdown_text(text)


def first(lines: Sequence[object]) -> list[str]:
    """Return `summary.first_lines`."""
    return summary.first_lines(lines)
