"""Check whether several streams together support a backtest: window, coverage, times to skip."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import polars as pl

from binance_archive_kit.archive.absence import absence_folds
from binance_archive_kit.archive.enums import DataType, Market, Partition
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.display import render
from binance_archive_kit.display.summary import Fold, Summary, Table
from binance_archive_kit.errors import CoverageError
from binance_archive_kit.quality.frames import TIME
from binance_archive_kit.quality.report import (
    ROWS,
    TEXT_ROWS,
    CoverageReport,
    changes_fold,
    count_more,
    describe_changes,
    describe_flaws,
    doubts_of,
    finding_folds,
    flaws_of,
    missing_of,
    name_of,
    weakest_of,
)
from binance_archive_kit.quality.timeline import STREAM_FIELDS
from binance_archive_kit.timestamps import DAY, format_time, to_datetime, to_day_number

#: First and last UTC day, both inclusive.
Days = tuple[date, date]

_SKIP = pl.Schema(
    [("start", TIME), ("end", TIME), ("streams", pl.String()), ("kinds", pl.String())]
)


class BacktestCoverage:
    """The common window of several streams, and whether their data are sufficient for a backtest.

    Parameters
    ----------
    report : CoverageReport
    min_coverage : float
        Share of the due rows, above 0 and at most 1, that every stream must have.

    Attributes
    ----------
    report : CoverageReport
    min_coverage : float
    asked : (date, date) or None
        First and last requested UTC day, both inclusive. For a folder without start and end,
        the days from the first to the last file. If there are daily files, monthly-only feeds
        (funding rates; 3d, 1w and 1mo candles) do not extend these days.
    window : (date, date) or None
        First and last UTC day, both inclusive, of the period in which every stream has rows;
        None if there is no such period.
    streams : polars.DataFrame
        One row per stream: ``market``, ``data_type``, ``symbol``, ``interval``, ``first`` and
        ``last`` (dates: the first and the last UTC day on which it has due rows);
        within the window ``expected`` and ``present`` (rows; null where they cannot be
        counted) and ``coverage`` (float, 0 to 1); and ``measure``, the unit of coverage
        (``rows`` or ``days``).
    skip : polars.DataFrame
        Times within the window in which any stream has missing rows, so that a strategy must
        not trade: ``start`` and ``end`` (``Datetime("us", "UTC")``, `end` exclusive),
        ``streams`` and ``kinds`` (text).
    findings : polars.DataFrame
        The findings within the window, as in `CoverageReport.findings`; without a window all
        findings.
    expected_files, actual_files : int
        Number of files expected, and present.
    """

    def __init__(self, report: CoverageReport, min_coverage: float) -> None:
        self.report = report
        self.min_coverage = min_coverage
        self.expected_files = int(report.streams["expected_files"].sum())
        self.actual_files = int(report.streams["actual_files"].sum())
        ends = _first_and_last_days(report)
        self.asked = _requested_days(report.streams)
        self.window = _window(ends)
        self.streams = _within(report, ends, self.window)
        self.skip = _to_skip(report.gaps, self.window)
        self.findings = _found_within(report.findings, self.window)

    @property
    def completeness(self) -> float:
        """Share of the expected files that are present, in percent; 0 if none are expected."""
        return 100 * self.actual_files / self.expected_files if self.expected_files else 0.0

    @property
    def coverage(self) -> float | None:
        """Coverage of the weakest stream within the window, 0 to 1; None without a window."""
        weakest = self.weakest
        return None if weakest is None else float(weakest["coverage"])

    @property
    def weakest(self) -> dict[str, Any] | None:
        """The stream with the least coverage within the window, as a row of `streams`."""
        return weakest_of(self.streams)

    @property
    def is_ready(self) -> bool:
        """Whether every stream has enough coverage of all requested days, and no doubtful rows."""
        enough = self.coverage is not None and self.coverage >= self.min_coverage
        sound = not self.report.never_there and not doubts_of(self.findings).height
        return enough and sound and self.window == self.asked

    @property
    def verdict(self) -> str:
        """The result in one sentence, with its numbers."""
        weakest, window, asked = self.weakest, self.window, self.asked
        if weakest is None or window is None or asked is None:
            return f"Not ready: {self._why_not()}"
        flawed = flaws_of(self.findings).height > 0
        begins = "Not ready" if not self.is_ready else "Ready with flaws" if flawed else "Ready"
        days = f"{window[0]} to {window[1]}"
        inside = ""
        if window != asked:
            days += f" is all that every stream has of {asked[0]} to {asked[1]}, as "
            days += " and ".join(self._bounds(window, asked))
            inside = "of these days "
        share = render.percent(weakest["coverage"], 1.0)
        verdict = f"{begins}: {days}; {inside}the weakest stream, {name_of(weakest)}, has {share}"
        verdict += f" of its {weakest['measure']} (wanted {100 * self.min_coverage:.10g} %)"
        if self.skip.height:
            verdict += f"; skip {render.counted(self.skip.height, 'period')}"
        verdict += describe_flaws(self.findings)
        if self.report.never_there:
            verdict += f"; unavailable: {self.report.never_there[0]}"
        return verdict + describe_changes(self.report.changes)

    def _bounds(self, window: tuple[date, date], asked: tuple[date, date]) -> Iterator[str]:
        """Name the streams that begin after the first or end before the last requested day."""
        if window[0] > asked[0]:
            late = self.streams.filter(pl.col("first") == window[0])
            yield f"{_named(late, 'begins', 'begin')} on {window[0]}"
        if window[1] < asked[1]:
            early = self.streams.filter(pl.col("last") == window[1])
            yield f"{_named(early, 'ends', 'end')} on {window[1]}"

    def _why_not(self) -> str:
        if not self.report.streams.height:
            return self.report.verdict
        empty = self.streams.filter(pl.col("first").is_null())
        if empty.height:
            return f"{name_of(empty.row(0, named=True))} has no rows; {self.report.verdict}"
        return f"no day has rows of every stream; {self.report.verdict}"

    def raise_if_not_ready(self) -> None:
        """Raise an error unless the data are ready.

        Raises
        ------
        CoverageError
            If they are not ready; its message is the verdict.
        """
        if not self.is_ready:
            raise CoverageError(self.verdict)

    def __repr__(self) -> str:
        """Return the verdict, the weakest streams, the files, and the findings."""
        return self._summary(TEXT_ROWS, evidence=1).to_text()

    def _repr_html_(self) -> str:
        """Return the result as HTML."""
        return self._summary().to_html()

    def _summary(self, streams: int = ROWS, evidence: int | None = None) -> Summary:
        """Lay out the result, with the worst streams and some evidence for each kind of finding."""
        weakest = self.streams.sort("coverage", maintain_order=True).head(streams)
        rows = [
            (
                name_of(row),
                f"{row['first']} to {row['last']}" if row["first"] else "no rows",
                "" if row["coverage"] is None else render.percent(row["coverage"], 1.0),
                row["measure"],
            )
            for row in weakest.iter_rows(named=True)
        ]
        files = (
            f"{self.actual_files:,} of {self.expected_files:,} files "
            f"({render.percent(self.actual_files, self.expected_files)}); rows missing inside a "
            "file count in the coverage above"
        )
        skips = [
            f"{format_time(row['start'])} to {format_time(row['end'])} UTC: {row['streams']} "
            f"({row['kinds']})"
            for row in self.skip.iter_rows(named=True)
        ]
        below = count_more(self.streams.height - streams)
        return Summary(
            "Backtest",
            self.verdict,
            "good" if self.is_ready else "bad" if self.window is None else "warn",
            [
                Table(("stream", "has rows (UTC)", "coverage", "of"), rows, {2}, below=below),
                Table((), (), below=files),
            ],
            folds=[
                Fold(f"{render.counted(len(skips), 'period')} to skip", skips, "warn"),
                *finding_folds(self.findings, evidence),
                *absence_folds(unavailable=self.report.unavailable),
                changes_fold(self.report.changes),
            ],
        )


def _first_and_last_days(report: CoverageReport) -> pl.DataFrame:
    """Return the first and the last day on which no due row of each stream is missing.

    These are the days of its first and last row, and the adjacent days without due rows, such
    as most days of weekly candles.
    """
    day = pl.col("date")
    has = pl.col("present") > 0
    idle = (pl.col("expected") == 0) & pl.col("kind").is_null()
    missing = ~(has | idle.fill_null(False))
    first, last = day.filter(has).min(), day.filter(has).max()
    before = day.filter(missing & (day < first)).max()
    after = day.filter(missing & (day > last)).min()
    one = pl.duration(days=1)
    ends = (
        report.days.filter(has.any().over(STREAM_FIELDS))
        .group_by(STREAM_FIELDS)
        .agg(
            first=pl.coalesce(before + one, day.min()),
            last=pl.coalesce(after - one, day.max()),
        )
    )
    return _joined(report.streams.select(STREAM_FIELDS), ends)


def _joined(streams: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    """Join columns to the row of each stream."""
    return streams.join(more, on=STREAM_FIELDS, how="left", nulls_equal=True, maintain_order="left")


def _named(streams: pl.DataFrame, one: str, several: str) -> str:
    """Format the name of the first stream and the number of the others, with the verb."""
    name, more = name_of(streams.row(0, named=True)), streams.height - 1
    return f"{name} and {more:,} more {several}" if more else f"{name} {one}"


def _requested_days(streams: pl.DataFrame) -> Days | None:
    """Return the days of all streams, without those published only monthly unless all are."""
    matrix = load_matrix()
    daily = []
    for market, data_type, interval in streams.select("market", "data_type", "interval").rows():
        feed = matrix.feed(Market(market), DataType(data_type))
        daily.append(feed is None or set(feed.partitions_with(interval)) != {Partition.MONTHLY})
    chosen = streams.filter(daily) if any(daily) else streams
    first, last = chosen.select(pl.min("first"), pl.max("last")).row(0)
    return None if first is None else (first, last)


def _window(ends: pl.DataFrame) -> Days | None:
    """Return the days between the first and the last on which every stream has rows."""
    first, last = ends.select(pl.max("first"), pl.min("last")).row(0)
    return None if ends["first"].has_nulls() or first is None or first > last else (first, last)


def _within(report: CoverageReport, ends: pl.DataFrame, window: Days | None) -> pl.DataFrame:
    """Count the rows of each stream within a window."""
    inside = report.days.filter(pl.col("date").is_between(*window) if window else pl.lit(False))
    expected = pl.col("expected")
    counted = inside.group_by(STREAM_FIELDS).agg(
        expected=pl.when(expected.is_not_null().all()).then(expected.sum()),
        present=pl.col("present").sum(),
        days=(pl.col("kind").is_null() & (pl.col("present") > 0)).mean(),
    )
    countable = report.streams.select(*STREAM_FIELDS, countable=expected.is_not_null())
    by_rows = ((expected > 0) & pl.col("countable")).fill_null(False)
    share = pl.col("present") / expected
    return _joined(_joined(ends, countable), counted).select(
        *STREAM_FIELDS,
        "first",
        "last",
        "expected",
        "present",
        coverage=pl.when(by_rows).then(share).otherwise("days"),
        measure=pl.when(by_rows).then(pl.lit("rows")).otherwise(pl.lit("days")),
    )


def _times(window: Days) -> tuple[datetime, datetime]:
    """Return the start of a window, and its end, exclusive."""
    first, last = map(to_day_number, window)
    return to_datetime(first * DAY), to_datetime((last + 1) * DAY)


def _found_within(findings: pl.DataFrame, window: Days | None) -> pl.DataFrame:
    """Return the findings within a window, or all without a window."""
    if window is None:
        return findings
    start, end = _times(window)
    return findings.filter(pl.col("start") < end, pl.col("end") > start)


def _to_skip(gaps: pl.DataFrame, window: Days | None) -> pl.DataFrame:
    """Merge the times within a window in which any stream has missing rows."""
    if window is None:
        return pl.DataFrame(schema=_SKIP)
    first, last = _times(window)
    start, end = pl.col("start"), pl.col("end")
    name = pl.concat_str(pl.col(STREAM_FIELDS).cast(pl.String), separator=" ", ignore_nulls=True)
    kind = pl.col("kind").cast(pl.String).str.replace_all("_", " ")
    apart = (start > end.cum_max().shift()).fill_null(True)
    return (
        missing_of(gaps)
        .select(start.clip(first), end.clip(upper_bound=last), streams=name, kinds=kind)
        .filter(start < end)
        .sort("start", maintain_order=True)
        .group_by(apart.cum_sum().alias("number"), maintain_order=True)
        .agg(
            start.min(),
            end.max(),
            pl.col("streams", "kinds").unique(maintain_order=True).str.join(", "),
        )
        .drop("number")
    )
