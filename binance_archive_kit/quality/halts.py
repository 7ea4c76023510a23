"""Classify gaps in which the whole market stood still, by comparing symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.quality.gaps import slice_gap
from binance_archive_kit.quality.timeline import DaySource, Gap, GapKind, Timeline, merge
from binance_archive_kit.timestamps import DAY, SECOND

_MAY_BE_HALTS = (GapKind.HOLE, GapKind.SHORT_FILE)


class Halt(NamedTuple):
    """A time in which a market is known to have stood still."""

    start: int  #: microseconds since 1970 UTC
    end: int  #: exclusive
    evidence: str
    #: Whether its times are known, and not only its day.
    exact: bool = True


#: Given a timeline and a time, returns the evidence that nothing was traded then; empty if
#: something was traded; None if unknown.
TradeCheck = Callable[[Timeline, int, int], str | None]


def classify_halts(
    timelines: Sequence[Timeline],
    known: Callable[[Market], Sequence[Halt]],
    nothing_traded: TradeCheck,
) -> None:
    """Mark the gaps of candles in which the market stood still as halts.

    Parameters
    ----------
    timelines : sequence of Timeline
    known : callable
        Given a market, returns its known halts.
    nothing_traded : callable
        See `TradeCheck`.
    """

    def market(timeline: Timeline) -> tuple[str, str, str]:
        stream = timeline.stream
        return stream.market, stream.data_type, stream.interval or ""

    candles = [timeline for timeline in timelines if timeline.data_type.has_intervals]
    for _, group in groupby(sorted(candles, key=market), key=market):
        side = list(group)
        halts = known(side[0].market)
        common = _common_gaps(side, [halt for halt in halts if not halt.exact])
        for timeline in side:
            timeline.gaps = merge(_split_at_halts(timeline, common, halts, nothing_traded))


def _common_gaps(timelines: Sequence[Timeline], vague: Sequence[Halt]) -> list[Halt]:
    """Find the times in which at least two symbols have a file, and none has a candle.

    Candles have to follow within a file: files that end together before midnight may have
    been cut off together. On a day with a known halt, they need not.
    """
    gaps = [gap for timeline in timelines for gap in timeline.gaps if gap.kind in _MAY_BE_HALTS]
    if len(timelines) < 2 or not gaps:
        return []
    points = np.unique(
        [time for gap in gaps for time in (gap.start, gap.end, *_midnights(gap.start, gap.end))]
    )
    missing = np.zeros(len(points), np.int64)
    giving = np.zeros(len(points), np.int64)
    closed = np.zeros(len(points), np.bool_)
    for timeline in timelines:
        days = points // DAY - timeline.first_day
        inside = (days >= 0) & (days < len(timeline.sources))
        files = [isinstance(source, DaySource) for source in timeline.sources]
        rows = [isinstance(each, DaySource) and each.has_rows for each in timeline.sources]
        giving[inside] += np.array(rows)[days[inside]]
        for gap in timeline.gaps:
            touched = slice(*np.searchsorted(points, [gap.start, gap.end]))
            if gap.kind in _MAY_BE_HALTS:
                missing[touched] += 1
                closed[touched] |= _rows_follow(timeline, gap)
            elif not gap.kind.is_missing:
                # The gap lies in a file of which nothing is due.
                giving[touched] -= np.array(files)[days[touched]]
    for halt in vague:
        closed |= (points >= halt.start) & (points < halt.end)
    halted = (missing >= 2) & (missing == giving) & closed
    return [
        Halt(
            int(points[index]),
            int(points[index + 1]),
            f"none of the {giving[index]} symbols with files of this time has these candles",
        )
        for index in np.flatnonzero(halted[:-1]).tolist()
    ]


def _rows_follow(timeline: Timeline, gap: Gap) -> bool:
    """Return whether rows follow a gap in the file in which it ends."""
    day = gap.end // DAY
    return bool(gap.end % DAY) or timeline.source(day - 1) is timeline.source(day)


def _midnights(start: int, end: int) -> range:
    return range((start // DAY + 1) * DAY, end, DAY)


def _split_at_halts(
    timeline: Timeline,
    common: Sequence[Halt],
    known: Sequence[Halt],
    nothing_traded: TradeCheck,
) -> Iterator[Gap]:
    """Split gaps at halts, and mark the parts inside them."""
    exact = [whole for halt in known if halt.exact and (whole := _whole_candles(timeline, halt))]
    for gap in timeline.gaps:
        if gap.kind not in _MAY_BE_HALTS:
            yield gap
            continue
        for part in _mark(timeline, gap, exact):
            if part.kind is GapKind.HALT:
                yield part
                continue
            for rest in _mark(timeline, part, common):
                is_halt = rest.kind is GapKind.HALT
                yield rest if is_halt else _explained(timeline, rest, known, nothing_traded)


def _whole_candles(timeline: Timeline, halt: Halt) -> Halt | None:
    """Return the candles that lie entirely in a halt; None if there is none."""
    step = timeline.cadence.step
    if not 0 < step <= DAY:
        return None
    start = -(-halt.start // step) * step
    # Some sources name the last second of a halt, others its end.
    end = (halt.end + SECOND) // step * step
    return halt._replace(start=start, end=end) if start < end else None


def _mark(timeline: Timeline, gap: Gap, halts: Iterable[Halt]) -> Iterator[Gap]:
    """Split a gap at halts, which are sorted by time, and mark the parts inside them."""
    time = gap.start
    for halt in halts:
        start, end = max(halt.start, time), min(halt.end, gap.end)
        if start >= end:
            continue
        if time < start:
            yield slice_gap(timeline, gap, time, start)
        part = slice_gap(timeline, gap, start, end)
        yield replace(part, kind=GapKind.HALT, evidence=(halt.evidence,))
        time = end
    if time < gap.end:
        yield slice_gap(timeline, gap, time, gap.end)


def _explained(
    timeline: Timeline, gap: Gap, known: Sequence[Halt], nothing_traded: TradeCheck
) -> Gap:
    """Mark a gap as a halt if nothing was traded; else add what is known to its evidence."""
    evidence = nothing_traded(timeline, gap.start, gap.end)
    if evidence:
        return replace(gap, kind=GapKind.HALT, evidence=(evidence,))
    if evidence is not None:
        more = ["trades of this time are present: the candles were left out"]
    else:
        vague = [h for h in known if not h.exact and h.start < gap.end and gap.start < h.end]
        more = [f"at an unknown time, {halt.evidence}" for halt in vague]
    return replace(gap, evidence=(*gap.evidence, *more))
