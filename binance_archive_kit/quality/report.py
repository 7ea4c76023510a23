"""Coverage as people look at it: a verdict, a table, a picture; as frames and as HTML.

Nothing found is never complete, and a share is never rounded up to a whole.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.display import render
from binance_archive_kit.errors import ConfigurationError, FileError
from binance_archive_kit.paths import find_path
from binance_archive_kit.quality.gaps import (
    Finding,
    FindingKind,
    GapKind,
    Timeline,
    said,
)
from binance_archive_kit.quality.heatmap import COMPLETE, Heatmap, picture_of
from binance_archive_kit.timestamps import DAY, from_day_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from binance_archive_kit.storage.inventory import SkippedFile

MOMENT = pl.Datetime("us", "UTC")
WHAT: dict[str, Any] = {
    "market": pl.Enum(Market),
    "data_type": pl.Enum(DataType),
    "symbol": pl.String,
    "interval": pl.Enum(Interval),
}
GAPS_SCHEMA = pl.Schema(
    WHAT
    | {
        "start": MOMENT,
        "end": MOMENT,
        "missing": pl.Int64,
        "kind": pl.Enum(GapKind),
        "evidence": pl.String,
    }
)
FINDINGS_SCHEMA = pl.Schema(
    WHAT
    | {
        "start": MOMENT,
        "end": MOMENT,
        "rows": pl.Int64,
        "kind": pl.Enum(FindingKind),
        "evidence": pl.String,
        "explained": pl.Boolean,
    }
)
STREAMS_SCHEMA = pl.Schema(
    WHAT
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
    WHAT
    | {
        "date": pl.Date,
        "expected": pl.Int64,
        "present": pl.Int64,
        "kind": pl.Enum(GapKind),
    }
)

INCOMPLETE, FLAWED = "incomplete", "flawed"
EVERY_DAY, NOTHING, NOT_DUE = "every day there", "nothing there", "nothing due"
#: A mark beside the word of each state.
_MARKS = {COMPLETE: "●", EVERY_DAY: "●", INCOMPLETE: "◐", FLAWED: "◐", NOTHING: "○", NOT_DUE: "·"}
_HEAD = ("stream", "days (UTC)", "files", "rows", "coverage", "state", "gaps")
#: Rows of a table before only the worst are shown.
ROWS = 25
#: Streams in a text, and gaps in a page, before the rest is only counted.
_TOLD, _LISTED = 12, 1_000


@dataclass(frozen=True, repr=False)
class CoverageReport:
    """What is there of what is due.

    Attributes
    ----------
    title : str
        What it is about, such as the folder of the store.
    streams : polars.DataFrame
        A row for each symbol, feed and interval: ``market``, ``data_type``, ``symbol``,
        ``interval``, ``first`` and ``last`` (UTC days, both inclusive), ``expected_files``,
        ``actual_files``, ``expected_days`` (days of which rows are due), ``actual_days`` (of
        which any are there), ``expected``, ``present`` and ``missing`` (different rows; null
        where the rows of a feed do not tell how many are due), ``coverage`` (0 to 1: of rows,
        or of days where rows cannot be counted; null when nothing is due) and ``state``
        (``flawed`` where all rows are there and some cannot be trusted).
    gaps : polars.DataFrame
        ``market``, ``data_type``, ``symbol``, ``interval``, ``start``, ``end`` (UTC, `end`
        exclusive), ``missing`` (rows; null if not known; 0 where none were due), ``kind`` (see
        `GapKind`) and ``evidence``. Neighbouring gaps of one kind are one row.
    findings : polars.DataFrame
        What is worth knowing and no gap: as ``gaps``, with ``rows`` instead of ``missing``, the
        kinds of `FindingKind`, and ``explained``: whether it is so for a known and harmless
        reason, which the evidence names.
    days : polars.DataFrame
        A row for each day of each stream: ``expected`` and ``present`` rows, and ``kind``, the
        kind of gap that takes most of it, if any does.
    unavailable : tuple of Absence
        Asked for, and never was.
    problems : dict of str to FileError
        Files that cannot be believed, by their path inside the store.
    nothing : str
        Why no day of any stream is reported on, where that is known.
    skipped : tuple of SkippedFile
        Files of the store that are not read because of their name or place, and what to do.
    """

    title: str
    streams: pl.DataFrame
    gaps: pl.DataFrame
    findings: pl.DataFrame
    days: pl.DataFrame
    unavailable: tuple[Absence, ...] = ()
    problems: Mapping[str, FileError] = field(default_factory=dict)
    nothing: str = ""
    skipped: tuple[SkippedFile, ...] = ()

    # In words

    @property
    def coverage(self) -> float | None:
        """Share of what is due that is there, 0 to 1; None when nothing is due.

        Of rows where they can be counted, over all streams; of days where of no stream they
        can.
        """
        part, whole, _ = self._share()
        return part / whole if whole else None

    @property
    def weakest(self) -> dict[str, Any] | None:
        """The stream with the least coverage, as a row of `streams`; None when nothing is due."""
        return weakest_of(self.streams)

    @property
    def is_complete(self) -> bool:
        """Whether something is due, all of it is there, and none of it is doubtful."""
        due = self.streams.filter(pl.col("state") != NOT_DUE)["state"]
        return len(due) > 0 and due.is_in([COMPLETE, EVERY_DAY]).all()

    @property
    def verdict(self) -> str:
        """Sum it up in a sentence, with the numbers."""
        if not self.streams.height:
            if self.nothing:
                return f"Nothing is due: {self.nothing}"
            if self.unavailable:
                return f"Nothing is due: {self.unavailable[0]}"
            if self.skipped:
                return f"Nothing read: {self._skipped()}"
            return f"Nothing found: {self.title} has no file of the archive for these days"
        part, whole, what = self._share()
        if not whole:
            return f"Nothing is due: {_tally(self.gaps)}"
        due = self.streams.filter(pl.col("state") != NOT_DUE)
        lacks = _tally(lacks_of(self.gaps))
        begins = "Complete" if self.is_complete else "Incomplete" if part else "Nothing there"
        share = f"{render.percent(part, whole)} of the {what} due are there"
        told = flaws_told(self.findings)
        gone = _tally(self.gaps.filter(pl.col("kind") == GapKind.AFTER_DELISTING))
        if self.is_complete and flaws_of(self.findings).height:
            begins = "Complete with flaws"
        if part == whole and not lacks and self.doubts.height:
            begins, share = "Flawed", f"the {what} due are there"
        uncounted = due.filter(pl.col("expected").is_null()) if what == "rows" else due.clear()
        days = (
            f" and {uncounted['actual_days'].sum():,} of {uncounted['expected_days'].sum():,} days "
            "where rows cannot be counted,"
            if uncounted.height
            else ""
        )
        actual, wanted = due["actual_files"].sum(), due["expected_files"].sum()
        return (
            f"{begins}: {share} ({part:,} of {whole:,}){days or ','} in {actual:,} of {wanted:,} "
            f"files of {render.counted(due.height, 'stream')}"
            f"{f'; {lacks}' if lacks else ''}"
            f"{f'; not due: {gone}' if gone else ''}{told}"
            f"{f'; {self._skipped()}' if self.skipped else ''}"
            f"{f'; never there: {self.never_there[0]}' if self.never_there else ''}"
        )

    @property
    def doubts(self) -> pl.DataFrame:
        """Findings because of which rows cannot be trusted."""
        return doubts_of(self.findings)

    def _skipped(self) -> str:
        first, count = self.skipped[0], render.counted(len(self.skipped), "file")
        return (
            f"{count} skipped because of name or place, such as {first.path}: "
            f"{first.reason}; {first.advice}"
        )

    @property
    def never_there(self) -> list[Absence]:
        """What was asked for and cannot be had; but not that a market lacks another's feed."""
        return [each for each in self.unavailable if each.reason is not Reason.NO_SUCH_FEED]

    def _share(self) -> tuple[int, int, str]:
        """Count what is there and what is due, in rows; in days where rows cannot be counted."""
        counted = self.streams.drop_nulls("expected")
        if counted["expected"].sum():
            return int(counted["present"].sum()), int(counted["expected"].sum()), "rows"
        days = self.streams["actual_days", "expected_days"].sum().row(0)
        return int(days[0]), int(days[1]), "days"

    def to_frame(self) -> pl.DataFrame:
        """Give `streams`."""
        return self.streams

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [f"Coverage · {self.verdict}"]
        for name, days, files, *words in self._rows(_TOLD):
            lines.append("  " + " · ".join(filter(None, (name, days, f"{files} files", *words))))
        if self.streams.height > _TOLD:
            lines.append(f"  … and {self.streams.height - _TOLD:,} more, none of them worse")
        lines += [f"  {line}" for line in self._notes()]
        lines += render.absences_text((), (), self.unavailable)
        return "\n".join(lines)

    __repr__ = __str__

    def _rows(self, most: int) -> Iterator[tuple[str, ...]]:
        """Spell a line for each stream, the worst ones first if there are too many."""
        streams = self.streams.with_row_index("at")
        if streams.height > most:
            worst = pl.col("coverage").fill_null(2.0)
            streams = streams.sort(worst, "at").head(most).sort("at")
        keys = [*WHAT]
        lacks = lacks_of(self.gaps).join(streams.select(*keys), on=keys, nulls_equal=True)
        by_stream = lacks.partition_by(keys, as_dict=True)
        flaws = flaws_of(self.findings).join(streams.select(*keys), on=keys, nulls_equal=True)
        flaws_by_stream = flaws.partition_by(keys, as_dict=True)
        for row in streams.iter_rows(named=True):
            name = tuple(row[key] for key in keys)
            odd = _flaw_tally(flaws_by_stream.get(name, flaws.clear()))
            lacking = _tally(by_stream.get(name, lacks.clear()))
            files = f"{row['actual_files']:,} of {row['expected_files']:,}"
            yield (
                " ".join(filter(None, (row[key] for key in keys))),
                f"{row['first']} to {row['last']}",
                files,
                _amount(row),
                _spelled(row),
                row["state"],
                ", ".join(filter(None, (lacking, odd))),
            )

    def _notes(self) -> list[str]:
        """Say what was found besides gaps, kind by kind, and which files cannot be believed."""
        notes = notes_on(self.findings)
        if self.skipped:
            notes.append(self._skipped())
        return notes + render.first([str(error) for error in self.problems.values()])

    # In HTML

    def _panel(self) -> str:
        """Lay the report out, without its picture."""
        rows = [(*row[:5], f"{_MARKS[row[5]]} {row[5]}", row[6]) for row in self._rows(ROWS)]
        table = render.table(_HEAD, rows, numeric={2, 3, 4}, unbroken=range(6))
        hidden = self.streams.height - ROWS
        return render.panel(
            "Coverage",
            self.verdict,
            self._look(),
            table,
            more_html(hidden),
            self._findings_html(),
            render.absences_html((), (), self.unavailable),
        )

    def _look(self) -> str:
        if self.is_complete:
            return "good"
        part, whole, _ = self._share()
        if not self.streams.height or not whole:
            return "idle"
        return "warn" if part and not self.problems else "bad"

    def _findings_html(self) -> str:
        parts = (
            [
                render.details(
                    "bad",
                    f"{render.counted(len(self.problems), 'file')} that cannot be believed",
                    [str(error) for error in self.problems.values()],
                )
            ]
            if self.problems
            else []
        )
        if self.skipped:
            lines = [f"{each.path}: {each.reason}; {each.advice}" for each in self.skipped]
            summary = f"{render.counted(len(lines), 'file')} skipped because of name or place"
            parts.append(render.details("warn", summary, lines))
        return "".join(parts) + findings_html(self.findings)

    def _repr_html_(self) -> str:
        """Show the report where HTML is shown."""
        return self._panel()

    def _ipython_display_(self) -> None:
        """Show the report in a notebook: the words, and the picture as an output of its own."""
        from IPython.display import display

        display({"text/html": self._panel(), "text/plain": str(self)}, raw=True)  # type: ignore[no-untyped-call]
        if self.days.height:
            alt = f"Days of each stream: {self.verdict}"
            display(  # type: ignore[no-untyped-call]
                {"image/png": base64.b64encode(self._picture().png()).decode(), "text/plain": alt},
                raw=True,
                metadata={"image/png": {"alt": alt}},
            )

    @overload
    def to_html(self, path: None = None) -> str: ...
    @overload
    def to_html(self, path: str | Path) -> None: ...
    def to_html(self, path: str | Path | None = None) -> str | None:
        """Make a page of the report that stands for itself: no script, nothing to load.

        Parameters
        ----------
        path : str or Path, optional
            Where to write it.

        Returns
        -------
        str or None
            The page; None when it is written, so that a cell does not show its text.
        """
        picture = ""
        if self.days.height:
            alt = escape(f"Days of each stream: {self.verdict}")
            code = base64.b64encode(self._picture().png()).decode()
            picture = f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{code}">'
        gaps = render.table(
            ("stream", "start (UTC)", "end (exclusive)", "missing", "kind", "evidence"),
            [
                (
                    name_of(row),
                    f"{row['start']:%Y-%m-%d %H:%M:%S}",
                    f"{row['end']:%Y-%m-%d %H:%M:%S}",
                    "not known" if row["missing"] is None else f"{row['missing']:,}",
                    render.plain(row["kind"]),
                    row["evidence"],
                )
                for row in self.gaps.head(_LISTED).iter_rows(named=True)
            ],
            numeric={3},
        )
        left = self.gaps.height - _LISTED
        more = f"<p>… and {left:,} more gaps; report.gaps has them all</p>" if left > 0 else ""
        page = _PAGE.format(
            title=escape(f"Coverage of {self.title}"),
            body=f"{self._panel()}{picture}<h2>Gaps</h2>{gaps or '<p>None.</p>'}{more}",
        )
        if path is not None:
            try:
                find_path("path", path).write_text(page, encoding="utf-8")
            except OSError as error:
                raise ConfigurationError(
                    f"path: {str(path)!r} cannot be written: {error.strerror}"
                ) from None
            return None
        return page

    def to_markdown(self) -> str:
        """Lay the report out in Markdown, without its picture, for pages that show no HTML."""
        rows = [*self._rows(ROWS)]
        hidden = self.streams.height - len(rows)
        parts = ["# Coverage", render.markdown_text(self.verdict)]
        parts += [render.markdown_table(_HEAD, rows)] if rows else []
        parts += [_more(hidden)] if hidden else []
        notes = self._notes()
        parts += [render.markdown_list("Worth knowing", notes)] if notes else []
        return "\n\n".join(parts)

    # In a picture

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the days of each stream, coloured by what is lacking of them.

        Days are put together where there are too many, and the worst of them shows; of many
        streams the worst are drawn. A single stream of many years is drawn year by year.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Where to draw; by default on a figure of its own.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return self._picture().plot(axes)

    def _picture(self) -> Heatmap:
        names = [name_of(row) for row in self.streams.iter_rows(named=True)]
        keys = [*WHAT]
        days = self.days.join(
            self.streams.select(*keys).with_row_index("row"),
            on=keys,
            nulls_equal=True,
            maintain_order="left",
        )
        return picture_of(names, days["row"], days["date"], days["kind"])


def doubts_of(findings: pl.DataFrame) -> pl.DataFrame:
    """Choose the findings because of which rows cannot be trusted."""
    return findings.filter(pl.col("kind").is_in([kind for kind in FindingKind if kind.is_doubt]))


def flaws_of(findings: pl.DataFrame) -> pl.DataFrame:
    """Choose the findings of which something is wrong with rows, and not for a known reason."""
    flaws = [kind for kind in FindingKind if kind.is_flaw]
    return findings.filter(pl.col("kind").is_in(flaws), ~pl.col("explained"))


def _flaw_tally(flaws: pl.DataFrame) -> str:
    """Count the rows that are flawed, kind by kind: ``2 conflicting rows, 62 repeated rows``."""
    counts = flaws.group_by("kind").agg(pl.len(), pl.col("rows").sum()).sort("kind")
    return ", ".join(
        _flaw_told(FindingKind(kind), count, rows) for kind, count, rows in counts.iter_rows()
    )


def _flaw_told(kind: FindingKind, count: int, rows: int) -> str:
    if kind is FindingKind.UNSORTED:
        return render.counted(count, "unsorted file")
    if kind is FindingKind.WRONG_VALUES:
        return render.counted(count, "known defect")
    before, after = _ROWS_ARE[kind]
    return f"{render.counted(rows, f'{before}row')}{after}"


#: Words before and after "rows" for each kind.
_ROWS_ARE = {
    FindingKind.CONFLICT: ("conflicting ", ""),
    FindingKind.NULL_VALUE: ("", " with empty values"),
    FindingKind.IMPOSSIBLE_VALUE: ("", " with impossible values"),
    FindingKind.CONSTANT: ("", " with a constant value"),
    FindingKind.FROZEN: ("", " with frozen values"),
    FindingKind.DUPLICATE: ("repeated ", ""),
    FindingKind.OFF_GRID: ("off-grid ", ""),
    FindingKind.DISAGREEMENT: ("", " differing between monthly and daily files"),
}


def flaws_told(findings: pl.DataFrame) -> str:
    """Return what is wrong with rows that are there, the doubtful ones first; empty if nothing."""
    flaws = flaws_of(findings)
    doubts = doubts_of(flaws)
    tally = _flaw_tally(flaws.filter(~pl.col("kind").is_in(doubts["kind"].unique().implode())))
    words = ""
    if doubts.height:
        worst = doubts.sort("kind", maintain_order=True).row(0, named=True)
        words = f"; not to be trusted: {_flaw_tally(doubts)}, such as {worst['evidence']}"
    words += f"; flaws: {tally}" if tally else ""
    known = findings.filter("explained", pl.col("kind").is_in(_SAID_THOUGH_KNOWN))
    return f"{words}; as is known, {_flaw_tally(known)}" if known.height else words


#: What rows have for a known reason and a reader should be told all the same.
_SAID_THOUGH_KNOWN = [FindingKind.DUPLICATE, FindingKind.OFF_GRID]


def notes_on(findings: pl.DataFrame) -> list[str]:
    """Return a line for each kind of finding, with the first of each."""
    counts = findings.group_by("kind", maintain_order=True).agg(
        pl.len(), pl.col("evidence").first()
    )
    return [
        f"{count:,} {kind}: {FindingKind(kind).meaning}; {evidence}"
        for kind, count, evidence in counts.iter_rows()
    ]


def findings_html(findings: pl.DataFrame) -> str:
    """Fold what was found, kind by kind."""
    parts = []
    for (kind,), found in findings.group_by("kind", maintain_order=True):
        lines = [
            f"{name_of(row)}, {row['start']:%Y-%m-%d %H:%M} UTC: {row['evidence']}"
            for row in found.iter_rows(named=True)
        ]
        word = FindingKind(kind)
        summary = f"{found.height:,} {render.plain(word)} ({word.meaning})"
        look = "bad" if word.is_doubt else "warn" if word.is_flaw else "idle"
        parts.append(render.details(look, summary, lines))
    return "".join(parts)


def weakest_of(streams: pl.DataFrame) -> dict[str, Any] | None:
    """Choose the stream with the least coverage; None when nothing is due of any."""
    due = streams.drop_nulls("coverage").sort("coverage", maintain_order=True)
    return due.row(0, named=True) if due.height else None


def more_html(hidden: int) -> str:
    """Say how many streams a table leaves out, if it does."""
    return f"<p>{_more(hidden)}</p>" if hidden > 0 else ""


def _more(hidden: int) -> str:
    return f"… and {hidden:,} more streams, none of them worse"


def lacks_of(gaps: pl.DataFrame) -> pl.DataFrame:
    """Choose the gaps in which rows that were due are lacking."""
    return gaps.filter(pl.col("kind").is_in([kind for kind in GapKind if kind.is_lack]))


def _tally(gaps: pl.DataFrame) -> str:
    """Count gaps kind by kind: ``2 halts (4 rows), 1 stretch missing in archive``."""
    counts = gaps.group_by("kind").agg(pl.len(), pl.col("missing").sum()).sort("kind")
    return ", ".join(
        _number_of(GapKind(kind), count)
        + (f" ({render.counted(missing, 'row')})" if missing else "")
        for kind, count, missing in counts.iter_rows()
    )


def _number_of(kind: GapKind, count: int) -> str:
    word = render.plain(kind)
    if kind in (GapKind.HALT, GapKind.HOLE, GapKind.SHORT_FILE, GapKind.EMPTY_FILE):
        return render.counted(count, word)
    return f"{render.counted(count, 'stretch')} {word}"


def name_of(row: Mapping[str, Any]) -> str:
    """Name the stream that a row of a frame is about, as people do."""
    return " ".join(filter(None, (row[key] for key in WHAT)))


def _amount(row: Mapping[str, Any]) -> str:
    if row["expected"] is not None:
        return f"{row['present']:,} of {row['expected']:,}"
    return f"{row['actual_days']:,} of {row['expected_days']:,} days"


def _spelled(row: Mapping[str, Any]) -> str:
    if row["expected"] is not None:
        return render.percent(row["present"], row["expected"])
    return render.percent(row["actual_days"], row["expected_days"])


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark }}
body {{ font: 14px/1.5 system-ui, sans-serif; max-width: 75rem }}
body {{ margin: 2rem auto; padding: 0 1rem }}
table {{ font-variant-numeric: tabular-nums }}
</style></head>
<body><h1>{title}</h1>{body}</body></html>
"""


# From lines to frames


def report_on(
    lines: Sequence[Timeline],
    findings: Iterable[Finding],
    unavailable: Iterable[Absence],
    problems: Mapping[str, FileError],
    title: str,
    nothing: str = "",
    skipped: Iterable[SkippedFile] = (),
) -> CoverageReport:
    """Put what was found into frames."""
    findings = list(findings)
    doubtful = {
        (each.market, each.data_type, each.symbol, each.interval)
        for each in findings
        if each.kind.is_doubt
    }
    whats = [line.what for line in lines]
    gaps = [
        (*what, gap.start, gap.end, gap.missing, gap.kind, said(gap.evidence))
        for what, line in zip(whats, lines, strict=True)
        for gap in line.gaps
    ]
    days = [_days_of(line) for line in lines]
    streams = [
        (*what, *_summed(line, its, what in doubtful))
        for what, line, its in zip(whats, lines, days, strict=True)
    ]
    told = [
        (e.market, e.data_type, e.symbol, e.interval, e.start, e.end, e.rows, e.kind, e.evidence,
         e.explained)
        for e in findings
    ]  # fmt: skip
    return CoverageReport(
        title,
        pl.DataFrame(streams, STREAMS_SCHEMA, orient="row"),
        _framed(gaps, GAPS_SCHEMA),
        _framed(told, FINDINGS_SCHEMA),
        _framed_days(lines, days),
        tuple(unavailable),
        dict(problems),
        nothing,
        tuple(skipped),
    )


def _framed(rows: Sequence[tuple[Any, ...]], schema: pl.Schema) -> pl.DataFrame:
    """Make a frame of rows whose times are microseconds since 1970."""
    raw = {name: pl.Int64() if dtype == MOMENT else dtype for name, dtype in schema.items()}
    frame = pl.DataFrame(rows, raw, orient="row")
    times = [name for name, dtype in schema.items() if dtype == MOMENT]
    return frame.with_columns(pl.col(times).cast(MOMENT))


class _Days(NamedTuple):
    """What is due and what is there of each day of a line."""

    expected: npt.NDArray[np.int64]
    present: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int8]  #: places in `_GAP_KINDS`, or `_NO_KIND`


_GAP_KINDS = list(GapKind)
_NO_KIND = -1


def _days_of(line: Timeline) -> _Days:
    """Count what is due and what is there of each day of a line."""
    present = line.present
    kinds = np.full(len(present), _NO_KIND, np.int8)
    # The one that takes most of a day comes last.
    for gap in sorted(line.gaps, key=lambda gap: (gap.kind.is_lack, gap.end - gap.start)):
        kind = _GAP_KINDS.index(gap.kind)
        if gap.kind.is_lack:
            kinds[line.places(gap.start // DAY, -(-gap.end // DAY))] = kind
        else:
            # A day that has rows is not one of which none are due.
            whole = line.places(-(-gap.start // DAY), gap.end // DAY)
            kinds[whole][present[whole] == 0] = kind
    return _Days(present + line.missing, present, kinds)


def _framed_days(lines: Sequence[Timeline], days: Sequence[_Days]) -> pl.DataFrame:
    """Make one frame of the days of all lines."""
    if not lines:
        return pl.DataFrame(schema=DAYS_SCHEMA)
    whose = np.repeat(np.arange(len(lines)), [len(each.present) for each in days])
    whats = pl.DataFrame([line.what for line in lines], pl.Schema(WHAT), orient="row")
    dates = np.concatenate([np.arange(line.first_day, line.end_day) for line in lines])
    expected, present, kinds = map(np.concatenate, zip(*days, strict=True))
    countless = np.array([line.cadence.kind == "irregular" for line in lines])[whose]
    words = pl.Series("kind", _GAP_KINDS, DAYS_SCHEMA["kind"])
    return whats[whose].with_columns(
        pl.Series("date", dates).cast(pl.Date),
        pl.Series("expected", expected).set(pl.Series(countless), None),
        pl.Series("present", present),
        words.gather(pl.Series(kinds).set(pl.Series(kinds == _NO_KIND), None)),
    )


def _summed(line: Timeline, days: _Days, doubtful: bool) -> tuple[Any, ...]:
    """Sum a line up, as `STREAMS_SCHEMA` has it."""
    present = int(days.present.sum())
    lacks = [gap for gap in line.gaps if gap.kind.is_lack]
    known = line.cadence.kind != "irregular" and all(gap.missing is not None for gap in lacks)
    missing = sum(gap.missing or 0 for gap in lacks) if known else None
    outside = [at for at, kind in enumerate(_GAP_KINDS) if not kind.is_lack]
    due = ~np.isin(days.kinds, outside)
    there = due & (days.present > 0)
    # A day that is there in part is not there, where rows cannot be counted.
    whole = there if known else there & (days.kinds == _NO_KIND)
    expected_days, actual_days = int(due.sum()), int(whole.sum())
    expected = None if missing is None else present + missing
    part, total = (actual_days, expected_days) if expected is None else (present, expected)
    coverage = part / total if total else None
    state = _state(coverage, present, bool(lacks), known, doubtful)
    return (
        from_day_number(line.first_day),
        from_day_number(line.end_day - 1),
        line.expected_files,
        line.actual_files,
        expected_days,
        actual_days,
        expected,
        present,
        missing,
        coverage,
        state,
    )


def _state(coverage: float | None, present: int, lacks: bool, known: bool, doubtful: bool) -> str:
    if coverage is None:
        return NOT_DUE
    if not present:
        return NOTHING
    if lacks:
        return INCOMPLETE
    if doubtful:
        return FLAWED
    return COMPLETE if known else EVERY_DAY
