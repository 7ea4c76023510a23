"""What several streams can support together: a window, its weakest stream, what to skip."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
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
    count_more,
    describe_flaws,
    doubts_of,
    finding_folds,
    flaws_of,
    missing_of,
    name_of,
    weakest_of,
)
from binance_archive_kit.quality.timeline import STREAM_FIELDS

_SKIP = pl.Schema(
    [("start", TIME), ("end", TIME), ("streams", pl.String()), ("kinds", pl.String())]
)


class BacktestCoverage:
    """What several streams can support together.

    Parameters
    ----------
    report : CoverageReport
    min_coverage : float
        Share of what is due, 0 to 1, that every stream must have.

    Attributes
    ----------
    report : CoverageReport
    min_coverage : float
    asked : (date, date) or None
        UTC days that were asked for, both inclusive. Where nobody asked for days, as of a
        folder without start and end: from the first to the last day of its files. Files that
        the archive has for whole months only (funding rates, candles of 3d, 1w and 1mo) do
        not count for this when there are others: a month's file beside some daily ones of
        that month does not mean that all of the month was wanted.
    window : (date, date) or None
        UTC days, both inclusive, from the first to the last of which every stream has rows;
        None when there is no such day.
    streams : polars.DataFrame
        What there is of each stream within the window: ``market``, ``data_type``, ``symbol``,
        ``interval``, ``first``, ``last`` (the first and the last day of which it has what is
        due, or some of it), ``expected``, ``present`` (rows, null where they cannot be
        counted), ``coverage`` and ``measure`` (``rows`` or ``days``).
    skip : polars.DataFrame
        Times within the window of which some stream lacks rows, which a strategy must not
        trade through: ``start``, ``end`` (UTC, `end` exclusive), ``streams`` and ``kinds``.
    findings : polars.DataFrame
        What is worth knowing of rows within the window, as `CoverageReport.findings` has it;
        without a window, of all.
    expected_files, actual_files : int
        Files that should be there, and those that are.
    """

    def __init__(self, report: CoverageReport, min_coverage: float) -> None:
        self.report = report
        self.min_coverage = min_coverage
        self.expected_files = int(report.streams["expected_files"].sum())
        self.actual_files = int(report.streams["actual_files"].sum())
        extents = _extents(report)
        self.asked = _outer(_chosen_by_day(report.streams))
        self.window = _common(extents)
        self.streams = _within(report, extents, self.window)
        self.skip = _to_skip(report, self.window)
        self.findings = _found_within(report, self.window)

    @property
    def completeness(self) -> float:
        """Files that are there, of those that should be, in percent: 0 where none should."""
        return 100 * self.actual_files / self.expected_files if self.expected_files else 0.0

    @property
    def coverage(self) -> float | None:
        """What the weakest stream has within the window, 0 to 1; None without a window."""
        weakest = self.weakest
        return None if weakest is None else float(weakest["coverage"])

    @property
    def weakest(self) -> dict[str, Any] | None:
        """The stream with the least coverage within the window, as a row of `streams`."""
        return weakest_of(self.streams)

    @property
    def is_ready(self) -> bool:
        """Whether every stream has enough of all days that were asked for, none doubtful."""
        enough = self.coverage is not None and self.coverage >= self.min_coverage
        sound = not self.report.never_there and not doubts_of(self.findings).height
        return enough and sound and self.window == self.asked

    @property
    def verdict(self) -> str:
        """Say in a sentence what can be done with the data, with the numbers."""
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
        own = render.percent(weakest["coverage"], 1.0)
        words = f"{begins}: {days}; {inside}the weakest stream, {name_of(weakest)}, has {own}"
        words += f" of its {weakest['measure']} (wanted {100 * self.min_coverage:.10g} %)"
        if self.skip.height:
            words += f"; skip {render.counted(self.skip.height, 'stretch')}"
        words += describe_flaws(self.findings)
        if self.report.never_there:
            words += f"; never there: {self.report.never_there[0]}"
        return words

    def _bounds(self, window: tuple[date, date], asked: tuple[date, date]) -> Iterator[str]:
        """Say which streams begin after the first, or end before the last day asked for."""
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
        return f"there is no day of which every stream has rows; {self.report.verdict}"

    def raise_if_not_ready(self) -> None:
        """Raise the verdict unless the data are ready.

        Raises
        ------
        CoverageError
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
        """Lay the result out, with the evidence of so many findings of each kind."""
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
            f"({render.percent(self.actual_files, self.expected_files)}); a file that is there "
            "may lack rows, which the coverage above counts"
        )
        skips = [
            f"{row['start']:%Y-%m-%d %H:%M} to {row['end']:%Y-%m-%d %H:%M} UTC: {row['streams']} "
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
                Fold(f"{render.counted(len(skips), 'stretch')} to skip", skips, "warn"),
                *finding_folds(self.findings, evidence),
                *absence_folds(unavailable=self.report.unavailable),
            ],
        )


def _extents(report: CoverageReport) -> pl.DataFrame:
    """Give the first and the last day of which each stream has what is due.

    That is from its first to its last row, and the days around of which no row is due, as
    of most days of a week's candles.
    """
    day = pl.col("date")
    has = pl.col("present") > 0
    idle = (pl.col("expected") == 0) & pl.col("kind").is_null()
    lacks = ~(has | idle.fill_null(False))
    first, last = day.filter(has).min(), day.filter(has).max()
    before, after = day.filter(lacks & (day < first)).max(), day.filter(lacks & (day > last)).min()
    one = pl.duration(days=1)
    ends = (
        report.days.filter(has.any().over(STREAM_FIELDS))
        .group_by(STREAM_FIELDS)
        .agg(
            first=pl.coalesce(before + one, day.min()),
            last=pl.coalesce(after - one, day.max()),
        )
    )
    return report.streams.select(STREAM_FIELDS).join(
        ends, on=STREAM_FIELDS, how="left", nulls_equal=True, maintain_order="left"
    )


def _named(streams: pl.DataFrame, one: str, several: str) -> str:
    """Name the first of some streams and count the others, with the verb that fits."""
    name, more = name_of(streams.row(0, named=True)), streams.height - 1
    return f"{name} and {more:,} more {several}" if more else f"{name} {one}"


def _chosen_by_day(streams: pl.DataFrame) -> pl.DataFrame:
    """Leave out the streams that the archive has for whole months only, unless all are."""
    matrix = load_matrix()
    by_day = []
    for market, data_type, interval in streams.select("market", "data_type", "interval").rows():
        feed = matrix.feed(Market(market), DataType(data_type))
        by_day.append(feed is None or set(feed.partitions_with(interval)) != {Partition.MONTHLY})
    return streams.filter(by_day) if any(by_day) else streams


def _outer(streams: pl.DataFrame) -> tuple[date, date] | None:
    """Give the days that streams are about, all together."""
    first, last = streams["first"].min(), streams["last"].max()
    return (first, last) if isinstance(first, date) and isinstance(last, date) else None


def _common(extents: pl.DataFrame) -> tuple[date, date] | None:
    """Give the days between the first and the last of which every stream has rows."""
    if not extents.height or extents["first"].null_count():
        return None
    first, last = extents["first"].max(), extents["last"].min()
    if not isinstance(first, date) or not isinstance(last, date) or first > last:
        return None
    return first, last


def _within(
    report: CoverageReport, extents: pl.DataFrame, window: tuple[date, date] | None
) -> pl.DataFrame:
    """Say what there is of each stream within a window."""
    if window is None:
        inside = report.days.clear()
    else:
        inside = report.days.filter(pl.col("date").is_between(*window))
    whole = pl.col("kind").is_null() & (pl.col("present") > 0)
    counted = inside.group_by(STREAM_FIELDS).agg(
        expected=pl.when(pl.col("expected").is_not_null().all()).then(pl.col("expected").sum()),
        present=pl.col("present").sum(),
        days=whole.mean(),
    )
    by_rows = pl.col("expected") > 0
    known = report.streams.select(*STREAM_FIELDS, counts=pl.col("expected").is_not_null())
    return (
        extents.join(known, on=STREAM_FIELDS, how="left", nulls_equal=True, maintain_order="left")
        .join(counted, on=STREAM_FIELDS, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(by_rows=(by_rows & pl.col("counts")).fill_null(False))
        .select(
            *STREAM_FIELDS,
            "first",
            "last",
            "expected",
            "present",
            coverage=pl.when("by_rows")
            .then(pl.col("present") / pl.col("expected"))
            .otherwise("days"),
            measure=pl.when("by_rows").then(pl.lit("rows")).otherwise(pl.lit("days")),
        )
    )


def _bounds(window: tuple[date, date]) -> tuple[datetime, datetime]:
    """Return when a window begins, and when it ends, exclusive."""
    midnight = datetime.min.time()
    first, last = window
    return (
        datetime.combine(first, midnight, UTC),
        datetime.combine(last + timedelta(days=1), midnight, UTC),
    )


def _found_within(report: CoverageReport, window: tuple[date, date] | None) -> pl.DataFrame:
    """Choose the findings within a window."""
    if window is None:
        return report.findings
    early, late = _bounds(window)
    return report.findings.filter(pl.col("start") < late, pl.col("end") > early)


def _to_skip(report: CoverageReport, window: tuple[date, date] | None) -> pl.DataFrame:
    """Put together the times within a window that some stream lacks."""
    if window is None:
        return pl.DataFrame(schema=_SKIP)
    early, late = _bounds(window)
    joined: list[tuple[datetime, datetime, dict[str, None], dict[str, None]]] = []
    for row in missing_of(report.gaps).sort("start").iter_rows(named=True):
        start, end = max(row["start"], early), min(row["end"], late)
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            _, until, names, kinds = joined[-1]
            joined[-1] = joined[-1][0], max(until, end), names, kinds
        else:
            joined.append((start, end, {}, {}))
        joined[-1][2][name_of(row)] = None
        joined[-1][3][render.plain(row["kind"])] = None
    rows = [(start, end, ", ".join(n), ", ".join(k)) for start, end, n, k in joined]
    return pl.DataFrame(rows, _SKIP, orient="row")
