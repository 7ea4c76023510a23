"""Find the missing rows of a stream, and classify gaps inside files (hole, short, empty, corrupt).

Pure, no I/O. `expected.DayExplainer` classifies days without a file, and `halts` the halts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from binance_archive_kit.archive.enums import DataType
from binance_archive_kit.archive.keys import delivery_of
from binance_archive_kit.quality.timeline import (
    DaySource,
    DaySpan,
    Explanation,
    Gap,
    GapKind,
    Timeline,
    merge,
)
from binance_archive_kit.reading.cadence import MONTH, NO_RUNS, Run, Runs, month_start
from binance_archive_kit.timestamps import DAY, HOUR, MINUTE, format_time, to_day_number

#: A silence at an edge of a file is too long if it is this many times the longest elsewhere.
_SILENCE = 10
#: Snapshots with fewer liquidations than this are never too silent.
_FEWEST_LIQUIDATIONS = 3
#: Time of day at which contracts are delivered, microseconds UTC.
_DELIVERED = 8 * HOUR


def find_gaps(timeline: Timeline) -> None:
    """Set the runs and the gaps of a timeline, from its files."""
    timeline.runs = _runs(timeline)
    countable = timeline.cadence.kind in ("regular", "approximate")
    timeline.gaps = merge(_gaps_in_steps(timeline) if countable else _gaps_in_days(timeline))


def _runs(timeline: Timeline) -> Runs:
    """Return the runs of each file on its days in the timeline."""
    files = [(file, file.profile.runs) for file in timeline.files if file.profile]
    if not files:
        return NO_RUNS
    runs = np.concatenate([runs for _, runs in files])
    days = runs[:, 0] // DAY - timeline.first_day
    taken = (days >= 0) & (days < len(timeline.sources))
    is_long = timeline.cadence.is_long
    if not is_long:
        spans = [*timeline.spans(timeline.start, timeline.end)]
        starts = [span.start // DAY - timeline.first_day for span in spans]
        sources = np.array([id(span.source) for span in spans])
        owners = np.repeat([id(file) for file, _ in files], [len(runs) for _, runs in files])
        of_day = np.searchsorted(starts, days[taken], "right") - 1
        taken[taken] = sources[of_day] == owners[taken]
    runs = runs[taken]
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    if is_long and len(runs):
        # A candle of two months can be in the files of both.
        runs = runs[np.concatenate([[True], np.diff(runs[:, 0]) > 0])]
    return runs


# Rows at a known step


def _gaps_in_steps(timeline: Timeline) -> Iterator[Gap]:
    """Find the gaps of a feed whose rows have a fixed step, or approximately one."""
    for start, end, step in _missing_steps(timeline):
        due = partial(timeline.cadence.count_due, start, step=step)
        for span in _split_at_delivery(timeline, start, end):
            missing = due(span.end) - due(span.start)
            if not missing:
                continue
            cause = _classify(timeline, span)
            if cause.kind.is_missing:
                days = _due_by_day(due, span.start, span.end)
            else:
                missing, days = 0, np.zeros(0, np.int64)
            yield Gap(span.start, span.end, missing, cause.kind, (cause.evidence,), days)


def _missing_steps(timeline: Timeline) -> Iterator[tuple[int, int, int]]:
    """Yield the times at which due rows are missing: start, end, and step."""
    cadence, runs = timeline.cadence, timeline.runs
    regular = cadence.kind == "regular"
    start, end = timeline.start, timeline.end
    step = int(runs[0, 3]) if cadence.hours_column and len(runs) else cadence.step
    phase = cadence.phase
    if phase is None:
        phase = int(runs[0, 0]) if len(runs) else start
    if regular:
        start = (
            cadence.ceil_to_grid(start, phase) if step == MONTH else start + (phase - start) % step
        )
    if cadence.is_long:
        # A candle that ends after the last day is not due.
        if step == MONTH:
            end = int(month_start(np.array([end]))[0])
        else:
            end = start + max(end - start, 0) // step * step
    if not len(runs):
        if start < end:
            yield start, end, step
        return
    firsts, steps = runs[:, 0], runs[:, 3]
    if cadence.hours_column:
        # Either of two neighbours may state the hours between them.
        between = np.minimum(steps[:-1], steps[1:])
        allowed = np.maximum(steps[:-1], steps[1:])
        dues = runs[:-1, 1] + between
        missing = firsts[1:] - runs[:-1, 1] > allowed
    else:
        reach = np.maximum.accumulate(cadence.next_due(runs[:, 1], steps))
        dues, between = reach[:-1], steps[1:]
        missing = firsts[1:] > dues
    if not regular:
        missing = 2 * (firsts[1:] - dues) >= between
    if firsts[0] > start and (regular or firsts[0] - start >= step):
        # The first snapshot of a day may be anywhere within its step.
        late = 0 if regular else int(firsts[0] - start) % step
        yield start, int(firsts[0]) - late, step
    for index in np.flatnonzero(missing).tolist():
        yield int(dues[index]), int(firsts[index + 1]), int(between[index]) or cadence.step
    last = int(cadence.next_due(runs[-1:, 1], steps[-1:])[0])
    if last < end and (regular or 2 * (end - last) >= step):
        yield last, end, int(steps[-1]) or cadence.step


def _due_by_day(due: Callable[[int], int], start: int, end: int) -> npt.NDArray[np.int64]:
    """Count the rows due on each day of [start, end); `due` counts those before a time."""
    days = range(start // DAY, (end - 1) // DAY + 1)
    counts = [due(min((day + 1) * DAY, end)) for day in days]
    return np.diff([due(start), *counts])


def slice_gap(timeline: Timeline, gap: Gap, start: int, end: int) -> Gap:
    """Return a part of a gap of candles."""
    if (start, end) == (gap.start, gap.end):
        return gap
    due = partial(timeline.cadence.count_due, gap.start, step=timeline.cadence.step)
    missing, days = due(end) - due(start), _due_by_day(due, start, end)
    return replace(gap, start=start, end=end, missing=missing, days=days)


# Rows without a step


class _Jump(NamedTuple):
    """Ids skipped between two rows."""

    start: int
    end: int
    missing: int

    def overlaps(self, start: int, end: int) -> bool:
        """Return whether the jump has more than an end in common with [start, end)."""
        return self.start < end and start < self.end


def _gaps_in_days(timeline: Timeline) -> Iterator[Gap]:
    """Find gaps in feeds without a fixed step, from skipped ids and missing files."""
    jumps = _jumps(timeline)
    spans = timeline.spans(timeline.start, timeline.end)
    empty = [span for span in spans if not span.source.has_rows]
    for span in empty:
        around = [jump for jump in jumps if jump.start <= span.start and span.end <= jump.end]
        alone = all(sum(jump.overlaps(s.start, s.end) for s in empty) == 1 for jump in around)
        missing = around[0].missing if around and alone else None
        yield _gap_of_days(span.start, span.end, missing, _classify(timeline, span))
    inside = [jump for jump in jumps if not any(jump.overlaps(s.start, s.end) for s in empty)]
    for start, end, cause in _silences(timeline):
        joined = [jump for jump in inside if jump.overlaps(start, end)]
        inside = [jump for jump in inside if jump not in joined]
        missing = sum(jump.missing for jump in joined) if joined else None
        start = min([start, *(jump.start for jump in joined)])
        end = max([end, *(jump.end for jump in joined)])
        yield _gap_of_days(start, end, missing, cause)
    for jump in inside:
        file = timeline.source(jump.start // DAY)
        name = file.name if isinstance(file, DaySource) else ""
        evidence = f"{name}: {jump.missing:,} numbers in {timeline.cadence.id_column} are skipped"
        cause = Explanation(GapKind.HOLE, evidence)
        yield _gap_of_days(jump.start, jump.end, jump.missing, cause)


def _gap_of_days(start: int, end: int, missing: int | None, cause: Explanation) -> Gap:
    """Build a gap of rows at unknown times: all are counted on its first day."""
    if not cause.kind.is_missing:
        missing = 0
    days = np.zeros((end - 1) // DAY - start // DAY + 1, np.int64)
    days[0] = missing or 0
    return Gap(start, end, missing, cause.kind, (cause.evidence,), days)


def _jumps(timeline: Timeline) -> list[_Jump]:
    """Return the skipped ids between neighbouring runs."""
    if timeline.cadence.kind != "sequence":
        return []
    runs = [Run(*run) for run in timeline.runs.tolist()]
    return [
        _Jump(before.last, max(after.first, before.last + 1), after.first_id - before.last_id - 1)
        for before, after in pairwise(runs)
        if after.first_id - before.last_id > 1
    ]


def _silences(timeline: Timeline) -> Iterator[tuple[int, int, Explanation]]:
    """Yield the silences of files that begin late or end early, compared with their others."""
    for file in timeline.files:
        profile = file.profile
        if profile is None or not file.has_rows:
            continue
        few = profile.stats.rows < _FEWEST_LIQUIDATIONS
        if timeline.stream.data_type is DataType.LIQUIDATION_SNAPSHOT and few:
            continue
        first, last = int(profile.runs[0, 0]), int(profile.runs[-1, 1])
        before, after = first - file.start, file.end - last
        edges = (
            (before, after, file.start // DAY, 0, file.start, first),
            (after, before, file.end // DAY - 1, -1, last, file.end),
        )
        for silence, other, day, index, start, end in edges:
            if (
                _is_too_long(timeline, silence, max(profile.longest_silence, other))
                and timeline.source(day) is file
                and not _ids_continue(timeline, profile.runs[index], before=index == 0)
            ):
                yield start, end, _classify_edge(timeline, file, start, end)


def _is_too_long(timeline: Timeline, silence: int, longest: int) -> bool:
    """Return whether a silence at the edge of a file is unusual for its feed."""
    if timeline.stream.data_type is DataType.BOOK_TICKER and silence > HOUR:
        # The best prices of an open market change more often.
        return True
    return silence > max(_SILENCE * longest, MINUTE)


def _ids_continue(timeline: Timeline, run: npt.NDArray[np.int64], *, before: bool) -> bool:
    """Return whether the ids of a run continue those of the run before or after it."""
    runs = timeline.runs
    if timeline.cadence.kind != "sequence" or not len(runs):
        return False
    index = int(np.searchsorted(runs[:, 0], run[0]))
    if before:
        return index > 0 and Run(*runs[index - 1]).last_id + 1 == Run(*run).first_id
    return index + 1 < len(runs) and Run(*run).last_id + 1 == Run(*runs[index + 1]).first_id


# Classification


def _classify(timeline: Timeline, span: DaySpan) -> Explanation:
    """Classify missing rows: the kind of their gap, and the evidence."""
    file = span.source
    if isinstance(file, Explanation):
        return file
    if file.profile is None:
        return Explanation(GapKind.CORRUPT, file.problem)
    runs = file.profile.runs
    if not file.profile.stats.rows:
        return Explanation(GapKind.EMPTY_FILE, f"{file.name} has no rows")
    if (runs[:, 1] < span.start).any() and (runs[:, 0] >= span.end).any():
        return Explanation(GapKind.HOLE, f"{file.name} has rows before and after")
    return _classify_edge(timeline, file, span.start, span.end)


def _classify_edge(timeline: Timeline, file: DaySource, start: int, end: int) -> Explanation:
    """Classify missing rows at the beginning or the end of a file."""
    runs = timeline.runs if file.profile is None else file.profile.runs
    first, last = int(runs[0, 0]), int(runs[-1, 1])
    begins = first >= end
    neighbour = timeline.source(file.start // DAY - 1 if begins else file.end // DAY)
    neighbour_kind = neighbour.kind if isinstance(neighbour, Explanation) else None
    # The profile states only the step of an off-grid row.
    off_grid = file.profile is not None and file.profile.off_grid
    where = "is in the step of" if off_grid else "is of"
    if begins:
        outside, side = GapKind.BEFORE_LISTING, "before"
        evidence = f"{file.name}: its first row {where} {format_time(first)}"
        unknown = neighbour is None or neighbour_kind is GapKind.NOT_COLLECTED
        if unknown and not (timeline.runs[:, 0] < start).any():
            evidence += "; if the symbol was only listed then, nothing is missing"
    else:
        outside, side = GapKind.AFTER_DELISTING, "after"
        evidence = f"{file.name}: its last row {where} {format_time(last)}"
        delivered = _delivered(timeline)
        if delivered is not None and file.end > delivered:
            time = format_time(delivered)
            # The last candle ends then; the last trade is some minutes earlier.
            if start >= delivered - (0 if timeline.cadence.kind == "regular" else HOUR):
                return Explanation(outside, f"{evidence}; the contract was delivered at {time}")
            return Explanation(GapKind.SHORT_FILE, f"{evidence}; the contract went on to {time}")
    if neighbour_kind is outside:
        return Explanation(outside, f"{evidence}, without a file {side} it")
    return Explanation(GapKind.SHORT_FILE, evidence)


def _delivered(timeline: Timeline) -> int | None:
    """Return the delivery time of a contract; None for a symbol without one."""
    delivery = delivery_of(timeline.stream.symbol)
    return None if delivery is None else to_day_number(delivery) * DAY + _DELIVERED


def _split_at_delivery(timeline: Timeline, start: int, end: int) -> Iterator[DaySpan]:
    """Split [start, end) where the file changes, and where the contract is delivered."""
    delivered = _delivered(timeline)
    for span in timeline.spans(start, end):
        if delivered is not None and span.start < delivered < span.end:
            yield span._replace(end=delivered)
            yield span._replace(start=delivered)
        else:
            yield span
