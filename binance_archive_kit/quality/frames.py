"""Turn timelines and findings into the frames of a coverage report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.quality.timeline import (
    STREAM_FIELDS,
    Finding,
    FindingKind,
    GapKind,
    Timeline,
    join_evidence,
    stream_values,
)
from binance_archive_kit.timestamps import DAY, from_day_number

TIME = pl.Datetime("us", "UTC")
_TYPES = (pl.Enum(Market), pl.Enum(DataType), pl.String, pl.Enum(Interval))
_STREAM: dict[str, Any] = dict(zip(STREAM_FIELDS, _TYPES, strict=True))
GAPS_SCHEMA = pl.Schema(
    _STREAM
    | {
        "start": TIME,
        "end": TIME,
        "missing": pl.Int64,
        "kind": pl.Enum(GapKind),
        "evidence": pl.String,
    }
)
FINDINGS_SCHEMA = pl.Schema(
    _STREAM
    | {
        "start": TIME,
        "end": TIME,
        "rows": pl.Int64,
        "kind": pl.Enum(FindingKind),
        "evidence": pl.String,
        "explained": pl.Boolean,
    }
)
STREAMS_SCHEMA = pl.Schema(
    _STREAM
    | {
        "first": pl.Date,
        "last": pl.Date,
        "expected_files": pl.Int64,
        "actual_files": pl.Int64,
        "expected_days": pl.Int64,
        "actual_days": pl.Int64,
        "expected": pl.Int64,
        "present": pl.Int64,
        "missing": pl.Int64,
        "coverage": pl.Float64,
        "state": pl.String,
    }
)
DAYS_SCHEMA = pl.Schema(
    _STREAM
    | {
        "date": pl.Date,
        "expected": pl.Int64,
        "present": pl.Int64,
        "kind": pl.Enum(GapKind),
    }
)

COMPLETE, INCOMPLETE, FLAWED = "complete", "incomplete", "flawed"
EVERY_DAY, NOTHING, NOT_DUE = "every day there", "nothing there", "nothing due"

_GAP_KINDS = list(GapKind)
_NO_KIND = -1


def frames_of(
    timelines: Sequence[Timeline], findings: Sequence[Finding]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Build the frames of a coverage report: streams, gaps, findings and days."""
    doubtful = {finding.stream for finding in findings if finding.kind.is_doubt}
    days = [_count_days(timeline) for timeline in timelines]
    streams = [
        (*stream_values(timeline.stream), *_summed(timeline, counts, timeline.stream in doubtful))
        for timeline, counts in zip(timelines, days, strict=True)
    ]
    gaps = [
        (*stream_values(timeline.stream), gap.start, gap.end, gap.missing, gap.kind,
         join_evidence(gap.evidence))
        for timeline in timelines
        for gap in timeline.gaps
    ]  # fmt: skip
    rows = [
        (*stream_values(f.stream), f.start, f.end, f.rows, f.kind, f.evidence, f.explained)
        for f in findings
    ]
    return (
        pl.DataFrame(streams, STREAMS_SCHEMA, orient="row"),
        _with_times(gaps, GAPS_SCHEMA),
        _with_times(rows, FINDINGS_SCHEMA),
        _days_frame(timelines, days),
    )


def _with_times(rows: Sequence[tuple[Any, ...]], schema: pl.Schema) -> pl.DataFrame:
    """Build a frame of rows whose times are microseconds since 1970."""
    integers = {name: pl.Int64() if dtype == TIME else dtype for name, dtype in schema.items()}
    return pl.DataFrame(rows, integers, orient="row").cast(schema)


class _DayCounts(NamedTuple):
    """Rows due and present on each day of a timeline."""

    expected: npt.NDArray[np.int64]
    present: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int8]  #: indices into `_GAP_KINDS`, or `_NO_KIND`


def _count_days(timeline: Timeline) -> _DayCounts:
    """Count the rows due and present on each day of a timeline."""
    present = timeline.present
    kinds = np.full(len(present), _NO_KIND, np.int8)
    # The longest gap of a day comes last and replaces the others.
    for gap in sorted(timeline.gaps, key=lambda gap: (gap.kind.is_missing, gap.end - gap.start)):
        kind = _GAP_KINDS.index(gap.kind)
        if gap.kind.is_missing:
            kinds[timeline.slice_of(gap.start // DAY, -(-gap.end // DAY))] = kind
        else:
            # Rows are due on a day that has some.
            whole = timeline.slice_of(-(-gap.start // DAY), gap.end // DAY)
            kinds[whole][present[whole] == 0] = kind
    return _DayCounts(present + timeline.missing, present, kinds)


def _days_frame(timelines: Sequence[Timeline], days: Sequence[_DayCounts]) -> pl.DataFrame:
    """Build one frame of the days of all timelines."""
    if not timelines:
        return pl.DataFrame(schema=DAYS_SCHEMA)
    owner = np.repeat(np.arange(len(timelines)), [len(counts.present) for counts in days])
    streams = pl.DataFrame(
        [stream_values(timeline.stream) for timeline in timelines], pl.Schema(_STREAM), orient="row"
    )
    dates = np.concatenate([np.arange(line.first_day, line.end_day) for line in timelines])
    expected, present, kinds = map(np.concatenate, zip(*days, strict=True))
    uncountable = np.array([line.cadence.kind == "irregular" for line in timelines])[owner]
    names = pl.Series("kind", _GAP_KINDS, DAYS_SCHEMA["kind"])
    return streams[owner].with_columns(
        pl.Series("date", dates).cast(pl.Date),
        pl.Series("expected", expected).set(pl.Series(uncountable), None),
        pl.Series("present", present),
        names.gather(pl.Series(kinds).set(pl.Series(kinds == _NO_KIND), None)),
    )


def _summed(timeline: Timeline, days: _DayCounts, doubtful: bool) -> tuple[Any, ...]:
    """Return the values of a row of `STREAMS_SCHEMA` after those of the stream."""
    present = int(days.present.sum())
    gaps = [gap for gap in timeline.gaps if gap.kind.is_missing]
    countable = timeline.cadence.kind != "irregular" and all(g.missing is not None for g in gaps)
    not_due = [index for index, kind in enumerate(_GAP_KINDS) if not kind.is_missing]
    due = ~np.isin(days.kinds, not_due)
    actual = due & (days.present > 0)
    # Where rows cannot be counted, a day with a gap does not count.
    actual &= countable | (days.kinds == _NO_KIND)
    expected_days, actual_days = int(due.sum()), int(actual.sum())
    missing = sum(gap.missing or 0 for gap in gaps) if countable else None
    expected = None if missing is None else present + missing
    part, whole = (actual_days, expected_days) if expected is None else (present, expected)
    if not whole:
        state = NOT_DUE
    elif not present:
        state = NOTHING
    elif gaps:
        state = INCOMPLETE
    elif doubtful:
        state = FLAWED
    else:
        state = COMPLETE if countable else EVERY_DAY
    return (
        from_day_number(timeline.first_day),
        from_day_number(timeline.end_day - 1),
        timeline.expected_files,
        timeline.actual_files,
        expected_days,
        actual_days,
        expected,
        present,
        missing,
        part / whole if whole else None,
        state,
    )
