"""Decide which parts take new files, and which are merged. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from binance_archive_kit.tables.manifest import Part

#: Bytes from which a part is large enough, and beyond which it is split.
LARGE, MOST = 64 << 20, 256 << 20
#: Parts of similar size that are merged: in the latest period, and in those before, to which
#: little is added.
_MANY, _FEW = 32, 8
#: Parts that are merged at once at most, as a row group of each is in memory.
_MOST_PARTS = 64
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


def due(parts: Sequence[Part], live: Sequence[int], *, merges_all: bool = False) -> list[list[int]]:
    """Return the indices of the parts to merge, each list into one.

    Small parts are merged once there are many of the same tier in a period. The merged part is
    of a higher tier, so each row is merged at most once for each tier. A part is rewritten alone
    if more than a third of its rows are of files that were replaced or deleted.

    Parameters
    ----------
    parts : sequence of Part
    live : sequence of int
        Rows of each part whose files are unchanged, and that no newer part has.
    merges_all : bool
        Merge all small parts of a period instead, whatever their number.
    """
    merges = _small(parts, live) if merges_all else _similar(parts, live)
    merged = {index for indices in merges for index in indices}
    return merges + [
        [index]
        for index, part in enumerate(parts)
        if (part.rows - live[index]) * 3 > part.rows and index not in merged
    ]


def _small(parts: Sequence[Part], live: Sequence[int]) -> list[list[int]]:
    """Group the small parts of each period, so that each group gives about one part."""
    groups: dict[str, list[list[int]]] = {}
    room: dict[str, int] = {}
    for index, part in enumerate(parts):
        if part.bytes < LARGE and live[index]:
            period = groups.setdefault(part.period, [])
            if not period or part.bytes > room[part.period] or len(period[-1]) == _MOST_PARTS:
                period.append([])
                room[part.period] = MOST
            period[-1].append(index)
            room[part.period] -= part.bytes
    return [group for period in groups.values() for group in period if len(group) > 1]


def _similar(parts: Sequence[Part], live: Sequence[int]) -> list[list[int]]:
    """Group the small parts of a period and a tier, if they are many."""
    latest = max((part.period for part in parts), default="")
    tiers: dict[tuple[str, int], list[int]] = {}
    for index, part in enumerate(parts):
        if part.bytes < LARGE and live[index]:
            tier = _tier(live[index], _MANY if part.period == latest else _FEW)
            tiers.setdefault((part.period, tier), []).append(index)
    return [
        indices
        for (period, _), indices in tiers.items()
        if len(indices) >= (_MANY if period == latest else _FEW)
    ]


def _tier(rows: int, base: int) -> int:
    """Return the number of digits of a number of rows."""
    digits = 0
    while rows:
        digits, rows = digits + 1, rows // base
    return digits
