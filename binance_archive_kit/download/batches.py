"""Group the objects of a plan into batches of s5cmd commands, with wildcards where they pay.

A wildcard costs one listing, where single keys cost a request each. It has to match the
wanted objects and no others, so it stands for a month (of days), a year (of months) or ten
days only if all of them were requested and none of them is in the store.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import period_end
from binance_archive_kit.planning.date_range import DateRange

#: The end of a key's stem: year, month if the periods are days, and the first digit if known.
_STEM = re.compile(r"-(\d{4})-(?:(\d{2})-)?(\d?)$")


@dataclass(frozen=True, slots=True)
class Copy:
    """One command for s5cmd: an object, or a run of objects by a wildcard.

    Attributes
    ----------
    keys : tuple of str
        The wanted objects.
    pattern : str or None
        Wildcard that matches these objects and no others; None for a single object.
    """

    keys: tuple[str, ...]
    pattern: str | None = None


def make_batches(
    objects: Iterable[tuple[str, bool]], days: DateRange, most: int
) -> Iterator[list[Copy]]:
    """Yield batches of copy commands, lazily.

    Parameters
    ----------
    objects : iterable of (str, bool)
        Keys in archive order, and whether each is to be fetched.
    days : DateRange
        The requested days. A wildcard never covers a period outside of them.
    most : int
        Maximum number of objects in a batch.
    """
    batch: list[Copy] = []
    count = 0
    for copy in _copies(objects, days, most):
        if count + len(copy.keys) > most:
            yield batch
            batch, count = [], 0
        batch.append(copy)
        count += len(copy.keys)
    if batch:
        yield batch


def _copies(objects: Iterable[tuple[str, bool]], days: DateRange, most: int) -> Iterator[Copy]:
    for stem, run in _runs(objects, len("01.zip")):
        if _is_whole(stem, run, days, most):
            yield _wildcard(stem, run)
            continue
        for ten, part in _runs(run, len("1.zip")):
            if _is_whole(ten, part, days, most):
                yield _wildcard(ten, part)
            else:
                yield from (Copy((key,)) for key, wanted in part if wanted)


def _runs(
    objects: Iterable[tuple[str, bool]], tail: int
) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Group neighbouring keys that are equal up to the last `tail` characters."""
    for stem, run in groupby(objects, key=lambda item: item[0][:-tail]):
        yield stem, list(run)


def _is_whole(stem: str, run: Sequence[tuple[str, bool]], days: DateRange, most: int) -> bool:
    return 1 < len(run) <= most and all(wanted for _, wanted in run) and is_within(stem, days)


def _wildcard(stem: str, run: Sequence[tuple[str, bool]]) -> Copy:
    return Copy(tuple(key for key, _ in run), f"{stem}*.zip")


def is_within(stem: str, days: DateRange) -> bool:
    """Return whether all periods whose key begins with `stem` lie within the requested days.

    >>> is_within("…/BTCUSDT-1h-2025-07-1", DateRange(start="2025-07-10", end="2025-07-31"))
    True
    >>> is_within("…/BTCUSDT-1h-2025-07-", DateRange(start="2025-07-10", end="2025-07-31"))
    False
    """
    found = _STEM.search(stem)
    if found is None:
        return False
    year, month, digit = int(found[1]), int(found[2] or 0), found[3]
    most = calendar.monthrange(year, month)[1] if month else 12
    numbers = [number for number in range(1, most + 1) if f"{number:02}".startswith(digit)]
    if not numbers:
        return False
    if month:
        first, last = date(year, month, numbers[0]), date(year, month, numbers[-1])
    else:
        # A month that is requested only in part may be fetched as days.
        first = date(year, numbers[0], 1)
        last = period_end(date(year, numbers[-1], 1), Partition.MONTHLY)
    return days.start <= first and last <= days.end
