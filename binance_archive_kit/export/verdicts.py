"""The coverage verdict of each month of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import Folder, Stream
from binance_archive_kit.display import render
from binance_archive_kit.export.footers import Verdict
from binance_archive_kit.export.month_folders import MonthFolder
from binance_archive_kit.export.sources import MonthSources
from binance_archive_kit.quality.expected import Expected
from binance_archive_kit.quality.report import (
    CoverageReport,
    count_gaps,
    describe_flaws,
    doubts_of,
    missing_of,
)
from binance_archive_kit.quality.stream_survey import survey_streams
from binance_archive_kit.quality.timeline import STREAM_FIELDS, GapKind, stream_values
from binance_archive_kit.query.engine import Engine

_NOTHING = Verdict("Nothing is due", None, False)
_FEED = ["market", "data_type", "interval"]
#: Kinds of gaps in which rows were due.
_MISSING = [kind for kind in GapKind if kind.is_missing]


def judge(engine: Engine, months: Sequence[MonthSources]) -> dict[MonthFolder, Verdict]:
    """Judge the rows of months, as `coverage` does; read files that were not read before.

    Gaps that reach into several months count in each of them. Streams are expected from their
    first to their last file.
    """
    if not months:
        return {}
    by_feed: dict[tuple[str, str, str | None], list[MonthSources]] = {}
    for month in months:
        folder = month.folder
        by_feed.setdefault((folder.market, folder.data_type, folder.interval), []).append(month)
    stored = Expected.of_folder(engine, (None, None))
    limits = {}
    for stream, days in stored.streams.items():
        due = by_feed.get((stream.market, stream.data_type, stream.interval), [])
        if due and due[0].selection.folder_may_match(Folder(stream, Partition.DAILY)):
            first = max(days.first, min(_start(month) for month in due))
            last = min(days.last, max(_last(month) for month in due))
            if first <= last:
                limits[stream] = first, last
    report = _limited(survey_streams(engine, stored, limits), limits)
    return {month.folder: _verdict(report, month.folder) for month in months}


def _limited(report: CoverageReport, limits: Mapping[Stream, tuple[date, date]]) -> CoverageReport:
    """Return a report without other streams, and without days beside those of each stream."""
    schema = {name: report.days.schema[name] for name in STREAM_FIELDS}
    rows = [(*stream_values(stream), *days) for stream, days in limits.items()]
    own = pl.DataFrame(rows, schema | {"first": pl.Date, "last": pl.Date}, orient="row")

    def joined(frame: pl.DataFrame, start: pl.Expr, end: pl.Expr) -> pl.DataFrame:
        found = frame.join(own, on=STREAM_FIELDS, nulls_equal=True, maintain_order="left")
        return found.filter(start <= pl.col("last"), end >= pl.col("first")).drop("first", "last")

    start, end = pl.col("start").dt.date(), pl.col("end").dt.offset_by("-1us").dt.date()
    return replace(
        report,
        days=joined(report.days, pl.col("date"), pl.col("date")),
        gaps=joined(report.gaps, start, end),
        findings=joined(report.findings, start, end),
    )


def _start(month: MonthSources) -> date:
    return (month.selection.start or month.folder.start).date()


def _last(month: MonthSources) -> date:
    return ((month.selection.end or month.folder.end) - timedelta(microseconds=1)).date()


def _verdict(report: CoverageReport, folder: MonthFolder) -> Verdict:
    """Return the verdict on one month of a report."""
    start, end = (day.replace(tzinfo=UTC) for day in (folder.start, folder.end))
    day = pl.col("date")
    days = _of_feed(report.days, folder).filter(day >= start.date(), day < end.date())
    gaps = overlapping(_of_feed(report.gaps, folder), start, end)
    findings = overlapping(_of_feed(report.findings, folder), start, end)
    # The number of rows is that of the whole gap, which may lie in several months.
    return verdict_of(days, gaps.with_columns(missing=pl.lit(0)), findings)


def verdict_of(days: pl.DataFrame, gaps: pl.DataFrame, findings: pl.DataFrame) -> Verdict:
    """Return the verdict on some days, gaps and findings of a report."""
    due = days.filter(pl.col("expected") > 0)
    unit = "rows"
    present, expected = due.select(pl.col("present", "expected").sum()).row(0)
    if not expected:
        # Where rows cannot be counted, days are.
        missing = pl.col("kind").is_in(_MISSING).fill_null(False)
        unit, expected = "days", days.filter((pl.col("present") > 0) | missing).height
        present = days.filter(pl.col("present") > 0, ~missing).height
    if not expected:
        return _NOTHING
    gaps = missing_of(gaps)
    counted = count_gaps(gaps)
    doubtful = doubts_of(findings).height > 0
    begins = "Incomplete" if gaps.height else "Flawed" if doubtful else "Complete"
    text = (
        f"{begins}: {render.percent(present, expected)} of the {unit} due are present "
        f"({present:,} of {expected:,}){f'; {counted}' if counted else ''}"
        f"{describe_flaws(findings)}"
    )
    return Verdict(text, present / expected, not gaps.height and not doubtful)


def _of_feed(frame: pl.DataFrame, folder: MonthFolder) -> pl.DataFrame:
    """Return the rows of a feed and an interval."""
    values = (folder.market, folder.data_type, folder.interval)
    conditions = [
        pl.col(name).cast(pl.String).eq_missing(pl.lit(None if value is None else str(value)))
        for name, value in zip(_FEED, values, strict=True)
    ]
    return frame.filter(*conditions)


def overlapping(frame: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the gaps or findings of a time; `end` is exclusive."""
    return frame.filter(pl.col("start") < end, pl.col("end") > start)
