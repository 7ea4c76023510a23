"""Flaws: rows whose values cannot be right, counted by reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import NamedTuple

from binance_archive_kit.timestamps import format_time

#: Reasons that the text of a flaw names; it counts the others.
_SHOWN = 4


class FlawKind(StrEnum):
    """What is wrong with the values of some rows."""

    CONFLICT = "conflict"
    NULL_VALUE = "null_value"
    IMPOSSIBLE_VALUE = "impossible_value"
    FROZEN = "frozen"
    NO_VOLUME = "no_volume"


class Reason(NamedTuple):
    """Why rows are flawed, such as ``high is below low``, and how many rows are."""

    what: str
    rows: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """Rows of one file whose values cannot be right.

    Attributes
    ----------
    kind : FlawKind
    rows : int
        Different ones.
    first, last : int
        Times of the first and the last row, microseconds since 1970 UTC.
    reasons : tuple of Reason
    """

    kind: FlawKind
    rows: int
    first: int
    last: int
    reasons: tuple[Reason, ...]

    def __add__(self, more: Flaw) -> Flaw:
        """Return the flaw of two chunks of a file, or of two groups of its rows."""
        counts: Counter[str] = Counter()
        for reason in (*self.reasons, *more.reasons):
            counts[reason.what] += reason.rows
        return Flaw(
            self.kind,
            self.rows + more.rows,
            min(self.first, more.first),
            max(self.last, more.last),
            tuple(Reason(*item) for item in counts.items()),
        )

    def __str__(self) -> str:
        """Return what is wrong, in how many rows, and since when."""
        parts = [
            f"{what} in {rows:,} row{'s' if rows != 1 else ''}"
            for what, rows in self.reasons[:_SHOWN]
        ]
        if len(self.reasons) > _SHOWN:
            parts.append(f"and {len(self.reasons) - _SHOWN:,} more")
        return f"{', '.join(parts)}, first at {format_time(self.first)}"


class Streak(NamedTuple):
    """Consecutive rows in which a bool has one value; times are microseconds since 1970 UTC."""

    value: bool
    rows: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Standing:
    """For how long a bool column keeps one value.

    Attributes
    ----------
    column : str
    rows : int
    head, tail, longest : Streak
        The first, the last and the longest one.
    """

    column: str
    rows: int
    head: Streak
    tail: Streak
    longest: Streak

    def __add__(self, more: Standing) -> Standing:
        """Return the same for these rows and the ones after them."""
        head, tail, streaks = self.head, more.tail, [self.longest, more.longest]
        if self.tail.value == more.head.value:
            rows = self.tail.rows + more.head.rows
            across = Streak(self.tail.value, rows, self.tail.first, more.head.last)
            streaks.append(across)
            head = across if head.rows == self.rows else head
            tail = across if tail.rows == more.rows else tail
        longest = max(streaks, key=lambda streak: streak.rows)
        return Standing(self.column, self.rows + more.rows, head, tail, longest)


def merge_flaws(flaws: Iterable[Flaw]) -> tuple[Flaw, ...]:
    """Return one flaw of each kind."""
    merged: dict[FlawKind, Flaw] = {}
    for flaw in flaws:
        merged[flaw.kind] = merged[flaw.kind] + flaw if flaw.kind in merged else flaw
    return tuple(merged.values())


def join_standing(one: Sequence[Standing], other: Sequence[Standing]) -> tuple[Standing, ...]:
    """Return for how long bools keep one value in two parts, the second following the first."""
    if not one or not other:
        return tuple(one or other)
    return tuple(column + more for column, more in zip(one, other, strict=True))


def format_flaws(flaws: Sequence[Flaw], standing: Sequence[Standing]) -> str:
    """Format flaws as JSON; as an empty text if there are none."""
    if not flaws and not standing:
        return ""
    return json.dumps([[astuple(item) for item in items] for items in (flaws, standing)])


def parse_flaws(text: str) -> tuple[tuple[Flaw, ...], tuple[Standing, ...]]:
    """Parse what `format_flaws` returned.

    Raises
    ------
    ValueError, TypeError
        If the text is damaged, or from another version.
    """
    if not text:
        return (), ()
    flaws, standing = json.loads(text)
    return (
        tuple(
            Flaw(FlawKind(kind), rows, first, last, tuple(Reason(*each) for each in reasons))
            for kind, rows, first, last, reasons in flaws
        ),
        tuple(
            Standing(column, rows, *(Streak(*streak) for streak in streaks))
            for column, rows, *streaks in standing
        ),
    )
