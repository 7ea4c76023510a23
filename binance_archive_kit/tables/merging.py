"""Decide which parts take new files, and which are merged. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

#: Bytes from which a part is large enough, and beyond which it is split.
LARGE, MOST = 64 << 20, 256 << 20
#: Parts of similar size that are merged: in the latest period, and in those before, to which
#: little is added.
_MANY, _FEW = 32, 8
#: Lengths of ``""``, a year and a month in a date ``yyyy-mm-dd``.
_PERIODS = (0, 4, 7)


def period_length(months: Mapping[str, int]) -> int:
    """Return how many characters of a date name the period of a part.

    Parameters
    ----------
    months : mapping of str to int
        Estimated bytes of the rows of each month, ``yyyy-mm``.

    Returns
    -------
    int
        0 if everything fits into one part, 4 for years, 7 for months.

    Examples
    --------
    >>> period_length({"2024-01": 1 << 20}), period_length({"2024-01": 200 << 20})
    (0, 0)
    >>> period_length({"2023-01": 200 << 20, "2024-01": 200 << 20})
    4
    """
    for length in _PERIODS[:-1]:
        sizes: dict[str, int] = {}
        for month, size in months.items():
            sizes[month[:length]] = sizes.get(month[:length], 0) + size
        if max(sizes.values(), default=0) <= MOST:
            return length
    return _PERIODS[-1]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A part that may be merged.

    Attributes
    ----------
    name, period : str
    rows : int
        All its rows.
    live : int
        Rows of files that are unchanged, and that no newer part has.
    bytes : int
    """

    name: str
    period: str
    rows: int
    live: int
    bytes: int

    @property
    def is_mostly_dead(self) -> bool:
        """Whether more than a third of the rows are of files that were replaced or deleted."""
        return (self.rows - self.live) * 3 > self.rows

    def tier(self, base: int) -> int:
        """Return the number of digits of the live rows, in a base."""
        tier, rows = 0, self.live
        while rows >= base:
            tier, rows = tier + 1, rows // base
        return tier


def due(candidates: Iterable[Candidate]) -> list[list[str]]:
    """Return the names of the parts to merge, each list into one.

    Small parts are merged once there are many of the same tier in a period. The merged part is
    of a higher tier, so each row is merged at most once for each tier.
    """
    by_period = sorted(candidates, key=lambda candidate: candidate.period)
    latest = by_period[-1].period if by_period else ""
    merges = []
    for period, group in groupby(by_period, key=lambda candidate: candidate.period):
        members = list(group)
        base = _MANY if period == latest else _FEW
        merged: set[str] = set()
        small = [member for member in members if member.bytes < LARGE and member.live]
        for names in _full_tiers(small, base):
            merges.append(names)
            merged.update(names)
        merges += [
            [member.name]
            for member in members
            if member.is_mostly_dead and member.name not in merged
        ]
    return merges


def _full_tiers(small: Sequence[Candidate], base: int) -> list[list[str]]:
    tiers: dict[int, list[str]] = {}
    for member in small:
        tiers.setdefault(member.tier(base), []).append(member.name)
    return [names for names in tiers.values() if len(names) >= base]
