"""Classify gaps in which trading in the whole market was halted, by comparing symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.quality.gaps import slice_gap
from binance_archive_kit.quality.timeline import DaySource, Gap, GapKind, Timeline, merge
from binance_archive_kit.timestamps import DAY, SECOND

#: Gaps that may turn out to be halts when other symbols are compared.
MAY_BE_HALTS = (GapKind.HOLE, GapKind.SHORT_FILE)


class Halt(NamedTuple):
    """A range of time in which trading in a market was halted."""

    start: int  #: microseconds since 1970 UTC
    end: int  #: exclusive
    evidence: str
    #: Whether the times are known, and not only the days.
    exact: bool = True


#: Takes a timeline, a start and an end; returns the evidence that nothing was traded between
#: them, an empty text if something was, and None if unknown.
TradeCheck = Callable[[Timeline, int, int], str | None]


def classify_halts(
    timelines: Sequence[Timeline],
    known: Callable[[Market], Sequence[Halt]],
    nothing_traded: TradeCheck,
) -> None:
    """Mark gaps of candles as halts if trading in the whole market was halted.

    That is known, or follows from other symbols: none has these candles, nor shorter ones of
    this time.

    Parameters
    ----------
    timelines : sequence of Timeline
    known : callable
        Given a market, returns its known halts.
    nothing_traded : callable
        See `TradeCheck`.
    """

    def group_key(timeline: Timeline) -> tuple[str, str, str]:
        stream = timeline.stream
        return stream.market, stream.data_type, stream.interval or ""

    candles = [timeline for timeline in timelines if timeline.stream.data_type.has_intervals]
    for (market, data_type, _), group in groupby(sorted(candles, key=group_key), key=group_key):
        members = list(group)
        halts = known(Market(market))
        common: list[Halt] = []
        # Prices that are computed may be missing for all symbols while these are traded.
        if data_type == DataType.KLINES:
            step = members[0].cadence.step
            shorter = [
                each
                for each in candles
                if group_key(each)[:2] == (market, data_type) and each.cadence.step < step
            ]
            common = [
                halt
                for halt in _common_gaps(members, [halt for halt in halts if not halt.exact])
                if not any(_has_candle(each, halt.start, halt.end) for each in shorter)
            ]
        for timeline in members:
            timeline.gaps = merge(_split_at_halts(timeline, common, halts, nothing_traded))


def _common_gaps(timelines: Sequence[Timeline], vague: Sequence[Halt]) -> list[Halt]:
    """Find the times in which at least two symbols have a file and none has a candle.

    Candles must follow within a file, because files that end together before midnight may be
    cut off together. On a day with a known halt, this is not required.
    """
    gaps = [gap for timeline in timelines for gap in timeline.gaps if gap.kind in MAY_BE_HALTS]
    if len(timelines) < 2 or not gaps:
        return []
    points = np.unique([time for gap in gaps for time in (gap.start, gap.end, *_midnights(gap))])
    missing = np.zeros(len(points), np.int64)
    with_rows = np.zeros(len(points), np.int64)
    closed = np.zeros(len(points), np.bool_)
    for timeline in timelines:
        days = points // DAY - timeline.first_day
        inside = (days >= 0) & (days < len(timeline.sources))
        files = [isinstance(source, DaySource) for source in timeline.sources]
        rows = [source.has_rows for source in timeline.sources]
        with_rows[inside] += np.array(rows)[days[inside]]
        for gap in timeline.gaps:
            touched = slice(*np.searchsorted(points, [gap.start, gap.end]))
            if gap.kind in MAY_BE_HALTS:
                missing[touched] += 1
                closed[touched] |= _rows_follow(timeline, gap)
            elif not gap.kind.is_missing:
                # No row of the file is due in the gap.
                with_rows[touched] -= np.array(files)[days[touched]]
    for halt in vague:
        closed |= (points >= halt.start) & (points < halt.end)
    halted = (missing >= 2) & (missing == with_rows) & closed
    return [
        Halt(
            int(points[index]),
            int(points[index + 1]),
            f"none of the {with_rows[index]} symbols with files of this time has these candles",
        )
        for index in np.flatnonzero(halted[:-1]).tolist()
    ]


def _has_candle(timeline: Timeline, start: int, end: int) -> bool:
    """Return whether a candle, such as one of a shorter interval, lies within a time."""
    step, runs = timeline.cadence.step, timeline.runs
    if not 0 < step <= DAY:
        return False
    first, last = runs[:, 0], runs[:, 1]
    first = first + -(-np.maximum(start - first, 0) // step) * step
    return bool((first <= np.minimum(last, end - step)).any())


def _rows_follow(timeline: Timeline, gap: Gap) -> bool:
    """Return whether rows follow a gap within one file."""
    day = gap.end // DAY
    return bool(gap.end % DAY) or timeline.source(day - 1) is timeline.source(day)


def _midnights(gap: Gap) -> range:
    return range((gap.start // DAY + 1) * DAY, gap.end, DAY)


def _split_at_halts(
    timeline: Timeline,
    common: Sequence[Halt],
    known: Sequence[Halt],
    nothing_traded: TradeCheck,
) -> Iterator[Gap]:
    """Split gaps at halts, and mark the parts inside them."""
    exact = [whole for halt in known if halt.exact and (whole := _whole_candles(timeline, halt))]
    for gap in timeline.gaps:
        if gap.kind not in MAY_BE_HALTS:
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
    """Shrink a halt to whole candles; None if it contains none."""
    step = timeline.cadence.step
    if not 0 < step <= DAY:
        return None
    start = -(-halt.start // step) * step
    # Some sources state the last second of a halt, others its end.
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
    """Mark a gap as a halt if nothing was traded; else extend its evidence."""
    evidence = nothing_traded(timeline, gap.start, gap.end)
    if evidence:
        return replace(gap, kind=GapKind.HALT, evidence=(evidence,))
    if evidence is not None:
        more = ["trades of this time are present: the candles were left out"]
    else:
        vague = [halt for halt in known if not halt.exact and gap.overlaps(halt.start, halt.end)]
        more = [f"at an unknown time, {halt.evidence}" for halt in vague]
    return replace(gap, evidence=(*gap.evidence, *more))
