"""Requested data that cannot be obtained, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream, format_period
from binance_archive_kit.display.summary import Fold, State


class Reason(StrEnum):
    """The reason why requested data are not in the plan.

    ``no_such_feed`` to ``ended`` are unavailable (cannot exist); ``absent``, ``after_last`` and
    ``other_name`` are missing (could exist, but the archive does not have it, or only under
    an irregular name); ``not_published`` will exist later. Coverage reports take ``after_last``
    for the end of the symbol: no row is due after it, so none is missing.
    """

    # It cannot exist: unavailable.
    NO_SUCH_FEED = "no_such_feed"
    NO_SUCH_INTERVAL = "no_such_interval"
    NOT_IN_PARTITION = "not_in_partition"
    WRONG_SYMBOL = "wrong_symbol"
    UNKNOWN_SYMBOL = "unknown_symbol"
    NOT_BEGUN = "not_begun"
    BEFORE_FIRST = "before_first"
    ENDED = "ended"
    # It could exist, and the archive does not have it: missing.
    ABSENT = "absent"
    AFTER_LAST = "after_last"
    # It exists under an irregular name: missing.
    OTHER_NAME = "other_name"
    # It will exist: not published.
    NOT_PUBLISHED = "not_published"


@dataclass(frozen=True, slots=True)
class Absence:
    """Requested data that cannot be obtained, with the reason.

    Attributes
    ----------
    market, data_type : Market, DataType
        The feed.
    reason : Reason
        The kind of absence.
    detail : str
        The reason in a sentence.
    start, end : date
        First and last UTC day that is absent, both inclusive.
    symbol, interval : str or None
        The symbol and interval that are absent; None means every symbol or interval.
    partition : Partition or None
        The partition that is absent; None if both are.
    key : str or None
        The key of the object that is missing or not published yet; None otherwise.
    """

    market: Market
    data_type: DataType
    reason: Reason
    detail: str
    start: date
    end: date
    symbol: str | None = None
    interval: str | None = None
    partition: Partition | None = None
    key: str | None = None

    @classmethod
    def of(
        cls,
        folder: Folder,
        reason: Reason,
        detail: str,
        start: date,
        end: date,
        key: str | None = None,
    ) -> Absence:
        """Return the absence of days of one folder."""
        return cls(
            folder.market,
            folder.data_type,
            reason,
            detail,
            start,
            end,
            folder.symbol,
            folder.interval and folder.interval.value,
            folder.partition,
            key,
        )

    @property
    def last_key(self) -> str | None:
        """The key of the last absent object; None if more than one folder is concerned."""
        if self.key or not (self.symbol and self.partition):
            return self.key
        interval = Interval(self.interval) if self.interval else None
        stream = Stream(self.market, self.data_type, self.symbol, interval)
        return Folder(stream, self.partition).key(format_period(self.end, self.partition))

    def __str__(self) -> str:
        """Return the absent data, the days and the reason."""
        name = " ".join(
            filter(None, (self.market, self.data_type, self.symbol, self.interval, self.partition))
        )
        days = f"{self.start}" if self.start == self.end else f"{self.start} to {self.end}"
        return f"{name}, {days}: {self.detail}"


def absence_folds(
    missing: Sequence[Absence] = (),
    not_published: Sequence[Absence] = (),
    unavailable: Sequence[Absence] = (),
) -> list[Fold]:
    """Return a fold for each kind of absence that occurs, for the summary of a result."""
    kinds: list[tuple[str, State, str, Sequence[Absence]]] = [
        ("missing", "warn", "could exist, the archive does not have it", missing),
        ("not published", "later", "will exist, it is too early", not_published),
        ("unavailable", "idle", "cannot exist", unavailable),
    ]
    folds = []
    for name, state, meaning, absences in kinds:
        # Absences in files are counted already.
        counted = getattr(absences, "reasons", None)
        reasons = counted or Counter(absence.reason for absence in absences)
        if [*reasons] == [Reason.OTHER_NAME]:
            meaning = "the archive has it under another name"
        counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        folds.append(Fold(f"{len(absences):,} {name} ({meaning}): {counts}", absences, state))
    return [fold for fold in folds if fold.lines]
